"""What is said of a fitted network: weights, usage, size, dead experts."""

import warnings

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from skmoe.exceptions import CollapsedExpertWarning
from skmoe.neural import ExpertUsage
from skmoe.neural._sparse import STRONGER
from skmoe.neural._usage import usage_of
from tests.multitask._small import raw
from tests.neural._small import (
    ROUTERS,
    classifier,
    leaf_classifier,
    leaf_regressor,
    regressor,
    rows,
)

X, Y = rows()


# -- weights -----------------------------------------------------------------------


@pytest.mark.parametrize("router", ROUTERS)
def test_weights_are_of_the_chosen_experts(router):
    model = regressor(router=router, top_k=2).fit(X, Y)
    weight = model.gate_weights(X)
    assert weight.shape == (200, 4)
    count = {"switch": 1, "dense": 4, "random": 4}.get(router, 2)
    assert_array_equal((weight > 0).sum(axis=1), count)
    if router not in ("switch", "expert_choice"):
        assert_allclose(weight.sum(axis=1), 1.0)
    assert_array_equal(model.apply(X), weight.argmax(axis=1))


def test_prediction_is_what_the_weighted_experts_say():
    model = regressor().fit(X, Y)
    numbers, codes, fitted = model._encoded(X)
    network = fitted.network
    hidden = network.rows(torch.as_tensor(numbers), torch.as_tensor(codes))[:, 0]
    experts = network.experts
    w1, b1, w2, b2 = experts.w1, experts.b1, experts.w2, experts.b2
    by_hand = network.bias + network.linear(hidden)
    for e in range(4):
        each = torch.relu(hidden @ w1[e] + b1[e]) @ w2[e] + b2[e]
        weight = torch.as_tensor(model.gate_weights(X)[:, e : e + 1])
        by_hand = by_hand + weight * each
    assert_allclose(raw(model, X), by_hand.detach().numpy(), atol=1e-10)


@pytest.mark.parametrize("router", ROUTERS)
@pytest.mark.parametrize("capacity_factor", [None, 0.5])
def test_prediction_of_a_row_is_its_own(router, capacity_factor):
    if capacity_factor and router in ("dense", "hash", "random"):
        pytest.skip("takes no capacity")
    options = {"router": router, "capacity_factor": capacity_factor}
    model = regressor(**options).fit(X, Y)
    alone = np.concatenate([raw(model, X[i : i + 1]) for i in range(20)])
    assert_allclose(raw(model, X)[:20], alone, atol=1e-12)


def test_leaves_are_hard_in_prediction_and_their_weights_soft():
    model = leaf_classifier(max_epochs=1).fit(X, Y)
    weight, leaf = model.gate_weights(X), model.apply(X)
    assert_allclose(weight.sum(axis=1), 1.0)
    assert (weight > 0).all()
    numbers, codes, fitted = model._encoded(X)
    network = fitted.network
    hidden = network.rows(torch.as_tensor(numbers), torch.as_tensor(codes))[:, 0]
    assert_array_equal(leaf, network.tree.leaf_of(hidden).numpy())


def test_dropped_rows_keep_the_linear_part():
    # One place for an expert, and rows that all want the same.
    model = regressor(router="topk", top_k=1, capacity_factor=0.25).fit(X, Y)
    numbers, codes, fitted = model._encoded(np.repeat(X[:1], 64, axis=0))
    network = fitted.network.train()
    inputs = torch.as_tensor(numbers), torch.as_tensor(codes)
    with torch.no_grad():
        out = network(*inputs).raw[:, 0, 0]
        vectors, _ = network.hidden(*inputs)
        rest = (network.bias + network.linear(vectors))[:, 0]
    kept = int(network.statistics["kept"].sum())
    assert 0 < kept < 64
    assert (out == rest).sum() == 64 - kept


# -- usage -------------------------------------------------------------------------


def test_usage_adds_up():
    model = classifier().fit(X, Y)
    usage = model.expert_usage(X)
    weight = model.gate_weights(X)
    assert_allclose(usage.load, (weight > 0).sum(axis=0) / 400)
    assert_allclose(usage.weight, weight.mean(axis=0))
    assert_allclose(usage.cv_load, usage.load.std() * 4)
    assert_allclose(usage.max_over_mean, usage.load.max() * 4)


def test_usage_counts_rows_by_their_weight():
    model = leaf_regressor().fit(X, Y)
    weight = np.arange(200) % 3.0
    usage = model.expert_usage(X, sample_weight=weight)
    again = model.expert_usage(np.repeat(X, weight.astype(int), axis=0))
    assert_allclose(usage.load, again.load)
    assert_allclose(usage.weight, again.weight)
    with pytest.raises(ValueError, match=r"[Nn]egative"):
        model.expert_usage(X, sample_weight=-weight)


