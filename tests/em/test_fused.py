"""The fused node beside the general one: the same numbers, and their gradient."""

import numpy as np
import pytest
from scipy import optimize
from sklearn.linear_model import LogisticRegression

from skmoe.em._build import build_problem
from skmoe.em._fused import FusedNode
from skmoe.em._node import hard_assignment, posterior
from tests._asserts import (
    assert_climbs,
    assert_gradient,
    assert_symmetric_psd,
    assert_weight_is_repetition,
    assert_zero_weight_is_removal,
)
from tests.em.problems import (
    CASES,
    both,
    fused_problem,
    make_node,
    objective,
    objective_from,
    resp_of,
    rows,
    soft_labels,
)

WITH_GRADIENT = [name for name in CASES if "full" not in name]


@pytest.fixture
def rng():
    return np.random.default_rng(14)


def vectors(fused, general):
    """Return the parameters of both, experts first, in one order."""
    node = general.node
    parts = zip(fused.experts.split(), node.experts, strict=True)
    pairs = [(kernel.parameters, expert.parameters) for kernel, (_, expert) in parts]
    pairs.append((fused.gate.parameters, node.gate.parameters))
    return tuple(np.concatenate(side) for side in zip(*pairs, strict=True))


@pytest.mark.parametrize("n_experts", [1, 2, 4])
@pytest.mark.parametrize("case", CASES)
def test_same_likelihood_responsibilities_and_penalty(case, n_experts, rng):
    fused, general = both(case, rng, n_experts)
    ours, theirs = fused.e_step(), general.e_step()
    assert ours == pytest.approx(theirs, rel=1e-10, abs=1e-10)
    assert fused.penalty == pytest.approx(general.penalty, rel=1e-10, abs=1e-10)
    np.testing.assert_allclose(fused.mass, general.mass, rtol=1e-10)
    np.testing.assert_allclose(resp_of(fused), general.node.resp, atol=1e-10)
    np.testing.assert_allclose(fused.responsibilities(), general.node.resp, atol=1e-10)
    np.testing.assert_allclose(general.responsibilities(), general.node.resp)


@pytest.mark.parametrize("n_experts", [1, 2, 4])
@pytest.mark.parametrize("case", CASES)
def test_one_pass_gives_the_same(case, n_experts, rng):
    """Where the gate's search takes its full step, as it does near a fit."""
    fused, general = both(case, rng, n_experts)
    before = fused.e_step() + fused.penalty
    general.e_step()
    fused.m_step()
    general.m_step()
    ours, theirs = vectors(fused, general)
    np.testing.assert_allclose(ours, theirs, rtol=1e-8, atol=1e-9)
    after = objective(fused)
    assert after == pytest.approx(objective(general), rel=1e-10, abs=1e-10)
    assert after >= before - 1e-10 * abs(before)
    assert n_experts == 1 or after > before + 1e-4
    np.testing.assert_allclose(fused.mass, general.mass, rtol=1e-8)


@pytest.mark.parametrize("case", ["single", "four_classes", "own_columns", "full"])
def test_many_blocks_of_rows_are_one(case, rng):
    """Rows beyond one block: nothing is lost or counted twice at the seam."""
    fused, general = both(case, rng, 3, n=9001)
    assert fused.e_step() == pytest.approx(general.e_step(), rel=1e-11)
    np.testing.assert_allclose(resp_of(fused), general.node.resp, atol=1e-9)
    fused.m_step()
    general.m_step()
    assert objective(fused) == pytest.approx(objective(general), rel=1e-10)


@pytest.mark.parametrize("n_experts", [1, 3])
@pytest.mark.parametrize("case", WITH_GRADIENT)
def test_gradient(case, n_experts, rng):
    problem = fused_problem(case, rng, n_experts)
    assert problem.has_gradient
    point = problem.parameters + 0.1 * rng.normal(size=problem.parameters.size)
    value = objective_from(problem)
    value(point)
    gradient = problem.gradient.copy()
    assert np.abs(gradient).max() > 1.0
    assert_gradient(value, gradient, point, rng)


