"""Array namespaces: rows stay where they are, parameters live in NumPy.

A fit has two kinds of arrays. *Rows* are long: X, y, weights, densities. They stay in
the library and on the device that they came in. *Parameters* and the sums that they
are computed from are small and NumPy's. So code over rows is written once for every
library, takes parameters along with `like`, and brings its sums home with `to_numpy`;
what solves for parameters never meets a tensor, and a model that was fitted on a GPU
predicts anywhere.
"""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
from array_api_compat import (
    array_namespace,
    device,
    is_array_api_obj,
    is_torch_array,
)
from numpy.typing import NDArray

__all__ = [
    "ALIGNED",
    "add",
    "block_numbers",
    "concatenate",
    "empty",
    "empty_rows",
    "floats",
    "free_bytes",
    "is_foreign",
    "is_on_cuda",
    "is_out_of_memory",
    "like",
    "multiply",
    "namespace",
    "of_class",
    "one_hot",
    "release_memory",
    "row_dots",
    "take_columns",
    "taken",
    "to_numpy",
    "total",
    "zeros",
]

# What takes the place of a type that a device does not have.
NARROWER = {"float64": "float32", "int64": "int32"}
# Numbers of 8 bytes in the arrays of a block, on a device: large blocks hide what it
# costs to launch kernels. 1 GB was 1.3 to 3 times faster than 256 MB for grams.
DEVICE_NUMBERS = 1 << 27
# Numbers that rows of a design, and blocks of them, begin at a multiple of.
ALIGNED = 128


def is_foreign(X: Any) -> bool:
    """Return whether X is an array of another library than NumPy."""
    return is_array_api_obj(X) and not isinstance(X, np.ndarray)


def is_on_cuda(array: Any) -> bool:
    """Return whether an array is a tensor on a CUDA device."""
    return is_torch_array(array) and bool(array.is_cuda)


def namespace(array: Any) -> ModuleType:
    """Return the array-API namespace of an array: NumPy itself for all but foreign."""
    if not is_foreign(array):
        return np
    xp: ModuleType = array_namespace(array)
    return xp


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
    if str(getattr(array, "dtype", "")) == "torch.bfloat16":
        array = array.float()  # a type that NumPy does not have
    try:
        return np.asarray(array)
    except (RuntimeError, TypeError, ValueError):
        # array-api-strict refuses `__array__` on its pretended devices.
        return np.from_dlpack(array)


def like(X: Any, result: NDArray[Any]) -> Any:
    """Return a NumPy result as an array of X's library, on X's device.

    Its type is kept, or narrowed where the device has no type of 64 bits.
    """
    if not is_foreign(X) or is_foreign(result):
        return result
    xp, place = array_namespace(X), device(X)
    # Asking for the types of a device takes a while; these two have all of them.
    usual = is_torch_array(X) and place.type in ("cpu", "cuda")
    name = result.dtype.name
    if not (usual or name in xp.__array_namespace_info__().dtypes(device=place)):
        result = result.astype(NARROWER.get(name, name))
    result = np.ascontiguousarray(result)
    if not result.flags.writeable or result.dtype.byteorder == ">":
        result = result.astype(result.dtype.newbyteorder("="))  # a copy
    return xp.asarray(result, device=place)


def floats(array: Any) -> Any:
    """Return an array as one of float64, itself where it is one already."""
    xp = namespace(array)
    if array.dtype == xp.float64:
        return array
    return array.astype(np.float64) if xp is np else xp.astype(array, xp.float64)


def empty(array: Any, shape: tuple[int, ...]) -> Any:
    """Return an array of float64 to be written to, where another one is."""
    if not is_foreign(array):
        return np.empty(shape)
    xp = array_namespace(array)
    return xp.empty(shape, dtype=xp.float64, device=device(array))


