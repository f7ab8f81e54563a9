"""Experts with linear predictors, and those of a fixed law, on rows of any library."""

import copy

import array_api_strict
import numpy as np
import pytest
import torch

from skmoe._xp import namespace, to_numpy
from skmoe.em._build import build_problem
from skmoe.em._fused import FusedNode
from skmoe.em._node import Node
from skmoe.experts import (
    BinomialExpert,
    NegativeBinomialExpert,
    PointMassExpert,
    PoissonExpert,
    UniformExpert,
)
from skmoe.experts._count_families import MAX_TABLE, NegativeBinomialFamily
from skmoe.experts._special import log_rising, psi_rising, trigamma_rising
from skmoe.gates import SoftmaxGate
from tests.experts.glm_suite import PROBLEMS, problem

ELSEWHERE = array_api_strict.Device("device1")
LIBRARIES = {
    "torch": torch.asarray,
    "strict": array_api_strict.asarray,
    # NumPy cannot convert these: a way through it that nobody meant is an error.
    "elsewhere": lambda array: array_api_strict.asarray(array, device=ELSEWHERE),
}


@pytest.fixture
def rng():
    return np.random.default_rng(8)


@pytest.fixture(params=LIBRARIES)
def to(request):
    """What brings a NumPy array to a library."""
    return LIBRARIES[request.param]


def assert_same(found, expected, to, tol=1e-10):
    """Check that an array lies where X does, and what it holds."""
    model = to(np.zeros(2))
    assert type(found) is type(model)
    assert found.device == model.device
    if expected.dtype == float:
        assert found.dtype == namespace(model).float64
    np.testing.assert_allclose(to_numpy(found), expected, rtol=tol, atol=tol)


# -- the fused pass --------------------------------------------------------------


def with_known(name, X, y, rng):
    """Return an expert that knows a quantity of each row, and its last column."""
    if name == "trials":
        trials = y + rng.integers(0, 5, y.size)
        return BinomialExpert(), ("trials",), np.column_stack([X, trials])
    expert = PROBLEMS[name.removesuffix(" of rates")][0]
    offset = rng.normal(size=y.size)
    return copy.deepcopy(expert), ("offset",), np.column_stack([X, offset])


CASES = [*PROBLEMS, "poisson of rates", "gamma of rates", "trials"]


def case_of(name, rng, n=150):
    """Return an expert, X, y and weights; known quantities last in X."""
    if name in PROBLEMS:
        return problem(name, rng, n)
    family = "poisson" if name == "trials" else name.removesuffix(" of rates")
    _, X, y, weight = problem(family, rng, n)
    expert, known, X = with_known(name, X, y, rng)
    expert.known = known
    return expert, X, y, weight


def three_passes(expert, X, y, weight, resp, **options):
    """Return log-likelihoods of three passes of EM, and the problem."""
    experts = [(f"expert{k}", copy.deepcopy(expert)) for k in range(2)]
    node = Node(SoftmaxGate(), experts, [None] * 2, [0, 1, 2], clones=True, **options)
    climbed = build_problem(node, X, y, weight, None)
    assert type(climbed) is FusedNode
    climbed.start(resp, 2)
    log_lik = []
    for _ in range(3):
        log_lik.append(climbed.e_step())
        climbed.m_step()
    return log_lik, climbed


def halves(X, rng):
    """Return responsibilities that lean on the first column, (2, n_samples)."""
    right = 1.0 / (1.0 + np.exp(-2.0 * X[:, 0] + rng.normal(size=X.shape[0])))
    return np.stack([right, 1.0 - right])


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("shared", [False, True], ids=["own", "tied"])
def test_three_passes_are_those_of_numpy(name, shared, to, rng):
    expert, X, y, weight = case_of(name, rng)
    resp, rows = halves(X, rng), (X, y, weight)
    options = {"shared_dispersion": shared}
    expected, ours = three_passes(expert, *rows, resp, **options)
    assert len(set(expected)) == 3
    there = [to(array) for array in rows]
    found, other = three_passes(expert, *there, to(resp), **options)
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    np.testing.assert_allclose(other.parameters, ours.parameters, atol=1e-9)
    np.testing.assert_allclose(other.mass, ours.mass, rtol=1e-10)
    assert type(other.parameters) is type(other.mass) is np.ndarray
    assert_same(other.responsibilities(), ours.responsibilities(), to, 1e-9)


