"""From a fitted node to the predictive law of new rows."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmoe.distribution import MixtureDistribution
from skmoe.em._node import Node, take_columns

__all__ = ["keep_top", "law"]

Array = NDArray[np.float64]


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
    peak = kept.max(axis=1, keepdims=True)
    total = np.log(np.exp(kept - peak).sum(axis=1, keepdims=True))
    return np.asarray(kept - (peak + total))


def law(node: Node, X: Any, top_k: int | None = None) -> MixtureDistribution:
    """Return the law of each row; experts outside its top k are not evaluated."""
    log_gate = np.asarray(node.gate.log_proba(take_columns(X, node.gate_columns)))
    log_gate = keep_top(log_gate, top_k)
    params = []
    for k, (_, expert) in enumerate(node.experts):
        view = take_columns(X, node.columns[k])
        params.append(_params(expert, view, log_gate[:, k] > -np.inf))
    like = next(p for p in params if p is not None)
    full = [np.zeros_like(like) if p is None else p for p in params]
    experts = [expert for _, expert in node.experts]
    return MixtureDistribution(
        log_gate,
        full,
        [expert.dispersion for expert in experts],
        [expert.likelihood for expert in experts],
    )


def _params(expert: Any, view: Any, used: NDArray[np.bool_]) -> Array | None:
    """Evaluate an expert on the rows that use it; zeros stand for the others."""
    if used.all():
        return np.asarray(expert.predict_params(view))
    if not used.any():
        return None
    some = np.asarray(expert.predict_params(view[used]))
    out = np.zeros((used.size, *some.shape[1:]))
    out[used] = some
    return out
