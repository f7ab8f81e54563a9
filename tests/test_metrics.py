"""Scores of laws, and scorers in cross-validation, searches and pipelines."""

import pickle

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from sklearn import config_context
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression
from sklearn.metrics import mean_pinball_loss
from sklearn.model_selection import GridSearchCV, KFold, cross_validate
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from skmoe import (
    HierarchicalMixtureForestRegressor,
    HierarchicalMixtureOfExpertsRegressor,
    MixtureOfExpertsClassifier,
    MixtureOfExpertsRegressor,
    metrics,
)
from skmoe.distribution import MixtureDistribution
from skmoe.experts import PoissonExpert
from skmoe.likelihoods import Gaussian
from skmoe.model_selection import MixtureOfExpertsSearch

QUICK = {"n_experts": 2, "init": "kmeans", "random_state": 0, "max_iter": 30}


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    X = rng.uniform(-2, 2, size=(120, 2))
    y = np.abs(X[:, 0]) + 0.3 * rng.normal(size=120)
    return X, y, rng.uniform(0.5, 2.0, size=120)


@pytest.fixture(scope="module")
def model(rows):
    return regressor().fit(*rows[:2])


def regressor(**options):
    return MixtureOfExpertsRegressor(**{**QUICK, "tol": 1e-3, **options})


@pytest.fixture
def law(rng):
    mean = rng.normal(size=(2, 50))
    log_gate = np.log(np.tile([0.3, 0.7], (50, 1)))
    return MixtureDistribution(log_gate, list(mean), [0.5, 2.0], [Gaussian()] * 2)


# -- functions -------------------------------------------------------------------------


def test_log_score_is_the_weighted_mean(law, rng):
    y, weight = rng.normal(size=50), rng.random(50)
    each = law.log_prob(y)
    assert_allclose(metrics.log_score(y, law), each.mean())
    assert_allclose(
        metrics.log_score(y, law, sample_weight=weight),
        np.average(each, weights=weight),
    )
    assert_allclose(metrics.log_score(y, each), each.mean())
    assert isinstance(metrics.log_score(y, law), float)


def test_crps_of_a_law_and_of_its_draws(law, rng):
    y = rng.normal(size=50)
    assert_allclose(metrics.crps(y, law), law.crps(y).mean())
    draws = law.sample(4000, random_state=0).T
    assert_allclose(metrics.crps(y, draws), metrics.crps(y, law), rtol=0.02)
    some = draws[:, :7]
    pairs = np.abs(some[:, :, None] - some[:, None]).mean(axis=(1, 2))
    expected = np.abs(some - y[:, None]).mean(axis=1) - 0.5 * pairs
    assert_allclose(metrics.crps(y, some), expected.mean())
    weight = rng.random(50)
    expected = np.average(law.crps(y), weights=weight)
    assert_allclose(metrics.crps(y, law, sample_weight=weight), expected)


def test_interval_score(law, rng):
    y = np.array([0.0, 1.0, 5.0])
    ends = np.array([[-1.0, 2.0], [2.0, 3.0], [0.0, 4.0]])
    # 3; 1 + 20 * 1; 4 + 20 * 1 at level 0.9.
    assert_allclose(metrics.interval_score(y, ends), (3 + 21 + 24) / 3)
    assert_allclose(metrics.interval_score(y, ends, 0.5), (3 + 5 + 8) / 3)
    y = rng.normal(size=50)
    for level in (0.5, 0.9):
        tail = 0.5 * (1 - level)
        ends = law.quantile([tail, 1 - tail])
        found = metrics.interval_score(y, law, level)
        assert_allclose(found, metrics.interval_score(y, ends, level))
        # It is the sum of two pinball losses, divided by half of what is left out.
        losses = metrics.pinball_loss(y, ends, [tail, 1 - tail])
        assert_allclose(found, 2 * losses / tail)


def test_pinball_loss_equals_scikit_learns(law, rng):
    y, weight = rng.normal(size=50), rng.random(50)
    for q in (0.1, 0.5, 0.8):
        quantile = law.quantile(q)
        expected = mean_pinball_loss(y, quantile, alpha=q, sample_weight=weight)
        found = metrics.pinball_loss(y, law, q, sample_weight=weight)
        assert_allclose(found, expected)
        assert_allclose(
            metrics.pinball_loss(y, quantile, q), metrics.pinball_loss(y, law, q)
        )
    levels = [0.2, 0.6]
    each = [metrics.pinball_loss(y, law, q) for q in levels]
    assert_allclose(metrics.pinball_loss(y, law, levels), np.mean(each))


