"""Damped Newton steps of an expert alone: a one-dimensional kernel to look through."""

import numpy as np
import pytest

from skmoe._blocks import BLOCK_ROWS, Design
from skmoe.experts import LogisticExpert, PoissonExpert
from skmoe.experts._newton import NewtonSteps


class Hill:
    """``log p = -c (coef - y)^2``, whose proposed steps are too long by a factor."""

    n_gram_rows = 1
    n_score_rows = 1
    penalty = 0.0

    def __init__(self, factor):
        self.factor = factor
        self.coef = np.zeros(1)

    def reset(self):
        self.n_evaluations = getattr(self, "n_evaluations", 0)

    def log_prob(self, design, y):
        self.n_evaluations += 1
        self.error = y - self.coef
        return -(self.error**2)[None]

    def fill(self, gram_rows, score_rows, weighted_resp, weight):
        gram_rows[:] = weighted_resp
        np.multiply(2.0 * self.error, weighted_resp, out=score_rows)

    def take(self, half_grams, score, total_weight):
        self.gradient = score[0]
        self.curvature = 2.0 * half_grams[0, 0]

    def propose(self):
        self._from = self.coef
        self.direction = self.factor * self.gradient / self.curvature

    def move(self, fraction):
        self.coef = self._from + fraction * self.direction


class Climber(NewtonSteps):
    def __init__(self, factor, max_iter=50, tol=1e-10):
        self.kernel_ = Hill(factor)
        self.max_iter, self.tol = max_iter, tol
        self.design_ = Design(np.empty((2, 0)), np.ones(2))

    def features(self, X):
        return X

    def kernel_rows(self, X, y):
        return y


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    y = rng.normal(size=200) + 4.0
    return np.empty((200, 0)), y, rng.uniform(0.5, 2.0, size=200)


def value(climber, y, weight):
    return -weight @ (y - climber.kernel_.coef) ** 2


@pytest.mark.parametrize("factor", [0.3, 1.0, 1.9])
def test_steps_that_climb_are_taken_whole(factor, rows):
    X, y, weight = rows
    climber = Climber(factor)
    start = climber._newton_step(X, y, weight)
    assert start == pytest.approx(-weight @ y**2)
    mean = np.average(y, weights=weight)
    np.testing.assert_allclose(climber.kernel_.coef, factor * mean)


@pytest.mark.parametrize(("factor", "taken"), [(3.0, 1.5), (5.0, 1.25), (9.0, 1.125)])
def test_steps_too_long_are_halved(factor, taken, rows):
    X, y, weight = rows
    climber = Climber(factor)
    climber._newton_step(X, y, weight)
    mean = np.average(y, weights=weight)
    np.testing.assert_allclose(climber.kernel_.coef, taken * mean)


@pytest.mark.parametrize("factor", [-1.0, 1e9, np.nan])
def test_no_step_is_better_than_a_bad_one(factor, rows):
    X, y, weight = rows
    climber = Climber(factor)
    climber._newton_step(X, y, weight)
    assert climber.kernel_.coef == pytest.approx(0.0, abs=0.0) or np.isnan(factor)
    if np.isfinite(factor):
        assert value(climber, y, weight) == pytest.approx(-weight @ y**2)


def test_a_promise_of_nothing_costs_no_search(rows):
    X, y, weight = rows
    climber = Climber(1.0)
    climber._newton_step(X, y, weight)
    climber.kernel_.n_evaluations = 0
    climber._newton_step(X, y, weight)
    assert climber.kernel_.n_evaluations == 1


def test_fit_alone_counts_its_steps(rows):
    X, y, weight = rows
    # There at once; the next two find no gain.
    assert Climber(1.0).fit_alone(X, y, weight) == 3
    slow = Climber(0.5)
    n_steps = slow.fit_alone(X, y, weight)
    assert n_steps > 10
    np.testing.assert_allclose(slow.kernel_.coef, np.average(y, weights=weight), 1e-4)
    assert Climber(0.5, max_iter=3).fit_alone(X, y, weight) == 3
    assert Climber(0.5, tol=1e-2).fit_alone(X, y, weight) < n_steps


def test_rows_go_by_in_blocks():
    rng = np.random.default_rng(0)
    n = 2 * BLOCK_ROWS + 17
    y, weight = rng.normal(size=n), rng.uniform(size=n)
    climber = Climber(1.0)
    climber._newton_step(np.empty((n, 0)), y, weight)
    np.testing.assert_allclose(climber.kernel_.coef, np.average(y, weights=weight))
    total = climber._log_lik(np.empty((n, 0)), y, weight)
    assert total == pytest.approx(value(climber, y, weight))


@pytest.mark.parametrize("expert", [LogisticExpert(), PoissonExpert()])
def test_experts_step_by_it(expert):
    """The objective that a step starts from is that of the protocol."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 2)), rng.integers(0, 2, size=60)
    weight = rng.uniform(0.2, 2.0, size=60)
    assert isinstance(expert, NewtonSteps)
    expert.prepare(X, y, np.ones(60), 2)
    rows = expert.kernel_rows(X, y)
    before = weight @ expert.log_prob(X, y) + expert.penalty
    assert expert._newton_step(X, rows, weight) == pytest.approx(before, rel=1e-10)
    assert weight @ expert.log_prob(X, y) + expert.penalty > before
