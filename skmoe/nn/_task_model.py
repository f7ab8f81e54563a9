"""A multi-task network with its training: arrays in, arrays out."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skmoe.nn._mmoe import MMoENetwork
from skmoe.nn._state import seeded
from skmoe.nn._table_rows import TableRows
from skmoe.nn._task_data import TaskData
from skmoe.nn._task_fit import Epoch, TaskSettings, TaskTrainer, evaluate
from skmoe.nn._task_losses import TaskObjective, labelled_mean

__all__ = ["TaskModel", "TaskPlan"]

Array = NDArray[Any]


@dataclass(frozen=True)
class TaskPlan:
    """What a model is made of.

    Attributes
    ----------
    rows : dict
        Arguments of `TableRows`.
    network : dict
        Arguments of the network but its rows, outputs and parents.
    losses : dict
        ``learned``, ``gate_entropy``, ``load_balance`` and ``chain_penalty`` of
        `TaskObjective`.
    kinds : tuple of str
        "binary", "multiclass", "regression" or "count", a task each.
    n_outputs : tuple of int
    start : array of shape (total number of outputs,)
        Raw outputs of the network before it is trained.
    task_weights, mean_weight : arrays of shape (n_tasks,)
    parents : list of int or None
        Task in front of each task.
    """

    rows: dict[str, Any]
    network: dict[str, Any]
    losses: dict[str, Any]
    kinds: tuple[str, ...]
    n_outputs: tuple[int, ...]
    start: Array
    task_weights: Array
    mean_weight: Array
    parents: list[int] | None = None


class TaskModel:
    """A network, what it minimises, and a training that can go on another day.

    Parameters
    ----------
    plan : TaskPlan
    settings : TaskSettings
    device : torch.device
    dtype : {"float32", "float64"}
    seed : int
        Of the first weights, the order of the rows, and dropout.
    """

    objective_class: type[TaskObjective] = TaskObjective

    def __init__(
        self,
        plan: TaskPlan,
        settings: TaskSettings,
        device: torch.device,
        dtype: str,
        seed: int,
    ) -> None:
        self.dtype = getattr(torch, dtype)
        with seeded(seed):
            rows = TableRows(**plan.rows)
            network = self.new_network(rows, plan)
        network.start_at(torch.as_tensor(plan.start))
        place: dict[str, Any] = {"device": device, "dtype": self.dtype}
        objective = self.objective_class(
            network.to(**place),
            plan.kinds,
            torch.as_tensor(plan.mean_weight, **place),
            settings.batch_size,
            torch.as_tensor(plan.task_weights, **place),
            **plan.losses,
        )
        self.trainer = TaskTrainer(objective, settings, seed)

    @staticmethod
    def new_network(rows: TableRows, plan: TaskPlan) -> Any:
        """Return the network of a plan, with its first weights."""
        parents = plan.parents
        return MMoENetwork(rows, plan.n_outputs, parents=parents, **plan.network)

    @property
    def network(self) -> MMoENetwork:
        """The network itself."""
        return self.trainer.objective.network

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return self.trainer.device

    def data(
        self, numbers: Array, codes: Array, labels: Array, weight: Array
    ) -> TaskData:
        """Return rows on the device of the model.

        Parameters
        ----------
        numbers : array of shape (n_rows, n_numbers)
        codes : array of int32 of shape (n_rows, n_columns)
        labels, weight : arrays of shape (n_rows, n_tasks)
        """
        return TaskData(
            self._tensor(numbers),
            torch.as_tensor(codes, device=self.device),
            self._tensor(labels),
            self._tensor(weight),
        )

    def _tensor(self, array: Array) -> Tensor:
        kind = np.float64 if self.dtype == torch.float64 else np.float32
        return torch.as_tensor(np.ascontiguousarray(array, kind), device=self.device)

    def learn_bins(self, data: TaskData) -> None:
        """Set what the network takes from all rows before it is trained."""
        self.network.rows.learn(data.numbers, data.weight.sum(dim=1))

    def train(
        self,
        data: TaskData,
        held_out: TaskData | None,
        n_epochs: int,
        score: Callable[[Tensor, TaskData], dict[str, list[float]]] | None = None,
        on_epoch: Callable[[Epoch], bool] | None = None,
    ) -> list[Epoch]:
        """Train for some epochs: see `TaskTrainer.run`."""
        return self.trainer.run(data, held_out, n_epochs, score, on_epoch)

    def raw(self, numbers: Array, codes: Array) -> Array:
        """Return raw outputs of shape (n_rows, total number of outputs), float64."""
        empty = np.empty((len(numbers), 0))
        data = self.data(numbers, codes, empty, empty)
        result: Array = evaluate(self.trainer.objective, data).double().cpu().numpy()
        return result

    def gates(self, numbers: Array, codes: Array, level: int) -> Array | None:
        """Return gate weights of a level, of shape (n_rows, n_gates, n_experts).

        None where there is nothing to weigh.
        """
        empty = np.empty((len(numbers), 0))
        return self.gates_of(self.data(numbers, codes, empty, empty), level)

    def gates_of(self, data: TaskData, level: int) -> Array | None:
        """Return gate weights of rows on the device of the model: see `gates`."""
        if self.network.levels[level].fixed:
            return None
        parts = []
        self.network.eval()
        with torch.no_grad():
            for block in data.blocks():
                gates = self.network(block.numbers, block.codes).gates
                parts.append(gates[level])
        result: Array = torch.cat(parts).double().cpu().numpy()
        return result

    def precise(self) -> "TaskModel":
        """Return a copy in float64, for losses that differ by little."""
        new = copy.copy(self)
        new.trainer = self.trainer.to(self.device)
        new.trainer.objective.double()
        new.dtype = torch.float64
        return new

    def task_losses(
        self, data: TaskData, params: dict[str, Tensor] | None = None
    ) -> Tensor:
        """Return the mean loss of each task, of shape (n_tasks,), without penalties.

        In nats per labelled row, or halved squares of standard deviations; 0 for a
        task without labels. Counts have a constant added that makes the loss half
        their deviance, so that no loss is negative.

        Parameters
        ----------
        data : TaskData
        params : dict of str to tensor, default=None
            Parameters of the network by name, in place of those that it has.
        """
        objective, network = self.trainer.objective, self.network
        inputs = (data.numbers, data.codes)
        raw, _ = torch.func.functional_call(network, params or {}, inputs)
        losses = objective.mean_losses(raw, data.labels)
        counts = [kind == "count" for kind in objective.kinds]
        if any(counts):
            y = data.labels * torch.tensor(counts, device=self.device)
            losses = losses + torch.special.xlogy(y, y) - y
        return labelled_mean(losses, data.weight)

    def task_gradients(self, data: TaskData) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean loss of each task and its gradient; change nothing.

        Returns
        -------
        losses : tensor of shape (n_tasks,)
        gradients : dict of tensors of shape (n_tasks, *shape of the parameter)
            By the names of the parameters of the network.
        """
        self.network.eval()
        names, params = zip(*self.network.named_parameters(), strict=True)
        with torch.enable_grad():
            losses = self.task_losses(data)
            by_task = [
                torch.autograd.grad(
                    loss, params, retain_graph=True, materialize_grads=True
                )
                for loss in losses
            ]
        parts = map(torch.stack, zip(*by_task, strict=True))
        return losses.detach(), dict(zip(names, parts, strict=True))

    def grow(self, n_codes: int, seed: int) -> None:
        """Give codes that have come up since rows of the table, to n_codes in all."""
        table = self.network.rows.table
        if n_codes > len(table.weight):
            old = table.weight
            with seeded(seed):
                table.grow(n_codes)
            self.trainer.replace(old, table.weight)

    def to(self, device: torch.device) -> "TaskModel":
        """Return the model on a device: itself if it is there already."""
        if self.device == device:
            return self
        moved = copy.copy(self)
        moved.trainer = self.trainer.to(device)
        return moved

    def with_settings(
        self, settings: TaskSettings, mean_weight: Sequence[float] | Array
    ) -> "TaskModel":
        """Return a copy that goes on with other settings and rows.

        Parameters
        ----------
        settings : TaskSettings
        mean_weight : array of shape (n_tasks,)
            Of the new rows.
        """
        new = copy.copy(self)
        new.trainer = self.trainer.to(self.device)
        new.trainer.take_settings(settings)
        objective = new.trainer.objective
        objective.mean_weight = torch.as_tensor(
            mean_weight, device=self.device, dtype=self.dtype
        )
        objective.batch_size = settings.batch_size
        return new
