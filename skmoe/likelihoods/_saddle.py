"""Numerics of counts: log densities without cancellation, quantiles by search.

Log densities are written as a deviance plus a saddle-point term, so that no
two large numbers are subtracted (Loader 2000, Fast and accurate computation of
binomial probabilities). Those of rows take arrays of any library.
"""

import numpy as np
from scipy import special

from skmoe._special_xp import gammaln, kl_div, xlogy
from skmoe._xp import is_foreign, namespace
from skmoe.likelihoods._normal import LOG_2PI

__all__ = ["cornish_fisher", "excess", "half_deviance", "smallest_count"]

# Beyond it Stirling's series has converged to double precision.
SERIES_FROM = 16.0
# Beyond it the integers next to a number are too near to be told apart.
LARGEST_COUNT = 1e15


def excess(count):
    """Return ``log(count!) - count log(count) + count``, for counts >= 0.

    It is ``log(2 pi count) / 2`` plus the remainder of Stirling's series.
    """
    count = count if is_foreign(count) else np.asarray(count, dtype=float)
    xp = namespace(count)
    far = xp.clip(count, SERIES_FROM, None)
    inverse = 1.0 / far
    square = inverse * inverse
    rest = 1.0 / 1680.0 - square / 1188.0
    rest = 1.0 / 360.0 - square * (1.0 / 1260.0 - square * rest)
    series = 0.5 * (LOG_2PI + xp.log(far)) + (1.0 / 12.0 - square * rest) * inverse
    near = xp.clip(count, None, SERIES_FROM)
    direct = gammaln(near + 1.0) - xlogy(near, near) + near
    return xp.where(count > SERIES_FROM, series, direct)


def half_deviance(count, mean, difference=None):
    """Return ``count log(count / mean) - count + mean``, also where both are close.

    Parameters
    ----------
    count : array or float, numbers >= 0
    mean : array of numbers >= 0
    difference : array, default=None
        ``count - mean`` where the caller knows it better than by subtraction.
    """
    xp = namespace(mean)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        difference = count - mean if difference is None else difference
        # Where it is NaN both are 0 or one is inf: for kl_div, not for the series.
        ratio = difference / (count + mean)
        close = xp.abs(ratio) < 0.1
        small = xp.where(close, ratio, 0.0)
        square = small * small
        series = 0.0
        for power in range(17, 1, -2):
            series = 1.0 / power + square * series
        near = difference * small + 2.0 * count * small * square * series
        far = xp.where(xp.isinf(mean), np.inf, kl_div(count, mean))
        return xp.where(close, near, far)


def cornish_fisher(q, mean, variance, skewness):
    """Return a guess of the quantile of a law from its first three moments."""
    z = np.clip(special.ndtri(q), -40.0, 40.0)
    spread = np.sqrt(variance)
    with np.errstate(invalid="ignore", over="ignore"):
        guess = mean + spread * (z + skewness * (z * z - 1.0) / 6.0)
    return np.where(np.isnan(guess), mean, guess)


def smallest_count(reaches, guess):
    """Return the smallest integers >= 0 from which on a condition holds.

    Doubling steps away from a guess until the answer is enclosed, then
    bisection; numbers whose answer is known are not asked about again. A guess
    beyond 1e15 is returned as it is.

    Parameters
    ----------
    reaches : callable
        ``reaches(count, index)`` says whether the condition holds for the
        numbers ``index``, given a count for each; it must hold eventually.
    guess : float array of shape (n,)

    Returns
    -------
    count : float array of shape (n,)
    """
    high = np.maximum(np.round(guess), 0.0)
    low = np.full_like(high, -1.0)
    active = np.flatnonzero(high < LARGEST_COUNT)
    holds = np.zeros(high.shape, dtype=bool)
    holds[active] = reaches(high[active], active)
    _step_up(reaches, low, high, active[~holds[active]])
    _step_down(reaches, low, high, active[holds[active]])
    active = active[high[active] - low[active] > 1.0]
    while active.size:
        middle = np.floor(0.5 * (low[active] + high[active]))
        holds = reaches(middle, active)
        high[active[holds]] = middle[holds]
        low[active[~holds]] = middle[~holds]
        active = active[high[active] - low[active] > 1.0]
    return high


def _step_up(reaches, low, high, active):
    """Raise both ends until the condition holds at the upper one."""
    step = 1.0
    while active.size:
        low[active] = high[active]
        high[active] += step
        active = active[~reaches(high[active], active)]
        active = active[high[active] < LARGEST_COUNT]
        step *= 2.0


def _step_down(reaches, low, high, active):
    """Lower both ends until the condition fails at the lower one, or it is -1."""
    step = 1.0
    while active.size:
        low[active] = np.maximum(high[active] - step, -1.0)
        active = active[low[active] >= 0.0]
        active = active[reaches(low[active], active)]
        high[active] = low[active]
        step *= 2.0
