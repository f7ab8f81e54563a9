"""Experts on transformed columns: one fit of the transformer, a native expert."""

import copy
import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn import config_context
from sklearn.base import (
    BaseEstimator,
    TransformerMixin,
    clone,
    is_classifier,
    is_regressor,
)
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.feature_selection import SelectFromModel, SequentialFeatureSelector
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.manifold import TSNE
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline, make_union
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    OneHotEncoder,
    PolynomialFeatures,
    SplineTransformer,
    StandardScaler,
)
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import parametrize_with_checks

from skmoe._protocols import is_parametric
from skmoe.exceptions import ExpertError, NonMonotoneWarning
from skmoe.experts import (
    EstimatorExpert,
    ExpandedExpert,
    LinearExpert,
    LogisticExpert,
)
from skmoe.experts._adapter import as_expert
from tests._asserts import assert_climbs
from tests._quick import classifier, regressor
from tests.experts.expert_suite import ExpertSuite

SPLINE = SplineTransformer(n_knots=5)


# -- the suite of the protocol -------------------------------------------------------


class DenseOnly(ExpertSuite):
    """The transformer takes no sparse rows: the expert must say so."""

    def test_sparse_equals_dense(self, rng):
        X, y, weight = self.rows(rng)
        assert not get_tags(self.make_expert()).input_tags.sparse
        with pytest.raises(TypeError, match=r"[Ss]parse"):
            self.prepared(sparse.csr_array(X), y, weight)


class TestSpline(DenseOnly):
    def make_expert(self):
        return ExpandedExpert(SplineTransformer(n_knots=5), LinearExpert(alpha=2))


class TestQuantileKnotsSeveralOutputs(DenseOnly):
    n_outputs = 3

    def make_expert(self):
        spline = SplineTransformer(n_knots=3, degree=2, knots="quantile")
        return ExpandedExpert(spline, LinearExpert(covariance="diag"))


class TestSparseOutput(DenseOnly):
    def make_expert(self):
        return ExpandedExpert(SplineTransformer(n_knots=4, sparse_output=True))


class TestQuadratic(ExpertSuite):
    # Squares of columns of any scale leave ten digits fewer.
    weight_tol = 1e-7

    def make_expert(self):
        return ExpandedExpert(PolynomialFeatures(2, include_bias=False))


class TestPipelineOfTransformers(ExpertSuite):
    def make_expert(self):
        front = make_pipeline(MaxAbsScaler(), PolynomialFeatures(2))
        return ExpandedExpert(front, LinearExpert(alpha=0.5))


class TestQuadraticLogistic(ExpertSuite):
    n_classes = 3
    # Newton's anchor is found to the tolerance of its objective.
    weight_tol = sparse_tol = 1e-5

    def make_expert(self):
        return ExpandedExpert(
            PolynomialFeatures(2, include_bias=False), LogisticExpert(alpha=1.0)
        )


class TestAdaptedInside(ExpertSuite):
    """An expert without a free vector: the engine keeps copies of it."""

    # Ridge solves sparse systems by iteration.
    sparse_tol = 1e-3

    def make_expert(self):
        front = make_pipeline(MaxAbsScaler(), PolynomialFeatures(2))
        return ExpandedExpert(front, EstimatorExpert(Ridge()))

    # The snapshot of the suite asks for the class; the engine asks the part too.
    def test_parameters_round_trip(self, rng):
        expert = self.fitted(*self.rows(rng))
        assert not is_parametric(expert)
        assert not expert.parametric
        assert is_parametric(ExpandedExpert(SPLINE).fit(*self.rows(rng)[:2]))

    test_any_parameters_give_a_density = test_parameters_round_trip

    def test_snapshot_is_independent(self, rng):
        X, y, weight = self.rows(rng)
        expert = self.fitted(X, y, weight)
        kept, log_prob = copy.copy(expert), expert.log_prob(X, y)
        expert.m_step(X, y, weight * rng.uniform(size=weight.size) ** 4)
        assert np.abs(expert.log_prob(X, y) - log_prob).max() > 1e-6
        np.testing.assert_array_equal(kept.log_prob(X, y), log_prob)


