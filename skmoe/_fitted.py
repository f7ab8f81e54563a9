"""What can be read off a fitted mixture."""

import numpy as np
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted

from skmoe._arguments import check_finite
from skmoe._coding import code_table
from skmoe._criteria import Evidence, entropy_of
from skmoe._foreign_rows import check_rows, check_weights, has_gaps
from skmoe._placement import anchor_of, follow, parts_obstacle, placed, rows_obstacle
from skmoe._seen import check_given, check_known
from skmoe._sklearn import check_same_namespace, check_sample_weight
from skmoe._training import given_rows
from skmoe._wording import seen_names
from skmoe._xp import is_foreign, namespace, to_numpy, total
from skmoe.em._build import gate_columns
from skmoe.em._law import law, law_at
from skmoe.em._node import take_columns
from skmoe.em._units import UnitProblem

__all__ = ["GATE_ALONE", "FittedMixture"]

# In place of known quantities, which gates do not see.
GATE_ALONE = {"offset": None}


class FittedMixture:
    """Densities, responsibilities, gate and experts of a fitted mixture.

    Methods return arrays of the kind of X: NumPy arrays for lists, data frames
    and NumPy, tensors for tensors. With ``top_k`` all of them but `gate_proba`,
    `apply` and `predict_experts` describe the law that is left after the other
    experts of each row are skipped.
    """

    def predict_distribution(self, X, *, offset=None, trials=None):
        """Return the whole predictive law of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        offset, trials : arrays of shape (n_samples,), default=None
            As in ``fit``, where they were given beside X there.

        Returns
        -------
        distribution : MixtureDistribution
            With ``mean, variance, mode, top1`` and ``log_prob, cdf, quantile,
            interval, density_level, crps, sample``, in NumPy arrays. For a classifier
            its responses are class codes, positions in ``classes_``.
        """
        known = {"offset": offset, "trials": trials}
        return self._law(X, "predict_distribution", known).on_host()

    def _law(self, X, method, known=None):
        checked = self._check_new(X, method, known)
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
        return self._gate_proba(X, "gate_proba")

    def _gate_proba(self, X, method):
        checked = self._check_new(X, method, GATE_ALONE)
        view = take_columns(checked, self.node_.gate_columns)
        log_gate = self.gate_.log_proba(view)
        return follow(X, namespace(log_gate).exp(log_gate))

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
        checked = self._check_new(X, "apply", GATE_ALONE)
        view = take_columns(checked, self.node_.gate_columns)
        log_gate = self.gate_.log_proba(view)
        return follow(X, namespace(log_gate).argmax(log_gate, axis=1))

    def part_feature_names(self, part="gate"):
        """Return the names of the columns that a part sees, in order.

        With gaps or categories in X a part sees more columns than X has: its
        ``coef_`` has an entry for each of these.

        Parameters
        ----------
        part : str or int, default="gate"
            "gate" (of a tree: at the root), or the name or position of an expert.

        Returns
        -------
        names : list of str
            Known quantities of an expert, such as an offset, come last.

        Raises
        ------
        ValueError
            If there is no such expert.
        """
        check_is_fitted(self, "node_")
        names = self._plan.engine_names()
        if part == "gate":
            return seen_names(names, gate_columns(self.node_))
        experts = self.expert_names_
        if part in experts:
            part = experts.index(part)
        if part not in range(len(experts)):
            raise ValueError(
                'part must be "gate", or the name or position of an expert: '
                f"{experts}, got {part!r}."
            )
        return seen_names(names, self.node_.columns[part])

    def predict_experts(self, X, *, offset=None, trials=None):
        """Return what each expert predicts.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        offset, trials : arrays of shape (n_samples,), default=None
            As in ``fit``, where they were given beside X there.

        Returns
        -------
        means : array of shape (n_samples, n_experts[, n_outputs or n_classes])
            Means of a regressor's experts; class probabilities of a
            classifier's.
        """
        known = {"offset": offset, "trials": trials}
        checked = self._check_new(X, "predict_experts", known)
        return follow(X, law(self.node_, checked).means)

    def responsibilities(self, X, y, *, groups=None, offset=None, trials=None):
        """Return the posterior probability of each expert, given x and y.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        groups : array-like of shape (n_samples,), default=None
            As in ``fit``: all rows of a group share one responsibility.
        offset, trials : arrays of shape (n_samples,), default=None
            As in ``fit``, where they were given beside X there.

        Returns
        -------
        resp : array of shape (n_samples, n_experts)
        """
        known = {"offset": offset, "trials": trials}
        if groups is not None:
            rows = given_rows(self, X, y, None, groups, "responsibilities", known)
            units = UnitProblem(self.node_, *rows, prepare=False)
            return follow(X, units.conditional_responsibilities().T)
        return follow(X, self._at(X, y, "responsibilities", known))

    def log_prob(self, X, y, *, offset=None, trials=None):
        """Return ``log p(y | x)`` of each row in nats.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        offset, trials : arrays of shape (n_samples,), default=None
            As in ``fit``, where they were given beside X there.

        Returns
        -------
        log_prob : array of shape (n_samples,)
        """
        known = {"offset": offset, "trials": trials}
        return follow(X, self._at(X, y, "log_prob", known))

    def log_likelihood(self, X, y, sample_weight=None, **beside):
        """Return the weighted sum of log densities.

        For a classification the densities are probabilities. Penalties are not
        part of it.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), default=None
        **beside : arrays of shape (n_samples,)
            ``groups``, ``offset`` and ``trials``, as in ``fit``; of a
            Markov mixture ``lengths``, ``groups``, ``times`` and ``previous``.

        Returns
        -------
        log_likelihood : float
            In nats.
        """
        evidence = self._evidence(X, y, sample_weight, "log_likelihood", **beside)
        return evidence.log_likelihood

    def aic(self, X, y, sample_weight=None, **beside):
        """Return Akaike's criterion, ``2 n_parameters - 2 log_likelihood``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), default=None
        **beside : arrays of shape (n_samples,)
            ``groups``, ``offset`` and ``trials``, as in ``fit``; of a
            Markov mixture ``lengths``, ``groups``, ``times`` and ``previous``.

        Returns
        -------
        aic : float
            Lower is better.
        """
        return self._evidence(X, y, sample_weight, "aic", **beside).aic

    def bic(self, X, y, sample_weight=None, **beside):
        """Return Schwarz's criterion, with log of the total weight of the rows.

        With groups: of their number.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), default=None
        **beside : arrays of shape (n_samples,)
            ``groups``, ``offset`` and ``trials``, as in ``fit``; of a
            Markov mixture ``lengths``, ``groups``, ``times`` and ``previous``.

        Returns
        -------
        bic : float
            Lower is better.
        """
        return self._evidence(X, y, sample_weight, "bic", **beside).bic

    def icl(self, X, y, sample_weight=None, **beside):
        """Return BIC plus twice the entropy of the responsibilities.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), default=None
        **beside : arrays of shape (n_samples,)
            ``groups``, ``offset`` and ``trials``, as in ``fit``; of a
            Markov mixture ``lengths``, ``groups``, ``times`` and ``previous``.

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
        return self._evidence(X, y, sample_weight, "icl", **beside).icl

    def _evidence(
        self, X, y, sample_weight, method, *, groups=None, offset=None, trials=None
    ):
        """Return the `Evidence` of the rows; its entropy is 0 but for "icl"."""
        known = {"offset": offset, "trials": trials}
        if groups is not None:
            rows = given_rows(self, X, y, sample_weight, groups, method, known)
            return Evidence.at(self.node_, rows)
        X = self._check_new(X, method, known)
        y = self._check_response(X, y)
        wanted = ["log_prob", "responsibilities"] if method == "icl" else ["log_prob"]
        log_prob, *resp = law_at(self.node_, X, y, self.top_k, *wanted)
        if is_foreign(log_prob):
            weight = check_weights(sample_weight, X)
        else:
            weight = check_sample_weight(to_numpy(sample_weight), log_prob)
        return Evidence(
            log_likelihood=float(weight @ log_prob),
            n_parameters=self.n_parameters_,
            entropy=entropy_of(resp[0].T, weight) if resp else 0.0,
            total=total(weight),
            n_experts=len(self.experts_),
        )

    def _at(self, X, y, name, known):
        """Return what the law of each row says of its response."""
        checked = self._check_new(X, name, known)
        y = self._check_response(checked, y)
        return law_at(self.node_, checked, y, self.top_k, name)[0]

    def _check_response(self, X, y):
        """Return responses as the engine wants them.

        Raises
        ------
        ValueError
            If their number of rows is not that of X.
        """
        if is_foreign(X):
            if self.device is not None and is_foreign(y):
                (y,) = placed(X, y)
            return self._encode_foreign(X, y)
        y = np.asarray(to_numpy(y))
        if y.shape[:1] != X.shape[:1]:
            raise ValueError(
                f"X has {X.shape[0]} rows and y has {y.shape[0] if y.ndim else 0}: "
                "give one response for each row."
            )
        return self._encode_target(self._check_target(y))

    def _check_new(self, X, method, known=None, *, host=False):
        """Validate rows for prediction; return the engine's matrix.

        It lies where the rows are to be worked on; see `skmoe._placement`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        method : str
            Whose argument X is, for messages.
        known : dict of str to array
            Known quantities beside X; `GATE_ALONE` where no expert is asked.
        host : bool, default=False
            Whether to return a NumPy array in any case.

        Raises
        ------
        ValueError
            If they are not as in fit.
        """
        check_is_fitted(self, "node_")
        check_same_namespace(X, self, attribute="objective_trace_", method=method)
        anchor = None if host else self._anchor(X, known)
        if is_foreign(X) and anchor is not None:
            X = check_rows(self, X, reset=False)
            if self._plan.complete and not self._plan.given and not has_gaps(X):
                matrix = self._plan.matrix(*placed(anchor, X), {})
                check_known(self._plan, matrix)
                return matrix
        return placed(anchor, self._matrix(X, method, known))[0]

    def _anchor(self, X, known):
        """Return an array that lies where new rows are to be worked on, or None."""
        parts = [self.gate_, *self.experts_]
        beside = {} if known in (None, GATE_ALONE) else known
        given = {name for name, array in beside.items() if array is not None}
        given |= set(self._plan.given)
        obstacle = rows_obstacle(X, given) or parts_obstacle(parts)
        return anchor_of(self, X, obstacle, fitted=True)

    def _matrix(self, X, method, known):
        """Return the same in NumPy."""
        coded = code_table(self, to_numpy(X))
        names = getattr(self, "feature_names_in_", None)
        numbers = self._coder.numbers(coded)
        check_finite(numbers, names, get_tags(self).input_tags.allow_nan)
        known = {} if known is None else known
        if known is GATE_ALONE:
            given = {name: np.zeros(coded.shape[0]) for name in self._plan.given}
            return self._plan.matrix(coded, given)
        known = {name: to_numpy(array) for name, array in known.items()}
        given = check_given(coded.shape[0], **known)
        missing = [name for name in self._plan.given if name not in given]
        if missing or set(given) - set(self._plan.given):
            raise ValueError(
                f"{method}: fit got {self._plan.given or 'neither offset nor trials'} "
                f"beside X, so give the same here; got {sorted(given) or 'none'}. (A "
                'column of X that is named in the expert, PoissonExpert(offset="..."), '
                "needs nothing beside X.)"
            )
        matrix = self._plan.matrix(coded, given)
        check_known(self._plan, matrix)
        return matrix
