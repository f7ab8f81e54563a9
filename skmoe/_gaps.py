"""What stands for a missing value: NaN, None, or the NA of pandas."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["gaps", "is_gap"]


def is_gap(value: Any) -> bool:
    """Return whether an entry of a table or of a list of labels is missing."""
    if value is None:
        return True
    try:
        return bool(value != value)  # NaN is the one value unlike itself
    except (TypeError, ValueError):
        return True  # of NA not even that can be said


def gaps(values: Any) -> NDArray[np.bool_]:
    """Return which entries of an array are missing, as a mask of its shape."""
    values = np.asarray(values)
    if values.dtype.kind == "f":
        return np.isnan(values)
    if values.dtype.kind in "mM":
        return np.isnat(values)
    if values.dtype.kind != "O":
        return np.zeros(values.shape, dtype=bool)
    flat = [is_gap(one) for one in values.ravel()]
    return np.array(flat, dtype=bool).reshape(values.shape)
