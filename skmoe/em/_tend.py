"""Experts that lost their rows: revived once, else dropped, and announced."""

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmoe._protocols import has_fixed_law
from skmoe._tree import Tree
from skmoe._xp import to_numpy, total
from skmoe.em._build import build_problem, carry_over, responsibilities, settle
from skmoe.em._fused import FusedNode
from skmoe.em._node import Node
from skmoe.em._search import Run, begin, finish
from skmoe.em._starts import Start, hardened
from skmoe.exceptions import CollapsedExpertWarning
from skmoe.gates._tree import GateTree, single_gate

__all__ = ["tend"]

Array = NDArray[np.float64]


def tend(
    node: Node,
    best: Run,
    X: Any,
    y: Array,
    weight: Array,
    n_classes: int | None,
    *,
    named: bool,
    fresh: Any,
    options: Any,
) -> tuple[Node, Run]:
    """Revive dead experts once, drop those that die again.

    A dead expert gets half of the rows of the largest one, those that it
    explains worst, and EM goes on from there. The result is kept if all experts
    live. Otherwise clones that died are dropped; experts that the user named
    stay, with a warning.

    Parameters
    ----------
    node : Node
        The fitted node.
    best : Run
        The run that it comes from.
    X, y, weight, n_classes :
        The training rows.
    named : bool
        Whether the user named the experts.
    fresh : callable
        ``fresh(n_experts)`` returns a new node with so many experts.
    options : FitOptions
        How a run is taken to convergence.

    Returns
    -------
    node : Node
    best : Run
    """
    # Less than one row's worth of responsibility is dead.
    mass = total(weight)
    row = min(1.0, mass / weight.shape[0])
    learns = np.array([not has_fixed_law(expert) for _, expert in node.experts])
    dead = np.flatnonzero((best.mass < row) & learns)
    gate = single_gate(node.gate)
    if dead.size == 0 or best.stopped or not options.prune:
        _announce_collapse(node)
        return node, best
    if isinstance(gate, GateTree) and not named:
        return _prune(
            node, gate.tree, best, dead, (X, y, weight, n_classes), fresh, options
        )
    reached = to_numpy(_reached(node, X, y, weight, options.algorithm))
    resp = _shared_out(np.array(reached), to_numpy(weight), dead)
    shape = None if isinstance(gate, GateTree) else len(node.experts)
    tried, run = _refit(fresh(shape), resp, X, y, weight, n_classes, options)
    if (run.mass[learns] >= row).all() and run.objective > best.objective:
        return tried, run
    names = [node.experts[k][0] for k in dead]
    rows = ", ".join(f"{best.mass[k]:.3g}" for k in dead)
    report = (
        f"experts {names} lost their rows (left with {rows} of {mass:.6g}), "
        "and again after a restart"
    )
    if named or dead.size == len(node.experts):
        warnings.warn(
            f"{report}; they are kept, since they have names or known rows.",
            CollapsedExpertWarning,
            stacklevel=5,
        )
        return node, best
    alive = np.setdiff1d(np.arange(len(node.experts)), dead)
    kept = reached[alive] + 1e-300  # rows that only dead experts answered for
    kept /= kept.sum(axis=0)
    warnings.warn(
        f"{report}; {alive.size} experts remain. Ask for fewer experts.",
        CollapsedExpertWarning,
        stacklevel=5,
    )
    return _refit(fresh(alive.size), kept, X, y, weight, n_classes, options)


def _reached(node: Node, X: Any, y: Array, weight: Array, algorithm: str) -> Array:
    """Return responsibilities as the algorithm assigns them."""
    resp = responsibilities(node, X, y, weight)
    return hardened(resp) if algorithm == "cem" else resp


def _prune(
    node: Node,
    tree: Tree,
    best: Run,
    dead: NDArray[np.intp],
    rows: tuple[Any, Array, Array, int | None],
    fresh: Any,
    options: Any,
) -> tuple[Node, Run]:
    """Take dead leaves out of a tree, with the gates that lose their choice."""
    X, y, weight, _ = rows
    row = min(1.0, total(weight) / weight.shape[0])
    n_leaves = tree.n_leaves
    while 0 < dead.size < tree.n_leaves:
        tree = tree.without(dead.tolist())
        smaller = fresh(tree)
        problem = build_problem(smaller, *rows)
        if isinstance(problem, FusedNode):
            carry_over(problem, node, dead.tolist())
            run = Run("pruned", -np.inf, problem.state(), np.zeros(0))
        else:
            resp = to_numpy(responsibilities(node, X, y, weight))
            kept = _without(resp, dead)
            run = begin(problem, Start("pruned", kept, 4))
        node, best = _run_on(smaller, problem, run, options)
        dead = np.flatnonzero(best.mass < row)
    if tree.n_leaves < n_leaves:
        warnings.warn(
            f"{n_leaves - tree.n_leaves} of {n_leaves} leaves lost their rows and were "
            f"pruned; {tree.n_leaves} remain. Ask for fewer leaves.",
            CollapsedExpertWarning,
            stacklevel=6,
        )
    return node, best


def _without(resp: Array, dead: NDArray[np.intp]) -> Array:
    """Return the responsibilities of the leaves that live, for every row."""
    kept = np.delete(resp, dead, axis=0)
    kept += 1e-300  # rows that only dead leaves answered for
    kept /= kept.sum(axis=0)
    return kept


def _refit(
    node: Node,
    resp: Array,
    X: Any,
    y: Array,
    weight: Array,
    n_classes: int | None,
    options: Any,
) -> tuple[Node, Run]:
    """Run EM on a fresh node from given responsibilities."""
    problem = build_problem(node, X, y, weight, n_classes)
    run = begin(problem, Start("revived", np.ascontiguousarray(resp), 4))
    return _run_on(node, problem, run, options)


def _run_on(node: Node, problem: Any, run: Run, options: Any) -> tuple[Node, Run]:
    """Take a run to its end, and the node with it."""
    run = finish(problem, [run], **options.long_run(problem))[0]
    settle(problem, node, run.state)
    return node, run


def _shared_out(resp: Array, weight: Array, dead: NDArray[np.intp]) -> Array:
    """Give each dead expert half of the largest one's rows."""
    for k in dead:
        largest = int((resp @ weight).argmax())
        own = resp[largest]
        sure = own > 0.5
        median = 0.0
        if sure.any():
            median = float(
                np.quantile(own[sure], 0.5, weights=weight[sure], method="inverted_cdf")
            )
        moved = np.where(own <= median, own, 0.0)
        if not moved.any() or np.array_equal(moved, own):
            moved = 0.5 * own
        resp[k] += moved
        resp[largest] -= moved
    return resp


def _announce_collapse(node: Node) -> None:
    """Warn about experts whose variance lies at its floor."""
    collapsed = [
        name for name, expert in node.experts if getattr(expert, "collapsed", False)
    ]
    if collapsed:
        warnings.warn(
            f"the variance of experts {collapsed} fell to its floor: they fit their "
            "rows exactly, and the likelihood has no maximum there. Use a "
            "variance_prior, or fewer experts.",
            CollapsedExpertWarning,
            stacklevel=5,
        )
