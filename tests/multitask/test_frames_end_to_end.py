"""Data as people have them: frames with categories, lists, gaps and mixed tasks."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tests.multitask._small import (
    assert_same_state,
    classifier,
    mixed,
    raw,
    regressor,
    rows,
    state,
)


@pytest.fixture(scope="module")
def parts():
    """Return columns of X and of y as plain lists, with gaps."""
    X, y = rows(300)
    city = [("bonn", "köln", None)[i % 3] for i in range(300)]
    items = [list(range(i % 4)) for i in range(300)]
    watch = [None if i % 7 == 0 else float(np.exp(X[i, 1])) for i in range(300)]
    segment = [("low", "mid", "top")[int(k)] for k in np.digitize(X[:, 0], [-0.5, 0.5])]
    age = np.where(np.arange(300) % 11 == 0, np.nan, X[:, 0])
    return (
        {"age": age, "pay": X[:, 1], "city": city, "items": items},
        {
            "click": [None if i % 5 == 0 else int(k) for i, k in enumerate(y[:, 0])],
            "segment": segment,
            "watch": watch,
            "visits": [int(v) for v in np.floor(np.exp(X[:, 0]))],
        },
    )


KINDS = {
    "click": "binary",
    "segment": "multiclass",
    "watch": "regression",
    "visits": "count",
}


def of_kind(kind, table):
    frames = pytest.importorskip(kind)
    if kind == "pandas":
        return frames.DataFrame(
            table, index=np.arange(len(table[next(iter(table))])) + 7
        )
    return frames.DataFrame(table, strict=False)


@pytest.mark.parametrize("kind", ["pandas", "polars"])
def test_frames_in_and_out(parts, kind):
    X, y = (of_kind(kind, part) for part in parts)
    model = mixed(tasks=KINDS, learning_rate=0.03, max_epochs=30).fit(X, y)
    assert model.tasks_ == KINDS
    assert_array_equal(model.feature_names_in_, ["age", "pay", "city", "items"])
    found = model.predict(X)
    assert type(found) is type(X)
    assert list(found.columns) == list(KINDS)
    assert set(found["segment"]) <= {"low", "mid", "top"}
    if kind == "pandas":
        assert_array_equal(found.index, X.index)
    proba = model.predict_proba(X)
    assert {name: part.shape[1] for name, part in proba.items()} == {
        "click": 2,
        "segment": 3,
    }
    scores = model.task_scores(X, y)
    assert min(scores.values()) > 0.2, scores
    assert_allclose(model.score(X, y), np.mean(list(scores.values())))
    assert (np.asarray(found["visits"]) > 0).all()


def test_both_kinds_of_frames_and_dicts_train_the_same_network(parts):
    X, y = parts
    pandas = mixed(tasks=KINDS).fit(of_kind("pandas", X), of_kind("pandas", y))
    polars = mixed(tasks=KINDS).fit(of_kind("polars", X), of_kind("polars", y))
    named = mixed(tasks=KINDS).fit(of_kind("pandas", X), y)
    assert_same_state(state(pandas), state(polars))
    assert_same_state(state(pandas), state(named))
    # Fitted on one kind, it predicts from the other.
    assert_array_equal(
        raw(pandas, of_kind("pandas", X)), raw(pandas, of_kind("polars", X))
    )


def test_order_of_the_columns_of_y_is_that_of_the_tasks(parts):
    X, y = of_kind("pandas", parts[0]), parts[1]
    turned = dict(reversed(y.items()))
    model = mixed(tasks=KINDS).fit(X, y)
    assert_same_state(state(mixed(tasks=KINDS).fit(X, turned)), state(model))
    assert_allclose(model.score(X, turned), model.score(X, y))


def test_kinds_are_guessed(parts):
    X, y = of_kind("pandas", parts[0]), of_kind("pandas", parts[1])
    # Whole numbers with gaps between them are counts, not classes.
    y["visits"] *= 30
    assert mixed().fit(X, y).tasks_ == KINDS


def test_new_and_missing_values_at_prediction(parts):
    X, y = of_kind("pandas", parts[0]), parts[1]
    model = mixed(tasks=KINDS).fit(X, y)
    odd = X.iloc[:4].assign(
        city=["never seen", None, "bonn", ""],
        age=np.nan,
        items=[[], [99], None, [0] * 90],
    )
    assert np.isfinite(raw(model, odd)).all()
    gone = X.assign(city="never seen")
    other = X.assign(city="nor this")
    assert_array_equal(raw(model, gone), raw(model, other))


@pytest.mark.parametrize("dtype", ["object", "str", "category"])
def test_a_column_without_any_category_says_nothing(dtype):
    pd = pytest.importorskip("pandas")
    X, y = rows()
    empty = pd.Series([None] * 200, dtype=dtype)
    frame = pd.DataFrame({"a": X[:, 0], "c": empty})
    model = classifier().fit(frame, y)
    assert np.isfinite(raw(model, frame)).all()
    assert np.isfinite(raw(model, frame.assign(c="new"))).all()


def test_a_column_without_any_number_says_nothing():
    X, y = rows()
    X[:, 2] = np.nan
    model = classifier().fit(X, y)
    assert np.isfinite(raw(model, X)).all()
    assert np.isfinite(raw(model, np.nan_to_num(X))).all()


def test_large_ids_are_not_confused():
    # As floats of 32 bits these two would be one.
    pytest.importorskip("pandas")
    ids = np.tile([16_777_216, 16_777_217], 100)
    y = ids % 2
    frame = of_kind("pandas", {"id": ids})
    options = {"learning_rate": 0.05, "max_epochs": 10, "embedding_penalty": 0.1}
    model = classifier(categorical_features=["id"], **options).fit(frame, y)
    assert model.score(frame, y) == 1.0
    array = classifier(categorical_features=[0], **options)
    assert array.fit(ids[:, None], y).score(ids[:, None], y) == 1.0


def test_lists_are_read_with_the_item_they_attend_to(rng):
    pd = pytest.importorskip("pandas")
    item = rng.integers(5, size=600)
    seen = [rng.integers(5, size=rng.integers(1, 6)).tolist() for _ in range(600)]
    y = np.array([i in s for i, s in zip(item, seen, strict=True)])
    frame = pd.DataFrame(
        {"item": item.astype(str), "seen": [list(map(str, s)) for s in seen]}
    )
    options = {"learning_rate": 0.03, "max_epochs": 60, "embedding_penalty": 0.1}
    model = classifier(list_features={"seen": ("attention", "item")}, **options)
    assert model.fit(frame, y).score(frame, y) > 0.9


@pytest.mark.parametrize("kind", ["pandas", "polars"])
@pytest.mark.parametrize("make", [classifier, regressor])
def test_columns_of_y_name_the_tasks(kind, make):
    X, y = rows()
    frame = of_kind(kind, {"click": y[:, 0], "buy": y[:, 1]})
    model = make().fit(X, frame)
    assert model.task_names_ == ["click", "buy"]
    assert model.predict(X).shape == (200, 2)
    assert_array_equal(raw(model, X), raw(make().fit(X, y), X))
    one = make().fit(X, frame["click"])
    assert one.predict(X).shape == (200,)
    assert one.task_names_ == ["click"]


def test_weights_by_name_and_gaps_in_frames():
    X, y = rows()
    frame = of_kind("pandas", {"click": y[:, 0], "buy": y[:, 1]})
    weight = np.random.default_rng(1).uniform(0.5, 2.0, size=(200, 2))
    named = {"buy": weight[:, 1], "click": weight[:, 0]}
    model = classifier().fit(X, frame, sample_weight=named)
    assert_same_state(state(model), state(classifier().fit(X, y, sample_weight=weight)))


@pytest.mark.parametrize("dtype", ["Int64", "boolean", "category", "object"])
def test_dtypes_of_labels_with_gaps(dtype):
    pd = pytest.importorskip("pandas")
    X, y = rows()
    labels = [None if i % 4 == 0 else bool(k) for i, k in enumerate(y[:, 0])]
    column = pd.Series(labels, dtype="boolean").astype(dtype)
    frame = pd.DataFrame({"click": column, "buy": y[:, 1]})
    plain = y.copy()
    plain[::4, 0] = np.nan
    model = classifier().fit(X, frame)
    assert_same_state(state(model), state(classifier().fit(X, plain)))
    assert len(model.classes_[0]) == 2


def test_lazy_frames_are_to_be_collected():
    pl = pytest.importorskip("polars")
    X, y = rows()
    with pytest.raises(TypeError, match=r"give X\.collect"):
        classifier().fit(pl.DataFrame(X).lazy(), y)
