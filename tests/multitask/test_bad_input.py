"""What cannot be fitted or predicted: said clearly, and nothing is lost by it."""

import subprocess
import sys

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.exceptions import NotFittedError, UndefinedMetricWarning

from tests.multitask._small import classifier, mixed, raw, regressor, rows

X, Y = rows()
NONE = np.full(200, np.nan)


def columns(*parts):
    return np.column_stack(parts)


# -- fits --------------------------------------------------------------------------


@pytest.mark.parametrize("make", [classifier, regressor, mixed])
@pytest.mark.parametrize(
    ("y", "match"),
    [
        (columns(Y[:, 0], NONE), "NaN in all rows of task 'y1'"),
        (None, "the target y is None"),
        (Y[:10], "inconsistent numbers of samples: X has 200, y has 10"),
        (Y[:, :, None], "y should be a 1d array, or a 2d one"),
        (Y[:, :0], "y has no columns"),
        (columns(Y[:, 0], np.where(Y[:, 1] > 0, np.inf, 0)), "infinity"),
        ({"a": Y[:, 0], "b": Y[:9, 1]}, "inconsistent numbers of samples"),
        ({}, "y has no columns"),
    ],
)
def test_labels_that_no_estimator_takes(make, y, match):
    with pytest.raises(ValueError, match=match):
        make().fit(X, y)


@pytest.mark.parametrize(
    ("y", "match"),
    [
        (np.zeros_like(Y), r"task 'y0' has only one class, 0\.0"),
        (
            columns(Y[:, 0], np.full(200, 3)),
            "task 'y1' has only one class",
        ),
        (columns(Y[:, 0], X[:, 1]), "Unknown label type: continuous. Task 'y1'"),
        ({"a": Y[:, 0], "b": np.array([1, "x"] * 100, dtype=object)}, "Mix of label"),
    ],
)
def test_labels_that_are_no_classes(y, match):
    with pytest.raises(ValueError, match=match):
        classifier().fit(X, y)


def test_text_is_nothing_for_a_regressor():
    with pytest.raises(
        ValueError, match=r"'y0' is of kind 'regression' and needs numb"
    ):
        regressor().fit(X, np.where(Y > 0, "yes", "no"))
    with pytest.raises(ValueError, match=r"task 'b' .* needs numbers, got \['yes'\]"):
        regressor().fit(X, {"a": X[:, 0], "b": np.full(200, "yes")})


@pytest.mark.parametrize(
    ("tasks", "match"),
    [
        ({"a": "binary", "b": "binary", "c": "count"}, r"y lacks the tasks \['c'\]"),
        ({"a": "binary"}, r"no tasks, \['b'\]: the tasks are \['a'\]"),
        ({}, r"no tasks, \['a', 'b'\]"),
        ({"a": "binary", "b": "ranking"}, "kind of task 'b' must be one of"),
        ({"a": "binary", "b": "count"}, r"'b' is of counts, .* got -1"),
        ({"a": "regression", "b": "binary"}, "'b' is binary, and y holds 3 classes"),
        ("all", "'tasks' parameter"),
    ],
)
def test_tasks_that_are_not_as_declared(tasks, match):
    y = {"a": Y[:, 0], "b": np.digitize(X[:, 1], [-0.5, 0.5]) - 1}
    with pytest.raises(ValueError, match=match):
        mixed(tasks=tasks).fit(X, y)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"task_weights": [1.0]}, "a number >= 0 for each of the tasks"),
        ({"task_weights": [1.0, -1.0]}, r"got \[1\.0, -1\.0\]"),
        ({"task_weights": [0.0, 0.0]}, "not all 0"),
        ({"task_weights": [1.0, np.nan]}, "task_weights must be None"),
        ({"task_weights": ["one", "two"]}, "task_weights must be None"),
        ({"task_weights": {"y0": 1.0}}, r"must name each of the tasks \['y0', 'y1'\]"),
        ({"task_weights": "equal"}, "The 'task_weights' parameter"),
        ({"class_weight": {0: 1.0, 1: 2.0}}, "is for one task, and there are"),
        ({"class_weight": [{0: 0, 1: 0}, None]}, "no label of task 'y0' is left"),
        ({"class_weight": [{2: 1.0}, None]}, r"names the classes \[2\]"),
        ({"architecture": "moe"}, "The 'architecture' parameter"),
        ({"expert_hidden": (8, 0)}, "expert_hidden must be an integer >= 1, got 0"),
        ({"expert_hidden": (8.5,)}, "expert_hidden must be an integer >= 1, got 8.5"),
        ({"n_experts": 0}, "The 'n_experts' parameter"),
        ({"dropout": 1.0}, "The 'dropout' parameter"),
        ({"learning_rate": 0.0}, "The 'learning_rate' parameter"),
        ({"device": "abacus"}, "device must be None, 'auto' or a device of torch"),
        ({"precision": "float16"}, "The 'precision' parameter"),
        (
            {"early_stopping": True, "validation_fraction": 0.001},
            "n_samples=200 leaves",
        ),
        ({"categorical_features": [5]}, "categorical_features"),
    ],
)
def test_arguments_that_do_not_go(options, match):
    with pytest.raises(ValueError, match=match):
        classifier(**options).fit(X, Y)


