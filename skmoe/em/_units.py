"""Training rows that are more than a list: groups, missing responses, balance.

A *unit* is what has one responsibility: a row, or all rows of a group. Within a
group the log densities of an expert are added up (repeated measurements, as in
Gruen, B. and Leisch, F. 2008. FlexMix version 2. J. Stat. Softw. 28),

    r_gk  ~  g_k(z_g) prod_{i in g} p_k(y_i | x_i)^w_i ,

and the gate is asked at the weighted mean z_g of the group's rows. A row without a
response has no density: its responsibilities are the gate's, and only a gate that
models x learns from it (Miller, D. and Uyar, H. 1997. A mixture of experts classifier
with learning based on both labelled and unlabelled data. NIPS 9). `UsagePrior` and
`Capacity` keep experts from starving.
"""

import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from skmoe._gaps import gaps
from skmoe.em._balance import Capacity, UsagePrior
from skmoe.em._node import Node, hard_assignment, posterior, take_columns
from skmoe.em._node_problem import NodeProblem, in_pass

__all__ = ["UnitProblem", "Units", "group_codes", "labelled_rows", "unit_posterior"]

Array = NDArray[np.float64]
Ints = NDArray[np.intp]


def group_codes(groups: Any, n_rows: int) -> Ints:
    """Return the number of each row's group: 0, 1, ...

    Raises
    ------
    ValueError
        If there is not one name for each row, or none for some.
    """
    names = np.asarray(groups)
    if names.shape != (n_rows,):
        raise ValueError(
            f"groups must name the group of each of the {n_rows} rows of X, got shape "
            f"{names.shape}."
        )
    missing = gaps(names)
    if missing.any():
        row = int(np.flatnonzero(missing)[0])
        raise ValueError(f"groups must not hold NaN or None: first in row {row}.")
    try:
        codes = np.unique(names, return_inverse=True)[1]
    except TypeError as error:
        raise ValueError(f"names of groups must be of one type: {error}") from error
    return np.asarray(codes, dtype=np.intp)


@dataclass
class Units:
    """What is said about the training rows beside X, y and weight.

    Attributes
    ----------
    group : array of int of shape (n_samples,), or None
        The group of each row, 0, 1, ...; None where each row is its own.
    labelled : array of bool of shape (n_samples,), or None
        Whether a row has a response; None where all have.
    balance : Capacity, UsagePrior or None
    """

    group: Ints | None = None
    labelled: NDArray[np.bool_] | None = None
    balance: Capacity | UsagePrior | None = None

    @property
    def is_plain(self) -> bool:
        """Whether nothing is said: each row is a unit, and has a response."""
        said = (self.group, self.labelled, self.balance)
        return all(one is None for one in said)

    def take(self, rows: Any) -> "Units":
        """Return the same for some of the rows."""
        group = None if self.group is None else self.group[rows]
        if group is not None:
            group = np.unique(group, return_inverse=True)[1]
        labelled = None if self.labelled is None else self.labelled[rows]
        return replace(self, group=group, labelled=labelled)


