"""Sums of the rows of each expert, as Triton kernels.

A program takes a tile: rows of one expert, found by looking at all offsets, so that how
many rows an expert has stays on the device. Each program writes the sum of its tile,
and a second kernel adds an expert's parts in their order: no sort, no atomics, and the
same sum to the last bit in every run. Imported where Triton and a CUDA device are.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = [
    "ROWS",
    "TILE",
    "WIDE",
    "add_parts",
    "bias_gradient",
    "grid_of",
    "parts_of",
    "sum_type",
    "tile_of",
]

# Rows of one expert that a program takes, rows and columns that it holds at once.
TILE, ROWS, WIDE = 64, 2, 1024
PARTS, NARROW = 16, 128


@triton.jit  # type: ignore[untyped-decorator]
def tile_of(  # type: ignore[no-untyped-def]
    offsets, tile, n_experts, EXPERTS: tl.constexpr, TILE: tl.constexpr
):
    """Return the expert of a tile, its first row, and where the expert's rows end."""
    e = tl.arange(0, EXPERTS)
    end = tl.load(offsets + e, mask=e < n_experts, other=0)
    begin = tl.load(offsets + e - 1, mask=(e > 0) & (e < n_experts), other=0)
    n_tiles = tl.where(e < n_experts, (end - begin + TILE - 1) // TILE, 0)
    behind = tl.cumsum(n_tiles, axis=0)
    expert = tl.sum(((behind <= tile) & (e < n_experts)).to(tl.int32), axis=0)
    start = begin + (tile - behind + n_tiles) * TILE
    first = tl.sum(tl.where(e == expert, start, 0), axis=0)
    last = tl.sum(tl.where(e == expert, end, 0), axis=0)
    return expert, first, last


@triton.jit  # type: ignore[untyped-decorator]
def _sum_rows(  # type: ignore[no-untyped-def]
    rows,
    offsets,
    parts,
    n_experts,
    width,
    SUM: tl.constexpr,
    EXPERTS: tl.constexpr,
    TILE: tl.constexpr,
    ROWS: tl.constexpr,
    WIDE: tl.constexpr,
):
    n_blocks = tl.cdiv(width, WIDE)
    tile = tl.program_id(0) // n_blocks
    c = (tl.program_id(0) % n_blocks) * WIDE + tl.arange(0, WIDE)
    expert, first, last = tile_of(offsets, tile, n_experts, EXPERTS, TILE)
    if expert < n_experts:
        acc = tl.zeros((ROWS, WIDE), dtype=SUM)
        for start in range(first, tl.minimum(first + TILE, last), ROWS):
            s = (start + tl.arange(0, ROWS)).to(tl.int64)
            inside = (s < last)[:, None] & (c < width)[None, :]
            place = rows + s[:, None] * width + c[None, :]
            acc += tl.load(place, mask=inside, other=0.0).to(SUM)
        part = parts + tile.to(tl.int64) * width + c
        tl.store(part, tl.sum(acc, axis=0), mask=c < width)


@triton.jit  # type: ignore[untyped-decorator]
def _add_parts(  # type: ignore[no-untyped-def]
    parts,
    offsets,
    total,
    width,
    SUM: tl.constexpr,
    EXPERTS: tl.constexpr,
    TILE: tl.constexpr,
    PARTS: tl.constexpr,
    NARROW: tl.constexpr,
):
    expert = tl.program_id(0)
    c = tl.program_id(1) * NARROW + tl.arange(0, NARROW)
    e = tl.arange(0, EXPERTS)
    end = tl.load(offsets + e, mask=e <= expert, other=0)
    begin = tl.load(offsets + e - 1, mask=(e > 0) & (e <= expert), other=0)
    n_tiles = (end - begin + TILE - 1) // TILE
    last = tl.sum(n_tiles, axis=0)
    first = tl.sum(tl.where(e < expert, n_tiles, 0), axis=0)
    acc = tl.zeros((PARTS, NARROW), dtype=SUM)
    for start in range(first, last, PARTS):
        tile = (start + tl.arange(0, PARTS)).to(tl.int64)
        inside = (tile < last)[:, None] & (c < width)[None, :]
        acc += tl.load(parts + tile[:, None] * width + c[None, :], inside, other=0.0)
    place = total + expert.to(tl.int64) * width + c
    tl.store(place, tl.sum(acc, axis=0), mask=c < width)


def bias_gradient(grad: Tensor, offsets: Tensor) -> Tensor:
    """Return the sum of each expert's rows, of shape (n_experts, width).

    Summed in float32 (float64 for float64) and left in it.
    """
    grad = grad.contiguous()
    kind = torch.float64 if grad.dtype == torch.float64 else torch.float32
    total = grad.new_zeros(len(offsets), grad.shape[1], dtype=kind)
    if grad.numel():
        parts = parts_of(grad, offsets)
        with torch.cuda.device_of(grad):  # type: ignore[no-untyped-call]
            _sum_rows[grid_of(grad, offsets)](
                grad, offsets, parts, len(offsets), grad.shape[1], sum_type(grad),
                triton.next_power_of_2(len(offsets)), TILE, ROWS, WIDE,
            )  # fmt: skip
            add_parts(parts, offsets, total)
    return total


def add_parts(parts: Tensor, offsets: Tensor, total: Tensor) -> None:
    """Write the sum of each expert's parts."""
    n_experts, width = total.shape
    _add_parts[(n_experts, triton.cdiv(width, NARROW))](
        parts,
        offsets,
        total,
        width,
        sum_type(parts),
        triton.next_power_of_2(n_experts),
        TILE,
        PARTS,
        NARROW,
    )


def parts_of(rows: Tensor, offsets: Tensor) -> Tensor:
    """Return memory for the sum of each tile's rows."""
    wide = torch.promote_types(rows.dtype, torch.float32)
    return rows.new_empty(len(rows) // TILE + len(offsets), rows.shape[1], dtype=wide)


def grid_of(rows: Tensor, offsets: Tensor) -> tuple[int]:
    """Return programs for the most tiles that any division of the rows makes."""
    n_tiles = len(rows) // TILE + len(offsets)
    return (n_tiles * triton.cdiv(rows.shape[1], WIDE),)


def sum_type(values: Tensor) -> tl.dtype:
    """Return the type to calculate in."""
    return tl.float64 if values.dtype == torch.float64 else tl.float32
