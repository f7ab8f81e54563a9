"""The Gaussian gate and its three covariances."""

import numpy as np
import pytest
from scipy import integrate, sparse
from scipy.special import log_softmax
from scipy.stats import multivariate_normal
from sklearn.exceptions import NotFittedError

from skmoe.gates._covariance import COVARIANCES, CovariancePrior
from skmoe.gates._gaussian import GaussianGate
from tests.gates.gate_suite import GateSuite, awkward, objective, regions


class TestFull(GateSuite):
    def make_gate(self):
        return GaussianGate()


class TestDiag(GateSuite):
    def make_gate(self):
        return GaussianGate("diag", prior_rows=0.5)


class TestTied(GateSuite):
    def make_gate(self):
        return GaussianGate("tied")


class TestMaximumLikelihood(GateSuite):
    def make_gate(self):
        return GaussianGate(prior_rows=0)


class TestTiedMaximumLikelihood(GateSuite):
    def make_gate(self):
        return GaussianGate("tied", prior_rows=0, reg=1e-4)


KINDS = sorted(COVARIANCES)


@pytest.fixture
def problem():
    X, resp, weight = regions(np.random.default_rng(5))
    return X @ np.diag([1e-3, 1.0, 40.0]) + [3.0, -70.0, 1e4], resp, weight


def fitted(X, resp, weight, *args, **kwargs):
    gate = GaussianGate(*args, **kwargs)
    gate.prepare(X, weight, resp.shape[1])
    gate.m_step(X, resp, weight)
    return gate


@pytest.mark.parametrize("kind", KINDS)
def test_joint_density_equals_scipy(problem, kind):
    X = problem[0]
    gate = fitted(*problem, kind)
    for k, (mean, cov) in enumerate(zip(gate.means_, gate.covariances_, strict=True)):
        expected = np.log(gate.weights_[k]) + multivariate_normal(mean, cov).logpdf(X)
        np.testing.assert_allclose(gate.log_joint(X)[:, k], expected, rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_moments_are_the_weighted_ones(problem, kind):
    X, resp, weight = problem
    gate = fitted(*problem, kind, prior_rows=0)
    mass = weight[:, None] * resp
    np.testing.assert_allclose(gate.weights_, mass.sum(0) / mass.sum())
    np.testing.assert_allclose(gate.means_, mass.T @ X / mass.sum(0)[:, None])
    own = np.array([np.cov(X.T, aweights=m, ddof=0) for m in mass.T])
    expected = {
        "full": own,
        "diag": own * np.eye(3),
        "tied": np.tensordot(gate.weights_, own, axes=1)[None].repeat(3, axis=0),
    }[kind]
    size = np.sqrt(np.einsum("kii->ki", expected))
    relative = (gate.covariances_ - expected) / (size[:, :, None] * size[:, None])
    np.testing.assert_allclose(relative, 0.0, atol=1e-9)


def test_prior_counts_as_rows(problem):
    X, resp, weight = problem
    plain = fitted(*problem, prior_rows=0).covariances_
    shrunk = fitted(*problem, prior_rows=12.0).covariances_
    overall = np.diag(np.cov(X.T, aweights=weight, ddof=0).diagonal())
    target = overall * 3.0 ** (-2 / 3)
    count = (weight @ resp)[:, None, None]
    expected = (count * plain + 12.0 * target) / (count + 12.0)
    np.testing.assert_allclose(shrunk, expected, rtol=1e-9, atol=1e-9)


def test_density_of_x_integrates_to_one():
    rng = np.random.default_rng(2)
    X, resp, weight = regions(rng, n_columns=1)
    X = 250.0 * X + 1e3
    gate = fitted(X, resp, weight)
    grid = np.linspace(X.min() - 4e3, X.max() + 4e3, 4001)[:, None]
    density = np.exp(gate.log_joint(grid)).sum(axis=1)
    assert integrate.trapezoid(density, grid[:, 0]) == pytest.approx(1.0, abs=1e-8)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prior_rows", [None, 0])
def test_m_step_is_a_maximum(problem, kind, prior_rows):
    gate = fitted(*problem, kind, prior_rows=prior_rows)
    best, parameters = objective(gate, *problem), gate.parameters
    rng = np.random.default_rng(1)
    for size in (1e-4, 1e-2, 0.3):
        for _ in range(5):
            gate.parameters = parameters + size * rng.normal(size=parameters.size)
            assert objective(gate, *problem) < best


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prior_rows", [None, 0])
@pytest.mark.parametrize("seed", range(0, 60, 3))
def test_no_parameters_beat_the_m_step_on_dull_columns(kind, prior_rows, seed):
    X, resp, weight = awkward(seed)
    gate = fitted(X, resp, weight, kind, prior_rows=prior_rows)
    best, parameters = objective(gate, X, resp, weight), gate.parameters
    rng = np.random.default_rng(seed)
    for size in (1e-3, 0.1, 1.0):
        gate.parameters = parameters + size * rng.normal(size=parameters.size)
        assert objective(gate, X, resp, weight) <= best + 1e-9 * (1 + abs(best))


@pytest.mark.parametrize("kind", KINDS)
def test_em_on_x_alone_climbs(kind):
    X, resp, weight = regions(np.random.default_rng(8), 400)
    gate = fitted(X, (resp + 2 * np.roll(resp, 7, axis=0)) / 3, weight, kind)
    values = []
    for _ in range(40):
        log_joint = gate.log_joint(X)
        values.append(weight @ np.logaddexp.reduce(log_joint, axis=1) + gate.penalty)
        gate.m_step(X, np.exp(log_softmax(log_joint, axis=1)), weight)
    assert np.diff(values).min() >= -1e-9 * abs(values[-1])
    assert values[-1] > values[0] + 10.0


def test_tied_gate_is_a_softmax_linear_in_x(problem):
    X = problem[0]
    gate = fitted(*problem, "tied")
    slope, intercept = gate.linear_form()
    linear = log_softmax(X @ slope.T + intercept, axis=1)
    np.testing.assert_allclose(gate.log_proba(X), linear, atol=1e-9)
    # Log odds along a line have no second difference, however far it goes.
    step = np.arange(5.0)[:, None] * 1e6 * X.std(axis=0)
    log_proba = gate.log_proba(X[0] + step)
    odds = log_proba[:, 1:] - log_proba[:, :1]
    bend = np.diff(odds, n=2, axis=0)
    assert np.abs(bend).max() <= 1e-9 * np.abs(odds).max()


def test_tied_gate_keeps_its_odds_where_squares_would_swamp_them(problem):
    gate = fitted(*problem, "tied")
    slope, intercept = gate.linear_form()
    direction = np.linalg.svd(slope - slope[0])[2][-1]
    far = problem[0][:1] + 1e9 * np.abs(slope).max() * direction
    expected = log_softmax(far @ slope.T + intercept, axis=1)
    assert np.exp(gate.log_proba(far)).sum() == pytest.approx(1.0)
    assert gate.log_proba(far).argmax() == expected.argmax()


def test_linear_form_needs_tied(problem):
    with pytest.raises(ValueError, match=r"covariance='tied'.*got covariance='full'"):
        fitted(*problem).linear_form()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("full", 2 + 9 + 18), ("diag", 2 + 9 + 9), ("tied", 2 + 9 + 6)],
)
def test_number_of_parameters(problem, kind, expected):
    gate = fitted(*problem, kind)
    assert gate.n_parameters == expected
    assert gate.parameters.size == expected + 1


