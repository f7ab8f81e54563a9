"""Gradient training of a whole mixture, and after EM."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone

from skmoe import (
    HierarchicalMixtureOfExpertsRegressor,
    MixtureOfExpertsClassifier,
    MixtureOfExpertsRegressor,
)
from skmoe.exceptions import ExpertError
from skmoe.experts import LinearExpert, TorchExpert
from skmoe.gates import GaussianGate, TorchGate

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402


@pytest.fixture
def rows(rng):
    X = rng.uniform(-2, 2, size=(500, 2))
    y = np.where(X[:, 0] > 0, np.sin(3 * X[:, 1]), -2.0 * X[:, 1])
    return X, y + 0.1 * rng.normal(size=500)


def regressor(experts=None, **options):
    experts = experts or TorchExpert(module__hidden=16, lr=0.01)
    gate = TorchGate(module__hidden=8, lr=0.01)
    options = {"n_experts": 2, "random_state": 0, "gate": gate} | options
    return MixtureOfExpertsRegressor(experts, **options)


def test_learns_the_regimes(rows):
    X, y = rows
    model = regressor(algorithm="gradient").fit(X, y)
    assert model.converged_
    assert model.score(X, y) > 0.95
    chosen = model.apply(X) == (X[:, 0] > 0)
    assert max(np.mean(chosen), 1 - np.mean(chosen)) > 0.8
    assert 0.005 < min(expert.dispersion for expert in model.experts_) < 0.03


def test_trace_is_the_objective_and_the_best_is_kept(rows):
    X, y = rows
    model = regressor(algorithm="gradient").fit(X, y)
    kept = model.log_likelihood(X, y) + model.node_.penalty
    assert_allclose(kept, model.objective_trace_.max(), rtol=1e-5)
    assert model.n_iter_ >= len(model.objective_trace_)


def test_first_pass_is_that_of_em(rows):
    """Both begin with parts fitted to the same start."""
    X, y = rows
    with pytest.warns(UserWarning, match="did not converge"):
        one, other = (
            regressor(algorithm=name, max_iter=2).fit(X, y)
            for name in ("em", "gradient")
        )
    assert one.objective_trace_[0] == other.objective_trace_[0]
    assert one.objective_trace_[1] != other.objective_trace_[1]


def test_polishing_climbs_further_than_em(rows):
    X, y = rows
    em = regressor().fit(X, y)
    both = regressor(algorithm="em+gradient").fit(X, y)
    n_em = len(em.objective_trace_)
    assert_array_equal(both.objective_trace_[:n_em], em.objective_trace_)
    assert len(both.objective_trace_) > n_em
    assert both.n_iter_ > em.n_iter_
    kept = both.log_likelihood(X, y) + both.node_.penalty
    assert kept >= em.objective_trace_.max() - 1e-3
    assert_allclose(kept, both.objective_trace_.max(), rtol=1e-5)


@pytest.mark.parametrize("algorithm", ["gradient", "em+gradient"])
def test_repeats(rows, algorithm):
    X, y = rows
    model = regressor(algorithm=algorithm, max_iter=5, tol=1e-3)
    with pytest.warns(UserWarning, match="did not converge"):
        first, second = (clone(model).fit(X, y) for _ in range(2))
    assert_array_equal(first.predict(X), second.predict(X))


def test_classes(rng):
    X = rng.uniform(-1, 1, size=(400, 2))
    y = np.where(X[:, 0] * X[:, 1] > 0, "same", "other")
    model = MixtureOfExpertsClassifier(
        TorchExpert(module__hidden=8, lr=0.01),
        n_experts=2,
        gate=TorchGate(module__hidden=8, lr=0.01),
        algorithm="gradient",
        random_state=0,
    ).fit(X, y)
    assert model.score(X, y) > 0.95


def test_unlike_experts_and_columns(rows):
    X, y = rows
    experts = [
        ("wide", TorchExpert(module__hidden=32, lr=0.01)),
        ("narrow", TorchExpert(module__hidden=4, lr=0.01), [1]),
        ("heavy", TorchExpert(head="student", module__hidden=16, lr=0.01)),
    ]
    model = regressor(experts, algorithm="gradient").fit(X, y)
    assert model.score(X, y) > 0.9
    assert model.experts_[2].dispersion.shape == (2,)


def test_weights(rows):
    """Rows of weight zero are not there."""
    X, y = rows
    weight = np.ones(len(y))
    weight[::5] = 0.0
    spoiled = np.where(weight > 0, y, 50.0)
    options = {"algorithm": "gradient", "max_iter": 4, "tol": 1e-3}
    with pytest.warns(UserWarning, match="did not converge"):
        one = regressor(**options).fit(X, spoiled, sample_weight=weight)
    with pytest.warns(UserWarning, match="did not converge"):
        other = regressor(**options).fit(X[weight > 0], y[weight > 0])
    assert_allclose(one.predict(X), other.predict(X))


@pytest.mark.parametrize("algorithm", ["gradient", "em+gradient"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"experts": LinearExpert()}, r"got \['expert0: LinearExpert', 'expert1"),
        ({"gate": None}, r"got \['gate: SoftmaxGate'\]; use these, or"),
        ({"gate": GaussianGate()}, r"got \['gate: GaussianGate'\]"),
    ],
)
def test_needs_neural_parts(rows, algorithm, options, message):
    with pytest.raises(ValueError, match=message):
        regressor(algorithm=algorithm, **options).fit(*rows)


def test_parts_cannot_stop_by_themselves(rows):
    early = TorchExpert(validation_fraction=0.2)
    with pytest.raises(ValueError, match=r"\['expert0', 'expert1'\] cannot hold out"):
        regressor(early, algorithm="gradient").fit(*rows)


def test_not_with_groups(rows):
    X, y = rows
    with pytest.raises(ValueError, match="groups, rows without a response and a"):
        regressor(algorithm="gradient").fit(X, y, groups=np.arange(500) // 5)


def test_not_for_a_hierarchy(rows):
    model = HierarchicalMixtureOfExpertsRegressor(algorithm="gradient")
    with pytest.raises(ValueError, match="'algorithm' parameter"):
        model.fit(*rows)


class Explosive(nn.Module):
    calls = 0

    def __init__(self, n_inputs, n_outputs):
        super().__init__()
        self.map = nn.Linear(n_inputs, n_outputs)

    def forward(self, X):
        Explosive.calls += self.training
        return self.map(X) * (torch.nan if Explosive.calls > 500 else 1.0)


def test_nan_says_the_pass(rows):
    Explosive.calls = 0
    model = regressor(TorchExpert(Explosive), algorithm="gradient", tol=0)
    message = r"In EM pass \d+, gradient training failed: the loss became nan in step 1"
    with (
        pytest.warns(UserWarning, match="the learning rate is halved"),
        pytest.raises(ExpertError, match=message),
    ):
        model.fit(*rows)


def test_callback_sees_and_stops_the_passes(rows):
    class Watch:
        seen = 0

        def setup(self, estimator, context):
            pass

        def teardown(self, estimator, context):
            pass

        def on_fit_task_begin(self, estimator, context):
            pass

        def on_fit_task_end(self, estimator, context, **_):
            self.seen += context.task_name == "EM pass"
            return self.seen == 4

    watch = Watch()
    model = regressor(algorithm="gradient").set_callbacks(watch).fit(*rows)
    assert (watch.seen, len(model.objective_trace_)) == (4, 4)
