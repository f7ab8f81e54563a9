"""What the hierarchical regressor and classifier share."""

from numbers import Integral, Real
from typing import ClassVar

import numpy as np
from scipy import sparse

from skmoe._arguments import check_enough_rows
from skmoe._base import BaseMixtureOfExperts
from skmoe._fitted import GATE_ALONE
from skmoe._placement import follow
from skmoe._sklearn import Interval, StrOptions
from skmoe._tree import Tree
from skmoe._tree_arguments import NestedNames, is_entry, leaf_estimators
from skmoe._xp import is_foreign, like
from skmoe.em._fit import fit_node
from skmoe.em._grow import GrowthOptions, grow_node
from skmoe.em._law import point, top_means
from skmoe.em._node import posterior
from skmoe.reading._explain_tree import explain
from skmoe.reading._hard_tree import harden

__all__ = ["BaseHierarchy", "TopPath"]


class TopPath:
    """Evaluates one path a row where ``pooling`` asks for no more.

    To stand before the classes that say what a prediction is.
    """

    def _point(self, X, method, known=None):
        """Return the point that ``pooling`` asks for."""
        if self.pooling != "top1" or self.top_k is not None:
            return super()._point(X, method, known)
        checked = self._check_new(X, method, known)
        if is_foreign(checked):
            return point(self.node_, checked, None, "top1")
        return top_means(self.node_, checked, self.gate_.descend(checked))

    def explain(self, X, *, offset=None, trials=None):
        """Return for each row why it is predicted what it is.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        offset, trials : arrays of shape (n_samples,), default=None
            As in ``fit``, where they were given beside X there.

        Returns
        -------
        explanation : Explanation
            The path, the leaf, and what each column contributed, adding up to the
            prediction; prints as text, with ``to_frame()``.
        """
        return explain(self, X, {"offset": offset, "trials": trials})

    def to_tree(self, X=None, y=None):
        """Return the tree in which each row follows its most probable path alone.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), default=None
            Rows to measure on how far the hard tree is the soft one.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            Their responses: also compare the scores of both.

        Returns
        -------
        tree : HardTree
            With ``predict``, ``apply``, ``export_text``, ``fidelity_`` and the like.
        """
        return harden(self, X, y)

    def export_text(self, feature_names=None, decimals=2, max_columns=None):
        """Return the rules of `to_tree` and the models of its leaves as text.

        Parameters
        ----------
        feature_names : sequence of str of shape (n_features,), default=None
            None: the names seen in fit, or x0, x1, ...
        decimals : int, default=2
        max_columns : int, default=None
            Longest rules and formulas.

        Returns
        -------
        text : str
        """
        return harden(self).export_text(feature_names, decimals, max_columns)


