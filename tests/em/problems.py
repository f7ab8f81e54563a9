"""Nodes, rows and problems that the tests of the engine share."""

import numpy as np

from skmoe.em._build import build_problem
from skmoe.em._fused import FusedNode
from skmoe.em._node import Node, posterior
from skmoe.em._node_problem import NodeProblem
from skmoe.experts import LinearExpert, LogisticExpert
from skmoe.gates import ConstantGate, SoftmaxGate

LEFT, RIGHT = [0, 1], [1, 2, 3]


def plain(**params):
    """A linear expert of plain maximum likelihood."""
    return LinearExpert(alpha=0, variance_prior=None, **params)


# name: (make an expert, make a gate, n_outputs or classes, keywords of the node)
CASES = {
    "single": (LinearExpert, SoftmaxGate, None, {}),
    "single_ml": (plain, lambda: SoftmaxGate(0.0), None, {}),
    "no_intercept": (
        lambda: LinearExpert(fit_intercept=False),
        SoftmaxGate,
        None,
        {},
    ),
    "full": (lambda: LinearExpert(covariance="full"), SoftmaxGate, 2, {}),
    "diag": (lambda: LinearExpert(covariance="diag"), SoftmaxGate, 2, {}),
    "shared": (LinearExpert, SoftmaxGate, None, {"shared_dispersion": True}),
    "shared_ml": (plain, SoftmaxGate, None, {"shared_dispersion": True}),
    "shared_full": (
        lambda: LinearExpert(covariance="full"),
        SoftmaxGate,
        2,
        {"shared_dispersion": True},
    ),
    "shared_diag": (
        lambda: LinearExpert(covariance="diag"),
        SoftmaxGate,
        2,
        {"shared_dispersion": True},
    ),
    "two_classes": (LogisticExpert, SoftmaxGate, "2", {}),
    "four_classes": (lambda: LogisticExpert(0.2), SoftmaxGate, "4", {}),
    "constant_gate": (LinearExpert, ConstantGate, None, {}),
    "constant_classes": (LogisticExpert, ConstantGate, "3", {}),
    "own_columns": (LinearExpert, SoftmaxGate, None, {"columns": (LEFT, RIGHT)}),
    "gate_columns": (LinearExpert, SoftmaxGate, None, {"columns": (None, RIGHT)}),
    "class_columns": (LogisticExpert, SoftmaxGate, "3", {"columns": (LEFT, RIGHT)}),
    "bound": (LinearExpert, lambda: SoftmaxGate(solver="bound"), None, {}),
}


def rows(n_outputs, rng, n=150, n_regimes=3):
    """Return X, y, weight and n_classes of rows from overlapping regimes."""
    X = rng.normal(size=(n, 4)) @ np.diag([1.0, 2.0, 1e-3, 30.0]) + [0, 5, 0, -7]
    regime = np.clip(
        np.floor(X[:, 0] + 1.5 + 0.3 * rng.normal(size=n)), 0, n_regimes - 1
    )
    weight = rng.uniform(0.2, 3.0, size=n)
    weight[rng.random(n) < 0.05] = 0.0
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    if isinstance(n_outputs, str):
        n_classes = int(n_outputs)
        coef = 1.5 * rng.normal(size=(n_regimes, 4, n_classes))
        logit = np.einsum("np,npc->nc", Z, coef[regime.astype(int)])
        y = (logit + rng.gumbel(size=logit.shape)).argmax(axis=1)
        y[:n_classes] = np.arange(n_classes)
        return X, y, weight, n_classes
    coef = 2.0 * rng.normal(size=(n_regimes, 4, n_outputs or 1))
    y = np.einsum("np,npq->nq", Z, coef[regime.astype(int)]) + regime[:, None]
    y = y + 0.4 * rng.normal(size=y.shape)
    return X, y if n_outputs else y[:, 0], weight, None


def make_node(case, n_experts=3, **more):
    """Return an unprepared node of a case."""
    expert, gate, _, options = CASES[case]
    options = {**options, **more}
    expert_columns, gate_columns = options.pop("columns", (None, None))
    experts = [(f"expert{k}", expert()) for k in range(n_experts)]
    return Node(gate(), experts, [expert_columns] * n_experts, gate_columns, **options)


def soft_labels(X, n_experts, rng):
    """Responsibilities (n_experts, n_samples) that lean on the first column."""
    order = np.argsort(np.argsort(X[:, 0])) * n_experts // X.shape[0]
    resp = 0.7 * np.eye(n_experts)[order]
    resp += 0.3 * rng.dirichlet(np.ones(n_experts), size=X.shape[0])
    return np.ascontiguousarray(resp.T)


def both(case, rng, n_experts=3, n=150):
    """Return the fused and the general problem of a case at one point."""
    X, y, weight, n_classes = rows(CASES[case][2], rng, n)
    fused = build_problem(make_node(case, n_experts), X, y, weight, n_classes)
    assert type(fused) is FusedNode
    fused.start(soft_labels(X, n_experts, rng), 3)
    node = make_node(case, n_experts)
    node.prepare(X, y, weight, n_classes)
    general = NodeProblem(node, X, y, weight)
    copy_parameters(fused, general)
    return fused, general


def copy_parameters(fused, general):
    """Set the parts of a general problem to the kernels of a fused one."""
    node = general.node
    parts = zip(fused.experts.split(), node.experts, strict=True)
    for kernel, (_, expert) in parts:
        expert.parameters = kernel.parameters
    node.gate.parameters = fused.gate.parameters


def fused_problem(case, rng, n_experts=3, n=150, steps=3):
    """Return a fused problem some steps from its start."""
    problem = both(case, rng, n_experts, n)[0]
    for _ in range(steps):
        problem.e_step()
        problem.m_step()
    return problem


def resp_of(problem):
    """Return the responsibilities that the E-step of a fused problem uses."""
    seen = []

    def spy(joint):
        resp, log_lik = posterior(joint)
        seen.append(resp.copy())
        return resp, log_lik

    before, problem.assign = problem.assign, spy
    problem.e_step()
    problem.assign = before
    return np.hstack(seen)


def objective(problem):
    """Return log-likelihood plus penalty."""
    return problem.e_step() + problem.penalty


def objective_from(problem):
    """Return the objective as a function of the parameters."""

    def value(vector):
        problem.parameters = vector
        return objective(problem)

    return value
