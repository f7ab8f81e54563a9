"""Estimators as ONNX files: what a server computes is what they predict."""

import copy
import json
import logging
import sys
import warnings
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import polars as pl
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import NotFittedError

import skmoe
from skmoe.multitask import (
    MMoEClassifier,
    MMoERegressor,
    MultiTaskMMoE,
    _export,
)
from skmoe.multitask._encoder import TableEncoder
from skmoe.multitask._onnx_columns import free_name, inputs_for
from skmoe.multitask._vocabulary import plain

NAN = float("nan")
QUICK = {"max_epochs": 40, "random_state": 0, "expert_hidden": (8,), "n_experts": 3}
QUICK |= {"learning_rate": 0.05, "tower_hidden": (4,), "n_bins": 8}
CATEGORIES = ["city", "id", "grade", "seen", "new"]
LEAST = -(2**63)
# Neighbours that float32 and float64 take for one.
IDS = np.array([2**24, 2**24 + 1, 2**53, 2**53 + 1, 2**60, 2**60 + 1])


def frame(n_rows=300, seed=0):
    """Return rows with columns of every kind but lists, gaps in most."""
    rng = np.random.default_rng(seed)
    age = rng.integers(18, 80, n_rows) / 2
    age[::7] = NAN
    city = rng.choice(["Rom", "Köln", "", "x"], n_rows).astype(object)
    city[::11] = None
    grade = pd.Series(rng.choice(["a", "b"], n_rows), dtype="category")
    grade[::13] = None
    seen = pd.Series(rng.integers(0, 2, n_rows).astype(bool), dtype="boolean")
    seen[::5] = pd.NA
    return pd.DataFrame(
        {
            "age": age,
            "income": rng.lognormal(size=n_rows) * 1e6,
            "constant": np.full(n_rows, 3.0),
            "city": city,
            "id": rng.choice(IDS, n_rows),
            "grade": grade,
            "seen": seen,
            "new": rng.integers(0, 2, n_rows).astype(bool),
        }
    )


def served(n_rows=60):
    """Return rows with entries that were not there in fit."""
    X = frame(n_rows, seed=1)
    X.loc[3:5, "city"] = "Paris"
    X.loc[4:9, "id"] = [2**60 + 2, 2**53 + 2, 0, LEAST + 1, 2**63 - 1, 2**24 - 1]
    X.loc[2, "age"], X.loc[3, "age"], X.loc[4, "income"] = 1e300, -1e300, -5.0
    X.loc[5:6, "income"] = NAN
    return X


def labels(X, seed=2):
    """Return labels of all kinds that X has a say in."""
    rng = np.random.default_rng(seed)
    age = np.nan_to_num(X["age"], nan=30)
    odd = X["id"].to_numpy() % 2
    return pd.DataFrame(
        {
            "click": odd ^ (rng.random(len(X)) < 0.2),
            "buy": np.where(rng.random(len(X)) < 0.3, "yes", "no"),
            "segment": np.where(age > 30, "old", np.where(odd > 0, "odd", "even")),
            "watch": 1e6 + age + rng.normal(size=len(X)),
            "visits": rng.poisson(1 + odd),
        }
    )


def as_fed(column, about):
    """Return a column as the metadata of a model ask for it."""
    missing = about["missing"]
    if about["padding"] is not None:
        return padded(column, about)
    values = column.to_list() if hasattr(column, "to_list") else list(column)
    if about["type"] == "double":
        return np.array([NAN if v is None else v for v in values], dtype=float)
    gap = [v is None or v is pd.NA or v != v for v in values]
    if about["type"] == "int64":
        values = [missing if g else int(v) for v, g in zip(values, gap, strict=True)]
        return np.array(values, dtype=np.int64)
    return np.array(
        [missing if g else str(plain(v)) for v, g in zip(values, gap, strict=True)],
        object,
    )


def padded(column, about):
    size, missing = about["size"], about["missing"]
    rows = [[] if row is None else list(row)[-size:] for row in column]
    rows = [[missing if v is None else v for v in row] for row in rows]
    rows = [row + [about["padding"]] * (size - len(row)) for row in rows]
    return np.array(rows, np.int64 if about["type"] == "int64" else object)