def test_effective_number_is_that_of_even_experts():
    chosen = np.zeros((8, 4))
    chosen[:, :2] = 1.0
    usage = usage_of(chosen / 2, chosen, np.ones(8), "expert")
    assert_allclose(usage.n_effective, 2.0)
    assert_array_equal(usage.dead, [2, 3])
    assert repr(usage) == ("<ExpertUsage: 4 of kind 'expert', effective 2.0, dead 2>")


def test_usage_in_words_and_as_a_frame():
    pytest.importorskip("pandas")
    usage = ExpertUsage(np.array([0.75, 0.25, 0.0]), np.array([0.6, 0.4, 0.0]), "leaf")
    text = str(usage)
    assert "number of kind 'leaf': 3, effective 2.0" in text
    assert "dead: [2]" in text
    assert "     0  0.7500  0.6000" in text
    assert usage.to_frame().loc[1, "weight"] == 0.4
    assert usage.to_frame().index.name == "leaf"
    many = ExpertUsage(np.full(30, 1 / 30), np.full(30, 1 / 30))
    assert "... and 10 with less" in str(many)
    assert "dead: none" in str(many)


# -- dead experts ------------------------------------------------------------------


def test_dead_experts_are_warned_of():
    X, y = rows(600)
    match = (
        r"of 8 experts get next to none of the rows \(\d.*\{'switch': 0\.1\}, or take"
    )
    with pytest.warns(CollapsedExpertWarning, match=match):
        classifier(
            router="topk",
            top_k=1,
            router_losses={},
            n_experts=8,
            max_epochs=20,
            learning_rate=0.3,
        ).fit(X, y)


@pytest.mark.parametrize("router", ROUTERS)
def test_what_is_advised_against_dead_experts_can_be_done(router):
    advice = classifier(router=router)._advice()
    assert advice.endswith("take fewer experts")
    if (losses := STRONGER.get(router)) is not None:
        assert str(losses) in advice
        classifier(router=router, router_losses=losses, max_epochs=1).fit(X, Y)


def test_rows_that_are_alike_leave_leaves_dead():
    match = r"3 of 4 leaves get next to none of the rows \(.*raise load_balance"
    with pytest.warns(CollapsedExpertWarning, match=match):
        leaf_regressor(depth=2).fit(np.zeros((400, 1)), np.arange(400.0))


def test_few_rows_for_each_expert_are_no_reason_to_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        classifier(router="topk", router_losses={}, n_experts=64).fit(X, Y)


def test_choices_of_prediction_are_balanced_by_default():
    # After few steps the noise is larger than what rows differ by: balanced with it,
    # a few experts get most rows without.
    X, _ = rows(1000)
    options = {"n_experts": 16, "max_epochs": 10, "random_state": 1}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapsedExpertWarning)
        without, by_default = (
            regressor(router_losses=losses, **options).fit(X, X[:, 2]).expert_usage(X)
            for losses in ({"importance": 0.1, "load": 0.1}, None)
        )
    assert by_default.cv_load < 0.7 * without.cv_load


# -- size --------------------------------------------------------------------------


def test_size_of_a_sparse_network():
    model = regressor(numeric_encoding="standard", stem_hidden=(5,)).fit(X, Y)
    size = model.flops_
    # A table of one code, which only pads; 3 columns; a stem of 5; 4 experts of 8.
    stem, linear, router, expert = 3 * 5, 3, 5 * 4, 5 * 8 + 8
    matrices = stem + linear + router + 4 * expert
    biases = 5 + 1 + 4 * (8 + 1)
    assert size.operations == 2 * matrices
    assert size.active_operations == 2 * (matrices - 2 * expert)
    table = 4
    assert size.parameters == matrices + biases + router + table == model.n_parameters_
    assert size.active_parameters == matrices - 2 * expert + biases - 2 * (8 + 1)
    assert 0 < size.active_share < 1


def test_size_of_a_fast_feedforward_network():
    model = leaf_regressor(numeric_encoding="standard", master_leaf_width=2, depth=3)
    size = model.fit(X, Y).flops_
    splits, leaf, master, linear = 7 * 3, 3 * 8 + 8, 3 * 2 + 2, 3
    assert size.operations == 2 * (splits + 8 * leaf + master + linear)
    assert size.active_operations == 2 * (3 * 3 + leaf + master + linear)
    assert size.parameters == model.n_parameters_


@pytest.mark.parametrize("router", ROUTERS)
def test_all_parameters_are_counted(router):
    model = classifier(router=router).fit(X, Y)
    assert model.flops_.parameters == model.n_parameters_


def test_more_experts_cost_no_more_operations():
    few, many = (regressor(n_experts=n, max_epochs=1).fit(X, Y).flops_ for n in (4, 16))
    assert many.parameters > 3 * few.parameters
    # The router alone grows.
    width = regressor(max_epochs=1).fit(X, Y).network_.width
    assert many.active_operations - few.active_operations == 2 * 12 * width
