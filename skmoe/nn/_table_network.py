"""Networks of one layer that routes: rows of a table in, raw outputs out."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from skmoe.nn._arguments import activation_named, positives
from skmoe.nn._mmoe import TaskOutputs
from skmoe.nn._table_rows import TableRows
from skmoe.nn.routing._routed_module import RoutedModule

__all__ = ["Part", "TableNetwork", "part_of"]


class Part(NamedTuple):
    """What a part of a network consists of.

    Attributes
    ----------
    matrices, others : int
        Parameters in matrix products, and those that are added or looked up.
    share : float
        The part of both that is read for one row in prediction.
    """

    matrices: int
    others: int
    share: float = 1.0


class TableNetwork(RoutedModule):
    """Constant outputs, a linear map of the row, and a layer that routes, added up.

    A row that the layer drops keeps the other two. A subclass has the layer:
    ``routed(numbers, codes, hidden)``.

    Parameters
    ----------
    rows : TableRows
    n_outputs : sequence of int
        Raw outputs of each task.
    stem_hidden : sequence of int
        Widths of layers that all rows pass in front of the layer that routes.
    activation : str
        Of those layers.
    linear : bool
        Whether there is a linear map; it starts at zero.
    """

    # What a network of several tasks may have besides.
    n_members = 1
    transfer = parents = None

    def __init__(
        self,
        rows: TableRows,
        n_outputs: Sequence[int],
        *,
        stem_hidden: Sequence[int],
        activation: str,
        linear: bool,
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        self.rows = rows
        self.n_outputs = positives(owner, "n_outputs", n_outputs)
        total = sum(self.n_outputs)
        widths = [rows.width, *positives(owner, "stem_hidden", stem_hidden)]
        self.stem = nn.Sequential()
        for width, wider in pairwise(widths):
            self.stem.append(nn.Linear(width, wider))
            self.stem.append(activation_named(owner, activation))
        self.width = widths[-1]
        self.bias = nn.Parameter(torch.zeros(total))
        self.linear: nn.Linear | None = None
        if linear:
            self.linear = nn.Linear(rows.width, total, bias=False)
            nn.init.zeros_(self.linear.weight)

    def routed(self, numbers: Tensor, codes: Tensor, hidden: Tensor) -> Tensor:
        """Return what the layer that routes makes of rows."""
        raise NotImplementedError

    def routing(self, numbers: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Return weights and choices of experts, each of shape (n_rows, n_experts)."""
        raise NotImplementedError

    def layer_parts(self) -> list[Part]:
        """Return what the layer that routes consists of."""
        raise NotImplementedError

    @property
    def numbers_per_row(self) -> int:
        """Numbers that a row takes in evaluation, about."""
        return self.rows.width + self.width

    def size(self) -> dict[str, int]:
        """Return parameters, and multiplications and additions a row.

        All of them, and those for one row in prediction: "parameters",
        "active_parameters", "operations", "active_operations". Operations are those
        of matrix products, two for each number in a matrix.
        """
        table, rows = self.rows.table.weight, self.rows
        n_codes = rows.n_columns + rows.list_length
        embedding = sum(p.numel() for p in rows.parameters()) - table.numel()
        parts = [
            Part(0, table.numel(), n_codes / len(table)),
            Part(0, embedding),
            part_of(self.stem),
            Part(0, self.bias.numel()),
            *self.layer_parts(),
        ]
        if self.linear is not None:
            parts.append(part_of(self.linear))
        return {
            "parameters": sum(part.matrices + part.others for part in parts),
            "active_parameters": round(
                sum((part.matrices + part.others) * part.share for part in parts)
            ),
            "operations": 2 * sum(part.matrices for part in parts),
            "active_operations": 2
            * round(sum(part.matrices * part.share for part in parts)),
        }

    def start_at(self, raw: Tensor) -> None:
        """Let the constants start at raw outputs, such as base rates."""
        with torch.no_grad():
            self.bias.copy_(raw)

    def hidden(self, numbers: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Return rows as they are, and as the layer that routes gets them."""
        vectors = self.rows(numbers, codes)[:, 0]
        return vectors, self.stem(vectors)

    def forward(self, numbers: Tensor, codes: Tensor) -> TaskOutputs:
        """Return raw outputs of shape (n_rows, 1, total number of outputs).

        Parameters
        ----------
        numbers : tensor of shape (n_rows, n_numbers)
        codes : integer tensor of shape (n_rows, n_codes)
        """
        vectors, hidden = self.hidden(numbers, codes)
        raw = self.bias + self.routed(numbers, codes, hidden)
        if self.linear is not None:
            raw = raw + self.linear(vectors)
        return TaskOutputs(raw[:, None], [])


def part_of(module: nn.Module) -> Part:
    """Return a part that is read in full."""
    params = list(module.parameters())
    matrices = sum(param.numel() for param in params if param.ndim == 2)
    return Part(matrices, sum(param.numel() for param in params) - matrices)
