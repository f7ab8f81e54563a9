"""Warnings and errors of skmoe."""

from sklearn.exceptions import ConvergenceWarning

__all__ = [
    "CollapsedExpertWarning",
    "ExpertError",
    "NonMonotoneWarning",
    "UnidentifiedWarning",
]


class CollapsedExpertWarning(ConvergenceWarning):
    """Warn that an expert lost its rows or its variance fell to the floor."""


class NonMonotoneWarning(ConvergenceWarning):
    """Warn that EM with exact M-steps lowered its objective: a numerical fault."""


class UnidentifiedWarning(UserWarning):
    """Warn that the rows do not tell some coefficients: they have no standard error."""


class ExpertError(RuntimeError):
    """Report an expert or gate that raised inside EM, with its name and the pass."""
