"""Predictive bands: the law along a column, of one row or of many."""

import numpy as np
import pytest
from matplotlib.collections import LineCollection, PathCollection, QuadMesh
from numpy.testing import assert_allclose
from scipy import stats

from skmoe import HierarchicalMixtureForestRegressor
from skmoe.datasets import make_two_valued
from skmoe.experts import LinearExpert, PointMassExpert, PoissonExpert
from skmoe.inspection import PredictiveBandDisplay
from skmoe.inspection._style import blend
from tests._quick import regressor

draw = PredictiveBandDisplay.from_estimator


@pytest.fixture(scope="module")
def branches():
    """Return a law with two modes."""
    X, y = make_two_valued(200, random_state=0)
    return X, y, regressor().fit(X, y)


@pytest.fixture(scope="module")
def counts():
    rng = np.random.default_rng(3)
    X = rng.uniform(0.0, 2.0, size=(150, 1))
    y = rng.poisson(np.exp(X[:, 0])).astype(float)
    return X, y, regressor(PoissonExpert()).fit(X, y)


def only(kind, ax):
    (found,) = [c for c in ax.collections if type(c) is kind]
    return found


# -- the data ----------------------------------------------------------------------


def test_other_columns_at_their_medians(flat, plane):
    X, y = plane
    display = draw(flat, X, y, "x1", grid_resolution=9)
    rows = np.tile(np.median(X, axis=0), (9, 1))
    rows[:, 1] = np.linspace(X[:, 1].min(), X[:, 1].max(), 9)
    assert_allclose(display.values, rows[:, 1])
    law = flat.predict_distribution(rows)
    assert_allclose(display.law.mean, law.mean)
    assert_allclose(display.expert_means, law.means)
    assert_allclose(display.gate, law.gate)
    assert_allclose(display.points, np.column_stack([X[:, 1], y]))
    assert_allclose(display.share, flat.responsibilities(X, y))


def test_other_columns_averaged(flat, plane):
    X, _ = plane
    display = draw(flat, X, feature=1, others="average", grid_resolution=5, subsample=7)
    at = np.linspace(-2.0, 2.0, 5)
    mean, below, second = 0.0, 0.0, 0.0
    for row in X[np.linspace(0, 199, 7).round().astype(int)]:
        rows = np.tile(row, (5, 1))
        rows[:, 1] = display.values
        law = flat.predict_distribution(rows)
        mean, below = mean + law.mean / 7, below + law.cdf(at) / 7
        second = second + (law.variance + law.mean**2) / 7
    assert_allclose(display.law.mean, mean)
    assert_allclose(display.law.cdf(at), below)
    assert_allclose(display.law.variance, second - mean**2)
    assert display.expert_means is None
    assert_allclose(display.law.cdf(display.law.quantile(0.3)), 0.3, atol=1e-8)


def test_one_output_of_several(several, plane):
    X, y = plane
    y = np.column_stack([y, 2.0 * y + 1.0])
    display = draw(several, X, y, target=1, grid_resolution=9)
    rows = np.tile(np.median(X, axis=0), (9, 1))
    rows[:, 0] = display.values
    assert_allclose(display.law.mean, several.predict(rows)[:, 1])
    assert_allclose(display.points[:, 1], y[:, 1])
    assert display.output_name == "y1"


def test_a_forest_has_a_law_and_no_experts_to_name(plane):
    X, y = plane
    forest = HierarchicalMixtureForestRegressor(2, depth=1, random_state=0).fit(X, y)
    display = draw(forest, X, y, grid_resolution=9)
    assert display.expert_means is None
    assert display.share is None
    assert len(display.frame()) == 9


def test_frame(branches):
    X, y, model = branches
    display = draw(model, X, y, grid_resolution=11)
    frame = display.frame([0.5, 0.9])
    names = ["q0.05", "q0.25", "q0.75", "q0.95"]
    assert frame.columns.tolist() == ["x0", "mean", *names]
    law = model.predict_distribution(display.values[:, None])
    assert_allclose(frame[names], law.quantile([0.05, 0.25, 0.75, 0.95]))
    assert display.frame(0.8).columns[2:].tolist() == ["q0.1", "q0.9"]


# -- the picture -------------------------------------------------------------------


def edges(band):
    """Return lower and upper edge of a filled band, by values of the column."""
    spots = band.get_paths()[0].vertices
    found = {}
    for x, y in spots:
        low, high = found.get(x, (np.inf, -np.inf))
        found[x] = min(low, y), max(high, y)
    return np.array([found[x] for x in sorted(found)]).T


def test_central_bands(branches):
    X, y, model = branches
    display = draw(model, X, y, levels=(0.5, 0.9), grid_resolution=11)
    bands = [
        c
        for c in display.ax_.collections
        if type(c).__name__ == "FillBetweenPolyCollection" and len(c.get_paths())
    ]
    for band, level in zip(bands, (0.9, 0.5), strict=True):  # the widest lies below
        wanted = display.law.quantile([0.5 - level / 2, 0.5 + level / 2])
        assert_allclose(edges(band), wanted.T)
    labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert labels == ["90%", "50%", "expert0", "expert1", "mean"]


