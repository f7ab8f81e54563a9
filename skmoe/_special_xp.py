"""Special functions of rows, in the library and on the device that they lie in.

The array-API standard has none of them. For NumPy they are those of `scipy.special`,
for torch those of `torch.special`. Arrays of any other library take the way through
the memory of the host: it is right there, and it is slow.
"""

from typing import Any

import numpy as np
from array_api_compat import is_torch_array
from scipy import special

from skmoe._xp import is_foreign, like, namespace, to_numpy, zeros

__all__ = ["expit", "gammaln", "kl_div", "psi", "xlogy", "zeta"]


def _special(name: str, x: Any, *more: Any) -> Any:
    """Return a function of an array x, and of numbers or arrays like it."""
    if not is_foreign(x):
        return getattr(special, name)(x, *more)
    if is_torch_array(x):
        import torch

        return getattr(torch.special, name)(x, *more)
    host = [to_numpy(argument) for argument in (x, *more)]
    return like(x, getattr(special, name)(*host))


def gammaln(x: Any) -> Any:
    """Return ``log |gamma(x)|``."""
    return _special("gammaln", x)


def psi(x: Any) -> Any:
    """Return the derivative of `gammaln`."""
    return _special("psi", x)


def expit(x: Any) -> Any:
    """Return ``1 / (1 + exp(-x))``."""
    return _special("expit", x)


def xlogy(x: Any, y: Any) -> Any:
    """Return ``x log(y)``, which is 0 where x is."""
    return _special("xlogy", x, y)


def zeta(order: float, x: Any) -> Any:
    """Return ``sum_(i >= 0) (x + i)^-order``, the zeta function of Hurwitz.

    That of order 2 is the derivative of `psi`.
    """
    if is_torch_array(x):
        import torch

        return torch.special.zeta(order, x)
    return like(x, special.zeta(order, to_numpy(x)))


def kl_div(x: Any, y: Any) -> Any:
    """Return ``x log(x / y) - x + y``, which is y where x is 0; both at least 0.

    Parameters
    ----------
    x : array or float
    y : array
    """
    if not is_foreign(y):
        return special.kl_div(x, y)
    if not is_foreign(x):
        x = zeros(y, y.shape) + x
    xp = namespace(y)
    with np.errstate(divide="ignore", invalid="ignore"):  # of what works on NumPy
        return xp.where(x > 0.0, x * xp.log(x / y) - x + y, y)
