"""The multilayer perceptron, with embeddings of numbers and of categories."""

from typing import Any

import torch
from torch import Tensor, nn

from skmoe.nn._arguments import activation_named, one_of, positive, positives, rate
from skmoe.nn._columns import ColumnEncoder

__all__ = ["MLP"]


class MLP(nn.Module):
    """Layers of linear map, activation and dropout, then a linear map.

    Parameters
    ----------
    n_inputs, n_outputs : int
        Columns of a row, and of what is returned.
    hidden : int or sequence of int, default=(64, 64)
        Widths of the hidden layers; an empty sequence makes a linear model.
    activation : {"relu", "gelu", "silu", "tanh"}, default="relu"
    dropout : float, default=0.0
        Share of hidden numbers that is dropped in training.
    layer_norm : bool, default=False
        Whether each hidden layer is normalised in front of its activation.
    categories : dict or None, default=None
        ``{column: number of categories}`` of columns that hold codes 0, 1, ... as
        floats, or pairs of the two; see `CategoryEmbedding`.
    numeric : {None, "piecewise", "periodic"}, default=None
        How the other columns are embedded: not at all, by
        `PiecewiseLinearEmbedding` or by `PeriodicEmbedding`.
    embedding_size : int, default=8
        Numbers per embedded column.
    n_bins, n_frequencies, frequency_scale :
        As for the two embeddings.

    Attributes
    ----------
    category_columns : tuple of int
        Columns that hold codes: they must not be standardised.

    Raises
    ------
    ValueError
        If an argument is out of range, or rows have another number of columns.
    """

    def __init__(
        self,
        n_inputs: int,
        n_outputs: int,
        *,
        hidden: Any = (64, 64),
        activation: str = "relu",
        dropout: float = 0.0,
        layer_norm: bool = False,
        categories: Any = None,
        numeric: str | None = None,
        embedding_size: int = 8,
        n_bins: int = 16,
        n_frequencies: int = 16,
        frequency_scale: float = 0.2,
    ) -> None:
        super().__init__()
        self.encoder = ColumnEncoder(
            "MLP",
            n_inputs,
            embedding_size,
            categories=categories,
            numeric=one_of("MLP", "numeric", numeric, (None, "piecewise", "periodic")),
            n_bins=n_bins,
            n_frequencies=n_frequencies,
            frequency_scale=frequency_scale,
        )
        self.category_columns = self.encoder.category_columns
        dropout = rate("MLP", "dropout", dropout)
        layers: list[nn.Module] = []
        width = self.encoder.width
        for next_width in positives("MLP", "hidden", hidden):
            layers.append(nn.Linear(width, next_width))
            if layer_norm:
                layers.append(nn.LayerNorm(next_width))
            layers.append(activation_named("MLP", activation))
            if dropout:
                layers.append(nn.Dropout(dropout))
            width = next_width
        layers.append(nn.Linear(width, positive("MLP", "n_outputs", n_outputs)))
        self.body = nn.Sequential(*layers)

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
        parts = [part.flatten(1) for part in self.encoder(X)]
        flat = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        raw: Tensor = self.body(flat)
        return raw
