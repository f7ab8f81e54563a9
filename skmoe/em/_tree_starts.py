"""Starts for trees: each node shares its rows out among its children.

A start is a soft path: the responsibility of a leaf is the product of the shares
along its path. Shares are logistic in a column (or in a direction), so that gates
of the usual kind can take them over after a few steps.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmoe._tree import Tree
from skmoe.em._chain_starts import chain_portfolio
from skmoe.em._starts import (
    SHARP_GATE_STEPS,
    Start,
    StartData,
    gaussian_start,
    kmeans_labels,
    n_random_starts,
    portfolio,
    segments_start,
    soften,
)
from skmoe.em._tree_split import TreeSplitter

__all__ = ["starts_of", "tree_portfolio"]

Array = NDArray[np.float64]
Ints = NDArray[np.intp]
# Shares of the children, (n_children, n_samples), from a node's rows.
Share = Callable[[Ints, int], Array]

# Width of a soft split, in standard deviations of the column within the node:
# the paper's "margin". A sharp one is close to a tree's own split.
SOFT, SHARP = 0.25, 0.05
KMEANS_CONFIDENCE = 0.9
GATE_STEPS = 5
# Ordered segments are found by dynamic programming over pairs of bins.
MAX_SEGMENTS = 32


def recursive_shares(tree: Tree, n_samples: int, share: Share) -> Array:
    """Return responsibilities of shape (n_leaves, n_samples).

    Parameters
    ----------
    tree : Tree
    n_samples : int
    share : callable
        ``share(rows, n_children)`` returns the shares of the children for all
        rows, as learned from the rows of the node.
    """
    reach = {0: np.ones(n_samples)}
    rows_at = {0: np.arange(n_samples)}
    for node in tree.inner:
        children = tree.children[node]
        rows, own = rows_at.pop(node), reach.pop(node)
        shares = share(rows, len(children))
        side = shares[:, rows].argmax(axis=0)
        for j, child in enumerate(children):
            reach[child] = own * shares[j]
            rows_at[child] = rows[side == j]
    return np.stack([reach[leaf] for leaf in tree.leaves])


def model_tree(data: StartData, tree: Tree, width: float) -> Array:
    """Grow a model tree of the given shape, its splits softened by a width."""
    splitter = TreeSplitter(data)

    def share(rows: Ints, n_children: int) -> Array:
        return splitter.shares(rows, n_children, width)

    return recursive_shares(tree, data.weight.size, share)


def _kmeans_tree(data: StartData, tree: Tree) -> Array:
    n_samples = data.weight.size

    def share(rows: Ints, n_children: int) -> Array:
        if not _has_points(data.gate_X[rows], n_children):
            return np.full((n_children, n_samples), 1.0 / n_children)
        points = data.gate_X
        labels = kmeans_labels(points[rows], data.weight[rows], n_children)
        centre = np.stack([_mean(data, rows[labels == k]) for k in range(n_children)])
        # All rows need a share: each goes to the nearest centre.
        distance = (centre**2).sum(axis=1)[:, None] - 2.0 * centre @ points.T
        return soften(distance.argmin(axis=0), n_children, KMEANS_CONFIDENCE)

    return recursive_shares(tree, n_samples, share)


def _has_points(points: Array, n_clusters: int) -> bool:
    """Return whether there are more distinct rows than clusters, by a column's look."""
    return any(np.unique(column).size > n_clusters for column in points.T)


def _mean(data: StartData, rows: Ints) -> Array:
    if rows.size == 0:
        return np.full(data.gate_X.shape[1], 1e6)  # nobody's nearest
    weight = data.weight[rows]
    return np.asarray(weight @ data.gate_X[rows] / weight.sum())


