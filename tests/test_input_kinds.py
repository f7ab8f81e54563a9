"""Kinds of input: data frames with names, sparse matrices, tensors, missing values."""

import array_api_strict
import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn import config_context
from sklearn.base import clone
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
)
from sklearn.linear_model import Ridge
from sklearn.utils import get_tags

from skmoe import MixtureOfExpertsRegressor
from skmoe.experts import EstimatorExpert, LinearExpert
from skmoe.gates import ClassifierGate, GaussianGate
from tests._quick import classifier, regressor

NAMES = ["age", "dose", "site"]
SPARSE = [sparse.csr_array, sparse.csc_matrix, sparse.coo_array]
FRAMES = [pd.DataFrame, pl.DataFrame]


@pytest.fixture
def rows(rng):
    X = rng.uniform(-2, 2, size=(80, 3))
    return X, np.abs(X[:, 0]) + 0.2 * rng.normal(size=80)


# -- data frames -------------------------------------------------------------------


@pytest.mark.parametrize("frame", FRAMES, ids=["pandas", "polars"])
@pytest.mark.parametrize("expert", [None, Ridge()], ids=["native", "adapted"])
def test_frames(rows, frame, expert):
    X, y = rows
    named = frame(dict(zip(NAMES, X.T, strict=True)))
    series = pd.Series(y) if frame is pd.DataFrame else pl.Series(y)
    model = regressor(expert).fit(named, series, sample_weight=np.ones(80))
    plain = regressor(expert).fit(X, y)
    assert_array_equal(model.feature_names_in_, NAMES)
    assert model.n_features_in_ == 3
    assert not hasattr(plain, "feature_names_in_")
    assert_allclose(model.predict(named), plain.predict(X))
    assert_allclose(model.log_prob(named, series), plain.log_prob(X, y), atol=1e-9)
    assert isinstance(model.predict(named), np.ndarray)
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(named[["dose", "age", "site"]])
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        model.predict(X)


@pytest.mark.parametrize("frame", FRAMES, ids=["pandas", "polars"])
def test_columns_by_name(rows, frame):
    X, y = rows
    named = frame(dict(zip(NAMES, X.T, strict=True)))
    by_name = MixtureOfExpertsRegressor(
        [("a", LinearExpert(), ["site", "age"]), ("b", Ridge(), "dose")],
        gate_features=["age"],
    ).fit(named, y)
    by_place = MixtureOfExpertsRegressor(
        [("a", LinearExpert(), [-1, 0]), ("b", Ridge(), 1)], gate_features=slice(0, 1)
    ).fit(X, y)
    assert_allclose(by_name.predict(named), by_place.predict(X))
    assert by_name.node_.columns == by_place.node_.columns == [[2, 0], [1]]
    assert by_name.gate_.coef_.shape == (2, 1)


def test_classes_from_a_frame(rows):
    X, y = rows
    named = pd.DataFrame(X, columns=NAMES)
    words = pd.Series(np.where(y > 1, "high", "low"), dtype="category")
    model = classifier().fit(named, words)
    assert_array_equal(model.classes_, ["high", "low"])
    assert set(model.predict(named)) == {"high", "low"}
    assert model.score(named, words) > 0.8


def test_integer_columns_and_lists(rows):
    X, y = rows
    whole = np.round(10 * X).astype(np.int64)
    model = regressor().fit(whole.tolist(), y.tolist())
    assert_array_equal(model.predict(whole.tolist()), model.predict(whole))
    small = regressor().fit(X.astype(np.float32), y.astype(np.float32))
    assert small.predict(X.astype(np.float32)).dtype == np.float64


# -- sparse ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", [sparse.csr_array, sparse.csc_matrix, sparse.coo_array]
)
@pytest.mark.parametrize("expert", [None, Ridge()], ids=["native", "adapted"])
def test_sparse_equals_dense(rows, kind, expert):
    X, y = rows
    X = np.where(np.abs(X) < 1, 0.0, X)
    weight = 1.0 + np.arange(80) % 2
    exact = {"gate_features": [0, 2], "max_iter": 8, "acceleration": None}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *args, **kwargs: None)
        thin = regressor(expert, **exact).fit(kind(X), y, sample_weight=weight)
        dense = regressor(expert, **exact).fit(X, y, sample_weight=weight)
    assert_allclose(thin.predict(kind(X)), dense.predict(X), rtol=1e-6)
    assert_allclose(thin.predict(X), thin.predict(kind(X)))
    assert_allclose(thin.log_prob(kind(X), y), thin.log_prob(X, y))
    assert thin.predict_experts(kind(X)).shape == (80, 2)


def test_tags_say_what_the_parts_take():
    def takes(model):
        tags = get_tags(model).input_tags
        return tags.sparse, tags.allow_nan

    boosting = HistGradientBoostingRegressor()
    gate = ClassifierGate(HistGradientBoostingClassifier())
    assert takes(regressor()) == takes(classifier()) == (True, True)
    assert takes(regressor(gate=GaussianGate())) == (False, True)
    assert takes(regressor(boosting)) == (False, True)
    assert takes(regressor(boosting, gate=gate)) == (False, True)
    assert takes(regressor([("a", boosting), ("b", Ridge())], gate=gate)) == (
        False,
        False,
    )
    assert takes(regressor([("a", None), ("b", Ridge())])) == (True, False)
    assert takes(regressor([3])) == (False, False)
    assert get_tags(regressor()).array_api_support
    assert get_tags(regressor()).target_tags.multi_output
    assert get_tags(classifier()).estimator_type == "classifier"


