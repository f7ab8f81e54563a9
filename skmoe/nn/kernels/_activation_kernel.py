"""Bias and activation of expert-sorted rows, and their gradients, as Triton kernels.

A program takes rows of one expert, so that a bias is one vector and the sums that
are the bias's gradient need neither a sort nor atomics: each program writes its part,
and a second kernel adds an expert's parts in their order. How many rows an expert has
stays on the device. Imported where Triton and a CUDA device are.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra import libdevice

from skmoe.nn.kernels._group_sums_kernel import (
    ROWS,
    TILE,
    WIDE,
    add_parts,
    grid_of,
    parts_of,
    sum_type,
    tile_of,
)

__all__ = ["activate", "activate_backward", "activation", "add_bias"]


@triton.jit  # type: ignore[untyped-decorator]
def _normal(x, FAST: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return the distribution function and the density of a standard normal.

    Fast: Abramowitz & Stegun (1964), equation 7.1.26, whose exponential is the
    density's; it is off by 1e-7, which 16 bits cannot hold.
    """
    if FAST:
        bell = tl.exp2(-0.7213475204444817 * x * x)
        t = libdevice.fast_dividef(1.0, 1.0 + 0.23164189 * tl.abs(x))
        series = -0.7265760135 + t * 0.5307027145
        series = -0.142248368 + t * (0.7107068705 + t * series)
        tail = t * (0.127414796 + t * series) * bell
        below = tl.where(x < 0.0, tail, 1.0 - tail)
    else:
        bell = tl.exp(-0.5 * x * x)
        below = 0.5 * (1.0 + tl.erf(x * 0.7071067811865476))
    return below, bell * 0.3989422804014327


