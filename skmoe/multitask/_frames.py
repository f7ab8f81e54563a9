"""Columns of data frames and arrays, read as NumPy; no library is imported for it.

A column of pandas, polars or NumPy comes out as numbers, as the entries of a category
or as the entries of lists. Whole numbers never go through floats: an id above 2^53
would change on the way.
"""

import numbers
from dataclasses import dataclass
from decimal import Decimal
from itertools import chain
from typing import Any

import numpy as np

from skmoe._gaps import gaps, is_gap

__all__ = ["Entries", "Table"]

NUMBERS = (numbers.Real, Decimal, np.bool_)
SEQUENCES = (list, tuple, np.ndarray)
INT64_MAX = np.iinfo(np.int64).max
# Types that whole columns are read as, by their kind: booleans, integers, floats.
WIDE = {"b": np.bool_, "i": np.int64, "u": np.uint64, "f": np.float64}


@dataclass(frozen=True)
class Entries:
    """Categories of rows, each value once if that came cheap.

    Attributes
    ----------
    distinct : int64 array or list
        Integers, a row each; or any values, to which `rows` points.
    rows : integer array of shape (n_rows,), or None
        Position in a list `distinct`, -1 for a missing entry.
    missing : bool array of shape (n_rows,), or None
        Which integers stand for a missing entry.
    """

    distinct: Any
    rows: np.ndarray | None = None
    missing: np.ndarray | None = None

    def take(self, kept):
        """Return the entries of some rows, given by a mask."""
        if self.rows is not None:
            return Entries(self.distinct, self.rows[kept])
        missing = None if self.missing is None else self.missing[kept]
        return Entries(self.distinct[kept], None, missing)


class Table:
    """A data frame or 2-D array, column by column.

    Parameters
    ----------
    X : pandas or polars DataFrame, or array of shape (n_rows, n_columns)

    Attributes
    ----------
    names : list or None
        Of the columns of a frame.
    """

    def __init__(self, X):
        self.names = list(X.columns) if hasattr(X, "columns") else None
        self.n_rows, self.n_columns = X.shape
        self._X = X

    def label(self, j):
        """Return how a message calls a column."""
        return f"column {j}" if self.names is None else f"column {self.names[j]!r}"

    def column(self, j):
        """Return a column as a series of its library, or a 1-D array."""
        if self.names is None:
            return self._X[:, j]
        return self._X.iloc[:, j] if hasattr(self._X, "iloc") else self._X[:, j]

    def kind(self, j):
        """Return "number", "category" or "list", as the type of a column has it.

        Raises
        ------
        ValueError
            If the column holds times or complex numbers.
        """
        column = self.column(j)
        polars = hasattr(column.dtype, "is_temporal")
        kind = _polars_kind(column.dtype) if polars else column.dtype.kind
        if kind in "mM":
            raise ValueError(self._times(j))
        if kind == "c":
            raise ValueError(f"Complex data not supported: {self.label(j)} of X.")
        if kind == "O" and isinstance(_first(column), SEQUENCES):
            return "list"
        return {"L": "list"}.get(kind, "number" if kind in "iuf" else "category")

    def numbers(self, j):
        """Return a column as floats of shape (n_rows,), NaN where it is missing.

        Raises
        ------
        ValueError
            If it holds something else than numbers, or infinity.
        """
        values, missing = _plain(self.column(j))
        if values.dtype.kind in "mM":
            raise ValueError(self._times(j))
        if values.dtype.kind not in "biuf":
            values = self._floats(values, j)
        out = values.astype(np.float64, copy=False)
        if missing is not None and missing.any():
            out = np.where(missing, np.nan, out)
        infinite = np.isinf(out)
        if infinite.any():
            raise ValueError(
                f"{self.label(j)} of X contains infinity, first in row "
                f"{int(infinite.argmax())}: clip it, or make it NaN for missing."
            )
        return out

    def _floats(self, values, j):
        """Return objects as floats; text is none, even where it could be read."""
        out = np.full(len(values), np.nan)
        held = ~gaps(values)
        some = values[held].tolist()
        wrong = [k for k in set(map(type, some)) if not issubclass(k, NUMBERS)]
        if wrong:
            value = next(v for v in some if type(v) in wrong)
            raise ValueError(
                f"{self.label(j)} of X is numeric, got {value!r}: convert it to "
                "numbers, or name it in categorical_features (an array of text and "
                "numbers must be of type object)."
            )
        out[held] = some
        return out

    def entries(self, j):
        """Return a column as the entries of a category.

        Raises
        ------
        ValueError
            If it holds times, or values that cannot be compared, as lists.
        """
        return self._entries(self.column(j), j)

    def _entries(self, column, j):
        try:
            if not isinstance(column, np.ndarray) and _codes_itself(column):
                return _coded(column)
            values, missing = _plain(column)
            kind = values.dtype.kind
            if kind in "biu":
                return _of_integers(values, missing)
            if kind == "f":
                return _of_floats(values)
            if kind not in "mM":
                return _of_objects(values.tolist())
        except TypeError as error:
            raise ValueError(
                f"{self.label(j)} of X is categorical and holds a value that cannot "
                f"be a category ({error}). Lists of categories go in list_features, "
                "in a column where every entry is a list or missing."
            ) from error
        raise ValueError(self._times(j))

    def lists(self, j):
        """Return a column of lists as lengths, and all their entries in one row.

        Returns
        -------
        lengths : integer array of shape (n_rows,)
            0 for a missing list.
        entries : Entries
            Of ``lengths.sum()`` rows.

        Raises
        ------
        ValueError
            If an entry is neither a list nor missing.
        """
        column = self.column(j)
        if hasattr(column, "explode") and hasattr(column.dtype, "is_nested"):
            return self._polars_lists(column, j)
        rows = []
        for row in column:
            held = isinstance(row, SEQUENCES)
            if not held and not is_gap(row):
                raise self._no_list(j, row)
            rows.append(row if held else ())
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        return lengths, self._entries(_flat(rows), j)

    def _polars_lists(self, column, j):
        if hasattr(column.dtype, "shape"):  # all lists of one length
            column = column.arr.to_list()
        if _polars_kind(column.dtype) != "L":
            if column.null_count() < len(column):
                raise self._no_list(j, column.drop_nulls()[0])
            return np.zeros(len(column), dtype=np.int64), Entries([], np.empty(0, int))
        sizes = column.list.len().fill_null(0)
        return (
            sizes.to_numpy().astype(np.int64),
            self._entries(column.filter(sizes > 0).explode(), j),
        )

    def _no_list(self, j, row):
        return ValueError(
            f"{self.label(j)} of X is a list column, got {row!r}: every entry must "
            "be a list, a tuple, a 1-D array or missing."
        )

    def _times(self, j):
        return (
            f"{self.label(j)} of X holds times, which are neither numbers nor "
            "categories: convert it (days since a date, hour of the day), or drop it."
        )