def test_area_under_the_curve_is_for_classes():
    with pytest.raises(
        ValueError, match=r"needs tasks with classes, and \['y0', 'y1'\]"
    ):
        regressor(monitor="auc").fit(X, X[:, :2])
    with pytest.raises(ValueError, match=r"and \['watch'\] have none"):
        mixed(monitor="auc").fit(X, {"click": Y[:, 0], "watch": X[:, 0]})


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"X_val": X}, "X_val and y_val go together"),
        ({"y_val": Y}, "X_val and y_val go together"),
        ({"sample_weight_val": np.ones(200)}, "sample_weight_val goes with both"),
        ({"X_val": X[:, :2], "y_val": Y}, "X has 2 features"),
        ({"X_val": X, "y_val": Y[:9]}, "X has 200, y has 9"),
        ({"X_val": X, "y_val": Y + 1}, r"a label that was not seen in fit, 2\.0"),
        ({"X_val": X, "y_val": np.full_like(Y, np.nan)}, "y_val has no label"),
        ({"X_val": X, "y_val": columns(Y, Y[:, 0])}, r"y has 3 column\(s\)"),
        ({"X_val": X, "y_val": Y, "sample_weight_val": -np.ones(200)}, "Negative"),
    ],
)
def test_held_out_rows_that_do_not_go(given, match):
    with pytest.raises(ValueError, match=match):
        classifier().fit(X, Y, **given)


def test_held_out_rows_without_positives_of_any_task():
    with pytest.raises(
        ValueError, match="no task has two classes among the validation"
    ):
        classifier(monitor="auc").fit(X, Y, X_val=X, y_val=np.zeros_like(Y))


@pytest.mark.parametrize(
    ("weight", "match"),
    [
        (np.zeros(200), "at least one non-zero"),
        (
            columns(np.ones(200), np.zeros(200)),
            "all rows of task 'y1', or their weights",
        ),
        (-np.ones(200), "Negative values"),
        (np.full(200, np.nan), "NaN or infinity beside a label"),
        (np.ones((200, 3)), r"must be of shape \(200,\) or \(200, 2\)"),
        (np.ones(3), r"must be of shape \(200,\) or \(200, 2\)"),
    ],
)
def test_weights_that_do_not_go(weight, match):
    with pytest.raises(ValueError, match=match):
        classifier().fit(X, Y, sample_weight=weight)


def test_tables_that_are_none():
    with pytest.raises(ValueError, match="Expected 2D array"):
        classifier().fit(X[:, 0], Y)
    with pytest.raises(ValueError, match=r"column 1 of X contains infinity"):
        classifier().fit(columns(X[:, 0], np.full(200, np.inf)), Y)
    with pytest.raises(ValueError, match="0 sample"):
        classifier().fit(X[:0], Y[:0])


def test_divergence_is_told():
    with pytest.raises(FloatingPointError, match="lower learning_rate"):
        regressor(learning_rate=1e200, weight_averaging=0.0).fit(X, X[:, :2])


# -- predictions -------------------------------------------------------------------


@pytest.mark.parametrize("name", ["predict", "predict_proba", "score", "gate_weights"])
@pytest.mark.parametrize("make", [classifier, mixed])
def test_not_fitted(make, name):
    arguments = (X, Y) if name == "score" else (X,)
    with pytest.raises(NotFittedError, match="not fitted yet"):
        getattr(make(), name)(*arguments)


@pytest.mark.parametrize(
    "name", ["network_", "n_parameters_", "task_names_", "classes_"]
)
def test_fitted_attributes_are_not_there_before(name):
    assert not hasattr(classifier(), name)
    assert hasattr(classifier().fit(X, Y), name)


@pytest.mark.parametrize("kind", ["pandas", "polars"])
@pytest.mark.parametrize(
    ("names", "match"),
    [
        ("abd", "unseen at fit time:\n- d"),
        ("ab", "yet now missing:\n- c"),
        ("acb", "in the same order"),
        ("abcd", "unseen at fit time:\n- d"),
    ],
)
def test_columns_other_than_in_fit(kind, names, match):
    frames = pytest.importorskip(kind)
    table = dict(zip("abcd", columns(X, X[:, 0]).T, strict=True))
    frame = frames.DataFrame(table)
    model = classifier().fit(frame[["a", "b", "c"]], Y)
    with pytest.raises(ValueError, match=match):
        model.predict(frame[list(names)])
    with pytest.raises(ValueError, match=match):
        model.partial_fit(frame[list(names)], Y)


def test_arrays_of_another_width():
    model = classifier().fit(X, Y)
    with pytest.raises(ValueError, match="X has 2 features, but MMoEClassifier is exp"):
        model.predict(X[:, :2])


