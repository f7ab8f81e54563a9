"""Lasso steps of multinomial logits: optimality, exact zeros, the common shift."""

import numpy as np
import pytest
from scipy import optimize

import skmoe._elastic as elastic
from skmoe._elastic import (
    bound_target,
    lasso_maximum,
    newton_target,
    optimality_gap,
    shifted,
)
from skmoe._multinomial import joint_hessian
from tests.test_multinomial import gradient, hessian, logit_problem, pair_grams, value


@pytest.fixture
def rng():
    return np.random.default_rng(11)


def quadratic(rng, n=12, rank=None, spread=1.0):
    """Return a model: Hessian, slope, start and weights of absolute values."""
    root = rng.normal(size=(n, rank or 2 * n)) * spread ** rng.uniform(-1, 1, (n, 1))
    matrix = root @ root.T
    slope = matrix @ rng.normal(size=n)  # bounded whatever the rank
    threshold = np.abs(slope).max() * rng.uniform(0.05, 0.4, size=n)
    threshold[:2] = 0.0
    return matrix, slope, rng.normal(size=n), threshold


def model(at, matrix, slope, start, threshold):
    step = at - start
    return slope @ step - 0.5 * step @ matrix @ step - threshold @ np.abs(at)


def gap(at, matrix, slope, start, threshold):
    return optimality_gap(at, slope - matrix @ (at - start), threshold).max()


def by_split_variables(matrix, slope, start, threshold):
    """Return the maximum by L-BFGS-B on positive and negative parts."""
    n = start.size

    def negative(parts):
        step = parts[:n] - parts[n:] - start
        inner = slope - matrix @ step
        loss = threshold @ (parts[:n] + parts[n:]) - (slope + inner) @ step / 2
        return loss, np.concatenate([threshold - inner, threshold + inner])

    parts = np.concatenate([np.maximum(start, 0), np.maximum(-start, 0)])
    low = np.where(np.tile(threshold, 2) > 0, 0.0, -np.inf)
    found = optimize.minimize(
        negative,
        parts,
        jac=True,
        bounds=optimize.Bounds(low),
        options={"maxiter": 20_000, "maxfun": 40_000, "ftol": 1e-15, "gtol": 1e-10},
    )
    return found.x[:n] - found.x[n:]


# -- the quadratic with absolute values --------------------------------------------


@pytest.mark.parametrize("rank", [None, 12, 5])
@pytest.mark.parametrize("seed", range(8))
def test_maximum_is_that_of_split_variables(seed, rank):
    problem = quadratic(np.random.default_rng(seed), rank=rank)
    at = lasso_maximum(*problem)
    other = by_split_variables(*problem)
    best = model(at, *problem)
    assert best >= model(other, *problem) - 1e-9 * abs(best)
    assert gap(at, *problem) <= 1e-9 * np.abs(problem[1]).max()
    if rank is None:
        np.testing.assert_allclose(at, other, atol=1e-5)


@pytest.mark.parametrize("seed", range(20))
def test_zeros_are_exact_and_nothing_nearby_is_better(seed):
    rng = np.random.default_rng(seed)
    problem = quadratic(rng, n=20, spread=3.0)
    at = lasso_maximum(*problem)
    assert np.count_nonzero(at) < at.size
    assert np.abs(at[at != 0]).min() > 1e-8
    best = model(at, *problem)
    for size in (1e-4, 1e-2, 1.0):
        for _ in range(10):
            assert model(at + size * rng.normal(size=20), *problem) < best


def test_start_does_not_matter(rng):
    matrix, slope, start, threshold = quadratic(rng)
    first = lasso_maximum(matrix, slope, start, threshold)
    for _ in range(5):
        other = 3.0 * rng.normal(size=start.size)
        moved = slope - matrix @ (other - start)
        again = lasso_maximum(matrix, moved, other, threshold)
        np.testing.assert_allclose(again, first, atol=1e-8)
        np.testing.assert_array_equal(again == 0, first == 0)


def test_without_penalty_it_is_a_linear_system(rng):
    matrix, slope, start, threshold = quadratic(rng)
    at = lasso_maximum(matrix, slope, start, 0.0 * threshold)
    np.testing.assert_allclose(at, start + np.linalg.solve(matrix, slope), atol=1e-7)


def test_one_coordinate_is_soft_thresholding():
    for slope in (-3.0, -0.4, 0.0, 0.4, 3.0):
        at = lasso_maximum(np.eye(1), np.array([slope]), np.zeros(1), np.ones(1))
        assert at[0] == np.sign(slope) * max(abs(slope) - 1.0, 0.0)


