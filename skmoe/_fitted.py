"""What can be read off a fitted mixture."""

import numpy as np
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
    and NumPy, tensors for tensors.
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
        return law(self.node_, self._check_new(X, method), self.top_k)

    def gate_proba(self, X):
        """Return gate probabilities of shape (n_samples, n_experts)."""
        checked = self._check_new(X, "gate_proba")
        view = take_columns(checked, self.node_.gate_columns)
        return like(X, np.exp(self.gate_.log_proba(view)))

    def apply(self, X):
        """Return the index of the most probable expert of each row."""
        checked = self._check_new(X, "apply")
        view = take_columns(checked, self.node_.gate_columns)
        return like(X, np.asarray(self.gate_.log_proba(view)).argmax(axis=1))

    def predict_experts(self, X):
        """Return what each expert predicts.

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

        Returns
        -------
        resp : array of shape (n_samples, n_experts)
        """
        joint = self._joint(X, y, "responsibilities")
        resp = np.exp(joint - joint.max(axis=0))
        return like(X, (resp / resp.sum(axis=0)).T)

    def log_prob(self, X, y):
        """Return ``log p(y | x)`` of each row in nats, of shape (n_samples,)."""
        return like(X, self._row_log_prob(X, y, "log_prob"))

    def log_likelihood(self, X, y, sample_weight=None):
        """Return the weighted sum of log densities in nats.

        For a classification the densities are probabilities. Penalties are not
        part of it.
        """
        log_prob = self._row_log_prob(X, y, "log_likelihood")
        weight = check_sample_weight(to_numpy(sample_weight), log_prob)
        return float(weight @ log_prob)

    def aic(self, X, y, sample_weight=None):
        """Return Akaike's criterion, ``2 n_parameters - 2 log_likelihood``."""
        fit = self.log_likelihood(X, y, sample_weight)
        return 2.0 * self.n_parameters_ - 2.0 * fit

    def bic(self, X, y, sample_weight=None):
        """Return Schwarz's criterion, with log of the total weight of the rows."""
        log_prob = self._row_log_prob(X, y, "bic")
        weight = check_sample_weight(to_numpy(sample_weight), log_prob)
        fit = float(weight @ log_prob)
        return self.n_parameters_ * float(np.log(weight.sum())) - 2.0 * fit

    def icl(self, X, y, sample_weight=None):
        """Return BIC plus twice the entropy of the responsibilities.

        Biernacki, C., Celeux, G. and Govaert, G. (2000). Assessing a mixture
        model for clustering with the integrated completed likelihood. IEEE
        Trans. Pattern Anal. Mach. Intell. 22.
        """
        joint = self._joint(X, y, "icl")
        weight = check_sample_weight(to_numpy(sample_weight), joint[0])
        resp = np.exp(joint - joint.max(axis=0))
        resp /= resp.sum(axis=0)
        terms = np.zeros_like(resp)
        np.multiply(resp, np.log(resp, where=resp > 0, out=terms), out=terms)
        entropy = -float(terms.sum(axis=0) @ weight)
        return self.bic(X, y, sample_weight) + 2.0 * entropy

    def _row_log_prob(self, X, y, method):
        checked = self._check_new(X, method)
        y = self._check_response(checked, y)
        return law(self.node_, checked, self.top_k).log_prob(y)

    def _joint(self, X, y, method):
        """Return gate plus expert log densities, (n_experts, n_samples)."""
        checked = self._check_new(X, method)
        return self.node_.joint(checked, self._check_response(checked, y))

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
