"""Regimes in time: what is drawn where, gaps, several sequences, labels."""

import inspect

import matplotlib.pyplot as plt
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skmoe.datasets import make_switching
from skmoe.inspection import RegimeDisplay
from skmoe.inspection._style import expert_colours
from skmoe.inspection._timeline import spans
from skmoe.sequence import (
    MarkovMixtureOfExpertsClassifier,
    MarkovMixtureOfExpertsRegressor,
)

pd = pytest.importorskip("pandas")
draw = RegimeDisplay.from_estimator
QUICK = {"init": "kmeans", "tol": 1e-3, "random_state": 0}
LENGTHS = [30, 1, 29]


@pytest.fixture(scope="module")
def table():
    """Return 60 rows in time, the same for sequences of 30, 1 and 29 rows."""
    return make_switching(1, 60, random_state=5)


def markov(table, y=None, kind=MarkovMixtureOfExpertsRegressor, **kwargs):
    return kind(**QUICK).fit(table.data, table.target if y is None else y, **kwargs)


@pytest.fixture(scope="module")
def model(table):
    return markov(table)


@pytest.fixture(scope="module")
def labels(table):
    return np.where(table.target > 0.4, "fast", "slow").astype(object)


@pytest.fixture(scope="module")
def sorter(table, labels):
    return markov(table, labels, MarkovMixtureOfExpertsClassifier)


def assert_sound(display):
    """Check that all of a picture is on its page, and no legend covers the axes."""
    figure, ax = display.figure_, display.ax_
    figure.canvas.draw()
    drawn = figure.get_tightbbox().transformed(figure.dpi_scale_trans)
    ends = np.array([drawn.min - figure.bbox.min, figure.bbox.max - drawn.max])
    assert (ends >= -1.0).all()
    assert ax.get_legend().get_window_extent().x0 >= ax.bbox.x1
    assert display.proba_ax_.bbox.y1 < ax.bbox.y0
    assert_allclose(display.proba_ax_.bbox.intervalx, ax.bbox.intervalx)


def colours_of(display):
    """Return places and colours of the points."""
    (points,) = [c for c in display.ax_.collections if len(c.get_offsets()) > 1]
    return np.asarray(points.get_offsets()), points.get_facecolor()[:, :3]


def test_what_the_model_says(model, table):
    X, y = table.data, table.target
    display = draw(model, X, y)
    assert_allclose(display.proba, model.smooth(X, y))
    assert_allclose(display.law.mean, model.predict(X, y))
    assert_allclose(draw(model, X, y, kind="filter").proba, model.filter(X, y))
    decoded = draw(model, X, y, kind="decode").proba
    assert_array_equal(decoded.argmax(axis=1), model.decode(X, y))
    assert_array_equal(np.sort(decoded, axis=1), [[0.0, 1.0]] * 60)


def test_points_have_the_colours_of_their_regimes(model, table):
    display = draw(model, table.data, table.target, kind="decode")
    spots, colours = colours_of(display)
    assert_allclose(spots, np.column_stack([np.arange(60), table.target]))
    path = model.decode(table.data, table.target)
    assert_allclose(colours, expert_colours(2)[path])
    assert len(set(path)) == 2


def test_probabilities_are_stacked_row_by_row(model, table):
    first = draw(model, table.data, table.target)
    arguments = inspect.signature(RegimeDisplay.__init__).parameters
    data = {key: getattr(first, key) for key in arguments if key != "self"}
    share = np.random.default_rng(0).uniform(0.1, 0.9, size=60)
    data["proba"] = np.column_stack([share, 1.0 - share])
    display = RegimeDisplay(**data).plot()
    lower, upper = display.proba_ax_.collections
    for row in (0, 30, 59):
        for spot in (row - 0.4, row + 0.4):
            (path,) = lower.get_paths()
            assert path.contains_point((spot, share[row] - 0.01))
            assert not path.contains_point((spot, share[row] + 0.01))
            (path,) = upper.get_paths()
            assert path.contains_point((spot, share[row] + 0.01))
            assert path.contains_point((spot, 0.99))


