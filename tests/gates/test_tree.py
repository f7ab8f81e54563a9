"""A tree of gates over its leaves: products along paths, conditional posteriors."""

import copy
import itertools
import pickle

import numpy as np
import pytest
from scipy import sparse
from scipy.special import log_softmax
from sklearn.base import BaseEstimator, clone
from sklearn.linear_model import LogisticRegression

from skmoe._blocks import BLOCK_ROWS, Design
from skmoe._protocols import is_parametric
from skmoe._tree import Tree
from skmoe.gates import ClassifierGate, ConstantGate, GaussianGate, SoftmaxGate
from skmoe.gates._tree import GateTree, log_normalised, single_gate, softmax_gates
from tests.gates.gate_suite import GateSuite, regions

RAGGED = Tree.from_nested([[0, [1, 2, 3]], [4, 5]])


def chain(n_leaves):
    """Return the tree that splits off one leaf after the other."""
    tree = Tree([[]])
    for _ in range(n_leaves - 1):
        tree = tree.split(tree.n_leaves - 1)
    return tree


def balanced(n_leaves):
    """Return a tree of least depth."""
    tree = Tree([[]])
    for _ in range(n_leaves - 1):
        levels = [tree.level[leaf] for leaf in tree.leaves]
        tree = tree.split(int(np.argmin(levels)))
    return tree


# -- the suite of every gate -------------------------------------------------------


class TreeOfAnySize(GateTree):
    """A tree of gates that takes its shape when it learns the number of leaves."""

    def __init__(self, shape=chain, kinds=(), path_tol=0.0):
        self.shape, self.kinds, self.path_tol = shape, kinds, path_tol

    def prepare(self, X, weight, n_experts):
        self.tree, self.columns = self.shape(n_experts), None
        kinds = itertools.cycle(self.kinds or [SoftmaxGate()])
        self.gates = [clone(next(kinds)) for _ in self.tree.inner]
        super().prepare(X, weight, n_experts)


class TreeSuite(GateSuite):
    def test_order_of_experts_does_not_matter(self, rng):
        """Of siblings: the leaves of a tree have their places."""
        X, resp, weight = regions(rng, n_experts=4)
        gates = [self.fitted(X, part, weight) for part in (resp, resp[:, [0, 1, 3, 2]])]
        tree = gates[0].tree
        assert any(tree.leaves_under(node) == [2, 3] for node in tree.inner), (
            "leaves 2 and 3 are siblings"
        )
        np.testing.assert_allclose(
            gates[1].log_proba(X),
            gates[0].log_proba(X)[:, [0, 1, 3, 2]],
            atol=self.weight_tol,
        )


class TestSoftmaxTree(TreeSuite):
    def make_gate(self):
        return TreeOfAnySize(balanced)


class TestSoftmaxChain(TreeSuite):
    def make_gate(self):
        return TreeOfAnySize(chain, (SoftmaxGate(0.0),))


class TestConstantTree(TreeSuite):
    cross_entropy_left = 1.0

    def make_gate(self):
        return TreeOfAnySize(balanced, (ConstantGate(),))


class TestGaussianTree(TreeSuite):
    def make_gate(self):
        return TreeOfAnySize(balanced, (GaussianGate(),))


class TestMixedTree(TreeSuite):
    def make_gate(self):
        kinds = (GaussianGate("diag"), SoftmaxGate(), ConstantGate(0.5))
        return TreeOfAnySize(chain, kinds)


# -- products along paths ----------------------------------------------------------


def mixed_gates():
    """Gates of every kind for RAGGED, each with columns of its own."""
    gates = [
        SoftmaxGate(0.1),
        GaussianGate(),
        ConstantGate(),
        ClassifierGate(LogisticRegression(C=10.0)),
    ]
    return gates, [[0, 2], None, [1], [1, 2]]


def problem(seed=3, n_samples=200, n_leaves=6):
    return regions(np.random.default_rng(seed), n_samples, 3, n_leaves)


def fitted(tree=RAGGED, gates=None, columns=None, *, data=None, steps=3, **params):
    """Return a tree of gates after some steps on rows of its own."""
    X, resp, weight = data or problem(n_leaves=tree.n_leaves)
    gates = gates or [SoftmaxGate() for _ in tree.inner]
    gate = GateTree(tree, gates, columns, **params)
    gate.prepare(X, weight, tree.n_leaves)
    for _ in range(steps):
        gate.m_step(X, resp, weight)
    return gate


