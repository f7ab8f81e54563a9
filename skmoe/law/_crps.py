"""The continuous ranked probability score of mixtures.

``CRPS = int (F(t) - 1{t >= y})**2 dt = E|Y - y| - E|Y - Y'| / 2``, with Y and Y'
drawn from the law (Gneiting and Raftery 2007, Strictly proper scoring rules,
prediction, and estimation, J. Am. Stat. Assoc. 102, equations 20 and 21). In
closed form for normal densities; an integral over panels for all others; and a
sum for counts.
"""

import numpy as np
from scipy import special

from skmoe._blocks import row_blocks
from skmoe.law._outline import center_and_scale, feature_points, support_ends
from skmoe.law._quantiles import Parts
from skmoe.likelihoods import Gaussian, RowGaussian

__all__ = ["mixture_crps"]

GAUSSIAN_ROWS = 4096
# Points of rows and experts that are worked on together.
BLOCK_POINTS = 65_536
# Nodes of a panel, and its least width beside the least scale of the experts.
N_NODES, PANEL = 6, 2.0
# How much wider than its neighbour a panel may be; how narrow one is worth it,
# beside the scale of the law; and how many make one.
GROWTH, LEAST_PANEL, MOST_PANELS = 3.0, 1e-9, 600.0
# Counts beyond this share of an expert are left out beside densities.
REST = 1e-12
TINY = float(np.finfo(float).tiny)


