"""One leaf a row as Triton kernels: fast feedforward layers on a CUDA device.

Few rows: a program a row walks down the tree and runs the leaf. It loads the vectors
of three levels' splits before it knows the first choice, since such a walk waits for
memory and for little else. Many rows: a walk that counts the rows of each leaf, rows
put in the order of their leaves, and two grouped matrix products. Counts are atomic
sums of integers, and where a row stands among those of its leaf does not change its
output, so results do not depend on the order of programs. Nothing waits for the host.
Scores are formed in float32, and products of float32 are not rounded to tf32.

Imported where Triton and a CUDA device are.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["hard_leaves_on_cuda"]

# Up to so many rows (by bytes of a number) a program for each is the faster way, ...
FEW_ROWS = {4: 1024, 2: 512}
# ... and up to this width of leaves, whose hidden units one program holds.
NARROW = 64
WALK_NUMBERS = 1024  # of the rows that a program walks with at a time
PLACE_ROWS = 1024


@triton.jit  # type: ignore[untyped-decorator]
def _activated(z, ACTIVATION: tl.constexpr):  # type: ignore[no-untyped-def]
    if ACTIVATION == "relu":
        z = tl.where(z < 0.0, 0.0, z)  # what is NaN stays NaN
    if ACTIVATION == "gelu":
        z = 0.5 * z * (1.0 + tl.erf(z * 0.7071067811865476))
    if ACTIVATION == "silu":
        z = z * tl.sigmoid(z)
    if ACTIVATION == "tanh":
        z = 2.0 * tl.sigmoid(2.0 * z) - 1.0
    return z


@triton.jit  # type: ignore[untyped-decorator]
def _leaf(  # type: ignore[no-untyped-def]
    x, node_weight, node_bias, DEPTH: tl.constexpr, D: tl.constexpr, WIDE: tl.constexpr
):
    # Split j of a small tree of three levels, from its root; the eighth is none.
    j = tl.arange(0, 8)
    deep = tl.where(j == 0, 0, tl.where(j < 3, 1, 2))
    place = tl.zeros((), tl.int32)
    for first in tl.static_range(0, DEPTH, 3):
        real = (j < 7) & (first + deep < DEPTH)
        node = (1 << (first + deep)) - 1 + (place << deep) + j + 1 - (1 << deep)
        node = node.to(tl.int64)
        total = tl.zeros((8, WIDE), tl.float32)
        for start in tl.static_range(0, D, WIDE):
            d = start + tl.arange(0, WIDE)
            number = tl.load(x + d, mask=d < D, other=0.0).to(tl.float32)
            inside = real[:, None] & (d < D)[None, :]
            at = node_weight + node[:, None] * D + d[None, :]
            weight = tl.load(at, mask=inside, other=0.0).to(tl.float32)
            total += weight * number[None, :]
        bias = tl.load(node_bias + node, mask=real, other=0.0).to(tl.float32)
        right = (tl.sum(total, 1) + bias > 0.0) & real
        bits = tl.sum(tl.where(right, 1 << j, 0), 0)
        at = bits & 1
        place = 2 * place + at
        if first + 1 < DEPTH:
            at = 2 * at + ((bits >> (1 + at)) & 1)
            place = 2 * place + (at & 1)
        if first + 2 < DEPTH:
            place = 2 * place + ((bits >> (3 + at)) & 1)
    return place


@triton.jit  # type: ignore[untyped-decorator]
def _one_row(  # type: ignore[no-untyped-def]
    x,
    node_weight,
    node_bias,
    w1,
    b1,
    w2,
    b2,
    out,
    leaf_of,
    DEPTH: tl.constexpr,
    D: tl.constexpr,
    H: tl.constexpr,
    N: tl.constexpr,
    ACTIVATION: tl.constexpr,
    UNITS: tl.constexpr,
    WIDE: tl.constexpr,
    WIDE_OUT: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    x += row * D
    place = _leaf(x, node_weight, node_bias, DEPTH, D, WIDE)
    leaf = place.to(tl.int64)
    tl.store(leaf_of + row, leaf)
    h = tl.arange(0, UNITS)
    total = tl.zeros((UNITS, WIDE), tl.float32)
    for start in tl.static_range(0, D, WIDE):
        d = start + tl.arange(0, WIDE)
        number = tl.load(x + d, mask=d < D, other=0.0).to(tl.float32)
        at = w1 + (leaf * H + h[:, None]) * D + d[None, :]
        inside = (h < H)[:, None] & (d < D)[None, :]
        total += tl.load(at, mask=inside, other=0.0).to(tl.float32) * number[None, :]
    bias = tl.load(b1 + leaf * H + h, mask=h < H, other=0.0).to(tl.float32)
    hidden = _activated(tl.sum(total, 1) + bias, ACTIVATION)
    hidden = tl.where(h < H, hidden, 0.0).to(out.dtype.element_ty).to(tl.float32)
    for start in tl.static_range(0, N, WIDE_OUT):
        n = start + tl.arange(0, WIDE_OUT)
        at = w2 + (leaf * H + h[:, None]) * N + n[None, :]
        inside = (h < H)[:, None] & (n < N)[None, :]
        weight = tl.load(at, mask=inside, other=0.0).to(tl.float32)
        bias = tl.load(b2 + leaf * N + n, mask=n < N, other=0.0).to(tl.float32)
        value = tl.sum(weight * hidden[:, None], 0) + bias
        tl.store(out + row * N + n, value.to(out.dtype.element_ty), mask=n < N)


@triton.jit  # type: ignore[untyped-decorator]
def _walk(  # type: ignore[no-untyped-def]
    x,
    node_weight,
    node_bias,
    leaf_of,
    rank,
    count,
    n_rows,
    DEPTH: tl.constexpr,
    D: tl.constexpr,
    ROWS: tl.constexpr,
    WIDE: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    place = tl.zeros((ROWS,), tl.int32)
    for level in range(DEPTH):
        node = ((1 << level) - 1 + place).to(tl.int64)
        total = tl.zeros((ROWS, WIDE), tl.float32)
        for start in tl.static_range(0, D, WIDE):
            d = start + tl.arange(0, WIDE)
            inside = (row < n_rows)[:, None] & (d < D)[None, :]
            at = x + row[:, None] * D + d[None, :]
            number = tl.load(at, mask=inside, other=0.0).to(tl.float32)
            at = node_weight + node[:, None] * D + d[None, :]
            total += tl.load(at, mask=inside, other=0.0).to(tl.float32) * number
        score = tl.sum(total, 1) + tl.load(node_bias + node).to(tl.float32)
        place = 2 * place + (score > 0.0).to(tl.int32)
    tl.store(leaf_of + row, place.to(tl.int64), mask=row < n_rows)
    before = tl.atomic_add(count + place, 1, mask=row < n_rows, sem="relaxed")
    tl.store(rank + row, before, mask=row < n_rows)


@triton.jit  # type: ignore[untyped-decorator]
def _starts(  # type: ignore[no-untyped-def]
    count,
    first,
    first_tile,
    LEAVES: tl.constexpr,
    TILE: tl.constexpr,
    WIDE: tl.constexpr,
):
    # One program: slots and tiles before each leaf; behind the last, all of them.
    slots = tl.zeros((), tl.int32)
    tiles = tl.zeros((), tl.int32)
    for start in range(0, LEAVES, WIDE):
        leaf = start + tl.arange(0, WIDE)
        inside = leaf < LEAVES
        some = tl.load(count + leaf, mask=inside, other=0)
        cut = (some + TILE - 1) // TILE
        tl.store(first + leaf, slots + tl.cumsum(some, 0) - some, mask=inside)
        tl.store(first_tile + leaf, tiles + tl.cumsum(cut, 0) - cut, mask=inside)
        slots += tl.sum(some, 0)
        tiles += tl.sum(cut, 0)
    tl.store(first + LEAVES, slots)
    tl.store(first_tile + LEAVES, tiles)


@triton.jit  # type: ignore[untyped-decorator]
def _place(  # type: ignore[no-untyped-def]
    leaf_of,
    rank,
    first,
    first_tile,
    source,
    leaf_of_tile,
    n_rows,
    TILE: tl.constexpr,
    ROWS: tl.constexpr,
):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    inside = row < n_rows
    leaf = tl.load(leaf_of + row, mask=inside, other=0).to(tl.int32)
    before = tl.load(rank + row, mask=inside, other=0)
    tl.store(source + tl.load(first + leaf) + before, row, mask=inside)
    tile = tl.load(first_tile + leaf) + before // TILE
    tl.store(leaf_of_tile + tile, leaf, mask=inside & (before % TILE == 0))


@triton.jit  # type: ignore[untyped-decorator]
def _grouped(  # type: ignore[no-untyped-def]
    rows,
    weight,
    bias,
    out,
    source,
    first,
    first_tile,
    leaf_of_tile,
    n_leaves,
    K: tl.constexpr,
    N: tl.constexpr,
    FROM_SOURCE: tl.constexpr,
    ACTIVATION: tl.constexpr,
    TILE: tl.constexpr,
    WIDE: tl.constexpr,
    DEEP: tl.constexpr,
):
    # Either rows come from where they are and their outputs stay sorted, with weights
    # (n_leaves, N, K), or the other way round with weights (n_leaves, K, N).
    tile = tl.program_id(0)
    if tile >= tl.load(first_tile + n_leaves):
        return
    leaf = tl.load(leaf_of_tile + tile)
    begin = tl.load(first + leaf) + (tile - tl.load(first_tile + leaf)) * TILE
    slot = begin + tl.arange(0, TILE)
    inside = slot < tl.load(first + leaf + 1)
    unsorted = tl.load(source + slot, mask=inside, other=0).to(tl.int64)
    slot = slot.to(tl.int64)
    leaf = leaf.to(tl.int64)
    n = tl.program_id(1) * WIDE + tl.arange(0, WIDE)
    total = tl.zeros((TILE, WIDE), tl.float32)
    for start in range(0, K, DEEP):
        k = start + tl.arange(0, DEEP)
        if FROM_SOURCE:
            at = rows + unsorted[:, None] * K + k[None, :]
            at_weight = weight + (leaf * N + n[None, :]) * K + k[:, None]
        else:
            at = rows + slot[:, None] * K + k[None, :]
            at_weight = weight + (leaf * K + k[:, None]) * N + n[None, :]
        left = tl.load(at, mask=inside[:, None] & (k < K)[None, :], other=0.0)
        valid = (k < K)[:, None] & (n < N)[None, :]
        right = tl.load(at_weight, mask=valid, other=0.0)
        total = tl.dot(left, right, total, input_precision="ieee")
    total += tl.load(bias + leaf * N + n, mask=n < N, other=0.0).to(tl.float32)[None, :]
    total = _activated(total, ACTIVATION).to(out.dtype.element_ty)
    to = slot if FROM_SOURCE else unsorted
    at = out + to[:, None] * N + n[None, :]
    tl.store(at, total, mask=inside[:, None] & (n < N)[None, :])


def hard_leaves_on_cuda(
    x: Tensor, tree: tuple[Tensor, ...], activation: str
) -> tuple[Tensor, Tensor]:
    """Return what the leaf of each row makes of it, and the leaf.

    Parameters
    ----------
    x : contiguous tensor of float32, bfloat16 or float16, of shape (n_rows, n_inputs)
        At least one row.
    tree : tuple of six tensors
        As `skmoe.nn._tree_walk.Tree` has them.
    activation : {"relu", "gelu", "silu", "tanh"}

    Returns
    -------
    out : tensor of shape (n_rows, n_outputs)
    leaf : tensor of int64 of shape (n_rows,)
    """
    tree = tuple(part.contiguous() for part in tree)
    n_rows, n_leaves, width, n_outputs = x.shape[0], *tree[4].shape
    out = x.new_empty(n_rows, n_outputs)
    leaf = torch.empty(n_rows, dtype=torch.int64, device=x.device)
    depth = n_leaves.bit_length() - 1
    few = n_rows <= FEW_ROWS[x.itemsize] and width <= NARROW
    with torch.cuda.device_of(x):  # type: ignore[no-untyped-call]
        if few:
            _one_row[(n_rows,)](
                x, *tree, out, leaf, depth, x.shape[1], width, n_outputs, activation,
                _power(width, 8, NARROW),
                _power(x.shape[1], 32, 1024 // x.itemsize),
                _power(n_outputs, 32, 1024 // x.itemsize),
            )  # fmt: skip
        else:
            _by_leaf(x, tree, out, leaf, depth, activation)
    return out, leaf


def _by_leaf(
    x: Tensor,
    tree: tuple[Tensor, ...],
    out: Tensor,
    leaf: Tensor,
    depth: int,
    activation: str,
) -> None:
    """Fill the outputs and leaves of many rows."""
    node_weight, node_bias, w1, b1, w2, b2 = tree
    n_rows, n_inputs, n_leaves = *x.shape, len(w1)
    # In float32 no tensor core works: large tiles pay late.
    many = 512 if x.dtype == torch.float32 else 32
    tile = 16 if n_rows <= many * n_leaves else 64
    count = _integers(x, n_leaves).zero_()
    rank, source = _integers(x, n_rows), _integers(x, n_rows)
    first, first_tile = _integers(x, n_leaves + 1), _integers(x, n_leaves + 1)
    n_tiles = n_rows // tile + min(n_leaves, n_rows)
    leaf_of_tile = _integers(x, n_tiles)
    wide = _power(n_inputs, 16, WALK_NUMBERS)
    rows = WALK_NUMBERS // wide
    counted = (leaf, rank, count, n_rows, depth, n_inputs, rows, wide)
    _walk[(triton.cdiv(n_rows, rows),)](
        x, node_weight, node_bias, *counted, num_warps=1
    )
    _starts[(1,)](count, first, first_tile, n_leaves, tile, 1024)
    places = (rank, first, first_tile, source, leaf_of_tile, n_rows, tile)
    _place[(triton.cdiv(n_rows, PLACE_ROWS),)](leaf, *places, PLACE_ROWS)
    hidden = x.new_empty(n_rows, w1.shape[1])
    where = (source, first, first_tile, leaf_of_tile, n_leaves)
    for given, weight, bias, made in ((x, w1, b1, hidden), (hidden, w2, b2, out)):
        inwards, deep, n = made is hidden, given.shape[1], made.shape[1]
        function = activation if inwards else "none"
        block = _power(n, 16, 64)
        sizes = (
            deep,
            n,
            inwards,
            function,
            tile,
            block,
            _power(deep, 16, 256 // x.itemsize),
        )
        _grouped[(n_tiles, triton.cdiv(n, block))](
            *(given, weight, bias, made),
            *where,
            *sizes,
            num_warps=2 if tile * block <= 512 else 4,
        )


def _integers(like: Tensor, size: int) -> Tensor:
    return torch.empty(size, dtype=torch.int32, device=like.device)


def _power(number: int, least: int, most: int) -> int:
    """Return the power of two that covers a number, within limits."""
    return min(max(1 << (number - 1).bit_length(), least), most)
