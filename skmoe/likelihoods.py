"""Families of conditional densities, as value objects without state.

Each method takes the parameters that an expert predicts for the rows and the
expert's dispersion; shapes as in `skmoe._protocols`.
"""

from dataclasses import dataclass

import numpy as np
from scipy import linalg, special

__all__ = ["Categorical", "Gaussian"]

LOG_2PI = float(np.log(2.0 * np.pi))


def _log_normal(error, variance):
    """Return log densities of errors; -inf rather than NaN where squares overflow."""
    limits = np.finfo(float)
    variance = np.clip(variance, limits.tiny, limits.max)
    with np.errstate(over="ignore"):
        return -0.5 * (LOG_2PI + np.log(variance) + error * error / variance)


@dataclass(frozen=True)
class Gaussian:
    """Normal density of one or several outputs.

    ``params`` is the mean. ``dispersion`` is the variance: a scalar for one
    output, an array of shape (n_outputs,) for independent outputs or of shape
    (n_outputs, n_outputs) for correlated ones; same unit as y squared.
    """

    def log_prob(self, y, params, dispersion):
        """Return the log density of each row in nats, of shape (n_samples,)."""
        error = y - params
        variance = np.asarray(dispersion)
        if error.ndim == 1:
            return _log_normal(error, variance.reshape(()))
        if variance.ndim < 2:
            return _log_normal(error, variance).sum(axis=1)
        try:
            factor = linalg.cholesky(variance, lower=True)
        except (linalg.LinAlgError, ValueError):
            # An extrapolation of EM went astray: no density, so EM turns it down.
            return np.full(error.shape[0], -np.inf)
        white = linalg.solve_triangular(factor, error.T, lower=True)
        log_det = 2.0 * np.log(np.diag(factor)).sum()
        return -0.5 * (error.shape[1] * LOG_2PI + log_det + (white * white).sum(axis=0))

    def mean(self, params, dispersion):
        """Return the expected response."""
        return params

    def mode(self, params, dispersion):
        """Return the point of highest density, which is the mean."""
        return params

    def variance(self, params, dispersion):
        """Return the variance of each output, of the shape of the mean."""
        variance = np.asarray(dispersion)
        if params.ndim == 1:
            variance = variance.reshape(())
        elif variance.ndim == 2:
            variance = np.diag(variance)
        return np.broadcast_to(variance, params.shape)

    def cdf(self, y, params, dispersion):
        """Return P(Y <= y), of shape (n_samples,); one output only."""
        scale = np.sqrt(np.asarray(dispersion).reshape(()))
        return special.ndtr((y - params) / scale)

    def sample(self, params, dispersion, n_draws, rng):
        """Draw responses of shape (n_draws, n_samples[, n_outputs])."""
        noise = rng.standard_normal((n_draws, *params.shape))
        variance = np.asarray(dispersion)
        if params.ndim == 2 and variance.ndim == 2:
            return params + noise @ linalg.cholesky(variance, lower=True).T
        if params.ndim == 1:
            variance = variance.reshape(())
        return params + noise * np.sqrt(variance)


@dataclass(frozen=True)
class Categorical:
    """Probabilities of classes 0, ..., n_classes - 1.

    ``params`` is the log probability of each class, of shape
    (n_samples, n_classes). There is no dispersion.
    """

    def log_prob(self, y, params, dispersion=None):
        """Return the log probability of each row's class in nats."""
        return params[np.arange(params.shape[0]), y]

    def mean(self, params, dispersion=None):
        """Return the class probabilities, of shape (n_samples, n_classes)."""
        return np.exp(params)

    def mode(self, params, dispersion=None):
        """Return the code of the most probable class, of shape (n_samples,)."""
        return params.argmax(axis=1)

    def variance(self, params, dispersion=None):
        """Return p (1 - p) of each class, of shape (n_samples, n_classes)."""
        proba = np.exp(params)
        return proba * (1.0 - proba)

    def cdf(self, y, params, dispersion=None):
        """Return P(code <= y), of shape (n_samples,)."""
        cumulative = np.exp(params).cumsum(axis=1)
        return cumulative[np.arange(params.shape[0]), y]

    def sample(self, params, dispersion, n_draws, rng):
        """Draw class codes of shape (n_draws, n_samples)."""
        cumulative = np.exp(params).cumsum(axis=1)
        draw = rng.random((n_draws, params.shape[0], 1)) * cumulative[:, -1:]
        return (draw > cumulative).sum(axis=2)
