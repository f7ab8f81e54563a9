"""Folds that do not leak: rows of a group, and equal rows, stay together."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold
from sklearn.tree import DecisionTreeRegressor

from skmoe import MixtureOfExpertsRegressor
from skmoe.exceptions import ExpertError
from skmoe.experts import EstimatorExpert
from skmoe.experts._rows import make_folds, row_groups, systematic_rows
from skmoe.gates import ConstantGate

N_ROWS = 60


@pytest.fixture
def rows(rng):
    """Return X, y, and groups of one to seven rows in no order."""
    group = rng.permutation(np.repeat(np.arange(15), [1, 7, 2, 6, 4] * 3))
    X = rng.normal(size=(N_ROWS, 2))
    return X, X[:, 0] + 0.1 * rng.normal(size=N_ROWS), group


def folds(cross_fit, X, y, groups=None, weight=None, **kwargs):
    weight = np.ones(len(y)) if weight is None else weight
    kwargs = {"stratify": False, "seed": 0} | kwargs
    return make_folds(cross_fit, X, y, weight, groups=groups, **kwargs)


def is_whole(fold, group):
    return all(np.unique(fold[group == g]).size == 1 for g in np.unique(group))


@pytest.mark.parametrize("cross_fit", [True, 3, GroupKFold(4)], ids=repr)
def test_groups_stay_whole(rows, cross_fit):
    X, y, group = rows
    fold = folds(cross_fit, X, y, group)
    assert is_whole(fold, group)
    assert np.unique(fold).size == {True: 5}.get(cross_fit, np.unique(fold).size)
    assert np.unique(fold).size > 1
    # Without groups they do not.
    assert not is_whole(folds(3, X, y), group)


def test_more_folds_than_groups(rows):
    X, y, group = rows
    fold = folds(10, X, y, group % 4)
    assert is_whole(fold, group % 4)
    assert np.unique(fold).size == 4


def test_equal_rows_stay_together_where_there_are_no_groups(rows):
    X, y, _ = rows
    twice = np.vstack([X, X])
    fold = folds(4, twice, np.tile(y, 2))
    assert_array_equal(fold[:N_ROWS], fold[N_ROWS:])


def test_groups_and_classes(rows):
    X, y, group = rows
    label = (y > 0).astype(int)
    fold = folds(3, X, label, group, stratify=True)
    assert is_whole(fold, group)
    # Groups of one class are spread evenly.
    pure = group % 2
    fold = folds(3, X, pure, group, stratify=True)
    for c in (0, 1):
        count = np.bincount(
            fold[np.unique(group, return_index=True)[1]][np.arange(15) % 2 == c]
        )
        assert np.ptp(count) <= 1


def test_rows_of_weight_zero_do_not_move_the_others(rows, rng):
    X, y, group = rows
    weight = (rng.random(N_ROWS) < 0.7).astype(float)
    kept = weight > 0
    fold = folds(3, X, y, group, weight)
    assert_array_equal(fold[kept], folds(3, X[kept], y[kept], group[kept]))


@pytest.mark.parametrize("splitter", [KFold(3, shuffle=True, random_state=0)], ids=repr)
def test_a_splitter_that_parts_a_group_is_refused(rows, splitter):
    X, y, group = rows
    message = r"puts the rows of one group into two folds \(first in row \d+\)"
    with pytest.raises(ValueError, match=message):
        folds(splitter, X, y, group)
    # One that happens to keep them whole is not.
    order = np.argsort(group % 3, kind="stable")
    sorted_group = (group % 3)[order]
    edges = np.cumsum(np.bincount(sorted_group))
    splits = np.split(np.arange(N_ROWS), edges[:-1])
    custom = [(np.setdiff1d(np.arange(N_ROWS), test), test) for test in splits]
    assert is_whole(folds(custom, X[order], y[order], sorted_group), sorted_group)


def test_splitters_that_ask_get_the_groups(rows):
    X, y, group = rows
    label = (y > 0).astype(int)
    fold = folds(StratifiedGroupKFold(3), X, label, group)
    assert is_whole(fold, group)
    expected = np.zeros(N_ROWS, dtype=int)
    for k, (_, test) in enumerate(StratifiedGroupKFold(3).split(X, label, group)):
        expected[test] = k
    assert_array_equal(fold, expected)


def test_out_of_fold_predictions_of_a_grouped_mixture(rows):
    # A tree that may learn single rows by heart: groups must not answer for
    # themselves, as the spread of its residuals shows.
    X, _, group = rows
    rng = np.random.default_rng(1)
    level = 3.0 * rng.normal(size=15)
    place = rng.normal(size=(15, 2))
    X = place[group] + 1e-3 * rng.normal(size=X.shape)
    y = level[group] + 0.1 * rng.normal(size=N_ROWS)
    expert = EstimatorExpert(DecisionTreeRegressor(random_state=0), cross_fit=5)
    model = MixtureOfExpertsRegressor(
        expert, 1, gate=ConstantGate(), random_state=0, max_iter=20
    )
    grouped = model.fit(X, y, groups=group).experts_[0].dispersion
    alone = model.fit(X, y).experts_[0].dispersion
    assert grouped > 4.0 * alone


def test_a_mixture_refuses_the_splitter_too(rows):
    X, y, group = rows
    expert = EstimatorExpert(DecisionTreeRegressor(), cross_fit=KFold(3))
    model = MixtureOfExpertsRegressor(expert, 2, gate=ConstantGate())
    with pytest.raises(ExpertError, match="rows of one group into two folds"):
        model.fit(X, y, groups=group)


def test_row_groups_depend_on_content_alone():
    X = np.array([[1.0, np.nan], [0.0, 2.0], [1.0, np.nan], [-0.0, 2.0]])
    found = row_groups(X)
    assert found[0] == found[2] != found[1] == found[3]


def test_systematic_draws_are_even(rng):
    weight = rng.uniform(0.0, 3.0, size=40)
    weight[::5] = 0.0
    count = np.bincount(systematic_rows(weight, 100), minlength=40)
    expected = 100 * weight / weight.sum()
    assert (np.abs(count - expected) < 1.0).all()
    assert (count[::5] == 0).all()
    assert_allclose(count.sum(), 100)
