"""Labels of several tasks: from what people have to codes, weights and back."""

import builtins

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy.sparse import csr_array
from sklearn.exceptions import DataConversionWarning
from sklearn.utils.class_weight import compute_class_weight

from skmoe.multitask._labels import Task, decode, predicted, probabilities, split_raw
from skmoe.multitask._targets import (
    assemble,
    code,
    make_tasks,
    read_targets,
    row_weights,
    weights,
)

NAN = np.nan


def tasks_of(y, kinds="auto", **kwargs):
    return make_tasks(read_targets(y), kinds, **kwargs)


def kinds_of(y):
    return [task.kind for task in tasks_of(y)]


# -- reading -----------------------------------------------------------------------


def test_array_of_one_dimension_is_one_task():
    targets = read_targets([1.5, NAN, 2.0])
    assert (targets.names, targets.single, targets.kind) == (["y"], True, "array")
    np.testing.assert_array_equal(targets.labelled[0], [True, False, True])
    assert len(targets) == 3


def test_array_of_two_dimensions_has_a_task_a_column():
    targets = read_targets(np.array([["a", "u"], ["b", "u"]]))
    assert targets.names == ["y0", "y1"]
    assert not targets.single
    assert targets.values[0].tolist() == ["a", "b"]
    assert read_targets(np.zeros((2, 2)), ["click", "like"]).names == ["click", "like"]


def test_column_vector_is_ravelled_with_a_warning():
    with pytest.warns(DataConversionWarning, match="column-vector y was passed"):
        targets = read_targets(np.ones((3, 1)))
    assert targets.single
    assert targets.values[0].shape == (3,)


@pytest.mark.parametrize("gap", [None, NAN, pd.NA])
def test_gaps_among_objects(gap):
    targets = read_targets(np.array([["a", 1], [gap, gap]], dtype=object))
    for labelled in targets.labelled:
        np.testing.assert_array_equal(labelled, [True, False])
    assert targets.values[1].dtype.kind == "i"


def test_objects_that_are_numbers_become_numbers():
    y = np.array([[True, 1, 0.5], [None, None, None], [False, 2, 1]], dtype=object)
    assert [v.dtype.kind for v in read_targets(y).values] == ["b", "i", "f"]


def frames():
    pandas = pd.DataFrame(
        {
            "flag": pd.array([True, None, False], dtype="boolean"),
            "count": pd.array([3, None, 2**53 + 1], dtype="Int64"),
            "text": pd.array(["u", None, "v"], dtype="str"),
            "group": pd.Categorical(["b", None, "a"], categories=["a", "b", "c"]),
            "real": [0.5, None, 1.0],
        }
    )
    polars = pl.DataFrame(
        {
            "flag": [True, None, False],
            "count": [3, None, 2**53 + 1],
            "text": ["u", None, "v"],
            "group": pl.Series(["b", None, "a"], dtype=pl.Categorical),
            "real": [0.5, None, 1.0],
        }
    )
    columns = {name: pandas[name] for name in pandas}
    return [("pandas", pandas), ("polars", polars), ("dict", columns)]


@pytest.mark.parametrize(("kind", "frame"), frames(), ids=["pandas", "polars", "dict"])
def test_columns_of_frames(kind, frame):
    targets = read_targets(frame)
    assert targets.kind == kind
    assert targets.names == ["flag", "count", "text", "group", "real"]
    assert targets.categorical == [False, False, False, True, False]
    for labelled in targets.labelled:
        np.testing.assert_array_equal(labelled, [True, False, True])
    known = [values[[0, 2]].tolist() for values in targets.values]
    assert known[:3] == [[True, False], [3, 2**53 + 1], ["u", "v"]]
    assert known[3:] == [["b", "a"], [0.5, 1.0]]
    assert [v.dtype.kind for v in targets.values[:2]] == ["b", "i"]


@pytest.mark.parametrize("series", [pd.Series, pl.Series], ids=["pandas", "polars"])
def test_series_is_one_task(series):
    targets = read_targets(series([0, 1]))
    assert (targets.names, targets.single) == (["y"], True)
    named = read_targets(pd.Series([0, 1], name="click"))
    assert named.names == ["click"]
    assert read_targets(series([0, 1]), ["like"]).names == ["like"]


def test_category_without_labels_is_all_missing():
    targets = read_targets({"a": pd.Categorical([None, None])})
    assert not targets.labelled[0].any()
    frame = pd.DataFrame({"a": pd.Categorical([None, None])})
    assert not read_targets(frame).labelled[0].any()


