"""A transformer whose tokens are the columns of a row."""

from typing import Any

import torch
from torch import Tensor, nn

from skmoe.nn._arguments import one_of
from skmoe.nn._attention import ClassTokenTransformer
from skmoe.nn._columns import ColumnEncoder

__all__ = ["RowTransformer"]


class RowTransformer(nn.Module):
    """Embed each column as a token and let the tokens attend to one another.

    A class token gathers what the others say; the outputs are a linear map of it.
    The cost grows with the square of the number of columns.

    Parameters
    ----------
    n_inputs, n_outputs : int
        Columns of a row, and of what is returned.
    width : int, default=32
        Numbers per token.
    depth : int, default=2
        Blocks of attention.
    heads : int, default=4
        Heads of attention; they divide the width.
    dropout : float, default=0.0
        Share of numbers dropped behind attention and hidden layer in training.
    categories : dict or None, default=None
        ``{column: number of categories}`` of columns that hold codes 0, 1, ... as
        floats, or pairs of the two; see `CategoryEmbedding`.
    numeric : {"linear", "piecewise", "periodic"}, default="linear"
        How the other columns are embedded: ``w_j x_j + b_j``, by
        `PiecewiseLinearEmbedding` or by `PeriodicEmbedding`.
    n_bins, n_frequencies, frequency_scale :
        As for the two embeddings.

    Attributes
    ----------
    category_columns : tuple of int
        Columns that hold codes: they must not be standardised.

    Raises
    ------
    ValueError
        If an argument is out of range, heads do not divide the width, or rows have
        another number of columns.

    References
    ----------
    Gorishniy, Y., Rubachev, I., Khrulkov, V. & Babenko, A. (2021). Revisiting
    deep learning models for tabular data. NeurIPS, section 3.3.
    """

    def __init__(
        self,
        n_inputs: int,
        n_outputs: int,
        *,
        width: int = 32,
        depth: int = 2,
        heads: int = 4,
        dropout: float = 0.0,
        categories: Any = None,
        numeric: str = "linear",
        n_bins: int = 16,
        n_frequencies: int = 16,
        frequency_scale: float = 0.2,
    ) -> None:
        super().__init__()
        known = ("linear", "piecewise", "periodic")
        self.transformer = ClassTokenTransformer(
            "RowTransformer",
            n_outputs,
            width=width,
            depth=depth,
            heads=heads,
            dropout=dropout,
        )
        self.encoder = ColumnEncoder(
            "RowTransformer",
            n_inputs,
            width,
            categories=categories,
            numeric=one_of("RowTransformer", "numeric", numeric, known),
            n_bins=n_bins,
            n_frequencies=n_frequencies,
            frequency_scale=frequency_scale,
        )
        self.category_columns = self.encoder.category_columns

    def learn(self, X: Tensor, weight: Tensor | None = None) -> None:
        """Set the bins of piecewise-linear embeddings, where there are any.

        Parameters
        ----------
        X : tensor of shape (n_rows, n_inputs)
            The training rows.
        weight : tensor of shape (n_rows,), default=None
        """
        self.encoder.learn(X, weight)

    def forward(self, X: Tensor) -> Tensor:
        """Return raw outputs of shape (n_rows, n_outputs)."""
        raw: Tensor = self.transformer(torch.cat(self.encoder(X), dim=1))
        return raw
