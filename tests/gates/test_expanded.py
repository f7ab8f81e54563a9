"""Gates on transformed columns: one fit of the transformer, any gate behind it."""

import copy
import pickle

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.kernel_approximation import RBFSampler
from sklearn.linear_model import LogisticRegression
from sklearn.manifold import TSNE
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    PolynomialFeatures,
    SplineTransformer,
    StandardScaler,
)
from sklearn.utils import get_tags

from skmoe import MixtureOfExpertsRegressor
from skmoe._arguments import resolve_gate
from skmoe._protocols import is_parametric
from skmoe._tree import Tree
from skmoe.gates import (
    ClassifierGate,
    ConstantGate,
    ExpandedGate,
    GaussianGate,
    SoftmaxGate,
)
from skmoe.gates._tree import GateTree, is_generative, single_gate, softmax_gates
from tests._asserts import assert_climbs
from tests.gates.gate_suite import GateSuite, objective

QUADRATIC = PolynomialFeatures(2, include_bias=False)


class TestQuadratic(GateSuite):
    # Squares of columns of any scale leave ten digits fewer.
    weight_tol = 1e-7

    def make_gate(self):
        return ExpandedGate(QUADRATIC)


class TestSplineLasso(GateSuite):
    weight_tol = 1e-6

    def make_gate(self):
        return ExpandedGate(
            SplineTransformer(n_knots=4), SoftmaxGate(0.5, l1_ratio=0.9)
        )


class TestPipelineOfTransformers(GateSuite):
    def make_gate(self):
        front = make_pipeline(MaxAbsScaler(), SplineTransformer(n_knots=3))
        return ExpandedGate(front, SoftmaxGate(0.3))


class TestGaussianInside(GateSuite):
    def make_gate(self):
        return ExpandedGate(MaxAbsScaler(), GaussianGate())


class TestConstantInside(GateSuite):
    cross_entropy_left = 1.0

    def make_gate(self):
        return ExpandedGate(MaxAbsScaler(), ConstantGate(alpha=0.5))


class TestClassifierInside(GateSuite):
    weight_tol = 1e-5

    def make_gate(self):
        inner = LogisticRegression(C=10.0, tol=1e-8, max_iter=500)
        return ExpandedGate(MaxAbsScaler(), ClassifierGate(inner))


class Counting(TransformerMixin, BaseEstimator):
    """Squares, and how often they were asked for."""

    calls = 0

    def fit(self, X, y=None):
        self.n_rows_ = X.shape[0]
        return self

    def transform(self, X):
        Counting.calls += 1
        return np.hstack([X, X**2])


@pytest.fixture
def ring():
    """Rows inside and outside of a circle: no linear gate tells them apart."""
    rng = np.random.default_rng(1)
    X = rng.uniform(-2.0, 2.0, size=(400, 2))
    inside = (X**2).sum(axis=1) < 1.5
    resp = 0.9 * np.eye(2)[inside.astype(int)] + 0.05
    return X, resp, rng.uniform(0.5, 2.0, size=400)


def fitted(gate, X, resp, weight, n_steps=8):
    gate.prepare(X, weight, resp.shape[1])
    for _ in range(n_steps):
        gate.m_step(X, resp, weight)
    return gate


# -- the same gate on columns expanded by hand -------------------------------------


@pytest.mark.parametrize(
    "inner", [SoftmaxGate(0.1), SoftmaxGate(3.0, l1_ratio=1.0), GaussianGate()]
)
def test_equals_the_inner_gate_on_expanded_columns(ring, inner):
    X, resp, weight = ring
    expanded = QUADRATIC.fit_transform(X)
    bare = fitted(clone(inner), expanded, resp, weight)
    gate = fitted(ExpandedGate(QUADRATIC, inner), X, resp, weight)
    new = np.random.default_rng(2).normal(size=(30, 2))
    for rows in (X, new):
        for method in ("log_proba", "log_joint"):
            np.testing.assert_array_equal(
                getattr(gate, method)(rows),
                getattr(bare, method)(QUADRATIC.transform(rows)),
            )
    assert gate.penalty == bare.penalty
    assert gate.n_parameters == bare.n_parameters
    assert gate.exact_m_step == bare.exact_m_step
    assert is_generative(gate) == is_generative(bare)
    np.testing.assert_array_equal(gate.parameters, bare.parameters)


