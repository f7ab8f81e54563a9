"""Counts: Poisson, negative binomial and binomial, for Fisher scoring."""

import numpy as np

from skmoe._special_xp import gammaln
from skmoe._xp import concatenate, floats, like, multiply, namespace, row_dots, total
from skmoe.experts._families import MAX_ETA, Family, bounded, log_mean_rate
from skmoe.experts._special import log_rising, psi_rising, trigamma_rising

__all__ = ["BinomialFamily", "NegativeBinomialFamily", "PoissonFamily"]

# Counts up to here have special functions of them looked up in a table.
MAX_TABLE = 4096
# log theta of counts that are Poisson, to six digits of the variance at mean 1,
# and of counts that are zero but for a few.
THETA_BOUNDS = np.log([[1e-3], [1e6]])


class PoissonFamily(Family):
    """``p(y) = m^y exp(-m) / y!`` with ``log m = eta``."""

    n_target_rows = 2

    def target(self, y, trials=None):
        """Return y and its log factorial, with a minus."""
        y = floats(y)
        return namespace(y).stack([y, -gammaln(y + 1.0)])

    def start(self, target, weight, offset):
        """Return the log of the mean rate."""
        return np.array([log_mean_rate(target[0, :], weight, offset)]), np.empty(0)

    def density(self, eta, target, shapes):
        """Return log densities, and the means."""
        log_prob = bounded(eta[0, ...], None, MAX_ETA)
        mean = namespace(log_prob).exp(log_prob)
        log_prob *= target[0, :]
        log_prob -= mean
        log_prob += target[1, :]
        return log_prob, mean

    def fill(self, work, target, shapes, weight, gram_rows, score_rows):
        """Write means and residuals, times the weights."""
        gram, score = gram_rows[0, ...], score_rows[0, ...]
        multiply(work, weight, gram)
        multiply(weight, target[0, :], score)
        score -= gram


class BinomialFamily(Family):
    """``p(y) = C(m, y) p^y (1 - p)^(m - y)`` with ``logit p = eta``."""

    n_target_rows = 3
    max_step = np.array([5.0])

    def target(self, y, trials=None):
        """Return y, y - trials and the log of trials over y."""
        y = floats(y)
        xp = namespace(y)
        trials = xp.ones_like(y) if trials is None else trials
        failures = trials - y
        ways = gammaln(trials + 1.0) - gammaln(y + 1.0)
        return xp.stack([y, -failures, ways - gammaln(failures + 1.0)])

    def start(self, target, weight, offset):
        """Return the logit of the share of successes."""
        successes = float(weight @ target[0, :])
        failures = -float(weight @ target[1, :])
        least = 1e-3 * max(successes + failures, 1e-300)
        logit = np.log(max(successes, least) / max(failures, least))
        if offset is not None:
            logit -= float(weight @ offset) / total(weight)
        return np.array([logit]), np.empty(0)

    def density(self, eta, target, shapes):
        """Return log densities, and 1 + exp(-eta), the inverse of p."""
        eta = bounded(eta[0, ...], -MAX_ETA, MAX_ETA)
        xp = namespace(eta)
        inverse = xp.exp(-eta)
        inverse += 1.0
        # y log p + (m - y) log(1 - p) with log p = -log(inverse).
        log_prob = xp.log(inverse)
        log_prob *= target[1, :] - target[0, :]
        eta *= target[1, :]
        log_prob += eta
        log_prob += target[2, :]
        return log_prob, inverse

    def fill(self, work, target, shapes, weight, gram_rows, score_rows):
        """Write ``m p (1 - p)`` and ``y - m p``, times the weights."""
        gram, score = gram_rows[0, ...], score_rows[0, ...]
        proba = 1.0 / work
        multiply(weight, target[0, :] - target[1, :], gram)
        gram *= proba
        multiply(weight, target[0, :], score)
        score -= gram
        gram *= 1.0 - proba


