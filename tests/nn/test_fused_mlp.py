"""Experts of two layers in one operation: beside float64 loops, on CPU and GPU."""

import warnings

import pytest
import torch
from torch.nn import functional

from skmoe.nn.routing._fused_mlp import ACTIVATIONS, fused_mlp, worth_fusing
from skmoe.nn.routing._slots import sorted_slots

ACTS = {
    "relu": torch.relu,
    "gelu": functional.gelu,
    "silu": functional.silu,
    "tanh": torch.tanh,
}


def made(n, k, E, d, H, o, *, bias=True, dtype=torch.float64, capacity=None):
    """Return x, weights and slots; expert 1 and the last one have no rows."""
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    weights = [drawn(E, d, H), drawn(E, H), drawn(E, H, o), drawn(E, o)]
    if not bias:
        weights[1] = weights[3] = None
    index = torch.rand(n, E - 1, generator=generator).topk(k).indices
    index[index == 1] = E // 2
    slots = sorted_slots(index, E, capacity)
    return drawn(n, d), weights, index, slots


def looped(x, weights, index, slot, activation):
    """Return the output of each choice, one after the other, in float64."""
    w1, b1, w2, b2 = (None if w is None else w.double() for w in weights)
    out = torch.zeros(*index.shape, w2.shape[2], dtype=torch.float64)
    for t, row in enumerate(index.tolist()):
        for j, e in enumerate(row):
            if slot[t, j] >= 0:
                z = x[t].double() @ w1[e]
                value = ACTS[activation](z if b1 is None else z + b1[e]) @ w2[e]
                out[t, j] = value if b2 is None else value + b2[e]
    return out


def with_gradients(x, weights, slots, k, activation, device, may_drop=True):
    """Return the output and the gradients of x and all weights, on the CPU."""
    leaves = [
        None if part is None else part.to(device).requires_grad_()
        for part in (x, *weights)
    ]
    source, offsets = slots.source.to(device), slots.offsets.to(device)
    out = fused_mlp(leaves[0], source, k, offsets, *leaves[1:], activation, may_drop)
    seed = torch.Generator().manual_seed(1)
    grad = torch.randn(out.shape, generator=seed, dtype=torch.float64).to(out)
    used = [leaf for leaf in leaves if leaf is not None]
    parts = [out.detach(), *torch.autograd.grad(out, used, grad)]
    return [part.cpu() for part in parts]


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("bias", [True, False])
def test_equals_a_loop_over_choices(activation, bias):
    x, weights, index, slots = made(50, 2, 5, 7, 6, 3, bias=bias, capacity=12)
    assert (slots.slot < 0).any()
    out = fused_mlp(x, slots.source, 2, slots.offsets, *weights, activation)
    expected = looped(x, weights, index, slots.slot, activation)
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("activation", ["gelu", "silu", "tanh"])
@pytest.mark.parametrize("capacity", [None, 3])
def test_gradients_are_those_of_differences(activation, capacity):
    x, weights, _, slots = made(9, 2, 4, 3, 4, 2, capacity=capacity)
    leaves = [part.requires_grad_() for part in (x, *weights)]

    def layer(x, *weights):
        return fused_mlp(x, slots.source, 2, slots.offsets, *weights, activation)

    assert torch.autograd.gradcheck(layer, leaves)


def test_gradient_of_relu_equals_that_of_a_loop():
    x, weights, index, slots = made(40, 1, 4, 5, 6, 2)
    own = with_gradients(x, weights, slots, 1, "relu", "cpu")[1:]
    leaves = [part.requires_grad_() for part in (x, *weights)]
    parts = [
        torch.relu(x[t] @ leaves[1][e] + leaves[2][e]) @ leaves[3][e] + leaves[4][e]
        for t, (e,) in enumerate(index.tolist())
    ]
    out = torch.stack(parts)[:, None]
    seed = torch.Generator().manual_seed(1)
    grad = torch.randn(out.shape, generator=seed, dtype=out.dtype)
    for a, b in zip(own, torch.autograd.grad(out, leaves, grad), strict=True):
        torch.testing.assert_close(a, b)


def test_operation_is_registered_in_full():
    x, weights, _, slots = made(9, 2, 4, 3, 4, 2)
    args = (x.requires_grad_(), slots.source, 2, slots.offsets, *weights, "gelu", True)
    torch.library.opcheck(fused_mlp, args)


def test_no_rows():
    x, weights, _, slots = made(9, 2, 4, 3, 4, 2)
    none = torch.zeros_like(slots.offsets)
    out = fused_mlp(x[:0], slots.source[:0], 2, none, *weights, "gelu")
    assert out.shape == (0, 2, 2)


def test_another_activation_is_refused():
    x, weights, _, slots = made(9, 2, 4, 3, 4, 2)
    with pytest.raises(ValueError, match=r"activation='swish' has no fused form; use"):
        fused_mlp(x, slots.source, 2, slots.offsets, *weights, "swish")


