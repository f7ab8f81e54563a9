"""Tables with categories as float arrays: one code for each category."""

from contextlib import contextmanager

import numpy as np
from scipy import sparse
from sklearn.preprocessing import OrdinalEncoder
from sklearn.utils import get_tags
from sklearn.utils.validation import (
    check_array,
    check_consistent_length,
    validate_data,
)

from skmoe._arguments import resolve_columns
from skmoe._gaps import gaps, is_gap
from skmoe._sklearn import check_sample_weight, safe_indexing

__all__ = ["TableCoder", "code_table", "learn_table", "names_columns"]


class TableCoder:
    """Codes the categorical columns of a table; numbers stay as they are.

    Parameters
    ----------
    X : data frame or array of shape (n_samples, n_features)
        The training rows.
    categorical_features : "from_dtype", sequence or None
        "from_dtype": the columns of a data frame whose type is categorical. Else
        their positions or names, or a mask; None for no categories.
    resolve : callable
        ``resolve(columns)`` returns positions for columns that a user names.

    Attributes
    ----------
    columns : list of int
        The categorical columns.
    categories : dict of int to list of str
        Their categories, in the order of their codes.
    """

    def __init__(self, X, categorical_features, resolve):
        if names_columns(categorical_features):
            self.columns = sorted(set(resolve(list(categorical_features))))
        else:
            from_dtype = isinstance(categorical_features, str)
            self.columns = _categorical_columns(X) if from_dtype else []
        self.categories, self._numeric = {}, True

    def learn(self, X, keep):
        """Learn the categories of the rows of positive weight; return the coder.

        Parameters
        ----------
        X : data frame or array
        keep : array of bool of shape (n_samples,)
        """
        if not self.columns:
            return self
        self._encoder = OrdinalEncoder(
            handle_unknown="use_encoded_value",
            unknown_value=np.nan,
            encoded_missing_value=np.nan,
        )
        some = self._categorical(X)[keep]
        self._numeric = some.dtype != object
        self._encoder.fit(some)
        for j, known in zip(self.columns, self._encoder.categories_, strict=True):
            self.categories[j] = [str(one) for one in known if not is_gap(one)]
        return self

    def code(self, X):
        """Return the table as floats, NaN for gaps and for unseen categories.

        Parameters
        ----------
        X : data frame or array of shape (n_samples, n_features)

        Returns
        -------
        coded : array of shape (n_samples, n_features)

        Raises
        ------
        ValueError
            If a column that is not categorical is not numeric.
        """
        n_features = X.shape[1]
        numbers = [j for j in range(n_features) if j not in set(self.columns)]
        out = np.empty((X.shape[0], n_features))
        if numbers:
            part = safe_indexing(X, numbers, axis=1)
            with _hint_about_text():
                out[:, numbers] = check_array(
                    part, dtype=np.float64, ensure_all_finite=False, input_name="X"
                )
        if self.columns:
            codes = self._encoder.transform(self._categorical(X))
            out[:, self.columns] = codes
        return out

    def _categorical(self, X):
        """Return the categorical columns as an array, NaN for every kind of gap."""
        values = np.asarray(safe_indexing(X, self.columns, axis=1))
        if values.dtype.kind in "fiub":
            # Text was learnt, and these rows have nothing but gaps.
            return values if self._numeric else values.astype(object)
        values = values.astype(object)
        return np.where(gaps(values), np.nan, values)

    def numbers(self, coded):
        """Return a coded table with zeros in the categorical columns.

        What is left are the numbers, whose gaps not every part takes.
        """
        if not self.columns:
            return coded
        numbers = coded.copy()
        numbers[:, self.columns] = 0.0
        return numbers


def names_columns(categorical_features):
    """Return whether columns are named one by one, and some at all.

    Raises
    ------
    ValueError
        If the argument is neither columns nor a known word.
    """
    if categorical_features is None:
        return False
    chosen = np.asarray(categorical_features)
    if chosen.ndim == 1:
        return chosen.any() if chosen.dtype == bool else chosen.size > 0
    if chosen.ndim == 0 and categorical_features == "from_dtype":
        return False
    raise ValueError(
        'categorical_features must be "from_dtype", None, or a list of columns '
        f"(positions, names or a mask), got {categorical_features!r}."
    )


