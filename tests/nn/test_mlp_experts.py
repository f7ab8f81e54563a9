"""Perceptrons as grouped products, against one expert after the other."""

import copy
from itertools import pairwise

import pytest
import torch
from torch.nn import functional as F

from skmoe.nn import MLPExperts
from skmoe.nn.routing._activation import ACTIVATIONS, GATED
from skmoe.nn.routing._grouped import grouped_linear

OFFSETS = [3, 3, 10, 17]
N_SLOTS = 20


def offsets_of(ends):
    return torch.tensor(ends, dtype=torch.int32)


def one_by_one(experts, rows, ends):
    """Return what the experts make of the rows in front of the last end."""
    act = {
        "gelu": F.gelu,
        "relu": F.relu,
        "silu": F.silu,
        "tanh": torch.tanh,
        "swiglu": lambda h: F.silu(h[:, : h.shape[1] // 2]) * h[:, h.shape[1] // 2 :],
        "geglu": lambda h: F.gelu(h[:, : h.shape[1] // 2]) * h[:, h.shape[1] // 2 :],
    }[experts.activation]
    parts = []
    for e, (begin, end) in enumerate(pairwise([0, *ends])):
        h = rows[begin:end] @ experts.w1[e]
        h = act(h if experts.b1 is None else h + experts.b1[e])
        out = h @ experts.w2[e]
        parts.append(out if experts.b2 is None else out + experts.b2[e])
    return torch.cat(parts)


def made(activation="gelu", bias=True, n_experts=4):
    torch.manual_seed(0)
    experts = MLPExperts(n_experts, 5, 7, 3, activation, bias).double()
    return experts, torch.randn(N_SLOTS, 5, dtype=torch.float64)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_experts_are_perceptrons(activation, bias):
    experts, rows = made(activation, bias)
    rows.requires_grad_()
    out = experts(rows, offsets_of(OFFSETS))
    assert out.shape == (N_SLOTS, 3)
    want = one_by_one(experts, rows, OFFSETS)
    torch.testing.assert_close(out[:17], want)
    grad = torch.randn_like(want)
    leaves = [rows, *experts.parameters()]
    assert len(leaves) == (5 if bias else 3)
    ours = torch.autograd.grad(out[:17], leaves, grad)
    theirs = torch.autograd.grad(want, leaves, grad)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("activation", ["tanh", "swiglu"])
def test_gradients(activation):
    experts, rows = made(activation)
    names = ["w1", "b1", "w2", "b2"]

    def function(rows, *params):
        state = dict(zip(names, params, strict=True))
        return torch.func.functional_call(experts, state, (rows, offsets_of(OFFSETS)))

    params = [getattr(experts, name).detach().requires_grad_() for name in names]
    assert torch.autograd.gradcheck(function, (rows.requires_grad_(), *params))


@pytest.mark.parametrize(
    ("n_experts", "ends"),
    [(1, [20]), (1, [0]), (3, [0, 20, 20]), (4, [0, 0, 0, 0]), (2, [0, 20])],
)
def test_empty_experts_get_no_gradient(n_experts, ends):
    experts, rows = made(n_experts=n_experts)
    out = experts(rows, offsets_of(ends))[: ends[-1]]
    torch.testing.assert_close(out, one_by_one(experts, rows, ends))
    out.sum().backward()
    for e, (begin, end) in enumerate(pairwise([0, *ends])):
        for param in experts.parameters():
            assert bool((param.grad[e] != 0).any()) == (end > begin)


def test_nothing_behind_the_last_offset_is_read():
    experts, rows = made()
    clean = experts(rows, offsets_of(OFFSETS))[:17]
    clean.square().sum().backward()
    wanted = [param.grad for param in experts.parameters()]
    experts = copy.deepcopy(experts)
    experts.zero_grad()
    rows[17:] = torch.nan
    rows.requires_grad_()
    out = experts(rows, offsets_of(OFFSETS))
    assert torch.equal(out[:17], clean)
    grad = 2 * out.detach()
    grad[17:] = torch.nan
    out.backward(grad)
    for param, want in zip(experts.parameters(), wanted, strict=True):
        torch.testing.assert_close(param.grad, want)
    assert rows.grad[:17].isfinite().all()


def test_no_rows():
    experts, rows = made()
    out = experts(rows[:0], offsets_of([0, 0, 0, 0]))
    assert out.shape == (0, 3)
    out.sum().backward()
    assert not experts.w1.grad.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_types(dtype):
    experts, rows = made("geglu")
    want = experts(rows, offsets_of(OFFSETS))[:17]
    out = experts.to(dtype)(rows.to(dtype), offsets_of(OFFSETS))
    assert out.dtype == dtype
    error = 1e-5 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(out[:17].double(), want, atol=error, rtol=error)


def test_autocast():
    experts, rows = made()
    want = experts(rows, offsets_of(OFFSETS))[:17]
    experts, rows = experts.float(), rows.float()
    with torch.autocast("cpu", torch.bfloat16):
        out = experts(rows, offsets_of(OFFSETS))
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out[:17].double(), want, atol=2e-2, rtol=2e-2)
    out[:17].sum().backward()
    assert experts.w1.grad.dtype == torch.float32


def test_compiles_as_one_graph():
    experts, rows = made()
    compiled = torch.compile(experts, fullgraph=True)
    rows.requires_grad_()
    out = compiled(rows, offsets_of(OFFSETS))[:17]
    torch.testing.assert_close(out, one_by_one(experts, rows, OFFSETS))
    out.square().sum().backward()
    ours = [rows.grad, *(param.grad for param in experts.parameters())]
    want = one_by_one(experts, rows, OFFSETS).square().sum()
    theirs = torch.autograd.grad(want, [rows, *experts.parameters()])
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)
    # Other loads are no other graph.
    with torch.compiler.set_stance("fail_on_recompile"):
        compiled(rows, offsets_of([5, 9, 9, 20]))


def test_starts_like_linear_layers():
    torch.manual_seed(0)
    experts = MLPExperts(2, 100, 400)
    assert experts.n_outputs == 100
    for weight, bias in ((experts.w1, experts.b1), (experts.w2, experts.b2)):
        bound = weight.shape[1] ** -0.5
        assert weight.abs().max().item() == pytest.approx(bound, rel=1e-3)
        assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)
        assert 0.9 * bound < bias.abs().max().item() <= bound


def test_what_it_says_of_itself():
    text = repr(MLPExperts(4, 5, 7, activation="swiglu", bias=False))
    assert "n_experts=4, n_inputs=5, n_hidden=7, n_outputs=5" in text
    assert "activation='swiglu', bias=False" in text
    assert MLPExperts(4, 5, 7, activation="swiglu").w1.shape == (4, 5, 14)
    assert {"swiglu", "geglu"} == GATED


@pytest.mark.parametrize("name", ["n_experts", "n_inputs", "n_hidden", "n_outputs"])
def test_numbers_are_checked(name):
    arguments = {"n_experts": 2, "n_inputs": 3, "n_hidden": 4, "n_outputs": 5}
    with pytest.raises(ValueError, match=f"MLPExperts: {name} must be an integer >= 1"):
        MLPExperts(**arguments | {name: 0})


def test_activation_is_checked():
    with pytest.raises(ValueError, match=r"activation must be one of 'gelu'.*'elu'"):
        MLPExperts(2, 3, 4, activation="elu")


def test_rows_are_checked():
    experts, rows = made()
    with pytest.raises(ValueError, match=r"expected rows of shape \(n_slots, 5\)"):
        experts(rows[:, :4], offsets_of(OFFSETS))
    with pytest.raises(ValueError, match=r"offsets must be of shape \(4,\).*\(3,\)"):
        experts(rows, offsets_of(OFFSETS[1:]))
    with pytest.raises(ValueError, match=r"rows are torch.float32 but weights torch.f"):
        experts(rows.float(), offsets_of(OFFSETS))


def test_linear_maps_are_checked():
    rows, weight = torch.zeros(4, 3), torch.zeros(2, 3, 5)
    ends = offsets_of([1, 4])
    with pytest.raises(ValueError, match=r"rows must be of shape \(n_slots, n_inputs"):
        grouped_linear(rows.T, weight, ends)
    with pytest.raises(ValueError, match=r"bias must be of shape .*= \(2, 5\), got"):
        grouped_linear(rows, weight, ends, torch.zeros(2, 3))
