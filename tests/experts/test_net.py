"""Nets of skorch as experts through the adapter."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skmoe import MixtureOfExpertsClassifier, MixtureOfExpertsRegressor
from skmoe.experts import EstimatorExpert
from skmoe.experts._net import Float32Net, float32_net

torch = pytest.importorskip("torch")
skorch = pytest.importorskip("skorch")
from torch import nn  # noqa: E402

OPTIONS = {"max_epochs": 20, "lr": 0.05, "verbose": 0, "train_split": None}


class Net(nn.Module):
    def __init__(self, n_outputs=1, classes=False):
        super().__init__()
        self.classes = classes
        self.body = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, n_outputs))

    def forward(self, X):
        raw = self.body(X)
        return torch.softmax(raw, dim=1) if self.classes else raw


def regressor(**options):
    return skorch.NeuralNetRegressor(Net, **(OPTIONS | options))


def classifier(n_classes=2):
    options = {"module__classes": True, "module__n_outputs": n_classes, "lr": 0.3}
    return skorch.NeuralNetClassifier(Net, **(OPTIONS | options | {"max_epochs": 60}))


@pytest.fixture
def rows(rng):
    X = rng.uniform(-2, 2, size=(200, 2))
    return X, np.where(X[:, 0] > 0, X[:, 1], -X[:, 1]) + 0.1 * rng.normal(size=200)


@pytest.mark.filterwarnings("ignore:EM did not converge")
@pytest.mark.parametrize("scaled", [False, True])
def test_regressors(rows, scaled):
    X, y = rows
    net = make_pipeline(StandardScaler(), regressor()) if scaled else regressor()
    model = MixtureOfExpertsRegressor(net, n_experts=2, max_iter=8, random_state=0)
    with pytest.warns(UserWarning, match="NeuralNetRegressor takes no sample_weight"):
        model.fit(X, y)
    assert model.score(X, y) > 0.8
    with pytest.warns(UserWarning, match="takes no sample_weight"):
        again = clone(model).fit(X, y)
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    loaded = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))


@pytest.mark.filterwarnings("ignore:EM did not converge")
def test_classifiers(rng):
    X = rng.uniform(-2, 2, size=(300, 2))
    y = np.array(["a", "b", "c"])[np.clip(X[:, 0].round(), -1, 1).astype(int) + 1]
    model = MixtureOfExpertsClassifier(
        classifier(3), n_experts=2, max_iter=6, random_state=0
    )
    with pytest.warns(UserWarning, match="NeuralNetClassifier takes no sample_weight"):
        model.fit(X, y)
    assert model.score(X, y) > 0.8
    np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1.0)


@pytest.mark.filterwarnings("ignore:EM did not converge")
def test_classifiers_of_one_logit(rng):
    X = rng.uniform(-2, 2, size=(300, 2))
    y = np.where(X[:, 0] * X[:, 1] > 0, "yes", "no")
    options = OPTIONS | {"max_epochs": 60, "lr": 0.3}
    net = skorch.NeuralNetBinaryClassifier(Net, **options)
    expert = EstimatorExpert(net, weights="hard", random_state=0)
    model = MixtureOfExpertsClassifier(
        expert, n_experts=2, max_iter=4, random_state=0
    ).fit(X, y)
    assert model.score(X, y) > 0.8
    np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1.0)


@pytest.mark.filterwarnings("ignore:EM did not converge")
def test_hard_assignment_needs_no_weights(rows):
    X, y = rows
    expert = EstimatorExpert(regressor(), weights="hard")
    options = {"n_experts": 2, "max_iter": 6, "random_state": 0}
    model = MixtureOfExpertsRegressor(expert, **options).fit(X, y)
    assert model.score(X, y) > 0.85


def test_several_outputs(rows):
    X, y = rows
    expert = EstimatorExpert(regressor(module__n_outputs=2), random_state=0)
    expert.fit(X, np.column_stack([y, X[:, 0]]))
    assert expert.predict(X).shape == (200, 2)
    assert expert.score(X, np.column_stack([y, X[:, 0]])) > 0.5


def test_class_that_a_draw_lacks(rng):
    X = rng.normal(size=(40, 2))
    net = Float32Net(classifier(3), random_state=0).fit(X, np.zeros(40, dtype=int))
    assert net.classes_.tolist() == [0, 1, 2]
    assert net.predict_proba(X).shape == (40, 3)
    assert net.predict_proba(X).dtype == np.float64


def test_generator_of_torch_is_left_alone(rows):
    torch.manual_seed(4)
    expected = torch.rand(1)
    torch.manual_seed(4)
    net = Float32Net(regressor(max_epochs=1), random_state=0).fit(*rows)
    net.predict(rows[0])
    classes = (rows[1] > 0).astype(int)
    Float32Net(classifier(), random_state=0).fit(rows[0], classes).predict(rows[0])
    assert torch.equal(torch.rand(1), expected)


def test_warm_start_goes_on(rows):
    X, y = rows
    net = Float32Net(regressor(max_epochs=2, warm_start=True), random_state=0)
    history = [len(net.fit(X, y).estimator_.history) for _ in range(3)]
    assert history == [2, 4, 6]
    cold = Float32Net(regressor(max_epochs=2), random_state=0)
    assert [len(cold.fit(X, y).estimator_.history) for _ in range(2)] == [2, 2]


def test_kinds():
    assert is_regressor(Float32Net(regressor()))
    assert is_classifier(Float32Net(classifier()))
    assert not hasattr(Float32Net(regressor()), "predict_proba")
    ridge = Ridge()
    assert float32_net(ridge) is ridge
