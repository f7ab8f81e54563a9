"""Information matrices against differences of the log-likelihood itself."""

import copy

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import SplineTransformer

from skmoe import (
    HierarchicalMixtureOfExpertsRegressor,
    MixtureOfExpertsClassifier,
    MixtureOfExpertsRegressor,
)
from skmoe.em._information import information
from skmoe.em._node import posterior
from skmoe.em._units import UnitProblem, Units
from skmoe.experts import (
    ExpandedExpert,
    GammaExpert,
    HeteroscedasticExpert,
    LinearExpert,
    LogisticExpert,
    NegativeBinomialExpert,
    PoissonExpert,
    RobustLinearExpert,
    UniformExpert,
)
from skmoe.gates import ConstantGate, GaussianGate, SoftmaxGate
from skmoe.gates._constant import ConstantGate as Constant
from skmoe.gates._tree import GateTree
from tests._coordinates import differences, moved

ML = LinearExpert(alpha=0, variance_prior=None)
QUICK = {"n_experts": 2, "init": "kmeans", "random_state": 0, "tol": 1e-12}


def table(kind, rng, n=120):
    X = rng.normal(size=(n, 2))
    first = rng.random(n) < 1 / (1 + np.exp(-X[:, 0]))
    eta = np.where(first, 0.5 + 0.5 * X[:, 1], 2.0 - 0.4 * X[:, 0])
    if kind == "counts":
        y = rng.negative_binomial(3, 3 / (3 + np.exp(eta))).astype(float)
    elif kind == "positive":
        y = np.exp(eta) * rng.gamma(4.0, 0.25, n)
    elif kind == "classes":
        y = (rng.gumbel(size=(n, 3)) + np.outer(eta, [0.0, 1.0, -1.0])).argmax(axis=1)
    elif kind == "two":
        y = np.column_stack([eta, -eta]) + rng.normal(size=(n, 2)) @ [[1, 0.5], [0, 1]]
    else:
        y = 3 * eta + rng.normal(size=n) * np.where(first, 0.5, 1.0)
    return X, y


def regressor(*args, **kwargs):
    return MixtureOfExpertsRegressor(*args, **(QUICK | kwargs))


def classifier(*args, **kwargs):
    return MixtureOfExpertsClassifier(*args, **(QUICK | kwargs))


def hierarchy(*args, **kwargs):
    kwargs = {"init": "kmeans", "random_state": 0, "tol": 1e-12} | kwargs
    return HierarchicalMixtureOfExpertsRegressor(*args, **kwargs)


CASES = {
    "maximum likelihood": (regressor(ML, gate=SoftmaxGate(0)), "real"),
    "defaults": (regressor(), "real"),
    "three experts": (regressor(n_experts=3), "real"),
    "one dispersion": (regressor(shared_dispersion=True), "real"),
    "own columns": (
        regressor(
            [("a", LinearExpert(), [0]), ("b", LinearExpert())], gate_features=[1]
        ),
        "real",
    ),
    "constant gate": (regressor(gate=ConstantGate(alpha=2.0)), "real"),
    "noise beside": (
        regressor([("a", ML), ("b", ML), ("noise", UniformExpert())], init="auto"),
        "real",
    ),
    "two outputs": (regressor(), "two"),
    "two outputs, one covariance": (regressor(shared_dispersion=True), "two"),
    "poisson": (regressor(PoissonExpert()), "counts"),
    "negative binomial": (regressor(NegativeBinomialExpert(alpha=0)), "counts"),
    "gamma": (regressor(GammaExpert()), "positive"),
    "student": (regressor(RobustLinearExpert(df=4.0)), "real"),
    "student, one scale": (
        regressor(RobustLinearExpert(), shared_dispersion=True),
        "real",
    ),
    "heteroscedastic": (regressor(HeteroscedasticExpert()), "real"),
    "unlike": (
        regressor([("a", PoissonExpert()), ("b", NegativeBinomialExpert())]),
        "counts",
    ),
    "splines": (
        regressor(ExpandedExpert(SplineTransformer(n_knots=3), LinearExpert())),
        "real",
    ),
    "bent gate": (
        regressor(gate=make_pipeline(SplineTransformer(n_knots=3), SoftmaxGate())),
        "real",
    ),
    "logistic": (classifier(LogisticExpert(alpha=1.0)), "classes"),
    "tree": (hierarchy(init="tree", gate=SoftmaxGate(alpha=1.0)), "real"),
    "lopsided tree": (hierarchy([LinearExpert(), [LinearExpert(), ML]]), "real"),
}


@pytest.fixture(params=CASES, ids=str)
def fitted(request, rng):
    model, kind = CASES[request.param]
    X, y = table(kind, rng)
    weight = rng.integers(1, 4, len(X)).astype(float)
    model = copy.deepcopy(model).fit(X, y, sample_weight=weight)
    return model.node_, model._training_rows


def node_at(node, found, change):
    """Return the node with its free parameters moved."""
    node = copy.deepcopy(node)
    step = found.free @ change
    for block in found.blocks:
        own = block.part.coefficient_vector() + step[block.where]
        if block.expert < 0:
            gates = node.gate.gates if isinstance(node.gate, GateTree) else [node.gate]
            number = [b.name for b in found.blocks if b.expert < 0].index(block.name)
            gate = getattr(gates[number], "native", gates[number])
            if isinstance(gate, Constant):
                gate.log_weight_ = own - np.log(np.exp(own).sum())
            else:
                gate.parameters = own
        else:
            name, expert = node.experts[block.expert]
            if isinstance(expert, ExpandedExpert):
                expert.expert_ = moved(expert.expert_, own)
            else:
                node.experts[block.expert] = (name, moved(expert, own))
    return node


