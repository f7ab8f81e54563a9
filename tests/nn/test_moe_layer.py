"""The layer: any experts, any router, losses, compilation, export, copies."""

import copy
import pickle
from shutil import which

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from skmoe.nn import (
    DenseRouter,
    ExpertChoiceRouter,
    ExpertList,
    HashRouter,
    MLPExperts,
    MoELayer,
    NoisyTopKRouter,
    SoftRouter,
    SwitchRouter,
    TopKRouter,
    auxiliary_loss,
)
from skmoe.nn._noise import set_generator
from tests.nn.test_routers import ROUTERS, numbers, spread

TRAINED = [name for name in ROUTERS if name not in ("hash", "random")]
EACH = {"importance": 0.5, "switch": 0.2, "deviation": 0.3, "z": 0.1}


@pytest.fixture(autouse=True)
def _same_numbers():
    """Seed torch, which draws the weights."""
    torch.manual_seed(0)


def linear_experts(n_experts, n_inputs=3, n_outputs=2, seed=0):
    torch.manual_seed(seed)
    return [nn.Linear(n_inputs, n_outputs).double() for _ in range(n_experts)]


def layer_of(name, n_experts=4):
    router = ROUTERS[name](3, n_experts)
    if name in TRAINED:
        router = spread(router).double()
    return MoELayer(linear_experts(n_experts), router)


def looped(layer, x):
    """Pool the experts one row at a time."""
    plan = layer.router(x)
    rows = []
    for t, row in enumerate(x.reshape(-1, x.shape[-1])):
        total = 0.0 * layer.experts.experts[0](row)
        for j, e in enumerate(plan.index[t].tolist()):
            if plan.slot[t, j] >= 0:
                total = total + plan.weight[t, j] * layer.experts.experts[e](row)
        rows.append(total)
    return torch.stack(rows)


# -- outputs -----------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in ROUTERS if n not in ("soft", "random")])
def test_equals_a_loop_over_rows_with_its_gradient(name):
    layer, x = layer_of(name).eval(), numbers(15, 3).requires_grad_()
    y, slow = layer(x), looped(layer, x)
    torch.testing.assert_close(y, slow, rtol=1e-12, atol=1e-13)
    parameters = [x, *layer.parameters()]
    ours = torch.autograd.grad(y.sin().sum(), parameters, allow_unused=True)
    theirs = torch.autograd.grad(slow.sin().sum(), parameters, allow_unused=True)
    for one, two in zip(ours, theirs, strict=True):
        nothing = torch.zeros(())
        torch.testing.assert_close(
            nothing if one is None else one,
            nothing if two is None else two,
            rtol=1e-10,
            atol=1e-12,
            check_dtype=False,
        )


