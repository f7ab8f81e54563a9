"""Growing a tree: split one leaf at a time where it helps most.

Every leaf is split on trial (or the one of lowest likelihood alone), the rest of
the tree staying as it is. A trial is a small mixture fitted to the leaf's rows,
with the leaf's responsibilities as weights, from the best split of a model tree.
The best one is kept, and EM goes on with the whole tree.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.parallel import Parallel, delayed

from skmoe._tree import Tree
from skmoe.em._build import build_problem, settle
from skmoe.em._fit import FitOptions
from skmoe.em._node import Node, posterior
from skmoe.em._ridge import choose_ridges, content_folds, copy_ridges
from skmoe.em._search import Run, SearchReport, begin, continue_run, finish
from skmoe.em._start_data import start_data
from skmoe.em._starts import Start
from skmoe.em._tend import tend
from skmoe.em._tree_split import TreeSplitter
from skmoe.em._tree_starts import SOFT
from skmoe.gates._tree import GateTree

__all__ = ["GrowthOptions", "GrowthStep", "grow_node"]

Array = NDArray[np.float64]
Rows = tuple[Any, Array, Array, int | None]
# Gain of the likelihood (nats), the leaf, the shares of its children.
Trial = tuple[float, int, Array]

# Rows that a leaf hardly answers for do not take part in its trial.
LEAST_SHARE = 1e-3
TRIAL_PASSES, STEP_PASSES = 12, 20
TREE_GATE_STEPS = 8
# A criterion may rise once on its way down; after so many rises growth ends.
PATIENCE = 2
# Splits that are tried before a tree counts as grown up.
MAX_TRIES = 3
HELD_OUT_FOLDS = 5
# Nats per row that a larger tree must gain on held-out rows to be kept.
HELD_OUT_GAIN = 1e-3


@dataclass
class GrowthOptions:
    """How to grow.

    Attributes
    ----------
    rule : {"posterior", "fritsch"}
    until : {"bic", "holdout", "max_leaves"}
    max_leaves : int
    n_children : int
    warm : array of shape (n_leaves, n_samples) or None
        Responsibilities to begin with, where the first tree has several leaves.
    on_grown : callable
        ``on_grown(node, steps, report, run)`` is told each tree that is the best so
        far.
    """

    rule: str
    until: str
    max_leaves: int
    n_children: int
    warm: Array | None
    on_grown: Callable[[Node, list["GrowthStep"], SearchReport, Run], None]


@dataclass
class GrowthStep:
    """One tree on the way.

    Attributes
    ----------
    n_leaves : int
    log_likelihood : float
        Of the rows that it was grown on, in nats.
    criterion : float
        What growth is stopped by, lower is better: BIC, or minus the held-out
        log score in nats per row; minus the log-likelihood with "max_leaves".
    split : int or None
        The leaf that was split to get here.
    """

    n_leaves: int
    log_likelihood: float
    criterion: float
    split: int | None


@dataclass
class Grown:
    """A tree with what belongs to it: the rows' responsibilities among others."""

    tree: Tree
    node: Node
    run: Run
    resp: Array
    step: GrowthStep


def grow_node(
    node: Node, rows: Rows, options: FitOptions, growth: GrowthOptions
) -> tuple[Node, SearchReport, Run, list[GrowthStep]]:
    """Grow a tree and run EM on the best one to convergence.

    Parameters
    ----------
    node : Node
        Of the tree to begin with.
    rows : tuple (X, y, weight, n_classes)
    options : FitOptions
    growth : GrowthOptions

    Returns
    -------
    node, report, run : as of `fit_node`
    steps : list of GrowthStep
    """
    X, y, weight, n_classes = rows
    choose_ridges(node, *rows, options.rng, free_gate=options.free_gate)
    held_out = None
    inside = rows
    if growth.until == "holdout":
        out = content_folds(X, y, HELD_OUT_FOLDS) == 0
        if out.any() and not out.all():
            held_out = (X[out], y[out], weight[out])
            inside = (X[~out], y[~out], weight[~out], n_classes)
    margin = 0.0 if held_out is None else HELD_OUT_GAIN
    steps: list[GrowthStep] = []
    best = None
    rises = 0
    warm = growth.warm
    if warm is not None and held_out is not None:
        warm = warm[:, ~out]
    for grown in Grower(node, inside, held_out, options, growth).trees(warm):
        steps.append(grown.step)
        if best is None or grown.step.criterion < best.step.criterion - margin:
            best, rises = grown, 0
            report = SearchReport.from_runs([grown.run], [])
            growth.on_grown(grown.node, steps, report, grown.run)
        else:
            rises += 1
        if rises >= PATIENCE and growth.until != "max_leaves":
            break
    assert best is not None
    resp = best.resp
    if held_out is not None:
        resp = posterior(best.node.conditional(X, y))[0]
    final, report, run = _finish(best.tree, node, resp, rows, options)
    return final, report, run, steps


