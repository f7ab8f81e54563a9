"""Differences of special functions that lose no digits at large arguments.

Those of responses take rows of any library; those of shapes alone NumPy's.
"""

import numpy as np
from scipy import special

from skmoe._special_xp import gammaln, psi, zeta
from skmoe._xp import is_foreign, like, namespace

__all__ = [
    "gamma_entropy",
    "gamma_surplus",
    "log_rising",
    "psi_rising",
    "stirling_rest",
    "trigamma_rising",
]

# From here on a few terms of Stirling's series are exact in double precision.
LARGE = 30.0


def stirling_rest(x):
    """Return ``lgamma(x) - (x - 1/2) log x + x - log(2 pi) / 2`` for large x."""
    inverse = 1.0 / x
    square = inverse * inverse
    return inverse * (
        1.0 / 12.0 - square * (1.0 / 360.0 - square * (1.0 / 1260.0 - square / 1680.0))
    )


def _operands(y, size):
    """Return y and size as arrays that go together, and whether sizes are large.

    Parameters
    ----------
    y : array of any library, or a number
    size : NumPy array or number
    """
    size = np.asarray(size, float)
    large = bool((size >= LARGE).all())
    if is_foreign(y):
        return y, like(y, size), large
    return *np.broadcast_arrays(np.asarray(y, float), size), large


def log_rising(y, size):
    """Return ``lgamma(y + size) - lgamma(size) - y log(size)``, for y >= 0.

    Both terms grow like ``size log(size)`` while their difference vanishes.
    """
    y, size, all_large = _operands(y, size)
    xp = namespace(y)
    large = xp.clip(size, LARGE, None)
    smooth = (y + large - 0.5) * xp.log1p(y / large) - y
    smooth += stirling_rest(y + large) - stirling_rest(large)
    if all_large:
        return smooth
    plain = gammaln(y + size) - gammaln(size) - y * xp.log(size)
    return xp.where(size >= LARGE, smooth, plain)


def psi_rising(y, size):
    """Return ``psi(y + size) - psi(size)``: y / size plus the slope of `log_rising`.

    Of the two terms, which grow like ``log(size)``, y / size is left.
    """
    y, size, all_large = _operands(y, size)
    xp = namespace(y)
    large = xp.clip(size, LARGE, None)
    smooth = xp.log1p(y / large) + _psi_rest(y + large) - _psi_rest(large)
    if all_large:
        return smooth
    return xp.where(size >= LARGE, smooth, psi(y + size) - psi(size))


def trigamma_rising(y, size):
    """Return ``psi'(y + size) - psi'(size)``, the derivative of `psi_rising`."""
    y, size, all_large = _operands(y, size)
    xp = namespace(y)
    large = xp.clip(size, LARGE, None)
    smooth = _trigamma_rest(y + large) - _trigamma_rest(large)
    smooth -= y / (large * (y + large))
    if all_large:
        return smooth
    # The Hurwitz zeta function: polygamma(1, x) without its overhead.
    plain = zeta(2.0, y + size) - zeta(2.0, size)
    return xp.where(size >= LARGE, smooth, plain)


def _psi_rest(x):
    """Return ``psi(x) - log x`` for large x."""
    inverse = 1.0 / x
    square = inverse * inverse
    tail = 1.0 / 12.0 - square * (1.0 / 120.0 - square * (1.0 / 252.0 - square / 240.0))
    return -inverse * (0.5 + inverse * tail)


def _trigamma_rest(x):
    """Return ``psi'(x) - 1 / x`` for large x."""
    inverse = 1.0 / x
    square = inverse * inverse
    tail = 1.0 / 6.0 - square * (1.0 / 30.0 - square * (1.0 / 42.0 - square / 30.0))
    return square * (0.5 + inverse * tail)


def gamma_entropy(shape):
    """Return ``a log a - a - lgamma(a)`` for shapes a."""
    shape = np.asarray(shape, dtype=float)
    large = np.maximum(shape, LARGE)
    smooth = 0.5 * np.log(large / (2.0 * np.pi)) - stirling_rest(large)
    plain = special.xlogy(shape, shape) - shape - special.gammaln(shape)
    return np.where(shape >= LARGE, smooth, plain)


def gamma_surplus(shape):
    """Return ``a^2 psi'(a) - a``, the information of a row about log a."""
    shape = np.asarray(shape, dtype=float)
    large = np.maximum(shape, LARGE)
    inverse = 1.0 / large
    smooth = 0.5 + inverse / 6.0 - inverse**3 / 30.0 + inverse**5 / 42.0
    plain = shape * (shape * special.polygamma(1, shape) - 1.0)
    return np.where(shape >= LARGE, smooth, plain)
