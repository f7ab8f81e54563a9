"""Two regression tasks whose correlation is set."""

from dataclasses import dataclass
from numbers import Real

import numpy as np
from scipy.stats import norm
from sklearn.utils import check_random_state

from skmoe._checks import check_count, check_positive

__all__ = ["CorrelatedTasks", "make_correlated_tasks"]


@dataclass(frozen=True)
class CorrelatedTasks:
    """Law of two tasks that are waves along two directions.

    ``y_k | x ~ N(z_k + sum_i sin(frequency_i z_k + phase_i), noise ** 2)`` with
    ``z = coef x``, independent of each other given x.

    Attributes
    ----------
    coef : ndarray of shape (2, n_features)
    frequency, phase : ndarrays of shape (n_sines,)
    noise : float
        Standard deviation, in the unit of y.
    """

    coef: np.ndarray
    frequency: np.ndarray
    phase: np.ndarray
    noise: float

    def mean(self, X):
        """Return the mean of both tasks, (n_samples, 2)."""
        z = X @ self.coef.T
        return z + np.sin(z[..., None] * self.frequency + self.phase).sum(axis=-1)

    def log_prob(self, X, y):
        """Return the log density of both tasks together in nats, (n_samples,)."""
        return norm.logpdf(y, self.mean(X), self.noise).sum(axis=1)


def make_correlated_tasks(
    n_samples=1000,
    n_features=100,
    correlation=0.5,
    *,
    n_sines=5,
    scale=0.3,
    noise=0.1,
    random_state=None,
    return_truth=False,
):
    """Draw two regression tasks of a given relatedness, as Ma et al. (2018).

    Columns are standard normal. With random unit vectors ``u1``, ``u2`` at right
    angles and p the correlation,

        w1 = scale u1,    w2 = scale (p u1 + sqrt(1 - p ** 2) u2),
        y_k ~ N(w_k' x + sum_i sin(a_i w_k' x + b_i), noise ** 2).

    The cosine between ``w1`` and ``w2`` is p. At p = 1 the tasks have one mean; in
    between their correlation falls with p, though not in proportion, for the sines.
    The paper does not print scale, number of sines, frequencies a_i and phases b_i,
    which both tasks share. Here a_i and b_i are standard normal, drawn once for each
    data set, and the defaults are 5 sines and scale 0.3: what is found on these data
    can be compared with the paper in its order, not in its level.

    Parameters
    ----------
    n_samples : int
    n_features : int
        At least 2.
    correlation : float, default=0.5
        p, from -1 to 1.
    n_sines : int, default=5
        How far the tasks are from linear.
    scale : float, default=0.3
        Standard deviation of ``w_k' x``.
    noise : float, default=0.1
        Standard deviation of y around its mean.
    random_state : int, RandomState instance or None
    return_truth : bool, default=False

    Returns
    -------
    X : ndarray of shape (n_samples, n_features)
    y : ndarray of shape (n_samples, 2)
    truth : CorrelatedTasks
        Only if `return_truth`.

    References
    ----------
    Ma, J., Zhao, Z., Yi, X., Chen, J., Hong, L. and Chi, E. H. (2018). Modeling task
    relationships in multi-task learning with multi-gate mixture-of-experts. KDD,
    section 3.2.
    """
    check_count("n_samples", n_samples)
    check_count("n_features", n_features, low=2)
    check_count("n_sines", n_sines)
    check_positive("scale", scale)
    check_positive("noise", noise)
    if not (isinstance(correlation, Real) and -1 <= correlation <= 1):
        raise ValueError(
            f"correlation must be a number from -1 to 1, got {correlation!r}."
        )
    rng = check_random_state(random_state)
    # The directions come first: tables of different lengths have the same law.
    u1, u2 = np.linalg.qr(rng.standard_normal((n_features, 2)))[0].T
    tilted = correlation * u1 + np.sqrt(1.0 - correlation**2) * u2
    frequency, phase = rng.standard_normal((2, n_sines))
    coef = scale * np.stack([u1, tilted])
    truth = CorrelatedTasks(coef, frequency, phase, float(noise))
    X = rng.standard_normal((n_samples, n_features))
    y = truth.mean(X) + noise * rng.standard_normal((n_samples, 2))
    return (X, y, truth) if return_truth else (X, y)
