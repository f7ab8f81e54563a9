"""A design with the kernels that work on it, and what a pass sums for them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmoe._blocks import FormedRows, runs_triton, weighted_grams
from skmoe._xp import (
    ALIGNED,
    block_numbers,
    empty,
    empty_rows,
    is_foreign,
    taken,
    to_numpy,
    zeros,
)

__all__ = ["LEAST_ROWS", "Group", "block_rows"]

Array = NDArray[np.float64]

# Numbers of 8 bytes that a block may spread over.
CACHE_NUMBERS = 300_000
# Blocks are not halved any further where the memory of a device is short.
LEAST_ROWS = 256


class Group:
    """A design matrix with the kernels that work on it, and their sums.

    Parameters
    ----------
    matrix : array of shape (n_columns, n_samples), or FormedRows
    kernels : list
    total_of_first : bool
        Whether the last kernel's one gram is that under the weight of the rows, and so
        the sum of the first kernel's, which are under the responsibilities.
    """

    def __init__(
        self, matrix: Any, kernels: list[Any], total_of_first: bool = False
    ) -> None:
        self.matrix = matrix
        # An array where the rows are.
        self.anchor = matrix.X if isinstance(matrix, FormedRows) else matrix
        self.kernels = kernels
        self.gram_rows = [kernel.n_gram_rows for kernel in kernels]
        self.total_of_first = total_of_first
        if total_of_first:
            self.gram_rows[-1] = 0

    def reset(self) -> None:
        """Zero the sums before a pass."""
        p = self.matrix.shape[0]
        scores = sum(kernel.n_score_rows for kernel in self.kernels)
        self.half_grams = zeros(self.anchor, (p * (p + 1) // 2, sum(self.gram_rows)))
        self.score = zeros(self.anchor, (p, scores))
        self._half: Any = None

    def taken(self, rows: Any) -> Array:
        """Return the design of some rows, contiguous, in the memory of the host."""
        if isinstance(self.matrix, FormedRows):
            formed: Array = self.matrix.taken(rows)
            return formed
        return np.ascontiguousarray(taken(self.matrix, rows))

    def weight_rows(self, design: Any) -> tuple[Any, Any]:
        """Return arrays for the kernels' weight rows of a block."""
        rows = design.shape[1]
        return (
            empty_rows(design, (self.half_grams.shape[1], rows)),
            empty_rows(design, (self.score.shape[1], rows)),
        )

    def add(self, design: Array, weighted_resp: Array, weight: Array) -> None:
        """Add one block: the kernels write their weight rows side by side."""
        gram_rows, score_rows = self.weight_rows(design)
        i = j = 0
        for kernel, n_grams in zip(self.kernels, self.gram_rows, strict=True):
            k, s = i + n_grams, j + kernel.n_score_rows
            views = gram_rows[i:k, :], score_rows[j:s, :]
            kernel.fill(*views, weighted_resp, weight)
            i, j = k, s
        self.add_rows(design, gram_rows, score_rows)

    def add_rows(self, design: Any, gram_rows: Any, score_rows: Any) -> None:
        """Add the sums of one block under the kernels' weight rows."""
        if gram_rows.shape[0]:
            rows = design.shape[1]
            kept = self._half is not None and self._half.shape[1] == rows
            if not kept and not runs_triton(design):
                self._half = empty(design, (self.half_grams.shape[0], rows))
            self.half_grams += weighted_grams(design, gram_rows, self._half)
        self.score += design @ score_rows.T

    def hand_out(self, total_weight: float) -> None:
        """Give each kernel its part of the sums, which leave the rows' device."""
        self.half_grams, self.score = to_numpy(self.half_grams), to_numpy(self.score)
        self._half = None
        i = j = 0
        for kernel, n_grams in zip(self.kernels, self.gram_rows, strict=True):
            k, s = i + n_grams, j + kernel.n_score_rows
            half = self.half_grams[:, i:k]
            if self.total_of_first and kernel is self.kernels[-1]:
                half = self.half_grams.sum(axis=1, keepdims=True)
            kernel.take(half, self.score[:, j:s], total_weight)
            i, j = k, s


def block_rows(groups: list[Group]) -> int:
    """Return how many rows to take at a time, a power of two.

    What a block computes should stay in the cache: half products, and the weight
    rows of all kernels. Measured for 1 to 64 experts and 2 to 60 columns. On a
    device it should rather fill the memory that is free.
    """
    width = 0
    for group in groups:
        p = group.matrix.shape[0]
        width += 0 if runs_triton(group.anchor) else p * (p + 1) // 2
        width += sum(group.gram_rows) + sum(k.n_score_rows for k in group.kernels)
    anchor = groups[0].anchor
    if is_foreign(anchor):
        # Densities and the like take about as much again as the score rows.
        width += 4 * sum(k.n_score_rows for k in groups[0].kernels)
        most = block_numbers(anchor) // int(width)
        return max(most // ALIGNED * ALIGNED, LEAST_ROWS)
    rows = CACHE_NUMBERS / width
    return int(2 ** np.clip(np.round(np.log2(rows)), 8, 12))
