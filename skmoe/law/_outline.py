"""Where a pooled law may have its features: at its experts' quantiles and ends."""

import numpy as np
from scipy import special

__all__ = ["center_and_scale", "expert_points", "feature_points", "support_ends"]

# Probit of the outermost points: beyond them lies less than 1e-15.
LAST_PROBIT = 8.1
# Points to each side of an expert's median: fewer where there are many experts.
MOST_POINTS, FEWEST_POINTS, POINTS_OF_ALL = 14, 4, 150
# An expert of less probability than this has no points of its own.
NEGLIGIBLE = 1e-13


def center_and_scale(part):
    """Return the pooled medians and interquartile ranges of the experts.

    Parameters
    ----------
    part : skmoe.law._quantiles.Parts

    Returns
    -------
    center, scale : arrays of shape (n_samples,)
        In the unit of y; the scale is positive.
    """
    sums = np.zeros((3, part.gate.shape[0]))
    for gate, params, dispersion, family in _used(part):
        low, middle, high = (
            family.quantile(q, params, dispersion) for q in (0.25, 0.5, 0.75)
        )
        terms = np.stack([middle, high - low, np.ones(gate.size)])
        known = (gate > 0.0) & np.isfinite(terms).all(axis=0)
        sums += gate * np.where(known, terms, 0.0)
    center, scale, total = sums
    total = np.where(total > 0.0, total, 1.0)
    return center / total, np.where(scale > 0.0, scale / total, 1.0)


def expert_points(part):
    """Return quantiles of each expert, denser near its median, where peaks are.

    Parameters
    ----------
    part : skmoe.law._quantiles.Parts

    Returns
    -------
    points : list of arrays of shape (n_samples, n_points)
        One for each expert; infinite where the expert is of no account.
    """
    n_sides = POINTS_OF_ALL // len(part.parts)
    n_sides = min(max(n_sides, FEWEST_POINTS), MOST_POINTS)
    probit = LAST_PROBIT * (np.arange(n_sides + 1) / n_sides) ** 1.3
    levels = special.ndtr(np.concatenate([-probit[:0:-1], probit]))[:, None]
    tables = []
    for gate, params, dispersion, family in _used(part):
        own = family.quantile(levels, params, dispersion)
        tables.append(np.where((gate > 0.0) & np.isfinite(own), own, np.inf).T)
    return tables


def feature_points(part, unit):
    """Return quantiles of all experts, thinned where experts overlap.

    Parameters
    ----------
    part : skmoe.law._quantiles.Parts
    unit : float
        Of the medians all are kept, of the others one in each unit, beside the
        least scale of a row's densities; 0 keeps all.

    Returns
    -------
    points : array of shape (n_samples, n_points)
        In increasing order, then infinity.
    """
    tables = expert_points(part)
    middle = tables[0].shape[1] // 2
    medians = np.column_stack([table[:, middle] for table in tables])
    points = np.sort(np.hstack(tables), axis=1)
    if unit > 0.0:
        cell = unit * part.spread()[:, None]
        with np.errstate(invalid="ignore", over="ignore"):
            cell = np.floor((points - points[:, :1]) / cell)
            points[:, 1:][np.diff(cell, axis=1) == 0.0] = np.inf
    points = np.sort(np.hstack([points, medians]), axis=1)
    return points[:, : int(np.isfinite(points).sum(axis=1).max(initial=0))]


def support_ends(part):
    """Return the finite ends of the experts' supports.

    Parameters
    ----------
    part : skmoe.law._quantiles.Parts

    Returns
    -------
    ends : array of shape (n_samples, n_ends)
        Each one once, in increasing order, then infinity.
    """
    ends = [np.full(part.gate.shape[0], np.inf)]
    for gate, params, dispersion, family in _used(part):
        for q in (0.0, 1.0):
            end = family.quantile(q, params, dispersion)
            ends.append(np.where((gate > 0.0) & np.isfinite(end), end, np.inf))
    ends = np.sort(np.column_stack(ends), axis=1)
    with np.errstate(invalid="ignore"):
        ends[:, 1:][np.diff(ends, axis=1) == 0.0] = np.inf
    n_ends = int(np.isfinite(ends).sum(axis=1).max(initial=0))
    return np.sort(ends, axis=1)[:, :n_ends]


def _used(part):
    """Yield gate, params, dispersion and family; gate 0 for what is of no account."""
    for k, one in enumerate(part.parts):
        gate = part.gate[:, k]
        yield np.where(gate > NEGLIGIBLE, gate, 0.0), *one