def exported(model, path):
    """Write and check a model; return how to run it on rows, and its metadata."""
    file = path / "model.onnx"
    assert model.to_onnx(file) is None
    assert [p.name for p in path.iterdir()] == ["model.onnx"]
    onnx.checker.check_model(onnx.load(file), full_check=True)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    found = session.get_modelmeta().custom_metadata_map
    about = {key: json.loads(value) for key, value in found.items()}

    def run(X):
        feed = {}
        for one in about["inputs"]:
            name = one["name"]
            if name == "X":
                feed[name] = np.asarray(X, dtype=float)
            elif hasattr(X, "columns"):
                feed[name] = as_fed(X[one["columns"][0]], one)
            else:
                feed[name] = as_fed(X[:, int(one["columns"][0])], one)
        names = [out.name for out in session.get_outputs()]
        return dict(zip(names, session.run(None, feed), strict=True))

    return run, about


def expected(model, X):
    """Return what an estimator says of each task."""
    names = model.task_names_
    if isinstance(model, MultiTaskMMoE):
        means = model.predict(X)
        known = model.predict_proba(X)
        return {n: known[n] if n in known else means[n].to_numpy() for n in names}
    result = model.predict(X) if isinstance(model, MMoERegressor) else None
    if result is not None:
        return dict(zip(names, result.reshape(len(X), -1).T, strict=True))
    proba = model.predict_proba(X)
    return dict(zip(names, [proba] if len(names) == 1 else proba, strict=True))


def assert_same(run, model, X):
    wanted, got = expected(model, X), run(X)
    assert list(got) == list(wanted)
    scale = {task.name: task.scale for task in model._fitted.tasks}
    for name, values in wanted.items():
        assert got[name].shape == values.shape
        # Means in standard deviations: a relative difference from 1e6 says little.
        unit = scale[name]
        assert_allclose(got[name] / unit, values / unit, rtol=0, atol=1e-5)
    if len(X) > 1:
        assert any(values.std(axis=0).max() > 1e-2 for values in wanted.values())


# -- everything at once ------------------------------------------------------------


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    X = frame()
    kinds = {"click": "binary", "buy": "binary", "segment": "multiclass"}
    kinds |= {"watch": "regression", "visits": "count"}
    options = QUICK | {"n_members": 2, "dropout": 0.1}
    model = MultiTaskMMoE(kinds, categorical_features=CATEGORIES, **options)
    model.fit(X, labels(X))
    network, state = model.network_, torch.random.get_rng_state()
    before = copy.deepcopy(network.state_dict())
    raw = model._raw(X)
    run, about = exported(model, tmp_path_factory.mktemp("model"))
    return SimpleNamespace(**locals())


@pytest.mark.parametrize("n_rows", [1, 2, 60])
def test_mixed_tasks_and_columns(everything, n_rows):
    assert_same(everything.run, everything.model, served(n_rows + 10)[10:])
    assert_same(everything.run, everything.model, served(60)[:n_rows])


def test_ids_beyond_float_are_told_apart(everything):
    X = served(60).iloc[[0] * len(IDS)].assign(id=IDS)
    result = everything.run(X)["click"][:, 1]
    assert len(np.unique(result)) == len(IDS)
    assert_same(everything.run, everything.model, X)


def test_network_and_global_state_stay(everything):
    e = everything
    assert e.model.network_ is e.network
    assert e.raw.dtype == np.float64
    for name, value in e.network.state_dict().items():
        assert value.dtype == e.before[name].dtype
        assert torch.equal(value, e.before[name])
    assert torch.equal(torch.random.get_rng_state(), e.state)
    assert_array_equal(e.model._raw(e.X), e.raw)


def test_metadata_tell_of_inputs_and_tasks(everything):
    about = everything.about
    assert about["skmoe_version"] == skmoe.__version__
    inputs = {one.pop("name"): one for one in about["inputs"]}
    assert list(inputs) == list(frame().columns)
    assert inputs["age"]["type"] == "double"
    assert inputs["id"]["type"] == inputs["seen"]["type"] == "int64"
    # "" is a city, so it cannot stand for none.
    texts = {"type": "string", "size": None, "padding": None}
    assert inputs["city"] == texts | {"columns": ["city"], "missing": "<missing>"}
    assert inputs["grade"] == texts | {"columns": ["grade"], "missing": ""}
    assert [t["kind"] for t in about["tasks"]] == list(everything.kinds.values())
    classes = {t["name"]: t["classes"] for t in about["tasks"]}
    assert classes["segment"] == ["even", "odd", "old"]
    assert classes["click"] == [0, 1]
    assert classes["watch"] is None


# -- architectures and encodings ---------------------------------------------------


