"""One M-step of an inner estimator: rows, weights, folds; or a constant."""

from copy import copy

import numpy as np
from sklearn.base import clone
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
)
from sklearn.pipeline import Pipeline

from skmoe.experts._heads import CategoricalHead, ConstantModel
from skmoe.experts._rows import make_folds, take_rows
from skmoe.experts._weights import (
    choose_rows,
    fit_rows,
    gp_noise_is_own,
    innermost,
    plan_weights,
    set_seeds,
)

__all__ = ["InnerFit", "Predicted", "count_coefficients"]

# Less weight than this many rows' worth makes an expert a constant.
LEAST_ROWS = 2.0
# For these a warm start adds trees to the old ones, and without more of them it
# does nothing at all: they are fitted afresh.
GROWING = (HistGradientBoostingClassifier, HistGradientBoostingRegressor)


class Predicted:
    """What a fitted model predicts for the training rows, each asked for once.

    An expert with hard assignments has a few rows of its own; for the others the
    gate may already say that they cannot be won. A kernel machine spends more on
    predicting all rows than on its fit, so predictions wait until they are needed.

    Parameters
    ----------
    head : GaussianHead or CategoricalHead
    model : fitted estimator or ConstantModel
        Must not be fitted anew while rows are unknown.
    X : array or data frame of shape (n_samples, n_features)
    raw : array, default=None
        The predictions of all rows, where they are known already.
    """

    def __init__(self, head, model, X, raw=None):
        # The head goes on to other kinds of prediction, a kept state does not.
        self._raw_of, self._model, self._X = copy(head).raw, model, X
        self._raw, self._known = raw, None

    def rows(self, wanted):
        """Return the predictions of some rows, one at least.

        Parameters
        ----------
        wanted : bool array of shape (n_samples,)
        """
        self._predict(wanted)
        return self._raw[wanted]

    @property
    def all(self):
        """The predictions of every row, of shape (n_samples[, ...])."""
        if self._raw is None:
            self._raw = self._raw_of(self._model, self._X)
        elif self._known is not None:
            self._predict(np.ones_like(self._known))
            self._known = None
        return self._raw

    def _predict(self, wanted):
        if self._raw is None:
            self._known = np.zeros_like(wanted)
        elif self._known is None:
            return
        missing = np.flatnonzero(wanted & ~self._known)
        if missing.size:
            raw = self._raw_of(self._model, take_rows(self._X, missing))
            if self._raw is None:
                self._raw = np.zeros((wanted.shape[0], *raw.shape[1:]))
            self._raw[missing] = raw
            self._known[missing] = True


