"""Classifiers as gates."""

import numpy as np
import pytest
from scipy import sparse
from sklearn import config_context
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import (
    ExtraTreesClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import (
    LinearRegression,
    LogisticRegression,
    RidgeClassifier,
    SGDClassifier,
)
from sklearn.mixture import GaussianMixture
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MaxAbsScaler, StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils import get_tags

from skmoe.gates._classifier import ClassifierGate
from tests.gates.gate_suite import GateSuite, regions


class TestLogistic(GateSuite):
    weight_tol = 1e-4

    def make_gate(self):
        solver = LogisticRegression(C=10.0, tol=1e-10, max_iter=2000)
        return ClassifierGate(make_pipeline(MaxAbsScaler(), solver))


class TestTree(GateSuite):
    def make_gate(self):
        return ClassifierGate(DecisionTreeClassifier(max_depth=2), random_state=0)


class TestNaiveBayes(GateSuite):
    weight_tol = 1e-6

    def make_gate(self):
        return ClassifierGate(
            make_pipeline(MaxAbsScaler(), GaussianNB()), smoothing=0.01
        )


@pytest.fixture
def problem():
    return regions(np.random.default_rng(9))


def fitted(classifier, X, resp, weight, n_steps=1, **kwargs):
    gate = ClassifierGate(classifier, **kwargs)
    gate.prepare(X, weight, resp.shape[1])
    for _ in range(n_steps):
        gate.m_step(X, resp, weight)
    return gate


CLASSIFIERS = [
    LogisticRegression(),
    SGDClassifier(loss="log_loss", alpha=0.05, average=True),
    SGDClassifier(loss="modified_huber", alpha=0.05, average=True),
    MLPClassifier((5,), solver="lbfgs", max_iter=500),
    DecisionTreeClassifier(min_samples_leaf=20),
    RandomForestClassifier(n_estimators=10, min_samples_leaf=10),
    ExtraTreesClassifier(n_estimators=10, min_samples_leaf=10),
    HistGradientBoostingClassifier(max_iter=10),
    GaussianNB(),
    CalibratedClassifierCV(LinearSVC(), cv=3),
    make_pipeline(StandardScaler(), LogisticRegression()),
    make_pipeline(FunctionTransformer(), make_pipeline(GaussianNB())),
]


@pytest.mark.parametrize("classifier", CLASSIFIERS, ids=str)
def test_many_classifiers_learn_the_regions(problem, classifier):
    X, resp, weight = problem
    gate = fitted(classifier, *problem, random_state=3)
    log_proba = gate.log_proba(X)
    np.testing.assert_allclose(np.exp(log_proba).sum(axis=1), 1.0, rtol=1e-12)
    gain = np.log(3) + np.average((resp * log_proba).sum(axis=1), weights=weight)
    assert gain > 0.03
    assert not gate.exact_m_step


def test_m_step_is_the_weighted_fit_to_repeated_rows(problem):
    X, resp, weight = problem
    model = LogisticRegression(tol=1e-12, max_iter=5000)
    gate = fitted(model, *problem, smoothing=0.0)
    model.fit(np.tile(X, (3, 1)), np.repeat([0, 1, 2], 120), (weight * resp.T).ravel())
    np.testing.assert_allclose(gate.log_proba(X), model.predict_log_proba(X), atol=1e-5)


def test_smoothing_is_a_share_of_the_uniform_gate(problem):
    X, resp, weight = problem
    hard = np.eye(3)[resp.argmax(axis=1)]
    rough = fitted(DecisionTreeClassifier(), X, hard, weight, smoothing=0.0)
    soft = fitted(DecisionTreeClassifier(), X, hard, weight, smoothing=0.3)
    np.testing.assert_allclose(np.exp(rough.log_proba(X)), hard, atol=1e-300)
    np.testing.assert_allclose(np.exp(soft.log_proba(X)), 0.7 * hard + 0.1)
    assert np.isfinite(rough.log_proba(X)).all()


def test_expert_without_weight_keeps_the_smoothing(problem):
    X, resp, weight = problem
    resp = np.column_stack([resp[:, 0], 0 * weight, 1 - resp[:, 0]])
    gate = fitted(LogisticRegression(), X, resp, weight, smoothing=0.03)
    np.testing.assert_array_equal(gate.experts_seen_, [0, 2])
    np.testing.assert_allclose(np.exp(gate.log_proba(X))[:, 1], 0.01)
    assert gate.n_parameters == 4
    back = regions(np.random.default_rng(9))[1]
    gate.m_step(X, back, weight)
    assert np.exp(gate.log_proba(X))[:, 1].max() > 0.5
    assert gate.n_parameters == 8


def test_single_expert_with_weight(problem):
    X, _, weight = problem
    resp = np.tile([0.0, 1.0, 0.0], (120, 1))
    gate = fitted(LogisticRegression(), X, resp, weight, smoothing=0.03)
    np.testing.assert_allclose(np.exp(gate.log_proba(X)), [[0.01, 0.98, 0.01]] * 120)
    assert gate.n_parameters == 0


def test_replicas_without_weight_are_left_out(problem):
    X, resp, weight = problem

    class Counting(GaussianNB):
        def fit(self, X, y, sample_weight=None):
            self.rows_ = X.shape[0]
            assert sample_weight.flags.c_contiguous
            return super().fit(X, y, sample_weight)

    hard = np.eye(3)[resp.argmax(axis=1)]
    weight[:20] = 0.0
    gate = fitted(Counting(), X, 0.9999999 * hard + 1e-7 / 3, weight)
    assert gate.classifier_.rows_ == 100


def test_warm_start_survives_a_change_of_classes(problem):
    X, resp, weight = problem
    gate = fitted(LogisticRegression(warm_start=True), *problem)
    first, coef = gate.classifier_, gate.classifier_.coef_.copy()
    gate.m_step(X, resp, weight)
    # It went on from where it was, in a copy: the last state is left as it is.
    assert gate.classifier_ is not first
    assert gate.classifier_.n_iter_.max() <= 2
    np.testing.assert_array_equal(first.coef_, coef)
    first = gate.classifier_
    two = np.column_stack([resp[:, :1], 1 - resp[:, :1], 0 * weight])
    gate.m_step(X, two, weight)
    assert gate.classifier_ is not first
    np.testing.assert_array_equal(gate.classifier_.classes_, [0, 1])


def test_seeds_are_set_once_and_only_where_none(problem):
    forest = RandomForestClassifier(n_estimators=5, max_depth=2)
    gate = fitted(make_pipeline(StandardScaler(), forest), *problem, random_state=7)
    seed = gate.classifier_[-1].random_state
    first = gate.log_proba(problem[0])
    gate.m_step(*problem)
    assert isinstance(seed, int)
    assert gate.classifier_[-1].random_state == seed
    np.testing.assert_array_equal(gate.log_proba(problem[0]), first)
    assert forest.random_state is None
    given = fitted(forest.set_params(random_state=11), *problem, random_state=7)
    assert given.classifier_.random_state == 11


def test_weights_reach_every_step_that_takes_them(problem):
    X, _, weight = problem
    pipeline = make_pipeline(StandardScaler(), LogisticRegression())
    gate = fitted(pipeline, *problem)
    mean = np.average(X, axis=0, weights=weight)
    np.testing.assert_allclose(gate.classifier_[0].mean_, mean, rtol=1e-6)


def test_transformer_whose_fit_transform_takes_no_weight(problem):
    class Shift(StandardScaler):
        def fit_transform(self, X, y=None):
            return self.fit(X).transform(X)

    gate = fitted(make_pipeline(Shift(), None, GaussianNB()), *problem)
    assert gate.log_proba(problem[0]).shape == (120, 3)


def test_with_metadata_routing(problem):
    pipeline = make_pipeline(StandardScaler(), LogisticRegression())
    plain = fitted(pipeline, *problem).log_proba(problem[0])
    with config_context(enable_metadata_routing=True):
        routed = fitted(pipeline, *problem).log_proba(problem[0])
    np.testing.assert_array_equal(routed, plain)


def test_sparse_rows(problem):
    X, resp, weight = problem
    dense = fitted(LogisticRegression(tol=1e-10), X, resp, weight).log_proba(X)
    rows = sparse.csr_array(X)
    gate = fitted(LogisticRegression(tol=1e-10), rows, resp, weight)
    np.testing.assert_allclose(gate.log_proba(rows), dense, atol=1e-4)


def test_frozen_classifier_is_used_as_it_is(problem):
    X, resp, weight = problem
    model = LogisticRegression().fit(X, resp.argmax(axis=1))
    gate = fitted(FrozenEstimator(model), *problem, smoothing=0.0)
    np.testing.assert_allclose(gate.log_proba(X), model.predict_log_proba(X))
    assert gate.exact_m_step
    assert gate.n_parameters == 0
    with pytest.raises(ValueError, match=r"must be 0, \.\.\., 3, .* got array"):
        gate.prepare(X, weight, 4)
    with pytest.raises(NotFittedError):
        ClassifierGate(FrozenEstimator(GaussianNB())).prepare(X, weight, 3)


@pytest.mark.parametrize(
    ("classifier", "expected"),
    [
        (LogisticRegression(), 2 * 4),
        (make_pipeline(StandardScaler(), LogisticRegression()), 2 * 4),
        (GaussianNB(), 0),
        (DecisionTreeClassifier(), 0),
    ],
)
def test_number_of_parameters(problem, classifier, expected):
    assert fitted(classifier, *problem).n_parameters == expected


@pytest.mark.parametrize(
    ("classifier", "message"),
    [
        (KNeighborsClassifier(), "KNeighborsClassifier takes no sample_weight .* use"),
        (
            make_pipeline(StandardScaler(), KNeighborsClassifier()),
            "KNeighborsClassifier takes no sample_weight",
        ),
        (LinearDiscriminantAnalysis(), "Analysis takes no sample_weight"),
        (LinearSVC(), "LinearSVC has no predict_proba.*CalibratedClassifierCV"),
        (SVC(), "SVC has no predict_proba"),
        (RidgeClassifier(), "RidgeClassifier has no predict_proba"),
        (
            make_pipeline(StandardScaler(), LinearSVC()),
            r"Pipeline\(\.\.\., LinearSVC\) has no predict_proba",
        ),
        (LinearRegression(), "gate or a scikit-learn classifier, got LinearReg"),
        (GaussianMixture(), "got GaussianMixture"),
        (LogisticRegression, "got <class"),
        ("softmax", "got 'softmax'"),
        (None, "got None"),
    ],
)
def test_unfit_classifiers(problem, classifier, message):
    with pytest.raises(TypeError, match=message):
        fitted(classifier, *problem)


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, np.nan, None])
def test_bad_smoothing(problem, smoothing):
    with pytest.raises(ValueError, match=r"smoothing .* >= 0 and < 1, got"):
        fitted(GaussianNB(), *problem, smoothing=smoothing)