def test_missing_responses_have_no_point_but_a_law(model, table):
    y = table.target.copy()
    y[10:20] = np.nan
    display = draw(model, table.data, y)
    spots, _ = colours_of(display)
    assert_allclose(spots[:, 0], np.r_[:10, 20:60])
    frame = display.frame()
    assert frame["y"].isna().sum() == 10
    assert np.isfinite(frame[["mean", "lower", "upper", "certainty"]]).all(axis=None)
    assert_sound(display)


def test_sequences_stand_side_by_side(model, table):
    X, y = table.data, table.target
    display = draw(model, X, y, lengths=LENGTHS)
    assert_allclose(display.proba, model.smooth(X, y, lengths=LENGTHS))
    for ax in (display.ax_, display.proba_ax_):
        borders = [line for line in ax.lines if list(line.get_ydata()) == [0, 1]]
        assert [line.get_xdata()[0] for line in borders] == [29.5, 30.5]
    assert display.ax_.get_xlim() == (-0.5, 59.5)
    assert_sound(display)


def test_groups_that_are_interleaved(model, table):
    groups = np.tile(["b", "a"], 30)
    display = draw(model, table.data, table.target, groups=groups)
    frame = display.frame()
    # "b" begins first, and its rows stand before those of "a".
    assert_array_equal(
        frame["row"], np.where(groups == "b", 0, 30) + np.arange(60) // 2
    )
    assert_array_equal(frame["sequence"], np.where(groups == "b", 0, 1))
    assert_allclose(frame["y"], table.target)
    spots, _ = colours_of(display)
    assert_allclose(spots, frame[["row", "y"]])


def test_previous(model, table):
    X, y = table.data[30:], table.target[30:]
    last = model.filter(table.data[:30], table.target[:30])[-1]
    display = draw(model, X, y, previous=last, kind="filter")
    assert_allclose(display.proba, model.filter(X, y, previous=last))
    assert_allclose(display.law.mean, model.predict(X, y, previous=last))


def test_rows_are_drawn_at_their_times(model, table):
    times = 1900 + 2 * np.arange(60)
    display = draw(model, table.data, table.target, times=times)
    assert display.frame()["time"].tolist() == times.tolist()
    assert display.proba_ax_.get_xlabel() == "time"
    assert display.ax_.get_xlim() == (1899.0, 2019.0)
    # Sequences that follow each other are, too; those that overlap are not.
    again = draw(model, table.data, table.target, times=times, lengths=LENGTHS)
    assert again.position_name == "time"
    times = np.tile(np.arange(30), 2)
    beside = draw(model, table.data, table.target, times=times, lengths=[30, 30])
    assert beside.position_name == "row"


@pytest.mark.parametrize("index", ["DatetimeIndex", "PeriodIndex"])
def test_dates_of_a_data_frame(table, index):
    dates = pd.date_range("2024-01-31", periods=60)
    if index == "PeriodIndex":
        dates = pd.period_range("2024-01", periods=60, freq="M")
    X = pd.DataFrame(table.data, index=dates, columns=["push", "pressure"])
    y = pd.Series(table.target, index=dates, name="movement")
    model = MarkovMixtureOfExpertsRegressor(**QUICK).fit(X, y)
    display = draw(model, X, y)
    assert display.position.dtype.kind == "M"
    assert display.ax_.get_ylabel() == "movement"
    assert display.frame().columns[:3].tolist() == ["time", "sequence", "movement"]
    assert_sound(display)


def test_a_single_row_and_sequences_of_one(model, table):
    assert_sound(draw(model, table.data[:1], table.target[:1]))
    display = draw(model, table.data[:2], table.target[:2], lengths=[1, 1])
    assert display.ax_.get_xlim() == (-0.5, 1.5)
    days = np.array(["2024-01-01", "2024-01-05"], dtype="datetime64[D]")
    places = spans(days.astype("datetime64[ns]"), np.array([0, 1]))
    assert places[0][1].astype("datetime64[h]").astype(str).tolist() == [
        "2023-12-31T12",
        "2024-01-01T12",
    ]


