"""Forests of hierarchical mixtures of experts: bagged trees, averaged laws."""

import numpy as np
from scipy import sparse
from sklearn.base import ClassifierMixin, MultiOutputMixin, RegressorMixin
from sklearn.compose import ColumnTransformer
from sklearn.metrics import accuracy_score, r2_score
from sklearn.preprocessing import SplineTransformer

from skmoe._forest import BaseForest
from skmoe._targets import ClassificationTarget, RegressionTarget
from skmoe.experts._expanded import ExpandedExpert
from skmoe.experts._linear import LinearExpert
from skmoe.experts._logistic import LogisticExpert
from skmoe.gates._softmax import SoftmaxGate
from skmoe.hierarchy import (
    HierarchicalMixtureOfExpertsClassifier,
    HierarchicalMixtureOfExpertsRegressor,
)

__all__ = [
    "HierarchicalMixtureForestClassifier",
    "HierarchicalMixtureForestRegressor",
]

# Columns that the default experts expand X to at most: the cost of a pass grows
# with their square.
MAX_SPLINE_COLUMNS = 50
# Fewer rows a column than this, and splines lose density on small tables.
ROWS_A_COLUMN = 20
# Up to so many rows another knot costs next to nothing.
SMALL_SAMPLE = 2000


def many_valued(X):
    """Return the columns of an array with more than two values."""
    return [j for j in range(X.shape[1]) if np.unique(X[:, j]).size > 2]


