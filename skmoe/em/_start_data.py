"""What the starts of EM are made from, for the node that they are for."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from skmoe._blocks import Design
from skmoe._tree import Tree
from skmoe.em._build import free_experts, gate_columns, informed_expert
from skmoe.em._chain_node import ChainNode
from skmoe.em._node import Node, take_columns
from skmoe.em._node_problem import NodeProblem
from skmoe.em._starts import Start, StartData
from skmoe.experts._linear import LinearExpert
from skmoe.gates._constant import ConstantGate
from skmoe.gates._gaussian import GaussianGate
from skmoe.gates._tree import GateTree, single_gate

__all__ = ["start_data", "with_fixed"]

Array = NDArray[np.float64]

# Wider designs are not copied into starts: clustering works on projections.
MAX_START_COLUMNS = 50
GAUSSIAN_START_PASSES = 8
# Of few rows a pass through a chain costs several times as much as one through rows
# that do not follow each other; of many it does not, and has more ways to go wrong.
CHAIN_EFFORT, CHAIN_BUDGET = 0.4, 400_000.0
# What an expert of a fixed law starts with of each row.
FIXED_SHARE = 0.05


def start_data(
    node: Node, X: Any, y: Array, weight: Array, n_classes: int | None
) -> StartData:
    """Return the standardised columns and responses that starts work on."""
    free = free_experts(node) or list(range(len(node.experts)))
    first = informed_expert(node.experts[free[0]][1])
    gate_X = _standardised(take_columns(X, gate_columns(node)), weight)
    view = take_columns(X, node.columns[free[0]])
    features = first.features(view) if hasattr(first, "features") else view
    expert_X = _standardised(features, weight)
    indicators = None if n_classes is None else np.eye(n_classes)[y]
    target = _start_target(node, X, y, weight) if indicators is None else indicators
    target = _standardised(target.reshape(weight.size, -1), weight)
    gate = single_gate(node.gate)
    data = StartData(
        gate_X=gate_X,
        expert_X=expert_X,
        target=target,
        weight=weight,
        n_experts=len(free),
        free=free if len(free) < len(node.experts) else None,
        indicators=indicators,
        constant_gate=isinstance(gate, ConstantGate),
        variance_prior=getattr(first, "variance_prior", None) or (0.0, 0.0),
        tree=_tree_of(gate, free) if isinstance(gate, GateTree) else None,
        effort=getattr(first, "start_effort", 1.0),
    )
    if isinstance(node, ChainNode):
        data = replace(
            data,
            effort=CHAIN_EFFORT * data.effort,
            budget=CHAIN_BUDGET,
            chains=node.units,
        )
    if n_classes is None and not data.constant_gate:
        data.gaussian = lambda resp: _gaussian_resp(data, resp)
    return data


def _tree_of(gate: GateTree, free: list[int]) -> Tree:
    """Return the tree of the leaves that learn."""
    tree: Tree = gate.tree
    fixed = sorted(set(range(tree.n_leaves)) - set(free))
    return tree.without(fixed) if fixed else tree


def _start_target(node: Node, X: Any, y: Array, weight: Array) -> Array:
    """Return responses on the scale of the experts' linear predictor.

    Rows without a response get the mean: nothing sets them apart.
    """
    for k, (_, expert) in enumerate(node.experts):
        inner = informed_expert(expert)
        if hasattr(inner, "start_target"):
            y = inner.start_target(take_columns(X, node.columns[k]), y)
            break
    labelled = getattr(node.units, "labelled", None)
    if labelled is None:
        return y
    seen = weight * labelled
    mean = seen @ y / seen.sum()
    return np.asarray(np.where(labelled.reshape(-1, *[1] * (y.ndim - 1)), y, mean))


def _standardised(columns: Any, weight: Array) -> Array:
    """Return dense standardised columns, projected where they are too many.

    A gap takes the mean of its column.
    """
    if not sparse.issparse(columns) and np.isnan(columns).any():
        seen = ~np.isnan(columns)
        mean = weight @ np.where(seen, columns, 0.0) / (weight @ seen)
        columns = np.where(seen, columns, mean)
    if columns.shape[1] > MAX_START_COLUMNS:
        columns = _project(columns, weight)
    design = Design(columns, weight)
    return np.ascontiguousarray(design.matrix(columns)[1:].T)


def _project(columns: Any, weight: Array) -> Array:
    """Project on leading singular directions of the weighted rows."""
    root = sparse.diags_array(np.sqrt(weight))
    scale = Design(columns, weight).inverse_scale
    scaled = sparse.csr_array(columns) @ sparse.diags_array(scale)
    start = np.ones(min(scaled.shape))
    rank = min(10, min(scaled.shape) - 1)
    _, _, directions = sparse.linalg.svds(root @ scaled, k=rank, v0=start)
    # The sign of a singular vector is arbitrary; fix it.
    largest = np.abs(directions).argmax(axis=1)
    directions *= np.sign(directions[np.arange(rank), largest])[:, None]
    return np.asarray(scaled @ directions.T)


def _gaussian_resp(data: StartData, resp: Array) -> Array:
    """Return responsibilities after some passes of EM with Gaussian gates."""
    y = data.target[:, 0] if data.target.shape[1] == 1 else data.target
    experts = [
        (f"expert{k}", LinearExpert(covariance="diag")) for k in range(len(resp))
    ]
    node = Node(GaussianGate(), experts, [None] * len(resp), shared_dispersion=False)
    views = np.hstack([data.gate_X, data.expert_X])
    width = data.gate_X.shape[1]
    node.gate_columns = range(width)
    node.columns = [range(width, views.shape[1])] * len(resp)
    node.prepare(views, y, data.weight)
    problem = NodeProblem(node, views, y, data.weight)
    problem.start(resp)
    for _ in range(GAUSSIAN_START_PASSES):
        problem.e_step()
        problem.m_step()
    problem.e_step()
    return node.resp


def with_fixed(start: Start, free: list[int], n_experts: int) -> Start:
    """Return a start in which experts of a fixed law have an even, small share."""
    resp = np.full((n_experts, start.resp.shape[1]), FIXED_SHARE)
    resp[free] = start.resp * (1.0 - FIXED_SHARE * (n_experts - len(free)))
    return replace(start, resp=resp)
