"""The hierarchy from outside: every method, and what must not depend on what."""

import pickle

import joblib
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse, stats
from sklearn import config_context
from sklearn.base import ClassifierMixin, RegressorMixin, clone
from sklearn.callback import ProgressBar
from sklearn.ensemble import (
    AdaBoostClassifier,
    AdaBoostRegressor,
    BaggingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    StackingRegressor,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge, RidgeCV
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import SplineTransformer, StandardScaler

from skmoe import (
    HierarchicalMixtureOfExpertsClassifier,
    HierarchicalMixtureOfExpertsRegressor,
    MixtureOfExpertsClassifier,
    MixtureOfExpertsRegressor,
)
from skmoe._tree import Tree
from skmoe.em._fused import FusedNode
from skmoe.exceptions import CollapsedExpertWarning
from skmoe.experts import ExpandedExpert, LinearExpert, LogisticExpert
from skmoe.gates import ConstantGate, GaussianGate, SoftmaxGate
from tests._asserts import assert_climbs, assert_integrates_to_one
from tests.test_callbacks import Watch

pd = pytest.importorskip("pandas")

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

QUICK = {"init": "tree", "random_state": 0}
SHORT = {"max_iter": 25, "tol": 1e-3}


def regressor(experts=None, **kwargs):
    return HierarchicalMixtureOfExpertsRegressor(experts, **(QUICK | kwargs))


def classifier(experts=None, **kwargs):
    experts = LogisticExpert(1.0) if experts is None else experts
    return HierarchicalMixtureOfExpertsClassifier(experts, **(QUICK | kwargs))


@pytest.fixture(scope="module")
def corners():
    """Rows whose line depends on the signs of two columns, a third is idle."""
    rng = np.random.default_rng(8)
    X = rng.uniform(-2, 2, size=(160, 3))
    sign = np.where(X[:, 1] < 0, 1.0, -1.0)
    y = sign * np.where(X[:, 0] < 0, -3 * X[:, 0], 0.5 * X[:, 0] + 1)
    return X, y + 0.3 * rng.normal(size=160)


def responses(y, kind):
    """Return y as the kind of target a case asks for."""
    edges = np.quantile(y, [1 / 3, 2 / 3])
    return {
        "single": y,
        "column": y[:, None],
        "multi": np.column_stack([y, -y + 0.1 * y**2]),
        "binary": (y > np.median(y)).astype(int),
        "strings": np.array(["low", "mid", "top"])[np.digitize(y, edges)],
    }[kind]


KINDS = ["single", "column", "multi", "binary", "strings"]
SHAPES = {
    "default": {},
    "wide": {"depth": 1, "branching": 3},
    "mixed": {"branching": [2, 3]},
    "ragged": {},
}


def fitted(X, y, kind, shape="default", **kwargs):
    numbers = kind in KINDS[:3]
    make, leaf = (regressor, LinearExpert()) if numbers else (classifier, None)
    leaf = leaf or LogisticExpert(1.0)
    experts = [[leaf, leaf], leaf] if shape == "ragged" else leaf
    y = responses(y, kind)
    return make(experts, **(SHAPES[shape] | kwargs)).fit(X, y), y


# -- every method, for every kind of target and shape ------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_methods_agree_with_each_other(corners, kind, shape):
    X, y = corners
    model, y = fitted(X, y, kind, shape)
    n, tree, law = len(X), model.tree_, model.predict_distribution(X)
    codes = np.searchsorted(model.classes_, y) if hasattr(model, "classes_") else y
    leaf, resp = model.leaf_proba(X), model.responsibilities(X, y)
    assert leaf.shape == resp.shape == (n, tree.n_leaves)
    assert_array_equal(leaf, model.gate_proba(X))
    assert_allclose(leaf.sum(axis=1), 1.0)
    assert_allclose(resp.sum(axis=1), 1.0)
    assert_allclose(law.gate, leaf)
    assert_allclose(law.means, model.predict_experts(X))
    assert_allclose(model.log_prob(X, y), law.log_prob(codes))
    parts = np.stack([e.log_prob(X, codes) for e in model.experts_], axis=1)
    parts += np.log(leaf)
    # A probability next to 1 has a log of few digits: a sum of rounded terms near 1.
    pooled = np.logaddexp.reduce(parts, axis=1)
    assert_allclose(pooled, model.log_prob(X, y), atol=1e-14)
    assert_allclose(np.exp(parts - model.log_prob(X, y)[:, None]), resp, atol=1e-12)
    assert len(model.experts_) == len(model.expert_names_) == tree.n_leaves
    assert len(model.gate_.gates) == len(tree.inner)
    assert model.leaf_weight_.shape == (tree.n_leaves,)
    assert model.leaf_weight_.sum() == pytest.approx(n)
    assert model.skipped_share_ == 0.0
    assert not hasattr(model, "growth_")
    assert model.n_features_in_ == 3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_paths(corners, kind, shape):
    X, y = corners
    model, y = fitted(X, y, kind, shape)
    tree, leaf = model.tree_, model.apply(X)
    assert leaf.shape == (len(X),)
    path = model.decision_path(X)
    assert sparse.issparse(path)
    assert path.shape == (len(X), tree.n_nodes)
    dense = path.toarray()
    for row, k in zip(dense, leaf, strict=True):
        assert_array_equal(np.flatnonzero(row), tree.path(tree.leaves[k]))
    assert set(np.unique(dense)) == {0, 1}
    # Each gate sends the row to its most probable child.
    reach = np.stack(
        [
            model.leaf_proba(X)[:, tree.leaves_under(m)].sum(1)
            for m in range(tree.n_nodes)
        ],
        axis=1,
    )
    for node in tree.inner:
        some = list(tree.children[node])
        here = dense[:, node] == 1
        best = np.array(some)[reach[here][:, some].argmax(axis=1)]
        assert (dense[here, best] == 1).all()


@pytest.mark.parametrize("kind", ["single", "binary"])
def test_criteria(corners, kind):
    X, y = corners
    model, y = fitted(X, y, kind)
    fit, k = model.log_likelihood(X, y), model.n_parameters_
    weight = np.arange(len(X)) % 3
    assert_allclose(fit, model.log_prob(X, y).sum())
    assert_allclose(model.log_likelihood(X, y, weight), model.log_prob(X, y) @ weight)
    assert_allclose(model.aic(X, y), 2 * k - 2 * fit)
    assert_allclose(model.bic(X, y), k * np.log(len(X)) - 2 * fit)
    entropy = stats.entropy(model.responsibilities(X, y), axis=1)
    assert_allclose(model.icl(X, y), model.bic(X, y) + 2 * entropy.sum())
    # Three binary gates on three columns; four leaves of four coefficients.
    assert k == 3 * 4 + 4 * (5 if kind == "single" else 4)
    assert_climbs(model.objective_trace_)
    assert len(model.objective_trace_) <= model.n_iter_
    assert set(model.search_.names) == {"tree", "tree_sharp"}
    penalised = fit + model.node_.penalty
    assert penalised == pytest.approx(model.objective_trace_[-1], rel=1e-9)


@pytest.mark.parametrize("kind", KINDS[:3])
@pytest.mark.parametrize("pooling", ["mean", "top1", "mode"])
def test_regression_predictions(corners, kind, pooling):
    X, y = corners
    if pooling == "mode" and kind == "multi":
        kind = "single"
    model, y = fitted(X, y, kind, pooling=pooling)
    point, std = model.predict(X, return_std=True)
    assert point.shape == std.shape == y.shape
    assert_allclose(point, model.predict(X))
    law = model.predict_distribution(X)
    leaves, proba = model.predict_experts(X), model.leaf_proba(X)
    assert leaves.shape == (len(X), 4, *y.shape[1:])
    rows = np.arange(len(X))
    if pooling == "mean":
        assert_allclose(point, np.einsum("nk,nk...->n...", proba, leaves))
    elif pooling == "top1":
        assert_allclose(point, leaves[rows, model.apply(X)])
        assert_allclose(point, law.top1)
    else:
        for other in (law.mean, law.top1):
            assert (law.log_prob(point) >= law.log_prob(other) - 1e-9).all()
    draws = law.sample(3000, random_state=0)
    assert_allclose(draws.mean(axis=0), law.mean, atol=6 * std.max() / np.sqrt(3000))
    assert_allclose(draws.std(axis=0), std, rtol=0.15)
    assert model.score(X, y) > 0.8


@pytest.mark.parametrize("kind", KINDS[3:])
@pytest.mark.parametrize("pooling", ["mean", "top1", "mode", "vote"])
def test_class_predictions(corners, kind, pooling):
    X, y = corners
    model, y = fitted(X, y, kind, pooling=pooling)
    proba = model.predict_proba(X)
    assert_array_equal(model.classes_, np.unique(y))
    assert_allclose(proba.sum(axis=1), 1.0)
    with np.errstate(divide="ignore"):
        assert_allclose(model.predict_log_proba(X), np.log(proba))
    assert_array_equal(model.predict(X), model.classes_[proba.argmax(axis=1)])
    leaves, gate = model.predict_experts(X), model.leaf_proba(X)
    rows = np.arange(len(X))
    expected = {
        "mean": np.einsum("nk,nkc->nc", gate, leaves),
        "mode": np.einsum("nk,nkc->nc", gate, leaves),
        "top1": leaves[rows, model.apply(X)],
        "vote": sum(
            gate[:, [k]] * np.eye(proba.shape[1])[leaves[:, k].argmax(axis=1)]
            for k in range(4)
        ),
    }[pooling]
    assert_allclose(proba, expected, atol=1e-12)
    assert model.score(X, y) > 0.75


class Counting(LinearExpert):
    """Remember how many rows it was asked about."""

    rows_seen = 0

    def predict_params(self, X):
        type(self).rows_seen += X.shape[0]
        return super().predict_params(X)


class CountingClasses(LogisticExpert):
    rows_seen = 0

    def predict_params(self, X):
        type(self).rows_seen += X.shape[0]
        return super().predict_params(X)


@pytest.mark.parametrize("kind", ["single", "binary"])
def test_top1_evaluates_one_leaf_a_row(corners, kind):
    X, y = corners
    expert = Counting() if kind == "single" else CountingClasses(1.0)
    make = regressor if kind == "single" else classifier
    model = make(expert, depth=3, pooling="top1", max_iter=5, tol=0.1)
    model.fit(X, responses(y, kind))
    seen = []
    for pooling in ("top1", "mean"):
        type(expert).rows_seen = 0
        model.set_params(pooling=pooling).predict(X)
        seen.append(type(expert).rows_seen)
    assert seen == [len(X), len(X) * model.tree_.n_leaves]


def test_top1_follows_gates_not_leaves(corners):
    """0.6 splits into 0.35 and 0.25, less than the 0.4 of the other branch."""
    X, y = corners
    labels = np.repeat([0, 1, 2], [56, 40, 64])
    model = regressor(
        [[LinearExpert(), LinearExpert()], LinearExpert()],
        gate=ConstantGate(),
        init=labels,
        max_iter=1,
    ).fit(X, y)
    model.gate_.gates[0].log_weight_ = np.log([0.6, 0.4])
    model.gate_.gates[1].log_weight_ = np.log([7 / 12, 5 / 12])
    assert_allclose(model.leaf_proba(X), np.tile([0.35, 0.25, 0.4], (160, 1)))
    assert_array_equal(model.apply(X), 0)
    leaf = model.experts_[0].predict_params(X)
    assert_allclose(model.predict_distribution(X).top1, leaf)
    model.set_params(pooling="top1")
    assert_allclose(model.predict(X), leaf)
    assert_allclose(model.predict(X, return_std=True)[0], leaf)
    # The most probable leaf is what top_k asks for.
    model.set_params(pooling="mean", top_k=1)
    assert_allclose(model.predict(X), model.experts_[2].predict_params(X))


@pytest.mark.parametrize("top_k", [1, 2, 9])
def test_top_k_skips_leaves(corners, top_k):
    X, y = corners
    model = regressor(Counting(), top_k=top_k, max_iter=5, tol=0.1).fit(X, y)
    Counting.rows_seen = 0
    law = model.predict_distribution(X)
    kept = min(top_k, 4)
    assert Counting.rows_seen == kept * len(X)
    assert_array_equal((law.gate > 0).sum(axis=1), kept)
    assert_allclose(law.gate.sum(axis=1), 1.0)
    order = np.argsort(-model.leaf_proba(X), axis=1)[:, :kept]
    assert (np.take_along_axis(law.gate, order, axis=1) > 0).all()
    assert_allclose(model.log_prob(X, y), law.log_prob(y))
    assert law.skipped_share == pytest.approx(1.0 - kept / 4)


@pytest.mark.parametrize("kind", ["single", "multi"])
def test_density_is_that_of_its_leaves(corners, kind):
    """Against scipy.stats, leaf by leaf, and it integrates to one."""
    X, y = corners
    model, y = fitted(X, y, kind)
    means, gate = model.predict_experts(X), model.leaf_proba(X)
    total = np.zeros(len(X))
    for k, expert in enumerate(model.experts_):
        spread = np.atleast_2d(expert.dispersion)
        normal = stats.multivariate_normal(np.zeros(len(spread)), spread)
        error = (y - means[:, k]).reshape(len(X), -1)
        total += gate[:, k] * normal.pdf(error)
    assert_allclose(model.log_prob(X, y), np.log(total), rtol=1e-9)
    if kind == "single":
        law = model.predict_distribution(X[:3])

        for row in range(3):

            def density(value, row=row):
                return float(np.exp(law.log_prob(np.full(3, value))[row]))

            assert_integrates_to_one(density, -40.0, 40.0, means[row])
        middle = law.cdf(np.full(3, 1.0))
        below = [
            sum(
                g * stats.norm.cdf(1.0, m, np.sqrt(e.dispersion))
                for g, m, e in zip(*row, model.experts_, strict=True)
            )
            for row in zip(gate[:3], means[:3], strict=True)
        ]
        assert_allclose(middle, below, rtol=1e-9)


def test_class_probabilities_are_a_density(corners):
    X, y = corners
    model, y = fitted(X, y, "strings")
    each = [model.log_prob(X, np.full(len(X), c)) for c in model.classes_]
    assert_allclose(np.exp(each).sum(axis=0), 1.0)
    assert_allclose(np.exp(each).T, model.predict_proba(X))


# -- depth one is the flat mixture -------------------------------------------------

FLAT = {
    "default": {},
    "auto": {"init": "auto"},
    "adapted": {"experts": Ridge()},
    "gaussian": {"gate": GaussianGate()},
    "constant": {"gate": ConstantGate()},
    "classifier_gate": {"gate": LogisticRegression()},
    "bound": {"gate": SoftmaxGate(solver="bound")},
    "some_columns": {"gate_features": [1, 0]},
    "shared": {"shared_dispersion": True},
    "cem": {"algorithm": "cem"},
    "sem": {"algorithm": "sem", "max_iter": 15},
    "random": {"init": "random", "n_init": 3},
    "squarem": {"acceleration": "squarem"},
    "top": {"pooling": "top1", "top_k": 1},
    "named": {
        "experts": [("a", LinearExpert()), ("b", Ridge(), [0]), ("c", LinearExpert(9))]
    },
    "pipeline": {"experts": make_pipeline(SplineTransformer(3), LinearExpert())},
}


def assert_the_same(tree, flat, X, y):
    """Bit for bit: trace, laws and what is read off them."""
    assert_array_equal(tree.objective_trace_, flat.objective_trace_)
    assert (tree.n_iter_, tree.converged_) == (flat.n_iter_, flat.converged_)
    assert tree.search_ == flat.search_
    assert tree.n_parameters_ == flat.n_parameters_
    assert tree.expert_names_ == flat.expert_names_
    for name in ("gate_proba", "predict", "predict_experts", "apply"):
        assert_array_equal(getattr(tree, name)(X), getattr(flat, name)(X), name)
    for name in ("log_prob", "responsibilities", "bic", "icl"):
        assert_array_equal(getattr(tree, name)(X, y), getattr(flat, name)(X, y), name)


@pytest.mark.parametrize("case", FLAT)
def test_depth_one_equals_the_flat_regressor(corners, case):
    X, y = (part[:90] for part in corners)
    params = QUICK | FLAT[case]
    weight = 1.0 + np.arange(90) % 2
    tree = HierarchicalMixtureOfExpertsRegressor(depth=1, branching=3, **params)
    flat = MixtureOfExpertsRegressor(n_experts=3, **params)
    for model in (tree, flat):
        model.fit(X, y, sample_weight=weight)
    assert tree.tree_ == Tree.complete([3])
    assert_the_same(tree, flat, X, y)


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"experts": LogisticExpert(0.5)},
        {"experts": LogisticRegression(), "max_iter": 10},
        {"gate": GaussianGate(), "experts": LogisticExpert(1.0)},
        {"pooling": "vote", "experts": LogisticExpert(1.0)},
    ],
    ids=["default", "logistic", "adapted", "gaussian", "vote"],
)
def test_depth_one_equals_the_flat_classifier(corners, params):
    X, y = (part[:90] for part in corners)
    y = responses(y, "strings")
    tree = HierarchicalMixtureOfExpertsClassifier(depth=1, **(QUICK | params))
    flat = MixtureOfExpertsClassifier(n_experts=2, **(QUICK | params))
    assert_the_same(tree.fit(X, y), flat.fit(X, y), X, y)
    assert_array_equal(tree.predict_proba(X), flat.predict_proba(X))


