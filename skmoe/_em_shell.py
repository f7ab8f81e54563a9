"""The estimator shell: validation, starts, the fit, and everything read off it.

The data path of a fit: `fit` reads the rows (`_training`), makes a node of gate and
experts (`_nodes`, `_seen`) and hands it to `em._fit`, which binds it to the rows
(`em._build`) and races the starts (`em._search`) through the loop of
EM (`em._loop`). What comes back is kept: gate, experts, a report of the search.
"""

import copy
import warnings
from functools import partial

import numpy as np
from sklearn.base import BaseEstimator, MetaEstimatorMixin
from sklearn.callback import CallbackSupportMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state

from skmoe._arguments import check_init_name, start_from_init
from skmoe._callbacks import PassReporter
from skmoe._composition import NamedExperts, hand_metadata
from skmoe._fitted import FittedMixture
from skmoe._nodes import NodeMaker
from skmoe._placement import placed
from skmoe._sklearn import few_threads, fit_context
from skmoe._training import FittedRows, check_support, read_training_rows
from skmoe._watched import WatchedFit, continue_parts
from skmoe._xp import like
from skmoe.em._build import responsibilities
from skmoe.em._fit import FitOptions, fit_node
from skmoe.em._node import posterior
from skmoe.em._search import WARM_GATE_STEPS
from skmoe.em._stack import fit_stack
from skmoe.em._starts import Start
from skmoe.experts._adapter import warn_about_weights
from skmoe.reading._explain_flat import mean_row

__all__ = ["FittedByEM"]


class FittedByEM(
    CallbackSupportMixin,
    WatchedFit,
    FittedMixture,
    MetaEstimatorMixin,
    NodeMaker,
    NamedExperts,
    BaseEstimator,
):
    """A mixture that is fitted by EM, for a subclass with its constructor."""

    # Whether a column that is missing in every row is an error; not in a bag of rows.
    _refuses_empty = True
    # Whether a row may lack its response whatever the gate.
    _takes_gaps_in_y = False

    @fit_context(prefer_skip_nested_validation=False)
    def fit(
        self,
        X,
        y,
        sample_weight=None,
        *,
        groups=None,
        offset=None,
        trials=None,
        **fit_params,
    ):
        """Fit gate and experts by EM.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            NumPy, pandas, polars, or floats of another array library, which stay
            where they are if all parts can work there; sparse
            where gate and experts take such. Gaps are NaN; see
            ``categorical_features`` for columns of categories.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Several outputs for a regressor only. Rows whose response is NaN, or
            ``unlabelled``, train a gate that models x, such as `GaussianGate`.
        sample_weight : array-like of shape (n_samples,), default=None
            A row of weight w counts as w rows.
        groups : array-like of shape (n_samples,), default=None
            All rows of a group share one responsibility: repeated measurements of
            one subject. The gate is asked at the mean of the group's rows.
        offset : array-like of shape (n_samples,), default=None
            Known part of the linear predictor, for experts that take one (the log
            of an exposure). ``predict`` then needs one too; a column of X that is
            named in the expert, ``PoissonExpert(offset="log_hours")``, goes through
            pipelines and cross-validation by itself.
        trials : array-like of shape (n_samples,), default=None
            Number of trials, for `BinomialExpert`.
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
            beside = {"groups": groups, "offset": offset, "trials": trials}
            return self._fit(X, y, sample_weight, beside, fit_params)
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

    def _fit(self, X, y, sample_weight, beside, fit_params):
        self._check_arguments()
        routed = self._route(fit_params)
        given = X, y, sample_weight
        rows = self._read_rows(X, y, sample_weight, beside)
        self._coder, self._plan = rows.coder, rows.plan
        y, weight = self._learn_target(rows.y, rows.labelled), rows.weight
        y, weight = placed(rows.anchor, y, weight)
        rng = check_random_state(self.random_state)

        def fresh(shape=None):
            node = self._make_node(rng, weight.shape[0], shape)
            node.units = rows.units
            node.by_gradient = self.algorithm == "gradient"
            hand_metadata(node, routed, rows.keep)
            return node

        node = fresh()
        X = rows.matrix(node)
        check_support(node, X, y, rows)
        warn_about_weights([expert for _, expert in node.experts])
        starts = self._given_starts(node, X, y, rng, rows)
        n_classes = self._n_classes()
        reporter = PassReporter(self, *given)
        keep = partial(self._keep, FittedRows(X, y, weight, rows.units), given[0])
        with few_threads(weight.shape[0]):
            if self.algorithm == "stack":
                report, best = fit_stack(
                    node, X, y, weight, n_classes, free_gate=self.gate is None
                )
            else:
                options = self._fit_options(rng, fresh, reporter)
                progress = self._watch(node, options, (X, y, weight), keep)
                node, report, best = self._run(
                    node, (X, y, weight, n_classes), options, starts
                )
                progress.done()
        keep(node, report, best)
        reporter.close(node)
        return self

    def _read_rows(self, X, y, sample_weight, beside):
        """Return the training rows, validated, with what is said beside them."""
        return read_training_rows(self, X, y, sample_weight, **beside)

    def _keep(self, rows, kind, node, report, best):
        """Take a fitted node into the estimator, with the rows of the fit."""
        vars(self).pop("_progress", None)
        node.forget()
        node.assign = posterior  # what CEM and SEM put there is for the fit alone
        node.units = None
        self._training_rows = rows
        self._plan.center = mean_row(rows.X, rows.weight)
        self._set_fitted(node, report, best, kind)

    def __getstate__(self):
        # Models travel without the rows that they were fitted to, and to machines
        # without the device.
        state = super().__getstate__() | {"_training_rows": None}
        for name in ("objective_trace_", "leaf_weight_"):
            if hasattr(state.get(name), "cpu"):
                state[name] = state[name].cpu()
        return state

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

    def _given_starts(self, node, X, y, rng, rows):
        """Return the starts that the user gives, or None for the portfolio."""
        if self.warm_start and hasattr(self, "node_"):
            return [self._warm_start(node, X, y, rows.weight)]
        if isinstance(self.init, str):
            return None
        count = (self.n_init or 1) if callable(self.init) else 1
        size = len(node.experts)
        # A callable may say that its responsibilities are those of a fit.
        steps = getattr(self.init, "gate_steps", 1)
        given = (
            start_from_init(self.init, rows.X, y, size, rng, rows.keep)
            for _ in range(count)
        )
        return [Start("init", resp, steps) for resp in given]

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

    def _warm_start(self, node, X, y, weight):
        """Return the responsibilities under the last fit as a start."""
        before, now = self._fitted_to, self._fits_to(node)
        if before != now:
            raise ValueError(
                "warm_start: the last fit is of another kind: (columns, experts, "
                f"outputs or classes) were {before}, now they are {now}. Set "
                "warm_start=False, or fit the same kind of data again."
            )
        continue_parts(node, self.node_)
        last = copy.copy(self.node_)
        last.units = node.units
        resp = responsibilities(last, X, y, weight)
        return Start("warm", resp, WARM_GATE_STEPS)

    def _fits_to(self, node):
        """Return what two fits must share for one to start from the other."""
        return (self._plan.layout, len(node.experts), self._target_kind())

    def _set_fitted(self, node, report, best, kind):
        """Set the fitted attributes, arrays in the kind of X."""
        for name, value in self._attributes_of(node).items():
            setattr(self, name, value)
        self._fitted_to = self._fits_to(node)
        self.search_ = report
        # A list: arrays of an estimator are to be of X's library.
        self._mass = np.asarray(best.mass).tolist()
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
