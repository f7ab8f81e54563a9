"""CRPS against closed forms, integration of SciPy's cdf, and draws."""

from itertools import pairwise

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import integrate, stats

import skmoe.law._crps as module
from skmoe.law._crps import mixture_crps
from skmoe.law._quantiles import Parts
from skmoe.likelihoods import (
    Gamma,
    Gaussian,
    Laplace,
    NegativeBinomial,
    PointMass,
    Poisson,
    RowGaussian,
    StudentT,
    Uniform,
)
from tests.law.laws import (
    COUNTS,
    MIXED,
    N_ROWS,
    SMOOTH,
    build,
    make_gate,
    point,
    scipy_cdf,
)

ONE = np.ones((N_ROWS, 1))


def integral(gate, parts, laws, i, y):
    """Return the defining integral of a row, split at quantiles and at y."""
    levels = [1e-13, 1e-9, 1e-6, 1e-3, 0.03, 0.2, 0.5, 0.8, 0.97, 1 - 1e-3]
    levels = [*levels, 1 - 1e-6, 1 - 1e-9, 1 - 1e-13]
    cuts = {y, *(float(law[i].ppf(q)) for law in laws for q in levels)}
    if any(family.discrete for _, _, family in parts):
        cuts |= {float(c) for c in range(int(min(cuts)) - 1, int(max(cuts)) + 2)}
    cuts = sorted(cuts)

    def square(t):
        return (scipy_cdf(gate, laws, i, t) - (t >= y)) ** 2

    total = 0.0
    for low, high in pairwise(cuts):
        if all(family.discrete for _, _, family in parts):
            total += (high - low) * square(0.5 * (low + high))
        else:
            total += integrate.quad(square, low, high, epsabs=1e-11, epsrel=1e-9)[0]
    return total


@pytest.mark.parametrize("name", [*SMOOTH, *COUNTS, *MIXED])
def test_against_integration(name, rng):
    gate, parts, laws = build(name, rng)
    gate, parts = gate[:2], [(p[:2], *rest) for p, *rest in parts]
    y = np.array([laws[0][0].ppf(0.3), laws[1][1].ppf(0.9) + 1.0])
    found = mixture_crps(gate, parts, y)
    expected = [integral(gate, parts, laws, i, float(y[i])) for i in range(2)]
    assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


# Draws of 1.2 degrees of freedom have no variance.
DRAWN = [name for name in (*SMOOTH, *COUNTS, *MIXED) if name != "heavy tails"]