def products(gate, X, method="log_proba"):
    """Return sums of logs along the path to each leaf, one leaf after the other.

    The method is that of the root: x has one density, whatever a leaf's depth.
    """
    tree, out = gate.tree, []
    for leaf in tree.leaves:
        path, total = tree.path(leaf), 0.0
        for node, child in itertools.pairwise(path):
            i = tree.inner.index(node)
            columns = slice(None) if gate.columns is None else gate.columns[i]
            view = X if columns is None else X[:, columns]
            own = method if node == 0 else "log_proba"
            log_gate = getattr(gate.gates[i], own)(view)
            total = total + log_gate[:, tree.children[node].index(child)]
        out.append(total)
    return np.stack(out, axis=1)


def test_a_leaf_has_the_product_of_its_path():
    X = problem()[0]
    gate = fitted(RAGGED, *mixed_gates())
    log_proba = gate.log_proba(X)
    np.testing.assert_allclose(log_proba, products(gate, X), rtol=1e-12)
    np.testing.assert_allclose(np.exp(log_proba).sum(axis=1), 1.0, rtol=1e-12)


@pytest.mark.parametrize("root", [SoftmaxGate(), GaussianGate()], ids=repr)
def test_the_density_of_x_counts_once(root):
    """In a ragged tree too: no leaf is better or worse off for its depth."""
    X = problem()[0]
    gates = [root, GaussianGate(), GaussianGate(), GaussianGate()]
    gate = fitted(RAGGED, gates)
    log_joint = gate.log_joint(X)
    np.testing.assert_allclose(log_joint, products(gate, X, "log_joint"), rtol=1e-12)
    left, right = slice(0, 4), slice(4, 6)
    ratio = log_joint - gate.log_proba(X)
    np.testing.assert_allclose(ratio[:, left], ratio[:, :1] * np.ones((1, 4)))
    np.testing.assert_allclose(ratio[:, right], ratio[:, :1] * np.ones((1, 2)))
    np.testing.assert_allclose(
        log_softmax(log_joint, axis=1), gate.log_proba(X), atol=1e-9
    )


@pytest.mark.parametrize(
    "tree",
    [Tree.complete([2]), Tree.complete([3, 2]), Tree.complete([2] * 4), chain(5)],
    ids=repr,
)
def test_products_of_softmax_gates(tree):
    X = problem(n_leaves=tree.n_leaves)[0]
    gate = fitted(tree)
    np.testing.assert_allclose(gate.log_proba(X), products(gate, X), rtol=1e-12)
    np.testing.assert_array_equal(gate.log_joint(X), gate.log_proba(X))


def test_sums_of_the_gates():
    X = problem()[0]
    gate = fitted(RAGGED, *mixed_gates())
    assert gate.penalty == pytest.approx(sum(g.penalty for g in gate.gates))
    assert gate.n_parameters == sum(g.n_parameters for g in gate.gates)
    # Softmax of 2 columns, Gaussian of 2 children in 3 columns, constant of 2, ...
    assert gate.gates[0].n_parameters == 3
    assert [
        g.log_proba(X[:2, c or slice(None)]).shape[1]
        for g, c in zip(gate.gates, gate.columns, strict=True)
    ] == [2, 2, 2, 3]


def test_a_tree_of_one_leaf_has_nothing_to_choose():
    X, _, weight = problem()
    gate = fitted(Tree([[]]), [], data=(X, np.ones((200, 1)), weight))
    np.testing.assert_array_equal(gate.log_proba(X), np.zeros((200, 1)))
    np.testing.assert_array_equal(gate.descend(X), 0)
    assert gate.n_parameters == gate.penalty == 0
    assert gate.parameters.size == 0
    pruning = GateTree(Tree([[]]), [], path_tol=0.5)
    np.testing.assert_array_equal(pruning.log_proba(X), np.zeros((200, 1)))


# -- the M-step --------------------------------------------------------------------


