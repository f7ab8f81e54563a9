"""Heat maps of tasks against experts, and of tasks against tasks."""

import inspect
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skmoe.inspection import TaskAffinityDisplay, TaskExpertsDisplay
from skmoe.multitask import MMoEClassifier

pd = pytest.importorskip("pandas")
pytest.importorskip("torch")

LONG = "never married in all of a long life"
TASKS = ["income", LONG, "click"]
CUT = "never married in all of…"
EXPERTS, SHARED = 8, 2
OWNERS = ["income"] * 2 + [LONG] * 2 + ["click"] * 2 + ["shared"] * 2
QUICK = {
    "n_experts": EXPERTS,
    "n_shared_experts": SHARED,
    "expert_hidden": (4,),
    "tower_hidden": (8,),
    "numeric_encoding": "standard",
    "max_epochs": 2,
    "random_state": 0,
}


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(120, 3)), columns=list("abc"))
    noise = rng.normal(size=(120, 3))
    return X, pd.DataFrame((X.to_numpy() + noise > 0).astype(int), columns=TASKS)


@pytest.fixture(scope="module")
def models(table):
    kinds = ("mmoe", "omoe", "cgc", "ple", "shared_bottom", "single", "aitm", "esmm")
    return {kind: MMoEClassifier(kind, **QUICK).fit(*table) for kind in kinds}


def experts(model, table, **kwargs):
    return TaskExpertsDisplay.from_estimator(model, table[0], **kwargs)


def affinity(model, table, **kwargs):
    return TaskAffinityDisplay.from_estimator(model, *table, **kwargs)


DRAWN = {
    "experts": experts,
    "gradient": affinity,
    "lookahead": lambda *given, **more: affinity(*given, kind="lookahead", **more),
}


def image(display):
    return display.ax_.images[0]


def words(labels):
    return [label.get_text() for label in labels]


def names_above(display):
    (above,) = display.ax_.child_axes
    return words(above.get_xticklabels())


# -- experts -----------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["mmoe", "omoe", "cgc", "ple"])
def test_cells_are_the_mean_gate_weights(architecture, models, table):
    model = models[architecture]
    display = experts(model, table)
    usage = model.gate_weights(table[0]).mean(axis=0)
    assert_allclose(display.usage, usage)
    drawn = image(display).get_array()
    closed = np.ma.getmaskarray(drawn)
    assert_allclose(drawn[~closed], usage[~closed])
    assert_array_equal(usage[closed], 0.0)
    assert closed.any() == (architecture in ("cgc", "ple"))
    assert words(display.ax_.get_yticklabels()) == ["income", CUT, "click"]
    assert words(display.ax_.get_xticklabels()) == [str(k) for k in range(EXPERTS)]
    assert image(display).get_clim() == pytest.approx((0.0, usage.max()))


def test_numbers_are_written_into_the_cells(models, table):
    display = experts(models["mmoe"], table)
    wanted = [f"{weight:.2f}" for weight in display.usage.ravel()]
    assert words(display.ax_.texts) == wanted
    spots = [text.get_position() for text in display.ax_.texts]
    assert spots == [(k, t) for t in range(3) for k in range(EXPERTS)]


def test_closed_cells_are_empty(models, table):
    display = experts(models["cgc"], table)
    assert len(display.ax_.texts) == 3 * (2 + SHARED)


def test_many_experts_have_no_numbers():
    usage = np.full((2, 40), 1 / 40)
    display = TaskExpertsDisplay(usage=usage, task_names=["a", "b"]).plot()
    assert not display.ax_.texts
    assert len(display.ax_.get_xticklabels()) == 20
    display = TaskExpertsDisplay(usage=usage[:, :16], task_names=["a", "b"]).plot()
    assert len(display.ax_.texts) == 32


def test_numbers_can_be_read_on_all_colours():
    usage = np.linspace(0.0, 1.0, 12)[None]
    display = TaskExpertsDisplay(usage=usage, task_names=["a"]).plot()
    for text, value in zip(display.ax_.texts, usage[0], strict=True):
        cell = np.array(image(display).cmap(image(display).norm(value)))[:3]
        first, second = (_luminance(c) for c in (cell, to_rgb(text.get_color())))
        light, dark = max(first, second), min(first, second)
        # Of large text the guidelines for accessible pages ask 3, of any 4.5.
        assert (light + 0.05) / (dark + 0.05) > 4.5


