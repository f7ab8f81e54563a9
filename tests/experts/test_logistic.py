"""The logistic expert: damped Newton steps around the fit of all rows."""

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.utils.estimator_checks import parametrize_with_checks

from skmoe.experts import EstimatorExpert, LogisticExpert
from skmoe.experts._logistic_kernel import MAX_NEWTON_PARAMETERS
from tests._asserts import assert_climbs
from tests.experts.expert_suite import ExpertSuite, objective


class TestLogisticTwo(ExpertSuite):
    n_classes = 2

    def make_expert(self):
        return LogisticExpert()


class TestLogisticFive(ExpertSuite):
    n_classes = 5

    def make_expert(self):
        return LogisticExpert(alpha=0.3)


class TestLogisticMaximumLikelihood(ExpertSuite):
    n_classes = 2
    # Separated rows have no maximum: what Newton has reached then hangs on the
    # last digit, and a column scaled by its own deviation knows 1e-9 of it.
    weight_tol = 1e-6

    def make_expert(self):
        return LogisticExpert(alpha=0)


# Few iterations stop where lbfgs stops: tight, so that weights equal repetitions.
@pytest.mark.filterwarnings("ignore:lbfgs failed:sklearn.exceptions.ConvergenceWarning")
class TestLogisticRegressionAdapted(ExpertSuite):
    n_classes = 3
    weight_tol = 1e-5
    sparse_tol = 1e-4

    def make_expert(self):
        return EstimatorExpert(LogisticRegression(tol=1e-9, max_iter=300))


@parametrize_with_checks([LogisticExpert(), LogisticExpert(alpha=0.1, max_iter=200)])
def test_estimator_checks(estimator, check):
    check(estimator)


def classes(rng, n_samples=160, n_classes=3):
    X = rng.normal(size=(n_samples, 3)) * [1e-3, 1.0, 20.0] + [0.0, 5.0, -100.0]
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    logit = 1.2 * Z @ rng.normal(size=(3, n_classes)) + rng.normal(size=n_classes)
    y = (logit + rng.gumbel(size=logit.shape)).argmax(axis=1)
    return X, y, rng.uniform(0.1, 4.0, size=n_samples)


@pytest.fixture
def rng():
    return np.random.default_rng(8)


@pytest.mark.parametrize("n_classes", [2, 5])
def test_without_penalty_it_is_maximum_likelihood(rng, n_classes):
    X, y, weight = classes(rng, n_classes=n_classes)
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    plain = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-12)
    plain.fit(Z, y, sample_weight=weight)
    ours = LogisticExpert(alpha=0, tol=1e-14).fit(X, y, weight)
    np.testing.assert_allclose(
        ours.predict_proba(X), plain.predict_proba(Z), rtol=1e-6, atol=1e-9
    )
    np.testing.assert_array_equal(ours.predict(X), plain.predict(Z))


def test_with_labels_and_a_ridge(rng):
    """``fit`` shrinks towards its own ridge fit: less than that fit itself."""
    X, y, weight = classes(rng)
    labels = np.array(["ant", "bee", "cat"])[y]
    ours = LogisticExpert(alpha=20.0).fit(X, labels, weight)
    assert list(ours.classes_) == ["ant", "bee", "cat"]
    assert set(ours.predict(X)) <= set(labels)
    free = LogisticExpert(alpha=0).fit(X, labels, weight)
    anchor = np.linalg.norm(ours.kernel_.anchor[:, 1:])
    size = np.linalg.norm(ours.kernel_.coef[0, :, 1:])
    assert anchor < size < np.linalg.norm(free.kernel_.coef[0, :, 1:])


