"""Choices of full experts go to the next best expert that has a place."""

import torch
from torch import Tensor

from skmoe.nn.routing._slots import sorted_slots

__all__ = ["to_next_expert"]


# One operation to `torch.compile`, which would write out the rounds.
@torch.library.custom_op("skmoe::to_next_expert", mutates_args=())
def to_next_expert(
    index: Tensor, scores: Tensor, capacity: int, order: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return choices in which those without a place are moved.

    Round by round, every row with choices that have no place asks the next best expert
    that is none of its choices; first choices ask in front of second ones, and rows in
    the order in which they are served. A choice that no expert has a place for keeps
    its first one, and is dropped there.

    Parameters
    ----------
    index : tensor of int64 of shape (n_rows, k)
    scores : tensor of shape (n_rows, n_experts)
    capacity : int
    order : tensor of int64 of shape (n_rows,) or None

    Returns
    -------
    index : tensor of int64 of shape (n_rows, k)
    load : tensor of int32 of shape (n_experts,)
        Choices of each expert before.
    """
    n_rows, k = index.shape
    n_experts = scores.shape[1]
    slots = sorted_slots(index, n_experts, capacity, order)
    rows = torch.arange(n_rows, device=index.device) if order is None else order
    placed = slots.slot[rows] >= 0
    on_host = index.device.type == "cpu"
    if on_host:  # where it costs no wait to see who asks
        asks = ~placed.all(dim=1)
        rows, placed = rows[asks], placed[asks]
    choice = index[rows]
    # Behind the first n_experts - k are the choices themselves.
    others = scores[rows].scatter(1, choice, -torch.inf)
    ranking = others.sort(dim=1, descending=True, stable=True).indices
    left = capacity - slots.offsets.diff(prepend=slots.offsets.new_zeros(1)).long()
    for step in range(n_experts - k):
        if on_host and bool(placed.all()):
            break
        asked = ranking[:, step]
        used = torch.zeros_like(placed[:, 0])
        for j in range(k):
            got = _served(asked, ~placed[:, j] & ~used, left)
            choice[:, j] = torch.where(got, asked, choice[:, j])
            placed[:, j] |= got
            used |= got
            left -= torch.zeros_like(left).scatter_add_(0, asked, got.long())
    return index.index_copy(0, rows, choice), slots.load


@to_next_expert.register_fake
def _(
    index: Tensor, scores: Tensor, capacity: int, order: Tensor | None
) -> tuple[Tensor, Tensor]:
    load = index.new_empty(scores.shape[1], dtype=torch.int32)
    return torch.empty_like(index), load


def _served(asked: Tensor, asking: Tensor, places: Tensor) -> Tensor:
    """Tell which of the rows that ask an expert are among its first places."""
    n_experts = len(places)
    # Rows that do not ask stand behind all experts.
    expert, row = torch.where(asking, asked, n_experts).sort(stable=True)
    each = torch.arange(n_experts + 1, device=asked.device)
    start = torch.searchsorted(expert, each)
    rank = torch.arange(len(asked), device=asked.device) - start[expert]
    room = torch.cat([places, places.new_zeros(1)])[expert]
    return torch.zeros_like(asking).scatter_(0, row, rank < room)