def test_named_columns_come_in_the_order_of_the_tasks():
    targets = read_targets({"b": [1, 2], "a": [3, 4]}, ["a", "b"])
    assert targets.names == ["a", "b"]
    assert targets.values[0].tolist() == [3, 4]


@pytest.mark.parametrize(
    ("y", "names", "match"),
    [
        (None, None, "requires y to be passed, but the target y is None"),
        ([], None, r"Found array with 0 sample\(s\)"),
        (np.zeros((0, 2)), None, r"Found array with 0 sample\(s\)"),
        (np.zeros((2, 0)), None, "y has no columns"),
        ({}, None, "y has no columns"),
        (np.zeros((2, 2, 2)), None, "y should be a 1d array, or a 2d one"),
        ([1.0, np.inf], None, "Input y contains infinity or a value too large for"),
        ([None, np.inf], None, "Input y contains infinity"),
        ([1.0, 2j], None, "Complex data not supported"),
        ({"a": [1], "b": [1, 2]}, None, "inconsistent numbers of samples"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), None, "must have different names"),
        ({"a": np.ones((2, 2))}, None, "task 'a' must be one column"),
        ({"a": [1]}, ["a", "b"], r"y lacks the tasks \['b'\]: it has \['a'\]"),
        ({"a": [1], "b": [1]}, ["a"], r"y has columns that are no tasks, \['b'\]"),
        (np.zeros((2, 3)), ["a", "b"], r"y has 3 column\(s\), but there are 2 task"),
        (pd.Series([1]), ["a", "b"], r"y has 1 column\(s\), but there are 2 task"),
    ],
)
def test_unreadable_targets_are_explained(y, names, match):
    with pytest.raises(ValueError, match=match):
        read_targets(y, names)


def test_sparse_targets_are_refused():
    with pytest.raises(TypeError, match="Sparse data was passed for y"):
        read_targets(csr_array(np.eye(2)))


# -- kinds -------------------------------------------------------------------------


def test_kinds_that_labels_look_like():
    y = {
        "flag": np.array([True, False] * 15),
        "two": [5, 7] * 15,
        "text": ["a", "b", "c"] * 10,
        "many": [f"id{i}" for i in range(30)],
        "stars": [1, 2, 3, 4, 5] * 6,
        "visits": [0, 1, 2, 9, 40] * 6,
        "long": list(range(30)),
        "change": [-30, 1, 2, 9, 40] * 6,
        "zero_one": [0.0, 1.0, NAN] * 10,
        "whole": [0.0, 1.0, 2.0] * 10,
        "group": pd.Series([3, 30, 300] * 10, dtype="category"),
    }
    kinds = dict(zip(y, kinds_of(y), strict=True))
    assert kinds == {
        "flag": "binary",
        "two": "binary",
        "text": "multiclass",
        "many": "multiclass",
        "stars": "multiclass",
        "visits": "count",
        "long": "count",
        "change": "regression",
        "zero_one": "binary",
        "whole": "regression",
        "group": "multiclass",
    }


def test_classes_are_sorted_and_keep_their_dtype():
    y = np.array([[3, 1], [1, 0], [3, 2]])
    first, second = tasks_of(y, "classification")
    assert (first.kind, second.kind) == ("binary", "multiclass")
    assert first.classes.tolist() == [1, 3]
    assert first.classes.dtype == y.dtype
    assert (first.n_outputs, second.n_outputs) == (1, 3)
    text = tasks_of(np.array(["b", "a"], dtype=object), "classification")[0]
    assert text.classes.dtype == object
    assert tasks_of(["b", "a"], "classification")[0].classes.dtype.kind == "U"
    assert tasks_of([0.0, 1.0, NAN], "classification")[0].classes.dtype.kind == "f"


def test_labels_of_weight_zero_are_no_classes():
    y = ["a", "b", "c"]
    weight = np.array([[1.0], [2.0], [0.0]])
    tasks = tasks_of(y, "classification", weight=weight)
    assert tasks[0].classes.tolist() == ["a", "b"]
    labels, labelled = code(read_targets(y), tasks, weight)
    np.testing.assert_array_equal(labels[:, 0], [0, 1, 0])
    np.testing.assert_array_equal(labelled[:, 0], [True, True, False])


def test_classes_can_be_declared():
    y = np.array([[0, 1], [0, 1]])
    tasks = tasks_of(y, "classification", classes=[[0, 1], [0, 1, 2]])
    assert [task.classes.tolist() for task in tasks] == [[0, 1], [0, 1, 2]]
    assert tasks_of([4], "auto", classes=[4, 6])[0].kind == "binary"
    named = tasks_of({"a": [1], "b": [0.5]}, "auto", classes={"a": [0, 1]})
    assert [task.kind for task in named] == ["binary", "regression"]
    with pytest.raises(ValueError, match="classes must hold the labels of each of the"):
        tasks_of(y, "classification", classes=[[0, 1]])


