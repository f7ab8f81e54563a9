"""Native experts on transformed columns: splines, polynomials, bins, kernels."""

from copy import copy

import numpy as np
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone, is_classifier
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils import column_or_1d, get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    check_array,
    check_consistent_length,
    check_is_fitted,
    validate_data,
)

from skmoe._expansion import (
    check_transformer,
    fitted_transformer,
    set_seeds,
    transformed,
)
from skmoe._protocols import is_parametric
from skmoe._sklearn import check_sample_weight, safe_indexing
from skmoe.experts._contributions import expanded_contributions
from skmoe.experts._known import append_known, split_known
from skmoe.experts._linear import LinearExpert

__all__ = ["ExpandedExpert", "has_protocol"]


def has_protocol(thing):
    """Return whether an instance has the methods of the Expert protocol.

    A frozen expert, whose wrapper shows the methods too, must not be refitted:
    it is an estimator like any other.
    """
    names = ("prepare", "m_step", "log_prob", "predict_params")
    is_own = not isinstance(thing, type | FrozenEstimator)
    return is_own and all(callable(getattr(thing, name, None)) for name in names)


def _for_classes(self):
    return is_classifier(self._template)


def _of_native(name, doc):
    """Return a property that reads and writes an attribute of the inner expert."""

    def read(self):
        return getattr(self.native, name)

    def write(self, value):
        setattr(self.expert_, name, value)

    return property(read, write, doc=doc)


