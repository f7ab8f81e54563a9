"""The log-link experts against scikit-learn's GLMs, scipy and brute force."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, sparse, special, stats
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import GammaRegressor, PoissonRegressor
from sklearn.metrics import (
    d2_tweedie_score,
    mean_gamma_deviance,
    mean_poisson_deviance,
)
from sklearn.utils.estimator_checks import parametrize_with_checks

from skmoe.experts import GammaExpert, NegativeBinomialExpert, PoissonExpert
from tests.experts.glm_suite import GlmSuite, assert_maximum, problem


class TestPoisson(GlmSuite):
    discrete = True

    def make_expert(self):
        return PoissonExpert()

    def respond(self, rng, eta):
        return rng.poisson(np.exp(eta))

    def legal(self, y):
        return np.abs(y)

    def law(self, expert, X):
        return stats.poisson(expert.predict_params(X))


class TestPoissonMaximumLikelihood(TestPoisson):
    # Rows that are all zero have no maximum: Newton's way there hangs on digits.
    weight_tol = 1e-6

    def make_expert(self):
        return PoissonExpert(alpha=0)


class TestNegativeBinomial(GlmSuite):
    discrete = True
    weight_tol = 1e-7

    def make_expert(self):
        return NegativeBinomialExpert()

    def respond(self, rng, eta):
        return rng.negative_binomial(2.0, 2.0 / (2.0 + np.exp(eta)))

    def legal(self, y):
        return np.abs(y)

    def law(self, expert, X):
        theta = expert.dispersion
        return stats.nbinom(theta, theta / (theta + expert.predict_params(X)))


class TestGamma(GlmSuite):
    def make_expert(self):
        return GammaExpert()

    def respond(self, rng, eta):
        return rng.gamma(3.0, np.exp(eta) / 3.0)

    def legal(self, y):
        return np.maximum(np.abs(y), 1e-3 * np.abs(y).max())

    def law(self, expert, X):
        shape = 1.0 / expert.dispersion
        return stats.gamma(shape, scale=expert.predict_params(X) / shape)


class TestGammaMaximumLikelihood(TestGamma):
    weight_tol = 1e-6

    def make_expert(self):
        return GammaExpert(alpha=0, dispersion_prior=None)


@parametrize_with_checks(
    [PoissonExpert(), NegativeBinomialExpert(), GammaExpert(alpha=0.0)]
)
def test_estimator_checks(estimator, check):
    check(estimator)


LOG_LINK = ["poisson", "negative binomial", "gamma"]
PEERS = {"poisson": PoissonRegressor, "gamma": GammaRegressor}
DEVIANCES = {"poisson": mean_poisson_deviance, "gamma": mean_gamma_deviance}


@pytest.fixture
def rng():
    return np.random.default_rng(8)


# -- the maximum ---------------------------------------------------------------


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("name", LOG_LINK)
def test_fit_is_the_maximum(name, plain, rng):
    expert, X, y, weight = problem(name, rng, plain=plain, tol=1e-13)
    assert_maximum(expert.fit(X, y, weight), X, y, weight)


@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("name", PEERS)
def test_maximum_likelihood_is_that_of_scikit_learn(name, fit_intercept, rng):
    expert, X, y, weight = problem(
        name, rng, plain=True, tol=1e-14, fit_intercept=fit_intercept
    )
    params = {"alpha": 0, "tol": 1e-10, "fit_intercept": fit_intercept}
    plain = PEERS[name](solver="newton-cholesky", **params).fit(X, y, weight)
    ours = expert.fit(X, y, weight)
    np.testing.assert_allclose(ours.coef_, plain.coef_, rtol=1e-6)
    np.testing.assert_allclose(ours.intercept_, plain.intercept_, rtol=1e-6)
    np.testing.assert_allclose(ours.predict(X), plain.predict(X), rtol=1e-7)
    assert ours.score(X, y, weight) == pytest.approx(plain.score(X, y, weight))


@pytest.mark.parametrize("alpha", [0.1, 20.0])
@pytest.mark.parametrize("name", PEERS)
def test_the_anchor_is_a_mild_ridge(name, alpha, rng):
    expert, X, y, weight = problem(name, rng, alpha=alpha, tol=1e-14)
    mean = np.average(X, axis=0, weights=weight)
    Z = (X - mean) / np.sqrt(np.average((X - mean) ** 2, axis=0, weights=weight))
    expert.prepare(X, y, weight)
    # Its objective has deviance / 2 in units of the dispersion.
    scale = 1.0 / np.exp(expert.kernel_.shapes).prod()
    plain = PEERS[name](alpha=min(alpha, 1.0) * scale / weight.sum(), tol=1e-10)
    plain.set_params(solver="newton-cholesky").fit(Z, y, weight)
    anchor = expert.kernel_.prior.anchor[0]
    np.testing.assert_allclose(anchor[1:], plain.coef_, rtol=1e-5)
    assert anchor[0] == pytest.approx(plain.intercept_, rel=1e-6)


def test_theta_by_brute_force(rng):
    """Given the means, the best of a fine grid of thetas."""
    expert, X, y, weight = problem("negative binomial", rng, 300, tol=1e-13, alpha=0)
    expert.fit(X, y, weight)
    mean = expert.predict(X)
    grid = expert.dispersion * np.exp(np.linspace(-0.02, 0.02, 81))
    values = [weight @ stats.nbinom(t, t / (t + mean)).logpmf(y) for t in grid]
    assert np.argmax(values) == 40
    # As in IRLS for a known theta: the score in the coefficients is zero.
    score = weight * (y - mean) / (1.0 + mean / expert.dispersion)
    assert np.abs(score @ np.column_stack([np.ones(300), X])).max() < 1e-5


def test_shape_of_gamma_solves_its_equation(rng):
    expert, X, y, weight = problem("gamma", rng, 300, plain=True, tol=1e-14)
    expert.fit(X, y, weight)
    half = 0.5 * expert.deviance(X, y, weight)
    found = optimize.brentq(lambda a: np.log(a) - special.psi(a) - half, 1e-2, 1e3)
    assert expert.dispersion == pytest.approx(1.0 / found, rel=1e-6)


def test_prior_of_the_shape_is_rows(rng):
    """Worth rows of a twentieth of the null deviance: the equation with them."""
    rows, fraction = 40.0, 0.05
    expert, X, y, weight = problem(
        "gamma", rng, tol=1e-14, dispersion_prior=(rows, fraction)
    )
    expert.fit(X, y, weight)
    null = np.log(np.average(y, weights=weight)) - np.average(np.log(y), weights=weight)
    total = weight.sum()
    half = 0.5 * expert.deviance(X, y, weight) * total + rows * fraction * null
    half /= total + rows
    found = optimize.brentq(lambda a: np.log(a) - special.psi(a) - half, 1e-2, 1e3)
    assert expert.dispersion == pytest.approx(1.0 / found, rel=1e-6)


@pytest.mark.parametrize("name", LOG_LINK)
def test_a_large_ridge_stays_at_the_anchor(name, rng):
    expert, X, y, weight = problem(name, rng, alpha=1e9)
    expert.fit(X, y, weight)
    few = weight * (X[:, 0] > 0.5)
    anchor = expert.kernel_.prior.anchor[0].copy()
    for _ in range(10):
        expert.m_step(X, y, few)
    np.testing.assert_allclose(expert.kernel_.coef[0, 0, 1:], anchor[1:], atol=1e-5)
    assert abs(expert.kernel_.coef[0, 0, 0] - anchor[0]) > 1e-3


# -- offsets -------------------------------------------------------------------


def with_exposure(name, rng, **params):
    expert, X, y, weight = problem(name, rng, tol=1e-13, **params)
    exposure = rng.uniform(0.2, 5.0, size=y.size)
    y = y * exposure if name == "gamma" else rng.poisson(exposure * (1.0 + y))
    return expert, X, y.astype(float), weight, exposure


@pytest.mark.parametrize("name", LOG_LINK)
def test_offset_exposure_and_array_are_the_same(name, rng):
    expert, X, y, weight, exposure = with_exposure(name, rng)
    array = clone(expert).fit(X, y, weight, offset=np.log(exposure))
    table = pd.DataFrame(X, columns=["a", "b", "c"])
    table.insert(1, "time", exposure)
    named = clone(expert).set_params(exposure="time").fit(table, y, weight)
    wide = np.column_stack([X, np.log(exposure)])
    placed = clone(expert).set_params(offset=-1).fit(wide, y, weight)
    thin = clone(expert).set_params(offset=3).fit(sparse.csr_array(wide), y, weight)
    expected = array.predict(X, offset=np.log(exposure))
    for one, rows in ((named, table), (placed, wide), (thin, sparse.csr_array(wide))):
        assert one.coef_.shape == (3,)
        np.testing.assert_allclose(one.predict(rows), expected, rtol=1e-6)
        assert one.score(rows, y, weight) == pytest.approx(
            array.score(X, y, weight, offset=np.log(exposure)), rel=1e-6
        )
    assert list(named.feature_names_in_) == ["a", "time", "b", "c"]
    # Without an offset: the rate for an exposure of one.
    np.testing.assert_allclose(array.predict(X) * exposure, expected, rtol=1e-9)


def test_exposure_is_a_weight_of_poisson_rates(rng):
    """Poisson(e m) of counts is m of rates, weighted by e: scikit-learn's recipe."""
    expert, X, y, weight, exposure = with_exposure("poisson", rng, alpha=0)
    plain = PoissonRegressor(alpha=0, tol=1e-10, solver="newton-cholesky")
    plain.fit(X, y / exposure, weight * exposure)
    ours = expert.fit(X, y, weight, offset=np.log(exposure))
    np.testing.assert_allclose(ours.coef_, plain.coef_, rtol=1e-6)
    np.testing.assert_allclose(ours.predict(X), plain.predict(X), rtol=1e-7)


