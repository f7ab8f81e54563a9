"""From a fitted node to the predictive law of new rows."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmoe._blocks import row_blocks
from skmoe.distribution import MixtureDistribution
from skmoe.em._node import Node, take_columns
from skmoe.experts._expanded import ExpandedExpert
from skmoe.gates._tree import GateTree, log_normalised

__all__ = ["keep_top", "law", "point", "top_means"]

Array = NDArray[np.float64]

POINT_ROWS = 16_384


def keep_top(log_gate: Array, top_k: int | None) -> Array:
    """Keep the k most probable experts of each row and renormalise.

    Returns
    -------
    log_gate : array of shape (n_samples, n_experts)
        -inf for the experts that are left out.
    """
    if top_k is None or top_k >= log_gate.shape[1]:
        return log_gate
    order = np.argsort(-log_gate, axis=1, kind="stable")[:, :top_k]
    kept = np.full_like(log_gate, -np.inf)
    rows = np.arange(log_gate.shape[0])[:, None]
    kept[rows, order] = log_gate[rows, order]
    return np.asarray(log_normalised(kept))


def law(node: Node, X: Any, top_k: int | None = None) -> MixtureDistribution:
    """Return the law of each row; experts outside its top k are not evaluated."""
    log_gate = np.asarray(node.gate.log_proba(take_columns(X, node.gate_columns)))
    log_gate = keep_top(log_gate, top_k)
    views = Views(node, X)
    params = [
        _params(expert, views.of(k), log_gate[:, k] > -np.inf)
        for k, (_, expert) in enumerate(views.experts)
    ]
    experts = [expert for _, expert in node.experts]
    return MixtureDistribution(
        log_gate,
        params,
        [expert.dispersion for expert in experts],
        [expert.likelihood for expert in experts],
        winner=_winner(node, X, top_k),
    )


def point(node: Node, X: Any, top_k: int | None, name: str) -> Array:
    """Return a point of the law of each row, such as its mean, block by block.

    Rows times experts is more than one wants in memory at a time.
    """
    blocks = row_blocks(X.shape[0], POINT_ROWS)
    return np.concatenate([getattr(law(node, X[b], top_k), name) for b in blocks])


def _winner(node: Node, X: Any, top_k: int | None) -> NDArray[np.intp] | None:
    """Return the leaf at the end of each row's most probable path."""
    gate = node.gate
    if top_k is None and isinstance(gate, GateTree) and len(gate.gates) > 1:
        return np.asarray(gate.descend(X))
    return None


class Views:
    """What each expert of a fitted node sees of some rows.

    Clones behind one transformer share its output, which is computed once.

    Parameters
    ----------
    node : Node
    X : array of shape (n_samples, n_features)
    """

    def __init__(self, node: Node, X: Any) -> None:
        self.node, self.X = node, X
        first = node.experts[0][1]
        self.expanded = None
        self.experts = node.experts
        if isinstance(first, ExpandedExpert) and all(
            getattr(expert, "transformer_", None) is first.transformer_
            for _, expert in node.experts
        ):
            self.expanded = first.expand(take_columns(X, node.columns[0]))
            self.experts = [(name, expert.native) for name, expert in node.experts]

    def of(self, k: int) -> Any:
        """Return the columns that expert k of ``experts`` works on."""
        if self.expanded is not None:
            return self.expanded
        return take_columns(self.X, self.node.columns[k])


def top_means(node: Node, X: Any, winner: NDArray[np.intp]) -> Array:
    """Return the mean of one expert for each row, the others not evaluated."""
    out = None
    views = Views(node, X)
    for k, (_, expert) in enumerate(views.experts):
        rows = np.flatnonzero(winner == k)
        if rows.size:
            params = expert.predict_params(views.of(k)[rows])
            some = np.asarray(expert.likelihood.mean(params, expert.dispersion))
            if out is None:
                out = np.empty((winner.size, *some.shape[1:]))
            out[rows] = some
    assert out is not None
    return out


def _params(expert: Any, view: Any, used: NDArray[np.bool_]) -> Array:
    """Evaluate an expert on the rows that use it, one row at the least.

    The others get the parameters of the first of these: whatever the family,
    they are valid, so that nothing computed of them overflows or is NaN.
    """
    if used.all():
        return np.asarray(expert.predict_params(view))
    rows = np.flatnonzero(used) if used.any() else np.zeros(1, dtype=int)
    some = np.asarray(expert.predict_params(view[rows]))
    out = np.repeat(some[:1], used.size, axis=0)
    out[rows] = some
    return out
