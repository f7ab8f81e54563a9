"""Tables and responses of all kinds: gaps, categories, frames, several outputs."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import (
    GridSearchCV,
    TimeSeriesSplit,
    cross_val_predict,
    cross_val_score,
)
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import SplineTransformer, StandardScaler
from sklearn.svm import SVC, SVR

from skmoe.experts import EstimatorExpert, GammaExpert, LinearExpert, PoissonExpert
from tests.sequence.regimes import classifier, regressor, switching


@pytest.fixture
def series(rng):
    return switching(rng, 120)


def test_several_outputs(series, rng):
    X, y, state = series
    Y = np.column_stack([y, -2.0 * y + 0.3 * rng.normal(size=120)])
    model = regressor().fit(X, Y)
    assert model.predict(X).shape == model.predict(X, Y).shape == (120, 2)
    assert model.predict_experts(X).shape == (120, 2, 2)
    found = model.decode(X, Y)
    assert max(np.mean(found == state), np.mean(found != state)) > 0.95
    # A row with a gap in one output has no response at all.
    gaps, whole = Y.copy(), Y.copy()
    gaps[5, 0] = whole[5] = np.nan
    assert_array_equal(model.filter(X, gaps), model.filter(X, whole))
    assert model.log_prob(X, gaps)[5] == 0.0
    other = regressor().fit(X, gaps)
    assert_allclose(other.predict(X), regressor().fit(X, whole).predict(X))


def test_a_column_of_responses(series):
    X, y, _ = series
    model, flat = regressor().fit(X, y[:, None]), regressor().fit(X, y)
    assert_allclose(model.predict(X, y[:, None])[:, 0], flat.predict(X, y))
    assert_allclose(model.log_prob(X, y[:, None]), flat.log_prob(X, y))
    y[7] = np.nan
    coded = np.where(np.isnan(y), -99.0, y)
    model = regressor(unlabelled=-99.0).fit(X, coded[:, None])
    assert_allclose(model.log_prob(X, coded[:, None]), model.log_prob(X, y[:, None]))
    assert_allclose(model.predict(X)[:, 0], regressor().fit(X, y).predict(X))


def test_responses_of_another_shape(series):
    X, y, _ = series
    model = regressor().fit(X, y)
    for method in (model.filter, model.log_prob, model.predict, model.decode):
        with pytest.raises(ValueError, match="X has 120 rows and y has 119"):
            method(X, y[:-1])
        with pytest.raises(ValueError, match=r"y must be of shape \(n_samples\)"):
            method(X, np.column_stack([y, y]))
        with pytest.raises(ValueError, match="X has 1 features, but"):
            method(X[:, :1], y)
    with pytest.raises(ValueError, match="y"):
        model.filter(X, np.full(120, np.inf))


LABELS = {
    "numbers": np.array([3, 7, 9]),
    "text": np.array(["a", "b", "c"]),
    "objects": np.array(["a", "b", "c"], dtype=object),
    "bools": np.array([False, True, True]),
}


@pytest.mark.parametrize("kind", sorted(LABELS))
def test_labels(kind, series):
    X, y, _ = series
    label = LABELS[kind][np.digitize(y, [-1.0, 1.0])]
    model = classifier().fit(X, label)
    assert_array_equal(model.classes_, np.unique(LABELS[kind]))
    assert set(model.predict(X, label)) <= set(LABELS[kind])
    assert model.score(X, label) <= 1.0
    assert model.filter(X, label).shape == (120, 2)


@pytest.mark.parametrize("gap", ["nan", "none", "unlabelled", "text"])
def test_missing_labels(gap, series):
    X, y, _ = series
    lacks = np.arange(120) % 6 == 2
    label = (y > 0).astype(int)
    given, options = {
        "nan": (np.where(lacks, np.nan, label), {}),
        "none": (np.where(lacks, None, label.astype(object)), {}),
        "unlabelled": (np.where(lacks, -1, label), {"unlabelled": -1}),
        "text": (np.where(lacks, None, np.array(["no", "yes"], object)[label]), {}),
    }[gap]
    plain = classifier(unlabelled=-1).fit(X, np.where(lacks, -1, label))
    model = classifier(**options).fit(X, given)
    assert model.classes_.size == 2
    assert_allclose(model.predict_proba(X), plain.predict_proba(X))
    assert_array_equal(model.log_prob(X, given)[lacks], 0.0)
    assert (model.log_prob(X, given)[~lacks] < 0.0).all()
    filtered = plain.filter(X, np.where(lacks, -1, label))
    assert_allclose(model.filter(X, given), filtered)
    assert_array_equal(model.decode(X[lacks], given[lacks]).shape, (20,))
    one_ahead = model.predict_proba(X, given)
    assert_allclose(one_ahead.sum(axis=1), 1.0)


def test_a_label_that_was_not_seen(series):
    X, y, _ = series
    model = classifier().fit(X, y > 0)
    with pytest.raises(ValueError, match="labels that were not seen in fit"):
        model.filter(X, np.arange(120) % 3)


def test_all_responses_missing(series):
    X, y, _ = series
    with pytest.raises(ValueError, match="no row of y has a response"):
        regressor().fit(X, np.full(120, np.nan))
    with pytest.raises(ValueError, match="no row of y has a response"):
        classifier().fit(X, np.full(120, None))
    model = regressor().fit(X, y)
    nothing = np.full(120, np.nan)
    assert_array_equal(model.log_prob(X, nothing), 0.0)
    # Nothing seen is nothing learnt.
    assert_allclose(model.filter(X, nothing), model.gate_proba(X))
    assert_allclose(model.predict(X, nothing), model.predict(X))
    model = classifier().fit(X, y > 0)
    assert_allclose(model.filter(X, nothing), model.gate_proba(X))


def test_what_stands_for_a_missing_response_is_one_that_experts_can_have(series):
    X, y, _ = series
    y = np.exp(0.5 * y)  # a gamma law has no zeros
    y[::8] = np.nan
    model = regressor(GammaExpert()).fit(X, y)
    assert np.isfinite(model.log_prob(X, y)).all()
    assert_array_equal(model.log_prob(X, np.full(120, np.nan)), 0.0)


def test_gaps_in_the_inputs(series):
    X, y, state = series
    X[::11, 0] = np.nan
    model = regressor().fit(X, y)
    assert np.isfinite(model.predict(X, y)).all()
    assert np.isfinite(model.log_prob(X, y)).all()
    found = model.decode(X, y)
    assert max(np.mean(found == state), np.mean(found != state)) > 0.8
    assert model.part_feature_names("expert0") == ["x0", "x1", "x0 is missing"]


def test_frames(series, rng):
    X, y, _ = series
    frame = pd.DataFrame(X, columns=["a", "b"])
    frame["day"] = pd.Categorical(rng.choice(["mon", "tue", "wed"], 120))
    y = y + 5.0 * (frame["day"] == "tue")
    model = regressor().fit(frame, y)
    assert list(model.feature_names_in_) == ["a", "b", "day"]
    assert "day=tue" in model.part_feature_names("expert0")
    polar = pl.DataFrame({"a": X[:, 0], "b": X[:, 1], "day": frame["day"].tolist()})
    polar = polar.with_columns(pl.col("day").cast(pl.Enum(["mon", "tue", "wed"])))
    other = regressor().fit(polar, pl.Series(y))
    assert_allclose(other.predict(polar, pl.Series(y)), model.predict(frame, y))
    assert_allclose(other.transition_proba(polar), model.transition_proba(frame))
    with pytest.raises(ValueError, match="feature names"):
        model.filter(frame.rename(columns={"a": "z"}), y)


@pytest.mark.parametrize("kind", ["masked", "polars", "list"])
def test_gaps_in_responses_of_all_kinds(kind, series):
    X, y, _ = series
    y[::9] = np.nan
    given = {
        "masked": pd.Series(y, index=range(500, 620)).astype("Float64"),
        "polars": pl.Series([None if np.isnan(one) else one for one in y]),
        "list": y.tolist(),
    }[kind]
    model, plain = regressor().fit(X, given), regressor().fit(X, y)
    assert_array_equal(model.filter(X, given), plain.filter(X, y))
    assert_array_equal(model.predict(X, given), plain.predict(X, y))


def test_an_exposure(series, rng):
    X, _, state = series
    frame = pd.DataFrame({"a": X[:, 0], "years": np.exp(X[:, 1])})
    y = rng.poisson(frame["years"] * np.exp(1.0 + state * frame["a"])).astype(float)
    model = regressor(PoissonExpert(exposure="years")).fit(frame, y)
    assert model.part_feature_names() == ["a"]
    assert model.part_feature_names("expert0") == ["a", "log years"]
    twice = frame.assign(years=2.0 * frame["years"])
    assert_allclose(model.predict(twice), 2.0 * model.predict(frame))


def test_columns_of_parts_by_name(series):
    X, y, _ = series
    frame = pd.DataFrame(X, columns=["a", "b"])
    model = regressor(
        gate_features=["b"], initial_features=[], expert_features=["a"]
    ).fit(frame, y)
    assert model.part_feature_names("expert0") == ["a"]
    moved = frame.assign(a=0.0)
    assert_array_equal(model.transition_proba(moved), model.transition_proba(frame))
    moved = frame.assign(b=0.0)
    assert_array_equal(model.predict_experts(moved), model.predict_experts(frame))
    assert (model.transition_proba(moved) != model.transition_proba(frame)).any()


def test_no_columns_are_constants(series):
    X, y, _ = series
    model = regressor(gate_features=[], expert_features=[]).fit(X, y)
    assert_allclose(np.ptp(model.transition_proba(X), axis=0), 0.0)
    assert_allclose(np.ptp(model.predict_experts(X), axis=0), 0.0, atol=1e-12)
    # Two means and variances, two shares of transitions and one of the first row.
    assert model.n_parameters_ == 7


def test_pipelines(series):
    X, y, _ = series
    outer = make_pipeline(StandardScaler(), regressor()).fit(X, y)
    assert outer.predict(X).shape == (120,)
    outer.fit(X, y, markovmixtureofexpertsregressor__lengths=[60, 60])
    assert outer[-1].final_state_proba_.shape == (2, 2)
    inner = regressor(make_pipeline(SplineTransformer(4), LinearExpert()))
    assert inner.fit(X, y).score(X, y) > 0.0


def test_cross_validation_in_time(series):
    X, y, _ = series
    cv = TimeSeriesSplit(3)
    scores = cross_val_score(regressor(), X, y, cv=cv)
    assert scores.shape == (3,)
    assert np.isfinite(scores).all()
    grid = {"n_experts": [1, 2], "experts__alpha": [0.1, 1.0]}
    search = GridSearchCV(regressor(LinearExpert()), grid, cv=cv).fit(X, y)
    assert search.best_params_["n_experts"] in (1, 2)
    # By the log score of the later rows the two regimes are plain to see.
    search = GridSearchCV(
        regressor(),
        {"n_experts": [1, 2]},
        scoring=lambda model, X, y: model.log_likelihood(X, y),
        cv=cv,
    ).fit(X, y)
    assert search.best_params_ == {"n_experts": 2}


def test_no_row_learns_from_a_later_one(series):
    X, y, _ = series
    cv = TimeSeriesSplit(3)
    train, test = next(iter(cv.split(X)))
    before = regressor().fit(X[train], y[train]).predict(X[test])
    y[test] += 100.0
    after = regressor().fit(X[train], y[train]).predict(X[test])
    assert_array_equal(before, after)
    with pytest.raises(ValueError, match="only works for partitions"):
        cross_val_predict(regressor(), X, y, cv=cv)


REGRESSORS = {
    "ridge": Ridge(),
    "svr": SVR(),
    "forest": EstimatorExpert(
        RandomForestRegressor(10, min_samples_leaf=5, random_state=0), cross_fit=True
    ),
    "gp": GaussianProcessRegressor(2.0 * RBF(2.0), alpha=0.1, optimizer=None),
    "neighbours": KNeighborsRegressor(),
}


@pytest.mark.filterwarnings("ignore:EM did not converge")
@pytest.mark.parametrize("kind", sorted(REGRESSORS))
def test_any_regressor_is_an_expert(kind, series):
    X, y, state = series
    model = regressor(REGRESSORS[kind], init=np.eye(2)[state], max_iter=5)
    if kind == "neighbours":
        with pytest.warns(UserWarning, match="sample_weight"):
            model.fit(X, y)
    else:
        model.fit(X, y)
    assert_allclose(model.smooth(X, y).sum(axis=1), 1.0)
    assert np.isfinite(model.log_prob(X, y)).all()
    assert np.mean(model.decode(X, y) == state) > 0.8


@pytest.mark.filterwarnings("ignore:EM did not converge")
@pytest.mark.parametrize(
    "expert", [LogisticRegression(), RandomForestClassifier(10, max_depth=3), SVC()]
)
def test_any_classifier_is_an_expert(expert, series):
    X, y, state = series
    label = np.where(y > 0, "up", "down")
    model = classifier(expert, init=np.eye(2)[state], max_iter=4).fit(X, label)
    assert_allclose(model.predict_proba(X, label).sum(axis=1), 1.0)
    assert np.isfinite(model.log_prob(X, label)).all()


def test_experts_of_different_kinds(series, rng):
    X, y, state = series
    experts = [("line", LinearExpert(), [0]), ("flat", Ridge(alpha=1e3), [1])]
    model = regressor(experts, init=np.eye(2)[state], max_iter=50).fit(X, y)
    assert model.expert_names_ == ["line", "flat"]
    assert model.set_params(line__alpha=2.0).get_params()["line__alpha"] == 2.0
    count = rng.poisson(np.exp(1.0 + (state == 1) * X[:, 0])).astype(float)
    model = regressor(PoissonExpert()).fit(X, count)
    assert (model.predict(X, count) > 0.0).all()
    with pytest.raises(ValueError, match="in row 3"):
        regressor(PoissonExpert()).fit(X, np.where(np.arange(120) == 3, -1.0, count))
