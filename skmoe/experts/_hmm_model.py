"""Hidden Markov models of weighted sequences, one class at a time.

Emissions, their statistics and the M-step are hmmlearn's. The E-step is that of
`_hmm_chains`, for all sequences at once, each with its weight: the statistics of a
sequence are linear in its state probabilities, so a sequence of weight two counts
exactly as two of them.
"""

import copy

import numpy as np

from skmoe.experts._hmm_chains import expected_states, filter_states
from skmoe.experts._hmm_emissions import Settings, in_own_unit
from skmoe.experts._hmm_starts import start_labels

__all__ = ["ClassModels", "Settings", "in_own_unit"]

# Passes after which the starts are compared.
SHORT_PASSES = 10
# With less weight than this, in rows, a model stays what it is.
LEAST_MASS = 1e-8
# The least that the log density of a step can be.
LEAST_LOG = -1e200
# What the logs of other states than the first guess say: not quite impossible.
DOUBT = -5.0


class ClassModels:
    """Hidden Markov models of one class: of all its sequences, and less each fold.

    Parameters
    ----------
    models : list of models of `_hmm_emissions`
        With their priors.
    anchors : list of the same
        What they are shrunk to: the fits to all sequences.
    n_iter : int
        Passes that the anchors took.
    """

    def __init__(self, models, anchors, n_iter):
        self.models, self.anchors, self.n_iter = models, anchors, n_iter

    @classmethod
    def fit(cls, sequences, weights, settings, rng):
        """Fit all models from the best of several starts.

        Parameters
        ----------
        sequences : Sequences
            Those of the class, on standardised columns.
        weights : array of shape (n_models, n_sequences)
            The first row is of the model of all sequences. It decides which start is
            the best, and from it alone the first guesses come.
        settings : Settings
        rng : numpy.random.RandomState
        """
        plain = settings.background()
        models, best, n_iter = [plain] * len(weights), -np.inf, 0
        if weights[0].sum() > 0 and sequences.seen.any():
            guesses = start_labels(
                sequences, weights[0], settings.n_states, settings.n_starts, rng
            )
            for label in guesses:
                trial = _guessed(label, plain, sequences, weights, settings)
                short = min(SHORT_PASSES, settings.max_iter)
                trial, value, _ = _passes(trial, sequences, weights, settings, short)
                if value > best:
                    models, best = trial, value
            more = settings.max_iter - short
            models, _, n_iter = _passes(models, sequences, weights, settings, more)
            n_iter += short
        anchored = [settings.with_priors(model, model) for model in models]
        return cls(anchored, models, n_iter)

    def stepped(self, sequences, weights, settings, n_passes):
        """Return the models after some passes of Baum-Welch from where they stand."""
        models = self.models
        light = weights.sum(axis=1) < LEAST_MASS * settings.unit
        for _ in range(n_passes):
            models, _ = _pass(models, sequences, weights, settings)
        models = [
            settings.with_priors(anchor, anchor) if alone else model
            for model, anchor, alone in zip(models, self.anchors, light, strict=True)
        ]
        return ClassModels(models, self.anchors, self.n_iter)

    def log_prob(self, sequences, number=0):
        """Return the log density of each sequence under one of the models, in nats."""
        model = self.models[number]
        emission = _log_emission([model], sequences)[0]
        return filter_states(sequences, model.startprob_, model.transmat_, emission)[2]

    @property
    def n_parameters(self):
        """Free parameters of the model of all sequences."""
        return sum(self.models[0]._get_n_fit_scalars_per_param().values())


def _log_emission(models, sequences):
    """Return log densities of the rows, (n_models, n_steps, n_states)."""
    value = np.zeros((len(models), sequences.seen.size, models[0].n_components))
    rows = sequences.rows[sequences.seen]
    if rows.size:
        for k, model in enumerate(models):
            value[k, sequences.seen] = model._compute_log_likelihood(rows)
    # A step so far off that its square is infinite says nothing of the states.
    return np.maximum(value, LEAST_LOG)


def _guessed(label, plain, sequences, weights, settings):
    """Return models fitted to a guess of the states, (n_steps,)."""
    log_emission = np.full((label.size, settings.n_states), DOUBT)
    log_emission[np.arange(label.size), label] = 0.0
    log_emission[~sequences.seen] = 0.0
    models = [plain] * len(weights)
    guess = np.array([log_emission] * len(models))
    return _pass(models, sequences, weights, settings, guess)[0]


def _pass(models, sequences, weights, settings, log_emission=None):
    """Return the models after one pass, and the first one's log density before it."""
    if log_emission is None:
        log_emission = _log_emission(models, sequences)
    expected = expected_states(
        sequences,
        weights,
        np.array([model.startprob_ for model in models]),
        np.array([model.transmat_ for model in models]),
        log_emission,
    )
    row_weight = sequences.packed(weights) * sequences.seen
    fitted = []
    for k, model in enumerate(models):
        if row_weight[k].sum() < LEAST_MASS * settings.unit:
            fitted.append(model)
            continue
        model = copy.copy(model)
        stats = model._initialize_sufficient_statistics()
        stats["start"] += expected.start[k]
        stats["trans"] += expected.moves[k]
        state = expected.state[k] * row_weight[k][:, None]
        model._accumulate_sufficient_statistics(
            stats, sequences.rows, None, state, None, None
        )
        model._do_mstep(stats)
        fitted.append(model)
    return fitted, float(weights[0] @ expected.log_prob[0])


def _passes(models, sequences, weights, settings, n_passes):
    """Take passes until they gain little.

    Returns
    -------
    models : list
    value : float
        Log density of the sequences under the first one before the last pass.
    count : int
        Passes taken.
    """
    last = -np.inf
    for count in range(n_passes):
        fitted, value = _pass(models, sequences, weights, settings)
        if value - last < settings.tol * settings.unit:
            return models, value, count + 1
        models, last = fitted, value
    return models, last, n_passes
