"""The logistic expert: ridge multinomial logistic regression, Newton by Newton."""

from numbers import Real

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from skmoe._blocks import Design
from skmoe._multinomial import log_softmax_first
from skmoe._sklearn import check_sample_weight
from skmoe._xp import is_foreign, namespace, to_numpy
from skmoe.experts._contributions import linear_contributions
from skmoe.experts._logistic_kernel import LogisticKernel
from skmoe.experts._newton import NewtonSteps
from skmoe.experts._row_derivatives import LogitDerivatives
from skmoe.likelihoods import Categorical

__all__ = ["LogisticExpert"]


class LogisticExpert(LogitDerivatives, NewtonSteps, ClassifierMixin, BaseEstimator):
    """Multinomial logistic regression, fitted by weighted damped Newton steps.

    ``p(c | x) = exp(b_c' z) / sum_d exp(b_d' z)`` with z the columns standardised
    by their weighted mean and deviation. As an expert its coefficients are
    shrunk towards one fit of all rows, with log prior
    ``-alpha / 2 |b - b_all|^2``; that fit carries a ridge of ``min(alpha, 1)``
    around zero.

    Parameters
    ----------
    alpha : float or "auto", default="auto"
        Ridge on the slopes of the standardised columns, never on intercepts.
        ``alpha=0`` is maximum likelihood. "auto": in a mixture of such experts
        the strongest of a few ridges, from 1 to 1000, whose held-out log score
        is within a standard error of the best (and the default gate's with it);
        1 for an expert alone.
    max_iter : int, default=100
        Newton steps of ``fit``. Inside a mixture each pass of EM takes one.
    tol : float, default=1e-8
        ``fit`` stops when a step gains less, relative to the objective.

    Attributes
    ----------
    classes_ : array of shape (n_classes,)
    coef_ : array of shape (n_classes, n_features)
        Slopes on the scale of the user's columns; they sum to zero over classes.
    intercept_ : array of shape (n_classes,)
    n_iter_ : int
        Newton steps of ``fit``.
    """

    exact_m_step = True
    array_api = True
    likelihood = Categorical()
    dispersion = None

    def __init__(self, alpha="auto", *, max_iter=100, tol=1e-8):
        self.alpha = alpha
        self.max_iter = max_iter
        self.tol = tol

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def fit(self, X, y, sample_weight=None):
        """Fit to weighted rows.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
        y : array-like of shape (n_samples,)
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        self : LogisticExpert

        Raises
        ------
        ValueError
            If y holds a single class, or an argument is out of range.
        """
        X, y = validate_data(self, X, y, accept_sparse="csr", dtype=np.float64)
        check_classification_targets(y)
        weight = check_sample_weight(sample_weight, X)
        keep = weight > 0
        X, y, weight = X[keep], y[keep], weight[keep]
        self.classes_, codes = np.unique(y, return_inverse=True)
        if self.classes_.size < 2:
            raise ValueError(
                "LogisticExpert needs at least two classes in y, got one class: "
                f"{self.classes_.tolist()[0]!r}."
            )
        self.prepare(X, codes, weight, self.classes_.size)
        self.n_iter_ = self.fit_alone(X, codes, weight)
        return self

    def predict(self, X):
        """Return the most probable class of each row."""
        proba = self.predict_proba(X)
        return self.classes_[proba.argmax(axis=1)]

    def predict_proba(self, X):
        """Return class probabilities of shape (n_samples, n_classes)."""
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", dtype=np.float64, reset=False)
        return np.exp(self.predict_params(X))

    # -- the Expert protocol ---------------------------------------------------

    def prepare(self, X, y, weight, n_classes=None):
        """Fix scales and fit all rows: that fit is the anchor of the ridge.

        Raises
        ------
        ValueError
            If alpha is negative or max_iter is below 1.
        """
        self.check_parameters()
        self.design_ = Design(X, weight)
        alpha = 1.0 if self.alpha == "auto" else self.alpha
        penalised = self.design_.penalised
        zero = np.zeros((n_classes, self.design_.n_columns))
        # Starting intercepts from class frequencies saves Newton steps.
        counts = _class_weights(y, weight, n_classes)
        start = np.log(np.maximum(counts, 1e-3 * counts.sum() / n_classes))
        self.kernel_ = LogisticKernel(1, zero, min(alpha, 1.0) * penalised)
        self.kernel_.coef[0, :, 0] = start - start.mean()
        self.fit_alone(X, y, weight)
        anchor = self.kernel_.coef[0]
        self.kernel_ = LogisticKernel(1, anchor, alpha * penalised)

    def features(self, X):
        """Return the columns of X that enter the logits: all."""
        return X

    def kernel_rows(self, X, y):
        """Return what the kernel gets as y: the class codes, (n_samples,)."""
        return y

    def make_kernel(self, n_experts, shared=False):
        """Return a kernel of several experts; there is no dispersion to share."""
        return LogisticKernel(n_experts, self.kernel_.anchor, self.kernel_.ridge)

    def check_parameters(self):
        """Raise a ValueError that names the first bad constructor argument."""
        number = isinstance(self.alpha, Real) and self.alpha >= 0
        if not (number or self.alpha == "auto"):
            raise ValueError(
                'LogisticExpert: alpha must be a number >= 0 or "auto", got '
                f"{self.alpha!r}."
            )
        if self.max_iter < 1:
            raise ValueError(
                f"LogisticExpert: max_iter must be at least 1, got {self.max_iter!r}."
            )

    def m_step(self, X, y, weight):
        """Take one damped Newton step under the weights."""
        self._newton_step(self.features(X), self.kernel_rows(X, y), weight)

    def log_prob(self, X, y):
        """Return the log probability of each row's class code, in nats."""
        return self.likelihood.log_prob(y, self.predict_params(X))

    def predict_params(self, X):
        """Return log probabilities of shape (n_samples, n_classes)."""
        logit = self.design_.linear_map(self.kernel_.coef[0], X)
        return log_softmax_first(logit.T)[0].T

    def contributions(self, X):
        """Share the logits out among the columns.

        ``logit = baseline + parts.sum(axis=1)``, whose softmax over the classes is
        ``predict_proba``, with the parts ``coef_cj * (x_j - center_j)``, centred at
        the columns' weighted means over the training rows (zero for sparse ones).

        Parameters
        ----------
        X : array of shape (n_samples, n_features)

        Returns
        -------
        contributions : Contributions
            ``baseline`` of shape (n_classes,), ``parts`` of shape (n_samples,
            n_features, n_classes), in nats, and ``rest``, which is zero.
        """
        return linear_contributions(self, X)

    @property
    def n_parameters(self):
        """Free coefficients: (n_classes - 1) * (n_features + 1)."""
        n_classes, p = self.kernel_.anchor.shape
        return (n_classes - 1) * p

    @property
    def penalty(self):
        """Log prior density of the coefficients, up to a constant."""
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
        return self.design_.to_columns(self.kernel_.coef[0])[0]

    @property
    def intercept_(self):
        """Intercepts that go with ``coef_``."""
        return self.design_.to_columns(self.kernel_.coef[0])[1]


def _class_weights(y, weight, n_classes):
    """Return the weight of each class, of shape (n_classes,)."""
    if not is_foreign(y):
        return np.bincount(y, weights=weight, minlength=n_classes)
    xp = namespace(y)
    sums = [xp.sum(xp.where(y == c, weight, 0.0)) for c in range(n_classes)]
    return to_numpy(xp.stack(sums))