def test_a_heavy_penalty_leaves_only_what_it_spares(rng):
    matrix, slope, start, threshold = quadratic(rng)
    threshold[2:] = 1e6
    at = lasso_maximum(matrix, slope, start, threshold)
    np.testing.assert_array_equal(at[2:], 0.0)
    right = slope + matrix @ start
    np.testing.assert_allclose(at[:2], np.linalg.solve(matrix[:2, :2], right[:2]))


@pytest.mark.parametrize("n_rounds", [1, 2, 5])
@pytest.mark.parametrize("seed", range(10))
def test_every_round_climbs(monkeypatch, seed, n_rounds):
    """However soon it stops, it stands no lower than where it began."""
    problem = quadratic(np.random.default_rng(seed), n=30, rank=31, spread=30.0)
    monkeypatch.setattr(elastic, "MAX_SWEEPS", 1)
    values = [model(problem[2], *problem)]
    for rounds in range(1, n_rounds + 1):
        monkeypatch.setattr(elastic, "MAX_ROUNDS", rounds)
        values.append(model(lasso_maximum(*problem), *problem))
    assert np.diff(values).min() >= -1e-9 * np.abs(values).max()
    assert values[1] > values[0]


def test_correlated_columns_need_the_linear_system(rng, monkeypatch):
    """Where coordinate descent alone would crawl."""
    common = rng.normal(size=(1, 400))
    rows = common + 0.02 * rng.normal(size=(25, 400))
    matrix = rows @ rows.T
    slope = matrix @ rng.normal(size=25)
    problem = matrix, slope, np.zeros(25), np.full(25, 0.5)
    assert gap(lasso_maximum(*problem), *problem) < 1e-7
    monkeypatch.setattr(elastic, "_with_signs_held", lambda h, s, at, c: at)
    assert gap(lasso_maximum(*problem), *problem) > 1e-4


def test_coordinates_without_curvature(rng):
    """A penalised one goes to zero; a free one stays where it is."""
    matrix, slope, start, threshold = quadratic(rng)
    for j in (1, 7):
        matrix[j], matrix[:, j], slope[j] = 0.0, 0.0, 0.0
    at = lasso_maximum(matrix, slope, start, threshold)
    assert at[1] == start[1]
    assert at[7] == 0.0
    assert np.isfinite(at).all()
    nothing = lasso_maximum(np.zeros((3, 3)), np.zeros(3), np.ones(3), np.zeros(3))
    np.testing.assert_array_equal(nothing, 1.0)


def test_arguments_are_left_alone(rng):
    problem = quadratic(rng)
    kept = [part.copy() for part in problem]
    lasso_maximum(*problem)
    for part, copy in zip(problem, kept, strict=True):
        np.testing.assert_array_equal(part, copy)


def test_gap_of_known_points():
    at = np.array([2.0, -2.0, 0.0, 0.0, 1.0])
    slope = np.array([1.0, -0.5, 0.9, -1.5, 0.3])
    found = optimality_gap(at, slope, np.array([1.0, 1.0, 1.0, 1.0, 0.0]))
    np.testing.assert_allclose(found, [0.0, 0.5, 0.0, 0.5, 0.3])


# -- the common shift --------------------------------------------------------------


@pytest.mark.parametrize("n_classes", [1, 2, 3, 4, 7])
@pytest.mark.parametrize(("ridge", "lasso"), [(0.0, 2.0), (0.5, 2.0), (3.0, 0.7)])
def test_shift_is_the_cheapest(rng, n_classes, ridge, lasso):
    coef = rng.normal(size=(n_classes, 40)) + 2.0 * rng.normal(size=40)
    coef[:, ::5] = np.round(coef[:, ::5])  # ties

    def cost(column, t):
        moved = column - t
        return lasso * np.abs(moved).sum() + ridge / 2 * (moved**2).sum()

    best = shifted(coef, np.full(40, ridge), np.full(40, lasso))
    np.testing.assert_allclose(best - best[0], coef - coef[0], atol=1e-12)
    for column, mine in zip(coef.T, best.T, strict=True):
        ends = (column.min() - 1.0, column.max() + 1.0)
        bounded = optimize.minimize_scalar(
            lambda t, c=column: cost(c, t), bounds=ends, method="bounded"
        )
        assert cost(mine, 0.0) <= bounded.fun + 1e-9


