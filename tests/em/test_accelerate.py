"""SQUAREM and the quasi-Newton finish."""

import numpy as np
import pytest

from skmoe.em._accelerate import PreconditionedLBFGS, squarem_point
from skmoe.em._build import build_problem
from skmoe.em._loop import climb
from skmoe.em._monitor import Monitor
from skmoe.em._node_problem import NodeProblem
from tests._asserts import assert_climbs
from tests.em.problems import fused_problem, make_node, objective, soft_labels


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def quadratic(rng, size=6, condition=1e3):
    """Return a concave quadratic's curvature matrix."""
    basis = np.linalg.qr(rng.normal(size=(size, size)))[0]
    return basis @ np.diag(np.geomspace(1.0, condition, size)) @ basis.T


@pytest.mark.parametrize("rate", [0.3, 0.9, 0.999])
def test_squarem_jumps_to_the_limit_of_one_rate(rng, rate):
    limit, away = rng.normal(size=4), rng.normal(size=4)
    points = [limit + rate**i * away for i in range(3)]
    np.testing.assert_allclose(squarem_point(*points), limit, atol=1e-9)


def test_squarem_is_the_published_formula(rng):
    start, once, twice = rng.normal(size=(3, 5))
    r, v = once - start, twice - 2.0 * once + start
    alpha = -np.linalg.norm(r) / np.linalg.norm(v)
    expected = start - 2.0 * alpha * r + alpha**2 * v
    if alpha > -1.0:
        expected = twice
    np.testing.assert_allclose(squarem_point(start, once, twice), expected, rtol=1e-12)
    # Steps that grow: no shorter than plain EM.
    np.testing.assert_allclose(
        squarem_point(np.zeros(2), np.ones(2), np.full(2, 9.0)), 9.0
    )


def test_squarem_at_a_fixed_point():
    point = np.array([1.0, -2.0])
    np.testing.assert_array_equal(squarem_point(point, point, point), point)


def test_first_direction_is_the_preconditioned_gradient(rng):
    matrix = quadratic(rng)
    gradient = rng.normal(size=6)
    direction = PreconditionedLBFGS().direction(gradient, lambda v: matrix @ v)
    np.testing.assert_allclose(direction, matrix @ gradient, rtol=1e-12)


def test_pairs_satisfy_the_secant_equation(rng):
    """The learned metric maps the last change of gradient to the last step."""
    curvature, memory = quadratic(rng), PreconditionedLBFGS()
    for _ in range(4):
        step = rng.normal(size=6)
        memory.remember(step, curvature @ step)
    found = memory.direction(curvature @ step, lambda v: v)
    np.testing.assert_allclose(found, step, rtol=1e-8)


def test_directions_climb_and_end_on_a_quadratic(rng):
    curvature, memory = quadratic(rng), PreconditionedLBFGS()
    x = rng.normal(size=6)
    gradient = -curvature @ x
    for _ in range(12):
        direction = memory.direction(gradient, lambda v: v / 30.0)
        slope = gradient @ direction
        assert slope > 0.0
        step = direction * slope / (direction @ curvature @ direction)
        x = x + step
        fresh = -curvature @ x
        memory.remember(step, gradient - fresh)
        gradient = fresh
        if np.abs(gradient).max() < 1e-9:
            break
    np.testing.assert_allclose(x, 0.0, atol=1e-9)


def test_pairs_without_curvature_are_not_kept(rng):
    memory = PreconditionedLBFGS()
    step = rng.normal(size=3)
    memory.remember(step, -step)
    memory.remember(step, np.zeros(3))
    memory.remember(np.zeros(3), step)
    assert not memory.pairs
    memory.remember(step, 2.0 * step)
    assert len(memory.pairs) == 1


def test_memory_is_bounded(rng):
    memory = PreconditionedLBFGS(memory=2)
    for _ in range(5):
        step = rng.normal(size=3)
        memory.remember(step, step)
    assert len(memory.pairs) == 2


# -- on mixtures -------------------------------------------------------------------


def run(problem, acceleration, tol=1e-9, max_iter=3000):
    monitor = Monitor(tol, problem.total_weight)
    climb(problem, monitor, max_iter, acceleration)
    assert_climbs(monitor.trace)
    return monitor


SLOW = ["single", "shared", "diag", "two_classes", "constant_gate", "gate_columns"]


@pytest.mark.parametrize("case", SLOW)
def test_all_reach_the_maximum_of_long_plain_em(case, rng):
    problem = fused_problem(case, rng, 2, n=200, steps=1)
    start = problem.parameters
    plain = run(problem, None, tol=1e-13)
    for acceleration in ("squarem", "quasi-newton", "auto"):
        problem.parameters = start
        fast = run(problem, acceleration)
        assert fast.converged
        assert fast.best == pytest.approx(plain.best, abs=2e-5)
        # What is reported belongs to the parameters that are kept.
        problem.restore(fast.best_state)
        assert objective(problem) == pytest.approx(fast.best, rel=1e-12)


def overlapping(rng):
    """Crossing lines in much noise: what labels are missing makes EM slow."""
    X = rng.normal(size=(400, 1))
    sign = np.where(rng.random(400) < 0.5, 1.0, -1.0)
    y = sign * X[:, 0] + 1.5 * rng.normal(size=400)
    resp = soft_labels(X, 2, rng)
    fused = build_problem(make_node("constant_gate", 2), X, y, np.ones(400), None)
    fused.start(resp)
    node = make_node("constant_gate", 2)
    node.prepare(X, y, np.ones(400))
    general = NodeProblem(node, X, y, np.ones(400))
    general.start(resp)
    return fused, general


def test_acceleration_spares_passes(rng):
    fused, general = overlapping(rng)
    start = fused.parameters
    plain = run(fused, None)
    assert plain.n_passes > 60
    fused.parameters = start
    squarem = run(fused, "squarem")
    fused.parameters = start
    newton = run(fused, "quasi-newton")
    for fast in (squarem, newton, run(general, "squarem")):
        assert fast.n_passes < 0.6 * plain.n_passes
        assert fast.best == pytest.approx(plain.best, abs=1e-5)


@pytest.mark.parametrize("case", ["full", "shared_full"])
def test_full_covariances_use_squarem(case, rng):
    problem = fused_problem(case, rng, 2, steps=1)
    start = problem.parameters
    plain = run(problem, None, tol=1e-13)
    problem.parameters = start
    fast = run(problem, "auto")
    assert fast.converged
    assert fast.best == pytest.approx(plain.best, abs=2e-5)


def test_quasi_newton_ends_on_a_vanishing_gradient(rng):
    problem = fused_problem("single", rng, 2)
    run(problem, "quasi-newton", tol=1e-12)
    problem.e_step()
    newton_gain = problem.gradient @ problem.precondition(problem.gradient)
    assert 0.0 <= newton_gain < 1e-6
