"""Validation of rows that stay in their library and on their device."""

import numpy as np
from array_api_compat import device, is_torch_array

from skmoe._xp import floats, is_foreign, like, namespace, to_numpy, total

__all__ = [
    "beside",
    "check_length",
    "check_rows",
    "check_weights",
    "codes_of",
    "has_gaps",
    "response_beside",
]


def check_rows(model, X, *, reset):
    """Return X as a matrix of finite floats, apart from gaps.

    Parameters
    ----------
    model : estimator
        Its ``n_features_in_`` is set, or compared.
    X : array of another library than NumPy
    reset : bool
        Whether this is a fit.

    Raises
    ------
    ValueError
        If it is no matrix of real floats, or has another number of columns.
    """
    xp, name = namespace(X), type(model).__name__
    if is_torch_array(X) and str(X.layout) != "torch.strided":
        raise ValueError(
            f"X is a tensor of layout {X.layout}; give a dense one, X.to_dense(), or a "
            "SciPy sparse matrix."
        )
    if len(X.shape) != 2:
        raise ValueError(
            f"Expected 2D array, got {len(X.shape)}D array instead: X of shape "
            f"{tuple(X.shape)}. Reshape it to (n_samples, n_features)."
        )
    if not xp.isdtype(X.dtype, "real floating"):
        raise ValueError(
            f"X is an array of type {X.dtype}; convert it to floats, as by X.float() "
            "of torch, so that nothing is rounded unseen."
        )
    n_samples, n_features = X.shape
    if n_samples == 0 or n_features == 0:
        kind = "sample" if n_samples == 0 else "feature"
        raise ValueError(
            f"Found array with 0 {kind}(s) (shape={tuple(X.shape)}) while a minimum of "
            f"1 is required by {name}."
        )
    if is_torch_array(X):
        X = X.detach()
    if reset:
        model.n_features_in_ = n_features
        vars(model).pop("feature_names_in_", None)
    elif n_features != model.n_features_in_:
        raise ValueError(
            f"X has {n_features} features, but {name} is expecting "
            f"{model.n_features_in_} features as input."
        )
    if not bool(xp.all(xp.isfinite(X))):
        _refuse_infinity(xp, X)
    return X


def _refuse_infinity(xp, X):
    """Raise a ValueError if a number is infinite."""
    bad = xp.any(xp.isinf(X), axis=1)
    if not bool(xp.any(bad)):
        return
    row = int(xp.argmax(xp.astype(bad, xp.int64)))
    values = to_numpy(floats(X[row, :]))
    raise ValueError(
        f"Input X contains infinity: first in row {row}, column "
        f"{int(np.isinf(values).argmax())}. Clip or drop such rows."
    )


def has_gaps(X):
    """Return whether some number is NaN."""
    xp = namespace(X)
    return bool(xp.any(xp.isnan(X)))


def check_weights(sample_weight, X):
    """Return weights beside X, ones for None.

    Raises
    ------
    ValueError
        If there is not one for each row, one is negative or not finite, or all are 0.
    """
    xp = namespace(X)
    if sample_weight is None:
        return xp.ones(X.shape[0], dtype=xp.float64, device=device(X))
    if np.ndim(sample_weight) == 0:
        sample_weight = np.full(X.shape[0], float(sample_weight))
    weight = _moved(X, sample_weight, "sample_weight")
    if tuple(weight.shape) != (X.shape[0],):
        raise ValueError(
            f"sample_weight must be of shape ({X.shape[0]},), got "
            f"{tuple(weight.shape)}."
        )
    if not bool(xp.all(xp.isfinite(weight))):
        raise ValueError("Input sample_weight contains NaN or infinity.")
    if bool(xp.any(weight < 0)):
        raise ValueError("Negative values in data passed to `sample_weight`.")
    if total(weight) == 0.0:
        raise ValueError("All sample weights are zero: there is nothing to fit.")
    return weight


def check_length(X, y):
    """Raise a ValueError unless there is one response for each row."""
    if tuple(y.shape[:1]) != tuple(X.shape[:1]):
        raise ValueError(
            "Found input variables with inconsistent numbers of samples: "
            f"[{X.shape[0]}, {y.shape[0] if len(y.shape) else 0}]: give one response "
            "for each row."
        )


def response_beside(X, y):
    """Return responses beside X, as floats.

    Parameters
    ----------
    X : array of another library than NumPy
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)

    Raises
    ------
    ValueError
        If there is not one for each row, they are no real finite numbers, or y lies on
        another device than X.
    """
    y = y if is_foreign(y) else np.asarray(y)
    check_length(X, y)
    y = _moved(X, y, "y")
    xp = namespace(y)
    if not bool(xp.all(xp.isfinite(y))):
        raise ValueError("Input y contains NaN or infinity.")
    return y


def codes_of(y, classes):
    """Return the positions of labels among classes; those of others are not checked.

    Parameters
    ----------
    y : array of shape (n_samples,) of another library than NumPy
    classes : NumPy array of shape (n_classes,)
        Sorted.
    """
    xp, kind = namespace(y), namespace(y).int64
    if xp.isdtype(y.dtype, "real floating") or classes.dtype.kind == "f":
        kind = xp.float64
    known = xp.astype(like(y, classes), kind)
    codes = xp.searchsorted(known, xp.astype(y, kind))
    return xp.clip(xp.astype(codes, xp.int64), max=classes.size - 1)


def _moved(X, array, name):
    """Return an array as floats beside X; one on another device is refused."""
    array = beside(X, array, name)
    if is_foreign(array):
        if namespace(array).isdtype(array.dtype, "complex floating"):
            raise ValueError(f"{name} holds complex numbers: give real ones.")
        array = array.detach() if is_torch_array(array) else array
        return floats(array)
    if np.iscomplexobj(array):
        raise ValueError(f"{name} holds complex numbers: give real ones.")
    try:
        return like(X, np.asarray(array, dtype=np.float64))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be numeric: {error}") from error


def beside(X, array, name):
    """Return an array of X's library, or NumPy; that of a third one follows X.

    Raises
    ------
    ValueError
        If a tensor lies on another device than X.
    """
    if not is_foreign(array):
        return array
    if namespace(array) is not namespace(X):
        return to_numpy(array)
    if device(array) != device(X):
        raise ValueError(
            f"X is on {device(X)} and {name} on {device(array)}: move them to one "
            "device."
        )
    return array
