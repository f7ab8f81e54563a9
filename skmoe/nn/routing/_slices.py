"""Products of the slices of expert-sorted rows, for every type, width and device.

A GPU gets them on a few streams: the last tiles of a product leave processors idle, on
which those of the next one can start. Offsets are asked for on the host.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import pairwise

import torch
from torch import Tensor

__all__ = ["outer_by_slices", "product_by_slices"]

# Products in a row on a stream: it takes the host time to change it.
N_STREAMS, RUN = 2, 2


def product_by_slices(
    rows: Tensor, weight: Tensor, bias: Tensor | None, offsets: Tensor
) -> Tensor:
    """Return ``rows[i] @ weight[e] + bias[e]``, and zeros behind the last offset.

    Parameters
    ----------
    rows : tensor of shape (n_slots, n_inputs)
    weight : tensor of shape (n_experts, n_inputs, n_outputs)
    bias : tensor of shape (n_experts, n_outputs), or None
    offsets : integer tensor of shape (n_experts,)
    """
    out = rows.new_empty(len(rows), weight.shape[2])
    sizes = _sizes(rows, offsets)
    parts, targets = torch.split(rows, sizes), torch.split(out, sizes)
    matrices = weight.unbind()
    biases = None if bias is None else bias.to(rows.dtype).unbind()
    with _dealt(rows, sizes[:-1]) as experts:
        for e in experts:
            if biases is None:
                torch.mm(parts[e], matrices[e], out=targets[e])
            else:
                torch.addmm(biases[e], parts[e], matrices[e], out=targets[e])
    targets[-1].zero_()
    return out


def outer_by_slices(left: Tensor, right: Tensor, offsets: Tensor) -> Tensor:
    """Return ``left' right`` over each expert's rows.

    Parameters
    ----------
    left : tensor of shape (n_slots, n_left)
    right : tensor of shape (n_slots, n_right)
    offsets : integer tensor of shape (n_experts,)

    Returns
    -------
    out : tensor of shape (n_experts, n_left, n_right)
    """
    out = left.new_empty(len(offsets), left.shape[1], right.shape[1])
    sizes = _sizes(left, offsets)
    parts, others = torch.split(left.t(), sizes, dim=1), torch.split(right, sizes)
    targets = out.unbind()
    with _dealt(left, sizes[:-1]) as experts:
        for e in experts:
            torch.mm(parts[e], others[e], out=targets[e])
    return out


def _sizes(rows: Tensor, offsets: Tensor) -> list[int]:
    """Return how many rows each expert has, and how many no expert."""
    ends = [0, *offsets.tolist(), len(rows)]
    return [end - begin for begin, end in pairwise(ends)]


@contextmanager
def _dealt(like: Tensor, sizes: list[int]) -> Iterator[Iterable[int]]:
    """Yield the numbers of experts; on a GPU, each few on the next stream.

    All that was asked for before comes first, and what is asked for behind waits. So
    the memory of tensors made outside is safe; nothing may be allocated inside.
    """
    if not like.is_cuda:
        yield range(len(sizes))
        return
    here, streams = torch.cuda.current_stream(like.device), _streams(like.device)
    for stream in streams:
        stream.wait_stream(here)
    with torch.cuda.stream(here):
        try:
            yield _on_streams(streams, sizes)
        finally:
            for stream in streams:
                here.wait_stream(stream)


def _on_streams(streams: list[torch.cuda.Stream], sizes: list[int]) -> Iterator[int]:
    # The largest first: the last ones leave the least idle.
    for i, e in enumerate(sorted(range(len(sizes)), key=lambda e: -sizes[e])):
        if i % RUN == 0:
            torch.cuda.set_stream(streams[i // RUN % len(streams)])
        yield e


@cache
def _streams(device: torch.device) -> list[torch.cuda.Stream]:
    new = torch.cuda.Stream
    return [new(device) for _ in range(N_STREAMS)]  # type: ignore[no-untyped-call]
