"""Which kernels the Gaussian process expert takes, and the one it has."""

import numpy as np
import pytest
from sklearn.gaussian_process.kernels import (
    RBF,
    CompoundKernel,
    ConstantKernel,
    DotProduct,
    Exponentiation,
    ExpSineSquared,
    Matern,
    WhiteKernel,
)

from skmoe.experts._gp_kernel import check_kernel, default_kernel


def test_default_starts_from_the_distance_of_rows():
    rng = np.random.default_rng(0)
    for n_features in (1, 4, 25):
        kernel = default_kernel(n_features)
        X = rng.normal(size=(200, n_features))
        apart = np.sqrt(((X[:100] - X[100:]) ** 2).sum(axis=1).mean() / 2.0)
        np.testing.assert_allclose(kernel.k2.length_scale, apart, rtol=0.15)
        assert (kernel.theta >= kernel.bounds[:, 0]).all()
        assert (kernel.theta <= kernel.bounds[:, 1]).all()
        np.testing.assert_allclose(kernel.diag(X), 1.0)


def test_default_can_be_a_straight_line():
    """The longest length scale and largest amplitude leave no curve to see."""
    kernel = default_kernel(1)
    X = np.linspace(-2, 2, 9)[:, None]
    line = kernel.clone_with_theta(np.log([1e3, 50.0]))(X)
    values, vectors = np.linalg.eigh(line)
    straight = np.column_stack([np.ones(9), X[:, 0]])
    # All but the two largest directions have next to no variance.
    assert values[:-2].max() < 0.01 * values[-2]
    share = np.linalg.lstsq(straight, vectors[:, -2:], rcond=None)[1]
    assert (share < 1e-4).all()


@pytest.mark.parametrize(
    "kernel",
    [
        None,
        RBF(),
        ConstantKernel() * Matern([1.0, 2.0]) + DotProduct(),
        Exponentiation(RBF(), 2.0),
        ExpSineSquared(),
    ],
)
def test_kernels_of_rows_of_numbers(kernel):
    assert check_kernel(kernel) is None


@pytest.mark.parametrize("bad", ["rbf", RBF, 1.0])
def test_what_is_no_kernel(bad):
    with pytest.raises(TypeError, match="must be None or a kernel of sklearn"):
        check_kernel(bad)


@pytest.mark.parametrize(
    "bad", [WhiteKernel(), RBF() + WhiteKernel(), RBF() * (RBF() + WhiteKernel())]
)
def test_white_noise(bad):
    with pytest.raises(ValueError, match="leave WhiteKernel out of the kernel, got"):
        check_kernel(bad)


def test_several_kernels():
    with pytest.raises(ValueError, match="one kernel of rows of numbers, got Comp"):
        check_kernel(CompoundKernel([RBF(), RBF()]))


def test_kernel_of_texts():
    class Texts(RBF):
        requires_vector_input = False

    with pytest.raises(ValueError, match="one kernel of rows of numbers"):
        check_kernel(Texts())
