"""The recursion: Jordan & Jacobs by hand, the flat mixture at depth one, paths."""

import functools
import itertools
import warnings

import numpy as np
import pytest
from scipy.special import log_softmax, logsumexp

from skmoe._multinomial import MAX_LOGIT_STEP
from skmoe._tree import Tree
from skmoe.em._build import build_problem, write_back
from skmoe.em._fused import FusedNode
from skmoe.em._loop import climb
from skmoe.em._monitor import Monitor
from skmoe.em._node import Node, hard_assignment, posterior
from skmoe.em._node_problem import NodeProblem
from skmoe.em._paths import PathNode
from skmoe.em._search import anneal, begin
from skmoe.em._starts import Start
from skmoe.exceptions import NonMonotoneWarning
from skmoe.experts import LinearExpert, LogisticExpert
from skmoe.gates import ConstantGate, GaussianGate, SoftmaxGate
from skmoe.gates._tree import GateTree
from skmoe.gates._tree_kernel import TreeKernel
from tests._asserts import (
    assert_climbs,
    assert_gradient,
    assert_symmetric_psd,
    assert_weight_is_repetition,
    assert_zero_weight_is_removal,
)
from tests.em.problems import objective, objective_from, rows, soft_labels
from tests.em.test_monotone import random_experts, random_response, random_rows

N_PASSES = 60
SHAPES = {
    "binary": Tree.complete([2, 2]),
    "mixed": Tree.complete([2, 3]),
    "ragged": Tree.from_nested([[0, [1, 2]], [3, 4, 5]]),
    "deep": Tree.complete([2, 2, 2]),
}
all_shapes = pytest.mark.parametrize("tree", SHAPES.values(), ids=SHAPES)


@pytest.fixture
def rng():
    return np.random.default_rng(36)


# -- by hand -----------------------------------------------------------------------


class ByHand:
    """EM of a tree as Jordan & Jacobs (1994) write it, in plain loops.

    E-step: ``h_leaf = prod(gates on its path) P_leaf / p(y|x)``; a node's posterior
    is the sum over its leaves. M-step: every gate takes a Newton step of its own
    weighted multinomial logit (target h_child / h_node, weight h_node), every leaf a
    weighted fit with weight h_leaf. Written on its own: nothing of the library's
    engine, gates or experts is called.
    """

    def __init__(self, tree, X, y, weight, gate_alpha):
        self.tree, self.y, self.weight = tree, y, weight
        mean = np.average(X, axis=0, weights=weight)
        scale = np.sqrt(np.average((X - mean) ** 2, axis=0, weights=weight))
        self.Z = np.column_stack([np.ones(len(X)), (X - mean) / scale])
        p = self.Z.shape[1]
        self.slopes = np.r_[0.0, np.ones(p - 1)]
        self.gate_ridge = gate_alpha * self.slopes
        self.gates = {n: np.zeros((len(tree.children[n]), p)) for n in tree.inner}
        self.passes_with_a_shorter_step = 0

    def log_joint(self):
        """Return log densities, (n_leaves, n_samples)."""
        out = []
        for k, leaf in enumerate(self.tree.leaves):
            total = self.log_leaf(k)
            for node, child in itertools.pairwise(self.tree.path(leaf)):
                log_gate = log_softmax(self.Z @ self.gates[node].T, axis=1)
                total = total + log_gate[:, self.tree.children[node].index(child)]
            out.append(total)
        return np.array(out)

    def objective(self):
        total = float(self.weight @ logsumexp(self.log_joint(), axis=0))
        for coef in self.gates.values():
            total -= 0.5 * float((coef**2 @ self.gate_ridge).sum())
        return total + sum(self.leaf_penalty(k) for k in range(self.tree.n_leaves))

    def newton(self, coef, target, weight, ridge, anchor=0.0):
        """Take one Newton step of a weighted multinomial logit."""
        b, p = coef.shape
        g = np.exp(log_softmax(self.Z @ coef.T, axis=1))
        slope = ((target - g) * weight[:, None]).T @ self.Z - ridge * (coef - anchor)
        curvature = np.zeros((b, p, b, p))
        for c in range(b):
            for d in range(b):
                q = weight * g[:, c] * ((c == d) - g[:, d])
                curvature[c, :, d, :] = (self.Z.T * q) @ self.Z
            curvature[c, :, c, :] += np.diag(ridge)
        # Of least norm: only differences of coefficients matter.
        step = np.linalg.lstsq(curvature.reshape(b * p, -1), slope.ravel())[0]
        step = step.reshape(b, p)
        step -= step.mean(axis=0)
        size = np.sqrt((step**2).sum(axis=1)).max()
        step *= min(1.0, MAX_LOGIT_STEP / max(size, 1e-300))

        def value(at):
            log_g = log_softmax(self.Z @ at.T, axis=1)
            own = float(weight @ (target * log_g).sum(axis=1))
            return own - 0.5 * float(((at - anchor) ** 2 @ ridge).sum())

        wanted = value(coef) + 1e-4 * float((slope * step).sum())
        wanted -= 1e-12 * (1.0 + abs(wanted))  # rounding
        self.passes_with_a_shorter_step += value(coef + step) < wanted
        return coef + step

    def fit_leaves(self, h):
        for k in range(self.tree.n_leaves):
            self.fit_leaf(k, h[k])

    def one_pass(self):
        joint = self.log_joint()
        h = np.exp(joint - logsumexp(joint, axis=0))
        tree = self.tree
        node_h = [h[tree.leaves_under(n)].sum(axis=0) for n in range(tree.n_nodes)]
        for node in tree.inner:
            some = [node_h[child] / node_h[node] for child in tree.children[node]]
            weight = self.weight * node_h[node]
            target = np.stack(some, axis=1)
            self.gates[node] = self.newton(
                self.gates[node], target, weight, self.gate_ridge
            )
        self.fit_leaves(h)
        return h


