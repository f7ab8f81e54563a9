"""The Gaussian process expert."""

import numbers

import numpy as np
from scipy import linalg
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.gaussian_process.kernels import ConstantKernel
from sklearn.utils.validation import check_is_fitted, validate_data

from skmoe._sklearn import check_sample_weight, few_threads
from skmoe.experts._gp_fit import (
    Hyperparameters,
    NoisePrior,
    Schedule,
    fit_process,
    make_process,
)
from skmoe.experts._gp_kernel import check_kernel, default_kernel
from skmoe.experts._gp_rows import Scale, TrainingRows
from skmoe.experts._kept_rows import KeptRows
from skmoe.experts._variance_prior import check_variance_prior
from skmoe.likelihoods import RowGaussian

__all__ = ["GaussianProcessExpert"]

# With less weight than so many rows an expert keeps its hyperparameters.
LEAST_ROWS = 2.0


class GaussianProcessExpert(KeptRows, RegressorMixin, BaseEstimator):
    """Gaussian process regression of weighted rows, with its own noise.

    ``y = c + f(x) + e`` with f a Gaussian process of some kernel, e normal with
    variance s2, and the level c normal around the weighted mean of y with the
    variance of y; c and f are integrated out. The law of a new row is
    ``N(mean(x), v(x) + s2)``, wide where the expert has seen nothing.

    A row of weight q has the noise ``s2 / q``, exactly: kernel and noise maximise

        log N(y; mean, K + s2 diag(1/q)) + sum_i log(2 pi s2/q_i) / 2
                                         - sum_i q_i log(2 pi s2) / 2 + log prior(s2),

    which is what a mixture's lower bound leaves of ``sum_i q_i log N(y_i; f_i, s2)``
    once f is integrated out: a row of weight zero counts for nothing, one of
    weight two as two rows. Those are two rows with the very same y, which argue for
    little noise: weights are counts, not importances.

    L-BFGS climbs it with the kernel's gradient, from where the last fit ended, in
    the first M-steps and then on a schedule; all others only solve for the weights.
    Alone, the expert fits and predicts with one BLAS thread, as mixtures do.

    Since a Gaussian process interpolates, its responsibilities for the training
    rows come from their leave-one-out densities, in closed form; rows with the same
    x are left out together. More than ``max_rows`` distinct rows that carry weight
    are represented by ``max_rows`` inducing rows (Titsias 2009).

    Parameters
    ----------
    kernel : Kernel of `sklearn.gaussian_process.kernels`, default=None
        Without white noise, which is the expert's own. None:
        ``ConstantKernel() * Matern(nu=2.5)``, one length scale for all columns.
    max_rows : int, default=300
        Largest number of (inducing) rows in the algebra: a fit takes time in
        proportion to ``n_samples * max_rows ** 2``.
    refit_every : int, default=5
        M-steps from one fit of the hyperparameters to the next, inside a mixture.
        It doubles whenever a fit gains next to nothing.
    n_restarts : int, default=1
        Further points, spread evenly round the kernel's own hyperparameters, from
        which the first fit is tried.
    standardize : bool, default=True
        Let the kernel see columns and y in units of their weighted standard
        deviation. False: as they are, y around its mean.
    variance_prior : tuple (rows, fraction) or None, default=(5.0, 0.05)
        Inverse-gamma prior on the noise, worth ``rows`` rows whose squared
        residual is ``fraction`` of the variance of y.

    Attributes
    ----------
    kernel_ : Kernel
        The kernel with its fitted hyperparameters.
    noise_ : float
        Noise variance s2; same unit as y squared.
    log_evidence_ : float
        Log marginal likelihood of the weighted rows in nats, of y in its own unit;
        for inducing rows, its lower bound.
    inducing_rows_ : int
        Rows that the predictions are made from.

    References
    ----------
    Rasmussen, C. E. and Williams, C. K. I. (2006). Gaussian Processes for Machine
    Learning, chapters 2 and 5.
    Tresp, V. (2001). Mixtures of Gaussian processes. NIPS 13.

    Examples
    --------
    >>> import numpy as np
    >>> from skmoe.experts import GaussianProcessExpert
    >>> X = np.linspace(0, 6, 40)[:, None]
    >>> model = GaussianProcessExpert().fit(X, np.sin(X[:, 0]))
    >>> model.predict([[np.pi / 2], [np.pi]]).round(2) + 0.0
    array([1., 0.])
    """

    exact_m_step = False
    _of_the_fit = ("_train", "_rows")
    # The engine gives such experts all rows, of which they know the held-out law.
    cross_fit = True
    likelihood = RowGaussian()
    dispersion = None
    _train = None  # (X, held-out params of its rows) of the last M-step
    _rows = None

    def __init__(
        self,
        kernel=None,
        *,
        max_rows=300,
        refit_every=5,
        n_restarts=1,
        standardize=True,
        variance_prior=(5.0, 0.05),
    ):
        self.kernel = kernel
        self.max_rows = max_rows
        self.refit_every = refit_every
        self.n_restarts = n_restarts
        self.standardize = standardize
        self.variance_prior = variance_prior

    def fit(self, X, y, sample_weight=None):
        """Fit to weighted rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,)
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        self : GaussianProcessExpert

        Raises
        ------
        ValueError, TypeError
            If a parameter or the data are not as described.
        """
        X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True)
        weight = check_sample_weight(sample_weight, X)
        y = np.asarray(y, dtype=np.float64)
        with few_threads(X.shape[0]):
            self.prepare(X, y, weight)
            self.m_step(X, y, weight)
        self.finish()
        return self

    def predict(self, X, return_std=False):
        """Return the mean of y, and with it its standard deviation if asked.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        return_std : bool, default=False

        Returns
        -------
        mean : array of shape (n_samples,)
        std : array of shape (n_samples,)
            Of y, noise included. Only with ``return_std``.
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        with few_threads(X.shape[0]):
            params = self.predict_params(X)
        if return_std:
            return params[:, 0], np.sqrt(params[:, 1])
        return params[:, 0]

    # -- the Expert protocol ---------------------------------------------------

    def prepare(self, X, y, weight, n_classes=None):
        """Fix the scales, the level's prior and where hyperparameters start.

        Raises
        ------
        ValueError, TypeError
            If a parameter is not as described, or y has several outputs.
        """
        self.check_parameters()
        y = _single(y)
        self._scale = Scale(X, y, weight, self.standardize)
        self._unit_row = min(1.0, float(weight[weight > 0].mean()))
        kernel = self.kernel
        if kernel is None:
            kernel = default_kernel(X.shape[1])
        level = ConstantKernel(self._scale.variance, "fixed")
        rows, fraction = self.variance_prior or (0.0, 0.0)
        self._prior = NoisePrior(rows, fraction, self._scale.variance)
        # A fifth of the variance: where the noise starts too low, it stays there.
        start = np.log(0.2 * self._scale.variance)
        self._point = Hyperparameters(kernel + level, float(start))
        self._schedule = Schedule(self.refit_every)
        self._rows = TrainingRows(X, self._scale)
        self._train = None
        rows, _ = self._rows.merge(self._scale.target(y), np.zeros(y.shape))
        self._process = self._posterior(rows, None)

    def m_step(self, X, y, weight):
        """Fit hyperparameters where they are due; solve for the weights.

        Raises
        ------
        ValueError
            If the kernel's matrix is not positive semidefinite.
        """
        if self._rows is None or self._rows.X is not X:
            self._rows = TrainingRows(X, self._scale)
        rows, kept = self._rows.merge(self._scale.target(_single(y)), weight)
        # Between fits of the hyperparameters inducing rows stay where they are.
        gain, inducing = None, getattr(self._process, "inducing", None)
        if self._schedule.is_due and rows.total >= LEAST_ROWS * self._unit_row:
            self._point, gain = fit_process(
                self._point,
                rows,
                self._prior,
                self.max_rows,
                first=self._schedule.is_first,
                n_restarts=self.n_restarts,
            )
            gain, inducing = gain / rows.total, None
        self._schedule = self._schedule.after(gain)
        self._process = self._posterior(rows, inducing)
        self._total = rows.total
        self._train = (X, self._held_out(rows, kept))
        self._process.forget()

    def log_prob(self, X, y):
        """Return the log density of each row in nats, of shape (n_samples,).

        Of the rows of the very X of the last M-step it is the leave-one-out
        density, until ``finish``.
        """
        if self._train is not None and self._train[0] is X:
            params = self._train[1]
        else:
            params = self.predict_params(X)
        return self.likelihood.log_prob(_single(np.asarray(y)), params, None)

    def predict_params(self, X):
        """Return mean and variance of y, noise included, of shape (n_samples, 2)."""
        mean, variance = self._process.predict(self._scale.points(np.asarray(X)))
        return self._scale.params(mean, variance + self._point.noise)

    def finish(self):
        """Forget the training rows, at the end of a fit."""
        self._train = self._rows = None

    def _posterior(self, rows, inducing):
        try:
            return make_process(self._point, rows, self.max_rows, inducing)
        except linalg.LinAlgError as error:
            raise ValueError(
                "GaussianProcessExpert: the kernel's matrix is not positive "
                f"semidefinite, or not finite, at {self.kernel_}. Use another kernel, "
                "or narrower bounds for its hyperparameters."
            ) from error

    def _held_out(self, rows, kept):
        """Return mean and variance of each row, without the rows of the same x."""
        points = self._rows.points
        mean, variance = np.empty((2, points.shape[0]))
        mean[kept], variance[kept] = self._process.leave_out(rows)
        others = np.setdiff1d(np.arange(points.shape[0]), kept, assume_unique=True)
        mean[others], variance[others] = self._process.predict(points[others])
        params = self._scale.params(mean, variance + self._point.noise)
        return params[self._rows.group]

    # -- what was fitted -------------------------------------------------------

    @property
    def kernel_(self):
        """The kernel, in units of the process, with its fitted hyperparameters."""
        return self._point.kernel.k1

    @property
    def noise_(self):
        """Noise variance, same unit as y squared."""
        return self._point.noise * self._scale.unit**2

    @property
    def log_evidence_(self):
        """Log marginal likelihood of the weighted rows, or its bound, in nats."""
        return self._process.evidence - self._total * np.log(self._scale.unit)

    @property
    def inducing_rows_(self):
        """Number of rows that predictions are made from."""
        return self._process.points.shape[0]

    @property
    def n_parameters(self):
        """Free hyperparameters, the noise included."""
        return self._point.vector.size

    @property
    def penalty(self):
        """Log prior of the noise, up to a constant."""
        return float(self._prior.log_prob(self._point.log_noise)[0])

    def check_parameters(self):
        """Raise an error that names the first bad constructor argument.

        Raises
        ------
        TypeError
            If ``kernel`` is no kernel.
        ValueError
            If another argument is not as described.
        """
        check_kernel(self.kernel)
        for name, least in (("max_rows", 1), ("refit_every", 1), ("n_restarts", 0)):
            value = getattr(self, name)
            whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
            if not whole or value < least:
                raise ValueError(
                    f"GaussianProcessExpert: {name} must be an integer >= {least}, "
                    f"got {value!r}."
                )
        check_variance_prior(self.variance_prior, "GaussianProcessExpert")

    def __sklearn_is_fitted__(self):
        return hasattr(self, "_total")


def _single(y):
    """Return y as one number a row."""
    if y.ndim > 1 and y.shape[1] > 1:
        raise ValueError(
            f"GaussianProcessExpert models one output, got y of shape {y.shape}. "
            "EstimatorExpert(GaussianProcessRegressor()) takes several, with one "
            "noise for all rows."
        )
    return y.ravel()
