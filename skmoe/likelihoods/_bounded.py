"""Laws that know nothing of x: uniform noise, and a single value."""

from dataclasses import dataclass

import numpy as np

from skmoe._xp import namespace, zeros

__all__ = ["PointMass", "Uniform"]

TINY = float(np.finfo(float).tiny)


@dataclass(frozen=True)
class Uniform:
    """The same density everywhere in an interval.

    ``params`` is of shape (n_samples, 2): lower and upper end, both inside. There
    is no dispersion.
    """

    discrete = False

    def log_prob(self, y, params, dispersion=None):
        """Return the log density of each row in nats; -inf outside the interval."""
        xp = namespace(params)
        width = xp.clip(params[:, 1] - params[:, 0], TINY, None)
        return xp.where(self.support(y, params), -xp.log(width), -np.inf)

    def mean(self, params, dispersion=None):
        """Return the middle of the interval."""
        return 0.5 * params[:, 0] + 0.5 * params[:, 1]

    def mode(self, params, dispersion=None):
        """Return the middle of the interval, one point of highest density."""
        return self.mean(params)

    def variance(self, params, dispersion=None):
        """Return the variance of each row, same unit as y squared."""
        return (params[:, 1] - params[:, 0]) ** 2 / 12.0

    def cdf(self, y, params, dispersion=None):
        """Return P(Y <= y), of shape (n_samples,)."""
        width = np.maximum(params[:, 1] - params[:, 0], TINY)
        return np.clip((y - params[:, 0]) / width, 0.0, 1.0)

    def quantile(self, q, params, dispersion=None):
        """Return the point that a share q lies below."""
        return params[:, 0] + q * (params[:, 1] - params[:, 0])

    def support(self, y, params, dispersion=None):
        """Return which responses can occur: those in the interval."""
        xp = namespace(params)
        low, high = params[:, 0], params[:, 1]
        return xp.less_equal(low, y) & xp.greater_equal(high, y)

    def sample(self, params, dispersion, n_draws, rng):
        """Draw responses of shape (n_draws, n_samples)."""
        return self.quantile(rng.random((n_draws, params.shape[0])), params)


@dataclass(frozen=True)
class PointMass:
    """All probability on one value.

    ``params`` is that value, of shape (n_samples,). There is no dispersion.
    """

    discrete = True

    def log_prob(self, y, params, dispersion=None):
        """Return the log probability in nats: 0 at the value, -inf elsewhere."""
        zero = zeros(params, params.shape)
        return namespace(params).where(self.support(y, params), zero, -np.inf)

    def mean(self, params, dispersion=None):
        """Return the value."""
        return params

    def mode(self, params, dispersion=None):
        """Return the value."""
        return params

    def variance(self, params, dispersion=None):
        """Return zeros."""
        return namespace(params).zeros_like(params)

    def cdf(self, y, params, dispersion=None):
        """Return P(Y <= y), which is 0 or 1, of shape (n_samples,)."""
        return np.greater_equal(y, params).astype(float)

    def quantile(self, q, params, dispersion=None):
        """Return the value, whatever the share."""
        return np.broadcast_to(params, np.broadcast_shapes(np.shape(q), params.shape))

    def support(self, y, params, dispersion=None):
        """Return which responses can occur: the value."""
        return namespace(params).equal(params, y)

    def sample(self, params, dispersion, n_draws, rng):
        """Repeat the value: shape (n_draws, n_samples)."""
        return np.repeat(params[None], n_draws, axis=0)
