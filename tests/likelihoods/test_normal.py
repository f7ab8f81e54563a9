"""Normal densities against SciPy: one or several outputs, one variance or many."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from skmoe.likelihoods import Gaussian, RowGaussian
from tests._asserts import assert_integrates_to_one
from tests.likelihoods.family_suite import DensitySuite

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


MEANS = np.array([-1.0, 0.0, 2e4])


def one_variance(variance):
    laws = [stats.norm(mean, np.sqrt(variance)) for mean in MEANS]
    return MEANS, np.array(variance), laws


def variances(values):
    laws = [stats.norm(m, np.sqrt(v)) for m, v in zip(MEANS, values, strict=True)]
    return np.column_stack([MEANS, values]), None, laws


class TestGaussian(DensitySuite):
    family = Gaussian()
    cases = (one_variance(1e-4), one_variance(1.0), one_variance(400.0))


class TestRowGaussian(DensitySuite):
    family = RowGaussian()
    cases = (variances([0.01, 1.0, 25.0]), variances([3.0, 1e-6, 1.0]))


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


def test_support_of_several_outputs():
    y = np.array([[0.0, 1.0], [np.inf, 0.0], [0.0, -np.inf]])
    found = Gaussian().support(y, np.zeros((3, 2)), np.ones(2))
    assert_array_equal(found, [True, False, False])


@pytest.mark.parametrize("variance", [0.0, 1e-320])
def test_no_variance_gives_no_nan(variance):
    y, mean = np.array([-1.0, 0.0, 1.0]), np.zeros(3)
    rows = np.column_stack([mean, np.full(3, variance)])
    for family, params, dispersion in (
        (Gaussian(), mean, variance),
        (RowGaussian(), rows, None),
    ):
        assert_allclose(family.cdf(y, params, dispersion), [0.0, 0.5, 1.0])
        quantile = family.quantile(0.3, params, dispersion)
        assert_allclose(quantile, 0.0, atol=1e-100)
        assert not np.isnan(family.log_prob(y, params, dispersion)).any()
