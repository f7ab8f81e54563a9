"""Counts: Poisson, negative binomial and binomial."""

from dataclasses import dataclass

import numpy as np
from scipy import special

from skmoe._xp import floats, namespace
from skmoe.likelihoods._saddle import (
    cornish_fisher,
    excess,
    half_deviance,
    smallest_count,
)

__all__ = ["Binomial", "NegativeBinomial", "Poisson"]

# A size beyond it is Poisson to double precision; its products stay finite.
LARGEST_SIZE = 1e290
# Above this size the complement of the incomplete beta function is the accurate
# one; below it the function itself is, and it is five times faster.
LARGE_SIZE = 1e4
# numpy's Poisson generator takes no larger mean.
LARGEST_DRAWN_MEAN = 1e18


@dataclass(frozen=True)
class Poisson:
    """Poisson probabilities of counts.

    ``params`` is the mean, of shape (n_samples,), at least 0. There is no
    dispersion. For y that is no integer, ``y!`` means ``gamma(y + 1)``, as in
    scikit-learn's deviance.
    """

    discrete = True

    def log_prob(self, y, params, dispersion=None):
        """Return the log probability of each row in nats; -inf where y < 0."""
        xp, inside = namespace(params), self.support(y, params)
        count = floats(xp.where(inside, y, 0.0))
        log_prob = -half_deviance(count, params) - excess(count)
        return xp.where(inside, log_prob, -np.inf)

    def mean(self, params, dispersion=None):
        """Return the expected count."""
        return params

    def mode(self, params, dispersion=None):
        """Return the most probable count, the larger one of two."""
        return namespace(params).floor(params)

    def variance(self, params, dispersion=None):
        """Return the variance, which is the mean."""
        return params

    def cdf(self, y, params, dispersion=None):
        """Return P(Y <= y), of shape (n_samples,)."""
        below = special.gammaincc(np.maximum(np.floor(y), 0.0) + 1.0, params)
        return np.where(np.less(y, 0.0), 0.0, below)

    def quantile(self, q, params, dispersion=None):
        """Return the smallest count whose cdf is at least q."""
        with np.errstate(divide="ignore"):
            skewness = np.where(params > 0.0, 1.0 / np.sqrt(params), 0.0)
        return _quantile(self, q, params, None, skewness)

    def support(self, y, params, dispersion=None):
        """Return which responses can occur: finite numbers >= 0."""
        xp = namespace(y)
        return xp.greater_equal(y, 0.0) & xp.isfinite(y)

    def sample(self, params, dispersion, n_draws, rng):
        """Draw counts of shape (n_draws, n_samples), as floats."""
        return _draw_poisson(params, (n_draws, *params.shape), rng)


@dataclass(frozen=True)
class NegativeBinomial:
    """Negative binomial probabilities of counts: Poisson with Gamma means.

    ``params`` is the mean, of shape (n_samples,), at least 0. ``dispersion`` is
    the size theta > 0, a scalar: the variance is ``mean + mean**2 / theta``, and
    theta = inf is Poisson. For y that is no integer, ``y!`` means
    ``gamma(y + 1)``.
    """

    discrete = True

    def log_prob(self, y, params, dispersion):
        """Return the log probability of each row in nats; -inf where y < 0."""
        size, xp = _size(dispersion), namespace(params)
        inside = self.support(y, params, dispersion)
        count = floats(xp.where(inside, y, 0.0))
        whole, total = count + size, params + size
        # y against its expectation given y + theta, and theta against its own.
        error = (count - params) * (size / total)
        log_prob = (
            excess(whole)
            - excess(count)
            - float(excess(size))
            - half_deviance(count, params * (whole / total), error)
            - half_deviance(size, size * (whole / total), -error)
            + xp.log(size / whole)
        )
        return xp.where(inside, log_prob, -np.inf)

    def mean(self, params, dispersion):
        """Return the expected count."""
        return params

    def mode(self, params, dispersion):
        """Return the most probable count, the larger one of two."""
        size = _size(dispersion)
        return namespace(params).floor(params * (max(size - 1.0, 0.0) / size))

    def variance(self, params, dispersion):
        """Return the variance, ``mean + mean**2 / theta``."""
        with np.errstate(over="ignore"):
            return params + params * (params / _size(dispersion))

    def cdf(self, y, params, dispersion):
        """Return P(Y <= y), of shape (n_samples,)."""
        size = _size(dispersion)
        count = np.maximum(np.floor(y), 0.0) + 1.0
        if size < LARGE_SIZE:
            below = special.betainc(size, count, size / (size + params))
        else:
            below = special.betaincc(count, size, params / (size + params))
        return np.where(np.less(y, 0.0), 0.0, below)

    def quantile(self, q, params, dispersion):
        """Return the smallest count whose cdf is at least q."""
        size = _size(dispersion)
        spread = np.sqrt(self.variance(params, size))
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            skewness = np.where(spread > 0.0, (1.0 + 2.0 * params / size) / spread, 0.0)
        return _quantile(self, q, params, size, skewness)

    def support(self, y, params, dispersion):
        """Return which responses can occur: finite numbers >= 0."""
        xp = namespace(y)
        return xp.greater_equal(y, 0.0) & xp.isfinite(y)

    def sample(self, params, dispersion, n_draws, rng):
        """Draw counts of shape (n_draws, n_samples), as floats."""
        size, shape = _size(dispersion), (n_draws, *params.shape)
        return _draw_poisson(
            params * (rng.standard_gamma(size, shape) / size), shape, rng
        )


