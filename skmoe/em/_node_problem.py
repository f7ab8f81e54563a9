"""A general node bound to its rows, as the loop of EM drives it."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmoe._protocols import has_fixed_law, is_parametric
from skmoe._xp import is_foreign, like, to_numpy, total
from skmoe.em._densities import rows_first
from skmoe.em._node import Assign, Node, posterior
from skmoe.exceptions import ExpertError

__all__ = ["NodeProblem", "in_pass"]

Array = NDArray[np.float64]


class NodeProblem:
    """A node bound to its rows, as the loop of EM drives it.

    Parameters
    ----------
    node : Node
    X, y, weight : the rows, validated
    """

    has_gradient = False
    # Whether tied dispersions stand in the vector of parameters, once for each expert.
    extrapolates_ties = False

    def __init__(self, node: Node, X: Any, y: Array, weight: Array) -> None:
        self.node, self.X, self.y, self.weight = node, X, y, weight
        self.n_passes = 0
        self.total_weight = total(weight)
        self.row = min(1.0, self.total_weight / weight.shape[0])
        self.origin = self.state()

    @property
    def assign(self) -> Assign:
        """What the E-step makes of joint log densities."""
        return self.node.assign

    @assign.setter
    def assign(self, value: Assign) -> None:
        self.node.assign = value

    def degenerate(self) -> bool:
        """Return whether an expert that learns has less than one row's weight."""
        learns = [not has_fixed_law(expert) for _, expert in self.node.experts]
        return bool((self.mass[learns] < self.row).any())

    @property
    def exact_m_step(self) -> bool:
        """Whether the node's objective must never fall."""
        return self.node.exact_m_step

    @property
    def penalty(self) -> float:
        """Log prior density of all parts."""
        return self.node.penalty

    @property
    def mass(self) -> Array:
        """Weighted rows of each expert at the last E-step."""
        mass: Array = to_numpy(self.node.resp @ self.weight)
        return mass

    def start(
        self, resp: Array, gate_steps: int = 1, gate_parameters: Array | None = None
    ) -> None:
        """Fit all parts to given responsibilities, the gate several times."""
        on_host = not is_foreign(self.weight)
        resp = to_numpy(resp) if on_host else like(self.weight, resp)
        self.n_passes = 0
        self.restore(self.origin)
        self._m_step(resp)
        gate_view = self.node.gate_view(self.X)
        for _ in range(gate_steps - 1 if self.node.gate.exact_m_step else 0):
            self.node.gate.m_step(gate_view, rows_first(resp), self.weight)

    def e_step(self) -> float:
        """Return the log-likelihood and keep the responsibilities."""
        self.n_passes += 1
        with in_pass(self.n_passes):
            return float(self.weight @ self.node.log_prob(self.X, self.y))

    def m_step(self) -> None:
        """Fit all parts to the responsibilities of the last E-step."""
        self._m_step(self.node.resp)

    def responsibilities(self) -> Array:
        """Return responsibilities at the current parameters."""
        return posterior(self.node.joint(self.X, self.y))[0]

    def _m_step(self, resp: Array) -> None:
        with in_pass(self.n_passes):
            self.node.m_step_to(self.X, self.y, self.weight, resp)

    @property
    def skipped_share(self) -> float:
        """Share of pairs of rows and experts that the last E-step left out."""
        return self.node.skipped_share

    def backtrack(self) -> bool:
        """Return False: parts search their own steps."""
        return False

    @property
    def _parts(self) -> list[Any]:
        return [self.node.gate, *(expert for _, expert in self.node.experts)]

    @property
    def parameters(self) -> Array | None:
        """All parameters as one vector, if every part is `Parametric`."""
        parts = self._parts
        if not all(is_parametric(part) for part in parts):
            return None
        if self.node.shared_dispersion and not self.extrapolates_ties:
            return None
        return np.concatenate([np.ravel(part.parameters) for part in parts])

    @parameters.setter
    def parameters(self, value: Array) -> None:
        start = 0
        for part in self._parts:
            size = np.size(part.parameters)
            part.parameters = value[start : start + size]
            start += size

    @property
    def knows_rows(self) -> bool:
        """Whether a part answers otherwise for the rows it was fitted to.

        It knows them by identity, so its state cannot go through another process.
        """
        return any(
            getattr(expert, "cross_fit", False) is not False
            for _, expert in self.node.experts
        )

    @property
    def smooth(self) -> bool:
        """Whether the objective has no kinks, as a lasso has."""
        return all(getattr(part, "smooth", True) for part in self._parts)

    def state(self) -> Any:
        """Return copies of all parts.

        A shallow copy is enough for adapters, whose M-step replaces what it
        fitted; parametric parts give their vector.
        """
        return [
            np.array(part.parameters) if is_parametric(part) else copy.copy(part)
            for part in self._parts
        ]

    def restore(self, state: Any) -> None:
        """Put back what `state` returned."""
        for k, (part, kept) in enumerate(zip(self._parts, state, strict=True)):
            if isinstance(kept, np.ndarray):
                part.parameters = kept
            elif k == 0:
                self.node.gate = copy.copy(kept)  # the next M-step must not touch it
            else:
                name = self.node.experts[k - 1][0]
                self.node.experts[k - 1] = (name, copy.copy(kept))

    @property
    def gradient(self) -> Array:
        """Raise: general parts have no gradient."""
        raise AttributeError("a NodeProblem has no gradient")

    def precondition(self, vector: Array) -> Array:
        """Return the vector: general parts know no curvature."""
        return vector

    def limited(self, direction: Array) -> Array:
        """Return the direction: there is no line search without gradients."""
        return direction


@contextmanager
def in_pass(number: int) -> Iterator[None]:
    """Add the number of the pass to an ExpertError."""
    try:
        yield
    except ExpertError as error:
        raise ExpertError(
            f"In EM pass {number}, {error} The estimator is left as it was."
        ) from (error.__cause__ or error)
