"""Objective traces: every pass of every start, and the maxima they reached."""

import pickle
import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from skmoe import HierarchicalMixtureForestRegressor, MixtureOfExpertsRegressor
from skmoe.exceptions import CollapsedExpertWarning
from skmoe.experts import LinearExpert
from skmoe.inspection import ObjectiveTraceDisplay
from tests._asserts import assert_climbs
from tests._quick import regressor

draw = ObjectiveTraceDisplay.from_estimator


@pytest.fixture(scope="module")
def searched(plane):
    return MixtureOfExpertsRegressor(n_experts=3, n_init=8, random_state=0).fit(*plane)


@pytest.fixture
def small():
    return ObjectiveTraceDisplay(
        traces=[
            np.array([-9.0, -2.0, -1.0]),
            np.array([-8.0, -1.00001]),
            np.array([-9.0, -6.0]),
            np.array([-4.0]),
        ],
        names=["a", "b", "c", "d"],
        finished=[True, True, True, False],
    )


# -- the data ----------------------------------------------------------------------


def test_the_traces_of_all_starts(searched):
    display = draw(searched)
    report = searched.search_
    assert len(display.traces) == len(report.names) == 8
    assert display.names == report.names
    assert display.finished == report.finished
    assert_allclose(display.reached, report.objectives)
    for trace in display.traces:
        assert_climbs(trace)
    assert len(display.traces[0]) >= len(searched.objective_trace_)
    assert_allclose(display.traces[0][-3:], searched.objective_trace_[-3:])


def test_traces_are_kept_in_a_pickle(searched):
    again = draw(pickle.loads(pickle.dumps(searched)))
    for one, other in zip(again.traces, draw(searched).traces, strict=True):
        assert_array_equal(one, other)


def test_a_single_start(flat):
    display = draw(flat)
    assert len(display.traces) == 1
    assert_allclose(display.traces[0], flat.objective_trace_)
    assert display.ax_.get_title("left").endswith("reached 1 of 1 times")


def test_what_went_on_after_experts_died():
    # A point far off takes one of the experts for itself, and is taken from it.
    X = np.linspace(0.0, 1.0, 60)[:, None]
    y = 2.0 * X[:, 0] + 0.05 * np.random.default_rng(0).standard_normal(60)
    labels = np.zeros(60, dtype=int)
    labels[0] = 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapsedExpertWarning)
        model = regressor(
            LinearExpert(alpha=0.0), n_experts=3, init=labels, n_init=None
        ).fit(X, y)
    display = draw(model)
    assert display.names == ["tended", *model.search_.names]
    assert_allclose(display.traces[0], model.objective_trace_)
    assert display.finished[0]


def test_a_stack_has_one_trace(plane):
    model = regressor(algorithm="stack").fit(*plane)
    assert_allclose(draw(model).traces[0], model.objective_trace_)


def test_maxima(small):
    table = small.maxima()
    assert table["objective"].tolist() == [-1.0, -6.0]
    assert table["starts"].tolist() == [2, 1]


def test_frame(small):
    frame = small.frame()
    assert frame.columns.tolist() == ["start", "kind", "finished", "pass", "objective"]
    assert frame["start"].tolist() == [0, 0, 0, 1, 1, 2, 2, 3]
    assert frame["kind"].tolist() == list("aaabbccd")
    assert frame["finished"].tolist() == [True] * 7 + [False]
    assert frame["pass"].tolist() == [0, 1, 2, 0, 1, 0, 1, 0]
    assert frame["objective"].iloc[2] == -1.0


# -- the picture -------------------------------------------------------------------


def test_lines(small):
    ax = small.plot().ax_
    thick = [line for line in ax.lines if line.get_linewidth() > 2]
    assert len(thick) == 1
    assert_allclose(thick[0].get_ydata(), small.traces[0])
    ends = sorted(
        (float(line.get_xdata()[0]), float(line.get_ydata()[0]))
        for line in ax.lines
        if line.get_marker() == "o"
    )
    assert ends == [(1.0, -6.0), (1.0, -1.00001), (2.0, -1.0)]
    assert ax.get_title("left") == "best -1, reached 2 of 3 times; next 5 below"
    low, high = ax.get_ylim()
    assert low < -6.0  # every maximum is to be seen
    assert high > -1.0
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["winner", "finished", "given up"]


def test_equal_maxima_have_room_around_them():
    display = ObjectiveTraceDisplay(
        traces=[np.array([-1.0])], names=["a"], finished=[True]
    )
    low, high = display.plot().ax_.get_ylim()
    assert low < -1.0 < high


def test_depths_of_first_passes_are_left_out():
    trace = np.concatenate([[-1e6], np.linspace(-10.0, -1.0, 30)])
    display = ObjectiveTraceDisplay(traces=[trace], names=["a"], finished=[True])
    assert display.plot().ax_.get_ylim()[0] > -20.0


def test_a_low_maximum_is_to_be_seen():
    climb = np.linspace(-10.0, -1.0, 30)
    display = ObjectiveTraceDisplay(
        traces=[climb, np.array([-90.0, -50.0])], names=["a", "b"], finished=[True] * 2
    )
    assert -90.0 < display.plot().ax_.get_ylim()[0] < -50.0


def test_a_forest_has_no_single_search(plane):
    forest = HierarchicalMixtureForestRegressor(2, depth=1, random_state=0).fit(*plane)
    with pytest.raises(TypeError, match="draw one of its estimators_"):
        draw(forest)
    assert draw(forest.estimators_[0]).traces


def test_a_large_table_shows_the_passes_over_all_rows():
    # Starts race on 20,000 rows: the winner's trace begins where it goes on with all.
    rng = np.random.default_rng(0)
    X = rng.uniform(-1.0, 1.0, size=(20_200, 1))
    y = np.abs(X[:, 0]) + 0.1 * rng.standard_normal(len(X))
    model = MixtureOfExpertsRegressor(n_experts=2, n_init=2, random_state=0).fit(X, y)
    display = draw(model)
    assert len(display.traces) == 2
    assert_array_equal(display.traces[0], model.objective_trace_)