def log_lik(node, rows, *, each=False):
    if rows.units is None or rows.units.group is None:
        value = posterior(node.conditional(rows.X, rows.y))[1]
        return value if each else rows.weight @ value
    bound = UnitProblem(
        node, rows.X, rows.y, rows.weight, Units(rows.units.group), prepare=False
    )
    value = posterior(bound.joint(conditional=True))[1]
    return value if each else value.sum()


def check_prior(node, found, scale):
    """Compare curvatures of the log prior along some directions."""
    for seed in range(4):
        ray = scale * np.random.default_rng(seed).normal(size=scale.size)
        low, here, high = (
            node_at(node, found, step * ray).penalty for step in (-1e-3, 0.0, 1e-3)
        )
        expected = (low - 2.0 * here + high) / 1e-6
        prior = found.observed - found.penalised
        np.testing.assert_allclose(ray @ prior @ ray, expected, rtol=1e-4, atol=1e-5)


def check(node, rows, *, with_prior=True):
    found = information(node, *rows)
    zero = np.zeros(found.free.shape[1])

    def gradient(change):
        return information(node_at(node, found, change), *rows).score

    def numeric(function):
        return differences(function, zero, np.minimum(1e-3 / scale, 1e-3))

    scale = np.sqrt(np.abs(np.diagonal(found.observed))) + 1e-3
    outer = np.outer(scale, scale)
    each = numeric(
        lambda change: log_lik(node_at(node, found, change), rows, each=True)
    )
    weight = rows.weight if len(rows.weight) == len(each) else np.ones(len(each))
    np.testing.assert_allclose(found.score / scale, weight @ each / scale, atol=1e-5)
    np.testing.assert_allclose(
        found.observed / outer, -numeric(gradient) / outer, atol=5e-5
    )
    expected = each.T @ (weight[:, None] * each)
    np.testing.assert_allclose(found.outer / outer, expected / outer, atol=1e-5)
    if with_prior:
        check_prior(node, found, 1.0 / np.sqrt(np.diagonal(found.penalised)))
    return found


def test_matrices_are_those_of_the_log_likelihood(fitted):
    found = check(*fitted)
    assert found.fixed == {}
    assert found.free.shape[1] == fitted[0].n_parameters
    # At a maximum of the penalised likelihood it is positive.
    assert np.linalg.eigvalsh(found.penalised).min() > 0


@pytest.mark.parametrize("gate", [ConstantGate(), SoftmaxGate()])
def test_groups_are_the_units(gate, rng):
    X, y = table("real", rng)
    groups = np.repeat(np.arange(40), 3)
    X[:, 1] = np.repeat(X[::3, 1], 3)
    model = regressor(ML, gate=gate).fit(
        X, y, sample_weight=rng.uniform(0.5, 2.0, 120), groups=groups
    )
    found = check(model.node_, model._training_rows, with_prior=False)
    assert found.n_units == 40


def test_blocks_of_rows_add_up(rng, monkeypatch):
    X, y = table("real", rng)
    model = regressor().fit(X, y)
    whole = information(model.node_, *model._training_rows)
    monkeypatch.setattr("skmoe.em._information.BLOCK_ROWS", 37)
    some = information(model.node_, *model._training_rows)
    np.testing.assert_allclose(some.observed, whole.observed, rtol=1e-9, atol=1e-9)
    assert some.n_units == whole.n_units == 120


def test_weights_are_repetitions(rng):
    X, y = table("real", rng)
    count = rng.integers(1, 4, len(X))
    node = regressor().fit(X, y).node_
    weighted = information(node, X, y, count.astype(float))
    X, y = np.repeat(X, count, axis=0), np.repeat(y, count)
    repeated = information(node, X, y, np.ones(len(y)))
    for name in ("observed", "outer", "penalised"):
        np.testing.assert_allclose(
            getattr(weighted, name), getattr(repeated, name), rtol=1e-9, atol=1e-8
        )


def test_parts_without_derivatives_are_held_fixed(rng):
    X, y = table("real", rng)
    model = regressor([("line", ML), ("ridge", Ridge())], gate=GaussianGate())
    model.fit(X, y)
    found = check(model.node_, model._training_rows, with_prior=False)
    assert set(found.fixed) == {"gate", "ridge"}
    assert "has no derivatives" in found.fixed["ridge"]
    assert [block.name for block in found.blocks] == ["line"]


def test_lasso_gate_is_held_fixed(rng):
    X, y = table("real", rng)
    model = regressor(ML, gate=SoftmaxGate(alpha=5.0, l1_ratio=1.0)).fit(X, y)
    found = information(model.node_, *model._training_rows)
    assert "L1" in found.fixed["gate"]


def test_unlabelled_rows_say_nothing_of_y(rng):
    X, y = table("real", rng)
    gappy = np.where(np.arange(120) % 3 == 0, np.nan, y)
    model = regressor(ML, gate=GaussianGate()).fit(X, gappy)
    rows = model._training_rows
    seen = np.isfinite(gappy)
    expected = information(model.node_, rows.X[seen], y[seen], np.ones(seen.sum()))
    found = information(model.node_, *rows)
    np.testing.assert_allclose(found.observed, expected.observed)
    assert found.n_units == 80


def test_mixture_of_nothing_to_learn(rng):
    X, y = table("real", rng)
    model = regressor([("a", UniformExpert()), ("b", Ridge())], gate=GaussianGate())
    model.fit(X, y)
    found = information(model.node_, *model._training_rows)
    assert found.observed.shape == (0, 0)
    assert found.n_units == 120
