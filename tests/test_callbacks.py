"""scikit-learn's callbacks: each EM pass is a task that may be watched and stopped."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skmoe import MixtureOfExpertsRegressor
from skmoe.exceptions import ExpertError
from tests._quick import classifier, regressor


@pytest.fixture
def rows(rng):
    X = rng.uniform(-2, 2, size=(80, 2))
    return X, np.abs(X[:, 0]) + 0.2 * rng.normal(size=80)


class Watch:
    """Record every hook, keep what was fitted, and stop after some passes."""

    def __init__(self, stop_after=None, fail_after=None):
        self.stop_after, self.fail_after = stop_after, fail_after
        self.begun, self.ended, self.kept, self.data = [], [], [], []
        self.set_up = self.torn_down = 0

    def setup(self, estimator, context):
        self.set_up += 1

    def teardown(self, estimator, context):
        self.torn_down += 1

    def on_fit_task_begin(self, estimator, context):
        self.begun.append(context.task_name)

    def on_fit_task_end(self, estimator, context, *, X, y, metadata, fitted_estimator):
        self.ended.append(context.task_name)
        self.data.append((X, y, metadata))
        if context.task_name != "EM pass":
            return False
        self.kept.append(fitted_estimator)
        if self.fail_after == len(self.kept):
            raise RuntimeError("the watchman fell asleep")
        return self.stop_after == len(self.kept)


@pytest.mark.parametrize("expert", [None, Ridge()], ids=["native", "adapted"])
def test_tree_of_tasks(rows, expert):
    watch = Watch()
    model = regressor(expert).set_callbacks(watch).fit(*rows)
    n_passes = len(model.objective_trace_)
    passes = ["EM pass"] * n_passes
    assert watch.begun == ["fit", "start kmeans", *passes]
    assert watch.ended == [*passes, "start kmeans", "fit"]
    assert (watch.set_up, watch.torn_down) == (1, 1)
    assert not [name for name in vars(model) if name.startswith("_callback")]


@pytest.mark.parametrize("task", ["native", "adapted", "classes", "cem"])
def test_stop_after_three_passes(rows, task):
    X, y = rows
    model = {
        "native": lambda: regressor(),
        "adapted": lambda: regressor(Ridge()),
        "classes": lambda: classifier(LogisticRegression()),
        "cem": lambda: regressor(algorithm="cem"),
    }[task]()
    y = (y > 1).astype(int) if task == "classes" else y
    model.set_callbacks(Watch(stop_after=3)).fit(X, y)
    assert len(model.objective_trace_) == 3
    assert model.score(X, y) > 0.5
    if task != "cem":
        assert not model.converged_


def test_stop_ends_the_whole_portfolio(rows):
    watch = Watch(stop_after=2)
    model = MixtureOfExpertsRegressor(n_experts=2, random_state=0)
    model.set_callbacks(watch).fit(*rows)
    assert watch.ended.count("EM pass") == 2
    assert len(model.objective_trace_) == 2


@pytest.mark.parametrize("expert", [None, Ridge()], ids=["native", "adapted"])
def test_passes_can_be_looked_at_afterwards(rows, expert):
    X, y = rows
    watch = Watch()
    model = regressor(expert).set_callbacks(watch).fit(X, y)
    objective = [seen.log_likelihood(X, y) + seen.node_.penalty for seen in watch.kept]
    assert_allclose(objective, model.objective_trace_, rtol=1e-8)
    assert_allclose(watch.kept[-1].objective_trace_, model.objective_trace_)
    assert not any(hasattr(seen, "search_") for seen in watch.kept)


def test_what_a_pass_has_reached_can_be_gone_on_from(rows):
    watch = Watch()
    model = regressor().set_callbacks(watch).fit(*rows)
    early = watch.kept[1]
    early.set_params(warm_start=True).set_callbacks().fit(*rows)
    reached = early.log_likelihood(*rows)
    assert_allclose(reached, model.log_likelihood(*rows), rtol=1e-3)
    assert early.converged_


def test_hooks_see_what_the_user_gave(rows):
    X, y = rows
    labels = np.where(y > 1, "high", "low")
    weight = np.arange(80) % 3
    watch = Watch()
    classifier().set_callbacks(watch).fit(X, labels, sample_weight=weight)
    for seen_X, seen_y, metadata in watch.data:
        assert seen_X is X
        assert seen_y is labels
        assert metadata["sample_weight"] is weight
    watch = Watch()
    classifier().set_callbacks(watch).fit(X, labels)
    assert watch.data[0][2] is None


@pytest.mark.parametrize("kind", ["regression", "words", "frame"])
def test_scoring_monitor(rows, kind):
    pd = pytest.importorskip("pandas")
    X, y = rows
    if kind == "frame":
        X = pd.DataFrame(X, columns=["a", "b"])
    model = classifier() if kind == "words" else regressor()
    y = np.where(y > 1, "high", "low") if kind == "words" else y
    scoring = "neg_log_loss" if kind == "words" else "r2"
    monitor = ScoringMonitor(scoring=scoring)
    model.set_callbacks(monitor).fit(X, y)
    logs = monitor.get_logs().data
    scores = [row[scoring] for row in logs]
    assert len(scores) == len(model.objective_trace_) + 1
    assert np.isfinite(scores).all()
    expected = model.log_prob(X, y).mean() if kind == "words" else model.score(X, y)
    # The logs are sorted by task: the whole fit comes before its passes.
    assert_allclose(scores[0], expected)
    assert_allclose(scores[-1], expected)
    assert scores[1] < scores[-1]


def test_progress_bar(rows, capsys):
    regressor().set_callbacks(ProgressBar()).fit(*rows)
    assert "MixtureOfExpertsRegressor" in capsys.readouterr().out


def test_teardown_after_a_failure(rows):
    X, y = rows
    watch = Watch(fail_after=2)
    model = regressor().set_callbacks(watch)
    with pytest.raises(RuntimeError, match="fell asleep"):
        model.fit(X, y)
    assert (watch.set_up, watch.torn_down) == (1, 1)
    assert not hasattr(model, "node_")
    assert not [name for name in vars(model) if name.startswith("_callback")]


def test_teardown_after_an_expert_fails(rows):
    class Broken(Ridge):
        def fit(self, X, y, sample_weight=None):
            raise RuntimeError("broken")

    watch = Watch()
    model = regressor(Broken()).set_callbacks(watch)
    with pytest.raises(ExpertError, match="broken"):
        model.fit(*rows)
    assert (watch.set_up, watch.torn_down) == (1, 1)


def test_inside_other_estimators(rows):
    X, y = rows
    monitor = ScoringMonitor(scoring="r2")
    pipe = make_pipeline(StandardScaler(), regressor().set_callbacks(monitor))
    pipe.fit(X, y)
    assert len(monitor.get_logs().data) > 1
    watch = Watch(stop_after=4)
    search = GridSearchCV(
        regressor().set_callbacks(watch), {"gate__alpha": [0.1]}, cv=2, refit=False
    )
    search.set_params(estimator__gate=None)
    search.param_grid = {"top_k": [None, 1]}
    search.fit(X, y)
    assert watch.set_up == watch.torn_down == 4


def test_unwatched_fit_is_the_same(rows):
    X, y = rows
    watched = regressor().set_callbacks(Watch()).fit(X, y)
    assert_allclose(watched.predict(X), regressor().fit(X, y).predict(X))
