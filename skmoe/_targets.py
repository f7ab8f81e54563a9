"""What a mixture does with its target: numbers, or classes."""

import numpy as np
from sklearn.base import ClassifierMixin, MultiOutputMixin, RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets

from skmoe._gaps import gaps
from skmoe._seen import takes_outputs
from skmoe._xp import like
from skmoe.em._law import point
from skmoe.experts._linear import LinearExpert
from skmoe.experts._logistic import LogisticExpert

__all__ = [
    "ClassificationMixture",
    "ClassificationTarget",
    "RegressionMixture",
    "RegressionTarget",
]


class RegressionTarget:
    """Responses that are numbers."""

    def _learn_target(self, y, labelled=None):
        """Learn the shape of a response; fill the places of missing ones."""
        self._response_shape = y.shape[1:]
        if labelled is not None:
            y = y.copy()
            y[~labelled] = y[labelled].mean(axis=0)
        return y

    def _split_labelled(self, y):
        """Return responses as floats, and which rows have one; None if all do."""
        y = self._as_numbers(y)
        missing = np.isnan(y)
        if self.unlabelled is not None:
            missing |= y == self.unlabelled
        missing = missing.reshape(len(y), -1).any(axis=1)
        if not missing.any():
            return self._check_target(y), None
        y = y.copy()
        y[missing] = 0.0
        return self._check_target(y), ~missing

    def _target_kind(self):
        return self._response_shape

    def _check_target(self, y):
        """Return y as finite floats."""
        y = self._as_numbers(y)
        if not np.isfinite(y).all():
            raise ValueError(
                "Input y contains NaN or infinity: first in row "
                f"{int(np.argwhere(~np.isfinite(y))[0][0])}."
            )
        return y

    @staticmethod
    def _as_numbers(y):
        try:
            return np.asarray(y, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"y must be numeric for a regressor: {error}") from error

    def _encode_target(self, y):
        """Return responses of the shape that was seen in fit."""
        if y.shape[1:] != self._response_shape:
            wanted = ", ".join(["n_samples", *map(str, self._response_shape)])
            raise ValueError(f"y must be of shape ({wanted}) as in fit, got {y.shape}.")
        return y


class ClassificationTarget:
    """Responses that are classes, worked on as codes."""

    def _check_target(self, y):
        """Return y as one column of labels."""
        y = column_or_1d(y, warn=True)
        missing = gaps(y)
        if missing.any():
            row = int(np.flatnonzero(missing)[0])
            raise ValueError(f"Input y contains NaN: first in row {row}.")
        check_classification_targets(y)
        return y

    def _split_labelled(self, y):
        """Return labels, and which rows have one; None if all do."""
        y = column_or_1d(y, warn=True)
        missing = gaps(y)
        if self.unlabelled is not None:
            missing |= y == self.unlabelled
        if not missing.any():
            return self._check_target(y), None
        known = y[~missing]
        if known.size == 0:
            return y, ~missing
        if known.dtype.kind == "O" and not isinstance(known[0], str):
            known = np.array(known.tolist())  # numbers beside None
        y = np.full(y.size, known[0], dtype=known.dtype)
        y[~missing] = self._check_target(known)
        return y, ~missing

    def _learn_target(self, y, labelled=None):
        """Learn the classes of the rows of positive weight; return codes."""
        some = y if labelled is None else y[labelled]
        self.classes_, codes = np.unique(some, return_inverse=True)
        if labelled is not None:
            codes, known = np.zeros(y.size, dtype=np.intp), codes
            codes[labelled] = known
        if self.classes_.size < 2:
            raise ValueError(
                "y must hold at least two classes, got one class: "
                f"{self.classes_.tolist()[0]!r}."
            )
        return codes

    def _target_kind(self):
        return tuple(self.classes_.tolist())

    def _encode_target(self, y):
        """Return codes of labels that were seen in fit."""
        codes = np.searchsorted(self.classes_, y).clip(max=self.classes_.size - 1)
        unknown = np.asarray(self.classes_[codes] != y)
        if unknown.any():
            raise ValueError(
                f"y holds labels that were not seen in fit: {np.unique(y[unknown])}; "
                f"known classes are {self.classes_}."
            )
        return codes


