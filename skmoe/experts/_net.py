"""Nets of skorch as experts: they read float32, and draw from torch's generator."""

import numpy as np
from sklearn.base import (
    BaseEstimator,
    MetaEstimatorMixin,
    clone,
    is_classifier,
    is_regressor,
)
from sklearn.pipeline import Pipeline
from sklearn.utils import check_random_state, get_tags
from sklearn.utils.metaestimators import available_if

__all__ = ["Float32Net", "float32_net"]


def float32_net(estimator):
    """Return an estimator whose last step, if it is a net of skorch, reads float32.

    Parameters
    ----------
    estimator : estimator, cloned
        A pipeline is changed in place; any other estimator is returned as it is.
    """
    if type(estimator) is Pipeline and estimator.steps:
        name, last = estimator.steps[-1]
        estimator.steps[-1] = (name, float32_net(last))
        return estimator
    # By the name of the module, since skorch need not be installed.
    nets = (
        kind.__module__.split(".")[0] == "skorch" for kind in type(estimator).__mro__
    )
    return Float32Net(estimator) if any(nets) else estimator


def _classifies(net):
    return is_classifier(net.estimator)


class Float32Net(MetaEstimatorMixin, BaseEstimator):
    """A net of skorch as scikit-learn's other estimators are: float64 in and out.

    Parameters
    ----------
    estimator : skorch.NeuralNet
    random_state : int, RandomState instance or None, default=None
        Of initial weights, shuffling and dropout. Torch's generator is left alone.

    Attributes
    ----------
    estimator_ : fitted net
    classes_ : array of shape (n_classes,)
        One code for each output of a classifier's module, seen in y or not.
    seed_ : int
        What torch's generator starts from in fit and in predictions.
    """

    def __init__(self, estimator, random_state=None):
        self.estimator = estimator
        self.random_state = random_state

    def __sklearn_tags__(self):
        tags, inner = super().__sklearn_tags__(), get_tags(self.estimator)
        tags.estimator_type = inner.estimator_type
        tags.classifier_tags = inner.classifier_tags
        tags.regressor_tags = inner.regressor_tags
        tags.target_tags.multi_output = is_regressor(self.estimator)
        return tags

    @property
    def warm_start(self):
        """Whether a fit goes on from the last one."""
        return self.estimator.warm_start

    def fit(self, X, y):
        """Train the net, from new weights unless it has a warm start.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
        y : array of shape (n_samples,) or (n_samples, n_outputs)

        Returns
        -------
        self : Float32Net
        """
        from skmoe.nn._state import seeded

        if not self.warm_start or not hasattr(self, "estimator_"):
            self.estimator_ = clone(self.estimator)
        X, draws = _float32(X), check_random_state(self.random_state)
        self.seed_ = draws.randint(np.iinfo(np.int32).max)
        with seeded(self.seed_, self.estimator.device):
            self.estimator_.fit(X, self._target(y))
        if _classifies(self):
            self.classes_ = np.arange(self.predict_proba(X[:1]).shape[1])
        return self

    def _target(self, y):
        """Return responses of the type and shape that the net's loss takes."""
        if not _classifies(self):
            # A column: against a vector the usual loss would broadcast.
            return _float32(y).reshape(len(y), -1)
        kinds = {kind.__name__ for kind in type(self.estimator).__mro__}
        # A net of one logit compares it with 0 or 1.
        binary = "NeuralNetBinaryClassifier" in kinds
        return _float32(y) if binary else y.astype(np.int64)

    def _predicted(self, method, X):
        """Return what the net says of rows; its loader draws from torch's generator."""
        from skmoe.nn._state import seeded

        with seeded(self.seed_, self.estimator.device):
            return getattr(self.estimator_, method)(_float32(X))

    def predict(self, X):
        """Return predictions as float64, or codes of classes."""
        if _classifies(self):
            return self._predicted("predict_proba", X).argmax(axis=1)
        predicted = self._predicted("predict", X).astype(float)
        return predicted[:, 0] if predicted.shape[1:] == (1,) else predicted

    @available_if(_classifies)
    def predict_proba(self, X):
        """Return probabilities of shape (n_samples, n_classes), as float64."""
        proba = self._predicted("predict_proba", X).astype(float)
        return proba / proba.sum(axis=1, keepdims=True)


def _float32(array):
    return np.ascontiguousarray(array, dtype=np.float32)
