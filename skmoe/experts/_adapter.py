"""Any scikit-learn estimator as an expert."""

import warnings

import numpy as np
from sklearn import get_config
from sklearn.base import BaseEstimator, MetaEstimatorMixin, is_classifier
from sklearn.metrics import accuracy_score, r2_score
from sklearn.pipeline import Pipeline
from sklearn.utils import column_or_1d, get_tags
from sklearn.utils.metadata_routing import (
    MetadataRouter,
    MethodMapping,
    process_routing,
)
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from skmoe._expansion import split_last
from skmoe._sklearn import check_sample_weight
from skmoe.experts._adapted import AdaptedExpert, check_predictor, wraps_classifier
from skmoe.experts._expanded import ExpandedExpert, has_protocol
from skmoe.experts._weights import innermost, plan_weights

__all__ = ["EstimatorExpert", "as_expert", "warn_about_weights"]

# A Gaussian process alone learns its noise by a few passes of its own.
MAX_NOISE_PASSES = 10
NOISE_TOL = 0.01


class EstimatorExpert(AdaptedExpert, MetaEstimatorMixin, BaseEstimator):
    """Make any scikit-learn regressor or classifier an expert with a density.

    A regressor predicts the mean of a normal density, whose variance is learned
    from its weighted residuals; a classifier predicts smoothed log probabilities
    of all classes, calibrated where it gives only margins or labels.

    An M-step refits a clone of the estimator (or goes on from the last fit, where
    ``warm_start=True`` resumes one: linear models and neural networks) to the
    rows with their weights. An estimator without ``sample_weight`` gets a
    weighted draw of rows instead, as large as the effective sample size; a
    `~sklearn.gaussian_process.GaussianProcessRegressor` gets ``alpha = noise /
    weight``, which is exact, with the expert's own variance as noise (so its
    kernel needs no white noise) unless its ``alpha`` was set; a
    `~sklearn.frozen.FrozenEstimator` is never refitted. An expert with less than
    two rows' worth of weight, or of a single class, becomes a constant.

    Parameters
    ----------
    estimator : estimator
        A regressor or classifier. Several outputs are fitted one by one where it
        takes a single one.
    cross_fit : bool, int or splitter, default=False
        For estimators that interpolate (forests, boosting, nearest neighbours):
        learn variance and calibration from out-of-fold predictions, and give
        out-of-fold densities for the training rows. True is 5 folds.
    variance_prior : tuple (rows, fraction) or None, default=(5.0, 0.05)
        Inverse-gamma prior on the variance, worth ``rows`` rows whose squared
        residual is ``fraction`` of the variance of y. A floor of 1e-10 of the
        variance of y remains with ``None``.
    weights : {"auto", "resample", "hard"}, default="auto"
        "auto": as the estimator takes them, else "resample". "hard": fit to the
        rows of which at least half belongs to this expert, with their sample
        weights; a row that is shared more evenly then trains none.
    smoothing : float, default=1.0
        Rows' worth of class frequencies that are mixed into a classifier's
        probabilities: no class gets less than about ``(smoothing / rows)^2`` of
        its frequency, and a right model loses at most ``smoothing`` nats in all.
    random_state : int, RandomState instance or None, default=None
        Seeds every nested ``random_state`` that is None, once, so that each
        M-step is the same function; also the resampling and the folds.

    Attributes
    ----------
    estimator_ : fitted estimator, or None where a constant took its place
    dispersion : float, array of shape (n_outputs,), or None for a classifier
        Noise variance; same unit as y squared.
    classes_ : array of shape (n_classes,)
        Class labels, or codes inside a mixture. Classifiers only.
    fit_params_ : dict
        Further keywords for the estimator's ``fit``.

    Notes
    -----
    ``m_step`` remembers X, by identity, with the predictions it made for it:
    ``log_prob`` of the same object costs no second prediction, and under
    ``cross_fit`` it is the out-of-fold density. Any other X, equal or not, is
    predicted afresh. ``finish`` and pickling forget it.
    """

    def __init__(
        self,
        estimator,
        *,
        cross_fit=False,
        variance_prior=(5.0, 0.05),
        weights="auto",
        smoothing=1.0,
        random_state=None,
    ):
        self.estimator = estimator
        self.cross_fit = cross_fit
        self.variance_prior = variance_prior
        self.weights = weights
        self.smoothing = smoothing
        self.random_state = random_state

    def __sklearn_tags__(self):
        tags, inner = super().__sklearn_tags__(), get_tags(self.estimator)
        tags.estimator_type = inner.estimator_type
        tags.classifier_tags = inner.classifier_tags
        tags.regressor_tags = inner.regressor_tags
        tags.input_tags = inner.input_tags
        tags.target_tags = inner.target_tags
        tags.target_tags.required = True
        tags.target_tags.multi_output = not is_classifier(self.estimator)
        tags.non_deterministic = inner.non_deterministic
        if tags.classifier_tags is not None:
            tags.classifier_tags.multi_label = False
        return tags

    # -- a meta-estimator by itself ---------------------------------------------

    def fit(self, X, y, sample_weight=None, **fit_params):
        """Fit the estimator and its density to weighted rows.

        Parameters
        ----------
        X : {array-like, sparse matrix, data frame} of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), default=None
        **fit_params : dict
            Further keywords for the estimator's ``fit``.

        Returns
        -------
        self : EstimatorExpert

        Raises
        ------
        TypeError
            If ``estimator`` is neither a regressor nor a classifier.
        ValueError
            If a parameter or the data are not as described.
        """
        self._check_parameters()
        X, y, classes = self._training_data(X, y)
        weight = check_sample_weight(sample_weight, X)
        if get_config()["enable_metadata_routing"] and fit_params:
            fit_params = process_routing(self, "fit", **fit_params).estimator.fit
        self.set_fit_params(fit_params)
        if self.weights_note and np.any(weight != weight[0]):
            warn_about_weights([self])
        n_classes = None if classes is None else classes.size
        self.prepare(X, y, weight, n_classes)
        self.fit_alone(X, y, weight)
        self.finish()
        self._alone = True
        if classes is not None:
            self.classes_ = classes
        return self

    def fit_alone(self, X, y, weight):
        """Take M-steps on the same rows until a noise of its own has settled."""
        for _ in range(MAX_NOISE_PASSES if self._inner.own_noise else 1):
            before = self.dispersion
            self.m_step(X, y, weight)
            if not self._inner.own_noise or np.allclose(
                before, self.dispersion, rtol=NOISE_TOL, atol=0.0
            ):
                break

    def predict(self, X):
        """Return the mean of y, or the most probable class, of each row."""
        params = self._params_alone(X)
        return self.classes_[params.argmax(1)] if wraps_classifier(self) else params

    @available_if(wraps_classifier)
    def predict_proba(self, X):
        """Return class probabilities of shape (n_samples, n_classes)."""
        return np.exp(self._params_alone(X))

    @available_if(wraps_classifier)
    def predict_log_proba(self, X):
        """Return log probabilities of shape (n_samples, n_classes)."""
        return self._params_alone(X)

    def score(self, X, y, sample_weight=None):
        """Return the coefficient of determination, or the accuracy."""
        metric = accuracy_score if wraps_classifier(self) else r2_score
        return metric(y, self.predict(X), sample_weight=sample_weight)

    def get_metadata_routing(self):
        """Return how metadata is routed to the estimator."""
        mapping = MethodMapping().add(caller="fit", callee="fit")
        router = MetadataRouter(owner=self).add_self_request(self)
        return router.add(estimator=self.estimator, method_mapping=mapping)

    def _params_alone(self, X):
        check_is_fitted(self)
        return self.predict_params(self._checked(X, reset=False))

    def _checked(self, X, reset):
        """Validate X; a data frame goes to the estimator as it is."""
        if hasattr(X, "columns"):
            validate_data(self, X, skip_check_array=True, reset=reset)
            return X
        tags = get_tags(self.estimator).input_tags
        return validate_data(
            self,
            X,
            accept_sparse="csr" if tags.sparse else False,
            ensure_all_finite="allow-nan" if tags.allow_nan else True,
            dtype=None if tags.string or tags.categorical else "numeric",
            reset=reset,
        )

    def _training_data(self, X, y):
        """Return X, y as numbers or class codes, and the classes (or None)."""
        if y is None:  # said in scikit-learn's words
            validate_data(self, X, y, skip_check_array=True)
        X = self._checked(X, reset=True)
        if not wraps_classifier(self):
            y = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y")
            return X, y, None
        y = column_or_1d(y, warn=True)
        check_array(y, ensure_2d=False, dtype=None, input_name="y")
        check_classification_targets(y)
        classes, codes = np.unique(y, return_inverse=True)
        return X, codes, classes

    @property
    def weights_note(self):
        """What is done for want of sample weights, in a sentence, or None."""
        if self.weights != "auto" or plan_weights(self.estimator).kind != "rows":
            return None
        name = type(innermost(self.estimator)).__name__
        outer = type(self.estimator).__name__
        name = name if name == outer else f"{outer} of {name}"
        return (
            f"{name} takes no sample_weight: each of its fits draws rows with the "
            "weights as probabilities (weights='resample' of EstimatorExpert). "
            "weights='hard' keeps the rows that are mostly its own instead."
        )