@pytest.mark.parametrize(
    ("architecture", "options"),
    [
        ("shared_bottom", {"numeric_encoding": "standard"}),
        ("omoe", {"numeric_encoding": "piecewise"}),
        ("cgc", {"numeric_encoding": "periodic", "n_members": 2}),
        ("ple", {"normalize_experts": True, "activation": "silu"}),
        ("single", {"numeric_encoding": "piecewise", "n_members": 2}),
        ("aitm", {"activation": "gelu", "expert_hidden": (8, 6)}),
        ("esmm", {"n_members": 2, "activation": "tanh"}),
    ],
)
def test_architectures(tmp_path, architecture, options):
    X = frame()
    y = labels(X)[["click", "buy"]]
    if architecture not in ("aitm", "esmm"):
        y = labels(X)
    options = QUICK | options | {"architecture": architecture, "precision": "float32"}
    options["categorical_features"] = CATEGORIES
    if architecture in ("aitm", "esmm"):
        options["chain"] = ["click", "buy"]
    model = MultiTaskMMoE(**options).fit(X, y)
    run, _ = exported(model, tmp_path)
    assert_same(run, model, served())
    assert_same(run, model, served()[:1])


# -- lists -------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["mmoe", "single"])
def test_lists(tmp_path, architecture):
    rng = np.random.default_rng(0)
    ids = [[int(v) for v in rng.choice(IDS, k)] for k in rng.integers(0, 5, 300)]
    ids[1] = None
    words = [list(rng.choice(["a", "b", ""], k)) for k in rng.integers(0, 4, 300)]
    words[2], words[3] = None, ["a", None, ""]
    X = pl.DataFrame(
        {
            "item": rng.choice(IDS, 300),
            "history": ids,
            "words": [None if w is None else [v and str(v) for v in w] for w in words],
            "more": [[int(v) for v in row or []][:2] for row in ids],
        }
    )
    options = {"history": ("attention", "item"), "words": "mean", "more": "sum"}
    model = MMoEClassifier(
        architecture,
        categorical_features=["item"],
        list_features=options,
        max_list_length=4,
        **QUICK,
    )
    y = np.column_stack([rng.integers(0, 2, 300), X["item"].to_numpy() % 2])
    model.fit(X, y)
    run, about = exported(model, tmp_path)
    kept = {one["name"]: one for one in about["inputs"]}
    assert kept["history"]["size"] == 4
    assert (kept["history"]["padding"], kept["history"]["missing"]) == (
        LEAST,
        LEAST + 1,
    )
    # "" is a word, so other texts stand for none and for the end.
    assert kept["words"]["padding"] == "<missing>"
    assert kept["words"]["missing"] == "<missing>_"
    unseen = pl.DataFrame(
        {
            "item": [5, int(IDS[0])],
            "history": [[5, int(IDS[1])], [int(v) for v in IDS]],
            "words": [["zz"], ["a"]],
            "more": [[], [7]],
        },
        schema=X.schema,
    )
    assert_same(run, model, X)
    assert_same(run, model, unseen)
    assert_same(run, model, unseen[:1])


# -- arrays ------------------------------------------------------------------------


def test_array_of_numbers_is_one_input(tmp_path):
    rng = np.random.default_rng(0)
    X = np.column_stack(
        [
            rng.integers(0, 5, 200),
            rng.normal(size=200),
            rng.integers(0, 9, 200),
            np.full(200, NAN),
        ]
    )
    X[::9, 0], X[::8, 1] = NAN, NAN
    y = np.nan_to_num(X[:, 0]) * 100 + rng.normal(size=200)
    model = MMoERegressor(categorical_features=[0, 3], **QUICK).fit(X, y)
    run, about = exported(model, tmp_path)
    assert [(one["name"], one["size"]) for one in about["inputs"]] == [("X", 4)]
    X[:4, 0], X[:9, 3] = [0.5, 7, 1e300, -3], 0
    assert_same(run, model, X)
    assert_same(run, model, X[:1])


def test_array_of_objects_has_an_input_for_each_column(tmp_path):
    rng = np.random.default_rng(0)
    X = np.empty((200, 3), dtype=object)
    X[:, 0] = rng.choice(["a", "b"], 200)
    X[:, 1] = rng.normal(size=200)
    X[:, 2] = rng.choice([0.5, 1.0, 1e30], 200)
    X[::9, 2], X[::7, 0] = None, NAN
    y = np.where(X[:, 0] == "a", "p", np.where(X[:, 2] == 1, "q", "r"))
    model = MMoEClassifier(categorical_features=[0, 2], **QUICK).fit(X, y)
    run, about = exported(model, tmp_path)
    kinds = {one["name"]: one["type"] for one in about["inputs"]}
    assert kinds == {"x0": "string", "x1": "double", "x2": "string"}
    assert_same(run, model, X)


