"""The loop of EM: passes, acceleration, stopping. Every fit goes through `climb`.

It drives a *problem*: parts bound to their rows (`NodeProblem` for any parts,
`FusedNode` for alike native ones). One pass is one `e_step`, which returns the
log-likelihood at the current parameters and leaves everything there that
`m_step` needs. So the reported objective always belongs to the parameters that
are kept.
"""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from skmoe.em._accelerate import PreconditionedLBFGS, squarem_point
from skmoe.em._monitor import Monitor

__all__ = ["Problem", "climb", "objective_at"]

Array = NDArray[np.float64]

# Leave plain EM for the quasi-Newton finish once a pass gains less than this
# many nats per unit of weight: earlier, far from the maximum, EM's steps are
# better than extrapolations of the local curvature.
FINISH_GAIN = 0.03
# Passes of the first round on fixed paths; each later round has twice as many.
FIRST_ROUND = 12


class Problem(Protocol):
    """Parts bound to rows, as the loop sees them."""

    @property
    def exact_m_step(self) -> bool:
        """Whether no M-step can lower the objective."""

    def e_step(self) -> float:
        """Return the log-likelihood and prepare the M-step."""

    def m_step(self) -> None:
        """Move the parameters; the objective rises, or `backtrack` mends it."""

    def backtrack(self) -> bool:
        """Shorten the last M-step; False if it cannot be shortened."""

    @property
    def penalty(self) -> float:
        """Log prior density of the parameters, in nats."""

    @property
    def has_gradient(self) -> bool:
        """Whether `gradient` and `precondition` can be used."""

    @property
    def parameters(self) -> Array | None:
        """The free parameters as one vector; None if some part has none."""

    @parameters.setter
    def parameters(self, value: Array) -> None: ...

    @property
    def gradient(self) -> Array:
        """Gradient of log-likelihood plus penalty, from the last E-step."""

    def precondition(self, vector: Array) -> Array:
        """Return the vector times an approximate inverse of the curvature."""

    def limited(self, direction: Array) -> Array:
        """Return a direction with the parts that go too far shortened.

        Part by part: one separated gate must not hold all others back.
        """

    def state(self) -> Any:
        """Return what `restore` needs to come back to the current parameters."""

    def restore(self, state: Any) -> None:
        """Go back to parameters that `state` returned."""


def objective_at(problem: Problem, monitor: Monitor) -> float:
    """Pass over the rows; return the penalised log-likelihood."""
    monitor.n_passes += 1
    try:
        return problem.e_step() + problem.penalty
    except np.linalg.LinAlgError:
        # An extrapolated covariance that has no factor: no place to go to.
        return -np.inf


def climb(
    problem: Problem,
    monitor: Monitor,
    max_iter: int,
    acceleration: str | None = "auto",
) -> None:
    """Run EM from the problem's parameters until it converges or max_iter.

    Parameters
    ----------
    problem : Problem
    monitor : Monitor
        Receives the objective of every pass and decides when to stop.
    max_iter : int
        Largest number of passes over the rows.
    acceleration : {"auto", "squarem", "quasi-newton", None}
        "auto" finishes by quasi-Newton where the problem has a gradient, uses
        SQUAREM where it is a free vector of parameters, and is plain EM
        otherwise.

    A problem with a ``refresh`` (paths that it leaves out and chooses anew) is
    climbed in rounds: within one the objective stays the same and only rises.
    """
    if not hasattr(problem, "refresh"):
        _climb(problem, monitor, max_iter, acceleration)
        return
    passes = FIRST_ROUND
    while True:
        before = monitor.last
        problem.refresh()
        monitor.begin_round()
        last_pass = min(max_iter, monitor.n_passes + passes)
        _climb(problem, monitor, last_pass, acceleration)
        if monitor.stopped or monitor.failed or monitor.n_passes >= max_iter:
            return
        if monitor.converged and monitor.negligible(abs(monitor.last - before)):
            return
        passes *= 2


def _climb(
    problem: Problem, monitor: Monitor, max_iter: int, acceleration: str | None
) -> None:
    if not monitor.exact:
        _wander(problem, monitor, max_iter)
        return
    method = _choose(problem, acceleration)
    if method == "squarem":
        _squarem(problem, monitor, max_iter)
        return
    finish = FINISH_GAIN * monitor.total_weight if method == "quasi-newton" else 0.0
    _ascend(problem, monitor, max_iter, finish)
    while method == "quasi-newton" and not _done(monitor, max_iter):
        _quasi_newton(problem, monitor, max_iter)
        # One more pass of EM: it knows no curvature and so cannot be misled.
        if not _done(monitor, max_iter):
            before = monitor.last
            problem.m_step()
            if not _settle(problem, monitor):
                break
            monitor.converged = monitor.negligible(monitor.last - before)


