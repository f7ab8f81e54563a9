"""Tables of cdfs against the families' own, and quantiles with and without them."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import skmoe.law._quantiles as quantiles
from skmoe.law._quantiles import Parts, mixture_quantiles
from skmoe.law._tabulated import LARGEST_ERROR, MOST_CELLS, OctaveTable, tabulate
from skmoe.likelihoods import Gamma, Gaussian, Laplace, PointMass, Poisson, StudentT
from tests.law.laws import MIXED, SMOOTH, build, make_gate

LEVELS = np.linspace(0.1, 0.9, 9)
ODD = np.array([0.9, 0.0, 1e-6, 0.05, 1.0, 0.45, 0.999, 0.5, 1 - 1e-6])
EXPERTS = [
    *((StudentT(), np.array([0.7, df])) for df in (0.5, 1.0, 2.5, 5.0, 30.0, np.inf)),
    *((Gaussian(), variance) for variance in (1e-20, 1.0, 1e20)),
    (StudentT(), np.array([1e-20, 4.0])),
    (StudentT(), np.array([1e20, 4.0])),
    *((Gamma(), inverse_shape) for inverse_shape in (2.5, 1.0, 0.4, 0.1, 0.02, 1e-3)),
]


def wide_levels(rng):
    """Levels of all sizes, near 0, in the middle and near 1."""
    small = 10.0 ** -rng.uniform(0.3, 12.0, size=3000)
    return np.concatenate([rng.random(3000), small, 1.0 - small])


# The table itself


def test_polynomials_come_back_exactly(rng):
    def quintic(x):
        return 3.0 + x * (x - 2.0) + x**5

    table = OctaveTable(quintic, (0.3, 40.0), (0.0, 0.0), bits=2)
    x = np.exp(rng.uniform(np.log(0.3), np.log(40.0), size=500))
    value, slope = table(x)
    assert_allclose(value, quintic(x), rtol=1e-13)
    assert_allclose(slope, 2.0 * x - 2.0 + 5.0 * x**4, rtol=1e-11, atol=1e-11)


def test_borders_of_cells_and_octaves():
    table = OctaveTable(np.sqrt, (0.25, 8.0), (0.0, 9.0), bits=4)
    border = 2.0 ** np.arange(-2, 3)[:, None] * (1.0 + np.arange(16) / 16.0)
    beside = [border, np.nextafter(border, 0.0)[1:], np.nextafter(border, 99.0)]
    for x in (points.ravel() for points in beside):
        value, slope = table(x)
        assert_allclose(value, np.sqrt(x), rtol=1e-9)
        assert_allclose(slope, 0.5 / np.sqrt(x), rtol=1e-6)


def test_constant_beyond_the_ends():
    table = OctaveTable(np.sqrt, (1.0, 8.0), (-2.0, 9.0), bits=3)
    value, slope = table(np.array([0.0, 1e-320, 1e-100, 0.99, 9.1, 1e100, np.inf]))
    assert_array_equal(value, [-2.0] * 4 + [9.0] * 3)
    assert_array_equal(slope, 0.0)
    value, _ = table(np.array([4.0], dtype=np.float32))
    assert_allclose(value, 2.0, rtol=1e-7)
    assert value.dtype == np.float64


def test_more_cells_until_it_is_exact():
    def error(bits):
        table = OctaveTable(np.exp, (1.0, 7.9), (0.0, 0.0), bits)
        return table.error(np.exp, 1.0)

    assert 32.0 < error(4) / error(5) < 128.0
    table = OctaveTable.fit(np.exp, (1.0, 7.9), (0.0, 0.0), 1.0)
    assert error(table.bits) <= 1e-14 < error(table.bits - 1)


@pytest.mark.parametrize(
    ("ends", "why"),
    [
        ((0.0, 1.0), "infinitely many octaves"),
        ((1e-200, 1e200), "too many octaves"),
        ((1.0, np.inf), "no end"),
        ((1.0, 1.0), "no extent"),
        ((np.nan, 1.0), "no start"),
    ],
)
def test_no_table_of_what_is_too_wide(ends, why):
    assert OctaveTable.fit(np.tanh, ends, (0.0, 1.0), 0.1) is None, why


def test_noise_is_not_taken_for_the_function(rng):
    """Small noise ends the search, larger noise is refused."""

    def noisy(size):
        def function(x):
            return np.exp(-x) * (1.0 + size * rng.uniform(-1.0, 1.0, size=x.shape))

        return OctaveTable.fit(function, (0.5, 30.0), (1.0, 0.0), 1e-3)

    assert noisy(1e-14).coef.shape[1] < MOST_CELLS / 4
    assert noisy(1e-11) is None


# Cdfs by table


@pytest.mark.parametrize("lowest", [0.1, 1e-6])
@pytest.mark.parametrize(("family", "dispersion"), EXPERTS)
def test_cdf_and_density_are_the_familys_own(family, dispersion, lowest, rng):
    table = tabulate(family, dispersion, np.array([0.5, lowest]))
    params = np.exp(rng.normal(size=9000))
    y = family.quantile(wide_levels(rng), params, dispersion)
    cdf, density = table(y, params)
    exact = family.cdf(y, params, dispersion)
    assert np.max(np.abs(cdf - exact) / (exact + lowest)) < LARGEST_ERROR
    # Of the upper tail the slope of 1 - tiny is known to rounding of 1 only.
    known = (exact > 1e-8) & (exact < 1.0 - 1e-8)
    own = np.exp(family.log_prob(y, params, dispersion))
    assert_allclose(density[known], own[known], rtol=1e-4)
    middle = (exact > 0.01) & (exact < 0.99)
    assert_allclose(density[middle], own[middle], rtol=1e-9)


def test_both_tails_of_student_t_are_equally_exact(rng):
    family, dispersion = StudentT(), np.array([1.0, 3.0])
    table = tabulate(family, dispersion, np.array([0.01]))
    error = family.quantile(10.0 ** -rng.uniform(0.4, 12.0, 2000), 0.0, dispersion)
    left, density = table(error, 0.0)
    right, mirrored = table(-error, 0.0)
    assert_allclose(left, family.cdf(error, 0.0, dispersion), rtol=1e-13)
    assert_allclose(right, 1.0 - left, rtol=0, atol=1e-16)
    assert_array_equal(density, mirrored)


@pytest.mark.parametrize("spread", [1.0, 100.0])
def test_normal_cdf_near_a_narrow_peak_and_far_from_it(spread, rng):
    """Few points near: only these are evaluated; or most: all are."""
    family, variance = Gaussian(), 0.25
    table = tabulate(family, variance, np.array([0.5, 1e-3]))
    mean = rng.normal(size=4000)
    y = mean + spread * rng.normal(size=mean.size)
    near = np.abs(y - mean) < 0.5 * table.reach
    assert (near.mean() > 0.5) == (spread == 1.0)
    cdf, density = table(y, mean)
    assert_allclose(cdf, family.cdf(y, mean, variance), rtol=1e-15, atol=1e-20)
    own = np.exp(family.log_prob(y, mean, variance))
    assert_allclose(density, own, rtol=1e-13, atol=1e-18)


def test_beyond_the_table_it_is_zero_and_one():
    levels = np.array([0.5, 0.01])
    far = np.array([-np.inf, -1e300, 1e300, np.inf])
    student = tabulate(StudentT(), np.array([1.0, 5.0]), levels)
    assert_array_equal(student(far, np.zeros(4)), [[0, 0, 1, 1], [0, 0, 0, 0]])
    gamma = tabulate(Gamma(), 0.5, levels)
    assert_array_equal(gamma(far, np.ones(4)), [[0, 0, 1, 1], [0, 0, 0, 0]])
    assert_array_equal(gamma(np.array([-1.0, -0.0, 0.0]), np.ones(3)), 0.0)
    # What is cut off is too small to move a quantile of the levels.
    kept = StudentT().quantile(1e-18, 0.0, np.array([1.0, 5.0]))
    assert student(np.array([kept]), 0.0)[0] == pytest.approx(1e-18, rel=1e-3)


@pytest.mark.parametrize(
    ("family", "dispersion", "level"),
    [
        (Gaussian(), 0.0, 0.1),
        (Gaussian(), np.inf, 0.1),
        (Laplace(), 1.0, 0.1),
        (Poisson(), None, 0.1),
        (PointMass(), None, 0.1),
        (StudentT(), np.array([1.0, 0.01]), 0.1),
        (StudentT(), np.array([1.0, 5.0]), 1e-300),
        (StudentT(), np.array([1.0, 5.0]), 1e-310),
        (Gamma(), 50.0, 0.1),
        (Gamma(), 1e-30, 0.1),
        (Gamma(), 0.0, 0.1),
        (Gamma(), np.inf, 0.1),
    ],
)
def test_other_families_and_extreme_ones_have_no_table(family, dispersion, level):
    assert tabulate(family, dispersion, np.array([0.5, level])) is None


# Quantiles


@pytest.fixture
def with_and_without(monkeypatch):
    """Return a function that solves a law with tables and without."""

    def solve(gate, parts, levels):
        found = []
        for fewest in (0, np.inf):
            monkeypatch.setattr(quantiles, "MANY_POINTS", fewest)
            found.append(mixture_quantiles(gate, parts, levels))
        return found

    return solve


@pytest.mark.parametrize("name", [*SMOOTH, *MIXED])
def test_quantiles_are_the_same_with_tables(name, rng, with_and_without):
    gate, parts, _ = build(name, rng)
    for levels in (LEVELS, ODD):
        fast, slow = with_and_without(gate, parts, levels)
        size = 1.0 + np.abs(slow, where=np.isfinite(slow), out=np.zeros_like(slow))
        with np.errstate(invalid="ignore"):
            error = np.where(fast == slow, 0.0, np.abs(fast - slow))
        # Near 1 the cdf itself is known to rounding of 1 only.
        slack = 1e-11 + 1e-15 / np.maximum(1.0 - levels, 1e-15)
        assert (error <= slack * size).all()


def many(family, rng, n_rows, n_experts):
    """Return gates and experts of a law of many rows."""
    gate = make_gate(rng, n_experts, n_rows)
    parts = []
    for _ in range(n_experts):
        spread = rng.gamma(1.0)
        if isinstance(family, StudentT):
            parts.append(
                (2.0 * rng.normal(size=n_rows), np.array([spread, 5.0]), family)
            )
        else:
            parts.append((np.exp(rng.normal(size=n_rows)), spread, family))
    return gate, parts


@pytest.mark.parametrize("family", [StudentT(), Gamma()])
def test_quantiles_of_many_rows_invert_the_exact_cdf(family, rng):
    gate, parts = many(family, rng, 4000, 4)
    levels = np.array([1e-4, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 1.0 - 1e-4])
    assert gate.shape[0] * levels.size >= quantiles.MANY_POINTS
    found, exact = mixture_quantiles(gate, parts, levels), Parts(gate, parts)
    rows = np.arange(gate.shape[0])
    for y, q in zip(found.T, levels, strict=True):
        assert_allclose(exact.cdf(y, rows), q, rtol=2e-12)
    assert (np.diff(found, axis=1) > 0.0).all()


def test_zero_adjusted_responses_of_many_rows(rng):
    gate, parts = many(Gamma(), rng, 4000, 3)
    parts[0] = (np.zeros(4000), None, PointMass())
    found, rows = mixture_quantiles(gate, parts, LEVELS), np.arange(4000)
    exact = Parts(gate, parts)
    for y, q in zip(found.T, LEVELS, strict=True):
        assert_array_equal(y == 0.0, gate[:, 0] >= q)
        positive = y > 0.0
        assert_allclose(exact.cdf(y, rows)[positive], q, rtol=1e-12)


@pytest.mark.parametrize(
    ("family", "dispersion"),
    [
        (Gaussian(), 1e-4),
        (StudentT(), np.array([1e-4, 3.0])),
        (StudentT(), np.array([1e-4, 1000.0])),
    ],
)
def test_far_peaks_with_nothing_between(family, dispersion, with_and_without):
    """Beyond the tables the density is zero, and no Newton step is left."""
    mean = np.linspace(-1.0, 1.0, 30)
    parts = [(mean, dispersion, family), (mean + 1e4, dispersion, family)]
    gate = np.full((30, 2), 0.5)
    levels = np.array([0.25, 0.5 - 1e-9, 0.5 + 1e-9, 0.75])
    fast, slow = with_and_without(gate, parts, levels)
    exact = Parts(gate, parts)
    for y, q in zip(fast.T, levels, strict=True):
        assert_allclose(exact.cdf(y, np.arange(30)), q, rtol=1e-14)
    assert_allclose(fast[:, [0, 3]], slow[:, [0, 3]], rtol=1e-11)


def test_many_points_only(monkeypatch, rng):
    """Few points are not worth a table; slices of a law keep those of the whole."""
    gate, parts = many(Gamma(), rng, 10, 2)
    whole = Parts(gate, [*parts[:1], (np.zeros(10), 1.0, Laplace())])
    assert whole.tables == [None, None]
    some = whole.tabulated(LEVELS)[2:4]
    assert some.tables[0] is not None
    assert some.tables[1] is None
    y, rows = np.array([0.3, 2.0]), np.array([0, 1])
    assert_allclose(some.cdf(y, rows), whole[2:4].cdf(y, rows), rtol=1e-13)
    for part in (some, whole[2:4]):
        cdf, density = part.cdf_and_density(y, rows)
        assert_array_equal(cdf, part.cdf(y, rows))
        assert_allclose(density, whole[2:4].density(y, rows), rtol=1e-8)

    def refuse(*_):
        raise AssertionError("a table of few points")

    monkeypatch.setattr(quantiles, "tabulate", refuse)
    mixture_quantiles(gate, parts, LEVELS)
    with pytest.raises(AssertionError, match="few points"):
        mixture_quantiles(*many(Gamma(), rng, 4000, 2), LEVELS)


def test_rows_without_numbers_do_not_spoil_the_others(rng, with_and_without):
    _, parts = many(StudentT(), rng, 12, 2)
    parts.append((np.linspace(-9.0, 9.0, 12), 1e-4, Gaussian()))
    gate = make_gate(rng, 3)
    expected, _ = with_and_without(gate, parts, LEVELS)
    for params, _, _ in parts:
        params[3] = np.nan
    fast, slow = with_and_without(gate, parts, LEVELS)
    others = np.arange(12) != 3
    assert_array_equal(fast[others], expected[others])
    assert_array_equal(np.isnan(fast), np.isnan(slow))
