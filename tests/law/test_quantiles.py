"""Quantiles of mixtures against SciPy's cdfs, root finding and brute force."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import optimize, special, stats
from scipy.special import logsumexp, ndtr

import skmoe.law._quantiles as quantiles
from skmoe.law._quantiles import Parts, mixture_quantiles
from skmoe.likelihoods import Gaussian, Laplace, StudentT
from tests.law.laws import (
    COUNTS,
    N_ROWS,
    SMOOTH,
    binomial,
    build,
    gamma,
    laplace,
    make_gate,
    normal,
    point,
    poisson,
    scipy_cdf,
    uniform,
)

LEVELS = np.array([1e-6, 0.01, 0.2, 0.5, 0.77, 0.99, 1 - 1e-6])


@pytest.mark.parametrize("name", SMOOTH)
def test_continuous_laws_against_root_finding(name, rng):
    gate, parts, laws = build(name, rng)
    found = mixture_quantiles(gate, parts, LEVELS)
    assert found.shape == (N_ROWS, LEVELS.size)
    for i in range(N_ROWS):
        for j, q in enumerate(LEVELS):
            ends = [laws[k][i].ppf(q) for k in range(len(laws))]
            low, high = min(ends) - 1e-12, max(ends) + 1e-12
            root = optimize.brentq(
                lambda y, i=i, q=q: scipy_cdf(gate, laws, i, y) - q,
                low,
                high,
                xtol=1e-14,
                rtol=1e-14,
            )
            density = sum(gate[i, k] * laws[k][i].pdf(root) for k in range(len(laws)))
            # Neither can know the point better than the cdf is known.
            slack = 1e-11 * (1 + abs(root)) + 1e-14 / max(density, 1e-300)
            assert abs(found[i, j] - root) <= slack
            assert scipy_cdf(gate, laws, i, found[i, j]) == pytest.approx(q, abs=1e-11)


@pytest.mark.parametrize("name", COUNTS)
def test_counts_against_brute_force(name, rng):
    gate, parts, laws = build(name, rng)
    found = mixture_quantiles(gate, parts, LEVELS)
    counts = np.arange(0, 2000)
    for i in range(N_ROWS):
        cdf = np.array([scipy_cdf(gate, laws, i, y) for y in counts[:400]])
        for j, q in enumerate(LEVELS):
            expected = counts[np.flatnonzero(cdf >= q)[0]]
            near = np.abs(cdf - q).min() < 1e-12
            assert found[i, j] == expected or near


def test_one_expert_is_its_own_quantile(rng):
    gate = np.ones((N_ROWS, 1))
    for make in (*SMOOTH.values(), *COUNTS.values()):
        for (params, dispersion, family), _ in make(rng):
            found = mixture_quantiles(gate, [(params, dispersion, family)], LEVELS)
            own = family.quantile(LEVELS[:, None], params, dispersion).T
            assert_allclose(found, own, rtol=1e-13)


def check_is_quantile(gate, parts, levels, tol=1e-12):
    """Check the definition: the cdf reaches the level there, and not before."""
    found = mixture_quantiles(gate, parts, levels)
    rows = np.arange(gate.shape[0])
    whole = Parts(gate, parts)
    for j, q in enumerate(levels):
        y = found[:, j]
        step = 1e-10 * (1.0 + np.abs(y))
        assert (whole.cdf(y + step, rows) >= q - tol).all()
        assert (whole.cdf(y - step, rows) <= q + tol).all()
    return found


def test_zero_adjusted_gamma(rng):
    gate, (zeros, costs) = make_gate(rng, 2), (point(0.0), gamma(rng, 0.5))
    found = check_is_quantile(gate, [zeros[0], costs[0]], LEVELS)
    for i in range(N_ROWS):
        for j, q in enumerate(LEVELS):
            share = gate[i, 0]
            rest = (q - share) / (1 - share)
            expected = costs[1][i].ppf(rest) if q > share else 0.0
            assert_allclose(found[i, j], expected, rtol=1e-9)
            assert (found[i, j] == 0.0) == (q <= share)


def test_atoms_among_densities(rng):
    """Levels that fall into a jump give exactly the value of the atom."""
    inside = rng.uniform(-1, 1, size=N_ROWS)
    parts = [normal(rng, 1.0)[0], point(inside)[0], point(0.25)[0], uniform(rng)[0]]
    gate = make_gate(rng, 4)
    levels = np.linspace(0.005, 0.995, 199)
    found = check_is_quantile(gate, parts, levels)
    whole, rows = Parts(gate, parts), np.arange(N_ROWS)
    for value in (inside, np.full(N_ROWS, 0.25)):
        at = whole.cdf(value, rows)
        below = at - whole.mass(value, rows)
        jump = (levels > below[:, None] + 1e-12) & (levels < at[:, None] - 1e-12)
        assert jump.any()
        assert_array_equal((found == value[:, None]) & jump, jump)
    assert (np.diff(found, axis=1) >= 0).all()


def test_counts_among_densities(rng):
    parts = [
        normal(rng, 9.0)[0],
        poisson(rng, 3.0)[0],
        point(1.5)[0],
        gamma(rng, 1.0)[0],
    ]
    gate = make_gate(rng, 4)
    levels = np.linspace(0.01, 0.99, 99)
    found = check_is_quantile(gate, parts, levels)
    whole = found == np.round(found)
    assert 0.05 < whole.mean() < 0.95
    rows = np.arange(N_ROWS)
    for count in (0.0, 2.0, 5.0):
        value = np.full(N_ROWS, count)
        at = Parts(gate, parts).cdf(value, rows)
        below = at - Parts(gate, parts).mass(value, rows)
        jump = (levels > below[:, None] + 1e-12) & (levels < at[:, None] - 1e-12)
        assert_array_equal((found == count) & jump, jump)


def test_atoms_alone(rng):
    values = rng.normal(size=(N_ROWS, 3))
    gate = make_gate(rng, 3)
    found = mixture_quantiles(gate, [point(values[:, k])[0] for k in range(3)], LEVELS)
    for i in range(N_ROWS):
        order = np.argsort(values[i])
        cumulative = gate[i, order].cumsum()
        expected = values[i, order][np.searchsorted(cumulative, LEVELS).clip(max=2)]
        assert_array_equal(found[i], expected)


def test_atoms_between_counts(rng):
    parts = [poisson(rng)[0], point(0.4)[0], point(0.6)[0], point(-2.5)[0]]
    found = check_is_quantile(make_gate(rng, 4), parts, np.linspace(0.01, 0.99, 99))
    assert set(np.unique(found)) >= {-2.5, 0.0, 0.4, 0.6, 1.0}
    assert set(np.unique(found[found < 1.0])) == {-2.5, 0.0, 0.4, 0.6}


def test_levels_zero_and_one_are_the_ends_of_the_support(rng):
    ends = np.array([0.0, 0.5, 1.0])

    def of(*parts):
        gate = np.full((N_ROWS, len(parts)), 1.0 / len(parts))
        return mixture_quantiles(gate, list(parts), ends)[0, [0, 2]]

    assert_array_equal(of(normal(rng, 1.0)[0]), [-np.inf, np.inf])
    assert_array_equal(of(gamma(rng, 1.0)[0], point(3.0)[0]), [0.0, np.inf])
    assert_array_equal(of(gamma(rng, 1.0)[0], point(-3.0)[0]), [-3.0, np.inf])
    assert_array_equal(of(poisson(rng)[0], point(0.0)[0]), [0.0, np.inf])
    trials, noise = binomial(rng)[0], uniform(rng)[0]
    assert_array_equal(of(trials), [0.0, trials[0][0, 1]])
    assert_array_equal(of(noise, noise), noise[0][0])
    only = mixture_quantiles(np.ones((N_ROWS, 1)), [noise], np.array([0.0, 1.0]))
    assert_array_equal(only, noise[0])


def test_experts_without_weight_take_no_part(rng):
    parts = [normal(rng, 0.3)[0], normal(rng, 2.0)[0]]
    gate = make_gate(rng, 2)
    expected = mixture_quantiles(gate, parts, np.append(LEVELS, [0.0, 1.0]))
    others = [
        (np.full(N_ROWS, 1e300), 1e-300, Gaussian()),
        (np.full(N_ROWS, -1e6), np.array([1.0, 1e-3]), StudentT()),
    ]
    wide = np.column_stack([gate, np.zeros((N_ROWS, 2))])
    found = mixture_quantiles(wide, parts + others, np.append(LEVELS, [0.0, 1.0]))
    assert_allclose(found, expected, rtol=1e-12)


def test_between_peaks_far_apart(rng):
    """A flat cdf, where Newton's step has no idea of the scale."""
    n = 40
    level = np.array([0.5 - 1e-9, 0.5, 0.5 + 1e-9, 0.5 + 1e-14])
    gate = np.full((n, 2), 0.5)
    for distance in (10.0, 30.0, 1e3, 1e6):
        mean = rng.normal(size=n)
        parts = [(mean, 1.0, Gaussian()), (mean + distance, 1e-2, Gaussian())]
        found = mixture_quantiles(gate, parts, level)
        assert np.isfinite(found).all()
        rows = np.arange(n)
        for j, q in enumerate(level):
            cdf = Parts(gate, parts).cdf(found[:, j], rows)
            assert_allclose(cdf, q, atol=2e-16 + 1e-15 * distance)
        # The tail of the right peak: 2e-9 of it, 5.88 of its deviations out.
        right = mean + distance + 0.1 * stats.norm.ppf(2e-9)
        if distance >= 30.0:
            assert_allclose(found[:, 2], right, atol=1e-6 + 1e-9 * distance)


