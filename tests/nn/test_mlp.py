"""The multilayer perceptron: as a module, its layers, columns, and what it learns."""

import copy
import math
import subprocess
import sys

import numpy as np
import pytest
import torch

from skmoe.nn import MLP, PiecewiseLinearEmbedding
from tests.nn.module_suite import ModuleSuite, stacked


class TestMLP(ModuleSuite):
    name = "MLP"

    def make_module(self, n_inputs=None, n_outputs=None, **options):
        n_inputs = self.n_inputs if n_inputs is None else n_inputs
        n_outputs = self.n_outputs if n_outputs is None else n_outputs
        return MLP(n_inputs, n_outputs, **{"hidden": (8, 5), **options})


class TestMLPWithLayerNorm(TestMLP):
    def make_module(self, n_inputs=None, n_outputs=None, **options):
        options = {"layer_norm": True, "activation": "gelu", **options}
        return super().make_module(n_inputs, n_outputs, **options)


class MLPOfMixedColumns(TestMLP):
    """Columns 1 and 4 hold codes; among them a NaN."""

    __test__ = False
    numeric = None

    def make_module(self, n_inputs=None, n_outputs=None, **options):
        options = {"categories": {4: 2, 1: 3}, "numeric": self.numeric, **options}
        return super().make_module(n_inputs, n_outputs, **options)

    def rows(self, n_rows=9):
        X = super().rows(n_rows)
        X[:, 1] = torch.arange(n_rows) % 3
        X[:, 4] = torch.arange(n_rows) % 2
        X[-1, 1] = math.nan
        return X


class TestMLPWithCategories(MLPOfMixedColumns):
    __test__ = True


class TestMLPPiecewise(MLPOfMixedColumns):
    __test__ = True
    numeric = "piecewise"


class TestMLPPeriodic(MLPOfMixedColumns):
    __test__ = True
    numeric = "periodic"


def test_is_its_layers_by_hand():
    module = MLP(3, 2, hidden=[4, 5], activation="tanh").double()
    X = torch.randn(7, 3, dtype=torch.float64)
    hidden = X.numpy()
    weights = [p.detach().numpy() for p in module.parameters()]
    for weight, bias in zip(weights[:4:2], weights[1:4:2], strict=True):
        hidden = np.tanh(hidden @ weight.T + bias)
    expected = hidden @ weights[4].T + weights[5]
    np.testing.assert_allclose(module(X).detach(), expected, atol=1e-12)


def test_layer_norm_forgets_the_scale_of_a_layer():
    X = torch.randn(7, 3)
    for layer_norm in (False, True):
        module = MLP(3, 2, hidden=8, layer_norm=layer_norm)
        before = module(X)
        with torch.no_grad():
            module.body[0].weight *= 100
            module.body[0].bias *= 100
        near = torch.allclose(module(X), before, rtol=1e-2, atol=1e-2)
        assert near == layer_norm


def test_hidden_forms():
    def widths(hidden):
        layers = MLP(3, 2, hidden=hidden).body
        return [m.out_features for m in layers if isinstance(m, torch.nn.Linear)]

    assert widths(7) == [7, 2]
    assert widths([7, 6]) == [7, 6, 2]
    assert widths(np.array([7, 6])) == [7, 6, 2]
    assert widths(()) == [2]


def test_columns_go_where_they_belong():
    """Columns 0, 2, 3 are numbers; 1 and 4 codes, given in any order."""
    module = MLP(5, 1, categories=((4, 2), (1, 3)), embedding_size=6)
    assert module.category_columns == (1, 4)
    X = torch.tensor([[0.5, 2, -1.0, 3.0, 1]])
    numbers, codes = module.encoder(X)
    assert numbers.tolist() == [[0.5, -1.0, 3.0]]
    table = module.encoder.codes.weight
    assert torch.equal(codes[0], table[[1 + 2, 4 + 1 + 1]].detach())
    assert MLP(5, 1).category_columns == ()


def test_all_columns_may_be_codes():
    module = MLP(2, 1, categories={0: 3, 1: 3}, numeric="piecewise")
    assert module(torch.tensor([[0.0, 1.0], [2.0, math.nan]])).shape == (2, 1)
    module.learn(torch.zeros(4, 2))


def test_unknown_category_is_not_the_first():
    module = MLP(1, 1, categories={0: 3})
    raw = module(torch.tensor([[0.0], [math.nan], [-1.0], [3.0]]))[:, 0]
    assert raw[1] == raw[2] == raw[3]
    assert raw[0] != raw[1]