def test_regression_is_standardised_by_weighted_moments():
    y = np.array([[1.0, 5.0], [4.0, 5.0], [NAN, 5.0], [10.0, 5.0]])
    weight = np.array([1.0, 2.0, 3.0, 0.0])[:, None] * np.isfinite(y)
    first, constant = tasks_of(y, "regression", weight=weight)
    repeated = np.array([1.0, 4.0, 4.0])
    assert first.center == pytest.approx(repeated.mean())
    assert first.scale == pytest.approx(repeated.std())
    assert (constant.center, constant.scale) == (5.0, 1.0)
    assert tasks_of([0.1] * 7, "regression")[0].scale == 1.0


@pytest.mark.parametrize(
    ("y", "kinds", "match"),
    [
        ([NAN, NAN], "regression", "Input y contains NaN in all rows of task 'y'"),
        ([None, None], "classification", "Input y contains NaN in all rows"),
        ({"a": [1, 0], "b": [None, None]}, "auto", "NaN in all rows of task 'b'"),
        ([1, 1], "classification", "task 'y' has only one class, 1"),
        (["a", None], "auto", "task 'y' has only one class, 'a'"),
        ([0, 1, 2], {"y": "binary"}, r"is binary, and y holds 3 classes.*\[0, 1, 2\]"),
        ([0.5, 1.0], {"y": "binary"}, "Unknown label type: continuous"),
        ([0.5, 1.7, 2.0], "classification", "Unknown label type: continuous"),
        ([1, -1], {"y": "count"}, "whole numbers from 0 on, got -1"),
        ([1, 1.5], {"y": "count"}, "whole numbers from 0 on, got 1.5"),
        (["a", "b"], "regression", r"kind 'regression' and needs numbers, got \['a'\]"),
        (["a", "b"], {"y": "count"}, "kind 'count' and needs numbers"),
        (np.array(["a", 1], dtype=object), "classification", "Mix of label input type"),
        (np.array(["a", 1], dtype=object), "auto", "Mix of label input types"),
        (np.array(["2020", "2021"], "M8[Y]"), "classification", "Unknown label type"),
        (np.array(["2020", "2021"], "M8[Y]"), "auto", "Unknown label type"),
        (np.array(["2020"], "M8[Y]"), "regression", "kind 'regression' and needs"),
        ([0, 1], {"z": "binary"}, r"tasks must declare what y holds, \['y'\], got"),
        ([0, 1], {"y": "ranking"}, "must be one of binary, .* got 'ranking'"),
        ([0, 1], "both", "tasks must be 'auto' or a dict of the kind of each"),
    ],
)
def test_labels_that_are_no_task_are_explained(y, kinds, match):
    with pytest.raises(ValueError, match=match):
        tasks_of(y, kinds)


# -- codes and back ----------------------------------------------------------------


def test_labels_become_codes():
    y = {
        "click": ["no", None, "yes"],
        "stars": [2, 3, 1],
        "watch": [1.0, NAN, 3.0],
        "visits": [0, 7, 2],
    }
    targets = read_targets(y)
    tasks = make_tasks(targets, "auto")
    tasks[3] = Task("visits", "count")
    labels, labelled = code(targets, tasks)
    np.testing.assert_array_equal(labels[:, 0], [0, 0, 1])
    np.testing.assert_array_equal(labels[:, 1], [1, 2, 0])
    np.testing.assert_allclose(labels[:, 2], [-1, 0, 1])
    np.testing.assert_array_equal(labels[:, 3], [0, 7, 2])
    np.testing.assert_array_equal(labelled[1], [False, True, False, True])


@pytest.mark.parametrize(
    ("fitted", "later", "new"),
    [
        (["a", "b"], ["a", "c"], "'c'"),
        (np.array(["a", "b"], dtype=object), ["a", 1], "1"),
        (["1", "2"], [1, 2], "1"),
        ([1, 2], ["1", "2"], "'1'"),
        ([1, 2], [1, 3], "3"),
    ],
)
def test_labels_not_seen_in_fit_are_named(fitted, later, new):
    tasks = tasks_of(fitted, "classification")
    with pytest.raises(ValueError, match=f"a label that was not seen in fit, {new}: "):
        code(read_targets(later), tasks)


def test_later_labels_are_checked_as_the_first():
    targets = read_targets([-1.0, 2.0])
    with pytest.raises(ValueError, match="task 'n' is of counts"):
        code(targets, [Task("n", "count")])


