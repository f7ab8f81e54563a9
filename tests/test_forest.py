"""Forests of hierarchical mixtures: bags, the average law, rows out of bag."""

import pickle
import warnings
from functools import partial

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import sparse, stats
from scipy.special import logsumexp
from sklearn.base import clone
from sklearn.datasets import make_friedman1
from sklearn.ensemble import BaggingRegressor, StackingClassifier, StackingRegressor
from sklearn.exceptions import DataConversionWarning, NotFittedError
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import SplineTransformer
from sklearn.utils.estimator_checks import check_is_fitted
from sklearn.utils.validation import has_fit_parameter

from skmoe import (
    HierarchicalMixtureForestClassifier,
    HierarchicalMixtureForestRegressor,
    HierarchicalMixtureOfExpertsClassifier,
    HierarchicalMixtureOfExpertsRegressor,
)
from skmoe._coding import TableCoder
from skmoe.exceptions import ExpertError
from skmoe.experts import LinearExpert, LogisticExpert
from skmoe.experts._expanded import ExpandedExpert
from skmoe.gates import GaussianGate, SoftmaxGate
from tests.test_checks import check_of, checks

Regressor = HierarchicalMixtureForestRegressor
Classifier = HierarchicalMixtureForestClassifier
SMALL = {"n_estimators": 3, "depth": 2, "random_state": 0}
N = 120


def data(n=N, seed=0):
    """Two slopes of the second column, by the sign of the first; a third of noise."""
    rng = np.random.default_rng(seed)
    X = rng.uniform(-2, 2, size=(n, 3))
    y = np.where(X[:, 0] < 0, -3.0, 2.0) * X[:, 1] + 0.2 * rng.normal(size=n)
    return X, y


def labels(y, names=("b", "c", "a")):
    return np.array(names)[np.digitize(y, [-1.0, 1.0])]


def targets(kind):
    X, y = data()
    if kind == "classes":
        return X, labels(y)
    return X, np.column_stack([y, X[:, 0] - y]) if kind == "two outputs" else y


KINDS = ["numbers", "two outputs", "classes"]


def forest(kind="numbers", **params):
    make = Classifier if kind == "classes" else Regressor
    return make(**{**SMALL, **params})


@pytest.fixture(scope="module")
def fitted():
    """Return a fitted forest of each kind, judged out of bag."""
    return {kind: forest(kind, oob_score=True).fit(*targets(kind)) for kind in KINDS}


def codes(model, y):
    return np.searchsorted(model.classes_, y) if hasattr(model, "classes_") else y


# -- the law -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_density_is_the_average_of_the_trees(kind, fitted):
    model, (X, y) = fitted[kind], targets(kind)
    each = [tree.log_prob(X, codes(model, y)) for tree in model.estimators_]
    expected = logsumexp(each, axis=0) - np.log(3.0)
    np.testing.assert_allclose(model.log_prob(X, y), expected, rtol=1e-12, atol=1e-13)
    law = model.predict_distribution(X)
    np.testing.assert_allclose(
        law.log_prob(codes(model, y)), expected, rtol=1e-12, atol=1e-13
    )
    # An average of densities, not of their logarithms.
    assert np.abs(np.mean(each, axis=0) - expected).max() > 1e-3


def test_density_integrates_to_one(fitted):
    at = np.linspace(-30.0, 30.0, 60_001)
    for x in data()[0][[0, 7, 40]]:
        density = np.exp(fitted["numbers"].log_prob(np.tile(x, (at.size, 1)), at))
        assert np.trapezoid(density, at) == pytest.approx(1.0, rel=1e-9)


def test_probabilities_are_a_law_of_classes(fitted):
    model, (X, y) = fitted["classes"], targets("classes")
    proba = model.predict_proba(X)
    assert model.classes_.tolist() == ["a", "b", "c"]
    np.testing.assert_allclose(proba.sum(axis=1), 1.0, rtol=1e-12)
    expected = np.mean([tree.predict_proba(X) for tree in model.estimators_], axis=0)
    np.testing.assert_allclose(proba, expected, rtol=1e-12)
    np.testing.assert_array_equal(model.predict(X), model.classes_[proba.argmax(1)])
    np.testing.assert_array_equal(model.predict_log_proba(X), np.log(proba))
    for c, label in enumerate(model.classes_):
        found = np.exp(model.log_prob(X, np.full(N, label)))
        np.testing.assert_allclose(found, proba[:, c], rtol=1e-10, atol=1e-14)
    assert model.score(X, y) > 0.9


