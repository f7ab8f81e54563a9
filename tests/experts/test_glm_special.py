"""Differences of gamma functions, against 40 digits and against each other."""

import numpy as np
import pytest
from scipy import special

from skmoe.experts._count_families import NegativeBinomialFamily
from skmoe.experts._special import (
    LARGE,
    gamma_entropy,
    gamma_surplus,
    log_rising,
    psi_rising,
    stirling_rest,
    trigamma_rising,
)

SIZES = [1e-3, 0.5, 7.0, LARGE - 1e-9, LARGE, 300.0, 1e6, 1e10]


@pytest.mark.parametrize("size", SIZES)
def test_log_rising_is_a_product(size):
    """``gamma(y + t) / gamma(t) = t (t + 1) ... (t + y - 1)`` for whole y."""
    for y in (0, 1, 2, 5, 40):
        factors = np.arange(y) / size
        expected = np.log1p(factors).sum()
        found = log_rising(float(y), size)
        assert found == pytest.approx(expected, rel=1e-10, abs=2e-13)


def test_log_rising_of_arrays_and_fractions():
    y = np.array([0.25, 1.5, 80.0])
    sizes = np.array([[2.0], [90.0]])
    expected = special.gammaln(y + sizes) - special.gammaln(sizes) - y * np.log(sizes)
    np.testing.assert_allclose(log_rising(y, sizes), expected, rtol=1e-9)


@pytest.mark.parametrize("size", SIZES)
def test_derivatives_of_log_rising_are_sums(size):
    """``psi(y + t) - psi(t) = 1 / t + ... + 1 / (t + y - 1)``, to all digits."""
    y = np.array([0.0, 1.0, 2.0, 5.0, 40.0])
    terms = [1.0 / (size + np.arange(count)) for count in y]
    first, second = psi_rising(y, size), trigamma_rising(y, size)
    # Below LARGE what is left of the digits of psi itself, at most log(LARGE).
    tolerance = {"rtol": 2e-14, "atol": 5e-15 if size < LARGE else 0.0}
    np.testing.assert_allclose(first, [t.sum() for t in terms], **tolerance)
    np.testing.assert_allclose(second, [-(t @ t) for t in terms], **tolerance)


def test_derivatives_of_log_rising_at_fractions_and_arrays():
    y = np.array([0.25, 1.5, 80.0])
    sizes = np.array([[2.0], [90.0]])
    first = special.psi(y + sizes) - special.psi(sizes)
    np.testing.assert_allclose(psi_rising(y, sizes), first, rtol=1e-12)
    second = special.polygamma(1, y + sizes) - special.polygamma(1, sizes)
    np.testing.assert_allclose(trigamma_rising(y, sizes), second, rtol=1e-11)


@pytest.mark.parametrize("theta", [1e4, 1e6])
def test_size_of_nearly_poisson_counts_has_its_derivatives(theta):
    """To first order in 1 / theta they are ``+-(y - (y - m)^2) / (2 theta)``."""
    y, mean = np.meshgrid(np.arange(9.0), [0.5, 2.0, 5.0])
    family, shapes = NegativeBinomialFamily(), np.log([[theta]])
    for row, means in zip(y, mean, strict=True):
        target = family.target(row)
        _, work = family.density(np.log(means)[None, None], target, shapes)
        for weight in np.eye(9)[:, None]:
            room = np.empty((2, 1, 1, 9))
            sums = family.fill(work, target, shapes, weight, room[0], room[1])
            slope, size = family.shape_terms(sums, np.zeros(1), shapes)
            expected = weight[0] @ (row - (row - means) ** 2) / (2.0 * theta)
            # The next order is a few hundred times 1 / theta^2.
            assert slope[0, 0] == pytest.approx(expected, abs=400.0 / theta**2)
            assert size[0, 0, 0] == pytest.approx(abs(expected), abs=800.0 / theta**2)


@pytest.mark.parametrize("size", [30.0, 45.5, 1e3])
def test_stirling(size):
    plain = special.gammaln(size) - (size - 0.5) * np.log(size) + size
    plain -= 0.5 * np.log(2.0 * np.pi)
    # What is left after cancellation of terms of this size.
    assert stirling_rest(size) == pytest.approx(plain, abs=4e-16 * size * np.log(size))


def test_both_branches_meet():
    near = LARGE * np.array([1.0 - 1e-12, 1.0])
    for function in (gamma_entropy, gamma_surplus, lambda a: log_rising(4.0, a)):
        low, high = function(near)
        assert low == pytest.approx(high, rel=1e-10)


def test_gamma_entropy_and_surplus_are_a_function_and_its_curvature():
    """In log a: the second derivative of -(entropy), plus its first one's part."""
    for shape in (1e-3, 0.4, 3.0, 29.0, 200.0):
        entropy = shape * np.log(shape) - shape - special.gammaln(shape)
        assert gamma_entropy(shape) == pytest.approx(entropy, rel=1e-9)
        curvature = shape**2 * special.polygamma(1, shape) - shape
        assert gamma_surplus(shape) == pytest.approx(curvature, rel=1e-9)
    assert gamma_surplus(1e12) == pytest.approx(0.5)
    assert gamma_entropy(1e12) == pytest.approx(0.5 * np.log(1e12 / (2.0 * np.pi)))
