"""Starts of trees and the splits that they are made of."""

import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import adjusted_rand_score

from skmoe._tree import Tree
from skmoe.em._starts import StartData
from skmoe.em._tree_split import LEAST_ROWS, TreeSplitter
from skmoe.em._tree_starts import (
    SHARP,
    SOFT,
    TREE_KINDS,
    model_tree,
    recursive_shares,
    starts_of,
    tree_portfolio,
)

TREES = {
    "binary": Tree.complete([2, 2]),
    "mixed": Tree.complete([2, 3]),
    "ragged": Tree.from_nested([[0, [1, 2, 3]], 4]),
    "deep": Tree.complete([2] * 4),
}
all_trees = pytest.mark.parametrize("tree", TREES.values(), ids=TREES)


@pytest.fixture
def rng():
    return np.random.default_rng(23)


def standardised(columns, weight):
    mean = weight @ columns / weight.sum()
    spread = np.sqrt(weight @ (columns - mean) ** 2 / weight.sum())
    return (columns - mean) / np.where(spread > 0, spread, 1.0)


def start_data(X, y, weight, tree, n_classes=None):
    """Return what starts are made from, for rows that may be repeated."""
    indicators = None if n_classes is None else np.eye(n_classes)[y]
    target = y.reshape(len(y), -1) if indicators is None else indicators
    X = standardised(X, weight)
    return StartData(
        gate_X=X,
        expert_X=X,
        target=standardised(target, weight),
        weight=weight,
        n_experts=tree.n_leaves,
        indicators=indicators,
        variance_prior=(5.0, 0.05),
        tree=tree,
    )


def bent(rng, n=200, n_classes=None):
    """Rows whose lines change where either of two columns changes its sign."""
    X = rng.uniform(-1, 1, size=(n, 3))
    slope = np.where(X[:, 0] < 0, 5.0, -5.0) * np.where(X[:, 1] < 0, 1.0, 3.0)
    y = slope * X[:, 2] + 8.0 * (X[:, 0] < 0) + 0.1 * rng.normal(size=n)
    if n_classes:
        y = np.digitize(y, np.quantile(y, np.arange(1, n_classes) / n_classes))
    return X, y


# -- from shares to responsibilities -----------------------------------------------


@all_trees
def test_responsibilities_are_products_of_shares(tree, rng):
    shares = {}

    def share(rows, n_children):
        found = rng.dirichlet(np.ones(n_children), size=50).T
        shares[len(shares)] = (rows, found)
        return found

    resp = recursive_shares(tree, 50, share)
    assert_allclose(resp.sum(axis=0), 1.0)
    for k, leaf in enumerate(tree.leaves):
        expected = np.ones(50)
        for node, child in itertools.pairwise(tree.path(leaf)):
            found = shares[tree.inner.index(node)][1]
            expected *= found[tree.children[node].index(child)]
        assert_allclose(resp[k], expected)
    # Each node learns from the rows that its parent sends there: none twice.
    for node in tree.inner:
        rows, found = shares[tree.inner.index(node)]
        below = [
            shares[tree.inner.index(c)][0]
            for c in tree.children[node]
            if (tree.children[c])
        ]
        for other in below:
            assert set(other) <= set(rows)
        side = found[:, rows].argmax(axis=0)
        for child in tree.children[node]:
            if tree.children[child]:
                j = tree.children[node].index(child)
                assert_array_equal(shares[tree.inner.index(child)][0], rows[side == j])


@all_trees
@pytest.mark.parametrize("kind", sorted(TREE_KINDS))
@pytest.mark.parametrize("n_classes", [None, 3])
def test_every_kind_gives_responsibilities(tree, kind, n_classes, rng):
    X, y = bent(rng, n_classes=n_classes)
    data = start_data(X, y, np.ones(200), tree, n_classes)
    found = list(starts_of(kind, 2, data, np.random.RandomState(0)))
    assert len(found) == 2
    for start in found:
        assert start.resp.shape == (tree.n_leaves, 200)
        assert_allclose(start.resp.sum(axis=0), 1.0)
        assert (start.resp >= 0).all()
        # No leaf begins without anything.
        assert start.resp.sum(axis=1).min() > 0.5


@pytest.mark.parametrize("n_init", [1, 2, 3, 5, 9])
@pytest.mark.parametrize("init", ["auto", "tree", "random", "kmeans"])
def test_as_many_starts_as_asked_for(init, n_init, rng):
    X, y = bent(rng)
    data = start_data(X, y, np.ones(200), TREES["binary"])
    found = list(
        tree_portfolio(init, n_init, data, data.tree, np.random.RandomState(0))
    )
    assert len(found) == n_init
    kinds = {"auto": {"tree", "segments", "kmeans", "random"}}.get(init, {init})
    assert {start.name.removesuffix("_sharp") for start in found} <= kinds | {"random"}


