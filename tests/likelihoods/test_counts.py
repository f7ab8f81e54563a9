"""Counts: against SciPy, at the ends of their parameters and in their limits."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import special, stats

from skmoe.likelihoods import Binomial, NegativeBinomial, Poisson
from tests.likelihoods.family_suite import CountSuite

MEANS = np.array([1e-3, 0.2, 1.0, 3.7, 40.0, 1234.5])
COUNTS = np.array([0.0, 1.0, 2.0, 5.0, 40.0, 1e3, 1e6])


def negative_binomial(theta):
    laws = [stats.nbinom(theta, theta / (theta + mean)) for mean in MEANS]
    return MEANS, np.array(theta), laws


def binomial(trials, probas):
    params = np.column_stack([probas, np.full(len(probas), trials)])
    return params, None, [stats.binom(trials, p) for p in probas]


class TestPoisson(CountSuite):
    family = Poisson()
    cases = ((MEANS, None, [stats.poisson(mean) for mean in MEANS]),)


class TestNegativeBinomial(CountSuite):
    family = NegativeBinomial()
    cases = tuple(negative_binomial(theta) for theta in (0.3, 1.0, 2.5, 60.0))


class TestBinomial(CountSuite):
    family = Binomial()
    cases = (
        binomial(1.0, [0.2, 0.7]),
        binomial(12.0, [0.01, 0.3, 0.5, 0.99]),
        binomial(5000.0, [1e-4, 0.4]),
    )


def test_poisson_with_mean_zero():
    mean = np.zeros(3)
    y = np.array([0.0, 1.0, -1.0])
    assert_array_equal(Poisson().log_prob(y, mean), [0.0, -np.inf, -np.inf])
    assert_array_equal(Poisson().cdf(y, mean), [1.0, 1.0, 0.0])
    assert_array_equal(Poisson().quantile(0.999, mean), 0.0)
    assert_array_equal(Poisson().mode(mean), 0.0)
    draws = Poisson().sample(mean, None, 10, np.random.default_rng(0))
    assert_array_equal(draws, 0.0)


@pytest.mark.parametrize("mean", [1e6, 1e10, 1e14])
def test_poisson_of_huge_means_is_normal(mean):
    """Its log probability keeps its digits where mean and log(y!) would cancel."""
    sd = np.sqrt(mean)
    y = np.floor(mean + sd * np.array([-3.0, -1.0, 0.0, 1.0, 3.0]))
    means = np.full(5, mean)
    z = (y - mean) / sd
    edgeworth = np.log1p((z**3 - 3 * z) / (6 * sd))
    found = Poisson().log_prob(y, means)
    assert_allclose(
        found, stats.norm.logpdf(z) - np.log(sd) + edgeworth, atol=5 / mean**0.9
    )
    q = np.array([1e-6, 0.1, 0.5, 0.9, 0.999])
    expected = stats.norm.ppf(q, mean, sd)
    assert_allclose(Poisson().quantile(q, means), expected, atol=6 + 1e-15 * mean)


def test_poisson_beyond_all_counts():
    mean = np.array([1e16, 1e20, 1e300])
    assert_allclose(Poisson().quantile(0.9, mean), mean)
    assert not np.isnan(Poisson().log_prob(mean, mean)).any()
    draws = Poisson().sample(mean, None, 200, np.random.default_rng(0))
    z = (draws[:, 1] - 1e20) / 1e10
    assert abs(z.mean()) < 0.3
    assert 0.8 < z.std() < 1.2
    assert_allclose(draws[:, 2], 1e300)


@pytest.mark.parametrize("y", [0.5, 2.25, 17.3, 400.75])
def test_counts_need_not_be_integers(y):
    """Factorials are gamma functions, as in scikit-learn's deviance."""
    at, mean, theta, trials = np.array([y]), np.array([3.0]), 1.7, 450.5
    poisson = y * np.log(3.0) - 3.0 - special.gammaln(y + 1)
    assert_allclose(Poisson().log_prob(at, mean), poisson)
    share = theta / (theta + 3.0)
    expected = (
        special.gammaln(y + theta)
        - special.gammaln(theta)
        - special.gammaln(y + 1)
        + theta * np.log(share)
        + y * np.log1p(-share)
    )
    assert_allclose(NegativeBinomial().log_prob(at, mean, theta), expected)
    choose = -special.betaln(y + 1, trials - y + 1) - np.log1p(trials)
    expected = choose + y * np.log(0.3) + (trials - y) * np.log(0.7)
    assert_allclose(Binomial().log_prob(at, np.array([[0.3, trials]])), expected)


