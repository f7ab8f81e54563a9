"""The row transformer: as a module, its attention by hand, and what it learns."""

import copy
import math

import numpy as np
import pytest
import torch
from scipy.special import softmax

from skmoe.nn import PiecewiseLinearEmbedding, RowTransformer
from skmoe.nn._attention import Block
from tests.nn.module_suite import ModuleSuite


class TestRowTransformer(ModuleSuite):
    name = "RowTransformer"
    numeric = "linear"

    def make_module(self, n_inputs=None, n_outputs=None, **options):
        n_inputs = self.n_inputs if n_inputs is None else n_inputs
        n_outputs = self.n_outputs if n_outputs is None else n_outputs
        options = {"width": 8, "heads": 2, "numeric": self.numeric, **options}
        return RowTransformer(n_inputs, n_outputs, **options)


class TestRowTransformerPiecewise(TestRowTransformer):
    numeric = "piecewise"


class TestRowTransformerPeriodicWithCategories(TestRowTransformer):
    numeric = "periodic"

    def make_module(self, n_inputs=None, n_outputs=None, **options):
        options = {"categories": {4: 2, 1: 3}, **options}
        return super().make_module(n_inputs, n_outputs, **options)

    def rows(self, n_rows=9):
        X = super().rows(n_rows)
        X[:, 1] = torch.arange(n_rows) % 3
        X[:, 4] = torch.arange(n_rows) % 2
        X[-1, 1] = math.nan
        return X


def attention_by_hand(block, tokens):
    """Return what attention adds to each token: head by head, token by token."""
    seen = block.norm_attention(tokens).detach()
    width = seen.shape[-1]
    size = width // block.heads
    query = block.query(seen).detach().numpy()
    both = block.key_value(seen).detach().numpy()
    key, value = both[..., :width], both[..., width:]
    found = np.zeros(query.shape)
    for row, token, head in np.ndindex(*query.shape[:2], block.heads):
        part = slice(head * size, (head + 1) * size)
        score = [query[row, token, part] @ k[part] for k in key[row]]
        share = softmax(np.array(score) / math.sqrt(size))
        found[row, token, part] = share @ value[row, :, part]
    return block.gather(torch.tensor(found)).detach()


def test_attention_is_the_formula():
    torch.manual_seed(0)
    block = Block(12, 3, 24, 0.0, class_only=False).double()
    tokens = torch.randn(2, 5, 12, dtype=torch.float64)
    middle = tokens + attention_by_hand(block, tokens)
    hidden = torch.nn.functional.gelu(block.widen(block.norm_hidden(middle)))
    torch.testing.assert_close(block(tokens), middle + block.narrow(hidden))


def test_last_block_skips_only_what_is_thrown_away():
    torch.manual_seed(0)
    block = Block(12, 3, 24, 0.0, class_only=True)
    whole = copy.deepcopy(block)
    whole.class_only = False
    tokens = torch.randn(4, 5, 12)
    assert block(tokens).shape == (4, 1, 12)
    torch.testing.assert_close(block(tokens), whole(tokens)[:, :1])
    module = RowTransformer(3, 1, depth=3)
    assert [b.class_only for b in module.transformer.blocks] == [False, False, True]


def test_tokens_are_columns():
    """Numbers come first, then codes; columns with equal weights may be swapped."""
    torch.manual_seed(0)
    module = RowTransformer(4, 2, categories={1: 3})
    assert module.category_columns == (1,)
    numbers, codes = module.encoder(torch.tensor([[0.5, 2.0, -1.0, 3.0]]))
    assert (numbers.shape, codes.shape) == ((1, 3, 32), (1, 1, 32))
    embedding = module.encoder.numbers
    for place, number in enumerate([0.5, -1.0, 3.0]):
        expected = number * embedding.weight[place] + embedding.bias[place]
        torch.testing.assert_close(numbers[0, place], expected)
    X = torch.tensor([[0.5, 2.0, -1.0, 3.0]])
    swapped = torch.tensor([[0.5, 2.0, 3.0, -1.0]])
    assert not torch.allclose(module(X), module(swapped))
    with torch.no_grad():
        embedding.weight[2] = embedding.weight[1]
        embedding.bias[2] = embedding.bias[1]
    torch.testing.assert_close(module(X), module(swapped))


def test_learn_sets_the_bins():
    module = RowTransformer(3, 1, numeric="piecewise", n_bins=4)
    X = torch.rand(50, 3)
    module.learn(X)
    alone = PiecewiseLinearEmbedding(3, n_bins=4)
    alone.learn(X)
    assert torch.equal(module.encoder.numbers.bins, alone.bins)
    RowTransformer(3, 1).learn(X)


def test_learns_a_product():
    """An interaction: no sum of functions of one column explains any of it."""
    torch.manual_seed(0)
    X = torch.randn(256, 2)
    y = X[:, 0].sign() * X[:, 1].sign()
    module = RowTransformer(2, 1, width=16, heads=2)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.005)
    for _ in range(150):
        optimizer.zero_grad()
        loss = (module(X)[:, 0] - y).square().mean()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 10, "heads": 4}, "a multiple of heads, got width=10 and heads=4"),
        ({"width": 0}, "RowTransformer: width must be an integer >= 1, got 0"),
        ({"depth": 0}, "RowTransformer: depth must be an integer >= 1, got 0"),
        ({"heads": 1.0}, "RowTransformer: heads must be an integer >= 1, got 1.0"),
        ({"numeric": None}, "numeric must be one of 'linear', 'piecewise', 'periodic'"),
        ({"categories": {5: 2}}, "RowTransformer: a column of categories must be an"),
    ],
)
def test_refuses_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        RowTransformer(3, 1, **options)
