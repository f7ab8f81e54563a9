"""From prepared parts to the problem that the loop climbs, and back."""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.base import clone

from skmoe._blocks import Design
from skmoe._tree import Tree
from skmoe.em._fused import FusedNode
from skmoe.em._node import Node, hard_assignment, posterior, take_columns
from skmoe.em._node_problem import NodeProblem
from skmoe.em._paths import PathNode
from skmoe.em._starts import StartData, soften
from skmoe.experts._expanded import ExpandedExpert
from skmoe.experts._linear import LinearExpert
from skmoe.experts._linear_kernel import LinearKernel
from skmoe.experts._logistic import LogisticExpert
from skmoe.experts._logistic_kernel import LogisticKernel
from skmoe.gates._constant import ConstantGate
from skmoe.gates._gaussian import GaussianGate
from skmoe.gates._softmax import SoftmaxGate, SoftmaxKernel
from skmoe.gates._tree import GateTree, single_gate
from skmoe.gates._tree_kernel import TreeKernel

__all__ = [
    "assignment",
    "build_problem",
    "carry_over",
    "differ",
    "gate_columns",
    "innermost_expert",
    "is_native",
    "plain_node",
    "settle",
    "start_data",
    "write_back",
]

Array = NDArray[np.float64]

# Wider designs are not copied into starts: clustering works on projections.
MAX_START_COLUMNS = 50
GAUSSIAN_START_PASSES = 8


def assignment(algorithm: str, rng: Any) -> Any:
    """Return what the E-step of an algorithm makes of joint log densities."""
    if algorithm == "cem":
        return hard_assignment
    if algorithm == "sem":

        def sampled(joint: Array) -> tuple[Array, Array]:
            resp, log_lik = posterior(joint)
            level = rng.random_sample(joint.shape[1])
            labels = (resp.cumsum(axis=0) < level).sum(axis=0)
            return soften(labels.clip(max=resp.shape[0] - 1), resp.shape[0], 1.0), (
                log_lik
            )

        return sampled
    return posterior


def is_native(node: Node, X: Any) -> bool:
    """Return whether the fused node can stand in for a node."""
    experts = [expert for _, expert in node.experts]
    kind = type(innermost_expert(experts[0]))
    if kind not in (LinearExpert, LogisticExpert) or sparse.issparse(X):
        return False
    alike = node.clones or all(
        type(expert) is kind and expert.get_params() == experts[0].get_params()
        for expert in experts
    )
    one_view = all(_same_columns(columns, node.columns[0]) for columns in node.columns)
    return alike and one_view and _has_kernel(node.gate, X, len(experts))


def innermost_expert(expert: Any) -> Any:
    """Return the expert behind a transformer; any other expert itself."""
    return expert.native if isinstance(expert, ExpandedExpert) else expert


def plain_node(node: Node) -> Node | None:
    """Return a node of the same experts without their transformer, if they have one."""
    first = node.experts[0][1]
    if not node.clones or not isinstance(first, ExpandedExpert):
        return None
    plain = clone(first.native)
    return Node(
        clone(node.gate),
        [(name, copy.copy(plain)) for name, _ in node.experts],
        node.columns,
        node.gate_columns,
        shared_dispersion=node.shared_dispersion,
        assign=node.assign,
        clones=True,
    )


def differ(experts: list[tuple[str, Any]]) -> bool:
    """Return whether experts are of different kinds, or prefitted."""
    first = _settings(experts[0][1])
    return any(_settings(expert) != first for _, expert in experts)


def _settings(expert: Any) -> tuple[type, str]:
    """Return what tells kinds of experts apart; seeds do not."""
    plain = clone(expert)
    for name in plain.get_params():
        if name.endswith("random_state"):
            plain.set_params(**{name: None})
    return type(plain), repr(plain)


def _has_kernel(gate: Any, X: Any, n_experts: int) -> bool:
    gate = single_gate(gate)
    if isinstance(gate, GateTree):
        return gate.kernel(gate.view(X, 0).shape[1] + 1) is not None
    if type(gate) is ConstantGate:
        return bool(gate.alpha == 0)
    return type(gate) is SoftmaxGate and (
        gate.choose_solver(X.shape[1] + 1, n_experts) != "lbfgs"
    )


def _same_columns(columns: Sequence[int] | None, other: Sequence[int] | None) -> bool:
    if columns is None or other is None:
        return columns is None and other is None
    return list(columns) == list(other)


def build_problem(
    node: Node, X: Any, y: Array, weight: Array, n_classes: int | None
) -> FusedNode | NodeProblem:
    """Prepare the parts and bind them to the rows.

    Returns
    -------
    problem : FusedNode or NodeProblem
        The fused node where gate and experts are native and alike.
    """
    if not is_native(node, X):
        node.prepare(X, y, weight, n_classes)
        return NodeProblem(node, X, y, weight)
    n_experts = len(node.experts)
    view = take_columns(X, node.columns[0])
    outer = node.experts[0][1]
    outer.prepare(view, y, weight, n_classes)
    first = innermost_expert(outer)
    matrix = first.design_.matrix(view if outer is first else outer.expand(view))
    single: Any = first.kernel_
    experts: LinearKernel | LogisticKernel
    if isinstance(first, LinearExpert):
        single.prior.shared = node.shared_dispersion
        experts = LinearKernel(n_experts, single.prior)
        y = y[None] if y.ndim == 1 else np.ascontiguousarray(y.T)
    else:
        experts = LogisticKernel(n_experts, single.anchor, single.ridge)
    shared = first.design_ if outer is first else None
    gate, gate_matrix = _gate_kernel(node, X, weight, shared, matrix)
    parts = (gate, experts, gate_matrix, matrix, y, weight)
    path_tol = getattr(node.gate, "path_tol", 0.0)
    problem = FusedNode(*parts)
    if path_tol > 0.0 and isinstance(gate, TreeKernel):
        problem = PathNode(*parts, path_tol)
    if node.assign is not posterior:
        problem.assign = node.assign
    return problem


