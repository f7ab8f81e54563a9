"""What can be read off a fitted mixture."""

import numpy as np
from scipy import special
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted, validate_data

from skmoe._arguments import check_finite
from skmoe._sklearn import check_same_namespace, check_sample_weight
from skmoe._xp import like, to_numpy
from skmoe.em._law import law
from skmoe.em._node import take_columns

__all__ = ["FittedMixture"]


class FittedMixture:
    """Densities, responsibilities, gate and experts of a fitted mixture.

    Methods return arrays of the kind of X: NumPy arrays for lists, data frames
    and NumPy, tensors for tensors. With ``top_k`` all of them but `gate_proba`,
    `apply` and `predict_experts` describe the law that is left after the other
    experts of each row are skipped.
    """

    def predict_distribution(self, X):
        """Return the whole predictive law of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        distribution : MixtureDistribution
            With ``mean, variance, mode, top1`` and ``log_prob, cdf, sample``, in
            NumPy arrays. For a classifier its responses are class codes,
            positions in ``classes_``.
        """
        return self._law(X, "predict_distribution")

    def _law(self, X, method):
        checked = self._check_new(X, method)
        return law(self.node_, checked, self.top_k)

    def gate_proba(self, X):
        """Return how probable each expert is, given x alone.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        gate_proba : array of shape (n_samples, n_experts)
            Rows sum to 1.
        """
        checked = self._check_new(X, "gate_proba")
        view = take_columns(checked, self.node_.gate_columns)
        return like(X, np.exp(self.gate_.log_proba(view)))

    def apply(self, X):
        """Return the most probable expert of each row, given x alone.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        index : array of int of shape (n_samples,)
            Positions in ``experts_``.
        """
        checked = self._check_new(X, "apply")
        view = take_columns(checked, self.node_.gate_columns)
        return like(X, np.asarray(self.gate_.log_proba(view)).argmax(axis=1))

    def predict_experts(self, X):
        """Return what each expert predicts.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        means : array of shape (n_samples, n_experts[, n_outputs or n_classes])
            Means of a regressor's experts; class probabilities of a
            classifier's.
        """
        checked = self._check_new(X, "predict_experts")
        return like(X, law(self.node_, checked).means)

    def responsibilities(self, X, y):
        """Return the posterior probability of each expert, given x and y.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)

        Returns
        -------
        resp : array of shape (n_samples, n_experts)
        """
        distribution, y = self._law_at(X, y, "responsibilities")
        return like(X, distribution.responsibilities(y))

    def log_prob(self, X, y):
        """Return ``log p(y | x)`` of each row in nats.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)

        Returns
        -------
        log_prob : array of shape (n_samples,)
        """
        distribution, y = self._law_at(X, y, "log_prob")
        return like(X, distribution.log_prob(y))

    def log_likelihood(self, X, y, sample_weight=None):
        """Return the weighted sum of log densities.

        For a classification the densities are probabilities. Penalties are not
        part of it.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        log_likelihood : float
            In nats.
        """
        return self._evidence(X, y, sample_weight, "log_likelihood")[0]

    def aic(self, X, y, sample_weight=None):
        """Return Akaike's criterion, ``2 n_parameters - 2 log_likelihood``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        aic : float
            Lower is better.
        """
        fit, _, _ = self._evidence(X, y, sample_weight, "aic")
        return 2.0 * self.n_parameters_ - 2.0 * fit

    def bic(self, X, y, sample_weight=None):
        """Return Schwarz's criterion, with log of the total weight of the rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        bic : float
            Lower is better.
        """
        fit, total, _ = self._evidence(X, y, sample_weight, "bic")
        return self.n_parameters_ * float(np.log(total)) - 2.0 * fit

    def icl(self, X, y, sample_weight=None):
        """Return BIC plus twice the entropy of the responsibilities.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        icl : float
            Lower is better.

        References
        ----------
        Biernacki, C., Celeux, G. and Govaert, G. (2000). Assessing a mixture
        model for clustering with the integrated completed likelihood. IEEE
        Trans. Pattern Anal. Mach. Intell. 22.
        """
        fit, total, entropy = self._evidence(X, y, sample_weight, "icl")
        return self.n_parameters_ * float(np.log(total)) - 2.0 * fit + 2.0 * entropy

    def _evidence(self, X, y, sample_weight, method):
        """Return log-likelihood, total weight, and entropy of the experts."""
        distribution, y = self._law_at(X, y, method)
        log_prob = distribution.log_prob(y)
        weight = check_sample_weight(to_numpy(sample_weight), log_prob)
        resp = distribution.responsibilities(y) if method == "icl" else np.ones((1, 1))
        entropy = special.entr(resp).sum(axis=1) * weight
        return float(weight @ log_prob), float(weight.sum()), float(entropy.sum())

    def _law_at(self, X, y, method):
        """Return the law of the rows of X, and responses as it wants them."""
        checked = self._check_new(X, method)
        y = self._check_response(checked, y)
        return law(self.node_, checked, self.top_k), y

    def _check_response(self, X, y):
        """Return responses as the engine wants them.

        Raises
        ------
        ValueError
            If their number of rows is not that of X.
        """
        y = np.asarray(to_numpy(y))
        if y.shape[:1] != X.shape[:1]:
            raise ValueError(
                f"X has {X.shape[0]} rows and y has {y.shape[0] if y.ndim else 0}: "
                "give one response for each row."
            )
        return self._encode_target(self._check_target(y))

    def _check_new(self, X, method):
        """Validate rows for prediction, as NumPy or CSR."""
        check_is_fitted(self, "node_")
        check_same_namespace(X, self, attribute="objective_trace_", method=method)
        tags = get_tags(self).input_tags
        checked = validate_data(
            self,
            to_numpy(X),
            accept_sparse="csr" if tags.sparse else False,
            dtype=np.float64,
            ensure_all_finite=False,
            reset=False,
        )
        names = getattr(self, "feature_names_in_", None)
        check_finite(checked, names, tags.allow_nan)
        return checked