@pytest.mark.parametrize("scale", [1e-150, 1e-12, 1e12, 1e150])
def test_any_unit(scale, rng):
    first, second = normal(rng, 0.5)[0], laplace(rng, 1.0)[0]
    gate = make_gate(rng, 2)
    expected = mixture_quantiles(gate, [first, second], LEVELS)
    scaled = [
        (scale * first[0], scale**2 * first[1], Gaussian()),
        (scale * second[0], scale * second[1], Laplace()),
    ]
    found = mixture_quantiles(gate, scaled, LEVELS)
    assert_allclose(found / scale, expected, rtol=1e-10, atol=1e-12)


def test_blocks_of_rows_change_nothing(monkeypatch, rng):
    gate, parts, _ = build("unlike", rng)
    expected = mixture_quantiles(gate, parts, LEVELS)
    for size in (1, 10, 50):
        monkeypatch.setattr(quantiles, "BLOCK_POINTS", size)
        found = mixture_quantiles(gate, parts, LEVELS)
        assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize(("name", "limit"), [("normal", 5.5), ("unlike", 7.5)])
def test_few_evaluations_are_enough(name, limit, monkeypatch, rng):
    """What the cost of large tables is made of: visits of a point."""
    visits = []
    cdf = Parts.cdf

    def counting(self, y, row):
        visits.append(row.size)
        return cdf(self, y, row)

    monkeypatch.setattr(Parts, "cdf", counting)
    gate, parts, _ = build(name, rng)
    found = mixture_quantiles(gate, parts, np.linspace(0.05, 0.95, 19))
    assert sum(visits) <= limit * found.size