def test_errors_of_functions(law):
    y = np.zeros(50)
    with pytest.raises(ValueError, match=r"log densities must be .* 50 responses"):
        metrics.log_score(y, np.zeros(49))
    with pytest.raises(ValueError, match=r"draws must be of shape \(n_samples, ...\)"):
        metrics.crps(y, np.zeros(50))
    with pytest.raises(ValueError, match=r"shape \(n_samples, 2\), got \(50, 3\)"):
        metrics.interval_score(y, np.zeros((50, 3)))
    with pytest.raises(
        ValueError, match=r"level must be one number in \(0, 1\), got 1"
    ):
        metrics.interval_score(y, law, 1)
    with pytest.raises(ValueError, match=r"q must lie in \[0, 1\], got 2"):
        metrics.pinball_loss(y, law, 2)
    with pytest.raises(ValueError, match="one column for each of the 2 levels"):
        metrics.pinball_loss(y, np.zeros((50, 3)), [0.1, 0.2])
    with pytest.raises(ValueError, match=r"shape \(50,\), got \(3,\)"):
        metrics.log_score(np.zeros(3), law)


# -- scorers ---------------------------------------------------------------------------


def test_names():
    assert metrics.get_scorer_names() == [
        "log_score",
        "neg_crps",
        "neg_interval_score",
        "neg_pinball_loss",
    ]
    for name in metrics.get_scorer_names():
        scorer = metrics.get_scorer(name)
        assert repr(scorer).startswith("LawScorer(")
        assert repr(pickle.loads(pickle.dumps(scorer))) == repr(scorer)
    scorer = metrics.get_scorer("neg_interval_score", level=0.5)
    assert repr(scorer) == "LawScorer(-interval_score, level=0.5)"
    assert "r2" in repr(metrics.get_scorer("r2"))


def test_errors_of_names():
    with pytest.raises(ValueError, match=r"no scorer 'loc_score': .*'log_score'"):
        metrics.get_scorer("loc_score")
    with pytest.raises(ValueError, match=r"'log_score' has the parameters \[\], got"):
        metrics.get_scorer("log_score", level=0.3)
    with pytest.raises(
        ValueError, match=r"has the parameters \['level'\], got \['q'\]"
    ):
        metrics.get_scorer("neg_interval_score", q=0.3)
    with pytest.raises(ValueError, match="'r2' has no parameters"):
        metrics.get_scorer("r2", q=0.3)


def test_scorers_score_the_law(model, rows):
    X, y, weight = rows
    law = model.predict_distribution(X)
    expected = {
        "log_score": law.log_prob(y).mean(),
        "neg_crps": -law.crps(y).mean(),
        "neg_interval_score": -metrics.interval_score(y, law, 0.9),
        "neg_pinball_loss": -metrics.pinball_loss(y, law, 0.5),
    }
    for name, value in expected.items():
        assert_allclose(metrics.get_scorer(name)(model, X, y), value)
    found = metrics.get_scorer("neg_pinball_loss", q=[0.1, 0.9])(model, X, y)
    assert_allclose(found, -metrics.pinball_loss(y, law, [0.1, 0.9]))
    found = metrics.get_scorer("log_score")(model, X, y, sample_weight=weight)
    assert_allclose(found, np.average(law.log_prob(y), weights=weight))


def test_any_of_our_regressors(rows):
    X, y, _ = rows
    for estimator in (
        HierarchicalMixtureOfExpertsRegressor(depth=1, random_state=0, max_iter=10),
        HierarchicalMixtureForestRegressor(2, depth=1, max_iter=3, random_state=0),
    ):
        estimator.set_params(tol=1e-2).fit(X, y)
        expected = estimator.predict_distribution(X).crps(y).mean()
        assert_allclose(metrics.get_scorer("neg_crps")(estimator, X, y), -expected)


def test_classifiers_have_a_log_score(rows):
    X, y, _ = rows
    labels = np.where(y > 1.0, "high", "low")
    model = MixtureOfExpertsClassifier(**QUICK, tol=1e-3).fit(X, labels)
    scorer = metrics.get_scorer("log_score")
    proba = model.predict_proba(X)[np.arange(120), (labels == "low").astype(int)]
    assert_allclose(scorer(model, X, labels), np.log(proba).mean())
    with pytest.raises(ValueError, match="crps is for numbers; of classes, see log_pr"):
        metrics.get_scorer("neg_crps")(model, X, labels)
    scores = cross_validate(model, X, labels, scoring=scorer, cv=2)
    assert np.isfinite(scores["test_score"]).all()


def test_pipelines_and_searches(model, rows):
    X, y, _ = rows
    scorer = metrics.get_scorer("log_score")
    scaler = StandardScaler().fit(X)
    inner = clone(model).fit(scaler.transform(X), y)
    expected = scorer(inner, scaler.transform(X), y)
    plain = make_pipeline(StandardScaler(), clone(model)).fit(X, y)
    nested = Pipeline([("skip", "passthrough"), ("rest", clone(plain))]).fit(X, y)
    search = GridSearchCV(clone(plain), {}, cv=2, scoring=scorer).fit(X, y)
    around = make_pipeline(StandardScaler(), GridSearchCV(clone(model), {}, cv=2))
    for estimator in (plain, nested, search, around.fit(X, y)):
        assert_allclose(scorer(estimator, X, y), expected)


