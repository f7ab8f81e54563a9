"""Whole models whose experts are shared out among processes, and their states."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

from torch import Tensor, distributed, nn

from skmoe.nn.parallel._expert_parallel import ExpertParallel
from skmoe.nn.routing._expert_list import ExpertList
from skmoe.nn.routing._moe_layer import MoELayer
from skmoe.nn.routing._router import Router

__all__ = ["full_state_dict", "load_full_state_dict", "shard_experts"]


def shard_experts(
    model: nn.Module, mesh: Any = None, n_parts: int | None = None
) -> nn.Module:
    """Share out the experts of all mixture layers of a model among processes.

    In place, behind `init_process_group` and in front of the optimiser: each process
    keeps its share, see `ExpertParallel`. The rows of all processes count as one batch
    for the losses that balance a router ("importance", "load", "switch", "deviation"
    and, of top-k routers, "z"), for its bias and for running totals; all processes
    have the same losses, and data parallelism is right to average their gradients.
    Places under a capacity, and the rows that experts choose, are those of a process.
    Mixtures inside experts stay as they are.

    With data parallelism, rows differ in all processes of a mesh with dimensions
    "data" and "expert", and torch's own ``fully_shard`` averages gradients, of experts
    over the processes that hold the same ones::

        mesh = init_device_mesh("cuda", (2, 4), mesh_dim_names=("data", "expert"))
        shard_experts(model, mesh)
        for module in model.modules():
            if isinstance(module, ExpertParallel):
                for part in module.parts:
                    fully_shard(part, mesh=mesh["data"])
        fully_shard(model, mesh=init_device_mesh("cuda", (8,)))

    in a script that ``torchrun --nproc-per-node 8 train.py`` starts.

    Parameters
    ----------
    model : module
        Alike in all processes: drawn from one seed, or loaded.
    mesh : DeviceMesh or None, default=None
        Of one dimension, or with one that is called "expert". None: all processes,
        or this one alone where there is no group.
    n_parts : int or None, default=None

    Returns
    -------
    model : module
        The model given.

    Raises
    ------
    ValueError
        If the model has no mixture layer, or its experts cannot be shared out.
    """
    layers = list(_outermost(model))
    if not layers:
        raise ValueError(
            f"shard_experts: {type(model).__name__} has no MoELayer, so there are no "
            "experts to share out."
        )
    for layer in layers:
        layer.experts = ExpertParallel(layer.experts, mesh, n_parts)
        mesh = layer.experts.mesh if mesh is None else mesh
        # The router, and any that it is built round.
        for part in layer.router.modules():
            if isinstance(part, Router):
                part.mesh = mesh
    return model


def _outermost(module: nn.Module) -> Iterator[MoELayer]:
    if isinstance(module, MoELayer):
        yield module
        return
    for child in module.children():
        yield from _outermost(child)


def full_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """Return the state of a model as it was before its experts were shared out.

    All processes must call it.

    Parameters
    ----------
    model : module
        That `shard_experts` has changed, in ``fully_shard`` or not; of
        `DistributedDataParallel` its ``module``.

    Returns
    -------
    state : dict
        Copies on the CPU, in the first of the processes that share experts; empty in
        the others.
    """
    from torch.distributed.checkpoint.state_dict import get_model_state_dict

    state = {name: _whole(value) for name, value in get_model_state_dict(model).items()}
    is_first = True
    for prefix, module in _shared_out(model):
        for c in range(len(module.parts)):
            homes = list(_homes(prefix, module, c, state))
            mine = [(name, ids, state.pop(key).cpu()) for key, name, ids in homes]
            everyones = _of_all(mine, module.mesh)
            is_first = is_first and bool(everyones)
            for name, ids, value in chain.from_iterable(everyones):
                if ids is None:
                    state[name] = value
                    continue
                shape = (module.n_experts, *value.shape[1:])
                state.setdefault(name, value.new_empty(shape))[ids] = value
    if not is_first:
        return {}
    return {name: value.to("cpu", copy=True) for name, value in state.items()}


def load_full_state_dict(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load the state of a whole model: each process takes the experts that it holds.

    All processes must call it.

    Parameters
    ----------
    model : module
        That `shard_experts` has changed, as for `full_state_dict`.
    state : mapping of str to tensor
        From `full_state_dict`, or of the model before its experts were shared out;
        in all processes, such as ``torch.load(path, mmap=True)``.

    Raises
    ------
    KeyError
        If the state has no tensor of an expert.
    RuntimeError
        If other names or shapes do not fit.
    """
    from torch.distributed.checkpoint.state_dict import (
        StateDictOptions,
        get_model_state_dict,
        set_model_state_dict,
    )

    known = get_model_state_dict(model)
    mine: dict[str, Any] = dict(state)
    for prefix, module in _shared_out(model):
        mine = {key: mine[key] for key in mine if not key.startswith(prefix)}
        for c in range(len(module.parts)):
            for key, name, ids in _homes(prefix, module, c, known):
                mine[key] = state[name] if ids is None else state[name][ids]
    # Alone, it would ask for a group.
    options = StateDictOptions(full_state_dict=distributed.is_initialized())
    set_model_state_dict(model, mine, options=options)


def _shared_out(model: nn.Module) -> Iterator[tuple[str, ExpertParallel]]:
    """Yield the modules whose experts are shared out, and the start of their names."""
    for name, module in model.named_modules():
        if isinstance(module, ExpertParallel):
            yield f"{name}." if name else "", module


def _homes(
    prefix: str, module: ExpertParallel, c: int, names: Iterable[str]
) -> Iterator[tuple[str, str, list[int] | None]]:
    """Yield the tensors of a part: name here, name in the whole model, and rows there.

    The rows are None where the tensor is that of one expert.
    """
    start, ids = f"{prefix}parts.{c}.", module.held[c]
    for key in names:
        if not key.startswith(start):
            continue
        rest = key.removeprefix(start)
        if isinstance(module.parts[c], ExpertList):
            _, number, name = rest.split(".", 2)
            yield key, f"{prefix}experts.{ids[int(number)]}.{name}", None
        else:
            yield key, prefix + rest, ids


def _of_all(mine: Any, mesh: Any) -> list[Any]:
    """Return what all processes of a mesh have to the first, nothing to the others."""
    if mesh is None:
        return [mine]
    first = mesh.get_local_rank() == 0
    everyones = [None] * mesh.size() if first else None
    distributed.gather_object(mine, everyones, group=mesh.get_group(), group_dst=0)
    return everyones or []


def _whole(value: Any) -> Any:
    """Return a tensor whose parts `fully_shard` has shared out."""
    whole = getattr(value, "full_tensor", None)
    return value if whole is None else whole()