def test_borders_may_bend(ring):
    X, resp, weight = ring
    label = resp.argmax(axis=1)
    bent = fitted(ExpandedGate(SplineTransformer()), X, resp, weight)
    straight = fitted(SoftmaxGate(), X, resp, weight)
    assert (bent.log_proba(X).argmax(axis=1) == label).mean() > 0.95
    assert (straight.log_proba(X).argmax(axis=1) == label).mean() < 0.8


def test_lasso_picks_the_bends(ring):
    """Of all products of degree four the circle needs two."""
    X, resp, weight = ring
    front = make_pipeline(StandardScaler(), PolynomialFeatures(4, include_bias=False))
    gate = ExpandedGate(front, SoftmaxGate(25.0, l1_ratio=1.0))
    fitted(gate, X, resp, weight, 20)
    names = gate.transformer_.get_feature_names_out()
    used = set(names[(gate.gate_.coef_ != 0).any(axis=0)])
    assert {"x0^2", "x1^2"} <= used
    assert len(used) <= 5


# -- the transformer ---------------------------------------------------------------


def test_training_rows_are_transformed_once(ring):
    X, resp, weight = ring
    Counting.calls = 0
    gate = fitted(ExpandedGate(Counting()), X, resp, weight, 5)
    gate.log_joint(X)
    gate.log_proba(X)
    assert Counting.calls == 1
    gate.log_proba(X.copy())
    assert Counting.calls == 2
    gate.finish()
    gate.log_proba(X)
    gate.log_proba(X)
    assert Counting.calls == 4


def test_other_rows_are_not_taken_for_the_training_rows(ring):
    X, resp, weight = ring
    gate = fitted(ExpandedGate(QUADRATIC), X, resp, weight)
    part = gate.log_proba(X[:5])
    np.testing.assert_allclose(part, gate.log_proba(X)[:5], rtol=1e-12)
    gate.m_step(X[50:], resp[50:], weight[50:])
    assert gate.log_proba(X).shape == (400, 2)


def test_rows_without_weight_are_not_fitted(ring):
    X, resp, weight = ring
    weight[:100] = 0.0
    gate = fitted(ExpandedGate(Counting()), X, resp, weight)
    assert gate.transformer_.n_rows_ == 300
    assert gate.log_proba(X).shape == (400, 2)


def test_weights_reach_the_parts_that_take_them(ring):
    X, resp, _ = ring
    count = np.random.default_rng(0).integers(1, 4, size=400)
    front = make_pipeline(StandardScaler(), SplineTransformer(4, knots="quantile"))
    bins = KBinsDiscretizer(
        4, encode="onehot-dense", quantile_method="averaged_inverted_cdf"
    )
    for transformer in (front, bins):
        gate = fitted(ExpandedGate(transformer), X, resp, count.astype(float))
        again = fitted(
            ExpandedGate(transformer),
            np.repeat(X, count, axis=0),
            np.repeat(resp, count, axis=0),
            np.ones(count.sum()),
        )
        np.testing.assert_allclose(gate.log_proba(X), again.log_proba(X), atol=1e-8)
    plain = fitted(ExpandedGate(bins), X, resp, np.ones(400)).transformer_
    edges = zip(gate.transformer_.bin_edges_, plain.bin_edges_, strict=True)
    assert any(not np.array_equal(mine, other) for mine, other in edges)


def test_seeds_are_fixed(ring):
    gates = [fitted(ExpandedGate(RBFSampler(n_components=8)), *ring) for _ in range(2)]
    np.testing.assert_array_equal(gates[0].parameters, gates[1].parameters)
    assert gates[0].transformer.random_state is None
    forest = ClassifierGate(RandomForestClassifier(3, max_depth=2))
    gates = [fitted(ExpandedGate(QUADRATIC, forest), *ring, 2) for _ in range(2)]
    np.testing.assert_array_equal(*(gate.log_proba(ring[0]) for gate in gates))


