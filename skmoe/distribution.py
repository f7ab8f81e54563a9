"""The predictive law of a mixture of experts."""

from functools import cached_property

import numpy as np
from sklearn.utils import check_random_state

from skmoe.likelihoods import Categorical

__all__ = ["MixtureDistribution"]

# Fixed-point steps towards a mode; rows leave as they arrive.
MODE_STEPS = 1000
MODE_TOL = 1e-10


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
    winner : array of int of shape (n_samples,), default=None
        The expert that `top1` follows; None: the most probable one.
    """

    def __init__(self, log_gate, params, dispersions, likelihoods, *, winner=None):
        self.log_gate = log_gate
        self.params = params
        self.dispersions = dispersions
        self.likelihoods = likelihoods
        self.winner = winner

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
        winner = self.log_gate.argmax(axis=1) if self.winner is None else self.winner
        return self.means[np.arange(len(self)), winner]

    @property
    def skipped_share(self):
        """Share of pairs of rows and experts that were not evaluated."""
        return float(np.mean(self.log_gate == -np.inf))

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
        """Return P(Y <= y) of each row.

        Parameters
        ----------
        y : array of shape (n_samples,), or class codes

        Returns
        -------
        cdf : array of shape (n_samples,)

        Raises
        ------
        ValueError
            If there are several outputs: their joint cdf is not offered.
        """
        y = self._check_response(y)
        if not self._categorical and self.means[0, 0].size > 1:
            raise ValueError(
                f"cdf needs a single output, got {self.means.shape[2]} outputs."
            )
        below = self._each_at("cdf", y).reshape(self.log_gate.shape)
        return (self.gate * below).sum(axis=1)

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
        """Return y as an array of the shape of a response.

        Raises
        ------
        ValueError
            If the number of rows or of outputs is another one.
        """
        y = np.asarray(y)
        expected = (len(self),) if self._categorical else self.mean.shape
        if y.shape != expected:
            raise ValueError(
                f"y must be of shape {expected}, got {y.shape}: give one response "
                "for each row that this law was made for."
            )
        return y

    def _gaussian_mode(self):
        """Climb from every expert's mean by fixed-point steps; keep the highest.

        At a mode of a Gaussian mixture y is the mean of the experts' means,
        weighted by responsibility times precision (Carreira-Perpinan 2000).
        """
        means = self.means if self.means.ndim == 3 else self.means[:, :, None]
        precision, half_log_det = _precisions(self.dispersions, means.shape[2])
        log_scale = self.log_gate + half_log_det
        best = np.array(means[:, 0])
        height = np.full(len(self), -np.inf)
        for k in np.flatnonzero((self.log_gate > -np.inf).any(axis=0)):
            point = _climb(np.array(means[:, k]), means, precision, log_scale)
            reached = _log_sum(_joint_at(point, means, precision, log_scale))
            higher = reached > height
            best[higher], height[higher] = point[higher], reached[higher]
        return best if self.means.ndim == 3 else best[:, 0]


def _climb(point, means, precision, log_scale):
    """Return the modes that the fixed-point steps from some points lead to."""
    # One unit for all rows of an output: a step is small against its spread.
    spread = np.sqrt(np.diagonal(np.linalg.inv(precision), axis1=1, axis2=2)).min(0)
    rows = np.arange(point.shape[0])
    for _ in range(MODE_STEPS):
        joint = _joint_at(point[rows], means[rows], precision, log_scale[rows])
        resp = np.exp(joint - joint.max(axis=1, keepdims=True))
        total = np.einsum("nk,kij->nij", resp, precision)
        pull = np.einsum("nk,kij,nkj->ni", resp, precision, means[rows])
        new = np.linalg.solve(total, pull[:, :, None])[:, :, 0]
        moved = np.abs(new - point[rows])
        point[rows] = new
        rows = rows[(moved > MODE_TOL * (spread + np.abs(new))).any(axis=1)]
        if rows.size == 0:
            break
    return point


def _joint_at(point, means, precision, log_scale):
    """Return gate plus expert log densities of each row, up to a constant."""
    error = point[:, None] - means
    return log_scale - 0.5 * np.einsum("nki,kij,nkj->nk", error, precision, error)


def _precisions(dispersions, n_outputs):
    """Return inverse covariances and halves of their log determinants."""
    matrices = []
    for dispersion in dispersions:
        variance = np.asarray(dispersion, dtype=float)
        if variance.ndim < 2:
            variance = np.diag(np.broadcast_to(variance, (n_outputs,)))
        matrices.append(np.linalg.inv(variance))
    precision = np.stack(matrices)
    return precision, 0.5 * np.linalg.slogdet(precision)[1]


def _log_sum(joint):
    """Return the log of the sum of exponentials of each row; -inf where all are."""
    peak = joint.max(axis=1)
    peak = np.where(peak > -np.inf, peak, 0.0)
    with np.errstate(divide="ignore"):
        return peak + np.log(np.exp(joint - peak[:, None]).sum(axis=1))


def _expand(mask, ndim):
    return mask.reshape(mask.shape + (1,) * (ndim - mask.ndim))
