"""Scores of one task, and a log loss that is right for several."""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn import config_context, metrics
from sklearn.base import BaseEstimator, clone
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skmoe.multitask._scorers import make_task_scorer, multitask_log_loss

NAN = np.nan


def rows(n_samples=300, seed=0):
    """Return X, and the labels of a binary and a three-class task."""
    rng = np.random.RandomState(seed)
    X = rng.standard_normal((n_samples, 4))
    noisy = X[:, :2] + 0.7 * rng.standard_normal((n_samples, 2))
    y = np.column_stack([noisy[:, 0] > 0.5, np.digitize(noisy[:, 1], [-0.5, 0.5])])
    return X, y.astype(int)


def forest():
    return RandomForestClassifier(20, max_depth=3, random_state=0)


class Mixed(BaseEstimator):
    """A classification and a regression, answered by name as a frame and a dict."""

    def fit(self, X, y):
        self.parts_ = {
            "watch": LinearRegression().fit(X, y["watch"]),
            "click": LogisticRegression().fit(X, y["click"]),
        }
        self.classes_ = {"click": self.parts_["click"].classes_}
        return self

    def predict(self, X):
        return pd.DataFrame({n: part.predict(X) for n, part in self.parts_.items()})

    def predict_proba(self, X):
        return {"click": self.parts_["click"].predict_proba(X)}


def mixed_rows():
    X, y = rows()
    labels = {"click": np.array(["no", "yes"])[y[:, 0]], "watch": X[:, 1] + y[:, 1]}
    return X, pd.DataFrame(labels)


# -- one task ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "by_hand"),
    [
        ("roc_auc", metrics.roc_auc_score),
        ("average_precision", metrics.average_precision_score),
        ("neg_log_loss", lambda y, p: -metrics.log_loss(y, p)),
        ("neg_brier_score", lambda y, p: -metrics.brier_score_loss(y, p)),
        ("accuracy", lambda y, p: np.mean(y == (p > 0.5))),
        ("f1", lambda y, p: metrics.f1_score(y, p > 0.5)),
    ],
)
def test_score_of_a_binary_task_is_scikit_learns(metric, by_hand):
    X, y = rows()
    model = forest().fit(X, y)
    proba = model.predict_proba(X)[0][:, 1]
    score = make_task_scorer(metric)(model, X, y)
    assert score == pytest.approx(by_hand(y[:, 0], proba))


def test_score_of_several_classes():
    X, y = rows()
    model = forest().fit(X, y)
    proba = model.predict_proba(X)[1]
    auc = make_task_scorer("roc_auc", task=1, multi_class="ovr", average="weighted")
    wanted = metrics.roc_auc_score(
        y[:, 1], proba, multi_class="ovr", average="weighted"
    )
    assert auc(model, X, y) == pytest.approx(wanted)
    loss = make_task_scorer("neg_log_loss", task=-1)
    assert loss(model, X, y) == pytest.approx(-metrics.log_loss(y[:, 1], proba))


def test_rows_without_a_label_are_left_out():
    X, y = rows()
    model = forest().fit(X, y)
    gaps = y.astype(float)
    gaps[::3, 0] = NAN
    kept = np.arange(len(X)) % 3 > 0
    scorer = make_task_scorer("roc_auc")
    assert scorer(model, X, gaps) == pytest.approx(scorer(model, X[kept], y[kept]))
    assert scorer(model, X, gaps) != pytest.approx(scorer(model, X, y))


@pytest.mark.parametrize(
    ("metric", "by_hand"),
    [
        ("r2", metrics.r2_score),
        ("neg_mean_squared_error", lambda y, p: -np.mean((y - p) ** 2)),
    ],
)
def test_score_of_a_regression(metric, by_hand):
    X, _ = rows()
    y = X[:, :2] + 0.1 * X[:, 2:] ** 2
    model = RandomForestRegressor(5, random_state=0).fit(X, y)
    wanted = by_hand(y[:, 1], model.predict(X)[:, 1])
    assert make_task_scorer(metric, task=1)(model, X, y) == pytest.approx(wanted)


def test_counts_are_scored_by_their_deviance():
    X, y = rows()
    rates = np.column_stack([np.exp(X[:, 0]), np.exp(X[:, 1])])
    model = RandomForestRegressor(5, random_state=0).fit(X, rates)
    score = make_task_scorer("neg_mean_poisson_deviance", task=1)(model, X, y)
    wanted = -metrics.mean_poisson_deviance(y[:, 1], model.predict(X)[:, 1])
    assert score == pytest.approx(wanted)


