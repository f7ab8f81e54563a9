"""The sparse process: a lower bound, exact with all rows, proven densely."""

import numpy as np
import pytest
from scipy import stats
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct, Matern

from skmoe.experts._gp_numerics import ExactProcess
from skmoe.experts._gp_rows import WeightedRows
from skmoe.experts._gp_sparse import (
    SparseProcess,
    choose_inducing,
    cross_gradient,
    evaluate_sparse,
)
from tests._asserts import assert_gradient
from tests.experts.test_gp_numerics import KERNEL, KERNELS, make_rows, with_weight

NOISE = 0.25


@pytest.fixture
def rng():
    return np.random.default_rng(8)


@pytest.fixture
def rows(rng):
    return make_rows(rng, 40, scatter=0.7)


def bound(kernel, noise, rows, inducing):
    return SparseProcess(kernel, noise, rows, inducing).evidence


def dense_bound(kernel, noise, rows, inducing):
    """Return Titsias' bound from the full n by n matrices."""
    K_uu, K_uf = kernel(inducing), kernel(inducing, rows.points)
    Q = K_uf.T @ np.linalg.solve(K_uu, K_uf)
    own = noise / rows.weight
    gap = kernel.diag(rows.points) - np.diag(Q)
    return (
        stats.multivariate_normal(cov=Q + np.diag(own)).logpdf(rows.target)
        + 0.5 * np.sum(np.log(2 * np.pi * own))
        - 0.5 * rows.total * np.log(2 * np.pi * noise)
        - 0.5 * (rows.scatter + rows.weight @ gap) / noise
    )


# -- the bound -----------------------------------------------------------------


def test_bound_equals_the_dense_formula(rng, rows):
    inducing = rng.normal(size=(6, 2))
    expected = dense_bound(KERNEL, NOISE, rows, inducing)
    np.testing.assert_allclose(
        bound(KERNEL, NOISE, rows, inducing), expected, rtol=1e-6
    )
    value = evaluate_sparse(KERNEL, NOISE, rows, inducing)[0]
    np.testing.assert_allclose(value, expected, rtol=1e-6)


def test_bound_rises_to_the_evidence(rows):
    exact = ExactProcess(KERNEL, NOISE, rows).evidence
    values = []
    for most in (1, 3, 6, 12, 25, 39):
        chosen = choose_inducing(KERNEL, NOISE, rows, most)
        values.append(bound(KERNEL, NOISE, rows, rows.points[chosen]))
    # The jitter takes some nats away: a share of 1e-8 of each inducing row.
    assert np.diff(values).min() > -1e-4
    assert max(values) <= exact + 1e-9
    assert values[0] < exact - 1.0
    np.testing.assert_allclose(values[-1], exact, atol=1e-3)


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
def test_below_the_evidence_wherever_the_inducing_rows_are(rng, rows, kernel):
    exact = ExactProcess(kernel, NOISE, rows).evidence
    for _ in range(5):
        inducing = 2.0 * rng.normal(size=(7, 2))
        assert bound(kernel, NOISE, rows, inducing) < exact


def test_all_rows_inducing_is_the_exact_process(rng, rows):
    # Spread out, so that the jitter is all that differs.
    rows = WeightedRows(4.0 * rows.points, rows.target, rows.weight, rows.scatter)
    exact = ExactProcess(KERNEL, NOISE, rows)
    sparse = SparseProcess(KERNEL, NOISE, rows, rows.points)
    np.testing.assert_allclose(sparse.evidence, exact.evidence, atol=1e-4)
    new = rng.normal(size=(9, 2))
    np.testing.assert_allclose(sparse.predict(new), exact.predict(new), atol=1e-5)
    np.testing.assert_allclose(sparse.leave_out(rows), exact.leave_out(rows), atol=1e-4)


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
def test_gradient(rng, rows, kernel):
    inducing = rng.normal(size=(6, 2))
    point = np.append(kernel.theta, np.log(NOISE))

    def value(vector):
        kernel_there = kernel.clone_with_theta(vector[:-1])
        return bound(kernel_there, np.exp(vector[-1]), rows, inducing)

    gradient = evaluate_sparse(kernel, NOISE, rows, inducing)[1]
    assert gradient.shape == point.shape
    assert_gradient(value, gradient, point, rng)


@pytest.mark.parametrize("length", [0.3, 4.0])
@pytest.mark.parametrize("nu", [1.5, 2.5])
def test_gradient_between_points_is_that_of_the_stacked_square(rng, length, nu):
    """In closed form for the default's kernel, by differences for others."""
    kernel = ConstantKernel(2.0) * Matern(length, nu=nu) + ConstantKernel(1.0, "fixed")
    one, other = rng.normal(size=(4, 2)), rng.normal(size=(7, 2))
    other[0] = one[0]  # a distance of zero
    K, changes = cross_gradient(kernel, one, other)
    square, slopes = kernel(np.vstack([one, other]), eval_gradient=True)
    np.testing.assert_allclose(K, square[:4, 4:], rtol=1e-12)
    expected = np.moveaxis(slopes[:4, 4:], 2, 0)
    np.testing.assert_allclose(changes, expected, rtol=1e-7, atol=1e-9)


