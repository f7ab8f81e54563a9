"""Counts of calibration rows, against ranks formed by hand of all rows together."""

import numpy as np
import pytest

from skmoe.conformal._ranks import RankedRows


def counts_by_hand(scores, weight, gate, own, value):
    """Count as the module says: all rows, the new one last, repeated by weight."""
    row = np.repeat(np.arange(scores.size), weight.astype(int))
    all_scores = np.append(scores[row], value)
    all_gates = np.vstack([gate[row], own])
    like = all_gates @ all_gates.T
    below = all_scores[None, :] < all_scores[:, None]
    rank = (like * below).sum(axis=1) / like.sum(axis=1)
    return np.sum(rank[:-1] >= rank[-1] - 1e-12)


def between(values):
    """Return a score within each step of the counts."""
    ends = np.concatenate([[values[0] - 1.0], values[:-1], [values[-2] + 1.0]])
    return 0.5 * (ends[1:] + ends[:-1])


def draw(rng, n_rows=30, n_experts=3, decimals=8):
    scores = rng.standard_normal(n_rows).round(decimals)
    gate = rng.dirichlet(np.full(n_experts, 0.3), n_rows)
    return scores, rng.integers(1, 4, n_rows).astype(float), gate


def test_uniform_counts_are_those_at_least_as_strange(rng):
    scores, weight, _ = draw(rng, decimals=0)
    ranked = RankedRows(scores, weight)
    counts = ranked.counts(np.ones((2, 1)))
    assert ranked.values[-1] == np.inf
    expected = [weight[scores >= value].sum() for value in ranked.values]
    np.testing.assert_array_equal(counts, [expected, expected])


@pytest.mark.parametrize("decimals", [8, 1, 0])  # without ties, with some, with many
def test_local_counts_are_those_by_hand(rng, decimals):
    scores, weight, gate = draw(rng, decimals=decimals)
    new = rng.dirichlet(np.full(3, 0.3), 6)
    ranked = RankedRows(scores, weight, gate)
    counts = ranked.counts(new)
    for row, own in enumerate(new):
        expected = [
            counts_by_hand(scores, weight, gate, own, value)
            for value in between(ranked.values)
        ]
        np.testing.assert_array_equal(counts[row], expected)


def test_counts_at_a_score_are_never_too_small(rng):
    scores, weight, gate = draw(rng, decimals=1)
    ranked, own = RankedRows(scores, weight, gate), gate[0]
    at_values = [
        counts_by_hand(scores, weight, gate, own, value) for value in ranked.values[:-1]
    ]
    excess = ranked.counts(own[None])[0, :-1] - at_values
    assert 0.0 <= excess.min() < excess.max() <= weight.max() * 2


def test_counts_never_rise_with_the_score(rng):
    scores, weight, gate = draw(rng, n_rows=200)
    counts = RankedRows(scores, weight, gate).counts(gate[:20])
    assert np.diff(counts, axis=1).max() <= 0.0
    np.testing.assert_array_equal(counts[:, 0], weight.sum())


@pytest.mark.parametrize("gate", [np.ones(1), np.full(4, 0.25), np.eye(3)[0]])
def test_one_gate_everywhere_is_uniform(rng, gate):
    scores, weight, _ = draw(rng, n_rows=60, decimals=1)
    everywhere = np.tile(gate, (60, 1))
    local = RankedRows(scores, weight, everywhere).counts(gate[None])
    uniform = RankedRows(scores, weight).counts(gate[None])
    np.testing.assert_array_equal(local, uniform)


def test_weight_is_repetition(rng):
    scores, weight, gate = draw(rng)
    row = np.repeat(np.arange(scores.size), weight.astype(int))
    weighted = RankedRows(scores, weight, gate)
    repeated = RankedRows(scores[row], np.ones(row.size), gate[row])
    np.testing.assert_array_equal(weighted.values, repeated.values)
    np.testing.assert_array_equal(weighted.counts(gate), repeated.counts(gate))


def test_a_row_unlike_all_others_is_never_strange():
    gate = np.eye(2)[np.zeros(20, dtype=int)]
    ranked = RankedRows(np.arange(20.0), np.ones(20), gate)
    np.testing.assert_array_equal(ranked.counts(np.eye(2)[[1]]), 20.0)


def test_regimes_are_compared_with_themselves(rng):
    # The scores of the second regime are ten times those of the first.
    regime = np.repeat([0, 1], 500)
    scores = rng.exponential(size=1000) * np.array([1.0, 10.0])[regime]
    ranked = RankedRows(scores, np.ones(1000), np.eye(2)[regime])
    counts = ranked.counts(np.eye(2))
    found = [ranked.values[(row > 100.0).sum() - 1] for row in counts]
    expected = [np.quantile(scores[regime == k], 0.9) for k in (0, 1)]
    np.testing.assert_allclose(found, expected, rtol=0.02)


def test_p_values_are_uniform_whatever_the_gate(rng):
    # A scale that follows the gate, and a similarity that has nothing to do with it.
    hits = []
    for _ in range(1500):
        gate = rng.dirichlet([0.2, 0.2], 20)
        scores = rng.exponential(size=20) * (1.0 + 9.0 * gate[:, 0])
        ranked = RankedRows(scores[1:], np.ones(19), gate[1:, ::-1])
        place = np.searchsorted(ranked.values, scores[0])
        hits.append((1.0 + ranked.counts(gate[:1, ::-1])[0, place]) / 20.0)
    for level in (0.5, 0.8, 0.9):
        kept = np.mean(np.array(hits) > 1.0 - level + 1e-9)
        assert abs(kept - level) < 4.0 * np.sqrt(level * (1.0 - level) / 1500)
