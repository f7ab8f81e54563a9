"""Every native expert in the fused node: the general node's numbers, exact slopes."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, SplineTransformer

import skmoe.em._paths as em_paths
from skmoe import (
    HierarchicalMixtureOfExpertsRegressor,
    MixtureOfExpertsRegressor,
)
from skmoe._arguments import resolve_gate
from skmoe.em._build import build_problem, write_back
from skmoe.em._fused import FusedNode
from skmoe.em._loop import climb
from skmoe.em._monitor import Monitor
from skmoe.em._node import Node
from skmoe.em._node_problem import NodeProblem
from skmoe.em._paths import PathNode
from skmoe.experts import (
    BinomialExpert,
    ExpandedExpert,
    GammaExpert,
    HeteroscedasticExpert,
    LinearExpert,
    NegativeBinomialExpert,
    PoissonExpert,
    RobustLinearExpert,
)
from skmoe.gates import ConstantGate, SoftmaxGate

SMOOTH = {
    "poisson": PoissonExpert(),
    "poisson, plain": PoissonExpert(alpha=0),
    "negative binomial": NegativeBinomialExpert(),
    "gamma": GammaExpert(),
    "gamma, plain": GammaExpert(alpha=0, dispersion_prior=None),
    "binomial": BinomialExpert(),
    "student": RobustLinearExpert(),
    "student, df": RobustLinearExpert(df=4.0, alpha=0, variance_prior=None),
    "heteroscedastic": HeteroscedasticExpert(),
    "spline poisson": ExpandedExpert(SplineTransformer(4), PoissonExpert()),
}
NATIVE = SMOOTH | {"laplace": RobustLinearExpert(noise="laplace")}
BENT = make_pipeline(PolynomialFeatures(2, include_bias=False), SoftmaxGate())
GATES = {"softmax": SoftmaxGate(), "constant": ConstantGate(), "bent": BENT}
N_ROWS = 160


def rows_for(name, rng):
    """Return X, y and weight; X ends with an offset, or with trials."""
    X = rng.uniform(-1.5, 1.5, size=(N_ROWS, 2))
    level = np.where(X[:, 0] > 0, 0.4 + X[:, 1], 1.0 - X[:, 1])
    known = rng.uniform(-0.5, 0.5, N_ROWS)
    if "binomial" in name and "negative" not in name:
        known = rng.integers(1, 9, N_ROWS).astype(float)
        y = rng.binomial(known.astype(int), 1 / (1 + np.exp(-level))).astype(float)
    elif "gamma" in name:
        y = rng.gamma(3.0, np.exp(level + known) / 3.0)
    elif "poisson" in name or "binomial" in name:
        y = rng.poisson(np.exp(level + known)).astype(float)
    else:
        known = None
        y = level + rng.standard_t(3, N_ROWS) * 0.3
    if known is not None:
        X = np.column_stack([X, known])
    return X, y, rng.uniform(0.5, 1.5, N_ROWS)


def make_node(name, gate="softmax", n_experts=3, shared=False):
    expert = NATIVE[name]
    names = ()
    if "binomial" in name and "negative" not in name:
        names = ("trials",)
    elif any(kind in name for kind in ("poisson", "negative", "gamma")):
        names = ("offset",)
    experts = []
    for k in range(n_experts):
        part = type(expert)(**expert.get_params(deep=False))
        if names:
            part.known = names
        experts.append((f"e{k}", part))
    columns = [0, 1] if names else None
    gate = resolve_gate(GATES[gate], np.random.RandomState(0))
    return Node(
        gate,
        experts,
        [None] * n_experts,
        columns,
        shared_dispersion=shared,
        clones=True,
    )


def started(name, rng, **how):
    X, y, weight = rows_for(name, rng)
    node = make_node(name, **how)
    problem = build_problem(node, X, y, weight, None)
    resp = rng.dirichlet(np.full(3, 0.3), N_ROWS).T
    problem.start(np.ascontiguousarray(resp))
    return problem, node, (X, y, weight)


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("name", NATIVE)
def test_fused_log_likelihood_is_that_of_the_parts(name, gate, rng):
    problem, node, (X, y, weight) = started(name, rng, gate=gate)
    assert type(problem) is FusedNode
    for _ in range(4):
        log_lik = problem.e_step()
        write_back(problem, node)
        assert_allclose(log_lik, weight @ node.log_prob(X, y), rtol=1e-9)
        assert_allclose(problem.penalty, node.penalty, rtol=1e-9, atol=1e-12)
        assert_allclose(problem.mass, node.resp @ weight, rtol=1e-8)
        problem.m_step()


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("name", SMOOTH)
def test_gradient_by_finite_differences(name, shared, rng):
    problem, _, _ = started(name, rng, shared=shared)
    for _ in range(3):
        problem.e_step()
        problem.m_step()
    problem.e_step()
    start, gradient = problem.parameters, problem.gradient
    assert gradient.shape == start.shape
    scale = np.abs(gradient).max() + 1.0
    for i in rng.permutation(start.size)[:12]:
        step = 1e-5 * (1.0 + abs(start[i]))
        value = []
        for sign in (-1.0, 1.0):
            moved = start.copy()
            moved[i] += sign * step
            problem.parameters = moved
            value.append(problem.e_step() + problem.penalty)
        slope = (value[1] - value[0]) / (2.0 * step)
        assert_allclose(gradient[i], slope, rtol=2e-5, atol=2e-6 * scale)


@pytest.mark.parametrize("name", NATIVE)
def test_climb_is_monotone_and_arrives(name, rng):
    problem, _, (_, _, weight) = started(name, rng)
    monitor = Monitor(1e-8, weight.sum(), exact=True)
    climb(problem, monitor, 400)
    trace = np.array(monitor.trace)
    assert monitor.converged
    assert np.diff(trace).min() >= -1e-8 * (1.0 + np.abs(trace).max())
    if name in SMOOTH:
        problem.e_step()
        # What a Newton step promises is a small part of a nat.
        ahead = problem.gradient @ problem.precondition(problem.gradient)
        assert 0.0 <= ahead < 1e-3


@pytest.mark.parametrize("name", NATIVE)
def test_general_node_stays_where_the_fused_one_ends(name, rng):
    problem, node, (X, y, weight) = started(name, rng)
    climb(problem, Monitor(1e-9, weight.sum()), 800)
    reached = problem.e_step() + problem.penalty
    write_back(problem, node)
    general = NodeProblem(node, X, y, weight)
    monitor = Monitor(1e-9, weight.sum())
    climb(general, monitor, 20)
    assert_allclose(monitor.trace[0], reached, rtol=1e-9)
    slack = 5e-2 if name == "laplace" else 1e-3
    assert -1e-6 <= monitor.best - reached < slack


@pytest.mark.parametrize("name", ["poisson", "negative binomial", "heteroscedastic"])
def test_paths_left_out_change_little(name, rng, monkeypatch):
    # Paths are left out by blocks of rows: small ones, for there are few rows.
    monkeypatch.setattr(em_paths, "PATH_ROWS", (40, 40))
    X, y, weight = rows_for(name, rng)
    X = np.repeat(X, 8, axis=0)
    y, weight = np.repeat(y, 8), np.repeat(weight, 8)
    beside = {}
    if X.shape[1] > 2:
        beside["offset"], X = X[:, 2], X[:, :2]
    options = {"depth": 2, "max_iter": 300, "init": "tree", "random_state": 0}
    full = HierarchicalMixtureOfExpertsRegressor(NATIVE[name], **options)
    some = HierarchicalMixtureOfExpertsRegressor(NATIVE[name], path_tol=1e-6, **options)
    full.fit(X, y, sample_weight=weight, **beside)
    some.fit(X, y, sample_weight=weight, **beside)
    assert full.skipped_share_ == 0.0
    assert some.skipped_share_ > 0.03
    ours = some.log_likelihood(X, y, weight, **beside)
    theirs = full.log_likelihood(X, y, weight, **beside)
    # Where a fit ends, its objective is what its parameters give all rows; each of
    # the four paths may miss the probability that it is left out below.
    for model, log_lik, missed in ((full, theirs, 0.0), (some, ours, 4e-6)):
        reached = model.objective_trace_[-1] - model.node_.penalty
        slack = missed * weight.sum() + 1e-9 * abs(log_lik)
        assert_allclose(reached, log_lik, rtol=0.0, atol=slack)
    # Which maximum is found may hang on the last digit; they lie close together.
    assert_allclose(ours / weight.sum(), theirs / weight.sum(), atol=0.02)


def test_path_node_takes_the_place_of_the_fused_one(rng):
    X, y, weight = rows_for("poisson", rng)
    model = HierarchicalMixtureOfExpertsRegressor(
        PoissonExpert(), path_tol=1e-3, random_state=0, n_init=1
    ).fit(X[:, :2], y)
    node = model.node_
    assert type(build_problem(node, X[:, :2], y, weight, None)) is PathNode


def test_bent_gate_is_fused_and_draws_a_ring(rng):
    X = rng.uniform(-2, 2, size=(500, 2))
    inside = (X**2).sum(axis=1) < 2.0
    y = np.where(inside, 2.0 + X[:, 0], -X[:, 0]) + 0.1 * rng.standard_normal(500)
    bent = MixtureOfExpertsRegressor(LinearExpert(), 2, gate=BENT, random_state=0).fit(
        X, y
    )
    straight = MixtureOfExpertsRegressor(LinearExpert(), 2, random_state=0).fit(X, y)
    assert bent.log_prob(X, y).mean() > straight.log_prob(X, y).mean() + 0.3
    ring = bent.gate_proba(X)[:, bent.apply([[0.0, 0.0]])[0]]
    assert ((ring > 0.5) == inside).mean() > 0.97


def test_a_subclass_without_a_kernel_of_its_own_is_general(rng):
    class Louder(PoissonExpert):
        def log_prob(self, X, y):
            return super().log_prob(X, y) - 1.0

    X, y, weight = rows_for("poisson", rng)
    node = make_node("poisson")
    node.experts = [(name, Louder()) for name, _ in node.experts]
    assert type(build_problem(node, X, y, weight, None)) is NodeProblem
