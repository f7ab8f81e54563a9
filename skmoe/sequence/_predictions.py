"""What a Markov mixture predicts: numbers, or classes."""

import numpy as np
from sklearn.metrics import accuracy_score, r2_score

from skmoe._predictions import Classification, Regression, votes

__all__ = ["ClassificationChain", "RegressionChain"]


class RegressionChain(Regression):
    """Prediction of numbers, for a subclass of `BaseMarkovMixture`."""

    def predict(
        self,
        X,
        y=None,
        *,
        return_std=False,
        lengths=None,
        groups=None,
        times=None,
        previous=None,
    ):
        """Predict the response.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            With responses, a prediction one step ahead: each row is given those
            before it, and not its own. Without them, given none.
        return_std : bool, default=False
            Also return the standard deviation of the predictive law.
        lengths, groups, times, previous : array-like, default=None
            Which rows follow each other; see ``filter``.

        Returns
        -------
        y : array of shape (n_samples,) or (n_samples, n_outputs)
        std : array of the same shape, if ``return_std``
        """
        law = self._law(self._rows(X, y, "predict", lengths, groups, times, previous))
        point = getattr(law, self.pooling)
        return (point, law.variance**0.5) if return_std else point

    def predict_interval(
        self,
        X,
        y=None,
        level=0.9,
        method="central",
        *,
        lengths=None,
        groups=None,
        times=None,
        previous=None,
    ):
        """Predict where the response lies with a given probability.

        Parameters
        ----------
        X, y, lengths, groups, times, previous :
            As for ``predict``.
        level : float, default=0.9
            Probability in (0, 1).
        method : {"central", "highest-density"}, default="central"
            See `MixtureDistribution.interval`.

        Returns
        -------
        interval : array of shape (n_samples, 2), or IntervalUnion
        """
        name = "predict_interval"
        law = self._law(self._rows(X, y, name, lengths, groups, times, previous))
        return law.interval(level, method=method)

    def score(
        self,
        X,
        y,
        sample_weight=None,
        *,
        lengths=None,
        groups=None,
        times=None,
        previous=None,
    ):
        """Return the coefficient of determination R2 of ``predict(X)``.

        It is scikit-learn's: no response is used for a prediction, not even those of
        earlier rows. For forecasts one step ahead see `one_step_log_score`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Rows without a response do not count.
        sample_weight : array-like of shape (n_samples,), default=None
        lengths, groups, times, previous : array-like, default=None
            Which rows follow each other; see ``filter``.

        Returns
        -------
        score : float
        """
        where = {"lengths": lengths, "groups": groups, "times": times}
        predicted = self.predict(X, previous=previous, **where)
        y, predicted, weight = self._seen(y, predicted, sample_weight)
        return r2_score(y, predicted, sample_weight=weight)


class ClassificationChain(Classification):
    """Prediction of classes, for a subclass of `BaseMarkovMixture`."""

    def predict_proba(
        self, X, y=None, *, lengths=None, groups=None, times=None, previous=None
    ):
        """Return class probabilities.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,), default=None
            With labels, a prediction one step ahead: each row is given those before
            it, and not its own. Without them, given none.
        lengths, groups, times, previous : array-like, default=None
            Which rows follow each other; see ``filter``.

        Returns
        -------
        proba : array of shape (n_samples, n_classes)
            In the order of ``classes_``.
        """
        name = "predict_proba"
        law = self._law(self._rows(X, y, name, lengths, groups, times, previous))
        if self.pooling == "vote":
            return votes(law)
        return law.top1 if self.pooling == "top1" else law.mean

    def predict_log_proba(
        self, X, y=None, *, lengths=None, groups=None, times=None, previous=None
    ):
        """Return the logarithms of ``predict_proba``.

        Parameters
        ----------
        X, y, lengths, groups, times, previous :
            As for ``predict_proba``.

        Returns
        -------
        log_proba : array of shape (n_samples, n_classes)
            -inf where a probability is zero.
        """
        where = {"lengths": lengths, "groups": groups, "times": times}
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X, y, previous=previous, **where))

    def predict(
        self, X, y=None, *, lengths=None, groups=None, times=None, previous=None
    ):
        """Predict the class of each row.

        Parameters
        ----------
        X, y, lengths, groups, times, previous :
            As for ``predict_proba``.

        Returns
        -------
        y : array of shape (n_samples,)
            Labels from ``classes_``.
        """
        where = {"lengths": lengths, "groups": groups, "times": times}
        proba = self.predict_proba(X, y, previous=previous, **where)
        return self.classes_[proba.argmax(axis=1)]

    def score(
        self,
        X,
        y,
        sample_weight=None,
        *,
        lengths=None,
        groups=None,
        times=None,
        previous=None,
    ):
        """Return the share of rows whose class ``predict(X)`` gets right.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,)
            Rows without a response do not count.
        sample_weight : array-like of shape (n_samples,), default=None
        lengths, groups, times, previous : array-like, default=None
            Which rows follow each other; see ``filter``.

        Returns
        -------
        score : float
        """
        where = {"lengths": lengths, "groups": groups, "times": times}
        predicted = self.predict(X, previous=previous, **where)
        y, predicted, weight = self._seen(y, predicted, sample_weight)
        return accuracy_score(y, predicted, sample_weight=weight)