class BaseHierarchy(NestedNames, BaseMixtureOfExperts):
    """A tree of gates with an expert in every leaf.

    Parameters
    ----------
    experts, depth, branching, gate, pooling, top_k : see the subclasses
    gate_features, path_tol, init, n_init, max_iter, tol : see the subclasses
    algorithm, acceleration, annealing, grow, grow_until : see the subclasses
    max_leaves, prune, shared_dispersion, balance : see the subclasses
    capacity, categorical_features, unlabelled, device : see the subclasses
    warm_start, random_state, n_jobs, verbose : see the subclasses
    """

    _parameter_constraints: ClassVar = {
        **{
            name: allowed
            for name, allowed in BaseMixtureOfExperts._parameter_constraints.items()
            if name != "n_experts"
        },
        "depth": [Interval(Integral, 1, None, closed="left")],
        "branching": [Interval(Integral, 2, None, closed="left"), "array-like"],
        "path_tol": [Interval(Real, 0, 1, closed="left")],
        "algorithm": [StrOptions({"em", "cem", "sem"})],
        "annealing": [Interval(Real, 0, 1, closed="neither"), None],
        "grow": [StrOptions({"posterior", "fritsch"}), None],
        "grow_until": [StrOptions({"bic", "holdout", "max_leaves"})],
        "prune": ["boolean"],
        "max_leaves": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        experts=None,
        depth=2,
        branching=2,
        *,
        gate=None,
        pooling="mean",
        top_k=None,
        gate_features=None,
        path_tol=0.0,
        init="auto",
        n_init=None,
        max_iter=1000,
        tol=1e-7,
        algorithm="em",
        acceleration="auto",
        annealing=None,
        grow=None,
        grow_until="bic",
        max_leaves=16,
        prune=True,
        shared_dispersion=False,
        balance=None,
        capacity=1.25,
        categorical_features="from_dtype",
        unlabelled=None,
        device=None,
        warm_start=False,
        random_state=None,
        n_jobs=None,
        verbose=0,
    ):
        self.experts = experts
        self.depth = depth
        self.branching = branching
        self.gate = gate
        self.pooling = pooling
        self.top_k = top_k
        self.gate_features = gate_features
        self.path_tol = path_tol
        self.init = init
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.algorithm = algorithm
        self.acceleration = acceleration
        self.annealing = annealing
        self.grow = grow
        self.grow_until = grow_until
        self.max_leaves = max_leaves
        self.prune = prune
        self.shared_dispersion = shared_dispersion
        self.balance = balance
        self.capacity = capacity
        self.categorical_features = categorical_features
        self.unlabelled = unlabelled
        self.device = device
        self.warm_start = warm_start
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    # -- from arguments to a tree --------------------------------------------------

    def _branchings(self):
        """Return the number of children at each level.

        Raises
        ------
        ValueError
            If there is not one number, at least 2, for each level.
        """
        if isinstance(self.branching, Integral):
            return [int(self.branching)] * self.depth
        each = list(self.branching)
        if len(each) != self.depth or any(
            not isinstance(b, Integral) or b < 2 for b in each
        ):
            raise ValueError(
                f"branching must be a number >= 2, or one for each of depth="
                f"{self.depth} levels, got {self.branching!r}."
            )
        return [int(b) for b in each]

    def _leaf_estimators(self):
        return leaf_estimators(self.experts)

    def _n_clones(self):
        grown = 0 if self.grow is None else self.max_leaves
        return max(int(np.prod(self._branchings())), grown)

    def _items(self, shape=None):
        """Return the experts as nested lists.

        Raises
        ------
        ValueError
            If an explicit tree has a single child somewhere, or none at all.
        """
        if isinstance(self.experts, (list, tuple)) and not is_entry(self.experts):
            if len(self.experts) == 0:
                raise ValueError("experts is an empty list; give at least two leaves.")
            return list(self.experts)
        if isinstance(shape, Tree):
            tree = shape
        elif shape is None:
            tree = Tree.complete(self._branchings())
        else:  # a flat one that lost experts
            tree = Tree.complete([shape]) if shape > 1 else Tree([[]])
        return _filled(tree.nested(), self.experts)

    def _make_node(self, rng, n_samples, shape=None):
        if shape is None:
            shape = self._shape_to_start_with()
        if shape is None and not self._fixed_leaves():  # before so many are cloned
            check_enough_rows(n_samples, int(np.prod(self._branchings())), "n_leaves")
        return self._make_tree_node(rng, n_samples, self._items(shape))

    def _shape_to_start_with(self):
        same = getattr(self, "_asked_for", None) == self._shape_asked_for()
        if self.warm_start and same and not self._fixed_leaves():
            return self.tree_  # grown or pruned last time
        return Tree([[]]) if self.grow is not None else None

    def _shape_asked_for(self):
        return "grown" if self.grow is not None else tuple(self._branchings())

    def _check_arguments(self):
        super()._check_arguments()
        self._branchings()
        if self.grow is None:
            return
        if self._fixed_leaves():
            raise ValueError(
                "grow needs one estimator to clone for new leaves, got a list or a "
                f"mixture as experts: {self.experts!r}."
            )
        if self.warm_start and hasattr(self, "node_"):
            reached = self.tree_.n_leaves
            if reached > self.max_leaves:
                raise ValueError(
                    f"warm_start: the last tree has {reached} leaves, more than "
                    f"max_leaves={self.max_leaves}. Allow more, or set "
                    "warm_start=False."
                )
        if not isinstance(self.init, str):
            raise ValueError("grow finds its own starts: leave init at 'auto'.")

    def _route(self, fit_params):
        if fit_params and self.grow is not None:
            raise ValueError(
                "grow fits trial splits to parts of the rows and takes no metadata, "
                f"got {sorted(fit_params)}; use a fixed tree."
            )
        return super()._route(fit_params)

    def _fits_to(self, node):
        shape = None if self.grow is not None else node.gate.tree.children
        return (self._plan.layout, shape, self._target_kind())

    # -- the fit -------------------------------------------------------------------

    def _fit_options(self, rng, fresh, reporter):
        options = super()._fit_options(rng, fresh, reporter)
        options.annealing = self.annealing
        options.prune = self.prune
        return options

    def _run(self, node, rows, options, starts):
        self._grown, self._best_so_far = [], None
        if self.grow is None:
            return fit_node(node, *rows, options, starts)
        growth = GrowthOptions(
            rule=self.grow,
            until=self.grow_until,
            max_leaves=self.max_leaves,
            n_children=self._branchings()[0],
            warm=None if starts is None else starts[0].resp,
            on_grown=self._remember,
        )
        node, report, run, self._grown = grow_node(node, rows, options, growth)
        return node, report, run

    def _remember(self, node, steps, report, run):
        """Note the best tree so far, for an interrupted fit."""
        self._best_so_far = node, list(steps), report, run

    def _rescue(self, error):
        """Keep the best tree so far of a growth that was interrupted."""
        best = vars(self).pop("_best_so_far", None)
        if not (isinstance(error, KeyboardInterrupt) and self.warm_start and best):
            return super()._rescue(error)
        vars(self).pop("_progress", None)
        node, self._grown, report, run = best
        run.stopped, run.converged = True, False
        node.forget()
        node.assign = posterior
        self._set_fitted(node, report, run, kind=None)
        return True

    def _set_fitted(self, node, report, best, kind):
        super()._set_fitted(node, report, best, kind)
        self._asked_for = self._shape_asked_for()
        self.leaf_weight_ = like(kind, np.array(best.mass))
        self.skipped_share_ = best.skipped_share
        vars(self).pop("_best_so_far", None)
        vars(self).pop("growth_", None)
        if self.grow is not None:
            self.growth_ = self._grown

    def _attributes_of(self, node):
        return super()._attributes_of(node) | {"tree_": node.gate.tree}

    # -- what a tree can tell ------------------------------------------------------

    def leaf_proba(self, X):
        """Return how probable each leaf is, given x alone.

        The same as ``gate_proba``: products of the gates along the paths.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        leaf_proba : array of shape (n_samples, n_leaves)
            Rows sum to 1; leaves from left to right.
        """
        return self.gate_proba(X)

    def apply(self, X):
        """Return the leaf at the end of each row's most probable path.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        leaf : array of int of shape (n_samples,)
            Leaves are numbered from left to right: positions in ``experts_``.
            Their nodes are ``tree_.leaves``.
        """
        checked = self._check_new(X, "apply", GATE_ALONE)
        return follow(X, self.gate_.descend(checked))

    def decision_path(self, X):
        """Return the nodes on each row's most probable path.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        indicator : CSR array of shape (n_samples, n_nodes)
            One where a row passes through a node; nodes are numbered level by
            level, the root is 0.
        """
        checked = self._check_new(X, "decision_path", GATE_ALONE, host=True)
        leaf = self.gate_.descend(checked)
        paths = [self.tree_.path(node) for node in self.tree_.leaves]
        lengths = np.array([len(path) for path in paths])[leaf]
        indices = np.concatenate([paths[k] for k in leaf])
        indptr = np.concatenate([[0], np.cumsum(lengths)])
        data = np.ones(indices.size, dtype=np.int8)
        shape = (leaf.size, self.tree_.n_nodes)
        return sparse.csr_array((data, indices, indptr), shape=shape)


def _filled(nested, experts):
    """Return nested lists with an estimator in place of every leaf."""
    if isinstance(nested, list):
        return [_filled(child, experts) for child in nested]
    return experts
