"""Newton and bound steps of multinomial logits, for gates and for experts.

A softmax gate and a multinomial logistic expert are the same function of a
design block z: probabilities g_c(z) = exp(b_c' z) / sum_d exp(b_d' z). With row
weights w and targets t_c (responsibilities or classes) the weighted
cross-entropy sum w t_c log g_c has

    gradient  G_c   = sum w (t_c - g_c) z
    Hessian   H_cd  = -sum w g_c (delta_cd - g_d) z z'

The coefficients of all classes are kept and sum to zero over classes, so that a
ridge treats the classes alike and permuting them changes nothing. Newton steps
are taken in an orthonormal basis of that subspace. The matrix
``-1/2 (I - 11'/C) (x) sum w z z'`` is a lower bound of the Hessian everywhere
(Boehning & Lindsay 1988): within the subspace it is half the gram in every
direction, so one Cholesky factor serves all classes.
"""

import numpy as np

from skmoe._blocks import solve_psd, solve_psd_stack
from skmoe._xp import is_foreign, multiply, namespace

__all__ = [
    "MAX_LOGIT_STEP",
    "bound_direction",
    "contrast",
    "fill_pairs",
    "joint_hessian",
    "log_softmax_first",
    "n_pairs",
    "newton_direction",
    "newton_directions",
]

# Where classes separate, Newton's step is unbounded; beyond this many logits
# (in units of a column's standard deviation) it carries no information.
MAX_LOGIT_STEP = 15.0


def log_softmax_first(logit):
    """Return log-softmax and softmax over the first axis."""
    if is_foreign(logit):
        return _foreign_log_softmax(logit)
    if logit.shape[0] == 2:
        return _log_sigmoid(logit[1] - logit[0])
    shifted = logit - logit.max(axis=0)
    proba = np.exp(shifted)
    total = proba.sum(axis=0)
    proba /= total
    shifted -= np.log(total)
    return shifted, proba


def _foreign_log_softmax(logit):
    """Return the same for arrays of another library."""
    xp = namespace(logit)
    shifted = logit - xp.max(logit, axis=0)
    proba = xp.exp(shifted)
    total = xp.sum(proba, axis=0)
    proba /= total
    shifted -= xp.log(total)
    return shifted, proba


def _log_sigmoid(difference):
    """Return the same for two classes, from the difference of their logits."""
    log_proba = np.empty((2, *difference.shape))
    proba = np.empty_like(log_proba)
    # The two planes of the results serve as scratch: no other arrays are made.
    total = np.abs(difference, out=proba[0])
    np.negative(total, out=total)
    np.exp(total, out=total)
    total += 1.0
    np.log(total, out=total)
    np.minimum(difference, 0.0, out=log_proba[1])
    log_proba[1] -= total
    np.subtract(log_proba[1], difference, out=log_proba[0])
    np.exp(log_proba[1], out=proba[1])
    np.subtract(1.0, proba[1], out=proba[0])
    return log_proba, proba


def contrast(n_classes):
    """Return an orthonormal basis of the vectors that sum to zero.

    Returns
    -------
    basis : array of shape (n_classes, n_classes - 1)
        Helmert contrasts.
    """
    basis = np.zeros((n_classes, n_classes - 1))
    for j in range(1, n_classes):
        basis[:j, j - 1] = 1.0
        basis[j, j - 1] = -j
        basis[:, j - 1] /= np.sqrt(j * (j + 1.0))
    return basis


def n_pairs(n_classes):
    """Return the number of unordered pairs of classes."""
    return n_classes * (n_classes - 1) // 2


def fill_pairs(out, proba, weight):
    """Write ``weight * g_c * g_d`` for every pair c < d into the rows of out.

    These are all the weights that the Hessian needs: the diagonal ones are
    sums of them, since ``g_c (1 - g_c) = sum_{d != c} g_c g_d``.
    """
    start = 0
    for c in range(proba.shape[0] - 1):
        rows = out[start : start + proba.shape[0] - 1 - c, ...]
        multiply(proba[c, ...] * weight, proba[c + 1 :, ...], rows)
        start += rows.shape[0]


