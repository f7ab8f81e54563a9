"""The binomial expert against logistic regression on single trials."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse, special, stats
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.utils.estimator_checks import parametrize_with_checks

from skmoe.experts import BinomialExpert
from tests.experts.glm_suite import GlmSuite, assert_maximum, objective, problem


class TestBinomial(GlmSuite):
    discrete = True

    def make_expert(self):
        return BinomialExpert()

    def respond(self, rng, eta):
        return rng.random(eta.size) < special.expit(eta)

    def legal(self, y):
        return (y > 0.0).astype(float)

    def law(self, expert, X):
        return stats.binom(1, expert.predict_params(X)[:, 0])


class TestBinomialMaximumLikelihood(TestBinomial):
    # Separated rows have no maximum: what Newton has reached hangs on digits.
    weight_tol = 1e-6

    def make_expert(self):
        return BinomialExpert(alpha=0)


class Shares(BinomialExpert):
    """Takes any response to a share of its one trial, so that checks can run."""

    def supports(self, X, y):
        return np.ones(y.size, dtype=bool)

    def _target(self, family, X, y):
        return super()._target(family, X, special.expit(y))

    def score(self, X, y, sample_weight=None):
        return super().score(X, special.expit(y), sample_weight)


@parametrize_with_checks([Shares()])
def test_estimator_checks(estimator, check):
    check(estimator)


@pytest.fixture
def rng():
    return np.random.default_rng(8)


def trials_problem(rng, n=90, **params):
    """Return an expert, X, successes, trials and weights."""
    X = rng.normal(size=(n, 3)) * [1.0, 2.0, 0.1] + [0.0, 5.0, -1.0]
    eta = 0.3 + (X - [0.0, 5.0, -1.0]) @ [0.5, -0.3, 3.0]
    trials = rng.integers(1, 30, size=n).astype(float)
    y = rng.binomial(trials.astype(int), special.expit(eta)).astype(float)
    weight = rng.uniform(0.2, 3.0, size=n)
    return BinomialExpert(tol=1e-13, **params), X, y, trials, weight


def single_trials(X, y, trials, weight):
    """Return one row for successes and one for failures, as weighted classes."""
    rows = np.concatenate([X, X])
    codes = np.repeat([1, 0], y.size)
    return rows, codes, np.concatenate([weight * y, weight * (trials - y)])


@pytest.mark.parametrize("plain", [False, True])
def test_fit_is_the_maximum(plain, rng):
    expert, X, y, weight = problem("binomial", rng, plain=plain, tol=1e-13)
    assert_maximum(expert.fit(X, y, weight), X, y, weight)


def test_trials_are_repetitions(rng):
    expert, X, y, trials, weight = trials_problem(rng, alpha=0)
    expert.fit(X, y, weight, trials=trials)
    plain = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-12)
    rows, codes, weights = single_trials(X, y, trials, weight)
    plain.fit(rows, codes, weights)
    np.testing.assert_allclose(expert.coef_, plain.coef_[0], rtol=1e-6)
    proba = plain.predict_proba(X)[:, 1]
    np.testing.assert_allclose(expert.predict(X), proba, rtol=1e-7)
    successes = expert.predict(X, trials=trials)
    np.testing.assert_allclose(successes, trials * proba, rtol=1e-7)


def test_density_is_that_of_scipy(rng):
    expert, X, y, trials, weight = trials_problem(rng)
    expert.known = ("trials",)
    wide = np.column_stack([X, trials])
    expert.prepare(wide, y, weight)
    proba, size = expert.predict_params(wide).T
    np.testing.assert_array_equal(size, trials)
    expected = stats.binom(trials.astype(int), proba).logpmf(y)
    np.testing.assert_allclose(expert.log_prob(wide, y), expected, rtol=1e-9)
    kernel = expert.kernel_
    kernel.reset()
    ours = kernel.log_prob(expert.design_.matrix(X), expert.kernel_rows(wide, y))
    np.testing.assert_allclose(ours[0], expected, rtol=1e-9)
    assert objective(expert, wide, y, weight) < 0.0


def test_trials_and_offset_by_column_or_array(rng):
    expert, X, y, trials, weight = trials_problem(rng)
    offset = 0.3 * rng.normal(size=y.size)
    array = clone(expert).fit(X, y, weight, offset=offset, trials=trials)
    table = pd.DataFrame(X, columns=["a", "b", "c"])
    table.insert(0, "out_of", trials)
    table["shift"] = offset
    named = clone(expert).set_params(trials="out_of", offset="shift")
    named.fit(table, y, weight)
    wide = sparse.csr_array(np.column_stack([X, trials]))
    mixed = clone(expert).set_params(trials=3).fit(wide, y, weight, offset=offset)
    expected = array.predict(X, offset=offset, trials=trials)
    np.testing.assert_allclose(named.predict(table), expected, rtol=1e-7)
    np.testing.assert_allclose(mixed.predict(wide, offset=offset), expected, rtol=1e-5)
    # The protocol has both as last columns, in the order that `known` says.
    inside = clone(expert)
    inside.known = ("trials", "offset")
    last = np.column_stack([X, trials, offset])
    inside.prepare(last, y, weight)
    inside.fit_alone(last, y, weight)
    np.testing.assert_allclose(inside.parameters, array.parameters, rtol=1e-8)
    np.testing.assert_array_equal(inside.features(last), X)


def test_an_offset_is_added_to_the_logit(rng):
    expert, X, y, trials, weight = trials_problem(rng, alpha=0)
    offset = X @ [0.2, 0.1, 1.0]
    moved = clone(expert).fit(X, y, weight, offset=offset, trials=trials)
    plain = expert.fit(X, y, weight, trials=trials)
    np.testing.assert_allclose(moved.coef_, plain.coef_ - [0.2, 0.1, 1.0], atol=1e-5)


def test_deviance_and_score(rng):
    expert, X, y, trials, weight = trials_problem(rng)
    expert.fit(X, y, weight, trials=trials)
    proba = expert.predict(X)
    law, best = stats.binom(trials, proba), stats.binom(trials, y / trials)
    null = stats.binom(trials, (weight @ y) / (weight @ trials))
    lacking = 2.0 * weight @ (best.logpmf(y) - law.logpmf(y))
    flat = 2.0 * weight @ (best.logpmf(y) - null.logpmf(y))
    deviance = expert.deviance(X, y, weight, trials=trials)
    assert deviance == pytest.approx(lacking / weight.sum(), rel=1e-9)
    score = expert.score(X, y, weight, trials=trials)
    assert score == pytest.approx(1.0 - lacking / flat, rel=1e-9)


def test_rows_without_trials_say_nothing(rng):
    """They weigh in the scales of the columns, not in the likelihood."""
    expert, X, y, trials, weight = trials_problem(rng, alpha=0)
    trials[:5], y[:5] = 0.0, 0.0
    all_rows = clone(expert).fit(X, y, weight, trials=trials)
    few = clone(expert).fit(X[5:], y[5:], weight[5:], trials=trials[5:])
    np.testing.assert_allclose(all_rows.coef_, few.coef_, rtol=1e-6)


@pytest.mark.parametrize(
    ("y", "trials", "message"),
    [
        (3.0, 2.0, r"needs successes 0 <= y <= trials\. Got y = 3 in row 4"),
        (-1.0, 2.0, r"Got y = -1 in row 4"),
        (0.0, -1.0, r"Got y = 0 in row 4"),
    ],
)
def test_successes_beyond_trials(y, trials, message, rng):
    expert, X, successes, size, _ = trials_problem(rng)
    successes[4], size[4] = y, trials
    with pytest.raises(ValueError, match=message):
        expert.fit(X, successes, trials=size)
    expert.known = ("trials",)
    wide = np.column_stack([X, size])
    np.testing.assert_array_equal(
        expert.supports(wide, successes), np.arange(size.size) != 4
    )
    expert.prepare(wide, successes, np.ones(size.size))
    assert np.isfinite(expert.parameters).all()
    assert expert.log_prob(wide, successes)[4] == -np.inf
    assert np.isfinite(expert.start_target(wide[:4], successes[:4])).all()


@pytest.mark.parametrize(
    ("trials", "message"),
    [
        (np.ones(7), r"BinomialExpert: trials must be of shape \(90,\).*got shape \(7"),
        (np.r_[np.full(89, 30.0), np.nan], "trials must be finite, got nan in row 89"),
    ],
)
def test_bad_trials(trials, message, rng):
    expert, X, y, _, _ = trials_problem(rng)
    with pytest.raises(ValueError, match=message):
        expert.fit(X, y, trials=trials)


def test_start_target_is_the_empirical_logit(rng):
    expert, X, y, trials, _ = trials_problem(rng)
    expert.known = ("offset", "trials")
    offset = rng.normal(size=y.size)
    target = expert.start_target(np.column_stack([X, offset, trials]), y)
    share = (y + 0.5) / (trials + 1.0)
    np.testing.assert_allclose(target[:, 0], special.logit(share) - offset, rtol=1e-9)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_separated_rows_stay_finite(alpha):
    X = np.linspace(-1.0, 1.0, 40)[:, None]
    y = (X[:, 0] > 0.0).astype(float)
    expert = BinomialExpert(alpha=alpha).fit(X, y)
    assert np.isfinite(expert.log_prob(X, y)).all()
    assert expert.score(X, y) > 0.6
    # All successes, and none.
    for same in (np.ones(40), np.zeros(40)):
        expert.fit(X, same)
        np.testing.assert_allclose(expert.predict(X), same, atol=1e-2)


def test_probabilities_that_round_to_one(rng):
    """The logit still knows how improbable the other outcome is."""
    X = np.array([[0.0], [1.0], [2.0], [3.0]])
    expert = BinomialExpert(alpha=0).fit(X, [0.0, 1.0, 0.0, 1.0])
    expert.parameters = np.array([80.0, 0.0])
    np.testing.assert_allclose(expert.log_prob(X, np.zeros(4)), -80.0, rtol=1e-12)
    np.testing.assert_allclose(expert.log_prob(X, np.ones(4)), 0.0, atol=1e-12)
    params = expert.predict_params(X)
    assert np.isfinite(expert.likelihood.log_prob(np.zeros(4), params, None)).all()
    assert np.isfinite(expert.deviance(X, np.zeros(4)))
