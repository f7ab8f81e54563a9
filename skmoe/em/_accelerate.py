"""Acceleration of EM: SQUAREM steps and a quasi-Newton finish."""

from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["PreconditionedLBFGS", "squarem_point"]

Array = NDArray[np.float64]


def squarem_point(start: Array, once: Array, twice: Array) -> Array:
    """Extrapolate two EM steps (scheme S3 of Varadhan & Roland 2008).

    Parameters
    ----------
    start, once, twice : arrays of shape (n_parameters,)
        A point and its images under one and two passes of EM.

    Returns
    -------
    point : array of shape (n_parameters,)
        ``start + 2 a r + a^2 v`` with r the first step, v the change of step and
        ``a = |r| / |v|`` at least 1; ``a = 1`` is plain EM.

    References
    ----------
    Varadhan, R. and Roland, C. (2008). Simple and globally convergent methods
    for accelerating the convergence of any EM algorithm. Scand. J. Statist. 35.
    """
    step = once - start
    change = twice - once - step
    norm = float(np.linalg.norm(change))
    length = float(np.linalg.norm(step)) / norm if norm > 0.0 else 1.0
    length = max(length, 1.0)
    return start + 2.0 * length * step + length**2 * change


class PreconditionedLBFGS:
    """L-BFGS directions for ascent, with EM's own curvature as the first guess.

    The complete-data information, which EM inverts in each M-step anyway, is
    the initial metric; the stored pairs then learn what the missing labels take
    away from it. Without pairs the direction is (to first order) the EM step.

    Parameters
    ----------
    memory : int
        Number of pairs of steps and gradient changes kept.

    References
    ----------
    Lange, K. (1995). A quasi-Newton acceleration of the EM algorithm.
    Statistica Sinica 5. Nocedal & Wright, Numerical Optimization, algorithm 7.4.
    """

    def __init__(self, memory: int = 20) -> None:
        self.pairs: deque[tuple[Array, Array, float]] = deque(maxlen=memory)

    def direction(self, gradient: Array, precondition: Any) -> Array:
        """Return an ascent direction at a point with this gradient."""
        vector = gradient.copy()
        alphas = []
        for step, change, inverse in reversed(self.pairs):
            alpha = inverse * float(step @ vector)
            vector -= alpha * change
            alphas.append(alpha)
        vector = np.asarray(precondition(vector))
        for (step, change, inverse), alpha in zip(
            self.pairs, reversed(alphas), strict=True
        ):
            vector += step * (alpha - inverse * float(change @ vector))
        return vector

    def remember(self, step: Array, gradient_drop: Array) -> None:
        """Store a step and by how much the gradient fell along it."""
        curvature = float(step @ gradient_drop)
        size = float(np.linalg.norm(step) * np.linalg.norm(gradient_drop))
        if curvature > 1e-10 * size > 0.0:
            self.pairs.append((step, gradient_drop, 1.0 / curvature))
