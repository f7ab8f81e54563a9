"""What keeps experts busy alike, against the formulas of the papers."""

import numpy as np
import pytest
import torch

from skmoe.nn import (
    DenseRouter,
    ExpertChoiceRouter,
    NoisyTopKRouter,
    SoftRouter,
    SwitchRouter,
    TopKRouter,
)
from skmoe.nn.routing._router_losses import (
    cv_squared,
    deviation_loss,
    importance_loss,
    load_loss,
    smooth_load,
    switch_loss,
    z_loss,
)
from tests.nn import _slow_routing as slow


@pytest.fixture(autouse=True)
def _same_numbers():
    """Seed torch, which draws the weights."""
    torch.manual_seed(0)


def numbers(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def logits(router, x):
    return x.detach().double().numpy() @ router.weight.detach().double().numpy().T


# -- formulas ----------------------------------------------------------------------


def test_coefficient_of_variation():
    values = numbers(7).exp()
    expected = slow.shazeer_cv_squared(values.tolist())
    assert cv_squared(values).item() == pytest.approx(expected, rel=1e-12)
    assert cv_squared(values[:1]).item() == 0.0
    zeros = torch.zeros(3, requires_grad=True)
    cv_squared(zeros).backward()
    assert zeros.grad.tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("k", [1, 2, 4])
def test_importance(k):
    gates = slow.shazeer_gates(numbers(50, 5).numpy(), k)
    expected = slow.shazeer_cv_squared(gates.sum(axis=0))
    ours = importance_loss(torch.from_numpy(gates))
    assert ours.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("k", [1, 2, 4, 5])
def test_load_against_a_loop(k):
    clean, scale = numbers(40, 5), numbers(40, 5, seed=1).exp()
    noisy = clean + scale * numbers(40, 5, seed=2)
    expected = slow.shazeer_load(clean.numpy(), noisy.numpy(), scale.numpy(), k)
    load = smooth_load(clean, noisy, scale, k)
    np.testing.assert_allclose(load, expected, rtol=1e-10)
    assert load_loss(clean, noisy, scale, k).item() == pytest.approx(
        slow.shazeer_cv_squared(expected), rel=1e-9, abs=1e-20
    )


@pytest.mark.parametrize("k", [1, 2, 5])
def test_load_is_k_times_the_rows_in_expectation(k):
    # Given the noise of the others, each term is an expert's probability to be chosen.
    n_rows = 20_000
    clean, scale = numbers(n_rows, 6), numbers(n_rows, 6, seed=1).exp()
    noisy = clean + scale * numbers(n_rows, 6, seed=2)
    load = smooth_load(clean, noisy, scale, k)
    assert load.sum().item() == pytest.approx(k * n_rows, rel=0.01)
    chosen = torch.zeros(6, dtype=torch.float64)
    for e in noisy.topk(k, dim=1).indices.T:
        chosen += e.bincount(minlength=6)
    np.testing.assert_allclose(load, chosen, rtol=0.05)


@pytest.mark.parametrize("k", [1, 3])
def test_load_has_the_gradient_of_its_differences(k):
    clean, scale = numbers(6, 4).requires_grad_(), numbers(6, 4, seed=1).exp()
    draws = numbers(6, 4, seed=2)

    def load(clean, scale):
        return smooth_load(clean, clean + scale * draws, scale, k)

    assert torch.autograd.gradcheck(load, (clean, scale.requires_grad_()))


def test_load_with_ties():
    # All alike and no noise drawn: each is exactly at the threshold.
    same = torch.zeros(10, 4, dtype=torch.float64)
    assert smooth_load(same, same, same + 1.0, 2).tolist() == [5.0] * 4


def test_switch():
    probabilities = numbers(60, 5).softmax(dim=1)
    load = probabilities.argmax(dim=1).bincount(minlength=5)
    expected = slow.switch_loss(probabilities.numpy())
    ours = switch_loss(probabilities, load)
    assert ours.item() == pytest.approx(expected, rel=1e-12)
    even = torch.full((5, 5), 0.2)
    assert switch_loss(even, torch.ones(5, dtype=torch.int32)).item() == (
        pytest.approx(1.0)
    )
    # All to one expert: the largest value, the number of experts.
    one = torch.eye(5)[[0, 0, 0]]
    assert switch_loss(one, torch.tensor([3, 0, 0, 0, 0])).item() == 5.0


def test_z():
    values = 3.0 * numbers(30, 4)
    expected = slow.z_loss(values.tolist())
    assert z_loss(values).item() == pytest.approx(expected, rel=1e-12)
    assert z_loss(values + 1000.0).isfinite()


def test_deviation():
    probabilities = numbers(30, 4).softmax(dim=1)
    expected = 4 * np.std(probabilities.mean(dim=0).numpy())
    assert deviation_loss(probabilities).item() == pytest.approx(expected, rel=1e-6)
    even = torch.full((3, 4), 0.25, requires_grad=True)
    deviation_loss(even).backward()
    assert even.grad.isfinite().all()


# -- what routers make of them -----------------------------------------------------

EACH = {"importance": 0.5, "switch": 0.2, "deviation": 0.3, "z": 0.1}


def test_losses_of_top_k():
    x = numbers(40, 6)
    router = TopKRouter(6, 5, 2, losses=EACH)
    plan = router(x)
    L = logits(router, x)
    P = np.array([slow.softmax(row) for row in L])
    gates = slow.shazeer_gates(L, 2)  # equals Mixtral's
    f = np.zeros(5)
    for row in L:
        f[slow.best_of(row, 2)] += 1 / 80
    expected = {
        "importance": 0.5 * slow.shazeer_cv_squared(gates.sum(axis=0)),
        "switch": 0.2 * 5 * f @ P.mean(axis=0),
        "deviation": 0.3 * 5 * P.mean(axis=0).std(),
        "z": 0.1 * slow.z_loss(L),
    }
    assert {n: v.item() for n, v in plan.losses.items()} == (
        pytest.approx(expected, rel=1e-6)
    )


def test_loss_of_switch():
    x = numbers(40, 6)
    router = SwitchRouter(6, 5, capacity_factor=0.5)
    P = np.array([slow.softmax(row) for row in logits(router, x)])
    # f counts what rows wanted, before any is dropped.
    expected = 0.01 * slow.switch_loss(P)
    assert router(x).losses["switch"].item() == pytest.approx(expected, rel=1e-9)


def test_overflow_does_not_hide_a_load_that_is_uneven():
    # "next" evens out what experts get: the loss is of what rows wanted.
    x = numbers(64, 4)
    router = SwitchRouter(4, 8, capacity_factor=1.0, overflow="next", bias_rate=0.1)
    router.loss_weights = {"switch": 0.01}
    with torch.no_grad():
        router.weight[0] += 3.0
    plan = router(x)
    assert plan.statistics["kept"].tolist() == [8] * 8
    P = np.array([slow.softmax(row) for row in logits(router, x)])
    expected = 0.01 * slow.switch_loss(P)
    assert plan.losses["switch"].item() == pytest.approx(expected, rel=1e-6)
    wanted = np.bincount(P.argmax(axis=1), minlength=8)
    assert plan.load.tolist() == plan.statistics["load"].tolist() == wanted.tolist()
    mean = plan.load.double().mean()
    assert router.bias.tolist() == pytest.approx(
        (0.1 * (mean - plan.load).sign()).tolist()
    )


def test_losses_of_noisy_top_k():
    x = numbers(30, 6)
    router = NoisyTopKRouter(6, 5, 2, losses={"importance": 0.1, "load": 0.2})
    with torch.no_grad():
        router.weight.normal_()
        router.noise_weight.normal_()
    router.generator = torch.Generator().manual_seed(3)
    plan = router(x)
    draws = numbers(30, 5, seed=3).numpy()
    clean = logits(router, x)
    raw = x.numpy() @ router.noise_weight.detach().double().numpy().T
    scale = np.log1p(np.exp(raw)) + 0.01
    noisy = clean + scale * draws
    gates = slow.shazeer_gates(noisy, 2)
    ours = np.zeros((30, 5))
    np.put_along_axis(ours, plan.index.numpy(), plan.weight.detach().numpy(), axis=1)
    np.testing.assert_allclose(ours, gates, atol=1e-12)
    importance = slow.shazeer_cv_squared(gates.sum(axis=0))
    load = slow.shazeer_cv_squared(slow.shazeer_load(clean, noisy, scale, 2))
    assert plan.losses["importance"].item() == pytest.approx(0.1 * importance)
    assert plan.losses["load"].item() == pytest.approx(0.2 * load)


@pytest.mark.parametrize(
    ("made", "losses"),
    [
        (TopKRouter, EACH),
        (SwitchRouter, EACH),
        (NoisyTopKRouter, {**EACH, "load": 0.1}),
        (DenseRouter, EACH),
        (ExpertChoiceRouter, {"z": 1.0}),
        (SoftRouter, {"z": 1.0}),
    ],
)
def test_losses_have_gradients_and_end_with_training(made, losses):
    router, x = made(3, 4, losses=losses), numbers(8, 3).float()
    losses = router(x).losses
    assert losses.keys() == router.loss_weights.keys()
    sum(losses.values()).backward()
    assert router.weight.grad.isfinite().all()
    assert router.weight.grad.abs().sum() > 0
    assert router(x[:0]).losses == {}
    assert router.eval()(x).losses == {}


def test_defaults():
    assert TopKRouter(3, 4).loss_weights == {"switch": 0.01}
    assert TopKRouter(3, 4, bias_rate=0.1).loss_weights == {}
    assert TopKRouter(3, 4, losses={"z": 0.0}).loss_weights == {}
    assert NoisyTopKRouter(3, 4).loss_weights == {"importance": 0.1, "load": 0.1}


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        ({"balance": 1.0}, "losses must be one of .*'switch'.*got 'balance'"),
        ({"switch": -0.1}, "weight of the loss 'switch' must be a number >= 0, got -0"),
        ({"z": float("nan")}, "must be a number >= 0, got nan"),
        ({"z": "much"}, "must be a number >= 0, got 'much'"),
        ({"load": 1.0}, "got 'load'"),
    ],
)
def test_bad_losses(losses, message):
    with pytest.raises(ValueError, match=message):
        TopKRouter(3, 4, losses=losses)
