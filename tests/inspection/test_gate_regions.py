"""Gate regions: probabilities over two columns, borders, points."""

import numpy as np
import pytest
from matplotlib.contour import ContourSet
from matplotlib.image import AxesImage
from numpy.testing import assert_allclose, assert_array_equal

from skmoe.datasets import make_mixture_regression
from skmoe.inspection import GateRegionDisplay
from skmoe.inspection._style import blend, expert_colours
from tests._quick import regressor

draw = GateRegionDisplay.from_estimator


@pytest.fixture(scope="module")
def wide():
    X, y = make_mixture_regression(150, 4, random_state=2)
    return X, y, regressor(n_experts=3).fit(X, y)


def places(display):
    return np.column_stack(
        [np.tile(display.x0, display.x1.size), np.repeat(display.x1, display.x0.size)]
    )


def lines(ax):
    """Return the points of all border lines, of solid ones and of dashed ones."""
    found = [np.zeros((0, 2))], [np.zeros((0, 2))]
    for contour in ax.findobj(ContourSet):
        dashed = contour.get_linestyle()[0][1] is not None
        found[dashed].extend(path.vertices for path in contour.get_paths())
    return tuple(map(np.concatenate, found))


# -- the data ----------------------------------------------------------------------


def test_the_gate_at_every_place(flat, plane):
    X, y = plane
    display = draw(flat, X, y, grid_resolution=20)
    assert display.gate.shape == (20, 20, 3)
    assert_allclose(display.gate.reshape(-1, 3), flat.gate_proba(places(display)))
    for grid, column in zip((display.x0, display.x1), X.T, strict=True):
        assert grid[0] < column.min()
        assert grid[-1] > column.max()
    assert_allclose(display.share, flat.responsibilities(X, y))
    assert_allclose(draw(flat, X).share, flat.gate_proba(X))
    assert_allclose(display.points, X)


def test_columns_by_name_and_position_in_either_order(flat, plane):
    X, _ = plane
    ahead = draw(flat, X, features=("x0", 1), grid_resolution=9)
    back = draw(flat, X, features=[1, 0], grid_resolution=9)
    assert back.feature_names == ["x1", "x0"]
    assert_allclose(back.gate, ahead.gate.swapaxes(0, 1))
    assert_allclose(back.points, X[:, ::-1])


def test_other_columns_at_their_medians(wide):
    X, _, model = wide
    display = draw(model, X, features=(2, 0), grid_resolution=7)
    rows = np.tile(np.median(X, axis=0), (49, 1))
    rows[:, [2, 0]] = places(display)
    assert_allclose(display.gate.reshape(-1, 3), model.gate_proba(rows))


def test_other_columns_averaged(wide):
    X, _, model = wide
    display = draw(
        model, X, features=(2, 0), others="average", grid_resolution=5, subsample=None
    )
    total = 0.0
    for row in X:
        rows = np.tile(row, (25, 1))
        rows[:, [2, 0]] = places(display)
        total = total + model.gate_proba(rows)
    assert_allclose(display.gate.reshape(-1, 3), total / len(X))
    fewer = draw(
        model, X, features=(2, 0), others="average", grid_resolution=5, subsample=2
    )
    assert not np.allclose(fewer.gate, display.gate)


def test_blocks_of_rows_change_nothing(wide, monkeypatch):
    X, _, model = wide
    arguments = {"features": (2, 0), "others": "average", "grid_resolution": 5}
    whole = draw(model, X, **arguments, subsample=10)
    monkeypatch.setattr("skmoe.inspection._gate_regions.BLOCK", 75)
    assert_allclose(draw(model, X, **arguments, subsample=10).gate, whole.gate)


def test_words_in_other_columns(coded, mixed):
    X, y = mixed
    X = X.assign(dose=np.linspace(0.0, 1.0, len(X)))
    model = regressor().fit(X, y)
    display = draw(model, X, y, features=("age", "dose"), grid_resolution=8)
    rows = X.iloc[:64].copy()
    rows["kind"] = X["kind"].iloc[np.flatnonzero(X["kind"] == "b")[0]]
    rows["kind"] = rows["kind"].astype(X["kind"].dtype)
    rows["flag"] = int(X["flag"].mode()[0])
    rows[["age", "dose"]] = places(display)
    assert_allclose(display.gate.reshape(64, -1), model.gate_proba(rows))


def test_classes_of_a_classifier(sorter, classes):
    X, y = classes
    display = draw(sorter, X, y, grid_resolution=15)
    proba = sorter.predict_proba(places(display))
    assert_allclose(display.class_proba.reshape(-1, 3), proba)
    assert_array_equal(display.frame()["class"], sorter.predict(places(display)))
    assert_array_equal(np.array(display.class_names)[display.codes], y)
    assert draw(sorter, X).codes is None


