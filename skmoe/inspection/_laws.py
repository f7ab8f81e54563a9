"""Laws that are drawn: of one output, of many rows together."""

import numpy as np

from skmoe._xp import to_numpy
from skmoe.distribution import MixtureDistribution

__all__ = ["checked_levels", "law_of_output", "pooled_law", "response_of_output"]


def law_of_output(law, target):
    """Return the law of one output.

    Parameters
    ----------
    law : MixtureDistribution
    target : int
        Position among the outputs.

    Raises
    ------
    ValueError
        If there is no such output.
    """
    means = law.means
    n_outputs = 1 if means.ndim == 2 else means.shape[2]
    if not -n_outputs <= target < n_outputs:
        raise ValueError(
            f"target must be a position among the {n_outputs} outputs, got {target!r}."
        )
    if means.ndim == 2:
        return law
    # Normal laws alone have several outputs, and margins of them are normal.
    spreads = [np.asarray(spread) for spread in law.dispersions]
    spreads = [np.diag(spread) if spread.ndim == 2 else spread for spread in spreads]
    spreads = [np.broadcast_to(spread, n_outputs)[target] for spread in spreads]
    return MixtureDistribution(
        law.log_gate,
        [params[:, target] for params in law.params],
        spreads,
        law.likelihoods,
        winner=law.winner,
    )


def pooled_law(law, n_rows):
    """Return the mean of several rows' laws at each of some values.

    Parameters
    ----------
    law : MixtureDistribution
        Of n_rows * n_values rows: all values of the first row come first.
    n_rows : int

    Returns
    -------
    law : MixtureDistribution
        Of n_values rows, with n_rows * n_experts parts of equal weight.
    """
    n_experts = law.log_gate.shape[1]
    log_gate = law.log_gate.reshape(n_rows, -1, n_experts).swapaxes(0, 1)
    split = [np.split(np.asarray(params), n_rows) for params in law.params]
    return MixtureDistribution(
        log_gate.reshape(len(log_gate), -1) - np.log(n_rows),
        [of_expert[i] for i in range(n_rows) for of_expert in split],
        law.dispersions * n_rows,
        law.likelihoods * n_rows,
    )


def response_of_output(y, target):
    """Return the responses of one output, of shape (n_samples,)."""
    y = np.asarray(to_numpy(y), dtype=float)
    return y if y.ndim == 1 else y[:, target]


def checked_levels(levels):
    """Return levels as an array of floats, of shape (n_levels,).

    Raises
    ------
    ValueError
        If one of them lies outside (0, 1).
    """
    levels = np.atleast_1d(np.asarray(levels, dtype=float))
    wrong = levels[~((levels > 0.0) & (levels < 1.0))]
    if wrong.size:
        raise ValueError(f"levels must lie between 0 and 1, got {wrong[0]:g}.")
    return levels
