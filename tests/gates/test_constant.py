"""The constant gate."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.exceptions import NotFittedError
from sklearn.utils import get_tags

from skmoe.gates._constant import ConstantGate, check_number, log_shares
from tests.gates.gate_suite import GateSuite, objective, regions


class TestConstantGate(GateSuite):
    cross_entropy_left = 1.0

    def make_gate(self):
        return ConstantGate()


class TestConstantGateWithPrior(GateSuite):
    cross_entropy_left = 1.0

    def make_gate(self):
        return ConstantGate(alpha=2.5)


@pytest.fixture
def problem():
    return regions(np.random.default_rng(3))


def fitted(alpha, X, resp, weight):
    gate = ConstantGate(alpha)
    gate.prepare(X, weight, resp.shape[1])
    gate.m_step(X, resp, weight)
    return gate


@pytest.mark.parametrize("alpha", [0.0, 1.0, 40.0])
def test_weights_are_the_shares_of_rows_and_pseudo_rows(problem, alpha):
    _, resp, weight = problem
    count = weight @ resp + alpha
    gate = fitted(alpha, *problem)
    np.testing.assert_allclose(gate.weights_, count / count.sum(), rtol=1e-14)
    assert gate.n_parameters == resp.shape[1] - 1


@pytest.mark.parametrize("alpha", [0.0, 3.0])
def test_m_step_is_the_maximum(problem, alpha):
    gate = fitted(alpha, *problem)
    best, parameters = objective(gate, *problem), gate.parameters
    rng = np.random.default_rng(0)
    for size in (1e-3, 1e-1, 1.0):
        gate.parameters = parameters + size * rng.normal(size=parameters.size)
        assert objective(gate, *problem) < best


def test_penalty_is_the_dirichlet_log_density(problem):
    from scipy.stats import dirichlet

    gate = fitted(1.5, *problem)
    law = dirichlet(np.full(3, 2.5))
    constant = law.logpdf(np.full(3, 1 / 3)) + 1.5 * 3 * np.log(3)
    assert gate.penalty + constant == pytest.approx(law.logpdf(gate.weights_))
    assert fitted(0.0, *problem).penalty == 0.0


def test_parameters_are_centred_and_renormalised(problem):
    gate = fitted(0.0, *problem)
    assert gate.parameters.sum() == pytest.approx(0.0, abs=1e-12)
    gate.parameters = np.log([2.0, 1.0, 1.0]) + 11.0
    np.testing.assert_allclose(gate.weights_, [0.5, 0.25, 0.25])


def test_an_expert_without_rows_keeps_a_finite_log():
    shares = np.exp(log_shares(np.array([3.0, 0.0])))
    assert 0.0 < shares[1] < 1e-15
    assert shares[0] == pytest.approx(1.0, rel=1e-15)


def test_sparse_rows(problem):
    X, resp, weight = problem
    gate = fitted(0.0, sparse.csr_array(X), resp, weight)
    assert gate.log_proba(sparse.csr_array(X)).shape == resp.shape


@pytest.mark.parametrize("alpha", [-1.0, np.nan, np.inf, "1", None, True])
def test_bad_alpha(problem, alpha):
    with pytest.raises(ValueError, match=r"ConstantGate: alpha .* >= 0, got"):
        fitted(alpha, *problem)


def test_range_of_a_number():
    assert check_number("a", np.float32(0.5), high=1.0) == 0.5
    assert check_number("a", 0) == 0.0
    with pytest.raises(ValueError, match=r"a .* >= 0 and < 1, got 1\.0"):
        check_number("a", 1.0, high=1.0)
    with pytest.raises(ValueError, match=r"a .* > 0, got 0"):
        check_number("a", 0, strict=True)


def test_wrong_shapes(problem):
    X, resp, weight = problem
    gate = fitted(0.0, *problem)
    with pytest.raises(ValueError, match=r"responsibilities .*\(120, 3\).*\(120, 2\)"):
        gate.m_step(X, resp[:, :2], weight)
    with pytest.raises(ValueError, match=r"weight .*\(120,\), got \(119,\)"):
        gate.m_step(X, resp, weight[1:])


@pytest.mark.parametrize("value", [np.zeros(2), np.array([0.0, np.nan, 0.0])])
def test_wrong_parameters(problem, value):
    gate = fitted(0.0, *problem)
    with pytest.raises(ValueError, match="must be 3 finite numbers, got"):
        gate.parameters = value


@pytest.mark.parametrize("name", ["weights_", "parameters", "n_parameters", "penalty"])
def test_before_prepare(name):
    with pytest.raises(NotFittedError, match="ConstantGate is not fitted"):
        getattr(ConstantGate(), name)
    with pytest.raises(NotFittedError, match="call prepare"):
        ConstantGate().log_proba(np.zeros((2, 1)))


def test_it_takes_rows_of_any_kind(problem):
    X, resp, weight = problem
    tags = get_tags(ConstantGate()).input_tags
    assert tags.sparse
    assert tags.allow_nan
    expected = fitted(0.5, *problem).log_proba(X)
    for rows in (sparse.csr_array(X), np.full(X.shape, np.nan)):
        gate = fitted(0.5, rows, resp, weight)
        np.testing.assert_array_equal(gate.log_proba(rows), expected)
