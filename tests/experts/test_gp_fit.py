"""Hyperparameters: the noise's prior, the schedule, and where the climb ends."""

import numpy as np
import pytest
from scipy import optimize, stats
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, Matern

from skmoe.experts import _gp_fit
from skmoe.experts._gp_fit import (
    FIRST_REFITS,
    SETTLED,
    Hyperparameters,
    NoisePrior,
    Schedule,
    fit_process,
    make_process,
)
from skmoe.experts._gp_numerics import ExactProcess, evaluate_exact
from skmoe.experts._gp_rows import WeightedRows
from skmoe.experts._gp_sparse import SparseProcess, choose_inducing
from tests._asserts import assert_gradient

PRIOR = NoisePrior(5.0, 0.05, 1.0)
START = Hyperparameters(ConstantKernel() * RBF(), np.log(0.2))


@pytest.fixture
def rng():
    return np.random.default_rng(2)


def waves(rng, size=60, noise=0.3):
    points = np.sort(rng.uniform(-2, 2, size=size))[:, None]
    target = np.sin(3.0 * points[:, 0]) + noise * rng.normal(size=size)
    return WeightedRows(points, target, rng.uniform(0.3, 2.0, size), 0.4)


def log_posterior(point, rows, prior=PRIOR):
    """Return evidence and prior from scipy's normal density."""
    own = point.noise / rows.weight
    law = stats.multivariate_normal(cov=point.kernel(rows.points) + np.diag(own))
    return (
        law.logpdf(rows.target)
        + 0.5 * np.sum(np.log(2 * np.pi * own))
        - 0.5 * rows.total * np.log(2 * np.pi * point.noise)
        - 0.5 * rows.scatter / point.noise
        + prior.log_prob(point.log_noise)[0]
    )


# -- the prior -----------------------------------------------------------------


def test_noise_prior_is_inverse_gamma():
    """In s2, not in log s2: the mode is where the linear expert has it."""
    rows, fraction, reference = 5.0, 0.05, 4.0
    prior = NoisePrior(rows, fraction, reference)
    law = stats.invgamma(0.5 * rows - 1.0, scale=0.5 * rows * fraction * reference)
    noise = np.array([0.01, 0.2, 1.0, 9.0])
    got = np.array([prior.log_prob(np.log(value))[0] for value in noise])
    np.testing.assert_allclose(np.diff(got), np.diff(law.logpdf(noise)), rtol=1e-10)
    mode = optimize.minimize_scalar(lambda u: -prior.log_prob(u)[0]).x
    np.testing.assert_allclose(np.exp(mode), fraction * reference, rtol=1e-5)


def test_noise_prior_slope(rng):
    slope = PRIOR.log_prob(-0.7)[1]
    assert_gradient(lambda u: PRIOR.log_prob(u[0])[0], np.array([slope]), [-0.7], rng)
    assert NoisePrior(0.0, 0.0, 1.0).log_prob(3.0) == (0.0, 0.0)


# -- the schedule ----------------------------------------------------------------


def taken(schedule, gains):
    """Return the M-steps that fit hyperparameters, of as many as gains."""
    steps = []
    for step, gain in enumerate(gains):
        if schedule.is_due:
            steps.append(step)
        schedule = schedule.after(gain if schedule.is_due else None)
    return steps


def test_schedule_of_fits_that_gain():
    first = list(range(FIRST_REFITS))
    later = list(range(FIRST_REFITS + 3, 20, 4))
    assert taken(Schedule(4), [1.0] * 20) == first + later
    assert taken(Schedule(1), [1.0] * 6) == [0, 1, 2, 3, 4, 5]


def test_schedule_slows_down_as_it_settles():
    steps = taken(Schedule(2), [0.1 * SETTLED] * 60)
    assert np.diff(steps[FIRST_REFITS:]).tolist() == [8, 16]


def test_schedule_knows_its_first_step_and_waits_for_rows():
    schedule = Schedule(5)
    assert schedule.is_first
    schedule = schedule.after(None)  # an expert without rows
    assert not schedule.is_first
    assert schedule.is_due


# -- the climb -------------------------------------------------------------------


def test_finds_the_maximum(rng):
    rows = waves(rng)
    found, gain = fit_process(START, rows, PRIOR, 500, first=True)

    def loss(vector):
        return -log_posterior(START.at(vector), rows)

    peer = optimize.minimize(
        loss, START.vector, method="Nelder-Mead", options={"maxiter": 2000}
    )
    np.testing.assert_allclose(found.vector, peer.x, atol=0.02)
    assert loss(found.vector) <= peer.fun + 1e-3
    expected = loss(START.vector) - loss(found.vector)
    np.testing.assert_allclose(gain, expected, rtol=1e-8)


