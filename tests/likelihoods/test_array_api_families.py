"""Families of densities on rows of any library: what an E-step and a law read off."""

import array_api_strict
import numpy as np
import pytest
import torch
from scipy import special

from skmoe import _special_xp
from skmoe._xp import to_numpy
from skmoe.likelihoods import (
    Binomial,
    Gamma,
    Laplace,
    NegativeBinomial,
    PointMass,
    Poisson,
    StudentT,
    Uniform,
)
from skmoe.likelihoods._saddle import excess, half_deviance

ELSEWHERE = array_api_strict.Device("device1")
LIBRARIES = {
    "torch": torch.asarray,
    "strict": array_api_strict.asarray,
    # NumPy cannot convert these: a way through it that nobody meant is an error.
    "elsewhere": lambda array: array_api_strict.asarray(array, device=ELSEWHERE),
}
MEANS = np.array([0.0, 1e-9, 0.3, 1.0, 7.0, 16.0, 1e3, 1e9])
PLACES = np.array([-1e9, -3.0, 0.0, 0.5, 1.0, 7.0, 2.0, 1e3])
# name: (family, params, dispersion)
CASES = {
    "poisson": (Poisson(), MEANS, None),
    "negative binomial": (NegativeBinomial(), MEANS, 0.7),
    "nearly poisson": (NegativeBinomial(), MEANS, np.array([1e12])),
    "poisson in the limit": (NegativeBinomial(), MEANS, np.inf),
    "binomial": (
        Binomial(),
        np.column_stack([np.linspace(0.0, 1.0, 8), [0, 1, 2, 7, 7, 20, 1e3, 1e9]]),
        None,
    ),
    "gamma": (Gamma(), MEANS[1:], 0.4),
    "gamma of a peak at zero": (Gamma(), MEANS[1:], 3.0),
    "narrow gamma": (Gamma(), MEANS[1:], 1e-8),
    "student": (StudentT(), PLACES, np.array([2.0, 3.0])),
    "student of no variance": (StudentT(), PLACES, np.array([1e-3, 1.5])),
    "normal in the limit": (StudentT(), PLACES, np.array([1.0, np.inf])),
    "laplace": (Laplace(), PLACES, 0.5),
    "uniform": (Uniform(), np.column_stack([PLACES, PLACES + 2.0]), None),
    "point": (PointMass(), PLACES, None),
}
RESPONSES = [-np.inf, -3.0, -1e-9, 0.0, 1e-3, 0.5, 1.0, 2.0, 7.0, 7.5, 16.0, 1e3]
RESPONSES += [1e9, np.inf]


@pytest.fixture(params=LIBRARIES)
def to(request):
    """What brings a NumPy array to a library."""
    return LIBRARIES[request.param]


def assert_same(found, expected, to, rtol=1e-10):
    """Check that an array lies where the parameters do, and what it holds."""
    model = to(np.zeros(2))
    assert type(found) is type(model)
    assert found.device == model.device
    assert to_numpy(found).dtype == expected.dtype
    np.testing.assert_allclose(to_numpy(found), expected, rtol=rtol, atol=1e-10)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("y", RESPONSES)
def test_log_prob_is_that_of_numpy(name, y, to):
    family, params, dispersion = CASES[name]
    y = np.full(len(params), y)
    expected = family.log_prob(y, params, dispersion)
    assert_same(family.log_prob(to(y), to(params), dispersion), expected, to)
    inside = family.support(y, params, dispersion)
    assert_same(family.support(to(y), to(params), dispersion), inside, to)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("what", ["mean", "mode", "variance"])
def test_moments_are_those_of_numpy(name, what, to):
    family, params, dispersion = CASES[name]
    expected = getattr(family, what)(params, dispersion)
    assert expected.shape == (len(params),)
    assert_same(getattr(family, what)(to(params), dispersion), expected, to)


@pytest.mark.parametrize("name", CASES)
def test_single_precision_responses_lose_nothing(name):
    family, params, dispersion = CASES[name]
    y = np.linspace(0.1, 9.0, len(params)).astype(np.float32)
    expected = family.log_prob(y.astype(float), params, dispersion)
    found = family.log_prob(torch.asarray(y), torch.asarray(params), dispersion)
    assert_same(found, expected, torch.asarray)


COUNTS = np.array([0.0, 1e-9, 0.5, 3.0, 15.9, 16.0, 16.1, 1e3, 1e12])


def test_saddle_point_terms(to):
    assert_same(excess(to(COUNTS)), excess(COUNTS), to)
    for mean in (np.zeros(9), COUNTS * (1.0 + 1e-9), COUNTS[::-1].copy(), COUNTS + 1.0):
        expected = half_deviance(COUNTS, mean)
        assert_same(half_deviance(to(COUNTS), to(mean)), expected, to)
        expected = half_deviance(2.0, mean)
        assert_same(half_deviance(2.0, to(mean)), expected, to)


@pytest.mark.parametrize("name", ["gammaln", "psi", "expit"])
def test_special_functions(name, to):
    x = np.array([-3.3, 0.2, 1.0, 20.0, 700.0])
    expected = getattr(special, name)(x)
    np.testing.assert_array_equal(getattr(_special_xp, name)(x), expected)
    assert_same(getattr(_special_xp, name)(to(x)), expected, to)


def test_special_functions_of_two_arguments(to):
    x, y = (part.ravel() for part in np.meshgrid(COUNTS, COUNTS))
    for name in ("xlogy", "kl_div"):
        expected = getattr(special, name)(x, y)
        np.testing.assert_array_equal(getattr(_special_xp, name)(x, y), expected)
        assert_same(getattr(_special_xp, name)(to(x), to(y)), expected, to)
    expected = special.zeta(2.0, y[y > 0.0])
    np.testing.assert_array_equal(_special_xp.zeta(2.0, y[y > 0.0]), expected)
    assert_same(_special_xp.zeta(2.0, to(y[y > 0.0])), expected, to)
