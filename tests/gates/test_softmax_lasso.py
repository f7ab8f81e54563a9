"""Softmax gates with an L1 penalty: optimality, sparsity, other people's solvers."""

import pickle

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import FunctionTransformer

from skmoe import MixtureOfExpertsRegressor
from skmoe._elastic import optimality_gap
from skmoe._tree import Tree
from skmoe.gates import ConstantGate, ExpandedGate, SoftmaxGate
from skmoe.gates._softmax import SoftmaxKernel
from skmoe.gates._tree import GateTree
from tests._asserts import assert_climbs
from tests.gates.gate_suite import GateSuite, objective, regions

SOLVERS = ["newton", "bound", "lbfgs"]


class TestLasso(GateSuite):
    # Newton stops where the gap is a share of the slope at its start.
    weight_tol = 1e-7

    def make_gate(self):
        return SoftmaxGate(alpha=1.0, l1_ratio=1.0)


class TestElastic(GateSuite):
    weight_tol = 1e-7

    def make_gate(self):
        return SoftmaxGate(alpha=2.0, l1_ratio=0.5)


class TestLassoBound(GateSuite):
    weight_tol = 1e-7

    def make_gate(self):
        return SoftmaxGate(alpha=0.5, l1_ratio=1.0, solver="bound")


class TestElasticLBFGS(GateSuite):
    # Its iterations amplify the last digit of the sums.
    weight_tol = 1e-6

    def make_gate(self):
        return SoftmaxGate(alpha=1.0, l1_ratio=0.7, solver="lbfgs")


@pytest.fixture
def problem():
    """Three columns that tell the regions apart, five that do not."""
    rng = np.random.default_rng(5)
    X, resp, weight = regions(rng, 200)
    X = np.column_stack([X, rng.normal(size=(200, 5))])
    scale = 10.0 ** rng.integers(-3, 4, size=8)
    return X * scale + 10.0 * scale, resp, weight


def prepared(X, resp, weight, alpha, **params):
    gate = SoftmaxGate(alpha, **params)
    gate.prepare(X, weight, resp.shape[1])
    return gate


def converged(X, resp, weight, alpha, n_steps=15, **params):
    gate = prepared(X, resp, weight, alpha, **params)
    for _ in range(n_steps):
        gate.m_step(X, resp, weight)
    return gate


def standardised(X, weight):
    mean = np.average(X, axis=0, weights=weight)
    return (X - mean) / np.sqrt(np.average((X - mean) ** 2, axis=0, weights=weight))


def gap_by_hand(gate, X, resp, weight):
    """Return by how much the optimality conditions fail, intercepts included."""
    Z = standardised(X, weight)
    error = weight[:, None] * (resp - np.exp(gate.log_proba(X)))
    coef, lasso = gate.kernel_.coef[:, 1:], gate.alpha * gate.l1_ratio
    slope = error.T @ Z - gate.alpha * (1.0 - gate.l1_ratio) * coef
    gap = optimality_gap(coef, slope, np.full(coef.shape, lasso))
    return max(gap.max(), np.abs(error.sum(axis=0)).max())


# -- the maximum -------------------------------------------------------------------


