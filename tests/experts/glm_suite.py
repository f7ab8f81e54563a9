"""What experts with linear predictors share in tests: problems, laws, a suite."""

import numpy as np
import pytest
from scipy import optimize, stats

from skmoe.experts import (
    BinomialExpert,
    GammaExpert,
    HeteroscedasticExpert,
    NegativeBinomialExpert,
    PoissonExpert,
    RobustLinearExpert,
)
from tests._asserts import assert_integrates_to_one, assert_same_density
from tests.experts.expert_suite import ExpertSuite, objective

__all__ = ["PLAIN", "PROBLEMS", "GlmSuite", "assert_maximum", "problem"]


def bernoulli(rng, eta):
    return (rng.random(eta.size) < 1.0 / (1.0 + np.exp(-eta))).astype(float)


def spread(rng, eta):
    return eta + np.exp(0.4 * eta - 0.5) * rng.normal(size=eta.size)


# name: (expert, responses for linear predictors)
PROBLEMS = {
    "poisson": (PoissonExpert(), lambda rng, eta: rng.poisson(np.exp(eta))),
    "negative binomial": (
        NegativeBinomialExpert(),
        lambda rng, eta: rng.negative_binomial(2.0, 2.0 / (2.0 + np.exp(eta))),
    ),
    "gamma": (GammaExpert(), lambda rng, eta: rng.gamma(3.0, np.exp(eta) / 3.0)),
    "binomial": (BinomialExpert(), bernoulli),
    "student": (
        RobustLinearExpert(),
        lambda rng, eta: eta + 0.3 * rng.standard_t(3.0, eta.size),
    ),
    "student of fixed df": (
        RobustLinearExpert(df=4.0),
        lambda rng, eta: eta + 0.3 * rng.standard_t(3.0, eta.size),
    ),
    "laplace": (
        RobustLinearExpert(noise="laplace"),
        lambda rng, eta: eta + rng.laplace(0.0, 0.3, eta.size),
    ),
    "heteroscedastic": (HeteroscedasticExpert(), spread),
}
# What makes an expert one of plain maximum likelihood.
PLAIN = {
    "alpha": 0,
    "variance_alpha": 0,
    "variance_prior": None,
    "dispersion_prior": None,
}


def problem(name, rng, n=120, plain=False, **params):
    """Return an unfitted expert of that name, X, y and weights."""
    expert, respond = PROBLEMS[name]
    expert = type(expert)(**{**expert.get_params(), **params})
    if plain:
        known = expert.get_params()
        expert.set_params(**{k: v for k, v in PLAIN.items() if k in known})
    X = rng.normal(size=(n, 3)) * [1.0, 2.0, 0.1] + [0.0, 5.0, -1.0]
    eta = 0.8 + (X - [0.0, 5.0, -1.0]) @ [0.5, -0.2, 3.0]
    y = np.asarray(respond(rng, eta), dtype=float)
    return expert, X, y, rng.uniform(0.2, 3.0, size=n)


def assert_maximum(expert, X, y, weight, tol=1e-6):
    """Check that scipy.optimize finds nothing better from near or from afar."""
    best = np.array(expert.parameters)
    top = objective(expert, X, y, weight)

    def minus(vector):
        expert.parameters = vector
        return -objective(expert, X, y, weight)

    rng = np.random.default_rng(0)
    for size in (0.0, 0.2):
        start = best + size * rng.normal(size=best.size)
        found = optimize.minimize(minus, start, method="BFGS", tol=1e-9)
        assert top >= -found.fun - tol
        if size:
            assert top == pytest.approx(-found.fun, abs=1e-4)
            np.testing.assert_allclose(found.x, best, atol=3e-3)
    expert.parameters = best