@parametrize_with_checks(
    [
        ExpandedExpert(SplineTransformer(n_knots=4)),
        ExpandedExpert(SplineTransformer(n_knots=4, knots="quantile")),
        ExpandedExpert(KBinsDiscretizer(3)),
        ExpandedExpert(PolynomialFeatures(2), LogisticExpert()),
        ExpandedExpert(make_pipeline(StandardScaler(), SplineTransformer(n_knots=3))),
    ]
)
# KBinsDiscretizer says so where rows are few or a column is constant.
@pytest.mark.filterwarnings("ignore:Feature 0 is constant:UserWarning")
@pytest.mark.filterwarnings("ignore:Bins whose width are too small:UserWarning")
def test_estimator_checks(estimator, check):
    check(estimator)


# -- alone ---------------------------------------------------------------------------


@pytest.fixture
def rows():
    rng = np.random.default_rng(3)
    X = rng.uniform(-3.0, 3.0, size=(120, 2))
    y = np.sin(2.0 * X[:, 0]) + 0.3 * X[:, 1] ** 2 + 0.1 * rng.normal(size=120)
    return X, y, rng.uniform(0.1, 3.0, size=120)


@pytest.mark.parametrize(
    "transformer",
    [
        SPLINE,
        PolynomialFeatures(3),
        KBinsDiscretizer(4),
        Nystroem(n_components=8),
        make_pipeline(StandardScaler(), SPLINE),
        make_pipeline("passthrough"),
        make_union(SPLINE, PCA(1)),
        ColumnTransformer([("wavy", SPLINE, [0]), ("as it is", "passthrough", [1])]),
        FunctionTransformer(np.tanh),
        FunctionTransformer(),
        PCA(1),
    ],
    ids=str,
)
def test_it_is_the_expert_on_transformed_columns(rows, transformer):
    X, y, weight = rows
    expert = ExpandedExpert(transformer, LinearExpert(alpha=0.3)).fit(X, y, weight)
    expanded = expert.transformer_.transform(X)
    alone = LinearExpert(alpha=0.3).fit(expanded, y, weight)
    np.testing.assert_allclose(expert.predict(X), alone.predict(expanded), rtol=1e-12)
    np.testing.assert_allclose(expert.expert_.coef_, alone.coef_)
    assert expert.dispersion == pytest.approx(alone.dispersion, rel=1e-12)
    assert expert.n_parameters == alone.n_parameters
    assert expert.score(X, y, weight) == pytest.approx(
        alone.score(expanded, y, weight), rel=1e-12
    )


def test_fit_is_prepare_and_one_step(rows):
    X, y, weight = rows
    alone = ExpandedExpert(SPLINE).fit(X, y, weight)
    part = ExpandedExpert(SPLINE)
    part.prepare(X, y, weight)
    part.fit_alone(X, y, weight)
    np.testing.assert_allclose(part.parameters, alone.parameters, rtol=1e-12)
    assert alone.n_features_in_ == 2
    assert part.exact_m_step
    assert not part.collapsed


def test_logistic_alone(rows):
    X, y, weight = rows
    y = np.array(["low", "mid", "high"])[np.digitize(y, [0.3, 1.2])]
    expert = ExpandedExpert(SPLINE, LogisticExpert(alpha=0.1)).fit(X, y, weight)
    expanded = expert.expand(X)
    alone = LogisticExpert(alpha=0.1).fit(expanded, y, weight)
    assert expert.classes_.tolist() == ["high", "low", "mid"]
    np.testing.assert_allclose(expert.predict_proba(X), alone.predict_proba(expanded))
    assert (expert.predict(X) == alone.predict(expanded)).all()
    assert expert.score(X, y) == np.mean(expert.predict(X) == y) > 0.8
    assert expert.dispersion is None