def test_every_gate_is_fitted_to_its_conditional_posterior():
    """Jordan & Jacobs: h_j|i as target, the node's posterior h_i as weight."""
    X, resp, weight = problem()
    gate = fitted(RAGGED, *mixed_gates(), steps=2)
    by_hand, columns = mixed_gates()
    h = {  # posterior of each node: sum over its leaves
        node: resp[:, RAGGED.leaves_under(node)].sum(axis=1)
        for node in range(RAGGED.n_nodes)
    }
    for part, node, own in zip(by_hand, RAGGED.inner, columns, strict=True):
        view = X if own is None else X[:, own]
        children = RAGGED.children[node]
        conditional = np.stack([h[c] / h[node] for c in children], axis=1)
        part.prepare(view, weight, len(children))
        for _ in range(2):
            part.m_step(view, conditional, weight * h[node])
    for ours, theirs, own in zip(gate.gates, by_hand, columns, strict=True):
        view = X if own is None else X[:, own]
        np.testing.assert_allclose(
            ours.log_proba(view), theirs.log_proba(view), atol=1e-9
        )


def test_depth_one_is_the_gate_itself():
    X, resp, weight = problem(n_leaves=3)
    gate = fitted(Tree.complete([3]), data=(X, resp, weight))
    alone = SoftmaxGate()
    alone.prepare(X, weight, 3)
    for _ in range(3):
        alone.m_step(X, resp, weight)
    np.testing.assert_array_equal(gate.log_proba(X), alone.log_proba(X))
    assert single_gate(gate) is gate.gates[0]


def test_rows_that_do_not_reach_a_node_do_not_count_there():
    """Not even where their conditional posterior would be 0 / 0."""
    X, resp, weight = problem()
    left = X[:, 0] < np.median(X[:, 0])
    resp = np.where(left[:, None], resp, 0.0)
    resp[~left, 4] = 1.0  # all others go right
    gates = [fitted(data=(X, resp, weight), gates=None)]
    wild = X.copy()
    wild[~left] = 1e3 * X[~left]
    # The scales are those of all rows: give the same to both.
    other = GateTree(RAGGED, [SoftmaxGate() for _ in RAGGED.inner])
    other.prepare(X, weight, 6)
    for _ in range(3):
        other.m_step(wild, resp, weight)
    left_node = RAGGED.inner.index(1)
    np.testing.assert_allclose(
        other.gates[left_node].coef_, gates[0].gates[left_node].coef_, rtol=1e-9
    )


def test_a_branch_without_any_rows_keeps_its_gates():
    X, resp, weight = problem()
    gate = fitted(steps=2)
    before = [g.parameters.copy() for g in gate.gates]
    resp[:, :4] = 0.0  # the whole left branch
    resp /= resp.sum(axis=1, keepdims=True)
    for _ in range(4):
        gate.m_step(X, resp, weight)
    after = [g.parameters for g in gate.gates]
    for i, node in enumerate(RAGGED.inner):
        changed = np.abs(after[i] - before[i]).max() > 1e-6
        assert changed == (0 in RAGGED.path(node) and node in (0, 2))
    assert np.isfinite(gate.log_proba(X)).all()
    assert np.exp(gate.log_proba(X)[:, :4]).sum(axis=1).max() < 0.6


def test_m_step_leaves_responsibilities_alone():
    X, resp, weight = problem()
    resp.flags.writeable = weight.flags.writeable = False
    fitted(data=(X, resp, weight))


# -- exact, parametric, copies -----------------------------------------------------


def test_exact_if_all_gates_are_and_no_path_is_left_out():
    exact = [SoftmaxGate(), SoftmaxGate(), ConstantGate(), SoftmaxGate()]
    assert GateTree(RAGGED, exact).exact_m_step
    assert not GateTree(RAGGED, exact, path_tol=1e-3).exact_m_step
    assert not GateTree(RAGGED, mixed_gates()[0]).exact_m_step
    # x counts once: a generative gate climbs its own objective at the root alone.
    assert GateTree(RAGGED, [GaussianGate(), *exact[1:]]).exact_m_step
    assert not GateTree(RAGGED, [*exact[:3], GaussianGate()]).exact_m_step


