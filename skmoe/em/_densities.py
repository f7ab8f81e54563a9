"""Log densities of experts and gates, experts first, for rows of any library."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmoe._xp import empty, is_foreign, namespace

__all__ = ["add_density", "experts_first", "rows_first", "share_of"]

Array = NDArray[np.float64]


def experts_first(log_gate: Any) -> Array:
    """Return log gates as an array (n_experts, n_samples) to be written to."""
    if not is_foreign(log_gate):
        return np.array(np.asarray(log_gate).T)
    joint: Array = empty(log_gate, log_gate.T.shape)
    joint[...] = log_gate.T
    return joint


def rows_first(resp: Array) -> Array:
    """Return responsibilities as an array (n_samples, n_experts)."""
    return resp.T if is_foreign(resp) else np.ascontiguousarray(resp.T)


def share_of(mask: Any) -> float:
    """Return the share of entries that are true."""
    if not is_foreign(mask):
        return float(np.mean(mask))
    xp = namespace(mask)
    return float(xp.mean(xp.astype(mask, xp.float64)))


def add_density(
    joint: Array, k: int, rows: NDArray[np.bool_], expert: Any, view: Any, y: Array
) -> None:
    """Add an expert's log densities of some rows, in place.

    Parameters
    ----------
    joint : array of shape (n_experts, n_samples)
    k : int
        The expert's number.
    rows : array of bool of shape (n_samples,)
    expert : Expert
    view : array of shape (n_samples, n_columns)
        The columns that it sees.
    y : array of shape (n_samples,) or (n_samples, n_outputs)
    """
    if is_foreign(joint):
        _add_foreign(joint, k, rows, expert, view, y)
    # Out-of-fold predictions belong to all rows, by identity.
    elif rows.all() or (rows.any() and getattr(expert, "cross_fit", False)):
        joint[k] += np.where(rows, expert.log_prob(view, y), 0.0)
    elif rows.any() and hasattr(expert, "log_prob_rows"):
        joint[k, rows] += expert.log_prob_rows(view, y, rows)
    elif rows.any():
        joint[k, rows] += expert.log_prob(view[rows], y[rows])


def _add_foreign(joint: Any, k: int, rows: Any, expert: Any, view: Any, y: Any) -> None:
    """Do so for rows of another library: not all can assign to some rows."""
    xp = namespace(joint)
    if bool(xp.all(rows)):
        joint[k, :] = joint[k, :] + expert.log_prob(view, y)
    elif bool(xp.any(rows)):
        index = xp.nonzero(rows)[0]
        part = expert.log_prob(xp.take(view, index, axis=0), xp.take(y, index, axis=0))
        place = xp.clip(xp.cumulative_sum(xp.astype(rows, xp.int64)) - 1, 0)
        joint[k, :] = joint[k, :] + xp.where(rows, xp.take(part, place), 0.0)