def test_kinds():
    line, logistic = ExpandedExpert(SPLINE), ExpandedExpert(SPLINE, LogisticExpert())
    assert is_regressor(line)
    assert not is_classifier(line)
    assert is_classifier(logistic)
    assert not is_regressor(logistic)
    assert not hasattr(line, "predict_proba")
    assert hasattr(logistic, "predict_proba")
    assert not hasattr(line, "classes_")
    assert get_tags(line).target_tags.multi_output
    assert not get_tags(logistic).target_tags.multi_output
    assert get_tags(ExpandedExpert(PolynomialFeatures())).input_tags.sparse
    assert get_tags(ExpandedExpert(SimpleImputer())).input_tags.allow_nan
    # The kind may change between two fits.
    X, y = np.arange(20.0)[:, None], np.arange(20) % 2
    line.fit(X, y).set_params(expert=LogisticExpert(alpha=1.0))
    assert is_classifier(line.fit(X, y))
    assert line.predict_proba(X).shape == (20, 2)


def test_data_frames_reach_the_transformer(rows):
    X, y, weight = rows
    kind = np.array(["ash", "oak"])[(X[:, 1] > 0).astype(int)]
    frame = pd.DataFrame({"x": X[:, 0], "kind": kind})
    front = ColumnTransformer([("x", SPLINE, ["x"]), ("k", OneHotEncoder(), ["kind"])])
    expert = ExpandedExpert(front).fit(frame, y + 3 * (kind == "oak"), weight)
    assert expert.feature_names_in_.tolist() == ["x", "kind"]
    assert expert.score(frame, y + 3 * (kind == "oak")) > 0.75
    weight[:50] = 0.0
    some = clone(expert).fit(frame, y, weight)
    again = clone(expert).fit(frame[50:], y[50:], weight[50:])
    np.testing.assert_array_equal(some.predict(frame), again.predict(frame))
    with pytest.raises(ValueError, match="feature names should match"):
        expert.predict(frame.rename(columns={"x": "z"}))


def test_output_of_transformers_as_frames(rows):
    X, y, _ = rows
    plain = ExpandedExpert(SPLINE).fit(X, y)
    with config_context(transform_output="pandas"):
        framed = ExpandedExpert(SPLINE).fit(X, y)
        assert isinstance(framed.expand(X), np.ndarray)
    np.testing.assert_array_equal(framed.predict(X), plain.predict(X))


def test_sparse_output_is_csr(rows):
    X, y, _ = rows
    thin = ExpandedExpert(KBinsDiscretizer(4, encode="onehot")).fit(X, y)
    expanded = thin.expand(X)
    assert isinstance(expanded, sparse.csr_array)
    assert expanded.dtype == np.float64
    dense = ExpandedExpert(KBinsDiscretizer(4, encode="onehot-dense")).fit(X, y)
    np.testing.assert_allclose(thin.predict(X), dense.predict(X), rtol=1e-10)


# -- weights and seeds ---------------------------------------------------------------


class Spy(TransformerMixin, BaseEstimator):
    """Count fits and transforms, and keep the weights of the last fit."""

    def fit(self, X, y=None, sample_weight=None):
        self.seen_, self.n_transforms_ = sample_weight, 0
        return self

    def transform(self, X):
        self.n_transforms_ += 1
        return np.asarray(X)


@pytest.mark.parametrize(
    ("outer", "spy"),
    [
        (lambda spy: spy, lambda t: t),
        (lambda spy: make_pipeline(PCA(2), spy, PCA(2)), lambda t: t[1]),
        (lambda spy: make_union(PCA(1), spy), lambda t: t.transformer_list[1][1]),
        (
            lambda spy: ColumnTransformer([("s", spy, [0, 1])]),
            lambda t: t.named_transformers_["s"],
        ),
    ],
    ids=["bare", "pipeline", "union", "columns"],
)
def test_weights_reach_what_takes_them(rows, outer, spy):
    X, y, weight = rows
    weight[:7] = 0.0
    expert = ExpandedExpert(outer(Spy()))
    given = expert.transformer
    for fit in (expert.fit, expert.prepare):
        fit(X, y, weight)
        np.testing.assert_array_equal(spy(expert.transformer_).seen_, weight[7:])
        assert given is expert.transformer
    with config_context(enable_metadata_routing=True):
        refused = outer(Spy().set_fit_request(sample_weight=False))
    expert = ExpandedExpert(refused).fit(X, y, weight)
    assert spy(expert.transformer_).seen_ is None


