"""Rows to the slots of experts and back, as Triton kernels.

A plan has maps in both directions, so every kernel here is a gather: none adds into
memory that another one adds to, and results are equal to the last bit in every run.
Imported where Triton and a CUDA device are.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["combine_backward", "rows_to_slots", "slots_to_rows"]

# Numbers that a program holds of each matrix: two loads of 16 bytes a thread are
# in flight in bfloat16.
NUMBERS = 2048
WIDEST = 1024


@triton.jit  # type: ignore[untyped-decorator]
def _gather(  # type: ignore[no-untyped-def]
    x, source, out, n_slots, d, K: tl.constexpr, ROWS: tl.constexpr, WIDE: tl.constexpr
):
    s = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    c = tl.program_id(1) * WIDE + tl.arange(0, WIDE)
    inside = (s < n_slots)[:, None] & (c < d)[None, :]
    choice = tl.load(source + s, mask=s < n_slots, other=-1)
    row = (choice // K).to(tl.int64)
    filled = inside & (choice >= 0)[:, None]
    part = tl.load(x + row[:, None] * d + c[None, :], mask=filled, other=0.0)
    tl.store(out + s[:, None] * d + c[None, :], part, mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def _sum_choices(  # type: ignore[no-untyped-def]
    out,
    slot,
    weight,
    total,
    n_rows,
    d,
    K: tl.constexpr,
    WEIGHTED: tl.constexpr,
    SUM: tl.constexpr,
    ROWS: tl.constexpr,
    WIDE: tl.constexpr,
):
    t = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    c = tl.program_id(1) * WIDE + tl.arange(0, WIDE)
    inside = (t < n_rows)[:, None] & (c < d)[None, :]
    acc = tl.zeros((ROWS, WIDE), dtype=SUM)
    for j in range(K):
        s = tl.load(slot + t * K + j, mask=t < n_rows, other=-1).to(tl.int64)
        kept = inside & (s >= 0)[:, None]
        part = tl.load(out + s[:, None] * d + c[None, :], mask=kept, other=0.0)
        if WEIGHTED:
            w = tl.load(weight + t * K + j, mask=s >= 0, other=0.0)
            acc += w.to(SUM)[:, None] * part.to(SUM)
        else:
            acc += part.to(SUM)
    place = total + t[:, None] * d + c[None, :]
    tl.store(place, acc.to(total.dtype.element_ty), mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def _split_gradient(  # type: ignore[no-untyped-def]
    grad,
    out,
    source,
    slot,
    weight,
    grad_out,
    grad_weight,
    n_rows,
    n_slots,
    d,
    K: tl.constexpr,
    SUM: tl.constexpr,
    ROWS: tl.constexpr,
    WIDE: tl.constexpr,
):
    t = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    there = t < n_rows
    for j in range(K):
        s = tl.load(slot + t * K + j, mask=there, other=-1).to(tl.int64)
        w = tl.load(weight + t * K + j, mask=s >= 0, other=0.0).to(SUM)
        dot = tl.zeros((ROWS,), dtype=SUM)
        for start in range(0, d, WIDE):
            c = start + tl.arange(0, WIDE)
            kept = (s >= 0)[:, None] & (c < d)[None, :]
            # Where k > 1, the second reading of a row finds it in the cache.
            g = tl.load(grad + t[:, None] * d + c[None, :], mask=kept, other=0.0)
            place = s[:, None] * d + c[None, :]
            o = tl.load(out + place, mask=kept, other=0.0)
            dot += tl.sum(g.to(SUM) * o.to(SUM), axis=1)
            share = (w[:, None] * g.to(SUM)).to(grad_out.dtype.element_ty)
            tl.store(grad_out + place, share, mask=kept)
        dot = dot.to(grad_weight.dtype.element_ty)
        tl.store(grad_weight + t * K + j, dot, mask=there)
        # The slots that no choice fills get zeros; there are no more than choices.
        s = t * K + j
        empty = tl.load(source + s, mask=s < n_slots, other=0) < 0
        if tl.max(empty.to(tl.int32), axis=0) > 0:
            for column in range(d):
                zero = tl.zeros((ROWS,), dtype=grad_out.dtype.element_ty)
                tl.store(grad_out + s * d + column, zero, mask=empty)


def rows_to_slots(x: Tensor, source: Tensor, k: int) -> Tensor:
    """Return the row of each slot, zeros in slots that no choice fills.

    Parameters
    ----------
    x : tensor of shape (n_rows, d) on a CUDA device
    source : tensor of int32 of shape (n_slots,)
        Choice that fills the slot, -1 where none does; choice c is of row c // k.
    k : int
        Choices a row.

    Returns
    -------
    rows : tensor of shape (n_slots, d)
    """
    x, source, d = x.contiguous(), source.contiguous(), x.shape[1]
    out = x.new_empty(len(source), d)
    rows, wide = _tile(d)
    grid = (triton.cdiv(len(source), rows), triton.cdiv(d, wide))
    if out.numel():
        with torch.cuda.device_of(x):  # type: ignore[no-untyped-call]
            _gather[grid](x, source, out, len(source), d, k, rows, wide)
    return out


def slots_to_rows(out: Tensor, slot: Tensor, weight: Tensor | None) -> Tensor:
    """Return the sum over each row's slots, times their weights.

    Summed in float32 (float64 for float64), in the order of the choices.

    Parameters
    ----------
    out : tensor of shape (n_slots, d) on a CUDA device
    slot : tensor of int32 of shape (n_rows, k)
        Slot of each choice, -1 where it has none.
    weight : tensor of shape (n_rows, k), or None
        None: all ones.

    Returns
    -------
    total : tensor of shape (n_rows, d), of the type of `out`
    """
    out, slot, d = out.contiguous(), slot.contiguous(), out.shape[1]
    n_rows, k = slot.shape
    total = out.new_empty(n_rows, d)
    rows, wide = _tile(d)
    grid = (triton.cdiv(n_rows, rows), triton.cdiv(d, wide))
    factor = out if weight is None else weight.contiguous()
    if total.numel():
        with torch.cuda.device_of(out):  # type: ignore[no-untyped-call]
            _sum_choices[grid](
                out, slot, factor, total, n_rows, d, k, weight is not None,
                _sum_type(out), rows, wide,
            )  # fmt: skip
    return total


def combine_backward(
    grad: Tensor, out: Tensor, source: Tensor, slot: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the gradients of `slots_to_rows` with respect to `out` and `weight`.

    Parameters
    ----------
    grad : tensor of shape (n_rows, d) on a CUDA device
        Of the sums.
    out : tensor of shape (n_slots, d), n_slots at most n_rows * k
    source : tensor of int32 of shape (n_slots,)
    slot : tensor of int32 of shape (n_rows, k)
    weight : tensor of shape (n_rows, k)

    Returns
    -------
    grad_out : tensor of shape (n_slots, d)
        Zero in slots that no choice fills.
    grad_weight : tensor of shape (n_rows, k)
        Zero where a choice has no slot.
    """
    grad, out, weight = grad.contiguous(), out.contiguous(), weight.contiguous()
    source, slot, d = source.contiguous(), slot.contiguous(), out.shape[1]
    n_rows, k = slot.shape
    grad_out, grad_weight = torch.empty_like(out), torch.empty_like(weight)
    rows, wide = _tile(d)
    grid = (triton.cdiv(n_rows, rows),)
    if n_rows:
        with torch.cuda.device_of(grad):  # type: ignore[no-untyped-call]
            _split_gradient[grid](
                grad, out, source, slot, weight, grad_out, grad_weight,
                n_rows, len(out), d, k, _sum_type(out), rows, wide,
            )  # fmt: skip
    return grad_out, grad_weight


def _tile(d: int) -> tuple[int, int]:
    """Return rows and columns that a program takes at once."""
    wide = min(triton.next_power_of_2(max(d, 1)), WIDEST)
    return NUMBERS // wide, wide


def _sum_type(values: Tensor) -> tl.dtype:
    return tl.float64 if values.dtype == torch.float64 else tl.float32
