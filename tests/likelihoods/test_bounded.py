"""Uniform noise and the point mass."""

import numpy as np
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from skmoe._protocols import Likelihood
from skmoe.likelihoods import PointMass, Uniform
from tests.likelihoods.family_suite import DensitySuite


class TestUniform(DensitySuite):
    family = Uniform()
    cases = (
        (
            np.array([[0.0, 1.0], [-3.0, 7.5], [1e3, 1e3 + 1.0]]),
            None,
            [stats.uniform(0, 1), stats.uniform(-3, 10.5), stats.uniform(1e3, 1)],
        ),
    )


def test_both_ends_of_the_interval_are_inside():
    params = np.array([[-1.0, 3.0]] * 4)
    y = np.array([-1.0, 3.0, np.nextafter(-1.0, -2.0), np.nextafter(3.0, 4.0)])
    log_prob = Uniform().log_prob(y, params)
    assert_allclose(log_prob[:2], -np.log(4.0))
    assert_array_equal(log_prob[2:], -np.inf)
    assert_array_equal(Uniform().support(y, params), [True, True, False, False])


def test_an_interval_without_width_gives_no_nan():
    params, y = np.array([[2.0, 2.0]] * 3), np.array([1.0, 2.0, 3.0])
    assert not np.isnan(Uniform().log_prob(y, params)).any()
    assert not np.isnan(Uniform().cdf(y, params)).any()
    assert_array_equal(Uniform().quantile(0.3, params), 2.0)


def test_point_mass():
    family, value = PointMass(), np.array([0.0, 1.5, -2.0])
    assert isinstance(family, Likelihood)
    assert family.discrete
    assert family == PointMass()
    y = np.array([0.0, 1.0, 0.0])
    assert_array_equal(family.log_prob(y, value, None), [0.0, -np.inf, -np.inf])
    assert_array_equal(family.cdf(y, value, None), [1.0, 0.0, 1.0])
    assert_array_equal(family.support(y, value, None), [True, False, False])
    for name in ("mean", "mode"):
        assert_array_equal(getattr(family, name)(value, None), value)
    assert_array_equal(family.variance(value, None), 0.0)
    for q in (0.0, 0.3, 1.0):
        assert_array_equal(family.quantile(q, value, None), value)
    assert family.quantile(np.ones((4, 1)), value, None).shape == (4, 3)
    draws = family.sample(value, None, 5, np.random.default_rng(0))
    assert_array_equal(draws, np.tile(value, (5, 1)))
