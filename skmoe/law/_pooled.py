"""What the gate makes of the experts' densities: moments, log density, posterior."""

from functools import cached_property

import numpy as np

from skmoe._xp import is_foreign, namespace, one_hot, to_numpy
from skmoe.law._modes import log_sum
from skmoe.likelihoods import Categorical

__all__ = ["PooledLaw", "expanded"]


class PooledLaw:
    """The part of `MixtureDistribution` that is worked out where the rows lie.

    Parameters
    ----------
    log_gate, params, dispersions, likelihoods, winner :
        As for `MixtureDistribution`; arrays of any library.
    """

    def __init__(self, log_gate, params, dispersions, likelihoods, *, winner=None):
        self.log_gate = log_gate
        self.params = params
        self.dispersions = dispersions
        self.likelihoods = likelihoods
        self.winner = winner

    def __len__(self):
        return self.log_gate.shape[0]

    def on_host(self):
        """Return the same law in NumPy arrays: itself, unless it lies elsewhere."""
        if not is_foreign(self.log_gate):
            return self
        return type(self)(
            to_numpy(self.log_gate),
            [to_numpy(params) for params in self.params],
            self.dispersions,
            self.likelihoods,
            winner=to_numpy(self.winner),
        )

    @property
    def _categorical(self):
        return isinstance(self.likelihoods[0], Categorical)

    @cached_property
    def gate(self):
        """Gate probabilities of shape (n_samples, n_experts)."""
        return namespace(self.log_gate).exp(self.log_gate)

    @cached_property
    def means(self):
        """Each expert's mean: (n_samples, n_experts[, n_outputs or n_classes])."""
        return self._of_each("mean")

    @cached_property
    def mean(self):
        """Expected response, of shape (n_samples[, n_outputs or n_classes])."""
        return self._pool(self.means)

    @cached_property
    def variance(self):
        """Variance of each output, of the shape of the mean.

        By the law of total variance: the mean of the experts' variances plus
        the variance of their means under the gate. Same unit as y squared;
        infinite where an expert has none.
        """
        centred = self.means - self.mean[:, None, ...]
        return self._pool(self._of_each("variance")) + self._pool(centred * centred)

    @cached_property
    def top1(self):
        """Mean of the most probable expert of each row."""
        xp, winner = namespace(self.log_gate), self.winner
        winner = xp.argmax(self.log_gate, axis=1) if winner is None else winner
        if is_foreign(self.log_gate):
            chosen = one_hot(winner, self.log_gate.shape[1]).T
            return _weighted(chosen, self.means)
        return self.means[np.arange(len(self)), winner]

    @property
    def skipped_share(self):
        """Share of pairs of rows and experts that were not evaluated."""
        return float(np.mean(to_numpy(self.log_gate) == -np.inf))

    def log_prob(self, y):
        """Return the log density of each row at y, in nats.

        Parameters
        ----------
        y : array of shape (n_samples[, n_outputs]), or class codes

        Returns
        -------
        log_prob : array of shape (n_samples,)
        """
        return log_sum(self._joint(y))

    def responsibilities(self, y):
        """Return the posterior probability of each expert, given y.

        Parameters
        ----------
        y : array of shape (n_samples[, n_outputs]), or class codes

        Returns
        -------
        resp : array of shape (n_samples, n_experts)
            The gate's probabilities where every density underflows to zero.
        """
        joint = self._joint(y)
        xp, total = namespace(joint), log_sum(joint)[:, None]
        lost = total == -np.inf
        kept = xp.where(lost, xp.zeros_like(total), total)
        return xp.exp(xp.where(lost, self.log_gate, joint - kept))

    def _joint(self, y):
        """Return gate plus expert log densities, (n_samples, n_experts)."""
        return self.log_gate + self._of_each("log_prob", self._check_response(y))

    def _parts(self):
        return zip(self.params, self.dispersions, self.likelihoods, strict=True)

    def _pool(self, values):
        """Return the mean under the gate; an expert without weight has no part."""
        if is_foreign(values):
            return _weighted(self.gate, values)
        if not np.isfinite(values).all():
            used = self.gate > 0.0
            values = np.where(expanded(used, values.ndim), values, 0.0)
        return np.einsum("nk,nk...->n...", self.gate, values)

    def _of_each(self, name, *y):
        columns = [
            getattr(family, name)(*y, params, dispersion)
            for params, dispersion, family in self._parts()
        ]
        return namespace(columns[0]).stack(columns, axis=1)

    def _check_response(self, y):
        """Return y as an array of the shape of a response.

        Raises
        ------
        ValueError
            If the number of rows or of outputs is another one.
        """
        if not is_foreign(self.log_gate):
            y = np.asarray(to_numpy(y))
        expected = (len(self),) if self._categorical else tuple(self.mean.shape)
        if tuple(y.shape) != expected:
            raise ValueError(
                f"y must be of shape {expected}, got {tuple(y.shape)}: give one "
                "response for each row that this law was made for."
            )
        return y


def expanded(mask, ndim):
    """Return a mask with as many axes as the values that it is for."""
    return mask.reshape(mask.shape + (1,) * (ndim - mask.ndim))


def _weighted(weights, values):
    """Return sums over experts, of another library; without weight, without part."""
    xp = namespace(values)
    shape = (*weights.shape, *[1] * (len(values.shape) - 2))
    weights = xp.reshape(weights, shape)
    # Infinite values of experts that have no part must not make NaN of the sum.
    values = xp.where(weights > 0.0, values, xp.zeros_like(values))
    return xp.sum(weights * values, axis=1)