@pytest.mark.parametrize("kind", ["numbers", "two outputs"])
def test_moments_follow_from_those_of_the_trees(kind, fitted):
    model, (X, y) = fitted[kind], targets(kind)
    mean, std = model.predict(X, return_std=True)
    laws = [tree.predict_distribution(X) for tree in model.estimators_]
    means = np.array([law.mean for law in laws])
    np.testing.assert_allclose(mean, means.mean(axis=0), rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(model.predict(X), mean)
    # Noise within the trees, and their disagreement.
    within = np.mean([law.variance for law in laws], axis=0)
    np.testing.assert_allclose(std**2, within + means.var(axis=0), rtol=1e-10)
    assert (means.var(axis=0) > 0.02 * within).any()
    law = model.predict_distribution(X)
    np.testing.assert_allclose(law.mean, mean, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(law.variance, std**2, rtol=1e-10)
    assert mean.shape == std.shape == y.shape
    assert model.score(X, y) > 0.9


def test_leaves_of_all_trees_are_the_parts_of_the_law(fitted):
    model, (X, _) = fitted["numbers"], targets("numbers")
    law = model.predict_distribution(X)
    assert law.log_gate.shape == (N, 12)
    np.testing.assert_allclose(law.gate.sum(axis=1), 1.0, rtol=1e-12)
    for t, tree in enumerate(model.estimators_):
        own = slice(4 * t, 4 * t + 4)
        np.testing.assert_allclose(3 * law.gate[:, own], tree.leaf_proba(X))
        np.testing.assert_allclose(law.means[:, own], tree.predict_experts(X))
        np.testing.assert_array_equal(model.apply(X)[:, t], tree.apply(X))
    assert model.apply(X).shape == (N, 3)
    assert [w.shape for w in model.leaf_weights_] == [(4,)] * 3


def test_cdf_and_draws_follow_the_average(fitted):
    model, (X, y) = fitted["numbers"], targets("numbers")
    law = model.predict_distribution(X[:5])
    trees = [tree.predict_distribution(X[:5]) for tree in model.estimators_]
    expected = np.mean([tree.cdf(y[:5]) for tree in trees], axis=0)
    np.testing.assert_allclose(law.cdf(y[:5]), expected, rtol=1e-12)
    h = 1e-4
    slope = (law.cdf(y[:5] + h) - law.cdf(y[:5] - h)) / (2 * h)
    np.testing.assert_allclose(slope, np.exp(law.log_prob(y[:5])), rtol=1e-4, atol=1e-6)
    draws = law.sample(4000, random_state=1)
    assert draws.shape == (4000, 5)
    at = np.linspace(-12, 12, 961)
    for row in range(5):
        cdf = np.array([law.cdf(np.full(5, value))[row] for value in at])
        result = stats.ks_1samp(draws[:, row], partial(np.interp, xp=at, fp=cdf))
        assert result.pvalue > 1e-4


def test_draws_of_two_outputs_have_the_moments(fitted):
    law = fitted["two outputs"].predict_distribution(data()[0][:6])
    draws = law.sample(20_000, random_state=2)
    error = np.sqrt(law.variance / 20_000)
    assert (np.abs(draws.mean(axis=0) - law.mean) < 5 * error).all()
    np.testing.assert_allclose(draws.var(axis=0), law.variance, rtol=0.2)


def test_mode_is_as_high_as_that_of_any_tree(fitted):
    model, (X, _) = fitted["numbers"], targets("numbers")
    law = model.predict_distribution(X)
    height = law.log_prob(law.mode)
    for tree in model.estimators_:
        other = law.log_prob(tree.predict_distribution(X).mode)
        assert (height >= other - 1e-9).all()


# -- bags --------------------------------------------------------------------------

BAGS = {
    "all": {},
    "share": {"max_samples": 0.5},
    "number": {"max_samples": 80},
    "subsample": {"bootstrap": False, "max_samples": 0.6},
    "every row": {"bootstrap": False},
    "columns": {"max_gate_features": 2},
}


def redrawn(model, X, y, weight=None):
    """Return the bags of a fitted forest, drawn again from its seed."""
    weight = np.ones(len(y)) if weight is None else weight
    rng, bags = np.random.RandomState(model.random_state), []
    for _ in range(model.n_estimators):
        model._gate_columns(X.shape[1], rng)
        rng.randint(2**31 - 1)
        bags.append(model._bag(codes(model, y), weight, rng))
    return bags


@pytest.mark.parametrize("kind", ["numbers", "classes"])
@pytest.mark.parametrize("name", BAGS)
def test_each_tree_is_fitted_to_its_own_bag(name, kind):
    X, y = targets(kind)
    model = forest(kind, **BAGS[name]).fit(X, y)
    bags = redrawn(model, X, y)
    for tree, bag, leaves in zip(
        model.estimators_, bags, model.leaf_weights_, strict=True
    ):
        assert leaves.sum() == pytest.approx(bag.sum())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            again = clone(tree).fit(X, codes(model, y), sample_weight=bag)
        np.testing.assert_array_equal(again.predict(X), tree.predict(X))
    if name == "every row":
        np.testing.assert_array_equal(bags, 1.0)
    else:
        assert (bags[0] != bags[1]).any()


def drawn(n=600, weight=None, y=None, seeds=1, **params):
    """Return bags of n rows, by themselves."""
    model = forest("numbers" if y is None else "classes", **params)
    model.classes_ = None if y is None else np.unique(y)
    weight = np.ones(n) if weight is None else weight
    y = np.zeros(n) if y is None else y
    return [model._bag(y, weight, np.random.RandomState(s)) for s in range(seeds)]


def test_a_bootstrap_draws_as_many_rows_as_there_are():
    (bag,) = drawn()
    assert bag.sum() == 600
    np.testing.assert_array_equal(bag, np.round(bag))
    # A row is left out with probability 1 / e.
    assert 0.33 < (bag == 0).mean() < 0.41


@pytest.mark.parametrize("max_samples", [150, 0.25])
def test_smaller_bags_weigh_less(max_samples):
    """A row drawn counts as one row, whatever the others' number."""
    (bag,) = drawn(max_samples=max_samples)
    assert bag.sum() == pytest.approx(150)
    assert bag.max() >= 2
    (part,) = drawn(max_samples=max_samples, bootstrap=False)
    assert part.sum() == pytest.approx(150)
    assert set(part) == {0.0, 1.0}


def test_a_bag_may_be_larger_than_the_table():
    (bag,) = drawn(60, max_samples=300)
    assert bag.sum() == pytest.approx(300)
    with pytest.raises(ValueError, match="max_samples=300 is more than the 60 rows"):
        drawn(60, max_samples=300, bootstrap=False)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 50.0])
def test_rows_are_drawn_in_proportion_to_their_weight(scale):
    weight = scale * np.linspace(0.0, 2.0, 101)[1:]
    bags = np.array(drawn(100, weight, seeds=400))
    np.testing.assert_allclose(bags.sum(axis=1), weight.sum())
    error = np.sqrt(weight * weight.mean() / 400)
    assert (np.abs(bags.mean(axis=0) - weight) < 5 * error).all()
    # Draws are whole: a row counts once, twice, ..., each time alike.
    np.testing.assert_allclose(bags / weight.mean(), np.round(bags / weight.mean()))


