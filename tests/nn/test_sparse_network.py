"""Networks of one layer that routes, and the routers that estimators ask for."""

import copy
import math

import pytest
import torch

from skmoe.nn._leaf_network import LeafNetwork
from skmoe.nn._sparse_model import RoutedObjective
from skmoe.nn._sparse_network import SparseNetwork
from skmoe.nn._table_rows import TableRows
from skmoe.nn.routing._named_routers import ROUTERS, new_router
from skmoe.nn.routing._noisy_router import NoisyTopKRouter
from skmoe.nn.routing._routed_module import auxiliary_loss

N_ROWS, N_NUMBERS, N_CODES = 12, 3, 2


def rows():
    return TableRows(N_NUMBERS, N_CODES, 9, size=4, scale=0.5)


def inputs(n_rows=N_ROWS, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    numbers = torch.randn(n_rows, N_NUMBERS, generator=generator, dtype=dtype)
    codes = torch.randint(1, 9, (n_rows, N_CODES), generator=generator)
    return numbers, codes


def network(router="noisy_topk", dtype=torch.float64, **options):
    torch.manual_seed(0)
    options = {"n_experts": 4, "expert_hidden": 5} | options
    return SparseNetwork(rows(), (1, 3), router=router, **options).to(dtype)


def leaves(**options):
    torch.manual_seed(0)
    options = {"depth": 2, "leaf_width": 3} | options
    return LeafNetwork(rows(), (1, 3), **options).double()


# -- outputs and losses ------------------------------------------------------------


@pytest.mark.parametrize("router", ROUTERS)
def test_outputs_losses_and_gradients(router):
    module = network(router)
    raw, gates = module(*inputs())
    assert raw.shape == (N_ROWS, 1, 4)
    assert gates == []
    (raw.square().sum() + auxiliary_loss(module)).backward()
    for name, param in module.named_parameters():
        assert param.grad is not None, name
        assert param.grad.isfinite().all(), name
    module.eval()(*inputs())
    assert not module.losses


def test_start_is_constant_but_for_the_experts():
    module = network(linear=True)
    start = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    module.start_at(start)
    with torch.no_grad():
        module.experts.w2.zero_()
        module.experts.b2.zero_()
    assert torch.equal(module(*inputs()).raw, start.expand(N_ROWS, 1, 4))


def test_objective_adds_the_losses_of_a_part_of_a_batch():
    module = leaves(hardening=2.0, load_balance=0.5)
    mean = torch.ones(2, dtype=torch.float64)
    kinds = ("regression", "multiclass")
    objective = RoutedObjective(module, kinds, mean, 2.0 * N_ROWS, mean)
    labels = torch.zeros(N_ROWS, 2, dtype=torch.float64)
    _, penalty = objective(*inputs(), labels, torch.ones_like(labels))
    losses = module.tree.losses
    assert set(losses) == {"hardening", "load_balance"}
    torch.testing.assert_close(penalty, 0.5 * sum(losses.values()))


def test_copies_leave_the_last_call_behind():
    module = network()
    module(*inputs())
    assert module.losses
    assert not copy.deepcopy(module).losses


@pytest.mark.parametrize("make", [network, leaves])
def test_routing_is_that_of_evaluation(make):
    module = make().eval()
    weight, chosen = module.routing(*inputs())
    assert weight.shape == chosen.shape == (N_ROWS, 4)
    torch.testing.assert_close(weight.sum(dim=1), torch.ones_like(weight[:, 0]))
    assert (chosen.sum(dim=1) == (2 if make is network else 1)).all()


# -- capacity ----------------------------------------------------------------------


def test_places_are_limited_in_training_alone():
    module = network("topk", capacity_factor=0.5)
    module(*inputs())
    assert int(module.statistics["kept"].max()) == 3
    module.eval()(*inputs())
    assert int(module.statistics["kept"].sum()) == 2 * N_ROWS
    module.train()(*inputs())
    assert int(module.statistics["kept"].max()) == 3


def test_a_batch_of_one_row_chooses_for_itself():
    module = network("expert_choice")
    alone = module(*inputs(1)).raw
    assert module.router.training
    torch.testing.assert_close(alone, module.eval()(*inputs(1)).raw)


# -- routers by name ---------------------------------------------------------------


def test_hash_does_not_move_while_the_network_trains():
    module = network("hash")
    before = module.routing(*inputs())[1]
    with torch.no_grad():
        module.rows.table.weight.add_(1.0)
    assert torch.equal(module.routing(*inputs())[1], before)


def test_random_predicts_the_mean_of_all_experts():
    module = network("random").eval()
    numbers, codes = inputs()
    vectors, hidden = module.hidden(numbers, codes)
    each = [
        torch.relu(hidden @ w1 + b1) @ w2 + b2
        for w1, b1, w2, b2 in zip(
            module.experts.w1,
            module.experts.b1,
            module.experts.w2,
            module.experts.b2,
            strict=True,
        )
    ]
    wanted = module.bias + module.linear(vectors) + torch.stack(each).mean(dim=0)
    torch.testing.assert_close(module(numbers, codes).raw[:, 0], wanted)


def test_loss_without_noise_is_that_of_a_loop():
    torch.manual_seed(0)
    router = NoisyTopKRouter(3, 5, 2, losses={"clean": 0.7}).double()
    with torch.no_grad():
        router.weight.normal_()
        router.noise_weight.fill_(2.0)
    x = inputs()[0]
    found = router(x).losses
    assert set(found) == {"clean"}
    logits = x @ router.weight.T
    share, mean = [0.0] * 5, logits.softmax(dim=1).mean(dim=0)
    for row in logits:
        for e in row.topk(2).indices.tolist():
            share[e] += 1 / (2 * N_ROWS)
    wanted = 0.7 * 5 * sum(f * p for f, p in zip(share, mean, strict=True))
    torch.testing.assert_close(found["clean"], wanted)


def test_defaults_of_the_noisy_router():
    router = new_router("noisy_topk", 3, 4, router_losses=None)
    assert set(router(torch.randn(8, 3)).losses) == {"importance", "load", "clean"}
    assert not router.eval()(torch.randn(8, 3)).losses


def test_options_of_another_router():
    with pytest.raises(ValueError, match="router='random' takes no capacity_factor"):
        new_router("random", 3, 4, capacity_factor=2.0)
    with pytest.raises(ValueError, match="router must be one of"):
        new_router("best", 3, 4)
    with pytest.raises(ValueError, match="number >= 0, got inf"):
        new_router("noisy_topk", 3, 4, router_losses={"clean": math.inf})


@pytest.mark.parametrize("router", ["topk", "dense", "noisy_topk"])
def test_bfloat16_stays_near(router):
    module = network(router, torch.float32).eval()
    fine = module(*inputs(dtype=torch.float32)).raw
    with torch.autocast("cpu", torch.bfloat16):
        coarse = module(*inputs(dtype=torch.float32)).raw
    torch.testing.assert_close(coarse.float(), fine, atol=0.05, rtol=0.05)
