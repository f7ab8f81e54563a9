"""The E-step of a fused node on a CUDA device, in one kernel. Imported where it is."""

from typing import Any

import numpy as np

from skmoe._e_step_kernel import linear_softmax_sums
from skmoe._xp import add, like
from skmoe.experts._linear_kernel import LinearKernel
from skmoe.gates._softmax_kernel import SoftmaxKernel
from skmoe.likelihoods import LOG_2PI

__all__ = ["EStep"]

# More experts would not fit into the registers of a program.
MOST_EXPERTS = 128


class EStep:
    """The E-step of a fused node at its current parameters.

    Parameters
    ----------
    node : FusedNode
        Of single-output `LinearKernel` experts under a `SoftmaxKernel`.
    """

    def __init__(self, node: Any) -> None:
        self.groups, self.experts, self.gate = node.groups, node.experts, node.gate
        coef, variance = node.experts.coef[:, 0], node.experts.variance[:, 0]
        constant = -0.5 * (LOG_2PI + np.log(variance))
        arrays = [node.gate.coef, coef, 0.5 / variance, constant]
        # As one copy: each is a wait for the device.
        flat = like(node.weight, np.concatenate([array.ravel() for array in arrays]))
        ends = np.cumsum([array.size for array in arrays]).tolist()
        self.parameters = [
            flat[end - array.size : end].reshape(array.shape)
            for array, end in zip(arrays, ends, strict=True)
        ]

    @classmethod
    def of(cls, node: Any) -> "EStep | None":
        """Return the E-step of a node, None where it is not of this kind."""
        plain = type(node.experts) is LinearKernel and type(node.gate) is SoftmaxKernel
        if not plain or node.gate.constant or node.gate.n_experts > MOST_EXPERTS:
            return None
        return cls(node) if node.experts.variance.shape[1:] == (1,) else None

    def add(self, designs: list[Any], y: Any, weight: Any) -> Any:
        """Add a block to the sums of the node; return its log-likelihood."""
        rows = [
            group.weight_rows(design)
            for group, design in zip(self.groups, designs, strict=True)
        ]
        grams, scores = self.experts.n_gram_rows, self.experts.n_score_rows
        first, last = (grams, scores) if len(rows) == 1 else (0, 0)
        (own_grams, own_scores), (gate_grams, gate_scores) = rows[0], rows[-1]
        out = (own_grams, gate_grams[first:], own_scores, gate_scores[last:])
        gate_rows = 2 if self.gate.newton else min(gate_grams[first:].shape[0], 1)
        both = designs[-1], designs[0]
        sums = linear_softmax_sums(both, y, weight, self.parameters, out, gate_rows)
        self.experts.mass = add(self.experts.mass, sums[0])
        self.experts.scatter = add(self.experts.scatter, sums[1][:, None, None])
        for group, design, some in zip(self.groups, designs, rows, strict=True):
            group.add_rows(design, *some)
        return sums[2, 0]
