"""Real responses: Gamma, Student t, Laplace, Gaussian of two predictors."""

import numpy as np
from scipy import special

from skmoe._xp import concatenate, floats, like, multiply, namespace, row_dots, total
from skmoe.experts._families import MAX_ETA, Family, bounded, minus
from skmoe.experts._glm_prior import GammaPseudoRows, ScalePseudoRows
from skmoe.experts._special import gamma_entropy, gamma_surplus
from skmoe.likelihoods import LOG_2PI

__all__ = [
    "GammaFamily",
    "HeteroscedasticFamily",
    "LaplaceFamily",
    "StudentFamily",
    "weighted_moments",
]

# Dispersions below 1e-8 of the squared mean are those of rows fitted exactly.
MAX_LOG_SHAPE = np.log(1e8)
# t of fewer degrees has a spike that counts for more than its tails; of more it
# is normal, to a percent of the standard deviation.
DF_BOUNDS = (0.5, 200.0)
# Of the scale: within it the absolute residual of a Laplace step is a parabola.
CORNER = 1e-6
# Of the variance of y: the least noise, as of a `LinearExpert`.
FLOOR = 1e-10


def weighted_moments(y, weight):
    """Return mean, variance and least sensible variance of y.

    The floors are those of `LinearPrior`: responses without spread, and those far
    from zero, known to their last digit only.
    """
    y, mass = floats(y), total(weight)
    mean = float(weight @ y) / mass
    variance = float(weight @ (y - mean) ** 2) / mass
    floor = max(FLOOR * variance, 1e-20 * mean * mean, 1e-150)
    return mean, max(variance, floor), floor


class GammaFamily(Family):
    """Positive y of mean ``m = exp(eta)`` and variance ``m^2 / a``; the shape is log a.

    ``log p = a log a - a - lgamma(a) - a (y/m - 1 - log(y/m)) - log y``.
    """

    shape_names = ("log_shape",)
    n_sums = 1
    unit_power = (0.0,)

    def target(self, y, trials=None):
        """Return log y."""
        return namespace(y).log(floats(y))[None, :]

    def start(self, target, weight, offset):
        """Return the log of the mean rate, and log a from the half deviance."""
        log_rate = target[0, :] if offset is None else target[0, :] - offset
        xp, mass = namespace(log_rate), total(weight)
        peak = float(xp.max(log_rate))
        log_mean = peak + np.log(float(weight @ xp.exp(log_rate - peak)) / mass)
        # log a - psi(a) equals it; 1 / (2 a) is near enough to start from.
        half_deviance = max(log_mean - float(weight @ log_rate) / mass, 1e-6)
        return np.array([log_mean]), np.array([-np.log(2.0 * half_deviance)])

    def bounds(self, target, weight):
        """Return the range of log a."""
        return np.array([[np.log(1e-4)], [MAX_LOG_SHAPE]])

    def pseudo_rows(self, rows, fraction, target, weight, offset):
        """Return rows of a fraction of the half deviance of the null model."""
        log_shape = self.start(target, weight, offset)[1][0]
        return GammaPseudoRows(rows, fraction * 0.5 * np.exp(-log_shape))

    def log_noise(self, coef, shapes):
        """Return the log of the squared coefficient of variation."""
        return -shapes[:, 0]

    def log_floor(self, target, weight):
        """Return the least of it."""
        return -MAX_LOG_SHAPE

    def density(self, eta, target, shapes):
        """Return log densities, ``y / m - 1`` and half deviances."""
        shape = np.exp(shapes)
        log_ratio = bounded(minus(target[0, :], eta[0, ...]), None, MAX_ETA)
        excess = namespace(log_ratio).expm1(log_ratio)
        half_deviance = excess - log_ratio
        log_prob = half_deviance * like(excess, -shape)
        log_prob += like(excess, gamma_entropy(shape))
        log_prob -= target[0, :]
        return log_prob, (excess, half_deviance)

    def fill(self, work, target, shapes, weight, gram_rows, score_rows):
        """Write weights and scores; sum half deviances."""
        excess, half_deviance = work
        gram = gram_rows[0, ...]
        multiply(weight, like(weight, np.exp(shapes)), gram)
        multiply(gram, excess, score_rows[0, ...])
        return row_dots(half_deviance, weight)[:, None]

    def shape_terms(self, sums, mass, shapes):
        """Return derivative and information in log a."""
        shape = np.exp(shapes[:, 0])
        slope = shape * (mass * (np.log(shape) - special.psi(shape)) - sums[:, 0])
        return slope[:, None], (mass * gamma_surplus(shape))[:, None, None]


