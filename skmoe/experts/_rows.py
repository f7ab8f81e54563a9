"""Which rows an inner fit sees: subsets, weighted draws, folds that do not leak."""

import numbers

import numpy as np
from scipy import sparse
from sklearn.model_selection import check_cv
from sklearn.utils.metadata_routing import get_routing_for_object

__all__ = ["make_folds", "row_groups", "systematic_rows", "take_rows"]

DEFAULT_FOLDS = 5


def take_rows(X, rows):
    """Return some rows of an array, sparse array, data frame or list."""
    if hasattr(X, "iloc"):
        return X.iloc[rows]
    if isinstance(X, list | tuple):
        return [X[i] for i in rows]
    return X[rows]


def systematic_rows(weight, n_drawn, offset=0.5):
    """Draw row numbers with the weights as probabilities, on an even comb.

    Row i comes ``floor`` or ``ceil`` of ``n_drawn * weight[i] / sum(weight)``
    times, in order: the draw of least variance, and the same one every time.

    Parameters
    ----------
    weight : array of shape (n_samples,)
    n_drawn : int
    offset : float in (0, 1)
        Where the comb starts, in teeth.

    Returns
    -------
    rows : int array of shape (n_drawn,)
    """
    cumulative = np.cumsum(weight)
    teeth = (np.arange(n_drawn) + offset) * (cumulative[-1] / n_drawn)
    rows = np.searchsorted(cumulative, teeth, side="right")
    return np.minimum(rows, np.flatnonzero(weight)[-1])


def row_groups(X):
    """Return the number of each row among the distinct rows of X.

    The numbers depend on the set of rows alone, neither on their order nor on
    how often each occurs. NaN equals NaN.

    Parameters
    ----------
    X : array, CSR matrix or data frame of shape (n_samples, n_features)

    Returns
    -------
    group : int array of shape (n_samples,)
    """
    if sparse.issparse(X):
        X = X.tocsr(copy=True)
        X.sum_duplicates()
        X.eliminate_zeros()
        spans = [slice(a, b) for a, b in zip(X.indptr, X.indptr[1:], strict=False)]
        keys = [X.indices[s].tobytes() + X.data[s].tobytes() for s in spans]
        return np.unique(np.array(keys, dtype=object), return_inverse=True)[1]
    X = np.asarray(X)
    if X.dtype.kind not in "fiub":
        keys = np.array([repr(row.tolist()) for row in X])
        return np.unique(keys, return_inverse=True)[1]
    # As bytes, since np.unique(axis=0) does not know that NaN equals NaN; adding
    # zero makes -0.0 and 0.0 one.
    X = np.ascontiguousarray(X + 0.0)
    keys = X.view(np.dtype((np.void, X.dtype.itemsize * X.shape[1]))).ravel()
    return np.unique(keys, return_inverse=True)[1].reshape(-1)


def make_folds(cross_fit, X, y, weight, *, stratify, seed, groups=None):
    """Assign each row to the fold that is left out when it is predicted.

    Rows of a group share a fold. Without groups rows that are identical in X do, so
    that a repeated row does not leak, and so that a row of weight two is treated as
    two rows.

    Parameters
    ----------
    cross_fit : True, int or splitter
        True means 5 folds. A splitter's test sets must cover each row once;
        one that asks for ``groups`` gets the distinct rows.
    X, y, weight : arrays of all rows
        Rows of weight zero do not influence the folds of the others.
    stratify : bool
        Whether to spread each class evenly over the folds.
    seed : int
    groups : int array of shape (n_samples,), default=None

    Returns
    -------
    fold : int array of shape (n_samples,)

    Raises
    ------
    ValueError
        If the test sets of a splitter are not a partition of the rows, or part the
        rows of a group.
    """
    if not isinstance(cross_fit, numbers.Integral):
        return _splitter_folds(cross_fit, X, y, groups)
    n_folds = DEFAULT_FOLDS if cross_fit is True else int(cross_fit)
    seen = np.flatnonzero(weight > 0)
    if groups is None:
        group = row_groups(take_rows(X, seen))
    else:
        group = np.unique(groups[seen], return_inverse=True)[1]
    n_groups = group.max() + 1
    order = np.random.default_rng(seed).permutation(n_groups)
    if stratify:
        heaviest = _class_of_group(group, y[seen], weight[seen])
        order = order[np.argsort(heaviest[order], kind="stable")]
    fold_of_group = np.empty(n_groups, dtype=int)
    fold_of_group[order] = np.arange(n_groups) % min(n_folds, n_groups)
    fold = np.zeros(y.shape[0], dtype=int)
    fold[seen] = fold_of_group[group]
    return fold


def _class_of_group(group, y, weight):
    """Return the class with the most weight in each group of identical rows."""
    table = np.zeros((group.max() + 1, y.max() + 1))
    np.add.at(table, (group, y), weight)
    return table.argmax(axis=1)


def _splitter_folds(splitter, X, y, groups):
    fold = np.zeros(y.shape[0], dtype=int)
    times = np.zeros(y.shape[0], dtype=int)
    cv = check_cv(splitter)
    # Only to a splitter that asks for them: the others warn that they ignore them.
    requests = getattr(get_routing_for_object(cv), "split", None)
    asks = getattr(requests, "requests", {}).get("groups", False)
    known = row_groups(X) if groups is None else groups
    splits = cv.split(X, y, groups=known if asks else None)
    for number, (_, test) in enumerate(splits):
        fold[test] = number
        times[test] += 1
    if np.any(times != 1):
        raise ValueError(
            "cross_fit: the splitter must put each row into exactly one test set, "
            f"got {int((times == 0).sum())} rows in none and "
            f"{int((times > 1).sum())} in several from {splitter!r}. Use KFold, "
            "GroupKFold or a number of folds."
        )
    if groups is not None:
        _check_whole_groups(splitter, fold, groups)
    return fold


def _check_whole_groups(splitter, fold, groups):
    """Raise a ValueError if rows of one group lie in two folds."""
    first = fold[np.unique(groups, return_index=True)[1]]
    parted = np.flatnonzero(fold != first[groups])
    if parted.size:
        raise ValueError(
            f"cross_fit: {splitter!r} puts the rows of one group into two folds (first "
            f"in row {int(parted[0])}), so they would answer for each other. Use "
            "GroupKFold or a number of folds."
        )
