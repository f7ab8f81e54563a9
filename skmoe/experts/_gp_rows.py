"""The rows that a Gaussian process is fitted to: distinct, weighted, on one scale."""

from dataclasses import dataclass

import numpy as np

from skmoe._blocks import Design
from skmoe.experts._rows import row_groups

__all__ = ["Scale", "TrainingRows", "WeightedRows"]

# A row of less weight than this (in rows) stays out of the algebra: it could move
# the evidence by about this share of its squared error in units of the noise.
NEGLIGIBLE = 1e-8


class Scale:
    """Where y and the columns of X are centred, and in which units they are seen.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
    y, weight : arrays of shape (n_samples,)
    standardize : bool
        Whether the units are weighted standard deviations; else they are one, and
        y alone is centred.

    Attributes
    ----------
    centre : float
        Weighted mean of y.
    unit : float
        What one unit of the process is in units of y.
    variance : float
        Weighted variance of y in squared units of the process.
    """

    def __init__(self, X, y, weight, standardize):
        self.design = Design(X, weight) if standardize else None
        # Rows without weight may lack a response.
        y, weight = y[weight > 0], weight[weight > 0]
        self.centre = float(np.average(y, weights=weight))
        variance = float(np.average((y - self.centre) ** 2, weights=weight))
        size = float(np.average(y * y, weights=weight))
        # A constant y still needs a unit: rounding of its own size, or one.
        rounding = np.finfo(float).eps * size if size > 0 else 1.0
        variance = max(variance, rounding)
        self.unit = float(np.sqrt(variance)) if standardize else 1.0
        self.variance = 1.0 if standardize else variance

    def points(self, X):
        """Return the columns that the kernel sees, (n_samples, n_features)."""
        if self.design is None:
            return np.ascontiguousarray(X, dtype=float)
        return np.ascontiguousarray(self.design.matrix(X)[1:].T)

    def target(self, y):
        """Return y in units of the process, around its centre."""
        return (y - self.centre) / self.unit

    def params(self, mean, variance):
        """Return means and variances in units of y, of shape (n_samples, 2)."""
        mean = self.centre + self.unit * mean
        return np.column_stack([mean, self.unit * self.unit * variance])


@dataclass(frozen=True)
class WeightedRows:
    """Distinct points with the weight and the mean response of the rows there.

    Rows at the same point are one observation: with y_g their weighted mean and
    q_g their weight, ``prod_i N(y_i; f, s2)^q_i`` is proportional to
    ``N(y_g; f, s2 / q_g)``. What is left is the scatter around the means.

    Attributes
    ----------
    points : array of shape (n_points, n_features)
    target, weight : arrays of shape (n_points,)
    scatter : float
        Weighted squares of the responses around the means of their points.
    """

    points: np.ndarray
    target: np.ndarray
    weight: np.ndarray
    scatter: float = 0.0

    @property
    def total(self):
        """Sum of the weights."""
        return float(self.weight.sum())

    def take(self, chosen):
        """Return some of the points, without the scatter of the others."""
        return WeightedRows(
            self.points[chosen], self.target[chosen], self.weight[chosen], self.scatter
        )


class TrainingRows:
    """All rows of a fit, grouped by equal x.

    Left out together, equal rows cannot tell on each other; and a row of weight
    two is treated as the same row twice.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
        Kept as it is, to be known again by identity.
    scale : Scale

    Attributes
    ----------
    points : array of shape (n_points, n_features)
        Distinct points, as the kernel sees them, in an order set by content.
    group : int array of shape (n_samples,)
    """

    def __init__(self, X, scale):
        self.X = X
        self.group = row_groups(X)
        first = np.unique(self.group, return_index=True)[1]
        self.points = scale.points(X[first])

    def merge(self, target, weight):
        """Return the points that carry weight, and which of all points they are.

        Parameters
        ----------
        target, weight : arrays of shape (n_samples,)

        Returns
        -------
        rows : WeightedRows
            With one point of next to no weight where no row has any.
        kept : int array
            Their places among ``points``.
        """
        # Rows without weight may lack a response.
        target = np.where(weight > 0.0, target, 0.0)
        size = self.points.shape[0]
        total = np.bincount(self.group, weights=weight, minlength=size)
        moment = np.bincount(self.group, weights=weight * target, minlength=size)
        carries = total > NEGLIGIBLE
        mean = np.divide(moment, total, out=np.zeros(size), where=carries)
        error = np.where(carries[self.group], target - mean[self.group], 0.0)
        kept = np.flatnonzero(carries)
        if kept.size == 0:
            kept, total = np.zeros(1, dtype=np.intp), np.zeros(size)
        rows = WeightedRows(
            self.points[kept], mean[kept], total[kept], float(weight @ (error * error))
        )
        return rows, kept
