"""The numbers of a fitted mixture, named as a printout names them."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from skmoe._wording import gate_form, seen_names, target_labels
from skmoe.em._node import Node
from skmoe.experts._contributions import linear_form
from skmoe.experts._expanded import ExpandedExpert
from skmoe.gates._derivatives import gate_nodes
from skmoe.gates._expanded import ExpandedGate
from skmoe.gates._tree import GateTree
from skmoe.likelihoods import Gaussian

__all__ = [
    "Coefficient",
    "CoefficientBlock",
    "coefficient_blocks",
    "first_categories",
    "references",
]


@dataclass(frozen=True)
class Coefficient:
    """One number of one part.

    Attributes
    ----------
    part : str
        "gate", "gate of node 3", or the name of an expert.
    output : str
        What it is a coefficient of, where there are several: an expert or node that a
        gate leads to, an output, a class, the log variance.
    term : str
        "intercept", a column, or the name of a dispersion.
    kind : {"intercept", "slope", "shape"}
    positive : bool
        Whether it is a positive number, such as a variance.
    log : bool
        Whether its logarithm is what was estimated.
    column : int
        Position of the column in the engine's matrix, -1 for none.
    """

    part: str
    output: str
    term: str
    kind: str
    positive: bool = False
    log: bool = False
    column: int = -1


@dataclass
class CoefficientBlock:
    """The coefficients of one part.

    Attributes
    ----------
    place : int
        Number of the expert; -1, -2, ... for the gates from the root down.
    coefficients : list of Coefficient
    values : array of shape (n_coefficients,)
        As they are printed.
    contrast : array of shape (n_coefficients, n_terms)
        Makes them (logs of those with ``log``) of the terms of the part, whose
        categorical columns have an indicator for each category: coefficients are
        printed against the first category, which is part of the intercept.
    """

    place: int
    coefficients: list[Coefficient]
    values: Any
    contrast: Any


def _block(place, found, plan):
    """Return a block of terms and their values (logs of those with ``log``)."""
    terms, values = found
    kept, contrast = _against_first(terms, plan)
    values = contrast @ values
    logs = np.array([one.log for one in kept], dtype=bool)
    values[logs] = np.exp(values[logs])
    return CoefficientBlock(place, kept, values, contrast)


def _against_first(terms, plan):
    """Return the terms that are left, and the matrix that makes them."""
    first = {}
    starts = {
        (one.part, one.output): i
        for i, one in enumerate(terms)
        if one.kind == "intercept"
    }
    matrix, kept = np.eye(len(terms)), []
    for i, one in enumerate(terms):
        atom = plan.columns[one.column] if one.column >= 0 else ("", -1)
        start = starts.get((one.part, one.output))
        if atom[1] not in plan.categories or start is None:
            kept.append(i)
            continue
        key = (start, atom[1])
        if key in first:
            matrix[i, first[key]] = -1.0
            kept.append(i)
        else:
            first[key] = i
            matrix[start, i] = 1.0
    return [terms[i] for i in kept], matrix[kept]


def coefficient_blocks(model, node: Node | None = None) -> list[CoefficientBlock]:
    """Return the coefficients of gate and experts, the gate's first.

    Parts that are not linear have none, or their dispersion alone.

    Parameters
    ----------
    model : fitted mixture
    node : Node, default=None
        Another one of the same shape, as a bootstrap makes it; None: the model's.
    """
    node = model.node_ if node is None else node
    engine = model._plan.engine_names()
    names = [name for name, _ in node.experts]
    blocks = []
    for i, gate in enumerate(gate_nodes(node.gate, len(names))):
        seen = node.gate_columns if gate.columns is None else gate.columns
        children = _child_names(node.gate, gate, names)
        found = _gate_coefficients(gate, _Columns.seen(engine, seen), children)
        blocks.append(_block(-1 - i, found, model._plan))
    labels = target_labels(model)
    for k, (name, expert) in enumerate(node.experts):
        columns = _Columns.seen(engine, node.columns[k])
        found = _expert_coefficients(name, expert, columns, labels)
        blocks.append(_block(k, found, model._plan))
    return blocks


def first_categories(model):
    """Return the names of the indicators that others are printed against."""
    plan = model._plan
    names = plan.engine_names()
    first = {}
    for name, atom in zip(names, plan.columns, strict=True):
        if atom[0] == "category":
            first.setdefault(atom[1], name)
    return list(first.values())


def references(node: Node) -> dict[str, str]:
    """Return what the log odds of each gate are measured against."""
    names = [name for name, _ in node.experts]
    return {
        gate.name: _child_names(node.gate, gate, names)[0]
        for gate in gate_nodes(node.gate, len(names))
    }


@dataclass
class _Columns:
    """The columns that a part works on: names, and places in the engine's matrix."""

    names: list[str] | None
    places: list[int] | None

    @classmethod
    def seen(cls, engine, columns):
        """Return those that a part sees, of the engine's."""
        places = list(range(len(engine))) if columns is None else list(columns)
        return cls(seen_names(engine, columns), places)

    def behind(self, transformer):
        """Return what comes out of a transformer of them."""
        try:
            return _Columns(list(transformer.get_feature_names_out(self.names)), None)
        except (AttributeError, ValueError):
            return _Columns(None, None)

    def name(self, j):
        return f"z{j}" if self.names is None else str(self.names[j])

    def place(self, j):
        return -1 if self.places is None else int(self.places[j])


