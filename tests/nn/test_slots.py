"""Slots: both maps, and the rows that move along them, against loops over choices."""

import numpy as np
import pytest
import torch

from skmoe.nn.routing._slots import MOST_CHOICES, combine, dispatch, sorted_slots
from tests.nn._slow_routing import served_in_turn

SHAPES = [(17, 1, 4), (23, 2, 5), (40, 3, 3), (9, 2, 300), (1, 1, 1), (6, 1, 1)]


def choices(n_rows, k, n_experts, seed=0):
    rng = np.random.default_rng(seed)
    index = [rng.permutation(n_experts)[:k] for _ in range(n_rows)]
    return torch.tensor(np.array(index).reshape(n_rows, k))


def assert_maps_agree(slots, index):
    """slot and source are inverse; kept slots are sorted by expert and compact."""
    flat, source = slots.slot.flatten().tolist(), slots.source.tolist()
    n_kept = int(slots.offsets[-1])
    assert [c for c in source[:n_kept] if flat[c] < 0] == []
    assert [flat[c] for c in source[:n_kept]] == list(range(n_kept))
    assert sorted(s for s in flat if s >= 0) == list(range(n_kept))
    assert source[n_kept:] == [-1] * (len(source) - n_kept)
    start = 0
    for e, end in enumerate(slots.offsets.tolist()):
        assert all(index.flatten()[c] == e for c in source[start:end])
        start = end


@pytest.mark.parametrize(("n_rows", "k", "n_experts"), SHAPES)
def test_without_capacity_all_are_kept_in_the_order_of_choices(n_rows, k, n_experts):
    index = choices(n_rows, k, n_experts)
    slots = sorted_slots(index, n_experts)
    assert_maps_agree(slots, index)
    flat = index.flatten().tolist()
    wanted = [c for e in range(n_experts) for c in range(n_rows * k) if flat[c] == e]
    assert slots.source.tolist() == wanted
    assert slots.load.tolist() == [flat.count(e) for e in range(n_experts)]
    assert {part.dtype for part in slots} == {torch.int32}


@pytest.mark.parametrize("with_order", [False, True])
@pytest.mark.parametrize("capacity", [1, 2, 5, 1000])
@pytest.mark.parametrize(("n_rows", "k", "n_experts"), SHAPES)
def test_capacity_serves_first_choices_first(
    n_rows, k, n_experts, capacity, with_order
):
    index = choices(n_rows, k, n_experts)
    order = None
    if with_order:
        order = torch.from_numpy(np.random.default_rng(1).permutation(n_rows))
    slots = sorted_slots(index, n_experts, capacity, order)
    assert_maps_agree(slots, index)
    served = None if order is None else order.tolist()
    kept, members = served_in_turn(index.numpy(), n_experts, capacity, served)
    assert ((slots.slot >= 0).numpy() == kept).all()
    assert slots.source[: kept.sum()].tolist() == [c for m in members for c in m]
    assert slots.offsets.tolist() == np.cumsum([len(m) for m in members]).tolist()
    assert slots.load.sum() == n_rows * k


def test_no_rows():
    slots = sorted_slots(torch.empty(0, 2, dtype=torch.int64), 3, 1)
    assert slots.offsets.tolist() == slots.load.tolist() == [0, 0, 0]
    x = torch.empty(0, 4, requires_grad=True)
    weight = torch.empty(0, 2, requires_grad=True)
    rows = dispatch(x, slots.source, slots.slot)
    y = combine(rows, weight, slots.source, slots.slot)
    y.sum().backward()
    assert rows.shape == y.shape == x.grad.shape == (0, 4)


@pytest.mark.parametrize("capacity", [None, 2, 100])
def test_rows_and_gradients_against_a_loop(capacity):
    index = choices(11, 2, 4)
    slots = sorted_slots(index, 4, capacity)
    generator = torch.Generator().manual_seed(0)
    x, weight, out, g_rows, g_y = (
        torch.randn(*shape, generator=generator, dtype=torch.float64)
        for shape in [(11, 3), (11, 2), (22, 5), (22, 3), (11, 5)]
    )
    for leaf in (x, weight, out):
        leaf.requires_grad_()
    rows = dispatch(x, slots.source, slots.slot)
    y = combine(out, weight, slots.source, slots.slot)
    slow_rows, slow_y = np.zeros((22, 3)), np.zeros((11, 5))
    slow_x, slow_weight, slow_out = (
        np.zeros((11, 3)),
        np.zeros((11, 2)),
        np.zeros((22, 5)),
    )
    for t in range(11):
        for j in range(2):
            s = int(slots.slot[t, j])
            if s >= 0:
                slow_rows[s] = x[t].detach()
                slow_y[t] += (weight[t, j] * out[s]).detach().numpy()
                slow_x[t] += g_rows[s].numpy()
                slow_weight[t, j] = float(g_y[t] @ out[s].detach())
                slow_out[s] = (weight[t, j] * g_y[t]).detach()
    assert np.array_equal(rows.detach(), slow_rows)
    np.testing.assert_allclose(y.detach(), slow_y, rtol=1e-14)
    torch.autograd.backward([rows, y], [g_rows, g_y])
    np.testing.assert_allclose(x.grad, slow_x, rtol=1e-14)
    np.testing.assert_allclose(weight.grad, slow_weight, rtol=1e-13)
    np.testing.assert_allclose(out.grad, slow_out, rtol=1e-14)


