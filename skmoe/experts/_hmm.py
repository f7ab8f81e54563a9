"""The hidden Markov expert: a generative classifier of whole sequences."""

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils import check_consistent_length, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from skmoe._ragged import (
    is_ragged,
    list_sequences,
    stacked_sequences,
    table_sequences,
)
from skmoe._sklearn import check_sample_weight, few_threads
from skmoe.experts._hmm_adapted import AdaptedHMM, needs_hmmlearn

__all__ = ["HMMExpert"]

NUMBERS = {"dtype": np.float64, "ensure_all_finite": "allow-nan"}


class HMMExpert(AdaptedHMM, ClassifierMixin, BaseEstimator):
    """Classify whole sequences by a hidden Markov model of each class.

    ``p(c | x) ~ p(c) p(x | c)``: the density of a sequence x under class c is that of a
    hidden Markov model of hmmlearn, with normal or categorical emissions, and Bayes'
    rule turns densities into probabilities. Since the models are too sure of
    themselves on long sequences, the log ratios of the densities are calibrated on
    sequences that the models have not seen.

    Alone it takes a list of arrays of shape (n_steps, n_features), or their rows
    stacked with ``lengths``. As an expert of
    `~skmoe.MixtureOfExpertsClassifier` it reads a table with one sequence a row,
    as `skmoe.sequence.pad_sequences` makes it, and takes its columns from
    ``experts=[(name, HMMExpert(n_features=...), columns), ...]``, so that the gate can
    have the others: what is known of a sequence as a whole.

    Its models are first fitted to all sequences of their class. In a mixture they move
    on from there under the weights, by some passes of Baum-Welch in each M-step,
    shrunk towards that first fit. A sequence of weight two counts as two, exactly. The
    fit climbs p(x | c) and not p(c | x), which the mixture maximises: its objective may
    fall in a pass, and it keeps the best one.

    A step with NaN in any column is unobserved: the chain moves on in it, unseen. At a
    sequence's end such steps say nothing, and padding costs nothing. A sequence of one
    step has no moves; one without any (a row of a table with nothing but NaN) gets
    what is known of the classes. A class with few steps leans on the priors.

    Parameters
    ----------
    n_states : int, default=3
        Hidden states of each class.
    emission : {"gaussian", "categorical"}, default="gaussian"
        What a step holds: numbers, or one symbol of 0, 1, ... (whole numbers).
    covariance_type : {"diag", "full"}, default="diag"
        Of the normal emissions of each state.
    n_features : int, default=None
        Columns of a step. None: as the arrays have; 1 for a table.
    n_init : int, default=2
        Starts of the first fit, of which the most likely goes on: clusters of the rows,
        then equal parts of each sequence's time, then clusters from random centers.
    max_iter : int, default=100
        Passes of Baum-Welch in the first fit.
    tol : float, default=0.01
        It ends when a pass gains less, in nats of a class's sequences.
    n_passes : int, default=2
        Passes in each M-step of a mixture.
    shrinkage : float, default=5.0
        Steps, in each state, that the first fit is worth in a mixture. 0: maximum
        likelihood, with the priors below.
    variance_prior : tuple (rows, fraction) or None, default=(5.0, 0.05)
        Prior on the variances of each state, worth ``rows`` steps whose squared
        deviation is ``fraction`` of the variance of the column.
    move_prior : float, default=0.1
        What each start in a state, each move between two and each symbol in a state
        counts in addition.
    calibration : {"temperature"} or None, default="temperature"
        "temperature": the log densities are divided by the length of the sequence to
        the power 0, 1/2 or 1, whichever predicts best, and multiplied by one fitted
        number; each class has an offset (Platt 1999; Guo et al. 2017). None: Bayes'
        rule as it is.
    n_folds : int, default=3
        Folds whose sequences are held out for the calibration. In a mixture the
        training rows also get their held-out probabilities.
    random_state : int, RandomState instance or None, default=None
        Of random starts, from ``n_init=3`` on. All else is deterministic.

    Attributes
    ----------
    classes_ : array of shape (n_classes,)
        After ``fit`` by itself.
    models_ : list of hmmlearn.hmm.GaussianHMM or CategoricalHMM
        One a class, for columns as the user has them.
    n_iter_ : int
        Passes of the first fit, of the class that took the most.
    length_power_ : float
        Power of the length that log densities are divided by.
    temperature_ : float
        What they are divided by in addition; 1 without calibration.

    References
    ----------
    Rabiner, L. R. (1989). A tutorial on hidden Markov models and selected applications
    in speech recognition. Proceedings of the IEEE 77.
    Gauvain, J.-L. and Lee, C.-H. (1994). Maximum a posteriori estimation for
    multivariate Gaussian mixture observations of Markov chains. IEEE Transactions on
    Speech and Audio Processing 2.
    """

    _table = False  # whether fit got a table, whose columns are to stay the same

    def __init__(
        self,
        n_states=3,
        *,
        emission="gaussian",
        covariance_type="diag",
        n_features=None,
        n_init=2,
        max_iter=100,
        tol=0.01,
        n_passes=2,
        shrinkage=5.0,
        variance_prior=(5.0, 0.05),
        move_prior=0.1,
        calibration="temperature",
        n_folds=3,
        random_state=None,
    ):
        self.n_states = n_states
        self.emission = emission
        self.covariance_type = covariance_type
        self.n_features = n_features
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.n_passes = n_passes
        self.shrinkage = shrinkage
        self.variance_prior = variance_prior
        self.move_prior = move_prior
        self.calibration = calibration
        self.n_folds = n_folds
        self.random_state = random_state

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.three_d_array = True
        return tags

    # -- an estimator by itself ----------------------------------------------------

    def fit(self, X, y, sample_weight=None, lengths=None):
        """Fit to weighted sequences.

        Parameters
        ----------
        X : list of arrays, array or table
            Arrays of shape (n_steps, n_features), or (n_steps,) for one column; with
            ``lengths`` their rows, stacked; or a table of shape (n_sequences, n_steps *
            n_features), see ``n_features``.
        y : array-like of shape (n_sequences,)
        sample_weight : array-like of shape (n_sequences,), default=None
        lengths : array-like of int of shape (n_sequences,), default=None
            Rows of each sequence in a stacked X.

        Returns
        -------
        self : HMMExpert

        Raises
        ------
        ImportError
            If there is no hmmlearn.
        ValueError
            If a parameter or the sequences are not as described, or y holds a single
            class.
        """
        self.check_parameters()
        self._table = _is_table(X, lengths)
        if self._table:
            X = validate_data(self, X, y, **NUMBERS)[0]
        sequences = _read(X, lengths, self.n_features)
        if not self._table:
            vars(self).pop("feature_names_in_", None)
            self.n_features_in_ = sequences.stacked.shape[1]
        y = column_or_1d(y, warn=True)
        check_array(y, ensure_2d=False, dtype=None, input_name="y")
        check_classification_targets(y)
        check_consistent_length(sequences, y)
        weight = check_sample_weight(sample_weight, np.empty((len(sequences), 1)))
        keep = np.flatnonzero(weight > 0)
        sequences, y, weight = sequences.take(keep), y[keep], weight[keep]
        self.classes_, codes = np.unique(y, return_inverse=True)
        if self.classes_.size < 2:
            raise ValueError(
                "HMMExpert needs at least two classes in y, got one class: "
                f"{self.classes_.tolist()[0]!r}."
            )
        with few_threads(len(sequences)):
            self.prepare(sequences, codes, weight, self.classes_.size)
        self.finish()
        return self

    def predict(self, X, lengths=None):
        """Return the most probable class of each sequence."""
        proba = self.predict_proba(X, lengths)
        return self.classes_[proba.argmax(axis=1)]

    def predict_proba(self, X, lengths=None):
        """Return class probabilities of shape (n_sequences, n_classes)."""
        check_is_fitted(self)
        return np.exp(self.predict_params(self._read(X, lengths)))

    def class_log_prob(self, X, lengths=None):
        """Return the log density of each sequence under the model of each class.

        Parameters
        ----------
        X, lengths :
            As for ``fit``.

        Returns
        -------
        log_prob : array of shape (n_sequences, n_classes)
            In nats, of the columns as the user has them, neither calibrated nor
            weighted by the shares of the classes.
        """
        check_is_fitted(self)
        sequences = self._read(X, lengths)
        score = self._scores(self._standardised(sequences))
        return score - (sequences.observed * np.log(self._scale).sum())[:, None]

    def score(self, X, y, sample_weight=None, lengths=None):
        """Return the accuracy of ``predict(X)``."""
        predicted = self.predict(X, lengths)
        return accuracy_score(y, predicted, sample_weight=sample_weight)

    def _read(self, X, lengths):
        """Return new sequences, in any of the three forms."""
        if self._table and _is_table(X, lengths):
            X = validate_data(self, X, reset=False, **NUMBERS)
        return _read(X, lengths, self._n_features)

    # -- what was fitted -------------------------------------------------------

    @property
    def models_(self):
        """Hidden Markov models of the classes, of hmmlearn."""
        part = needs_hmmlearn()
        return [
            part.in_own_unit(models.models[0], self._center, self._scale)
            for models in self._models
        ]

    @property
    def length_power_(self):
        """Power of the length that log densities are divided by."""
        return self._rule.power

    @property
    def temperature_(self):
        """What log densities are divided by in addition."""
        rule = self._rule
        slope = 1.0 if rule.calibration is None else rule.calibration.slope
        return 1.0 / slope if slope != 0.0 else np.inf

    @property
    def n_parameters(self):
        """Those of all models, the shares of the classes and the calibration."""
        own = sum(models.n_parameters for models in self._models)
        return own + self._n_classes - 1 + (self._rule.calibration is not None)


def _is_table(X, lengths):
    return lengths is None and not is_ragged(X)


def _read(X, lengths, n_features):
    """Return sequences from a list of arrays, from stacked rows or from a table."""
    if lengths is not None:
        if is_ragged(X):
            raise ValueError(
                "lengths are those of stacked rows, and X is a list of sequences: give "
                "np.concatenate(X), or leave lengths out."
            )
        X = check_array(X, input_name="X", **NUMBERS)
        return stacked_sequences(X, lengths, n_features)
    if is_ragged(X):
        return list_sequences(X, n_features)
    return table_sequences(check_array(X, input_name="X", **NUMBERS), n_features or 1)
