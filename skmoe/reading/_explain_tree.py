"""Why a hierarchical mixture predicts what it predicts, row by row."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import is_classifier

from skmoe._wording import target_labels
from skmoe._xp import to_numpy
from skmoe.em._law import keep_top, top_means
from skmoe.em._node import take_columns
from skmoe.experts._contributions import contributions_of
from skmoe.reading._explained import (
    TEXT_OUTPUTS,
    RowExplanations,
    entries,
    gathered,
    sum_lines,
)

__all__ = ["Explanation", "explain"]


@dataclass(eq=False, repr=False)
class Explanation(RowExplanations):
    """Paths through a tree, and what each column contributed to the predictions.

    For a regressor, in the unit of y,

        baseline + contributions.sum(axis=1) + rest == predict(X).

    With ``pooling="mean"`` all three are gate-weighted means over the leaves, with
    "top1" those of one leaf. So the contributions say what the columns do *within*
    the leaves; what they do by choosing the leaves is in the baseline. Under "mode"
    the mean is explained, and the way from there to the mode is in the rest.

    For a classifier the leaf at the end of the path is explained, on the scale of
    its logits (nats), whatever the pooling:

        softmax(baseline + contributions.sum(axis=1) + rest) == leaf_prediction

    with a column for each class. The difference of two classes' contributions is
    what a column adds to their log odds.

    Attributes
    ----------
    prediction : array of shape (n_samples[, n_outputs or n_classes])
        What the model predicts: ``predict(X)``, or ``predict_proba(X)``.
    baseline : array of shape (n_samples[, n_outputs or n_classes])
        What is predicted for the mean row of the training data, by the same leaves.
        (Sparse columns, and experts without an intercept, start at zero instead.)
    contributions : array of shape (n_samples, n_features[, n_outputs or n_classes])
        What the column adds by being where it is rather than at its mean.
    rest : array of shape (n_samples[, n_outputs or n_classes])
        What no single column can be given: all that an expert predicts which is not
        additive, interactions, a classifier's smoothing.
    path : array of int of shape (n_samples, depth + 1)
        Nodes from the root to the leaf, -1 behind a leaf that lies less deep.
    path_proba : array of shape (n_samples, depth)
        Each gate's probability of the child that the path takes; NaN behind a leaf.
    leaf : array of int of shape (n_samples,)
        Number of the leaf, counted from the left: what ``apply(X)`` returns.
    leaf_proba : array of shape (n_samples,)
        Probability of the leaf: the product of ``path_proba`` (over the sum of those
        of all paths that ``path_tol`` leaves).
    leaf_prediction : array of shape (n_samples[, n_outputs or n_classes])
        What the leaf predicts by itself.
    data : array or CSR array of shape (n_samples, n_features)
        The rows.
    feature_names : list of str
    labels : list of str
        Names of the outputs, or of the classes.
    leaf_names : list of str
        ``expert_names_`` of the model.
    classifies : bool
    pooling : str
    index : index of X, or None
        Where X was a pandas data frame.
    """

    prediction: Any
    baseline: Any
    contributions: Any
    rest: Any
    path: Any
    path_proba: Any
    leaf: Any
    leaf_proba: Any
    leaf_prediction: Any
    data: Any
    feature_names: list
    labels: list
    leaf_names: list
    classifies: bool
    pooling: str
    index: Any = None

    @property
    def _unit(self):
        return "log-odds (nats)" if self.classifies else "the unit of y"

    def to_frame(self):
        """Return a data frame with one row for each sample.

        Columns: ``path`` (its nodes, as text), ``leaf``, ``leaf_proba``,
        ``prediction``, ``baseline``, ``contribution_<column>`` of each column, and
        ``rest``; with the output or class in brackets where there are several.

        Returns
        -------
        frame : pandas.DataFrame
        """
        import pandas

        table = {
            "path": [" > ".join(map(str, path[path >= 0])) for path in self.path],
            "leaf": self.leaf,
            "leaf_proba": self.leaf_proba,
        }
        table |= self._spread("prediction", self.prediction)
        table |= self._spread("baseline", self.baseline)
        for j, name in enumerate(self.feature_names):
            table |= self._spread(f"contribution_{name}", self.contributions[:, j])
        table |= self._spread("rest", self.rest)
        return pandas.DataFrame(table, index=self.index)

    # -- as text -------------------------------------------------------------------

    def _row_lines(self, i, max_columns):
        """Return the lines on one row."""
        lines = [f"  path {self._path_text(i)}"]
        values = self._values(i)
        for label, baseline, parts, rest in self._sums(i):
            parts = parts[:, None]
            lines += sum_lines(label, baseline, parts, rest, values, max_columns)
        return lines

    def _path_text(self, i):
        path = self.path[i]
        path = path[path >= 0]
        steps = [
            f" -> {node} ({proba:.2f})"
            for node, proba in zip(path[1:], self.path_proba[i], strict=False)
        ]
        k = self.leaf[i]
        said = self._says(self.leaf_prediction[i])
        name = self.leaf_names[k]
        name = "" if name == f"expert{k}" else f" ({name})"
        return (
            f"{path[0]}{''.join(steps)}: leaf {k}{name}, probability "
            f"{self.leaf_proba[i]:.2f}, says {said}"
        )

    def _sums(self, i):
        """Yield a label with the baseline, contributions and rest that belong to it.

        Of classes: the log odds of the class that the leaf finds most probable, against
        the mean of the others.
        """
        baseline, rest = self.baseline[i], self.rest[i]
        parts = self.contributions[i]
        if self.classifies:
            c = int(self.leaf_prediction[i].argmax())
            versus = np.full(baseline.size, -1.0 / (baseline.size - 1))
            versus[c] = 1.0
            label = f"log-odds of {self.labels[c]!r} in the leaf"
            yield label, baseline @ versus, parts @ versus, rest @ versus
        elif baseline.ndim == 0:
            yield "prediction", baseline, parts, rest
        else:
            for o in range(min(baseline.size, TEXT_OUTPUTS)):
                yield self.labels[o], baseline[o], parts[:, o], rest[o]


def explain(model, X, known):
    """Explain the predictions of a fitted hierarchical mixture.

    Parameters
    ----------
    model : hierarchical mixture
    X : array-like of shape (n_samples, n_features)
    known : dict of str to array
        Known quantities beside X.

    Returns
    -------
    explanation : Explanation
    """
    rows = model._check_new(X, "explain", known, host=True)
    gates, tree = model.gate_, model.tree_
    log_gate = np.asarray(gates.log_proba(rows))
    kept = keep_top(log_gate, model.top_k)
    one_of_few = model.pooling == "top1" and model.top_k is not None
    leaf = kept.argmax(axis=1) if one_of_few else gates.descend(rows)
    classifies = is_classifier(model)
    if classifies or model.pooling == "top1":
        weight = np.zeros_like(kept)
        weight[np.arange(leaf.size), leaf] = 1.0
    else:
        weight = np.exp(kept)
    names, first, entry = entries(model)
    baseline, contributions, rest = _shared_out(model.node_, rows, weight)
    contributions = gathered(contributions, entry, len(names))
    prediction = model.predict_proba(X) if classifies else model.predict(X, **known)
    prediction = to_numpy(prediction)
    if model.pooling == "mode" and not classifies:
        rest = prediction - baseline - contributions.sum(axis=1)
    path = _paths(tree)[leaf]
    return Explanation(
        prediction=prediction,
        baseline=baseline,
        contributions=contributions,
        rest=rest,
        path=path,
        path_proba=_path_proba(gates, rows, path),
        leaf=leaf,
        leaf_proba=np.exp(log_gate[np.arange(leaf.size), leaf]),
        leaf_prediction=top_means(model.node_, rows, leaf),
        data=rows if entry is None else rows[:, first],
        feature_names=names,
        labels=target_labels(model),
        leaf_names=list(model.expert_names_),
        classifies=classifies,
        pooling=model.pooling,
        index=X.index if hasattr(X, "iloc") else None,
    )


def _shared_out(node, X, weight):
    """Return weighted sums over the experts: baseline, contributions, rest.

    Each expert is evaluated on the rows that give it weight.
    """
    sums = None
    for k, (_, expert) in enumerate(node.experts):
        rows = np.flatnonzero(weight[:, k] > 0)
        if rows.size == 0:
            continue
        view = take_columns(X[rows], node.columns[k])
        found = contributions_of(expert, view)
        if sums is None:
            shape = found.rest.shape[1:]
            sums = [np.zeros((X.shape[0], *shape)) for _ in range(3)]
            sums[1] = np.zeros((*X.shape, *shape))
        share = weight[rows, k].reshape(-1, *[1] * (found.rest.ndim - 1))
        sums[0][rows] += share * found.baseline
        sums[2][rows] += share * found.rest
        seen = slice(None) if node.columns[k] is None else np.asarray(node.columns[k])
        every = rows if node.columns[k] is None else rows[:, None]
        sums[1][every, seen] += share[:, None] * found.parts
    return sums


def _paths(tree):
    """Return the nodes on the way to each leaf, of shape (n_leaves, depth + 1)."""
    paths = np.full((tree.n_leaves, tree.depth + 1), -1, dtype=np.intp)
    for k, leaf in enumerate(tree.leaves):
        path = tree.path(leaf)
        paths[k, : len(path)] = path
    return paths


def _path_proba(gates, X, path):
    """Return each gate's probability of the next node of the path."""
    out = np.full((path.shape[0], path.shape[1] - 1), np.nan)
    level = gates.tree.level
    for i, node in enumerate(gates.tree.inner):
        rows = np.flatnonzero(path[:, level[node]] == node)
        if rows.size:
            proba = np.exp(np.asarray(gates.gates[i].log_proba(gates.view(X[rows], i))))
            children = np.array(gates.tree.children[node])
            taken = path[rows, level[node] + 1]
            out[rows, level[node]] = proba[taken[:, None] == children]
    return out
