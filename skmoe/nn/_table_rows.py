"""Rows of a table as a network takes them: numbers, codes and lists of codes."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from skmoe.nn._arguments import rate
from skmoe.nn._code_table import CodeTable
from skmoe.nn._embeddings import PeriodicEmbedding, PiecewiseLinearEmbedding
from skmoe.nn._noise import ColumnDropout

__all__ = ["ListPooling", "TableRows"]

# Products with a matrix of 255 columns take a fifth longer than with one of 256.
ALIGNED, FEW_NUMBERS = 8, 64


class ListPooling(nn.Module):
    """One vector for a list of codes.

    "attention" weighs the entries by how well they go with the item that the row
    is about: a softmax of ``q' M k / sqrt(size)``, with q the item's vector, k an
    entry's and M trained, which starts at the unit matrix. The idea is that of
    Zhou, G. et al. (2018). Deep interest network for click-through rate
    prediction. KDD; they score by a small network and do not normalise.

    Parameters
    ----------
    pooling : {"mean", "sum", "attention"}
    start, length : int
        Columns of the codes that hold the list, padded with 0 on the right.
    target : int or None
        Column of the item, for "attention".
    size : int
        Numbers per vector.
    """

    def __init__(
        self, pooling: str, start: int, length: int, target: int | None, size: int
    ) -> None:
        super().__init__()
        self.pooling, self.start, self.length = pooling, start, length
        self.target = target
        attends = pooling == "attention"
        self.match = nn.Parameter(torch.eye(size)) if attends else None

    def forward(self, codes: Tensor, vectors: Tensor) -> Tensor:
        """Return one vector a row; zeros for an empty list.

        Parameters
        ----------
        codes : tensor of shape (n_rows, n_columns)
        vectors : tensor of shape (n_rows, n_columns, n_copies, size)

        Returns
        -------
        pooled : tensor of shape (n_rows, n_copies, size)
        """
        entries = slice(self.start, self.start + self.length)
        held = (codes[:, entries] != 0)[:, :, None]
        keys = vectors[:, entries]
        if self.match is not None and self.target is not None:
            query = vectors[:, self.target] @ self.match
            weight = _attention(query[:, None] / keys.shape[-1] ** 0.5, keys, held)
        else:
            weight = held.to(keys.dtype)
            if self.pooling == "mean":
                weight = weight / weight.sum(dim=1, keepdim=True).clamp(min=1.0)
        return (weight[..., None] * keys).sum(dim=1)


class TableRows(nn.Module):
    """Numbers, vectors of codes and pooled lists, side by side.

    Parameters
    ----------
    n_numbers, n_columns : int
        Columns of numbers, and of codes that are no list.
    n_codes : int
        Rows of the table of vectors.
    lists : sequence of objects with name, start, length, pooling and target
        Lists of codes, as `ListPooling` takes them.
    size : int
        Numbers per vector.
    scale : float
        Standard deviation of the first vectors.
    numbers : {"standard", "piecewise", "periodic"}
        Whether numbers go in as they are, or embedded.
    n_bins : int
        Of the piecewise-linear embedding.
    dropout : float, default=0.0
        Share of columns of codes that is left out of each row in training.
    n_copies : int, default=1
        Tables, each of which makes rows of its own: one a task where tasks share
        nothing.

    Attributes
    ----------
    width : int
        Numbers per row that comes out, filled up with zeros to a multiple of 8.
    list_length : int
        Columns of codes that hold lists.
    """

    def __init__(
        self,
        n_numbers: int,
        n_columns: int,
        n_codes: int,
        lists: Sequence[Any] = (),
        *,
        size: int = 8,
        scale: float = 0.05,
        numbers: str = "standard",
        n_bins: int = 16,
        dropout: float = 0.0,
        n_copies: int = 1,
    ) -> None:
        super().__init__()
        self.n_numbers, self.n_columns, self.n_copies = n_numbers, n_columns, n_copies
        self.size = size
        self.table = CodeTable(n_codes, n_copies * size, scale)
        self.dropout = ColumnDropout(rate("TableRows", "dropout", dropout))
        self.lists = nn.ModuleList(
            ListPooling(slot.pooling, slot.start, slot.length, slot.target, size)
            for slot in lists
        )
        self.list_length = sum(slot.length for slot in lists)
        self.embedding: PiecewiseLinearEmbedding | PeriodicEmbedding | None = None
        if n_numbers and numbers == "piecewise":
            self.embedding = PiecewiseLinearEmbedding(
                n_numbers, n_copies * size, n_bins=n_bins
            )
        elif n_numbers and numbers == "periodic":
            self.embedding = PeriodicEmbedding(n_numbers, n_copies * size)
        per_number = 1 if self.embedding is None else 1 + size
        n_vectors = n_columns + len(self.lists)
        width = n_numbers * per_number + n_vectors * size
        self.padding = -width % ALIGNED if width > FEW_NUMBERS else 0
        self.width = width + self.padding

    def learn(self, numbers: Tensor, weight: Tensor) -> None:
        """Set the bins of a piecewise-linear embedding, if there is one.

        Parameters
        ----------
        numbers : tensor of shape (n_rows, n_numbers)
        weight : tensor of shape (n_rows,)
        """
        if isinstance(self.embedding, PiecewiseLinearEmbedding):
            self.embedding.learn(numbers, weight)

    def forward(self, numbers: Tensor, codes: Tensor) -> Tensor:
        """Return rows of shape (n_rows, n_copies, width).

        Parameters
        ----------
        numbers : tensor of shape (n_rows, n_numbers)
        codes : integer tensor of shape (n_rows, n_columns and those of the lists)
        """
        n_rows, copies = numbers.shape[0], self.n_copies
        parts = []
        if self.n_numbers:
            parts.append(numbers[:, None].expand(n_rows, copies, self.n_numbers))
        if self.embedding is not None:
            parts.append(self._by_copy(self.embedding(numbers)))
        if codes.shape[1]:
            vectors = self.dropout(self.table(codes))
            if self.n_columns:
                parts.append(self._by_copy(vectors[:, : self.n_columns]))
            if len(self.lists):
                split = vectors.view(n_rows, -1, copies, self.size)
                parts.extend(pool(codes, split) for pool in self.lists)
        if self.padding:
            parts.append(numbers.new_zeros(n_rows, copies, self.padding))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)

    def _by_copy(self, vectors: Tensor) -> Tensor:
        """Return vectors (n, columns, copies * size) as (n, copies, columns * size)."""
        n_rows = vectors.shape[0]
        if self.n_copies == 1:
            return vectors.reshape(n_rows, 1, -1)
        split = vectors.view(n_rows, -1, self.n_copies, self.size).transpose(1, 2)
        return split.reshape(n_rows, self.n_copies, -1)


def _attention(query: Tensor, keys: Tensor, held: Tensor) -> Tensor:
    """Return the weights of the entries of lists, of shape (n, length, n_copies)."""
    score = (query * keys).sum(dim=-1)
    # A finite number where there is no entry: a row without any has no NaN.
    score = score.masked_fill(~held, torch.finfo(score.dtype).min)
    return torch.softmax(score, dim=1) * held
