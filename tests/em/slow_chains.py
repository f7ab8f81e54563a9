"""Hidden Markov chains the slow way: every path by itself, or row after row."""

from itertools import product

import numpy as np
from scipy.special import log_softmax, logsumexp

from skmoe.em._chains import Chains

__all__ = ["drawn_chain", "enumerated", "sequence_by_sequence", "walked"]


def drawn_chain(rng, n_states, lengths, *, constant=False, spread=1.0, order=None):
    """Return log laws of a random chain, and its `Chains`.

    Parameters
    ----------
    spread : float
        Size of the differences of log densities between states, in nats.
    order : array of int or None
        Where to put the rows in the table.
    """
    sequence = np.repeat(np.arange(len(lengths)), lengths)
    if order is not None:
        _, first, code = np.unique(
            sequence[order], return_index=True, return_inverse=True
        )
        sequence = np.argsort(np.argsort(first))[code]
    n_rows = sequence.size
    initial = log_softmax(rng.normal(size=(n_states, len(lengths))), axis=0)
    shape = (n_states, n_states, 1 if constant else n_rows)
    transition = log_softmax(2.0 * rng.normal(size=shape), axis=1)
    density = spread * rng.normal(size=(n_states, n_rows))
    return initial, transition, density, Chains(sequence)


def enumerated(initial, transition, density):
    """Sum over all paths of one sequence, in log space.

    Parameters
    ----------
    initial : array of shape (n_states,)
    transition : array of shape (n_states, n_states, n_rows)
    density : array of shape (n_states, n_rows)

    Returns
    -------
    found : dict
        ``log_prob`` (n_rows,), ``filtered``, ``smoothed`` (n_states, n_rows), ``pairs``
        (n_states, n_states, n_rows - 1), ``path`` (n_rows,) and its ``best``.
    """
    n_states, n_rows = density.shape

    def weighed(length):
        paths = np.array(list(product(range(n_states), repeat=length)))
        value = initial[paths[:, 0]] + density[paths[:, 0], 0]
        for t in range(1, length):
            value = value + transition[paths[:, t - 1], paths[:, t], t]
            value = value + density[paths[:, t], t]
        return paths, value

    def share(value, chosen, total):
        return np.exp(logsumexp(value[chosen]) - total) if chosen.any() else 0.0

    totals, filtered = [0.0], np.empty((n_states, n_rows))
    for t in range(n_rows):
        paths, value = weighed(t + 1)
        totals.append(logsumexp(value))
        for j in range(n_states):
            filtered[j, t] = share(value, paths[:, t] == j, totals[-1])
    smoothed = np.array(
        [
            [share(value, paths[:, t] == j, totals[-1]) for t in range(n_rows)]
            for j in range(n_states)
        ]
    )
    pairs = np.zeros((n_states, n_states, n_rows - 1))
    for i, j, t in product(range(n_states), range(n_states), range(1, n_rows)):
        both = (paths[:, t - 1] == i) & (paths[:, t] == j)
        pairs[i, j, t - 1] = share(value, both, totals[-1])
    return {
        "log_prob": np.diff(totals),
        "filtered": filtered,
        "smoothed": smoothed,
        "pairs": pairs,
        "path": paths[value.argmax()],
        "best": value.max(),
    }


def walked(initial, transition, density):
    """Return the same row after row, for sequences too long to enumerate."""
    n_states, n_rows = density.shape
    forward, backward = np.empty((2, n_states, n_rows))
    best, came = np.empty((n_states, n_rows)), np.zeros((n_states, n_rows), dtype=int)
    forward[:, 0] = best[:, 0] = initial + density[:, 0]
    for t in range(1, n_rows):
        step = forward[:, t - 1, None] + transition[..., t]
        forward[:, t] = logsumexp(step, axis=0) + density[:, t]
        step = best[:, t - 1, None] + transition[..., t]
        came[:, t], best[:, t] = step.argmax(axis=0), step.max(axis=0) + density[:, t]
    backward[:, -1] = 0.0
    pairs = np.zeros((n_states, n_states, n_rows - 1))
    totals = logsumexp(forward, axis=0)
    for t in range(n_rows - 1, 0, -1):
        onward = transition[..., t] + density[:, t] + backward[:, t]
        backward[:, t - 1] = logsumexp(onward, axis=1)
        pairs[..., t - 1] = np.exp(forward[:, t - 1, None] + onward - totals[-1])
    path = np.empty(n_rows, dtype=int)
    path[-1] = best[:, -1].argmax()
    for t in range(n_rows - 1, 0, -1):
        path[t - 1] = came[path[t], t]
    return {
        "log_prob": np.diff(totals, prepend=0.0),
        "filtered": np.exp(forward - totals),
        "smoothed": np.exp(forward + backward - totals[-1]),
        "pairs": pairs,
        "path": path,
        "best": best[:, -1].max(),
    }


def sequence_by_sequence(slow, initial, transition, density, chains):
    """Return what a slow way says of each sequence, put where its rows are.

    ``pairs`` are of shape (n_states, n_states, n_rows), zero in first rows, and
    ``best`` of shape (n_sequences,).
    """
    n_states, n_rows = density.shape
    transition = np.broadcast_to(transition, (n_states, n_states, n_rows))
    out = {
        "log_prob": np.empty(n_rows),
        "filtered": np.empty((n_states, n_rows)),
        "smoothed": np.empty((n_states, n_rows)),
        "pairs": np.zeros((n_states, n_states, n_rows)),
        "path": np.empty(n_rows, dtype=int),
        "best": np.empty(chains.n_sequences),
    }
    for s in range(chains.n_sequences):
        rows = np.flatnonzero(chains.sequence == s)
        found = slow(initial[:, s], transition[..., rows], density[:, rows])
        out["best"][s] = found.pop("best")
        out["pairs"][..., rows[1:]] = found.pop("pairs")
        for name, value in found.items():
            out[name][..., rows] = value
    return out
