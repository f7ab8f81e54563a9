"""What the estimators share: how rows are routed, and how large the network is."""

import warnings

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skmoe._sklearn import check_sample_weight
from skmoe.exceptions import CollapsedExpertWarning
from skmoe.multitask._table import BaseTable
from skmoe.neural._usage import NetworkSize, usage_of

__all__ = ["BaseRouted"]

# With fewer rows for each expert some are without any by chance.
ENOUGH_ROWS = 50
SAMPLE = 20_000


class BaseRouted(BaseTable):
    """A network on a table whose rows go to some of its experts, or leaves.

    A subclass says where its model is, and what to try against dead experts.
    """

    # Many experts overfit what few rows hold.
    _stops_above = 1_000
    _noun, _nouns = "expert", "experts"

    def _advice(self):
        """Return what to try against dead experts."""
        raise NotImplementedError

    def gate_weights(self, X):
        """Return what a row weighs the outputs of the experts by.

        Parameters
        ----------
        X : data frame or array-like of shape (n_samples, n_features)

        Returns
        -------
        weight : array of shape (n_samples, n_experts)
            0 for experts that a row does not choose. Of a fast feedforward network,
            the probabilities of the leaves in training; a prediction is that of
            the leaf of ``apply`` alone.
        """
        return self._routing(X)[0]

    def apply(self, X):
        """Return the expert that a row weighs most, or its leaf.

        Parameters
        ----------
        X : data frame or array-like of shape (n_samples, n_features)

        Returns
        -------
        index : array of int of shape (n_samples,)
        """
        weight, chosen = self._routing(X)
        return np.where(chosen > 0, weight, -1.0).argmax(axis=1)

    def expert_usage(self, X, *, sample_weight=None):
        """Return how the experts, or leaves, share some rows.

        Parameters
        ----------
        X : data frame or array-like of shape (n_samples, n_features)
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        usage : ExpertUsage
            Load, mean weight, effective number and dead experts; ``print`` shows
            it, ``to_frame`` makes a data frame.

        Raises
        ------
        ValueError
            If weights are negative or not finite.
        """
        weight, chosen = self._routing(X)
        row_weight = check_sample_weight(sample_weight, weight)
        return usage_of(weight, chosen, row_weight, self._noun)

    @property
    def flops_(self):
        """Parameters and operations a row, all and active: a `NetworkSize`."""
        check_is_fitted(self, "_fitted")
        return NetworkSize(**self.network_.size())

    def _routing(self, X):
        numbers, codes, model = self._encoded(X)
        return model.routing(numbers, codes)

    def _warn_of(self, fitted, data):
        # From end to end: rows in some order may begin with those of one kind.
        sample = data.taken(slice(None, None, -(-len(data) // SAMPLE)))
        weight, chosen = fitted.model.routing_of(sample)
        expected = len(data) * chosen.sum(axis=1).mean() / chosen.shape[1]
        if expected < ENOUGH_ROWS:
            return
        dead = usage_of(weight, chosen, np.ones(len(sample)), self._noun).dead
        if len(dead):
            shown = ", ".join(map(str, dead[:10])) + (", ..." if len(dead) > 10 else "")
            warnings.warn(
                f"{len(dead)} of {chosen.shape[1]} {self._nouns} get next to none of "
                f"the rows ({shown}): {self._advice()}.",
                CollapsedExpertWarning,
                stacklevel=8,  # the call of fit or partial_fit
            )
