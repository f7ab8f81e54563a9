"""The estimator shell: validation, starts, the fit, and everything read off it.

The data path of a fit: `fit` validates and drops rows of weight zero, makes a
node of gate and experts (`_arguments`) and hands it to `em._fit`, which binds it
to the rows (`em._build`) and races the starts (`em._search`) through the loop of
EM (`em._loop`). What comes back is kept: gate, experts, a report of the search.
"""

import warnings
from numbers import Integral, Real
from typing import ClassVar

import numpy as np
from sklearn.base import BaseEstimator, MetaEstimatorMixin
from sklearn.callback import CallbackSupportMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state, get_tags
from sklearn.utils.validation import validate_data

from skmoe._arguments import (
    check_enough_rows,
    check_finite,
    check_init_name,
    resolve_columns,
    resolve_experts,
    resolve_gate,
    start_from_init,
)
from skmoe._callbacks import PassReporter
from skmoe._composition import NamedExperts, hand_metadata
from skmoe._fitted import FittedMixture
from skmoe._sklearn import (
    Interval,
    StrOptions,
    check_sample_weight,
    few_threads,
    fit_context,
)
from skmoe._tree import Tree
from skmoe._tree_arguments import View, holds_mixture, resolve_tree
from skmoe._xp import like, to_numpy
from skmoe.em._build import assignment
from skmoe.em._fit import FitOptions, fit_node
from skmoe.em._node import Node, posterior
from skmoe.em._stack import fit_stack
from skmoe.em._starts import Start
from skmoe.experts._adapter import warn_about_weights
from skmoe.gates._tree import GateTree

__all__ = ["BaseMixtureOfExperts"]

# A refit starts from the old responsibilities: the gate needs some steps there.
WARM_GATE_STEPS = 8


