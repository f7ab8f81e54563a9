"""Rows to slots and back on a CUDA device: run with ``-m gpu``."""

import pytest
import torch

if not torch.cuda.is_available():
    pytest.skip("needs a CUDA device", allow_module_level=True)
pytest.importorskip("triton")

from skmoe.nn import DenseRouter, ExpertChoiceRouter
from skmoe.nn.kernels import _slot_kernel
from skmoe.nn.kernels._slot_kernel import combine_backward, rows_to_slots, slots_to_rows
from skmoe.nn.routing._slots import sorted_slots

pytestmark = pytest.mark.gpu
ERROR = {
    torch.float64: 1e-12,
    torch.float32: 1e-5,
    torch.bfloat16: 2e-2,
    torch.float16: 4e-3,
}
CASES = [(50, 2, 5, 20, 15), (33, 1, 3, 17, None), (7, 1, 1, 1, 3)]
CASES += [(65, 4, 8, 1030, 30), (3000, 2, 64, 1024, 80)]


def made(n_rows, k, n_experts, width, capacity, dtype):
    torch.manual_seed(0)
    index = torch.rand(n_rows, n_experts, device="cuda").topk(k, dim=1).indices
    slots = sorted_slots(index, n_experts, capacity)
    wide = torch.promote_types(dtype, torch.float32)
    weight = torch.rand(n_rows, k, device="cuda", dtype=wide)
    out = torch.randn(n_rows * k, width, device="cuda").to(dtype)
    # Nothing may come of what stands behind the last offset.
    out[int(slots.offsets[-1]) :] = torch.nan
    return slots, weight, out


@pytest.mark.parametrize("dtype", list(ERROR))
@pytest.mark.parametrize("case", CASES)
def test_slots_are_rows(case, dtype):
    slots, _, _ = made(*case, dtype)
    n_rows, k, _, width, _ = case
    x = torch.randn(n_rows, width, device="cuda").to(dtype)
    filled = (slots.source >= 0)[:, None]
    want = torch.where(filled, x[slots.source.clamp(min=0).long() // k], 0.0)
    assert torch.equal(rows_to_slots(x, slots.source, k), want)


@pytest.mark.parametrize("dtype", list(ERROR))
@pytest.mark.parametrize("case", CASES)
def test_rows_are_weighted_sums_of_slots(case, dtype):
    slots, weight, out = made(*case, dtype)
    kept = (slots.slot >= 0)[..., None]
    each = out.double().nan_to_num()[slots.slot.clamp(min=0).long()] * kept
    near = {"atol": 4 * ERROR[dtype], "rtol": ERROR[dtype]}
    ours = slots_to_rows(out, slots.slot, weight)
    want = (each * weight.double()[..., None]).sum(1)
    torch.testing.assert_close(ours.double(), want, **near)
    ours = slots_to_rows(out, slots.slot, None)
    torch.testing.assert_close(ours.double(), each.sum(1), **near)


@pytest.mark.parametrize("dtype", list(ERROR))
@pytest.mark.parametrize("case", CASES)
def test_gradients_of_slots_and_weights(case, dtype):
    slots, weight, out = made(*case, dtype)
    n_rows, _, _, width, _ = case
    grad = torch.randn(n_rows, width, device="cuda").to(dtype)
    leaves = [out.double().nan_to_num().requires_grad_()]
    leaves.append(weight.double().requires_grad_())
    kept = (slots.slot >= 0)[..., None]
    each = leaves[0][slots.slot.clamp(min=0).long()] * kept
    total = (each * leaves[1][..., None]).sum(1)
    want = torch.autograd.grad(total, leaves, grad.double())
    ours = combine_backward(grad, out, slots.source, slots.slot, weight)
    near = {"atol": ERROR[dtype], "rtol": ERROR[dtype]}
    torch.testing.assert_close(ours[0].double(), want[0], **near)
    # Products of 16-bit numbers are exact in float32, and so nearly are their sums.
    small = ERROR[dtype] if dtype == torch.float64 else 1e-4
    torch.testing.assert_close(ours[1].double(), want[1], atol=small, rtol=small)


def test_no_rows():
    empty = torch.empty(0, 2, dtype=torch.int32, device="cuda")
    x, weight = torch.empty(0, 8, device="cuda"), torch.empty(0, 2, device="cuda")
    assert rows_to_slots(x, empty.flatten(), 2).shape == (0, 8)
    assert slots_to_rows(x, empty, weight).shape == (0, 8)
    ours = combine_backward(x, x, empty.flatten(), empty, weight)
    assert [tuple(part.shape) for part in ours] == [(0, 8), (0, 2)]


@pytest.mark.parametrize("router", [ExpertChoiceRouter(3, 8), DenseRouter(3, 64)])
@pytest.mark.parametrize("width", [1, 5])
def test_gradients_where_rows_have_any_number_of_slots(monkeypatch, router, width):
    torch.manual_seed(0)
    plan = router.cuda()(torch.randn(37, 3, device="cuda"))
    n_slots, weight = len(plan.source), plan.weight.detach()
    out = torch.randn(n_slots, width, device="cuda", requires_grad=True)
    grad = torch.randn(37, width, device="cuda")
    # Behind the slots is what must be neither read nor written.
    source = torch.full((n_slots + 4096,), -1, dtype=torch.int32, device="cuda")
    source[:n_slots] = plan.source
    margins = []

    def empty_like(like):
        memory = like.new_full((like.numel() + 4096 * width,), 7.0)
        margins.append(memory[like.numel() :])
        return memory[: like.numel()].view(like.shape)

    monkeypatch.setattr(_slot_kernel.torch, "empty_like", empty_like)
    ours = combine_backward(grad, out.detach(), source[:n_slots], plan.slot, weight)
    monkeypatch.undo()
    assert all((margin == 7.0).all() for margin in margins)
    weight.requires_grad_()
    kept = (plan.slot >= 0)[..., None]
    each = out[plan.slot.clamp(min=0).long()] * kept * weight[..., None]
    want = torch.autograd.grad(each.sum(1), (out, weight), grad)
    for one, other in zip(ours, want, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
