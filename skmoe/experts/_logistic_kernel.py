"""Numerics of multinomial logistic experts: sums of one pass and Newton steps."""

import copy

import numpy as np

from skmoe._blocks import unpack_grams
from skmoe._multinomial import (
    MAX_LOGIT_STEP,
    bound_direction,
    fill_pairs,
    log_softmax_first,
    n_pairs,
    newton_directions,
)
from skmoe._xp import (
    add,
    is_foreign,
    like,
    multiply,
    namespace,
    of_class,
    one_hot,
    to_numpy,
)

__all__ = ["LogisticKernel"]

# Pairs of classes cost a weighted gram each; beyond this many unknowns the
# fixed bound, one gram an expert, is cheaper for the same gain.
MAX_NEWTON_PARAMETERS = 200


class LogisticKernel:
    """K multinomial logistic experts on blocks of one standardised design.

    Parameters
    ----------
    n_experts : int
    anchor : array of shape (n_classes, n_columns)
        Where the ridge pulls to: the fit of all rows.
    ridge : array of shape (n_columns,)
        The log prior is ``-ridge / 2 * sum((coef - anchor) ** 2)``.
    """

    exact_m_step = False
    has_gradient = True

    def __init__(self, n_experts, anchor, ridge):
        self.anchor = anchor
        self.ridge = ridge
        self.n_experts = n_experts
        self.coef = np.repeat(anchor[None], n_experts, axis=0)
        self.newton = (anchor.shape[0] - 1) * anchor.shape[1] <= MAX_NEWTON_PARAMETERS

    @property
    def n_gram_rows(self):
        """Weight columns whose grams a pass must sum."""
        pairs = n_pairs(self.anchor.shape[0]) if self.newton else 1
        return pairs * self.n_experts

    @property
    def grams_of_mass(self):
        """Whether the grams are those under each expert's share of the weight."""
        return not self.newton

    @property
    def n_score_rows(self):
        """Weight columns whose sums with the design a pass must form."""
        return self.anchor.shape[0] * self.n_experts

    def reset(self):
        """Start a pass."""
        self.mass = np.zeros(self.n_experts)

    def log_prob(self, design, y):
        """Return log probabilities of the classes y, (n_experts, n_rows)."""
        k, c, p = self.coef.shape
        stacked = self.coef.transpose(1, 0, 2).reshape(c * k, p)
        logit = like(design, stacked) @ design
        logit = namespace(design).reshape(logit, (c, k, design.shape[1]))
        log_p, self._proba = log_softmax_first(logit)
        self._y = y
        return of_class(log_p, y)

    def fill(self, gram_rows, score_rows, weighted_resp, weight):
        """Write the weight rows of the block that `log_prob` saw last."""
        proba, xp = self._proba, namespace(weighted_resp)
        self.mass = add(self.mass, xp.sum(weighted_resp, axis=1))
        if self.newton:
            shape = (n_pairs(proba.shape[0]), self.n_experts, gram_rows.shape[1])
            pairs = xp.reshape(gram_rows, shape)
            fill_pairs(pairs, proba, weighted_resp)
        else:
            gram_rows[...] = weighted_resp
        score = xp.reshape(score_rows, proba.shape)
        multiply(proba, -weighted_resp, score)
        if is_foreign(score):
            score += one_hot(self._y, proba.shape[0])[:, None, :] * weighted_resp
        else:
            score[self._y, :, np.arange(self._y.size)] += weighted_resp.T

    def take(self, half_grams, score, total_weight):
        """Receive the sums of one pass over all rows."""
        k, c, p = self.coef.shape
        grams = unpack_grams(half_grams, p)
        self._grams = grams.reshape(-1, k, p, p)
        score = score.T.reshape(c, k, p).transpose(1, 0, 2)
        self.mass = to_numpy(self.mass)
        self._slope = score - self.ridge * (self.coef - self.anchor)

    @property
    def gradient(self):
        """Gradient of log-likelihood plus penalty, as one vector."""
        return self._slope.ravel()

    @property
    def penalty(self):
        """Log prior density of the coefficients, up to a constant."""
        deviation = self.coef - self.anchor
        return -0.5 * float(((deviation * deviation) @ self.ridge).sum())

    def limited(self, direction):
        """Return a direction with each expert's part no longer than a step may be."""
        step = direction.reshape(self.n_experts, -1, self.coef.shape[2])
        size = np.sqrt((step * step).sum(axis=2)).max(axis=1)
        shrink = np.minimum(1.0, MAX_LOGIT_STEP / np.maximum(size, 1e-300))
        return (step * shrink[:, None, None]).ravel()

    def precondition(self, vector):
        """Apply the inverse of the complete-data information."""
        vector = vector.reshape(self.coef.shape)
        if self.newton:
            return newton_directions(self._grams, vector, self.ridge).ravel()
        out = np.empty_like(self.coef)
        for k in range(self.n_experts):
            out[k] = bound_direction(self._grams[0, k], vector[k], self.ridge)
        return out.ravel()

    def propose(self):
        """Compute the step of this pass for every expert."""
        self._from = self.coef
        step = self.precondition(self._slope).reshape(self.coef.shape)
        with np.errstate(over="ignore"):  # an infinite size shrinks it to nothing
            size = np.sqrt((step * step).sum(axis=2)).max(axis=1)
        shrink = np.minimum(1.0, MAX_LOGIT_STEP / np.maximum(size, 1e-300))
        self.direction = step * shrink[:, None, None]

    def move(self, fraction):
        """Go this fraction of the proposed step from where it started."""
        self.coef = self._from + fraction * self.direction

    def degenerate(self, row):
        """Return whether an expert has less than one row's worth of weight."""
        return bool((self.mass < row).any())

    def restrict(self, index):
        """Return a kernel of some experts, to work on rows that reach only them."""
        part = copy.copy(self)
        part.n_experts = len(index)
        part.coef = self.coef[index]
        return part

    def absorb(self, part, index):
        """Add what the fills of a kernel of some experts have summed."""
        self.mass[index] += part.mass

    def rows_of(self, index):
        """Return which gram rows and score rows belong to some experts."""
        grams = np.arange(self.n_gram_rows).reshape(-1, self.n_experts)
        scores = np.arange(self.n_score_rows).reshape(-1, self.n_experts)
        return grams[:, index].ravel(), scores[:, index].ravel()

    def split(self):
        """Return one kernel for each expert, with its own parameters."""
        parts = []
        for k in range(self.n_experts):
            part = LogisticKernel(1, self.anchor, self.ridge)
            part.coef = self.coef[k : k + 1].copy()
            part.mass = self.mass[k : k + 1].copy()
            parts.append(part)
        return parts

    @property
    def parameters(self):
        """All coefficients as one vector."""
        return self.coef.ravel()

    @parameters.setter
    def parameters(self, value):
        self.coef = np.array(value).reshape(self.coef.shape)