@pytest.mark.parametrize("kind", ["numbers", "codes"])
def test_columns_of_one_kind_alone(tmp_path, kind):
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.integers(0, 4, (200, 2)), columns=["sigmoid", "y1"])
    y = np.column_stack([X["y1"] > 1, X["sigmoid"] > 1]).astype(int)
    options = {"categorical_features": None, "numeric_encoding": "standard"}
    if kind == "codes":
        options = {"categorical_features": ["sigmoid", "y1"]}
    model = MMoEClassifier(**QUICK, **options).fit(X, y)
    run, about = exported(model, tmp_path)
    # A column and a task have the same name.
    assert [task["output"] for task in about["tasks"]] == ["y0", "y1_"]
    got, wanted = run(X), model.predict_proba(X)
    assert_allclose(got["y0"], wanted[0], atol=1e-5)
    assert_allclose(got["y1_"], wanted[1], atol=1e-5)


# -- what is fed -------------------------------------------------------------------


def test_missing_is_the_smallest_integer_that_is_free():
    X = pd.DataFrame({"c": [LEAST, LEAST + 1, 3]})
    about = TableEncoder(categorical_features=["c"]).fit(X).describe()
    (one,) = inputs_for(about, True)
    assert one.missing == LEAST + 2
    assert one.codes[LEAST] != one.codes[LEAST + 2] == 2


def test_column_without_categories_is_text(tmp_path):
    X = pd.DataFrame({"c": pd.Series([None] * 40, dtype=object), "d": [0.0, 1] * 20})
    options = QUICK | {"activation": "silu", "max_epochs": 5}
    model = MMoEClassifier(**options).fit(X, [0, 1] * 20)
    run, about = exported(model, tmp_path)
    assert about["inputs"][0]["type"] == "string"
    X["c"] = ["a", None, *["a"] * 38]
    wanted = model.predict_proba(X)
    assert len(np.unique(wanted[:, 0].round(6))) > 2
    assert_allclose(run(X)["y"], wanted, atol=1e-6)


def test_names_that_are_taken():
    assert free_name("a", set()) == "a"
    assert free_name("a", {"a", "a_"}) == "a__"


# -- errors, and what is not said --------------------------------------------------


@pytest.fixture(scope="module")
def small():
    X = pd.DataFrame({"X": [0.0, 1.0] * 20})
    return MMoEClassifier(activation="silu", **QUICK).fit(X, [0, 1] * 20)


def test_column_named_as_the_input_of_an_array(small, tmp_path):
    file = tmp_path / "model.onnx"
    small.to_onnx(file)
    values = np.array([0.0, NAN, 1.0])
    (got,) = onnxruntime.InferenceSession(file).run(None, {"X": values})
    wanted = small.predict_proba(pd.DataFrame({"X": values}))
    assert np.ptp(wanted) > 1e-2
    assert_allclose(got, wanted, atol=1e-5)


def test_nothing_is_said(small, tmp_path, capfd):
    filters, level = list(warnings.filters), logging.getLogger("torch.onnx").level
    small.to_onnx(str(tmp_path / "model.onnx"))
    assert capfd.readouterr() == ("", "")
    assert warnings.filters == filters
    assert logging.getLogger("torch.onnx").level == level


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_packages_that_are_not_there(small, tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=r"pip install 'skmoe\[onnx\]'"):
        small.to_onnx(tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_weights_beyond_one_file(small, tmp_path, monkeypatch):
    monkeypatch.setattr(_export, "MOST_BYTES", 100)
    with pytest.raises(ValueError, match=r"less than 2 GB, and the weights take \d+"):
        small.to_onnx(tmp_path / "model.onnx")


def test_categories_that_read_the_same(tmp_path):
    X = pd.DataFrame({"c": [1, "1", 2, "b"] * 10})
    model = MMoEClassifier(**QUICK).fit(X, [0, 1] * 20)
    with pytest.raises(ValueError, match=r"column 'c' of X holds .* same, '1': ONNX"):
        model.to_onnx(tmp_path / "model.onnx")


def test_before_fit(tmp_path):
    with pytest.raises(NotFittedError):
        MMoEClassifier().to_onnx(tmp_path / "model.onnx")
