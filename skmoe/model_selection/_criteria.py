"""Criteria that look at the fits of several sizes together."""

import numpy as np
from scipy.stats import theilslopes

__all__ = ["first_within_one_error", "slope_criterion"]

# Points of the line that the slope is estimated from, at the least.
LEAST_POINTS = 3


def slope_criterion(log_likelihood, n_parameters):
    """Return the criterion of the slope heuristic, ``2 slope D - L``.

    Of large models the bias has levelled off, and the log-likelihood L rises with the
    number of parameters D in a line, whose slope is the least penalty that keeps the
    largest model from being chosen; twice that is the best one. The line is fitted, by
    the median of slopes, to the p largest models for every p from 3 on. Each p chooses
    a model; where the choice stays the same for longest, its slope is taken (the
    "plateau" of Baudry et al.).

    Parameters
    ----------
    log_likelihood, n_parameters : arrays of shape (n_models,)
        By rising size.

    Returns
    -------
    criterion : array of shape (n_models,)
        In nats; lower is better.
    slope : float
        In nats a parameter.

    References
    ----------
    Birge, L. and Massart, P. (2007). Minimal penalties for Gaussian model selection.
    Probab. Theory Relat. Fields 138.
    Baudry, J.-P., Maugis, C. and Michel, B. (2012). Slope heuristics: overview and
    implementation. Stat. Comput. 22.
    """
    fit, size = np.asarray(log_likelihood, float), np.asarray(n_parameters, float)
    slopes = []
    for p in range(LEAST_POINTS, fit.size + 1):
        distinct = np.unique(size[-p:]).size > 1
        line = theilslopes(fit[-p:], size[-p:])[0] if distinct else 0.0
        slopes.append(max(float(line), 0.0))
    choices = [int(np.argmin(2.0 * slope * size - fit)) for slope in slopes]
    starts = np.flatnonzero(np.diff(choices, prepend=-1))
    lengths = np.diff(starts, append=len(choices))
    first = int(starts[lengths.argmax()])
    slope = float(np.median(slopes[first : first + int(lengths.max())]))
    return 2.0 * slope * size - fit, slope


def first_within_one_error(mean, std, n_folds):
    """Return the first score that is within one standard error of the best.

    Parameters
    ----------
    mean, std : arrays of shape (n_models,)
        Over the folds, by rising size; higher is better.
    n_folds : int

    Returns
    -------
    index : int
    """
    best = int(np.argmax(mean))
    error = std[best] / np.sqrt(max(n_folds - 1, 1))
    return int(np.flatnonzero(mean >= mean[best] - error)[0])
