"""Newton and bound steps of multinomial logits."""

import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from skmoe._blocks import half_products, unpack_grams
from skmoe._multinomial import (
    bound_direction,
    contrast,
    fill_pairs,
    log_softmax_first,
    n_pairs,
    newton_direction,
    newton_directions,
)
from tests._asserts import assert_gradient


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def logit_problem(rng, n_classes, p=3, n=80, ridge=0.0):
    """Return design, weights, targets, coefficients that sum to zero, ridge."""
    Z = np.vstack([np.ones(n), rng.normal(size=(p - 1, n))])
    weight = rng.uniform(0.2, 2.0, size=n)
    target = rng.dirichlet(np.ones(n_classes), size=n).T
    coef = rng.normal(size=(n_classes, p))
    coef -= coef.mean(axis=0)
    penalty = np.full(p, ridge)
    penalty[0] = 0.0
    return Z, weight, target, coef, penalty


def value(coef, Z, weight, target, ridge):
    log_p = log_softmax(coef @ Z, axis=0)
    penalty = 0.5 * ((coef * coef) @ ridge).sum()
    return float(((target * weight) * log_p).sum() - penalty)


def gradient(coef, Z, weight, target, ridge):
    proba = softmax(coef @ Z, axis=0)
    return ((target - proba) * weight) @ Z.T - ridge * coef


def hessian(coef, Z, weight, ridge):
    """Minus the Hessian over all coefficients, written out."""
    C, p = coef.shape
    proba = softmax(coef @ Z, axis=0)
    out = np.zeros((C, p, C, p))
    for c in range(C):
        for d in range(C):
            w = weight * proba[c] * ((c == d) - proba[d])
            out[c, :, d] = (Z * w) @ Z.T
        out[c, :, c] += np.diag(ridge)
    return out.reshape(C * p, C * p)


def pair_grams(coef, Z, weight):
    proba = softmax(coef @ Z, axis=0)
    rows = np.empty((n_pairs(coef.shape[0]), Z.shape[1]))
    fill_pairs(rows, proba, weight)
    return unpack_grams(half_products(Z) @ rows.T, Z.shape[0])


def test_log_softmax_is_scipys(rng):
    logit = 40.0 * rng.normal(size=(4, 3, 5))
    log_p, proba = log_softmax_first(logit)
    np.testing.assert_allclose(log_p, log_softmax(logit, axis=0), rtol=1e-12)
    np.testing.assert_allclose(proba, softmax(logit, axis=0), rtol=1e-12)


def test_log_softmax_of_huge_logits():
    log_p, proba = log_softmax_first(np.array([[1e300, -1e300], [-1e300, 1e300]]))
    assert np.isfinite(proba).all()
    assert not np.isnan(log_p).any()
    np.testing.assert_array_equal(proba, np.eye(2))


@pytest.mark.parametrize("shape", [(2, 7), (2, 3, 5), (2, 2, 3, 4)])
def test_two_classes_take_a_path_of_their_own(rng, shape):
    """Log probabilities to 1e-14 nats of SciPy's, probabilities to 1e-15."""
    logit = 6.0 * rng.normal(size=shape)
    log_p, proba = log_softmax_first(logit)
    assert log_p.shape == proba.shape == shape
    expected = log_softmax(logit, axis=0)
    np.testing.assert_allclose(log_p, expected, rtol=1e-15, atol=1e-14)
    np.testing.assert_allclose(proba, softmax(logit, axis=0), rtol=0.0, atol=1e-15)
    np.testing.assert_allclose(proba, np.exp(log_p), rtol=0.0, atol=1e-15)
    np.testing.assert_allclose(proba.sum(axis=0), 1.0, rtol=0.0, atol=1e-15)
    # A third class out of reach: the same two, by the general path.
    third = np.concatenate([logit, np.full((1, *shape[1:]), -1e4)])
    general = log_softmax_first(third)[0][:2]
    np.testing.assert_allclose(log_p, general, rtol=1e-15, atol=1e-14)


