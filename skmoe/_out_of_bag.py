"""Judging the trees of a forest by the rows outside their bags."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

__all__ = ["OutOfBag", "judge_out_of_bag"]

# Densities have no floor: one row far off must not decide an importance.
MAX_LOSS = 10.0


@dataclass
class OutOfBag:
    """What the rows outside the bags say.

    Attributes
    ----------
    prediction : array of shape (n_samples[, n_outputs or n_classes])
        Mean of the trees that have not seen a row; NaN where all have.
    seen : array of bool of shape (n_samples,)
        Rows outside some bag.
    log_score : float
        Weighted mean log density of those rows, in nats per row.
    importances : array of shape (n_features,)
        Log score that shuffling a column costs, as shares of the sum.
    """

    prediction: Any
    seen: Any
    log_score: float
    importances: Any


def judge_out_of_bag(trees, bags, X, y, weight, rng):
    """Predict each row by the trees that have not seen it.

    Parameters
    ----------
    trees : list of fitted hierarchical mixtures
    bags : list of arrays of shape (n_samples,)
        How much each row counted for a tree.
    X, y, weight : the rows
    rng : RandomState
        Shuffles columns.

    Returns
    -------
    report : OutOfBag

    Raises
    ------
    ValueError
        If every row is in every bag.
    """
    log_density = np.full(y.shape[0], -np.inf)
    total, votes = None, np.zeros(y.shape[0])
    rise = np.zeros(X.shape[1])
    for tree, bag in zip(trees, bags, strict=True):
        out = np.flatnonzero(bag == 0)
        if out.size == 0:
            continue
        law = tree._law(X[out], "predict")
        if total is None:
            total = np.zeros((y.shape[0], *law.mean.shape[1:]))
        total[out] += law.mean
        votes[out] += 1
        score = law.log_prob(y[out])
        log_density[out] = np.logaddexp(log_density[out], score)
        rise += _rise(tree, X[out], y[out], weight[out], score, rng)
    seen = votes > 0
    if not seen.any():
        raise ValueError(
            "oob_score: every row is in every bag; use bootstrap=True, or a "
            "max_samples below the number of rows."
        )
    prediction = np.full(total.shape, np.nan)
    prediction[seen] = (total[seen].T / votes[seen]).T
    share = weight[seen] / weight[seen].sum()
    log_score = float(share @ (log_density[seen] - np.log(votes[seen])))
    rise = np.maximum(rise, 0.0)
    return OutOfBag(prediction, seen, log_score, rise / max(float(rise.sum()), 1e-300))


def _rise(tree, X, y, weight, score, rng):
    """Return how much log score each column, shuffled, costs a tree."""
    share = weight / weight.sum()
    rise = np.zeros(X.shape[1])
    for column in range(X.shape[1]):
        worse = tree._law(_shuffled(X, column, rng), "predict").log_prob(y)
        rise[column] = share @ np.clip(score - worse, -MAX_LOSS, MAX_LOSS)
    return rise


def _shuffled(X, column, rng):
    """Return X with the values of one column in random order."""
    order = rng.permutation(X.shape[0])
    if not sparse.issparse(X):
        out = X.copy()
        out[:, column] = X[order, column]
        return out
    place = sparse.csr_array(([1.0], ([0], [column])), shape=(1, X.shape[1]))
    return X + (X[order][:, [column]] - X[:, [column]]) @ place
