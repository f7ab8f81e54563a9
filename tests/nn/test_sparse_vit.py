"""The vision transformer with mixtures: places, priority, learning, and bad input."""

import copy
import math
import pickle

import pytest
import torch
from torch.nn import functional as F

from skmoe.nn import SmallViT, SoftRouter, SparseViT, auxiliary_loss
from tests.nn.test_cnn import digits_losses

ROUTERS = ("topk", "noisy_topk", "switch", "expert_choice", "soft", "dense")


@pytest.fixture(autouse=True)
def _own_random_state():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        yield


def small(**options):
    options = {"width": 8, "depth": 2, "heads": 2, "n_experts": 4, **options}
    return SparseViT(64, 3, **options)


def perceptron(experts, e, row):
    """Return what expert e makes of a row."""
    hidden = F.gelu(row @ experts.w1[e] + experts.b1[e])
    return hidden @ experts.w2[e] + experts.b2[e]


def layer_by_hand(layer, tokens, factor, priority):
    """Return a mixture layer of the paper: tokens one by one, choice by choice.

    All first choices are served before the second ones, as in algorithm 1 and 2 of
    Riquelme et al. (2021).
    """
    router, experts = layer.router, layer.experts
    rows = tokens.reshape(-1, tokens.shape[-1])
    gates = torch.softmax(rows @ router.weight.T, dim=1)
    best = gates.topk(router.top_k, dim=1)
    queue = range(len(rows))
    if priority == "gate":
        queue = sorted(queue, key=lambda t: -best.values[t, 0].item())
    capacity = math.ceil(factor * len(rows) * router.top_k / router.n_experts)
    taken, out = [0] * router.n_experts, torch.zeros_like(rows)
    for j in range(router.top_k):
        for t in queue:
            e = best.indices[t, j].item()
            if taken[e] < capacity:
                taken[e] += 1
                weight = best.values[t, j] / best.values[t].sum()
                out[t] += weight * perceptron(experts, e, rows[t])
    return out.reshape(tokens.shape)


@pytest.mark.parametrize("priority", ["gate", "arrival"])
@pytest.mark.parametrize("factor", [0.3, 0.8, 1.05])
def test_layer_is_the_loop_of_the_paper(priority, factor):
    model = small(width=16).double().eval().set_capacity(factor, priority)
    tokens = torch.randn(7, 5, 16, dtype=torch.float64)
    layer = model.mixtures[0]
    expected = layer_by_hand(layer, tokens, factor, priority)
    torch.testing.assert_close(layer(tokens), expected, rtol=1e-10, atol=1e-12)


def test_priority_keeps_the_surest():
    model, X = small(top_k=1, router="switch").eval(), torch.randn(40, 64)
    router = model.mixtures[0].router
    kept, plans = {}, []
    router.register_forward_hook(lambda *call: plans.append(call[2]))
    for priority in ("gate", "arrival"):
        model.set_capacity(0.3, priority)
        model(X)
        plan = plans[-1]
        weight, has_place = plan.weight[:, 0], plan.slot[:, 0] >= 0
        for e in range(4):
            here = plan.index[:, 0] == e
            inside, outside = weight[here & has_place], weight[here & ~has_place]
            if priority == "gate" and len(outside):
                assert inside.min() >= outside.max()
        kept[priority] = weight[has_place].sum()
    assert kept["gate"] > kept["arrival"]


@pytest.mark.parametrize(
    ("depth", "sparse_blocks", "expected"),
    [
        (4, "every other", [0, 2]),
        (3, "every other", [1]),
        (2, "every other", [0]),
        (1, "every other", [0]),
        (3, [1], [1]),
        (3, (2, 0), [0, 2]),
    ],
)
def test_blocks_with_mixtures(depth, sparse_blocks, expected):
    model = small(depth=depth, sparse_blocks=sparse_blocks)
    blocks = model.transformer.blocks
    found = [level for level in range(depth) if blocks[level].mixture is not None]
    assert found == expected
    assert len(model.mixtures) == len(expected)
    assert all(blocks[level].widen is None for level in found)
    n_tokens = []
    for layer in model.mixtures:
        layer.register_forward_hook(lambda _, x, out: n_tokens.append(x[0].shape[1]))
    model(torch.randn(5, 64))
    # 16 patches and the class; of the last block only the class is of use.
    assert n_tokens == [1 if level == depth - 1 else 17 for level in expected]


def test_one_expert_is_the_dense_model():
    """With one expert of weight one, and its weights, it is a SmallViT."""
    dense = SmallViT(64, 3, width=8, depth=2, heads=2)
    sparse = small(n_experts=1, top_k=1, router="noisy_topk", capacity_factor=None)
    sparse.load_state_dict(dense.state_dict(), strict=False)
    block, experts = dense.transformer.blocks[0], sparse.mixtures[0].experts
    with torch.no_grad():
        experts.w1[0], experts.b1[0] = block.widen.weight.T, block.widen.bias
        experts.w2[0], experts.b2[0] = block.narrow.weight.T, block.narrow.bias
    X = torch.randn(6, 64)
    torch.testing.assert_close(sparse(X), dense(X), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("router", ROUTERS)
def test_gradient_reaches_every_expert(router):
    model = small(router=router)
    optimiser = torch.optim.Adam(model.parameters(), 0.01)
    reached = torch.zeros(4)
    for _ in range(5):
        optimiser.zero_grad()
        loss = model(torch.randn(60, 64)).square().sum() + auxiliary_loss(model)
        loss.backward()
        reached += model.mixtures[0].experts.w2.grad.abs().sum((1, 2))
        assert model.mixtures[0].router.weight.grad.abs().sum() > 0
        optimiser.step()
    assert reached.min() > 0


@pytest.mark.parametrize("router", ROUTERS)
def test_compiles_as_one_graph(router):
    model, X = small(router=router).eval(), torch.randn(9, 64)
    torch.compiler.reset()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(X), model(X))


