"""Highest-density regions: coverage, cut heights, closed forms and brute force."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from skmoe.law._quantiles import Parts
from skmoe.law._regions import density_levels, highest_density
from skmoe.likelihoods import (
    Binomial,
    Gamma,
    Gaussian,
    PointMass,
    Poisson,
    StudentT,
    Uniform,
)
from tests.law.laws import COUNTS, MIXED, N_ROWS, SMOOTH, build, make_gate, point

LEVELS = [0.05, 0.5, 0.9, 0.999]
ROWS = np.arange(N_ROWS)


def mass_of(union, gate, parts):
    """Return the probability of each row's region."""
    whole, out = Parts(gate, parts), np.zeros(len(union))
    for lower, upper in zip(union.lower.T, union.upper.T, strict=True):
        row = np.flatnonzero(~np.isnan(lower))
        lower, upper = lower[row], upper[row]
        out[row] += whole.cdf(upper, row) - whole.cdf(lower, row)
        out[row] += whole.mass(lower, row)
    return out


def draws_of(gate, parts, rng, n_draws=400):
    """Return draws of shape (n_draws, n_rows)."""
    winner = (rng.random((n_draws, len(gate), 1)) > gate.cumsum(axis=1)).sum(axis=2)
    winner = np.minimum(winner, len(parts) - 1)
    each = [family.sample(p, spread, n_draws, rng) for p, spread, family in parts]
    return np.choose(winner, each)


def levels_of(gate, parts, draws):
    """Return the density levels of draws of shape (n_draws, n_rows)."""
    n_draws = len(draws)
    many = [
        (np.tile(p, (n_draws, 1) if p.ndim > 1 else n_draws), *r) for p, *r in parts
    ]
    found = density_levels(np.tile(gate, (n_draws, 1)), many, draws.ravel())
    return found.reshape(draws.shape)


@pytest.mark.parametrize("name", SMOOTH)
def test_densities_are_covered_exactly(name, rng):
    gate, parts, _ = build(name, rng)
    for level in LEVELS:
        union = highest_density(gate, parts, level)
        assert_allclose(mass_of(union, gate, parts), level, atol=1e-8)
        assert not union.integers


@pytest.mark.parametrize("name", SMOOTH)
def test_all_points_inside_are_denser_than_all_outside(name, rng):
    gate, parts, _ = build(name, rng)
    whole, draws = Parts(gate, parts), draws_of(gate, parts, rng)
    density = np.array([whole.density(y, ROWS) for y in draws])
    for level in LEVELS:
        union = highest_density(gate, parts, level)
        inside = np.array([union.contains(y) for y in draws])
        lowest = np.where(inside, density, np.inf).min(axis=0)
        highest = np.where(inside, 0.0, density).max(axis=0)
        # But for ties, that the nearness to the centre breaks.
        assert (lowest >= highest * (1.0 - 1e-4)).all()


@pytest.mark.parametrize("name", [*SMOOTH, *COUNTS, *MIXED])
def test_density_level_says_which_regions_hold_a_point(name, rng):
    gate, parts, _ = build(name, rng)
    draws = draws_of(gate, parts, rng, 60)
    found = levels_of(gate, parts, draws)
    assert ((found >= 0.0) & (found <= 1.0)).all()
    for level in (0.2, 0.8):
        union = highest_density(gate, parts, level)
        inside = np.array([union.contains(y) for y in draws])
        clear = np.abs(found - level) > 1e-7
        assert_array_equal(inside[clear], (found < level)[clear])


def test_density_levels_of_draws_are_uniform(rng):
    """Of a continuous law: they are a probability integral transform."""
    for name in ("normal", "heavy tails", "positive", "noise"):
        gate, parts, _ = build(name, rng)
        draws = draws_of(gate, parts, rng, 150)
        found = levels_of(gate, parts, draws)
        assert stats.kstest(found.ravel(), "uniform").pvalue > 1e-4


