"""The one or two largest logits of a row, and what routers need of the softmax.

``torch.topk`` takes longer on narrow rows than the experts behind it. Here one pass
over the logits gives choices, weights, the logarithm of the sum of exponentials, and
the sum of each column's probabilities; a second one gives the gradient. Imported where
Triton and a CUDA device are.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["routed"]

KINDS = ("softmax", "renormalised", "sigmoid")
# Rows of a program (they share one part of the column sums), and numbers of a tile.
ROWS, TILE = 128, 2048


@triton.jit  # type: ignore[untyped-decorator]
def _largest(x, allowed, col, N_EXPERTS: tl.constexpr, other):  # type: ignore[no-untyped-def]
    # The first of the largest; `other` where nothing can be compared (NaN).
    top = tl.max(tl.where(allowed, x, float("-inf")), 1)
    first = tl.min(tl.where(allowed & (x == top[:, None]), col, N_EXPERTS), 1)
    return top, tl.where(first < N_EXPERTS, first, other)


@triton.jit  # type: ignore[untyped-decorator]
def _route(  # type: ignore[no-untyped-def]
    logits,
    index,
    weight,
    log_sum,
    parts,
    n_rows,
    N_EXPERTS: tl.constexpr,
    K: tl.constexpr,
    KIND: tl.constexpr,
    ALL_ROWS: tl.constexpr,
    ROWS: tl.constexpr,
    WIDE: tl.constexpr,
):
    col = tl.arange(0, WIDE)[None, :]
    total = tl.zeros((WIDE,), dtype=tl.float32)
    for first_row in range(0, ALL_ROWS, ROWS):
        row = tl.program_id(0).to(tl.int64) * ALL_ROWS + first_row
        row += tl.arange(0, ROWS)
        live = row < n_rows
        inside = live[:, None] & (col < N_EXPERTS)
        place = logits + row[:, None] * N_EXPERTS + col
        x = tl.load(place, mask=inside, other=float("-inf"))
        allowed = (col < N_EXPERTS) & (row[:, None] >= 0)
        top, one = _largest(x, allowed, col, N_EXPERTS, 0)
        power = tl.where(inside, tl.exp(x - top[:, None]), 0.0)
        mass = tl.sum(power, 1)
        total += tl.sum(tl.where(inside, power / mass[:, None], 0.0), 0)
        tl.store(log_sum + row, top + tl.log(mass), mask=live)
        tl.store(index + row * K, one.to(tl.int64), mask=live)
        if KIND == "softmax":
            first = 1.0 / mass
        elif KIND == "sigmoid":
            first = tl.sigmoid(top)
        else:
            first = mass * 0.0 + 1.0
        if K == 2:
            spare = tl.where(one == 0, 1, 0)
            rest = allowed & (col != one[:, None])
            next_top, two = _largest(x, rest, col, N_EXPERTS, spare)
            ratio = tl.exp(next_top - top)
            if KIND == "softmax":
                second = ratio / mass
            elif KIND == "sigmoid":
                second = tl.sigmoid(next_top)
            else:
                first = 1.0 / (1.0 + ratio) + mass * 0.0
                second = ratio / (1.0 + ratio) + mass * 0.0
            tl.store(index + row * K + 1, two.to(tl.int64), mask=live)
            tl.store(weight + row * K + 1, second, mask=live)
        tl.store(weight + row * K, first, mask=live)
    place = parts + tl.program_id(0).to(tl.int64) * N_EXPERTS + tl.arange(0, WIDE)
    tl.store(place, total, mask=tl.arange(0, WIDE) < N_EXPERTS)


@triton.jit  # type: ignore[untyped-decorator]
def _route_back(  # type: ignore[no-untyped-def]
    logits,
    index,
    weight,
    log_sum,
    to_weight,
    to_log_sum,
    to_total,
    out,
    n_rows,
    N_EXPERTS: tl.constexpr,
    K: tl.constexpr,
    KIND: tl.constexpr,
    ROWS: tl.constexpr,
    WIDE: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    live = row < n_rows
    col = tl.arange(0, WIDE)[None, :]
    inside = live[:, None] & (col < N_EXPERTS)
    place = row[:, None] * N_EXPERTS + col
    x = tl.load(logits + place, mask=inside, other=float("-inf"))
    mass = tl.load(log_sum + row, mask=live, other=0.0)
    proba = tl.exp(x - mass[:, None])
    each = tl.load(to_total + col, mask=col < N_EXPERTS, other=0.0)
    shift = tl.load(to_log_sum + row, mask=live, other=0.0)
    shift -= tl.sum(proba * each, 1)
    one = tl.load(index + row * K, mask=live, other=0)
    w1 = tl.load(weight + row * K, mask=live, other=0.0)
    g1 = tl.load(to_weight + row * K, mask=live, other=0.0)
    w2, g2, two = w1 * 0.0, g1 * 0.0, one
    if K == 2:
        two = tl.load(index + row * K + 1, mask=live, other=0)
        w2 = tl.load(weight + row * K + 1, mask=live, other=0.0)
        g2 = tl.load(to_weight + row * K + 1, mask=live, other=0.0)
    if KIND == "softmax":
        first, second = g1 * w1, g2 * w2
        shift -= first + second
    elif KIND == "sigmoid":
        first, second = g1 * w1 * (1.0 - w1), g2 * w2 * (1.0 - w2)
    else:
        first = w1 * w2 * (g1 - g2)
        second = -first
    grad = proba * (shift[:, None] + each)
    grad += tl.where(col == one[:, None], first[:, None], 0.0)
    grad += tl.where(col == two[:, None], second[:, None], 0.0)
    tl.store(out + place, grad, mask=inside)


@torch.library.custom_op("skmoe::routed", mutates_args=())
def routed(logits: Tensor, k: int, kind: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Choose the k experts of the largest logits, the first of equal ones.

    Parameters
    ----------
    logits : tensor of float32 of shape (n_rows, n_experts) on a CUDA device
        At most 4,096 experts.
    k : {1, 2}
    kind : {"softmax", "renormalised", "sigmoid"}
        What weights are: probabilities among all experts, among the chosen ones, or
        the logistic function of each chosen logit.

    Returns
    -------
    weight : tensor of float32 of shape (n_rows, k)
    index : tensor of int64 of shape (n_rows, k)
    log_sum : tensor of float32 of shape (n_rows,)
        Logarithm of the sum of the exponentials of a row's logits.
    total : tensor of float32 of shape (n_experts,)
        Sum of the probabilities of each expert over the rows.

    Raises
    ------
    ValueError
        For another k or kind, or more choices than experts.
    """
    n_rows, n_experts = logits.shape
    _check(k, kind, n_experts)
    logits = logits.contiguous()
    index = torch.empty(n_rows, k, dtype=torch.int64, device=logits.device)
    weight, log_sum = logits.new_empty(n_rows, k), logits.new_empty(n_rows)
    n_programs = triton.cdiv(n_rows, ROWS)
    parts = logits.new_empty(n_programs, n_experts)
    if n_rows:
        with torch.cuda.device_of(logits):  # type: ignore[no-untyped-call]
            _route[(n_programs,)](
                logits, index, weight, log_sum, parts, n_rows,
                n_experts, k, kind, ROWS, *_tile(n_experts),
            )  # fmt: skip
    return weight, index, log_sum, parts.sum(0)


