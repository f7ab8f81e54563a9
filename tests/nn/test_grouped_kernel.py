"""Experts of a mixture layer on a CUDA device: run with ``-m gpu``."""

import copy

import pytest
import torch

if not torch.cuda.is_available():
    pytest.skip("needs a CUDA device", allow_module_level=True)
pytest.importorskip("triton")

from skmoe.nn import MLPExperts
from skmoe.nn.kernels._group_sums_kernel import bias_gradient
from skmoe.nn.routing._activation import ACTIVATIONS
from skmoe.nn.routing._grouped import grouped_linear
from skmoe.nn.routing._wide_product import wide_product

pytestmark = [
    pytest.mark.gpu,
    # A process whose first product is in a backward pass, as in one test alone.
    pytest.mark.filterwarnings("ignore:.*no current CUDA context:UserWarning"),
]
OFFSETS = torch.tensor([300, 300, 431, 901], dtype=torch.int32)
N_SLOTS, N_KEPT = 1000, 901
# Relative to the largest value.
ERROR = {
    torch.float64: 1e-11,
    torch.float32: 2e-5,
    torch.bfloat16: 2e-2,
    torch.float16: 3e-3,
}


def assert_near(ours, want, dtype):
    assert ours.isfinite().all()
    error = (ours.double().cpu() - want.double().cpu()).abs().max()
    assert error <= ERROR[dtype] * want.abs().max()


def made(width, hidden, activation, bias, dtype):
    """Return experts of float64 on the host and of a type on the device, and rows."""
    torch.manual_seed(0)
    experts = MLPExperts(4, width, hidden, activation=activation, bias=bias)
    if bias and activation == "relu":
        # A rounded sum may fall on the other side of the knee: stay away from it.
        experts.b1.data = 8.0 * experts.b1.data.sign()
    there = experts.to(dtype).cuda()
    here = copy.deepcopy(there).cpu().double()
    rows = torch.randn(N_SLOTS, width).to(dtype)
    grad = torch.randn(N_SLOTS, width).to(dtype)
    return here, there, rows, grad


def gradients(experts, rows, grad):
    rows = rows.detach().requires_grad_()
    out = experts(rows, OFFSETS.to(rows.device))
    leaves = [rows, *experts.parameters()]
    found = torch.autograd.grad(out, leaves, grad)
    return out[:N_KEPT], found[0][:N_KEPT], *found[1:]


# Multiples of 64, of 8 (16 bytes in bfloat16), and of nothing.
@pytest.mark.parametrize("sizes", [(128, 192), (72, 40), (33, 77)])
@pytest.mark.parametrize("dtype", list(ERROR))
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_experts_are_those_of_the_host(activation, bias, dtype, sizes):
    here, there, rows, grad = made(*sizes, activation, bias, dtype)
    want = gradients(here, rows.double(), grad.double())
    rows[N_KEPT:] = grad[N_KEPT:] = torch.nan
    ours = gradients(there, rows.cuda(), grad.cuda())
    for one, other in zip(ours, want, strict=True):
        assert_near(one, other, dtype)
    with torch.no_grad():
        out = there(rows.cuda(), OFFSETS.cuda())[:N_KEPT]
    assert_near(out, want[0], dtype)
    again = gradients(there, rows.cuda(), grad.cuda())
    assert all(torch.equal(a, b) for a, b in zip(ours, again, strict=True))


@pytest.mark.parametrize("activation", ["gelu", "swiglu"])
@pytest.mark.parametrize("sizes", [(128, 192), (72, 40)])
def test_float32_that_may_be_rounded(monkeypatch, activation, sizes):
    here, there, rows, grad = made(*sizes, activation, True, torch.float32)
    want = gradients(here, rows.double(), grad.double())
    rows[N_KEPT:] = grad[N_KEPT:] = torch.nan
    rows, grad = rows.cuda(), grad.cuda()
    exact = gradients(there, rows, grad)[0]
    monkeypatch.setattr(torch.backends.cuda.matmul, "fp32_precision", "tf32")
    ours, again = gradients(there, rows, grad), gradients(there, rows, grad)
    assert not torch.equal(ours[0], exact)
    for parts in zip(ours, want, again, strict=True):
        one, other, twice = (part.double().cpu() for part in parts)
        assert (one - other).norm() <= 3e-3 * other.norm()
        assert torch.equal(one, twice)
    with torch.no_grad():
        out = there(rows, OFFSETS.cuda())[:N_KEPT].double().cpu()
    assert (out - want[0]).norm() <= 3e-3 * want[0].norm()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("activation", ["gelu", "swiglu"])
