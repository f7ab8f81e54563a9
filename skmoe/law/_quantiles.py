"""Quantiles of mixtures: a bracketed Newton search, and jumps where there are any.

The quantile of level q is the smallest y with ``F(y) >= q``, where F is the cdf
``sum_k g_k F_k`` of a row. It lies between the least and the greatest of the
experts' own quantiles. Every pair of a row and a level is one point; all points
of a block of rows are solved together, each until it has arrived.
"""

import numpy as np
from scipy import special

from skmoe._blocks import row_blocks
from skmoe.law._tabulated import NEGLIGIBLE, tabulate
from skmoe.likelihoods import LOG_2PI, PointMass
from skmoe.likelihoods._saddle import cornish_fisher, smallest_count

__all__ = ["Parts", "mixture_quantiles"]

# Points of rows and levels that are solved together: they fit into the cache.
BLOCK_POINTS = 16_384
# From so many points on tables of cdfs pay.
MANY_POINTS = 30_000
# Newton's steps in units of the scale: the error left is of the order of their
# square.
STEP_TOL = 1e-7
# Bisection alone needs 64 of them, and more towards zero.
MAX_STEPS = 200
LARGEST = 1e300


class Parts:
    """The experts of a mixture, to be evaluated at points of chosen rows.

    Parameters
    ----------
    gate : array of shape (n_samples, n_experts)
    parts : list of (params, dispersion, likelihood)
        Of single-output families.
    tables : list, default=None
        For each expert its cdf and density for many points, or None; see `tabulate`.

    Attributes
    ----------
    smooth, jumping : bool
        Whether there are densities, and whether there are probabilities.
    atoms : list of arrays of shape (n_samples,)
        The values of point masses.
    lattice : bool
        Whether there are counts.
    integers : bool
        Whether there is nothing but integers.
    """

    def __init__(self, gate, parts, tables=None):
        self.gate = gate
        self.parts = list(parts)
        self.tables = tables or [None] * len(self.parts)
        families = [family for _, _, family in self.parts]
        self.jumping = any(family.discrete for family in families)
        self.smooth = not all(family.discrete for family in families)
        self.atoms = [p for p, _, f in self.parts if isinstance(f, PointMass)]
        n_discrete = sum(family.discrete for family in families)
        self.lattice = n_discrete > len(self.atoms)
        self.integers = not self.smooth and all(
            np.array_equal(atom, np.floor(atom)) for atom in self.atoms
        )

    def __getitem__(self, rows):
        """Return the same mixture of some of the rows."""
        parts = [(params[rows], spread, like) for params, spread, like in self.parts]
        return Parts(self.gate[rows], parts, self.tables)

    def tabulated(self, levels):
        """Return the same mixture with tables, good for quantiles of some levels."""
        tables = [tabulate(family, spread, levels) for _, spread, family in self.parts]
        return Parts(self.gate, self.parts, tables)

    def of_kind(self, *, discrete):
        """Return the counts and point masses only, or the densities only."""
        which = [f.discrete == discrete for _, _, f in self.parts]
        kept = [part for part, wanted in zip(self.parts, which, strict=True) if wanted]
        return Parts(self.gate[:, which], kept)

    def cdf(self, y, row):
        """Return P(Y <= y) at points (row, y), of shape (n_points,)."""
        total = np.zeros(row.size)
        for k, (params, dispersion, family) in enumerate(self.parts):
            table = self.tables[k]
            if table is None:
                below = family.cdf(y, params[row], dispersion)
            else:
                below, _ = table(y, params[row])
            total += self.gate[row, k] * below
        return total

    def cdf_and_density(self, y, row):
        """Return P(Y <= y) and the density of the continuous parts at points."""
        total, slope = np.zeros(row.size), np.zeros(row.size)
        for k, (params, dispersion, family) in enumerate(self.parts):
            here, gate = params.take(row, axis=0), self.gate[:, k].take(row)
            table = self.tables[k]
            if table is not None:
                below, density = table(y, here)
                slope += gate * density
            else:
                below = family.cdf(y, here, dispersion)
                if not family.discrete:
                    slope += gate * np.exp(family.log_prob(y, here, dispersion))
            total += gate * below
        return total, slope

    def density(self, y, row):
        """Return the density of the continuous parts at points."""
        total = np.zeros(row.size)
        for k, (params, dispersion, family) in enumerate(self.parts):
            if not family.discrete:
                log_prob = family.log_prob(y, params[row], dispersion)
                total += self.gate[row, k] * np.exp(log_prob)
        return total

    def mass(self, y, row):
        """Return P(Y = y) at points; between two integers no count has any."""
        total, whole = np.zeros(row.size), y == np.floor(y)
        for k, (params, dispersion, family) in enumerate(self.parts):
            if family.discrete:
                share = np.exp(family.log_prob(y, params[row], dispersion))
                here = isinstance(family, PointMass) | whole
                total += np.where(here, self.gate[row, k] * share, 0.0)
        return total

    def extremes(self, levels):
        """Return the least and the greatest of the experts' quantiles, and a mean.

        Each of shape (n_levels, n_samples): what a family computes of a level
        alone it computes once.
        """
        level = levels[:, None]
        shape = (levels.size, self.gate.shape[0])
        low, high, mean = (
            np.full(shape, np.inf),
            np.full(shape, -np.inf),
            np.zeros(shape),
        )
        share = NEGLIGIBLE * np.minimum(level, 1.0 - level)
        for k, (params, dispersion, family) in enumerate(self.parts):
            gate = self.gate[:, k]
            own = family.quantile(level, params, dispersion)
            used = gate > share
            np.minimum(low, own, out=low, where=used)
            np.maximum(high, own, out=high, where=used)
            mean += gate * np.where(used, own, 0.0)
        return low, high, mean

    def spread(self):
        """Return the least scale among the densities of each row."""
        out = np.full(self.gate.shape[0], np.inf)
        for k, (params, dispersion, family) in enumerate(self.parts):
            if not family.discrete:
                low, high = (family.quantile(q, params, dispersion) for q in (0.4, 0.6))
                np.minimum(out, high - low, out=out, where=self.gate[:, k] > 0.0)
        return out