def _luminance(colour):
    colour = np.asarray(colour)
    linear = np.where(
        colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4
    )
    return linear @ [0.2126, 0.7152, 0.0722]


@pytest.mark.parametrize("architecture", ["cgc", "ple"])
def test_experts_of_one_task_are_marked(architecture, models, table):
    display = experts(models[architecture], table)
    assert names_above(display) == ["income", CUT, "click", "shared"]
    (above,) = display.ax_.child_axes
    assert above.get_xticks().tolist() == [0.5, 2.5, 4.5, 6.5]
    lines = [line.get_xdata()[0] for line in display.ax_.lines]
    assert lines == [1.5, 3.5, 5.5]
    assert display.frame()["owner"].tolist() == OWNERS * 3


@pytest.mark.parametrize("architecture", ["mmoe", "omoe", "shared_bottom"])
def test_shared_experts_have_no_mark(architecture, models, table):
    display = experts(models[architecture], table)
    assert not display.ax_.child_axes
    assert not display.ax_.lines
    assert set(display.frame()["owner"]) == {"shared"}


@pytest.mark.parametrize("architecture", ["single", "aitm", "esmm"])
def test_networks_of_one_task(architecture, models, table):
    display = experts(models[architecture], table)
    assert names_above(display) == ["income", CUT, "click"]
    assert words(display.ax_.texts) == ["1.00"] * 3


def test_short_names_stand_upright_and_long_ones_lean():
    open_to = np.array([[1, 1, 0, 0, 1, 1], [0, 0, 1, 1, 1, 1]], dtype=bool)
    data = {"usage": open_to / 4.0, "open_to": open_to}
    for names, angle in ((["click", "buy"], 0.0), (["very first click", "buy"], 35.0)):
        display = TaskExpertsDisplay(task_names=names, **data).plot()
        (above,) = display.ax_.child_axes
        assert {label.get_rotation() for label in above.get_xticklabels()} == {angle}


def test_one_task_owns_nothing():
    display = TaskExpertsDisplay(usage=[[0.5, 0.5]], task_names=["a"]).plot()
    assert not display.ax_.child_axes
    assert display.frame()["owner"].tolist() == ["shared"] * 2


def test_levels(models, table):
    below, last = (experts(models["ple"], table, level=level) for level in (0, 1))
    assert_allclose(below.usage, models["ple"].expert_usage(table[0], level=0))
    assert_allclose(last.usage, experts(models["ple"], table).usage)
    assert below.open_to.shape == (3, EXPERTS)
    with pytest.raises(ValueError, match="level must be an integer from -2 to 1"):
        experts(models["ple"], table, level=2)


def test_weights_of_rows(models, table):
    X = table[0]
    weight = np.arange(len(X)) % 2
    display = experts(models["mmoe"], table, sample_weight=weight)
    assert_allclose(display.usage, models["mmoe"].expert_usage(X[1::2]), rtol=1e-6)


def test_frame_of_experts(models, table):
    frame = experts(models["mmoe"], table).frame()
    assert frame.columns.tolist() == ["task", "expert", "weight", "owner"]
    assert frame["task"].unique().tolist() == TASKS
    usage = models["mmoe"].expert_usage(table[0])
    pivoted = frame.pivot(index="task", columns="expert", values="weight")
    assert_allclose(pivoted.loc[TASKS], usage)


# -- affinity ----------------------------------------------------------------------


def test_cosines(models, table):
    display = affinity(models["mmoe"], table)
    wanted = models["mmoe"].task_affinity(*table)
    assert_array_equal(display.affinity, wanted)
    assert_array_equal(image(display).get_array(), wanted)
    assert image(display).get_clim() == (-1.0, 1.0)
    assert words(display.ax_.texts) == [f"{value:.2f}" for value in wanted.ravel()]
    assert_array_equal(display.frame(), wanted)
    assert display.frame().index.tolist() == TASKS
    assert display.frame().columns.tolist() == TASKS


