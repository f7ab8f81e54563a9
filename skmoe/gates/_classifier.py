"""Any scikit-learn classifier as gate."""

import copy
import inspect

import numpy as np
from sklearn import config_context
from sklearn.base import BaseEstimator, clone, is_classifier
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils import check_random_state, get_tags
from sklearn.utils.validation import check_is_fitted, has_fit_parameter

from skmoe.gates._constant import check_number, check_prepared, check_resp

__all__ = ["ClassifierGate"]

# Replicas with a smaller responsibility are left out: together they change the
# classifier less than its smoothing does, and hard regions then need n rows
# where they would need n * n_experts.
SMALLEST_RESP = 1e-6


class ClassifierGate(BaseEstimator):
    """Gate made of any scikit-learn classifier that takes sample weights.

    The M-step shows each row once for each expert, with the expert's number as
    class and ``weight * resp`` as sample weight, so that the classifier
    maximises (for a likelihood-based one)

        sum_i sum_k w_i r_ik log q_k(x_i).

    The gate is ``g_k = (1 - smoothing) q_k + smoothing / K``: an expert that has
    lost its rows keeps a chance to win some back.

    Parameters
    ----------
    classifier : estimator
        A classifier with ``predict_proba`` whose ``fit`` takes `sample_weight`,
        or a Pipeline that ends in one (its earlier steps get the weights where
        they take them). It is cloned. A ``FrozenEstimator`` is used as it is;
        its classes must be 0, ..., n_experts - 1.
    smoothing : float, default=1e-3
        Probability shared evenly between the experts, at least 0, below 1.
    random_state : int, RandomState instance or None, default=None
        Fixes every ``random_state`` of the classifier that is None, once for
        the whole of EM: refits differ by their responsibilities only.

    Attributes
    ----------
    classifier_ : estimator
        The classifier as fitted in the last M-step.
    experts_seen_ : ndarray of shape (n_seen,)
        Experts that had any weight in the last M-step.
    n_experts_ : int

    Notes
    -----
    A classifier's fit may climb another objective than this one, so
    `exact_m_step` is False (but True for a frozen one, which stays put), and
    `penalty` is 0.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> from skmoe.gates import ClassifierGate
    >>> X, weight = np.array([[0.0], [1.0], [8.0], [9.0]]), np.ones(4)
    >>> gate = ClassifierGate(DecisionTreeClassifier(max_depth=1))
    >>> gate.prepare(X, weight, n_experts=2)
    >>> gate.m_step(X, np.array([[1.0, 0], [1, 0], [0, 1], [0, 1]]), weight)
    >>> np.exp(gate.log_proba(X)).round(2)
    array([[1., 0.],
           [1., 0.],
           [0., 1.],
           [0., 1.]])
    """

    def __init__(self, classifier, *, smoothing=1e-3, random_state=None):
        self.classifier = classifier
        self.smoothing = smoothing
        self.random_state = random_state

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        given = self.classifier
        if hasattr(given, "__sklearn_tags__") and not isinstance(given, type):
            tags.input_tags = get_tags(given).input_tags
        return tags

    @property
    def exact_m_step(self):
        """Whether the M-step never lowers its objective: only if frozen."""
        return isinstance(self.classifier, FrozenEstimator)

    def prepare(self, X, weight, n_experts):
        """Check and clone the classifier and fix its seeds.

        Raises
        ------
        TypeError
            If it is no classifier, has no ``predict_proba`` or takes no
            `sample_weight`.
        ValueError
            If `smoothing` is out of range, or a frozen classifier has other
            classes than 0, ..., n_experts - 1.
        sklearn.exceptions.NotFittedError
            If a frozen classifier was never fitted.
        """
        self._smoothing = check_number(
            "ClassifierGate: smoothing", self.smoothing, high=1.0
        )
        _check_classifier(self.classifier)
        if self.exact_m_step:
            _check_frozen(self.classifier, n_experts)
            self.experts_seen_ = np.arange(n_experts)
        else:
            self._weight_names = _weight_names(self.classifier)
            self.experts_seen_ = np.arange(0)
        self.classifier_ = clone(self.classifier)
        _fix_seeds(self.classifier_, self.random_state)
        self.n_experts_ = n_experts

    def m_step(self, X, resp, weight):
        """Refit the classifier on each row as each expert's, by its weight."""
        check_prepared(self, "n_experts_")
        check_resp(X, resp, weight, self.n_experts_)
        if self.exact_m_step:
            return
        row, expert = np.nonzero((resp > SMALLEST_RESP) & (weight[:, None] > 0))
        seen = np.unique(expert)
        same = np.array_equal(seen, self.experts_seen_)
        # Never in place: a copy of this gate, kept as the best state, goes on as it
        # is. A warm start needs the classes it has seen before.
        if same and _resumes(self.classifier_):
            self.classifier_ = copy.deepcopy(self.classifier_)
        else:
            self.classifier_ = clone(self.classifier_)
            self.experts_seen_ = seen
        if seen.size > 1:
            share = np.ascontiguousarray(weight[row] * resp[row, expert])
            weights = dict.fromkeys(self._weight_names, share)
            # `step__sample_weight` is the form that works for any Pipeline
            # whose author has not requested weights; routing forbids it.
            with config_context(enable_metadata_routing=False):
                self.classifier_.fit(X[row], expert, **weights)

    def log_proba(self, X):
        """Return log gate probabilities of shape (n_samples, n_experts).

        Raises
        ------
        ValueError
            If the classifier returns probabilities that are not finite.
        """
        check_prepared(self, "n_experts_")
        proba = self._aligned(X)
        if not np.isfinite(proba).all():
            raise ValueError(
                f"{_name(self.classifier)} returned probabilities that are not "
                "finite: use another classifier as gate."
            )
        total = proba.sum(axis=1, keepdims=True)
        # Some one-against-rest classifiers turn all experts down at once.
        proba = np.where(total > 0, proba / np.where(total > 0, total, 1.0), 1.0)
        proba *= 1.0 - self._smoothing
        proba += self._smoothing / self.n_experts_
        proba /= proba.sum(axis=1, keepdims=True)
        return np.log(np.maximum(proba, np.finfo(float).tiny))

    def log_joint(self, X):
        """Return `log_proba`: a classifier does not model x."""
        return self.log_proba(X)

    def _aligned(self, X):
        """Return the classifier's probabilities with a column for each expert."""
        proba = np.zeros((X.shape[0], self.n_experts_))
        if self.experts_seen_.size == 0:
            proba[:] = 1.0
        elif self.experts_seen_.size == 1:
            proba[:, self.experts_seen_] = 1.0
        else:
            proba[:, self.classifier_.classes_] = self.classifier_.predict_proba(X)
        return proba

    @property
    def penalty(self):
        """Zero: the classifier's own prior, if any, is not known."""
        return 0.0

    @property
    def n_parameters(self):
        """Free coefficients of a linear classifier, 0 if it has no ``coef_``.

        Of the coefficients of K classes, those of K - 1 are free. A frozen
        classifier has none.
        """
        check_prepared(self, "n_experts_")
        coef = getattr(_last_step(self.classifier_), "coef_", None)
        if coef is None or self.exact_m_step:
            return 0
        coef = np.atleast_2d(coef)
        has_intercept = hasattr(_last_step(self.classifier_), "intercept_")
        n_free = min(coef.shape[0], self.experts_seen_.size - 1)
        return n_free * (coef.shape[1] + int(has_intercept))