def test_one_symmetric_density_has_its_central_interval(rng):
    gate, center = np.ones((N_ROWS, 1)), rng.normal(size=N_ROWS)
    uniform = np.column_stack([center - 2.0, center + 2.0])
    for part in (
        (center, 0.7, Gaussian()),
        (center, np.array([0.3, 2.5]), StudentT()),
        (uniform, None, Uniform()),
    ):
        params, dispersion, family = part
        for level in LEVELS:
            union = highest_density(gate, [part], level)
            ends = [family.quantile(0.5 + s * level / 2, *part[:2]) for s in (-1, 1)]
            assert_array_equal(union.n_pieces, 1)
            assert_allclose(union.lower[:, 0], ends[0], atol=1e-5)
            assert_allclose(union.upper[:, 0], ends[1], atol=1e-5)
        y = family.quantile(0.5 + 0.5 * 0.64, params, dispersion)
        assert_allclose(density_levels(gate, [part], y), 0.64, atol=1e-6)
        assert_allclose(density_levels(gate, [part], center), 0.0, atol=1e-7)


def test_exponential_region_starts_at_the_pole():
    """Shape 1: the density falls from 0 on, and the region is [0, quantile]."""
    gate, mean = np.ones((N_ROWS, 1)), np.linspace(0.1, 9, N_ROWS)
    for dispersion in (1.0, 4.0, 30.0):
        parts = [(mean, dispersion, Gamma())]
        union = highest_density(gate, parts, 0.8)
        assert_array_equal(union.lower, np.zeros((N_ROWS, 1)))
        expected = Gamma().quantile(0.8, mean, dispersion)
        assert_allclose(union.upper[:, 0], expected, rtol=1e-8)
        assert_allclose(density_levels(gate, parts, expected), 0.8, rtol=1e-6)


def test_two_far_modes_are_two_intervals():
    gate = np.tile([0.5, 0.5], (N_ROWS, 1))
    one, other = np.full(N_ROWS, -5.0), np.full(N_ROWS, 5.0)
    parts = [(one, 0.01, Gaussian()), (other, 0.01, Gaussian())]
    union = highest_density(gate, parts, 0.9)
    half = 0.1 * stats.norm.ppf(0.95)
    assert_allclose(union.lower, np.tile([-5 - half, 5 - half], (N_ROWS, 1)))
    assert_allclose(union.upper, np.tile([-5 + half, 5 + half], (N_ROWS, 1)))


def test_a_spike_on_a_wide_density(rng):
    """A million times narrower: an interval of its own, as long as it is dense."""
    place = rng.uniform(-3, 3, N_ROWS)
    parts = [(np.zeros(N_ROWS), 1.0, Gaussian()), (place, 1e-12, Gaussian())]
    gate = np.tile([0.9, 0.1], (N_ROWS, 1))
    union = highest_density(gate, parts, 0.5)
    assert_allclose(mass_of(union, gate, parts), 0.5, atol=1e-8)
    assert union.contains(place).all()
    away = np.abs(place) > 1.0
    assert away.any()
    assert_array_equal(union.n_pieces[away], 2)
    assert (union.length()[away] < 1.3).all()


def test_a_peak_on_a_shoulder_is_found():
    """A peak and a valley nearer to each other than the points around.

    The normal density falls nearly as fast as the Laplace density rises.
    """
    rng = np.random.default_rng(5)
    n = 3000
    gate = make_gate(rng, 3, n)
    parts = [
        (rng.normal(size=n), 0.1, Gaussian()),
        (rng.normal(size=n), 0.3, Gaussian()),
        (rng.normal(size=n), 0.5, Gaussian()),
    ]
    for level in (0.3, 0.5, 0.7):
        union = highest_density(gate, parts, level)
        assert_allclose(mass_of(union, gate, parts), level, atol=1e-6)


@pytest.mark.parametrize("name", COUNTS)
def test_counts_against_brute_force(name, rng):
    gate, parts, _ = build(name, rng)
    whole, counts = Parts(gate, parts), np.arange(0.0, 1500.0)
    for level in LEVELS:
        union = highest_density(gate, parts, level)
        assert union.integers
        for i in range(N_ROWS):
            row = np.full(counts.size, i)
            mass = np.sort(whole.mass(counts, row))[::-1]
            # The fewest counts that reach the level.
            fewest = int(np.searchsorted(mass.cumsum(), level - 1e-11)) + 1
            assert union.length()[i] == fewest
            assert_allclose(mass_of(union, gate, parts)[i], mass[:fewest].sum())


