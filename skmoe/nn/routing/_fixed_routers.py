"""Yardsticks: routing that learns nothing, by a hash of the row or by chance."""

import torch
from torch import Tensor, nn

from skmoe.nn._arguments import positive
from skmoe.nn.routing._router import checked_top_k, flat_rows
from skmoe.nn.routing._routing_plan import RoutingPlan

__all__ = ["HashRouter", "RandomRouter"]

# A prime near 2^31, so that products of residues fit 63 bits.
PRIME = 2_147_483_629


class _FixedRouter(nn.Module):
    """Choices that do not depend on anything learned, with equal weights."""

    generator: torch.Generator | None = None

    def __init__(self, n_inputs: int, n_experts: int, top_k: int = 1) -> None:
        super().__init__()
        name = type(self).__name__
        self.n_inputs = positive(name, "n_inputs", n_inputs)
        self.n_experts = positive(name, "n_experts", n_experts)
        self.top_k = checked_top_k(name, top_k, self.n_experts)

    def rows(self, x: Tensor) -> Tensor:
        """Return rows of shape (n_rows, n_inputs)."""
        return flat_rows(type(self).__name__, x, self.n_inputs)

    def plan(self, first: Tensor, dtype: torch.dtype) -> RoutingPlan:
        """Return the plan of first choices; the others are the experts behind them."""
        behind = torch.arange(self.top_k, device=first.device)
        index = (first[:, None] + behind) % self.n_experts
        wide = torch.promote_types(dtype, torch.float32)
        weight = torch.full_like(index, 1.0 / self.top_k, dtype=wide)
        return RoutingPlan.of_choices(index, weight, self.n_experts)

    def extra_repr(self) -> str:
        """Return what `repr` shows."""
        return f"n_inputs={self.n_inputs}, n_experts={self.n_experts}"


class HashRouter(_FixedRouter):
    """Send each row to experts that a hash of its numbers tells.

    Equal rows always go to the same experts. The idea is of Roller, S. et al. (2021).
    Hash layers for large sparse models. NeurIPS, who hash the number of a word.

    Parameters
    ----------
    n_inputs, n_experts : int
    top_k : int, default=1
    """

    coefficients: Tensor

    def __init__(self, n_inputs: int, n_experts: int, top_k: int = 1) -> None:
        super().__init__(n_inputs, n_experts, top_k)
        generator = torch.Generator().manual_seed(0)
        draws = torch.randint(1, 2**20, (self.n_inputs,), generator=generator)
        self.register_buffer("coefficients", draws)

    def forward(self, x: Tensor) -> RoutingPlan:
        """Return the plan of rows of shape (..., n_inputs)."""
        # -0 and 0 are equal, and must have equal bits.
        numbers = self.rows(x.detach()).float() + 0.0
        bits = numbers.contiguous().view(torch.int32).long() % PRIME
        mixed = (bits * self.coefficients % PRIME).sum(dim=1) % PRIME
        mixed = (mixed ^ (mixed >> 15)) * 739_391 % PRIME
        return self.plan((mixed ^ (mixed >> 13)) % self.n_experts, x.dtype)


class RandomRouter(_FixedRouter):
    """Send each row to experts drawn by chance, anew each time.

    Parameters
    ----------
    n_inputs, n_experts : int
    top_k : int, default=1
    """

    def forward(self, x: Tensor) -> RoutingPlan:
        """Return the plan of rows of shape (..., n_inputs)."""
        rows = self.rows(x)
        size, generator = (rows.shape[0],), self.generator
        first = torch.randint(
            self.n_experts, size, generator=generator, device=x.device
        )
        return self.plan(first, x.dtype)
