"""The loop: ascent, fallbacks, faults, plateaus, and the pass that is kept."""

import warnings

import numpy as np
import pytest

from skmoe.em._build import assignment, build_problem
from skmoe.em._loop import climb, objective_at
from skmoe.em._monitor import Monitor
from skmoe.em._node import hard_assignment
from skmoe.em._node_problem import NodeProblem
from skmoe.exceptions import NonMonotoneWarning
from tests._asserts import assert_climbs
from tests.em.problems import (
    fused_problem,
    make_node,
    objective,
    rows,
    soft_labels,
)


class Hill:
    """EM on ``-|x|^2_A / 2``: each pass shrinks coordinate i by ``rates[i]``."""

    exact_m_step, has_gradient, penalty, total_weight = True, False, -0.25, 10.0
    gradient = None

    def __init__(self, rates, start=1.0):
        self.rates = np.asarray(rates, dtype=float)
        self.x = np.full(self.rates.size, float(start))
        self.seen = []

    def e_step(self):
        self.seen.append(self.x.copy())
        return self.height(self.x)

    def height(self, x):
        return -0.5 * float(x @ x)

    def m_step(self):
        self.x = self.rates * self.x

    def backtrack(self):
        return False

    @property
    def parameters(self):
        return self.x.copy()

    @parameters.setter
    def parameters(self, value):
        self.x = np.array(value)

    def precondition(self, vector):
        return vector

    def limited(self, direction):
        return direction

    def state(self):
        return self.x.copy()

    def restore(self, state):
        self.x = state.copy()


def run(problem, max_iter=500, acceleration=None, tol=1e-10, **options):
    monitor = Monitor(tol, problem.total_weight, **options)
    climb(problem, monitor, max_iter, acceleration)
    assert objective(problem) == pytest.approx(monitor.best, rel=1e-12, abs=1e-300)
    return monitor


@pytest.fixture
def rng():
    return np.random.default_rng(17)


def test_one_pass_is_one_e_step():
    problem = Hill([0.5])
    monitor = Monitor(0.0, 1.0)
    climb(problem, monitor, 7, None)
    assert monitor.n_passes == len(problem.seen) == 7
    assert len(monitor.trace) == 7
    assert not monitor.converged
    assert monitor.trace[0] == problem.penalty - 0.5
    assert objective_at(problem, monitor) == monitor.trace[-1]
    assert monitor.n_passes == 8


def test_the_objective_has_the_penalty():
    assert run(Hill([0.1])).best == pytest.approx(Hill.penalty)


@pytest.mark.parametrize("rate", [0.2, 0.9, 0.995])
def test_plain_em_stops_by_aitken(rate):
    """A slow series goes on until what is left, not the last gain, is small."""
    problem = Hill([rate])
    monitor = run(problem, 5000, tol=1e-6)
    assert monitor.converged
    assert Hill.penalty - monitor.best < 1.5e-6 * (1.0 + Hill.total_weight)
    assert monitor.n_passes < 5000


class Flat(Hill):
    """At its top from the start: all that is left to see is rounding."""

    def __init__(self, rounding):
        super().__init__([1.0])
        self.rounding = rounding

    def height(self, x):
        return super().height(x) + self.rounding[(len(self.seen) - 1) % 4]


@pytest.mark.parametrize("acceleration", [None, "squarem"])
@pytest.mark.parametrize("sign", [-1.0, 0.0, 1.0])
def test_a_run_that_starts_at_the_top_has_converged(sign, acceleration):
    """Whichever way the last digit of its second pass falls."""
    problem = Flat(sign * 1e-16 * np.array([0.0, 2.0, 3.0, 1.0]))
    monitor = Monitor(1e-8, problem.total_weight)
    climb(problem, monitor, 100, acceleration)
    assert monitor.converged
    assert monitor.n_passes < 6


