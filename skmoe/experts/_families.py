"""What a family of densities needs to be fitted by Fisher scoring.

A family is stateless but for known constants. All arrays are feature-first: for K
experts and a block of rows, ``eta`` has shape (n_predictors, n_experts, n_rows),
``target`` (n_target_rows, n_rows), ``shapes`` (n_experts, n_shapes), and a density
(n_experts, n_rows).

Rows may be arrays of any library, shapes and what is summed for them are NumPy's; see
`skmoe._xp`.
"""

import numpy as np

from skmoe._xp import floats, namespace, total

__all__ = ["Family", "bounded", "log_mean_rate", "minus"]

# exp of more would overflow in sums over rows.
MAX_ETA = 500.0


class Family:
    """The base class: one linear predictor, no shapes.

    Attributes
    ----------
    n_target_rows : int
        Rows of ``target(y)``, without the offset.
    n_predictors : int
    predictor_names : tuple of str
        What a printout calls the predictors; the first, of the mean, needs no name.
    shape_names : tuple of str
        The unconstrained shapes of an expert, in order.
    n_sums : int
        What ``fill`` sums over the rows for the shapes of an expert.
    max_step : array of shape (n_predictors,)
        How far a predictor may go in a step, per standard deviation of a column.
    unit_power : tuple of float
        ``log s2 = shapes @ unit_power`` is the unit of the first predictor's ridge.
    smooth : bool
        Whether the density has a gradient everywhere.
    """

    n_target_rows = 1
    n_predictors = 1
    predictor_names: tuple[str, ...] = ("",)
    shape_names: tuple[str, ...] = ()
    n_sums = 0
    max_step = np.array([2.0])
    unit_power: tuple[float, ...] = ()
    smooth = True

    def target(self, y, trials=None):
        """Return what `density` gets as rows, of shape (n_target_rows, n_samples)."""
        return floats(y)[None, :]

    def start(self, target, weight, offset):
        """Return intercepts (n_predictors,) and shapes (n_shapes,) of a null model."""
        raise NotImplementedError

    def bounds(self, target, weight):
        """Return the range of the shapes, of shape (2, n_shapes)."""
        return np.empty((2, 0))

    def pseudo_rows(self, rows, fraction, target, weight, offset):
        """Return the prior of the dispersion, worth so many rows; None for none."""
        return None

    def log_noise(self, coef, shapes):
        """Return the log variance of each expert at the center of the columns.

        None where the density is bounded, so that no expert can collapse.
        """
        return None

    def log_floor(self, target, weight):
        """Return the least log noise."""
        return -np.inf

    def density(self, eta, target, shapes):
        """Return log densities, and what `fill` needs of them; eta is used up."""
        raise NotImplementedError

    def fill(self, work, target, shapes, weight, gram_rows, score_rows):
        """Write information weights and scores; return sums for the shapes.

        Work is used up.

        Parameters
        ----------
        work : object
            What `density` returned.
        weight : array of shape (n_experts, n_rows)
        gram_rows, score_rows : arrays of shape (n_predictors, n_experts, n_rows)
            To be written: weight times Fisher information and weight times
            derivative of the log density, in each predictor.

        Returns
        -------
        sums : array of shape (n_experts, n_sums) or None
        """
        raise NotImplementedError

    def shape_terms(self, sums, mass, shapes):
        """Return gradient (n_experts, n_shapes) and information in the shapes."""
        raise NotImplementedError


def minus(a, b):
    """Return a - b; NumPy writes it over b."""
    return np.subtract(a, b, out=b) if isinstance(b, np.ndarray) else a - b


def bounded(values, low, high):
    """Return values within bounds, None for none; NumPy writes them over the values."""
    if isinstance(values, np.ndarray):
        return np.clip(values, low, high, out=values)
    return namespace(values).clip(values, low, high)


def log_mean_rate(y, weight, offset):
    """Return the log of ``sum w y / sum w exp(offset)``, finite if y is zero."""
    mass = total(weight)
    mean = max(float(weight @ y) / mass, 1e-3)
    if offset is None:
        return np.log(mean)
    xp = namespace(offset)
    peak = float(xp.max(offset))
    return np.log(mean) - peak - np.log(float(weight @ xp.exp(offset - peak)) / mass)