@pytest.mark.parametrize("l1_ratio", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("alpha", [0.5, 5.0, 20.0])
def test_optimality_conditions_hold_at_convergence(problem, alpha, l1_ratio):
    gate = converged(*problem, alpha, l1_ratio=l1_ratio)
    assert gap_by_hand(gate, *problem) < 1e-8


@pytest.mark.parametrize(
    ("solver", "n_steps", "tol"), [("bound", 1500, 1e-6), ("lbfgs", 40, 1e-2)]
)
@pytest.mark.parametrize("l1_ratio", [0.5, 1.0])
def test_all_solvers_reach_the_same_maximum(problem, l1_ratio, solver, n_steps, tol):
    best = converged(*problem, 5.0, l1_ratio=l1_ratio, solver="newton")
    other = converged(*problem, 5.0, n_steps, l1_ratio=l1_ratio, solver=solver)
    assert gap_by_hand(other, *problem) < tol
    X = problem[0]
    np.testing.assert_allclose(other.log_proba(X), best.log_proba(X), atol=tol)
    np.testing.assert_array_equal(other.coef_ == 0, best.coef_ == 0)


@pytest.mark.parametrize("l1_ratio", [0.4, 1.0])
def test_equals_saga(problem, l1_ratio):
    """Each row once for every expert, with the responsibility as weight."""
    X, resp, weight = problem
    gate = converged(*problem, 8.0, l1_ratio=l1_ratio)
    Z = standardised(X, weight)
    plain = LogisticRegression(
        C=1.0 / 8.0,
        l1_ratio=l1_ratio,
        solver="saga",
        tol=1e-8,
        max_iter=3000,
        random_state=0,
    )
    plain.fit(
        np.repeat(Z, 3, axis=0),
        np.tile(np.arange(3), 200),
        sample_weight=(resp * weight[:, None]).ravel(),
    )
    proba = plain.predict_proba(Z)
    np.testing.assert_allclose(np.exp(gate.log_proba(X)), proba, atol=1e-5)
    np.testing.assert_allclose(gate.kernel_.coef[:, 1:], plain.coef_, atol=1e-4)
    np.testing.assert_array_equal(gate.coef_ == 0, plain.coef_ == 0)


def test_nothing_nearby_is_better(problem):
    gate = converged(*problem, 5.0, l1_ratio=0.7)
    best, parameters = objective(gate, *problem), gate.parameters
    rng = np.random.default_rng(1)
    for size in (1e-4, 1e-2, 0.3):
        for _ in range(10):
            gate.parameters = parameters + size * rng.normal(size=parameters.size)
            assert objective(gate, *problem) < best


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("l1_ratio", [0.3, 1.0])
def test_every_step_climbs(problem, solver, l1_ratio):
    X, resp, weight = problem
    hard = np.eye(3)[resp.argmax(axis=1)]
    gate = prepared(X, resp, weight, 0.3, l1_ratio=l1_ratio, solver=solver)
    gate.parameters = 4.0 * np.random.default_rng(0).normal(size=27)
    values = [objective(gate, X, hard, weight)]
    for _ in range(15):
        gate.m_step(X, hard, weight)
        values.append(objective(gate, X, hard, weight))
    assert_climbs(values, 1e-12)
    assert values[-1] > values[0]


def test_no_l1_share_is_the_ridge_bit_for_bit(problem):
    plain, given = SoftmaxGate(2.0), SoftmaxGate(2.0, l1_ratio=0.0)
    for gate in (plain, given):
        gate.prepare(problem[0], problem[2], 3)
        gate.m_step(*problem)
    np.testing.assert_array_equal(plain.parameters, given.parameters)
    assert given.kernel_.smooth
    # A penalty of no weight has no L1 part either.
    assert prepared(*problem, 0.0, l1_ratio=1.0).kernel_.smooth
    assert not prepared(*problem, 0.1, l1_ratio=1.0).kernel_.smooth


def test_shares_between_ridge_and_lasso_vary_continuously(problem):
    ridge = converged(*problem, 5.0).log_proba(problem[0])
    nearly = converged(*problem, 5.0, l1_ratio=1e-7).log_proba(problem[0])
    np.testing.assert_allclose(nearly, ridge, atol=1e-5)


# -- sparsity ----------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["newton", "bound"])
def test_larger_penalties_leave_fewer_columns(problem, solver):
    used, cost = [], []
    for alpha in (0.3, 3.0, 10.0, 30.0, 90.0):
        gate = converged(*problem, alpha, 60, l1_ratio=1.0, solver=solver)
        used.append(np.count_nonzero(gate.coef_))
        cost.append(objective(gate, *problem) - gate.penalty)
        assert gate.n_parameters == 2 + used[-1]
    assert used[0] > used[-1] > 0
    assert (np.diff(used) <= 0).all()
    assert (np.diff(cost) < 0).all()


def test_noise_columns_leave_first(problem):
    gate = converged(*problem, 20.0, l1_ratio=1.0)
    assert (gate.coef_[:, 3:] == 0).all()
    assert (gate.coef_[:, :3] != 0).any(axis=0).all()


def test_the_penalty_that_empties_the_gate(problem):
    """From |Z'w(r - share)| on, all slopes are zero: half of it for K - 1 others."""
    X, resp, weight = problem
    share = weight @ resp / weight.sum()
    slope = np.abs((weight[:, None] * (resp - share)).T @ standardised(X, weight))
    empty = converged(*problem, 1.0001 * slope.max(), l1_ratio=1.0)
    np.testing.assert_array_equal(empty.coef_, 0.0)
    np.testing.assert_allclose(np.exp(empty.log_proba(X[:1]))[0], share)
    assert empty.n_parameters == 2
    assert empty.penalty == 0.0
    some = converged(*problem, 0.95 * slope.max(), l1_ratio=1.0)
    assert 0 < np.count_nonzero(some.coef_) <= 2


@pytest.mark.parametrize("n_experts", [2, 3, 4])
def test_zero_is_a_median_of_each_column(n_experts):
    rng = np.random.default_rng(2)
    X, resp, weight = regions(rng, 150, 4, n_experts)
    gate = converged(X, resp, weight, 1.0, l1_ratio=1.0)
    coef = gate.coef_
    assert (coef == 0).any(axis=0).all()
    assert ((coef > 0).sum(axis=0) <= n_experts / 2).all()
    assert ((coef < 0).sum(axis=0) <= n_experts / 2).all()
    np.testing.assert_allclose(gate.kernel_.coef[:, 0].sum(), 0.0, atol=1e-9)
    assert gate.n_parameters == n_experts - 1 + np.count_nonzero(coef)


def test_two_experts_have_one_free_slope_a_column():
    """With some ridge both slopes are used, as plus and minus one number."""
    X, resp, weight = regions(np.random.default_rng(2), 150, 3, 2)
    gate = converged(X, resp, weight, 1.0, l1_ratio=0.5)
    np.testing.assert_allclose(gate.coef_.sum(axis=0), 0.0, atol=1e-9)
    assert gate.n_parameters == 1 + np.count_nonzero(gate.coef_[0])


def test_penalty_by_hand(problem):
    gate = converged(*problem, 4.0, l1_ratio=0.25)
    slope = gate.kernel_.coef[:, 1:]
    expected = -(1.0 * np.abs(slope).sum() + 1.5 * (slope**2).sum())
    assert gate.penalty == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("solver", SOLVERS)
def test_sparse_rows_equal_dense_ones(problem, solver):
    X, resp, weight = problem
    X = np.where(np.median(X, axis=0) < X, X, 0.0)
    rows = sparse.csr_array(X)
    params = {"n_steps": 200, "l1_ratio": 0.8, "solver": solver}
    dense = converged(X, resp, weight, 3.0, **params)
    thin = converged(rows, resp, weight, 3.0, **params)
    np.testing.assert_allclose(thin.log_proba(rows), dense.log_proba(X), atol=1e-3)


def test_dull_and_double_columns(problem):
    X, resp, weight = problem
    wide = np.column_stack([X, np.full(200, 3.0), X[:, 1]])
    gate = converged(wide, resp, weight, 5.0, l1_ratio=1.0)
    bare = converged(X, resp, weight, 5.0, l1_ratio=1.0)
    np.testing.assert_array_equal(gate.coef_[:, 8], 0.0)
    # The lasso does not say which of two equal columns it takes.
    np.testing.assert_allclose(
        gate.coef_[:, 1] + gate.coef_[:, 9], bare.coef_[:, 1], rtol=1e-5, atol=1e-9
    )
    np.testing.assert_allclose(gate.log_proba(wide), bare.log_proba(X), atol=1e-6)


# -- the kernel, as the engine drives it -------------------------------------------


def one_pass(kernel, design, weighted, weight):
    """Do what a fused pass does for a gate; return its cross-entropy."""
    log_gate = kernel.log_proba(design)
    grams = np.empty((kernel.n_gram_rows, weight.size))
    score = np.empty((kernel.n_score_rows, weight.size))
    kernel.fill(grams, score, weighted, weight)
    half = np.stack([a * b for i, a in enumerate(design) for b in design[i:]])
    kernel.take(half @ grams.T, design @ score.T, weight.sum())
    return float((weighted * log_gate).sum())


@pytest.mark.parametrize("solver", ["newton", "bound"])
def test_short_steps_climb_and_keep_their_promise(problem, solver):
    X, resp, weight = problem
    design = np.vstack([np.ones(200), standardised(X, weight).T])
    weighted = resp.T * weight
    kernel = SoftmaxKernel(3, np.r_[0.0, np.ones(8)], 3.0, solver, 0.6)
    kernel.coef = np.random.default_rng(1).normal(size=(3, 9))
    start = one_pass(kernel, design, weighted, weight) + kernel.penalty
    kernel.propose()
    slope = kernel.slope
    assert slope > 0.0
    for fraction in (1e-1, 1e-2, 1e-4):
        kernel.move(fraction)
        gain = one_pass(kernel, design, weighted, weight) + kernel.penalty - start
        assert gain >= 0.5 * fraction * slope
    kernel.move(0.0)
    again = one_pass(kernel, design, weighted, weight) + kernel.penalty
    assert again == pytest.approx(start, rel=1e-13)


def test_backtracking_passes_reach_the_gates_maximum(problem):
    """Steps shortened as the fused node does end where the gate's own do."""
    X, resp, weight = problem
    gate = converged(*problem, 3.0, l1_ratio=0.8)
    kernel = prepared(*problem, 3.0, l1_ratio=0.8).kernel_
    design, weighted = gate.design_.matrix(X), resp.T * weight
    values = [one_pass(kernel, design, weighted, weight) + kernel.penalty]
    for _ in range(12):
        kernel.propose()
        for fraction in (1.0, 0.25, 0.0625, 0.0):
            kernel.move(fraction)
            now = one_pass(kernel, design, weighted, weight) + kernel.penalty
            if now >= values[-1]:
                break
        values.append(now)
    assert_climbs(values, 1e-13)
    np.testing.assert_allclose(kernel.coef, gate.kernel_.coef, atol=1e-7)


def test_the_slope_of_a_ridge_is_its_gradient(problem):
    gate = prepared(*problem, 3.0)
    gate.m_step(*problem)
    gate._accumulate(*problem)
    kernel = gate.kernel_
    kernel.propose()
    assert kernel.slope == float((kernel.gradient * kernel.direction).sum())


# -- in company --------------------------------------------------------------------


def test_a_tree_of_lassos_is_not_batched_but_fitted(problem):
    X, _, weight = problem
    rng = np.random.default_rng(0)
    _, resp, _ = regions(rng, 200, n_experts=4)
    tree = Tree.complete([2, 2])
    gates = [SoftmaxGate(6.0, l1_ratio=1.0) for _ in range(3)]
    gate = GateTree(tree, gates)
    assert gate.kernel(9) is None
    ridges = [SoftmaxGate(6.0) for _ in range(3)]
    assert GateTree(tree, ridges).kernel(9) is not None
    gate.prepare(X, weight, 4)
    values = [objective(gate, X, resp, weight)]
    for _ in range(12):
        gate.m_step(X, resp, weight)
        values.append(objective(gate, X, resp, weight))
    assert_climbs(values, 1e-12)
    assert all((one.coef_ == 0).any() for one in gate.gates)
    np.testing.assert_allclose(np.exp(gate.log_proba(X)).sum(axis=1), 1.0)


def test_kinks_are_told_to_the_engine(problem):
    """SQUAREM and quasi-Newton steps would leave the zeros."""
    X, _, weight = problem
    for gate, smooth in ((SoftmaxGate(1.0), True), (SoftmaxGate(1.0, l1_ratio=0.1), 0)):
        behind = ExpandedGate(FunctionTransformer(), gate)
        tree = GateTree(Tree.complete([2, 2]), [gate, ConstantGate(), behind])
        tree.prepare(X, weight, 4)
        parts = (gate, gate.kernel_, behind, tree)
        assert [part.smooth for part in parts] == [bool(smooth)] * 4
    assert tree.kernel(9) is None
    assert GateTree(Tree.complete([2]), [SoftmaxGate()]).kernel(9).smooth
    assert ExpandedGate(FunctionTransformer(), ConstantGate()).smooth


@pytest.mark.parametrize("solver", ["newton", "bound"])
def test_a_mixture_with_a_lasso_gate(solver):
    """The fused pass: it climbs, and the column that matters alone is used."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 6))
    y = np.where(X[:, 0] > 0.2, 2.0 + X[:, 1], -1.0 - X[:, 2])
    y += 0.3 * rng.normal(size=400)
    gate = SoftmaxGate(10.0, l1_ratio=1.0, solver=solver)
    model = MixtureOfExpertsRegressor(n_experts=2, gate=gate, tol=1e-3, random_state=0)
    model.fit(X, y)
    assert_climbs(model.objective_trace_)
    used = (model.gate_.coef_ != 0).any(axis=0)
    np.testing.assert_array_equal(used, np.arange(6) == 0)
    assert model.gate_.n_parameters == 2
    resp = model.responsibilities(X, y)
    gap = gap_by_hand(model.gate_, X, resp, np.ones(400))
    assert gap < (0.05 if solver == "newton" else 2.0)


def test_pickle_and_clone(problem):
    gate = converged(*problem, 3.0, l1_ratio=0.8)
    again = pickle.loads(pickle.dumps(gate))
    np.testing.assert_array_equal(again.coef_, gate.coef_)
    assert clone(gate).get_params() == gate.get_params()


@pytest.mark.parametrize("value", [-0.1, 1.1, np.nan, "half", None])
def test_bad_share(problem, value):
    message = rf"SoftmaxGate: l1_ratio must be .* 1 \(lasso\), got {value!r}"
    with pytest.raises(ValueError, match=message):
        prepared(*problem, 1.0, l1_ratio=value)
