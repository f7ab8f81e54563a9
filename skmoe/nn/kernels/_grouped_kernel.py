"""Matrix products of expert-sorted rows, as one Triton kernel.

Biases and activations are added where the product is still in registers, and how many
rows an expert has stays on the device. The copy engine of compute capability 9 reads
and writes the tiles, so that widths must be multiples of 64. Float32 is cut off to tf32
by the tensor cores, which want both factors to lie along the sum: matrices that lie
across are copied first. Imported where Triton and a CUDA device are.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from skmoe.nn.kernels._activation_kernel import activation
from skmoe.nn.kernels._group_sums_kernel import tile_of

__all__ = ["product"]

# Bytes of a row that a step of the loop takes; rows and columns turned at once.
STEP, TURN = 128, 64


class Shape(NamedTuple):
    """Rows and columns of a tile, warps of its program, stages of its loop."""

    M: int
    N: int
    warps: int
    stages: int


# Where outputs are wide, two programs share a processor: one multiplies while the other
# one writes. Where loops are long, larger tiles read less. Timed for 1,024 and 4,096.
WIDE, DEEP = Shape(128, 128, 4, 3), Shape(128, 256, 8, 3)
ACTIVE = Shape(128, 128, 8, 3)
ROUNDED = Shape(128, 256, 8, 4)


@triton.jit  # type: ignore[untyped-decorator]
def _product(  # type: ignore[no-untyped-def]
    rows,
    weight,
    to,
    out,
    bias,
    offsets,
    n_experts,
    n_inputs,
    n_outputs,
    FLIP: tl.constexpr,
    BIASED: tl.constexpr,
    NAME: tl.constexpr,
    STAGED: tl.constexpr,
    EXPERTS: tl.constexpr,
    M: tl.constexpr,
    N: tl.constexpr,
    K: tl.constexpr,
):
    n_blocks = tl.cdiv(n_outputs, N)
    tile = tl.program_id(0) // n_blocks
    column = (tl.program_id(0) % n_blocks) * N
    expert, first, last = tile_of(offsets, tile, n_experts, EXPERTS, M)
    if expert < n_experts:
        acc = tl.zeros((M, N), dtype=tl.float32)
        for k in range(0, n_inputs, K):
            # Rows of the next expert come along; what they give is not stored.
            a = rows.load([first, k])
            if FLIP:
                b = weight.load([expert * n_outputs + column, k])
                acc = tl.dot(a, b.T, acc, input_precision="tf32")
            else:
                b = weight.load([expert * n_inputs + k, column])
                acc = tl.dot(a, b, acc)
        c = column + tl.arange(0, N)
        if BIASED:
            shift = bias + expert.to(tl.int64) * n_outputs + c
            shift = tl.load(shift, mask=c < n_outputs, other=0.0)
            acc += shift.to(tl.float32)[None, :]
        acc, _ = activation(acc, NAME, True)
        value = acc.to(out.dtype.element_ty)
        # Tiles of float32 find no room beside what the loop holds.
        if STAGED and first + M <= last:
            to.store([first, column], value)
        else:
            r = first + tl.arange(0, M)
            inside = (r < last)[:, None] & (c < n_outputs)[None, :]
            place = out + r.to(tl.int64)[:, None] * n_outputs + c[None, :]
            tl.store(place, value, mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def _turn(weight, out, n_rows, n_columns, TURN: tl.constexpr):  # type: ignore[no-untyped-def]
    here = tl.program_id(2).to(tl.int64) * n_rows * n_columns
    r = tl.program_id(1) * TURN + tl.arange(0, TURN)
    c = tl.program_id(0) * TURN + tl.arange(0, TURN)
    tile = tl.load(weight + here + r[:, None] * n_columns + c[None, :])
    tl.store(out + here + c[:, None] * n_rows + r[None, :], tile.T)


def product(
    rows: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    offsets: Tensor,
    flip: bool = False,
    name: str = "identity",
) -> Tensor:
    """Return the activation of the map of each row by its expert's matrix.

    Parameters
    ----------
    rows : tensor of bfloat16 or float32 of shape (n_slots, n_inputs)
        Sorted by expert, on a CUDA device.
    weight : tensor of the same type of shape (n_experts, n_inputs, n_outputs)
        Flipped: (n_experts, n_outputs, n_inputs). Widths are multiples of 64.
    bias : tensor of shape (n_experts, n_outputs), or None
    offsets : tensor of int32 of shape (n_experts,)
        Where each expert's rows end.
    flip : bool, default=False
        Whether rows are multiplied by the transpose.
    name : {"gelu", "relu", "silu", "tanh", "identity"}

    Returns
    -------
    out : tensor of the same type of shape (n_slots, n_outputs)
        Uninitialised behind the last offset.
    """
    n_inputs, n_outputs = weight.shape[2 if flip else 1], weight.shape[1 if flip else 2]
    out = rows.new_empty(len(rows), n_outputs)
    if not out.numel():
        return out
    wide = rows.dtype == torch.float32
    step = STEP // rows.element_size()
    shape = _shape(n_inputs > n_outputs and not flip, wide, name != "identity")
    n_tiles = len(out) // shape.M + len(offsets)
    with torch.cuda.device_of(rows):  # type: ignore[no-untyped-call]
        if wide and not flip:
            weight, flip = _turned(weight), True
        block = (shape.N, step) if flip else (step, shape.N)
        _product[(n_tiles * triton.cdiv(n_outputs, shape.N),)](
            _lying(rows, shape.M, step), _lying(weight.flatten(0, 1), *block),
            _lying(out, shape.M, shape.N), out,
            out if bias is None else bias.contiguous(), offsets,
            len(offsets), n_inputs, n_outputs, flip, bias is not None, name, not wide,
            triton.next_power_of_2(len(offsets)), shape.M, shape.N, step,
            num_warps=shape.warps, num_stages=shape.stages,
        )  # fmt: skip
    return out


def _shape(deep: bool, wide: bool, active: bool) -> Shape:
    """Return the tile for long loops, float32, and outputs that get an activation."""
    if wide:
        return ROUNDED
    if active:
        return ACTIVE
    return DEEP if deep else WIDE


def _turned(weight: Tensor) -> Tensor:
    """Return the transposes of matrices whose widths are multiples of `TURN`."""
    n_experts, n_rows, n_columns = weight.shape
    out = weight.new_empty(n_experts, n_columns, n_rows)
    grid = (n_columns // TURN, n_rows // TURN, n_experts)
    _turn[grid](weight, out, n_rows, n_columns, TURN)
    return out


def _lying(matrix: Tensor, n_rows: int, n_columns: int) -> TensorDescriptor:
    """Return what tells the copy engine how a matrix lies, and the size of a tile.

    It reads zeros outside of the matrix, and writes nothing there.
    """
    return TensorDescriptor.from_tensor(matrix, [n_rows, n_columns])
