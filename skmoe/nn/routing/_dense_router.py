"""A dense softmax gate: every expert sees every row."""

from collections.abc import Mapping

import torch
from torch import Tensor

from skmoe.nn._arguments import positive_number
from skmoe.nn.parallel._exchange import summed
from skmoe.nn.routing._router import Router, runs_again
from skmoe.nn.routing._routing_plan import RoutingPlan
from skmoe.nn.routing._slots import check_number

__all__ = ["DenseRouter"]


class DenseRouter(Router):
    """Send each row to all experts, weighted by the softmax of its logits.

    Parameters
    ----------
    n_inputs, n_experts : int
    margin : float or None, default=None
        Rows by which the sum of an expert's weights so far may exceed the mean over
        experts: while it is further ahead it is left out of training batches, and the
        others share its weight. Eigen, D., Ranzato, M. & Sutskever, I. (2013).
        Learning factored representations in a deep mixture of experts. arXiv
        1312.4314, section 3.3. The sums are taken before each batch. They also turn
        the mixture off at the start of training; fine tune with ``margin = None``.
    losses : mapping of str to float or None, default=None
        "importance", "switch", "deviation" and "z"; None for none.

    Attributes
    ----------
    weight : parameter of shape (n_experts, n_inputs)
    totals : buffer of shape (n_experts,)
        Sums of weights over training, less their mean, where there is a margin.

    Raises
    ------
    ValueError
        If an argument is out of range, or rows have another number of columns.
    """

    totals: Tensor
    # Those that the last batch was routed by.
    totals_before: Tensor | None = None

    def __init__(
        self,
        n_inputs: int,
        n_experts: int,
        *,
        margin: float | None = None,
        losses: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(n_inputs, n_experts, losses)
        self.top_k = self.n_experts
        self.margin = margin
        if margin is not None:
            self.margin = positive_number("DenseRouter", "margin", margin)
            self.register_buffer("totals", torch.zeros(self.n_experts))

    def forward(self, x: Tensor) -> RoutingPlan:
        """Return the plan of rows of shape (..., n_inputs)."""
        logits = self.logits(self.rows(x))
        probabilities = logits.softmax(dim=1)
        weight = self._held_back(logits, probabilities)
        n_rows, n_experts = logits.shape
        check_number(n_rows * n_experts)
        every = torch.arange(n_rows * n_experts, device=x.device, dtype=torch.int32)
        # Slot e * n_rows + t holds choice t * n_experts + e: nothing to sort.
        slot = every.view(n_experts, n_rows).T.contiguous()
        source = every.view(n_rows, n_experts).T.flatten()
        each = torch.arange(n_experts, device=x.device)
        load = torch.full_like(each, n_rows, dtype=torch.int32)
        offsets = (each + 1).int() * n_rows
        plan = RoutingPlan(
            each.expand(n_rows, n_experts),
            weight,
            slot,
            source,
            offsets,
            load,
            logits,
            statistics={"load": load, "kept": load},
            may_drop=False,
        )
        plan.losses = self.losses(plan, weight, probabilities)
        return plan

    def _held_back(self, logits: Tensor, probabilities: Tensor) -> Tensor:
        """Return weights, zero for experts that are too far ahead."""
        if self.margin is None or not self.training:
            return probabilities
        again = runs_again() and self.totals_before is not None
        totals = self.totals_before if again else self.totals
        assert totals is not None
        ahead = totals > self.margin
        weight = logits.masked_fill(ahead, -torch.inf).softmax(dim=1)
        if again:
            return weight
        with torch.no_grad():
            if not torch.compiler.is_compiling():
                self.totals_before = self.totals.clone()
            sums = weight.sum(dim=0).to(self.totals.dtype)
            totals = self.totals + summed(sums, self.mesh)
            # Less the mean, for sums of many rows have no digits for a single one.
            self.totals.copy_(totals - totals.mean())
        return weight
