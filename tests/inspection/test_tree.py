"""The picture of a tree: what it shows, and that nothing in it collides."""

import subprocess
import sys

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.text import Text
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.ensemble import RandomForestRegressor
from sklearn.exceptions import NotFittedError
from sklearn.tree import DecisionTreeClassifier

from skmoe import (
    HierarchicalMixtureOfExpertsClassifier,
    HierarchicalMixtureOfExpertsRegressor,
    MixtureOfExpertsRegressor,
)
from skmoe.experts import LinearExpert
from skmoe.inspection import TreeDisplay

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


@pytest.fixture(autouse=True)
def _closed_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(5)
    X = rng.normal(size=(300, 3)) * [1.0, 3.0, 0.2] + [0.0, 10.0, 5.0]
    y = 8 * np.sin(2 * X[:, 0]) + 0.5 * (X[:, 1] - 10.0) ** 2 + 3 * X[:, 2]
    X = pd.DataFrame(X, columns=["age", "dose", "mass_of_something_long"])
    return X, y + 0.5 * rng.normal(size=300)


@pytest.fixture(scope="module")
def soft(rows):
    return regressor().fit(*rows)


def texts(ax):
    return [t.get_text() for t in ax.findobj(Text) if t.get_text().strip()]


# -- the data ----------------------------------------------------------------------


def test_shares_and_values(rows, soft):
    X, _ = rows
    display = TreeDisplay.from_estimator(soft, X)
    gate, means = soft.leaf_proba(X), soft.predict_experts(X)
    tree = soft.tree_
    assert_allclose(display.share[tree.leaves], gate.mean(axis=0))
    assert display.share[0] == pytest.approx(1.0)
    assert display.value[0, 0] == pytest.approx(soft.predict(X).mean())
    for node in range(tree.n_nodes):
        below = tree.leaves_under(node)
        assert display.share[node] == pytest.approx(gate[:, below].sum(axis=1).mean())
        mean = (gate * means)[:, below].sum() / gate[:, below].sum()
        assert display.value[node, 0] == pytest.approx(mean)
    noise = [expert.dispersion**0.5 for expert in soft.experts_]
    assert_allclose(display.noise[:, 0], noise)


def test_without_rows_shares_are_those_of_the_fit(soft):
    display = TreeDisplay.from_estimator(soft)
    assert_allclose(display.share[soft.tree_.leaves], soft.leaf_weight_ / 300)
    assert display.value is None
    assert "Give X to see what the nodes predict." in texts(display.ax_)


def test_splits_are_standardised_log_odds(rows, soft):
    X, _ = rows
    display = TreeDisplay.from_estimator(soft, X, max_columns=2)
    shifted = X + X.std(ddof=0)
    for gate, split in zip(soft.gate_.gates, display.splits, strict=True):
        effect = {}
        for j, name in enumerate(X.columns):
            moved = X.to_numpy().copy()
            moved[:, j] = shifted.to_numpy()[:, j]
            odds = [
                np.diff(gate.log_proba(part))[:, 0] for part in (X.to_numpy(), moved)
            ]
            effect[name] = (odds[1] - odds[0]).mean()
        strongest = sorted(effect, key=lambda name: -abs(effect[name]))[:2]
        assert list(split.names) == strongest
        assert_allclose(split.weight[0], [effect[name] for name in strongest])
        assert split.threshold is None


@pytest.mark.parametrize("flipped", [False, True])
def test_a_split_on_one_column_has_a_threshold(rows, flipped):
    X, y = rows
    model = regressor(depth=1, gate_features=["dose"]).fit(X, y)
    if flipped:
        model.gate_.gates[0].kernel_.coef *= -1.0
    display = TreeDisplay.from_estimator(model, X)
    (split,) = display.splits
    assert split.names == ("dose",)
    at = np.array([[0.0, split.threshold, 0.0]])
    assert_allclose(np.exp(model.gate_.log_proba(at)), 0.5)
    said = texts(display.ax_)
    assert "dose" in said
    assert {f"< {split.threshold:.2f}", f"> {split.threshold:.2f}"} <= set(said)
    # The branch above takes what lies on its side.
    first = next(t for t in said if t.startswith(("<", ">")))
    far = at.copy()
    far[0, 1] += -1.0 if first.startswith("<") else 1.0
    assert model.gate_.log_proba(far)[0, 0] > np.log(0.5)


