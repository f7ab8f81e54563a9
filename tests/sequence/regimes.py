"""Series of two regimes, quick models of them, and what their parts say of a row."""

import numpy as np
from scipy import stats

from skmoe.experts import LinearExpert
from skmoe.gates import SoftmaxGate
from skmoe.sequence import (
    MarkovMixtureOfExpertsClassifier,
    MarkovMixtureOfExpertsRegressor,
)

__all__ = [
    "PLAIN",
    "classifier",
    "laws",
    "regressor",
    "switching",
]

# Of single starts, clusters of inputs say little of regimes in time.
QUICK = {"n_experts": 2, "init": "random", "n_init": 1, "random_state": 0}
# Maximum likelihood, without priors.
PLAIN = {
    "experts": LinearExpert(alpha=0, variance_prior=None),
    "gate": SoftmaxGate(alpha=0),
}


def regressor(experts=None, **kwargs):
    return MarkovMixtureOfExpertsRegressor(experts, **(QUICK | kwargs))


def classifier(experts=None, **kwargs):
    return MarkovMixtureOfExpertsClassifier(experts, **(QUICK | kwargs))


def switching(rng, n_rows=200, stay=0.9, noise=0.4):
    """Return X, y and the states of a series that switches between two lines.

    It stays longer the larger its second input is.
    """
    X = rng.normal(size=(n_rows, 2))
    state = np.zeros(n_rows, dtype=int)
    for t in range(1, n_rows):
        odds = stay / (1.0 - stay) * np.exp(X[t, 1])
        leaves = rng.random() < 1.0 / (1.0 + odds)
        state[t] = state[t - 1] ^ leaves
    y = np.where(state == 0, 2.0 * X[:, 0] - 1.0, 1.0 - X[:, 0])
    return X, y + noise * rng.normal(size=n_rows), state


def laws(model, X, y, chains):
    """Return log laws of first states, transitions and responses, read off a model.

    NaN in y is a response that says nothing.
    """
    mean = model.predict_experts(X)
    scale = [np.sqrt(expert.dispersion) for expert in model.experts_]
    density = stats.norm.logpdf(y[:, None], mean, scale).T
    density[:, np.isnan(y)] = 0.0
    transition = np.log(np.moveaxis(model.transition_proba(X), 0, -1))
    initial = model.initial_gate_.log_proba(X[chains.first]).T
    return initial, transition, density, chains