def test_highest_density_bands_are_in_pieces(branches):
    X, y, model = branches
    display = draw(model, X, y, kind="highest-density", levels=0.9, grid_resolution=11)
    regions = display.law.interval(0.9, method="highest-density")
    bars = [bar for group in display.ax_.containers for bar in group]
    assert len(bars) == regions.n_pieces.sum()
    assert len(bars) > 11
    held = np.zeros(11)
    for bar in bars:
        low, high = bar.get_y(), bar.get_y() + bar.get_height()
        i = int(np.abs(display.values - bar.get_x() - bar.get_width() / 2).argmin())
        one = np.full(11, np.nan_to_num(low)), np.full(11, high)
        held[i] += (display.law.cdf(one[1]) - display.law.cdf(one[0]))[i]
    assert_allclose(held, 0.9, atol=1e-6)


def test_density(branches):
    X, y, model = branches
    display = draw(model, X, y, kind="density", grid_resolution=11)
    mesh = only(QuadMesh, display.ax_)
    shown = mesh.get_array().reshape(-1, 11)
    heights = mesh.get_coordinates()[:, 0, 1]
    middle = 0.5 * (heights[:-1] + heights[1:])
    for i in (0, 150, 299):
        log_prob = display.law.log_prob(np.full(11, middle[i]))
        assert_allclose(shown[i], np.exp(0.5 * log_prob), rtol=1e-6, atol=1e-12)
    assert heights[0] < y.min()
    assert heights[-1] > y.max()


def test_density_of_counts_is_drawn_at_counts(counts):
    X, y, model = counts
    display = draw(model, X, y, kind="density", grid_resolution=5)
    mesh = only(QuadMesh, display.ax_)
    heights = mesh.get_coordinates()[:, 0, 1]
    middle = 0.5 * (heights[:-1] + heights[1:])
    assert_allclose(middle, np.arange(middle.size))
    total = (mesh.get_array().reshape(-1, 5) ** 2).sum(axis=0)
    assert_allclose(total, 1.0, atol=0.02)
    by_hand = stats.poisson.pmf(2, model.predict_experts(display.values[:, None]))
    by_hand = (display.gate * by_hand).sum(axis=1)
    assert_allclose(mesh.get_array().reshape(-1, 5)[2] ** 2, by_hand)


@pytest.mark.parametrize("kind", ["central", "highest-density"])
def test_bands_of_a_single_count_are_seen(counts, kind):
    X, _, _ = counts
    zeros = regressor(PoissonExpert(), n_experts=1).fit(X, np.zeros(150))
    display = draw(zeros, X, kind=kind, levels=0.9, grid_resolution=5)
    if kind == "central":
        band = display.ax_.collections[0]
        assert_allclose(edges(band), [[-0.5] * 5, [0.5] * 5])
        return
    bars = [bar for group in display.ax_.containers for bar in group]
    assert [(bar.get_y(), bar.get_height()) for bar in bars] == [(-0.5, 1.0)] * 5


def test_lines(branches):
    X, _, model = branches
    display = draw(model, X, mode=True, grid_resolution=11)
    lines = {
        line.get_label(): line.get_ydata()
        for line in display.ax_.lines
        if len(line.get_ydata()) and not line.get_label().startswith("_")
    }
    assert_allclose(lines["mean"], display.law.mean)
    assert_allclose(lines["mode"], display.law.mode)
    bare = draw(model, X, mean=False, experts=False, grid_resolution=11)
    assert not bare.ax_.lines


def test_experts_are_as_strong_as_the_gate_trusts_them(flat, plane):
    display = draw(flat, plane[0], grid_resolution=11)
    found = [c for c in display.ax_.collections if type(c) is LineCollection]
    assert len(found) == 3
    for k, lines in enumerate(found):
        trust = 0.5 * (display.gate[1:, k] + display.gate[:-1, k])
        assert_allclose(lines.get_colors()[:, 3], trust[trust > 0.02])


def test_points_have_the_colour_of_their_expert(branches):
    X, y, model = branches
    display = draw(model, X, y, grid_resolution=11, s=3)
    points = only(PathCollection, display.ax_)
    assert_allclose(points.get_offsets(), np.column_stack([X, y]))
    assert_allclose(points.get_facecolors()[:, :3], blend(display.share))
    assert points.get_sizes().tolist() == [3]


# -- bad input ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"kind": "fan"}, r"one of \['central', 'highest-density', 'density'\], got"),
        ({"levels": (0.5, 1.0)}, "levels must lie between 0 and 1, got 1"),
        ({"feature": "size"}, "X has no column 'size'"),
        ({"feature": (0, 1, 2)}, r"X has no column \(0, 1, 2\)"),
        ({"others": "mean"}, "others must be"),
    ],
    ids=str,
)
def test_bad_arguments(flat, plane, arguments, match):
    with pytest.raises(ValueError, match=match):
        draw(flat, *plane, grid_resolution=5, **arguments)


def test_a_column_of_categories(coded, mixed):
    with pytest.raises(ValueError, match="column of numbers, and 'kind' holds categ"):
        draw(coded, *mixed, feature="kind")


def test_density_of_counts_beside_densities(counts):
    X, y, _ = counts
    model = regressor([("zero", PointMassExpert(0.0)), ("line", LinearExpert())])
    model.fit(X, y)
    assert len(draw(model, X, y, grid_resolution=5).frame()) == 5
    with pytest.raises(ValueError, match="cannot compare counts and point masses with"):
        draw(model, X, y, kind="density", grid_resolution=5)
