"""The Gaussian process expert: the protocol, by itself, in mixtures, bad input."""

import copy
import pickle

import numpy as np
import pytest
from scipy import stats
from sklearn.base import clone
from sklearn.gaussian_process.kernels import (
    RBF,
    CompoundKernel,
    ConstantKernel,
    ExpSineSquared,
    Kernel,
    WhiteKernel,
)
from sklearn.model_selection import GridSearchCV
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import parametrize_with_checks
from threadpoolctl import threadpool_info, threadpool_limits

from skmoe import MixtureOfExpertsRegressor
from skmoe._protocols import Expert, Likelihood
from skmoe.datasets import load_mcycle
from skmoe.experts import GaussianProcessExpert, LinearExpert, _gp
from tests._asserts import (
    assert_integrates_to_one,
    assert_same_density,
    assert_weight_is_repetition,
    assert_zero_weight_is_removal,
)
from tests.experts.expert_suite import ExpertSuite


class TestGaussianProcess(ExpertSuite):
    """The suite; where it asks for a shared variance, what stands in for it."""

    # Two ways to sum weights end L-BFGS at points this near.
    weight_tol = 1e-6

    def make_expert(self):
        return GaussianProcessExpert()

    def summary(self, X, y):
        new = X.copy()  # not the training rows, which are known by identity

        def fit(rows, target, weight):
            expert = self.fitted(rows, target, weight)
            return expert.log_prob(new, y), expert.penalty

        return fit

    def test_order_of_outputs_or_classes(self, rng):
        X, y, weight = self.rows(rng)
        one = self.fitted(X, y, weight).log_prob(X, y)
        turned = np.ascontiguousarray(X[:, ::-1])
        other = self.fitted(turned, y, weight).log_prob(turned, y)
        assert_same_density(other, one, atol=10.0 * self.weight_tol)

    def test_learns(self, rng):
        # Weights of one: as counts, uneven ones would say that rows were seen
        # several times with the very same noise.
        X, y, _ = self.rows(rng, 300)
        expert = self.fitted(X, y, np.ones(300), n_steps=3)
        flat = stats.norm(y.mean(), y.std()).logpdf(y)
        assert expert.log_prob(X, y).mean() > flat.mean() + 0.3

    def test_is_an_expert(self, rng):
        expert = self.fitted(*self.rows(rng))
        assert isinstance(expert, Expert)
        assert isinstance(expert.likelihood, Likelihood)
        assert expert.exact_m_step is False
        assert expert.cross_fit is True
        assert expert.dispersion is None
        assert expert.n_parameters == 3
        assert np.isfinite(expert.penalty)

    def test_shapes(self, rng):
        X, y, weight = self.rows(rng)
        expert = self.fitted(X, y, weight)
        params = expert.predict_params(X)
        assert params.shape == (90, 2)
        assert (params[:, 1] >= expert.noise_).all()
        assert expert.log_prob(X, y).shape == (90,)
        expected = expert.likelihood.log_prob(y, params, None)
        assert_same_density(expert.log_prob(X.copy(), y), expected)

    def test_density_equals_scipy(self, rng):
        X, y, weight = self.rows(rng)
        expert = self.fitted(X, y, weight)
        expert.finish()
        mean, variance = expert.predict_params(X).T
        expected = stats.norm(mean, np.sqrt(variance)).logpdf(y)
        assert_same_density(expert.log_prob(X, y), expected, rtol=1e-9)

    def test_density_integrates_to_one(self, rng):
        X, y, weight = self.rows(rng)
        expert = self.fitted(X, y, weight)
        mean, variance = expert.predict_params(X[:1])[0]
        width = 10.0 * np.sqrt(variance)
        assert_integrates_to_one(
            lambda value: np.exp(expert.log_prob(X[:1], np.array([value]))[0]),
            mean - width,
            mean + width,
            [mean],
        )

    def test_pickle(self, rng):
        X, y, weight = self.rows(rng)
        expert = self.fitted(X, y, weight)
        again = pickle.loads(pickle.dumps(expert))
        np.testing.assert_array_equal(again.predict_params(X), expert.predict_params(X))
        again.m_step(X, y, weight)
        assert np.isfinite(again.log_prob(X, y)).all()

    def test_sparse_equals_dense(self):
        assert not get_tags(self.make_expert()).input_tags.sparse

    def test_pools_dispersion(self, rng):
        """It has none to pool: its variance belongs to the row."""
        X, y, weight = self.rows(rng)
        expert = self.fitted(X, y, weight)
        assert not hasattr(expert, "scatter")
        assert np.ptp(expert.predict_params(X)[:, 1]) > 0.0


