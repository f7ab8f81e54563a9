"""The heteroscedastic expert: mean and log variance, together and apart."""

import numpy as np
import pytest
from scipy import stats
from sklearn.base import clone
from sklearn.linear_model import GammaRegressor, LinearRegression
from sklearn.utils.estimator_checks import parametrize_with_checks

from skmoe.experts import HeteroscedasticExpert, LinearExpert
from tests.experts.glm_suite import GlmSuite, assert_maximum, objective, problem

PLAIN = {"alpha": 0, "variance_alpha": 0, "variance_prior": None}


class TestHeteroscedastic(GlmSuite):
    weight_tol = 1e-6
    # The prior acts where sparse columns are zero, not at their center.
    sparse_tol = 1.0

    def make_expert(self):
        return HeteroscedasticExpert()

    def respond(self, rng, eta):
        return eta + np.exp(0.4 * eta - 0.5) * rng.normal(size=eta.size)

    def law(self, expert, X):
        mean, variance = expert.predict_params(X).T
        return stats.norm(mean, np.sqrt(variance))


class TestHeteroscedasticMaximumLikelihood(TestHeteroscedastic):
    sparse_tol = 1e-5

    def make_expert(self):
        return HeteroscedasticExpert(**PLAIN)


class TestHeteroscedasticStrong(TestHeteroscedastic):
    def make_expert(self):
        return HeteroscedasticExpert(alpha=0.1, variance_alpha=50.0)


@parametrize_with_checks([HeteroscedasticExpert()])
def test_estimator_checks(estimator, check):
    check(estimator)


@pytest.fixture
def rng():
    return np.random.default_rng(8)


@pytest.mark.parametrize("plain", [False, True])
def test_fit_is_the_maximum(plain, rng):
    expert, X, y, weight = problem("heteroscedastic", rng, plain=plain, tol=1e-13)
    assert_maximum(expert.fit(X, y, weight), X, y, weight)


def test_maximum_is_a_pair_of_scikit_learn_fits(rng):
    """The mean is weighted least squares, the variance a Gamma regression."""
    expert, X, y, weight = problem("heteroscedastic", rng, 300, plain=True, tol=1e-14)
    expert.fit(X, y, weight)
    mean, std = expert.predict(X, return_std=True)
    squares = LinearRegression().fit(X, y, weight / std**2)
    np.testing.assert_allclose(expert.coef_, squares.coef_, rtol=1e-5)
    gamma = GammaRegressor(alpha=0, tol=1e-10, solver="newton-cholesky")
    gamma.fit(X, (y - mean) ** 2, weight)
    np.testing.assert_allclose(expert.variance_coef_, gamma.coef_, rtol=1e-4)
    assert expert.variance_intercept_ == pytest.approx(gamma.intercept_, rel=1e-4)
    np.testing.assert_allclose(std**2, gamma.predict(X), rtol=1e-4)


def test_constant_noise_gives_a_linear_expert(rng):
    """But for what three slopes find in noise: half a chi-squared of three."""
    X, weight = rng.normal(size=(400, 3)), np.ones(400)
    y = X @ [0.5, -0.2, 3.0] + rng.normal(size=400)
    expert = HeteroscedasticExpert(alpha=0, variance_prior=None, tol=1e-13)
    expert.fit(X, y, weight)
    flat = LinearExpert(alpha=0, variance_prior=None).fit(X, y, weight)
    gain = weight @ (expert.log_prob(X, y) - flat.log_prob(X, y))
    assert 0.0 < gain < 8.0
    np.testing.assert_allclose(expert.coef_, flat.coef_, atol=0.3)


def test_anchor_and_ridge(rng):
    """Few rows stay near the fit of all, in mean and in log variance."""
    expert, X, y, weight = problem("heteroscedastic", rng, 200)
    few = weight * (np.arange(200) < 12)
    drift = []
    for strength in (0.1, 10.0, 1e6):
        expert.set_params(alpha=strength, variance_alpha=strength)
        expert.prepare(X, y, weight)
        expert.fit_alone(X, y, few)
        deviation = expert.kernel_.coef[0] - expert.kernel_.prior.anchor
        drift.append(np.abs(deviation[:, 1:]).max(axis=1))
    assert (np.diff(drift, axis=0) < 0.0).all()
    assert max(drift[-1]) < 1e-4


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_units_of_y_change_nothing(scale, rng):
    expert, X, y, weight = problem("heteroscedastic", rng, tol=1e-13)
    one = clone(expert).fit(X, y, weight)
    other = clone(expert).fit(X, scale * y, weight)
    np.testing.assert_allclose(other.coef_, scale * one.coef_, rtol=1e-4)
    np.testing.assert_allclose(other.variance_coef_, one.variance_coef_, rtol=1e-3)
    shift = weight.sum() * np.log(scale)
    total = objective(other, X, scale * y, weight) + shift
    assert total == pytest.approx(objective(one, X, y, weight), abs=1e-4)


def test_prior_of_the_variance_is_rows_at_the_center(rng):
    """Without slopes: the inverse-gamma update of a `LinearExpert`."""
    rows, fraction = 30.0, 0.4
    _, X, y, weight = problem("heteroscedastic", rng)
    prior = (rows, fraction)
    expert = HeteroscedasticExpert(variance_prior=prior, tol=1e-14)
    expert.fit(0.0 * X, y, weight)
    flat = LinearExpert(variance_prior=prior).fit(0.0 * X, y, weight)
    std = expert.predict(0.0 * X, return_std=True)[1]
    np.testing.assert_allclose(std**2, flat.dispersion, rtol=1e-6)


def test_exact_fits_collapse_without_a_prior(rng):
    X = rng.normal(size=(60, 2))
    y = X[:, 0] + 1.0
    free = HeteroscedasticExpert(**PLAIN).fit(X, y)
    assert free.collapsed
    assert np.isfinite(free.log_prob(X, y)).all()
    assert not HeteroscedasticExpert().fit(X, y).collapsed


def test_predicted_deviation_and_parameters(rng):
    expert, X, y, weight = problem("heteroscedastic", rng)
    expert.fit(X, y, weight)
    mean, std = expert.predict(X, return_std=True)
    np.testing.assert_array_equal(expert.predict(X), mean)
    np.testing.assert_allclose(expert.predict_params(X), np.c_[mean, std**2])
    log_variance = X @ expert.variance_coef_ + expert.variance_intercept_
    np.testing.assert_allclose(np.log(std**2), log_variance, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(mean, X @ expert.coef_ + expert.intercept_)
    assert expert.dispersion is None
    assert expert.n_parameters == 8


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"alpha": -1}, "HeteroscedasticExpert: alpha must be a number >= 0, got -1"),
        ({"variance_alpha": None}, "variance_alpha must be a number >= 0, got None"),
        ({"variance_prior": (1.0,)}, r"variance_prior must be None or .*\(1\.0,\)"),
        ({"max_iter": 0}, "max_iter must be at least 1, got 0"),
    ],
)
def test_bad_parameters(params, message, rng):
    _, X, y, _ = problem("heteroscedastic", rng)
    with pytest.raises(ValueError, match=message):
        HeteroscedasticExpert(**params).fit(X, y)


def test_several_outputs(rng):
    expert, X, y, weight = problem("heteroscedastic", rng)
    with pytest.raises(ValueError, match=r"Expert fits one output, got y of shape \("):
        expert.prepare(X, np.column_stack([y, y]), weight)