def test_soft_layer_equals_its_equations():
    layer, x = layer_of("soft"), numbers(2, 6, 3)
    y = layer(x)
    plan = layer.router(x)
    for b in range(2):
        slots = plan.to_slots[b] @ x[b]
        out = [m(slot) for m, slot in zip(layer.experts.experts, slots, strict=True)]
        expected = plan.to_rows[b] @ torch.stack(out)
        torch.testing.assert_close(y[b], expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("made", [TopKRouter, NoisyTopKRouter])
def test_all_experts_equal_a_dense_mixture(made):
    x, router = numbers(20, 3), spread(made(3, 4, 4)).double().eval()
    experts = linear_experts(4)
    dense = DenseRouter(3, 4).double()
    dense.weight.data = router.weight.data
    y = MoELayer(experts, router)(x)
    torch.testing.assert_close(y, MoELayer(experts, dense)(x), rtol=1e-12, atol=1e-13)
    gates = (x @ router.weight.T).softmax(dim=1)
    plain = torch.einsum("te,eto->to", gates, torch.stack([m(x) for m in experts]))
    torch.testing.assert_close(y, plain, rtol=1e-12, atol=1e-13)


def test_experts_of_one_shape_equal_a_list():
    x, router = numbers(20, 3).float(), spread(TopKRouter(3, 4))
    experts = MLPExperts(4, 3, 5, 2, activation="relu")
    each = []
    for e in range(4):
        first, second = nn.Linear(3, 5), nn.Linear(5, 2)
        first.weight.data, first.bias.data = experts.w1[e].data.T, experts.b1[e].data
        second.weight.data, second.bias.data = experts.w2[e].data.T, experts.b2[e].data
        each.append(nn.Sequential(first, nn.ReLU(), second))
    torch.testing.assert_close(
        MoELayer(experts, router)(x), MoELayer(each, router)(x), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("name", ["top_k", "dense", "expert_choice", "soft", "switch"])
def test_one_expert_is_that_expert(name):
    x = numbers(6, 3)
    made = ROUTERS[name]
    options = {"top_k": {"top_k": 1}, "expert_choice": {"capacity_factor": 1.0}}
    router = made(3, 1, **options.get(name, {}))
    expert = linear_experts(1)
    y = MoELayer(expert, router.double())(x)
    if name == "soft":  # of the weighted mean of the rows
        mean = router(x).to_slots[0] @ x
        torch.testing.assert_close(y, expert[0](mean).expand(6, 2))
    else:
        torch.testing.assert_close(y, expert[0](x))


@pytest.mark.parametrize("name", TRAINED)
def test_gradcheck(name):
    layer, x = layer_of(name), numbers(7, 3).requires_grad_()
    if name in ("switch", "noisy", "margin", "bias"):
        layer.eval()
    names, values = zip(*layer.named_parameters(), strict=True)

    def run(x, *values):
        return torch.func.functional_call(
            layer, dict(zip(names, values, strict=True)), x
        )

    leaves = (x, *(v.detach().clone().requires_grad_() for v in values))
    assert torch.autograd.gradcheck(run, leaves, eps=1e-7, atol=1e-5)


def test_permuted_experts_give_the_same_rows():
    x, router = numbers(30, 3), spread(TopKRouter(3, 5)).double()
    experts = linear_experts(5)
    order = [3, 0, 4, 1, 2]
    other = copy.deepcopy(router)
    other.weight.data = router.weight.data[order]
    y = MoELayer([experts[e] for e in order], other)(x)
    torch.testing.assert_close(y, MoELayer(experts, router)(x), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", ["top_k", "dense", "expert_choice", "soft", "hash"])
def test_permuted_rows_are_permuted_outputs(name):
    layer, x = layer_of(name).eval(), numbers(30, 3)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(layer(x[order]), layer(x)[order], rtol=1e-12, atol=1e-13)


def test_priority_does_not_depend_on_the_order_of_rows():
    x = numbers(30, 3)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    same = {}
    for priority in ("gate", "arrival"):
        router = SwitchRouter(3, 4, capacity_factor=0.6, priority=priority)
        layer = MoELayer(linear_experts(4), spread(router).double())
        same[priority] = torch.allclose(layer(x[order]), layer(x)[order])
    assert same == {"gate": True, "arrival": False}


@pytest.mark.parametrize("name", ROUTERS)
def test_leading_axes(name):
    layer = layer_of(name).eval()
    for shape in [(2, 5, 3), (2, 1, 5, 3), (0, 3), (2, 0, 3)]:
        set_generator(layer, torch.Generator().manual_seed(0))
        x = numbers(*shape)
        y = layer(x)
        assert y.shape == (*shape[:-1], 2)
        if name == "soft" or not x.numel():
            continue
        set_generator(layer, torch.Generator().manual_seed(0))
        assert torch.equal(y.flatten(0, -2), layer(x.flatten(0, -2)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("name", TRAINED)
def test_types(name, dtype):
    layer = MoELayer(MLPExperts(4, 3, 5), ROUTERS[name](3, 4)).to(dtype)
    x = numbers(8, 3).to(dtype).requires_grad_()
    y = layer(x)
    assert y.dtype == dtype
    (y.sum() + auxiliary_loss(layer)).backward()
    assert x.grad.dtype == dtype
    for parameter in layer.parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all()


@pytest.mark.parametrize("name", TRAINED)
def test_autocast(name):
    layer = MoELayer(MLPExperts(4, 3, 5), ROUTERS[name](3, 4))
    x = numbers(8, 3).float()
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
        loss = y.float().square().sum() + auxiliary_loss(layer)
    loss.backward()
    assert {p.grad.dtype for p in layer.parameters() if p.grad is not None} == {
        torch.float32
    }


# -- a mixture of mixtures ---------------------------------------------------------


def test_hierarchy_is_a_product_of_gates():
    x = numbers(20, 3)
    inner = [
        MoELayer(linear_experts(3, seed=e), spread(TopKRouter(3, 3, 3)).double())
        for e in range(2)
    ]
    outer = MoELayer(inner, spread(TopKRouter(3, 2, 2)).double())
    top = (x @ outer.router.weight.T).softmax(dim=1)
    expected = 0.0
    for e, layer in enumerate(inner):
        below = (x @ layer.router.weight.T).softmax(dim=1)
        for i, expert in enumerate(layer.experts.experts):
            expected = expected + (top[:, e] * below[:, i])[:, None] * expert(x)
    torch.testing.assert_close(outer(x), expected, rtol=1e-12, atol=1e-13)
    total = sum(loss for m in (outer, *inner) for loss in m.losses.values())
    assert auxiliary_loss(outer).item() == pytest.approx(total.item(), rel=1e-12)


def test_losses_of_experts_that_see_no_rows_are_forgotten():
    inner = [MoELayer(linear_experts(2), TopKRouter(3, 2, 1)) for _ in range(2)]
    outer = MoELayer(inner, TopKRouter(3, 2, 1, losses={})).double()
    outer.router.weight.data = torch.tensor([[1.0, 0, 0], [-1.0, 0, 0]]).double()
    x = numbers(6, 3)
    for sign in (1.0, -1.0):  # all to one expert, then all to the other
        (outer(sign * x.abs()).sum() + auxiliary_loss(outer)).backward()
        assert [len(m.losses) for m in inner] == ([1, 0] if sign > 0 else [0, 1])
        assert [len(m.statistics) for m in inner] == ([2, 0] if sign > 0 else [0, 2])


# -- losses and statistics ---------------------------------------------------------


def test_auxiliary_loss():
    one = MoELayer(linear_experts(4, 3, 3), TopKRouter(3, 4, losses=EACH))
    two = MoELayer(linear_experts(4, 3, 3), NoisyTopKRouter(3, 4))
    model = nn.Sequential(one, nn.Tanh(), nn.ModuleDict({"deep": two})["deep"]).double()
    assert auxiliary_loss(model).item() == 0.0
    model(numbers(20, 3))
    kept = [*one.losses.values(), *two.losses.values()]
    assert [*one.losses, *two.losses] == [*EACH, "importance", "load"]
    total = auxiliary_loss(model)
    assert total.shape == ()
    assert total.dtype == torch.float64
    assert total.item() == pytest.approx(sum(v.item() for v in kept), rel=1e-14)
    total.backward()
    assert one.router.weight.grad.abs().sum() > 0
    model.eval()(numbers(20, 3))
    assert auxiliary_loss(model).item() == 0.0
    assert auxiliary_loss(nn.Linear(2, 2)).item() == 0.0
    assert auxiliary_loss(nn.Tanh()).item() == 0.0


def test_losses_train_the_router():
    x = numbers(512, 3)
    router = TopKRouter(3, 8, 1, renormalize=False, losses={"switch": 1.0})
    layer = MoELayer(linear_experts(8), router).double()
    with torch.no_grad():
        router.weight[0] += 2.0
    optimiser = torch.optim.Adam([router.weight], 0.05)
    loads = []
    for _ in range(150):
        layer(x)
        optimiser.zero_grad()
        auxiliary_loss(layer).backward()
        optimiser.step()
        loads.append(layer.statistics["load"].max().item() / 64)
    assert loads[0] > 2.5
    assert min(loads[-20:]) < 1.6


def test_statistics():
    layer = layer_of("capacity")
    layer(numbers(40, 3))
    load, kept = layer.statistics["load"], layer.statistics["kept"]
    assert load.sum() == 80
    assert torch.equal(kept, load.clamp(max=14))


@pytest.mark.parametrize("name", ROUTERS)
def test_copies_after_a_training_call(name):
    layer, x = layer_of(name), numbers(8, 3)
    layer(x)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert twin.losses == twin.statistics == {}
        for part in (twin, layer):
            part.eval()
            set_generator(part, torch.Generator().manual_seed(0))
        assert torch.equal(twin(x), layer(x))
    assert layer.state_dict().keys() == twin.state_dict().keys()


# -- compilation and export --------------------------------------------------------


@pytest.fixture
def _fresh():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def routed(name, compiled, backend="aot_eager"):
    """Return outputs, losses, statistics and gradients of one training step."""
    torch.manual_seed(0)
    layer = MoELayer(MLPExperts(4, 3, 5), ROUTERS[name](3, 4))
    if name in TRAINED:
        spread(layer.router)
    if name == "noisy":  # noise of a compiled graph is another
        nn.init.constant_(layer.router.noise_weight, 0.0)
        layer.eval()
    if name == "switch":
        layer.router.jitter = 0.0
    if name in ("top_k", "capacity", "next", "dense"):
        layer.router.loss_weights = dict(EACH)
    run = torch.compile(layer, fullgraph=True, backend=backend) if compiled else layer
    x = numbers(12, 3).float().requires_grad_()
    y = run(x)
    (y.square().sum() + auxiliary_loss(layer)).backward()
    gradients = {n: p.grad for n, p in layer.named_parameters() if p.grad is not None}
    return {
        "y": y,
        "x": x.grad,
        **{f"loss {n}": v for n, v in layer.losses.items()},
        **{f"statistic {n}": v for n, v in layer.statistics.items()},
        **gradients,
        **dict(layer.named_buffers()),
    }


@pytest.mark.usefixtures("_fresh")
@pytest.mark.parametrize("name", [n for n in ROUTERS if n != "random"])
def test_compiled_without_a_break(name):
    torch.testing.assert_close(routed(name, True), routed(name, False))


@pytest.mark.usefixtures("_fresh")
@pytest.mark.slow
@pytest.mark.skipif(which("c++") is None, reason="inductor needs a C++ compiler")
def test_compiled_by_inductor():
    ours = routed("next", True, "inductor")
    torch.testing.assert_close(ours, routed("next", False), rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("_fresh")
@pytest.mark.parametrize("made", [NoisyTopKRouter, SwitchRouter])
def test_noise_of_a_compiled_layer(made):
    options = {"jitter": 0.3} if made is SwitchRouter else {}
    layer = MoELayer(MLPExperts(4, 3, 5), spread(made(3, 4, **options)))
    run = torch.compile(layer, fullgraph=True, backend="aot_eager")
    x = numbers(12, 3).float()
    assert not torch.equal(run(x), run(x))
    assert auxiliary_loss(layer) > 0


@pytest.mark.usefixtures("_fresh")
def test_a_list_of_experts_compiles():
    layer, x = layer_of("capacity"), numbers(12, 3)
    run = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(run(x), layer(x))
    # Another load, experts without rows among them: the same graph.
    x = numbers(1, 3).expand(12, 3).contiguous()
    torch.testing.assert_close(run(x), layer(x))


@pytest.mark.usefixtures("_fresh")
@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize(
    "name", [n for n in ROUTERS if n not in ("random", "expert_choice")]
)
def test_export_with_any_number_of_rows(name, listed):
    experts = [nn.Linear(3, 2) for _ in range(4)] if listed else MLPExperts(4, 3, 5)
    layer = MoELayer(experts, ROUTERS[name](3, 4)).eval()
    rows = torch.export.Dim("rows", min=2)
    x = numbers(8, 3).float()
    program = torch.export.export(layer, (x,), dynamic_shapes=({0: rows},)).module()
    for n_rows in (8, 2, 31):
        x = numbers(n_rows, 3, seed=n_rows).float()
        torch.testing.assert_close(program(x), layer(x))


@pytest.mark.usefixtures("_fresh")
@pytest.mark.parametrize("eval_top_k", [None, 2])
def test_export_of_expert_choice(eval_top_k):
    # Its capacity is of a batch of one size; where rows choose, any size will do.
    router = ExpertChoiceRouter(3, 4, eval_top_k=eval_top_k)
    layer = MoELayer(MLPExperts(4, 3, 5), spread(router)).eval()
    shapes = None if eval_top_k is None else ({0: torch.export.Dim("rows", min=2)},)
    x = numbers(8, 3).float()
    program = torch.export.export(layer, (x,), dynamic_shapes=shapes).module()
    x = numbers(8 if eval_top_k is None else 13, 3, seed=1).float()
    torch.testing.assert_close(program(x), layer(x))


# -- bad input ---------------------------------------------------------------------


def test_numbers_that_do_not_fit():
    with pytest.raises(ValueError, match=r"the router has 5 experts.*have 4"):
        MoELayer(MLPExperts(4, 3, 5), TopKRouter(3, 5))
    with pytest.raises(ValueError, match=r"the router has 2 experts.*have 4"):
        MoELayer(linear_experts(4), HashRouter(3, 2))
    with pytest.raises(ValueError, match=r"n_inputs: the router has 6 col.*have 3"):
        MoELayer(MLPExperts(4, 3, 5), SoftRouter(6, 4))
    layer = MoELayer(MLPExperts(4, 3, 5), TopKRouter(3, 4))
    with pytest.raises(ValueError, match=r"rows of 3 numbers, got .* \(7, 2\)"):
        layer(torch.zeros(7, 2))


def test_experts_of_different_shapes():
    experts = [nn.Linear(3, 2), nn.Linear(3, 2), nn.Linear(3, 4), nn.Linear(3, 2)]
    layer = MoELayer(experts, HashRouter(3, 4, 4))
    message = r"expert 2 made \(6, 4\) of 6 rows, expert 0 made \(6, 2\)"
    with pytest.raises(ValueError, match=message):
        layer(torch.zeros(6, 3))


@pytest.mark.parametrize("axis", [0, 1])
def test_experts_that_do_not_keep_rows(axis):
    class Mean(nn.Module):
        def forward(self, x):
            return x.mean(dim=axis)

    ends = torch.tensor([6], dtype=torch.int32)
    with pytest.raises(ValueError, match=r"one row for each row.*expert 0 made \("):
        ExpertList([Mean()])(torch.zeros(6, 3), ends)


def test_a_single_plain_module():
    with pytest.raises(ValueError, match="got a Linear: give a list of modules"):
        MoELayer(nn.Linear(3, 3), TopKRouter(3, 4))


def test_no_experts():
    with pytest.raises(ValueError, match="at least one expert, got none"):
        ExpertList([])


@pytest.mark.parametrize("name", [n for n in TRAINED if n != "random"])
def test_passes_that_run_again_in_the_backward_pass(name):
    layer, x = layer_of(name), numbers(40, 3).requires_grad_()
    layer.router.load_state_dict(spread(layer.router).state_dict())
    twin = copy.deepcopy(layer)

    def gradients(model, call):
        found = []
        for _ in range(3):  # the bias moves, and so do totals
            torch.manual_seed(1)
            loss = call(x).square().sum() + auxiliary_loss(model)
            found += torch.autograd.grad(loss, [x, *model.parameters()])
        return found

    wanted = gradients(layer, layer)
    found = gradients(twin, lambda x: checkpoint(twin, x, use_reentrant=False))
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)
    torch.testing.assert_close(twin.state_dict(), layer.state_dict(), rtol=0, atol=0)
