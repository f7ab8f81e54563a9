"""What a search hands on to the mixture that it has found."""

from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

__all__ = ["DelegatedPrediction"]


def _mixture_has(name):
    """Return whether the mixture has a method, as a check for `available_if`."""

    def check(self):
        getattr(getattr(self, "best_estimator_", self.estimator), name)
        return True

    return available_if(check)


class DelegatedPrediction:
    """The methods of a mixture, called on ``best_estimator_``.

    Everything else, such as ``summary`` and ``responsibilities``, is a method of
    ``best_estimator_`` itself.
    """

    def predict(self, X, **params):
        """Predict the response.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        **params : dict
            As of the mixture: ``return_std``, ``offset``, ``trials``.

        Returns
        -------
        y : array of shape (n_samples,) or (n_samples, n_outputs)
        """
        return self._best("predict")(X, **params)

    @_mixture_has("predict_proba")
    def predict_proba(self, X):
        """Return class probabilities.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        proba : array of shape (n_samples, n_classes)
        """
        return self._best("predict_proba")(X)

    @_mixture_has("predict_log_proba")
    def predict_log_proba(self, X):
        """Return the logarithms of `predict_proba`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        log_proba : array of shape (n_samples, n_classes)
        """
        return self._best("predict_log_proba")(X)

    def predict_distribution(self, X, **params):
        """Return the whole predictive law of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        **params : dict
            As of the mixture: ``offset``, ``trials``.

        Returns
        -------
        distribution : MixtureDistribution
        """
        return self._best("predict_distribution")(X, **params)

    def gate_proba(self, X):
        """Return how probable each expert is, given x alone.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        gate_proba : array of shape (n_samples, n_experts)
        """
        return self._best("gate_proba")(X)

    def apply(self, X):
        """Return the most probable expert of each row, given x alone.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        index : array of int of shape (n_samples,)
        """
        return self._best("apply")(X)

    def log_prob(self, X, y, **params):
        """Return ``log p(y | x)`` of each row in nats.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        **params : dict
            As of the mixture: ``offset``, ``trials``.

        Returns
        -------
        log_prob : array of shape (n_samples,)
        """
        return self._best("log_prob")(X, y, **params)

    def score(self, X, y, sample_weight=None, **params):
        """Return R2 of a regressor, accuracy of a classifier.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), default=None
        **params : dict
            As of the mixture: ``offset``, ``trials``.

        Returns
        -------
        score : float
        """
        return self._best("score")(X, y, sample_weight, **params)

    def _best(self, name):
        check_is_fitted(self, "best_estimator_")
        return getattr(self.best_estimator_, name)
