"""Mixtures as transformers: gate probabilities as features for another model."""

import numpy as np
from sklearn.base import TransformerMixin
from sklearn.utils.validation import check_is_fitted

from skmoe._sklearn import check_feature_names_in

__all__ = ["ForestTransformer", "GateTransformer"]


class GateTransformer(TransformerMixin):
    """Turns rows into the probabilities of the experts, given x alone."""

    def transform(self, X):
        """Return the gate probabilities of each row as features.

        They say which regime a row is in, whatever its response: a few numbers for
        a linear probe, a clustering or another step of a Pipeline.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        gate_proba : array of shape (n_samples, n_experts)
            As ``gate_proba(X)``, or a data frame as ``set_output`` says. Of a
            hierarchy: the probabilities of the leaves.
        """
        return self._gate_proba(X, "transform")

    def get_feature_names_out(self, input_features=None):
        """Return the names of what ``transform`` returns: those of the experts.

        Parameters
        ----------
        input_features : array-like of str of shape (n_features,), default=None
            Not used, but checked against the columns seen in fit.

        Returns
        -------
        names : array of str of shape (n_experts,)
        """
        check_is_fitted(self, "node_")
        check_feature_names_in(self, input_features)
        return np.array(self.expert_names_, dtype=object)


class ForestTransformer(TransformerMixin):
    """Turns rows into the probabilities of all leaves of all trees."""

    def transform(self, X):
        """Return the probabilities of the leaves of every tree as features.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        leaf_proba : array of shape (n_samples, n_leaves_of_all_trees)
            One tree after the other; those of a tree sum to 1. Or a data frame as
            ``set_output`` says.
        """
        check_is_fitted(self, "estimators_")
        checked = self._validated(X)
        return np.hstack([tree.gate_proba(checked) for tree in self.estimators_])

    def get_feature_names_out(self, input_features=None):
        """Return the names of what ``transform`` returns, ``tree0_expert0`` and so on.

        Parameters
        ----------
        input_features : array-like of str of shape (n_features,), default=None
            Not used, but checked against the columns seen in fit.

        Returns
        -------
        names : array of str of shape (n_leaves_of_all_trees,)
        """
        check_is_fitted(self, "estimators_")
        check_feature_names_in(self, input_features)
        names = [
            f"tree{t}_{name}"
            for t, tree in enumerate(self.estimators_)
            for name in tree.expert_names_
        ]
        return np.array(names, dtype=object)
