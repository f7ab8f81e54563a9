"""The race of starts: short runs from many, long runs for the best few."""

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.parallel import Parallel, delayed

from skmoe._xp import to_numpy
from skmoe.em._loop import climb
from skmoe.em._monitor import Monitor
from skmoe.em._node import Assign, posterior
from skmoe.em._starts import Start, StartData
from skmoe.em._swaps import swaps

__all__ = [
    "WARM_GATE_STEPS",
    "Run",
    "SearchReport",
    "anneal",
    "begin",
    "finish",
    "improve",
    "polish",
    "race",
]

Array = NDArray[np.float64]

# Passes of each round. A run's height after a few passes says little about where
# it ends, so a good part of the field goes on: half, then half of that, but on
# large data, where there are few starts, not less than these.
FIRST_ROUND, SECOND_ROUND = 4, 10
SECOND_FIELD, FINALISTS = 6, 3
SWAP_PASSES = 25
ANNEALING_RATE, ANNEALING_PASSES = 1.4, 2
# From responsibilities of a fit the gate needs some steps to come back.
WARM_GATE_STEPS = 8
# Passes that decide between candidates; only the winner goes on to the very end.
CANDIDATE_PASSES = 100


@dataclass
class Run:
    """One start and where it has led so far."""

    name: str
    objective: float
    state: Any
    mass: Array
    trace: list[float] = field(default_factory=list)
    n_passes: int = 0
    converged: bool = False
    stopped: bool = False
    failed: bool = False
    degenerate: bool = False
    skipped_share: float = 0.0
    # Gives a monitor the passes before, where a run goes on from a file.
    before: Callable[[Monitor], None] | None = None
    history: list[float] = field(default_factory=list)  # of all rounds

    @property
    def rank(self) -> tuple[bool, float]:
        """Sort key: sound runs first, then the higher objective."""
        return (not self.degenerate, self.objective)


@dataclass
class SearchReport:
    """What the starts found.

    Attributes
    ----------
    names, objectives : lists
        Each start's kind and the objective (nats) it reached, best first.
    finished : list of bool
        Whether the start was run to convergence, or given up as worse or as a
        copy of another.
    n_reached_best : int
        Finished runs within 1e-4 relative of the best.
    next_maxima : list of float
        Other objectives at which finished runs converged, highest first.
    traces : list of lists of float
        The objective (nats) of every pass of each start, of short runs and long ones
        in turn. Large tables race their starts on some rows, weighted to stand for
        all; the winner's trace begins where it goes on with all of them.
    """

    names: list[str]
    objectives: list[float]
    finished: list[bool]
    n_reached_best: int
    next_maxima: list[float]
    traces: list[list[float]] = field(default_factory=list, repr=False)

    @classmethod
    def from_runs(cls, finalists: list[Run], others: list[Run]) -> "SearchReport":
        """Sort runs into a report."""
        runs = sorted(finalists, key=lambda run: run.rank, reverse=True)
        rest = sorted(others, key=lambda run: run.rank, reverse=True)
        best = runs[0].objective
        near = [abs(run.objective - best) <= 1e-4 * (1 + abs(best)) for run in runs]
        return cls(
            names=[run.name for run in runs + rest],
            objectives=[run.objective for run in runs + rest],
            finished=[True] * len(runs) + [False] * len(rest),
            n_reached_best=sum(near),
            next_maxima=[
                run.objective for run, same in zip(runs, near, strict=True) if not same
            ],
            traces=[run.history or run.trace for run in runs + rest],
        )


def begin(problem: Any, start: Start, annealing: float | None = None) -> Run:
    """Return a run at a start: parts fitted to its responsibilities.

    Parameters
    ----------
    annealing : float or None
        Where the responsibilities' inverse temperature starts; see `anneal`.
    """
    problem.start(start.resp, start.gate_steps, start.gate_parameters)
    if annealing is not None:
        anneal(problem, annealing)
    return Run(start.name, -np.inf, problem.state(), np.zeros(0))


