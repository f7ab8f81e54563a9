"""Filtering, smoothing and decoding against all paths, one by one."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import log_softmax

from skmoe.em._chains import Chains
from skmoe.em._forward_backward import _logs, _scaled, best_path, independent, passage
from tests.em.slow_chains import (
    drawn_chain,
    enumerated,
    sequence_by_sequence,
    walked,
)


def assert_passage(found, slow, chains, weight=None, atol=1e-12):
    """Compare a passage with what a slow way says."""
    assert_allclose(found.log_prob, slow["log_prob"], rtol=1e-9, atol=1e-10)
    assert_allclose(found.filtered, slow["filtered"], rtol=1e-8, atol=atol)
    assert_allclose(found.smoothed, slow["smoothed"], rtol=1e-8, atol=atol)
    rows, _ = chains.followers
    pairs = slow["pairs"][..., rows]
    if isinstance(found.pairs, np.ndarray):
        weight = np.ones(chains.n_rows) if weight is None else weight
        pairs = pairs @ weight[rows]
    # Followers come in the order of the sequences on both sides.
    assert_allclose(np.array(found.pairs), pairs, rtol=1e-8, atol=atol)


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("n_states", [1, 2, 3])
@pytest.mark.parametrize("lengths", [[1], [2], [7], [3, 1, 5], [1, 1, 1]])
def test_every_path(lengths, n_states, constant, rng):
    chain = drawn_chain(rng, n_states, lengths, constant=constant)
    slow = sequence_by_sequence(enumerated, *chain)
    assert_passage(passage(*chain), slow, chain[-1])
    path, best = best_path(*chain)
    assert_array_equal(path, slow["path"])
    assert_allclose(best, slow["best"])


@pytest.mark.parametrize("n_rows", [3, 90])
def test_a_first_response_of_an_expert_that_is_ruled_out(n_rows, rng):
    chain = [np.array(part) for part in drawn_chain(rng, 2, [n_rows, 2])[:3]]
    initial, _, density = chain
    # It says nothing, and the sequence goes on from what the gate says.
    initial[:, 0] = 0.0, -np.inf
    density[:, 0] = -np.inf
    chains = Chains(np.repeat([0, 1], [n_rows, 2]))
    found = passage(*chain, chains)
    assert found.log_prob[0] == -np.inf
    assert_allclose(found.filtered[:, 0], [1.0, 0.0])
    density[:, 0] = 0.0
    expected = passage(*chain, chains)
    assert_allclose(found.smoothed, expected.smoothed)
    assert_allclose(found.log_prob[1:], expected.log_prob[1:])


def test_the_two_slow_ways_agree(rng):
    chain = drawn_chain(rng, 3, [4, 6])
    one, other = (sequence_by_sequence(way, *chain) for way in (enumerated, walked))
    for name, value in one.items():
        assert_allclose(value, other[name], atol=1e-12)


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("lengths", [[25], [26], [500], [30, 1, 1, 2, 70], [5] * 60])
def test_long_chains(lengths, constant, rng):
    chain = drawn_chain(rng, 3, lengths, constant=constant)
    slow = sequence_by_sequence(walked, *chain)
    assert_passage(passage(*chain), slow, chain[-1])
    path, best = best_path(*chain)
    assert_array_equal(path, slow["path"])
    assert_allclose(best, slow["best"])


@pytest.mark.parametrize("constant", [False, True])
def test_interleaved_sequences(constant, rng):
    order = rng.permutation(130)
    chain = drawn_chain(rng, 2, [60, 30, 1, 39], constant=constant, order=order)
    assert chain[-1].order is not None
    slow = sequence_by_sequence(walked, *chain)
    weight = rng.uniform(0.5, 2.0, size=4)[chain[-1].sequence]
    assert_passage(passage(*chain, weight), slow, chain[-1], weight)
    assert_array_equal(best_path(*chain)[0], slow["path"])


@pytest.mark.parametrize("constant", [False, True])
def test_weights_are_in_the_sums_of_pairs_alone(constant, rng):
    initial, transition, density, chains = drawn_chain(
        rng, 2, [9, 6], constant=constant
    )
    weight = np.repeat([2.0, 0.5], [9, 6])
    slow = sequence_by_sequence(walked, initial, transition, density, chains)
    found = passage(initial, transition, density, chains, weight)
    assert_passage(found, slow, chains, weight)


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("lengths", [[12], [90], [40, 3, 1, 60]])
def test_logarithms_give_the_same(lengths, constant, rng):
    initial, transition, density, chains = drawn_chain(
        rng, 3, lengths, constant=constant
    )
    weight = np.ones(chains.n_rows)
    one, other = (
        way(initial, transition, density.copy(), chains, weight)
        for way in (_scaled, _logs)
    )
    for mine, theirs in zip(one, other, strict=True):
        assert_allclose(np.array(mine), np.array(theirs), rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("n_rows", [6, 80])
def test_transitions_that_are_ruled_out(n_rows, constant, rng):
    initial, transition, density, chains = drawn_chain(
        rng, 3, [n_rows], constant=constant
    )
    transition[0, 2] = transition[2, 0] = transition[1, 1] = -np.inf
    transition = log_softmax(transition, axis=1)
    chain = (initial, transition, density, chains)
    slow = sequence_by_sequence(enumerated if n_rows < 8 else walked, *chain)
    assert_passage(passage(*chain), slow, chains)
    path, best = best_path(*chain)
    assert_array_equal(path, slow["path"])
    assert_allclose(best, slow["best"])
    assert not ((path[:-1] == 0) & (path[1:] == 2)).any()


@pytest.mark.parametrize("n_rows", [6, 70])
def test_the_way_back_is_ruled_out(n_rows, rng):
    # From left to right: what the last state says comes thousands of nats late.
    initial, transition, density, chains = drawn_chain(rng, 3, [n_rows])
    transition[1, 0] = transition[2, 0] = transition[2, 1] = -np.inf
    transition = log_softmax(transition, axis=1)
    initial = np.array([[0.0], [-np.inf], [-np.inf]])
    density[:, n_rows // 2] = [-1000.0, 0.0, -500.0]
    density[:, -1] = [0.0, -1200.0, -1e4]
    chain = (initial, transition, density, chains)
    slow = sequence_by_sequence(enumerated if n_rows < 8 else walked, *chain)
    assert_passage(passage(*chain), slow, chains)
    assert_array_equal(best_path(*chain)[0], slow["path"])


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("n_rows", [5, 60])
def test_known_states(n_rows, constant, rng):
    initial, transition, density, chains = drawn_chain(
        rng, 3, [n_rows], constant=constant
    )
    known = [0, n_rows // 2, n_rows - 1]
    for row, state in zip(known, [2, 0, 1], strict=True):
        density[np.arange(3) != state, row] = -np.inf
    chain = (initial, transition, density, chains)
    slow = sequence_by_sequence(enumerated if n_rows < 8 else walked, *chain)
    found = passage(*chain)
    assert_passage(found, slow, chains)
    assert_array_equal(found.smoothed[:, known].argmax(axis=0), [2, 0, 1])
    assert_array_equal(best_path(*chain)[0], slow["path"])


@pytest.mark.parametrize("n_rows", [6, 60])
def test_densities_that_differ_by_a_thousand_nats(n_rows, rng):
    chain = drawn_chain(rng, 3, [n_rows], spread=1000.0)
    slow = sequence_by_sequence(enumerated if n_rows < 8 else walked, *chain)
    assert_passage(passage(*chain), slow, chain[-1])


@pytest.mark.parametrize("lengths", [[5], [40, 3]])
def test_a_first_state_that_the_response_contradicts(lengths, rng):
    # The law of the first state rules out the one that the response asks for.
    initial, transition, density, chains = drawn_chain(rng, 2, lengths)
    initial[:, 0] = [0.0, -np.inf]
    density[:, 0] = [-2000.0, 0.0]
    chain = (initial, transition, density, chains)
    slow = sequence_by_sequence(enumerated if len(lengths) < 2 else walked, *chain)
    found = passage(*chain)
    assert_allclose(found.log_prob[0], -2000.0)
    assert_passage(found, slow, chains)


def test_a_response_that_no_state_can_have_spoils_no_other_sequence(rng):
    chain = drawn_chain(rng, 2, [30, 45, 60])
    expected = passage(*chain)
    chain[2][:, 40] = -np.inf
    found = passage(*chain)
    others = chain[-1].sequence != 1
    assert found.log_prob[40] == -np.inf
    assert_allclose(found.log_prob[others], expected.log_prob[others])
    assert_allclose(found.smoothed[:, others], expected.smoothed[:, others])
    assert not np.isnan(found.log_prob).any()


@pytest.mark.parametrize("seed", range(30))
def test_chains_of_all_kinds(seed):
    rng = np.random.default_rng(seed)
    n_states, constant = rng.integers(2, 5), rng.random() < 0.5
    lengths = rng.integers(1, rng.choice([4, 60]), size=rng.integers(1, 6))
    spread = rng.choice([1.0, 50.0, 1e3, 1e5])
    initial, transition, density, chains = drawn_chain(
        rng, n_states, lengths, constant=constant, spread=spread
    )
    # From shares that differ a little to ones that a float cannot hold.
    transition = log_softmax(transition * rng.choice([1.0, 20.0, 150.0]), axis=1)
    initial = log_softmax(initial * rng.choice([1.0, 100.0]), axis=0)
    density[rng.random(density.shape) < 0.1] = -np.inf
    density[:, ~np.isfinite(density.max(axis=0))] = 0.0
    chain = (initial, transition, density, chains)
    slow = sequence_by_sequence(walked, *chain)
    assert_passage(passage(*chain), slow, chains, atol=1e-6)
    assert_allclose(best_path(*chain)[1], slow["best"])


def test_independent_rows_have_independent_pairs(rng):
    chains = Chains(np.array([0, 1, 0, 0, 1]))
    resp = rng.dirichlet([1.0, 1.0, 1.0], size=5).T
    weight = np.array([1.0, 2.0, 1.0, 1.0, 2.0])
    rows, before = chains.followers
    assert_array_equal(rows, [2, 3, 4])
    assert_array_equal(before, [0, 2, 1])
    pairs = np.einsum("it,jt->ijt", resp[:, before], resp[:, rows])
    found = independent(resp, chains, weight, constant=False)
    assert_allclose(np.array(found.pairs), pairs)
    summed = independent(resp, chains, weight, constant=True)
    assert_allclose(summed.pairs, pairs @ weight[rows])


def test_chains_know_their_rows():
    chains = Chains(np.array([0, 1, 1, 0, 2, 1]), state=np.array([0, 1, -1, 2, 3, 4]))
    assert (chains.n_rows, chains.n_sequences) == (6, 3)
    assert_array_equal(chains.first, [0, 1, 4])
    assert_array_equal(chains.last, [3, 5, 4])
    rows = np.arange(6)
    assert_array_equal(chains.in_order(rows), [0, 3, 1, 2, 5, 4])
    assert_array_equal(chains.back(chains.in_order(rows)), rows)
    some = chains.take(np.array([1, 2, 4, 5]))
    assert_array_equal(some.sequence, [0, 0, 1, 0])
    assert_array_equal(some.state, [1, -1, 3, 4])
    assert_array_equal(some.first, [0, 2])


def test_rows_by_themselves_are_one_sequence():
    chains = Chains.single(3)
    assert chains.order is None
    assert_array_equal(chains.followers[0], [1, 2])
    assert_array_equal(chains.last, [2])