def test_one_bias_alone_is_refused():
    x, weights, _, slots = made(9, 2, 4, 3, 4, 2)
    weights[3] = None
    with pytest.raises(ValueError, match="one bias is given and the other is None"):
        fused_mlp(x, slots.source, 2, slots.offsets, *weights, "gelu")


def test_only_narrow_float32_layers_are_worth_it():
    assert worth_fusing(20, 32, 8, 64, torch.float32)
    assert not worth_fusing(20, 32, 8, 64, torch.float64)
    assert not worth_fusing(200, 256, 8, 64, torch.float32)
    assert worth_fusing(200, 256, 8, 64, torch.float32, gradients=False)
    assert not worth_fusing(1024, 4096, 1024, 8, torch.float32)


SHAPES = [(700, 1, 6, 20, 32, 8), (333, 2, 9, 7, 40, 3), (130, 2, 70, 70, 16, 17)]


@pytest.mark.gpu
@pytest.mark.parametrize("shape", [*SHAPES, (5000, 1, 4, 200, 100, 8)])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("bias", [True, False])
def test_kernels_equal_the_loop_over_experts(shape, activation, bias):
    n, k = shape[:2]
    options = {"bias": bias, "dtype": torch.float32}
    for capacity in (None, n * k // 10):
        x, weights, _, slots = made(*shape, **options, capacity=capacity)
        may_drop = capacity is not None
        own = with_gradients(x, weights, slots, k, activation, "cuda", may_drop)
        wide = [None if w is None else w.double() for w in weights]
        slow = with_gradients(x.double(), wide, slots, k, activation, "cpu")
        for a, b in zip(own, slow, strict=True):
            assert (a - b).norm() <= 5e-6 * b.norm()


@pytest.mark.gpu
def test_kernels_write_every_number(monkeypatch):
    x, weights, _, slots = made(*SHAPES[1], dtype=torch.float32)
    empty = torch.Tensor.new_empty

    def poisoned(self, *args, **kwargs):
        new = empty(self, *args, **kwargs)
        return new.fill_(float("nan")) if new.is_floating_point() else new

    monkeypatch.setattr(torch.Tensor, "new_empty", poisoned)
    parts = with_gradients(x, weights, slots, 2, "gelu", "cuda", may_drop=False)
    assert all(part.isfinite().all() for part in parts)


@pytest.mark.gpu
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_what_is_not_a_number_stays_none(activation):
    x, weights, _, slots = made(*SHAPES[1], dtype=torch.float32)
    x[3] = torch.nan
    x, weights = x.cuda(), [part.cuda() for part in weights]
    source, offsets = slots.source.cuda(), slots.offsets.cuda()
    out = fused_mlp(x, source, 2, offsets, *weights, activation)
    assert out[3].isnan().all()
    assert out[4:].isfinite().all()


@pytest.mark.gpu
def test_two_runs_are_equal_to_the_last_bit():
    x, weights, _, slots = made(20_000, 2, 9, 20, 32, 8, dtype=torch.float32)
    one, two = (with_gradients(x, weights, slots, 2, "silu", "cuda") for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.gpu
def test_rounding_is_what_torch_allows():
    x, weights, _, slots = made(4000, 1, 4, 32, 32, 8, dtype=torch.float32)
    exact = with_gradients(x, weights, slots, 1, "relu", "cuda")[0]
    matmul = torch.backends.cuda.matmul
    before, matmul.fp32_precision = matmul.fp32_precision, "tf32"
    try:
        rounded = with_gradients(x, weights, slots, 1, "relu", "cuda")[0]
    finally:
        matmul.fp32_precision = before
    error = float((rounded - exact).norm() / exact.norm())
    assert 1e-5 < error < 5e-3


@pytest.mark.gpu
def test_no_wait_for_the_host():
    x, weights, _, slots = made(4000, 2, 9, 20, 32, 8, dtype=torch.float32)
    leaves = [part.cuda().requires_grad_() for part in (x, *weights)]
    source, offsets = slots.source.cuda(), slots.offsets.cuda()

    def step():
        out = fused_mlp(leaves[0], source, 2, offsets, *leaves[1:], "gelu", False)
        return torch.autograd.grad(out.square().sum(), leaves)

    step()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the mode may overlook something
        torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_compiles_without_a_break(device):
    x, weights, _, slots = made(4000, 2, 9, 20, 32, 8, dtype=torch.float32)
    parts = x, slots.source, slots.offsets, *weights
    moved = [part.to(device) for part in parts]

    def layer(x, source, offsets, *weights):
        return 2.0 * fused_mlp(x, source, 2, offsets, *weights, "gelu", False)

    expected = layer(*moved)
    fast = torch.compile(layer, fullgraph=True, backend="aot_eager")
    assert torch.equal(fast(*moved), expected)
