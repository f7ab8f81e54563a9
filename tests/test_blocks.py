"""Blocks of rows, standardised designs, grams and their systems."""

import numpy as np
import pytest
from scipy import sparse

from skmoe._blocks import (
    Design,
    half_products,
    row_blocks,
    solve_psd,
    unpack_grams,
)


@pytest.fixture
def rng():
    return np.random.default_rng(1)


@pytest.mark.parametrize("n_rows", [0, 1, 7, 8, 9, 4096, 10_000])
def test_blocks_cover_the_rows_once(n_rows):
    for size in (1, 8, 4096):
        if n_rows // size > 2000:
            continue
        rows = [np.arange(n_rows)[block] for block in row_blocks(n_rows, size)]
        assert all(0 < part.size <= size for part in rows)
        joined = np.concatenate([np.arange(0), *rows])
        np.testing.assert_array_equal(joined, np.arange(n_rows))


def test_design_is_standardised_by_weight(rng):
    X = rng.normal(size=(50, 3)) * [1e-8, 1.0, 1e8] + [1.0, 0.0, -1e9]
    weight = rng.uniform(0.0, 2.0, size=50)
    Z = Design(X, weight).matrix(X)
    assert Z.shape == (4, 50)
    np.testing.assert_array_equal(Z[0], 1.0)
    np.testing.assert_allclose(Z[1:] @ weight / weight.sum(), 0.0, atol=1e-6)
    np.testing.assert_allclose(Z[1:] ** 2 @ weight / weight.sum(), 1.0, rtol=1e-6)


@pytest.mark.parametrize("intercept", [True, False])
def test_design_of_weights_is_that_of_repetitions(rng, intercept):
    X, count = rng.normal(size=(30, 2)), rng.integers(1, 5, size=30)
    one = Design(X, count.astype(float), intercept=intercept)
    repeated = np.repeat(X, count, axis=0)
    other = Design(repeated, np.ones(count.sum()), intercept=intercept)
    np.testing.assert_allclose(one.matrix(X), other.matrix(X), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("value", [0.0, 1e-300, 7.25, 1e12, 1 / 3])
@pytest.mark.parametrize("make", [np.asarray, sparse.csr_array])
def test_a_column_that_does_not_vary_becomes_zero(rng, value, make):
    X = np.column_stack([rng.normal(size=40), np.full(40, value)])
    weight = rng.uniform(0.5, 2.0, size=40)
    design = Design(make(X), weight)
    assert design.inverse_scale[1] == 0.0
    slope, _ = design.to_columns(np.ones(3))
    assert slope[1] == 0.0


def test_scale_without_an_intercept_is_the_root_mean_square(rng):
    X = np.column_stack([rng.normal(size=40) + 5.0, np.full(40, 2.0), np.zeros(40)])
    design = Design(X, np.ones(40), intercept=False)
    assert design.n_columns == 3
    np.testing.assert_array_equal(design.penalised, 1.0)
    Z = design.matrix(X)
    np.testing.assert_allclose((Z[:2] ** 2).mean(axis=1), 1.0, rtol=1e-12)
    np.testing.assert_array_equal(Z[2], 0.0)


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("make", [np.asarray, sparse.csr_array])
def test_linear_map_is_the_design_times_coefficients(rng, intercept, make):
    X = rng.normal(size=(60, 3)) * [1e-3, 1.0, 1e3] + [0.0, 2.0, 0.0]
    X[np.abs(X) < 0.3] = 0.0
    rows = make(X)
    design = Design(rows, rng.uniform(size=60), intercept=intercept)
    coef = rng.normal(size=(4, design.n_columns))
    expected = (coef @ design.matrix(rows)).T
    np.testing.assert_allclose(design.linear_map(coef, rows), expected, atol=1e-10)
    slope, intercepts = design.to_columns(coef)
    np.testing.assert_allclose(X @ slope.T + intercepts, expected, atol=1e-10)
    single, one = design.to_columns(coef[0])
    np.testing.assert_allclose(single, slope[0])
    np.testing.assert_allclose(one, intercepts[0])


def test_blocks_of_a_design_are_those_of_the_whole(rng):
    X = rng.normal(size=(9000, 2))
    design = Design(X, np.ones(9000))
    whole = design.matrix(X)
    for rows in row_blocks(9000, 700):
        np.testing.assert_array_equal(design.block(X, rows), whole[:, rows])


@pytest.mark.parametrize("p", [1, 2, 5])
def test_one_product_gives_all_weighted_grams(rng, p):
    Z, W = rng.normal(size=(p, 30)), rng.uniform(size=(4, 30))
    half = half_products(Z)
    assert half.shape == (p * (p + 1) // 2, 30)
    grams = unpack_grams(half @ W.T, p)
    expected = np.einsum("in,kn,jn->kij", Z, W, Z)
    np.testing.assert_allclose(grams, expected, rtol=1e-12, atol=1e-12)
    out = np.full_like(half, np.nan)
    assert half_products(Z, out) is out
    np.testing.assert_array_equal(out, half)


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
@pytest.mark.parametrize("n_right", [None, 3])
def test_solve_a_regular_system(rng, scale, n_right):
    A = rng.normal(size=(5, 20))
    units = np.diag([1.0, scale, 1.0, 1.0, 1.0 / scale])
    matrix = units @ A @ A.T @ units
    x = rng.normal(size=5 if n_right is None else (5, n_right))
    right = units @ A @ A.T @ x
    np.testing.assert_allclose(units @ solve_psd(matrix, right), x, rtol=1e-8)


@pytest.mark.parametrize("n_right", [None, 2])
def test_solve_a_singular_system(rng, n_right):
    """Of all solutions the one of least norm, in units of the diagonal."""
    A = rng.normal(size=(3, 20))
    A = np.vstack([A, A[1]])
    matrix = A @ A.T
    right = matrix @ rng.normal(size=4 if n_right is None else (4, n_right))
    found = solve_psd(matrix, right)
    np.testing.assert_allclose(matrix @ found, right, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(found[1], found[3], rtol=1e-6)


def test_directions_without_information_get_zero():
    np.testing.assert_array_equal(solve_psd(np.zeros((3, 3)), np.ones(3)), 0.0)
    matrix = np.diag([4.0, 0.0, 1e-300])
    found = solve_psd(matrix, np.array([2.0, 1e-20, 0.0]))
    np.testing.assert_allclose(found, [0.5, 0.0, 0.0])


def test_solve_leaves_its_arguments_alone(rng):
    A = rng.normal(size=(4, 9))
    for matrix in (A @ A.T, A[:, :2] @ A[:, :2].T):
        right = rng.normal(size=4)
        kept = matrix.copy(), right.copy()
        solve_psd(matrix, right)
        np.testing.assert_array_equal(matrix, kept[0])
        np.testing.assert_array_equal(right, kept[1])
