"""The kernels of native experts: K of them in one pass, alone and tied."""

import numpy as np
import pytest
from scipy import optimize

from skmoe._blocks import half_products
from skmoe._multinomial import MAX_LOGIT_STEP
from skmoe.experts import LinearExpert, LogisticExpert
from skmoe.experts._linear_kernel import (
    LinearKernel,
    _exp_spd,
    _log_spd,
)
from skmoe.experts._linear_prior import _floor_matrices
from skmoe.experts._logistic_kernel import LogisticKernel
from tests._asserts import assert_gradient, assert_symmetric_psd

K = 3


@pytest.fixture
def rng():
    return np.random.default_rng(6)


def linear(rng, n_outputs=1, *, shared=False, n=60, **params):
    """Return a kernel of K experts, its design, y and weighted responsibilities."""
    X = rng.normal(size=(n, 2))
    y = X @ rng.normal(size=(2, n_outputs)) + rng.normal(size=(n, n_outputs))
    expert = LinearExpert(**params)
    expert.prepare(X, y, np.ones(n))
    expert.kernel_.prior.shared = shared
    kernel = LinearKernel(K, expert.kernel_.prior)
    weighted = rng.dirichlet(np.ones(K), size=n).T * rng.uniform(0.2, 2.0, size=n)
    return kernel, expert, X, y, weighted


def pass_over(kernel, design, y, weighted):
    """Sum one pass, as the engine does; return the weighted log-likelihood."""
    kernel.reset()
    log_prob = kernel.log_prob(design, y)
    grams = np.empty((kernel.n_gram_rows, design.shape[1]))
    scores = np.empty((kernel.n_score_rows, design.shape[1]))
    kernel.fill(grams, scores, weighted, weighted.sum(axis=0))
    half = half_products(design) @ grams.T
    kernel.take(half, design @ scores.T, weighted.sum())
    return float((weighted * log_prob).sum())


@pytest.mark.parametrize("covariance", ["full", "diag"])
@pytest.mark.parametrize("n_outputs", [1, 2])
def test_k_experts_are_k_single_ones(rng, n_outputs, covariance):
    kernel, expert, X, y, weighted = linear(rng, n_outputs, covariance=covariance)
    design = expert.design_.matrix(X)
    for _ in range(2):
        pass_over(kernel, design, y.T, weighted)
        kernel.propose()
    log_prob = kernel.log_prob(design, y.T) if n_outputs == 1 else None
    for k in range(K):
        alone = LinearExpert(covariance=covariance)
        alone.prepare(X, y, np.ones(60))
        for _ in range(2):
            alone.m_step(X, y, weighted[k])
        np.testing.assert_allclose(kernel.coef[k], alone.kernel_.coef[0], rtol=1e-9)
        np.testing.assert_allclose(
            kernel.variance[k], alone.kernel_.variance[0], rtol=1e-9
        )
        if log_prob is not None:
            kernel.reset()
            ours = kernel.log_prob(design, y.T)[k]
            np.testing.assert_allclose(ours, alone.log_prob(X, y), rtol=1e-9)


@pytest.mark.parametrize("prior", [None, (3.0, 0.2)])
def test_tied_variance_is_the_maximum(rng, prior):
    kernel, expert, X, y, weighted = linear(
        rng, shared=True, alpha=1.5, variance_prior=prior
    )
    design = expert.design_.matrix(X)
    pass_over(kernel, design, y.T, weighted)
    kernel.propose()
    assert np.ptp(kernel.variance) == 0.0
    best = kernel.parameters

    def minus(vector):
        kernel.parameters = vector
        return -pass_over(kernel, design, y.T, weighted) - kernel.penalty

    at_best = minus(best)
    found = optimize.minimize(minus, best + 0.1, method="BFGS", tol=1e-9)
    assert at_best <= found.fun + 1e-7
    np.testing.assert_allclose(found.x, best, atol=1e-4)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("n_outputs", [1, 2])
def test_gradient_of_linear_experts(rng, n_outputs, shared):
    kernel, expert, X, y, weighted = linear(
        rng, n_outputs, shared=shared, covariance="diag", alpha=0.7
    )
    design = expert.design_.matrix(X)
    assert kernel.has_gradient

    def value(vector):
        kernel.parameters = vector
        return pass_over(kernel, design, y.T, weighted) + kernel.penalty

    point = kernel.parameters + 0.3 * rng.normal(size=kernel.parameters.size)
    value(point)
    assert_gradient(value, kernel.gradient, point, rng)
    assert_symmetric_psd(kernel.precondition, point.size)


