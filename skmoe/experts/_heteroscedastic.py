"""The heteroscedastic expert: mean and log variance linear in x."""

import numpy as np

from skmoe._xp import namespace
from skmoe.experts._families import MAX_ETA
from skmoe.experts._glm_base import LinearPredictorExpert
from skmoe.experts._real_families import HeteroscedasticFamily, weighted_moments
from skmoe.likelihoods import RowGaussian

__all__ = ["HeteroscedasticExpert"]


class HeteroscedasticExpert(LinearPredictorExpert):
    """Linear regression whose log variance is linear in x too.

    ``p(y | x) = N(y; b' z, exp(c' z))`` with z the standardised columns. The two
    predictors are orthogonal, so that each pass is one weighted least squares for b
    and one step of Fisher scoring for c (Smyth 1989). The log prior is
    ``-alpha / (2 v) |b - b_all|^2 - variance_alpha / 2 |c - c_all|^2`` around one fit
    of all rows, with v its variance at the center of the columns.

    Parameters
    ----------
    alpha : float, default=2.0
        Ridge on the slopes of the mean. ``alpha=0`` is maximum likelihood.
    variance_alpha : float, default=2.0
        Ridge on the slopes of the log variance.
    variance_prior : tuple (rows, fraction) or None, default=(5.0, 0.05)
        Inverse-gamma prior on the variance at the center of the columns, worth
        ``rows`` rows whose squared residual is ``fraction`` of the variance of y.
        (Of sparse columns: where they are zero, as they are not centred.) None: none;
        a floor of 1e-10 of the variance of y remains.
    max_iter : int, default=100
        Steps of ``fit``. Inside a mixture each pass of EM takes one.
    tol : float, default=1e-8
        ``fit`` stops when a step gains less, relative to the objective.

    Attributes
    ----------
    coef_ : array of shape (n_features,)
        Slopes of the mean on the scale of the user's columns.
    intercept_ : float
    variance_coef_ : array of shape (n_features,)
        Slopes of the log variance on the scale of the user's columns.
    variance_intercept_ : float
    n_iter_ : int

    References
    ----------
    Smyth, G. K. (1989). Generalized linear models with varying dispersion. JRSS B 51.
    """

    likelihood = RowGaussian()

    def __init__(
        self,
        alpha=2.0,
        *,
        variance_alpha=2.0,
        variance_prior=(5.0, 0.05),
        max_iter=100,
        tol=1e-8,
    ):
        self.alpha = alpha
        self.variance_alpha = variance_alpha
        self.variance_prior = variance_prior
        self.max_iter = max_iter
        self.tol = tol

    def fit(self, X, y, sample_weight=None):
        """Fit to weighted rows.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
        y : array-like of shape (n_samples,)
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        self : HeteroscedasticExpert
        """
        return self._fit(X, y, sample_weight)

    def predict(self, X, return_std=False):
        """Return the mean of y, and its standard deviation if asked for.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
        return_std : bool, default=False

        Returns
        -------
        mean : array of shape (n_samples,)
        std : array of shape (n_samples,)
            Only with ``return_std``; same unit as y.
        """
        mean, variance = self._at_rows(X)[0].T
        return (mean, np.sqrt(variance)) if return_std else mean

    def check_parameters(self):
        """Raise a ValueError that names the first bad constructor argument."""
        super().check_parameters()
        self._check_not_negative("variance_alpha")
        self._check_rows("variance_prior")

    def _family(self, y, weight):
        floor = weighted_moments(y, weight)[2]
        return HeteroscedasticFamily(float(np.log(floor)))

    def _ridges(self, most, log_noise):
        alphas = np.minimum([self.alpha, self.variance_alpha], most)
        # In units of the noise, as in `LinearExpert`; here a fixed one.
        alphas[0] *= np.exp(-log_noise[0])
        return alphas[:, None] * self.design_.penalised

    def _dispersion_rows(self):
        return self.variance_prior

    def params_at(self, eta, known):
        """Return means and variances, of shape (n_samples, 2)."""
        xp, least = namespace(eta), self.kernel_.family.least
        variance = xp.exp(xp.clip(eta[:, 1], least, MAX_ETA))
        return xp.stack([eta[:, 0], variance], axis=1)

    @property
    def variance_coef_(self):
        """Slopes of the log variance on the scale of the user's columns."""
        return self.design_.to_columns(self.kernel_.coef[0, 1])[0]

    @property
    def variance_intercept_(self):
        """Intercept that goes with ``variance_coef_``."""
        return float(self.design_.to_columns(self.kernel_.coef[0, 1])[1])
