"""The robust linear expert: t and Laplace noise, outliers, quantile regression."""

import numpy as np
import pytest
from scipy import optimize, stats
from sklearn.base import clone
from sklearn.linear_model import LinearRegression, QuantileRegressor
from sklearn.utils.estimator_checks import parametrize_with_checks

from skmoe.experts import LinearExpert, RobustLinearExpert
from tests.experts.glm_suite import GlmSuite, assert_maximum, objective, problem


class TestStudent(GlmSuite):
    weight_tol = 1e-6

    def make_expert(self):
        return RobustLinearExpert()

    def respond(self, rng, eta):
        return eta + 0.3 * rng.standard_t(3.0, eta.size)

    def law(self, expert, X):
        scale2, df = expert.dispersion
        return stats.t(df, loc=expert.predict_params(X), scale=np.sqrt(scale2))


class TestStudentMaximumLikelihood(TestStudent):
    def make_expert(self):
        return RobustLinearExpert(alpha=0, variance_prior=None)


class TestStudentFixedDegrees(TestStudent):
    def make_expert(self):
        return RobustLinearExpert(df=4.0)


class TestLaplace(GlmSuite):
    # Weights 1 / |residual| of rows that are met carry rounding a long way.
    weight_tol = 1e-4
    sparse_tol = 1e-2

    def make_expert(self):
        return RobustLinearExpert(noise="laplace")

    def respond(self, rng, eta):
        return eta + rng.laplace(0.0, 0.3, eta.size)

    def law(self, expert, X):
        return stats.laplace(expert.predict_params(X), expert.dispersion)


@parametrize_with_checks(
    [
        RobustLinearExpert(),
        RobustLinearExpert(df=5.0),
        RobustLinearExpert(noise="laplace"),
    ]
)
def test_estimator_checks(estimator, check):
    check(estimator)


ROBUST = ["student", "student of fixed df", "laplace"]


@pytest.fixture
def rng():
    return np.random.default_rng(8)


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("name", ["student", "student of fixed df"])
def test_fit_is_the_maximum(name, plain, rng):
    expert, X, y, weight = problem(name, rng, plain=plain, tol=1e-13)
    assert_maximum(expert.fit(X, y, weight), X, y, weight)


@pytest.mark.parametrize("alpha", [0.5, 30.0])
def test_laplace_is_the_maximum(alpha, rng):
    """With a ridge, by Nelder-Mead: the density has corners."""
    expert, X, y, weight = problem("laplace", rng, alpha=alpha, tol=1e-14, max_iter=900)
    expert.fit(X, y, weight)
    few = weight * (X[:, 0] > 0.0)  # not the rows of the anchor
    for _ in range(900):
        expert.m_step(X, y, few)
    top, best = objective(expert, X, y, few), expert.parameters

    def minus(vector):
        expert.parameters = vector
        return -objective(expert, X, y, few)

    options = {"xatol": 1e-9, "fatol": 1e-10, "maxiter": 9000, "maxfev": 9000}
    found = optimize.minimize(minus, best, method="Nelder-Mead", options=options)
    assert top >= -found.fun - 1e-4


@pytest.mark.parametrize("fit_intercept", [False, True])
def test_laplace_is_median_regression(fit_intercept, rng):
    expert, X, y, weight = problem(
        "laplace", rng, 300, plain=True, fit_intercept=fit_intercept
    )
    expert.set_params(tol=1e-13, max_iter=1000).fit(X, y, weight)
    plain = QuantileRegressor(alpha=0, fit_intercept=fit_intercept).fit(X, y, weight)
    least = weight @ np.abs(y - plain.predict(X))
    ours = weight @ np.abs(y - expert.predict(X))
    assert least - 1e-9 <= ours <= least * (1.0 + 1e-6)
    # The scale is the mean absolute residual.
    assert expert.dispersion == pytest.approx(ours / weight.sum(), rel=1e-5)
    # As it stops by default: 1e-3 nats short, of hundreds.
    quick = clone(expert).set_params(tol=1e-8, max_iter=100).fit(X, y, weight)
    short = weight @ (expert.log_prob(X, y) - quick.log_prob(X, y))
    assert short < 5e-3


def test_degrees_of_freedom_of_a_sample(rng):
    """Against scipy's maximum-likelihood fit of a t distribution."""
    y = 3.0 + 2.0 * rng.standard_t(2.5, 600)
    expert = RobustLinearExpert(alpha=0, variance_prior=None, tol=1e-13)
    expert.fit(np.zeros((600, 1)), y)
    df, loc, scale = stats.t.fit(y)
    ours = stats.t(expert.dispersion[1], expert.intercept_, expert.dispersion[0] ** 0.5)
    assert ours.logpdf(y).sum() >= stats.t(df, loc, scale).logpdf(y).sum() - 1e-9
    assert expert.dispersion[1] == pytest.approx(df, rel=1e-2)
    assert expert.intercept_ == pytest.approx(loc, abs=1e-2)


