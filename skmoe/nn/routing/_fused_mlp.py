"""Experts of two narrow layers on the rows of a plan, in one operation.

On a GPU, Triton kernels read rows where they stand and write outputs to the places of
the choices: nothing is gathered, no hidden layer is kept, and putting the choices of a
row together is a sum over an axis. Elsewhere, one expert after the other.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from skmoe._blocks import runs_triton

__all__ = ["ACTIVATIONS", "fused_mlp", "worth_fusing"]

ACTIVATIONS = ("relu", "gelu", "silu", "tanh")


def worth_fusing(
    n_inputs: int,
    n_hidden: int,
    n_outputs: int,
    n_experts: int,
    dtype: torch.dtype,
    gradients: bool = True,
) -> bool:
    """Return whether `fused_mlp` is faster on a GPU than products over sorted rows.

    Measured on an H200 with 20 and 200 columns, 32 and 256 hidden units: all win
    without gradients, all but the widest with them.
    """
    narrow = max(n_inputs, n_hidden) <= 256 and n_outputs <= 64
    few = n_inputs * n_hidden <= (10_000 if gradients else 256 * 256)
    return narrow and few and n_experts <= 4096 and dtype == torch.float32


@torch.library.custom_op("skmoe::fused_mlp", mutates_args=())
def fused_mlp(
    x: Tensor,
    source: Tensor,
    k: int,
    offsets: Tensor,
    w1: Tensor,
    b1: Tensor | None,
    w2: Tensor,
    b2: Tensor | None,
    activation: str,
    may_drop: bool = True,
) -> Tensor:
    """Return what its expert makes of each choice, in the order of the choices.

    ``activation(x w1 + b1) w2 + b2`` with the weights of the choice's expert. With the
    weights of a plan, ``(out * weight[:, :, None]).sum(1)`` is the output of the layer.

    Parameters
    ----------
    x : tensor of shape (n_rows, n_inputs)
    source : tensor of int32 of shape (n_slots,)
        Choice in each slot, in any one slot only; choice c belongs to row ``c // k``.
        What stands behind the last offset is not read.
    k : int
        Choices of a row.
    offsets : tensor of int32 of shape (n_experts,)
        Where the slots of each expert end.
    w1 : tensor of shape (n_experts, n_inputs, n_hidden)
    b1 : tensor of shape (n_experts, n_hidden), or None
    w2 : tensor of shape (n_experts, n_hidden, n_outputs)
    b2 : tensor of shape (n_experts, n_outputs), or None where b1 is None
    activation : {"relu", "gelu", "silu", "tanh"}
    may_drop : bool, default=True
        Whether choices may be in no slot; their outputs are zero. False saves filling
        the output with zeros: say so only where every choice has a slot.

    Returns
    -------
    out : tensor of shape (n_rows, k, n_outputs)

    Raises
    ------
    ValueError
        For another activation, or where one bias alone is given.
    """
    _check(activation, b1, b2)
    shape, x = (len(x), k, w2.shape[2]), x.contiguous()
    out = _filled(x, shape, may_drop)
    if _on_kernels(x, w1, b1, w2, b2):
        from skmoe.nn.kernels import _tabular_kernel

        weights = w1.contiguous(), _dense(b1), w2.contiguous(), _dense(b2)
        with torch.cuda.device_of(x):  # type: ignore[no-untyped-call]
            _tabular_kernel.forward(x, source, k, offsets, *weights, activation, out)
        return out
    flat = out.flatten(0, 1)
    for e, choice in _choices(source, offsets):
        z = x[choice // k] @ w1[e]
        value = _activated(z if b1 is None else z + b1[e], activation)[0] @ w2[e]
        flat[choice] = value if b2 is None else value + b2[e]
    return out


@torch.library.custom_op("skmoe::fused_mlp_backward", mutates_args=())
def _backward(
    grad: Tensor,
    x: Tensor,
    source: Tensor,
    k: int,
    offsets: Tensor,
    w1: Tensor,
    b1: Tensor | None,
    w2: Tensor,
    activation: str,
    may_drop: bool,
    wants_x: bool,
) -> tuple[Tensor, Tensor]:
    """Return the gradients of x (empty if not wanted) and of the weights.

    Those of the weights are one matrix: a row for each expert, which holds those of
    w1, b1, w2 and b2 one behind the other.
    """
    shape, x, grad = (len(x), k, x.shape[1]), x.contiguous(), grad.contiguous()
    to_x = _filled(x, shape if wants_x else (0, k, x.shape[1]), may_drop)
    if _on_kernels(x, w1, b1, w2, grad):
        from skmoe.nn.kernels import _tabular_backward_kernel as kernels

        weights = w1.contiguous(), _dense(b1), w2.contiguous()
        wanted = to_x if wants_x else None
        with torch.cuda.device_of(x):  # type: ignore[no-untyped-call]
            to_weights = kernels.gradients(
                grad, x, source, k, offsets, *weights, activation, wanted
            )
        return to_x[:, 0] if k == 1 else to_x.sum(1), to_weights
    to_weights = w1.new_zeros(len(w1), sum(_sizes(w1, w2)))
    for e, choice in _choices(source, offsets):
        rows, some = x[choice // k], grad.flatten(0, 1)[choice]
        z = rows @ w1[e] if b1 is None else rows @ w1[e] + b1[e]
        value, slope = _activated(z, activation)
        to_z = slope * (some @ w2[e].T)
        each = rows.T @ to_z, to_z.sum(0), value.T @ some, some.sum(0)
        to_weights[e] = torch.cat([part.flatten() for part in each])
        if wants_x:
            to_x.flatten(0, 1)[choice] = to_z @ w1[e].T
    return to_x.sum(1), to_weights


def _sizes(w1: Tensor, w2: Tensor) -> list[int]:
    """Return how many numbers of an expert w1, b1, w2 and b2 have."""
    (_, d, h), o = w1.shape, w2.shape[2]
    return [d * h, h, h * o, o]


def _check(activation: str, b1: Tensor | None, b2: Tensor | None) -> None:
    if activation not in ACTIVATIONS:
        raise ValueError(
            f"activation={activation!r} has no fused form; use one of {ACTIVATIONS}"
        )
    if (b1 is None) != (b2 is None):
        raise ValueError("one bias is given and the other is None: give both, or none")


def _on_kernels(x: Tensor, *others: Tensor | None) -> bool:
    exact = all(y is None or y.dtype == torch.float32 for y in (x, *others))
    return exact and bool(runs_triton(x))


def _dense(bias: Tensor | None) -> Tensor | None:
    return None if bias is None else bias.contiguous()


def _filled(like: Tensor, shape: tuple[int, ...], may_drop: bool) -> Tensor:
    return like.new_zeros(shape) if may_drop else like.new_empty(shape)


def _choices(source: Tensor, offsets: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Yield each expert that has choices, and their numbers."""
    begin = 0
    for e, end in enumerate(offsets.tolist()):
        if end > begin:
            yield e, source[begin:end].long()
        begin = end