def test_depth_one_drops_the_experts_that_the_flat_mixture_drops(corners):
    X = corners[0]
    y = 2.0 * X[:, 0] + 0.1 * np.random.default_rng(0).normal(size=len(X))
    start = np.zeros((len(X), 3))
    start[np.arange(len(X)), (X[:, 0] > 0).astype(int)] = 1.0
    params = {"init": start, "algorithm": "cem"}
    models = [
        HierarchicalMixtureOfExpertsRegressor(depth=1, branching=3, **params),
        MixtureOfExpertsRegressor(n_experts=3, **params),
    ]
    for model in models:
        with pytest.warns(CollapsedExpertWarning, match="lost their rows"):
            model.fit(X, y)
    assert_the_same(*models, X, y)
    assert models[0].tree_.n_leaves < 3


# -- what a fit must not depend on -------------------------------------------------

EXACT = {
    "default": regressor,
    "portfolio": lambda: HierarchicalMixtureOfExpertsRegressor(random_state=0),
    "kmeans": lambda: regressor(init="kmeans"),
    "segments": lambda: regressor(init="segments"),
    "random": lambda: regressor(init="random", n_init=2),
    "ridge": lambda: regressor(Ridge()),
    "constant": lambda: regressor(gate=ConstantGate()),
    "gaussian": lambda: regressor(gate=GaussianGate()),
    "ragged": lambda: regressor([[LinearExpert(), Ridge()], LinearExpert()]),
    "annealing": lambda: regressor(annealing=0.3),
    "paths": lambda: regressor(path_tol=1e-4),
    "classes": lambda: classifier(tol=1e-10),
}


