"""Flat mixtures of experts: one gate over K experts."""

import numpy as np
from sklearn.base import ClassifierMixin, MultiOutputMixin, RegressorMixin
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets

from skmoe._base import BaseMixtureOfExperts
from skmoe._xp import like
from skmoe.experts._linear import LinearExpert
from skmoe.experts._logistic import LogisticExpert

__all__ = ["MixtureOfExpertsClassifier", "MixtureOfExpertsRegressor"]


class MixtureOfExpertsRegressor(RegressorMixin, MultiOutputMixin, BaseMixtureOfExperts):
    """Mixture of regressions whose weights depend on x, fitted by EM.

    The predictive law of a row is ``p(y | x) = sum_k g_k(x) p_k(y | x)``: the
    gate g says how far each expert is to be trusted at x, and each expert p_k is
    a regression with its own noise.

    Parameters
    ----------
    experts : None, estimator, or list, default=None
        One estimator, cloned ``n_experts`` times, or a list of
        ``(name, estimator)`` or ``(name, estimator, columns)``. Bare scikit-learn
        estimators are adapted by `EstimatorExpert`. None: `LinearExpert`.
    n_experts : int, default=4
        Number of clones of a single estimator.
    gate : None, gate or classifier, default=None
        None: `SoftmaxGate`. A classifier that takes ``sample_weight`` is adapted
        by `ClassifierGate`.
    pooling : {"mean", "top1", "mode"}, default="mean"
        Point of the law that ``predict`` returns: gate-weighted mean, the mean of
        the most probable expert, or the point of highest density.
    top_k : int or None, default=None
        At prediction, evaluate only the k most probable experts of each row, and
        renormalise their gate probabilities.
    gate_features : sequence of int or str, slice or None, default=None
        The columns that the gate sees; None for all.
    init : str, array or callable, default="auto"
        "auto" races a portfolio of starts; "kmeans", "segments", "tree",
        "gaussian" and "random" are its kinds. An array holds labels of shape
        (n_samples,) or responsibilities of shape (n_samples, n_experts); a
        callable ``init(X, y, n_experts, random_state)`` returns one of them.
    n_init : int or None, default=None
        Number of starts, filled up with random ones. None: all kinds once, and
        more random ones the fewer the rows; a single start where experts are
        refitted estimators.
    max_iter : int, default=1000
        Passes over the rows for each start that is run to convergence.
    tol : float, default=1e-7
        Stop when the gain to be expected falls below so many nats per row.
    algorithm : {"em", "cem", "sem", "stack"}, default="em"
        Soft, hard (classification) or stochastic EM; "stack" fits every expert
        to all rows and the gate to out-of-fold predictions.
    acceleration : {"auto", "squarem", "quasi-newton"} or None, default="auto"
        "auto" finishes with quasi-Newton steps where gradients exist, else uses
        SQUAREM where all parts are parametric, else plain EM.
    shared_dispersion : bool, default=False
        Tie the experts' dispersions.
    warm_start : bool, default=False
        Start the next fit from the responsibilities under this one.
    random_state : int, RandomState instance or None, default=None
    n_jobs : int or None, default=None
        Processes for the starts; threads for the experts' M-steps.
    verbose : int, default=0
        1 prints each start that is run to convergence, 2 each pass.

    Attributes
    ----------
    gate_ : fitted gate
    experts_ : list of fitted experts
    expert_names_ : list of str
    node_ : the engine's node of gate and experts
    n_iter_ : int
        Passes over the rows of the winning start.
    converged_ : bool
    objective_trace_ : array of shape (n_passes,)
        Penalised log-likelihood (nats) of each pass of its long run.
    n_parameters_ : int
    search_ : SearchReport
        What every start reached, how often the best was found, the next maxima.
    n_features_in_ : int
    feature_names_in_ : array of shape (n_features_in_,)

    References
    ----------
    Jacobs, R. A., Jordan, M. I., Nowlan, S. J. and Hinton, G. E. (1991). Adaptive
    mixtures of local experts. Neural Computation 3.

    Examples
    --------
    >>> import numpy as np
    >>> from skmoe import MixtureOfExpertsRegressor
    >>> X = np.linspace(-1, 1, 100)[:, None]
    >>> y = np.abs(X[:, 0])
    >>> model = MixtureOfExpertsRegressor(n_experts=2).fit(X, y)
    >>> model.predict([[-0.5], [0.5]]).round(1)
    array([0.5, 0.5])
    >>> model.gate_proba([[-0.5], [0.5]]).argmax(axis=1).tolist()
    [0, 1]
    """

    _poolings = ("mean", "mode", "top1")

    def predict(self, X, return_std=False):
        """Predict the response.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        return_std : bool, default=False
            Also return the standard deviation of the predictive law, same unit
            as y: noise within experts and disagreement between them.

        Returns
        -------
        y : array of shape (n_samples,) or (n_samples, n_outputs)
        std : array of the same shape, if ``return_std``
        """
        distribution = self._law(X, "predict")
        y = like(X, getattr(distribution, self.pooling))
        if not return_std:
            return y
        return y, like(X, np.sqrt(distribution.variance))

    def _default_expert(self):
        return LinearExpert()

    def _n_classes(self):
        return None

    def _learn_target(self, y):
        """Learn the shape of a response."""
        self._response_shape = y.shape[1:]
        return y

    def _target_kind(self):
        return self._response_shape

    def _check_target(self, y):
        """Return y as finite floats."""
        try:
            y = np.asarray(y, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"y must be numeric for a regressor: {error}") from error
        if not np.isfinite(y).all():
            raise ValueError(
                "Input y contains NaN or infinity: first in row "
                f"{int(np.argwhere(~np.isfinite(y))[0][0])}."
            )
        return y

    def _encode_target(self, y):
        """Return responses of the shape that was seen in fit."""
        if y.shape[1:] != self._response_shape:
            wanted = ", ".join(["n_samples", *map(str, self._response_shape)])
            raise ValueError(f"y must be of shape ({wanted}) as in fit, got {y.shape}.")
        return y


