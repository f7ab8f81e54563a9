"""From constructor arguments to the parts of a tree: leaves, gates, columns.

A node is a list of children, or an unfitted mixture estimator, which is unpacked:
its experts become children, its gate and columns those of the node. All else is a
leaf: an estimator, ``(name, estimator)`` or ``(name, estimator, columns)``.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.base import clone

from skmoe._arguments import (
    check_kind,
    resolve_columns,
    resolve_experts,
    resolve_gate,
)
from skmoe._composition import NamedExperts
from skmoe._tree import Tree
from skmoe.experts._adapted import check_no_memory
from skmoe.experts._known import ARGUMENTS

__all__ = [
    "NestedNames",
    "View",
    "holds_mixture",
    "is_entry",
    "leaf_estimators",
    "named_leaves",
    "positioned",
    "resolve_tree",
]


@dataclass
class View:
    """What a part of the tree sees and is made of.

    Attributes
    ----------
    gate : gate, classifier or None
        For every node that brings none of its own.
    gate_features : columns or None
    names : array of str or None
        Names of the columns seen.
    n_features : int
    positions : list of int or None
        Where those columns lie in X; None for all of it.
    prefix : str
        Of the names of the leaves.
    """

    gate: Any
    gate_features: Any
    names: Any
    n_features: int
    positions: Any = None
    prefix: str = ""

    def resolve(self, columns, owner):
        """Return columns of X for columns of this view, None for all of X."""
        inner = resolve_columns(columns, self.names, self.n_features, owner)
        if self.positions is None:
            return inner
        return self.positions if inner is None else [self.positions[j] for j in inner]

    def narrowed(self, columns, owner):
        """Return the view of some of the columns."""
        inner = resolve_columns(columns, self.names, self.n_features, owner)
        if inner is None:
            return self
        names = None if self.names is None else np.asarray(self.names)[inner]
        positions = self.resolve(columns, owner)
        return replace(self, names=names, n_features=len(inner), positions=positions)


def holds_mixture(experts):
    """Return whether some expert of a flat mixture is itself a mixture."""
    entries = experts if isinstance(experts, (list, tuple)) else [experts]
    return any(isinstance(_estimator_of(entry), NamedExperts) for entry in entries)


def _estimator_of(entry):
    if isinstance(entry, tuple) and len(entry) in (2, 3):
        return entry[1]
    return entry


def is_entry(experts):
    """Return whether a tuple is (name, estimator[, columns]), not a list of those."""
    return (
        isinstance(experts, tuple)
        and len(experts) in (2, 3)
        and isinstance(experts[0], str)
    )


def named_leaves(experts):
    """Return the (name, estimator) pairs in nested lists, from left to right."""
    if is_entry(experts):
        return [(experts[0], experts[1])]
    if isinstance(experts, (list, tuple)):
        return [pair for entry in experts for pair in named_leaves(entry)]
    return []


def leaf_estimators(experts):
    """Return the estimators in nested lists, from left to right."""
    if is_entry(experts):
        return [experts[1]]
    if isinstance(experts, (list, tuple)):
        return [leaf for entry in experts for leaf in leaf_estimators(entry)]
    return [experts]


class NestedNames:
    """Names of experts in nested lists, for `NamedParameters`."""

    @property
    def _named_experts(self):
        return named_leaves(self.experts)

    @_named_experts.setter
    def _named_experts(self, value):
        self.experts = _renamed(self.experts, iter(value))


def positioned(experts, names, n_features):
    """Return nested lists with positions in place of the names of columns."""
    if is_entry(experts):
        name, estimator, *columns = experts
        owner = f"expert {name!r}"
        columns = [resolve_columns(c, names, n_features, owner) for c in columns]
        return (name, _with_positions(estimator, names, n_features), *columns)
    if isinstance(experts, (list, tuple)):
        return [positioned(entry, names, n_features) for entry in experts]
    return _with_positions(experts, names, n_features)


def _with_positions(estimator, names, n_features):
    """Return an expert that names no column for an offset, exposure or trials."""
    if names is None or not hasattr(estimator, "get_params"):
        return estimator
    arguments = {argument for known in ARGUMENTS.values() for argument in known}
    named = {
        key: resolve_columns([value], names, n_features, key)[0]
        for key, value in estimator.get_params().items()
        if key.split("__")[-1] in arguments and isinstance(value, str)
    }
    return clone(estimator).set_params(**named) if named else estimator


def resolve_tree(items, view, default, rng, classification):
    """Return the shape of a tree and its parts, cloned and seeded.

    Parameters
    ----------
    items : nested lists, or a mixture estimator
    view : View
    default : Expert
        What ``None`` stands for.
    rng : RandomState
    classification : bool

    Returns
    -------
    tree : Tree
    experts : list of (name, Expert)
        From left to right.
    columns : list of (list of int or None)
    gates : list of Gate
        Level by level, as ``tree.inner``.
    gate_columns : list of (list of int or None)

    Raises
    ------
    ValueError, TypeError
        If a node has a single child, or a part is of the wrong kind.
    """
    queue = [(items, view)]
    children, nodes, leaf_at = [], [], {}
    for number, (entry, seen) in enumerate(queue):  # grows: level by level
        item, inner = _opened(entry, seen, number, classification)
        if not isinstance(item, list):
            children.append([])
            leaf_at[number] = (item, inner)
            continue
        if len(item) < 2:
            raise ValueError(
                f"a node of the tree needs at least two children, got {item!r}; put "
                "the child in its parent's place."
            )
        children.append(list(range(len(queue), len(queue) + len(item))))
        nodes.append(inner)
        queue += [(child, inner) for child in item]
    tree = Tree(children)
    experts, columns = _resolve_leaves(
        [leaf_at[node] for node in tree.leaves], default, rng, classification
    )
    gates = [resolve_gate(inner.gate, rng) for inner in nodes]
    gate_columns = [
        inner.resolve(inner.gate_features, "gate_features") for inner in nodes
    ]
    return tree, experts, columns, gates, gate_columns


def _opened(entry, view, number, classification):
    """Unpack mixtures; return a list of children or a leaf, with its view."""
    while isinstance(_estimator_of(entry), NamedExperts):
        mixture = _estimator_of(entry)
        name, columns = f"node{number}", None
        if isinstance(entry, tuple):
            name, columns = entry[0], (entry[2] if len(entry) == 3 else None)
        check_kind(name, mixture, classification)
        _check_nested(name, mixture)
        view = replace(
            view.narrowed(columns, f"mixture {name!r}"),
            gate=mixture.gate,
            gate_features=mixture.gate_features,
            prefix=f"{view.prefix}{name}.",
        )
        entry = mixture._items()
        if isinstance(entry, list) and len(entry) == 1:
            entry = entry[0]  # a mixture of one is that one
    return (list(entry) if _is_list(entry) else entry), view


def _check_nested(name, mixture):
    """Raise an error for what a nested mixture has and would lose."""
    check_no_memory(mixture)
    lost = [
        setting
        for setting, default in (("shared_dispersion", False), ("balance", None))
        if getattr(mixture, setting, default) != default
    ]
    if lost:
        raise ValueError(
            f"mixture {name!r} is one node of a larger model, which has one {lost[0]}: "
            f"set {lost[0]} on the outermost mixture."
        )


def _is_list(entry):
    return isinstance(entry, (list, tuple)) and not is_entry(entry)


def _resolve_leaves(leaves, default, rng, classification):
    """Return named experts and their columns; unnamed ones are numbered."""
    taken = {f"{v.prefix}{e[0]}" for e, v in leaves if is_entry(e)}
    entries, columns = [], []
    for k, (entry, view) in enumerate(leaves):
        named, cols, estimator = f"expert{k}", None, entry
        if is_entry(entry):
            named, estimator = f"{view.prefix}{entry[0]}", entry[1]
            cols = entry[2] if len(entry) == 3 else None
        elif view.prefix and not view.prefix.startswith("node"):
            named = f"{view.prefix}{named}"
        while named in taken and not is_entry(entry):
            named += "_"
        entries.append((named, estimator))
        columns.append(view.resolve(cols, f"expert {named!r}"))
    experts, _ = resolve_experts(entries, len(entries), default, rng, classification)
    return experts, columns


def _renamed(experts, pairs):
    """Return nested lists with the next (name, estimator) at every named leaf."""
    if isinstance(experts, (list, tuple)) and not is_entry(experts):
        return [_renamed(entry, pairs) for entry in experts]
    if named_leaves(experts):
        name, estimator = next(pairs)
        return (name, estimator, *experts[2:])
    return experts
