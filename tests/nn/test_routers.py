"""Routers: who goes where and with what weight, against the papers' equations."""

import copy
import pickle

import numpy as np
import pytest
import torch

from skmoe.nn import (
    DenseRouter,
    ExpertChoiceRouter,
    HashRouter,
    NoisyTopKRouter,
    RandomRouter,
    SoftRouter,
    SwitchRouter,
    TopKRouter,
)
from skmoe.nn._noise import set_generator
from skmoe.nn.routing._largest import FEW, largest
from tests.nn import _slow_routing as slow

ROUTERS = {
    "top_k": TopKRouter,
    "sigmoid": lambda d, n: TopKRouter(d, n, scores="sigmoid", renormalize=False),
    "capacity": lambda d, n: TopKRouter(d, n, capacity_factor=0.7, priority="gate"),
    "next": lambda d, n: TopKRouter(d, n, capacity_factor=1.0, overflow="next"),
    "bias": lambda d, n: TopKRouter(d, n, bias_rate=0.01),
    "switch": lambda d, n: SwitchRouter(d, n, jitter=0.1),
    "noisy": NoisyTopKRouter,
    "dense": DenseRouter,
    "margin": lambda d, n: DenseRouter(d, n, margin=2.0),
    "expert_choice": ExpertChoiceRouter,
    "soft": SoftRouter,
    "hash": HashRouter,
    "random": RandomRouter,
}


@pytest.fixture(autouse=True)
def _same_numbers():
    """Seed torch, which draws the weights."""
    torch.manual_seed(0)