@pytest.mark.parametrize("case", WITH_GRADIENT)
def test_preconditioner(case, rng):
    problem = fused_problem(case, rng)
    problem.e_step()
    assert_symmetric_psd(problem.precondition, problem.parameters.size)


@pytest.mark.parametrize("case", ["single", "constant_gate", "diag", "two_classes"])
def test_preconditioned_gradient_is_the_step_of_em(case, rng):
    """The metric is the complete-data information, which EM inverts."""
    problem = fused_problem(case, rng)
    problem.e_step()
    before, direction = problem.parameters, problem.precondition(problem.gradient)
    size = problem.experts.coef.size
    problem.m_step()
    step = problem.parameters - before
    np.testing.assert_allclose(direction[:size], step[:size], rtol=1e-6, atol=1e-8)
    if case == "constant_gate":  # exact there: to first order only
        return
    tail = problem.gate.coef.size
    np.testing.assert_allclose(direction[-tail:], step[-tail:], rtol=1e-6, atol=1e-8)


def test_full_covariances_have_no_gradient(rng):
    assert not both("full", rng)[0].has_gradient


@pytest.mark.parametrize("case", ["single", "shared", "two_classes", "own_columns"])
def test_maximum_is_stationary_for_scipy(case, rng):
    """Long EM ends where a general optimiser ends, too."""
    problem = fused_problem(case, rng, 2, steps=400)
    ours = objective(problem)
    value = objective_from(problem)

    def minus(vector):
        return -value(vector), -problem.gradient

    start = problem.parameters
    found = optimize.minimize(minus, start, jac=True, method="L-BFGS-B", tol=1e-14)
    assert -found.fun == pytest.approx(ours, abs=1e-4)


def test_backtracking_ends_at_the_old_gate(rng):
    problem = fused_problem("single", rng)
    problem.e_step()
    gate = problem.gate.coef.copy()
    problem.m_step()
    full = problem.gate.coef - gate
    experts = problem.experts.parameters
    shares = []
    while problem.backtrack():
        moved = problem.gate.coef - gate
        shares.append(float((moved * full).sum() / (full * full).sum()))
        np.testing.assert_allclose(moved, shares[-1] * full, atol=1e-12)
        np.testing.assert_array_equal(problem.experts.parameters, experts)
        assert len(shares) < 10
    assert shares[0] == pytest.approx(0.25)
    assert np.all(np.diff(shares) < 0)
    assert shares[-1] == pytest.approx(0.0, abs=1e-14)


def test_start_does_not_depend_on_what_ran_before(rng):
    X, y, weight, _ = rows(None, rng)
    problem = build_problem(make_node("single"), X, y, weight, None)
    one, other = soft_labels(X, 3, rng), soft_labels(X[::-1], 3, rng)
    problem.start(one, 4)
    first = problem.parameters
    problem.start(other)
    problem.e_step()
    problem.m_step()
    assert np.abs(problem.parameters - first).max() > 1e-3
    problem.start(one, 4)
    np.testing.assert_array_equal(problem.parameters, first)


def test_start_takes_the_gate_towards_its_responsibilities(rng):
    X, y, weight, _ = rows(None, rng)
    problem = build_problem(make_node("single"), X, y, weight, None)
    labels = (X[:, 0] > 0).astype(int)
    resp = np.ascontiguousarray(np.eye(3)[labels].T)
    right = []
    for gate_steps in (1, 10):
        problem.start(resp, gate_steps)
        proba = problem.gate.log_proba(problem.groups[-1].matrix)
        right.append(float(weight @ proba[labels, np.arange(labels.size)]))
    assert right[1] > right[0] + 5.0