def test_a_subsample_keeps_the_weights():
    weight = np.linspace(0.0, 2.0, 101)[1:]
    bags = np.array(drawn(100, weight, seeds=200, bootstrap=False, max_samples=0.5))
    for bag in bags:
        inside = bag > 0
        assert inside.sum() == 50
        np.testing.assert_array_equal(bag[inside], weight[inside])
    # Every row as often as any other.
    share = (bags > 0).mean(axis=0)
    assert (np.abs(share - 0.5) < 5 * 0.5 / np.sqrt(200)).all()


@pytest.mark.parametrize("bootstrap", [True, False])
def test_no_bag_misses_a_class(bootstrap):
    y = np.zeros(200, dtype=int)
    y[3], y[10:15] = 1, 2
    for bag in drawn(200, y=y, seeds=50, bootstrap=bootstrap, max_samples=0.1):
        assert [(bag[y == c] > 0).any() for c in range(3)] == [True] * 3
        assert 15 < bag.sum() < 25


@pytest.mark.parametrize("bootstrap", [True, False])
def test_classes_weigh_what_their_rows_weigh(bootstrap):
    """Ten rows of weight one are as good as one row of weight ten."""
    y = np.arange(200) % 2
    weight = np.where(y == 1, 9.0, 1.0)
    for bag in drawn(200, weight, y, seeds=5, bootstrap=bootstrap):
        assert bag.sum() == pytest.approx(1000.0)
        assert bag[y == 1].sum() == pytest.approx(900.0)
    X = np.random.default_rng(0).normal(size=(200, 1))
    model = forest("classes", bootstrap=bootstrap).fit(X, y, sample_weight=weight)
    assert model.predict_proba(X)[:, 1].mean() == pytest.approx(0.9, abs=0.03)


def test_weights_of_zero_are_rows_removed():
    X, y = data()
    weight = np.random.default_rng(1).uniform(0.5, 2.0, size=N)
    weight[::4] = 0.0
    kept = weight > 0
    for params in ({}, {"bootstrap": False, "max_samples": 0.7}):
        whole = forest(**params).fit(X, y, sample_weight=weight)
        part = forest(**params).fit(X[kept], y[kept], sample_weight=weight[kept])
        np.testing.assert_array_equal(whole.predict(X), part.predict(X))


@pytest.mark.parametrize("kind", ["numbers", "classes"])
def test_without_random_bags_a_weight_is_a_number_of_rows(kind):
    X, y = targets(kind)
    count = np.random.default_rng(2).integers(1, 4, size=N)
    params = {"bootstrap": False, "n_estimators": 2}
    if kind == "numbers":  # by default experts suit the number of different rows
        params["experts"] = make_pipeline(SplineTransformer(3), LinearExpert())
    weighted = forest(kind, **params).fit(X, y, sample_weight=count)
    repeated = forest(kind, **params).fit(np.repeat(X, count, 0), np.repeat(y, count))
    found = [model.predict_distribution(X).mean for model in (weighted, repeated)]
    np.testing.assert_allclose(*found, rtol=1e-7, atol=1e-9)


# -- what the gates see ------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "n_columns"), [(1, 1), (2, 2), (0.5, 2), (0.4, 1), (1e-3, 1), (3, 3)]
)
def test_gates_see_some_columns(wanted, n_columns):
    X, y = data()
    model = forest(max_gate_features=wanted, n_estimators=6, depth=1).fit(X, y)
    seen = [tree.gate_features or [0, 1, 2] for tree in model.estimators_]
    assert {len(columns) for columns in seen} == {n_columns}
    if n_columns == 3:
        return
    assert len({tuple(columns) for columns in seen}) > 1
    for tree, columns in zip(model.estimators_, seen, strict=True):
        other = np.array(X)
        hidden = np.setdiff1d(range(3), columns)
        other[:, hidden] = 7.0
        np.testing.assert_array_equal(tree.gate_proba(other), tree.gate_proba(X))
        # The experts see all of them.
        assert np.abs(tree.predict(other) - tree.predict(X)).max() > 0.01


def test_all_columns_are_the_default():
    X, y = data()
    expected = forest().fit(X, y).predict(X)
    for wanted in (3, 1.0):
        model = forest(max_gate_features=wanted).fit(X, y)
        assert [tree.gate_features for tree in model.estimators_] == [None] * 3
        np.testing.assert_array_equal(model.predict(X), expected)


# -- chance ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["numbers", "classes"])
def test_a_seed_gives_a_forest(kind):
    X, y = targets(kind)
    params = {"max_gate_features": 2, "init": "random", "oob_score": True}
    one, same = (forest(kind, **params).fit(X, y) for _ in range(2))
    for name in ("oob_score_", "oob_log_score_", "feature_importances_"):
        np.testing.assert_array_equal(getattr(one, name), getattr(same, name))
    found = [m.predict_distribution(X).mean for m in (one, same)]
    np.testing.assert_array_equal(*found)
    other = forest(kind, **{**params, "random_state": 1}).fit(X, y)
    assert np.abs(other.predict_distribution(X).mean - found[0]).max() > 1e-3
    # A generator goes on: the second forest is another one.
    rng = np.random.RandomState(0)
    first, second = (
        forest(kind, **{**params, "random_state": rng}).fit(X, y) for _ in range(2)
    )
    np.testing.assert_array_equal(first.predict_distribution(X).mean, found[0])
    assert np.abs(second.predict_distribution(X).mean - found[0]).max() > 1e-3


@pytest.mark.parametrize("kind", ["numbers", "classes"])
def test_the_number_of_jobs_changes_nothing(kind, fitted):
    X, y = targets(kind)
    filters = list(warnings.filters)
    with joblib.parallel_config(backend="threading"):
        model = forest(kind, n_jobs=2, oob_score=True).fit(X, y)
    assert warnings.filters == filters
    plain = fitted[kind]
    np.testing.assert_array_equal(
        model.predict_distribution(X).mean, plain.predict_distribution(X).mean
    )
    assert model.oob_log_score_ == plain.oob_log_score_


def test_trees_differ(fitted):
    X = data()[0]
    found = [tree.predict(X) for tree in fitted["numbers"].estimators_]
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(found[i] - found[j]).max() > 1e-2
    seeds = [tree.random_state for tree in fitted["numbers"].estimators_]
    assert len(set(seeds)) == 3


