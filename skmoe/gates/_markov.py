"""Gates of a chain: one for the first row, one for each expert of the row before."""

import numpy as np

from skmoe._xp import take_columns
from skmoe.gates._constant import ConstantGate
from skmoe.gates._expanded import copied_gate
from skmoe.gates._several import SeveralGates

__all__ = ["MarkovGate"]


class MarkovGate(SeveralGates):
    """The law of a row's expert, given the row's inputs and the expert before.

    ``a_ij(x_t)``, how probable expert j is in a row when expert i had the row before,
    is a gate of its own for each i (Meila & Jordan 1996; Bengio & Frasconi 1995).

    Parameters
    ----------
    initial : Gate or None
        For the first row of a sequence; None where the gate is blind to the past.
    transitions : list of Gate
        One for each expert, or a single one that is blind to the past: rows are then
        independent, as in a flat mixture.
    columns : list [initial, transitions] of (sequence of int or None), default=None
        The columns that the gates see; None for all.

    References
    ----------
    Meila, M. and Jordan, M. I. (1996). Learning fine motion by Markov mixtures of
    experts. NIPS 8.
    Bengio, Y. and Frasconi, P. (1995). An input output HMM architecture. NIPS 7.
    """

    def __init__(self, initial, transitions, columns=None):
        self.initial = initial
        self.transitions = transitions
        self.columns = columns

    def __copy__(self):
        initial = None if self.initial is None else copied_gate(self.initial)
        gates = [copied_gate(gate) for gate in self.transitions]
        return MarkovGate(initial, gates, self.columns)

    @property
    def gates(self):
        """All gates, the initial one first."""
        return [*([] if self.initial is None else [self.initial]), *self.transitions]

    @property
    def is_constant(self):
        """Whether the transitions do not depend on inputs."""
        return all(isinstance(gate, ConstantGate) for gate in self.transitions)

    @property
    def exact_m_step(self):
        """Whether no gate's M-step can lower the objective."""
        return all(gate.exact_m_step for gate in self.gates)

    def _view(self, X, part):
        return X if self.columns is None else take_columns(X, self.columns[part])

    def prepare(self, X, weight, n_experts):
        """Let every gate fix its scales and priors on all rows.

        Raises
        ------
        ValueError
            If a gate models x itself: its M-step would climb another objective.
        """
        for gate in self.gates:
            if getattr(gate, "generative", False):
                raise ValueError(
                    "the gates of a Markov mixture must be conditional on x, got "
                    f"{gate!r}; use SoftmaxGate."
                )
        if self.initial is not None:
            self.initial.prepare(self._view(X, 0), weight, n_experts)
        view = self._view(X, 1)
        for gate in self.transitions:
            gate.prepare(view, weight, n_experts)

    def log_initial(self, X):
        """Return the law of the expert in the first rows, (n_experts, n_sequences)."""
        if self.initial is None:
            return self.log_blind(X)
        return np.ascontiguousarray(self.initial.log_proba(self._view(X, 0)).T)

    def log_blind(self, X):
        """Return the law of the expert for a gate that is blind to the past."""
        return np.ascontiguousarray(self.transitions[0].log_proba(self._view(X, 1)).T)

    def log_transition(self, X):
        """Return transitions into rows, (n_experts, n_experts, n_samples or 1)."""
        if self.is_constant:
            rows = np.array([gate.log_weight_ for gate in self.transitions])
            return np.broadcast_to(rows, (rows.shape[1],) * 2)[..., None]
        view = self._view(X, 1)
        logs = np.array([gate.log_proba(view).T for gate in self.transitions])
        return np.broadcast_to(logs, (logs.shape[1], *logs.shape[1:]))

    def m_step(self, X, chains, passage, weight):
        """Fit every gate to what is known of pairs of experts.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
        chains : Chains
        passage : Passage
            See `skmoe.em._forward_backward`.
        weight : array of shape (n_samples,)
        """
        if self.initial is None:
            resp = np.ascontiguousarray(passage.smoothed.T)
            self.transitions[0].m_step(self._view(X, 1), resp, weight)
            return
        first = chains.first
        resp = np.ascontiguousarray(passage.smoothed[:, first].T)
        self.initial.m_step(self._view(X[first], 0), resp, weight[first])
        rows, _ = chains.followers
        if rows.size == 0:
            return  # no row follows another: nothing is known of transitions
        least = 1e-12 * float(weight[rows].sum())
        if self.is_constant:
            self._constant_m_step(X, passage.pairs, least)
            return
        view, weight = self._view(X[rows], 1), weight[rows]
        for gate, pairs in zip(self.transitions, passage.pairs, strict=True):
            mass = pairs.sum(axis=0)
            if float(weight @ mass) <= least:
                continue  # no row follows this expert
            seen = mass > 0.0
            share = np.where(seen, pairs / np.where(seen, mass, 1.0), 1.0 / len(pairs))
            gate.m_step(view, np.ascontiguousarray(share.T), weight * mass)

    def _constant_m_step(self, X, counts, least):
        """Count transitions: a sum says what the rows of a constant gate say."""
        for gate, count in zip(self.transitions, counts, strict=True):
            total = count.sum()
            if total > least:
                gate.m_step(X[:1], (count / total)[None], np.array([total]))
