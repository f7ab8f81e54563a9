"""What the two transformers share: blocks of attention, and a class token."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from skmoe.nn._arguments import positive, rate

__all__ = ["ClassTokenTransformer"]


class Block(nn.Module):
    """Pre-norm attention, then a pre-norm network of one hidden layer (GELU).

    Parameters
    ----------
    width, heads, hidden : int
    dropout : float
    class_only : bool
        Whether only the first token is renewed and returned: the last block's
        other tokens would be thrown away.

    Attributes
    ----------
    mixture : module or None
        What takes the place of the network of one hidden layer, if anything does.
    """

    def __init__(
        self, width: int, heads: int, hidden: int, dropout: float, class_only: bool
    ) -> None:
        super().__init__()
        self.heads = heads
        self.class_only = class_only
        self.norm_attention = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.gather = nn.Linear(width, width)
        self.norm_hidden = nn.LayerNorm(width)
        self.widen: nn.Linear | None = nn.Linear(width, hidden)
        self.narrow: nn.Linear | None = nn.Linear(hidden, width)
        self.mixture: nn.Module | None = None
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return tokens of shape (n_rows, n_tokens or 1, width)."""
        seen = self.norm_attention(tokens)
        asking = seen
        if self.class_only:
            tokens, asking = tokens[:, :1], seen[:, :1]
        tokens = tokens + self.dropout(self.gather(self._attend(asking, seen)))
        renewed: Tensor = tokens + self.dropout(self._think(self.norm_hidden(tokens)))
        return renewed

    def mix(self, layer: nn.Module) -> None:
        """Put a layer in the place of the network of one hidden layer."""
        self.mixture, self.widen, self.narrow = layer, None, None

    def _think(self, tokens: Tensor) -> Tensor:
        """Return what the network, or what is in its place, makes of each token."""
        if self.mixture is not None:
            mixed: Tensor = self.mixture(tokens)
            return mixed
        assert self.widen is not None
        assert self.narrow is not None
        narrowed: Tensor = self.narrow(functional.gelu(self.widen(tokens)))
        return narrowed

    def _attend(self, asking: Tensor, seen: Tensor) -> Tensor:
        """Return softmax(Q K' / sqrt(d)) V of all heads, side by side.

        Written out: torch's fused attention has no batching rule on the CPU (2.13),
        so a stack of copies would run one by one.
        """
        query = self.query(asking).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        both = self.key_value(seen).unflatten(-1, (2, self.heads, -1))
        key, value = both.transpose(1, 3).unbind(2)
        score = query * query.shape[-1] ** -0.5 @ key.transpose(-1, -2)
        found: Tensor = score.softmax(-1) @ value
        return found.transpose(1, 2).flatten(2)


class ClassTokenTransformer(nn.Module):
    """Tokens and a class token through blocks; a linear map of the class token.

    Parameters
    ----------
    owner : str
        The module whose arguments these are, for messages.
    n_outputs, width, depth, heads : int
    dropout : float

    Raises
    ------
    ValueError
        If an argument is out of range or heads do not divide the width.
    """

    def __init__(
        self,
        owner: str,
        n_outputs: int,
        *,
        width: int,
        depth: int,
        heads: int,
        dropout: float,
    ) -> None:
        super().__init__()
        width = positive(owner, "width", width)
        depth = positive(owner, "depth", depth)
        heads = positive(owner, "heads", heads)
        dropout = rate(owner, "dropout", dropout)
        if width % heads:
            raise ValueError(
                f"{owner}: width must be a multiple of heads, got width={width} and "
                f"heads={heads}."
            )
        self.class_token = nn.Parameter(torch.randn(width))
        self.blocks = nn.Sequential(
            *(
                Block(width, heads, 2 * width, dropout, class_only=level == depth - 1)
                for level in range(depth)
            )
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, positive(owner, "n_outputs", n_outputs))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return raw outputs of shape (n_rows, n_outputs)."""
        first = self.class_token.expand(tokens.shape[0], 1, -1)
        renewed = self.blocks(torch.cat([first, tokens], dim=1))
        raw: Tensor = self.head(self.norm(renewed[:, 0]))
        return raw
