"""Heavy tails: Student's t and the Laplace density."""

from dataclasses import dataclass

import numpy as np
from scipy import special

from skmoe._xp import like, namespace
from skmoe.likelihoods._normal import LOG_2PI
from skmoe.likelihoods._saddle import excess

__all__ = ["Laplace", "StudentT", "scale_and_df"]

# More degrees of freedom are normal to double precision.
LARGEST_DF = 1e290
# Standardised errors this small are near the median.
NEAR = 0.1
TINY = float(np.finfo(float).tiny)


@dataclass(frozen=True)
class StudentT:
    """Student's t density around a location.

    ``params`` is the location, of shape (n_samples,). ``dispersion`` is an array
    of two numbers: the squared scale, in the same unit as y squared, and the
    degrees of freedom; inf is the normal density.
    """

    discrete = False

    def log_prob(self, y, params, dispersion):
        """Return the log density of each row in nats, of shape (n_samples,)."""
        xp, (scale, df) = namespace(params), scale_and_df(dispersion)
        half = 0.5 * df
        # log(gamma(half + 1/2) / gamma(half)) - log(half) / 2, free of cancellation.
        log_ratio = excess(half + 0.5) - excess(half) - 0.5
        log_ratio += (half - 0.5) * np.log1p(0.5 / half)
        constant = float(log_ratio - 0.5 * LOG_2PI - np.log(scale))
        with np.errstate(divide="ignore", over="ignore"):
            root = xp.abs(y - params) / float(scale * np.sqrt(df))
            far = 2.0 * xp.log(root)
            log_kernel = xp.where(root > 1e8, far, xp.log1p(root * root))
        return constant - (half + 0.5) * log_kernel

    def mean(self, params, dispersion):
        """Return the location, also where df <= 1 and there is no mean."""
        return params

    def mode(self, params, dispersion):
        """Return the point of highest density, which is the location."""
        return params

    def variance(self, params, dispersion):
        """Return the variance, ``scale**2 df / (df - 2)``; inf where df <= 2."""
        scale, df = scale_and_df(dispersion)
        variance = scale * scale * (df / (df - 2.0)) if df > 2.0 else np.inf
        return _for_rows(variance, params)

    def cdf(self, y, params, dispersion):
        """Return P(Y <= y), of shape (n_samples,)."""
        scale, df = scale_and_df(dispersion)
        with np.errstate(over="ignore"):
            return _student_cdf((y - params) / scale, df)

    def quantile(self, q, params, dispersion):
        """Return the point that a share q lies below."""
        scale, df = scale_and_df(dispersion)
        q = np.asarray(q, dtype=float)
        # SciPy's inverse has the wrong sign where it overflows, and near the
        # median it knows the point to eight digits only: one Newton step.
        guess = np.copysign(np.abs(special.stdtrit(df, q)), q - 0.5)
        near = np.clip(guess, -NEAR, NEAR)
        log_slope = self.log_prob(near, np.zeros(()), np.array([1.0, df]))
        step = (_student_cdf(near, df) - q) * np.exp(-log_slope)
        return params + scale * np.where(np.abs(guess) < NEAR, near - step, guess)

    def support(self, y, params, dispersion):
        """Return which responses can occur: all finite ones."""
        return namespace(y).isfinite(y)

    def sample(self, params, dispersion, n_draws, rng):
        """Draw responses of shape (n_draws, n_samples)."""
        scale, df = scale_and_df(dispersion)
        shape = (n_draws, *params.shape)
        noise = rng.standard_normal(shape)
        mixing = rng.standard_gamma(0.5 * df, shape) / (0.5 * df)
        # With df near 0 the mixing variable underflows: the largest numbers then.
        return params + scale * (noise / np.sqrt(np.maximum(mixing, TINY)))


@dataclass(frozen=True)
class Laplace:
    """Laplace density, ``exp(-|y - location| / b) / (2 b)``.

    ``params`` is the location, of shape (n_samples,). ``dispersion`` is the
    scale b, a scalar in the unit of y: the variance is ``2 b**2``.
    """

    discrete = False

    def log_prob(self, y, params, dispersion):
        """Return the log density of each row in nats, of shape (n_samples,)."""
        scale = _scale(dispersion)
        constant = float(np.log(2.0 * scale))
        with np.errstate(over="ignore"):
            return -constant - namespace(params).abs(y - params) / scale

    def mean(self, params, dispersion):
        """Return the expected response, which is the location."""
        return params

    def mode(self, params, dispersion):
        """Return the point of highest density, which is the location."""
        return params

    def variance(self, params, dispersion):
        """Return the variance of each row, same unit as y squared."""
        return _for_rows(2.0 * _scale(dispersion) ** 2, params)

    def cdf(self, y, params, dispersion):
        """Return P(Y <= y), of shape (n_samples,)."""
        with np.errstate(over="ignore"):
            error = (y - params) / _scale(dispersion)
        tail = 0.5 * np.exp(-np.abs(error))
        return np.where(error < 0.0, tail, 1.0 - tail)

    def quantile(self, q, params, dispersion):
        """Return the point that a share q lies below."""
        q = np.asarray(q, dtype=float)
        with np.errstate(divide="ignore"):
            tail = np.log(2.0 * np.minimum(q, 1.0 - q))
        return params + _scale(dispersion) * np.copysign(tail, q - 0.5)

    def support(self, y, params, dispersion):
        """Return which responses can occur: all finite ones."""
        return namespace(y).isfinite(y)

    def sample(self, params, dispersion, n_draws, rng):
        """Draw responses of shape (n_draws, n_samples)."""
        return params + rng.laplace(0.0, _scale(dispersion), (n_draws, *params.shape))


def _student_cdf(error, df):
    """Return P(T <= error); SciPy's loses half of the digits near the median."""
    near = np.abs(error) < NEAR
    square = np.where(near, error, 0.0) ** 2
    half = np.zeros(np.shape(error))
    special.betainc(0.5, 0.5 * df, square / (df + square), out=half, where=near)
    from_median = 0.5 + np.copysign(0.5 * half, error)
    return np.where(near, from_median, special.stdtr(df, error))


def _for_rows(value, params):
    """Return a number for every row."""
    value = like(params, np.asarray(value))
    return namespace(params).broadcast_to(value, params.shape)


def _scale(dispersion):
    return max(float(np.asarray(dispersion).reshape(())), TINY)


def scale_and_df(dispersion):
    """Return scale and degrees of freedom as numbers that arithmetic can bear."""
    square, df = np.asarray(dispersion, dtype=float)
    return max(float(np.sqrt(square)), TINY), min(max(float(df), TINY), LARGEST_DF)
