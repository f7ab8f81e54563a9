"""Numerics of the softmax gate: what the engine's fused pass drives."""

import numpy as np

from skmoe._blocks import unpack_grams
from skmoe._elastic import bound_target, newton_target
from skmoe._multinomial import (
    MAX_LOGIT_STEP,
    bound_direction,
    fill_pairs,
    log_softmax_first,
    n_pairs,
    newton_direction,
)
from skmoe._xp import like, multiply

__all__ = ["SoftmaxKernel"]


class SoftmaxKernel:
    """Numerics of the softmax gate on blocks of a standardised design.

    The engine fills weight rows block by block, hands back their sums, and asks
    for a step; see `skmoe.em._fused`. With a design of one column, the
    intercept, it is the constant gate and its step is the exact M-step.

    Parameters
    ----------
    n_experts : int
    penalised : array of shape (n_columns,)
        One where the penalty acts.
    alpha, l1_ratio : float
        Penalty, as in `SoftmaxGate`.
    solver : {"newton", "bound"}

    Attributes
    ----------
    smooth : bool
        Whether the penalty has no L1 part. With one, `gradient` is that of the
        rest, and only `propose` and `move` climb the whole objective.
    """

    def __init__(self, n_experts, penalised, alpha, solver="newton", l1_ratio=0.0):
        self.n_experts = n_experts
        self.ridge = alpha * (1.0 - l1_ratio) * penalised
        self.lasso = alpha * l1_ratio * penalised
        self.smooth = not self.lasso.any()
        self.constant = penalised.size == 1 and penalised[0] == 0.0
        self.newton = solver == "newton"
        self.coef = np.zeros((n_experts, penalised.size))
        self._proba = None

    @property
    def exact_m_step(self):
        """Whether one step reaches the maximum of the gate's objective."""
        return self.constant

    @property
    def n_gram_rows(self):
        """Weight columns whose grams a pass must sum."""
        if self.constant:
            return 0
        return n_pairs(self.n_experts) if self.newton else 1

    @property
    def gram_of_weight(self):
        """Whether the one gram is that under the weight of the rows."""
        return not (self.constant or self.newton)

    @property
    def n_score_rows(self):
        """Weight columns whose sums with the design a pass must form."""
        return self.n_experts

    @property
    def penalty(self):
        """Log prior density of the coefficients, up to a constant."""
        ridge = -0.5 * float(((self.coef * self.coef) @ self.ridge).sum())
        return ridge if self.smooth else ridge - self._size(self.coef)

    def _size(self, coef):
        """Return the L1 part of the penalty at some coefficients."""
        return float((np.abs(coef) @ self.lasso).sum())

    def log_proba(self, design):
        """Return log gate probabilities of a block, (n_experts, n_rows)."""
        logit = like(design, self.coef) @ design
        log_gate, self._proba = log_softmax_first(logit)
        return log_gate

    def fill(self, gram_rows, score_rows, weighted_resp, weight):
        """Write the weight rows of the block that `log_proba` saw last.

        There is no gram row where the gram of the bound comes from elsewhere.
        """
        if self.newton and not self.constant:
            fill_pairs(gram_rows, self._proba, weight)
        elif gram_rows.shape[0]:
            gram_rows[0, :] = weight
        multiply(self._proba, -weight, score_rows)
        score_rows += weighted_resp

    def take(self, half_grams, score, total_weight):
        """Receive the sums of one pass over all rows."""
        self._half_grams = half_grams
        self._total = total_weight
        self.gradient = score.T - self.ridge * self.coef

    def precondition(self, vector):
        """Apply the inverse of the complete-data information."""
        vector = vector.reshape(self.coef.shape)
        if self.constant:
            proba = log_softmax_first(self.coef)[1][:, 0]
            pairs = np.empty((n_pairs(self.n_experts), 1))
            fill_pairs(pairs, proba[:, None], np.full(1, self._total))
            grams = pairs[:, :, None]
        else:
            grams = self._grams()
        if self.newton:
            return newton_direction(grams, vector, self.ridge)
        return bound_direction(grams[0], vector, self.ridge)

    def _grams(self):
        return unpack_grams(self._half_grams, self.coef.shape[1])

    def _sparse_step(self):
        """Return the way to the maximum of the model with its L1 penalty."""
        parts = (self.gradient, self.ridge, self.lasso, self.coef)
        if self.newton:
            return newton_target(self._grams(), *parts) - self.coef
        return bound_target(self._grams()[0], *parts) - self.coef

    def propose(self):
        """Compute the step of this pass: damped Newton, bound, or exact."""
        self._from = self.coef
        if self.constant:
            proba = log_softmax_first(self.coef)[1]
            mass = np.maximum(self.gradient + self._total * proba, 1e-12 * self._total)
            target = np.log(mass)
            self.direction = target - target.mean() - self.coef
            return
        smooth = self.smooth
        step = self.precondition(self.gradient) if smooth else self._sparse_step()
        self.direction = self.limited(step).reshape(self.coef.shape)

    @property
    def slope(self):
        """Gain that the proposed step promises, to first order in its length."""
        slope = float((self.gradient * self.direction).sum())
        if self.smooth:
            return slope
        return slope + self._size(self._from) - self._size(self._from + self.direction)

    def limited(self, direction):
        """Return a direction, flat, that is no longer than a step may be."""
        step = direction.reshape(self.coef.shape)
        # np.sqrt of the sum over columns is the size of the change in logits.
        with np.errstate(over="ignore"):  # an infinite size shrinks it to nothing
            size = np.sqrt((step * step).sum(axis=1)).max()
        return (step * min(1.0, MAX_LOGIT_STEP / max(size, 1e-300))).ravel()

    def move(self, fraction):
        """Go this fraction of the proposed step from where it started."""
        self.coef = self._from + fraction * self.direction

    @property
    def parameters(self):
        """All coefficients as one vector."""
        return self.coef.ravel()

    @parameters.setter
    def parameters(self, value):
        self.coef = np.array(value).reshape(self.coef.shape)
