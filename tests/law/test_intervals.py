"""Unions of intervals: gathering, lengths, membership, frames, indexing."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from skmoe.law._intervals import IntervalUnion


@pytest.fixture
def union():
    """Return three rows: two intervals, none, and one."""
    row = np.array([2, 0, 0])
    return IntervalUnion.from_pieces(
        row, np.array([5.0, 3.0, -1.0]), np.array([9.0, 4.0, 0.5]), 3
    )


def test_pieces_are_gathered_in_order_and_padded(union):
    assert len(union) == 3
    assert_array_equal(union.n_pieces, [2, 0, 1])
    assert_array_equal(union.lower, [[-1, 3], [np.nan, np.nan], [5, np.nan]])
    assert_array_equal(union.upper, [[0.5, 4], [np.nan, np.nan], [9, np.nan]])
    assert repr(union) == "IntervalUnion(n_samples=3, max_pieces=2)"


def test_length_and_membership(union):
    assert_array_equal(union.length(), [2.5, 0.0, 4.0])
    for y, expected in (
        ([-1.0, 0.0, 5.0], [True, False, True]),
        ([0.5, 0.0, 9.0], [True, False, True]),
        ([2.0, 0.0, 9.1], [False, False, False]),
        ([3.5, np.nan, np.nan], [True, False, False]),
    ):
        assert_array_equal(union.contains(y), expected)


def test_index_of_one_row_and_of_several(union):
    assert_array_equal(union[0], [[-1, 0.5], [3, 4]])
    assert union[1].shape == (0, 2)
    assert_array_equal(union[np.int64(2)], [[5, 9]])
    assert_array_equal(union[-1], union[2])
    some = union[[2, 0]]
    assert isinstance(some, IntervalUnion)
    assert_array_equal(some.n_pieces, [1, 2])
    assert_array_equal(union[1:].lower, union.lower[1:])
    mask = np.array([True, False, True])
    assert_array_equal(union[mask].upper, union.upper[mask])


def test_frame_has_a_line_for_each_interval(union):
    frame = union.to_frame()
    assert list(frame.columns) == ["row", "piece", "lower", "upper"]
    assert_array_equal(frame.row, [0, 0, 2])
    assert_array_equal(frame.piece, [0, 1, 0])
    assert_array_equal(frame.lower, [-1, 3, 5])
    assert_array_equal(frame.upper, [0.5, 4, 9])


def test_integers_are_counted_and_touch():
    row = np.zeros(3, dtype=int)
    ends = np.array([0.0, 2.0, 5.0]), np.array([1.0, 3.0, 5.0])
    union = IntervalUnion.from_pieces(row, *ends, 1, integers=True)
    assert_array_equal(union[0], [[0, 3], [5, 5]])
    assert_array_equal(union.length(), [5])
    assert union.contains([2])
    assert not union.contains([2.5])
    assert not union.contains([4])
    assert union[:1].integers
    reals = IntervalUnion.from_pieces(row, *ends, 1)
    assert_array_equal(reals.n_pieces, [3])
    assert_array_equal(reals.length(), [2])


def test_overlaps_become_one():
    """Points inside an interval, and intervals inside of others, add nothing."""
    row = np.array([0, 0, 0, 0, 1, 1, 1])
    lower = np.array([0.0, 0.5, 1.0, 7.0, 2.0, 2.0, 3.0])
    upper = np.array([4.0, 0.5, 5.0, 8.0, 9.0, 2.5, 3.0])
    union = IntervalUnion.from_pieces(row, lower, upper, 2)
    assert_array_equal(union[0], [[0, 5], [7, 8]])
    assert_array_equal(union[1], [[2, 9]])


def test_merging_against_a_grid(rng):
    """Random pieces: membership is that of any of them, pieces are apart."""
    row = rng.integers(0, 6, 60)
    lower = np.round(rng.uniform(0, 20, 60), 1)
    upper = lower + np.round(rng.exponential(0.7, 60), 1)
    union = IntervalUnion.from_pieces(row, lower, upper, 6)
    for y in np.arange(-0.05, 25, 0.1):
        inside = (lower <= y) & (y <= upper)
        expected = np.bincount(row[inside], minlength=6) > 0
        assert_array_equal(union.contains(np.full(6, y)), expected)
    for i in range(6):
        assert (union[i][1:, 0] > union[i][:-1, 1]).all()


def test_no_pieces_at_all():
    nothing = np.zeros(0)
    union = IntervalUnion.from_pieces(nothing.astype(int), nothing, nothing, 2)
    assert_array_equal(union.n_pieces, [0, 0])
    assert_array_equal(union.length(), [0, 0])
    assert not union.contains([1.0, 2.0]).any()
    assert union.to_frame().empty


def test_one_number_for_each_row(union):
    with pytest.raises(ValueError, match=r"of shape \(3,\), one number for each row"):
        union.contains(1.0)
    with pytest.raises(ValueError, match=r"got \(2,\)"):
        union.contains([1.0, 2.0])