def test_none_of_many_points_is_left_behind():
    """Among so many some make Newton's steps go to and fro for ever."""
    rng = np.random.default_rng(0)
    n, n_experts = 20_000, 8
    logit = rng.normal(size=(n, n_experts))
    gate = np.exp(logit - logsumexp(logit, axis=1, keepdims=True))
    deviations = rng.uniform(0.05, 2.0, size=n_experts)
    means = 2.0 * rng.normal(size=(n, n_experts))
    levels = np.array([0.025, 0.1, 0.5, 0.9, 0.975])
    parts = [(means[:, k], s**2, Gaussian()) for k, s in enumerate(deviations)]
    found = mixture_quantiles(gate, parts, levels)
    z = (found[:, :, None] - means[:, None]) / deviations
    cdf = (gate[:, None] * ndtr(z)).sum(axis=2)
    assert_allclose(cdf, np.tile(levels, (n, 1)), atol=1e-13)


def test_tails_that_overflow(rng):
    location = np.zeros(N_ROWS)
    heavy = (location, np.array([1.0, 1e-3]), StudentT())
    gate = np.full((N_ROWS, 2), 0.5)
    levels = np.array([0.1, 0.3, 0.5, 0.7, 0.9])
    with_normal = [heavy, (location + 5.0, 1.0, Gaussian())]
    found = mixture_quantiles(gate, with_normal, levels)
    assert not np.isnan(found).any()
    assert (np.diff(found, axis=1) > 0).all()
    cdf = Parts(gate, with_normal).cdf(found[:, 2], np.arange(N_ROWS))
    assert_allclose(cdf, 0.5, rtol=1e-12)


