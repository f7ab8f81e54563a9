"""Student's t and Laplace against SciPy, and in the limits of their tails."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from skmoe.likelihoods import Gaussian, Laplace, StudentT
from tests.likelihoods.family_suite import LEVELS, DensitySuite

LOCATIONS = np.array([-2.0, 0.0, 1e3])


def student(scale, df):
    laws = [stats.t(df, location, scale) for location in LOCATIONS]
    return LOCATIONS, np.array([scale**2, df]), laws


def laplace(scale):
    laws = [stats.laplace(location, scale) for location in LOCATIONS]
    return LOCATIONS, np.array(scale), laws


class TestStudentT(DensitySuite):
    family = StudentT()
    cases = (
        student(0.1, 2.5),
        student(1.0, 4.0),
        student(7.0, 33.3),
        student(1.0, 1e5),
    )


class TestStudentTWithoutVariance(DensitySuite):
    family = StudentT()
    cases = (student(1.0, 1.1), student(2.0, 1.9), student(0.5, 2.0))

    def test_integrates_to_one(self):
        for params, dispersion, _ in self.each_row():
            location = float(params[0])
            # In asinh of the error: tails of exponential decay.
            t = np.linspace(-28, 28, 8001)
            y = location + np.sqrt(dispersion[0]) * np.sinh(t)
            density = np.exp(self.at("log_prob", y, params, dispersion))
            jacobian = np.sqrt(dispersion[0]) * np.cosh(t)
            assert_allclose(np.trapezoid(density * jacobian, t), 1.0, rtol=1e-9)

    def test_variance_is_infinite(self):
        for params, dispersion, _ in self.cases:
            assert_array_equal(self.family.variance(params, dispersion), np.inf)
            assert_array_equal(self.family.mean(params, dispersion), params)


class TestLaplace(DensitySuite):
    family = Laplace()
    cases = (laplace(0.01), laplace(3.0))


def test_cauchy_has_a_location_all_the_same():
    dispersion = np.array([4.0, 1.0])
    assert_array_equal(StudentT().mean(LOCATIONS, dispersion), LOCATIONS)
    for q in (0.01, 0.4, 0.5, 0.99):
        expected = stats.cauchy(LOCATIONS, 2.0).ppf(q)
        assert_allclose(StudentT().quantile(q, LOCATIONS, dispersion), expected)
    y = LOCATIONS + np.array([-1.0, 5.0, 1e9])
    expected = stats.cauchy(LOCATIONS, 2.0).logpdf(y)
    assert_allclose(StudentT().log_prob(y, LOCATIONS, dispersion), expected)


@pytest.mark.parametrize("df", [1e9, 1e16, 1e300, np.inf])
def test_many_degrees_of_freedom_are_normal(df):
    dispersion = np.array([0.49, df])
    mean = np.zeros(9)
    y = np.linspace(-4, 4, 9)
    for name in ("log_prob", "cdf"):
        found = getattr(StudentT(), name)(y, mean, dispersion)
        expected = getattr(Gaussian(), name)(y, mean, 0.49)
        assert_allclose(found, expected, rtol=1e-6, atol=1e-12, err_msg=name)
    found = StudentT().quantile(LEVELS, mean, dispersion)
    assert_allclose(
        found, Gaussian().quantile(LEVELS, mean, 0.49), rtol=1e-6, atol=1e-12
    )
    assert_allclose(StudentT().variance(mean, dispersion), 0.49, rtol=1e-8)
    draws = StudentT().sample(mean, dispersion, 5000, np.random.default_rng(0))
    assert_allclose(draws.var(), 0.49, rtol=0.05)


@pytest.mark.parametrize("df", [1e-3, 0.05, 0.5, 1.0, 2.5, 1e4])
def test_student_never_gives_nan(df):
    dispersion = np.array([1.0, df])
    y = np.array([-np.inf, -1e300, -1e160, 0.0, 1e-300, 1e8, 1e200])
    zero = np.zeros(y.size)
    log_prob = StudentT().log_prob(y, zero, dispersion)
    assert not np.isnan(log_prob).any()
    assert (log_prob[1:] > -np.inf).all()
    # Far out the density falls as |y| to the power -(df + 1).
    slope = (log_prob[1] - log_prob[2]) / (np.log(1e300) - np.log(1e160))
    assert_allclose(slope, -(df + 1.0))
    q = np.array([0.0, 1e-40, 1e-30, 0.4, 0.5, 0.6, 1.0])
    quantile = StudentT().quantile(q, zero, dispersion)
    assert not np.isnan(quantile).any()
    assert (np.diff(quantile) >= 0).all()
    assert_array_equal(quantile[[0, 4, 6]], [-np.inf, 0.0, np.inf])
    draws = StudentT().sample(zero, dispersion, 50, np.random.default_rng(0))
    assert not np.isnan(draws).any()


@pytest.mark.parametrize("offset", [1e-12, 1e-9, 1e-6, 1e-3])
def test_student_quantile_near_the_median_keeps_its_digits(offset):
    for df in (0.5, 1.0, 4.0, 30.0):
        dispersion = np.array([1.0, df])
        y = StudentT().quantile(0.5 + offset, np.zeros(1), dispersion)
        # The cdf there is 1/2 plus the density times y, up to y cubed.
        expected = offset / stats.t(df).pdf(0.0)
        assert_allclose(
            y, expected, rtol=2 * (df + 1) / df * expected**2 + 1e-3 * 1e-12 / offset
        )


@pytest.mark.parametrize("scale", [0.0, 1e-300, 1e300])
def test_laplace_never_gives_nan(scale):
    y, zero = np.array([-1e300, 0.0, 1.0]), np.zeros(3)
    assert not np.isnan(Laplace().log_prob(y, zero, scale)).any()
    assert not np.isnan(Laplace().cdf(y, zero, scale)).any()
    assert not np.isnan(Laplace().quantile(0.4, zero, scale)).any()
