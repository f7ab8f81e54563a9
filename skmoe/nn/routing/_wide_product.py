"""Products of rows with a narrow matrix, in float32, without converting the rows.

A router's logits are wanted in float32, and its rows are often bfloat16: a float32 copy
of them takes longer to write than the product. Any float32 is a sum of three bfloat16
numbers, whose products with bfloat16 are exact; the tensor cores add them in float32.
"""

from typing import Any

import torch
from torch import Tensor

from skmoe.nn.routing._grouped import has_autocast

__all__ = ["wide_product"]


def wide_product(rows: Tensor, weight: Tensor) -> Tensor:
    """Return ``rows @ weight.T`` in float32 or float64, autocast or not.

    Parameters
    ----------
    rows : tensor of shape (n_rows, n_inputs)
    weight : tensor of shape (n_outputs, n_inputs)

    Returns
    -------
    out : tensor of shape (n_rows, n_outputs)
        The gradient of bfloat16 rows is summed in float32, then rounded.
    """
    if rows.is_cuda and rows.dtype == torch.bfloat16 and weight.dtype != torch.float64:
        out: Tensor = torch.ops.skmoe.wide_product(rows, weight)
        return out
    wide = torch.promote_types(rows.dtype, torch.float32)
    kind = rows.device.type
    if not has_autocast(kind):
        return rows.to(wide) @ weight.to(wide).T
    with torch.autocast(kind, enabled=False):
        return rows.to(wide) @ weight.to(wide).T


def bfloat16_parts(values: Tensor) -> list[Tensor]:
    """Return tensors of bfloat16 whose sum is a tensor of float32 (or of bfloat16)."""
    if values.dtype == torch.bfloat16:
        return [values]
    parts, rest = [], values.float()
    for _ in range(3):
        parts.append(rest.bfloat16())
        rest = rest - parts[-1].float()
    return parts


@torch.library.custom_op("skmoe::wide_product", mutates_args=(), device_types="cuda")
def _product(rows: Tensor, weight: Tensor) -> Tensor:
    parts = bfloat16_parts(weight)
    both = torch.mm(rows, torch.cat(parts).t(), out_dtype=torch.float32)
    return both.view(len(rows), len(parts), len(weight)).sum(dim=1)


@_product.register_fake
def _(rows: Tensor, weight: Tensor) -> Tensor:
    return rows.new_empty(rows.shape[0], weight.shape[0], dtype=torch.float32)


@torch.library.custom_op(
    "skmoe::wide_product_backward", mutates_args=(), device_types="cuda"
)
def _backward(grad: Tensor, rows: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    # Two parts of the gradient: 16 bits of it, more than rows and weights have.
    parts, weights = bfloat16_parts(grad)[:2], bfloat16_parts(weight)[:2]
    pairs = [(part, some) for part in parts for some in weights]
    left = torch.cat([part for part, _ in pairs], dim=1)
    grad_rows = left @ torch.cat([some for _, some in pairs])
    both = torch.mm(torch.cat(parts, dim=1).t(), rows, out_dtype=torch.float32)
    grad_weight = both.view(len(parts), *weight.shape).sum(dim=0)
    return grad_rows, grad_weight.to(weight.dtype)


@_backward.register_fake
def _(grad: Tensor, rows: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    # Contiguous, however these lie.
    return rows.new_empty(rows.shape), weight.new_empty(weight.shape)


def _keep(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _gradients(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
    gradients: tuple[Tensor, Tensor] = _backward(grad, *ctx.saved_tensors)
    return gradients


_product.register_autograd(_gradients, setup_context=_keep)
