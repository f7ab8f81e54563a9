"""The shape of a tree and its plans: numbering, nesting, surgery, levels."""

import itertools
import pickle

import numpy as np
import pytest

from skmoe._tree import MAX_MATRIX_LEAVES, LevelPlan, Tree

# Two leaves and a node of three on the left, a deep branch on the right.
RAGGED = [["a", ["b", "c", "d"]], [[["e", "f"], "g"], "h"]]
LETTERS = "abcdefgh"


@pytest.fixture
def ragged():
    return Tree.from_nested(RAGGED)


def random_nested(rng, depth=4):
    """Return nested lists of random arity; None for a leaf."""
    if depth == 0 or rng.random() < 0.4:
        return None
    return [random_nested(rng, depth - 1) for _ in range(rng.integers(2, 5))]


def random_tree(seed):
    rng = np.random.default_rng(seed)
    return Tree.from_nested([random_nested(rng) for _ in range(rng.integers(2, 4))])


TREES = {
    "stump": Tree.complete([2]),
    "wide": Tree.complete([5]),
    "binary": Tree.complete([2, 2, 2]),
    "mixed": Tree.complete([2, 3, 2]),
    "ragged": Tree.from_nested(RAGGED),
    "chain": Tree.from_nested([None, [None, [None, [None, None]]]]),
    **{f"random{seed}": random_tree(seed) for seed in range(6)},
}
all_trees = pytest.mark.parametrize("tree", TREES.values(), ids=TREES)


# -- who is whose child --------------------------------------------------------


@pytest.mark.parametrize("branching", [[2], [3], [2, 2], [2, 3], [3, 2, 2], [2] * 8])
def test_complete(branching):
    tree = Tree.complete(branching)
    widths = np.cumprod([1, *branching])
    assert tree.n_nodes == widths.sum()
    assert tree.n_leaves == widths[-1]
    assert tree.depth == len(branching)
    np.testing.assert_array_equal(np.bincount(tree.level), widths)
    for node in tree.inner:
        assert len(tree.children[node]) == branching[tree.level[node]]
    assert len(tree.inner) == widths[:-1].sum()
    # The leaves of a complete tree are its last level, in order.
    assert tree.leaves == list(range(tree.n_nodes - tree.n_leaves, tree.n_nodes))


def test_nested_lists_by_hand(ragged):
    assert ragged.children == (
        (1, 2),
        (3, 4),
        (5, 6),
        (),
        (7, 8, 9),
        (10, 11),
        (),
        (),
        (),
        (),
        (12, 13),
        (),
        (),
        (),
    )
    np.testing.assert_array_equal(ragged.level, [0, 1, 1, *[2] * 4, *[3] * 5, 4, 4])
    np.testing.assert_array_equal(
        ragged.parent, [-1, 0, 0, 1, 1, 2, 2, 4, 4, 4, 5, 5, 10, 10]
    )
    assert ragged.inner == [0, 1, 2, 4, 5, 10]
    assert ragged.leaves == [3, 7, 8, 9, 12, 13, 11, 6]
    assert (ragged.n_leaves, ragged.depth, ragged.n_nodes) == (8, 4, 14)
    assert ragged.nested() == [[0, [1, 2, 3]], [[[4, 5], 6], 7]]
    assert ragged.nested(5) == [[4, 5], 6]
    assert ragged.nested(13) == 5


@all_trees
def test_level_order_and_left_to_right(tree):
    assert (np.diff(tree.level) >= 0).all()
    seen = [child for some in tree.children for child in some]
    assert seen == list(range(1, tree.n_nodes))  # level order, each once
    for node, some in enumerate(tree.children):
        assert all(tree.parent[child] == node for child in some)
        assert all(tree.level[child] == tree.level[node] + 1 for child in some)
    assert sorted([*tree.inner, *tree.leaves]) == list(range(tree.n_nodes))

    def walk(node):
        some = tree.children[node]
        return [node] if not some else [leaf for c in some for leaf in walk(c)]

    assert tree.leaves == walk(0)


@all_trees
def test_nested_and_back(tree):
    nested = tree.nested()
    assert Tree.from_nested(nested) == tree
    flat = [nested]
    while any(isinstance(part, list) for part in flat):
        flat = [
            q for part in flat for q in (part if isinstance(part, list) else [part])
        ]
    assert flat == list(range(tree.n_leaves))


@all_trees
def test_paths(tree):
    for node in range(tree.n_nodes):
        path = tree.path(node)
        assert path[0] == 0
        assert path[-1] == node
        assert len(path) == tree.level[node] + 1
        assert all(b in tree.children[a] for a, b in itertools.pairwise(path))


@all_trees
def test_leaves_under(tree):
    assert tree.leaves_under(0) == list(range(tree.n_leaves))
    for node in range(tree.n_nodes):
        below = [k for k, leaf in enumerate(tree.leaves) if node in tree.path(leaf)]
        assert tree.leaves_under(node) == below
        # From left to right without a gap.
        assert below == list(range(below[0], below[0] + len(below)))


