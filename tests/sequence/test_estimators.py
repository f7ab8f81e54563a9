"""The estimators as scikit-learn sees them: parameters, refits, routing, failures."""

import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import GroupKFold, cross_validate
from sklearn.pipeline import make_pipeline

from skmoe import MixtureOfExpertsClassifier, MixtureOfExpertsRegressor
from skmoe.exceptions import CollapsedExpertWarning, ExpertError
from skmoe.experts import EstimatorExpert, LinearExpert
from skmoe.gates import ConstantGate, SoftmaxGate
from skmoe.sequence import (
    MarkovMixtureOfExpertsClassifier,
    MarkovMixtureOfExpertsRegressor,
)
from tests.sequence.regimes import classifier, regressor, switching


@pytest.fixture
def series(rng):
    return switching(rng)


def test_parameters():
    model = regressor(LinearExpert(), gate=SoftmaxGate())
    model.set_params(experts__alpha=3.0, gate__alpha=0.5, n_experts=4, order=0)
    assert (model.experts.alpha, model.gate.alpha, model.n_experts) == (3.0, 0.5, 4)
    other = clone(model)
    assert other.get_params()["gate__alpha"] == 0.5
    assert other.experts is not model.experts
    assert repr(other) == repr(model)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_experts", 0),
        ("order", 2),
        ("order", -1),
        ("max_iter", 0),
        ("tol", -1.0),
        ("n_init", 0),
        ("acceleration", "newton"),
        ("continues", "no"),
        ("warm_start", 2),
        ("shared_dispersion", "yes"),
    ],
)
def test_parameters_out_of_range(name, value, series):
    X, y, _ = series
    for model, target in ((regressor(), y), (classifier(), y > 0)):
        with pytest.raises(ValueError, match=f"The '{name}' parameter of Markov"):
            model.set_params(**{name: value}).fit(X, target)


def test_arguments_that_do_not_exist(series):
    X, y, _ = series
    with pytest.raises(ValueError, match="pooling must be one of"):
        regressor(pooling="best").fit(X, y)
    with pytest.raises(ValueError, match="init"):
        regressor(init="best").fit(X, y)
    with pytest.raises(TypeError, match="previously"):
        regressor().fit(X, y).predict(X, previously=[1.0])
    with pytest.raises(TypeError, match="unexpected keyword argument 'offset'"):
        regressor().fit(X, y).log_likelihood(X, y, offset=y)


def test_nothing_works_before_fit(series):
    X, y, _ = series
    for method in ("filter", "smooth", "decode", "log_prob", "predict", "gate_proba"):
        for model in (MarkovMixtureOfExpertsRegressor(), classifier()):
            with pytest.raises(NotFittedError):
                getattr(model, method)(X, y)
    for method in ("transition_proba", "predict_experts", "predict"):
        with pytest.raises(NotFittedError):
            getattr(MarkovMixtureOfExpertsClassifier(), method)(X)


def test_models_travel_in_pickles(series):
    X, y, _ = series
    model = regressor(continues=True).fit(X, y, lengths=[50, 150])
    other = pickle.loads(pickle.dumps(model))
    lengths = {"lengths": [50, 150]}
    for method in (model.smooth, model.predict, model.log_prob, model.decode):
        found = getattr(other, method.__name__)(X, y, **lengths)
        assert_array_equal(found, method(X, y, **lengths))
    # The rows stay at home.
    assert "found" not in vars(other.node_)
    assert other.node_.units is None
    assert other.node_.resp.size == 0


def test_chance_is_the_seed(series):
    X, y, _ = series
    options = {"init": "auto", "n_init": None}
    one = regressor(random_state=3, **options).fit(X, y)
    other = regressor(random_state=3, **options).fit(X, y)
    assert_array_equal(one.predict(X, y), other.predict(X, y))
    assert one.objective_trace_[-1] == other.objective_trace_[-1]


def test_processes_change_nothing(series):
    X, y, _ = series
    one = regressor(init="random", n_init=6).fit(X, y)
    other = regressor(init="random", n_init=6, n_jobs=2).fit(X, y)
    assert_allclose(one.predict(X, y), other.predict(X, y), rtol=1e-6)


def test_a_second_fit_forgets_the_first(series):
    X, y, _ = series
    model = regressor().fit(X[:, :1], 3.0 * y, lengths=[20, 180])
    model.fit(X, y)
    fresh = regressor().fit(X, y)
    assert_array_equal(model.predict(X, y), fresh.predict(X, y))
    assert model.final_state_proba_.shape == (1, 2)
    assert model.n_features_in_ == 2
    assert not hasattr(model, "_time")


def test_inputs_are_left_as_they_were(series):
    X, y, state = series
    y[3] = np.nan
    kept = [X.copy(), y.copy(), state.copy()]
    weight = np.full(200, 2.0)
    for array in (X, y, state, weight):
        array.flags.writeable = False
    init = np.random.default_rng(1).dirichlet([1.0, 1.0], 200)
    init.flags.writeable = False
    model = regressor(init=init).fit(X, y, weight, states=state)
    model.filter(X, y)
    for before, after in zip(kept, (X, y, state), strict=True):
        assert_array_equal(before, after)


