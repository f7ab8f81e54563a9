"""How weights reach an estimator: plans, keywords, draws, folds."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn import config_context
from sklearn.base import BaseEstimator, RegressorMixin, TransformerMixin, clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_diabetes, load_iris
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import (
    AdaBoostRegressor,
    BaggingRegressor,
    RandomForestRegressor,
    StackingRegressor,
    VotingRegressor,
)
from sklearn.feature_selection import RFE
from sklearn.frozen import FrozenEstimator
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel
from sklearn.linear_model import Lars, LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, ShuffleSplit
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputRegressor
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import SVR

from skmoe.experts._rows import make_folds, row_groups, systematic_rows, take_rows
from skmoe.experts._weights import (
    WeightPlan,
    choose_rows,
    fit_rows,
    innermost,
    is_prefit,
    plan_weights,
    set_seeds,
)

SOFT = WeightPlan("soft", ("sample_weight",))
ROWS = WeightPlan("rows")
KNN = KNeighborsRegressor


@pytest.fixture(scope="module")
def diabetes():
    X, y = load_diabetes(return_X_y=True)
    return X[:90], y[:90]


def frozen(estimator=Ridge()):  # noqa: B008  cloned
    X, y = load_diabetes(return_X_y=True)
    return FrozenEstimator(clone(estimator).fit(X, y))


def named(*steps):
    return Pipeline([(f"s{i}", step) for i, step in enumerate(steps)])


@pytest.mark.parametrize(
    ("estimator", "kind", "names"),
    [
        (Ridge(), "soft", ("sample_weight",)),
        (KNN(), "rows", ()),
        (frozen(), "prefit", ()),
        (named(frozen()), "prefit", ()),
        (GaussianProcessRegressor(), "alpha", ("alpha",)),
        (
            named(MinMaxScaler(), GaussianProcessRegressor()),
            "alpha",
            ("s1__alpha",),
        ),
        (
            named(StandardScaler(), Ridge()),
            "soft",
            ("s0__sample_weight", "s1__sample_weight"),
        ),
        (named(MinMaxScaler(), Ridge()), "soft", ("s1__sample_weight",)),
        (named("passthrough", Ridge()), "soft", ("s1__sample_weight",)),
        (named(StandardScaler(), KNN()), "rows", ()),
        (GridSearchCV(Ridge(), {}), "soft", ("sample_weight",)),
        (
            GridSearchCV(named(MinMaxScaler(), Ridge()), {}),
            "soft",
            ("s1__sample_weight",),
        ),
        (GridSearchCV(KNN(), {}), "rows", ()),
        (TransformedTargetRegressor(), "soft", ("sample_weight",)),
        (TransformedTargetRegressor(SVR()), "soft", ("sample_weight",)),
        (TransformedTargetRegressor(KNN()), "rows", ()),
        (VotingRegressor([("a", Ridge()), ("b", SVR())]), "soft", ("sample_weight",)),
        (VotingRegressor([("a", Ridge()), ("b", KNN())]), "rows", ()),
        (StackingRegressor([("a", Ridge())]), "soft", ("sample_weight",)),
        (StackingRegressor([("a", Ridge())], Lars()), "rows", ()),
        (MultiOutputRegressor(SVR()), "soft", ("sample_weight",)),
        (MultiOutputRegressor(KNN()), "rows", ()),
        (BaggingRegressor(KNN()), "soft", ("sample_weight",)),
        (AdaBoostRegressor(KNN()), "rows", ()),
        (OneVsRestClassifier(LogisticRegression()), "routed", ()),
        (OneVsRestClassifier(LinearDiscriminantAnalysis()), "rows", ()),
    ],
)
def test_plan(estimator, kind, names):
    plan = plan_weights(estimator)
    assert (plan.kind, plan.names) == (kind, names)
    expected = "prefit" if kind == "prefit" else "rows"
    assert plan_weights(estimator, "resample").kind == expected


class UnweightedScaler(TransformerMixin, BaseEstimator):
    """Take weights in fit, and have a fit_transform that does not pass them on."""

    def fit(self, X, y=None, sample_weight=None):
        return self

    def transform(self, X):
        return X

    def fit_transform(self, X, y=None):
        return self.fit(X).transform(X)


def test_a_transformer_gets_weights_only_where_fit_transform_passes_them_on():
    plan = plan_weights(named(UnweightedScaler(), Ridge()))
    assert plan.names == ("s1__sample_weight",)


COMPOSITES = [
    Ridge(),
    make_pipeline(StandardScaler(), Ridge()),
    GridSearchCV(make_pipeline(StandardScaler(), Ridge()), {}, cv=2),
    TransformedTargetRegressor(Ridge(), func=np.log, inverse_func=np.exp),
    VotingRegressor([("a", Ridge()), ("b", LinearRegression())]),
    MultiOutputRegressor(Ridge()),
]


@pytest.mark.parametrize("routing", [False, True])
@pytest.mark.parametrize("estimator", COMPOSITES, ids=lambda e: type(e).__name__)
def test_integer_weights_equal_repeated_rows(diabetes, estimator, routing, rng):
    X, y = diabetes
    if isinstance(estimator, MultiOutputRegressor):
        y = np.column_stack([y, X[:, 2]])
    count = rng.integers(0, 4, y.shape[0])
    with config_context(enable_metadata_routing=routing):
        plan = plan_weights(estimator)
        rows, weight = choose_rows(count.astype(float), plan)
        weighted = fit_rows(clone(estimator), plan, X, y, rows, weight)
    repeated = clone(estimator).fit(np.repeat(X, count, axis=0), np.repeat(y, count, 0))
    assert_allclose(weighted.predict(X), repeated.predict(X), rtol=1e-8)
    plain = clone(estimator).fit(X, y)
    assert np.abs(weighted.predict(X) - plain.predict(X)).max() > 1e-3


@pytest.mark.parametrize("routing", [False, True])
def test_composites_that_know_only_routing_get_weights(routing):
    X, y = load_iris(return_X_y=True)
    count = np.where(y == 1, 1, 3)
    estimator = OneVsRestClassifier(LogisticRegression(tol=1e-8, max_iter=1000))
    with config_context(enable_metadata_routing=routing):
        plan = plan_weights(estimator)
        assert plan.kind == "routed"
        rows, weight = choose_rows(count.astype(float), plan)
        weighted = fit_rows(estimator, plan, X, y, rows, weight)
    repeated = clone(estimator).fit(np.repeat(X, count, axis=0), np.repeat(y, count))
    assert_allclose(weighted.predict_proba(X), repeated.predict_proba(X), atol=1e-4)
    plain = clone(estimator).fit(X, y)
    assert np.abs(weighted.predict_proba(X) - plain.predict_proba(X)).max() > 0.01


def test_a_refused_weight_request_stands(diabetes):
    X, y = diabetes
    with config_context(enable_metadata_routing=True):
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        estimator = make_pipeline(scaler, Ridge())
        plan = plan_weights(estimator)
        rows, weight = choose_rows(np.linspace(0, 3, y.size), plan)
        model = fit_rows(estimator, plan, X, y, rows, weight)
    assert_allclose(model[0].mean_, X[rows].mean(axis=0), atol=1e-12)


def test_weights_of_strided_memory_reach_libsvm(diabetes):
    X, y = diabetes
    resp = np.random.default_rng(0).dirichlet([1, 1, 1], y.size)
    rows, weight = choose_rows(resp[:, 1], SOFT)
    assert weight.flags.c_contiguous
    model = fit_rows(SVR(C=100), SOFT, X, y, rows, weight)
    assert model.score(X, y, sample_weight=resp[:, 1]) > 0.1


def test_negligible_rows_are_dropped_and_weights_keep_their_scale():
    weight = np.array([0.0, 2.0, 1e-9, 3.0, 1.0, 0.5, 0.25, 2.5])
    rows, kept = choose_rows(weight, SOFT)
    assert_array_equal(rows, [1, 3, 4, 5, 6, 7])
    assert_array_equal(kept, weight[rows])


def test_a_few_rows_stay_however_light():
    weight = np.array([1.0, 1e-12, 0.0, 1e-11, 1e-13, 1e-14, 1e-15])
    rows, kept = choose_rows(weight, SOFT)
    assert_array_equal(rows, [0, 1, 3, 4, 5])
    assert np.all(kept > 0)


def test_a_draw_has_the_effective_size_and_equal_weights_keep_every_row():
    weight = np.r_[np.ones(60), np.full(40, 1e-3)]
    rows, kept = choose_rows(weight, ROWS)
    assert kept is None
    assert rows.size == 60
    assert (rows < 60).sum() >= 59
    rows, _ = choose_rows(np.r_[np.full(50, 0.25), np.zeros(50)], ROWS)
    assert_array_equal(rows, np.arange(50))
    rows, _ = choose_rows(np.r_[1.0, 0.5, np.zeros(98)], ROWS)
    assert_array_equal(np.bincount(rows), [20, 10])


def test_systematic_draw_has_least_variance(rng):
    weight = rng.gamma(0.5, size=200)
    weight[::7] = 0.0
    expected = 120 * weight / weight.sum()
    for offset in (0.01, 0.5, 0.99):
        rows = systematic_rows(weight, 120, offset)
        count = np.bincount(rows, minlength=200)
        assert np.abs(count - expected).max() < 1.0
        assert np.all(np.diff(rows) >= 0)
        assert count[weight == 0].sum() == 0


class Recorder(RegressorMixin, BaseEstimator):
    """Note what fit gets."""

    def fit(self, X, y, sample_weight=None, extra=None, note=None, table=None):
        self.got_ = {"X": X, "y": y, "extra": extra, "note": note, "table": table}
        return self

    def predict(self, X):
        return np.zeros(len(X))


def test_fit_parameters_with_one_entry_a_row_are_cut(diabetes):
    X, y = diabetes
    weight = np.where(np.arange(y.size) % 2, 1.0, 0.0)
    rows, kept = choose_rows(weight, SOFT)
    params = {"extra": list(range(y.size)), "note": "x" * y.size, "table": X[:3]}
    got = fit_rows(Recorder(), SOFT, X, y, rows, kept, params=params).got_
    assert got["extra"] == list(range(1, y.size, 2))
    assert got["note"] == "x" * y.size
    assert_array_equal(got["table"], X[:3])
    assert_array_equal(got["X"], X[1::2])
    whole = fit_rows(Recorder(), SOFT, X, y, np.arange(y.size), np.ones(y.size))
    assert whole.got_["X"] is X


KERNEL = ConstantKernel(2.0) * RBF(0.1)


@pytest.mark.parametrize("multi", [False, True])
def test_gaussian_process_weights_are_exact(diabetes, rng, multi):
    X, y = diabetes
    y = y - y.mean()
    y = np.column_stack([y, X[:, 2] * 1000]) if multi else y
    count = rng.integers(0, 4, y.shape[0])
    gp = GaussianProcessRegressor(KERNEL, optimizer=None)
    plan = plan_weights(gp)
    rows, weight = choose_rows(count.astype(float), plan)
    weighted = fit_rows(clone(gp), plan, X, y, rows, weight, noise=np.array(0.7))
    repeated = clone(gp).set_params(alpha=0.7)
    repeated.fit(np.repeat(X, count, axis=0), np.repeat(y, count, axis=0))
    # Each of the repeated rows has a noise of its own, the weighted one w-th of it.
    assert_allclose(weighted.predict(X), repeated.predict(X), rtol=1e-8)
    deviation = [m.predict(X, return_std=True)[1] for m in (weighted, repeated)]
    assert_allclose(*deviation, rtol=1e-6)


def test_gaussian_process_keeps_a_noise_that_was_set(diabetes):
    X, y = diabetes
    weight = np.linspace(1, 3, y.size)
    rows = np.arange(y.size)
    for alpha in (0.5, np.linspace(0.1, 1, y.size)):
        gp = GaussianProcessRegressor(KERNEL, alpha=alpha, optimizer=None)
        fit_rows(gp, plan_weights(gp), X, y, rows, weight, noise=99.0)
        assert_allclose(gp.alpha, alpha / weight)


def test_gaussian_process_noise_is_in_the_unit_of_a_normalised_y(diabetes):
    X, y = diabetes
    gp = GaussianProcessRegressor(KERNEL, normalize_y=True, optimizer=None)
    weight = np.ones(y.size)
    fit_rows(gp, plan_weights(gp), X, y, np.arange(y.size), weight, noise=y.var())
    assert_allclose(gp.alpha, 1.0)


def test_seeds_are_set_once_where_there_is_none():
    inner = RandomForestRegressor(random_state=3)
    estimator = make_pipeline(
        StandardScaler(),
        VotingRegressor([("a", RandomForestRegressor()), ("b", inner)]),
    )
    set_seeds(estimator, np.random.RandomState(0))
    params = estimator.get_params()
    assert isinstance(params["votingregressor__a__random_state"], int)
    assert params["votingregressor__b__random_state"] == 3
    again = clone(estimator)
    set_seeds(again, np.random.RandomState(1))
    assert (
        again.get_params()["votingregressor__a__random_state"]
        == (params["votingregressor__a__random_state"])
    )


def test_frozen_parts_keep_their_parameters():
    forest = frozen(RandomForestRegressor(n_estimators=2))
    for estimator in (forest, make_pipeline(forest), VotingRegressor([("a", forest)])):
        set_seeds(estimator, np.random.RandomState(0))
    assert forest.estimator.random_state is None


def test_innermost_looks_through_composites(diabetes):
    X, y = diabetes
    pipe = make_pipeline(StandardScaler(), TransformedTargetRegressor(Ridge()))
    search = GridSearchCV(pipe, {}, cv=2).fit(X, y)
    assert type(innermost(FrozenEstimator(search))) is Ridge
    assert not is_prefit(make_pipeline(StandardScaler(), frozen()))


# -- rows and folds -----------------------------------------------------------------


def test_take_rows_of_every_container(diabetes):
    pd, pl = pytest.importorskip("pandas"), pytest.importorskip("polars")
    X, rows = diabetes[0], np.array([5, 1, 1])
    assert_array_equal(take_rows(pd.DataFrame(X), rows), X[rows])
    assert_array_equal(take_rows(pl.DataFrame(X), rows).to_numpy(), X[rows])
    assert_array_equal(take_rows(sparse.csr_array(X), rows).toarray(), X[rows])
    assert take_rows(list("abcdef"), rows) == ["f", "b", "b"]


@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array, "frame"])
def test_row_groups_find_repeated_rows(rng, container):
    if container == "frame":
        pd = pytest.importorskip("pandas")
        X = pd.DataFrame({"a": list("abcab"), "b": [1.0, 2.0, np.nan, 1.0, 2.0]})
        assert_array_equal(row_groups(X) == row_groups(X)[0], [1, 0, 0, 1, 0])
        return
    X = rng.integers(0, 2, (40, 3)).astype(float)
    X[3, 1] = -0.0
    X[[5, 6]] = [0.0, np.nan, 1.0]
    group = row_groups(container(X))
    for i in range(40):
        same = np.all((X[i] == X) | (np.isnan(X) & np.isnan(X[i])), axis=1)
        assert_array_equal(group == group[i], same)


def test_folds_keep_repeated_rows_together_and_ignore_how_often(rng):
    X = rng.normal(size=(50, 3))
    y = rng.normal(size=50)
    count = rng.integers(0, 4, 50)
    options = {"stratify": False, "seed": 7}
    weighted = make_folds(4, X, y, count, **options)
    twice = np.repeat(np.arange(50), count)
    repeated = make_folds(4, X[twice], y[twice], np.ones(twice.size), **options)
    assert_array_equal(repeated, weighted[twice])
    size = np.bincount(weighted[count > 0])
    assert size.max() - size.min() <= 1
    other = make_folds(4, X, y, count, stratify=False, seed=8)
    assert np.any(other != weighted)


def test_folds_spread_the_classes():
    X, y = load_iris(return_X_y=True)
    rare = np.r_[np.arange(100), 100:108]
    fold = make_folds(True, X[rare], y[rare], np.ones(108), stratify=True, seed=0)
    table = np.array([np.bincount(y[rare][fold == f], minlength=3) for f in range(5)])
    assert table.shape == (5, 3)
    assert (table.max(axis=0) - table.min(axis=0)).max() <= 1


def test_never_more_folds_than_distinct_rows():
    X = np.repeat([[0.0], [1.0]], 10, axis=0)
    fold = make_folds(5, X, X[:, 0], np.ones(20), stratify=False, seed=0)
    assert np.unique(fold).size == 2


def test_a_splitter_gives_the_folds(diabetes):
    X, y = diabetes
    options = {"stratify": False, "seed": 0}
    fold = make_folds(KFold(3), X, y, np.ones(y.size), **options)
    assert_array_equal(fold, np.repeat([0, 1, 2], 30))
    X = np.repeat(X[:30], 3, axis=0)
    fold = make_folds(GroupKFold(3), X, y, np.ones(y.size), **options)
    assert np.all(fold.reshape(30, 3) == fold.reshape(30, 3)[:, :1])
    with pytest.raises(ValueError, match=r"exactly one test set, got \d+ rows in none"):
        make_folds(ShuffleSplit(3, random_state=0), X, y, np.ones(y.size), **options)


def test_recursive_elimination_gets_weights_by_routing(diabetes):
    # RFE forwards keywords of fit, but only with routing: the plan switches it on.
    X, y = diabetes
    estimator = RFE(Ridge(alpha=1e-3), n_features_to_select=3)
    plan = plan_weights(estimator)
    assert plan.kind == "routed"
    rows, kept = choose_rows(np.linspace(0, 3, y.size), plan)
    model = fit_rows(estimator, plan, X, y, rows, kept)
    chosen = X[:, model.support_]
    direct = Ridge(alpha=1e-3).fit(chosen[rows], y[rows], sample_weight=kept)
    assert_allclose(model.predict(X), direct.predict(chosen))
    assert plan_weights(RFE(Lars())).kind == "rows"
