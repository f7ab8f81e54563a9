"""The hard tree: the same as top1, measured by hand, and text that can be obeyed."""

import pickle
import re

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.ensemble import RandomForestRegressor
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import Ridge
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import SplineTransformer, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from skmoe import (
    HierarchicalMixtureOfExpertsClassifier,
    HierarchicalMixtureOfExpertsRegressor,
)
from skmoe._wording import number, percent, short_repr
from skmoe.experts import EstimatorExpert, ExpandedExpert, LinearExpert, LogisticExpert
from skmoe.gates import ConstantGate, GaussianGate, SoftmaxGate

pd = pytest.importorskip("pandas")

# Whether a leaf lives is not asked here.
pytestmark = pytest.mark.filterwarnings(
    "ignore::skmoe.exceptions.CollapsedExpertWarning"
)

QUICK = {"init": "kmeans", "random_state": 0, "tol": 1e-3}


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


@pytest.fixture(scope="module")
def soft(rows):
    return regressor().fit(*rows)


# -- predictions -------------------------------------------------------------------


def follow(model, X):
    """Follow the most probable child of each gate, row by row, by hand."""
    leaves = []
    for row in X:
        node = 0
        while model.tree_.children[node]:
            gate = model.gate_.gates[model.tree_.inner.index(node)]
            child = gate.log_proba(row[None])[0].argmax()
            node = model.tree_.children[node][child]
        leaves.append(model.tree_.leaves.index(node))
    return np.array(leaves)


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize(
    "settings",
    [{"depth": 3}, {"branching": (3, 2)}, {"gate": GaussianGate()}, {"top_k": 2}],
    ids=str,
)
def test_it_is_top1(rows, settings, outputs):
    X, y = rows
    y = y if outputs == 1 else np.c_[y, -y]
    model = regressor(**settings).fit(X, y)
    tree, leaf = model.to_tree(), follow(model, X)
    assert_array_equal(tree.apply(X), leaf)
    experts = [expert.predict_params(X) for expert in model.experts_]
    wanted = np.stack([experts[k][i] for i, k in enumerate(leaf)])
    assert_allclose(tree.predict(X), wanted)
    model.set_params(pooling="top1", top_k=None)
    assert_array_equal(tree.predict(X), model.predict(X))
    passed = model.decision_path(X).toarray()
    assert_array_equal(tree.decision_path(X).toarray(), passed)
    assert tree.n_leaves == tree.get_n_leaves() == model.tree_.n_leaves
    assert tree.get_depth() == model.tree_.depth
    assert is_regressor(tree)


def test_it_is_top1_for_classes(classes):
    X, y = classes
    model = classifier().fit(X, y)
    tree, leaf = model.to_tree(), follow(model, X)
    proba = model.predict_experts(X)[np.arange(150), leaf]
    assert_allclose(tree.predict_proba(X), proba)
    assert_array_equal(tree.predict(X), model.classes_[proba.argmax(axis=1)])
    assert_array_equal(tree.classes_, ["low", "mid", "top"])
    assert tree.score(X, y) == np.mean(tree.predict(X) == y)
    assert is_classifier(tree)


def test_a_regression_tree_has_no_probabilities(soft):
    assert not hasattr(soft.to_tree(), "predict_proba")


def test_a_refit_of_the_mixture_does_not_change_it(rows):
    X, y = rows
    model = regressor().fit(X, y)
    tree = model.to_tree(X)
    before, text = tree.predict(X), tree.export_text()
    model.set_params(pooling="mode", depth=1).fit(X, -y)
    assert_array_equal(tree.predict(X), before)
    assert tree.export_text() == text
    assert model.pooling == "mode"