@pytest.mark.parametrize("acceleration", ["squarem", "auto", "quasi-newton"])
def test_without_a_gradient_squarem_is_used(acceleration):
    problem = Hill([0.99, 0.9, 0.5])
    fast = run(problem, 2000, acceleration)
    plain = run(Hill([0.99, 0.9, 0.5]), 2000)
    assert fast.converged
    assert fast.n_passes < 0.3 * plain.n_passes
    assert_climbs(fast.trace, 0.0)
    assert fast.best == pytest.approx(plain.best, abs=2e-10 * (1 + Hill.total_weight))


class Fenced(Hill):
    """Extrapolations end behind a fence, where there is no likelihood."""

    def height(self, x):
        return super().height(x) if x.min() > 0.0 else float("nan")


def test_squarem_falls_back_on_em():
    # Two rates overshoot: the jump for the slow one throws the fast one over.
    problem = Fenced([0.95, 0.2])
    monitor = run(problem, 2000, "squarem")
    rejected = [x for x in problem.seen if x.min() <= 0.0]
    assert rejected
    assert monitor.converged
    assert_climbs(monitor.trace, 0.0)
    assert monitor.best == pytest.approx(Hill.penalty, abs=1e-8)


class Liar(Hill):
    """Says that its M-step is exact; from the fifth on it goes downhill."""

    def __init__(self, rates, shortens=False):
        super().__init__(rates)
        self.calls, self.shortens = 0, shortens

    def m_step(self):
        self.calls += 1
        self.before = self.x
        self.x = self.x * 3.0 if self.calls >= 5 else self.rates * self.x

    def backtrack(self):
        if not self.shortens or self.x is self.before:
            return False
        self.x = self.before
        return True


@pytest.mark.parametrize("acceleration", [None, "squarem"])
def test_a_wrong_m_step_is_announced_and_undone(acceleration):
    problem = Liar([0.9, 0.8])
    with pytest.warns(NonMonotoneWarning, match="exact M-steps lowered its objective"):
        monitor = run(problem, 100, acceleration, tol=0.0)
    assert monitor.failed
    assert not monitor.converged
    assert_climbs(monitor.trace, 0.0)
    assert monitor.trace[-1] == monitor.best
    np.testing.assert_array_equal(problem.parameters, monitor.best_state)