@pytest.mark.parametrize("name", LOG_LINK)
def test_null_model_with_an_offset_has_score_zero(name, rng):
    expert, X, y, weight, exposure = with_exposure(name, rng, alpha=0)
    ours = expert.fit(0.0 * X, y, weight, offset=np.log(exposure))
    score = ours.score(0.0 * X, y, weight, offset=np.log(exposure))
    # Of negative binomial counts the best constant rate is not the ratio of sums.
    assert abs(score) < (0.1 if name == "negative binomial" else 1e-8)


@pytest.mark.parametrize("name", LOG_LINK)
def test_protocol_takes_the_offset_as_last_column(name, rng):
    expert, X, y, weight, exposure = with_exposure(name, rng)
    alone = clone(expert).fit(X, y, weight, offset=np.log(exposure))
    inside = clone(expert)
    inside.known = ("offset",)
    wide = np.column_stack([X, np.log(exposure)])
    inside.prepare(wide, y, weight)
    inside.fit_alone(wide, y, weight)
    np.testing.assert_allclose(inside.parameters, alone.parameters, rtol=1e-9)
    np.testing.assert_array_equal(inside.features(wide), X)
    mean = alone.predict(X, offset=np.log(exposure))
    np.testing.assert_allclose(inside.predict_params(wide), mean, rtol=1e-9)
    expected = inside.likelihood.log_prob(y, mean, inside.dispersion)
    np.testing.assert_allclose(inside.log_prob(wide, y), expected, rtol=1e-8)
    shared = inside.contributions(wide)
    total = shared.baseline + shared.parts.sum(axis=1) + shared.rest
    np.testing.assert_allclose(total, mean, rtol=1e-9)
    assert shared.parts.shape == wide.shape
    np.testing.assert_allclose(shared.rest, 0.0, atol=1e-9 * mean.max())
    # A clone starts without; a copy and a pickle keep it.
    assert clone(inside).known == ()
    assert copy.copy(inside).known == ("offset",)
    assert pickle.loads(pickle.dumps(inside)).known == ("offset",)
    # A fit without forgets it.
    assert inside.fit(X, y).known == ()


