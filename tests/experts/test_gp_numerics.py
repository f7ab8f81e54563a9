"""The exact process against scipy, scikit-learn, finite differences, refits."""

import numpy as np
import pytest
from scipy import linalg, stats
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import (
    RBF,
    ConstantKernel,
    DotProduct,
    Matern,
    RationalQuadratic,
)

from skmoe.experts._gp_numerics import (
    ExactProcess,
    cholesky,
    evaluate_exact,
    log_normaliser,
    predict_blocks,
)
from skmoe.experts._gp_rows import WeightedRows
from tests._asserts import assert_gradient

KERNEL = ConstantKernel(1.3) * RBF([0.7, 2.0]) + ConstantKernel(0.5, "fixed")
KERNELS = {
    "ard": KERNEL,
    "matern": ConstantKernel(0.8) * Matern(1.1, nu=2.5),
    "sum": RBF(0.5) + ConstantKernel(0.3) * DotProduct(0.4),
    "quadratic": RationalQuadratic(0.9, 1.4),
    "fixed": RBF(0.8, "fixed"),
}


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def make_rows(rng, size=14, scatter=0.0):
    points = rng.normal(size=(size, 2))
    target = np.sin(points[:, 0]) + 0.4 * rng.normal(size=size)
    return WeightedRows(points, target, rng.uniform(0.05, 3.0, size), scatter)


def with_weight(rows, weight):
    return WeightedRows(rows.points, rows.target, weight, rows.scatter)


def evidence(kernel, noise, rows):
    return ExactProcess(kernel, noise, rows).evidence


# -- the evidence --------------------------------------------------------------


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
def test_evidence_is_the_normal_density_and_the_normaliser(rng, kernel):
    rows, noise = make_rows(rng, scatter=1.7), 0.3
    own = noise / rows.weight
    density = stats.multivariate_normal(cov=kernel(rows.points) + np.diag(own))
    expected = density.logpdf(rows.target) + 0.5 * np.sum(
        np.log(2.0 * np.pi * own) - rows.weight * np.log(2.0 * np.pi * noise)
    )
    expected -= 0.5 * rows.scatter / noise
    np.testing.assert_allclose(evidence(kernel, noise, rows), expected, rtol=1e-11)
    np.testing.assert_allclose(
        evaluate_exact(kernel, noise, rows)[0], expected, rtol=1e-11
    )


def test_evidence_is_the_integral_of_the_bound(rng):
    """exp(sum q log N(y; f, s2)) integrated over the prior of f, by Monte Carlo."""
    rows, noise = make_rows(rng, 3), 0.6
    factor = np.linalg.cholesky(KERNEL(rows.points))
    draws = factor @ rng.normal(size=(3, 400_000))
    log_lik = stats.norm(draws, np.sqrt(noise)).logpdf(rows.target[:, None])
    likelihood = np.exp(rows.weight @ log_lik)
    error = likelihood.std() / np.sqrt(likelihood.size)
    assert abs(likelihood.mean() - np.exp(evidence(KERNEL, noise, rows))) < 4 * error
    assert error < 0.01 * likelihood.mean()


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
def test_gradient(rng, kernel):
    rows = make_rows(rng, scatter=0.9)
    point = np.append(kernel.theta, np.log(0.3))

    def value(vector):
        return evidence(kernel.clone_with_theta(vector[:-1]), np.exp(vector[-1]), rows)

    gradient = evaluate_exact(kernel, 0.3, rows)[1]
    assert gradient.shape == point.shape
    assert_gradient(value, gradient, point, rng)


def test_gradient_with_next_to_no_weight(rng):
    rows = make_rows(rng)
    rows = with_weight(rows, rows.weight * np.where(np.arange(14) % 2, 1e-7, 1.0))
    point = np.append(KERNEL.theta, np.log(0.3))

    def value(vector):
        return evidence(KERNEL.clone_with_theta(vector[:-1]), np.exp(vector[-1]), rows)

    assert_gradient(value, evaluate_exact(KERNEL, 0.3, rows)[1], point, rng)