class UnitProblem(NodeProblem):
    """A general node bound to rows that come as units.

    Parameters
    ----------
    node : Node
    X, y, weight : the rows, validated
        Responses of unlabelled rows are placeholders.
    units : Units
    prepare : bool
        Whether the parts are to fix their scales on these rows; False for a node
        that is fitted already.
    """

    def __init__(
        self,
        node: Node,
        X: Any,
        y: Array,
        weight: Array,
        units: Units,
        *,
        prepare: bool = True,
        n_classes: int | None = None,
    ) -> None:
        self.units = units
        self.expert_weight = weight
        if units.labelled is not None:
            self.expert_weight = weight * units.labelled
        gate_rows = take_columns(X, node.gate_columns)
        self.unit_weight, self.add_up = weight, None
        if units.group is not None:
            # Rows within a group count by their weight; the group counts once.
            shape = (weight.size, int(units.group.max()) + 1)
            rows = np.arange(weight.size)
            self.add_up = sparse.csr_array((weight, (rows, units.group)), shape=shape)
            gate_rows = _means(self.add_up, gate_rows)
            self.unit_weight = np.ones(shape[1])
        self.gate_rows = gate_rows
        self.balance = copy.copy(units.balance)
        if prepare:
            for _, expert in node.experts:
                if units.group is not None and hasattr(expert, "cross_fit"):
                    expert.fold_groups_ = units.group
            node.prepare_parts(
                gate_rows, self.unit_weight, X, y, self.expert_weight, n_classes
            )
        super().__init__(node, X, y, weight)
        self.total_weight = float(self.unit_weight.sum())
        self.row = min(1.0, self.total_weight / self.unit_weight.size)

    @property
    def exact_m_step(self) -> bool:
        """Whether the objective must never fall."""
        # Filling experts up to the cap in an order is no exact E-step.
        capped = isinstance(self.balance, Capacity)
        filled = capped and self.assign is hard_assignment
        return bool(self.node.exact_m_step and not filled)

    @property
    def penalty(self) -> float:
        """Log prior density of all parts, and of the usage of the experts."""
        value = self.node.penalty
        if isinstance(self.balance, UsagePrior):
            value += self.balance.log_density(self._log_proba, self.unit_weight)
        return float(value)

    @property
    def mass(self) -> Array:
        """Weighted units of each expert at the last E-step."""
        return np.asarray(self._resp @ self.unit_weight)

    def e_step(self) -> float:
        """Return the log-likelihood and keep the responsibilities of the units."""
        self.n_passes += 1
        with in_pass(self.n_passes):
            joint = self.joint(contenders=True)
            if isinstance(self.balance, Capacity):
                self._resp, log_lik = self.balance.assign(
                    joint, self.unit_weight, self.node.assign
                )
                log_lik = self._with_moved(joint, log_lik)
            else:
                self._resp, log_lik = self.node.assign(joint)
        self.node.resp = self._of_rows(self._resp)
        return float(self.unit_weight @ log_lik)

    def _with_moved(self, joint: Array, log_lik: Array) -> Array:
        """Evaluate the rows that a cap moved to experts which were not asked."""
        pending = self.node.pending
        if pending is None or not (moved := pending & (self._resp > 0)).any():
            return log_lik
        self.node.add_where(joint, moved, self.X, self.y)
        chosen = joint[self._resp.argmax(axis=0), np.arange(joint.shape[1])]
        return np.asarray(np.where(moved.any(axis=0), chosen, log_lik))

    def joint(self, *, conditional: bool = False, contenders: bool = False) -> Array:
        """Return joint log densities of the units, (n_experts, n_units).

        Parameters
        ----------
        conditional : bool, default=False
            Leave out a gate's density of x.
        contenders : bool, default=False
            Leave out experts that cannot win a row, where assignments are hard.
        """
        self.node.pending = None
        gate = self.node.gate
        # A prior on usage is for gates that model no x: both are the same there.
        ask = gate.log_proba if conditional else gate.log_joint
        self._log_proba = log_gate = np.asarray(ask(self.gate_rows)).T
        if self.add_up is None:
            if contenders and self.units.labelled is None:
                return self.node.add_contenders(np.array(log_gate), self.X, self.y)
            return self._with_density(np.array(log_gate))
        density = self._with_density(np.zeros((log_gate.shape[0], self.weight.size)))
        return np.asarray(log_gate + (self.add_up.T @ density.T).T)

    def _with_density(self, start: Array) -> Array:
        """Add the experts' log densities; unlabelled rows have none."""
        labelled = self.units.labelled
        if labelled is None:
            return self.node.add_densities(start, self.X, self.y)
        added = self.node.add_densities(np.zeros_like(start), self.X, self.y)
        added[:, ~labelled] = 0.0
        return start + added

    def responsibilities(self) -> Array:
        """Return responsibilities of the rows at the current parameters."""
        return self._of_rows(posterior(self.joint())[0])

    def conditional_responsibilities(self) -> Array:
        """Return the same under the law of y given x, a density of x left out."""
        return self._of_rows(posterior(self.joint(conditional=True))[0])

    def start(
        self, resp: Array, gate_steps: int = 1, gate_parameters: Array | None = None
    ) -> None:
        """Fit all parts to given responsibilities of the rows."""
        self.n_passes = 0
        self.restore(self.origin)
        resp = self._of_units(resp)
        if isinstance(self.balance, UsagePrior):
            self._log_proba = np.log(np.maximum(resp, 1e-300))
        self._unit_m_step(resp)
        for _ in range(gate_steps - 1 if self.node.gate.exact_m_step else 0):
            self._gate_m_step(resp)

    def m_step(self) -> None:
        """Fit all parts to the responsibilities of the last E-step."""
        self._unit_m_step(self._resp)

    def _unit_m_step(self, resp: Array) -> None:
        with in_pass(self.n_passes):
            self._gate_m_step(resp)
            rows = self._of_rows(resp)
            self.node.experts_m_step(self.X, self.y, self.expert_weight * rows)

    def _gate_m_step(self, resp: Array) -> None:
        weight = self.unit_weight
        if isinstance(self.balance, UsagePrior):
            resp, weight = self.balance.augmented(resp, self._log_proba, weight)
        self.node.gate.m_step(self.gate_rows, np.ascontiguousarray(resp.T), weight)

    def _of_rows(self, resp: Array) -> Array:
        group = self.units.group
        return resp if group is None else resp[:, group]

    def _of_units(self, resp: Array) -> Array:
        """Return mean responsibilities of the groups, for a start from rows."""
        if self.add_up is None:
            return resp
        sums = np.asarray((self.add_up.T @ resp.T).T)
        return np.asarray(sums / sums.sum(axis=0))


def _means(add_up: Any, rows: Array) -> Array:
    """Return weighted means within groups of the values that are there.

    Parameters
    ----------
    add_up : sparse array of shape (n_samples, n_groups)
    rows : array of shape (n_samples, n_features)
        With NaN for gaps.
    """
    seen = ~np.isnan(rows)
    share = add_up.T @ seen
    total = add_up.T @ np.where(seen, rows, 0.0)
    mean = np.full(total.shape, np.nan)
    np.divide(total, share, out=mean, where=share > 0.0)
    return mean


def unit_posterior(
    node: Node, X: Any, y: Array, weight: Array, units: Units | None = None
) -> tuple[Array, Array, Array]:
    """Return what a fitted node says of units, by its law of y given x.

    Returns
    -------
    resp : array of shape (n_experts, n_units)
    log_prob : array of shape (n_units,)
    weight : array of shape (n_units,)
        Of rows; 1 for groups, whose rows count by their weight inside.
    """
    if units is None:
        return (*posterior(node.conditional(X, y)), weight)
    bound = UnitProblem(node, X, y, weight, units, prepare=False)
    return (*posterior(bound.joint(conditional=True)), bound.unit_weight)


def labelled_rows(
    X: Any, y: Array, weight: Array, units: Units | None = None
) -> tuple[Any, Array, Array, Units | None]:
    """Return the rows that have a response, and their groups where there are some."""
    if units is None:
        return X, y, weight, None
    if units.labelled is not None:
        seen = units.labelled
        X, y, weight, units = X[seen], y[seen], weight[seen], units.take(seen)
    return X, y, weight, None if units.group is None else Units(units.group)
