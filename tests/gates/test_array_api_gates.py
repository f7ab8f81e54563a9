"""Gates on rows of any array library: the numbers of NumPy, where the rows are."""

import numpy as np
import pytest

from skmoe._tree import Tree
from skmoe._xp import to_numpy
from skmoe.gates import ConstantGate, GaussianGate, SoftmaxGate
from skmoe.gates._tree import GateTree
from tests._libraries import LIBRARIES, assert_same, no_long_trips, small_blocks
from tests.gates.gate_suite import regions

N_ROWS, N_COLUMNS = 700, 4


def tree_of(nested, make_gate, columns=None):
    """Return a tree of gates, each with its own columns if any are given."""
    tree = Tree.from_nested(nested)
    gates = [make_gate() for _ in tree.inner]
    return GateTree(tree, gates, columns and [columns] * len(gates))


GATES = {
    "constant": lambda: ConstantGate(alpha=1.5),
    "newton": lambda: SoftmaxGate(0.1),
    "likelihood": lambda: SoftmaxGate(0.0),
    "bound": lambda: SoftmaxGate(solver="bound"),
    "lasso": lambda: SoftmaxGate(20.0, l1_ratio=0.8),
    "bound lasso": lambda: SoftmaxGate(20.0, l1_ratio=0.8, solver="bound"),
    "lbfgs": lambda: SoftmaxGate(solver="lbfgs"),
    "lbfgs lasso": lambda: SoftmaxGate(20.0, l1_ratio=0.8, solver="lbfgs"),
    "full": GaussianGate,
    "diag": lambda: GaussianGate("diag"),
    "tied": lambda: GaussianGate("tied"),
    "no prior": lambda: GaussianGate(prior_rows=0.0),
    "tree": lambda: tree_of([[0, 1], 2], SoftmaxGate),
    "tree of three": lambda: tree_of([0, 1, 2], SoftmaxGate),
    "tree of columns": lambda: tree_of([0, [1, 2]], SoftmaxGate, [2, 0]),
    "generative tree": lambda: tree_of([[0, 1], 2], GaussianGate),
    "unlike tree": lambda: GateTree(
        Tree.from_nested([0, [1, 2]]), [GaussianGate("tied"), SoftmaxGate()]
    ),
}


@pytest.fixture
def rng():
    return np.random.default_rng(11)


@pytest.fixture(params=LIBRARIES)
def to(request):
    """What brings a NumPy array to a library."""
    return LIBRARIES[request.param]


@pytest.fixture
def rows(rng):
    """Return X with a dull column, responsibilities and weights, some of them zero."""
    X, resp, weight = regions(rng, N_ROWS, N_COLUMNS)
    X = X * [1.0, 1e3, 1e-3, 1.0] + [0.0, 5e3, 0.0, -7.0]
    X[:, 3] = 2.0
    weight[::11] = 0.0
    return X, resp, weight


def fitted(name, X, resp, weight, n_steps=3):
    """Return a gate after some M-steps."""
    gate = GATES[name]()
    gate.prepare(X, weight, 3)
    for _ in range(n_steps):
        gate.m_step(X, resp, weight)
    return gate


# -- the same numbers ---------------------------------------------------------------


@pytest.mark.parametrize("name", GATES)
def test_same_gate_from_any_rows(name, rows, to, monkeypatch):
    small_blocks(monkeypatch)
    theirs = fitted(name, *rows)
    X, _, weight = (to(array) for array in rows)
    # A transposed view, as the engine hands it over.
    ours = fitted(name, X, to(np.ascontiguousarray(rows[1].T)).T, weight)
    assert isinstance(ours.parameters, np.ndarray)
    scale = np.abs(theirs.parameters).max()
    assert scale > 1e-3  # it has learnt something
    np.testing.assert_allclose(
        ours.parameters, theirs.parameters, rtol=1e-10, atol=1e-10 * scale
    )
    assert ours.penalty == pytest.approx(theirs.penalty, rel=1e-10)
    assert isinstance(ours.penalty, float)
    assert ours.n_parameters == theirs.n_parameters
    assert_same(ours.log_proba(X), theirs.log_proba(rows[0]), to)
    assert_same(ours.log_joint(X), theirs.log_joint(rows[0]), to)


@pytest.mark.parametrize("name", GATES)
def test_a_gate_fitted_elsewhere_works_on_numpy(name, rows, to):
    gate = fitted(name, *(to(array) for array in rows))
    expected = to_numpy(gate.log_proba(to(rows[0])))
    np.testing.assert_allclose(gate.log_proba(rows[0]), expected, atol=1e-11)


