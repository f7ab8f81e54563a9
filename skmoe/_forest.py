"""What the forests of hierarchical mixtures share: bags, trees, the mean law."""

import warnings
from numbers import Integral, Real
from typing import ClassVar

import numpy as np
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state, get_tags
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import (
    check_array,
    check_consistent_length,
    check_is_fitted,
)

from skmoe._arguments import check_finite
from skmoe._coding import code_table, learn_table
from skmoe._columns import check_seen
from skmoe._composition import NamedParameters
from skmoe._out_of_bag import judge_out_of_bag
from skmoe._placement import taken_home
from skmoe._sklearn import (
    Interval,
    RealNotInt,
    few_threads,
    fit_context,
)
from skmoe._transformer import ForestTransformer
from skmoe._tree_arguments import NestedNames, positioned
from skmoe._xp import to_numpy
from skmoe.distribution import MixtureDistribution
from skmoe.exceptions import CollapsedExpertWarning
from skmoe.gates._softmax import SoftmaxGate

__all__ = ["BaseForest"]

NO_TARGET = object()
FOREST = "a forest works in NumPy alone"
OUT_OF_BAG = (
    "oob_score_",
    "oob_log_score_",
    "oob_prediction_",
    "oob_decision_function_",
    "feature_importances_",
)


class BaseForest(
    ForestTransformer, MetaEstimatorMixin, NestedNames, NamedParameters, BaseEstimator
):
    """Bagged hierarchies whose law is the average of their laws.

    Subclasses say what a tree is, ``_tree_class``, what its default expert is, and
    how targets are checked and scored.

    Parameters
    ----------
    n_estimators, experts, depth, branching, gate : see the subclasses
    max_gate_features, bootstrap, max_samples, path_tol : see the subclasses
    init, max_iter, tol, oob_score, categorical_features : see the subclasses
    random_state, n_jobs, verbose : see the subclasses
    """

    _parameter_constraints: ClassVar = {
        "n_estimators": [Interval(Integral, 1, None, closed="left")],
        "experts": "no_validation",
        "depth": [Interval(Integral, 1, None, closed="left")],
        "branching": [Interval(Integral, 2, None, closed="left"), "array-like"],
        "gate": "no_validation",
        "max_gate_features": [
            Interval(Integral, 1, None, closed="left"),
            Interval(RealNotInt, 0, 1, closed="right"),
        ],
        "bootstrap": ["boolean"],
        "max_samples": [
            Interval(Integral, 1, None, closed="left"),
            Interval(RealNotInt, 0, 1, closed="right"),
            None,
        ],
        "path_tol": [Interval(Real, 0, 1, closed="left")],
        "init": [str],
        "max_iter": [Interval(Integral, 1, None, closed="left"), None],
        "tol": [Interval(Real, 0, None, closed="left")],
        "oob_score": ["boolean"],
        "categorical_features": "no_validation",
        "random_state": ["random_state"],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        n_estimators=10,
        *,
        experts=None,
        depth=4,
        branching=2,
        gate=None,
        max_gate_features=1.0,
        bootstrap=True,
        max_samples=None,
        path_tol=0.0,
        init="tree",
        max_iter=None,
        tol=1e-4,
        oob_score=False,
        categorical_features="from_dtype",
        random_state=None,
        n_jobs=None,
        verbose=0,
    ):
        self.n_estimators = n_estimators
        self.experts = experts
        self.depth = depth
        self.branching = branching
        self.gate = gate
        self.max_gate_features = max_gate_features
        self.bootstrap = bootstrap
        self.max_samples = max_samples
        self.path_tol = path_tol
        self.init = init
        self.max_iter = max_iter
        self.tol = tol
        self.oob_score = oob_score
        self.categorical_features = categorical_features
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        try:
            inner = get_tags(self._template()).input_tags
            tags.input_tags.sparse = inner.sparse
            tags.input_tags.allow_nan = inner.allow_nan
        except (TypeError, ValueError, AttributeError):
            # Parts that are no estimators are refused, with a message, at fit.
            tags.input_tags.sparse = tags.input_tags.allow_nan = False
        return tags

    # -- fit -----------------------------------------------------------------------

    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y, sample_weight=None):
        """Fit the trees, each to its own bag of rows.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            Sparse, or with missing values, where gate and experts take such.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Several outputs for a regressor only.
        sample_weight : array-like of shape (n_samples,), default=None
            Rows are drawn in proportion to it.

        Returns
        -------
        self : estimator

        Raises
        ------
        ValueError
            If an argument or the data are not as described.
        ExpertError
            If an expert or a gate raises inside EM.
        """
        before = dict(vars(self))
        try:
            return self._fit(X, y, sample_weight)
        except BaseException:
            vars(self).clear()
            vars(self).update(before)
            raise

    def _fit(self, X, y, sample_weight):
        X, y = taken_home(X, FOREST), to_numpy(y)
        sample_weight = to_numpy(sample_weight)
        self._coder, X, y, weight = learn_table(self, X, y, sample_weight)
        self._check_finite(X)
        y, keep = self._check_target(y), weight > 0
        X, y, weight = X[keep], y[keep], weight[keep]
        check_seen(X, getattr(self, "feature_names_in_", None))
        y = self._learn_target(y)
        rng = check_random_state(self.random_state)
        trees, bags = [], []
        for _ in range(self.n_estimators):
            tree = self._template(X)
            columns = self._gate_columns(X.shape[1], rng)
            tree.set_params(
                gate_features=columns, random_state=int(rng.randint(2**31 - 1))
            )
            bag = self._bag(y, weight, rng)
            if not tree._fixed_leaves():
                tree.set_params(depth=self._affordable_depth(int((bag > 0).sum())))
            tree._refuses_empty = False
            trees.append(tree)
            bags.append(bag)
        with few_threads(weight.size), warnings.catch_warnings():
            # What a tree reports about itself would say the same of all. Workers
            # get these filters from here.
            warnings.simplefilter("ignore", ConvergenceWarning)
            warnings.simplefilter("ignore", CollapsedExpertWarning)
            self.estimators_ = Parallel(n_jobs=self.n_jobs, verbose=self.verbose)(
                delayed(_fit_tree)(tree, X, y, bag)
                for tree, bag in zip(trees, bags, strict=True)
            )
        for name in OUT_OF_BAG:  # of an earlier fit
            vars(self).pop(name, None)
        self.n_iter_ = max(tree.n_iter_ for tree in self.estimators_)
        self.leaf_weights_ = [tree.leaf_weight_ for tree in self.estimators_]
        if self.oob_score:
            self._judge_out_of_bag(X, y, weight, bags, rng, keep)
        return self

    def _template(self, X=None):
        """Return an unfitted tree."""
        experts = self._default_experts(X) if self.experts is None else self.experts
        if X is not None:
            names = getattr(self, "feature_names_in_", None)
            experts = positioned(experts, names, X.shape[1])
        return self._tree_class(
            experts if isinstance(experts, (list, tuple)) else clone(experts),
            self.depth,
            self.branching,
            gate=self._default_gate() if self.gate is None else self.gate,
            path_tol=self.path_tol,
            init=self.init,
            n_init=1,
            prune=False,
            max_iter=self.max_iter or self._default_passes,
            tol=self.tol,
            # The trees get codes, and learn for themselves which their bags hold.
            categorical_features=self._coder.columns if X is not None else None,
        )

    def _default_gate(self):
        return SoftmaxGate()

    def _gate_columns(self, n_features, rng):
        """Draw the columns that the gates of a tree see; None for all."""
        wanted = self.max_gate_features
        if not isinstance(wanted, Integral):
            wanted = max(1, round(wanted * n_features))
        if wanted > n_features:
            raise ValueError(
                f"max_gate_features={wanted} is more than the {n_features} columns of "
                "X; give a smaller number, or a share in (0, 1]."
            )
        if wanted == n_features:
            return None
        return np.sort(rng.permutation(n_features)[:wanted]).tolist()

    def _bag(self, y, weight, rng):
        """Draw rows; return how much each one counts.

        Classes are drawn from one by one, so that no tree misses one.
        """
        bag = np.zeros(weight.size)
        for rows in self._strata(y):
            total = float(weight[rows].sum())
            if self.bootstrap:
                share = total / float(weight.sum())
                size = max(1, round(self._size_of_bag(weight.size) * share))
                # Drawn by weight, so a draw counts as an average row.
                bag[rows] = rng.multinomial(size, weight[rows] / total)
                bag[rows] *= weight.mean()
            else:
                share = rows.size / weight.size
                size = max(1, round(self._size_of_bag(weight.size) * share))
                drawn = rng.permutation(rows)[:size]
                bag[drawn] = weight[drawn]
        return bag

    def _size_of_bag(self, n_rows):
        size = n_rows if self.max_samples is None else self.max_samples
        if not isinstance(size, Integral):
            return size * n_rows
        if size > n_rows and not self.bootstrap:
            raise ValueError(
                f"max_samples={size} is more than the {n_rows} rows, and "
                "bootstrap=False draws no row twice."
            )
        return size

    def _affordable_depth(self, n_rows):
        """Return the depth, or as much of it as a bag has rows for its leaves."""
        if not isinstance(self.branching, Integral):
            return self.depth
        most = int(np.log(max(n_rows, 1)) / np.log(self.branching) + 1e-9)
        return max(1, min(self.depth, most))

    def _strata(self, y):
        """Return the groups of rows that are drawn from one by one."""
        return [np.arange(len(y))]

    # -- prediction ----------------------------------------------------------------

    def _laws(self, X, method):
        """Yield each tree's law of the rows of X."""
        check_is_fitted(self, "estimators_")
        yield from self._laws_of(self._validated(X), method)

    def _laws_of(self, checked, method):
        for tree in self.estimators_:
            yield tree._law(checked, method)

    def predict_distribution(self, X):
        """Return the predictive law of each row: the average of the trees' laws.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        distribution : MixtureDistribution
            Its experts are the leaves of all trees, one tree after the other. For a
            classifier its responses are class codes, positions in ``classes_``.
        """
        laws = list(self._laws(X, "predict_distribution"))
        return MixtureDistribution(
            np.hstack([law.log_gate for law in laws]) - np.log(len(laws)),
            [params for law in laws for params in law.params],
            [dispersion for law in laws for dispersion in law.dispersions],
            [likelihood for law in laws for likelihood in law.likelihoods],
        )

    def apply(self, X):
        """Return the leaf of each tree at the end of each row's most probable path.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        leaf : array of int of shape (n_samples, n_estimators)
            Numbers of leaves, from left to right in each tree.
        """
        check_is_fitted(self, "estimators_")
        checked = self._validated(X)
        return np.column_stack([tree.apply(checked) for tree in self.estimators_])

    def log_prob(self, X, y):
        """Return ``log p(y | x)`` of each row in nats.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)

        Returns
        -------
        log_prob : array of shape (n_samples,)
        """
        check_is_fitted(self, "estimators_")
        checked, y = self._validated(X, y)
        y = self._encode_target(y)
        each = [law.log_prob(y) for law in self._laws_of(checked, "log_prob")]
        return np.logaddexp.reduce(each, axis=0) - np.log(len(each))

    def _validated(self, X, y=NO_TARGET):
        """Return X, and y where it is given, as the trees take them."""
        X = code_table(self, taken_home(X, FOREST))
        self._check_finite(X)
        if y is NO_TARGET:
            return X
        y = to_numpy(y)
        y = check_array(y, ensure_2d=False, dtype=None, input_name="y")
        check_consistent_length(X, y)
        return X, self._check_target(y)

    def _check_finite(self, X):
        names = getattr(self, "feature_names_in_", None)
        numbers = self._coder.numbers(X)
        check_finite(numbers, names, get_tags(self).input_tags.allow_nan)

    # -- out of bag ----------------------------------------------------------------

    def _judge_out_of_bag(self, X, y, weight, bags, rng, keep):
        """Set scores and importances from the rows that each tree has not seen."""
        report = judge_out_of_bag(self.estimators_, bags, X, y, weight, rng)
        self._score_out_of_bag(report.prediction, y, weight * report.seen)
        # In the order of the rows given: those without weight have no prediction.
        prediction = np.full((keep.size, *report.prediction.shape[1:]), np.nan)
        prediction[keep] = report.prediction
        setattr(self, self._out_of_bag_name, prediction)
        self.oob_log_score_ = report.log_score
        self.feature_importances_ = report.importances


def _fit_tree(tree, X, y, bag):
    tree.fit(X, y, sample_weight=bag)
    tree._training_rows = None  # a forest would hold a table for every tree
    return tree
