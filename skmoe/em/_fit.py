"""A whole fit of a node: bind, start, race, finish, improve, tend."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.base import clone

from skmoe._xp import is_foreign, taken, to_numpy
from skmoe.em._build import (
    build_problem,
    differ,
    is_native,
    plain_node,
    responsibilities,
    settle,
)
from skmoe.em._chain_node import ChainNode
from skmoe.em._checkpoint import Progress
from skmoe.em._fused import FusedNode
from skmoe.em._gradient import check_neural, polish_by_gradient
from skmoe.em._node import Node, take_columns
from skmoe.em._node_problem import NodeProblem
from skmoe.em._ridge import choose_ridges, copy_ridges
from skmoe.em._search import (
    WARM_GATE_STEPS,
    Run,
    SearchReport,
    begin,
    continue_run,
    finish,
    improve,
    polish,
    race,
)
from skmoe.em._start_data import start_data, with_fixed
from skmoe.em._starts import Start, StartData, hardened, n_random_starts
from skmoe.em._tend import tend
from skmoe.em._tree_starts import starts_of
from skmoe.experts._linear import LinearExpert
from skmoe.experts._logistic import LogisticExpert
from skmoe.gates._tree import GateTree, single_gate

__all__ = ["FitOptions", "fit_node"]

Array = NDArray[np.float64]

# Starts are raced on at most so many rows; the finalists go on with all.
RACE_ROWS = 20_000
# Passes with plain experts that a single start of transformed ones begins with.
COARSE_ROWS, COARSE_PASSES, COARSE_TOL = 2_000, 20, 1e-4


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
    algorithm : {"em", "cem", "sem", "gradient", "em+gradient"}
    n_jobs : int or None
    rng : RandomState
    fresh : callable
        ``fresh(shape)`` returns a new node of unfitted parts: so many experts, or
        those of a tree.
    named : bool
        Whether the experts have names, and so are never dropped.
    free_gate : bool
        Whether the gate is left to the library.
    on_pass : callable
        ``on_pass(problem, node)`` returns the hook of a long run, or None.
    annealing : float or None
        Inverse temperature that the responsibilities of a start begin with.
    prune : bool
        Whether dead leaves of a tree are taken out.
    progress : Progress
        Watches the passes; it may hold a run to go on with.
    """

    init: str
    n_init: int | None
    max_iter: int
    tol: float
    acceleration: str | None
    algorithm: str
    n_jobs: int | None
    rng: Any
    fresh: Callable[[Any], Node]
    named: bool
    free_gate: bool
    on_pass: Callable[[Any, Node], Any]
    annealing: float | None = None
    prune: bool = True
    progress: Progress = field(default_factory=lambda: Progress(lambda *_: None))

    def long_run(self, problem: FusedNode | NodeProblem) -> dict[str, Any]:
        """Return how a run of a problem is taken to convergence."""
        return {
            "max_iter": self.max_iter,
            "tol": self.tol,
            # Extrapolations would leave the objective of hard or drawn labels.
            "acceleration": self.acceleration if self.algorithm == "em" else None,
            "exact": problem.exact_m_step and self.algorithm != "sem",
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
    if "gradient" in options.algorithm:
        check_neural(node, options.algorithm)
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
        options=options,
    )
    return tended, report, best


def _coarse_node(node: Node, problem: FusedNode | NodeProblem, X: Any) -> Node | None:
    """Return the node of plain experts, where its passes are the cheaper ones."""
    coarse = plain_node(node)
    if coarse is None or not isinstance(problem, FusedNode):
        return None
    n_columns = take_columns(X, node.columns[0]).shape[1] + 1
    cheaper = n_columns < problem.groups[0].matrix.shape[0]
    return coarse if cheaper and is_native(coarse, X) else None


def _coarse_start(
    node: Node,
    X: Any,
    y: Array,
    weight: Array,
    n_classes: int | None,
    options: FitOptions,
) -> Start:
    """Search with the experts on plain columns, where passes are cheap.

    Experts behind a transformer take over the gate and the responsibilities: on
    splines most of what a pass costs are the experts' grams, while the first passes
    are needed to move the gates.
    """
    whole = build_problem(node, X, y, weight, n_classes)
    rows, problem = _race_rows(whole, weight, options.rng, COARSE_ROWS)
    data = start_data(node, *_some(rows, X, y), problem.weight, n_classes)
    start = next(iter(starts_of(options.init, 1, data, options.rng)))
    run = begin(problem, start, options.annealing)
    long_run = options.long_run(problem)
    passes = min(COARSE_PASSES, options.max_iter)
    run = continue_run(
        problem, run, passes, long_run["exact"], long_run["acceleration"], COARSE_TOL
    )
    whole.restore(run.state)
    assert isinstance(whole, FusedNode)
    resp = whole.responsibilities()
    return Start(start.name, resp, gate_parameters=whole.gate.parameters)


def _scout(
    node: Node, problem: FusedNode | NodeProblem, X: Any, n_classes: int | None
) -> Node | None:
    """Return the chain with linear experts, where those of the node are refitted.

    Estimators that are fitted anew in each pass are not given many starts, and what
    groups rows as if they were independent finds few regimes: linear experts do.
    """
    loose = not isinstance(node, ChainNode) or problem.parameters is not None
    if loose or not node.clones or len(node.experts) == 1:
        return None
    if sparse.issparse(X) or np.isnan(X).any():
        return None
    kind = LinearExpert if n_classes is None else LogisticExpert
    scout = ChainNode(
        clone(node.gate),
        [(name, kind()) for name, _ in node.experts],
        node.columns,
        node.gate_columns,
        clones=True,
    )
    scout.units = node.units
    return scout


