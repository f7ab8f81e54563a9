"""The numerics of counts against many-digit arithmetic and brute force."""

from fractions import Fraction
from math import lgamma, log, log1p

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from skmoe.likelihoods._saddle import (
    cornish_fisher,
    excess,
    half_deviance,
    smallest_count,
)


def test_excess_is_what_is_left_of_log_factorials():
    count = np.array([0.0, 1e-8, 0.3, 1.0, 2.5, 15.9, 16.0, 16.1, 40.0, 170.0])
    direct = [lgamma(c + 1) - (c * log(c) if c else 0.0) + c for c in count]
    assert_allclose(excess(count), direct, rtol=1e-12, atol=1e-14)
    # The sum of logs, in exact numbers, of a factorial that is a large integer.
    big = 2000
    product = 1
    for i in range(2, big + 1):
        product *= i
    logs = (product.bit_length() - 60) * log(2.0) + log(
        Fraction(product, 2 ** (product.bit_length() - 60))
    )
    assert_allclose(excess(float(big)), logs - big * log(big) + big, rtol=1e-10)


def test_excess_is_smooth_where_its_formulas_meet():
    step = 1e-3
    x = 16.0 + step * np.arange(-6, 7)
    third = np.diff(excess(x), n=3)
    assert abs(third).max() < 1e-8 * step


@pytest.mark.parametrize("relative", [1e-9, 1e-4, 0.05, 0.199, 0.201, 0.25, 3.0])
@pytest.mark.parametrize("mean", [1e-200, 0.3, 5.0, 1e7, 1e200])
def test_half_deviance(relative, mean):
    for sign in (-1.0, 1.0):
        ratio = max(sign * relative, -0.9)
        # (1 + r) log(1 + r) - r, by its series where it would cancel.
        if abs(ratio) < 1e-3:
            expected = ratio**2 / 2 - ratio**3 / 6 + ratio**4 / 12 - ratio**5 / 20
        else:
            expected = (1 + ratio) * log1p(ratio) - ratio
        found = half_deviance(
            np.array([mean * (1 + ratio)]), np.array([mean]), np.array([mean * ratio])
        )
        assert_allclose(found, mean * expected, rtol=1e-12)


def test_half_deviance_at_its_ends():
    count = np.array([0.0, 0.0, 2.0, 2.0, 1e300])
    mean = np.array([0.0, 3.0, 0.0, np.inf, np.inf])
    assert_array_equal(half_deviance(count, mean), [0.0, 3.0, np.inf, np.inf, np.inf])


def test_cornish_fisher_is_near():
    q = np.array([0.01, 0.5, 0.99])
    for mean in (5.0, 100.0):
        guess = cornish_fisher(q, mean, mean, 1 / np.sqrt(mean))
        assert abs(guess - stats.poisson.ppf(q, mean)).max() < 1.5
    assert np.isfinite(cornish_fisher(np.array([0.0, 1.0]), 1.0, 1.0, 0.0)).all()


@pytest.mark.parametrize("shift", [0.0, -3.0, 3.0, -1e5, 1e5])
def test_smallest_count_from_any_guess(shift, rng):
    answer = np.floor(10.0 ** rng.uniform(0, 9, size=200)) - 1.0
    asked = np.zeros(answer.size)

    def reaches(count, index):
        np.add.at(asked, index, 1)
        assert (count >= 0).all()
        assert (count == np.floor(count)).all()
        return count >= answer[index]

    found = smallest_count(reaches, answer + shift)
    assert_array_equal(found, answer)
    assert asked.max() <= 4 + 2 * np.log2(1 + abs(shift))
    if shift == 0.0:
        assert asked.max() <= 2


def test_smallest_count_leaves_what_is_no_count():
    def reaches(count, index):
        return count >= 5.0

    found = smallest_count(reaches, np.array([1e200, 4.4, -7.0]))
    assert_array_equal(found, [1e200, 5.0, 5.0])
