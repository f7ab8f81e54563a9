"""The gate of a chain: a law of the expert for each expert of the row before."""

import copy

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone

from skmoe.em._chains import Chains
from skmoe.em._forward_backward import Passage, passage
from skmoe.gates import ConstantGate, GaussianGate, SoftmaxGate
from skmoe.gates._markov import MarkovGate


def softmax_gates(n_experts, alpha=0.1):
    return [SoftmaxGate(alpha=alpha) for _ in range(n_experts)]


def constant_gates(n_experts, alpha=0.0):
    return [ConstantGate(alpha=alpha) for _ in range(n_experts)]


@pytest.fixture
def rows(rng):
    """Return X, weight, chains of 2 sequences, and what is known of 3 experts."""
    X, weight = rng.normal(size=(40, 2)), np.repeat([1.0, 2.0], [15, 25])
    chains = Chains(np.repeat([0, 1], [15, 25]))
    logs = np.log(rng.dirichlet(np.ones(3), size=(3, 40)))
    initial = np.log(rng.dirichlet(np.ones(3), size=2)).T
    density = rng.normal(size=(3, 40))
    return X, weight, chains, initial, logs.transpose(0, 2, 1), density


def prepared(gate, X, weight, n_experts=3):
    gate.prepare(X, weight, n_experts)
    return gate


def test_each_gate_is_fitted_to_the_pairs_of_its_expert(rows):
    X, weight, chains, *chain = rows
    found = passage(*chain, chains, weight)
    gate = prepared(MarkovGate(ConstantGate(), softmax_gates(3)), X, weight)
    gate.m_step(X, chains, found, weight)
    first = found.smoothed[:, [0, 15]] @ weight[[0, 15]]
    assert_allclose(gate.initial.weights_, first / first.sum())
    followers, _ = chains.followers
    for own, pairs in zip(gate.transitions, found.pairs, strict=True):
        alone = prepared(SoftmaxGate(alpha=0.1), X, weight)
        mass = pairs.sum(axis=0)
        alone.m_step(X[followers], (pairs / mass).T, weight[followers] * mass)
        assert_allclose(own.parameters, alone.parameters, rtol=1e-10, atol=1e-12)
        assert np.abs(own.parameters).max() > 0.01


def test_constant_transitions_are_counted(rows):
    X, weight, chains, initial, logs, density = rows
    constant = logs[..., :1]
    found = passage(initial, constant, density, chains, weight)
    each = passage(initial, np.repeat(constant, 40, axis=-1), density, chains, weight)
    gate = prepared(MarkovGate(ConstantGate(), constant_gates(3)), X, weight)
    gate.m_step(X, chains, found, weight)
    followers, _ = chains.followers
    count = np.array(each.pairs) @ weight[followers]
    expected = count / count.sum(axis=1, keepdims=True)
    assert_allclose(np.exp(gate.log_transition(X)[..., 0]), expected, rtol=1e-9)
    assert gate.log_transition(X).shape == (3, 3, 1)


def test_a_prior_of_the_counts_weighs_as_many_rows(rows):
    X, weight, chains, initial, logs, density = rows
    found = passage(initial, logs[..., :1], density, chains, weight)
    gate = prepared(MarkovGate(ConstantGate(), constant_gates(3, 2.0)), X, weight)
    gate.m_step(X, chains, found, weight)
    expected = found.pairs + 2.0
    expected = expected / expected.sum(axis=1, keepdims=True)
    assert_allclose(np.exp(gate.log_transition(X)[..., 0]), expected)


def test_transitions_of_rows(rows, rng):
    X, weight, *_ = rows
    gate = prepared(MarkovGate(ConstantGate(), softmax_gates(3)), X, weight)
    gate.parameters = rng.normal(size=gate.parameters.size)
    logs = gate.log_transition(X)
    assert logs.shape == (3, 3, 40)
    assert_allclose(np.exp(logs).sum(axis=1), 1.0)
    for own, expected in zip(logs, gate.transitions, strict=True):
        assert_allclose(own, expected.log_proba(X).T)


def test_a_gate_that_is_blind_to_the_past(rows, rng):
    X, weight, chains, *_ = rows
    gate = prepared(MarkovGate(None, softmax_gates(1)), X, weight)
    resp = rng.dirichlet(np.ones(3), size=40).T
    gate.m_step(X, chains, Passage(np.zeros(40), resp, resp, []), weight)
    alone = prepared(SoftmaxGate(alpha=0.1), X, weight)
    alone.m_step(X, np.ascontiguousarray(resp.T), weight)
    assert_allclose(gate.parameters, alone.parameters)
    assert_allclose(gate.log_blind(X), alone.log_proba(X).T)
    assert_allclose(gate.log_initial(X), alone.log_proba(X).T)
    logs = gate.log_transition(X)
    assert logs.shape == (3, 3, 40)
    assert_array_equal(logs[0], logs[2])
    constant = prepared(MarkovGate(None, constant_gates(1)), X, weight)
    assert constant.log_transition(X).shape == (3, 3, 1)


