"""Probabilities of classes."""

from dataclasses import dataclass

import numpy as np

from skmoe._xp import is_foreign, namespace

__all__ = ["Categorical"]


@dataclass(frozen=True)
class Categorical:
    """Probabilities of classes 0, ..., n_classes - 1.

    ``params`` is the log probability of each class, of shape
    (n_samples, n_classes). There is no dispersion.
    """

    discrete = True

    def log_prob(self, y, params, dispersion=None):
        """Return the log probability of each row's class in nats."""
        if is_foreign(params):
            return namespace(params).take_along_axis(params, y[:, None], axis=1)[:, 0]
        return params[np.arange(params.shape[0]), y]

    def mean(self, params, dispersion=None):
        """Return the class probabilities, of shape (n_samples, n_classes)."""
        return namespace(params).exp(params)

    def mode(self, params, dispersion=None):
        """Return the code of the most probable class, of shape (n_samples,)."""
        return namespace(params).argmax(params, axis=1)

    def variance(self, params, dispersion=None):
        """Return p (1 - p) of each class, of shape (n_samples, n_classes)."""
        proba = namespace(params).exp(params)
        return proba * (1.0 - proba)

    def cdf(self, y, params, dispersion=None):
        """Return P(code <= y), of shape (n_samples,)."""
        cumulative = np.exp(params).cumsum(axis=1)
        return cumulative[np.arange(params.shape[0]), y]

    def quantile(self, q, params, dispersion=None):
        """Return the smallest code whose cdf is at least q, of shape (n_samples,)."""
        # The last code is what remains, also where the sum is rounded below q.
        below = np.exp(params[:, :-1]).cumsum(axis=1)
        return (below < np.reshape(q, (-1, 1))).sum(axis=1)

    def support(self, y, params, dispersion=None):
        """Return which responses can occur: the codes of classes."""
        return (y >= 0) & (y < params.shape[1]) & (y == namespace(y).floor(y))

    def sample(self, params, dispersion, n_draws, rng):
        """Draw class codes of shape (n_draws, n_samples)."""
        cumulative = np.exp(params).cumsum(axis=1)
        draw = rng.random((n_draws, params.shape[0], 1)) * cumulative[:, -1:]
        return (draw > cumulative).sum(axis=2)