class TestSparseGaussianProcess(TestGaussianProcess):
    """The same with fewer inducing rows than rows."""

    # The choice of inducing rows is the same; the bound is climbed with the
    # rounding of a jitter of 1e-8.
    weight_tol = 1e-5

    def make_expert(self):
        return GaussianProcessExpert(max_rows=25)

    def test_takes_so_many_rows(self, rng):
        assert self.fitted(*self.rows(rng)).inducing_rows_ <= 25


@pytest.fixture
def rng():
    return np.random.default_rng(4)


def waves(rng, size=80, noise=0.2):
    X = rng.uniform(0, 6, size=(size, 1))
    return X, np.sin(2.0 * X[:, 0]) + noise * rng.normal(size=size) + 20.0


# -- by itself -------------------------------------------------------------------


def test_learns_a_curve_and_its_noise(rng):
    X, y = waves(rng, 200)
    model = GaussianProcessExpert().fit(X, y)
    new = np.linspace(0.3, 5.7, 50)[:, None]
    mean, std = model.predict(new, return_std=True)
    np.testing.assert_allclose(mean, np.sin(2.0 * new[:, 0]) + 20.0, atol=0.15)
    np.testing.assert_allclose(std, 0.2, rtol=0.3)
    np.testing.assert_allclose(model.noise_, 0.04, rtol=0.35)
    np.testing.assert_array_equal(model.predict(new), mean)
    assert model.score(X, y) > 0.9


def test_far_away_it_knows_that_it_does_not_know(rng):
    X, y = waves(rng)
    model = GaussianProcessExpert().fit(X, y)
    mean, std = model.predict([[1e4]], return_std=True)
    # The amplitude of the process, the level and the noise remain.
    amplitude = model.kernel_.k1.constant_value * y.var()
    assert std[0] ** 2 > amplitude + model.noise_
    assert abs(mean[0] - y.mean()) < std[0]


@pytest.mark.parametrize("max_rows", [500, 30])
def test_weight_is_repetition_of_a_whole_fit(rng, max_rows):
    X, y = waves(rng)
    new = np.linspace(-1, 7, 30)[:, None]

    def fit(X, y, weight):
        model = GaussianProcessExpert(max_rows=max_rows).fit(X, y, weight)
        return (*model.predict_params(new).T, model.log_evidence_, model.noise_)

    count = rng.integers(1, 4, size=80)
    assert_weight_is_repetition(fit, X, y, count, atol=1e-6)
    assert_zero_weight_is_removal(fit, X, y, 1.0 * (count > 1), atol=1e-6)


def test_evidence_is_of_y_in_its_own_unit(rng):
    X, y = waves(rng)
    model = GaussianProcessExpert().fit(X, y)
    unit = y.std()
    points = (X - X.mean()) / X.std()
    K = (model.kernel_(points) + 1.0) * unit**2 + model.noise_ * np.eye(80)
    expected = stats.multivariate_normal(np.full(80, y.mean()), K).logpdf(y)
    np.testing.assert_allclose(model.log_evidence_, expected, rtol=1e-8)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_units_make_no_difference(rng, scale):
    X, y = waves(rng)
    one = GaussianProcessExpert().fit(X, y).predict_params(X)
    other = (
        GaussianProcessExpert()
        .fit(3.0 * X - 5.0, scale * y)
        .predict_params(3.0 * X - 5.0)
    )
    np.testing.assert_allclose(other / [scale, scale**2], one, rtol=1e-5)


def test_columns_as_they_are(rng):
    """A period is in units of x: standardising would lose it."""
    X, y = waves(rng)
    kernel = ConstantKernel() * ExpSineSquared(1.0, np.pi, periodicity_bounds="fixed")
    model = GaussianProcessExpert(kernel, standardize=False).fit(X, y)
    assert model.kernel_.k2.periodicity == np.pi
    one = model.predict([[1.0]], return_std=True)
    later = model.predict([[1.0 + 20 * np.pi]], return_std=True)
    np.testing.assert_allclose(one, later, rtol=1e-6)
    np.testing.assert_allclose(one[0], np.sin(2.0) + 20.0, atol=0.2)