def numbers(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def spread(router):
    """Give a router weights under which experts differ."""
    weight = numbers(*router.weight.shape, seed=9)
    router.weight.data = weight.to(router.weight.dtype)
    return router


def logits(router, x):
    return x.numpy() @ router.weight.detach().double().numpy().T


def dense_gates(plan):
    """Weights of the kept choices, (n_rows, n_experts)."""
    gates = np.zeros((plan.n_rows, plan.n_experts))
    for t, row in enumerate(plan.index.tolist()):
        for j, e in enumerate(row):
            if plan.slot[t, j] >= 0:
                gates[t, e] += plan.weight[t, j].item()
    return gates


# -- the largest -------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 2, 3, FEW, FEW + 1, 12])
def test_largest_with_ties(k):
    scores = (3.0 * numbers(50, 12)).round()
    ours = largest(scores, k)
    assert ours.tolist() == [slow.best_of(row, k) for row in scores.tolist()]


# -- top k -------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_mixtral_weights(k):
    x, router = numbers(20, 4), spread(TopKRouter(4, 5, k))
    L = logits(router, x)
    for t, row in enumerate(L):
        best = slow.best_of(row, k)
        assert router(x).index[t].tolist() == best
        np.testing.assert_allclose(
            router(x).weight[t].detach(), slow.softmax(row[best]), rtol=1e-12
        )


@pytest.mark.parametrize("scores", ["softmax", "sigmoid"])
@pytest.mark.parametrize("renormalize", [True, False])
def test_scores(scores, renormalize):
    x = numbers(20, 4)
    router = spread(TopKRouter(4, 5, 2, scores=scores, renormalize=renormalize))
    plan = router(x)
    for t, row in enumerate(logits(router, x)):
        S = slow.softmax(row) if scores == "softmax" else 1 / (1 + np.exp(-row))
        best = slow.best_of(S, 2)
        total = sum(S[best]) if renormalize else 1.0
        assert plan.index[t].tolist() == best
        np.testing.assert_allclose(plan.weight[t].detach(), S[best] / total, rtol=1e-12)


@pytest.mark.parametrize("scores", ["softmax", "sigmoid"])
def test_scores_that_vanish_still_have_an_order_and_weights(scores):
    router = TopKRouter(1, 4, 2, scores=scores, capacity_factor=0.5, overflow="next")
    # Each row wants expert 3, then 2, 1, 0; all but the first have probability 0.
    router.weight.data = torch.tensor([[-900.0], [-800.0], [-700.0], [-300.0]])
    plan = router(torch.ones(4, 1))
    assert plan.index.tolist() == [[3, 2], [1, 2], [0, 2], [3, 2]]
    assert plan.weight.isfinite().all()
    assert plan.weight.sum(dim=1).tolist() == [1.0] * 4


def test_capacity_formula():
    for factor in (0.2, 0.5, 0.7, 1.0, 1.1, 1.25, 3.0):
        router = TopKRouter(2, 5, 2, capacity_factor=factor)
        for n_rows in (1, 2, 5, 7, 10, 25, 100, 101):
            expected = slow.places(n_rows, 2, 5, factor)
            assert router.places.capacity(n_rows) == expected


@pytest.mark.parametrize("priority", ["arrival", "gate"])
@pytest.mark.parametrize("factor", [0.25, 0.5, 1.0, 1.5])
@pytest.mark.parametrize("k", [1, 2])
def test_who_is_dropped(priority, factor, k):
    x = numbers(40, 4)
    router = spread(TopKRouter(4, 6, k, capacity_factor=factor, priority=priority))
    plan = router(x)
    L = logits(router, x)
    order = None
    if priority == "gate":  # Riquelme et al. (2021): by the largest routing weight
        order = np.argsort([-max(slow.softmax(row)) for row in L], kind="stable")
    capacity = slow.places(40, k, 6, factor)
    index = np.array([slow.best_of(row, k) for row in L])
    kept, members = slow.served_in_turn(index, 6, capacity, order)
    assert np.array_equal(plan.slot >= 0, kept)
    n_kept = plan.statistics["kept"].tolist()
    assert n_kept == [len(m) for m in members]
    assert max(n_kept) <= capacity
    assert plan.statistics["load"].tolist() == (
        np.bincount(index.ravel(), minlength=6).tolist()
    )


@pytest.mark.parametrize("priority", ["arrival", "gate"])
def test_who_is_moved(priority):
    x = numbers(40, 4)
    router = TopKRouter(4, 6, capacity_factor=0.8, overflow="next", priority=priority)
    plan = spread(router)(x)
    L = logits(router, x)
    order = None
    if priority == "gate":
        order = np.argsort([-max(slow.softmax(row)) for row in L], kind="stable")
    first = np.array([slow.best_of(row, 2) for row in L])
    index, kept = slow.moved_in_turn(first, L, slow.places(40, 2, 6, 0.8), order)
    assert np.array_equal(plan.index, index)
    assert np.array_equal(plan.slot >= 0, kept)
    for t in range(40):
        np.testing.assert_allclose(
            plan.weight[t].detach(), slow.softmax(L[t, index[t]]), rtol=1e-12
        )


def test_noisy_priority_with_one_expert_a_row():
    # The gate of the only expert is 1 for all rows: the softmax over all decides.
    x = numbers(40, 4)
    router = NoisyTopKRouter(4, 3, 1, capacity_factor=0.5, priority="gate")
    plan = spread(router).eval()(x)
    L = logits(router, x)
    order = np.argsort([-max(slow.softmax(row)) for row in L], kind="stable")
    kept, _ = slow.served_in_turn(L.argmax(axis=1)[:, None], 3, 7, order)
    assert np.array_equal(plan.slot >= 0, kept)


def test_bias_moves_the_choice_and_not_the_weight():
    # Wang et al. (2024), algorithm 1: b_i += u sign(mean load - load_i).
    x = numbers(30, 4)
    router = spread(TopKRouter(4, 5, 2, scores="sigmoid", bias_rate=0.1))
    S = 1 / (1 + np.exp(-logits(router, x)))
    bias = np.zeros(5)
    for _ in range(5):
        plan = router(x)
        chosen = [slow.best_of(row + bias, 2) for row in S]
        assert plan.index.tolist() == chosen
        for t, best in enumerate(chosen):
            expected = S[t, best] / S[t, best].sum()
            np.testing.assert_allclose(plan.weight[t].detach(), expected, rtol=1e-12)
        load = np.bincount(np.ravel(chosen), minlength=5)
        bias += 0.1 * np.sign(load.mean() - load)
        np.testing.assert_allclose(router.bias, bias, atol=1e-6)
    router.eval()(x)
    np.testing.assert_allclose(router.bias, bias, atol=1e-6)


def test_bias_evens_out_the_load():
    x = numbers(400, 4)
    router = spread(TopKRouter(4, 8, 2, bias_rate=0.01))
    before = router(x).load.max().item()
    for _ in range(200):
        load = router(x).load
    assert load.max() < 1.25 * 100 < before


def test_switch_jitter():
    x, router = numbers(30, 4), spread(SwitchRouter(4, 5, jitter=0.2))
    set_generator(router, torch.Generator().manual_seed(5))
    plan = router(x)
    draws = torch.empty(30, 4, dtype=torch.float64)
    draws.uniform_(0.8, 1.2, generator=torch.Generator().manual_seed(5))
    np.testing.assert_allclose(
        plan.logits.detach(), logits(router, x * draws), rtol=1e-12
    )
    for t, row in enumerate(logits(router, x * draws)):
        P = slow.softmax(row)
        assert plan.index[t].tolist() == [int(P.argmax())]
        assert plan.weight[t].item() == pytest.approx(P.max(), rel=1e-12)
    quiet = router.eval()(x).logits.detach()
    np.testing.assert_allclose(quiet, logits(router, x), rtol=1e-12)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_noisy_top_k_without_noise(k):
    x, router = numbers(30, 4), spread(NoisyTopKRouter(4, 5, k)).eval()
    gates = slow.shazeer_gates(logits(router, x), k)
    np.testing.assert_allclose(dense_gates(router(x)), gates, atol=1e-12)


def test_noise_decides_at_the_start():
    router = NoisyTopKRouter(4, 5, 1)
    load = router(numbers(5000, 4)).load
    assert load.min() > 850
    assert router.eval()(numbers(5, 4)).index.unique().tolist() == [0]


# -- all experts, or experts that choose -------------------------------------------


def test_dense():
    x, router = numbers(30, 4), spread(DenseRouter(4, 5))
    expected = [slow.softmax(row) for row in logits(router, x)]
    np.testing.assert_allclose(dense_gates(router(x)), expected, rtol=1e-12)


def test_margin_holds_experts_back():
    router = spread(DenseRouter(4, 5, margin=3.0))
    totals = np.zeros(5)
    held_back = 0
    for step in range(12):
        x = numbers(10, 4, seed=step)
        gates = slow.eigen_gates(logits(router, x), totals, 3.0)
        np.testing.assert_allclose(dense_gates(router(x)), gates, atol=1e-6)
        totals += gates.sum(axis=0)
        held_back += int((gates.sum(axis=0) == 0).any())
    assert held_back >= 3
    np.testing.assert_allclose(router.totals, totals - totals.mean(), atol=1e-4)
    # Without it, totals grow apart by more than the margin and a batch.
    assert totals.max() - totals.mean() < 3.0 + 10
    before = router.totals.clone()
    plan = router.eval()(x)
    assert torch.equal(router.totals, before)
    assert (plan.weight > 0).all()


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0, 5.0])
def test_expert_choice(factor):
    x, router = numbers(23, 4), spread(ExpertChoiceRouter(4, 5, capacity_factor=factor))
    plan = router(x)
    P = np.array([slow.softmax(row) for row in logits(router, x)])
    size = slow.places(23, 1, 5, factor)
    rows, gates = slow.expert_choice(P, size)
    expected = np.zeros((23, 5))
    for e in range(5):
        expected[rows[e], e] = gates[e]
    np.testing.assert_allclose(dense_gates(plan), expected, rtol=1e-12)
    assert plan.load.tolist() == [size] * 5
    assert plan.offsets.tolist() == [size * (e + 1) for e in range(5)]
    choice = plan.source.tolist()
    assert [c % 5 for c in choice] == [e for e in range(5) for _ in range(size)]
    assert [plan.slot.flatten()[c].item() for c in choice] == list(range(5 * size))
    assert (plan.slot >= 0).sum() == 5 * size


