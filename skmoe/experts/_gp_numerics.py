"""The exact Gaussian process of weighted rows: evidence, law, leaving rows out.

Row i with weight q_i is observed with noise ``s2 / q_i``. With ``W = diag(q) / s2``,
``B = I + W^1/2 K W^1/2`` and ``u = W^1/2 y`` the evidence of the rows is

    L = -1/2 u' B^-1 u - 1/2 log|B| - scatter / (2 s2) - 1/2 sum_i q_i log(2 pi s2).

That is ``log N(y; 0, K + s2 diag(1/q))`` plus the normaliser that makes a row of
weight zero count for nothing and one of weight two count as two. B has no
eigenvalue below one, and no weight is divided by.

References
----------
Rasmussen, C. E. and Williams, C. K. I. (2006). Gaussian Processes for Machine
Learning, equations 3.26 and 5.9.
"""

import numpy as np
from scipy import linalg

from skmoe._blocks import row_blocks
from skmoe.likelihoods import LOG_2PI

__all__ = [
    "ExactProcess",
    "cholesky",
    "evaluate_exact",
    "inverse_of",
    "log_normaliser",
    "predict_blocks",
]

# Rows that are predicted at a time: rows times training points stay in the cache.
PREDICT_ROWS = 1024


def log_normaliser(rows, noise):
    """Return the part of the evidence without the kernel, and its slope in log s2."""
    spread = rows.scatter / noise
    value = -0.5 * spread - 0.5 * rows.total * (LOG_2PI + np.log(noise))
    return value, 0.5 * spread - 0.5 * rows.total


def cholesky(matrix):
    """Return the lower factor of a positive definite matrix, which it overwrites.

    Raises
    ------
    LinAlgError
        If it is not positive definite, or not finite.
    """
    try:
        return linalg.cholesky(matrix, lower=True, overwrite_a=True)
    except ValueError as error:  # not finite
        raise linalg.LinAlgError(str(error)) from error


def inverse_of(factor):
    """Return the inverse of a matrix from its lower factor, zero above."""
    half, _ = linalg.lapack.dpotri(factor, lower=True)
    inverse = half + half.T
    inverse[np.diag_indices_from(inverse)] *= 0.5
    return inverse


def evaluate_exact(kernel, noise, rows):
    """Return the evidence of weighted rows and its gradient.

    Parameters
    ----------
    kernel : Kernel of scikit-learn
    noise : float
        The variance s2 of a row of weight one.
    rows : WeightedRows

    Returns
    -------
    value : float
        In nats.
    gradient : array of shape (n_hyperparameters + 1,)
        With respect to ``kernel.theta``, then to log s2.

    Raises
    ------
    LinAlgError
        If the kernel's matrix is not positive semidefinite.
    """
    K, K_gradient = kernel(rows.points, eval_gradient=True)
    process = ExactProcess(kernel, noise, rows, K)
    inverse = process.inverse
    outer = np.outer(process.alpha, process.alpha)
    outer -= process.root[:, None] * inverse * process.root
    slope = 0.5 * np.tensordot(outer, K_gradient, 2)
    own = 0.5 * (process.white @ process.white + rows.weight.size - np.trace(inverse))
    own += log_normaliser(rows, noise)[1]
    return process.evidence, np.append(slope, own)


class ExactProcess:
    """The posterior of a process without mean, given weighted rows.

    Parameters
    ----------
    kernel : Kernel of scikit-learn
    noise : float
    rows : WeightedRows
    K : array of shape (n_points, n_points), default=None
        The kernel's matrix of the points, where it is known.

    Raises
    ------
    LinAlgError
        If the kernel's matrix is not positive semidefinite.
    """

    inducing = None

    def __init__(self, kernel, noise, rows, K=None):
        self.kernel, self.noise = kernel, noise
        self.points = rows.points
        K = kernel(rows.points) if K is None else K
        self.root = np.sqrt(rows.weight / noise)
        B = self.root[:, None] * K * self.root
        B[np.diag_indices_from(B)] += 1.0
        self.factor = cholesky(B)
        scaled = self.root * rows.target
        self.white = linalg.cho_solve((self.factor, True), scaled)
        self.alpha = self.root * self.white
        self.evidence = float(
            -0.5 * scaled @ self.white
            - np.log(np.diag(self.factor)).sum()
            + log_normaliser(rows, noise)[0]
        )

    @property
    def inverse(self):
        """``B^-1``, from its factor."""
        return inverse_of(self.factor)

    def predict(self, points):
        """Return mean and variance of the function at some points.

        Parameters
        ----------
        points : array of shape (n_points, n_features)

        Returns
        -------
        mean, variance : arrays of shape (n_points,)
        """
        return predict_blocks(self._predict, points)

    def _predict(self, points):
        cross = self.kernel(points, self.points)
        half = linalg.solve_triangular(
            self.factor, (cross * self.root).T, lower=True, check_finite=False
        )
        variance = self.kernel.diag(points) - np.einsum("ij,ij->j", half, half)
        return cross @ self.alpha, np.maximum(variance, 0.0)

    def leave_out(self, rows):
        """Return mean and variance of the function at each point without its rows.

        With m and v of the full posterior and ``p_i = [B^-1]_ii = 1 - q_i v_i / s2``
        the cavity has variance ``v_i / p_i`` and mean ``y_i + (m_i - y_i) / p_i``:
        the noise is removed without a division by the weight.

        Parameters
        ----------
        rows : WeightedRows
            Those that the process was fitted to.

        Returns
        -------
        mean, variance : arrays of shape (n_points,)
        """
        share = np.diag(self.inverse)
        mean, variance = self.predict(rows.points)
        error = mean - rows.target
        # Where the noise is small beside the kernel those differences of large
        # numbers lose digits; there the weight may be divided by.
        precise = self.root**2 * self.kernel.diag(rows.points) > 1.0
        root = np.where(precise, self.root, 1.0)
        error = np.where(precise, -self.white / root, error)
        variance = np.where(precise, (1.0 - share) / root**2, variance)
        return rows.target + error / share, np.maximum(variance, 0.0) / share

    def forget(self):
        """Drop what is not needed for predictions: nothing that is large."""


def predict_blocks(predict, points):
    """Apply a function that returns mean and variance, block by block."""
    blocks = row_blocks(points.shape[0], PREDICT_ROWS)
    parts = [predict(points[block]) for block in blocks]
    if not parts:
        return np.empty(0), np.empty(0)
    mean, variance = zip(*parts, strict=True)
    return np.concatenate(mean), np.concatenate(variance)