class StudentFamily(Family):
    """Location eta; the shapes are the logs of the squared scale and of df.

    With ``z = (y - eta)^2 / s2`` and ``u = (v + 1) / (v + z)`` the score in eta is
    ``u (y - eta) / s2``. Derivatives are those of the t density itself, and the
    information is its Fisher information (Lange, Little & Taylor 1989).

    Parameters
    ----------
    df : float or None
        Degrees of freedom; None: learned, the second shape.
    """

    n_sums = 2
    max_step = np.array([np.inf])

    def __init__(self, df=None):
        self.df = df
        learned = df is None
        self.shape_names = ("log_scale2", "log_df") if learned else ("log_scale2",)
        self.unit_power = (1.0, 0.0) if learned else (1.0,)

    def degrees(self, shapes):
        """Return the degrees of freedom of each expert."""
        if self.df is None:
            return np.exp(shapes[:, 1])
        return np.full(len(shapes), float(self.df))

    def start(self, target, weight, offset):
        """Return the mean of y, half its variance and five degrees of freedom."""
        mean, variance, floor = weighted_moments(target[0, :], weight)
        shapes = np.log([max(0.5 * variance, floor), 5.0])
        return np.array([mean]), shapes[: len(self.shape_names)]

    def bounds(self, target, weight):
        """Return the ranges of log squared scale and log df."""
        floor = weighted_moments(target[0, :], weight)[2]
        low, high = np.log([floor, DF_BOUNDS[0]]), np.log([1e300, DF_BOUNDS[1]])
        return np.stack([low, high])[:, : len(self.shape_names)]

    def pseudo_rows(self, rows, fraction, target, weight, offset):
        """Return rows of a fraction of the variance of y, as squared residual."""
        variance = weighted_moments(target[0, :], weight)[1]
        return ScalePseudoRows(rows, fraction * variance, 0.5, np.log(variance))

    def log_noise(self, coef, shapes):
        """Return the log squared scale."""
        return shapes[:, 0]

    def log_floor(self, target, weight):
        """Return the least log squared scale."""
        return np.log(weighted_moments(target[0, :], weight)[2])

    def density(self, eta, target, shapes):
        """Return log densities, residuals, squares and their logarithms."""
        df = self.degrees(shapes)
        error = minus(target[0, :], eta[0, ...])
        square = error * like(error, np.exp(-0.5 * shapes[:, :1]))
        square *= square
        log_tail = namespace(error).log1p(square / like(error, df[:, None]))
        constant = special.gammaln(0.5 * (df + 1.0)) - special.gammaln(0.5 * df)
        constant -= 0.5 * (np.log(np.pi * df) + shapes[:, 0])
        log_prob = log_tail * like(error, (-0.5 * (df + 1.0))[:, None])
        log_prob += like(error, constant[:, None])
        return log_prob, (error, square, log_tail)

    def fill(self, work, target, shapes, weight, gram_rows, score_rows):
        """Write weights and scores; sum ``u z`` and ``log(1 + z / v)``."""
        error, square, log_tail = work
        df, score = self.degrees(shapes)[:, None], score_rows[0, ...]
        precision = np.exp(-shapes[:, :1])
        expected = precision * (df + 1.0) / (df + 3.0)
        multiply(weight, like(weight, expected), gram_rows[0, ...])
        pull = like(weight, df + 1.0) / (like(weight, df) + square)
        pull *= weight
        multiply(pull, error, score)
        score *= like(weight, precision)
        sums = [row_dots(pull, square)[:, None], row_dots(log_tail, weight)[:, None]]
        return concatenate(sums, axis=1)

    def shape_terms(self, sums, mass, shapes):
        """Return derivatives and Fisher information in the shapes."""
        df = self.degrees(shapes)
        slope = np.empty_like(shapes)
        slope[:, 0] = 0.5 * (sums[:, 0] - mass)
        information = np.empty((*shapes.shape, shapes.shape[1]))
        information[:, 0, 0] = 0.5 * df / (df + 3.0)
        if self.df is None:
            gap = special.psi(0.5 * (df + 1.0)) - special.psi(0.5 * df) - 1.0 / df
            slope[:, 1] = 0.5 * df * (mass * gap - sums[:, 1] + sums[:, 0] / df)
            own = special.zeta(2.0, 0.5 * df) - special.zeta(2.0, 0.5 * (df + 1.0))
            rest = (df + 5.0) / (2.0 * df * (df + 1.0) * (df + 3.0))
            information[:, 1, 1] = df * df * np.maximum(0.25 * own - rest, 0.0)
            information[:, 0, 1] = -df / ((df + 1.0) * (df + 3.0))
            information[:, 1, 0] = information[:, 0, 1]
        return slope, information * mass[:, None, None]