def test_full_covariances_have_no_gradient(rng):
    assert not linear(rng, 2)[0].has_gradient
    assert linear(rng, 1)[0].has_gradient


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("covariance", ["full", "diag"])
def test_linear_parameters_round_trip(rng, covariance, shared):
    kernel, expert, X, y, weighted = linear(
        rng, 2, covariance=covariance, shared=shared
    )
    pass_over(kernel, expert.design_.matrix(X), y.T, weighted)
    kernel.propose()
    coef, variance = kernel.coef.copy(), kernel.variance.copy()
    vector = kernel.parameters
    kernel.parameters = vector + 1.0
    assert np.abs(kernel.variance - variance).max() > 0.1
    kernel.parameters = vector
    np.testing.assert_allclose(kernel.coef, coef, rtol=1e-12)
    np.testing.assert_allclose(kernel.variance, variance, rtol=1e-10)
    # The vector handed out is no window on the state.
    vector[:] = 0.0
    np.testing.assert_allclose(kernel.coef, coef, rtol=1e-12)


def test_a_limited_step_bounds_each_experts_log_variances(rng):
    kernel = linear(rng)[0]
    direction = np.ones(kernel.parameters.size)
    direction[: kernel.coef.size] = 1e9
    np.testing.assert_array_equal(kernel.limited(direction), direction)
    direction[-1] = -50.0
    limited = kernel.limited(direction)
    last = kernel.coef[-1].size
    np.testing.assert_allclose(limited[-1], -2.0)
    # The expert that would go too far is held back, the others are not.
    np.testing.assert_allclose(limited[kernel.coef.size - last :][:last], 0.04e9)
    np.testing.assert_array_equal(limited[: kernel.coef.size - last], 1e9)


def test_split_gives_independent_experts(rng):
    kernel, expert, X, y, weighted = linear(rng)
    design = expert.design_.matrix(X)
    pass_over(kernel, design, y.T, weighted)
    kernel.propose()
    parts = kernel.split()
    assert len(parts) == K
    for k, part in enumerate(parts):
        np.testing.assert_array_equal(part.coef[0], kernel.coef[k])
        np.testing.assert_array_equal(part.variance[0], kernel.variance[k])
        assert part.mass[0] == pytest.approx(weighted[k].sum())
        part.coef += 100.0
    assert np.abs(kernel.coef).max() < 50.0


def test_degenerate(rng):
    kernel, expert, X, y, weighted = linear(rng)
    design = expert.design_.matrix(X)
    pass_over(kernel, design, y.T, weighted)
    kernel.propose()
    assert not kernel.degenerate(1.0)
    thin = weighted * np.array([1.0, 1.0, 0.5 / weighted[2].sum()])[:, None]
    pass_over(kernel, design, y.T, thin)
    assert kernel.degenerate(1.0)
    # Without a prior a regression of three columns needs more than three rows.
    free, expert, X, y, weighted = linear(rng, variance_prior=None)
    design = expert.design_.matrix(X)
    few = weighted * np.array([1.0, 1.0, 3.5 / weighted[2].sum()])[:, None]
    pass_over(free, design, y.T, few)
    assert free.degenerate(1.0)
    pass_over(free, design, y.T, weighted)
    assert not free.degenerate(1.0)
    free.variance[1] = free.prior.floor
    assert free.degenerate(1.0)


def test_a_row_may_weigh_less_than_one(rng):
    """Weights that sum to one are rows all the same."""
    kernel, expert, X, y, weighted = linear(rng)
    share = weighted / weighted.sum()
    pass_over(kernel, expert.design_.matrix(X), y.T, share)
    assert kernel.degenerate(1.0)
    assert not kernel.degenerate(1.0 / share.shape[1])


def test_matrix_logarithms(rng):
    A = rng.normal(size=(4, 3, 5))
    spd = A @ A.transpose(0, 2, 1)
    np.testing.assert_allclose(_exp_spd(_log_spd(spd)), spd, rtol=1e-10)
    own = np.einsum("kii->ki", spd)
    np.testing.assert_allclose(_exp_spd(_log_spd(own)), own, rtol=1e-12)


