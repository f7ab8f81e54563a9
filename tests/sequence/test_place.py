"""What is said of rows in time: lengths, groups, times, states, previous."""

import re

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from skmoe.sequence._place import (
    check_same_weight,
    known_states,
    read_chains,
    read_previous,
)
from tests.sequence.regimes import regressor, switching

TABLE = np.zeros((6, 1))


def test_rows_are_one_sequence_unless_told():
    assert_array_equal(read_chains(TABLE, 6).sequence, np.zeros(6))


@pytest.mark.parametrize("kind", [list, np.array, pd.Series, np.float64])
def test_lengths(kind):
    lengths = np.float64(6) if kind is np.float64 else kind([3, 1, 2])
    chains = read_chains(TABLE, 6, lengths)
    expected = np.zeros(6) if kind is np.float64 else [0, 0, 0, 1, 2, 2]
    assert_array_equal(chains.sequence, expected)


def test_groups_are_numbered_as_they_begin():
    chains = read_chains(TABLE, 6, groups=["z", "a", "z", "m", "a", "z"])
    assert_array_equal(chains.sequence, [0, 1, 0, 2, 1, 0])


def test_lengths_and_groups_are_too_much():
    with pytest.raises(ValueError, match="give lengths or groups, not both"):
        read_chains(TABLE, 6, [6], np.zeros(6))


@pytest.mark.parametrize(
    "lengths",
    [
        [3, 0, 3],
        [7, -1],
        [2.5, 3.5],
        [[3, 3]],
        ["3", "3"],
        [],
        [np.nan, 6],
        [np.inf],
        [True, 5.5],
    ],
)
def test_lengths_that_are_none(lengths):
    message = f"lengths must be whole numbers >= 1, .* got {re.escape(repr(lengths))}"
    with pytest.raises(ValueError, match=message):
        read_chains(TABLE, 6, lengths)


@pytest.mark.parametrize("lengths", [[3, 4], [5], [1, 1]])
def test_lengths_that_do_not_add_up(lengths):
    message = f"add up to the 6 rows of X, got {len(lengths)} lengths .* {sum(lengths)}"
    with pytest.raises(ValueError, match=message):
        read_chains(TABLE, 6, lengths)


def test_groups_without_a_name():
    with pytest.raises(ValueError, match=r"groups must not hold NaN or None: .* row 1"):
        read_chains(TABLE, 6, groups=["a", None, "a", "b", "b", "b"])


@pytest.mark.parametrize("groups", [[1, 2], np.zeros((6, 2))])
def test_groups_of_other_rows(groups):
    with pytest.raises(ValueError, match="groups must"):
        read_chains(TABLE, 6, groups=groups)


@pytest.mark.parametrize(
    "times",
    [
        np.arange(6),
        np.array([0.5, 0.7, 9.0, 10.0, 11.0, 12.0]),
        pd.date_range("2020-01-01", periods=6),
        pd.date_range("2020-01-01", periods=6, tz="Europe/Paris"),
        pd.period_range("2020-01", periods=6, freq="M"),
        list("abcdef"),
    ],
)
def test_times_that_rise(times):
    assert read_chains(TABLE, 6, times=times).n_sequences == 1


def test_times_rise_within_each_sequence():
    read_chains(TABLE, 6, groups=[0, 1, 0, 1, 0, 1], times=[5, 1, 6, 2, 7, 3])
    with pytest.raises(ValueError, match=r"row 4 has 4 after 6 in row 2 of the same"):
        read_chains(TABLE, 6, groups=[0, 1, 0, 1, 0, 1], times=[5, 1, 6, 2, 4, 3])


@pytest.mark.parametrize("last", [3.0, 2.5, np.nan])
def test_times_that_do_not_rise(last):
    times = np.array([0.0, 1.0, 2.0, 3.0, last, 9.0])
    with pytest.raises(ValueError, match=f"time does not rise: row 4 has {last} after"):
        read_chains(TABLE, 6, times=times)


@pytest.mark.parametrize("times", [[1, 2], np.zeros((6, 1))])
def test_times_of_other_rows(times):
    message = rf"one time for each of the 6 rows of X, got shape \({len(times)},"
    with pytest.raises(ValueError, match=message):
        read_chains(TABLE, 6, times=times)


