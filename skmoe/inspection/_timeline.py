"""Where rows in time are drawn: places, borders of rows, a panel below another."""

import numpy as np

from skmoe._xp import to_numpy

__all__ = ["dates_of", "panel_below", "positions", "spans"]

# Heights of the upper panel and the lower one, and the room between them.
UPPER, LOWER, ROOM = 0.74, 0.22, 0.04


def dates_of(X):
    """Return the index of a data frame if it is one of dates, else None."""
    index = getattr(X, "index", None)
    if type(index).__name__ == "PeriodIndex":
        return index.to_timestamp()
    return index if type(index).__name__ == "DatetimeIndex" else None


def positions(times, chains):
    """Return where rows are drawn, and what that is.

    At their times, where each sequence begins after the end of the one before it;
    otherwise at their numbers, one sequence after the other.

    Parameters
    ----------
    times : array-like of shape (n_samples,), or None
    chains : Chains

    Returns
    -------
    position : array of shape (n_samples,)
    name : {"time", "row"}
    """
    times = None if times is None else np.asarray(to_numpy(times))
    kind = "" if times is None else times.dtype.kind
    if kind in ("i", "u", "f", "M") and _follow(times, chains):
        return times.astype("datetime64[ns]" if kind == "M" else float), "time"
    return chains.back(np.arange(float(chains.n_rows))), "row"


def _follow(times, chains):
    """Return whether each sequence begins after the end of the one before it."""
    return bool((times[chains.first[1:]] > times[chains.last[:-1]]).all())


def spans(position, sequence):
    """Return the rows of each sequence, and the borders between their places.

    Parameters
    ----------
    position : array of shape (n_samples,)
        Numbers or dates.
    sequence : array of int of shape (n_samples,)

    Returns
    -------
    spans : list of (rows, edges)
        Of n rows and n + 1 edges, half way between rows.
    """
    order = np.argsort(sequence, kind="stable")
    sequences = np.split(order, np.flatnonzero(np.diff(sequence[order])) + 1)
    steps = np.concatenate([np.diff(position[rows]) for rows in sequences])
    if steps.size:
        usual = np.sort(steps)[steps.size // 2]
    else:
        usual = np.timedelta64(24, "h") if position.dtype.kind == "M" else 1.0
    found = []
    for rows in sequences:
        at = position[rows]
        half = np.diff(at, append=at[-1:] + usual) / 2
        found.append((rows, np.append(at[:1] - usual / 2, at + half)))
    return found


def panel_below(ax):
    """Cut axes in two; return the lower ones, which share their horizontal axis."""
    spec = ax.get_subplotspec()
    if spec is None:  # axes placed by hand
        x, y, width, height = ax.get_position().bounds
        ax.set_position([x, y + (1.0 - UPPER) * height, width, UPPER * height])
        return ax.figure.add_axes([x, y, width, LOWER * height], sharex=ax)
    room = 2.0 * ROOM / (UPPER + LOWER)
    rows = spec.subgridspec(2, 1, height_ratios=[UPPER, LOWER], hspace=room)
    ax.set_subplotspec(rows[0])
    return ax.figure.add_subplot(rows[1], sharex=ax)