def test_start_fits_the_experts_to_their_rows(rng):
    X, y, weight, _ = rows(None, rng)
    problem = build_problem(make_node("single_ml", 2), X, y, weight, None)
    own = X[:, 0] > 0.2
    problem.start(np.stack([own, ~own]).astype(float))
    from sklearn.linear_model import LinearRegression

    for k, mask in enumerate((own, ~own)):
        plain = LinearRegression().fit(X[mask], y[mask], weight[mask])
        error = weight[mask] @ (y[mask] - plain.predict(X[mask])) ** 2
        assert problem.experts.variance[k, 0] == pytest.approx(
            error / weight[mask].sum(), rel=1e-7
        )


@pytest.mark.parametrize("case", ["single", "own_columns", "two_classes", "diag"])
def test_subset_weighs_as_much(case, rng):
    X, y, weight, n_classes = rows(CASES[case][2], rng)
    problem = build_problem(make_node(case), X, y, weight, n_classes)
    problem.start(soft_labels(X, 3, rng))
    problem.assign = hard_assignment
    some = np.arange(10, 60)
    part = problem.subset(some)
    assert part.total_weight == pytest.approx(weight.sum(), rel=1e-12)
    assert part.assign is hard_assignment
    part.assign = None
    scaled = weight[some] * (weight.sum() / weight[some].sum())
    # The parts keep the scales and priors of all rows.
    node = make_node(case)
    node.prepare(X, y, weight, n_classes)
    node.gate.parameters = problem.gate.parameters
    for kernel, (_, expert) in zip(problem.experts.split(), node.experts, strict=True):
        expert.parameters = kernel.parameters
    expected = scaled @ node.log_prob(X[some], y[some])
    assert part.e_step() == pytest.approx(float(expected), rel=1e-10)


def test_hard_assignment_is_what_the_m_step_sees(rng):
    problem = fused_problem("single", rng)
    problem.assign = hard_assignment
    problem.e_step()
    mass = problem.mass.copy()
    problem.assign = None
    problem.e_step()
    labels = resp_of(problem).argmax(axis=0)
    expected = np.bincount(labels, weights=problem.weight, minlength=3)
    np.testing.assert_allclose(mass, expected, rtol=1e-12)
    # Soft responsibilities spread the same weight otherwise.
    assert np.abs(problem.mass - mass).max() > 1e-6
    assert problem.mass.sum() == pytest.approx(mass.sum())


@pytest.mark.parametrize("case", ["single", "shared", "full", "four_classes"])
def test_weights(case, rng):
    X, y, weight, n_classes = rows(CASES[case][2], rng, 80)
    resp = soft_labels(X, 3, rng)
    lookup = {row.tobytes(): r for row, r in zip(X, resp.T, strict=True)}

    def fit(X, y, weight):
        problem = build_problem(make_node(case), X, y, weight, n_classes)
        start = np.column_stack([lookup[row.tobytes()] for row in X])
        problem.start(np.ascontiguousarray(start), 2)
        for _ in range(5):
            problem.e_step()
            problem.m_step()
        return objective(problem), problem.parameters

    count = rng.integers(1, 4, size=80)
    assert_weight_is_repetition(fit, X, y, count, atol=1e-7)
    assert_zero_weight_is_removal(fit, X, y, weight, atol=1e-7)


