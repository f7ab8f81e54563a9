"""Choices and slots by kernels, beside sorts in torch: run with ``-m gpu``."""

import pytest
import torch

from skmoe.nn.routing import _slots

pytestmark = pytest.mark.gpu
KINDS = ("softmax", "renormalised", "sigmoid")


def routed(*args):
    from skmoe.nn.kernels._route_kernel import routed

    return routed(*args)


def by_sorting(logits, k, kind):
    """Return what `routed` does, by a stable sort in float64."""
    index = logits.detach().sort(dim=1, descending=True, stable=True).indices[:, :k]
    proba, chosen = logits.softmax(1), logits.gather(1, index)
    weight = {
        "softmax": proba.gather(1, index),
        "renormalised": chosen.softmax(1),
        "sigmoid": chosen.sigmoid(),
    }[kind]
    return weight, index, logits.logsumexp(1), proba.sum(0)


def drawn(n, n_experts):
    generator = torch.Generator().manual_seed(0)
    logits = 3.0 * torch.randn(n, n_experts, generator=generator)
    logits[3] = 1.0  # all equal
    logits[4, n_experts // 2 :] = logits[4].max() + 1.0
    return logits


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize(
    ("n", "n_experts"), [(3000, 64), (1000, 5), (301, 700), (60, 4096), (999, 2)]
)
def test_choices_weights_and_gradients(n, n_experts, k, kind):
    logits = drawn(n, n_experts)
    slow = logits.double().requires_grad_()
    fast = logits.cuda().requires_grad_()
    own, expected = routed(fast, k, kind), by_sorting(slow, k, kind)
    assert torch.equal(own[1].cpu(), expected[1])
    own, expected = own[:1] + own[2:], expected[:1] + expected[2:]
    generator = torch.Generator().manual_seed(1)
    grads = [torch.randn(part.shape, generator=generator) for part in expected]
    torch.autograd.backward(own, [grad.cuda() for grad in grads])
    torch.autograd.backward(expected, [grad.double() for grad in grads])
    pairs = [*zip(own, expected, strict=True), (fast.grad, slow.grad)]
    for a, b in pairs:
        torch.testing.assert_close(a.cpu().double(), b, rtol=2e-5, atol=2e-6)


def test_one_expert():
    weight, index, _, total = routed(torch.randn(70, 1, device="cuda"), 1, "softmax")
    assert not index.any()
    assert (weight == 1.0).all()
    assert total.item() == 70.0


def test_choices_exist_and_differ_whatever_the_logits_are():
    logits = drawn(100, 6)
    logits[0] = float("nan")
    logits[1, 2:] = float("nan")
    logits[2] = -float("inf")
    logits[3, 1:] = -float("inf")
    weight, index, *_ = routed(logits.cuda(), 2, "renormalised")
    assert ((index >= 0) & (index < 6)).all()
    assert (index[:, 0] != index[:, 1]).all()
    assert weight[:2].isnan().all()
    assert weight[3].tolist() == [1.0, 0.0]


def test_two_runs_are_equal_to_the_last_bit():
    logits = drawn(100_000, 64).cuda()
    pair = [routed(logits, 2, "softmax") for _ in range(2)]
    for a, b in zip(*pair, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(("k", "n_experts"), [(3, 5), (0, 5), (2, 1)])
def test_other_numbers_of_choices_are_refused(k, n_experts):
    with pytest.raises(ValueError, match=f"k={k} choices among {n_experts} experts"):
        routed(torch.zeros(7, n_experts, device="cuda"), k, "softmax")


def test_another_kind_is_refused():
    with pytest.raises(ValueError, match=r"kind='max' is no weight of a choice; use"):
        routed(torch.zeros(7, 3, device="cuda"), 1, "max")


def test_operation_is_registered_in_full():
    from skmoe.nn.kernels._route_kernel import routed

    logits = drawn(50, 5).cuda().requires_grad_()
    torch.library.opcheck(routed, (logits, 2, "softmax"))


@pytest.mark.parametrize("capacity", [None, 1, 17, 10**6])
@pytest.mark.parametrize(
    ("n", "k", "n_experts"),
    [(1, 1, 1), (5000, 1, 64), (2049, 2, 70), (700, 3, 5), (300, 2, 3000)],
)
def test_slots_equal_those_of_a_sort(n, k, n_experts, capacity):
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(n, n_experts, generator=generator) ** 3
    index = scores.topk(k).indices
    index[: n // 3, 0] = n_experts - 1
    for order in (None, torch.randperm(n, generator=generator)):
        moved = None if order is None else order.cuda()
        own = _slots.sorted_slots(index.cuda(), n_experts, capacity, moved)
        expected = _slots.sorted_slots(index, n_experts, capacity, order)
        for a, b in zip(own, expected, strict=True):
            assert torch.equal(a.cpu(), b)