def as_expert(estimator):
    """Return an expert as it is, and any other predictor wrapped into one.

    A pipeline whose last step is an expert keeps that expert, on the columns
    that its other steps make of X, instead of being refitted as a whole.

    Parameters
    ----------
    estimator : Expert or estimator

    Returns
    -------
    expert : Expert

    Raises
    ------
    TypeError
        If it is a class, or neither expert, regressor nor classifier.
    """
    if has_protocol(estimator):
        return estimator
    # A subclass of Pipeline may do more with its steps than to call them in turn.
    is_pipeline = type(estimator) is Pipeline and estimator.steps
    if is_pipeline and has_protocol(estimator.steps[-1][1]):
        front, expert = split_last(estimator)
        return expert if front is None else ExpandedExpert(front, expert)
    check_predictor(estimator)
    return EstimatorExpert(estimator)


def warn_about_weights(experts):
    """Warn once about all experts whose estimators take no weights.

    ``prepare`` is silent, since a fit calls it for each start and expert.

    Parameters
    ----------
    experts : iterable of Expert
    """
    notes = [getattr(expert, "weights_note", None) for expert in experts]
    notes = list(dict.fromkeys(note for note in notes if note))
    if notes:
        warnings.warn(" ".join(notes), UserWarning, stacklevel=3)
