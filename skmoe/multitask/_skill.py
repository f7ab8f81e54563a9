"""How much of a task's loss a model takes away."""

import warnings

import numpy as np
from scipy.special import log_softmax, xlogy
from sklearn.exceptions import UndefinedMetricWarning

__all__ = ["mean_score", "skill"]


def mean_score(scores, weight=None):
    """Return the mean of the scores of tasks, without those that are NaN.

    Parameters
    ----------
    scores : array-like of shape (n_tasks,)
    weight : array of shape (n_tasks,), default=None

    Returns
    -------
    score : float
        NaN, with a warning, if no task has a score.
    """
    scores = np.asarray(scores, dtype=float)
    weight = np.ones(len(scores)) if weight is None else weight
    told = np.isfinite(scores) & (weight > 0)
    if not told.any():
        warnings.warn(
            "the score is not defined: no task has enough labels in y.",
            UndefinedMetricWarning,
            stacklevel=3,
        )
        return np.nan
    return float(np.average(scores[told], weights=weight[told]))


def skill(task, labels, raw, weight):
    """Return 1 less the ratio of losses: that of a model over that of a constant.

    Parameters
    ----------
    task : Task
    labels : array of shape (n_samples,)
        Coded: numbers of classes, standardised values, counts.
    raw : array of shape (n_samples, n_outputs)
        Logits, standardised means, or logs of rates.
    weight : array of shape (n_samples,)
        0 where there is no label.

    Returns
    -------
    skill : float
        R squared, McFadden's R squared, or the part of the Poisson deviance that is
        explained; NaN where a constant has no loss, or there are no labels.
    """
    known = weight > 0
    if not known.any():
        return np.nan
    labels, raw, weight = labels[known], raw[known], weight[known] / weight.sum()
    loss = {
        "regression": _squared,
        "count": _poisson_deviance,
        "binary": _log_loss,
        "multiclass": _log_loss,
    }[task.kind]
    model, constant = loss(labels, raw, weight)
    return float(1.0 - model / constant) if constant > 1e-12 else np.nan


def _squared(labels, raw, weight):
    center = weight @ labels
    return weight @ (labels - raw[:, 0]) ** 2, weight @ (labels - center) ** 2


def _poisson_deviance(labels, raw, weight):
    def deviance(rate):
        return 2.0 * weight @ (xlogy(labels, labels / rate) - labels + rate)

    mean = weight @ labels
    if mean == 0:
        return np.inf, 0.0
    return deviance(np.exp(raw[:, 0])), deviance(mean)


def _log_loss(labels, raw, weight):
    index = labels.astype(int)
    if raw.shape[1] == 1:
        raw = np.column_stack([np.zeros(len(raw)), raw[:, 0]])
    log_proba = log_softmax(raw, axis=1)[np.arange(len(raw)), index]
    share = np.bincount(index, weights=weight, minlength=raw.shape[1])
    return -weight @ log_proba, -xlogy(share, share).sum()
