"""Small tables with a known truth, and mixtures of maximum likelihood."""

import numpy as np
import pandas as pd

from skmoe import MixtureOfExpertsRegressor
from skmoe.experts import LinearExpert
from skmoe.gates import SoftmaxGate

ML = LinearExpert(alpha=0, variance_prior=None)
NAMES = ["age", "dose"]


def lines(n=300, seed=0, names=NAMES, group=1):
    """Two lines, told apart by the first column; so many rows follow the same."""
    rng = np.random.default_rng(seed)
    X = rng.normal([40.0, 2.0], [10.0, 0.5], (n, 2))
    first, second = (X[:, 0] - 40.0) / 10.0, (X[:, 1] - 2.0) / 0.5
    upper = rng.random(n) < 1.0 / (1.0 + np.exp(-1.5 * first))
    upper = np.repeat(upper[::group], group)[:n]
    y = np.where(upper, 2.0 + second, -2.0 - first)
    y = y + rng.normal(size=n) * np.where(upper, 0.5, 1.0)
    return (pd.DataFrame(X, columns=names) if names else X), y


def with_sex(X, seed=1):
    """The same table with a categorical column."""
    sex = np.random.default_rng(seed).choice(["f", "m", "x"], len(X))
    return X.assign(sex=pd.Categorical(sex))


def mixture(expert=ML, n_experts=2, **kwargs):
    """A mixture of maximum likelihood."""
    kwargs = {"gate": SoftmaxGate(alpha=0), "random_state": 0, "tol": 1e-10} | kwargs
    return MixtureOfExpertsRegressor(expert, n_experts, **kwargs)
