"""A small vision transformer in which some blocks hold a mixture of experts."""

from collections.abc import Callable, Iterable
from numbers import Integral
from typing import Any

from torch import nn

from skmoe.nn._arguments import positive
from skmoe.nn._attention import Block
from skmoe.nn._vit import SmallViT
from skmoe.nn.routing._layer_routers import make_router, set_places
from skmoe.nn.routing._mlp_experts import MLPExperts
from skmoe.nn.routing._moe_layer import MoELayer

__all__ = ["SparseViT"]


class SparseViT(SmallViT):
    """Patches attend to one another, and are sent to experts between.

    A `SmallViT` whose hidden layers are mixtures of experts in some of its blocks.
    Every token, of a patch or of the class, chooses experts of its own. Riquelme, C.
    et al. (2021). Scaling vision with sparse mixture of experts. NeurIPS, sections 2
    and 4. A token that finds no place passes by the experts. Add
    ``auxiliary_loss(model)`` to the loss when it trains.

    Where places are few, or experts choose, the tokens of all images of a batch
    compete: what is predicted for an image depends on the others.

    Parameters
    ----------
    n_inputs, n_outputs : int
        Pixels of a row, and columns of what is returned.
    n_experts : int, default=8
    top_k : int, default=2
        Experts of a token; with "switch" it is one.
    router : str or callable, default="topk"
        "topk", "noisy_topk", "switch", "expert_choice", "soft" (whose experts see
        averages of the tokens of an image) or "dense", or a function of (n_inputs,
        n_experts) that returns a router.
    capacity_factor : float or None, default=1.05
        Places of an expert over an even share of the choices of a batch, as in the
        paper; None: as many as are wanted. `set_capacity` changes it.
    priority : {"gate", "arrival"}, default="gate"
        Who gets the places: the tokens with the largest weights (batch prioritised
        routing, section 4), or the first of the batch.
    sparse_blocks : "every other" or iterable of int, default="every other"
        Blocks with a mixture, counted from 0. "every other": the last but one, the
        last but three, and so on. The last block renews the class token alone, and so
        has its experts for this token alone.
    n_hidden : int or None, default=None
        Hidden units of an expert; None: twice the width, as in the other blocks.
    image_shape, patch, width, depth, heads, dropout :
        As for `SmallViT`.

    Attributes
    ----------
    mixtures : list of MoELayer

    Raises
    ------
    ValueError
        If an argument is out of range or names a block that there is not, or rows
        have another number of columns.

    Examples
    --------
    >>> import torch
    >>> from skmoe.nn import SparseViT, auxiliary_loss
    >>> model = SparseViT(64, 10, n_experts=4)
    >>> images, digits = torch.randn(32, 64), torch.randint(10, (32,))
    >>> loss = torch.nn.functional.cross_entropy(model(images), digits)
    >>> (loss + auxiliary_loss(model)).backward()
    >>> model.eval().set_capacity(0.5)(images).shape
    torch.Size([32, 10])
    """

    def __init__(
        self,
        n_inputs: int,
        n_outputs: int,
        *,
        n_experts: int = 8,
        top_k: int = 2,
        router: str | Callable[[int, int], nn.Module] = "topk",
        capacity_factor: float | None = 1.05,
        priority: str = "gate",
        sparse_blocks: Any = "every other",
        n_hidden: int | None = None,
        image_shape: Any = None,
        patch: int | None = None,
        width: int = 64,
        depth: int = 4,
        heads: int = 4,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(
            n_inputs,
            n_outputs,
            image_shape=image_shape,
            patch=patch,
            width=width,
            depth=depth,
            heads=heads,
            dropout=dropout,
        )
        n_experts = positive("SparseViT", "n_experts", n_experts)
        n_hidden = 2 * width if n_hidden is None else n_hidden
        self.top_k = top_k
        for level in _levels(sparse_blocks, depth):
            chosen = make_router(
                "SparseViT",
                router,
                width,
                n_experts,
                top_k=top_k,
                capacity_factor=capacity_factor,
                priority=priority,
            )
            experts = MLPExperts(n_experts, width, n_hidden)
            self._block(level).mix(MoELayer(experts, chosen))

    @property
    def mixtures(self) -> list[MoELayer]:
        """The mixture layers, from the first block on."""
        found = (self._block(level).mixture for level in range(self._depth))
        return [layer for layer in found if isinstance(layer, MoELayer)]

    def set_capacity(
        self, factor: float | None, priority: str | None = None
    ) -> "SparseViT":
        """Change how many tokens the experts take, at any time; return self.

        Below 1 some tokens pass by their experts even if all experts are loaded alike:
        prediction costs less. Batch prioritised routing passes over those that matter
        least.

        Parameters
        ----------
        factor : float or None
            Places of an expert over an even share of the choices of a batch; None: as
            many as are wanted, or with "expert_choice" an even share.
        priority : {"gate", "arrival"} or None, default=None
            None: as it was.

        Raises
        ------
        ValueError
            If an argument is out of range, or the router has no capacity.
        """
        for layer in self.mixtures:
            set_places("SparseViT", layer.router, factor, self.top_k, priority)
        return self

    @property
    def _depth(self) -> int:
        return len(self.transformer.blocks)

    def _block(self, level: int) -> Block:
        block = self.transformer.blocks[level]
        assert isinstance(block, Block)
        return block


def _levels(sparse_blocks: Any, depth: int) -> list[int]:
    """Return the blocks that hold a mixture.

    Raises
    ------
    ValueError
        If it is neither "every other" nor distinct numbers of blocks.
    """
    if isinstance(sparse_blocks, str) and sparse_blocks == "every other":
        return list(range(depth % 2, depth - 1, 2)) or [0]
    several = isinstance(sparse_blocks, Iterable)
    levels = [] if isinstance(sparse_blocks, str) or not several else [*sparse_blocks]
    right = all(isinstance(at, Integral) and 0 <= int(at) < depth for at in levels)
    if not levels or not right or len(set(levels)) < len(levels):
        raise ValueError(
            'SparseViT: sparse_blocks must be "every other" or distinct numbers of '
            f"blocks from 0 to {depth - 1}, got {sparse_blocks!r}."
        )
    return [int(at) for at in levels]
