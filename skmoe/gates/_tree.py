"""A tree of gates over the leaves: any gate at any node."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from skmoe._xp import is_foreign, like, namespace, take_columns, total, zeros
from skmoe.gates._constant import ConstantGate
from skmoe.gates._descent import descend_gathered, descend_stacked
from skmoe.gates._expanded import copied_gate
from skmoe.gates._markov import MarkovGate
from skmoe.gates._several import SeveralGates
from skmoe.gates._softmax import SoftmaxGate
from skmoe.gates._tree_kernel import TreeKernel

__all__ = [
    "GateTree",
    "is_generative",
    "log_normalised",
    "single_gate",
    "softmax_gates",
]

# Wider designs, or more gates: each gate then chooses its own solver.
MAX_BATCH_COLUMNS = 300
MAX_BATCH_GRAMS = 4e7


class GateTree(SeveralGates):
    """Gates at the inner nodes of a tree, together one gate over its leaves.

    The probability of a leaf is the product of the gates along its path. In an
    M-step every gate is fitted to its own conditional posterior, with the
    posterior of its node as weight: the EM of Jordan and Jacobs (1994).

    Parameters
    ----------
    tree : Tree
    gates : list of Gate
        One for each of ``tree.inner``.
    columns : list of (sequence of int or None), default=None
        The columns that each gate sees.
    path_tol : float, default=0.0
        Subtrees that a row reaches with less probability are left out for it; the
        rest is renormalised. The most probable path always stays.
    """

    def __init__(self, tree, gates, columns=None, path_tol=0.0):
        self.tree = tree
        self.gates = gates
        self.columns = columns
        self.path_tol = path_tol

    def __copy__(self):
        gates = [copied_gate(gate) for gate in self.gates]
        copied = GateTree(self.tree, gates, self.columns, self.path_tol)
        if hasattr(self, "design_"):
            copied.design_ = self.design_
        return copied

    @property
    def exact_m_step(self):
        """Whether no gate's M-step can lower the objective.

        A generative gate fits its columns as well as its children; below the root
        only the latter counts.
        """
        below = any(is_generative(gate) for gate in self.gates[1:])
        every = all(gate.exact_m_step for gate in self.gates)
        return self.path_tol == 0.0 and every and not below

    def view(self, X, i):
        """Return the columns that gate i sees."""
        columns = None if self.columns is None else self.columns[i]
        return take_columns(X, columns)

    @property
    def _one_view(self):
        """Whether all gates see the same columns."""
        return self.columns is None or all(c == self.columns[0] for c in self.columns)

    def check_parameters(self):
        """Raise a ValueError that names the first bad argument of a gate."""
        for gate in self.gates:
            gate.check_parameters()

    def prepare(self, X, weight, n_experts):
        """Let every gate fix its scales and priors on all rows."""
        for i, node in enumerate(self.tree.inner):
            n_children = len(self.tree.children[node])
            self.gates[i].prepare(self.view(X, i), weight, n_children)

    def m_step(self, X, resp, weight):
        """Fit every gate to its conditional posterior.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
        resp : array of shape (n_samples, n_leaves)
        weight : array of shape (n_samples,)
        """
        if len(self.gates) == 1:  # conditional and joint posterior are the same
            self.gates[0].m_step(self.view(X, 0), resp, weight)
            return
        mass, xp, least = self._masses(resp), namespace(resp), 1e-12 * total(weight)
        for i, node in enumerate(self.tree.inner):
            children = self.tree.children[node]
            own = mass[node]
            if float(weight @ own) <= least:
                continue  # nothing to learn from
            below = xp.stack([mass[child] for child in children], axis=1)
            reached = own[:, None] > 0.0
            share = below / xp.where(reached, own[:, None], 1.0)
            conditional = xp.where(reached, share, 1.0 / len(children))
            self.gates[i].m_step(self.view(X, i), conditional, weight * own)

    def _masses(self, resp):
        """Return the posterior of each node, the sum over its leaves."""
        mass = {node: resp[:, k] for k, node in enumerate(self.tree.leaves)}
        for node in reversed(self.tree.inner):
            mass[node] = sum(mass[child] for child in self.tree.children[node])
        return mass

    def log_proba(self, X):
        """Return log probabilities of the leaves, (n_samples, n_leaves).

        With ``path_tol`` they are -inf where a path was left out.
        """
        if self.path_tol > 0.0:
            return self._pruned(X, "log_proba", renormalise=True)
        return self._leaves(X, "log_proba")

    def log_joint(self, X):
        """Return what the E-step adds: the root's log joint, the others' gates.

        A density of x counts once, whatever the depth of a leaf.
        """
        if self.path_tol > 0.0:
            return self._pruned(X, "log_joint", renormalise=False)
        return self._leaves(X, "log_joint")

    def _leaves(self, X, method):
        reach = {0: zeros(X, (X.shape[0],))}
        for i, node in enumerate(self.tree.inner):
            log_gate = self._log_gate(i, self.view(X, i), method)
            for j, child in enumerate(self.tree.children[node]):
                reach[child] = reach[node] + log_gate[:, j]
        parts = [reach[leaf] for leaf in self.tree.leaves]
        return namespace(parts[0]).stack(parts, axis=1)

    def _log_gate(self, i, view, method):
        return getattr(self.gates[i], method if i == 0 else "log_proba")(view)

    def _pruned(self, X, method, *, renormalise):
        """Evaluate each gate only on the rows that reach its node."""
        every = np.arange(X.shape[0])
        zero = np.zeros(every.size)
        parts = {0: _Reached(every, zero, zero, np.ones(every.size, dtype=bool))}
        for i, node in enumerate(self.tree.inner):
            part, children = parts.pop(node), self.tree.children[node]
            if part.rows.size == 0:
                parts.update(dict.fromkeys(children, part))
                continue
            view = self.view(X, i)[part.rows]
            log_gate = np.asarray(self.gates[i].log_proba(view))
            added = log_gate
            if is_generative(self.gates[i]):
                added = np.asarray(self._log_gate(i, view, method))
            below = part.below(log_gate, added, np.log(self.path_tol))
            parts.update(zip(children, below, strict=True))
        out = np.full((every.size, self.tree.n_leaves), -np.inf)
        for k, leaf in enumerate(self.tree.leaves):
            out[parts[leaf].rows, k] = parts[leaf].value
        return log_normalised(out) if renormalise else out

    def descend(self, X):
        """Follow the most probable child from the root.

        Returns
        -------
        leaf : array of int of shape (n_samples,)
            Numbers of the leaves. Only the gates on a row's path are evaluated
            for it, where rows are NumPy's or all gates are softmax gates of two.
        """
        batch = self._stacked()
        number = np.zeros(self.tree.n_nodes, dtype=np.intp)
        number[self.tree.leaves] = np.arange(self.tree.n_leaves)
        if is_foreign(X):
            step = descend_gathered if batch else self._descend_all
            number = like(X, number.astype(np.int64))
            return namespace(X).take(number, step(X, *(batch or ())))
        node_of = descend_stacked(X, *batch) if batch else self._descend_each(X)
        return number[node_of]

    def _descend_all(self, X):
        """Return the node of the leaf of each row: every gate on all rows at once."""
        xp = namespace(X)
        node_of = xp.astype(zeros(X, (X.shape[0],)), xp.int64)
        for i, node in enumerate(self.tree.inner):
            winner = xp.argmax(self.gates[i].log_proba(self.view(X, i)), axis=1)
            children = like(X, np.array(self.tree.children[node], dtype=np.int64))
            node_of = xp.where(node_of == node, xp.take(children, winner), node_of)
        return node_of

    def _descend_each(self, X):
        """Return the node of the leaf of each row, gate by gate."""
        node_of = np.zeros(X.shape[0], dtype=np.intp)
        for i, node in enumerate(self.tree.inner):
            rows = np.flatnonzero(node_of == node)
            if rows.size:
                log_gate = np.asarray(self.gates[i].log_proba(self.view(X, i)[rows]))
                children = np.array(self.tree.children[node], dtype=np.intp)
                node_of[rows] = children[log_gate.argmax(axis=1)]
        return node_of

    def _stacked(self):
        """Return binary softmax gates of one view as arrays; None for others."""
        binary = all(len(self.tree.children[node]) == 2 for node in self.tree.inner)
        if not (self._one_view and binary and softmax_gates(self)):
            return None
        plane = np.zeros((self.tree.n_nodes, self.gates[0].coef_.shape[1] + 1))
        child = np.zeros((self.tree.n_nodes, 2), dtype=np.intp)
        for gate, node in zip(self.gates, self.tree.inner, strict=True):
            plane[node, 1:] = gate.coef_[1] - gate.coef_[0]
            plane[node, 0] = gate.intercept_[1] - gate.intercept_[0]
            child[node] = self.tree.children[node]
        columns = None if self.columns is None else self.columns[0]
        return columns, plane, child, self.tree.level[self.tree.leaves]

    def kernel(self, n_columns):
        """Return the gates as one batch, or None where they are not alike.

        Parameters
        ----------
        n_columns : int
            Columns of their design, the intercept included.
        """
        first = self.gates[0]
        alike = all(
            type(gate) is SoftmaxGate
            and (gate.alpha, gate.solver) == (first.alpha, first.solver)
            and gate.l1_ratio == 0  # steps of a batch are Newton's, without L1
            for gate in self.gates
        )
        small = (
            n_columns <= MAX_BATCH_COLUMNS
            and len(self.gates) * n_columns**2 <= MAX_BATCH_GRAMS
        )
        fused = alike and first.solver in ("auto", "newton")
        if not (fused and self._one_view and small):
            return None
        penalised = np.ones(n_columns)
        penalised[0] = 0.0
        return TreeKernel(self.tree, penalised, first.alpha)

    def take_coefficients(self, kernel, design):
        """Give each gate its coefficients from a batch that was fitted.

        Parameters
        ----------
        kernel : TreeKernel
        design : Design
        """
        for gate, coef in zip(self.gates, kernel.split(), strict=True):
            gate.design_ = design
            gate.kernel_ = gate.make_kernel(design, coef.shape[0])
            gate.kernel_.coef = coef


@dataclass
class _Reached:
    """The rows that reach a node.

    Attributes
    ----------
    rows : array of int
    log_reach : array
        Log probability of the path down to here.
    value : array
        What the path adds to the joint log density.
    best : array of bool
        Whether this is the row's most probable path.
    """

    rows: Any
    log_reach: Any
    value: Any
    best: Any

    def below(self, log_gate, added, log_tol):
        """Yield what reaches each child."""
        winner = log_gate.argmax(axis=1)
        for j in range(log_gate.shape[1]):
            log_reach = self.log_reach + log_gate[:, j]
            best = self.best & (winner == j)
            kept = best | (log_reach >= log_tol)
            value = (self.value + added[:, j])[kept]
            yield _Reached(self.rows[kept], log_reach[kept], value, best[kept])


def log_normalised(log_proba):
    """Return log probabilities whose rows sum to 1; -inf stays."""
    xp = namespace(log_proba)
    peak = xp.max(log_proba, axis=1, keepdims=True)
    total = xp.sum(xp.exp(log_proba - peak), axis=1, keepdims=True)
    return log_proba - (peak + xp.log(total))


def is_generative(gate):
    """Return whether a gate models its columns, not only its children."""
    return bool(getattr(gate, "generative", False))


def single_gate(gate):
    """Return the only gate of a tree of one node; any other gate itself.

    A tree that is a leaf has nothing to choose: a constant gate stands for it. Of the
    gates of a chain, which are alike, the first one that knows the row before does.
    """
    if isinstance(gate, MarkovGate):
        return gate.transitions[0]
    if not isinstance(gate, GateTree) or len(gate.gates) > 1:
        return gate
    return gate.gates[0] if gate.gates else ConstantGate()


def softmax_gates(gate):
    """Return the softmax gates that a gate consists of, none if others are there."""
    gates = gate.gates if isinstance(gate, GateTree | MarkovGate) else [gate]
    return gates if all(isinstance(g, SoftmaxGate) for g in gates) else []
