"""The kinds of start: valid, deterministic, functions of weighted rows."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from skmoe.em._build import build_problem
from skmoe.em._start_data import start_data
from skmoe.em._starts import (
    CONFIDENCE,
    KINDS,
    kmeans_labels,
    kmeans_y_start,
    n_random_starts,
    portfolio,
    random_start,
    segments_start,
    soften,
    tree_start,
)
from skmoe.em._swaps import swaps
from tests.em.problems import make_node, rows

EVERY = {**KINDS, "kmeans_y": kmeans_y_start}


@pytest.fixture
def rng():
    return np.random.default_rng(31)


def data_of(rng, case="single", n=120, n_experts=3, **more):
    data = rows(more.pop("target", None), rng, n)
    node = make_node(case, n_experts, **more)
    X, y, weight, n_classes = data
    kept = weight > 0
    return start_data(node, X[kept], y[kept], weight[kept], n_classes)


def starts_of(kind, data, seed=0, most=4):
    made = EVERY[kind](data, np.random.RandomState(seed))
    return list(itertools.islice(made, most))


def assert_valid(start, data):
    assert start.resp.shape == (data.n_experts, data.weight.size)
    assert np.isfinite(start.resp).all()
    assert start.resp.min() >= 0.0
    np.testing.assert_allclose(start.resp.sum(axis=0), 1.0, rtol=1e-9)
    assert start.gate_steps >= 1
    assert start.name


CASES = [
    ("single", None),
    ("full", 2),
    ("constant_gate", None),
    ("four_classes", "4"),
    ("constant_classes", "3"),
    ("own_columns", None),
]


@pytest.mark.parametrize("n_experts", [1, 2, 5])
@pytest.mark.parametrize(("case", "target"), CASES)
@pytest.mark.parametrize("kind", EVERY)
def test_every_kind_gives_responsibilities(kind, case, target, n_experts, rng):
    data = data_of(rng, case, 80, n_experts, target=target)
    made = starts_of(kind, data)
    assert made
    for start in made:
        assert_valid(start, data)


@pytest.mark.parametrize("kind", EVERY)
def test_every_kind_uses_all_experts(kind, rng):
    data = data_of(rng)
    for start in starts_of(kind, data):
        assert (start.resp @ data.weight).min() > 1.0


@pytest.mark.parametrize("kind", EVERY)
def test_every_kind_is_deterministic(kind, rng):
    data = data_of(rng)
    for one, other in zip(starts_of(kind, data), starts_of(kind, data), strict=True):
        np.testing.assert_array_equal(one.resp, other.resp)


def test_random_starts_follow_the_seed(rng):
    data = data_of(rng)
    one, other = starts_of("random", data, 0), starts_of("random", data, 1)
    assert any((a.resp != b.resp).any() for a, b in zip(one, other, strict=True))
    # Each of a sequence is another one.
    assert (one[0].resp != one[2].resp).any()
    assert [start.name for start in one[:2]] == ["random_subsets", "random_centres"]


def repeated(data, count):
    arrays = (data.gate_X, data.expert_X, data.target)
    gate_X, expert_X, target = (np.repeat(a, count, axis=0) for a in arrays)
    weight = np.ones(count.sum())
    return replace(data, gate_X=gate_X, expert_X=expert_X, target=target, weight=weight)


@pytest.mark.parametrize("kind", [kind for kind in EVERY if kind != "gaussian"])
def test_weights_are_repetitions(kind, rng):
    data = data_of(rng)
    count = rng.integers(1, 4, size=data.weight.size)
    data.weight, data.gaussian = count.astype(float), None
    made = starts_of(kind, data), starts_of(kind, repeated(data, count))
    for one, other in zip(*made, strict=True):
        expected = np.repeat(one.resp, count, axis=1)
        np.testing.assert_allclose(other.resp, expected, atol=1e-12)


def test_gaussian_starts_of_repeated_rows(rng):
    X, y, _, _ = rows(None, rng)
    count = rng.integers(1, 4, size=y.size)
    node = make_node("single")
    weighted = start_data(node, X, y, count.astype(float), None)
    again = np.repeat(X, count, axis=0), np.repeat(y, count)
    plain = start_data(make_node("single"), *again, np.ones(count.sum()), None)
    one, other = (starts_of("gaussian", data)[0].resp for data in (weighted, plain))
    np.testing.assert_allclose(np.repeat(one, count, axis=1), other, atol=1e-6)


@pytest.mark.parametrize("kind", EVERY)
def test_order_of_rows_does_not_matter(kind, rng):
    data = data_of(rng)
    order = rng.permutation(data.weight.size)
    data.gaussian = None
    names = ("gate_X", "expert_X", "target", "weight")
    shuffled = replace(data, **{name: getattr(data, name)[order] for name in names})
    made = starts_of(kind, data), starts_of(kind, shuffled)
    for one, other in zip(*made, strict=True):
        np.testing.assert_allclose(other.resp, one.resp[:, order], atol=1e-9)


def test_swaps_of_repeated_rows(rng):
    data = data_of(rng)
    count = rng.integers(1, 4, size=data.weight.size)
    data.weight = count.astype(float)
    resp = rng.dirichlet(np.ones(3), size=count.size).T
    one = swaps(data, resp, np.random.RandomState(0))
    other = swaps(
        repeated(data, count), np.repeat(resp, count, axis=1), np.random.RandomState(0)
    )
    for _ in range(8):
        expected = np.repeat(next(one).resp, count, axis=1)
        np.testing.assert_allclose(next(other).resp, expected, atol=1e-9)


def test_a_swap_moves_one_expert(rng):
    data = data_of(rng)
    resp = soften(np.arange(data.weight.size) % 3, 3)
    made = swaps(data, resp, np.random.RandomState(0))
    for _ in range(6):
        start = next(made)
        assert_valid(start, data)
        assert start.name == "swap"
        moved = [k for k in range(3) if (start.resp[k] == CONFIDENCE).any()]
        # One expert has new rows; from the other rows it is gone.
        gone = [k for k in moved if set(np.unique(start.resp[k])) == {0.0, CONFIDENCE}]
        assert len(gone) == 1


def test_soften():
    resp = soften(np.array([0, 2, 1]), 3, 0.8)
    np.testing.assert_allclose(
        resp, [[0.8, 0.1, 0.1], [0.1, 0.1, 0.8], [0.1, 0.8, 0.1]]
    )
    np.testing.assert_array_equal(soften(np.zeros(4, int), 1), 1.0)
    np.testing.assert_array_equal(soften(np.array([1, 0]), 2, 1.0), [[0, 1], [1, 0]])


def test_kmeans_finds_clusters(rng):
    centre = np.array([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]])
    truth = rng.integers(3, size=90)
    points = centre[truth] + rng.normal(size=(90, 2))
    labels = kmeans_labels(points, rng.uniform(0.5, 2.0, size=90), 3)
    pairs = {(int(a), int(b)) for a, b in zip(truth, labels, strict=True)}
    assert len(pairs) == 3


def test_kmeans_of_fewer_points_than_clusters():
    points = np.repeat([[0.0], [1.0]], 6, axis=0)
    labels = kmeans_labels(points, np.ones(12), 4)
    assert labels.shape == (12,)
    assert labels[0] != labels[-1]


def test_the_sign_of_an_axis_does_not_matter(rng, monkeypatch):
    """An eigenvector may come back as its negative: not with other labels."""
    points = rng.normal(size=(80, 3))
    labels = kmeans_labels(points, np.ones(80), 4)
    eigh = np.linalg.eigh

    def flipped(matrix):
        value, vector = eigh(matrix)
        return value, -vector

    monkeypatch.setattr(np.linalg, "eigh", flipped)
    np.testing.assert_array_equal(kmeans_labels(points, np.ones(80), 4), labels)


def test_a_sharp_start_separates(rng):
    """Hard labels and many gate steps: the boundary is where it was cut."""
    x = np.sort(rng.uniform(-1.0, 1.0, size=200))[:, None]
    y = np.where(x[:, 0] < 0.3, 5.0 * x[:, 0], -4.0 - x[:, 0]) + 0.1 * rng.normal(
        size=200
    )
    weight = np.ones(200)
    node = make_node("single_ml", 2)
    data = start_data(node, x, y, weight, None)
    soft, sharp = list(segments_start(data, None))[:2]
    assert [soft.name, sharp.name] == ["segments", "segments_sharp"]
    assert sharp.gate_steps > 1
    np.testing.assert_array_equal(np.unique(sharp.resp), [0.0, 1.0])
    cut = sharp.resp[0].argmin() if sharp.resp[0, 0] == 1 else sharp.resp[0].argmax()
    assert abs(x[cut, 0] - 0.3) < 0.05
    problem = build_problem(node, x, y, weight, None)
    confident = []
    for start in (soft, sharp):
        problem.start(start.resp, start.gate_steps)
        proba = np.exp(problem.gate.log_proba(problem.groups[-1].matrix))
        confident.append((proba.max(axis=0) > 0.99).mean())
    assert confident[1] > 0.9 > confident[0]


def test_tree_starts_come_soft_and_sharp(rng):
    data = data_of(rng)
    assert [s.name for s in tree_start(data, None)] == ["tree", "tree_sharp"]
    constant = data_of(rng, "constant_gate")
    assert [s.name for s in tree_start(constant, None)] == ["tree"]


def test_clusters_see_y_where_the_gate_sees_no_x(rng):
    data = data_of(rng, "constant_gate")
    assert [s.name for s in starts_of("kmeans", data)] == ["kmeans_y"]
    assert data.gaussian is None


# -- the portfolio -------------------------------------------------------------------


def names(init, n_init, data):
    return [s.name for s in portfolio(init, n_init, data, np.random.RandomState(0))]


def test_the_whole_portfolio(rng):
    data = data_of(rng)
    made = names("auto", None, data)
    assert made[0] == "kmeans"
    assert {"segments", "segments_sharp", "kmeans_y", "tree", "gaussian"} <= set(made)
    n_random = sum(name.startswith("random") for name in made)
    assert n_random == n_random_starts(data)[0]


@pytest.mark.parametrize("init", ["auto", *KINDS])
@pytest.mark.parametrize("n_init", [1, 3, 12])
def test_a_number_of_starts_is_that_many(init, n_init, rng):
    assert len(names(init, n_init, data_of(rng))) == n_init


@pytest.mark.parametrize("init", KINDS)
def test_one_kind_alone(init, rng):
    made = set(names(init, None, data_of(rng)))
    kinds = {"random": {"random_subsets", "random_centres"}}
    kinds["segments"], kinds["tree"] = (
        {"segments", "segments_sharp"},
        {"tree", "tree_sharp"},
    )
    assert made == kinds.get(init, {init})


@pytest.mark.parametrize("init", KINDS)
def test_no_portfolio_is_empty(init, rng):
    """Where a gate's column has too few values to be cut, others stand in."""
    data = data_of(rng)
    data.gate_X = np.zeros_like(data.gate_X)
    data.gaussian = None
    made = list(portfolio(init, None, data, np.random.RandomState(0)))
    assert made
    for start in made:
        assert_valid(start, data)