def test_sparse_is_refused_where_a_part_cannot(rows):
    X, y = rows
    with pytest.raises(TypeError, match=r"[Ss]parse"):
        regressor(gate=GaussianGate()).fit(sparse.csr_array(X), y)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_holes_in_sparse_rows(rows, value):
    X, y = rows
    X = np.where(np.abs(X) < 1, 0.0, X)
    X[6, 2] = value
    word = "NaN" if np.isnan(value) else "infinity"
    with pytest.raises(ValueError, match=f"contains {word}: first in column 2, row 6"):
        regressor().fit(sparse.csr_array(X), y)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_missing_values_where_all_parts_take_them(rows):
    X, y = rows
    X[::7, 1] = np.nan
    expert = EstimatorExpert(HistGradientBoostingRegressor(max_iter=5))
    gate = ClassifierGate(HistGradientBoostingClassifier(max_iter=5))
    model = regressor(
        expert, gate=gate, init=(X[:, 0] > 0).astype(int), max_iter=3
    ).fit(X, y)
    assert model.score(X, y) > 0.2
    X[0, 2] = np.inf
    with pytest.raises(ValueError, match="contains infinity: first in column 2"):
        model.predict(X)


# -- arrays of other libraries -----------------------------------------------------

LIBRARIES = {
    "torch": (torch.asarray, torch.Tensor),
    "strict": (array_api_strict.asarray, type(array_api_strict.asarray([0]))),
}


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("expert", [None, Ridge()], ids=["native", "adapted"])
def test_regression_follows_the_kind_of_x(rows, library, expert):
    make, kind = LIBRARIES[library]
    X, y = rows
    plain = regressor(expert).fit(X, y)
    with config_context(array_api_dispatch=True):
        model = regressor(expert).fit(make(X), make(y), sample_weight=make(np.ones(80)))
        found = {
            "predict": model.predict(make(X)),
            "gate_proba": model.gate_proba(make(X)),
            "apply": model.apply(make(X)),
            "predict_experts": model.predict_experts(make(X)),
            "log_prob": model.log_prob(make(X), make(y)),
            "responsibilities": model.responsibilities(make(X), make(y)),
        }
        std = model.predict(make(X), return_std=True)[1]
        total = model.log_likelihood(make(X), make(y), make(np.ones(80)))
        assert isinstance(std, kind)
        assert isinstance(model.objective_trace_, kind)
        assert float(model.score(make(X), make(y))) > 0.8
    for name, value in found.items():
        assert isinstance(value, kind), name
        takes_y = name in ("log_prob", "responsibilities")
        expected = getattr(plain, name)(*((X, y) if takes_y else (X,)))
        assert_allclose(np.asarray(value), expected, err_msg=name)
    assert_allclose(total, plain.log_likelihood(X, y))


@pytest.mark.parametrize("library", LIBRARIES)
def test_classification_follows_the_kind_of_x(rows, library):
    make, kind = LIBRARIES[library]
    X, y = rows
    codes = np.digitize(y, [0.7, 1.3]) * 2
    plain = classifier().fit(X, codes)
    with config_context(array_api_dispatch=True):
        model = classifier().fit(make(X), make(codes))
        for name in ("predict", "predict_proba", "predict_log_proba"):
            value = getattr(model, name)(make(X))
            assert isinstance(value, kind)
            assert_allclose(np.asarray(value), getattr(plain, name)(X), err_msg=name)
        words = classifier().fit(make(X), np.array(["a", "b", "c"])[codes // 2])
        assert words.predict(make(X)).dtype.kind == "U"


def test_another_library_at_prediction_is_an_error(rows):
    X, y = rows
    with config_context(array_api_dispatch=True):
        model = regressor().fit(torch.asarray(X), torch.asarray(y))
        with pytest.raises(ValueError, match="must use the same namespace"):
            model.predict(X)
        model = regressor().fit(X, y)
        with pytest.raises(ValueError, match="must use the same namespace"):
            model.predict(torch.asarray(X))


def test_tensors_that_carry_gradients(rows):
    X, y = rows
    tensor = torch.asarray(X).requires_grad_()
    model = regressor().fit(tensor, torch.asarray(y))
    assert isinstance(model.predict(tensor), torch.Tensor)
    assert_allclose(clone(model).fit(X, y).predict(X), model.predict(tensor).numpy())


def test_failed_fit_of_tensors_keeps_the_old_fit(rows):
    X, y = rows
    make = torch.asarray
    with config_context(array_api_dispatch=True):
        model = regressor().fit(make(X), make(y))
        before, names = model.predict(make(X)), set(vars(model))
        with pytest.raises(ValueError, match="contains infinity"):
            model.fit(make(np.full((80, 2), np.inf)), make(y))
        assert set(vars(model)) == names
        assert torch.equal(model.predict(make(X)), before)


def test_init_as_a_tensor(rows):
    X, y = rows
    labels = (X[:, 0] > 0).astype(int)
    model = regressor(init=torch.asarray(labels)).fit(torch.asarray(X), y)
    assert_allclose(model.predict(X), regressor(init=labels).fit(X, y).predict(X))