def anneal(problem: Any, coldness: float) -> None:
    """Run EM with responsibilities (g p)^b, b rising from ``coldness`` to 1.

    At small b the likelihood's maxima melt into one; they appear one by one as b
    rises (Ueda, N. and Nakano, R. 1998. Deterministic annealing EM algorithm.
    Neural Networks 11).
    """
    before = problem.assign
    while coldness < 1.0:
        problem.assign = _tempered(coldness)
        for _ in range(ANNEALING_PASSES):
            problem.e_step()
            problem.m_step()
        coldness *= ANNEALING_RATE
    problem.assign = before


def _tempered(coldness: float) -> Assign:
    def assign(joint: Array) -> tuple[Array, Array]:
        resp, _ = posterior(coldness * joint)
        return resp, posterior(joint)[1]

    return assign


def _open(
    problem: Any,
    start: Start,
    annealing: float | None,
    passes: int,
    exact: bool,
    acceleration: str | None,
) -> Run:
    run = begin(problem, start, annealing)
    return continue_run(problem, run, passes, exact, acceleration)


def continue_run(
    problem: Any,
    run: Run,
    passes: int,
    exact: bool,
    acceleration: str | None,
    tol: float = 1e-8,
    on_pass: Callable[[Run, float], bool] | None = None,
) -> Run:
    """Let a run go on from its state; its fields say what it reached."""
    hook = None if on_pass is None else _bind(on_pass, run)
    monitor = Monitor(tol, problem.total_weight, exact=exact, on_pass=hook)
    if run.before is not None:
        run.before(monitor)
    problem.restore(run.state)
    climb(problem, monitor, passes, acceleration)
    run.objective = monitor.best
    run.state = monitor.best_state
    run.mass = np.array(problem.mass)
    run.trace = monitor.trace
    # Of a run that goes on the first pass only finds the place again.
    run.history = run.history + monitor.trace[1 if run.history else 0 :]
    run.n_passes += monitor.n_passes
    run.converged = monitor.converged
    run.stopped = monitor.stopped
    run.failed = monitor.failed
    run.degenerate = problem.degenerate()
    run.skipped_share = getattr(problem, "skipped_share", 0.0)
    return run