def _activated(z: Tensor, activation: str) -> tuple[Tensor, Tensor]:
    """Return the activation of z, and its derivative."""
    if activation == "relu":
        return z.relu(), (z > 0).to(z.dtype)
    if activation == "tanh":
        value = z.tanh()
        return value, 1.0 - value * value
    if activation == "silu":
        gate = z.sigmoid()
        return z * gate, gate * (1.0 + z * (1.0 - gate))
    below = 0.5 * (1.0 + torch.erf(z * 0.5**0.5))
    bell = torch.exp(-0.5 * z * z) * (2.0 * torch.pi) ** -0.5
    return functional.gelu(z), below + z * bell


@fused_mlp.register_fake
def _(
    x: Tensor,
    source: Tensor,
    k: int,
    offsets: Tensor,
    w1: Tensor,
    b1: Tensor | None,
    w2: Tensor,
    b2: Tensor | None,
    activation: str,
    may_drop: bool = True,
) -> Tensor:
    return x.new_empty(x.shape[0], k, w2.shape[2])


@_backward.register_fake
def _(
    grad: Tensor,
    x: Tensor,
    source: Tensor,
    k: int,
    offsets: Tensor,
    w1: Tensor,
    b1: Tensor | None,
    w2: Tensor,
    activation: str,
    may_drop: bool,
    wants_x: bool,
) -> tuple[Tensor, Tensor]:
    to_weights = w1.new_empty(w1.shape[0], sum(_sizes(w1, w2)))
    return x.new_empty(x.shape[0] if wants_x else 0, x.shape[1]), to_weights


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, source, k, offsets, w1, b1, w2, _, activation, may_drop = inputs
    ctx.save_for_backward(x, source, offsets, w1, b1, w2)
    ctx.rest = k, activation, may_drop


def _gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, source, offsets, w1, b1, w2 = ctx.saved_tensors
    k, activation, may_drop = ctx.rest
    wants_x = ctx.needs_input_grad[0]
    to_x, to_weights = _backward(
        grad, x, source, k, offsets, w1, b1, w2, activation, may_drop, wants_x
    )
    to_w1, to_b1, to_w2, to_b2 = to_weights.split(_sizes(w1, w2), dim=1)
    biases = (None, None) if b1 is None else (to_b1, to_b2)
    firsts = to_w1.view(w1.shape), biases[0]
    seconds = to_w2.view(w2.shape), biases[1]
    return (to_x if wants_x else None, *(None,) * 3, *firsts, *seconds, None, None)


fused_mlp.register_autograd(_gradients, setup_context=_keep)
