"""The data behind a picture of a hierarchical mixture."""

from dataclasses import dataclass

import numpy as np
from sklearn.base import is_classifier
from sklearn.utils.validation import check_is_fitted

from skmoe._tree import Tree
from skmoe._wording import (
    column_names,
    expert_lines,
    gate_form,
    noise_of,
    number,
    rule_of,
    seen_names,
    short_repr,
    target_labels,
)
from skmoe._xp import to_numpy
from skmoe.inspection._tree_drawing import TreeDrawing

__all__ = ["Split", "TreeDisplay"]

SPLIT_COLUMNS = 3
LONG_FORMULA = 84  # letters
# Nats per standard deviation: a column that moves a gate less is not named.
NO_SPLIT = 1e-3


@dataclass(frozen=True)
class Split:
    """What a gate looks at.

    Attributes
    ----------
    names : tuple of str
        The columns that move it most, the strongest first; none for a gate whose
        log odds are not linear.
    weight : array of shape (n_children, n_names) or (1, n_names)
        Change of a child's score when the column rises by one standard deviation,
        in nats. Of two children one row: log odds of the second.
    threshold : float or None
        Where both of two children are equally probable, for a gate of one column.
    text : str
        The gate's name, where it is not linear.
    """

    names: tuple
    weight: np.ndarray
    threshold: float | None = None
    text: str = ""


class TreeDisplay:
    """Picture of a hierarchical mixture: its splits, and the models of its leaves.

    Use `from_estimator` to make one. The root is on the left, leaves are on the
    right, the first one on top. Bands are as wide as the share of rows that pass;
    a box names the columns that its gate looks at, the strongest first, with their
    weight: the change of the log odds (nats) of the lower child when the column
    rises by one standard deviation. Colours show the mean prediction for the rows
    that pass, or the share of the classes.

    Parameters
    ----------
    tree : Tree
        The shape: children, parent and level of each node.
    share : array of shape (n_nodes,)
        Share of the rows that pass a node, soft: sums to 1 over the leaves.
    value : array of shape (n_nodes, n_outputs or n_classes) or None
        Mean prediction, or class probabilities, for the rows that pass.
    splits : list of Split
        One for each of ``tree.inner``.
    experts : list of list of str
        For each leaf its formula: a line for each output or class.
    noise : array of shape (n_leaves, n_outputs) or None
        Standard deviations of the leaves, in the unit of y.
    labels : list of str
        Names of the outputs, or of the classes.
    classifies : bool

    Attributes
    ----------
    ax_ : matplotlib Axes
        Set by `plot`.
    figure_ : matplotlib Figure

    Examples
    --------
    >>> from skmoe import HierarchicalMixtureOfExpertsRegressor
    >>> from skmoe.datasets import load_mcycle
    >>> from skmoe.inspection import TreeDisplay
    >>> X, y = load_mcycle(return_X_y=True)
    >>> model = HierarchicalMixtureOfExpertsRegressor(depth=2, random_state=0)
    >>> display = TreeDisplay.from_estimator(
    ...     model.fit(X, y), X, feature_names=["time"]
    ... )
    >>> display.splits[0].names
    ('time',)
    """

    def __init__(
        self, *, tree, share, value, splits, experts, noise, labels, classifies
    ):
        self.tree = tree
        self.share = share
        self.value = value
        self.splits = splits
        self.experts = experts
        self.noise = noise
        self.labels = labels
        self.classifies = classifies

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X=None,
        *,
        feature_names=None,
        max_columns=SPLIT_COLUMNS,
        decimals=2,
        max_depth=4,
        output=0,
        cmap=None,
        ax=None,
    ):
        """Draw a fitted hierarchical mixture.

        Parameters
        ----------
        estimator : hierarchical mixture
        X : array-like of shape (n_samples, n_features), default=None
            Rows for the shares and the values. None: shares are the responsibilities
            of the leaves for the training rows, and there are no values.
        feature_names : sequence of str of shape (n_features,), default=None
            None: the names seen in fit, or x0, x1, ...
        max_columns : int, default=3
            Columns named at a split and in a formula; in formulas the others are put
            at their mean.
        decimals : int, default=2
            Digits after the point; numbers below 0.1 keep that many significant ones.
        max_depth, output, cmap, ax
            See `plot`.

        Returns
        -------
        display : TreeDisplay

        Raises
        ------
        TypeError
            If the estimator is not a hierarchical mixture.
        NotFittedError
            If it was not fitted.
        """
        if not max_columns >= 1:
            raise ValueError(f"max_columns must be at least 1, got {max_columns!r}.")
        display = cls(**_read(estimator, X, feature_names, max_columns, decimals))
        return display.plot(max_depth=max_depth, output=output, cmap=cmap, ax=ax)

    def plot(self, ax=None, *, max_depth=4, output=0, cmap=None):
        """Draw the tree.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None: a new figure, as large as the tree needs. The text in other axes is
            made as small as they are.
        max_depth : int or None, default=4
            Deeper parts are drawn as one box that says how many leaves it stands for.
        output : int, default=0
            The output, of several, that the colours show.
        cmap : str or Colormap, default=None
            None: viridis for predictions, tab10 for classes.

        Returns
        -------
        self : TreeDisplay
        """
        if max_depth is not None and not max_depth >= 1:
            raise ValueError(
                f"max_depth must be None or at least 1, got {max_depth!r}."
            )
        if not 0 <= output < len(self.labels):
            raise ValueError(
                f"output must be a position among the {len(self.labels)} outputs "
                f"{self.labels}, got {output!r}."
            )
        self.ax_ = TreeDrawing(self, max_depth, output, cmap).draw(ax)
        self.figure_ = self.ax_.figure
        return self

    def frame(self):
        """Return the nodes as a data frame, one row each, in the order of their number.

        Columns: ``parent`` (-1 for the root), ``level``, ``leaf`` (its number, -1 for
        other nodes), ``n_leaves`` below, ``share``, ``text`` (split or formula), the
        value of each output or class as ``value[<name>]``, ``noise[<output>]``.

        Returns
        -------
        frame : pandas.DataFrame
        """
        import pandas

        tree = self.tree
        number_of = {node: k for k, node in enumerate(tree.leaves)}
        position = {node: i for i, node in enumerate(tree.inner)}
        nodes = range(tree.n_nodes)
        table = {
            "parent": tree.parent,
            "level": tree.level,
            "leaf": [number_of.get(node, -1) for node in nodes],
            "n_leaves": [len(tree.leaves_under(node)) for node in nodes],
            "share": self.share,
            "text": [
                "; ".join(self.experts[number_of[node]])
                if node in number_of
                else split_text(self.splits[position[node]])
                for node in nodes
            ],
        }
        if self.value is not None:
            for label, column in zip(self.labels, self.value.T, strict=True):
                table[f"value[{label}]"] = column
        if self.noise is not None:
            noise = np.full((tree.n_nodes, self.noise.shape[1]), np.nan)
            noise[tree.leaves] = self.noise
            for label, column in zip(self.labels, noise.T, strict=True):
                table[f"noise[{label}]"] = column
        return pandas.DataFrame(table).rename_axis("node")


