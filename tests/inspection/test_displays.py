"""What all displays keep: the axes given, the style, the data, who may be drawn."""

import inspect
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression

from skmoe import inspection
from skmoe.inspection import (
    CalibrationDisplay,
    CoverageDisplay,
    ExpertUsageDisplay,
    GateProfileDisplay,
    GateRegionDisplay,
    ObjectiveTraceDisplay,
    PredictiveBandDisplay,
    ResponsibilityDisplay,
)
from tests._quick import regressor

pd = pytest.importorskip("pandas")


def asked(display, **fixed):
    """Return a function that draws a display of few places."""

    def ask(model, X, y, **kwargs):
        arguments = {GateProfileDisplay: (X,), ObjectiveTraceDisplay: ()}
        arguments = arguments.get(display, (X, y))
        return display.from_estimator(model, *arguments, **fixed, **kwargs)

    return ask


FEW = {"grid_resolution": 12}
# How each is asked for: of any responses, and of numbers alone.
ANY = {
    "regions": asked(GateRegionDisplay, **FEW),
    "profile": asked(GateProfileDisplay, **FEW),
    "usage": asked(ExpertUsageDisplay),
    "rows": asked(ResponsibilityDisplay),
    "histogram": asked(ResponsibilityDisplay, kind="histogram"),
    "traces": asked(ObjectiveTraceDisplay),
}
NUMBERS = {
    "band": asked(PredictiveBandDisplay, **FEW),
    "density": asked(PredictiveBandDisplay, kind="density", mode=True, **FEW),
    "smallest": asked(PredictiveBandDisplay, kind="highest-density", **FEW),
    "calibration": asked(CalibrationDisplay),
    "difference": asked(CalibrationDisplay, kind="difference"),
    "coverage": asked(
        CoverageDisplay, methods=["central", "highest-density"], by="expert"
    ),
}
ALL = ANY | NUMBERS


def assert_sound(display):
    """Check that all of a picture is on its page, and no legend covers the axes."""
    figure, ax = display.figure_, display.ax_
    figure.canvas.draw()
    assert ax.get_xlabel()
    drawn = figure.get_tightbbox().transformed(figure.dpi_scale_trans)
    page = figure.bbox
    assert drawn.x0 >= page.x0 - 1
    assert drawn.y0 >= page.y0 - 1
    assert drawn.x1 <= page.x1 + 1
    assert drawn.y1 <= page.y1 + 1
    if ax.get_legend() is not None:
        assert ax.get_legend().get_window_extent().x0 >= ax.bbox.x1


@pytest.mark.parametrize("style", ["default", "dark_background"])
@pytest.mark.parametrize("name", ALL)
def test_numbers(name, style, flat, plane):
    with warnings.catch_warnings(), plt.style.context(style):
        warnings.simplefilter("error")
        display = ALL[name](flat, *plane)
        assert_sound(display)
    ground = to_rgb(display.ax_.get_facecolor())
    assert ground == ((0.0,) * 3 if style == "dark_background" else (1.0,) * 3)


@pytest.mark.parametrize("name", ANY)
def test_classes(name, sorter, classes):
    assert_sound(ANY[name](sorter, *classes))


@pytest.mark.parametrize("name", ALL)
def test_trees_and_pipelines(name, tree, piped, plane):
    for model in (tree, piped):
        frame = ALL[name](model, *plane).frame()
        assert isinstance(frame, pd.DataFrame)
        assert len(frame) > 0


@pytest.mark.parametrize("name", ALL)
def test_data_frames(name, named):
    model, X, y = named
    display = ALL[name](model, X, y)
    if name in ("regions", "profile", "band"):
        assert display.frame().columns[0] == "up"
        assert display.ax_.get_xlabel() == "up"
    if name == "band":
        assert display.ax_.get_ylabel() == "load"


@pytest.fixture(scope="module")
def named(plane):
    X, y = plane
    X, y = pd.DataFrame(X, columns=["up", "out"]), pd.Series(y, name="load")
    return regressor().fit(X, y), X, y


@pytest.mark.parametrize("name", sorted({*NUMBERS, "usage", "rows", "profile"}))
def test_several_outputs(name, several, plane):
    X, y = plane
    y = np.column_stack([y, 2.0 * y + 1.0])
    target = {"target": 1} if name in NUMBERS else {}
    assert len(ALL[name](several, X, y, **target).frame()) > 0


@pytest.mark.parametrize("name", ALL)
def test_axes_that_are_given(name, flat, plane):
    figure, (left, right) = plt.subplots(1, 2)
    display = ALL[name](flat, *plane, ax=right)
    assert display.ax_ is right
    assert display.figure_ is figure
    assert not left.has_data()
    assert len(plt.get_fignums()) == 1


@pytest.mark.parametrize("name", ALL)
def test_a_display_can_be_drawn_again_from_its_data(name, flat, plane):
    display = ALL[name](flat, *plane)
    arguments = inspect.signature(type(display).__init__).parameters
    data = {key: getattr(display, key) for key in arguments if key != "self"}
    again = type(display)(**data)
    assert not hasattr(again, "ax_")
    assert again.plot() is again
    assert again.ax_ is not display.ax_
    pd.testing.assert_frame_equal(again.frame(), display.frame())


@pytest.mark.parametrize("name", ALL)
def test_one_expert(name, single, plane):
    assert_sound(ALL[name](single, *plane))


@pytest.fixture(scope="module")
def single(plane):
    return regressor(n_experts=1).fit(*plane)


def test_all_displays_are_asked_here_but_those_with_tests_of_their_own(flat, plane):
    asked = {type(ask(flat, *plane)).__name__ for ask in ALL.values()}
    public = {name for name in inspection.__all__ if name.endswith("Display")}
    assert public - asked == {
        "DendrogramDisplay",
        "RegimeDisplay",
        "TaskAffinityDisplay",
        "TaskExpertsDisplay",
        "TreeDisplay",
    }
    assert asked <= public


@pytest.mark.parametrize(("n_experts", "n_columns"), [(4, 1), (16, 2), (24, 3)])
def test_many_experts_have_room_in_the_key(n_experts, n_columns):
    names = [f"expert{k}" for k in range(n_experts)]
    resp = np.random.default_rng(0).dirichlet(np.full(n_experts, 0.1), size=50)
    display = ResponsibilityDisplay(resp=resp, expert_names=names).plot()
    assert_sound(display)
    assert len(display.ax_.get_legend().get_texts()) == n_experts
    assert display.ax_.get_legend()._ncols == n_columns


# -- bad input ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_before_fit(name, plane):
    with pytest.raises(NotFittedError, match="not fitted yet"):
        ALL[name](regressor(), *plane)


@pytest.mark.parametrize("name", ALL)
def test_what_is_no_mixture(name, plane):
    with pytest.raises(TypeError, match=r"Display draws mixtures of experts, such as"):
        ALL[name](LinearRegression().fit(*plane), *plane)


@pytest.mark.parametrize("name", NUMBERS)
def test_a_classifier_has_no_law_of_numbers(name, sorter, classes):
    match = r"Display draws the law of a number, and MixtureOfExpertsClassifier predict"
    with pytest.raises(TypeError, match=match):
        NUMBERS[name](sorter, *classes)


@pytest.mark.parametrize("name", NUMBERS)
def test_no_such_output(name, flat, plane):
    with pytest.raises(ValueError, match="position among the 1 outputs, got 2"):
        NUMBERS[name](flat, *plane, target=2)
