"""The linear expert: ridge regression with Gaussian noise, in closed form."""

import copy

import numpy as np
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from skmoe._blocks import Design, blocks_of, weighted_grams
from skmoe._sklearn import check_sample_weight
from skmoe._xp import empty, floats, is_foreign, namespace, to_numpy, zeros
from skmoe.experts._contributions import linear_contributions
from skmoe.experts._linear_kernel import LinearKernel
from skmoe.experts._linear_prior import LinearPrior
from skmoe.experts._row_derivatives import GaussianDerivatives
from skmoe.likelihoods import Gaussian

__all__ = ["LinearExpert"]


class LinearExpert(
    GaussianDerivatives, MultiOutputMixin, RegressorMixin, BaseEstimator
):
    """Linear regression with Gaussian noise, fitted by weighted least squares.

    ``p(y | x) = N(y; B z, S)`` with z the columns standardised by their weighted
    mean and deviation. As an expert its coefficients are shrunk towards one fit
    of all rows: the log prior is ``-alpha / (2 s2) |b - b_all|^2`` for noise
    variance s2, so alpha counts in rows. A region with few rows then bends to
    the global fit instead of extrapolating on its own. (The global fit carries a
    ridge of ``min(alpha, 1)`` around zero.)

    Parameters
    ----------
    alpha : float, default=2.0
        Ridge on the slopes of the standardised columns, never on the intercept.
        ``alpha=0`` is maximum likelihood.
    covariance : {"full", "diag"}, default="full"
        Noise covariance of several outputs.
    fit_intercept : bool, default=True
    variance_prior : tuple (rows, fraction) or None, default=(5.0, 0.05)
        Inverse-gamma prior on the variance, worth ``rows`` rows whose squared
        residual is ``fraction`` of the variance of y. Without it (``None``) the
        likelihood of a mixture is unbounded: an expert may settle on a few
        rows that it fits exactly. A floor of 1e-10 of the variance of y remains.

    Attributes
    ----------
    coef_ : array of shape (n_features,) or (n_outputs, n_features)
        Slopes on the scale of the user's columns.
    intercept_ : float or array of shape (n_outputs,)
    dispersion : float or array
        Noise variance, of shape () for one output, (n_outputs,) for "diag", or
        (n_outputs, n_outputs); same unit as y squared.

    References
    ----------
    Bishop, C. M. (2006). Pattern Recognition and Machine Learning, 14.5.1.
    """

    exact_m_step = True
    array_api = True
    likelihood = Gaussian()

    def __init__(
        self,
        alpha=2.0,
        *,
        covariance="full",
        fit_intercept=True,
        variance_prior=(5.0, 0.05),
    ):
        self.alpha = alpha
        self.covariance = covariance
        self.fit_intercept = fit_intercept
        self.variance_prior = variance_prior

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def fit(self, X, y, sample_weight=None):
        """Fit to weighted rows.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        self : LinearExpert
        """
        X, y = validate_data(
            self,
            X,
            y,
            accept_sparse="csr",
            dtype=np.float64,
            multi_output=True,
            y_numeric=True,
        )
        weight = check_sample_weight(sample_weight, X)
        keep = weight > 0
        if not keep.all():
            X, y, weight = X[keep], y[keep], weight[keep]
        self.prepare(X, y, weight)
        self.m_step(X, y, weight)
        return self

    def predict(self, X):
        """Return the mean of y, of shape (n_samples,) or (n_samples, n_outputs)."""
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", dtype=np.float64, reset=False)
        return self.predict_params(X)

    # -- the Expert protocol ---------------------------------------------------

    def prepare(self, X, y, weight, n_classes=None):
        """Fix scales, the global fit that is the anchor, and the variance prior.

        Raises
        ------
        ValueError
            If alpha is negative, or covariance or variance_prior are unknown.
        """
        self.check_parameters()
        self.design_ = Design(X, weight, intercept=self.fit_intercept)
        self.single_output_ = y.ndim == 1
        prior = LinearPrior(self, self.design_, X, _rows_first(y), weight)
        self.kernel_ = LinearKernel(1, prior)

    def features(self, X):
        """Return the columns of X that enter the mean: all."""
        return X

    def kernel_rows(self, X, y):
        """Return what the kernel gets as y, of shape (n_outputs, n_samples)."""
        return _rows_first(y)

    def start_target(self, X, y):
        """Return y on the scale of the linear predictor, (n_samples, n_outputs)."""
        return namespace(y).reshape(y, (y.shape[0], -1))

    def make_kernel(self, n_experts, shared=False):
        """Return a kernel of several experts around this one's prior.

        Parameters
        ----------
        n_experts : int
        shared : bool
            Whether their variances are tied.
        """
        prior = copy.copy(self.kernel_.prior)
        prior.shared = shared
        return LinearKernel(n_experts, prior)

    def check_parameters(self):
        """Raise a ValueError that names the first bad constructor argument."""
        if not (np.isreal(self.alpha) and self.alpha >= 0):
            raise ValueError(
                f"LinearExpert: alpha must be a number >= 0, got {self.alpha!r}."
            )
        if self.covariance not in ("full", "diag"):
            raise ValueError(
                "LinearExpert: covariance must be 'full' or 'diag', got "
                f"{self.covariance!r}."
            )
        prior = self.variance_prior
        if prior is not None and (len(prior) != 2 or min(prior) < 0):
            raise ValueError(
                "LinearExpert: variance_prior must be None or two numbers >= 0, "
                f"(rows, fraction), got {prior!r}."
            )

    def m_step(self, X, y, weight):
        """Solve for coefficients and variance under the weights, exactly."""
        self.m_step_together([""], [self], X, y, weight[None, :])

    @classmethod
    def m_step_together(cls, names, experts, X, y, weights):
        """Take the M-steps of `alike` experts in one pass over the rows.

        Parameters
        ----------
        names : list of str
        experts : list of LinearExpert
        X, y : arrays of n_samples rows
        weights : array of shape (n_experts, n_samples)
        """
        kernel, design = _stacked(experts), experts[0].design_
        p, y = design.n_columns, _rows_first(y)
        half_grams = zeros(weights, (p * (p + 1) // 2, len(experts)))
        score = zeros(weights, (p, kernel.n_score_rows))
        width = half_grams.shape[0] + 4 * kernel.n_score_rows + 3 * p
        for rows in blocks_of(X, width):
            block, weight = design.block(X, rows), weights[:, rows]
            kernel.log_prob(block, y[:, rows])
            gram_rows = empty(weights, (len(experts), block.shape[1]))
            score_rows = empty(weights, (kernel.n_score_rows, block.shape[1]))
            kernel.fill(gram_rows, score_rows, weight, None)
            half_grams += weighted_grams(block, gram_rows)
            score += block @ score_rows.T
        kernel.take(to_numpy(half_grams), to_numpy(score), None)
        kernel.propose()
        for expert, own in zip(experts, kernel.split(), strict=True):
            expert.kernel_ = own

    @classmethod
    def log_prob_together(cls, experts, X, y):
        """Return the log densities of `alike` experts, (n_experts, n_samples)."""
        kernel, design = _stacked(experts), experts[0].design_
        y = _rows_first(y)
        density = empty(y, (len(experts), X.shape[0]))
        for rows in blocks_of(X, 4 * kernel.n_score_rows + design.n_columns):
            density[:, rows] = kernel.log_prob(design.block(X, rows), y[:, rows])
        return density

    @classmethod
    def alike(cls, experts):
        """Return whether experts of the same rows differ in what they learned alone."""
        if len(experts) == 1 or not all(type(one) is LinearExpert for one in experts):
            return False
        settings = [
            (one.alpha, one.covariance, one.fit_intercept, one.variance_prior)
            for one in experts
        ]
        return all(one == settings[0] for one in settings)

    def log_prob(self, X, y):
        """Return the log density of each row in nats, of shape (n_samples,)."""
        return self.likelihood.log_prob(y, self.predict_params(X), self.dispersion)

    def predict_params(self, X):
        """Return the mean of each row."""
        mean = self.design_.linear_map(self.kernel_.coef[0], X)
        return mean[:, 0] if self.single_output_ else mean

    def contributions(self, X):
        """Share the predictions out among the columns.

        ``prediction = baseline + parts.sum(axis=1)`` with the parts
        ``coef_j * (x_j - center_j)``, centred at the columns' weighted means over
        the training rows (at zero for sparse columns, or without an intercept).

        Parameters
        ----------
        X : array of shape (n_samples, n_features)

        Returns
        -------
        contributions : Contributions
            ``baseline``, ``parts`` of shape (n_samples, n_features[, n_outputs]),
            in the unit of y, and ``rest``, which is zero.
        """
        return linear_contributions(self, X)

    @property
    def dispersion(self):
        """Noise variance, same unit as y squared."""
        variance = self.kernel_.variance[0]
        return float(variance[0]) if self.single_output_ else variance

    @dispersion.setter
    def dispersion(self, value):
        shape = self.kernel_.variance.shape
        self.kernel_.variance = np.array(value, dtype=float).reshape(shape)

    @property
    def collapsed(self):
        """Whether the variance lies at its floor."""
        kernel = self.kernel_
        return bool(kernel.prior.collapsed(kernel.variance)[0])

    @property
    def scatter(self):
        """Squared residuals with penalty and prior, before division by mass."""
        return np.asarray(self.dispersion) * self.mass

    @property
    def mass(self):
        """Weighted rows plus those that the variance prior is worth."""
        return float(self.kernel_.mass[0] + self.kernel_.prior.rows)

    @property
    def n_parameters(self):
        """Coefficients and free entries of the covariance."""
        n_outputs = self.kernel_.coef.shape[1]
        diagonal = self.kernel_.prior.diagonal
        spread = n_outputs if diagonal else n_outputs * (n_outputs + 1) // 2
        return self.kernel_.coef[0].size + spread

    @property
    def penalty(self):
        """Log prior of coefficients and variance, up to a constant."""
        return self.kernel_.penalty

    @property
    def parameters(self):
        """Coefficients on the standardised columns, then log variances."""
        return self.kernel_.parameters

    @parameters.setter
    def parameters(self, value):
        self.kernel_.parameters = value

    @property
    def coef_(self):
        """Slopes on the scale of the user's columns."""
        slope = self.design_.to_columns(self.kernel_.coef[0])[0]
        return slope[0] if self.single_output_ else slope

    @property
    def intercept_(self):
        """Intercept that goes with ``coef_``."""
        intercept = self.design_.to_columns(self.kernel_.coef[0])[1]
        return float(intercept[0]) if self.single_output_ else intercept


def _stacked(experts):
    """Return one kernel of several experts, ready for a pass."""
    kernel = copy.copy(experts[0].kernel_)
    kernel.n_experts = len(experts)
    kernel.coef = np.concatenate([one.kernel_.coef for one in experts])
    kernel.variance = np.concatenate([one.kernel_.variance for one in experts])
    kernel.reset()
    return kernel


def _rows_first(y):
    """Return y as an array of shape (n_outputs, n_samples)."""
    y = floats(y)
    if y.ndim == 1:
        return y[None, :]
    return y.T if is_foreign(y) else np.ascontiguousarray(y.T)
