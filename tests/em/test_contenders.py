"""Hard assignments ask only the experts that can win, within caps too."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.naive_bayes import GaussianNB
from sklearn.svm import SVC

from skmoe import MixtureOfExpertsClassifier, MixtureOfExpertsRegressor
from skmoe.em._balance import Capacity, _filled
from skmoe.em._node import Node, hard_assignment, posterior
from skmoe.em._units import UnitProblem, Units
from skmoe.experts import EstimatorExpert, LinearExpert
from skmoe.gates import GaussianGate


@pytest.fixture
def rows(rng):
    """Return X, y of two classes, weight and hard labels of four parts."""
    X = rng.normal(size=(300, 2))
    y = (np.sin(2.0 * X[:, 0]) + X[:, 1] > 0).astype(int)
    part = (X[:, 0] > 0).astype(int) + 2 * (X[:, 1] > 0)
    return X, y, np.ones(300), np.eye(4)[part].T


def started(rows, estimator, balance=None, assign=hard_assignment):
    """Return a problem whose parts were fitted to the four parts."""
    X, y, weight, resp = rows
    experts = [(f"e{k}", EstimatorExpert(estimator)) for k in range(4)]
    node = Node(GaussianGate(), experts, [None] * 4, assign=assign)
    problem = UnitProblem(node, X, y, weight, Units(balance=balance), n_classes=2)
    problem.start(resp)
    return problem


def all_densities(problem):
    """Return every joint log density, asked for one by one, of copies of X."""
    X, y, node = problem.X.copy(), problem.y, problem.node
    log_gate = node.gate.log_joint(X).T
    return log_gate + np.array([e.log_prob(X, y) for _, e in node.experts])


# -- experts that cannot win ---------------------------------------------------------


@pytest.mark.parametrize("estimator", [SVC(C=10.0), GaussianNB()])
def test_hard_assignments_are_those_of_all_densities(rows, estimator):
    problem = started(rows, estimator)
    value = problem.e_step()
    joint = all_densities(problem)
    assert_array_equal(problem.node.resp, hard_assignment(joint)[0])
    assert_allclose(value, joint.max(axis=0).sum(), rtol=1e-10)
    assert problem.node.pending.mean() > 0.3
    assert problem.skipped_share == problem.node.pending.mean()


def test_what_was_left_out_is_bounded_by_what_was_found(rows):
    problem = started(rows, SVC(C=10.0))
    found = problem.joint(contenders=True)
    pending = problem.node.pending
    joint = all_densities(problem)
    assert_allclose(found[~pending], joint[~pending], rtol=1e-8)
    assert np.all(found[pending] >= joint[pending])
    assert np.all((found <= joint.max(axis=0) + 1e-12)[pending])


def test_soft_assignments_and_densities_are_asked_in_full(rows, rng):
    soft = started(rows, SVC(), assign=posterior)
    soft.e_step()
    assert soft.node.pending is None
    assert_allclose(soft.node.resp, posterior(all_densities(soft))[0], atol=1e-8)
    X, _, weight, resp = rows
    experts = [(f"e{k}", LinearExpert()) for k in range(4)]
    node = Node(GaussianGate(), experts, [None] * 4, assign=hard_assignment)
    y = 0.01 * rng.normal(size=300)  # densities far above 1
    problem = UnitProblem(node, X, y, weight, Units())
    problem.start(resp)
    problem.e_step()
    assert node.pending is None
    assert_array_equal(node.resp, hard_assignment(all_densities(problem))[0])


def test_responsibilities_after_a_hard_pass_are_of_all_densities(rows):
    problem = started(rows, SVC(C=10.0))
    problem.e_step()
    expected = posterior(all_densities(problem))[0]
    assert_allclose(problem.responsibilities(), expected, atol=1e-8)


def test_a_fit_with_hard_assignments_climbs(rows):
    X, y, _, resp = rows
    model = MixtureOfExpertsClassifier(
        GaussianNB(), n_experts=4, algorithm="cem", init=resp.argmax(0), random_state=0
    ).fit(X, y)
    assert model.objective_trace_[-1] > model.objective_trace_[0]


# -- caps ----------------------------------------------------------------------------


def test_rows_that_a_cap_moves_count_with_their_own_density(rows):
    problem = started(rows, SVC(C=10.0), Capacity(1.0))
    value = problem.e_step()
    resp = problem.node.resp
    assert (problem.node.pending & (resp > 0)).any(), "no row was moved: a weak test"
    joint = all_densities(problem)
    assert_allclose(value, joint[resp > 0].sum(), rtol=1e-8)
    assert resp.sum(axis=1).max() <= 75


@pytest.mark.parametrize("factor", [1.0, 1.3, 4.0])
def test_a_filled_expert_keeps_who_would_lose_most(rng, factor):
    joint = rng.normal(size=(4, 200)) + np.array([2.0, 0, 0, 0])[:, None]
    cap = factor * 50
    resp = _filled(joint, np.ones(200), cap)
    load, choice = resp.sum(axis=1), resp.argmax(axis=0)
    assert_array_equal(resp.sum(axis=0), 1.0)
    assert load.max() <= cap
    # Stable: a unit that would rather be elsewhere finds that place full.
    for k in range(4):
        envious = joint[k] > joint[choice, np.arange(200)]
        assert load[k] == int(cap) or not envious.any()


def test_a_slack_cap_changes_nothing(rng):
    joint = rng.normal(size=(3, 100))
    found = _filled(joint, rng.uniform(0.5, 2.0, 100), 1e6)
    assert_array_equal(found, hard_assignment(joint)[0])


def test_units_that_fit_nowhere_go_where_most_room_is_left(rng):
    joint = rng.normal(size=(3, 10))
    resp = _filled(joint, np.ones(10), 10 / 3)  # three experts take three each
    assert sorted(resp.sum(axis=1)) == [3, 3, 4]
    heavy = _filled(joint[:, :2], np.array([5.0, 1.0]), 2.0)
    assert_array_equal(heavy.sum(axis=0), 1.0)


def test_an_expert_out_of_the_question_is_not_chosen(rng):
    joint = rng.normal(size=(3, 60))
    joint[2] = -np.inf
    resp = _filled(joint, np.ones(60), 40.0)
    assert resp[2].sum() == 0


def test_a_capped_regression_keeps_its_caps(rng):
    X = rng.normal(size=(200, 1))
    y = np.abs(X[:, 0]) + 0.1 * rng.normal(size=200)
    model = MixtureOfExpertsRegressor(
        n_experts=2, algorithm="cem", balance="cap", capacity=1.0, random_state=0
    ).fit(X, y)
    assert abs(model.gate_proba(X).argmax(axis=1).mean() - 0.5) < 0.15
