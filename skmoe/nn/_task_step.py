"""One step of training of a multi-task network, in several manners."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from skmoe.nn._state import seeded
from skmoe.nn._task_data import TaskData
from skmoe.nn._task_losses import TaskObjective
from skmoe.nn._weight_average import WeightAverage

__all__ = ["GraphedStep", "Step", "Surgery"]

# Steps that run one kernel after another before they are recorded: the libraries
# and the optimiser set themselves up in the first.
WARM_UP = 3


class Step:
    """Gradient of the sum of the objectives, and a step of the optimiser.

    Parameters
    ----------
    objective : TaskObjective
    call : module
        What to call for the objective: itself, or what wraps it.
    optimizer : torch.optim.Optimizer
    average : WeightAverage
    bfloat16 : bool
        Whether matrix products are rounded to bfloat16.
    """

    def __init__(
        self,
        objective: TaskObjective,
        call: nn.Module,
        optimizer: torch.optim.Optimizer,
        average: WeightAverage,
        bfloat16: bool,
    ) -> None:
        self.objective, self.call, self.optimizer = objective, call, optimizer
        self.average = average
        self.bfloat16 = bfloat16

    def __call__(self, batch: TaskData) -> Tensor:
        """Take the step; return the objective of each task in front of it.

        Parameters
        ----------
        batch : TaskData

        Returns
        -------
        each : tensor of shape (n_tasks,)
        """
        self.optimizer.zero_grad(set_to_none=True)
        each, penalty = self.losses(batch)
        self.backward(each, penalty)
        self.optimizer.step()
        self.average.update()
        return each.detach()

    def losses(self, batch: TaskData) -> tuple[Tensor, Tensor]:
        """Return the objective of each task and the penalties."""
        device = batch.numbers.device.type
        # The cache of rounded weights would outlive a recorded step.
        rounded = torch.autocast(device, torch.bfloat16, cache_enabled=False)
        with rounded if self.bfloat16 else nullcontext():
            result: tuple[Tensor, Tensor] = self.call(*batch.parts)
        return result

    def backward(self, each: Tensor, penalty: Tensor) -> None:
        """Set the gradients of all parameters."""
        (each.sum() + penalty).backward()  # type: ignore[no-untyped-call]


class Surgery(Step):
    """A step along a combination of the tasks' gradients that torchjd makes.

    Parameters
    ----------
    aggregator : torchjd.aggregation.Aggregator
        Turns the gradients of the tasks, and of the penalties if there are any, into
        one direction.
    seed : int
        Of what the aggregator draws.
    """

    def __init__(self, *args: Any, aggregator: Any, seed: int) -> None:
        super().__init__(*args)
        self.aggregator, self.seed, self.n_steps = aggregator, seed, 0

    def backward(self, each: Tensor, penalty: Tensor) -> None:
        """Set the gradients of all parameters."""
        from torchjd import autojac

        params = list(self.objective.parameters())
        losses = list(each.unbind())
        if penalty.requires_grad:
            losses.append(penalty)
        # One task after another: the tables of vectors do not take several at once.
        autojac.backward(losses, parallel_chunk_size=1)
        # The table takes no part where there are no codes.
        taking_part = [p for p in params if getattr(p, "jac", None) is not None]
        self.n_steps += 1
        # Some aggregators draw from torch's global generators.
        with seeded(self.seed + self.n_steps, each.device):
            autojac.jac_to_grad(taking_part, self.aggregator)


class GraphedStep:
    """A step of which all kernels are launched at once, on a CUDA device.

    Batches of a thousand rows keep a GPU busy for a tenth of the time that Python
    needs to launch their hundred kernels. The first full batches are taken step by
    step; the next is recorded, and from then on replayed with new rows. Batches of
    another size are taken step by step.

    Parameters
    ----------
    step : Step
        Its optimiser must be capturable.
    size : int
        Rows of a full batch.
    generators : list of torch.Generator
        Those that the step draws from.
    """

    def __init__(
        self, step: Step, size: int, generators: list[torch.Generator]
    ) -> None:
        self.step, self.size, self.generators = step, size, generators
        self.left = WARM_UP
        self.graph: torch.cuda.CUDAGraph | None = None
        self.stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]

    def __call__(self, batch: TaskData) -> Tensor:
        """Take the step; return the objective of each task in front of it."""
        if len(batch) != self.size:
            return self.step(batch)
        if self.graph is None and self.left:
            self.left -= 1
            return self._aside(lambda: self.step(batch))
        if self.graph is None:
            self._record(batch)
        for mine, given in zip(self.rows.parts, batch.parts, strict=True):
            mine.copy_(given)
        assert self.graph is not None
        self.graph.replay()
        return self.each.clone()

    def _aside(self, run: Callable[[], Tensor]) -> Tensor:
        """Run on a stream of its own, as recording asks of the steps before it."""
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            result = run()
        torch.cuda.current_stream().wait_stream(self.stream)
        return result

    def _record(self, batch: TaskData) -> None:
        self.rows = TaskData(*(part.clone() for part in batch.parts))
        self.graph = torch.cuda.CUDAGraph()
        for generator in self.generators:
            self.graph.register_generator_state(generator)
        self.step.optimizer.zero_grad(set_to_none=True)
        with torch.cuda.graph(self.graph):
            self.each = self.step(self.rows)
