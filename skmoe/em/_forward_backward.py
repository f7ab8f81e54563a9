"""Filtering, smoothing and decoding of hidden states (Baum et al. 1970; Viterbi 1967).

Probabilities normalised in each row are exact as long as every transition has a
probability that a float can tell from zero beside what the responses say; where it has
not (a transition that is ruled out, or nearly), the sums are of logarithms.

References
----------
Baum, L. E., Petrie, T., Soules, G. and Weiss, N. (1970). A maximization technique
occurring in the statistical analysis of probabilistic functions of Markov chains. Ann.
Math. Statist. 41.
Bengio, Y. and Frasconi, P. (1995). An input output HMM architecture. NIPS 7.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from skmoe.em._chain_scan import BEST, LOGS, SCALED, log_sum, sweep
from skmoe.em._chains import Chains

__all__ = ["Passage", "best_path", "independent", "moved", "passage"]

Array = NDArray[np.float64]
Ints = NDArray[np.intp]

# Below this log probability of a transition, paths are added up in logarithms: what a
# normalised row rounds to zero (exp(-745)) is then negligible one row later.
LEAST_TRANSITION = -200.0


class Passage(NamedTuple):
    """What is known of the states once the responses are seen.

    Arrays have rows in the order of the table, behind the states.

    Attributes
    ----------
    log_prob : array of shape (n_samples,)
        Log density of each response, given those before it in its sequence.
    filtered, smoothed : arrays of shape (n_states, n_samples)
        Law of the state given the responses up to the row, and given all.
    pairs : list of arrays of shape (n_states, n_followers), or array of shape
        (n_states, n_states)
        For each state i, how probable it is before a row together with each state in
        the row, for the rows `Chains.followers`. For constant transitions their
        weighted sums, with the weights given.
    """

    log_prob: Array
    filtered: Array
    smoothed: Array
    pairs: list[Array] | Array


def passage(
    log_initial: Array,
    log_transition: Array,
    log_density: Array,
    chains: Chains,
    weight: Array | None = None,
) -> Passage:
    """Return filtered and smoothed laws of the states, and of pairs of states.

    Parameters
    ----------
    log_initial : array of shape (n_states, n_sequences)
    log_transition : array of shape (n_states, n_states, n_samples or 1)
        From the state of the row before to that of a row.
    log_density : array of shape (n_states, n_samples)
        Of each row's response in each state.
    chains : Chains
    weight : array of shape (n_samples,), default=None
        For the sums of pairs; None for ones.
    """
    log_density, peak = _relative(chains.in_order(log_density))
    if log_transition.shape[-1] > 1:
        log_transition = chains.in_order(log_transition)
    weight = np.ones(chains.n_rows) if weight is None else chains.in_order(weight)
    # A first expert that is ruled out may be the only one that its response is of.
    ruled_out = bool(np.isneginf(log_initial).any())
    exact = log_transition.min() > LEAST_TRANSITION and not ruled_out
    ways = _scaled if exact else _logs
    log_prob, filtered, smoothed, pairs = ways(
        log_initial, log_transition, log_density, chains, weight
    )
    return Passage(
        chains.back(log_prob + peak),
        chains.back(filtered),
        chains.back(smoothed),
        pairs,
    )


def _relative(log_density: Array) -> tuple[Array, Array]:
    """Return densities of each row beside the highest, and the highest.

    A response that no state can have says nothing of the states: its row is passed
    as if it were missing, and it alone has the log density -inf.
    """
    peak = log_density.max(axis=0)
    possible = peak > -np.inf
    if possible.all():
        return log_density - peak, peak
    return np.where(possible, log_density - np.where(possible, peak, 0.0), 0.0), peak


def _scaled(
    log_initial: Array,
    log_transition: Array,
    log_density: Array,
    chains: Chains,
    weight: Array,
) -> Passage:
    """Return a passage by probabilities that are normalised in each row.

    Uses up the log densities.
    """
    starts, followers = chains.starts, chains.places
    # In first rows together: one may rule out the state that the other asks for.
    first = log_initial + log_density[:, starts]
    top = first.max(axis=0)
    density = np.exp(log_density, out=log_density)
    density[:, starts] = np.exp(first - top)
    transition = np.exp(log_transition)
    found = sweep(SCALED, np.ones_like(first), transition, density, starts)
    joint = found.forward * found.backward
    total = joint.sum(axis=0)
    log_prob = np.log(found.total)
    log_prob[starts] += top
    joint /= total
    arrived = np.multiply(density, found.backward, out=density)
    arrived /= total * found.total
    pairs: list[Array] | Array
    if transition.shape[-1] == 1:
        arrived *= np.where(chains.follows, weight, 0.0)
        pairs = found.forward[:, :-1] @ arrived[:, 1:].T
        pairs *= transition[..., 0]
    else:
        before, arrived = found.forward[:, followers - 1], arrived[:, followers]
        pairs = [
            one[None] * a[:, followers] * arrived
            for one, a in zip(before, transition, strict=True)
        ]
    return Passage(log_prob, found.forward, joint, pairs)


def _logs(
    log_initial: Array,
    log_transition: Array,
    log_density: Array,
    chains: Chains,
    weight: Array,
) -> Passage:
    """Return the same by logarithms, for transitions that are ruled out."""
    followers = chains.places
    with np.errstate(invalid="ignore"):
        found = sweep(LOGS, log_initial, log_transition, log_density, chains.starts)
        joint = found.forward + found.backward
        total = log_sum(joint, axis=0)
        arrived = log_density + found.backward - found.total - total
    before, arrived = found.forward[:, followers - 1], arrived[:, followers]
    each = log_transition
    if each.shape[-1] > 1:
        each = each[..., followers]
    pairs: list[Array] | Array = [
        np.exp(one[None] + a + arrived) for one, a in zip(before, each, strict=True)
    ]
    if log_transition.shape[-1] == 1:
        pairs = np.array([pair @ weight[followers] for pair in pairs])
    return Passage(found.total, np.exp(found.forward), np.exp(joint - total), pairs)


def moved(law: Array, log_transition: Array) -> Array:
    """Return log laws of the states one row on, (n_states, n_rows).

    Parameters
    ----------
    law : array of shape (n_states, n_rows or 1)
        Of the states of the rows before.
    log_transition : array of shape (n_states, n_states, n_rows or 1)
    """
    with np.errstate(divide="ignore"):
        return log_sum(np.log(law)[:, None] + log_transition, axis=0)


def independent(resp: Array, chains: Chains, weight: Array, constant: bool) -> Passage:
    """Return a passage in which responsibilities of rows are independent.

    It is what a start from responsibilities knows of pairs.
    """
    rows, before = chains.followers
    pairs: list[Array] | Array
    if constant:
        pairs = resp[:, before] @ (resp[:, rows] * weight[rows]).T
    else:
        pairs = [one[None] * resp[:, rows] for one in resp[:, before]]
    return Passage(np.zeros(weight.size), resp, resp, pairs)


def best_path(
    log_initial: Array, log_transition: Array, log_density: Array, chains: Chains
) -> tuple[Ints, Array]:
    """Return the most probable states of each sequence, all together.

    Returns
    -------
    path : array of int of shape (n_samples,)
    log_prob : array of shape (n_sequences,)
        Log density of the responses together with the path.
    """
    log_density = chains.in_order(log_density)
    relative, _ = _relative(log_density)
    if log_transition.shape[-1] > 1:
        log_transition = chains.in_order(log_transition)
    starts, n_rows = chains.starts, chains.n_rows
    best = sweep(BEST, log_initial, log_transition, relative, starts).forward
    ends = np.append(starts[1:], n_rows) - 1
    each = log_transition if log_transition.shape[-1] == 1 else log_transition[..., 1:]
    came = (best[:, None, :-1] + each).argmax(axis=0).T.tolist()
    last = best.argmax(axis=0).tolist()
    path, ending = [0] * n_rows, set(ends.tolist())
    state = 0
    for t in range(n_rows - 1, -1, -1):
        state = last[t] if t in ending else came[t][state]
        path[t] = state
    states = np.array(path, dtype=np.intp)
    before = np.roll(states, 1)
    row = np.arange(n_rows) if log_transition.shape[-1] > 1 else 0
    value = log_transition[before, states, row]
    value[starts] = log_initial[states[starts], np.arange(starts.size)]
    value = value + log_density[states, np.arange(n_rows)]
    return chains.back(states), np.add.reduceat(value, starts)
