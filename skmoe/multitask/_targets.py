"""Labels of several tasks as people have them: arrays, data frames, dicts."""

import warnings
from dataclasses import dataclass

import numpy as np
from scipy.sparse import issparse
from sklearn.exceptions import DataConversionWarning

from skmoe.multitask._label_columns import (
    as_labels,
    in_order,
    kind_of,
    named_columns,
    read_column,
)
from skmoe.multitask._label_weights import (
    class_weights_by_task,
    row_weights,
    weights_of_classes,
)
from skmoe.multitask._labels import KINDS, coded, task_of

__all__ = [
    "Targets",
    "assemble",
    "code",
    "make_tasks",
    "read_targets",
    "row_weights",
    "weights",
]


@dataclass(frozen=True, eq=False)
class Targets:
    """Labels, task by task.

    Attributes
    ----------
    names : list of str
    values : list of arrays of shape (n_samples,)
        Anything where there is no label.
    labelled : list of arrays of bool of shape (n_samples,)
    categorical : list of bool
        Whether a task came as a column of categories.
    single : bool
        Whether y has one dimension.
    kind : {"array", "pandas", "polars", "dict"}
        What y was.
    """

    names: list
    values: list
    labelled: list
    categorical: list
    single: bool
    kind: str

    def __len__(self):
        return len(self.values[0]) if self.values else 0


# -- reading -----------------------------------------------------------------------


def read_targets(y, names=None):
    """Return the labels of each task; a missing one is NaN, None, NA or null.

    Parameters
    ----------
    y : array-like of shape (n_samples,) or (n_samples, n_tasks)
        Or a data frame or series of pandas or polars, or a dict of columns.
    names : list of str, optional
        The tasks in order. Columns of a frame or dict must be these; those of an
        array get these names. Without it an array's are "y", or "y0", "y1", ...

    Returns
    -------
    targets : Targets

    Raises
    ------
    ValueError
        If there are no rows, columns differ in length, a value is infinite, or the
        columns are not those named.
    """
    if y is None:
        raise ValueError(
            "requires y to be passed, but the target y is None: give labels."
        )
    kind = kind_of(y)
    columns, single = named_columns(y), False
    if columns is None:
        columns, single = _columns_of_array(y, kind, names)
    else:
        columns = in_order(columns, names)
    read = [read_column(name, column) for name, column in columns.items()]
    values, labelled, categorical = (list(part) for part in zip(*read, strict=True))
    if len({len(column) for column in values}) > 1:
        lengths = {name: len(v) for name, v in zip(columns, values, strict=True)}
        raise ValueError(
            f"Found input variables with inconsistent numbers of samples: {lengths}."
        )
    if not len(values[0]):
        raise ValueError("Found array with 0 sample(s) in y: at least 1 is required.")
    return Targets(list(columns), values, labelled, categorical, single, kind)


def _columns_of_array(y, kind, names):
    """Return the columns of an array or series by name, and whether it is one."""
    if issparse(y):
        raise TypeError("Sparse data was passed for y, but dense data is required.")
    if kind != "array":
        name = names[0] if names else ("y" if y.name in (None, "") else y.name)
        _check_n_columns(1, names)
        return {name: y}, True
    y = as_labels(y)
    if y.ndim not in (1, 2):
        raise ValueError(
            f"y should be a 1d array, or a 2d one of shape (n_samples, n_tasks), got "
            f"an array of shape {y.shape}."
        )
    if y.ndim == 2 and y.shape[1] == 1:
        warnings.warn(
            "A column-vector y was passed when a 1d array was expected. Please change "
            "the shape of y to (n_samples,), for example using ravel().",
            DataConversionWarning,
            stacklevel=3,
        )
        y = y[:, 0]
    single = y.ndim == 1
    columns = [y] if single else list(y.T)
    _check_n_columns(len(columns), names)
    if names is None:
        names = ["y"] if single else [f"y{t}" for t in range(len(columns))]
    return dict(zip(names, columns, strict=True)), single


def _check_n_columns(n_columns, names):
    if n_columns == 0:
        raise ValueError("y has no columns: there must be at least one task.")
    if names is not None and n_columns != len(names):
        raise ValueError(
            f"y has {n_columns} column(s), but there are {len(names)} task(s): "
            f"{list(names)}."
        )


# -- tasks and codes ---------------------------------------------------------------


def make_tasks(targets, kinds, weight=None, classes=None):
    """Return the task of each column of the targets.

    Parameters
    ----------
    targets : Targets
    kinds : {"regression", "classification", "auto"} or dict
        One rule for all tasks, or the kind of each by its name.

        - "classification": "binary" for two classes, "multiclass" for more;
        - "auto": text, booleans and categories are classes, however many; integers
          are if they have two values, or 3 to 20 without a gap between them, and
          else counts if none is negative; floats are binary if all are 0 or 1. What
          is left is regression.
    weight : array of shape (n_samples, n_tasks), optional
        Labels of weight zero are ignored.
    classes : array-like, list of them or dict of them, optional
        Labels of one task, of each, or of some by name, where fewer may be there.

    Returns
    -------
    tasks : list of Task

    Raises
    ------
    ValueError
        If there is no label of a task, a kind is unknown, or labels are not of it.
    """
    _check_declared(kinds, targets.names)
    declared = _by_task(classes, targets)
    tasks = []
    for t, name in enumerate(targets.names):
        known = targets.labelled[t]
        if weight is not None:
            known = known & (weight[:, t] > 0)
        if not known.any():
            raise ValueError(
                f"Input y contains NaN in all rows of task {name!r}, or their weights "
                "are zero: a task needs at least one label."
            )
        tasks.append(
            task_of(
                name,
                kinds[name] if isinstance(kinds, dict) else kinds,
                targets.values[t][known],
                None if weight is None else weight[known, t],
                categorical=targets.categorical[t],
                classes=declared.get(name),
            )
        )
    return tasks


