"""Weights of labels: those of their rows, and those of their classes."""

import numbers

import numpy as np

from skmoe._gaps import gaps
from skmoe.multitask._label_columns import in_order, named_columns

__all__ = ["class_weights_by_task", "row_weights", "weights_of_classes"]


def row_weights(targets, sample_weight=None):
    """Return the weight of each label, 0 where there is none.

    Parameters
    ----------
    targets : Targets
    sample_weight : None, number, or array-like, of shape (n_samples,) or \
            (n_samples, n_tasks)
        Or a data frame or dict by task. NaN only where there is no label.

    Returns
    -------
    weight : array of float64 of shape (n_samples, n_tasks)

    Raises
    ------
    ValueError
        If a weight of a label is negative or not finite, all are zero, or the shape
        is wrong.
    """
    labelled = np.column_stack(targets.labelled)
    if sample_weight is None:
        return labelled.astype(np.float64)
    weight = np.where(labelled, _weight_table(targets, sample_weight), 0.0)
    if not np.isfinite(weight).all():
        raise ValueError("Input sample_weight contains NaN or infinity beside a label.")
    if (weight < 0).any():
        raise ValueError(
            f"Negative values in data passed to `sample_weight`: {weight.min():g}."
        )
    if labelled.any() and not (weight > 0).any():
        raise ValueError("Sample weights must contain at least one non-zero number.")
    return weight


def _weight_table(targets, given):
    """Return weights of shape (n_samples, n_tasks) or (n_samples, 1), unchecked."""
    if isinstance(given, numbers.Real):
        return np.full((len(targets), 1), float(given))
    columns = named_columns(given)
    if columns is not None:
        columns = in_order(columns, targets.names, "sample_weight").values()
        given = np.column_stack([_floats(column) for column in columns])
    given = _floats(given)
    n_samples, n_tasks = len(targets), len(targets.names)
    if given.shape not in ((n_samples,), (n_samples, n_tasks)):
        raise ValueError(
            f"sample_weight must be of shape ({n_samples},) or ({n_samples}, "
            f"{n_tasks}), got {given.shape}."
        )
    return given[:, None] if given.ndim == 1 else given


def _floats(column):
    """Return weights as floats, NaN for the gaps of a column."""
    column = np.asarray(column)
    if column.dtype.kind == "O":
        column = np.where(gaps(column), np.nan, column)
    return column.astype(np.float64)


def class_weights_by_task(tasks, given):
    """Return the class weights of each task, None for none."""
    if isinstance(given, str):
        return [None if task.classes is None else given for task in tasks]
    names = [task.name for task in tasks]
    if isinstance(given, dict):
        if all(isinstance(value, numbers.Real) for value in given.values()):
            if len(tasks) > 1:
                raise ValueError(
                    f"class_weight={given!r} is for one task, and there are {names}: "
                    "give a dict of them by task."
                )
            return [given]
        unknown = [name for name in given if name not in names]
        if unknown:
            raise ValueError(
                f"class_weight names {unknown}, which are not among the tasks {names}."
            )
        return [given.get(name) for name in names]
    if len(given) != len(tasks):
        raise ValueError(
            f"class_weight must have one entry for each of the tasks {names}, got "
            f"{len(given)}."
        )
    return list(given)


def weights_of_classes(task, given, index, weight):
    """Return the weight of each class of a task."""
    if task.classes is None:
        raise ValueError(
            f"class_weight was given for task {task.name!r}, which has no classes: it "
            f"is of kind {task.kind!r}."
        )
    n_classes = len(task.classes)
    if isinstance(given, str):
        if given != "balanced":
            raise ValueError(
                f"class_weight of task {task.name!r} must be 'balanced', a dict or "
                f"None, got {given!r}."
            )
        mass = np.bincount(index, weights=weight, minlength=n_classes)
        even = mass.sum() / n_classes
        return np.divide(even, mass, out=np.zeros(n_classes), where=mass > 0)
    labels = task.classes.tolist()
    unknown = [label for label in given if label not in labels]
    if unknown:
        raise ValueError(
            f"class_weight of task {task.name!r} names the classes {unknown}, which it "
            f"does not have: they are {labels}."
        )
    result = np.array([given.get(label, 1.0) for label in labels], dtype=np.float64)
    if not (np.isfinite(result) & (result >= 0)).all():
        raise ValueError(
            f"class_weight of task {task.name!r} must be numbers >= 0, got {given!r}."
        )
    return result