def _random_tree(data: StartData, tree: Tree, rng: Any) -> Array:
    """Split every node near its middle across random directions.

    The directions are drawn in units of the columns and the cuts in units of the
    node's weighted moments, so that repeated rows are rows of larger weight.
    """
    n_samples, d = data.gate_X.shape

    def share(rows: Ints, n_children: int) -> Array:
        logits = np.zeros((n_children, n_samples))
        for j in range(1, n_children):
            direction, shift = rng.standard_normal(d), 0.5 * rng.standard_normal()
            if rows.size == 0:
                continue
            value = data.gate_X @ direction
            weight = data.weight[rows] / data.weight[rows].sum()
            mean = float(weight @ value[rows])
            spread = float(np.sqrt(weight @ (value[rows] - mean) ** 2))
            if spread > 1e-9 * (1.0 + abs(mean)):  # else rounding alone
                logits[j] = ((value - mean) / spread - shift) / SOFT
        peak = logits.max(axis=0)
        odds = np.exp(logits - peak)
        return np.asarray(odds / odds.sum(axis=0))

    return recursive_shares(tree, n_samples, share)


def _tree_start(data: StartData, tree: Tree, rng: Any) -> Iterator[Start]:
    yield Start("tree", model_tree(data, tree, SOFT), GATE_STEPS)
    yield Start("tree_sharp", model_tree(data, tree, SHARP), SHARP_GATE_STEPS)


def _kmeans_start(data: StartData, tree: Tree, rng: Any) -> Iterator[Start]:
    yield Start("kmeans", _kmeans_tree(data, tree), GATE_STEPS)


def _segments_start(data: StartData, tree: Tree, rng: Any) -> Iterator[Start]:
    # Segments are ordered along their column, as leaves are from left to right.
    yield from segments_start(data, rng)


def _gaussian_start(data: StartData, tree: Tree, rng: Any) -> Iterator[Start]:
    yield from gaussian_start(data, rng)


def _random_start(data: StartData, tree: Tree, rng: Any) -> Iterator[Start]:
    while True:
        yield Start("random", _random_tree(data, tree, rng), GATE_STEPS)


Kind = Callable[[StartData, Tree, Any], Iterator[Start]]
TREE_KINDS: dict[str, Kind] = {
    "gaussian": _gaussian_start,
    "kmeans": _kmeans_start,
    "random": _random_start,
    "segments": _segments_start,
    "tree": _tree_start,
}


def tree_portfolio(
    init: str, n_init: int | None, data: StartData, tree: Tree, rng: Any
) -> Iterator[Start]:
    """Yield the starts that a constructor's init and n_init ask for.

    Parameters
    ----------
    init : str
        "auto" for every kind that suits the size, or one kind.
    n_init : int or None
        Number of starts; random ones fill up. None: all deterministic starts, and
        a few random ones where rows are few.
    data : StartData
    tree : Tree
    rng : numpy.random.RandomState
    """
    kinds: list[Kind]
    if init == "auto":
        kinds = [_tree_start, _kmeans_start]
        if tree.n_leaves <= MAX_SEGMENTS:
            kinds.insert(1, _segments_start)
        n_random = min(n_random_starts(data)[0], 8) if n_init is None else n_init
    else:
        kinds = [TREE_KINDS[init]]
        n_random = (4 if init == "random" else 0) if n_init is None else n_init
    count = 0
    for kind in kinds if init != "random" else []:
        for start in kind(data, tree, rng):
            count += 1
            yield start
            if count == n_init:
                return
    left = n_random - (count if n_init is not None else 0)
    if n_init is None and count + left == 0:
        left = 1  # no column can be cut: one random start instead
    for _, start in zip(range(left), _random_start(data, tree, rng), strict=False):
        yield start


def starts_of(
    init: str, n_init: int | None, data: StartData, rng: Any
) -> Iterator[Start]:
    """Yield the starts of a flat mixture, of a chain, or of a tree."""
    if data.chains is not None:
        return chain_portfolio(init, n_init, data, data.chains, rng)
    if data.tree is None:
        return portfolio(init, n_init, data, rng)
    return tree_portfolio(init, n_init, data, data.tree, rng)