@pytest.mark.parametrize("make", [segments_start, tree_start])
def test_classes_are_cut_where_their_frequencies_change(make, rng):
    X = rng.uniform(-1.0, 1.0, size=(300, 2))
    often = np.where(X[:, 1] > 0.25, 2, 0)
    y = np.where(rng.random(300) < 0.85, often, 1)
    data = start_data(make_node("four_classes", 2), X, y, np.ones(300), 3)
    labels = next(make(data, None)).resp.argmax(axis=0)
    agree = ((X[:, 1] > 0.25) == labels).mean()
    assert max(agree, 1.0 - agree) > 0.95


def test_fewer_random_starts_the_more_rows(rng):
    data = data_of(rng)
    counts = []
    for size in (1.0, 100.0, 1e5):
        data.weight = np.full(data.weight.size, size)
        counts.append(n_random_starts(data))
    assert counts == sorted(counts, reverse=True)
    assert counts[-1][0] >= 4
    assert counts[-1][1] == 0
    # Repeated rows are as many rows as the weight says.
    data.weight = np.full(data.weight.size, 2.0)
    double = repeated(data, np.full(data.weight.size, 2))
    assert n_random_starts(double) == n_random_starts(data)


def test_random_draws_are_by_weight(rng):
    data = data_of(rng)
    data.weight = np.where(np.arange(data.weight.size) < 2, 1e9, 1e-9)
    data.n_experts = 2
    made = itertools.islice(random_start(data, np.random.RandomState(0)), 20)
    centres = [s for s in made if s.name == "random_centres"]
    # All draws fall on the two heavy rows: those are centres, each its own.
    for start in centres:
        labels = start.resp.argmax(axis=0)
        assert start.resp[:, :2].max() == pytest.approx(0.9)
        assert labels.shape == data.weight.shape


def test_wide_and_sparse_columns_are_projected(rng):
    from scipy import sparse

    X = sparse.random_array((90, 400), density=0.05, rng=0, format="csr")
    y = rng.normal(size=90)
    data = start_data(make_node("single"), X, y, np.ones(90), None)
    assert data.gate_X.shape == (90, 10)
    np.testing.assert_allclose(data.gate_X.mean(axis=0), 0.0, atol=1e-9)
    again = start_data(make_node("single"), X, y, np.ones(90), None)
    np.testing.assert_allclose(again.gate_X, data.gate_X, atol=1e-9)
    for start in starts_of("kmeans", data):
        assert_valid(start, data)