def _choose(problem: Problem, acceleration: str | None) -> str | None:
    if not getattr(problem, "smooth", True):
        return None  # extrapolations would miss the kinks where zeros lie
    if acceleration in ("auto", "quasi-newton") and problem.has_gradient:
        return "quasi-newton"
    if acceleration is not None and problem.parameters is not None:
        return "squarem"
    return None


def _done(monitor: Monitor, max_iter: int) -> bool:
    ended = monitor.converged or monitor.stopped or monitor.failed
    return ended or monitor.n_passes >= max_iter


def _settle(problem: Problem, monitor: Monitor) -> bool:
    """Evaluate the last M-step, shortening it while the objective falls.

    Returns
    -------
    accepted : bool
        False where the fall could not be mended; the parameters before the
        M-step are then back in place.
    """
    objective = objective_at(problem, monitor)
    while monitor.falls(objective) and problem.backtrack():
        objective = objective_at(problem, monitor)
    if monitor.falls(objective):
        if monitor.best_state is not None:
            problem.restore(monitor.best_state)
        monitor.end_fall(objective)
        if monitor.best_state is not None:
            objective_at(problem, monitor)
        return False
    monitor.keep(objective, problem.state())
    return True


def _ascend(
    problem: Problem, monitor: Monitor, max_iter: int, finish_gain: float
) -> None:
    """Run plain EM until it converges, or gains less than finish_gain a pass.

    A finish_gain of 0 says that no finish follows: convergence alone ends the run,
    not a fall by rounding before there are passes enough to tell.
    """
    while _settle(problem, monitor) and not _done(monitor, max_iter):
        if monitor.negligible(monitor.expected_gain()):
            monitor.converged = finish_gain == 0.0
            return
        if finish_gain > 0.0 and monitor.gain() < finish_gain:
            return
        problem.m_step()


def _squarem(problem: Problem, monitor: Monitor, max_iter: int) -> None:
    """Run EM in cycles of two passes and an extrapolation with fallback."""
    if not _settle(problem, monitor):
        return
    while not _done(monitor, max_iter):
        start = _vector(problem)
        problem.m_step()
        once = _vector(problem)
        if not _settle(problem, monitor) or _done(monitor, max_iter):
            return
        if monitor.negligible(max(monitor.expected_gain(), monitor.gain())):
            monitor.converged = True
            return
        problem.m_step()
        twice = _vector(problem)
        problem.parameters = squarem_point(start, once, twice)
        objective = objective_at(problem, monitor)
        if monitor.falls(objective):
            problem.parameters = twice
            if not _settle(problem, monitor):
                return
            continue
        monitor.keep(objective, problem.state())


def _vector(problem: Problem) -> Array:
    vector = problem.parameters
    assert vector is not None, "SQUAREM was chosen without a parameter vector"
    return vector


def _quasi_newton(problem: Problem, monitor: Monitor, max_iter: int) -> None:
    """Climb the observed likelihood by preconditioned L-BFGS steps."""
    memory = PreconditionedLBFGS()
    gradient = problem.gradient
    while not _done(monitor, max_iter):
        with np.errstate(over="ignore", invalid="ignore"):
            direction = memory.direction(gradient, problem.precondition)
            direction = problem.limited(direction)
            slope = float(gradient @ direction)
        if slope <= 0.0 and memory.pairs:
            memory = PreconditionedLBFGS()  # shortened parts no longer ascend
            continue
        if not np.isfinite(slope):
            return
        # Half the slope along a Newton step is the gain that it predicts.
        if monitor.negligible(0.5 * slope):
            return
        step = _line_search(problem, monitor, direction, slope)
        if step is None:
            return
        fresh = problem.gradient
        memory.remember(step, gradient - fresh)
        gradient = fresh


def _line_search(
    problem: Problem, monitor: Monitor, direction: Array, slope: float
) -> Array | None:
    """Return an accepted step along the direction, or None and stay."""
    start, base = _vector(problem), monitor.last
    fraction = 1.0
    for _ in range(6):
        problem.parameters = start + fraction * direction
        objective = objective_at(problem, monitor)
        if objective >= base + 1e-4 * fraction * slope:
            monitor.keep(objective, problem.state())
            return _vector(problem) - start  # bounds may have shortened it
        fraction *= 0.3
    problem.parameters = start
    objective_at(problem, monitor)
    return None


def _wander(problem: Problem, monitor: Monitor, max_iter: int) -> None:
    """Run EM with inexact M-steps: stop on a plateau, keep the best pass."""
    while True:
        objective = objective_at(problem, monitor)
        monitor.keep(objective, problem.state())
        if monitor.on_plateau():
            monitor.converged = True
        if _done(monitor, max_iter):
            break
        problem.m_step()
    if monitor.best_state is not None and monitor.last < monitor.best:
        problem.restore(monitor.best_state)
        objective_at(problem, monitor)