def test_more_than_two_branches(rows):
    X, y = rows
    model = regressor(depth=1, branching=3).fit(X, y)
    display = TreeDisplay.from_estimator(model, X)
    (split,) = display.splits
    coef = model.gate_.gates[0].coef_ * X.to_numpy().std(axis=0)
    coef -= coef.mean(axis=0)
    order = [list(X.columns).index(name) for name in split.names]
    assert_allclose(split.weight, coef[:, order], atol=1e-12)
    arrows = [t for t in texts(display.ax_) if "↑" in t or "↓" in t]
    assert len(arrows) == 3


def test_gates_and_experts_that_are_not_linear(rows):
    X, y = rows
    forest = RandomForestRegressor(3, max_depth=2, random_state=0)
    gate = DecisionTreeClassifier(max_depth=2, random_state=0)
    model = regressor(forest, gate=gate, depth=1, tol=0.1).fit(X, y)
    display = TreeDisplay.from_estimator(model, X)
    assert display.splits[0].names == ()
    assert display.splits[0].text.startswith("DecisionTreeClassifier(max_depth=2")
    assert display.experts[0][0].startswith("y ~ RandomForestRegressor(")


def test_a_gate_that_does_not_move_is_said_to(rows):
    X, y = rows
    from skmoe.gates import SoftmaxGate

    model = regressor(depth=1, gate=SoftmaxGate(alpha=1e12)).fit(X, y)
    display = TreeDisplay.from_estimator(model, X)
    assert display.splits[0].text == "the same for all rows"


def test_classes(rows):
    X, y = rows
    y = np.array(["low", "mid", "top"])[np.digitize(y, np.quantile(y, [0.3, 0.7]))]
    model = classifier().fit(X, y)
    display = TreeDisplay.from_estimator(model, X)
    assert_allclose(display.value.sum(axis=1), 1.0)
    assert_allclose(display.value[0], model.predict_proba(X).mean(axis=0))
    assert display.noise is None
    said = texts(display.ax_)
    assert {"low", "mid", "top"} <= set(said)  # the key
    leaf = model.tree_.leaves[0]
    top = display.value[leaf].argmax()
    share = f"{display.labels[top]}: {100 * display.value[leaf, top]:.0f} %, "
    assert any(t.startswith(share) for t in said)


def test_binary_classes_show_their_formula(rows):
    X, y = rows
    model = classifier(depth=1).fit(X, y > np.median(y))
    said = texts(TreeDisplay.from_estimator(model, X).ax_)
    assert sum(t.startswith("log-odds(True) = ") for t in said) == 2


def test_frame(rows, soft):
    X, _ = rows
    display = TreeDisplay.from_estimator(soft, X)
    frame, tree = display.frame(), soft.tree_
    assert_array_equal(frame["parent"], tree.parent)
    assert_array_equal(frame["level"], tree.level)
    assert_array_equal(frame["leaf"].iloc[tree.leaves], np.arange(4))
    assert_array_equal(frame["leaf"].iloc[tree.inner], -1)
    assert frame["n_leaves"].iloc[0] == 4
    assert_array_equal(frame["share"], display.share)
    assert_array_equal(frame["value[y]"], display.value[:, 0])
    assert_array_equal(frame["noise[y]"].iloc[tree.leaves], display.noise[:, 0])
    assert frame["noise[y]"].iloc[tree.inner].isna().all()
    assert frame["text"].iloc[tree.leaves[1]] == display.experts[1][0]
    name, weight = display.splits[0].names[0], display.splits[0].weight[0, 0]
    assert frame["text"].iloc[0].startswith(f"{weight:+.2g} {name}")
    assert frame.index.name == "node"
    assert len(TreeDisplay.from_estimator(soft).frame()) == 7


def test_frame_of_thresholds_and_of_classes(rows):
    X, y = rows
    model = regressor(depth=1, gate_features=["dose"]).fit(X, y)
    display = TreeDisplay.from_estimator(model)
    sign = ">" if display.splits[0].weight[0, 0] > 0 else "<"
    at = display.splits[0].threshold
    assert display.frame()["text"].iloc[0] == f"dose {sign} {at:.2f}"
    model = classifier(depth=1).fit(X, np.where(y > np.median(y), "b", "a"))
    frame = TreeDisplay.from_estimator(model, X).frame()
    assert_allclose(frame["value[a]"] + frame["value[b]"], 1.0)
    assert not [name for name in frame if name.startswith("noise")]
    model = regressor(depth=1, branching=3).fit(X, y)
    display = TreeDisplay.from_estimator(model)
    assert display.frame()["text"].iloc[0] == ", ".join(display.splits[0].names)


