"""Starts from a fit with one expert fewer, or one more."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmoe.em._merge import merge_costs, merged, pairs_by_cost
from skmoe.em._node import Node
from skmoe.em._start_data import start_data
from skmoe.em._tree_split import TreeSplitter
from skmoe.em._tree_starts import SOFT

__all__ = ["merge_starts", "split_starts"]

Array = NDArray[np.float64]
Rows = tuple[Any, Array, Array, int | None]

# Responsibility that a new expert takes of the rows that it is to explain.
TAKEN = 0.9
# How far the halves of an expert lean apart: hardly, so that they begin as one.
LEAN = 0.02


def merge_starts(node: Node, resp: Array, rows: Rows, most: int) -> list[Array]:
    """Return responsibilities of one expert fewer: the closest pairs merged.

    Parameters
    ----------
    node : Node
        Fitted, and bound to the rows.
    resp : array of shape (n_experts, n_samples)
    rows : tuple (X, y, weight, n_classes)
    most : int

    Returns
    -------
    starts : list of arrays of shape (n_experts - 1, n_samples)
        The most promising one first.
    """
    cost = merge_costs(node, resp, *rows[:3])
    return [merged(resp, *pair) for pair in pairs_by_cost(cost, most)]


def split_starts(
    node: Node, resp: Array, log_prob: Array, rows: Rows, most: int
) -> list[Array]:
    """Return responsibilities of one expert more.

    The first start halves the largest expert, whose halves lean apart by very little:
    it begins at the likelihood of the smaller fit, so that EM from there, which climbs,
    cannot end below it. In others an expert is cut where a model tree would cut its
    rows, or the new expert takes the rows that the fit explains worst.

    Parameters
    ----------
    node : Node
        Fitted, and bound to the rows.
    resp : array of shape (n_experts, n_samples)
    log_prob : array of shape (n_samples,)
        Log density of each row under the fit.
    rows : tuple (X, y, weight, n_classes)
    most : int

    Returns
    -------
    starts : list of arrays of shape (n_experts + 1, n_samples)
    """
    weight = rows[2]
    mass = resp @ weight
    largest = int(mass.argmax())
    splitter = TreeSplitter(start_data(node, *rows))
    cuts = {int(k): _cut(splitter, resp[k], weight) for k in np.argsort(-mass)}
    first = cuts[largest]
    half = np.full((2, weight.size), 0.5)
    starts = [
        _divided(resp, largest, half if first is None else half + LEAN * (first - 0.5))
    ]
    starts += [_divided(resp, k, cut) for k, cut in cuts.items() if cut is not None]
    share = 1.0 / (len(resp) + 1)
    worst = log_prob <= np.quantile(
        log_prob, share, weights=weight, method="inverted_cdf"
    )
    starts.insert(2, np.vstack([resp * (1.0 - TAKEN * worst), TAKEN * worst]))
    return starts[:most]


def _cut(splitter: TreeSplitter, resp: Array, weight: Array) -> Array | None:
    """Return soft shares (2, n_samples) of two parts of an expert's rows, if any."""
    own = np.flatnonzero(resp > 1e-3)
    mass = weight[own] * resp[own]
    split = splitter.best_split(own, mass)
    return None if split is None else splitter.shares_of(split, own, mass, 2, SOFT)


def _divided(resp: Array, expert: int, shares: Array) -> Array:
    """Return responsibilities with one expert's shared out between it and a new one."""
    parts = resp[expert] * shares
    divided = np.vstack([resp, parts[1]])
    divided[expert] = parts[0]
    return divided