class LinearByHand(ByHand):
    """Leaves: ridge around one global fit, inverse-gamma prior on the variance."""

    def __init__(self, tree, X, y, weight, gate_alpha, alpha, prior):
        super().__init__(tree, X, y, weight, gate_alpha)
        self.ridge, p = alpha * self.slopes, self.Z.shape[1]
        spread = np.average((y - np.average(y, weights=weight)) ** 2, weights=weight)
        self.rows, self.scale = prior[0], prior[1] * spread
        self.spread = spread
        gram = (self.Z.T * weight) @ self.Z
        mild = np.diag(min(alpha, 1.0) * self.slopes)
        self.anchor = np.linalg.solve(gram + mild, self.Z.T @ (weight * y))
        self.coef = np.tile(self.anchor, (tree.n_leaves, 1))
        self.variance = np.ones(tree.n_leaves)
        assert p == self.anchor.size

    def log_leaf(self, k):
        error = self.y - self.Z @ self.coef[k]
        s2 = self.variance[k]
        return -0.5 * (np.log(2 * np.pi * s2) + error**2 / s2)

    def leaf_penalty(self, k):
        away = self.ridge @ (self.coef[k] - self.anchor) ** 2
        s2 = self.variance[k]
        prior = self.rows * (np.log(s2 / self.spread) + self.scale / s2)
        return -0.5 * (away / s2 + prior)

    def fit_leaf(self, k, h):
        q = self.weight * h
        gram = (self.Z.T * q) @ self.Z + np.diag(self.ridge)
        right = self.Z.T @ (q * self.y) + self.ridge * self.anchor
        self.coef[k] = np.linalg.solve(gram, right)
        error = self.y - self.Z @ self.coef[k]
        total = q @ error**2 + self.ridge @ (self.coef[k] - self.anchor) ** 2
        total += self.rows * self.scale
        self.variance[k] = total / (q.sum() + self.rows)


class LogisticByHand(ByHand):
    """Leaves: multinomial logits with a ridge around the fit of all rows."""

    def __init__(self, tree, X, y, weight, gate_alpha, alpha, anchor):
        super().__init__(tree, X, y, weight, gate_alpha)
        self.ridge, self.anchor = alpha * self.slopes, anchor
        self.target = np.eye(anchor.shape[0])[y]
        self.coef = [anchor.copy() for _ in tree.leaves]

    def log_leaf(self, k):
        log_p = log_softmax(self.Z @ self.coef[k].T, axis=1)
        return log_p[np.arange(len(self.y)), self.y]

    def leaf_penalty(self, k):
        return -0.5 * float(((self.coef[k] - self.anchor) ** 2 @ self.ridge).sum())

    def fit_leaf(self, k, h):
        self.coef[k] = self.newton(
            self.coef[k], self.target, self.weight * h, self.ridge, self.anchor
        )


GATE_ALPHA, ALPHA, PRIOR = 0.05, 1.5, (3.0, 0.1)


def linear():
    return LinearExpert(ALPHA, variance_prior=PRIOR)


def logistic():
    return LogisticExpert(0.4)


def tree_node(tree, make=linear, gate=None, **more):
    """Return an unprepared node over a tree of gates."""
    gates = [SoftmaxGate(GATE_ALPHA) if gate is None else gate() for _ in tree.inner]
    experts = [(f"expert{k}", make()) for k in range(tree.n_leaves)]
    path_tol, columns = more.pop("path_tol", 0.0), more.pop("columns", None)
    gate_columns = more.pop("gate_columns", None)
    every = None if gate_columns is None else [gate_columns] * len(gates)
    return Node(
        GateTree(tree, gates, every, path_tol),
        experts,
        [columns] * tree.n_leaves,
        **more,
    )


def nested_node(tree, make=linear, at=0):
    """Return a node of nodes: a child with children is itself an expert."""
    children = tree.children[at]
    parts = [
        (f"child{c}", nested_node(tree, make, c) if tree.children[c] else make())
        for c in children
    ]
    return Node(SoftmaxGate(GATE_ALPHA), parts, [None] * len(parts))


def inner_nodes(root, tree):
    """Return the node of nodes at each inner node of the tree, level by level."""
    found = {0: root}
    for node in tree.inner:
        for child, (_, part) in zip(
            tree.children[node], found[node].experts, strict=True
        ):
            found[child] = part
    return found


class Fused:
    """The fused node, started with gates at zero and leaves fitted to h."""

    def __init__(self, tree, make, data, h):
        self.problem = build_problem(tree_node(tree, make), *data)
        assert type(self.problem) is FusedNode
        assert isinstance(self.problem.gate, TreeKernel)
        self.problem.start(h)
        self.problem.gate.parameters = np.zeros(self.problem.gate.coef.size)

    def parts(self):
        leaves = [kernel.coef[0] for kernel in self.problem.experts.split()]
        return leaves, self.problem.gate.split()