def test_parametric_if_all_gates_are():
    native = fitted(
        gates=[SoftmaxGate(), GaussianGate(), ConstantGate(), SoftmaxGate()]
    )
    assert is_parametric(native)
    assert not is_parametric(fitted(RAGGED, *mixed_gates()))
    X = problem()[0]
    before, vector = native.log_proba(X), native.parameters
    assert vector.ndim == 1
    native.parameters = np.random.default_rng(0).normal(size=vector.size)
    assert np.abs(native.log_proba(X) - before).max() > 0.1
    native.parameters = vector
    np.testing.assert_allclose(native.log_proba(X), before, atol=1e-9)


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy])
@pytest.mark.parametrize("kinds", ["native", "mixed"])
def test_a_copy_is_on_its_own(how, kinds):
    X, resp, weight = problem()
    gates, columns = mixed_gates() if kinds == "mixed" else (None, None)
    gate = fitted(RAGGED, gates, columns, steps=1, path_tol=1e-9)
    again = how(gate)
    assert (again.path_tol, again.columns) == (gate.path_tol, gate.columns)
    before = gate.log_proba(X)
    np.testing.assert_array_equal(again.log_proba(X), before)
    for _ in range(3):
        again.m_step(X, np.roll(resp, 1, axis=1), weight)
    assert np.abs(np.exp(again.log_proba(X)) - np.exp(before)).max() > 0.1
    np.testing.assert_array_equal(gate.log_proba(X), before)


def test_clone_has_unfitted_gates():
    gate = fitted(RAGGED, *mixed_gates(), path_tol=0.25)
    again = clone(gate)
    assert again.tree == gate.tree
    assert again.columns == gate.columns
    assert again.path_tol == 0.25
    assert [type(g) for g in again.gates] == [type(g) for g in gate.gates]
    assert not hasattr(again.gates[0], "kernel_")


# -- paths of small probability ----------------------------------------------------


def reaches(gate, X):
    """Return the log probability of every node, (n_samples, n_nodes)."""
    plain = GateTree(gate.tree, gate.gates, gate.columns)
    leaves = np.exp(plain.log_proba(X))
    nodes = [
        leaves[:, gate.tree.leaves_under(n)].sum(axis=1)
        for n in range(gate.tree.n_nodes)
    ]
    return np.log(np.stack(nodes, axis=1))


@pytest.mark.parametrize("path_tol", [1e-12, 1e-3, 0.05, 0.3, 0.9])
@pytest.mark.parametrize("tree", [RAGGED, Tree.complete([2] * 4), chain(5)], ids=repr)
def test_small_paths_are_left_out_and_the_rest_renormalised(tree, path_tol):
    X = problem(n_leaves=tree.n_leaves)[0]
    gate = fitted(tree, path_tol=path_tol, steps=8)
    full = GateTree(tree, gate.gates).log_proba(X)
    reach, best = reaches(gate, X), gate.descend(X)
    # A leaf is kept if every node on its path is reached, or if it is the best.
    kept = reach[:, tree.leaves] >= np.log(path_tol)
    kept[np.arange(len(X)), best] = True
    log_proba = gate.log_proba(X)
    np.testing.assert_array_equal(log_proba > -np.inf, kept)
    np.testing.assert_allclose(np.exp(log_proba).sum(axis=1), 1.0, rtol=1e-12)
    expected = np.where(kept, full, -np.inf)
    np.testing.assert_allclose(log_proba, log_normalised(expected), atol=1e-10)
    # The E-step does not renormalise: what was left out is missing there.
    np.testing.assert_allclose(gate.log_joint(X), expected, atol=1e-10)


def test_a_tiny_tolerance_changes_nothing():
    X = problem()[0]
    gate = fitted(RAGGED, *mixed_gates(), path_tol=1e-300)
    np.testing.assert_allclose(gate.log_proba(X), products(gate, X), atol=1e-10)
    joint = products(gate, X, "log_joint")
    np.testing.assert_allclose(gate.log_joint(X), joint, atol=1e-9)


class Spy(BaseEstimator):
    """A constant binary gate that counts the rows that it is asked about."""

    exact_m_step = True

    def __init__(self, first):
        self.first, self.rows = first, 0

    def log_proba(self, X):
        self.rows += X.shape[0]
        return np.tile(np.log([self.first, 1.0 - self.first]), (X.shape[0], 1))

    log_joint = log_proba


