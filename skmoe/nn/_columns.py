"""The columns of a table as a network takes them: numbers and category codes."""

from collections.abc import Mapping
from itertools import pairwise
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn

from skmoe.nn._arguments import check_rows, positive
from skmoe.nn._embeddings import (
    CategoryEmbedding,
    LinearEmbedding,
    PeriodicEmbedding,
    PiecewiseLinearEmbedding,
)

__all__ = ["ColumnEncoder"]


class ColumnEncoder(nn.Module):
    """Split rows into numbers and category codes and embed each kind.

    Parameters
    ----------
    owner : str
        The module whose arguments these are, for messages.
    n_inputs, embedding_size : int
    categories : mapping or iterable of pairs or None
        ``{column: number of categories}``.
    numeric : {None, "linear", "piecewise", "periodic"}
        How numbers are embedded; None passes them on as they are.
    n_bins, n_frequencies, frequency_scale :
        As for the embeddings.

    Attributes
    ----------
    category_columns : tuple of int
        Columns that hold codes, ascending.
    width : int
        Numbers per row when all parts are flattened.
    """

    def __init__(
        self,
        owner: str,
        n_inputs: int,
        embedding_size: int,
        *,
        categories: Any,
        numeric: str | None,
        n_bins: int,
        n_frequencies: int,
        frequency_scale: float,
    ) -> None:
        super().__init__()
        self.owner = owner
        self.n_inputs = positive(owner, "n_inputs", n_inputs)
        size = positive(owner, "embedding_size", embedding_size)
        counts = _checked_categories(owner, categories, self.n_inputs)
        self.category_columns = tuple(counts)
        numbers = [j for j in range(self.n_inputs) if j not in counts]
        # Slices, not an index: an index on the CPU is copied to the GPU each time.
        self.number_slices = _slices(numbers)
        self.code_slices = _slices(list(counts))
        self.codes = CategoryEmbedding(list(counts.values()), size) if counts else None
        self.numbers: nn.Module | None = None
        if numbers and numeric == "linear":
            self.numbers = LinearEmbedding(len(numbers), size)
        elif numbers and numeric == "piecewise":
            self.numbers = PiecewiseLinearEmbedding(len(numbers), size, n_bins=n_bins)
        elif numbers and numeric == "periodic":
            self.numbers = PeriodicEmbedding(
                len(numbers),
                size,
                n_frequencies=n_frequencies,
                frequency_scale=frequency_scale,
            )
        per_number = 1 if numeric is None else size
        self.width = len(numbers) * per_number + len(counts) * size

    def learn(self, X: Tensor, weight: Tensor | None = None) -> None:
        """Set what depends on the training rows: the bins, where there are any."""
        check_rows(self.owner, X, self.n_inputs)
        if isinstance(self.numbers, PiecewiseLinearEmbedding):
            self.numbers.learn(_taken(X, self.number_slices), weight)

    def forward(self, X: Tensor) -> list[Tensor]:
        """Return the parts: numbers, then codes, whichever there are.

        Numbers that are passed on are of shape (n_rows, n_numbers), all else of
        shape (n_rows, n_columns, embedding_size).
        """
        check_rows(self.owner, X, self.n_inputs)
        parts = []
        if self.number_slices:
            numbers = _taken(X, self.number_slices)
            parts.append(numbers if self.numbers is None else self.numbers(numbers))
        if self.codes is not None:
            parts.append(self.codes(_taken(X, self.code_slices)))
        return parts


def _checked_categories(owner: str, categories: Any, n_inputs: int) -> dict[int, int]:
    """Return {column: number of categories}, columns ascending.

    Raises
    ------
    ValueError
        If it is no mapping or pairs, or names a column that is not there.
    """
    if categories is None:
        return {}
    given = categories.items() if isinstance(categories, Mapping) else categories
    try:
        pairs = [(column, count) for column, count in given]
    except (TypeError, ValueError):
        raise ValueError(
            f"{owner}: categories must be {{column: number of categories}}, got "
            f"{categories!r}."
        ) from None
    counts = {}
    for column, count in pairs:
        if not isinstance(column, Integral) or column not in range(n_inputs):
            raise ValueError(
                f"{owner}: a column of categories must be an integer from 0 to "
                f"{n_inputs - 1}, got {column!r}."
            )
        counts[int(column)] = positive(owner, f"categories[{column}]", count)
    return dict(sorted(counts.items()))


def _slices(columns: list[int]) -> list[tuple[int, int]]:
    """Return ascending columns as runs (first, one past the last)."""
    if not columns:
        return []
    breaks = [b for a, b in pairwise(columns) if b != a + 1]
    ends = [a + 1 for a, b in pairwise(columns) if b != a + 1]
    return list(zip([columns[0], *breaks], [*ends, columns[-1] + 1], strict=True))


def _taken(X: Tensor, slices: list[tuple[int, int]]) -> Tensor:
    """Return some columns of X."""
    parts = [X[:, first:end] for first, end in slices]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
