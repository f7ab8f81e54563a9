"""Experts of two narrow layers on sorted choices, as one Triton kernel.

A tabular row has few columns, and its expert few hidden units: products cost less than
moving rows and hidden layers between kernels. Here a program takes a block of slots,
reads their rows where they stand, holds the hidden layer in registers, and writes what
comes out to the place of the choice, so that no row is moved on the way in or back. A
block may hold slots of several experts: it goes through them one after the other, and
the grid does not depend on how many rows each has. Imported where Triton and a CUDA
device are.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = [
    "Sizes",
    "activated",
    "experts_of",
    "forward",
    "hidden_input",
    "precision",
    "tile",
    "vector",
]


@triton.jit  # type: ignore[untyped-decorator]
def activated(z, ACT: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return the activation of z, and its derivative."""
    if ACT == "relu":
        value = tl.where(z < 0.0, 0.0, z)  # NaN stays NaN
        slope = tl.where(z > 0.0, 1.0, 0.0)
    elif ACT == "tanh":
        # Nothing cancels in the slope, however near to one the value is.
        fall = tl.exp(-2.0 * tl.abs(z))
        value = tl.where(z < 0.0, -1.0, 1.0) * (1.0 - fall) / (1.0 + fall)
        slope = 4.0 * fall / ((1.0 + fall) * (1.0 + fall))
    elif ACT == "silu":
        gate = tl.sigmoid(z)
        value = z * gate
        slope = gate * (1.0 + z * (1.0 - gate))
    else:
        below = 0.5 + 0.5 * tl.erf(z * 0.7071067811865476)
        value = z * below
        slope = below + z * tl.exp(-0.5 * z * z) * 0.3989422804014327
    return value, slope


@triton.jit  # type: ignore[untyped-decorator]
def experts_of(  # type: ignore[no-untyped-def]
    offsets, begin, stop, N_EXPERTS: tl.constexpr, EXPERTS: tl.constexpr
):
    """Return where filled slots end, and the first and last expert of a range."""
    e = tl.arange(0, EXPERTS)
    ends = tl.load(offsets + e, mask=e < N_EXPERTS, other=2147483647)
    filled = tl.load(offsets + N_EXPERTS - 1)
    stop = tl.minimum(stop, filled)
    first = tl.sum((ends <= begin).to(tl.int32), 0)
    last = tl.sum((ends < stop).to(tl.int32), 0)
    return stop, first, last


@triton.jit  # type: ignore[untyped-decorator]
def tile(  # type: ignore[no-untyped-def]
    base, row, column, STRIDE: tl.constexpr, live, WIDTH: tl.constexpr
):
    """Return the numbers at rows and columns of a matrix, zero where there are none."""
    inside = live[:, None] & (column < WIDTH)[None, :]
    place = base + row[:, None] * STRIDE + column[None, :]
    return tl.load(place, mask=inside, other=0.0)