def test_gates_off_the_kept_paths_are_not_asked():
    tree = Tree.complete([2, 2, 2])
    first = [0.9, 0.9, 0.5, 0.5, 0.5, 0.5, 0.5]
    X = np.zeros((10, 1))

    def asked(path_tol, method):
        gates = [Spy(f) for f in first]
        getattr(GateTree(tree, gates, path_tol=path_tol), method)(X)
        return [gate.rows for gate in gates]

    assert asked(0.0, "log_proba") == [10] * 7
    # Reach: 0.9 and 0.1, then 0.81, 0.09, 0.05, 0.05.
    for method in ("log_proba", "log_joint"):
        assert asked(0.2, method) == [10, 10, 0, 10, 0, 0, 0]
        assert asked(0.08, method) == [10, 10, 10, 10, 10, 0, 0]
    assert asked(0.0, "descend") == [10, 10, 0, 10, 0, 0, 0]


# -- the most probable path --------------------------------------------------------


def by_argmax(gate, X):
    """Follow the most probable child of every row alone."""
    tree, out = gate.tree, []
    for row in X:
        node = 0
        while tree.children[node]:
            i = tree.inner.index(node)
            view = row[None] if gate.columns is None else gate.view(row[None], i)
            winner = int(gate.gates[i].log_proba(view)[0].argmax())
            node = tree.children[node][winner]
        out.append(tree.leaves.index(node))
    return np.array(out)


@pytest.mark.parametrize(
    "tree",
    [
        Tree.complete([2]),
        Tree.complete([2] * 5),
        Tree.complete([3, 2]),
        RAGGED,
        chain(6),
        Tree.from_nested([0, [[1, 2], [3, [4, 5]]]]),
    ],
    ids=repr,
)
@pytest.mark.parametrize("columns", [None, [2, 0]], ids=["all", "some"])
def test_descend_is_argmax_gate_by_gate(tree, columns):
    X = problem(n_leaves=tree.n_leaves)[0]
    every = None if columns is None else [columns] * len(tree.inner)
    gate = fitted(tree, columns=every)
    leaf = gate.descend(X)
    np.testing.assert_array_equal(leaf, by_argmax(gate, X))
    assert len(np.unique(leaf)) > 1
    far = np.vstack([1e6 * X[:30], -1e6 * X[:30]])
    np.testing.assert_array_equal(gate.descend(far), by_argmax(gate, far))


def test_descend_with_gates_of_all_kinds():
    X = problem()[0]
    gate = fitted(RAGGED, *mixed_gates())
    np.testing.assert_array_equal(gate.descend(X), by_argmax(gate, X))


def test_the_greedy_path_is_not_the_most_probable_leaf():
    """0.6 times 0.5 is less than 0.4: the path goes where the first gate points."""
    tree = Tree.from_nested([[0, 1], 2])
    gate = GateTree(tree, [Spy(0.6), Spy(0.5)])
    X = np.zeros((3, 1))
    np.testing.assert_array_equal(gate.log_proba(X).argmax(axis=1), 2)
    np.testing.assert_array_equal(gate.descend(X), 0)


@pytest.mark.parametrize("n_rows", [1, BLOCK_ROWS, 2 * BLOCK_ROWS + 17])
@pytest.mark.parametrize("thin", [False, True])
def test_stacked_gates_go_the_same_way_as_single_ones(n_rows, thin):
    rng = np.random.default_rng(6)
    tree = Tree.from_nested([[[0, 1], 2], [[3, [4, 5]], [6, 7]]])
    X, resp, weight = regions(rng, 300, 3, 8)
    gate = fitted(tree, columns=[[2, 1]] * 7, data=(X, resp, weight), steps=6)
    new = rng.normal(size=(n_rows, 3)) * 3.0
    new = sparse.csr_array(new) if thin else new
    each = gate._descend_each(new)
    assert gate._stacked() is not None
    np.testing.assert_array_equal(np.array(tree.leaves)[gate.descend(new)], each)
    # One gate of another kind, or with other columns, takes the other way.
    gate.columns = [[2, 1]] * 6 + [[1, 2]]
    assert gate._stacked() is None
    gate.columns = [[2, 1]] * 7
    gate.gates[3] = ConstantGate()
    assert gate._stacked() is None


def test_ties_go_to_the_first_child():
    X, _, weight = problem(n_leaves=4)
    gate = fitted(Tree.complete([2, 2]), steps=0)  # all gates at one half
    np.testing.assert_array_equal(gate.descend(X), 0)
    np.testing.assert_array_equal(gate._descend_each(X), gate.tree.leaves[0])
    assert weight.size == X.shape[0]


