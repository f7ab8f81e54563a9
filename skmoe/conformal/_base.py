"""What the conformal estimators share: arguments, sets and p-values."""

from typing import ClassVar

import numpy as np
from sklearn.base import BaseEstimator, MetaEstimatorMixin, RegressorMixin
from sklearn.utils import get_tags, indexable
from sklearn.utils.validation import check_is_fitted

from skmoe._sklearn import StrOptions
from skmoe.conformal._calibrated import Calibrated, check_enough
from skmoe.conformal._models import check_mixture, checked_rows
from skmoe.conformal._scores import SCORES
from skmoe.distribution import check_level
from skmoe.mixture import MixtureOfExpertsRegressor

__all__ = ["BaseConformalMixture"]


class BaseConformalMixture(RegressorMixin, MetaEstimatorMixin, BaseEstimator):
    """What the conformal estimators share.

    Parameters
    ----------
    estimator, method, weights, level : see the subclasses
    """

    _parameter_constraints: ClassVar = {
        "estimator": "no_validation",
        "method": [StrOptions(set(SCORES))],
        "weights": [StrOptions({"uniform", "gate"})],
        "level": "no_validation",
        "random_state": ["random_state"],
    }

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        inner = get_tags(self._model()).input_tags
        tags.input_tags.sparse = inner.sparse
        tags.input_tags.allow_nan = inner.allow_nan
        return tags

    def __sklearn_is_fitted__(self):
        return hasattr(self, "_folds")

    def _model(self):
        if self.estimator is None:
            return MixtureOfExpertsRegressor(random_state=self.random_state)
        return self.estimator

    def _start(self, X, y, sample_weight):
        """Check everything that can be checked before a fit; return model and rows."""
        check_level(self.level)
        model = self._model()
        check_mixture(model)
        X, y, weight = checked_rows(X, y, sample_weight)
        return model, X, y, weight

    def _seen_by(self, model):
        """Take over what a fitted model says of its columns."""
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(model, name):
                setattr(self, name, getattr(model, name))
            elif hasattr(self, name):
                delattr(self, name)

    def _calibrated(self, level):
        check_is_fitted(self)
        level = check_level(self.level if level is None else level)
        check_enough(level, self.n_calibration_)
        return Calibrated(self._folds, self.method, level, self.weights == "gate")

    def predict_interval(self, X, level=None):
        """Return sets that hold the response with at least a given probability.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        level : float, default=None
            Probability in (0, 1); None: the one of the constructor.

        Returns
        -------
        interval : array of shape (n_samples, 2), or IntervalUnion
            Lower and upper ends, infinite where the calibration rows bound nothing;
            a union of intervals for each row for ``method="highest-density"``.

        Raises
        ------
        ValueError
            If the level is not in (0, 1), or the calibration rows are too few for it.
        """
        calibrated = self._calibrated(level)
        (X,) = indexable(X)
        union = calibrated.sets(X, X.shape[0] if hasattr(X, "shape") else len(X))
        if not calibrated.score.convex:
            return union
        lower, upper = np.nanmin(union.lower, axis=1), np.nanmax(union.upper, axis=1)
        return np.column_stack([lower, upper])

    def p_value(self, X, y, level=None):
        """Return how strange responses are: the share of calibration rows beyond.

        If a row is exchangeable with those of calibration, its p-value is at most a
        with probability at most a. The set of a level holds the responses whose
        p-value exceeds ``1 - level``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,)
        level : float, default=None
            The level that ``method="quantile"`` measures strangeness at; None: the
            one of the constructor. The other methods do not depend on it.

        Returns
        -------
        p_value : array of shape (n_samples,)
        """
        calibrated = self._calibrated(level)
        X, y, _ = checked_rows(X, y, None)
        return calibrated.p_values(X, y)
