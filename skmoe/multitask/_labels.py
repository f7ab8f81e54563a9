"""Tasks, and the labels of one: which kind they are, their codes, and back."""

import numbers
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit, softmax

__all__ = [
    "KINDS",
    "Task",
    "coded",
    "decode",
    "distinct",
    "is_text",
    "predicted",
    "probabilities",
    "split_raw",
    "task_of",
]

KINDS = ("binary", "multiclass", "regression", "count")
# Integers with more distinct values are not taken for classes unless declared so.
MOST_CLASSES = 20
# Above it the exponential function overflows.
MOST_LOG_RATE = 700.0


@dataclass(frozen=True, eq=False)
class Task:
    """What is to be predicted from a row.

    Attributes
    ----------
    name : str
    kind : {"binary", "multiclass", "regression", "count"}
        Outputs of a network are the logit of the second class, the logits of all
        classes, a standardised mean, and the log of a rate.
    classes : array of shape (n_classes,), or None
        Sorted labels.
    center, scale : float
        Mean and standard deviation of a regression's labels, in y's unit; else 0
        and 1.
    """

    name: Any
    kind: str
    classes: np.ndarray | None = None
    center: float = 0.0
    scale: float = 1.0

    @property
    def n_outputs(self):
        """The number of a network's outputs for the task."""
        return len(self.classes) if self.kind == "multiclass" else 1


# -- from labels to tasks ----------------------------------------------------------


def task_of(name, kind, values, weight=None, *, categorical=False, classes=None):
    """Return the task that labels are of.

    Parameters
    ----------
    name : str
    kind : str
        One of `KINDS`, "classification" or "auto".
    values : array of shape (n_labels,)
        At least one, none missing.
    weight : array of shape (n_labels,), optional
    categorical : bool
        Whether they were given as categories.
    classes : array-like of shape (n_classes,), optional
        Labels that there can be, where more may come later.

    Raises
    ------
    ValueError
        If the labels are not of the kind.
    """
    if kind == "auto":
        kind = _guessed(values, categorical or classes is not None)
    if kind in ("binary", "multiclass", "classification"):
        return _class_task(name, kind, values, classes)
    if classes is not None:
        raise ValueError(
            f"classes names task {name!r}, which has none: it is of kind {kind!r}."
        )
    values = _numbers(name, kind, values)
    if kind == "count":
        _check_counts(name, values)
        return Task(name, kind)
    # In units of the largest: the square of 1e-200 or 1e200 is no double.
    unit = np.ldexp(1.0, np.frexp(np.abs(values).max())[1] - 1)
    values = values / unit
    center = np.average(values, weights=weight)
    scale = np.sqrt(np.average((values - center) ** 2, weights=weight))
    # The spread of a constant is zero but for rounding.
    if scale <= 10 * np.finfo(float).eps * np.abs(values).max():
        scale = 0.0
    return Task(name, kind, None, float(center * unit), float(scale * unit) or 1.0)


def _guessed(values, categorical):
    """Return what kind of task the labels look like."""
    if categorical or is_text(values) or values.dtype.kind not in "iuf":
        return "classification"
    found = distinct(values)
    if values.dtype.kind == "f":
        return "binary" if np.isin(found, [0.0, 1.0]).all() else "regression"
    span = int(found[-1]) - int(found[0])
    if len(found) <= 2 or len(found) == span + 1 <= MOST_CLASSES:
        return "classification"
    return "regression" if found[0] < 0 else "count"


def _check_counts(name, values):
    wrong = (values < 0) | (values != np.floor(values))
    if wrong.any():
        raise ValueError(
            f"task {name!r} is of counts, whole numbers from 0 on, got "
            f"{values[wrong][0]:g}."
        )


def _class_task(name, kind, values, declared=None):
    _check_labels(name, values)
    classes = distinct(values if declared is None else np.asarray(declared))
    if len(classes) == 1:
        raise ValueError(
            f"task {name!r} has only one class, {classes.tolist()[0]!r}: there must be "
            "at least two to tell apart. Leave the task out, or give more rows."
        )
    if kind == "binary" and len(classes) > 2:
        raise ValueError(
            f"task {name!r} is binary, and y holds {len(classes)} classes of it, "
            f"{_some(classes)}: declare it 'multiclass'."
        )
    if kind == "classification":
        kind = "binary" if len(classes) == 2 else "multiclass"
    return Task(name, kind, classes)


