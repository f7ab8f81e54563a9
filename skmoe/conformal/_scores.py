"""Strangeness scores of responses under a law, and the responses below a threshold.

For each score s the sets ``{y : s(x, y) <= t}`` grow with t, from a centre of the law
to the whole line. ``convex`` says whether they are intervals, and ``rounding`` how far
above a threshold a score still counts as equal to it.
"""

import numpy as np

from skmoe.distribution import MixtureDistribution
from skmoe.law._intervals import IntervalUnion
from skmoe.law._regions import highest_density

__all__ = ["SCORES", "CentralScore", "DensityScore", "QuantileScore"]

# Of probabilities. For counts the border of a set is a whole integer, which rounding
# must not lose.
ROUNDING = 1e-10
# From here on a highest-density set is the whole line.
WHOLE = 1.0 - 1e-8


class QuantileScore:
    """How far y lies outside of the law's own interval; negative inside.

    ``s = max(q_low(x) - y, y - q_high(x))``, in the unit of y, with the quantiles of
    (1 - level) / 2 and (1 + level) / 2: conformalised quantile regression (Romano,
    Patterson and Candes 2019, equation 7). One length widens or narrows all intervals.

    Parameters
    ----------
    level : float
    """

    convex, rounding = True, 0.0

    def __init__(self, level):
        self._levels = [0.5 * (1.0 - level), 0.5 * (1.0 + level)]

    def of(self, law, y):
        """Return the scores of responses, of shape (n_samples,)."""
        low, high = law.quantile(self._levels).T
        return np.maximum(low - y, y - high)

    def sets(self, law, threshold):
        """Return the responses whose score is at most the threshold of their row.

        Where a negative threshold leaves nothing it is the middle of the interval.
        """
        low, high = law.quantile(self._levels).T
        middle = 0.5 * (low + high)
        lower = np.minimum(low - threshold, middle)
        upper = np.maximum(high + threshold, middle)
        return IntervalUnion(lower[:, None], upper[:, None])

    def ladder(self, law, thresholds):
        """Return the sets of several thresholds, each the same for all rows."""
        low, high = law.quantile(self._levels).T[:, :, None]
        middle = 0.5 * (low + high)
        lower = np.minimum(low - thresholds, middle)
        return _columns(lower, np.maximum(high + thresholds, middle))


class CentralScore:
    """How far y lies from the median, in probability: 0 there, 1/2 far out.

    ``s = max(1/2 - F(y), F(y-) - 1/2)`` with F the law's cdf: distributional conformal
    prediction (Chernozhukov, Wuethrich and Zhu 2021), written so that it is right for
    counts too. Its sets are central intervals of the law, each at the level it takes.

    Parameters
    ----------
    level : float
        Not used: the same scores serve all levels.
    """

    convex, rounding = True, ROUNDING

    def __init__(self, level):
        pass

    def of(self, law, y):
        """Return the scores of responses, of shape (n_samples,)."""
        before = law.cdf(np.nextafter(y, -np.inf))
        return np.maximum(0.5 - law.cdf(y), before - 0.5)

    def sets(self, law, threshold):
        """Return the responses whose score is at most the threshold of their row.

        The whole line at 1/2, which is the score of all that the law deems impossible.
        """
        lower, upper = np.full((2, len(law), 1), [[[-np.inf]], [[np.inf]]])
        tails = np.maximum(0.5 - threshold - ROUNDING, 0.0)
        for tail in np.unique(tails[tails > 0.0]):
            rows = np.flatnonzero(tails == tail)
            ends = _rows_of(law, rows).quantile([tail, 1.0 - tail])
            lower[rows], upper[rows] = ends[:, :1], ends[:, 1:]
        return IntervalUnion(lower, upper)

    def ladder(self, law, thresholds):
        """Return the sets of several thresholds, each the same for all rows."""
        tails = np.maximum(0.5 - thresholds - ROUNDING, 0.0)
        lower, upper = law.quantile(tails), law.quantile(1.0 - tails)
        lower[:, tails == 0.0], upper[:, tails == 0.0] = -np.inf, np.inf
        return _columns(lower, upper)


class DensityScore:
    """Probability of what is denser than y: 0 at the mode, near 1 in the tails.

    ``s = P(p(Y | x) > p(y | x))`` under the law: HPD-split (Izbicki, Shimizu and Stern
    2022). Its sets are highest-density regions, of several pieces where the law has
    several modes. Under the true law s is uniform whatever x, so that one threshold
    suits all rows.

    Parameters
    ----------
    level : float
        Not used: the same scores serve all levels.
    """

    convex, rounding = False, ROUNDING

    def __init__(self, level):
        pass

    def of(self, law, y):
        """Return the scores of responses, of shape (n_samples,)."""
        return law.density_level(y)

    def sets(self, law, threshold):
        """Return the responses whose score is at most the threshold of their row."""
        parts = list(zip(law.params, law.dispersions, law.likelihoods, strict=True))
        level = np.clip(threshold + ROUNDING, ROUNDING, WHOLE)
        region = highest_density(law.gate, parts, level)
        whole = level == WHOLE
        region.lower[whole], region.upper[whole] = np.nan, np.nan
        region.lower[whole, 0], region.upper[whole, 0] = -np.inf, np.inf
        return region

    def ladder(self, law, thresholds):
        """Return the sets of several thresholds, each the same for all rows."""
        return [self.sets(law, np.full(len(law), value)) for value in thresholds]


def _columns(lower, upper):
    """Return a union of each column of ends."""
    return [
        IntervalUnion(*ends)
        for ends in zip(lower.T[..., None], upper.T[..., None], strict=True)
    ]


def _rows_of(law, rows):
    """Return the law of some of the rows."""
    if rows.size == len(law):
        return law
    params = [values[rows] for values in law.params]
    return MixtureDistribution(
        law.log_gate[rows], params, law.dispersions, law.likelihoods
    )


SCORES = {
    "quantile": QuantileScore,
    "cdf": CentralScore,
    "highest-density": DensityScore,
}