def test_gradient_of_a_fixed_or_long_scale_has_its_own_length(rng):
    one, other = rng.normal(size=(4, 2)), rng.normal(size=(7, 2))
    for kernel, size in (
        (Matern(1.0, "fixed", nu=2.5), 0),
        (Matern([1, 2], nu=2.5), 2),
    ):
        assert len(cross_gradient(kernel, one, other)[1]) == size


# -- weights -------------------------------------------------------------------


def test_weight_is_repetition(rng, rows):
    count = rng.integers(1, 4, size=40)
    repeated = WeightedRows(
        np.repeat(rows.points, count, axis=0),
        np.repeat(rows.target, count),
        np.ones(count.sum()),
        rows.scatter,
    )
    inducing = rng.normal(size=(6, 2))
    one, other = (
        SparseProcess(KERNEL, NOISE, r, inducing)
        for r in (with_weight(rows, count.astype(float)), repeated)
    )
    np.testing.assert_allclose(one.evidence, other.evidence, rtol=1e-9)
    new = rng.normal(size=(5, 2))
    np.testing.assert_allclose(one.predict(new), other.predict(new), rtol=1e-7)


def test_row_of_next_to_no_weight_is_gone(rng, rows):
    weight = rows.weight.copy()
    weight[::3] = 1e-12
    inducing = rng.normal(size=(6, 2))
    few = with_weight(rows, weight)
    one = SparseProcess(KERNEL, NOISE, few, inducing)
    other = SparseProcess(KERNEL, NOISE, few.take(weight > 0.01), inducing)
    np.testing.assert_allclose(one.evidence, other.evidence, rtol=1e-9)
    assert np.isfinite(one.leave_out(few)).all()


# -- leaving rows out ----------------------------------------------------------


@pytest.mark.parametrize("noise", [2.0, 0.25, 0.01])
def test_leaving_rows_out_equals_refits(rng, rows, noise):
    inducing = rng.normal(size=(8, 2))
    weight = rows.weight * 10.0 ** rng.uniform(-7, 0, size=40)
    rows = with_weight(rows, weight)
    mean, variance = SparseProcess(KERNEL, noise, rows, inducing).leave_out(rows)
    for i in range(0, 40, 3):
        rest = np.arange(40) != i
        process = SparseProcess(KERNEL, noise, rows.take(rest), inducing)
        expected = np.ravel(process.predict(rows.points[i : i + 1]))
        np.testing.assert_allclose([mean[i], variance[i]], expected, rtol=1e-6)


# -- the choice of inducing rows -------------------------------------------------


def test_no_choice_where_there_are_few_rows(rows):
    assert choose_inducing(KERNEL, NOISE, rows, 40) is None
    assert choose_inducing(KERNEL, NOISE, rows, 39).size == 39


def test_choice_is_greedy(rows):
    """Each row has the largest weighted gap given those before it."""
    chosen = choose_inducing(KERNEL, NOISE, rows, 8)
    assert np.unique(chosen).size == 8
    K = KERNEL(rows.points)
    for count in range(8):
        before = chosen[:count]
        Q = K[:, before] @ np.linalg.solve(K[np.ix_(before, before)], K[before])
        gap = rows.weight * np.diag(K - Q)
        assert gap[chosen[count]] >= gap.max() - 1e-9


def test_choice_prefers_rows_of_weight(rows):
    weight = np.where(np.arange(40) < 20, rows.weight, 1e-7)
    chosen = choose_inducing(KERNEL, NOISE, with_weight(rows, weight), 10)
    assert chosen.max() < 20


def test_choice_ends_where_nothing_is_left(rng):
    rows = make_rows(rng, 40)
    line = ConstantKernel(2.0) * DotProduct(1.0)  # of rank three
    assert choose_inducing(line, NOISE, rows, 30).size == 3


def test_choice_follows_the_rows(rng, rows):
    order = rng.permutation(40)
    moved = rows.take(order)
    one = choose_inducing(KERNEL, NOISE, rows, 12)
    other = choose_inducing(KERNEL, NOISE, moved, 12)
    np.testing.assert_array_equal(order[other], one)


# -- the rest ------------------------------------------------------------------


def test_near_equal_inducing_rows_have_a_factor(rng, rows):
    inducing = np.repeat(rng.normal(size=(5, 2)), 3, axis=0)
    process = SparseProcess(Matern(1.0, nu=2.5), NOISE, rows, inducing)
    apart = SparseProcess(Matern(1.0, nu=2.5), NOISE, rows, inducing[::3])
    np.testing.assert_allclose(process.evidence, apart.evidence, atol=1e-4)


def test_far_away_it_is_the_prior(rng, rows):
    process = SparseProcess(RBF(1.0), NOISE, rows, rng.normal(size=(6, 2)))
    mean, variance = process.predict(np.full((1, 2), 50.0))
    np.testing.assert_allclose([mean[0], variance[0]], [0.0, 1.0], atol=1e-12)


def test_forget_keeps_the_law_and_little_else(rng):
    rows = make_rows(rng, 300)
    process = SparseProcess(KERNEL, NOISE, rows, rows.points[:5])
    new = rng.normal(size=(4, 2))
    before = process.predict(new)
    process.forget()
    np.testing.assert_array_equal(process.predict(new), before)
    sizes = [np.size(value) for value in vars(process).values()]
    assert max(sizes) < 300