@triton.jit  # type: ignore[untyped-decorator]
def hidden_input(  # type: ignore[no-untyped-def]
    x,
    row,
    live,
    w1,
    shift,
    hidden,
    D: tl.constexpr,
    H: tl.constexpr,
    BD: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Return the product of rows and one expert's first weights, plus a bias."""
    z = tl.zeros((row.shape[0], hidden.shape[0]), dtype=tl.float32) + shift[None, :]
    for d0 in range(0, D, BD):
        column = d0 + tl.arange(0, BD)
        some = tile(x, row, column, D, live, D)
        part = tile(w1, column, hidden, H, column < D, H)
        z = tl.dot(some, part, z, input_precision=PRECISION)
    return z


@triton.jit  # type: ignore[untyped-decorator]
def vector(  # type: ignore[no-untyped-def]
    base, i, SIZE: tl.constexpr, BIAS: tl.constexpr, WIDE: tl.constexpr
):
    """Return the numbers of a bias, zero where there is none."""
    if BIAS:
        return tl.load(base + i, mask=i < SIZE, other=0.0)
    else:
        return tl.zeros((WIDE,), dtype=tl.float32)


@triton.jit  # type: ignore[untyped-decorator]
def _forward(  # type: ignore[no-untyped-def]
    x,
    source,
    offsets,
    w1,
    b1,
    w2,
    b2,
    out,
    n_slots,
    K: tl.constexpr,
    N_EXPERTS: tl.constexpr,
    D: tl.constexpr,
    H: tl.constexpr,
    P: tl.constexpr,
    BIAS: tl.constexpr,
    ACT: tl.constexpr,
    PRECISION: tl.constexpr,
    EXPERTS: tl.constexpr,
    ROWS: tl.constexpr,
    BD: tl.constexpr,
    BH: tl.constexpr,
    BP: tl.constexpr,
):
    begin = tl.program_id(0) * ROWS
    slot = begin + tl.arange(0, ROWS)
    stop = tl.minimum(begin + ROWS, n_slots)
    stop, first, last = experts_of(offsets, begin, stop, N_EXPERTS, EXPERTS)
    choice = tl.load(source + slot, mask=slot < stop, other=0).to(tl.int64)
    result = tl.arange(0, BP)
    for expert in range(first, last + 1):
        start = tl.load(offsets + expert - 1, mask=expert > 0, other=0)
        end = tl.load(offsets + expert)
        if end > start:
            live = (slot >= start) & (slot < tl.minimum(end, stop))
            e = tl.zeros((), dtype=tl.int64) + expert
            total = tl.zeros((ROWS, BP), dtype=tl.float32)
            total += vector(b2 + e * P, result, P, BIAS, BP)[None, :]
            for h0 in range(0, H, BH):
                hidden = h0 + tl.arange(0, BH)
                shift = vector(b1 + e * H, hidden, H, BIAS, BH)
                z = hidden_input(
                    x, choice // K, live, w1 + e * D * H, shift, hidden,
                    D, H, BD, PRECISION,
                )  # fmt: skip
                value, _ = activated(z, ACT)
                part = tile(w2 + e * H * P, hidden, result, P, hidden < H, P)
                total = tl.dot(value, part, total, input_precision=PRECISION)
            place = out + choice[:, None] * P + result[None, :]
            tl.store(place, total, mask=live[:, None] & (result < P)[None, :])


class Sizes:
    """Shapes of a layer's tiles, as its kernels take them.

    Parameters
    ----------
    w1 : tensor of shape (n_experts, n_inputs, n_hidden)
    w2 : tensor of shape (n_experts, n_hidden, n_outputs)
    """

    def __init__(self, w1: Tensor, w2: Tensor):
        self.n_experts, self.d, self.h = w1.shape
        self.o = w2.shape[2]
        self.experts = triton.next_power_of_2(self.n_experts)
        self.bh = min(max(triton.next_power_of_2(self.h), 16), 32)
        self.bp = max(triton.next_power_of_2(self.o), 16)
        self.bd = min(max(triton.next_power_of_2(self.d), 16), 32)
        # What a product sums at once: few, where each number takes a register.
        self.inner = 16 if precision() == "ieee" else self.bd

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Experts, inputs, hidden units and outputs."""
        return self.n_experts, self.d, self.h, self.o


def precision() -> str:
    """Return how torch lets products of float32 be rounded: "tf32" or "ieee"."""
    allowed = torch.backends.cuda.matmul.fp32_precision == "tf32"
    return "tf32" if allowed else "ieee"


def forward(
    x: Tensor,
    source: Tensor,
    k: int,
    offsets: Tensor,
    w1: Tensor,
    b1: Tensor | None,
    w2: Tensor,
    b2: Tensor | None,
    activation: str,
    out: Tensor,
) -> None:
    """Write the outputs of the choices in the slots to the places of the choices.

    Parameters
    ----------
    x : contiguous tensor of float32 of shape (n_rows, n_inputs) on a CUDA device
    source : tensor of int32 of shape (n_slots,)
        Choice in each slot; choice c belongs to row ``c // k``.
    k : int
    offsets : tensor of int32 of shape (n_experts,)
        Where the slots of each expert end.
    w1, b1, w2, b2 : contiguous tensors of float32, biases both or neither None
    activation : {"relu", "gelu", "silu", "tanh"}
    out : contiguous tensor of float32 of shape (n_rows, k, n_outputs)
        Rows of choices that are in no slot are left as they are.
    """
    sizes, n_slots = Sizes(w1, w2), len(source)
    if not n_slots:
        return
    rows, bias = 128, b1 is not None
    _forward[(triton.cdiv(n_slots, rows),)](
        x, source, offsets, w1, b1 if bias else w1, w2, b2 if bias else w2, out,
        n_slots, k, *sizes.shape, bias, activation, precision(),
        sizes.experts, rows, sizes.inner, sizes.bh, sizes.bp, num_warps=4,
    )  # fmt: skip
