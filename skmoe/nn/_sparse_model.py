"""Models with a layer that routes: what they minimise, and how they route rows."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skmoe.nn._leaf_network import LeafNetwork
from skmoe.nn._sparse_network import SparseNetwork
from skmoe.nn._table_rows import TableRows
from skmoe.nn._task_data import TaskData
from skmoe.nn._task_losses import TaskObjective
from skmoe.nn._task_model import TaskModel, TaskPlan
from skmoe.nn.routing._routed_module import auxiliary_loss

__all__ = ["LeafModel", "SparseModel"]

Array = NDArray[Any]
# Rows that are routed at once: (rows, experts) matrices of weights and choices.
BLOCK = 16_384


class RoutedObjective(TaskObjective):
    """Losses of the tasks of a batch, and those of its routing.

    A part of a batch counts as that part.
    """

    # In single precision experts wait to be told how many rows they have.
    recordable = False

    def _penalty(self, raw: Tensor, gates: list[Tensor]) -> Tensor:
        return auxiliary_loss(self.network) * (raw.shape[0] / self.batch_size)


class SparseModel(TaskModel):
    """A `SparseNetwork` with its training: see `TaskModel`."""

    objective_class = RoutedObjective

    @staticmethod
    def new_network(rows: TableRows, plan: TaskPlan) -> Any:
        """Return the network of a plan, with its first weights."""
        return SparseNetwork(rows, plan.n_outputs, **plan.network)

    def routing(self, numbers: Array, codes: Array) -> tuple[Array, Array]:
        """Return weights and choices of experts, each of shape (n_rows, n_experts).

        Parameters
        ----------
        numbers : array of shape (n_rows, n_numbers)
        codes : array of int32 of shape (n_rows, n_columns)
        """
        empty = np.empty((len(numbers), 0))
        return self.routing_of(self.data(numbers, codes, empty, empty))

    @torch.no_grad()
    def routing_of(self, data: TaskData) -> tuple[Array, Array]:
        """Return weights and choices of rows on the device: see `routing`."""
        network: Any = self.network.eval()
        parts = [network.routing(b.numbers, b.codes) for b in data.blocks(BLOCK)]
        columns = zip(*parts, strict=True)
        weight, chosen = (torch.cat(part).double().cpu().numpy() for part in columns)
        return weight, chosen


class LeafModel(SparseModel):
    """A `LeafNetwork` with its training: see `TaskModel`."""

    @staticmethod
    def new_network(rows: TableRows, plan: TaskPlan) -> Any:
        """Return the network of a plan, with its first weights."""
        return LeafNetwork(rows, plan.n_outputs, **plan.network)
