"""Modes of mixtures against grids, brute force and each other."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats
from scipy.special import logsumexp

from skmoe.law._modes import gaussian_modes, log_sum, searched_modes
from skmoe.likelihoods import (
    Binomial,
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

N_ROWS = 60


def make_gate(rng, n_experts):
    logit = 1.5 * rng.normal(size=(N_ROWS, n_experts))
    return logit - logsumexp(logit, axis=1, keepdims=True)


def height(log_gate, parts, y):
    """Return the log density or probability of every row at y."""
    joint = [family.log_prob(y, params, spread) for params, spread, family in parts]
    with np.errstate(divide="ignore"):
        return logsumexp(log_gate + np.stack(joint, axis=1), axis=1)


def places(rng, size=1.5):
    return size * rng.normal(size=N_ROWS)


def intervals(rng):
    low = places(rng)
    return np.column_stack([low, low + rng.uniform(1, 3, size=N_ROWS)])


SMOOTH = {
    "student": lambda r: [
        (places(r), np.array([0.3, 3.0]), StudentT()),
        (places(r), np.array([1.0, 1.5]), StudentT()),
    ],
    "rows": lambda r: [
        (np.column_stack([places(r), r.uniform(0.1, 2, N_ROWS)]), None, RowGaussian())
        for _ in range(3)
    ],
    "gamma": lambda r: [
        (np.exp(places(r, 0.5)), 0.1, Gamma()),
        (np.exp(places(r, 0.5)), 0.4, Gamma()),
    ],
    "unlike": lambda r: [
        (places(r), 0.2, Gaussian()),
        (intervals(r), None, Uniform()),
        (np.exp(places(r, 0.5)), 0.3, Gamma()),
    ],
    "kinks": lambda r: [(places(r), 0.3, Laplace()), (places(r), 0.8, Laplace())],
}


@pytest.mark.parametrize("name", SMOOTH)
def test_mode_is_the_highest_point_of_a_grid(name, rng):
    parts = SMOOTH[name](rng)
    log_gate = make_gate(rng, len(parts))
    mode = searched_modes(log_gate, parts)
    assert mode.shape == (N_ROWS,)
    top = height(log_gate, parts, mode)
    grid = np.linspace(-8, 12, 8001)
    others = [height(log_gate, parts, np.full(N_ROWS, y)) for y in grid]
    assert (top >= np.max(others, axis=0) - 1e-9).all()
    for step in (-1e-3, 1e-3, -1e-5, 1e-5):
        assert (height(log_gate, parts, mode + step) <= top + 1e-13).all()


def test_search_equals_the_fixed_point_steps_of_normal_densities(rng):
    means = [places(rng) for _ in range(3)]
    variances = [0.05, 0.6, 3.0]
    log_gate = make_gate(rng, 3)
    parts = [(m, v, Gaussian()) for m, v in zip(means, variances, strict=True)]
    table = np.stack(means, axis=1)[:, :, None]
    expected = gaussian_modes(log_gate, table, variances)[:, 0]
    assert_allclose(searched_modes(log_gate, parts), expected, atol=1e-8)


@pytest.mark.parametrize("scale", [1e-9, 1e9])
def test_search_in_any_unit(scale, rng):
    means = [places(rng), places(rng)]
    log_gate = make_gate(rng, 2)
    plain = [(means[0], 0.4, Laplace()), (means[1], np.array([0.5, 3.0]), StudentT())]
    scaled = [
        (scale * means[0], scale * 0.4, Laplace()),
        (scale * means[1], np.array([scale**2 * 0.5, 3.0]), StudentT()),
    ]
    found = searched_modes(log_gate, scaled) / scale
    assert_allclose(found, searched_modes(log_gate, plain), atol=1e-7)


COUNTS = {
    "poisson": lambda r: [
        (np.exp(places(r)), None, Poisson()),
        (np.exp(places(r) + 2), None, Poisson()),
    ],
    "large": lambda r: [
        (5e3 + 100 * places(r), None, Poisson()),
        (5e3 + 100 * places(r), 30.0, NegativeBinomial()),
    ],
    "zero-inflated": lambda r: [
        (np.zeros(N_ROWS), None, PointMass()),
        (np.exp(places(r) + 1), 2.0, NegativeBinomial()),
    ],
    "trials": lambda r: [
        (np.column_stack([r.random(N_ROWS), np.full(N_ROWS, 20.0)]), None, Binomial()),
        (np.column_stack([r.random(N_ROWS), np.full(N_ROWS, 9.0)]), None, Binomial()),
    ],
}


@pytest.mark.parametrize("name", COUNTS)
def test_counts_against_brute_force(name, rng):
    parts = COUNTS[name](rng)
    log_gate = make_gate(rng, len(parts))
    mode = searched_modes(log_gate, parts)
    assert_array_equal(mode, np.round(mode))
    top = height(log_gate, parts, mode)
    last = 300 if name != "large" else 7000
    every = range(0, last) if name != "large" else range(3000, last)
    best = np.max(
        [height(log_gate, parts, np.full(N_ROWS, float(y))) for y in every], 0
    )
    assert_allclose(top, best, rtol=1e-12)


def test_one_expert_has_its_own_mode(rng):
    log_gate = np.zeros((N_ROWS, 1))
    for make in (*SMOOTH.values(), *COUNTS.values()):
        for params, dispersion, family in make(rng):
            found = searched_modes(log_gate, [(params, dispersion, family)])
            own = family.mode(params, dispersion)
            assert_allclose(found, own, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("dispersion", [1.0, 1.5, 20.0])
def test_a_density_without_a_peak_is_highest_at_its_end(dispersion, rng):
    mean = np.exp(places(rng))
    found = searched_modes(np.zeros((N_ROWS, 1)), [(mean, dispersion, Gamma())])
    assert_allclose(found, 0.0, atol=1e-50)
    if dispersion > 1.0:  # a pole is higher than any peak
        log_gate = np.log(np.full((N_ROWS, 2), 0.5))
        parts = [(mean, dispersion, Gamma()), (places(rng) + 9, 0.1, Gaussian())]
        assert_allclose(searched_modes(log_gate, parts), 0.0, atol=1e-50)


def test_of_a_mixed_law_the_more_probable_kind_counts(rng):
    share = np.linspace(0.05, 0.95, N_ROWS)
    log_gate = np.log(np.column_stack([share, 0.7 * (1 - share), 0.3 * (1 - share)]))
    densities = [(places(rng), 0.1, Gaussian()), (places(rng), 2.0, Gaussian())]
    parts = [(np.full(N_ROWS, 0.25), None, PointMass()), *densities]
    found = searched_modes(log_gate, parts)
    alone = searched_modes(log_gate[:, 1:], densities)
    assert_array_equal(found, np.where(share >= 0.5, 0.25, alone))


def test_atoms_between_counts(rng):
    """A Poisson probability at one half is none, whatever the gamma function says."""
    parts = [
        (np.full(N_ROWS, 0.5), None, PointMass()),
        (np.full(N_ROWS, 0.9), None, Poisson()),
    ]
    share = np.linspace(0.01, 0.99, N_ROWS)
    found = searched_modes(np.log(np.column_stack([share, 1 - share])), parts)
    at_zero = (1 - share) * stats.poisson(0.9).pmf(0)
    assert_array_equal(found, np.where(share > at_zero, 0.5, 0.0))


def test_experts_without_weight_take_no_part(rng):
    parts = SMOOTH["student"](rng)
    log_gate = make_gate(rng, 2)
    others = [
        (np.full(N_ROWS, 3.0), 1e-300, Gaussian()),
        (np.zeros(N_ROWS), None, PointMass()),
    ]
    wide = np.column_stack([log_gate, np.full((N_ROWS, 2), -np.inf)])
    found = searched_modes(wide, parts + others)
    assert_array_equal(found, searched_modes(log_gate, parts))
    # Some rows only.
    wide[::2] = [-np.inf, -np.inf, 0.0, -np.inf]
    found = searched_modes(wide, parts + others)
    assert_array_equal(found[::2], 3.0)
    assert_array_equal(found[1::2], searched_modes(log_gate, parts)[1::2])


def test_log_sum():
    joint = np.array([[0.0, np.log(3.0)], [-np.inf, -np.inf], [-1e5, -1e5]])
    found = log_sum(joint)
    assert_allclose(found[[0, 2]], [np.log(4.0), -1e5 + np.log(2.0)])
    assert found[1] == -np.inf