@pytest.mark.parametrize("n_classes", [2, 3, 4, 5])
def test_pure_lasso_makes_zero_a_median_and_a_value(rng, n_classes):
    coef = rng.normal(size=(n_classes, 9))
    best = shifted(coef, np.zeros(9), np.ones(9))
    assert ((best == 0).sum(axis=0) == 1).all()
    assert ((best > 0).sum(axis=0) <= n_classes // 2).all()
    assert ((best < 0).sum(axis=0) <= n_classes // 2).all()
    order = rng.permutation(n_classes)
    again = shifted(coef[order], np.zeros(9), np.ones(9))
    np.testing.assert_array_equal(again, best[order])


def test_columns_without_lasso_are_centred(rng):
    coef = rng.normal(size=(3, 2))
    best = shifted(coef, np.array([0.0, 2.0]), np.zeros(2))
    np.testing.assert_allclose(best, coef - coef.mean(axis=0), atol=1e-15)


# -- steps of a multinomial logit --------------------------------------------------


def penalised(coef, Z, weight, target, ridge, lasso):
    smooth = value(coef, Z, weight, target, ridge)
    return smooth - float((np.abs(coef) @ lasso).sum())


def lasso_problem(rng, n_classes, ridge=0.0):
    Z, weight, target, coef, penalty = logit_problem(rng, n_classes, p=5, ridge=ridge)
    penalty[0] = 0.0
    return Z, weight, target, coef, penalty, np.array([0.0, 3.0, 3.0, 3.0, 3.0])


@pytest.mark.parametrize("ridge", [0.0, 3.0])
@pytest.mark.parametrize("n_classes", [1, 2, 3, 6])
def test_joint_hessian_is_the_whole_one(rng, n_classes, ridge):
    Z, weight, _, coef, penalty = logit_problem(rng, n_classes, ridge=ridge)
    found = joint_hessian(pair_grams(coef, Z, weight), n_classes, penalty)
    np.testing.assert_allclose(found, hessian(coef, Z, weight, penalty), atol=1e-9)


@pytest.mark.parametrize("ridge", [0.0, 0.8])
@pytest.mark.parametrize("n_classes", [2, 3, 4])
def test_newton_target_is_optimal_for_its_model(rng, n_classes, ridge):
    Z, weight, target, coef, penalty, lasso = lasso_problem(rng, n_classes, ridge)
    slope = gradient(coef, Z, weight, target, penalty)
    parts = (slope, penalty, lasso, coef)
    found = newton_target(pair_grams(coef, Z, weight), *parts)
    matrix = hessian(coef, Z, weight, penalty)
    now = slope - (matrix @ (found - coef).ravel()).reshape(coef.shape)
    assert optimality_gap(found, now, np.broadcast_to(lasso, coef.shape)).max() < 1e-7
    assert found[:, 0].sum() == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("n_classes", [2, 3, 4])
def test_newton_converges_quadratically_to_optimality(rng, n_classes):
    Z, weight, target, coef, penalty, lasso = lasso_problem(rng, n_classes, 0.3)
    coef, gaps = 0.0 * coef, []
    for _ in range(8):
        slope = gradient(coef, Z, weight, target, penalty)
        gaps.append(optimality_gap(coef, slope, lasso + 0.0 * coef).max())
        parts = (slope, penalty, lasso, coef)
        coef = newton_target(pair_grams(coef, Z, weight), *parts)
    assert gaps[-1] < 1e-9 * gaps[0]
    assert 0 < np.count_nonzero(coef == 0.0) < coef.size


@pytest.mark.parametrize("n_classes", [2, 3, 5])
def test_the_bound_never_falls_and_ends_where_newton_does(rng, n_classes):
    problem = lasso_problem(rng, n_classes, 0.3)
    Z, weight, target, coef, penalty, lasso = problem
    gram = (Z * weight) @ Z.T
    values, coef = [], 3.0 * coef
    for _ in range(1500):
        values.append(penalised(coef, Z, weight, target, penalty, lasso))
        slope = gradient(coef, Z, weight, target, penalty)
        coef = bound_target(gram, slope, penalty, lasso, coef)
    assert np.diff(values).min() >= -1e-10 * np.abs(values).max()
    slope = gradient(coef, Z, weight, target, penalty)
    assert optimality_gap(coef, slope, lasso + 0.0 * coef).max() < 1e-6
    other = np.zeros_like(coef)
    for _ in range(10):
        slope = gradient(other, Z, weight, target, penalty)
        parts = (slope, penalty, lasso, other)
        other = newton_target(pair_grams(other, Z, weight), *parts)
    np.testing.assert_allclose(coef, other, atol=1e-5)
