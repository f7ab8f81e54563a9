"""The general node: a gate with children, and itself an expert.

A node's `log_prob` stores its responsibilities; its `m_step` multiplies them by
the weight that comes in from above. Applied to a tree this recursion is the EM
of Jordan and Jacobs (1994): joint posteriors are products along the path, and
every gate is fitted to its own conditional posterior weighted by its parent's.
Any `Expert` and any `Gate` may take part.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.parallel import Parallel, delayed

from skmoe._protocols import Expert, Gate, Parametric
from skmoe.exceptions import ExpertError

__all__ = [
    "Assign",
    "Node",
    "NodeProblem",
    "hard_assignment",
    "posterior",
    "take_columns",
]

Array = NDArray[np.float64]
Assign = Callable[[Array], tuple[Array, Array]]


def posterior(joint: Array) -> tuple[Array, Array]:
    """Return responsibilities and log densities from joint log densities.

    Parameters
    ----------
    joint : array of shape (n_experts, n_samples)
        ``log g_k(x) + log p_k(y | x)``.

    Returns
    -------
    resp : array of shape (n_experts, n_samples)
    log_lik : array of shape (n_samples,)
    """
    peak = joint.max(axis=0)
    resp = np.exp(joint - peak)
    total = resp.sum(axis=0)
    return resp / total, peak + np.log(total)


def hard_assignment(joint: Array) -> tuple[Array, Array]:
    """Give each row to its most probable expert (classification EM).

    The log densities returned are those of the assigned expert alone: their sum
    is the classification likelihood that CEM climbs (Celeux & Govaert 1992).
    """
    winner = joint.argmax(axis=0)
    rows = np.arange(joint.shape[1])
    resp = np.zeros_like(joint)
    resp[winner, rows] = 1.0
    return resp, joint[winner, rows]


def take_columns(X: Any, columns: Sequence[int] | None) -> Any:
    """Return the columns that a part sees; X itself for None."""
    return X if columns is None else X[:, columns]


class Node:
    """A gate over experts, each with its own columns; itself an `Expert`.

    Parameters
    ----------
    gate : Gate
    experts : list of (name, Expert)
    columns : list of (sequence of int or None)
        The columns that each expert sees.
    gate_columns : sequence of int or None
    shared_dispersion : bool
        Whether the experts' dispersions are tied.
    assign : callable
        What the E-step makes of joint log densities: `posterior`,
        `hard_assignment`, or a sampler.
    n_jobs : int or None
        Threads for the experts' M-steps.
    """

    def __init__(
        self,
        gate: Gate,
        experts: list[tuple[str, Any]],
        columns: list[Sequence[int] | None],
        gate_columns: Sequence[int] | None = None,
        *,
        shared_dispersion: bool = False,
        assign: Assign = posterior,
        n_jobs: int | None = None,
    ) -> None:
        self.gate, self.experts = gate, experts
        self.columns, self.gate_columns = columns, gate_columns
        self.shared_dispersion = shared_dispersion
        self.assign = assign
        self.n_jobs = n_jobs
        self._rows: Any = None
        self._views: dict[int, Any] = {}

    def view(self, X: Any, k: int) -> Any:
        """Return the columns of expert k; the same object for the training rows.

        Experts that keep out-of-fold predictions know their rows by identity.
        """
        if X is not self._rows or self.columns[k] is None:
            return take_columns(X, self.columns[k])
        if k not in self._views:
            self._views[k] = take_columns(X, self.columns[k])
        return self._views[k]

    def forget(self) -> None:
        """Drop everything that belongs to the training rows."""
        self._rows, self._views, self.resp = None, {}, np.empty((0, 0))
        for _, expert in self.experts:
            if hasattr(expert, "finish"):
                expert.finish()

    @property
    def exact_m_step(self) -> bool:
        """Whether no part's M-step can lower the objective."""
        parts = [self.gate, *(expert for _, expert in self.experts)]
        return all(part.exact_m_step for part in parts)

    @property
    def penalty(self) -> float:
        """Log prior density of gate and experts."""
        return float(self.gate.penalty + sum(e.penalty for _, e in self.experts))

    @property
    def n_parameters(self) -> int:
        """Free parameters of gate and experts, tied dispersions counted once."""
        count = int(
            self.gate.n_parameters + sum(e.n_parameters for _, e in self.experts)
        )
        if self.shared_dispersion:
            first = self.experts[0][1]
            free = np.asarray(first.dispersion)
            size = (
                free.size if free.ndim < 2 else free.shape[0] * (free.shape[0] + 1) // 2
            )
            count -= (len(self.experts) - 1) * size
        return count

    def prepare(
        self, X: Any, y: Array, weight: Array, n_classes: int | None = None
    ) -> None:
        """Let gate and experts fix their scales and priors on all rows."""
        self._rows, self._views = X, {}
        gate_view = take_columns(X, self.gate_columns)
        self.gate.prepare(gate_view, weight, len(self.experts))
        for k, (name, expert) in enumerate(self.experts):
            with _named(name):
                expert.prepare(self.view(X, k), y, weight, n_classes)

    def log_prob(self, X: Any, y: Array) -> Array:
        """Return log p(y | x) in nats, and keep the responsibilities.

        Sets: ``resp`` of shape (n_experts, n_samples).
        """
        self.resp, log_lik = self.assign(self.joint(X, y))
        return log_lik

    def joint(self, X: Any, y: Array) -> Array:
        """Return gate plus expert log densities, (n_experts, n_samples)."""
        joint = np.array(self.gate.log_joint(take_columns(X, self.gate_columns)).T)
        for k, (name, expert) in enumerate(self.experts):
            with _named(name):
                joint[k] += expert.log_prob(self.view(X, k), y)
        if np.isnan(joint).any():
            bad = [self.experts[k][0] for k in np.flatnonzero(np.isnan(joint).any(1))]
            raise ExpertError(
                f"experts {bad} returned NaN as log density. Look at their "
                "predictions on these rows."
            )
        return joint

    def m_step(self, X: Any, y: Array, weight: Array) -> None:
        """Fit gate and experts to the responsibilities times the weight."""
        self.m_step_to(X, y, weight, self.resp)

    def m_step_to(self, X: Any, y: Array, weight: Array, resp: Array) -> None:
        """Fit gate and experts to given responsibilities."""
        gate_view = take_columns(X, self.gate_columns)
        with _named("gate"):
            self.gate.m_step(gate_view, np.ascontiguousarray(resp.T), weight)
        # Threads: the parts keep what they learn, and most fits release the GIL.
        Parallel(n_jobs=self.n_jobs, prefer="threads")(
            delayed(_expert_m_step)(name, expert, self.view(X, k), y, weight * resp[k])
            for k, (name, expert) in enumerate(self.experts)
        )
        if self.shared_dispersion:
            self._tie_dispersions()

    def _tie_dispersions(self) -> None:
        experts = [expert for _, expert in self.experts]
        scatter = sum(np.asarray(expert.scatter) for expert in experts)
        mass = sum(expert.mass for expert in experts)
        for expert in experts:
            expert.dispersion = scatter / mass


