"""Experts in several processes: the numbers and gradients of a single one."""

import copy
import multiprocessing
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.testing import assert_close

from skmoe.nn._deep_mixture import HiddenGate
from skmoe.nn.parallel._exchange import Trip, summed, turned, turned_back
from skmoe.nn.parallel._expert_parallel import ExpertParallel, share
from skmoe.nn.parallel._expert_shards import (
    full_state_dict,
    load_full_state_dict,
    shard_experts,
)
from skmoe.nn.routing._dense_router import DenseRouter
from skmoe.nn.routing._expert_choice import ExpertChoiceRouter
from skmoe.nn.routing._expert_list import ExpertList
from skmoe.nn.routing._mlp_experts import MLPExperts
from skmoe.nn.routing._moe_layer import MoELayer
from skmoe.nn.routing._noisy_router import NoisyTopKRouter
from skmoe.nn.routing._routed_module import auxiliary_loss
from skmoe.nn.routing._router_losses import cv_squared, smooth_load
from skmoe.nn.routing._soft_router import SoftRouter
from skmoe.nn.routing._top_k_router import SwitchRouter, TopKRouter

N_PROCESSES, N_INPUTS, N_EXPERTS = 4, 5, 8
MESHES = [(1, 4), (2, 2), (4, 1)]
LOSSES = {"switch": 0.3, "importance": 0.2, "deviation": 0.1, "z": 0.05}
# One process has no rows.
ROWS = {"flat": [9, 0, 14, 6], "full": [9, 4, 14, 6], "groups": [(2, 6)] * 4}


def mlp():
    return MLPExperts(N_EXPERTS, N_INPUTS, 6, activation="swiglu")


def modules():
    mixed = [nn.Linear(N_INPUTS, 3), nn.Sequential(nn.Linear(N_INPUTS, 3), nn.Tanh())]
    return ExpertList(copy.deepcopy(mixed[e % 2]) for e in range(N_EXPERTS))


def gate(n_inputs, n_experts):
    return HiddenGate(n_inputs, 3, TopKRouter(3, n_experts, losses=LOSSES))


# name: experts, router, rows of each process
CASES = {
    "top-k": (mlp, partial(TopKRouter, losses=LOSSES), "flat"),
    "top-k of modules": (modules, partial(TopKRouter, losses=LOSSES), "flat"),
    "bias": (mlp, partial(TopKRouter, bias_rate=0.1, scores="sigmoid"), "flat"),
    "capacity": (mlp, partial(SwitchRouter, capacity_factor=0.6), "flat"),
    "expert choice": (modules, ExpertChoiceRouter, "full"),
    "dense": (mlp, partial(DenseRouter, margin=0.1, losses=LOSSES), "flat"),
    "gate": (mlp, gate, "flat"),
    "soft": (mlp, partial(SoftRouter, slots_per_expert=2), "groups"),
}


def made(name, seed=0):
    """Return a small model, and the rows of each process."""
    experts, router, rows = CASES[name]
    torch.manual_seed(seed)
    layer = MoELayer(experts(), router(N_INPUTS, N_EXPERTS))
    model = nn.Sequential(nn.Linear(N_INPUTS, N_INPUTS), layer).double()
    shapes = [n if isinstance(n, tuple) else (n,) for n in ROWS[rows]]
    return model, [torch.randn(*s, N_INPUTS, dtype=torch.float64) for s in shapes]


def step(model):
    """Move by the gradient: what a model then is, is what its gradient was."""
    with torch.no_grad():
        for param in model.parameters():
            if param.grad is not None:
                param -= param.grad


def in_processes(name, shape):
    """Return what one step makes of a model in a mesh of processes."""
    model, batches = made(name)
    before = copy.deepcopy(model.state_dict())
    mesh = init_device_mesh("cpu", shape, mesh_dim_names=("data", "expert"))
    assert shard_experts(model, mesh) is model
    for part in model[1].experts.parts:
        fully_shard(part, mesh=mesh["data"])
    fully_shard(model, mesh=init_device_mesh("cpu", (N_PROCESSES,)))
    x = batches[distributed.get_rank()].requires_grad_()
    y = model(x)
    loss = auxiliary_loss(model)
    (y.square().sum() + loss).backward()
    step(model)
    after = full_state_dict(model)
    load_full_state_dict(model, before)
    again = full_state_dict(model)
    assert bool(after) == (mesh["expert"].get_local_rank() == 0)
    found = {"y": y.detach(), "x": x.grad, "loss": loss.detach()}
    return {**found, "after": after, "again": again}