@pytest.mark.parametrize("name", DRAWN)
def test_against_draws(name, rng):
    gate, parts, _ = build(name, rng)
    n = 40_000
    winner = np.argmax(rng.random((n, N_ROWS, 1)) < gate.cumsum(axis=1), axis=2)
    each = [family.sample(p, spread, n, rng) for p, spread, family in parts]
    draws = np.choose(winner, each)
    y = draws[0]
    distance = np.abs(draws - y)
    pairs = np.abs(draws[: n // 2] - draws[n // 2 :])
    error = np.sqrt(distance.var(axis=0) / n + 0.5 * pairs.var(axis=0) / n)
    expected = distance.mean(axis=0) - 0.5 * pairs.mean(axis=0)
    found = mixture_crps(gate, parts, y)
    assert (np.abs(found - expected) <= 5.0 * error + 1e-9).all()


def closed_gaussian(y, mean, scale):
    z = (y - mean) / scale
    rest = z * (2 * stats.norm.cdf(z) - 1) + 2 * stats.norm.pdf(z)
    return scale * (rest - 1 / np.sqrt(np.pi))


def closed_laplace(y, mean, b):
    z = np.abs(y - mean) / b
    return b * (z + np.exp(-z) - 0.75)


def closed_uniform(y, low, high):
    inner = np.clip((y - low) / (high - low), 0, 1)
    away = np.maximum(low - y, 0) + np.maximum(y - high, 0)
    return away + (high - low) * (inner**3 + (1 - inner) ** 3) / 3


def closed_gamma(y, mean, dispersion):
    shape, scale = 1 / dispersion, mean * dispersion
    below, more = stats.gamma(shape).cdf(y / scale), stats.gamma(shape + 1)
    first = y * (2 * below - 1) - mean * (2 * more.cdf(y / scale) - 1)
    from scipy.special import beta

    return first - mean / (shape * beta(0.5, shape))


def closed_student(y, mean, scale, df):
    from scipy.special import beta

    z, law = (y - mean) / scale, stats.t(df)
    first = z * (2 * law.cdf(z) - 1) + 2 * law.pdf(z) * (df + z * z) / (df - 1)
    spread = np.sqrt(df) / (df - 1) * beta(0.5, df - 0.5) / beta(0.5, 0.5 * df) ** 2
    return scale * (first - 2 * spread)


@pytest.mark.parametrize("shift", [-4.0, -0.3, 0.0, 1.7, 60.0])
def test_single_families_in_closed_form(shift, rng):
    """Formulas of Gneiting and Raftery, and of Jordan, Krueger and Lerch (2019)."""
    mean = rng.normal(size=N_ROWS)
    y = mean + shift
    positive, at = np.exp(mean), np.abs(y)
    cases = [
        ((mean, 0.3, Gaussian()), y, closed_gaussian(y, mean, np.sqrt(0.3))),
        ((mean, 0.4, Laplace()), y, closed_laplace(y, mean, 0.4)),
        (
            (np.column_stack([mean - 1, mean + 2]), None, Uniform()),
            y,
            closed_uniform(y, mean - 1, mean + 2),
        ),
    ]
    for dispersion in (0.2, 1.0, 3.0):
        expected = closed_gamma(at, positive, dispersion)
        cases.append(((positive, dispersion, Gamma()), at, expected))
    for df in (1.3, 4.0, 30.0):
        expected = closed_student(y, mean, 0.5, df)
        cases.append(((mean, np.array([0.25, df]), StudentT()), y, expected))
    for part, response, expected in cases:
        found = mixture_crps(ONE, [part], response)
        assert_allclose(found, expected, rtol=2e-6, err_msg=repr(part[2]))


def test_rows_with_variances_of_their_own(rng):
    params = np.column_stack([rng.normal(size=N_ROWS), rng.gamma(2.0, size=N_ROWS)])
    y = rng.normal(size=N_ROWS)
    found = mixture_crps(ONE, [(params, None, RowGaussian())], y)
    assert_allclose(found, closed_gaussian(y, params[:, 0], np.sqrt(params[:, 1])))


def test_quadrature_agrees_with_the_closed_form(rng):
    n = 300
    gate = make_gate(rng, 5, n)
    parts = [(2 * rng.normal(size=n), v, Gaussian()) for v in (1e-9, 0.01, 0.5, 1, 30)]
    y = 2 * rng.normal(size=n)
    closed = mixture_crps(gate, parts, y)
    assert_allclose(module._integral(Parts(gate, parts), y), closed, rtol=1e-6)


def test_long_panels_of_counts_agree_with_all_integers(rng):
    gate = make_gate(rng, 2)
    mean = 400 * np.exp(0.3 * rng.normal(size=(2, N_ROWS)))
    parts = [(mean[0], None, Poisson()), (mean[1], 8.0, NegativeBinomial())]
    y = np.array([0.0, 90.5, 300, 400, 500, 5000] * 2)
    found, whole = mixture_crps(gate, parts, y), Parts(gate, parts)
    count = np.arange(0.0, 6000.0)
    for i in range(N_ROWS):
        cdf = whole.cdf(count, np.full(count.size, i))
        ahead = np.clip(count + 1 - y[i], 0, 1)  # share of [count, count + 1) above y
        expected = ((1 - ahead) * cdf**2 + ahead * (1 - cdf) ** 2).sum()
        assert_allclose(found[i], expected, rtol=1e-6)


def test_discrete_rule_is_exact_for_polynomials():
    size = np.arange(1.0, 60.0)
    node, weight = module._discrete_rule(size)
    assert (node < size[:, None])[weight > 0].all()
    for power in range(5):
        expected = [np.sum((np.arange(n) / n) ** power) for n in size]
        found = ((node / size[:, None]) ** power * weight).sum(axis=1)
        assert_allclose(found, expected, rtol=1e-9)


def test_graded_panels_cover_the_same():
    row = np.array([0, 0, 0, 1, 1])
    low = np.array([0.0, 1e-6, 1.0, -5.0, 0.0])
    width = np.array([1e-6, 1.0 - 1e-6, 2.0, 5.0, 1e-3])
    at, start, size = module._graded(row, low, width, np.full(2, 1e-9))
    assert_allclose(np.bincount(at, size), [3.0, 5.001])
    assert at.size > 20
    for i in range(2):
        order = np.argsort(start[at == i])
        ends = (start + size)[at == i][order]
        assert_allclose(ends[:-1], start[at == i][order][1:], atol=1e-12)
        widths = size[at == i][order]
        ratio = np.maximum(widths[1:] / widths[:-1], widths[:-1] / widths[1:])
        assert ratio.max() < 5.0


def test_a_point_mass_has_the_absolute_error(rng):
    y = rng.normal(size=N_ROWS)
    assert_allclose(mixture_crps(ONE, [point(0.3)[0]], y), np.abs(y - 0.3))
    # Two points: E|Y - y| - p (1 - p) distance.
    gate = make_gate(rng, 2)
    parts = [(np.full(N_ROWS, a), None, PointMass()) for a in (-1.0, 0.5)]
    expected = gate @ [0, 0] + gate[:, 0] * np.abs(y + 1) + gate[:, 1] * np.abs(y - 0.5)
    expected -= 1.5 * gate[:, 0] * gate[:, 1]
    assert_allclose(mixture_crps(gate, parts, y), expected)


@pytest.mark.parametrize("name", ["normal", "heavy tails", "poisson", "zero-adjusted"])
def test_is_proper(name, rng):
    """The law that y is drawn from has a lower score than another one."""
    gate, parts, _ = build(name, rng)
    many = [(np.repeat(p, 300, axis=0), *rest) for p, *rest in parts]
    gate = np.repeat(gate, 300, axis=0)
    winner = np.argmax(rng.random((len(gate), 1)) < gate.cumsum(axis=1), axis=1)
    y = np.choose(winner, [f.sample(p, s, 1, rng)[0] for p, s, f in many])
    own = mixture_crps(gate, many, y)
    other = mixture_crps(np.full_like(gate, 1 / gate.shape[1]), many, y)
    assert np.isfinite(own).all()
    assert own.mean() < other.mean()


def test_scales_with_the_unit(rng):
    gate, parts, _ = build("normal", rng)
    y = rng.normal(size=N_ROWS)
    scaled = [(1e6 * m, 1e12 * v, family) for m, v, family in parts]
    found = mixture_crps(gate, scaled, 1e6 * y)
    assert_allclose(found, 1e6 * mixture_crps(gate, parts, y))


def test_blocks_do_not_matter(rng, monkeypatch):
    for name in ("normal", "unlike", "poisson"):
        gate, parts, _ = build(name, rng)
        y = np.abs(np.round(rng.normal(size=N_ROWS)))
        whole = mixture_crps(gate, parts, y)
        monkeypatch.setattr(module, "BLOCK_POINTS", 1)
        monkeypatch.setattr(module, "GAUSSIAN_ROWS", 5)
        assert_allclose(mixture_crps(gate, parts, y), whole)
        monkeypatch.undo()
