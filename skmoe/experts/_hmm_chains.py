"""Forward and backward passes over many hidden Markov chains at once.

Arrays are packed by step (see `skmoe._ragged.Sequences`): a pass is one small matrix
product a step, for all sequences that are still running. All arrays may have leading
axes, for several models at once.
"""

from typing import NamedTuple

import numpy as np

__all__ = ["Expected", "expected_states", "filter_states"]


class Expected(NamedTuple):
    """What is expected of the hidden states, given whole sequences.

    Attributes
    ----------
    state : array of shape (..., n_steps, n_states)
        Probability of each state at each packed row.
    start : array of shape (..., n_states)
        Weighted sum over sequences of the law of the first state.
    moves : array of shape (..., n_states, n_states)
        Weighted number of moves from one state to another.
    log_prob : array of shape (..., n_sequences)
        Log density of each sequence in nats.
    """

    state: np.ndarray
    start: np.ndarray
    moves: np.ndarray
    log_prob: np.ndarray


def filter_states(sequences, start, transition, log_emission):
    """Return the law of the state given the past, and that one step ahead of it.

    Probabilities are normalised at each step, and emissions enter by their logs, so
    that no length and no outlier underflows.

    Parameters
    ----------
    sequences : Sequences
    start : array of shape (..., n_states)
    transition : array of shape (..., n_states, n_states)
    log_emission : array of shape (..., n_steps, n_states)
        Log density of each packed row under each state, in nats.

    Returns
    -------
    filtered : array of shape (..., n_steps, n_states)
    ahead : array of shape (..., n_steps, n_states)
        Law of the state given the rows before.
    log_prob : array of shape (..., n_sequences)
        Log density of each sequence in nats, in the user's order.
    """
    filtered, ahead = np.empty_like(log_emission), np.empty_like(log_emission)
    packed = np.zeros((*log_emission.shape[:-2], len(sequences)))
    before = None
    for low, high in _steps(sequences):
        count = high - low
        if before is None:
            now = np.broadcast_to(start[..., None, :], ahead[..., low:high, :].shape)
        else:
            now = before[..., :count, :] @ transition
        ahead[..., low:high, :] = now
        with np.errstate(divide="ignore"):
            joint = np.log(now) + log_emission[..., low:high, :]
        peak = joint.max(axis=-1, keepdims=True)
        joint = np.exp(joint - peak)
        total = joint.sum(axis=-1, keepdims=True)
        packed[..., :count] += (np.log(total) + peak)[..., 0]
        before = joint / total
        filtered[..., low:high, :] = before
    log_prob = np.empty_like(packed)
    log_prob[..., sequences.order] = packed
    return filtered, ahead, log_prob


def expected_states(sequences, weight, start, transition, log_emission):
    """Return the expectations that an M-step needs, sequences weighted.

    The backward pass is a smoother: ``p(i at t, j at t + 1 | all)`` is
    ``filtered_t(i) A_ij smoothed_{t+1}(j) / ahead_{t+1}(j)``.

    Parameters
    ----------
    sequences : Sequences
    weight : array of shape (..., n_sequences)
    start, transition, log_emission :
        As for `filter_states`.

    Returns
    -------
    expected : Expected
    """
    filtered, ahead, log_prob = filter_states(
        sequences, start, transition, log_emission
    )
    state, packed_weight = filtered, weight[..., sequences.order, None]
    pairs = np.zeros(transition.shape)
    steps = list(_steps(sequences))
    for (low, _), (after, end) in zip(steps[-2::-1], steps[:0:-1], strict=True):
        count = end - after
        later, reached = state[..., after:end, :], ahead[..., after:end, :]
        ratio = np.divide(later, reached, out=np.zeros_like(later), where=reached > 0)
        own = filtered[..., low : low + count, :]
        weighted = own * packed_weight[..., :count, :]
        pairs += np.swapaxes(weighted, -1, -2) @ ratio
        # In place: what was filtered at this step is not asked for again.
        own *= ratio @ np.swapaxes(transition, -1, -2)
    first = steps[0] if steps else (0, 0)
    shares = state[..., first[0] : first[1], :] * packed_weight[..., : first[1], :]
    return Expected(state, shares.sum(axis=-2), pairs * transition, log_prob)


def _steps(sequences):
    """Yield the bounds of the rows of each step."""
    return zip(sequences.bounds[:-1], sequences.bounds[1:], strict=True)
