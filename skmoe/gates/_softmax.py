"""The softmax gate: a multinomial logit fitted to responsibilities."""

import numpy as np
from scipy import optimize
from sklearn.base import BaseEstimator

from skmoe._blocks import Design, half_products, row_blocks, unpack_grams
from skmoe._multinomial import (
    MAX_LOGIT_STEP,
    bound_direction,
    fill_pairs,
    log_softmax_first,
    n_pairs,
    newton_direction,
)

__all__ = ["SoftmaxGate", "SoftmaxKernel"]

# Newton's system has (n_experts - 1) * n_columns unknowns. Measured: up to here
# a Newton pass costs less than the passes that a fixed bound needs instead.
MAX_NEWTON_PARAMETERS = 600
# Above this many columns not even one gram is formed.
MAX_GRAM_COLUMNS = 1500


class SoftmaxKernel:
    """Numerics of the softmax gate on blocks of a standardised design.

    The engine fills weight rows block by block, hands back their sums, and asks
    for a step; see `skmoe.em._fused`. With a design of one column, the
    intercept, it is the constant gate and its step is the exact M-step.

    Parameters
    ----------
    n_experts : int
    penalised : array of shape (n_columns,)
        One where the ridge acts.
    alpha : float
        Ridge: the log prior is ``-alpha / 2 * sum(coef ** 2)``.
    solver : {"newton", "bound"}
    """

    def __init__(self, n_experts, penalised, alpha, solver="newton"):
        self.n_experts = n_experts
        self.ridge = alpha * penalised
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
    def n_score_rows(self):
        """Weight columns whose sums with the design a pass must form."""
        return self.n_experts

    @property
    def penalty(self):
        """Log prior density of the coefficients, up to a constant."""
        return -0.5 * float(((self.coef * self.coef) @ self.ridge).sum())

    def log_proba(self, design):
        """Return log gate probabilities of a block, (n_experts, n_rows)."""
        log_gate, self._proba = log_softmax_first(self.coef @ design)
        return log_gate

    def fill(self, gram_rows, score_rows, weighted_resp, weight):
        """Write the weight rows of the block that `log_proba` saw last."""
        if self.constant:
            self._mass = weight.sum()
        elif self.newton:
            fill_pairs(gram_rows, self._proba, weight)
        else:
            gram_rows[0] = weight
        np.multiply(self._proba, -weight, out=score_rows)
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
            grams = unpack_grams(self._half_grams, self.coef.shape[1])
        if self.newton:
            return newton_direction(grams, vector, self.ridge)
        return bound_direction(grams[0], vector, self.ridge)

    def propose(self):
        """Compute the step of this pass: damped Newton, bound, or exact."""
        self._from = self.coef
        if self.constant:
            proba = log_softmax_first(self.coef)[1]
            mass = np.maximum(self.gradient + self._total * proba, 1e-12 * self._total)
            target = np.log(mass)
            self.direction = target - target.mean() - self.coef
            return
        self.direction = self.limited(self.precondition(self.gradient))
        self.direction = self.direction.reshape(self.coef.shape)

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