def test_frame(model, table):
    display = draw(model, table.data, table.target)
    frame, names = display.frame(level=0.5), model.expert_names_
    proba = frame[[f"probability[{name}]" for name in names]]
    assert_allclose(proba, display.proba)
    assert frame["regime"].tolist() == [names[k] for k in display.proba.argmax(axis=1)]
    assert_allclose(frame["certainty"], display.proba.max(axis=1))
    inside = display.law.cdf(frame["upper"]) - display.law.cdf(frame["lower"])
    assert_allclose(inside, 0.5, atol=1e-8)


def test_the_band_has_the_level_that_is_asked_for(model, table):
    display = draw(model, table.data, table.target, level=0.5, mean=False)
    keys = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert keys == [*model.expert_names_, "50% ahead"]
    heights = display.ax_.collections[0].get_paths()[0].vertices
    low, high = display.law.quantile([0.25, 0.75])[30]
    for height in (low, high):
        assert np.isclose(heights, [30.0, height]).all(axis=1).any()


def test_labels(sorter, table, labels):
    labels = labels.copy()
    labels[[3, 4]] = None
    display = draw(sorter, table.data, labels)
    assert display.ax_.get_yticks().tolist() == [0, 1]
    assert [t.get_text() for t in display.ax_.get_yticklabels()] == ["fast", "slow"]
    frame = display.frame()
    assert frame["y"].isna().to_numpy().nonzero()[0].tolist() == [3, 4]
    assert frame["y"][5:].tolist() == labels[5:].tolist()
    ahead = frame[["ahead[fast]", "ahead[slow]"]]
    assert_allclose(ahead, sorter.predict_proba(table.data, labels))
    assert_sound(display)


def test_several_outputs(table):
    y = np.column_stack([table.target, 2.0 * table.target + 1.0])
    model = markov(table, y)
    display = draw(model, table.data, y, target=1)
    assert_allclose(display.response, y[:, 1])
    assert_allclose(display.law.mean, model.predict(table.data, y)[:, 1])
    with pytest.raises(ValueError, match="position among the 2 outputs, got 2"):
        draw(model, table.data, y, target=2)


def test_axes_that_are_given_and_a_second_picture(model, table):
    _, (left, right) = plt.subplots(1, 2, layout="constrained")
    display = draw(model, table.data, table.target, ax=right)
    assert display.ax_ is right
    assert not left.has_data()
    by_hand = plt.figure().add_axes([0.1, 0.2, 0.5, 0.7])
    display.plot(by_hand)
    above, below = by_hand.get_position(), display.proba_ax_.get_position()
    assert_allclose([below.y0, above.y1], [0.2, 0.9])
    assert below.y1 < above.y0


def test_pipelines_and_dark_pictures(table):
    pipe = make_pipeline(StandardScaler(), MarkovMixtureOfExpertsRegressor(**QUICK))
    pipe.fit(table.data, table.target)
    with plt.style.context("dark_background"):
        display = draw(pipe, table.data, table.target)
        assert_sound(display)
    scaled = pipe[0].transform(table.data)
    assert_allclose(display.proba, pipe[-1].smooth(scaled, table.target))


def test_bad_input(model, table, flat, plane):
    X, y = table.data, table.target
    match = r"one of \['smooth', 'filter', 'decode'\], got 'guess'"
    with pytest.raises(ValueError, match=match):
        draw(model, X, y, kind="guess")
    with pytest.raises(TypeError, match="RegimeDisplay draws Markov mixtures of expe"):
        draw(flat, *plane)
    with pytest.raises(NotFittedError, match="not fitted yet"):
        draw(MarkovMixtureOfExpertsRegressor(), X, y)
    with pytest.raises(ValueError, match="lengths must add up to the 60 rows"):
        draw(model, X, y, lengths=[30, 29])
    with pytest.raises(ValueError, match="between 0 and 1, got 1"):
        draw(model, X, y, level=1.0)