def test_density_levels_of_counts_against_brute_force(rng):
    gate, parts, _ = build("zero- and one-inflated", rng)
    whole, counts = Parts(gate, parts), np.arange(0.0, 400.0)
    table = np.array([whole.mass(counts, np.full(400, i)) for i in ROWS])
    for y in (0.0, 1.0, 2.0, 7.0):
        own = table[:, int(y)][:, None]
        expected = np.where(table > own * (1 + 1e-9), table, 0.0).sum(axis=1)
        found = density_levels(gate, parts, np.full(N_ROWS, y))
        assert_allclose(found, expected, atol=1e-9)
    for never in (0.5, -1.0):
        found = density_levels(gate, parts, np.full(N_ROWS, never))
        assert_allclose(found, 1.0, atol=1e-9)


def test_large_counts_reach_the_level_with_few(rng):
    """Thousands of counts: found without listing them."""
    gate = make_gate(rng, 2)
    parts = [(2e5 + ROWS, None, Poisson()), (3e5 + 50.0 * ROWS, None, Poisson())]
    union = highest_density(gate, parts, 0.9)
    found = mass_of(union, gate, parts)
    assert (found >= 0.9 - 1e-9).all()
    assert (found <= 0.9 + 3e-3).all()
    assert (union.length() < 5e3).all()


def test_of_two_equal_counts_the_one_nearer_to_the_middle_comes_first():
    params = np.tile([0.5, 1.0], (2, 1))
    gate, parts = np.ones((2, 1)), [(params, None, Binomial())]
    union = highest_density(gate, parts, 0.4)
    assert_array_equal(union[0], [[0.0, 0.0]])
    assert_array_equal(highest_density(gate, parts, 0.6)[0], [[0.0, 1.0]])
    assert_allclose(density_levels(gate, parts, np.array([0.0, 1.0])), [0.0, 0.5])
    # Poisson of mean 4: three and four are alike, and the median is four.
    parts = [(np.full(2, 4.0), None, Poisson())]
    assert_array_equal(highest_density(gate, parts, 0.1)[0], [[4.0, 4.0]])


def test_atoms_come_before_densities():
    share = np.linspace(0.05, 0.95, N_ROWS)
    gate = np.column_stack([0.6 * share, 0.4 * share, 1.0 - share])
    center = np.full(N_ROWS, 10.0)
    parts = [point(0.0)[0], point(2.5)[0], (center, 1.0, Gaussian())]
    level = 0.5
    union = highest_density(gate, parts, level)
    assert_allclose(
        mass_of(union, gate, parts),
        np.where(0.6 * share >= level, 0.6 * share, np.maximum(share, level)),
        atol=1e-8,
    )
    assert union.contains(np.zeros(N_ROWS)).all()
    second = union.contains(np.full(N_ROWS, 2.5))
    assert_array_equal(second, 0.6 * share < level)
    assert_array_equal(union.contains(center), share < level)
    # What is denser than the second atom is the first; than the peak, both.
    found = [density_levels(gate, parts, np.full(N_ROWS, y)) for y in (0, 2.5, 10)]
    assert_allclose(found, [0.0 * share, 0.6 * share, share], atol=1e-9)


@pytest.mark.parametrize("name", MIXED)
def test_mixed_laws_reach_the_level(name, rng):
    gate, parts, _ = build(name, rng)
    discrete = np.array([family.discrete for _, _, family in parts])
    atoms = gate[:, discrete].sum(axis=1)
    for level in LEVELS:
        union = highest_density(gate, parts, level)
        found = mass_of(union, gate, parts)
        assert (found >= level - 1e-8).all()
        # With a density in it, it is exact.
        assert_allclose(found[atoms < level - 1e-6], level, atol=1e-8)


