"""The fast ways through a layer give the numbers of the plain ones."""

import sys
from types import SimpleNamespace

import pytest
import torch

from skmoe.nn import (
    ExpertChoiceRouter,
    FastFeedforward,
    MLPExperts,
    MoELayer,
    NoisyTopKRouter,
    SwitchRouter,
    TopKRouter,
    auxiliary_loss,
)
from skmoe.nn.routing import _mlp_experts as experts_module
from skmoe.nn.routing import _top_k_router as router_module
from skmoe.nn.routing._largest import largest
from skmoe.nn.routing._routing_plan import RoutingPlan
from skmoe.nn.upcycling._moefy import DroppingExperts

LOSSES = {"switch": 0.3, "z": 0.2, "deviation": 0.1, "importance": 0.4}


def routed(logits, k, kind):
    """Stand in for the kernel: the same four results by torch."""
    weight, index = logits.softmax(dim=1).topk(k, dim=1)
    if kind == "renormalised":
        weight = logits.gather(1, index).softmax(dim=1)
    return weight, index, logits.logsumexp(dim=1), logits.softmax(dim=1).sum(dim=0)


def results(layer, x):
    y = layer(x)
    loss = y.square().sum() + auxiliary_loss(layer)
    leaves = [x, *layer.parameters()]
    # The weights of the noise are not used without noise.
    found = torch.autograd.grad(loss, leaves, materialize_grads=True)
    return [y, auxiliary_loss(layer), *found]


@pytest.mark.parametrize("top_k", [1, 2])
@pytest.mark.parametrize("renormalize", [True, False])
@pytest.mark.parametrize("capacity_factor", [None, 0.5])
def test_one_pass_over_the_logits_changes_nothing(
    monkeypatch, top_k, renormalize, capacity_factor
):
    torch.manual_seed(0)
    router = TopKRouter(
        6,
        8,
        top_k,
        renormalize=renormalize,
        capacity_factor=capacity_factor,
        losses=LOSSES,
    )
    layer = MoELayer(MLPExperts(8, 6, 16, 3), router)
    x = torch.randn(50, 6, requires_grad=True)
    plain = results(layer, x)
    kernel = SimpleNamespace(routed=routed)
    monkeypatch.setitem(sys.modules, "skmoe.nn.kernels._route_kernel", kernel)
    monkeypatch.setattr(router_module, "with_kernels", lambda tensor: True)
    assert router._in_one_pass(x)
    for fast, slow in zip(results(layer, x), plain, strict=True):
        torch.testing.assert_close(fast, slow, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"scores": "sigmoid"},
        {"bias_rate": 0.1},
        {"top_k": 3},
        {"capacity_factor": 1.0, "overflow": "next"},
        {"capacity_factor": 1.0, "priority": "gate"},
    ],
)
def test_what_the_kernel_cannot_do_goes_the_plain_way(monkeypatch, options):
    monkeypatch.setattr(router_module, "with_kernels", lambda tensor: True)
    assert not TopKRouter(6, 8, **options)._in_one_pass(torch.randn(5, 8))


@pytest.mark.parametrize("top_k", [1, 2])
@pytest.mark.parametrize("capacity_factor", [None, 0.5])
@pytest.mark.parametrize("bias", [True, False])
def test_experts_in_one_operation_change_nothing(
    monkeypatch, top_k, capacity_factor, bias
):
    torch.manual_seed(0)
    router = TopKRouter(6, 8, top_k, capacity_factor=capacity_factor)
    layer = MoELayer(MLPExperts(8, 6, 16, 3, bias=bias), router)
    x = torch.randn(4, 25, 6, requires_grad=True)
    plain = results(layer, x)
    monkeypatch.setattr(experts_module, "with_kernels", lambda tensor: True)
    assert layer.experts.fuses(x, router(x))
    for fast, slow in zip(results(layer, x), plain, strict=True):
        torch.testing.assert_close(fast, slow, rtol=1e-4, atol=2e-5)


def test_what_one_operation_cannot_do_goes_the_plain_way(monkeypatch):
    monkeypatch.setattr(experts_module, "with_kernels", lambda tensor: True)
    x = torch.randn(50, 6)
    plan = TopKRouter(6, 8)(x)
    assert not MLPExperts(8, 6, 16, activation="swiglu").fuses(x, plan)
    assert not MLPExperts(8, 6, 1000).fuses(x, plan)
    assert not MLPExperts(8, 6, 16).fuses(x.bfloat16(), plan)
    assert not MLPExperts(8, 6, 16).double().fuses(x, plan)
    assert not MLPExperts(8, 3, 16).fuses(x, plan)
    # Dropout and hooks are of `forward`.
    assert not DroppingExperts(0.5, 8, 6, 16).fuses(x, plan)
    hooked = MLPExperts(8, 6, 16)
    handle = hooked.register_forward_pre_hook(lambda module, rows: None)
    assert not hooked.fuses(x, plan)
    handle.remove()
    assert hooked.fuses(x, plan)
    # Its choices are many more than its slots.
    assert not MLPExperts(8, 6, 16).fuses(x, ExpertChoiceRouter(6, 8)(x))