def _check_declared(kinds, names):
    if not isinstance(kinds, dict):
        if kinds not in ("regression", "classification", "auto"):
            raise ValueError(
                "tasks must be 'auto' or a dict of the kind of each task, got "
                f"{kinds!r}."
            )
        return
    if set(kinds) != set(names):
        raise ValueError(
            f"tasks must declare what y holds, {list(names)}, got {list(kinds)}."
        )
    for name, kind in kinds.items():
        if kind not in KINDS:
            raise ValueError(
                f"the kind of task {name!r} must be one of {', '.join(KINDS)}, got "
                f"{kind!r}."
            )


def _by_task(classes, targets):
    if isinstance(classes, dict):
        unknown = [name for name in classes if name not in targets.names]
        if unknown:
            raise ValueError(
                f"classes names {unknown}, which are not among the tasks "
                f"{list(targets.names)}."
            )
    if classes is None or isinstance(classes, dict):
        return classes or {}
    classes = [classes] if targets.single else list(classes)
    if len(classes) != len(targets.names):
        raise ValueError(
            f"classes must hold the labels of each of the {len(targets.names)} tasks, "
            f"got {len(classes)} lists."
        )
    return dict(zip(targets.names, classes, strict=True))


def code(targets, tasks, weight=None):
    """Return labels as numbers, and which there are.

    Parameters
    ----------
    targets : Targets
        In the order of the tasks.
    tasks : list of Task
    weight : array of shape (n_samples, n_tasks), optional
        Labels of weight zero are ignored.

    Returns
    -------
    labels : array of float64 of shape (n_samples, n_tasks)
        Numbers of classes, standardised values, counts; 0 where there is no label.
    labelled : array of bool of shape (n_samples, n_tasks)

    Raises
    ------
    ValueError
        If a label was not seen in fit or is not of the task's kind.
    """
    labels = np.zeros((len(targets), len(tasks)))
    labelled = np.column_stack(targets.labelled)
    if weight is not None:
        labelled &= weight > 0
    for t, task in enumerate(tasks):
        known = labelled[:, t]
        labels[known, t] = coded(task, targets.values[t][known])
    return labels, labelled


def weights(targets, tasks, sample_weight=None, class_weight=None):
    """Return the weight of each label in the loss, 0 where there is none.

    Parameters
    ----------
    targets : Targets
    tasks : list of Task
    sample_weight :
        As in `row_weights`.
    class_weight : None, "balanced", dict or list
        "balanced": for all tasks of classes, labels of a class count together by as
        much as those of another, n_labelled / (n_classes * n_labelled_of_class),
        where sample weights are counted. A dict of numbers by label is for one
        task; a dict by task, or a list, holds one of these or None for each.

    Returns
    -------
    weight : array of float64 of shape (n_samples, n_tasks)

    Raises
    ------
    ValueError
        As `row_weights`, or if class weights do not go with the tasks.
    """
    weight = row_weights(targets, sample_weight)
    if class_weight is None:
        return weight
    given = class_weights_by_task(tasks, class_weight)
    labels, _ = code(targets, tasks, weight)
    for t, task in enumerate(tasks):
        if given[t] is not None:
            index = labels[:, t].astype(int)
            weight[:, t] *= weights_of_classes(task, given[t], index, weight[:, t])[
                index
            ]
    return weight


# -- predictions -------------------------------------------------------------------


def assemble(predictions, names, kind="array", *, single=False, index=None):
    """Return predictions of all tasks as one object.

    Parameters
    ----------
    predictions : list of arrays of shape (n_samples,)
    names : list of str
    kind : {"array", "pandas", "polars", "dict"}
        An array of objects, where the labels of tasks differ in kind. Without
        pandas a dict stands for its frame.
    single : bool
        Whether an array has one dimension.
    index : array-like of shape (n_samples,), optional
        Of the rows of a frame of pandas.

    Returns
    -------
    predictions : array, data frame or dict
    """
    if kind == "array":
        return predictions[0] if single else _stacked(predictions)
    columns = dict(zip(names, predictions, strict=True))
    if kind == "polars":
        import polars

        # polars reads strings from lists, not from arrays of objects.
        return polars.DataFrame(
            {n: c.tolist() if c.dtype.kind == "O" else c for n, c in columns.items()}
        )
    if kind == "pandas":
        try:
            import pandas
        except ImportError:
            return columns
        return pandas.DataFrame(columns, index=index)
    return columns


def _stacked(predictions):
    """Return columns side by side, as objects unless they are alike."""
    kinds = {part.dtype.kind for part in predictions}
    alike = len(kinds) == 1 or kinds <= set("iuf")
    result = np.empty(
        (len(predictions[0]), len(predictions)),
        dtype=np.result_type(*predictions) if alike else object,
    )
    for t, part in enumerate(predictions):
        result[:, t] = part
    return result
