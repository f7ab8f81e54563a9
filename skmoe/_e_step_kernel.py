"""The E-step of Gaussian linear experts under a softmax gate, as one Triton kernel.

What `skmoe.em._fused` does to a block of rows in some thirty array operations is here
one pass over the design: logits and means, densities, posterior, and the weight rows
that the sums of `LinearKernel` and `SoftmaxKernel` are made with. The formulas are
those of `LinearKernel.log_prob`, `LinearKernel.fill` and `SoftmaxKernel.fill`; the
tests hold both together. Imported where Triton and a CUDA device are.
"""

import torch
import triton
import triton.language as tl

__all__ = ["linear_softmax_sums"]


@triton.jit
def predictors(
    coef,
    design,
    row,
    inside,
    size,
    EXPERTS: tl.constexpr,
    COLUMNS: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Return the linear predictor of each expert on a tile of rows."""
    n_experts, n_columns, stride = size
    k = tl.arange(0, EXPERTS)
    known = (k < n_experts)[:, None]
    total = tl.zeros((EXPERTS, ROWS), dtype=tl.float64)
    for begin in range(0, n_columns, COLUMNS):
        j = begin + tl.arange(0, COLUMNS)
        there = j < n_columns
        a = tl.load(
            coef + k[:, None] * n_columns + j[None, :],
            mask=known & there[None, :],
            other=0.0,
        )
        z = tl.load(
            design + j[:, None].to(tl.int64) * stride + row[None, :],
            mask=there[:, None] & inside[None, :],
            other=0.0,
        )
        total = tl.dot(a, z, total, input_precision="ieee", out_dtype=tl.float64)
    return total


@triton.jit
def normalised(logs):
    """Return probabilities over experts, their logs, and the logs of the sums."""
    peak = tl.max(logs, axis=0)
    proba = tl.exp(logs - peak[None, :])
    total = tl.sum(proba, axis=0)
    log_total = peak + tl.log(total)
    return proba / total[None, :], logs - log_total[None, :], log_total


@triton.jit
def write_pairs(out, proba, w, k, row, mask, n_experts, stride):
    """Write ``w g_c g_d`` for all pairs c < d, as `fill_pairs` does."""
    first = 0
    for c in range(0, n_experts - 1):
        own = tl.sum(tl.where(k[:, None] == c, proba, 0.0), axis=0)
        place = (first + k[:, None] - c - 1).to(tl.int64) * stride + row[None, :]
        later = (k[:, None] > c) & mask
        tl.store(out + place, proba * (own * w)[None, :], mask=later)
        first += n_experts - 1 - c


@triton.jit
def linear_softmax_e_step(
    gate_design,
    expert_design,
    y,
    weight,
    gate_coef,
    expert_coef,
    precision,
    constant,
    gram_rows,
    gate_rows,
    score_rows,
    gate_scores,
    sums,
    n_rows,
    gate_stride,
    expert_stride,
    out_stride,
    n_experts,
    n_gate_columns,
    n_expert_columns,
    EXPERTS: tl.constexpr,
    COLUMNS: tl.constexpr,
    ROWS: tl.constexpr,
    GATE_GRAMS: tl.constexpr,
):
    """Work on a tile of rows; experts along the first axis of every tile.

    Writes, for n_experts each: ``gram_rows`` q, ``score_rows`` q e, ``gate_scores``
    q - w g; ``gate_rows``: nothing, w alone, or w g_c g_d of all pairs c < d, as
    ``GATE_GRAMS`` is 0, 1 or 2; and of the tile ``sums``: mass, scatter and
    log-likelihood, each n_experts long.
    """
    tile = tl.program_id(0).to(tl.int64)
    row = tile * ROWS + tl.arange(0, ROWS)
    inside = row < n_rows
    k = tl.arange(0, EXPERTS)
    known = k < n_experts
    size = n_experts, n_gate_columns, gate_stride
    logit = predictors(
        gate_coef, gate_design, row, inside, size, EXPERTS, COLUMNS, ROWS
    )
    size = n_experts, n_expert_columns, expert_stride
    mean = predictors(
        expert_coef, expert_design, row, inside, size, EXPERTS, COLUMNS, ROWS
    )
    logit = tl.where(known[:, None], logit, -float("inf"))
    proba, log_gate, _ = normalised(logit)
    w = tl.load(weight + row, mask=inside, other=0.0)
    error = tl.load(y + row, mask=inside, other=0.0)[None, :] - mean
    half = tl.load(precision + k, mask=known, other=0.0)[:, None]
    level = tl.load(constant + k, mask=known, other=0.0)[:, None]
    square = error * error
    resp, _, log_lik = normalised(log_gate + (level - square * half))
    q = resp * w[None, :]
    place = k[:, None].to(tl.int64) * out_stride + row[None, :]
    mask = known[:, None] & inside[None, :]
    tl.store(gram_rows + place, q, mask=mask)
    tl.store(score_rows + place, q * error, mask=mask)
    tl.store(gate_scores + place, q - proba * w[None, :], mask=mask)
    if GATE_GRAMS == 2:
        write_pairs(gate_rows, proba, w, k, row, mask, n_experts, out_stride)
    elif GATE_GRAMS == 1:
        tl.store(gate_rows + row, w, mask=inside)
    mine = sums + tile * 3 * n_experts + k
    tl.store(mine, tl.sum(q, axis=1), mask=known)
    tl.store(mine + n_experts, tl.sum(q * square, axis=1), mask=known)
    total = tl.sum(tl.where(inside, w * log_lik, 0.0), axis=0)
    tl.store(mine + 2 * n_experts, tl.where(k == 0, total, 0.0), mask=known)


def linear_softmax_sums(designs, y, weight, parameters, out, gate_grams):
    """Fill the weight rows of a block; return sums of shape (3, n_experts).

    Parameters
    ----------
    designs : tensors of shape (n_columns, n_rows)
        Of the gate and of the experts.
    y, weight : tensors of shape (n_rows,)
    parameters : tensors
        Coefficients of gate and experts, (n_experts, n_columns); half precisions and
        logs of the densities' constants, (n_experts,).
    out : tensors of shape (..., n_rows), of one row stride
        Gram rows of experts and gate, score rows of experts and gate.
    gate_grams : {0, 1, 2}
        Whether the gate's gram rows are none, the weight, or those of all pairs.

    Returns
    -------
    sums : tensor
        Mass and scatter of each expert; the log-likelihood is the first of the rest.
    """
    gate_coef, expert_coef = parameters[:2]
    n_experts, n_rows = gate_coef.shape[0], y.shape[0]
    rows = 64 if n_experts <= 32 else 32
    tiles = -(-n_rows // rows)
    sums = torch.empty((tiles, 3, n_experts), dtype=torch.float64, device=y.device)
    with torch.cuda.device(y.device):
        linear_softmax_e_step[(tiles,)](
            *designs,
            y,
            weight,
            *parameters,
            *out,
            sums,
            n_rows,
            designs[0].stride(0),
            designs[1].stride(0),
            out[0].stride(0),
            n_experts,
            gate_coef.shape[1],
            expert_coef.shape[1],
            EXPERTS=max(8, triton.next_power_of_2(n_experts)),
            COLUMNS=16,
            ROWS=rows,
            GATE_GRAMS=gate_grams,
            num_warps=4,
        )
    return sums.sum(0)