def test_pickle_and_clone(rows, soft):
    X, y = rows
    tree = soft.to_tree(X)
    again = pickle.loads(pickle.dumps(tree))
    assert_array_equal(again.predict(X), tree.predict(X))
    assert again.export_text() == tree.export_text()
    fresh = clone(tree)
    with pytest.raises(NotFittedError, match="not fitted yet"):
        fresh.predict(X)
    fresh.fit(X, y)
    assert_array_equal(fresh.predict(X), tree.predict(X))
    assert fresh.score_ == fresh.score(X, y)
    scores = cross_val_score(tree, X, y, cv=3)
    assert scores.mean() > 0.2


def test_data_frames(rows):
    X, y = rows
    X = pd.DataFrame(X, columns=["age", "dose", "mass"])
    tree = regressor().fit(X, y).to_tree(X, y)
    assert tree.predict(X).shape == (150,)
    assert list(tree.feature_names_in_) == ["age", "dose", "mass"]
    assert " * dose" in tree.export_text()


# -- what it measures --------------------------------------------------------------


def test_fidelity_of_a_regression_is_r2(rows, soft):
    X, y = rows
    tree = soft.to_tree(X[:90], y[:90])
    given, wanted = tree.predict(X[:90]), soft.predict(X[:90])
    r2 = 1 - ((wanted - given) ** 2).sum() / ((wanted - wanted.mean()) ** 2).sum()
    assert tree.fidelity_ == pytest.approx(r2)
    assert tree.fidelity(X[:90]) == tree.fidelity_
    assert tree.fidelity(X[90:]) != tree.fidelity_
    assert 0 < tree.fidelity_ < 1
    purity = soft.leaf_proba(X[:90]).max(axis=1)
    own = soft.leaf_proba(X[:90])[np.arange(90), soft.apply(X[:90])]
    assert tree.path_purity_ == pytest.approx(own.mean())
    assert 0.25 < tree.path_purity_ <= purity.mean()
    assert tree.score_ == pytest.approx(tree.score(X[:90], y[:90]))
    assert tree.soft_score_ == pytest.approx(soft.score(X[:90], y[:90]))
    leaf = soft.apply(X[:90])
    for k in range(4):
        assert tree.leaf_share_[k] == np.mean(leaf == k)
        assert tree.leaf_value_[k] == pytest.approx(given[leaf == k].mean())


def test_fidelity_of_several_outputs(rows):
    X, y = rows
    model = regressor().fit(X, np.c_[y, y**2])
    tree = model.to_tree(X)
    given, wanted = tree.predict(X), model.predict(X)
    lost = ((wanted - given) ** 2).sum(axis=0) / ((wanted - wanted.mean(0)) ** 2).sum(0)
    assert tree.fidelity_ == pytest.approx(1 - lost.mean())
    assert tree.leaf_value_.shape == (4, 2)


def test_fidelity_of_classes_is_agreement(classes):
    X, y = classes
    model = classifier().fit(X, y)
    tree = model.to_tree(X, y)
    assert tree.fidelity_ == np.mean(tree.predict(X) == model.predict(X))
    assert tree.leaf_value_.shape == (tree.n_leaves, 3)
    assert_allclose(tree.leaf_value_.sum(axis=1), 1.0)
    assert tree.fidelity(X[:1]) in (0.0, 1.0)


def test_fidelity_to_a_tree_that_is_followed_anyway(rows, soft):
    """Of pooling="top1" the mean is compared: itself it would always equal."""
    X, _ = rows
    wanted = soft.to_tree(X).fidelity_
    again = regressor(pooling="top1").fit(*rows)
    assert again.to_tree(X).fidelity_ == pytest.approx(wanted)


def test_without_rows_nothing_is_measured(rows, soft):
    tree = soft.to_tree()
    for name in ("fidelity_", "path_purity_", "score_", "soft_score_", "leaf_value_"):
        assert getattr(tree, name) is None
    assert_allclose(tree.leaf_share_, soft.leaf_weight_ / 150)


def test_a_leaf_without_rows(rows, soft):
    X, _ = rows
    some = X[soft.apply(X) != 2]
    tree = soft.to_tree(some)
    assert tree.leaf_share_[2] == 0.0
    assert np.isnan(tree.leaf_value_[2])
    assert "0 % of rows" in tree.export_text()


