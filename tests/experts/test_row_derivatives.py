"""Derivatives of experts against differences of their log densities and penalties."""

import copy

import numpy as np
import pytest

from skmoe._protocols import Differentiable
from skmoe.experts import (
    BinomialExpert,
    GammaExpert,
    HeteroscedasticExpert,
    LinearExpert,
    LogisticExpert,
    NegativeBinomialExpert,
    PoissonExpert,
    RobustLinearExpert,
    UniformExpert,
)
from skmoe.experts._families import Family
from skmoe.experts._family_derivatives import family_derivatives
from tests._coordinates import differences, moved


def responses(kind, X, rng):
    mean = np.exp(0.4 * X[:, 0] + 0.3)
    if kind == "counts":
        return rng.negative_binomial(2, 2 / (2 + mean)).astype(float)
    if kind == "positive":
        return mean * rng.gamma(2.0, 0.5, len(X))
    if kind == "classes":
        return rng.integers(0, 3, len(X))
    if kind == "two":
        return np.column_stack([X @ [1.0, -1.0], X[:, 0]]) + rng.normal(
            size=(len(X), 2)
        )
    if kind == "one of two":
        return rng.binomial(1, 0.4, len(X)).astype(float)
    return X @ [1.0, -1.0] + rng.standard_t(4, len(X))


CASES = {
    "linear": (LinearExpert(), "real"),
    "linear without intercept": (LinearExpert(fit_intercept=False), "real"),
    "linear, maximum likelihood": (LinearExpert(alpha=0, variance_prior=None), "real"),
    "two outputs": (LinearExpert(), "two"),
    "two outputs, diagonal": (LinearExpert(covariance="diag"), "two"),
    "logistic": (LogisticExpert(alpha=0.5), "classes"),
    "poisson": (PoissonExpert(), "counts"),
    "negative binomial": (NegativeBinomialExpert(), "counts"),
    "gamma": (GammaExpert(), "positive"),
    "binomial": (BinomialExpert(), "one of two"),
    "student": (RobustLinearExpert(), "real"),
    "student of known df": (RobustLinearExpert(df=3.0, alpha=1.0), "real"),
    "laplace": (RobustLinearExpert(noise="laplace"), "real"),
    "heteroscedastic": (HeteroscedasticExpert(), "real"),
}


@pytest.fixture(params=CASES, ids=str)
def fitted(request, rng):
    expert, kind = CASES[request.param]
    expert = copy.deepcopy(expert)
    X = rng.normal([1.0, -2.0], [1.0, 3.0], (60, 2))
    y = responses(kind, X, rng)
    n_classes = 3 if kind == "classes" else None
    expert.prepare(X, y, np.ones(60), n_classes)
    # Off the maximum, the anchor and the corners: there all terms count.
    expert.m_step(X, y, rng.random(60))
    point = expert.coefficient_vector().copy()
    return moved(expert, point + 0.03 * rng.normal(size=point.size)), X, y


def whole(local):
    """Return gradients in all parameters, of shape (n_samples, n_parameters)."""
    n = len(local.design)
    slopes = local.gradient[:, : local.n_predictors, None] * local.design[:, None]
    return np.hstack([slopes.reshape(n, -1), local.gradient[:, local.n_predictors :]])


def second(local):
    """Return the sum over rows of second derivatives in all parameters."""
    n, p = local.design.shape
    m = local.n_predictors
    basis = np.zeros((n, local.gradient.shape[1], m * p + local.gradient.shape[1] - m))
    for i in range(m):
        basis[:, i, i * p : (i + 1) * p] = local.design
    for s in range(m, local.gradient.shape[1]):
        basis[:, s, m * p + s - m] = 1.0
    return np.einsum("nia,nij,njb->ab", basis, local.curvature, basis)


def test_gradient_is_that_of_the_log_density(fitted):
    expert, X, y = fitted
    assert isinstance(expert, Differentiable)
    expected = differences(
        lambda value: moved(expert, value).log_prob(X, y),
        expert.coefficient_vector().copy(),
    )
    found = whole(expert.row_derivatives(X, y))
    np.testing.assert_allclose(found, expected, atol=2e-6, rtol=2e-6)


def test_curvature_is_that_of_the_log_density(fitted):
    expert, X, y = fitted
    corner = getattr(expert, "noise", None) == "laplace"
    expected = differences(
        lambda value: whole(moved(expert, value).row_derivatives(X, y)).sum(axis=0),
        expert.coefficient_vector().copy(),
    )
    found = second(expert.row_derivatives(X, y))
    if corner:  # Fisher's information in place of the curvature of a kink
        size = expert.kernel_.coef.size
        design = expert.row_derivatives(X, y).design
        fisher = -design.T @ design / expert.dispersion**2
        np.testing.assert_allclose(found[:size, :size], fisher, atol=1e-9)
        found[:size, :size] = expected[:size, :size] = 0.0
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, atol=1e-6 * scale, rtol=1e-6)


