"""Activations of expert-sorted rows, with a bias for each expert."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from skmoe.nn.routing._grouped import with_kernels

__all__ = ["ACTIVATIONS", "GATED", "activated"]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "relu": F.relu,
    "silu": F.silu,
    "tanh": torch.tanh,
    "swiglu": F.silu,
    "geglu": F.gelu,
}
# The activation of the first half of the columns, times the second half: Shazeer, N.
# (2020). GLU variants improve transformer. arXiv 2002.05202, equation 6.
GATED = frozenset({"swiglu", "geglu"})


def activated(h: Tensor, bias: Tensor | None, offsets: Tensor, name: str) -> Tensor:
    """Return the activation of rows, and of the bias of each row's expert if given.

    Parameters
    ----------
    h : tensor of shape (n_slots, width), or (n_slots, 2 * width) where it is gated
        Sorted by expert.
    bias : tensor of shape (n_experts, width of h), or None
        Only where `with_kernels`: elsewhere it comes with the product in front.
    offsets : tensor of int32 of shape (n_experts,)
        Where each expert's rows end.
    name : str
        One of `ACTIVATIONS`.

    Returns
    -------
    out : tensor of shape (n_slots, width)
        What it holds behind the last offset means nothing.
    """
    if with_kernels(h):
        out: Tensor = torch.ops.skmoe.activate(h, bias, offsets, name)
        return out
    if name not in GATED:
        return ACTIVATIONS[name](h)
    gate, value = h.chunk(2, dim=-1)
    return ACTIVATIONS[name](gate) * value


@torch.library.custom_op("skmoe::activate", mutates_args=(), device_types="cuda")
def _activate(h: Tensor, bias: Tensor | None, offsets: Tensor, name: str) -> Tensor:
    from skmoe.nn.kernels._activation_kernel import activate

    return activate(h, bias, offsets, name)


@_activate.register_fake
def _(h: Tensor, bias: Tensor | None, offsets: Tensor, name: str) -> Tensor:
    return h.new_empty(h.shape[0], h.shape[1] // (2 if name in GATED else 1))


@torch.library.custom_op(
    "skmoe::activate_backward", mutates_args=(), device_types="cuda"
)
def _backward(
    grad: Tensor, h: Tensor, bias: Tensor | None, offsets: Tensor, name: str
) -> tuple[Tensor, Tensor]:
    from skmoe.nn.kernels._activation_kernel import activate_backward

    grad_h, grad_bias = activate_backward(grad, h, bias, offsets, name)
    return grad_h, h.new_empty(0) if grad_bias is None else grad_bias


@_backward.register_fake
def _(
    grad: Tensor, h: Tensor, bias: Tensor | None, offsets: Tensor, name: str
) -> tuple[Tensor, Tensor]:
    empty = h.new_empty(0) if bias is None else bias.new_empty(bias.shape)
    return h.new_empty(h.shape), empty


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    h, bias, offsets, ctx.name = inputs
    ctx.biased = bias is not None
    ctx.save_for_backward(h, offsets, *([bias] if ctx.biased else []))


def _gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    h, offsets, *bias = ctx.saved_tensors
    grad_h, grad_bias = torch.ops.skmoe.activate_backward(
        grad.contiguous(), h, bias[0] if bias else None, offsets, ctx.name
    )
    return grad_h, grad_bias if ctx.biased else None, None, None


_activate.register_autograd(_gradients, setup_context=_keep)
