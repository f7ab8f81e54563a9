"""Networks that fit in a hundredth of a second, and rows for them."""

import numpy as np

from skmoe.multitask import MMoEClassifier, MMoERegressor, MultiTaskMMoE

SMALL = {
    "n_experts": 2,
    "expert_hidden": 8,
    "tower_hidden": 4,
    "n_bins": 8,
    "embedding_size": 4,
    "max_epochs": 3,
    "batch_size": 64,
    "random_state": 0,
}


def classifier(**options):
    return MMoEClassifier(**(SMALL | options))


def regressor(**options):
    return MMoERegressor(**(SMALL | options))


def mixed(**options):
    return MultiTaskMMoE(**(SMALL | options))


def rows(n_samples=200, seed=0):
    """Return X of three numbers and two tasks of 0 and 1, floats with room for NaN."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_samples, 3))
    y = np.column_stack([X[:, 0] > 0, X[:, 0] + X[:, 1] > 0.5]).astype(float)
    return X, y


def raw(model, X):
    """Return the raw outputs of a fitted estimator, all tasks side by side."""
    return model._raw(X)


def state(model):
    """Return all numbers of a fitted network, by name, as arrays."""
    return {k: v.numpy().copy() for k, v in model.network_.state_dict().items()}


def assert_same_state(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)
