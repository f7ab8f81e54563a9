"""What a fitted Markov mixture says of the expert in each row, and of its law."""

from typing import NamedTuple

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skmoe._criteria import Evidence, entropy_of
from skmoe._fitted import FittedMixture
from skmoe._gaps import gaps
from skmoe._sklearn import check_sample_weight
from skmoe._xp import to_numpy
from skmoe.em._chains import Chains
from skmoe.em._forward_backward import moved
from skmoe.em._law import law_given
from skmoe.sequence._place import names_of, read_chains, read_previous

__all__ = ["Rows", "StateReader"]


class Rows(NamedTuple):
    """Rows as the engine has them."""

    X: np.ndarray
    y: np.ndarray | None
    chains: Chains
    weight: np.ndarray | None = None

    @property
    def weights(self):
        """Their weights, ones where none are given."""
        return np.ones(self.chains.n_rows) if self.weight is None else self.weight


class StateReader(FittedMixture):
    """Filtering, smoothing, decoding and one-step laws of a fitted Markov mixture.

    ``lengths``, ``groups`` and ``times`` say which rows follow each other, as in fit.
    ``previous`` is the law of the expert in the row before the first one of each
    sequence, of shape (n_experts,) or (n_sequences, n_experts): with it a sequence goes
    on from earlier rows instead of beginning anew.
    """

    def filter(self, X, y, *, lengths=None, groups=None, times=None, previous=None):
        """Return the probability of each expert, given the responses up to the row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            NaN where a response is missing.
        lengths, groups, times, previous : array-like, default=None
            See the class.

        Returns
        -------
        proba : array of shape (n_samples, n_experts)
        """
        rows = self._rows(X, y, "filter", lengths, groups, times, previous)
        return self._passage(rows).filtered.T

    def smooth(self, X, y, *, lengths=None, groups=None, times=None, previous=None):
        """Return the probability of each expert, given all responses.

        Parameters
        ----------
        X, y, lengths, groups, times, previous :
            As for ``filter``.

        Returns
        -------
        proba : array of shape (n_samples, n_experts)
        """
        rows = self._rows(X, y, "smooth", lengths, groups, times, previous)
        return self._passage(rows).smoothed.T

    def responsibilities(
        self, X, y, *, lengths=None, groups=None, times=None, previous=None
    ):
        """Return ``smooth``, under the name that all mixtures have for it.

        Parameters
        ----------
        X, y, lengths, groups, times, previous :
            As for ``filter``.

        Returns
        -------
        resp : array of shape (n_samples, n_experts)
        """
        where = {"lengths": lengths, "groups": groups, "times": times}
        return self.smooth(X, y, previous=previous, **where)

    def decode(self, X, y, *, lengths=None, groups=None, times=None, previous=None):
        """Return the most probable experts, of all rows of a sequence together.

        That of each row by itself is ``smooth(X, y).argmax(axis=1)``; next to each
        other, those may be experts that never follow each other.

        Parameters
        ----------
        X, y, lengths, groups, times, previous :
            As for ``filter``.

        Returns
        -------
        states : array of int of shape (n_samples,)
            Positions in ``experts_``.

        References
        ----------
        Viterbi, A. (1967). Error bounds for convolutional codes and an asymptotically
        optimum decoding algorithm. IEEE Trans. Inf. Theory 13.
        """
        rows = self._rows(X, y, "decode", lengths, groups, times, previous)
        return self.node_.best_path(*rows[:3])[0]

    def gate_proba(
        self, X, y=None, *, lengths=None, groups=None, times=None, previous=None
    ):
        """Return the probability of each expert before a row's response is seen.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            With responses each row is given those before it; without them, none.
        lengths, groups, times, previous : array-like, default=None
            See the class.

        Returns
        -------
        proba : array of shape (n_samples, n_experts)
        """
        rows = self._rows(X, y, "gate_proba", lengths, groups, times, previous)
        return np.exp(self._log_law(rows)).T

    def apply(self, X, y=None, *, lengths=None, groups=None, times=None, previous=None):
        """Return the most probable expert of each row before its response is seen.

        Parameters
        ----------
        X, y, lengths, groups, times, previous :
            As for ``gate_proba``.

        Returns
        -------
        index : array of int of shape (n_samples,)
        """
        where = {"lengths": lengths, "groups": groups, "times": times}
        return self.gate_proba(X, y, previous=previous, **where).argmax(axis=1)

    def predict_distribution(
        self, X, y=None, *, lengths=None, groups=None, times=None, previous=None
    ):
        """Return the predictive law of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            With responses each row's law is that one step ahead, given those before
            it; without them, given none.
        lengths, groups, times, previous : array-like, default=None
            See the class.

        Returns
        -------
        distribution : MixtureDistribution
        """
        name = "predict_distribution"
        return self._law(self._rows(X, y, name, lengths, groups, times, previous))

    def predict_experts(self, X):
        """Return what each expert predicts.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        means : array of shape (n_samples, n_experts[, n_outputs or n_classes])
        """
        X = self._check_new(to_numpy(X), "predict_experts")
        flat = np.full((X.shape[0], len(self.experts_)), -np.log(len(self.experts_)))
        return law_given(self.node_, X, flat).means

    def transition_proba(self, X):
        """Return how probable each expert is in a row after each expert.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        proba : array of shape (n_samples, n_experts, n_experts)
            ``proba[t, i, j]`` leads from expert i in the row before to j in row t.
        """
        X = self._check_new(to_numpy(X), "transition_proba")
        log_transition = self.node_.gate.log_transition(X)
        shape = (*log_transition.shape[:2], X.shape[0])
        return np.exp(np.moveaxis(np.broadcast_to(log_transition, shape), -1, 0))

    def log_prob(self, X, y, *, lengths=None, groups=None, times=None, previous=None):
        """Return ``log p(y_t | x, y before t)`` of each row in nats.

        Parameters
        ----------
        X, y, lengths, groups, times, previous :
            As for ``filter``.

        Returns
        -------
        log_prob : array of shape (n_samples,)
            Zero where a response is missing.
        """
        rows = self._rows(X, y, "log_prob", lengths, groups, times, previous)
        return self._passage(rows).log_prob

    def read_rows(
        self, X, y=None, *, lengths=None, groups=None, times=None, previous=None
    ):
        """Return validated rows as the engine has them, with their sequences.

        Parameters
        ----------
        X, y, lengths, groups, times, previous :
            As for ``gate_proba``.

        Returns
        -------
        rows : Rows
        """
        return self._rows(X, y, "read_rows", lengths, groups, times, previous)

    # -- how it is done ------------------------------------------------------------

    def _rows(self, X, y, method, lengths, groups, times, previous):
        """Validate rows; return them as the engine has them."""
        check_is_fitted(self, "node_")
        checked = self._check_new(to_numpy(X), method)
        chains = read_chains(X, checked.shape[0], lengths, groups, times)
        if previous is None and self.continues:
            previous = self._last_law(chains, groups)
        size = (chains.n_sequences, len(self.experts_))
        chains.previous = read_previous(previous, *size)
        if y is not None:
            y, chains.labelled = self._partly(checked, y)
        return Rows(checked, y, chains)

    def _last_law(self, chains, groups):
        """Return the law at the end of the training sequences, to go on from.

        Raises
        ------
        ValueError
            If it is not known which sequence goes on from which.
        """
        last, names = self.final_state_proba_, self._sequence_names
        if groups is not None and names is not None:
            places = {name: k for k, name in enumerate(names)}
            given = names_of(groups)
            if new := [name for name in given if name not in places]:
                raise ValueError(
                    f"continues=True: no training sequence was named {new[0]!r}: say "
                    "with previous= where each goes on."
                )
            return last[[places[name] for name in given]]
        n_light = self._n_given - len(last)
        several = chains.n_sequences > 1
        if len(last) not in (1, chains.n_sequences) or (n_light and several):
            light = f" ({n_light} more had no weight)" if n_light else ""
            raise ValueError(
                f"continues=True: the model was fitted to {len(last)} "
                f"sequences{light}, and {chains.n_sequences} are given: say with "
                "previous= where each goes on."
            )
        return last if len(last) == chains.n_sequences else last[0]

    def _partly(self, X, y):
        """Return responses as the engine wants them, and which are there."""
        y = np.asarray(to_numpy(y))
        if y.shape[:1] != X.shape[:1]:
            return self._check_response(X, y), None  # raises
        missing = self._missing(y)
        if not missing.any():
            return self._check_response(X, y), None
        if missing.all():
            shape = (len(y), *getattr(self, "_response_shape", ()))
            kind = np.intp if self._n_classes() is not None else float
            return np.zeros(shape, dtype=kind), ~missing
        known = y[~missing]
        if known.dtype.kind == "O" and not isinstance(known[0], str):
            known = np.array(known.tolist())
        known = self._check_response(X[~missing], known)
        # Any response that experts can have; its density is not used.
        filled = np.repeat(known[:1], len(y), axis=0)
        filled[~missing] = known
        return filled, ~missing

    def _missing(self, y):
        """Return which rows have no response, in full."""
        missing = gaps(y).reshape(len(y), -1).any(axis=1)
        if self.unlabelled is not None:
            missing |= (y == self.unlabelled).reshape(len(y), -1).any(axis=1)
        return missing

    def _seen(self, y, predicted, weight):
        """Return responses, predictions and weights of the rows with a response."""
        y, weight = np.asarray(to_numpy(y)), to_numpy(weight)
        seen = ~self._missing(y)
        if seen.all() or len(seen) != len(predicted):
            return y, predicted, weight
        y = np.array(y[seen].tolist()) if y.dtype.kind == "O" else y[seen]
        return y, predicted[seen], None if weight is None else np.asarray(weight)[seen]

    def _passage(self, rows):
        return self.node_.passage(*rows)

    def _log_law(self, rows):
        """Return log probabilities of the experts before a row's response is seen."""
        X, y, chains, _ = rows
        gate = self.node_.gate
        if gate.initial is None:
            return gate.log_blind(X)
        first = self.node_.log_first(X, chains)
        if y is None:
            filtered = self.node_.unseen(X, chains)
        else:
            filtered = self._passage(rows).filtered
        out = np.empty_like(filtered)
        out[:, chains.first] = first
        follow, before = chains.followers
        log_transition = gate.log_transition(X)
        if log_transition.shape[-1] > 1:
            log_transition = log_transition[..., follow]
        out[:, follow] = moved(filtered[:, before], log_transition)
        return out

    def _law(self, rows):
        log_law = np.ascontiguousarray(self._log_law(rows).T)
        return law_given(self.node_, rows.X, log_law)

    def _evidence(
        self,
        X,
        y,
        sample_weight,
        method,
        *,
        lengths=None,
        groups=None,
        times=None,
        previous=None,
    ):
        """Return the `Evidence` of the rows; ICL takes the smoothed entropy."""
        rows = self._rows(X, y, method, lengths, groups, times, previous)
        weight = check_sample_weight(to_numpy(sample_weight), rows.X)
        found = self._passage(rows)
        return self._evidence_of(found, rows.chains, weight)

    def _evidence_of(self, found, chains, weight):
        seen = chains.labelled
        return Evidence(
            log_likelihood=float(weight @ found.log_prob),
            n_parameters=self.n_parameters_,
            entropy=entropy_of(found.smoothed, weight),
            total=float(weight.sum() if seen is None else weight[seen].sum()),
            n_experts=len(self.experts_),
        )
