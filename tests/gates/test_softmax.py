"""The softmax gate: Newton, bound and L-BFGS towards the responsibilities."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from skmoe._multinomial import MAX_LOGIT_STEP
from skmoe.gates import SoftmaxGate
from skmoe.gates._softmax import (
    MAX_GRAM_COLUMNS,
    MAX_NEWTON_PARAMETERS,
    SoftmaxKernel,
)
from tests._asserts import assert_climbs
from tests.gates.gate_suite import GateSuite, objective, regions


class TestSoftmaxGate(GateSuite):
    def make_gate(self):
        return SoftmaxGate()


class TestSoftmaxGateStrongRidge(GateSuite):
    def make_gate(self):
        return SoftmaxGate(alpha=5.0)


class TestSoftmaxGateMaximumLikelihood(GateSuite):
    def make_gate(self):
        return SoftmaxGate(alpha=0.0)


class TestSoftmaxGateBound(GateSuite):
    def make_gate(self):
        return SoftmaxGate(solver="bound")


class TestSoftmaxGateLBFGS(GateSuite):
    # Its iterations amplify the last digit of the sums.
    weight_tol = 1e-6

    def make_gate(self):
        return SoftmaxGate(alpha=0.1, solver="lbfgs")


@pytest.fixture
def problem():
    X, resp, weight = regions(np.random.default_rng(5), 200)
    return X @ np.diag([1e-3, 1.0, 40.0]) + [3.0, -70.0, 1e4], resp, weight


def converged(X, resp, weight, n_steps=60, **params):
    gate = SoftmaxGate(**params)
    gate.prepare(X, weight, resp.shape[1])
    for _ in range(n_steps):
        gate.m_step(X, resp, weight)
    return gate


def standardised(X, weight):
    mean = np.average(X, axis=0, weights=weight)
    return (X - mean) / np.sqrt(np.average((X - mean) ** 2, axis=0, weights=weight))


@pytest.mark.parametrize("alpha", [0.0, 0.03, 4.0])
def test_converges_to_weighted_logistic_regression(problem, alpha):
    """Each row once for every expert, with the responsibility as weight."""
    X, resp, weight = problem
    gate = converged(X, resp, weight, alpha=alpha)
    Z = standardised(X, weight)
    plain = LogisticRegression(
        C=1.0 / alpha if alpha else np.inf, solver="newton-cg", tol=1e-10
    )
    plain.fit(
        np.repeat(Z, 3, axis=0),
        np.tile(np.arange(3), 200),
        sample_weight=(resp * weight[:, None]).ravel(),
    )
    np.testing.assert_allclose(
        np.exp(gate.log_proba(X)), plain.predict_proba(Z), atol=1e-7
    )


@pytest.mark.parametrize(("solver", "n_steps"), [("bound", 1500), ("lbfgs", 40)])
def test_all_solvers_reach_the_same_maximum(problem, solver, n_steps):
    best = converged(*problem, alpha=0.1, solver="newton")
    other = converged(*problem, n_steps, alpha=0.1, solver=solver)
    assert objective(other, *problem) == pytest.approx(
        objective(best, *problem), rel=1e-8
    )
    np.testing.assert_allclose(
        other.log_proba(problem[0]), best.log_proba(problem[0]), atol=1e-3
    )


@pytest.mark.parametrize("solver", ["newton", "bound", "lbfgs"])
def test_every_step_climbs(problem, solver):
    X, resp, weight = problem
    gate = SoftmaxGate(alpha=0.0, solver=solver)
    gate.prepare(X, weight, 3)
    hard = np.eye(3)[resp.argmax(axis=1)]
    values = [objective(gate, X, hard, weight)]
    for _ in range(25):
        gate.m_step(X, hard, weight)
        values.append(objective(gate, X, hard, weight))
    assert_climbs(values, 1e-12)


def test_newton_overshoots_without_its_search():
    """From far outside Newton's full step falls; the gate shortens it."""
    X = np.linspace(-1.0, 1.0, 60)[:, None]
    resp = np.where(X < 0, 0.3, 0.7) @ [[1.0, -1.0]] + [[0.0, 1.0]]
    weight = np.ones(60)
    gate = SoftmaxGate(alpha=0.0)
    gate.prepare(X, weight, 2)
    gate.parameters = np.array([0.0, 3.5, 0.0, -3.5])
    gate._accumulate(X, resp, weight)
    start = gate.kernel_.coef.copy()
    before = objective(gate, X, resp, weight)
    gate.kernel_.propose()
    gate.kernel_.move(1.0)
    assert objective(gate, X, resp, weight) < before
    gate.kernel_.coef = start
    gate.m_step(X, resp, weight)
    assert objective(gate, X, resp, weight) > before


def test_coefficients_on_the_users_columns(problem):
    X = problem[0]
    gate = converged(*problem)
    logit = X @ gate.coef_.T + gate.intercept_
    shift = logit - logit.max(axis=1, keepdims=True)
    proba = np.exp(shift) / np.exp(shift).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(np.exp(gate.log_proba(X)), proba, rtol=1e-8)
    np.testing.assert_allclose(gate.kernel_.coef.sum(axis=0), 0.0, atol=1e-9)
    assert gate.n_parameters == 2 * 4


