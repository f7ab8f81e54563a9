"""The shape of a tree: who is whose child, and plans to walk all nodes by level.

Nodes are numbered level by level, the root is 0. Leaves are numbered apart, from
left to right: leaf k is the k-th expert. Nothing here knows gates or experts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

__all__ = ["LevelPlan", "Step", "Tree"]

Ints = NDArray[np.intp]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Slots = Ints | slice

# Above so many leaves the walk by level is cheaper than a product with all edges.
MAX_MATRIX_LEAVES = 32


class Tree:
    """A rooted ordered tree.

    Parameters
    ----------
    children : sequence of sequences of int
        The children of each node, from left to right; empty for a leaf. Nodes are
        in level order.

    Attributes
    ----------
    parent : array of int of shape (n_nodes,)
        -1 for the root.
    level : array of int of shape (n_nodes,)
        Distance from the root.
    inner : list of int
        Nodes with children, level by level: those that have a gate.
    leaves : list of int
        Nodes without children, from left to right.
    """

    def __init__(self, children: Sequence[Sequence[int]]) -> None:
        self.children = tuple(tuple(int(c) for c in some) for some in children)
        n_nodes = len(self.children)
        self.parent = np.full(n_nodes, -1, dtype=np.intp)
        self.level = np.zeros(n_nodes, dtype=np.intp)
        for node, some in enumerate(self.children):
            for child in some:
                self.parent[child] = node
                self.level[child] = self.level[node] + 1
        self.inner = [node for node, some in enumerate(self.children) if some]
        self.leaves = [
            node for node in self._left_to_right() if not self.children[node]
        ]

    @classmethod
    def complete(cls, branching: Sequence[int]) -> "Tree":
        """Return the tree whose nodes of level l all have branching[l] children."""
        children: list[list[int]] = []
        first, width = 0, 1
        for b in branching:
            after = first + width
            children += [
                list(range(after + b * k, after + b * (k + 1))) for k in range(width)
            ]
            first, width = after, width * b
        return cls(children + [[] for _ in range(width)])

    @classmethod
    def from_nested(cls, nested: object) -> "Tree":
        """Return the shape of nested lists: a list is a node, all else a leaf."""
        children: list[list[int]] = []
        queue = [nested]
        count = 1
        for item in queue:  # grows while it is walked: level by level
            own = list(item) if isinstance(item, list) else []
            children.append(list(range(count, count + len(own))))
            count += len(own)
            queue += own
        return cls(children)

    def nested(self, node: int = 0) -> object:
        """Return nested lists with the numbers of the leaves: undoes `from_nested`."""
        if not self.children[node]:
            return self.leaves.index(node)
        return [self.nested(child) for child in self.children[node]]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tree) and self.children == other.children

    def __hash__(self) -> int:
        return hash(self.children)

    def __repr__(self) -> str:
        return (
            f"Tree(n_leaves={self.n_leaves}, depth={self.depth}, "
            f"n_nodes={self.n_nodes})"
        )

    @property
    def n_nodes(self) -> int:
        """Number of nodes, leaves included."""
        return len(self.children)

    @property
    def n_leaves(self) -> int:
        """Number of leaves."""
        return len(self.leaves)

    @property
    def depth(self) -> int:
        """Gates on the longest path."""
        return int(self.level.max())

    def path(self, node: int) -> list[int]:
        """Return the nodes from the root to a node, both included."""
        path = [node]
        while self.parent[path[-1]] >= 0:
            path.append(int(self.parent[path[-1]]))
        return path[::-1]

    def leaves_under(self, node: int) -> list[int]:
        """Return the numbers of the leaves below a node, from left to right."""
        number = {leaf: k for k, leaf in enumerate(self.leaves)}
        return [number[n] for n in self._left_to_right(node) if not self.children[n]]

    def split(self, leaf: int, n_children: int = 2) -> "Tree":
        """Return the tree in which a leaf, by its number, has become a node."""
        return _with_leaf(self.nested(), leaf, [None] * n_children)

    def without(self, dead: Sequence[int]) -> "Tree":
        """Return the tree without some leaves; nodes with one child left vanish."""
        kept = _pruned(self.nested(), set(dead))
        if not isinstance(kept, list):
            return Tree([[]])
        return Tree.from_nested(kept)

    def remaining_choices(self, dead: Sequence[int]) -> list[tuple[int, list[int]]]:
        """Return which gates stay in `without`, and for which of their children.

        Returns
        -------
        choices : list of (gate, children)
            In the order of the new tree's ``inner``; the gate as a position in this
            tree's ``inner``, its children as positions among siblings.
        """
        alive = np.ones(self.n_nodes, dtype=bool)
        alive[[self.leaves[k] for k in dead]] = False
        for node in reversed(self.inner):
            alive[node] = any(alive[child] for child in self.children[node])
        queue, choices = [0], []
        for start in queue:  # grows while it is walked: level by level
            node = start
            children = self._living(node, alive)
            while len(children) == 1:  # nothing to choose: its child takes its place
                node = self.children[node][children[0]]
                children = self._living(node, alive)
            if children:
                choices.append((self.inner.index(node), children))
                queue += [self.children[node][j] for j in children]
        return choices

    def _living(self, node: int, alive: Bools) -> list[int]:
        return [j for j, child in enumerate(self.children[node]) if alive[child]]

    def _left_to_right(self, root: int = 0) -> list[int]:
        order, stack = [], [root]
        while stack:
            node = stack.pop()
            order.append(node)
            stack.extend(reversed(self.children[node]))
        return order


def _with_leaf(nested: object, leaf: int, new: list[None]) -> Tree:
    def replaced(part: object) -> object:
        if isinstance(part, list):
            return [replaced(child) for child in part]
        return new if part == leaf else part

    return Tree.from_nested(replaced(nested))


def _pruned(nested: object, dead: set[int]) -> object:
    """Return nested lists without dead leaves; None where nothing is left."""
    if not isinstance(nested, list):
        return None if nested in dead else nested
    kept = [_pruned(child, dead) for child in nested]
    kept = [child for child in kept if child is not None]
    if not kept:
        return None
    return kept if len(kept) > 1 else kept[0]


@dataclass
class Step:
    """The nodes of one level that have the same number of children.

    Attributes
    ----------
    level : int
    group : int
        Position of the group of gates that they belong to.
    gates : slice
        Their gates within the group.
    parents : slice or array of int of shape (n_gates,)
        Their slots.
    children : list of (slice or array of int of shape (n_gates,))
        For each child of a node the slots; the last slot stands for those left
        out.
    """

    level: int
    group: int
    gates: slice
    parents: Slots
    children: list[Slots]


class LevelPlan:
    """How to compute all gates of a tree, or of some of its paths, level by level.

    Gates with the same number b of children form a group, whose numbers lie in
    arrays of shape (b, n_gates, ...). Quantities of nodes lie in *slots*, one for
    each node that takes part and a last one for what is left out.

    Parameters
    ----------
    tree : Tree
    active : array of bool of shape (n_nodes,), default=None
        Nodes that take part; an active node's parent is active. None: all.

    Attributes
    ----------
    groups : list of (n_children, gates)
        ``gates`` holds positions in ``tree.inner``, level by level.
    steps : list of Step
        From the root down.
    n_slots : int
    leaves : array of int
        Numbers of the leaves that take part, from left to right.
    leaf_slots : array of int, or slice where they are contiguous
    below : array of shape (n_edges, n_leaves) or None
        `edges_to_leaves` for few leaves; else None.
    """

    def __init__(self, tree: Tree, active: Bools | None = None) -> None:
        on = np.ones(tree.n_nodes, dtype=bool) if active is None else active
        slot = np.full(tree.n_nodes, int(on.sum()), dtype=np.intp)
        slot[on] = np.arange(on.sum())
        self.n_slots = int(on.sum()) + 1
        leaf_nodes = np.array(tree.leaves, dtype=np.intp)
        self.leaves = np.flatnonzero(on[leaf_nodes])
        self.leaf_slots = _as_slice(slot[leaf_nodes[self.leaves]])
        arity = np.array([len(tree.children[node]) for node in tree.inner])
        inner = np.array(tree.inner, dtype=np.intp)
        self.groups: list[tuple[int, Ints]] = []
        self.steps: list[Step] = []
        for b in np.unique(arity):
            gates = np.flatnonzero((arity == b) & on[inner])
            if gates.size == 0:
                continue
            self._add_steps(tree, slot, inner[gates], len(self.groups))
            self.groups.append((int(b), gates))
        self.steps.sort(key=lambda step: step.level)
        self._tree = tree
        few = self.leaves.size <= MAX_MATRIX_LEAVES
        self.below = self.edges_to_leaves if few else None

    @cached_property
    def edges_to_leaves(self) -> Floats:
        """One where a leaf lies below an edge from a node to its child.

        Of shape (n_edges, n_leaves), edges group by group, child by child. Products
        with it take the place of the steps: for few leaves, and on a device for any
        number of them.
        """
        tree = self._tree
        inner = np.array(tree.inner, dtype=np.intp)
        under = np.zeros((tree.n_nodes, self.leaves.size))
        for k, number in enumerate(self.leaves):
            under[tree.path(tree.leaves[number]), k] = 1.0
        edges = [
            np.array([tree.children[node] for node in inner[gates]]).T.ravel()
            for _, gates in self.groups
        ]
        return under[np.concatenate([np.zeros(0, dtype=np.intp), *edges])]

    def _add_steps(self, tree: Tree, slot: Ints, nodes: Ints, group: int) -> None:
        children = np.array([tree.children[node] for node in nodes]).T
        level = tree.level[nodes]
        for depth in np.unique(level):
            start, stop = np.searchsorted(level, [depth, depth + 1])
            gates = slice(int(start), int(stop))
            below = [_as_slice(slot[some]) for some in children[:, gates]]
            parents = _as_slice(slot[nodes[gates]])
            self.steps.append(Step(int(depth), group, gates, parents, below))


def _as_slice(index: Ints) -> Slots:
    """Return evenly spaced positions as a slice, which takes views."""
    if index.size == 0:
        return index
    step = int(index[1] - index[0]) if index.size > 1 else 1
    if step > 0 and (np.diff(index) == step).all():
        return slice(int(index[0]), int(index[-1]) + 1, step)
    return index
