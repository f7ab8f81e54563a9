"""A mixture of experts that a router chooses among, on rows of a table."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from skmoe.nn._table_network import Part, TableNetwork
from skmoe.nn._table_rows import TableRows
from skmoe.nn.routing._mlp_experts import MLPExperts
from skmoe.nn.routing._moe_layer import pooled
from skmoe.nn.routing._named_routers import EvenRouter, new_router
from skmoe.nn.routing._router import sparse_gates

__all__ = ["SparseNetwork"]


class SparseNetwork(TableNetwork):
    """A mixture of experts that a router chooses among, on rows of a table.

    Places are limited in training alone: what is predicted for a row does not depend
    on the rows beside it.

    Parameters
    ----------
    rows : TableRows
    n_outputs : sequence of int
        Raw outputs of each task.
    n_experts, top_k, router, router_losses, capacity_factor, overflow, priority, \
bias_rate :
        As `new_router` takes them.
    expert_hidden : int
        Hidden units of an expert.
    stem_hidden, activation, linear :
        As for `TableNetwork`; the experts have the same activation.

    Raises
    ------
    ValueError
        If an argument is out of range, or goes with another router.
    """

    def __init__(
        self,
        rows: TableRows,
        n_outputs: Sequence[int],
        *,
        n_experts: int,
        expert_hidden: int,
        stem_hidden: Sequence[int] = (),
        activation: str = "relu",
        linear: bool = True,
        router: str = "noisy_topk",
        **options: Any,
    ) -> None:
        super().__init__(
            rows,
            n_outputs,
            stem_hidden=stem_hidden,
            activation=activation,
            linear=linear,
        )
        self.hashes = router == "hash"
        width = self.width
        if self.hashes:
            # Hidden rows change in training; what they are made of does not.
            width = rows.n_numbers + rows.n_columns + rows.list_length
        self.router: Any = new_router(router, width, n_experts, **options)
        # What chance comes to on average, for prediction.
        self.even = EvenRouter(width, n_experts) if router == "random" else None
        self.top_k: int = self.router.top_k
        if self.even is not None:
            self.top_k = n_experts
        places = getattr(self.router, "places", None)
        self.factor = None if places is None else places.factor
        total = sum(self.n_outputs)
        self.experts = MLPExperts(
            n_experts, self.width, expert_hidden, total, activation
        )

    def train(self, mode: bool = True) -> "SparseNetwork":
        """Limit places in training only."""
        super().train(mode)
        if self.factor is not None:
            self.router.places.factor = self.factor if mode else None
        return self

    def plan(self, numbers: Tensor, codes: Tensor, hidden: Tensor) -> Any:
        """Return the routing plan of rows."""
        if self.hashes:
            hidden = torch.cat([numbers, codes.to(numbers.dtype)], dim=1)
        # Experts cannot choose from one row, which a last batch may consist of.
        alone = len(hidden) == 1 and hasattr(self.router, "eval_top_k")
        if self.training and alone:
            plan = self.router.eval()(hidden)
            self.router.train()
            return plan
        router = self.router if self.training or self.even is None else self.even
        return router(hidden)

    def routed(self, numbers: Tensor, codes: Tensor, hidden: Tensor) -> Tensor:
        """Return the weighted sum of what a row's experts make of it."""
        plan = self.plan(numbers, codes, hidden)
        self.keep(plan.losses, plan.statistics)
        return pooled(self.experts, hidden, plan).to(self.bias.dtype)

    def routing(self, numbers: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Return weights and choices of experts, each of shape (n_rows, n_experts)."""
        plan = self.plan(numbers, codes, self.hidden(numbers, codes)[1])
        weight = sparse_gates(plan)
        return weight, torch.zeros_like(weight).scatter(1, plan.index, 1.0)

    @property
    def numbers_per_row(self) -> int:
        """Numbers that a row takes in evaluation, about: one copy an expert."""
        width = self.width + self.experts.w1.shape[2] + self.experts.n_outputs
        return self.rows.width + self.top_k * width

    def layer_parts(self) -> list[Part]:
        """Return router and experts."""
        params = dict(self.router.named_parameters())
        read = params.get("weight")
        noise = sum(param.numel() for name, param in params.items() if name != "weight")
        experts, total = self.experts, sum(p.numel() for p in self.experts.parameters())
        matrices = experts.w1.numel() + experts.w2.numel()
        share = self.top_k / experts.n_experts
        return [
            Part(0 if read is None else read.numel(), 0),
            Part(0, noise, 0.0),  # in training alone
            Part(matrices, total - matrices, share),
        ]
