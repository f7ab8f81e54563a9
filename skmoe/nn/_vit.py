"""A small vision transformer: the tokens are patches of an image."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from skmoe.nn._arguments import check_rows, image_shape_of, positive
from skmoe.nn._attention import ClassTokenTransformer

__all__ = ["SmallViT"]


class SmallViT(nn.Module):
    """Cut an image into square patches and let these attend to one another.

    Each patch is mapped to a token, a trained vector of its position is added, and
    a class token gathers what the others say.

    Parameters
    ----------
    n_inputs, n_outputs : int
        Pixels of a row, and columns of what is returned.
    image_shape : tuple or None, default=None
        (channels, height, width), or (height, width) of one channel; the pixels
        of a row are in this order, width fastest. None: a square, one channel.
    patch : int or None, default=None
        Side of a patch in pixels; it divides height and width. None: the largest
        that leaves at least 16 patches (2 for an image of 8 by 8, 8 for 32 by 32).
    width : int, default=64
        Numbers per token.
    depth : int, default=4
        Blocks of attention.
    heads : int, default=4
        Heads of attention; they divide the width.
    dropout : float, default=0.0
        Share of numbers dropped behind attention and hidden layer in training.

    Raises
    ------
    ValueError
        If an argument is out of range, image_shape does not have n_inputs pixels,
        the patch does not divide height and width, heads do not divide the width,
        or rows have another number of columns.

    References
    ----------
    Dosovitskiy, A. et al. (2021). An image is worth 16x16 words: transformers for
    image recognition at scale. ICLR, equations 1 to 4.
    """

    def __init__(
        self,
        n_inputs: int,
        n_outputs: int,
        *,
        image_shape: Any = None,
        patch: int | None = None,
        width: int = 64,
        depth: int = 4,
        heads: int = 4,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        self.image_shape = image_shape_of(name, n_inputs, image_shape)
        channels, *sides = self.image_shape
        self.patch = _patch_side(name, patch, *sides)
        self.transformer = ClassTokenTransformer(
            name,
            n_outputs,
            width=width,
            depth=depth,
            heads=heads,
            dropout=dropout,
        )
        n_patches = math.prod(sides) // self.patch**2
        self.embed = nn.Linear(channels * self.patch**2, width)
        # Of the size of a token: with 0.02, as in large models, the loss on digits of
        # 8 by 8 was 0.8 after 5 epochs, not 0.2.
        self.position = nn.Parameter(torch.randn(n_patches, width))

    def forward(self, X: Tensor) -> Tensor:
        """Return raw outputs of shape (n_rows, n_outputs)."""
        check_rows(type(self).__name__, X, math.prod(self.image_shape))
        channels, height, width = self.image_shape
        side = self.patch
        cut = X.reshape(-1, channels, height // side, side, width // side, side)
        patches = cut.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
        raw: Tensor = self.transformer(self.embed(patches) + self.position)
        return raw


def _patch_side(owner: str, patch: int | None, height: int, width: int) -> int:
    """Return the side of a patch.

    Raises
    ------
    ValueError
        If it does not divide both sides of the image.
    """
    common = math.gcd(height, width)
    if patch is None:
        sides = [side for side in range(1, common + 1) if common % side == 0]
        fine = [side for side in sides if height * width >= 16 * side**2]
        return max(fine, default=1)
    patch = positive(owner, "patch", patch)
    if common % patch:
        raise ValueError(
            f"{owner}: patch must divide height and width, got patch={patch} for an "
            f"image of {height} by {width}."
        )
    return patch