class General:
    """The general node with a tree of gates."""

    def __init__(self, tree, make, data, h):
        X, y, weight, n_classes = data
        self.node = tree_node(tree, make)
        self.node.prepare(X, y, weight, n_classes)
        self.problem = NodeProblem(self.node, X, y, weight)
        self.problem.start(h)
        self.node.gate.parameters = np.zeros(self.node.gate.parameters.size)

    def parts(self):
        leaves = [expert.kernel_.coef[0] for _, expert in self.node.experts]
        return leaves, [gate.kernel_.coef for gate in self.node.gate.gates]


class Nested:
    """A node of nodes: each one an expert of its parent."""

    def __init__(self, tree, make, data, h):
        X, y, weight, n_classes = data
        self.root, self.tree = nested_node(tree, make), tree
        self.root.prepare(X, y, weight, n_classes)
        self.found = inner_nodes(self.root, tree)
        for k, leaf in enumerate(tree.leaves):
            self.found[leaf].m_step(X, y, weight * h[k])
        self.problem = NodeProblem(self.root, X, y, weight)

    def parts(self):
        leaves = [self.found[leaf].kernel_.coef[0] for leaf in self.tree.leaves]
        return leaves, [self.found[n].gate.kernel_.coef for n in self.tree.inner]


def overlapping(classes, rng, tree, n=300):
    """Rows of as many regimes along the first column as there are leaves."""
    X = rng.normal(size=(n, 3)) @ np.diag([1.0, 20.0, 1e-3]) + [0.0, 5.0, 0.0]
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    regime = np.argsort(np.argsort(X[:, 0] + 0.2 * rng.normal(size=n)))
    regime = regime * tree.n_leaves // n
    weight = rng.uniform(0.3, 2.0, size=n)
    if classes:
        coef = 2.0 * rng.normal(size=(tree.n_leaves, 3, 3))
        logit = np.einsum("np,npc->nc", Z, coef[regime])
        return X, (logit + rng.gumbel(size=(n, 3))).argmax(axis=1), weight, 3
    coef = 2.0 * rng.normal(size=(tree.n_leaves, 3))
    level = 4.0 * rng.normal(size=tree.n_leaves)
    y = (Z * coef[regime]).sum(axis=1) + level[regime] + 0.7 * rng.normal(size=n)
    return X, y, weight, None


def by_hand(tree, data, classes):
    X, y, weight, n_classes = data
    if not classes:
        return LinearByHand(tree, X, y, weight, GATE_ALPHA, ALPHA, PRIOR)
    expert = logistic()
    expert.prepare(X, y, weight, n_classes)
    return LogisticByHand(tree, X, y, weight, GATE_ALPHA, 0.4, expert.kernel_.anchor)