def _first(column):
    """Return the first entry that is not missing, or None."""
    held = (v for v in column if isinstance(v, SEQUENCES) or not is_gap(v))
    return next(held, None)


def _polars_kind(dtype):
    """Return NumPy's letter for a type of polars, "L" for lists."""
    if dtype.is_temporal():
        return "M"
    if dtype.is_numeric():
        return "f"
    return "L" if str(dtype).startswith(("List", "Array")) else "S"


def _plain(column):
    """Return a column as a 1-D array, and which of its integers are missing."""
    if isinstance(column, np.ndarray):
        return column, None
    if hasattr(column, "is_null"):  # polars
        missing = column.is_null().to_numpy() if column.null_count() else None
        dtype = column.dtype
        if dtype.is_integer() or str(dtype) == "Boolean":
            return column.fill_null(strategy="zero").to_numpy(), missing
        return column.to_numpy(), None
    if isinstance(column.dtype, np.dtype):
        return column.to_numpy(), None
    kind = column.dtype.kind
    wide = WIDE.get(kind)
    if wide is None:
        return column.to_numpy(dtype=f"{kind}8[ns]" if kind in "mM" else object), None
    if wide is np.float64:
        return column.to_numpy(dtype=wide, na_value=np.nan), None
    missing = column.isna().to_numpy()
    return column.to_numpy(dtype=wide, na_value=0), missing


def _codes_itself(column):
    """Return whether a series tells its distinct values faster than Python does."""
    if hasattr(column, "is_null"):
        return str(column.dtype).startswith(("Categorical", "Enum", "String"))
    return column.dtype.kind == "O"


def _coded(column):
    """Return the entries of a series with its own way to tell distinct values."""
    if not hasattr(column, "is_null"):
        rows, distinct = column.factorize()
        return Entries(distinct.tolist(), rows)
    # A join takes a third of the time of a dictionary in Python.
    column = column.alias("value")
    distinct = column.unique().drop_nulls()
    places = distinct.to_frame().with_row_index("place")
    joined = column.to_frame().join(
        places, on="value", how="left", maintain_order="left"
    )
    rows = joined["place"].fill_null(len(distinct)).to_numpy().astype(np.int64)
    rows[rows == len(distinct)] = -1
    return Entries(distinct.to_list(), rows)


def _of_integers(values, missing):
    if values.dtype.kind == "u" and values.size and values.max() > INT64_MAX:
        distinct, rows = np.unique(values, return_inverse=True)
        if missing is not None:
            rows = np.where(missing, -1, rows)
        return Entries(distinct.tolist(), rows)
    return Entries(values.astype(np.int64, copy=False), None, missing)


def _of_floats(values):
    missing = np.isnan(values)
    with np.errstate(invalid="ignore"):
        whole = (values == np.trunc(values)) & (np.abs(values) < 2.0**63)
    if (whole | missing).all():
        return Entries(np.where(missing, 0, values).astype(np.int64), None, missing)
    distinct, places = np.unique(values[~missing], return_inverse=True)
    rows = np.full(len(values), -1)
    rows[~missing] = places
    return Entries(distinct.tolist(), rows)


def _of_objects(values):
    place = {}
    places = (place.setdefault(value, len(place)) for value in values)
    rows = np.fromiter(places, np.int64, len(values))
    return Entries(list(place), rows)


def _flat(rows):
    """Return the entries of lists as one array, of integers if all are."""
    flat = list(chain.from_iterable(rows))
    kinds = set(map(type, flat))
    if kinds and all(issubclass(k, (int, np.integer)) for k in kinds):
        whole = np.array(flat)
        if whole.dtype.kind in "biu":
            return whole
    return np.fromiter(flat, dtype=object, count=len(flat))