@pytest.mark.parametrize("kind", ["date", "period"])
def test_an_index_of_dates_is_a_time(kind):
    make = pd.date_range if kind == "date" else pd.period_range
    index = make("2020-01", periods=6, freq="D")
    frame = pd.DataFrame({"x": np.arange(6.0)}, index=index)
    assert read_chains(frame, 6).n_sequences == 1
    backward = frame[::-1]
    with pytest.raises(ValueError, match=r"time does not rise: row 1 has 2020-01-05"):
        read_chains(backward, 6)
    # Given times come before the index.
    assert read_chains(backward, 6, times=np.arange(6)).n_sequences == 1
    # Any other index says nothing.
    assert read_chains(backward.reset_index(drop=True)[::-1], 6).n_sequences == 1


def test_dates_of_a_frame_are_checked_in_fit_and_after(rng):
    X, y, _ = switching(rng, 60)
    index = pd.date_range("2020-01-01", periods=60)
    frame = pd.DataFrame(X, columns=["a", "b"], index=index)
    model = regressor().fit(frame, y)
    assert_allclose(model.predict(frame), regressor().fit(X, y).predict(X))
    with pytest.raises(ValueError, match="time does not rise"):
        regressor().fit(frame[::-1], y)
    with pytest.raises(ValueError, match="time does not rise"):
        model.filter(frame[::-1], y)


@pytest.mark.parametrize(
    "states", [[0, -1, 2], [0.0, -1.0, 2.0], pd.Series([0, -1, 2])]
)
def test_known_states(states):
    assert_array_equal(known_states(states, 3, 3), [0, -1, 2])
    assert known_states(states, 3, 3).dtype == np.intp


@pytest.mark.parametrize("states", [None, [-1, -1, -1]])
def test_no_state_is_known(states):
    assert known_states(states, 3, 2) is None


@pytest.mark.parametrize(
    "states", [[0, 1], [[0], [1], [0]], [0.5, 1, 0], ["a", "b", "a"], [0, np.nan, 1]]
)
def test_states_that_are_none(states):
    message = r"states must hold an integer for each of the 3 rows of X, .* got shape"
    with pytest.raises(ValueError, match=message):
        known_states(states, 3, 2)


@pytest.mark.parametrize("states", [[0, 1, 2], [-2, 0, 1]])
def test_states_that_do_not_exist(states):
    low, high = min(states), max(states)
    message = rf"states must be from 0 to 1, .* got values from {low} to {high}"
    with pytest.raises(ValueError, match=message):
        known_states(states, 3, 2)


def test_the_law_before_the_first_row():
    assert read_previous(None, 2, 2) is None
    for given in ([0.25, 0.75], [[0.25, 0.75]] * 2):
        assert_array_equal(read_previous(given, 2, 2), [[0.25, 0.25], [0.75, 0.75]])


@pytest.mark.parametrize(
    "law",
    [
        [0.5, 0.6],
        [1.5, -0.5],
        [1.0],
        [0.5, 0.2, 0.3],
        [np.nan, 1.0],
        [[0.5, 0.5]],
        [[0.5, 0.5]] * 3,
        0.5,
        [[[0.5, 0.5]] * 2],
    ],
)
def test_laws_that_are_none(law):
    message = r"previous must hold probabilities .* \(2,\) or \(2, 2\).* got shape"
    with pytest.raises(ValueError, match=message):
        read_previous(law, 2, 2)


def test_rows_of_a_sequence_weigh_the_same():
    chains = read_chains(TABLE, 6, [2, 4])
    check_same_weight(np.repeat([3.0, 0.0], [2, 4]), chains)
    weight = np.array([1.0, 1.0, 2.0, 2.0, 0.0, 2.0])
    with pytest.raises(ValueError, match=r"got 0 in row 4 after 2\. .* set y to NaN"):
        check_same_weight(weight, chains)


def test_what_is_wrong_is_said_by_fit(rng):
    X, y, _ = switching(rng, 30)
    model = regressor()
    with pytest.raises(ValueError, match="add up to the 30 rows"):
        model.fit(X, y, lengths=[3])
    with pytest.raises(ValueError, match="sample_weight must be the same"):
        model.fit(X, y, np.arange(1.0, 31.0))
    with pytest.raises(ValueError, match="states must be from 0 to 1"):
        model.fit(X, y, states=np.arange(30))
    with pytest.raises(ValueError, match="time does not rise"):
        model.fit(X, y, times=-np.arange(30))
    model.fit(X, y)
    with pytest.raises(ValueError, match="previous must hold"):
        model.predict(X, y, previous=[1.0, 1.0])
