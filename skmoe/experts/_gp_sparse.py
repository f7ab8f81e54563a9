"""The sparse Gaussian process of weighted rows: few inducing rows for many.

With ``Q = K_fu K_uu^-1 K_uf`` in place of K the collapsed bound of Titsias is

    F = L(Q) - 1/2 sum_i q_i / s2 (k_ii - Q_ii) <= L(K),

in O(n m^2) for m inducing rows. The weights enter as in the exact evidence L.

References
----------
Titsias, M. K. (2009). Variational learning of inducing variables in sparse
Gaussian processes. AISTATS, equation 9.
Burt, D. R., Rasmussen, C. E. and van der Wilk, M. (2020). Convergence of sparse
variational inference in Gaussian processes regression. JMLR 21, section 4.
"""

from functools import cached_property

import numpy as np
from scipy import linalg
from scipy.spatial.distance import cdist
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, Product, Sum

from skmoe.experts._gp_numerics import (
    cholesky,
    inverse_of,
    log_normaliser,
    predict_blocks,
)

__all__ = ["SparseProcess", "choose_inducing", "evaluate_sparse"]

# Added to the variance of each inducing row, as a share of it: the matrix of
# near-equal rows has no factor otherwise.
JITTER = 1e-8
# Stop to add inducing rows where none explains so many nats more.
ENOUGH = 1e-6
# Step in the log of a hyperparameter: the error of a central difference and its
# rounding are both about 1e-11 of the kernel.
STEP = 1e-5


def choose_inducing(kernel, noise, rows, most):
    """Choose rows one by one where the bound is loosest, by pivoted Cholesky.

    The next row is the one with the largest ``q_i (k_ii - Q_ii)``, its own part of
    the gap between the bound and the evidence.

    Parameters
    ----------
    kernel : Kernel of scikit-learn
    noise : float
    rows : WeightedRows
    most : int

    Returns
    -------
    chosen : int array or None
        At most ``most`` of the rows, in the order of their choice; None where there
        are no more than that.
    """
    if rows.weight.size <= most:
        return None
    left = np.array(kernel.diag(rows.points), dtype=float)
    floor = JITTER * left
    half = np.empty((most, left.size))
    chosen = []
    for count in range(most):
        score = np.where(left > floor, rows.weight * left, 0.0)
        pivot = int(score.argmax())
        if score[pivot] <= ENOUGH * noise and chosen:
            break
        column = kernel(rows.points[pivot : pivot + 1], rows.points)[0]
        column = column - half[:count, pivot] @ half[:count]
        half[count] = column / np.sqrt(left[pivot])
        left = left - half[count] ** 2
        left[pivot] = 0.0
        chosen.append(pivot)
    return np.array(chosen, dtype=np.intp)


def _matrices(kernel, points, inducing):
    """Return K_uu (with its jitter), K_uf and the diagonal of K_ff."""
    return _jittered(kernel(inducing)), kernel(inducing, points), kernel.diag(points)


def _jittered(K_uu):
    K_uu[np.diag_indices(K_uu.shape[0])] *= 1.0 + JITTER
    return K_uu


def cross_gradient(kernel, one, other):
    """Return a kernel's matrix between two sets of points, and its derivatives.

    Kernels of scikit-learn give derivatives of square matrices only. Here sums,
    products and constants are taken apart, and the default's Matern kernel has its
    closed form; what is left is differentiated by central differences, which cost
    less than the square of stacked rows.

    Parameters
    ----------
    kernel : Kernel of scikit-learn
    one, other : arrays of shape (n_one, n_features) and (n_other, n_features)

    Returns
    -------
    K : array of shape (n_one, n_other)
    changes : list of arrays of the same shape
        With respect to each entry of ``kernel.theta``.
    """
    if isinstance(kernel, (Sum, Product)):
        left, of_left = cross_gradient(kernel.k1, one, other)
        right, of_right = cross_gradient(kernel.k2, one, other)
        if isinstance(kernel, Sum):
            return left + right, of_left + of_right
        changes = [change * right for change in of_left]
        return left * right, changes + [left * change for change in of_right]
    if type(kernel) is Matern and kernel.nu == 2.5 and kernel.theta.shape == (1,):
        return _matern_gradient(kernel, one, other)
    K = kernel(one, other)
    if type(kernel) is ConstantKernel:
        return K, [K] * kernel.theta.size
    return K, _differences(kernel, lambda moved: moved(one, other))


def _matern_gradient(kernel, one, other):
    """Return ``(1 + d + d^2/3) exp(-d)`` and its slope, d the scaled distance."""
    distance = cdist(one, other)
    distance *= np.sqrt(5.0) / np.ravel(kernel.length_scale)[0]
    decay = np.exp(-distance)
    linear = (1.0 + distance) * decay
    square = np.square(distance, out=distance)
    square /= 3.0
    decay *= square
    decay += linear
    linear *= square
    return decay, [linear]


def _differences(kernel, evaluate):
    """Return central differences of a function of a kernel along its theta."""
    changes = []
    for step in STEP * np.eye(kernel.theta.size):
        high = evaluate(kernel.clone_with_theta(kernel.theta + step))
        low = evaluate(kernel.clone_with_theta(kernel.theta - step))
        changes.append((high - low) / (2.0 * STEP))
    return changes