def mixture_crps(gate, parts, y):
    """Return the continuous ranked probability score of each row.

    Parameters
    ----------
    gate : array of shape (n_samples, n_experts)
    parts : list of (params, dispersion, likelihood)
        Of single-output families.
    y : array of shape (n_samples,)

    Returns
    -------
    crps : array of shape (n_samples,)
        In the unit of y, lower is better.
    """
    whole, y = Parts(gate, parts), np.asarray(y, dtype=float)
    out = np.empty(y.size)
    if all(isinstance(f, Gaussian | RowGaussian) for _, _, f in whole.parts):
        for rows in row_blocks(y.size, GAUSSIAN_ROWS):
            out[rows] = _gaussian(whole[rows], y[rows])
        return out
    integrate = _sum if whole.integers else _integral
    for rows in row_blocks(y.size, max(BLOCK_POINTS // (8 * len(whole.parts)), 1)):
        out[rows] = integrate(whole[rows], y[rows])
    return out


def _gaussian(part, y):
    """Return the score in closed form.

    ``sum_k g_k A(y - m_k, v_k) - sum_kl g_k g_l A(m_k - m_l, v_k + v_l) / 2`` with
    ``A(m, v) = E|Z|`` of a normal variable (Grimit, Gneiting, Berrocal and Johnson
    2006, The continuous ranked probability score for circular variables and its
    application to mesoscale forecast ensemble verification, Q. J. R. Meteorol.
    Soc. 132, equation 5).
    """
    gate = part.gate.T
    mean = [family.mean(params, spread) for params, spread, family in part.parts]
    variance = [
        family.variance(params, spread) for params, spread, family in part.parts
    ]
    out = np.zeros(y.size)
    for k in range(len(mean)):
        out += gate[k] * _distance(y - mean[k], variance[k])
        between = gate[k] * _distance(0.0, 2.0 * variance[k])
        for j in range(k):
            pair = _distance(mean[k] - mean[j], variance[k] + variance[j])
            between += 2.0 * gate[j] * pair
        out -= 0.5 * gate[k] * between
    return out


def _distance(mean, variance):
    """Return E|Z| of normal variables Z."""
    scale = np.sqrt(np.maximum(variance, TINY))
    with np.errstate(over="ignore"):
        z = mean / scale
        density = np.exp(-0.5 * z * z)
    return mean * special.erf(z * np.sqrt(0.5)) + np.sqrt(2.0 / np.pi) * scale * density


def _integral(part, y):
    """Return the score by quadrature between all points where the cdf may bend."""
    ends = support_ends(part)
    # Only at an end can there be a pole, which wants panels finer than the experts.
    finest = (
        LEAST_PANEL * center_and_scale(part)[1] if ends.size else PANEL * part.spread()
    )
    panel, low, width = _graded(*_panels(_knots(part, ends, y)), finest)
    node, weight = np.polynomial.legendre.leggauss(N_NODES)
    node, weight = 0.5 + 0.5 * node, 0.5 * weight
    at = (low[:, None] + width[:, None] * node).ravel()
    row = np.repeat(panel, N_NODES)
    gap = part.cdf(at, row) - (at >= y[row])
    terms = (gap * gap).reshape(-1, N_NODES) @ weight
    return np.bincount(panel, width * terms, minlength=y.size)


def _knots(part, ends, y):
    """Return the ends of panels, in increasing order, then infinity."""
    knots = [feature_points(part, PANEL), ends, y[:, None]]
    if part.lattice:
        knots.append(_integers(part))
    return np.sort(np.hstack(knots), axis=1)


def _integers(part):
    """Return the integers from 0 to where counts have next to no probability."""
    last = np.zeros(part.gate.shape[0])
    for k, (params, dispersion, family) in enumerate(part.parts):
        if family.discrete:
            own = family.quantile(1.0 - REST, params, dispersion)
            last = np.where(part.gate[:, k] > 0.0, np.maximum(last, own), last)
    count = np.arange(int(last.max()) + 2.0)
    return np.where(count <= last[:, None] + 1.0, count, np.inf)


def _panels(knots):
    """Return row, start and width of the panels between knots."""
    with np.errstate(invalid="ignore"):
        width = np.diff(knots, axis=1)
    row, left = np.nonzero(np.isfinite(width) & (width > 0.0))
    return row, knots[row, left], width[row, left]


def _graded(row, low, width, finest):
    """Split panels that are much wider than a neighbour, finest next to it.

    Towards a pole, and in a heavy tail, the cdf is smooth on the scale of the
    distance to it only. Panels narrower than ``finest`` of their row stay.
    """
    beside = np.full((2, row.size), np.inf)
    same = row[1:] == row[:-1]
    beside[0, 1:][same], beside[1, :-1][same] = width[:-1][same], width[1:][same]
    finest = np.maximum(beside.min(axis=0), finest[row])
    with np.errstate(divide="ignore"):
        n_new = np.ceil(np.log(width / finest) / np.log(GROWTH))
    n_new = n_new.clip(1.0, MOST_PANELS).astype(int)
    from_left = np.repeat(beside[0] <= beside[1], n_new)
    place = np.arange(n_new.sum()) - np.repeat(np.cumsum(n_new) - n_new, n_new)
    row, low, width, n_new = (np.repeat(v, n_new) for v in (row, low, width, n_new))
    place = np.where(from_left, place, n_new - 1 - place)
    total = GROWTH**n_new - 1.0
    start, end = ((GROWTH ** (place + j) - 1.0) / total for j in (0, 1))
    start = np.where(from_left, start, 1.0 - end)
    return row, low + width * start, width * GROWTH**place * (GROWTH - 1.0) / total


def _sum(part, y):
    """Return the score of counts: a sum over integers, from knot to knot.

    Long panels are summed by five of their integers, with weights that are exact
    for polynomials of degree four.
    """
    whole = np.floor(y)[:, None]
    points = np.hstack([feature_points(part, 0.0), support_ends(part)])
    panel, low, width = _panels(
        np.sort(np.hstack([np.floor(points), whole, whole + 1.0]), axis=1)
    )
    node, weight = _discrete_rule(width)
    at = (low[:, None] + node).ravel()
    row = np.repeat(panel, node.shape[1])
    below = part.cdf(at, row)
    gap = below - (at >= whole[row, 0])
    terms = ((gap * gap).reshape(node.shape) * weight).sum(axis=1)
    out = np.bincount(panel, terms, minlength=y.size)
    # Between floor(y) and a y that is no count the response is yet to come.
    before = part.cdf(whole[:, 0], np.arange(y.size))
    return out + (y - whole[:, 0]) * (2.0 * before - 1.0)


def _discrete_rule(size):
    """Return nodes among 0, ..., size - 1 and weights that replace their sum."""
    node = np.tile(np.arange(5.0), (size.size, 1))
    weight = (node < size[:, None]).astype(float)
    long = size > 5.0
    n = size[long, None]
    node[long] = np.round((n - 1.0) * np.array([0.0, 0.15, 0.5, 0.85, 1.0]))
    moments = np.zeros((n.size, 5, 1))
    moments[:, 0] = n
    moments[:, 2] = n * (n + 1.0) / (3.0 * (n - 1.0))
    moments[:, 4] = n * (n + 1.0) * (3.0 * n * n - 7.0) / (15.0 * (n - 1.0) ** 3)
    x = 2.0 * node[long] / (n - 1.0) - 1.0
    powers = x[:, None, :] ** np.arange(5.0)[:, None]
    weight[long] = np.linalg.solve(powers, moments)[:, :, 0]
    return node, weight