@pytest.mark.parametrize("name", LOG_LINK)
def test_start_target_is_the_log_rate(name, rng):
    expert, X, y, _, exposure = with_exposure(name, rng)
    expert.known = ("offset",)
    wide = np.column_stack([X, np.log(exposure)])
    target = expert.start_target(wide, y)
    assert target.shape == (y.size, 1)
    more = 0.0 if name == "gamma" else 0.5
    np.testing.assert_allclose(target[:, 0], np.log((y + more) / exposure))
    # Rows that only another expert explains have a place too.
    y[:3] = [-1.0, 0.0, -7.0]
    assert np.isfinite(expert.start_target(wide, y)).all()


# -- deviance and score --------------------------------------------------------


@pytest.mark.parametrize("name", DEVIANCES)
def test_deviance_is_that_of_scikit_learn(name, rng):
    expert, X, y, weight = problem(name, rng)
    expert.fit(X, y, weight)
    mean, power = expert.predict(X), 1 if name == "poisson" else 2
    for w in (None, weight):
        expected = DEVIANCES[name](y, mean, sample_weight=w)
        assert expert.deviance(X, y, w) == pytest.approx(expected, rel=1e-10)
        expected = d2_tweedie_score(y, mean, sample_weight=w, power=power)
        assert expert.score(X, y, w) == pytest.approx(expected, rel=1e-10)
    assert 0.1 < expert.score(X, y) < 1.0


