"""Heads: densities against SciPy, updates against their definitions."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

torch = pytest.importorskip("torch")
from skmoe.nn._heads import (  # noqa: E402
    CategoricalHead,
    GaussianHead,
    PoissonHead,
    SoftHead,
    StudentHead,
    make_head,
    number_scale,
)
from skmoe.nn._rows import ColumnScale  # noqa: E402

K, N = 3, 40


@pytest.fixture
def tensors(rng):
    """Raw outputs of three parts, and positive weights."""

    def make(n_raw):
        raw = torch.from_numpy(rng.normal(size=(K, N, n_raw)))
        return raw, torch.from_numpy(rng.uniform(0.1, 2.0, size=(K, N)))

    return make


def scaled(kind, m=1, prior=(5.0, 0.05)):
    center = torch.arange(1.0, m + 1, dtype=torch.float64)
    return kind(center, 3.0 * center, prior, m == 1)


def test_gaussian_density(rng, tensors):
    head, (raw, _) = scaled(GaussianHead, 2), tensors(2)
    y = torch.from_numpy(rng.normal(size=(N, 2)))
    shape = torch.from_numpy(rng.normal(size=(K, 2)))
    got = head.log_prob(head.code(y), raw, shape) - head.log_unit
    mean = head.params(raw).numpy()
    for k in range(K):
        deviation = np.exp(0.5 * shape[k].numpy()) * head.scale.numpy()
        expected = stats.norm(mean[k], deviation).logpdf(y.numpy()).sum(axis=1)
        assert_allclose(got[k].numpy(), expected, rtol=1e-10)


def test_student_density(rng, tensors):
    head, (raw, _) = scaled(StudentHead), tensors(1)
    y = torch.from_numpy(rng.normal(size=N))
    shape = torch.from_numpy(np.log([[1.0, 3.0], [0.2, 50.0], [4.0, 0.7]]))
    got = head.log_prob(head.code(y), raw, shape) - head.log_unit
    mean = head.params(raw).numpy()
    for k in range(K):
        square, df = np.exp(shape[k].numpy())
        law = stats.t(df, mean[k], 3.0 * np.sqrt(square))
        assert_allclose(got[k].numpy(), law.logpdf(y.numpy()), rtol=1e-10)


def test_poisson_density(rng, tensors):
    head, (raw, _) = PoissonHead(np.log(7.0)), tensors(1)
    y = torch.from_numpy(rng.poisson(7.0, size=N).astype(float))
    rate = head.params(raw)
    assert_allclose(rate.numpy(), 7.0 * np.exp(raw[..., 0].numpy()))
    got = head.log_prob(head.code(y), raw, torch.zeros(K, 0))
    expected = stats.poisson(rate.numpy()).logpmf(y.numpy())
    assert_allclose(got.numpy(), expected, rtol=1e-9)


@pytest.mark.parametrize("own", [False, True])
def test_categorical_density(rng, tensors, own):
    head, (raw, _) = CategoricalHead(4), tensors(4)
    y = torch.from_numpy(rng.integers(0, 4, size=(K, N) if own else N))
    got = head.log_prob(head.code(y), raw, torch.zeros(K, 0)).numpy()
    proba = np.exp(raw.numpy())
    proba /= proba.sum(axis=2, keepdims=True)
    codes = np.broadcast_to(y.numpy(), (K, N))
    expected = np.log(np.take_along_axis(proba, codes[..., None], 2)[..., 0])
    assert_allclose(got, expected, rtol=1e-10)


def test_soft_is_the_mean_of_the_classes(rng, tensors):
    raw, _ = tensors(4)
    share = torch.from_numpy(rng.dirichlet(np.ones(4), size=N))
    got = SoftHead(4).log_prob(share, raw, torch.zeros(K, 0))
    hard = [
        CategoricalHead(4).log_prob(torch.full((N,), c), raw, torch.zeros(K, 0))
        for c in range(4)
    ]
    expected = sum(share[:, c] * hard[c] for c in range(4))
    assert_allclose(got.numpy(), expected.numpy(), rtol=1e-10)


@pytest.mark.parametrize("kind", [GaussianHead, StudentHead])
def test_update_climbs_to_a_stationary_point(rng, tensors, kind):
    head, (raw, weight) = scaled(kind, prior=(3.0, 0.1)), tensors(1)
    y = head.code(torch.from_numpy(rng.standard_t(3.0, size=N) * 4.0))
    shape = torch.stack([head.start()] * K)

    def objective(shape):
        value = (weight * head.log_prob(y, raw, shape)).sum(dim=1)
        return value + head.penalty(shape)

    before = objective(shape)
    for _ in range(1 if kind is GaussianHead else 200):
        shape = head.update(y, raw, weight, shape)
    assert bool((objective(shape) >= before).all())
    shape = shape.requires_grad_()
    slope = torch.autograd.grad(objective(shape).sum(), shape)[0]
    # Degrees of freedom may lie at their bounds.
    inside = (shape > np.log(0.51)) & (shape < np.log(199.0))
    free = slope.abs()[inside] if kind is StudentHead else slope.abs()
    assert float(free.detach().max()) < 1e-3


def test_update_without_rows_changes_nothing(tensors):
    raw, weight = tensors(1)
    for kind in (GaussianHead, StudentHead):
        head = scaled(kind, prior=(0.0, 0.0))
        shape = torch.stack([head.start() + 0.3] * K)
        y = torch.zeros(N, 1, dtype=torch.float64)
        assert_allclose(head.update(y, raw, 0.0 * weight, shape), shape)


def test_perfect_fit_stays_at_the_floor(tensors):
    raw, weight = tensors(1)
    head = scaled(GaussianHead, prior=(0.0, 0.0))
    shape = head.update(raw, raw, weight, torch.zeros(K, 1, dtype=torch.float64))
    assert_allclose(shape.numpy(), np.log(1e-10))
    assert_allclose(head.bounded(shape - 50.0).numpy(), np.log(1e-10))


def test_student_bounds():
    head = scaled(StudentHead)
    wild = torch.tensor([[-80.0, -9.0], [0.0, 20.0]], dtype=torch.float64)
    expected = [[np.log(1e-10), np.log(0.5)], [0.0, np.log(200.0)]]
    assert_allclose(head.bounded(wild).numpy(), expected)


def test_scale_of_numbers(rng):
    y = torch.from_numpy(np.c_[rng.normal(3.0, 2.0, size=500), np.full(500, 7.0)])
    weight = torch.from_numpy(rng.uniform(size=500))
    center, scale = number_scale(y, weight)
    expected = np.average(y[:, 0], weights=weight)
    assert_allclose(float(center[0]), expected)
    spread = np.average((y[:, 0] - expected) ** 2, weights=weight)
    assert_allclose(float(scale[0]), np.sqrt(spread))
    assert 0.0 < float(scale[1]) < 1e-6  # a constant has the unit of its rounding


def test_small_spread_far_from_zero_is_no_rounding(rng):
    weight = torch.ones(500, dtype=torch.float64)
    y = torch.from_numpy(1.7e12 + 1e4 * rng.normal(size=500))
    assert_allclose(float(number_scale(y, weight)[1][0]), 1e4, rtol=0.1)
    constant = torch.full((500,), 1.7e12 / 3.0, dtype=torch.float64)
    assert float(number_scale(constant, weight)[1][0]) > 1e3
    X = torch.stack([y, constant], dim=1)
    scale = ColumnScale(X, weight, (), True).scale
    assert_allclose(float(scale[0]), 1e4, rtol=0.1)
    assert float(scale[1]) == 1.0


def test_counts_below_zero_do_not_occur():
    y = torch.tensor([[-1.5], [-1.0], [0.0], [2.0], [np.inf]], dtype=torch.float64)
    head = make_head("poisson", y, torch.ones(5).double(), None, None)
    assert_allclose(head.log_mean, 0.0, atol=1e-12)
    raw = torch.zeros(2, 5, 1, dtype=torch.float64, requires_grad=True)
    got = head.log_prob(head.code(y), raw, torch.zeros(2, 0))
    expected = stats.poisson(1.0).logpmf([-1.0, -1.0, 0.0, 2.0, -1.0])
    assert_allclose(got.detach().numpy(), [expected] * 2)
    torch.logaddexp(got, torch.zeros(())).sum().backward()
    assert bool(torch.isfinite(raw.grad).all())


def test_prior_as_an_array(rng):
    y, weight = torch.from_numpy(rng.normal(size=9)), torch.ones(9).double()
    head = make_head("gaussian", y, weight, np.array([5.0, 0.05]), None)
    assert (head.rows, head.fraction) == (5.0, 0.05)


def test_key_tells_heads_apart(rng):
    y, weight = torch.from_numpy(rng.normal(size=9)), torch.ones(9).double()
    one, two = (make_head("gaussian", y, weight, (1.0, 0.1), None) for _ in range(2))
    other = make_head("gaussian", y + 1.0, weight, (1.0, 0.1), None)
    student = make_head("student", y, weight, (1.0, 0.1), None)
    assert one.key == two.key
    assert len({one.key[0], student.key[0]}) == 2
    assert one.key != other.key