def test_two_classes_are_alike(rng):
    """Exchanged they give the exchanged numbers, however far apart they are."""
    difference = np.concatenate([np.linspace(-60.0, 60.0, 481), [-1e3, -0.0, 1e3]])
    logit = np.stack([np.zeros_like(difference), difference])
    log_p, proba = log_softmax_first(logit)
    other, flipped = log_softmax_first(logit[::-1])
    np.testing.assert_allclose(other[::-1], log_p, rtol=1e-15, atol=1e-14)
    assert log_p.max() <= 0.0
    np.testing.assert_allclose(flipped[::-1], proba, rtol=0.0, atol=1e-15)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_extreme_logits_stay_finite(n_classes):
    """A thousand logits apart: log odds are kept, probabilities are 0 and 1."""
    size = np.array([1e3, 750.0, 800.0, 1e5, 1e15])
    logit = np.zeros((n_classes, 2 * size.size))
    logit[1] = np.concatenate([size, -size])
    with np.errstate(all="raise", under="ignore"):
        log_p, proba = log_softmax_first(logit)
    assert np.isfinite(log_p).all()
    lost = np.exp(-size) * (n_classes - 1.0)
    np.testing.assert_allclose(proba[1, : size.size], 1.0 - lost, rtol=1e-15)
    np.testing.assert_array_equal(proba[1, size.size :], 0.0)
    np.testing.assert_allclose(log_p[0, : size.size], -size, rtol=1e-15)
    np.testing.assert_allclose(
        log_p[1, size.size :], -size - np.log(n_classes - 1.0), rtol=1e-15
    )


def test_log_softmax_leaves_its_argument_alone(rng):
    for n_classes in (2, 3):
        logit = rng.normal(size=(n_classes, 4))
        kept = logit.copy()
        log_p, proba = log_softmax_first(logit)
        np.testing.assert_array_equal(logit, kept)
        # Two arrays of their own: one may be scaled in place.
        assert not np.shares_memory(log_p, proba)
        assert not np.shares_memory(log_p, logit)


@pytest.mark.parametrize("n_classes", range(1, 7))
def test_contrasts_are_orthonormal_and_sum_to_zero(n_classes):
    basis = contrast(n_classes)
    assert basis.shape == (n_classes, n_classes - 1)
    np.testing.assert_allclose(basis.T @ basis, np.eye(n_classes - 1), atol=1e-12)
    np.testing.assert_allclose(basis.sum(axis=0), 0.0, atol=1e-12)


@pytest.mark.parametrize("n_classes", [1, 2, 5])
def test_pairs_in_order(rng, n_classes):
    proba = rng.dirichlet(np.ones(n_classes), size=6).T
    weight = rng.uniform(size=6)
    rows = np.empty((n_pairs(n_classes), 6))
    fill_pairs(rows, proba, weight)
    c, d = np.triu_indices(n_classes, 1)
    np.testing.assert_allclose(rows, weight * proba[c] * proba[d], rtol=1e-14)


@pytest.mark.parametrize("ridge", [0.0, 3.0])
@pytest.mark.parametrize("n_classes", [2, 3, 6])
def test_newton_solves_the_whole_system(rng, n_classes, ridge):
    Z, weight, target, coef, penalty = logit_problem(rng, n_classes, ridge=ridge)
    slope = gradient(coef, Z, weight, target, penalty)
    step = newton_direction(pair_grams(coef, Z, weight), slope, penalty)
    np.testing.assert_allclose(step.sum(axis=0), 0.0, atol=1e-10)
    matrix = hessian(coef, Z, weight, penalty)
    np.testing.assert_allclose(matrix @ step.ravel(), slope.ravel(), atol=1e-8)


