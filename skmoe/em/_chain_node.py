"""A node whose rows follow each other, and the problem that it is in a fit.

The E-step is one passage through all sequences; the M-step fits experts to the smoothed
responsibilities, and each gate to pairs of them. Experts are those of any other node.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from skmoe.em._chains import Chains
from skmoe.em._forward_backward import (
    Passage,
    best_path,
    independent,
    moved,
    passage,
)
from skmoe.em._node import Node
from skmoe.em._node_problem import NodeProblem, in_pass

__all__ = ["ChainNode", "ChainProblem"]

Array = NDArray[np.float64]


class ChainNode(Node):
    """A `MarkovGate` over experts; ``units`` are the `Chains` of the rows at hand."""

    def log_densities(self, X: Any, y: Array, chains: Chains) -> Array:
        """Return the experts' log densities, (n_experts, n_samples).

        A missing response says nothing: zero. An expert that is known not to have a
        row has -inf there.
        """
        joint = np.zeros((len(self.experts), y.shape[0]))
        if chains.labelled is None or chains.labelled.any():
            self.add_densities(joint, X, y)
        if chains.labelled is not None:
            joint[:, ~chains.labelled] = 0.0
        if chains.state is not None:
            known = np.flatnonzero(chains.state >= 0)
            own = joint[chains.state[known], known]
            joint[:, known] = -np.inf
            joint[chains.state[known], known] = own
        return joint

    def passage(
        self, X: Any, y: Array, chains: Chains, weight: Array | None = None
    ) -> Passage:
        """Return what the responses say of the experts of all rows."""
        gate: Any = self.gate
        density = self.log_densities(X, y, chains)
        if gate.initial is None:
            resp, log_prob = self.assign(gate.log_blind(X) + density)
            found = Passage(log_prob, resp, resp, [])
        else:
            first, log_transition = self.log_first(X, chains), gate.log_transition(X)
            found = passage(first, log_transition, density, chains, weight)
        if chains.labelled is not None and chains.state is None:
            found.log_prob[~chains.labelled] = 0.0  # to the last digit
        return found

    def log_first(self, X: Any, chains: Chains) -> Array:
        """Return the law of the expert in first rows, (n_experts, n_sequences)."""
        gate: Any = self.gate
        rows = X[chains.first]
        if chains.previous is None or gate.initial is None:
            return np.asarray(gate.log_initial(rows))
        return moved(chains.previous, gate.log_transition(rows))

    def unseen(self, X: Any, chains: Chains) -> Array:
        """Return the law of the expert in each row where no response is known."""
        gate: Any = self.gate
        nothing = np.zeros((len(self.experts), chains.n_rows))
        first, log_transition = self.log_first(X, chains), gate.log_transition(X)
        return passage(first, log_transition, nothing, chains).filtered

    def best_path(self, X: Any, y: Array, chains: Chains) -> Any:
        """Return the most probable experts of each sequence, and log densities."""
        gate: Any = self.gate
        density = self.log_densities(X, y, chains)
        return best_path(
            self.log_first(X, chains), gate.log_transition(X), density, chains
        )

    def log_prob(self, X: Any, y: Array) -> Array:
        """Return log p(y_t | x, y before t) in nats, and keep the responsibilities.

        Sets: ``resp`` of shape (n_experts, n_samples).
        """
        chains = Chains.single(y.shape[0]) if self.units is None else self.units
        self.found = self.passage(X, y, chains)
        self.resp = self.found.smoothed
        return self.found.log_prob

    def forget(self) -> None:
        """Drop everything that belongs to the training rows."""
        super().forget()
        vars(self).pop("found", None)


class ChainProblem(NodeProblem):
    """A node bound to rows that follow each other.

    Parameters
    ----------
    node : ChainNode
    X, y, weight : the rows, validated
        Responses of unlabelled rows are placeholders; a sequence has one weight.
    chains : Chains
    n_classes : int or None
    """

    # A sum of equal ones with weights that add up to one is equal again.
    extrapolates_ties = True

    def __init__(
        self,
        node: ChainNode,
        X: Any,
        y: Array,
        weight: Array,
        chains: Chains,
        n_classes: int | None = None,
    ) -> None:
        self.chains = chains
        self.expert_weight = weight
        if chains.labelled is not None:
            self.expert_weight = weight * chains.labelled
        node.prepare_parts(X, weight, X, y, self.expert_weight, n_classes)
        super().__init__(node, X, y, weight)

    def start(
        self, resp: Array, gate_steps: int = 1, gate_parameters: Array | None = None
    ) -> None:
        """Fit all parts to given responsibilities of the rows, as if independent."""
        self.n_passes = 0
        self.restore(self.origin)
        if self.chains.state is not None:
            resp = self._with_known(np.array(resp))
        gate: Any = self.node.gate
        found = independent(resp, self.chains, self.weight, gate.is_constant)
        self._fit_to(found)
        for _ in range(gate_steps - 1 if gate.exact_m_step else 0):
            gate.m_step(self.X, self.chains, found, self.weight)

    def _with_known(self, resp: Array) -> Array:
        """Give rows whose expert is known to it, and experts the names that fit.

        A start that tells the experts apart under other names would be trapped.
        """
        state = self.chains.state
        assert state is not None
        known = np.flatnonzero(state >= 0)
        agreement = np.zeros((len(resp), len(resp)))
        np.add.at(agreement, state[known], resp[:, known].T)
        resp = resp[linear_sum_assignment(agreement, maximize=True)[1]]
        resp[:, known] = 0.0
        resp[state[known], known] = 1.0
        return resp

    def e_step(self) -> float:
        """Return the log-likelihood and keep what is known of the experts."""
        self.n_passes += 1
        node: Any = self.node
        with in_pass(self.n_passes):
            self.found = node.passage(self.X, self.y, self.chains, self.weight)
        node.resp = self.found.smoothed
        return float(self.weight @ self.found.log_prob)

    def m_step(self) -> None:
        """Fit all parts to what the last E-step found."""
        self._fit_to(self.found)

    def _fit_to(self, found: Passage) -> None:
        gate: Any = self.node.gate
        with in_pass(self.n_passes):
            gate.m_step(self.X, self.chains, found, self.weight)
            weights = self.expert_weight * found.smoothed
            self.node.experts_m_step(self.X, self.y, weights)

    def responsibilities(self) -> Array:
        """Return smoothed responsibilities at the current parameters."""
        node: Any = self.node
        found: Passage = node.passage(self.X, self.y, self.chains)
        return found.smoothed
