"""From constructor arguments to parts: experts, gate, columns, starts."""

import copy
import numbers

import numpy as np
from scipy import sparse
from sklearn.base import clone, is_classifier
from sklearn.pipeline import Pipeline
from sklearn.utils import get_tags

from skmoe._expansion import split_last
from skmoe._xp import to_numpy
from skmoe.em._starts import KINDS
from skmoe.experts._adapter import as_expert
from skmoe.experts._expanded import has_protocol
from skmoe.gates._classifier import ClassifierGate
from skmoe.gates._expanded import ExpandedGate, is_gate
from skmoe.gates._softmax import SoftmaxGate

__all__ = [
    "all_take",
    "check_enough_rows",
    "check_finite",
    "check_init_name",
    "check_kind",
    "resolve_columns",
    "resolve_experts",
    "resolve_gate",
    "start_from_init",
]


def resolve_experts(experts, n_experts, default, rng, classification):
    """Return named, cloned experts and the columns that each one sees.

    Parameters
    ----------
    experts : None, estimator, or list of (name, estimator[, columns])
    n_experts : int
        Number of clones of a single estimator.
    default : Expert
        What ``None`` stands for.
    rng : RandomState
        Seeds parts whose random_state is None.
    classification : bool

    Returns
    -------
    named : list of (name, Expert)
    columns : list of columns or None, as the user gave them

    Raises
    ------
    ValueError, TypeError
        If the list is empty or ill-formed, or an expert is of the wrong kind.
    """
    if not isinstance(experts, (list, tuple)):
        entries = [(f"expert{k}", experts, None) for k in range(n_experts)]
    else:
        entries = [_entry(item) for item in experts]
        _check_names([name for name, _, _ in entries])
    entries = [(n, default if e is None else e, columns) for n, e, columns in entries]
    named, fresh = [], {}
    for name, estimator, _ in entries:
        if isinstance(estimator, type) or not hasattr(estimator, "get_params"):
            raise TypeError(
                f"expert {name!r} must be an estimator with get_params and fit, such "
                f"as Ridge(), got {estimator!r}."
            )
        if id(estimator) not in fresh:
            fresh[id(estimator)] = as_expert(clone(estimator))
            check_kind(name, fresh[id(estimator)], classification)
        # Of an estimator's many clones all but the first are copies of a clone,
        # which come several times cheaper.
        expert = copy.deepcopy(fresh[id(estimator)])
        _seed(expert, rng)
        named.append((name, expert))
    return named, [columns for _, _, columns in entries]


def _entry(item):
    if isinstance(item, (list, tuple)) and len(item) in (2, 3):
        return item[0], item[1], (item[2] if len(item) == 3 else None)
    raise ValueError(
        "experts must be an estimator or a list of (name, estimator) or "
        f"(name, estimator, columns); got the entry {item!r}."
    )


def _check_names(names):
    if not names:
        raise ValueError("experts is an empty list; give at least one expert.")
    bad = [name for name in names if not isinstance(name, str) or "__" in name]
    if bad:
        raise ValueError(f"names of experts must be strings without '__', got {bad!r}.")
    double = sorted({name for name in names if names.count(name) > 1})
    if double:
        raise ValueError(f"names of experts must differ, got {double} twice.")


def check_kind(name, expert, classification):
    """Raise a ValueError if an expert is a regressor among classifiers, or so."""
    if has_protocol(expert) and get_tags(expert).estimator_type is None:
        return  # it is what its mixture is
    if is_classifier(expert) != classification:
        wanted = "classifier" if classification else "regressor"
        got = "classifier" if is_classifier(expert) else "regressor"
        raise ValueError(
            f"expert {name!r} is a {got}, but this mixture needs {wanted}s."
        )


def _seed(part, rng):
    """Draw a seed for every part; use it where random_state is left at None."""
    seed = rng.randint(np.iinfo(np.int32).max)
    if "random_state" in part.get_params(deep=False) and part.random_state is None:
        part.set_params(random_state=seed)


def resolve_gate(gate, rng):
    """Return a cloned gate: SoftmaxGate for None, an adapter for a classifier.

    A Pipeline whose last step is a gate becomes an `ExpandedGate`.

    Raises
    ------
    TypeError
        If it is neither a gate nor a classifier.
    """
    if gate is None:
        return SoftmaxGate()
    if isinstance(gate, type):
        raise TypeError(f"gate must be an instance, got the class {gate.__name__}.")
    # A subclass of Pipeline may do more with its steps than to call them in turn.
    if type(gate) is Pipeline and gate.steps and is_gate(gate.steps[-1][1]):
        front, last = split_last(clone(gate))
        _seed(last, rng)
        return last if front is None else ExpandedGate(front, last)
    if is_gate(gate):
        gate = clone(gate)
    elif hasattr(gate, "get_params") and is_classifier(gate):
        gate = ClassifierGate(clone(gate))
    else:
        raise TypeError(
            "gate must be None, a gate of skmoe.gates, a Pipeline that ends in one, or "
            f"a scikit-learn classifier that takes sample_weight, got {gate!r}."
        )
    _seed(gate, rng)
    return gate


