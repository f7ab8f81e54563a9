"""Noisy top-k gating: noise of a learned size decides between near equals."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from skmoe.nn.parallel._exchange import summed
from skmoe.nn.routing._largest import largest
from skmoe.nn.routing._router import Places, Router
from skmoe.nn.routing._router_losses import (
    FORMULAS,
    cv_squared,
    smooth_load,
    switch_loss,
)
from skmoe.nn.routing._routing_plan import RoutingPlan
from skmoe.nn.routing._wide_product import wide_product

__all__ = ["NoisyTopKRouter"]


class NoisyTopKRouter(Router):
    """Send each row to the k experts with the largest noisy logits.

    ``H = x W' + e (softplus(x N') + 0.01)`` with standard normal e while it trains,
    and e = 0 afterwards; the weights are the softmax of the k largest H. Shazeer, N.
    et al. (2017). Outrageously large neural networks. ICLR, equations 3 to 5, and a
    least noise. Both matrices start at zero, so that experts get about the same load
    at first (appendix A). With one expert a row its weight is 1, and the router learns
    from its losses alone: use `SwitchRouter`.

    Parameters
    ----------
    n_inputs, n_experts : int
    top_k : int, default=2
    losses : mapping of str to float or None, default=None
        "importance" and "load" (equations 6 to 11), "switch", "deviation", "z", and
        "clean": the loss of Switch for the choices that evaluation would make. Where
        the noise is larger than what rows differ by, noisy choices are even, and yet
        without it a few experts get most rows. None: ``{"importance": 0.1, "load":
        0.1}``, as in the paper.
    capacity_factor, overflow, priority :
        As for `TopKRouter`.

    Attributes
    ----------
    weight, noise_weight : parameters of shape (n_experts, n_inputs)

    Raises
    ------
    ValueError
        If an argument is out of range, or rows have another number of columns.
    """

    def __init__(
        self,
        n_inputs: int,
        n_experts: int,
        top_k: int = 2,
        *,
        losses: Mapping[str, float] | None = None,
        capacity_factor: float | None = None,
        overflow: str = "drop",
        priority: str = "arrival",
    ) -> None:
        if losses is None:
            losses = {"importance": 0.1, "load": 0.1}
        super().__init__(n_inputs, n_experts, losses, (*FORMULAS, "load", "clean"))
        self.places = Places(
            "NoisyTopKRouter",
            self.n_experts,
            top_k,
            capacity_factor,
            overflow,
            priority,
        )
        self.top_k = self.places.top_k
        nn.init.zeros_(self.weight)
        self.noise_weight = nn.Parameter(torch.zeros_like(self.weight))

    def forward(self, x: Tensor) -> RoutingPlan:
        """Return the plan of rows of shape (..., n_inputs)."""
        rows = self.rows(x)
        clean = noisy = self.logits(rows)
        if self.training:
            # An expert without any noise would give the load loss no gradient.
            scale = _scale(wide_product(rows, self.noise_weight))
            draws = torch.empty_like(clean, requires_grad=False)
            noisy = clean + scale * draws.normal_(generator=self.generator)
        index = largest(noisy, self.top_k)
        # Over all experts: over the chosen ones the only one would have 1.
        order = self.places.order(lambda: noisy.softmax(dim=1))
        index, load = self.places.moved(index, noisy, order)
        plan = RoutingPlan.of_choices(
            index,
            noisy.gather(1, index).softmax(dim=1),
            self.n_experts,
            capacity=self.places.capacity(clean.shape[0]),
            order=order,
            load=load,
            logits=clean,
        )
        plan.losses = self.losses(plan)
        if self.training and (plan.n_rows or self.mesh is not None):
            weight = self.loss_weights.get("load")
            if weight:
                load = smooth_load(clean, noisy, scale, self.top_k)
                plan.losses["load"] = weight * cv_squared(summed(load, self.mesh))
            weight = self.loss_weights.get("clean")
            if weight:
                plan.losses["clean"] = weight * self._clean_loss(clean)
        return plan

    def _clean_loss(self, clean: Tensor) -> Tensor:
        """Return the loss of Switch for choices without noise."""
        wanted = largest(clean, self.top_k).flatten()
        # Counted without the host, which `bincount` would wait for.
        load = clean.new_zeros(self.n_experts)
        load = load.scatter_add(0, wanted, clean.new_ones(wanted.shape[0]))
        total = clean.softmax(dim=1).sum(dim=0)
        total, load = summed(torch.stack([total, load]), self.mesh).unbind()
        n_rows = (load.sum() / self.top_k).clamp(min=1)
        return switch_loss(total[None] / n_rows, load)


def _scale(raw: Tensor) -> Tensor:
    """Return the standard deviation of the noise."""
    return nn.functional.softplus(raw) + 1e-2
