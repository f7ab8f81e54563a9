"""Lists of codes, cut and padded to one length."""

from dataclasses import dataclass

import numpy as np

__all__ = ["PADDING", "ListSlot", "last_entries", "padded"]

PADDING = 0


@dataclass(frozen=True)
class ListSlot:
    """Where the codes hold a list.

    Attributes
    ----------
    name : str or int
        Of the column of X.
    start, length : int
        Columns ``start`` to ``start + length`` of the codes.
    pooling : {"mean", "sum", "attention"}
    target : int or None
        Column of the codes with the item that the list attends to.
    """

    name: str | int
    start: int
    length: int
    pooling: str
    target: int | None


def last_entries(lengths, most):
    """Return which entries are among the last ones of their list.

    Parameters
    ----------
    lengths : integer array of shape (n_rows,)
    most : int
        So many entries of a list are kept.

    Returns
    -------
    kept : bool array of shape (lengths.sum(),)
    """
    ends = np.repeat(np.cumsum(lengths), lengths)
    return ends - np.arange(len(ends)) <= most


def padded(codes, lengths, length):
    """Return lists side by side, padded on the right.

    Parameters
    ----------
    codes : integer array of shape (n_kept,)
        The last entries of each list, at most `length`.
    lengths : integer array of shape (n_rows,)
        Before lists were cut.
    length : int

    Returns
    -------
    rows : 32-bit integer array of shape (n_rows, length)
    """
    rows = np.full((len(lengths), length), PADDING, dtype=np.int32)
    rows[np.arange(length) < lengths[:, None]] = codes
    return rows
