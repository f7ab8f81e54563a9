"""Choices of full experts: a sequential loop says where each of them goes."""

import numpy as np
import pytest
import torch

from skmoe.nn.routing._overflow import to_next_expert
from skmoe.nn.routing._slots import sorted_slots
from tests.nn._slow_routing import best_of, moved_in_turn


def case(n_rows, n_experts, k, seed, with_order):
    rng = np.random.default_rng(seed)
    # Most rows want the first experts; rounded, for ties.
    scores = np.round(rng.normal(size=(n_rows, n_experts)), 1)
    scores -= 0.5 * np.arange(n_experts)
    index = np.array([best_of(row, k) for row in scores])
    return index, scores, rng.permutation(n_rows) if with_order else None


def moved(index, scores, capacity, order):
    order = None if order is None else torch.from_numpy(order)
    return to_next_expert(
        torch.from_numpy(index), torch.from_numpy(scores), capacity, order
    )


@pytest.mark.parametrize("with_order", [False, True])
@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("capacity", [2, 5, 9, 30])
@pytest.mark.parametrize("seed", range(3))
def test_equals_a_sequential_loop(k, capacity, seed, with_order):
    index, scores, order = case(30, 5, k, seed, with_order)
    ours, load = moved(index, scores, capacity, order)
    slow, kept = moved_in_turn(index, scores, capacity, order)
    assert np.array_equal(ours, slow)
    assert load.tolist() == np.bincount(index.ravel(), minlength=5).tolist()
    # No row has an expert twice, and a second sort keeps those that have a place.
    assert all(len(set(row)) == k for row in ours.tolist())
    given = None if order is None else torch.from_numpy(order)
    slots = sorted_slots(ours, 5, capacity, given)
    assert np.array_equal(slots.slot >= 0, kept)
    assert int(slots.offsets.diff(prepend=torch.zeros(1, dtype=torch.int32)).max()) <= (
        capacity
    )


@pytest.mark.parametrize("k", [1, 2])
def test_all_are_placed_while_there_is_room(k):
    index, scores, _ = case(24, 6, k, 0, False)
    ours, _ = moved(index, scores, 4 * k, None)
    if k == 1:
        assert np.bincount(ours.flatten(), minlength=6).tolist() == [4] * 6
    # A choice is left over only where its row has all experts with room already.
    slots = sorted_slots(ours, 6, 4 * k)
    kept = slots.offsets.diff(prepend=torch.zeros(1, dtype=torch.int32))
    open_to = {e for e in range(6) if kept[e] < 4 * k}
    for row, places in zip(ours.tolist(), slots.slot.tolist(), strict=True):
        if min(places) < 0:
            assert open_to <= set(row)


def test_nothing_moves_where_all_fit():
    index, scores, _ = case(10, 4, 2, 0, False)
    ours, _ = moved(index, scores, 10, None)
    assert np.array_equal(ours, index)


def test_one_expert_and_no_rows():
    scores = torch.zeros(3, 1)
    index, load = to_next_expert(torch.zeros(3, 1, dtype=torch.int64), scores, 1, None)
    assert index.tolist() == [[0], [0], [0]]
    assert load.tolist() == [3]
    none = torch.zeros(0, 2, dtype=torch.int64)
    assert to_next_expert(none, torch.zeros(0, 4), 1, None)[0].shape == (0, 2)


def test_is_what_torch_expects():
    index, scores, _ = case(12, 4, 2, 0, False)
    arguments = (torch.from_numpy(index), torch.from_numpy(scores), 2, None)
    torch.library.opcheck(torch.ops.skmoe.to_next_expert, arguments)
