"""Gradients of experts of two narrow layers on sorted choices, as Triton kernels.

The hidden layer is computed again from the rows rather than kept; its gradient is
written once where rows need theirs, or are too wide to be held. Gradients of weights
are summed over fixed chunks of slots; a chunk writes one part for each expert that it
holds, and the parts of an expert are added up in their order: two runs are equal to the
last bit. Part ``chunk + expert`` belongs to one pair alone, as both only grow along the
slots, so there are ``n_chunks + n_experts`` parts whatever the loads are. Imported
where Triton and a CUDA device are.
"""

import triton
import triton.language as tl
from torch import Tensor

from skmoe.nn.kernels._tabular_kernel import (
    Sizes,
    activated,
    experts_of,
    hidden_input,
    precision,
    tile,
    vector,
)

__all__ = ["gradients"]

# Chunks of slots, rows of one, and columns of a tile where rows are wide.
MOST_CHUNKS, LEAST_ROWS, WIDE = 1056, 256, 64


@triton.jit
def _put(base, row, column, some, HEIGHT, WIDTH):  # type: ignore[no-untyped-def]
    inside = (row < HEIGHT)[:, None] & (column < WIDTH)[None, :]
    tl.store(base + row[:, None] * WIDTH + column[None, :], some, mask=inside)


@triton.jit
def _put_vector(base, i, some, SIZE):  # type: ignore[no-untyped-def]
    tl.store(base + i, some, mask=i < SIZE)


@triton.jit
def _segment(offsets, expert, begin, stop):  # type: ignore[no-untyped-def]
    # Slots of an expert that lie between two others.
    start = tl.load(offsets + expert - 1, mask=expert > 0, other=0)
    return tl.maximum(start, begin), tl.minimum(tl.load(offsets + expert), stop)


@triton.jit  # type: ignore[untyped-decorator]
def _inputs(  # type: ignore[no-untyped-def]
    to_z,
    source,
    offsets,
    w1,
    out,
    n_slots,
    N_EXPERTS: tl.constexpr,
    D: tl.constexpr,
    H: tl.constexpr,
    PRECISION: tl.constexpr,
    EXPERTS: tl.constexpr,
    ROWS: tl.constexpr,
    BD: tl.constexpr,
    BH: tl.constexpr,
):
    begin = tl.program_id(0) * ROWS
    slot = begin + tl.arange(0, ROWS)
    stop = tl.minimum(begin + ROWS, n_slots)
    stop, first, last = experts_of(offsets, begin, stop, N_EXPERTS, EXPERTS)
    choice = tl.load(source + slot, mask=slot < stop, other=0).to(tl.int64)
    column = tl.program_id(1) * BD + tl.arange(0, BD)
    for expert in range(first, last + 1):
        start, end = _segment(offsets, expert, begin, stop)
        if end > start:
            live = (slot >= start) & (slot < end)
            base = w1 + (tl.zeros((), dtype=tl.int64) + expert) * D * H
            total = tl.zeros((ROWS, BD), dtype=tl.float32)
            for h0 in range(0, H, BH):
                hidden = h0 + tl.arange(0, BH)
                some = tile(to_z, slot.to(tl.int64), hidden, H, live, H)
                part = tl.trans(tile(base, column, hidden, H, column < D, H))
                total = tl.dot(some, part, total, input_precision=PRECISION)
            place = out + choice[:, None] * D + column[None, :]
            tl.store(place, total, mask=live[:, None] & (column < D)[None, :])