@pytest.mark.parametrize("name", CASES)
def test_single_precision_rows_lose_nothing(name, rng):
    expert, X, y, weight = case_of(name, rng)
    resp = halves(X, rng)
    X, y = X.astype(np.float32), y.astype(np.float32)
    wide = (X.astype(float), y.astype(float), weight)
    expected, ours = three_passes(expert, *wide, resp)
    narrow = torch.asarray(X), torch.asarray(y), torch.asarray(weight)
    found, other = three_passes(expert, *narrow, torch.asarray(resp))
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    np.testing.assert_allclose(other.parameters, ours.parameters, atol=1e-9)


def test_blocks_of_rows_add_up(to, rng):
    expert, X, y, weight = problem("negative binomial", rng)
    resp, there = halves(X, rng), [to(array) for array in (X, y, weight)]
    whole = three_passes(expert, *there, to(resp))[1]
    pieces = three_passes(expert, *there, to(resp))[1]
    pieces.block_rows = 32
    assert pieces.e_step() == pytest.approx(whole.e_step(), rel=1e-12)
    np.testing.assert_allclose(pieces.mass, whole.mass, rtol=1e-12)
    np.testing.assert_allclose(pieces.gradient, whole.gradient, atol=1e-9)


# -- the protocol ----------------------------------------------------------------


def impossible(name, y):
    """Return y with two responses that cannot occur, where there are such."""
    if name in ("student", "student of fixed df", "laplace", "heteroscedastic"):
        return y
    y = y.copy()
    y[[3, 40]] = -1.0
    return y


@pytest.mark.parametrize("name", CASES)
def test_protocol_is_that_of_numpy(name, to, rng):
    ours, X, y, weight = case_of(name, rng)
    y = impossible(name, y)
    other, rows, there = copy.deepcopy(ours), (X, y, weight), [to(X), to(y), to(weight)]
    tilted = weight * halves(X, rng)[0]
    for expert, (A, b, w), q in ((ours, rows, tilted), (other, there, to(tilted))):
        expert.prepare(A, b, w)
        start = expert.parameters
        for _ in range(2):
            expert.m_step(A, b, q)
        assert np.abs(expert.parameters - start).max() > 1e-3
    np.testing.assert_allclose(other.parameters, ours.parameters, atol=1e-9)
    assert type(other.parameters) is np.ndarray
    assert other.penalty == pytest.approx(ours.penalty, rel=1e-9)
    A, b, _ = there
    assert_same(other.supports(A, b), ours.supports(X, y), to)
    assert_same(other.kernel_rows(A, abs(b)), ours.kernel_rows(X, abs(y)), to)
    assert_same(other.start_target(A, b), ours.start_target(X, y), to)
    expected = ours.log_prob(X, y)
    assert np.isinf(expected).any() == (not ours.supports(X, y).all())
    assert_same(other.log_prob(A, b), expected, to, 1e-9)
    assert_same(other.predict_params(A), ours.predict_params(X), to, 1e-9)


@pytest.mark.parametrize("name", CASES)
def test_fitted_to_numpy_it_reads_rows_of_any_library(name, to, rng):
    expert, X, y, weight = case_of(name, rng)
    expert.prepare(X, y, weight)
    assert expert.array_api
    expected = expert.log_prob(X, y)
    assert_same(expert.log_prob(to(X), to(y)), expected, to)
    assert_same(expert.predict_params(to(X)), expert.predict_params(X), to)
    # Single precision is one of rows, not of what is computed from them.
    single = LIBRARIES["torch"](X.astype(np.float32))
    wide = expert.predict_params(X.astype(np.float32).astype(float))
    assert_same(expert.predict_params(single), wide, LIBRARIES["torch"])


def test_no_intercept(to, rng):
    ours, X, y, weight = problem("poisson", rng, fit_intercept=False)
    other = copy.deepcopy(ours)
    ours.prepare(X, y, weight)
    other.prepare(to(X), to(y), to(weight))
    np.testing.assert_allclose(other.parameters, ours.parameters, atol=1e-10)