@functools.cache
def run_by_hand(shape, classes):
    """Return data, start, the objectives of all passes, and where they led."""
    rng, tree = np.random.default_rng(36), SHAPES[shape]
    data = overlapping(classes, rng, tree)
    h = soft_labels(data[0], tree.n_leaves, rng)
    hand = by_hand(tree, data, classes)
    hand.fit_leaves(h)
    joint = hand.log_joint()
    first = np.exp(joint - logsumexp(joint, axis=0))
    trace = []
    for _ in range(N_PASSES):
        trace.append(hand.objective())
        last = hand.one_pass()
    # Where a full step would fall the library shortens it: not in these.
    assert hand.passes_with_a_shorter_step == 0
    assert trace[-1] > trace[0] + 20.0
    assert (last @ data[2]).min() > 1.0  # all leaves have taken part
    return data, h, trace, hand, first


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("engine", [Fused, General, Nested])
@pytest.mark.parametrize("classes", [False, True], ids=["linear", "logistic"])
def test_the_recursion_is_the_joint_posterior(shape, engine, classes):
    data, h, expected, hand, _ = run_by_hand(shape, classes)
    tree = SHAPES[shape]
    ours = engine(tree, logistic if classes else linear, data, h)
    found = []
    for _ in range(N_PASSES):
        found.append(objective(ours.problem))
        ours.problem.m_step()
    assert_climbs(found)
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    leaves, gates = ours.parts()
    for coef, theirs in zip(leaves, hand.coef, strict=True):
        np.testing.assert_allclose(coef.ravel(), np.ravel(theirs), rtol=1e-5, atol=1e-6)
    for coef, node in zip(gates, tree.inner, strict=True):
        np.testing.assert_allclose(coef, hand.gates[node], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_joint_posteriors_of_all_three_engines(shape):
    """The same responsibilities to 1e-12, before any of them has moved."""
    data, h, _, _, expected = run_by_hand(shape, False)
    tree = SHAPES[shape]
    fused, general = Fused(tree, linear, data, h), General(tree, linear, data, h)
    np.testing.assert_allclose(fused.problem.responsibilities(), expected, atol=1e-12)
    np.testing.assert_allclose(general.problem.responsibilities(), expected, atol=1e-12)
    nested = Nested(tree, linear, data, h)
    nested.problem.e_step()
    for node in tree.inner:
        own = expected[tree.leaves_under(node)].sum(axis=0)
        for child, resp in zip(
            tree.children[node], nested.found[node].resp, strict=True
        ):
            below = expected[tree.leaves_under(child)].sum(axis=0)
            np.testing.assert_allclose(resp * own, below, atol=1e-12)


# -- the fused node over a tree ----------------------------------------------------

TREE_CASES = {
    "linear": {},
    "plain": {"make": lambda: LinearExpert(0.0, variance_prior=None)},
    "full": {"make": lambda: LinearExpert(covariance="full"), "outputs": 2},
    "diag": {"make": lambda: LinearExpert(covariance="diag"), "outputs": 2},
    "shared": {"shared_dispersion": True},
    "classes": {"make": logistic, "outputs": "3"},
    "own_columns": {"columns": [0, 1], "gate_columns": [1, 2, 3]},
    "gate_columns": {"gate_columns": [0, 2]},
}
RAGGED = SHAPES["ragged"]


def problem_of(case, rng, tree=RAGGED, n=200, **more):
    """Return the problem of a case, started, its rows and its start."""
    options = {**TREE_CASES[case], **more}
    data = rows(options.pop("outputs", None), rng, n, 4)
    node = tree_node(tree, **options)
    problem = build_problem(node, *data)
    resp = soft_labels(data[0], tree.n_leaves, rng)
    problem.start(resp, 3)
    return problem, data, resp


def general_of(case, fused, data, tree=RAGGED):
    """Return the general problem at the parameters of a fused one."""
    options = dict(TREE_CASES[case])
    options.pop("outputs", None)
    node = tree_node(tree, **options)
    node.prepare(*data)
    parts = zip(fused.experts.split(), node.experts, strict=True)
    for kernel, (_, expert) in parts:
        expert.parameters = kernel.parameters
    for gate, coef in zip(node.gate.gates, fused.gate.split(), strict=True):
        gate.kernel_.coef = coef
    return NodeProblem(node, *data[:3])


@pytest.mark.parametrize("case", TREE_CASES)
def test_fused_tree_equals_the_general_one(case, rng):
    fused, data, _ = problem_of(case, rng)
    assert type(fused) is FusedNode
    assert isinstance(fused.gate, TreeKernel)
    general = general_of(case, fused, data)
    for _ in range(3):
        ours, theirs = objective(fused), objective(general)
        assert ours == pytest.approx(theirs, rel=1e-9)
        np.testing.assert_allclose(fused.mass, general.mass, rtol=1e-7, atol=1e-9)
        fused.m_step()
        general.m_step()
    for kernel, (_, expert) in zip(
        fused.experts.split(), general.node.experts, strict=True
    ):
        np.testing.assert_allclose(
            kernel.parameters, expert.parameters, rtol=1e-6, atol=1e-7
        )


@pytest.mark.parametrize("case", [c for c in TREE_CASES if c != "full"])
def test_gradient_and_metric_of_a_fused_tree(case, rng):
    problem, _, _ = problem_of(case, rng)
    point = problem.parameters + 0.05 * rng.normal(size=problem.parameters.size)
    value = objective_from(problem)
    value(point)
    gradient = problem.gradient.copy()
    assert np.abs(gradient).max() > 1.0
    assert_gradient(value, gradient, point, rng)
    value(point)
    assert_symmetric_psd(problem.precondition, point.size)


@pytest.mark.parametrize("tree", [RAGGED, Tree.complete([2] * 6)], ids=repr)
def test_many_blocks_of_rows_are_one(tree, rng):
    fused, data, _ = problem_of("linear", rng, tree, n=5001)
    assert fused.block_rows < 5001
    general = general_of("linear", fused, data, tree)
    assert objective(fused) == pytest.approx(objective(general), rel=1e-10)
    np.testing.assert_allclose(fused.mass, general.mass, rtol=1e-8)


@pytest.mark.parametrize("case", ["linear", "classes", "shared"])
def test_weights(case, rng):
    _, (X, y, weight, n_classes), resp = problem_of(case, rng, n=90)
    lookup = {row.tobytes(): r for row, r in zip(X, resp.T, strict=True)}

    def fit(X, y, weight):
        options = dict(TREE_CASES[case])
        options.pop("outputs", None)
        problem = build_problem(tree_node(RAGGED, **options), X, y, weight, n_classes)
        start = np.column_stack([lookup[row.tobytes()] for row in X])
        problem.start(np.ascontiguousarray(start), 2)
        for _ in range(5):
            problem.e_step()
            problem.m_step()
        return objective(problem), problem.mass

    assert_weight_is_repetition(fit, X, y, rng.integers(1, 4, size=90), atol=1e-6)
    assert_zero_weight_is_removal(fit, X, y, weight, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "gate", "more", "kind"),
    [
        (LinearExpert, SoftmaxGate, {}, FusedNode),
        (LogisticExpert, SoftmaxGate, {}, NodeProblem),  # of numbers: see below
        (LinearExpert, ConstantGate, {}, NodeProblem),
        (LinearExpert, GaussianGate, {}, NodeProblem),
        (LinearExpert, lambda: SoftmaxGate(solver="bound"), {}, NodeProblem),
        (LinearExpert, SoftmaxGate, {"path_tol": 1e-3}, PathNode),
        (LinearExpert, ConstantGate, {"path_tol": 1e-3}, NodeProblem),
    ],
)
def test_which_problem_stands_for_a_tree(make, gate, more, kind, rng):
    classes = make is LogisticExpert
    data = rows("3" if classes else None, rng)
    kind = FusedNode if classes else kind
    assert type(build_problem(tree_node(RAGGED, make, gate, **more), *data)) is kind