def test_answers_by_name_are_taken_by_name():
    X, y = mixed_rows()
    model = Mixed().fit(X, y)
    auc = make_task_scorer("roc_auc", task="click")(model, X, y)
    proba = model.predict_proba(X)["click"][:, 1]
    assert auc == pytest.approx(metrics.roc_auc_score(y["click"], proba))
    by_place = make_task_scorer("r2", task=1)(model, X, y)
    by_name = make_task_scorer("r2", task="watch")(model, X, {**y})
    wanted = metrics.r2_score(y["watch"], model.predict(X)["watch"])
    assert by_place == by_name == pytest.approx(wanted)


def test_single_output_is_a_task_too():
    X, y = rows()
    model = LogisticRegression().fit(X, y[:, 0])
    wanted = metrics.get_scorer("roc_auc")(model, X, y[:, 0])
    assert make_task_scorer("roc_auc")(model, X, y[:, 0]) == pytest.approx(wanted)


def test_metric_of_ones_own():
    X, y = rows()
    model = forest().fit(X, y)
    scorer = make_task_scorer(metrics.zero_one_loss, task=1, greater_is_better=False)
    assert scorer(model, X, y) == -np.mean(model.predict(X)[:, 1] != y[:, 1])


def test_mean_over_tasks():
    X, y = rows()
    model = forest().fit(X, y)
    each = [make_task_scorer("neg_log_loss", task=t)(model, X, y) for t in (0, 1)]
    score = make_task_scorer("neg_log_loss", task=None)(model, X, y)
    assert score == pytest.approx(np.mean(each))
    assert score == pytest.approx(-multitask_log_loss(y, model.predict_proba(X)))


def test_model_is_asked_once_for_all_tasks():
    X, y = rows()
    model, asked = forest().fit(X, y), []
    answer = model.predict_proba
    model.predict_proba = lambda X: asked.append(len(X)) or answer(X)
    make_task_scorer("neg_log_loss", task=None)(model, X, y)
    assert asked == [len(X)]


def test_weights_of_rows_and_of_labels():
    X, y = rows()
    model = forest().fit(X, y)
    weight = np.random.RandomState(0).randint(0, 3, size=y.shape)
    repeated = np.repeat(np.arange(len(X)), weight[:, 1])
    scorer = make_task_scorer("neg_log_loss", task=1)
    wanted = scorer(model, X[repeated], y[repeated])
    assert scorer(model, X, y, sample_weight=weight) == pytest.approx(wanted)
    assert scorer(model, X, y, weight[:, 1]) == pytest.approx(wanted)


def test_log_loss_of_a_fold_without_a_class():
    X, y = rows()
    model = forest().fit(X, y)
    few = y[:, 1] < 2
    score = make_task_scorer("neg_log_loss", task=1)(model, X[few], y[few])
    chosen = model.predict_proba(X[few])[1][np.arange(few.sum()), y[few, 1]]
    assert score == pytest.approx(np.log(chosen).mean())


def test_undefined_scores_are_nan_with_a_warning():
    X, y = rows()
    model = forest().fit(X, y)
    none = y[:, 0] == 0
    with pytest.warns(UndefinedMetricWarning, match="Only one class is present"):
        assert np.isnan(make_task_scorer("roc_auc")(model, X[none], y[none]))
    gaps = y.astype(float)
    gaps[:, 0] = NAN
    with pytest.warns(UndefinedMetricWarning, match="task 'y0' has no label among"):
        assert np.isnan(make_task_scorer("roc_auc")(model, X, gaps))


# -- in searches -------------------------------------------------------------------


def test_search_and_cross_validation_take_it():
    X, y = rows()
    scoring = {
        "rare": make_task_scorer("roc_auc"),
        "loss": make_task_scorer("neg_log_loss", task=None),
    }
    pipeline = make_pipeline(StandardScaler(), forest())
    search = GridSearchCV(
        pipeline,
        {"randomforestclassifier__max_depth": [1, 3]},
        scoring=scoring,
        refit="loss",
        cv=3,
    ).fit(X, y)
    assert search.best_params_ == {"randomforestclassifier__max_depth": 3}
    assert clone(search).scoring["rare"].metric == "roc_auc"
    scores = cross_val_score(pipeline, X, y, scoring=scoring["rare"], cv=3)
    assert scores.min() > 0.7
    assert np.isfinite(scoring["rare"](search, X, y))


def test_mixed_tasks_can_be_cross_validated():
    X, y = mixed_rows()
    scoring = {
        "click": make_task_scorer("roc_auc", "click"),
        "watch": make_task_scorer("r2", "watch"),
    }
    scores = cross_validate(Mixed(), X, y, cv=3, scoring=scoring)
    assert scores["test_click"].min() > 0.6
    assert scores["test_watch"].min() > 0.3


