"""Where the rows of a fit, or of a prediction, are worked on.

Rows stay in the library and on the device that they come in, if all parts of a mixture
can work there; ``device=`` moves them once. Where some part works in NumPy alone, they
are copied to the host, with a `HostCopyWarning` if they lie elsewhere.
"""

import warnings

import numpy as np
from array_api_compat import array_namespace, device, is_torch_array
from scipy import sparse

from skmoe._xp import is_foreign, like, to_numpy
from skmoe.exceptions import HostCopyWarning
from skmoe.gates._tree import GateTree

__all__ = [
    "anchor_of",
    "fit_obstacle",
    "follow",
    "parts_obstacle",
    "placed",
    "rows_obstacle",
    "taken_home",
    "works_anywhere",
]


def anchor_of(model, X, obstacle, *, fitted=False):
    """Return an array that lies where the rows are to be worked on; None for NumPy.

    Parameters
    ----------
    model : mixture
        With ``device``.
    X : array-like
        The user's rows.
    obstacle : str or None
        What works in NumPy alone.
    fitted : bool, default=False
        Whether the model is fitted: it then predicts also where ``device`` is not.

    Raises
    ------
    ImportError
        If ``device`` is given and torch is not installed.
    ValueError
        If the device is not there, or something stands in the way of using it.
    """
    named = model.device is not None
    try:
        anchor = _on_device(model.device) if named else X
    except (ImportError, ValueError):
        if not fitted:
            raise
        named, anchor = False, X
    if not named and not is_foreign(X):
        return None
    obstacle = obstacle or _library_obstacle(anchor)
    if obstacle is None:
        return anchor
    if named:
        raise ValueError(
            f"device={model.device!r}: {obstacle}. Leave device=None, or use parts "
            "that work on tensors."
        )
    _announce(X, obstacle)
    return None


def taken_home(X, obstacle):
    """Return rows as NumPy has them; anything but arrays of other libraries as it is.

    Parameters
    ----------
    X : array-like
    obstacle : str
        What works in NumPy alone.
    """
    if is_foreign(X):
        _announce(X, obstacle)
    return to_numpy(X)


def _announce(X, obstacle):
    """Warn that rows are copied, if they do not lie in the memory of the host."""
    if is_foreign(X) and not _on_host(X):
        warnings.warn(
            f"the rows are copied from {device(X)} to the host: {obstacle}.",
            HostCopyWarning,
            stacklevel=5,
        )


def _on_device(name):
    """Return an empty tensor on a device.

    Raises
    ------
    ImportError
        If torch is not installed.
    ValueError
        If there is no such device.
    """
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            f"device={name!r} needs torch: pip install 'skmoe[torch]'."
        ) from error
    try:
        anchor = torch.empty(0, dtype=torch.float64, device=name)
        if anchor.device.type not in ("cpu", "cuda"):
            raise TypeError("rows are worked on in float64 on a CPU or a CUDA device")
        return anchor
    except (RuntimeError, AssertionError, TypeError) as error:
        seen = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
        raise ValueError(
            f"device={name!r} cannot be used here; there are {['cpu', *seen]}. "
            f"({str(error).splitlines()[0]})"
        ) from error


def _library_obstacle(anchor):
    """Return why an array's library or device cannot be worked in, or None."""
    if is_torch_array(anchor) and anchor.device.type in ("cpu", "cuda"):
        return None
    xp = array_namespace(anchor)
    try:
        trial = xp.zeros(2, dtype=xp.float64, device=device(anchor))
        trial[0] = 1.0
    except (AttributeError, TypeError, ValueError, RuntimeError) as error:
        return (
            f"arrays of {xp.__name__} on {device(anchor)} cannot be written to, or "
            f"have no float64 ({error})"
        )
    return None


def _on_host(X):
    """Return whether an array lies in the memory of the host."""
    return "cpu" in str(device(X)).lower()


def works_anywhere(part):
    """Return whether a part works on rows of any array library."""
    if isinstance(part, GateTree):
        return part.path_tol == 0.0 and all(works_anywhere(g) for g in part.gates)
    return bool(getattr(part, "array_api", False))


def rows_obstacle(X, given):
    """Return what of some rows is worked on in NumPy alone, as words, or None.

    Parameters
    ----------
    X : array-like or sparse matrix
    given : iterable of str
        Names of what is given beside X and y.
    """
    if given:
        return f"{' and '.join(sorted(given))} beside X are worked on in NumPy"
    return "sparse rows are worked on in SciPy" if sparse.issparse(X) else None


def fit_obstacle(model):
    """Return what in a fit works in NumPy alone, as words for a message, or None."""
    settings = {
        "balance": model.balance is not None,
        "unlabelled": model.unlabelled is not None,
        "path_tol": getattr(model, "path_tol", 0.0) > 0.0,
        "grow": getattr(model, "grow", None) is not None,
    }
    names = [name for name, used in settings.items() if used]
    if names:
        return f"{' and '.join(names)} work in NumPy alone"
    if model.algorithm in ("sem", "stack"):
        return f"algorithm={model.algorithm!r} works in NumPy alone"
    try:
        return parts_obstacle(model._tagged_parts())
    except (TypeError, ValueError, AttributeError):
        return None  # no estimators: refused, with a message, when they are resolved


def parts_obstacle(parts):
    """Return which parts work in NumPy alone, as words for a message, or None."""
    names = dict.fromkeys(
        type(part).__name__ for part in parts if not works_anywhere(part)
    )
    return f"{' and '.join(names)} work in NumPy alone" if names else None


def placed(anchor, *arrays):
    """Return arrays where an anchor is, unchanged where it is None."""
    if anchor is None:
        return arrays
    return tuple(_beside(anchor, array) for array in arrays)


def _beside(anchor, array):
    if array is None:
        return None
    if not is_foreign(array):
        return like(anchor, array)
    if is_torch_array(anchor) and is_torch_array(array):
        return array.detach().to(anchor.device)
    if type(array) is type(anchor) and device(array) == device(anchor):
        return array
    return like(anchor, to_numpy(array))


def follow(X, result):
    """Return a result in the kind of X: of its library, on its device.

    Floats are float64 whatever X holds, as scikit-learn's checks want it of libraries
    that agree. NumPy, frames and lists get NumPy arrays.
    """
    if not is_foreign(X):
        return to_numpy(result)
    if not (is_foreign(result) or isinstance(result, np.ndarray)):
        return result
    return placed(X, result)[0]