def test_trees_of_no_or_one_gate(rng):
    """A leaf is its expert; one gate is the flat mixture's."""
    data = X, y, weight, _ = rows(None, rng)
    problem = build_problem(tree_node(Tree([[]])), *data)
    problem.start(np.ones((1, len(y))), 3)
    alone = linear()
    alone.prepare(X, y, weight)
    alone.m_step(X, y, weight)
    expected = weight @ alone.log_prob(X, y) + alone.penalty
    assert objective(problem) == pytest.approx(expected, rel=1e-11)
    node = tree_node(Tree.complete([3]))
    flat = Node(SoftmaxGate(GATE_ALPHA), node.experts, node.columns)
    resp = soft_labels(X, 3, rng)
    traces = []
    for part in (node, flat):
        problem = build_problem(part, *data)
        assert type(problem.gate).__name__ == "SoftmaxKernel"
        problem.start(resp, 3)
        traces.append([])
        for _ in range(8):
            traces[-1].append(objective(problem))
            problem.m_step()
    np.testing.assert_array_equal(*traces)


@pytest.mark.parametrize("case", ["linear", "classes"])
@pytest.mark.parametrize("engine", ["fused", "general", "paths"])
def test_write_back_gives_the_node_the_same_law(case, engine, rng):
    options = dict(TREE_CASES[case])
    data = rows(options.pop("outputs", None), rng, n_regimes=4)
    more = {"fused": {}, "paths": {"path_tol": 1e-9}, "general": {}}[engine]
    gate = (lambda: SoftmaxGate(solver="lbfgs")) if engine == "general" else None
    node = tree_node(RAGGED, gate=gate, **options, **more)
    problem = build_problem(node, *data)
    problem.start(soft_labels(data[0], 6, rng), 3)
    for _ in range(4):
        problem.e_step()
        problem.m_step()
    expected = objective(problem)
    write_back(problem, node)
    X, y, weight, _ = data
    assert weight @ node.log_prob(X, y) + node.penalty == pytest.approx(
        expected, rel=1e-6
    )
    np.testing.assert_allclose(node.resp @ weight, problem.mass, rtol=1e-5, atol=1e-6)
    assert [name for name, _ in node.experts] == [f"expert{k}" for k in range(6)]


# -- the objective climbs ----------------------------------------------------------


def random_tree(rng):
    tree = Tree([[]])
    for _ in range(int(rng.integers(1, 6))):
        tree = tree.split(int(rng.integers(tree.n_leaves)), int(rng.integers(2, 4)))
    return tree


def random_gates(rng, tree):
    """Return alike softmax gates most of the time, else gates of all exact kinds."""
    alpha = float(rng.choice([0.0, 0.03, 1.0]))
    if rng.random() < 0.6:
        return [SoftmaxGate(alpha) for _ in tree.inner]
    kinds = [
        SoftmaxGate(alpha),
        ConstantGate(),
        ConstantGate(2.0),
        SoftmaxGate(alpha, solver="bound"),
        SoftmaxGate(solver="lbfgs"),
    ]
    gates = [kinds[int(rng.integers(len(kinds)))] for _ in tree.inner]
    gates = [type(gate)(**gate.get_params()) for gate in gates]
    if rng.random() < 0.3:
        gates[0] = GaussianGate(str(rng.choice(["full", "diag", "tied"])))
    return gates


def random_problem(seed):
    """Return a problem over a tree at its start, and words for a report."""
    rng = np.random.default_rng(1000 + seed)
    n, tree = int(np.round(8 * 40 ** rng.random())), random_tree(rng)
    X, weight = random_rows(rng, n)
    classes = rng.random() < 0.3
    n_outputs = None if classes else int(rng.choice([1, 1, 1, 2, 3]))
    n_classes = int(rng.integers(2, 5)) if classes else None
    if classes:
        y = rng.integers(n_classes, size=n)
    else:
        y = random_response(rng, X, n_outputs)
        y = y[:, 0] if n_outputs == 1 else y
    experts = random_experts(rng, tree.n_leaves, n_outputs)
    path_tol = float(rng.choice([0.0, 0.0, 1e-6, 0.05]))
    gates = random_gates(rng, tree)
    if GateTree(tree, gates).kernel(X.shape[1] + 1) is None:
        path_tol = 0.0  # only a batch is climbed in exact rounds
    node = Node(
        GateTree(tree, gates, None, path_tol),
        [(f"expert{k}", expert) for k, expert in enumerate(experts)],
        [None] * tree.n_leaves,
        shared_dispersion=bool(not classes and rng.random() < 0.2),
    )
    problem = build_problem(node, X, y, weight, n_classes)
    resp = rng.dirichlet(np.full(tree.n_leaves, 0.3), size=n).T
    problem.start(np.ascontiguousarray(resp), int(rng.choice([1, 6])))
    acceleration = [None, "squarem", "quasi-newton"][int(rng.integers(3))]
    words = f"seed {seed}: {n} rows, {tree!r}, {experts[0]}, {gates}, {path_tol}"
    return problem, acceleration, words


class Rounds:
    """Note where the rounds of a monitor begin."""

    def __init__(self, problem):
        self.monitor = Monitor(1e-10, problem.total_weight, exact=problem.exact_m_step)
        self.starts = [0]
        begin_round = self.monitor.begin_round

        def spy():
            self.starts.append(len(self.monitor.trace))
            begin_round()

        self.monitor.begin_round = spy

    def traces(self):
        edges = [*self.starts, len(self.monitor.trace)]
        for start, stop in itertools.pairwise(edges):
            yield self.monitor.trace[start:stop]