@pytest.mark.parametrize("name", LOG_LINK)
def test_deviance_is_what_likelihood_lacks(name, rng):
    expert, X, y, weight = problem(name, rng)
    expert.fit(X, y, weight)
    spread = expert.dispersion
    ours = expert.likelihood.log_prob(y, expert.predict(X), spread)
    best = expert.likelihood.log_prob(y, np.maximum(y, 1e-300), spread)
    unit = spread if name == "gamma" else 1.0
    expected = 2.0 * np.average(best - ours, weights=weight) * unit
    assert expert.deviance(X, y, weight) == pytest.approx(expected, rel=1e-8)


def test_score_of_a_constant_response():
    X = np.arange(6.0)[:, None]
    expert = PoissonExpert().fit(X, np.full(6, 3.0))
    assert expert.predict(X) == pytest.approx(3.0)
    assert expert.score(X, np.full(6, 3.0)) in (0.0, 1.0)  # nothing to explain
    assert expert.score(X, np.arange(6.0)) == pytest.approx(
        d2_tweedie_score(np.arange(6.0), np.full(6, 3.0), power=1)
    )


# -- rows that cannot occur ----------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("poisson", -2.0, r"PoissonExpert needs counts y >= 0\. Got y = -2 in row 4"),
        ("negative binomial", -1.0, r"needs counts y >= 0\. Got y = -1 in row 4"),
        ("gamma", 0.0, r"GammaExpert needs responses y > 0\. Got y = 0 in row 4"),
        ("gamma", -1.5, r"needs responses y > 0\. Got y = -1.5 in row 4"),
    ],
)
def test_responses_that_cannot_occur(name, value, message, rng):
    expert, X, y, weight = problem(name, rng)
    y[4] = value
    with pytest.raises(ValueError, match=message):
        expert.fit(X, y, weight)
    # A row of weight zero may hold anything.
    weight[4] = 0.0
    before = expert.fit(X, y, weight).parameters
    # Inside a mixture such rows are left to others: no density here, no weight.
    inside = clone(expert)
    weight[4] = 3.0
    inside.prepare(X, y, weight)
    inside.fit_alone(X, y, weight)
    np.testing.assert_allclose(inside.parameters, before, rtol=1e-9)
    inside.m_step(X, y, weight)
    log_prob = inside.log_prob(X, y)
    assert log_prob[4] == -np.inf
    assert np.isfinite(np.delete(log_prob, 4)).all()
    np.testing.assert_array_equal(inside.supports(X, y), np.arange(y.size) != 4)


def test_no_row_that_can_occur(rng):
    expert, X, _, weight = problem("gamma", rng)
    with pytest.raises(ValueError, match=r"y > 0\. No row of positive weight has one"):
        expert.prepare(X, np.zeros(weight.size), weight)


