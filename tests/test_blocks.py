"""Blocks of rows, standardised designs, grams and their systems."""

import numpy as np
import pytest
from scipy import sparse

from skmoe._blocks import (
    Design,
    half_products,
    row_blocks,
    solve_psd,
    solve_psd_stack,
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


def stack_of(rng, kinds, p=5):
    """Return matrices of the given kinds: all have a solution for ``A @ x``."""
    return np.stack([system_of(rng, kind, p) for kind in kinds])


def system_of(rng, kind, p):
    A = rng.normal(size=(p, 4 * p))
    if kind == "twins":
        A[-1] = A[0]
    elif kind == "rank one":
        A = np.outer(rng.normal(size=p), rng.normal(size=4 * p))
    elif kind == "dull":
        A[1] = 0.0
    elif kind == "scaled":
        A *= np.logspace(-40, 40, p)[:, None]
    elif kind == "nearly":
        A[-1] = A[0] + 1e-7 * A[-1]
    elif kind == "empty":
        A *= 0.0
    return A @ A.T


def right_of(matrices, rng, n_right):
    """Return right sides whose solutions are of one size in units of the columns."""
    scale = np.sqrt(np.diagonal(matrices, axis1=1, axis2=2))[:, :, None]
    x = rng.normal(size=(*scale.shape[:2], n_right))
    return matrices @ np.divide(x, scale, out=np.zeros_like(x), where=scale > 0.0)


SYSTEMS = ["regular", "scaled", "twins", "rank one", "dull", "nearly", "empty"]
STACKS = [
    ["regular"],
    ["regular", "regular", "scaled"],
    ["regular", "twins", "scaled"],
    ["empty", "empty"],
    SYSTEMS,
    SYSTEMS[::-1],
]


@pytest.mark.parametrize("kinds", STACKS, ids="-".join)
@pytest.mark.parametrize("n_right", [1, 3])
def test_a_stack_of_systems_is_solved_one_by_one(rng, kinds, n_right):
    """Regular, badly scaled and singular ones side by side, to 1e-13 of a step."""
    matrices = stack_of(rng, kinds)
    right = right_of(matrices, rng, n_right)
    kept = matrices.copy(), right.copy()
    found = solve_psd_stack(matrices, right)
    assert found.shape == right.shape
    for kind, matrix, rhs, ours in zip(kinds, matrices, right, found, strict=True):
        theirs = solve_psd(matrix, rhs)
        # In units of the columns, as the systems are solved.
        scale = np.sqrt(np.diagonal(matrix))[:, None]
        size = np.abs(scale * theirs).max()
        np.testing.assert_allclose(
            scale * ours, scale * theirs, rtol=0.0, atol=1e-13 * size, err_msg=kind
        )
    np.testing.assert_array_equal(matrices, kept[0])
    np.testing.assert_array_equal(right, kept[1])


@pytest.mark.parametrize("distance", [1e-2, 1e-4, 1e-5, 1e-6, 1e-8])
def test_nearly_equal_columns_on_either_side_of_the_threshold(rng, distance):
    """Factor or eigenvectors: what is solved for is met all the same."""
    A = rng.normal(size=(5, 20))
    A[-1] = A[0] + distance * A[-1]
    matrices = np.stack([A @ A.T, np.eye(5)])
    right = right_of(matrices, rng, 2)
    found = solve_psd_stack(matrices, right)
    np.testing.assert_allclose(matrices @ found, right, rtol=0.0, atol=1e-8)
    assert np.abs(found).max() < 1e3
    # What cannot be told apart is shared; what can be is not.
    apart = np.abs(found[0, 0] - found[0, -1]).min()
    assert apart < 1e-3 if distance < 1e-5 else apart > 0.1


def test_singular_systems_do_not_cost_the_others_their_batch(rng, monkeypatch):
    """A dull column is seen at once, and its system alone is taken out."""
    calls = []

    def counted(matrix, right):
        calls.append(1)
        return solve_psd(matrix, right)

    monkeypatch.setattr("skmoe._blocks.solve_psd", counted)
    for kinds, n_calls in (
        (["regular", "scaled", "regular"], 0),
        (["regular", "dull", "regular", "empty"], 2),
        (["regular", "nearly"], 1),
    ):
        matrices = stack_of(rng, kinds)
        calls.clear()
        solve_psd_stack(matrices, right_of(matrices, rng, 1))
        assert len(calls) == n_calls


def test_a_singular_neighbour_leaves_the_others_alone(rng):
    matrices = stack_of(rng, ["regular", "scaled", "regular"])
    right = right_of(matrices, rng, 2)
    alone = solve_psd_stack(matrices, right)
    for kind in ("twins", "empty", "dull"):
        more = np.concatenate([stack_of(rng, [kind]), matrices])
        rhs = np.concatenate([np.zeros((1, 5, 2)), right])
        among = solve_psd_stack(more, rhs)
        np.testing.assert_array_equal(among[0], 0.0)
        np.testing.assert_allclose(among[1:], alone, rtol=1e-9)


def test_stacked_solutions_of_singular_systems_have_least_norm(rng):
    matrices = stack_of(rng, ["twins", "regular", "dull"])
    right = right_of(matrices, rng, 2)
    found = solve_psd_stack(matrices, right)
    np.testing.assert_allclose(matrices @ found, right, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(found[0, 0], found[0, -1], rtol=1e-7)
    np.testing.assert_array_equal(found[2, 1], 0.0)


@pytest.mark.parametrize("scale", [1e-150, 1e-60, 1e60, 1e150])
def test_a_stack_in_any_unit(rng, scale):
    matrices = stack_of(rng, ["regular", "regular", "twins"])
    right = right_of(matrices, rng, 1)
    plain = solve_psd_stack(matrices, right)
    found = solve_psd_stack(scale * matrices, scale * right)
    np.testing.assert_allclose(found, plain, rtol=1e-9)


@pytest.mark.parametrize("shape", [(0, 4, 2), (3, 0, 2), (2, 4, 0)])
def test_an_empty_stack(shape):
    k, p, _ = shape
    matrices = np.broadcast_to(np.eye(p), (k, p, p))
    assert solve_psd_stack(matrices, np.zeros(shape)).shape == shape


def test_an_indefinite_system_of_a_stack_does_not_run_away(rng):
    """Rounding may leave a gram with a negative eigenvalue: it gets no say."""
    vector = np.array([[1.0, 2.0, -1.0]])
    matrix = vector.T @ vector - 1e-14 * np.eye(3)
    with pytest.raises(np.linalg.LinAlgError):
        np.linalg.cholesky(matrix)
    found = solve_psd_stack(np.stack([matrix, np.eye(3)]), np.ones((2, 3, 1)))
    assert np.abs(found[0]).max() < 2.0
    np.testing.assert_allclose(found[1], 1.0, rtol=1e-14)
