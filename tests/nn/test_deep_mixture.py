"""Stacked mixtures: the paper's formulas by a loop, paths, margin, and bad input."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from skmoe.nn import DeepMixture, DenseRouter, TopKRouter, auxiliary_loss

ROUTERS = ("dense", "topk", "noisy_topk", "switch", "expert_choice", "soft")


@pytest.fixture(autouse=True)
def _own_random_state():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        yield


def gates_by_hand(layer, z):
    """Return g(z) of a dense layer, with or without a hidden layer."""
    router = layer.router
    if hasattr(router, "hidden"):
        z = torch.clamp(z @ router.hidden.weight.T + router.hidden.bias, min=0)
        router = router.router
    return torch.softmax(z @ router.weight.T, dim=1)


def forward_by_hand(model, X):
    """Return the outputs row by row and expert by expert, and the gates."""
    gates = []
    for layer in model.layers:
        gate = gates_by_hand(layer, X)
        rows = []
        for t, row in enumerate(X):
            z = 0.0
            for e in range(gate.shape[1]):
                weight, bias = layer.experts.weight[e], layer.experts.bias[e]
                z = z + gate[t, e] * torch.clamp(row @ weight + bias, min=0)
            rows.append(z)
        X = torch.stack(rows)
        gates.append(gate)
    return X @ model.head.weight.T + model.head.bias, gates


@pytest.mark.parametrize("gate_hidden", [None, 5, (7, None)])
def test_is_the_loop_of_the_paper(gate_hidden):
    model = DeepMixture(
        6, 3, n_experts=(4, 2), hidden=(8, 5), gate_hidden=gate_hidden
    ).double()
    X = torch.randn(11, 6, dtype=torch.float64)
    expected, gates = forward_by_hand(model, X)
    torch.testing.assert_close(model(X), expected, rtol=1e-12, atol=1e-12)

    paths = torch.einsum("ti,tj->ij", *gates) / len(X)
    usage = model.path_usage(X)
    assert usage.shape == (4, 2)
    np.testing.assert_allclose(usage, paths.detach().numpy(), rtol=1e-12)


def test_gradients_are_those_of_the_loop():
    model = DeepMixture(5, 2, n_experts=3, hidden=6, gate_hidden=4).double()
    X = torch.randn(9, 5, dtype=torch.float64, requires_grad=True)
    sources = [X, *model.parameters()]
    found = torch.autograd.grad(model(X).square().sum(), sources)
    expected = torch.autograd.grad(forward_by_hand(model, X)[0].square().sum(), sources)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_usage_by_label_averages_to_all():
    model, X = DeepMixture(6, 3, n_experts=(3, 2, 2)), torch.randn(50, 6)
    labels = np.array(list("abcab") * 10)
    usage = model.path_usage(X, labels)
    assert usage.shape == (3, 3, 2, 2)
    share = np.array([0.4, 0.4, 0.2])
    overall = (share[:, None, None, None] * usage).sum(axis=0)
    np.testing.assert_allclose(overall, model.path_usage(X), rtol=1e-5)
    np.testing.assert_allclose(usage.sum(axis=(1, 2, 3)), 1.0, rtol=1e-5)
    of_a = model.path_usage(X[labels == "a"])
    np.testing.assert_allclose(usage[0], of_a, rtol=1e-5)


def test_usage_of_sparse_routers_is_that_of_the_kept_choices():
    def crowded(n_inputs, n_experts):
        router = TopKRouter(n_inputs, n_experts, 1, capacity_factor=1.0)
        with torch.no_grad():
            router.weight[0] = 100.0  # where all rows of positive sum want to go
        return router

    model = DeepMixture(4, 1, n_experts=(2,), router=crowded, gate_hidden=None)
    X = torch.rand(10, 4)
    assert model.path_usage(X) == pytest.approx([0.5, 0.0])  # five rows were dropped


@pytest.mark.parametrize("router", ROUTERS)
def test_every_router_trains_all_experts(router):
    model, X = DeepMixture(6, 3, router=router, hidden=16), torch.randn(400, 6)
    y = (X[:, 0] > 0).long() + (X[:, 1] > 0).long()
    optimiser = torch.optim.Adam(model.parameters(), 0.01)
    losses, reached = [], 0.0
    for _ in range(60):
        optimiser.zero_grad()
        loss = F.cross_entropy(model(X), y)
        (loss + auxiliary_loss(model)).backward()
        reached = reached + torch.cat(
            [layer.experts.weight.grad.abs().sum((1, 2)) for layer in model.layers]
        )
        optimiser.step()
        losses.append(loss.item())
    # Soft slots are averages of all rows: not much is left of each.
    assert losses[-1] < (0.95 if router == "soft" else 0.6) * losses[0]
    assert reached.shape == (8,)
    assert reached.min() > 0
    usage = model.path_usage(X)
    assert usage.shape == (4, 4)
    assert usage.sum() == pytest.approx(1.0, abs=1e-5)


def test_margin_holds_back_who_is_ahead():
    model, X = DeepMixture(4, 2, margin=3.0, gate_hidden=None), torch.rand(8, 4)
    router = model.layers[0].router
    with torch.no_grad():
        router.weight.zero_()[1] = 5.0
    model(X)
    assert router.totals.argmax() == 1
    assert router.totals[1] - router.totals.mean() > 3.0
    plan = router(X)
    assert (plan.weight[:, 1] == 0).all()
    torch.testing.assert_close(plan.weight.sum(1), torch.ones(8))

    model.lift_margin()
    before = router.totals.clone()
    assert (router(X).weight[:, 1] > 0.3).all()
    assert torch.equal(router.totals, before)


def test_margin_spreads_paths():
    def spread(margin):
        torch.manual_seed(0)
        model = DeepMixture(5, 3, margin=margin, hidden=16)
        X = torch.randn(600, 5)
        y = (X[:, 0] > 0).long() + (X[:, 1] * X[:, 2] > 0).long()
        optimiser = torch.optim.Adam(model.parameters(), 0.02)
        for _ in range(25):
            for part in torch.randperm(600).split(150):
                optimiser.zero_grad()
                F.cross_entropy(model(X[part]), y[part]).backward()
                optimiser.step()
        usage = model.path_usage(X)
        return usage.sum(axis=1).min(), usage.sum(axis=0).min()

    assert min(spread(20.0)) > 10 * min(spread(None))


def test_usage_changes_nothing():
    model, X = DeepMixture(4, 2, margin=5.0), torch.randn(30, 4)
    model.layers[0].eval()
    before = copy.deepcopy(model.state_dict())
    model.path_usage(X)
    assert model.training
    assert model.layers[1].training
    assert not model.layers[0].training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("router", ["dense", "topk"])
def test_round_trips(router):
    first, second = DeepMixture(4, 2, router=router), DeepMixture(4, 2, router=router)
    X = torch.randn(20, 4)
    assert not torch.equal(first(X), second(X))
    second.load_state_dict(first.state_dict())
    for other in (second, copy.deepcopy(first), pickle.loads(pickle.dumps(first))):
        assert torch.equal(first(X), other(X))


@pytest.mark.parametrize("router", ROUTERS)
def test_compiles_as_one_graph(router):
    model, X = DeepMixture(4, 2, router=router).eval(), torch.randn(30, 4)
    torch.compiler.reset()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(X), model(X))


def test_routers_of_layers_may_differ():
    model = DeepMixture(4, 2, router=("dense", TopKRouter), gate_hidden=None)
    assert isinstance(model.layers[0].router, DenseRouter)
    assert isinstance(model.layers[1].router, TopKRouter)
    assert model(torch.randn(5, 4)).shape == (5, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_experts": ()}, r"n_experts must have a layer, got \(\)"),
        ({"n_experts": (4, 0)}, "n_experts must be an integer >= 1, got 0"),
        ({"hidden": (3,)}, r"hidden must have one value for each of the 2 layers"),
        ({"router": ["topk"]}, r"router must have one value for each of the 2 layers"),
        ({"router": "best"}, "router must be one of 'topk', .*, got 'best'"),
        ({"router": DenseRouter(4, 4)}, "each layer needs a router of its own"),
        ({"router": "topk", "margin": 2.0}, "margin of 2.0 needs router='dense'"),
        ({"margin": -1.0}, "margin must be a number > 0, got -1.0"),
        ({"router": "topk", "top_k": 5}, "top_k must be .* to n_experts=4, got 5"),
        ({"router": lambda n, e: DenseRouter(n, e + 1)}, "must agree on n_experts"),
        ({"gate_hidden": 0}, "gate_hidden must be an integer >= 1, got 0"),
    ],
)
def test_refuses_bad_arguments(options, message):
    options = {"gate_hidden": None, **options}
    with pytest.raises(ValueError, match=message):
        DeepMixture(4, 2, **options)


@pytest.mark.parametrize(
    ("n_rows", "labels"), [(3, [0, 1]), (0, None), (3, [[0, 1, 2]])]
)
def test_usage_refuses_bad_rows(n_rows, labels):
    with pytest.raises(ValueError, match=f"one label for each, got {n_rows} rows and"):
        DeepMixture(4, 2).path_usage(torch.randn(n_rows, 4), labels)
    with pytest.raises(ValueError, match=r"rows of shape \(n_rows, 4\), got \(3, 5\)"):
        DeepMixture(4, 2)(torch.randn(3, 5))


def test_head_is_linear():
    assert isinstance(DeepMixture(4, 2, n_experts=3).head, nn.Linear)
