"""What surrounds a fit to a table with gaps and categories."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline

from skmoe import (
    HierarchicalMixtureForestClassifier,
    HierarchicalMixtureForestRegressor,
    HierarchicalMixtureOfExpertsRegressor,
)
from tests._quick import regressor

N_ROWS = 120
NAMES = np.array(["amber", "blue", "coral"])
NAN = np.nan
SHORT = pytest.mark.filterwarnings("ignore:EM did not converge")


@pytest.fixture
def table(rng):
    """Return a frame with gaps in x, complete z and categories, and a response."""
    code = rng.integers(0, 3, size=N_ROWS)
    x, z = rng.normal(size=(2, N_ROWS))
    y = np.choose(code, [x, 2.0 - x, 3.0 + z]) + 0.2 * rng.normal(size=N_ROWS)
    x = np.where(rng.random(N_ROWS) < 0.15, NAN, x)
    return pd.DataFrame({"x": x, "c": pd.Categorical(NAMES[code]), "z": z}), y


def quick(experts=None, **kwargs):
    return regressor(experts, **({"max_iter": 200} | kwargs))


# -- what surrounds a fit --------------------------------------------------------


def test_missing_everywhere_is_refused(table):
    X, y = table
    for model in (
        quick(),
        HierarchicalMixtureForestRegressor(n_estimators=2),
    ):
        with pytest.raises(ValueError, match="column 'w' of X is missing in every row"):
            model.fit(X.assign(w=NAN), y)
        rare = np.where(np.arange(N_ROWS) < 5, 1.0, NAN)
        with pytest.raises(ValueError, match="column 'w' of X is missing in every row"):
            model.fit(X.assign(w=rare), y, (np.arange(N_ROWS) >= 5).astype(float))


def test_forests(table):
    X, y = table
    X["w"] = np.where(np.arange(N_ROWS) < 2, 1.0, NAN)  # in no bag, or in few
    named = X["c"].astype(object)
    named[:2] = "rare"
    X["c"] = pd.Categorical(named)
    forest = HierarchicalMixtureForestRegressor(
        n_estimators=6, depth=2, random_state=0, oob_score=True
    ).fit(X, y)
    assert forest.score(X, y) > 0.5
    assert np.isfinite(forest.oob_score_)
    new = X[:4].assign(c=pd.Categorical(["violet", None, "amber", "rare"]), w=5.0)
    assert np.isfinite(forest.predict(new)).all()
    coded = np.column_stack([X["x"], X["c"].cat.codes, X["z"], X["w"]])
    again = HierarchicalMixtureForestRegressor(
        n_estimators=6, depth=2, random_state=0, categorical_features=[1]
    ).fit(coded, y)
    assert_allclose(again.predict(coded), forest.predict(X), atol=1e-8)
    classes = HierarchicalMixtureForestClassifier(
        n_estimators=3, depth=1, random_state=0
    )
    classes.fit(X, y > 1.0)
    assert_allclose(classes.predict_proba(new).sum(axis=1), 1.0)
    plain = HierarchicalMixtureForestRegressor(2, experts=Ridge())
    with pytest.raises(ValueError, match="contains NaN: first in column 'x'"):
        plain.fit(X, y)
    with pytest.raises(ValueError, match="contains infinity: first in column 'z'"):
        forest.predict(X.assign(z=np.inf))


def test_search_pipeline_and_clone(table):
    X, y = table
    model = quick(categorical_features=["c"])
    search = GridSearchCV(model, {"n_experts": [1, 2]}, cv=3, error_score="raise")
    assert search.fit(X, y).best_score_ > 0.0
    scores = cross_val_score(make_pipeline("passthrough", model), X, y, cv=3)
    assert np.isfinite(scores).all()
    assert_array_equal(clone(model).fit(X, y).predict(X), model.fit(X, y).predict(X))


def test_pickle_and_processes(table, tmp_path):
    import pickle

    import joblib

    X, y = table
    model = quick(init="auto", n_init=2, n_jobs=2, max_iter=30)
    wanted = model.fit(X, y).predict(X)
    assert_array_equal(pickle.loads(pickle.dumps(model)).predict(X), wanted)
    joblib.dump(model, tmp_path / "model")
    assert_array_equal(joblib.load(tmp_path / "model").predict(X), wanted)
    alone = clone(model).set_params(n_jobs=None).fit(X, y)
    assert_allclose(alone.predict(X), wanted, atol=1e-8)


@pytest.mark.parametrize("tree", [False, True])
def test_warm_start(table, tree):
    X, y = table
    if tree:
        model = HierarchicalMixtureOfExpertsRegressor(
            depth=1, init="kmeans", warm_start=True, max_iter=300
        )
    else:
        model = quick(warm_start=True, max_iter=300)
    first = model.fit(X, y).objective_trace_[-1]
    model.fit(X, y)
    assert_allclose(model.objective_trace_[-1], first, rtol=1e-4)
    others = X["c"].astype(object).replace("amber", "violet")
    for other in (X.assign(z=X["x"]), X.assign(c=pd.Categorical(others))):
        with pytest.raises(ValueError, match=r"warm_start: the last fit is of another"):
            model.fit(other, y)
    model.fit(X[::-1], y[::-1])


def test_explanations_name_the_engines_columns(table):
    X, y = table
    model = HierarchicalMixtureOfExpertsRegressor(
        depth=1, init="kmeans", max_iter=100, random_state=0
    ).fit(X, y)
    explained = model.explain(X[:4])
    text = str(explained)
    assert "x is missing" in text
    assert "c=amber" in text
    rules = model.export_text()
    assert "c=coral" in rules
    assert "z" in rules
    other = model.export_text(feature_names=["long", "kind", "late"])
    assert "kind=coral" in other
    assert "long is missing" in other
    with pytest.raises(ValueError, match="one name for each of the 3 columns, got 2"):
        model.export_text(feature_names=["long", "kind"])
    tree = model.to_tree(X, y)
    assert_allclose(tree.predict(X), model.set_params(pooling="top1").predict(X))


def test_tree_display(table):
    pytest.importorskip("matplotlib")
    from skmoe.inspection import TreeDisplay

    X, y = table
    model = HierarchicalMixtureOfExpertsRegressor(
        depth=1, init="kmeans", max_iter=50, random_state=0
    ).fit(X, y)
    for display in (
        TreeDisplay.from_estimator(model),
        TreeDisplay.from_estimator(model, X, feature_names=["u", "v", "w"]),
    ):
        display.plot()
