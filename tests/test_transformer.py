"""Mixtures as transformers: gate probabilities are features, with names."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import FeatureUnion, make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import (
    check_set_output_transform,
    check_set_output_transform_pandas,
    check_set_output_transform_polars,
    check_transformer_get_feature_names_out,
    check_transformer_get_feature_names_out_pandas,
)

from skmoe import (
    HierarchicalMixtureForestClassifier,
    HierarchicalMixtureForestRegressor,
    HierarchicalMixtureOfExpertsClassifier,
    HierarchicalMixtureOfExpertsRegressor,
)
from skmoe.experts import LinearExpert, LogisticExpert, PoissonExpert
from tests._quick import classifier, regressor

pd = pytest.importorskip("pandas")

pytestmark = [
    pytest.mark.filterwarnings("ignore::skmoe.exceptions.CollapsedExpertWarning"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]

SHORT = {"init": "kmeans", "random_state": 0, "tol": 1e-3, "max_iter": 20}
FOREST = {"n_estimators": 2, "depth": 2, "max_iter": 3, "random_state": 0}
LOGISTIC = LogisticExpert(9.0)  # the checks' classes are separate
EVERY = [
    regressor(),
    classifier(LOGISTIC, tol=1e-3),
    HierarchicalMixtureOfExpertsRegressor(**SHORT),
    HierarchicalMixtureOfExpertsClassifier(LOGISTIC, **SHORT),
    HierarchicalMixtureForestRegressor(**FOREST),
    HierarchicalMixtureForestClassifier(**FOREST),
]
NAMES = [type(model).__name__ for model in EVERY]


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 2))
    return X, np.abs(X[:, 0]) + X[:, 1] + 0.1 * rng.normal(size=200)


@pytest.fixture(scope="module")
def frame(rows):
    index = [f"row{i}" for i in range(200)]
    return pd.DataFrame(rows[0], columns=["a", "b"], index=index), rows[1]


# -- scikit-learn's checks of transformers that its common ones leave out ----------


# The checks hand over a data frame in one call and an array in the next.
@pytest.mark.filterwarnings("ignore:X .*feature names:UserWarning")
@pytest.mark.parametrize(
    "check",
    [
        check_transformer_get_feature_names_out,
        check_transformer_get_feature_names_out_pandas,
        check_set_output_transform,
        check_set_output_transform_pandas,
        check_set_output_transform_polars,
    ],
)
@pytest.mark.parametrize("model", EVERY, ids=NAMES)
def test_checks_of_names_and_containers(model, check):
    check(type(model).__name__, clone(model))


@pytest.mark.parametrize("model", EVERY, ids=NAMES)
def test_it_says_that_it_is_a_transformer(model):
    tags = get_tags(model)
    assert tags.transformer_tags is not None
    assert tags.estimator_type in ("regressor", "classifier")


# -- what comes out ----------------------------------------------------------------


def test_gate_probabilities_are_the_features(rows):
    X, y = rows
    model = regressor().fit(X, y)
    assert_array_equal(model.transform(X), model.gate_proba(X))
    assert_array_equal(regressor().fit_transform(X, y), model.transform(X))
    assert model.get_feature_names_out().tolist() == ["expert0", "expert1"]


def test_columns_have_the_names_of_the_experts(frame):
    X, y = frame
    model = regressor([("up", LinearExpert()), ("down", LinearExpert())])
    out = model.set_output(transform="pandas").fit_transform(X, y)
    assert out.columns.tolist() == ["up", "down"]
    assert out.index.tolist() == X.index.tolist()
    assert_allclose(out.sum(axis=1), 1.0)
    # Predictions stay what they are.
    assert isinstance(model.predict(X), np.ndarray)
    assert isinstance(model.gate_proba(X), np.ndarray)


def test_polars(rows):
    polars = pytest.importorskip("polars")
    model = regressor().set_output(transform="polars").fit(*rows)
    out = model.transform(rows[0])
    assert isinstance(out, polars.DataFrame)
    assert out.columns == ["expert0", "expert1"]


def test_leaves_of_a_tree(rows):
    tree = HierarchicalMixtureOfExpertsRegressor(**SHORT).fit(*rows)
    assert_array_equal(tree.transform(rows[0]), tree.leaf_proba(rows[0]))
    assert tree.get_feature_names_out().tolist() == tree.expert_names_


def test_leaves_of_a_forest(rows):
    X, y = rows
    forest = HierarchicalMixtureForestRegressor(**FOREST).fit(X, y)
    out, names = forest.transform(X), forest.get_feature_names_out().tolist()
    first = forest.estimators_[0]
    n_leaves = len(first.experts_)
    assert_array_equal(out[:, :n_leaves], first.leaf_proba(X))
    assert_allclose(out.sum(axis=1), 2.0)
    assert names[0] == "tree0_expert0"
    assert names[n_leaves] == "tree1_expert0"
    assert len(set(names)) == out.shape[1]


def test_known_quantities_are_not_asked_for():
    rng = np.random.default_rng(0)
    X, offset = rng.normal(size=(200, 1)), rng.normal(size=200)
    y = rng.poisson(np.exp(np.abs(X[:, 0]) + offset))
    model = regressor(PoissonExpert(), tol=1e-3).fit(X, y, offset=offset)
    assert model.transform(X).shape == (200, 2)


# -- where it goes -----------------------------------------------------------------


def test_a_step_of_a_pipeline(frame):
    X, y = frame
    probe = make_pipeline(StandardScaler(), regressor(), LinearRegression())
    probe.fit(X, y)
    names = probe[:-1].get_feature_names_out()
    assert names.tolist() == ["expert0", "expert1"]
    gate = probe[1].gate_proba(probe[0].transform(X))
    assert_allclose(probe.predict(X), probe[-1].predict(gate))


def test_beside_other_columns(frame):
    X, y = frame
    union = FeatureUnion([("own", "passthrough"), ("regime", regressor())])
    out = union.set_output(transform="pandas").fit_transform(X, y)
    assert out.columns.tolist() == [
        "own__a",
        "own__b",
        "regime__expert0",
        "regime__expert1",
    ]


def test_regimes_help_a_linear_model(rows):
    X = rows[0]
    # The size of x0 decides, which no linear probe of the columns sees.
    outside = np.abs(X[:, 0]) > np.median(np.abs(X[:, 0]))
    mixture = regressor(n_experts=3).fit(X, np.maximum(np.abs(X[:, 0]) - 0.7, 0.0))
    gate = mixture.transform(X)
    linear = cross_val_score(LogisticRegression(), X, outside).mean()
    probed = cross_val_score(LogisticRegression(), gate, outside).mean()
    assert probed > linear + 0.2


def test_a_search_reaches_the_experts(rows):
    probe = make_pipeline(regressor(), LinearRegression())
    grid = {f"{probe.steps[0][0]}__n_experts": [1, 3]}
    search = GridSearchCV(probe, grid, cv=2).fit(rows[0], np.abs(rows[0][:, 0]))
    assert list(search.best_params_.values()) == [3]


def test_weights_are_routed_to_the_step(rows):
    X, y = rows
    weight = np.random.default_rng(0).integers(0, 3, size=200)
    with config_context(enable_metadata_routing=True):
        mixture = regressor().set_fit_request(sample_weight=True)
        last = LinearRegression().set_fit_request(sample_weight=False)
        probe = make_pipeline(mixture, last).fit(X, y, sample_weight=weight)
    wanted = regressor().fit(X, y, sample_weight=weight)
    assert_allclose(probe[0].transform(X), wanted.transform(X))


def test_after_a_function(frame):
    X, y = frame
    squares = FunctionTransformer(np.square, feature_names_out="one-to-one")
    union = make_union(make_pipeline(squares, regressor()), StandardScaler())
    assert union.fit_transform(X, y).shape == (200, 4)


# -- bad input ---------------------------------------------------------------------


@pytest.mark.parametrize("model", EVERY, ids=NAMES)
def test_before_fit(model, rows):
    model = clone(model)
    with pytest.raises(NotFittedError):
        model.transform(rows[0])
    with pytest.raises(NotFittedError):
        model.get_feature_names_out()


def test_other_columns(frame):
    X, y = frame
    model = regressor().fit(X, y)
    with pytest.raises(ValueError, match="feature names"):
        model.transform(X.rename(columns={"a": "c"}))
    with pytest.raises(ValueError, match="input_features is not equal"):
        model.get_feature_names_out(["b", "a"])