def alone(name):
    """Return the same of one process."""
    model, batches = made(name)
    batches = [x.requires_grad_() for x in batches]
    router = model[1].router
    buffers = {name: value.clone() for name, value in router.named_buffers()}

    def called(x):
        for name, value in buffers.items():
            setattr(router, name, value.clone())
        return model(x)

    # Places, and rows that experts choose, are those of a process.
    y = [called(x) for x in batches]
    if all(x.ndim == 2 for x in batches):
        called(torch.cat(batches))
    loss = auxiliary_loss(model)
    (sum(each.square().sum() for each in y) / N_PROCESSES + loss).backward()
    step(model)
    found = {"y": y, "x": [x.grad * N_PROCESSES for x in batches]}
    return {**found, "loss": loss.detach(), "after": model.state_dict()}


def noisy_loss():
    """Return the load loss of rows whose noise is that of their process."""
    router, batches = noisy_router()
    rank = distributed.get_rank()
    router.mesh = init_device_mesh("cpu", (2, 2))
    router.generator = torch.Generator().manual_seed(rank)
    loss = router(batches[rank]).losses["load"]
    loss.backward()
    return {"loss": loss.detach(), "grad": summed(router.weight.grad, router.mesh) / 4}


def noisy_router():
    torch.manual_seed(0)
    router = NoisyTopKRouter(N_INPUTS, N_EXPERTS, losses={"load": 1.0}).double()
    nn.init.normal_(router.weight)
    batches = [torch.randn(n, N_INPUTS, dtype=torch.float64) for n in ROWS["flat"]]
    return router, batches


def in_autocast():
    """Return what a layer makes of rows in bfloat16; one without biases."""
    layer, x = bfloat16_layer()
    shard_experts(layer)
    with torch.autocast("cpu", torch.bfloat16):
        return layer(x[distributed.get_rank()]).detach()


def bfloat16_layer():
    torch.manual_seed(0)
    experts = MLPExperts(N_EXPERTS, N_INPUTS, 6, bias=False)
    layer = MoELayer(experts, TopKRouter(N_INPUTS, N_EXPERTS)).eval()
    return layer, torch.randn(N_PROCESSES, 10, N_INPUTS)


def refused():
    """Return what is said of 4 processes where it does not work."""
    square = init_device_mesh("cpu", (2, 2))
    calls = [
        lambda: ExpertParallel(MLPExperts(6, 2, 2)),
        lambda: ExpertParallel(MLPExperts(8, 2, 2), n_parts=4),
        lambda: ExpertParallel(MLPExperts(8, 2, 2), square),
    ]
    said = []
    for call in calls:
        try:
            said.append(repr(call()))
        except ValueError as error:
            said.append(str(error))
    return said