def evaluate_sparse(kernel, noise, rows, inducing):
    """Return the bound F and its gradient.

    Parameters
    ----------
    kernel, noise, rows :
        As for `skmoe.experts._gp_numerics.evaluate_exact`.
    inducing : array of shape (n_inducing, n_features)

    Returns
    -------
    value : float
        In nats.
    gradient : array of shape (n_hyperparameters + 1,)
        With respect to ``kernel.theta``, then to log s2.
    """
    K_uu, of_uu = kernel(inducing, eval_gradient=True)
    K_uf, of_uf = cross_gradient(kernel, inducing, rows.points)
    matrices = _jittered(K_uu), K_uf, kernel.diag(rows.points)
    process = SparseProcess(kernel, noise, rows, inducing, matrices)
    in_uf, in_uu, in_diagonal = process.sensitivities()
    of_diagonal = _differences(kernel, lambda moved: moved.diag(rows.points))
    slope = np.tensordot(in_uu, of_uu, 2)
    slope += [np.vdot(in_uf, change) for change in of_uf]
    slope += [in_diagonal @ change for change in of_diagonal]
    return process.evidence, np.append(slope, process.noise_slope(rows))


class SparseProcess:
    """The posterior of a process given weighted rows, through inducing rows.

    Parameters
    ----------
    kernel : Kernel of scikit-learn
    noise : float
    rows : WeightedRows
    inducing : array of shape (n_inducing, n_features)
    matrices : tuple of arrays, default=None
        K_uu, K_uf and the diagonal of K_ff, where they are known.

    Raises
    ------
    LinAlgError
        If the kernel's matrix is not positive semidefinite.
    """

    def __init__(self, kernel, noise, rows, inducing, matrices=None):
        self.kernel, self.noise = kernel, noise
        self.points = self.inducing = inducing
        if matrices is None:
            matrices = _matrices(kernel, rows.points, inducing)
        K_uu, K_uf, diagonal = matrices
        self.factor = cholesky(K_uu)
        half = _lower(self.factor, K_uf)
        precision = rows.weight / noise
        self._root = np.sqrt(precision)
        self._half = half * self._root
        B = self._half @ self._half.T
        self._excess = B.copy()
        B[np.diag_indices_from(B)] += 1.0
        self.inner = cholesky(B)
        self._scaled = self._root * rows.target
        score = self._half @ self._scaled
        self._coef = linalg.cho_solve((self.inner, True), score)
        self.alpha = _upper(self.factor, self._coef)
        gap = diagonal - np.einsum("ij,ij->j", half, half)
        self._gap = np.maximum(gap, 0.0)
        self.evidence = float(
            -0.5 * (self._scaled @ self._scaled - score @ self._coef)
            - np.log(np.diag(self.inner)).sum()
            - 0.5 * precision @ gap
            + log_normaliser(rows, noise)[0]
        )

    @cached_property
    def _explained(self):
        """``I - B^-1``: which share of each direction the rows have settled."""
        return np.eye(self.inner.shape[0]) - inverse_of(self.inner)

    def sensitivities(self):
        """Return the slopes of F in K_uf, in K_uu and in the diagonal of K_ff."""
        explained = self._explained
        white = self._scaled - self._half.T @ self._coef
        # Small matrices first: one product as long as the rows.
        to_cross = _upper(self.factor, explained) @ self._half
        to_cross += np.outer(self.alpha, white)
        to_cross *= self._root
        middle = self._excess - explained  # (I - B^-1) (B - I)
        inner = _upper(self.factor, _upper(self.factor, middle).T)
        to_inducing = -0.5 * (inner + np.outer(self.alpha, self.alpha))
        return to_cross, to_inducing, -0.5 * self._root**2

    def noise_slope(self, rows):
        """Return the slope of F in log s2."""
        white = self._scaled - self._half.T @ self._coef
        gap = self._root**2 @ self._gap
        fit = 0.5 * (white @ white + np.trace(self._explained) + gap)
        return fit + log_normaliser(rows, self.noise)[1]

    def predict(self, points):
        """Return mean and variance of the function at some points."""
        return predict_blocks(self._predict, points)

    def _predict(self, points):
        cross = self.kernel(self.points, points)
        half = _lower(self.factor, cross)
        seen = _lower(self.inner, half)
        variance = self.kernel.diag(points) - np.einsum("ij,ij->j", half, half)
        variance = np.maximum(variance, 0.0) + np.einsum("ij,ij->j", seen, seen)
        return cross.T @ self.alpha, variance

    def leave_out(self, rows):
        """Return mean and variance of the function at each point without its rows.

        As for the exact process, in the posterior of the inducing rows: they stay
        where they are, without what the point's own rows said of them.
        """
        seen = _lower(self.inner, self._half)
        known = np.einsum("ij,ij->j", seen, seen)
        share = np.maximum(1.0 - known, np.finfo(float).eps)
        mean = self._half.T @ self._coef / self._root
        mean = rows.target + (mean - rows.target) / share
        return mean, known / self._root**2 / share + self._gap

    def forget(self):
        """Drop what is as long as the training rows."""
        names = ("_root", "_half", "_scaled", "_gap", "_excess", "_coef", "_explained")
        for name in names:
            self.__dict__.pop(name, None)


def _lower(factor, right):
    return linalg.solve_triangular(factor, right, lower=True, check_finite=False)


def _upper(factor, right):
    return linalg.solve_triangular(
        factor, right, lower=True, trans="T", check_finite=False
    )