class Odd(ClassifierMixin, BaseEstimator):
    """A classifier that returns the same odd number for all classes."""

    def __init__(self, value=0.0):
        self.value = value

    def fit(self, X, y, sample_weight=None):
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        return np.full((X.shape[0], self.classes_.size), self.value)


def test_probabilities_that_are_not_finite(problem):
    gate = fitted(Odd(np.nan), *problem)
    with pytest.raises(ValueError, match="Odd returned probabilities that are not"):
        gate.log_proba(problem[0])


def test_no_class_wanted_is_the_uniform_gate(problem):
    gate = fitted(Odd(0.0), *problem)
    np.testing.assert_allclose(np.exp(gate.log_proba(problem[0])), 1 / 3)


def test_wrong_shapes_and_before_prepare(problem):
    X, resp, weight = problem
    gate = fitted(GaussianNB(), *problem)
    with pytest.raises(ValueError, match="responsibilities must be of shape"):
        gate.m_step(X, resp[:, :2], weight)
    fresh = ClassifierGate(GaussianNB())
    with pytest.raises(NotFittedError, match="ClassifierGate is not fitted"):
        fresh.log_proba(X)
    with pytest.raises(NotFittedError, match="call prepare"):
        fresh.m_step(X, resp, weight)


@pytest.mark.parametrize(
    ("classifier", "thin", "gaps"),
    [
        (LogisticRegression(), True, False),
        (HistGradientBoostingClassifier(), False, True),
        (FrozenEstimator(DecisionTreeClassifier()), True, True),
        (GaussianNB(), False, False),
        (GaussianNB, False, False),
    ],
)
def test_it_takes_what_its_classifier_takes(classifier, thin, gaps):
    tags = get_tags(ClassifierGate(classifier)).input_tags
    assert (tags.sparse, tags.allow_nan) == (thin, gaps)
