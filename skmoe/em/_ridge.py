"""Choosing the ridge of logistic experts by held-out log score, before EM.

Weighted class counts leave no dispersion to set the scale of a ridge: what suits
eleven vowels is far too weak for three noisy waveforms. So a few strengths are
tried on folds, each with one short run from the same start, and the strongest
that is not clearly worse than the best is taken.
"""

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from skmoe._xp import is_foreign, taken, to_numpy
from skmoe.em._build import (
    build_problem,
    innermost_expert,
    write_back,
)
from skmoe.em._chain_node import ChainNode
from skmoe.em._chain_scan import log_sum
from skmoe.em._loop import climb
from skmoe.em._monitor import Monitor
from skmoe.em._node import Node
from skmoe.em._start_data import start_data
from skmoe.em._starts import Start
from skmoe.em._tree_starts import starts_of
from skmoe.gates._tree import softmax_gates

__all__ = ["choose_ridges", "content_folds", "copy_ridges", "strongest"]

Array = NDArray[np.float64]

# Ridge of the experts, and of the gate where the user leaves it open; from weak
# to strong.
GRID = ((1.0, 0.03), (1.0, 1.0), (10.0, 1.0), (100.0, 1.0), (1000.0, 10.0))
N_FOLDS = 3
MAX_ROWS = 4000
MAX_PASSES = 25


def choose_ridges(
    node: Node,
    X: Any,
    y: Array,
    weight: Array,
    n_classes: int | None,
    rng: Any,
    *,
    free_gate: bool,
) -> None:
    """Set ``alpha`` of experts that leave it at "auto".

    Parameters
    ----------
    node : Node
        Its experts' alpha, and its gate's if ``free_gate``, are set.
    X, y, weight, n_classes :
        The training rows.
    rng : RandomState
        Draws the rows that are looked at, where there are many.
    free_gate : bool
        Whether the gate is the library's default.
    """
    open_ones = _open_ones(node)
    if not open_ones:
        return
    choice = GRID[1]
    if len(node.experts) > 1 and len(open_ones) == len(node.experts):
        group, units = None, node.units
        if isinstance(node, ChainNode):
            if weight.shape[0] > MAX_ROWS:  # the first ones: they follow each other
                labelled = units.labelled
                first = 0 if labelled is None else int(labelled.argmax())
                rows = np.arange(first, min(first + MAX_ROWS, weight.shape[0]))
                X, y, weight = X[rows], y[rows], weight[rows]
                node.units = units.take(rows)
        elif units is not None:
            labelled, group = units.labelled, units.group
            if labelled is not None:
                X, y, weight = X[labelled], y[labelled], weight[labelled]
                group = None if group is None else group[labelled]
        if weight.shape[0] > MAX_ROWS:
            rows = np.sort(rng.permutation(weight.shape[0])[:MAX_ROWS])
            X, y, weight = _taken(rows, X, y, weight)
            group = None if group is None else group[rows]
        X, y, weight = to_numpy(X), to_numpy(y), to_numpy(weight)
        # The rows of a group stay together: on both sides they would tell.
        folds = content_folds(X, y) if group is None else group % N_FOLDS
        choice = _best_of_grid(node, X, y, weight, n_classes, free_gate, folds)
        node.units = units
    _set(node, choice, free_gate)


def _taken(rows: Any, *arrays: Any) -> tuple[Any, ...]:
    """Return some rows; those of another array library come to the host."""
    return tuple(
        taken(array, rows, axis=0) if is_foreign(array) else array[rows]
        for array in arrays
    )


def copy_ridges(source: Node, target: Node) -> Node:
    """Give a fresh node the ridges that were chosen for another; return it."""
    experts = [innermost_expert(expert) for _, expert in source.experts]
    chosen = [expert.alpha for expert in experts if hasattr(expert, "alpha")]
    for expert in _open_ones(target):
        expert.set_params(alpha=chosen[0])
    for gate in softmax_gates(target.gate):
        for chosen_gate in softmax_gates(source.gate)[:1]:
            gate.set_params(alpha=chosen_gate.alpha)
    return target


def _open_ones(node: Node) -> list[Any]:
    """Return the experts whose ridge is left to the library."""
    experts = [innermost_expert(expert) for _, expert in node.experts]
    return [e for e in experts if getattr(e, "alpha", None) == "auto"]


def _set(node: Node, choice: tuple[float, float], free_gate: bool) -> None:
    for expert in _open_ones(node):
        expert.set_params(alpha=choice[0])
    for gate in softmax_gates(node.gate) if free_gate else []:
        gate.set_params(alpha=choice[1])