@pytest.mark.parametrize("alpha", [0.1, 20.0])
def test_the_anchor_is_ridge_on_the_standardised_columns(rng, alpha):
    X, y, _ = classes(rng)
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    mild = min(alpha, 1.0)
    plain = LogisticRegression(C=1.0 / mild, solver="newton-cg", tol=1e-12)
    plain.fit(Z, y)
    expert = LogisticExpert(alpha=alpha, tol=1e-14)
    expert.prepare(X, y, np.ones(y.size), 3)
    anchor = expert.kernel_.anchor
    np.testing.assert_allclose(anchor[:, 1:], plain.coef_, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(anchor.sum(axis=0), 0.0, atol=1e-9)


def test_coefficients_on_the_users_columns(rng):
    X, y, weight = classes(rng)
    expert = LogisticExpert().fit(X, y, weight)
    logit = X @ expert.coef_.T + expert.intercept_
    proba = np.exp(logit - logit.max(axis=1, keepdims=True))
    proba /= proba.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(expert.predict_proba(X), proba, rtol=1e-9)
    np.testing.assert_allclose(expert.coef_.sum(axis=0), 0.0, atol=1e-9)
    assert expert.n_parameters == 2 * 4


def test_order_of_classes(rng):
    X, y, weight = classes(rng)
    order = np.array([2, 0, 1])
    one = LogisticExpert().fit(X, y, weight)
    other = LogisticExpert().fit(X, order[y], weight)
    np.testing.assert_allclose(
        other.predict_proba(X)[:, order], one.predict_proba(X), rtol=1e-8
    )


def test_a_penalised_step_after_another_reaches_the_maximum(rng):
    X, y, weight = classes(rng)
    expert = LogisticExpert(alpha=2.0)
    expert.prepare(X, y, np.ones(y.size), 3)
    values = [objective(expert, X, y, weight)]
    for _ in range(12):
        expert.m_step(X, y, weight)
        values.append(objective(expert, X, y, weight))
    assert_climbs(values, 1e-12)
    expert._accumulate(X, y, weight)
    assert np.abs(expert.kernel_.gradient).max() < 1e-8 * weight.sum()


@pytest.mark.parametrize("alpha", [0.0, 1e-6])
def test_separated_classes_stay_finite(alpha):
    X = np.linspace(-1.0, 1.0, 40)[:, None]
    y = (X[:, 0] > 0).astype(int)
    expert = LogisticExpert(alpha=alpha).fit(X, y)
    proba = expert.predict_proba(X)
    assert np.isfinite(expert.log_prob(X, y)).all()
    assert proba[np.arange(40), y].min() > 0.9


def test_classes_without_rows(rng):
    """Inside a mixture codes go to n_classes, whether or not all occur."""
    X, y, weight = classes(rng)
    expert = LogisticExpert()
    expert.prepare(X, y, weight, 5)
    for _ in range(3):
        expert.m_step(X, y, weight)
    params = expert.predict_params(X)
    assert params.shape == (y.size, 5)
    assert np.isfinite(params).all()
    np.testing.assert_allclose(np.exp(params).sum(axis=1), 1.0, rtol=1e-12)
    assert np.exp(params[:, 3:]).max() < 0.05


def test_wide_problems_climb_by_the_bound(rng):
    """Too many unknowns for Newton: the fixed bound, and the same maximum."""
    X = rng.normal(size=(300, 24))
    y = (X[:, :10] + rng.gumbel(size=(300, 10))).argmax(axis=1)
    weight = rng.uniform(0.5, 2.0, size=300)
    expert = LogisticExpert(alpha=0.5, max_iter=800, tol=0.0)
    assert MAX_NEWTON_PARAMETERS < (10 - 1) * (24 + 1)
    expert.prepare(X, y, weight, 10)
    assert not expert.kernel_.newton
    expert._accumulate(X, y, weight)
    Z = (X - np.average(X, axis=0, weights=weight)) * expert.design_.inverse_scale
    plain = LogisticRegression(C=2.0, solver="lbfgs", tol=1e-10, max_iter=2000)
    plain.fit(Z, y, sample_weight=weight)
    np.testing.assert_allclose(expert.kernel_.anchor[:, 1:], plain.coef_, atol=1e-4)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"alpha": -0.5}, r'alpha must be a number >= 0 or "auto", got -0\.5'),
        ({"alpha": np.nan}, 'number >= 0 or "auto", got nan'),
        ({"alpha": "strong"}, r"""or "auto", got 'strong'"""),
        ({"max_iter": 0}, "max_iter must be at least 1, got 0"),
    ],
)
def test_bad_parameters(rng, params, message):
    X, y, _ = classes(rng)
    with pytest.raises(ValueError, match=message):
        LogisticExpert(**params).fit(X, y)


def test_one_class(rng):
    with pytest.raises(
        ValueError, match=r"at least two classes in y, got one class: .*3"
    ):
        LogisticExpert().fit(rng.normal(size=(9, 2)), np.full(9, 3))
    # Rows of weight zero do not count.
    y = np.array([0, 0, 1])
    with pytest.raises(ValueError, match=r"got one class: .*0"):
        LogisticExpert().fit(np.eye(3), y, sample_weight=[1.0, 1.0, 0.0])


def test_predict_before_fit():
    with pytest.raises(NotFittedError):
        LogisticExpert().predict(np.zeros((2, 1)))