def worker(rank, folder):
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=N_PROCESSES
    )
    found = {"refused": refused(), "noisy": noisy_loss(), "low": in_autocast()}
    for name in CASES:
        for shape in MESHES:
            found[name, shape] = in_processes(name, shape)
    torch.save(found, folder / f"{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    """Return what each of four processes found: they are started once."""
    folder = tmp_path_factory.mktemp("processes")
    multiprocessing.set_forkserver_preload([__name__])
    torch.multiprocessing.start_processes(
        worker, (folder,), N_PROCESSES, start_method="forkserver"
    )
    return [torch.load(folder / f"{rank}.pt") for rank in range(N_PROCESSES)]


@pytest.mark.parametrize("shape", MESHES, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_processes_do_what_one_does(processes, name, shape):
    wanted, close = alone(name), partial(assert_close, rtol=1e-12, atol=1e-12)
    for rank, process in enumerate(processes):
        found = process[name, shape]
        close(found["y"], wanted["y"][rank])
        close(found["x"], wanted["x"][rank])
        close(found["loss"], wanted["loss"])
    # Each of the processes that hold an expert has the same.
    firsts = [p[name, shape] for p in processes if p[name, shape]["after"]]
    assert len(firsts) == shape[0]
    for found in firsts:
        close(found["after"], dict(wanted["after"]))
        close(found["again"], dict(made(name)[0].state_dict()))


def test_the_load_is_that_of_all_rows(processes):
    router, batches = noisy_router()
    loads = []
    for rank, x in enumerate(batches):
        clean = x @ router.weight.T
        scale = nn.functional.softplus(x @ router.noise_weight.T) + 1e-2
        draws = torch.empty_like(clean, requires_grad=False)
        draws.normal_(generator=torch.Generator().manual_seed(rank))
        loads.append(smooth_load(clean, clean + scale * draws, scale, router.top_k))
    loss = cv_squared(sum(loads))
    loss.backward()
    for process in processes:
        assert_close(process["noisy"]["loss"], loss.detach())
        assert_close(process["noisy"]["grad"], router.weight.grad)


def test_autocast_reaches_the_experts(processes):
    layer, x = bfloat16_layer()
    for rank, process in enumerate(processes):
        with torch.autocast("cpu", torch.bfloat16):
            wanted = layer(x[rank]).detach()
        assert process["low"].dtype == wanted.dtype
        assert_close(process["low"], wanted, rtol=1e-2, atol=1e-3)


def test_what_cannot_be_shared_is_refused(processes):
    for process in processes:
        uneven, parts, mesh = process["refused"]
        assert "4 processes cannot share 6 experts evenly: n_experts must be" in uneven
        assert "n_parts=4 must divide the 2 experts of a process" in parts
        assert "one dimension of the mesh must be called 'expert', got" in mesh


@pytest.mark.parametrize("name", CASES)
def test_one_process_has_the_plain_experts(name):
    model, batches = made(name)
    plain = copy.deepcopy(model)
    shard_experts(model)
    y, wanted = model(batches[0]), plain(batches[0])
    assert torch.equal(y, wanted)
    assert model[1].experts.held == [list(range(N_EXPERTS))]
    state = full_state_dict(model)
    assert_close(state, dict(plain.state_dict()), rtol=0, atol=0)
    other, _ = made(name, seed=1)
    load_full_state_dict(model, other.state_dict())
    assert_close(full_state_dict(model), dict(other.state_dict()), rtol=0, atol=0)


def test_a_share_has_the_tensors_of_its_experts():
    experts = MLPExperts(6, 2, 3, bias=False)
    experts.w1.requires_grad_(False)
    part = share(experts, [4, 1])
    assert (part.n_experts, experts.n_experts) == (2, 6)
    assert torch.equal(part.w1, experts.w1[[4, 1]])
    assert not part.w1.requires_grad
    assert part.w2.requires_grad
    assert part.b1 is None
    with torch.no_grad():
        part.w2.zero_()
    assert experts.w2.all()


def test_parameters_without_an_axis_of_experts_are_refused():
    experts = MLPExperts(6, 2, 3)
    experts.scale = nn.Parameter(torch.ones(()))
    with pytest.raises(ValueError, match=r"scale of MLPExperts has shape .*ExpertList"):
        ExpertParallel(experts)


def test_a_state_without_an_expert_is_refused():
    layer = shard_experts(MoELayer(mlp(), TopKRouter(N_INPUTS, N_EXPERTS)))
    state = full_state_dict(layer)
    del state["experts.w2"]
    with pytest.raises(KeyError, match=r"experts\.w2"):
        load_full_state_dict(layer, state)


def test_a_model_without_mixtures_is_refused():
    with pytest.raises(ValueError, match="Linear has no MoELayer, so there are no"):
        shard_experts(nn.Linear(2, 2))


def test_mixtures_inside_experts_stay_whole():
    inner = [MoELayer(MLPExperts(3, 4, 4), TopKRouter(4, 3)) for _ in range(2)]
    model = shard_experts(MoELayer(inner, TopKRouter(4, 2)))
    kinds = [type(m) for m in model.modules()]
    assert kinds.count(ExpertParallel) == 1
    assert kinds.count(MLPExperts) == 2
    assert model(torch.randn(6, 4)).shape == (6, 4)


def test_experts_without_rows_get_a_gradient_where_asked():
    experts = ExpertList([nn.Linear(2, 2), nn.Linear(2, 2)])
    offsets = torch.tensor([3, 3])
    for idle in (False, True):
        experts.calls_idle = idle
        out = experts(torch.randn(4, 2), offsets)
        assert out.shape == (4, 2)
        out.sum().backward()
        assert (experts.experts[1].weight.grad is not None) == idle


def test_rows_behind_the_last_are_zero_on_their_return():
    trip = Trip(None, [[[2]], [[1]]], [[[2]], [[1]]], 5, 1.0)
    trip.whole = torch.ones(5, 2)
    assert [(p.start, p.stop) for p in trip.places] == [(0, 2), (2, 3)]
    assert trip.gather().sum(dim=1).tolist() == [2, 2, 2, 0, 0]


def test_blocks_of_rows_are_turned_and_back():
    rows = torch.arange(6.0)[:, None]
    sizes = [[1, 2], [0, 1], [2, 0]]
    there = turned(rows, sizes)
    assert there.flatten().tolist() == [0, 4, 5, 1, 2, 3]
    assert torch.equal(turned_back(there, sizes), rows)
    assert torch.equal(turned(rows, [[6, 0]]), rows)


def test_the_example_runs_under_torchrun():
    script = Path(__file__).parents[2] / "examples" / "expert_parallel.py"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", str(script), "--steps", "3"]
    done = subprocess.run(
        command, env=environment, check=True, capture_output=True, text=True
    )
    assert "2 processes" in done.stdout
