"""Responsibilities: rows in their order, rootograms, separation."""

import numpy as np
import pytest
from matplotlib.patches import StepPatch
from numpy.testing import assert_allclose, assert_array_equal

from skmoe.inspection import ResponsibilityDisplay
from skmoe.inspection._responsibilities import MOST_ROWS
from skmoe.inspection._style import expert_colours
from tests._quick import regressor

draw = ResponsibilityDisplay.from_estimator

RESP = np.array(
    [
        [0.1, 0.9, 0.0],
        [0.7, 0.2, 0.1],
        [0.95, 0.05, 0.0],
        [0.0, 1.0, 0.0],
        [0.3, 0.3, 0.4],
    ]
)


@pytest.fixture
def small():
    return ResponsibilityDisplay(resp=RESP, expert_names=["a", "b", "c"])


def colour_at(ax, x, y):
    """Return the colours of the filled areas at a place."""
    return [
        tuple(area.get_facecolor()[0][:3])
        for area in ax.collections
        if any(path.contains_point((x, y)) for path in area.get_paths())
    ]


def test_responsibilities(flat, plane):
    X, y = plane
    assert_allclose(draw(flat, X, y).resp, flat.responsibilities(X, y))


def test_groups(plane):
    X, y = plane
    groups = np.arange(len(X)) // 2
    model = regressor().fit(X, y, groups=groups)
    display = draw(model, X, y, groups=groups)
    assert_allclose(display.resp, model.responsibilities(X, y, groups=groups))
    assert_allclose(display.resp[::2], display.resp[1::2])


def test_rows_are_sorted_by_expert_and_certainty(small):
    assert small.order().tolist() == [2, 1, 3, 0, 4]


def test_rows_are_filled_from_the_bottom(small):
    ax, colours = small.plot().ax_, [tuple(c) for c in expert_colours(3)]
    # Of each row in its place, the winner lies below and the others in their order.
    for spot, row in enumerate(small.order()):
        winner = int(RESP[row].argmax())
        stop = 0.0
        for k in [winner, *(k for k in range(3) if k != winner)]:
            if RESP[row, k] > 0.0:
                middle = stop + 0.5 * RESP[row, k]
                assert colour_at(ax, spot + 0.5, middle) == [colours[k]]
            stop += RESP[row, k]
    assert colour_at(ax, 2.5, 1.01) == []


def test_lines_between_experts(small):
    ax = small.plot().ax_
    (lines,) = [c for c in ax.collections if hasattr(c, "get_segments")]
    assert [segment[0, 0] for segment in lines.get_segments()] == [2.0, 4.0]


def test_many_rows_are_thinned_out():
    rng = np.random.default_rng(0)
    resp = rng.dirichlet(np.ones(2), size=2 * MOST_ROWS + 1)
    display = ResponsibilityDisplay(resp=resp, expert_names=["a", "b"]).plot()
    edges = np.unique(display.ax_.collections[0].get_paths()[0].vertices[:, 0])
    assert len(edges) - 1 <= MOST_ROWS
    assert edges[-1] == len(resp)
    assert display.ax_.get_xlim() == (0, len(resp))
    assert len(display.frame()) == len(resp)


def test_rootogram(small):
    ax = small.plot(kind="histogram").ax_
    counts = [patch.get_data().values for patch in ax.findobj(StepPatch)]
    assert [c.sum() for c in counts] == [4, 5, 2]  # next to nothing is left out
    assert counts[1][-1] == 1  # 1.0 belongs to the last bin
    assert ax.get_yscale() == "function"
    heights = ax.transData.transform([[0, 0], [0, 1], [0, 4]])[:, 1]
    assert heights[2] - heights[0] == pytest.approx(2 * (heights[1] - heights[0]))


def test_frame(small):
    frame = small.frame()
    assert frame["expert"].tolist() == ["b", "a", "a", "b", "c"]
    assert frame["certainty"].tolist() == [0.9, 0.7, 0.95, 1.0, 0.4]
    assert_array_equal(frame.filter(like="responsibility[").to_numpy(), RESP)


def test_separation(small):
    table = small.separation()
    assert table["expert"].tolist() == ["a", "b", "c"]
    assert table["rows"].tolist() == [2, 2, 1]
    assert table["some"].tolist() == [4, 5, 2]
    assert_allclose(table["ratio"], [0.5, 0.4, 0.5])


def test_separation_of_an_expert_without_rows():
    display = ResponsibilityDisplay(
        resp=np.array([[1.0, 0.0]]), expert_names=["a", "b"]
    )
    assert display.separation()["ratio"].tolist() == [1.0, 0.0]


def test_unknown_kind(flat, plane):
    with pytest.raises(ValueError, match=r"one of \['rows', 'histogram'\], got 'pie'"):
        draw(flat, *plane, kind="pie")
