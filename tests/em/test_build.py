"""From a node to a problem and back; what starts are made from."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.linear_model import LinearRegression, Ridge

from skmoe import MixtureOfExpertsRegressor
from skmoe.em._build import (
    assignment,
    build_problem,
    differ,
    is_native,
    write_back,
)
from skmoe.em._fused import FusedNode
from skmoe.em._node import Node, hard_assignment, posterior
from skmoe.em._node_problem import NodeProblem
from skmoe.em._start_data import GAUSSIAN_START_PASSES, MAX_START_COLUMNS, start_data
from skmoe.experts import (
    EstimatorExpert,
    LinearExpert,
    UniformExpert,
)
from skmoe.gates import ConstantGate, GaussianGate, SoftmaxGate
from tests.em.problems import CASES, make_node, objective, rows, soft_labels


@pytest.fixture
def rng():
    return np.random.default_rng(61)


def node_of(*experts, gate=None, columns=None):
    named = [(f"e{k}", expert) for k, expert in enumerate(experts)]
    return Node(gate or SoftmaxGate(), named, columns or [None] * len(named))


@pytest.mark.parametrize("case", CASES)
def test_native_and_alike_is_fused(case, rng):
    data = rows(CASES[case][2], rng)
    assert is_native(make_node(case), data[0])
    assert isinstance(build_problem(make_node(case), *data), FusedNode)


class Heir(LinearExpert):
    """A subclass may override anything."""


class HeirOfGate(SoftmaxGate):
    """So may this one."""


GENERAL = {
    "different settings": node_of(LinearExpert(), LinearExpert(alpha=5.0)),
    "different kinds": node_of(LinearExpert(), EstimatorExpert(Ridge())),
    "adapted": node_of(EstimatorExpert(Ridge()), EstimatorExpert(Ridge())),
    "different columns": node_of(
        LinearExpert(), LinearExpert(), columns=[[0, 1], [0, 2]]
    ),
    "some columns": node_of(LinearExpert(), LinearExpert(), columns=[None, [0, 1]]),
    "subclass": node_of(Heir(), Heir()),
    "subclass of gate": node_of(LinearExpert(), LinearExpert(), gate=HeirOfGate()),
    "gaussian gate": node_of(LinearExpert(), LinearExpert(), gate=GaussianGate()),
    "prior on the shares": node_of(
        LinearExpert(), LinearExpert(), gate=ConstantGate(alpha=1.0)
    ),
    "gate by L-BFGS": node_of(
        LinearExpert(), LinearExpert(), gate=SoftmaxGate(solver="lbfgs")
    ),
}


@pytest.mark.parametrize("name", GENERAL)
def test_everything_else_is_general(name, rng):
    data = rows(None, rng)
    problem = build_problem(GENERAL[name], *data)
    assert isinstance(problem, NodeProblem)
    problem.start(soft_labels(data[0], 2, rng))
    assert np.isfinite(objective(problem))


def test_sparse_rows_are_general_and_the_same(rng):
    X, y, weight, _ = rows(None, rng)
    X = np.where(np.abs(X) > 1.0, X, 0.0)
    resp = soft_labels(X, 3, rng)
    thin = sparse.csr_array(X)
    assert not is_native(make_node("single"), thin)
    fits = []
    for design in (X, thin):
        problem = build_problem(make_node("single_ml"), design, y, weight, None)
        problem.start(resp)
        for _ in range(40):
            problem.e_step()
            problem.m_step()
        fits.append(objective(problem))
    assert fits[0] == pytest.approx(fits[1], rel=1e-4)


def test_columns_given_in_other_words_are_the_same(rng):
    data = rows(None, rng)
    one = node_of(LinearExpert(), LinearExpert(), columns=[[0, 1], range(2)])
    assert is_native(one, data[0])


@pytest.mark.parametrize("case", CASES)
def test_parts_after_write_back_are_the_problem(case, rng):
    X, y, weight, n_classes = rows(CASES[case][2], rng)
    node = make_node(case)
    problem = build_problem(node, X, y, weight, n_classes)
    problem.start(soft_labels(X, 3, rng), 2)
    for _ in range(4):
        problem.e_step()
        problem.m_step()
    log_lik = problem.e_step()
    mass, penalty = problem.mass.copy(), problem.penalty
    write_back(problem, node)
    assert weight @ node.log_prob(X, y) == pytest.approx(log_lik, rel=1e-10)
    assert node.penalty == pytest.approx(penalty, rel=1e-10, abs=1e-12)
    np.testing.assert_allclose(node.resp @ weight, mass, rtol=1e-9)
    # The parts are their own: what comes later does not reach them.
    kept = node.log_prob(X, y)
    problem.m_step()
    problem.e_step()
    np.testing.assert_array_equal(node.log_prob(X, y), kept)


def test_an_expert_written_back_goes_on_alone(rng):
    X, y, weight, _ = rows(None, rng)
    node = make_node("single")
    problem = build_problem(node, X, y, weight, None)
    problem.start(soft_labels(X, 3, rng))
    problem.e_step()
    write_back(problem, node)
    others = [e.log_prob(X, y) for _, e in node.experts[1:]]
    node.experts[0][1].m_step(X, y, weight)
    for (_, expert), before in zip(node.experts[1:], others, strict=True):
        np.testing.assert_array_equal(expert.log_prob(X, y), before)


def test_general_parts_need_no_write_back(rng):
    data = rows(None, rng)
    node = GENERAL["adapted"]
    problem = build_problem(node, *data)
    problem.start(soft_labels(data[0], 2, rng))
    before = objective(problem)
    write_back(problem, node)
    assert objective(problem) == before


@pytest.mark.parametrize("algorithm", ["em", "cem", "sem"])
def test_algorithms_reach_the_problem(algorithm, rng):
    assign = assignment(algorithm, np.random.RandomState(0))
    problem = build_problem(make_node("single", assign=assign), *rows(None, rng))
    assert problem.assign is (None if algorithm == "em" else assign)
    known = {"em": posterior, "cem": hard_assignment}
    assert algorithm == "sem" or assign is known[algorithm]


def test_shared_dispersion_does_not_outlive_its_problem(rng):
    data = rows(None, rng)
    tied = build_problem(make_node("shared"), *data)
    tied.start(soft_labels(data[0], 3, rng))
    assert np.ptp(tied.experts.variance) == 0.0
    free = build_problem(make_node("single"), *data)
    free.start(soft_labels(data[0], 3, rng))
    assert np.ptp(free.experts.variance) > 0.0


def test_experts_that_differ():
    def told_apart(*experts, columns=None):
        named = [(f"e{k}", expert) for k, expert in enumerate(experts)]
        return differ(Node(SoftmaxGate(), named, columns or [None] * len(named)))

    def ridge(seed):
        return EstimatorExpert(Ridge(random_state=seed), random_state=seed)

    line, other = LinearExpert(), EstimatorExpert(LinearRegression())
    assert not told_apart(line, LinearExpert())
    assert told_apart(line, LinearExpert(), columns=[[0], [1]])
    assert told_apart(line, LinearExpert(alpha=5.0))
    assert told_apart(line, EstimatorExpert(Ridge()))
    assert told_apart(EstimatorExpert(Ridge()), other)
    # Two that are alike stay alike, whatever the third one is.
    assert not told_apart(line, LinearExpert(), other)
    assert not told_apart(ridge(1), ridge(2))
    # A fixed law needs no rows of its own.
    assert told_apart(UniformExpert(), line)
    assert not told_apart(UniformExpert(), line, LinearExpert())


@pytest.mark.parametrize("depth", [1, 2])
def test_experts_of_a_fixed_law_leave_the_others_apart(depth, rng):
    X = rng.uniform(-2, 2, size=(300, 1))
    y = np.where(X[:, 0] > 0, 1 + 2 * X[:, 0], -1 - X[:, 0])
    y = y + 0.3 * rng.standard_normal(300)
    bad = rng.random(300) < 0.1
    y[bad] = rng.uniform(-20, 20, bad.sum())
    lines = [("a", LinearExpert(alpha=0.1)), ("b", LinearExpert(alpha=0.1))]
    if depth == 1:
        experts, gate = [("noise", UniformExpert()), *lines], None
    else:
        experts = [("noise", UniformExpert()), ("r", MixtureOfExpertsRegressor(lines))]
        gate = ConstantGate()
    model = MixtureOfExpertsRegressor(experts, gate=gate, random_state=0).fit(X, y)
    slopes = sorted(expert.coef_[0] for expert in model.experts_[1:])
    np.testing.assert_allclose(slopes, [-1.0, 2.0], atol=0.2)


# -- what starts are made from ---------------------------------------------------------


def test_start_data_are_standardised_by_weight(rng):
    X, y, _, _ = rows(2, rng)
    weight = rng.uniform(0.2, 2.0, size=y.shape[0])
    node = make_node("full", columns=([0, 1], [2]))
    data = start_data(node, X, y, weight, None)
    assert data.gate_X.shape == (150, 1)
    assert data.expert_X.shape == (150, 2)
    assert data.target.shape == (150, 2)
    for table in (data.gate_X, data.expert_X, data.target):
        mean = np.average(table, axis=0, weights=weight)
        np.testing.assert_allclose(mean, 0.0, atol=1e-9)
        spread = np.average(table**2, axis=0, weights=weight)
        np.testing.assert_allclose(spread, 1.0, rtol=1e-9)
    assert data.variance_prior == (5.0, 0.05)
    assert data.n_experts == 3
    assert not data.classes
    assert not data.constant_gate


def test_start_data_know_what_the_problem_is(rng):
    X, y, weight, n_classes = rows("3", rng)
    data = start_data(make_node("constant_classes"), X, y, weight, n_classes)
    assert data.classes
    assert data.constant_gate
    assert data.gaussian is None
    assert data.target.shape == (150, 3)
    regression = rows(None, rng)
    ml = start_data(make_node("single_ml"), *regression)
    assert ml.variance_prior == (0.0, 0.0)
    assert callable(ml.gaussian)


def test_wide_rows_are_projected_to_a_few(rng):
    X = rng.normal(size=(60, 4)) @ rng.normal(size=(4, MAX_START_COLUMNS + 20))
    y = rng.normal(size=60)
    data = start_data(make_node("single"), X, y, np.ones(60), None)
    assert data.gate_X.shape == (60, 10)
    again = start_data(make_node("single"), X, y, np.ones(60), None)
    np.testing.assert_allclose(data.gate_X, again.gate_X, atol=1e-9)


def test_gaussian_passes_sharpen_a_start(rng):
    x = np.concatenate([rng.normal(-2.0, 0.6, 80), rng.normal(2.0, 0.6, 80)])[:, None]
    y = np.where(x[:, 0] > 0, 4.0 * x[:, 0], -4.0 * x[:, 0] + 3.0)
    data = start_data(make_node("single", 2), x, y, np.ones(160), None)
    truth = (x[:, 0] > 0).astype(int)
    resp = np.where(truth == np.arange(2)[:, None], 0.6, 0.4)
    out = data.gaussian(resp)
    assert GAUSSIAN_START_PASSES >= 3
    np.testing.assert_allclose(out.sum(axis=0), 1.0, rtol=1e-9)
    assert out[truth, np.arange(160)].min() > 0.9
