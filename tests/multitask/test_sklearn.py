"""The estimators inside scikit-learn: checks, pipelines, searches, callbacks."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, cross_val_score, cross_validate
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from skmoe.multitask import (
    MMoEClassifier,
    MMoERegressor,
    MultiTaskStratifiedKFold,
    make_task_scorer,
)
from tests.multitask._small import (
    SMALL,
    assert_same_state,
    classifier,
    mixed,
    raw,
    regressor,
    rows,
    state,
)

# -- checks ------------------------------------------------------------------------

# The checks ask how well a model fits their few rows.
CHECKED = SMALL | {"learning_rate": 0.02, "max_epochs": 60, "batch_size": 1024}
DICT = "predict_proba returns a dict, one array for each task with classes"
PROBA_IS_A_DICT = dict.fromkeys(
    [
        "check_array_api_input",
        "check_estimators_pickle",
        "check_fit_idempotent",
        "check_methods_sample_order_invariance",
        "check_methods_subset_invariance",
        "check_sample_weight_equivalence_on_dense_data",
    ],
    DICT,
)
ARCHITECTURES = ("shared_bottom", "omoe", "cgc", "ple", "single")


def expected_failures(estimator):
    return PROBA_IS_A_DICT if type(estimator).__name__ == "MultiTaskMMoE" else {}


@parametrize_with_checks(
    [MMoERegressor(**CHECKED), MMoEClassifier(**CHECKED), mixed(max_epochs=20)],
    expected_failed_checks=expected_failures,
)
def test_passes_the_checks(estimator, check):
    check(estimator)


# What a variant changes is how it behaves, not what it accepts.
BEHAVIOUR = (
    "check_dict_unchanged",
    "check_estimators_pickle",
    "check_fit2d_1sample",
    "check_fit_idempotent",
    "check_methods_sample_order_invariance",
    "check_methods_subset_invariance",
    "check_sample_weight_equivalence_on_dense_data",
)


WEIGHTS = "check_sample_weight_equivalence_on_dense_data"


def of_behaviour(estimators, without=()):
    mark = parametrize_with_checks(estimators)
    names, cases = mark.args
    wanted = set(BEHAVIOUR) - set(without)
    kept = [case for case in cases if check_name(case) in wanted]
    assert {check_name(case) for case in kept} == wanted
    return pytest.mark.parametrize(names, kept, **mark.kwargs)


def check_name(case):
    check = getattr(case, "values", case)[1]
    return getattr(check, "func", check).__name__


@of_behaviour(
    [
        *(regressor(architecture=name) for name in ARCHITECTURES),
        regressor(numeric_encoding="piecewise"),
        regressor(numeric_encoding="periodic"),
        regressor(numeric_encoding="standard", categorical_features=[0]),
        regressor(n_members=2, normalize_experts=True, activation="silu"),
        classifier(weight_averaging=0.0, class_weight="balanced"),
    ]
)
def test_variant_passes_the_checks_of_behaviour(estimator, check):
    check(estimator)


# What is drawn for each row makes a row of weight 2 another thing than two rows.
@of_behaviour(
    [
        regressor(dropout=0.2, gate_dropout=0.2, column_dropout=0.2),
        classifier(early_stopping=True, validation_fraction=0.3),
    ],
    without=[WEIGHTS],
)
def test_variant_that_draws_passes_the_checks_of_behaviour(estimator, check):
    check(estimator)


# -- what it is --------------------------------------------------------------------


def test_kinds_and_tags():
    assert is_regressor(regressor())
    assert is_classifier(classifier())
    assert not is_classifier(mixed())
    assert not is_regressor(mixed())
    for model in (regressor(), classifier(), mixed()):
        tags = model.__sklearn_tags__()
        assert tags.target_tags.multi_output
        assert tags.input_tags.allow_nan


@pytest.mark.parametrize("make", [regressor, classifier, mixed])
def test_constructor_only_keeps_its_arguments(make):
    hidden, weights = [8, 8], {"y0": 1.0, "y1": 2.0}
    model = make(expert_hidden=hidden, task_weights=weights)
    assert model.get_params()["expert_hidden"] is hidden
    X, y = rows()
    model.fit(X, y)
    assert model.expert_hidden is hidden
    assert hidden == [8, 8]
    assert weights == {"y0": 1.0, "y1": 2.0}
    again = clone(model)
    assert not hasattr(again, "n_iter_")
    assert again.get_params()["task_weights"] == weights
    assert again.set_params(n_experts=3).fit(X, y).gate_weights(X).shape == (200, 2, 3)


# -- pipelines and searches --------------------------------------------------------


def test_grid_search_over_a_pipeline_by_the_area_under_the_curve():
    X, y = rows()
    pipe = Pipeline([("scale", "passthrough"), ("m", classifier())])
    grid = {
        "scale": ["passthrough", StandardScaler()],
        "m__learning_rate": [1e-3, 0.05],
    }
    search = GridSearchCV(pipe, grid, scoring="roc_auc", cv=3).fit(X, y)
    assert search.best_params_["m__learning_rate"] == 0.05
    click, buy = search.predict_proba(X)
    mean = np.mean(
        [roc_auc_score(y[:, 0], click[:, 1]), roc_auc_score(y[:, 1], buy[:, 1])]
    )
    assert_allclose(search.score(X, y), mean)
    assert mean > 0.8


@pytest.mark.parametrize("scoring", ["accuracy", "average_precision", "r2", None])
def test_scorers_of_scikit_learn(scoring):
    X, y = rows()
    model = regressor() if scoring == "r2" else classifier()
    scores = cross_val_score(model, X, y, scoring=scoring, cv=2)
    assert np.isfinite(scores).all()


def test_cross_validation_of_one_task_with_folds_for_a_rare_one():
    X, y = rows()
    y[:, 1] = np.arange(200) % 40 == 7
    scoring = {str(t): make_task_scorer("roc_auc", task=t) for t in (0, 1)}
    folds = MultiTaskStratifiedKFold(n_splits=5, shuffle=True, random_state=0)
    found = cross_validate(
        classifier(learning_rate=0.05, max_epochs=20), X, y, scoring=scoring, cv=folds
    )
    assert found["test_0"].min() > 0.9
    assert np.isfinite(found["test_1"]).all()


def test_columns_keep_their_meaning_behind_a_scaler_of_frames():
    pd = pytest.importorskip("pandas")
    X, y = rows()
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    scaler = StandardScaler().set_output(transform="pandas")
    pipe = Pipeline([("scale", scaler), ("m", classifier())]).fit(frame, y)
    assert_array_equal(pipe[-1].feature_names_in_, ["a", "b", "c"])
    assert pipe.predict(frame).shape == (200, 2)


def test_weights_are_routed():
    X, y = rows()
    weight = np.arange(200) % 3.0
    with config_context(enable_metadata_routing=True):
        model = classifier().set_fit_request(sample_weight=True)
        model.set_score_request(sample_weight=True)
        pipe = Pipeline([("m", model)]).fit(X, y, sample_weight=weight)
        found = cross_validate(
            pipe, X, y, params={"sample_weight": weight}, cv=2, return_estimator=True
        )
    half = found["estimator"][0][-1]
    by_hand = classifier().fit(X[100:], y[100:], weight[100:])
    assert_array_equal(raw(half, X), raw(by_hand, X))
    assert_allclose(
        found["test_score"][0], by_hand.score(X[:100], y[:100], weight[:100])
    )
    by_hand = classifier().fit(X, y, sample_weight=weight)
    assert_array_equal(raw(pipe[-1], X), raw(by_hand, X))


# -- folds are independent ---------------------------------------------------------


def test_nothing_of_a_fit_reaches_a_clone():
    # Elsewhere the columns' descriptions keep trained vectors for the next fold.
    X, y = rows()
    first = classifier(learning_rate=0.05).fit(X, y)
    before = state(first)
    second = clone(first).fit(X[::-1], 1 - y)
    fresh = classifier(learning_rate=0.05).fit(X[::-1], 1 - y)
    assert_same_state(state(second), state(fresh))
    assert_same_state(state(first), before)
    shared = {p.data_ptr() for p in first.network_.parameters()}
    assert not shared & {p.data_ptr() for p in second.network_.parameters()}


def test_a_second_fit_starts_anew():
    X, y = rows()
    model = classifier().fit(X[:50], y[:50])
    assert_same_state(state(model.fit(X, y)), state(classifier().fit(X, y)))
    assert model.history_["epoch"].tolist() == [1, 2, 3]


def test_fits_in_threads_equal_fits_in_turn():
    X, y = rows()
    models = [classifier(random_state=seed, dropout=0.2) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        at_once = list(pool.map(lambda model: raw(model.fit(X, y), X), models))
    for seed, found in enumerate(at_once):
        alone = classifier(random_state=seed, dropout=0.2).fit(X, y)
        assert_array_equal(found, raw(alone, X))


# -- copies ------------------------------------------------------------------------


@pytest.mark.parametrize("make", [regressor, classifier, mixed])
def test_pickle_predicts_the_same_and_can_be_fitted_again(make):
    X, y = rows()
    model = make(dropout=0.1).fit(X, y)
    copy = pickle.loads(pickle.dumps(model))
    assert_array_equal(raw(copy, X), raw(model, X))
    assert_array_equal(raw(copy.fit(X, y), X), raw(model, X))


def test_copy_goes_on_as_the_original():
    X, y = rows()
    model = classifier(dropout=0.1).fit(X, y)
    copy = pickle.loads(pickle.dumps(model))
    assert_same_state(state(copy.partial_fit(X, y)), state(model.partial_fit(X, y)))


def test_joblib_writes_and_reads_it(tmp_path):
    X, y = rows()
    model = classifier().fit(X, y)
    joblib.dump(model, tmp_path / "model.joblib")
    assert_array_equal(raw(joblib.load(tmp_path / "model.joblib"), X), raw(model, X))


# -- callbacks ---------------------------------------------------------------------


class Watch:
    """Keep what every hook was given; stop, or fail, after some epochs."""

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
        if context.task_name != "epoch":
            return False
        self.kept.append((fitted_estimator, raw(fitted_estimator, np.asarray(X))))
        if self.fail_after == len(self.kept):
            raise RuntimeError("the watchman fell asleep")
        return self.stop_after == len(self.kept)


@pytest.mark.parametrize("make", [regressor, classifier, mixed])
def test_each_epoch_is_a_task(make):
    X, y = rows()
    watch = Watch()
    model = make().set_callbacks(watch).fit(X, y)
    assert watch.begun == ["fit", "epoch", "epoch", "epoch"]
    assert watch.ended == ["epoch", "epoch", "epoch", "fit"]
    assert (watch.set_up, watch.torn_down) == (1, 1)
    assert all(seen_X is X and seen_y is y for seen_X, seen_y, _ in watch.data)
    assert watch.data[0][2] is None
    # What is shown after the last epoch is what fit leaves.
    assert_array_equal(watch.kept[-1][1], raw(model, X))
    assert np.abs(watch.kept[0][1] - watch.kept[1][1]).max() > 0
    assert_array_equal(raw(make().fit(X, y), X), raw(model, X))


def test_callback_sees_weights():
    X, y = rows()
    watch, weight = Watch(), np.ones(200)
    classifier().set_callbacks(watch).fit(X, y, sample_weight=weight)
    assert watch.data[0][2]["sample_weight"] is weight


def test_callback_stops_the_training():
    X, y = rows()
    model = classifier(max_epochs=50).set_callbacks(Watch(stop_after=2)).fit(X, y)
    assert model.n_iter_ == 2
    assert_array_equal(raw(model, X), raw(classifier(max_epochs=2).fit(X, y), X))


def test_callback_that_fails_leaves_the_estimator_as_it_was():
    X, y = rows()
    watch = Watch(fail_after=2)
    model = classifier().set_callbacks(watch)
    with pytest.raises(RuntimeError, match="fell asleep"):
        model.fit(X, y)
    assert (watch.set_up, watch.torn_down) == (1, 1)
    assert not hasattr(model, "history_")
    assert not [name for name in vars(model) if name.startswith("_callback")]


def test_scoring_monitor_watches_the_epochs():
    X, y = rows()
    monitor = ScoringMonitor(scoring="roc_auc")
    model = classifier(learning_rate=0.02).set_callbacks(monitor).fit(X, y)
    scores = [row["roc_auc"] for row in monitor.get_logs().data]
    click, buy = model.predict_proba(X)
    areas = [roc_auc_score(y[:, 0], click[:, 1]), roc_auc_score(y[:, 1], buy[:, 1])]
    # The whole fit comes before its epochs.
    assert len(scores) == 4
    assert_allclose([scores[0], scores[-1]], np.mean(areas))


def test_progress_bar_is_shown_when_asked_for(capsys):
    X, y = rows()
    classifier().set_callbacks(ProgressBar()).fit(X, y)
    assert "MMoEClassifier" in capsys.readouterr().out
