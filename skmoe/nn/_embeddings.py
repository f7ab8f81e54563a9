"""Embeddings of single columns: numbers and category codes become vectors.

All take a tensor of shape (n_rows, n_columns) and return one of shape
(n_rows, n_columns, embedding_size): each column has weights of its own.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from skmoe.nn._arguments import check_rows, positive, positive_number, positives

__all__ = [
    "CategoryEmbedding",
    "LinearEmbedding",
    "PeriodicEmbedding",
    "PiecewiseLinearEmbedding",
]


class LinearEmbedding(nn.Module):
    """Numbers times a vector, plus a vector: ``w_j x_j + b_j``.

    Parameters
    ----------
    n_columns : int
    embedding_size : int

    References
    ----------
    Gorishniy, Y., Rubachev, I., Khrulkov, V. & Babenko, A. (2021). Revisiting
    deep learning models for tabular data. NeurIPS, section 3.3.
    """

    def __init__(self, n_columns: int, embedding_size: int) -> None:
        super().__init__()
        shape = (n_columns, embedding_size)
        self.weight = nn.Parameter(_uniform(shape, embedding_size))
        self.bias = nn.Parameter(_uniform(shape, embedding_size))

    def forward(self, X: Tensor) -> Tensor:
        """Return vectors of shape (n_rows, n_columns, embedding_size)."""
        return X[..., None] * self.weight + self.bias


class PiecewiseLinearEmbedding(nn.Module):
    """Numbers by how far they fill quantile bins, then linear, column by column.

    With bin edges ``b_0 < ... < b_T`` the encoding of x is ``e_1, ..., e_T``: bin t
    holds 1 if x lies above it, 0 if x lies below it, and
    ``(x - b_{t-1}) / (b_t - b_{t-1})`` inside. The first bin goes on below ``b_0``
    and the last above ``b_T``, so that nothing saturates (equation 1). The edges are
    quantiles of the training rows (section 3.2.1), set by `learn`; until then those
    of a standard normal column.

    Parameters
    ----------
    n_columns : int
    embedding_size : int, default=8
    n_bins : int, default=16
        Bins of each column. Equal quantiles are one edge: a column with few
        values has fewer bins, the rest of which encode 0, and a constant column
        is encoded as all zeros.

    References
    ----------
    Gorishniy, Y., Rubachev, I. & Babenko, A. (2022). On embeddings for numerical
    features in tabular deep learning. NeurIPS.
    """

    bins: Tensor

    def __init__(
        self, n_columns: int, embedding_size: int = 8, *, n_bins: int = 16
    ) -> None:
        super().__init__()
        self.n_columns = positive("PiecewiseLinearEmbedding", "n_columns", n_columns)
        size = positive("PiecewiseLinearEmbedding", "embedding_size", embedding_size)
        self.n_bins = positive("PiecewiseLinearEmbedding", "n_bins", n_bins)
        # Left edge, slope, lowest and highest value of each bin: one buffer whose
        # shape does not depend on the data.
        packed = _packed(_normal_edges(self.n_bins), self.n_bins)
        bins = packed[:, None].repeat(1, self.n_columns, 1)
        self.register_buffer("bins", bins.to(torch.get_default_dtype()))
        shape = (self.n_columns, self.n_bins, size)
        self.weight = nn.Parameter(_uniform(shape, self.n_bins))
        self.bias = nn.Parameter(_uniform((self.n_columns, size), self.n_bins))

    @torch.no_grad()
    def learn(self, X: Tensor, weight: Tensor | None = None) -> None:
        """Set the bins to quantiles of the training rows.

        Parameters
        ----------
        X : tensor of shape (n_rows, n_columns)
        weight : tensor of shape (n_rows,), default=None
            A row of weight w counts as w rows.

        Raises
        ------
        ValueError
            If X has another number of columns, or no row has a positive weight.
        """
        check_rows("PiecewiseLinearEmbedding", X, self.n_columns)
        if weight is not None:
            keep = weight > 0
            X, weight = X[keep], weight[keep].double()
        if X.shape[0] == 0:
            raise ValueError(
                "PiecewiseLinearEmbedding: learn needs a row of positive weight."
            )
        resolution = 8 * torch.finfo(self.bins.dtype).eps
        columns = []
        for values in X.unbind(1):
            edges = _quantile_edges(values, weight, self.n_bins, resolution)
            columns.append(_packed(edges, self.n_bins))
        self.bins.copy_(torch.stack(columns, dim=1))

    def encode(self, X: Tensor) -> Tensor:
        """Return how far the bins are filled, of shape (n_rows, n_columns, n_bins)."""
        check_rows("PiecewiseLinearEmbedding", X, self.n_columns)
        left, slope, lowest, highest = self.bins.unbind(0)
        filled = (X[..., None] - left) * slope
        return torch.minimum(torch.maximum(filled, lowest), highest)

    def forward(self, X: Tensor) -> Tensor:
        """Return vectors of shape (n_rows, n_columns, embedding_size)."""
        return _column_linear(self.encode(X), self.weight, self.bias)


class PeriodicEmbedding(nn.Module):
    """Numbers as sines and cosines of trained frequencies, then linear and ReLU.

    ``[sin(v), cos(v)]`` with ``v = 2 pi c x`` and the frequencies c of each column
    drawn from a normal law of deviation ``frequency_scale``, then trained
    (section 3.3). Columns should be standardised.

    Parameters
    ----------
    n_columns : int
    embedding_size : int, default=8
    n_frequencies : int, default=16
        Frequencies of each column.
    frequency_scale : float, default=0.2
        Deviation of the first frequencies, in waves per unit of the column: the
        one setting here that is worth a search.

    References
    ----------
    Gorishniy, Y., Rubachev, I. & Babenko, A. (2022). On embeddings for numerical
    features in tabular deep learning. NeurIPS.
    """

    def __init__(
        self,
        n_columns: int,
        embedding_size: int = 8,
        *,
        n_frequencies: int = 16,
        frequency_scale: float = 0.2,
    ) -> None:
        super().__init__()
        self.n_columns = positive("PeriodicEmbedding", "n_columns", n_columns)
        size = positive("PeriodicEmbedding", "embedding_size", embedding_size)
        n_waves = 2 * positive("PeriodicEmbedding", "n_frequencies", n_frequencies)
        scale = positive_number("PeriodicEmbedding", "frequency_scale", frequency_scale)
        draws = torch.randn(self.n_columns, n_waves // 2)
        self.frequency = nn.Parameter(scale * draws)
        shape = (self.n_columns, n_waves, size)
        self.weight = nn.Parameter(_uniform(shape, n_waves))
        self.bias = nn.Parameter(_uniform((self.n_columns, size), n_waves))

    def forward(self, X: Tensor) -> Tensor:
        """Return vectors of shape (n_rows, n_columns, embedding_size)."""
        check_rows("PeriodicEmbedding", X, self.n_columns)
        angle = 2 * math.pi * X[..., None] * self.frequency
        waves = torch.cat([angle.sin(), angle.cos()], dim=-1)
        return functional.relu(_column_linear(waves, self.weight, self.bias))


class CategoryEmbedding(nn.Module):
    """Category codes, held as floats, by a trained vector for each category.

    A column with n categories has codes 0, ..., n - 1. Anything else (NaN, a
    negative number, a code that is too large, a fraction) has the column's own
    vector for "unknown", which starts at zero. float32 holds whole numbers up to
    2^24 only: larger codes would run into one another, so number the categories
    anew from 0.

    Parameters
    ----------
    n_categories : int or sequence of int
        Categories of each column.
    embedding_size : int, default=8
    """

    n_codes: Tensor
    first_row: Tensor

    def __init__(
        self, n_categories: int | Sequence[int], embedding_size: int = 8
    ) -> None:
        super().__init__()
        counts = positives("CategoryEmbedding", "n_categories", n_categories)
        size = positive("CategoryEmbedding", "embedding_size", embedding_size)
        self.n_columns = positive("CategoryEmbedding", "number of columns", len(counts))
        if max(counts) > 2**24:
            raise ValueError(
                "CategoryEmbedding: float32 tells at most 2^24 codes apart, got "
                f"n_categories={max(counts)}: merge rare categories."
            )
        # One table for all columns; each column's first row is its "unknown".
        n_codes = torch.tensor(counts)
        first_row = (n_codes + 1).cumsum(0) - n_codes - 1
        self.register_buffer("n_codes", n_codes)
        self.register_buffer("first_row", first_row)
        table = _uniform((sum(counts) + self.n_columns, size), size)
        table[first_row] = 0.0
        self.weight = nn.Parameter(table)

    def forward(self, X: Tensor) -> Tensor:
        """Return vectors of shape (n_rows, n_columns, embedding_size)."""
        check_rows("CategoryEmbedding", X, self.n_columns)
        # Comparisons with NaN are false, so NaN is unknown and never made an integer.
        known = (X >= 0) & (self.n_codes > X) & (X.floor() == X)
        row = torch.where(known, X + 1, 0.0).long() + self.first_row
        return functional.embedding(row, self.weight)


def _uniform(shape: tuple[int, ...], fan_in: int) -> Tensor:
    """Draw a weight as torch draws that of a linear layer: within 1 / sqrt(fan_in)."""
    return nn.init.uniform_(torch.empty(shape), -(fan_in**-0.5), fan_in**-0.5)


def _column_linear(values: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return a linear map of its own for each column."""
    mapped: Tensor = torch.einsum("ncb,cbs->ncs", values, weight)
    return mapped + bias