def test_messages_are_those_of_numpy(to, rng):
    X, y, weight = to(rng.normal(size=(6, 2))), to(-np.ones((6, 2))), to(np.ones(6))
    with pytest.raises(ValueError, match="fits one output, got y of shape"):
        PoissonExpert().prepare(X, y, weight)
    with pytest.raises(ValueError, match="No row of positive weight has one"):
        PoissonExpert().prepare(X, y[:, 0], weight)


# -- counts, by a table or without -----------------------------------------------


@pytest.mark.parametrize("largest", [0.0, 11.0, 119.0, 120.0, MAX_TABLE + 1.0])
@pytest.mark.parametrize("whole", [True, False])
def test_counts_of_any_size(largest, whole, to, rng):
    y = np.minimum(rng.poisson(3.0, 120).astype(float), largest)
    y[7] = largest
    y[8] = y[8] if whole else 2.5
    family, shapes = NegativeBinomialFamily(), np.log([[0.5], [40.0], [300.0]])
    eta, weight = rng.normal(size=(1, 3, 120)), rng.uniform(size=(3, 120))

    def density(to):
        target = family.target(to(y))
        log_prob, work = family.density(to(eta.copy()), target, shapes)
        grams, scores = to(np.empty((1, 3, 120))), to(np.empty((1, 3, 120)))
        sums = family.fill(work, target, shapes, to(weight), grams, scores)
        return log_prob, grams, scores, sums

    for found, expected in zip(density(to), density(np.asarray), strict=True):
        assert_same(found, expected, to)


@pytest.mark.parametrize("function", [log_rising, psi_rising, trigamma_rising])
@pytest.mark.parametrize("size", [0.3, np.array([[0.01], [29.0], [31.0]]), 1e6])
def test_rising_functions(function, size, to, rng):
    y = np.concatenate([[0.0], rng.gamma(0.5, 50.0, size=40)])
    expected = function(y, size)
    assert_same(function(to(y), size), expected, to)
    single = y.astype(np.float32)
    narrow = function(torch.asarray(single), size)
    assert_same(narrow, function(single.astype(float), size), torch.asarray)


# -- experts of a fixed law ------------------------------------------------------


@pytest.mark.parametrize(
    "expert",
    [
        UniformExpert(),
        UniformExpert(low=-1),
        UniformExpert(-0.5, 0.5),
        PointMassExpert(),
        PointMassExpert(2),
    ],
    ids=str,
)
def test_fixed_laws(expert, to, rng):
    X, y = rng.normal(size=(30, 2)), rng.normal(size=30)
    y[[1, 2, 3, 4]] = [0.0, 2.0, -50.0, 0.5]
    weight = np.ones(30)
    weight[3] = 0.0
    ours, other = expert, copy.deepcopy(expert)
    ours.prepare(X, y, weight)
    other.prepare(to(X), to(y), to(weight))
    assert other.array_api
    assert type(other.params_) is np.ndarray
    np.testing.assert_array_equal(other.params_, ours.params_)
    other.m_step(to(X), to(y), to(weight))
    assert_same(other.supports(to(X), to(y)), ours.supports(X, y), to)
    assert_same(other.predict_params(to(X)), ours.predict_params(X), to)
    expected = ours.log_prob(X, y)
    assert len(set(expected)) == 2
    assert_same(other.log_prob(to(X), to(y)), expected, to)


def test_uniform_noise_needs_a_range(to):
    X, y = to(np.zeros((4, 1))), to(np.full(4, 2.0))
    with pytest.raises(ValueError, match=r"\[2, 2\].* of the n_samples = 4 rows"):
        UniformExpert().prepare(X, y, to(np.ones(4)))


def test_dispersions_follow(to, rng):
    ours, X, y, weight = problem("negative binomial", rng)
    other = NegativeBinomialExpert()
    ours.prepare(X, y, weight)
    other.prepare(to(X), to(y), to(weight))
    assert type(other.dispersion) is float
    assert other.dispersion == pytest.approx(ours.dispersion, rel=1e-9)
