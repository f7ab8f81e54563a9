"""Any estimator as an expert: densities, weights, folds, and scikit-learn's checks."""

import copy
import pickle
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse, stats
from sklearn import config_context
from sklearn.base import BaseEstimator, RegressorMixin, clone, is_classifier
from sklearn.cluster import KMeans
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_wine
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel
from sklearn.linear_model import (
    HuberRegressor,
    Lasso,
    LinearRegression,
    LogisticRegression,
    Perceptron,
    PoissonRegressor,
    Ridge,
    RidgeClassifier,
    SGDClassifier,
)
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, SVR, LinearSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from sklearn.utils.estimator_checks import parametrize_with_checks

from skmoe._protocols import Expert, PoolsDispersion
from skmoe.experts._adapter import EstimatorExpert, as_expert, warn_about_weights
from skmoe.experts._fitting import count_coefficients


@parametrize_with_checks(
    [EstimatorExpert(Ridge()), EstimatorExpert(LogisticRegression())]
)
def test_estimator_checks(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def diabetes():
    X, y = load_diabetes(return_X_y=True)
    return StandardScaler().fit_transform(X)[:200], y[:200] / 10.0


@pytest.fixture(scope="module")
def wine():
    X, y = load_wine(return_X_y=True)
    return StandardScaler().fit_transform(X), y


def resp_of(n, seed=0):
    return np.random.default_rng(seed).dirichlet([1.0, 1.0], n)


def fitted(estimator, X, y, weight=None, n_classes=None, **options):
    """Prepare an expert on all rows and make one M-step."""
    expert = EstimatorExpert(estimator, random_state=0, **options)
    expert.prepare(X, y, np.ones(y.shape[0]), n_classes)
    expert.m_step(X, y, np.ones(y.shape[0]) if weight is None else weight)
    return expert


def frozen(estimator, X, y):
    return FrozenEstimator(estimator.fit(X[::3], y[::3]))


GP = GaussianProcessRegressor(ConstantKernel(9.0) * RBF(5.0), normalize_y=True)
REGRESSORS = [
    Ridge(),
    HuberRegressor(max_iter=1000),
    SVR(C=10.0),
    DecisionTreeRegressor(min_samples_leaf=10),
    RandomForestRegressor(n_estimators=10, min_samples_leaf=5),
    HistGradientBoostingRegressor(max_iter=20),
    KNeighborsRegressor(10),
    GP,
    MLPRegressor(hidden_layer_sizes=(8,), max_iter=60, solver="lbfgs", alpha=10.0),
    Lasso(),
    PoissonRegressor(),
    make_pipeline(StandardScaler(), Ridge()),
    GridSearchCV(Ridge(), {"alpha": [0.1, 10.0]}, cv=3),
    "frozen",
]
CLASSIFIERS = [
    LogisticRegression(),
    GaussianNB(),
    SVC(),
    LinearSVC(),
    RidgeClassifier(),
    Perceptron(),
    SGDClassifier(loss="hinge"),
    DecisionTreeClassifier(min_samples_leaf=5),
    RandomForestClassifier(n_estimators=10),
    HistGradientBoostingClassifier(max_iter=10),
    KNeighborsClassifier(),
    LinearDiscriminantAnalysis(),
    make_pipeline(StandardScaler(), LogisticRegression()),
    "frozen",
]


@pytest.mark.parametrize("estimator", REGRESSORS, ids=lambda e: type(e).__name__)
@pytest.mark.filterwarnings("ignore:lbfgs failed to converge")
@pytest.mark.filterwarnings("ignore:.*close to the specified.*bound")
def test_regressors_as_experts(diabetes, estimator):
    X, y = diabetes
    estimator = frozen(Ridge(), X, y) if estimator == "frozen" else estimator
    weight = resp_of(y.size)[:, 0]
    expert = fitted(estimator, X, y, weight)
    assert isinstance(expert, Expert)
    assert isinstance(expert, PoolsDispersion)
    assert expert.exact_m_step is False
    mean = expert.predict_params(X)
    assert mean.shape == y.shape
    wanted = stats.norm.logpdf(y, mean, np.sqrt(expert.dispersion))
    assert_allclose(expert.log_prob(X, y), wanted, rtol=1e-10)
    assert_allclose(expert.log_prob(X.copy(), y), wanted, rtol=1e-10)
    constant = stats.norm.logpdf(y, np.average(y, weights=weight), y.std())
    assert weight @ wanted > weight @ constant
    ratio = expert.dispersion / y.var()
    assert_allclose(expert.penalty, -2.5 * (np.log(ratio) + 0.05 / ratio))
    assert expert.n_parameters >= 1


@pytest.mark.parametrize("estimator", CLASSIFIERS, ids=lambda e: type(e).__name__)
@pytest.mark.filterwarnings("ignore:Variables are collinear")
def test_classifiers_as_experts(wine, estimator):
    X, y = wine
    if estimator == "frozen":
        estimator = frozen(LogisticRegression(), X, y)
    weight = resp_of(y.size)[:, 0]
    expert = fitted(estimator, X, y, weight, 3)
    assert isinstance(expert, Expert)
    assert expert.exact_m_step is False
    assert expert.dispersion is None
    log_proba = expert.predict_params(X)
    assert log_proba.shape == (y.size, 3)
    assert_allclose(np.exp(log_proba).sum(axis=1), 1.0)
    assert_allclose(expert.log_prob(X, y), log_proba[np.arange(y.size), y])
    total = weight.sum()
    share = 1 / (total + 1)
    lowest = 2 * np.log(share) + np.log(np.bincount(y).min() / y.size)
    assert log_proba.min() > lowest - 0.1
    assert (log_proba.argmax(axis=1) == y).mean() > 0.9
    assert weight @ expert.log_prob(X, y) / total > -0.6


KEEPS_WEIGHTS = [
    (Ridge(), 1e-9),
    (SVR(C=10.0, gamma=0.1, tol=1e-10), 1e-5),
    (DecisionTreeRegressor(max_depth=4, random_state=0), 1e-9),
    (make_pipeline(StandardScaler(), Ridge()), 1e-9),
    (Lasso(tol=1e-12, max_iter=100_000), 1e-6),
    (GaussianProcessRegressor(RBF(3.0), optimizer=None), 1e-7),
    (LogisticRegression(tol=1e-10, max_iter=1000), 1e-4),
    (SVC(gamma=0.1, tol=1e-10), 1e-4),
    (GaussianNB(), 1e-6),
]


@pytest.mark.parametrize(
    ("estimator", "rtol"),
    KEEPS_WEIGHTS,
    ids=lambda e: type(e).__name__,
)
@pytest.mark.parametrize("cross_fit", [False, 3])
def test_integer_weight_is_repetition_and_zero_weight_removal(
    diabetes, wine, estimator, rtol, cross_fit, rng
):
    X, y = wine if is_classifier(estimator) else diabetes
    X, y = X[:178], y[:178]
    count = rng.integers(0, 3, y.size)
    resp = rng.uniform(0.2, 1.0, y.size)
    rows = np.repeat(np.arange(y.size), count)
    options = {"cross_fit": cross_fit, "random_state": 3}
    one, other = (EstimatorExpert(estimator, **options) for _ in range(2))
    n_classes = 3 if is_classifier(estimator) else None
    one.prepare(X, y, count.astype(float), n_classes)
    other.prepare(X[rows], y[rows], np.ones(rows.size), n_classes)
    for _ in range(2):  # the second pass of a process has its own noise
        one.m_step(X, y, count * resp)
        X_rows = X[rows]
        other.m_step(X_rows, y[rows], resp[rows])
    assert_allclose(one.predict_params(X), other.predict_params(X), rtol, 10 * rtol)
    ours, theirs = one.log_prob(X, y)[rows], other.log_prob(X_rows, y[rows])
    assert_allclose(ours, theirs, 10 * rtol, 10 * rtol)
    assert_allclose(one.penalty, other.penalty, rtol, rtol)


def test_the_variance_is_the_mode_of_its_posterior(diabetes):
    X, y = diabetes
    weight = resp_of(y.size)[:, 0]
    expert = fitted(Ridge(), X, y, weight, variance_prior=(7.0, 0.2))
    square = weight @ (y - expert.predict_params(X)) ** 2
    wanted = (square + 7.0 * 0.2 * y.var()) / (weight.sum() + 7.0)
    assert_allclose(expert.dispersion, wanted)
    assert_allclose(expert.scatter / expert.mass, wanted)

    def objective(variance):
        expert.dispersion = variance
        return weight @ expert.log_prob(X, y) + expert.penalty

    best = objective(wanted)
    assert best > max(objective(1.01 * wanted), objective(0.99 * wanted))
    plain = fitted(Ridge(), X, y, weight, variance_prior=None)
    assert_allclose(plain.dispersion, square / weight.sum())
    assert plain.penalty == 0.0


def test_the_dispersion_can_be_pooled_and_has_a_floor(diabetes):
    X, y = diabetes
    resp = resp_of(y.size)
    pair = [fitted(Ridge(), X, y, resp[:, k]) for k in range(2)]
    pooled = sum(e.scatter for e in pair) / sum(e.mass for e in pair)

    def objective(variance):
        for expert in pair:
            expert.dispersion = variance
        log_lik = [r @ e.log_prob(X, y) for r, e in zip(resp.T, pair, strict=True)]
        return sum(log_lik) + sum(e.penalty for e in pair)

    assert objective(pooled) > max(objective(0.99 * pooled), objective(1.01 * pooled))
    pair[0].dispersion = 0.0
    assert_allclose(pair[0].dispersion, 1e-10 * y.var())
    full_tree = fitted(DecisionTreeRegressor(), X, y, variance_prior=None)
    assert_allclose(full_tree.dispersion, 1e-10 * y.var())
    assert not hasattr(fitted(GaussianNB(), X, y.astype(int) % 2), "scatter")


@pytest.mark.parametrize("estimator", [Ridge(), SVR(), KNeighborsRegressor()])
def test_several_outputs_have_a_variance_each(diabetes, estimator):
    X, y = diabetes
    Y = np.column_stack([y, 100.0 * X[:, 0], X[:, 3]])
    expert = fitted(estimator, X, Y, resp_of(y.size)[:, 0])
    mean = expert.predict_params(X)
    assert mean.shape == Y.shape
    assert expert.dispersion.shape == (3,)
    wanted = stats.norm.logpdf(Y, mean, np.sqrt(expert.dispersion)).sum(axis=1)
    assert_allclose(expert.log_prob(X, Y), wanted, rtol=1e-10)
    for j in range(3):
        alone = fitted(estimator, X, Y[:, j], resp_of(y.size)[:, 0])
        assert_allclose(alone.predict_params(X), mean[:, j])
        assert_allclose(alone.dispersion, expert.dispersion[j])
    column = fitted(estimator, X, Y[:, :1], resp_of(y.size)[:, 0])
    assert column.predict_params(X).shape == (y.size, 1)
    assert_allclose(column.predict_params(X)[:, 0], mean[:, 0])


@pytest.mark.parametrize("value", [0.0, 3.0, 1e12])
def test_a_constant_y_is_predicted_with_finite_density(diabetes, value):
    X, _ = diabetes
    y = np.full(X.shape[0], value)
    expert = fitted(Ridge(), X, y)
    assert_allclose(expert.predict_params(X), y)
    assert np.all(np.isfinite(expert.log_prob(X, y)))
    assert expert.dispersion > 0


# -- classifiers ---------------------------------------------------------------------


def test_smoothing_is_the_mixture_it_says(wine):
    X, y = wine
    weight = resp_of(y.size)[:, 0]
    expert = fitted(LogisticRegression(), X, y, weight, 3, smoothing=2.0)
    bare = LogisticRegression().fit(X, y, sample_weight=weight)
    prior = (np.bincount(y) + 1 / 3) / (y.size + 1)
    total = weight.sum()
    frequency = (np.bincount(y, weight) + 2 * prior) / (total + 2)
    share = 2 / (total + 2)
    wanted = (1 - share) * bare.predict_proba(X) + share * frequency
    assert_allclose(np.exp(expert.predict_params(X)), wanted, rtol=1e-9)
    none = fitted(LogisticRegression(), X, y, weight, 3, smoothing=0)
    assert_allclose(np.exp(none.predict_params(X)), bare.predict_proba(X), rtol=1e-9)
    loss = weight @ (none.log_prob(X, y) - expert.log_prob(X, y))
    assert loss < 2.0


def test_without_smoothing_log_probabilities_stay_finite(wine):
    X, y = wine
    expert = fitted(DecisionTreeClassifier(), X, y, None, 3, smoothing=0.0)
    log_proba = expert.predict_params(X)
    assert np.all(np.isfinite(log_proba))
    assert log_proba.min() < -700


@pytest.mark.parametrize(
    "estimator", [LogisticRegression(), LinearSVC(), SVC(), KNeighborsClassifier()]
)
def test_an_expert_may_see_some_classes_only(wine, estimator):
    X, y = wine
    weight = np.where(y == 1, 0.0, 1.0)
    expert = fitted(estimator, X, y, weight, 4)
    assert expert.predict_params(X).shape == (y.size, 4)
    assert_array_equal(
        expert.predict_params(X)[y != 1].argmax(axis=1)[:20], y[y != 1][:20]
    )
    missing = np.exp(expert.predict_params(X)[:, [1, 3]])
    assert np.all((missing > 0) & (missing < 0.01))
    single = fitted(estimator, X, y, np.where(y == 2, 1.0, 0.0), 4)
    assert single.estimator_ is None
    assert np.all(single.predict_params(X).argmax(axis=1) == 2)
    assert single.n_parameters == 3


class LabelsOnly(DecisionTreeClassifier):
    """A classifier that offers labels and nothing else."""

    @property
    def predict_proba(self):
        raise AttributeError("predict_proba")


def test_labels_alone_become_probabilities_by_their_error_rate():
    X, y = load_breast_cancer(return_X_y=True)
    expert = fitted(LabelsOnly(max_depth=1), X, y, smoothing=0.0)
    label = expert.estimator_.predict(X)
    proba = np.exp(expert.predict_params(X))
    for said in (0, 1):
        assert_allclose(proba[label == said, 1], y[label == said].mean(), atol=0.01)
    assert expert.n_parameters == 2


def test_margins_are_calibrated_by_weight():
    X, y = load_breast_cancer(return_X_y=True)
    X = StandardScaler().fit_transform(X)[:, :3]
    weight = np.where(y == 1, 0.2, 1.0)
    expert = fitted(LinearSVC(), X, y, weight)
    judge = LogisticRegression().fit(X, y, sample_weight=weight)
    ours = log_loss(y, np.exp(expert.predict_params(X)), sample_weight=weight)
    assert ours < 1.1 * log_loss(y, judge.predict_proba(X), sample_weight=weight)


@pytest.mark.parametrize("labels", [[1, 2, 3], ["a", "b", "c"]])
def test_a_prefitted_classifier_keeps_its_own_labels(wine, labels):
    X, y = wine
    named = np.array(labels)[y]
    expert = fitted(frozen(LogisticRegression(), X, named), X, y, None, 3)
    assert (expert.predict_params(X).argmax(axis=1) == y).mean() > 0.95
    half = y < 2
    some = frozen(LogisticRegression(), X[half], np.array(["a", "b", "c"])[y[half]])
    with pytest.raises(ValueError, match="Fit it on rows of all classes"):
        fitted(some, X, y, None, 3)


# -- weights -------------------------------------------------------------------------


class Spy(RegressorMixin, BaseEstimator):
    """A mean that counts its fits and predictions, without sample weights."""

    def __init__(self, warm_start=False, random_state=None):
        self.warm_start = warm_start
        self.random_state = random_state

    def fit(self, X, y):
        self.fits_ = getattr(self, "fits_", 0) + 1
        self.rows_, self.y_ = X, y
        self.n_predictions_ = 0
        return self

    def predict(self, X):
        self.n_predictions_ += 1
        return np.full(X.shape[0], self.y_.mean())


def test_hard_weights_keep_the_rows_that_are_mostly_its_own(diabetes, rng):
    X, y = diabetes
    sample_weight = rng.choice([1.0, 4.0], y.size)
    resp = resp_of(y.size)[:, 0]
    expert = EstimatorExpert(Ridge(), weights="hard")
    expert.prepare(X, y, sample_weight)
    expert.m_step(X, y, sample_weight * resp)
    own = resp >= 0.5
    bare = Ridge().fit(X[own], y[own], sample_weight=sample_weight[own])
    assert_allclose(expert.predict_params(X), bare.predict(X))
    square = (y - bare.predict(X)) ** 2
    assert_allclose(
        expert.scatter
        - 0.25
        * np.average(
            (y - np.average(y, weights=sample_weight)) ** 2, weights=sample_weight
        ),
        (sample_weight * resp) @ square,
    )
    with pytest.raises(ValueError, match="m_step got 10 rows, prepare saw 200"):
        expert.m_step(X[:10], y[:10], resp[:10])
    expert.finish()
    with pytest.raises(ValueError, match=r"prepare saw none.*call prepare first"):
        expert.m_step(X, y, resp)


def test_an_estimator_without_weights_sees_a_draw(diabetes):
    X, y = diabetes
    weight = np.where(np.arange(y.size) < 100, 1.0, 0.01)
    model = fitted(Spy(), X, y, weight).estimator_
    assert model.rows_.shape[0] == round(weight.sum() ** 2 / (weight**2).sum())
    assert_allclose(model.y_.mean(), np.average(y, weights=weight), rtol=0.01)
    whole = fitted(Spy(), X, y).estimator_
    assert whole.rows_ is X
    forced = fitted(Ridge(), X, y, weight, weights="resample")
    assert (
        np.abs(
            forced.predict_params(X) - fitted(Ridge(), X, y, weight).predict_params(X)
        ).max()
        > 1e-6
    )


def test_one_warning_names_the_estimators_without_weights(diabetes):
    X, y = diabetes
    search = GridSearchCV(KNeighborsRegressor(), {"n_neighbors": [3, 5]})
    experts = [
        as_expert(e) for e in (Ridge(), Spy(), Spy(), search, GP, KNeighborsRegressor())
    ]
    with pytest.warns(UserWarning, match="takes no sample_weight") as caught:
        warn_about_weights(experts)
    (message,) = [str(w.message) for w in caught]
    assert message.count("takes no sample_weight") == 3
    assert message.count("Spy takes") == 1
    assert "GridSearchCV of KNeighborsRegressor takes" not in message
    assert "draws rows with the weights as probabilities" in message
    chosen = EstimatorExpert(Spy(), weights="hard")
    assert chosen.weights_note is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_about_weights([chosen, experts[0], SimpleNamespace()])
        EstimatorExpert(Spy()).fit(X, y)
    with pytest.warns(
        UserWarning, match="Spy takes no sample_weight: each of its fits"
    ):
        EstimatorExpert(Spy()).fit(X, y, sample_weight=np.arange(y.size))


def test_a_gaussian_process_learns_its_noise(rng):
    X = np.sort(rng.uniform(0, 6, (150, 1)), axis=0)
    truth = np.sin(X[:, 0])
    y = truth + 0.3 * rng.normal(size=150)
    expert = EstimatorExpert(GaussianProcessRegressor(RBF(1.0))).fit(X, y)
    assert_allclose(expert.dispersion, 0.09, rtol=0.3)
    assert np.sqrt(np.mean((expert.predict(X) - truth) ** 2)) < 0.1
    # Its EM neither collapses to interpolation nor drifts away.
    expert.prepare(X, y, np.ones(150))
    trace = []
    for _ in range(15):
        expert.m_step(X, y, np.ones(150))
        trace.append(expert.dispersion)
    assert_allclose(trace[-1], trace[-3], rtol=0.02)
    assert trace[-1] > 0.05
    weight = resp_of(150)[:, 0]
    expert.m_step(X, y, weight)
    mean, deviation = expert.estimator_.predict(X, return_std=True)
    # The EM update: expected squared error, of which the mean is uncertain too.
    square = weight @ ((y - mean) ** 2 + deviation**2)
    assert_allclose(expert.scatter, square + 0.25 * y.var())
    pipe = EstimatorExpert(
        make_pipeline(StandardScaler(), GaussianProcessRegressor(RBF(1.0)))
    ).fit(X, y)
    assert_allclose(pipe.dispersion, 0.09, rtol=0.3)


def test_frozen_estimators_are_never_refitted(diabetes):
    X, y = diabetes
    spy = Spy().fit(X[:50], y[:50])
    expert = fitted(FrozenEstimator(spy), X, y)
    for weight in resp_of(y.size).T:
        expert.m_step(X, y, weight)
        expert.log_prob(X, y)
    assert spy.fits_ == 1
    assert spy.n_predictions_ == 1
    assert_allclose(expert.predict_params(X), y[:50].mean())
    assert expert.n_parameters == 1


def test_predictions_for_the_training_rows_are_made_once(diabetes):
    X, y = diabetes
    expert = fitted(Spy(), X, y)
    expert.log_prob(X, y)
    expert.predict_params(X)
    assert expert.estimator_.n_predictions_ == 1
    expert.finish()
    expert.log_prob(X, y)
    assert expert.estimator_.n_predictions_ == 2


def test_warm_start_goes_on_and_otherwise_each_fit_is_fresh(diabetes):
    X, y = diabetes
    for warm, fits in ((True, 3), (False, 1)):
        expert = fitted(Spy(warm), X, y)
        first = expert.estimator_
        for weight in resp_of(y.size).T:
            expert.m_step(X, y, weight)
        assert expert.estimator_.fits_ == fits
        assert (expert.estimator_ is first) == warm
    # A forest would not grow again: it is fitted afresh.
    forest = RandomForestRegressor(n_estimators=3, warm_start=True)
    expert = fitted(forest, X, y)
    before = expert.predict_params(X)
    expert.m_step(X, y, resp_of(y.size)[:, 0])
    assert np.abs(expert.predict_params(X) - before).max() > 0.1


def test_warm_start_begins_again_when_the_classes_change(wine):
    X, y = wine
    expert = fitted(LogisticRegression(warm_start=True), X, y, None, 3)
    first = expert.estimator_
    expert.m_step(X, y, np.where(y == 0, 0.0, 1.0))
    assert expert.estimator_ is not first
    second = expert.estimator_
    expert.m_step(X, y, np.where(y == 0, 0.0, 0.7))
    assert expert.estimator_ is second


def test_every_m_step_is_the_same_function(diabetes):
    X, y = diabetes
    weight = resp_of(y.size)[:, 0]
    forest = RandomForestRegressor(n_estimators=3)
    for seed in (0, None):
        expert = EstimatorExpert(forest, random_state=seed)
        expert.prepare(X, y, np.ones(y.size))
        expert.m_step(X, y, weight)
        before = expert.predict_params(X)
        expert.m_step(X, y, 1 - weight)
        expert.m_step(X, y, weight)
        assert_array_equal(expert.predict_params(X), before)
    assert forest.random_state is None
    twin = clone(expert).set_params(random_state=1).fit(X, y)
    other = clone(expert).set_params(random_state=2).fit(X, y)
    assert np.any(twin.predict(X) != other.predict(X))


@pytest.mark.parametrize("scale", [1e-300, 1e-3, 0.0])
def test_too_little_weight_makes_a_constant(diabetes, wine, scale):
    X, y = diabetes
    weight = scale * resp_of(y.size)[:, 0]
    expert = fitted(SVR(), X, y, weight, variance_prior=None)
    assert expert.estimator_ is None
    mean = np.average(y, weights=weight) if scale else y.mean()
    assert_allclose(expert.predict_params(X), mean)
    assert np.all(np.isfinite(expert.log_prob(X, y)))
    assert expert.n_parameters == 2
    X, y = wine
    expert = fitted(SVC(), X, y, scale * resp_of(y.size)[:, 0], 3)
    assert expert.estimator_ is None
    assert_allclose(np.exp(expert.predict_params(X)).sum(axis=1), 1.0)
    assert expert.predict_params(X).min() > -4
    silent = fitted(SVC(), X, y, scale * resp_of(y.size)[:, 0], 3, smoothing=0)
    assert np.all(np.isfinite(silent.predict_params(X)))


def test_sample_weights_of_a_small_sum_still_mean_rows(diabetes):
    X, y = diabetes
    weight = np.full(y.size, 1 / y.size)
    expert = EstimatorExpert(LinearRegression()).fit(X, y, sample_weight=weight)
    assert_allclose(expert.predict(X), LinearRegression().fit(X, y).predict(X))


class Failing(Spy):
    def fit(self, X, y):
        raise ZeroDivisionError("the inner reason")


class Diverging(Spy):
    def predict(self, X):
        return np.full(X.shape[0], np.inf)


def test_errors_of_the_estimator_propagate_unchanged(diabetes):
    X, y = diabetes
    with pytest.raises(ZeroDivisionError, match=r"^the inner reason$"):
        fitted(Failing(), X, y)
    with pytest.raises(ValueError, match="predicted NaN or infinity for rows"):
        fitted(Diverging(), X, y)


# -- cross-fitting -------------------------------------------------------------------


@pytest.mark.parametrize(
    "estimator",
    [DecisionTreeRegressor(), KNeighborsRegressor(1), DecisionTreeClassifier(), "gbm"],
    ids=str,
)
def test_cross_fitting_gives_better_densities_on_new_rows(estimator):
    classify = estimator == "gbm" or is_classifier(estimator)
    load = load_breast_cancer if classify else load_diabetes
    X, y = load(return_X_y=True)
    if estimator == "gbm":
        estimator = HistGradientBoostingClassifier(max_iter=200, min_samples_leaf=2)
    half = np.arange(y.size) % 2 == 0
    X_train, X_new = X[half], X[~half]
    plain = fitted(estimator, X_train, y[half])
    crossed = fitted(estimator, X_train, y[half], cross_fit=True)
    new = [e.log_prob(X_new, y[~half]).mean() for e in (plain, crossed)]
    assert new[1] > new[0] + 0.02
    # The training rows get honest densities too: about those of new rows.
    seen = [e.log_prob(X_train, y[half]).mean() for e in (plain, crossed)]
    assert abs(seen[1] - new[1]) < 0.25
    assert seen[0] > new[0] + 0.15
    # Those of an equal copy, or after finish, are the plain densities.
    copied = crossed.log_prob(X_train.copy(), y[half])
    assert copied.mean() > seen[1] + 0.02
    crossed.finish()
    assert_array_equal(crossed.log_prob(X_train, y[half]), copied)


def test_out_of_fold_predictions_are_those_of_the_fold_models(diabetes):
    X, y = diabetes
    weight = resp_of(y.size)[:, 0]
    expert = fitted(Ridge(), X, y, weight, cross_fit=KFold(4))
    wanted = np.empty(y.size)
    for train, test in KFold(4).split(X):
        model = Ridge().fit(X[train], y[train], sample_weight=weight[train])
        wanted[test] = model.predict(X[test])
    square = weight @ (y - wanted) ** 2
    rows, fraction = expert.variance_prior
    variance = (square + rows * fraction * y.var()) / (weight.sum() + rows)
    assert_allclose(expert.dispersion, variance)
    wanted = stats.norm.logpdf(y, wanted, np.sqrt(variance))
    assert_allclose(expert.log_prob(X, y), wanted)
    whole = Ridge().fit(X, y, sample_weight=weight)
    assert_allclose(expert.predict_params(X), whole.predict(X))


def test_repeated_rows_do_not_leak(diabetes):
    X, y = diabetes
    X, y = np.repeat(X, 3, axis=0), np.repeat(y, 3)
    once = fitted(KNeighborsRegressor(1), X[::3], y[::3], cross_fit=True)
    thrice = fitted(KNeighborsRegressor(1), X, y, cross_fit=True)
    assert_allclose(thrice.log_prob(X, y)[::3].mean(), -4.0, atol=1.5)
    spread = [np.sqrt(e.dispersion) for e in (once, thrice)]
    assert_allclose(*spread, rtol=0.1)


@pytest.mark.parametrize("estimator", [GaussianNB(), LinearSVC(), LabelsOnly()])
def test_folds_may_miss_a_class(wine, estimator):
    X, y = wine
    rows = np.r_[np.flatnonzero(y == 0), np.flatnonzero(y == 1)[:2]]
    expert = fitted(estimator, X[rows], y[rows], None, 3, cross_fit=KFold(2))
    assert np.all(np.isfinite(expert.log_prob(X, y)))
    one_class = fitted(estimator, X, y, (y == 2) * 1.0, 3, cross_fit=2)
    assert np.all(one_class.predict_params(X).argmax(axis=1) == 2)


def test_snapshots_know_the_training_rows_and_pickles_do_not(diabetes):
    X, y = diabetes
    expert = fitted(DecisionTreeRegressor(), X, y, cross_fit=True)
    honest = expert.log_prob(X, y)
    for snapshot in (copy.copy(expert), copy.deepcopy(expert)):
        expert.m_step(X, y, resp_of(y.size)[:, 0])
        assert np.any(expert.log_prob(X, y) != honest)
        assert_array_equal(snapshot.log_prob(X, y), honest)
        expert.m_step(X, y, np.ones(y.size))
    assert expert._train[0] is X
    loaded = pickle.loads(pickle.dumps(expert))
    assert loaded._train is None
    assert_allclose(loaded.log_prob(X, y), expert.log_prob(X.copy(), y))
    assert np.abs(loaded.log_prob(X, y) - honest).max() > 0.1
    loaded.m_step(X, y, np.ones(y.size))
    assert_array_equal(loaded.log_prob(X, y), honest)


# -- within EM, and alone --------------------------------------------------------------


def em(experts, X, y, n_passes=12):
    """EM for two experts and a constant gate; return the objective of each pass."""
    resp = np.where(X[:, [2]] > 0, [0.9, 0.1], [0.1, 0.9])
    trace = []
    for expert in experts:
        expert.prepare(X, y, np.ones(y.size))
    for _ in range(n_passes):
        for expert, weight in zip(experts, resp.T, strict=True):
            expert.m_step(X, y, weight)
        joint = np.column_stack([e.log_prob(X, y) for e in experts])
        joint += np.log(resp.mean(axis=0))
        log_lik = np.logaddexp.reduce(joint, axis=1)
        trace.append(log_lik.sum() + sum(e.penalty for e in experts))
        resp = np.exp(joint - log_lik[:, None])
    return np.array(trace)


@pytest.mark.parametrize(
    "pair",
    [
        (LinearRegression(), LinearRegression()),
        (make_pipeline(StandardScaler(), LinearRegression()), Ridge(1e-6)),
        (DecisionTreeRegressor(max_depth=1), LinearRegression()),
    ],
    ids=["linear", "pipeline", "stump"],
)
def test_the_likelihood_climbs_in_em(diabetes, pair):
    trace = em([as_expert(e) for e in pair], *diabetes)
    assert trace[-1] - trace[0] > 5.0
    slack = 1e-3 if isinstance(pair[0], DecisionTreeRegressor) else 1e-8
    assert np.diff(trace).min() >= -slack * abs(trace[-1])


def test_alone_it_predicts_as_the_bare_estimator(diabetes, wine):
    X, y = diabetes
    expert = EstimatorExpert(SVR(C=10)).fit(X, y)
    bare = SVR(C=10).fit(X, y)
    assert_array_equal(expert.predict(X), bare.predict(X))
    assert_allclose(expert.score(X, y), bare.score(X, y))
    assert not hasattr(expert, "predict_proba")
    X, y = wine
    names = np.array(["red", "rose", "white"])[y]
    expert = EstimatorExpert(LogisticRegression(), smoothing=0).fit(X, names)
    bare = LogisticRegression().fit(X, names)
    assert_array_equal(expert.classes_, bare.classes_)
    assert_array_equal(expert.predict(X), bare.predict(X))
    assert_allclose(expert.predict_proba(X), bare.predict_proba(X), rtol=1e-7)
    assert_allclose(expert.predict_log_proba(X), bare.predict_log_proba(X), atol=1e-7)
    assert_allclose(expert.score(X, names), bare.score(X, names))
    wanted = bare.predict_log_proba(X)[np.arange(y.size), y]
    assert_allclose(expert.log_prob(X, names), wanted, atol=1e-7)
    with pytest.raises(ValueError, match="y has the class 'blue', which fit did not"):
        expert.log_prob(X[:2], ["red", "blue"])


def test_it_is_a_model_for_search_and_cross_validation(diabetes):
    X, y = diabetes
    search = GridSearchCV(EstimatorExpert(Ridge()), {"estimator__alpha": [1e-3, 1e5]})
    assert search.fit(X, y).best_params_ == {"estimator__alpha": 1e-3}
    assert cross_val_score(EstimatorExpert(Ridge()), X, y).mean() > 0.3


def test_data_frames_reach_the_estimator_as_they_are(diabetes):
    pd = pytest.importorskip("pandas")
    X, y = diabetes
    table = pd.DataFrame(X, columns=[f"c{j}" for j in range(X.shape[1])])
    expert = EstimatorExpert(Ridge()).fit(table, y, sample_weight=np.arange(y.size))
    assert_array_equal(expert.estimator_.feature_names_in_, table.columns)
    bare = EstimatorExpert(Ridge()).fit(X, y, sample_weight=np.arange(y.size))
    assert_allclose(expert.predict(table), bare.predict(X))
    crossed = EstimatorExpert(Ridge(), cross_fit=3).fit(table, y)
    assert_allclose(
        crossed.dispersion, EstimatorExpert(Ridge(), cross_fit=3).fit(X, y).dispersion
    )
    with pytest.raises(ValueError, match="feature names should match"):
        expert.predict(table.rename(columns={"c0": "other"}))


def test_sparse_and_missing_values_pass_where_the_estimator_takes_them(diabetes, wine):
    X, y = diabetes
    for cross_fit in (False, 3):
        expert = fitted(Ridge(), sparse.csr_array(X), y, cross_fit=cross_fit)
        dense = fitted(Ridge(), X, y, cross_fit=cross_fit)
        if not cross_fit:
            assert_allclose(
                expert.predict_params(X), dense.predict_params(X), rtol=1e-3
            )
        assert_allclose(expert.dispersion, dense.dispersion, rtol=0.05)
    holes = np.where(np.random.default_rng(0).random(X.shape) < 0.1, np.nan, X)
    boosted = EstimatorExpert(HistGradientBoostingRegressor(max_iter=20), cross_fit=3)
    assert boosted.fit(holes, y).score(holes, y) > 0.4
    assert boosted.__sklearn_tags__().input_tags.allow_nan
    with pytest.raises(ValueError, match="contains NaN"):
        EstimatorExpert(Ridge()).fit(holes, y)
    with pytest.raises(TypeError, match=r"[Ss]parse"):
        EstimatorExpert(GP).fit(sparse.csr_array(X), y)


class Wanting(Ridge):
    """A ridge that asks for one more array a row."""

    def fit(self, X, y, sample_weight=None, offset=None):
        self.offset_ = offset
        return super().fit(X, y, sample_weight)


def test_fit_parameters_reach_the_estimator(diabetes):
    X, y = diabetes
    weight = np.where(np.arange(y.size) < 50, 1.0, 0.0)
    expert = EstimatorExpert(Wanting()).fit(X, y, offset=y)
    assert_array_equal(expert.estimator_.offset_, y)
    expert.set_fit_params({"offset": y})
    expert.prepare(X, y, np.ones(y.size))
    expert.m_step(X, y, weight)
    assert_array_equal(expert.estimator_.offset_, y[:50])
    with pytest.raises(ValueError, match="sample_weight cannot be one of"):
        expert.set_fit_params({"sample_weight": weight})
    with config_context(enable_metadata_routing=True):
        routed = EstimatorExpert(Wanting().set_fit_request(offset=True))
        routed.fit(X, y, sample_weight=weight + 1, offset=y)
        assert_array_equal(routed.estimator_.offset_, y)
        with pytest.raises(TypeError, match="unexpected argument"):
            EstimatorExpert(Ridge()).fit(X, y, offset=y)


@pytest.mark.parametrize(
    ("estimator", "count"),
    [
        (Ridge(), 11),
        (Ridge(fit_intercept=False), 10),
        (make_pipeline(StandardScaler(), Lasso()), 11),
        (GridSearchCV(Ridge(), {}, cv=2), 11),
        (DecisionTreeRegressor(), 0),
        (RandomForestRegressor(n_estimators=2), 0),
        (SVR(), 0),
        (MLPRegressor(hidden_layer_sizes=(4,), max_iter=5, solver="lbfgs"), 49),
    ],
    ids=repr,
)
@pytest.mark.filterwarnings("ignore:lbfgs failed to converge")
def test_parameters_are_counted(diabetes, estimator, count):
    X, y = diabetes
    assert fitted(estimator, X, y).n_parameters == count + 1
    assert count_coefficients(clone(estimator).fit(X, y)) == count


def test_parameters_of_several_outputs_and_classes_are_counted(diabetes, wine):
    X, y = diabetes
    Y = np.column_stack([y, X[:, 0]])
    assert fitted(Ridge(), X, Y).n_parameters == 2 * 11 + 2
    huber = HuberRegressor(max_iter=2000)
    assert fitted(huber, X[:, :3], Y).n_parameters == 2 * 4 + 2
    X, y = wine
    assert fitted(LogisticRegression(), X, y).n_parameters == 3 * 14
    assert fitted(LinearSVC(), X, y).n_parameters == 3 * 14 + 3


# -- what is refused -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"weights": "soft"},
            "weights must be 'auto', 'resample' or 'hard', got 'soft'",
        ),
        ({"smoothing": -1}, "smoothing must be a number >= 0, got -1"),
        ({"variance_prior": (5.0,)}, r"variance_prior must be None or two.*\(5.0,\)"),
        ({"variance_prior": (5.0, -0.1)}, r"two numbers >= 0, .*got \(5.0, -0.1\)"),
        ({"cross_fit": 1}, "cross_fit must be a bool, a number of folds >= 2.*got 1"),
        ({"cross_fit": "yes"}, "a splitter such as KFold, got 'yes'"),
    ],
)
def test_bad_parameters_are_named(diabetes, options, message):
    X, y = diabetes
    expert = EstimatorExpert(Ridge(), **options)
    with pytest.raises(ValueError, match=message):
        expert.fit(X, y)
    with pytest.raises(ValueError, match=message):
        expert.prepare(X, y, np.ones(y.size))


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        (Ridge, r"must be an instance, got the class Ridge. Write Ridge\(\)"),
        (EstimatorExpert, "got the class EstimatorExpert"),
        (StandardScaler(), r"regressor or classifier.*got StandardScaler\(\)"),
        (KMeans(), r"got KMeans\(\)"),
        (None, "got None"),
        ("ridge", "got 'ridge'"),
    ],
)
def test_what_is_no_expert_is_refused(diabetes, thing, message):
    with pytest.raises(TypeError, match=message):
        as_expert(thing)
    if thing is not EstimatorExpert:
        with pytest.raises(TypeError, match=message):
            EstimatorExpert(thing).fit(*diabetes)


def test_experts_stay_as_they_are():
    expert = EstimatorExpert(Ridge())
    assert as_expert(expert) is expert
    wrapped = as_expert(GaussianNB())
    assert isinstance(wrapped, EstimatorExpert)
    assert is_classifier(wrapped)

    class Own:
        def prepare(self): ...
        def m_step(self): ...
        def log_prob(self): ...
        def predict_params(self): ...

    own = Own()
    assert as_expert(own) is own


@pytest.mark.parametrize("method", ["predict", "predict_params"])
def test_nothing_is_predicted_before_fit(diabetes, method):
    expert = EstimatorExpert(Ridge())
    with pytest.raises(NotFittedError, match="not fitted yet"):
        getattr(expert, method)(diabetes[0])
    with pytest.raises(NotFittedError, match="not fitted yet"):
        expert.log_prob(*diabetes)
    iris = load_iris(return_X_y=True)
    with pytest.raises(NotFittedError, match="not fitted yet"):
        EstimatorExpert(GaussianNB()).predict_proba(iris[0])
