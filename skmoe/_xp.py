"""Array namespaces: results follow the kind of array that X is."""

from typing import Any

import numpy as np
from array_api_compat import array_namespace, device, is_array_api_obj
from numpy.typing import NDArray

__all__ = ["is_foreign", "like", "to_numpy"]

# What takes the place of a type that a device does not have.
NARROWER = {"float64": "float32", "int64": "int32"}


def is_foreign(X: Any) -> bool:
    """Return whether X is an array of another library than NumPy."""
    return is_array_api_obj(X) and not isinstance(X, np.ndarray)


def to_numpy(array: Any) -> Any:
    """Return a NumPy array for an array-API object, anything else unchanged.

    This is the one visible place where tensors leave their device.
    """
    if not is_foreign(array):
        return array
    if hasattr(array, "detach"):
        array = array.detach()
    if hasattr(array, "cpu"):
        array = array.cpu()
    try:
        return np.asarray(array)
    except (RuntimeError, TypeError, ValueError):
        # array-api-strict refuses `__array__` on its pretended devices.
        return np.from_dlpack(array)


def like(X: Any, result: NDArray[Any]) -> Any:
    """Return a NumPy result as an array of X's library, on X's device.

    Its type is kept, or narrowed where the device has no type of 64 bits.
    """
    if not is_foreign(X):
        return result
    xp, place = array_namespace(X), device(X)
    name = result.dtype.name
    if name not in xp.__array_namespace_info__().dtypes(device=place):
        result = result.astype(NARROWER.get(name, name))
    return xp.asarray(np.ascontiguousarray(result), device=place)
