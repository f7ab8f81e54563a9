"""Lines of points, heights, peaks and cuts of pooled laws."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import special

from skmoe.law._heights import Counts, Densities
from skmoe.law._landscape import FLOOR
from skmoe.law._outline import center_and_scale, expert_points, support_ends
from skmoe.law._quantiles import Parts
from skmoe.likelihoods import Gamma, Gaussian, Laplace, PointMass, Poisson, Uniform
from tests.law.laws import COUNTS, N_ROWS, SMOOTH, build, make_gate

ROWS = np.arange(N_ROWS)


def landscape(name, rng):
    gate, parts, _ = build(name, rng)
    part = Parts(gate, parts)
    return (Densities if part.smooth else Counts)(part)


# -- outline ---------------------------------------------------------------------------


def test_points_are_quantiles_of_each_expert(rng):
    gate, parts, _ = build("normal", rng)
    gate[0, 1] = 0.0
    tables = expert_points(Parts(gate, parts))
    assert len(tables) == 3
    for (mean, variance, _), table in zip(parts, tables, strict=True):
        probit = (table - mean[:, None]) / np.sqrt(variance)
        inner = probit[1][5:-5]
        assert_allclose(inner, -inner[::-1], rtol=1e-4, atol=1e-9)
        assert_allclose(probit[2, -1], 8.1, atol=0.2)
        assert np.diff(probit[2]).max() < 0.9
    assert np.isinf(tables[1][0]).all()
    assert np.isfinite(tables[1][1:]).all()


def test_many_experts_have_fewer_points_each(rng):
    part = (rng.normal(size=3), 1.0, Gaussian())
    sizes = [
        expert_points(Parts(np.full((3, k), 1 / k), [part] * k))[0].shape[1]
        for k in (2, 20, 200)
    ]
    assert sizes == [29, 15, 9]


def test_ends_of_supports_once_and_in_order():
    ends = np.tile([0.0, 5.0], (2, 1))
    gate = np.array([[0.5, 0.2, 0.2, 0.1], [1.0, 0.0, 0.0, 0.0]])
    parts = [
        (np.ones(2), 0.5, Gamma()),
        (ends, None, Uniform()),
        (ends - 1.0, None, Uniform()),
        (np.zeros(2), 1.0, Laplace()),
    ]
    found = support_ends(Parts(gate, parts))
    assert_array_equal(found[0], [-1.0, 0.0, 4.0, 5.0])
    assert_array_equal(found[1], [0.0, np.inf, np.inf, np.inf])
    assert support_ends(Parts(np.ones((2, 1)), parts[3:])).shape == (2, 0)


def test_center_and_scale_are_pooled(rng):
    gate = make_gate(rng, 2)
    mean = rng.normal(size=(2, N_ROWS))
    parts = [(mean[0], 1.0, Gaussian()), (mean[1], 4.0, Gaussian())]
    center, scale = center_and_scale(Parts(gate, parts))
    assert_allclose(center, gate[:, 0] * mean[0] + gate[:, 1] * mean[1])
    width = 2 * special.ndtri(0.75)
    assert_allclose(scale, width * (gate[:, 0] + 2 * gate[:, 1]))
    center, scale = center_and_scale(Parts(ONE, [(mean[0], None, PointMass())]))
    assert_array_equal(center, mean[0])
    assert_array_equal(scale, np.ones(N_ROWS))


ONE = np.ones((N_ROWS, 1))


# -- lines -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*SMOOTH, *COUNTS])
def test_between_two_points_the_height_rises_or_falls(name, rng):
    land = landscape(name, rng)
    assert (land.at[:, 1:] >= land.at[:, :-1]).all()
    assert_array_equal(np.abs(land.at[:, [0, -1]]), np.inf)
    assert_array_equal(land.height[:, [0, -1]], FLOOR)
    left, right = land.at[:, :-1], land.at[:, 1:]
    for share in (0.1, 0.5, 0.9):
        with np.errstate(invalid="ignore"):
            inner = left + share * (right - left)
        if isinstance(land, Counts):
            inner = np.floor(inner)
        row, j = np.nonzero(np.isfinite(inner) & (inner > left) & (inner < right))
        height = land.heights(inner[row, j], row)
        ends = np.sort([land.height[row, j], land.height[row, j + 1]], axis=0)
        slack = 1e-6 * (1 + np.abs(height))
        assert (height >= ends[0] - slack).all()
        assert (height <= ends[1] + slack).all()


def test_heights_are_log_densities(rng):
    land = landscape("unlike", rng)
    y = land.center + land.scale * rng.normal(size=N_ROWS)
    with np.errstate(divide="ignore"):
        expected = np.log(land.part.density(y, ROWS))
    assert_allclose(land.heights(y, ROWS), np.maximum(expected, FLOOR), atol=1e-5)


def test_peaks_and_valleys_of_two_normal_densities():
    mean = np.full(3, 1.0)
    gate = np.tile([0.5, 0.5], (3, 1))
    parts = [(-mean, 0.1, Gaussian()), (mean, 0.1, Gaussian())]
    land = Densities(Parts(gate, parts))
    height = land.height
    peak = (height[:, 1:-1] > height[:, :-2]) & (height[:, 1:-1] > height[:, 2:])
    valley = (height[:, 1:-1] < height[:, :-2]) & (height[:, 1:-1] < height[:, 2:])
    assert_array_equal(peak.sum(axis=1), 2)
    assert_array_equal(valley.sum(axis=1), 1)
    top = land.at[:, 1:-1][peak].reshape(3, 2)
    # At a peak y = tanh(y / variance) by symmetry.
    assert_allclose(top, np.tanh(top / 0.1), atol=1e-6)
    assert_allclose(land.at[:, 1:-1][valley], 0.0, atol=1e-6)


def test_a_hidden_pair_of_peak_and_valley_is_added():
    """A narrow density on the slope of a wide one, its bump smaller than a step."""
    share = np.linspace(0.005, 0.03, 400)
    gate = np.column_stack([1 - share, share])
    parts = [(np.zeros(400), 1.0, Gaussian()), (np.full(400, 1.0), 0.01, Gaussian())]
    land = Densities(Parts(gate, parts))
    grid = np.linspace(0.8, 1.2, 4001)
    z = (grid - 1.0) / 0.1
    density = np.outer(1 - share, np.exp(-0.5 * grid**2))
    density += np.outer(share, 10 * np.exp(-0.5 * z**2))
    bumpy = (np.diff(density, axis=1) > 0).any(axis=1)
    assert 0.1 < bumpy.mean() < 0.9
    inner = (land.at[:, 1:] > 0.8) & (land.at[:, 1:] < 1.2)
    rises = ((np.diff(land.height, axis=1) > 1e-9) & inner).any(axis=1)
    # Rows at the very border may differ: their bump is lower than the grid shows.
    assert (rises != bumpy).sum() <= 4


def test_an_end_of_a_support_is_a_jump():
    ends = np.tile([-1.0, 2.0], (N_ROWS, 1))
    parts = [(ends, None, Uniform()), (np.zeros(N_ROWS), 9.0, Gaussian())]
    land = Densities(Parts(np.tile([0.5, 0.5], (N_ROWS, 1)), parts))
    for end in (-1.0, 2.0):
        at = land.at[0] == end
        assert at.sum() >= 3
        assert np.ptp(land.height[0][at]) > 0.5
    height = np.log(0.5 / 3 + 0.1 * np.ones(N_ROWS) * 0.3)
    which, lower, upper = land.cut(height, ROWS)
    assert_array_equal(which, ROWS)
    assert_array_equal(lower, -1.0)
    assert_array_equal(upper, 2.0)


# -- cuts ------------------------------------------------------------------------------


def test_ends_of_a_cut_are_as_high_as_the_cut(rng):
    land = landscape("normal", rng)
    height = land.height.max(axis=1) - 1.0
    which, lower, upper = land.cut(height, ROWS)
    for ends in (lower, upper):
        assert_allclose(land.heights(ends, which), height[which], atol=1e-9)
    assert_array_equal(np.unique(which), ROWS)


@pytest.mark.parametrize("name", [*SMOOTH, *COUNTS])
def test_mass_falls_with_the_height(name, rng):
    land = landscape(name, rng)
    top = land.heights(np.round(land.center), ROWS)
    drops = [-1.0, 0.0, 0.3, 1.0, 3.0, 10.0, 50.0]
    mass = np.array([land.mass_above(top - drop, ROWS) for drop in drops])
    assert (np.diff(mass, axis=0) >= -1e-9).all()
    assert_allclose(mass[-1], land.part.gate.sum(axis=1), atol=1e-6)
    some = np.array([4, 1])
    assert_allclose(land.mass_above(top[some] - 0.3, some), mass[2][some])


@pytest.mark.parametrize("name", SMOOTH)
def test_height_of_undoes_mass_above(name, rng):
    land = landscape(name, rng)
    for level in (0.01, 0.6, 0.99):
        height = land.height_of(np.full(N_ROWS, level), ROWS)
        assert_allclose(land.mass_above(height, ROWS), level, atol=1e-8)
    level = np.array([0.2, 0.7])
    height = land.height_of(level, np.array([5, 2]))
    assert_allclose(land.mass_above(height, np.array([5, 2])), level, atol=1e-8)


def test_counts_are_cut_at_counts(rng):
    mean = np.linspace(0.4, 30, N_ROWS)
    land = Counts(Parts(ONE, [(mean, None, Poisson())]))
    height = land.height_of(np.full(N_ROWS, 0.8), ROWS)
    which, lower, upper = land.cut(height, ROWS)
    assert_array_equal(which, ROWS)
    assert_array_equal(lower, np.floor(lower))
    assert_array_equal(upper, np.floor(upper))
    inside = [land.heights(ends, ROWS) >= height for ends in (lower, upper)]
    outside = [land.heights(ends, ROWS) < height for ends in (lower - 1, upper + 1)]
    assert np.all(inside)
    assert np.all(outside)
