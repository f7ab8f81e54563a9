"""Experts of any kind: each module sees the rows of its own, in one batch."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from skmoe.nn.routing._routed_module import forget

__all__ = ["ExpertList"]


class ExpertList(nn.Module):
    """Modules as experts, each on the contiguous rows that were sent to it.

    An expert may be any module that turns (n, n_inputs) into (n, n_outputs), another
    mixture included. Experts without rows are not called, and have no gradient:
    `torch.nn.parallel.DistributedDataParallel`, which waits for all gradients, wants
    ``calls_idle = True``.

    Parameters
    ----------
    experts : iterable of modules

    Raises
    ------
    ValueError
        If there is none or one is no module, or if their outputs differ in shape.
    """

    # Whether experts without rows are called on none: they have gradients then.
    calls_idle = False

    def __init__(self, experts: Iterable[nn.Module]) -> None:
        super().__init__()
        experts = list(experts)
        for expert in experts:
            if not isinstance(expert, nn.Module):
                raise ValueError(
                    f"experts must be modules, got a {type(expert).__name__}: wrap it "
                    "in a torch.nn.Module."
                )
        self.experts = nn.ModuleList(experts)
        self.n_experts = len(self.experts)
        if not self.n_experts:
            raise ValueError("ExpertList needs at least one expert, got none.")

    def forward(self, rows: Tensor, offsets: Tensor) -> Tensor:
        """Return outputs of shape (n_slots, n_outputs), zero behind the last offset.

        Parameters
        ----------
        rows : tensor of shape (n_slots, n_inputs)
            Sorted by expert.
        offsets : tensor of int32 of shape (n_experts,)
            Where the rows of each expert end.
        """
        if torch.compiler.is_compiling():
            return self._of_all(rows, offsets)
        ends = offsets.tolist()
        starts = [0, *ends[:-1]]
        outputs: dict[int, Tensor] = {}
        for e, (start, end) in enumerate(zip(starts, ends, strict=True)):
            if end > start or self.calls_idle:
                outputs[e] = self.experts[e](rows[start:end])
                _check(e, outputs, end - start)
            else:  # what it kept is of another batch
                forget(self.experts[e])
        if not outputs:  # no rows at all: the shape is that of any expert
            nothing: Tensor = self.experts[0](rows[:0])
            return nothing
        joined = torch.cat(list(outputs.values()))
        tail = len(rows) - len(joined)
        if tail:
            joined = torch.cat([joined, joined.new_zeros(tail, *joined.shape[1:])])
        return joined

    def _of_all(self, rows: Tensor, offsets: Tensor) -> Tensor:
        """Call all experts: a graph is the same whoever has rows."""
        ends = offsets.diff(prepend=offsets.new_zeros(1)).tolist()
        tail = rows.shape[0] - sum(ends)
        torch._check(tail >= 0)  # type: ignore[no-untyped-call]
        *parts, rest = torch.split(rows, [*ends, tail])
        outputs = [m(part) for m, part in zip(self.experts, parts, strict=True)]
        last = rest.new_zeros(tail, *outputs[0].shape[1:])
        return torch.cat([*outputs, last])


def _check(e: int, outputs: dict[int, Tensor], n_rows: int) -> None:
    """Raise a ValueError if an output is not as long and wide as the first."""
    first, out = next(iter(outputs.items())), outputs[e]
    if out.ndim != 2 or len(out) != n_rows or out.shape[1:] != first[1].shape[1:]:
        raise ValueError(
            f"experts must return one row for each row, and all the same number of "
            f"columns: expert {e} made {tuple(out.shape)} of {n_rows} rows, expert "
            f"{first[0]} made {tuple(first[1].shape)}."
        )