def test_a_step_that_can_be_shortened_is_no_fault():
    problem = Liar([0.9], shortens=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        monitor = run(problem, 40, None, tol=1e-8)
    assert monitor.converged
    assert not monitor.stopped


class Wanderer(Hill):
    """An inexact M-step: it climbs, then circles about the top."""

    exact_m_step = False

    def __init__(self):
        super().__init__([0.5])
        self.calls = 0

    def m_step(self):
        self.calls += 1
        noise = 0.3 * np.sin(2.4 * self.calls) if self.calls > 4 else 0.0
        self.x = self.rates * self.x + noise


def test_inexact_parts_stop_on_a_plateau_and_keep_the_best():
    problem = Wanderer()
    monitor = run(problem, 500, "auto", exact=False)
    assert monitor.converged
    assert monitor.n_passes < 60
    assert min(np.diff(monitor.trace)) < -1e-3  # it did fall, without a warning
    assert monitor.best == max(monitor.trace)
    assert monitor.last < monitor.best
    np.testing.assert_array_equal(problem.parameters, monitor.best_state)


def test_inexact_parts_stop_at_max_iter():
    monitor = run(Wanderer(), 4, None, exact=False)
    assert len(monitor.trace) == 4
    assert not monitor.converged


@pytest.mark.parametrize("acceleration", [None, "squarem", "quasi-newton"])
@pytest.mark.parametrize("exact", [True, False])
def test_a_callback_stops_after_its_pass(exact, acceleration, rng):
    heard = []

    def on_pass(value):
        heard.append(value)
        return len(heard) == 4

    problem = fused_problem("single", rng, 2, steps=0)
    monitor = run(problem, 100, acceleration, exact=exact, on_pass=on_pass)
    assert monitor.stopped
    assert heard == monitor.trace
    assert len(heard) == 4


@pytest.mark.parametrize("acceleration", [None, "squarem", "quasi-newton"])
@pytest.mark.parametrize("max_iter", [1, 2, 5])
def test_max_iter_bounds_the_passes(acceleration, max_iter, rng):
    problem = fused_problem("single", rng, 3, steps=0)
    monitor = run(problem, max_iter, acceleration, tol=0.0)
    # A cycle, or a search, that has begun is brought to its end.
    assert max_iter <= monitor.n_passes <= max_iter + 6


@pytest.mark.parametrize("case", ["single", "four_classes", "own_columns", "shared"])
def test_the_gates_overshoot_is_mended(case, rng):
    """From a gate far outside, Newton's step falls and is shortened."""
    problem = fused_problem(case, rng, 3, steps=0)
    problem.gate.coef = 40.0 * rng.normal(size=problem.gate.coef.shape)
    problem.gate.coef -= problem.gate.coef.mean(axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        monitor = run(problem, 60)
    assert_climbs(monitor.trace)
    assert monitor.best > monitor.trace[0] + 10.0


# -- hard and stochastic EM -----------------------------------------------------------


@pytest.mark.parametrize("case", ["single", "constant_gate", "two_classes", "shared"])
def test_cem_climbs_the_classification_likelihood(case, rng):
    data = X, y, weight, n_classes = rows(None if "class" not in case else "2", rng)
    node = make_node(case, assign=assignment("cem", None))
    assert node.assign is hard_assignment
    problem = build_problem(node, *data)
    problem.start(soft_labels(X, 3, rng))
    monitor = run(problem, 200)
    assert monitor.converged
    assert_climbs(monitor.trace)
    # It is the likelihood of rows and labels together: below that of the rows.
    problem.assign = None
    assert objective(problem) > monitor.best
    assert weight.size == y.shape[0]
    assert n_classes in (None, 2)


def test_cem_ends_where_no_label_changes(rng):
    data = rows(None, rng)
    problem = build_problem(make_node("single", assign=hard_assignment), *data)
    problem.start(soft_labels(data[0], 3, rng))
    run(problem, 300, tol=1e-12)
    problem.e_step()
    mass = problem.mass.copy()
    problem.m_step()
    problem.e_step()
    np.testing.assert_array_equal(problem.mass, mass)


def test_cem_of_general_parts_is_that_of_fused_ones(rng):
    data = X, y, weight, _ = rows(None, rng)
    resp = soft_labels(X, 3, rng)
    node = make_node("single", assign=hard_assignment)
    node.prepare(*data)
    general = NodeProblem(node, X, y, weight)
    fused = build_problem(make_node("single", assign=hard_assignment), *data)
    general.start(resp)
    fused.start(resp)
    assert objective(fused) == pytest.approx(objective(general), rel=1e-10)
    np.testing.assert_allclose(fused.mass, general.mass, rtol=1e-12)
    np.testing.assert_array_equal(np.unique(node.resp), [0.0, 1.0])


def sem_run(seed, data, resp):
    assign = assignment("sem", np.random.RandomState(seed))
    problem = build_problem(make_node("single", assign=assign), *data)
    problem.start(resp)
    return run(problem, 40, exact=False)


def test_sem_is_seeded_and_keeps_the_best_pass(rng):
    data = rows(None, rng)
    resp = soft_labels(data[0], 3, rng)
    one, same, other = (sem_run(seed, data, resp) for seed in (1, 1, 2))
    assert one.trace == same.trace
    assert one.trace != other.trace
    assert one.best == max(one.trace)


def test_sem_draws_labels_from_the_posterior(rng):
    joint = np.log(np.array([0.2, 0.5, 0.3]))[:, None] + np.zeros((3, 20_000))
    resp, log_lik = assignment("sem", np.random.RandomState(0))(joint)
    np.testing.assert_array_equal(np.sort(resp, axis=0)[:2], 0.0)
    np.testing.assert_array_equal(resp.sum(axis=0), 1.0)
    np.testing.assert_allclose(resp.mean(axis=1), [0.2, 0.5, 0.3], atol=0.012)
    np.testing.assert_allclose(log_lik, 0.0, atol=1e-12)


def test_em_is_the_posterior(rng):
    resp, _ = assignment("em", None)(np.log([[0.25], [0.75]]))
    np.testing.assert_allclose(resp[:, 0], [0.25, 0.75])