def test_expert_choice_where_rows_choose():
    x = numbers(9, 4)
    router = spread(ExpertChoiceRouter(4, 5, eval_top_k=2)).eval()
    plan = router(x)
    for t, row in enumerate(logits(router, x)):
        P = slow.softmax(row)
        best = slow.best_of(P, 2)
        assert plan.index[t].tolist() == best
        np.testing.assert_allclose(plan.weight[t].detach(), P[best], rtol=1e-12)
    one = router(x[:1])
    assert torch.equal(one.index, plan.index[:1])


@pytest.mark.parametrize("normalize", [True, False])
def test_soft(normalize):
    x = numbers(2, 7, 4)
    router = spread(SoftRouter(4, 3, slots_per_expert=2, normalize=normalize))
    router.double()
    if normalize:
        router.scale.data.fill_(1.7)
    plan = router(x)
    phi = router.weight.detach().numpy()
    slots = plan.dispatch(x)
    out = numbers(12, 5, seed=4)
    y = plan.combine(out)
    for b in range(2):
        if normalize:
            D, C = slow.soft_weights(x[b].numpy(), phi, 1.7)
        else:
            raw = x[b].numpy() @ phi.T
            D = np.array([slow.softmax(c) for c in raw.T]).T
            C = np.array([slow.softmax(r) for r in raw])
        for e in range(3):
            for p in range(2):
                # Sorted by expert, then sequence, then slot.
                where = e * 4 + b * 2 + p
                mixed = D[:, e * 2 + p] @ x[b].numpy()
                np.testing.assert_allclose(slots[where].detach(), mixed, rtol=1e-10)
        sent = out.view(3, 2, 2, 5)[:, b].reshape(6, 5).numpy()
        np.testing.assert_allclose(y.view(2, 7, 5)[b].detach(), C @ sent, rtol=1e-10)


