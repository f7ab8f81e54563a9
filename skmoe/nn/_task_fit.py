"""The training of a multi-task network: epochs, held-out rows, the best weights."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from skmoe.nn._noise import set_generator
from skmoe.nn._processes import of_first, place
from skmoe.nn._task_data import CHUNK, TaskData
from skmoe.nn._task_losses import TaskObjective, labelled_mean, pooled, task_losses
from skmoe.nn._task_step import GraphedStep, Step, Surgery
from skmoe.nn._weight_average import BestWeights, WeightAverage

__all__ = ["Epoch", "TaskSettings", "TaskTrainer", "evaluate"]

# That go into a network at once where it is evaluated.
MOST_NUMBERS = 2**26


@dataclass(frozen=True)
class TaskSettings:
    """How to train.

    Attributes
    ----------
    batch_size : int
    learning_rate, weight_decay : float
        Of AdamW; biases and what is learned of the losses do not decay.
    embedding_penalty : float
        Coefficient of the sum of squares of the vectors of codes in what is
        minimised. Its gradient is added by the optimiser, in its pass over them.
    decay : float
        Of the moving average of the weights, which is what is evaluated and kept.
    patience : int
        Epochs without a better held-out score before training stops.
    bfloat16, compile : bool
    aggregator : torchjd aggregator or None
    distributed : bool
        Whether the rows of a batch are shared out between the processes of torch's
        default group.
    """

    batch_size: int
    learning_rate: float
    weight_decay: float
    patience: int
    embedding_penalty: float = 0.0
    decay: float = 0.0
    bfloat16: bool = False
    compile: bool = False
    aggregator: Any = None
    distributed: bool = False


@dataclass
class Epoch:
    """What an epoch came to.

    Attributes
    ----------
    number : int
        From 1, going on where the last training ended.
    train_loss : list of float
        What each task added to what is minimised, the mean over the epoch per
        labelled row, with the weights that the network had at the time.
    held_out : dict of str to list of float
        "loss" of each task, and whatever else is watched.
    score : float or None
        What tells the best epoch; larger is better.
    """

    number: int
    train_loss: list[float]
    held_out: dict[str, list[float]] = field(default_factory=dict)
    score: float | None = None


def evaluate(objective: TaskObjective, data: TaskData) -> Tensor:
    """Return the raw outputs of all rows, of shape (n_rows, n_outputs).

    Members of an ensemble are pooled. The network is left in the mode in which it was.
    """
    network, kinds = objective.network, objective.kinds
    size = MOST_NUMBERS // network.numbers_per_row
    mode = network.training
    network.eval()
    with torch.no_grad():
        parts = [
            pooled(network(part.numbers, part.codes)[0], kinds, network.n_outputs)
            for part in data.blocks(min(CHUNK, max(1, size)))
        ]
    network.train(mode)
    return torch.cat(parts)


class TaskTrainer:
    """Training that can go on another day: optimiser and generator are kept.

    Parameters
    ----------
    objective : TaskObjective
        On its device. Trained in place.
    settings : TaskSettings
    seed : int
    """

    def __init__(
        self, objective: TaskObjective, settings: TaskSettings, seed: int
    ) -> None:
        self.objective, self.settings = objective, settings
        self.device = objective.mean_weight.device
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.n_epochs = 0
        self.optimizer = self._new_optimizer()

    def __getstate__(self) -> dict[str, Any]:
        """Return a state that loads anywhere: on the CPU."""
        state = vars(self) | {"device": torch.device("cpu")}
        state["objective"] = copy.deepcopy(self.objective).cpu()
        state["optimizer"] = _on(self.optimizer.state_dict(), state["device"])
        state["generator"] = _carried(self.generator, state["device"])
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._set_up(state["optimizer"], state["generator"])

    def _set_up(self, moments: dict[str, Any], generator: int | Tensor) -> None:
        """Make optimiser and generator anew, where the objective is."""
        self.optimizer = self._new_optimizer()
        own = self.optimizer.state_dict()
        self.optimizer.load_state_dict({**own, "state": moments["state"]})
        self.generator = torch.Generator(self.device)
        if isinstance(generator, int):
            self.generator.manual_seed(generator)
        else:
            self.generator.set_state(generator)

    def to(self, device: torch.device) -> "TaskTrainer":
        """Return the training as it is, on a device."""
        new = copy.copy(self)
        new.device = device
        new.objective = copy.deepcopy(self.objective).to(device)
        carried = _carried(self.generator, device)
        new._set_up(_on(self.optimizer.state_dict(), device), carried)
        return new

    def take_settings(self, settings: TaskSettings) -> None:
        """Go on with other settings."""
        self.settings = settings
        decays = (settings.weight_decay, 0.0, 2.0 * settings.embedding_penalty)
        for group, decay in zip(self.optimizer.param_groups, decays, strict=True):
            group |= {"lr": settings.learning_rate, "weight_decay": decay}

    def replace(self, old: nn.Parameter, new: nn.Parameter) -> None:
        """Go on with a table that has got more rows; those start without a past."""
        for group in self.optimizer.param_groups:
            group["params"] = [new if p is old else p for p in group["params"]]
        known = self.optimizer.state.pop(old, {})
        for name, value in known.items():
            if value.shape == old.shape:
                more = value.new_zeros(len(new) - len(old), old.shape[1])
                known[name] = torch.cat([value, more])
        self.optimizer.state[new] = known

    def _new_optimizer(self) -> torch.optim.Optimizer:
        """Return AdamW in which the table of vectors has a penalty in its gradient."""
        settings, table = self.settings, self.objective.network.rows.table.weight
        weights: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        for name, param in self.objective.named_parameters():
            plain = "bias" in name or "log_variance" in name
            if param is not table:
                (others if plain else weights).append(param)
        # Not torch's AdamW: loading a state would turn the penalty into a decay.
        plainly = {"decoupled_weight_decay": True}
        groups = [
            {"params": weights, "weight_decay": settings.weight_decay, **plainly},
            {"params": others, "weight_decay": 0.0, **plainly},
            {
                "params": [table],
                "weight_decay": 2.0 * settings.embedding_penalty,
                "decoupled_weight_decay": False,
            },
        ]
        return torch.optim.Adam(
            groups,
            lr=settings.learning_rate,
            fused=True,
            capturable=self.device.type == "cuda",
        )

    def run(
        self,
        data: TaskData,
        held_out: TaskData | None,
        n_epochs: int,
        score: Callable[[Tensor, TaskData], dict[str, list[float]]] | None = None,
        on_epoch: Callable[[Epoch], bool] | None = None,
    ) -> list[Epoch]:
        """Train for some epochs; leave the weights of the best.

        Parameters
        ----------
        data : TaskData
        held_out : TaskData or None
            Rows that tell the best epoch; None to take the last.
        n_epochs : int
        score : callable, default=None
            ``score(raw, held_out)`` returns lists by name; "score" holds what tells
            the best epoch. None: minus the sum of the losses.
        on_epoch : callable, default=None
            Called after each epoch; True stops the training there.

        Raises
        ------
        FloatingPointError
            If a loss is not finite.
        """
        average = WeightAverage(list(self.objective.parameters()), self.settings.decay)
        take_step = self._step(average)
        best = BestWeights(self.objective)
        epochs = []
        for _ in range(n_epochs):
            epoch = self._epoch(data, take_step)
            if held_out is not None:
                with average.shown():
                    self._judge(epoch, held_out, score)
                    epoch.score = of_first(epoch.score, self.settings.distributed)
                    best.offer(epoch.score)
            epochs.append(epoch)
            with average.shown():
                stop = on_epoch is not None and bool(on_epoch(epoch))
            stop = of_first(stop, self.settings.distributed)
            if stop or best.waited >= self.settings.patience:
                break
        average.take()
        best.put_back()
        set_generator(self.objective, None)
        self.optimizer.zero_grad(set_to_none=True)
        self.objective.eval()
        return epochs

    def _step(self, average: WeightAverage) -> Callable[[TaskData], Tensor]:
        """Return what takes a step, as the settings and the device ask for it."""
        settings, call = self.settings, self.objective
        set_generator(self.objective, self._noise())
        # Gradients are averaged over processes, each of which sees its share.
        call.batch_size = settings.batch_size / place(settings.distributed)[1]
        wrapped: nn.Module = call
        if settings.distributed:
            devices = [self.device] if self.device.type == "cuda" else None
            rows = call.network.rows
            idle = not (rows.n_columns or len(rows.lists))  # the table of vectors
            wrapped = DistributedDataParallel(
                call, device_ids=devices, find_unused_parameters=idle
            )
        if settings.compile:
            wrapped = torch.compile(wrapped)  # type: ignore[assignment]
        common = (call, wrapped, self.optimizer, average, settings.bfloat16)
        if settings.aggregator is not None:
            seed = self.generator.initial_seed() + self.n_epochs
            return Surgery(*common, aggregator=settings.aggregator, seed=seed)
        step = Step(*common)
        alone = call.recordable and not (settings.distributed or settings.compile)
        if self.device.type == "cuda" and alone:
            return GraphedStep(step, settings.batch_size, [self.generator])
        return step

    def _noise(self) -> torch.Generator:
        """Return what dropout draws from: each process its own.

        Shares of a batch differ in size: drawing from the common generator, the
        processes would part, and each shuffle the rows in its own way.
        """
        rank, world = place(self.settings.distributed)
        if world == 1:
            return self.generator
        seed = _next_seed(self.generator) + rank
        return torch.Generator(self.device).manual_seed(seed)

    def _epoch(self, data: TaskData, take_step: Callable[[TaskData], Tensor]) -> Epoch:
        objective, size = self.objective, self.settings.batch_size
        objective.train()
        # Every process draws the same order and takes its own rows of each batch.
        rank, world = place(self.settings.distributed)
        total = torch.zeros_like(objective.mean_weight)
        for batch in data.batches(size, self.generator, slice(rank, None, world)):
            total += take_step(batch)
        objective.eval()
        if world > 1:
            torch.distributed.all_reduce(total)
            total /= world
        self.n_epochs += 1
        losses = (total * size / len(data)).tolist()
        epoch = Epoch(self.n_epochs, losses)
        if not all(abs(loss) < float("inf") for loss in losses):
            raise FloatingPointError(
                f"the loss became {losses} in epoch {self.n_epochs}: lower "
                "learning_rate, or look for extreme numbers in X and y."
            )
        return epoch

    def _judge(
        self, epoch: Epoch, held_out: TaskData, score: Callable[..., Any] | None
    ) -> None:
        """Evaluate the held-out rows."""
        network = self.objective.network
        raw = evaluate(self.objective, held_out).to(held_out.labels.dtype)
        if not raw.isfinite().all():
            raise FloatingPointError(
                f"predictions of validation rows are not finite in epoch {epoch.number}"
                ": look for extreme numbers among them, or lower learning_rate."
            )
        losses = task_losses(
            raw, held_out.labels, self.objective.kinds, network.n_outputs
        )
        mean = labelled_mean(losses, held_out.weight)
        epoch.held_out["loss"] = mean.tolist()
        weights = self.objective.task_weights
        epoch.score = -float((mean * weights).sum())
        if score is not None:
            watched = score(raw, held_out)
            epoch.score = watched.pop("score")[0]
            epoch.held_out |= watched


def _carried(generator: torch.Generator, device: torch.device) -> int | Tensor:
    """Return what a generator on another device goes on from: a state, or a seed."""
    if generator.device.type == device.type:
        return generator.get_state()
    return _next_seed(generator)


def _next_seed(generator: torch.Generator) -> int:
    """Return a seed for another generator; leave this one as it is."""
    before = generator.get_state()
    seed = torch.randint(2**62, (), generator=generator, device=generator.device)
    generator.set_state(before)
    return int(seed)


def _on(state: Any, device: torch.device) -> Any:
    """Return a nest of dictionaries and lists with copies of its tensors."""
    if isinstance(state, Tensor):
        return state.detach().clone().to(device)
    if isinstance(state, dict):
        return {key: _on(value, device) for key, value in state.items()}
    if isinstance(state, list):
        return [_on(value, device) for value in state]
    return state