@pytest.mark.parametrize("solver", ["newton", "bound", "lbfgs"])
def test_coefficients_stay_centred(problem, solver):
    gate = converged(*problem, 4, alpha=0.5, solver=solver)
    np.testing.assert_allclose(gate.kernel_.coef.sum(axis=0), 0.0, atol=1e-9)


def test_penalty_is_on_standardised_slopes_only(problem):
    gate = converged(*problem, alpha=3.0)
    coef = gate.kernel_.coef
    assert gate.penalty == pytest.approx(-1.5 * (coef[:, 1:] ** 2).sum())
    gate.kernel_.coef = coef + np.array([50.0, 0.0, 0.0, 0.0])
    assert gate.penalty == pytest.approx(-1.5 * (coef[:, 1:] ** 2).sum())


@pytest.mark.parametrize("solver", ["newton", "bound", "lbfgs"])
def test_sparse_equals_dense(problem, solver):
    X, resp, weight = problem
    X = np.where(np.median(X, axis=0) < X, X / [1.0, 50.0, 1e4], 0.0)
    dense = converged(X, resp, weight, 300, solver=solver, alpha=0.1)
    rows = sparse.csr_array(X)
    thin = converged(rows, resp, weight, 300, solver=solver, alpha=0.1)
    np.testing.assert_allclose(thin.log_proba(rows), dense.log_proba(X), atol=1e-3)


@pytest.mark.parametrize("solver", ["newton", "bound", "lbfgs"])
def test_dull_and_double_columns(problem, solver):
    X, resp, weight = problem
    wide = np.column_stack([X, np.full(200, 3.0), X[:, 1]])
    gate = converged(wide, resp, weight, 30, solver=solver)
    np.testing.assert_array_equal(gate.coef_[:, 3], 0.0)
    np.testing.assert_allclose(gate.coef_[:, 1], gate.coef_[:, 4], rtol=1e-5)


@pytest.mark.parametrize("solver", ["newton", "bound", "lbfgs"])
def test_separated_regions_stay_finite(solver):
    X = np.linspace(-1.0, 1.0, 50)[:, None]
    resp = np.eye(2)[(X[:, 0] > 0).astype(int)]
    gate = converged(X, resp, np.ones(50), alpha=0.0, solver=solver)
    assert np.isfinite(gate.parameters).all()
    assert np.exp(gate.log_proba(X)[np.arange(50), resp.argmax(1)]).min() > 0.5


def test_more_columns_than_rows():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(8, 30))
    resp = rng.dirichlet(np.ones(3), size=8)
    gate = converged(X, resp, np.ones(8), alpha=0.0)
    np.testing.assert_allclose(np.exp(gate.log_proba(X)), resp, atol=1e-5)


def test_choice_of_solver():
    gate = SoftmaxGate()
    assert gate.choose_solver(MAX_NEWTON_PARAMETERS, 2) == "newton"
    assert gate.choose_solver(MAX_NEWTON_PARAMETERS // 2 + 1, 3) == "bound"
    assert gate.choose_solver(MAX_GRAM_COLUMNS, 8) == "bound"
    assert gate.choose_solver(MAX_GRAM_COLUMNS + 1, 8) == "lbfgs"
    assert SoftmaxGate(solver="bound").choose_solver(2, 2) == "bound"


def test_the_kernel_of_one_column_is_the_constant_gate():
    """Its step is the closed form, whatever the columns of other gates do."""
    rng = np.random.default_rng(2)
    kernel = SoftmaxKernel(4, np.zeros(1), 0.0)
    assert kernel.exact_m_step
    assert kernel.n_gram_rows == 0
    design, weight = np.ones((1, 30)), rng.uniform(size=30)
    weighted = rng.dirichlet(np.ones(4), size=30).T * weight
    kernel.coef = rng.normal(size=(4, 1))
    kernel.log_proba(design)
    score = np.empty((4, 30))
    kernel.fill(np.empty((0, 30)), score, weighted, weight)
    kernel.take(np.empty((1, 0)), design @ score.T, weight.sum())
    kernel.propose()
    kernel.move(1.0)
    share = np.exp(kernel.log_proba(design)[:, 0])
    np.testing.assert_allclose(share, weighted.sum(axis=1) / weight.sum(), rtol=1e-10)


def test_a_step_is_bounded_in_logits():
    X = np.linspace(-1.0, 1.0, 50)[:, None]
    resp = np.eye(2)[(X[:, 0] > 0).astype(int)]
    gate = SoftmaxGate(alpha=0.0)
    gate.prepare(X, np.ones(50), 2)
    gate.parameters = np.array([0.0, -14.0, 0.0, 14.0])
    gate._accumulate(X, resp[:, ::-1], np.ones(50))
    gate.kernel_.propose()
    size = np.sqrt((gate.kernel_.direction**2).sum(axis=1)).max()
    assert size == pytest.approx(MAX_LOGIT_STEP)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"alpha": -0.1}, r"alpha must be a number >= 0, got -0\.1"),
        ({"alpha": np.nan}, "alpha must be a number >= 0, got nan"),
        ({"solver": "sgd"}, r"solver must be one of .*, got 'sgd'"),
    ],
)
def test_bad_parameters(problem, params, message):
    X, _, weight = problem
    with pytest.raises(ValueError, match=message):
        SoftmaxGate(**params).prepare(X, weight, 3)
