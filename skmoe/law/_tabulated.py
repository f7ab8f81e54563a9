"""Cdfs and densities of an expert at many points, at less cost than one by one.

The dispersion of an expert is one for all rows. So its cdf is a function of one
variable, the response in units of the row's location and scale. Of slow ones the rows
share a table: polynomials on small cells, which give the density as well. The normal
cdf is fast, but most points may lie so far from a narrow peak that it is 0 or 1.
"""

import numpy as np
from scipy import special

from skmoe.likelihoods import LOG_2PI, Gamma, Gaussian, StudentT
from skmoe.likelihoods._positive import gamma_shape
from skmoe.likelihoods._robust import scale_and_df

__all__ = ["OctaveTable", "tabulate"]

# A probability this much smaller than a level's cannot move its quantile.
NEGLIGIBLE = 1e-17
# Errors of a cdf relative to its value plus the least level: as small as this is
# small enough, and up to the other one it may be that of the cdf itself.
WANTED_ERROR, LARGEST_ERROR = 1e-14, 1e-13
# With twice as many cells the error should fall to a 64th. If it does not fall to
# this share it is noise of the cdf.
FALL = 0.25
# A table costs a dozen values of the function for each of its cells.
MOST_CELLS = 16_384
FEWEST_BITS, MOST_BITS = 5, 30
DEGREE = 5
# The layout of a double: 52 bits of its fraction, below those of its exponent.
FRACTION = 52
FRACTION_MASK = (1 << FRACTION) - 1
ONE = 1023 << FRACTION
LARGEST = 1e300


def tabulate(family, dispersion, levels):
    """Return cdf and density of an expert in a form for many points.

    Parameters
    ----------
    family : likelihood
    dispersion : the expert's dispersion
    levels : array of levels in (0, 1)
        Of the quantiles that it is for.

    Returns
    -------
    table : callable, or None
        ``table(y, params)`` returns cdf and density at points. The cdf is the
        family's own to some 1e-14 of its value plus the least level, and to 1e-13
        where that is noise of the cdf itself. What is too small to move a quantile
        of these levels is zero, in the density too. None for other families, and
        where no table of reasonable size is as exact.
    """
    kinds = {Gaussian: _Normal, StudentT: _StudentTable, Gamma: _GammaTable}
    kind = kinds.get(type(family))
    if kind is None:
        return None
    lowest = float(np.minimum(levels, 1.0 - levels).min())
    table = kind(family, dispersion, lowest)
    return table if table.usable else None


class _Normal:
    """The normal cdf, evaluated near the mean only if most points are far from it."""

    def __init__(self, family, dispersion, lowest):
        self.scale = float(np.sqrt(np.asarray(dispersion).reshape(())))
        self.reach = -special.ndtri(NEGLIGIBLE * lowest)
        self.usable = 1.0 / LARGEST < self.scale < LARGEST

    def __call__(self, y, params):
        with np.errstate(over="ignore"):
            error = (y - params) / self.scale
        near = np.flatnonzero(np.abs(error) < self.reach)
        if near.size > 0.5 * error.size:
            return self._at(error)
        cdf, density = (error > 0.0).astype(float), np.zeros(error.shape)
        cdf[near], density[near] = self._at(error[near])
        return cdf, density

    def _at(self, error):
        with np.errstate(over="ignore"):
            density = np.exp(-0.5 * (error * error + LOG_2PI)) / self.scale
        return special.ndtr(error), density


class _StudentTable:
    """Both tails of Student's t: one function of the distance from the location.

    One is added to the distance, so that the cells around the location are no
    smaller than they need to be.
    """

    def __init__(self, family, dispersion, lowest):
        self.scale, df = scale_and_df(dispersion)
        unit = np.array([1.0, df])

        def tail(one_and_distance):
            return family.cdf(1.0 - one_and_distance, 0.0, unit)

        far = np.abs(special.stdtrit(df, NEGLIGIBLE * lowest))
        self.octaves = OctaveTable.fit(tail, (1.0, 1.0 + far), (0.5, 0.0), lowest)
        self.usable = self.octaves is not None

    def __call__(self, y, params):
        with np.errstate(over="ignore"):
            error = (y - params) / self.scale
        tail, slope = self.octaves(1.0 + np.abs(error))
        return np.where(error < 0.0, tail, 1.0 - tail), slope / -self.scale


