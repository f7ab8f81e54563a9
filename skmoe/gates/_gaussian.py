"""The localised gate: each expert owns a Gaussian region of x."""

import numpy as np
from scipy import sparse
from scipy.special import log_softmax
from sklearn.base import BaseEstimator

from skmoe._blocks import blocks_of, row_blocks
from skmoe._multinomial import log_softmax_first
from skmoe._xp import empty, is_foreign, like, namespace, to_numpy
from skmoe.gates._constant import (
    SMALLEST_SHARE,
    check_number,
    check_prepared,
    check_resp,
    log_shares,
)
from skmoe.gates._covariance import COVARIANCES, CovariancePrior
from skmoe.gates._missing import PartialRows, observed_design

__all__ = ["GaussianGate"]

LOG_2PI = float(np.log(2.0 * np.pi))

# Farther out, in standard deviations of a column, squares would overflow.
MAX_STANDARD = 1e100

# Floats in the largest temporary array of a block.
BLOCK_FLOATS = 1 << 19


class GaussianGate(BaseEstimator):
    """Gate with one Gaussian region of x for each expert.

    The localised gate of Xu, Jordan & Hinton [1]_:

        g_k(x) = a_k N(x; m_k, S_k) / sum_l a_l N(x; m_l, S_l).

    The mixture then models x as well as y, and the M-step has a closed form:
    with responsibilities r, sample weights w and ``N_k = sum_i w_i r_ik``,

        a_k = N_k / sum_l N_l,   m_k = sum_i w_i r_ik x_i / N_k,
        S_k = (sum_i w_i r_ik (x_i - m_k)(x_i - m_k)' + c T) / (N_k + c)

    where the prior on S_k counts for c = `prior_rows` rows whose covariance T
    is diagonal: the overall variances times ``n_experts ** (-2 / n_columns)``,
    the share of the volume that each expert has if they divide it evenly [2]_.

    Columns are standardised inside; densities are those of x in its own units.
    A column that does not vary says nothing about where a row is and is left
    out.

    Missing values (NaN) are integrated out: the density of a row is that of the
    columns that it shows, ``N(x_o; m_k,o, S_k,oo)``, and a row that shows none goes
    to expert k with probability a_k. The M-step then takes the expectations of the
    missing values and of their products under each expert's current Gaussian [3]_;
    it is a step of EM in itself, and raises the objective instead of maximising it.

    Parameters
    ----------
    covariance : {"full", "diag", "tied"}, default="full"
        One matrix for each expert, one diagonal matrix for each, or a single
        matrix for all. Tied covariances give a softmax linear in x.
    reg : float, default=1e-6
        Smallest eigenvalue of a covariance of the standardised columns.
    prior_rows : float, default=None
        Rows that the prior on each covariance counts for, 0 for none. ``None``
        takes the number of columns plus 2 ("full", "tied"), or 3 ("diag").

    Attributes
    ----------
    log_weight_ : ndarray of shape (n_experts,)
        Logs of the a_k.
    weights_ : ndarray of shape (n_experts,)
        The a_k, which sum to 1.
    means_ : ndarray of shape (n_experts, n_features)
        The m_k, in the units of X.
    covariances_ : ndarray of shape (n_experts, n_features, n_features)
        The S_k, in products of the units of X; zero for constant columns.

    References
    ----------
    .. [1] L. Xu, M. I. Jordan, G. E. Hinton, "An alternative model for mixtures
       of experts", Advances in Neural Information Processing Systems 7, 1995.
    .. [2] C. Fraley, A. E. Raftery, "Bayesian regularization for normal mixture
       estimation and model-based clustering", Journal of Classification 24,
       2007.
    .. [3] Z. Ghahramani, M. I. Jordan, "Supervised learning from incomplete data
       via an EM approach", Advances in Neural Information Processing Systems 6,
       1994.

    Examples
    --------
    >>> import numpy as np
    >>> from skmoe.gates import GaussianGate
    >>> X, weight = np.array([[0.0], [1.0], [8.0], [9.0]]), np.ones(4)
    >>> gate = GaussianGate()
    >>> gate.prepare(X, weight, n_experts=2)
    >>> gate.m_step(X, np.array([[1.0, 0], [1, 0], [0, 1], [0, 1]]), weight)
    >>> gate.means_.ravel()
    array([0.5, 8.5])
    """

    exact_m_step = True
    generative = True
    array_api = True

    def __init__(self, covariance="full", reg=1e-6, prior_rows=None):
        self.covariance = covariance
        self.reg = reg
        self.prior_rows = prior_rows

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def prepare(self, X, weight, n_experts):
        """Fix scales and prior; start with equal regions around the mean.

        Raises
        ------
        TypeError
            If X is sparse.
        ValueError
            If a parameter is out of range, or a column missing in every row.
        """
        if self.covariance not in COVARIANCES:
            raise ValueError(
                f"GaussianGate: covariance must be one of {sorted(COVARIANCES)}, "
                f"got {self.covariance!r}."
            )
        floor = check_number("GaussianGate: reg", self.reg, strict=True)
        _check_dense(X)
        self._design = observed_design(X, weight)
        self._kept = np.flatnonzero(self._design.inverse_scale)
        n_columns = self._kept.size
        rows = self._prior_rows(n_columns)
        scale = float(n_experts) ** (-2.0 / max(n_columns, 1))
        prior = CovariancePrior(rows, max(scale, floor), floor)
        self._spread = COVARIANCES[self.covariance](n_experts, n_columns, prior)
        self._mean = np.zeros((n_experts, n_columns))
        self.log_weight_ = np.full(n_experts, -np.log(n_experts))

    def _prior_rows(self, n_columns):
        if self.prior_rows is None:
            return 3.0 if self.covariance == "diag" else n_columns + 2.0
        return check_number("GaussianGate: prior_rows", self.prior_rows)

    def m_step(self, X, resp, weight):
        """Set weights, means and covariances to their mode in closed form.

        Given the expectations of what is missing, where values are missing.
        """
        self._check(X)
        check_resp(X, resp, weight, self.log_weight_.size)
        sums = self._weighted_sums(X, resp, weight)
        count = sums[0]
        self.log_weight_ = log_shares(count)
        # The quotient of two sums without weight is noise: such an expert
        # keeps its mean, and its covariance falls back on the prior.
        lost = count <= SMALLEST_SHARE * count.sum()
        sums[:, lost] = 0.0
        n_columns = self._kept.size
        mean = sums[1 : 1 + n_columns].T / np.where(lost, 1.0, count)[:, None]
        mean[lost] = self._mean[lost]
        self._mean = mean
        self._spread.fit(count, mean, sums)

    def _weighted_sums(self, X, resp, weight):
        """Return each expert's weighted sums of 1, z and products of z."""
        total = 0.0
        n_columns = 1 + self._kept.size
        for rows in self._blocks(X, n_columns * n_columns):
            design = self._standard(X, rows)
            mass = weight[rows, None] * resp[rows, :]
            holes = _holes(design)
            if holes is not None:
                partial = PartialRows(design[1:, holes])
                expected = self._spread.expected_sums(partial, self._mean, mass[holes])
                total = total + expected
                design, mass = design[:, ~holes], mass[~holes]
            total = total + self._spread.weighted_sums(design, mass)
        return to_numpy(total)

    def _blocks(self, X, floats_per_row):
        if is_foreign(X):
            return blocks_of(X, 4 * (floats_per_row + X.shape[1]))
        size = min(max(BLOCK_FLOATS // floats_per_row, 64), 4096)
        return row_blocks(X.shape[0], size)

    def _standard(self, X, rows):
        """Return ones and the standardised columns, (1 + n_columns, n_rows)."""
        with np.errstate(over="ignore"):
            block = self._design.block(X, rows)
        if is_foreign(block):
            block = namespace(block).clip(block, -MAX_STANDARD, MAX_STANDARD)
        else:
            np.clip(block, -MAX_STANDARD, MAX_STANDARD, out=block)
        if self._kept.size == self._design.center.size:
            return block
        kept = np.concatenate([[0], 1 + self._kept])
        return namespace(block).take(block, like(block, kept), axis=0)

    def log_proba(self, X):
        """Return log gate probabilities of shape (n_samples, n_experts)."""
        self._check(X)
        return self._map(X, normalise=True)

    def log_joint(self, X):
        """Return ``log(a_k N(x; m_k, S_k))`` in nats.

        Returns
        -------
        log_joint : ndarray of shape (n_samples, n_experts)
            Densities are per unit of each column of X that varies, of those that a
            row shows.
        """
        self._check(X)
        return self._map(X)

    def _map(self, X, *, normalise=False):
        """Return log joint densities, or log probabilities, in blocks.

        Normalised within a block, experts first: sums over a short last axis
        would take longer than the distances.
        """
        n_experts = self.log_weight_.size
        out = empty(X, (X.shape[0], n_experts))
        for rows in self._blocks(X, n_experts * max(self._kept.size, 1)):
            z = self._standard(X, rows)[1:, :]
            holes = _holes(z)
            if holes is not None:
                value = np.empty((n_experts, z.shape[1]))
                value[:, ~holes] = self._complete(z[:, ~holes], normalise)
                value[:, holes] = self._partial(PartialRows(z[:, holes]), normalise)
            else:
                value = self._complete(z, normalise)
            out[rows, :] = log_softmax_first(value)[0].T if normalise else value.T
        return out

    def _complete(self, z, normalise):
        """Return log joint densities, or logits, of rows without holes."""
        constant = self.log_weight_ - 0.5 * self._spread.log_det
        if normalise:
            distance = self._spread.contrast(z, self._mean)
        else:
            log_unit = np.log(self._design.inverse_scale[self._kept]).sum()
            constant = constant + log_unit - 0.5 * self._kept.size * LOG_2PI
            distance = self._spread.distance(z, self._mean)
        return like(z, constant[:, None]) - 0.5 * distance

    def _partial(self, partial, normalise):
        """Return the same of rows with holes."""
        constant = self.log_weight_[:, None]
        if normalise:
            return constant - 0.5 * self._spread.partial_contrast(partial, self._mean)
        log_unit = np.log(self._design.inverse_scale[self._kept]) - 0.5 * LOG_2PI
        distance = self._spread.partial_distance(partial, self._mean)
        return constant - 0.5 * distance + log_unit @ partial.observed

    def _check(self, X):
        check_prepared(self, "log_weight_")
        _check_dense(X)
        expected = self._design.center.size
        if X.shape[1] != expected:
            raise ValueError(
                f"GaussianGate was prepared with {expected} columns, got {X.shape[1]}."
            )

    @property
    def weights_(self):
        """Shares a_k of shape (n_experts,)."""
        check_prepared(self, "log_weight_")
        return np.exp(self.log_weight_)

    @property
    def means_(self):
        """Means m_k of shape (n_experts, n_features), in the units of X."""
        check_prepared(self, "log_weight_")
        center = self._design.center
        means = np.tile(center, (self.log_weight_.size, 1))
        means[:, self._kept] += self._mean / self._design.inverse_scale[self._kept]
        return means

    @property
    def covariances_(self):
        """Covariances S_k of shape (n_experts, n_features, n_features)."""
        check_prepared(self, "log_weight_")
        n_experts, n_features = self.log_weight_.size, self._design.center.size
        scale = 1.0 / self._design.inverse_scale[self._kept]
        out = np.zeros((n_experts, n_features, n_features))
        inner = self._spread.matrices(n_experts) * scale[:, None] * scale
        out[:, self._kept[:, None], self._kept] = inner
        return out

    def linear_form(self):
        """Return slopes and intercepts of the softmax that a tied gate is.

        Returns
        -------
        slope : ndarray of shape (n_experts, n_features)
            ``S^-1 m_k``, per unit of each column of X.
        intercept : ndarray of shape (n_experts,)

        Raises
        ------
        ValueError
            If the covariance is not tied: the log odds are then quadratic.
        """
        check_prepared(self, "log_weight_")
        if self.covariance != "tied":
            raise ValueError(
                "only covariance='tied' gives a gate linear in x, "
                f"got covariance={self.covariance!r}."
            )
        standard, intercept = self._spread.linear_form(self._mean)
        coef = np.zeros((self.log_weight_.size, self._design.n_columns))
        coef[:, 0] = self.log_weight_ + intercept
        coef[:, 1 + self._kept] = standard
        return self._design.to_columns(coef)

    @property
    def penalty(self):
        """Log density of the prior on the covariances, up to a constant."""
        check_prepared(self, "log_weight_")
        return self._spread.penalty

    @property
    def n_parameters(self):
        """Free parameters: shares, means and covariances."""
        check_prepared(self, "log_weight_")
        return self.log_weight_.size - 1 + self._mean.size + self._spread.n_parameters

    @property
    def parameters(self):
        """Centred log shares, standardised means, log-Cholesky factors, flat."""
        check_prepared(self, "log_weight_")
        centred = self.log_weight_ - self.log_weight_.mean()
        return np.concatenate([centred, self._mean.ravel(), self._spread.vector])

    @parameters.setter
    def parameters(self, value):
        check_prepared(self, "log_weight_")
        value = np.asarray(value, dtype=float)
        n_experts, n_means = self.log_weight_.size, self._mean.size
        expected = n_experts + n_means + self._spread.n_parameters
        if value.shape != (expected,) or not np.isfinite(value).all():
            raise ValueError(
                f"parameters of GaussianGate must be {expected} finite numbers, "
                f"got {value!r}."
            )
        self.log_weight_ = log_softmax(value[:n_experts])
        middle = value[n_experts : n_experts + n_means]
        self._mean = middle.reshape(self._mean.shape).copy()
        self._spread.vector = value[n_experts + n_means :]


def _holes(columns):
    """Return which rows of a block lack a value; None where none does."""
    if is_foreign(columns):
        return None  # gaps are filled in NumPy alone
    holes = np.isnan(columns).any(axis=0)
    return holes if holes.any() else None


def _check_dense(X):
    if sparse.issparse(X):
        raise TypeError(
            "GaussianGate needs a dense X, got a sparse one: give it dense "
            "columns, or use SoftmaxGate."
        )
