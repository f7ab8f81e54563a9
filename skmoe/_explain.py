"""Why a hierarchical mixture predicts what it predicts, row by row."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.base import is_classifier

from skmoe._wording import column_names, target_labels
from skmoe._xp import to_numpy
from skmoe.em._law import keep_top, top_means
from skmoe.em._node import take_columns
from skmoe.experts._contributions import contributions_of

__all__ = ["Explanation", "explain"]

# What `str` shows.
TEXT_ROWS, TEXT_COLUMNS, TEXT_OUTPUTS = 3, 5, 3


@dataclass(eq=False, repr=False)
class Explanation:
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

    def __len__(self):
        return self.leaf.size

    def __str__(self):
        return self.to_text()

    __repr__ = __str__

    def to_text(self, n_rows=TEXT_ROWS, max_columns=TEXT_COLUMNS):
        """Return the first rows as readable text.

        Parameters
        ----------
        n_rows : int, default=3
        max_columns : int, default=5
            Columns to show of each row, those that contribute most first.
        """
        shown = min(n_rows, len(self))
        unit = "log-odds (nats)" if self.classifies else "the unit of y"
        lines = [
            f"Explanation of {len(self)} rows, pooling={self.pooling!r}; contributions "
            f"in {unit}."
        ]
        for i in range(shown):
            lines += ["", *_row_lines(self, i, max_columns)]
        more = len(self) - shown
        if more:
            lines += ["", f"... and {more} more row{'s' if more > 1 else ''}."]
        return "\n".join(lines)

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

    def _spread(self, name, values):
        """Return columns by name: one for each output or class."""
        if values.ndim == 1:
            return {name: values}
        pairs = zip(self.labels, values.T, strict=True)
        return {f"{name}[{label}]": column for label, column in pairs}


def explain(model, X):
    """Explain the predictions of a fitted hierarchical mixture.

    Parameters
    ----------
    model : hierarchical mixture
    X : array-like of shape (n_samples, n_features)

    Returns
    -------
    explanation : Explanation
    """
    rows = model._check_new(X, "explain")
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
    names, first, entry = _entries(model)
    baseline, contributions, rest = _shared_out(model.node_, rows, weight)
    contributions = _gathered(contributions, entry, len(names))
    prediction = to_numpy(model.predict_proba(X) if classifies else model.predict(X))
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


def _entries(model):
    """Return what contributions are named after, and where the engine has it.

    Returns
    -------
    names : list of str
    first : array of int, or None where the engine's columns are the user's
        The first engine's column of each name: a column that parts read in several
        ways is one.
    entry : array of int of shape (n_engine_columns,)
    """
    names = [str(name) for name in column_names(model)]
    places = {}
    for position, name in enumerate(names):
        places.setdefault(name, position)
    if len(places) == len(names):
        return names, None, None
    unique = list(places)
    order = {name: number for number, name in enumerate(unique)}
    first = np.array(list(places.values()))
    return unique, first, np.array([order[name] for name in names])


def _gathered(contributions, entry, n_entries):
    """Sum contributions over the engine's columns of one name."""
    if entry is None:
        return contributions
    shape = (contributions.shape[0], n_entries, *contributions.shape[2:])
    out = np.zeros(shape)
    for position, number in enumerate(entry):
        out[:, number] += contributions[:, position]
    return out


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


# -- as text -----------------------------------------------------------------------


def _row_lines(explanation, i, max_columns):
    """Return the lines on one row."""
    name = i if explanation.index is None else explanation.index[i]
    lines = [
        f"row {name}: {_said(explanation, i)}",
        f"  path {_path_text(explanation, i)}",
    ]
    for label, baseline, parts, rest in _sums(explanation, i):
        lines += _sum_lines(explanation, i, label, baseline, parts, rest, max_columns)
    return lines


def _said(explanation, i):
    """Return what is predicted."""
    value = np.atleast_1d(explanation.prediction[i])
    if explanation.classifies:
        c = int(value.argmax())
        return f"predicted {explanation.labels[c]!r}, probability {value[c]:.3g}"
    words = [f"{one:.4g}" for one in value[:TEXT_OUTPUTS]]
    more = ", ..." if value.size > TEXT_OUTPUTS else ""
    return f"predicted {', '.join(words)}{more}"


def _path_text(explanation, i):
    path = explanation.path[i]
    path = path[path >= 0]
    steps = [
        f" -> {node} ({proba:.2f})"
        for node, proba in zip(path[1:], explanation.path_proba[i], strict=False)
    ]
    k = explanation.leaf[i]
    own = np.atleast_1d(explanation.leaf_prediction[i])
    if explanation.classifies:
        said = f"{explanation.labels[own.argmax()]!r} ({own.max():.2f})"
    else:
        said = ", ".join(f"{one:.4g}" for one in own[:TEXT_OUTPUTS])
    name = explanation.leaf_names[k]
    name = "" if name == f"expert{k}" else f" ({name})"
    return (
        f"{path[0]}{''.join(steps)}: leaf {k}{name}, probability "
        f"{explanation.leaf_proba[i]:.2f}, says {said}"
    )


def _sums(explanation, i):
    """Yield a label with the baseline, contributions and rest that belong to it.

    Of classes: the log odds of the class that the leaf finds most probable, against
    the mean of the others.
    """
    baseline, rest = explanation.baseline[i], explanation.rest[i]
    parts = explanation.contributions[i]
    if explanation.classifies:
        c = int(explanation.leaf_prediction[i].argmax())
        versus = np.full(baseline.size, -1.0 / (baseline.size - 1))
        versus[c] = 1.0
        label = f"log-odds of {explanation.labels[c]!r} in the leaf"
        yield label, baseline @ versus, parts @ versus, rest @ versus
    elif baseline.ndim == 0:
        yield "prediction", baseline, parts, rest
    else:
        for o in range(min(baseline.size, TEXT_OUTPUTS)):
            yield explanation.labels[o], baseline[o], parts[:, o], rest[o]


def _sum_lines(explanation, i, label, baseline, parts, rest, max_columns):
    """Return a sum as lines, its largest terms first."""
    total = baseline + parts.sum() + rest
    largest = max(abs(baseline), abs(total), np.abs(parts).max(initial=0.0), abs(rest))
    size = np.floor(np.log10(largest)) if largest > 0 else 0
    digits = int(np.clip(2 - size, 0, 12))
    data = explanation.data[[i]]
    data = data.toarray()[0] if sparse.issparse(data) else data[0]
    order = np.argsort(-np.abs(parts), kind="stable")
    order = order[parts[order] != 0]
    shown, others = order[:max_columns], order[max_columns:]
    entries = [("baseline", baseline)]
    entries += [
        (f"{explanation.feature_names[j]} = {data[j]:.4g}", parts[j]) for j in shown
    ]
    if others.size:
        entries.append((f"{others.size} other columns", parts[others].sum()))
    if abs(rest) >= 0.5 * 10.0**-digits:
        entries.append(("rest", rest))
    width = max(len(text) for text, _ in entries)
    lines = [f"  {label} = {total:.{digits}f}"]
    lines += [f"    {text:<{width}}  {value:+.{digits}f}" for text, value in entries]
    return lines
