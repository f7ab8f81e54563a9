"""The information about all parameters that the rows of a fitted mixture hold.

With responsibilities r, and the complete-data log density of row i under expert k,
``c_ik = log g_k(x_i) + log p_k(y_i | x_i)``, of gradient u_ik and Hessian H_ik,

    score of a row        s_i = sum_k r_ik u_ik
    observed information  I = sum_i w_i [ -sum_k r_ik (H_ik + u_ik u_ik') + s_i s_i' ]
    outer product         J = sum_i w_i s_i s_i'

(Louis, T. A. 1982. Finding the observed information matrix when using the EM
algorithm. JRSS B 44). Where rows come in groups, a group takes the place of a row and
u, H are sums over its rows. Parts without derivatives are held fixed: what the
matrices say is conditional on them.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from skmoe._blocks import row_blocks
from skmoe._protocols import Differentiable, has_fixed_law
from skmoe._terms import CoefficientMap
from skmoe.em._node import Node, posterior, take_columns
from skmoe.em._units import UnitProblem, Units, labelled_rows
from skmoe.experts._expanded import ExpandedExpert
from skmoe.gates._derivatives import GateNode, gate_nodes

__all__ = ["Information", "PartBlock", "information"]

Array = NDArray[np.float64]

BLOCK_ROWS = 4096


@dataclass
class PartBlock:
    """The place of one part's parameters in the whole vector.

    Attributes
    ----------
    name : str
        Of the expert, or of the gate.
    part : Expert or GateNode
    expert : int
        Number of the expert; -1, -2, ... for the gates from the root down.
    where : slice
    map : CoefficientMap
    """

    name: str
    part: Any
    expert: int
    where: slice
    map: CoefficientMap


@dataclass
class Information:
    """Information matrices in the free parameters of a mixture.

    Attributes
    ----------
    observed, penalised, outer : arrays of shape (n_free, n_free)
        Louis's; the same with the curvature of the priors; the outer product.
    free : array of shape (n_parameters, n_free)
        All parameters are this times the free ones, up to shifts.
    blocks : list of PartBlock
    fixed : dict of str to str
        Parts that are held fixed, and why.
    n_units : int
    score : array of shape (n_free,)
        Gradient of the log-likelihood, without priors.
    """

    observed: Array
    penalised: Array
    outer: Array
    free: Array
    blocks: list[PartBlock]
    fixed: dict[str, str]
    n_units: int
    score: Array


def information(
    node: Node, X: Any, y: Array, weight: Array, units: Units | None = None
) -> Information:
    """Return the information matrices of a fitted node at its parameters.

    Parameters
    ----------
    node : Node
        Of a fitted mixture.
    X : array of shape (n_samples, n_engine_columns)
    y : array
    weight : array of shape (n_samples,)
        All positive.
    units : Units or None
        Groups, and rows without a response, which say nothing here.
    """
    X, y, weight, units = labelled_rows(X, y, weight, units)
    blocks, fixed = _lay_out(node)
    n_parameters = max((block.where.stop for block in blocks), default=0)
    sums = _Sums(blocks, n_parameters)
    if units is None:
        for rows in row_blocks(weight.size, BLOCK_ROWS):
            joint = node.conditional(X[rows], y[rows])
            gate_rows = take_columns(X[rows], node.gate_columns)
            sums.add(node, gate_rows, X[rows], y[rows], joint, weight[rows])
    else:
        bound = UnitProblem(node, X, y, weight, units, prepare=False)
        joint = bound.joint(conditional=True)
        unit_weight, add_up = bound.unit_weight, bound.add_up
        sums.add(node, bound.gate_rows, X, y, joint, unit_weight, add_up)
    free = _free(blocks, tied=node.shared_dispersion)
    prior = np.zeros((n_parameters, n_parameters))
    for block in blocks:
        prior[block.where, block.where] = block.part.penalty_curvature()
    observed = free.T @ sums.observed @ free
    return Information(
        observed=observed,
        penalised=observed - free.T @ prior @ free,
        outer=free.T @ sums.outer @ free,
        free=free,
        blocks=blocks,
        fixed=fixed,
        n_units=sums.n_units,
        score=free.T @ sums.score,
    )


def _lay_out(node: Node) -> tuple[list[PartBlock], dict[str, str]]:
    """Return the blocks of the parts with derivatives, and why others have none."""
    blocks: list[PartBlock] = []
    fixed = {}
    start = 0
    parts: list[tuple[str, Any, int]] = [
        (gate.name, gate, -1 - i)
        for i, gate in enumerate(gate_nodes(node.gate, len(node.experts)))
    ]
    parts += [
        (name, expert.native if isinstance(expert, ExpandedExpert) else expert, k)
        for k, (name, expert) in enumerate(node.experts)
    ]
    for name, part, k in parts:
        obstacle = part.obstacle if isinstance(part, GateNode) else _obstacle(part)
        if obstacle:
            fixed[name] = obstacle
        elif k < 0 or not has_fixed_law(part):
            found = part.coefficient_map()
            where = slice(start, start + found.matrix.shape[1])
            blocks.append(PartBlock(name, part, k, where, found))
            start = where.stop
    return blocks, fixed


def _obstacle(expert: Any) -> str:
    """Return why an expert has no standard errors; empty where it has."""
    if isinstance(expert, Differentiable) or has_fixed_law(expert):
        return ""
    return f"a {type(expert).__name__} has no derivatives"


def _free(blocks: list[PartBlock], *, tied: bool) -> Array:
    """Return the map from free parameters to all, tied shapes being one."""
    if not blocks:
        return np.zeros((0, 0))
    free = np.asarray(linalg.block_diag(*(block.map.free for block in blocks)))
    if not tied:
        return free
    place, shared = 0, []
    for block in blocks:
        n_free = block.map.free.shape[1]
        n_shapes = sum(term.kind == "shape" for term in block.map.terms)
        if n_shapes:
            last = place + n_free
            shared.append(np.arange(last - n_shapes, last))
        place += n_free
    if len(shared) < 2:
        return free
    free[:, shared[0]] = sum(free[:, columns] for columns in shared)
    return np.delete(free, np.concatenate(shared[1:]), axis=1)


class _Sums:
    """What a pass over the rows adds up, in all parameters."""

    def __init__(self, blocks: list[PartBlock], n_parameters: int) -> None:
        self.gates = [block for block in blocks if block.expert < 0]
        self.experts = {block.expert: block for block in blocks if block.expert >= 0}
        self.observed = np.zeros((n_parameters, n_parameters))
        self.outer = np.zeros((n_parameters, n_parameters))
        self.score = np.zeros(n_parameters)
        self.n_units = 0

    def add(
        self,
        node: Node,
        gate_rows: Any,
        X: Any,
        y: Array,
        joint: Array,
        weight: Array,
        add_up: Any = None,
    ) -> None:
        """Add a block of units.

        Parameters
        ----------
        gate_rows : array of shape (n_units, n_gate_features)
        X, y : the rows, (n_samples, n_engine_columns) and (n_samples,)
        joint : array of shape (n_experts, n_units)
        weight : array of shape (n_units,)
        add_up : sparse array of shape (n_samples, n_units), or None
            Weights of the rows in their groups.
        """
        resp = posterior(joint)[0]
        score = np.zeros((weight.size, self.score.size))
        softmaxes = [block.part.rows(gate_rows) for block in self.gates]
        for block, (design, proba) in zip(self.gates, softmaxes, strict=True):
            reach = weight * resp[block.part.child >= 0].sum(axis=0)
            bent = proba[:, :, None] * (np.eye(proba.shape[1]) - proba[:, None, :])
            self.observed[block.where, block.where] += _grams(
                design, bent, proba.shape[1], reach
            )
        for k, (_, expert) in enumerate(node.experts):
            parts = [
                (block.where, _gate_scores(block.part.child[k], design, proba))
                for block, (design, proba) in zip(self.gates, softmaxes, strict=True)
                if block.part.child[k] >= 0
            ]
            if k in self.experts:
                view = take_columns(X, node.columns[k])
                if isinstance(expert, ExpandedExpert):
                    view = expert.expand(view)
                row_resp = weight * resp[k] if add_up is None else add_up @ resp[k]
                own = self._expert_scores(self.experts[k], view, y, row_resp)
                own = own if add_up is None else add_up.T @ own
                parts.append((self.experts[k].where, own))
            if parts:
                self._add_scores(parts, resp[k], weight, score)
        outer = score.T @ (weight[:, None] * score)
        self.observed += outer
        self.outer += outer
        self.score += weight @ score
        self.n_units += weight.size

    def _expert_scores(
        self, block: PartBlock, view: Any, y: Array, row_resp: Array
    ) -> Array:
        """Add an expert's curvature; return its scores (n_samples, n_parameters)."""
        local = block.part.row_derivatives(view, y)
        self.observed[block.where, block.where] -= _grams(
            local.design, local.curvature, local.n_predictors, row_resp
        )
        first = local.gradient[:, : local.n_predictors, None] * local.design[:, None]
        shapes = local.gradient[:, local.n_predictors :]
        return np.hstack([first.reshape(len(y), -1), shapes])

    def _add_scores(
        self,
        parts: list[tuple[slice, Array]],
        resp: Array,
        weight: Array,
        score: Array,
    ) -> None:
        """Take off the outer product of complete-data scores of one expert."""
        index = np.concatenate([np.arange(w.start, w.stop) for w, _ in parts])
        complete = np.hstack([scores for _, scores in parts])
        weighted = resp[:, None] * complete
        score[:, index] += weighted
        weighted *= weight[:, None]
        self.observed[np.ix_(index, index)] -= complete.T @ weighted


def _gate_scores(child: int, design: Array, proba: Array) -> Array:
    """Return derivatives of a log gate probability, (n_units, n_parameters)."""
    error = -proba
    error[:, child] += 1.0
    return (error[:, :, None] * design[:, None]).reshape(len(design), -1)


def _grams(design: Array, curvature: Array, n_predictors: int, weight: Array) -> Array:
    """Return the weighted sum of curvatures in coefficients and shapes.

    Parameters
    ----------
    design : array of shape (n_samples, n_columns)
    curvature : array of shape (n_samples, n_local, n_local)
    n_predictors : int
        The other local coordinates stand for themselves.
    weight : array of shape (n_samples,)
    """
    ones = np.ones((len(design), 1))
    n_local = curvature.shape[1]
    basis = [design if i < n_predictors else ones for i in range(n_local)]
    rows = []
    for i in range(n_local):
        row = [
            basis[i].T @ ((weight * curvature[:, i, j])[:, None] * basis[j])
            for j in range(n_local)
        ]
        rows.append(row)
    return np.block(rows)