def test_a_column_each_length_scale(rng):
    X = rng.uniform(-2, 2, size=(100, 3))
    y = np.sin(2.0 * X[:, 1]) + 0.1 * rng.normal(size=100)
    model = GaussianProcessExpert(ConstantKernel() * RBF([1.0, 1.0, 1.0])).fit(X, y)
    assert model.kernel_.k2.length_scale.argmin() == 1
    assert model.n_parameters == 5


def test_constant_response(rng):
    X, _ = waves(rng)
    mean, std = (
        GaussianProcessExpert().fit(X, np.full(80, 3.0)).predict(X, return_std=True)
    )
    np.testing.assert_allclose(mean, 3.0)
    assert (std < 1e-6).all()


def test_pickle_is_no_longer_than_the_predictions_need(rng):
    X, y = waves(rng, 2000)
    model = GaussianProcessExpert(max_rows=20, refit_every=10).fit(X, y)
    size = len(pickle.dumps(model))
    assert size < 8 * 2000 + 3 * 8 * 20 * 20
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(X), model.predict(X))


def test_pickle_within_a_fit_leaves_the_training_rows_behind(rng):
    X, y = waves(rng, 2000)
    assert len(pickle.dumps(prepared(X, y, max_rows=20))) < 8 * 2000 + 3 * 8 * 20 * 20


def test_in_a_grid_search(rng):
    X, y = waves(rng, 40)
    grid = {"kernel": [RBF(), ConstantKernel() * RBF()], "max_rows": [10, 50]}
    search = GridSearchCV(GaussianProcessExpert(), grid, cv=2).fit(X, y)
    assert search.best_score_ > 0.5


@parametrize_with_checks(
    [GaussianProcessExpert(), GaussianProcessExpert(max_rows=30, n_restarts=0)]
)
def test_passes_the_checks_of_scikit_learn(estimator, check):
    check(estimator)


def blas_threads():
    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    return {pool["num_threads"] for pool in pools}


@pytest.mark.parametrize("max_rows", [300, 10])
def test_alone_it_fits_and_predicts_with_one_blas_thread(rng, max_rows):
    """Two threads that wait for one another took ten times as long."""
    seen = []

    class Noted(RBF):
        def __call__(self, X, Y=None, eval_gradient=False):
            seen.append(blas_threads())
            return super().__call__(X, Y, eval_gradient)

    X, y = waves(rng, 30)
    with threadpool_limits(2, user_api="blas"):
        model = GaussianProcessExpert(Noted(), max_rows=max_rows).fit(X, y)
        count = len(seen)
        model.predict(X)
        assert blas_threads() == {2}  # as before
    assert 0 < count < len(seen)
    assert all(threads == {1} for threads in seen)


# -- inside EM: what it knows of the training rows ---------------------------------


def prepared(X, y, weight=None, **params):
    weight = np.ones(len(y)) if weight is None else weight
    expert = GaussianProcessExpert(**params)
    expert.prepare(X, y, weight)
    expert.m_step(X, y, weight)
    return expert


def refitted_without(expert, X, y, weight, rows):
    """Return the law of some rows, with all else as it is but their weight zero."""
    other = copy.copy(expert)
    other._schedule = other._schedule.after(0.0)  # hyperparameters stay
    other._schedule = type(other._schedule)(99, 5, 99)
    weight = weight.copy()
    weight[rows] = 0.0
    other.m_step(X, y, weight)
    other.finish()
    return other.log_prob(X[rows], y[rows])


@pytest.mark.parametrize("max_rows", [500, 12])
def test_training_rows_get_their_leave_one_out_density(rng, max_rows):
    X, y = waves(rng, 40)
    X[7] = X[3]
    weight = rng.uniform(size=40) ** 4
    expert = prepared(X, y, weight, max_rows=max_rows)
    got = expert.log_prob(X, y)
    for rows in ([0], [3, 7], [12], [25]):
        expected = refitted_without(expert, X, y, weight, rows)
        np.testing.assert_allclose(got[rows], expected, rtol=1e-6)


def test_rows_that_belong_to_others_are_predicted(rng):
    X, y = waves(rng, 40)
    weight = np.where(X[:, 0] < 3.0, 1.0, 0.0)
    expert = prepared(X, y, weight)
    others = weight == 0.0
    got = expert.log_prob(X, y)
    np.testing.assert_allclose(
        got[others], expert.log_prob(X[others], y[others]), rtol=1e-9
    )
    inside = expert.log_prob(X.copy(), y)[~others]
    assert got[~others].mean() < inside.mean() - 0.01  # held out, so lower