# -- out of bag --------------------------------------------------------------------


def out_of_bag(model, X, y, weight=None):
    """Return prediction and log density of each row by the trees that missed it."""
    bags = np.array(redrawn(model, X, y, weight))
    laws = [tree.predict_distribution(X) for tree in model.estimators_]
    log_prob = [law.log_prob(codes(model, y)) for law in laws]
    means, densities = [], []
    for i in range(len(y)):
        trees = np.flatnonzero(bags[:, i] == 0)
        own = [laws[t].mean[i] for t in trees]
        means.append(np.mean(own, axis=0) if own else None)
        each = [log_prob[t][i] for t in trees]
        densities.append(logsumexp(each) - np.log(len(each)) if each else np.nan)
    return means, np.array(densities)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_out_of_bag_scores_by_hand(kind, weighted):
    X, y = targets(kind)
    weight = np.random.default_rng(3).uniform(0.3, 2.0, N) if weighted else np.ones(N)
    model = forest(kind, oob_score=True).fit(X, y, sample_weight=weight)
    means, density = out_of_bag(model, X, y, weight)
    found = model.oob_decision_function_ if kind == "classes" else model.oob_prediction_
    seen = ~np.isnan(density)
    # With three trees some rows are in every bag.
    assert 10 < (~seen).sum() < 60
    assert np.isnan(found[~seen]).all()
    expected = np.array([mean for mean in means if mean is not None])
    np.testing.assert_allclose(found[seen], expected, rtol=1e-10, atol=1e-12)
    share = weight[seen] / weight[seen].sum()
    assert model.oob_log_score_ == pytest.approx(share @ density[seen], rel=1e-10)
    if kind == "classes":
        predicted = model.classes_[expected.argmax(axis=1)]
        score = accuracy_score(y[seen], predicted, sample_weight=weight[seen])
    else:
        score = r2_score(y[seen], expected, sample_weight=weight[seen])
    assert model.oob_score_ == pytest.approx(score, rel=1e-12)


def test_out_of_bag_scores_foretell_new_rows():
    X, y = data(300)
    model = forest(n_estimators=10, oob_score=True).fit(X, y)
    new, truth = data(2000, seed=9)
    assert model.oob_score_ == pytest.approx(model.score(new, truth), abs=0.05)
    held_out = model.log_prob(new, truth).mean()
    # Fewer trees judge each row, so it is a little lower.
    assert held_out - 0.5 < model.oob_log_score_ < held_out + 0.2
    assert model.oob_log_score_ < model.log_prob(X, y).mean()


@pytest.mark.parametrize("kind", KINDS)
def test_importances_find_the_columns_that_matter(kind, fitted):
    share = fitted[kind].feature_importances_
    assert share.shape == (3,)
    assert share.sum() == pytest.approx(1.0)
    assert (share >= 0.0).all()
    assert share[2] < 0.03
    assert share[:2].min() > 0.2


def test_importances_do_not_depend_on_units():
    X, y = data()
    plain = forest(oob_score=True).fit(X, y)
    scaled = forest(oob_score=True).fit(X * [1e6, 1.0, 1e-6] + 5.0, 1e4 * y)
    np.testing.assert_allclose(
        scaled.feature_importances_, plain.feature_importances_, atol=1e-3
    )


def test_rows_of_weight_zero_are_rows_of_the_prediction():
    """Attributes about rows are about those that were given."""
    X, y = data()
    weight = np.ones(N)
    weight[:20] = 0.0
    model = forest(oob_score=True).fit(X, y, sample_weight=weight)
    part = forest(oob_score=True).fit(X[20:], y[20:])
    assert model.oob_prediction_.shape == (N,)
    np.testing.assert_array_equal(model.oob_prediction_[20:], part.oob_prediction_)
    assert model.oob_score_ == part.oob_score_
    X, y = targets("classes")
    model = forest("classes", oob_score=True).fit(X, y, sample_weight=weight)
    assert model.oob_decision_function_.shape == (N, 3)


def test_nothing_out_of_bag_is_an_error():
    X, y = data()
    model = forest(oob_score=True, bootstrap=False)
    with pytest.raises(ValueError, match=r"every row is in every bag.*bootstrap=True"):
        model.fit(X, y)
    assert not hasattr(model, "estimators_")
    model.set_params(max_samples=0.5).fit(X, y)
    assert np.isnan(model.oob_prediction_).sum() < N / 4


@pytest.mark.parametrize("kind", ["numbers", "classes"])
def test_a_fit_without_scores_leaves_none_of_an_earlier_one(kind):
    X, y = targets(kind)
    model = forest(kind, oob_score=True).fit(X, y)
    judged = {name for name in vars(model) if "oob" in name or "importances" in name}
    assert len(judged) == 5  # four results and the parameter
    model.set_params(oob_score=False).fit(X, y)
    left = {name for name in vars(model) if "oob" in name or "importances" in name}
    assert left == {"oob_score"}


# -- kinds of input ----------------------------------------------------------------


@pytest.mark.parametrize("names", [("b", "c", "a"), (2, 7, -1), (1.0, 2.0, -5.0)])
def test_labels_of_any_type(names, fitted):
    X, y = data()
    model = forest("classes").fit(X, labels(y, names))
    np.testing.assert_array_equal(model.classes_, np.unique(names))
    # The same classes in the same order: the same forest.
    np.testing.assert_array_equal(
        model.predict_proba(X), fitted["classes"].predict_proba(X)
    )
    assert model.predict(X).dtype == np.array(names).dtype
    np.testing.assert_array_equal(
        model.log_prob(X, labels(y, names)),
        fitted["classes"].log_prob(X, labels(y)),
    )


def test_truth_values_are_labels():
    X, y = data()
    model = forest("classes").fit(X, y > 0)
    assert model.classes_.tolist() == [False, True]
    assert model.predict(X).dtype == bool
    assert model.score(X, y > 0) > 0.9


