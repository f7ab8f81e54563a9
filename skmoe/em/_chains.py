"""Which rows of a table follow each other: sequences, known states, missing responses.

The counterpart of `skmoe.em._units.Units` for rows in time.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Chains"]

Ints = NDArray[np.intp]
Mask = NDArray[np.bool_]


@dataclass
class Chains:
    """What is said about rows in time beside X, y and weight.

    Attributes
    ----------
    sequence : array of int of shape (n_samples,)
        The sequence of each row, 0, 1, ... in the order in which they begin. Rows of
        a sequence follow each other as they stand in the table; between them there
        may be rows of others.
    labelled : array of bool of shape (n_samples,), or None
        Whether a row has a response; None where all have.
    state : array of int of shape (n_samples,), or None
        The expert of each row where it is known, -1 where not; None where no row's is.
    previous : array of shape (n_experts, n_sequences), or None
        Law of the expert in the row before a sequence; None where it begins anew.
    order : array of int of shape (n_samples,), or None
        The rows one sequence after the other; None where they stand so.
    starts : array of int of shape (n_sequences,)
        Places in that order where a sequence begins.
    """

    sequence: Ints
    labelled: Mask | None = None
    state: Ints | None = None
    previous: NDArray[np.float64] | None = None
    order: Ints | None = field(init=False)
    starts: Ints = field(init=False)

    group = None  # rows share no responsibility; see `Units`

    def __post_init__(self) -> None:
        together = bool((np.diff(self.sequence) >= 0).all())
        self.order = None if together else np.argsort(self.sequence, kind="stable")
        count = np.bincount(self.sequence)
        self.starts = np.concatenate([[0], np.cumsum(count)[:-1]]).astype(np.intp)

    @classmethod
    def single(cls, n_rows: int) -> "Chains":
        """Return rows that are one sequence."""
        return cls(np.zeros(n_rows, dtype=np.intp))

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return int(self.sequence.size)

    @property
    def n_sequences(self) -> int:
        """Number of sequences."""
        return int(self.starts.size)

    @property
    def first(self) -> Ints:
        """Rows in which a sequence begins, of shape (n_sequences,)."""
        return self.starts if self.order is None else self.order[self.starts]

    @property
    def last(self) -> Ints:
        """Rows in which a sequence ends, of shape (n_sequences,)."""
        ends = np.append(self.starts[1:], self.n_rows) - 1
        return ends if self.order is None else self.order[ends]

    @cached_property
    def follows(self) -> Mask:
        """Whether a row follows another one, in the order of the sequences."""
        follows = np.ones(self.n_rows, dtype=bool)
        follows[self.starts] = False
        return follows

    @cached_property
    def places(self) -> Ints:
        """Places in that order where a row follows another one."""
        return np.flatnonzero(self.follows)

    @cached_property
    def followers(self) -> tuple[Ints, Ints]:
        """Rows that follow another one, and those that they follow."""
        places = self.places
        if self.order is None:
            return places, places - 1
        return self.order[places], self.order[places - 1]

    def in_order(self, rows: Any) -> Any:
        """Return an array (..., n_samples) one sequence after the other."""
        return rows if self.order is None else rows[..., self.order]

    def back(self, rows: Any) -> Any:
        """Return what `in_order` would turn into the given array."""
        if self.order is None:
            return rows
        out = np.empty_like(rows)
        out[..., self.order] = rows
        return out

    def take(self, rows: Any) -> "Chains":
        """Return the same for some of the rows."""
        kept = [None if a is None else a[rows] for a in (self.labelled, self.state)]
        _, first, code = np.unique(
            self.sequence[rows], return_index=True, return_inverse=True
        )
        rank = np.argsort(np.argsort(first))
        return replace(self, sequence=rank[code], labelled=kept[0], state=kept[1])
