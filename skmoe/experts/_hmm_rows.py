"""What an HMM expert keeps of the sequences it is fitted to, while a fit lasts."""

from copy import copy

import numpy as np
from scipy.special import log_softmax

from skmoe.experts._calibration import fit_calibration

__all__ = ["BayesRule", "TrainingSequences"]

# Powers of the length that log densities may be divided by.
LENGTH_POWERS = (0.0, 0.5, 1.0)


class TrainingSequences:
    """The training rows, parted by class and by fold.

    Parameters
    ----------
    X : array or Sequences
        The rows as the engine gives them; it hands over the same object each time.
    sequences : Sequences
        On standardised columns.
    y : int array of shape (n_sequences,)
    n_classes : int
    fold : int array of shape (n_sequences,), or None
        Which of the models less a fold has not seen a sequence.
    n_folds : int or None
    """

    def __init__(self, X, sequences, y, n_classes, fold, n_folds=None):
        self.X, self.sequences = X, sequences
        self.classes = [np.flatnonzero(y == c) for c in range(n_classes)]
        self.of_class = [sequences.take(index) for index in self.classes]
        self.folds = []
        if fold is not None:
            self.folds = [np.flatnonzero(fold == f) for f in range(n_folds)]
        self.of_fold = [sequences.take(index) for index in self.folds]

    def weights(self, weight, c):
        """Return the weights of a class, of all its sequences and less each fold.

        Returns
        -------
        weights : array of shape (1 + n_folds, n_sequences_of_class)
        """
        weights = np.array([weight] * (1 + len(self.folds)))
        for number, index in enumerate(self.folds):
            weights[1 + number, index] = 0.0
        return weights[:, self.classes[c]]

    def held_out(self, models):
        """Return log densities by the models that did not see a sequence.

        Parameters
        ----------
        models : list of ClassModels, one a class

        Returns
        -------
        score : array of shape (n_sequences, n_classes)
        """
        score = np.empty((len(self.sequences), len(models)))
        parts = zip(self.folds, self.of_fold, strict=True)
        for number, (index, part) in enumerate(parts):
            for c, model in enumerate(models):
                score[index, c] = model.log_prob(part, 1 + number)
        return score


class BayesRule:
    """From log densities under each class to log probabilities of the classes.

    ``log p(c | x) = slope * log p(x | c) / length ** power + offset_c``, normalised;
    slope and offsets are those of Bayes, 1 and the log shares of the classes, or are
    fitted to held-out densities, the power chosen among 0, 1/2 and 1. A hidden Markov
    model takes what is dependent for independent, so its log ratios are too large,
    and the more so the longer a sequence is.

    Attributes
    ----------
    power : float
    calibration : Calibration or None
    log_share : array of shape (n_classes,)
        Each class counting one row more than it has.
    """

    power, calibration = 0.0, None

    def __init__(self, y, weight, n_classes, unit):
        share = np.bincount(y, weight, n_classes) + unit
        self.log_share = np.log(share / share.sum())

    def calibrated(self, score, lengths, y, weight, power=None):
        """Return the rule fitted to held-out log densities; power None is chosen."""
        powers = LENGTH_POWERS if power is None else (power,)
        if power is None and np.ptp(lengths[weight > 0]) == 0:
            powers = (0.0,)
        best, least = None, np.inf
        for power in powers:
            rule = copy(self)
            rule.power = power
            rule.calibration = fit_calibration(rule._scaled(score, lengths), y, weight)
            log_proba = rule.log_proba(score, lengths)
            loss = -float(weight @ log_proba[np.arange(y.size), y])
            if best is None or loss < least:
                best, least = rule, loss
        return best

    def log_proba(self, score, lengths):
        """Return log probabilities of shape (n_sequences, n_classes)."""
        if self.calibration is None:
            return log_softmax(score + self.log_share, axis=1)
        return self.calibration.log_proba(self._scaled(score, lengths))

    def _scaled(self, score, lengths):
        return score / np.maximum(lengths, 1.0)[:, None] ** self.power