class ExpandedExpert(MetaEstimatorMixin, BaseEstimator):
    """An expert on transformed columns: ``p(y | x) = p_expert(y | t(x))``.

    The transformer t is fitted once, to all rows of positive weight, and stays
    as it is while EM moves the expert. So the expert keeps its exact M-step, its
    prior and its number of parameters (what the transformer learned is not
    counted), while the gate of the mixture sees the raw columns. A
    `~sklearn.pipeline.Pipeline` whose last step is an expert becomes one of these
    by itself.

    Row weights reach each part of the transformer whose ``fit`` takes
    ``sample_weight`` (`~sklearn.preprocessing.SplineTransformer`,
    `~sklearn.preprocessing.KBinsDiscretizer`,
    `~sklearn.preprocessing.StandardScaler`), also inside a pipeline or a
    `~sklearn.compose.ColumnTransformer`, unless it was told
    ``set_fit_request(sample_weight=False)``. All others (principal components,
    Nystroem, quantiles) are fitted to the rows without weights: there a row of
    weight two does not count as two rows.

    Parameters
    ----------
    transformer : transformer
        Or a Pipeline of transformers. Its output must be numeric and finite,
        dense or sparse. The training rows are expanded like new ones, by ``fit``
        and then ``transform`` (so a `~sklearn.preprocessing.TargetEncoder` does
        not cross-fit). Every nested ``random_state`` that is None, the expert's
        too, gets a fixed seed: all experts of a mixture share one expansion.
    expert : Expert, default=None
        `LinearExpert`, `LogisticExpert`, or any object with the Expert
        protocol. None: ``LinearExpert()``.

    Attributes
    ----------
    transformer_ : fitted transformer
    expert_ : Expert
        Its coefficients are those of the transformed columns.
    classes_ : array of shape (n_classes,)
        After ``fit`` of a classifier only.

    Notes
    -----
    ``prepare`` and ``m_step`` remember X, by identity, with its transformed
    columns, so that EM transforms the training rows once. ``finish`` and pickling
    forget them.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.preprocessing import SplineTransformer
    >>> from skmoe import MixtureOfExpertsRegressor
    >>> from skmoe.experts import ExpandedExpert, LinearExpert
    >>> X = np.linspace(0.0, 10.0, 300)[:, None]
    >>> y = np.where(X[:, 0] < 5.0, np.sin(X[:, 0]), 3.0 - 0.1 * X[:, 0] ** 2)
    >>> wavy = ExpandedExpert(SplineTransformer(n_knots=5), LinearExpert(alpha=0.1))
    >>> model = MixtureOfExpertsRegressor(wavy, n_experts=2, random_state=0)
    >>> model.fit(X, y).score(X, y) > 0.99
    True
    """

    _train = None  # (X, transformed X) of the training rows
    # Known quantities of a row, the last columns of X: they are not transformed.
    known = ()

    def __init__(self, transformer, expert=None):
        self.transformer = transformer
        self.expert = expert

    def __sklearn_tags__(self):
        self._check_parts()
        tags, inner = super().__sklearn_tags__(), get_tags(self._template)
        tags.estimator_type = inner.estimator_type
        tags.classifier_tags = inner.classifier_tags
        tags.regressor_tags = inner.regressor_tags
        tags.target_tags = inner.target_tags
        tags.target_tags.required = True
        tags.input_tags = get_tags(self.transformer).input_tags
        return tags

    # -- an estimator by itself ------------------------------------------------

    def fit(self, X, y, sample_weight=None):
        """Fit transformer and expert to weighted rows.

        Parameters
        ----------
        X : {array-like, sparse matrix, data frame} of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        self : ExpandedExpert
        """
        self.check_parameters()
        X, y = self._training_rows(X, y)
        weight = check_sample_weight(sample_weight, X)
        keep = np.flatnonzero(weight > 0)
        if keep.size < weight.size:
            X, y, weight = safe_indexing(X, keep), y[keep], weight[keep]
        self._fit_transformer(X, y, weight)
        self.expert_.fit(self.expand(X), y, sample_weight=weight)
        return self

    def predict(self, X):
        """Return the mean of y, or the most probable class, of each row."""
        expanded = self._expand_new(X)
        return self.expert_.predict(expanded)

    @available_if(_for_classes)
    def predict_proba(self, X):
        """Return class probabilities of shape (n_samples, n_classes)."""
        expanded = self._expand_new(X)
        return self.expert_.predict_proba(expanded)

    def score(self, X, y, sample_weight=None):
        """Return the coefficient of determination, or the accuracy."""
        metric = accuracy_score if _for_classes(self) else r2_score
        return metric(y, self.predict(X), sample_weight=sample_weight)

    @property
    def _template(self):
        return LinearExpert() if self.expert is None else self.expert

    def _expand_new(self, X):
        check_is_fitted(self)
        return self.expand(self._checked(X, reset=False))

    def _checked(self, X, reset):
        """Validate X; a data frame goes to the transformer as it is."""
        if hasattr(X, "columns"):
            validate_data(self, X, skip_check_array=True, reset=reset)
            return X
        tags = get_tags(self.transformer).input_tags
        return validate_data(
            self,
            X,
            accept_sparse="csr" if tags.sparse else False,
            ensure_all_finite="allow-nan" if tags.allow_nan else True,
            dtype=None if tags.string or tags.categorical else np.float64,
            reset=reset,
        )

    def _training_rows(self, X, y):
        if y is None:  # said in scikit-learn's words
            validate_data(self, X, y, skip_check_array=True)
        X = self._checked(X, reset=True)
        if _for_classes(self):
            y = column_or_1d(y, warn=True)
            check_array(y, ensure_2d=False, dtype=None, input_name="y")
            check_classification_targets(y)
        else:
            y = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y")
        check_consistent_length(X, y)
        return X, y

    # -- the expansion ---------------------------------------------------------

    def expand(self, X):
        """Return the transformed columns, as the expert sees them.

        Those of the training rows are remembered during a fit: do not write to
        them.

        Parameters
        ----------
        X : array, sparse array or data frame of shape (n_samples, n_features)

        Returns
        -------
        expanded : float64 array or CSR array of shape (n_samples, n_columns)
        """
        if self._train is not None and self._train[0] is X:
            return self._train[1]
        if "transformer_" not in self.__dict__:
            check_is_fitted(self)  # which costs tags: only for its message
        features, known = split_known(X, self.known)
        columns = transformed(self.transformer_, features, "ExpandedExpert")
        return append_known(columns, known)

    def _fit_transformer(self, X, y, weight):
        """Set ``transformer_``, fitted, and ``expert_``, not yet fitted."""
        self._train = None
        self.expert_ = clone(self._template)
        set_seeds(self.expert_, np.random.RandomState(0))
        if self.known:
            self.expert_.known = self.known
        features = split_known(X, self.known)[0]
        self.transformer_ = fitted_transformer(self.transformer, features, y, weight)

    # -- the Expert protocol ---------------------------------------------------

    def prepare(self, X, y, weight, n_classes=None):
        """Fit the transformer, and let the expert fix what depends on all rows."""
        self.check_parameters()
        keep = np.flatnonzero(weight > 0)
        some = keep.size < weight.size
        rows = (X[keep], y[keep], weight[keep]) if some else (X, y, weight)
        self._fit_transformer(*rows)
        expanded = self.expand(X)
        self.expert_.prepare(expanded, y, weight, n_classes)
        self._train = (X, expanded)

    def check_parameters(self):
        """Raise an error that names the first bad constructor argument."""
        self._check_parts()
        if hasattr(self._template, "check_parameters"):
            self._template.check_parameters()

    def _check_parts(self):
        check_transformer(self.transformer, "ExpandedExpert")
        if self.expert is not None and not has_protocol(self.expert):
            raise TypeError(
                "ExpandedExpert: expert must be None or an expert such as "
                f"LinearExpert(), got {self.expert!r}. Give any other estimator "
                "behind a transformer as a Pipeline of both."
            )

    def m_step(self, X, y, weight):
        """Take the expert's M-step on the transformed rows."""
        expanded = self.expand(X)
        self._train = (X, expanded)
        self.expert_.m_step(expanded, y, weight)

    def fit_alone(self, X, y, weight):
        """Fit the expert to rows that are its own, in as many steps as it needs."""
        fit = getattr(self.expert_, "fit_alone", self.expert_.m_step)
        fit(self.expand(X), y, weight)

    def log_prob(self, X, y):
        """Return the log density of each row in nats, of shape (n_samples,)."""
        return self.expert_.log_prob(self.expand(X), y)

    def predict_params(self, X):
        """Return the mean, or the log probabilities, of each row."""
        expanded = self.expand(X)
        return self.expert_.predict_params(expanded)

    def finish(self):
        """Forget the training rows, at the end of a fit."""
        self._train = None
        if hasattr(self.expert_, "finish"):
            self.expert_.finish()

    def set_fit_params(self, params):
        """Refuse routed metadata: nothing says which part it is meant for."""
        if params:
            raise ValueError(
                f"ExpandedExpert takes no fit parameters, got {sorted(params)}. To "
                "route them to the steps of a Pipeline, which is then refitted as a "
                "whole, give EstimatorExpert(pipeline)."
            )

    @property
    def native(self):
        """The expert behind the transformer: `expert_`, before that `expert`."""
        return self.__dict__.get("expert_", self._template)

    exact_m_step = _of_native("exact_m_step", "Whether it never lowers its objective.")
    likelihood = _of_native("likelihood", "The family of its density.")
    n_parameters = _of_native("n_parameters", "Its free parameters.")
    penalty = _of_native("penalty", "Log prior of its parameters.")
    dispersion = _of_native("dispersion", "Its dispersion, or None.")
    scatter = _of_native("scatter", "Weighted squared residuals with priors.")
    mass = _of_native("mass", "Weighted rows plus those that priors are worth.")
    parameters = _of_native("parameters", "Its state as one vector.")
    design_ = _of_native("design_", "Its design, of the transformed columns.")
    kernel_ = _of_native("kernel_", "Its kernel.")
    classes_ = _of_native("classes_", "Class labels, after ``fit`` of a classifier.")
    collapsed = _of_native("collapsed", "Whether its variance lies at its floor.")
    weights_note = _of_native("weights_note", "What it does for want of weights.")
    contributions = expanded_contributions

    @property
    def parametric(self):
        """Whether the expert's state is one free vector."""
        return is_parametric(self.native)

    # -- what must not travel --------------------------------------------------

    def __getstate__(self):
        return {**super().__getstate__(), "_train": None}

    def __copy__(self):
        # A copy shares the transformer and the training rows, not the expert:
        # what is written into its kernel or its dispersion is its own.
        new = type(self).__new__(type(self))
        new.__dict__.update(self.__dict__)
        if "expert_" in self.__dict__:
            new.expert_ = copy(self.expert_)
        return new
