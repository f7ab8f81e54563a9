"""Normal densities and classes on rows of any array library."""

import numpy as np
import pytest

from skmoe._xp import to_numpy
from skmoe.likelihoods import Categorical, Gaussian, RowGaussian
from tests._libraries import LIBRARIES, assert_same

FULL = np.array([[2.0, 0.3], [0.3, 0.5]])
MEAN = np.array([[-1.0, 2.0], [0.0, 0.0], [1e8, -3.0], [0.5, 1e-9]])
Y = np.array([[-1.5, 2.0], [40.0, 1.0], [1e8 + 1, np.inf], [0.5, 1e200]])
# Means with variances that are zero, below and near the ends of what floats can hold.
SPREADS = np.column_stack([MEAN[:, 0], [0.0, 1e-320, 1e300, 2.0]])
LOG_PROBA = np.log([[0.2, 0.5, 0.3], [0.1, 0.1, 0.8], [1.0, 1e-300, 1e-9]])
# name: (family, y, params, dispersion)
CASES = {
    "one": (Gaussian(), Y[:, 0], MEAN[:, 0], 0.3),
    "an array": (Gaussian(), Y[:, 0], MEAN[:, 0], np.array([0.3])),
    "no variance": (Gaussian(), Y[:, 0], MEAN[:, 0], np.array(0.0)),
    "squares overflow": (Gaussian(), Y[:, 1], MEAN[:, 1], 0.3),
    "diag": (Gaussian(), Y[:2], MEAN[:2], np.array([0.3, 2.0])),
    "full": (Gaussian(), Y[:2], MEAN[:2], FULL),
    "no covariance": (Gaussian(), Y[:2], MEAN[:2], -FULL),
    "rows": (RowGaussian(), Y[:, 0], SPREADS, None),
    "classes": (Categorical(), np.array([1, 2, 0]), LOG_PROBA, None),
}


@pytest.fixture(params=LIBRARIES)
def to(request):
    """What brings a NumPy array to a library."""
    return LIBRARIES[request.param]


@pytest.mark.parametrize("name", CASES)
def test_same_log_density(name, to):
    family, y, params, dispersion = CASES[name]
    expected = family.log_prob(y, params, dispersion)
    assert_same(family.log_prob(to(y), to(params), dispersion), expected, to, 1e-13)


@pytest.mark.parametrize("what", ["mean", "mode", "variance"])
@pytest.mark.parametrize("name", CASES)
def test_same_moments(name, what, to):
    family, _, params, dispersion = CASES[name]
    expected = getattr(family, what)(params, dispersion)
    assert_same(getattr(family, what)(to(params), dispersion), expected, to, 1e-14)


@pytest.mark.parametrize("name", CASES)
def test_same_support(name, to):
    family, y, params, dispersion = CASES[name]
    found = family.support(to(y), to(params), dispersion)
    expected = family.support(y, params, dispersion)
    assert found.device == to(y).device
    np.testing.assert_array_equal(to_numpy(found), expected)


def test_float32_means_give_float64_densities(to):
    y, mean = Y[:, 0], MEAN[:, 0].astype(np.float32)
    expected = Gaussian().log_prob(y, mean.astype(float), 0.3)
    assert_same(Gaussian().log_prob(to(y), to(mean), 0.3), expected, to, 1e-13)
