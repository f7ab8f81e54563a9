"""The kernel of experts with linear predictors: families, scoring, K at once."""

import copy
import pickle

import numpy as np
import pytest
from scipy import integrate, special, stats

from skmoe._blocks import half_products
from skmoe.em._fused import FusedNode
from skmoe.experts._real_families import DF_BOUNDS, StudentFamily
from skmoe.gates import SoftmaxGate
from tests._asserts import assert_climbs, assert_gradient, assert_symmetric_psd
from tests.experts.glm_suite import PROBLEMS, problem

K = 3
SMOOTH = [name for name in PROBLEMS if name != "laplace"]
SHAPED = ["negative binomial", "gamma", "student", "student of fixed df", "laplace"]
UNBOUNDED = ["gamma", "student", "laplace", "heteroscedastic"]


@pytest.fixture
def rng():
    return np.random.default_rng(6)


def several(name, rng, *, shared=False, offset=False, n=120, **params):
    """Return a kernel of K different experts, its design, rows and weights."""
    expert, X, y, _ = problem(name, rng, n, **params)
    expert.prepare(X, y, np.ones(n))
    kernel = expert.make_kernel(K, shared=shared)
    rows = expert.kernel_rows(X, y)
    if offset:
        rows = np.vstack([rows, rng.normal(size=n)])
    weighted = rng.dirichlet(np.ones(K), size=n).T * rng.uniform(0.2, 2.0, size=n)
    vector = kernel.parameters
    kernel.parameters = vector + 0.15 * rng.normal(size=vector.size)
    return kernel, expert.design_.matrix(X), rows, weighted


def pass_over(kernel, design, rows, weighted):
    """Sum one pass, as the engine does; return the weighted log-likelihood."""
    kernel.reset()
    log_prob = kernel.log_prob(design, rows)
    value = float((weighted * log_prob).sum())
    grams = np.full((kernel.n_gram_rows, design.shape[1]), np.nan)
    scores = np.full((kernel.n_score_rows, design.shape[1]), np.nan)
    kernel.fill(grams, scores, weighted, weighted.sum(axis=0))
    half = half_products(design) @ grams.T
    kernel.take(half, design @ scores.T, weighted.sum())
    return value


# -- the derivatives -----------------------------------------------------------


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("name", SMOOTH)
def test_gradient(name, shared, rng):
    kernel, *data = several(name, rng, shared=shared, alpha=0.7)

    def value(vector):
        kernel.parameters = vector
        return pass_over(kernel, *data) + kernel.penalty

    assert kernel.has_gradient
    point = kernel.parameters
    value(point)
    assert_gradient(value, kernel.gradient, point, rng)
    assert_symmetric_psd(kernel.precondition, point.size)


def test_gradient_of_laplace_away_from_its_corners(rng):
    kernel, *data = several("laplace", rng)
    assert not kernel.has_gradient
    point = kernel.parameters

    def value(vector):
        kernel.parameters = vector
        return pass_over(kernel, *data) + kernel.penalty

    value(point)
    gradient = kernel.gradient
    for direction in np.eye(point.size):
        # So small a step that no residual changes its sign.
        slope = value(point + 1e-6 * direction) - value(point - 1e-6 * direction)
        assert slope / 2e-6 == pytest.approx(gradient @ direction, rel=1e-4, abs=1e-3)


@pytest.mark.parametrize("name", ["poisson", "negative binomial", "gamma", "binomial"])
def test_gradient_with_an_offset(name, rng):
    kernel, *data = several(name, rng, offset=True)

    def value(vector):
        kernel.parameters = vector
        return pass_over(kernel, *data) + kernel.penalty

    point = kernel.parameters
    value(point)
    assert_gradient(value, kernel.gradient, point, rng)


def test_an_offset_moves_the_predictor(rng):
    kernel, design, rows, _ = several("poisson", rng, offset=True)
    kernel.reset()
    log_prob = kernel.log_prob(design, rows)
    mean = np.exp(kernel.coef[:, 0] @ design + rows[-1])
    np.testing.assert_allclose(log_prob, stats.poisson(mean).logpmf(rows[0]), rtol=1e-9)


# name: (draws of one row with predictor eta, shapes)
DRAWS = {
    "poisson": lambda rng, n: rng.poisson(np.exp(0.4), n),
    "gamma": lambda rng, n: rng.gamma(2.0, np.exp(0.4) / 2.0, n),
    "binomial": lambda rng, n: rng.random(n) < special.expit(0.4),
    "student": lambda rng, n: 0.4 + np.sqrt(1.5) * rng.standard_t(3.0, n),
    "heteroscedastic": lambda rng, n: 0.4 + np.exp(-0.35) * rng.normal(size=n),
}
TRUE_SHAPES = {"gamma": [2.0], "student": [1.5, 3.0]}