@pytest.mark.parametrize("router", ROUTERS)
def test_round_trips(router):
    first, second = small(router=router).eval(), small(router=router).eval()
    X = torch.randn(9, 64)
    assert not torch.equal(first(X), second(X))
    second.load_state_dict(first.state_dict())
    first.train()(X).sum().backward()  # what a layer keeps has a graph
    first.eval()
    for other in (second, copy.deepcopy(first), pickle.loads(pickle.dumps(first))):
        assert torch.equal(first(X), other(X))


def test_capacity_can_be_changed():
    model, X = small(n_experts=4, top_k=2).eval(), torch.randn(20, 64)
    statistics = {}
    for factor in (0.25, 0.5, 1.0, None):
        assert model.set_capacity(factor) is model
        model(X)
        statistics[factor] = model.mixtures[0].statistics
    n_tokens = 20 * 17
    assert statistics[0.25]["kept"].max() <= math.ceil(0.25 * n_tokens * 2 / 4)
    kept = [int(statistics[factor]["kept"].sum()) for factor in statistics]
    assert kept == sorted(kept)
    assert kept[0] < kept[1] < kept[2]
    assert kept[-1] == 2 * n_tokens


def test_capacity_of_expert_choice_is_in_the_same_unit():
    model = small(router="expert_choice", top_k=2).eval().set_capacity(0.5)
    model(torch.randn(20, 64))
    # Half of two experts a token, over four experts.
    assert model.mixtures[0].statistics["kept"].tolist() == [20 * 17 // 4] * 4
    model.set_capacity(None)(torch.randn(20, 64))
    assert model.mixtures[0].statistics["kept"].tolist() == [20 * 17 // 2] * 4
    model.set_capacity(9.0)(torch.randn(20, 64))
    assert model.mixtures[0].statistics["kept"].tolist() == [20 * 17] * 4


def test_soft_routing_mixes_tokens_of_one_image_only():
    model, X = small(router="soft").eval(), torch.randn(6, 64)
    alone = torch.cat([model(row[None]) for row in X])
    torch.testing.assert_close(alone, model(X), rtol=1e-5, atol=1e-6)


def test_learns_digits():
    losses, right = digits_losses(
        SparseViT(64, 10, width=32, depth=2, n_experts=4), 80, 0.003
    )
    assert losses[0] > 2.0
    assert losses[-1] < 0.8
    assert right > 0.7


def test_bfloat16_is_near():
    model, X = small(capacity_factor=None, router="dense").eval(), torch.randn(9, 64)
    with torch.autocast("cpu", torch.bfloat16):
        low = model(X)
    torch.testing.assert_close(low.float(), model(X), rtol=0.05, atol=0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sparse_blocks": "last"}, "must be \"every other\" or .*, got 'last'"),
        ({"sparse_blocks": []}, "distinct numbers of blocks from 0 to 1, got"),
        ({"sparse_blocks": [2]}, r"distinct numbers of blocks from 0 to 1, got \[2\]"),
        ({"sparse_blocks": [1, 1]}, "distinct numbers of blocks"),
        ({"sparse_blocks": 1}, "distinct numbers of blocks"),
        ({"n_experts": 0}, "SparseViT: n_experts must be an integer >= 1, got 0"),
        ({"top_k": 5}, "top_k must be an integer from 1 to n_experts=4, got 5"),
        ({"router": "best"}, "SparseViT: router must be one of 'topk', .*, got 'best'"),
        ({"router": SoftRouter(8, 4)}, "each layer needs a router of its own"),
        ({"capacity_factor": 0.2}, "must be at least 1 / n_experts = 0.25"),
        ({"router": "expert_choice", "top_k": 5}, "SparseViT: top_k must be .* got 5"),
        ({"priority": "size"}, "priority must be one of 'arrival', 'gate', got 'size'"),
        ({"width": 9}, "SparseViT: width must be a multiple of heads, got width=9"),
        ({"patch": 3}, "SparseViT: patch must divide height and width, got patch=3"),
        ({"n_hidden": 0}, "n_hidden must be an integer >= 1, got 0"),
    ],
)
def test_refuses_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        small(**options)


def test_refuses_bad_capacity():
    with pytest.raises(ValueError, match="a SoftRouter has no capacity that could be"):
        small(router="soft").set_capacity(0.5)
    model = small()
    with pytest.raises(ValueError, match="SparseViT: capacity_factor must be at least"):
        model.set_capacity(0.1)
    with pytest.raises(ValueError, match=r"priority must be one of .*, got 'first'"):
        model.set_capacity(0.5, "first")
    assert model.mixtures[0].router.places.factor == 1.05  # left as it was
    with pytest.raises(ValueError, match=r"SparseViT: expected rows of shape"):
        model(torch.randn(2, 63))
