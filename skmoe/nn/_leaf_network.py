"""A fast feedforward layer on rows of a table."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from skmoe.nn._fast_feedforward import FastFeedforward
from skmoe.nn._table_network import Part, TableNetwork, part_of
from skmoe.nn._table_rows import TableRows

__all__ = ["LeafNetwork"]


class LeafNetwork(TableNetwork):
    """A fast feedforward layer on rows of a table.

    Parameters
    ----------
    rows : TableRows
    n_outputs : sequence of int
        Raw outputs of each task.
    stem_hidden, activation, linear :
        As for `TableNetwork`; the leaves have the same activation.
    options :
        Further arguments of `FastFeedforward`.
    """

    def __init__(
        self,
        rows: TableRows,
        n_outputs: Sequence[int],
        *,
        stem_hidden: Sequence[int] = (),
        activation: str = "relu",
        linear: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(
            rows,
            n_outputs,
            stem_hidden=stem_hidden,
            activation=activation,
            linear=linear,
        )
        total = sum(self.n_outputs)
        self.tree = FastFeedforward(self.width, total, activation=activation, **options)

    def routed(self, numbers: Tensor, codes: Tensor, hidden: Tensor) -> Tensor:
        """Return what the leaves make of rows."""
        out: Tensor = self.tree(hidden)
        return out.to(self.bias.dtype)

    def routing(self, numbers: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Return probabilities and choices of leaves, (n_rows, n_leaves) each."""
        hidden = self.hidden(numbers, codes)[1]
        leaf = self.tree.leaf_of(hidden)[:, None]
        weight = self.tree.leaf_proba(hidden)
        return weight, torch.zeros_like(weight).scatter(1, leaf, 1.0)

    def layer_parts(self) -> list[Part]:
        """Return splits, leaves and the master leaf."""
        tree = self.tree
        splits = Part(
            tree.node_weight.numel(),
            tree.node_bias.numel(),
            tree.depth / max(1, tree.n_leaves - 1),
        )
        matrices = tree.w1.numel() + tree.w2.numel()
        leaves = Part(matrices, tree.b1.numel() + tree.b2.numel(), 1.0 / tree.n_leaves)
        if tree.master is None:
            return [splits, leaves]
        return [splits, leaves, part_of(tree.master), Part(0, 1)]
