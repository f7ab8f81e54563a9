"""The two spirals: the published points, and what is generalised about them."""

import numpy as np
import pytest
from scipy.spatial import cKDTree
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from skmoe.datasets import make_two_spirals


def published():
    """Return the 194 points as Lang and Witbrock's program prints them."""
    rows, labels = [], []
    for i in range(97):
        angle = i * np.pi / 16.0
        radius = 6.5 * (104 - i) / 104.0
        x, y = radius * np.sin(angle), radius * np.cos(angle)
        rows += [(x, y), (-x, -y)]
        labels += [1, 0]
    return np.array(rows), np.array(labels)


def place_on_spiral(X, y, turns):
    """Return how far each point is from its spiral, and its share of the way."""
    share = np.linspace(0.0, 1.0, 192 * 200 + 1)
    angle, radius = 2.0 * np.pi * turns * share, 6.5 - 6.0 * share
    curve = np.column_stack([radius * np.sin(angle), radius * np.cos(angle)])
    own = X * np.where(y == 1, 1.0, -1.0)[:, None]
    distance, nearest = cKDTree(curve).query(own)
    return distance, share[nearest]


def test_default_is_the_published_table():
    X, y = make_two_spirals(return_X_y=True)
    expected, labels = published()
    np.testing.assert_allclose(X, expected, atol=1e-12)
    np.testing.assert_array_equal(y, labels)
    assert y.dtype.kind == "i"
    assert (y == 1).sum() == (y == 0).sum() == 97


def test_bunch_and_pair_hold_the_same():
    table = make_two_spirals(40, noise=0.1, random_state=0)
    X, y = make_two_spirals(40, noise=0.1, random_state=0, return_X_y=True)
    np.testing.assert_array_equal(table.data, X)
    np.testing.assert_array_equal(table.target, y)
    assert table.data.shape == (40, 2)
    assert table.target.shape == (40,)
    assert table.feature_names == ["x", "y"]
    assert table.target_names == ["spiral"]
    assert "Witbrock" in table.DESCR


@pytest.mark.parametrize("turns", [0.5, 3.0, 4])
def test_more_points_lie_on_the_same_curve(turns):
    X, y = make_two_spirals(386, turns=turns, return_X_y=True)
    distance, share = place_on_spiral(X, y, turns)
    assert distance.max() < 1e-12
    for label in (0, 1):
        np.testing.assert_allclose(share[y == label], np.linspace(0, 1, 193))
    # Twice as dense: every other point is one of the fewer.
    fewer, _ = make_two_spirals(194, turns=turns, return_X_y=True)
    np.testing.assert_allclose(X[0::4], fewer[0::2], atol=1e-12)
    np.testing.assert_allclose(X[1::4], fewer[1::2], atol=1e-12)


def test_one_class_is_the_other_turned_by_half_a_turn():
    X, y = make_two_spirals(60, turns=2.0, return_X_y=True)
    np.testing.assert_array_equal(X[y == 1], -X[y == 0])
    radius = np.linalg.norm(X[y == 1], axis=1)
    assert (radius[0], radius[-1]) == (6.5, 0.5)
    assert (np.diff(radius) < 0).all()


def test_without_noise_there_is_no_chance():
    one, _ = make_two_spirals(50, random_state=0, return_X_y=True)
    other, _ = make_two_spirals(50, random_state=1, return_X_y=True)
    np.testing.assert_array_equal(one, other)


def test_seed_fixes_the_noisy_rows():
    X, y = make_two_spirals(50, noise=0.2, random_state=3, return_X_y=True)
    again, _ = make_two_spirals(50, noise=0.2, random_state=3, return_X_y=True)
    other, _ = make_two_spirals(50, noise=0.2, random_state=4, return_X_y=True)
    np.testing.assert_array_equal(X, again)
    assert not np.array_equal(X, other)
    generator = np.random.RandomState(3)
    from_generator, _ = make_two_spirals(
        50, noise=0.2, random_state=generator, return_X_y=True
    )
    np.testing.assert_array_equal(from_generator, X)
    assert (y == 1).sum() == 25


def test_noise_has_the_stated_size_and_the_places_are_even():
    X, y = make_two_spirals(4000, noise=0.05, random_state=0, return_X_y=True)
    distance, share = place_on_spiral(X, y, 3.0)
    # Of a round displacement only the part across the curve is seen as distance.
    inner = (share > 0.02) & (share < 0.98)
    across = np.sqrt((distance[inner] ** 2).mean())
    assert across == pytest.approx(0.05, rel=0.05)
    for label in (0, 1):
        counts, _ = np.histogram(share[y == label], bins=10, range=(0, 1))
        # Within 4 standard errors of a tenth each.
        assert np.abs(counts - 200).max() < 4 * np.sqrt(200 * 0.9)
    # Each class has places of its own.
    assert not np.allclose(X[y == 1], -X[y == 0], atol=0.5)


def test_a_straight_border_fails_and_neighbours_do_not():
    X, y = make_two_spirals(4000, noise=0.1, random_state=0, return_X_y=True)
    new, labels = make_two_spirals(2000, noise=0.1, random_state=1, return_X_y=True)
    assert LogisticRegression().fit(X, y).score(new, labels) < 0.7
    assert KNeighborsClassifier(5).fit(X, y).score(new, labels) > 0.98


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"n_samples": 195}, "n_samples must be an even integer >= 4, got 195"),
        ({"n_samples": 2}, "n_samples must be an even integer >= 4, got 2"),
        ({"n_samples": 20.0}, r"n_samples .* got 20\.0"),
        ({"turns": 0.0}, r"turns must be a positive number, got 0\.0"),
        ({"turns": np.inf}, "turns must be a positive number, got inf"),
        ({"turns": "three"}, "turns .* got 'three'"),
        ({"noise": -0.1}, r"noise must be a finite number >= 0, got -0\.1"),
        ({"noise": np.nan}, "noise must be a finite number >= 0, got nan"),
        ({"noise": np.inf}, "noise must be a finite number >= 0, got inf"),
        ({"noise": True}, "noise must be .* got True"),
        ({"noise": [0.1, 0.2]}, "noise must be a finite number"),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        make_two_spirals(**kwargs)
