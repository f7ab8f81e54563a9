"""Stacks: the same numbers as their copies one by one."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from skmoe.nn import MLP, RowTransformer, SmallCNN  # noqa: E402
from skmoe.nn._stack import Stack  # noqa: E402
from skmoe.nn._state import (  # noqa: E402
    build_module,
    first_state,
    seeded,
    structure,
)

CPU = torch.device("cpu")


class Branching(nn.Module):
    """Control flow on data, which vmap refuses."""

    def __init__(self, n_inputs, n_outputs):
        super().__init__()
        self.map = nn.Linear(n_inputs, n_outputs)

    def forward(self, X):
        return self.map(X) if X.mean() > -100.0 else X[:, :1]


class Normed(nn.Module):
    """Writes into its buffers while it is trained."""

    def __init__(self, n_inputs, n_outputs):
        super().__init__()
        self.norm = nn.BatchNorm1d(n_inputs)
        self.map = nn.Linear(n_inputs, n_outputs)

    def forward(self, X):
        return self.map(self.norm(X))


MODULES = [MLP, RowTransformer, SmallCNN, Branching, Normed]


def stacked(kind, size=3, n_inputs=4, n_outputs=2):
    modules = [build_module(kind, {}, n_inputs, n_outputs, k) for k in range(size)]
    shape = torch.zeros(0, dtype=torch.float64)
    states = [first_state(m, shape, k) for k, m in enumerate(modules)]
    return modules, Stack(modules[0], states, CPU)


@pytest.mark.parametrize("kind", MODULES)
@pytest.mark.parametrize("own", [False, True])
def test_equals_the_modules(kind, own):
    modules, stack = stacked(kind)
    X = torch.randn(3, 5, 4) if own else torch.randn(5, 4)
    got = stack.raw(X)
    assert got.shape == (3, 5, 2)
    for k, module in enumerate(modules):
        expected = module.eval()(X[k] if own else X)
        assert_allclose(got[k].detach(), expected.detach(), atol=1e-6)
    # Rows that all share are not batched: control flow on them is none on data.
    assert stack.looped == (kind is Branching and own)


@pytest.mark.parametrize("kind", MODULES)
def test_gradients_equal_those_of_the_modules(kind):
    modules, stack = stacked(kind)
    X = torch.randn(6, 4)
    loss = stack.raw(X, train=True).square().sum()
    gradients = torch.autograd.grad(loss, stack.trained)
    for k, module in enumerate(modules):
        module.train()(X).square().sum().backward()
        named = dict(module.named_parameters())
        for name, gradient in zip(stack.names, gradients, strict=True):
            assert_allclose(gradient[k], named[name].grad, atol=1e-4, rtol=1e-4)


def test_buffers_that_are_written_into_are_the_stacks():
    _, stack = stacked(Normed)
    stack.raw(torch.randn(6, 4) + 3.0, train=True)
    for part in stack.split([{}] * 3, stack.states[0].generator):
        assert float(part.buffers["norm.running_mean"].mean()) > 0.1
    for state in stack.states:
        assert float(state.buffers["norm.running_mean"].abs().max()) == 0.0


def test_dropout_differs_between_copies():
    modules = [build_module(MLP, {"dropout": 0.5}, 3, 1, 0) for _ in range(2)]
    states = [first_state(m, torch.zeros(0), 0) for m in modules]
    stack = Stack(modules[0], states, CPU)
    X = torch.randn(4, 3)
    assert torch.equal(*stack.raw(X))  # the same weights
    assert not torch.allclose(*stack.raw(X, train=True))


def test_frozen_parameters_are_not_trained():
    module = MLP(3, 1, hidden=4)
    module.body[0].weight.requires_grad_(False)
    stack = Stack(module, [first_state(module, torch.zeros(0), 0)] * 2, CPU)
    assert "body.0.weight" in stack.params
    assert "body.0.weight" not in stack.names


def test_split_gives_the_states_back():
    _, stack = stacked(Normed)
    parts = stack.split([{"a": k} for k in range(3)], stack.states[0].generator)
    for k, (part, state) in enumerate(zip(parts, stack.states, strict=True)):
        assert part.moments == {"a": k}
        for name, tensor in state.params.items():
            assert torch.equal(part.params[name], tensor)


def test_state_goes_through_tensors():
    _, stack = stacked(Normed)
    state = stack.states[1]
    again = stack.states[0].with_tensors(state.tensors())
    for name, tensor in state.tensors().items():
        assert torch.equal(again.tensors()[name], tensor), name
    assert not again.trained
    (after, *_) = stack.split([{}] * 3, state.generator)
    assert state.with_tensors(after.tensors()).trained
    assert after.packed().trained


def test_packed_state_shares_nothing():
    _, stack = stacked(MLP)
    part = stack.split([{}] * 3, stack.states[0].generator)[1]
    weight = part.packed().params["body.0.weight"]
    assert weight.untyped_storage().nbytes() == weight.nbytes
    assert part.params["body.0.weight"].untyped_storage().nbytes() == 3 * weight.nbytes


def test_seeded_leaves_the_generator_alone():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    with seeded(7):
        first = torch.rand(3)
    assert torch.equal(torch.rand(3), expected)
    with seeded(7):
        assert torch.equal(torch.rand(3), first)


def test_structure_tells_settings_apart():
    class Scaled(nn.Module):
        def __init__(self, factor):
            super().__init__()
            self.factor, self.map = factor, nn.Linear(2, 1)

    assert structure(Scaled(2.0)) == structure(Scaled(2.0))
    assert structure(Scaled(2.0)) != structure(Scaled(3.0))
    assert structure(MLP(3, 1)) != structure(MLP(3, 1, activation="tanh"))
    assert structure(MLP(3, 1)) != structure(MLP(3, 2))
    frozen = nn.Linear(2, 1)
    frozen.bias.requires_grad_(False)
    assert structure(frozen) != structure(nn.Linear(2, 1))
    words = ({"b", "a", "c"}, {"c", "b", "a"})
    assert structure(Scaled(words[0])) == structure(Scaled(words[1]))
    assert "set('a', 'b', 'c')" in structure(Scaled(words[0]))


class Holder(nn.Module):
    """Keeps something that is neither weight nor module."""

    def __init__(self, kept):
        super().__init__()
        self.kept, self.map = kept, nn.Linear(2, 1)


def scaled(factor):
    return lambda z: factor * z


TABLE = np.arange(3000.0)


@pytest.mark.parametrize(
    ("make", "other"),
    [
        (lambda: lambda z: 2.0 * z, lambda: lambda z: 3.0 * z),
        (lambda: scaled(2.0), lambda: scaled(3.0)),
        (lambda: partial(scaled(2.0), 1), lambda: partial(scaled(2.0), 2)),
        (lambda: SimpleNamespace(a=object()), lambda: SimpleNamespace(b=object())),
        (lambda: Wrapped(1.0), lambda: Wrapped(2.0)),
        (lambda: [Wrapped(1.0).method], lambda: [Wrapped(2.0).method]),
        (lambda: torch.tensor(TABLE), lambda: torch.tensor(TABLE + (TABLE == 1500.0))),
        (lambda: {"a": TABLE + 0}, lambda: {"a": TABLE + (TABLE == 1500.0)}),
    ],
    ids=[
        "lambda",
        "closure",
        "partial",
        "namespace",
        "object",
        "method",
        "tensor",
        "array",
    ],
)
def test_structure_tells_by_content_not_by_address(make, other):
    one, same = Holder(make()), Holder(make())
    assert one.kept is not same.kept
    assert structure(one) == structure(same)
    assert structure(one) != structure(Holder(other()))
    assert " at 0x" not in structure(one)


class Wrapped:
    """The repr of an object is its address."""

    def __init__(self, factor):
        self.factor, self.me = factor, self

    def method(self, z):
        return self.factor * z


def test_threads_share_no_weights():
    modules, _ = stacked(MLP, size=6)
    states = [first_state(m, torch.zeros(0), 0) for m in modules]
    X = torch.randn(20_000, 4)

    def predict(k):
        return Stack(modules[0], [states[k]], CPU).raw(X, train=k == 5).detach()

    expected = [predict(k) for k in range(6)]
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(predict, list(range(6)) * 4))
    for k, raw in enumerate(got):
        assert torch.equal(raw, expected[k % 6])


def test_stack_leaves_the_module_as_it_is():
    modules, stack = stacked(Normed)
    before = [id(part) for part in modules[0].parameters()]
    modules[0].eval()
    stack.raw(torch.randn(6, 4), train=True)
    assert not modules[0].norm.training
    assert [id(part) for part in modules[0].parameters()] == before
    # No copy of the weights is made.
    own = dict(stack.module.named_parameters())
    assert own["map.weight"] is modules[0].map.weight


def test_modules_that_cannot_be_trained():
    with pytest.raises(ValueError, match=r"module LazyLinear .*'weight'.*no size yet"):
        build_module(nn.LazyLinear(1), {}, 2, 1, 0)
    frozen = nn.Linear(2, 1).requires_grad_(False)
    with pytest.raises(ValueError, match="the module Linear has no parameter to train"):
        build_module(frozen, {}, 2, 1, 0)
    with pytest.raises(ValueError, match="the module Tanh has no parameter to train"):
        build_module(nn.Tanh, {}, 2, 1, 0)


def test_initial_weights_depend_on_the_seed():
    one, same, other = (build_module(MLP, {}, 3, 1, seed) for seed in (1, 1, 2))
    assert_array_equal(*(m.body[0].weight.detach() for m in (one, same)))
    assert not torch.allclose(one.body[0].weight, other.body[0].weight, atol=0.01)
