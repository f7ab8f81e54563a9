"""The points that enough sets hold, against counting on a grid."""

import numpy as np
import pytest

from skmoe.conformal._votes import held_by


def test_points_of_a_grid_are_held_as_counted(rng):
    lower = rng.uniform(0.0, 10.0, (8, 25))
    upper = lower + rng.exponential(2.0, (8, 25))
    lower[rng.random((8, 25)) < 0.2] = np.nan
    weight = rng.integers(1, 4, (8, 25)).astype(float)
    needed = np.arange(8.0)
    union = held_by(lower, upper, weight, needed)
    for point in np.linspace(-1.0, 20.0, 211):
        held = np.where((lower <= point) & (point <= upper), weight, 0.0).sum(axis=1)
        np.testing.assert_array_equal(
            union.contains(np.full(8, point)), held > np.maximum(needed, 0.0)
        )


@pytest.mark.parametrize(
    ("needed", "expected"),
    [
        (0.0, [[0.0, 5.0]]),
        (1.0, [[1.0, 2.0], [4.0, 4.0]]),  # the closed ends that touch count twice
        (2.0, [[1.0, 2.0], [4.0, 4.0]]),  # nobody has three: where there are most
    ],
)
def test_small_case(needed, expected):
    lower, upper = np.array([[0.0, 1.0, 4.0]]), np.array([[2.0, 4.0, 5.0]])
    union = held_by(lower, upper, np.ones((1, 3)), np.array([needed]))
    np.testing.assert_array_equal(union[0], expected)


def test_integers_without_a_gap_are_one_piece():
    lower, upper = np.array([[0.0, 3.0, 7.0]]), np.array([[2.0, 4.0, 7.0]])
    union = held_by(lower, upper, np.ones((1, 3)), np.zeros(1), integers=True)
    np.testing.assert_array_equal(union[0], [[0.0, 4.0], [7.0, 7.0]])
    assert union.length() == [6.0]


def test_fractions_of_weight_leave_no_rest():
    lower, upper = np.zeros((1, 10)), np.ones((1, 10))
    union = held_by(lower, upper, np.full((1, 10), 0.1), np.array([-1.0]))
    np.testing.assert_array_equal(union[0], [[0.0, 1.0]])