class HierarchicalMixtureForestRegressor(
    RegressionTarget, RegressorMixin, MultiOutputMixin, BaseForest
):
    """Forest of hierarchical mixtures of regressions.

    Each tree is a `HierarchicalMixtureOfExpertsRegressor` fitted to its own
    bag of rows by a few passes of EM, and the law of a row is the average of the
    trees' laws. Averaging takes the variance out of single trees and makes their
    density smoother: the estimator for those who want accuracy first.

    Parameters
    ----------
    n_estimators : int, default=10
        Number of trees.
    experts : None, estimator, or nested list, default=None
        As for the trees. None: linear experts on splines of each column, quadratic or
        linear as rows and columns allow, else on the columns themselves.
    depth : int, default=4
        Levels of gates; fewer where a bag has fewer rows than leaves.
    branching : int or sequence of int, default=2
        Children of each node, or one number for each level.
    gate : None, gate or classifier, default=None
        Cloned for every node of every tree. None: `SoftmaxGate`.
    max_gate_features : int or float, default=1.0
        Columns that the gates of a tree see: a number, or a share of all.
    bootstrap : bool, default=True
        Draw rows with replacement; else each bag is a subsample.
    max_samples : int, float or None, default=None
        Rows drawn for each tree: a number, or a share of all. None: as many as
        there are.
    path_tol : float, default=0.0
        Leave out subtrees that a row reaches with less probability.
    init : str, default="tree"
        Kind of start of each tree.
    max_iter : int or None, default=None
        Passes of EM over the bag of each tree; None: 8. Where experts are a
        pipeline, EM runs with plain experts first, for as many cheap passes.
    tol : float, default=1e-4
        Stop earlier when the gain to be expected falls below so many nats per row.
    oob_score : bool, default=False
        Judge each tree by the rows outside its bag.
    categorical_features : "from_dtype", sequence or None, default="from_dtype"
        Columns of categories: those of categorical type in a data frame, or their
        positions or names, or a mask. Gates and linear experts see one indicator for
        each category; one that fit did not see is a gap. Gaps (NaN) of numbers take
        the column's mean, with an indicator where fit saw gaps.
    random_state : int, RandomState instance or None, default=None
    n_jobs : int or None, default=None
        Processes that share the trees.
    verbose : int, default=0

    Attributes
    ----------
    estimators_ : list of fitted trees
    leaf_weights_ : list of arrays of shape (n_leaves,)
        Weighted rows of the leaves of each tree.
    oob_score_ : float
        R2 of the out-of-bag predictions, with ``oob_score``.
    oob_log_score_ : float
        Their mean log density, in nats per row.
    oob_prediction_ : array of shape (n_samples,) or (n_samples, n_outputs)
        NaN for rows that are in every bag, or have no weight.
    feature_importances_ : array of shape (n_features,)
        Log score that shuffling a column costs on out-of-bag rows, as shares of
        the sum, with ``oob_score``.
    n_iter_ : int
        Most passes that a tree took.
    n_features_in_ : int
    feature_names_in_ : array of shape (n_features_in_,)

    References
    ----------
    Breiman, L. (1996). Bagging predictors. Machine Learning 24.

    Examples
    --------
    >>> from sklearn.datasets import make_friedman1
    >>> from skmoe import HierarchicalMixtureForestRegressor
    >>> X, y = make_friedman1(300, noise=0.5, random_state=0)
    >>> forest = HierarchicalMixtureForestRegressor(5, depth=2, random_state=0)
    >>> forest.fit(X[:200], y[:200]).score(X[200:], y[200:]) > 0.8
    True
    """

    _tree_class = HierarchicalMixtureOfExpertsRegressor
    _default_passes = 8

    def predict(self, X, return_std=False):
        """Predict the expected response.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        return_std : bool, default=False
            Also return the standard deviation of the predictive law, same unit
            as y: noise within leaves, disagreement of leaves and of trees.

        Returns
        -------
        y : array of shape (n_samples,) or (n_samples, n_outputs)
        std : array of the same shape, if ``return_std``
        """
        if not return_std:
            return np.mean([law.mean for law in self._laws(X, "predict")], axis=0)
        laws = list(self._laws(X, "predict"))
        mean = np.mean([law.mean for law in laws], axis=0)
        spread = [law.variance + (law.mean - mean) ** 2 for law in laws]
        return mean, np.sqrt(np.mean(spread, axis=0))

    def predict_quantile(self, X, q):
        """Predict quantiles of the response.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        q : float or array-like of shape (n_levels,)
            Levels in [0, 1]; 0 and 1 stand for the ends of the support.

        Returns
        -------
        quantile : array of shape (n_samples,) or (n_samples, n_levels)

        Raises
        ------
        ValueError
            If a level is no number in [0, 1], or there are several outputs.
        """
        return self.predict_distribution(X).quantile(q)

    def predict_interval(self, X, level=0.9, method="central"):
        """Predict where the response lies with a given probability.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        level : float, default=0.9
            Probability in (0, 1).
        method : {"central", "highest-density"}, default="central"
            See `MixtureDistribution.interval`.

        Returns
        -------
        interval : array of shape (n_samples, 2), or IntervalUnion
            Lower and upper ends; for "highest-density" a union of intervals for
            each row.

        Raises
        ------
        ValueError
            If the level is not in (0, 1), the method is unknown, or there are
            several outputs.
        """
        return self.predict_distribution(X).interval(level, method=method)

    def _default_experts(self, X):
        """Return linear experts on as many spline columns as rows and time allow."""
        if X is None or sparse.issparse(X):
            return LinearExpert()
        n_samples, n_features = X.shape
        most = min(MAX_SPLINE_COLUMNS, n_samples / ROWS_A_COLUMN)
        small = n_samples <= SMALL_SAMPLE
        for n_knots, degree in ((4, 2), (3, 2), (3, 1)) if small else ((3, 2), (3, 1)):
            if n_features * (n_knots + degree - 2) <= most:
                spline = SplineTransformer(
                    n_knots,
                    degree=degree,
                    knots="quantile",
                    extrapolation="constant",
                    include_bias=False,
                )
                return ExpandedExpert(self._spread(spline, X), LinearExpert())
        return LinearExpert()

    def _spread(self, spline, X):
        """Return a transformer that leaves indicators as they are."""
        if not self._coder.columns and not np.isnan(X).any():
            return spline
        return ColumnTransformer(
            [("spline", spline, many_valued)], remainder="passthrough"
        )

    _out_of_bag_name = "oob_prediction_"

    def _score_out_of_bag(self, prediction, y, weight):
        seen = weight > 0
        self.oob_score_ = r2_score(
            y[seen], prediction[seen], sample_weight=weight[seen]
        )


