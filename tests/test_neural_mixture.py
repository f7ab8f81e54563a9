"""Mixtures of neural parts: batched as they should be, and whole estimators."""

import pickle

import numpy as np
import pandas as pd
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
from skmoe.gates import TorchGate

torch = pytest.importorskip("torch")


@pytest.fixture
def rows(rng):
    X = rng.uniform(-2, 2, size=(400, 2))
    y = np.where(X[:, 0] > 0, np.sin(3 * X[:, 1]), -2.0 * X[:, 1])
    return X, y + 0.1 * rng.normal(size=400)


def regressor(experts=None, **options):
    experts = experts or TorchExpert(module__hidden=16, lr=0.01)
    options = {"n_experts": 3, "random_state": 0, "init": "kmeans"} | options
    return MixtureOfExpertsRegressor(experts, **options)


def short(experts=None, **options):
    """A few passes; it warns that they do not suffice."""
    return regressor(experts, max_iter=3, tol=1e-3, **options)


@pytest.fixture
def batches(monkeypatch):
    """How many experts were trained at once in each M-step."""
    seen, train = [], TorchExpert._train

    def spy(self, parts, *args, **kwargs):
        seen.append(len(parts))
        return train(self, parts, *args, **kwargs)

    monkeypatch.setattr(TorchExpert, "_train", spy)
    return seen


# -- one batched module ----------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:EM did not converge")
@pytest.mark.parametrize(
    ("experts", "expected"),
    [
        (None, {3}),
        ([("a", TorchExpert()), ("b", TorchExpert())], {2}),
        ([("a", TorchExpert(lr=0.1)), ("b", TorchExpert())], {1}),
        ([("a", TorchExpert(), [0]), ("b", TorchExpert(), [0])], {2}),
        ([("a", TorchExpert(), [0]), ("b", TorchExpert(), [1])], {1}),
        ([("a", TorchExpert()), ("b", LinearExpert())], {1}),
        (TorchExpert(torch.nn.Linear(2, 1)), {3}),
        (
            [
                ("a", TorchExpert(module__activation="tanh")),
                ("b", TorchExpert(module__activation="relu")),
            ],
            {1},
        ),
    ],
    ids=["clones", "alike", "lr", "view", "views", "kinds", "instance", "module"],
)
def test_alike_experts_are_trained_together(rows, batches, experts, expected):
    model = short(experts).fit(*rows)
    assert set(batches) == expected
    assert np.isfinite(model.predict(rows[0])).all()


@pytest.mark.filterwarnings("ignore:EM did not converge")
def test_together_is_what_each_would_do_alone(rows, monkeypatch):
    expert = TorchExpert(
        module__hidden=8, precision="float64", batch_size=500, n_epochs=5
    )
    together = short(expert).fit(*rows)
    monkeypatch.setattr(TorchExpert, "alike", lambda experts: False)
    alone = short(expert).fit(*rows)
    assert_allclose(together.objective_trace_, alone.objective_trace_, rtol=1e-7)
    assert_allclose(together.predict(rows[0]), alone.predict(rows[0]), rtol=1e-5)


def test_experts_begin_with_different_weights(rows):
    model = short()
    with pytest.warns(UserWarning, match="did not converge"):
        model.fit(*rows)
    weights = [e.module_.body[0].weight for e in model.experts_]
    assert not torch.allclose(weights[0], weights[1], atol=0.05)


def test_densities_of_all_at_once_are_those_of_each(rows):
    X, y = rows
    model = regressor().fit(X, y)
    experts = model.experts_
    assert TorchExpert.alike(experts)
    together = TorchExpert.log_prob_together(experts, X, y)
    each = np.array([expert.log_prob(X, y) for expert in experts])
    assert_allclose(together, each, rtol=1e-4, atol=1e-4)
    again = pickle.loads(pickle.dumps(model))  # no longer known to be alike
    assert_allclose(again.log_likelihood(X, y), model.log_likelihood(X, y), rtol=1e-5)


def test_e_step_after_an_m_step_predicts_nothing_anew(rows, monkeypatch):
    calls, raw = [], TorchExpert._raw

    def spy(self, X, parts=None):
        calls.append(len(parts or [self]))
        return raw(self, X, parts)

    monkeypatch.setattr(TorchExpert, "_raw", spy)
    with pytest.warns(UserWarning, match="did not converge"):
        short().fit(*rows)
    assert calls == []