@pytest.mark.parametrize("theta", [1e14, 1e30, 1e300, np.inf])
def test_negative_binomial_of_large_size_is_poisson(theta):
    mean = np.repeat(MEANS, COUNTS.size)
    y = np.tile(COUNTS, MEANS.size)
    found = NegativeBinomial().log_prob(y, mean, theta)
    assert_allclose(found, Poisson().log_prob(y, mean), rtol=2e-9, atol=1e-7)
    near = y < 1e4
    y, mean = y[near], mean[near]
    for name in ("cdf", "log_prob"):
        one = getattr(NegativeBinomial(), name)(y, mean, theta)
        other = getattr(Poisson(), name)(y, mean)
        assert_allclose(one, other, rtol=1e-9, atol=1e-9, err_msg=name)
    assert_array_equal(NegativeBinomial().mean(MEANS, theta), MEANS)
    # Of two counts that are equally probable under Poisson the smaller one wins.
    mode = NegativeBinomial().mode(MEANS, theta)
    assert_array_equal(mode, np.floor(MEANS * (1.0 - 1.0 / theta)))
    assert_allclose(NegativeBinomial().variance(MEANS, theta), MEANS)
    levels = np.array([0.01, 0.5, 0.99])[:, None]
    one = NegativeBinomial().quantile(levels, MEANS, theta)
    assert_array_equal(one, Poisson().quantile(levels, MEANS))
    draws = NegativeBinomial().sample(MEANS, theta, 4000, np.random.default_rng(0))
    assert_allclose(draws.var(axis=0), MEANS, rtol=0.15, atol=0.01)


@pytest.mark.parametrize("theta", [1e2, 1e4, 9.9e3, 1e6, 1e9])
def test_negative_binomial_between_its_limits(theta):
    """The first two derivatives in 1 / theta at Poisson, for small mean."""
    mean, y = np.full(6, 2.5), np.arange(6.0)
    found = NegativeBinomial().log_prob(y, mean, theta)
    first = ((y - 2.5) ** 2 - y) / 2.0
    expected = Poisson().log_prob(y, mean) + first / theta
    assert_allclose(found, expected, atol=40 / theta**2 + 1e-13)
    total = np.exp(found).cumsum()
    assert_allclose(NegativeBinomial().cdf(y, mean, theta), total, rtol=1e-12)


@pytest.mark.parametrize("theta", [1e-300, 1e-8, 1.0, 1e8, np.inf])
@pytest.mark.parametrize("mean", [0.0, 1e-300, 1.0, 1e12, 1e200])
def test_negative_binomial_never_gives_nan(theta, mean):
    means = np.full(COUNTS.size, mean)
    family = NegativeBinomial()
    log_prob = family.log_prob(COUNTS, means, theta)
    assert not np.isnan(log_prob).any()
    assert (log_prob <= 1e-12).all()
    cdf = family.cdf(COUNTS, means, theta)
    assert ((cdf >= 0) & (cdf <= 1)).all()
    if mean == 0.0:
        assert log_prob[0] == 0.0
        assert (log_prob[1:] == -np.inf).all()
    for name in ("mean", "mode", "variance"):
        assert not np.isnan(getattr(family, name)(means, theta)).any(), name
    assert not np.isnan(family.quantile(0.7, means, theta)).any()
    draws = family.sample(means, theta, 3, np.random.default_rng(0))
    assert not np.isnan(draws).any()


@pytest.mark.parametrize("proba", [0.0, 1.0])
def test_binomial_without_chance(proba):
    y = np.array([-1.0, 0.0, 3.0, 5.0, 6.0])
    params = np.column_stack([np.full(5, proba), np.full(5, 5.0)])
    sure = 5.0 * proba
    log_prob = Binomial().log_prob(y, params)
    assert_array_equal(log_prob, np.where(y == sure, 0.0, -np.inf))
    assert_array_equal(Binomial().cdf(y, params), y >= sure)
    assert_array_equal(Binomial().mode(params), sure)
    assert_array_equal(Binomial().variance(params), 0.0)
    assert_array_equal(Binomial().quantile(0.3, params), sure)
    draws = Binomial().sample(params, None, 4, np.random.default_rng(0))
    assert_array_equal(draws, sure)


def test_binomial_without_trials():
    params, y = np.array([[0.3, 0.0]] * 3), np.array([0.0, 1.0, -1.0])
    assert_array_equal(Binomial().log_prob(y, params), [0.0, -np.inf, -np.inf])
    assert_array_equal(Binomial().cdf(y, params), [1.0, 1.0, 0.0])
    assert_array_equal(Binomial().quantile(0.5, params), 0.0)


def test_trials_differ_from_row_to_row():
    params = np.array([[0.3, 2.0], [0.3, 5.0], [0.9, 40.0]])
    y = np.array([3.0, 3.0, 38.0])
    expected = [
        stats.binom(n, p).logpmf(v) for (p, n), v in zip(params, y, strict=True)
    ]
    assert_allclose(Binomial().log_prob(y, params), expected)
    assert_array_equal(Binomial().support(y, params), [False, True, True])
