"""The check of a prior on variances, worth so many rows."""

import numpy as np

__all__ = ["check_variance_prior"]


def check_variance_prior(prior, owner):
    """Raise a ValueError unless a prior is None or ``(rows, fraction)``.

    Parameters
    ----------
    prior : object
    owner : str
        The class of the expert, for the message.
    """
    if prior is not None and not (np.shape(prior) == (2,) and min(prior) >= 0):
        raise ValueError(
            f"{owner}: variance_prior must be None or two numbers >= 0, (rows, "
            f"fraction), got {prior!r}."
        )