@triton.jit  # type: ignore[untyped-decorator]
def activation(x, NAME: tl.constexpr, FAST: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return the activation and its derivative."""
    if NAME == "gelu":
        below, bell = _normal(x, FAST)
        value = x * below
        slope = below + x * bell
    elif NAME == "silu":
        below = 1.0 / (1.0 + tl.exp(-x))
        value = x * below
        slope = below * (1.0 + x * (1.0 - below))
    elif NAME == "relu":
        # NaN stays NaN.
        value = tl.where(x <= 0.0, 0.0, x)
        slope = tl.where(x <= 0.0, 0.0, 1.0)
    elif NAME == "tanh":
        value = libdevice.tanh(x)
        slope = 1.0 - value * value
    else:
        value = x
        slope = x * 0.0 + 1.0
    return value, slope


@triton.jit  # type: ignore[untyped-decorator]
def _bias_of(  # type: ignore[no-untyped-def]
    bias, first, c, width, BIASED: tl.constexpr, SUM: tl.constexpr
):
    """Return a row of biases from its first number on, or zeros where there is none."""
    if BIASED:
        row = tl.load(bias + first + c, mask=c < width, other=0.0).to(SUM)
    else:
        row = tl.zeros(c.shape, dtype=SUM)
    return row[None, :]


@triton.jit  # type: ignore[untyped-decorator]
def _activate(  # type: ignore[no-untyped-def]
    h,
    bias,
    offsets,
    out,
    n_experts,
    width,
    BIASED: tl.constexpr,
    NAME: tl.constexpr,
    GATED: tl.constexpr,
    SUM: tl.constexpr,
    FAST: tl.constexpr,
    EXPERTS: tl.constexpr,
    TILE: tl.constexpr,
    ROWS: tl.constexpr,
    WIDE: tl.constexpr,
):
    # Columns first: programs that run together read whole rows.
    n_blocks = tl.cdiv(width, WIDE)
    tile = tl.program_id(0) // n_blocks
    c = (tl.program_id(0) % n_blocks) * WIDE + tl.arange(0, WIDE)
    expert, first, last = tile_of(offsets, tile, n_experts, EXPERTS, TILE)
    if expert < n_experts:
        h_width = width * 2 if GATED else width
        own = expert.to(tl.int64) * h_width
        shift = _bias_of(bias, own, c, width, BIASED, SUM)
        shift_2 = _bias_of(bias, own + width, c, width, BIASED and GATED, SUM)
        for start in range(first, tl.minimum(first + TILE, last), ROWS):
            s = (start + tl.arange(0, ROWS)).to(tl.int64)
            inside = (s < last)[:, None] & (c < width)[None, :]
            here = h + s[:, None] * h_width + c[None, :]
            x = tl.load(here, mask=inside, other=0.0).to(SUM)
            value, _ = activation(x + shift, NAME, FAST)
            if GATED:
                factor = tl.load(here + width, mask=inside, other=0.0).to(SUM)
                value = value * (factor + shift_2)
            there = out + s[:, None] * width + c[None, :]
            tl.store(there, value.to(out.dtype.element_ty), mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def _activate_backward(  # type: ignore[no-untyped-def]
    grad,
    h,
    bias,
    offsets,
    grad_h,
    parts,
    n_experts,
    width,
    BIASED: tl.constexpr,
    NAME: tl.constexpr,
    GATED: tl.constexpr,
    SUM: tl.constexpr,
    FAST: tl.constexpr,
    EXPERTS: tl.constexpr,
    TILE: tl.constexpr,
    ROWS: tl.constexpr,
    WIDE: tl.constexpr,
):
    n_blocks = tl.cdiv(width, WIDE)
    tile = tl.program_id(0) // n_blocks
    c = (tl.program_id(0) % n_blocks) * WIDE + tl.arange(0, WIDE)
    expert, first, last = tile_of(offsets, tile, n_experts, EXPERTS, TILE)
    if expert < n_experts:
        h_width = width * 2 if GATED else width
        own = expert.to(tl.int64) * h_width
        shift = _bias_of(bias, own, c, width, BIASED, SUM)
        shift_2 = _bias_of(bias, own + width, c, width, BIASED and GATED, SUM)
        acc = tl.zeros((ROWS, WIDE), dtype=SUM)
        acc_2 = tl.zeros((ROWS, WIDE), dtype=SUM)
        for start in range(first, tl.minimum(first + TILE, last), ROWS):
            s = (start + tl.arange(0, ROWS)).to(tl.int64)
            inside = (s < last)[:, None] & (c < width)[None, :]
            there = s[:, None] * width + c[None, :]
            g = tl.load(grad + there, mask=inside, other=0.0).to(SUM)
            here = s[:, None] * h_width + c[None, :]
            x = tl.load(h + here, mask=inside, other=0.0).to(SUM)
            value, slope = activation(x + shift, NAME, FAST)
            if GATED:
                x = tl.load(h + here + width, mask=inside, other=0.0).to(SUM)
                g_2, g = g * value, g * (x + shift_2)
                acc_2 += g_2
                g_2 = g_2.to(grad_h.dtype.element_ty)
                tl.store(grad_h + here + width, g_2, mask=inside)
            g *= slope
            acc += g
            tl.store(grad_h + here, g.to(grad_h.dtype.element_ty), mask=inside)
        if BIASED:
            part = parts + tile.to(tl.int64) * h_width + c
            tl.store(part, tl.sum(acc, axis=0), mask=c < width)
            if GATED:
                tl.store(part + width, tl.sum(acc_2, axis=0), mask=c < width)


def activate(h: Tensor, bias: Tensor | None, offsets: Tensor, name: str) -> Tensor:
    """Return the activation of ``h + bias`` of each row's expert.

    Parameters
    ----------
    h : tensor of shape (n_slots, width) or, for gated names, (n_slots, 2 * width)
        Sorted by expert, on a CUDA device.
    bias : tensor of shape (n_experts, width of h), or None
    offsets : tensor of int32 of shape (n_experts,)
        Where each expert's rows end.
    name : str
        "gelu", "relu", "silu", "tanh", "swiglu", "geglu" or "identity".

    Returns
    -------
    out : tensor of shape (n_slots, width)
        Uninitialised behind the last offset.
    """
    kind, gated = _kind(name)
    h = h.contiguous()
    out = h.new_empty(len(h), h.shape[1] // (1 + gated))
    with torch.cuda.device_of(h):  # type: ignore[no-untyped-call]
        _launch_forward(h, bias, offsets, out, kind, gated)
    return out


def add_bias(h: Tensor, bias: Tensor, offsets: Tensor) -> None:
    """Add to each row the bias of its expert, in place."""
    with torch.cuda.device_of(h):  # type: ignore[no-untyped-call]
        _launch_forward(h, bias, offsets, h, "identity", False)


def activate_backward(
    grad: Tensor, h: Tensor, bias: Tensor | None, offsets: Tensor, name: str
) -> tuple[Tensor, Tensor | None]:
    """Return the gradients of `activate` with respect to `h` and `bias`.

    Parameters
    ----------
    grad : tensor of shape (n_slots, width)
        Of the activation.
    h, bias, offsets, name
        What `activate` got.

    Returns
    -------
    grad_h : tensor of the shape of `h`
        Uninitialised behind the last offset.
    grad_bias : tensor of the shape and type of `bias`, or None
        Summed in float32 (float64 for float64), always in the same order.
    """
    kind, gated = _kind(name)
    grad, h = grad.contiguous(), h.contiguous()
    grad_h = torch.empty_like(h)
    total = None if bias is None else bias.new_zeros(bias.shape)
    if grad.numel():
        with torch.cuda.device_of(h):  # type: ignore[no-untyped-call]
            _launch_backward(grad, h, bias, offsets, grad_h, total, kind, gated)
    return grad_h, total


def _launch_forward(
    h: Tensor,
    bias: Tensor | None,
    offsets: Tensor,
    out: Tensor,
    kind: str,
    gated: bool,
) -> None:
    width = out.shape[1]
    if not out.numel():
        return
    _activate[grid_of(out, offsets)](
        h,
        h if bias is None else bias.contiguous(),
        offsets,
        out,
        len(offsets),
        width,
        bias is not None,
        kind,
        gated,
        *_precision(h),
        triton.next_power_of_2(len(offsets)),
        TILE,
        ROWS,
        WIDE,
    )


def _launch_backward(
    grad: Tensor,
    h: Tensor,
    bias: Tensor | None,
    offsets: Tensor,
    grad_h: Tensor,
    total: Tensor | None,
    kind: str,
    gated: bool,
) -> None:
    parts = grad_h if total is None else parts_of(h, offsets)
    _activate_backward[grid_of(grad, offsets)](
        grad,
        h,
        grad if bias is None else bias.contiguous(),
        offsets,
        grad_h,
        parts,
        len(offsets),
        grad.shape[1],
        bias is not None,
        kind,
        gated,
        *_precision(h),
        triton.next_power_of_2(len(offsets)),
        TILE,
        ROWS,
        WIDE,
    )
    if total is not None:
        add_parts(parts, offsets, total)


def _kind(name: str) -> tuple[str, bool]:
    """Return the activation, and whether it is multiplied by a second half."""
    return {"swiglu": ("silu", True), "geglu": ("gelu", True)}.get(name, (name, False))


def _precision(h: Tensor) -> tuple[tl.dtype, bool]:
    """Return the type to calculate in, and whether fast formulas are exact enough."""
    return sum_type(h), h.dtype in (torch.bfloat16, torch.float16)