def test_scoring_does_not_crawl(rng):
    """Few steps from a poor start, where EM takes hundreds in the df."""
    expert, X, y, weight = problem("student", rng, 400, plain=True, tol=1e-12)
    expert.fit(X, y, weight)
    top, vector = objective(expert, X, y, weight), expert.parameters
    vector[-1] = np.log(150.0)
    expert.parameters = vector
    for _ in range(12):
        expert.m_step(X, y, weight)
    assert objective(expert, X, y, weight) >= top - 1e-6


@pytest.mark.parametrize("name", ROBUST)
def test_outliers_count_little(name, rng):
    expert, X, y, _ = problem(name, rng, 300)
    clean = clone(expert).fit(X, y)
    y[:60] += 40.0
    dirty = clone(expert).fit(X, y)
    squares = LinearExpert().fit(X, y)
    change = np.abs(dirty.predict(X) - clean.predict(X)).mean()
    assert change < 0.5
    assert np.abs(squares.predict(X) - clean.predict(X)).mean() > 10.0 * change


def test_many_degrees_of_freedom_are_least_squares(rng):
    expert, X, y, weight = problem("student", rng, plain=True, df=1e7, tol=1e-14)
    plain = LinearRegression().fit(X, y, weight)
    expert.fit(X, y, weight)
    np.testing.assert_allclose(expert.coef_, plain.coef_, rtol=1e-4)
    spread = np.average((y - plain.predict(X)) ** 2, weights=weight)
    assert expert.dispersion[0] == pytest.approx(spread, rel=1e-4)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
@pytest.mark.parametrize("name", ROBUST)
def test_units_of_y_change_nothing(name, scale, rng):
    """Ridge and prior are in units of the noise and of the variance of y."""
    expert, X, y, weight = problem(name, rng, tol=1e-12)
    one = clone(expert).fit(X, y, weight)
    other = clone(expert).fit(X, scale * y, weight)
    np.testing.assert_allclose(other.coef_, scale * one.coef_, rtol=1e-3)
    shift = weight.sum() * np.log(scale)
    total = objective(other, X, scale * y, weight) + shift
    assert total == pytest.approx(objective(one, X, y, weight), abs=1e-3)


@pytest.mark.parametrize("name", ROBUST)
def test_prior_holds_the_scale_up(name, rng):
    expert, X, _, _ = problem(name, rng)
    y = 2.0 * X[:, 0] + 1.0
    held, free = clone(expert).fit(X, y), clone(expert)
    free.set_params(alpha=0, variance_prior=None).fit(X, y)
    assert not held.collapsed
    assert np.ravel(held.dispersion)[0] > 100.0 * np.ravel(free.dispersion)[0]
    assert free.collapsed
    assert np.isfinite(free.log_prob(X, y)).all()


def test_prior_of_t_noise_is_an_inverse_gamma(rng):
    """At the maximum the derivative in the log squared scale is zero."""
    rows, fraction = 30.0, 0.4
    expert, X, y, weight = problem(
        "student", rng, alpha=0, df=4.0, variance_prior=(rows, fraction), tol=1e-14
    )
    expert.fit(X, y, weight)
    scale2, df = expert.dispersion
    z = (y - expert.predict(X)) ** 2 / scale2
    spread = np.average((y - np.average(y, weights=weight)) ** 2, weights=weight)
    score = weight @ ((df + 1.0) * z / (df + z) - 1.0)
    score += rows * (fraction * spread / scale2 - 1.0)
    assert abs(score) < 1e-4


def test_prior_of_laplace_noise(rng):
    """The scale is a mean absolute residual, pseudo-rows counted in."""
    rows, fraction = 30.0, 0.4
    expert, X, y, weight = problem(
        "laplace", rng, alpha=0, variance_prior=(rows, fraction), tol=1e-14
    )
    expert.fit(X, y, weight)
    spread = np.average((y - np.average(y, weights=weight)) ** 2, weights=weight)
    total = weight @ np.abs(y - expert.predict(X))
    total += rows * np.sqrt(0.5 * fraction * spread)
    assert expert.dispersion == pytest.approx(total / (weight.sum() + rows), rel=1e-4)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"noise": "cauchy"}, "noise must be 'student' or 'laplace', got 'cauchy'"),
        ({"df": 0.0}, r"df must be None or a number > 0, got 0\.0"),
        ({"df": "few"}, "df must be None or a number > 0, got 'few'"),
        ({"alpha": -1}, "RobustLinearExpert: alpha must be a number >= 0, got -1"),
        ({"variance_prior": (1.0, -2.0)}, r"variance_prior must be .*got \(1\.0, -2"),
    ],
)
def test_bad_parameters(params, message, rng):
    _, X, y, _ = problem("student", rng)
    with pytest.raises(ValueError, match=message):
        RobustLinearExpert(**params).fit(X, y)


@pytest.mark.parametrize("name", ROBUST)
def test_contributions_add_up(name, rng):
    expert, X, y, weight = problem(name, rng)
    shared = expert.fit(X, y, weight).contributions(X)
    np.testing.assert_allclose(
        shared.baseline + shared.parts.sum(axis=1), expert.predict(X), rtol=1e-9
    )
    np.testing.assert_array_equal(expert.start_target(X, y), y[:, None])
