"""What all experts with linear predictors share: fitting, known columns, protocol."""

import copy
from numbers import Real

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from skmoe._blocks import Design
from skmoe._sklearn import check_sample_weight
from skmoe._xp import concatenate, floats, namespace, total
from skmoe.experts._contributions import (
    linear_contributions,
    response_contributions,
)
from skmoe.experts._glm_kernel import GlmKernel
from skmoe.experts._glm_prior import GlmPrior
from skmoe.experts._known import append_known, gather_known, split_known
from skmoe.experts._newton import NewtonSteps
from skmoe.experts._row_derivatives import PredictorDerivatives

__all__ = ["GlmExpert", "LinearPredictorExpert"]


class LinearPredictorExpert(
    PredictorDerivatives, NewtonSteps, RegressorMixin, BaseEstimator
):
    """An expert whose parameters are functions of linear predictors.

    A subclass names its ``likelihood``, makes its ``_family()``, and says in
    `params_at` what its linear predictors mean. Coefficients are shrunk towards one
    fit of all rows, which itself carries a ridge of ``min(alpha, 1)`` around zero.

    Known quantities of a row (an offset, a number of trials) are the last columns
    of the X that the methods of the Expert protocol get; ``known`` names them. The
    rows that these methods get may be arrays of any library.
    """

    exact_m_step = True
    array_api = True
    support_note = ""
    # Of the mean: "identity", "log" or "logit" is the linear predictor.
    link = "identity"
    fit_intercept = True

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    @property
    def known(self):
        """Names of the known quantities that are the last columns of X."""
        return getattr(self, "_known", ())

    @known.setter
    def known(self, names):
        self._known = tuple(names)

    def _fit(self, X, y, sample_weight, **given):
        """Fit to the user's rows; see `fit`."""
        X, y = validate_data(
            self, X, y, accept_sparse="csr", dtype=np.float64, y_numeric=True
        )
        weight = check_sample_weight(sample_weight, X)
        features, known = gather_known(self, X, **given)
        y, self.known = y.astype(np.float64, copy=False), known
        X, keep = append_known(features, known), weight > 0
        self._check_support(X, y, keep)
        if not keep.all():
            X, y, weight = X[keep], y[keep], weight[keep]
        self.prepare(X, y, weight)
        self.n_iter_ = self.fit_alone(X, y, weight)
        return self

    def _at_rows(self, X, **given):
        """Return the parameters of the user's rows, and what is known of them."""
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", dtype=np.float64, reset=False)
        features, known = gather_known(self, X, **given)
        return self.params_at(self._predictors(features, known), known), known

    def _check_support(self, X, y, keep):
        """Raise a ValueError for the first row that cannot occur."""
        bad = np.flatnonzero(keep & ~self.supports(X, y))
        if bad.size:
            raise ValueError(
                f"{self.support_note} Got y = {y[bad[0]]:g} in row {bad[0]}."
            )

    # -- the Expert protocol ---------------------------------------------------

    def supports(self, X, y):
        """Return which rows have a response that can occur, of shape (n_samples,)."""
        return self.likelihood.support(y, None, None)

    def features(self, X):
        """Return the columns of X that enter the linear predictors."""
        return split_known(X, self.known)[0]

    def start_target(self, X, y):
        """Return y on the scale of the linear predictor, of shape (n_samples, 1)."""
        return namespace(y).reshape(floats(y), (-1, 1))

    def kernel_rows(self, X, y):
        """Return what the kernel gets as y, of shape (n_target_rows, n_samples)."""
        return self._target(self.kernel_.family, X, y)

    def _target(self, family, X, y):
        known = split_known(X, self.known)[1]
        target = family.target(y, known.get("trials"))
        offset = known.get("offset")
        if offset is None:
            return target
        return concatenate([target, offset[None, :]])

    def make_kernel(self, n_experts, shared=False):
        """Return a kernel of several experts around this one's prior.

        Parameters
        ----------
        n_experts : int
        shared : bool
            Whether their dispersions and other shapes are tied.
        """
        prior = copy.copy(self.kernel_.prior)
        prior.shared = shared
        return GlmKernel(n_experts, prior)

    def prepare(self, X, y, weight, n_classes=None):
        """Fix scales and fit all rows: that fit is the anchor of the ridge.

        Raises
        ------
        ValueError
            If an argument is out of range, y has several outputs, or no row has a
            response that can occur.
        """
        self.check_parameters()
        if y.ndim != 1:
            raise ValueError(
                f"{type(self).__name__} fits one output, got y of shape {y.shape}. "
                "Use LinearExpert for several, or one mixture for each."
            )
        X, y, weight = self._supported(X, y, weight)
        if not total(weight) > 0:
            raise ValueError(f"{self.support_note} No row of positive weight has one.")
        features = self.features(X)
        self.design_ = Design(features, weight, intercept=self.fit_intercept)
        family = self._family(y, weight)
        null = self._null_prior(family, self._target(family, X, y), weight)
        self.kernel_ = GlmKernel(1, null)
        self.fit_alone(X, y, weight)
        coef, shapes = self.kernel_.coef, self.kernel_.shapes
        ridge = self._ridges(np.inf, family.log_noise(coef, shapes))
        self.kernel_ = GlmKernel(1, null.at(coef[0], ridge, shapes[0]))

    def _null_prior(self, family, target, weight):
        """Return the prior of the fit of all rows, around intercepts alone."""
        n_rows = family.n_target_rows
        offset = target[n_rows, :] if target.shape[0] > n_rows else None
        intercepts, shapes = family.start(target, weight, offset)
        anchor = np.zeros((family.n_predictors, self.design_.n_columns))
        if self.fit_intercept:
            anchor[:, 0] = intercepts
        bounds = family.bounds(target, weight)
        rows, fraction = self._dispersion_rows() or (0.0, 0.0)
        pseudo = None
        if rows > 0.0:
            pseudo = family.pseudo_rows(rows, fraction, target, weight, offset)
        shapes = np.clip(shapes, bounds[0], bounds[1])
        floor = family.log_floor(target, weight)
        ridge = self._ridges(1.0, family.log_noise(anchor[None], shapes[None]))
        return GlmPrior(family, anchor, ridge, shapes, bounds, pseudo, floor)

    def _ridges(self, most, log_noise):
        """Return the ridge of each predictor, (n_predictors, n_columns).

        Parameters
        ----------
        most : float
            The largest alpha.
        log_noise : array of shape (1,) or None
            Log variance of the fit that it is for.
        """
        return min(float(self.alpha), most) * self.design_.penalised[None]

    def _dispersion_rows(self):
        """Return what the prior of the dispersion is worth, or None."""
        return None

    def _family(self, y, weight):
        raise NotImplementedError

    def check_parameters(self):
        """Raise a ValueError that names the first bad constructor argument."""
        self._check_not_negative("alpha")
        if self.max_iter < 1:
            raise ValueError(
                f"{type(self).__name__}: max_iter must be at least 1, got "
                f"{self.max_iter!r}."
            )

    def _check_not_negative(self, name):
        value = getattr(self, name)
        if not (isinstance(value, Real) and value >= 0):
            raise ValueError(
                f"{type(self).__name__}: {name} must be a number >= 0, got {value!r}."
            )

    def _check_rows(self, name):
        """Check a prior given as (rows, fraction) or None."""
        prior = getattr(self, name)
        if prior is not None and (len(prior) != 2 or not min(prior) >= 0):
            raise ValueError(
                f"{type(self).__name__}: {name} must be None or two numbers >= 0, "
                f"(rows, fraction), got {prior!r}."
            )

    def _supported(self, X, y, weight):
        """Leave out the rows that cannot occur: others explain them."""
        keep = self.supports(X, y)
        if namespace(keep).all(keep):
            return X, y, weight
        return X[keep], y[keep], weight[keep]

    def fit_alone(self, X, y, weight):
        """Step until a step gains less than tol, or max_iter times; count them."""
        return super().fit_alone(*self._supported(X, y, weight))

    def m_step(self, X, y, weight):
        """Take one damped step of Fisher scoring under the weights."""
        X, y, weight = self._supported(X, y, weight)
        self._newton_step(self.features(X), self.kernel_rows(X, y), weight)

    def log_prob(self, X, y):
        """Return the log density of each row in nats, -inf where y cannot occur."""
        return self.likelihood.log_prob(y, self.predict_params(X), self.dispersion)

    def predict_params(self, X):
        """Return the parameters of the likelihood for each row."""
        features, known = split_known(X, self.known)
        return self.params_at(self._predictors(features, known), known)

    def _predictors(self, features, known):
        """Return linear predictors of shape (n_samples, n_predictors)."""
        eta = self.design_.linear_map(self.kernel_.coef[0], features)
        if "offset" in known:
            eta[:, 0] += known["offset"]
        return eta

    def params_at(self, eta, known):
        """Return the parameters of the likelihood for linear predictors."""
        raise NotImplementedError

    def contributions(self, X):
        """Share the means out among the columns.

        See `skmoe.experts._contributions.response_contributions`.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
            Known quantities last.

        Returns
        -------
        contributions : Contributions
        """
        features, known = split_known(X, self.known)
        linear = linear_contributions(self, features)
        return response_contributions(linear, self.link, known)

    @property
    def dispersion(self):
        """Dispersion that goes with the likelihood; None for none."""
        return None

    @property
    def collapsed(self):
        """Whether the dispersion lies at its floor."""
        kernel = self.kernel_
        return bool(kernel.prior.collapsed(kernel.coef, kernel.shapes)[0])

    @property
    def n_parameters(self):
        """Coefficients and free shapes."""
        return self.kernel_.parameters.size

    @property
    def penalty(self):
        """Log prior of coefficients and dispersion, up to a constant."""
        return self.kernel_.penalty

    @property
    def parameters(self):
        """Coefficients on the standardised columns, then logs of the shapes."""
        return self.kernel_.parameters

    @parameters.setter
    def parameters(self, value):
        self.kernel_.parameters = value

    @property
    def coef_(self):
        """Slopes on the scale of the user's columns, of shape (n_features,)."""
        return self.design_.to_columns(self.kernel_.coef[0, 0])[0]

    @property
    def intercept_(self):
        """Intercept that goes with ``coef_``."""
        return float(self.design_.to_columns(self.kernel_.coef[0, 0])[1])


