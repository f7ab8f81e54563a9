"""From a fitted node to the predictive law of new rows."""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmoe._blocks import blocks_of, row_blocks
from skmoe._xp import (
    concatenate,
    is_foreign,
    is_out_of_memory,
    namespace,
    release_memory,
)
from skmoe.distribution import MixtureDistribution
from skmoe.em._node import Node, take_columns
from skmoe.em._sums import LEAST_ROWS
from skmoe.exceptions import SmallerBlocksWarning
from skmoe.experts._expanded import ExpandedExpert
from skmoe.gates._tree import GateTree, log_normalised

__all__ = ["keep_top", "law", "law_at", "law_given", "point", "top_means"]

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
    if is_foreign(log_gate):
        xp = namespace(log_gate)
        order = xp.argsort(log_gate, axis=1, descending=True, stable=True)
        least = xp.argsort(order, axis=1) < top_k
        kept: Array = log_normalised(xp.where(least, log_gate, -np.inf))
        return kept
    order = np.argsort(-log_gate, axis=1, kind="stable")[:, :top_k]
    kept = np.full_like(log_gate, -np.inf)
    rows = np.arange(log_gate.shape[0])[:, None]
    kept[rows, order] = log_gate[rows, order]
    return np.asarray(log_normalised(kept))


def law(node: Node, X: Any, top_k: int | None = None) -> MixtureDistribution:
    """Return the law of each row; experts outside its top k are not evaluated."""
    log_gate = _as_array(node.gate.log_proba(take_columns(X, node.gate_columns)))
    return law_given(node, X, keep_top(log_gate, top_k), _winner(node, X, top_k))


def law_given(
    node: Node, X: Any, log_gate: Array, winner: Any = None
) -> MixtureDistribution:
    """Return the law of each row, where the law of its expert is known.

    Parameters
    ----------
    log_gate : array of shape (n_samples, n_experts)
    winner : array of int of shape (n_samples,), default=None
        The expert whose mean is ``top1``; None for the most probable one.
    """
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
        winner=winner,
    )


def point(node: Node, X: Any, top_k: int | None, name: str) -> Any:
    """Return a point of the law of each row, such as its mean, block by block.

    Rows times experts is more than one wants in memory at a time.
    """

    def evaluate(part: Any, _: Any) -> Any:
        return _point(law(node, part, top_k), name)

    blocks = [by_halves(evaluate, part, None) for part in _parts(node, X)]
    return concatenate([found for block in blocks for found in block])


def _point(distribution: MixtureDistribution, name: str) -> Any:
    if name == "mode":
        distribution = distribution.on_host()
    return getattr(distribution, name)


def _parts(node: Node, X: Any) -> Iterator[Any]:
    """Yield blocks of rows."""
    if is_foreign(X):
        for rows in blocks_of(X, 16 * len(node.experts) + 4 * X.shape[1]):
            yield X[rows, ...]
        return
    for rows in row_blocks(X.shape[0], POINT_ROWS):
        yield X[rows]


def law_at(node: Node, X: Any, y: Any, top_k: int | None, *names: str) -> list[Any]:
    """Return what the law of each row says of its response, such as "log_prob"."""

    def evaluate(part: Any, own: Any) -> list[Any]:
        distribution = law(node, part, top_k)
        return [getattr(distribution, name)(own) for name in names]

    if not is_foreign(X):
        return evaluate(X, y)
    blocks, start = [], 0
    for part in _parts(node, X):
        stop = start + part.shape[0]
        blocks += by_halves(evaluate, part, y[start:stop, ...])
        start = stop
    return [concatenate(list(found)) for found in zip(*blocks, strict=True)]


def by_halves(evaluate: Callable[[Any, Any], Any], X: Any, y: Any) -> list[Any]:
    """Return what rows evaluate to, in pieces where a device's memory is used up."""
    try:
        return [evaluate(X, y)]
    except Exception as error:
        if not is_out_of_memory(error) or X.shape[0] <= LEAST_ROWS:
            raise
    # Outside of the handler: its traceback would hold the arrays.
    release_memory(X)
    middle = X.shape[0] // 2
    warnings.warn(
        f"the memory of the device was used up: going on with {middle} rows at a time.",
        SmallerBlocksWarning,
        stacklevel=2,
    )
    found = []
    for rows in (slice(0, middle), slice(middle, X.shape[0])):
        found += by_halves(evaluate, X[rows, ...], None if y is None else y[rows, ...])
    return found


def _as_array(values: Any) -> Any:
    return values if is_foreign(values) else np.asarray(values)


def _winner(node: Node, X: Any, top_k: int | None) -> Any:
    """Return the leaf at the end of each row's most probable path."""
    gate = node.gate
    if top_k is None and isinstance(gate, GateTree) and len(gate.gates) > 1:
        return _as_array(gate.descend(X))
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


def _params(expert: Any, view: Any, used: Any) -> Any:
    """Evaluate an expert on the rows that use it, one row at the least.

    The others get the parameters of the first of these: whatever the family,
    they are valid, so that nothing computed of them overflows or is NaN.
    """
    if is_foreign(used):
        return _foreign_params(expert, view, used)
    if used.all():
        return np.asarray(expert.predict_params(view))
    rows = np.flatnonzero(used) if used.any() else np.zeros(1, dtype=int)
    some = np.asarray(expert.predict_params(view[rows]))
    out = np.repeat(some[:1], used.size, axis=0)
    out[rows] = some
    return out


def _foreign_params(expert: Any, view: Any, used: Any) -> Any:
    """Return the same for rows that lie elsewhere: others get a neighbour's."""
    xp = namespace(view)
    if bool(xp.all(used)):
        return expert.predict_params(view)
    rows = xp.nonzero(used)[0]
    if rows.shape[0] == 0:
        rows = xp.zeros_like(xp.nonzero(~used)[0][:1])
    some = expert.predict_params(xp.take(view, rows, axis=0))
    place = xp.cumulative_sum(xp.astype(used, xp.int64)) - 1
    return xp.take(some, xp.clip(place, min=0, max=some.shape[0] - 1), axis=0)