def test_newton_converges_quadratically(rng):
    Z, weight, target, coef, penalty = logit_problem(rng, 4, ridge=0.5)
    coef = np.zeros_like(coef)
    sizes = []
    for _ in range(7):
        slope = gradient(coef, Z, weight, target, penalty)
        sizes.append(np.abs(slope).max())
        coef = coef + newton_direction(pair_grams(coef, Z, weight), slope, penalty)
    assert sizes[-1] < 1e-10 * sizes[0]


def test_two_classes_are_a_logistic_regression(rng):
    """With weights g (1 - g) the step is that of one vector of differences."""
    Z, weight, target, coef, penalty = logit_problem(rng, 2)
    slope = gradient(coef, Z, weight, target, penalty)
    step = newton_direction(pair_grams(coef, Z, weight), slope, penalty)
    g = softmax(coef @ Z, axis=0)[0]
    plain = np.linalg.solve(
        (Z * (weight * g * (1 - g))) @ Z.T, Z @ (weight * (target[0] - g))
    )
    np.testing.assert_allclose(step[0] - step[1], plain, rtol=1e-9)


@pytest.mark.parametrize("n_classes", [2, 3, 6])
def test_the_bound_lies_above_the_hessian(rng, n_classes):
    """Minus the Hessian is nowhere larger than half the gram, on contrasts."""
    Z, weight, _, coef, penalty = logit_problem(rng, n_classes, ridge=1.0)
    basis = np.kron(contrast(n_classes), np.eye(3))
    bound = 0.5 * (Z * weight) @ Z.T + np.diag(penalty)
    bound = np.kron(np.eye(n_classes - 1), bound)
    for size in (0.0, 0.3, 3.0):
        inner = basis.T @ hessian(size * coef, Z, weight, penalty) @ basis
        assert np.linalg.eigvalsh(bound - inner).min() > -1e-9


@pytest.mark.parametrize("n_classes", [2, 3, 6])
def test_the_bound_step_always_climbs(rng, n_classes):
    Z, weight, target, coef, penalty = logit_problem(rng, n_classes, ridge=1.0)
    gram = (Z * weight) @ Z.T
    for size in (0.0, 1.0, 30.0):
        at = size * coef
        slope = gradient(at, Z, weight, target, penalty)
        step = bound_direction(gram, slope, penalty)
        np.testing.assert_allclose(step.sum(axis=0), 0.0, atol=1e-9)
        before = value(at, Z, weight, target, penalty)
        after = value(at + step, Z, weight, target, penalty)
        # The bound promises half the slope along its step.
        assert after - before >= 0.5 * float((slope * step).sum()) - 1e-9


def test_one_class_stays(rng):
    Z, weight, _, coef, penalty = logit_problem(rng, 1)
    grams = pair_grams(coef, Z, weight)
    assert grams.shape == (0, 3, 3)
    step = newton_direction(grams, np.ones((1, 3)), penalty)
    np.testing.assert_array_equal(step, 0.0)
    np.testing.assert_array_equal(
        bound_direction((Z * weight) @ Z.T, np.ones((1, 3)), penalty), 0.0
    )


def test_duplicated_and_dull_columns(rng):
    Z, weight, target, _, _ = logit_problem(rng, 3)
    wide = np.vstack([Z, Z[1], np.zeros(Z.shape[1])])
    coef, penalty = np.zeros((3, 5)), np.zeros(5)
    slope = gradient(coef, wide, weight, target, penalty)
    step = newton_direction(pair_grams(coef, wide, weight), slope, penalty)
    np.testing.assert_allclose(step[:, 1], step[:, 3], rtol=1e-7)
    np.testing.assert_array_equal(step[:, 4], 0.0)
    narrow = newton_direction(
        pair_grams(coef[:, :3], Z, weight), slope[:, :3], penalty[:3]
    )
    np.testing.assert_allclose(step @ wide, narrow @ Z, atol=1e-9)