def test_weights_move_quantile_knots(rows):
    X, y, _ = rows
    quantile = SplineTransformer(n_knots=4, knots="quantile")
    weight = np.where(X[:, 0] > 2.0, 50.0, 1.0)
    expert = ExpandedExpert(quantile).fit(X, y, weight)
    own = clone(quantile).fit(X, sample_weight=weight)
    np.testing.assert_array_equal(expert.expand(X), own.transform(X))
    assert np.abs(expert.expand(X) - clone(quantile).fit(X).transform(X)).max() > 0.1


@pytest.mark.parametrize(
    "transformer",
    [PCA(2), SequentialFeatureSelector(LinearRegression(), n_features_to_select=1)],
    ids=["takes none", "would pass them on to a scorer"],
)
def test_the_rest_is_fitted_without_weights(rows, transformer):
    X, y, weight = rows
    expert = ExpandedExpert(transformer).fit(X, y, weight)
    own = clone(transformer).fit(X, y)
    np.testing.assert_allclose(expert.expand(X), own.transform(X), atol=1e-12)


def test_transformers_may_look_at_the_response(rows):
    X, _, weight = rows
    select = SelectFromModel(LinearRegression(), max_features=1, threshold=-np.inf)
    expert = ExpandedExpert(select).fit(X, 5.0 * X[:, 1], weight)
    np.testing.assert_array_equal(expert.expand(X), X[:, 1:])


def test_clones_share_their_random_columns(rows):
    X, y, weight = rows
    expert = ExpandedExpert(Nystroem(n_components=6))
    one, other = clone(expert), clone(expert)
    one.prepare(X, y, weight)
    other.prepare(X, y, weight)
    np.testing.assert_array_equal(one.expand(X), other.expand(X))
    assert expert.transformer.random_state is None
    own = ExpandedExpert(Nystroem(n_components=6, random_state=5)).fit(X, y)
    assert own.transformer_.random_state == 5


def test_frozen_transformers_stay(rows):
    X, y, weight = rows
    scaler = StandardScaler().fit(X + 100.0)
    expert = ExpandedExpert(make_pipeline(FrozenEstimator(scaler), SPLINE))
    expert.fit(X, y, weight)
    assert expert.transformer_[0].estimator is scaler
    np.testing.assert_allclose(scaler.mean_, X.mean(axis=0) + 100.0)
    assert scaler.get_metadata_routing().fit.requests == {"sample_weight": None}


# -- state ---------------------------------------------------------------------------


def test_training_rows_are_transformed_once(rows):
    X, y, weight = rows
    expert = ExpandedExpert(Spy())
    expert.prepare(X, y, weight)
    for _ in range(3):
        expert.m_step(X, y, weight)
        expert.log_prob(X, y)
        expert.predict_params(X)
    assert expert.transformer_.n_transforms_ == 1
    assert expert.expand(X) is expert.expand(X)
    expert.log_prob(X.copy(), y)
    assert expert.transformer_.n_transforms_ == 2
    expert.prepare(X, y, weight)
    assert expert.transformer_.n_transforms_ == 1
    expert.log_prob(X.copy(), y)
    half = X[:60].copy()
    expert.m_step(half, y[:60], weight[:60])
    expert.log_prob(half, y[:60])
    assert expert.transformer_.n_transforms_ == 3
    twin = copy.copy(expert)
    twin.log_prob(half, y[:60])
    assert expert.transformer_.n_transforms_ == 3
    expert.finish()
    assert len(pickle.dumps(expert)) == len(pickle.dumps(twin)) < X.nbytes + 4000
    expert.log_prob(half, y[:60])
    assert expert.transformer_.n_transforms_ == 4


def test_copies_have_kernels_of_their_own(rows):
    """The engine prepares one expert and gives its copies other kernels."""
    X, y, weight = rows
    first = ExpandedExpert(SPLINE)
    first.prepare(X, y, weight)
    first.m_step(X, y, weight)
    before = first.predict_params(X)
    part = copy.copy(first)
    assert part.transformer_ is first.transformer_
    part.kernel_ = copy.copy(first.kernel_)
    part.kernel_.coef = first.kernel_.coef + 1.0
    part.dispersion = 7.0
    np.testing.assert_array_equal(first.predict_params(X), before)
    assert np.abs(part.predict_params(X) - before).max() > 0.5
    assert part.expert_.kernel_ is part.kernel_
    assert first.dispersion != part.dispersion == 7.0