def _check_labels(name, values):
    """Raise a ValueError unless values can be the labels of classes."""
    if values.dtype.kind == "O":
        texts = {issubclass(kind, str | bytes) for kind in set(map(type, values))}
        if len(texts) > 1:
            raise ValueError(
                "Mix of label input types (string and number) in task "
                f"{name!r}: make them all strings or all numbers."
            )
    elif values.dtype.kind not in "biufSU":
        raise ValueError(f"Unknown label type: {values.dtype} in task {name!r}.")
    if values.dtype.kind == "f" and (values != np.floor(values)).any():
        raise ValueError(
            f"Unknown label type: continuous. Task {name!r} is one of classes, got "
            f"{values[values != np.floor(values)][0]:g}: use a regressor for it."
        )


def _numbers(name, kind, values):
    """Return labels as floats."""
    try:
        if not is_text(values) and values.dtype.kind not in "mM":
            return values.astype(np.float64)
        found = _some(values[:1])
    except (TypeError, ValueError) as error:
        found = error
    raise ValueError(
        f"task {name!r} is of kind {kind!r} and needs numbers, got {found}."
    )


def _some(labels, most=5):
    """Return a few labels as text."""
    more = ", ..." if len(labels) > most else ""
    return f"[{', '.join(map(repr, np.asarray(labels)[:most].tolist()))}{more}]"


def is_text(values):
    """Return whether an array holds text, or objects that are not numbers."""
    if values.dtype.kind != "O":
        return values.dtype.kind in "SU"
    return any(not issubclass(k, numbers.Number) for k in set(map(type, values)))


def distinct(values):
    """Return sorted distinct values, in the dtype of all."""
    if values.dtype.kind != "O":
        return np.unique(values)
    # Hashing tells a few strings among many rows apart faster than sorting all.
    found = sorted(set(values.tolist()))
    return np.array([*found, None], dtype=object)[:-1]


# -- from labels to codes, and back ------------------------------------------------


def coded(task, values):
    """Return labels as numbers: of classes, in standard deviations, or counts.

    Parameters
    ----------
    task : Task
    values : array of shape (n_labels,)
        None of them missing.

    Returns
    -------
    codes : array of float64 of shape (n_labels,)

    Raises
    ------
    ValueError
        If a label is none of the task's.
    """
    if task.classes is None:
        values = _numbers(task.name, task.kind, values)
        if task.kind == "count":
            _check_counts(task.name, values)
        return (values - task.center) / task.scale
    place = {label: i for i, label in enumerate(task.classes.tolist())}
    if values.dtype.kind == "O":
        index = np.array([place.get(label, -1) for label in values.tolist()], dtype=int)
    else:
        found, inverse = np.unique(values, return_inverse=True)
        index = np.array([place.get(label, -1) for label in found.tolist()], dtype=int)
        index = index[inverse]
    if (index < 0).any():
        new = values[index < 0][:1].tolist()[0]
        raise ValueError(
            f"task {task.name!r} has a label that was not seen in fit, {new!r}: its "
            f"classes are {_some(task.classes)}."
        )
    return index.astype(np.float64)


def split_raw(tasks, raw):
    """Return the outputs of each task.

    Parameters
    ----------
    tasks : list of Task
    raw : array of shape (n_samples, total number of outputs)

    Returns
    -------
    parts : list of arrays of shape (n_samples, n_outputs)
    """
    ends = np.cumsum([task.n_outputs for task in tasks])
    return np.split(raw, ends[:-1], axis=1)


def decode(tasks, raw):
    """Return predictions of all tasks from all outputs: a list of `predicted`."""
    parts = split_raw(tasks, raw)
    return [predicted(task, part) for task, part in zip(tasks, parts, strict=True)]


def predicted(task, raw):
    """Return the most probable labels, the means in y's unit, or the rates.

    Parameters
    ----------
    task : Task
    raw : array of shape (n_samples, n_outputs)
        Logits, standardised means, or logs of rates.

    Returns
    -------
    prediction : array of shape (n_samples,)
    """
    if task.kind == "binary":
        return task.classes[(raw[:, 0] > 0).astype(int)]
    if task.kind == "multiclass":
        return task.classes[raw.argmax(axis=1)]
    if task.kind == "count":
        return np.exp(np.minimum(raw[:, 0], MOST_LOG_RATE))
    return task.center + task.scale * raw[:, 0]


def probabilities(task, raw):
    """Return the probability of each class, of shape (n_samples, n_classes).

    Parameters
    ----------
    task : Task
        Of classes.
    raw : array of shape (n_samples, n_outputs)
    """
    if task.kind == "multiclass":
        return softmax(raw, axis=1)
    return np.column_stack([expit(-raw[:, 0]), expit(raw[:, 0])])
