"""A small convolutional network: rows are flattened images."""

import math
from typing import Any

from torch import Tensor, nn

from skmoe.nn._arguments import (
    activation_named,
    check_rows,
    image_shape_of,
    one_of,
    positive,
    positives,
    rate,
)

__all__ = ["SmallCNN"]


class SmallCNN(nn.Module):
    """Stages of convolution, group norm, activation and pooling, then linear.

    Each stage has a convolution of 3 by 3 and halves height and width by the
    maximum of 2 by 2. Group norm, not batch norm: a row's output depends on
    that row alone, whatever the weights of its neighbours in a batch.

    Parameters
    ----------
    n_inputs, n_outputs : int
        Pixels of a row, and columns of what is returned.
    image_shape : tuple or None, default=None
        (channels, height, width), or (height, width) of one channel; the pixels
        of a row are in this order, width fastest. None: a square, one channel.
    channels : int or sequence of int, default=(16, 32)
        Channels of each stage.
    activation : {"relu", "gelu", "silu", "tanh"}, default="relu"
    pooling : {"flatten", "average"}, default="flatten"
        Whether the last map is taken whole, which keeps where something is, or
        averaged over its places: fewer weights for large images.
    dropout : float, default=0.0
        Share of numbers dropped in front of the last layer in training.

    Raises
    ------
    ValueError
        If an argument is out of range, image_shape does not have n_inputs pixels,
        or rows have another number of columns.
    """

    def __init__(
        self,
        n_inputs: int,
        n_outputs: int,
        *,
        image_shape: Any = None,
        channels: Any = (16, 32),
        activation: str = "relu",
        pooling: str = "flatten",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.image_shape = image_shape_of("SmallCNN", n_inputs, image_shape)
        one_of("SmallCNN", "pooling", pooling, ("flatten", "average"))
        width, *sides = self.image_shape
        stages: list[nn.Module] = []
        for next_width in positives("SmallCNN", "channels", channels):
            stages += [
                nn.Conv2d(width, next_width, 3, padding=1),
                nn.GroupNorm(math.gcd(8, next_width), next_width),
                activation_named("SmallCNN", activation),
                # Rounded up, so that a side of 1 stays 1.
                nn.MaxPool2d(2, ceil_mode=True),
            ]
            width, sides = next_width, [(side + 1) // 2 for side in sides]
        if pooling == "average":
            stages.append(nn.AdaptiveAvgPool2d(1))
            sides = [1, 1]
        self.stages = nn.Sequential(*stages)
        self.dropout = nn.Dropout(rate("SmallCNN", "dropout", dropout))
        n_outputs = positive("SmallCNN", "n_outputs", n_outputs)
        self.head = nn.Linear(width * math.prod(sides), n_outputs)

    def forward(self, X: Tensor) -> Tensor:
        """Return raw outputs of shape (n_rows, n_outputs)."""
        check_rows("SmallCNN", X, math.prod(self.image_shape))
        maps = self.stages(X.reshape(-1, *self.image_shape))
        raw: Tensor = self.head(self.dropout(maps.flatten(1)))
        return raw
