"""Vectors of codes, and the sum of their gradients, as Triton kernels.

torch gathers rows of eight numbers by a block of threads each, and sums their gradients
behind a sort of all codes. Here a block of threads takes many rows, and gradients are
added up as whole numbers: their sum does not depend on the order, so that no sort is
needed and two trainings are still equal to the last bit. Imported where Triton and a
CUDA device are.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["gathered", "summed"]

CODES_AT_ONCE = 128


@triton.jit  # type: ignore[untyped-decorator]
def _gather(  # type: ignore[no-untyped-def]
    codes, table, out, n_codes, size, CODES: tl.constexpr, SIZE: tl.constexpr
):
    i = tl.program_id(0).to(tl.int64) * CODES + tl.arange(0, CODES)
    k = tl.arange(0, SIZE)
    inside = (i < n_codes)[:, None] & (k < size)[None, :]
    code = tl.load(codes + i, mask=i < n_codes, other=0).to(tl.int64)
    vector = tl.load(table + code[:, None] * size + k[None, :], mask=inside)
    tl.store(out + i[:, None] * size + k[None, :], vector, mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def _scatter(  # type: ignore[no-untyped-def]
    codes, grad, total, scale, n_codes, size, CODES: tl.constexpr, SIZE: tl.constexpr
):
    i = tl.program_id(0).to(tl.int64) * CODES + tl.arange(0, CODES)
    k = tl.arange(0, SIZE)
    inside = (i < n_codes)[:, None] & (k < size)[None, :]
    code = tl.load(codes + i, mask=i < n_codes, other=0).to(tl.int64)
    part = tl.load(grad + i[:, None] * size + k[None, :], mask=inside, other=0.0)
    whole = tl.floor(part.to(tl.float64) * tl.load(scale) + 0.5).to(tl.int64)
    place = total + code[:, None] * size + k[None, :]
    tl.atomic_add(place, whole, mask=inside & (whole != 0), sem="relaxed")


def gathered(codes: Tensor, table: Tensor) -> Tensor:
    """Return ``table[codes]``, of shape (*codes.shape, size).

    Parameters
    ----------
    codes : integer tensor on a CUDA device
    table : tensor of float32 of shape (n_codes, size)
    """
    codes, size = codes.contiguous(), table.shape[1]
    out = table.new_empty(*codes.shape, size)
    n_codes, grid = codes.numel(), _grid(codes)
    wide = triton.next_power_of_2(size)
    _gather[grid](codes, table, out, n_codes, size, CODES_AT_ONCE, wide)
    return out


def summed(codes: Tensor, grad: Tensor, n_rows: int) -> Tensor:
    """Return the sum of the gradients of each row of a table.

    Gradients are rounded to multiples of the largest over 2 to the power of 61 less
    the logarithm of their number (2^-42 of the largest for half a million): far
    below the rounding of float32, and no sum overflows. What is not finite makes
    all sums NaN.

    Parameters
    ----------
    codes : integer tensor on a CUDA device
    grad : tensor of float32 of shape (*codes.shape, size)
    n_rows : int
        Of the table.

    Returns
    -------
    total : tensor of float32 of shape (n_rows, size)
    """
    codes, grad, size = codes.contiguous(), grad.contiguous(), grad.shape[-1]
    largest = torch.linalg.vector_norm(grad, math.inf).double()
    bits = 61 - math.ceil(math.log2(max(codes.numel(), 2)))
    unit = torch.where(largest == 0.0, 1.0, largest) * 2.0**-bits
    total = torch.zeros(n_rows, size, dtype=torch.int64, device=grad.device)
    wide = triton.next_power_of_2(size)
    _scatter[_grid(codes)](
        codes, grad, total, 1.0 / unit, codes.numel(), size, CODES_AT_ONCE, wide
    )
    return (total * unit).to(grad.dtype)


def _grid(codes: Tensor) -> tuple[int]:
    return (triton.cdiv(codes.numel(), CODES_AT_ONCE),)
