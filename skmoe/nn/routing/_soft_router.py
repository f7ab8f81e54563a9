"""Soft routing: experts see averages of rows, rows get averages of what they say."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from skmoe.nn._arguments import positive
from skmoe.nn.routing._router import Router
from skmoe.nn.routing._router_losses import z_loss
from skmoe.nn.routing._routing_plan import SoftPlan
from skmoe.nn.routing._wide_product import wide_product

__all__ = ["SoftRouter"]


class SoftRouter(Router):
    """Give each expert slots that are weighted averages of the rows of a sequence.

    A slot is the average of all rows with weights ``softmax over rows(x W')``, and a
    row gets the average over all slots with weights ``softmax over slots(x W')``.
    Nothing is dropped, no expert is idle, and everything has a gradient. Puigcerver,
    J. et al. (2023). From sparse to soft mixtures of experts. arXiv 2308.00951,
    equations 1 to 3; rows and W are normalised as in section 2.3.

    The rows of a sequence mix: x has shape (..., n_rows, n_inputs), and each leading
    index is a sequence of its own.

    Parameters
    ----------
    n_inputs, n_experts : int
    slots_per_expert : int, default=1
    normalize : bool, default=True
        Whether rows and the vectors of slots have length 1, up to a learned scale.
    losses : mapping of str to float or None, default=None
        "z"; None for none.

    Raises
    ------
    ValueError
        If an argument is out of range, or rows have another number of columns.
    """

    def __init__(
        self,
        n_inputs: int,
        n_experts: int,
        *,
        slots_per_expert: int = 1,
        normalize: bool = True,
        losses: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(n_inputs, n_experts, losses, ("z",))
        self.slots_per_expert = positive(
            "SoftRouter", "slots_per_expert", slots_per_expert
        )
        n_slots = self.n_experts * self.slots_per_expert
        self.weight = nn.Parameter(
            torch.randn(n_slots, self.n_inputs) * self.n_inputs**-0.5
        )
        self.normalize = bool(normalize)
        # Of one number rather than none: `fully_shard` takes no scalars.
        self.scale = nn.Parameter(torch.ones(1)) if normalize else None

    def forward(self, x: Tensor) -> SoftPlan:
        """Return the plan of sequences of shape (..., n_rows, n_inputs)."""
        rows = self.rows(x)
        weight: Tensor = self.weight
        if self.scale is not None:
            wide = torch.promote_types(rows.dtype, torch.float32)
            rows = nn.functional.normalize(rows.to(wide), dim=1)
            weight = self.scale * nn.functional.normalize(weight.to(wide), dim=1)
        flat = wide_product(rows, weight)
        n_groups, n_rows = x.shape[:-2].numel(), x.shape[-2]
        logits = flat.reshape(n_groups, n_rows, weight.shape[0])
        each = torch.arange(self.n_experts, device=x.device, dtype=torch.int32)
        offsets = (each + 1) * (n_groups * self.slots_per_expert)
        load = torch.full_like(each, n_groups * self.slots_per_expert)
        plan = SoftPlan(
            logits.softmax(dim=1).transpose(1, 2),
            logits.softmax(dim=2),
            offsets,
            logits,
            statistics={"load": load, "kept": load},
        )
        weight_of_z = self.loss_weights.get("z")
        if weight_of_z and self.training and flat.shape[0]:
            plan.losses["z"] = weight_of_z * z_loss(flat)
        return plan