# -- yardsticks --------------------------------------------------------------------


def test_hash():
    x = numbers(4000, 3).float()
    router = HashRouter(3, 8, 2)
    plan = router(x)
    assert torch.equal(router(x.flip(0)).index.flip(0), plan.index)
    assert torch.equal(HashRouter(3, 8, 2)(x).index, plan.index)
    assert (plan.index[:, 0] != plan.index[:, 1]).all()
    # Each expert gets an eighth, within 5 standard deviations.
    first = plan.index[:, 0].bincount(minlength=8)
    assert (first - 500).abs().max() < 5 * np.sqrt(4000 / 8)
    assert plan.weight.unique().tolist() == [0.5]
    zeros = torch.tensor([[0.0, 1.0, -0.0], [-0.0, 1.0, 0.0]])
    assert len(router(zeros).index[:, 0].unique()) == 1


def test_hash_of_codes():
    codes = torch.arange(4000.0)[:, None]
    first = HashRouter(1, 8)(codes).index[:, 0].bincount(minlength=8)
    assert (first - 500).abs().max() < 5 * np.sqrt(4000 / 8)


def test_random():
    router = RandomRouter(3, 8)
    plan = router(torch.zeros(4000, 3))
    assert (plan.load - 500).abs().max() < 5 * np.sqrt(4000 / 8)
    assert not torch.equal(router(torch.zeros(4000, 3)).index, plan.index)


# -- what they share ---------------------------------------------------------------


