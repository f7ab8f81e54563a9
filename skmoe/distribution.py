"""The predictive law of a mixture of experts."""

from functools import cached_property

import numpy as np
from sklearn.utils import check_random_state

from skmoe.likelihoods import Categorical

__all__ = ["MixtureDistribution"]

MODE_STEPS = 100


class MixtureDistribution:
    """The law ``p(y | x) = sum_k g_k(x) p_k(y | x)`` of each of some rows.

    Parameters
    ----------
    log_gate : array of shape (n_samples, n_experts)
        Log gate probabilities, -inf for experts that were skipped.
    params : list of arrays
        What each expert predicts for the rows; see `skmoe.likelihoods`.
    dispersions : list
        Each expert's dispersion.
    likelihoods : list of Likelihood
    """

    def __init__(self, log_gate, params, dispersions, likelihoods):
        self.log_gate = log_gate
        self.params = params
        self.dispersions = dispersions
        self.likelihoods = likelihoods

    def __repr__(self):
        n_samples, n_experts = self.log_gate.shape
        family = type(self.likelihoods[0]).__name__
        return (
            f"MixtureDistribution(n_samples={n_samples}, n_experts={n_experts}, "
            f"family={family})"
        )

    def __len__(self):
        return self.log_gate.shape[0]

    @property
    def _categorical(self):
        return isinstance(self.likelihoods[0], Categorical)

    @cached_property
    def gate(self):
        """Gate probabilities of shape (n_samples, n_experts)."""
        return np.exp(self.log_gate)

    @cached_property
    def means(self):
        """Each expert's mean: (n_samples, n_experts[, n_outputs or n_classes])."""
        return self._of_each("mean")

    @cached_property
    def mean(self):
        """Expected response, of shape (n_samples[, n_outputs or n_classes])."""
        return np.einsum("nk,nk...->n...", self.gate, self.means)

    @cached_property
    def variance(self):
        """Variance of each output, of the shape of the mean.

        By the law of total variance: the mean of the experts' variances plus
        the variance of their means under the gate. Same unit as y squared.
        """
        within = np.einsum("nk,nk...->n...", self.gate, self._of_each("variance"))
        centred = self.means - self.mean[:, None]
        return within + np.einsum("nk,nk...->n...", self.gate, centred * centred)

    @cached_property
    def top1(self):
        """Mean of the most probable expert of each row."""
        winner = self.log_gate.argmax(axis=1)
        return self.means[np.arange(len(self)), winner]

    @cached_property
    def mode(self):
        """Point of highest density; the code of the most probable class."""
        if self._categorical:
            return self.mean.argmax(axis=1)
        return self._gaussian_mode()

    def log_prob(self, y):
        """Return the log density of each row at y, in nats.

        Parameters
        ----------
        y : array of shape (n_samples[, n_outputs]), or class codes

        Returns
        -------
        log_prob : array of shape (n_samples,)
        """
        return _log_sum(self._joint(y))

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
        total = _log_sum(joint)[:, None]
        lost = total == -np.inf
        return np.exp(np.where(lost, self.log_gate, joint - np.where(lost, 0, total)))

    def _joint(self, y):
        """Return gate plus expert log densities, (n_samples, n_experts)."""
        return self.log_gate + self._each_at("log_prob", self._check_response(y))

    def cdf(self, y):
        """Return P(Y <= y) of each row, of shape (n_samples,).

        Raises
        ------
        ValueError
            If there are several outputs: their joint cdf is not offered.
        """
        y = self._check_response(y)
        if not self._categorical and self.means.ndim == 3:
            raise ValueError(
                f"cdf needs a single output, got {self.means.shape[2]} outputs."
            )
        return (self.gate * self._each_at("cdf", y)).sum(axis=1)

    def sample(self, n_draws=1, random_state=None):
        """Draw responses.

        Parameters
        ----------
        n_draws : int, default=1
        random_state : int, RandomState instance or None, default=None

        Returns
        -------
        draws : array of shape (n_draws, n_samples[, n_outputs])
            Class codes for a classification law.
        """
        rng = check_random_state(random_state)
        level = rng.random_sample((n_draws, len(self), 1))
        cumulative = self.gate.cumsum(axis=1)
        winner = (level * cumulative[:, -1:] > cumulative).sum(axis=2)
        out = None
        for k, draws in enumerate(self._draws(n_draws, rng)):
            out = np.zeros_like(draws) if out is None else out
            np.copyto(out, draws, where=_expand(winner == k, draws.ndim))
        return out

    def _draws(self, n_draws, rng):
        for params, dispersion, family in self._parts():
            yield family.sample(params, dispersion, n_draws, rng)

    def _parts(self):
        return zip(self.params, self.dispersions, self.likelihoods, strict=True)

    def _of_each(self, name):
        columns = [
            getattr(family, name)(params, dispersion)
            for params, dispersion, family in self._parts()
        ]
        return np.stack(columns, axis=1)

    def _each_at(self, name, y):
        columns = [
            getattr(family, name)(y, params, dispersion)
            for params, dispersion, family in self._parts()
        ]
        return np.stack(columns, axis=1)

    def _check_response(self, y):
        y = np.asarray(y)
        if y.shape[:1] != (len(self),):
            raise ValueError(
                f"y has {y.shape[0] if y.ndim else 0} rows, but this law has "
                f"{len(self)}: give one response for each row of X."
            )
        return y

    def _gaussian_mode(self):
        """Climb from every expert's mean by fixed-point steps; keep the highest.

        At a mode of a Gaussian mixture y is the mean of the experts' means,
        weighted by responsibility times precision (Carreira-Perpinan 2000).
        """
        means = self.means if self.means.ndim == 3 else self.means[:, :, None]
        precision, half_log_det = _precisions(self.dispersions, means.shape[2])
        best = np.array(means[:, 0])
        height = np.full(len(self), -np.inf)
        for k in range(means.shape[1]):
            point = np.array(means[:, k])
            for _ in range(MODE_STEPS):
                joint = self._joint(point, means, precision, half_log_det)
                resp = np.exp(joint - joint.max(axis=1, keepdims=True))
                total = np.einsum("nk,kij->nij", resp, precision)
                pull = np.einsum("nk,kij,nkj->ni", resp, precision, means)
                new = np.linalg.solve(total, pull[:, :, None])[:, :, 0]
                moved = np.abs(new - point).max(initial=0.0)
                point = new
                if moved <= 1e-10 * (1.0 + np.abs(new).max(initial=0.0)):
                    break
            joint = self._joint(point, means, precision, half_log_det)
            reached = np.logaddexp.reduce(joint, axis=1)
            higher = reached > height
            best[higher], height[higher] = point[higher], reached[higher]
        return best if self.means.ndim == 3 else best[:, 0]

    def _joint(self, point, means, precision, half_log_det):
        error = point[:, None] - means
        square = np.einsum("nki,kij,nkj->nk", error, precision, error)
        return self.log_gate + half_log_det - 0.5 * square


def _precisions(dispersions, n_outputs):
    """Return inverse covariances (n_experts, n_outputs, n_outputs), and halves
    of the logarithms of their determinants."""
    matrices = []
    for dispersion in dispersions:
        variance = np.asarray(dispersion, dtype=float)
        if variance.ndim < 2:
            variance = np.diag(np.broadcast_to(variance, (n_outputs,)))
        matrices.append(np.linalg.inv(variance))
    precision = np.stack(matrices)
    return precision, 0.5 * np.linalg.slogdet(precision)[1]


def _expand(mask, ndim):
    return mask.reshape(mask.shape + (1,) * (ndim - mask.ndim))
