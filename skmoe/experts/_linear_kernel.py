"""Numerics of linear-Gaussian experts: sums of one pass, exact M-step, gradient."""

import copy

import numpy as np

from skmoe._blocks import solve_psd_stack, unpack_grams
from skmoe._xp import add, like, multiply, namespace, row_dots, to_numpy
from skmoe.experts._linear_prior import diagonals
from skmoe.likelihoods import LOG_2PI

__all__ = ["LinearKernel"]

MAX_LOG = 600.0


class LinearKernel:
    """K linear-Gaussian experts on blocks of one standardised design.

    Every pass works with residuals at the current coefficients, so nothing is
    lost to cancellation when the noise is small. With residuals e, responsibilities
    times weights q and a ridge around ``anchor`` in units of the noise, one pass
    sums ``G = sum q z z'``, ``c = sum q z e`` and ``S = sum q e e'``; then

        step      d = (G + alpha)^-1 (c - alpha (b - anchor))
        variance  (S - d'c - c'd + d'Gd + alpha |b + d - anchor|^2 + prior) / mass

    is the exact M-step of coefficients and variance together.

    Parameters
    ----------
    n_experts : int
    prior : LinearPrior
    """

    exact_m_step = True
    # Whether the grams are those under each expert's share of the weight.
    grams_of_mass = True

    def __init__(self, n_experts, prior):
        self.prior = prior
        self.coef = np.repeat(prior.anchor[None], n_experts, axis=0)
        self.variance = np.repeat(prior.start_variance[None], n_experts, axis=0)
        self.n_experts = n_experts

    @property
    def n_gram_rows(self):
        """Weight columns whose grams a pass must sum."""
        return self.n_experts

    @property
    def n_score_rows(self):
        """Weight columns whose sums with the design a pass must form."""
        return self.coef.shape[0] * self.coef.shape[1]

    def reset(self):
        """Forget the scatter of the last pass."""
        q = self.coef.shape[1]
        self.scatter = np.zeros((self.n_experts, q, q))
        self.mass = np.zeros(self.n_experts)
        self._set_density_constants()

    def _set_density_constants(self):
        q = self.coef.shape[1]
        if q == 1:
            variance = self.variance.reshape(self.n_experts)
            self._precision = (0.5 / variance)[:, None]
            self._constant = (-0.5 * (LOG_2PI + np.log(variance)))[:, None]
            return
        factor = np.linalg.cholesky(_as_matrices(self.variance))
        self._whiten = np.linalg.inv(factor)
        log_det = np.log(np.diagonal(factor, axis1=1, axis2=2)).sum(axis=1)
        self._constant = (-0.5 * q * LOG_2PI - log_det)[:, None]

    def log_prob(self, design, y):
        """Return log densities of a block, of shape (n_experts, n_rows)."""
        k, q, p = self.coef.shape
        xp = namespace(design)
        mean = like(design, self.coef.reshape(k * q, p)) @ design
        if q == 1:
            error = y - mean
            self._square = error * error
            density = self._square * like(design, -self._precision)
        else:
            error = y - xp.reshape(mean, (k, q, design.shape[1]))
            white = like(design, self._whiten) @ error
            density = xp.sum(white * white, axis=1)
            density *= -0.5
        self._error = error
        density += like(design, self._constant)
        return density

    def fill(self, gram_rows, score_rows, weighted_resp, weight):
        """Write the weight rows of the block that `log_prob` saw last."""
        xp = namespace(weighted_resp)
        gram_rows[...] = weighted_resp
        self.mass = add(self.mass, xp.sum(weighted_resp, axis=1))
        if self.coef.shape[1] == 1:
            multiply(self._error, weighted_resp, score_rows)
            scatter = row_dots(self._square, weighted_resp)[:, None, None]
        else:
            weighted = self._error * weighted_resp[:, None, :]
            score_rows[...] = xp.reshape(weighted, score_rows.shape)
            scatter = weighted @ xp.permute_dims(self._error, (0, 2, 1))
        self.scatter = add(self.scatter, scatter)

    def take(self, half_grams, score, total_weight):
        """Receive the sums of one pass over all rows."""
        k, q, p = self.coef.shape
        self._grams = unpack_grams(half_grams, p)
        self._score = score.T.reshape(k, q, p)
        self.mass, self.scatter = to_numpy(self.mass), to_numpy(self.scatter)

    @property
    def penalty(self):
        """Log prior of coefficients and variances at their current values."""
        return self.prior.log_density(self.coef, self.variance)

    def propose(self):
        """Carry out the exact M-step of coefficients and variances."""
        deviation = self.coef - self.prior.anchor
        ridge = self.prior.ridge
        right = self._score - ridge * deviation
        step = self._solve(right)
        cross = step @ self._score.transpose(0, 2, 1)
        quadratic = step @ self._grams @ step.transpose(0, 2, 1)
        scatter = self.scatter - cross - cross.transpose(0, 2, 1) + quadratic
        self.coef = self.coef + step
        self.variance = self.prior.variance(scatter, self.mass, self.coef)

    def _solve(self, right):
        """Solve every expert's penalised system, (n_experts, n_outputs, p)."""
        grams = self._grams + np.diag(self.prior.ridge)
        return solve_psd_stack(grams, right.transpose(0, 2, 1)).transpose(0, 2, 1)

    def move(self, fraction):
        """Do nothing: the M-step is exact, there is no step to shorten."""

    def degenerate(self, row):
        """Return whether an expert has no rows, or a spurious fit to a few.

        Without a prior on the variance the likelihood is unbounded: a handful
        of rows near one line gives a maximum that says nothing about the rest
        (McLachlan & Peel 2000, 3.10). Taken as such: less than 2 % of the noise
        of one global fit, on few rows.

        Parameters
        ----------
        row : float
            One row's worth of weight.
        """
        if self.prior.rows:
            dead = self.mass < row
            return bool((dead | self.prior.collapsed(self.variance)).any())
        p = self.coef.shape[2]
        few = self.mass < max(0.1 * self.mass.sum(), 3.0 * (p + 1) * row)
        tiny = diagonals(self.variance) < 4e-4 * self.prior.global_variance
        dead = (self.mass < (p + 1) * row) | (few & tiny.any(axis=1))
        return bool((dead | self.prior.collapsed(self.variance)).any())

    def restrict(self, index):
        """Return a kernel of some experts, to work on rows that reach only them."""
        part = copy.copy(self)
        part.n_experts = len(index)
        part.coef, part.variance = self.coef[index], self.variance[index]
        return part

    def absorb(self, part, index):
        """Add what the fills of a kernel of some experts have summed."""
        self.mass[index] += part.mass
        self.scatter[index] += part.scatter

    def rows_of(self, index):
        """Return which gram rows and score rows belong to some experts."""
        scores = np.arange(self.n_score_rows).reshape(self.n_experts, -1)
        return np.asarray(index), scores[index].ravel()

    def split(self):
        """Return one kernel for each expert, with its own parameters."""
        parts = []
        for k in range(self.n_experts):
            part = LinearKernel(1, self.prior)
            part.coef = self.coef[k : k + 1].copy()
            part.variance = self.variance[k : k + 1].copy()
            part.mass = self.mass[k : k + 1].copy()
            parts.append(part)
        return parts

    # -- for the quasi-Newton finish: coefficients and log variances ----------

    @property
    def has_gradient(self):
        """Whether variances are free numbers, so that gradients are simple."""
        return self.variance.ndim == 2

    @property
    def parameters(self):
        """Coefficients, then the logarithm of each variance."""
        spread = _log_spd(self.variance[:1] if self.prior.shared else self.variance)
        return np.concatenate([self.coef.ravel(), spread.ravel()])

    @parameters.setter
    def parameters(self, value):
        size = self.coef.size
        self.coef = np.array(value[:size]).reshape(self.coef.shape)
        shape = (-1, *self.variance.shape[1:])
        variance = self.prior.floored(_exp_spd(np.array(value[size:]).reshape(shape)))
        self.variance = np.array(np.broadcast_to(variance, self.variance.shape))

    @property
    def gradient(self):
        """Gradient of log-likelihood plus penalty in ``parameters``."""
        prior = self.prior
        deviation = self.coef - prior.anchor
        inverse = 1.0 / self.variance
        slope = (self._score - prior.ridge * deviation) * inverse[:, :, None]
        scatter = np.diagonal(self.scatter, axis1=1, axis2=2)
        penalty = (prior.ridge * deviation * deviation).sum(axis=2)
        total = scatter + penalty + prior.rows * prior.scale
        spread = 0.5 * (total * inverse - (self.mass[:, None] + prior.rows))
        # At the floor a variance cannot follow a gradient that points down.
        spread[(self.variance <= prior.floor) & (spread < 0.0)] = 0.0
        if prior.shared:
            spread = spread.sum(axis=0)
        return np.concatenate([slope.ravel(), spread.ravel()])

    def limited(self, direction):
        """Return a direction along which no log variance changes by over 2.

        Of an expert that would go further the whole part is shortened.
        """
        slope = direction[: self.coef.size].reshape(self.n_experts, -1)
        spread = direction[self.coef.size :].reshape(-1, self.coef.shape[1])
        shrink = 2.0 / np.maximum(np.abs(spread).max(axis=1, keepdims=True), 2.0)
        return np.concatenate([(slope * shrink).ravel(), (spread * shrink).ravel()])

    def precondition(self, vector):
        """Apply the inverse of the complete-data information."""
        size = self.coef.size
        slope = vector[:size].reshape(self.coef.shape)
        out = self._solve(slope) * self.variance[:, :, None]
        mass = 0.5 * np.maximum(self.mass + self.prior.rows, 1e-8)
        if self.prior.shared:
            mass = mass.sum(keepdims=True)
        spread = vector[size:].reshape(mass.size, -1) / mass[:, None]
        return np.concatenate([out.ravel(), spread.ravel()])


def _as_matrices(variance):
    return (
        variance
        if variance.ndim == 3
        else variance[:, :, None] * np.eye(variance.shape[1])
    )


def _log_spd(variance):
    """Return logs of variances, or matrix logarithms of covariances."""
    if variance.ndim == 2:
        return np.log(variance)
    value, vector = np.linalg.eigh(variance)
    value = np.maximum(value, 1e-300)
    return (vector * np.log(value)[:, None, :]) @ vector.transpose(0, 2, 1)


def _exp_spd(logs):
    """Invert `_log_spd`; an extrapolation may have gone too far to represent."""
    if logs.ndim == 2:
        return np.exp(np.clip(logs, -MAX_LOG, MAX_LOG))
    value, vector = np.linalg.eigh(0.5 * (logs + logs.transpose(0, 2, 1)))
    value = np.exp(np.clip(value, -MAX_LOG, MAX_LOG))
    return (vector * value[:, None, :]) @ vector.transpose(0, 2, 1)