class GlmSuite(ExpertSuite):
    """The suite of all experts for responses that are not plain numbers.

    Override `make_expert` and `respond`; ``law(expert, X)`` is what scipy.stats
    says of the rows.
    """

    discrete = False
    # Two steps of scoring from scales that differ are not yet at one maximum.
    sparse_tol = 1e-5

    def respond(self, rng, eta):
        raise NotImplementedError

    def legal(self, y):
        """Return the responses that can occur next to any."""
        return y

    def law(self, expert, X):
        raise NotImplementedError

    def rows(self, rng, n_samples=90, n_columns=3):
        X = rng.normal(size=(n_samples, n_columns)) + [2.0, -1.0, 0.0][:n_columns]
        weight = rng.uniform(0.2, 3.0, size=n_samples)
        eta = 0.5 + (X - [2.0, -1.0, 0.0][:n_columns]) @ [0.6, -0.4, 0.5][:n_columns]
        return X, np.asarray(self.respond(rng, eta), dtype=float), weight

    def awkward(self, seed):
        X, y, weight = super().awkward(seed)
        return X, self.legal(y), weight

    def test_is_an_expert(self, rng):
        expert = self.fitted(*self.rows(rng))
        assert np.isfinite(expert.penalty)
        assert expert.n_parameters == expert.parameters.size
        assert expert.exact_m_step is True

    def test_shapes(self, rng):
        X, y, weight = self.rows(rng)
        expert = self.fitted(X, y, weight)
        params = expert.predict_params(X)
        assert params.shape[0] == y.size
        expected = expert.likelihood.log_prob(y, params, expert.dispersion)
        assert_same_density(expert.log_prob(X, y), expected)

    def test_density_equals_scipy(self, rng):
        X, y, weight = self.rows(rng)
        expert = self.fitted(X, y, weight)
        law = self.law(expert, X)
        expected = law.logpmf(y) if self.discrete else law.logpdf(y)
        assert_same_density(expert.log_prob(X, y), expected, rtol=1e-9, atol=1e-9)
        if not isinstance(law.dist, type(stats.cauchy)):
            mean = expert.likelihood.mean(expert.predict_params(X), expert.dispersion)
            np.testing.assert_allclose(mean, law.mean(), rtol=1e-9, atol=1e-12)

    def test_kernel_and_likelihood_agree(self, rng):
        X, y, weight = self.rows(rng)
        expert = self.fitted(X, y, weight)
        kernel, design = expert.kernel_, expert.design_.matrix(X)
        kernel.reset()
        ours = kernel.log_prob(design, expert.kernel_rows(X, y))[0]
        assert_same_density(ours, expert.log_prob(X, y), rtol=1e-10, atol=1e-10)

    def test_density_integrates_to_one(self, rng):
        X, y, weight = self.rows(rng)
        expert = self.fitted(X, y, weight)
        law = self.law(expert, X[:1])
        if self.discrete:
            counts = np.arange(float(law.ppf(1.0 - 1e-13)[0]) + 2.0)
            each = expert.log_prob(np.repeat(X[:1], counts.size, axis=0), counts)
            np.testing.assert_allclose(np.exp(each).sum(), 1.0, rtol=1e-9)
            return
        low, middle, high = (float(law.ppf(q)[0]) for q in (1e-12, 0.5, 1.0 - 1e-12))

        def density(value):
            return float(np.exp(expert.log_prob(X[:1], np.array([value]))[0]))

        quarters = [float(law.ppf(q)[0]) for q in (1e-6, 1e-3, 0.999, 1.0 - 1e-6)]
        points = [middle, *quarters]
        assert_integrates_to_one(density, low, high, points, rtol=1e-6)

    def test_learns(self, rng):
        X, y, weight = self.rows(rng, 400)
        expert = self.fitted(X, y, weight, n_steps=6)
        flat = self.fitted(np.zeros_like(X), y, weight, n_steps=6)
        got = np.average(expert.log_prob(X, y), weights=weight)
        assert got > np.average(flat.log_prob(X, y), weights=weight) + 0.05

    test_pools_dispersion = None  # their dispersions are tied by the kernel
