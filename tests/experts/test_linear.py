"""The linear expert: ridge around the global fit, exact variances."""

import numpy as np
import pytest
from scipy import optimize, sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.utils.estimator_checks import parametrize_with_checks

from skmoe.experts import EstimatorExpert, LinearExpert
from tests.experts.expert_suite import ExpertSuite, objective


class TestLinear(ExpertSuite):
    def make_expert(self):
        return LinearExpert()


class TestLinearMaximumLikelihood(ExpertSuite):
    def make_expert(self):
        return LinearExpert(alpha=0, variance_prior=None)


class TestLinearWithoutIntercept(ExpertSuite):
    def make_expert(self):
        return LinearExpert(alpha=2.0, fit_intercept=False)


class TestLinearFull(ExpertSuite):
    n_outputs = 3

    def make_expert(self):
        return LinearExpert(covariance="full")


class TestLinearDiag(ExpertSuite):
    n_outputs = 3

    def make_expert(self):
        return LinearExpert(covariance="diag", alpha=0.1)


class TestLinearOneColumnOfOutputs(ExpertSuite):
    n_outputs = 1

    def make_expert(self):
        return LinearExpert(variance_prior=(1.0, 0.2))


@pytest.mark.filterwarnings("ignore:An ill-conditioned:scipy.linalg.LinAlgWarning")
class TestRidgeAdapted(ExpertSuite):
    """Ridge itself warns of columns of wildly different scale."""

    def make_expert(self):
        return EstimatorExpert(Ridge())


@parametrize_with_checks(
    [LinearExpert(), LinearExpert(covariance="diag", alpha=0, variance_prior=None)]
)
def test_estimator_checks(estimator, check):
    check(estimator)