def test_knows_its_rows_by_identity_until_the_end(rng):
    X, y = waves(rng)
    expert = prepared(X, y)
    held_out, fitted = expert.log_prob(X, y), expert.log_prob(X.copy(), y)
    assert np.abs(held_out - fitted).max() > 1e-3
    for snapshot in (copy.copy(expert), copy.deepcopy(expert)):
        np.testing.assert_array_equal(snapshot.log_prob(X, y), held_out)
    again = pickle.loads(pickle.dumps(expert))
    np.testing.assert_array_equal(again.log_prob(X, y), fitted)
    expert.finish()
    np.testing.assert_array_equal(expert.log_prob(X, y), fitted)


def test_hyperparameters_follow_the_schedule(rng, monkeypatch):
    X, y = waves(rng)
    expert = GaussianProcessExpert(refit_every=3)
    expert.prepare(X, y, np.ones(80))
    steps = []

    def fitted(start, rows, prior, max_rows, *, first, n_restarts):
        assert first == (step == 0)
        steps.append(step)
        gain = 80.0 if step < 5 else 0.04  # nats of 80 rows
        return type(start)(start.kernel, start.log_noise + 0.01), gain

    monkeypatch.setattr(_gp, "fit_process", fitted)
    noise = []
    for step in range(20):  # noqa: B007 - read by the fit above
        expert.m_step(X, y, np.ones(80))
        noise.append(expert.noise_)
    # Each third, then each sixth, since nothing is gained any more.
    assert steps == [0, 1, 4, 7, 13]
    assert (np.flatnonzero(np.diff(noise)) + 1).tolist() == steps[1:]


def test_warm_start_goes_on_from_the_last_fit(rng):
    X, y = waves(rng)
    expert = prepared(X, y)
    noise, kernel = expert.noise_, expert.kernel_
    expert.m_step(X, y, np.ones(80))  # fits again, from a maximum
    np.testing.assert_allclose(expert.noise_, noise, rtol=0.02)
    np.testing.assert_allclose(expert.kernel_.theta, kernel.theta, atol=0.05)


def test_expert_without_rows_is_the_prior(rng):
    X, y = waves(rng)
    expert = GaussianProcessExpert()
    expert.prepare(X, y, np.ones(80))
    before = expert.predict_params(X)
    np.testing.assert_allclose(before[:, 0], y.mean())
    expert.m_step(X, y, np.zeros(80))
    np.testing.assert_allclose(expert.predict_params(X), before)
    np.testing.assert_allclose(
        expert.log_prob(X, y), expert.log_prob(X.copy(), y), rtol=1e-12
    )


# -- in a mixture ------------------------------------------------------------------


@pytest.fixture(scope="module")
def motorcycle():
    X, y = load_mcycle(return_X_y=True)
    X, y = np.asarray(X, float).reshape(len(y), -1), np.asarray(y, float)
    y = (y - y.mean()) / y.std()
    return X, y, MixtureOfExpertsRegressor(GaussianProcessExpert()).fit(X, y)


def test_mixture_beats_one_process_where_the_noise_varies(motorcycle):
    X, y, model = motorcycle
    rows = np.arange(len(y))
    train, test = rows % 5 != 2, rows % 5 == 2
    mixture = clone(model).fit(X[train], y[train])
    one = GaussianProcessExpert().fit(X[train], y[train])
    gain = mixture.log_prob(X[test], y[test]) - one.log_prob(X[test], y[test])
    assert gain.mean() > 0.08
    noise = sorted(expert.noise_ for expert in mixture.experts_)
    assert noise[-1] > 4.0 * noise[0]


def test_mixture_ends_at_its_best_pass(motorcycle):
    _, _, model = motorcycle
    assert model.converged_
    assert model.n_iter_ < 150
    trace = model.objective_trace_
    assert trace.max() > trace[0] + 10.0


def test_mixture_says_how_sure_it_is(motorcycle):
    X, y, model = motorcycle
    law = model.predict_distribution(X)
    _, std = model.predict(X, return_std=True)
    np.testing.assert_allclose(std**2, law.variance)
    inside = (law.cdf(y) > 0.05) & (law.cdf(y) < 0.95)
    assert 0.8 < inside.mean() < 0.98
    # Still before the impact, loud after it.
    early, late = model.predict([[5.0], [30.0]], return_std=True)[1]
    assert late > 3.0 * early
    draws = law.sample(400, random_state=0)
    np.testing.assert_allclose(draws.mean(axis=0), law.mean, atol=0.2)


