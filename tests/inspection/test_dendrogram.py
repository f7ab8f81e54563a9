"""Dendrograms: brackets, leaves, the cut."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from numpy.testing import assert_allclose

from skmoe.inspection import DendrogramDisplay
from skmoe.inspection._style import expert_colours
from skmoe.model_selection import Dendrogram, MixtureOfExpertsSearch
from tests._quick import regressor


def made(best=3):
    """Return five experts: 0 and 1 are nearly one, 3 and 4 too."""
    heights = np.array([2.0, 3.0, 80.0, 300.0])
    return Dendrogram(
        linkage=np.array(
            [[0, 1, 2.0, 2], [3, 4, 3.0, 2], [2, 5, 80.0, 3], [6, 7, 300.0, 5]]
        ),
        heights=heights,
        n_experts=np.arange(5, 0, -1),
        log_likelihood=-np.append(0.0, heights.cumsum()),
        n_parameters=5 * np.arange(5, 0, -1),
        criterion=np.array([5.0, 4.0, 3.0, 40.0, 300.0]),
        best_n_experts=best,
        shares=np.array([0.4, 0.1, 0.2, 0.2, 0.1]),
    )


class Choice:
    def __init__(self, dendrogram):
        self.dendrogram_ = dendrogram


def brackets(ax):
    return {
        float(np.max(line.get_ydata())): to_rgb(line.get_color())
        for line in ax.lines
        if len(line.get_xdata()) == 4
    }


def cut_of(ax):
    (line,) = [line for line in ax.lines if line.get_linestyle() == "--"]
    return line.get_ydata()[0]


@pytest.mark.parametrize("style", ["default", "dark_background"])
def test_brackets_and_leaves(style):
    with plt.style.context(style):
        display = DendrogramDisplay.from_estimator(Choice(made()))
    ax = display.ax_
    ink = to_rgb(ax.xaxis.label.get_color())
    colours = [tuple(colour) for colour in expert_colours(3)]
    # Leaves 0 and 1 are expert 0 of three, leaf 2 expert 1, leaves 3 and 4 expert 2.
    assert brackets(ax) == {2.0: colours[0], 3.0: colours[2], 80.0: ink, 300.0: ink}
    labels = [text.get_text() for text in ax.get_xticklabels()]
    assert sorted(labels) == ["0\n40 %", "1\n10 %", "2\n20 %", "3\n20 %", "4\n10 %"]
    (dots,) = ax.collections
    of_leaf = dict(zip(labels, map(tuple, dots.get_facecolors()[:, :3]), strict=True))
    assert of_leaf["1\n10 %"] == colours[0]
    assert of_leaf["2\n20 %"] == colours[1]
    assert of_leaf["4\n10 %"] == colours[2]
    sizes = dict(zip(labels, dots.get_sizes(), strict=True))
    assert sizes["0\n40 %"] > sizes["2\n20 %"] > sizes["1\n10 %"]
    assert ax.get_title("left") == "3 of 5 experts"


@pytest.mark.parametrize(
    ("n_experts", "low", "high"), [(5, 0, 2), (4, 2, 3), (2, 80, 300), (1, 300, 400)]
)
def test_the_cut_lies_between_what_is_merged_and_what_is_not(n_experts, low, high):
    display = DendrogramDisplay(made()).plot(n_experts=n_experts)
    assert low < cut_of(display.ax_) < high
    coloured = [h for h, c in brackets(display.ax_).items() if c != (0.0,) * 3]
    assert len(coloured) == 5 - n_experts
    assert display.ax_.get_ylim()[1] > cut_of(display.ax_)


def test_merges_of_equal_height_on_both_sides_of_the_cut():
    found = made()
    found.linkage[:2, 2] = 3.0
    ax = DendrogramDisplay(found).plot(n_experts=4).ax_
    # Leaves 0 and 1 are merged, 3 and 4 are not yet.
    ink = to_rgb(ax.xaxis.label.get_color())
    low = [line for line in ax.lines if max(line.get_ydata()) == 3.0]
    low = [to_rgb(line.get_color()) for line in low if len(line.get_xdata()) == 4]
    assert sorted(low) == sorted([tuple(expert_colours(1)[0]), ink])


def test_a_search(plane):
    search = MixtureOfExpertsSearch(
        regressor(max_iter=30, tol=1e-2), n_experts=3, method="dendrogram"
    ).fit(*plane)
    display = DendrogramDisplay.from_estimator(search)
    assert display.dendrogram is search.dendrogram_
    assert display.frame()["n_experts"].tolist() == [2, 1]
    assert display.ax_.get_title("left") == f"{search.best_n_experts_} of 3 experts"
    other = MixtureOfExpertsSearch(regressor(), n_experts=[1], method="bic")
    with pytest.raises(TypeError, match="without dendrogram_"):
        DendrogramDisplay.from_estimator(other.fit(*plane))


def test_all_of_it_is_on_the_page():
    display = DendrogramDisplay(made()).plot()
    figure = display.figure_
    figure.canvas.draw()
    drawn = figure.get_tightbbox().transformed(figure.dpi_scale_trans)
    assert drawn.x0 >= -1
    assert drawn.y0 >= -1
    assert drawn.x1 <= figure.bbox.x1 + 1
    assert drawn.y1 <= figure.bbox.y1 + 1


def test_axes_that_are_given():
    _, (left, right) = plt.subplots(1, 2)
    assert DendrogramDisplay.from_estimator(Choice(made()), ax=right).ax_ is right
    assert not left.has_data()


def test_a_single_expert():
    alone = Dendrogram(
        linkage=np.zeros((0, 4)),
        heights=np.zeros(0),
        n_experts=np.array([1]),
        log_likelihood=np.zeros(1),
        n_parameters=np.ones(1, dtype=int),
        criterion=np.zeros(1),
        best_n_experts=1,
        shares=np.ones(1),
    )
    display = DendrogramDisplay(alone).plot()
    assert [t.get_text() for t in display.ax_.get_xticklabels()] == ["0\n100 %"]
    assert len(display.frame()) == 0


def test_frame():
    frame = DendrogramDisplay(made()).frame()
    assert frame["first"].tolist() == [0, 3, 2, 6]
    assert frame["second"].tolist() == [1, 4, 5, 7]
    assert frame["leaves"].tolist() == [2, 2, 3, 5]
    assert frame["n_experts"].tolist() == [4, 3, 2, 1]
    assert frame["made"].tolist() == [True, True, False, False]
    assert_allclose(frame["cost"], [2.0, 3.0, 80.0, 300.0])
    assert_allclose(frame["criterion"], [4.0, 3.0, 40.0, 300.0])


# -- bad input ---------------------------------------------------------------------


@pytest.mark.parametrize("model", ["model", Choice(None)], ids=["text", "none"])
def test_what_has_no_dendrogram(model):
    with pytest.raises(TypeError, match='by method="dendrogram" has found, got'):
        DendrogramDisplay.from_estimator(model)


@pytest.mark.parametrize("n_experts", [0, 6])
def test_no_such_level(n_experts):
    with pytest.raises(ValueError, match=r"n_experts must be one of 1, \.\.\., 5"):
        DendrogramDisplay.from_estimator(Choice(made()), n_experts=n_experts)
