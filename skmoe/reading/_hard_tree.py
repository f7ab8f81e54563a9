"""A tree of gates made hard: each row follows its most probable child alone."""

import copy

import numpy as np
from sklearn.base import BaseEstimator, clone, is_classifier
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils import get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from skmoe._wording import column_names
from skmoe._xp import to_numpy
from skmoe.reading._tree_text import TreeText

__all__ = ["HardTree", "harden"]


def _for_classes(self):
    return is_classifier(self.estimator)


class HardTree(BaseEstimator):
    """Decision tree with a model in every leaf, read off a hierarchical mixture.

    Each row goes to the most probable child of every node on its way and gets the
    prediction of the leaf where it ends: what the mixture itself predicts with
    ``pooling="top1"``. Gates and experts are those of the mixture at the time of
    ``to_tree``, which makes such trees; a later fit of the mixture does not change
    them.

    Parameters
    ----------
    estimator : hierarchical mixture
        The soft tree.

    Attributes
    ----------
    soft_ : fitted hierarchical mixture
        The soft tree, as it was when this one was made.
    tree_ : Tree
        The shape: children, parent and level of each node.
    leaf_share_ : array of shape (n_leaves,)
        Share of the rows given that end in each leaf; without such rows, the
        responsibilities of the leaves for the training rows.
    leaf_value_ : array of shape (n_leaves[, n_outputs or n_classes]) or None
        Mean prediction, or mean class probabilities, for the rows given that end in
        each leaf; NaN where there is none.
    fidelity_ : float or None
        How far the predictions are those of the soft tree on the rows given: R2 of
        the one for the other, or the share of rows of the same class.
    path_purity_ : float or None
        Mean probability, over the rows given, of the path that a row is sent along.
    score_, soft_score_ : float or None
        R2 or accuracy of the hard and the soft tree, where responses were given.
    classes_ : array of shape (n_classes,)
        For a classifier.
    n_features_in_ : int

    Examples
    --------
    >>> from skmoe import HierarchicalMixtureOfExpertsRegressor
    >>> from skmoe.datasets import load_mcycle
    >>> X, y = load_mcycle(return_X_y=True)
    >>> soft = HierarchicalMixtureOfExpertsRegressor(depth=1, random_state=0)
    >>> tree = soft.fit(X, y).to_tree(X)
    >>> tree.n_leaves, tree.get_depth()
    (2, 1)
    >>> print(tree.export_text(["time"], decimals=1).splitlines()[0])
    |--- time <= 14.6
    """

    def __init__(self, estimator):
        self.estimator = estimator

    def __sklearn_tags__(self):
        tags, inner = super().__sklearn_tags__(), get_tags(self.estimator)
        for name in ("estimator_type", "classifier_tags", "regressor_tags"):
            setattr(tags, name, getattr(inner, name))
        tags.target_tags, tags.input_tags = inner.target_tags, inner.input_tags
        return tags

    def fit(self, X, y, sample_weight=None):
        """Fit a clone of the soft tree, and make it hard.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        self : HardTree
        """
        return self._take(clone(self.estimator).fit(X, y, sample_weight), X, y)

    def _take(self, fitted, X=None, y=None):
        """Make a fitted soft tree hard, and measure what that changes."""
        check_is_fitted(fitted, "node_")
        # Shallow: a refit of the mixture sets new attributes, and not on these.
        self.soft_, self._hard = copy.copy(fitted), copy.copy(fitted)
        self._hard.pooling, self._hard.top_k = "top1", None
        if self.soft_.pooling == "top1":
            self.soft_.pooling = "mean"
        for name in ("n_features_in_", "feature_names_in_", "classes_", "_plan"):
            if hasattr(fitted, name):
                setattr(self, name, getattr(fitted, name))
        self.tree_ = fitted.tree_
        weight = to_numpy(fitted.leaf_weight_)
        self.leaf_share_ = weight / weight.sum()
        self.leaf_value_ = self.fidelity_ = self.path_purity_ = None
        self.score_ = self.soft_score_ = None
        if X is not None:
            self._measure(X)
        if y is not None:
            self.score_ = self.score(X, y)
            self.soft_score_ = self.soft_.score(X, y)
        return self

    def _measure(self, X):
        """Set what some rows show: shares and values of leaves, fidelity, purity."""
        self.fidelity_ = self.fidelity(X)
        leaf = to_numpy(self.apply(X))
        counts = np.bincount(leaf, minlength=self.n_leaves)
        self.leaf_share_ = counts / leaf.size
        proba = to_numpy(self.soft_.leaf_proba(X))
        self.path_purity_ = float(proba[np.arange(leaf.size), leaf].mean())
        predict = self.predict_proba if _for_classes(self) else self.predict
        value = to_numpy(predict(X))
        total = np.zeros((self.n_leaves, *value.shape[1:]))
        np.add.at(total, leaf, value)
        counts = counts.reshape(-1, *[1] * (value.ndim - 1))
        self.leaf_value_ = np.where(counts > 0, total / np.maximum(counts, 1), np.nan)

    # -- predictions ---------------------------------------------------------------

    def predict(self, X):
        """Return the mean, or the most probable class, of the leaf of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        y : array of shape (n_samples,) or (n_samples, n_outputs)
        """
        check_is_fitted(self, "tree_")
        return self._hard.predict(X)

    @available_if(_for_classes)
    def predict_proba(self, X):
        """Return the class probabilities of the leaf of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        proba : array of shape (n_samples, n_classes)
        """
        check_is_fitted(self, "tree_")
        return self._hard.predict_proba(X)

    def apply(self, X):
        """Return the leaf of each row, of shape (n_samples,), counted from the left.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        """
        check_is_fitted(self, "tree_")
        return self._hard.apply(X)

    def decision_path(self, X):
        """Return the nodes that each row passes, CSR of shape (n_samples, n_nodes).

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        """
        check_is_fitted(self, "tree_")
        return self._hard.decision_path(X)

    def score(self, X, y, sample_weight=None):
        """Return the coefficient of determination, or the accuracy.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), default=None
        """
        check_is_fitted(self, "tree_")
        return self._hard.score(X, y, sample_weight)

    def fidelity(self, X):
        """Return how far the predictions are those of the soft tree.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        fidelity : float
            R2 of the predictions for those of the soft tree, which may be negative
            (several outputs: their mean); for classes the share of rows on which
            both agree.

        Raises
        ------
        ValueError
            If there is a single row: R2 is not defined then.
        """
        hard, soft = to_numpy(self.predict(X)), to_numpy(self.soft_.predict(X))
        if _for_classes(self):
            return float(accuracy_score(soft, hard))
        if soft.shape[0] < 2:
            raise ValueError(
                "the fidelity of a regression tree is an R2, which needs at least two "
                f"rows, got {soft.shape[0]}."
            )
        return float(r2_score(soft, hard))

    # -- the shape -----------------------------------------------------------------

    @property
    def n_leaves(self):
        """Number of leaves."""
        check_is_fitted(self, "tree_")
        return self.tree_.n_leaves

    def get_n_leaves(self):
        """Return the number of leaves."""
        return self.n_leaves

    def get_depth(self):
        """Return the number of gates on the longest path."""
        check_is_fitted(self, "tree_")
        return self.tree_.depth

    def export_text(self, feature_names=None, decimals=2, max_columns=None):
        """Return the rules of the tree and the models of its leaves as text.

        Two branches of a softmax gate stand under ``0.83 * age <= 0.41`` and
        ``0.83 * age > 0.41``; more branches each under their score, the highest of
        which a row follows. Leaves of linear experts hold their formula, noise
        (standard deviation, in the unit of y) and the share of the rows that end
        there; other gates and experts are named.

        Parameters
        ----------
        feature_names : sequence of str of shape (n_features,), default=None
            None: the names seen in fit, or x0, x1, ...
        decimals : int, default=2
            Digits after the point; numbers below 0.1 keep that many that count.
        max_columns : int, default=None
            Longest rules and formulas; other columns are put at their mean over the
            training rows, and a formula that is cut ends in ``...``.

        Returns
        -------
        text : str
        """
        check_is_fitted(self, "tree_")
        for name, value, least in (
            ("decimals", decimals, 0),
            ("max_columns", max_columns, 1),
        ):
            if value is not None and not value >= least:
                raise ValueError(f"{name} must be at least {least}, got {value!r}.")
        names = column_names(self, feature_names)
        return TreeText(self, names, decimals, max_columns).text()


def harden(fitted, X=None, y=None):
    """Return the hard tree of a fitted hierarchical mixture.

    Parameters
    ----------
    fitted : hierarchical mixture
    X : array-like of shape (n_samples, n_features), default=None
        Rows to measure on.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
        Their responses.

    Returns
    -------
    tree : HardTree
    """
    if y is not None and X is None:
        raise ValueError("y was given without the rows X that it belongs to.")
    return HardTree(fitted)._take(fitted, X, y)