# -- the picture -------------------------------------------------------------------


def boxes_of(display):
    """Return texts with the rectangles that they cover, in pixels."""
    fig = display.figure_
    fig.canvas.draw()
    found = [t for t in display.ax_.texts if t.get_text().strip()]
    renderer = fig.canvas.get_renderer()
    return [(t.get_text(), t.get_window_extent(renderer)) for t in found]


def assert_readable(display):
    """Assert that no text touches another one or leaves the page."""
    page = display.figure_.bbox
    boxes = boxes_of(display)
    for text, box in boxes:
        assert box.x0 >= page.x0, text
        assert box.x1 <= page.x1, text
        assert box.y0 >= page.y0, text
        assert box.y1 <= page.y1, text
    for i, (text, box) in enumerate(boxes):
        for other, there in boxes[i + 1 :]:
            width = min(box.x1, there.x1) - max(box.x0, there.x0)
            height = min(box.y1, there.y1) - max(box.y0, there.y0)
            # Lines of one paragraph may share a pixel or two of their leading.
            assert width <= 1 or height <= 3, (text, other)


@pytest.mark.parametrize("X_given", [True, False])
@pytest.mark.parametrize(
    "settings",
    [
        {"depth": 1},
        {"depth": 2},
        {"depth": 3},
        {"depth": 4},
        {"branching": (3, 2)},
        {"depth": 1, "branching": 4},
        {
            "experts": [
                LinearExpert(),
                [LinearExpert(), [LinearExpert(), LinearExpert()]],
            ]
        },
    ],
    ids=str,
)
def test_nothing_collides(rows, settings, X_given):
    X, y = rows
    model = regressor(**settings).fit(X, y)
    assert_readable(TreeDisplay.from_estimator(model, X if X_given else None))


def test_boxes_of_many_columns_do_not_collide():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 8))
    y = (X @ rng.normal(size=8)) ** 2 + rng.normal(size=400)
    display = TreeDisplay.from_estimator(regressor().fit(X, y), max_columns=8)
    assert [len(split.names) for split in display.splits] == [8, 8, 8]
    assert_readable(display)


@pytest.mark.parametrize("kind", ["multi-output", "classes", "five outputs"])
def test_nothing_collides_in_other_kinds(rows, kind):
    X, y = rows
    if kind == "classes":
        cut = np.quantile(y, [0.3, 0.7])
        model = classifier().fit(X, np.digitize(y, cut))
    else:
        outputs = 2 if kind == "multi-output" else 5
        noise = np.random.default_rng(0).normal(size=(300, outputs))
        model = regressor().fit(X, np.outer(y, np.arange(1, outputs + 1)) + noise)
    display = TreeDisplay.from_estimator(model, X)
    assert_readable(display)
    if kind == "five outputs":
        assert "… 5 lines in all" in texts(display.ax_)


def test_a_key_of_many_classes_takes_several_lines(rows):
    X, y = rows
    names = np.array([f"a class with number {k}" for k in range(12)])
    codes = np.searchsorted(np.quantile(y, np.arange(1, 12) / 12), y)
    model = classifier(depth=1).fit(X, names[codes])
    display = TreeDisplay.from_estimator(model, X)
    assert_readable(display)
    assert set(names) <= set(texts(display.ax_))


def test_names_with_dollars_and_great_length(rows):
    X, y = rows
    names = ["price in $", "cost_in_$", "a name that is much longer than any box is"]
    model = regressor().fit(X.to_numpy(), y)
    display = TreeDisplay.from_estimator(model, X.to_numpy(), feature_names=names)
    assert_readable(display)
    plain = [t.replace("\\$", "$") for t in texts(display.ax_)]
    assert any("price in $" in t for t in plain)
    assert any("…" in t for t in plain)


def test_max_depth_cuts(rows):
    X, y = rows
    model = regressor(depth=3).fit(X, y)
    display = TreeDisplay.from_estimator(model, X, max_depth=1)
    said = texts(display.ax_)
    for child in model.tree_.children[0]:
        count = len(model.tree_.leaves_under(child))
        share = 100 * display.share[child]
        assert f"{count} leaves · {share:.0f} %" in said
    assert not any(t.startswith("leaf") for t in said)
    assert_readable(display)
    said = texts(display.plot(max_depth=None).ax_)
    assert sum(t.startswith("leaf ") for t in said) == model.tree_.n_leaves


