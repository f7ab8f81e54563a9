"""The kernels that a Gaussian process expert takes."""

import numpy as np
from sklearn.gaussian_process.kernels import (
    CompoundKernel,
    ConstantKernel,
    Kernel,
    Matern,
    WhiteKernel,
)

__all__ = ["check_kernel", "default_kernel"]


def default_kernel(n_features):
    """Return the kernel that None stands for, in units of standard deviations.

    It starts from the distance between rows in so many columns. Its bounds reach
    from ripples that no table resolves to a straight line.
    """
    start = float(np.sqrt(n_features))
    return ConstantKernel(1.0, (1e-3, 1e3)) * Matern(start, (0.05, 1e3), nu=2.5)


def check_kernel(kernel):
    """Raise an error unless a kernel is None or one that the expert can use.

    Raises
    ------
    TypeError
        If it is no kernel.
    ValueError
        If it has white noise, several matrices, or is not one of numbers.
    """
    if kernel is None:
        return
    if not isinstance(kernel, Kernel):
        raise TypeError(
            "GaussianProcessExpert: kernel must be None or a kernel of "
            f"sklearn.gaussian_process.kernels, such as RBF(), got {kernel!r}."
        )
    parts = [kernel, *kernel.get_params().values()]
    if any(isinstance(part, WhiteKernel) for part in parts):
        raise ValueError(
            "GaussianProcessExpert learns its own noise, which goes with the weights: "
            f"leave WhiteKernel out of the kernel, got {kernel!r}."
        )
    if isinstance(kernel, CompoundKernel) or not kernel.requires_vector_input:
        raise ValueError(
            "GaussianProcessExpert: kernel must be one kernel of rows of numbers, got "
            f"{kernel!r}."
        )