def _best_of_grid(
    node: Node,
    X: Any,
    y: Array,
    weight: Array,
    n_classes: int | None,
    free_gate: bool,
    folds: NDArray[np.intp],
) -> tuple[float, float]:
    """Return the strongest ridges within a standard error of the best."""
    score = np.full((len(GRID), weight.size), np.nan)
    trial_of: type[_Trial] = _Trial
    seen = np.ones(weight.size, dtype=bool)
    if isinstance(node, ChainNode):
        trial_of = _ChainTrial
        # Rows without a response are passed, and say nothing of a ridge.
        seen = seen if node.units.labelled is None else node.units.labelled
    for fold in range(N_FOLDS):
        test = seen & (folds == fold)
        if not test.any() or not (seen & ~test).any():
            continue
        rows = trial_of(X, y, weight, n_classes, test)
        start: Start | None = None
        for i, choice in enumerate(GRID):
            trial = _copy(node)
            _set(trial, choice, free_gate)
            rows.bind(trial)
            start = start or rows.start(trial)
            problem = rows.problem(trial)
            problem.start(start.resp, start.gate_steps)
            monitor = Monitor(1e-6, problem.total_weight, exact=problem.exact_m_step)
            climb(problem, monitor, MAX_PASSES)
            write_back(problem, trial)
            score[i, test] = rows.score(trial, problem)
    return GRID[strongest(score, weight)]


class _Trial:
    """Rows split in two: one part to fit to, the other to score."""

    kind = "kmeans"  # of the start

    def __init__(
        self,
        X: Any,
        y: Array,
        weight: Array,
        n_classes: int | None,
        test: NDArray[np.bool_],
    ) -> None:
        self.all, self.test, self.n_classes = (X, y, weight), test, n_classes
        self.train = (X[~test], y[~test], weight[~test])

    def bind(self, trial: Node) -> None:
        """Tell a fresh node what it must know of the rows."""

    def start(self, trial: Node) -> Start:
        """Return the start that all trials of this split share."""
        data = start_data(trial, *self.train, self.n_classes)
        return next(iter(starts_of(self.kind, 1, data, None)))

    def problem(self, trial: Node) -> Any:
        """Return the problem of a node on the rows to fit to."""
        return build_problem(trial, *self.train, self.n_classes)

    def score(self, trial: Node, problem: Any) -> Array:
        """Return the log density of each row to score."""
        X, y, _ = self.all
        return trial.log_prob(X[self.test], y[self.test])


class _ChainTrial(_Trial):
    """The same for rows in time: the responses to score are taken for missing."""

    kind = "auto"

    def __init__(self, *split: Any) -> None:
        super().__init__(*split)
        self.train = self.all

    def bind(self, trial: Node) -> None:
        """Tell a fresh node which rows follow each other."""
        seen = ~self.test
        if trial.units.labelled is not None:
            seen &= trial.units.labelled
        trial.units = replace(trial.units, labelled=seen)

    def score(self, trial: Node, problem: Any) -> Array:
        """Return the log density of each response given all that are not scored."""
        chain: Any = trial
        X, y, _ = self.all
        problem.e_step()
        every = replace(trial.units, labelled=None, state=None)
        density = chain.log_densities(X, y, every)
        with np.errstate(divide="ignore"):
            joint = np.log(problem.found.smoothed) + density
        return log_sum(joint[:, self.test], axis=0)


def strongest(score: Array, weight: Array, n_errors: float = 1.0) -> int:
    """Return the last row of scores within some standard errors of the best."""
    seen = ~np.isnan(score[0])
    if not seen.any():
        return 1
    share = weight[seen] / weight[seen].sum()
    best = int((score[:, seen] @ share).argmax())
    for i in range(len(score) - 1, best, -1):
        difference = score[i, seen] - score[best, seen]
        mean = float(share @ difference)
        # One factor of the weights: a row of weight two is two rows.
        spread = float(weight[seen] @ (difference - mean) ** 2)
        error = np.sqrt(spread) / float(weight[seen].sum())
        if mean > -n_errors * error:
            return i
    return best


def _copy(node: Node) -> Node:
    """Return a node of unfitted clones of the same parts."""
    copied = type(node)(
        clone(node.gate),
        [(name, clone(expert)) for name, expert in node.experts],
        node.columns,
        node.gate_columns,
        shared_dispersion=node.shared_dispersion,
        clones=node.clones,
    )
    if isinstance(node, ChainNode):
        copied.units = node.units
    return copied


def content_folds(X: Any, y: Array, n_folds: int = N_FOLDS) -> NDArray[np.intp]:
    """Return a fold for each row that depends on its contents alone.

    Equal rows share a fold, so a row of weight two is treated like two rows.
    """
    rows = X.toarray() if hasattr(X, "toarray") else X
    table = np.column_stack([np.asarray(rows, dtype=np.float64), y]) + 0.0
    return np.array(
        [
            int.from_bytes(hashlib.blake2b(row.tobytes(), digest_size=4).digest())
            % n_folds
            for row in np.ascontiguousarray(table)
        ],
        dtype=np.intp,
    )
