"""The side of `EstimatorExpert` that the engine sees: the Expert protocol."""

import numbers
from copy import copy

import numpy as np
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.multioutput import MultiOutputRegressor
from sklearn.utils import check_random_state, column_or_1d, get_tags
from sklearn.utils.validation import check_is_fitted

from skmoe.experts._contributions import inner_contributions, linear_inner
from skmoe.experts._fitting import InnerFit
from skmoe.experts._heads import CategoricalHead, GaussianHead
from skmoe.experts._kept_rows import KeptRows
from skmoe.experts._net import float32_net
from skmoe.experts._variance_prior import check_variance_prior
from skmoe.likelihoods import Categorical, Gaussian

__all__ = [
    "AdaptedExpert",
    "check_no_memory",
    "check_predictor",
    "wraps_classifier",
]


def wraps_classifier(expert):
    """Return whether the estimator of an expert is a classifier."""
    return is_classifier(expert.estimator)


class AdaptedExpert(KeptRows):
    """The Expert protocol for the constructor arguments of `EstimatorExpert`.

    The work is done by two parts: an `InnerFit` refits the estimator, a head
    turns its predictions into a density.
    """

    exact_m_step = False
    _train = None  # (X, Predicted, out-of-fold predictions or None) of the last M-step
    linear_inner_ = None  # until `finish`; see `linear_inner`
    _alone = False  # whether ``fit`` was called: then y holds labels, not codes

    @property
    def likelihood(self):
        """Gaussian for a regressor, categorical for a classifier."""
        return Categorical() if wraps_classifier(self) else Gaussian()

    def set_fit_params(self, params):
        """Set further keywords for the estimator's ``fit``.

        Arrays and lists with one entry a row are cut to the rows of each fit.

        Raises
        ------
        ValueError
            If they contain ``sample_weight``, which the M-step sets.
        """
        if "sample_weight" in params:
            raise ValueError(
                "EstimatorExpert: sample_weight cannot be one of the estimator's fit "
                "parameters, since each M-step sets it. Pass it to fit itself."
            )
        self.fit_params_ = dict(params)

    def prepare(self, X, y, weight, n_classes=None):
        """Fix seeds, folds, the prior of the variance and the classes.

        Raises
        ------
        TypeError
            If ``estimator`` is neither a regressor nor a classifier.
        ValueError
            If a parameter is not as described.
        """
        self._check_parameters()
        template = float32_net(clone(self.estimator))
        if wraps_classifier(self):
            n_classes = int(y.max()) + 1 if n_classes is None else n_classes
            self.classes_ = np.arange(n_classes)
            self._head = CategoricalHead(self.smoothing, y, weight, n_classes)
        else:
            self._head = GaussianHead(self.variance_prior, y, weight)
            takes_several = get_tags(template).target_tags.multi_output
            if y.ndim == 2 and y.shape[1] > 1 and not takes_several:
                template = MultiOutputRegressor(template)
        rng = check_random_state(self.random_state)
        self._inner = InnerFit(template, self._head, self.weights, rng)
        if self.random_state is not None:
            self._inner.offset = rng.uniform()
            self._inner.fold_seed = rng.randint(np.iinfo(np.int32).max)
        self._inner.prepare(X, y, weight, self.cross_fit, self.fold_groups_)
        self._train, self._alone, self.linear_inner_ = None, False, None

    # Groups of rows that must share a fold; a mixture of grouped rows says which.
    fold_groups_ = None

    def m_step(self, X, y, weight):
        """Refit the estimator to the weighted rows, then variance or calibration.

        Raises
        ------
        Exception
            Whatever the estimator raises, unchanged.
        """
        weight = np.ascontiguousarray(weight, dtype=float)
        seen = getattr(self, "_train", None)
        raw = seen[1] if seen is not None and seen[0] is X else None
        params = getattr(self, "fit_params_", {})
        raw, held_out = self._inner.fit(X, y, weight, params, raw)
        self._train = (X, raw, held_out)

    def log_prob(self, X, y):
        """Return the log density of each row in nats, of shape (n_samples,).

        Under ``cross_fit`` the rows of the very X of the last M-step get their
        out-of-fold density, until ``finish``.
        """
        if self._alone:
            X, y = self._checked(X, reset=False), np.asarray(y)
        if self._knows(X):
            params = self._head.params(self._held_out_or_own())
        else:
            params = self.predict_params(X)
        if wraps_classifier(self):
            y = self._codes(y)
        return self._head.likelihood.log_prob(y, params, self._head.dispersion)

    def log_prob_rows(self, X, y, rows):
        """Return the log density of some rows: what is known of them is used again.

        Parameters
        ----------
        X, y : arrays of all rows
        rows : bool array of shape (n_samples,)

        Returns
        -------
        log_prob : array of shape (n_rows,)
            In nats.
        """
        if not self._knows(X):
            return self.log_prob(X[rows], y[rows])
        held_out = self._train[2]
        raw = self._train[1].rows(rows) if held_out is None else held_out[rows]
        params = self._head.params(raw)
        return self._head.likelihood.log_prob(y[rows], params, self._head.dispersion)

    def _held_out_or_own(self):
        _, own, held_out = self._train
        return own.all if held_out is None else held_out

    def predict_params(self, X):
        """Return the mean, or the log probabilities, of each row."""
        if not self.__sklearn_is_fitted__():
            check_is_fitted(self)  # which costs tags: only for its message
        if self._knows(X):
            return self._head.params(self._train[1].all)
        return self._head.params(self._head.raw(self._inner.model, X))

    contributions = inner_contributions

    @property
    def estimator_(self):
        """The fitted inner estimator, or None where it became a constant."""
        return self._inner.fitted_estimator

    @property
    def dispersion(self):
        """Noise variance, same unit as y squared; None for a classifier."""
        return self._head.dispersion

    @dispersion.setter
    def dispersion(self, value):
        self._head.dispersion = value

    @property
    def scatter(self):
        """Weighted squared residuals with the prior's. Regressors only."""
        return self._gaussian("scatter")

    @property
    def mass(self):
        """Weighted rows plus those that the variance prior is worth."""
        return self._gaussian("mass")

    def _gaussian(self, name):
        if wraps_classifier(self):
            raise AttributeError(f"A classifier has no {name}: it has no dispersion.")
        return getattr(self._head, name)

    @property
    def n_parameters(self):
        """Coefficients the estimator shows, and those of variance or calibration."""
        return self._inner.n_coefficients + self._head.n_parameters

    @property
    def penalty(self):
        """Log prior of the variance, up to a constant; 0 for a classifier."""
        return self._head.penalty

    def finish(self):
        """Forget the training data, at the end of a fit.

        Sets: ``linear_inner_``, the linear form of the estimator where it has one.
        """
        if self._train is not None:
            X, raw, _ = self._train
            self.linear_inner_ = linear_inner(
                self.estimator_, X, lambda: raw.all, self._inner.sample_weight
            )
        self._train = None
        self._inner.forget()

    # -- what must not travel, what must be checked -------------------------------

    def _knows(self, X):
        return self._train is not None and self._train[0] is X

    def _codes(self, y):
        """Return class codes: of labels after ``fit``, as they are in a mixture."""
        if not self._alone:
            return y
        y = column_or_1d(y)
        codes = np.searchsorted(self.classes_, y)
        codes = np.minimum(codes, self.classes_.size - 1)
        unknown = y[self.classes_[codes] != y].tolist()
        if unknown:
            raise ValueError(
                f"EstimatorExpert: y has the class {unknown[0]!r}, which fit did "
                f"not see. Known classes: {self.classes_.tolist()}."
            )
        return codes

    def __sklearn_is_fitted__(self):
        return getattr(getattr(self, "_inner", None), "model", None) is not None

    def __copy__(self):
        new = super().__copy__()
        if "_inner" in self.__dict__:
            new._inner, new._head = copy(self._inner), copy(self._head)
            new._inner.head = new._head
        return new

    def _check_parameters(self):
        check_predictor(self.estimator)
        if self.weights not in ("auto", "resample", "hard"):
            raise ValueError(
                "EstimatorExpert: weights must be 'auto', 'resample' or 'hard', got "
                f"{self.weights!r}."
            )
        if not (isinstance(self.smoothing, numbers.Real) and self.smoothing >= 0):
            raise ValueError(
                f"EstimatorExpert: smoothing must be a number >= 0, got "
                f"{self.smoothing!r}."
            )
        check_variance_prior(self.variance_prior, "EstimatorExpert")
        folds = self.cross_fit
        is_count = isinstance(folds, numbers.Integral) and not isinstance(folds, bool)
        if (is_count and folds < 2) or not (
            isinstance(folds, bool) or is_count or hasattr(folds, "get_n_splits")
        ):
            raise ValueError(
                "EstimatorExpert: cross_fit must be a bool, a number of folds >= 2 or "
                f"a splitter such as KFold, got {folds!r}."
            )


def check_no_memory(estimator):
    """Raise a TypeError if it is a mixture whose rows follow each other."""
    last = estimator
    while getattr(last, "steps", None):
        last = last.steps[-1][1]
    if getattr(last, "_in_time", False):
        raise TypeError(
            f"{type(last).__name__} cannot be an expert: a mixture weighs each row by "
            "itself, and its rows follow each other. Give its experts to the outer "
            "mixture, or use it as the outer one."
        )


def check_predictor(estimator):
    """Raise a TypeError unless it is an instance of a regressor or classifier."""
    if isinstance(estimator, type):
        raise TypeError(
            f"An expert must be an instance, got the class {estimator.__name__}. "
            f"Write {estimator.__name__}()."
        )
    check_no_memory(estimator)
    try:
        predictor = is_regressor(estimator) or is_classifier(estimator)
    except (AttributeError, TypeError):  # no scikit-learn estimator at all
        predictor = False
    if not predictor:
        raise TypeError(
            "An expert must be a scikit-learn regressor or classifier, or implement "
            "the Expert protocol (prepare, m_step, log_prob, predict_params), got "
            f"{estimator!r}."
        )
