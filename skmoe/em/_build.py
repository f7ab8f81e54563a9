"""From prepared parts to the problem that the loop climbs, and back."""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.base import clone

from skmoe._blocks import Design
from skmoe._protocols import has_fixed_law
from skmoe._tree import Tree
from skmoe._xp import is_foreign, zeros
from skmoe.em._chain_node import ChainNode, ChainProblem
from skmoe.em._fused import FusedNode
from skmoe.em._gradient import GradientProblem
from skmoe.em._node import Node, hard_assignment, posterior, take_columns
from skmoe.em._node_problem import NodeProblem
from skmoe.em._paths import PathNode
from skmoe.em._starts import soften
from skmoe.em._units import UnitProblem
from skmoe.experts._expanded import ExpandedExpert
from skmoe.gates._constant import ConstantGate
from skmoe.gates._expanded import ExpandedGate
from skmoe.gates._softmax import SoftmaxGate, SoftmaxKernel
from skmoe.gates._tree import GateTree, single_gate
from skmoe.gates._tree_kernel import TreeKernel

__all__ = [
    "assignment",
    "build_problem",
    "carry_over",
    "differ",
    "free_experts",
    "gate_columns",
    "informed_expert",
    "innermost_expert",
    "is_native",
    "plain_node",
    "responsibilities",
    "settle",
    "write_back",
]

Array = NDArray[np.float64]


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
    if not _has_own_kernel(kind) or sparse.issparse(X) or node.units is not None:
        return False
    alike = node.clones or all(
        type(expert) is kind and expert.get_params() == experts[0].get_params()
        for expert in experts
    )
    one_view = all(_same_columns(columns, node.columns[0]) for columns in node.columns)
    return alike and one_view and _has_kernel(node.gate, X, len(experts))


def _has_own_kernel(kind: type) -> bool:
    """Return whether a kernel does what the methods of a class do.

    A user's subclass may have changed them: it must bring its own.
    """
    known = kind.__module__.startswith("skmoe.") and hasattr(kind, "make_kernel")
    return known or "make_kernel" in vars(kind)


def informed_expert(expert: Any) -> Any:
    """Return the innermost expert, which knows its known columns, to be read only.

    Before `prepare` it is a copy: what the user gave is not written to.
    """
    inner = innermost_expert(expert)
    if inner is not expert and expert.known:
        inner = copy.copy(inner)
        inner.known = expert.known
    return inner


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


def free_experts(node: Node) -> list[int]:
    """Return the experts that learn from their rows, all but those of a fixed law.

    A noise expert or a point mass needs no rows of its own to start from.
    """
    return [
        k for k, (_, expert) in enumerate(node.experts) if not has_fixed_law(expert)
    ]


def differ(node: Node) -> bool:
    """Return whether no two experts that learn are of one kind on the same columns.

    Alike experts that start from the same rows would stay alike for ever. Networks
    count as one kind whatever their sizes: any of them can learn what another can.
    """
    seen = [
        (*_settings(node.experts[k][1]), repr(node.columns[k]))
        for k in free_experts(node)
    ]
    return len(set(seen)) == len(seen)


def _settings(expert: Any) -> tuple[type, str]:
    """Return what tells kinds of experts apart; seeds do not."""
    if getattr(expert, "counts_as_one_kind", False):
        return type(expert), ""
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
    if type(gate) is ExpandedGate:
        gate = gate.native
        return type(gate) is SoftmaxGate and gate.solver != "lbfgs"
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
    if isinstance(node, ChainNode):
        return ChainProblem(node, X, y, weight, node.units, n_classes)
    if node.units is not None:
        return UnitProblem(node, X, y, weight, node.units, n_classes=n_classes)
    if not is_native(node, X):
        node.prepare(X, y, weight, n_classes)
        kind = GradientProblem if node.by_gradient else NodeProblem
        return kind(node, X, y, weight)
    n_experts = len(node.experts)
    view = take_columns(X, node.columns[0])
    outer = node.experts[0][1]
    outer.prepare(view, y, weight, n_classes)
    first = innermost_expert(outer)
    expanded = view if outer is first else outer.expand(view)
    matrix = first.design_.of(first.features(expanded))
    experts = first.make_kernel(n_experts, shared=node.shared_dispersion)
    shared = first.design_ if outer is first else None
    gate, gate_matrix = _gate_kernel(node, X, weight, shared, matrix)
    rows = first.kernel_rows(expanded, y)
    parts = (gate, experts, gate_matrix, matrix, rows, weight)
    path_tol = getattr(node.gate, "path_tol", 0.0)
    problem = FusedNode(*parts)
    if path_tol > 0.0 and isinstance(gate, TreeKernel) and not is_foreign(weight):
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
        ones = zeros(weight, (1, weight.shape[0])) + 1.0
        return SoftmaxKernel(n_experts, np.zeros(1), 0.0), ones
    if isinstance(gate, ExpandedGate):
        gate.prepare(view, weight, n_experts)
        return gate.kernel_, gate.design_.of(gate.expand(view))
    same = _same_columns(columns, node.columns[0])
    same = same and not getattr(innermost_expert(node.experts[0][1]), "known", ())
    if design is None or not same or not design.intercept:
        design = Design(view, weight)
        matrix = design.of(view)
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
    if isinstance(problem, FusedNode):
        problem.e_step()
    write_back(problem, node)


def responsibilities(node: Node, X: Any, y: Array, weight: Array) -> Array:
    """Return what each expert of a fitted node is answerable for, (n_experts, n)."""
    if isinstance(node, ChainNode):
        return node.passage(X, y, node.units).smoothed
    if node.units is not None:
        bound = UnitProblem(node, X, y, weight, node.units, prepare=False)
        return bound.responsibilities()
    return posterior(node.joint(X, y))[0]


def carry_over(problem: FusedNode, node: Node, dead: Sequence[int]) -> None:
    """Give a problem without some leaves the parameters of a fitted node.

    Both stand on the same rows, and so on the same designs.
    """
    gate: Any = node.gate
    tree: Tree = gate.tree
    alive = np.setdiff1d(np.arange(tree.n_leaves), dead)
    kernels = [innermost_expert(node.experts[k][1]).kernel_ for k in alive]
    for name in ("coef", "variance", "shapes"):
        if hasattr(problem.experts, name):
            parts = [getattr(kernel, name) for kernel in kernels]
            setattr(problem.experts, name, np.concatenate(parts))
    coefs = []
    for i, children in tree.remaining_choices(dead):
        coef = gate.gates[i].kernel_.coef[children]
        # Zeros of a lasso would not outlive the centring.
        shift = coef.mean(axis=0) if getattr(gate.gates[i], "smooth", True) else 0.0
        coefs.append(coef - shift)
    if isinstance(problem.gate, TreeKernel):
        problem.gate.join(coefs)
    elif coefs:
        problem.gate.coef = coefs[0]
