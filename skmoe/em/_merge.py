"""Merging the experts of a fit, pair by pair: the path of a dendrogram.

The theory is that of mixing measures ``sum_k p_k delta(theta_k)``, a share and the
parameters of each expert. Of a fit with too many experts the superfluous ones lie close
together; merging the closest pair again and again shows how many there are.

References
----------
Do, D., Do, L., McKinley, S. A., Terhorst, J. and Nguyen, X. (2024). Dendrogram of
mixing measures: hierarchical clustering and model selection for finite mixture models.
arXiv 2403.01684.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmoe._protocols import is_parametric
from skmoe.em._build import build_problem, responsibilities, settle
from skmoe.em._node import Node
from skmoe.em._search import WARM_GATE_STEPS, continue_run, race
from skmoe.em._starts import Start

__all__ = [
    "MergeLevel",
    "climbed",
    "merge_costs",
    "merge_path",
    "merged",
    "pairs_by_cost",
]

Array = NDArray[np.float64]
Rows = tuple[Any, Array, Array, int | None]

# Closest pairs that are tried, each with a few passes, where passes are cheap.
TRIED_PAIRS = 2
# Passes of EM on each level: enough to tell levels apart, which differ by more than the
# last nats. Refitted estimators are dear, and done sooner.
LEVEL_PASSES, REFIT_PASSES = 20, 5
LEVEL_TOL = 1e-5


@dataclass
class MergeLevel:
    """A mixture on the path.

    Attributes
    ----------
    node : Node
        Fitted, bound to the training rows.
    resp : array of shape (n_experts, n_samples)
    pair : tuple (i, j), i < j, or None
        The experts of the level before that were merged to get here; the merged one
        is in place i, and those after j moved up.
    cost : float
        Of that merge, in nats.
    """

    node: Node
    resp: Array
    pair: tuple[int, int] | None
    cost: float


def merged(resp: Array, first: int, second: int) -> Array:
    """Return responsibilities in which one expert answers for the rows of two.

    Parameters
    ----------
    resp : array of shape (n_experts, n_samples)
    first, second : int
        ``first`` takes the rows of ``second``, whose place is closed.
    """
    joined = resp.copy()
    joined[first] += joined[second]
    return np.delete(joined, second, axis=0)


def merge_costs(node: Node, resp: Array, X: Any, y: Array, weight: Array) -> Array:
    """Return what merging each pair of experts costs in log-likelihood.

    With r the responsibilities, w the weights and p_ij the expert fitted to the rows
    of both,

        d_ij = sum_n w_n [r_ni log (p_i / p_ij)(y_n) + r_nj log (p_j / p_ij)(y_n)].

    For experts of one variance s2 on the same columns this is, but for a factor,
    ``p_i p_j / (p_i + p_j) |theta_i - theta_j|^2 / s2`` in the metric of the rows: the
    distance between atoms of a mixing measure. It asks for nothing but densities, so
    it serves any expert.

    Parameters
    ----------
    node : Node
        Fitted, and bound to these rows.
    resp : array of shape (n_experts, n_samples)
    X, y, weight : the rows

    Returns
    -------
    cost : array of shape (n_experts, n_experts)
        In nats above the diagonal, inf elsewhere.
    """
    if node.units is not None and node.units.labelled is not None:
        weight = weight * node.units.labelled
    n_experts = len(node.experts)
    views = [node.view(X, k) for k in range(n_experts)]
    own = [
        weight * resp[k] @ expert.log_prob(views[k], y)
        for k, (_, expert) in enumerate(node.experts)
    ]
    mass = resp @ weight
    cost = np.full((n_experts, n_experts), np.inf)
    for i in range(n_experts):
        for j in range(i + 1, n_experts):
            both = weight * (resp[i] + resp[j])
            k = i if mass[i] >= mass[j] else j
            expert = _between(node, i, j, mass, k)
            expert.m_step(views[k], y, both)
            cost[i, j] = own[i] + own[j] - both @ expert.log_prob(views[k], y)
    return cost


def _between(node: Node, i: int, j: int, mass: Array, larger: int) -> Any:
    """Return a copy of the larger expert, at the weighted mean of both parameters.

    Where an M-step is one step of Newton's, that is close to where it leads.
    """
    expert = node.experts[larger][1]
    if not is_parametric(expert):
        return copy.copy(expert)  # its M-step replaces what it fitted
    expert = copy.deepcopy(expert)
    share = mass[i] / max(mass[i] + mass[j], 1e-300)
    first, second = node.experts[i][1].parameters, node.experts[j][1].parameters
    expert.parameters = share * first + (1.0 - share) * second
    return expert


def pairs_by_cost(cost: Array, most: int) -> list[tuple[int, int]]:
    """Return the cheapest pairs (i, j), i < j, the cheapest first."""
    order = np.argsort(cost, axis=None, kind="stable")[:most]
    pairs = np.column_stack(np.unravel_index(order, cost.shape)).tolist()
    return [(i, j) for i, j in pairs if i < j]


def merge_path(
    node: Node,
    rows: Rows,
    fresh: Callable[[int], Node],
    *,
    acceleration: str | None,
    exact: bool = True,
) -> list[MergeLevel]:
    """Merge the closest pair of experts until one is left, with some EM in between.

    Parameters
    ----------
    node : Node
        Fitted, with what is said about the rows in ``units``.
    rows : tuple (X, y, weight, n_classes)
    fresh : callable
        ``fresh(n_experts)`` returns a node of unfitted parts.
    acceleration : str or None
        As for `climb`.
    exact : bool
        Whether EM of exact M-steps must climb; not where labels are drawn.

    Returns
    -------
    levels : list of MergeLevel
        The first has as many experts as the node, the last has one.
    """
    X, y, weight, _ = rows
    cheap = all(is_parametric(expert) for _, expert in node.experts)
    n_tried = TRIED_PAIRS if cheap else 1
    passes = LEVEL_PASSES if cheap else REFIT_PASSES
    climb: dict[str, Any] = {
        "passes": passes,
        "acceleration": acceleration,
        "exact": exact,
    }
    start = Start("fit", responsibilities(node, X, y, weight), WARM_GATE_STEPS)
    bound, resp, _ = climbed(fresh(len(node.experts)), [start], rows, **climb)
    levels = [MergeLevel(bound, resp, None, 0.0)]
    while len(levels[-1].node.experts) > 1:
        last = levels[-1]
        cost = merge_costs(last.node, last.resp, X, y, weight)
        pairs = {f"{i}, {j}": (i, j) for i, j in pairs_by_cost(cost, n_tried)}
        starts = [
            Start(name, merged(last.resp, *pair), WARM_GATE_STEPS)
            for name, pair in pairs.items()
        ]
        smaller, resp, name = climbed(
            fresh(len(last.node.experts) - 1), starts, rows, **climb
        )
        pair = pairs[name]
        levels.append(MergeLevel(smaller, resp, pair, float(cost[pair])))
    return levels


def climbed(
    node: Node,
    starts: list[Start],
    rows: Rows,
    *,
    passes: int,
    acceleration: str | None,
    exact: bool,
) -> tuple[Node, Array, str]:
    """Run some EM on a node of unfitted parts from the best of some starts.

    Returns
    -------
    node : Node
        The same, fitted and bound to the rows.
    resp : array of shape (n_experts, n_samples)
    name : str
        Of the start.
    """
    problem = build_problem(node, *rows)
    exact = exact and problem.exact_m_step
    runs, _ = race(
        problem,
        starts,
        exact=exact,
        passes=passes,
        acceleration=acceleration,
        n_jobs=None,
    )
    run = continue_run(problem, runs[0], passes, exact, acceleration, LEVEL_TOL)
    settle(problem, node, run.state)
    return node, responsibilities(node, *rows[:3]), run.name
