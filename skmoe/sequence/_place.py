"""Where rows stand in time: `lengths`, `groups`, `times` and `states`, checked."""

import numpy as np

from skmoe._xp import to_numpy
from skmoe.em._chains import Chains
from skmoe.em._units import group_codes

__all__ = [
    "check_same_weight",
    "known_states",
    "names_of",
    "read_chains",
    "read_previous",
]


def read_chains(X, n_rows, lengths=None, groups=None, times=None):
    """Return which rows follow each other.

    Parameters
    ----------
    X : table
        An index of dates is taken for ``times`` where these are not given.
    n_rows : int
    lengths, groups, times : array-like or None

    Returns
    -------
    chains : Chains

    Raises
    ------
    ValueError
        If lengths do not add up, or time does not rise within a sequence.
    """
    if lengths is not None and groups is not None:
        raise ValueError("give lengths or groups, not both: each says what follows.")
    if lengths is not None:
        lengths = _checked_lengths(lengths, n_rows)
        chains = Chains(np.repeat(np.arange(lengths.size), lengths))
    elif groups is not None:
        code = group_codes(to_numpy(groups), n_rows)
        _, first, code = np.unique(code, return_index=True, return_inverse=True)
        chains = Chains(np.argsort(np.argsort(first))[code])
    else:
        chains = Chains.single(n_rows)
    times = _dates_of(X) if times is None else times
    if times is not None:
        _check_times(times, chains)
    return chains


def names_of(groups, rows=slice(None)):
    """Return the names of some rows' sequences as they begin; None without groups."""
    if groups is None:
        return None
    return list(dict.fromkeys(np.asarray(to_numpy(groups))[rows].tolist()))


def _checked_lengths(lengths, n_rows):
    """Return lengths of sequences as positive integers that add up."""
    given = np.atleast_1d(np.asarray(to_numpy(lengths)))
    numbers = given.dtype.kind in "iuf" and given.ndim == 1 and given.size > 0
    whole = numbers and np.isfinite(given).all() and (given == np.floor(given)).all()
    if not whole or (given < 1).any():
        raise ValueError(
            "lengths must be whole numbers >= 1, the rows of each sequence, got "
            f"{lengths!r}."
        )
    if given.sum() != n_rows:
        raise ValueError(
            f"lengths must add up to the {n_rows} rows of X, got {given.size} lengths "
            f"that add up to {int(given.sum())}."
        )
    return given.astype(np.intp)


def _dates_of(X):
    """Return the index of a data frame if it is one of dates."""
    index = getattr(X, "index", None)
    kind = type(index).__name__
    if kind == "PeriodIndex":
        return index.to_timestamp()
    return index if kind == "DatetimeIndex" else None


def _check_times(times, chains):
    """Raise a ValueError unless time rises within each sequence."""
    values = np.asarray(to_numpy(times))
    if values.shape != (chains.n_rows,):
        raise ValueError(
            f"times must hold one time for each of the {chains.n_rows} rows of X, got "
            f"shape {values.shape}."
        )
    rows, before = chains.followers
    wrong = np.flatnonzero(~(values[rows] > values[before]))
    if wrong.size:
        row, last = int(rows[wrong[0]]), int(before[wrong[0]])
        raise ValueError(
            f"time does not rise: row {row} has {values[row]} after {values[last]} in "
            f"row {last} of the same sequence. Sort the rows of each sequence by time."
        )


def known_states(states, n_rows, n_experts):
    """Return the expert of each row as integers, -1 where unknown; None for none.

    Raises
    ------
    ValueError
        If there is not one for each row, or some expert does not exist.
    """
    if states is None:
        return None
    given = np.asarray(to_numpy(states))
    whole = given.dtype.kind in "iu" or (
        given.dtype.kind == "f" and np.array_equal(given, np.floor(given))
    )
    if given.shape != (n_rows,) or not whole:
        raise ValueError(
            f"states must hold an integer for each of the {n_rows} rows of X, the "
            f"position of its expert or -1, got shape {given.shape} of type "
            f"{given.dtype}."
        )
    if given.min() < -1 or given.max() >= n_experts:
        raise ValueError(
            f"states must be from 0 to {n_experts - 1}, or -1 where unknown, got "
            f"values from {given.min():g} to {given.max():g}."
        )
    given = given.astype(np.intp)
    return given if (given >= 0).any() else None


def read_previous(previous, n_sequences, n_experts):
    """Return the law of the experts in the rows before the first, or None.

    Returns
    -------
    previous : array of shape (n_experts, n_sequences), or None

    Raises
    ------
    ValueError
        If it is not made of probabilities, for all sequences or for each.
    """
    if previous is None:
        return None
    given = np.asarray(to_numpy(previous), dtype=float)
    shared = given.shape == (n_experts,)
    law = np.broadcast_to(given, (n_sequences, n_experts)) if shared else given
    fits = law.shape == (n_sequences, n_experts)
    if not fits or (law < 0).any() or not np.allclose(law.sum(axis=1), 1.0):
        raise ValueError(
            "previous must hold probabilities of the experts that sum to 1, of shape "
            f"({n_experts},) or ({n_sequences}, {n_experts}): the rows of `filter` at "
            f"the ends of what came before; got shape {given.shape}."
        )
    return np.ascontiguousarray(law.T)


def check_same_weight(weight, chains):
    """Raise a ValueError unless all rows of a sequence have the same weight."""
    rows, before = chains.followers
    wrong = np.flatnonzero(weight[rows] != weight[before])
    if wrong.size:
        row = int(rows[wrong[0]])
        raise ValueError(
            "sample_weight must be the same in all rows of a sequence (a sequence of "
            f"weight 2 counts as two), got {weight[row]:g} in row {row} after "
            f"{weight[before[wrong[0]]]:g}. For a row without a response set y to NaN."
        )