def test_width_of_bands_is_the_share(rows, soft):
    X, _ = rows
    display = TreeDisplay.from_estimator(soft, X)
    bands = [p for p in display.ax_.patches if type(p).__name__ == "PathPatch"]
    assert len(bands) == soft.tree_.n_nodes - 1
    thick = [np.ptp(band.get_path().vertices[[4, 5], 1]) for band in bands]
    children = [c for node in soft.tree_.inner for c in soft.tree_.children[node]]
    ratio = thick / display.share[children]
    assert_allclose(ratio, ratio[0])
    # They leave their gate side by side.
    starts = [band.get_path().vertices[[0, 9], 1] for band in bands[:2]]
    # The curve returns to where it left: its last point but one is its lower end.
    assert starts[0][1] == pytest.approx(starts[1][0])


def test_colours_follow_the_output(rows):
    X, y = rows
    model = regressor().fit(X, np.c_[y, -y])
    first = TreeDisplay.from_estimator(model, X)
    second = TreeDisplay.from_estimator(model, X, output=1, cmap="magma")
    assert "mean prediction of y0" in texts(first.ax_)
    assert "mean prediction of y1" in texts(second.ax_)
    leaf = model.tree_.leaves[0]
    said = f"{second.value[leaf, 1]:#.3g}".rstrip(".").replace("-", "−")
    assert said in texts(second.ax_)
    lowest = model.tree_.leaves[np.argmin(second.value[model.tree_.leaves, 1])]
    colours = [p.get_facecolor() for p in second.ax_.patches]
    assert second.value[lowest, 1] == second.value[model.tree_.leaves, 1].min()
    assert mpl.colormaps["magma"](0.0) in colours


def test_axes_that_are_given(rows, soft):
    X, _ = rows
    fig, axes = plt.subplots(1, 2, figsize=(10, 3))
    display = TreeDisplay.from_estimator(soft, X, ax=axes[0])
    assert display.ax_ is axes[0]
    assert display.figure_ is fig
    assert not axes[1].texts
    fig.canvas.draw()
    frame = axes[0].get_window_extent()
    for text, box in boxes_of(display):
        assert box.x1 <= frame.x1 + 2, text
    own = TreeDisplay.from_estimator(soft, X)
    size = own.ax_.texts[0].get_fontsize()
    assert axes[0].texts[0].get_fontsize() < size
    assert own.plot() is own


def test_values_that_are_all_the_same(rows):
    X, _ = rows
    model = regressor(depth=1).fit(X, np.zeros(300) + np.arange(300) % 2)
    display = TreeDisplay.from_estimator(model, X)
    display.value[:] = 0.0
    assert "0" in texts(display.plot().ax_)


def test_a_leaf_without_rows_is_drawn(rows, soft):
    X, _ = rows
    display = TreeDisplay.from_estimator(soft, X)
    leaf = soft.tree_.leaves[1]
    display.value[leaf] = np.nan
    assert "no rows" in texts(display.plot().ax_)


def test_a_tree_that_is_a_leaf(rows):
    X, y = rows
    model = regressor(grow="posterior", max_leaves=1, init="auto").fit(X, y)
    display = TreeDisplay.from_estimator(model, X)
    assert_readable(display)
    assert any(t.startswith("leaf 0 · 100 %") for t in texts(display.ax_))


def test_importing_does_not_load_matplotlib():
    code = "import sys, skmoe, skmoe.inspection; print('matplotlib' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


# -- bad input ---------------------------------------------------------------------


def test_before_fit():
    with pytest.raises(NotFittedError, match="not fitted yet"):
        TreeDisplay.from_estimator(regressor())


@pytest.mark.parametrize("model", [MixtureOfExpertsRegressor(), "tree"], ids=str)
def test_what_is_no_hierarchy(model):
    with pytest.raises(TypeError, match="draws hierarchical mixtures, such as"):
        TreeDisplay.from_estimator(model)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"max_depth": 0}, "max_depth must be None or at least 1, got 0"),
        ({"output": 1}, r"position among the 1 outputs \['y'\], got 1"),
        ({"feature_names": ["a"]}, "one name for each of the 3 columns, got 1"),
        ({"max_columns": 0}, "max_columns must be at least 1, got 0"),
    ],
    ids=str,
)
def test_bad_arguments(rows, soft, arguments, match):
    with pytest.raises(ValueError, match=match):
        TreeDisplay.from_estimator(soft, rows[0], **arguments)


def test_another_number_of_columns(rows, soft):
    with pytest.raises(ValueError, match="feature names should match"):
        TreeDisplay.from_estimator(soft, rows[0].iloc[:, :2])