@pytest.mark.parametrize("kind", KINDS)
def test_constant_columns_are_left_out(problem, kind):
    X, resp, weight = problem
    wide = np.column_stack([np.full(X.shape[0], 1e9), X])
    gate, bare = fitted(wide, resp, weight, kind), fitted(*problem, kind)
    np.testing.assert_allclose(gate.log_joint(wide), bare.log_joint(X), rtol=1e-12)
    assert gate.n_parameters == bare.n_parameters
    np.testing.assert_allclose(gate.means_[:, 0], 1e9)
    assert (gate.covariances_[:, 0] == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_only_constant_columns(problem, kind):
    _, resp, weight = problem
    X = np.ones((resp.shape[0], 2))
    gate = fitted(X, resp, weight, kind)
    np.testing.assert_allclose(np.exp(gate.log_proba(X[:1]))[0], gate.weights_)
    assert gate.n_parameters == 2
    gate.parameters = gate.parameters


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prior_rows", [None, 0])
def test_cluster_of_one_row_stays_finite(problem, kind, prior_rows):
    X, resp, weight = problem
    resp = np.eye(3)[np.where(np.arange(X.shape[0]) == 4, 2, resp[:, :2].argmax(1))]
    gate = fitted(X, resp, weight, kind, prior_rows=prior_rows)
    assert np.isfinite(gate.log_joint(X)).all()
    np.testing.assert_allclose(gate.means_[2], X[4])


@pytest.mark.parametrize("kind", KINDS)
def test_rows_whose_squares_would_overflow(problem, kind):
    gate = fitted(*problem, kind)
    far = np.array([[1e300, -1e300, 0.0], [0.0, 1e200, 1e200]])
    log_proba = gate.log_proba(far)
    np.testing.assert_allclose(np.exp(log_proba).sum(axis=1), 1.0)
    assert np.isfinite(gate.log_joint(far)).all()


@pytest.mark.parametrize("prior_rows", [None, 0])
def test_expert_without_rows_keeps_its_mean(problem, prior_rows):
    X, resp, weight = problem
    gate = fitted(*problem, prior_rows=prior_rows)
    mean = gate.means_[2].copy()
    gate.m_step(X, np.column_stack([resp[:, :1], 1 - resp[:, :1], 0 * weight]), weight)
    np.testing.assert_array_equal(gate.means_[2], mean)
    assert np.isfinite(gate.log_joint(X)).all()


def test_blocks_do_not_change_the_answer():
    rng = np.random.default_rng(4)
    X, resp, weight = regions(rng, 9000)
    gate = fitted(X, resp, weight, prior_rows=0)
    mass = weight[:, None] * resp
    np.testing.assert_allclose(gate.means_, mass.T @ X / mass.sum(0)[:, None])
    joint = gate.log_joint(X)
    np.testing.assert_allclose(joint[5000:5003], gate.log_joint(X[5000:5003]))


def test_floor_bounds_the_eigenvalues():
    rng = np.random.default_rng(6)
    X, resp, weight = regions(rng)
    X = np.column_stack([X, X[:, 0]])
    gate = fitted(X, resp, weight, prior_rows=0, reg=1e-3)
    scale = np.sqrt(np.cov(X.T, aweights=weight, ddof=0).diagonal())
    eigen = np.linalg.eigvalsh(gate.covariances_ / scale[:, None] / scale)
    np.testing.assert_allclose(eigen[:, 0], 1e-3, rtol=1e-6)
    assert gate.penalty == 0.0


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_of_the_penalised_objective_vanishes(problem, kind):
    gate = fitted(*problem, kind)
    start, gradient = gate.parameters, []
    for i in range(start.size):
        ends = []
        for sign in (1.0, -1.0):
            moved = start.copy()
            moved[i] += sign * 1e-5
            gate.parameters = moved
            ends.append(objective(gate, *problem))
        gradient.append((ends[0] - ends[1]) / 2e-5)
    np.testing.assert_allclose(gradient, 0.0, atol=1e-3)


def test_covariance_kinds_share_their_prior():
    prior = CovariancePrior(rows=4.0, scale=0.5, floor=1e-6)
    full, diag = (COVARIANCES[kind](2, 3, prior) for kind in ("full", "diag"))
    assert full.penalty == pytest.approx(diag.penalty)
    diag.vector = diag.vector + np.arange(6.0) / 10
    for k, matrix in enumerate(diag.matrices(2)):
        np.testing.assert_allclose(np.diag(matrix), diag.value[k])


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"covariance": "spherical"}, "one of .*'full'.* got 'spherical'"),
        ({"reg": 0.0}, r"GaussianGate: reg .* > 0, got 0\.0"),
        ({"reg": -1e-6}, "got -1e-06"),
        ({"prior_rows": -1}, "GaussianGate: prior_rows .* >= 0, got -1"),
        ({"prior_rows": "many"}, "got 'many'"),
    ],
)
def test_bad_parameters(problem, kwargs, message):
    with pytest.raises(ValueError, match=message):
        fitted(*problem, **kwargs)


def test_bad_rows(problem):
    X, resp, weight = problem
    gate = fitted(*problem)
    with pytest.raises(ValueError, match="prepared with 3 columns, got 2"):
        gate.log_proba(X[:, :2])
    with pytest.raises(ValueError, match=r"responsibilities .* got \(120, 2\)"):
        gate.m_step(X, resp[:, :2], weight)
    with pytest.raises(TypeError, match="needs a dense X, got a sparse"):
        gate.prepare(sparse.csr_array(X), weight, 3)


@pytest.mark.parametrize("value", [np.zeros(3), np.full(30, np.inf)])
def test_bad_vector(problem, value):
    gate = fitted(*problem)
    with pytest.raises(ValueError, match="must be 30 finite numbers, got"):
        gate.parameters = value


def test_before_prepare():
    for name in ("weights_", "means_", "covariances_", "parameters", "penalty"):
        with pytest.raises(NotFittedError, match="GaussianGate is not fitted"):
            getattr(GaussianGate(), name)
    with pytest.raises(NotFittedError, match="call prepare"):
        GaussianGate().log_proba(np.zeros((1, 1)))
