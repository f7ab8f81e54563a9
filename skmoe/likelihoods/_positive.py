"""Positive responses: the Gamma density."""

from dataclasses import dataclass

import numpy as np
from scipy import special

from skmoe._xp import floats, namespace
from skmoe.likelihoods._saddle import excess, half_deviance

__all__ = ["Gamma", "gamma_shape"]

LARGEST_SHAPE = 1e290


@dataclass(frozen=True)
class Gamma:
    """Gamma density of positive numbers, such as durations and costs.

    ``params`` is the mean, of shape (n_samples,), positive. ``dispersion`` is one
    over the shape, a scalar: the variance is ``dispersion * mean**2``.
    """

    discrete = False

    def log_prob(self, y, params, dispersion):
        """Return the log density of each row in nats; -inf where y <= 0."""
        shape, xp = gamma_shape(dispersion), namespace(params)
        inside = self.support(y, params, dispersion)
        point = floats(xp.where(inside, y, 1.0))
        constant = float(np.log(shape))
        with np.errstate(over="ignore", divide="ignore"):
            ratio = point / params
            deviance = half_deviance(shape, shape * ratio, shape * (1.0 - ratio))
            log_prob = constant - xp.log(point) - float(excess(shape)) - deviance
        return xp.where(inside, log_prob, -np.inf)

    def mean(self, params, dispersion):
        """Return the expected response."""
        return params

    def mode(self, params, dispersion):
        """Return the point of highest density: 0 where the shape is at most 1.

        Zero is the end of the support, which it does not belong to.
        """
        shape = gamma_shape(dispersion)
        return params * (max(shape - 1.0, 0.0) / shape)

    def variance(self, params, dispersion):
        """Return the variance of each row, same unit as y squared."""
        return params * (params * float(np.asarray(dispersion).reshape(())))

    def cdf(self, y, params, dispersion):
        """Return P(Y <= y), of shape (n_samples,)."""
        shape = gamma_shape(dispersion)
        with np.errstate(over="ignore"):
            return special.gammainc(shape, shape * (np.maximum(y, 0.0) / params))

    def quantile(self, q, params, dispersion):
        """Return the point that a share q lies below."""
        shape = gamma_shape(dispersion)
        return params * (special.gammaincinv(shape, q) / shape)

    def support(self, y, params, dispersion):
        """Return which responses can occur: finite positive numbers."""
        xp = namespace(y)
        return xp.greater(y, 0.0) & xp.isfinite(y)

    def sample(self, params, dispersion, n_draws, rng):
        """Draw responses of shape (n_draws, n_samples)."""
        shape = gamma_shape(dispersion)
        draws = rng.standard_gamma(shape, (n_draws, *params.shape))
        return params * (draws / shape)


def gamma_shape(dispersion):
    """Return the shape as a number that arithmetic can bear."""
    inverse = float(np.asarray(dispersion).reshape(()))
    return 1.0 / min(max(inverse, 1.0 / LARGEST_SHAPE), LARGEST_SHAPE)
