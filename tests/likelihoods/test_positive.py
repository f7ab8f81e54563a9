"""The Gamma density against SciPy and at the ends of its dispersion."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from skmoe.likelihoods import Gamma
from tests.likelihoods.family_suite import DensitySuite

MEANS = np.array([1e-4, 0.5, 3.0, 2e5])


def gamma(dispersion):
    shape = 1.0 / dispersion
    laws = [stats.gamma(shape, scale=mean / shape) for mean in MEANS]
    return MEANS, np.array(dispersion), laws


class TestGamma(DensitySuite):
    family = Gamma()
    cases = tuple(gamma(dispersion) for dispersion in (1e-4, 0.1, 0.8))


class TestGammaWithoutAPeak(TestGamma):
    """A shape of at most 1: the mode lies at the end of the support."""

    cases = tuple(gamma(dispersion) for dispersion in (1.0, 1.9))

    def test_mode_is_the_highest_point(self):
        for params, dispersion, law in self.each_row():
            assert_array_equal(self.family.mode(params, dispersion), 0.0)
            log_prob = self.at("log_prob", self.points(law), params, dispersion)
            assert (np.diff(log_prob) < 0).all()

    def test_integrates_to_one(self):
        for params, dispersion, law in self.each_row():
            # In the log of y, where the density has no pole.
            log_y = np.linspace(
                np.log(law.ppf(1e-12)), np.log(law.ppf(1 - 1e-14)), 4001
            )
            density = np.exp(self.at("log_prob", np.exp(log_y), params, dispersion))
            total = np.trapezoid(density * np.exp(log_y), log_y)
            assert_allclose(total, 1.0, rtol=1e-5)


def test_gamma_with_small_dispersion_is_normal():
    """The log density keeps its digits where log(gamma(shape)) is huge."""
    mean, dispersion = np.full(5, 40.0), 1e-12
    z = np.array([-3.0, -1.0, 0.0, 1.0, 3.0])
    y = 40.0 + 40.0 * 1e-6 * z
    expected = stats.norm.logpdf(z) - np.log(40.0 * 1e-6)
    # The third moment is of the order of the square root of the dispersion.
    assert_allclose(Gamma().log_prob(y, mean, dispersion), expected, atol=1e-5)
    assert_allclose(Gamma().cdf(y, mean, dispersion), stats.norm.cdf(z), atol=1e-6)


@pytest.mark.parametrize("dispersion", [0.0, 1e-300, 1e-9, 1.0, 1e9, 1e300])
@pytest.mark.parametrize("mean", [1e-300, 1.0, 1e300])
def test_gamma_never_gives_nan(dispersion, mean):
    y = np.array([-1.0, 0.0, 1e-300, 1.0, 1e300])
    means = np.full(5, mean)
    log_prob = Gamma().log_prob(y, means, dispersion)
    assert not np.isnan(log_prob).any()
    assert_array_equal(log_prob[:2], -np.inf)
    for name in ("cdf",):
        values = getattr(Gamma(), name)(y, means, dispersion)
        assert ((values >= 0) & (values <= 1)).all()
    assert not np.isnan(Gamma().mode(means, dispersion)).any()
    assert not np.isnan(Gamma().quantile(0.4, means, dispersion)).any()