@pytest.mark.parametrize(
    "frame", [pd.DataFrame, pl.DataFrame], ids=["pandas", "polars"]
)
def test_data_frames(frame, fitted):
    X, y = data()
    table = frame(dict(zip("abc", X.T, strict=True)))
    model = forest(oob_score=True).fit(table, y)
    assert model.feature_names_in_.tolist() == ["a", "b", "c"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(
            model.predict(table), fitted["numbers"].predict(X)
        )
        model.log_prob(table, y)
        model.apply(table)
    with pytest.raises(ValueError, match="names should match"):
        model.predict(frame(dict(zip("abd", X.T, strict=True))))


def test_columns_by_name():
    X, y = data()
    table = pd.DataFrame(X, columns=["a", "b", "c"])
    named = [("one", LinearExpert(), ["b"]), ("two", LinearExpert(), ["b", "c"])]
    placed = [("one", LinearExpert(), [1]), ("two", LinearExpert(), [1, 2])]
    model = forest(experts=named).fit(table, y)
    expected = forest(experts=placed).fit(X, y)
    np.testing.assert_array_equal(model.predict(table), expected.predict(X))
    assert named[0][2] == ["b"]
    with pytest.raises(ValueError, match="'d'"):
        forest(experts=[("one", LinearExpert(), ["d"]), LinearExpert()]).fit(table, y)


@pytest.mark.parametrize(
    "make", [sparse.csr_array, sparse.csr_matrix, sparse.coo_array]
)
def test_sparse_columns(make):
    X, y = data()
    X = np.where(np.abs(X) < 0.4, 0.0, X)
    rows = make(X)
    model = forest(oob_score=True).fit(rows, y)
    assert model.score(rows, y) > 0.75
    assert all(type(e) is LinearExpert for e in model.estimators_[0].experts_)
    np.testing.assert_allclose(model.predict(rows), model.predict(make(X)), rtol=1e-12)
    assert model.feature_importances_[2] < 0.05
    assert model.feature_importances_.sum() == pytest.approx(1.0)
    density = model.predict_distribution(rows).log_prob(y)
    np.testing.assert_allclose(model.log_prob(rows, y), density, rtol=1e-12)


def test_sparse_importances_are_those_of_dense_columns():
    X, y = data()
    given = {"experts": LinearExpert(fit_intercept=True), "oob_score": True}
    dense = forest(**given).fit(X, y)
    thin = forest(**given).fit(sparse.csr_array(X), y)
    np.testing.assert_allclose(
        thin.feature_importances_, dense.feature_importances_, atol=0.05
    )


def test_a_single_column_of_responses():
    X, y = data()
    model = forest(oob_score=True).fit(X, y[:, None])
    plain = forest(oob_score=True).fit(X, y)
    np.testing.assert_allclose(model.predict(X), plain.predict(X)[:, None], rtol=1e-9)
    assert model.oob_prediction_.shape == (N, 1)
    assert model.oob_score_ == pytest.approx(plain.oob_score_)
    with pytest.raises(ValueError, match=r"shape \(n_samples, 1\) as in fit"):
        model.log_prob(X, y)


def test_a_column_of_labels_is_flattened_with_a_word():
    X, y = targets("classes")
    with pytest.warns(DataConversionWarning, match="column-vector y"):
        model = forest("classes").fit(X, y[:, None])
    assert model.predict(X).shape == (N,)


@pytest.mark.parametrize("scale", [1e-9, 1e9])
def test_any_unit(scale, fitted):
    X, y = data()
    model = forest(oob_score=True).fit(scale * X, y / scale)
    np.testing.assert_allclose(
        scale * model.predict(scale * X), fitted["numbers"].predict(X), rtol=1e-6
    )
    expected = fitted["numbers"].oob_log_score_ + np.log(scale)
    assert model.oob_log_score_ == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("kind", ["numbers", "classes"])
@pytest.mark.parametrize("dull", ["constant", "mostly zero", "two values", "all"])
def test_columns_without_much_in_them(kind, dull):
    """Quantile knots fall together there."""
    X, y = targets(kind)
    extra = {
        "constant": np.full(N, 3.0),
        "mostly zero": np.where(np.arange(N) % 30 == 0, X[:, 2], 0.0),
        "two values": (X[:, 2] > 0).astype(float),
    }
    X = np.ones((N, 2)) if dull == "all" else np.column_stack([X[:, :2], extra[dull]])
    model = forest(kind, oob_score=True).fit(X, y)
    assert np.isfinite(model.log_prob(X, y)).all()
    assert np.isfinite(model.feature_importances_).all()
    if dull != "all":
        assert model.score(X, y) > 0.8


# -- which experts, which gates ----------------------------------------------------

# (rows, columns): (knots, degree) of the splines
DEFAULTS = {
    (2000, 12): (4, 2),
    (2001, 12): (3, 2),
    (2000, 16): (3, 2),
    (2000, 17): (3, 1),
    (2000, 25): (3, 1),
    (2000, 26): None,
    (160, 2): (4, 2),
    (120, 2): (3, 2),
    (119, 2): (3, 1),
    (120, 3): (3, 1),
    (120, 4): None,
    (30, 1): None,
    (100_000, 3): (3, 2),
}


@pytest.mark.parametrize(("shape", "spline"), DEFAULTS.items())
def test_default_experts_suit_rows_and_columns(shape, spline):
    """At most 50 columns, each with 20 rows to it."""
    forest, X = Regressor(), np.broadcast_to(0.0, shape)
    forest._coder = TableCoder(X, None, None)
    expert = forest._default_experts(X)
    if spline is None:
        assert type(expert) is LinearExpert
        return
    assert type(expert) is ExpandedExpert
    transformer = expert.transformer
    assert (transformer.n_knots, transformer.degree) == spline
    X = np.random.default_rng(0).normal(size=(60, shape[1]))
    assert clone(transformer).fit(X).n_features_out_ <= min(50, shape[0] / 20)


@pytest.mark.parametrize(
    ("n_columns", "kind"), [(2, ExpandedExpert), (5, LinearExpert)]
)
def test_experts_by_default(n_columns, kind):
    X, y = np.random.default_rng(0).normal(size=(N, n_columns)), data()[1]
    model = forest().fit(X, y)
    assert {type(e) for tree in model.estimators_ for e in tree.experts_} == {kind}
    assert model.experts is None


def test_classifiers_by_default(fitted):
    for tree in fitted["classes"].estimators_:
        assert {type(e) for e in tree.experts_} == {LogisticExpert}
        assert {e.alpha for e in tree.experts_} == {0.3}
        assert {gate.alpha for gate in tree.gate_.gates} == {1.0}


GIVEN = {
    "linear": LinearExpert(alpha=2.0),
    "pipeline": make_pipeline(SplineTransformer(4), LinearExpert()),
    "estimator": Ridge(),
    "tree": [LinearExpert(), [("ridge", Ridge()), LinearExpert(), LinearExpert()]],
    "mixture": HierarchicalMixtureOfExpertsRegressor(LinearExpert(), depth=1),
}


@pytest.mark.parametrize("name", GIVEN)
def test_experts_as_the_trees_take_them(name):
    X, y = data()
    model = forest(experts=GIVEN[name], depth=1).fit(X, y)
    n_leaves = {"tree": 4, "mixture": 4}.get(name, 2)
    assert [len(tree.experts_) for tree in model.estimators_] == [n_leaves] * 3
    assert model.score(X, y) > 0.5
    # Fitted are clones: what was given is as it was.
    given = GIVEN[name] if name != "tree" else GIVEN[name][1][0][1]
    assert not [key for key in vars(given) if key.endswith("_")]


@pytest.mark.parametrize(
    "gate", [SoftmaxGate(5.0), GaussianGate(), LogisticRegression()]
)
def test_gates_as_the_trees_take_them(gate):
    X, y = data()
    model = forest(gate=gate, depth=1, experts=LinearExpert()).fit(X, y)
    assert model.score(X, y) > 0.5
    assert not [key for key in vars(gate) if key.endswith("_")]


def test_branchings():
    X, y = data()
    model = forest(branching=[2, 3]).fit(X, y)
    assert [len(tree.experts_) for tree in model.estimators_] == [6, 6, 6]
    model = forest(branching=3, depth=1).fit(X, y)
    assert [len(tree.experts_) for tree in model.estimators_] == [3, 3, 3]


def test_paths_left_out():
    X, y = data()
    params = {"depth": 3, "gate": SoftmaxGate(1e-3), "experts": LinearExpert()}
    dense = forest(**params).fit(X, y)
    paths = forest(path_tol=1e-3, **params).fit(X, y)
    assert [tree.path_tol for tree in paths.estimators_] == [1e-3] * 3
    assert paths.predict_distribution(X).skipped_share > 0.1
    assert dense.predict_distribution(X).skipped_share == 0.0
    assert paths.score(X, y) == pytest.approx(dense.score(X, y), abs=0.05)
    np.testing.assert_allclose(
        paths.predict_distribution(X).gate.sum(axis=1), 1.0, atol=0.01
    )


@pytest.mark.parametrize("init", ["auto", "kmeans", "random", "segments", "gaussian"])
def test_starts(init):
    X, y = data()
    model = forest(init=init).fit(X, y)
    assert model.score(X, y) > 0.85
    assert [tree.n_init for tree in model.estimators_] == [1] * 3


def test_passes_are_few_and_counted():
    X, y = data()
    one = forest(max_iter=1).fit(X, y)
    many = forest(max_iter=60, tol=1e-9).fit(X, y)
    assert 1 <= one.n_iter_ < many.n_iter_
    assert many.n_iter_ == max(tree.n_iter_ for tree in many.estimators_)


@pytest.mark.parametrize("n_rows", [4, 9, 20])
@pytest.mark.parametrize("kind", ["numbers", "classes"])
def test_few_rows_make_small_trees(kind, n_rows):
    """The default would be sixteen leaves."""
    X, y = targets(kind)
    first = np.flatnonzero(y == "a")[: n_rows // 2] if kind == "classes" else []
    rows = np.concatenate([first, np.setdiff1d(np.arange(N), first)])[:n_rows]
    rows = rows.astype(int)
    make = Classifier if kind == "classes" else Regressor
    model = make(5, random_state=0).fit(X[rows], y[rows])
    for tree, bag in zip(
        model.estimators_, redrawn(model, X[rows], y[rows]), strict=True
    ):
        assert 2 <= len(tree.experts_) <= max(2, (bag > 0).sum())
    known = np.isin(y, y[rows]) if kind == "classes" else np.arange(N)
    assert np.isfinite(model.log_prob(X[known], y[known])).all()
    # The parameter stays what it was asked for.
    assert model.depth == 4


# -- as an estimator ---------------------------------------------------------------


def test_parameters_can_be_reached():
    model = forest(experts=make_pipeline(SplineTransformer(), LinearExpert()))
    model.set_params(
        experts__linearexpert__alpha=3.0, experts__splinetransformer__n_knots=4
    )
    assert model.get_params()["experts__linearexpert__alpha"] == 3.0
    model = forest(gate=SoftmaxGate()).set_params(gate__alpha=0.5)
    assert model.gate.alpha == 0.5
    named = [("one", LinearExpert()), ("two", Ridge())]
    model = forest(experts=named).set_params(one__alpha=4.0, two=LinearExpert())
    assert model.get_params()["one__alpha"] == 4.0
    assert type(model.get_params()["two"]) is LinearExpert
    assert clone(model).get_params()["one__alpha"] == 4.0
    with pytest.raises(ValueError, match="Invalid parameter 'n_experts'"):
        forest().set_params(n_experts=3)


@pytest.mark.parametrize("kind", ["numbers", "classes"])
def test_clones_and_pickles(kind, fitted):
    X, y = targets(kind)
    model = fitted[kind]
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    np.testing.assert_array_equal(again.log_prob(X, y), model.log_prob(X, y))
    fresh = clone(model)
    assert not hasattr(fresh, "estimators_")
    assert fresh.get_params() == model.get_params()
    np.testing.assert_array_equal(fresh.fit(X, y).predict(X), model.predict(X))


def test_a_pickle_holds_no_training_rows():
    few, many = (forest(max_iter=2).fit(*data(n)) for n in (200, 4000))
    sizes = [len(pickle.dumps(model)) for model in (few, many)]
    assert sizes[1] < 1.5 * sizes[0]


def test_grid_search_over_depth_and_ridge():
    X, y = data()
    model = forest(n_estimators=2, experts=LinearExpert())
    grid = {"depth": [1, 2], "experts__alpha": [0.1, 1e4], "bootstrap": [True, False]}
    search = GridSearchCV(model, grid, cv=2).fit(X, y)
    assert search.best_params_["experts__alpha"] == 0.1
    assert search.best_score_ > 0.8
    scores = cross_val_score(forest("classes"), *targets("classes"), cv=3)
    assert scores.min() > 0.75


def test_stacks_and_bags_around_a_forest():
    X, y = data()
    parts = [("forest", forest(n_estimators=2)), ("ridge", Ridge())]
    assert StackingRegressor(parts, cv=2).fit(X, y).score(X, y) > 0.9
    bagged = BaggingRegressor(forest(n_estimators=1), 2, random_state=0).fit(X, y)
    assert bagged.score(X, y) > 0.7
    X, y = targets("classes")
    parts = [("forest", forest("classes")), ("plain", LogisticRegression())]
    assert StackingClassifier(parts, cv=2).fit(X, y).score(X, y) > 0.85


def test_averaging_improves_the_density():
    gains = []
    for seed in range(2):
        X, y = make_friedman1(500, noise=1.0, random_state=seed)
        model = Regressor(6, depth=2, random_state=0).fit(X[:200], y[:200])
        single = [t.log_prob(X[200:], y[200:]).mean() for t in model.estimators_]
        gains.append(model.log_prob(X[200:], y[200:]).mean() - np.mean(single))
    assert min(gains) > 0.05


def test_representation():
    assert repr(Regressor(5, depth=2)) == (
        "HierarchicalMixtureForestRegressor(depth=2, n_estimators=5)"
    )
    assert "HierarchicalMixtureForestClassifier" in Classifier()._repr_html_()
    assert has_fit_parameter(Regressor(), "sample_weight")


# -- bad input ---------------------------------------------------------------------


def broken(X, y, where, value):
    """Return copies of which one has a bad number."""
    X, y = np.array(X), np.array(y)
    if where == "X":
        X[3, 1] = value
    else:
        y[3] = value
    return X, y


BAD_ARGUMENTS = [
    ({"n_estimators": 0}, r"'n_estimators' .* Got 0"),
    ({"depth": 0}, r"'depth' .* Got 0"),
    ({"depth": 1.5}, r"'depth' .* Got 1.5"),
    ({"branching": 1}, r"'branching' .* Got 1"),
    ({"branching": [2, 2, 2]}, r"one for each of depth=2 levels, got \[2, 2, 2\]"),
    ({"max_gate_features": 0}, r"'max_gate_features' .* Got 0"),
    ({"max_gate_features": 1.5}, r"'max_gate_features' .* Got 1.5"),
    ({"max_gate_features": 4}, r"max_gate_features=4 is more than the 3 columns"),
    ({"max_samples": 0}, r"'max_samples' .* Got 0"),
    ({"max_samples": 1.5}, r"'max_samples' .* Got 1.5"),
    (
        {"max_samples": 500, "bootstrap": False},
        r"max_samples=500 is more than the 120 rows",
    ),
    ({"bootstrap": "no"}, r"'bootstrap' .* Got 'no'"),
    ({"path_tol": 1.0}, r"'path_tol' .* Got 1.0"),
    ({"init": "nope"}, r"init must be 'auto', one of .*'tree'.* got 'nope'"),
    ({"init": None}, r"'init' .* Got None"),
    ({"max_iter": 0}, r"'max_iter' .* Got 0"),
    ({"tol": -1.0}, r"'tol' .* Got -1.0"),
    ({"random_state": "x"}, r"'random_state' .* Got 'x'"),
    ({"n_jobs": 1.5}, r"'n_jobs' .* Got 1.5"),
    ({"experts": []}, "empty list"),
    ({"experts": LogisticExpert()}, "is a classifier, but this mixture needs regress"),
    ({"branching": [8, 16]}, r"n_samples=\d+ .*fewer than"),
]


@pytest.mark.parametrize(("params", "message"), BAD_ARGUMENTS)
def test_bad_arguments(params, message):
    X, y = data()
    with pytest.raises(ValueError, match=message):
        forest(**params).fit(X, y)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"experts": 3}, "3"),
        ({"experts": Ridge}, "class"),
        ({"gate": 3}, "gate must be None, a gate of skmoe.gates, .* got 3"),
        ({"gate": SoftmaxGate}, "SoftmaxGate"),
    ],
)
def test_parts_that_are_none(params, message):
    X, y = data()
    with pytest.raises(TypeError, match=message):
        forest(**params).fit(X, y)


