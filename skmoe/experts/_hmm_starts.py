"""Where a hidden Markov model starts from: a state for each row of its sequences."""

import numpy as np

__all__ = ["start_labels"]

LLOYD_PASSES = 20


def start_labels(sequences, weight, n_states, n_starts, rng):
    """Yield first guesses of the states, each of shape (n_steps,), rows packed.

    The first are clusters of the rows, the second equal parts of each sequence's time,
    others clusters from random centers. None depends on the order of the sequences,
    and a sequence of weight two counts as two.

    Parameters
    ----------
    sequences : Sequences
        On standardised columns.
    weight : array of shape (n_sequences,)
        With a positive sum.
    n_states : int
    n_starts : int
    rng : numpy.random.RandomState
    """
    row_weight = sequences.packed(weight) * sequences.seen
    for number in range(n_starts):
        if number == 1:
            length = sequences.packed(sequences.lengths)
            yield n_states * sequences.step_numbers() // length
        else:
            rows = sequences.rows
            if number == 0:
                centers = _spread_centers(rows, row_weight, n_states)
            else:
                centers = _random_centers(rows, row_weight, n_states, rng)
            yield _clusters(rows, row_weight, centers)


def _moments(rows, weight):
    share = weight / weight.sum()
    mean = share @ rows
    return mean, (rows - mean).T @ (share[:, None] * (rows - mean))


def _spread_centers(rows, weight, n_states):
    """Return the rows at even quantiles of the longest axis of the weighted rows."""
    mean, covariance = _moments(rows, weight)
    axis = np.linalg.eigh(covariance)[1][:, -1]
    axis = axis * np.sign(axis[np.abs(axis).argmax()])
    along = (rows - mean) @ axis
    order = np.argsort(along, kind="stable")
    mass = np.cumsum(weight[order])
    level = (np.arange(n_states) + 0.5) / n_states * mass[-1]
    return rows[order[np.searchsorted(mass, level)]]


def _random_centers(rows, weight, n_states, rng):
    """Draw centers from the moments of the rows, not from the rows."""
    mean, covariance = _moments(rows, weight)
    noise = rng.normal(size=(n_states, rows.shape[1]))
    return mean + noise * np.sqrt(np.diag(covariance))


def _clusters(rows, weight, centers):
    """Return the labels of weighted k-means; a cluster without rows stays put."""
    for _ in range(LLOYD_PASSES):
        distance = (centers**2).sum(axis=1) - 2.0 * rows @ centers.T
        label = distance.argmin(axis=1)
        member = np.eye(centers.shape[0])[label] * weight[:, None]
        mass = member.sum(axis=0)
        moved = np.divide(
            member.T @ rows, mass[:, None], out=centers.copy(), where=mass[:, None] > 0
        )
        if np.array_equal(moved, centers):
            break
        centers = moved
    return label
