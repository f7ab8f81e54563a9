"""Covariances of the Gaussian gate: one per expert, diagonal, or one for all.

All three work on standardised columns, where the overall variance of a column
is 1, and feature-first: a block z has shape (n_columns, n_rows).

The prior of a covariance S is of inverse-Wishart form,

    log p(S) = -rows / 2 * (log |S| + scale * trace(S^-1)) + constant,

so that it acts like `rows` observations with covariance ``scale * I``: with
scatter A of N rows the mode is ``(A + rows * scale * I) / (N + rows)``. Under
the further constraint that no eigenvalue is below a floor, the mode is that
matrix with its smaller eigenvalues raised to the floor (the problem separates
in the eigenbasis), so the M-step stays exact where a cluster collapses.
"""

from dataclasses import dataclass
from itertools import cycle

import numpy as np

from skmoe._blocks import unpack_grams, weighted_grams
from skmoe._xp import concatenate, empty, is_foreign, like, namespace
from skmoe.gates._missing import embedded_inverses

__all__ = ["COVARIANCES", "CovariancePrior"]

# exp(150) squared is still a float: a wild extrapolation of log-scales gives a
# hopeless but finite objective, which an accelerated EM then turns down.
MAX_LOG_SCALE = 150.0


@dataclass(frozen=True)
class CovariancePrior:
    """Prior of one covariance matrix, on standardised columns.

    Parameters
    ----------
    rows : float
        Number of rows that the prior counts for.
    scale : float
        Variance of those rows, in units of a column's overall variance.
    floor : float
        Smallest eigenvalue allowed, in the same unit.
    """

    rows: float
    scale: float
    floor: float