class HierarchicalMixtureForestClassifier(
    ClassificationTarget, ClassifierMixin, BaseForest
):
    """Forest of hierarchical mixtures of classifiers.

    Each tree is a `HierarchicalMixtureOfExpertsClassifier` fitted to its own
    bag of rows by a few passes of EM, and the law of a row is the average of the
    trees' laws. Averaging takes the variance out of single trees and makes their
    density smoother: the estimator for those who want accuracy first.

    Parameters
    ----------
    n_estimators : int, default=10
        Number of trees.
    experts : None, estimator, or nested list, default=None
        As for the trees. None: logistic experts with a weak ridge,
        ``LogisticExpert(alpha=0.3)``.
    depth : int, default=4
        Levels of gates; fewer where a bag has fewer rows than leaves.
    branching : int or sequence of int, default=2
        Children of each node, or one number for each level.
    gate : None, gate or classifier, default=None
        Cloned for every node of every tree. None: ``SoftmaxGate(alpha=1.0)``.
    max_gate_features : int or float, default=1.0
        Columns that the gates of a tree see: a number, or a share of all.
    bootstrap : bool, default=True
        Draw rows with replacement; else each bag is a subsample.
    max_samples : int, float or None, default=None
        Rows drawn for each tree: a number, or a share of all. None: as many as
        there are.
    path_tol : float, default=0.0
        Leave out subtrees that a row reaches with less probability.
    init : str, default="tree"
        Kind of start of each tree.
    max_iter : int or None, default=None
        Passes of EM over the bag of each tree; None: 20. Where experts are a
        pipeline, EM runs with plain experts first, for as many cheap passes.
    tol : float, default=1e-4
        Stop earlier when the gain to be expected falls below so many nats per row.
    oob_score : bool, default=False
        Judge each tree by the rows outside its bag.
    categorical_features : "from_dtype", sequence or None, default="from_dtype"
        Columns of categories: those of categorical type in a data frame, or their
        positions or names, or a mask. Gates and linear experts see one indicator for
        each category; one that fit did not see is a gap. Gaps (NaN) of numbers take
        the column's mean, with an indicator where fit saw gaps.
    random_state : int, RandomState instance or None, default=None
    n_jobs : int or None, default=None
        Processes that share the trees.
    verbose : int, default=0

    Attributes
    ----------
    classes_ : array of shape (n_classes,)
    estimators_ : list of fitted trees
    leaf_weights_ : list of arrays of shape (n_leaves,)
        Weighted rows of the leaves of each tree.
    oob_score_ : float
        Accuracy of the out-of-bag predictions, with ``oob_score``.
    oob_log_score_ : float
        Their mean log density, in nats per row.
    oob_decision_function_ : array of shape (n_samples, n_classes)
        NaN for rows that are in every bag, or have no weight.
    feature_importances_ : array of shape (n_features,)
        Log score that shuffling a column costs on out-of-bag rows, as shares of
        the sum, with ``oob_score``.
    n_iter_ : int
        Most passes that a tree took.
    n_features_in_ : int
    feature_names_in_ : array of shape (n_features_in_,)

    References
    ----------
    Breiman, L. (1996). Bagging predictors. Machine Learning 24.

    Examples
    --------
    >>> from sklearn.datasets import make_moons
    >>> from skmoe import HierarchicalMixtureForestClassifier
    >>> X, y = make_moons(300, noise=0.2, random_state=0)
    >>> forest = HierarchicalMixtureForestClassifier(5, depth=2, random_state=0)
    >>> forest.fit(X[:200], y[:200]).score(X[200:], y[200:]) > 0.9
    True
    """

    _tree_class = HierarchicalMixtureOfExpertsClassifier
    _default_passes = 20  # a logistic expert takes one Newton step in each

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
        proba = self.predict_proba(X)
        return self.classes_[proba.argmax(axis=1)]

    def predict_proba(self, X):
        """Return class probabilities, averaged over the trees.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        proba : array of shape (n_samples, n_classes)
            In the order of ``classes_``.
        """
        return np.mean([law.mean for law in self._laws(X, "predict_proba")], axis=0)

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
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))

    def _default_experts(self, X):
        return LogisticExpert(alpha=0.3)

    def _default_gate(self):
        return SoftmaxGate(alpha=1.0)

    def _strata(self, y):
        return [np.flatnonzero(y == code) for code in range(self.classes_.size)]

    _out_of_bag_name = "oob_decision_function_"

    def _score_out_of_bag(self, prediction, y, weight):
        seen = weight > 0
        self.oob_score_ = accuracy_score(
            y[seen], prediction[seen].argmax(axis=1), sample_weight=weight[seen]
        )