def test_sparse_rows_and_sparse_output(ring):
    X, resp, weight = ring
    thin = ExpandedGate(SplineTransformer(sparse_output=True))
    dense = ExpandedGate(SplineTransformer())
    for gate in (thin, dense):
        fitted(gate, X, resp, weight, 40)
    assert sparse.issparse(thin.expand(X[:3]))
    np.testing.assert_allclose(thin.log_proba(X), dense.log_proba(X), atol=1e-2)
    rows = sparse.csr_array(np.maximum(X, 0.0))
    gate = ExpandedGate(QUADRATIC)
    assert get_tags(gate).input_tags.sparse
    fitted(gate, rows, resp, weight)
    np.testing.assert_allclose(np.exp(gate.log_proba(rows)).sum(axis=1), 1.0)


def test_gaps_are_imputed_or_integrated_out(ring):
    X, resp, weight = ring
    X = np.where(np.random.default_rng(3).random(X.shape) < 0.2, np.nan, X)
    front = make_pipeline(SimpleImputer(add_indicator=True), QUADRATIC)
    for gate in (ExpandedGate(front), ExpandedGate(StandardScaler(), GaussianGate())):
        assert get_tags(gate).input_tags.allow_nan
        fitted(gate, X, resp, weight)
        np.testing.assert_allclose(np.exp(gate.log_proba(X)).sum(axis=1), 1.0)
    with pytest.raises(ValueError, match=r"StandardScaler returned \d+ .* NaN or inf"):
        fitted(ExpandedGate(StandardScaler()), X, resp, weight)


@pytest.mark.parametrize(
    ("steps", "takes"),
    [
        ([StandardScaler(), SoftmaxGate()], False),
        ([StandardScaler(), GaussianGate()], True),
        ([QUADRATIC, GaussianGate()], False),
        ([SimpleImputer(), SoftmaxGate()], True),
        ([StandardScaler(), SimpleImputer(), QUADRATIC, SoftmaxGate()], True),
        ([QUADRATIC, SimpleImputer(), SoftmaxGate()], False),
        (["passthrough", SimpleImputer(), SoftmaxGate()], True),
    ],
)
def test_it_says_whether_gaps_can_go_in(steps, takes):
    """Every step must take them, up to one that fills them."""
    gate = ExpandedGate(make_pipeline(*steps[:-1]), steps[-1])
    assert get_tags(gate).input_tags.allow_nan == takes
    if len(steps) == 2:
        gate = ExpandedGate(*steps)
        assert get_tags(gate).input_tags.allow_nan == takes


# -- copies ------------------------------------------------------------------------


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy])
@pytest.mark.parametrize(
    "inner", [SoftmaxGate(), GaussianGate(), ClassifierGate(LogisticRegression())]
)
def test_a_copy_is_on_its_own(ring, how, inner):
    X, resp, weight = ring
    gate = fitted(ExpandedGate(QUADRATIC, inner), X, resp, weight, 2)
    before = gate.log_proba(X)
    other = how(gate)
    np.testing.assert_array_equal(other.log_proba(X), before)
    other.m_step(X, resp[:, ::-1], weight)
    assert np.abs(other.log_proba(X) - before).max() > 0.1
    np.testing.assert_array_equal(gate.log_proba(X), before)


def test_a_shallow_copy_shares_the_training_rows(ring):
    gate = fitted(ExpandedGate(Counting()), *ring)
    other = copy.copy(gate)
    Counting.calls = 0
    other.m_step(*ring)
    assert Counting.calls == 0
    assert other.transformer_ is gate.transformer_
    assert copy.copy(ExpandedGate(Counting())).gate is None


