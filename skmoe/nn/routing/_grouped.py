"""Linear maps of expert-sorted rows: each expert's rows by its own matrix.

`torch.nn.functional.grouped_mm` does it in one kernel, and without asking the device
how many rows each expert has, only for bfloat16 on compute capability 9 and 10, with
rows of a multiple of 16 bytes; a kernel of ours adds biases on the way. For all else,
matrix products of the experts' slices are as fast as anything where experts have many
rows, and right for every type and width; they need the offsets on the host. Weights
are indexed inside an operation with a gradient of its own: autograd would write a
full-size gradient for each ``W[e]``.
"""

from importlib.util import find_spec
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = [
    "check_linear",
    "grouped_hidden",
    "grouped_linear",
    "in_autocast",
    "places",
    "with_kernels",
]

# Looked up here, as nothing that asks the system can be traced by `torch.compile`.
HAS_TRITON = find_spec("triton") is not None
FUSED_CAPABILITY = (9, 10)
BYTES, TILED = 16, 64


def grouped_linear(
    rows: Tensor, weight: Tensor, offsets: Tensor, bias: Tensor | None = None
) -> Tensor:
    """Return ``rows[i] @ weight[e] + bias[e]`` for the expert e of each row.

    Under `torch.autocast` it works in autocast's type.

    Parameters
    ----------
    rows : tensor of shape (n_slots, n_inputs)
        Sorted by expert.
    weight : tensor of shape (n_experts, n_inputs, n_outputs)
    offsets : integer tensor of shape (n_experts,)
        Where each expert's rows end. On the host or on the device of the rows: see
        `places`.
    bias : tensor of shape (n_experts, n_outputs), default=None

    Returns
    -------
    out : tensor of shape (n_slots, n_outputs)
        Rows behind the last offset belong to no expert: they are not read, and what
        is there in `out` (zeros on a CPU) means nothing.

    Raises
    ------
    ValueError
        If shapes or types do not fit.
    """
    rows, weight = in_autocast(rows, weight)
    check_linear(rows, weight, offsets, bias)
    out: Tensor = torch.ops.skmoe.grouped_linear(rows, weight, bias, offsets, False)
    return out


def in_autocast(*tensors: Tensor) -> list[Tensor]:
    """Return the tensors in the type that `torch.autocast` asks for, if it does."""
    kind = tensors[0].device.type
    known = torch.amp.is_autocast_available(kind)  # not of meta, for one
    if not (known and torch.is_autocast_enabled(kind)):
        return list(tensors)
    dtype = torch.get_autocast_dtype(kind)
    return [t if t.dtype == torch.float64 else t.to(dtype) for t in tensors]


def places(rows: Tensor, offsets: Tensor) -> Tensor:
    """Return offsets where `grouped_linear` wants them for such rows.

    To be called once for several maps: copies to the host wait for the device.
    """
    fused = rows.is_cuda and rows.dtype == torch.bfloat16
    return offsets if fused or rows.is_meta else offsets.cpu()


def with_kernels(rows: Tensor) -> bool:
    """Return whether Triton can work on these rows; `torch.compile` can trace it."""
    return rows.is_cuda and HAS_TRITON


def check_linear(
    rows: Tensor, weight: Tensor, offsets: Tensor, bias: Tensor | None
) -> None:
    """Raise a ValueError unless shapes and types of `grouped_linear` fit."""
    if rows.ndim != 2 or weight.ndim != 3 or rows.shape[1] != weight.shape[1]:
        raise ValueError(
            "grouped_linear: rows must be of shape (n_slots, n_inputs) and weight of "
            f"shape (n_experts, n_inputs, n_outputs), got {tuple(rows.shape)} and "
            f"{tuple(weight.shape)}."
        )
    if offsets.shape != weight.shape[:1]:
        raise ValueError(
            f"grouped_linear: offsets must be of shape ({weight.shape[0]},), one end "
            f"for each expert, got {tuple(offsets.shape)}."
        )
    if bias is not None and bias.shape != (weight.shape[0], weight.shape[2]):
        raise ValueError(
            "grouped_linear: bias must be of shape (n_experts, n_outputs) = "
            f"({weight.shape[0]}, {weight.shape[2]}), got {tuple(bias.shape)}."
        )
    if rows.dtype != weight.dtype:
        raise ValueError(
            f"grouped_linear: rows are {rows.dtype} but weights {weight.dtype}: "
            "convert one of them, or run under torch.autocast."
        )


