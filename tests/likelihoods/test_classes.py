"""Probabilities of classes against SciPy."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from skmoe._protocols import Likelihood
from skmoe.likelihoods import Categorical

N_ROWS = 6


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


def test_categorical_keeps_the_protocol():
    assert isinstance(Categorical(), Likelihood)
    assert Categorical().discrete
    assert Categorical() == Categorical()


def test_categorical_quantiles(log_proba):
    family = Categorical()
    for q in (0.0, 0.1, 0.5, 0.99, 1.0):
        expected = [
            stats.rv_discrete(values=(np.arange(4), row)).ppf(max(q, 1e-12))
            for row in np.exp(log_proba)
        ]
        assert_array_equal(family.quantile(q, log_proba), expected)
    q = np.linspace(0.05, 0.95, N_ROWS)
    each = [family.quantile(q[i], log_proba)[i] for i in range(N_ROWS)]
    assert_array_equal(family.quantile(q, log_proba), each)


def test_categorical_support():
    y = np.array([-1, 0, 3, 4, 1.5, np.nan])
    found = Categorical().support(y, np.zeros((6, 4)))
    assert_array_equal(found, [False, True, True, False, False, False])
