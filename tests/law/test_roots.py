"""Roots and peaks of many functions at once, against SciPy and closed forms."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import optimize

from skmoe.law._roots import bracketed_peaks, bracketed_roots

SHIFT = np.array([-3.0, -0.2, 0.0, 1e-9, 0.7, 40.0])


def roots(function, low, high, **options):
    index = np.arange(low.size)
    ends = function(low, index), function(high, index)
    return bracketed_roots(function, low, high, *ends, **options)


@pytest.mark.parametrize(
    "shape",
    [np.sinh, np.tanh, np.cbrt, lambda x: x**3 + x, lambda x: np.exp(x) - 1.0],
    ids=["sinh", "tanh", "cbrt", "cubic", "exp"],
)
def test_roots_are_where_they_are(shape):
    def function(x, index):
        return shape(x - SHIFT[index])

    found = roots(function, SHIFT - 1.7, SHIFT + 5.3)
    assert_allclose(found, SHIFT, rtol=1e-13, atol=1e-13)


def test_roots_against_scipy(rng):
    slope, shift = rng.uniform(0.1, 3.0, 50), rng.normal(size=50)

    def function(x, index):
        return np.arctan(slope[index] * x) + x / 7 - shift[index]

    found = roots(function, np.full(50, -30.0), np.full(50, 30.0))
    for i in range(50):
        expected = optimize.brentq(
            lambda x, i=i: function(np.array([x]), [i])[0], -30, 30, xtol=1e-14
        )
        assert_allclose(found[i], expected, atol=1e-12)


def test_a_falling_function_and_a_step():
    cut = np.array([0.3, -1.2])

    def step(x, index):
        return np.where(x < cut[index], 1.0, -1.0)

    low, high = np.full(2, -2.0), np.full(2, 2.0)
    assert_allclose(roots(step, low, high), cut, atol=1e-13)
    found = roots(lambda x, index: cut[index] - x, low, high)
    assert_allclose(found, cut, atol=1e-15)


def test_solved_problems_are_not_asked_about_again():
    asked = np.zeros(3, dtype=int)

    def function(x, index):
        asked[index] += 1
        return np.where(index == 2, x - 0.1, np.sinh(20 * x) - 1e3)

    low, high = np.full(3, -1.0), np.full(3, 2.0)
    roots(function, low, high)
    assert asked[2] < asked[0]
    assert asked[0] < 60


def test_tolerances_end_the_search_sooner():
    count = []

    def function(x, index):
        count.append(x.size)
        return np.exp(x) - 2.0

    ends = np.array([-3.0]), np.array([5.0])
    exact = roots(function, *ends)
    full = len(count)
    near = roots(function, *ends, x_tol=1e-2)
    assert len(count) - full < full
    assert_allclose(near, np.log(2.0), atol=1e-2)
    small = roots(function, *ends, f_tol=1e-3)
    assert abs(np.exp(small[0]) - 2.0) <= 1e-3
    assert_allclose(exact, np.log(2.0), rtol=1e-15)


def test_a_root_at_an_end_of_the_bracket():
    low, high = np.array([0.0, -1.0]), np.array([1.0, 0.0])
    assert_array_equal(roots(lambda x, index: x, low, high), [0.0, 0.0])


def peaks(function, left, peak, right):
    index = np.arange(peak.size)
    heights = [function(x, index) for x in (left, peak, right)]
    assert (heights[1] >= heights[0]).all()
    assert (heights[1] >= heights[2]).all()
    return bracketed_peaks(function, left, peak, right, heights)


@pytest.mark.parametrize(
    ("shape", "atol"),
    [
        (lambda x: -x * x, 1e-8),
        (lambda x: -np.cosh(3 * x), 1e-7),
        (lambda x: -np.abs(x), 1e-6),
        (lambda x: np.where(x < 0, 1e6 * x, -x), 1e-6),
        (lambda x: -1e-9 * (x - np.expm1(x)) ** 2 - 1e-12 * x * x, 0.03),
    ],
    ids=["parabola", "cosh", "kink", "lopsided", "flat"],
)
def test_peaks_are_where_they_are(shape, atol):
    place = np.array([-5.0, 0.013, 0.0, 2.0])

    def function(x, index):
        return shape(x - place[index])

    found, height = peaks(function, place - 0.8, place + 0.1, place + 1.3)
    assert_allclose(found, place, atol=atol)
    assert_array_equal(height, function(found, np.arange(4)))


def test_a_peak_that_is_already_there_stays(rng):
    place = rng.normal(size=5)

    def function(x, index):
        return -np.abs(x - place[index])

    found, height = peaks(function, place - 1.0, place, place + 0.2)
    assert_array_equal(found, place)
    assert_array_equal(height, np.zeros(5))


def test_an_edge_beside_a_peak():
    """One neighbour at the same place, just outside of a support."""
    left = np.array([0.0])

    def function(x, index):
        return np.where(x < 0.0, -1e6, -np.square(x - 0.4))

    found, height = bracketed_peaks(
        function, left, left, left + 0.9, [np.array([-1e6]), -left - 0.16, left - 0.25]
    )
    assert_allclose(found, 0.4, atol=1e-6)
    assert_allclose(height, 0.0, atol=1e-12)


def test_no_problems_no_calls():
    nothing = np.zeros(0)

    def never(x, index):
        raise AssertionError

    assert bracketed_roots(lambda x, i: x, *[nothing] * 4).size == 0
    assert bracketed_peaks(never, *[nothing] * 3, [nothing] * 3)[0].size == 0
