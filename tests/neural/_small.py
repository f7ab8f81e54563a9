"""Networks that fit in a tenth of a second, and rows for them."""

import numpy as np

from skmoe.neural import (
    FastFeedforwardClassifier,
    FastFeedforwardRegressor,
    SparseMixtureOfExpertsClassifier,
    SparseMixtureOfExpertsRegressor,
)

COMMON = {
    "n_bins": 8,
    "embedding_size": 4,
    "max_epochs": 3,
    "batch_size": 64,
    "random_state": 0,
}
SPARSE = COMMON | {"n_experts": 4, "expert_hidden": 8}
LEAVES = COMMON | {"depth": 3, "leaf_width": 8, "load_balance": 1.0}
ROUTERS = ("noisy_topk", "topk", "switch", "expert_choice", "dense", "hash", "random")


def classifier(**options):
    return SparseMixtureOfExpertsClassifier(**(SPARSE | options))


def regressor(**options):
    return SparseMixtureOfExpertsRegressor(**(SPARSE | options))


def leaf_classifier(**options):
    return FastFeedforwardClassifier(**(LEAVES | options))


def leaf_regressor(**options):
    return FastFeedforwardRegressor(**(LEAVES | options))


def rows(n_samples=200, seed=0):
    """Return X of three numbers, and 0 or 1 by the signs of the first two."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_samples, 3))
    return X, (X[:, 0] * X[:, 1] > 0).astype(int)
