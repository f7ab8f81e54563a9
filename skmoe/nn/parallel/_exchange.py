"""What processes tell each other: rows on their way to experts, and sums over rows.

Collectives are `torch.distributed`'s own; what is here gives them gradients, and lets
work go on while rows travel. A trip has two ends in each direction. Those of the way
out start sending and wait for what comes; in the backward pass they change parts, as
the gradient of a trip is the trip back: `_Leave` and `_Gather` undo each other, and so
do `_Arrive` and `_Return`.
"""

from collections.abc import Sequence
from itertools import accumulate, chain, pairwise
from typing import Any

import torch
from torch import Tensor, distributed
from torch.autograd import Function
from torch.autograd.function import once_differentiable

__all__ = [
    "Trip",
    "arrive",
    "gather",
    "leave",
    "send_back",
    "summed",
    "turned",
    "turned_back",
]


class Trip:
    """Rows between this process and the others of a group, in parts.

    Parameters
    ----------
    group : ProcessGroup
    sent, received : list of list of list of int
        Rows by part, process and expert, to the others and from them.
    n_rows : int
        Rows that this process has; those behind the ones that are sent are zero on
        their return.
    scale : float
        What gradients are multiplied by on arrival.
    """

    def __init__(
        self,
        group: Any,
        sent: list[list[list[int]]],
        received: list[list[list[int]]],
        n_rows: int,
        scale: float,
    ) -> None:
        self.group, self.n_rows, self.scale = group, n_rows, scale
        self.sent = [[sum(counts) for counts in part] for part in sent]
        self.received = [[sum(counts) for counts in part] for part in received]
        self.blocks = received
        ends = accumulate(map(sum, self.sent), initial=0)
        self.places = [slice(*ends) for ends in pairwise(ends)]
        self.works: dict[int, Any] = {}
        self.whole: Tensor | None = None

    def scatter(self, whole: Tensor) -> tuple[Tensor, ...]:
        """Start sending all parts; return where those of the others will arrive."""
        whole = whole.contiguous()
        parts = []
        for c, place in enumerate(self.places):
            part = whole.new_empty(sum(self.received[c]), *whole.shape[1:])
            self._start(c, part, whole[place], self.received[c], self.sent[c])
            parts.append(part)
        return tuple(parts)

    def send(self, c: int, part: Tensor) -> None:
        """Start sending one part back to where its rows came from."""
        if self.whole is None:
            self.whole = part.new_empty(self.n_rows, *part.shape[1:])
        home = self.whole[self.places[c]]
        self._start(c, home, part.contiguous(), self.sent[c], self.received[c])

    def wait(self, c: int) -> None:
        """Wait until a part is there: on a GPU its stream waits, not the host."""
        self.works.pop(c).wait()

    def gather(self) -> Tensor:
        """Wait until all parts are back; return them in their order."""
        for c in list(self.works):
            self.wait(c)
        whole, self.whole = self.whole, None
        assert whole is not None
        if self.places[-1].stop < self.n_rows:
            whole[self.places[-1].stop :] = 0.0
        return whole

    def _start(
        self, c: int, to: Tensor, of: Tensor, received: list[int], sent: list[int]
    ) -> None:
        self.works[c] = distributed.all_to_all_single(
            to, of, received, sent, group=self.group, async_op=True
        )


class _Leave(Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, trip: Trip) -> tuple[Tensor, ...]:
        ctx.trip = trip
        return trip.scatter(rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return ctx.trip.gather().mul_(ctx.trip.scale), None


class _Arrive(Function):
    @staticmethod
    def forward(ctx: Any, part: Tensor, trip: Trip, c: int) -> Tensor:
        ctx.trip, ctx.c = trip, c
        trip.wait(c)
        return turned(part, trip.blocks[c])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        ctx.trip.send(ctx.c, turned_back(grad, ctx.trip.blocks[ctx.c]))
        return grad, None, None


class _Return(Function):
    @staticmethod
    def forward(ctx: Any, part: Tensor, trip: Trip, c: int) -> Tensor:
        ctx.trip, ctx.c = trip, c
        trip.send(c, turned_back(part, trip.blocks[c]))
        return part.view_as(part)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        ctx.trip.wait(ctx.c)
        return turned(grad, ctx.trip.blocks[ctx.c]), None, None


class _Gather(Function):
    @staticmethod
    def forward(ctx: Any, trip: Trip, *parts: Tensor) -> Tensor:
        ctx.trip = trip
        return trip.gather()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return None, *ctx.trip.scatter(grad * ctx.trip.scale)


def leave(rows: Tensor, trip: Trip) -> tuple[Tensor, ...]:
    """Send rows on their way, and return a tensor for each part that comes.

    They are filled when `arrive` has been called for them.
    """
    parts: tuple[Tensor, ...] = _Leave.apply(rows, trip)  # type: ignore[no-untyped-call]
    return parts


def arrive(part: Tensor, trip: Trip, c: int) -> Tensor:
    """Return part c of the rows when it is there, sorted by expert."""
    rows: Tensor = _Arrive.apply(part, trip, c)  # type: ignore[no-untyped-call]
    return rows


def send_back(part: Tensor, trip: Trip, c: int) -> Tensor:
    """Send what experts made of part c home; return what `gather` takes."""
    sent: Tensor = _Return.apply(part, trip, c)  # type: ignore[no-untyped-call]
    return sent


def gather(parts: list[Tensor], trip: Trip) -> Tensor:
    """Return what came back, in the order in which its rows left."""
    rows: Tensor = _Gather.apply(trip, *parts)  # type: ignore[no-untyped-call]
    return rows


def turned(rows: Tensor, sizes: Sequence[Sequence[int]]) -> Tensor:
    """Return blocks of rows in the order of the transpose of their matrix.

    Parameters
    ----------
    rows : tensor of shape (n_rows, d)
        Blocks (0, 0), (0, 1), ... of a matrix of blocks.
    sizes : matrix of int
        Rows of each block.
    """
    width = len(sizes[0])
    if len(sizes) == 1 or width == 1:
        return rows.view_as(rows)
    # One kernel that copies blocks, which takes no map of rows.
    blocks = torch.split(rows, list(chain.from_iterable(sizes)))
    return torch.cat([block for j in range(width) for block in blocks[j::width]])


def turned_back(rows: Tensor, sizes: Sequence[Sequence[int]]) -> Tensor:
    """Undo `turned`."""
    return turned(rows, list(zip(*sizes, strict=True)))


class _Summed(Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, mesh: Any) -> Tensor:
        ctx.mesh = mesh
        total = values.clone(memory_format=torch.contiguous_format)
        for group in mesh.get_all_groups():
            distributed.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        # Every process has a loss that depends on the sum.
        return summed(grad, ctx.mesh), None


def summed(values: Tensor, mesh: Any) -> Tensor:
    """Return the sum of a tensor over all processes of a mesh, with its gradient.

    Parameters
    ----------
    values : tensor
    mesh : DeviceMesh or None
        None: this process alone.
    """
    if mesh is None:
        return values
    total: Tensor = _Summed.apply(values, mesh)  # type: ignore[no-untyped-call]
    return total
