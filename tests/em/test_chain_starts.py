"""Starts for rows in time."""

from itertools import islice

import numpy as np
import pytest

from skmoe.em._chain_starts import chain_portfolio
from skmoe.em._chains import Chains
from skmoe.em._starts import StartData, portfolio


def switching(n_rows, stay, seed=0):
    """Return two lines that cross, in turn: X, y and which line each row is on."""
    rng = np.random.default_rng(seed)
    state = np.arange(n_rows) // stay % 2
    X = rng.normal(size=(n_rows, 1))
    y = np.where(state == 0, 1.0, -1.0) * X[:, 0] + 0.1 * rng.normal(size=n_rows)
    return X, (y - y.mean()) / y.std(), state


def start_data(X, y, chains, n_experts=2):
    weight = np.ones(len(y))
    return StartData(X, X, y[:, None], weight, n_experts, chains=chains)


def right(start, state):
    """Return the share of rows on the right line, whichever is called which."""
    share = (start.resp.argmax(axis=0) == state).mean()
    return max(share, 1.0 - share)


def test_windows_find_lines_that_nothing_else_tells_apart():
    X, y, state = switching(400, 25)
    data = start_data(X, y, Chains.single(400))
    starts = list(chain_portfolio("auto", 12, data, data.chains, np.random))
    assert len(starts) == 12
    assert starts[0].name == "windows"
    assert right(starts[0], state) > 0.95
    others = [s for s in starts if s.name != "windows"]
    assert max(right(start, state) for start in others) < right(starts[0], state)
    np.testing.assert_allclose(starts[0].resp.sum(axis=0), 1.0)


def test_rows_of_sequences_may_stand_between_each_other():
    X, y, state = switching(400, 25)
    sequence = np.repeat([0, 1], 200)
    mixed = np.random.default_rng(1).permutation(400)
    # Within a sequence rows keep their order.
    mixed = np.concatenate([np.sort(mixed[:200]), np.sort(mixed[200:])])
    order = np.argsort(np.argsort(mixed))
    places = np.empty(400, dtype=int)
    places[order] = np.arange(400)
    apart, together = Chains(sequence[order]), Chains(sequence)
    rows = np.argsort(sequence[order], kind="stable")
    one = next(chain_portfolio("auto", 1, start_data(X, y, together), together, None))
    X_mixed, y_mixed = np.empty_like(X), np.empty_like(y)
    X_mixed[rows], y_mixed[rows] = X, y
    data = start_data(X_mixed, y_mixed, apart)
    other = next(chain_portfolio("auto", 1, data, apart, None))
    np.testing.assert_array_equal(other.resp[:, rows], one.resp)
    assert right(one, state) > 0.95


def test_random_windows_come_with_a_seed():
    X, y, _ = switching(300, 20)
    chains = Chains.single(300)
    data = start_data(X, y, chains)
    draws = [
        list(islice(chain_portfolio("auto", 20, data, chains, rng), 8))
        for rng in (np.random.RandomState(3), np.random.RandomState(3))
    ]
    assert [start.name for start in draws[0]] == ["windows"] * 8
    for one, other in zip(*draws, strict=True):
        np.testing.assert_array_equal(one.resp, other.resp)
    assert not np.array_equal(draws[0][3].resp, draws[0][4].resp)


@pytest.mark.parametrize("length", [1, 3])
def test_sequences_too_short_for_windows_have_the_flat_starts(length):
    X, y, _ = switching(60, 20)
    chains = Chains(np.arange(60) // length)
    data = start_data(X, y, chains)
    rngs = np.random.RandomState(0), np.random.RandomState(0)
    own = list(chain_portfolio("auto", 6, data, chains, rngs[0]))
    flat = list(portfolio("auto", 6, data, rngs[1]))
    assert [start.name for start in own] == [start.name for start in flat]


def test_a_named_kind_is_that_of_the_flat_mixture():
    X, y, _ = switching(100, 20)
    data = start_data(X, y, Chains.single(100))
    found = chain_portfolio("kmeans", 1, data, data.chains, np.random)
    assert [start.name for start in found] == ["kmeans"]