@torch.library.custom_op("skmoe::grouped_linear", mutates_args=())
def _linear(
    rows: Tensor, weight: Tensor, bias: Tensor | None, offsets: Tensor, flip: bool
) -> Tensor:
    """Return the map of each row by its expert's matrix; flipped: by its transpose."""
    if not _is_fused(rows, weight):
        weight = weight.transpose(1, 2) if flip else weight
        return _linear_by_slices(rows, weight, bias, offsets)
    ends = offsets.to(rows.device, torch.int32)
    if _is_tiled(rows, weight):
        from skmoe.nn.kernels._grouped_kernel import product

        return product(rows, weight, bias, ends, flip)
    out = F.grouped_mm(rows, weight.transpose(1, 2) if flip else weight, offs=ends)
    if bias is not None:
        from skmoe.nn.kernels._activation_kernel import add_bias

        add_bias(out, bias, ends)
    return out


@_linear.register_fake
def _(
    rows: Tensor, weight: Tensor, bias: Tensor | None, offsets: Tensor, flip: bool
) -> Tensor:
    return rows.new_empty(rows.shape[0], weight.shape[1 if flip else 2])


@torch.library.custom_op("skmoe::grouped_hidden", mutates_args=(), device_types="cuda")
def grouped_hidden(
    rows: Tensor, weight: Tensor, bias: Tensor | None, offsets: Tensor, name: str
) -> Tensor:
    """Return the activation of `grouped_linear`, where no gradient is asked for.

    With gradients it would have to write both sides of the activation, which takes
    longer than a kernel of its own.

    Parameters
    ----------
    rows, weight, bias, offsets
        As for `grouped_linear`, on a CUDA device with Triton.
    name : str
        An activation of `skmoe.nn.routing._activation` that is not gated.
    """
    ends = offsets.to(rows.device, torch.int32)
    if _is_fused(rows, weight) and _is_tiled(rows, weight):
        from skmoe.nn.kernels._grouped_kernel import product

        return product(rows, weight, bias, ends, name=name)
    from skmoe.nn.kernels._activation_kernel import activate

    return activate(_linear(rows, weight, None, offsets, False), bias, ends, name)


@grouped_hidden.register_fake
def _(
    rows: Tensor, weight: Tensor, bias: Tensor | None, offsets: Tensor, name: str
) -> Tensor:
    return rows.new_empty(rows.shape[0], weight.shape[2])


@torch.library.custom_op("skmoe::grouped_outer", mutates_args=())
def _outer(left: Tensor, right: Tensor, offsets: Tensor) -> Tensor:
    """Return ``left' right`` over each expert's rows: (n_experts, n_left, n_right)."""
    if _is_fused(left, right):
        ends = offsets.to(left.device, torch.int32)
        return F.grouped_mm(left.t(), right, offs=ends)
    out = left.new_empty(len(offsets), left.shape[1], right.shape[1])
    for e, (begin, end) in enumerate(pairwise([0, *offsets.tolist()])):
        torch.mm(left[begin:end].t(), right[begin:end], out=out[e])
    return out


@_outer.register_fake
def _(left: Tensor, right: Tensor, offsets: Tensor) -> Tensor:
    return left.new_empty(offsets.shape[0], left.shape[1], right.shape[1])