def test_recovers_what_made_the_rows(rng):
    kernel, noise = ConstantKernel(2.0) * Matern(0.4, nu=2.5), 0.05
    points = np.sort(rng.uniform(-3, 3, size=300))[:, None]
    factor = np.linalg.cholesky(kernel(points) + noise * np.eye(300))
    rows = WeightedRows(points, factor @ rng.normal(size=300), np.ones(300))
    start = Hyperparameters(ConstantKernel() * Matern(nu=2.5), np.log(0.2))
    found, _ = fit_process(start, rows, PRIOR, 500, first=True)
    assert found.noise == pytest.approx(noise, rel=0.25)
    assert found.kernel.k2.length_scale == pytest.approx(0.4, rel=0.4)


def test_later_fits_take_few_steps_and_never_lose(rng, monkeypatch):
    rows, count = waves(rng), []
    evaluate = evaluate_exact
    monkeypatch.setattr(
        _gp_fit, "evaluate_exact", lambda *args: count.append(1) or evaluate(*args)
    )
    found, gain = fit_process(START, rows, PRIOR, 500, first=False)
    assert gain > 0.0
    assert len(count) < 20
    again, more = fit_process(found, rows, PRIOR, 500, first=False)
    assert more >= 0.0
    assert log_posterior(again, rows) >= log_posterior(found, rows)


def test_restarts_find_the_higher_of_two_maxima(rng):
    """Noise or a short wave? From a long length scale L-BFGS only sees noise."""
    points = np.linspace(-2, 2, 60)[:, None]
    rows = WeightedRows(points, np.sin(14.0 * points[:, 0]), np.ones(60))
    start = Hyperparameters(
        ConstantKernel(1.0, "fixed") * RBF(3.0, (0.02, 1e3)), np.log(0.9)
    )
    alone, _ = fit_process(start, rows, PRIOR, 500, first=True)
    with_more, _ = fit_process(start, rows, PRIOR, 500, first=True, n_restarts=4)
    assert log_posterior(with_more, rows) > log_posterior(alone, rows) + 20.0
    assert with_more.kernel.k2.length_scale < 1.0


def test_restarts_are_the_same_each_time_and_within_bounds():
    bounds = np.log([[0.1, 1e3], [1e-5, 1e5], [1e-8, 1e2]])
    one = _gp_fit._spread(np.zeros(3), bounds, 7)
    np.testing.assert_array_equal(one, _gp_fit._spread(np.zeros(3), bounds, 7))
    assert len(one) == 7
    assert (one >= bounds[:, 0]).all()
    assert (one <= bounds[:, 1]).all()
    assert np.ptp(one, axis=0).min() > 2.0
    assert _gp_fit._spread(np.zeros(3), bounds, 0) == []


def test_fixed_kernel_learns_the_noise_alone(rng):
    rows = waves(rng)
    start = Hyperparameters(RBF(0.5, "fixed"), np.log(5.0))
    found, gain = fit_process(start, rows, PRIOR, 500, first=True)
    assert found.kernel.length_scale == 0.5
    assert gain > 10.0
    assert 0.01 < found.noise < 0.5


def test_start_outside_the_bounds_is_brought_inside(rng):
    rows = waves(rng)
    start = Hyperparameters(RBF(9.0, (0.1, 2.0)), np.log(1e9))
    found, _ = fit_process(start, rows, PRIOR, 500, first=False)
    assert 0.1 <= found.kernel.length_scale <= 2.0
    assert found.log_noise <= PRIOR.log_bounds[1]


# -- few inducing rows for many ----------------------------------------------------


def test_sparse_fit_ends_near_the_exact_one(rng):
    rows = waves(rng, 150)
    exact, _ = fit_process(START, rows, PRIOR, 500, first=True)
    sparse, _ = fit_process(START, rows, PRIOR, 25, first=True)
    np.testing.assert_allclose(sparse.vector, exact.vector, atol=0.3)
    process = make_process(sparse, rows, 25)
    assert isinstance(process, SparseProcess)
    assert process.inducing.shape[0] <= 25
    best = ExactProcess(exact.kernel, exact.noise, rows).evidence
    assert best - 0.5 < process.evidence < best + 1e-3


def test_sparse_fit_knows_no_large_matrix(rng):
    """Time in proportion to n m^2: no square of more than m rows, few bounds."""
    shapes = []

    class Noted(RBF):
        def __call__(self, X, Y=None, eval_gradient=False):
            shapes.append((len(X), len(X if Y is None else Y)))
            return super().__call__(X, Y, eval_gradient)

    rows = waves(rng, 400)
    start = Hyperparameters(Noted(1.0), np.log(0.2))
    found, _ = fit_process(start, rows, PRIOR, 20, first=True, n_restarts=1)
    make_process(found, rows, 20)
    assert max(max(shape) for shape in shapes) == 400
    assert max(min(shape) for shape in shapes) <= 20