class FullCovariance:
    """One covariance matrix for each expert.

    Parameters
    ----------
    n_experts, n_columns : int
    prior : CovariancePrior

    Attributes
    ----------
    value : array of shape (n_matrices, n_columns, n_columns)
    log_det : array of shape (n_matrices,)
    """

    def __init__(self, n_experts, n_columns, prior):
        self.n_columns = n_columns
        self.prior = prior
        self.n_matrices = self._count(n_experts)
        self._lower = np.tril_indices(n_columns)
        self._set(np.tile(np.eye(n_columns), (self.n_matrices, 1, 1)))

    @staticmethod
    def _count(n_experts):
        return n_experts

    @property
    def n_parameters(self):
        """Free parameters of all matrices together."""
        return self.n_matrices * self.n_columns * (self.n_columns + 1) // 2

    @property
    def penalty(self):
        """Log prior density of all matrices, up to a constant."""
        spread = self.log_det.sum() + self.prior.scale * self._trace_inverse
        return float(-0.5 * self.prior.rows * spread)

    @staticmethod
    def weighted_sums(design, mass):
        """Return each expert's sums over a block: of 1, z, then products of columns.

        Parameters
        ----------
        design : array of shape (1 + n_columns, n_rows)
            Ones, then the standardised columns.
        mass : array of shape (n_rows, n_experts)
            Weight times responsibility.

        Returns
        -------
        sums : array of shape (n_sums, n_experts)
        """
        weights = mass.T
        if is_foreign(mass):  # rows of weights must be contiguous
            weights = empty(mass, weights.shape)
            weights[...] = mass.T
        return weighted_grams(design, weights)

    def fit(self, count, mean, sums):
        """Set the matrices to the mode given each expert's weighted sums.

        Parameters
        ----------
        count : array of shape (n_experts,)
        mean : array of shape (n_experts, n_columns)
        sums : array of shape (n_sums, n_experts)
            Of `weighted_sums`, over all rows.
        """
        second = unpack_grams(sums, self.n_columns + 1)[:, 1:, 1:]
        outer = mean[:, :, None] * mean[:, None, :]
        count, scatter = self._pool(count, second - count[:, None, None] * outer)
        total = count + self.prior.rows
        seen = total > 0
        added = self.prior.rows * self.prior.scale * np.eye(self.n_columns)
        value = self.value.copy()
        value[seen] = (scatter[seen] + added) / total[seen, None, None]
        self._set(value)

    @staticmethod
    def _pool(count, scatter):
        return count, scatter

    def _set(self, value):
        """Store matrices with eigenvalues raised to the floor, and their roots."""
        eigen, vector = np.linalg.eigh(value)
        raised = np.maximum(eigen, self.prior.floor)
        if (raised > eigen).any():
            value = (vector * raised[:, None, :]) @ vector.swapaxes(1, 2)
        self.value = value
        self.log_det = np.log(raised).sum(axis=1)
        self._trace_inverse = float((1.0 / raised).sum())
        root = (vector / np.sqrt(raised)[:, None, :]).swapaxes(1, 2)
        # In one memory order, or a pickled copy would differ in the last bit.
        self._whitener = np.ascontiguousarray(root)

    def distance(self, z, mean):
        """Return squared Mahalanobis distances of shape (n_experts, n_rows)."""
        n_experts, n_columns = mean.shape
        flat = self._whitener.reshape(n_experts * n_columns, n_columns)
        white = like(z, flat) @ z
        white = namespace(z).reshape(white, (n_experts, n_columns, z.shape[1]))
        white -= like(z, self._whitener @ mean[:, :, None])
        return _squares(white)

    def contrast(self, z, mean):
        """Return `distance` up to a term that all experts share in a row."""
        return self.distance(z, mean)

    def partial_distance(self, rows, mean):
        """Return `distance` plus log determinant of what incomplete rows show.

        Parameters
        ----------
        rows : PartialRows
        mean : array of shape (n_experts, n_columns)

        Returns
        -------
        distance : array of shape (n_experts, n_rows)
        """
        out = np.empty((mean.shape[0], rows.z.shape[1]))
        for part, k, solved, _, log_det, pattern_of in self._solved(rows, mean):
            error = rows.error(mean[k])[:, part]
            out[k, part] = (solved * error).sum(axis=0) + log_det[pattern_of]
        return out

    def partial_contrast(self, rows, mean):
        """Return `partial_distance` up to a term that all experts share in a row."""
        return self.partial_distance(rows, mean)

    def expected_sums(self, rows, mean, mass):
        """Return what `weighted_sums` of incomplete rows are expected to be.

        Under each expert's own Gaussian, given what a row shows.

        Parameters
        ----------
        rows : PartialRows
        mean : array of shape (n_experts, n_columns)
        mass : array of shape (n_rows, n_experts)
            Weight times responsibility.

        Returns
        -------
        sums : array of shape (n_sums, n_experts)
        """
        n_experts, p = mean.shape
        grams = np.zeros((n_experts, p + 1, p + 1))
        known = np.zeros((n_experts, p, p))
        value = self.matrices(n_experts)
        for part, k, solved, inverse, _, pattern_of in self._solved(rows, mean):
            guess = mean[k][:, None] + value[k] @ solved
            z = np.where(rows.observed[:, part], rows.z[:, part], guess)
            design = np.concatenate([np.ones((1, z.shape[1])), z])
            grams[k] += (design * mass[part, k]) @ design.T
            share = np.bincount(pattern_of, mass[part, k], inverse.shape[0])
            known[k] += np.tensordot(share, inverse, axes=1)
        total = mass.sum(axis=0)[:, None, None]
        grams[:, 1:, 1:] += total * value - value @ known @ value
        return grams[:, *np.triu_indices(p + 1)].T

    def _solved(self, rows, mean):
        """Yield, by parts of rows and experts, ``P (z - m_k)`` and P by pattern."""
        for part, patterns, pattern_of in rows.chunks():
            inverses = [embedded_inverses(value, patterns) for value in self.value]
            for k, (inverse, log_det) in zip(
                range(mean.shape[0]), cycle(inverses), strict=False
            ):
                error = rows.error(mean[k])[:, part]
                solved = np.einsum("npq,qn->pn", inverse[pattern_of], error)
                yield part, k, solved, inverse, log_det, pattern_of

    @property
    def vector(self):
        """Lower Cholesky factors with the logs of their diagonals, flat."""
        diagonal = np.arange(self.n_columns)
        value = self.value.copy()
        # Rounding may leave a floored covariance a hair short of positive.
        value[:, diagonal, diagonal] *= 1.0 + 1e-12
        factor = np.linalg.cholesky(value)
        factor[:, diagonal, diagonal] = np.log(factor[:, diagonal, diagonal])
        return factor[:, *self._lower].ravel()

    @vector.setter
    def vector(self, value):
        factor = np.zeros((self.n_matrices, self.n_columns, self.n_columns))
        factor[:, *self._lower] = value.reshape(self.n_matrices, -1)
        diagonal = np.arange(self.n_columns)
        logs = factor[:, diagonal, diagonal]
        factor[:, diagonal, diagonal] = np.exp(
            np.clip(logs, -MAX_LOG_SCALE, MAX_LOG_SCALE)
        )
        self._set(factor @ factor.swapaxes(1, 2))

    def matrices(self, n_experts):
        """Return one matrix for each expert: (n_experts, n_columns, n_columns)."""
        return np.broadcast_to(self.value, (n_experts, *self.value.shape[1:]))