def _name(estimator):
    """Return the name of an estimator, with the last step of a Pipeline."""
    last = _last_step(estimator)
    if last is estimator:
        return type(estimator).__name__
    return f"{type(estimator).__name__}(..., {type(last).__name__})"


def _last_step(estimator):
    while isinstance(estimator, Pipeline):
        estimator = estimator.steps[-1][1]
    return estimator


def _check_classifier(classifier):
    """Raise unless this is a classifier that gives probabilities."""
    tagged = hasattr(classifier, "__sklearn_tags__")
    if isinstance(classifier, type) or not tagged or not is_classifier(classifier):
        raise TypeError(
            f"the gate must be a gate or a scikit-learn classifier, got {classifier!r}."
        )
    if not hasattr(classifier, "predict_proba"):
        raise TypeError(
            f"{_name(classifier)} has no predict_proba, so it cannot be a gate: "
            "wrap it in CalibratedClassifierCV, or use a classifier that gives "
            "probabilities."
        )


def _check_frozen(classifier, n_experts):
    """Raise unless a frozen classifier is fitted to the experts' numbers."""
    check_is_fitted(classifier)
    if not np.array_equal(classifier.classes_, np.arange(n_experts)):
        raise ValueError(
            f"the classes of a frozen gate must be 0, ..., {n_experts - 1}, the "
            f"numbers of the experts, got {classifier.classes_!r}."
        )


def _weight_names(classifier):
    """Return the arguments of ``fit`` that take the sample weights.

    Raises
    ------
    TypeError
        If there is none for the classifier itself.
    """
    if not isinstance(classifier, Pipeline):
        if has_fit_parameter(classifier, "sample_weight"):
            return ["sample_weight"]
        raise TypeError(
            f"{type(classifier).__name__} takes no sample_weight in fit, so it "
            "cannot learn from responsibilities: use a classifier that takes it, "
            "such as LogisticRegression or a forest."
        )
    names = []
    for step, part in classifier.steps[:-1]:
        if part not in (None, "passthrough") and _transformer_takes_weight(part):
            names.append(f"{step}__sample_weight")
    step, last = classifier.steps[-1]
    return names + [f"{step}__{name}" for name in _weight_names(last)]


def _transformer_takes_weight(transformer):
    """Tell whether both ``fit`` and the ``fit_transform`` in use take weights."""
    if not has_fit_parameter(transformer, "sample_weight"):
        return False
    arguments = inspect.signature(transformer.fit_transform).parameters
    return "sample_weight" in arguments or any(
        argument.kind is argument.VAR_KEYWORD for argument in arguments.values()
    )


def _fix_seeds(estimator, random_state):
    """Set every nested ``random_state`` that is None from one generator."""
    names = [
        name
        for name, value in sorted(estimator.get_params(deep=True).items())
        if value is None and name.split("__")[-1] == "random_state"
    ]
    if names:
        rng = check_random_state(random_state)
        seeds = rng.randint(np.iinfo(np.int32).max, size=len(names))
        estimator.set_params(**dict(zip(names, seeds.tolist(), strict=True)))


def _resumes(estimator):
    """Return whether a fit goes on from the last one, in some nested part."""
    return any(
        bool(value)
        for name, value in estimator.get_params().items()
        if name.endswith("warm_start")
    )