def test_floor_lifts_only_what_is_too_small(rng):
    floor = np.array([1.0, 1e-6])
    above = np.array([[[4.0, 1e-3], [1e-3, 4e-6]]])
    np.testing.assert_allclose(_floor_matrices(above, floor), above, rtol=1e-9)
    lifted = _floor_matrices(np.zeros((1, 2, 2)), floor)
    np.testing.assert_allclose(lifted[0], np.diag(floor), rtol=1e-12)


def logistic(rng, n_classes=3, *, newton=True, n=70, alpha=0.5):
    X = rng.normal(size=(n, 2))
    y = (X[:, :1] * np.arange(n_classes) + rng.gumbel(size=(n, n_classes))).argmax(1)
    expert = LogisticExpert(alpha)
    expert.prepare(X, y, np.ones(n), n_classes)
    kernel = LogisticKernel(K, expert.kernel_.anchor, expert.kernel_.ridge)
    kernel.newton = newton
    weighted = rng.dirichlet(np.ones(K), size=n).T * rng.uniform(0.2, 2.0, size=n)
    kernel.coef = kernel.coef + 0.2 * rng.normal(size=kernel.coef.shape)
    kernel.coef -= kernel.coef.mean(axis=1, keepdims=True)
    return kernel, expert, X, y, weighted


@pytest.mark.parametrize("n_classes", [2, 4])
def test_k_logistic_experts_are_k_single_ones(rng, n_classes):
    kernel, expert, X, y, weighted = logistic(rng, n_classes)
    start = kernel.coef.copy()
    design = expert.design_.matrix(X)
    pass_over(kernel, design, y, weighted)
    np.testing.assert_allclose(kernel.mass, weighted.sum(axis=1), rtol=1e-12)
    log_prob = kernel.log_prob(design, y)
    kernel.propose()
    kernel.move(1.0)
    for k in range(K):
        alone = LogisticExpert(0.5)
        alone.prepare(X, y, np.ones(70), n_classes)
        alone.parameters = start[k].ravel()
        np.testing.assert_allclose(log_prob[k], alone.log_prob(X, y), rtol=1e-9)
        alone.m_step(X, y, weighted[k])
        # Newton's full step raises these objectives: nothing is shortened.
        np.testing.assert_allclose(kernel.coef[k], alone.kernel_.coef[0], rtol=1e-8)


@pytest.mark.parametrize("newton", [True, False])
def test_gradient_of_logistic_experts(rng, newton):
    kernel, expert, X, y, weighted = logistic(rng, newton=newton)
    design = expert.design_.matrix(X)

    def value(vector):
        kernel.parameters = vector
        return pass_over(kernel, design, y, weighted) + kernel.penalty

    point = kernel.parameters.copy()
    value(point)
    assert_gradient(value, kernel.gradient, point, rng)
    assert_symmetric_psd(kernel.precondition, point.size)
    far = np.zeros(kernel.coef.shape)
    far[0] = 100.0
    limited = kernel.limited(far.ravel()).reshape(far.shape)
    size = np.sqrt((limited[0] ** 2).sum(axis=1)).max()
    assert size == pytest.approx(MAX_LOGIT_STEP)
    np.testing.assert_array_equal(limited[1:], 0.0)


@pytest.mark.parametrize("newton", [True, False])
def test_a_logistic_step_climbs_and_can_be_shortened(rng, newton):
    kernel, expert, X, y, weighted = logistic(rng, newton=newton)
    design = expert.design_.matrix(X)
    start = kernel.coef.copy()
    before = pass_over(kernel, design, y, weighted) + kernel.penalty
    kernel.propose()
    values = []
    for fraction in (0.0, 0.25, 1.0):
        kernel.move(fraction)
        np.testing.assert_allclose(
            kernel.coef, start + fraction * kernel.direction, rtol=1e-12
        )
        values.append(pass_over(kernel, design, y, weighted) + kernel.penalty)
    assert values[0] == pytest.approx(before, rel=1e-12)
    assert values[0] < values[1] < values[2]


def test_a_logistic_step_is_bounded_in_logits(rng):
    kernel, expert, X, y, weighted = logistic(rng, 2, alpha=0.0)
    # Far out on a plateau the Hessian vanishes, and Newton would run away.
    kernel.coef[:, 0, 1], kernel.coef[:, 1, 1] = 12.0, -12.0
    pass_over(kernel, expert.design_.matrix(X), y, weighted)
    kernel.propose()
    size = np.sqrt((kernel.direction**2).sum(axis=2)).max()
    assert size == pytest.approx(MAX_LOGIT_STEP)


