"""The fused node of a tree on rows of any array library."""

import numpy as np
import pytest

from skmoe._tree import MAX_MATRIX_LEAVES, Tree
from skmoe._xp import to_numpy
from skmoe.em._build import build_problem, write_back
from skmoe.em._fused import FusedNode
from skmoe.em._node import Node
from skmoe.em._node_problem import NodeProblem
from skmoe.experts import LinearExpert, LogisticExpert
from skmoe.gates import SoftmaxGate
from skmoe.gates._tree import GateTree
from skmoe.gates._tree_kernel import TreeKernel
from tests._libraries import LIBRARIES, assert_same, no_long_trips, small_blocks
from tests.em.problems import LEFT, RIGHT, rows, soft_labels

N_ROWS = 700
TREES = {
    "binary": [[0, 1], [2, 3]],
    "uneven": [[0, [1, 2]], 3],
    "ternary": [[0, 1, 2], [3, 4, 5]],
    "mixed": [[0, 1, 2], [3, 4], 5, [6, [7, 8]]],
    "many": Tree.complete([2, 3, 2, 3]).nested(),
}
EXPERTS = {
    "linear": (LinearExpert, None),
    "outputs": (LinearExpert, 2),
    "logistic": (lambda: LogisticExpert(0.5), "3"),
}


@pytest.fixture
def rng():
    return np.random.default_rng(31)


@pytest.fixture(params=LIBRARIES)
def to(request):
    """What brings a NumPy array to a library."""
    return LIBRARIES[request.param]


def make_node(shape, kind, columns=(None, None)):
    """Return an unprepared node; columns of the experts, then of the gates."""
    tree = Tree.from_nested(TREES[shape])
    gates = [SoftmaxGate(0.1) for _ in tree.inner]
    seen = columns[1] and [columns[1]] * len(gates)
    experts = [(f"leaf{k}", EXPERTS[kind][0]()) for k in range(tree.n_leaves)]
    gate = GateTree(tree, gates, seen)
    return Node(gate, experts, [columns[0]] * tree.n_leaves, clones=True)


def data(shape, kind, rng):
    """Return X, y, weight, n_classes and responsibilities of the leaves."""
    found = rows(EXPERTS[kind][1], rng, N_ROWS)
    n_leaves = Tree.from_nested(TREES[shape]).n_leaves
    return *found, soft_labels(found[0], n_leaves, rng)


def passes(problem, resp):
    """Return log-likelihoods of three passes from given responsibilities."""
    problem.start(resp, gate_steps=2)
    values = []
    for _ in range(3):
        values.append(problem.e_step())
        problem.m_step()
    return values


@pytest.mark.parametrize("columns", [(None, None), (LEFT, RIGHT)])
@pytest.mark.parametrize("kind", EXPERTS)
@pytest.mark.parametrize("shape", TREES)
def test_three_passes(shape, kind, columns, to, rng, monkeypatch):
    small_blocks(monkeypatch)
    X, y, weight, n_classes, resp = data(shape, kind, rng)
    node = make_node(shape, kind, columns)
    theirs = build_problem(make_node(shape, kind, columns), X, y, weight, n_classes)
    ours = build_problem(node, to(X), to(y), to(weight), n_classes)
    assert type(ours) is FusedNode
    assert isinstance(ours.gate, TreeKernel)
    assert ours.block_rows < N_ROWS
    expected = passes(theirs, resp)
    assert np.ptp(expected) > 1e-3
    np.testing.assert_allclose(passes(ours, to(resp)), expected, rtol=1e-10)
    scale = np.abs(theirs.parameters).max()
    np.testing.assert_allclose(
        ours.parameters, theirs.parameters, rtol=1e-10, atol=1e-10 * scale
    )
    assert ours.penalty == pytest.approx(theirs.penalty, rel=1e-10)
    np.testing.assert_allclose(ours.mass, theirs.mass, rtol=1e-10)
    theirs.e_step()
    ours.e_step()
    if ours.has_gradient:
        np.testing.assert_allclose(ours.gradient, theirs.gradient, rtol=1e-7, atol=1e-7)
    assert_same(ours.responsibilities(), theirs.responsibilities(), to)


def test_trees_beyond_the_walk_by_level():
    """On a device there are no steps: products with all edges take their place."""
    tree = Tree.from_nested(TREES["many"])
    assert tree.n_leaves > MAX_MATRIX_LEAVES
    assert TreeKernel(tree, np.ones(2), 0.0).plan.below is None


@pytest.mark.parametrize("shape", TREES)
def test_kernel_of_a_block(shape, to, rng):
    """Log probabilities and weight rows, beside those of NumPy."""
    tree = Tree.from_nested(TREES[shape])
    kernel = TreeKernel(tree, np.ones(3), 0.1)
    kernel.coef = 3.0 * rng.normal(size=kernel.coef.shape)
    design = rng.normal(size=(3, 40))
    resp = rng.dirichlet(np.ones(tree.n_leaves), 40).T
    weight = rng.random(40)
    made = []
    for bring in (np.asarray, to):
        log_proba = kernel.log_proba(bring(design))
        grams = bring(np.zeros((kernel.n_gram_rows, 40)))
        scores = bring(np.zeros((kernel.n_score_rows, 40)))
        kernel.fill(grams, scores, bring(resp * weight), bring(weight))
        made.append((log_proba, grams, scores))
    for expected, found in zip(*made, strict=True):
        assert np.abs(expected).max() > 0.01
        assert_same(found, expected, to, tol=1e-13)


@pytest.mark.parametrize("shape", ["uneven", "many"])
def test_rows_never_pass_through_numpy(shape, rng, monkeypatch):
    to = LIBRARIES["elsewhere"]
    X, y, weight, _, resp = data(shape, "linear", rng)
    moved = to(X), to(y), to(weight), to(resp)
    with no_long_trips(monkeypatch, N_ROWS):
        problem = build_problem(make_node(shape, "linear"), *moved[:3], None)
        passes(problem, moved[3])


@pytest.mark.parametrize("shape", ["binary", "mixed"])
def test_fused_and_general_node_agree_there(shape, to, rng):
    """Written back, the parts of a fused fit give its likelihood on the same rows."""
    X, y, weight, _, resp = data(shape, "linear", rng)
    moved = to(X), to(y), to(weight)
    node = make_node(shape, "linear")
    fused = build_problem(node, *moved, None)
    passes(fused, resp)
    value = fused.e_step()
    write_back(fused, node)
    general = NodeProblem(node, *moved)
    assert general.e_step() == pytest.approx(value, rel=1e-10)
    np.testing.assert_allclose(
        to_numpy(general.node.resp), to_numpy(fused.responsibilities()), atol=1e-9
    )
