"""Gate profiles: one column moved, all else as it is."""

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from numpy.testing import assert_allclose
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.inspection import partial_dependence

from skmoe.inspection import GateProfileDisplay
from skmoe.inspection._style import expert_colours
from tests._quick import regressor

draw = GateProfileDisplay.from_estimator


def thick(ax):
    return [line for line in ax.lines if line.get_linewidth() > 2.0]


# -- the data ----------------------------------------------------------------------


def test_each_row_is_moved_along_the_column(flat, plane):
    X, _ = plane
    display = draw(flat, X, "x1", grid_resolution=6, subsample=None)
    assert display.gate.shape == (200, 6, 3)
    assert_allclose(
        [display.values[0], display.values[-1]], [X[:, 1].min(), X[:, 1].max()]
    )
    moved = X.copy()
    moved[:, 1] = display.values[4]
    assert_allclose(display.gate[:, 4], flat.gate_proba(moved))


class GateAsClasses(ClassifierMixin, BaseEstimator):
    """A classifier whose classes are the experts of a fitted mixture of two."""

    def __init__(self, mixture):
        self.mixture = mixture

    def fit(self, X, y):
        self.classes_ = np.arange(2)
        return self

    def predict_proba(self, X):
        return self.mixture.gate_proba(X)


def test_the_average_is_the_partial_dependence(sorter, classes):
    X, y = classes
    theirs = partial_dependence(
        GateAsClasses(sorter).fit(X, y),
        X,
        [0],
        grid_resolution=5,
        percentiles=(0, 1),
        response_method="predict_proba",
    )
    ours = draw(sorter, X, 0, grid_resolution=5, subsample=None)
    assert_allclose(ours.values, theirs["grid_values"][0])
    assert_allclose(ours.average[:, 1], theirs["average"][0])


def test_fewer_rows(flat, plane):
    X, _ = plane
    display = draw(flat, X, 0, grid_resolution=4, subsample=3)
    moved = X[[0, 100, 199]]
    moved[:, 0] = display.values[2]
    assert_allclose(display.gate[:, 2], flat.gate_proba(moved))


def test_a_single_column_needs_a_single_row(plane):
    X, y = plane
    model = regressor().fit(X[:, :1], y)
    display = draw(model, X[:, :1], grid_resolution=9)
    assert display.gate.shape == (1, 9, 2)
    assert_allclose(display.gate[0], model.gate_proba(display.values[:, None]))


def test_categories(coded, mixed):
    X, _ = mixed
    display = draw(coded, X, "kind", subsample=None)
    assert display.categorical
    assert display.values.tolist() == ["c", "a", "b"]
    moved = X.copy()
    moved.loc[:, "kind"] = "a"
    assert_allclose(display.gate[:, 1], coded.gate_proba(moved))


def test_frame(flat, plane):
    display = draw(flat, plane[0], 0, grid_resolution=8)
    frame = display.frame()
    assert frame.columns[:4].tolist() == ["x0", *(f"gate[expert{k}]" for k in range(3))]
    assert_allclose(frame["x0"], display.values)
    assert_allclose(frame["gate[expert2]"], display.average[:, 2])
    assert_allclose(frame.filter(like="gate[").sum(axis=1), 1.0)
    low, high = np.quantile(display.gate[:, :, 1], [0.1, 0.9], axis=0)
    assert_allclose(frame["low[expert1]"], low)
    assert_allclose(frame["high[expert1]"], high)


# -- the picture -------------------------------------------------------------------


def test_lines_of_the_average_and_of_each_row(flat, plane):
    display = draw(flat, plane[0], 0, grid_resolution=8, subsample=10)
    lines = thick(display.ax_)
    assert len(display.ax_.lines) == 3 * (10 + 1)
    for line, mean, colour in zip(
        lines, display.average.T, expert_colours(3), strict=True
    ):
        assert_allclose(line.get_ydata(), mean)
        assert to_rgb(line.get_color()) == tuple(colour)
    bare = draw(flat, plane[0], 0, grid_resolution=8, individual=False)
    assert len(bare.ax_.lines) == 3


def test_ticks_are_the_values_of_the_rows(flat, plane):
    X, _ = plane
    display = draw(flat, X, 1, grid_resolution=8)
    (rug,) = [c for c in display.ax_.collections if isinstance(c, LineCollection)]
    spots = [segment[0, 0] for segment in rug.get_segments()]
    assert_allclose(spots, np.unique(X[:, 1]))
    assert not draw(flat, X, 1, grid_resolution=8, rug=False).ax_.collections


def test_bars_of_categories(coded, mixed):
    X, _ = mixed
    display = draw(coded, X, "kind")
    heights = [[bar.get_height() for bar in group] for group in display.ax_.containers]
    assert_allclose(heights, display.average.T)
    labels = [t.get_text() for t in display.ax_.get_xticklabels()]
    counts = X["kind"].value_counts()
    assert labels == [f"{kind}\n(n = {counts[kind]})" for kind in "cab"]
    assert len(display.ax_.collections) == 2  # the rows' middle 80 %, of each expert
    plain = draw(coded, X, "kind", individual=False, rug=False)
    assert [t.get_text() for t in plain.ax_.get_xticklabels()] == ["c", "a", "b"]
    assert not plain.ax_.collections


def test_two_values_are_bars_too(coded, mixed):
    display = draw(coded, mixed[0], "flag", rug=False)
    assert [t.get_text() for t in display.ax_.get_xticklabels()] == ["0", "1"]


def test_whole_numbers_are_written_without_a_point(plane):
    X, y = plane
    X = np.column_stack([X, X[:, 0] > 0])
    display = draw(regressor().fit(X, y), X, 2, rug=False)
    assert [t.get_text() for t in display.ax_.get_xticklabels()] == ["0", "1"]


# -- bad input ---------------------------------------------------------------------


@pytest.mark.parametrize("feature", ["size", 2, ("x0", "x1")], ids=str)
def test_no_such_column(flat, plane, feature):
    match = r"X has no column .*: give a position below 2 or one of \['x0', 'x1'\]"
    with pytest.raises(ValueError, match=match):
        draw(flat, plane[0], feature)
