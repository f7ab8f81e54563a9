"""The families of densities against SciPy, their draws and their moments."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from skmoe._protocols import Likelihood
from skmoe.likelihoods import Categorical, Gaussian
from tests._asserts import assert_integrates_to_one

N_ROWS = 6
COV = np.array([[2.0, 0.6], [0.6, 0.5]])
# name: mean's trailing shape, dispersion, and what it is as a covariance
GAUSSIANS = {
    "scalar": ((), 1.7, [[1.7]]),
    "array of shape ()": ((), np.array(0.3), [[0.3]]),
    "array of one": ((), np.array([0.3]), [[0.3]]),
    "one column": ((1,), np.array([[0.4]]), [[0.4]]),
    "diagonal": ((2,), np.array([0.3, 2.0]), np.diag([0.3, 2.0])),
    "shared": ((2,), 0.7, 0.7 * np.eye(2)),
    "full": ((2,), COV, COV),
}


@pytest.fixture(params=GAUSSIANS)
def gaussian(request, rng):
    """Return y, mean, dispersion and covariance of some rows."""
    shape, dispersion, cov = GAUSSIANS[request.param]
    mean = rng.normal(size=(N_ROWS, *shape))
    return mean + rng.normal(size=mean.shape), mean, dispersion, np.asarray(cov)


@pytest.mark.parametrize("family", [Gaussian(), Categorical()])
def test_families_keep_the_protocol(family):
    assert isinstance(family, Likelihood)
    assert family == type(family)()
    with pytest.raises(AttributeError):
        family.anything = 1


def test_gaussian_log_prob_equals_scipy(gaussian):
    y, mean, dispersion, cov = gaussian
    expected = [
        stats.multivariate_normal(np.atleast_1d(m), cov).logpdf(v)
        for m, v in zip(mean, y, strict=True)
    ]
    assert_allclose(Gaussian().log_prob(y, mean, dispersion), expected)


def test_gaussian_moments(gaussian):
    _, mean, dispersion, cov = gaussian
    family = Gaussian()
    assert_array_equal(family.mean(mean, dispersion), mean)
    assert_array_equal(family.mode(mean, dispersion), mean)
    expected = np.broadcast_to(np.diag(cov), (N_ROWS, len(cov))).reshape(mean.shape)
    assert_allclose(family.variance(mean, dispersion), expected)


def test_gaussian_draws(gaussian):
    _, mean, dispersion, cov = gaussian
    rng = np.random.RandomState(0)
    draws = Gaussian().sample(mean, dispersion, 40_000, rng)
    assert draws.shape == (40_000, *mean.shape)
    error = (draws - mean).reshape(-1, len(cov))
    assert_allclose(np.cov(error.T).reshape(cov.shape), cov, rtol=0.03, atol=0.01)
    assert abs(error.mean(axis=0)).max() < 0.02


@pytest.mark.parametrize("variance", [1e-6, 0.3, 50.0])
def test_gaussian_cdf_and_integral(variance):
    family, mean = Gaussian(), np.array([0.7])
    scale = np.sqrt(variance)
    for y in mean + scale * np.linspace(-3, 3, 7):
        at = np.array([y])
        assert_allclose(family.cdf(at, mean, variance), stats.norm.cdf(y, mean, scale))
        h = 1e-4 * scale
        slope = family.cdf(at + h, mean, variance) - family.cdf(at - h, mean, variance)
        density = np.exp(family.log_prob(at, mean, variance))
        assert_allclose(slope / (2 * h), density, rtol=1e-6)
    assert_integrates_to_one(
        lambda y: np.exp(family.log_prob(np.array([y]), mean, variance)[0]),
        mean[0] - 12 * scale,
        mean[0] + 12 * scale,
    )


@pytest.mark.parametrize("shape", [(3,), (3, 2)])
@pytest.mark.parametrize("variance", [0.0, 1e-320, np.inf])
def test_gaussian_never_gives_nan(shape, variance):
    error = np.zeros(shape)
    error[1:] = [[1.0], [1e200]] if len(shape) == 2 else [1.0, 1e200]
    spread = np.full(shape[1:], variance)
    log_prob = Gaussian().log_prob(error, np.zeros(shape), spread)
    assert not np.isnan(log_prob).any()
    assert (log_prob < np.inf).all()


@pytest.mark.parametrize("cov", [np.zeros((2, 2)), -np.eye(2), np.full((2, 2), np.nan)])
def test_no_density_without_a_covariance(cov):
    log_prob = Gaussian().log_prob(np.ones((3, 2)), np.zeros((3, 2)), cov)
    assert_array_equal(log_prob, -np.inf)


@pytest.fixture
def log_proba(rng):
    """Return log probabilities of four classes."""
    return np.log(rng.dirichlet(np.ones(4), size=N_ROWS))


def test_categorical_equals_scipy(log_proba, rng):
    family, y = Categorical(), rng.integers(0, 4, size=N_ROWS)
    for i, row in enumerate(np.exp(log_proba)):
        one = stats.rv_discrete(values=(np.arange(4), row))
        assert_allclose(family.log_prob(y, log_proba)[i], one.logpmf(y[i]))
        assert_allclose(family.cdf(y, log_proba)[i], one.cdf(y[i]))
    assert_allclose(family.mean(log_proba), np.exp(log_proba))
    assert_array_equal(family.mode(log_proba), log_proba.argmax(axis=1))
    proba = np.exp(log_proba)
    assert_allclose(family.variance(log_proba), proba * (1 - proba))


def test_categorical_draws(log_proba):
    rng = np.random.RandomState(0)
    draws = Categorical().sample(log_proba, None, 40_000, rng)
    assert draws.shape == (40_000, N_ROWS)
    shares = np.stack([(draws == c).mean(axis=0) for c in range(4)], axis=1)
    assert_allclose(shares, np.exp(log_proba), atol=0.015)


def test_categorical_draws_no_class_without_probability():
    log_proba = np.log(np.maximum([[0.0, 1.0, 0.0], [0.5, 0.0, 0.5]], 1e-300))
    draws = Categorical().sample(log_proba, None, 2000, np.random.RandomState(0))
    assert set(draws[:, 0]) == {1}
    assert set(draws[:, 1]) == {0, 2}