def test_mixture_forgets_the_training_rows(motorcycle):
    X, y, model = motorcycle
    np.testing.assert_array_equal(
        model.log_prob(X, y), pickle.loads(pickle.dumps(model)).log_prob(X, y)
    )
    np.testing.assert_allclose(model.log_prob(X, y), model.log_prob(X.copy(), y))


def test_mixture_is_the_same_each_time_and_for_weights(rng):
    X, y = waves(rng, 40)
    model = MixtureOfExpertsRegressor(
        GaussianProcessExpert(), n_experts=2, random_state=0
    )

    def fit(X, y, weight):
        return clone(model).fit(X, y, weight).predict(np.linspace(0, 6, 9)[:, None])

    np.testing.assert_array_equal(fit(X, y, np.ones(40)), fit(X, y, np.ones(40)))
    count = rng.integers(1, 3, size=40)
    assert_weight_is_repetition(fit, X, y, count, atol=1e-4)


def test_mixture_with_other_experts(rng):
    X, y = waves(rng)
    line = np.abs(X[:, 0] - 3.0) > 1.5
    y = np.where(line, 3.0 * X[:, 0] + 0.05 * rng.normal(size=80), y)
    experts = [("line", LinearExpert()), ("process", GaussianProcessExpert())]
    model = MixtureOfExpertsRegressor(experts).fit(X, y)
    assert np.isfinite(model.log_prob(X, y)).all()
    assert model.score(X, y) > 0.9


def test_mixture_of_sparse_processes(rng):
    X, y = waves(rng, 300)
    expert = GaussianProcessExpert(max_rows=20)
    model = MixtureOfExpertsRegressor(expert, n_experts=2).fit(X, y)
    assert [e.inducing_rows_ <= 20 for e in model.experts_] == [True, True]
    assert model.score(X, y) > 0.85


# -- bad input ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"kernel": "rbf"}, TypeError, "kernel must be None or a kernel of .*'rbf'"),
        ({"kernel": RBF() + WhiteKernel()}, ValueError, "leave WhiteKernel out"),
        ({"kernel": WhiteKernel()}, ValueError, "learns its own noise"),
        ({"kernel": CompoundKernel([RBF()])}, ValueError, "one kernel of rows"),
        ({"max_rows": 0}, ValueError, "max_rows must be an integer >= 1, got 0"),
        ({"max_rows": 2.5}, ValueError, "max_rows must be an integer >= 1, got 2.5"),
        ({"max_rows": True}, ValueError, "max_rows must be .* got True"),
        ({"refit_every": 0}, ValueError, "refit_every must be an integer >= 1"),
        ({"n_restarts": -1}, ValueError, "n_restarts must be an integer >= 0"),
        ({"variance_prior": 5.0}, ValueError, "variance_prior must be None or two"),
        ({"variance_prior": (-1, 0.1)}, ValueError, r"\(rows, fraction\), got \(-1"),
    ],
)
def test_bad_parameters(rng, params, error, message):
    with pytest.raises(error, match=message):
        GaussianProcessExpert(**params).fit(*waves(rng))


def test_several_outputs(rng):
    X, y = waves(rng)
    Y = np.column_stack([y, y])
    message = r"one output, got y of shape \(80, 2\)"
    with pytest.raises(ValueError, match=message):
        MixtureOfExpertsRegressor(GaussianProcessExpert()).fit(X, Y)
    with pytest.raises(ValueError, match=f"GaussianProcessExpert models {message}"):
        GaussianProcessExpert().prepare(X, Y, np.ones(80))
    with pytest.raises(ValueError, match="y should be a 1d array"):
        GaussianProcessExpert().fit(X, Y)


def test_kernel_that_is_no_covariance(rng):
    class Negative(RBF):
        def __call__(self, X, Y=None, eval_gradient=False):
            result = super().__call__(X, Y, eval_gradient)
            return (-result[0], -result[1]) if eval_gradient else -result

        def diag(self, X):
            return -super().diag(X)

    assert isinstance(Negative(), Kernel)
    expert = GaussianProcessExpert(ConstantKernel(50.0, "fixed") * Negative(5.0))
    X, y = waves(rng)
    with pytest.raises(ValueError, match="not positive semidefinite"):
        expert.fit(X, y)


def test_not_fitted():
    with pytest.raises(ValueError, match="not fitted"):
        GaussianProcessExpert().predict([[0.0]])
