"""Matrix products of expert-sorted rows, as one Triton kernel.

Biases and activations are added where the product is still in registers, and how many
rows an expert has stays on the device. The copy engine of compute capability 9 reads
and writes the tiles, so that widths must be multiples of 64. Imported where Triton and
a CUDA device are.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from skmoe.nn.kernels._activation_kernel import activation
from skmoe.nn.kernels._group_sums_kernel import tile_of

__all__ = ["STEP", "product"]

# Columns of the rows that a step of the loop takes.
STEP = 64


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
                acc = tl.dot(a, b.T, acc)
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
        if first + M <= last:
            to.store([first, column], value)
        else:
            r = first + tl.arange(0, M)
            inside = (r < last)[:, None] & (c < n_outputs)[None, :]
            place = out + r.to(tl.int64)[:, None] * n_outputs + c[None, :]
            tl.store(place, value, mask=inside)


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
    rows : tensor of bfloat16 of shape (n_slots, n_inputs) on a CUDA device
        Sorted by expert.
    weight : tensor of bfloat16 of shape (n_experts, n_inputs, n_outputs)
        Flipped: (n_experts, n_outputs, n_inputs). Widths are multiples of `STEP`.
    bias : tensor of shape (n_experts, n_outputs), or None
    offsets : tensor of int32 of shape (n_experts,)
        Where each expert's rows end.
    flip : bool, default=False
        Whether rows are multiplied by the transpose.
    name : {"gelu", "relu", "silu", "tanh", "identity"}

    Returns
    -------
    out : tensor of bfloat16 of shape (n_slots, n_outputs)
        Uninitialised behind the last offset.
    """
    n_inputs, n_outputs = weight.shape[2 if flip else 1], weight.shape[1 if flip else 2]
    out = rows.new_empty(len(rows), n_outputs)
    if not out.numel():
        return out
    shape = DEEP if n_inputs > n_outputs and not flip else WIDE
    shape = shape if name == "identity" else ACTIVE
    n_tiles = len(out) // shape.M + len(offsets)
    block = (shape.N, STEP) if flip else (STEP, shape.N)
    lying = (
        _lying(rows, shape.M, STEP),
        _lying(weight.flatten(0, 1), *block),
        _lying(out, shape.M, shape.N),
    )
    with torch.cuda.device_of(rows):  # type: ignore[no-untyped-call]
        _product[(n_tiles * triton.cdiv(n_outputs, shape.N),)](
            *lying, out, out if bias is None else bias.contiguous(), offsets,
            len(offsets), n_inputs, n_outputs, flip, bias is not None, name,
            triton.next_power_of_2(len(offsets)), shape.M, shape.N, STEP,
            num_warps=shape.warps, num_stages=shape.stages,
        )  # fmt: skip
    return out


def _lying(matrix: Tensor, n_rows: int, n_columns: int) -> TensorDescriptor:
    """Return what tells the copy engine how a matrix lies, and the size of a tile.

    It reads zeros outside of the matrix, and writes nothing there.
    """
    return TensorDescriptor.from_tensor(matrix, [n_rows, n_columns])