def newton_direction(gram_pairs, gradient, ridge):
    """Return the Newton step of a multinomial logit.

    Parameters
    ----------
    gram_pairs : array of shape (n_pairs, n_columns, n_columns)
        Grams under the weights of `fill_pairs`.
    gradient : array of shape (n_classes, n_columns)
        Gradient of the penalised objective.
    ridge : array of shape (n_columns,)
        Second derivative of the penalty in each column.

    Returns
    -------
    step : array of shape (n_classes, n_columns)
        Sums to zero over classes.
    """
    n_classes, p = gradient.shape
    if n_classes == 1:
        return np.zeros_like(gradient)
    basis = contrast(n_classes)
    hessian = _hessians(gram_pairs[:, None], ridge, basis)[0]
    step = solve_psd(hessian, (basis.T @ gradient).ravel())
    return basis @ step.reshape(n_classes - 1, p)


def newton_directions(gram_pairs, gradient, ridge):
    """Return the Newton steps of several multinomial logits, as one batch.

    Parameters
    ----------
    gram_pairs : array of shape (n_pairs, n_logits, n_columns, n_columns)
    gradient : array of shape (n_logits, n_classes, n_columns)
    ridge : array of shape (n_columns,)

    Returns
    -------
    step : array of shape (n_logits, n_classes, n_columns)
        Sums to zero over classes.
    """
    n_logits, n_classes, p = gradient.shape
    if n_classes == 1:
        return np.zeros_like(gradient)
    basis = contrast(n_classes)
    hessian = _hessians(gram_pairs, ridge, basis)
    right = (basis.T @ gradient).reshape(n_logits, -1, 1)
    step = solve_psd_stack(hessian, right)
    return basis @ step.reshape(n_logits, n_classes - 1, p)


def _hessians(gram_pairs, ridge, basis):
    """Return penalised information matrices in the basis, one for each logit."""
    n_classes, q = basis.shape
    n_logits, p = gram_pairs.shape[1], gram_pairs.shape[2]
    # The weights of a pair enter as (e_c - e_d)(e_c - e_d)': its image in the
    # basis is a rank-one matrix times the pair's gram.
    c, d = np.triu_indices(n_classes, 1)
    difference = basis[c] - basis[d]
    outer = difference[:, :, None] * difference[:, None, :]
    hessian = np.tensordot(outer, gram_pairs, axes=(0, 0)).transpose(2, 0, 3, 1, 4)
    hessian = np.ascontiguousarray(hessian).reshape(n_logits, q * p, q * p)
    hessian[:, np.arange(q * p), np.arange(q * p)] += np.tile(ridge, q)
    return hessian


def joint_hessian(gram_pairs, n_classes, ridge):
    """Return the penalised information matrix of all coefficients.

    Unlike those of the Newton steps it keeps the direction of a common shift, in
    which only the ridge has curvature.

    Parameters
    ----------
    gram_pairs : array of shape (n_pairs, n_columns, n_columns)
    n_classes : int
    ridge : array of shape (n_columns,)

    Returns
    -------
    hessian : array of shape (n_classes * n_columns, n_classes * n_columns)
    """
    p = ridge.size
    blocks = np.zeros((n_classes, n_classes, p, p))
    c, d = np.triu_indices(n_classes, 1)
    blocks[c, d] = blocks[d, c] = -gram_pairs
    every = np.arange(n_classes)
    blocks[every, every] = np.diag(ridge) - blocks.sum(axis=1)
    return blocks.transpose(0, 2, 1, 3).reshape(n_classes * p, n_classes * p)


def bound_direction(gram, gradient, ridge):
    """Return the step that maximises the Boehning-Lindsay bound.

    Parameters
    ----------
    gram : array of shape (n_columns, n_columns)
        Gram under the row weights alone.
    gradient : array of shape (n_classes, n_columns)
    ridge : array of shape (n_columns,)

    Returns
    -------
    step : array of shape (n_classes, n_columns)
    """
    centred = gradient - gradient.mean(axis=0)
    return solve_psd(0.5 * gram + np.diag(ridge), centred.T).T
