"""Experts that choose their rows: each takes the same number of a batch."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from skmoe.nn.routing._largest import largest
from skmoe.nn.routing._router import Router, checked_capacity, checked_top_k
from skmoe.nn.routing._routing_plan import RoutingPlan
from skmoe.nn.routing._slots import check_number

__all__ = ["ExpertChoiceRouter"]


class ExpertChoiceRouter(Router):
    """Let each expert take the rows of a batch that want it most.

    Of n rows an expert takes the ``capacity_factor * n / n_experts`` with the largest
    softmax probability of it, which is the weight of its output. All experts have the
    same load; a row may have several experts or none. Zhou, Y. et al. (2022).
    Mixture-of-experts with expert choice routing. NeurIPS, equations 1 and 2.

    The experts of a row depend on the other rows of its batch: predictions change with
    the batch, and in a sequence with what comes later (the routing is not causal).

    Parameters
    ----------
    n_inputs, n_experts : int
    capacity_factor : float, default=2.0
        Experts of a row, on average.
    eval_top_k : int or None, default=None
        In evaluation each row goes to its own k most probable experts instead, with
        the same weights, whatever else is in the batch.
    losses : mapping of str to float or None, default=None
        "z"; None for none.

    Raises
    ------
    ValueError
        If an argument is out of range, rows have another number of columns, or a batch
        has one row.
    """

    def __init__(
        self,
        n_inputs: int,
        n_experts: int,
        *,
        capacity_factor: float = 2.0,
        eval_top_k: int | None = None,
        losses: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(n_inputs, n_experts, losses, ("z",))
        name = "ExpertChoiceRouter"
        factor = checked_capacity(name, capacity_factor, self.n_experts)
        if factor is None or factor > n_experts:
            raise ValueError(
                f"{name}: capacity_factor is the mean number of experts of a row: at "
                f"most n_experts={n_experts}, got {capacity_factor!r}."
            )
        self.capacity_factor = factor
        self.eval_top_k = eval_top_k
        if eval_top_k is not None:
            self.eval_top_k = checked_top_k(name, eval_top_k, self.n_experts)

    def forward(self, x: Tensor) -> RoutingPlan:
        """Return the plan of rows of shape (..., n_inputs)."""
        logits = self.logits(self.rows(x))
        probabilities = logits.softmax(dim=1)
        if not self.training and self.eval_top_k is not None:
            index = largest(probabilities, self.eval_top_k)
            weight = probabilities.gather(1, index)
            return RoutingPlan.of_choices(index, weight, self.n_experts, logits=logits)
        n_rows, n_experts = logits.shape
        if n_rows == 1:
            raise ValueError(
                "ExpertChoiceRouter got a batch of one row: experts choose among the "
                "rows of a batch, so that the routing of a row depends on the others "
                "and is not causal; give more rows, or set eval_top_k, by which rows "
                "choose for themselves in evaluation."
            )
        size = math.ceil(self.capacity_factor * n_rows / n_experts - 1e-9)
        chosen = self._chosen(probabilities.detach(), size)
        plan = self._plan(chosen, probabilities)
        plan.logits = logits
        plan.losses = self.losses(plan, probabilities, probabilities)
        return plan

    @staticmethod
    def _chosen(probabilities: Tensor, size: int) -> Tensor:
        """Return the rows of each expert, (n_experts, size), in the batch's order."""
        best = probabilities.T.topk(size, dim=1, sorted=False)
        return best.indices.sort(dim=1).values

    @staticmethod
    def _plan(chosen: Tensor, probabilities: Tensor) -> RoutingPlan:
        n_experts, size = chosen.shape
        n_rows = probabilities.shape[0]
        check_number(n_rows * n_experts)
        each = torch.arange(n_experts, device=chosen.device)
        # Every row might have chosen every expert: choice t * n_experts + e.
        source = (chosen * n_experts + each[:, None]).flatten()
        slots = torch.arange(n_experts * size, device=chosen.device, dtype=torch.int32)
        slot = torch.full_like(
            probabilities, -1, dtype=torch.int32, requires_grad=False
        )
        slot = slot.flatten().scatter_(0, source, slots).view(n_rows, n_experts)
        load = torch.full_like(each, size, dtype=torch.int32)
        return RoutingPlan(
            each.expand(n_rows, n_experts),
            probabilities,
            slot,
            source.int(),
            ((each + 1) * size).int(),
            load,
            statistics={"load": load, "kept": load},
        )