BAD_DATA = [
    ("numbers", "X", np.inf, "contains infinity"),
    ("numbers", "y", np.nan, "y contains NaN"),
    ("numbers", "y", np.inf, "y contains infinity"),
    ("classes", "X", -np.inf, "contains infinity"),
]


@pytest.mark.parametrize(("kind", "where", "value", "message"), BAD_DATA)
def test_numbers_that_are_none(kind, where, value, message):
    with pytest.raises(ValueError, match=message):
        forest(kind).fit(*broken(*targets(kind), where, value))


def test_targets_of_the_wrong_kind():
    X, y = data()
    with pytest.raises(ValueError, match="y must be numeric for a regressor"):
        forest().fit(X, labels(y))
    with pytest.raises(ValueError, match="Unknown label type: continuous"):
        forest("classes").fit(X, y)
    with pytest.raises(ValueError, match=r"two classes, got one class: 'a'"):
        forest("classes").fit(X, np.full(N, "a"))
    with pytest.raises(ValueError, match="y contains NaN: first in row 3"):
        forest("classes").fit(*broken(X, labels(y).astype(object), "y", None))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        forest().fit(X, y[:-1])
    with pytest.raises(ValueError, match="requires y to be passed"):
        forest().fit(X, None)
    # One class of positive weight is one class.
    weight = (labels(y) == "a").astype(float)
    with pytest.raises(ValueError, match=r"two classes, got one class: 'a'"):
        forest("classes").fit(X, labels(y), sample_weight=weight)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.zeros(N), "non-zero|positive"),
        (np.full(N, -1.0), "Negative values"),
        (np.full(N, np.nan), "NaN"),
        (np.ones(3), r"expected \(120,\)"),
    ],
)
def test_bad_weights(weight, message):
    X, y = data()
    with pytest.raises(ValueError, match=message):
        forest().fit(X, y, sample_weight=weight)