def test_weights_are_routed_to_it():
    X, y = rows()
    weight = np.random.RandomState(1).uniform(size=len(X))
    with config_context(enable_metadata_routing=True):
        model = forest().set_fit_request(sample_weight=False)
        scorer = make_task_scorer("neg_log_loss").set_score_request(sample_weight=True)
        scores = cross_val_score(
            model, X, y, scoring=scorer, cv=3, params={"sample_weight": weight}
        )
    by_hand = [
        scorer(forest().fit(X[train], y[train]), X[test], y[test], weight[test])
        for train, test in KFold(3).split(X)
    ]
    np.testing.assert_allclose(scores, by_hand)


def test_scorer_pickles_and_tells_what_it_is():
    X, y = rows()
    model = forest().fit(X, y)
    scorer = make_task_scorer("f1", task=1, average="macro")
    again = pickle.loads(pickle.dumps(scorer))
    assert again(model, X, y) == scorer(model, X, y)
    assert repr(scorer) == (
        "TaskScorer(metric='f1', options={'average': 'macro'}, task=1)"
    )


def test_wrong_tasks_are_explained():
    X, y = rows()
    model = forest().fit(X, y)
    with pytest.raises(ValueError, match=r"task=2 is not a column of y, which has"):
        make_task_scorer("roc_auc", task=2)(model, X, y)
    with pytest.raises(ValueError, match="task='click' is not among the columns of y"):
        make_task_scorer("roc_auc", task="click")(model, X, y)
    flat = DummyClassifier().fit(X, y[:, 0])
    with pytest.raises(ValueError, match="must be a list of the classes of each of"):
        make_task_scorer("roc_auc")(flat, X, y)


# -- log loss of several tasks -----------------------------------------------------


def test_log_loss_is_the_mean_of_the_tasks():
    X, y = rows()
    proba = forest().fit(X, y).predict_proba(X)
    each = [metrics.log_loss(y[:, t], proba[t]) for t in (0, 1)]
    assert multitask_log_loss(y, proba) == pytest.approx(np.mean(each))
    weighted = multitask_log_loss(y, proba, task_weights=[3, 1])
    assert weighted == pytest.approx(np.average(each, weights=[3, 1]))
    single = multitask_log_loss(y[:, 0], proba[0])
    assert single == pytest.approx(each[0])
    assert multitask_log_loss(y[:, 0], [proba[0]]) == single


def test_log_loss_of_labels_by_name_with_gaps():
    y = {
        "watch": [0.5, 0.1, 0.2],
        "click": ["b", None, "a"],
        "stars": [3, 1, NAN],
    }
    proba = {
        "click": np.array([[0.2, 0.8], [0.5, 0.5], [0.4, 0.6]]),
        "stars": np.array([[0.1, 0.6, 0.3], [0.2, 0.5, 0.3], [0.1, 0.1, 0.8]]),
    }
    classes = {"click": ["a", "b"], "stars": [1, 2, 3]}
    click, stars = -np.log([0.8, 0.4]), -np.log([0.3, 0.2])
    loss = multitask_log_loss(y, proba, classes=classes)
    assert loss == pytest.approx((click.mean() + stars.mean()) / 2)
    weight = np.array([3.0, 1.0, 1.0])
    loss = multitask_log_loss(
        y,
        proba,
        classes=classes,
        sample_weight=weight,
        task_weights={"click": 1, "stars": 0},
    )
    assert loss == pytest.approx((3 * click[0] + click[1]) / 4)


def test_certain_and_wrong_is_finite():
    proba = np.array([[1.0, 0.0], [1.0, 0.0]])
    loss = multitask_log_loss([1, 0], proba)
    assert loss == pytest.approx(-np.log(np.finfo(float).eps) / 2)


@pytest.mark.parametrize(
    ("y", "proba", "kwargs", "match"),
    [
        ([0, 1], np.eye(3)[:2], {}, r"must be of shape \(2, 2\), a column for each"),
        ([0, 1], [np.eye(2)] * 2, {}, "y_proba must have one entry for each of the"),
        (
            [0, 1],
            np.ones((2, 2)),
            {},
            "y_proba of task 'y' does not hold probabilities",
        ),
        ({"a": [0, 1]}, {"b": np.eye(2)}, {}, r"tasks that y_true lacks, \['b'\]"),
        (
            {"a": [0, 1], "b": [None, None]},
            {"b": np.eye(2)},
            {},
            "task 'b' of y_true has no label to be scored on",
        ),
        ([0, 2], np.eye(2), {"classes": [0, 1]}, "not seen in fit, 2"),
    ],
)
def test_what_does_not_go_together_is_explained(y, proba, kwargs, match):
    with pytest.raises(ValueError, match=match):
        multitask_log_loss(y, proba, **kwargs)
