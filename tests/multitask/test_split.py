"""Folds with alike shares of the classes of all tasks."""

import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score

from skmoe.multitask._split import MultiTaskStratifiedKFold, deal

NAN = np.nan


def folds_of(y, n_splits=5, **kwargs):
    splitter = MultiTaskStratifiedKFold(n_splits, **kwargs)
    return [test for _, test in splitter.split(None, y)]


def counts(y, folds, label=1):
    return np.array([(y[rows] == label).sum(axis=0) for rows in folds])


def two_tasks(n_samples=1000, seed=0):
    rng = np.random.RandomState(seed)
    return (rng.uniform(size=(n_samples, 2)) < [0.01, 0.4]).astype(int)


def test_train_and_test_part_all_rows():
    y = two_tasks(103)
    seen = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        for train, test in MultiTaskStratifiedKFold(4).split(None, y):
            np.testing.assert_array_equal(np.union1d(train, test), np.arange(103))
            assert not np.intersect1d(train, test).size
            seen.extend(test)
    np.testing.assert_array_equal(np.sort(seen), np.arange(103))


def test_shares_are_even_in_all_tasks_at_once():
    y = two_tasks(20_000)
    folds = folds_of(y)
    assert np.ptp(counts(y, folds), axis=0).max() <= 1
    assert np.ptp([len(rows) for rows in folds]) <= 2


@pytest.mark.parametrize("seed", range(40))
def test_class_with_enough_members_is_in_every_fold(seed):
    rng = np.random.RandomState(seed)
    n_samples, n_tasks = rng.randint(40, 300), rng.randint(2, 6)
    rate = rng.uniform(0.02, 0.3, size=n_tasks)
    y = (rng.uniform(size=(n_samples, n_tasks)) < rate).astype(float)
    y[:, 0] *= y[:, -1]  # one task follows from another
    y[rng.uniform(size=y.shape) < 0.2] = NAN
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        held = counts(y, folds_of(y, 4))
    enough = np.nansum(y, axis=0) >= 4
    assert held[:, enough].min(initial=4) >= 1


def test_plain_folds_lose_the_rare_task_that_these_keep():
    y = np.zeros((100, 2), dtype=int)
    y[:5, 0], y[:50, 1] = 1, 1
    plain = [test for _, test in StratifiedKFold(5).split(y, y[:, 1])]
    assert counts(y, plain)[:, 0].min() == 0
    np.testing.assert_array_equal(counts(y, folds_of(y)), np.tile([1, 10], (5, 1)))


def test_one_task_has_the_shares_of_scikit_learn():
    y = np.repeat([0, 1, 2], [60, 30, 11])
    ours = counts(y[:, None], folds_of(y), 2)
    theirs = [test for _, test in StratifiedKFold(5).split(y, y)]
    np.testing.assert_array_equal(
        np.sort(ours.ravel()), np.sort(counts(y[:, None], theirs, 2).ravel())
    )


def test_order_is_fixed_without_shuffle_and_drawn_with_it():
    y = two_tasks(4000)
    for one, other in zip(folds_of(y), folds_of(y), strict=True):
        np.testing.assert_array_equal(one, other)
    drawn = folds_of(y, shuffle=True, random_state=0)
    again = folds_of(y, shuffle=True, random_state=0)
    np.testing.assert_array_equal(drawn[0], again[0])
    assert not np.array_equal(drawn[0], folds_of(y)[0])
    other = folds_of(y, shuffle=True, random_state=1)
    assert not np.array_equal(drawn[0], other[0])
    np.testing.assert_array_equal(counts(y, drawn), counts(y, folds_of(y)))


def test_amounts_count_only_by_where_they_are_missing():
    rng = np.random.RandomState(0)
    click = (rng.uniform(size=500) < 0.1).astype(float)
    watch = np.where(rng.uniform(size=500) < 0.04, rng.exponential(size=500), NAN)
    folds = folds_of(np.column_stack([click, watch]))
    labelled = [np.isfinite(watch[rows]).sum() for rows in folds]
    assert np.ptp(labelled) <= 1
    assert np.ptp([click[rows].sum() for rows in folds]) <= 2
    there = np.where(np.isfinite(watch), 1.0, NAN)
    for one, other in zip(
        folds, folds_of(np.column_stack([click, there])), strict=True
    ):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "kind", [pd.DataFrame, pl.DataFrame, dict], ids=["pandas", "polars", "dict"]
)
def test_frames_and_text_split_as_their_codes(kind):
    codes = two_tasks(600, seed=2)
    codes[:40, 0] = 1
    labels = {
        "click": np.array(["no", "yes"], dtype=object)[codes[:, 0]],
        "like": codes[:, 1],
    }
    for one, other in zip(folds_of(kind(labels)), folds_of(codes), strict=True):
        np.testing.assert_array_equal(one, other)


def test_missing_text_is_no_class():
    y = np.array([["a", "x"], ["b", None]] * 20 + [[None, None]] * 10, dtype=object)
    folds = folds_of(y)
    assert {len(rows) for rows in folds} == {10}
    np.testing.assert_array_equal(counts(y, folds, "a")[:, 0], 4)


def test_unequal_shares_give_the_rare_class_to_the_larger_part():
    codes = np.zeros((100, 1), dtype=int)
    codes[:3] = 1
    fold = deal(codes, np.array([0.1, 0.9]))
    assert (fold == 0).sum() == 10
    assert (fold[:3] == 1).all()


def test_cross_validation_and_search_take_it():
    y = two_tasks(400)
    y[:20, 0] = 1
    X = np.zeros((400, 1))
    model, cv = DummyClassifier(), MultiTaskStratifiedKFold(3)
    assert cross_val_score(model, X, y, cv=cv).shape == (3,)
    search = GridSearchCV(model, {"strategy": ["prior", "stratified"]}, cv=cv)
    assert search.fit(X, y).n_splits_ == 3


def test_it_reads_as_the_splitters_of_scikit_learn():
    splitter = MultiTaskStratifiedKFold(3, shuffle=True, random_state=7)
    assert repr(splitter) == (
        "MultiTaskStratifiedKFold(n_splits=3, random_state=7, shuffle=True)"
    )
    assert splitter.get_n_splits() == 3


def test_class_rarer_than_folds_is_warned_of():
    y = two_tasks(50)
    y[:, 0] = 0
    y[:2, 0] = 1
    with pytest.warns(UserWarning, match="task 'y0' has only 2 members, which is less"):
        folds = folds_of(y)
    assert sorted(counts(y, folds)[:, 0]) == [0, 0, 0, 1, 1]


def test_rare_large_counts_are_not_warned_of():
    visits = np.repeat([0, 1, 2, 9], [60, 30, 9, 1])
    folds = folds_of(visits)  # warnings are errors here
    assert np.ptp(counts(visits[:, None], folds, 1)) == 0
    with pytest.warns(UserWarning, match="of task 'y' has only 1 members"):
        folds_of(visits.astype(str))


@pytest.mark.parametrize(
    ("kwargs", "match"),
    [
        ({"n_splits": 1}, "n_splits must be an integer >= 2, got 1"),
        ({"n_splits": 2.0}, "n_splits must be an integer >= 2, got 2.0"),
        ({"n_splits": 11}, "n_splits=11 greater than the number of samples: n_samples"),
        ({"random_state": 0}, "random_state has no effect since shuffle is False"),
    ],
)
def test_bad_arguments_are_named(kwargs, match):
    with pytest.raises(ValueError, match=match):
        folds_of(two_tasks(10), **kwargs)