def test_a_warm_start_goes_on(series):
    X, y, _ = series
    cold = regressor().fit(X, y)
    model = regressor(warm_start=True).fit(X, y)
    first, passes = model.objective_trace_[-1], model.n_iter_
    model.fit(X, y)
    assert model.search_.names == ["warm"]
    assert model.n_iter_ <= passes
    assert_allclose(model.objective_trace_[-1], first, rtol=1e-6)
    # On other rows, with the experts that are known already.
    model.fit(X[:150], y[:150], lengths=[100, 50])
    assert np.mean(model.decode(X, y) == cold.decode(X, y)) > 0.98
    with pytest.raises(ValueError, match="warm_start: the last fit is of another kind"):
        model.fit(X[:, :1], y)


class Fails(Ridge):
    """A ridge that cannot stand a certain response."""

    def fit(self, X, y, sample_weight=None):
        if y[0] == 0.0:
            raise ArithmeticError("no zeros here")
        return super().fit(X, y, sample_weight)


def test_a_fit_that_fails_leaves_the_estimator(series):
    X, y, _ = series
    model = regressor(Fails(), init=np.eye(2)[np.arange(200) % 2], max_iter=3)
    with pytest.warns(ConvergenceWarning, match="max_iter=3"):
        model.fit(X, y)
    before, kept = model.predict(X, y), dict(vars(model))
    wrong = y.copy()
    wrong[0] = 0.0
    with pytest.raises(ExpertError, match=r"'expert0' failed: .* no zeros here"):
        model.fit(X, wrong)
    assert vars(model) == kept
    assert_array_equal(model.predict(X, y), before)
    with pytest.raises(ValueError, match="lengths must add up"):
        model.fit(X, y, lengths=[1, 2])
    assert vars(model) == kept
    fresh = clone(model)
    with pytest.raises(ExpertError):
        fresh.fit(X, wrong)
    assert not hasattr(fresh, "node_")


def test_a_cut_off_fit_says_so(series):
    X, y, _ = series
    with pytest.warns(ConvergenceWarning, match="EM did not converge in max_iter=2"):
        model = regressor(max_iter=2).fit(X, y)
    assert not model.converged_
    assert model.n_iter_ == 2


def test_groups_are_routed(series):
    X, y, _ = series
    groups = np.repeat(np.arange(10), 20)
    with config_context(enable_metadata_routing=True):
        model = regressor().set_fit_request(groups=True).set_score_request(groups=True)
        found = cross_validate(
            model,
            X,
            y,
            params={"groups": groups},
            cv=GroupKFold(5),
            return_estimator=True,
            return_indices=True,
        )
    for fitted, test, score in zip(
        found["estimator"],
        found["indices"]["test"],
        found["test_score"],
        strict=True,
    ):
        assert fitted.final_state_proba_.shape == (8, 2)
        expected = fitted.score(X[test], y[test], groups=groups[test])
        assert_allclose(score, expected)


def test_score_without_rows_that_lack_a_response(series):
    X, y, _ = series
    weight = np.linspace(1.0, 2.0, 200)
    lacking, seen = y.copy(), np.arange(200) % 3 > 0
    lacking[~seen] = np.nan
    model = regressor().fit(X, lacking)
    expected = r2_score(y[seen], model.predict(X)[seen])
    assert_allclose(model.score(X, lacking), expected)
    expected = r2_score(y[seen], model.predict(X)[seen], sample_weight=weight[seen])
    assert_allclose(model.score(X, lacking, weight), expected)
    label = np.where(seen, np.where(y > 0, "up", "down"), None)
    model = classifier().fit(X, label)
    expected = np.mean(model.predict(X)[seen] == label[seen])
    assert_allclose(model.score(X, label), expected)


def test_score_is_that_of_the_prediction_without_the_past(series):
    X, y, _ = series
    model = regressor().fit(X, y, lengths=[80, 120])
    predicted = model.predict(X, lengths=[80, 120])
    residual = ((y - predicted) ** 2).sum() / ((y - y.mean()) ** 2).sum()
    assert_allclose(model.score(X, y, lengths=[80, 120]), 1.0 - residual)
    weight = np.repeat([0.0, 1.0], [80, 120])
    alone = model.score(X[80:], y[80:])
    assert_allclose(model.score(X, y, weight, lengths=[80, 120]), alone)


def test_the_band_of_a_prediction(series):
    X, y, _ = series
    model = regressor().fit(X, y)
    point, std = model.predict(X, y, return_std=True)
    law = model.predict_distribution(X, y)
    assert_allclose(point, law.mean)
    assert_allclose(std, law.variance**0.5)
    band = model.predict_interval(X, y, level=0.8)
    inside = (band[:, 0] <= y) & (y <= band[:, 1])
    assert 0.7 < inside.mean() < 0.9
    wide = model.predict_interval(X, level=0.8)
    assert np.ptp(band, axis=1).mean() < 0.8 * np.ptp(wide, axis=1).mean()


