"""Differences of special functions that lose no digits at large arguments."""

import numpy as np
from scipy import special

__all__ = ["gamma_entropy", "gamma_surplus", "log_rising", "stirling_rest"]

# From here on a few terms of Stirling's series are exact in double precision.
LARGE = 30.0


def stirling_rest(x):
    """Return ``lgamma(x) - (x - 1/2) log x + x - log(2 pi) / 2`` for large x."""
    inverse = 1.0 / x
    square = inverse * inverse
    return inverse * (
        1.0 / 12.0 - square * (1.0 / 360.0 - square * (1.0 / 1260.0 - square / 1680.0))
    )


def log_rising(y, size):
    """Return ``lgamma(y + size) - lgamma(size) - y log(size)``, for y >= 0.

    Both terms grow like ``size log(size)`` while their difference vanishes.
    """
    y, size = np.broadcast_arrays(np.asarray(y, float), np.asarray(size, float))
    large = np.maximum(size, LARGE)
    smooth = (y + large - 0.5) * np.log1p(y / large) - y
    smooth += stirling_rest(y + large) - stirling_rest(large)
    if (size >= LARGE).all():
        return smooth
    plain = special.gammaln(y + size) - special.gammaln(size) - y * np.log(size)
    return np.where(size >= LARGE, smooth, plain)


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