@pytest.mark.parametrize("capacity", [None, 2])
def test_gradcheck(capacity):
    slots = sorted_slots(choices(7, 2, 3), 3, capacity)
    x = torch.randn(7, 2, dtype=torch.float64, requires_grad=True)
    weight = torch.rand(7, 2, dtype=torch.float64, requires_grad=True)

    def there_and_back(x, weight):
        rows = dispatch(x, slots.source, slots.slot)
        return combine(rows**2, weight, slots.source, slots.slot)

    assert torch.autograd.gradcheck(there_and_back, (x, weight))


def test_what_is_behind_the_last_slot_never_leaks():
    slots = sorted_slots(torch.zeros(5, 1, dtype=torch.int64), 2, 3)
    x = torch.randn(5, 2, requires_grad=True)
    weight = torch.rand(5, 1, requires_grad=True)
    rows = dispatch(x, slots.source, slots.slot)
    assert rows[3:].tolist() == [[0.0, 0.0]] * 2
    out = rows.detach().clone()
    out[3:] = torch.nan
    out.requires_grad_()
    y = combine(out, weight, slots.source, slots.slot)
    assert y[3:].tolist() == [[0.0, 0.0]] * 2
    y.sum().backward()
    assert weight.grad[3:].tolist() == [[0.0], [0.0]]
    assert out.grad[3:].tolist() == [[0.0, 0.0]] * 2
    assert y.isfinite().all()
    assert weight.grad.isfinite().all()
    poison = torch.where(torch.arange(5)[:, None] < 3, 1.0, torch.nan)
    rows.backward(poison.expand(5, 2))
    assert x.grad.tolist() == [[1.0, 1.0]] * 3 + [[0.0, 0.0]] * 2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sums_of_short_numbers_are_in_float32(dtype):
    # 256 + 1 is 256 in bfloat16, 2048 + 1 is 2048 in float16.
    big = 256.0 if dtype == torch.bfloat16 else 2048.0
    slots = sorted_slots(torch.arange(4)[None], 4)
    out = torch.tensor([[big], [1.0], [1.0], [-big]], dtype=dtype)
    y = combine(out, torch.ones(1, 4), slots.source, slots.slot)
    assert y.dtype == dtype
    assert y.item() == 2.0
    x = torch.zeros(1, 1, dtype=dtype, requires_grad=True)
    dispatch(x, slots.source, slots.slot).backward(out)
    assert x.grad.item() == 2.0


@pytest.mark.parametrize("capacity", [None, 2])
def test_operations_are_what_torch_expects(capacity):
    index = choices(6, 2, 3)
    torch.library.opcheck(torch.ops.skmoe.sorted_slots, (index, 3, capacity, None))
    slots = sorted_slots(index, 3, capacity)
    x = torch.randn(6, 4, requires_grad=True)
    out = torch.randn(12, 4, requires_grad=True)
    weight = torch.rand(6, 2, requires_grad=True)
    torch.library.opcheck(torch.ops.skmoe.dispatch, (x, slots.source, slots.slot))
    torch.library.opcheck(
        torch.ops.skmoe.combine, (out, weight, slots.source, slots.slot)
    )


@pytest.mark.parametrize("capacity", [None, 3])
def test_outputs_that_are_wider_than_weights(capacity):
    slots = sorted_slots(choices(9, 2, 4), 4, capacity)
    generator = torch.Generator().manual_seed(0)
    weight = torch.rand(9, 2, generator=generator).requires_grad_()
    out = torch.randn(18, 3, generator=generator, dtype=torch.float64).requires_grad_()
    y = combine(out, weight, slots.source, slots.slot)
    found = torch.autograd.grad(y.square().sum(), (out, weight))
    wide = weight.detach().double().requires_grad_()
    y = combine(out, wide, slots.source, slots.slot)
    wanted = torch.autograd.grad(y.square().sum(), (out, wide))
    assert [part.dtype for part in found] == [torch.float64, torch.float32]
    torch.testing.assert_close(found[0], wanted[0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found[1], wanted[1].float())


def test_choices_beyond_int32_are_refused():
    # Of stride 0: they take no memory.
    index = torch.zeros(1, 1, dtype=torch.int64).expand(MOST_CHOICES + 1, 1)
    with pytest.raises(ValueError, match="split the batch"):
        sorted_slots(index, 1)