def test_logistic_split_and_degenerate(rng):
    kernel, expert, X, y, weighted = logistic(rng)
    pass_over(kernel, expert.design_.matrix(X), y, weighted)
    assert not kernel.degenerate(1.0)
    for k, part in enumerate(kernel.split()):
        np.testing.assert_array_equal(part.coef[0], kernel.coef[k])
    weighted[1] *= 0.9 / weighted[1].sum()
    pass_over(kernel, expert.design_.matrix(X), y, weighted)
    assert kernel.degenerate(1.0)


# name: (make a kernel with its rows, how y lies in the engine)
RESTRICTED = {
    "linear": (linear, lambda y: y.T),
    "two outputs": (lambda rng: linear(rng, 2, covariance="full"), lambda y: y.T),
    "diagonal": (lambda rng: linear(rng, 2, covariance="diag"), lambda y: y.T),
    "tied": (lambda rng: linear(rng, shared=True), lambda y: y.T),
    "two classes": (lambda rng: logistic(rng, 2), lambda y: y),
    "three classes": (logistic, lambda y: y),
    "bound": (lambda rng: logistic(rng, newton=False), lambda y: y),
}


def moved(kernel, rng):
    """Give the experts of a kernel different parameters; return it."""
    vector = kernel.parameters
    kernel.parameters = vector + 0.3 * rng.normal(size=vector.size)
    return kernel