METHODS = ["predict", "predict_distribution", "apply"]


@pytest.mark.parametrize("kind", ["numbers", "classes"])
def test_not_fitted(kind):
    X, y = targets(kind)
    more = ["predict_proba", "predict_log_proba"] if kind == "classes" else []
    for name in METHODS + more:
        with pytest.raises(NotFittedError):
            getattr(forest(kind), name)(X)
    with pytest.raises(NotFittedError):
        forest(kind).log_prob(X, y)
    with pytest.raises(NotFittedError):
        check_is_fitted(forest(kind))


def test_new_rows_of_another_shape(fitted):
    X, y = data()
    model = fitted["numbers"]
    for name in METHODS:
        with pytest.raises(ValueError, match="X has 2 features, but"):
            getattr(model, name)(X[:, :2])
    with pytest.raises(ValueError, match="contains infinity"):
        model.predict(broken(X, y, "X", np.inf)[0])
    with pytest.raises(ValueError, match=r"shape \(n_samples\) as in fit"):
        model.log_prob(X, y[:, None])
    with pytest.raises(ValueError, match=r"\(n_samples, 2\) as in fit"):
        fitted["two outputs"].log_prob(X, y)
    with pytest.raises(ValueError, match=r"not seen in fit: \['z'\]"):
        fitted["classes"].log_prob(X, np.full(N, "z"))
    with pytest.raises(ValueError, match="inconsistent numbers"):
        model.log_prob(X, y[:5])