def test_native_and_design(rows):
    X, y, weight = rows
    inner = LinearExpert(alpha=3.0)
    expert = ExpandedExpert(SPLINE, inner)
    assert expert.native is inner
    assert isinstance(ExpandedExpert(SPLINE).native, LinearExpert)
    expert.prepare(X, y, weight)
    assert expert.native is expert.expert_
    assert expert.native is not inner
    assert expert.design_.n_columns == expert.expand(X).shape[1] + 1 == 15


def test_parameters_are_nested(rows):
    expert = ExpandedExpert(make_pipeline(StandardScaler(), SPLINE), LinearExpert())
    expert.set_params(expert__alpha=9.0, transformer__splinetransformer__n_knots=7)
    params = clone(expert).get_params()
    assert params["expert__alpha"] == 9.0
    assert params["transformer__splinetransformer__n_knots"] == 7
    assert clone(expert).fit(*rows[:2]).expert_.alpha == 9.0


def test_pickle_and_not_fitted(rows):
    X, y, weight = rows
    expert = ExpandedExpert(SPLINE)
    for method in (expert.predict, expert.predict_params, expert.expand):
        with pytest.raises(NotFittedError, match="not fitted yet"):
            method(X)
    again = pickle.loads(pickle.dumps(expert.fit(X, y, weight)))
    np.testing.assert_array_equal(again.predict(X), expert.predict(X))


# -- bad input -----------------------------------------------------------------------


class Half(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return X[::2]


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ((SplineTransformer,), TypeError, r"transformer must be an instance.*<class"),
        (("spline",), TypeError, "transformer must be an instance.*got 'spline'"),
        ((None,), TypeError, "transformer must be an instance.*got None"),
        ((TSNE(),), TypeError, r"transformer must be an instance .*got TSNE\(\)"),
        ((Ridge(),), TypeError, r"with fit and transform.*got Ridge\(\)"),
        ((SPLINE, Ridge()), TypeError, r"expert must be .*got Ridge\(\).*a Pipeline"),
        ((SPLINE, LinearExpert), TypeError, "expert must be .*got <class"),
        ((SPLINE, "line"), TypeError, "expert must be .*got 'line'"),
        ((SPLINE, FrozenEstimator(LinearExpert())), TypeError, "got FrozenEstimator"),
        ((SPLINE, LinearExpert(alpha=-1)), ValueError, "alpha must be .* got -1"),
        ((Half(),), ValueError, "Half returned 60 rows for 120; use .* every row"),
        ((FunctionTransformer(np.log),), ValueError, r"returned \d+ values .*NaN"),
        (
            (FunctionTransformer(lambda X: np.full(X.shape, "a")),),
            ValueError,
            "could not convert string to float",
        ),
        (
            (FunctionTransformer(lambda X: X[:, :0]),),
            ValueError,
            r"with 0 feature\(s\)",
        ),
    ],
)
def test_bad_parts(rows, options, error, match):
    X, y, weight = rows
    with np.errstate(invalid="ignore"):
        with pytest.raises(error, match=match):
            ExpandedExpert(*options).fit(X, y)
        with pytest.raises(error, match=match):
            ExpandedExpert(*options).prepare(X, y, weight)
        with pytest.raises((error, ExpertError), match=match):
            regressor(ExpandedExpert(*options)).fit(X, y)


def test_new_rows_outside_the_domain(rows):
    X, y, _ = rows
    expert = ExpandedExpert(FunctionTransformer(np.sqrt)).fit(X + 4.0, y)
    with (
        np.errstate(invalid="ignore"),
        pytest.raises(ValueError, match="FunctionTransformer returned 1 values"),
    ):
        expert.predict([[-1.0, 2.0]])