def race(
    problem: Any,
    starts: list[Start],
    *,
    exact: bool,
    passes: int,
    acceleration: str | None,
    n_jobs: int | None,
    annealing: float | None = None,
) -> tuple[list[Run], list[Run]]:
    """Run all starts a little and the better ones a little more.

    Parameters
    ----------
    problem : Problem
    starts : list of Start
    exact : bool
        Whether a fall of the objective is a fault.
    passes : int
        Largest number of passes of a round.
    acceleration : str or None
        As for `climb`, from the second round on.
    n_jobs : int or None
        Processes that share the starts.
    annealing : float or None
        As for `begin`.

    Returns
    -------
    finalists, others : lists of Run, best first
        Finalists lie in different basins as far as can be told.
    """
    if len(starts) == 1:
        return [begin(problem, starts[0], annealing)], []
    first = (annealing, min(FIRST_ROUND, passes), exact, None)
    runs = _each(_open, problem, starts, first, n_jobs)
    chosen, out = _distinct(runs, max(SECOND_FIELD, len(runs) // 2))
    second = (min(SECOND_ROUND, passes), exact, acceleration)
    chosen = _each(continue_run, problem, chosen, second, n_jobs)
    finalists, more = _distinct(chosen, max(FINALISTS, len(runs) // 4))
    return finalists, more + out


def _each(
    function: Callable[..., Run],
    problem: Any,
    items: Iterable[Any],
    arguments: tuple[Any, ...],
    n_jobs: int | None,
) -> list[Run]:
    """Apply a function to a problem and each item; return runs, best first."""
    if n_jobs is None or n_jobs == 1 or getattr(problem, "knows_rows", False):
        runs = [function(problem, item, *arguments) for item in items]
    else:
        runs = Parallel(n_jobs=n_jobs)(
            delayed(function)(copy.copy(problem), item, *arguments) for item in items
        )
    return sorted(runs, key=lambda run: run.rank, reverse=True)


def _distinct(runs: list[Run], most: int) -> tuple[list[Run], list[Run]]:
    """Keep the best runs, leaving out copies of ones already kept."""
    kept: list[Run] = []
    out: list[Run] = []
    for run in runs:
        copied = any(_same_basin(run, other) for other in kept)
        (out if copied or len(kept) >= most else kept).append(run)
    return kept, out


def _same_basin(run: Run, other: Run) -> bool:
    """Guess whether two runs climb the same hill: equal heights, equal shares."""
    if abs(run.objective - other.objective) > 1e-6 * (1.0 + abs(run.objective)):
        return False
    mine, theirs = np.sort(run.mass), np.sort(other.mass)
    return bool(np.allclose(mine, theirs, rtol=1e-2, atol=1e-2))


def finish(
    problem: Any,
    finalists: list[Run],
    *,
    max_iter: int,
    tol: float,
    acceleration: str | None,
    exact: bool,
    on_pass: Callable[[Run, float], bool] | None = None,
) -> list[Run]:
    """Run the finalists to convergence; return them best first.

    Where there are several, each gets a bounded number of passes; `polish` takes
    the winner to the very end. Among runs that end within rounding of the best the
    first one wins, so that the choice does not hang on the last digit.
    """
    done = []
    passes = max_iter if len(finalists) == 1 else min(max_iter, CANDIDATE_PASSES)
    for run in finalists:
        done.append(
            continue_run(problem, run, passes, exact, acceleration, tol, on_pass)
        )
        if run.stopped:
            break
    best = max(done, key=lambda run: run.rank)
    ties = [
        run for run in done if run.degenerate == best.degenerate and _tied(run, best)
    ]
    done.sort(key=lambda run: run.rank, reverse=True)
    done.remove(ties[0])
    return [ties[0], *done]


def polish(
    problem: Any,
    run: Run,
    *,
    max_iter: int,
    tol: float,
    acceleration: str | None,
    exact: bool,
    on_pass: Callable[[Run, float], bool] | None = None,
) -> Run:
    """Let a run that was cut short go on; its trace grows."""
    left = max_iter - run.n_passes
    if run.converged or run.stopped or left <= 0 or run.failed:
        return run
    before = run.trace
    run = continue_run(problem, run, left, exact, acceleration, tol, on_pass)
    run.trace = before + run.trace[1:]  # the first pass only found the place again
    return run


def improve(
    problem: Any,
    best: Run,
    data: StartData,
    rng: Any,
    n_swaps: int,
    *,
    max_iter: int,
    tol: float,
    acceleration: str | None,
    exact: bool,
) -> tuple[Run, list[Run]]:
    """Take one expert after another out of the best fit and put it elsewhere.

    Starts scatter all experts at once; where most of them are in place already,
    moving a single one finds better maxima far more often (Ueda et al. 2000 for
    Gaussian mixtures). Short runs decide, and a promising one is run to its end.

    Returns
    -------
    best : Run
        The given run, or a better one.
    tried : list of Run
        Runs that were taken to convergence without becoming the best.
    """
    problem.restore(best.state)
    moves = swaps(data, to_numpy(problem.responsibilities()), rng)
    tried: list[Run] = []
    for _ in range(n_swaps):
        passes = min(SWAP_PASSES, max_iter)
        run = _open(problem, next(moves), None, passes, exact, acceleration)
        # EM's last nats come slowly: what is near may still pass the best.
        if run.objective < best.objective - 3.0 or _same_basin(run, best):
            continue
        if not run.converged:
            passes = min(max_iter, CANDIDATE_PASSES)
            run = continue_run(problem, run, passes, exact, acceleration, tol)
        if run.rank <= best.rank or _tied(run, best):
            tried.append(run)
            continue
        tried.append(best)
        best = run
        problem.restore(best.state)
        moves = swaps(data, to_numpy(problem.responsibilities()), rng)
    return best, tried


def _tied(run: Run, other: Run) -> bool:
    """Return whether two runs end within rounding of each other."""
    slack = 1e-6 * (1.0 + abs(other.objective))
    return abs(run.objective - other.objective) <= slack


def _bind(on_pass: Callable[[Run, float], bool], run: Run) -> Callable[[float], bool]:
    return lambda objective: on_pass(run, objective)