@pytest.mark.parametrize("name", DRAWS)
def test_weights_are_the_variance_of_the_scores(name, rng):
    """Fisher's information twice: as the family has it, and as what scores do."""
    expert = problem(name, rng)[0]
    y = np.asarray(DRAWS[name](rng, 400_000), dtype=float)
    family = expert._family(y, np.ones(y.size))
    shapes = np.log([TRUE_SHAPES.get(name, [])])
    eta = np.repeat([[[0.4]], [[-0.7]]][: family.n_predictors], y.size, axis=2)
    _, work = family.density(eta, family.target(y), shapes)
    grams, scores = np.empty((2, family.n_predictors, 1, y.size))
    family.fill(work, family.target(y), shapes, np.ones((1, y.size)), grams, scores)
    # Nothing is left across predictors: they are orthogonal.
    matrix = scores[:, 0] @ scores[:, 0].T / y.size
    np.testing.assert_allclose(matrix, np.diag(grams[:, 0].mean(axis=1)), atol=0.02)


@pytest.mark.parametrize("df", [0.7, 2.0, 9.0, 60.0])
def test_information_of_the_t_shapes(df):
    """By quadrature: the expected product of the two scores."""
    family = StudentFamily()
    shapes = np.log([[2.5, df]])
    law = stats.t(df, scale=np.sqrt(2.5))

    def log_density(y, shift):
        z = y * y * np.exp(-(shapes[0, 0] + shift[0]))
        v = np.exp(shapes[0, 1] + shift[1])
        value = special.gammaln(0.5 * (v + 1.0)) - special.gammaln(0.5 * v)
        value -= 0.5 * (np.log(np.pi * v) + shapes[0, 0] + shift[0])
        return value - 0.5 * (v + 1.0) * np.log1p(z / v)

    def score(y, i, h=1e-4):
        step = h * np.eye(2)[i]
        return (log_density(y, step) - log_density(y, -step)) / (2.0 * h)

    _, found = family.shape_terms(np.zeros((1, 2)), np.ones(1), shapes)
    for i, j in ((0, 0), (0, 1), (1, 1)):

        def product(q, i=i, j=j):
            y = law.ppf(q)
            return score(y, i) * score(y, j)

        expected = 2.0 * integrate.quad(product, 0.5, 1.0, limit=200)[0]
        scale = np.sqrt(found[0, i, i] * found[0, j, j])
        assert found[0, i, j] == pytest.approx(expected, abs=1e-4 * scale)
    assert np.linalg.eigvalsh(found[0]).min() > 0.0


def test_tables_of_counts_equal_direct_values(rng):
    """Counts go by a table, numbers that are none directly: the same function."""
    kernel, design, rows, weighted = several("negative binomial", rng)
    value = pass_over(kernel, design, rows, weighted)
    gradient = kernel.gradient
    direct = rows.copy()
    direct[2] = -1.0  # says that there is no table
    assert rows[2].min() >= 0.0
    assert pass_over(kernel, design, direct, weighted) == pytest.approx(
        value, rel=1e-13
    )
    np.testing.assert_allclose(kernel.gradient, gradient, rtol=1e-10)


@pytest.mark.parametrize("theta", [1e-3, 0.3, 29.0, 31.0, 1e3, 1e6])
def test_negative_binomial_of_any_size(theta, rng):
    kernel, design, rows, _ = several("negative binomial", rng)
    kernel.shapes[:] = np.log(theta)
    kernel.reset()
    mean = np.exp(kernel.coef[:, 0] @ design)
    expected = stats.nbinom(theta, theta / (theta + mean)).logpmf(rows[0])
    # scipy loses digits where theta is large.
    tol = 1e-9 * max(theta, 1.0)
    np.testing.assert_allclose(
        kernel.log_prob(design, rows), expected, rtol=1e-9, atol=min(tol, 1e-4)
    )