def several(rng, n_logits, n_classes, p=3, ridge=0.0, spread=1.0):
    """Return pair grams, gradients, ridge and hessians of several logits."""
    grams, slopes, matrices = [], [], []
    for _ in range(n_logits):
        Z, weight, target, coef, penalty = logit_problem(rng, n_classes, p, ridge=ridge)
        coef *= spread
        slopes.append(gradient(coef, Z, weight, target, penalty))
        grams.append(pair_grams(coef, Z, weight))
        matrices.append(hessian(coef, Z, weight, penalty))
    return np.stack(grams, axis=1), np.stack(slopes), penalty, matrices


@pytest.mark.parametrize("ridge", [0.0, 2.0])
@pytest.mark.parametrize("n_logits", [1, 5])
@pytest.mark.parametrize("n_classes", [1, 2, 3, 5])
def test_directions_of_several_logits_are_those_of_each(
    rng, n_classes, n_logits, ridge
):
    """The batch beside the loop, to 1e-13 of the largest step."""
    grams, slopes, penalty, matrices = several(rng, n_logits, n_classes, ridge=ridge)
    kept = grams.copy(), slopes.copy()
    steps = newton_directions(grams, slopes, penalty)
    assert steps.shape == slopes.shape
    np.testing.assert_allclose(steps.sum(axis=1), 0.0, atol=1e-12)
    for k, step in enumerate(steps):
        alone = newton_direction(grams[:, k], slopes[k], penalty)
        atol = 1e-13 * max(np.abs(alone).max(), 1e-300)
        np.testing.assert_allclose(step, alone, rtol=0.0, atol=atol)
        if n_classes > 1:
            np.testing.assert_allclose(
                matrices[k] @ step.ravel(), slopes[k].ravel(), atol=1e-9
            )
    np.testing.assert_array_equal(grams, kept[0])
    np.testing.assert_array_equal(slopes, kept[1])


@pytest.mark.parametrize("n_classes", [2, 4])
def test_a_saturated_logit_leaves_the_others_alone(rng, n_classes):
    """Gates whose probabilities are 0 and 1 have no curvature left, and no step."""
    grams, slopes, penalty, _ = several(rng, 3, n_classes)
    plain = newton_directions(grams, slopes, penalty)
    grams[:, 1], slopes[1] = 0.0, 0.0
    steps = newton_directions(grams, slopes, penalty)
    np.testing.assert_array_equal(steps[1], 0.0)
    np.testing.assert_allclose(steps[[0, 2]], plain[[0, 2]], rtol=1e-9)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_batched_steps_in_columns_of_any_scale(rng, n_classes):
    """Newton's step of a column is measured in the inverse of its unit."""
    grams, slopes, penalty, _ = several(rng, 2, n_classes)
    unit = np.array([1.0, 1e-30, 1e30])
    plain = newton_directions(grams, slopes, penalty)
    scaled = newton_directions(grams * unit[:, None] * unit, slopes * unit, np.zeros(3))
    np.testing.assert_allclose(scaled * unit, plain, rtol=1e-9)


def test_batched_directions_climb(rng):
    """The gradient is that of the value, and the step goes up along it."""
    Z, weight, target, coef, penalty = logit_problem(rng, 3, ridge=0.5)
    slope = gradient(coef, Z, weight, target, penalty)

    def at(vector):
        return value(vector.reshape(coef.shape), Z, weight, target, penalty)

    assert_gradient(at, slope.ravel(), coef.ravel(), rng)
    matrix = hessian(coef, Z, weight, penalty)
    for j in range(coef.size):
        h = 1e-5 * np.eye(coef.size)[j].reshape(coef.shape)
        above = gradient(coef + h, Z, weight, target, penalty)
        below = gradient(coef - h, Z, weight, target, penalty)
        column = (below - above).ravel() / 2e-5
        np.testing.assert_allclose(column, matrix[:, j], atol=1e-6)
    grams = pair_grams(coef, Z, weight)[:, None]
    step = newton_directions(grams, slope[None], penalty)[0]
    expected = 0.5 * float((slope * step).sum())
    assert expected > 1e-3
    assert at((coef + 1e-3 * step).ravel()) > at(coef.ravel()) + 1e-3 * expected
