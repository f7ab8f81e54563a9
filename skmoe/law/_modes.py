"""Modes of mixtures: fixed-point steps for normal densities, a search for others."""

import numpy as np

from skmoe._xp import is_foreign, namespace
from skmoe.likelihoods import PointMass

__all__ = ["gaussian_modes", "log_sum", "searched_modes"]

# Fixed-point steps towards a mode; rows leave as they arrive.
MODE_STEPS = 1000
MODE_TOL = 1e-10
# A search stops when its steps are this small beside an expert's own spread: the
# parabola through the last three points is good to the square of that.
SEARCH_TOL = 1e-6
SEARCH_STEPS = 400
# Off the end of a support, beside an expert's spread: where a density has a pole.
OFF_THE_POLE = 1e-100


def gaussian_modes(log_gate, means, dispersions):
    """Climb from every expert's mean by fixed-point steps; keep the highest.

    At a mode of a Gaussian mixture y is the mean of the experts' means,
    weighted by responsibility times precision (Carreira-Perpinan 2000).

    Parameters
    ----------
    log_gate : array of shape (n_samples, n_experts)
    means : array of shape (n_samples, n_experts, n_outputs)
    dispersions : list
        Each expert's variance or covariance.

    Returns
    -------
    mode : array of shape (n_samples, n_outputs)
    """
    precision, half_log_det = _precisions(dispersions, means.shape[2])
    log_scale = log_gate + half_log_det
    best = np.array(means[:, 0])
    height = np.full(log_gate.shape[0], -np.inf)
    for k in np.flatnonzero((log_gate > -np.inf).any(axis=0)):
        point = _climb(np.array(means[:, k]), means, precision, log_scale)
        reached = log_sum(_joint_at(point, means, precision, log_scale))
        higher = reached > height
        best[higher], height[higher] = point[higher], reached[higher]
    return best


def _climb(point, means, precision, log_scale):
    """Return the modes that the fixed-point steps from some points lead to."""
    # One unit for all rows of an output: a step is small against its spread.
    spread = np.sqrt(np.diagonal(np.linalg.inv(precision), axis1=1, axis2=2)).min(0)
    rows = np.arange(point.shape[0])
    for _ in range(MODE_STEPS):
        joint = _joint_at(point[rows], means[rows], precision, log_scale[rows])
        resp = np.exp(joint - joint.max(axis=1, keepdims=True))
        total = np.einsum("nk,kij->nij", resp, precision)
        pull = np.einsum("nk,kij,nkj->ni", resp, precision, means[rows])
        new = np.linalg.solve(total, pull[:, :, None])[:, :, 0]
        moved = np.abs(new - point[rows])
        point[rows] = new
        rows = rows[(moved > MODE_TOL * (spread + np.abs(new))).any(axis=1)]
        if rows.size == 0:
            break
    return point


def _joint_at(point, means, precision, log_scale):
    """Return gate plus expert log densities of each row, up to a constant."""
    error = point[:, None] - means
    return log_scale - 0.5 * np.einsum("nki,kij,nkj->nk", error, precision, error)


def _precisions(dispersions, n_outputs):
    """Return inverse covariances and halves of their log determinants."""
    matrices = []
    for dispersion in dispersions:
        variance = np.asarray(dispersion, dtype=float)
        if variance.ndim < 2:
            variance = np.diag(np.broadcast_to(variance, (n_outputs,)))
        matrices.append(np.linalg.inv(variance))
    precision = np.stack(matrices)
    return precision, 0.5 * np.linalg.slogdet(precision)[1]


def log_sum(joint):
    """Return the log of the sum of exponentials of each row; -inf where all are."""
    if is_foreign(joint):
        xp = namespace(joint)
        peak = xp.max(joint, axis=1)
        peak = xp.where(peak > -np.inf, peak, xp.zeros_like(peak))
        return peak + xp.log(xp.sum(xp.exp(joint - peak[:, None]), axis=1))
    peak = joint.max(axis=1)
    peak = np.where(peak > -np.inf, peak, 0.0)
    with np.errstate(divide="ignore"):
        return peak + np.log(np.exp(joint - peak[:, None]).sum(axis=1))


