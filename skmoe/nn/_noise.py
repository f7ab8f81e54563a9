"""Random numbers of training that come from a generator of their own."""

import torch
from torch import Tensor, nn

__all__ = ["ColumnDropout", "Dropout", "GateDropout", "set_generator"]


class _Noisy(nn.Module):
    """A module that draws, while it trains, from the generator it was given."""

    generator: torch.Generator | None = None

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def kept(self, like: Tensor) -> Tensor:
        """Return numbers 0 and 1 of the same shape: 0 at the given rate."""
        draws = torch.empty_like(like, requires_grad=False)
        return draws.bernoulli_(1.0 - self.rate, generator=self.generator)


class Dropout(_Noisy):
    """Set numbers to zero in training, and scale the others up to make up for it."""

    def forward(self, values: Tensor) -> Tensor:
        """Return a tensor of the same shape."""
        if not (self.training and self.rate):
            return values
        return values * self.kept(values) / (1.0 - self.rate)


class ColumnDropout(_Noisy):
    """Leave whole columns out in training: the vectors of their entries are zero.

    The network then cannot rely on one column where others say the same.
    """

    def forward(self, vectors: Tensor) -> Tensor:
        """Return vectors of shape (n_rows, n_columns, size)."""
        if not (self.training and self.rate):
            return vectors
        return vectors * self.kept(vectors[:, :, :1]) / (1.0 - self.rate)


class GateDropout(_Noisy):
    """Leave experts out of a gate in training; the others share its weight.

    The gates of single rows and tasks are thinned independently. A gate that would
    lose all its experts keeps all of them. See Zhao, Z. et al. (2019).
    Recommending what video to watch next: a multitask ranking system. RecSys,
    section 5.3.3: without it gates may come to rely on one expert.
    """

    def forward(self, logits: Tensor) -> Tensor:
        """Return logits of shape (n_rows, n_gates, n_experts), -inf where left out."""
        if not (self.training and self.rate):
            return logits
        out = self.kept(logits) == 0.0
        open_to = logits > -torch.inf
        out = out & (open_to & ~out).any(dim=-1, keepdim=True)
        return logits.masked_fill(out, -torch.inf)


def set_generator(module: nn.Module, generator: torch.Generator | None) -> None:
    """Give all parts of a module that draw random numbers their generator."""
    for part in module.modules():
        if hasattr(type(part), "generator"):
            setattr(part, "generator", generator)  # noqa: B010  not of every module