class LaplaceFamily(Family):
    """``p(y) = exp(-|y - eta| / b) / (2 b)``; the shape is log b.

    The weights are those of the parabola that touches the absolute value at the
    current residual (iteratively reweighted least squares, an MM step: Hunter &
    Lange 2000), and within a hair of zero of one that touches it there.
    """

    shape_names = ("log_scale",)
    n_sums = 1
    max_step = np.array([np.inf])
    unit_power = (2.0,)
    smooth = False

    def start(self, target, weight, offset):
        """Return the mean of y and the scale of its variance."""
        mean, variance, _ = weighted_moments(target[0, :], weight)
        return np.array([mean]), np.array([0.5 * np.log(0.5 * variance)])

    def bounds(self, target, weight):
        """Return the range of log b."""
        floor = weighted_moments(target[0, :], weight)[2]
        return np.array([[0.5 * np.log(0.5 * floor)], [np.log(1e150)]])

    def pseudo_rows(self, rows, fraction, target, weight, offset):
        """Return rows whose residual has a fraction of the variance of y."""
        variance = weighted_moments(target[0, :], weight)[1]
        size, reference = np.sqrt([0.5 * fraction * variance, 0.5 * variance])
        return ScalePseudoRows(rows, size, 1.0, np.log(reference))

    def log_noise(self, coef, shapes):
        """Return the log variance ``2 b^2``."""
        return np.log(2.0) + 2.0 * shapes[:, 0]

    def log_floor(self, target, weight):
        """Return the least log variance."""
        return np.log(weighted_moments(target[0, :], weight)[2])

    def density(self, eta, target, shapes):
        """Return log densities, residuals and their sizes."""
        error = minus(target[0, :], eta[0, ...])
        size = namespace(error).abs(error)
        log_prob = size * like(error, -np.exp(-shapes))
        log_prob -= like(error, shapes + np.log(2.0))
        return log_prob, (error, size)

    def fill(self, work, target, shapes, weight, gram_rows, score_rows):
        """Write weights and scores; sum the sizes of residuals."""
        error, size = work
        gram, scale = gram_rows[0, ...], np.exp(shapes)
        sums = row_dots(size, weight)[:, None]
        size = namespace(size).maximum(size, like(size, CORNER * scale))
        size *= like(size, scale)
        gram[...] = weight / size
        multiply(gram, error, score_rows[0, ...])
        return sums

    def shape_terms(self, sums, mass, shapes):
        """Return derivative and information in log b."""
        slope = sums * np.exp(-shapes) - mass[:, None]
        return slope, mass[:, None, None]


class HeteroscedasticFamily(Family):
    """Gaussian of mean ``eta_0`` and log variance ``eta_1``.

    Parameters
    ----------
    least : float
        The least log variance of a row.
    """

    n_predictors = 2
    predictor_names = ("", "log variance")
    max_step = np.array([np.inf, 2.0])

    def __init__(self, least=-MAX_ETA):
        self.least = least

    def start(self, target, weight, offset):
        """Return mean and log variance of y."""
        mean, variance, _ = weighted_moments(target[0, :], weight)
        return np.array([mean, np.log(variance)]), np.empty(0)

    def pseudo_rows(self, rows, fraction, target, weight, offset):
        """Return rows at the center of the columns, as of `StudentFamily`."""
        variance = weighted_moments(target[0, :], weight)[1]
        return ScalePseudoRows(rows, fraction * variance, 0.5, np.log(variance), 1)

    def log_noise(self, coef, shapes):
        """Return the log variance at the center of the columns."""
        return coef[:, 1, 0]

    def log_floor(self, target, weight):
        """Return the least log variance of a row."""
        return self.least

    def density(self, eta, target, shapes):
        """Return log densities, residuals, squares and precisions."""
        error = minus(target[0, :], eta[0, ...])
        spread = bounded(eta[1, ...], self.least, MAX_ETA)
        precision = namespace(spread).exp(-spread)
        square = error * error
        square *= precision
        spread += LOG_2PI
        spread += square
        spread *= -0.5
        return spread, (error, square, precision)

    def fill(self, work, target, shapes, weight, gram_rows, score_rows):
        """Write weights and scores of both predictors."""
        error, square, precision = work
        gram, half_weight = gram_rows[0, ...], gram_rows[1, ...]
        multiply(weight, precision, gram)
        multiply(gram, error, score_rows[0, ...])
        multiply(weight, 0.5, half_weight)
        square -= 1.0
        multiply(square, half_weight, score_rows[1, ...])
