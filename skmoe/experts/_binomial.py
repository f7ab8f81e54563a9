"""The binomial expert: successes out of a known number of trials."""

import numpy as np
from scipy import special

from skmoe._special_xp import expit
from skmoe._xp import floats, namespace
from skmoe.experts._count_families import BinomialFamily
from skmoe.experts._glm_base import GlmExpert
from skmoe.experts._known import split_known
from skmoe.likelihoods import Binomial

__all__ = ["BinomialExpert"]

LARGEST_PROBA = 1.0 - float(np.finfo(float).epsneg)


class BinomialExpert(GlmExpert):
    """Binomial regression: successes out of a known number of trials.

    ``p(y | x) = C(m, y) p^y (1 - p)^(m - y)`` with ``logit p = b' z + offset``, y the
    number of successes and m that of trials; coefficients are shrunk as in
    `PoissonExpert`.

    Parameters
    ----------
    alpha, fit_intercept, max_iter, tol :
        As in `PoissonExpert`.
    trials : str or int, default=None
        Name or position of the column of X that holds the number of trials; it has
        no coefficient. Where neither it nor an array is given, one trial each.
    offset : str or int, default=None
        Name or position of the column that is added to the linear predictor.

    Attributes
    ----------
    coef_, intercept_, n_iter_ :
        As in `PoissonExpert`.

    References
    ----------
    McCullagh, P. and Nelder, J. A. (1989). Generalized Linear Models, 4.
    """

    likelihood = Binomial()
    link = "logit"
    support_note = "BinomialExpert needs successes 0 <= y <= trials."

    def __init__(
        self,
        alpha=1.0,
        *,
        fit_intercept=True,
        trials=None,
        offset=None,
        max_iter=100,
        tol=1e-8,
    ):
        self.alpha = alpha
        self.fit_intercept = fit_intercept
        self.trials = trials
        self.offset = offset
        self.max_iter = max_iter
        self.tol = tol

    def fit(self, X, y, sample_weight=None, offset=None, trials=None):
        """Fit to weighted rows.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
        y : array-like of shape (n_samples,)
            Number of successes.
        sample_weight : array-like of shape (n_samples,), default=None
        offset : array-like of shape (n_samples,), default=None
            Added to the linear predictor.
        trials : array-like of shape (n_samples,), default=None

        Returns
        -------
        self : BinomialExpert

        Raises
        ------
        ValueError
            If y is below 0 or above trials, an argument is out of range, or trials
            or offset are of the wrong length, not finite or given twice.
        """
        return self._fit(X, y, sample_weight, offset=offset, trials=trials)

    def predict(self, X, offset=None, trials=None):
        """Return the expected number of successes, of shape (n_samples,)."""
        return self._means(X, offset=offset, trials=trials)[0]

    def deviance(self, X, y, sample_weight=None, offset=None, trials=None):
        """Return the mean deviance; parameters as in `fit`."""
        return self._deviance(X, y, sample_weight, offset=offset, trials=trials)

    def score(self, X, y, sample_weight=None, offset=None, trials=None):
        """Return D^2, the explained share of the deviance; parameters as in `fit`.

        It is 1 at best, and 0 for the same probability in each row.
        """
        return self._explained(X, y, sample_weight, offset=offset, trials=trials)

    def supports(self, X, y):
        """Return which rows have 0 <= y <= trials, of shape (n_samples,)."""
        trials = split_known(X, self.known)[1].get("trials", 1.0)
        return (y >= 0.0) & (y <= trials)

    def log_prob(self, X, y):
        """Return the log probability of each row in nats, -inf where y cannot occur.

        From the logit: of a probability near 1 the other one has lost its digits.
        """
        features, known = split_known(X, self.known)
        y, xp, family = floats(y), namespace(y), BinomialFamily()
        trials = known.get("trials", xp.ones_like(y))
        occurs = self.supports(X, y)
        target = family.target(xp.where(occurs, y, 0.0), xp.where(occurs, trials, 0.0))
        eta = self._predictors(features, known).T[:, None, :]
        log_prob = family.density(eta, target, None)[0][0, :]
        return xp.where(occurs, log_prob, -np.inf)

    def params_at(self, eta, known):
        """Return probabilities and trials, of shape (n_samples, 2)."""
        xp = namespace(eta)
        # Short of 1, or a failure there would have no log probability at all.
        proba = xp.clip(expit(eta[:, 0]), None, LARGEST_PROBA)
        return xp.stack([proba, known.get("trials", xp.ones_like(proba))], axis=1)

    def start_target(self, X, y):
        """Return the logit of the share, half a row of each added; (n_samples, 1)."""
        known = split_known(X, self.known)[1]
        y, xp = floats(y), namespace(y)
        trials = known.get("trials", xp.ones_like(y))
        successes = xp.minimum(xp.clip(y, 0.0, None), trials)
        logit = xp.log((successes + 0.5) / (trials - successes + 0.5))
        return xp.reshape(logit - known.get("offset", 0.0), (-1, 1))

    def _family(self, y, weight):
        return BinomialFamily()

    def _deviances(self, y, mean, known):
        failures = known.get("trials", 1.0) - y
        # Means may be 0 or all trials in double precision; 0 log 0 is 0.
        won = special.xlogy(y, y) - special.xlogy(y, mean)
        lost = special.xlogy(failures, failures)
        return 2.0 * (won + lost - special.xlogy(failures, failures + y - mean))

    def _null(self, y, known, weight):
        trials = known.get("trials", np.ones_like(y))
        return trials * (weight @ y / (weight @ trials))