def learn_table(model, X, y, sample_weight):
    """Validate training rows; set the number and names of the columns of X.

    Parameters
    ----------
    model : estimator
        With ``categorical_features``.
    X : array-like or sparse matrix of shape (n_samples, n_features)
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        May hold NaN.
    sample_weight : array-like of shape (n_samples,), or None

    Returns
    -------
    coder : TableCoder
    X : float array or CSR array
        NaN for gaps, codes for categories.
    y : array
    weight : array of shape (n_samples,)
    """

    def resolve(columns):
        names = list(X.columns) if hasattr(X, "columns") else None
        owner = "categorical_features"
        return resolve_columns(columns, names, X.shape[1], owner)

    if names_columns(model.categorical_features):
        if sparse.issparse(X):
            raise ValueError(
                "categorical_features need a dense X, got a sparse one: encode the "
                "columns before, and set categorical_features=None."
            )
        X = _as_table(X)
    coder = TableCoder(X, model.categorical_features, resolve)
    if coder.columns:
        validate_data(model, X, y, skip_check_array=True, reset=True)
        weight = check_sample_weight(sample_weight, X)
        coded = coder.learn(X, weight > 0).code(X)
        return coder, coded, _some_finite(y, X), weight
    options = _float_rows(model)
    with _hint_about_text():
        if _has_gaps(y):
            X = validate_data(model, X, **options)
            y = _some_finite(y, X)
        else:
            X, y = validate_data(model, X, y, multi_output=True, **options)
    return coder, X, y, check_sample_weight(sample_weight, X)


def _has_gaps(y):
    """Return whether some response is missing."""
    return y is not None and bool(gaps(y).any())


def _some_finite(y, X):
    """Return y as an array of as many rows as X; NaN where it is missing."""
    y = check_array(
        y, ensure_2d=False, dtype=None, ensure_all_finite=False, input_name="y"
    )
    check_consistent_length(X, y)
    if y.dtype.kind == "O":  # one word for what is missing
        y = np.where(gaps(y), np.nan, y)
    return y


def code_table(model, X):
    """Return new rows as floats, as `learn_table` did in fit.

    Parameters
    ----------
    model : estimator
        With the ``_coder`` of its fit.
    X : array-like or sparse matrix of shape (n_samples, n_features)
    """
    if model._coder.columns:
        X = _as_table(X)
        validate_data(model, X, skip_check_array=True, reset=False)
        return model._coder.code(X)
    with _hint_about_text():
        return validate_data(model, X, reset=False, **_float_rows(model))


def _float_rows(model):
    """Return how rows of numbers are validated."""
    sparse_too = get_tags(model).input_tags.sparse
    return {
        "accept_sparse": "csr" if sparse_too else False,
        "dtype": np.float64,
        "ensure_all_finite": False,
    }


def _as_table(X):
    """Return a data frame unchanged, anything else as an array of two dimensions.

    Numbers beside text in a list must not become text.
    """
    if hasattr(X, "columns"):
        return X
    kind = None if hasattr(X, "dtype") else object
    return check_array(X, dtype=kind, ensure_all_finite=False, input_name="X")


@contextmanager
def _hint_about_text():
    """Say what to do about columns of text."""
    try:
        yield
    except ValueError as error:
        if "could not convert string" not in str(error):
            raise
        raise ValueError(
            f"X holds text ({error}): name such columns in categorical_features, or "
            "give them a categorical type in a data frame."
        ) from error


def _categorical_columns(X):
    """Return the positions of a data frame's columns of categorical type."""
    if not (hasattr(X, "columns") and hasattr(X, "dtypes")):
        return []
    return [j for j, dtype in enumerate(X.dtypes) if _is_categorical(dtype)]


def _is_categorical(dtype):
    # pandas says "category"; polars has the classes Categorical and Enum.
    return str(dtype) == "category" or str(dtype).startswith(("Categorical", "Enum"))