def test_later_labels_may_be_of_another_dtype():
    tasks = tasks_of([True, False], "classification")
    labels, _ = code(read_targets([1.0, NAN, 0.0]), tasks)
    np.testing.assert_array_equal(labels[:, 0], [1, 0, 0])


def test_raw_outputs_become_predictions():
    tasks = [
        Task("click", "binary", np.array(["no", "yes"])),
        Task("stars", "multiclass", np.array([1, 3, 5])),
        Task("watch", "regression", None, 10.0, 2.0),
        Task("visits", "count"),
    ]
    raw = np.array(
        [[0.3, 0.0, 2.0, 1.0, -1.5, np.log(4.0)], [-2.0, 5.0, 1.0, 1.0, 0.0, 1e4]]
    )
    click, stars, watch, visits = decode(tasks, raw)
    assert click.tolist() == ["yes", "no"]
    assert stars.tolist() == [3, 1]
    np.testing.assert_allclose(watch, [7.0, 10.0])
    assert visits[0] == pytest.approx(4.0)
    assert np.isfinite(visits).all()
    parts = split_raw(tasks, raw)
    p = probabilities(tasks[0], parts[0])
    np.testing.assert_allclose(p[:, 1], 1 / (1 + np.exp([-0.3, 2.0])))
    q = probabilities(tasks[1], parts[1])
    np.testing.assert_allclose(q[0], np.exp([0, 2, 1]) / np.exp([0, 2, 1]).sum())
    np.testing.assert_allclose(p.sum(axis=1), 1.0)
    far = probabilities(tasks[0], np.array([[800.0], [-800.0]]))
    np.testing.assert_array_equal(far, [[0, 1], [1, 0]])


def test_standardised_labels_come_back():
    y = np.array([3.0, 8.0, -2.0])
    tasks = tasks_of(y, "regression")
    labels, _ = code(read_targets(y), tasks)
    np.testing.assert_allclose(predicted(tasks[0], labels), y)


# -- weights -----------------------------------------------------------------------

Y = np.array([[0.0, 1.0], [1.0, NAN], [NAN, 0.0], [0.0, 1.0]])


def test_weight_is_zero_without_a_label():
    targets = read_targets(Y)
    labelled = np.isfinite(Y).astype(float)
    np.testing.assert_array_equal(row_weights(targets), labelled)
    row = np.array([1.0, 2.0, 0.0, 0.5])
    np.testing.assert_array_equal(row_weights(targets, row), row[:, None] * labelled)
    np.testing.assert_array_equal(row_weights(targets, 2), 2.0 * labelled)
    full = np.where(labelled, [[1.0, 4.0]], NAN)
    wanted = [1.0, 4.0] * labelled
    np.testing.assert_array_equal(row_weights(targets, full), wanted)
    one, two = full.T
    for kind in (dict, pd.DataFrame, pl.DataFrame):
        given = kind({"y1": two, "y0": one})
        np.testing.assert_array_equal(row_weights(targets, given), wanted)


def test_weights_are_not_blamed_for_missing_labels():
    targets = read_targets([NAN, NAN])
    weight = row_weights(targets, [1.0, 1.0])
    with pytest.raises(ValueError, match="Input y contains NaN in all rows"):
        make_tasks(targets, "regression", weight)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        (
            [1.0, -1.0, 1.0, 1.0],
            "Negative values in data passed to `sample_weight`: -1",
        ),
        ([0.0] * 4, "Sample weights must contain at least one non-zero number"),
        ([NAN, 1.0, 1.0, 1.0], "Input sample_weight contains NaN or infinity"),
        ([np.inf, 1.0, 1.0, 1.0], "Input sample_weight contains NaN or infinity"),
        ([1.0] * 3, r"must be of shape \(4,\) or \(4, 2\), got \(3,\)"),
        (np.ones((4, 3)), r"must be of shape \(4,\) or \(4, 2\), got \(4, 3\)"),
        ({"y0": [1.0] * 4}, r"lacks the tasks \['y1'\]"),
    ],
)
def test_wrong_sample_weights_are_explained(given, match):
    with pytest.raises(ValueError, match=match):
        row_weights(read_targets(Y), given)


