"""The robust linear expert: Student's t or Laplace noise around a plane."""

from numbers import Real

import numpy as np

from skmoe.experts._glm_base import LinearPredictorExpert
from skmoe.experts._real_families import LaplaceFamily, StudentFamily
from skmoe.likelihoods import Laplace, StudentT

__all__ = ["RobustLinearExpert"]


class RobustLinearExpert(LinearPredictorExpert):
    """Linear regression whose noise has heavy tails, so that outliers count little.

    ``y = b' z + noise`` with z the standardised columns and noise of a t
    distribution, ``s2`` its squared scale and v its degrees of freedom, or of
    Laplace's, of scale ``b`` and ``s2 = b^2``. As in `LinearExpert` the log prior is
    ``-alpha / (2 s2) |b - b_all|^2``: alpha counts in rows.

    For the t distribution each pass takes one step of Fisher scoring on its own
    density, in coefficients, scale and degrees of freedom together; nothing crawls,
    as EM with hidden scales does in the degrees of freedom, also in its parameter
    expanded forms (Liu & Rubin 1995). For Laplace's each pass is a weighted least
    squares under weights ``1 / |residual|``, which converges slowly towards the last
    digits.

    Parameters
    ----------
    alpha : float, default=2.0
        Ridge on the slopes of the standardised columns, never on the intercept.
        ``alpha=0`` is maximum likelihood.
    noise : {"student", "laplace"}, default="student"
    df : float or None, default=None
        Degrees of freedom of the t distribution. None: learned, from 0.5 to 200.
    fit_intercept : bool, default=True
    variance_prior : tuple (rows, fraction) or None, default=(5.0, 0.05)
        Prior of the scale, worth ``rows`` rows: of t noise an inverse gamma whose
        squared residual is ``fraction`` of the variance of y, of Laplace noise one
        whose residual has that variance. None: none; a floor of 1e-10 of the
        variance of y remains.
    max_iter : int, default=100
        Steps of ``fit``. Inside a mixture each pass of EM takes one.
    tol : float, default=1e-8
        ``fit`` stops when a step gains less, relative to the objective.

    Attributes
    ----------
    coef_ : array of shape (n_features,)
        Slopes on the scale of the user's columns.
    intercept_ : float
    dispersion : array of shape (2,) or float
        Squared scale (same unit as y squared) and degrees of freedom of t noise;
        scale of Laplace noise (same unit as y).
    n_iter_ : int

    References
    ----------
    Lange, K. L., Little, R. J. A. and Taylor, J. M. G. (1989). Robust statistical
    modeling using the t distribution. JASA 84.
    Liu, C. and Rubin, D. B. (1995). ML estimation of the t distribution using EM and
    its extensions, ECM and ECME. Statistica Sinica 5.
    Hunter, D. R. and Lange, K. (2000). Quantile regression via an MM algorithm.
    JCGS 9.
    """

    def __init__(
        self,
        alpha=2.0,
        *,
        noise="student",
        df=None,
        fit_intercept=True,
        variance_prior=(5.0, 0.05),
        max_iter=100,
        tol=1e-8,
    ):
        self.alpha = alpha
        self.noise = noise
        self.df = df
        self.fit_intercept = fit_intercept
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
        self : RobustLinearExpert
        """
        return self._fit(X, y, sample_weight)

    def predict(self, X):
        """Return the location of y, of shape (n_samples,).

        It is the mean where there is one (more than one degree of freedom).
        """
        return self._at_rows(X)[0]

    def check_parameters(self):
        """Raise a ValueError that names the first bad constructor argument."""
        super().check_parameters()
        self._check_rows("variance_prior")
        if self.noise not in ("student", "laplace"):
            raise ValueError(
                "RobustLinearExpert: noise must be 'student' or 'laplace', got "
                f"{self.noise!r}."
            )
        if self.df is not None and not (isinstance(self.df, Real) and self.df > 0):
            raise ValueError(
                f"RobustLinearExpert: df must be None or a number > 0, got {self.df!r}."
            )

    @property
    def likelihood(self):
        """The family of its density."""
        return StudentT() if self.noise == "student" else Laplace()

    def _family(self, y, weight):
        return StudentFamily(self.df) if self.noise == "student" else LaplaceFamily()

    def _dispersion_rows(self):
        return self.variance_prior

    def params_at(self, eta, known):
        """Return the location."""
        return eta[:, 0]

    @property
    def dispersion(self):
        """Squared scale and degrees of freedom, or the scale of Laplace noise."""
        kernel = self.kernel_
        scale = float(np.exp(kernel.shapes[0, 0]))
        if self.noise == "laplace":
            return scale
        return np.array([scale, kernel.family.degrees(kernel.shapes)[0]])