def _expert_m_step(name: str, expert: Expert, X: Any, y: Array, weight: Array) -> None:
    with _named(name):
        expert.m_step(X, y, weight)


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Turn an exception inside a part into an ExpertError that names it."""
    try:
        yield
    except ExpertError:
        raise
    except Exception as error:
        raise ExpertError(f"{name!r} failed: {type(error).__name__}: {error}") from (
            error
        )


class NodeProblem:
    """A node bound to its rows, as the loop of EM drives it.

    Parameters
    ----------
    node : Node
    X, y, weight : the rows, validated
    """

    has_gradient = False

    def __init__(self, node: Node, X: Any, y: Array, weight: Array) -> None:
        self.node, self.X, self.y, self.weight = node, X, y, weight
        self.n_passes = 0
        self.total_weight = float(weight.sum())
        self.row = min(1.0, self.total_weight / weight.size)
        self.origin = self.state()

    def degenerate(self) -> bool:
        """Return whether an expert has less than one row's worth of weight."""
        return bool((self.mass < self.row).any())

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
        return self.node.resp @ self.weight

    def start(self, resp: Array, gate_steps: int = 1) -> None:
        """Fit all parts to given responsibilities, the gate several times."""
        self.n_passes = 0
        self.restore(self.origin)
        self._m_step(resp)
        gate_view = take_columns(self.X, self.node.gate_columns)
        for _ in range(gate_steps - 1 if self.node.gate.exact_m_step else 0):
            self.node.gate.m_step(gate_view, np.ascontiguousarray(resp.T), self.weight)

    def e_step(self) -> float:
        """Return the log-likelihood and keep the responsibilities."""
        self.n_passes += 1
        with _in_pass(self.n_passes):
            return float(self.weight @ self.node.log_prob(self.X, self.y))

    def m_step(self) -> None:
        """Fit all parts to the responsibilities of the last E-step."""
        self._m_step(self.node.resp)

    def responsibilities(self) -> Array:
        """Return responsibilities at the current parameters."""
        return posterior(self.node.joint(self.X, self.y))[0]

    def _m_step(self, resp: Array) -> None:
        with _in_pass(self.n_passes):
            self.node.m_step_to(self.X, self.y, self.weight, resp)

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
        if not all(isinstance(part, Parametric) for part in parts):
            return None
        if self.node.shared_dispersion:
            return None
        return np.concatenate([np.ravel(part.parameters) for part in parts])

    @parameters.setter
    def parameters(self, value: Array) -> None:
        start = 0
        for part in self._parts:
            size = np.size(part.parameters)
            part.parameters = value[start : start + size]
            start += size

    def state(self) -> Any:
        """Return copies of all parts.

        A shallow copy is enough for adapters, whose M-step replaces what it
        fitted; parametric parts give their vector.
        """
        return [
            np.array(part.parameters)
            if isinstance(part, Parametric)
            else copy.copy(part)
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

    def largest_fraction(self, direction: Array) -> float:
        """Return 1: there is no line search without gradients."""
        return 1.0


@contextmanager
def _in_pass(number: int) -> Iterator[None]:
    """Add the number of the pass to an ExpertError."""
    try:
        yield
    except ExpertError as error:
        raise ExpertError(
            f"In EM pass {number}, {error} The estimator is left as it was."
        ) from (error.__cause__ or error)