@pytest.mark.parametrize("case", CASES)
def test_permuted_experts(case, rng):
    X, y, weight, n_classes = rows(CASES[case][2], rng)
    resp, order = soft_labels(X, 3, rng), [2, 0, 1]
    found = []
    for start in (resp, np.ascontiguousarray(resp[order])):
        problem = build_problem(make_node(case), X, y, weight, n_classes)
        problem.start(start, 2)
        for _ in range(4):
            problem.e_step()
            problem.m_step()
        found.append((objective(problem), resp_of(problem)))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-9)
    np.testing.assert_allclose(found[0][1][order], found[1][1], atol=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_duplicated_and_dull_columns(case, rng):
    X, y, weight, n_classes = rows(CASES[case][2], rng)
    X[:, 3] = X[:, 1]
    X[:, 2] = 4.5
    problem = build_problem(make_node(case), X, y, weight, n_classes)
    problem.start(soft_labels(X, 3, rng))
    trace = []
    for _ in range(15):
        trace.append(objective(problem))
        problem.m_step()
    assert np.isfinite(problem.parameters).all()
    assert_climbs(trace)


def test_fewer_rows_than_columns(rng):
    X = rng.normal(size=(10, 25))
    y = rng.normal(size=10)
    for case in ("single", "single_ml"):
        problem = build_problem(make_node(case, 2), X, y, np.ones(10), None)
        problem.start(soft_labels(X, 2, rng))
        trace = []
        for _ in range(10):
            trace.append(objective(problem))
            problem.m_step()
        assert_climbs(trace)


@pytest.mark.parametrize(
    "case", ["single", "single_ml", "shared", "two_classes", "full"]
)
def test_dead_expert(case, rng):
    """An expert without any responsibility harms nobody and can come back."""
    X, y, weight, n_classes = rows(CASES[case][2], rng)
    problem = build_problem(make_node(case), X, y, weight, n_classes)
    resp = soft_labels(X, 2, rng)
    problem.start(np.vstack([resp, np.zeros(X.shape[0])]), 6)
    trace = []
    for _ in range(8):
        trace.append(objective(problem))
        problem.m_step()
    assert_climbs(trace)
    assert np.isfinite(problem.parameters).all()
    assert problem.mass.sum() == pytest.approx(weight.sum())


def test_degenerate_is_that_of_the_experts(rng):
    X, y, weight, _ = rows(None, rng)
    problem = build_problem(make_node("single"), X, y, weight, None)
    problem.start(soft_labels(X, 3, rng))
    problem.e_step()
    assert not problem.degenerate()
    resp = np.zeros((3, X.shape[0]))
    resp[0] = 1.0
    problem.e_step(resp)
    assert problem.degenerate()


def test_one_expert_is_the_bare_expert(rng):
    X, y, weight, _ = rows(None, rng)
    node = make_node("single", 1)
    problem = build_problem(node, X, y, weight, None)
    problem.start(np.ones((1, X.shape[0])))
    alone = make_node("single", 1).experts[0][1]
    alone.prepare(X, y, weight)
    alone.m_step(X, y, weight)
    expected = weight @ alone.log_prob(X, y) + alone.penalty
    assert objective(problem) == pytest.approx(expected, rel=1e-11)


def test_gate_in_the_long_run_is_a_weighted_logistic_regression(rng):
    """With responsibilities held, the gate ends at the multinomial fit."""
    X, y, weight, _ = rows(None, rng)
    problem = build_problem(make_node("single"), X, y, weight, None)
    resp = soft_labels(X, 3, rng)
    problem.start(resp, 40)
    kept = weight > 0
    Z = problem.groups[-1].matrix[1:].T[kept]
    plain = LogisticRegression(C=1 / 0.03, solver="newton-cg", tol=1e-10)
    plain.fit(
        np.repeat(Z, 3, axis=0),
        np.tile(np.arange(3), kept.sum()),
        sample_weight=(resp.T * weight[:, None])[kept].ravel(),
    )
    proba = np.exp(problem.gate.log_proba(problem.groups[-1].matrix)).T[kept]
    np.testing.assert_allclose(proba, plain.predict_proba(Z), atol=1e-6)


def test_state_is_a_snapshot(rng):
    problem = fused_problem("shared", rng)
    before, state = objective(problem), problem.state()
    kept = state.copy()
    for _ in range(3):
        problem.m_step()
        problem.e_step()
    np.testing.assert_array_equal(state, kept)
    problem.restore(state)
    assert objective(problem) == pytest.approx(before, rel=1e-12)


def test_posterior_of_far_rows():
    joint = np.array([[-1e5, -3.0, 700.0], [-1e5 - 1.0, -1e9, 701.0]])
    resp, log_lik = posterior(joint)
    np.testing.assert_allclose(resp.sum(axis=0), 1.0)
    np.testing.assert_allclose(log_lik, np.logaddexp(joint[0], joint[1]), rtol=1e-12)
    assert FusedNode.exact_m_step


STARTED = [
    "single",
    "no_intercept",
    "full",
    "shared",
    "two_classes",
    "four_classes",
    "constant_gate",
    "gate_columns",
    "class_columns",
    "bound",
]


@pytest.mark.parametrize("n", [150, 5000])
@pytest.mark.parametrize("case", STARTED)
def test_steps_of_the_gate_are_those_of_whole_passes(case, n, rng):
    """The experts are left out of a start's first passes, and nothing else is."""
    X, y, weight, n_classes = rows(CASES[case][2], rng, n)
    resp = soft_labels(X, 3, rng)
    whole = build_problem(make_node(case), X, y, weight, n_classes)
    for _ in range(4):
        whole.e_step(resp)
        whole.gate.propose()
        whole.gate.move(1.0)
    whole.e_step(resp)
    whole.m_step()
    problem = build_problem(make_node(case), X, y, weight, n_classes)
    before = problem.gate.parameters
    problem.start(resp, 5)
    assert np.abs(problem.gate.parameters - before).max() > 1e-3
    scale = np.abs(whole.parameters).max()
    np.testing.assert_allclose(
        problem.parameters, whole.parameters, rtol=1e-9, atol=1e-10 * scale
    )


def test_the_experts_do_not_work_while_the_gate_starts(rng):
    X, y, weight, _ = rows(None, rng)
    problem = build_problem(make_node("single"), X, y, weight, None)
    calls = []
    log_prob = problem.experts.log_prob
    problem.experts.log_prob = lambda *block: calls.append(1) or log_prob(*block)
    problem.start(soft_labels(X, 3, rng), 12)
    assert len(calls) == len(range(0, X.shape[0], problem.block_rows))


@pytest.mark.parametrize("case", STARTED)
def test_a_gate_that_is_given_is_taken_over(case, rng):
    """Bit for bit, while the experts are fitted to the responsibilities."""
    X, y, weight, n_classes = rows(CASES[case][2], rng)
    resp = soft_labels(X, 3, rng)
    plain = build_problem(make_node(case), X, y, weight, n_classes)
    plain.start(resp)
    problem = build_problem(make_node(case), X, y, weight, n_classes)
    given = rng.normal(size=problem.gate.parameters.size)
    kept = given.copy()
    problem.start(resp, 5, given)
    np.testing.assert_array_equal(problem.gate.parameters, kept)
    np.testing.assert_allclose(
        problem.experts.parameters, plain.experts.parameters, rtol=1e-11, atol=1e-11
    )
    # The start owns its numbers, and what ran before does not matter.
    for _ in range(2):
        problem.e_step()
        problem.m_step()
    np.testing.assert_array_equal(given, kept)
    problem.start(resp, 1, given)
    np.testing.assert_array_equal(problem.gate.parameters, kept)
    first = problem.parameters
    problem.start(resp[::-1].copy())
    problem.start(resp, 1, given)
    np.testing.assert_array_equal(problem.parameters, first)


@pytest.mark.parametrize("case", ["single", "full", "two_classes", "own_columns"])
def test_em_goes_on_where_a_start_takes_it_over(case, rng):
    """From a fit's gate and responsibilities, only the experts have to follow."""
    problem = fused_problem(case, rng, steps=30)
    here = objective(problem)
    resp, gate = problem.responsibilities(), problem.gate.parameters
    problem.start(resp, gate_parameters=gate)
    taken = objective(problem)
    if problem.experts.exact_m_step:  # half a pass of EM: the experts' half
        assert taken >= here - 1e-9 * abs(here)
    trace = [taken]
    for _ in range(5):
        problem.m_step()
        trace.append(objective(problem))
    assert_climbs(trace)
    # A gate that has to start anew is behind.
    problem.start(resp)
    assert objective(problem) < taken - 1.0