class MixtureOfExpertsClassifier(ClassifierMixin, BaseMixtureOfExperts):
    """Mixture of classifiers whose weights depend on x, fitted by EM.

    The law of a row is ``p(c | x) = sum_k g_k(x) p_k(c | x)``: the gate g says
    how far each expert is to be trusted at x, and each expert p_k is a
    probabilistic classifier.

    Parameters
    ----------
    experts : None, estimator, or list, default=None
        One estimator, cloned ``n_experts`` times, or a list of
        ``(name, estimator)`` or ``(name, estimator, columns)``. Bare scikit-learn
        estimators are adapted by `EstimatorExpert`. None: `LogisticExpert`.
    n_experts : int, default=4
        Number of clones of a single estimator.
    gate : None, gate or classifier, default=None
        None: `SoftmaxGate`. A classifier that takes ``sample_weight`` is adapted
        by `ClassifierGate`.
    pooling : {"mean", "top1", "mode", "vote"}, default="mean"
        How the experts' probabilities are combined; see ``predict_proba``.
    top_k : int or None, default=None
        At prediction, evaluate only the k most probable experts of each row, and
        renormalise their gate probabilities.
    gate_features : sequence of int or str, slice or None, default=None
        The columns that the gate sees; None for all.
    init : str, array or callable, default="auto"
        "auto" races a portfolio of starts; "kmeans", "segments", "tree",
        "gaussian" and "random" are its kinds. An array holds labels of shape
        (n_samples,) or responsibilities of shape (n_samples, n_experts); a
        callable ``init(X, y, n_experts, random_state)`` returns one of them.
    n_init : int or None, default=None
        Number of starts, filled up with random ones. None: all kinds once, and
        more random ones the fewer the rows; a single start where experts are
        refitted estimators.
    max_iter : int, default=1000
        Passes over the rows for each start that is run to convergence.
    tol : float, default=1e-7
        Stop when the gain to be expected falls below so many nats per row.
    algorithm : {"em", "cem", "sem", "stack"}, default="em"
        Soft, hard (classification) or stochastic EM; "stack" fits every expert
        to all rows and the gate to out-of-fold predictions.
    acceleration : {"auto", "squarem", "quasi-newton"} or None, default="auto"
        "auto" finishes with quasi-Newton steps where gradients exist, else uses
        SQUAREM where all parts are parametric, else plain EM.
    shared_dispersion : bool, default=False
        Tie the experts' dispersions.
    warm_start : bool, default=False
        Start the next fit from the responsibilities under this one.
    random_state : int, RandomState instance or None, default=None
    n_jobs : int or None, default=None
        Processes for the starts; threads for the experts' M-steps.
    verbose : int, default=0
        1 prints each start that is run to convergence, 2 each pass.

    Attributes
    ----------
    classes_ : array of shape (n_classes,)
    gate_ : fitted gate
    experts_ : list of fitted experts
    expert_names_ : list of str
    node_ : the engine's node of gate and experts
    n_iter_ : int
        Passes over the rows of the winning start.
    converged_ : bool
    objective_trace_ : array of shape (n_passes,)
        Penalised log-likelihood (nats) of each pass of its long run.
    n_parameters_ : int
    search_ : SearchReport
        What every start reached, how often the best was found, the next maxima.
    n_features_in_ : int
    feature_names_in_ : array of shape (n_features_in_,)

    References
    ----------
    Jordan, M. I. and Jacobs, R. A. (1994). Hierarchical mixtures of experts and
    the EM algorithm. Neural Computation 6.

    Examples
    --------
    >>> import numpy as np
    >>> from skmoe import MixtureOfExpertsClassifier
    >>> X = np.linspace(-1, 1, 200)[:, None]
    >>> y = np.where(np.abs(X[:, 0]) > 0.5, "outside", "inside")
    >>> model = MixtureOfExpertsClassifier(n_experts=2).fit(X, y)
    >>> model.predict([[-0.9], [0.0], [0.9]]).tolist()
    ['outside', 'inside', 'outside']
    """

    _poolings = ("mean", "mode", "top1", "vote")

    def predict(self, X):
        """Predict the class of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        y : array of shape (n_samples,)
            Labels from ``classes_``.
        """
        proba = self._proba(X, "predict")
        classes = self.classes_[proba.argmax(axis=1)]
        return like(X, classes) if classes.dtype.kind in "biuf" else classes

    def predict_proba(self, X):
        """Return class probabilities.

        "mean" and "mode" weigh the experts' probabilities with the gate; "top1"
        takes those of the most probable expert; "vote" gives each class the
        gate's weight of the experts that prefer it.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        proba : array of shape (n_samples, n_classes)
            In the order of ``classes_``.
        """
        return like(X, self._proba(X, "predict_proba"))

    def predict_log_proba(self, X):
        """Return the logarithms of `predict_proba`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        log_proba : array of shape (n_samples, n_classes)
            -inf where a probability is zero.
        """
        proba = self._proba(X, "predict_log_proba")
        with np.errstate(divide="ignore"):
            return like(X, np.log(proba))

    def _proba(self, X, method):
        distribution = self._law(X, method)
        if self.pooling == "top1":
            return distribution.top1
        if self.pooling != "vote":
            return distribution.mean
        votes = np.zeros_like(distribution.mean)
        choice = distribution.means.argmax(axis=2)
        rows = np.arange(len(distribution))
        for k in range(choice.shape[1]):
            votes[rows, choice[:, k]] += distribution.gate[:, k]
        return votes

    def _default_expert(self):
        return LogisticExpert()

    def _n_classes(self):
        return self.classes_.size

    def _check_target(self, y):
        """Return y as one column of labels."""
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        return y

    def _learn_target(self, y):
        """Learn the classes of the rows of positive weight; return codes."""
        self.classes_, codes = np.unique(y, return_inverse=True)
        if self.classes_.size < 2:
            raise ValueError(
                "y must hold at least two classes, got one class: "
                f"{self.classes_.tolist()[0]!r}."
            )
        return codes

    def _target_kind(self):
        return tuple(self.classes_.tolist())

    def _encode_target(self, y):
        """Return codes of labels that were seen in fit."""
        codes = np.searchsorted(self.classes_, y).clip(max=self.classes_.size - 1)
        unknown = np.asarray(self.classes_[codes] != y)
        if unknown.any():
            raise ValueError(
                f"y holds labels that were not seen in fit: {np.unique(y[unknown])}; "
                f"known classes are {self.classes_}."
            )
        return codes