def resolve_columns(columns, feature_names, n_features, owner):
    """Return columns as a list of positions, or None for all.

    Parameters
    ----------
    columns : None, slice, or sequence of int, str or bool
    feature_names : array of str or None
    n_features : int
    owner : str
        Whose columns these are, for the message.

    Raises
    ------
    ValueError
        If a column does not exist, or names are used without feature names.
    """
    if columns is None:
        return None
    if isinstance(columns, slice):
        columns = range(n_features)[columns]
    if isinstance(columns, (str, numbers.Integral)):
        columns = [columns]
    columns = list(columns)
    if columns and all(isinstance(c, (bool, np.bool_)) for c in columns):
        if len(columns) != n_features:
            raise ValueError(
                f"{owner}: a mask of {len(columns)} columns for X with {n_features}."
            )
        return [j for j, kept in enumerate(columns) if kept]
    if not columns:
        raise ValueError(f"{owner}: columns is empty; use None for all columns.")
    return [_position(c, feature_names, n_features, owner) for c in columns]


def _position(column, feature_names, n_features, owner):
    if isinstance(column, str):
        if feature_names is None:
            raise ValueError(
                f"{owner}: column {column!r} is a name, but X has no column names; "
                "give positions, or X as a data frame."
            )
        found = np.flatnonzero(np.asarray(feature_names) == column)
        if found.size == 0:
            raise ValueError(
                f"{owner}: no column {column!r} in X; its columns are "
                f"{list(feature_names)}."
            )
        return int(found[0])
    if not isinstance(column, numbers.Integral):
        raise ValueError(f"{owner}: a column must be a name or position: {column!r}.")
    if not -n_features <= column < n_features:
        raise ValueError(
            f"{owner}: column {column} does not exist in X with {n_features} columns."
        )
    return int(column) % n_features


def start_from_init(init, X, y, n_experts, rng, keep):
    """Return responsibilities (n_experts, n_samples) from an array or callable.

    Parameters
    ----------
    init : array of shape (n_samples,) or (n_samples, n_experts), or callable
        Labels, responsibilities, or a function
        ``init(X, y, n_experts, random_state)`` that returns one of them.
    keep : array of bool of shape (n_samples,)
        Rows of positive weight.

    Raises
    ------
    ValueError
        If the shape or the values are wrong.
    """
    given = init(X, y, n_experts, rng) if callable(init) else init
    array = np.asarray(to_numpy(given))
    if array.dtype.kind not in "biuf" or not np.isfinite(array).all():
        raise ValueError(
            "init: labels or responsibilities must be finite numbers, got "
            f"{array.ravel()[:5]} ... of type {array.dtype}."
        )
    if array.shape[:1] == keep.shape:
        array = array[keep]
    n_samples = int(keep.sum())
    if array.shape == (n_samples,):
        return _from_labels(array, n_experts)
    if array.shape != (n_samples, n_experts):
        raise ValueError(
            f"init: responsibilities must be of shape ({keep.size}, {n_experts}) or "
            f"labels of shape ({keep.size},), got shape {np.shape(given)}."
        )
    total = array.sum(axis=1)
    if (array < 0).any() or not np.allclose(total, 1.0, atol=1e-6):
        raise ValueError(
            "init: responsibilities must be non-negative and each row must sum to 1; "
            f"got rows that sum to {total.min():.6g} ... {total.max():.6g}."
        )
    return np.ascontiguousarray(array.T, dtype=float)


def _from_labels(labels, n_experts):
    known = labels.astype(np.intp, copy=False)
    if not np.array_equal(known, labels) or known.min() < 0 or known.max() >= n_experts:
        raise ValueError(
            f"init: labels must be integers 0, ..., {n_experts - 1}, got values "
            f"{np.unique(labels)[:10]}."
        )
    resp = np.zeros((n_experts, labels.size))
    resp[known, np.arange(labels.size)] = 1.0
    return resp


def check_init_name(init):
    """Raise a ValueError if a named start does not exist."""
    if isinstance(init, str) and init != "auto" and init not in KINDS:
        raise ValueError(
            f"init must be 'auto', one of {sorted(KINDS)}, an array or a callable, "
            f"got {init!r}."
        )


def check_enough_rows(n_samples, n_experts, what="n_experts"):
    """Raise a ValueError if there are fewer rows than experts, or leaves."""
    if n_samples < n_experts:
        fewer = "fewer experts" if what == "n_experts" else "a smaller tree"
        raise ValueError(
            f"n_samples={n_samples} (rows of positive weight) is fewer than "
            f"{what}={n_experts}; give more rows or {fewer}."
        )


def check_finite(X, feature_names, allow_nan):
    """Raise a ValueError that names the first column with NaN or infinity.

    What is not stored of sparse rows is zero, and no gap: there NaN is refused.
    """
    allow_nan = allow_nan and not sparse.issparse(X)
    values = X.data if sparse.issparse(X) else X
    if np.isfinite(values).all() or (allow_nan and not np.isinf(values).any()):
        return
    if sparse.issparse(X):
        wrong = sparse.coo_array(X)
        bad = np.isinf(wrong.data) if allow_nan else ~np.isfinite(wrong.data)
        row, column = int(wrong.row[bad][0]), int(wrong.col[bad][0])
        value = wrong.data[bad][0]
    else:
        bad = np.isinf(X) if allow_nan else ~np.isfinite(X)
        column = int(bad.any(axis=0).argmax())
        row = int(bad[:, column].argmax())
        value = X[row, column]
    kind = "NaN" if np.isnan(value) else "infinity"
    name = f"{column}" if feature_names is None else repr(str(feature_names[column]))
    advice = "Clip or drop them."
    if kind == "NaN":
        advice = "Impute or drop them, or use experts and a gate that take gaps."
    raise ValueError(
        f"Input X contains {kind}: first in column {name}, row {row} "
        f"({int(bad.sum())} such values in all). {advice}"
    )


def all_take(parts, name):
    """Return whether the input tags of all parts include one, such as "sparse"."""
    return all(bool(getattr(get_tags(part).input_tags, name)) for part in parts)