class TiedCovariance(FullCovariance):
    """One covariance matrix for all experts: the gate is linear in x."""

    @staticmethod
    def _count(n_experts):
        return 1

    @staticmethod
    def _pool(count, scatter):
        return count.sum(keepdims=True), scatter.sum(axis=0, keepdims=True)

    def distance(self, z, mean):
        """Return squared Mahalanobis distances of shape (n_experts, n_rows)."""
        white = like(z, self._whitener[0]) @ z
        return self.contrast(z, mean) + _squares(white)

    def contrast(self, z, mean):
        """Return `distance` less ``z' S^-1 z``, which all experts share.

        What is left is linear in z. Far from the data the shared square would
        swamp it.
        """
        slope, intercept = self.linear_form(mean)
        return -2.0 * (like(z, slope) @ z + like(z, intercept[:, None]))

    def partial_contrast(self, rows, mean):
        """Return `partial_distance` less the determinant and ``z' P z``."""
        out = np.empty((mean.shape[0], rows.z.shape[1]))
        for part, patterns, pattern_of in rows.chunks():
            inverse = embedded_inverses(self.value[0], patterns)[0]
            solved = np.einsum("npq,qn->pn", inverse[pattern_of], rows.z[:, part])
            square = np.einsum("kp,mpq,kq->km", mean, inverse, mean, optimize=True)
            out[:, part] = square[:, pattern_of] - 2.0 * (mean @ solved)
        return out

    def linear_form(self, mean):
        """Return slopes ``S^-1 m_k`` and intercepts ``-m_k' S^-1 m_k / 2``."""
        white = mean @ self._whitener[0].T
        return white @ self._whitener[0], -0.5 * (white * white).sum(axis=1)


class DiagonalCovariance:
    """One diagonal covariance matrix for each expert.

    Parameters and methods as for `FullCovariance`; `value` holds the
    variances, of shape (n_experts, n_columns).
    """

    def __init__(self, n_experts, n_columns, prior):
        self.prior = prior
        self.value = np.ones((n_experts, n_columns))

    @property
    def n_parameters(self):
        """Free parameters of all matrices together."""
        return self.value.size

    @property
    def log_det(self):
        """Log determinants of shape (n_experts,)."""
        return np.log(self.value).sum(axis=1)

    @property
    def penalty(self):
        """Log prior density of all matrices, up to a constant."""
        spread = np.log(self.value) + self.prior.scale / self.value
        return float(-0.5 * self.prior.rows * spread.sum())

    @staticmethod
    def weighted_sums(design, mass):
        """Return each expert's sums over a block: of 1, z, then squares."""
        return concatenate([design, design[1:, :] ** 2]) @ mass

    def fit(self, count, mean, sums):
        """Set the variances to the mode given each expert's weighted sums."""
        second = sums[1 + mean.shape[1] :].T
        scatter = second - count[:, None] * mean**2
        total = count + self.prior.rows
        seen = total > 0
        value = self.value.copy()
        added = self.prior.rows * self.prior.scale
        value[seen] = (scatter[seen] + added) / total[seen, None]
        self.value = np.maximum(value, self.prior.floor)

    def distance(self, z, mean):
        """Return squared Mahalanobis distances of shape (n_experts, n_rows)."""
        error = z - like(z, mean[:, :, None])
        return _squares(error, 1.0 / self.value)

    def contrast(self, z, mean):
        """Return `distance`: nothing is shared between the experts."""
        return self.distance(z, mean)

    def partial_distance(self, rows, mean):
        """Return `distance` plus log determinant of what incomplete rows show."""
        error = np.stack([rows.error(row) for row in mean])
        distance = np.einsum("kdn,kdn,kd->kn", error, error, 1.0 / self.value)
        return distance + np.log(self.value) @ rows.observed

    def partial_contrast(self, rows, mean):
        """Return `partial_distance`: nothing is shared between the experts."""
        return self.partial_distance(rows, mean)

    def expected_sums(self, rows, mean, mass):
        """Return expected sums, as in `FullCovariance`."""
        sums = []
        for k, share in enumerate(mass.T):
            z = np.where(rows.observed, rows.z, mean[k][:, None])
            spread = self.value[k] * (~rows.observed @ share)
            sums.append([share.sum(), *(z @ share), *(z**2 @ share + spread)])
        return np.array(sums).T

    @property
    def vector(self):
        """Logs of the standard deviations, flat."""
        return 0.5 * np.log(self.value).ravel()

    @vector.setter
    def vector(self, value):
        logs = np.clip(value, -MAX_LOG_SCALE, MAX_LOG_SCALE)
        spread = np.exp(2.0 * logs).reshape(self.value.shape)
        self.value = np.maximum(spread, self.prior.floor)

    def matrices(self, n_experts):
        """Return one matrix for each expert: (n_experts, n_columns, n_columns)."""
        return self.value[:, :, None] * np.eye(self.value.shape[1])


def _squares(error, factor=None):
    """Return sums over the columns of squares, each times its factor.

    From (..., n_columns, n_rows), and factors (..., n_columns), to (..., n_rows).
    """
    if is_foreign(error):
        other = error if factor is None else error * like(error, factor[..., None])
        return namespace(error).vecdot(error, other, axis=-2)
    if factor is None:
        return np.einsum("...dn,...dn->...n", error, error)
    return np.einsum("...dn,...dn,...d->...n", error, error, factor)


COVARIANCES = {
    "diag": DiagonalCovariance,
    "full": FullCovariance,
    "tied": TiedCovariance,
}