def test_rows_that_do_not_match(rows):
    X, y, _ = rows
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        ExpandedExpert(SPLINE).fit(X, y[:-1])
    with pytest.raises(ValueError, match="requires y to be passed"):
        ExpandedExpert(SPLINE).fit(X, None)
    with pytest.raises(ValueError, match=r"fit parameters, got .'groups'"):
        ExpandedExpert(SPLINE).set_fit_params({"groups": y})
    ExpandedExpert(SPLINE).set_fit_params({})


# -- pipelines become expanded experts -----------------------------------------------


@pytest.mark.parametrize("last", [LinearExpert(), LogisticExpert()], ids=str)
def test_a_pipeline_with_a_native_end(last):
    expert = as_expert(Pipeline([("spline", SPLINE), ("last", last)]))
    assert isinstance(expert, ExpandedExpert)
    assert expert.transformer is SPLINE
    assert expert.expert is last
    front = [("scale", StandardScaler()), ("spline", SPLINE)]
    expert = as_expert(Pipeline([*front, ("last", last)], memory="cache"))
    assert isinstance(expert.transformer, Pipeline)
    assert expert.transformer.steps == front
    assert expert.transformer.memory == "cache"
    assert as_expert(Pipeline([("last", last)])) is last
    unchanged = as_expert(make_pipeline("passthrough", last))
    assert isinstance(unchanged.transformer, Pipeline)


class Busy(Pipeline):
    """A pipeline with a mind of its own."""


@pytest.mark.parametrize(
    "pipeline",
    [
        make_pipeline(SPLINE, Ridge()),
        make_pipeline(SPLINE, FrozenEstimator(LinearExpert())),
        Busy([("spline", SPLINE), ("linear", LinearExpert())]),
    ],
    ids=["Ridge", "frozen", "subclass"],
)
def test_other_pipelines_are_adapted(pipeline):
    assert type(as_expert(pipeline)) is EstimatorExpert


def test_a_frozen_expert_is_not_refitted(rows):
    X, y, weight = rows
    line = LinearExpert().fit(X, y)
    expert = as_expert(FrozenEstimator(line))
    assert type(expert) is EstimatorExpert
    expert.prepare(X, -y, weight)
    expert.m_step(X, -y, weight)
    np.testing.assert_allclose(expert.predict_params(X), line.predict(X))


# -- in a mixture --------------------------------------------------------------------


@pytest.fixture
def waves():
    """Two curves, one on each side of a line through the square."""
    rng = np.random.default_rng(5)
    X = rng.uniform(-3.0, 3.0, size=(240, 2))
    left = X.sum(axis=1) < 0
    y = np.where(left, np.sin(2.0 * X[:, 0]), 2.0 - 0.5 * X[:, 0] ** 2)
    labels = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0)
    return X, y + 0.1 * rng.normal(size=240), labels


def test_mixture_climbs(waves):
    X, y, _ = waves
    expert = ExpandedExpert(SPLINE, LinearExpert(alpha=2))
    model = regressor(expert, tol=1e-9, init=(X.sum(axis=1) < 0).astype(int))
    with warnings.catch_warnings():
        warnings.simplefilter("error", NonMonotoneWarning)
        model.fit(X, y)
    assert_climbs(model.objective_trace_)
    assert model.score(X, y) > 0.9
    assert model.gate_.coef_.shape[1] == 2
    assert model.node_.exact_m_step
    # A line in each region cannot follow the curves.
    assert regressor(n_experts=2).fit(X, y).score(X, y) < 0.8


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("named", [False, True])
def test_mixture_equals_columns_made_by_hand(waves, weighted, shared, named):
    """Both as clones, which the engine may fuse, and as experts of their own."""
    X, y, labels = waves
    expert = ExpandedExpert(SPLINE, LinearExpert(alpha=2))
    weight = np.linspace(0.0, 2.0, y.size) if weighted else None
    options = {
        "init": labels > 0,
        "n_experts": 2,
        "tol": 1e-10,
        "max_iter": 3000,
        "acceleration": None,
        "shared_dispersion": shared,
    }
    experts = [("a", expert), ("b", expert)] if named else expert
    model = regressor(experts, **options).fit(X, y, sample_weight=weight)
    own = clone(SPLINE).fit(X[1:] if weighted else X)
    wide = np.hstack([X, own.transform(X)])
    columns = range(2, wide.shape[1])
    experts = [(f"e{k}", LinearExpert(alpha=2), columns) for k in range(2)]
    other = regressor(experts, gate_features=[0, 1], **options)
    other.fit(wide, y, sample_weight=weight)
    ours = model.log_likelihood(X, y, sample_weight=weight)
    assert ours == pytest.approx(
        other.log_likelihood(wide, y, sample_weight=weight), abs=1e-8
    )
    assert model.n_parameters_ == other.n_parameters_
    before, after = model.objective_trace_[-1], other.objective_trace_[-1]
    assert before == pytest.approx(after, abs=1e-8)
    np.testing.assert_allclose(model.predict(X), other.predict(wide), atol=1e-6)


