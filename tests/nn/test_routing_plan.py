"""Plans: maps, dropped choices and gradients, whatever made them."""

import numpy as np
import pytest
import torch

from skmoe.nn import RoutingPlan, SoftPlan
from tests.nn.test_routers import ROUTERS, numbers, spread

FIXED = ("hash", "random")


@pytest.fixture(autouse=True)
def _same_numbers():
    """Seed torch, which draws the weights."""
    torch.manual_seed(0)


def plan_of(name, n_rows=12):
    router = ROUTERS[name](3, 4)
    if name not in FIXED:
        router = spread(router).double()
    return router(numbers(n_rows, 3))


@pytest.mark.parametrize("name", [n for n in ROUTERS if n != "soft"])
def test_every_plan_is_a_bijection(name):
    plan = plan_of(name)
    n_kept = int(plan.offsets[-1])
    flat, source = plan.slot.flatten().tolist(), plan.source.tolist()
    assert [flat[c] for c in source[:n_kept]] == list(range(n_kept))
    assert sorted(s for s in flat if s >= 0) == list(range(n_kept))
    assert set(source[n_kept:]) <= {-1}
    experts = plan.index.flatten()[torch.tensor(source[:n_kept])]
    kept = torch.bincount(experts, minlength=4)
    assert experts.tolist() == sorted(experts.tolist())
    assert plan.offsets.tolist() == kept.cumsum(0).tolist()
    assert plan.statistics["kept"].tolist() == kept.tolist()
    assert torch.equal(plan.statistics["load"], plan.load)
    assert plan.slot.dtype == plan.source.dtype == plan.offsets.dtype == torch.int32
    assert plan.index.dtype == torch.int64
    assert (plan.n_rows, plan.n_experts) == (12, 4)


@pytest.mark.parametrize("name", ROUTERS)
def test_rows_against_a_product_of_gates(name):
    # Experts that multiply by a number: y_t = sum_e gate_te a_e x_t.
    plan, x = plan_of(name), numbers(12, 3)
    factor = torch.tensor([2.0, 3.0, 5.0, 7.0], dtype=torch.float64)
    sizes = plan.offsets.diff(prepend=torch.zeros(1, dtype=torch.int32)).tolist()
    rows = plan.dispatch(x)
    each = torch.zeros(len(rows), dtype=torch.float64)
    each[: sum(sizes)] = factor.repeat_interleave(torch.tensor(sizes))
    y = plan.combine(rows * each[:, None]).detach()
    if isinstance(plan, SoftPlan):
        D, C = plan.to_slots[0].detach(), plan.to_rows[0].detach()
        expected = (C * factor) @ (D @ x)
    else:
        gates = torch.zeros(12, 4, dtype=torch.float64)
        for t in range(12):
            for j, e in enumerate(plan.index[t]):
                if plan.slot[t, j] >= 0:
                    gates[t, e] += plan.weight[t, j].item()
        expected = (gates @ factor)[:, None] * x
    np.testing.assert_allclose(y, expected, rtol=1e-12)


def test_dropped_rows_are_zero_and_have_no_gradient():
    index = torch.zeros(5, 1, dtype=torch.int64)
    weight = torch.full((5, 1), 0.5, requires_grad=True)
    plan = RoutingPlan.of_choices(index, weight, 3, capacity=2)
    x = torch.ones(5, 4, requires_grad=True)
    y = plan.combine(plan.dispatch(x) + 1.0)
    y.sum().backward()
    assert y[:2].tolist() == [[1.0] * 4] * 2
    assert y[2:].tolist() == [[0.0] * 4] * 3
    assert x.grad.tolist() == [[0.5] * 4] * 2 + [[0.0] * 4] * 3
    assert weight.grad.flatten().tolist() == [8.0, 8.0, 0.0, 0.0, 0.0]
    assert plan.statistics["load"].tolist() == [5, 0, 0]
    assert plan.statistics["kept"].tolist() == [2, 0, 0]


@pytest.mark.parametrize("name", [n for n in ROUTERS if n not in FIXED])
def test_gradcheck(name):
    # Inputs far from a change of choice: differences then have no jumps.
    router, x = spread(ROUTERS[name](3, 4)).double(), numbers(9, 3)
    noiseless = name in ("switch", "noisy", "margin", "bias")
    if noiseless:
        router.eval()

    def routed(x, weight):
        router.weight.data = weight.data
        plan = torch.func.functional_call(router, {"weight": weight}, x)
        return plan.combine(plan.dispatch(x).sin())

    weight = router.weight.detach().clone()
    leaves = (x.requires_grad_(), weight.requires_grad_())
    assert torch.autograd.gradcheck(routed, leaves, eps=1e-7, atol=1e-5)


def test_load_before_choices_move():
    index = torch.tensor([[0], [1]])
    load = torch.tensor([2, 0], dtype=torch.int32)
    plan = RoutingPlan.of_choices(index, torch.ones(2, 1), 2, capacity=1, load=load)
    assert plan.statistics["load"].tolist() == [2, 0]
    assert plan.statistics["kept"].tolist() == [1, 1]


def test_losses_are_not_shared_between_plans():
    one, two = plan_of("hash"), plan_of("hash")
    one.losses["z"] = torch.ones(())
    assert two.losses == {}