def test_parts_know_what_they_are(rng):
    smooth = Parts(make_gate(rng, 1), [normal(rng, 1.0)[0]])
    assert (smooth.smooth, smooth.jumping, smooth.lattice) == (True, False, False)
    mixed = Parts(make_gate(rng, 2), [normal(rng, 1.0)[0], point(0.5)[0]])
    assert (mixed.smooth, mixed.jumping, mixed.lattice) == (True, True, False)
    assert len(mixed.atoms) == 1
    counts = Parts(make_gate(rng, 2), [poisson(rng)[0], point(0.5)[0]])
    assert (counts.smooth, counts.jumping, counts.lattice) == (False, True, True)
    rows = np.arange(N_ROWS)
    # Between two integers the gamma function is no probability.
    assert_allclose(counts.mass(np.full(N_ROWS, 0.5), rows), counts.gate[:, 1])
    assert_array_equal(counts.mass(np.full(N_ROWS, 1.5), rows), 0.0)
    some = counts[3:5]
    assert_array_equal(some.gate, counts.gate[3:5])
    assert some.parts[0][0].shape == (2,)


@pytest.mark.parametrize("name", [*SMOOTH, "zero-adjusted", "counts and densities"])
def test_levels_learn_from_each_other(name, rng):
    """Many levels at once, in any order, with the ends among them: as one by one."""
    gate, parts, _ = build(name, rng)
    levels = np.array([0.9, 0.0, 0.05, 0.5, 1.0, 0.45, 1e-9, 0.999, 0.5, 0.7])
    table = mixture_quantiles(gate, parts, levels)
    one_by_one = [mixture_quantiles(gate, parts, q[None]) for q in levels]
    assert_allclose(table, np.hstack(one_by_one), rtol=1e-9, atol=1e-12)


def test_two_far_peaks_leave_every_level_where_it_is(rng):
    """A gap where the density underflows: interpolation says nothing there."""
    low, high = np.full(N_ROWS, -1e3), np.full(N_ROWS, 1e3)
    gate = np.tile([0.3, 0.7], (N_ROWS, 1))
    parts = [(low, 1e-4, Gaussian()), (high, 1e-4, Gaussian())]
    levels = np.linspace(0.05, 0.95, 19)
    found = mixture_quantiles(gate, parts, levels)
    below = levels < 0.3 - 1e-9
    expected = np.where(
        below,
        -1e3 + 0.01 * special.ndtri(np.where(below, levels / 0.3, 0.5)),
        1e3 + 0.01 * special.ndtri(np.where(below, 0.5, (levels - 0.3) / 0.7)),
    )
    apart = np.abs(levels - 0.3) > 1e-9
    assert_allclose(found[:, apart], np.tile(expected[apart], (N_ROWS, 1)), rtol=1e-12)


def test_one_kind_of_a_mixed_law(rng):
    gate, parts, _ = build("counts and densities", rng)
    whole, rows, y = Parts(gate, parts), np.arange(N_ROWS), np.full(N_ROWS, 2.0)
    kinds = [whole.of_kind(discrete=discrete) for discrete in (True, False)]
    assert [part.smooth for part in kinds] == [False, True]
    assert_allclose(kinds[0].cdf(y, rows) + kinds[1].cdf(y, rows), whole.cdf(y, rows))
    assert_allclose(kinds[0].mass(y, rows), whole.mass(y, rows))
    assert_allclose(kinds[1].density(y, rows), whole.density(y, rows))
