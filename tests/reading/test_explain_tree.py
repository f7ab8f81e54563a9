"""What columns contribute: sums equal predictions, whatever sits in the leaves."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse, special
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import (
    HuberRegressor,
    LinearRegression,
    LogisticRegression,
    PoissonRegressor,
    Ridge,
    RidgeClassifier,
)
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import (
    FunctionTransformer,
    PolynomialFeatures,
    SplineTransformer,
    StandardScaler,
)
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from skmoe import (
    HierarchicalMixtureOfExpertsClassifier,
    HierarchicalMixtureOfExpertsRegressor,
)
from skmoe.experts import (
    EstimatorExpert,
    ExpandedExpert,
    LinearExpert,
    LogisticExpert,
    PoissonExpert,
)
from skmoe.experts._contributions import contributions_of, linear_form
from skmoe.gates import GaussianGate
from skmoe.reading._explain_tree import Explanation

pd = pytest.importorskip("pandas")

# Whether a leaf lives is not asked here.
pytestmark = pytest.mark.filterwarnings(
    "ignore::skmoe.exceptions.CollapsedExpertWarning"
)

QUICK = {"init": "kmeans", "random_state": 0, "tol": 1e-3}
TOL = {"rtol": 0.0, "atol": 1e-10}


def regressor(experts=None, **kwargs):
    return HierarchicalMixtureOfExpertsRegressor(experts, **(QUICK | kwargs))


def classifier(experts=None, **kwargs):
    return HierarchicalMixtureOfExpertsClassifier(experts, **(QUICK | kwargs))


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(5)
    X = rng.normal(size=(150, 3)) * [1.0, 3.0, 0.2] + [0.0, 10.0, 5.0]
    y = 8 * np.sin(2 * X[:, 0]) + 0.5 * (X[:, 1] - 10.0) ** 2 + 3 * X[:, 2]
    return X, y + 0.5 * rng.normal(size=150)


@pytest.fixture(scope="module")
def classes(rows):
    X, y = rows
    return X, np.array(["low", "mid", "top"])[
        np.digitize(y, np.quantile(y, [0.3, 0.7]))
    ]


def total(explanation):
    return (
        explanation.baseline + explanation.contributions.sum(axis=1) + explanation.rest
    )


# -- one expert --------------------------------------------------------------------


def weights(n):
    return np.random.default_rng(1).uniform(0.2, 2.0, size=n)


@pytest.mark.parametrize("outputs", ["one", "two", "column"])
def test_linear_parts_are_slopes_times_deviations(rows, outputs):
    X, y = rows
    y = {"one": y, "two": np.c_[y, y**2], "column": y[:, None]}[outputs]
    weight = weights(len(X))
    expert = LinearExpert().fit(X, y, sample_weight=weight)
    baseline, parts, rest = expert.contributions(X)
    center = weight @ X / weight.sum()
    slope = np.atleast_2d(expert.coef_)
    wanted = (X - center)[:, :, None] * slope.T
    assert parts.shape == (*X.shape, *y.shape[1:])
    assert_allclose(parts.reshape(wanted.shape), wanted, **TOL)
    assert_allclose(baseline, expert.predict(center[None])[0], **TOL)
    assert_allclose(baseline + parts.sum(axis=1), expert.predict(X), **TOL)
    assert_array_equal(rest, np.zeros_like(y))


def test_linear_parts_of_sparse_columns_start_at_zero(rows):
    X, y = rows
    expert = LinearExpert().fit(sparse.csr_array(X), y)
    baseline, parts, _ = expert.contributions(sparse.csr_array(X[:5]))
    assert_allclose(parts, X[:5] * expert.coef_, **TOL)
    assert_allclose(baseline, expert.intercept_, **TOL)


def test_linear_parts_without_intercept(rows):
    X, y = rows
    expert = LinearExpert(fit_intercept=False).fit(X, y)
    baseline, parts, _ = expert.contributions(X)
    assert baseline == 0.0
    assert_allclose(parts.sum(axis=1), expert.predict(X), **TOL)


def test_logistic_parts_are_on_the_logit_scale(classes):
    X, y = classes
    expert = LogisticExpert().fit(X, y)
    baseline, parts, rest = expert.contributions(X)
    assert parts.shape == (150, 3, 3)
    logit = baseline + parts.sum(axis=1)
    assert_allclose(special.softmax(logit, axis=1), expert.predict_proba(X), **TOL)
    assert_allclose(parts[:, 1, 2], expert.coef_[2, 1] * (X[:, 1] - X[:, 1].mean()))
    assert not rest.any()


def expanded(rows, transformer):
    X, y = rows
    return ExpandedExpert(transformer, LinearExpert()).fit(X, y)


def test_spline_parts_belong_to_raw_columns(rows):
    X, _ = rows
    expert = expanded(rows, SplineTransformer(n_knots=4))
    baseline, parts, rest = expert.contributions(X)
    assert parts.shape == X.shape
    assert_allclose(baseline + parts.sum(axis=1), expert.predict(X), **TOL)
    assert_allclose(rest, 0.0, **TOL)
    assert_allclose(parts.mean(axis=0), 0.0, **TOL)
    # Moving one column moves its own part, and by what the prediction changes.
    moved = X.copy()
    moved[:, 1] = np.roll(X[:, 1], 1)
    again = expert.contributions(moved).parts
    assert_array_equal(again[:, [0, 2]], parts[:, [0, 2]])
    change = expert.predict(moved) - expert.predict(X)
    assert_allclose(again[:, 1] - parts[:, 1], change, **TOL)


def test_interactions_are_rest(rows):
    X, _ = rows
    expert = expanded(rows, PolynomialFeatures(2, include_bias=True))
    baseline, parts, rest = expert.contributions(X)
    assert_allclose(baseline + parts.sum(axis=1) + rest, expert.predict(X), **TOL)
    slope, center = expert.expert_.coef_, expert.expert_.design_.center
    several = [5, 6, 8]  # 1, x0, x1, x2, x0^2, x0 x1, x0 x2, x1^2, x1 x2, x2^2
    products = (expert.expand(X) - center)[:, several] @ slope[several]
    assert_allclose(rest, products, **TOL)
    own = (expert.expand(X) - center)[:, [1, 4]] @ slope[[1, 4]]
    assert_allclose(parts[:, 0], own, **TOL)


@pytest.mark.parametrize(
    ("transformer", "known"),
    [
        (make_pipeline(StandardScaler(), SplineTransformer(n_knots=3)), True),
        (make_union(StandardScaler(), SplineTransformer(n_knots=3)), True),
        (make_pipeline(PCA(2), SplineTransformer(n_knots=3)), False),
        (FunctionTransformer(np.sin), False),
    ],
    ids=["pipeline", "union", "pca", "nameless"],
)
def test_which_transformed_columns_are_attributed(rows, transformer, known):
    X, _ = rows
    expert = expanded(rows, transformer)
    baseline, parts, rest = expert.contributions(X)
    assert_allclose(baseline + parts.sum(axis=1) + rest, expert.predict(X), **TOL)
    assert np.any(parts) == known
    assert np.any(np.abs(rest) > 1e-9) != known


LINEAR = {
    "ridge": Ridge(),
    "huber": HuberRegressor(max_iter=1000),
    "scaled": make_pipeline(StandardScaler(), Ridge()),
    "passthrough": make_pipeline("passthrough", LinearRegression()),
    "searched": GridSearchCV(Ridge(), {"alpha": [0.1, 1.0]}, cv=3),
    "splined": make_pipeline(SplineTransformer(n_knots=4), Ridge()),
}


@pytest.mark.parametrize(
    ("name", "n_outputs"),
    [(name, m) for name in LINEAR for m in (1, 2) if (name, m) != ("searched", 2)],
)
def test_linear_estimators_have_parts(rows, name, n_outputs):
    X, y = rows
    y = y if n_outputs == 1 else np.c_[y, np.sqrt(np.abs(y))]
    weight = weights(len(X))
    expert = EstimatorExpert(LINEAR[name]).fit(X, y, sample_weight=weight)
    found = expert.contributions(X)
    predicted = expert.predict(X)
    assert_allclose(sum((found.baseline, found.parts.sum(1), found.rest)), predicted)
    assert_allclose(found.rest, 0.0, **TOL)
    assert_allclose(weight @ found.parts.reshape(150, -1), 0.0, atol=1e-7)


def test_ridge_parts_are_those_of_its_coefficients(rows):
    X, y = rows
    expert = EstimatorExpert(Ridge()).fit(X, y)
    parts = expert.contributions(X).parts
    assert_allclose(parts, (X - X.mean(axis=0)) * expert.estimator_.coef_, atol=1e-9)
    form = linear_form(expert)
    assert_allclose(form.slope, expert.estimator_.coef_)
    assert_allclose(form.spread, X.std(axis=0))


@pytest.mark.parametrize(
    "estimator",
    [
        RandomForestRegressor(5, random_state=0),
        PoissonRegressor(),  # has coefficients, of the log of the mean
        FrozenEstimator(DecisionTreeRegressor().fit(np.eye(3), np.arange(3))),
    ],
    ids=["forest", "poisson", "frozen tree"],
)
def test_all_of_other_estimators_is_rest(rows, estimator):
    X, y = rows
    expert = EstimatorExpert(estimator).fit(X, np.abs(y))
    baseline, parts, rest = expert.contributions(X)
    assert baseline == 0.0
    assert parts.shape == X.shape
    assert not parts.any()
    assert_array_equal(rest, expert.predict(X))
    assert linear_form(expert) is None


@pytest.mark.parametrize("n_classes", [2, 3])
def test_linear_classifiers_have_parts(classes, n_classes):
    X, y = classes
    y = y if n_classes == 3 else y == "top"
    expert = EstimatorExpert(LogisticRegression(max_iter=1000)).fit(X, y)
    baseline, parts, rest = expert.contributions(X)
    logit = baseline + parts.sum(axis=1) + rest
    assert_allclose(special.softmax(logit, axis=1), expert.predict_proba(X), **TOL)
    coef = expert.estimator_.coef_
    gap = coef[0] if n_classes == 2 else coef[1] - coef[0]
    deviation = X - X.mean(axis=0)
    assert_allclose(parts[:, :, 1] - parts[:, :, 0], deviation * gap, atol=1e-9)
    assert 0 < np.abs(rest).max() < 2.0  # what smoothing takes from extreme logits


@pytest.mark.parametrize(
    "estimator", [RandomForestClassifier(5, random_state=0), RidgeClassifier()]
)
def test_all_of_other_classifiers_is_rest(classes, estimator):
    X, y = classes
    expert = EstimatorExpert(estimator).fit(X, y)
    baseline, parts, rest = contributions_of(expert, X)
    assert not baseline.any()
    assert not parts.any()
    assert_allclose(special.softmax(rest, axis=1), expert.predict_proba(X), **TOL)


def test_a_constant_is_all_baseline(rows):
    X, y = rows
    expert = EstimatorExpert(Ridge())
    expert.prepare(X, y, np.ones(150))
    expert.m_step(X, y, np.r_[1.0, np.zeros(149)])
    expert.finish()
    baseline, parts, rest = expert.contributions(X)
    assert baseline == pytest.approx(y[0])
    assert not parts.any()
    assert not rest.any()


def test_an_expert_without_the_method_is_all_rest(rows):
    X, y = rows

    class Bare(LinearExpert):
        @property
        def contributions(self):
            raise AttributeError

    expert = Bare().fit(X, y)
    baseline, parts, rest = contributions_of(expert, X)
    assert baseline == 0.0
    assert not parts.any()
    assert_array_equal(rest, expert.predict(X))


def test_a_step_after_the_end_of_a_fit(rows):
    X, y = rows
    expert = EstimatorExpert(Ridge()).fit(X, y)
    expert.m_step(X, 2 * y, np.ones(150))
    expert.finish()
    assert_allclose(expert.contributions(X).baseline, 2 * y.mean())


def test_a_refit_forgets_the_old_form(rows):
    X, y = rows
    expert = EstimatorExpert(Ridge()).fit(X, y)
    expert.fit(X, -y)
    assert_allclose(expert.contributions(X).baseline, -y.mean())


# -- a tree ------------------------------------------------------------------------

EXPERTS = {
    "linear": None,
    "spline": make_pipeline(SplineTransformer(n_knots=4), LinearExpert()),
    "quadratic": make_pipeline(PolynomialFeatures(2), LinearExpert()),
    "ridge": Ridge(),
    "forest": RandomForestRegressor(5, max_depth=3, random_state=0),
}


@pytest.mark.parametrize("pooling", ["mean", "top1", "mode"])
@pytest.mark.parametrize("n_outputs", [1, 2])
@pytest.mark.parametrize("name", EXPERTS)
def test_sums_equal_predictions(rows, name, n_outputs, pooling):
    X, y = rows
    y = y if n_outputs == 1 else np.c_[y, 0.1 * y**2]
    settings = {"forest": {"tol": 1e-2}, "spline": {"depth": 1}}.get(name, {})
    model = regressor(EXPERTS[name], pooling=pooling, **settings).fit(X, y)
    explanation = model.explain(X)
    assert explanation.contributions.shape == (*X.shape, *y.shape[1:])
    assert_allclose(total(explanation), model.predict(X), **TOL)
    assert_array_equal(explanation.prediction, model.predict(X))
    if name == "forest":
        assert not explanation.contributions.any()
    elif name != "quadratic" and pooling != "mode":
        assert_allclose(explanation.rest, 0.0, **TOL)


def test_mean_is_the_gate_weighted_sum_of_the_leaves(rows):
    X, y = rows
    model = regressor().fit(X, y)
    explanation = model.explain(X)
    gate = model.leaf_proba(X)
    slopes = np.stack([expert.coef_ for expert in model.experts_])
    wanted = gate @ slopes * (X - X.mean(axis=0))
    assert_allclose(explanation.contributions, wanted, **TOL)
    at_mean = [expert.predict(X.mean(axis=0)[None])[0] for expert in model.experts_]
    assert_allclose(explanation.baseline, gate @ at_mean, **TOL)


def test_top1_is_the_leaf_alone(rows):
    X, y = rows
    model = regressor(pooling="top1").fit(X, y)
    explanation = model.explain(X)
    slopes = np.stack([expert.coef_ for expert in model.experts_])[model.apply(X)]
    wanted = slopes * (X - X.mean(axis=0))
    assert_allclose(explanation.contributions, wanted, **TOL)
    assert_allclose(explanation.leaf_prediction, model.predict(X), **TOL)


@pytest.mark.parametrize("pooling", ["mean", "top1"])
@pytest.mark.parametrize("settings", [{"top_k": 2}, {"path_tol": 0.05}], ids=str)
def test_skipped_leaves_are_left_out(rows, settings, pooling):
    X, y = rows
    model = regressor(pooling=pooling, **settings).fit(X, y)
    assert_allclose(total(model.explain(X)), model.predict(X), **TOL)


def test_few_leaves_and_the_best_of_them(rows):
    """The most probable leaf need not be at the end of the most probable path."""
    X, y = rows
    experts = [LinearExpert(), [LinearExpert(), LinearExpert()]]
    model = regressor(experts, pooling="top1").fit(X, y)
    upper, lower = model.gate_.gates
    upper.kernel_.coef[:] = lower.kernel_.coef[:] = 0.0
    upper.kernel_.coef[:, 0] = 0.0, 0.2  # leaf 0: 0.45, leaves 1 and 2: 0.27 each
    assert 0 not in model.apply(X)
    explanation = model.explain(X)
    assert_array_equal(explanation.leaf, model.apply(X))
    assert_allclose(total(explanation), model.predict(X), **TOL)
    model.top_k = 2
    explanation = model.explain(X)
    assert_array_equal(explanation.leaf, 0)
    assert_array_equal(explanation.path, np.tile([0, 1, -1], (150, 1)))
    assert_allclose(total(explanation), model.predict(X), **TOL)


def test_leaves_with_columns_of_their_own(rows):
    X, y = rows
    experts = [
        [("a", LinearExpert(), [0]), ("b", LinearExpert(), [2, 1])],
        ("c", make_pipeline(SplineTransformer(n_knots=3), LinearExpert()), [1]),
    ]
    model = regressor(experts).fit(X, y)
    explanation = model.explain(X)
    assert_allclose(total(explanation), model.predict(X), **TOL)
    model.pooling = "top1"
    explanation = model.explain(X)
    assert_allclose(total(explanation), model.predict(X), **TOL)
    unseen = {0: [1, 2], 1: [0], 2: [0, 2]}
    assert set(explanation.leaf) == {0, 1, 2}
    for leaf, columns in unseen.items():
        parts = explanation.contributions[explanation.leaf == leaf]
        assert not parts[:, columns].any()
        assert np.delete(parts, columns, axis=1).all()
    assert explanation.leaf_names == model.expert_names_


@pytest.mark.parametrize(
    "shape", [{"depth": 3}, {"depth": 2, "branching": (2, 3)}, {"depth": 1}], ids=str
)
def test_paths(rows, shape):
    X, y = rows
    model = regressor(**shape).fit(X, y)
    explanation, tree = model.explain(X), model.tree_
    assert_array_equal(explanation.leaf, model.apply(X))
    assert_array_equal(np.array(tree.leaves)[explanation.leaf], explanation.path[:, -1])
    passed = np.zeros((len(X), tree.n_nodes))
    np.put_along_axis(passed, explanation.path, 1.0, axis=1)
    assert_array_equal(passed, model.decision_path(X).toarray())
    assert_allclose(explanation.path_proba.prod(axis=1), explanation.leaf_proba)
    chosen = model.leaf_proba(X)[np.arange(len(X)), explanation.leaf]
    assert_allclose(explanation.leaf_proba, chosen)
    # The child taken is the most probable one at each gate.
    root = np.exp(model.gate_.gates[0].log_proba(X))
    assert_allclose(explanation.path_proba[:, 0], root.max(axis=1))


def test_paths_of_different_lengths(rows):
    X, y = rows
    model = regressor([LinearExpert(), [LinearExpert(), LinearExpert()]]).fit(X, y)
    explanation = model.explain(X)
    short = explanation.leaf == 0
    assert short.any()
    assert not short.all()
    assert_array_equal(explanation.path[short], np.tile([0, 1, -1], (short.sum(), 1)))
    assert np.isnan(explanation.path_proba[short, 1]).all()
    assert not np.isnan(explanation.path_proba[~short]).any()
    assert "-> -1" not in explanation.to_text(n_rows=150, max_columns=0)


def test_other_gates(rows):
    X, y = rows
    model = regressor(gate=DecisionTreeClassifier(max_depth=2), tol=0.1).fit(X, y)
    explanation = model.explain(X)
    assert_allclose(total(explanation), model.predict(X), **TOL)
    assert_allclose(explanation.path_proba.prod(axis=1), explanation.leaf_proba)


@pytest.mark.parametrize("pooling", ["mean", "top1", "vote"])
@pytest.mark.parametrize(
    "expert",
    [
        None,
        LogisticRegression(max_iter=5000),
        RandomForestClassifier(5, max_depth=2, random_state=0),
    ],
    ids=["logistic", "sklearn", "forest"],
)
def test_classes_add_up_to_the_logits_of_the_leaf(classes, expert, pooling):
    X, y = classes
    tol = 1e-3 if expert is None else 1e-2
    model = classifier(expert, depth=1, pooling=pooling, tol=tol).fit(X, y)
    explanation = model.explain(X)
    assert explanation.contributions.shape == (150, 3, 3)
    assert_allclose(
        special.softmax(total(explanation), axis=1), explanation.leaf_prediction, **TOL
    )
    chosen = model.predict_experts(X)[np.arange(150), model.apply(X)]
    assert_allclose(explanation.leaf_prediction, chosen, **TOL)
    assert_array_equal(explanation.prediction, model.predict_proba(X))
    assert explanation.labels == ["low", "mid", "top"]


def test_sparse_rows(rows):
    X, y = rows
    thin = sparse.csr_array(np.where(X > 5.0, X, 0.0))
    model = regressor().fit(thin, y)
    explanation = model.explain(thin)
    assert_allclose(total(explanation), model.predict(thin), **TOL)
    assert "x1" in str(explanation)


# -- as text and as a table --------------------------------------------------------


@pytest.fixture(scope="module")
def frame(rows):
    X, y = rows
    return pd.DataFrame(
        X, columns=["age", "dose", "mass"], index=np.arange(150) + 500
    ), y


def test_frame(frame):
    X, y = frame
    model = regressor().fit(X, y)
    explanation = model.explain(X)
    table = explanation.to_frame()
    assert_array_equal(table.index, X.index)
    columns = [f"contribution_{name}" for name in X.columns]
    assert list(table.columns) == [
        "path", "leaf", "leaf_proba", "prediction", "baseline", *columns, "rest",
    ]  # fmt: skip
    added = table[["baseline", *columns, "rest"]].sum(axis=1)
    assert_allclose(added, table["prediction"], **TOL)
    first = " > ".join(str(node) for node in explanation.path[0])
    assert table["path"].iloc[0] == first
    assert len(table) == len(explanation) == 150


def test_frame_of_several_outputs(frame):
    X, y = frame
    table = regressor().fit(X, np.c_[y, -y]).explain(X[:4]).to_frame()
    for output in ("y0", "y1"):
        names = [f"contribution_{name}[{output}]" for name in X.columns]
        added = table[[f"baseline[{output}]", *names, f"rest[{output}]"]].sum(axis=1)
        assert_allclose(added, table[f"prediction[{output}]"], **TOL)


def test_text_adds_up(frame):
    X, y = frame
    model = regressor().fit(X, y)
    explanation = model.explain(X.iloc[:5])
    text = str(explanation)
    assert repr(explanation) == text
    blocks = text.split("\n\n")
    assert blocks[0].startswith("Explanation of 5 rows, pooling='mean'")
    assert len(blocks) == 5  # a heading, three rows, and how many more there are
    assert blocks[-1] == "... and 2 more rows."
    for i, block in enumerate(blocks[1:4]):
        lines = block.splitlines()
        assert lines[0].startswith(f"row {500 + i}: predicted ")
        path = " -> ".join(
            f"{node} ({proba:.2f})"
            for node, proba in zip(
                explanation.path[i, 1:], explanation.path_proba[i], strict=True
            )
        )
        assert f"path 0 -> {path}: leaf {explanation.leaf[i]}," in lines[1]
        said = float(lines[2].split("=")[1])
        terms = [float(line.split()[-1]) for line in lines[3:]]
        digits = len(lines[2].split(".")[1])
        assert said == pytest.approx(explanation.prediction[i], abs=10.0**-digits)
        assert sum(terms) == pytest.approx(said, abs=len(terms) * 10.0**-digits)
        sizes = [abs(term) for term in terms[1:]]
        assert sizes == sorted(sizes, reverse=True)
        for name, value in X.iloc[i].items():
            assert f"{name} = {value:.4g}" in block


def test_text_sums_up_what_it_does_not_show(frame):
    X, y = frame
    explanation = regressor().fit(X, y).explain(X.iloc[:1])
    text = explanation.to_text(max_columns=1)
    assert "2 other columns" in text
    assert text.count("= ") == 2  # the prediction, and one column
    assert "more row" not in text


def test_text_of_classes_and_of_rest(classes):
    X, y = classes
    text = str(classifier(depth=1).fit(X, y).explain(X))
    assert "contributions in log-odds (nats)" in text
    assert "log-odds of '" in text
    assert "rest" not in text
    forest = RandomForestClassifier(5, max_depth=2, random_state=0)
    text = str(classifier(forest, depth=1, tol=1e-2).fit(X, y).explain(X))
    assert "rest" in text


def test_text_of_several_outputs(rows):
    X, y = rows
    text = str(regressor().fit(X, np.c_[y, y, y, y]).explain(X[:1]))
    assert "y2 = " in text
    assert "y3 = " not in text
    assert "x0 = " in text


# -- bad input ---------------------------------------------------------------------


def test_before_fit(rows):
    with pytest.raises(NotFittedError, match="not fitted yet"):
        regressor().explain(rows[0])


def test_another_number_of_columns(rows):
    X, y = rows
    model = regressor().fit(X, y)
    with pytest.raises(ValueError, match="X has 2 features, but"):
        model.explain(X[:, :2])


def test_holes(rows):
    X, y = rows
    model, bad = regressor(Ridge()).fit(X, y), X.copy()
    bad[3, 1] = np.nan
    with pytest.raises(ValueError, match="contains NaN: first in column 1, row 3"):
        model.explain(bad)


def test_gaps_and_categories_have_contributions_of_their_own(rows):
    X, y = rows
    frame = pd.DataFrame(X, columns=list("abc"))
    frame.loc[::5, "b"] = np.nan
    frame["kind"] = pd.Categorical(np.where(X[:, 2] > 5, "up", "down"))
    model = regressor().fit(frame, y + 3.0 * (X[:, 2] > 5))
    explanation = model.explain(frame)
    names = ["a", "b", "c", "b is missing", "kind=down", "kind=up"]
    assert explanation.feature_names == names
    total = explanation.baseline + explanation.contributions.sum(axis=1)
    np.testing.assert_allclose(total + explanation.rest, model.predict(frame))
    np.testing.assert_array_equal(explanation.data[:, 5], X[:, 2] > 5)


def test_columns_read_in_two_ways_are_one(rows):
    X, y = rows
    X = X.copy()
    X[::4, 1] = np.nan
    model = regressor(gate=GaussianGate()).fit(X, y)  # the gate reads gaps as such
    explanation = model.explain(X)
    assert explanation.feature_names == ["x0", "x1", "x2", "x1 is missing"]
    assert explanation.contributions.shape == (len(X), 4)
    total = explanation.baseline + explanation.contributions.sum(axis=1)
    np.testing.assert_allclose(total + explanation.rest, model.predict(X))


def test_an_offset_beside_the_rows(rows):
    X, _ = rows
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    rng = np.random.default_rng(0)
    offset = rng.uniform(-1.0, 1.0, size=150)
    y = rng.poisson(np.exp(np.abs(X[:, 0]) + offset))
    model = regressor(PoissonExpert(), depth=1).fit(X, y, offset=offset)
    explanation = model.explain(X, offset=offset)
    assert explanation.feature_names[-1] == "offset"
    assert_allclose(total(explanation), model.predict(X, offset=offset), **TOL)


def test_the_class_is_documented_attribute_by_attribute():
    for name in Explanation.__dataclass_fields__:
        assert f"\n    {name} : " in Explanation.__doc__
