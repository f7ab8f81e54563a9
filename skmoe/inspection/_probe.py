"""Rows that differ in one or two columns alone, to see what these do."""

import numpy as np
from scipy import sparse

from skmoe._gaps import gaps
from skmoe._sklearn import safe_indexing
from skmoe._xp import to_numpy

__all__ = ["Probe", "check_others", "spread_rows"]


def check_others(others):
    """Return what is done about the other columns.

    Raises
    ------
    ValueError
        If that is unknown.
    """
    if others not in ("median", "average"):
        raise ValueError(f'others must be "median" or "average", got {others!r}.')
    return others


def spread_rows(n_rows, most):
    """Return the positions of at most so many rows, evenly spread over all."""
    if most is None or most >= n_rows:
        return np.arange(n_rows)
    return np.linspace(0, n_rows - 1, most).round().astype(int)


class Probe:
    """A user's table, from which rows are made.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        NumPy, pandas or polars.
    subject : Subject
        The model, which knows columns of categories and may know names.
    feature_names : sequence of str of shape (n_features,), default=None
        None: those of a data frame, those that the model saw in fit, or x0, x1, ...

    Attributes
    ----------
    names : list of str
    categorical : list of bool
        Which columns hold categories: no numbers, or two values at most.

    Raises
    ------
    TypeError
        If X is sparse.
    """

    def __init__(self, X, subject, feature_names=None):
        if sparse.issparse(X):
            raise TypeError(
                "a picture along columns needs a dense X, got a sparse one: give "
                "X[rows].toarray() of some rows."
            )
        self.X = X if hasattr(X, "columns") else np.atleast_2d(to_numpy(X))
        self.n_rows, self.n_columns = self.X.shape
        self.names = self._names(subject, feature_names)
        coded = () if subject.before else subject.mixture._coder.columns
        self.categorical = [
            j in coded or self._holds_categories(j) for j in range(self.n_columns)
        ]

    def _names(self, subject, given):
        if given is None and hasattr(self.X, "columns"):
            return [str(name) for name in self.X.columns]
        if given is None:
            first = [*subject.before, subject.mixture][0]
            given = getattr(first, "feature_names_in_", None)
        if given is None:
            given = [f"x{j}" for j in range(self.n_columns)]
        names = [str(name) for name in given]
        if len(names) != self.n_columns:
            raise ValueError(
                f"feature_names must hold one name for each of the {self.n_columns} "
                f"columns, got {len(names)}: {names!r}."
            )
        return names

    def position(self, feature):
        """Return the position of a column given by position or name.

        Raises
        ------
        ValueError
            If there is no such column.
        """
        if isinstance(feature, str) and feature in self.names:
            return self.names.index(feature)
        whole = isinstance(feature, int | np.integer) and not isinstance(feature, bool)
        if whole and -self.n_columns <= feature < self.n_columns:
            return int(feature) % self.n_columns
        raise ValueError(
            f"X has no column {feature!r}: give a position below {self.n_columns} or "
            f"one of {self.names}."
        )

    def column(self, j):
        """Return a column as an array of shape (n_samples,)."""
        return np.asarray(safe_indexing(self.X, j, axis=1))

    def _holds_categories(self, j):
        values = self.column(j)
        if values.dtype.kind not in "iufO" or _as_floats(values) is None:
            return True
        return np.unique(values[~gaps(values)]).size <= 2

    def numbers(self, j):
        """Return the values of a column that are numbers and no gaps."""
        values = _as_floats(self.column(j))
        return values[np.isfinite(values)]

    def values(self, j):
        """Return the categories of a column, those of a data frame in its order."""
        column = safe_indexing(self.X, j, axis=1)
        present = self.column(j)
        present = present[~gaps(present)]
        found = list(dict.fromkeys(present.tolist()))
        order = getattr(getattr(column, "cat", None), "categories", None)
        if order is not None:
            return [value for value in order if value in set(found)]
        return sorted(found, key=lambda value: (str(type(value)), value))

    def typical(self, n_rows):
        """Return copies of one row: medians, and the most frequent categories."""
        rows = self.take(np.zeros(n_rows, dtype=int))
        return self.replaced(rows, {j: self._middle(j) for j in range(self.n_columns)})

    def _middle(self, j):
        values = self.column(j)
        values = values[~gaps(values)]
        if values.size == 0:
            return self.column(j)[0]
        if not self.categorical[j]:
            return float(np.median(self.numbers(j)))
        each, count = np.unique(values.astype(object), return_counts=True)
        return each[count.argmax()]

    def take(self, positions):
        """Return rows of the table."""
        return safe_indexing(self.X, positions)

    def replaced(self, rows, columns):
        """Return rows with other values in some columns.

        Parameters
        ----------
        rows : data frame or array of shape (n_rows, n_features)
        columns : dict of int to a value or an array of shape (n_rows,)
        """
        if not hasattr(rows, "columns"):
            rows = rows.astype(object if rows.dtype.kind in "OUS" else np.float64)
            for j, values in columns.items():
                rows[:, j] = values
            return rows
        made = {rows.columns[j]: self._series(rows, j, columns[j]) for j in columns}
        if hasattr(rows, "with_columns"):  # polars
            return rows.with_columns(*made.values())
        rows = rows.copy()
        for name, series in made.items():
            rows[name] = series
        return rows

    def _series(self, rows, j, values):
        """Return a new column of a data frame."""
        old = rows[rows.columns[j]]
        values = np.broadcast_to(np.asarray(values), (rows.shape[0],))
        # Categories stay what they are, to a model that looks at types.
        kind = {"dtype": old.dtype} if self.categorical[j] else {}
        if hasattr(rows, "with_columns"):
            return type(old)(old.name, values.tolist(), **kind)
        return type(old)(values, index=rows.index, **kind)

    def crossed(self, positions, columns):
        """Return each of some rows with each of some values in its columns.

        Parameters
        ----------
        positions : array of int of shape (n_rows,), or None
            Rows of the table; None for the typical row.
        columns : dict of int to array of shape (n_values,)

        Returns
        -------
        rows : data frame or array of shape (n_rows * n_values, n_features)
            All values of the first row, then of the second, and so on.
        """
        n_values = len(next(iter(columns.values())))
        if positions is None:
            return self.replaced(self.typical(n_values), columns)
        rows = self.take(np.repeat(positions, n_values))
        times = len(positions)
        return self.replaced(
            rows, {j: np.tile(values, times) for j, values in columns.items()}
        )


def _as_floats(values):
    """Return a column as floats, None where it holds words."""
    try:
        return values.astype(float)
    except (TypeError, ValueError):
        return None