class NegativeBinomialFamily(Family):
    """Counts of mean ``m = exp(eta)`` and variance ``m + m^2 / theta``.

    ``log p = lgamma(y + t) - lgamma(t) - lgamma(y + 1) + t log t + y log m
    - (y + t) log(m + t)`` with theta = t. The shape is log theta. Its information
    has no closed form: the observed curvature serves, by its absolute value.
    """

    n_target_rows = 3
    shape_names = ("log_theta",)
    n_sums = 2
    unit_power = (0.0,)

    def target(self, y, trials=None):
        """Return y, minus its log factorial, and y again if it is a small count."""
        y = floats(y)
        xp = namespace(y)
        small = (y == xp.floor(y)) & (y >= 0.0) & (y <= MAX_TABLE)
        return xp.stack([y, -gammaln(y + 1.0), xp.where(small, y, -1.0)])

    def start(self, target, weight, offset):
        """Return the log of the mean rate, and theta from two moments."""
        y, mass = target[0, :], total(weight)
        mean = max(float(weight @ y) / mass, 1e-3)
        variance = float(weight @ (y - mean) ** 2) / mass
        theta = mean * mean / max(variance - mean, 0.01 * mean)
        log_theta = np.log(np.clip(theta, 0.05, 100.0))
        rate = log_mean_rate(y, weight, offset)
        return np.array([rate]), np.array([log_theta])

    def bounds(self, target, weight):
        """Return the range of log theta."""
        return THETA_BOUNDS

    def density(self, eta, target, shapes):
        """Return log densities, and the means."""
        eta = bounded(eta[0, ...], None, MAX_ETA)
        xp, theta = namespace(eta), np.exp(shapes)
        size = like(eta, theta)
        mean = xp.exp(eta)
        log_ratio = xp.log1p(mean / size)
        log_prob = log_ratio * -(target[0, :] + size)
        eta *= target[0, :]
        log_prob += eta
        log_prob += _of_counts(log_rising, target, theta)
        log_prob += target[1, :]
        return log_prob, (mean, log_ratio)

    def fill(self, work, target, shapes, weight, gram_rows, score_rows):
        """Write weights and scores; sum two derivatives in theta."""
        mean, log_ratio = work
        theta = np.exp(shapes)
        size, score = like(mean, theta), score_rows[0, ...]
        inverse = 1.0 / (mean + size)
        residual = target[0, :] - mean
        multiply(weight, size * inverse, score)
        multiply(score, mean, gram_rows[0, ...])
        score *= residual
        first = _of_counts(psi_rising, target, theta)
        first -= log_ratio
        residual *= inverse
        first -= residual
        second = _of_counts(trigamma_rising, target, theta)
        mean_share = mean * inverse
        second += mean_share / size
        residual *= inverse
        second += residual
        sums = [row_dots(part, weight)[:, None] for part in (first, second)]
        return concatenate(sums, axis=1)

    def shape_terms(self, sums, mass, shapes):
        """Return the derivative in log theta and the size of the curvature."""
        theta = np.exp(shapes[:, 0])
        slope = theta * sums[:, 0]
        curvature = np.abs(theta * theta * sums[:, 1] + slope)
        curvature = np.maximum(curvature, 1e-9 * mass)
        return slope[:, None], curvature[:, None, None]


def _of_counts(function, target, theta):
    """Return ``function(y, theta)`` of shape (n_experts, n_rows), by a table if it can.

    Counts take few values, and special functions cost fifty times a look-up.
    """
    codes = target[2, :]
    xp, n_rows = namespace(codes), codes.shape[0]
    if n_rows == 0 or xp.min(codes) < 0.0 or xp.max(codes) >= n_rows:
        return function(target[0, :], theta)
    table = function(np.arange(float(xp.max(codes)) + 1.0), theta)
    codes = codes.astype(np.intp) if xp is np else xp.astype(codes, xp.int64)
    return xp.take(like(codes, table), codes, axis=1)