class Failing(LinearExpert):
    """A linear expert that raises in its M-step, by what it is told."""

    error = None

    def m_step(self, X, y, weight):
        if Failing.error is not None:
            raise Failing.error
        super().m_step(X, y, weight)


@pytest.mark.parametrize(
    ("error", "raised"),
    [(ZeroDivisionError("no"), ExpertError), (KeyboardInterrupt(), KeyboardInterrupt)],
)
def test_a_fit_that_fails_leaves_the_forest_as_it_was(error, raised, monkeypatch):
    X, y = data()
    model = forest(experts=Failing(), depth=1, oob_score=True)
    monkeypatch.setattr(Failing, "error", error)
    with pytest.raises(raised):
        model.fit(X, y)
    assert not hasattr(model, "estimators_")
    assert not hasattr(model, "n_features_in_")
    monkeypatch.setattr(Failing, "error", None)
    before = dict(vars(model.fit(X, y)))
    predicted = model.predict(X)
    monkeypatch.setattr(Failing, "error", error)
    with pytest.raises(raised):
        model.fit(X[:, :2], 2.0 * y)
    assert vars(model) == before
    np.testing.assert_array_equal(model.predict(X), predicted)


@pytest.mark.parametrize("kind", ["numbers", "classes"])
def test_bad_data_leave_the_forest_as_it_was(kind):
    X, y = targets(kind)
    model = forest(kind).fit(X, y)
    before = dict(vars(model))
    with pytest.raises(ValueError, match="infinity"):
        model.fit(*broken(X[:, :2], y, "X", np.inf))
    model.max_gate_features = 9
    with pytest.raises(ValueError, match="max_gate_features=9"):
        model.fit(X, y)
    assert vars(model) == {**before, "max_gate_features": 9}
    assert model.n_features_in_ == 3


def test_trees_are_those_of_their_kind(fitted):
    kinds = {
        "numbers": HierarchicalMixtureOfExpertsRegressor,
        "classes": HierarchicalMixtureOfExpertsClassifier,
    }
    for kind, tree in kinds.items():
        assert {type(t) for t in fitted[kind].estimators_} == {tree}


# -- scikit-learn's own checks -----------------------------------------------------

TINY = {"n_estimators": 2, "depth": 1, "random_state": 0}
# A row drawn by chance is not the row of weight two; without chance it is.
OF_FIXED_BAGS = (
    "check_sample_weight_equivalence_on_dense_data",
    "check_sample_weight_equivalence_on_sparse_data",
)


def name_of(case):
    check = check_of(case)
    return getattr(check, "func", check).__name__


def for_random_bags(estimators):
    """Return the checks but those that no random bag can meet."""
    names = {name_of(case) for case in checks(estimators).args[1]}
    assert set(OF_FIXED_BAGS) <= names
    return checks(estimators, only=names - set(OF_FIXED_BAGS))


@checks([Regressor(bootstrap=False, **TINY), Classifier(bootstrap=False, **TINY)])
def test_forests_without_random_bags_pass_all_checks(estimator, check):
    check(estimator)


@for_random_bags([Regressor(oob_score=True, **TINY), Classifier(**TINY)])
def test_forests_of_random_bags_pass_all_others(estimator, check):
    check(estimator)


def test_trees_do_not_keep_their_bags():
    X, y = np.random.default_rng(0).normal(size=(60, 2)), np.arange(60.0)
    forest = HierarchicalMixtureForestRegressor(2, depth=1, random_state=0).fit(X, y)
    assert all(tree._training_rows is None for tree in forest.estimators_)
