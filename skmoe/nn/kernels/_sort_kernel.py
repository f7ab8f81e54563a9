"""Slots of choices in the order of their experts: a counting sort in Triton kernels.

Choices are cut into chunks. A kernel counts the experts of each chunk and ranks its
choices among those of their expert, a second one sums the counts over the chunks, a
third one writes slots and sources. Every step is stable and free of atomics, so the
plan is a function of the choices alone; nothing waits for the host. Imported where
Triton and a CUDA device are.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["sorted_slots"]

# Choices of a chunk, and choices and experts of a tile.
CHUNK, ROWS, WIDE = 1024, 128, 64
SCAN_ROWS, SCAN_WIDE = 256, 16
NO_LIMIT = 2**31 - 1


@triton.jit  # type: ignore[untyped-decorator]
def _choice_at(  # type: ignore[no-untyped-def]
    place, order, n_rows, n_choices, K: tl.constexpr, BY_J: tl.constexpr, ORDERED
):
    # The choice that comes place-th: with a capacity all first choices come first.
    if BY_J:
        j = place // n_rows
        row = place - j * n_rows
        if ORDERED:
            row = tl.load(order + row, mask=place < n_choices, other=0).to(tl.int32)
        place = row * K + j
    return place


@triton.jit  # type: ignore[untyped-decorator]
def _count(  # type: ignore[no-untyped-def]
    index,
    order,
    rank,
    counts,
    n_rows,
    n_choices,
    n_experts,
    K: tl.constexpr,
    BY_J: tl.constexpr,
    ORDERED: tl.constexpr,
    CHUNK: tl.constexpr,
    ROWS: tl.constexpr,
    WIDE: tl.constexpr,
):
    chunk = tl.program_id(0)
    e = tl.program_id(1) * WIDE + tl.arange(0, WIDE)
    seen = tl.zeros((WIDE,), dtype=tl.int32)
    for first in range(0, CHUNK, ROWS):
        place = chunk * CHUNK + first + tl.arange(0, ROWS)
        inside = place < n_choices
        choice = _choice_at(place, order, n_rows, n_choices, K, BY_J, ORDERED)
        expert = tl.load(index + choice, mask=inside, other=-1).to(tl.int32)
        hit = (expert[:, None] == e[None, :]).to(tl.int32)
        before = tl.cumsum(hit, 0) - hit + seen[None, :]
        mine = inside & (expert // WIDE == tl.program_id(1))
        tl.store(rank + place, tl.sum(hit * before, 1), mask=mine)
        seen += tl.sum(hit, 0)
    place = counts + chunk.to(tl.int64) * n_experts + e
    tl.store(place, seen, mask=e < n_experts)


@triton.jit  # type: ignore[untyped-decorator]
def _scan(  # type: ignore[no-untyped-def]
    counts, load, n_chunks, n_experts, ROWS: tl.constexpr, WIDE: tl.constexpr
):
    # Counts of a chunk become the number of choices in the chunks before it.
    e = tl.program_id(0) * WIDE + tl.arange(0, WIDE)
    seen = tl.zeros((WIDE,), dtype=tl.int32)
    for first in range(0, n_chunks, ROWS):
        chunk = first + tl.arange(0, ROWS)
        inside = (chunk < n_chunks)[:, None] & (e < n_experts)[None, :]
        place = counts + chunk.to(tl.int64)[:, None] * n_experts + e[None, :]
        some = tl.load(place, mask=inside, other=0)
        tl.store(place, tl.cumsum(some, 0) - some + seen[None, :], mask=inside)
        seen += tl.sum(some, 0)
    tl.store(load + e, seen, mask=e < n_experts)


@triton.jit  # type: ignore[untyped-decorator]
def _place(  # type: ignore[no-untyped-def]
    index,
    order,
    rank,
    counts,
    load,
    offsets,
    slot,
    source,
    n_rows,
    n_choices,
    n_experts,
    capacity,
    K: tl.constexpr,
    BY_J: tl.constexpr,
    ORDERED: tl.constexpr,
    ROWS: tl.constexpr,
    CHUNK: tl.constexpr,
):
    place = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    inside = place < n_choices
    choice = _choice_at(place, order, n_rows, n_choices, K, BY_J, ORDERED)
    expert = tl.load(index + choice, mask=inside, other=0).to(tl.int32)
    chunk = (place // CHUNK).to(tl.int64)
    before = tl.load(counts + chunk * n_experts + expert, mask=inside, other=0)
    behind = before + tl.load(rank + place, mask=inside, other=0)
    kept = tl.minimum(tl.load(load + expert, mask=inside, other=0), capacity)
    first = tl.load(offsets + expert, mask=inside, other=0) - kept
    keep = behind < capacity
    tl.store(slot + choice, tl.where(keep, first + behind, -1), mask=inside)
    tl.store(source + first + behind, choice, mask=inside & keep)


def sorted_slots(
    index: Tensor, n_experts: int, capacity: int | None, order: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Sort choices by their expert, and drop what is beyond a capacity.

    Without a capacity, choices of one expert keep their order. With one, first choices
    of all rows come before second ones, and the choices behind the ``capacity``-th of
    an expert are dropped.

    Parameters
    ----------
    index : tensor of int64 of shape (n_rows, k) on a CUDA device
        Expert of each choice, all below ``n_experts``; k n_rows is below 2^31.
    n_experts : int
    capacity : int or None
        Most choices of an expert; None for no limit.
    order : tensor of int64 of shape (n_rows,), or None
        With a capacity: ``order[r]`` is the row that comes r-th; None: as they stand.

    Returns
    -------
    slot : tensor of int32 of shape (n_rows, k)
        Where a choice went, -1 if it was dropped.
    source : tensor of int32 of shape (n_rows k,)
        Choice in each slot, -1 behind the last offset.
    offsets : tensor of int32 of shape (n_experts,)
        Where the slots of each expert end.
    load : tensor of int32 of shape (n_experts,)
        Choices of each expert, dropped ones included.
    """
    index = index.contiguous()
    n_rows, k = index.shape
    n_choices, n_chunks = n_rows * k, max(triton.cdiv(n_rows * k, CHUNK), 1)
    rank = index.new_empty(n_choices, dtype=torch.int32)
    counts = index.new_empty(n_chunks, n_experts, dtype=torch.int32)
    load, slot = counts.new_empty(n_experts), counts.new_empty(n_rows, k)
    by_j, ordered = capacity is not None, capacity is not None and order is not None
    rows = order.contiguous() if ordered and order is not None else rank
    wide = min(max(triton.next_power_of_2(n_experts), 16), WIDE)
    with torch.cuda.device_of(index):  # type: ignore[no-untyped-call]
        _count[(n_chunks, triton.cdiv(n_experts, wide))](
            index, rows, rank, counts, n_rows, n_choices, n_experts,
            k, by_j, ordered, CHUNK, ROWS, wide,
        )  # fmt: skip
        _scan[(triton.cdiv(n_experts, SCAN_WIDE),)](
            counts, load, n_chunks, n_experts, SCAN_ROWS, SCAN_WIDE
        )
        limit = NO_LIMIT if capacity is None else capacity
        kept = load if capacity is None else load.clamp(max=limit)
        offsets = kept.cumsum(0, dtype=torch.int32)
        source = (
            rank.new_empty(n_choices)
            if capacity is None
            else rank.new_full((n_choices,), -1)
        )
        _place[(triton.cdiv(n_choices, CHUNK // 4),)](
            index, rows, rank, counts, load, offsets, slot, source,
            n_rows, n_choices, n_experts, limit, k, by_j, ordered, CHUNK // 4, CHUNK,
        )  # fmt: skip
    return slot, source, offsets, load
