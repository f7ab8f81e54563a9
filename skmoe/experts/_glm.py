"""Generalised linear experts with a log link: counts and positive responses."""

import numpy as np
from scipy import special

from skmoe._xp import floats, namespace
from skmoe.experts._count_families import NegativeBinomialFamily, PoissonFamily
from skmoe.experts._families import MAX_ETA
from skmoe.experts._glm_base import GlmExpert
from skmoe.experts._known import split_known
from skmoe.experts._real_families import GammaFamily
from skmoe.likelihoods import Gamma, NegativeBinomial, Poisson

__all__ = ["GammaExpert", "NegativeBinomialExpert", "PoissonExpert"]


class _LogLinkExpert(GlmExpert):
    """The mean is the exponential of linear predictor plus offset."""

    def __init__(
        self,
        alpha=1.0,
        *,
        fit_intercept=True,
        offset=None,
        exposure=None,
        max_iter=100,
        tol=1e-8,
    ):
        self.alpha = alpha
        self.fit_intercept = fit_intercept
        self.offset = offset
        self.exposure = exposure
        self.max_iter = max_iter
        self.tol = tol

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.positive_only = True
        return tags

    def fit(self, X, y, sample_weight=None, offset=None):
        """Fit to weighted rows.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
        y : array-like of shape (n_samples,)
        sample_weight : array-like of shape (n_samples,), default=None
        offset : array-like of shape (n_samples,), default=None
            Added to the linear predictor: the log of an exposure.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            If a response cannot occur, an argument is out of range, or the offset
            is of the wrong length, not finite or given twice.
        """
        return self._fit(X, y, sample_weight, offset=offset)

    def predict(self, X, offset=None):
        """Return the expected response, of shape (n_samples,).

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
        offset : array-like of shape (n_samples,), default=None
            None: zero, so an exposure of one, unless a column of X holds it.
        """
        return self._means(X, offset=offset)[0]

    def deviance(self, X, y, sample_weight=None, offset=None):
        """Return the mean deviance; parameters as in `fit`.

        Twice the log-likelihood that a perfect fit of the same dispersion has more,
        for each row.
        """
        return self._deviance(X, y, sample_weight, offset=offset)

    def score(self, X, y, sample_weight=None, offset=None):
        """Return D^2, the explained share of the deviance; parameters as in `fit`.

        It is 1 at best, and 0 for a constant rate: the mean of y over that of the
        exposure.
        """
        return self._explained(X, y, sample_weight, offset=offset)

    def params_at(self, eta, known):
        """Return the mean."""
        xp = namespace(eta)
        return xp.exp(xp.clip(eta[:, 0], -MAX_ETA, MAX_ETA))

    def start_target(self, X, y):
        """Return the log of the rate, half a count added; (n_samples, 1)."""
        offset = split_known(X, self.known)[1].get("offset", 0.0)
        xp = namespace(y)
        log_rate = xp.log(xp.clip(floats(y), 0.0, None) + 0.5) - offset
        return xp.reshape(log_rate, (-1, 1))

    def _null(self, y, known, weight):
        """Return the means of a constant rate."""
        exposure = np.exp(known.get("offset", np.zeros_like(y)))
        return exposure * (weight @ y / (weight @ exposure))


class PoissonExpert(_LogLinkExpert):
    """Poisson regression of counts, fitted by weighted damped Newton steps.

    ``p(y | x) = m^y exp(-m) / y!`` with ``log m = b' z + offset`` and z the columns
    standardised by their weighted mean and deviation. As an expert its coefficients
    are shrunk towards one fit of all rows, with log prior
    ``-alpha / 2 |b - b_all|^2``; that fit carries a ridge of ``min(alpha, 1)``
    around zero. Counts need not be whole: ``y!`` is ``gamma(y + 1)``.

    Parameters
    ----------
    alpha : float, default=1.0
        Ridge on the slopes of the standardised columns, never on the intercept.
        ``alpha=0`` is maximum likelihood.
    fit_intercept : bool, default=True
    offset, exposure : str or int, default=None
        Name or position of the column of X that is added to the linear predictor
        (offset), or whose log is (exposure). It has no coefficient.
    max_iter : int, default=100
        Steps of ``fit``. Inside a mixture each pass of EM takes one.
    tol : float, default=1e-8
        ``fit`` stops when a step gains less, relative to the objective.

    Attributes
    ----------
    coef_ : array of shape (n_features,)
        Slopes on the scale of the user's columns, offset or exposure left out.
    intercept_ : float
    n_iter_ : int
        Steps of ``fit``.

    References
    ----------
    McCullagh, P. and Nelder, J. A. (1989). Generalized Linear Models, 6.
    """

    likelihood = Poisson()
    support_note = "PoissonExpert needs counts y >= 0."

    def _family(self, y, weight):
        return PoissonFamily()

    def _deviances(self, y, mean, known):
        return 2.0 * (special.xlogy(y, y / mean) - y + mean)


