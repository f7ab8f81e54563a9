"""The predictive law of a mixture of experts."""

from functools import cached_property

import numpy as np
from sklearn.utils import check_random_state

from skmoe.law._crps import mixture_crps
from skmoe.law._levels import check_level, check_levels
from skmoe.law._modes import gaussian_modes, searched_modes
from skmoe.law._pooled import PooledLaw, expanded
from skmoe.law._quantiles import mixture_quantiles
from skmoe.law._regions import class_levels, density_levels, highest_density
from skmoe.likelihoods import Categorical, Gaussian

__all__ = ["MixtureDistribution"]


class MixtureDistribution(PooledLaw):
    """The law ``p(y | x) = sum_k g_k(x) p_k(y | x)`` of each of some rows.

    The experts may be of unlike families. Where one of them is a count or a point
    mass and another one has a density, the law is mixed: `log_prob` adds the
    log probabilities of the ones and the log densities of the others.

    Parameters
    ----------
    log_gate : array of shape (n_samples, n_experts)
        Log gate probabilities, -inf for experts that were skipped.
    params : list of arrays
        What each expert predicts for the rows; see `skmoe.likelihoods`.
    dispersions : list
        Each expert's dispersion.
    likelihoods : list of Likelihood
    winner : array of int of shape (n_samples,), default=None
        The expert that `top1` follows; None: the most probable one.
    """

    def __repr__(self):
        n_samples, n_experts = self.log_gate.shape
        families = dict.fromkeys(type(family).__name__ for family in self.likelihoods)
        family = "+".join(families)
        return (
            f"MixtureDistribution(n_samples={n_samples}, n_experts={n_experts}, "
            f"family={family})"
        )

    @cached_property
    def mode(self):
        """Point of highest density; the code of the most probable class.

        Counts are exact. A probability and a density cannot be compared: of a
        mixed law it is the mode of that kind, counts and point masses or
        densities, which holds at least half of the probability.
        """
        if self._categorical:
            return self.mean.argmax(axis=1)
        if all(isinstance(family, Gaussian) for family in self.likelihoods):
            means = self.means.reshape(*self.log_gate.shape, -1)
            mode = gaussian_modes(self.log_gate, means, self.dispersions)
            return mode.reshape(self.mean.shape)
        return searched_modes(self.log_gate, self._parts())

    def cdf(self, y):
        """Return P(Y <= y) of each row.

        Parameters
        ----------
        y : array of shape (n_samples,), or class codes

        Returns
        -------
        cdf : array of shape (n_samples,)

        Raises
        ------
        ValueError
            If there are several outputs: their joint cdf is not offered.
        """
        y = self._check_response(y)
        self._check_single_output("cdf")
        below = self._of_each("cdf", y).reshape(self.log_gate.shape)
        return (self.gate * below).sum(axis=1)

    def quantile(self, q):
        """Return the smallest y whose cdf is at least q.

        Exact for continuous laws but for rounding, exact for counts and
        classes; at the jumps of a mixed law it is the point of the jump.

        Parameters
        ----------
        q : float or array-like of shape (n_levels,)
            Levels in [0, 1]; 0 and 1 stand for the ends of the support.

        Returns
        -------
        quantile : array of shape (n_samples,) or (n_samples, n_levels)
            Class codes for a classification law.

        Raises
        ------
        ValueError
            If a level is no number in [0, 1], or there are several outputs.
        """
        levels = check_levels(q)
        if self._categorical:
            with np.errstate(divide="ignore"):
                log_proba = np.log(self.mean)
            columns = [
                Categorical().quantile(level, log_proba) for level in levels.flat
            ]
            found = np.stack(columns, axis=1)
        else:
            self._check_single_output("quantile")
            found = mixture_quantiles(self.gate, self._single_parts(), levels.ravel())
        return found if levels.ndim else found[:, 0]

    def interval(self, level=0.9, *, method="central"):
        """Return where the response lies with a given probability.

        The central interval leaves the same probability on both sides. The
        highest-density region is the smallest set that holds the level: one
        interval, or several where the law has several modes. Where the density is
        flat, what is nearer to the middle of the law comes first. Of counts it is the
        smallest set that reaches the level. Beside a density a probability is
        infinitely dense: of a mixed law the most probable atoms come first, and the
        density takes what is left of the level.

        Parameters
        ----------
        level : float, default=0.9
            Probability in (0, 1).
        method : {"central", "highest-density"}, default="central"

        Returns
        -------
        interval : array of shape (n_samples, 2), or IntervalUnion
            Lower and upper ends of central intervals; a union of intervals for
            each row for "highest-density".

        Raises
        ------
        ValueError
            If the level is not in (0, 1), the method is unknown, there are several
            outputs, or the responses are classes: see `class_set`.
        """
        level = check_level(level)
        if method not in ("central", "highest-density"):
            raise ValueError(
                f'method must be "central" or "highest-density", got {method!r}.'
            )
        self._check_single_output("interval", "class_set(level)")
        if method == "central":
            return self.quantile([0.5 * (1.0 - level), 0.5 * (1.0 + level)])
        return highest_density(self.gate, self._single_parts(), level)

    def class_set(self, level=0.9):
        """Return the smallest sets of classes that reach a probability.

        Parameters
        ----------
        level : float, default=0.9
            Probability in (0, 1).

        Returns
        -------
        class_set : array of bool of shape (n_samples, n_classes)
            Which classes belong to it, the most probable ones first, the lower
            code of two.

        Raises
        ------
        ValueError
            If the level is not in (0, 1), or the responses are numbers.
        """
        level = check_level(level)
        if not self._categorical:
            raise ValueError(
                "class_set is for classes; of numbers "
                'interval(level, method="highest-density") returns the same.'
            )
        return class_levels(self.mean) < level

    def density_level(self, y):
        """Return the probability of what is denser than y.

        It is 0 at the mode and near 1 in the tails: a response lies in the
        highest-density region of a level, or in the `class_set`, if its density
        level is lower.

        Parameters
        ----------
        y : array of shape (n_samples,), or class codes

        Returns
        -------
        level : array of shape (n_samples,)

        Raises
        ------
        ValueError
            If there are several outputs.
        """
        y = self._check_response(y)
        if self._categorical:
            return class_levels(self.mean)[np.arange(len(self)), y]
        self._check_single_output("density_level")
        return density_levels(self.gate, self._single_parts(), y.reshape(len(self)))

    def crps(self, y):
        """Return the continuous ranked probability score of each row.

        ``int (F(t) - 1{t >= y})**2 dt = E|Y - y| - E|Y - Y'| / 2`` (Gneiting and
        Raftery 2007): of a law that is one point, the absolute error. In closed
        form for normal densities, by quadrature for other families.

        Parameters
        ----------
        y : array of shape (n_samples,)

        Returns
        -------
        crps : array of shape (n_samples,)
            In the unit of y; lower is better.

        Raises
        ------
        ValueError
            If there are several outputs, or the responses are classes.
        """
        y = self._check_response(y)
        self._check_single_output("crps", "log_prob")
        return mixture_crps(self.gate, self._single_parts(), y.reshape(len(self)))

    def sample(self, n_draws=1, random_state=None):
        """Draw responses.

        Parameters
        ----------
        n_draws : int, default=1
        random_state : int, RandomState instance or None, default=None

        Returns
        -------
        draws : array of shape (n_draws, n_samples[, n_outputs])
            Class codes for a classification law.
        """
        rng = check_random_state(random_state)
        level = rng.random_sample((n_draws, len(self), 1))
        cumulative = self.gate.cumsum(axis=1)
        winner = (level * cumulative[:, -1:] > cumulative).sum(axis=2)
        return self.sample_given(winner, rng)

    def sample_given(self, experts, random_state=None):
        """Draw responses of given experts, whatever the gate says of them.

        Parameters
        ----------
        experts : array of int of shape (n_draws, n_samples)
        random_state : int, RandomState instance or None, default=None

        Returns
        -------
        draws : array of shape (n_draws, n_samples[, n_outputs])
            Class codes for a classification law.
        """
        rng, out = check_random_state(random_state), None
        for k, (params, dispersion, family) in enumerate(self._parts()):
            draws = family.sample(params, dispersion, len(experts), rng)
            out = np.zeros_like(draws) if out is None else out
            np.copyto(out, draws, where=expanded(experts == k, draws.ndim))
        return out

    def _single_parts(self):
        """Return the parts with a mean of one column as one number a row."""
        one = (len(self),)
        return [
            (
                params.reshape(one) if params.shape == (*one, 1) else params,
                spread,
                family,
            )
            for params, spread, family in self._parts()
        ]

    def _check_single_output(self, name, of_classes=None):
        if self._categorical and of_classes:
            raise ValueError(f"{name} is for numbers; of classes, see {of_classes}.")
        if not self._categorical and self.means[0, 0].size > 1:
            raise ValueError(
                f"{name} needs a single output, got {self.means.shape[2]} outputs."
            )
