"""Class probabilities from whatever a classifier offers, by weighted likelihood."""

from dataclasses import dataclass

import numpy as np
from scipy.special import log_softmax

from skmoe.experts._weights import innermost

__all__ = [
    "Calibration",
    "class_codes",
    "class_scores",
    "fit_calibration",
    "score_kind",
]

RIDGE = 1e-8
MAX_NEWTON_STEPS = 100
ARMIJO = 1e-4
TOL = 1e-14


@dataclass(frozen=True)
class Calibration:
    """Map scores to log probabilities: ``log softmax(slope * score + offset)``.

    For two classes whose scores are ``-m / 2`` and ``m / 2`` this is Platt's
    sigmoid of the margin m; for more it is temperature scaling with an offset
    for each class. Scores that are one-hot labels give the (smoothed) error
    rates of the labels.

    Attributes
    ----------
    slope : float
        Inverse temperature.
    offset : array of shape (n_classes,)
    """

    slope: float
    offset: np.ndarray

    def log_proba(self, score):
        """Return log probabilities of the shape of ``score``."""
        centred = score - score.mean(axis=1, keepdims=True)
        return log_softmax(self.slope * centred + self.offset, axis=1)


def fit_calibration(score, y, weight):
    """Fit slope and offsets by weighted maximum likelihood, with Newton's method.

    The targets are Platt's: a row of class c, of which there are W_c weighted
    rows, counts as ``(W_c + 1) / (W_c + n_classes)`` of its own class and the
    rest of the others, so separable scores keep a finite slope.

    Parameters
    ----------
    score : array of shape (n_samples, n_classes)
    y : int array of shape (n_samples,)
        Codes 0, ..., n_classes - 1.
    weight : array of shape (n_samples,)

    Returns
    -------
    calibration : Calibration

    References
    ----------
    Platt, J. (1999). Probabilistic outputs for support vector machines.
    Guo, C. et al. (2017). On calibration of modern neural networks.
    """
    n_classes = score.shape[1]
    class_weight = np.bincount(y, weight, n_classes)
    target = np.repeat((1.0 / (class_weight + n_classes))[y, None], n_classes, axis=1)
    own = (class_weight + 1.0) / (class_weight + n_classes)
    target[np.arange(y.shape[0]), y] = own[y]
    share = weight / weight.sum()
    centred = score - score.mean(axis=1, keepdims=True)
    scale = np.sqrt(share @ (centred * centred).mean(axis=1))
    scale = scale if scale > 0 else 1.0
    theta = _newton(centred / scale, target, share)
    return Calibration(slope=float(theta[0] / scale), offset=theta[1:])


def _newton(score, target, share):
    """Minimise the cross-entropy over (slope, offsets), a convex function.

    The ridge pins the common shift of the offsets, and a slope that nothing
    depends on.
    """
    theta = np.zeros(score.shape[1] + 1)
    loss = _loss(theta, score, target, share)
    for _ in range(MAX_NEWTON_STEPS):
        gradient, hessian = _derivatives(theta, score, target, share)
        step = -np.linalg.solve(hessian, gradient)
        slope = float(gradient @ step)
        if -slope < TOL * (1.0 + loss):
            break
        size = 1.0
        while True:
            trial = theta + size * step
            trial_loss = _loss(trial, score, target, share)
            if trial_loss <= loss + ARMIJO * size * slope:
                break
            size *= 0.5
            if size < 1e-10:  # rounding alone is left: theta is the minimum
                return theta
        theta, loss = trial, trial_loss
    return theta


def _log_proba(theta, score):
    return log_softmax(theta[0] * score + theta[1:], axis=1)


def _loss(theta, score, target, share):
    cross = -(target * _log_proba(theta, score)).sum(axis=1)
    return float(share @ cross + 0.5 * RIDGE * theta @ theta)