class SoftmaxGate(BaseEstimator):
    """Softmax of linear functions of the gate's columns.

    ``g_k(x) = exp(b_k + v_k' z) / sum_l exp(b_l + v_l' z)`` with z the columns
    standardised by their weighted mean and deviation. In each pass of EM the
    coefficients take one damped Newton step towards the responsibilities
    (generalised EM: at the current point this objective and the likelihood have
    the same gradient, so going on to its maximum gains nothing).

    Parameters
    ----------
    alpha : float, default=0.03
        Ridge on the slopes of the standardised columns, never on intercepts:
        the log prior is ``-alpha / 2 * sum_k |v_k|^2``. It keeps separated gates
        finite. ``alpha=0`` is maximum likelihood.
    solver : {"auto", "newton", "bound", "lbfgs"}, default="auto"
        "newton" solves for all (n_experts - 1) * n_columns coefficients at
        once; "bound" climbs the Boehning-Lindsay bound of the Hessian, whose
        factor has one row a column; "lbfgs" forms no gram. "auto" takes the
        first whose system is small enough.

    Attributes
    ----------
    coef_ : array of shape (n_experts, n_features)
        Slopes on the scale of the user's columns. Rows of coefficients are
        centred: only their differences matter.
    intercept_ : array of shape (n_experts,)

    References
    ----------
    Jordan, M. I. and Jacobs, R. A. (1994). Hierarchical mixtures of experts
    and the EM algorithm. Neural Computation 6.
    Boehning, D. and Lindsay, B. G. (1988). Monotonicity of quadratic
    approximation algorithms. Ann. Inst. Statist. Math. 40.
    """

    exact_m_step = True

    def __init__(self, alpha=0.03, *, solver="auto"):
        self.alpha = alpha
        self.solver = solver

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def prepare(self, X, weight, n_experts):
        """Fix the scales of the columns and start from equal probabilities.

        Raises
        ------
        ValueError
            If alpha is negative or the solver is unknown.
        """
        self.check_parameters()
        self.design_ = Design(X, weight)
        self.kernel_ = self.make_kernel(self.design_, n_experts)

    def check_parameters(self):
        """Raise a ValueError that names the first bad constructor argument."""
        if not (np.isreal(self.alpha) and self.alpha >= 0):
            raise ValueError(
                f"SoftmaxGate: alpha must be a number >= 0, got {self.alpha!r}."
            )
        known = ("auto", "newton", "bound", "lbfgs")
        if self.solver not in known:
            raise ValueError(
                f"SoftmaxGate: solver must be one of {known}, got {self.solver!r}."
            )

    def make_kernel(self, design, n_experts):
        """Return the gate's numerics for a design, all coefficients zero."""
        solver = self.choose_solver(design.n_columns, n_experts)
        return SoftmaxKernel(n_experts, design.penalised, self.alpha, solver)

    def choose_solver(self, n_columns, n_experts):
        """Return the solver that "auto" stands for at this size."""
        if self.solver != "auto":
            return self.solver
        if (n_experts - 1) * n_columns <= MAX_NEWTON_PARAMETERS:
            return "newton"
        return "bound" if n_columns <= MAX_GRAM_COLUMNS else "lbfgs"

    @property
    def n_parameters(self):
        """Free coefficients: (n_experts - 1) * (n_features + 1)."""
        n_experts, n_columns = self.kernel_.coef.shape
        return (n_experts - 1) * n_columns

    @property
    def penalty(self):
        """Log prior density of the slopes, up to a constant."""
        return self.kernel_.penalty

    @property
    def parameters(self):
        """Coefficients on the standardised columns, as one vector."""
        return self.kernel_.parameters

    @parameters.setter
    def parameters(self, value):
        self.kernel_.parameters = value

    @property
    def coef_(self):
        """Slopes on the scale of the user's columns."""
        return self.design_.to_columns(self.kernel_.coef)[0]

    @property
    def intercept_(self):
        """Intercepts that go with ``coef_``."""
        return self.design_.to_columns(self.kernel_.coef)[1]

    def m_step(self, X, resp, weight):
        """Take one damped Newton (or bound, or L-BFGS) step towards resp."""
        solver = self.choose_solver(self.design_.n_columns, resp.shape[1])
        if solver == "lbfgs":
            self._lbfgs_step(X, resp, weight)
            return
        kernel = self.kernel_
        start = self._accumulate(X, resp, weight) + kernel.penalty
        kernel.propose()
        slope = float((kernel.gradient * kernel.direction).sum())
        fraction = 1.0
        for _ in range(12):
            kernel.move(fraction)
            if self._objective(X, resp, weight) >= start + 1e-4 * fraction * slope:
                return
            fraction *= 0.5
        kernel.move(0.0)

    def log_proba(self, X):
        """Return log gate probabilities of shape (n_samples, n_experts)."""
        logit = self.design_.linear_map(self.kernel_.coef, X)
        return log_softmax_first(logit.T)[0].T

    def log_joint(self, X):
        """Return what the E-step adds: the log gate probabilities."""
        return self.log_proba(X)

    def _accumulate(self, X, resp, weight):
        """Sum gradient and grams over all rows; return the cross-entropy."""
        kernel, p = self.kernel_, self.design_.n_columns
        half_grams = np.zeros((p * (p + 1) // 2, kernel.n_gram_rows))
        score = np.zeros((p, kernel.n_experts))
        value = 0.0
        for rows in row_blocks(X.shape[0]):
            design = self.design_.block(X, rows)
            log_gate = kernel.log_proba(design)
            weighted = resp[rows].T * weight[rows]
            value += float((weighted * log_gate).sum())
            gram_rows = np.empty((kernel.n_gram_rows, design.shape[1]))
            score_rows = np.empty((kernel.n_experts, design.shape[1]))
            kernel.fill(gram_rows, score_rows, weighted, weight[rows])
            half_grams += half_products(design) @ gram_rows.T
            score += design @ score_rows.T
        kernel.take(half_grams, score, weight.sum())
        return value

    def _objective(self, X, resp, weight):
        """Return the penalised cross-entropy at the current coefficients."""
        value = weight @ (resp * self.log_proba(X)).sum(axis=1)
        return float(value) + self.kernel_.penalty

    def _lbfgs_step(self, X, resp, weight):
        """Take a few L-BFGS iterations; for designs too wide for a gram."""
        design, kernel = self.design_, self.kernel_

        def negative(vector):
            kernel.parameters = vector
            log_gate = self.log_proba(X)
            value = float(weight @ (resp * log_gate).sum(axis=1)) + kernel.penalty
            error = (resp - np.exp(log_gate)) * weight[:, None]
            total = error.sum(axis=0)
            slope = (X.T @ error).T - total[:, None] * design.center
            gradient = np.column_stack([total, slope * design.inverse_scale])
            return -value, (kernel.ridge * kernel.coef - gradient).ravel()

        result = optimize.minimize(
            negative,
            kernel.parameters,
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": 10},
        )
        kernel.parameters = result.x