def test_rows_are_moved_once(rows, monkeypatch):
    import skmoe.nn._rows as module

    made, init = [], module.Rows.__init__

    def spy(self, *args, **kwargs):
        made.append(1)
        init(self, *args, **kwargs)

    monkeypatch.setattr(module.Rows, "__init__", spy)
    with pytest.warns(UserWarning, match="did not converge"):
        model = short(gate=TorchGate(module__hidden=4)).fit(*rows)
    assert len(made) == 1  # by the experts and the gate, which see the same columns
    assert model.experts_[0]._rows is None
    assert module._last() is None


# -- whole estimators ------------------------------------------------------------------


def test_beats_linear_experts(rows):
    X, y = rows
    model = regressor(gate=TorchGate(module__hidden=16)).fit(X, y)
    flat = regressor(LinearExpert()).fit(X, y)
    assert model.score(X, y) > max(0.95, flat.score(X, y) + 0.05)
    trace = model.objective_trace_
    assert trace.max() > trace[0] + 100.0


def test_predictive_law(rows):
    X, y = rows
    model = regressor(TorchExpert(head="student", module__hidden=16)).fit(X, y)
    law = model.predict_distribution(X[:5])
    assert_allclose(law.cdf(law.quantile(0.3)), 0.3, atol=1e-6)
    interval = law.interval(0.9)
    assert interval.shape == (5, 2)
    assert (interval[:, 0] < interval[:, 1]).all()
    assert law.sample(3, random_state=0).shape == (3, 5)
    assert_allclose(model.predict_distribution(X).log_prob(y), model.log_prob(X, y))


def test_several_outputs(rows):
    X, y = rows
    Y = np.column_stack([y, -2.0 * y + X[:, 0]])
    model = regressor().fit(X, Y)
    assert model.predict(X).shape == Y.shape
    assert model.score(X, Y) > 0.9
    assert model.experts_[0].dispersion.shape == (2,)


@pytest.mark.filterwarnings("ignore:EM did not converge")
def test_categories_of_a_frame_come_as_codes(rows):
    X, y = rows
    letter = np.array(["a", "b", "c"])[(np.arange(400) * 7) % 3]
    y = y + 3.0 * (letter == "b")
    frame = pd.DataFrame({"kind": pd.Categorical(letter), "u": X[:, 0], "v": X[:, 1]})
    expert = TorchExpert(module__categories={0: 3}, module__hidden=16, lr=0.01)
    model = short(expert, gate_features=["u", "v"]).fit(frame, y)
    seen = model.node_.view(model._training_rows.X, 0)
    assert set(np.unique(seen[:, 0])) == {0.0, 1.0, 2.0}
    assert seen.shape == (400, 3)
    assert model.experts_[0].module_.category_columns == (0,)
    marks = model.predict(frame.assign(kind=pd.Categorical(["b"] * 400)))
    assert (
        marks - model.predict(frame.assign(kind=pd.Categorical(["a"] * 400)))
    ).mean() > 1
    unseen = frame.assign(kind=pd.Categorical(["z"] * 400))
    assert np.isfinite(model.predict(unseen)).all()
    holes = frame.assign(u=frame["u"].where(frame.index != 7))
    with pytest.raises(ExpertError, match=r"columns \[1\] of numbers have gaps"):
        short(expert, gate_features=["u", "v"]).fit(holes, y)


@pytest.mark.filterwarnings("ignore:EM did not converge")
def test_categories_that_do_not_fit_the_frame(rows):
    X, y = rows
    letter = pd.Categorical(np.array(["a", "b", "c"])[(np.arange(400) * 7) % 3])
    frame = pd.DataFrame({"num": X[:, 0], "v": X[:, 1], "kind": letter})

    def fit(named, gate=None):
        neural = TorchExpert(module__categories=named, module__hidden=4)
        # Places count in what a part sees.
        experts = [("net", neural, ["kind", "num"]), ("line", LinearExpert())]
        return short(experts, gate=gate).fit(frame, y)

    advice = r"counted from 0, write module__categories=\{0: 3\}"
    for named, fault in (
        ({1: 3}, "'kind' of X has 3 categories, and module__categories does not name"),
        ({0: 3, 1: 3}, "'num' of X is not categorical, but module__categories names"),
        ([(0, 2)], "'kind' of X has 3 categories, and module__categories says 2"),
    ):
        with pytest.raises(ValueError, match=f"expert 'net': column {fault}.*{advice}"):
            fit(named)
    with pytest.raises(ValueError, match=r"the gate: column 'num' .*=\{2: 3\}"):
        fit({0: 3}, TorchGate(module__categories={0: 3}))
    with pytest.raises(ExpertError, match=r"categories must be \{column"):
        fit(7)
    assert np.isfinite(fit({0: 4}).predict(frame)).all()
    # Codes in a table without columns of categories are numbers that are named.
    codes = np.c_[letter.codes, X]
    plain = short(TorchExpert(module__categories={0: 3}, module__hidden=4))
    assert np.isfinite(plain.fit(codes, y).predict(codes)).all()