def mixture_quantiles(gate, parts, levels):
    """Return the quantiles of each row.

    Parameters
    ----------
    gate : array of shape (n_samples, n_experts)
    parts : list of (params, dispersion, likelihood)
        Of single-output families, a class is not one of them.
    levels : array of shape (n_levels,), in [0, 1]
        0 and 1 stand for the ends of the support.

    Returns
    -------
    quantile : array of shape (n_samples, n_levels)

    Notes
    -----
    Cdfs at many points are read off tables, see `tabulate`, whose error is of the
    size of the cdf's own rounding: a row's quantiles may differ by that from what
    they are alone.
    """
    whole = Parts(gate, parts)
    out = np.empty((gate.shape[0], levels.size))
    ends = (levels <= 0.0) | (levels >= 1.0)
    if ends.any():
        low, high, _ = whole.extremes(levels[ends])
        out[:, ends] = np.where(levels[ends, None] > 0.5, high, low).T
    inner = np.flatnonzero(~ends)
    inner = inner[np.argsort(levels[inner])]
    if inner.size:
        if gate.shape[0] * inner.size >= MANY_POINTS:
            whole = whole.tabulated(levels[inner])
        for rows in row_blocks(gate.shape[0], max(BLOCK_POINTS // inner.size, 1)):
            out[rows, inner] = _solve_block(whole[rows], levels[inner])
    return out


def _solve_block(part, levels):
    """Return the quantiles of some rows at levels inside (0, 1)."""
    n_rows = part.gate.shape[0]
    row = np.tile(np.arange(n_rows), levels.size)
    level = np.repeat(levels, n_rows)
    ends = part.extremes(levels) if part.smooth else []
    if not part.jumping:
        ends = _learn_from_others(part, levels, *ends)
    solve = _with_jumps if part.jumping else _newton
    found = solve(part, level, row, [table.ravel() for table in ends])
    return found.reshape(levels.size, n_rows).T


def _learn_from_others(part, levels, low, high, start):
    """Narrow the brackets of all levels of a row by the first values of the others.

    The starts become cubic interpolations of the quantile function on the probit
    scale, which is a line for a normal density. All arrays are of shape
    (n_levels, n_samples), levels in increasing order.
    """
    low, high = np.clip(low, -LARGEST, LARGEST), np.clip(high, -LARGEST, LARGEST)
    middle = 0.5 * low + 0.5 * high
    y = np.sort(np.where(np.isfinite(start), start, middle), axis=0)
    row, target = np.tile(np.arange(y.shape[1]), levels.size), special.ndtri(levels)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        cdf, density = part.cdf_and_density(y.ravel(), row)
        probit = special.ndtri(cdf)
        slope = np.exp(-0.5 * (probit * probit + LOG_2PI)) / density
        table = [y, probit.reshape(y.shape), slope.reshape(y.shape)]
        below = (table[1] < target[:, None, None]).sum(axis=1)
        left = np.maximum(below - 1, 0)
        right = np.minimum(below, levels.size - 1)
        before = [np.take_along_axis(values, left, axis=0) for values in table]
        behind = [np.take_along_axis(values, right, axis=0) for values in table]
        start = _hermite(target[:, None], before, behind)
    low = np.where(below > 0, np.maximum(low, before[0]), low)
    high = np.where(below < levels.size, np.minimum(high, behind[0]), high)
    inside = (start >= low) & (start <= high)
    return low, high, np.where(inside, start, 0.5 * low + 0.5 * high)


def _hermite(target, before, behind):
    """Interpolate between two points (value, place, slope); beyond, by a line."""
    (y0, z0, slope0), (y1, z1, slope1) = before, behind
    line = np.where(
        target > z0, y0 + (target - z0) * slope0, y1 + (target - z1) * slope1
    )
    gap = z1 - z0
    t = (target - z0) / gap
    rest = (1.0 - t) * gap * slope0 - t * gap * slope1 + (2.0 * t - 1.0) * (y1 - y0)
    return np.where(gap > 0.0, y0 + t * (y1 - y0) + t * (1.0 - t) * rest, line)


def _with_jumps(part, level, row, ends):
    """Solve first at the counts and the atoms, then between two of them."""
    low, high = np.full(row.size, -np.inf), np.full(row.size, np.inf)
    if part.lattice:
        high = _first_count(part, level, row)
        low = np.where(high > 0.0, high - 1.0, -np.inf)
    for value in part.atoms:
        atom = value[row]
        reached = part.cdf(atom, row) >= level
        high = np.where(reached, np.minimum(high, atom), high)
        low = np.where(reached, low, np.maximum(low, atom))
    if not part.smooth:
        return high
    # No jump lies between the ends now, but one may lie at the upper end.
    finite = np.where(np.isfinite(high), high, 0.0)
    short = part.cdf(finite, row) - part.mass(finite, row) < level
    inner = np.flatnonzero(~(short & np.isfinite(high)))
    first, last, start = (end[inner] for end in ends)
    first, last = np.maximum(first, low[inner]), np.minimum(last, high[inner])
    between = first, last, np.clip(start, first, last)
    high[inner] = _newton(part, level[inner], row[inner], between)
    return high


def _first_count(part, level, row):
    """Return the smallest integers >= 0 at which the cdf reaches the levels."""
    moments = np.zeros((2, row.size))
    for k, (params, dispersion, family) in enumerate(part.parts):
        mean = family.mean(params, dispersion)[row]
        spread = family.variance(params, dispersion)[row]
        gate = part.gate[row, k]
        used = gate > 0.0
        moments += np.where(used, gate * np.array([mean, spread + mean * mean]), 0.0)
    variance = np.maximum(moments[1] - moments[0] ** 2, 0.0)
    guess = cornish_fisher(level, moments[0], variance, 0.0)
    guess = np.where(np.isfinite(guess), guess, moments[0])

    def reaches(count, index):
        return part.cdf(count, row[index]) >= level[index]

    return smallest_count(reaches, guess)


def _newton(part, level, row, ends):
    """Solve ``F(y) = q`` between two ends, (low, high, start), without a jump.

    Newton's steps on the probit scale, ``probit(F(y)) - probit(q)``: one step is
    exact for a single normal density, and far in the tails it does not creep.
    The bracket shrinks with every value of F; a step that leaves it, or that is
    not half as long as the one before the last, is replaced by bisection.
    """
    # Tails so heavy that an expert's own quantile overflows still have a middle.
    low, high = (np.clip(end, -LARGEST, LARGEST) for end in ends[:2])
    y = np.where(np.isfinite(ends[2]), ends[2], 0.5 * low + 0.5 * high)
    target, spread = special.ndtri(level), part.spread()[row]
    active = np.flatnonzero(low < high)
    before, last = high - low, high - low
    for _ in range(MAX_STEPS):
        here, at = y[active], row[active]
        cdf, density = part.cdf_and_density(here, at)
        below = cdf < level[active]
        low[active] = np.where(below, here, low[active])
        high[active] = np.where(below, high[active], here)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            probit = special.ndtri(cdf)
            scale = np.exp(-0.5 * (probit * probit + LOG_2PI)) / density
            new = here - (probit - target[active]) * scale
        # The step's own scale is far too large a unit between two narrow peaks.
        close = np.abs(new - here) <= STEP_TOL * np.minimum(scale, spread[active])
        left, right = low[active], high[active]
        inside = (new >= left) & (new <= right)
        # Without this it goes to and fro between two peaks.
        inside &= np.abs(new - here) <= 0.5 * before[active]
        new = np.where(inside, new, 0.5 * left + 0.5 * right)
        y[active] = new
        before[active], last[active] = last[active], np.abs(new - here)
        arrived = (inside & close) | (np.nextafter(left, right) >= right)
        active = active[~arrived]
        if active.size == 0:
            break
    return y
