"""What a multi-task estimator takes as X, and what its columns are."""

from dataclasses import dataclass

import numpy as np
from sklearn.utils.validation import validate_data

from skmoe._arguments import resolve_columns
from skmoe._coding import names_columns

__all__ = ["Roles", "checked_table", "find_roles"]

POOLINGS = ("mean", "sum", "attention")


def checked_table(model, X, *, reset):
    """Return X as the encoder takes it, its columns checked against those of the fit.

    Parameters
    ----------
    model : estimator
        With ``categorical_features`` and ``list_features``. Its ``n_features_in_`` and
        ``feature_names_in_`` are set, or compared.
    X : pandas or polars DataFrame, or array-like of shape (n_samples, n_features)
    reset : bool
        Whether this is a fit.

    Returns
    -------
    table : DataFrame as it was given, or array of shape (n_samples, n_features)
        Integers of an array stay integers.

    Raises
    ------
    ValueError, TypeError
        If X is no table, is empty, or has not the columns of the fit.
    """
    if hasattr(X, "collect"):
        raise TypeError("X is a lazy frame: give X.collect().")
    if len(getattr(X, "shape", ())) == 2 and hasattr(X, "columns"):
        validate_data(model, X, reset=reset, skip_check_array=True)
        if 0 in X.shape:
            kind = "feature" if X.shape[0] else "sample"
            raise ValueError(
                f"Found array with 0 {kind}(s) (shape={tuple(X.shape)}) while a "
                f"minimum of 1 is required by {type(model).__name__}."
            )
        return X
    mixed = names_columns(model.categorical_features) or model.list_features
    if mixed and not hasattr(X, "dtype"):
        X = np.array(X, dtype=object)  # text beside numbers would make all text
    return validate_data(
        model,
        X,
        reset=reset,
        dtype=None if mixed else "numeric",
        ensure_all_finite=False,
    )


@dataclass(frozen=True)
class Roles:
    """What each column is.

    Attributes
    ----------
    kinds : list of {"number", "category", "list"}
    poolings : dict of int to (str, int or None)
        Pooling of each list column, and the column of the item it attends to.
    """

    kinds: list
    poolings: dict


def find_roles(table, categorical_features, list_features):
    """Return the roles of the columns of a table.

    Parameters
    ----------
    table : Table
    categorical_features, list_features : as `TableEncoder` takes them

    Raises
    ------
    ValueError
        If a column that is named does not exist or cannot be what it is to be.
    """
    poolings = {
        _position(column, table): _pooling(pooling, column, table)
        for column, pooling in (list_features or {}).items()
    }
    # Those of an array have no type of their own.
    by_type = isinstance(categorical_features, str) and table.names is not None
    named, kinds = _named(categorical_features, table), []
    for j in range(table.n_columns):
        if j in poolings:
            kind = "list"
        elif j in named:
            kind = "category"
        elif (kind := table.kind(j)) == "list":
            poolings[j] = ("mean", None)
        elif not by_type:
            kind = "number"
        kinds.append(kind)
    for j, (_, target) in poolings.items():
        if target is not None and kinds[target] != "category":
            raise ValueError(
                f"list_features: {table.label(j)} attends to {table.label(target)}, "
                f"which is a {kinds[target]} column: it must be a categorical one, "
                "whose categories the list holds."
            )
    return Roles(kinds, poolings)


def _named(categorical_features, table):
    """Return the positions of columns that `categorical_features` names."""
    if not names_columns(categorical_features):
        return set()
    columns, owner = list(categorical_features), "categorical_features"
    return set(resolve_columns(columns, table.names, table.n_columns, owner))


def _position(column, table):
    """Return the position of a column that `list_features` names."""
    names, owner = table.names, "list_features"
    return resolve_columns([column], names, table.n_columns, owner)[0]


def _pooling(pooling, column, table):
    """Return the name of a pooling and the column it attends to."""
    target = None
    if isinstance(pooling, (tuple, list)) and len(pooling) == 2:
        pooling, target = pooling
    if pooling not in POOLINGS or (pooling == "attention") != (target is not None):
        raise ValueError(
            f"list_features: the pooling of column {column!r} must be 'mean', 'sum' or "
            f"('attention', target column), got {pooling!r}"
            + ("." if target is None else f" with {target!r}.")
        )
    return pooling, None if target is None else _position(target, table)