class Grower:
    """Grows trees on some rows.

    Parameters
    ----------
    node : Node
        Of the tree to begin with; its ridges hold for all.
    rows : tuple (X, y, weight, n_classes)
    held_out : tuple (X, y, weight) or None
        Rows that the criterion looks at.
    options : FitOptions
    growth : GrowthOptions
    """

    def __init__(
        self,
        node: Node,
        rows: Rows,
        held_out: tuple[Any, Array, Array] | None,
        options: FitOptions,
        growth: GrowthOptions,
    ) -> None:
        self.prototype, self.rows, self.held_out = node, rows, held_out
        self.options, self.growth = options, growth
        self.row = min(1.0, float(rows[2].sum()) / rows[2].size)

    def trees(self, warm: Array | None) -> Iterator[Grown]:
        """Yield one tree after the other, each with a leaf more.

        Parameters
        ----------
        warm : array of shape (n_leaves, n_samples) or None
            Responsibilities to begin with; None for a single leaf.
        """
        gate = self.prototype.gate
        tree = gate.tree if isinstance(gate, GateTree) else Tree([[]])
        resp = np.ones((1, self.rows[2].size)) if warm is None else warm
        grown: Grown | None = self._fitted(tree, resp, None)
        while grown is not None:
            yield grown
            if grown.tree.n_leaves + self.growth.n_children - 1 > (
                self.growth.max_leaves
            ):
                return
            grown = self._larger(grown)

    def _larger(self, grown: Grown) -> Grown | None:
        """Return the tree with one leaf split, None where no split holds."""
        n_children = self.growth.n_children
        for _, leaf, shares in islice(self._splits(grown), MAX_TRIES):
            resp = np.concatenate(
                [grown.resp[:leaf], grown.resp[leaf] * shares, grown.resp[leaf + 1 :]]
            )
            larger = self._fitted(grown.tree.split(leaf, n_children), resp, leaf)
            # Of many children all but two may die of it: they are pruned in the end.
            if (larger.run.mass < self.row).sum() <= n_children - 2:
                return larger
        return None

    def _fitted(self, tree: Tree, resp: Array, split: int | None) -> Grown:
        """Run some passes of EM on a tree from responsibilities."""
        node = copy_ridges(self.prototype, self.options.fresh(tree))
        problem = build_problem(node, *self.rows)
        long_run = self.options.long_run(problem)
        run = begin(problem, Start("grown", resp, TREE_GATE_STEPS))
        passes = min(STEP_PASSES, self.options.max_iter)
        run = continue_run(
            problem, run, passes, long_run["exact"], long_run["acceleration"]
        )
        settle(problem, node, run.state)
        resp, log_prob = posterior(node.conditional(self.rows[0], self.rows[1]))
        log_lik = float(self.rows[2] @ log_prob)
        step = GrowthStep(tree.n_leaves, log_lik, self._criterion(node, log_lik), split)
        return Grown(tree, node, run, resp, step)

    def _criterion(self, node: Node, log_lik: float) -> float:
        if self.held_out is not None:
            X, y, weight = self.held_out
            log_prob = posterior(node.conditional(X, y))[1]
            return -float(weight @ log_prob / weight.sum())
        if self.growth.until != "bic":
            return -log_lik
        total = float(self.rows[2].sum())
        return node.n_parameters * float(np.log(total)) - 2.0 * log_lik

    def _splits(self, grown: Grown) -> Iterator[Trial]:
        """Yield trial splits, the one to take first."""
        X, y, weight, n_classes = self.rows
        node = grown.node
        log_density = np.stack(
            [
                expert.log_prob(node.view(X, k), y)
                for k, (_, expert) in enumerate(node.experts)
            ]
        )
        splitter = TreeSplitter(start_data(node, X, y, weight, n_classes))
        shape = Tree.complete([self.growth.n_children])
        leaves = np.arange(len(node.experts))
        if self.growth.rule == "fritsch":
            leaves = _likelihood_shares(grown.resp, y, weight, log_density).argsort()
        trials = (
            (
                copy_ridges(self.prototype, self.options.fresh(shape)),
                int(leaf),
                grown.resp[leaf],
                log_density[leaf],
                self.rows,
                splitter,
            )
            for leaf in leaves
        )
        if self.growth.rule == "fritsch":
            # In the order of the leaves: none is tried before it is needed.
            done = (_trial(*trial) for trial in trials)
            yield from (trial for trial in done if trial is not None)
            return
        parallel = Parallel(n_jobs=self.options.n_jobs, prefer="threads")
        tried = parallel(delayed(_trial)(*trial) for trial in trials)
        # A short trial may end below the leaf that it replaces: the criterion, not
        # the sign of a gain, says when to stop.
        gains = [trial for trial in tried if trial is not None]
        yield from sorted(gains, key=lambda trial: trial[0], reverse=True)


