"""The stored objective climbs: two hundred random problems, most of them nasty.

Few rows, many experts, weights of zero and of very different size, ties, columns
that are constant, duplicated or of wild scale, hard starts, no priors.
"""

import warnings

import numpy as np
import pytest

from skmoe.em._build import assignment, build_problem
from skmoe.em._loop import climb
from skmoe.em._monitor import Monitor
from skmoe.em._node import Node
from skmoe.em._node_problem import NodeProblem
from skmoe.em._starts import soften
from skmoe.exceptions import NonMonotoneWarning
from skmoe.experts import LinearExpert, LogisticExpert
from skmoe.gates import ConstantGate, GaussianGate, SoftmaxGate
from tests._asserts import assert_climbs

N_GROUPS, GROUP = 20, 10
MAX_ITER = 40


def random_rows(rng, n):
    """Return columns and weights with everything that real tables have."""
    X = rng.normal(size=(n, int(rng.integers(1, 5))))
    if rng.random() < 0.3:
        X = np.round(X)
    if rng.random() < 0.3:
        X = np.column_stack([X, np.full(n, rng.choice([0.0, 7.25, -1e9]))])
    if rng.random() < 0.3:
        X = np.column_stack([X, X[:, 0], -3.0 * X[:, 0]])
    X = X * 10.0 ** rng.integers(-9, 10, size=X.shape[1])
    weight = {
        0: np.ones(n),
        1: rng.uniform(0.0, 3.0, size=n),
        2: 10.0 ** rng.uniform(-6, 3, size=n),
        3: rng.integers(0, 3, size=n).astype(float),
    }[int(rng.integers(4))]
    weight[rng.integers(n)] += 1.0
    return X, weight


def random_response(rng, X, n_outputs):
    """Return responses that the columns explain in part, in some unit."""
    Z = (X - X.mean(axis=0)) / np.maximum(X.std(axis=0), 1e-300)
    regime = rng.integers(3, size=X.shape[0])
    coef = rng.normal(size=(3, X.shape[1], n_outputs))
    y = np.einsum("np,npq->nq", Z, coef[regime])
    y += rng.choice([0.0, 1e-3, 1.0]) * rng.normal(size=y.shape)
    if rng.random() < 0.2:
        y = np.round(y)
    y = y + rng.choice([0.0, 1.0, -1e4])
    return y * 10.0 ** rng.integers(-9, 10)


def random_experts(rng, n_experts, n_outputs):
    alpha = rng.choice([0.0, 0.1, 1.0, 30.0])
    if n_outputs is None:
        return [LogisticExpert(alpha) for _ in range(n_experts)]
    prior = None if rng.random() < 0.4 else (rng.choice([0.5, 5.0]), 0.05)
    covariance = str(rng.choice(["full", "diag"]))
    intercept = bool(rng.random() < 0.85)
    return [
        LinearExpert(
            alpha,
            covariance=covariance,
            fit_intercept=intercept,
            variance_prior=prior,
        )
        for _ in range(n_experts)
    ]


def random_gate(rng):
    solver = str(rng.choice(["auto", "newton", "bound", "lbfgs"]))
    kinds = [
        SoftmaxGate(rng.choice([0.0, 0.03, 1.0])),
        SoftmaxGate(rng.choice([0.0, 0.03]), solver=solver),
        ConstantGate(),
        ConstantGate(alpha=2.0),
        GaussianGate(str(rng.choice(["full", "diag", "tied"]))),
    ]
    return kinds[int(rng.choice(5, p=[0.4, 0.15, 0.2, 0.05, 0.2]))]


def random_start(rng, X, n_experts):
    n = X.shape[0]
    if rng.random() < 0.5:
        labels = np.argsort(np.argsort(X[:, 0], kind="stable")) * n_experts // n
    else:
        labels = rng.integers(n_experts, size=n)
    return soften(labels, n_experts, float(rng.choice([0.6, 0.95, 1.0])))


def random_problem(seed):
    """Return a problem at its start, how to climb it, and words for a report."""
    rng = np.random.default_rng(seed)
    n = int(np.round(5 * 60 ** rng.random()))
    n_experts = int(rng.integers(1, 7))
    X, weight = random_rows(rng, n)
    classes = rng.random() < 0.3
    n_outputs = None if classes else int(rng.choice([1, 1, 1, 2, 3]))
    n_classes = int(rng.integers(2, 5)) if classes else None
    if classes:
        y = rng.integers(n_classes, size=n)
    else:
        y = random_response(rng, X, n_outputs)
        y = y[:, 0] if n_outputs == 1 else y
    algorithm = str(rng.choice(["em", "em", "em", "cem"]))
    acceleration = [None, "squarem", "quasi-newton"][int(rng.integers(3))]
    experts = random_experts(rng, n_experts, n_outputs)
    node = Node(
        random_gate(rng),
        [(f"expert{k}", expert) for k, expert in enumerate(experts)],
        [None] * n_experts,
        shared_dispersion=bool(not classes and rng.random() < 0.2),
        assign=assignment(algorithm, None),
    )
    if rng.random() < 0.75:
        problem = build_problem(node, X, y, weight, n_classes)
    else:  # what is fused by itself must climb in general as well
        node.prepare(X, y, weight, n_classes)
        problem = NodeProblem(node, X, y, weight)
    problem.start(random_start(rng, X, n_experts), int(rng.choice([1, 1, 6])))
    acceleration = acceleration if algorithm == "em" else None
    words = (
        f"seed {seed}: {n} rows, {n_experts} x {experts[0]}, {node.gate}, {algorithm}"
    )
    return problem, acceleration, words


def climb_and_trace(problem, acceleration):
    monitor = Monitor(1e-10, problem.total_weight)
    climb(problem, monitor, MAX_ITER, acceleration)
    return monitor


@pytest.mark.parametrize("group", range(N_GROUPS))
def test_the_objective_climbs(group):
    for seed in range(GROUP * group, GROUP * (group + 1)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            problem, acceleration, words = random_problem(seed)
            try:
                monitor = climb_and_trace(problem, acceleration)
            except NonMonotoneWarning as fall:
                raise AssertionError(f"{words}, {acceleration}: {fall}") from fall
        assert_climbs(monitor.trace, 1e-8)
        assert len(monitor.trace) >= 1
        # The parameters that are kept are those of the reported objective.
        again = problem.e_step() + problem.penalty
        assert again == pytest.approx(monitor.last, rel=1e-9, abs=1e-9), words


def test_the_problems_are_as_different_as_promised():
    """So that a change of the generator cannot quietly make them tame."""
    sizes, fused, methods, experts, gates, pairs = set(), set(), set(), set(), set(), 0
    for seed in range(N_GROUPS * GROUP):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            problem, acceleration, words = random_problem(seed)
        general = isinstance(problem, NodeProblem)
        sizes.add(problem.weight.size)
        fused.add(not general)
        methods.add(acceleration)
        pairs += (problem.weight == 0).any()
        experts.update(kind for kind in ("Linear", "Logistic") if kind in words)
        names = ("SoftmaxGate", "ConstantGate", "GaussianGate")
        gates.update(kind for kind in names if kind in words)
    assert min(sizes) <= 6
    assert max(sizes) >= 280
    assert fused == {True, False}
    assert methods == {None, "squarem", "quasi-newton"}
    assert len(experts) == 2
    assert len(gates) == 3
    assert pairs > 10