def _scouted_start(
    scout: Node,
    X: Any,
    y: Array,
    weight: Array,
    n_classes: int | None,
    options: FitOptions,
) -> Start:
    """Return the responsibilities of a chain of linear experts as a start."""
    options = replace(options, on_pass=lambda *_: None, named=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of experts that lost their rows
        fit_node(scout, X, y, weight, n_classes, options)
    return Start("linear", responsibilities(scout, X, y, weight), WARM_GATE_STEPS)


def _single_start(
    node: Node,
    problem: FusedNode | NodeProblem,
    X: Any,
    y: Array,
    weight: Array,
    n_classes: int | None,
    options: FitOptions,
) -> list[Start] | None:
    """Return the one start of a fit that does not race some; None of others."""
    rows = (X, y, weight, n_classes)
    coarse = _coarse_node(node, problem, X) if options.n_init == 1 else None
    if coarse is not None:
        return [_coarse_start(coarse, *rows, options)]
    scout = _scout(node, problem, X, n_classes) if _searches(options) else None
    if scout is not None:
        return [_scouted_start(scout, *rows, options)]
    if len(node.experts) == 1 or _tell_apart(node, options):
        shape = (len(node.experts), weight.shape[0])
        resp = np.broadcast_to(1.0 / len(node.experts), shape)
        return [Start("together", resp)]
    return None


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
    starts = given or _single_start(node, problem, X, y, weight, n_classes, options)
    if starts is None:
        rows, small = _race_rows(problem, weight, options.rng)
        some = to_numpy(small.weight)
        data = start_data(node, *_some(rows, X, y), some, n_classes)
        # Where each pass refits every estimator there is no portfolio.
        n_init = options.n_init or (1 if problem.parameters is None else None)
        starts = list(starts_of(options.init, n_init, data, options.rng))
        if data.free is not None:
            size = len(node.experts)
            starts = [with_fixed(start, data.free, size) for start in starts]
    if options.algorithm == "cem":
        starts = [replace(start, resp=hardened(start.resp)) for start in starts]
    runs, others = _run_starts(problem, small, node, starts, options)
    best = runs[0]
    sampled = problem.weight.shape[0] > small.weight.shape[0]
    if data is not None and _searches(options) and not sampled:
        best, more = _swap_experts(problem, node, best, data, options)
        runs = [best, *[run for run in [*runs, *more] if run is not best]]
    best = polish(
        problem,
        best,
        on_pass=options.on_pass(problem, node),
        **options.long_run(problem),
    )
    settle(problem, node, best.state)
    if options.algorithm == "em+gradient":
        best = runs[0] = polish_by_gradient(problem, best, options)
    return SearchReport.from_runs(runs, others), best


def _resume(
    problem: FusedNode | NodeProblem, node: Node, options: FitOptions
) -> list[Run]:
    """Return the run that a checkpoint holds, taken to its end; [] without one."""
    progress = options.progress
    run = progress.resumed(progress.phase_of(problem), problem)
    if run is None:
        return progress.skipped(problem)
    hook = options.on_pass(problem, node)
    return finish(problem, [run], on_pass=hook, **options.long_run(problem))


def _tell_apart(node: Node, options: FitOptions) -> bool:
    """Return whether experts of different kinds can start from the same rows."""
    flat = not isinstance(single_gate(node.gate), GateTree)
    return flat and options.init == "auto" and differ(node)


def _searches(options: FitOptions) -> bool:
    """Return whether the fit is left to find the best maximum by itself."""
    return options.init == "auto" and options.n_init is None


def _race_rows(
    problem: FusedNode | NodeProblem, weight: Array, rng: Any, most: int | None = None
) -> tuple[Any, FusedNode | NodeProblem]:
    """Return the rows to race on and the problem bound to them."""
    n_samples, most = weight.shape[0], most or RACE_ROWS
    if not isinstance(problem, FusedNode):
        return slice(None), problem
    if n_samples <= most:
        # Starts are made and raced on the host: few rows gain nothing from a device.
        every = slice(None)
        return every, problem.subset(every) if is_foreign(weight) else problem
    rows = np.sort(rng.permutation(n_samples)[:most])
    return rows, problem.subset(rows)


def _some(rows: Any, X: Any, y: Any) -> tuple[Any, Any]:
    """Return some rows of X and y, in the memory of the host."""
    if not is_foreign(X):
        return X[rows], y[rows]
    return taken(X, rows, axis=0), taken(y, rows, axis=0)


def _run_starts(
    problem: FusedNode | NodeProblem,
    small: FusedNode | NodeProblem,
    node: Node,
    starts: list[Start],
    options: FitOptions,
) -> tuple[list[Run], list[Run]]:
    """Race the starts on few rows, run the finalists on all; or go on from a file."""
    resumed = _resume(problem, node, options)
    if resumed:
        return resumed, []
    long_run = options.long_run(problem)
    finalists, others = race(
        small,
        starts,
        exact=long_run["exact"],
        passes=options.max_iter,
        acceleration=long_run["acceleration"],
        n_jobs=options.n_jobs if len(starts) > 1 else None,
        annealing=options.annealing,
    )
    if small.weight.shape[0] < problem.weight.shape[0]:
        # Passes over all rows are dear: only the best of the few goes on.
        finalists = finish(small, finalists, **long_run)
        finalists, others = finalists[:1], [*finalists[1:], *others]
        finalists[0].history = []  # its objective was that of some rows
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
    # In a tree a leaf cannot move without its branch.
    cheap = problem.parameters is not None and data.tree is None
    cheap = cheap and len(node.experts) > 1
    if best.stopped or not cheap or n_swaps == 0 or options.algorithm == "sem":
        return best, []
    long_run = options.long_run(problem)
    return improve(problem, best, data, options.rng, n_swaps, **long_run)