def _likelihood_shares(
    resp: Array, y: Array, weight: Array, log_density: Array
) -> Array:
    """Return each leaf's own log-likelihood (Fritsch et al. 1997, rule II).

    The paper weighs rows with the gate. A Gaussian's log density has no floor, and
    a few per cent of a row far off would make the narrowest leaf the worst; so rows
    count by responsibility here. Densities are relative to the response's own
    scale: the choice does not hang on the unit of y.
    """
    unit = 0.0
    if y.dtype.kind == "f":
        columns = y.reshape(weight.size, -1)
        mean = weight @ columns / weight.sum()
        spread = weight @ (columns - mean) ** 2 / weight.sum()
        unit = 0.5 * float(np.log(np.maximum(spread, 1e-300)).sum())
    return (resp * (log_density + unit)) @ weight


def _trial(
    pair: Node,
    leaf: int,
    resp: Array,
    log_density: Array,
    rows: Rows,
    splitter: TreeSplitter,
) -> Trial | None:
    """Split one leaf; return the gain of the likelihood (nats), leaf and shares.

    With everything else as it is the density of a row changes by the factor
    ``1 + h (p_split / p_leaf - 1)``, h being the leaf's responsibility.
    """
    X, y, weight, n_classes = rows
    own = np.flatnonzero(resp > LEAST_SHARE)
    mass = weight[own] * resp[own]
    n_children = len(pair.experts)
    row = min(1.0, float(weight.sum()) / weight.size)
    if float(mass.sum()) < 2 * n_children * row:
        return None
    split = splitter.best_split(own, mass)
    if split is None:
        return None
    start = splitter.shares_of(split, own, mass, n_children, SOFT)
    X_own, y_own = X[own], y[own]
    problem = build_problem(pair, X_own, y_own, mass, n_classes)
    run = begin(problem, Start("trial", np.ascontiguousarray(start[:, own]), 5))
    run = continue_run(problem, run, TRIAL_PASSES, problem.exact_m_step, None)
    settle(problem, pair, run.state)
    shares, log_split = posterior(pair.conditional(X_own, y_own))
    ratio = np.expm1(np.minimum(log_split - log_density[own], 600.0))
    gain = float(weight[own] @ np.log1p(np.maximum(resp[own] * ratio, -1.0 + 1e-12)))
    everywhere = start
    everywhere[:, own] = shares
    return gain, leaf, everywhere


def _finish(
    tree: Tree, prototype: Node, resp: Array, rows: Rows, options: FitOptions
) -> tuple[Node, SearchReport, Run]:
    """Run EM on the chosen tree until it converges; prune what died."""
    node = copy_ridges(prototype, options.fresh(tree))
    problem = build_problem(node, *rows)
    run = begin(problem, Start("grown", resp, TREE_GATE_STEPS))
    hook = options.on_pass(problem, node)
    long_run = options.long_run(problem)
    run = finish(problem, [run], on_pass=hook, **long_run)[0]
    settle(problem, node, run.state)
    report = SearchReport.from_runs([run], [])
    node, run = tend(
        node,
        run,
        *rows,
        named=options.named,
        fresh=lambda shape: copy_ridges(prototype, options.fresh(shape)),
        options=options,
    )
    return node, report, run
