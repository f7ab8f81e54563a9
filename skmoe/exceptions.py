"""Warnings and errors of skmoe."""

from sklearn.exceptions import ConvergenceWarning

__all__ = [
    "CollapsedExpertWarning",
    "ExpertError",
    "HostCopyWarning",
    "NonMonotoneWarning",
    "PolarizedGateWarning",
    "SmallerBlocksWarning",
    "UnidentifiedWarning",
]


class CollapsedExpertWarning(ConvergenceWarning):
    """Warn that an expert lost its rows or its variance fell to the floor."""


class HostCopyWarning(UserWarning):
    """Warn that rows are copied from a device, since a part works in NumPy alone."""


class NonMonotoneWarning(ConvergenceWarning):
    """Warn that EM with exact M-steps lowered its objective: a numerical fault."""


class PolarizedGateWarning(UserWarning):
    """Warn that gates of several tasks leave experts unused, or use one alone."""


class SmallerBlocksWarning(UserWarning):
    """Warn that the memory of a device was used up, and a pass goes on in pieces."""


class UnidentifiedWarning(UserWarning):
    """Warn that the rows do not tell some coefficients: they have no standard error."""


class ExpertError(RuntimeError):
    """Report an expert or gate that raised inside EM, with its name and the pass."""