@pytest.mark.parametrize("name", RESTRICTED)
@pytest.mark.parametrize("index", [[0], [1], [0, 2], [2, 0, 1]])
def test_some_experts_see_what_all_see(name, index, rng):
    """A restricted kernel gives the rows of the whole one, to 1e-13."""
    make, lay = RESTRICTED[name]
    kernel, expert, X, y, weighted = make(rng)
    moved(kernel, rng)
    design, y = expert.design_.matrix(X), lay(y)
    kernel.reset()
    whole = kernel.log_prob(design, y)
    grams = np.empty((kernel.n_gram_rows, design.shape[1]))
    scores = np.empty((kernel.n_score_rows, design.shape[1]))
    kernel.fill(grams, scores, weighted, weighted.sum(axis=0))
    part = kernel.restrict(np.array(index))
    part.reset()
    np.testing.assert_allclose(part.log_prob(design, y), whole[index], rtol=1e-13)
    gram_rows, score_rows = kernel.rows_of(np.array(index))
    assert part.n_gram_rows == gram_rows.size
    assert part.n_score_rows == score_rows.size
    some_grams = np.empty((gram_rows.size, design.shape[1]))
    some_scores = np.empty((score_rows.size, design.shape[1]))
    part.fill(some_grams, some_scores, weighted[index], weighted.sum(axis=0))
    scale = np.abs(scores).max()
    np.testing.assert_allclose(some_grams, grams[gram_rows], rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(some_scores, scores[score_rows], atol=1e-13 * scale)


@pytest.mark.parametrize("name", RESTRICTED)
def test_every_row_belongs_to_one_expert(name, rng):
    kernel = RESTRICTED[name][0](rng)[0]
    grams, scores = zip(*(kernel.rows_of(np.array([k])) for k in range(K)), strict=True)
    assert sorted(np.concatenate(grams)) == list(range(kernel.n_gram_rows))
    assert sorted(np.concatenate(scores)) == list(range(kernel.n_score_rows))


@pytest.mark.parametrize("name", RESTRICTED)
def test_blocks_of_some_experts_add_up_to_one_pass(name, rng):
    """Where a block's rows reach few experts, the others need not be computed."""
    make, lay = RESTRICTED[name]
    kernel, expert, X, y, weighted = make(rng)
    moved(kernel, rng)
    design, y = expert.design_.matrix(X), lay(y)
    n = design.shape[1]
    blocks = [(slice(0, 20), [0, 1]), (slice(20, 45), [2]), (slice(45, n), [2, 0])]
    for rows, index in blocks:
        weighted[np.setdiff1d(range(K), index), rows] = 0.0
    start = kernel.parameters
    value = pass_over(kernel, design, y, weighted)
    mass, scatter = kernel.mass.copy(), vars(kernel).get("scatter")
    kernel.propose()
    kernel.move(1.0)
    expected = kernel.parameters

    kernel.parameters = start
    kernel.reset()
    half = np.zeros((design.shape[0] * (design.shape[0] + 1) // 2, kernel.n_gram_rows))
    score = np.zeros((design.shape[0], kernel.n_score_rows))
    log_lik = 0.0
    for rows, index in blocks:
        index = np.array(index)
        part = kernel.restrict(index)
        part.reset()
        some, own = weighted[index, rows], design[:, rows]
        log_lik += float((part.log_prob(own, y[..., rows]) * some).sum())
        grams = np.empty((part.n_gram_rows, own.shape[1]))
        scores = np.empty((part.n_score_rows, own.shape[1]))
        part.fill(grams, scores, some, some.sum(axis=0))
        gram_rows, score_rows = kernel.rows_of(index)
        half[:, gram_rows] += half_products(own) @ grams.T
        score[:, score_rows] += own @ scores.T
        kernel.absorb(part, index)
    kernel.take(half, score, weighted.sum())
    assert log_lik == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(kernel.mass, mass, rtol=1e-13)
    if scatter is not None:
        np.testing.assert_allclose(kernel.scatter, scatter, rtol=1e-12)
    kernel.propose()
    kernel.move(1.0)
    np.testing.assert_allclose(kernel.parameters, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", RESTRICTED)
def test_a_restricted_kernel_is_on_its_own(name, rng):
    make, lay = RESTRICTED[name]
    kernel, expert, X, y, weighted = make(rng)
    moved(kernel, rng)
    design, y = expert.design_.matrix(X), lay(y)
    pass_over(kernel, design, y, weighted)
    before, mass = kernel.parameters.copy(), kernel.mass.copy()
    part = kernel.restrict(np.array([1, 2]))
    part.coef[:] = 7.0
    part.reset()
    part.mass += 5.0
    assert kernel.n_experts == K
    np.testing.assert_array_equal(kernel.parameters, before)
    np.testing.assert_array_equal(kernel.mass, mass)
    # What the whole one summed is still there for its M-step.
    kernel.propose()
    assert np.isfinite(kernel.coef).all()


@pytest.mark.parametrize("prior", [None, (3.0, 0.2)])
@pytest.mark.parametrize("dead", [0, 1, 2])
def test_an_expert_without_rows_leaves_the_others_alone(rng, dead, prior):
    """Its system is singular; those of the others are solved as ever."""
    kernel, expert, X, y, weighted = linear(rng, alpha=0.0, variance_prior=prior)
    design = expert.design_.matrix(X)
    weighted[dead] = 0.0
    pass_over(kernel, design, y.T, weighted)
    kernel.propose()
    np.testing.assert_array_equal(kernel.coef[dead], kernel.prior.anchor)
    for k in set(range(K)) - {dead}:
        alone = LinearExpert(alpha=0.0, variance_prior=prior)
        alone.prepare(X, y, np.ones(60))
        alone.m_step(X, y, weighted[k])
        np.testing.assert_allclose(kernel.coef[k], alone.kernel_.coef[0], rtol=1e-9)
        np.testing.assert_allclose(
            kernel.variance[k], alone.kernel_.variance[0], rtol=1e-9
        )


@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_logistic_expert_without_rows_stays(rng, n_classes):
    kernel, expert, X, y, weighted = logistic(rng, n_classes, alpha=0.0)
    start = kernel.coef.copy()
    weighted[1] = 0.0
    pass_over(kernel, expert.design_.matrix(X), y, weighted)
    kernel.propose()
    kernel.move(1.0)
    np.testing.assert_array_equal(kernel.coef[1], start[1])
    assert np.abs(kernel.coef[[0, 2]] - start[[0, 2]]).max(axis=(1, 2)).min() > 1e-3


def test_logistic_experts_of_extreme_coefficients_stay_finite(rng):
    """Logits of thousands: probabilities 0 and 1, finite sums and a finite step."""
    for n_classes in (2, 3):
        kernel, expert, X, y, weighted = logistic(rng, n_classes, alpha=0.0)
        kernel.coef[1] *= 1e4
        design = expert.design_.matrix(X)
        with np.errstate(all="raise", under="ignore"):
            value = pass_over(kernel, design, y, weighted)
            kernel.propose()
        assert np.isfinite(value)
        assert np.isfinite(kernel.gradient).all()
        kernel.move(1.0)
        assert np.isfinite(kernel.coef).all()
