"""Coverage: what share of the responses intervals hold, by method and group."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator

from skmoe.conformal import SplitConformalMixture
from skmoe.datasets import make_two_valued
from skmoe.inspection import CoverageDisplay
from tests._quick import regressor
from tests.inspection.test_calibration import normal, poisson

draw = CoverageDisplay.from_predictions
METHODS = ("central", "highest-density")


@pytest.fixture(scope="module")
def branches():
    X, y = make_two_valued(300, random_state=0)
    return X, y, regressor().fit(X, y)


# -- the data ----------------------------------------------------------------------


@pytest.mark.parametrize("level", [0.3, 0.5, 0.9])
def test_it_counts_what_the_intervals_hold(branches, level):
    X, y, model = branches
    frame = CoverageDisplay.from_estimator(model, X, y, methods=METHODS).frame([level])
    law = model.predict_distribution(X)
    low, high = law.interval(level).T
    central = np.mean((low <= y) & (y <= high))
    region = law.interval(level, method="highest-density").contains(y).mean()
    assert_allclose(frame["coverage"], [central, region])
    assert frame["method"].tolist() == list(METHODS)


@pytest.mark.parametrize("level", [0.2, 0.5, 0.8, 0.95])
def test_intervals_of_counts(level):
    rng = np.random.default_rng(0)
    mean = rng.uniform(0.5, 6.0, 300)
    y = rng.poisson(mean)
    law = poisson(mean)
    low, high = law.interval(level).T
    frame = draw(law, y).frame(level)
    assert_allclose(frame["coverage"], np.mean((low <= y) & (y <= high)))


def test_an_interval_holds_its_ends():
    display = CoverageDisplay(needed={"central": np.array([0.5, 0.7])})
    assert display.frame([0.4, 0.5, 0.7])["coverage"].tolist() == [0.0, 0.5, 1.0]


def test_right_laws_and_wrong_ones():
    rng = np.random.default_rng(1)
    y = rng.standard_normal(4000)
    for scale, sign in ((1.0, 0), (0.5, -1), (2.0, 1)):
        table = draw(normal(np.zeros(4000), scale), y, methods=METHODS).frame()
        gap = (table["coverage"] - table["level"]) / table["error"]
        assert_allclose(
            table["error"] ** 2, table["level"] * (1 - table["level"]) / 4e3
        )
        if sign == 0:
            assert gap.abs().max() < 3.0
        else:
            assert (sign * gap).min() > 3.0


def test_groups_by_expert(flat, plane):
    X, y = plane
    display = CoverageDisplay.from_estimator(flat, X, y, by="expert")
    frame = display.frame([0.8])
    assert frame["group"].tolist() == ["all", "expert0", "expert1", "expert2"]
    needed, winner = display.needed["central"], flat.apply(X)
    for k in range(3):
        part = frame[frame["group"] == f"expert{k}"]
        assert part["n"].item() == np.sum(winner == k)
        assert part["coverage"].item() == np.mean(needed[winner == k] <= 0.8)


def test_groups_by_label(branches):
    X, y, model = branches
    side = np.where(X[:, 0] > 0.5, "far", "near")
    frame = CoverageDisplay.from_estimator(model, X, y, by=side).frame([0.5, 0.9])
    assert frame["group"].tolist() == ["all"] * 2 + ["far"] * 2 + ["near"] * 2
    whole = frame.groupby("level")[["n", "coverage"]].apply(
        lambda part: (part["n"] * part["coverage"])[1:].sum() / part["n"].iloc[0]
    )
    assert_allclose(whole, frame["coverage"][:2])
    law = model.predict_distribution(X)
    same = draw(law, y, by=side).frame([0.5, 0.9])
    assert same.equals(frame)


def test_groups_without_rows_are_left_out(flat, plane):
    X, y = plane
    one = flat.apply(X) == 1
    display = CoverageDisplay.from_estimator(flat, X[one], y[one], by="expert")
    assert display.frame([0.5])["group"].tolist() == ["all", "expert1"]


def test_one_output_of_several(several, plane):
    X, y = plane
    y = np.column_stack([y, 2.0 * y + 1.0])
    first, second = (
        CoverageDisplay.from_estimator(several, X, y, target=t).frame() for t in (0, 1)
    )
    assert_allclose(first["coverage"], second["coverage"], atol=0.03)


@pytest.mark.parametrize("method", ["cdf", "highest-density", "quantile"])
def test_conformal_sets(branches, method):
    X, y, model = branches
    sets = SplitConformalMixture(FrozenEstimator(model), method=method).fit(X, y)
    X_new, y_new = make_two_valued(150, random_state=1)
    side = np.where(X_new[:, 0] > 0.5, "far", "near")
    display = CoverageDisplay.from_estimator(sets, X_new, y_new, by=side)
    frame = display.frame([0.5, 0.9])
    for level in (0.5, 0.9):
        found = sets.predict_interval(X_new, level)
        if method == "highest-density":
            held = found.contains(y_new)
        else:
            held = (found[:, 0] <= y_new) & (y_new <= found[:, 1])
        whole = frame[(frame["level"] == level) & (frame["group"] == "all")]
        assert whole["coverage"].item() == pytest.approx(held.mean(), abs=0.015)
        assert whole["method"].item() == "conformal"
    assert frame["group"].unique().tolist() == ["all", "far", "near"]


# -- the picture -------------------------------------------------------------------


def test_lines(flat, plane):
    X, y = plane
    display = CoverageDisplay.from_estimator(flat, X, y, methods=METHODS, by="expert")
    lines = [line for line in display.ax_.lines if len(line.get_xdata()) == 99]
    assert len(lines) == 2 * 4
    frame = display.frame(lines[0].get_xdata())
    assert_allclose(
        np.concatenate([line.get_ydata() for line in lines]), frame["coverage"]
    )
    assert {line.get_linestyle() for line in lines[:4]} == {"-"}
    assert {line.get_linestyle() for line in lines[4:]} == {":"}
    labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    experts = ["expert0", "expert1", "expert2"]
    assert labels == ["chance, 95%", "all", *experts, *METHODS]


# -- bad input ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"methods": "shortest"}, r"both of \['central', .*\], got \['shortest'\]"),
        ({"methods": []}, r"one or both of .* got \[\]"),
        ({"by": "group"}, r'by must be "expert" or one label .* 200 rows, got \'group'),
        ({"by": [1, 2]}, r"got an array of shape \(2,\)"),
    ],
    ids=str,
)
def test_bad_arguments(flat, plane, arguments, match):
    with pytest.raises(ValueError, match=match):
        CoverageDisplay.from_estimator(flat, *plane, **arguments)


def test_conformal_sets_before_fit(plane):
    with pytest.raises(NotFittedError, match="not fitted yet"):
        CoverageDisplay.from_estimator(SplitConformalMixture(), *plane)


def test_conformal_sets_know_no_experts(flat, plane):
    sets = SplitConformalMixture(FrozenEstimator(flat)).fit(*plane)
    with pytest.raises(ValueError, match="for conformal sets give labels, by=mixture"):
        CoverageDisplay.from_estimator(sets, *plane, by="expert")


def test_bad_levels(flat, plane):
    display = CoverageDisplay.from_estimator(flat, *plane)
    with pytest.raises(ValueError, match="levels must lie between 0 and 1, got 90"):
        display.frame([90])


@pytest.mark.parametrize("by", [None, "label", "expert"])
def test_rows_without_a_response_do_not_count(branches, by):
    X, y, model = branches
    by = np.arange(300) % 2 if by == "label" else by
    some = y.copy()
    some[::3] = np.nan
    of = CoverageDisplay.from_estimator
    every, found = (of(model, X, r, methods=METHODS, by=by) for r in (y, some))
    for method in METHODS:
        assert_allclose(found.needed[method], every.needed[method][np.isfinite(some)])
    if by is not None:
        assert_allclose(found.group, every.group[np.isfinite(some)])
