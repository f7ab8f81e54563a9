"""One column of labels, whatever it came in."""

import numbers
import sys
from collections.abc import Mapping
from decimal import Decimal

import numpy as np

from skmoe._gaps import gaps

__all__ = ["as_labels", "in_order", "kind_of", "named_columns", "read_column"]


def kind_of(table):
    """Return what kind of container holds labels; imports nothing."""
    if isinstance(table, Mapping):
        return "dict"
    for name, types in (
        ("pandas", ("DataFrame", "Series")),
        ("polars", ("DataFrame", "Series")),
    ):
        module = sys.modules.get(name)
        if module and isinstance(table, tuple(getattr(module, t) for t in types)):
            return name
    return "array"


def named_columns(table):
    """Return the columns of a frame or dict by name, None of what is neither.

    Raises
    ------
    ValueError
        If two columns have the same name.
    """
    if isinstance(table, Mapping):
        return dict(table)
    if kind_of(table) == "array" or not hasattr(table, "columns"):
        return None
    names = list(table.columns)
    if len(set(names)) < len(names):
        raise ValueError(f"columns must have different names, got {names}.")
    return {name: table[name] for name in names}


def in_order(columns, names, what="y"):
    """Return named columns in the order of the tasks.

    Raises
    ------
    ValueError
        If there is none, one is missing, or one is no task.
    """
    if not columns:
        raise ValueError(f"{what} has no columns: there must be at least one task.")
    if names is None:
        return columns
    missing = [name for name in names if name not in columns]
    if missing:
        raise ValueError(f"{what} lacks the tasks {missing}: it has {list(columns)}.")
    extra = [name for name in columns if name not in names]
    if extra:
        raise ValueError(
            f"{what} has columns that are no tasks, {extra}: the tasks are "
            f"{list(names)}."
        )
    return {name: columns[name] for name in names}


def as_labels(given):
    """Return labels as an array, of objects where lists hold text and other things."""
    labels = np.asarray(given)
    if labels.dtype.kind in "US" and not hasattr(given, "dtype"):
        # As text NaN would become the label "nan".
        objects = np.asarray(given, dtype=object)
        if not all(isinstance(label, str | bytes) for label in objects.flat):
            return objects
    return labels


def read_column(name, column):
    """Return values, which of them are labels, and whether they are categories."""
    kind, categorical = kind_of(column), False
    if kind == "pandas":
        values, missing, categorical = _from_pandas(column)
    elif kind == "polars":
        values, missing, categorical = _from_polars(column)
    else:
        values = as_labels(column)
        if values.ndim != 1:
            raise ValueError(
                f"task {name!r} must be one column, got an array of shape "
                f"{values.shape}."
            )
        missing = np.zeros(len(values), dtype=bool)
    missing = missing | gaps(values)
    if values.dtype.kind == "O":
        values = _narrowed(values, missing)
    if values.dtype.kind == "c":
        raise ValueError(f"Complex data not supported: task {name!r} of y.")
    if values.dtype.kind == "f" and np.isinf(values).any():
        raise ValueError(
            "Input y contains infinity or a value too large for dtype('float64'): "
            f"task {name!r}."
        )
    return values, ~missing, categorical


def _from_pandas(column):
    missing = column.isna().to_numpy(dtype=bool)
    dtype = column.dtype
    if hasattr(dtype, "categories") and hasattr(column, "cat"):
        labels = column.cat.categories.to_numpy()
        if not len(labels):
            return np.full(len(column), np.nan), missing, True
        return labels[np.maximum(column.cat.codes.to_numpy(), 0)], missing, True
    plain = getattr(dtype, "numpy_dtype", dtype)
    if isinstance(plain, np.dtype) and plain.kind in "biuf" and plain is not dtype:
        # A nullable column: its integers stay integers beside gaps.
        fill = np.nan if plain.kind == "f" else 0
        return column.to_numpy(dtype=plain, na_value=fill), missing, False
    return column.to_numpy(), missing, False


def _from_polars(column):
    missing = column.is_null().to_numpy()
    dtype = column.dtype
    categorical = str(dtype).startswith(("Categorical", "Enum"))
    if categorical:
        column = column.cast(str)
    elif dtype.is_integer():
        column = column.fill_null(0)
    elif str(dtype) == "Boolean":
        column = column.fill_null(False)
    return column.to_numpy(), missing, categorical


def _narrowed(values, missing):
    """Return objects that are all numbers in a dtype of numbers, others as they are."""
    known = values[~missing]
    types = set(map(type, known))
    if not all(issubclass(one, numbers.Number | np.bool_) for one in types):
        return values
    labels = np.array(known.tolist() if types else [np.nan])
    if types and all(issubclass(one, Decimal) for one in types):
        labels = labels.astype(np.float64)  # amounts, not names of classes
    if labels.dtype.kind == "O":
        return values
    result = np.zeros(len(values), dtype=labels.dtype)
    if types:
        result[~missing] = labels
    return result