@pytest.mark.parametrize("name", GATES)
def test_float32_rows_lose_nothing(name, rows, to):
    """Sums and densities are those of the same rows in float64."""
    X, resp, weight = rows
    short = X.astype(np.float32)
    theirs = fitted(name, short.astype(np.float64), resp, weight)
    ours = fitted(name, to(short), to(resp), to(weight))
    assert_same(ours.log_joint(to(short)), theirs.log_joint(short.astype(float)), to)


@pytest.mark.parametrize("name", GATES)
def test_rows_never_pass_through_numpy(name, rows, monkeypatch):
    to = LIBRARIES["elsewhere"]
    X, resp, weight = (to(array) for array in rows)
    with no_long_trips(monkeypatch, N_ROWS):
        gate = fitted(name, X, resp, weight)
        gate.log_proba(X)
        gate.log_joint(X)
        if hasattr(gate, "descend"):
            gate.descend(X)


def test_the_guard_sees_long_trips(rows, monkeypatch):
    X = LIBRARIES["elsewhere"](rows[0])
    with no_long_trips(monkeypatch, N_ROWS):
        with pytest.raises(AssertionError, match="went to NumPy"):
            to_numpy(X)
        with pytest.raises(AssertionError, match="came from NumPy"):
            LIBRARIES["elsewhere"](rows[0])


@pytest.mark.parametrize("name", ["newton", "constant", "full"])
def test_one_expert(name, rows, to):
    """There is nothing to choose, and no gram to sum."""
    X, _, weight = (to(array) for array in rows)
    gate = GATES[name]()
    gate.prepare(X, weight, 1)
    gate.m_step(X, to(np.ones((N_ROWS, 1))), weight)
    assert_same(gate.log_proba(X), np.zeros((N_ROWS, 1)), to)


@pytest.mark.parametrize("name", ["full", "diag", "tied"])
def test_far_from_the_data(name, rows, to):
    """Squares are kept from overflowing there, as in NumPy."""
    gate = fitted(name, *rows)
    far = rows[0] * 1e300
    with np.errstate(over="ignore"):
        assert_same(gate.log_proba(to(far)), gate.log_proba(far), to)


@pytest.mark.parametrize("name", ["constant", "newton", "full"])
def test_marked(name):
    assert GATES[name]().array_api


def test_responsibilities_of_another_shape(rows, to):
    X, resp, weight = (to(array) for array in rows)
    gate = fitted("full", X, resp, weight)
    with pytest.raises(ValueError, match=r"must be of shape \(700, 3\)"):
        gate.m_step(X, resp[:, :2], weight)


# -- the most probable path ---------------------------------------------------------

SHAPES = {
    "even": [[0, 1], [2, 3]],
    "uneven": [[[0, 1], 2], 3],
    "deep": [0, [1, [2, [3, 4]]]],
    "ternary": [[0, 1, 2], 3],
}


@pytest.mark.parametrize("columns", [None, [2, 0]])
@pytest.mark.parametrize("make_gate", [SoftmaxGate, GaussianGate])
@pytest.mark.parametrize("shape", SHAPES)
def test_same_leaf(shape, make_gate, columns, rows, to, rng, monkeypatch):
    small_blocks(monkeypatch)
    X, _, weight = rows
    gate = tree_of(SHAPES[shape], make_gate, columns)
    n_leaves = gate.tree.n_leaves
    gate.prepare(X, weight, n_leaves)
    order = np.argsort(np.argsort(X[:, 0])) * n_leaves // N_ROWS
    resp = 0.5 * np.eye(n_leaves)[order] + 0.5 / n_leaves
    for _ in range(3):
        gate.m_step(X, resp, weight)
    expected = gate.descend(X)
    assert np.unique(expected).size >= n_leaves - 1
    found = gate.descend(to(X))
    assert_same(found, expected, to, tol=0.0)
    assert to_numpy(found).dtype == np.int64
    assert_same(gate.descend(to(X.astype(np.float32))), expected, to, tol=0.0)


def test_a_single_leaf(rows, to):
    gate = GateTree(Tree([[]]), [])
    assert_same(gate.descend(to(rows[0])), np.zeros(N_ROWS, dtype=np.int64), to)


def test_a_node_without_rows_learns_nothing(rows, to):
    """Its children keep their gate; conditional shares are even there."""
    X, resp, weight = rows
    resp = np.column_stack([0.0 * resp[:, :2], np.ones(N_ROWS)])
    resp[:300] = [0.25, 0.5, 0.25]
    none = np.tile([0.0, 0.0, 1.0], (N_ROWS, 1))
    for shares in (resp, none):
        theirs = fitted("tree", X, shares, weight)
        ours = fitted("tree", to(X), to(shares), to(weight))
        np.testing.assert_allclose(ours.parameters, theirs.parameters, atol=1e-9)
    assert not np.any(ours.gates[1].parameters)