@triton.jit  # type: ignore[untyped-decorator]
def _weights(  # type: ignore[no-untyped-def]
    x,
    grad,
    source,
    offsets,
    w1,
    b1,
    w2,
    parts,
    to_z_of,
    n_slots,
    chunk_rows,
    K: tl.constexpr,
    N_EXPERTS: tl.constexpr,
    D: tl.constexpr,
    H: tl.constexpr,
    P: tl.constexpr,
    BIAS: tl.constexpr,
    ACT: tl.constexpr,
    PRECISION: tl.constexpr,
    EXPERTS: tl.constexpr,
    KEEP: tl.constexpr,
    ROWS: tl.constexpr,
    BD: tl.constexpr,
    BH: tl.constexpr,
    BP: tl.constexpr,
):
    # A part holds w1 (D, H), b1 (H,), w2 (H, P) and b2 (P,), one behind the other.
    chunk = tl.program_id(0)
    begin = chunk * chunk_rows
    stop = tl.minimum(begin + chunk_rows, n_slots)
    stop, first, last = experts_of(offsets, begin, stop, N_EXPERTS, EXPERTS)
    hidden = tl.program_id(1) * BH + tl.arange(0, BH)
    column, result = tl.arange(0, BD), tl.arange(0, BP)
    for expert in range(first, last + 1):
        start, end = _segment(offsets, expert, begin, stop)
        if end > start:
            e = tl.zeros((), dtype=tl.int64) + expert
            back = tl.trans(tile(w2 + e * H * P, hidden, result, P, hidden < H, P))
            shift = vector(b1 + e * H, hidden, H, BIAS, BH)
            to_w1 = tl.zeros((BD, BH), dtype=tl.float32)
            to_w2 = tl.zeros((BH, BP), dtype=tl.float32)
            to_b1, to_b2 = tl.zeros((BH,), tl.float32), tl.zeros((BP,), tl.float32)
            for s0 in range(start, end, ROWS):
                slot = s0 + tl.arange(0, ROWS)
                live = slot < end
                choice = tl.load(source + slot, mask=live, other=0).to(tl.int64)
                to_out = tile(grad, choice, result, P, live, P)
                z = hidden_input(
                    x, choice // K, live, w1 + e * D * H, shift, hidden,
                    D, H, BD, PRECISION,
                )  # fmt: skip
                value, slope = activated(z, ACT)
                to_z = slope * tl.dot(to_out, back, input_precision=PRECISION)
                if D <= BD:
                    rows = tl.trans(tile(x, choice // K, column, D, live, D))
                    to_w1 = tl.dot(rows, to_z, to_w1, input_precision=PRECISION)
                value = tl.trans(value)
                to_w2 = tl.dot(value, to_out, to_w2, input_precision=PRECISION)
                to_b1 += tl.sum(to_z, 0)
                to_b2 += tl.sum(to_out, 0)
                if KEEP:
                    _put(to_z_of, slot.to(tl.int64), hidden, to_z, end, H)
            own = parts + (chunk + e) * (D * H + H + H * P + P)
            _put(own, column, hidden, to_w1, D if D <= BD else 0, H)
            _put_vector(own + D * H, hidden, to_b1, H)
            _put(own + D * H + H, hidden, result, to_w2, H, P)
            _put_vector(own + D * H + H + H * P, result, to_b2, P)


@triton.jit  # type: ignore[untyped-decorator]
def _first_weights(  # type: ignore[no-untyped-def]
    x,
    to_z,
    source,
    offsets,
    parts,
    n_slots,
    chunk_rows,
    SIZE,
    K: tl.constexpr,
    N_EXPERTS: tl.constexpr,
    D: tl.constexpr,
    H: tl.constexpr,
    PRECISION: tl.constexpr,
    EXPERTS: tl.constexpr,
    ROWS: tl.constexpr,
    BD: tl.constexpr,
    BH: tl.constexpr,
):
    chunk = tl.program_id(0)
    begin = chunk * chunk_rows
    stop = tl.minimum(begin + chunk_rows, n_slots)
    stop, first, last = experts_of(offsets, begin, stop, N_EXPERTS, EXPERTS)
    column = tl.program_id(1) * BD + tl.arange(0, BD)
    hidden = tl.program_id(2) * BH + tl.arange(0, BH)
    for expert in range(first, last + 1):
        start, end = _segment(offsets, expert, begin, stop)
        if end > start:
            total = tl.zeros((BD, BH), dtype=tl.float32)
            for s0 in range(start, end, ROWS):
                slot = s0 + tl.arange(0, ROWS)
                live = slot < end
                choice = tl.load(source + slot, mask=live, other=0).to(tl.int64)
                rows = tl.trans(tile(x, choice // K, column, D, live, D))
                some = tile(to_z, slot.to(tl.int64), hidden, H, live, H)
                total = tl.dot(rows, some, total, input_precision=PRECISION)
            own = parts + (tl.zeros((), dtype=tl.int64) + chunk + expert) * SIZE
            _put(own, column, hidden, total, D, H)


@triton.jit  # type: ignore[untyped-decorator]
def _added(  # type: ignore[no-untyped-def]
    parts, offsets, total, CHUNK, SIZE, PARTS: tl.constexpr, WIDE: tl.constexpr
):
    e = tl.program_id(0).to(tl.int64)
    i = tl.program_id(1) * WIDE + tl.arange(0, WIDE)
    start = tl.load(offsets + e - 1, mask=e > 0, other=0)
    end = tl.load(offsets + e)
    some = tl.zeros((PARTS, WIDE), dtype=tl.float32)
    if end > start:
        for first in range(start // CHUNK, (end - 1) // CHUNK + 1, PARTS):
            chunk = first + tl.arange(0, PARTS)
            inside = (chunk <= (end - 1) // CHUNK)[:, None] & (i < SIZE)[None, :]
            place = parts + (chunk + e)[:, None] * SIZE + i[None, :]
            some += tl.load(place, mask=inside, other=0.0)
    tl.store(total + e * SIZE + i, tl.sum(some, 0), mask=i < SIZE)


def gradients(
    grad: Tensor,
    x: Tensor,
    source: Tensor,
    k: int,
    offsets: Tensor,
    w1: Tensor,
    b1: Tensor | None,
    w2: Tensor,
    activation: str,
    to_x: Tensor | None,
) -> Tensor:
    """Return the gradients of the weights, and write that of the choices' rows.

    Parameters
    ----------
    grad : contiguous tensor of float32 of shape (n_rows, k, n_outputs)
    x, source, k, offsets, w1, b1, w2, activation
        As in `skmoe.nn.kernels._tabular_kernel.forward`.
    to_x : contiguous tensor of float32 of shape (n_rows, k, n_inputs), or None
        Where the gradient of the row of each choice goes. Rows of choices that are in
        no slot are left as they are. None: it is not asked for.

    Returns
    -------
    total : tensor of float32 of shape (n_experts, d h + h + h o + o)
        Those of w1, b1, w2 and b2 of an expert, one behind the other.
    """
    sizes, n_slots = Sizes(w1, w2), len(source)
    n_experts, d, h, o = sizes.shape
    size = d * h + h + h * o + o
    if not n_slots:
        return w1.new_zeros(n_experts, size)
    wide, exact = d > sizes.bd, precision()
    chunk_rows = 32 * triton.cdiv(n_slots, 32 * MOST_CHUNKS)
    chunk_rows = max(chunk_rows, LEAST_ROWS)
    n_chunks = triton.cdiv(n_slots, chunk_rows)
    parts = w1.new_empty(n_chunks + n_experts, size)
    keep = wide or to_x is not None
    to_z = w1.new_empty(n_slots, h) if keep else parts
    _weights[(n_chunks, triton.cdiv(h, sizes.bh))](
        x, grad, source, offsets, w1, w1 if b1 is None else b1, w2, parts, to_z,
        n_slots, chunk_rows, k, *sizes.shape, b1 is not None, activation, exact,
        sizes.experts, keep, 32 if exact == "ieee" else 64, sizes.bd, sizes.bh,
        sizes.bp, num_warps=4,
    )  # fmt: skip
    if wide:
        bh = min(max(triton.next_power_of_2(h), 16), WIDE)
        tiles = n_chunks, triton.cdiv(d, WIDE), triton.cdiv(h, bh)
        _first_weights[tiles](
            x, to_z, source, offsets, parts, n_slots, chunk_rows, size, k,
            n_experts, d, h, exact, sizes.experts, 32, WIDE, bh, num_warps=4,
        )  # fmt: skip
    if to_x is not None:
        bd = WIDE if wide else sizes.bd
        rows = 64 if wide and exact == "tf32" else 128
        _inputs[(triton.cdiv(n_slots, rows), triton.cdiv(d, bd))](
            to_z, source, offsets, w1, to_x, n_slots, n_experts, d, h, exact,
            sizes.experts, rows, bd, sizes.inner, num_warps=4,
        )  # fmt: skip
    total = w1.new_empty(n_experts, size)
    _added[(n_experts, triton.cdiv(size, 128))](
        parts, offsets, total, chunk_rows, size, 16, 128
    )
    return total