def test_pickling_forgets_the_training_rows(ring):
    X, resp, weight = ring
    gate = fitted(ExpandedGate(QUADRATIC), X, resp, weight)
    again = pickle.loads(pickle.dumps(gate))
    assert again._train is None
    assert len(pickle.dumps(gate)) < gate.expand(X).nbytes
    np.testing.assert_array_equal(again.log_proba(X), gate.log_proba(X))


def test_clone_and_parameters():
    gate = ExpandedGate(SplineTransformer(n_knots=7), SoftmaxGate(0.4))
    assert gate.get_params()["gate__alpha"] == 0.4
    assert clone(gate).set_params(transformer__n_knots=3).transformer.n_knots == 3
    assert gate.transformer.n_knots == 7
    assert gate.native is gate.gate
    assert isinstance(ExpandedGate(QUADRATIC).native, SoftmaxGate)


def test_it_passes_on_what_the_engine_asks_for(ring):
    X, resp, weight = ring
    gate = fitted(ExpandedGate(QUADRATIC), X, resp, weight)
    assert gate.kernel_ is gate.gate_.kernel_
    assert gate.design_.n_columns == 6
    assert gate.choose_solver(6, 2) == "newton"
    assert gate.native is gate.gate_
    assert is_parametric(gate)
    fresh = gate.make_kernel(gate.design_, 3)
    gate.kernel_ = fresh
    assert gate.gate_.kernel_ is fresh
    adapted = ExpandedGate(QUADRATIC, ClassifierGate(LogisticRegression()))
    assert not is_parametric(adapted)
    assert not hasattr(adapted, "kernel_")
    assert not hasattr(adapted, "choose_solver")


# -- in a mixture and in a tree ----------------------------------------------------


def rng():
    return np.random.RandomState(0)


def test_a_pipeline_that_ends_in_a_gate_is_one_of_these():
    spline, inner = SplineTransformer(), SoftmaxGate(0.2)
    gate = resolve_gate(make_pipeline(spline, inner), rng())
    assert isinstance(gate, ExpandedGate)
    assert isinstance(gate.transformer, SplineTransformer)
    assert (gate.transformer, gate.gate) != (spline, inner)  # clones
    assert gate.gate.alpha == 0.2
    three = resolve_gate(make_pipeline(StandardScaler(), spline, inner), rng())
    assert isinstance(three.transformer, Pipeline)
    assert len(three.transformer) == 2
    skipped = Pipeline([("skip", "passthrough"), ("gate", inner)])
    assert isinstance(resolve_gate(skipped, rng()).transformer, Pipeline)
    assert type(resolve_gate(make_pipeline(inner), rng())) is SoftmaxGate
    classifier = make_pipeline(spline, LogisticRegression())
    assert type(resolve_gate(classifier, rng())) is ClassifierGate
    own = ExpandedGate(spline, inner)
    assert type(resolve_gate(own, rng())) is ExpandedGate


def test_a_classifier_gate_in_a_pipeline_is_seeded_by_the_mixture():
    given = make_pipeline(MaxAbsScaler(), ClassifierGate(LogisticRegression()))
    gate = resolve_gate(given, rng())
    alone = resolve_gate(ClassifierGate(LogisticRegression()), rng())
    assert gate.gate.random_state == alone.random_state
    assert given[-1].random_state is None


def test_a_mixture_with_a_bent_gate(ring):
    X = ring[0]
    inside = (X**2).sum(axis=1) < 1.5
    y = np.where(inside, 3.0 + X[:, 0], -1.0 - 2.0 * X[:, 1])
    y += 0.1 * np.random.default_rng(5).normal(size=400)
    bent = MixtureOfExpertsRegressor(
        n_experts=2, gate=make_pipeline(QUADRATIC, SoftmaxGate()), random_state=0
    )
    given = repr(bent.get_params())
    bent.fit(X, y)
    assert repr(bent.get_params()) == given
    straight = MixtureOfExpertsRegressor(n_experts=2, random_state=0).fit(X, y)
    assert bent.score(X, y) > 0.97 > straight.score(X, y) + 0.1
    assert_climbs(bent.objective_trace_)
    again = pickle.loads(pickle.dumps(bent))
    np.testing.assert_allclose(again.predict(X), bent.predict(X))