def test_parts_see_their_columns(rows, rng):
    X, weight, chains, *chain = rows
    found = passage(*chain, chains, weight)
    gate = MarkovGate(SoftmaxGate(alpha=1.0), softmax_gates(3), [[0], [1]])
    prepared(gate, X, weight).m_step(X, chains, found, weight)
    other = rng.normal(size=X.shape)
    moved = np.column_stack([other[:, 0], X[:, 1]])
    assert_array_equal(gate.log_transition(moved), gate.log_transition(X))
    assert (gate.log_initial(moved) != gate.log_initial(X)).any()
    moved = np.column_stack([X[:, 0], other[:, 1]])
    assert_array_equal(gate.log_initial(moved), gate.log_initial(X))
    assert (gate.log_transition(moved) != gate.log_transition(X)).any()


def test_parameters_go_round(rows, rng):
    X, weight, *_ = rows
    gate = prepared(MarkovGate(ConstantGate(), softmax_gates(3)), X, weight)
    vector = rng.normal(size=gate.parameters.size)
    gate.parameters = vector
    once = gate.parameters
    gate.parameters = once
    assert_array_equal(gate.parameters, once)
    # (intercept + 2 slopes) of 3 gates, and the initial law
    assert gate.n_parameters == 3 * 3 * 2 + 2
    assert gate.parametric
    assert gate.exact_m_step
    assert gate.smooth
    assert_allclose(gate.penalty, sum(one.penalty for one in gate.gates))
    assert gate.penalty < 0.0


def test_a_copy_learns_by_itself(rows):
    X, weight, chains, *chain = rows
    gate = prepared(MarkovGate(ConstantGate(), softmax_gates(3)), X, weight)
    kept, before = copy.copy(gate), gate.parameters
    gate.m_step(X, chains, passage(*chain, chains, weight), weight)
    assert_array_equal(kept.parameters, before)
    assert (gate.parameters != before).any()


def test_a_clone_is_unfitted():
    gate = clone(MarkovGate(ConstantGate(), softmax_gates(2), [[0], None]))
    assert gate.columns == [[0], None]
    assert [type(one) for one in gate.gates] == [ConstantGate, SoftmaxGate, SoftmaxGate]


@pytest.mark.parametrize("gates", [softmax_gates, constant_gates])
def test_an_expert_that_no_row_follows_keeps_its_law(gates, rows):
    X, weight, chains, *_ = rows
    resp = np.zeros((3, 40))
    resp[0] = 1.0
    pairs = np.zeros((3, 3, 38))
    pairs[0, 0] = 1.0
    gate = prepared(MarkovGate(ConstantGate(), gates(3)), X, weight)
    before = gate.log_transition(X)
    if gates is constant_gates:
        pairs = pairs.sum(axis=-1)
    gate.m_step(X, chains, Passage(np.zeros(40), resp, resp, pairs), weight)
    after = gate.log_transition(X)
    assert_array_equal(after[1:], before[1:])
    assert (after[0, 0] > before[0, 0]).all()
    assert np.isfinite(after).all()


def test_rows_that_stand_alone_teach_the_initial_gate_only(rng):
    X, chains = rng.normal(size=(5, 1)), Chains(np.arange(5))
    resp = rng.dirichlet(np.ones(2), size=5).T
    gate = prepared(MarkovGate(ConstantGate(), softmax_gates(2)), X, np.ones(5), 2)
    before = gate.log_transition(X)
    pairs = [np.zeros((2, 0))] * 2
    gate.m_step(X, chains, Passage(np.zeros(5), resp, resp, pairs), np.ones(5))
    assert_array_equal(gate.log_transition(X), before)
    assert_allclose(gate.initial.weights_, resp.mean(axis=1))


@pytest.mark.parametrize("place", ["first", "later"])
def test_gates_that_model_x_are_refused(place, rng):
    gates = [ConstantGate(), GaussianGate()]
    initial, later = gates if place == "later" else gates[::-1]
    gate = MarkovGate(initial, [later, ConstantGate()])
    with pytest.raises(ValueError, match=r"must be conditional on x, got GaussianGate"):
        gate.prepare(rng.normal(size=(9, 1)), np.ones(9), 2)
