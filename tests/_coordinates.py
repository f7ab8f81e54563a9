"""Parts at other parameters, and differences of functions of these."""

import copy

import numpy as np

from skmoe.experts import LinearExpert

STEP = 1e-4


def moved(expert, value):
    """Return the expert at other parameters."""
    expert = copy.deepcopy(expert)
    if not isinstance(expert, LinearExpert):
        expert.parameters = value
        return expert
    kernel = expert.kernel_
    size = kernel.coef.size
    kernel.coef = value[:size].reshape(kernel.coef.shape)
    variance = value[size:]
    if kernel.variance.ndim == 3:
        full = np.zeros(kernel.variance.shape[1:])
        upper = np.triu_indices(len(full))
        full[upper] = full.T[upper] = variance
        variance = full
    kernel.variance = variance[None]
    return expert


def differences(function, point, step=None):
    """Return central differences of a function of a vector, along the last axis.

    Parameters
    ----------
    step : array of the shape of point, default=None
        None: 1e-4 of each coordinate, or 1e-4.
    """
    step = STEP * np.maximum(1.0, np.abs(point)) if step is None else step
    columns = []
    for j in range(point.size):
        move = np.zeros(point.size)
        move[j] = step[j]
        columns.append(
            (function(point + move) - function(point - move)) / (2 * step[j])
        )
    return np.stack(columns, axis=-1)
