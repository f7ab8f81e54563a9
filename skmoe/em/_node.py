"""The general node: a gate with children, and itself an expert.

A node's `log_prob` stores its responsibilities; its `m_step` multiplies them by
the weight that comes in from above. Applied to a tree this recursion is the EM
of Jordan and Jacobs (1994): joint posteriors are products along the path, and
every gate is fitted to its own conditional posterior weighted by its parent's.
Any `Expert` and any `Gate` may take part.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from joblib import effective_n_jobs
from numpy.typing import NDArray
from sklearn.utils.parallel import Parallel, delayed

from skmoe._protocols import Expert, Gate, pools_dispersion
from skmoe._xp import namespace, one_hot, take_columns, to_numpy
from skmoe.em._densities import add_density, experts_first, rows_first, share_of
from skmoe.exceptions import ExpertError

__all__ = [
    "Assign",
    "Node",
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
    xp = namespace(joint)
    peak = xp.max(joint, axis=0)
    resp = xp.exp(joint - peak)
    total = xp.sum(resp, axis=0)
    return resp / total, peak + xp.log(total)


def hard_assignment(joint: Array) -> tuple[Array, Array]:
    """Give each row to its most probable expert (classification EM).

    The log densities returned are those of the assigned expert alone: their sum
    is the classification likelihood that CEM climbs (Celeux & Govaert 1992).
    """
    xp = namespace(joint)
    winner = xp.argmax(joint, axis=0)
    return one_hot(winner, joint.shape[0]), xp.max(joint, axis=0)


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
    clones : bool
        Whether the experts are clones of one estimator.
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
        clones: bool = False,
    ) -> None:
        self.gate, self.experts = gate, experts
        self.columns, self.gate_columns = columns, gate_columns
        self.shared_dispersion = shared_dispersion
        self.assign = assign
        self.n_jobs = n_jobs
        self.clones = clones
        self.skipped_share = 0.0
        self.pending: NDArray[np.bool_] | None = None
        self.by_gradient = False  # whether a pass is an epoch of gradient ascent
        self._rows: Any = None
        self._views: dict[tuple[int, ...], Any] = {}
        # What is said about the training rows beside X, y and weight.
        self.units: Any = None

    def view(self, X: Any, k: int) -> Any:
        """Return the columns of expert k; the same object for the training rows.

        Experts that keep out-of-fold predictions know their rows by identity.
        """
        return self._seen(X, self.columns[k])

    def gate_view(self, X: Any) -> Any:
        """Return the columns of the gate; the same object for the training rows."""
        return self._seen(X, self.gate_columns)

    def _seen(self, X: Any, columns: Sequence[int] | None) -> Any:
        if X is not self._rows or columns is None:
            return take_columns(X, columns)
        key = tuple(columns)
        if key not in self._views:
            self._views[key] = take_columns(X, columns)
        return self._views[key]

    def forget(self) -> None:
        """Drop everything that belongs to the training rows."""
        self._rows, self._views, self.resp = None, {}, np.empty((0, 0))
        for part in [self.gate, *(expert for _, expert in self.experts)]:
            if hasattr(part, "finish"):
                part.finish()

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
        if self.shared_dispersion and self.experts[0][1].dispersion is not None:
            free = np.asarray(self.experts[0][1].dispersion)
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
        self.prepare_parts(self.gate_view(X), weight, X, y, weight, n_classes)

    def prepare_parts(
        self,
        gate_view: Any,
        gate_weight: Array,
        X: Any,
        y: Array,
        weight: Array,
        n_classes: int | None,
    ) -> None:
        """Let gate and experts do so, each on rows of its own."""
        if X is not self._rows:
            self._rows, self._views = X, {}
        self.gate.prepare(gate_view, gate_weight, len(self.experts))
        for k, (name, expert) in enumerate(self.experts):
            with _named(name):
                expert.prepare(self.view(X, k), y, weight, n_classes)

    def log_prob(self, X: Any, y: Array) -> Array:
        """Return log p(y | x) in nats, and keep the responsibilities.

        Sets: ``resp`` of shape (n_experts, n_samples).
        """
        joint = experts_first(self.gate.log_joint(self.gate_view(X)))
        self.resp, log_lik = self.assign(self.add_contenders(joint, X, y))
        return log_lik

    def joint(self, X: Any, y: Array) -> Array:
        """Return gate plus expert log densities, (n_experts, n_samples)."""
        gate_view = self.gate_view(X)
        return self._with_experts(self.gate.log_joint(gate_view), X, y)

    def conditional(self, X: Any, y: Array) -> Array:
        """Return the same of the law of y given x: a gate's density of x left out."""
        gate_view = self.gate_view(X)
        return self._with_experts(self.gate.log_proba(gate_view), X, y)

    def _with_experts(self, log_gate: Array, X: Any, y: Array) -> Array:
        return self.add_densities(experts_first(log_gate), X, y)

    def add_densities(self, joint: Array, X: Any, y: Array) -> Array:
        """Add the experts' log densities to an array (n_experts, n_samples).

        An expert is not asked about rows where the array is -inf already.

        Raises
        ------
        ExpertError
            If a log density is NaN.
        """
        followed = joint > -np.inf
        self.skipped_share = 1.0 - share_of(followed)
        self.add_where(joint, followed, X, y)
        return joint

    def add_contenders(self, joint: Array, X: Any, y: Array) -> Array:
        """Add the densities that decide which expert a hard assignment chooses.

        A log probability is at most 0. So once the gate's first choice of a row is
        known, an expert whose gate alone lies below it cannot win the row: for
        kernel machines that spares nearly all of an E-step. What is left out keeps
        the gate's value, an upper bound below the row's maximum; for soft
        assignments and for densities it is `add_densities`.

        Sets: ``pending``, a mask (n_experts, n_samples) of what was left out, or None.
        """
        self.pending = None
        if self.assign is not hard_assignment or not self._bounded():
            return self.add_densities(joint, X, y)
        xp = namespace(joint)
        asked = one_hot(xp.argmax(joint, axis=0), joint.shape[0]) > 0.0
        self.add_where(joint, asked, X, y)
        contenders = ~asked & (joint > xp.max(xp.where(asked, joint, -np.inf), axis=0))
        self.add_where(joint, contenders, X, y)
        self.pending = ~(asked | contenders)
        self.skipped_share = share_of(self.pending)
        return joint

    def _bounded(self) -> bool:
        """Return whether all experts give probabilities, at most 1."""
        return all(
            getattr(getattr(expert, "likelihood", None), "discrete", False)
            for _, expert in self.experts
        )

    def add_where(
        self, joint: Array, asked: NDArray[np.bool_], X: Any, y: Array
    ) -> None:
        """Add the experts' log densities, in place, where a mask says so."""
        xp = namespace(joint)
        together = self._together()
        if together is not None and bool(xp.all(asked)):
            experts = [expert for _, expert in self.experts]
            joint += together.log_prob_together(experts, self.view(X, 0), y)
        else:
            for k, (name, expert) in enumerate(self.experts):
                with _named(name):
                    add_density(joint, k, asked[k, ...], expert, self.view(X, k), y)
        missing = to_numpy(xp.any(xp.isnan(joint), axis=1))
        if missing.any():
            bad = [self.experts[k][0] for k in np.flatnonzero(missing)]
            raise ExpertError(
                f"experts {bad} returned NaN as log density. Look at their "
                "predictions on these rows."
            )

    def m_step(self, X: Any, y: Array, weight: Array) -> None:
        """Fit gate and experts to the responsibilities times the weight."""
        self.m_step_to(X, y, weight, self.resp)

    def m_step_to(self, X: Any, y: Array, weight: Array, resp: Array) -> None:
        """Fit gate and experts to given responsibilities."""
        gate_view = self.gate_view(X)
        with _named("gate"):
            self.gate.m_step(gate_view, rows_first(resp), weight)
        self.experts_m_step(X, y, weight * resp)

    def experts_m_step(self, X: Any, y: Array, weights: Array) -> None:
        """Fit every expert to the rows under its own weights.

        Parameters
        ----------
        weights : array of shape (n_experts, n_samples)
        """
        together = self._together()
        if together is not None:
            names, experts = map(list, zip(*self.experts, strict=True))
            together.m_step_together(names, experts, self.view(X, 0), y, weights)
        elif effective_n_jobs(self.n_jobs) == 1:
            for k, (name, expert) in enumerate(self.experts):
                _expert_m_step(name, expert, self.view(X, k), y, weights[k, ...])
        else:
            # Threads: the parts keep what they learn, and most fits release the GIL.
            Parallel(n_jobs=self.n_jobs, prefer="threads")(
                delayed(_expert_m_step)(
                    name, expert, self.view(X, k), y, weights[k, ...]
                )
                for k, (name, expert) in enumerate(self.experts)
            )
        if self.shared_dispersion:
            self._tie_dispersions()

    def _together(self) -> Any:
        """Return the experts' class if it handles all of them at once, or None."""
        kind: Any = type(self.experts[0][1])
        if not hasattr(kind, "m_step_together"):
            return None
        experts = [expert for _, expert in self.experts]
        one_view = all(columns == self.columns[0] for columns in self.columns)
        return kind if one_view and kind.alike(experts) else None

    def _tie_dispersions(self) -> None:
        experts = [expert for _, expert in self.experts]
        if all(expert.dispersion is None for expert in experts):
            return  # nothing to tie
        loose = [name for name, e in self.experts if not pools_dispersion(e)]
        if loose:
            raise ExpertError(
                f"shared_dispersion=True: the dispersions of experts {loose} cannot be "
                "tied here (unlike experts, groups, unlabelled rows or a balance); "
                "leave it at False."
            )
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
