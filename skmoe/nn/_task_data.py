"""The rows that a multi-task network learns from, in memory on its device."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

__all__ = ["TaskData"]

# Rows that are put in random order at once: their copy is small beside the data and
# fits the caches of a CPU, yet one gather serves many batches.
CHUNK = 65_536


@dataclass(frozen=True)
class TaskData:
    """Rows with labels, weights and codes.

    Attributes
    ----------
    numbers : tensor of shape (n_rows, n_numbers)
    codes : tensor of int32 of shape (n_rows, n_columns)
    labels, weight : tensors of shape (n_rows, n_tasks)
        The weight is 0, and the label any finite number, where a label is missing.
    """

    numbers: Tensor
    codes: Tensor
    labels: Tensor
    weight: Tensor

    def __len__(self) -> int:
        return self.numbers.shape[0]

    def taken(self, index: Tensor | slice) -> "TaskData":
        """Return some of the rows."""
        return TaskData(*(part[index] for part in self.parts))

    @property
    def parts(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """All four, in the order in which an objective takes them."""
        return self.numbers, self.codes, self.labels, self.weight

    def batches(
        self, size: int, generator: torch.Generator, share: slice
    ) -> Iterator["TaskData"]:
        """Yield all rows in random order, the last batch with what is left.

        Parameters
        ----------
        size : int
            Rows of a batch.
        generator : torch.Generator
            On the device of the rows.
        share : slice
            Of each batch: several processes take every so many rows each.
        """
        place = self.numbers.device
        order = torch.randperm(len(self), generator=generator, device=place)
        for part in torch.split(order, max(CHUNK // size, 1) * size):
            chunk = self.taken(part)
            for start in range(0, len(part), size):
                batch = chunk.taken(slice(start, start + size))
                mine = batch.taken(share)
                # All processes take each step: one without rows takes a silent one.
                yield mine if len(mine) else batch.taken(slice(1)).silent()

    def silent(self) -> "TaskData":
        """Return the rows without their labels."""
        return replace(self, weight=torch.zeros_like(self.weight))

    def blocks(self, size: int = CHUNK) -> Iterator["TaskData"]:
        """Yield the rows in order, in blocks for evaluation."""
        for start in range(0, len(self), size):
            yield self.taken(slice(start, start + size))
