"""The fused node of a tree whose rows follow few paths: the rest is not computed.

Rows are sorted by their most probable leaf and cut into blocks. A block works on
the part of the tree that one of its rows reaches with at least ``path_tol``: few
leaves, all of them in the same matrix products as in the fused node. The paths of
a block stay fixed for a round of passes, in which EM is exact for the likelihood
that the kept paths make; `refresh` then sorts and cuts anew (Waterhouse and
Robinson 1996 pruned paths by the same rule).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmoe._blocks import row_blocks
from skmoe._tree import LevelPlan, Tree
from skmoe.em._fused import FusedNode
from skmoe.em._node import posterior
from skmoe.em._sums import Group

__all__ = ["PathNode"]

Array = NDArray[np.float64]
Ints = NDArray[np.intp]
Bools = NDArray[np.bool_]

# Rows of a block: few enough that they share their paths, many enough that the
# products outweigh the calls.
LEAVES_A_BLOCK = 4
PATH_ROWS = (256, 2048)
# Share of the rows that may change their leaf before they are sorted anew.
FEW_MOVED = 0.1


@dataclass
class Block:
    """Rows that share their paths.

    Attributes
    ----------
    rows : slice
        In the order of the leaves.
    plan : LevelPlan
    gate_rows : array of int
        Coefficients of the plan's gates.
    grams, scores : lists of arrays of int
        Which sums of each group of the whole node the block adds to.
    """

    rows: slice
    plan: LevelPlan
    gate_rows: Ints
    grams: list[Ints]
    scores: list[Ints]


class PathNode(FusedNode):
    """A fused node over a tree that leaves out paths of small probability.

    Parameters
    ----------
    gate : TreeKernel
    experts : LinearKernel or LogisticKernel
    gate_matrix, expert_matrix, y, weight : as for `FusedNode`
    path_tol : float
        Least probability of a path that is followed for some row of a block.
    """

    def __init__(
        self,
        gate: Any,
        experts: Any,
        gate_matrix: Array,
        expert_matrix: Array,
        y: Array,
        weight: Array,
        path_tol: float,
    ) -> None:
        super().__init__(gate, experts, gate_matrix, expert_matrix, y, weight)
        self.path_tol = path_tol
        self.blocks: list[Block] = []
        self._number = np.zeros(gate.tree.n_nodes, dtype=np.intp)
        self._number[gate.tree.leaves] = np.arange(gate.n_experts)

    @property
    def skipped_share(self) -> float:
        """Share of pairs of rows and leaves that are not computed."""
        computed: int = sum(
            (block.rows.stop - block.rows.start) * block.plan.leaves.size
            for block in self.blocks
        )
        return 1.0 - computed / float(self.weight.size * self.gate.n_experts)

    def start(
        self, resp: Array, gate_steps: int = 1, gate_parameters: Array | None = None
    ) -> None:
        """Fit all parts to responsibilities, on the paths that those follow."""
        self._cut(resp)
        super().start(resp, gate_steps, gate_parameters)

    def _gate_pass(self, resp: Array) -> None:
        """Pass over the rows for the gate alone, each block on its own paths."""
        group = Group(self.groups[-1].matrix, [self.gate])
        group.reset()
        shift = self.experts.n_gram_rows if len(self.groups) == 1 else 0
        for block in self.blocks:
            gate = self.gate.restrict(block.plan, block.gate_rows)
            design, weight = self._rows_of(block)
            gate.log_proba(design)
            part = Group(design, [gate])
            part.reset()
            rows = np.ix_(block.plan.leaves, self.order[block.rows])
            part.add(design, resp[rows] * weight, weight)
            grams = block.grams[-1]
            grams = grams[grams.size - part.half_grams.shape[1] :] - shift
            group.half_grams[:, grams] += part.half_grams
            group.score[:, block.gate_rows] += part.score
        group.hand_out(self.total_weight)

    def _rows_of(self, block: Block) -> tuple[Array, Array]:
        """Return the gate's design and the weights of a block."""
        return self._sorted[-1][:, block.rows], self._sorted_weight[block.rows]

    def refresh(self) -> None:
        """Sort the rows by their leaves and choose the paths of each block."""
        log_tol = float(np.log(self.path_tol))
        leaf = np.empty(self.weight.size, dtype=np.intp)
        if not self.blocks:
            self._sort(np.zeros(self.weight.size, dtype=np.intp))
        found = []
        for rows in self._row_blocks():
            active, nodes = self.gate.walk(self._sorted[-1][:, rows], log_tol)
            leaf[self.order[rows]] = self._number[nodes]
            found.append((rows, active))
        if self.blocks and np.mean(leaf != self._leaf) < FEW_MOVED:
            # Where the rows lie they still share their paths.
            self.blocks = [self._block(rows, active) for rows, active in found]
            return
        self._sort(leaf)
        self.blocks = [
            self._block(rows, self.gate.walk(self._sorted[-1][:, rows], log_tol)[0])
            for rows in self._row_blocks()
        ]

    def _cut(self, resp: Array) -> None:
        """Choose paths from responsibilities."""
        tree: Tree = self.gate.tree
        best = resp.argmax(axis=0)
        self._sort(best)
        self.blocks = []
        for rows in self._row_blocks():
            own = self.order[rows]
            mass = np.zeros((tree.n_nodes, own.size))
            mass[tree.leaves] = resp[:, own]
            for node in reversed(tree.inner):
                mass[node] = mass[list(tree.children[node])].sum(axis=0)
            active: Bools = np.asarray((mass >= self.path_tol).any(axis=1))
            for leaf in np.unique(best[own]):
                active[tree.path(tree.leaves[leaf])] = True
            self.blocks.append(self._block(rows, active))

    def _sort(self, leaf: Ints) -> None:
        """Put rows of the same leaf, and leaves of the same branch, together."""
        self._leaf = leaf
        self.order = np.argsort(leaf, kind="stable")
        self._sorted = [
            np.ascontiguousarray(group.matrix[:, self.order]) for group in self.groups
        ]
        self._sorted_y = np.ascontiguousarray(self.y[..., self.order])
        self._sorted_weight = self.weight[self.order]

    def _row_blocks(self) -> Iterator[slice]:
        """Yield blocks of about as many rows as a few leaves hold."""
        n_rows = self.weight.size
        rows = LEAVES_A_BLOCK * n_rows // self.gate.n_experts
        return row_blocks(n_rows, int(np.clip(rows, *PATH_ROWS)))

    def _block(self, rows: slice, active: Bools) -> Block:
        plan = LevelPlan(self.gate.tree, active)
        expert_grams, expert_scores = self.experts.rows_of(plan.leaves)
        gate_grams, gate_scores = self.gate.rows_of(plan)
        if len(self.groups) == 1:
            i, j = self.experts.n_gram_rows, self.experts.n_score_rows
            grams = [np.concatenate([expert_grams, i + gate_grams])]
            scores = [np.concatenate([expert_scores, j + gate_scores])]
        else:
            grams = [expert_grams, gate_grams]
            scores = [expert_scores, gate_scores]
        return Block(rows, plan, gate_scores, grams, scores)

    def e_step(self, resp: Array | None = None) -> float:
        """Pass over the rows once, each block on its own paths."""
        if not self.blocks:
            self.refresh()
        for group in self.groups:
            group.reset()
        self.experts.reset()
        log_lik = 0.0
        for block in self.blocks:
            experts, gate = self._kernels_at(block)
            designs = [matrix[:, block.rows] for matrix in self._sorted]
            weight = self._sorted_weight[block.rows]
            joint = self._joint(experts, gate, designs, block)
            own, row_log_lik = self._posterior(joint)
            log_lik += float(weight @ row_log_lik)
            if resp is not None:
                own = resp[np.ix_(block.plan.leaves, self.order[block.rows])]
            self._add(block, experts, gate, designs, own * weight, weight)
        for group in self.groups:
            group.hand_out(self.total_weight)
        return log_lik

    def _kernels_at(self, block: Block) -> tuple[Any, Any]:
        """Return experts and gates that work on the block's paths alone."""
        experts = self.experts.restrict(block.plan.leaves)
        gate = self.gate.restrict(block.plan, block.gate_rows)
        experts.reset()
        return experts, gate

    def _joint(
        self, experts: Any, gate: Any, designs: list[Array], block: Block
    ) -> Any:
        joint = experts.log_prob(designs[0], self._sorted_y[..., block.rows])
        joint += gate.log_proba(designs[-1])
        return joint

    def _add(
        self,
        block: Block,
        experts: Any,
        gate: Any,
        designs: list[Array],
        weighted: Array,
        weight: Array,
    ) -> None:
        """Add the sums of one block to those of the whole node."""
        one = len(self.groups) == 1
        kernels = [[experts, gate]] if one else [[experts], [gate]]
        for i, (group, design) in enumerate(zip(self.groups, designs, strict=True)):
            part = Group(design, kernels[i])
            part.reset()
            part.add(design, weighted, weight)
            group.half_grams[:, block.grams[i]] += part.half_grams
            group.score[:, block.scores[i]] += part.score
        self.experts.absorb(experts, block.plan.leaves)

    def responsibilities(self) -> Array:
        """Return responsibilities at the current parameters, zero off the paths."""
        self.refresh()
        resp = np.zeros((self.gate.n_experts, self.weight.size))
        for block in self.blocks:
            experts, gate = self._kernels_at(block)
            designs = [matrix[:, block.rows] for matrix in self._sorted]
            joint = self._joint(experts, gate, designs, block)
            where = np.ix_(block.plan.leaves, self.order[block.rows])
            resp[where] = posterior(joint)[0]
        return resp

    def subset(self, rows: Array) -> "FusedNode":
        """Return a problem on some rows that weighs as much as this one."""
        plain = super().subset(rows)
        matrices = [group.matrix for group in plain.groups]
        part = PathNode(
            self.gate,
            self.experts,
            matrices[-1],
            matrices[0],
            plain.y,
            plain.weight,
            self.path_tol,
        )
        part.assign = self.assign
        return part
