"""Rows of two regimes with unequal noise, and mixtures quickly fitted to them."""

import numpy as np

from tests._quick import regressor


def two_regimes(n_samples, seed=0):
    """Draw a broken line whose right half is noisier, heavy-tailed at that."""
    rng = np.random.default_rng(seed)
    X = rng.uniform(-1.0, 1.0, (n_samples, 1))
    right = X[:, 0] > 0.0
    noise = np.where(right, rng.standard_t(3, n_samples), rng.normal(size=n_samples))
    return X, np.where(right, 2.0 * X[:, 0], -X[:, 0]) + 0.1 * (1 + 4 * right) * noise


def mixture(**kwargs):
    """Return a mixture of two lines, whose one noise level is wrong for both."""
    return regressor(shared_dispersion=True, tol=1e-4, **kwargs)


def two_answers(experts=None):
    """Return a mixture with an expert for answers above zero and one for the others."""

    def above(X, y, n_experts, rng):
        return (y > 0.0).astype(int)

    return regressor(experts, init=above)