def test_log_normaliser_slope(rng):
    rows = make_rows(rng, scatter=2.2)

    def value(log_noise):
        return log_normaliser(rows, np.exp(log_noise[0]))[0]

    slope = log_normaliser(rows, 0.4)[1]
    assert_gradient(value, np.array([slope]), [np.log(0.4)], rng)


# -- weights -------------------------------------------------------------------


def test_weight_is_repetition(rng):
    rows = make_rows(rng)
    count = rng.integers(1, 4, size=14)
    weighted = with_weight(rows, count.astype(float))
    repeated = WeightedRows(
        np.repeat(rows.points, count, axis=0),
        np.repeat(rows.target, count),
        np.ones(count.sum()),
    )
    one, other = (ExactProcess(KERNEL, 0.2, r) for r in (weighted, repeated))
    np.testing.assert_allclose(one.evidence, other.evidence, rtol=1e-10)
    new = rng.normal(size=(5, 2))
    for mine, theirs in zip(one.predict(new), other.predict(new), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(
        evaluate_exact(KERNEL, 0.2, weighted)[1],
        evaluate_exact(KERNEL, 0.2, repeated)[1],
        rtol=1e-8,
        atol=1e-9,
    )


def test_rows_at_one_point_are_their_mean_and_scatter(rng):
    rows = make_rows(rng, 5)
    target, weight = rng.normal(size=3), np.array([0.3, 1.5, 0.9])
    points = np.vstack([rows.points, np.tile(rows.points[:1] + 1.0, (3, 1))])
    apart = WeightedRows(
        points, np.append(rows.target, target), np.append(rows.weight, weight)
    )
    mean = np.average(target, weights=weight)
    together = WeightedRows(
        points[:6],
        np.append(rows.target, mean),
        np.append(rows.weight, weight.sum()),
        float(weight @ (target - mean) ** 2),
    )
    np.testing.assert_allclose(
        evidence(KERNEL, 0.2, together), evidence(KERNEL, 0.2, apart), rtol=1e-10
    )
    np.testing.assert_allclose(
        evaluate_exact(KERNEL, 0.2, together)[1],
        evaluate_exact(KERNEL, 0.2, apart)[1],
        rtol=1e-8,
    )


@pytest.mark.parametrize("tiny", [0.0, 1e-300, 1e-16])
def test_row_without_weight_counts_for_nothing(rng, tiny):
    rows = make_rows(rng)
    weight = rows.weight.copy()
    weight[::3] = tiny
    kept = weight > 0.01
    one = ExactProcess(KERNEL, 0.2, with_weight(rows, weight))
    other = ExactProcess(KERNEL, 0.2, with_weight(rows, weight).take(kept))
    np.testing.assert_allclose(one.evidence, other.evidence, rtol=1e-10)
    new = rng.normal(size=(5, 2))
    for mine, theirs in zip(one.predict(new), other.predict(new), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-8, atol=1e-10)


# -- the law -------------------------------------------------------------------


def test_predictions_equal_scikit_learn(rng):
    rows, noise = make_rows(rng), 0.3
    peer = GaussianProcessRegressor(
        KERNEL, alpha=noise / rows.weight, optimizer=None
    ).fit(rows.points, rows.target)
    new = 2.0 * rng.normal(size=(9, 2))
    mean, deviation = peer.predict(new, return_std=True)
    got_mean, got_variance = ExactProcess(KERNEL, noise, rows).predict(new)
    np.testing.assert_allclose(got_mean, mean, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(got_variance, deviation**2, rtol=1e-7)


def test_far_away_it_is_the_prior(rng):
    process = ExactProcess(RBF(1.0), 0.3, make_rows(rng))
    mean, variance = process.predict(np.full((1, 2), 50.0))
    np.testing.assert_allclose([mean[0], variance[0]], [0.0, 1.0], atol=1e-12)


def left_out(kernel, noise, rows):
    """Return what fits without each row say of it."""
    out = []
    for i in range(rows.weight.size):
        rest = np.arange(rows.weight.size) != i
        process = ExactProcess(kernel, noise, rows.take(rest))
        out.append(np.ravel(process.predict(rows.points[i : i + 1])))
    return np.array(out).T


@pytest.mark.parametrize("noise", [3.0, 0.1, 1e-4])
def test_leaving_rows_out_equals_refits(rng, noise):
    rows = make_rows(rng)
    got = ExactProcess(KERNEL, noise, rows).leave_out(rows)
    np.testing.assert_allclose(got, left_out(KERNEL, noise, rows), rtol=1e-6, atol=1e-9)


def test_leaving_rows_out_where_there_is_next_to_no_noise(rng):
    """Rows far apart: their own posterior is 1e-10 away from their response."""
    rows = make_rows(rng)
    rows = WeightedRows(5.0 * rows.points, rows.target, rows.weight)
    got = ExactProcess(KERNEL, 1e-10, rows).leave_out(rows)
    np.testing.assert_allclose(
        got, left_out(KERNEL, 1e-10, rows), rtol=1e-10, atol=1e-11
    )


def test_leaving_rows_out_of_little_weight(rng):
    rows = make_rows(rng)
    weight = rows.weight * 10.0 ** rng.uniform(-12, 0, size=14)
    weight[0] = 0.0
    rows = with_weight(rows, weight)
    got = ExactProcess(KERNEL, 0.1, rows).leave_out(rows)
    np.testing.assert_allclose(got, left_out(KERNEL, 0.1, rows), rtol=1e-8, atol=1e-10)


def test_leaving_a_row_out_forgets_its_response(rng):
    rows = make_rows(rng)
    moved = rows.target.copy()
    moved[4] += 1000.0
    other = WeightedRows(rows.points, moved, rows.weight)
    one = np.array(ExactProcess(KERNEL, 0.1, rows).leave_out(rows))
    two = np.array(ExactProcess(KERNEL, 0.1, other).leave_out(other))
    np.testing.assert_allclose(one[:, 4], two[:, 4], rtol=1e-8)
    assert np.abs(one[0] - two[0]).max() > 1.0  # the others do see it


# -- the rest ------------------------------------------------------------------


def test_kernel_that_is_no_covariance(rng):
    class Negative(RBF):
        def __call__(self, X, Y=None, eval_gradient=False):
            result = super().__call__(X, Y, eval_gradient)
            return (-result[0], -result[1]) if eval_gradient else -result

    with pytest.raises(linalg.LinAlgError):
        ExactProcess(Negative(5.0), 0.01, make_rows(rng))


@pytest.mark.parametrize("bad", [-1.0, np.nan])
def test_cholesky_of_bad_matrices_is_one_error(bad):
    with pytest.raises(linalg.LinAlgError):
        cholesky(np.array([[1.0, 0.0], [0.0, bad]]))


def test_blocks_make_no_difference(rng):
    process = ExactProcess(KERNEL, 0.3, make_rows(rng))
    new = rng.normal(size=(2500, 2))
    mean, variance = process.predict(new)
    some = process.predict(new[1020:1030])
    np.testing.assert_allclose(mean[1020:1030], some[0], rtol=1e-10)
    np.testing.assert_allclose(variance[1020:1030], some[1], rtol=1e-10)
    assert [part.shape for part in predict_blocks(process.predict, new[:0])] == [
        (0,),
        (0,),
    ]


def test_forget_keeps_the_law(rng):
    process = ExactProcess(KERNEL, 0.3, make_rows(rng))
    new = rng.normal(size=(4, 2))
    before = process.predict(new)
    process.forget()
    np.testing.assert_array_equal(process.predict(new), before)
