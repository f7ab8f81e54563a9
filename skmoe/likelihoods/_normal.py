"""Normal densities: one variance for all rows, or one for each."""

from dataclasses import dataclass

import numpy as np
from scipy import linalg, special

from skmoe._xp import empty, is_foreign, like, namespace

__all__ = ["LOG_2PI", "Gaussian", "RowGaussian"]

LOG_2PI = float(np.log(2.0 * np.pi))


def _log_normal(error, variance):
    """Return log densities of errors; -inf rather than NaN where squares overflow."""
    limits, xp = np.finfo(float), namespace(error)
    variance = xp.clip(like(error, variance), float(limits.tiny), float(limits.max))
    with np.errstate(over="ignore"):
        return -0.5 * (LOG_2PI + xp.log(variance) + error * error / variance)


def _scale(variance):
    """Return standard deviations, positive ones also where the variance is zero."""
    return np.sqrt(np.maximum(variance, np.finfo(float).tiny))


def _whitened(factor, error):
    """Return errors, of shape (n_outputs, n_rows), divided by a Cholesky factor."""
    if not is_foreign(error):
        return linalg.solve_triangular(factor, error, lower=True)
    inverse = linalg.solve_triangular(factor, np.eye(factor.shape[0]), lower=True)
    return like(error, inverse) @ error


@dataclass(frozen=True)
class Gaussian:
    """Normal density of one or several outputs.

    ``params`` is the mean. ``dispersion`` is the variance: a scalar for one
    output, an array of shape (n_outputs,) for independent outputs or of shape
    (n_outputs, n_outputs) for correlated ones; same unit as y squared.
    """

    discrete = False

    def log_prob(self, y, params, dispersion):
        """Return the log density of each row in nats, of shape (n_samples,)."""
        error = y - params
        variance = np.asarray(dispersion)
        if params.ndim == 1:
            return _log_normal(error, variance.reshape(()))
        if variance.ndim < 2:
            return namespace(error).sum(_log_normal(error, variance), axis=1)
        try:
            factor = linalg.cholesky(variance, lower=True)
        except (linalg.LinAlgError, ValueError):
            # An extrapolation of EM went astray: no density, so EM turns it down.
            nowhere = empty(error, (error.shape[0],))
            nowhere[...] = -np.inf
            return nowhere
        white = _whitened(factor, error.T)
        log_det = 2.0 * float(np.log(np.diag(factor)).sum())
        square = namespace(white).sum(white * white, axis=0)
        return -0.5 * (error.shape[1] * LOG_2PI + log_det + square)

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
        xp = namespace(params)
        return xp.broadcast_to(like(params, variance), params.shape)

    def cdf(self, y, params, dispersion):
        """Return P(Y <= y), of shape (n_samples,); one output only."""
        scale = _scale(np.asarray(dispersion).reshape(()))
        with np.errstate(over="ignore"):
            return special.ndtr((y - params) / scale)

    def quantile(self, q, params, dispersion):
        """Return the point that a share q lies below; one output only."""
        scale = _scale(np.asarray(dispersion).reshape(()))
        return params + scale * special.ndtri(q)

    def support(self, y, params, dispersion):
        """Return which responses can occur: all finite ones."""
        xp = namespace(y)
        finite = xp.isfinite(y)
        return finite if params.ndim == 1 else xp.all(finite, axis=1)

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
class RowGaussian:
    """Normal density with a variance for each row.

    ``params`` is of shape (n_samples, 2): mean and variance of each row, the
    latter in the same unit as y squared. There is no dispersion.
    """

    discrete = False

    def log_prob(self, y, params, dispersion=None):
        """Return the log density of each row in nats, of shape (n_samples,)."""
        return _log_normal(y - params[:, 0], params[:, 1])

    def mean(self, params, dispersion=None):
        """Return the expected response."""
        return params[:, 0]

    def mode(self, params, dispersion=None):
        """Return the point of highest density, which is the mean."""
        return params[:, 0]

    def variance(self, params, dispersion=None):
        """Return the variance of each row."""
        return params[:, 1]

    def cdf(self, y, params, dispersion=None):
        """Return P(Y <= y), of shape (n_samples,)."""
        with np.errstate(over="ignore"):
            return special.ndtr((y - params[:, 0]) / _scale(params[:, 1]))

    def quantile(self, q, params, dispersion=None):
        """Return the point that a share q lies below."""
        return params[:, 0] + _scale(params[:, 1]) * special.ndtri(q)

    def support(self, y, params, dispersion=None):
        """Return which responses can occur: all finite ones."""
        return namespace(y).isfinite(y)

    def sample(self, params, dispersion, n_draws, rng):
        """Draw responses of shape (n_draws, n_samples)."""
        noise = rng.standard_normal((n_draws, params.shape[0]))
        return params[:, 0] + noise * np.sqrt(params[:, 1])