def test_point_masses_alone(rng):
    values = rng.normal(size=(N_ROWS, 3))
    gate = make_gate(rng, 3)
    parts = [(values[:, k], None, PointMass()) for k in range(3)]
    union = highest_density(gate, parts, 0.9)
    assert_array_equal(union.length(), 0.0)
    for i in range(N_ROWS):
        order = np.argsort(-gate[i])
        n_first = int(np.searchsorted(gate[i, order].cumsum(), 0.9)) + 1
        assert_array_equal(union[i][:, 0], np.sort(values[i, order[:n_first]]))
    found = density_levels(gate, parts, values[:, 0])
    more = np.where(gate > gate[:, :1], gate, 0.0).sum(axis=1)
    assert_allclose(found, more, atol=1e-12)


def test_experts_without_weight_take_no_part(rng):
    gate, parts, _ = build("normal", rng)
    wide = np.column_stack([gate, np.zeros(N_ROWS)])
    other = [*parts, (np.zeros(N_ROWS), 1e-300, Gaussian())]
    one, two = (highest_density(*law, 0.7) for law in ((gate, parts), (wide, other)))
    assert_allclose(two.lower, one.lower)
    assert_allclose(two.upper, one.upper)


@pytest.mark.parametrize("scale", [1e-9, 1e9])
def test_in_any_unit(scale, rng):
    gate, parts, _ = build("normal", rng)
    scaled = [(scale * mean, scale**2 * v, family) for mean, v, family in parts]
    one, two = highest_density(gate, parts, 0.6), highest_density(gate, scaled, 0.6)
    assert_allclose(two.lower / scale, one.lower, rtol=1e-6, atol=1e-8)
    assert_allclose(two.upper / scale, one.upper, rtol=1e-6, atol=1e-8)


def test_blocks_do_not_matter(rng, monkeypatch):
    gate, parts, _ = build("unlike", rng)
    whole = highest_density(gate, parts, 0.8)
    monkeypatch.setattr("skmoe.law._regions.BLOCK_ROWS", 1)
    one_by_one = highest_density(gate, parts, 0.8)
    assert_allclose(one_by_one.lower, whole.lower)
    y = rng.normal(size=N_ROWS)
    single = density_levels(gate, parts, y)
    monkeypatch.undo()
    assert_allclose(density_levels(gate, parts, y), single)


def test_a_point_mass_between_counts():
    """It is one of the points, and its neighbours come only when it is their turn."""
    mean = np.linspace(0.71, 4.03, N_ROWS)  # no two counts are equally probable
    gate = np.tile([0.6, 0.4], (N_ROWS, 1))
    parts = [(mean, None, Poisson()), point(1.5)[0]]
    whole = Parts(gate, parts)
    values = np.sort(np.append(np.arange(60.0), 1.5))
    for level in (0.3, 0.5, 0.8, 0.95):
        union = highest_density(gate, parts, level)
        assert not union.integers
        for i in range(N_ROWS):
            mass = whole.mass(values, np.full(values.size, i))
            order = np.argsort(-mass)
            fewest = int(np.searchsorted(mass[order].cumsum(), level)) + 1
            assert_array_equal(union[i][:, 0], np.sort(values[order[:fewest]]))
            assert_array_equal(union[i][:, 1], union[i][:, 0])


@pytest.mark.parametrize("name", ["normal", "poisson", "zero-adjusted"])
def test_each_row_may_have_a_level_of_its_own(name, rng):
    gate, parts, _ = build(name, rng)
    level = np.linspace(0.1, 0.95, N_ROWS)
    union = highest_density(gate, parts, level)
    for i in (0, 5, N_ROWS - 1):
        one = highest_density(gate, parts, level[i])
        assert_allclose(union[i], one[i], atol=1e-9)


def test_the_ends_of_levels_are_nothing_and_nearly_all(rng):
    gate, parts, _ = build("normal", rng)
    level = np.where(ROWS < 6, 0.0, 1.0)
    union = highest_density(gate, parts, level)
    assert_allclose(mass_of(union, gate, parts), level, atol=1e-12)