def _gate_kernel(
    node: Node, X: Any, weight: Array, design: Design | None, matrix: Array
) -> tuple[SoftmaxKernel | TreeKernel, Array]:
    """Return the gate's kernel, and the experts' matrix where it serves both.

    Parameters
    ----------
    design : Design or None
        The experts' design, if it is one of plain columns.
    matrix : array
        Its matrix.
    """
    n_experts = len(node.experts)
    gate: Any = single_gate(node.gate)
    columns = gate_columns(node)
    view = take_columns(X, columns)
    if isinstance(gate, ConstantGate):
        gate.prepare(view, weight, n_experts)
        return SoftmaxKernel(n_experts, np.zeros(1), 0.0), np.ones((1, weight.size))
    same = _same_columns(columns, node.columns[0])
    if design is None or not same or not design.intercept:
        design = Design(view, weight)
        matrix = design.matrix(view)
    if isinstance(gate, GateTree):
        gate.check_parameters()
        gate.design_ = design
        return gate.kernel(design.n_columns), matrix
    gate.check_parameters()
    gate.design_ = design
    gate.kernel_ = gate.make_kernel(design, n_experts)
    return gate.kernel_, matrix


def gate_columns(node: Node) -> Sequence[int] | None:
    """Return the columns of a node's gate: of the root, where it is a tree."""
    if isinstance(node.gate, GateTree) and node.gate.columns:
        columns: Sequence[int] | None = node.gate.columns[0]
        return columns
    return node.gate_columns


def write_back(problem: FusedNode | NodeProblem, node: Node) -> None:
    """Give a problem's parameters to the parts of the node it stands for."""
    if isinstance(problem, NodeProblem):
        return
    first = node.experts[0][1]
    for k, kernel in enumerate(problem.experts.split()):
        name = node.experts[k][0]
        part = copy.copy(first)
        if isinstance(first, ExpandedExpert):
            part.expert_ = copy.copy(first.expert_)
        innermost_expert(part).kernel_ = kernel
        node.experts[k] = (name, part)
    if isinstance(node.gate, GateTree) and not node.gate.gates:
        return  # a single leaf
    gate: Any = single_gate(node.gate)
    if isinstance(gate, GateTree):
        gate.take_coefficients(problem.gate, gate.design_)
    elif isinstance(gate, ConstantGate):
        gate.parameters = problem.gate.coef[:, 0]
    else:
        gate.kernel_ = copy.copy(problem.gate)


def settle(problem: FusedNode | NodeProblem, node: Node, state: Any) -> None:
    """Go to the parameters of a run and give them to the node it stands for."""
    problem.restore(state)
    problem.e_step()
    write_back(problem, node)


def carry_over(problem: FusedNode, node: Node, dead: Sequence[int]) -> None:
    """Give a problem without some leaves the parameters of a fitted node.

    Both stand on the same rows, and so on the same designs.
    """
    gate: Any = node.gate
    tree: Tree = gate.tree
    alive = np.setdiff1d(np.arange(tree.n_leaves), dead)
    kernels = [innermost_expert(node.experts[k][1]).kernel_ for k in alive]
    for name in ("coef", "variance"):
        if hasattr(problem.experts, name):
            parts = [getattr(kernel, name) for kernel in kernels]
            setattr(problem.experts, name, np.concatenate(parts))
    coefs = []
    for i, children in tree.remaining_choices(dead):
        coef = gate.gates[i].kernel_.coef[children]
        coefs.append(coef - coef.mean(axis=0))
    if isinstance(problem.gate, TreeKernel):
        problem.gate.join(coefs)
    elif coefs:
        problem.gate.coef = coefs[0]


def start_data(
    node: Node, X: Any, y: Array, weight: Array, n_classes: int | None
) -> StartData:
    """Return the standardised columns and responses that starts work on."""
    gate_X = _standardised(take_columns(X, gate_columns(node)), weight)
    expert_X = _standardised(take_columns(X, node.columns[0]), weight)
    indicators = None if n_classes is None else np.eye(n_classes)[y]
    y = y if indicators is None else indicators
    target = _standardised(y.reshape(weight.size, -1), weight)
    first = innermost_expert(node.experts[0][1])
    gate = single_gate(node.gate)
    data = StartData(
        gate_X=gate_X,
        expert_X=expert_X,
        target=target,
        weight=weight,
        n_experts=len(node.experts),
        indicators=indicators,
        constant_gate=isinstance(gate, ConstantGate),
        variance_prior=getattr(first, "variance_prior", None) or (0.0, 0.0),
        tree=gate.tree if isinstance(gate, GateTree) else None,
    )
    if n_classes is None and not data.constant_gate:
        data.gaussian = lambda resp: _gaussian_resp(data, resp)
    return data


def _standardised(columns: Any, weight: Array) -> Array:
    """Return dense standardised columns, projected where they are too many."""
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
