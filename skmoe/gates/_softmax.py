"""The softmax gate: a multinomial logit fitted to responsibilities."""

from numbers import Real

import numpy as np
from scipy import optimize
from sklearn.base import BaseEstimator

from skmoe._blocks import Design, blocks_of, weighted_grams
from skmoe._elastic import shifted
from skmoe._multinomial import log_softmax_first
from skmoe._xp import empty, floats, namespace, to_numpy, total, zeros
from skmoe.gates._softmax_kernel import SoftmaxKernel

__all__ = ["SoftmaxGate", "SoftmaxKernel"]

# Newton's system has (n_experts - 1) * n_columns unknowns. Measured: up to here
# a Newton pass costs less than the passes that a fixed bound needs instead.
MAX_NEWTON_PARAMETERS = 600
# Above this many columns not even one gram is formed.
MAX_GRAM_COLUMNS = 1500


class SoftmaxGate(BaseEstimator):
    """Softmax of linear functions of the gate's columns.

    ``g_k(x) = exp(b_k + v_k' z) / sum_l exp(b_l + v_l' z)`` with z the columns
    standardised by their weighted mean and deviation. In each pass of EM the
    coefficients take one damped Newton step towards the responsibilities
    (generalised EM: at the current point this objective and the likelihood have
    the same gradient, so going on to its maximum gains nothing).

    With ``l1_ratio > 0`` slopes become exactly zero: columns leave the gate. The
    step is then that of proximal Newton (see `skmoe._elastic`). The vectors v_k of
    all experts are kept. A number added to the slopes of a column for all experts
    changes no probability; of these the penalty takes the smallest, so that with
    ``l1_ratio=1`` zero is a median of each column's slopes.

    Parameters
    ----------
    alpha : float, default=0.03
        Penalty on the slopes of the standardised columns, never on intercepts.
        The log prior is ``-alpha sum_k (l1_ratio |v_k|_1 + (1 - l1_ratio) / 2
        |v_k|^2)``, in nats. It keeps separated gates finite. ``alpha=0`` is maximum
        likelihood.
    l1_ratio : float, default=0.0
        Share of the L1 norm in the penalty: 0 is ridge, 1 the lasso. To drop
        columns alpha must be of the order of the square root of the number of
        rows.
    solver : {"auto", "newton", "bound", "lbfgs"}, default="auto"
        "newton" solves for all (n_experts - 1) * n_columns coefficients at
        once; "bound" climbs the Boehning-Lindsay bound of the Hessian, whose
        factor has one row a column; "lbfgs" forms no gram. "auto" takes the
        first whose system is small enough.

    Attributes
    ----------
    coef_ : array of shape (n_experts, n_features)
        Slopes on the scale of the user's columns. Only the differences between
        experts matter: without L1 penalty they sum to zero over experts.
    intercept_ : array of shape (n_experts,)

    References
    ----------
    Jordan, M. I. and Jacobs, R. A. (1994). Hierarchical mixtures of experts
    and the EM algorithm. Neural Computation 6.
    Boehning, D. and Lindsay, B. G. (1988). Monotonicity of quadratic
    approximation algorithms. Ann. Inst. Statist. Math. 40.
    Zou, H., Hastie, T. and Tibshirani, R. (2007). On the "degrees of freedom" of
    the lasso. Ann. Statist. 35.
    """

    exact_m_step = True
    array_api = True

    def __init__(self, alpha=0.03, *, l1_ratio=0.0, solver="auto"):
        self.alpha = alpha
        self.l1_ratio = l1_ratio
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
            If alpha or l1_ratio is out of range, or the solver unknown.
        """
        self.check_parameters()
        self.design_ = Design(X, weight)
        self.kernel_ = self.make_kernel(self.design_, n_experts)

    def check_parameters(self):
        """Raise a ValueError that names the first bad constructor argument."""
        if not (isinstance(self.alpha, Real) and 0 <= self.alpha < np.inf):
            raise ValueError(
                f"SoftmaxGate: alpha must be a number >= 0, got {self.alpha!r}."
            )
        if not (isinstance(self.l1_ratio, Real) and 0 <= self.l1_ratio <= 1):
            raise ValueError(
                "SoftmaxGate: l1_ratio must be a number from 0 (ridge) to 1 (lasso), "
                f"got {self.l1_ratio!r}."
            )
        known = ("auto", "newton", "bound", "lbfgs")
        if self.solver not in known:
            raise ValueError(
                f"SoftmaxGate: solver must be one of {known}, got {self.solver!r}."
            )

    def make_kernel(self, design, n_experts):
        """Return the gate's numerics for a design, all coefficients zero."""
        solver = self.choose_solver(design.n_columns, n_experts)
        penalty = (self.alpha, solver, self.l1_ratio)
        return SoftmaxKernel(n_experts, design.penalised, *penalty)

    def choose_solver(self, n_columns, n_experts):
        """Return the solver that "auto" stands for at this size."""
        if self.solver != "auto":
            return self.solver
        if (n_experts - 1) * n_columns <= MAX_NEWTON_PARAMETERS:
            return "newton"
        return "bound" if n_columns <= MAX_GRAM_COLUMNS else "lbfgs"

    @property
    def smooth(self):
        """Whether the penalty has no L1 part; see `SoftmaxKernel`."""
        return self.kernel_.smooth

    @property
    def n_parameters(self):
        """Free coefficients: (n_experts - 1) * (n_features + 1).

        With an L1 penalty only slopes that are not zero count, at most
        n_experts - 1 a column: the degrees of freedom of the lasso (Zou, Hastie &
        Tibshirani 2007).
        """
        kernel = self.kernel_
        n_free = np.full(kernel.coef.shape[1], kernel.n_experts - 1)
        if not kernel.smooth:
            n_used = np.count_nonzero(kernel.coef, axis=0)
            n_free = np.where(kernel.lasso > 0, np.minimum(n_used, n_free), n_free)
        return int(n_free.sum())

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
        fraction, slope = 1.0, kernel.slope
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
        half_grams = zeros(weight, (p * (p + 1) // 2, kernel.n_gram_rows))
        score = zeros(weight, (p, kernel.n_experts))
        value, xp = 0.0, namespace(X)
        width = half_grams.shape[0] + kernel.n_gram_rows + 4 * kernel.n_experts + p
        for rows in blocks_of(X, width):
            design = self.design_.block(X, rows)
            log_gate = kernel.log_proba(design)
            weighted = resp[rows, :].T * weight[rows]
            value = value + xp.sum(weighted * log_gate)
            gram_rows = empty(weight, (kernel.n_gram_rows, design.shape[1]))
            score_rows = empty(weight, (kernel.n_experts, design.shape[1]))
            kernel.fill(gram_rows, score_rows, weighted, weight[rows])
            if kernel.n_gram_rows:
                half_grams += weighted_grams(design, gram_rows)
            score += design @ score_rows.T
        kernel.take(to_numpy(half_grams), to_numpy(score), total(weight))
        return float(value)

    def _objective(self, X, resp, weight):
        """Return the penalised cross-entropy at the current coefficients."""
        return self._cross_entropy(self.log_proba(X), resp, weight) + self.penalty

    def _cross_entropy(self, log_gate, resp, weight):
        """Return ``sum(weight * resp * log_gate)``."""
        return float(weight @ namespace(resp).sum(resp * log_gate, axis=1))

    def _lbfgs_step(self, X, resp, weight):
        """Take a few L-BFGS iterations; for designs too wide for a gram.

        With an L1 penalty the variables are the positive and the negative parts of
        the coefficients, with bounds at zero: in these the penalty is linear.
        """
        kernel = self.kernel_
        shape, cost = kernel.coef.shape, kernel.lasso

        def negative(vector):
            kernel.parameters = vector
            value, gradient = self._smooth_part(X, resp, weight)
            return -value, -gradient.ravel()

        def negative_of_parts(vector):
            up, down = vector.reshape(2, *shape)
            value, gradient = negative(up - down)
            gradient = gradient.reshape(shape)
            both = np.stack([cost + gradient, cost - gradient])
            return value + float(((up + down) @ cost).sum()), both.ravel()

        start, bounds = kernel.coef, None
        if not kernel.smooth:
            start = np.maximum(np.stack([start, -start]), 0.0)
            low = np.where(np.tile(cost > 0, 2 * shape[0]), 0.0, -np.inf)
            bounds = optimize.Bounds(low)
        found = optimize.minimize(
            negative if kernel.smooth else negative_of_parts,
            start.ravel(),
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            options={"maxiter": 10},
        ).x
        if kernel.smooth:
            kernel.parameters = found
        else:
            up, down = found.reshape(2, *shape)
            kernel.coef = shifted(up - down, kernel.ridge, cost)

    def _smooth_part(self, X, resp, weight):
        """Return cross-entropy and ridge at the coefficients, and the gradient."""
        design, kernel, xp = self.design_, self.kernel_, namespace(resp)
        log_gate = self.log_proba(X)
        value = self._cross_entropy(log_gate, resp, weight)
        error = (resp - xp.exp(log_gate)) * weight[:, None]
        sums = to_numpy(xp.sum(error, axis=0))
        slope = to_numpy((floats(X).T @ error).T) - sums[:, None] * design.center
        gradient = np.column_stack([sums, slope * design.inverse_scale])
        ridge = kernel.ridge * kernel.coef
        return value - 0.5 * float((kernel.coef * ridge).sum()), gradient - ridge