@pytest.mark.parametrize("group", range(6))
def test_the_objective_climbs_on_random_trees(group):
    for seed in range(10 * group, 10 * group + 10):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            problem, acceleration, words = random_problem(seed)
            assert problem.exact_m_step, words
            rounds = Rounds(problem)
            try:
                climb(problem, rounds.monitor, 40, acceleration)
            except NonMonotoneWarning as fall:
                raise AssertionError(f"{words}, {acceleration}: {fall}") from fall
        for trace in rounds.traces():
            assert_climbs(trace, 1e-8)
        assert len(rounds.monitor.trace) >= 2, words
        # The parameters that are kept are those of the reported objective.
        again = problem.e_step() + problem.penalty
        assert again == pytest.approx(rounds.monitor.last, rel=1e-8, abs=1e-8), words


def test_the_random_trees_are_as_different_as_promised():
    kinds, depths, leaves, methods, said = set(), set(), set(), set(), ""
    for seed in range(60):
        problem, acceleration, words = random_problem(seed)
        kinds.add(type(problem))
        general = isinstance(problem, NodeProblem)
        tree = (
            problem.node.gate.tree if general else getattr(problem.gate, "tree", None)
        )
        if tree is not None:
            depths.add(tree.depth)
            leaves.add(tree.n_leaves)
        methods.add(acceleration)
        said += words
    assert kinds == {FusedNode, NodeProblem, PathNode}
    assert {2, 3, 4} <= depths
    assert max(leaves) >= 9
    assert len(methods) == 3
    for word in ("Logistic", "Linear", "Gaussian", "Constant", "diag", "bound"):
        assert word in said


# -- paths of small probability ----------------------------------------------------


def staircase(n=4000, n_steps=16, classes=False, seed=5):
    """Rows along one column whose line changes at every step."""
    rng = np.random.default_rng(seed)
    X = np.column_stack([rng.uniform(0, n_steps, size=n), rng.normal(size=n)])
    step = np.floor(X[:, 0]).astype(int)
    level, slope = rng.normal(size=(2, n_steps)) * 3.0
    y = level[step] + slope[step] * X[:, 1] + 0.3 * rng.normal(size=n)
    weight = rng.uniform(0.5, 1.5, size=n)
    if classes:
        return X, (y > np.median(y)).astype(int) + (y > 3.0), weight, 3
    return X, y, weight, None


def sharp_start(X, n_leaves, sharpness=0.97):
    order = np.argsort(np.argsort(X[:, 0])) * n_leaves // X.shape[0]
    resp = np.full((n_leaves, X.shape[0]), (1 - sharpness) / (n_leaves - 1))
    resp[order, np.arange(X.shape[0])] = sharpness
    return resp


DEEP = Tree.complete([2] * 4)


def path_problem(path_tol, *, tree=DEEP, data=None, make=linear, steps=20, **more):
    """Return a problem with paths left out, after its start."""
    data = data or staircase()
    node = tree_node(tree, make, lambda: SoftmaxGate(0.001), path_tol=path_tol, **more)
    problem = build_problem(node, *data)
    assert type(problem) is (PathNode if path_tol else FusedNode)
    problem.start(sharp_start(data[0], tree.n_leaves), steps)
    return problem


def reaches(problem):
    """Return the probability of each node for each row at the current gates."""
    log_proba = problem.gate.log_proba(problem.groups[-1].matrix)
    tree = problem.gate.tree
    proba = np.exp(log_proba)
    return np.array(
        [proba[tree.leaves_under(n)].sum(axis=0) for n in range(tree.n_nodes)]
    )


def greedy(tree, reach):
    """Return the node at the end of the most probable path of each row."""
    best = np.zeros(reach.shape[1], dtype=int)
    for node in tree.inner:
        here, some = np.flatnonzero(best == node), np.array(tree.children[node])
        best[here] = some[reach[some][:, here].argmax(axis=0)]
    return best


def active_leaves(problem):
    """Return which leaves each row is computed for, (n_leaves, n_samples)."""
    out = np.zeros((problem.gate.n_experts, problem.weight.size), dtype=bool)
    for block in problem.blocks:
        out[np.ix_(block.plan.leaves, problem.order[block.rows])] = True
    return out


CASES = {
    "linear": {},
    "classes": {"make": logistic},
    "two_outputs": {"make": lambda: LinearExpert(covariance="full")},
    "shared": {"shared_dispersion": True},
    "own_columns": {"gate_columns": [0], "columns": [1]},
    "ragged": {"tree": Tree.from_nested([[0, [1, 2, 3]], [4, [5, [6, 7, 8]]]])},
}


def rows_of_case(case):
    X, y, weight, n_classes = staircase(classes=case == "classes")
    if case == "two_outputs":
        y = np.column_stack([y, 0.5 * y + X[:, 1]])
    return X, y, weight, n_classes


