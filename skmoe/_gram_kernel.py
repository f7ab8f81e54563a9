"""Weighted grams on a CUDA device, as one Triton kernel. Imported where both are.

The sums are those of `skmoe._blocks.half_products`: for each pair of columns i <= j
and each row w of weights, ``sum_r w(r) x_i(r) x_j(r)``. As a product of matrices that
is (pairs, rows) times (rows, weights), of which the first factor is formed tile by tile
in registers: neither the products of pairs nor weighted copies of X are ever written.
Written out, these cost 3 to 7 times as much as the arithmetic (see `benchmarks/gpu`).
"""

from functools import lru_cache
from typing import Any

import torch
import triton
import triton.language as tl

__all__ = ["weighted_grams_on_cuda"]

# Programs for each multiprocessor: enough to even out their ends.
WAVES = 12
# Up to so many weights, tiles of one first column are the faster ones.
FEW_WEIGHTS = 16
# Second columns of such a tile.
COLUMNS = 32


@triton.jit
def packed_grams(
    X,
    weights,
    out,
    first,
    second,
    n_rows,
    n_pairs,
    n_weights,
    x_stride,
    w_stride,
    rows_each,
    PAIRS: tl.constexpr,
    WEIGHTS: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Sum a tile of pairs and weights over one share of the rows."""
    part = tl.program_id(2).to(tl.int64)
    pair = tl.program_id(0) * PAIRS + tl.arange(0, PAIRS)
    weight = tl.program_id(1) * WEIGHTS + tl.arange(0, WEIGHTS)
    in_pairs, in_weights = pair < n_pairs, weight < n_weights
    i = tl.load(first + pair, mask=in_pairs, other=0).to(tl.int64)
    j = tl.load(second + pair, mask=in_pairs, other=0).to(tl.int64)
    left, right = X + i[:, None] * x_stride, X + j[:, None] * x_stride
    scale = weights + weight[None, :].to(tl.int64) * w_stride
    total = tl.zeros((PAIRS, WEIGHTS), dtype=tl.float64)
    start = part * rows_each
    end = tl.minimum(start + rows_each, n_rows)
    for begin in range(start, end, ROWS):
        row = begin + tl.arange(0, ROWS)
        inside = row < end
        a = tl.load(left + row[None, :], mask=inside[None, :], other=0.0)
        b = tl.load(right + row[None, :], mask=inside[None, :], other=0.0)
        mask = inside[:, None] & in_weights[None, :]
        w = tl.load(scale + row[:, None], mask=mask, other=0.0)
        total = tl.dot(a * b, w, total, input_precision="ieee", out_dtype=tl.float64)
    place = out + (part * n_pairs + pair[:, None]) * n_weights + weight[None, :]
    tl.store(place, total, mask=in_pairs[:, None] & in_weights[None, :])


@triton.jit
def grams_of_few(
    X,
    weights,
    out,
    first,
    second,
    offset,
    n_rows,
    n_columns,
    n_pairs,
    n_weights,
    x_stride,
    w_stride,
    rows_each,
    COLUMNS: tl.constexpr,
    WEIGHTS: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Sum a tile of pairs that share their first column, under all weights.

    The first column is multiplied into the weights, so that a tile loads its second
    columns alone: with few weights it is loads that take the time.
    """
    tile, part = tl.program_id(0), tl.program_id(1).to(tl.int64)
    i = tl.load(first + tile).to(tl.int64)
    j = tl.load(second + tile).to(tl.int64) + tl.arange(0, COLUMNS)
    weight = tl.arange(0, WEIGHTS)
    in_columns, in_weights = j < n_columns, weight < n_weights
    left, right = X + i * x_stride, X + j[:, None] * x_stride
    scale = weights + weight[None, :].to(tl.int64) * w_stride
    total = tl.zeros((COLUMNS, WEIGHTS), dtype=tl.float64)
    start = part * rows_each
    end = tl.minimum(start + rows_each, n_rows)
    for begin in range(start, end, ROWS):
        row = begin + tl.arange(0, ROWS)
        inside = row < end
        a = tl.load(left + row, mask=inside, other=0.0)
        mask = in_columns[:, None] & inside[None, :]
        b = tl.load(right + row[None, :], mask=mask, other=0.0)
        mask = inside[:, None] & in_weights[None, :]
        w = tl.load(scale + row[:, None], mask=mask, other=0.0)
        total = tl.dot(
            b, w * a[:, None], total, input_precision="ieee", out_dtype=tl.float64
        )
    pair = tl.load(offset + tile).to(tl.int64) + tl.arange(0, COLUMNS)
    place = out + (part * n_pairs + pair[:, None]) * n_weights + weight[None, :]
    tl.store(place, total, mask=in_columns[:, None] & in_weights[None, :])


def weighted_grams_on_cuda(design: Any, weights: Any) -> Any:
    """Return packed weighted grams of a design block.

    Parameters
    ----------
    design : CUDA tensor of float64 of shape (n_columns, n_rows)
    weights : CUDA tensor of float64 of shape (n_weights, n_rows)
        Columns of either that are not contiguous are copied first.

    Returns
    -------
    grams : tensor of shape (n_columns * (n_columns + 1) / 2, n_weights)
        In the order of `half_products`. The sums over shares of the rows are added
        in a fixed order: the same input gives the same bits.
    """
    if weights.shape[0] == 0:
        p = design.shape[0]
        return design.new_zeros((p * (p + 1) // 2, 0))
    if design.stride(1) != 1 or weights.stride(1) != 1:
        design, weights = design.contiguous(), weights.contiguous()
    with torch.cuda.device(design.device):
        if weights.shape[0] <= FEW_WEIGHTS:
            return _few(design, weights)
        return _many(design, weights)


def _many(design: Any, weights: Any) -> Any:
    """Return the grams by tiles of pairs and weights."""
    (p, n_rows), n_weights = design.shape, weights.shape[0]
    n_pairs = p * (p + 1) // 2
    # The best of some forty shapes, for 20 to 100 columns on an H200.
    pairs, columns = (128, 32) if n_weights <= 32 else (64, 64)
    grid = (-(-n_pairs // pairs), -(-n_weights // columns))
    rows_each, out = _shares(design, n_weights, grid[0] * grid[1], 16)
    packed_grams[(*grid, out.shape[0])](
        design,
        weights,
        out,
        *_pairs(p, design.device),
        n_rows,
        n_pairs,
        n_weights,
        design.stride(0),
        weights.stride(0),
        rows_each,
        PAIRS=pairs,
        WEIGHTS=columns,
        ROWS=16,
        num_warps=4,
        num_stages=4,
    )
    return out.sum(0)


def _few(design: Any, weights: Any) -> Any:
    """Return the grams by tiles of one first column."""
    (p, n_rows), n_weights = design.shape, weights.shape[0]
    tiles = _tiles(p, design.device)
    rows_each, out = _shares(design, n_weights, tiles[0].shape[0], 32)
    grams_of_few[(tiles[0].shape[0], out.shape[0])](
        design,
        weights,
        out,
        *tiles,
        n_rows,
        p,
        p * (p + 1) // 2,
        n_weights,
        design.stride(0),
        weights.stride(0),
        rows_each,
        COLUMNS=COLUMNS,
        WEIGHTS=8 if n_weights <= 8 else 16,
        ROWS=32,
        num_warps=1,
        num_stages=2,
    )
    return out.sum(0)


def _shares(design: Any, n_weights: int, n_tiles: int, step: int) -> tuple[int, Any]:
    """Return rows of each share, a multiple of a step, and a place for its sums."""
    p, n_rows = design.shape
    processors = torch.cuda.get_device_properties(design.device).multi_processor_count
    shares = max(1, processors * WAVES // n_tiles)
    rows_each = -(-n_rows // (shares * step)) * step
    shape = (-(-n_rows // rows_each), p * (p + 1) // 2, n_weights)
    return rows_each, torch.empty(shape, dtype=torch.float64, device=design.device)


@lru_cache(maxsize=32)
def _pairs(p: int, device: Any) -> Any:
    """Return both columns of each pair, in the order of `half_products`."""
    return torch.triu_indices(p, p, device=device, dtype=torch.int32).unbind()


@lru_cache(maxsize=32)
def _tiles(p: int, device: Any) -> Any:
    """Return each tile's first column, its first second one, and its first pair."""
    starts = [i * p - i * (i - 1) // 2 for i in range(p)]  # pairs (i, i)
    tiles = [(i, j, starts[i] + j - i) for i in range(p) for j in range(i, p, COLUMNS)]
    table = torch.tensor(tiles, dtype=torch.int32, device=device)
    return table.T.contiguous().unbind()
