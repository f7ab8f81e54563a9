"""The gated stack: experts on all rows, the gate on predictions out of fold."""

import numpy as np
import pytest
from scipy import optimize
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.neighbors import KNeighborsRegressor
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from skmoe.em._node import Node, take_columns
from skmoe.em._stack import _honest_dispersion, _out_of_fold, fit_stack
from skmoe.experts import EstimatorExpert, LinearExpert, LogisticExpert
from skmoe.gates import ConstantGate, GaussianGate, SoftmaxGate
from tests._asserts import assert_climbs
from tests.em.problems import rows


@pytest.fixture
def rng():
    return np.random.default_rng(71)


def half_and_half(rng, n=240):
    """Left a plane, right a staircase: each expert is right on one side."""
    X = rng.uniform(-2.0, 2.0, size=(n, 4))
    steps = 3.0 * np.sign(np.sin(5.0 * X[:, 0]))
    y = np.where(X[:, 0] < 0, X @ [0.0, 2.0, -2.0, 2.0], steps)
    return X, y + 0.1 * rng.normal(size=n), rng.uniform(0.5, 2.0, size=n)


def stack_node(*experts, gate=None):
    named = [(f"e{k}", EstimatorExpert(e)) for k, e in enumerate(experts)]
    return Node(gate or SoftmaxGate(), named, [None] * len(named))


def line_and_tree(**options):
    tree = DecisionTreeRegressor(min_samples_leaf=4, random_state=0)
    return stack_node(LinearRegression(), tree, **options)


def test_the_gate_learns_who_is_right_where(rng):
    X, y, weight = half_and_half(rng)
    node = line_and_tree()
    report, run = fit_stack(node, X, y, weight, None)
    proba = np.exp(node.gate.log_proba(X))
    right = X[:, 0] > 0.3
    assert proba[right, 1].mean() > proba[X[:, 0] < -0.3, 1].mean() + 0.2
    assert_climbs(run.trace, 0.0)
    assert run.objective == run.trace[-1]
    assert run.mass.sum() == pytest.approx(weight.sum())
    assert run.converged
    assert report.names == ["stack"]
    assert report.objectives == [run.objective]


def gated_error(coef, gate, X, means, y, weight):
    """Objective of the gate, written out: profile likelihood of the gated mean."""
    logit = np.column_stack([np.ones(len(y)), X]) @ coef.reshape(2, -1).T
    proba = np.exp(logit - np.logaddexp(*logit.T)[:, None])
    scale = weight @ (y - weight @ y / weight.sum()) ** 2
    square = weight @ (y - (proba * means).sum(axis=1)) ** 2 / scale
    penalty = 0.5 * gate.alpha * (coef.reshape(2, -1)[:, 1:] ** 2).sum()
    return 0.5 * weight.sum() * np.log(square / weight.sum()) + penalty


def test_the_gate_is_at_the_maximum(rng):
    X, y, weight = half_and_half(rng)
    node = line_and_tree()
    folds = _out_of_fold(node, X, y, weight, None)
    _, run = fit_stack(node, X, y, weight, None)
    Z = node.gate.design_.matrix(X)[1:].T
    arguments = (node.gate, Z, np.column_stack(folds), y, weight)
    own = gated_error(node.gate.parameters, *arguments)
    assert -own == pytest.approx(run.objective, rel=1e-8)
    found = optimize.minimize(gated_error, node.gate.parameters, arguments)
    assert own <= found.fun + 1e-3


@pytest.mark.parametrize("n_outputs", [None, 2])
def test_several_outputs(n_outputs, rng):
    X, y, weight, _ = rows(n_outputs, rng)
    kept = weight > 0
    X, y, weight = X[kept], y[kept], weight[kept]
    node = stack_node(LinearRegression(), RandomForestRegressor(10, random_state=0))
    _, run = fit_stack(node, X, y, weight, None)
    assert_climbs(run.trace, 0.0)
    for _, expert in node.experts:
        assert np.shape(expert.dispersion) == y.shape[1:]


