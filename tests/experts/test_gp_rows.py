"""Distinct rows with their weights, and the scales that they are seen on."""

import numpy as np
import pytest

from skmoe.experts._gp_rows import NEGLIGIBLE, Scale, TrainingRows


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def make(rng, n_samples=12):
    X = rng.normal(size=(n_samples, 2)) * [3.0, 0.1] + [5.0, -2.0]
    return X, 7.0 * rng.normal(size=n_samples) + 100.0, rng.uniform(0.2, 2.0, n_samples)


def test_scale_is_the_weighted_deviation(rng):
    X, y, weight = make(rng)
    scale = Scale(X, y, weight, standardize=True)
    points, target = scale.points(X), scale.target(y)
    columns = np.column_stack([points, target])
    np.testing.assert_allclose(weight @ columns, 0.0, atol=1e-10)
    np.testing.assert_allclose(np.average(columns**2, axis=0, weights=weight), 1.0)
    assert scale.variance == 1.0


def test_scale_left_alone(rng):
    X, y, weight = make(rng)
    scale = Scale(X, y, weight, standardize=False)
    np.testing.assert_array_equal(scale.points(X), X)
    np.testing.assert_allclose(weight @ scale.target(y), 0.0, atol=1e-10)
    np.testing.assert_allclose(
        scale.variance, np.cov(y, aweights=weight, bias=True), rtol=1e-12
    )
    assert scale.unit == 1.0


@pytest.mark.parametrize("standardize", [True, False])
def test_params_undo_the_scale(rng, standardize):
    X, y, weight = make(rng)
    scale = Scale(X, y, weight, standardize=standardize)
    params = scale.params(scale.target(y), np.full(12, 2.0))
    np.testing.assert_allclose(params[:, 0], y, rtol=1e-12)
    np.testing.assert_allclose(params[:, 1], 2.0 * scale.unit**2)


@pytest.mark.parametrize("value", [0.0, 3.0, -1e9])
def test_scale_of_a_constant_response(rng, value):
    X, y, weight = make(rng)
    scale = Scale(X, np.full(12, value), weight, standardize=True)
    assert np.isfinite(scale.target(y)).all()
    assert scale.unit > 0.0
    assert scale.centre == pytest.approx(value)


def test_rows_without_weight_may_lack_a_response(rng):
    X, y, weight = make(rng)
    weight[:3], y[:3] = 0.0, np.nan
    scale = Scale(X, y, weight, standardize=True)
    rows, kept = TrainingRows(X, scale).merge(scale.target(y), weight)
    assert np.isfinite([scale.centre, scale.unit, rows.scatter]).all()
    assert np.isfinite(rows.target).all()
    assert kept.size == 9


def test_equal_rows_become_one(rng):
    X, y, weight = make(rng)
    X[[3, 7, 8]] = X[0]
    scale = Scale(X, y, weight, standardize=True)
    training, target = TrainingRows(X, scale), scale.target(y)
    rows, kept = training.merge(target, weight)
    same = [0, 3, 7, 8]
    assert training.points.shape == (9, 2)
    assert np.unique(training.group[same]).size == 1
    place = training.group[0]
    mean = np.average(target[same], weights=weight[same])
    assert rows.weight[place] == pytest.approx(weight[same].sum())
    assert rows.target[place] == pytest.approx(mean)
    np.testing.assert_allclose(rows.points[place], scale.points(X)[0])
    np.testing.assert_allclose(
        rows.scatter, weight[same] @ (target[same] - mean) ** 2, rtol=1e-10
    )
    np.testing.assert_allclose(rows.total, weight.sum())
    np.testing.assert_array_equal(kept, np.arange(9))


def test_order_of_points_is_set_by_content(rng):
    X, y, weight = make(rng)
    scale = Scale(X, y, weight, standardize=True)
    order = rng.permutation(12)
    one = TrainingRows(X, scale)
    other = TrainingRows(X[order], scale)
    np.testing.assert_array_equal(one.points, other.points)
    np.testing.assert_array_equal(one.group[order], other.group)


def test_rows_of_next_to_no_weight_are_left_out(rng):
    X, y, weight = make(rng)
    weight[[2, 5]] = [0.5 * NEGLIGIBLE, 0.0]
    scale = Scale(X, y, weight, standardize=True)
    training = TrainingRows(X, scale)
    rows, kept = training.merge(scale.target(y), weight)
    assert rows.weight.size == kept.size == 10
    assert not np.isin(training.group[[2, 5]], kept).any()
    np.testing.assert_allclose(rows.points, training.points[kept])


def test_no_weight_at_all_leaves_a_row_that_says_nothing(rng):
    X, y, weight = make(rng)
    scale = Scale(X, y, weight, standardize=True)
    rows, kept = TrainingRows(X, scale).merge(scale.target(y), np.zeros(12))
    np.testing.assert_array_equal(kept, [0])
    assert (rows.total, rows.scatter) == (0.0, 0.0)
    assert rows.target[0] == 0.0


def test_take_keeps_what_belongs_together(rng):
    X, y, weight = make(rng)
    scale = Scale(X, y, weight, standardize=True)
    rows, _ = TrainingRows(X, scale).merge(scale.target(y), weight)
    some = rows.take([4, 1])
    np.testing.assert_array_equal(some.points, rows.points[[4, 1]])
    np.testing.assert_array_equal(some.target, rows.target[[4, 1]])
    np.testing.assert_array_equal(some.weight, rows.weight[[4, 1]])
