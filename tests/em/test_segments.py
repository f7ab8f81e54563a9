"""Optimal segments of one column, and model trees of them."""

from itertools import combinations

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LinearRegression

from skmoe.em._segments import MAX_BINS, MAX_FULL_COLUMNS, Segmenter


@pytest.fixture
def rng():
    return np.random.default_rng(9)


def segmenter(rng, n=14, n_columns=1, *, classes=0, min_mass=2.0, prior=(0.0, 0.0)):
    X = np.round(rng.normal(size=(n, n_columns)), 2)
    if classes:
        target = np.eye(classes)[rng.integers(classes, size=n)]
    else:
        target = rng.normal(size=(n, 1))
    weight = rng.uniform(0.8, 1.2, size=n)
    return Segmenter(
        X, X, target, weight, classes=bool(classes), min_mass=min_mass, prior=prior
    )


def run_cost(data, rows):
    """Cost of one segment, from scratch: negative profile log-likelihood."""
    weight, target = data.weight[rows], data.target[rows]
    if weight.sum() < data.min_mass - 1e-9:
        return np.inf
    if data.classes:
        count = weight @ target
        return float(-stats.entropy(count) * -count.sum())
    model = LinearRegression().fit(data.design[rows], target, weight)
    scatter = weight @ (target - model.predict(data.design[rows])) ** 2
    prior_rows, scale = data.prior
    total = weight.sum() + prior_rows
    variance = np.maximum((scatter + prior_rows * scale) / total, 1e-10)
    return float(0.5 * total * np.log(variance).sum())


def brute_force(data, column, n_segments):
    """Try every set of cuts between distinct values."""
    values = np.unique(data.X[:, column])
    best = np.inf
    for cuts in combinations(range(1, values.size), n_segments - 1):
        edges = np.searchsorted(values, data.X[:, column])
        labels = np.searchsorted(cuts, edges, side="right")
        cost = sum(
            run_cost(data, np.flatnonzero(labels == k)) for k in range(n_segments)
        )
        best = min(best, cost)
    return best


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("n_segments", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(3))
def test_cut_equals_brute_force(seed, n_segments, classes):
    rng = np.random.default_rng(seed)
    prior = (0.0, 0.0) if seed == 0 else (3.0, 0.1)
    data = segmenter(rng, classes=classes, min_mass=3.0, prior=prior)
    cost, labels = data.best_cut(np.arange(14), 0, n_segments)
    assert cost == pytest.approx(brute_force(data, 0, n_segments), rel=1e-6)
    own = sum(run_cost(data, np.flatnonzero(labels == k)) for k in range(n_segments))
    assert cost == pytest.approx(own, rel=1e-6)
    # Segments follow each other along the column, and none is too light.
    order = np.argsort(data.X[:, 0], kind="stable")
    assert (np.diff(labels[order]) >= 0).all()
    mass = np.bincount(labels, weights=data.weight, minlength=n_segments)
    assert mass.min() >= 3.0 - 1e-9


def test_ties_stay_together(rng):
    data = segmenter(rng, 40)
    data.X = np.round(data.X)
    _, labels = data.best_cut(np.arange(40), 0, 3)
    for value in np.unique(data.X):
        assert np.unique(labels[data.X[:, 0] == value]).size == 1


def test_finds_the_breaks_of_broken_lines(rng):
    x = np.sort(rng.uniform(0.0, 3.0, size=400))
    part = np.floor(x).astype(int)
    y = np.array([5.0, -2.0, 1.0])[part] * x + np.array([0.0, 9.0, -4.0])[part]
    y = (y + 0.1 * rng.normal(size=400))[:, None]
    X = np.column_stack([rng.normal(size=400), x])
    data = Segmenter(X, X, y, np.ones(400), classes=False, min_mass=5.0)
    found = data.segment_labels(3)
    assert len(found) == 2
    assert found[0][0] < found[1][0]
    agree = (found[0][1] == part).mean()
    assert agree > 0.97