def test_sparse_fit_asks_for_few_bounds(rng, monkeypatch):
    count, evaluate = [], _gp_fit.evaluate_sparse
    monkeypatch.setattr(
        _gp_fit, "evaluate_sparse", lambda *args: count.append(1) or evaluate(*args)
    )
    fit_process(START, waves(rng, 400), PRIOR, 30, first=True, n_restarts=1)
    # Two to compare starts, 6 and 20 steps; a step rarely asks more than twice.
    assert 5 < len(count) <= 2 + 2 * (_gp_fit.LATER_STEPS + _gp_fit.SPARSE_STEPS)


def test_small_bound_finds_the_rough_function(rng):
    """The better start must climb a little before inducing rows are chosen.

    Chosen by the short waves that few rows alone suggest, they would all lie
    apart and show nothing but noise.
    """
    points = np.random.default_rng(1).uniform(0, 10, size=(1000, 1))
    target = np.sin(6 * points[:, 0] + points[:, 0] ** 2)
    target += 0.1 * rng.normal(size=1000)
    rows = WeightedRows((points - 5.0) / 2.9, target, np.ones(1000))
    start = Hyperparameters(
        ConstantKernel(1.0, (1e-3, 1e3)) * Matern(1.0, (0.05, 1e3), nu=2.5),
        np.log(0.2),
    )
    found, _ = fit_process(start, rows, PRIOR, 100, first=True, n_restarts=1)
    assert found.noise < 0.03


def test_sample_follows_weights_and_responses(rng):
    rows = waves(rng, 400)
    heavy = WeightedRows(
        rows.points, rows.target, np.where(rows.points[:, 0] < 0, 1.0, 1e-6)
    )
    chosen = _gp_fit._sample(heavy, 50)
    assert np.unique(chosen).size == chosen.size <= 50
    assert (heavy.points[chosen] < 0.0).all()
    chosen = _gp_fit._sample(rows, 50)
    wanted = np.quantile(
        rows.target, [0.1, 0.5, 0.9], weights=rows.weight, method="inverted_cdf"
    )
    got = np.quantile(rows.target[chosen], [0.1, 0.5, 0.9])
    np.testing.assert_allclose(got, wanted, atol=0.1)
    order = rng.permutation(400)
    moved = _gp_fit._sample(rows.take(order), 50)
    np.testing.assert_array_equal(np.sort(order[moved]), chosen)


def test_restarts_on_few_rows_lead_the_bound_of_all(rng):
    points = np.linspace(-2, 2, 120)[:, None]
    rows = WeightedRows(points, np.sin(14.0 * points[:, 0]), np.ones(120))
    start = Hyperparameters(
        ConstantKernel(1.0, "fixed") * RBF(3.0, (0.02, 1e3)), np.log(0.9)
    )
    alone, _ = fit_process(start, rows, PRIOR, 60, first=True)
    with_more, _ = fit_process(start, rows, PRIOR, 60, first=True, n_restarts=4)
    assert alone.kernel.k2.length_scale > 10.0
    assert with_more.kernel.k2.length_scale < 1.0


def test_process_is_exact_within_the_limit(rng):
    rows = waves(rng, 30)
    assert isinstance(make_process(START, rows, 30), ExactProcess)
    sparse = make_process(START, rows, 29)
    assert isinstance(sparse, SparseProcess)
    chosen = choose_inducing(START.kernel, START.noise, rows, 29)
    np.testing.assert_array_equal(sparse.inducing, rows.points[chosen])


def test_inducing_rows_can_be_kept(rng):
    rows = waves(rng, 30)
    inducing = rng.normal(size=(4, 1))
    kept = make_process(START, rows, 20, inducing)
    np.testing.assert_array_equal(kept.inducing, inducing)
    assert isinstance(make_process(START, rows, 30, inducing), ExactProcess)


def test_kernel_without_factor_is_left_for_a_better_one(rng):
    """A point where the matrix has no factor is no place to go to."""

    class Brittle(RBF):
        def __call__(self, X, Y=None, eval_gradient=False):
            result = super().__call__(X, Y, eval_gradient)
            if eval_gradient and self.length_scale > 1.5:
                return np.full_like(result[0], np.nan), result[1]
            return result

    rows = waves(rng)
    start = Hyperparameters(Brittle(1.0), np.log(0.2))
    found, gain = fit_process(start, rows, PRIOR, 500, first=True)
    assert gain > 0.0
    assert found.kernel.length_scale <= 1.5