class InnerFit:
    """The inner estimator of an expert, with all that its refits share.

    Parameters
    ----------
    template : estimator
        Never fitted itself; seeded here.
    head : GaussianHead or CategoricalHead
    weights : {"auto", "resample", "hard"}
    rng : numpy.random.RandomState
        For the seeds of the template.
    offset : float in (0, 1)
        Where a weighted draw of rows starts.
    fold_seed : int

    Attributes
    ----------
    model : fitted estimator or ConstantModel, None before the first fit
    own_noise : bool
        Whether the noise of a Gaussian process is the expert's variance.
    """

    def __init__(self, template, head, weights, rng, *, offset=0.5, fold_seed=0):
        set_seeds(template, rng)
        self.template, self.head, self.weights = template, head, weights
        self.offset, self.fold_seed = offset, fold_seed
        self.plan = plan_weights(template, weights)
        self.own_noise = gp_noise_is_own(template, self.plan)
        self.warm = _resumes(template)
        self.model = None

    def prepare(self, X, y, weight, cross_fit, groups=None):
        """Fix the folds, the sample weights and the worth of one row."""
        self.sample_weight = np.array(weight, dtype=float)
        # Weights that were normalised to a small sum still mean rows.
        self.unit = min(1.0, float(weight[weight > 0].mean()))
        self.noise = getattr(self.head, "start_noise", None)
        self.fold = None
        if cross_fit is not False and self.plan.kind != "prefit":
            stratify = isinstance(self.head, CategoricalHead)
            self.fold = make_folds(
                cross_fit,
                X,
                y,
                weight,
                stratify=stratify,
                seed=self.fold_seed,
                groups=groups,
            )

    def fit(self, X, y, weight, params, raw=None):
        """Fit to weighted rows; let the head learn from the predictions.

        Parameters
        ----------
        X, y, weight : arrays of all rows
        params : dict
            Further keywords of ``fit``.
        raw : array, default=None
            What this object predicted for the very same X before: enough where
            nothing is refitted.

        Returns
        -------
        raw : Predicted
            Predictions for the rows by the model of all rows.
        held_out : array or None
            Predictions by the models of the other folds, under cross-fitting.
        """
        inner_weight = self._own_rows(weight)
        self.model = self._fitted(X, y, inner_weight, params, self.model)
        self.head.set_kind(self.model)
        if raw is None or self.plan.kind != "prefit":
            raw = Predicted(self.head, self.model, X)
        held_out = None
        if self.fold is not None and not isinstance(self.model, ConstantModel):
            held_out = self._held_out(X, y, inner_weight, params, raw.all)
        self._update_head(raw, held_out, X, y, weight)
        if self.own_noise:
            self.noise = self.head.dispersion
        return raw, held_out

    def _update_head(self, raw, held_out, X, y, weight):
        """Let the head learn from the rows that have any weight."""
        mine = weight > 0
        # A warm start refits the model in place: what it says now is taken down.
        whole = mine.all() or not mine.any() or self.own_noise or self.warm
        if held_out is not None or whole:
            seen = raw.all if held_out is None else held_out
            extra = self._mean_variance(X, y) if held_out is None else 0.0
        else:
            seen, y, weight, extra = raw.rows(mine), y[mine], weight[mine], 0.0
        self.head.update(seen, y, weight, out_of_fold=held_out is not None, extra=extra)

    @property
    def fitted_estimator(self):
        """The fitted estimator, or None where a constant took its place."""
        return None if isinstance(self.model, ConstantModel) else self.model

    @property
    def n_coefficients(self):
        """Numbers that were fitted: coefficients, or the values of a constant."""
        if self.plan.kind == "prefit":
            return 0
        if not isinstance(self.model, ConstantModel):
            return count_coefficients(self.model)
        # Frequencies sum to one.
        spare = isinstance(self.head, CategoricalHead)
        return self.model.value.size - spare

    def forget(self):
        """Drop what is as long as the training data."""
        self.sample_weight = self.fold = None

    def _own_rows(self, weight):
        """Return the weights of the inner fit: under "hard", of its rows alone."""
        if self.weights != "hard" and self.fold is None:
            return weight
        n_prepared = None if self.sample_weight is None else len(self.sample_weight)
        if n_prepared != weight.shape[0]:
            raise ValueError(
                f"EstimatorExpert: m_step got {weight.shape[0]} rows, prepare saw "
                f"{n_prepared or 'none'}. With weights='hard' or cross_fit both need "
                "the same rows: call prepare first."
            )
        if self.weights != "hard":
            return weight
        return np.where(weight >= 0.5 * self.sample_weight, self.sample_weight, 0.0)

    def _fitted(self, X, y, weight, params, last=None):
        """Return the estimator fitted to the rows, or a constant in its place."""
        if self.plan.kind == "prefit":
            return self.template
        if not weight.sum() >= LEAST_ROWS * self.unit:
            return self.head.constant(y, weight)
        rows, kept = choose_rows(weight, self.plan, self.offset)
        if not self.head.can_fit(y[rows]):
            return self.head.constant(y, weight)
        target = self.head.target(y)
        estimator = self._start(last, target[rows])
        return fit_rows(
            estimator,
            self.plan,
            X,
            target,
            rows,
            kept,
            params=params,
            noise=self.noise,
        )

    def _start(self, last, target):
        """Return the last fit, if it can go on with these rows, or a clone."""
        if not self.warm or last is None or isinstance(last, ConstantModel):
            return clone(self.template)
        classes = getattr(last, "classes_", None)
        if classes is not None and not np.array_equal(classes, np.unique(target)):
            return clone(self.template)
        return last

    def _held_out(self, X, y, weight, params, raw):
        """Return predictions for each fold by a model of the others."""
        held_out = np.empty_like(raw)
        for number in np.unique(self.fold):
            out = np.flatnonzero(self.fold == number)
            rest = np.where(self.fold == number, 0.0, weight)
            model = self._fitted(X, y, rest, params)
            held_out[out] = self.head.raw(model, take_rows(X, out))
        return held_out

    def _mean_variance(self, X, y):
        """Return the posterior variance of a Gaussian process at the rows.

        The EM update of its noise needs it: squared residuals alone shrink
        with the noise until the process interpolates.
        """
        if not self.own_noise or isinstance(self.model, ConstantModel):
            return 0.0
        model = self.model
        while isinstance(model, Pipeline):
            X, model = model[:-1].transform(X) if len(model) > 1 else X, model[-1]
        deviation = model.predict(X, return_std=True)[1]
        return (deviation**2).reshape(y.shape)


def _resumes(estimator):
    """Return whether a warm start of an estimator goes on from its last fit."""
    part = innermost(estimator)
    grows = hasattr(part, "n_estimators") or isinstance(part, GROWING)
    return bool(getattr(part, "warm_start", False)) and not grows


def count_coefficients(model):
    """Count the fitted coefficients and intercepts of an estimator.

    Parameters
    ----------
    model : fitted estimator

    Returns
    -------
    count : int
        0 where it shows none, such as for trees.
    """
    part = innermost(model)
    if hasattr(part, "coef_"):
        fitted_intercept = getattr(part, "fit_intercept", True)
        intercept = getattr(part, "intercept_", ()) if fitted_intercept else ()
        return int(np.prod(np.shape(part.coef_)) + np.size(intercept))
    if hasattr(part, "coefs_"):
        return sum(np.size(c) for c in [*part.coefs_, *part.intercepts_])
    if hasattr(part, "estimators_") and not hasattr(part, "n_estimators"):
        return sum(count_coefficients(e) for e in np.ravel(part.estimators_))
    return 0