def test_cross_validation_with_several_scorers(rows):
    X, y, _ = rows
    names = metrics.get_scorer_names()
    scoring = {name: metrics.get_scorer(name) for name in names}
    pipeline = make_pipeline(StandardScaler(), regressor())
    folds = KFold(2)
    scores = cross_validate(pipeline, X, y, scoring=scoring, cv=folds)
    for i, (train, test) in enumerate(folds.split(X)):
        fitted = clone(pipeline).fit(X[train], y[train])
        for name in names:
            expected = scoring[name](fitted, X[test], y[test])
            assert_allclose(scores[f"test_{name}"][i], expected)


def test_searches_of_the_number_and_frozen_models(model, rows):
    X, y, _ = rows
    search = MixtureOfExpertsSearch(regressor(), n_experts=2, method="bic").fit(X, y)
    scorer = metrics.get_scorer("log_score")
    expected = scorer(search.best_estimator_, X, y)
    assert_allclose(scorer(search, X, y), expected)
    assert_allclose(scorer(FrozenEstimator(model), X, y), scorer(model, X, y))


def test_search_prefers_the_better_law(rows):
    """One expert cannot bend: two have the better density."""
    X, y, _ = rows
    search = GridSearchCV(
        regressor(),
        {"n_experts": [1, 2]},
        scoring=metrics.get_scorer("log_score"),
        cv=3,
    ).fit(X, y)
    assert search.best_params_ == {"n_experts": 2}


def test_data_frames(rows):
    X, y, _ = rows
    frame = pd.DataFrame(X, columns=["one", "two"])
    model = regressor().fit(frame, pd.Series(y))
    found = metrics.get_scorer("neg_crps")(model, frame, pd.Series(y))
    assert_allclose(found, -model.predict_distribution(frame).crps(y).mean())


def test_weights_are_routed(rows):
    X, y, weight = rows
    with config_context(enable_metadata_routing=True):
        scorer = metrics.get_scorer("log_score").set_score_request(sample_weight=True)
        model = regressor().set_fit_request(sample_weight=False)
        folds = KFold(2)
        scores = cross_validate(
            model, X, y, cv=folds, scoring=scorer, params={"sample_weight": weight}
        )
        for i, (train, test) in enumerate(folds.split(X)):
            fitted = clone(model).fit(X[train], y[train])
            each = fitted.log_prob(X[test], y[test])
            expected = np.average(each, weights=weight[test])
            assert_allclose(scores["test_score"][i], expected)
        other = metrics.get_scorer("log_score")  # a scorer of its own
        request = other.get_metadata_routing().score.requests
        assert request == {"sample_weight": None, "offset": None, "trials": None}


def test_offsets_are_routed(rng):
    X, hours = rng.normal(size=(80, 1)), np.log(rng.uniform(1, 5, size=80))
    y = rng.poisson(np.exp(hours + 0.3 * X[:, 0])).astype(float)
    model = regressor(experts=PoissonExpert())
    fitted = clone(model).fit(X, y, offset=hours)
    scorer = metrics.get_scorer("neg_crps")
    expected = -fitted.predict_distribution(X, offset=hours).crps(y).mean()
    assert_allclose(scorer(fitted, X, y, offset=hours), expected)
    with config_context(enable_metadata_routing=True):
        scorer.set_score_request(offset=True)
        model.set_fit_request(offset=True)
        scores = cross_validate(
            model, X, y, cv=2, scoring=scorer, params={"offset": hours}
        )
        assert np.isfinite(scores["test_score"]).all()


def test_requests_need_routing():
    with pytest.raises(RuntimeError, match="needs metadata routing"):
        metrics.get_scorer("neg_crps").set_score_request(sample_weight=True)


def test_estimators_without_a_law(rows):
    X, y, _ = rows
    scorer = metrics.get_scorer("log_score")
    for estimator, name in (
        (LinearRegression(), "LinearRegression"),
        (make_pipeline(StandardScaler(), LinearRegression()), "LinearRegression"),
        (GridSearchCV(LinearRegression(), {}, cv=2), "LinearRegression"),
    ):
        with pytest.raises(
            TypeError, match=f"{name} has no predictive law: give a mix"
        ):
            scorer(estimator.fit(X, y), X, y)


def test_several_outputs_have_a_log_score_only(rows):
    X, y, _ = rows
    Y = np.column_stack([y, -y])
    model = regressor().fit(X, Y)
    expected = model.log_prob(X, Y).mean()
    assert_allclose(metrics.get_scorer("log_score")(model, X, Y), expected)
    with pytest.raises(ValueError, match="crps needs a single output, got 2"):
        metrics.get_scorer("neg_crps")(model, X, Y)
