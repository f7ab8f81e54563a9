"""How experts follow each other: tables of moves, stays, the summary, the scorer."""

import copy
import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.model_selection import GridSearchCV, GroupKFold, TimeSeriesSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skmoe import MixtureOfExpertsRegressor
from skmoe.em._chains import Chains
from skmoe.experts import LinearExpert
from skmoe.gates import ConstantGate
from skmoe.sequence import one_step_log_score
from tests.em.slow_chains import sequence_by_sequence, walked
from tests.sequence.regimes import classifier, laws, regressor, switching

WHERE = {"lengths": [90, 110]}


@pytest.fixture
def series(rng):
    return switching(rng)


def test_moves_are_those_of_the_smoothed_pairs(series):
    X, y, _ = series
    y[::9] = np.nan
    model = regressor().fit(X, y, **WHERE)
    chain = laws(model, X, y, Chains(np.repeat([0, 1], [90, 110])))
    counts = sequence_by_sequence(walked, *chain)["pairs"].sum(axis=2)
    expected = counts / counts.sum(axis=1, keepdims=True)
    assert_allclose(model.transition_table(X, y, **WHERE), expected, rtol=1e-8)
    # Without rows: those of the fit.
    assert_allclose(model.transition_table(), expected, rtol=1e-8)
    stay = 1.0 / (1.0 - np.diag(expected))
    assert_allclose(model.dwell_times(), stay, rtol=1e-7)
    assert_allclose(model.dwell_times(X, y, **WHERE), stay, rtol=1e-7)
    assert (stay > 3.0).all()


@pytest.mark.parametrize("weight", [None, np.repeat([3.0, 1.0], [90, 110])])
def test_of_a_constant_gate_it_is_the_matrix(weight, series):
    X, y, _ = series
    model = regressor(gate=ConstantGate(), tol=1e-11).fit(X, y, weight, **WHERE)
    matrix = model.transition_proba(X[:1])[0]
    assert_allclose(model.transition_table(), matrix, atol=1e-5)


def test_moves_without_a_past(series):
    X, y, _ = series
    model = regressor(order=0).fit(X, y)
    resp = model.smooth(X, y)
    counts = resp[:-1].T @ resp[1:]
    expected = counts / counts.sum(axis=1, keepdims=True)
    assert_allclose(model.transition_table(), expected)


def test_rows_are_given_whole_or_not_at_all(series):
    X, y, _ = series
    model = regressor().fit(X, y)
    for method in (model.transition_table, model.dwell_times, model.summary):
        with pytest.raises(ValueError, match="give both X and y: one of them"):
            method(X)
    other = pickle.loads(pickle.dumps(model))
    for method in (other.transition_table, other.dwell_times, other.summary):
        with pytest.raises(ValueError, match="no longer has the rows"):
            method()
    assert_allclose(other.transition_table(X, y), model.transition_table())
    with pytest.raises(ValueError, match="no longer has the rows"):
        copy.deepcopy(model).summary()


def test_an_expert_that_is_never_left(series):
    X, y, _ = series
    model = regressor(n_experts=1).fit(X, y)
    assert_allclose(model.transition_table(), [[1.0]])
    assert_array_equal(model.dwell_times(), [np.inf])
    alone = model.transition_table(X[:3], y[:3], lengths=[1, 1, 1])
    assert np.isnan(alone).all()


def test_the_summary(series):
    X, y, _ = series
    model = regressor(LinearExpert()).fit(X, y, **WHERE)
    found = model.summary()
    assert_allclose(found.share, model.smooth(X, y, **WHERE).mean(axis=0))
    assert_allclose(found.now, model.final_state_proba_[-1])
    assert_allclose(found.transition, model.transition_table())
    assert_allclose(found.dwell, model.dwell_times())
    assert found.fit.n_parameters == model.n_parameters_
    value = model.log_likelihood(X, y, **WHERE)
    assert_allclose(found.fit.log_likelihood, value)
    assert_allclose(found.fit.bic, model.bic(X, y, **WHERE))
    said = str(found)
    assert f"log-likelihood {value:.3f} nats" in said
    assert len(said.splitlines()) == 6
    for name in model.expert_names_:
        assert name in said
    frame = found.to_frame()
    assert list(frame.index) == model.expert_names_
    assert_allclose(frame["dwell"], found.dwell)
    assert_allclose(frame[f"to {model.expert_names_[1]}"], found.transition[:, 1])
    given = model.summary(X, y, **WHERE)
    assert str(given) == said


