"""Multinomial logits with an L1 penalty: proximal Newton by coordinate descent.

With coefficients c of shape (n_classes, n_columns), the gradient G of the smooth
objective (cross-entropy and ridge) and a matrix H above its curvature, a step goes
to the maximum b of

    sum G (b - c) - (b - c)' H (b - c) / 2 - sum_kj lasso_j |b_kj|,

a lasso problem in all coefficients. H is the Newton Hessian (Lee, Sun & Saunders
2014), or the bound of Boehning & Lindsay (1988), which separates over classes.

Adding the same number to a column's coefficients of all classes changes no
probability, so the penalty alone chooses among them: under a pure L1 penalty zero
is a median of each column's coefficients, and one of them is exactly zero.

References
----------
Friedman, J., Hastie, T. and Tibshirani, R. (2010). Regularization paths for
generalized linear models via coordinate descent. J. Statistical Software 33.
Lee, J. D., Sun, Y. and Saunders, M. A. (2014). Proximal Newton-type methods for
minimizing composite functions. SIAM J. Optimization 24.
"""

import numpy as np

from skmoe._blocks import solve_psd
from skmoe._multinomial import joint_hessian

__all__ = [
    "bound_target",
    "lasso_maximum",
    "newton_target",
    "optimality_gap",
    "shifted",
]

# How far from optimal a coefficient may stay, as a share of the largest slope.
GAP = 1e-10
MAX_ROUNDS = 50
MAX_SWEEPS = 8
# A coordinate with less than this share of the largest curvature tells nothing.
FLAT = 1e-30
# Shares of the diagonal added where signs are held: the common shift of a column
# has no curvature, and a factor is needed all the same.
DAMPING = 1e-9


def newton_target(gram_pairs, gradient, ridge, lasso, coef):
    """Return the maximum of Newton's model with an L1 penalty.

    Parameters
    ----------
    gram_pairs : array of shape (n_pairs, n_columns, n_columns)
        Grams under the weights of `skmoe._multinomial.fill_pairs`.
    gradient : array of shape (n_classes, n_columns)
        Of the smooth objective, ridge included.
    ridge, lasso : arrays of shape (n_columns,)
        Both zero for a column that is not penalised.
    coef : array of shape (n_classes, n_columns)
        Where the gradient was taken.

    Returns
    -------
    target : array of shape (n_classes, n_columns)
        With exact zeros; columns without penalty are centred over classes.
    """
    n_classes = coef.shape[0]
    hessian = joint_hessian(gram_pairs, n_classes, ridge)
    threshold = np.tile(lasso, n_classes)
    found = lasso_maximum(hessian, gradient.ravel(), coef.ravel(), threshold)
    return shifted(found.reshape(coef.shape), ridge, lasso)


def bound_target(gram, gradient, ridge, lasso, coef):
    """Return the maximum of the Boehning-Lindsay bound with an L1 penalty.

    Without its term for the common shift the bound is half the gram for each class
    by itself; `shifted` then moves what that would hold back.

    Parameters
    ----------
    gram : array of shape (n_columns, n_columns)
        Gram under the row weights alone.
    gradient, ridge, lasso, coef :
        As for `newton_target`.

    Returns
    -------
    target : array of shape (n_classes, n_columns)
    """
    hessian = 0.5 * gram + np.diag(ridge)
    rows = zip(gradient, coef, strict=True)
    found = [lasso_maximum(hessian, slope, at, lasso) for slope, at in rows]
    return shifted(np.stack(found), ridge, lasso)