class BaseMixtureOfExperts(
    CallbackSupportMixin,
    FittedMixture,
    MetaEstimatorMixin,
    NamedExperts,
    BaseEstimator,
):
    """What regressor and classifier share.

    Parameters
    ----------
    experts, n_experts, gate, pooling, top_k, gate_features : see the subclasses
    init, n_init, max_iter, tol, algorithm, acceleration : see the subclasses
    shared_dispersion, warm_start, random_state, n_jobs, verbose : see the subclasses
    """

    _parameter_constraints: ClassVar = {
        "experts": "no_validation",
        "n_experts": [Interval(Integral, 1, None, closed="left")],
        "gate": "no_validation",
        "pooling": "no_validation",
        "top_k": [Interval(Integral, 1, None, closed="left"), None],
        "gate_features": "no_validation",
        "init": [str, callable, "array-like"],
        "n_init": [Interval(Integral, 1, None, closed="left"), None],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "algorithm": [StrOptions({"em", "cem", "sem", "stack"})],
        "acceleration": [StrOptions({"auto", "squarem", "quasi-newton"}), None],
        "shared_dispersion": ["boolean"],
        "warm_start": ["boolean"],
        "random_state": ["random_state"],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        experts=None,
        n_experts=4,
        *,
        gate=None,
        pooling="mean",
        top_k=None,
        gate_features=None,
        init="auto",
        n_init=None,
        max_iter=1000,
        tol=1e-7,
        algorithm="em",
        acceleration="auto",
        shared_dispersion=False,
        warm_start=False,
        random_state=None,
        n_jobs=None,
        verbose=0,
    ):
        self.experts = experts
        self.n_experts = n_experts
        self.gate = gate
        self.pooling = pooling
        self.top_k = top_k
        self.gate_features = gate_features
        self.init = init
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.algorithm = algorithm
        self.acceleration = acceleration
        self.shared_dispersion = shared_dispersion
        self.warm_start = warm_start
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    # -- fit -----------------------------------------------------------------------

    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y, sample_weight=None, **fit_params):
        """Fit gate and experts by EM.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            NumPy, pandas, polars, or an array of another array library; sparse,
            or with missing values, where gate and experts take such.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Several outputs for a regressor only.
        sample_weight : array-like of shape (n_samples,), default=None
            A row of weight w counts as w rows.
        **fit_params : dict
            Metadata routed to the experts' ``fit`` (with metadata routing on).

        Returns
        -------
        self : estimator

        Raises
        ------
        ValueError
            If an argument or the data are not as described.
        ExpertError
            If an expert or the gate raises inside EM; it is named, with the
            pass, and the estimator is left as it was.
        """
        before = dict(vars(self))
        try:
            return self._fit(X, y, sample_weight, fit_params)
        except BaseException as error:
            if self._rescue(error):
                raise
            callbacks = {k: v for k, v in vars(self).items() if k.startswith("_skl")}
            context = vars(self).get("_callback_fit_ctx")
            vars(self).clear()
            vars(self).update(before)
            vars(self).update(callbacks)
            if context is not None:
                self._callback_fit_ctx = context
            raise

    def _rescue(self, error):
        """Keep what an interrupted fit has reached; False to leave all as it was."""
        return False

    def _fit(self, X, y, sample_weight, fit_params):
        self._check_arguments()
        routed = self._route(fit_params)
        given = X, y, sample_weight
        X, y, weight, keep = self._check_training_data(X, y, sample_weight)
        rng = check_random_state(self.random_state)

        def fresh(shape=None):
            node = self._make_node(rng, weight.size, shape)
            hand_metadata(node, routed, keep)
            return node

        node = fresh()
        warn_about_weights([expert for _, expert in node.experts])
        starts = self._given_starts(node, X, y, rng, keep)
        n_classes = self._n_classes()
        reporter = PassReporter(self, *given)
        with few_threads(weight.size):
            if self.algorithm == "stack":
                report, best = fit_stack(
                    node, X, y, weight, n_classes, free_gate=self.gate is None
                )
            else:
                options = self._fit_options(rng, fresh, reporter)
                rows = (X, y, weight, n_classes)
                node, report, best = self._run(node, rows, options, starts)
        node.forget()
        node.assign = posterior  # what CEM and SEM put there is for the fit alone
        self._set_fitted(node, report, best, kind=given[0])
        reporter.close(node)
        return self

    def _run(self, node, rows, options, starts):
        """Let the engine fit the node; return it with the report and the run."""
        return fit_node(node, *rows, options, starts)

    def _check_arguments(self):
        check_init_name(self.init)
        if self.pooling not in self._poolings:
            raise ValueError(
                f"pooling must be one of {sorted(self._poolings)}, got "
                f"{self.pooling!r}."
            )
        self._check_names()

    def _check_training_data(self, X, y, sample_weight):
        """Validate; return rows of positive weight, and which rows those are."""
        tags = get_tags(self).input_tags
        X, y, sample_weight = to_numpy(X), to_numpy(y), to_numpy(sample_weight)
        X, y = validate_data(
            self,
            X,
            y,
            accept_sparse="csr" if tags.sparse else False,
            dtype=np.float64,
            ensure_all_finite=False,
            multi_output=True,
            y_numeric=False,
        )
        names = getattr(self, "feature_names_in_", None)
        check_finite(X, names, tags.allow_nan)
        y = self._check_target(y)
        weight = check_sample_weight(sample_weight, X)
        keep = weight > 0
        if not keep.all():
            X, y, weight = X[keep], y[keep], weight[keep]
        return X, self._learn_target(y), weight, keep

    def _make_node(self, rng, n_samples, shape=None):
        """Return a node of fresh parts, as the constructor's arguments say.

        Parameters
        ----------
        shape : int, Tree or None
            Another number of experts, or another tree, than the arguments'.
        """
        if isinstance(shape, Tree) or holds_mixture(self.experts):
            items = self._items(shape)
            return self._make_tree_node(
                rng, n_samples, items[0] if len(items) == 1 else items
            )
        experts, columns = resolve_experts(
            self.experts,
            shape or self.n_experts,
            self._default_expert(),
            rng,
            self._n_classes() is not None,
        )
        check_enough_rows(n_samples, len(experts))
        names = getattr(self, "feature_names_in_", None)
        views = [
            resolve_columns(cols, names, self.n_features_in_, f"expert {name!r}")
            for (name, _), cols in zip(experts, columns, strict=True)
        ]
        gate_view = resolve_columns(
            self.gate_features, names, self.n_features_in_, "gate_features"
        )
        return Node(
            resolve_gate(self.gate, rng),
            experts,
            views,
            gate_view,
            shared_dispersion=self.shared_dispersion,
            assign=assignment(self.algorithm, rng),
            n_jobs=self.n_jobs,
            clones=not self._named_experts,
        )

    def _make_tree_node(self, rng, n_samples, items):
        """Return a node whose gate is a tree of gates."""
        names = getattr(self, "feature_names_in_", None)
        view = View(self.gate, self.gate_features, names, self.n_features_in_)
        tree, experts, columns, gates, gate_columns = resolve_tree(
            items, view, self._default_expert(), rng, self._n_classes() is not None
        )
        check_enough_rows(n_samples, len(experts), "n_leaves")
        return Node(
            GateTree(tree, gates, gate_columns, getattr(self, "path_tol", 0.0)),
            experts,
            columns,
            shared_dispersion=self.shared_dispersion,
            assign=assignment(self.algorithm, rng),
            n_jobs=self.n_jobs,
            clones=not self._fixed_leaves(),
        )

    def _fixed_leaves(self):
        """Return whether the user chose each expert, so that none is dropped."""
        listed = isinstance(self.experts, (list, tuple))
        return listed or holds_mixture(self.experts)

    def _given_starts(self, node, X, y, rng, keep):
        """Return the starts that the user gives, or None for the portfolio."""
        if self.warm_start and hasattr(self, "node_"):
            return [self._warm_start(node, X, y)]
        if isinstance(self.init, str):
            return None
        count = (self.n_init or 1) if callable(self.init) else 1
        size = len(node.experts)
        return [
            Start("init", start_from_init(self.init, X, y, size, rng, keep))
            for _ in range(count)
        ]

    def _fit_options(self, rng, fresh, reporter):
        """Return how the engine is to fit."""
        return FitOptions(
            init=self.init,
            n_init=self.n_init,
            max_iter=self.max_iter,
            tol=self.tol,
            acceleration=self.acceleration,
            algorithm=self.algorithm,
            n_jobs=self.n_jobs,
            rng=rng,
            fresh=fresh,
            named=self._fixed_leaves(),
            free_gate=self.gate is None,
            on_pass=reporter.hook,
        )

    def _warm_start(self, node, X, y):
        """Return the responsibilities under the last fit as a start."""
        before, now = self._fitted_to, self._fits_to(node)
        if before != now:
            raise ValueError(
                "warm_start: the last fit is of another kind: (features, experts, "
                f"outputs or classes) were {before}, now they are {now}. Set "
                "warm_start=False, or fit the same kind of data again."
            )
        resp = posterior(self.node_.joint(X, y))[0]
        return Start("warm", resp, WARM_GATE_STEPS)

    def _fits_to(self, node):
        """Return what two fits must share for one to start from the other."""
        return (self.n_features_in_, len(node.experts), self._target_kind())

    def _set_fitted(self, node, report, best, kind):
        """Set the fitted attributes, arrays in the kind of X."""
        for name, value in self._attributes_of(node).items():
            setattr(self, name, value)
        self._fitted_to = self._fits_to(node)
        self.search_ = report
        self.objective_trace_ = like(kind, np.array(best.trace, dtype=float))
        self.n_iter_ = best.n_passes
        self.converged_ = best.converged
        if not best.converged and not best.stopped:
            warnings.warn(
                f"EM did not converge in max_iter={self.max_iter} passes; increase "
                "max_iter or tol.",
                ConvergenceWarning,
                stacklevel=4,
            )

    def _attributes_of(self, node):
        """Return the fitted attributes that a node stands for."""
        return {
            "node_": node,
            "gate_": node.gate,
            "experts_": [expert for _, expert in node.experts],
            "expert_names_": [name for name, _ in node.experts],
            "n_parameters_": node.n_parameters,
        }
