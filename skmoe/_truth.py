"""The laws behind the generated data of `skmoe.datasets`."""

from dataclasses import dataclass

import numpy as np
from scipy.special import log_softmax, logsumexp

__all__ = ["LinearMixture", "LogisticMixture", "PiecewiseLinear", "TwoLinkArm"]

LOG_2PI = float(np.log(2.0 * np.pi))


def _normal_log_prob(y, mean, noise):
    return -0.5 * (LOG_2PI + ((y - mean) / noise) ** 2) - np.log(noise)


@dataclass(frozen=True)
class SoftmaxGated:
    """The gate that both mixtures share.

    ``g(x) = softmax(gate_coef x + gate_intercept)``.
    """

    gate_coef: np.ndarray
    gate_intercept: np.ndarray
    coef: np.ndarray
    intercept: np.ndarray
    expert: np.ndarray

    def gate_proba(self, X):
        """Return the gate's probabilities, (n_samples, n_experts)."""
        return np.exp(self.log_gate(X))

    def log_gate(self, X):
        """Return their logs, (n_samples, n_experts)."""
        return log_softmax(X @ self.gate_coef.T + self.gate_intercept, axis=1)


@dataclass(frozen=True)
class LinearMixture(SoftmaxGated):
    """Law of a softmax-gated mixture of linear Gaussian experts.

    ``g_k(x)`` is the softmax of ``gate_coef @ x + gate_intercept`` and
    ``y | x, k ~ N(coef_k' x + intercept_k, noise_k ** 2)``.

    Attributes
    ----------
    gate_coef : ndarray of shape (n_experts, n_features)
    gate_intercept : ndarray of shape (n_experts,)
    coef : ndarray of shape (n_experts, n_features)
    intercept : ndarray of shape (n_experts,)
    expert : ndarray of shape (n_samples,)
        The expert that each row was drawn from.
    noise : ndarray of shape (n_experts,)
        Standard deviations, in the unit of y.
    """

    noise: np.ndarray

    def expert_mean(self, X):
        """Return each expert's mean, (n_samples, n_experts)."""
        return X @ self.coef.T + self.intercept

    def mean(self, X):
        """Return the expected response, (n_samples,)."""
        return (self.gate_proba(X) * self.expert_mean(X)).sum(axis=1)

    def log_prob(self, X, y):
        """Return the log density of each row in nats, (n_samples,)."""
        error = _normal_log_prob(y[:, None], self.expert_mean(X), self.noise)
        return logsumexp(self.log_gate(X) + error, axis=1)


@dataclass(frozen=True)
class PiecewiseLinear:
    """Law of a broken line: piece k holds between breaks k and k + 1.

    Attributes
    ----------
    breaks : ndarray of shape (n_pieces + 1,)
        Ends of the pieces along the only column.
    coef, intercept, noise : ndarray of shape (n_pieces,)
        ``y ~ N(intercept + coef * x, noise ** 2)`` on a piece.
    expert : ndarray of shape (n_samples,)
        The piece of each row.
    """

    breaks: np.ndarray
    coef: np.ndarray
    intercept: np.ndarray
    noise: np.ndarray
    expert: np.ndarray

    def apply(self, X):
        """Return the piece that each row lies on, (n_samples,)."""
        return np.searchsorted(self.breaks[1:-1], X[:, 0], side="right")

    def mean(self, X):
        """Return the expected response, (n_samples,)."""
        piece = self.apply(X)
        return self.intercept[piece] + self.coef[piece] * X[:, 0]

    def log_prob(self, X, y):
        """Return the log density of each row in nats, (n_samples,)."""
        return _normal_log_prob(y, self.mean(X), self.noise[self.apply(X)])


@dataclass(frozen=True)
class LogisticMixture(SoftmaxGated):
    """Law of a softmax-gated mixture of multinomial logistic experts.

    Attributes
    ----------
    gate_coef : ndarray of shape (n_experts, n_features)
    gate_intercept : ndarray of shape (n_experts,)
    coef : ndarray of shape (n_experts, n_classes, n_features)
    intercept : ndarray of shape (n_experts, n_classes)
    expert : ndarray of shape (n_samples,)
        The expert that each row was drawn from.
    """

    def expert_proba(self, X):
        """Return each expert's probabilities, (n_samples, n_experts, n_classes)."""
        return np.exp(self._log_expert(X))

    def _log_expert(self, X):
        logit = np.tensordot(X, self.coef, axes=(1, 2)) + self.intercept
        return log_softmax(logit, axis=2)

    def predict_proba(self, X):
        """Return the probability of each class, (n_samples, n_classes)."""
        return np.exp(self._log_proba(X))

    def _log_proba(self, X):
        return logsumexp(self.log_gate(X)[:, :, None] + self._log_expert(X), axis=1)

    def log_prob(self, X, y):
        """Return the log probability of each row's class in nats, (n_samples,)."""
        return self._log_proba(X)[np.arange(X.shape[0]), y]


@dataclass(frozen=True)
class TwoLinkArm:
    """Law of the elbow angle of a two-link arm given the reach of its hand.

    Attributes
    ----------
    lengths : tuple of two floats
        Upper arm and forearm, in metres.
    up_share : float
        Probability of the elbow-up posture (positive angles).
    noise : float
        Standard deviation of the angle, in radians.
    expert : ndarray of shape (n_samples,)
        0 for elbow up, 1 for elbow down.
    """

    lengths: tuple[float, float]
    up_share: float
    noise: float
    expert: np.ndarray

    def angle(self, X):
        """Return the positive solution for each reach, in radians, (n_samples,)."""
        first, second = self.lengths
        cosine = (X[:, 0] ** 2 - first**2 - second**2) / (2.0 * first * second)
        return np.arccos(np.clip(cosine, -1.0, 1.0))

    def mean(self, X):
        """Return the expected angle, which no arm ever takes, (n_samples,)."""
        return (2.0 * self.up_share - 1.0) * self.angle(X)

    def log_prob(self, X, y):
        """Return the log density of each row in nats, (n_samples,)."""
        angle = self.angle(X)
        return np.logaddexp(
            np.log(self.up_share) + _normal_log_prob(y, angle, self.noise),
            np.log1p(-self.up_share) + _normal_log_prob(y, -angle, self.noise),
        )