def test_frame(flat, plane):
    frame = draw(flat, plane[0], grid_resolution=10).frame()
    assert frame.columns.tolist() == [
        "x0",
        "x1",
        "expert",
        "probability",
        "gate[expert0]",
        "gate[expert1]",
        "gate[expert2]",
    ]
    gate = frame.filter(like="gate")
    assert_allclose(gate.sum(axis=1), 1.0)
    assert_allclose(frame["probability"], gate.max(axis=1))
    winner = flat.apply(frame[["x0", "x1"]].to_numpy())
    assert frame["expert"].tolist() == [f"expert{k}" for k in winner]


# -- the picture -------------------------------------------------------------------


def test_places_have_the_colour_of_their_expert(flat, plane):
    display = draw(flat, *plane, grid_resolution=30)
    (image,) = display.ax_.findobj(AxesImage)
    shown = image.get_array()
    winner = display.gate.argmax(axis=2)
    assert_allclose(shown[..., :3], expert_colours(3)[winner])
    # The surer, the stronger.
    sure, strength = display.gate.max(axis=2).ravel(), shown[..., 3].ravel()
    assert np.diff(strength[np.argsort(sure)]).min() >= 0.0
    assert strength.max() - strength.min() > 0.3


def test_borders_run_where_two_experts_are_equal(flat, plane):
    X, y = plane
    solid, dashed = lines(draw(flat, X, y).ax_)
    assert len(solid)
    assert not len(dashed)
    gate = np.sort(flat.gate_proba(solid), axis=1)
    assert np.abs(gate[:, -1] - gate[:, -2]).max() < 0.05
    assert list(map(len, lines(draw(flat, X, y, boundary=False).ax_))) == [0, 0]


def test_borders_are_whole_and_drawn_once(flat, plane):
    display = draw(flat, *plane)
    points, _ = lines(display.ax_)
    winner = display.gate.argmax(axis=2)
    steps = np.array([np.diff(display.x0)[0], np.diff(display.x1)[0]])
    rows, columns = np.nonzero(winner[1:] != winner[:-1])
    for i, j in zip(rows, columns, strict=True):
        away = np.abs(points - [display.x0[j], display.x1[i]]) / steps
        assert away.max(axis=1).min() < 1.5
    # A line has one point on each edge of the grid that it crosses; dashes of two lines
    # on top of each other would make a solid one.
    assert len(np.unique(points.round(9), axis=0)) >= len(points) - 2


def test_the_decision_of_a_classifier_is_dashed(sorter, classes):
    _, dashed = lines(draw(sorter, *classes).ax_)
    assert len(dashed)
    proba = np.sort(sorter.predict_proba(dashed), axis=1)
    assert np.median(np.abs(proba[:, -1] - proba[:, -2])) < 0.01


def test_points_have_the_colour_of_their_responsibilities(flat, plane):
    X, y = plane
    display = draw(flat, X, y, s=5)
    (points,) = [c for c in display.ax_.collections if not isinstance(c, ContourSet)]
    assert_allclose(points.get_offsets(), X)
    assert_allclose(points.get_facecolors()[:, :3], blend(display.share))
    assert points.get_sizes().tolist() == [5]
    bare = draw(flat, X, y, points=False, boundary=False)
    assert not bare.ax_.collections


def test_classes_have_markers_of_their_own(sorter, classes):
    X, y = classes
    display = draw(sorter, X, y, boundary=False)
    assert [len(c.get_offsets()) for c in display.ax_.collections] == [
        np.sum(y == label) for label in sorter.classes_
    ]
    labels = [t.get_text() for t in display.ax_.get_legend().get_texts()]
    assert labels == ["expert0", "expert1", "low", "mid", "top"]


def test_only_experts_that_win_somewhere_are_in_the_key(flat, plane):
    display = draw(flat, *plane)
    display.gate = display.gate * [1.0, 1e-3, 1.0]
    labels = [t.get_text() for t in display.plot().ax_.get_legend().get_texts()]
    assert labels == ["expert0", "expert2"]


# -- bad input ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("features", "match"),
    [
        (None, r"over two columns, and X has 4: say which, .* \['x0', 'x1', 'x2'"),
        ((0, 1, 2), r"features must be two columns, got 3: \[0, 1, 2\]"),
        ("x1", r"features must be two columns, got 1: \['x1'\]"),
        (3, r"features must be two columns, got 1: \[3\]"),
        ((0, "size"), r"X has no column 'size': give a position below 4 or one of"),
        ((1, "x1"), r"two different columns, got \[1, 'x1'\]"),
    ],
    ids=str,
)
def test_bad_columns(wide, features, match):
    X, _, model = wide
    with pytest.raises(ValueError, match=match):
        draw(model, X, features=features)


def test_columns_of_categories(coded, mixed):
    match = "columns of numbers, and 'kind' holds categories: draw it with GateProfile"
    with pytest.raises(ValueError, match=match):
        draw(coded, mixed[0], features=("age", "kind"))


def test_bad_words(wide):
    X, _, model = wide
    with pytest.raises(ValueError, match=r"others must be .* got 'mean'"):
        draw(model, X, features=(0, 1), others="mean")