# -- text --------------------------------------------------------------------------


def obey(text, X, names):
    """Send rows down the rules of a text; return leaves and values of formulas."""
    lines = [line for line in text.splitlines() if "|---" in line]
    depth = [line.index("|---") // 4 for line in lines]
    words = [line.split("|--- ")[1] for line in lines]
    env = {name: X[:, j] for j, name in enumerate(names)}

    def value(expression):
        return np.broadcast_to(eval(expression, {}, env), len(X)).astype(float)

    leaf, out = np.full(len(X), -1), np.full(len(X), np.nan)

    def visit(i, inside):
        here = [j for j in range(i, end(i)) if depth[j] == depth[i]]
        if words[i].startswith("leaf "):
            number, formula = re.match(r"leaf (\d+): y = (.*?)  \(", words[i]).groups()
            leaf[inside], out[inside] = int(number), value(formula)[inside]
            return
        if words[i].startswith("highest of "):
            scores = [value(words[j].split(": ")[1]) for j in here]
            taken = np.argmax(scores, axis=0)
            parts = [taken == c for c in range(len(here))]
        else:
            parts = [value(words[j]).astype(bool) for j in here]
            assert_array_equal(parts[0], ~parts[1])
        for j, part in zip(here, parts, strict=True):
            visit(j + 1, inside & part)

    def end(i):
        after = (j for j in range(i, len(depth)) if depth[j] < depth[i])
        return next(after, len(depth))

    visit(0, np.ones(len(X), dtype=bool))
    return leaf, out


@pytest.mark.parametrize(
    "settings",
    [
        {"depth": 1},
        {"depth": 3},
        {"branching": (3, 2)},
        {"depth": 1, "branching": 4},
        {"gate_features": [1]},
        {"gate": GaussianGate(covariance="tied")},
        {"experts": EstimatorExpert(Ridge())},
        {
            "experts": [
                [("a", LinearExpert(), [0]), ("b", LinearExpert(), [2, 1])],
                ("c", LinearExpert()),
            ]
        },
    ],
    ids=str,
)
def test_text_read_back_is_the_tree(rows, settings):
    X, y = rows
    model = regressor(**settings).fit(X, y)
    tree = model.to_tree(X)
    leaf, out = obey(tree.export_text(decimals=12), X, ["x0", "x1", "x2"])
    assert_array_equal(leaf, tree.apply(X))
    assert_allclose(out, tree.predict(X), rtol=1e-7)
    assert np.unique(leaf).size > 1


def test_a_gate_of_one_column_is_a_threshold(rows):
    X, y = rows
    model = regressor(depth=1, gate_features=[1]).fit(X, y)
    lines = model.export_text(["age", "dose", "mass"]).splitlines()
    signs = [
        re.fullmatch(r"\|--- dose (<=|>|<|>=) (\d+\.\d\d)", lines[i]) for i in (0, 2)
    ]
    assert {sign[1] for sign in signs} in ({"<=", ">"}, {"<", ">="})
    gate = model.gate_.gates[0]
    at = np.array([[float(signs[0][2])]])
    assert_allclose(gate.log_proba(at), np.log(0.5), atol=0.05)


def test_notes_of_a_leaf(rows, soft):
    X, _ = rows
    text, tree = soft.export_text(), soft.to_tree(X)
    notes = re.findall(r"\(noise ([\d.]+), (\d+) % of rows\)", text)
    share = soft.leaf_weight_ / 150
    for k, (noise, part) in enumerate(notes):
        assert float(noise) == pytest.approx(
            soft.experts_[k].dispersion ** 0.5, abs=0.005
        )
        assert int(part) == pytest.approx(100 * share[k], abs=0.5)
    assert len(notes) == 4
    measured = re.findall(r"\(mean ([-\d.]+), noise", tree.export_text())
    assert_allclose([float(m) for m in measured], tree.leaf_value_, atol=0.005)


def test_max_columns_puts_the_others_at_their_mean(rows, soft):
    X, _ = rows
    text = soft.export_text(max_columns=1, decimals=10)
    rules = [line for line in text.splitlines() if "leaf" not in line]
    assert all(line.count("*") == 1 and " + ..." in line for line in rules)
    leaves = re.findall(r"y = (\S+) ([+-]) (\S+) \* x(\d) \+ \.\.\.", text)
    assert len(leaves) == 4
    scale = X.std(axis=0)
    for (intercept, sign, slope, j), expert in zip(leaves, soft.experts_, strict=True):
        j, slope = int(j), float(slope) * (-1 if sign == "-" else 1)
        assert j == np.argmax(np.abs(expert.coef_) * scale)
        assert slope == pytest.approx(expert.coef_[j])
        # With the other columns at their mean the formula is the expert.
        at = X.mean(axis=0)
        at[j] += 1.0
        assert float(intercept) + slope * at[j] == pytest.approx(
            expert.predict(at[None])[0]
        )


def test_text_of_several_outputs(rows):
    X, y = rows
    model = regressor(depth=1).fit(X, np.c_[y, -2 * y])
    lines = model.export_text().splitlines()
    assert len(lines) == 6
    assert re.search(r"\|--- leaf 0: y0 = .*\(noise [\d.]+, \d+ % of rows\)$", lines[1])
    assert re.search(r"^\| {16}y1 = .*\(noise [\d.]+\)$", lines[2])
    forest = RandomForestRegressor(3, max_depth=2, random_state=0)
    model = regressor(forest, depth=1, tol=1e-2).fit(X, np.c_[y, -2 * y])
    line = model.to_tree(X).export_text().splitlines()[1]
    found = re.search(
        r"leaf 0: y0, y1 ~ RandomForestRegressor.*?  "
        r"\(mean ([-\d.]+), ([-\d.]+), noise [\d.]+, [\d.]+, \d+ % of rows\)$",
        line,
    )
    assert float(found[2]) == pytest.approx(-2 * float(found[1]), rel=1e-2)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_text_of_classes(classes, n_classes):
    X, y = classes
    y = y if n_classes == 3 else np.where(y == "top", "yes", "no")
    model = classifier(depth=1).fit(X, y)
    tree = model.to_tree(X)
    text = tree.export_text(decimals=10)
    k, names = 0, {f"x{j}": X[:, j] for j in range(3)}
    block = text[text.index("leaf 0") : text.index("leaf 1")]
    log_proba = model.experts_[k].predict_params(X)
    if n_classes == 2:
        formula = re.search(r"log-odds\(yes\) = (.*?)  \(", block)[1]
        assert_allclose(eval(formula, {}, names), log_proba[:, 1] - log_proba[:, 0])
    else:
        scores = re.findall(r"score\(\w+\) = (.*?)(?:  \(.*)?\n", block)
        scores = np.stack([eval(one, {}, names) for one in scores], axis=1)
        assert_allclose(np.diff(scores, axis=1), np.diff(log_proba, axis=1))
    top = model.classes_[tree.leaf_value_[k].argmax()]
    assert f"({top}: {100 * tree.leaf_value_[k].max():.0f} %, " in block


def test_other_gates_and_experts_are_named(rows):
    X, y = rows
    forest = RandomForestRegressor(3, max_depth=2, random_state=0)
    gate = DecisionTreeClassifier(max_depth=2)
    text = regressor(forest, gate=gate, depth=1, tol=0.1).fit(X, y).export_text()
    lines = text.splitlines()
    assert lines[0].startswith("|--- DecisionTreeClassifier(max_depth=2")
    assert lines[0].endswith("chooses 0")
    assert "y ~ RandomForestRegressor(max_depth=2, n_estimators=3" in lines[1]


def test_a_gate_that_sees_nothing(rows):
    X, y = rows
    text = (
        regressor(gate=ConstantGate(), depth=1, init="random").fit(X, y).export_text()
    )
    assert text.startswith("|--- ConstantGate() chooses 0\n")
    flat = SoftmaxGate(alpha=1e12)
    text = regressor(gate=flat, depth=1, gate_features=[0]).fit(X, y).export_text()
    assert re.match(r"\|--- x0 [<>]=? ", text)


def test_a_tree_that_is_a_leaf(rows):
    X, y = rows
    model = regressor(grow="posterior", max_leaves=1, init="auto").fit(X, y)
    tree = model.to_tree(X, y)
    assert (tree.n_leaves, tree.get_depth()) == (1, 0)
    assert re.fullmatch(r"\|--- leaf 0: y = .*100 % of rows\)\n", tree.export_text())
    assert tree.path_purity_ == 1.0
    assert tree.fidelity_ == pytest.approx(1.0)
    assert model.explain(X).path.shape == (150, 1)


# -- words -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [
        (0.0, 2, "0.00"),
        (3.14159, 2, "3.14"),
        (-12345.678, 1, "-12345.7"),
        (0.1, 2, "0.10"),
        (0.012345, 2, "0.012"),
        (0.00098765, 3, "0.000988"),
        (1.234e-7, 2, "1.2e-07"),
        (-1.234e9, 3, "-1.23e+09"),
        (7.0, 0, "7"),
        (np.nan, 2, "nan"),
    ],
)
def test_numbers_keep_the_digits_that_count(value, decimals, text):
    assert number(value, decimals) == text


