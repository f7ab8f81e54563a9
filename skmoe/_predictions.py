"""What a mixture predicts: numbers, or classes."""

import numpy as np
from sklearn.base import ClassifierMixin, MultiOutputMixin, RegressorMixin
from sklearn.metrics import accuracy_score, r2_score

from skmoe._foreign_rows import check_weights, response_beside
from skmoe._placement import follow, placed
from skmoe._seen import takes_outputs
from skmoe._targets import ClassificationTarget, RegressionTarget
from skmoe._xp import floats, is_foreign, like, namespace, one_hot, to_numpy, total
from skmoe.em._law import point
from skmoe.experts._linear import LinearExpert
from skmoe.experts._logistic import LogisticExpert

__all__ = [
    "Classification",
    "ClassificationMixture",
    "Regression",
    "RegressionMixture",
    "votes",
]


def foreign_r2(predicted, y, sample_weight):
    """Return R2 of predictions that stay where they are, averaged over outputs."""
    y, weight = response_beside(predicted, y), check_weights(sample_weight, predicted)
    weight, n_rows = weight / total(weight), y.shape[0]
    xp = namespace(y)
    y, predicted = (xp.reshape(a, (n_rows, -1)) for a in (y, floats(predicted)))
    if y.shape[1] != predicted.shape[1]:
        raise ValueError(
            f"y has {y.shape[1]} outputs and the predictions have "
            f"{predicted.shape[1]}: give as many as in fit."
        )
    center = weight @ y
    error, spread = (y - predicted) ** 2, (y - center) ** 2
    unexplained, spread = to_numpy(weight @ error), to_numpy(weight @ spread)
    # As scikit-learn has it where y does not vary: 1 for exact predictions, else 0.
    known = np.where(spread > 0.0, spread, 1.0)
    flat = np.where(unexplained == 0.0, 1.0, 0.0)
    return float(np.mean(np.where(spread > 0.0, 1.0 - unexplained / known, flat)))


def votes(law):
    """Return for each class the gate's weight of the experts that prefer it."""
    choice = namespace(law.means).argmax(law.means, axis=2)
    total = 0.0
    for k in range(choice.shape[1]):
        chosen = one_hot(choice[:, k], law.means.shape[2])
        total = total + chosen * law.gate[:, k]
    return total.T


class Regression(RegressionTarget, RegressorMixin, MultiOutputMixin):
    """What any mixture is whose responses are numbers."""

    _poolings = ("mean", "mode", "top1")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        try:
            several = all(takes_outputs(expert) for expert in self._leaf_estimators())
        except (TypeError, ValueError, AttributeError):
            several = False  # refused, with a message, at fit
        tags.target_tags.multi_output = several
        return tags

    def _default_expert(self):
        return LinearExpert()

    def _n_classes(self):
        return None


class RegressionMixture(Regression):
    """Prediction of numbers, for a subclass of `BaseMixtureOfExperts`."""

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
            return follow(X, self._point(X, "predict", known))
        distribution = self._law(X, "predict", known)
        std = distribution.variance**0.5
        if self.pooling == "mode":
            distribution = distribution.on_host()
        return follow(X, getattr(distribution, self.pooling)), follow(X, std)

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
        distribution = self._law(X, "predict_quantile", known).on_host()
        return follow(X, distribution.quantile(q))

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
        distribution = self._law(X, "predict_interval", known).on_host()
        interval = distribution.interval(level, method=method)
        return follow(X, interval) if method == "central" else interval

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
        if is_foreign(predicted):
            return foreign_r2(predicted, y, sample_weight)
        y, sample_weight = to_numpy(y), to_numpy(sample_weight)
        return r2_score(y, predicted, sample_weight=sample_weight)

    def _point(self, X, method, known=None):
        """Return the point of the law that ``pooling`` asks for."""
        checked = self._check_new(X, method, known)
        return point(self.node_, checked, self.top_k, self.pooling)


class Classification(ClassificationTarget, ClassifierMixin):
    """What any mixture is whose responses are classes."""

    _poolings = ("mean", "mode", "top1", "vote")

    def _default_expert(self):
        return LogisticExpert()

    def _n_classes(self):
        return self.classes_.size


class ClassificationMixture(Classification):
    """Prediction of classes, for a subclass of `BaseMixtureOfExperts`."""

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
        codes = namespace(proba).argmax(proba, axis=1)
        if not is_foreign(codes) or self.classes_.dtype.kind not in "biuf":
            classes = self.classes_[to_numpy(codes)]
            return classes if classes.dtype.kind not in "biuf" else like(X, classes)
        classes = namespace(codes).take(like(codes, self.classes_), codes)
        return placed(X, classes)[0] if is_foreign(X) else to_numpy(classes)

    def score(self, X, y, sample_weight=None):
        """Return the share of rows whose class is predicted.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,)
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        score : float
        """
        if not is_foreign(X):
            return super().score(X, to_numpy(y), to_numpy(sample_weight))
        predicted, y = self.predict(X), self._foreign_target(X, y)
        if not (is_foreign(predicted) and is_foreign(y)):
            arrays = to_numpy(y), to_numpy(predicted)
            return accuracy_score(*arrays, sample_weight=to_numpy(sample_weight))
        weight = check_weights(sample_weight, X)
        xp = namespace(X)
        if predicted.dtype != y.dtype:
            predicted, y = floats(predicted), floats(y)
        right = xp.astype(predicted == y, weight.dtype)
        return float(weight @ right) / total(weight)

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
        return follow(X, self._proba(X, "predict_proba"))

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
            return follow(X, namespace(proba).log(proba))

    def _proba(self, X, method):
        if self.pooling != "vote":
            return self._point(X, method)
        return votes(self._law(X, method))

    def _point(self, X, method, known=None):
        """Return the class probabilities that ``pooling`` asks for."""
        checked = self._check_new(X, method)
        name = "top1" if self.pooling == "top1" else "mean"
        return point(self.node_, checked, self.top_k, name)