class NegativeBinomialExpert(_LogLinkExpert):
    """Negative binomial regression of overdispersed counts.

    The mean m is that of `PoissonExpert`, the variance ``m + m^2 / theta``. Each
    step is one of Fisher scoring in the coefficients and of Newton in log theta, on
    the observed likelihood. Theta lies between 1e-3 and 1e6: there counts are
    Poisson for all that can be seen.

    Parameters
    ----------
    alpha, fit_intercept, offset, exposure, max_iter, tol :
        As in `PoissonExpert`.

    Attributes
    ----------
    coef_, intercept_, n_iter_ :
        As in `PoissonExpert`.
    dispersion : float
        theta, the size.

    References
    ----------
    Lawless, J. F. (1987). Negative binomial and mixed Poisson regression. Canadian
    Journal of Statistics 15.
    """

    likelihood = NegativeBinomial()
    support_note = "NegativeBinomialExpert needs counts y >= 0."

    def _family(self, y, weight):
        return NegativeBinomialFamily()

    @property
    def dispersion(self):
        """Theta, the size: the variance is ``mean + mean^2 / theta``."""
        return float(np.exp(self.kernel_.shapes[0, 0]))

    def _deviances(self, y, mean, known):
        theta = self.dispersion
        total = (y + theta) * np.log1p((y - mean) / (mean + theta))
        return 2.0 * (special.xlogy(y, y / mean) - total)


class GammaExpert(_LogLinkExpert):
    """Gamma regression of positive responses with a log link.

    The mean is ``exp(b' z + offset)`` and the variance ``dispersion * mean^2``. The
    dispersion is the maximum-likelihood one (scikit-learn's and R's is a moment).

    Parameters
    ----------
    alpha, fit_intercept, offset, exposure, max_iter, tol :
        As in `PoissonExpert`.
    dispersion_prior : tuple (rows, fraction) or None, default=(5.0, 0.05)
        Conjugate prior of the shape, worth ``rows`` rows whose half deviance,
        ``y / m - 1 - log(y / m)``, is ``fraction`` of its mean under a constant
        rate. Without it the likelihood of a mixture is unbounded: an expert may
        settle on a few rows that it fits exactly. The dispersion is at least 1e-8.

    Attributes
    ----------
    coef_, intercept_, n_iter_ :
        As in `PoissonExpert`.
    dispersion : float
        The inverse of the shape; without unit.

    References
    ----------
    McCullagh, P. and Nelder, J. A. (1989). Generalized Linear Models, 8.
    """

    likelihood = Gamma()
    support_note = "GammaExpert needs responses y > 0."

    def __init__(
        self,
        alpha=1.0,
        *,
        fit_intercept=True,
        offset=None,
        exposure=None,
        dispersion_prior=(5.0, 0.05),
        max_iter=100,
        tol=1e-8,
    ):
        super().__init__(
            alpha,
            fit_intercept=fit_intercept,
            offset=offset,
            exposure=exposure,
            max_iter=max_iter,
            tol=tol,
        )
        self.dispersion_prior = dispersion_prior

    def _family(self, y, weight):
        return GammaFamily()

    def check_parameters(self):
        """Raise a ValueError that names the first bad constructor argument."""
        super().check_parameters()
        self._check_rows("dispersion_prior")

    def _dispersion_rows(self):
        return self.dispersion_prior

    @property
    def dispersion(self):
        """The inverse of the shape: the variance is ``dispersion * mean^2``."""
        return float(np.exp(-self.kernel_.shapes[0, 0]))

    def start_target(self, X, y):
        """Return the log of the rate, of shape (n_samples, 1).

        Of responses that cannot occur: the log of half the least that can.
        """
        offset = split_known(X, self.known)[1].get("offset", 0.0)
        y, xp = floats(y), namespace(y)
        positive = y > 0.0
        least = float(xp.min(xp.where(positive, y, np.inf)))
        least = 0.5 * least if least < np.inf else 1.0
        log_rate = xp.log(xp.where(positive, y, least)) - offset
        return xp.reshape(log_rate, (-1, 1))

    def _deviances(self, y, mean, known):
        ratio = y / mean
        return 2.0 * (ratio - 1.0 - np.log(ratio))

    def _null(self, y, known, weight):
        exposure = np.exp(known.get("offset", np.zeros_like(y)))
        return exposure * (weight @ (y / exposure) / weight.sum())