def _derivatives(theta, score, target, share):
    proba = np.exp(_log_proba(theta, score))
    residual = proba - target
    gradient = np.empty_like(theta)
    gradient[0] = share @ (residual * score).sum(axis=1)
    gradient[1:] = share @ residual
    mean = (proba * score).sum(axis=1)
    spread = proba * (score - mean[:, None])
    hessian = np.empty((theta.size, theta.size))
    hessian[0, 0] = share @ (spread * score).sum(axis=1)
    hessian[0, 1:] = hessian[1:, 0] = share @ spread
    hessian[1:, 1:] = np.diag(share @ proba) - (proba * share[:, None]).T @ proba
    hessian[np.diag_indices(theta.size)] += RIDGE
    return gradient + RIDGE * theta, hessian


def score_kind(model):
    """Return what a fitted classifier offers: "proba", "margin" or "label"."""
    if hasattr(model, "predict_proba"):
        return "proba"
    return "margin" if hasattr(model, "decision_function") else "label"


def class_codes(model, n_classes):
    """Return the class code of each column of a fitted classifier.

    Parameters
    ----------
    model : fitted classifier
    n_classes : int
        Classes of the mixture, of which an expert may have seen only some.

    Returns
    -------
    codes : int array

    Raises
    ------
    ValueError
        If a prefitted classifier knows labels that cannot be matched.
    """
    classes = np.asarray(getattr(model, "classes_", np.arange(n_classes)))
    if classes.shape == (n_classes,):
        return np.arange(n_classes)  # both are sorted: by rank, whatever the labels
    fits = classes.dtype.kind in "iuf" and classes.ndim == 1 and classes.size > 0
    if fits and classes.min() >= 0 and classes.max() < n_classes:
        return classes.astype(int)
    raise ValueError(
        f"{type(model).__name__} was fitted for the classes {classes.tolist()}, which "
        f"cannot be matched to the {n_classes} classes of y. Fit it on rows of all "
        "classes before it becomes an expert."
    )


def class_scores(model, X, n_classes, kind):
    """Return one score for each class of the mixture.

    Parameters
    ----------
    model : fitted classifier
    X : array of shape (n_samples, n_features)
    n_classes : int
    kind : {"proba", "margin", "label"}

    Returns
    -------
    score : array of shape (n_samples, n_classes)
        Probabilities, margins, or one-hot labels. A class the model does not
        know has probability zero and the lowest margin of the row.
    """
    codes = class_codes(model, n_classes)
    if kind == "label":
        return _one_hot(model.predict(X), model, codes, n_classes)
    if kind == "proba":
        columns = np.asarray(model.predict_proba(X), dtype=float)
        score = np.zeros((columns.shape[0], n_classes))
    else:
        columns = _margin_columns(
            model.decision_function(X),
            codes.size,
            # With three classes the shape does not tell duels from classes.
            getattr(innermost(model), "decision_function_shape", None) == "ovo",
        )
        score = np.repeat(columns.min(axis=1, keepdims=True), n_classes, axis=1)
    score[:, codes] = columns
    return score


def _one_hot(label, model, codes, n_classes):
    classes = getattr(model, "classes_", codes)
    score = np.zeros((len(label), n_classes))
    score[np.arange(len(label)), codes[np.searchsorted(classes, label)]] = 1.0
    return score


def _margin_columns(margin, n_known, duels=False):
    """Return margins as one column a class, from any of scikit-learn's layouts."""
    margin = np.asarray(margin, dtype=float)
    if margin.ndim == 1 or margin.shape[1] == 1:
        half = 0.5 * margin.reshape(-1)
        return np.column_stack([-half, half])
    if margin.shape[1] == n_known and not duels:
        return margin
    # One column a pair of classes, i < j, positive for i: sum the duels.
    columns = np.zeros((margin.shape[0], n_known))
    first, second = np.triu_indices(n_known, 1)
    for pair, (i, j) in enumerate(zip(first, second, strict=True)):
        columns[:, i] += margin[:, pair]
        columns[:, j] -= margin[:, pair]
    return columns
