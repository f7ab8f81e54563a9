"""Experts that are shared out among processes: rows travel to them and back."""

import copy
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, distributed, nn

from skmoe.nn._arguments import positive
from skmoe.nn.parallel._exchange import Trip, arrive, gather, leave, send_back
from skmoe.nn.routing._expert_list import ExpertList
from skmoe.nn.routing._grouped import in_autocast
from skmoe.nn.routing._mlp_experts import MLPExperts

__all__ = ["ExpertParallel", "expert_mesh", "share"]

# Numbers of rows by part, process and expert.
Counts = list[list[list[int]]]


class ExpertParallel(nn.Module):
    """A share of the experts in each process, and the way to the others.

    It takes the place of the experts of a `MoELayer`, with any router: rows that are
    sorted by expert go to the process that holds it by ``all_to_all_single``, and what
    the experts make of them comes back the same way. The numbers are those of all
    experts in one process. Lepikhin, D. et al. (2020). GShard: scaling giant models
    with conditional computation and automatic sharding. arXiv 2006.16668, section 3.

    The experts are exchanged in parts: while one part is at work, the rows of the next
    one and the outputs of the last one travel.

    Gradients are those of the mean of the processes' losses, which is what data
    parallelism makes of all other parameters: an expert's gradient is the sum over the
    processes of the mesh, which all send it rows, divided by their number. Every
    process must run the same passes, one without rows included.

    Parameters
    ----------
    experts : module
        All experts, alike in all processes; this one keeps its share. `MLPExperts`, an
        `ExpertList`, or another module with ``n_experts`` all of whose parameters and
        buffers have an axis of that length in front.
    mesh : DeviceMesh or None, default=None
        Processes that share the experts: a mesh of one dimension, or one with a
        dimension named "expert". None: all processes of the default group, and the
        plain experts where there is no group.
    n_parts : int or None, default=None
        None: two where they divide the experts of a process. More parts hide more of
        what travels, and keep the host busier.

    Attributes
    ----------
    parts : ModuleList
        The experts of this process, in modules of ``len(held[c])`` experts each.
    held : list of list of int
        Numbers of the experts in each part.

    Raises
    ------
    ValueError
        If the processes or the parts do not divide the experts, or the experts cannot
        be shared out.
    """

    def __init__(
        self, experts: nn.Module, mesh: Any = None, n_parts: int | None = None
    ) -> None:
        super().__init__()
        self.n_experts = positive("ExpertParallel", "n_experts", experts.n_experts)
        self.mesh = expert_mesh(experts, mesh)
        n_processes = 1 if self.mesh is None else self.mesh.size()
        if self.n_experts % n_processes:
            raise ValueError(
                f"ExpertParallel: {n_processes} processes cannot share "
                f"{self.n_experts} experts evenly: n_experts must be a multiple of "
                "the size of the mesh's expert dimension."
            )
        n_parts = _parts(self.n_experts // n_processes, n_processes, n_parts)
        place = 0 if n_processes == 1 else self.mesh.get_local_rank()
        numbers = torch.arange(self.n_experts).view(n_parts, n_processes, -1)
        self.shape = tuple(numbers.shape)
        self.held: list[list[int]] = numbers[:, place].tolist()
        self.parts = nn.ModuleList(share(experts, ids) for ids in self.held)
        if hasattr(experts, "n_inputs"):
            self.n_inputs = experts.n_inputs

    def forward(self, rows: Tensor, offsets: Tensor) -> Tensor:
        """Return what each row's expert makes of it, wherever it is.

        Parameters
        ----------
        rows : tensor of shape (n_slots, n_inputs)
            Sorted by expert.
        offsets : tensor of int32 of shape (n_experts,)
            Where each expert's rows end.

        Returns
        -------
        out : tensor of shape (n_slots, n_outputs)
        """
        plain = self.shape[1] == 1
        out: Tensor = (self.parts[0] if plain else self._everywhere)(rows, offsets)
        return out

    # As `torch.compiler.disable`, which would load the compiler at import: a second.
    @torch._disable_dynamo
    def _everywhere(self, rows: Tensor, offsets: Tensor) -> Tensor:
        """Return the same where the experts are in several processes."""
        if isinstance(self.parts[0], MLPExperts):
            (rows,) = in_autocast(rows)  # half as much travels
        ends, sent, received = self._exchanged(offsets)
        n_processes, group = self.shape[1], self.mesh.get_group()
        out_trip = Trip(group, sent, received, len(rows), n_processes)
        home_trip = Trip(group, sent, received, len(rows), 1.0 / n_processes)
        coming = leave(rows, out_trip)
        done = []
        for c, part in enumerate(self.parts):
            here = arrive(coming[c], out_trip, c)
            done.append(send_back(part(here, ends[c]), home_trip, c))
        return gather(done, home_trip)

    def _exchanged(self, offsets: Tensor) -> tuple[tuple[Tensor, ...], Counts, Counts]:
        """Tell all processes how many rows each of their experts gets.

        Parameters
        ----------
        offsets : tensor of int32 of shape (n_experts,)

        Returns
        -------
        ends : tuple of tensors of int32
            Where the rows of the experts of each part end, when all are there.
        sent, received : list of list of list of int
            Rows by part, process and expert, to the others and from them.
        """
        n_parts, n_processes, _ = self.shape
        counts = offsets.diff(prepend=offsets.new_zeros(1)).view(self.shape)
        both = torch.stack([counts.transpose(0, 1)] * 2)
        distributed.all_to_all_single(both[1], both[0], group=self.mesh.get_group())
        ends = both[1].sum(dim=0).cumsum(dim=1, dtype=torch.int32).unbind()
        # The only copy to the host.
        sent, received = (
            [[way[p][c] for p in range(n_processes)] for c in range(n_parts)]
            for way in both.tolist()
        )
        return ends, sent, received

    def extra_repr(self) -> str:
        """Say who holds what."""
        n_parts, n_processes, _ = self.shape
        return (
            f"n_experts={self.n_experts}, n_processes={n_processes}, n_parts={n_parts}"
        )


def expert_mesh(module: nn.Module, mesh: Any) -> Any:
    """Return the mesh of the processes that share experts, None for one alone.

    Raises
    ------
    ValueError
        If a mesh of several dimensions has none that is called "expert".
    """
    if mesh is None:
        if not (distributed.is_available() and distributed.is_initialized()):
            return None
        kind = next(module.parameters()).device.type
        shape = (distributed.get_world_size(),)
        return distributed.init_device_mesh(kind, shape, mesh_dim_names=("expert",))
    names = mesh.mesh_dim_names or ()
    if "expert" in names:
        return mesh["expert"] if mesh.ndim > 1 else mesh
    if mesh.ndim > 1:
        raise ValueError(
            f"ExpertParallel: one dimension of the mesh must be called 'expert', got "
            f"mesh_dim_names={mesh.mesh_dim_names}."
        )
    return mesh


def _parts(n_held: int, n_processes: int, n_parts: int | None) -> int:
    """Return the number of parts in which a process's experts are exchanged."""
    if n_parts is None:
        n_parts = 2 if n_held % 2 == 0 else 1
    elif positive("ExpertParallel", "n_parts", n_parts) and n_held % n_parts:
        raise ValueError(
            f"ExpertParallel: n_parts={n_parts} must divide the {n_held} experts of a "
            "process."
        )
    return n_parts if n_processes > 1 else 1


def share(experts: nn.Module, ids: Sequence[int]) -> nn.Module:
    """Return a module with some of the experts: their parameters are copies.

    Raises
    ------
    ValueError
        If parameters or buffers have no axis of experts in front.
    """
    if isinstance(experts, ExpertList):
        some = ExpertList(experts.experts[e] for e in ids)
        # Data parallelism waits for gradients of all parameters.
        some.calls_idle = True
        return some
    n_experts = experts.n_experts
    tensors: Iterable[tuple[str, Tensor]] = [
        *experts.named_parameters(),
        *experts.named_buffers(),
    ]
    memo: dict[int, Any] = {}
    for name, tensor in tensors:
        if not tensor.ndim or len(tensor) != n_experts:
            raise ValueError(
                f"ExpertParallel: {name} of {type(experts).__name__} has shape "
                f"{tuple(tensor.shape)}: to share out {n_experts} experts, the first "
                "axis of all parameters and buffers must be that of experts; put "
                "other modules in an ExpertList."
            )
        some_rows = tensor.detach()[list(ids)]
        if isinstance(tensor, nn.Parameter):
            some_rows = nn.Parameter(some_rows, tensor.requires_grad)
        memo[id(tensor)] = some_rows
    # The copy takes the shares in place of the tensors, which are never copied whole.
    part = copy.deepcopy(experts, memo)
    part.n_experts = len(ids)  # type: ignore[assignment]
    return part
