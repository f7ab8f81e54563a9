"""What a router decides: which rows go to which experts, and how they come back."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from skmoe.nn.routing._slots import combine, dispatch, sorted_slots

__all__ = ["RoutingPlan", "SoftPlan"]


@dataclass
class RoutingPlan:
    """Choices of experts, k a row, and the slots in which they are kept.

    Attributes
    ----------
    index : tensor of int64 of shape (n_rows, k)
        Expert of each choice.
    weight : tensor of shape (n_rows, k)
        What the output of each choice is multiplied by; carries the gradient of the
        router.
    slot, source, offsets : tensors
        See `skmoe.nn.routing._slots.Slots`.
    load : tensor of int32 of shape (n_experts,)
        Choices of each expert, before any is moved or dropped.
    logits : tensor of shape (n_rows, n_experts) or None
    losses : dict of str to tensor
        What the router wants added to the loss, each times its weight.
    statistics : dict of str to tensor
        "load" and "kept" of shape (n_experts,): choices of each expert as above, and
        those that it got in the end.
    may_drop : bool, default=True
        Whether there may be choices without a slot.
    """

    index: Tensor
    weight: Tensor
    slot: Tensor
    source: Tensor
    offsets: Tensor
    load: Tensor
    logits: Tensor | None = None
    losses: dict[str, Tensor] = field(default_factory=dict)
    statistics: dict[str, Tensor] = field(default_factory=dict)
    may_drop: bool = True

    @classmethod
    def of_choices(
        cls,
        index: Tensor,
        weight: Tensor,
        n_experts: int,
        *,
        capacity: int | None = None,
        order: Tensor | None = None,
        load: Tensor | None = None,
        logits: Tensor | None = None,
    ) -> "RoutingPlan":
        """Make the plan that sends rows to their choices.

        Parameters
        ----------
        index, weight : tensors of shape (n_rows, k)
        n_experts : int
        capacity : int or None, default=None
            Choices that an expert takes.
        order : tensor of int64 of shape (n_rows,), default=None
            Order in which rows are served, where there is a capacity.
        load : tensor of int32 of shape (n_experts,), default=None
            Choices of each expert before some were moved; None if none was.
        logits : tensor of shape (n_rows, n_experts), default=None
        """
        slots = sorted_slots(index, n_experts, capacity, order)
        kept = slots.offsets.diff(prepend=slots.offsets.new_zeros(1))
        load = slots.load if load is None else load
        statistics = {"load": load, "kept": kept}
        return cls(
            index,
            weight,
            *slots[:3],
            load,
            logits,
            statistics=statistics,
            may_drop=capacity is not None,
        )

    @property
    def n_rows(self) -> int:
        """Rows that are routed."""
        return self.index.shape[0]

    @property
    def n_experts(self) -> int:
        """Experts that they may go to."""
        return len(self.offsets)

    def dispatch(self, x: Tensor) -> Tensor:
        """Return the rows in the order of their experts.

        Parameters
        ----------
        x : tensor of shape (..., n_inputs)
            n_rows of them.

        Returns
        -------
        rows : tensor of shape (n_slots, n_inputs)
            Slots that no choice fills are zero: they are behind the last offset.
        """
        rows: Tensor = dispatch(x.reshape(-1, x.shape[-1]), self.source, self.slot)
        return rows

    def combine(self, out: Tensor) -> Tensor:
        """Return the weighted sum of what the experts made of each row.

        Choices that were dropped add nothing.

        Parameters
        ----------
        out : tensor of shape (n_slots, n_outputs)

        Returns
        -------
        y : tensor of shape (n_rows, n_outputs)
        """
        y: Tensor = combine(out, self.weight, self.source, self.slot)
        return y


@dataclass
class SoftPlan:
    """Slots that are averages of rows, and rows that are averages of slots.

    Attributes
    ----------
    to_slots : tensor of shape (n_groups, n_experts * n_slots, n_rows)
        Weights of the rows of a group in each slot; they sum to one over the rows.
    to_rows : tensor of shape (n_groups, n_rows, n_experts * n_slots)
        Weights of the slots in each row; they sum to one over the slots.
    offsets : tensor of int32 of shape (n_experts,)
    logits : tensor of shape (n_groups, n_rows, n_experts * n_slots)
    losses, statistics : dict of str to tensor
    """

    to_slots: Tensor
    to_rows: Tensor
    offsets: Tensor
    logits: Tensor | None = None
    losses: dict[str, Tensor] = field(default_factory=dict)
    statistics: dict[str, Tensor] = field(default_factory=dict)

    @property
    def n_experts(self) -> int:
        """Experts that share the slots."""
        return len(self.offsets)

    def dispatch(self, x: Tensor) -> Tensor:
        """Return slots of shape (n_experts * n_groups * n_slots, n_inputs).

        They are sorted by expert.
        """
        n_groups, n_slots, n_rows = self.to_slots.shape
        rows = x.reshape(n_groups, n_rows, x.shape[-1])
        slots = torch.bmm(self.to_slots.to(x.dtype), rows)
        # From groups of experts to experts of groups.
        each = n_slots // self.n_experts
        by_expert = slots.view(n_groups, self.n_experts, each, x.shape[-1])
        return by_expert.transpose(0, 1).reshape(n_groups * n_slots, x.shape[-1])

    def combine(self, out: Tensor) -> Tensor:
        """Return rows of shape (n_groups * n_rows, n_outputs)."""
        n_groups, n_slots, _ = self.to_slots.shape
        by_expert = out.reshape(
            self.n_experts, n_groups, n_slots // self.n_experts, out.shape[-1]
        )
        slots = by_expert.transpose(0, 1).reshape(n_groups, n_slots, out.shape[-1])
        return torch.bmm(self.to_rows.to(out.dtype), slots).flatten(0, 1)