def test_a_plan_made_by_hand_may_drop_rows():
    sent = TopKRouter(6, 8, 1, capacity_factor=0.5)(x := torch.randn(50, 6))
    parts = sent.index, sent.weight, sent.slot, sent.source, sent.offsets, sent.load
    out = MLPExperts(8, 6, 16).fused(x, RoutingPlan(*parts))
    assert (sent.slot < 0).any()
    assert (out[sent.slot[:, 0] < 0] == 0.0).all()


@pytest.mark.parametrize(
    "layer", [MoELayer(MLPExperts(4, 6, 8), TopKRouter(6, 4)), FastFeedforward(6, 3)]
)
def test_forward_mode_is_refused(layer):
    x = torch.randn(5, 6)
    with pytest.raises(NotImplementedError, match="no forward-mode derivatives"):
        torch.func.jvp(layer.eval(), (x,), (x,))


def test_layer_on_the_meta_device_has_shapes():
    layer = MoELayer(MLPExperts(4, 6, 8, 3), TopKRouter(6, 4)).to("meta")
    assert layer(torch.empty(5, 6, device="meta")).shape == (5, 3)


def test_experts_that_are_ruled_out_come_last_and_once():
    scores = torch.tensor([[-torch.inf, 2.0, -torch.inf, -torch.inf]])
    assert sorted(largest(scores, 4)[0].tolist()) == [0, 1, 2, 3]


def test_what_is_no_router_no_expert_no_mapping():
    with pytest.raises(ValueError, match="router must be a module that makes a plan"):
        MoELayer(MLPExperts(4, 6, 8), "topk")
    with pytest.raises(ValueError, match="experts must be modules, got a function"):
        MoELayer([lambda x: x] * 4, TopKRouter(6, 4))
    with pytest.raises(ValueError, match="losses must map names to weights"):
        TopKRouter(6, 4, losses=["z"])


ROUTERS = {
    "topk": lambda d, n: TopKRouter(d, n, losses=LOSSES),
    "top1": lambda d, n: TopKRouter(d, n, 1, renormalize=False, losses=LOSSES),
    "switch": lambda d, n: SwitchRouter(d, n, losses=LOSSES),
    "next": lambda d, n: TopKRouter(d, n, capacity_factor=1.0, overflow="next"),
    "gate": lambda d, n: TopKRouter(d, n, capacity_factor=0.5, priority="gate"),
    "noisy": lambda d, n: NoisyTopKRouter(d, n).eval(),
    "choice": ExpertChoiceRouter,
}


@pytest.mark.gpu
@pytest.mark.parametrize("name", ROUTERS)
@pytest.mark.parametrize(("n_inputs", "n_hidden"), [(20, 32), (24, 300), (64, 128)])
def test_layer_on_a_device_is_that_of_the_host(name, n_inputs, n_hidden):
    torch.manual_seed(0)
    layer = MoELayer(MLPExperts(8, n_inputs, n_hidden), ROUTERS[name](n_inputs, 8))
    x = torch.randn(700, n_inputs)
    here = results(layer.double(), x.double().requires_grad_())
    there = results(layer.float().cuda(), x.cuda().requires_grad_())
    again = results(layer, x.cuda().requires_grad_())
    for device, host, twice in zip(there, here, again, strict=True):
        error = (device.double().cpu() - host).norm()
        assert error <= 1e-4 * host.norm() + 1e-7
        assert torch.equal(device, twice)


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
@pytest.mark.parametrize("n_hidden", [64, 320])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_device_that_is_not_the_current_one(dtype, n_hidden):
    torch.manual_seed(0)
    layer = MoELayer(MLPExperts(8, 64, n_hidden), ROUTERS["switch"](64, 8))
    x = torch.randn(700, 64, dtype=dtype)
    first, second = (
        results(layer.to(device, dtype), x.to(device).requires_grad_())
        for device in ("cuda:0", "cuda:1")
    )
    assert torch.cuda.current_device() == 0
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one.cpu(), other.cpu())


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["topk", "top1", "switch"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_step_waits_for_nothing(name, dtype):
    layer = MoELayer(MLPExperts(8, 64, 64), ROUTERS[name](64, 8)).to("cuda", dtype)
    x = torch.randn(700, 64, device="cuda", dtype=dtype, requires_grad=True)
    stream = torch.cuda.Stream()  # the layer keeps its losses, and their stream
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        results(layer, x)
    graph = torch.cuda.CUDAGraph()
    # A capture refuses whatever waits for the device.
    with torch.cuda.graph(graph, stream=stream):
        results(layer, x)
    graph.replay()
    torch.cuda.synchronize()


# Remarks of the compiler on what might be faster.
@pytest.mark.filterwarnings(r"ignore:\s*Online softmax is disabled:UserWarning")
@pytest.mark.filterwarnings("ignore:TensorFloat32 tensor cores:UserWarning")
@pytest.mark.gpu
@pytest.mark.parametrize("name", ["topk", "switch", "noisy"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_compiled_layer_on_a_device(name, dtype):
    torch.manual_seed(0)
    layer = MoELayer(MLPExperts(8, 64, 64), ROUTERS[name](64, 8)).to("cuda", dtype)
    x = torch.randn(700, 64, device="cuda", dtype=dtype)
    compiled = torch.compile(layer, fullgraph=True)
    torch.testing.assert_close(compiled(x), layer(x), rtol=2e-2, atol=2e-2)
