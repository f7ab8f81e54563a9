"""Checks of probabilities that users give: of intervals, of quantiles."""

from numbers import Real

import numpy as np

__all__ = ["check_level", "check_levels"]


def check_level(level):
    """Return the probability of an interval as a float.

    Raises
    ------
    ValueError
        If it is no number in (0, 1).
    """
    if not isinstance(level, Real) or not 0.0 < level < 1.0:
        raise ValueError(f"level must be one number in (0, 1), got {level!r}.")
    return float(level)


def check_levels(q):
    """Return levels as an array of one axis at most.

    Raises
    ------
    ValueError
        If one of them is no number in [0, 1].
    """
    levels = np.asarray(q, dtype=float)
    if levels.ndim > 1:
        raise ValueError(
            f"q must be a number or a list of numbers, got an array of shape "
            f"{levels.shape}."
        )
    wrong = levels[~((levels >= 0.0) & (levels <= 1.0))]
    if wrong.size:
        raise ValueError(f"q must lie in [0, 1], got {wrong.flat[0]:g}.")
    return levels