def test_lookahead_is_in_a_readable_unit():
    saved = np.array([[9e-4, -2.5e-6], [1e-6, 7e-4]])
    display = TaskAffinityDisplay(
        affinity=saved, task_names=["a", "b"], kind="lookahead"
    ).plot()
    assert words(display.ax_.texts) == ["900.00", "-2.50", "1.00", "700.00"]
    # A task helps itself most, and would take all colours.
    assert image(display).get_clim() == pytest.approx((-2.5, 2.5))
    assert display.figure_.axes[1].get_ylabel() == "loss saved (1e-6)"
    assert_array_equal(display.frame(), saved)


@pytest.mark.parametrize("kind", ["gradient", "lookahead"])
def test_tasks_that_share_nothing(kind, models, table):
    display = affinity(models["single"], table, kind=kind)
    display.figure_.canvas.draw()
    assert len(display.ax_.texts) == (3 if kind == "gradient" else 9)


def test_weights_of_labels(models, table):
    weight = np.random.default_rng(1).random((120, 3))
    display = affinity(models["mmoe"], table, sample_weight=weight)
    wanted = models["mmoe"].task_affinity(*table, weight)
    assert_array_equal(display.affinity, wanted)


# -- both --------------------------------------------------------------------------


@pytest.mark.parametrize("style", ["default", "dark_background"])
@pytest.mark.parametrize("architecture", ["mmoe", "cgc", "single", "shared_bottom"])
@pytest.mark.parametrize("name", DRAWN)
def test_all_is_on_the_page(name, architecture, style, models, table):
    with warnings.catch_warnings(), plt.style.context(style):
        warnings.simplefilter("error")
        display = DRAWN[name](models[architecture], table)
        display.figure_.canvas.draw()
    figure = display.figure_
    drawn = figure.get_tightbbox().transformed(figure.dpi_scale_trans)
    assert drawn.x0 >= -1
    assert drawn.y0 >= -1
    assert drawn.x1 <= figure.bbox.x1 + 1
    assert drawn.y1 <= figure.bbox.y1 + 1
    assert display.ax_.get_xlabel()
    assert display.ax_.get_ylabel()


@pytest.mark.parametrize("name", DRAWN)
def test_axes_that_are_given(name, models, table):
    figure, (left, right) = plt.subplots(1, 2)
    display = DRAWN[name](models["cgc"], table, ax=right)
    assert display.ax_ is right
    assert display.figure_ is figure
    assert not left.has_data()
    assert len(plt.get_fignums()) == 1


@pytest.mark.parametrize("name", DRAWN)
def test_a_display_can_be_drawn_again_from_its_data(name, models, table):
    display = DRAWN[name](models["cgc"], table)
    arguments = inspect.signature(type(display).__init__).parameters
    data = {key: getattr(display, key) for key in arguments if key != "self"}
    again = type(display)(**data)
    assert not hasattr(again, "ax_")
    assert again.plot() is again
    assert again.ax_ is not display.ax_
    pd.testing.assert_frame_equal(again.frame(), display.frame())
    assert words(again.ax_.texts) == words(display.ax_.texts)


@pytest.mark.parametrize("name", DRAWN)
def test_pipelines(name, table):
    X, y = table
    piped = make_pipeline(StandardScaler(), MMoEClassifier(**QUICK)).fit(X, y)
    inner = piped[-1]
    display = DRAWN[name](piped, table)
    wanted = DRAWN[name](inner, (piped[0].transform(X), y))
    pd.testing.assert_frame_equal(display.frame(), wanted.frame())


def test_names_of_the_tasks_of_an_array(table):
    X, y = (part.to_numpy() for part in table)
    model = MMoEClassifier(**QUICK).fit(X, y)
    display = TaskExpertsDisplay.from_estimator(model, X)
    assert display.task_names == [str(name) for name in model.task_names_]


@pytest.mark.parametrize("name", DRAWN)
def test_what_is_no_multi_task_network(name, table):
    match = r"Display draws multi-task networks, such as MMoEClassifier.*LinearRegressi"
    with pytest.raises(TypeError, match=match):
        DRAWN[name](LinearRegression().fit(*table), table)


@pytest.mark.parametrize("name", DRAWN)
def test_before_fit(name, table):
    with pytest.raises(NotFittedError, match="not fitted yet"):
        DRAWN[name](MMoEClassifier(), table)