# -- steps ---------------------------------------------------------------------


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("name", PROBLEMS)
def test_a_step_climbs_and_can_be_shortened(name, shared, rng):
    kernel, *data = several(name, rng, shared=shared)
    start = kernel.parameters
    before = pass_over(kernel, *data) + kernel.penalty
    kernel.propose()
    values = []
    for fraction in (0.0, 0.25, 1.0):
        kernel.move(fraction)
        expected = start + fraction * kernel.direction
        np.testing.assert_allclose(kernel.parameters, expected, rtol=1e-12)
        values.append(pass_over(kernel, *data) + kernel.penalty)
    assert values[0] == pytest.approx(before, rel=1e-12)
    assert values[0] < values[1] < values[2]


@pytest.mark.parametrize("name", SMOOTH)
def test_scoring_converges_fast(name, rng):
    """A dozen passes at fixed responsibilities end at a gradient of zero."""
    kernel, *data = several(name, rng, n=400)
    values = []
    for _ in range(14):
        values.append(pass_over(kernel, *data) + kernel.penalty)
        kernel.propose()
        kernel.move(1.0)
    pass_over(kernel, *data)
    assert_climbs(values[1:], 1e-10)
    assert np.abs(kernel.gradient).max() < 1e-3


@pytest.mark.parametrize("name", PROBLEMS)
def test_k_experts_are_k_single_ones(name, rng):
    kernel, design, rows, weighted = several(name, rng)
    pass_over(kernel, design, rows, weighted)
    parts = kernel.split()
    kernel.propose()
    kernel.move(1.0)
    kernel.reset()
    log_prob = kernel.log_prob(design, rows)
    for k, part in enumerate(parts):
        pass_over(part, design, rows, weighted[k : k + 1])
        part.propose()
        part.move(1.0)
        np.testing.assert_allclose(kernel.coef[k], part.coef[0], rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(kernel.shapes[k], part.shapes[0], rtol=1e-9)
        np.testing.assert_allclose(
            part.log_prob(design, rows)[0], log_prob[k], rtol=1e-7
        )


@pytest.mark.parametrize("name", PROBLEMS)
def test_no_step_goes_too_far(name, rng):
    kernel, *data = several(name, rng)
    pass_over(kernel, *data)
    small = 1e-3 * np.ones(kernel.parameters.size)
    np.testing.assert_array_equal(kernel.limited(small), small)
    far = small.copy()
    far[: kernel.coef[0].size] = 1e6
    limited = kernel.limited(far)
    first = limited[: kernel.coef[0].size].reshape(kernel.coef[0].shape)
    bounded = np.isfinite(kernel.family.max_step)
    size, most = np.linalg.norm(first, axis=1), kernel.family.max_step
    assert (size[bounded] <= most[bounded] * (1.0 + 1e-12)).all()
    # The others are left alone.
    second = slice(kernel.coef[0].size, 2 * kernel.coef[0].size)
    np.testing.assert_array_equal(limited[second], 1e-3)


@pytest.mark.parametrize("name", SHAPED)
def test_no_log_shape_goes_too_far(name, rng):
    """Of an expert whose dispersion would, the whole part is shortened."""
    kernel, *data = several(name, rng)
    pass_over(kernel, *data)
    direction = 1e-3 * np.ones(kernel.parameters.size)
    direction[-1] = -8.0
    limited = kernel.limited(direction)
    assert limited[-1] == pytest.approx(-2.0)
    last = slice(kernel.coef.size - kernel.coef[0].size, kernel.coef.size)
    np.testing.assert_allclose(limited[last], 0.25e-3)
    np.testing.assert_array_equal(limited[: last.start], 1e-3)


def test_curvature_in_log_theta(rng):
    """The observed one, by differences of the gradient."""
    kernel, *data = several("negative binomial", rng, n=300)
    slopes = []
    for shift in (-1e-4, 1e-4):
        kernel.shapes += shift
        pass_over(kernel, *data)
        slopes.append(kernel.gradient[kernel.coef.size :])
        kernel.shapes -= shift
    pass_over(kernel, *data)
    expected = np.abs(slopes[1] - slopes[0]) / 2e-4
    zero = np.zeros(kernel.coef.size)
    found = kernel.precondition(np.concatenate([zero, np.ones(K)]))[-K:]
    np.testing.assert_allclose(1.0 / found, expected, rtol=1e-4)


@pytest.mark.parametrize("name", SHAPED)
def test_shapes_keep_their_bounds(name, rng):
    kernel, *data = several(name, rng)
    vector = kernel.parameters
    low, high = kernel.prior.bounds
    vector[kernel.coef.size :] = np.tile(high + 5.0, K)
    kernel.parameters = vector
    np.testing.assert_array_equal(kernel.shapes, np.tile(high, (K, 1)))
    pass_over(kernel, *data)
    # No gradient that leads outside is left.
    assert (kernel.gradient[kernel.coef.size :] <= 0.0).all()
    vector[kernel.coef.size :] = np.tile(low - 5.0, K)
    kernel.parameters = vector
    np.testing.assert_array_equal(kernel.shapes, np.tile(low, (K, 1)))
    pass_over(kernel, *data)
    assert (kernel.gradient[kernel.coef.size :] >= 0.0).all()


def test_poisson_counts_have_the_largest_theta(rng):
    """Without overdispersion theta runs to its bound, and stays there quietly."""
    expert, X, _, weight = problem("negative binomial", rng, 300, tol=1e-12)
    y = rng.binomial(6, special.expit(0.3 * X[:, 0])).astype(float)
    expert.fit(X, y, weight)
    assert expert.dispersion == pytest.approx(1e6)
    assert np.isfinite(expert.log_prob(X, y)).all()


def test_normal_noise_has_the_largest_df(rng):
    expert, X, _, _ = problem("student", rng, 300, tol=1e-12)
    y = X[:, 0] + 0.5 * rng.uniform(-1.0, 1.0, size=300)
    expert.fit(X, y)
    assert expert.dispersion[1] == pytest.approx(DF_BOUNDS[1])


# -- dead and spurious experts -------------------------------------------------


@pytest.mark.parametrize("name", PROBLEMS)
def test_degenerate(name, rng):
    kernel, design, rows, weighted = several(name, rng)
    pass_over(kernel, design, rows, weighted)
    assert not kernel.degenerate(1.0)
    thin = weighted * np.array([1.0, 1.0, 0.5 / weighted[2].sum()])[:, None]
    pass_over(kernel, design, rows, thin)
    assert kernel.degenerate(1.0)
    assert not kernel.degenerate(0.1)


@pytest.mark.parametrize("name", UNBOUNDED)
def test_spurious_fits_without_a_prior(name, rng):
    kernel, design, rows, weighted = several(name, rng, plain=True)
    pass_over(kernel, design, rows, weighted)
    assert not kernel.degenerate(1.0)
    few = weighted * np.array([1.0, 1.0, 6.0 / weighted[2].sum()])[:, None]
    pass_over(kernel, design, rows, few)
    assert not kernel.degenerate(1.0)  # few rows, but as noisy as the others
    if name == "heteroscedastic":
        kernel.coef[2, 1, 0] -= 9.0
    else:
        kernel.shapes[2, 0] += 9.0 if name == "gamma" else -9.0
    assert kernel.degenerate(1.0)
    pass_over(kernel, design, rows, weighted)
    assert not kernel.degenerate(1.0)  # of many rows such a fit is no accident


@pytest.mark.parametrize("name", UNBOUNDED)
def test_collapse_is_seen(name, rng):
    kernel, design, rows, weighted = several(name, rng)
    pass_over(kernel, design, rows, weighted)
    if name == "heteroscedastic":
        kernel.coef[1, 1, 0] = kernel.family.least
    else:
        bound = kernel.prior.bounds[int(name == "gamma"), 0]
        kernel.shapes[1, 0] = bound
    assert kernel.degenerate(1.0)
    np.testing.assert_array_equal(
        kernel.prior.collapsed(kernel.coef, kernel.shapes), [False, True, False]
    )


@pytest.mark.parametrize("name", PROBLEMS)
def test_an_expert_without_rows_stays(name, rng):
    kernel, design, rows, weighted = several(name, rng, plain=True)
    start, shapes = kernel.coef.copy(), kernel.shapes.copy()
    weighted[1] = 0.0
    pass_over(kernel, design, rows, weighted)
    kernel.propose()
    kernel.move(1.0)
    np.testing.assert_array_equal(kernel.coef[1], start[1])
    np.testing.assert_array_equal(kernel.shapes[1], shapes[1])
    assert np.abs(kernel.coef[[0, 2]] - start[[0, 2]]).max() > 1e-3


@pytest.mark.parametrize("name", PROBLEMS)
def test_extreme_coefficients_stay_finite(name, rng):
    kernel, design, rows, _ = several(name, rng)
    for sign in (-1.0, 1.0):
        kernel.coef[1] = sign * 1e4
        with np.errstate(invalid="raise", divide="raise"):
            kernel.reset()
            log_prob = kernel.log_prob(design, rows)
        assert not np.isnan(log_prob).any()
        assert np.isfinite(log_prob[[0, 2]]).all()


# -- parts of a kernel ---------------------------------------------------------


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("index", [[1], [2, 0]])
def test_some_experts_see_what_all_see(name, index, rng):
    kernel, design, rows, weighted = several(name, rng)
    kernel.reset()
    whole = kernel.log_prob(design, rows)
    grams = np.empty((kernel.n_gram_rows, design.shape[1]))
    scores = np.empty((kernel.n_score_rows, design.shape[1]))
    kernel.fill(grams, scores, weighted, weighted.sum(axis=0))
    part = kernel.restrict(np.array(index))
    part.reset()
    np.testing.assert_allclose(part.log_prob(design, rows), whole[index], rtol=1e-12)
    gram_rows, score_rows = kernel.rows_of(np.array(index))
    some_grams = np.empty((part.n_gram_rows, design.shape[1]))
    some_scores = np.empty((part.n_score_rows, design.shape[1]))
    part.fill(some_grams, some_scores, weighted[index], weighted.sum(axis=0))
    np.testing.assert_allclose(some_grams, grams[gram_rows], rtol=1e-9)
    np.testing.assert_allclose(some_scores, scores[score_rows], rtol=1e-7, atol=1e-9)
    before = kernel.mass.copy(), kernel.sums.copy()
    kernel.absorb(part, np.array(index))
    np.testing.assert_allclose(kernel.mass[index], 2.0 * before[0][index])
    np.testing.assert_allclose(kernel.sums[index], 2.0 * before[1][index])


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("name", PROBLEMS)
def test_state(name, shared, rng):
    """A vector out and in, independent parts, a pickle."""
    kernel, *data = several(name, rng, shared=shared)
    value = pass_over(kernel, *data)
    if shared:
        assert np.ptp(kernel.shapes, axis=0).max(initial=0.0) == 0.0
    vector = kernel.parameters
    kernel.parameters = vector + 0.1
    assert abs(pass_over(kernel, *data) - value) > 1e-6
    kernel.parameters = vector
    vector[:] = 0.0  # no window on the state
    assert pass_over(kernel, *data) == pytest.approx(value, rel=1e-12)
    for k, part in enumerate(kernel.split()):
        np.testing.assert_array_equal(part.coef[0], kernel.coef[k])
        np.testing.assert_array_equal(part.shapes[0], kernel.shapes[k])
        part.coef += 100.0
    again = pickle.loads(pickle.dumps(copy.copy(kernel)))
    assert pass_over(again, *data) == pytest.approx(value, rel=1e-12)


# -- in the engine -------------------------------------------------------------


def fused(name, rng, **params):
    expert, X, y, weight = problem(name, rng, 200, **params)
    expert.prepare(X, y, weight)
    matrix = expert.design_.matrix(X)
    gate = SoftmaxGate().make_kernel(expert.design_, K)
    rows = expert.kernel_rows(X, y)
    return FusedNode(gate, expert.make_kernel(K), matrix, matrix, rows, weight)


@pytest.mark.parametrize("name", PROBLEMS)
def test_em_climbs(name, rng):
    node = fused(name, rng)
    node.start(rng.dirichlet(np.ones(K), size=200).T)
    values = [node.e_step() + node.penalty]
    for _ in range(12):
        node.m_step()
        value = node.e_step() + node.penalty
        while value < values[-1] - 1e-9 and node.backtrack():
            value = node.e_step() + node.penalty
        values.append(value)
    assert_climbs(values, 1e-10)
    assert values[-1] > values[0] + 0.1


@pytest.mark.parametrize("name", SMOOTH)
def test_gradient_of_the_observed_likelihood(name, rng):
    """At its own responsibilities the complete-data gradient is that of EM."""
    node = fused(name, rng)
    node.start(rng.dirichlet(np.ones(K), size=200).T)

    def value(vector):
        node.parameters = vector
        return node.e_step() + node.penalty

    point = node.parameters
    value(point)
    assert_gradient(value, node.gradient, point, rng)


@pytest.mark.parametrize("name", PROBLEMS)
def test_blocks_of_rows_add_up(name, rng):
    node = fused(name, rng)
    node.start(rng.dirichlet(np.ones(K), size=200).T)
    whole = node.e_step()
    gradient = node.gradient
    node.block_rows = 17
    assert node.e_step() == pytest.approx(whole, rel=1e-12)
    scale = np.abs(gradient).max()
    np.testing.assert_allclose(node.gradient, gradient, atol=1e-9 * scale)