def test_the_default_portfolio_has_every_kind_that_fits(rng):
    X, y = bent(rng)
    names = []
    for tree in (TREES["binary"], Tree.complete([2] * 6)):
        data = start_data(X, y, np.ones(200), tree)
        some = tree_portfolio("auto", None, data, tree, np.random.RandomState(0))
        names.append({start.name.removesuffix("_sharp") for start in some})
    assert names[0] == {"tree", "segments", "kmeans", "random"}
    assert names[1] == {"tree", "kmeans", "random"}  # ordered segments cost too much


def test_a_model_tree_finds_the_bends(rng):
    X, y = bent(rng, 600)
    data = start_data(X, y, np.ones(600), TREES["binary"])
    resp = model_tree(data, TREES["binary"], SHARP)
    quadrant = 2 * (X[:, 0] > 0) + (X[:, 1] > 0)
    assert adjusted_rand_score(quadrant, resp.argmax(axis=0)) > 0.6
    soft = model_tree(data, TREES["binary"], SOFT)
    assert soft.max(axis=0).mean() < resp.max(axis=0).mean()


# -- weights are repetitions, the order of rows is nothing -------------------------


def awkward(seed):
    """Few distinct rows, ties, dull columns, pure classes; uneven counts."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(6, 40))
    X = rng.normal(size=(n, 3))
    if seed % 2:
        X = np.round(X)
    if seed % 3 == 0:
        X[:, 1] = 4.0
    n_classes = 3 if seed % 4 == 0 else None
    if n_classes:
        y = (X[:, 0] > 0).astype(int) + (X[:, 0] > 1)  # pure on either side
        y[:3] = np.arange(3)
    else:
        y = np.where(X[:, 0] > 0, 2.0 * X[:, 2], -X[:, 2])  # exact lines
        y = y + (0.3 * rng.normal(size=n) if seed % 5 else 0.0)
    return X, y, rng.integers(1, 6, size=n), n_classes


@pytest.mark.parametrize("kind", ["tree", "kmeans", "random", "segments"])
@pytest.mark.parametrize("seed", range(12))
def test_weighted_rows_start_like_repeated_ones(kind, seed):
    X, y, count, n_classes = awkward(seed)
    rows = np.repeat(np.arange(len(y)), count)
    rows = np.random.default_rng(seed).permutation(rows)
    for tree in (TREES["ragged"], TREES["deep"]):  # to nodes of a single row
        weighted = start_data(X, y, count.astype(float), tree, n_classes)
        repeated = start_data(X[rows], y[rows], np.ones(rows.size), tree, n_classes)
        pairs = zip(
            starts_of(kind, 3, weighted, np.random.RandomState(1)),
            starts_of(kind, 3, repeated, np.random.RandomState(1)),
            strict=True,
        )
        for one, other in pairs:
            assert one.name == other.name
            assert_allclose(one.resp[:, rows], other.resp, atol=1e-7)


# -- splits ------------------------------------------------------------------------


def splitter_of(X, y, weight=None, n_classes=None):
    weight = np.ones(len(y)) if weight is None else weight
    return TreeSplitter(start_data(X, y, weight, TREES["binary"], n_classes))


def test_the_best_split_is_where_the_line_bends(rng):
    X = rng.uniform(-1, 1, size=(400, 3))
    y = np.abs(X[:, 1] - 0.3) + 0.02 * rng.normal(size=400)
    split = splitter_of(X, y).best_split(np.arange(400), np.ones(400))
    assert split.column == 1
    value = standardised(X, np.ones(400))[:, 1]
    place = np.interp(split.cut, np.sort(value), np.sort(X[:, 1]))
    assert place == pytest.approx(0.3, abs=0.1)
    assert split.spread == pytest.approx(1.0)
    assert split.gain > 100.0


def test_the_gain_of_a_cut_by_hand(rng):
    """Straight lines in the column on either side, costs with the variance prior."""
    X, y = bent(rng, 120)
    weight = rng.uniform(0.5, 2.0, size=120)
    splitter = splitter_of(X, y, weight)
    data = splitter.data
    split = splitter.best_split(np.arange(120), weight)
    residual = splitter._residual(np.arange(120), weight)[:, 0]

    def cost(mask):
        w, x, r = weight[mask], data.gate_X[mask, split.column], residual[mask]
        x, r = x - w @ x / w.sum(), r - w @ r / w.sum()
        slope = (w @ (x * r)) / (w @ x**2 + 1e-3 * w.sum())
        error = w @ r**2 - slope * (w @ (x * r))
        variance = (error + 5.0 * 0.05) / (w.sum() + 5.0)
        return 0.5 * (w.sum() + 5.0) * np.log(variance + 1e-10)

    above = data.gate_X[:, split.column] > split.cut
    gain = cost(np.ones(120, dtype=bool)) - cost(above) - cost(~above)
    assert split.gain == pytest.approx(gain, rel=1e-8)
    # No other place along any column is better.
    for column in range(3):
        for cut in np.quantile(data.gate_X[:, column], np.linspace(0.1, 0.9, 9)):
            mask = data.gate_X[:, column] > cut
            best = splitter._residual(np.arange(120), weight)
            assert best.shape == (120, 1)
            if column == split.column:
                assert gain >= (
                    cost(np.ones(120, dtype=bool)) - cost(mask) - cost(~mask) - 0.5
                )


@pytest.mark.parametrize(
    ("X", "y"),
    [
        (np.ones((30, 2)), np.arange(30.0)),
        (np.arange(30.0)[:, None] * [1.0, 2.0], 3.0 * np.arange(30.0)),
        (np.arange(6.0)[:, None] * [1.0, 2.0], np.abs(np.arange(6.0) - 2.5)),
    ],
    ids=["no column", "one line", "few rows"],
)
def test_no_split_where_there_is_none(X, y):
    splitter = splitter_of(X, y)
    rows = np.arange(len(y))
    split = splitter.best_split(rows, np.ones(len(y)))
    if X.shape[0] == 30 and np.ptp(X) > 0:
        # A line needs no cut: what a cut gains is the prior's say on its ridge.
        assert split is None or split.gain < 5.0
        return
    assert split is None
    shares = splitter.shares(rows, 3, SOFT)
    assert_array_equal(shares, np.full((3, len(y)), 1 / 3))


def test_pure_rows_are_not_split_by_rounding(rng):
    """One class on this side: nothing to gain, so no cut is better than another."""
    X = rng.normal(size=(80, 3))
    y = (X[:, 0] > 0).astype(int)
    splitter = splitter_of(X, y, n_classes=2)
    pure = np.flatnonzero(y == 1)
    assert splitter.best_split(pure, np.ones(pure.size)) is None
    assert splitter.best_split(np.arange(80), np.ones(80)).column == 0


@pytest.mark.parametrize("n_children", [2, 3, 5])
def test_both_sides_keep_enough_rows(n_children, rng):
    X, y = bent(rng)
    splitter = splitter_of(X, y)
    shares = splitter.shares(np.arange(200), n_children, SHARP)
    assert_allclose(shares.sum(axis=0), 1.0)
    labels = shares.argmax(axis=0)
    assert np.bincount(labels, minlength=n_children).min() >= LEAST_ROWS
    # All rows get a share, whichever the node's own are.
    some = splitter.shares(np.arange(0, 200, 4), n_children, SHARP)
    assert some.shape == (n_children, 200)


def test_a_soft_split_is_logistic_in_its_column(rng):
    X, y = bent(rng)
    splitter = splitter_of(X, y)
    split = splitter.best_split(np.arange(200), np.ones(200))
    value = splitter.data.gate_X[:, split.column]
    for width in (SOFT, SHARP):
        shares = splitter.shares(np.arange(200), 2, width)
        logit = np.clip((value - split.cut) / (width * split.spread), -30, 30)
        assert_allclose(shares[1], 1.0 / (1.0 + np.exp(-logit)))


def test_weights_of_the_rows_may_be_others(rng):
    """A leaf's own: responsibilities times weights."""
    X, y = bent(rng)
    splitter = splitter_of(X, y)
    left = X[:, 0] < 0
    weight = np.where(left, 1.0, 1e-9)
    split = splitter.best_split(np.arange(200), weight)
    alone = splitter.best_split(np.flatnonzero(left), np.ones(left.sum()))
    assert split.column == alone.column
    assert split.gain == pytest.approx(alone.gain, rel=1e-3)
    shares = splitter.shares_of(split, np.arange(200), weight, 2, SHARP)
    value = splitter.data.gate_X[:, split.column]
    assert_array_equal(shares.argmax(axis=0), (value > split.cut).astype(int))
    own = splitter.shares(np.arange(200), 2, SHARP)
    assert np.abs(shares - own).max() > 0.5


def test_a_cut_lies_halfway_between_rows():
    X = np.repeat([[-2.0], [1.0], [6.0]], 20, axis=0)
    y = np.repeat([0.0, 0.0, 5.0], 20) + np.tile([0.1, -0.1], 30)
    splitter = splitter_of(X, y)
    split = splitter.best_split(np.arange(60), np.ones(60))
    places = np.unique(splitter.data.gate_X)
    halves = 0.5 * (places[1:] + places[:-1])
    assert np.abs(halves - split.cut).min() < 1e-12