def test_experts_compile_as_one_graph(activation, dtype):
    _, there, rows, grad = made(128, 192, activation, True, dtype)
    rows, grad = rows.cuda(), grad.cuda()
    want = gradients(there, rows, grad)
    ours = gradients(torch.compile(there, fullgraph=True), rows, grad)
    for one, other in zip(ours, want, strict=True):
        assert_near(one, other, dtype)


@pytest.mark.filterwarnings("ignore:Synchronization debug mode:UserWarning")
def test_the_host_waits_for_nothing():
    _, there, rows, grad = made(128, 192, "gelu", True, torch.bfloat16)
    rows, grad, ends = rows.cuda().requires_grad_(), grad.cuda(), OFFSETS.cuda()
    there(rows, ends).backward(grad)
    torch.cuda.set_sync_debug_mode("error")
    try:
        there(rows, ends).backward(grad)
        there.requires_grad_(False)
        with torch.no_grad():
            there(rows, ends)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_autocast():
    here, there, rows, _ = made(128, 192, "gelu", True, torch.float32)
    with torch.autocast("cuda", torch.bfloat16):
        out = there(rows.cuda(), OFFSETS.cuda())
    assert out.dtype == torch.bfloat16
    assert_near(out[:N_KEPT], here(rows.double(), OFFSETS)[:N_KEPT], torch.bfloat16)
    out[:N_KEPT].float().square().sum().backward()
    assert there.w1.grad.dtype == torch.float32


def test_gradients_of_a_sum():
    _, there, rows, _ = made(128, 192, "gelu", True, torch.bfloat16)
    there(rows.cuda(), OFFSETS.cuda())[:N_KEPT].sum().backward()
    count = OFFSETS.diff(prepend=OFFSETS.new_zeros(1))
    want = count[:, None].expand(4, 128)
    assert_near(there.b2.grad, want, torch.bfloat16)


@pytest.mark.parametrize("n_experts", [1, 3, 1000])
def test_sums_of_many_experts(n_experts):
    torch.manual_seed(0)
    owner = torch.randint(n_experts, (5000,)).sort().values
    ends = torch.searchsorted(owner, torch.arange(n_experts), right=True).int()
    rows = torch.randn(5000, 70)
    want = torch.zeros(n_experts, 70).double().index_add(0, owner, rows.double())
    assert_near(bias_gradient(rows.cuda(), ends.cuda()), want, torch.float32)


def test_rows_that_start_anywhere():
    torch.manual_seed(0)
    rows = torch.randn(N_SLOTS * 128 + 1).bfloat16()[1:].view(N_SLOTS, 128)
    weight = torch.randn(4, 128, 64).bfloat16()
    want = grouped_linear(rows.double(), weight.double(), OFFSETS)
    shifted = torch.empty(N_SLOTS * 128 + 1, dtype=rows.dtype, device="cuda")
    shifted = shifted[1:].view(N_SLOTS, 128).copy_(rows)
    ours = grouped_linear(shifted, weight.cuda(), OFFSETS.cuda())
    assert_near(ours[:N_KEPT], want[:N_KEPT], torch.bfloat16)


@pytest.mark.parametrize("shape", [(16, 1), (1, 16)])
def test_one_column_in_or_out(shape):
    torch.manual_seed(0)
    rows = torch.randn(N_SLOTS, shape[0]).bfloat16()
    weight = torch.randn(4, *shape).bfloat16()
    found = []
    for kind, device in ((torch.float64, "cpu"), (torch.bfloat16, "cuda")):
        leaves = [part.to(device, kind).requires_grad_() for part in (rows, weight)]
        out = grouped_linear(*leaves, OFFSETS.to(device))[:N_KEPT]
        found.append(torch.autograd.grad(out.square().sum(), leaves))
    for ours, want in zip(found[1], found[0], strict=True):
        assert_near(ours[:N_KEPT], want[:N_KEPT], torch.bfloat16)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float32])
def test_wide_products_are_those_of_float64(kind):
    torch.manual_seed(0)
    rows = torch.randn(500, 256).bfloat16()
    weight, grad = torch.randn(6, 256).to(kind), torch.randn(500, 6)
    leaves = [rows.double().requires_grad_(), weight.double().requires_grad_()]
    want = leaves[0] @ leaves[1].T
    wanted = torch.autograd.grad(want, leaves, grad.double())
    leaves = [rows.cuda().requires_grad_(), weight.cuda().requires_grad_()]
    ours = wide_product(*leaves)
    assert ours.dtype == torch.float32
    assert_near(ours, want, torch.float32)
    found = torch.autograd.grad(ours, leaves, grad.cuda())
    assert [part.dtype for part in found] == [torch.bfloat16, kind]
    assert_near(found[0], wanted[0], torch.bfloat16)
    assert_near(found[1], wanted[1], kind)
