"""A whole fit of a node: bind, start, race, finish, improve, tend."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmoe.em._build import build_problem, differ, start_data, write_back
from skmoe.em._fused import FusedNode
from skmoe.em._node import Node, NodeProblem
from skmoe.em._ridge import choose_ridges, copy_ridges
from skmoe.em._search import Run, SearchReport, finish, improve, polish, race
from skmoe.em._starts import Start, StartData, n_random_starts, portfolio
from skmoe.em._tend import tend

__all__ = ["FitOptions", "fit_node"]

Array = NDArray[np.float64]

# Starts are raced on at most so many rows; the finalists go on with all.
RACE_ROWS = 20_000


@dataclass
class FitOptions:
    """How to fit: what the constructor of a mixture says.

    Attributes
    ----------
    init : str
        "auto" or a kind of start; not used where starts are given.
    n_init : int or None
    max_iter : int
        Passes of each long run.
    tol : float
    acceleration : str or None
    algorithm : {"em", "cem", "sem"}
    n_jobs : int or None
    rng : RandomState
    fresh : callable
        ``fresh(n_experts)`` returns a new node of unfitted parts.
    named : bool
        Whether the experts have names, and so are never dropped.
    free_gate : bool
        Whether the gate is left to the library.
    on_pass : callable
        ``on_pass(problem, node)`` returns the hook of a long run, or None.
    """

    init: str
    n_init: int | None
    max_iter: int
    tol: float
    acceleration: str | None
    algorithm: str
    n_jobs: int | None
    rng: Any
    fresh: Callable[[int], Node]
    named: bool
    free_gate: bool
    on_pass: Callable[[Any, Node], Any]

    def long_run(self, node: Node) -> dict[str, Any]:
        """Return how a run is taken to convergence."""
        return {
            "max_iter": self.max_iter,
            "tol": self.tol,
            # Extrapolations would leave the objective of hard or drawn labels.
            "acceleration": self.acceleration if self.algorithm == "em" else None,
            "exact": node.exact_m_step and self.algorithm != "sem",
        }


def fit_node(
    node: Node,
    X: Any,
    y: Array,
    weight: Array,
    n_classes: int | None,
    options: FitOptions,
    given: list[Start] | None = None,
) -> tuple[Node, SearchReport, Run]:
    """Fit gate and experts from the given starts, or from the portfolio.

    Returns
    -------
    node : Node
        Fitted; a new one where experts were revived or dropped.
    report : SearchReport
    best : Run
    """
    choose_ridges(
        node, X, y, weight, n_classes, options.rng, free_gate=options.free_gate
    )
    rows = (X, y, weight, n_classes)
    report, best = _search_and_climb(node, *rows, options, given)
    tended, best = tend(
        node,
        best,
        *rows,
        named=options.named,
        fresh=lambda size: copy_ridges(node, options.fresh(size)),
        options=options.long_run(node),
    )
    return tended, report, best


def _search_and_climb(
    node: Node,
    X: Any,
    y: Array,
    weight: Array,
    n_classes: int | None,
    options: FitOptions,
    given: list[Start] | None,
) -> tuple[SearchReport, Run]:
    """Fill the node with the best that the starts lead to."""
    problem = build_problem(node, X, y, weight, n_classes)
    data = None
    small: FusedNode | NodeProblem = problem
    starts = given
    if starts is None and (len(node.experts) == 1 or _tell_apart(node, options)):
        resp = np.full((len(node.experts), weight.size), 1.0 / len(node.experts))
        starts = [Start("together", resp)]
    if starts is None:
        rows, small = _race_rows(problem, weight, options.rng)
        data = start_data(node, X[rows], y[rows], small.weight, n_classes)
        # Where each pass refits every estimator there is no portfolio.
        n_init = options.n_init or (1 if problem.parameters is None else None)
        starts = list(portfolio(options.init, n_init, data, options.rng))
    runs, others = _run_starts(problem, small, node, starts, options)
    best = runs[0]
    if data is not None and _searches(options) and problem is small:
        best, more = _swap_experts(problem, node, best, data, options)
        runs = [best, *[run for run in [*runs, *more] if run is not best]]
    best = polish(
        problem,
        best,
        on_pass=options.on_pass(problem, node),
        **options.long_run(node),
    )
    problem.restore(best.state)
    problem.e_step()
    write_back(problem, node)
    return SearchReport.from_runs(runs, others), best


def _tell_apart(node: Node, options: FitOptions) -> bool:
    """Return whether experts of different kinds can start from the same rows."""
    return options.init == "auto" and differ(node.experts)


def _searches(options: FitOptions) -> bool:
    """Return whether the fit is left to find the best maximum by itself."""
    return options.init == "auto" and options.n_init is None


def _race_rows(
    problem: FusedNode | NodeProblem, weight: Array, rng: Any
) -> tuple[Any, FusedNode | NodeProblem]:
    """Return the rows to race on and the problem bound to them."""
    if not isinstance(problem, FusedNode) or weight.size <= RACE_ROWS:
        return slice(None), problem
    rows = np.sort(rng.permutation(weight.size)[:RACE_ROWS])
    return rows, problem.subset(rows)


def _run_starts(
    problem: FusedNode | NodeProblem,
    small: FusedNode | NodeProblem,
    node: Node,
    starts: list[Start],
    options: FitOptions,
) -> tuple[list[Run], list[Run]]:
    """Race the starts on few rows, run the finalists on all."""
    long_run = options.long_run(node)
    finalists, others = race(
        small,
        starts,
        exact=long_run["exact"],
        passes=options.max_iter,
        acceleration=long_run["acceleration"],
        n_jobs=options.n_jobs if len(starts) > 1 else None,
    )
    if small is not problem:
        # Passes over all rows are dear: only the best of the few goes on.
        finalists = finish(small, finalists, **long_run)
        finalists, others = finalists[:1], [*finalists[1:], *others]
    hook = options.on_pass(problem, node)
    return finish(problem, finalists, on_pass=hook, **long_run), others


def _swap_experts(
    problem: FusedNode | NodeProblem,
    node: Node,
    best: Run,
    data: StartData,
    options: FitOptions,
) -> tuple[Run, list[Run]]:
    """Look for a better maximum by moving single experts, as time allows."""
    n_swaps = n_random_starts(data)[1]
    cheap = problem.parameters is not None and len(node.experts) > 1
    if best.stopped or not cheap or n_swaps == 0 or options.algorithm == "sem":
        return best, []
    long_run = options.long_run(node)
    return improve(problem, best, data, options.rng, n_swaps, **long_run)