def test_learn_sets_the_bins_of_numbers_only():
    module = MLP(3, 1, categories={1: 2}, numeric="piecewise", n_bins=4)
    X = torch.rand(50, 3)
    X[:, 1] = torch.arange(50) % 2
    weight = torch.arange(50) % 3
    module.learn(X, weight)
    alone = PiecewiseLinearEmbedding(2, n_bins=4)
    alone.learn(X[:, [0, 2]], weight)
    assert torch.equal(module.encoder.numbers.bins, alone.bins)
    with pytest.raises(ValueError, match=r"MLP: expected rows of shape \(n_rows, 3\)"):
        module.learn(X[:, :2])


@pytest.mark.parametrize("numeric", [None, "periodic"])
def test_learn_is_nothing_without_bins(numeric):
    module = MLP(3, 1, numeric=numeric)
    before = copy.deepcopy(module.state_dict())
    module.learn(torch.rand(50, 3))
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])


def test_copies_with_bins_of_their_own_stack():
    modules = [MLP(2, 1, numeric="piecewise") for _ in range(2)]
    modules[0].learn(torch.rand(30, 2))
    modules[1].learn(torch.rand(30, 2).round())
    X = torch.rand(5, 2)
    together, _ = stacked(modules)
    apart = torch.stack([m(X) for m in modules])
    torch.testing.assert_close(together(X), apart, rtol=1e-6, atol=1e-6)


def trained_error(seed, **options):
    """Return the mean squared error on sin(4 x) after 300 steps of Adam."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        X = 6 * torch.rand(256, 1) - 3
        y = torch.sin(4 * X)
        module = MLP(1, 1, hidden=(16,), **options)
        module.learn(X)
        optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
        for _ in range(300):
            optimizer.zero_grad()
            loss = (module(X) - y).square().mean()
            loss.backward()
            optimizer.step()
    return loss.item()


@pytest.mark.parametrize("numeric", ["piecewise", "periodic"])
def test_embeddings_learn_waves(numeric):
    """A sine of four waves, which a small plain network barely bends to."""
    scale = {"frequency_scale": 0.5} if numeric == "periodic" else {"n_bins": 32}
    for seed in range(2):
        plain = trained_error(seed)
        embedded = trained_error(seed, numeric=numeric, **scale)
        assert embedded < 0.05
        assert embedded < 0.2 * plain


def test_categories_learn_what_numbers_cannot():
    """An effect of the code that is not monotone in it."""
    torch.manual_seed(0)
    effect = torch.tensor([1.0, -2.0, 3.0, -1.0, 0.5, -3.0])
    X = torch.arange(6.0)[:, None]
    module = MLP(1, 1, hidden=(), categories={0: 6})
    optimizer = torch.optim.Adam(module.parameters(), lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        (module(X)[:, 0] - effect).square().mean().backward()
        optimizer.step()
    torch.testing.assert_close(module(X)[:, 0], effect, atol=0.05, rtol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": (8, 0)}, "MLP: hidden must be an integer >= 1, got 0"),
        ({"hidden": 2.5}, "MLP: hidden must be an integer >= 1, got 2.5"),
        ({"hidden": "64"}, "MLP: hidden must hold integers >= 1, got '64'"),
        ({"activation": "softmax"}, "MLP: activation must be one of 'gelu', 'relu'"),
        ({"numeric": "spline"}, "MLP: numeric must be one of None, 'piecewise'"),
        ({"embedding_size": 0}, "MLP: embedding_size must be an integer >= 1, got 0"),
        ({"categories": {3: 2}}, "integer from 0 to 2, got 3"),
        ({"categories": {-1: 2}}, "integer from 0 to 2, got -1"),
        ({"categories": {"sex": 2}}, "integer from 0 to 2, got 'sex'"),
        ({"categories": {0: 0}}, r"MLP: categories\[0\] must be an integer >= 1"),
        ({"categories": 3}, "must be {column: number of categories}, got 3"),
        ({"categories": [0, 1]}, r"must be {column: number of categories}, got \[0"),
    ],
)
def test_refuses_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        MLP(3, 1, **options)


def test_torch_missing_names_the_extra():
    code = """
import sys
class NoTorch:
    def find_spec(name, path=None, target=None):
        if name == "torch":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, NoTorch)
import skmoe.nn
"""
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert "ImportError: skmoe.nn needs torch: pip install 'skmoe[torch]'" in run.stderr
