"""Checks of the arguments of the data generators."""

from numbers import Integral, Real

import numpy as np

__all__ = ["check_count", "check_noise", "check_positive"]


def check_count(name, value, low=1, *, even=False):
    """Raise a ValueError unless a value is an integer from `low` on, even if asked."""
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or value < low or (even and value % 2):
        kind = "even integer" if even else "integer"
        raise ValueError(f"{name} must be an {kind} >= {low}, got {value!r}.")


def check_positive(name, value, high=np.inf):
    """Raise a ValueError unless a value is a finite number in (0, high)."""
    if not (_is_finite_number(value) and 0 < value < high):
        below = "" if high == np.inf else f" below {high:g}"
        raise ValueError(f"{name} must be a positive number{below}, got {value!r}.")


def check_noise(name, value):
    """Raise a ValueError unless a value is a finite number from zero on."""
    if not (_is_finite_number(value) and value >= 0):
        raise ValueError(f"{name} must be a finite number >= 0, got {value!r}.")


def _is_finite_number(value):
    number = isinstance(value, Real) and not isinstance(value, bool)
    return number and bool(np.isfinite(value))
