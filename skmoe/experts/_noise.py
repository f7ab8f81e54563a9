"""Experts that do not look at X: uniform noise, and a single value."""

from numbers import Real

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from skmoe._sklearn import check_sample_weight
from skmoe._xp import like, namespace, zeros
from skmoe.likelihoods import PointMass, Uniform

__all__ = ["PointMassExpert", "UniformExpert"]


class _FixedLawExpert(RegressorMixin, BaseEstimator):
    """An expert whose law is the same for all rows and is learned by no M-step.

    A subclass has a ``likelihood``, `prepare`, which sets ``params_``, the
    parameters of any row, and `supports`. Rows may be arrays of any library.
    """

    exact_m_step = True
    array_api = True
    dispersion = None
    n_parameters = 0
    penalty = 0.0

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.allow_nan = True
        tags.regressor_tags.poor_score = True
        return tags

    def fit(self, X, y, sample_weight=None):
        """Fix the law; what X holds is of no consequence.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
        y : array-like of shape (n_samples,)
        sample_weight : array-like of shape (n_samples,), default=None
            Rows of weight zero might as well not be there.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            If a response cannot occur, or an argument is out of range.
        """
        X, y = validate_data(
            self,
            X,
            y,
            accept_sparse="csr",
            ensure_all_finite="allow-nan",
            y_numeric=True,
        )
        weight = check_sample_weight(sample_weight, X)
        y = y.astype(np.float64, copy=False)
        self.prepare(X, y, weight)
        bad = np.flatnonzero((weight > 0) & ~self.supports(X, y))
        if bad.size:
            raise ValueError(
                f"{self.support_note} Got y = {y[bad[0]]:g} in row {bad[0]}."
            )
        return self

    def predict(self, X):
        """Return the mean of the law for each row, of shape (n_samples,)."""
        check_is_fitted(self)
        X = validate_data(
            self,
            X,
            accept_sparse="csr",
            ensure_all_finite="allow-nan",
            reset=False,
        )
        return np.array(self.likelihood.mean(self.predict_params(X)))

    def _check_one_output(self, y):
        if y.ndim != 1:
            raise ValueError(
                f"{type(self).__name__} takes one output, got y of shape {y.shape}. "
                "Fit one mixture for each output."
            )

    def _check_finite(self, name):
        value = getattr(self, name)
        number = isinstance(value, Real) and not isinstance(value, bool)
        if not (number and np.isfinite(value)):
            raise ValueError(
                f"{type(self).__name__}: {name} must be a finite number, got {value!r}."
            )

    # -- the Expert protocol ---------------------------------------------------

    def m_step(self, X, y, weight):
        """Do nothing: no weights change the law."""

    def log_prob(self, X, y):
        """Return the log density of each row in nats, -inf where y cannot occur."""
        return self.likelihood.log_prob(y, self.predict_params(X))

    def predict_params(self, X):
        """Return the parameters of the likelihood, the same for each row."""
        params = self.params_
        return zeros(X, (X.shape[0], *params.shape)) + like(X, params)

    @property
    def parameters(self):
        """An empty vector: there is nothing to learn."""
        return np.empty(0)

    @parameters.setter
    def parameters(self, value):
        if np.size(value):
            raise ValueError(
                f"{type(self).__name__} has no parameters, got {np.size(value)}."
            )


class UniformExpert(_FixedLawExpert):
    """Noise: the same density everywhere in the range of y.

    ``p(y | x) = 1 / (high - low)`` between the ends, 0 outside. In a mixture it
    takes the rows that no other expert explains, gross errors and outliers, and
    its gate says where they are to be expected (Banfield and Raftery 1993). It
    takes one output.

    Parameters
    ----------
    low, high : float, default=None
        Ends of the interval, in the unit of y. None: the least and the greatest y
        among the rows of positive weight.

    Attributes
    ----------
    low_, high_ : float
        The ends that are used.

    References
    ----------
    Banfield, J. D. and Raftery, A. E. (1993). Model-based Gaussian and
    non-Gaussian clustering. Biometrics 49, 803-821.
    """

    likelihood = Uniform()

    def __init__(self, low=None, high=None):
        self.low = low
        self.high = high

    def prepare(self, X, y, weight, n_classes=None):
        """Take the range of y over the rows of positive weight.

        Raises
        ------
        ValueError
            If an end is no finite number, y has several outputs, or the range is
            empty.
        """
        for name in ("low", "high"):
            if getattr(self, name) is not None:
                self._check_finite(name)
        self._check_one_output(y)
        used, xp = y[weight > 0], namespace(y)
        low = float(xp.min(used)) if self.low is None else self.low
        high = float(xp.max(used)) if self.high is None else self.high
        if not low < high:
            raise ValueError(
                "UniformExpert: the interval needs low < high, got "
                f"[{low:g}, {high:g}]. An end that is not given is the least or the "
                f"greatest y of the n_samples = {used.shape[0]} rows: where they have "
                "no spread, give both."
            )
        self.low_, self.high_ = float(low), float(high)
        self.params_ = np.array([self.low_, self.high_])

    def supports(self, X, y):
        """Return which rows have a response that can occur, of shape (n_samples,).

        Only ends that are given leave anything out.
        """
        low = -np.inf if self.low is None else float(self.low)
        high = np.inf if self.high is None else float(self.high)
        return (y >= low) & (y <= high) & namespace(y).isfinite(y)

    @property
    def support_note(self):
        """What y must be, in a sentence."""
        ends = [f"y >= {self.low:g}"] if self.low is not None else []
        ends += [f"y <= {self.high:g}"] if self.high is not None else []
        return f"UniformExpert needs {' and '.join(ends) or 'finite y'}."


class PointMassExpert(_FixedLawExpert):
    """All probability on one value: ``P(y = value) = 1``.

    Beside an expert of counts it makes zero-inflated laws: the gate says where a
    zero has another cause than the count (Lambert 1992). Beside a density, such as
    a Gamma, the law is mixed: its log probability at the value is that of a
    probability, elsewhere of a density. Likelihoods of such fits compare only with
    each other; and the other expert should have no density at the value, or it
    takes a part of what is there.

    Parameters
    ----------
    value : float, default=0.0
        In the unit of y.

    References
    ----------
    Lambert, D. (1992). Zero-inflated Poisson regression, with an application to
    defects in manufacturing. Technometrics 34, 1-14.
    """

    likelihood = PointMass()

    def __init__(self, value=0.0):
        self.value = value

    def prepare(self, X, y, weight, n_classes=None):
        """Check the value.

        Raises
        ------
        ValueError
            If it is no finite number, or y has several outputs.
        """
        self._check_finite("value")
        self._check_one_output(y)
        self.params_ = np.array(float(self.value))

    def supports(self, X, y):
        """Return which rows have the value as response, of shape (n_samples,)."""
        return y == float(self.value)

    @property
    def support_note(self):
        """What y must be, in a sentence."""
        return f"PointMassExpert needs y = {self.value:g}."
