"""What the parts of a mixture see of a table with gaps and categories."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    SplineTransformer,
    StandardScaler,
)

from skmoe import (
    HierarchicalMixtureOfExpertsRegressor,
)
from skmoe._columns import ColumnPlan, check_seen
from skmoe.experts import LinearExpert, LogisticExpert
from skmoe.gates import ConstantGate, GaussianGate, SoftmaxGate
from tests._asserts import assert_climbs
from tests._quick import classifier, regressor

N_ROWS = 120
NAMES = np.array(["amber", "blue", "coral"])
NAN = np.nan
SHORT = pytest.mark.filterwarnings("ignore:EM did not converge")


# -- the plan alone --------------------------------------------------------------


def small_table():
    """Return four rows: a number with a gap, a category, a number, their weights."""
    X = np.array([[1.0, 0.0, 5.0], [NAN, 1.0, 6.0], [3.0, 1.0, 7.0], [8.0, 0.0, 9.0]])
    return X, np.array([1.0, 2.0, 3.0, 2.0])


def plan_of(X, weight, categories=None, names=None, **kwargs):
    return ColumnPlan(X, weight, categories or {}, names, **kwargs)


def test_filled_columns():
    X, weight = small_table()
    plan = plan_of(X, weight, {1: ["a", "b"]}, ["x", "c", "z"])
    assert plan.seen(None, "filled") == [0, 1, 2, 3, 4]
    plan.close()
    assert plan.seen(None, "filled") is None
    assert plan.seen([2, 0], "filled") == [1, 0, 2]  # numbers first
    mean = (1.0 + 3.0 * 3.0 + 2.0 * 8.0) / 6.0
    expected = [[1, 5, 0, 1, 0], [mean, 6, 1, 0, 1], [3, 7, 0, 0, 1], [8, 9, 0, 1, 0]]
    assert_allclose(plan.matrix(X, {}), expected)
    assert plan.engine_names() == ["x", "z", "x is missing", "c=a", "c=b"]
    assert plan.engine_names(["u", "v", "w"])[2:4] == ["u is missing", "v=a"]
    assert not plan.is_plain


def test_ways_share_a_matrix():
    X, weight = small_table()
    plan = plan_of(X, weight, {1: ["a", "b"]})
    filled, gappy = plan.seen(None, "filled"), plan.seen(None, "gaps")
    codes = plan.seen([1, 0], "codes")
    plan.close()
    matrix = plan.matrix(X, {})
    assert_array_equal(
        np.isnan(matrix[:, gappy]).any(axis=1), [False, True, False, False]
    )
    assert_array_equal(
        matrix[:, gappy][:, [0, 2, 1]], np.column_stack([X[:, 0], 1 - X[:, 1], X[:, 2]])
    )
    assert_array_equal(matrix[:, codes], X[:, [1, 0]])
    assert not np.isnan(matrix[:, filled]).any()
    early = plan_of(X, weight)
    early.seen(None, "filled")
    early.close()
    with pytest.raises(RuntimeError, match="was not asked for before"):
        early.seen([0], "gaps")


def test_unseen_categories_and_late_gaps():
    X, weight = small_table()
    # The category had no gaps in fit: its indicators take their means.
    plan = plan_of(X, weight, {1: ["a", "b"]})
    plan.seen(None, "filled")
    plan.close()
    new = np.array([[NAN, NAN, NAN]])
    fill = (1.0 + 9.0 + 16.0) / 6.0
    mean = weight @ X[:, 2] / 8.0
    assert_allclose(plan.matrix(new, {}), [[fill, mean, 1, 3 / 8, 5 / 8]])
    # It had some: the gap is a category of its own.
    X[0, 1] = NAN
    plan = plan_of(X, weight, {1: ["a", "b"]})
    plan.seen([1], "filled")
    plan.close()
    assert_array_equal(plan.matrix(new, {})[0, 3:6], [0.0, 0.0, 1.0])


def test_a_plain_table_is_passed_through():
    X, weight = np.arange(6.0).reshape(3, 2), np.ones(3)
    for way in ("filled", "gaps", "codes"):
        plan = plan_of(X, weight)
        plan.seen(None, way)
        plan.close()
        assert plan.matrix(X, {}) is X
        assert plan.is_plain
        assert plan.layout == 2
    rows = sparse.csr_array(X)
    plan = plan_of(rows, weight)
    plan.seen(None, "filled")
    plan.close()
    assert plan.matrix(rows, {}) is rows


def test_columns_missing_everywhere():
    X, weight = small_table()
    X[:, 2] = NAN
    with pytest.raises(ValueError, match="column 'x2' of X is missing in every row"):
        check_seen(X, None)
    with pytest.raises(ValueError, match="column 'z' of X is missing in every row"):
        check_seen(X, ["x", "c", "z"])
    check_seen(sparse.csr_array(X), None)
    # In a bag of rows that is no error but a constant.
    plan = plan_of(X, weight)
    plan.seen(None, "gaps")
    plan.close()
    later = plan.matrix(np.full((1, 3), 4.0), {})
    assert_array_equal(later[:, plan.columns.index(("filled", 2))], 0.0)


# -- fits on tables with gaps and categories -------------------------------------


@pytest.fixture
def table(rng):
    """Return a frame with gaps in x, complete z and categories, and a response."""
    code = rng.integers(0, 3, size=N_ROWS)
    x, z = rng.normal(size=(2, N_ROWS))
    y = np.choose(code, [x, 2.0 - x, 3.0 + z]) + 0.2 * rng.normal(size=N_ROWS)
    x = np.where(rng.random(N_ROWS) < 0.15, NAN, x)
    return pd.DataFrame({"x": x, "c": pd.Categorical(NAMES[code]), "z": z}), y


def by_hand(table):
    """Return the same columns made by hand."""
    x = table["x"].to_numpy()
    columns = [np.where(np.isnan(x), np.nanmean(x), x), table["z"], np.isnan(x)]
    columns += [table["c"] == name for name in NAMES]
    return np.column_stack(columns).astype(float)


# Of a table by hand: the gate sees no indicators of gaps in numbers.
BY_HAND = {"gate_features": [0, 1, 3, 4, 5]}


def quick(experts=None, **kwargs):
    return regressor(experts, **({"max_iter": 200} | kwargs))


@pytest.mark.parametrize("gate", [SoftmaxGate, ConstantGate])
@pytest.mark.parametrize(
    "experts", [None, make_pipeline(StandardScaler(), LinearExpert())]
)
def test_fit_equals_that_on_columns_by_hand(table, gate, experts, rng):
    X, y = table
    weight = rng.uniform(0.5, 2.0, size=N_ROWS)
    start = rng.integers(0, 2, size=N_ROWS)
    kwargs = {"gate": gate(), "init": start, "max_iter": 500}
    X.loc[X["x"].isna(), "x"] = NAN
    mine = quick(experts, **kwargs).fit(X, y)
    theirs = quick(experts, **kwargs, **BY_HAND).fit(by_hand(X), y)
    assert_allclose(mine.objective_trace_, theirs.objective_trace_, rtol=1e-8)
    assert_allclose(mine.predict(X), theirs.predict(by_hand(X)), atol=1e-6)
    assert_allclose(
        mine.log_likelihood(X, y), theirs.log_likelihood(by_hand(X), y), rtol=1e-8
    )
    weighted = quick(experts, **kwargs).fit(X, y, weight)
    # The fill is a weighted mean: that of the column which the design sees.
    fill = np.average(X["x"].dropna(), weights=weight[X["x"].notna()])
    matrix = by_hand(X)
    matrix[X["x"].isna(), 0] = fill
    theirs = quick(experts, **kwargs, **BY_HAND).fit(matrix, y, weight)
    assert_allclose(
        weighted.objective_trace_[-1], theirs.objective_trace_[-1], rtol=1e-8
    )


@pytest.mark.filterwarnings("ignore:1 of 4 leaves lost their rows")
def test_defaults_and_trees_equal_columns_by_hand(table):
    X, y = table
    for make in (
        lambda: quick(init="auto", n_init=4),
        lambda: HierarchicalMixtureOfExpertsRegressor(
            depth=2, init="kmeans", random_state=0, max_iter=60
        ),
        lambda: HierarchicalMixtureOfExpertsRegressor(
            grow="posterior", max_leaves=3, random_state=0
        ),
    ):
        mine = make().fit(X, y)
        theirs = make().set_params(**BY_HAND).fit(by_hand(X), y)
        assert_allclose(
            mine.objective_trace_[-1], theirs.objective_trace_[-1], rtol=1e-8
        )
        assert_allclose(mine.predict(X), theirs.predict(by_hand(X)), atol=1e-5)


def test_classifier_equals_columns_by_hand(table):
    X, y = table
    target = np.where(y > 1.0, "high", "low")
    # A ridge that is left open is chosen on folds that the rows' contents fix.
    expert = LogisticExpert(alpha=1.0)
    mine = classifier(expert, max_iter=200).fit(X, target)
    theirs = classifier(expert, max_iter=200, **BY_HAND).fit(by_hand(X), target)
    proba = mine.predict_proba(X)
    assert_allclose(proba, theirs.predict_proba(by_hand(X)), atol=1e-6)


def test_unseen_category_gets_the_mean_effect(table):
    X, y = table
    model = quick(n_experts=1).fit(X, y)
    row = X[:1].assign(c=pd.Categorical(["violet"]))
    each = [
        float(
            model.predict(X[:1].assign(c=pd.Categorical([name], categories=NAMES)))[0]
        )
        for name in NAMES
    ]
    share = X["c"].value_counts(normalize=True)[list(NAMES)]
    assert_allclose(model.predict(row), share @ each, rtol=1e-9)
    assert_allclose(model.predict(X[:1].assign(c=pd.Categorical([None]))), share @ each)


def test_gaps_that_fit_did_not_see(table):
    X, y = table
    model = quick(n_experts=1).fit(X, y)
    new = X[:5].copy()
    new["z"] = NAN
    filled = X[:5].assign(z=X["z"].mean())
    assert_allclose(model.predict(new), model.predict(filled), rtol=1e-10)


def test_missing_categories_are_a_category(table):
    X, y = table
    named = X["c"].astype(object)
    named[::6] = None
    X["c"] = pd.Categorical(named)
    y[::6] += 4.0
    model = quick(n_experts=1).fit(X, y)
    assert "c is missing" in model._plan.engine_names()
    new = X[:1].assign(c=pd.Categorical(["violet"]))
    gap = X[:1].assign(c=pd.Categorical([None]))
    seen = X[:1].assign(c=pd.Categorical(["amber"]))
    assert_allclose(model.predict(new), model.predict(gap))
    assert model.predict(gap)[0] > model.predict(seen)[0] + 2.0


def test_rows_of_weight_zero_add_nothing(table):
    X, y = table
    weight = np.ones(N_ROWS)
    weight[:5] = 0.0
    more = X.copy()
    more["c"] = pd.Categorical(["violet"] * 5 + more["c"][5:].tolist())
    more.loc[:4, "z"] = NAN
    model = quick().fit(more, y, weight)
    rest = quick().fit(X[5:], y[5:])
    assert model._plan.engine_names() == rest._plan.engine_names()
    assert_allclose(model.predict(X), rest.predict(X), atol=1e-8)


class Recorder(RegressorMixin, BaseEstimator):
    """Remembers what it was fitted to."""

    def __init__(self, takes_gaps=True):
        self.takes_gaps = takes_gaps

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.takes_gaps
        return tags

    def fit(self, X, y, sample_weight=None):
        self.seen_, self.mean_ = X, np.average(y, weights=sample_weight)
        return self

    def predict(self, X):
        self.asked_ = X
        return np.full(len(X), self.mean_)


@SHORT
def test_estimators_with_gaps_see_codes(table):
    X, y = table
    model = quick(Recorder(), max_iter=3).fit(X, y)
    codes = np.column_stack([X["x"], X["c"].cat.codes, X["z"]])
    for expert in model.experts_:
        assert_array_equal(expert.estimator_.seen_, codes)
    new = X[:3].assign(c=pd.Categorical(["violet", "coral", None]))
    model.predict(new)
    expected = np.column_stack([X["x"][:3], [NAN, 2, NAN], X["z"][:3]])
    assert_array_equal(model.experts_[0].estimator_.asked_, expected)


@SHORT
def test_estimators_without_gaps_see_indicators(table):
    X, y = table
    with pytest.raises(ValueError, match=r"contains NaN: first in column 'x', row"):
        quick(Recorder(False), max_iter=3).fit(X, y)
    whole = X.assign(x=X["x"].fillna(X["x"].mean()))
    model = quick(Recorder(False), max_iter=3).fit(whole, y)
    expected = np.delete(by_hand(whole), 2, axis=1)
    assert_allclose(model.experts_[0].estimator_.seen_, expected)
    # A category that fit did not see is no gap of a number.
    model.predict(whole.assign(c=pd.Categorical(["violet"] * N_ROWS)))


@SHORT
def test_boosting_takes_gaps_and_categories(table):
    X, y = table
    boosting = HistGradientBoostingRegressor(max_iter=10)
    gate = HistGradientBoostingClassifier(max_iter=5)
    for chosen in (None, gate):
        model = quick(boosting, gate=chosen, max_iter=3).fit(X, y)
        assert model.score(X, y) > 0.3
    both = [("a", boosting), ("b", Ridge())]
    with pytest.raises(ValueError, match="contains NaN"):
        quick(both).fit(X, y)


def test_gaussian_gate_sees_gaps_and_linear_experts_do_not(table, rng):
    X, y = table
    numbers = X[["x", "z"]]
    start = rng.integers(0, 2, size=N_ROWS)
    model = quick(gate=GaussianGate(), init=start).fit(numbers, y)
    assert_climbs(model.objective_trace_)
    matrix = model._plan.matrix(numbers.to_numpy(), {})
    view = matrix[:, model.node_.gate_columns]
    assert_array_equal(view, numbers)
    assert_allclose(model.gate_proba(numbers), np.exp(model.gate_.log_proba(view)))
    for k, expert in enumerate(model.experts_):
        filled = matrix[:, model.node_.columns[k]]
        assert filled.shape[1] == 3
        assert np.isfinite(expert.predict_params(filled)).all()
    # One row without anything: the gate's shares.
    nothing = pd.DataFrame({"x": [NAN], "z": [NAN]})
    assert_allclose(model.gate_proba(nothing)[0], model.gate_.weights_, atol=1e-8)


def test_pipelines_as_experts(table):
    X, y = table
    for steps in (
        [StandardScaler()],
        [SimpleImputer(), SplineTransformer(3)],
        [SplineTransformer(3)],
    ):
        model = quick(make_pipeline(*steps, LinearExpert()), max_iter=50)
        model.fit(X[["x", "z"]], y)
        assert np.isfinite(model.predict(X[["x", "z"]])).all()


def test_columns_by_name(table):
    X, y = table
    experts = [
        ("codes", LinearExpert(), ["c"]),
        ("numbers", LinearExpert(), ["z", "x"]),
    ]
    model = quick(experts, gate_features=["c"]).fit(X, y)
    names = model._plan.engine_names()
    seen = [[names[j] for j in columns] for columns in model.node_.columns]
    hot = [f"c={name}" for name in NAMES]
    assert seen == [hot, ["z", "x", "x is missing"]]
    assert [names[j] for j in model.node_.gate_columns] == hot
    assert model.gate_.coef_.shape[1] == 3
    one = X.assign(x=0.0, z=1.0)
    assert np.ptp(model.gate_proba(one), axis=0).max() > 0.1
    by_position = quick(
        [("codes", LinearExpert(), [1]), ("numbers", LinearExpert(), [2, 0])],
        gate_features=[1],
    ).fit(X, y)
    assert_allclose(by_position.predict(X), model.predict(X))


@SHORT
def test_positions_of_numbers_stay_behind_a_transformer(rng):
    X = rng.normal(size=(N_ROWS, 3))
    y = X[:, 1] ** 2
    X[::5, 0] = NAN  # its indicator stands behind the numbers
    square = FunctionTransformer(np.square)
    columns = ColumnTransformer([("s", square, [1])], remainder="drop")
    model = quick(make_pipeline(columns, LinearExpert()), n_experts=1).fit(X, y)
    assert model.score(X, y) > 0.99