@pytest.mark.parametrize("make", [classifier, regressor, mixed])
def test_score_without_labels_is_not_defined(make):
    model = make().fit(X, Y)
    with pytest.warns(UndefinedMetricWarning, match="no task has enough labels"):
        assert np.isnan(model.score(X, np.full_like(Y, np.nan)))
    with pytest.raises(ValueError, match="X has 200, y has 9"):
        model.score(X, Y[:9])
    half = columns(Y[:, 0], NONE)
    assert np.isfinite(model.score(X, half))


def test_score_of_tasks_of_weight_zero_is_not_defined():
    model = mixed(task_weights=[1, 0]).fit(X, Y)
    with pytest.warns(UndefinedMetricWarning, match="no task has enough labels"):
        assert np.isnan(model.score(X, columns(np.zeros(200), Y[:, 1])))


# -- nothing is lost ---------------------------------------------------------------


def with_interrupt(model):
    class Stop:
        def setup(self, estimator, context):
            pass

        teardown = on_fit_task_begin = setup

        def on_fit_task_end(self, estimator, context, **_):
            raise KeyboardInterrupt

    model.set_callbacks(Stop())
    try:
        model.fit(X, Y)
    finally:
        model.set_callbacks()


BAD = {
    "y": lambda model: model.fit(X, columns(Y[:, 0], NONE)),
    "other columns": lambda model: model.fit(X[:, :2], np.full_like(Y, np.nan)),
    "held-out rows": lambda model: model.fit(X, Y, X_val=X[:, :2], y_val=Y),
    "later label": lambda model: model.partial_fit(X, 7 * Y),
    "later columns": lambda model: model.partial_fit(X[:, :2], Y),
    "interrupt": with_interrupt,
}


@pytest.mark.parametrize("name", BAD)
def test_a_failed_fit_leaves_the_estimator_as_it_was(name):
    model = classifier().fit(X, Y)
    before, predicted = dict(vars(model)), raw(model, X)
    with pytest.raises((ValueError, KeyboardInterrupt)):
        BAD[name](model)
    after = {k: v for k, v in vars(model).items() if k != "_skl_callbacks"}
    assert after.keys() == before.keys()
    assert all(after[key] is value for key, value in before.items())
    assert_array_equal(raw(model, X), predicted)


@pytest.mark.parametrize("name", sorted(set(BAD) - {"later label", "later columns"}))
def test_a_failed_first_fit_leaves_it_unfitted(name):
    model = classifier()
    before = dict(vars(model))
    with pytest.raises((ValueError, KeyboardInterrupt)):
        BAD[name](model)
    assert {k: v for k, v in vars(model).items() if k != "_skl_callbacks"} == before


@pytest.mark.parametrize("warm", [False, True])
def test_divergence_loses_nothing(warm):
    model = regressor(warm_start=warm, weight_averaging=0.0).fit(X, X[:, :2])
    predicted = raw(model, X)
    model.set_params(learning_rate=1e200)
    train = model.fit if warm else model.partial_fit
    with pytest.raises(FloatingPointError, match="lower learning_rate"):
        train(X, X[:, :2])
    assert_array_equal(raw(model, X), predicted)
    assert model.n_iter_ == 3


def test_later_rows_must_be_of_the_same_tasks():
    model = classifier().fit(X, Y)
    with pytest.raises(ValueError, match="not seen in fit, 7"):
        model.partial_fit(X, 7 * Y)
    with pytest.raises(ValueError, match=r"y has 1 column\(s\), but there are 2"):
        model.partial_fit(X, Y[:, 0])
    with pytest.raises(ValueError, match=r"y lacks the tasks \['y0', 'y1'\]"):
        model.partial_fit(X, {"a": Y[:, 0], "b": Y[:, 1]})


# -- without torch -----------------------------------------------------------------

WITHOUT_TORCH = """
import sys
import skmoe.multitask as multitask
assert "torch" not in sys.modules, "imported at import"
sys.modules["torch"] = None
import numpy as np
from sklearn.dummy import DummyClassifier
X, y = np.zeros((6, 1)), np.array([[0, 1], [1, 0]] * 3)
model = DummyClassifier().fit(X, y)
print(multitask.make_task_scorer("accuracy", task=1)(model, X, y))
print(multitask.multitask_log_loss(y, model.predict_proba(X)))
print(len(list(multitask.MultiTaskStratifiedKFold(3).split(X, y))))
print(multitask.MMoEClassifier())
try:
    multitask.MMoEClassifier().fit(X, y)
except ImportError as error:
    print(error)
"""


def test_torch_is_needed_for_fits_alone():
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    accuracy, loss, n_folds, shown, error = done.stdout.splitlines()
    assert float(accuracy) == 0.5
    assert float(loss) == pytest.approx(np.log(2))
    assert n_folds == "3"
    assert shown == "MMoEClassifier()"
    assert error == "MMoEClassifier needs torch: pip install 'skmoe[torch]'"