@pytest.fixture
def rows():
    rng = np.random.default_rng(2)
    X = rng.normal(size=(70, 3)) * [1e-3, 1.0, 50.0] + [4.0, -2.0, 1e3]
    y = X @ np.array([[300.0, 0.0], [1.0, -2.0], [0.01, 0.02]]) + [5.0, -40.0]
    y = y + rng.normal(size=(70, 2)) @ [[1.0, 0.6], [0.0, 0.8]]
    return X, y, rng.uniform(0.1, 4.0, size=70)


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_without_penalty_it_is_least_squares(rows, fit_intercept):
    X, y, weight = rows
    plain = LinearRegression(fit_intercept=fit_intercept).fit(X, y, weight)
    ours = LinearExpert(alpha=0, fit_intercept=fit_intercept, variance_prior=None)
    ours.fit(X, y, sample_weight=weight)
    np.testing.assert_allclose(ours.coef_, plain.coef_, rtol=1e-8)
    np.testing.assert_allclose(ours.intercept_, plain.intercept_, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(ours.predict(X), plain.predict(X), rtol=1e-9)
    error = y - plain.predict(X)
    expected = (error * weight[:, None]).T @ error / weight.sum()
    np.testing.assert_allclose(ours.dispersion, expected, rtol=1e-8)


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("alpha", [0.0, 0.7, 30.0])
def test_the_anchor_is_ridge_on_the_standardised_columns(rows, alpha, fit_intercept):
    """The global fit carries a mild penalty around zero: min(alpha, 1)."""
    X, y, weight = rows
    expert = LinearExpert(alpha=alpha, fit_intercept=fit_intercept)
    expert.prepare(X, y[:, 0], weight)
    mean = np.average(X, axis=0, weights=weight) if fit_intercept else 0.0
    scale = np.sqrt(np.average((X - mean) ** 2, axis=0, weights=weight))
    Z = (X - mean) / scale
    ridge = Ridge(min(alpha, 1.0), fit_intercept=fit_intercept, solver="svd").fit(
        Z, y[:, 0], sample_weight=weight
    )
    anchor = expert.kernel_.prior.anchor[0]
    np.testing.assert_allclose(anchor[-3:], ridge.coef_, rtol=1e-7)
    if fit_intercept:
        assert anchor[0] == pytest.approx(ridge.intercept_, rel=1e-9)


def minus_objective(vector, expert, X, y, weight):
    """Weighted penalised log-likelihood, written out again for scipy."""
    prior, q = expert.kernel_.prior, y.shape[1]
    Z = expert.design_.matrix(X).T
    size = q * Z.shape[1]
    B = vector[:size].reshape(q, -1)
    if prior.diagonal:
        S = np.diag(np.exp(vector[size:]))
    else:
        L = np.zeros((q, q))
        L[np.tril_indices(q)] = vector[size:]
        L[np.diag_indices(q)] = np.exp(np.diagonal(L))
        S = L @ L.T
    error = y - Z @ B.T
    P = np.linalg.inv(S)
    value = -0.5 * weight @ np.einsum("ni,ij,nj->n", error, P, error)
    value -= 0.5 * weight.sum() * np.linalg.slogdet(2.0 * np.pi * S)[1]
    away = B - prior.anchor
    value -= 0.5 * np.trace(P @ (away * prior.ridge) @ away.T)
    value -= 0.5 * prior.rows * (np.linalg.slogdet(S)[1] + prior.scale @ np.diag(P))
    return -value


@pytest.mark.parametrize("prior", [None, (4.0, 0.3)])
@pytest.mark.parametrize("alpha", [0.0, 2.5])
@pytest.mark.parametrize("covariance", ["full", "diag"])
def test_m_step_is_the_maximum(rows, covariance, alpha, prior):
    X, y, weight = rows
    # A bend, and weight on one side of it: far from the anchor, so that its
    # penalty is a good part of the variance.
    y = y + 4.0 * np.abs(X[:, 1:2] + 2.0)
    weight = np.where(X[:, 1] > -2.0, weight, 0.05 * weight)
    expert = LinearExpert(alpha=alpha, covariance=covariance, variance_prior=prior)
    expert.prepare(X, y, np.ones(70))
    expert.m_step(X, y, weight)
    q, p = expert.kernel_.coef[0].shape
    start = expert.kernel_.prior.anchor.ravel()
    extra = q if covariance == "diag" else q * (q + 1) // 2
    start = np.concatenate([start, np.zeros(extra)])
    arguments = (expert, X, y, weight)
    found = optimize.minimize(minus_objective, start, arguments, "BFGS", tol=1e-9)
    found = optimize.minimize(minus_objective, found.x, arguments, "BFGS", tol=1e-9)
    # Both agree on the objective of their own, and none beats the M-step.
    ours = objective(expert, X, y, weight)
    constant = 0.5 * expert.kernel_.prior.rows * q_log_reference(expert)
    assert ours == pytest.approx(-found.fun + constant, rel=1e-8)
    np.testing.assert_allclose(
        expert.kernel_.coef[0], found.x[: q * p].reshape(q, p), rtol=1e-3, atol=1e-4
    )
    away = expert.kernel_.coef[0] - expert.kernel_.prior.anchor
    error = y - expert.predict_params(X)
    total = (error * weight[:, None]).T @ error
    total += (away * expert.kernel_.prior.ridge) @ away.T
    count, share = prior or (0.0, 0.0)
    total += count * share * np.diag(y.var(axis=0))
    if covariance == "diag":
        total = np.diag(total)
    expected = total / (weight.sum() + count)
    np.testing.assert_allclose(expert.dispersion, expected, rtol=1e-9)
    if alpha:
        assert np.trace((away * expert.kernel_.prior.ridge) @ away.T) > 1.0


def q_log_reference(expert):
    """The penalty is stated with variances in units of that of y."""
    return float(np.log(expert.kernel_.prior.reference).sum())


def test_m_step_does_not_depend_on_where_it_starts(rows):
    X, y, weight = rows
    rng = np.random.default_rng(0)
    expert = LinearExpert()
    expert.prepare(X, y, weight)
    expert.m_step(X, y, weight)
    best = expert.parameters
    expert.parameters = best + 0.3 * rng.normal(size=best.size)
    expert.m_step(X, y, weight)
    np.testing.assert_allclose(expert.parameters, best, rtol=1e-8, atol=1e-8)


def test_a_strong_ridge_is_the_global_fit(rows):
    X, y, weight = rows
    expert = LinearExpert(alpha=1e9)
    expert.prepare(X, y[:, 0], weight)
    some = np.where(X[:, 1] > -2.0, weight, 0.0)
    expert.m_step(X, y[:, 0], some)
    slope = expert.kernel_.prior.anchor[0, 1:]
    np.testing.assert_allclose(expert.kernel_.coef[0, 0, 1:], slope, atol=1e-6)


@pytest.mark.parametrize("covariance", ["full", "diag"])
@pytest.mark.parametrize("alpha", [0.0, 2.0])
def test_an_expert_without_rows_falls_back_on_all(rows, alpha, covariance):
    """No quotient of rounding errors: the variance of the global fit."""
    X, y, weight = rows
    expert = LinearExpert(alpha=alpha, covariance=covariance, variance_prior=None)
    expert.prepare(X, y, weight)
    expert.m_step(X, y, weight * (X[:, 1] > -2.0))
    expert.m_step(X, y, np.zeros(70))
    every = expert.kernel_.prior.start_variance
    np.testing.assert_allclose(expert.dispersion, every, rtol=1e-6)


def test_few_rows_bend_to_the_global_fit():
    rng = np.random.default_rng(4)
    X = rng.uniform(-1.0, 1.0, size=(200, 1))
    y = 2.0 * X[:, 0] + 0.1 * rng.normal(size=200)
    y[:3] = [30.0, -30.0, 0.0]
    weight = np.zeros(200)
    weight[:3] = 1.0
    slopes = {}
    for alpha in (0.0, 10.0):
        expert = LinearExpert(alpha=alpha)
        expert.prepare(X, y, np.ones(200))
        expert.m_step(X, y, weight)
        slopes[alpha] = abs(float(expert.coef_[0]) - 2.0)
    assert slopes[10.0] < 0.3 * slopes[0.0]


def test_the_variance_prior_is_so_many_rows(rows):
    X, y, weight = rows
    y = y[:, 0]
    expert = LinearExpert(alpha=0, variance_prior=(7.0, 0.25)).fit(X, y, weight)
    error = y - LinearRegression().fit(X, y, weight).predict(X)
    spread = np.average((y - np.average(y, weights=weight)) ** 2, weights=weight)
    expected = (weight @ error**2 + 7.0 * 0.25 * spread) / (weight.sum() + 7.0)
    assert expert.dispersion == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("size", [1e-9, 1.0, 1e9])
def test_exact_data_stop_at_the_floor(rows, size):
    X = rows[0]
    y = size * (X @ [300.0, 1.0, 0.02] - 7.0)
    expert = LinearExpert(alpha=0, variance_prior=None).fit(X, y)
    assert expert.collapsed
    assert expert.dispersion == pytest.approx(1e-10 * y.var(), rel=1e-6)
    np.testing.assert_allclose(expert.predict(X), y, rtol=1e-7)


@pytest.mark.parametrize("value", [0.0, 3.0, -1e9])
def test_constant_response(rows, value):
    X = rows[0]
    y = np.full(70, value)
    expert = LinearExpert().fit(X, y)
    np.testing.assert_allclose(expert.predict(X), y, rtol=1e-12, atol=1e-12)
    assert expert.dispersion > 0.0
    assert np.isfinite(expert.log_prob(X, y)).all()


def test_duplicated_columns_share_the_slope(rows):
    X, y, weight = rows
    double = np.column_stack([X, X[:, 1]])
    for alpha in (0.0, 1.0):
        one = LinearExpert(alpha=alpha).fit(double, y, weight)
        np.testing.assert_allclose(one.coef_[:, 1], one.coef_[:, 3], rtol=1e-8)
    plain = LinearRegression().fit(X, y, weight)
    free = LinearExpert(alpha=0).fit(double, y, weight)
    np.testing.assert_allclose(free.predict(double), plain.predict(X), rtol=1e-8)


def test_constant_column_has_no_slope(rows):
    X, y, weight = rows
    dull = np.column_stack([X, np.full(70, 1e6)])
    expert = LinearExpert().fit(dull, y, weight)
    np.testing.assert_array_equal(expert.coef_[:, 3], 0.0)
    same = LinearExpert().fit(X, y, weight)
    np.testing.assert_allclose(expert.predict(dull), same.predict(X), rtol=1e-10)


def test_units_of_columns_and_response_do_not_matter(rows):
    X, y, weight = rows
    one = LinearExpert().fit(X, y, weight)
    other = LinearExpert().fit(X * [1e9, 1e-9, 3.0], y * [1e6, 1e-6], weight)
    np.testing.assert_allclose(
        other.predict(X * [1e9, 1e-9, 3.0]), one.predict(X) * [1e6, 1e-6], rtol=1e-7
    )


@pytest.mark.parametrize("n_outputs", [None, 1, 2])
@pytest.mark.parametrize("covariance", ["full", "diag"])
def test_number_of_parameters(rows, covariance, n_outputs):
    X, y, _ = rows
    y = y[:, 0] if n_outputs is None else y[:, :n_outputs]
    q = n_outputs or 1
    expert = LinearExpert(covariance=covariance).fit(X, y)
    spread = q * (q + 1) // 2 if covariance == "full" else q
    assert expert.n_parameters == 4 * q + spread
    bare = LinearExpert(covariance=covariance, fit_intercept=False).fit(X, y)
    assert bare.n_parameters == 3 * q + spread


def test_sparse_rows_beside_constant_columns(rows):
    X, y, weight = rows
    X = np.column_stack([np.where(X[:, 1] > -2, X[:, 1], 0.0), np.full(70, 7.25)])
    dense = LinearExpert().fit(X, y, weight)
    thin = LinearExpert().fit(sparse.csr_array(X), y, weight)
    np.testing.assert_allclose(thin.predict(sparse.csr_array(X)), dense.predict(X))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"alpha": -1.0}, r"alpha must be a number >= 0, got -1\.0"),
        ({"alpha": np.nan}, r"alpha must be a number >= 0, got nan"),
        ({"covariance": "tied"}, "covariance must be 'full' or 'diag', got 'tied'"),
        ({"variance_prior": (1.0, -0.1)}, r"variance_prior must be None or two"),
        ({"variance_prior": (1.0,)}, r"variance_prior must be None or two"),
    ],
)
def test_bad_parameters(rows, params, message):
    X, y, _ = rows
    with pytest.raises(ValueError, match=message):
        LinearExpert(**params).fit(X, y)


def test_predict_before_fit(rows):
    with pytest.raises(NotFittedError):
        clone(LinearExpert()).predict(rows[0])