def _normal_edges(n_bins: int) -> Tensor:
    """Return edges of equally likely bins of a standard normal, within 3 of 0."""
    level = torch.arange(1, n_bins, dtype=torch.float64) / n_bins
    end = torch.tensor([3.0], dtype=torch.float64)
    return torch.cat([-end, torch.special.ndtri(level), end])


def _quantile_edges(
    values: Tensor, weight: Tensor | None, n_bins: int, resolution: float
) -> Tensor:
    """Return the distinct quantiles at 0, 1 / n_bins, ..., 1, ascending.

    A quantile is the smallest value with at least that share of the weight at or
    below it. Edges nearer than the resolution, relative to the largest, are one:
    the difference of two such numbers is rounding.
    """
    values, order = values.double().sort()
    mass = torch.ones_like(values) if weight is None else weight[order]
    mass = mass.cumsum(0)
    level = torch.arange(n_bins + 1, device=values.device) * mass[-1] / n_bins
    place = torch.searchsorted(mass, level).clamp(max=mass.shape[0] - 1)
    edges = values[place]
    apart = edges.diff() > resolution * edges.abs().max()
    return torch.cat([edges[:1], edges[1:][apart]])


def _packed(edges: Tensor, n_bins: int) -> Tensor:
    """Return left edge, slope, lowest and highest value, of shape (4, n_bins)."""
    packed = edges.new_zeros(4, n_bins)
    n_real = edges.shape[0] - 1
    if n_real:
        packed[0, :n_real] = edges[:-1]
        packed[1, :n_real] = 1.0 / edges.diff()
        packed[3, :n_real] = 1.0
        packed[2, 0], packed[3, n_real - 1] = -math.inf, math.inf
    return packed