def test_networks_of_other_sizes_start_apart(rows):
    sizes = [(f"h{h}", TorchExpert(module__hidden=h, lr=0.01)) for h in (16, 20)]
    model = MixtureOfExpertsRegressor(sizes, random_state=0).fit(*rows)
    assert "together" not in model.search_.names
    assert model.score(*rows) > 0.9


@pytest.mark.filterwarnings("ignore:EM did not converge")
def test_shared_dispersion(rows):
    model = short(shared_dispersion=True).fit(*rows)
    spread = [expert.dispersion for expert in model.experts_]
    assert_allclose(spread, spread[0], rtol=1e-12)


@pytest.mark.filterwarnings("ignore:EM did not converge")
def test_poisson(rng):
    X = rng.uniform(-1, 1, size=(400, 1))
    y = rng.poisson(np.where(X[:, 0] > 0, 30.0, 3.0)).astype(float)
    model = regressor(TorchExpert(head="poisson", module__hidden=8), n_experts=2)
    model.fit(X, y)
    assert_allclose(model.predict([[0.7]]), 30.0, rtol=0.2)
    assert_allclose(model.predict([[-0.7]]), 3.0, rtol=0.4)


def test_fits_repeat_and_pickle(rows):
    X, y = rows
    with pytest.warns(UserWarning, match="did not converge"):
        model = short(gate=TorchGate(module__dropout=0.2)).fit(X, y)
    with pytest.warns(UserWarning, match="did not converge"):
        again = clone(model).fit(X, y)
    assert_array_equal(again.predict(X), model.predict(X))
    assert_array_equal(pickle.loads(pickle.dumps(model)).predict(X), model.predict(X))


@pytest.mark.filterwarnings("ignore:EM did not converge")
def test_hierarchy(rows, batches):
    X, y = rows
    model = HierarchicalMixtureOfExpertsRegressor(
        TorchExpert(module__hidden=16, lr=0.01),
        gate=TorchGate(module__hidden=8, lr=0.01),
        depth=2,
        max_iter=30,
        random_state=0,
    ).fit(X, y)
    assert set(batches) == {4}
    assert model.score(X, y) > 0.9


@pytest.mark.filterwarnings("ignore:EM did not converge")
def test_tensors_in_tensors_out(rows):
    X, y = rows
    plain = short(gate=TorchGate(module__hidden=4)).fit(X, y)
    tensors = torch.from_numpy(X), torch.from_numpy(y)
    model = short(gate=TorchGate(module__hidden=4)).fit(*tensors)
    predicted = model.predict(tensors[0])
    assert isinstance(predicted, torch.Tensor)
    assert_allclose(predicted.numpy(), plain.predict(X), rtol=1e-4, atol=1e-4)


def test_classes_of_a_kind_that_is_not_asked_for(rows):
    X, y = rows
    with pytest.raises(ValueError, match="'expert0' is a classifier, but this mixture"):
        short(TorchExpert(head="categorical")).fit(X, y)
    model = MixtureOfExpertsClassifier(TorchExpert(head="gaussian"))
    with pytest.raises(ValueError, match="'expert0' is a regressor, but this mixture"):
        model.fit(X, y > 0)


# -- with a GPU ------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:EM did not converge")
@pytest.mark.parametrize("algorithm", ["em", "gradient"])
def test_cuda(rows, algorithm):
    """The same fit on a GPU, to float64's rounding of few steps; loaded on the CPU."""
    X, y = rows
    neural = {"precision": "float64", "n_epochs": 2}
    model = short(
        TorchExpert(module__hidden=8, **neural),
        gate=TorchGate(module__hidden=4, **neural),
        algorithm=algorithm,
    )
    host = clone(model).fit(X, y)
    tensors = torch.from_numpy(X).cuda(), torch.from_numpy(y).cuda()
    there = clone(model).fit(*tensors)
    predicted = there.predict(tensors[0])
    assert predicted.device.type == "cuda"
    assert_allclose(predicted.cpu().numpy(), host.predict(X), rtol=1e-5)
    loaded = pickle.loads(pickle.dumps(there))
    assert {p.device.type for p in loaded.experts_[0]._state.params.values()} == {"cpu"}
    assert_allclose(loaded.predict(X), host.predict(X), rtol=1e-5)
    moved = clone(model)
    moved.set_params(experts__device="cuda", gate__device="cuda")
    assert_allclose(moved.fit(X, y).predict(X), host.predict(X), rtol=1e-5)
