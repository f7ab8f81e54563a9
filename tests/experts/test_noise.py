"""Experts that do not look at X: alone, as parts, and what mixtures make of them."""

import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import optimize, sparse, stats
from scipy.special import expit
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import parametrize_with_checks

from skmoe import MixtureOfExpertsRegressor
from skmoe._protocols import Expert, Parametric, is_parametric
from skmoe.experts import (
    GammaExpert,
    LinearExpert,
    PointMassExpert,
    PoissonExpert,
    UniformExpert,
)
from skmoe.gates import ConstantGate
from tests._asserts import assert_integrates_to_one, assert_zero_weight_is_removal

EXPERTS = [UniformExpert(), UniformExpert(-100.0, 100.0), PointMassExpert(2.0)]


class AnyResponse(PointMassExpert):
    """A point mass that does not mind other responses.

    The checks fit all kinds of y, which `PointMassExpert` rightly refuses; this is
    everything about it but the refusal.
    """

    def supports(self, X, y):
        return np.ones(len(y), dtype=bool)


@parametrize_with_checks([UniformExpert(), UniformExpert(-1e6, 1e6), AnyResponse()])
def test_estimator_checks(estimator, check):
    check(estimator)


@pytest.fixture
def rows(rng):
    return rng.normal(size=(30, 2)), rng.normal(size=30), rng.uniform(0.1, 2.0, size=30)


def prepared(expert, X, y, weight):
    expert = clone(expert)
    expert.prepare(X, y, weight)
    return expert


@pytest.mark.parametrize("expert", EXPERTS, ids=str)
def test_keeps_the_protocol(expert, rows):
    X, y, weight = rows
    expert = prepared(expert, X, y, weight)
    assert isinstance(expert, Expert)
    assert isinstance(expert, Parametric)
    assert is_parametric(expert)
    assert expert.exact_m_step
    assert expert.dispersion is None
    assert (expert.n_parameters, expert.penalty) == (0, 0.0)
    before = expert.log_prob(X, y)
    assert before.shape == (30,)
    expert.m_step(X, y, np.eye(30)[3])
    assert_array_equal(expert.log_prob(X, y), before)
    assert expert.parameters.shape == (0,)
    expert.parameters = expert.parameters
    with pytest.raises(ValueError, match="has no parameters, got 2"):
        expert.parameters = np.zeros(2)
    params = expert.predict_params(X)
    assert params.shape[0] == 30
    assert_array_equal(expert.likelihood.log_prob(y, params, None), before)
    again = pickle.loads(pickle.dumps(expert))
    assert_array_equal(again.log_prob(X, y), before)
    thin = sparse.csr_array(X)
    assert_array_equal(expert.log_prob(thin, y), before)


def test_uniform_noise_is_uniform_over_the_range_of_y(rows):
    X, y, _ = rows
    expert = UniformExpert().fit(X, y)
    assert (expert.low_, expert.high_) == (y.min(), y.max())
    law = stats.uniform(y.min(), np.ptp(y))
    assert_allclose(expert.log_prob(X, y), law.logpdf(y))
    assert_allclose(expert.predict(X), law.mean())
    assert_array_equal(expert.log_prob(X, y + 100.0), -np.inf)
    assert_integrates_to_one(
        lambda v: np.exp(expert.log_prob(X[:1], np.array([v]))[0]),
        y.min() - 1.0,
        y.max() + 1.0,
        points=[y.min(), y.max()],
    )


def test_a_given_range_is_kept(rows):
    X, y, _ = rows
    expert = UniformExpert(low=-10.0).fit(X, y)
    assert (expert.low_, expert.high_) == (-10.0, y.max())
    expert = UniformExpert(low=-10.0, high=30.0).fit(X, y)
    assert_allclose(expert.log_prob(X, y), -np.log(40.0))
    assert_allclose(expert.predict(X[:3]), 10.0)
    # No response has to be seen twice.
    UniformExpert(0.0, 1.0).fit(X, np.full(30, 0.5))


def test_rows_of_weight_zero_might_as_well_not_be_there(rows):
    X, y, weight = rows
    y[4], y[9], weight[[4, 9]] = 50.0, -50.0, 0.0

    def fit(X, y, weight):
        expert = UniformExpert().fit(X, y, sample_weight=weight)
        return np.array([expert.low_, expert.high_]), expert.log_prob(*rows[:2])

    assert_zero_weight_is_removal(fit, X, y, weight)
    UniformExpert(-5.0, 5.0).fit(X, y, sample_weight=weight)
    y[:] = np.where(weight > 0, 3.0, y)
    PointMassExpert(3.0).fit(X, y, sample_weight=weight)


def test_point_mass(rows):
    X, y, _ = rows
    y[:] = 3.0
    expert = PointMassExpert(3.0).fit(X, y)
    assert_array_equal(expert.log_prob(X, y), 0.0)
    assert_array_equal(expert.log_prob(X, np.zeros(30)), -np.inf)
    assert_array_equal(expert.predict(X), 3.0)
    assert expert.score(X, y) == 1.0
    assert_array_equal(expert.supports(X, np.arange(30.0)), np.arange(30) == 3)
    assert PointMassExpert().value == 0.0