def test_a_tree_of_expanded_gates(ring):
    X, _, weight = ring
    resp = np.random.default_rng(0).dirichlet(np.ones(4), size=400)
    gates = [
        ExpandedGate(QUADRATIC),
        SoftmaxGate(),
        ExpandedGate(SplineTransformer(n_knots=3), GaussianGate("diag")),
    ]
    tree = GateTree(Tree.complete([2, 2]), gates)
    assert tree.kernel(6) is None
    assert softmax_gates(tree) == []
    assert not tree.exact_m_step  # a density of x below the root
    tree.prepare(X, weight, 4)
    kept = copy.copy(tree)
    assert kept.gates[0]._train[0] is X
    for _ in range(3):
        tree.m_step(X, resp, weight)
    np.testing.assert_allclose(np.exp(tree.log_proba(X)).sum(axis=1), 1.0)
    assert tree.descend(X).max() <= 3
    assert kept.gates[0].parameters.max() == 0.0
    tree.finish()
    assert tree.gates[0]._train is None
    clone(tree)


def test_a_tree_of_one_expanded_gate_is_that_gate(ring):
    X, resp, weight = ring
    own, other = ExpandedGate(QUADRATIC), ExpandedGate(QUADRATIC)
    tree = GateTree(Tree.complete([2]), [own])
    assert single_gate(tree) is own
    fitted(tree, X, resp, weight)
    fitted(other, X, resp, weight)
    np.testing.assert_array_equal(tree.log_proba(X), other.log_proba(X))


def test_fixed_responsibilities_climb(ring):
    X, resp, weight = ring
    gate = fitted(ExpandedGate(SplineTransformer(), SoftmaxGate(0.0)), *ring, 0)
    values = [objective(gate, X, resp, weight)]
    for _ in range(10):
        gate.m_step(X, resp, weight)
        values.append(objective(gate, X, resp, weight))
    assert_climbs(values, 1e-12)
    assert values[-1] > values[0] + 10.0


# -- bad input ---------------------------------------------------------------------


@pytest.mark.parametrize("transformer", [TSNE(), PCA, None, LogisticRegression()])
def test_transformer_that_cannot_transform(ring, transformer):
    X, _, weight = ring
    with pytest.raises(TypeError, match="ExpandedGate: transformer must be an inst"):
        ExpandedGate(transformer).prepare(X, weight, 2)


@pytest.mark.parametrize("gate", [LogisticRegression(), SoftmaxGate, "softmax"])
def test_a_gate_that_is_none(ring, gate):
    X, _, weight = ring
    with pytest.raises(TypeError, match="ExpandedGate: gate must be None or a gate"):
        ExpandedGate(QUADRATIC, gate).prepare(X, weight, 2)


def test_output_that_is_not_finite(ring):
    X, _, weight = ring
    with np.errstate(all="ignore"):
        log = ExpandedGate(FunctionTransformer(np.log))
        with pytest.raises(ValueError, match=r"FunctionTransformer returned .* NaN"):
            log.prepare(X, weight, 2)
        gaps = ExpandedGate(FunctionTransformer(np.reciprocal), GaussianGate())
        with pytest.raises(ValueError, match="values that are infinite; impute"):
            gaps.prepare(np.floor(X), weight, 2)
    fewer = ExpandedGate(FunctionTransformer(lambda X: X[::2]))
    with pytest.raises(ValueError, match="returned 200 rows for 400"):
        fewer.prepare(X, weight, 2)


def test_bad_parameters_of_the_inner_gate(ring):
    X, _, weight = ring
    with pytest.raises(ValueError, match=r"SoftmaxGate: alpha must be .* got -1"):
        ExpandedGate(QUADRATIC, SoftmaxGate(-1.0)).prepare(X, weight, 2)


def test_before_prepare(ring):
    with pytest.raises(Exception, match="ExpandedGate is not fitted yet: call prepare"):
        ExpandedGate(QUADRATIC).log_proba(ring[0])