@torch.library.custom_op("skmoe::routed_backward", mutates_args=())
def _backward(
    logits: Tensor,
    index: Tensor,
    weight: Tensor,
    log_sum: Tensor,
    to_weight: Tensor,
    to_log_sum: Tensor,
    to_total: Tensor,
    kind: str,
) -> Tensor:
    """Return the gradient of the logits."""
    logits = logits.contiguous()
    (n_rows, n_experts), out = logits.shape, torch.empty_like(logits)
    rows, wide = _tile(n_experts)
    grads = to_weight.contiguous(), to_log_sum.contiguous(), to_total.contiguous()
    if n_rows:
        with torch.cuda.device_of(logits):  # type: ignore[no-untyped-call]
            _route_back[(triton.cdiv(n_rows, rows),)](
                logits, index, weight, log_sum, *grads, out, n_rows,
                n_experts, index.shape[1], kind, rows, wide,
            )  # fmt: skip
    return out


def _check(k: int, kind: str, n_experts: int) -> None:
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r} is no weight of a choice; use one of {KINDS}")
    if not 1 <= k <= min(2, n_experts):
        raise ValueError(
            f"k={k} choices among {n_experts} experts: this kernel makes 1 or 2, of "
            "different experts; use torch.topk"
        )


def _tile(n_experts: int) -> tuple[int, int]:
    """Return the rows and columns of a tile."""
    wide = triton.next_power_of_2(n_experts)
    return min(max(TILE // wide, 1), ROWS), wide


@routed.register_fake
def _(logits: Tensor, k: int, kind: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    n_rows, n_experts = logits.shape
    index = logits.new_empty(n_rows, k, dtype=torch.int64)
    weight, log_sum = logits.new_empty(n_rows, k), logits.new_empty(n_rows)
    return weight, index, log_sum, logits.new_empty(n_experts)


@_backward.register_fake
def _(
    logits: Tensor,
    index: Tensor,
    weight: Tensor,
    log_sum: Tensor,
    to_weight: Tensor,
    to_log_sum: Tensor,
    to_total: Tensor,
    kind: str,
) -> Tensor:
    return logits.new_empty(logits.shape)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    weight, index, log_sum, _ = output
    ctx.save_for_backward(inputs[0], index, weight, log_sum)
    ctx.mark_non_differentiable(index)
    ctx.kind = inputs[2]


def _gradients(
    ctx: Any, to_weight: Tensor, _: Any, to_log_sum: Tensor, to_total: Tensor
) -> tuple[Tensor, None, None]:
    grads = to_weight, to_log_sum, to_total
    return _backward(*ctx.saved_tensors, *grads, ctx.kind), None, None


routed.register_autograd(_gradients, setup_context=_keep)