# -- from and to one batch ---------------------------------------------------------


def test_coefficients_of_a_batch_come_back_to_their_gates():
    X, resp, weight = problem()
    gate = fitted(RAGGED, [SoftmaxGate(0.3) for _ in RAGGED.inner], steps=0)
    design = Design(X, weight)
    kernel = gate.kernel(design.n_columns)
    rng = np.random.default_rng(1)
    kernel.coef = rng.normal(size=kernel.coef.shape)
    gate.take_coefficients(kernel, design)
    np.testing.assert_allclose(
        gate.log_proba(X).T, kernel.log_proba(design.matrix(X)), atol=1e-12
    )
    assert gate.penalty == pytest.approx(kernel.penalty, rel=1e-12)
    np.testing.assert_allclose(gate.log_proba(X), products(gate, X), atol=1e-12)
    # The gates are independent of the batch, and can go on from here.
    before = gate.log_proba(X)
    kernel.coef *= 2.0
    np.testing.assert_array_equal(gate.log_proba(X), before)
    gate.m_step(X, resp, weight)
    assert pickle.loads(pickle.dumps(gate)).penalty == gate.penalty


@pytest.mark.parametrize(
    ("gates", "columns"),
    [
        ([SoftmaxGate(0.1), *[SoftmaxGate() for _ in range(3)]], None),
        ([ConstantGate() for _ in range(4)], None),
        ([SoftmaxGate(solver="bound") for _ in range(4)], None),
        ([SoftmaxGate(solver="lbfgs") for _ in range(4)], None),
        ([SoftmaxGate() for _ in range(4)], [[0], [0], [0], [1]]),
        ([SoftmaxGate() for _ in range(4)], [[0], [0], [0], None]),
    ],
    ids=["alpha", "constant", "bound", "lbfgs", "columns", "some columns"],
)
def test_gates_that_are_not_alike_make_no_batch(gates, columns):
    assert GateTree(RAGGED, gates, columns).kernel(3) is None


def test_alike_gates_make_a_batch():
    for columns in (None, [[1, 2]] * 4):
        for solver in ("auto", "newton"):
            gates = [SoftmaxGate(0.2, solver=solver) for _ in range(4)]
            kernel = GateTree(RAGGED, gates, columns).kernel(3)
            assert kernel.n_experts == 6
            np.testing.assert_allclose(kernel.ridge, [0.0, 0.2, 0.2])
    # Too wide for all grams at once: every gate then chooses its own solver.
    gates = [SoftmaxGate() for _ in range(4)]
    assert GateTree(RAGGED, gates).kernel(5000) is None


def test_bad_parameters_of_a_gate_are_named():
    gates = [SoftmaxGate(), SoftmaxGate(), SoftmaxGate(-1.0), SoftmaxGate()]
    with pytest.raises(ValueError, match=r"SoftmaxGate: alpha must be .* got -1"):
        GateTree(RAGGED, gates).check_parameters()
    X, _, weight = problem()
    with pytest.raises(ValueError, match=r"SoftmaxGate: alpha must be .* got -1"):
        GateTree(RAGGED, gates).prepare(X, weight, 6)


def test_what_a_gate_consists_of():
    gates = [SoftmaxGate() for _ in range(4)]
    tree = GateTree(RAGGED, gates)
    assert single_gate(tree) is tree
    assert softmax_gates(tree) == gates
    assert softmax_gates(gates[0]) == gates[:1]
    assert softmax_gates(GaussianGate()) == []
    assert softmax_gates(GateTree(RAGGED, mixed_gates()[0])) == []
    assert isinstance(single_gate(GateTree(Tree([[]]), [])), ConstantGate)
    flat = GaussianGate()
    assert single_gate(flat) is flat


def test_normalising_keeps_what_is_left_out():
    log_proba = np.array([[-1.0, -np.inf, -2000.0], [-np.inf, -5.0, -np.inf]])
    out = log_normalised(log_proba)
    np.testing.assert_allclose(np.exp(out).sum(axis=1), 1.0)
    np.testing.assert_array_equal(np.isinf(out), np.isinf(log_proba))
    assert out[0, 2] == pytest.approx(-1999.0)