# -- bad input -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"alpha": -0.5}, r"PoissonExpert: alpha must be a number >= 0, got -0\.5"),
        ({"alpha": "auto"}, r"alpha must be a number >= 0, got 'auto'"),
        ({"alpha": np.nan}, "alpha must be a number >= 0, got nan"),
        ({"max_iter": 0}, "max_iter must be at least 1, got 0"),
        ({"offset": 7}, "position of one of the 3 columns of X, got 7"),
        ({"exposure": 1.5}, r"exposure must be None, the name or .*, got 1\.5"),
        ({"offset": "age"}, r"offset='age' is not a column of X; X has no column"),
        ({"offset": 0, "exposure": 1}, r"offset is given 2 times \(\['offset', 'exp"),
        ({"exposure": 0}, r"exposure must be positive, got -?[\d.]+ in row \d"),
    ],
)
def test_bad_parameters(params, message, rng):
    _, X, y, _ = problem("poisson", rng)
    with pytest.raises(ValueError, match=message):
        PoissonExpert(**params).fit(X, y)


@pytest.mark.parametrize("value", [(1.0,), (-1.0, 0.5), (np.nan, 1.0)])
def test_bad_dispersion_prior(value, rng):
    expert, X, y, _ = problem("gamma", rng, dispersion_prior=value)
    with pytest.raises(ValueError, match="dispersion_prior must be None or two numb"):
        expert.fit(X, y)


@pytest.mark.parametrize(
    ("offset", "message"),
    [
        (np.zeros(7), r"offset must be of shape \(120,\).* got shape \(7,\)"),
        (np.zeros((120, 1)), r"got shape \(120, 1\)"),
        (np.r_[np.zeros(5), np.inf, np.zeros(114)], "finite, got inf in row 5"),
        (np.r_[np.nan, np.zeros(119)], "finite, got nan in row 0"),
    ],
)
def test_bad_offsets(offset, message, rng):
    expert, X, y, _ = problem("poisson", rng)
    with pytest.raises(ValueError, match=message):
        expert.fit(X, y, offset=offset)
    expert.fit(X, y)
    with pytest.raises(ValueError, match=message):
        expert.predict(X, offset=offset)


def test_an_offset_given_twice(rng):
    expert, X, y, _ = problem("poisson", rng, offset=0)
    with pytest.raises(ValueError, match=r"given 2 times \(\['offset', 'an array'\]"):
        expert.fit(X, y, offset=np.zeros(y.size))


def test_a_column_that_the_frame_lacks(rng):
    expert, X, y, _ = problem("poisson", rng, exposure="time")
    with pytest.raises(ValueError, match=r"'time' is not a column of X; X has \['a'"):
        expert.fit(pd.DataFrame(X, columns=list("abc")), y)


def test_several_outputs(rng):
    expert, X, y, weight = problem("poisson", rng)
    with pytest.raises(ValueError, match=r"fits one output, got y of shape \(120, 2"):
        expert.prepare(X, np.column_stack([y, y]), weight)


@pytest.mark.parametrize("name", LOG_LINK)
def test_predict_before_fit(name, rng):
    with pytest.raises(NotFittedError):
        problem(name, rng)[0].predict(np.zeros((2, 3)))


# -- hard data -----------------------------------------------------------------


def test_counts_that_are_all_zero(rng):
    _, X, y, _ = problem("poisson", rng)
    for expert in (PoissonExpert(alpha=0), NegativeBinomialExpert(alpha=0)):
        expert.fit(X, 0.0 * y)
        assert np.isfinite(expert.log_prob(X, 0.0 * y)).all()
        assert expert.predict(X).max() < 1e-2


@pytest.mark.parametrize("name", LOG_LINK)
def test_large_responses(name, rng):
    expert, X, y, weight = problem(name, rng)
    # Without the spread of counts of one, large ones are no harder.
    big = clone(expert).fit(X, np.round(1e6 * y) + 1.0, weight)
    assert np.isfinite(big.log_prob(X, np.round(1e6 * y) + 1.0)).all()
    if name == "gamma":
        small = expert.fit(X, y, weight)
        np.testing.assert_allclose(big.coef_, small.coef_, rtol=1e-3, atol=1e-4)


def test_a_gamma_that_fits_exactly(rng):
    """Without a prior the shape runs to its bound and says that it collapsed."""
    X = rng.normal(size=(40, 2))
    y = np.exp(X[:, 0] + 0.3)
    exact = GammaExpert(alpha=0, dispersion_prior=None).fit(X, y)
    assert exact.collapsed
    assert exact.dispersion == pytest.approx(1e-8)
    assert not GammaExpert(alpha=0).fit(X, y).collapsed