def shifted(coef, ridge, lasso):
    """Move each column's coefficients together to where they cost least.

    The best shift t of a column minimises
    ``lasso sum_k |c_k - t| + ridge / 2 sum_k (c_k - t) ** 2``. It is the median of
    the K coefficients and the K + 1 numbers
    ``mean + (lasso / (K ridge)) (K - 2 m)``, m = 0, ..., K (Li & Osher 2009); without
    ridge any median will do, and the lower one makes a coefficient zero.

    Parameters
    ----------
    coef : array of shape (n_classes, n_columns)
    ridge, lasso : arrays of shape (n_columns,)

    Returns
    -------
    coef : array of shape (n_classes, n_columns)
    """
    n_classes = coef.shape[0]
    mean = coef.mean(axis=0)
    both = (ridge > 0) & (lasso > 0)
    spread = np.zeros_like(ridge)
    np.divide(lasso, n_classes * ridge, out=spread, where=both)
    ladder = np.arange(n_classes, -n_classes - 1, -2.0)[:, None]
    points = np.concatenate([coef, mean + spread * ladder])
    best = np.where(both, np.median(points, axis=0), mean)
    lower = np.sort(coef, axis=0)[(n_classes - 1) // 2]
    return coef - np.where((ridge == 0) & (lasso > 0), lower, best)


def optimality_gap(at, slope, threshold):
    """Return by how much each coordinate misses its optimality condition.

    Parameters
    ----------
    at, slope, threshold : arrays of one shape
        A point, the gradient of the smooth objective there, and the weights of
        the absolute values.

    Returns
    -------
    gap : array
        ``|slope - threshold sign(at)|``, or what ``|slope|`` exceeds the threshold
        by where ``at`` is zero.
    """
    off = np.abs(slope - threshold * np.sign(at))
    return np.where(at != 0, off, np.maximum(np.abs(slope) - threshold, 0.0))


def lasso_maximum(hessian, slope, start, threshold):
    """Maximise ``slope' d - d' H d / 2 - sum threshold |start + d|`` over d.

    Rounds of coordinate descent on the coordinates that are not zero or should
    not be (the active set) find the signs; with signs held the rest is one linear
    system. Both only ever raise the objective.

    Parameters
    ----------
    hessian : array of shape (n, n)
        Symmetric positive semidefinite.
    slope, start, threshold : arrays of shape (n,)

    Returns
    -------
    at : array of shape (n,)
        ``start + d``, with exact zeros.
    """
    curvature = hessian.diagonal()
    known = curvature > FLAT * curvature.max(initial=0.0)
    at = np.where(known | (threshold == 0), start, 0.0)
    tol = GAP * max(np.abs(slope).max(initial=0.0), threshold.max(initial=0.0))
    for _ in range(MAX_ROUNDS):
        now = slope - hessian @ (at - start)
        gap = np.where(known, optimality_gap(at, now, threshold), 0.0)
        if gap.max(initial=0.0) <= tol:
            break
        active = np.flatnonzero(known & ((at != 0) | (gap > tol)))
        inner, cost = hessian[np.ix_(active, active)], threshold[active]
        before = at[active]
        moved = _swept(inner, now[active], before, cost)
        now = now[active] - inner @ (moved - before)
        at[active] = _with_signs_held(inner, now, moved, cost)
    return at


def _swept(hessian, slope, start, threshold):
    """Return where coordinate descent stands once it keeps its signs."""
    slope, at = slope.copy(), start.tolist()
    curvature, cost = hessian.diagonal().tolist(), threshold.tolist()
    for _ in range(MAX_SWEEPS):
        settled = True
        for i, old in enumerate(at):
            pull = slope.item(i) + curvature[i] * old
            new = max(abs(pull) - cost[i], 0.0) / curvature[i]
            new = new if pull > 0 else -new
            if new != old:
                slope -= hessian[i] * (new - old)
                at[i] = new
                settled &= cost[i] == 0.0 or (new * old > 0.0)
        if settled:
            break
    return np.array(at)


def _with_signs_held(hessian, slope, at, threshold):
    """Return the maximum among points of the same signs, or the way to it.

    The way ends where the first coordinate becomes zero: it stays there.
    """
    free = np.flatnonzero((at != 0) | (threshold == 0))
    inner = hessian[np.ix_(free, free)]
    inner[np.diag_indices(free.size)] *= 1.0 + DAMPING
    here, cost = at[free], threshold[free]
    step = solve_psd(inner, slope[free] - cost * np.sign(here))
    turns = (cost > 0) & (here * (here + step) <= 0)
    reach = np.full(free.size, np.inf)
    np.divide(-here, step, out=reach, where=turns)
    fraction = min(1.0, reach.min(initial=1.0))
    out = at.copy()
    out[free] = np.where(reach <= fraction, 0.0, here + fraction * step)
    return out
