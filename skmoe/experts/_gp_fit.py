"""Hyperparameters of a Gaussian process: how they climb, and when."""

from dataclasses import dataclass, replace

import numpy as np
from scipy import linalg, optimize

from skmoe.experts._gp_numerics import ExactProcess, evaluate_exact
from skmoe.experts._gp_sparse import SparseProcess, choose_inducing, evaluate_sparse
from skmoe.experts._rows import systematic_rows

__all__ = ["Hyperparameters", "NoisePrior", "Schedule", "fit_process", "make_process"]

# Steps of L-BFGS: of a first fit, on the evidence and on the dearer bound, and of one
# that starts from the last.
FIRST_STEPS, SPARSE_STEPS, LATER_STEPS = 100, 20, 6
# Relative gain at which they end: on the evidence, and on the bound.
STEP_TOL, SPARSE_TOL = 1e-6, 1e-5
# Restarts are spread over this part of the bounds round the start, in logs.
REACH = np.log(30.0)
# M-steps that each fit the hyperparameters, before the schedule begins.
FIRST_REFITS = 2
# A fit that gains less than so many nats a row doubles the time to the next one.
SETTLED = 1e-3


@dataclass(frozen=True)
class NoisePrior:
    """Inverse-gamma prior of the noise, worth ``rows`` rows, and its bounds.

    Attributes
    ----------
    rows, fraction : float
    reference : float
        The variance of y, which ``fraction`` is a part of.
    """

    rows: float
    fraction: float
    reference: float

    # Noise is kept between these parts of the variance of y: below, the matrices
    # have no digits left; above, nothing is left to explain.
    bounds = (1e-8, 1e2)

    @property
    def log_bounds(self):
        """Lowest and highest log variance."""
        return np.log(np.array(self.bounds) * self.reference)

    def log_prob(self, log_noise):
        """Return the log density, up to a constant, and its slope in log s2."""
        log_ratio = log_noise - np.log(self.reference)
        share = self.fraction * np.exp(-log_ratio)
        return -0.5 * self.rows * (log_ratio + share), -0.5 * self.rows * (1.0 - share)


@dataclass(frozen=True)
class Hyperparameters:
    """A kernel and the log of the noise variance.

    Attributes
    ----------
    kernel : Kernel of scikit-learn
    log_noise : float
    """

    kernel: object
    log_noise: float

    @property
    def noise(self):
        """Variance of a row of weight one."""
        return float(np.exp(self.log_noise))

    @property
    def vector(self):
        """The free hyperparameters of the kernel (logs), then the log noise."""
        return np.append(self.kernel.theta, self.log_noise)

    def at(self, vector):
        """Return the hyperparameters of a vector."""
        return Hyperparameters(
            self.kernel.clone_with_theta(vector[:-1]), float(vector[-1])
        )


@dataclass(frozen=True)
class Schedule:
    """In which M-steps hyperparameters are fitted.

    The first ones, then each ``every``-th, then fewer as the fits gain little.

    Attributes
    ----------
    every : int
        M-steps from one fit to the next.
    step : int
        M-steps so far.
    due : int
        The M-step of the next fit.
    """

    every: int
    step: int = 0
    due: int = 0

    @property
    def is_first(self):
        """Whether no M-step has been taken."""
        return self.step == 0

    @property
    def is_due(self):
        """Whether this M-step fits hyperparameters."""
        return self.step >= self.due

    def after(self, gain=None):
        """Return the schedule after an M-step.

        Parameters
        ----------
        gain : float or None
            What its fit of the hyperparameters gained, in nats per unit of weight;
            None without one.
        """
        step = self.step + 1
        if gain is None:
            return replace(self, step=step)
        if step < FIRST_REFITS:
            return replace(self, step=step, due=step)
        every = 2 * self.every if gain < SETTLED else self.every
        return replace(self, step=step, every=every, due=step + every - 1)


def fit_process(start, rows, prior, max_rows, *, first, n_restarts=0):
    """Fit hyperparameters to weighted rows.

    Parameters
    ----------
    start : Hyperparameters
    rows : WeightedRows
    prior : NoisePrior
    max_rows : int
        Inducing rows stand for the rows where there are more of them.
    first : bool
        Whether to take the steps and the restarts of a first fit.
    n_restarts : int

    Returns
    -------
    found : Hyperparameters
    gain : float
        Nats of evidence (or bound) and prior that the last climb gained.
    """
    bounds = np.vstack([start.kernel.bounds.reshape(-1, 2), prior.log_bounds])
    vector = np.clip(start.vector, bounds[:, 0], bounds[:, 1])
    steps, starts = LATER_STEPS, [vector]
    if first:
        steps, starts = FIRST_STEPS, [vector, *_spread(vector, bounds, n_restarts)]
    inducing = None
    if rows.weight.size > max_rows:
        if first:
            vector = _lead(start, starts, rows, prior, max_rows, bounds)
            steps, starts = SPARSE_STEPS, [vector]
        point = start.at(vector)
        inducing = choose_inducing(point.kernel, point.noise, rows, max_rows)
    found, gain = _climb(start, starts, rows, inducing, prior, bounds, steps)
    return start.at(found), gain