class _GammaTable:
    """The Gamma cdf: a function of the response over its mean."""

    def __init__(self, family, dispersion, lowest):
        shape, floor = gamma_shape(dispersion), NEGLIGIBLE * lowest

        def below(ratio):
            return family.cdf(ratio, 1.0, dispersion)

        low = special.gammaincinv(shape, floor) / shape
        high = special.gammainccinv(shape, floor) / shape
        self.octaves = OctaveTable.fit(below, (low, high), (0.0, 1.0), lowest)
        self.usable = self.octaves is not None

    def __call__(self, y, params):
        with np.errstate(over="ignore"):
            cdf, slope = self.octaves(np.maximum(y, 0.0) / params)
        return cdf, slope / params


class OctaveTable:
    """A function of positive numbers by polynomials, each for a cell of its own.

    All octaves, from a power of two to the next one, have the same number of
    cells: the leading bits of a number say which cell it is in, the others where
    in the cell.

    Parameters
    ----------
    function : callable
        Of an array.
    ends : (low, high)
        Where the function is tabulated, ``0 < low < high``.
    beyond : (below, above)
        What it is below and above.
    bits : int
        An octave has ``2**bits`` cells.
    """

    def __init__(self, function, ends, beyond, bits):
        self.bits = bits
        first, last = _cell(np.array(ends, dtype=float), bits)
        border = (np.arange(first, last + 2) << (FRACTION - bits)).view(float)
        self._first = first - 1
        self._center = 0.5 * (border[:-1] + border[1:])[:, None]
        self._width = np.diff(border)[:, None]
        # Chebyshev's nodes, where the polynomial equals the function.
        node = 0.5 * np.cos((np.arange(DEGREE + 1) + 0.5) * np.pi / (DEGREE + 1))
        values = function(self._center + self._width * node)
        inner = np.linalg.solve(np.vander(node, increasing=True), values.T)
        outer = np.zeros((DEGREE + 1, 2))
        outer[0] = beyond
        self.coef = np.hstack([outer[:, :1], inner, outer[:, 1:]])

    @classmethod
    def fit(cls, function, ends, beyond, lowest):
        """Return the smallest table that is exact enough, None if it is too large.

        The error is measured relative to the function plus ``lowest``.
        """
        if not 0.0 < ends[0] < ends[1] < LARGEST:
            return None
        error = np.inf
        for bits in range(FEWEST_BITS, MOST_BITS + 1):
            first, last = _cell(np.array(ends, dtype=float), bits)
            if last - first >= MOST_CELLS:
                return None
            table = cls(function, ends, beyond, bits)
            before, error = error, table.error(function, lowest)
            if error <= WANTED_ERROR or error > FALL * before:
                break
        return table if error <= LARGEST_ERROR else None

    def error(self, function, lowest):
        """Return the largest error midway between nodes, where it is largest."""
        place = 0.5 * np.cos(np.arange(1, DEGREE + 2) * np.pi / (DEGREE + 1))
        point = self._center + self._width * place
        exact = function(point)
        found, _ = self(point.ravel())
        return np.max(np.abs(found.reshape(exact.shape) - exact) / (exact + lowest))

    def __call__(self, x):
        """Return the function and its derivative at numbers >= 0."""
        # Also where x is single precision, or NaN, which has no cell.
        x = np.fmin(x, LARGEST, dtype=np.float64)
        cell = _cell(x, self.bits) - self._first
        np.clip(cell, 0, self.coef.shape[1] - 1, out=cell)
        bits = x.view(np.int64)
        # The rest of the fraction, as that of a number in [1, 2).
        place = (((bits << self.bits) & FRACTION_MASK) | ONE).view(float)
        place -= 1.5
        value, slope = self.coef[-1].take(cell), np.zeros(x.shape)
        for row in self.coef[-2::-1]:
            slope *= place
            slope += value
            value *= place
            value += row.take(cell)
        # One over the width of the cell: of the power of two, times their number.
        slope *= (2 * ONE - (bits & ~FRACTION_MASK)).view(float)
        slope *= 2.0**self.bits
        return value, slope


def _cell(x, bits):
    return x.view(np.int64) >> (FRACTION - bits)