def test_balanced_classes_count_the_same_by_weight():
    rng = np.random.RandomState(0)
    y = np.column_stack([rng.uniform(size=200) < 0.1, rng.randint(3, size=200)])
    y = np.where(rng.uniform(size=y.shape) < 0.2, NAN, y)
    row = rng.uniform(0.5, 2.0, size=200)
    targets = read_targets(y)
    tasks = make_tasks(targets, "classification")
    weight = weights(targets, tasks, row, "balanced")
    for t, task in enumerate(tasks):
        known = np.isfinite(y[:, t])
        of_class = compute_class_weight(
            "balanced",
            classes=task.classes,
            y=y[known, t],
            sample_weight=row[known],
        )
        wanted = row[known] * of_class[y[known, t].astype(int)]
        np.testing.assert_allclose(weight[known, t], wanted)
        assert not weight[~known, t].any()


def test_class_weights_by_label_and_by_task():
    single = read_targets(["a", "b", None])
    tasks = make_tasks(single, "classification")
    weight = weights(single, tasks, None, {"b": 3.0})
    np.testing.assert_array_equal(weight[:, 0], [1, 3, 0])
    targets = read_targets(Y)
    tasks = make_tasks(targets, "classification")
    wanted = np.array([[1.0, 5.0], [1.0, 0.0], [0.0, 1.0], [1.0, 5.0]])
    for given in ({"y1": {1: 5.0}}, [None, {1: 5.0}]):
        np.testing.assert_array_equal(weights(targets, tasks, None, given), wanted)


def test_balanced_leaves_tasks_without_classes_alone():
    y = {"a": [0, 0, 0, 1], "b": [0.5, 1.5, 2.5, 3.5]}
    targets = read_targets(y)
    weight = weights(targets, make_tasks(targets, "auto"), None, "balanced")
    np.testing.assert_allclose(weight[:, 0], [2 / 3, 2 / 3, 2 / 3, 2])
    np.testing.assert_array_equal(weight[:, 1], 1.0)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({0: 1.0}, "is for one task, and there are"),
        ({"z": "balanced"}, r"class_weight names \['z'\], which are not among"),
        (["balanced"], "class_weight must have one entry for each of the tasks"),
        ({"y0": "even"}, "must be 'balanced', a dict or None, got 'even'"),
        ("even", "must be 'balanced', a dict or None, got 'even'"),
        ({"y0": {7: 2.0}}, r"names the classes \[7\], which it does not have"),
        ({"y0": {1: -2.0}}, "must be numbers >= 0"),
        ({"y0": {1: NAN}}, "must be numbers >= 0"),
    ],
)
def test_wrong_class_weights_are_explained(given, match):
    targets = read_targets(Y)
    tasks = make_tasks(targets, "classification")
    with pytest.raises(ValueError, match=match):
        weights(targets, tasks, None, given)


def test_class_weight_needs_classes():
    targets = read_targets({"a": [0, 1], "b": [0.5, 1.5]})
    tasks = make_tasks(targets, "auto")
    with pytest.raises(ValueError, match="task 'b', which has no classes"):
        weights(targets, tasks, None, {"b": "balanced"})


# -- predictions -------------------------------------------------------------------

PARTS = [np.array(["no", "yes"], dtype=object), np.array([0.5, 2.0])]


def test_arrays_have_a_dtype_that_holds_all():
    ints, floats = np.array([1, 2]), np.array([0.5, 2.0])
    assert assemble([ints], ["a"], single=True) is ints
    assert assemble([ints, floats], ["a", "b"]).dtype == float
    assert assemble([ints, ints], ["a", "b"]).dtype == ints.dtype
    flags = assemble([np.array([True, False]), ints], ["a", "b"])
    assert flags.tolist() == [[True, 1], [False, 2]]
    assert flags.dtype == object
    text = assemble([np.array(["a", "b"]), np.array(["long", "x"])], ["a", "b"])
    assert text.tolist() == [["a", "long"], ["b", "x"]]
    assert text.dtype.kind == "U"
    assert assemble(PARTS, ["a", "b"]).dtype == object


def test_frames_are_of_the_kind_of_y():
    frame = assemble(PARTS, ["a", "b"], "pandas", index=[4, 9])
    assert frame.to_dict("list") == {"a": ["no", "yes"], "b": [0.5, 2.0]}
    assert frame.index.tolist() == [4, 9]
    frame = assemble(PARTS, ["a", "b"], "polars")
    assert frame.to_dict(as_series=False) == {"a": ["no", "yes"], "b": [0.5, 2.0]}
    assert frame["a"].dtype == pl.String
    assert list(assemble(PARTS, ["a", "b"], "dict")) == ["a", "b"]


def test_dict_stands_for_a_frame_without_pandas(monkeypatch):
    real = builtins.__import__

    def without_pandas(name, *args, **kwargs):
        if name == "pandas":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_pandas)
    assert isinstance(assemble(PARTS, ["a", "b"], "pandas"), dict)
