"""What linear-Gaussian experts know before the responsibilities: anchor and priors."""

import numpy as np

from skmoe._blocks import blocks_of, half_products, solve_psd, unpack_grams
from skmoe._xp import add, like, to_numpy, total

__all__ = ["LinearPrior", "diagonals"]


class LinearPrior:
    """What is known before the responsibilities: anchor, ridge, variance prior.

    Attributes
    ----------
    anchor : array of shape (n_outputs, n_columns)
        Coefficients of one weighted fit of all rows.
    ridge : array of shape (n_columns,)
        alpha where the ridge acts. The log prior of the coefficients is
        ``-ridge |b - anchor|^2 / (2 variance)``: in units of the noise.
    rows, scale : float, array of shape (n_outputs,)
        The variance prior is worth so many rows of squared residual ``scale``.
    floor : array of shape (n_outputs,)
        The least variance, same unit as y squared.
    """

    def __init__(self, expert, design, X, y, weight):
        self.shared = False
        self.diagonal = expert.covariance == "diag" or y.shape[0] == 1
        alpha = float(expert.alpha)
        self.ridge = alpha * design.penalised
        mass = total(weight)
        mean = to_numpy(y @ weight) / mass
        centred = y - like(y, mean[:, None])
        spread = to_numpy((centred * centred) @ weight) / mass
        self.floor = np.maximum(1e-10 * spread, 1e-20 * mean * mean)
        self.floor = np.maximum(self.floor, 1e-150)
        rows, fraction = expert.variance_prior or (0.0, 0.0)
        self.rows = float(rows)
        self.scale = fraction * np.maximum(spread, self.floor)
        self.reference = np.maximum(spread, self.floor)
        mild = min(alpha, 1.0) * design.penalised
        self.anchor, residual = _global_fit(design, X, y, weight, mild)
        start = np.maximum(residual / mass, self.floor)
        self.global_variance = start
        self.start_variance = start if self.diagonal else np.diag(start)

    def variance(self, scatter, mass, coef):
        """Return the variances that maximise likelihood and prior.

        Parameters
        ----------
        scatter : array of shape (n_experts, n_outputs, n_outputs)
        mass : array of shape (n_experts,)
        coef : array of shape (n_experts, n_outputs, n_columns)
        """
        deviation = coef - self.anchor
        total = scatter + (deviation * self.ridge) @ deviation.transpose(0, 2, 1)
        total = total + self.rows * np.diag(self.scale)
        mass = mass + self.rows
        if self.shared:
            total = np.broadcast_to(total.sum(axis=0), total.shape)
            mass = np.broadcast_to(mass.sum(), mass.shape)
        empty = mass < 1e-8  # the quotient of two rounding errors
        total = total / np.where(empty, 1.0, mass)[:, None, None]
        start = np.diag(self.global_variance)
        total = np.where(empty[:, None, None], start, total)
        return self.floored(diagonals(total) if self.diagonal else total)

    def floored(self, variance):
        """Return variances, or covariances, lifted to the floor."""
        if variance.ndim == 2:
            return np.maximum(variance, self.floor)
        return _floor_matrices(variance, self.floor)

    def collapsed(self, variance):
        """Return for each expert whether a variance lies at the floor."""
        return (diagonals(variance) <= 4.0 * self.floor).any(axis=1)

    def log_density(self, coef, variance):
        """Return the log prior of coefficients and variances, up to a constant."""
        deviation = coef - self.anchor
        scatter = (deviation * self.ridge) @ deviation.transpose(0, 2, 1)
        scatter = scatter + self.rows * np.diag(self.scale)
        if variance.ndim == 2:
            diagonal = np.diagonal(scatter, axis1=1, axis2=2)
            quadratic = (diagonal / variance).sum()
            log_det = np.log(variance / self.reference).sum()
        else:
            quadratic = np.trace(
                np.linalg.solve(variance, scatter), axis1=1, axis2=2
            ).sum()
            log_det = np.linalg.slogdet(variance)[1].sum()
            log_det -= variance.shape[0] * np.log(self.reference).sum()
        return -0.5 * float(quadratic + self.rows * log_det)


def _global_fit(design, X, y, weight, ridge):
    """Return coefficients and weighted squared residuals of one ridge fit."""
    p, q = design.n_columns, y.shape[0]
    half, score = np.zeros(p * (p + 1) // 2), np.zeros((p, q))
    # Centring y spares digits; without an intercept it would change the fit.
    mean = to_numpy(y @ weight) / total(weight) if design.intercept else np.zeros(q)
    width = half.size + 3 * p
    for rows in blocks_of(X, width):
        block, some = design.block(X, rows), weight[rows]
        centred = (y[:, rows] - like(y, mean[:, None])) * some
        half = add(half, half_products(block) @ some)
        score = add(score, block @ centred.T)
    gram = unpack_grams(to_numpy(half)[:, None], p)[0]
    coef = solve_psd(gram + np.diag(ridge), to_numpy(score)).T
    coef[:, 0] += mean
    residual = np.zeros(q)
    for rows in blocks_of(X, width):
        error = y[:, rows] - like(y, coef) @ design.block(X, rows)
        residual = add(residual, (error * error) @ weight[rows])
    return coef, to_numpy(residual)


def diagonals(variance):
    """Return variances of shape (n_experts, n_outputs)."""
    if variance.ndim == 2:
        return variance
    return np.diagonal(variance, axis1=1, axis2=2)


def _floor_matrices(matrices, floor):
    """Lift the eigenvalues of covariances, in units of the floors, to one."""
    root = np.sqrt(floor)
    scaled = matrices / root[:, None] / root
    value, vector = np.linalg.eigh(0.5 * (scaled + scaled.transpose(0, 2, 1)))
    value = np.maximum(value, 1.0)
    lifted = (vector * value[:, None, :]) @ vector.transpose(0, 2, 1)
    return lifted * root[:, None] * root
