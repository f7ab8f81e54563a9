"""The scan over a chain: blocks change nothing, whatever the algebra."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import log_softmax, logsumexp

from skmoe.em import _chain_scan
from skmoe.em._chain_scan import BEST, LOGS, SCALED, SHORT, log_sum, sweep
from tests.em.slow_chains import drawn_chain, sequence_by_sequence, walked

LENGTHS = [1, 2, 3, 23, 24, 25, 26, 47, 100, 577, 1000]


def swept(algebra, initial, transition, density, chains):
    if algebra is SCALED:
        initial, transition, density = map(np.exp, (initial, transition, density))
    return sweep(algebra, initial, transition, density, chains.starts)


def in_logs(algebra, values):
    with np.errstate(divide="ignore"):
        return np.log(values) if algebra is SCALED else values


def test_the_lengths_lie_on_both_sides_of_the_shortest_cut():
    assert {SHORT - 1, SHORT, SHORT + 1} <= set(LENGTHS)


@pytest.mark.parametrize("algebra", [SCALED, LOGS], ids=["scaled", "logs"])
@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("n_rows", LENGTHS)
def test_one_sequence(n_rows, constant, algebra, rng):
    chain = drawn_chain(rng, 3, [n_rows], constant=constant)
    slow = sequence_by_sequence(walked, *chain)
    found = swept(algebra, *chain)
    assert_allclose(in_logs(algebra, found.total), slow["log_prob"], rtol=1e-9)
    assert_allclose(np.exp(in_logs(algebra, found.forward)), slow["filtered"])
    joint = in_logs(algebra, found.forward) + in_logs(algebra, found.backward)
    assert_allclose(np.exp(log_softmax(joint, axis=0)), slow["smoothed"])


@pytest.mark.parametrize("algebra", [SCALED, LOGS], ids=["scaled", "logs"])
@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize(
    "lengths",
    [[1] * 30, [1, 2, 40, 1, 3], [24, 25, 26], [4] * 50, [600, 1, 1, 400], [3] * 300],
)
def test_many_sequences(lengths, constant, algebra, rng):
    chain = drawn_chain(rng, 2, lengths, constant=constant)
    slow = sequence_by_sequence(walked, *chain)
    found = swept(algebra, *chain)
    assert_allclose(
        in_logs(algebra, found.total), slow["log_prob"], rtol=1e-9, atol=1e-12
    )
    assert_allclose(np.exp(in_logs(algebra, found.forward)), slow["filtered"])
    joint = in_logs(algebra, found.forward) + in_logs(algebra, found.backward)
    assert_allclose(np.exp(log_softmax(joint, axis=0)), slow["smoothed"])


@pytest.mark.parametrize("n_rows", LENGTHS)
def test_best_paths_end_with_their_log_density(n_rows, rng):
    chain = drawn_chain(rng, 3, [n_rows])
    slow = sequence_by_sequence(walked, *chain)
    found = swept(BEST, *chain)
    assert_allclose(found.total.sum(), slow["best"][0])
    assert found.forward[:, -1].argmax() == slow["path"][-1]


@pytest.mark.parametrize("length", [2, 3, 7, 50])
def test_the_length_of_the_blocks_is_nothing(length, rng, monkeypatch):
    chain = drawn_chain(rng, 3, [61, 1, 38])
    expected = swept(SCALED, *chain)
    # As many rows as are walked one by one at the most: levels upon levels.
    monkeypatch.setattr(_chain_scan, "SHORT", length)
    found = swept(SCALED, *chain)
    assert_allclose(found.forward, expected.forward)
    assert_allclose(found.total, expected.total)
    # Of any size: only what it says of one state beside another is used.
    shares = [
        sweep.backward / sweep.backward.sum(axis=0) for sweep in (found, expected)
    ]
    assert_allclose(*shares)


def test_a_chain_of_a_hundred_thousand_rows_adds_up(rng):
    # More than two levels; the loop over rows is a product of 2 x 2 matrices.
    initial, transition, density, chains = drawn_chain(rng, 2, [100_000])
    found = swept(SCALED, initial, transition, density, chains)
    law, total = np.exp(initial[:, 0] + density[:, 0]), 0.0
    matrices = np.exp(transition + density)
    for t in range(100_000):
        law = law if t == 0 else law @ matrices[..., t]
        total += np.log(law.sum())
        law = law / law.sum()
    assert_allclose(np.log(found.total).sum(), total, rtol=1e-10)
    assert_allclose(found.forward[:, -1], law, rtol=1e-9)


def test_densities_that_differ_by_a_thousand_nats(rng):
    initial, transition, density, chains = drawn_chain(rng, 3, [200], spread=1000.0)
    slow = sequence_by_sequence(walked, initial, transition, density, chains)
    found = swept(LOGS, initial, transition, density, chains)
    assert_allclose(found.total, slow["log_prob"], rtol=1e-9)
    joint = found.forward + found.backward
    assert_allclose(np.exp(log_softmax(joint, axis=0)), slow["smoothed"], atol=1e-12)


def test_no_state_is_seen_where_none_can_be():
    terms = np.array([[-np.inf, 0.0, -np.inf], [-np.inf, 0.0, -1000.0]])
    assert_array_equal(log_sum(terms, axis=0), [-np.inf, np.log(2.0), -1000.0])


def test_log_sum_is_that_of_scipy(rng):
    terms = 300.0 * rng.normal(size=(4, 5, 6))
    for axis in (-3, -2, 0, 1):
        assert_allclose(log_sum(terms, axis=axis), logsumexp(terms, axis=axis))