def test_a_single_leaf():
    tree = Tree([[]])
    assert (tree.n_nodes, tree.n_leaves, tree.depth) == (1, 1, 0)
    assert tree.inner == []
    assert tree.leaves == [0]
    assert tree.nested() == 0
    assert tree.path(0) == [0]
    assert tree.leaves_under(0) == [0]
    assert tree == Tree.from_nested(0) == Tree.complete([])


def test_what_is_no_list_is_a_leaf():
    """Tuples are (name, estimator[, columns]) and arrays are anything."""
    tree = Tree.from_nested([("a", 1), [np.zeros(3), "word", {}]])
    assert tree == Tree.from_nested([0, [1, 2, 3]])
    assert tree.n_leaves == 4


def test_equality_and_hash(ragged):
    again = Tree.from_nested(RAGGED)
    assert ragged == again
    assert hash(ragged) == hash(again)
    assert pickle.loads(pickle.dumps(ragged)) == ragged
    assert ragged != Tree.complete([2, 2])
    # The same number of leaves and nodes, in another shape.
    one, other = Tree.from_nested([0, [1, 2]]), Tree.from_nested([[0, 1], 2])
    assert one != other
    assert one != "Tree"
    assert len({one, other, Tree.from_nested([9, [9, 9]])}) == 2


def test_repr(ragged):
    assert repr(ragged) == "Tree(n_leaves=8, depth=4, n_nodes=14)"


# -- surgery -------------------------------------------------------------------


@all_trees
@pytest.mark.parametrize("n_children", [2, 3])
def test_split_makes_a_node_of_a_leaf(tree, n_children):
    before = tree.nested()
    for leaf in range(tree.n_leaves):
        grown = tree.split(leaf, n_children)
        assert grown.n_leaves == tree.n_leaves + n_children - 1
        # Leaves on the left keep their numbers, those on the right move on.
        node = grown.path(grown.leaves[leaf])[-2]
        assert grown.leaves_under(node) == list(range(leaf, leaf + n_children))
        assert len(grown.children[node]) == n_children
        assert len(grown.path(node)) == len(tree.path(tree.leaves[leaf]))
        # To take the new leaves away again is to undo it.
        new = list(range(leaf + 1, leaf + n_children))
        assert grown.without(new) == tree
    assert tree.nested() == before


def test_split_of_the_only_leaf():
    assert Tree([[]]).split(0) == Tree.complete([2])
    assert Tree([[]]).split(0, 4) == Tree.complete([4])


@pytest.mark.parametrize(
    ("dead", "expected"),
    [
        ([], [["a", ["b", "c", "d"]], [[["e", "f"], "g"], "h"]]),
        ([0], [["b", "c", "d"], [[["e", "f"], "g"], "h"]]),
        ([2], [["a", ["b", "d"]], [[["e", "f"], "g"], "h"]]),
        ([1, 3], [["a", "c"], [[["e", "f"], "g"], "h"]]),
        ([1, 2, 3], ["a", [[["e", "f"], "g"], "h"]]),
        ([4], [["a", ["b", "c", "d"]], [["f", "g"], "h"]]),
        ([4, 5], [["a", ["b", "c", "d"]], ["g", "h"]]),
        ([4, 5, 6, 7], ["a", ["b", "c", "d"]]),
        ([0, 1, 2, 3], [[["e", "f"], "g"], "h"]),
        ([7, 0, 6, 1, 2, 3], ["e", "f"]),
    ],
)
def test_without_some_leaves(ragged, dead, expected):
    assert ragged.without(dead) == Tree.from_nested(expected)


def test_without_all_but_one(ragged):
    for kept in range(8):
        rest = [k for k in range(8) if k != kept]
        assert ragged.without(rest) == Tree([[]])


@all_trees
def test_without_leaves_no_single_child(tree):
    rng = np.random.default_rng(3)
    for _ in range(10):
        n_dead = int(rng.integers(0, tree.n_leaves))
        dead = rng.permutation(tree.n_leaves)[:n_dead].tolist()
        kept = tree.without(dead)
        assert kept.n_leaves == tree.n_leaves - n_dead
        assert all(len(some) != 1 for some in kept.children)