def test_classifier(waves):
    X, y, labels = waves
    codes = np.array(["a", "b", "c"])[np.digitize(y, [-0.3, 0.8])]
    inner = LogisticExpert(alpha=1.0)
    model = classifier(ExpandedExpert(SPLINE, inner), init=labels > 0).fit(X, codes)
    own = clone(SPLINE).fit(X)
    wide = np.hstack([X, own.transform(X)])
    experts = [(f"e{k}", inner, range(2, wide.shape[1])) for k in range(2)]
    other = classifier(experts, gate_features=[0, 1], init=labels > 0)
    other.fit(wide, codes)
    np.testing.assert_allclose(
        model.objective_trace_[-1], other.objective_trace_[-1], rtol=1e-6
    )
    assert model.score(X, codes) > 0.85
    assert model.predict_proba(X).shape == (240, 3)


def test_pipeline_in_a_mixture(waves):
    X, y, _ = waves
    pipe = Pipeline([("spline", SplineTransformer()), ("linear", LinearExpert())])
    model = regressor(pipe)
    model.set_params(experts__linear__alpha=7.0, experts__spline__n_knots=4)
    model.fit(X, y)
    assert pipe.named_steps["linear"].alpha == 7.0
    assert model.get_params()["experts__spline__n_knots"] == 4
    first = model.experts_[0]
    assert isinstance(first, ExpandedExpert)
    assert first.expert_.alpha == 7.0
    assert first.transformer_.n_knots == 4
    same = regressor(
        ExpandedExpert(SplineTransformer(n_knots=4), LinearExpert(alpha=7.0))
    ).fit(X, y)
    np.testing.assert_array_equal(same.predict(X), model.predict(X))
    # The parts can be used, and what they remember of the rows is gone.
    assert first.predict(X).shape == y.shape
    assert len(pickle.dumps(model)) < 40 * X.nbytes


def test_unlike_experts_in_one_mixture(waves):
    X, y, labels = waves
    experts = [
        ("wavy", make_pipeline(SPLINE, LinearExpert()), [0]),
        ("bent", ExpandedExpert(PolynomialFeatures(2))),
        ("ridge", ExpandedExpert(SPLINE, EstimatorExpert(Ridge(0.1)))),
    ]
    model = regressor(experts, init=labels, max_iter=200, tol=1e-5)
    model.set_params(wavy__linearexpert__alpha=4.0).fit(X, y)
    assert model.experts_[0].expert_.alpha == 4.0
    assert model.score(X, y) > 0.8


def test_grid_search(waves):
    X, y, _ = waves
    model = regressor(ExpandedExpert(SplineTransformer(), LinearExpert()))
    grid = {"experts__transformer__n_knots": [2, 6], "experts__expert__alpha": [0.5]}
    search = GridSearchCV(model, grid, cv=3).fit(X, y)
    scores = search.cv_results_["mean_test_score"]
    assert np.isfinite(scores).all()
    assert search.best_params_["experts__transformer__n_knots"] == 6
    assert search.best_estimator_.experts_[0].expert_.alpha == 0.5


def test_stack(waves):
    X, y, _ = waves
    experts = [("wavy", ExpandedExpert(SPLINE)), ("line", LinearExpert())]
    model = regressor(experts, algorithm="stack").fit(X, y)
    assert model.score(X, y) > 0.5