def _lead(template, starts, rows, prior, max_rows, bounds):
    """Return where the climb of the bound shall begin.

    The evidence of some rows alone is many times cheaper to climb, and may lead
    near the maximum of the bound of all rows; or it may not. From the better of its
    end and the start some steps are taken with evenly drawn inducing rows: those
    that the kernel chooses would hold on to waves too short for so few of them.
    """
    some = _sample(rows, max_rows)
    few = rows.take(some)
    near, _ = _climb(template, starts, few, None, prior, bounds, FIRST_STEPS)
    pair, inducing = [starts[0], near], rows.points[some]
    losses = [_loss(template.at(vector), rows, inducing, prior)[0] for vector in pair]
    higher = [pair[int(np.argmin(losses))]]
    return _climb(template, higher, rows, some, prior, bounds, LATER_STEPS)[0]


def _sample(rows, most):
    """Return rows drawn by weight, evenly along their responses.

    No kernel has a part in it: where hyperparameters are still far off, the rows
    that they would choose are few, and cannot show that the function is rougher.
    """
    # Rounded, so that equal responses are not told apart by their last digit.
    order = np.argsort(np.round(rows.target, 9), kind="stable")
    return np.unique(order[systematic_rows(rows.weight[order], most)])


def _climb(template, starts, rows, inducing, prior, bounds, steps):
    """Return the highest point that L-BFGS reaches, and the gain over the first."""
    points, tol = None, STEP_TOL
    if inducing is not None:
        points, tol = rows.points[inducing], SPARSE_TOL
    values = []

    def loss(vector):
        value, gradient = _loss(template.at(vector), rows, points, prior)
        values.append(value)
        return value, gradient

    options = {"maxiter": steps, "ftol": tol}
    best, least = starts[0], np.inf
    for start in starts:
        found = optimize.minimize(
            loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options
        )
        if found.fun < least:
            best, least = found.x, found.fun
    before = values[0]  # L-BFGS begins at the first start
    return best, float(before - least) if np.isfinite(before) else np.inf


def _loss(point, rows, inducing, prior):
    """Return minus evidence and prior, with the gradient."""
    try:
        if inducing is None:
            value, gradient = evaluate_exact(point.kernel, point.noise, rows)
        else:
            value, gradient = evaluate_sparse(point.kernel, point.noise, rows, inducing)
    except linalg.LinAlgError:
        return np.inf, np.zeros(point.vector.size)
    log_prior, slope = prior.log_prob(point.log_noise)
    gradient[-1] += slope
    return -(value + log_prior), -gradient


def _spread(centre, bounds, count):
    """Return points spread evenly round a centre, within the bounds."""
    if count == 0:
        return []
    low = np.maximum(bounds[:, 0], centre - REACH)
    high = np.minimum(bounds[:, 1], centre + REACH)
    # Multiples of powers of the generalised golden ratio, modulo one: points that
    # fill a box evenly without any chance.
    ratio = optimize.brentq(lambda g: g ** (centre.size + 1) - g - 1.0, 1.0, 2.0)
    powers = ratio ** -np.arange(1.0, centre.size + 1)
    even = (0.5 + np.outer(np.arange(1, count + 1), powers)) % 1.0
    return list(low + even * (high - low))


def make_process(point, rows, max_rows, inducing=None):
    """Return the posterior of weighted rows, sparse where they are too many.

    Parameters
    ----------
    point : Hyperparameters
    rows : WeightedRows
    max_rows : int
    inducing : array of shape (n_inducing, n_features), default=None
        The points of an earlier choice, for a sparse posterior. None: choose.

    Returns
    -------
    process : ExactProcess or SparseProcess
    """
    kernel, noise = point.kernel, point.noise
    if rows.weight.size <= max_rows:
        return ExactProcess(kernel, noise, rows)
    if inducing is None:
        inducing = rows.points[choose_inducing(kernel, noise, rows, max_rows)]
    return SparseProcess(kernel, noise, rows, inducing)
