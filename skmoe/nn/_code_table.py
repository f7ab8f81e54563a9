"""One table of vectors for the codes of all columns."""

from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from skmoe._blocks import runs_triton

__all__ = ["CodeTable"]


class CodeTable(nn.Module):
    """Vectors of category codes, all columns in one table.

    A code is a row of the table: the columns' rows lie one after another, so that
    one lookup serves all columns and one update all their vectors. New codes get
    rows at the end, and old ones keep their meaning.

    Parameters
    ----------
    n_codes : int
        Rows of the table. Row 0 stands for no entry and stays at zero.
    size : int
        Numbers per vector.
    scale : float
        Standard deviation of the first vectors.
    """

    def __init__(self, n_codes: int, size: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.weight = nn.Parameter(_vectors(n_codes, size, scale))
        with torch.no_grad():
            self.weight[:1] = 0.0

    def grow(self, n_codes: int) -> None:
        """Add rows for codes that have come up since, to n_codes in all.

        Parameters
        ----------
        n_codes : int
        """
        old = self.weight.detach()
        n_new = n_codes - old.shape[0]
        new = _vectors(n_new, old.shape[1], self.scale).to(old)
        self.weight = nn.Parameter(torch.cat([old, new]))

    def forward(self, codes: Tensor) -> Tensor:
        """Return vectors of shape (n_rows, n_columns, size).

        Parameters
        ----------
        codes : integer tensor of shape (n_rows, n_columns)
        """
        vectors: Tensor = _Lookup.apply(codes, self.weight)  # type: ignore[no-untyped-call]
        return vectors


def _vectors(n_codes: int, size: int, scale: float) -> Tensor:
    return scale * torch.randn(n_codes, size)


class _Lookup(torch.autograd.Function):
    """``weight[codes]``, with a gradient that is summed in a faster way.

    On a CPU `index_add_` takes a quarter of the time of the gradient of
    `torch.nn.functional.embedding`, which was itself a quarter of a training step; it
    is fast for 64-bit indices alone. On a GPU there are kernels of our own. All sum in
    a way that makes two trainings equal to the last bit.
    """

    @staticmethod
    def forward(ctx: Any, codes: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(codes)
        ctx.table = weight.shape
        kernel = _kernel_for(weight)
        if kernel is not None and codes.numel():
            vectors: Tensor = kernel.gathered(codes, weight)
            return vectors
        return torch.nn.functional.embedding(codes, weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor | None]:
        (codes,), (grad,), (n_rows, size) = ctx.saved_tensors, grads, ctx.table
        kernel = _kernel_for(grad)
        if kernel is not None and codes.numel():
            return None, kernel.summed(codes, grad, n_rows)
        if grad.is_cuda:
            total = torch.ops.aten.embedding_dense_backward(
                grad, codes, n_rows, -1, False
            )
            return None, total
        total = grad.new_zeros(n_rows, size)
        flat = grad.reshape(-1, size)
        return None, total.index_add_(0, codes.reshape(-1).long(), flat)


def _kernel_for(values: Tensor) -> Any:
    """Return the module of the kernels where they can be used, else None."""
    if values.dtype != torch.float32 or not runs_triton(values):
        return None
    return import_module("skmoe.nn.kernels._lookup_kernel")
