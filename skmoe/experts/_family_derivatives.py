"""First and second derivatives of each family's log density.

In the local coordinates of a row: its linear predictors eta, then the expert's
shapes s (logs of dispersions). The information matrix of a mixture needs the observed
curvature, where scoring in `GlmKernel` makes do with what is expected of it.
"""

from functools import singledispatch

import numpy as np
from scipy import special

from skmoe.experts._count_families import (
    BinomialFamily,
    NegativeBinomialFamily,
    PoissonFamily,
)
from skmoe.experts._families import MAX_ETA
from skmoe.experts._real_families import (
    GammaFamily,
    HeteroscedasticFamily,
    LaplaceFamily,
    StudentFamily,
)
from skmoe.experts._special import psi_rising, trigamma_rising

__all__ = ["family_derivatives"]


@singledispatch
def family_derivatives(family, eta, target, shapes):
    """Return gradient and curvature of the log density of each row.

    Parameters
    ----------
    family : Family
    eta : array of shape (n_predictors, n_samples)
    target : array of shape (n_target_rows, n_samples)
        What the family makes of the responses.
    shapes : array of shape (n_shapes,)

    Returns
    -------
    gradient : list of n_local arrays of shape (n_samples,)
    curvature : dict of (int, int) to array of shape (n_samples,)
        Entries i <= j that are not zero.
    """
    raise TypeError(
        f"no derivatives are known of {type(family).__name__}: register them with "
        "family_derivatives."
    )


@family_derivatives.register
def _poisson(family: PoissonFamily, eta, target, shapes):
    mean = np.exp(np.minimum(eta[0], MAX_ETA))
    return [target[0] - mean], {(0, 0): -mean}


@family_derivatives.register
def _binomial(family: BinomialFamily, eta, target, shapes):
    trials, proba = target[0] - target[1], special.expit(eta[0])
    expected = trials * proba
    return [target[0] - expected], {(0, 0): -expected * special.expit(-eta[0])}


@family_derivatives.register
def _negative_binomial(family: NegativeBinomialFamily, eta, target, shapes):
    y, theta = target[0], np.exp(shapes[0])
    mean = np.exp(np.minimum(eta[0], MAX_ETA))
    total, error = mean + theta, y - mean
    # In theta; y is few numbers only, but this is one pass, not one of hundreds.
    first = psi_rising(y, theta)
    first -= np.log1p(mean / theta) + error / total
    second = trigamma_rising(y, theta)
    second += mean / (theta * total) + error / total**2
    gradient = [theta * error / total, theta * first]
    curvature = {
        (0, 0): -theta * mean * (y + theta) / total**2,
        (0, 1): theta * error * mean / total**2,
        (1, 1): theta * theta * second + theta * first,
    }
    return gradient, curvature


@family_derivatives.register
def _gamma(family: GammaFamily, eta, target, shapes):
    shape, log_ratio = np.exp(shapes[0]), np.minimum(target[0] - eta[0], MAX_ETA)
    ratio, excess = np.exp(log_ratio), np.expm1(log_ratio)
    first = np.log(shape) - special.psi(shape) - (excess - log_ratio)
    own = shape - shape * shape * special.polygamma(1, shape)
    curvature = {
        (0, 0): -shape * ratio,
        (0, 1): shape * excess,
        (1, 1): own + shape * first,
    }
    return [shape * excess, shape * first], curvature


@family_derivatives.register
def _student(family: StudentFamily, eta, target, shapes):
    precision, error = np.exp(-shapes[0]), target[0] - eta[0]
    df = float(family.degrees(shapes[None])[0])
    square = precision * error * error
    tail = df + square
    pull = (df + 1.0) / tail  # the weight of the row in a least squares fit
    bend = pull / tail
    gradient = [precision * pull * error, 0.5 * (pull * square - 1.0)]
    curvature = {
        (0, 0): precision * (2.0 * square * bend - pull),
        (0, 1): -precision * error * df * bend,
        (1, 1): -0.5 * square * df * bend,
    }
    if family.df is None:
        first, second = _in_df(df, square, tail)
        gradient.append(df * first)
        slope = df * (square - 1.0) / tail**2
        curvature[0, 2] = precision * error * slope
        curvature[1, 2] = 0.5 * square * slope
        curvature[2, 2] = df * df * second + df * first
    return gradient, curvature


def _in_df(df, square, tail):
    """Return derivatives of the t density in its degrees of freedom."""
    half = 0.5 * df
    lead = (df + 1.0) * square / (df * tail)
    first = special.psi(half + 0.5) - special.psi(half) - 1.0 / df
    first = 0.5 * (first - np.log1p(square / df) + lead)
    second = special.zeta(2.0, half + 0.5) - special.zeta(2.0, half)
    second = 0.25 * second + 0.5 / (df * df) + 0.5 * square / (df * tail)
    bend = df * tail - (df + 1.0) * (2.0 * df + square)
    return first, second + 0.5 * square * bend / (df * tail) ** 2


@family_derivatives.register
def _laplace(family: LaplaceFamily, eta, target, shapes):
    scale, error = np.exp(shapes[0]), target[0] - eta[0]
    size = np.abs(error) / scale
    # The corner has no second derivative: Fisher's information stands in.
    curvature = {
        (0, 0): np.full(error.size, -1.0 / scale**2),
        (0, 1): -np.sign(error) / scale,
        (1, 1): -size,
    }
    return [np.sign(error) / scale, size - 1.0], curvature


@family_derivatives.register
def _heteroscedastic(family: HeteroscedasticFamily, eta, target, shapes):
    log_variance = np.clip(eta[1], family.least, MAX_ETA)
    free = log_variance == eta[1]  # at a bound the variance does not follow
    precision, error = np.exp(-log_variance), target[0] - eta[0]
    square = precision * error * error
    curvature = {
        (0, 0): -precision,
        (0, 1): -precision * error * free,
        (1, 1): -0.5 * square * free,
    }
    return [precision * error, 0.5 * (square - 1.0) * free], curvature
