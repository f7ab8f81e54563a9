"""Highest-density regions: the smallest sets that hold a share of each row's law.

They are made of the points whose density is at least that of any point outside.
Counts and point masses have probabilities instead, and beside a density a
probability is infinitely dense: of a mixed law its atoms come first, from the
most probable one down, and the density takes what is left of the level.
"""

import numpy as np

from skmoe._blocks import row_blocks
from skmoe.law._heights import Counts, Densities
from skmoe.law._intervals import IntervalUnion
from skmoe.law._quantiles import Parts

__all__ = ["class_levels", "density_levels", "highest_density"]

# Rows that are worked on together: about 200 points each.
BLOCK_ROWS = 1024
# Where all counts of a mixed law belong to the region, those beyond the last share
# of this are left out: there is no end of them.
REST = 1e-9


def highest_density(gate, parts, level):
    """Return the highest-density region of each row.

    Parameters
    ----------
    gate : array of shape (n_samples, n_experts)
    parts : list of (params, dispersion, likelihood)
        Of single-output families.
    level : float in (0, 1), or array of shape (n_samples,)

    Returns
    -------
    region : IntervalUnion
        Of probability ``level``; of counts and point masses the smallest set that
        reaches it.
    """
    level = np.broadcast_to(level, len(gate))
    pieces = [
        (rows.start + row, lower, upper)
        for rows, part in _blocks(gate, parts)
        for row, lower, upper in _pieces(part, level[rows])
    ]
    row, lower, upper = (np.concatenate(column) for column in zip(*pieces, strict=True))
    integers = Parts(gate, parts).integers
    return IntervalUnion.from_pieces(row, lower, upper, len(gate), integers=integers)


def density_levels(gate, parts, y):
    """Return the probability of what is denser than the response of each row.

    Parameters
    ----------
    gate : array of shape (n_samples, n_experts)
    parts : list of (params, dispersion, likelihood)
        Of single-output families.
    y : array of shape (n_samples,)

    Returns
    -------
    level : array of shape (n_samples,)
    """
    out = np.zeros(len(gate))
    for rows, part in _blocks(gate, parts):
        out[rows] = _levels(part, np.asarray(y, dtype=float)[rows])
    return np.clip(out, 0.0, 1.0)


def class_levels(proba):
    """Return the probability of the classes that are more probable than each class.

    Parameters
    ----------
    proba : array of shape (n_samples, n_classes)

    Returns
    -------
    level : array of shape (n_samples, n_classes)
        Of two classes alike the lower code comes first.
    """
    order = np.argsort(-proba, axis=1, kind="stable")
    ranked = np.take_along_axis(proba, order, axis=1)
    out = np.empty_like(proba)
    np.put_along_axis(out, order, ranked.cumsum(axis=1) - ranked, axis=1)
    return out


def _blocks(gate, parts):
    whole = Parts(gate, parts)
    for rows in row_blocks(len(gate), BLOCK_ROWS):
        yield rows, whole[rows]


def _pieces(part, level):
    """Yield row, lower and upper ends of the pieces of a block's regions."""
    rows = np.arange(part.gate.shape[0])
    left = np.array(level, dtype=float)
    if part.jumping:
        atoms, share = part.of_kind(discrete=True), _share(part)
        some = rows[share > 0.0]
        land = Counts(atoms)
        wanted = np.minimum(level[some], share[some] * (1.0 - REST))
        row, lower, upper = land.cut(land.height_of(wanted, some), some)
        row = some[row]
        left -= np.bincount(row, land.mass(lower, upper, row), minlength=rows.size)
        if part.integers:
            yield row, lower, upper
        else:
            yield from _singles(land.part, row, lower, upper)
    if part.smooth:
        some = rows[left > REST] if part.jumping else rows
        land = Densities(part.of_kind(discrete=False) if part.jumping else part)
        row, lower, upper = land.cut(land.height_of(left[some], some), some)
        yield some[row], lower, upper


def _singles(atoms, row, lower, upper):
    """Yield each point of intervals that has a probability as a piece of its own."""
    if atoms.lattice:
        first, last = np.ceil(lower), np.floor(upper)
        n_points = (last - first + 1.0).astype(int)
        start = first - np.cumsum(n_points) + n_points
        point = np.repeat(start, n_points) + np.arange(n_points.sum())
        yield np.repeat(row, n_points), point, point
    for value in atoms.atoms:
        point = value[row]
        inside = (lower <= point) & (point <= upper)
        inside &= atoms.mass(point, row) > 0.0
        yield row[inside], point[inside], point[inside]


def _share(part):
    """Return the probability of all counts and point masses of each row."""
    discrete = [family.discrete for _, _, family in part.parts]
    return part.gate[:, discrete].sum(axis=1)


def _levels(part, y):
    rows = np.arange(y.size)
    out = np.zeros(y.size)
    if part.jumping:
        land = Counts(part.of_kind(discrete=True))
        own = land.part.mass(y, rows)
        out += land.mass_above(land.heights(y, rows), rows) - own
        # What has a probability is denser than all densities.
        rows = rows[own == 0.0]
    if part.smooth:
        land = Densities(part.of_kind(discrete=False) if part.jumping else part)
        out[rows] += land.mass_above(land.heights(y[rows], rows), rows)
    return out