def test_shares_as_text():
    assert [percent(s) for s in (0.0, 0.001, 0.126, 1.0)] == [
        "0 %",
        "< 1 %",
        "13 %",
        "100 %",
    ]


def test_estimators_in_short():
    spline = ExpandedExpert(SplineTransformer(n_knots=4), LogisticExpert(alpha=3))
    assert (
        short_repr(spline) == "SplineTransformer(n_knots=4) -> LogisticExpert(alpha=3)"
    )
    assert short_repr(EstimatorExpert(Ridge())) == "Ridge()"
    pipe = make_pipeline(StandardScaler(), Ridge(alpha=2))
    assert short_repr(pipe) == "StandardScaler() -> Ridge(alpha=2)"
    long = RandomForestRegressor(
        12, max_depth=3, min_samples_leaf=7, max_features="sqrt", bootstrap=False
    )
    assert len(short_repr(long)) == 60
    assert "\n" not in short_repr(long)


# -- bad input ---------------------------------------------------------------------


def test_before_fit(rows):
    with pytest.raises(NotFittedError, match="not fitted yet"):
        regressor().to_tree()
    with pytest.raises(NotFittedError, match="not fitted yet"):
        regressor().export_text()


def test_another_number_of_columns(rows, soft):
    X, _ = rows
    with pytest.raises(ValueError, match="X has 2 features, but"):
        soft.to_tree(X[:, :2])
    with pytest.raises(ValueError, match="X has 4 features, but"):
        soft.to_tree().predict(np.c_[X, X[:, 0]])


def test_responses_without_rows(rows, soft):
    with pytest.raises(ValueError, match="y was given without the rows X"):
        soft.to_tree(y=rows[1])


def test_one_row(rows, soft):
    with pytest.raises(ValueError, match="needs at least two rows, got 1"):
        soft.to_tree(rows[0][:1])


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"feature_names": ["a", "b"]}, r"each of the 3 columns, got 2: \['a', 'b'\]"),
        ({"decimals": -1}, "decimals must be at least 0, got -1"),
        ({"max_columns": 0}, "max_columns must be at least 1, got 0"),
    ],
    ids=str,
)
def test_bad_arguments_of_text(soft, arguments, match):
    with pytest.raises(ValueError, match=match):
        soft.export_text(**arguments)