def searched_modes(log_gate, parts):
    """Search from the experts' modes for higher points; keep the highest.

    A density and a probability cannot be compared. Where both kinds have a
    part in a row, the mode is that of the kind that holds at least half of the
    probability, the counts and point masses in a tie.

    Parameters
    ----------
    log_gate : array of shape (n_samples, n_experts)
    parts : list of (params, dispersion, likelihood)
        Of single-output families.

    Returns
    -------
    mode : array of shape (n_samples,)
    """
    parts = list(parts)
    discrete = np.array([family.discrete for _, _, family in parts])
    counted = np.exp(log_gate[:, discrete]).sum(axis=1) >= 0.5
    log_gate = np.where(counted[:, None] == discrete, log_gate, -np.inf)
    best, height = np.zeros(log_gate.shape[0]), np.full(log_gate.shape[0], -np.inf)
    for k, (params, dispersion, family) in enumerate(parts):
        for start, step in _starts(params, dispersion, family):
            rows = np.flatnonzero(np.isfinite(start) & (log_gate[:, k] > -np.inf))
            if rows.size:
                some = [(p[rows], spread, other) for p, spread, other in parts]
                pooled = _Height(log_gate[rows], some)
                point, reached = _search(pooled, start[rows], step[rows], family)
                higher = reached > height[rows]
                best[rows[higher]] = point[higher]
                height[rows[higher]] = reached[higher]
    return best


class _Height:
    """The log of the pooled density or probability of some rows."""

    def __init__(self, log_gate, parts):
        self.log_gate, self.parts = log_gate, parts

    def __call__(self, y, rows):
        """Return the height of some rows at one point each."""
        joint = np.full((rows.size, len(self.parts)), -np.inf)
        whole = y == np.floor(y)
        for k, (params, dispersion, family) in enumerate(self.parts):
            log_gate = self.log_gate[rows, k]
            if (log_gate > -np.inf).any():
                joint[:, k] = log_gate + family.log_prob(y, params[rows], dispersion)
                if family.discrete and not isinstance(family, PointMass):
                    joint[~whole, k] = -np.inf
        return log_sum(joint)


def _starts(params, dispersion, family):
    """Yield points to search from, NaN or infinite for none, and first steps.

    They are an expert's modes, and the ends of its support: there a density
    jumps, and the peak of another expert outside may be highest at that edge.
    """
    start = np.array(family.mode(params, dispersion), dtype=float)
    low, high = (family.quantile(q, params, dispersion) for q in (0.25, 0.75))
    if family.discrete:
        yield start, np.maximum(np.floor(0.5 * (high - low)), 1.0)
        return
    step = 0.5 * (high - low)
    off = ~family.support(start, params, dispersion)
    start[off] += OFF_THE_POLE * step[off]
    yield start, step
    for q in (0.0, 1.0):
        end = family.quantile(q, params, dispersion)
        inside = family.support(end, params, dispersion)
        if inside.any():
            yield np.where(inside, end, np.nan), step


def _search(height, start, step, family):
    """Climb by steps to both sides; at a peak, by a parabola and smaller steps.

    On the integers a step is at least 1, and a point from which neither
    neighbour is higher is where it ends.
    """
    point, least = start, (1.0 if family.discrete else SEARCH_TOL * step)
    least = np.broadcast_to(least, step.shape)
    reached = height(point, np.arange(point.size))
    rows = np.arange(point.size)
    for _ in range(SEARCH_STEPS):
        here, size, top = point[rows], step[rows], reached[rows]
        left, right = height(here - size, rows), height(here + size, rows)
        peak = top >= np.maximum(left, right)
        vertex = _vertex(top, left, right) * size
        vertex = np.round(vertex) if family.discrete else vertex
        move = np.where(peak, vertex, np.where(right > left, size, -size))
        new = here + move
        tried = np.where(right > left, right, left)
        tried[peak] = height(new[peak], rows[peak])
        better = tried > top
        point[rows[better]], reached[rows[better]] = new[better], tried[better]
        arrived = peak & (size <= least[rows])
        smaller = np.floor(0.25 * size) if family.discrete else 0.1 * size
        step[rows] = np.where(peak, np.maximum(smaller, least[rows]), 2.0 * size)
        rows = rows[~arrived]
        if rows.size == 0:
            break
    return point, reached


def _vertex(top, left, right):
    """Return where the parabola through three heights peaks, in steps."""
    with np.errstate(invalid="ignore", divide="ignore"):
        vertex = 0.5 * (left - right) / (left - 2.0 * top + right)
    return np.where(np.abs(vertex) <= 0.5, vertex, 0.0)
