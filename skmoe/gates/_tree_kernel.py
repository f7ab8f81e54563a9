"""Numerics of the softmax gates of a tree, all gates of a level as one batch.

A tree of gates over experts is one gate over its leaves: the probability of a
leaf is the product of the gates along its path. So the engine's fused node works
on a tree as it does on a flat mixture, with this kernel in place of
`SoftmaxKernel`. With h_m the posterior of node m (the sum over its leaves) and
h_mj that of its child j, one pass of EM sums for every gate

    gradient  G_mj  = sum w (h_mj - h_m g_mj) z - alpha v_mj
    Hessian   H_mjl = -sum w h_m g_mj (delta_jl - g_ml) z z' - alpha delta_jl

that is, each gate is fitted to its own conditional posterior h_mj / h_m with its
parent's posterior as weight (Jordan & Jacobs 1994, section 3).
"""

import copy

import numpy as np

from skmoe._blocks import unpack_grams
from skmoe._multinomial import (
    MAX_LOGIT_STEP,
    fill_pairs,
    log_softmax_first,
    n_pairs,
    newton_directions,
)
from skmoe._tree import LevelPlan
from skmoe._xp import concatenate, is_foreign, like, namespace

__all__ = ["TreeKernel"]


class TreeKernel:
    """Alike softmax gates at all inner nodes of a tree.

    Coefficients of all gates lie in one matrix: first those of the group of gates
    with the fewest children, child by child (see `LevelPlan`).

    Parameters
    ----------
    tree : Tree
    penalised : array of shape (n_columns,)
        One where the ridge acts.
    alpha : float
        Ridge: the log prior is ``-alpha / 2 * sum(coef ** 2)``.
    """

    constant = gram_of_weight = False
    exact_m_step = False
    smooth = True

    def __init__(self, tree, penalised, alpha):
        self.tree = tree
        self.ridge = alpha * penalised
        self.plan = LevelPlan(tree)
        self.n_experts = tree.n_leaves
        self.coef = np.zeros((self.n_score_rows, penalised.size))
        inner = np.array(tree.inner, dtype=np.intp)
        self._arity = np.array([len(some) for some in tree.children])
        self._rows_of_node = np.zeros((tree.n_nodes, self._widest()), dtype=np.intp)
        self._children = np.zeros_like(self._rows_of_node)
        for node in tree.inner:
            self._children[node, : self._arity[node]] = tree.children[node]
        for (b, gates), (_, count, _, rows) in zip(
            self.plan.groups, self._groups(), strict=True
        ):
            numbers = np.arange(rows.start, rows.stop).reshape(b, count)
            self._rows_of_node[inner[gates], :b] = numbers.T

    def _widest(self):
        return max((b for b, _ in self.plan.groups), default=0)

    @property
    def n_gram_rows(self):
        """Weight columns whose grams a pass must sum: pairs of siblings."""
        return sum(n_pairs(b) * len(gates) for b, gates in self.plan.groups)

    @property
    def n_score_rows(self):
        """Weight columns whose sums with the design a pass must form."""
        return sum(b * len(gates) for b, gates in self.plan.groups)

    @property
    def penalty(self):
        """Log prior density of the coefficients, up to a constant."""
        return -0.5 * float(((self.coef * self.coef) @ self.ridge).sum())

    def restrict(self, plan, rows):
        """Return a kernel of some paths, to work on rows that reach only them.

        Parameters
        ----------
        plan : LevelPlan
        rows : array of int
            Score rows of the plan's gates, as `rows_of` gives them.
        """
        part = copy.copy(self)
        part.plan = plan
        part.n_experts = plan.leaves.size
        part.coef = self.coef[rows]
        return part

    def rows_of(self, plan):
        """Return which gram rows and score rows belong to the gates of a plan."""
        wanted = dict(plan.groups)
        grams, scores = [], []
        i = j = 0
        for b, gates in self.plan.groups:
            pairs = n_pairs(b)
            here = np.searchsorted(gates, wanted.get(b, gates[:0]))
            gram = i + np.arange(pairs * len(gates)).reshape(pairs, -1)
            score = j + np.arange(b * len(gates)).reshape(b, -1)
            grams.append(gram[:, here].ravel())
            scores.append(score[:, here].ravel())
            i, j = i + gram.size, j + score.size
        return np.concatenate(grams), np.concatenate(scores)

    def log_proba(self, design):
        """Return log probabilities of the leaves, of shape (n_leaves, n_rows).

        Sets: ``_proba``, each group's gates, of shape (n_children, n_gates, n_rows).
        """
        xp, n_rows = namespace(design), design.shape[1]
        logit = like(design, self.coef) @ design
        log_gates, self._proba = [], []
        for b, gates, _, scores in self._groups():
            of_group = xp.reshape(logit[scores, :], (b, gates, n_rows))
            log_gate, proba = log_softmax_first(of_group)
            log_gates.append(log_gate)
            self._proba.append(proba)
        below = self._below(design)
        if below is not None:
            flat = [xp.reshape(part, (-1, n_rows)) for part in log_gates]
            return below.T @ (flat[0] if len(flat) == 1 else concatenate(flat))
        reach = np.empty((self.plan.n_slots, n_rows))
        reach[0] = 0.0
        for step in self.plan.steps:
            above = reach[step.parents]
            for log_gate, children in zip(
                log_gates[step.group], step.children, strict=True
            ):
                reach[children] = above + log_gate[step.gates]
        return reach[self.plan.leaf_slots]

    def _below(self, array):
        """Return the plan's edges beside an array; None where its steps are walked."""
        if is_foreign(array):
            return like(array, self.plan.edges_to_leaves)
        return self.plan.below

    def _groups(self):
        """Yield number of children, of gates, gram rows and score rows."""
        i = j = 0
        for b, gates in self.plan.groups:
            k, s = i + n_pairs(b) * len(gates), j + b * len(gates)
            yield b, len(gates), slice(i, k), slice(j, s)
            i, j = k, s

    def fill(self, gram_rows, score_rows, weighted_resp, weight):
        """Write the weight rows of the block that `log_proba` saw last."""
        xp, n_rows = namespace(weighted_resp), weighted_resp.shape[1]
        below = self._below(weighted_resp)
        if below is None:
            self._fill_by_level(score_rows, weighted_resp)
        elif xp is np:
            np.matmul(below, weighted_resp, out=score_rows)
        else:
            score_rows[...] = below @ weighted_resp
        for (b, gates, pairs, rows), proba in zip(
            self._groups(), self._proba, strict=True
        ):
            score = xp.reshape(score_rows[rows, :], (b, gates, n_rows))
            total = xp.sum(score, axis=0)  # the posterior of each gate's node
            score -= total * proba
            shape = (n_pairs(b), gates, n_rows)
            fill_pairs(xp.reshape(gram_rows[pairs, :], shape), proba, total)

    def _fill_by_level(self, score_rows, weighted_resp):
        """Write the posterior of each node's children, summed from the leaves up."""
        n_rows = weighted_resp.shape[1]
        mass = np.empty((self.plan.n_slots, n_rows))
        mass[-1] = 0.0
        mass[self.plan.leaf_slots] = weighted_resp
        scores = [
            score_rows[rows].reshape(b, gates, n_rows)
            for b, gates, _, rows in self._groups()
        ]
        for step in reversed(self.plan.steps):
            total = 0.0
            for score, children in zip(scores[step.group], step.children, strict=True):
                score[step.gates] = mass[children]
                total = total + score[step.gates]
            mass[step.parents] = total

    def walk(self, design, log_tol):
        """Follow the paths that some row of a block takes.

        Parameters
        ----------
        design : array of shape (n_columns, n_rows)
        log_tol : float
            Least log probability of a path.

        Returns
        -------
        active : array of bool of shape (n_nodes,)
            Nodes that a row reaches, or that lie on its most probable path.
        best : array of int of shape (n_rows,)
            The node of the leaf at the end of that path.
        """
        active = np.zeros(self.tree.n_nodes, dtype=bool)
        best = np.zeros(design.shape[1], dtype=np.intp)
        nodes, reach = np.zeros(1, dtype=np.intp), np.zeros((1, design.shape[1]))
        while nodes.size:
            active[nodes] = True
            below = [(nodes[:0], reach[:0])]
            for b, _ in self.plan.groups:
                here = self._arity[nodes] == b
                if here.any():
                    level = (nodes[here], reach[here])
                    below.append(self._walk_level(*level, b, design, log_tol, best))
            nodes = np.concatenate([found for found, _ in below])
            reach = np.concatenate([log_reach for _, log_reach in below])
        return active, best

    def _walk_level(self, nodes, reach, b, design, log_tol, best):
        """Return the children that are followed and their log reach; moves best."""
        rows = self._rows_of_node[nodes, :b].T.ravel()
        logit = (self.coef[rows] @ design).reshape(b, nodes.size, -1)
        log_gate = log_softmax_first(logit)[0]
        log_reach = (log_gate + reach).transpose(1, 0, 2)
        children = self._children[nodes, :b]
        place = np.full(self.tree.n_nodes, -1)
        place[nodes] = np.arange(nodes.size)
        mine = np.flatnonzero(place[best] >= 0)
        at = place[best[mine]]
        best[mine] = children[at, log_gate[:, at, mine].argmax(axis=0)]
        chosen = np.zeros(self.tree.n_nodes, dtype=bool)
        chosen[best[mine]] = True
        kept = (log_reach.max(axis=2) >= log_tol) | chosen[children]
        return children[kept], log_reach[kept]

    def take(self, half_grams, score, total_weight):
        """Receive the sums of one pass over all rows."""
        self._half_grams = half_grams
        self.gradient = score.T - self.ridge * self.coef

    def precondition(self, vector):
        """Apply the inverse of the complete-data information, gate by gate."""
        vector = vector.reshape(self.coef.shape)
        p = vector.shape[1]
        out = np.empty_like(vector)
        for b, gates, pairs, rows in self._groups():
            grams = unpack_grams(self._half_grams[:, pairs], p)
            gradient = vector[rows].reshape(b, gates, p).transpose(1, 0, 2)
            step = newton_directions(
                grams.reshape(-1, gates, p, p), gradient, self.ridge
            )
            out[rows] = step.transpose(1, 0, 2).reshape(-1, p)
        return out

    def propose(self):
        """Compute the damped Newton step of this pass for every gate."""
        self._from = self.coef
        self.direction = self.limited(self.precondition(self.gradient))
        self.direction = self.direction.reshape(self.coef.shape)

    def limited(self, direction):
        """Return a direction, flat, with no gate's part longer than a step may be."""
        step = direction.reshape(self.coef.shape).copy()
        with np.errstate(over="ignore"):  # an infinite size shrinks it to nothing
            size = np.sqrt((step * step).sum(axis=1))
        for b, gates, _, rows in self._groups():
            largest = size[rows].reshape(b, gates).max(axis=0)
            shrink = np.minimum(1.0, MAX_LOGIT_STEP / np.maximum(largest, 1e-300))
            step[rows] *= np.tile(shrink, b)[:, None]
        return step.ravel()

    def move(self, fraction):
        """Go this fraction of the proposed step from where it started."""
        self.coef = self._from + fraction * self.direction

    @property
    def parameters(self):
        """All coefficients as one vector."""
        return self.coef.ravel()

    @parameters.setter
    def parameters(self, value):
        self.coef = np.array(value).reshape(self.coef.shape)

    def join(self, coefs):
        """Take over the coefficients of each gate, as `split` returns them."""
        for (_, gates), (b, count, _, rows) in zip(
            self.plan.groups, self._groups(), strict=True
        ):
            some = np.stack([coefs[gate] for gate in gates], axis=1)
            self.coef[rows] = some.reshape(b * count, -1)

    def split(self):
        """Return the coefficients of each gate, in the order of ``tree.inner``.

        Returns
        -------
        coefs : list of arrays of shape (n_children, n_columns)
        """
        out = [None] * len(self.tree.inner)
        for (_, gates), (b, count, _, rows) in zip(
            self.plan.groups, self._groups(), strict=True
        ):
            coef = self.coef[rows].reshape(b, count, -1)
            for i, gate in enumerate(gates):
                out[gate] = coef[:, i].copy()
        return out
