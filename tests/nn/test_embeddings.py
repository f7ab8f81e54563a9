"""Embeddings against loops written from the papers, and their edge cases."""

import copy
import math

import numpy as np
import pytest
import torch

from skmoe.nn import CategoryEmbedding, PeriodicEmbedding, PiecewiseLinearEmbedding
from skmoe.nn._embeddings import LinearEmbedding


@pytest.fixture(autouse=True)
def _own_random_state():
    """Fix torch's global state, which initial weights are drawn from."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        yield


def encoded_by_definition(x, edges):
    """Return the encoding of one number, equation 1 of the paper, bin by bin."""
    n_bins = len(edges) - 1
    code = []
    for t in range(1, n_bins + 1):
        if x < edges[t - 1] and t > 1:
            code.append(0.0)
        elif x >= edges[t] and t < n_bins:
            code.append(1.0)
        else:
            code.append((x - edges[t - 1]) / (edges[t] - edges[t - 1]))
    return code


def quantiles_by_count(values, n_bins, weight=None):
    """Return distinct quantiles: the smallest value with enough rows up to it."""
    repeats = np.ones(len(values), int) if weight is None else weight
    rows = np.repeat(values, repeats)
    edges = []
    for t in range(n_bins + 1):
        share = [(rows <= v).sum() * n_bins for v in np.unique(rows)]
        edges.append(np.unique(rows)[np.array(share) >= t * len(rows)][0])
    return np.unique(edges)


class TestPiecewiseLinear:
    def make(self, n_columns=3, **options):
        return PiecewiseLinearEmbedding(n_columns, 4, **options).double()

    def test_encoding_is_the_definition(self):
        X = torch.randn(57, 3, dtype=torch.float64)
        new = torch.cat([X, 3 * torch.randn(40, 3, dtype=torch.float64)])
        embedding = self.make(n_bins=5)
        embedding.learn(X)
        code = embedding.encode(new)
        assert code.shape == (97, 3, 5)
        for column in range(3):
            edges = quantiles_by_count(X[:, column].numpy(), 5)
            numbers = new[:, column].tolist()
            expected = [encoded_by_definition(x, edges) for x in numbers]
            np.testing.assert_allclose(code[:, column], expected, atol=1e-12)
        assert (code < 0).any()
        assert (code > 1).any()

    def test_output_is_linear_in_the_encoding(self):
        embedding, X = self.make(n_bins=5), torch.randn(11, 3, dtype=torch.float64)
        code = embedding.encode(X)
        for row in range(11):
            for column in range(3):
                expected = (
                    code[row, column] @ embedding.weight[column]
                    + embedding.bias[column]
                )
                torch.testing.assert_close(embedding(X)[row, column], expected)

    def test_weight_is_repetition(self):
        X = torch.randn(40, 3, dtype=torch.float64)
        weight = torch.arange(40) % 4
        weighted, repeated, counted = (self.make(n_bins=6) for _ in range(3))
        weighted.learn(X, weight.double())
        repeated.learn(X.repeat_interleave(weight, dim=0))
        assert torch.equal(weighted.bins, repeated.bins)
        counted.learn(X)
        assert not torch.equal(weighted.bins, counted.bins)
        edges = quantiles_by_count(X[:, 0].numpy(), 6, weight.numpy())
        np.testing.assert_allclose(weighted.bins[0, 0], edges[:-1])

    def test_order_of_rows_is_nothing(self):
        X = torch.randn(40, 3)
        one, other = self.make(), self.make()
        one.learn(X)
        other.learn(X.flip(0))
        assert torch.equal(one.bins, other.bins)

    def test_constant_column_is_zero(self):
        X = torch.randn(30, 3, dtype=torch.float64)
        X[:, 1] = 7.25
        embedding = self.make()
        embedding.learn(X)
        new = 100 * torch.randn(20, 3, dtype=torch.float64)
        assert torch.equal(embedding.encode(new)[:, 1], torch.zeros(20, 16).double())
        assert embedding.encode(new)[:, [0, 2]].abs().sum(2).min() > 0
        torch.testing.assert_close(
            embedding(new)[:, 1], embedding.bias[1].expand(20, -1)
        )

    def test_few_values_make_few_bins(self):
        X = torch.tensor([0.0, 0, 0, 1, 1, 4], dtype=torch.float64)[:, None]
        embedding = self.make(1, n_bins=6)
        embedding.learn(X)
        new = [-1.0, 0.0, 0.5, 1.0, 2.5, 4.0, 7.0]
        code = embedding.encode(torch.tensor(new, dtype=torch.float64)[:, None])[:, 0]
        expected = [encoded_by_definition(x, [0.0, 1.0, 4.0]) for x in new]
        np.testing.assert_allclose(code[:, :2], expected)
        assert code[:, 2:].abs().max() == 0

    def test_rounding_is_no_bin(self):
        """Values that differ in the last bits only would make slopes of 1e8."""
        X = torch.full((64, 1), 1000.0)
        X[::2] = torch.nextafter(X[::2], torch.tensor(math.inf))
        embedding = PiecewiseLinearEmbedding(1)
        embedding.learn(X)
        assert embedding.encode(X + 5.0).abs().max() == 0

    def test_is_continuous_and_goes_on_outside(self):
        embedding = self.make(1)
        embedding.learn(torch.randn(200, 1, dtype=torch.float64))
        line = torch.linspace(-9, 9, 20001, dtype=torch.float64)[:, None]
        height = embedding(line)[:, 0]
        step = height.diff(dim=0).abs().amax(1)
        slope = embedding.bins[1, 0].max() * embedding.weight.abs().max()
        assert step.max() <= slope * 18 / 20000 + 1e-12
        assert step[0] > 0
        assert step[-1] > 0

    def test_before_learning_bins_are_those_of_a_normal(self):
        embedding = PiecewiseLinearEmbedding(2, n_bins=4)
        normal = [-3.0, -0.6744898, 0.0, 0.6744898, 3.0]
        X = torch.tensor([[-4.0, 0.3], [0.5, 5.0]])
        expected = [encoded_by_definition(x, normal) for x in X.flatten().tolist()]
        code = embedding.encode(X).flatten(0, 1)
        np.testing.assert_allclose(code, expected, atol=1e-6)
        assert PiecewiseLinearEmbedding(2, n_bins=1).encode(X)[0, 0] == -1 / 6

    def test_state_carries_the_bins(self):
        one, other, X = self.make(), self.make(), torch.randn(30, 3).double()
        shapes = {name: v.shape for name, v in one.state_dict().items()}
        one.learn(X.round())
        assert {name: v.shape for name, v in one.state_dict().items()} == shapes
        other.load_state_dict(one.state_dict())
        assert torch.equal(one(X), other(X))

    def test_learning_leaves_copies_alone(self):
        embedding = self.make()
        other, before = copy.deepcopy(embedding), embedding.bins.clone()
        other.learn(torch.rand(30, 3))
        assert torch.equal(embedding.bins, before)
        assert not torch.equal(other.bins, before)
        assert not other.bins.requires_grad

    def test_refuses_nothing_to_learn_from(self):
        embedding = self.make()
        with pytest.raises(ValueError, match="learn needs a row of positive weight"):
            embedding.learn(torch.randn(4, 3), torch.zeros(4))
        with pytest.raises(ValueError, match=r"expected rows of shape \(n_rows, 3\)"):
            embedding.learn(torch.randn(4, 2))


class TestPeriodic:
    def test_is_the_formula(self):
        embedding = PeriodicEmbedding(3, 4, n_frequencies=5, frequency_scale=0.7)
        X = torch.randn(20, 3)
        c, w, b = (
            p.detach().numpy().astype(float)
            for p in (embedding.frequency, embedding.weight, embedding.bias)
        )
        for row in range(20):
            for column in range(3):
                angle = 2 * np.pi * c[column] * float(X[row, column])
                waves = np.concatenate([np.sin(angle), np.cos(angle)])
                expected = np.maximum(waves @ w[column] + b[column], 0.0)
                np.testing.assert_allclose(
                    embedding(X)[row, column].detach(), expected, atol=1e-5
                )

    def test_frequencies_have_the_scale(self):
        frequency = PeriodicEmbedding(40, n_frequencies=50, frequency_scale=0.3)
        draws = frequency.frequency.detach()
        assert draws.std().item() == pytest.approx(0.3, rel=0.1)
        assert abs(draws.mean().item()) < 0.03


class TestCategory:
    def test_each_code_has_its_vector(self):
        embedding = CategoryEmbedding([3, 2], 4)
        assert embedding.weight.shape == (3 + 1 + 2 + 1, 4)
        X = torch.tensor([[0.0, 0], [1, 1], [2, 0]])
        vectors = embedding(X)
        assert vectors.shape == (3, 2, 4)
        table = embedding.weight
        for row in range(3):
            assert torch.equal(vectors[row, 0], table[1 + int(X[row, 0])])
            assert torch.equal(vectors[row, 1], table[5 + int(X[row, 1])])

    @pytest.mark.parametrize(
        "odd", [math.nan, -1.0, -0.5, 3.0, 1.5, 1e9, math.inf, -math.inf, -1e30]
    )
    def test_all_else_is_unknown(self, odd):
        embedding = CategoryEmbedding([3, 2], 4)
        with torch.no_grad():
            embedding.weight.copy_(torch.randn(7, 4))
        vectors = embedding(torch.full((1, 2), odd))[0]
        assert torch.equal(vectors[0], embedding.weight[0])
        assert torch.equal(vectors[1], embedding.weight[4])

    def test_unknown_starts_at_zero_and_learns(self):
        embedding = CategoryEmbedding(3, 4)
        vectors = embedding(torch.tensor([[math.nan], [1.0]]))
        assert vectors[0].abs().max() == 0
        assert vectors[1].abs().max() > 0
        vectors.sum().backward()
        assert embedding.weight.grad.sum(1).tolist() == [4.0, 0.0, 4.0, 0.0]

    def test_float_codes_are_exact_up_to_the_limit(self):
        embedding = CategoryEmbedding(2**24, 1)
        last = torch.tensor([[2.0**24 - 1], [2.0**24 - 2]])
        assert torch.equal(embedding(last)[:, 0], embedding.weight[[-1, -2]])

    def test_refuses_codes_beyond_float32(self):
        with pytest.raises(ValueError, match="tells at most 2\\^24 codes apart"):
            CategoryEmbedding([2, 2**24 + 1])


@pytest.mark.parametrize(
    "make",
    [
        lambda: LinearEmbedding(2, 3),
        lambda: PiecewiseLinearEmbedding(2, 3, n_bins=4),
        lambda: PeriodicEmbedding(2, 3, n_frequencies=4),
        lambda: CategoryEmbedding([4, 5], 3),
    ],
    ids=["linear", "piecewise", "periodic", "category"],
)
def test_gradients(make):
    embedding = make().double()
    names, values = zip(*embedding.named_parameters(), strict=True)
    codes = isinstance(embedding, CategoryEmbedding)
    X = torch.randint(0, 4, (5, 2)) if codes else torch.randn(5, 2)
    X = X.double().requires_grad_(not codes)

    def call(X, *values):
        state = dict(zip(names, values, strict=True))
        return torch.func.functional_call(embedding, state, (X,))

    assert torch.autograd.gradcheck(call, (X, *values))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PiecewiseLinearEmbedding(0), "n_columns must be an integer >= 1"),
        (lambda: PiecewiseLinearEmbedding(2, 0), "embedding_size must be an integer"),
        (lambda: PiecewiseLinearEmbedding(2, n_bins=1.5), "n_bins must be an integer"),
        (lambda: PeriodicEmbedding(2, n_frequencies=0), "n_frequencies must be an int"),
        (
            lambda: PeriodicEmbedding(2, frequency_scale=0.0),
            "frequency_scale must be a number > 0, got 0.0",
        ),
        (
            lambda: PeriodicEmbedding(2, frequency_scale=math.inf),
            "frequency_scale must be a number > 0, got inf",
        ),
        (
            lambda: PeriodicEmbedding(2, frequency_scale="1"),
            "frequency_scale must be a number > 0, got '1'",
        ),
        (lambda: CategoryEmbedding([3, 0]), "n_categories must be an integer >= 1"),
        (lambda: CategoryEmbedding("34"), "n_categories must hold integers >= 1"),
        (lambda: CategoryEmbedding([]), "number of columns must be an integer >= 1"),
    ],
)
def test_refuses_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "embedding",
    [PiecewiseLinearEmbedding(3), PeriodicEmbedding(3), CategoryEmbedding([2, 2, 2])],
)
def test_refuses_other_columns(embedding):
    with pytest.raises(ValueError, match=r"expected rows of shape \(n_rows, 3\)"):
        embedding(torch.zeros(5, 2))