def test_curvature_of_the_penalty(fitted):
    expert, _, _ = fitted
    point = expert.coefficient_vector().copy()
    expected = differences(
        lambda a: differences(lambda b: np.array(moved(expert, b).penalty), a), point
    )
    found = expert.penalty_curvature()
    scale = max(np.abs(expected).max(), 1.0)
    np.testing.assert_allclose(found, expected, atol=1e-5 * scale)
    np.testing.assert_array_equal(found, found.T)


def test_map_leads_to_what_the_user_reads(fitted):
    expert, _, _ = fitted
    terms, matrix, free = expert.coefficient_map()
    value = matrix @ expert.coefficient_vector().copy()
    slopes = [v for t, v in zip(terms, value, strict=True) if t.kind == "slope"]
    starts = [v for t, v in zip(terms, value, strict=True) if t.kind == "intercept"]
    coef, intercept = np.atleast_2d(expert.coef_), np.atleast_1d(expert.intercept_)
    if isinstance(expert, LogisticExpert):
        coef, intercept = coef[1:] - coef[0], intercept[1:] - intercept[0]
    if isinstance(expert, HeteroscedasticExpert):
        coef = np.vstack([coef, expert.variance_coef_])
        intercept = np.append(intercept, expert.variance_intercept_)
        assert {t.name for t in terms} == {"", "log variance"}
    np.testing.assert_allclose(slopes, coef.ravel())
    if expert.get_params().get("fit_intercept", True):
        np.testing.assert_allclose(starts, intercept)
    else:
        assert starts == []
    assert matrix.shape == (len(terms), free.shape[0])
    assert free.shape[1] == expert.n_parameters


@pytest.mark.parametrize(
    ("expert", "kind", "names"),
    [
        (LinearExpert(), "real", ["variance"]),
        (LinearExpert(), "two", ["variance", "covariance with output 1", "variance"]),
        (NegativeBinomialExpert(), "counts", ["theta"]),
        (GammaExpert(), "positive", ["shape"]),
        (RobustLinearExpert(), "real", ["scale2", "df"]),
        (RobustLinearExpert(noise="laplace"), "real", ["scale"]),
    ],
)
def test_shapes_are_named_and_on_their_own_scale(expert, kind, names, rng):
    X = rng.normal(size=(80, 2))
    y = responses(kind, X, rng)
    expert.prepare(X, y, np.ones(80))
    expert.m_step(X, y, np.ones(80))
    terms, matrix, _ = expert.coefficient_map()
    value = matrix @ expert.coefficient_vector().copy()
    shapes = [
        (t.name, np.exp(v) if t.log else v)
        for t, v in zip(terms, value, strict=True)
        if t.kind == "shape"
    ]
    assert [name for name, _ in shapes] == names
    dispersion = np.asarray(expert.dispersion)
    if dispersion.ndim == 2:
        dispersion = dispersion[np.triu_indices(2)]
    if isinstance(expert, GammaExpert):
        dispersion = 1.0 / dispersion
    np.testing.assert_allclose([v for _, v in shapes], np.ravel(dispersion))


def test_rows_that_cannot_occur_have_no_derivatives(rng):
    X, y = rng.normal(size=(20, 1)), rng.gamma(2.0, 1.0, 20)
    expert = GammaExpert().fit(X, y)
    y[3] = -1.0
    local = expert.row_derivatives(X, y)
    assert not local.gradient[3].any()
    assert not local.curvature[3].any()
    others = np.delete(np.arange(20), 3)
    np.testing.assert_array_equal(
        local.gradient[others], expert.row_derivatives(X[others], y[others]).gradient
    )


def test_offsets_and_trials_count(rng):
    X = np.column_stack([rng.normal(size=40), rng.integers(1, 9, 40)])
    y = rng.binomial(X[:, 1].astype(int), 0.3).astype(float)
    expert = BinomialExpert(trials=1).fit(X, y)
    expected = y - X[:, 1] * expert.predict_params(X)[:, 0]
    np.testing.assert_allclose(expert.row_derivatives(X, y).gradient[:, 0], expected)


def test_a_bound_variance_does_not_follow(rng):
    X, y = np.linspace(0, 1, 30)[:, None], np.zeros(30)
    y[:5] = rng.normal(size=5)
    expert = HeteroscedasticExpert(alpha=0, variance_alpha=0, variance_prior=None)
    expert.fit(X, y)
    expert.kernel_.coef[0, 1] = [-500.0, 0.0]
    local = expert.row_derivatives(X, y)
    assert not local.gradient[:, 1].any()
    assert not local.curvature[:, 1, 1].any()


def test_only_experts_that_learn_are_differentiable():
    assert not isinstance(UniformExpert(), Differentiable)


def test_unknown_family_is_named():
    with pytest.raises(TypeError, match="no derivatives are known of Family"):
        family_derivatives(Family(), None, None, None)