def test_support(rows):
    X, y, _ = rows
    y[0] = np.inf
    assert_array_equal(UniformExpert().supports(X, y), np.arange(30) > 0)
    y[1:4] = 5.0, 6.0, -6.0
    found = UniformExpert(low=-5.0, high=5.0).supports(X, y)
    assert_array_equal(found[:4], [False, True, False, False])
    assert found[4:].all()


@pytest.mark.parametrize(
    ("expert", "note"),
    [
        (UniformExpert(), "UniformExpert needs finite y."),
        (UniformExpert(low=1), "UniformExpert needs y >= 1."),
        (UniformExpert(high=1), "UniformExpert needs y <= 1."),
        (UniformExpert(0, 0.5), "UniformExpert needs y >= 0 and y <= 0.5."),
        (PointMassExpert(2), "PointMassExpert needs y = 2."),
    ],
)
def test_support_note(expert, note):
    assert expert.support_note == note


def test_bad_input(rows):
    X, y, _ = rows
    y[7] = 99.0
    with pytest.raises(
        ValueError, match=r"needs y >= -9 and y <= 9\. Got y = 99 in row 7"
    ):
        UniformExpert(-9.0, 9.0).fit(X, y)
    y[:7] = 2.0
    with pytest.raises(ValueError, match=r"needs y = 2\. Got y = 99 in row 7"):
        PointMassExpert(2.0).fit(X, y)
    with pytest.raises(
        ValueError, match=r"low < high, got \[1, 1\].*30 rows.*give both"
    ):
        UniformExpert().fit(X, np.ones(30))
    with pytest.raises(ValueError, match=r"low < high, got \[5, 3\]"):
        UniformExpert(5.0, 3.0).fit(X, y)
    for bad in (np.nan, np.inf, "a", True):
        with pytest.raises(ValueError, match="low must be a finite number, got"):
            UniformExpert(low=bad).fit(X, y)
        with pytest.raises(ValueError, match="value must be a finite number, got"):
            PointMassExpert(bad).fit(X, y)
    for expert in (UniformExpert(), PointMassExpert()):
        with pytest.raises(
            ValueError, match=r"takes one output, got y of shape \(30, 2\)"
        ):
            expert.prepare(X, np.zeros((30, 2)), np.ones(30))
        with pytest.raises(NotFittedError):
            clone(expert).predict(X)


def test_zero_inflated_counts_are_those_of_scipy(rng):
    """A zero-inflated Poisson regression by direct maximum likelihood."""
    x = rng.normal(size=400)
    y = rng.poisson(np.exp(1.0 + 0.5 * x)) * (rng.random(400) < 0.65)
    y = y.astype(float)

    def minus(vector):
        zero, rate = expit(vector[0]), np.exp(vector[1] + vector[2] * x)
        likelihood = zero * (y == 0) + (1 - zero) * stats.poisson.pmf(y, rate)
        return -np.log(likelihood).sum()

    best = optimize.minimize(minus, [0.0, 1.0, 0.5], tol=1e-10)
    model = MixtureOfExpertsRegressor(
        [("zero", PointMassExpert()), ("count", PoissonExpert(alpha=0))],
        gate=ConstantGate(),
        n_init=1,
        tol=1e-10,
        max_iter=1000,
    ).fit(x[:, None], y)
    assert model.log_likelihood(x[:, None], y) == pytest.approx(-best.fun, abs=1e-4)
    assert_allclose(model.gate_proba(x[:1, None])[0, 0], expit(best.x[0]), atol=1e-3)
    assert_allclose(model.experts_[1].coef_, best.x[2], atol=1e-3)
    assert model.n_parameters_ == 3


def test_zeros_beside_a_density_are_all_of_the_point_mass(rng):
    x = rng.normal(size=200)
    y = np.exp(x) * rng.gamma(3.0, 1 / 3.0, size=200) * (rng.random(200) < 0.7)
    model = MixtureOfExpertsRegressor(
        [("zero", PointMassExpert()), ("cost", GammaExpert())],
        gate=ConstantGate(),
        n_init=1,
        max_iter=50,
    ).fit(x[:, None], y)
    assert_array_equal(model.responsibilities(x[:, None], y)[:, 0], y == 0)
    assert_allclose(model.gate_proba(x[:, None])[:, 0], np.mean(y == 0), rtol=1e-6)
    law = model.predict_distribution(x[:, None])
    assert_array_equal(law.quantile(0.05), 0.0)
    assert (law.quantile(0.9) > 0).all()


def test_noise_keeps_outliers_from_the_line(rng):
    x = rng.uniform(-2, 2, size=(300, 1))
    y = 2 * x[:, 0] + 0.1 * rng.normal(size=300)
    gross = rng.random(300) < 0.25
    y[gross] = rng.uniform(-10, 30, size=gross.sum())
    model = MixtureOfExpertsRegressor(
        [("noise", UniformExpert()), ("line", LinearExpert())],
        gate=ConstantGate(),
        n_init=1,
        max_iter=100,
    ).fit(x, y)
    assert_allclose(model.experts_[1].coef_, 2.0, atol=0.05)
    assert_allclose(model.gate_proba(x)[0, 0], gross.mean(), atol=0.05)
    law = model.predict_distribution(x)
    assert np.abs(law.mode - 2 * x[:, 0]).max() < 0.1
    plain = LinearExpert().fit(x, y)
    assert np.abs(plain.predict(x) - 2 * x[:, 0]).max() > 1.0