@dataclass(frozen=True)
class Binomial:
    """Binomial probabilities of the number of successes among some trials.

    ``params`` is of shape (n_samples, 2): probability of success and number of
    trials. There is no dispersion; the response is the number of successes. For
    numbers that are no integers, factorials are gamma functions.
    """

    discrete = True

    def log_prob(self, y, params, dispersion=None):
        """Return the log probability of each row; -inf outside 0 <= y <= trials."""
        proba, trials = params[:, 0], params[:, 1]
        xp, inside = namespace(params), self.support(y, params)
        count = floats(xp.where(inside, y, 0.0))
        rest = trials - count
        log_prob = (
            excess(trials)
            - excess(count)
            - excess(rest)
            - half_deviance(count, trials * proba)
            - half_deviance(rest, trials * (1.0 - proba))
        )
        return xp.where(inside, log_prob, -np.inf)

    def mean(self, params, dispersion=None):
        """Return the expected number of successes."""
        return params[:, 0] * params[:, 1]

    def mode(self, params, dispersion=None):
        """Return the most probable number of successes, the larger one of two."""
        xp, trials = namespace(params), params[:, 1]
        return xp.minimum(xp.floor((trials + 1.0) * params[:, 0]), trials)

    def variance(self, params, dispersion=None):
        """Return the variance, ``trials p (1 - p)``."""
        return params[:, 1] * params[:, 0] * (1.0 - params[:, 0])

    def cdf(self, y, params, dispersion=None):
        """Return P(Y <= y), of shape (n_samples,)."""
        proba, trials = params[:, 0], params[:, 1]
        count = np.floor(y)
        inside = (count >= 0.0) & (count < trials)
        rest = np.where(inside, trials - count, 1.0)
        below = special.betainc(rest, np.where(inside, count, 0.0) + 1.0, 1.0 - proba)
        return np.where(inside, below, np.where(count < 0.0, 0.0, 1.0))

    def quantile(self, q, params, dispersion=None):
        """Return the smallest number of successes whose cdf is at least q."""
        spread = np.sqrt(self.variance(params))
        with np.errstate(divide="ignore", invalid="ignore"):
            skewness = np.where(spread > 0.0, (1.0 - 2.0 * params[:, 0]) / spread, 0.0)
        return np.minimum(_quantile(self, q, params, None, skewness), params[:, 1])

    def support(self, y, params, dispersion=None):
        """Return which responses can occur: 0 <= y <= trials."""
        xp = namespace(params)
        return xp.greater_equal(y, 0.0) & xp.less_equal(y, params[:, 1])

    def sample(self, params, dispersion, n_draws, rng):
        """Draw numbers of successes of shape (n_draws, n_samples), as floats."""
        trials = np.round(params[:, 1]).astype(np.int64)
        draws = rng.binomial(trials, params[:, 0], (n_draws, params.shape[0]))
        return draws.astype(float)


def _size(dispersion):
    """Return the size theta as a number that arithmetic can bear."""
    size = float(np.asarray(dispersion).reshape(()))
    return min(max(size, 1.0 / LARGEST_SIZE), LARGEST_SIZE)


def _quantile(family, q, params, dispersion, skewness):
    """Return quantiles by a search around the Cornish-Fisher guess."""
    mean = family.mean(params, dispersion)
    q = np.asarray(q, dtype=float)
    shape = np.broadcast_shapes(q.shape, mean.shape)
    row = np.broadcast_to(np.arange(mean.size), shape).ravel()
    level = np.broadcast_to(q, shape).ravel()
    variance = family.variance(params, dispersion)
    guess = cornish_fisher(level, mean[row], variance[row], skewness[row])
    inner = np.flatnonzero((level > 0.0) & (level < 1.0))
    out = np.where(level > 0.0, np.inf, 0.0)

    def reaches(count, index):
        which = inner[index]
        return family.cdf(count, params[row[which]], dispersion) >= level[which]

    out[inner] = smallest_count(reaches, guess[inner])
    return out.reshape(shape)


def _draw_poisson(mean, shape, rng):
    """Draw Poisson counts; far beyond all counts by their normal limit."""
    mean = np.broadcast_to(mean, shape)
    draws = rng.poisson(np.minimum(mean, LARGEST_DRAWN_MEAN)).astype(float)
    huge = mean > LARGEST_DRAWN_MEAN
    if huge.any():
        noise = rng.standard_normal(int(huge.sum()))
        draws[huge] = mean[huge] + np.sqrt(mean[huge]) * noise
    return draws
