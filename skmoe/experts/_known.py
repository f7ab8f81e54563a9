"""Known quantities of a row, beside its features: offset, exposure, trials."""

import numpy as np
from scipy import sparse

from skmoe._xp import floats, is_foreign

__all__ = [
    "ARGUMENTS",
    "append_known",
    "check_known_array",
    "gather_known",
    "named_columns",
    "split_known",
]

# By the arguments of an expert that name a column of X for them.
ARGUMENTS = {"offset": ("offset", "exposure"), "trials": ("trials",)}


def gather_known(expert, X, **given):
    """Take the known quantities of an expert alone from arrays and columns of X.

    Parameters
    ----------
    expert : estimator
        Its arguments ``offset``, ``exposure`` and ``trials``, where it has them,
        name a column or are None.
    X : array of shape (n_samples, n_features), dense or CSR
    given : arrays of shape (n_samples,) or None

    Returns
    -------
    features : array of shape (n_samples, n_features - n_named)
    known : dict of str to array of shape (n_samples,)

    Raises
    ------
    ValueError
        If one is given twice, has the wrong length or is not finite, or if a
        column does not exist.
    """
    owner, known, named = type(expert).__name__, {}, []
    for quantity in ARGUMENTS:
        array = given.get(quantity)
        if array is not None:
            label = f"{owner}: {quantity}"
            known[quantity] = check_known_array(label, array, X.shape[0])
        for argument in named_columns(expert, quantity, array is not None, owner):
            j = _position(expert, argument, X.shape[1])
            values = _column(X, j)
            known[quantity] = _logs(owner, values) if argument == "exposure" else values
            named.append(j)
    kept = np.setdiff1d(np.arange(X.shape[1]), named)
    return (X[:, kept] if named else X), known


def named_columns(expert, quantity, has_array, owner):
    """Return the arguments of an expert that name a column for a known quantity.

    Parameters
    ----------
    expert : estimator
    quantity : {"offset", "trials"}
    has_array : bool
        Whether it comes as an array, too.
    owner : str
        For the message.

    Raises
    ------
    ValueError
        If it is given more than once.
    """
    used = [a for a in ARGUMENTS[quantity] if getattr(expert, a, None) is not None]
    also = [*used, "an array"] if has_array else used
    if len(also) > 1:
        raise ValueError(
            f"{owner}: the {quantity} is given {len(also)} times ({also}); give it "
            "once."
        )
    return used


def check_known_array(label, array, n_samples):
    """Return a known quantity as floats.

    Raises
    ------
    ValueError
        If it has the wrong length, or is not finite.
    """
    values = np.asarray(array, dtype=np.float64)
    if values.shape != (n_samples,):
        raise ValueError(
            f"{label} must be of shape ({n_samples},), one number for each row of X, "
            f"got shape {values.shape}."
        )
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        raise ValueError(
            f"{label} must be finite, got {values[bad[0]]} in row {bad[0]}."
        )
    return values


def _position(expert, argument, n_features):
    """Return the position of the column that an argument names."""
    owner, column = type(expert).__name__, getattr(expert, argument)
    if isinstance(column, str):
        names = list(getattr(expert, "feature_names_in_", ()))
        if column not in names:
            raise ValueError(
                f"{owner}: {argument}={column!r} is not a column of X; X has "
                f"{names if names else 'no column names'}."
            )
        return names.index(column)
    if not isinstance(column, int | np.integer) or not (
        -n_features <= column < n_features
    ):
        raise ValueError(
            f"{owner}: {argument} must be None, the name or the position of one of the "
            f"{n_features} columns of X, got {column!r}. An array goes to fit."
        )
    return int(column) % n_features


def _column(X, j):
    if is_foreign(X):
        return floats(X[:, j])
    column = X[:, [j]]
    return column.toarray()[:, 0] if sparse.issparse(X) else column[:, 0]


def _logs(owner, exposure):
    bad = np.flatnonzero(~(exposure > 0.0))
    if bad.size:
        raise ValueError(
            f"{owner}: exposure must be positive, got {exposure[bad[0]]} in row "
            f"{bad[0]}."
        )
    return np.log(exposure)


def append_known(features, known):
    """Return features with known quantities as the last columns."""
    if not known:
        return features
    columns = np.column_stack(list(known.values()))
    if sparse.issparse(features):
        return sparse.hstack([features, sparse.csr_array(columns)], format="csr")
    return np.hstack([features, columns])


def split_known(X, names):
    """Undo `append_known`: return the features and a dict of known quantities."""
    if not names:
        return X, {}
    first = X.shape[1] - len(names)
    known = {name: _column(X, first + i) for i, name in enumerate(names)}
    return X[:, :first], known