def _child_names(whole, gate, names):
    """Return the names of what the children of a gate are."""
    n_children = int(gate.child.max()) + 1
    out = []
    for c in range(n_children):
        leaves = np.flatnonzero(gate.child == c)
        if leaves.size == 1:
            out.append(names[leaves[0]])
            continue
        assert isinstance(whole, GateTree)
        number = int(gate.name.rsplit(" ", 1)[-1]) if " " in gate.name else 0
        out.append(f"node {whole.tree.children[number][c]}")
    return out


def _gate_coefficients(gate, columns, children):
    """Return the log odds of each child against the first."""
    if isinstance(gate.gate, ExpandedGate):
        columns = columns.behind(gate.gate.transformer_)
    if not gate.obstacle or hasattr(gate.native, "kernel_"):
        found = gate.coefficient_map()
        value = found.matrix @ gate.coefficient_vector()
        every = [_named(t, gate.name, columns, children) for t in found.terms]
        return every, value
    form = gate_form(gate.native)
    if form is None:
        return [], np.zeros(0)
    every, value = [], []
    for c in range(1, len(children)):
        slope, start = form.slope[c] - form.slope[0], form.intercept[c]
        value += [start - form.intercept[0], *slope]
        every += _linear(gate.name, children[c], columns, slope.size)
    return every, np.array(value)


def _expert_coefficients(name, expert, columns, labels):
    """Return the coefficients of an expert, and its dispersion."""
    if isinstance(expert, ExpandedExpert):
        columns = columns.behind(expert.transformer_)
        expert = expert.native
    if hasattr(expert, "coefficient_map"):
        found = expert.coefficient_map()
        value = found.matrix @ expert.coefficient_vector()
        every = [_named(term, name, columns, labels) for term in found.terms]
        return every, value
    every, value = [], []
    form = linear_form(expert)
    if form is not None:
        starts = np.atleast_1d(form.intercept)
        for i, slope in enumerate(np.atleast_2d(form.slope)):
            output = labels[i] if starts.size > 1 else ""
            value += [starts[i], *slope]
            every += _linear(name, output, columns, slope.size)
    if isinstance(expert.likelihood, Gaussian):
        spread = np.asarray(expert.dispersion, dtype=float)
        spread = np.atleast_1d(np.diag(spread) if spread.ndim == 2 else spread)
        value += list(spread)
        outputs = labels if spread.size > 1 else [""]
        every += [
            Coefficient(name, output, "variance", "shape", positive=True)
            for output in outputs
        ]
    return every, np.array(value, dtype=float)


def _linear(part, output, columns, n_slopes):
    """Return an intercept and slopes of some columns."""
    slopes = [
        Coefficient(part, output, columns.name(j), "slope", column=columns.place(j))
        for j in range(n_slopes)
    ]
    return [Coefficient(part, output, "intercept", "intercept"), *slopes]


def _named(term, part, columns, outputs):
    """Return a term of a part with names."""
    output = outputs[term.output] if term.output >= 0 else ""
    if term.kind == "shape":
        return Coefficient(
            part, output, term.name, "shape", term.positive, log=term.log
        )
    output = output or term.name
    if term.kind == "intercept":
        return Coefficient(part, output, "intercept", "intercept")
    name, place = columns.name(term.column), columns.place(term.column)
    return Coefficient(part, output, name, "slope", column=place)