def empty_rows(array: Any, shape: tuple[int, int]) -> Any:
    """Return an array (n, n_rows) to be written to, for the kernels of a CUDA device.

    There each of the n begins at a multiple of `ALIGNED` numbers, whatever n_rows is,
    so that loads are wide.
    """
    if not pads_rows(array):
        return empty(array, shape)
    width = -(-shape[1] // ALIGNED) * ALIGNED
    return empty(array, (shape[0], width))[:, : shape[1]]


def pads_rows(array: Any) -> bool:
    """Return whether `empty_rows` aligns its rows: on a CUDA device."""
    return is_on_cuda(array)


def zeros(array: Any, shape: tuple[int, ...]) -> Any:
    """Return an array of zeros of float64, where another one is."""
    if not is_foreign(array):
        return np.zeros(shape)
    xp = array_namespace(array)
    return xp.zeros(shape, dtype=xp.float64, device=device(array))


def concatenate(parts: list[Any], axis: int = 0) -> Any:
    """Return arrays of one library joined along an axis."""
    return parts[0] if len(parts) == 1 else namespace(parts[0]).concat(parts, axis=axis)


def add(sums: Any, part: Any) -> Any:
    """Return sums plus those of a block, on the block's device.

    They come home with `to_numpy`, once for a pass: each time is a wait for the device,
    and so is the way of zeros from the host.
    """
    if is_foreign(part) and not is_foreign(sums) and not sums.any():
        return part
    return like(part, sums) + part


def multiply(a: Any, b: Any, out: Any) -> None:
    """Write a product of arrays into another one."""
    if isinstance(out, np.ndarray):
        np.multiply(a, b, out=out)
    elif is_torch_array(out):
        namespace(out).multiply(a, b, out=out)
    else:
        out[...] = a * b


def row_dots(a: Any, b: Any) -> Any:
    """Return the dot products of the rows of two arrays of shape (k, n_rows)."""
    if not is_foreign(a):
        return np.einsum("kb,kb->k", a, b)
    return array_namespace(a).sum(a * b, axis=1)


def taken(array: Any, rows: Any, axis: int = -1) -> Any:
    """Return some rows, which lie along an axis, in the memory of the host.

    Parameters
    ----------
    array : array
    rows : NumPy array of int, or ``slice(None)`` for all
    axis : int
    """
    if isinstance(rows, slice):
        return to_numpy(array)
    if is_foreign(array):
        xp = array_namespace(array)
        return to_numpy(xp.take(array, like(array, rows), axis=axis))
    return np.take(array, rows, axis=axis)


def take_columns(X: Any, columns: Sequence[int] | None) -> Any:
    """Return the columns that a part sees; X itself for None."""
    if columns is None:
        return X
    if is_foreign(X):
        return array_namespace(X).take(X, like(X, np.asarray(columns)), axis=1)
    return X[:, columns]


def total(array: Any) -> float:
    """Return the sum of all entries."""
    if not is_foreign(array):
        return float(array.sum())
    return float(to_numpy(array_namespace(array).sum(array)))


def of_class(values: Any, codes: Any) -> Any:
    """Return for each row the values of its class.

    Parameters
    ----------
    values : array of shape (n_classes, n_experts, n_rows)
    codes : array of int of shape (n_rows,)

    Returns
    -------
    chosen : array of shape (n_experts, n_rows)
    """
    if not is_foreign(values):
        return values[codes, :, np.arange(codes.size)].T
    xp = array_namespace(values)
    chosen = values[0, ...]
    for c in range(1, values.shape[0]):
        chosen = xp.where(codes == c, values[c, ...], chosen)
    return chosen


def one_hot(codes: Any, n_classes: int) -> Any:
    """Return indicators of classes, of shape (n_classes, n_rows)."""
    if not is_foreign(codes):
        return (np.arange(n_classes)[:, None] == codes).astype(np.float64)
    xp = array_namespace(codes)
    every = xp.arange(n_classes, device=device(codes))
    return xp.astype(every[:, None] == codes[None, :], xp.float64)


def block_numbers(array: Any) -> int:
    """Return how many float64 numbers a block of rows may spread over on a device.

    A quarter of the memory that is free there, and at most a gigabyte.
    """
    if not is_on_cuda(array):
        return DEVICE_NUMBERS // 32
    return int(min(DEVICE_NUMBERS, free_bytes(array) // 32))


def free_bytes(array: Any) -> float:
    """Return how much memory is free on a CUDA device; infinite elsewhere."""
    if not is_on_cuda(array):
        return float("inf")
    import torch

    free, _ = torch.cuda.mem_get_info(array.device)
    # What the allocator holds back from earlier blocks is free as well.
    held = torch.cuda.memory_reserved(array.device)
    return float(free + held - torch.cuda.memory_allocated(array.device))


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception says that the memory of a device is used up."""
    return isinstance(error, MemoryError) or (
        type(error).__name__ == "OutOfMemoryError"
    )


def release_memory(array: Any) -> None:
    """Give back what the allocator of an array's device holds for later."""
    if is_on_cuda(array):
        import torch

        torch.cuda.empty_cache()