@all_trees
def test_without_keeps_who_is_nearer_to_whom(tree):
    """Of three leaves that stay, the two that part last still do."""
    rng = np.random.default_rng(4)
    dead = rng.permutation(tree.n_leaves)[: tree.n_leaves // 3].tolist()
    kept = tree.without(dead)
    alive = [k for k in range(tree.n_leaves) if k not in dead]

    def shared(of, a, b):
        one, other = of.path(of.leaves[a]), of.path(of.leaves[b])
        return sum(m == n for m, n in zip(one, other, strict=False))

    for _ in range(20 if len(alive) > 2 else 0):
        a, b, c = rng.permutation(len(alive))[:3]
        before = shared(tree, alive[a], alive[b]) - shared(tree, alive[a], alive[c])
        after = shared(kept, a, b) - shared(kept, a, c)
        assert np.sign(before) == np.sign(after)


# -- plans ---------------------------------------------------------------------


def active_paths(tree, leaves):
    """Return which nodes lie on the paths to some leaves."""
    active = np.zeros(tree.n_nodes, dtype=bool)
    for leaf in leaves:
        active[tree.path(tree.leaves[leaf])] = True
    return active


def assert_plan(tree, plan, active):
    """Check all that a plan promises, whatever the tree."""
    nodes = np.flatnonzero(active)
    slot = {int(node): i for i, node in enumerate(nodes)}
    assert plan.n_slots == nodes.size + 1
    every = np.arange(plan.n_slots)  # what a slice of slots stands for
    expected = [k for k, leaf in enumerate(tree.leaves) if active[leaf]]
    np.testing.assert_array_equal(plan.leaves, expected)
    slots = every[plan.leaf_slots]
    np.testing.assert_array_equal(slots, [slot[tree.leaves[k]] for k in expected])
    seen, filled = [], {0}
    for step in plan.steps:
        b, gates = plan.groups[step.group]
        own = gates[step.gates]
        parents = every[step.parents]
        assert parents.size == own.size > 0
        assert len(step.children) == b
        # Their parents have been reached before.
        assert set(parents.tolist()) <= filled
        assert {int(tree.level[tree.inner[gate]]) for gate in own} == {step.level}
        np.testing.assert_array_equal(parents, [slot[tree.inner[g]] for g in own])
        for j, children in enumerate(step.children):
            wanted = [tree.children[tree.inner[gate]][j] for gate in own]
            wanted = [slot.get(child, plan.n_slots - 1) for child in wanted]
            np.testing.assert_array_equal(every[children], wanted)
            filled |= set(wanted)
        seen += own.tolist()
    on = [i for i, node in enumerate(tree.inner) if active[node]]
    assert sorted(seen) == on
    assert sorted(np.concatenate([gates for _, gates in plan.groups])) == on
    for b, gates in plan.groups:
        assert all(len(tree.children[tree.inner[gate]]) == b for gate in gates)
        assert (np.diff(gates) > 0).all()
    arities = [b for b, _ in plan.groups]
    assert arities == sorted(set(arities))


def edges_of(tree, plan):
    """Return (node, child) of each edge: group by group, child by child."""
    return [
        (tree.inner[gate], tree.children[tree.inner[gate]][j])
        for b, gates in plan.groups
        for j in range(b)
        for gate in gates
    ]


@all_trees
def test_plan_of_a_whole_tree(tree):
    plan = LevelPlan(tree)
    assert_plan(tree, plan, np.ones(tree.n_nodes, dtype=bool))
    # As few steps as there are pairs of level and number of children.
    kinds = {(int(tree.level[n]), len(tree.children[n])) for n in tree.inner}
    assert len(plan.steps) == len(kinds)


@all_trees
@pytest.mark.parametrize("part", [False, True])
def test_leaves_below_each_edge(tree, part):
    leaves = range(tree.n_leaves)[:: 2 if part else 1]
    plan = LevelPlan(tree, active_paths(tree, leaves) if part else None)
    if len(leaves) > MAX_MATRIX_LEAVES:
        assert plan.below is None
        return
    expected = [
        [child in tree.path(tree.leaves[k]) for k in leaves]
        for _, child in edges_of(tree, plan)
    ]
    np.testing.assert_array_equal(plan.below, expected)


@all_trees
def test_plans_of_some_paths(tree):
    rng = np.random.default_rng(7)
    for size in (1, 2, max(2, tree.n_leaves // 2)):
        leaves = rng.permutation(tree.n_leaves)[:size]
        active = active_paths(tree, leaves)
        assert_plan(tree, LevelPlan(tree, active), active)


def test_plan_that_ends_at_an_inner_node():
    """A node may be reached although none of its children is followed further."""
    tree = Tree.complete([2, 2])
    active = np.array([1, 1, 1, 1, 0, 0, 0], dtype=bool)
    plan = LevelPlan(tree, active)
    assert_plan(tree, plan, active)
    np.testing.assert_array_equal(plan.leaves, [0])


def test_slots_are_slices_where_they_can_be():
    """Slices take views: a complete tree is walked without a copy."""
    plan = LevelPlan(TREES["binary"])
    assert isinstance(plan.leaf_slots, slice)
    for step in plan.steps:
        assert all(isinstance(s, slice) for s in [step.parents, *step.children])
    assert not isinstance(LevelPlan(TREES["ragged"]).leaf_slots, slice)


def test_mixed_branching_makes_one_group_for_each_arity():
    plan = LevelPlan(TREES["mixed"])  # 2, then 3, then 2 children
    assert [b for b, _ in plan.groups] == [2, 3]
    np.testing.assert_array_equal(plan.groups[0][1], [0, *range(3, 9)])
    np.testing.assert_array_equal(plan.groups[1][1], [1, 2])
    assert [(step.group, step.gates) for step in plan.steps] == [
        (0, slice(0, 1)),
        (1, slice(0, 2)),
        (0, slice(1, 7)),
    ]