@pytest.mark.parametrize("name", ROUTERS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_logits_are_in_full_precision(name, dtype):
    router = ROUTERS[name](16, 4)
    if name not in ("hash", "random"):
        spread(router)
    x = numbers(10, 16).to(dtype)
    plan = router(x)
    wide = torch.promote_types(dtype, torch.float32)
    weight = plan.to_rows if name == "soft" else plan.weight
    assert weight.dtype == wide
    assert plan.dispatch(x).dtype == dtype
    if plan.logits is None or name == "soft":
        return
    assert plan.logits.dtype == wide
    router.eval()
    exact = logits(router, x.double())
    error = {torch.float64: 1e-14}.get(dtype, 1e-5)
    np.testing.assert_allclose(router(x).logits.detach(), exact, atol=error)
    # The product in the type of the rows is not good enough for this test.
    if dtype == torch.bfloat16:
        short = x @ router.weight.detach().to(dtype).T
        assert np.abs(short.double().numpy() - exact).max() > 1e-3


@pytest.mark.parametrize("name", ["top_k", "noisy", "dense", "expert_choice", "soft"])
def test_autocast_does_not_reach_the_logits(name):
    router, x = spread(ROUTERS[name](16, 4)).eval(), numbers(10, 16).float()
    expected = router(x).logits
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(router(x).logits, expected)
        assert (x @ router.weight.T).dtype == torch.bfloat16


def test_soft_routing_of_long_rows_is_not_shortened():
    router, x = SoftRouter(4, 3), numbers(1, 5, 4)
    P = slow.soft_weights(x[0].numpy(), router.weight.detach().double().numpy(), 1.0)
    np.testing.assert_allclose(router(x).to_rows[0].detach(), P[1], rtol=1e-12)


@pytest.mark.parametrize("name", ROUTERS)
@pytest.mark.parametrize("shape", [(0, 3), (2, 0, 3), (0, 4, 3)])
def test_no_rows(name, shape):
    plan = ROUTERS[name](3, 4)(torch.zeros(shape))
    rows = plan.dispatch(torch.zeros(shape))
    assert plan.combine(rows).shape == (0, 3)
    assert plan.losses == {}


@pytest.mark.parametrize("name", [n for n in ROUTERS if n != "expert_choice"])
def test_one_row(name):
    x = numbers(1, 3).float()
    plan = ROUTERS[name](3, 4)(x)
    assert plan.combine(plan.dispatch(x)).shape == (1, 3)
    assert plan.statistics["kept"].sum() >= 1


@pytest.mark.parametrize("name", ["top_k", "noisy", "switch", "dense", "hash", "soft"])
def test_one_expert(name):
    made, x = ROUTERS[name], numbers(5, 3).float()
    router = made(3, 1, 1) if name in ("top_k", "noisy") else made(3, 1)
    plan = router(x)
    if name == "soft":
        assert plan.to_rows.flatten().tolist() == [1.0] * 5
    else:
        assert plan.weight.flatten().tolist() == [1.0] * 5
        assert torch.equal(plan.combine(plan.dispatch(x)), x)


@pytest.mark.parametrize("name", ROUTERS)
def test_leading_axes(name):
    router, x = ROUTERS[name](3, 4).eval(), numbers(2, 5, 3).float()
    set_generator(router, torch.Generator().manual_seed(0))
    plan = router(x)
    set_generator(router, torch.Generator().manual_seed(0))
    flat = router(x if name == "soft" else x.reshape(10, 3))
    assert torch.equal(plan.offsets, flat.offsets)
    assert torch.equal(plan.dispatch(x), flat.dispatch(x.reshape(10, 3)))


@pytest.mark.parametrize("name", ["noisy", "switch", "random"])
def test_a_generator_makes_noise_that_comes_again(name):
    router, x = ROUTERS[name](3, 4), numbers(50, 3).float()

    def drawn(seed):
        set_generator(router, torch.Generator().manual_seed(seed))
        plan = router(x)
        return plan.index, plan.weight

    torch.testing.assert_close(drawn(0), drawn(0), rtol=0, atol=0)
    assert not torch.equal(drawn(0)[1], drawn(1)[1]) or name == "random"
    assert not torch.equal(drawn(0)[0], drawn(1)[0]) or name == "switch"
    state = torch.get_rng_state()
    drawn(0)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", ROUTERS)
def test_state_and_copies(name):
    router, x = ROUTERS[name](3, 4), numbers(20, 3).float()
    for _ in range(3):
        router(3.0 + x)  # most rows want one expert
    router.eval()
    other = ROUTERS[name](3, 4).eval()
    other.load_state_dict(router.state_dict())
    for twin in (other, copy.deepcopy(router), pickle.loads(pickle.dumps(router))):
        for part in (twin, router):
            set_generator(part, torch.Generator().manual_seed(0))
        assert torch.equal(twin(x).dispatch(x), router(x).dispatch(x))
    if name == "bias":
        assert router.state_dict()["bias"].abs().max() > 0
    if name == "margin":
        assert router.state_dict()["totals"].abs().max() > 0


@pytest.mark.parametrize(("name", "buffer"), [("bias", "bias"), ("margin", "totals")])
def test_running_sums_stay_in_float32(name, buffer):
    # 1 + 0.001 is 1 in bfloat16.
    router = ROUTERS[name](3, 4).bfloat16()
    assert router.weight.dtype == torch.bfloat16
    assert getattr(router, buffer).dtype == torch.float32
    # Digits that the type does not hold are not lost on the way.
    getattr(router, buffer).fill_(0.123456)
    assert getattr(router.bfloat16(), buffer)[0].item() == pytest.approx(0.123456)
    assert router.to("meta").state_dict()[buffer].is_meta
    assert getattr(ROUTERS[name](3, 4).double(), buffer).dtype == torch.float64


def test_repr():
    assert repr(TopKRouter(3, 4)) == (
        "TopKRouter(n_inputs=3, n_experts=4, losses={'switch': 0.01})"
    )
    assert repr(HashRouter(3, 4)) == "HashRouter(n_inputs=3, n_experts=4)"


# -- bad input ---------------------------------------------------------------------


@pytest.mark.parametrize("made", [TopKRouter, NoisyTopKRouter, HashRouter])
@pytest.mark.parametrize("k", [0, 5, 1.5, True, "two"])
def test_bad_top_k(made, k):
    message = (
        f"{made.__name__}: top_k must be an integer from 1 to n_experts=4, got {k!r}"
    )
    with pytest.raises(ValueError, match=message):
        made(3, 4, k)


@pytest.mark.parametrize("factor", [0.2, 0, -1.0, float("inf"), float("nan"), "much"])
@pytest.mark.parametrize("made", [TopKRouter, NoisyTopKRouter, SwitchRouter])
def test_bad_capacity(made, factor):
    message = "capacity_factor must be at least 1 / n_experts = 0.25, .*got"
    with pytest.raises(ValueError, match=message):
        made(3, 4, capacity_factor=factor)


@pytest.mark.parametrize(
    ("factor", "message"),
    [
        (0.2, "capacity_factor must be at least 1 / n_experts = 0.25"),
        (4.5, "mean number of experts of a row: at most n_experts=4, got 4.5"),
        (None, "at most n_experts=4, got None"),
        ("two", "1 / n_experts = 0.25, .* got 'two'"),
    ],
)
def test_bad_capacity_of_expert_choice(factor, message):
    with pytest.raises(ValueError, match=message):
        ExpertChoiceRouter(3, 4, capacity_factor=factor)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"overflow": "queue"}, "overflow must be one of .*got 'queue'"),
        ({"priority": "age"}, "priority must be one of .*got 'age'"),
        ({"scores": "relu"}, "scores must be one of .*got 'relu'"),
        ({"bias_rate": -1.0}, "bias_rate must be a number in .*got -1.0"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        TopKRouter(3, 4, **options)


def test_bad_numbers():
    with pytest.raises(ValueError, match="n_experts must be an integer >= 1, got 0"):
        TopKRouter(3, 0, 1)
    with pytest.raises(ValueError, match="n_inputs must be an integer >= 1, got -3"):
        HashRouter(-3, 4)
    with pytest.raises(ValueError, match=r"jitter must be a number in .*got 2"):
        SwitchRouter(3, 4, jitter=2)
    with pytest.raises(ValueError, match="margin must be a number > 0, got 0"):
        DenseRouter(3, 4, margin=0)
    with pytest.raises(ValueError, match="slots_per_expert must be an integer >= 1"):
        SoftRouter(3, 4, slots_per_expert=0)
    with pytest.raises(ValueError, match="ExpertChoiceRouter: top_k must be"):
        ExpertChoiceRouter(3, 4, eval_top_k=9)


@pytest.mark.parametrize("name", ROUTERS)
@pytest.mark.parametrize("shape", [(5, 2), (3,)])
def test_bad_width(name, shape):
    message = r"Router routes rows of 3 numbers, got a tensor of shape \(.*n_inputs"
    with pytest.raises(ValueError, match=message):
        ROUTERS[name](3, 4)(torch.zeros(shape))


@pytest.mark.parametrize("training", [True, False])
def test_expert_choice_of_one_row(training):
    router = ExpertChoiceRouter(3, 4).train(training)
    with pytest.raises(ValueError, match=r"batch of one row.*not causal.*eval_top_k"):
        router(torch.zeros(1, 3))