def test_the_summary_of_a_classifier(series):
    X, y, _ = series
    model = classifier().fit(X, np.where(y > 0, "up", "down"))
    assert "expert0" in str(model.summary())


def test_the_score_one_step_ahead(series):
    X, y, _ = series
    model = regressor().fit(X, y)
    assert_allclose(one_step_log_score(model, X, y), model.log_prob(X, y).mean())
    law = np.array([0.1, 0.9])
    expected = model.log_prob(X, y, previous=law, **WHERE).mean()
    assert_allclose(one_step_log_score(model, X, y, previous=law, **WHERE), expected)
    y[::2] = np.nan
    expected = model.log_prob(X, y)[1::2].mean()
    assert_allclose(one_step_log_score(model, X, y), expected)
    pipe = make_pipeline(StandardScaler(), regressor()).fit(X, y)
    expected = pipe[-1].log_prob(pipe[:-1].transform(X), y)[1::2].mean()
    assert_allclose(one_step_log_score(pipe, X, y), expected)


def test_the_score_of_sequences_in_folds(series):
    X, y, _ = series
    groups = np.arange(200) % 4  # interleaved
    with config_context(enable_metadata_routing=True):
        search = GridSearchCV(
            make_pipeline(StandardScaler(), regressor().set_fit_request(groups=True)),
            {"markovmixtureofexpertsregressor__n_experts": [2]},
            scoring=one_step_log_score,
            cv=GroupKFold(2),
        ).fit(X, y, groups=groups)
    train, test = next(iter(GroupKFold(2).split(X, y, groups)))
    pipe = make_pipeline(StandardScaler(), regressor())
    pipe.fit(X[train], y[train], markovmixtureofexpertsregressor__groups=groups[train])
    expected = one_step_log_score(pipe, X[test], y[test], groups=groups[test])
    assert abs(expected - one_step_log_score(pipe, X[test], y[test])) > 1e-3
    assert_allclose(search.cv_results_["split0_test_score"], [expected])
    best = search.best_estimator_
    assert one_step_log_score(search, X, y) == one_step_log_score(best, X, y)


def test_the_number_of_regimes_by_later_rows(series):
    X, y, _ = series
    search = GridSearchCV(
        make_pipeline(StandardScaler(), regressor(continues=True)),
        {"markovmixtureofexpertsregressor__n_experts": [1, 2]},
        scoring=one_step_log_score,
        cv=TimeSeriesSplit(2),
    ).fit(X, y)
    assert search.best_params_ == {"markovmixtureofexpertsregressor__n_experts": 2}
    # Each part goes on where the training rows end.
    train, test = next(iter(TimeSeriesSplit(2).split(X)))
    first = make_pipeline(StandardScaler(), regressor()).fit(X[train], y[train])
    score = search.cv_results_["split0_test_score"][1]
    last = first[-1].filter(first[:-1].transform(X[train]), y[train])[-1]
    ahead = first[-1].log_prob(first[:-1].transform(X[test]), y[test], previous=last)
    assert_allclose(score, ahead.mean())


def test_a_score_that_there_is_not(series):
    X, y, _ = series
    flat = MixtureOfExpertsRegressor(n_init=1, n_experts=2).fit(X, y)
    with pytest.raises(TypeError, match=r"of Markov mixtures .* got MixtureOf.*log_sc"):
        one_step_log_score(flat, X, y)
    with pytest.raises(ValueError, match="no row of y has a response to score"):
        one_step_log_score(regressor().fit(X, y), X, np.full(len(y), np.nan))