class RegressionMixture(RegressionTarget, RegressorMixin, MultiOutputMixin):
    """Prediction of numbers, for a subclass of `BaseMixtureOfExperts`."""

    _poolings = ("mean", "mode", "top1")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        try:
            several = all(takes_outputs(expert) for expert in self._leaf_estimators())
        except (TypeError, ValueError, AttributeError):
            several = False  # refused, with a message, at fit
        tags.target_tags.multi_output = several
        return tags

    def predict(self, X, return_std=False, *, offset=None, trials=None):
        """Predict the response.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        return_std : bool, default=False
            Also return the standard deviation of the predictive law, same unit
            as y: noise within experts and disagreement between them.
        offset, trials : arrays of shape (n_samples,), default=None
            As in ``fit``, where they were given beside X there.

        Returns
        -------
        y : array of shape (n_samples,) or (n_samples, n_outputs)
        std : array of the same shape, if ``return_std``
        """
        known = {"offset": offset, "trials": trials}
        if not return_std:
            return like(X, self._point(X, "predict", known))
        distribution = self._law(X, "predict", known)
        std = np.sqrt(distribution.variance)
        return like(X, getattr(distribution, self.pooling)), like(X, std)

    def predict_quantile(self, X, q, *, offset=None, trials=None):
        """Predict quantiles of the response.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        q : float or array-like of shape (n_levels,)
            Levels in [0, 1]; 0 and 1 stand for the ends of the support.
        offset, trials : arrays of shape (n_samples,), default=None
            As in ``fit``, where they were given beside X there.

        Returns
        -------
        quantile : array of shape (n_samples,) or (n_samples, n_levels)

        Raises
        ------
        ValueError
            If a level is no number in [0, 1], or there are several outputs.
        """
        known = {"offset": offset, "trials": trials}
        return like(X, self._law(X, "predict_quantile", known).quantile(q))

    def predict_interval(
        self, X, level=0.9, method="central", *, offset=None, trials=None
    ):
        """Predict where the response lies with a given probability.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        level : float, default=0.9
            Probability in (0, 1).
        method : {"central", "highest-density"}, default="central"
            See `MixtureDistribution.interval`.
        offset, trials : arrays of shape (n_samples,), default=None
            As in ``fit``, where they were given beside X there.

        Returns
        -------
        interval : array of shape (n_samples, 2), or IntervalUnion
            Lower and upper ends; for "highest-density" a union of intervals for
            each row, in NumPy arrays.

        Raises
        ------
        ValueError
            If the level is not in (0, 1), the method is unknown, or there are
            several outputs.
        """
        known = {"offset": offset, "trials": trials}
        distribution = self._law(X, "predict_interval", known)
        interval = distribution.interval(level, method=method)
        return like(X, interval) if method == "central" else interval

    def score(self, X, y, sample_weight=None, *, offset=None, trials=None):
        """Return the coefficient of determination R2 of the predictions.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), default=None
        offset, trials : arrays of shape (n_samples,), default=None
            As in ``fit``, where they were given beside X there.

        Returns
        -------
        score : float
        """
        predicted = self.predict(X, offset=offset, trials=trials)
        return r2_score(y, predicted, sample_weight=sample_weight)

    def _point(self, X, method, known=None):
        """Return the point of the law that ``pooling`` asks for."""
        checked = self._check_new(X, method, known)
        return point(self.node_, checked, self.top_k, self.pooling)

    def _default_expert(self):
        return LinearExpert()

    def _n_classes(self):
        return None


class ClassificationMixture(ClassificationTarget, ClassifierMixin):
    """Prediction of classes, for a subclass of `BaseMixtureOfExperts`."""

    _poolings = ("mean", "mode", "top1", "vote")

    def predict(self, X):
        """Predict the class of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        y : array of shape (n_samples,)
            Labels from ``classes_``.
        """
        proba = self._proba(X, "predict")
        classes = self.classes_[proba.argmax(axis=1)]
        return like(X, classes) if classes.dtype.kind in "biuf" else classes

    def predict_proba(self, X):
        """Return class probabilities.

        "mean" and "mode" weigh the experts' probabilities with the gate; "top1"
        takes those of the most probable expert; "vote" gives each class the
        gate's weight of the experts that prefer it.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        proba : array of shape (n_samples, n_classes)
            In the order of ``classes_``.
        """
        return like(X, self._proba(X, "predict_proba"))

    def predict_log_proba(self, X):
        """Return the logarithms of `predict_proba`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        log_proba : array of shape (n_samples, n_classes)
            -inf where a probability is zero.
        """
        proba = self._proba(X, "predict_log_proba")
        with np.errstate(divide="ignore"):
            return like(X, np.log(proba))

    def _proba(self, X, method):
        if self.pooling != "vote":
            return self._point(X, method)
        distribution = self._law(X, method)
        votes = np.zeros_like(distribution.mean)
        choice = distribution.means.argmax(axis=2)
        rows = np.arange(len(distribution))
        for k in range(choice.shape[1]):
            votes[rows, choice[:, k]] += distribution.gate[:, k]
        return votes

    def _point(self, X, method, known=None):
        """Return the class probabilities that ``pooling`` asks for."""
        checked = self._check_new(X, method)
        name = "top1" if self.pooling == "top1" else "mean"
        return point(self.node_, checked, self.top_k, name)

    def _default_expert(self):
        return LogisticExpert()

    def _n_classes(self):
        return self.classes_.size