@pytest.mark.parametrize("case", CASES)
def test_without_a_tolerance_worth_the_name_all_paths_are_kept(case):
    """At 1e-300 nothing is left out: sums, steps and objectives are the dense ones."""
    data = rows_of_case(case)
    dense = path_problem(0.0, data=data, **CASES[case])
    paths = path_problem(1e-300, data=data, **CASES[case])
    paths.refresh()
    assert paths.skipped_share == 0.0
    for _ in range(3):
        assert objective(paths) == pytest.approx(objective(dense), rel=1e-11)
        np.testing.assert_allclose(paths.mass, dense.mass, rtol=1e-8)
        if dense.has_gradient:
            np.testing.assert_allclose(
                paths.gradient, dense.gradient, rtol=1e-6, atol=1e-6
            )
        dense.m_step()
        paths.m_step()
        paths.refresh()
    np.testing.assert_allclose(
        paths.responsibilities(), dense.responsibilities(), atol=1e-9
    )


@pytest.mark.parametrize("case", CASES)
def test_at_a_tiny_tolerance_the_fit_is_the_dense_one(case):
    """1e-12 leaves much out, and moves no number by more than 1e-8."""
    data = rows_of_case(case)
    dense = path_problem(0.0, data=data, **CASES[case])
    paths = path_problem(1e-12, data=data, **CASES[case])
    for _ in range(25):
        paths.refresh()
        ours, theirs = objective(paths), objective(dense)
        assert ours == pytest.approx(theirs, rel=1e-8)
        dense.m_step()
        paths.m_step()
    np.testing.assert_allclose(
        paths.responsibilities(), dense.responsibilities(), atol=1e-6
    )


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("path_tol", [1e-6, 1e-3, 0.05])
def test_a_block_follows_what_one_of_its_rows_reaches(case, path_tol):
    paths = path_problem(path_tol, data=rows_of_case(case), **CASES[case])
    paths.refresh()
    tree = paths.gate.tree
    active, reach = active_leaves(paths), reaches(paths)
    best = greedy(tree, reach)
    # Each row keeps what it reaches; a block keeps no more than its rows ask for.
    assert active[reach[tree.leaves] >= path_tol].all()
    for block in paths.blocks:
        own = reach[:, paths.order[block.rows]]
        wanted = (own >= path_tol).any(axis=1)
        for leaf in block.plan.leaves:
            path = tree.path(tree.leaves[leaf])
            if wanted[path].all():
                continue
            # Only the most probable path of some row may be less probable.
            assert path[-1] in best[paths.order[block.rows]]
    # Every row in one block, and in one only.
    np.testing.assert_array_equal(np.sort(paths.order), np.arange(paths.weight.size))
    assert sum(b.rows.stop - b.rows.start for b in paths.blocks) == paths.weight.size
    assert paths.skipped_share == pytest.approx(1.0 - active.mean(), abs=1e-12)
    if path_tol >= 1e-3:
        assert paths.skipped_share > 0.1


@pytest.mark.parametrize("case", ["linear", "classes", "shared", "own_columns"])
def test_gradient_on_fixed_paths(case, rng):
    """Of the likelihood that the kept paths make."""
    paths = path_problem(0.01, data=rows_of_case(case), **CASES[case])
    paths.refresh()
    assert paths.skipped_share > 0.2
    point = paths.parameters + 0.02 * rng.normal(size=paths.parameters.size)
    value = objective_from(paths)
    value(point)
    assert_gradient(value, paths.gradient.copy(), point, rng, n_directions=3)


def test_likelihood_is_that_of_the_kept_paths():
    """Not renormalised: what is left out is missing, so it is a lower bound."""
    paths, dense = path_problem(0.02), path_problem(0.0)
    paths.refresh()
    dense.parameters = paths.parameters
    log_gate = dense.gate.log_proba(dense.groups[-1].matrix)
    dense.experts.reset()
    density = dense.experts.log_prob(dense.groups[0].matrix, dense.y)
    joint = np.where(active_leaves(paths), log_gate + density, -np.inf)
    expected = float(dense.weight @ logsumexp(joint, axis=0))
    assert paths.e_step() == pytest.approx(expected, rel=1e-11)
    assert paths.e_step() < dense.e_step()
    resp = paths.responsibilities()
    np.testing.assert_allclose(resp.sum(axis=0), 1.0, rtol=1e-12)
    np.testing.assert_array_equal(resp > 0, np.exp(joint - joint.max(axis=0)) > 0)
    paths.e_step()
    assert paths.mass.sum() == pytest.approx(paths.total_weight)
    np.testing.assert_allclose(paths.mass, resp @ paths.weight, rtol=1e-9)


@pytest.mark.parametrize("acceleration", [None, "squarem", "quasi-newton"])
@pytest.mark.parametrize("case", ["linear", "classes"])
def test_within_a_round_the_objective_climbs(case, acceleration):
    paths = path_problem(1e-3, data=rows_of_case(case), steps=4, **CASES[case])
    dense = path_problem(0.0, data=rows_of_case(case), steps=4, **CASES[case])
    rounds = Rounds(paths)
    with warnings.catch_warnings():
        warnings.simplefilter("error", NonMonotoneWarning)
        climb(paths, rounds.monitor, 60, acceleration)
    traces = [trace for trace in rounds.traces() if trace]
    assert len(traces) >= 2
    for trace in traces:
        assert_climbs(trace, 1e-8)
    monitor = Monitor(1e-10, dense.total_weight)
    climb(dense, monitor, 60, acceleration)
    # A thousandth of a row's probability costs at most its logarithm.
    assert paths.skipped_share > 0.3
    assert rounds.monitor.last == pytest.approx(monitor.last, rel=0.01)