@torch.library.custom_op("skmoe::grouped_sums", mutates_args=())
def _sums(rows: Tensor, offsets: Tensor) -> Tensor:
    """Return the sum of each expert's rows, in float32 at least."""
    if with_kernels(rows):
        from skmoe.nn.kernels._group_sums_kernel import bias_gradient

        return bias_gradient(rows, offsets.to(rows.device, torch.int32))
    wide = torch.promote_types(rows.dtype, torch.float32)
    ends = offsets.to(rows.device, torch.int64)
    lengths = torch.diff(ends, prepend=ends.new_zeros(1))
    kept = rows[: int(ends[-1])].to(wide)
    return torch.segment_reduce(kept, "sum", lengths=lengths, initial=0.0)


@_sums.register_fake
def _(rows: Tensor, offsets: Tensor) -> Tensor:
    wide = torch.promote_types(rows.dtype, torch.float32)
    return rows.new_empty(offsets.shape[0], rows.shape[1], dtype=wide)


def _keep_linear(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    rows, weight, bias, offsets, ctx.flip = inputs
    ctx.bias_type = None if bias is None else bias.dtype
    ctx.save_for_backward(rows, weight, offsets)


def _linear_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    rows, weight, offsets = ctx.saved_tensors
    # Expanded gradients, those of a sum, have strides of zero.
    grad = grad.contiguous()
    grad_rows = grad_weight = grad_bias = None
    ops = torch.ops.skmoe
    if ctx.needs_input_grad[0]:
        grad_rows = ops.grouped_linear(grad, weight, None, offsets, not ctx.flip)
    if ctx.needs_input_grad[1]:
        pair = (grad, rows) if ctx.flip else (rows, grad)
        grad_weight = ops.grouped_outer(*pair, offsets)
    if ctx.bias_type is not None and ctx.needs_input_grad[2]:
        grad_bias = ops.grouped_sums(grad, offsets).to(ctx.bias_type)
    return grad_rows, grad_weight, grad_bias, None, None


_linear.register_autograd(_linear_backward, setup_context=_keep_linear)


def _is_fused(*tensors: Tensor) -> bool:
    """Return whether `grouped_mm` has one kernel for contiguous tensors like these."""
    first = tensors[0]
    if not first.is_cuda or first.dtype != torch.bfloat16 or not HAS_TRITON:
        return False
    if torch.cuda.get_device_capability(first.device)[0] not in FUSED_CAPABILITY:
        return False
    return all(_is_aligned(tensor) for tensor in tensors)


def _is_aligned(tensor: Tensor) -> bool:
    """Return whether all rows, of the tensor or its transpose, start at 16 bytes."""
    size, strides = tensor.element_size(), tensor.stride()
    return (
        tensor.data_ptr() % BYTES == 0
        and min(strides[-2:]) == 1
        and all(stride == 1 or stride * size % BYTES == 0 for stride in strides)
    )


def _is_tiled(rows: Tensor, weight: Tensor) -> bool:
    """Return whether `skmoe.nn.kernels._grouped_kernel` can take what `_is_fused`.

    It is as fast as `grouped_mm` with many experts, faster with few, and spares the
    bias a pass of its own.
    """
    return (
        torch.cuda.get_device_capability(rows.device)[0] == 9
        and rows.is_contiguous()
        and weight.is_contiguous()
        and all(width % TILED == 0 for width in weight.shape[1:])
    )


def _linear_by_slices(
    rows: Tensor, weight: Tensor, bias: Tensor | None, offsets: Tensor
) -> Tensor:
    out = rows.new_empty(len(rows), weight.shape[2])
    end = 0
    for e, (begin, end) in enumerate(pairwise([0, *offsets.tolist()])):
        part, target = rows[begin:end], out[begin:end]
        if bias is None:
            torch.mm(part, weight[e], out=target)
        else:
            torch.addmm(bias[e].to(rows.dtype), part, weight[e], out=target)
    out[end:] = 0.0
    return out
