"""Gates as softmaxes of linear scores, for information matrices."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skmoe._terms import CoefficientMap, contrast_map, design_map
from skmoe.gates._constant import ConstantGate
from skmoe.gates._expanded import ExpandedGate
from skmoe.gates._softmax import SoftmaxGate
from skmoe.gates._tree import GateTree

__all__ = ["GateNode", "gate_nodes"]

Array = NDArray[np.float64]


class GateNode(NamedTuple):
    """One softmax of a gate; a tree has one at each inner node.

    Attributes
    ----------
    name : str
        "gate", or "gate of node 3".
    gate : Gate
    columns : sequence of int or None
        The columns of X that it sees; None: those that the whole gate sees.
    child : array of int of shape (n_experts,)
        Which of its children an expert lies below, -1 for none.
    """

    name: str
    gate: Any
    columns: Any
    child: NDArray[np.intp]

    @property
    def native(self) -> Any:
        """The gate on its transformed columns, where it is an expanded one."""
        return self.gate.native if isinstance(self.gate, ExpandedGate) else self.gate

    @property
    def obstacle(self) -> str:
        """Why it has no standard errors; empty where it has."""
        native = self.native
        if isinstance(native, ConstantGate):
            return ""
        if not isinstance(native, SoftmaxGate):
            return f"a {type(native).__name__} has no linear scores"
        return "" if native.smooth else "its L1 penalty has kinks"

    def rows(self, X: Any) -> tuple[Array, Array]:
        """Return design (n_samples, n_columns) and probabilities (n, n_children)."""
        view = X if self.columns is None else X[:, self.columns]
        proba = np.exp(np.asarray(self.gate.log_proba(view)))
        if isinstance(self.native, ConstantGate):
            return np.ones((X.shape[0], 1)), proba
        if isinstance(self.gate, ExpandedGate):
            view = self.gate.expand(view)
        return self.native.design_.matrix(view).T, proba

    def coefficient_map(self) -> CoefficientMap:
        """Return what its parameters mean: log odds against the first child."""
        n_children = int(self.child.max()) + 1
        if isinstance(self.native, ConstantGate):
            return contrast_map(np.eye(1), [-1], n_children)
        return contrast_map(*design_map(self.native.design_), n_children)

    def coefficient_vector(self) -> Array:
        """Return coefficients of the scores on the design, child by child."""
        return np.asarray(self.native.parameters)

    def penalty_curvature(self) -> Array:
        """Return second derivatives of the log prior in the coefficients."""
        native = self.native
        if isinstance(native, ConstantGate):
            share = native.weights_
            spread = np.diag(share) - np.outer(share, share)
            return -float(native.alpha) * share.size * spread
        kernel = native.kernel_
        return -np.diag(np.tile(kernel.ridge, kernel.n_experts))


def gate_nodes(gate: Any, n_experts: int) -> list[GateNode]:
    """Return the softmaxes of a fitted gate, those of a tree from the root down."""
    if not isinstance(gate, GateTree):
        return [GateNode("gate", gate, None, np.arange(n_experts))]
    nodes, tree = [], gate.tree
    for i, number in enumerate(tree.inner):
        child = np.full(tree.n_leaves, -1)
        for k, leaf in enumerate(tree.leaves):
            path = list(tree.path(leaf))
            if number in path:
                below = path[path.index(number) + 1]
                child[k] = list(tree.children[number]).index(below)
        columns = None if gate.columns is None else gate.columns[i]
        name = "gate" if len(tree.inner) == 1 else f"gate of node {number}"
        nodes.append(GateNode(name, gate.gates[i], columns, child))
    return nodes