@pytest.mark.parametrize("pooling", ["mean", "top1", "mode"])
def test_pooling(pooling, series):
    X, y, _ = series
    model = regressor(pooling=pooling).fit(X, y)
    law = model.predict_distribution(X, y)
    assert_array_equal(model.predict(X, y), getattr(law, pooling))


@pytest.mark.parametrize("pooling", ["mean", "top1", "vote"])
def test_pooling_of_classes(pooling, series):
    X, y, _ = series
    model = classifier(pooling=pooling).fit(X, y > 0)
    proba = model.predict_proba(X, y > 0)
    assert_allclose(proba.sum(axis=1), 1.0)
    if pooling == "vote":
        votes = proba[:, 1]
        share = model.gate_proba(X, y > 0)
        each = model.predict_experts(X)[..., 1] > 0.5
        assert_allclose(votes, (share * each).sum(axis=1))


def test_one_expert_is_that_expert(series):
    X, y, _ = series
    model = regressor(LinearExpert(alpha=0), n_experts=1).fit(X, y)
    line = LinearExpert(alpha=0).fit(X, y)
    assert_allclose(model.predict(X, y), line.predict(X))
    assert_array_equal(model.smooth(X, y), 1.0)
    assert_array_equal(model.decode(X, y), 0)
    assert_allclose(model.transition_proba(X), 1.0)
    assert model.n_parameters_ == 4


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_more_experts_than_regimes(series):
    X, y, _ = series
    model = regressor(n_experts=5, init="auto", n_init=None).fit(X, y)
    size = len(model.experts_)
    assert 2 <= size <= 5
    assert model.smooth(X, y).shape == (200, size)
    assert model.transition_proba(X).shape == (200, size, size)
    assert model.final_state_proba_.shape == (1, size)
    less = regressor(init="auto", n_init=None).fit(X, y)
    assert model.log_likelihood(X, y) >= less.log_likelihood(X, y)


def test_an_expert_that_is_never_visited_is_dropped(rng):
    X = rng.normal(size=(60, 2))
    y = 2.0 * X[:, 0]
    with pytest.warns(CollapsedExpertWarning, match="lost their rows"):
        model = regressor(n_experts=3).fit(X, y)
    size = len(model.experts_)
    assert size < 3
    assert len(model.transition_gates_) == size
    assert_allclose(model.transition_proba(X).sum(axis=2), 1.0)
    assert model.filter(X, y).shape == (60, size)
    assert model.final_state_proba_.shape == (1, size)
    assert_allclose(model.predict(X), y, atol=0.1)


def test_a_single_row():
    X, y = np.array([[1.0, 2.0]]), np.array([3.0])
    with pytest.raises(ValueError, match="n_samples=1"):
        regressor().fit(X, y)
    X, y, _ = switching(np.random.default_rng(0), 60)
    model = regressor().fit(X, y)
    assert_allclose(model.filter(X[:1], y[:1]), model.filter(X, y)[:1])
    assert_allclose(model.smooth(X[:1], y[:1]), model.filter(X, y)[:1])
    assert model.decode(X[:1], y[:1]).shape == (1,)


@pytest.mark.parametrize("wrap", [lambda one: one, make_pipeline, EstimatorExpert])
def test_a_mixture_in_time_is_no_expert(series, wrap):
    X, y, _ = series
    for mixture in (regressor, MixtureOfExpertsRegressor):
        for experts in (wrap(regressor(order=0)), [("a", wrap(regressor()))]):
            with pytest.raises((TypeError, ExpertError), match="cannot be an expert"):
                mixture(experts).fit(X, y)
    with pytest.raises(TypeError, match="Classifier cannot be an expert: a mixture"):
        MixtureOfExpertsClassifier(classifier()).fit(X, y > 0)


def test_transition_gates(series):
    X, y, _ = series
    model = regressor(gate=SoftmaxGate(alpha=0.5)).fit(X, y)
    assert len(model.transition_gates_) == 2
    assert isinstance(model.initial_gate_, ConstantGate)
    for i, gate in enumerate(model.transition_gates_):
        assert gate.alpha == 0.5
        expected = np.exp(gate.log_proba(X))
        assert_allclose(model.transition_proba(X)[:, i], expected)
    blind = regressor(order=0).fit(X, y)
    assert blind.initial_gate_ is None
    assert len(blind.transition_gates_) == 1
    proba = blind.transition_proba(X)
    assert_allclose(proba[:, 0], proba[:, 1])
    assert_allclose(proba[:, 0], blind.gate_proba(X))


def test_without_inputs(series):
    _, y, _ = series
    with pytest.raises(ValueError, match="give a column of zeros"):
        regressor().fit(None, y)
    model = regressor(expert_features=[], gate_features=[])
    model.fit(np.zeros((200, 1)), y)
    assert model.smooth(np.zeros((200, 1)), y).shape == (200, 2)