class GlmExpert(LinearPredictorExpert):
    """An expert with a deviance.

    A subclass has ``_deviances(y, mean, known)``, the deviance of each row, and
    ``_null(y, known, weight)``, the means of the model without columns.
    """

    link = "log"
    # Likelihoods of counts have many close maxima, and their fits are cheap.
    start_effort = 3.0

    def _deviance(self, X, y, sample_weight, **given):
        mean, known = self._means(X, **given)
        y, weight = _scored(X, y, sample_weight)
        return float(weight @ self._deviances(y, mean, known)) / weight.sum()

    def _explained(self, X, y, sample_weight, **given):
        mean, known = self._means(X, **given)
        y, weight = _scored(X, y, sample_weight)
        ours = float(weight @ self._deviances(y, mean, known))
        null = self._null(y, known, weight)
        flat = float(weight @ self._deviances(y, null, known))
        if flat > 0.0:
            return 1.0 - ours / flat
        return float(ours <= 0.0)

    def _means(self, X, **given):
        params, known = self._at_rows(X, **given)
        return self.likelihood.mean(params, self.dispersion), known


def _scored(X, y, sample_weight):
    """Return y as floats and weights, for a score."""
    y = column_or_1d(y, dtype=np.float64)
    return y, check_sample_weight(sample_weight, X)