def law_of(model, X, y, weight=None):
    return np.exp(model.fit(X, y, sample_weight=weight).log_prob(X, y))


@pytest.mark.parametrize("case", EXACT)
def test_weight_is_repetition(corners, case):
    X, y = corners[0][:70], corners[1][:70]
    model = EXACT[case]()
    y = responses(y, "binary") if hasattr(model, "predict_proba") else y
    count = 1 + np.arange(70) % 3
    rows = np.repeat(np.arange(70), count)
    order = np.random.default_rng(0).permutation(rows.size)
    weighted = law_of(model, X, y, count)
    repeated = law_of(EXACT[case](), X[rows][order], y[rows][order])
    back = np.empty_like(repeated)
    back[order] = repeated
    assert_allclose(weighted, back[np.cumsum(count) - 1], rtol=2e-4)


@pytest.mark.parametrize("case", ["default", "portfolio", "ridge", "classes"])
def test_zero_weight_is_removal(corners, case):
    X, y = corners[0][:90], corners[1][:90]
    keep = np.arange(90) % 3 > 0
    wild = np.where(keep, y, 1e3)
    model, other = EXACT[case](), EXACT[case]()
    if hasattr(model, "predict_proba"):
        y = wild = responses(y, "binary")
    model.fit(X, wild, sample_weight=keep.astype(float))
    other.fit(X[keep], y[keep])
    assert_allclose(model.log_prob(X, y), other.log_prob(X, y), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", ["labels", "responsibilities", "callable", "named"])
@pytest.mark.parametrize("branching", [2, [2, 3]])
def test_kinds_of_init(corners, kind, branching):
    X, y = corners
    n_leaves = 4 if branching == 2 else 6
    labels = 2 * (X[:, 1] > 0) + (X[:, 0] > 0)
    resp = np.eye(n_leaves)[labels] * 0.9 + 0.1 / n_leaves

    def start(X, y, count, random_state):
        assert count == n_leaves
        return labels[: len(X)]

    init = {
        "labels": labels,
        "responsibilities": resp,
        "callable": start,
        "named": "segments",
    }[kind]
    model = regressor(init=init, branching=branching).fit(X, y)
    assert model.score(X, y) > 0.65
    assert model.search_.names[0] in ("init", "segments", "segments_sharp")
    weight = np.ones(len(X))
    weight[-5:] = 0.0
    again = regressor(init=init, branching=branching)
    assert again.fit(X, y, sample_weight=weight).score(X, y) > 0.65


@pytest.mark.parametrize("init", ["tree", "kmeans", "segments", "gaussian", "random"])
@pytest.mark.parametrize("branching", [2, [2, 3], [3, 2]])
def test_every_start_leads_somewhere(corners, init, branching):
    X, y = corners
    model = regressor(init=init, branching=branching, max_iter=40, tol=1e-4)
    assert model.fit(X, y).score(X, y) > 0.65
    assert all(init in name or name == "kmeans" for name in model.search_.names)


def test_siblings_may_change_places(corners):
    """Permuted labels of siblings, or of whole branches, permute the leaves."""
    X, y = corners
    labels = 2 * (X[:, 1] > 0) + (X[:, 0] > 0)
    first = regressor(init=labels).fit(X, y)
    for turn in ([1, 0, 2, 3], [2, 3, 0, 1], [3, 2, 0, 1]):
        turn = np.array(turn)
        second = regressor(init=turn[labels]).fit(X, y)
        assert_allclose(first.log_prob(X, y), second.log_prob(X, y), atol=1e-5)
        assert_allclose(first.leaf_proba(X), second.leaf_proba(X)[:, turn], atol=1e-4)


@pytest.mark.parametrize(
    ("expert", "kwargs"),
    [
        (Ridge(), {"n_init": 1}),
        (None, {"path_tol": 0.01, "depth": 3}),
    ],
    ids=["threads", "processes"],
)
def test_n_jobs_changes_nothing(corners, expert, kwargs):
    X, y = corners
    alone = regressor(expert, **SHORT, **kwargs).fit(X, y)
    both = regressor(expert, **SHORT, n_jobs=2, **kwargs).fit(X, y)
    assert_allclose(both.predict(X), alone.predict(X), rtol=1e-9)
    assert both.n_iter_ == alone.n_iter_


@pytest.mark.parametrize("kind", ["single", "strings"])
def test_same_seed_same_model(corners, kind):
    X, y = corners
    kwargs = {"init": "random", "n_init": 2, "max_iter": 30, "tol": 1e-3}
    first, target = fitted(X, y, kind, **kwargs)
    second, _ = fitted(X, y, kind, **kwargs)
    assert_array_equal(first.log_prob(X, target), second.log_prob(X, target))


# -- algorithms, annealing, paths --------------------------------------------------


@pytest.mark.parametrize("algorithm", ["em", "cem", "sem"])
@pytest.mark.parametrize("kind", ["single", "binary"])
def test_algorithms_survive_a_pickle(corners, algorithm, kind):
    X, y = corners
    model, y = fitted(X, y, kind, algorithm=algorithm, max_iter=40)
    again = pickle.loads(pickle.dumps(model))
    assert_array_equal(again.predict(X), model.predict(X))
    assert model.score(X, y) > 0.7
    if algorithm != "sem":
        assert_climbs(model.objective_trace_)


@pytest.mark.parametrize("acceleration", [None, "squarem", "quasi-newton", "auto"])
def test_all_accelerations_climb_to_the_same(corners, acceleration):
    X, y = corners
    model = regressor(acceleration=acceleration, tol=1e-9).fit(X, y)
    best = regressor(tol=1e-9).fit(X, y)
    assert_climbs(model.objective_trace_)
    assert model.objective_trace_[-1] == pytest.approx(
        best.objective_trace_[-1], abs=1e-3
    )


def test_squarem_with_a_generative_root(corners):
    """Not a batch, but all parts are parametric and exact."""
    X, y = corners
    inner = MixtureOfExpertsRegressor(n_experts=2)
    tree = [("left", inner), ("right", inner)]
    passes = []
    for acceleration in ("squarem", None):
        model = regressor(
            tree, gate=GaussianGate(), acceleration=acceleration, max_iter=3000
        ).fit(X, y)
        assert isinstance(model.gate_.gates[0], GaussianGate)
        assert isinstance(model.gate_.gates[1], SoftmaxGate)
        assert_climbs(model.objective_trace_)
        assert model.converged_
        passes.append((model.n_iter_, model.objective_trace_[-1]))
    assert passes[0][0] < passes[1][0]
    assert passes[0][1] == pytest.approx(passes[1][1], abs=0.01)


@pytest.mark.parametrize("scale", [1.0, 1e4, 1e-4])
@pytest.mark.parametrize("tree", ["ragged", "default"])
def test_gaussian_gates_do_not_hang_on_the_unit_of_x(corners, tree, scale):
    X, y = corners
    plain, _ = fitted(X, y, "single", tree, gate=GaussianGate())
    scaled, _ = fitted(X * scale, y, "single", tree, gate=GaussianGate())
    assert_allclose(scaled.leaf_proba(X * scale), plain.leaf_proba(X), atol=1e-4)
    assert_allclose(scaled.predict(X * scale), plain.predict(X), atol=1e-3)
    assert plain.score(X, y) > 0.75


def test_annealing(corners):
    X, y = corners
    labels = (np.arange(len(X)) * 7) % 4  # says nothing
    cold = regressor(init=labels).fit(X, y)
    warm = regressor(init=labels, annealing=0.05).fit(X, y)
    assert_climbs(warm.objective_trace_)
    assert warm.converged_
    assert warm.objective_trace_[-1] != cold.objective_trace_[-1]
    assert warm.score(X, y) > 0.5


@pytest.fixture(scope="module")
def steps():
    """Sixteen lines along one column: rows that reach few leaves."""
    rng = np.random.default_rng(5)
    X = np.column_stack([rng.uniform(0, 16, size=3000), rng.normal(size=3000)])
    blurred = X[:, 0] + 0.1 * rng.normal(size=3000)
    step = np.floor(blurred).clip(0, 15).astype(int)
    level, slope = 3.0 * rng.normal(size=(2, 16))
    y = level[step] + slope[step] * X[:, 1] + 0.3 * rng.normal(size=3000)
    return X, y, step


def path_fit(X, y, step, path_tol, **params):
    params = {"init": step, "gate": SoftmaxGate(1e-3), "tol": 1e-6} | params
    model = HierarchicalMixtureOfExpertsRegressor(
        LinearExpert(), depth=4, path_tol=path_tol, **params
    )
    return model.fit(X, y)


def test_path_pruning_at_fit(steps):
    X, y, _ = steps
    dense, tiny, some = (path_fit(*steps, tol) for tol in (0.0, 1e-12, 1e-3))
    assert dense.skipped_share_ == 0.0
    assert 0.0 < tiny.skipped_share_ < some.skipped_share_ < 1.0
    assert some.skipped_share_ > 0.4
    assert len(some.tree_.leaves) == 16
    assert_allclose(tiny.predict(X), dense.predict(X), atol=0.05)
    ours, theirs = tiny.log_likelihood(X, y), dense.log_likelihood(X, y)
    assert ours == pytest.approx(theirs, rel=1e-4)
    assert some.log_likelihood(X, y) == pytest.approx(theirs, rel=0.01)
    assert some.score(X, y) == pytest.approx(dense.score(X, y), abs=1e-3)
    assert some.converged_
    assert tiny.leaf_weight_.sum() == pytest.approx(3000.0)


def test_path_pruning_at_prediction(steps):
    X = steps[0]
    dense = path_fit(*steps, 0.0, max_iter=15, tol=1e-3)
    proba = dense.leaf_proba(X)
    dense.gate_.path_tol = 0.01
    kept = dense.leaf_proba(X)
    law = dense.predict_distribution(X)
    assert law.skipped_share == pytest.approx((kept == 0).mean())
    assert law.skipped_share > 0.5
    assert_allclose(kept.sum(axis=1), 1.0)
    assert (kept[np.arange(len(X)), dense.apply(X)] > 0).all()
    assert np.abs(kept - proba).max() < 0.2
    assert (proba[kept == 0] < 0.5).all()


# -- warm start, grown trees are tested in em/test_grow.py -------------------------


def test_warm_start_goes_on(corners):
    X, y = corners
    model = regressor(warm_start=True).fit(X, y)
    passes, before = model.n_iter_, model.log_prob(X, y)
    model.fit(X, y)
    assert model.search_.names == ["warm"]
    assert model.n_iter_ < passes
    assert_allclose(model.log_prob(X, y), before, atol=5e-3)
    half = np.arange(len(X)) % 2 == 0
    model.fit(X[half], y[half])
    assert model.score(X[half], y[half]) > 0.8


@pytest.mark.parametrize(
    "change",
    [{"depth": 3}, {"branching": 3}, {"branching": [2, 3]}, {"grow": "posterior"}],
    ids=repr,
)
def test_warm_start_of_another_tree_is_refused(corners, change):
    X, y = corners
    model = regressor(warm_start=True, max_iter=20, tol=1e-3).fit(X, y)
    before = model.predict(X)
    model.set_params(**change)
    with pytest.raises(ValueError, match=r"warm_start: the last "):
        model.fit(X, y)
    assert_array_equal(model.predict(X), before)


def test_warm_start_of_an_explicit_tree(corners):
    X, y = corners
    tree = [[LinearExpert(), LinearExpert()], LinearExpert()]
    model = regressor(tree, warm_start=True).fit(X, y)
    before = model.log_prob(X, y)
    model.fit(X, y)
    assert model.search_.names == ["warm"]
    assert_allclose(model.log_prob(X, y), before, atol=1e-3)
    # The same number of leaves in another shape.
    model.set_params(experts=[LinearExpert(), [LinearExpert(), LinearExpert()]])
    with pytest.raises(ValueError, match="warm_start: the last fit is of another kind"):
        model.fit(X, y)


# -- life among scikit-learn's tools -----------------------------------------------


@pytest.mark.parametrize(
    ("experts", "grid"),
    [
        (LinearExpert(), {"depth": [1, 2], "branching": [2, 3]}),
        (LinearExpert(), {"branching": [2, [2, 3]], "experts__alpha": [0.1, 1e4]}),
        (Ridge(), {"experts__alpha": [0.1, 9.0], "gate__alpha": [0.01]}),
        (
            [("a", LinearExpert()), [("b", LinearExpert(), [0]), ("c", Ridge())]],
            {"b__alpha": [0.1, 1e4], "c": [Ridge(), LinearExpert()]},
        ),
    ],
    ids=["shape", "levels", "ridges", "named"],
)
def test_grid_search(corners, experts, grid):
    X, y = corners
    model = regressor(experts, gate=SoftmaxGate(), **SHORT)
    search = GridSearchCV(model, grid, cv=2).fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_estimator_.score(X, y) > 0.7
    for name, values in grid.items():
        assert search.best_params_[name] in values
    if "c" in grid:
        best = search.best_estimator_
        assert best.expert_names_ == ["a", "b", "c"]
        assert best.experts[1][0][2] == [0]  # its columns are still there
        assert best.experts_[1].alpha == search.best_params_["b__alpha"]


@pytest.mark.parametrize(
    "experts",
    [None, Ridge(), [("a", Ridge(), [0]), [LinearExpert(), Ridge()]]],
    ids=str,
)
def test_copies(corners, experts, tmp_path):
    X, y = corners
    model = regressor(experts, **SHORT).fit(X, y)
    joblib.dump(model, tmp_path / "model")
    for again in (
        joblib.load(tmp_path / "model"),
        pickle.loads(pickle.dumps(model)),
        clone(model).fit(X, y),
    ):
        assert_array_equal(again.log_prob(X, y), model.log_prob(X, y))
        assert again.tree_ == model.tree_
    # The training rows are not carried along.
    assert len(pickle.dumps(model)) < 12 * X.nbytes


def test_parameters_round_trip():
    tree = [("a", Ridge(2.0)), [("b", LinearExpert(), [0]), Ridge(3.0)]]
    model = HierarchicalMixtureOfExpertsRegressor(tree, depth=3)
    params = model.get_params()
    assert params["a__alpha"] == 2.0
    assert params["b"] is tree[1][0][1]
    assert params["depth"] == 3
    again = clone(model)
    assert again.get_params()["b__alpha"] == params["b__alpha"]
    again.set_params(a__alpha=5.0, b=Ridge(7.0), branching=[2, 2, 2])
    assert again.get_params()["a"].alpha == 5.0
    assert again.experts[1][0][1].alpha == 7.0
    assert again.experts[1][0][2] == [0]
    assert again.experts[1][1].alpha == 3.0  # without a name, and untouched
    assert tree[0][1].alpha == 2.0  # the original's parts are its own
    with pytest.raises(ValueError, match="Invalid parameter 'c'"):
        again.set_params(c__alpha=1.0)
    single = HierarchicalMixtureOfExpertsRegressor(Ridge())
    assert single.set_params(experts__alpha=4.0).experts.alpha == 4.0


def test_kinds_of_estimator():
    assert isinstance(regressor(), RegressorMixin)
    assert isinstance(classifier(), ClassifierMixin)
    assert not hasattr(regressor(), "predict_proba")


def test_inside_a_pipeline(corners):
    X, y = corners
    pipe = make_pipeline(StandardScaler(), regressor(LinearExpert(), **SHORT))
    assert cross_val_score(pipe, X, y, cv=3).mean() > 0.5
    name = "hierarchicalmixtureofexpertsregressor"
    pipe.set_params(**{f"{name}__experts__alpha": 5.0}).fit(X, y)
    assert pipe[-1].experts_[0].alpha == 5.0


@pytest.mark.parametrize("kind", ["bagging", "boosting", "stacking"])
def test_around_a_hierarchy(corners, kind):
    X, y = corners
    inner = regressor(**SHORT)
    outer = {
        "bagging": BaggingRegressor(inner, 3, random_state=0),
        "boosting": AdaBoostRegressor(inner, n_estimators=3, random_state=0),
        "stacking": StackingRegressor(
            [("tree", inner), ("line", Ridge())], RidgeCV(), cv=2
        ),
    }[kind].fit(X, y)
    assert outer.score(X, y) > 0.85
    assert outer.predict(X).shape == y.shape


def test_boosted_classifiers(corners):
    X, y = corners
    y = responses(y, "strings")
    outer = AdaBoostClassifier(classifier(**SHORT), n_estimators=3, random_state=0)
    outer.fit(X, y)
    assert outer.score(X, y) > 0.75
    assert outer.predict_proba(X).shape == (len(X), 3)


# -- experts on expansions, gates on the raw columns -------------------------------


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("kind", ["single", "multi", "binary"])
def test_pipelines_as_experts_are_fused(corners, kind, depth, monkeypatch):
    X, y = corners
    y = responses(y, kind)
    leaf = LogisticExpert(1.0) if kind == "binary" else LinearExpert(1.0)
    make = classifier if kind == "binary" else regressor
    pipe = make_pipeline(SplineTransformer(n_knots=4), leaf)
    problems = set()
    e_step = FusedNode.e_step

    def spy(self, resp=None):
        problems.add(type(self))
        return e_step(self, resp)

    monkeypatch.setattr(FusedNode, "e_step", spy)
    model = make(pipe, depth=depth, **SHORT).fit(X, y)
    assert problems == {FusedNode}
    assert all(isinstance(expert, ExpandedExpert) for expert in model.experts_)
    assert model.score(X, y) > (0.8 if depth == 2 else 0.6)
    # Gates see the columns as they are.
    assert model.gate_.gates[0].coef_.shape == (2, 3)
    assert model.experts_[0].expert_.coef_.shape[-1] > 3
    again = pickle.loads(pickle.dumps(model))
    assert_array_equal(again.predict(X), model.predict(X))
    # Each leaf has coefficients of its own, and one expansion for all.
    coefs = [expert.expert_.coef_ for expert in model.experts_]
    assert np.ptp(coefs, axis=0).max() > 0.1
    assert len({id(expert.transformer_) for expert in model.experts_}) == 1


def test_splines_in_a_grown_tree(corners):
    X, y = corners
    pipe = make_pipeline(SplineTransformer(n_knots=3), LinearExpert())
    model = regressor(pipe, grow="posterior", max_leaves=3, init="auto").fit(X, y)
    assert model.tree_.n_leaves >= 2
    assert model.score(X, y) > 0.8


# -- kinds of input ----------------------------------------------------------------

NAMES = ["age", "dose", "site"]


def test_frames_and_columns_by_name(corners):
    X, y = corners
    frame, series = pd.DataFrame(X, columns=NAMES), pd.Series(y)
    tree = [("a", LinearExpert(), ["site", "age"]), [LinearExpert(), Ridge()]]
    named = regressor(tree, gate_features=["dose", "age"], **SHORT).fit(frame, series)
    tree = [("a", LinearExpert(), [2, 0]), [LinearExpert(), Ridge()]]
    placed = regressor(tree, gate_features=[1, 0], **SHORT).fit(X, y)
    assert_array_equal(named.feature_names_in_, NAMES)
    assert_allclose(named.predict(frame), placed.predict(X))
    assert named.node_.columns == placed.node_.columns == [[2, 0], None, None]
    assert named.gate_.columns == [[1, 0], [1, 0]]
    assert_array_equal(named.apply(frame), placed.apply(X))
    with pytest.raises(ValueError, match="feature names should match"):
        named.leaf_proba(frame[NAMES[::-1]])
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        named.decision_path(X)


@pytest.mark.parametrize("kind", ["fused", "ragged", "adapted"])
def test_sparse_equals_dense(corners, kind):
    X, y = corners
    X = np.where(np.abs(X) < 0.7, 0.0, X)
    experts = {
        "fused": LinearExpert(),
        "ragged": [LinearExpert(), [LinearExpert(), LinearExpert()]],
        "adapted": Ridge(),
    }[kind]
    exact = {"max_iter": 6, "acceleration": None, "init": "kmeans"}
    thin = regressor(experts, **exact).fit(sparse.csr_array(X), y)
    dense = regressor(experts, **exact).fit(X, y)
    assert_allclose(thin.predict(sparse.csr_array(X)), dense.predict(X), rtol=1e-4)
    for name in ("predict", "apply", "leaf_proba"):
        got = getattr(thin, name)(sparse.csr_array(X))
        assert_allclose(got, getattr(thin, name)(X), atol=1e-10)
    path = thin.decision_path(sparse.csr_array(X))
    assert (path != thin.decision_path(X)).nnz == 0


def test_missing_values_where_all_parts_take_them(corners):
    X, y = corners
    X = np.where(np.random.default_rng(0).random(X.shape) < 0.1, np.nan, X)
    leaf = HistGradientBoostingRegressor(max_iter=5)
    gate = HistGradientBoostingClassifier(max_iter=5)
    labels = (np.arange(len(X)) % 4).astype(int)
    model = regressor(leaf, gate=gate, init=labels, max_iter=2).fit(X, y)
    assert np.isfinite(model.predict(X)).all()
    assert_allclose(model.leaf_proba(X).sum(axis=1), 1.0)
    # The library's own parts see gaps filled, with an indicator.
    mixed = regressor([[leaf, leaf], LinearExpert()], max_iter=2).fit(X, y)
    assert np.isfinite(mixed.predict(X)).all()
    with pytest.raises(ValueError, match="Input X contains NaN"):
        regressor(leaf, gate=LogisticRegression(), init=labels).fit(X, y)
    with pytest.raises(ValueError, match="Input X contains NaN"):
        regressor([[leaf, leaf], Ridge()], gate=gate).fit(X, y)


def test_tensors_in_tensors_out(corners):
    torch = pytest.importorskip("torch")
    X, y = corners
    with config_context(array_api_dispatch=True):
        model = regressor(**SHORT).fit(torch.asarray(X), torch.asarray(y))
        for name in ("predict", "leaf_proba", "apply", "gate_proba"):
            out = getattr(model, name)(torch.asarray(X))
            assert isinstance(out, torch.Tensor), name
        assert isinstance(model.leaf_weight_, torch.Tensor)
    plain = regressor(**SHORT).fit(X, y)
    assert_allclose(np.asarray(out), plain.gate_proba(X))


# -- metadata, callbacks, messages -------------------------------------------------


class Curious(Ridge):
    """Remember the metadata that fit was given."""

    seen: tuple = ()

    def fit(self, X, y, sample_weight=None, batch=None):
        Curious.seen = (*Curious.seen, (np.array(X), batch))
        return super().fit(X, y, sample_weight=sample_weight)


@pytest.fixture
def curious():
    Curious.seen = ()
    with config_context(enable_metadata_routing=True):
        yield Curious().set_fit_request(batch=True)


def test_metadata_reach_every_leaf(corners, curious):
    X, y = corners
    model = regressor(curious, max_iter=3)
    model.fit(X, y, sample_weight=np.arange(160) % 3, batch=np.arange(160))
    assert len(Curious.seen) >= 4 * 3
    for part, batch in Curious.seen:
        assert_array_equal(part, X[batch])


def test_metadata_reach_named_leaves(corners, curious):
    X, y = corners
    other = Curious().set_fit_request(batch=False)
    tree = [("asks", curious), [("not", other), ("own", LinearExpert())]]
    regressor(tree, max_iter=3).fit(X, y, batch=np.arange(160))
    kinds = {batch is None for _, batch in Curious.seen}
    assert kinds == {True, False}
    for part, batch in Curious.seen:
        assert batch is None or (part == X[batch]).all()


def test_metadata_of_unpacked_mixtures(corners, curious):
    X, y = corners
    inner = MixtureOfExpertsRegressor(curious, n_experts=2)
    model = regressor([("m", inner), ("d", Ridge())], max_iter=3)
    model.fit(X, y, batch=np.arange(160))
    got = [batch for _, batch in Curious.seen if batch is not None]
    assert len(got) >= 2 * 3


def test_growth_takes_no_metadata(corners, curious):
    X, y = corners
    model = regressor(curious, grow="posterior")
    with pytest.raises(ValueError, match=r"takes no metadata, got \['batch'\]"):
        model.fit(X, y, batch=np.arange(160))


@pytest.mark.parametrize("experts", [None, Ridge()], ids=["native", "adapted"])
def test_callbacks_see_every_pass(corners, experts):
    X, y = corners
    watch = Watch()
    model = regressor(experts, n_init=1, tol=1e-4).set_callbacks(watch).fit(X, y)
    n_passes = len(model.objective_trace_)
    assert watch.ended.count("EM pass") == n_passes
    assert watch.begun[:2] == ["fit", "start tree"]
    objective = [seen.log_likelihood(X, y) + seen.node_.penalty for seen in watch.kept]
    assert_allclose(objective, model.objective_trace_, rtol=1e-8)
    assert all(seen.tree_ == model.tree_ for seen in watch.kept)
    assert (watch.set_up, watch.torn_down) == (1, 1)


def test_a_callback_stops_the_fit(corners):
    X, y = corners
    watch = Watch(stop_after=3)
    model = regressor(n_init=1).set_callbacks(watch).fit(X, y)
    assert len(model.objective_trace_) == 3
    assert not model.converged_
    assert model.score(X, y) > 0.5


def test_progress_bar(corners, capsys):
    regressor(**SHORT).set_callbacks(ProgressBar()).fit(*corners)
    assert "HierarchicalMixtureOfExpertsRegressor" in capsys.readouterr().out


@pytest.mark.parametrize("verbose", [0, 1, 2])
@pytest.mark.parametrize("grow", [None, "posterior"])
def test_verbose_prints(corners, verbose, grow, capsys):
    X, y = corners
    model = regressor(verbose=verbose, grow=grow, n_init=1, max_leaves=3).fit(X, y)
    out = capsys.readouterr().out
    name = "tree" if grow is None else "grown"
    assert (f"start '{name}'" in out) == (verbose > 0)
    assert (f"done, {model.n_iter_} passes" in out) == (verbose > 0)
    n_passes = len(model.objective_trace_)
    assert out.count("pass: objective") == (n_passes if verbose > 1 else 0)


def test_too_few_passes_are_announced(corners):
    with pytest.warns(ConvergenceWarning, match="did not converge in max_iter=2"):
        regressor(max_iter=2, tol=0.0).fit(*corners)
