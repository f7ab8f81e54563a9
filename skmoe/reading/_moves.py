"""How far each column moves probabilities: of experts by a gate, of classes.

Scores ``s_k`` move from those of a reference row to those of another row, and with
them the probabilities ``p = softmax(s)``. With the logarithmic mean
``L_k = (p_k' - p_k) / (log p_k' - log p_k)`` of old and new probability, and
``w_k = L_k / sum_l L_l``,

    p_k' - p_k = L_k (d_k - sum_l w_l d_l),    d = s' - s,

exactly, and the right-hand side is linear in d: where the scores' change is a sum over
columns, so is the change of the probabilities (the logarithmic mean Divisia index:
Sato, K. 1976. The ideal log-change index number. Rev. Econ. Stat. 58; Ang, B. W. 2004.
Decomposition analysis for policymaking in energy. Energy Policy 32). For two
probabilities these are the integrated gradients from the reference row.
"""

import numpy as np
from scipy import special

from skmoe._wording import gate_form
from skmoe.experts._contributions import (
    column_sources,
    linear_inner,
    transformed_columns,
)
from skmoe.gates._classifier import ClassifierGate
from skmoe.gates._expanded import ExpandedGate
from skmoe.gates._gaussian import GaussianGate
from skmoe.gates._tree import GateTree

__all__ = ["gate_scores", "probability_moves"]

# Smaller log probabilities move nothing.
LOWEST = -700.0


def probability_moves(log_from, log_to, scores):
    """Share a change of probabilities out among the columns.

    Parameters
    ----------
    log_from : array of shape (n_outcomes,)
        Log probabilities of the reference row.
    log_to : array of shape (n_samples, n_outcomes)
    scores : array of shape (n_samples, n_features, n_outcomes)
        What each column adds to the scores of the reference row.

    Returns
    -------
    moves : array of shape (n_samples, n_features, n_outcomes)
        They sum to zero over outcomes, and over the columns to the change, if the
        columns are all that changes the scores.
    """
    mean = _log_mean(log_from, log_to)[:, None]
    return mean * _log_moves(mean, scores)


def _log_mean(log_from, log_to):
    """Return logarithmic means of probabilities, (n_samples, n_outcomes)."""
    log_from, log_to = np.maximum(log_from, LOWEST), np.maximum(log_to, LOWEST)
    return np.exp(np.maximum(log_from, log_to)) * special.exprel(
        -np.abs(log_to - log_from)
    )


def _log_moves(mean, scores):
    """Return what each column adds to the log probabilities."""
    share = mean / mean.sum(axis=-1, keepdims=True)
    return scores - (share * scores).sum(axis=-1, keepdims=True)


def gate_scores(gate, X, center):
    """Return what each column adds to the scores of a gate, from a reference row.

    Parameters
    ----------
    gate : fitted gate
    X : array of shape (n_samples, n_features), dense or CSR
        The columns that the gate sees.
    center : array of shape (1, n_features), dense or CSR
        The reference row.

    Returns
    -------
    scores : array of shape (n_samples, n_features, n_experts)
        Up to a number for each row and column. Zero for a gate whose scores are no
        sum over columns, such as a forest.
    """
    if isinstance(gate, GateTree):
        return _tree_scores(gate, X, center)
    if isinstance(gate, GaussianGate):
        return _gaussian_scores(gate, X, center[0])
    if isinstance(gate, ExpandedGate):
        steps, inner = [gate.transformer_], gate.native
        expanded = gate.expand(X), gate.expand(center)
        return _gathered(gate_scores(inner, *expanded), steps, X.shape[1])
    if isinstance(gate, ClassifierGate):
        return _classifier_scores(gate, X, center)
    form = gate_form(gate)
    if form is None:
        n_experts = np.asarray(gate.log_proba(center)).shape[1]
        return np.zeros((*X.shape, n_experts))
    return _linear_scores(form.slope, X, center)


def _linear_scores(slope, X, center):
    """Return ``(x_j - c_j) v_kj``, of shape (n_samples, n_features, n_experts)."""
    return (_dense(X) - _dense(center))[:, :, None] * slope.T


def _dense(X):
    return X.toarray() if hasattr(X, "toarray") else np.asarray(X)


def _gaussian_scores(gate, X, center):
    """Return the columns' parts of a change of log densities.

    ``-(x - c)_j [P (x + c - 2 m) / 2]_j`` with the precision P of the columns that a
    row shows: the integrated gradients of a quadratic function, which add up.
    """
    scores = np.zeros((*X.shape, gate.log_weight_.size))
    means, covariances = gate.means_, gate.covariances_
    varies = covariances[0].diagonal() > 0
    patterns, which = np.unique(~np.isnan(X) & varies, axis=0, return_inverse=True)
    for i, pattern in enumerate(patterns):
        rows, seen = np.flatnonzero(which.ravel() == i), np.flatnonzero(pattern)
        move = X[rows[:, None], seen] - center[seen]
        middle = center[seen] + 0.5 * move
        for k, (mean, covariance) in enumerate(zip(means, covariances, strict=True)):
            away = (middle - mean[seen]).T
            slope = np.linalg.solve(covariance[np.ix_(seen, seen)], away).T
            scores[rows[:, None], seen, k] = -move * slope
    return scores


def _classifier_scores(gate, X, center):
    """Return the parts of the logits of a linear classifier; zero for any other."""
    model = gate.classifier_
    scores = np.zeros((*X.shape, gate.n_experts_))
    inner = None
    if gate.experts_seen_.size > 1:
        inner = linear_inner(model, X, lambda: model.predict_proba(X), None)
    if inner is not None:
        seen = [transformed_columns(inner.steps, rows) for rows in (X, center)]
        own = _linear_scores(inner.form.slope, *seen)
        scores[:, :, gate.experts_seen_] = _gathered(own, inner.steps, X.shape[1])
    return scores


def _gathered(scores, steps, n_features):
    """Sum the scores of transformed columns over the columns they come from."""
    source = column_sources(steps, n_features, scores.shape[1])
    out = np.zeros((scores.shape[0], n_features, scores.shape[2]))
    for j in np.unique(source[source >= 0]):
        out[:, j] = scores[:, source == j].sum(axis=1)
    return out


def _tree_scores(gates, X, center):
    """Return what columns add to the log probabilities of leaves, along their paths."""
    reach = {0: np.zeros(X.shape)}
    for i, node in enumerate(gates.tree.inner):
        gate, view, start = gates.gates[i], gates.view(X, i), gates.view(center, i)
        mean = _log_mean(gate.log_proba(start)[0], gate.log_proba(view))
        moves = _log_moves(mean[:, None], gate_scores(gate, view, start))
        columns = slice(None) if gates.columns is None else gates.columns[i]
        columns = slice(None) if columns is None else columns
        for j, child in enumerate(gates.tree.children[node]):
            reach[child] = reach[node].copy()
            reach[child][:, columns] += moves[:, :, j]
    return np.stack([reach[leaf] for leaf in gates.tree.leaves], axis=2)