def split_text(split):
    """Return a split as one line of text."""
    if not split.names:
        return split.text
    if split.threshold is not None:
        sign = ">" if split.weight[0, 0] > 0 else "<"
        return f"{split.names[0]} {sign} {number(split.threshold)}"
    if split.weight.shape[0] > 1:
        return ", ".join(split.names)
    pairs = zip(split.weight[0], split.names, strict=True)
    return ", ".join(f"{weight:+.2g} {name}" for weight, name in pairs)


# -- from an estimator -------------------------------------------------------------


def _read(estimator, X, feature_names, max_columns, decimals):
    """Return the arguments of a TreeDisplay."""
    if not (hasattr(estimator, "decision_path") and hasattr(estimator, "leaf_proba")):
        raise TypeError(
            "TreeDisplay draws hierarchical mixtures, such as "
            f"HierarchicalMixtureOfExpertsRegressor, got {estimator!r}."
        )
    check_is_fitted(estimator, "node_")
    tree, node = estimator.tree_, estimator.node_
    names, labels = column_names(estimator, feature_names), target_labels(estimator)
    leaf_share, leaf_value = _of_leaves(estimator, X)
    share = _summed(tree, leaf_share)
    value = None
    if leaf_value is not None:
        total = _summed(tree, leaf_value * leaf_share[:, None])
        with np.errstate(invalid="ignore"):
            value = total / share[:, None]
    columns = node.gate.columns or [None] * len(node.gate.gates)
    noise = [noise_of(expert) for _, expert in node.experts]
    return {
        "tree": tree,
        "share": share,
        "value": value,
        "splits": [
            _split(gate, seen_names(names, seen), max_columns)
            for gate, seen in zip(node.gate.gates, columns, strict=True)
        ],
        "experts": [
            _formula(expert, seen_names(names, seen), labels, decimals, max_columns)
            for (_, expert), seen in zip(node.experts, node.columns, strict=True)
        ],
        "noise": None if any(s is None for s in noise) else np.stack(noise),
        "labels": labels,
        "classifies": is_classifier(estimator),
    }


def _formula(expert, names, labels, decimals, max_columns):
    """Return an expert in words, with so many terms that a line is not too long."""
    for n_columns in range(max_columns, 0, -1):
        lines = expert_lines(expert, names, labels, decimals, n_columns, times=" ")
        if max(map(len, lines)) <= LONG_FORMULA:
            break
    return lines


def _of_leaves(estimator, X):
    """Return the leaves' shares, and what each predicts for the rows it gets."""
    if X is None:
        weight = to_numpy(estimator.leaf_weight_)
        return weight / weight.sum(), None
    gate = to_numpy(estimator.leaf_proba(X))
    means = to_numpy(estimator.predict_experts(X))
    total = np.einsum("nk,nk...->k...", gate, means).reshape(gate.shape[1], -1)
    mass = gate.sum(axis=0)[:, None]
    return gate.mean(axis=0), np.divide(
        total, mass, out=np.zeros_like(total), where=mass > 0
    )


def _summed(tree: Tree, of_leaves):
    """Return sums over the leaves below each node."""
    return np.stack(
        [of_leaves[tree.leaves_under(n)].sum(0) for n in range(tree.n_nodes)]
    )


def _split(gate, names, max_columns):
    """Return what a gate looks at."""
    form = gate_form(gate)
    if form is None:
        return Split((), np.zeros((0, 0)), text=short_repr(gate))
    binary = form.slope.shape[0] == 2
    form = rule_of(form) if binary else form
    weight = form.slope * form.spread
    if not binary:
        weight = weight - weight.mean(axis=0)
    strength = np.abs(weight).max(axis=0)
    order = np.argsort(-strength, kind="stable")
    order = order[strength[order] > NO_SPLIT]
    if order.size == 0:
        return Split((), np.zeros((0, 0)), text="the same for all rows")
    threshold = None
    if binary and order.size == np.count_nonzero(strength) == 1:
        threshold = float(-form.intercept[0] / form.slope[0, order[0]])
    order = order[:max_columns]
    return Split(tuple(names[j] for j in order), weight[:, order], threshold)
