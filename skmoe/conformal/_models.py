"""The mixture inside of a model, its law, and fitting it to some of the rows."""

import numpy as np
from sklearn.base import clone, is_regressor
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils import column_or_1d, indexable

from skmoe._sklearn import check_sample_weight, safe_indexing
from skmoe._unwrapped import transformed_by, unwrapped

__all__ = ["check_mixture", "checked_rows", "fitted", "law_of"]

NO_LAW = (
    "estimator must be a mixture regressor of skmoe, or a Pipeline or a search that "
    "ends in one, got {}. For classifiers, and for regressors without a predictive "
    "law, use MAPIE."
)


def check_mixture(model):
    """Check that a model is a regressor that has a predictive law, once fitted.

    Raises
    ------
    TypeError
        If it is not, or takes rows as they follow each other: they are not
        exchangeable.
    """
    last = _innermost(model)
    if not (is_regressor(model) and hasattr(last, "predict_distribution")):
        raise TypeError(NO_LAW.format(type(last).__name__))
    if getattr(last, "_in_time", False) and last.order:
        raise TypeError(
            f"{type(last).__name__} takes rows as they follow each other, and "
            "conformal sets need exchangeable rows. Use its own predict_interval(X, "
            "y), one step ahead."
        )


def _innermost(model):
    """Return the estimator that does the work: the last step, what is searched."""
    if isinstance(model, Pipeline):
        return _innermost(model.steps[-1][1])
    if hasattr(model, "predict_distribution") or not hasattr(model, "estimator"):
        return model
    return _innermost(model.estimator)


def law_of(model, X):
    """Return the predictive law of the mixture at the end of a fitted model.

    Raises
    ------
    TypeError
        If there is none.
    """
    before, last = unwrapped(model)
    if not hasattr(last, "predict_distribution"):
        raise TypeError(NO_LAW.format(type(last).__name__))
    return last.predict_distribution(transformed_by(before, X))


def checked_rows(X, y, sample_weight):
    """Return X, y and weights of the rows of positive weight.

    Raises
    ------
    ValueError
        If y has several columns or is not finite, or lengths differ.
    """
    y = np.asarray(y)
    if y.ndim == 2 and y.shape[1] > 1:
        raise ValueError(
            f"y must have one column, got {y.shape[1]} outputs: sets for several "
            "outputs are not offered; calibrate a model for each."
        )
    y = column_or_1d(y, warn=True).astype(float)
    X, y = indexable(X, y)
    if not np.isfinite(y).all():
        row = int(np.flatnonzero(~np.isfinite(y))[0])
        raise ValueError(f"Input y contains NaN or infinity: first in row {row}.")
    weight = check_sample_weight(sample_weight, y)
    if (weight > 0.0).all():
        return X, y, weight
    rows = np.flatnonzero(weight > 0.0)
    return safe_indexing(X, rows), y[rows], weight[rows]


def fitted(model, X, y, weight=None):
    """Return a clone of a model fitted to rows; a frozen one as it is.

    Parameters
    ----------
    weight : array of shape (n_samples,) or None
        Of a Pipeline it goes to the last step.
    """
    model = clone(model)
    if isinstance(model, FrozenEstimator):
        return model
    if weight is None:
        return model.fit(X, y)
    prefix = f"{model.steps[-1][0]}__" if isinstance(model, Pipeline) else ""
    return model.fit(X, y, **{f"{prefix}sample_weight": weight})
