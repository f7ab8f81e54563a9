"""Rows in the order of their experts: where each choice goes, and the way back.

A routing gives every row k choices of an expert; choice j of row t has the number
``t * k + j``. The *slots* are the choices that are kept, sorted by expert. Two maps
say who is where, ``slot`` by choice and ``source`` by slot, so that rows move in both
directions, and gradients as well, by reading alone: no two threads ever add to one
number, and sums do not depend on an order.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from skmoe._blocks import runs_triton

__all__ = ["Slots", "check_number", "combine", "dispatch", "sorted_slots"]

# Of int32, less what programs of a kernel may reach beyond the last choice.
MOST_CHOICES = 2**31 - 2**16


class Slots(NamedTuple):
    """Where the choices of rows are kept.

    Attributes
    ----------
    slot : tensor of int32 of shape (n_rows, k)
        Slot of each choice, -1 where it is dropped.
    source : tensor of int32 of shape (n_rows * k,)
        Number of the choice in a slot; -1 behind the last one.
    offsets : tensor of int32 of shape (n_experts,)
        Where the slots of each expert end.
    load : tensor of int32 of shape (n_experts,)
        Choices of each expert, the dropped ones included.
    """

    slot: Tensor
    source: Tensor
    offsets: Tensor
    load: Tensor


def sorted_slots(
    index: Tensor,
    n_experts: int,
    capacity: int | None = None,
    order: Tensor | None = None,
) -> Slots:
    """Sort choices by expert; keep as many of each as it has room for.

    Parameters
    ----------
    index : tensor of int64 of shape (n_rows, k)
        Expert of each choice.
    n_experts : int
    capacity : int or None, default=None
        Choices that an expert takes; None for all. The first choices of all rows
        come in front of their second ones.
    order : tensor of int64 of shape (n_rows,), default=None
        Rows in the order in which they are served; None for that of the batch.

    Returns
    -------
    slots : Slots
        The slots of an expert are in the order in which its rows are served.

    Raises
    ------
    ValueError
        If the choices are too many to be numbered by int32.
    """
    return Slots(*_sorted_slots(index, n_experts, capacity, order))


def check_number(n_choices: int) -> None:
    """Raise a ValueError where int32 could not number the choices of a batch."""
    # Not where `torch.compile` would make a bound of it.
    if not torch.compiler.is_compiling() and n_choices > MOST_CHOICES:
        raise ValueError(
            f"{n_choices} choices of experts (rows times experts of a row) are more "
            f"than the {MOST_CHOICES} that a plan can number: split the batch."
        )


@torch.library.custom_op("skmoe::sorted_slots", mutates_args=())
def _sorted_slots(
    index: Tensor, n_experts: int, capacity: int | None, order: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    check_number(index.numel())
    if runs_triton(index) and index.numel():
        from skmoe.nn.kernels import _sort_kernel

        return _sort_kernel.sorted_slots(index, n_experts, capacity, order)
    n_rows, k = index.shape
    every = torch.arange(n_rows * k, device=index.device)
    served = every
    if capacity is not None:
        rows = every[:n_rows] if order is None else order
        served = (rows * k + every[:k, None]).flatten()
    # Short keys: sorting bytes takes a third of the time of sorting int64.
    short = torch.uint8 if n_experts <= 256 else torch.int32
    experts, place = index.flatten()[served].to(short).sort(stable=True)
    choice, experts = served[place], experts.long()
    each = torch.arange(n_experts, device=index.device)
    ends = torch.searchsorted(experts, each, right=True)
    load = ends.diff(prepend=ends.new_zeros(1))
    if capacity is None:
        slot = torch.empty_like(choice).scatter_(0, choice, every)
        return slot.view(n_rows, k).int(), choice.int(), ends.int(), load.int()
    rank = every - (ends - load)[experts]
    kept = load.clamp(max=capacity)
    offsets = kept.cumsum(0)
    here = (offsets - kept)[experts] + rank
    here = torch.where(rank < capacity, here, -1)
    slot = torch.empty_like(choice).scatter_(0, choice, here)
    # Those that are dropped are written to a last place, which is cut off.
    to = torch.where(here < 0, len(every), here)
    source = every.new_full((len(every) + 1,), -1).scatter_(0, to, choice)[:-1]
    return slot.view(n_rows, k).int(), source.int(), offsets.int(), load.int()


@_sorted_slots.register_fake
def _(
    index: Tensor, n_experts: int, capacity: int | None, order: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    slot = torch.empty_like(index, dtype=torch.int32)
    source = index.new_empty(index.numel(), dtype=torch.int32)
    each = index.new_empty(n_experts, dtype=torch.int32)
    return slot, source, each, torch.empty_like(each)


@torch.library.custom_op("skmoe::dispatch", mutates_args=())
def dispatch(x: Tensor, source: Tensor, slot: Tensor) -> Tensor:
    """Return the row of each slot: (n_rows, d) to (n_slots, d), zero behind the last.

    Parameters
    ----------
    x : tensor of shape (n_rows, d)
    source : tensor of int32 of shape (n_slots,)
    slot : tensor of int32 of shape (n_rows, k)
    """
    if runs_triton(x):
        from skmoe.nn.kernels import _slot_kernel

        return _slot_kernel.rows_to_slots(x, source, slot.shape[1])
    rows = x.index_select(0, source.clamp(min=0) // slot.shape[1])
    return rows if _full(source) else rows.masked_fill_(source[:, None] < 0, 0.0)


@torch.library.custom_op("skmoe::combine", mutates_args=())
def combine(out: Tensor, weight: Tensor, source: Tensor, slot: Tensor) -> Tensor:
    """Return the weighted sum of what a row's choices gave: (n_rows, d).

    Parameters
    ----------
    out : tensor of shape (n_slots, d)
    weight : tensor of shape (n_rows, k)
    source : tensor of int32 of shape (n_slots,)
    slot : tensor of int32 of shape (n_rows, k)
    """
    return _combined(out, weight, source, slot)


@torch.library.custom_op("skmoe::collect", mutates_args=())
def _collect(grad: Tensor, source: Tensor, slot: Tensor) -> Tensor:
    """Return the sum of the slots of each row: the way back of `dispatch`."""
    return _combined(grad, None, source, slot)


@torch.library.custom_op("skmoe::combine_backward", mutates_args=())
def _combine_backward(
    grad: Tensor, out: Tensor, weight: Tensor, source: Tensor, slot: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the gradients of `combine` with respect to out and weight."""
    if runs_triton(grad):
        from skmoe.nn.kernels import _slot_kernel

        return _slot_kernel.combine_backward(
            grad.contiguous(), out, source, slot, weight
        )
    k = slot.shape[1]
    choice = source.clamp(min=0).long()
    wide = torch.promote_types(weight.dtype, out.dtype)
    rows = grad.index_select(0, choice // k).to(wide)
    each = weight.flatten()[choice]
    dots = (rows * out).sum(dim=1).to(weight.dtype)
    if not _full(source):
        empty = source < 0
        each = each.masked_fill(empty, 0.0)
        # To a last place, which is cut off.
        choice = torch.where(empty, weight.numel(), choice)
    # Choices are in one slot at most: nothing is added up.
    grad_weight = weight.new_zeros(weight.numel() + 1).scatter_(0, choice, dots)
    return (rows * each[:, None]).to(out.dtype), grad_weight[:-1].view_as(weight)


def _full(source: Tensor) -> bool:
    """Tell whether there is a choice in every slot: the empty ones are the last."""
    return not len(source) or bool(source[-1] >= 0)


def _combined(
    out: Tensor, weight: Tensor | None, source: Tensor, slot: Tensor
) -> Tensor:
    if runs_triton(out):
        from skmoe.nn.kernels import _slot_kernel

        return _slot_kernel.slots_to_rows(out.contiguous(), slot, weight)
    n_rows, k = slot.shape
    if not len(out):
        return out.new_zeros(n_rows, out.shape[1])
    # Sums in float32 at least.
    wide = torch.promote_types(out.dtype, torch.float32)
    if weight is not None:
        wide = torch.promote_types(wide, weight.dtype)
    if len(source) < n_rows * k:  # most choices are not taken: go through the slots
        choice = source.long()
        each = out if weight is None else out * weight.flatten()[choice][:, None]
        zeros = torch.zeros(n_rows, out.shape[1], dtype=wide, device=out.device)
        return zeros.index_add_(0, choice // k, each.to(wide)).to(out.dtype)
    full = _full(source)
    total: Tensor | None = None
    for j in range(k):
        part = out.index_select(0, slot[:, j].clamp(min=0)).to(wide)
        if weight is not None:
            part = part * weight[:, j, None]
        if not full:
            part = part.masked_fill(slot[:, j, None] < 0, 0.0)
        total = part if total is None else total + part
    assert total is not None
    return total.to(out.dtype)


@dispatch.register_fake
def _(x: Tensor, source: Tensor, slot: Tensor) -> Tensor:
    return x.new_empty(source.shape[0], x.shape[1])


@combine.register_fake
def _(out: Tensor, weight: Tensor, source: Tensor, slot: Tensor) -> Tensor:
    return out.new_empty(slot.shape[0], out.shape[1])


@_collect.register_fake
def _(grad: Tensor, source: Tensor, slot: Tensor) -> Tensor:
    return grad.new_empty(slot.shape[0], grad.shape[1])


@_combine_backward.register_fake
def _(
    grad: Tensor, out: Tensor, weight: Tensor, source: Tensor, slot: Tensor
) -> tuple[Tensor, Tensor]:
    # Contiguous, however these lie.
    return out.new_empty(out.shape), weight.new_empty(weight.shape)


def _keep_maps(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[1:])


def _dispatch_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
    return _collect(grad, *ctx.saved_tensors), None, None


def _keep_all(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _gradients(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
    grad_out, grad_weight = _combine_backward(grad, *ctx.saved_tensors)
    return grad_out, grad_weight, None, None


dispatch.register_autograd(_dispatch_backward, setup_context=_keep_maps)
combine.register_autograd(_gradients, setup_context=_keep_all)