def test_start_follows_the_responsibilities_given():
    paths = path_problem(0.01, steps=1)
    active = active_leaves(paths)
    resp = sharp_start(staircase()[0], 16)
    assert active[resp >= 0.01].all()
    assert paths.skipped_share > 0.3
    dense = path_problem(1e-300, steps=1)
    # Leaves hold their rows from the first step on.
    np.testing.assert_allclose(paths.mass, dense.mass, rtol=0.05)


def test_a_start_keeps_the_best_path_however_improbable():
    """No leaf has as much as the tolerance: each row follows its best one."""
    X = staircase()[0]
    resp = np.full((16, len(X)), 0.05)
    order = np.argsort(np.argsort(X[:, 0])) * 16 // len(X)
    resp[order, np.arange(len(X))] = 0.25
    paths = path_problem(0.3)
    paths.start(resp, 1)
    assert active_leaves(paths)[order, np.arange(len(X))].all()
    assert paths.skipped_share > 0.5
    paths.refresh()
    assert np.isfinite(objective(paths))


def test_start_does_not_depend_on_what_ran_before():
    paths = path_problem(0.01)
    first = paths.parameters
    for _ in range(3):
        paths.refresh()
        paths.e_step()
        paths.m_step()
    assert np.abs(paths.parameters - first).max() > 1e-3
    paths.start(sharp_start(staircase()[0], 16), 20)
    np.testing.assert_array_equal(paths.parameters, first)


def test_subset_leaves_out_paths_too():
    paths = path_problem(0.01)
    some = np.arange(0, 4000, 2)
    part = paths.subset(some)
    assert type(part) is PathNode
    assert part.total_weight == pytest.approx(paths.total_weight)
    assert part.path_tol == paths.path_tol
    part.parameters = paths.parameters
    part.refresh()
    assert part.skipped_share > 0.2
    assert 0.9 < part.e_step() / paths.e_step() < 1.1


@pytest.mark.parametrize("assign", [hard_assignment])
def test_hard_labels_on_paths(assign):
    paths, dense = path_problem(1e-9), path_problem(0.0)
    dense.parameters = paths.parameters
    paths.refresh()
    paths.assign = dense.assign = assign
    assert paths.e_step() == pytest.approx(dense.e_step(), rel=1e-10)
    np.testing.assert_allclose(paths.mass, dense.mass, atol=1e-8)
    np.testing.assert_allclose(
        paths.responsibilities(), dense.responsibilities(), atol=1e-7
    )


# -- annealing ---------------------------------------------------------------------


class Spy:
    """Record the responsibilities that each M-step is given, as cold as they are."""

    def __init__(self, problem):
        self.problem, self.seen = problem, []
        self.m_step = problem.m_step
        problem.m_step = self

    def __call__(self):
        joint = np.linspace(-3.0, 3.0, 8).reshape(4, 2)
        assign = self.problem.assign or posterior
        self.seen.append(assign(joint.copy()))
        self.m_step()


@pytest.mark.parametrize("general", [False, True])
def test_annealing_cools_responsibilities_down(general, rng):
    data = rows(None, rng)
    gate = ConstantGate if general else None
    problem = build_problem(tree_node(SHAPES["binary"], gate=gate), *data)
    assert isinstance(problem, NodeProblem) == general
    before = problem.assign
    problem.start(soft_labels(data[0], 4, rng))
    spy = Spy(problem)
    anneal(problem, 0.3)
    assert problem.assign is before
    joint = np.linspace(-3.0, 3.0, 8).reshape(4, 2)
    coldness = []
    for resp, log_lik in spy.seen:
        np.testing.assert_allclose(resp.sum(axis=0), 1.0)
        # (g p)^b: log ratios are those of the joint densities, times b.
        ratio = np.log(resp[1:] / resp[0]) / (joint[1:] - joint[0])
        coldness.append(float(ratio.mean()))
        np.testing.assert_allclose(ratio, coldness[-1], rtol=1e-9)
        # The likelihood that is reported stays that of the mixture.
        np.testing.assert_allclose(log_lik, logsumexp(joint, axis=0))
    assert coldness[0] == pytest.approx(0.3)
    assert coldness[-1] < 1.0
    assert (np.diff(coldness) >= -1e-12).all()
    assert len(coldness) >= 4


def test_a_run_begins_where_annealing_ends(rng):
    data = rows(None, rng)
    problem = build_problem(tree_node(SHAPES["binary"]), *data)
    start = Start("soft", soft_labels(data[0], 4, rng), 3)
    warm = begin(problem, start, 0.2)
    np.testing.assert_array_equal(warm.state, problem.parameters)
    cold = begin(problem, start)
    assert np.abs(warm.state - cold.state).max() > 1e-3
    problem.restore(warm.state)
    monitor = Monitor(1e-10, problem.total_weight)
    climb(problem, monitor, 30, None)
    assert_climbs(monitor.trace)


def test_at_coldness_near_zero_all_leaves_see_all_rows(rng):
    """The maxima melt into one: experts come together."""
    data = rows(None, rng)
    problem = build_problem(tree_node(SHAPES["binary"], linear), *data)
    problem.start(soft_labels(data[0], 4, rng), 3)
    apart = np.ptp(problem.experts.coef, axis=0).max()
    problem.start(soft_labels(data[0], 4, rng), 3)
    problem.assign = lambda joint: (posterior(1e-6 * joint)[0], posterior(joint)[1])
    for _ in range(2):
        problem.e_step()
        problem.m_step()
    assert np.ptp(problem.experts.coef, axis=0).max() < 1e-3 * apart