def test_predictions_are_out_of_fold(rng):
    """One neighbour knows its own row; out of its fold it does not."""
    X, y, weight = half_and_half(rng)
    node = stack_node(KNeighborsRegressor(1), LinearRegression())
    held = _out_of_fold(node, X, y, weight, None)
    assert len(held) == 2
    assert all(part.shape == y.shape for part in held)
    assert np.isfinite(held).all()
    assert np.mean((held[0] - y) ** 2) > 0.01
    plain = KNeighborsRegressor(1).fit(X, y)
    assert np.mean((plain.predict(X) - y) ** 2) == 0.0


def test_out_of_fold_is_what_cross_validation_predicts(rng):
    X, y, _ = half_and_half(rng)
    weight = np.ones(y.size)
    held = _out_of_fold(stack_node(LinearRegression()), X, y, weight, None)[0]
    folds = KFold(5, shuffle=True, random_state=0)
    expected = cross_val_predict(LinearRegression(), X, y, cv=folds)
    np.testing.assert_allclose(held, expected, rtol=1e-9)


def test_dispersion_is_that_of_held_out_errors(rng):
    X, y, weight = half_and_half(rng)
    node = stack_node(KNeighborsRegressor(1), LinearRegression())
    held = _out_of_fold(node, X, y, weight, None)
    fit_stack(node, X, y, weight, None)
    for (_, expert), part in zip(node.experts, held, strict=True):
        expected = np.average((y - part) ** 2, weights=weight)
        assert expert.dispersion == pytest.approx(expected, rel=1e-9)


def test_dispersion_of_correlated_outputs(rng):
    X, y, weight, _ = rows(2, rng)
    expert = LinearExpert(covariance="full")
    expert.prepare(X, y, weight)
    expert.m_step(X, y, weight)
    held = y + rng.normal(size=y.shape)
    _honest_dispersion(expert, held, y, weight)
    error = y - held
    expected = (error * weight[:, None]).T @ error / weight.sum()
    np.testing.assert_allclose(expert.dispersion, expected, rtol=1e-9)


def test_experts_are_fitted_to_all_rows(rng):
    X, y, weight = half_and_half(rng)
    node = line_and_tree()
    fit_stack(node, X, y, weight, None)
    reference = LinearRegression().fit(X, y, weight)
    np.testing.assert_allclose(
        node.experts[0][1].predict_params(X), reference.predict(X), rtol=1e-9
    )


def test_own_columns(rng):
    X, y, weight = half_and_half(rng)
    node = line_and_tree()
    node.columns, node.gate_columns = [[1], [0]], [0]
    fit_stack(node, X, y, weight, None)
    assert node.gate.coef_.shape == (2, 1)
    view = take_columns(X, [1])
    reference = LinearRegression().fit(view, y, weight)
    np.testing.assert_allclose(
        node.experts[0][1].predict_params(view), reference.predict(view)
    )


@pytest.mark.parametrize("gate", [ConstantGate(), GaussianGate()])
def test_other_gates_climb_the_likelihood(gate, rng):
    X, y, weight = half_and_half(rng)
    node = line_and_tree(gate=gate)
    _, run = fit_stack(node, X, y, weight, None)
    assert_climbs(run.trace)
    assert len(run.trace) > 1


def test_classes(rng):
    X, y, weight, n_classes = rows("3", rng)
    kept = weight > 0
    X, y, weight = X[kept], y[kept], weight[kept]
    node = stack_node(
        LogisticRegression(max_iter=5000), DecisionTreeClassifier(max_depth=3)
    )
    node.experts.append(("own", LogisticExpert()))
    node.columns.append(None)
    _, run = fit_stack(node, X, y, weight, n_classes)
    assert_climbs(run.trace)
    assert run.mass.shape == (3,)
    log_lik = node.log_prob(X, y)
    assert np.isfinite(log_lik).all()


def test_it_repeats(rng):
    X, y, weight = half_and_half(rng)
    found = []
    for _ in range(2):
        node = line_and_tree()
        fit_stack(node, X, y, weight, None)
        found.append(node.gate.parameters)
    np.testing.assert_array_equal(*found)
