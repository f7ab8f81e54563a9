"""The fused node: native gate and alike native experts in one pass over the rows.

Where the gate is a softmax (or constant) and all experts are linear (or all
logistic) on the same columns, one blocked pass does everything a step of EM
needs: log densities, responsibilities, likelihood, the gradient of both, and
the weighted grams of every expert and of the gate's Hessian. The M-step then
works on small matrices only. It climbs the same objective as the general node
of `skmoe.em._node`; the tests hold the two together.
"""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmoe._blocks import row_blocks, runs_triton
from skmoe._xp import (
    empty,
    is_foreign,
    is_out_of_memory,
    like,
    release_memory,
    taken,
    to_numpy,
    total,
)
from skmoe.em._node import Assign, posterior
from skmoe.em._sums import LEAST_ROWS, Group, block_rows
from skmoe.exceptions import SmallerBlocksWarning

__all__ = ["FusedNode"]

Array = NDArray[np.float64]


class FusedNode:
    """A softmax gate over K alike native experts, all rows in memory.

    The rows may lie on a device: then all that is as long as they are stays there,
    and the sums of a pass come home.

    Parameters
    ----------
    gate : SoftmaxKernel
    experts : LinearKernel or LogisticKernel
    gate_matrix, expert_matrix : arrays of shape (n_columns, n_samples)
        The same object where gate and experts see the same columns.
    y : array of shape (n_outputs, n_samples), or codes of shape (n_samples,)
    weight : array of shape (n_samples,)
    """

    exact_m_step = True

    def __init__(
        self,
        gate: Any,
        experts: Any,
        gate_matrix: Array,
        expert_matrix: Array,
        y: Array,
        weight: Array,
    ) -> None:
        self.gate, self.experts = gate, experts
        self.y, self.weight = y, weight
        self.n_samples = weight.shape[0]
        self.total_weight = total(weight)
        # One row's worth: weights may be normalised to a small sum.
        self.row = min(1.0, self.total_weight / self.n_samples)
        if gate_matrix is expert_matrix:
            summed = gate.gram_of_weight and experts.grams_of_mass
            self.groups = [Group(expert_matrix, [experts, gate], summed)]
        else:
            self.groups = [Group(expert_matrix, [experts]), Group(gate_matrix, [gate])]
        self.block_rows = block_rows(self.groups)
        self.origin = self.parameters
        # What the E-step does to responsibilities: soft, hard or sampled.
        self.assign: Assign | None = None

    def start(
        self, resp: Array, gate_steps: int = 1, gate_parameters: Array | None = None
    ) -> None:
        """Fit all parts to given responsibilities, the gate several times.

        Parameters
        ----------
        resp : array of shape (n_experts, n_samples)
        gate_steps : int
            Steps of the gate towards ``resp``.
        gate_parameters : array or None
            Of a gate that has these responsibilities already: taken over.
        """
        self.parameters = self.origin
        if not is_foreign(self.weight):
            resp = to_numpy(resp)
        if gate_parameters is not None:
            self.gate.parameters = gate_parameters
            self.e_step(resp)
            self.experts.propose()
            self.experts.move(1.0)
            return
        for _ in range(gate_steps - 1):
            self._in_smaller_blocks(lambda: self._gate_pass(resp))
            self.gate.propose()
            self.gate.move(1.0)
        self.e_step(resp)
        self.m_step()

    def _gate_pass(self, resp: Array) -> None:
        """Pass over the rows for the gate alone, towards given responsibilities."""
        group = Group(self.groups[-1].matrix, [self.gate])
        group.reset()
        for rows in row_blocks(self.n_samples, self.block_rows):
            design, weight = group.matrix[:, rows], self.weight[rows]
            self.gate.log_proba(design)
            group.add(design, like(weight, resp[:, rows]) * weight, weight)
        group.hand_out(self.total_weight)

    def subset(self, rows: Any) -> "FusedNode":
        """Return a problem on some rows that weighs as much as this one.

        It lies in the memory of the host, wherever this one does: small problems
        gain nothing from a device.

        Parameters
        ----------
        rows : array of int, or ``slice(None)``
        """
        weight = np.asarray(taken(self.weight, rows))
        weight = weight * (self.total_weight / weight.sum())
        matrices = [group.taken(rows) for group in self.groups]
        y = np.ascontiguousarray(taken(self.y, rows))
        part = FusedNode(self.gate, self.experts, matrices[-1], matrices[0], y, weight)
        part.assign = self.assign
        return part

    def degenerate(self) -> bool:
        """Return whether an expert has no rows, or fits them exactly."""
        return bool(self.experts.degenerate(self.row))

    def e_step(self, resp: Array | None = None) -> float:
        """Pass over the rows once; return the weighted log-likelihood in nats.

        Parameters
        ----------
        resp : array of shape (n_experts, n_samples), default=None
            Responsibilities to use instead of the posterior, for a start.
        """
        return float(self._in_smaller_blocks(lambda: self._pass(resp)))

    def _in_smaller_blocks(self, work: Callable[[], Any]) -> Any:
        """Do work over the rows, in smaller blocks where the memory is used up."""
        while True:
            try:
                return work()
            except Exception as error:
                if not is_out_of_memory(error) or self.block_rows <= LEAST_ROWS:
                    raise
            # Outside of the handler: its traceback would hold the block's arrays.
            self._halve_blocks()

    def _halve_blocks(self) -> None:
        """Go on with smaller blocks where the memory was not enough."""
        for group in self.groups:
            group.reset()
        release_memory(self.weight)
        self.block_rows = max(self.block_rows // 2, LEAST_ROWS)
        warnings.warn(
            "the memory of the device was used up: going on with blocks of "
            f"{self.block_rows} rows.",
            SmallerBlocksWarning,
            stacklevel=2,
        )

    def _pass(self, resp: Array | None) -> float:
        """Pass over the rows once; see `e_step`."""
        for group in self.groups:
            group.reset()
        self.experts.reset()
        log_lik: Any = 0.0
        in_one = self._in_one_kernel() if resp is None else None
        for rows in row_blocks(self.n_samples, self.block_rows):
            designs = [group.matrix[:, rows] for group in self.groups]
            weight = self.weight[rows]
            if in_one is not None:
                log_lik = log_lik + in_one.add(designs, self.y[0, rows], weight)
                continue
            joint = self.experts.log_prob(designs[0], self.y[..., rows])
            joint += self.gate.log_proba(designs[-1])
            posterior, row_log_lik = self._posterior(joint)
            log_lik = log_lik + weight @ row_log_lik
            if resp is not None:
                posterior = like(weight, resp[:, rows])
            weighted = posterior * weight
            for group, design in zip(self.groups, designs, strict=True):
                group.add(design, weighted, weight)
        for group in self.groups:
            group.hand_out(self.total_weight)
        return float(log_lik)

    def _in_one_kernel(self) -> Any:
        """Return what does a block's E-step at once on a CUDA device, or None."""
        if self.assign is not None or not runs_triton(self.weight):
            return None
        from skmoe.em._device_step import EStep

        return EStep.of(self)

    def responsibilities(self) -> Array:
        """Return responsibilities at the current parameters, in one array.

        The sums of the last pass are gone afterwards.
        """
        resp: Array = empty(self.weight, (self.gate.n_experts, self.n_samples))
        self._in_smaller_blocks(lambda: self._write_posterior(resp))
        return resp

    def _write_posterior(self, resp: Array) -> None:
        """Write the responsibilities at the current parameters."""
        self.experts.reset()
        for rows in row_blocks(self.n_samples, self.block_rows):
            joint = self.experts.log_prob(
                self.groups[0].matrix[:, rows], self.y[..., rows]
            )
            joint += self.gate.log_proba(self.groups[-1].matrix[:, rows])
            resp[:, rows] = posterior(joint)[0]

    def _posterior(self, joint: Array) -> tuple[Array, Array]:
        """Return responsibilities and log densities of a block; uses up joint."""
        if self.assign is not None:
            return self.assign(joint)
        if is_foreign(joint):
            return posterior(joint)
        peak = joint.max(axis=0)
        joint -= peak
        np.exp(joint, out=joint)
        total = joint.sum(axis=0)
        joint /= total
        peak += np.log(total)
        return joint, peak

    def m_step(self) -> None:
        """Move experts and gate by what the last E-step summed."""
        self.experts.propose()
        self.gate.propose()
        self._fraction = 1.0
        self.experts.move(1.0)
        self.gate.move(1.0)

    def backtrack(self) -> bool:
        """Shorten the inexact part of the last M-step; False if it is at zero.

        With exact experts and the gate left where it was, EM itself guarantees
        the ascent; the full Newton step is right almost always, so its search
        is merged with the next E-step rather than paid for in every pass.
        """
        if self._fraction == 0.0:
            return False
        self._fraction = self._fraction / 4.0 if self._fraction > 0.02 else 0.0
        self.experts.move(self._fraction)
        self.gate.move(self._fraction)
        return True

    @property
    def penalty(self) -> float:
        """Log prior density of all parameters, up to a constant."""
        return float(self.experts.penalty + self.gate.penalty)

    @property
    def mass(self) -> Array:
        """Weighted rows of each expert at the last E-step."""
        return np.asarray(self.experts.mass)

    @property
    def has_gradient(self) -> bool:
        """Whether the quasi-Newton finish can be used."""
        return bool(self.experts.has_gradient)

    @property
    def smooth(self) -> bool:
        """Whether the objective has no kinks, as a lasso has."""
        return bool(getattr(self.gate, "smooth", True))

    @property
    def parameters(self) -> Array:
        """Parameters of experts, then of the gate, as one vector."""
        return np.concatenate([self.experts.parameters, self.gate.parameters])

    @parameters.setter
    def parameters(self, value: Array) -> None:
        size = self.experts.parameters.size
        self.experts.parameters = value[:size]
        self.gate.parameters = value[size:]

    def state(self) -> Array:
        """Return the parameters, for `restore`."""
        return self.parameters

    def restore(self, state: Array) -> None:
        """Go back to parameters that `state` returned."""
        self.parameters = state

    def limited(self, direction: Array) -> Array:
        """Return a direction with the parts that go too far shortened."""
        size = direction.size - self.gate.coef.size
        parts = [
            self.experts.limited(direction[:size]),
            self.gate.limited(direction[size:]),
        ]
        return np.concatenate(parts)

    @property
    def gradient(self) -> Array:
        """Gradient of log-likelihood plus penalty, from the last E-step."""
        return np.concatenate([self.experts.gradient, self.gate.gradient.ravel()])

    def precondition(self, vector: Array) -> Array:
        """Apply the inverse of the complete-data information to a vector."""
        size = vector.size - self.gate.coef.size
        return np.concatenate(
            [
                self.experts.precondition(vector[:size]),
                self.gate.precondition(vector[size:]).ravel(),
            ]
        )
