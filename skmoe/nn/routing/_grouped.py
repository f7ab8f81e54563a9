"""Linear maps of expert-sorted rows: each expert's rows by its own matrix.

`torch.nn.functional.grouped_mm` does it in one kernel, and without asking the device
how many rows each expert has, only for bfloat16 on compute capability 9 and 10, with
rows of a multiple of 16 bytes; a kernel of ours adds biases on the way, and takes
float32 too where torch may round it to tf32. For all else, matrix products of the
experts' slices are as fast as anything where experts have many rows, and right for
every type and width; they need the offsets on the host. Weights are indexed inside an
operation with a gradient of its own: autograd would write a full-size gradient for
each ``W[e]``.
"""

from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from skmoe.nn.routing._slices import outer_by_slices, product_by_slices

__all__ = [
    "check_linear",
    "grouped_hidden",
    "grouped_linear",
    "has_autocast",
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
    if not (has_autocast(kind) and torch.is_autocast_enabled(kind)):
        return list(tensors)
    dtype = torch.get_autocast_dtype(kind)
    return [t if t.dtype == torch.float64 else t.to(dtype) for t in tensors]


def has_autocast(kind: str) -> bool:
    """Return whether `torch.autocast` knows a kind of device; "meta" it does not."""
    # The compiler of torch 2.11 cannot trace the question.
    return torch.compiler.is_compiling() or torch.amp.is_autocast_available(kind)


def places(rows: Tensor, offsets: Tensor, *weights: Tensor) -> Tensor:
    """Return offsets where `grouped_linear` wants them for such rows and weights.

    To be called once for several maps: copies to the host wait for the device.
    """
    fused = rows.is_cuda and rows.dtype == torch.bfloat16
    if fused or rows.is_meta or _needs_no_host(rows, weights):
        return offsets
    return offsets.cpu()


def _needs_no_host(rows: Tensor, weights: tuple[Tensor, ...]) -> bool:
    """Return whether a kernel takes all maps; gradients of float32 go by slices."""
    if not weights or torch.compiler.is_compiling() or torch.is_grad_enabled():
        return False
    return all(_is_tiled(rows, weight) for weight in weights)


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
    if _is_tiled(rows, weight):
        from skmoe.nn.kernels._grouped_kernel import product

        ends = offsets.to(rows.device, torch.int32)
        return product(rows, weight, bias, ends, flip)
    weight = weight.transpose(1, 2) if flip else weight
    if not _is_fused(rows, weight):
        return product_by_slices(rows, weight, bias, offsets)
    ends = offsets.to(rows.device, torch.int32)
    out = F.grouped_mm(rows, weight, offs=ends)
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
    if _is_tiled(rows, weight):
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
    return outer_by_slices(left, right, offsets)


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
    one, other = sorted(strides[-2:])
    steps = (*strides[:-2], other)
    aligned = all(step * size % BYTES == 0 for step in steps)
    return tensor.data_ptr() % BYTES == 0 and one == 1 and aligned


def _is_tiled(rows: Tensor, weight: Tensor) -> bool:
    """Return whether `skmoe.nn.kernels._grouped_kernel` can take the product.

    In bfloat16 it is as fast as `grouped_mm` with many experts, faster with few, and
    spares the bias a pass of its own. It takes float32 where torch may round products.
    """
    if not with_kernels(rows) or not _is_rounded(rows.dtype):
        return False
    return (
        torch.cuda.get_device_capability(rows.device)[0] == 9
        and all(x.is_contiguous() and _is_aligned(x) for x in (rows, weight))
        and all(width % TILED == 0 for width in weight.shape[1:])
    )


def _is_rounded(dtype: torch.dtype) -> bool:
    """Return whether factors of a product have 16 bits, or may be rounded to tf32."""
    if dtype == torch.float32:
        return bool(torch.backends.cuda.matmul.fp32_precision == "tf32")
    return dtype == torch.bfloat16