def test_many_values_share_bins_by_weight(rng):
    data = segmenter(rng, 1000)
    data.X = rng.normal(size=(1000, 1))
    bins = data.bins(0)
    assert bins.max() + 1 <= MAX_BINS
    np.testing.assert_array_equal(np.unique(bins), np.arange(bins.max() + 1))
    order = np.argsort(data.X[:, 0])
    assert (np.diff(bins[order]) >= 0).all()
    mass = np.bincount(bins, weights=data.weight)
    assert mass.max() < 2.0 * mass.mean()


def test_weights_are_repetitions(rng):
    data = segmenter(rng, 300, 2, prior=(2.0, 0.1))
    count = rng.integers(1, 4, size=300)
    data.weight = count.astype(float)
    again = Segmenter(
        *(np.repeat(a, count, axis=0) for a in (data.X, data.design, data.target)),
        np.ones(count.sum()),
        classes=False,
        min_mass=2.0,
        prior=(2.0, 0.1),
    )
    for one, other in zip(data.segment_labels(3), again.segment_labels(3), strict=True):
        assert one[0] == pytest.approx(other[0], rel=1e-9)
        np.testing.assert_array_equal(np.repeat(one[1], count), other[1])
    np.testing.assert_array_equal(
        np.repeat(data.tree_labels(4), count), again.tree_labels(4)
    )


def test_order_of_rows_does_not_matter(rng):
    data = segmenter(rng, 60, 2)
    order = rng.permutation(60)
    arrays = (data.X, data.design, data.target, data.weight)
    again = Segmenter(*(a[order] for a in arrays), classes=False, min_mass=2.0)
    np.testing.assert_array_equal(
        data.segment_labels(3)[0][1][order], again.segment_labels(3)[0][1]
    )


def test_wide_designs_use_the_column_itself(rng):
    X = rng.normal(size=(80, MAX_FULL_COLUMNS + 2))
    y = np.abs(X[:, :1]) + 0.05 * rng.normal(size=(80, 1))
    data = Segmenter(X, X, y, np.ones(80), classes=False, min_mass=4.0)
    assert data.moments(np.arange(80), 0).shape == (80, 3)
    _, labels = data.segment_labels(2)[0]
    assert ((X[:, 0] > 0) == labels).mean() > 0.95


def test_what_cannot_be_cut(rng):
    data = segmenter(rng, 10)
    data.X = np.zeros((10, 1))
    assert data.bins(0) is None
    assert data.best_cut(np.arange(10), 0, 2) is None
    assert data.segment_labels(2) == []
    assert data.tree_labels(2) is None
    data.X = np.repeat([[0.0], [1.0]], 5, axis=0)
    assert data.best_cut(np.arange(10), 0, 3) is None
    heavy = segmenter(rng, 10)
    heavy.min_mass = 0.9 * heavy.weight.sum()
    assert heavy.best_cut(np.arange(10), 0, 2) is None
    assert heavy.tree_labels(2) is None


@pytest.mark.parametrize("classes", [0, 2])
def test_tree_has_its_leaves(rng, classes):
    data = segmenter(rng, 120, 3, classes=classes, min_mass=4.0)
    labels = data.tree_labels(5)
    assert sorted(np.unique(labels)) == [0, 1, 2, 3, 4]
    assert np.bincount(labels, weights=data.weight).min() >= 4.0 - 1e-9
    np.testing.assert_array_equal(data.tree_labels(1), 0)


def test_tree_splits_where_it_gains_most(rng):
    X = rng.uniform(-1.0, 1.0, size=(300, 2))
    y = np.where(X[:, 0] > 0.2, 30.0, 0.0) + np.where(X[:, 1] > 0.0, X[:, 0], 0.0)
    y = (y + 0.1 * rng.normal(size=300))[:, None]
    data = Segmenter(X, X, y, np.ones(300), classes=False, min_mass=4.0)
    assert ((X[:, 0] > 0.2) == data.tree_labels(2)).mean() > 0.97
