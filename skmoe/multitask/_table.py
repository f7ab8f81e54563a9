"""The shell of estimators that train a network on a table: from fit to network."""

import numbers
from typing import ClassVar

import numpy as np
from sklearn.base import BaseEstimator, MultiOutputMixin
from sklearn.callback import CallbackSupportMixin
from sklearn.utils.validation import check_is_fitted

from skmoe._sklearn import Interval, StrOptions, fit_context
from skmoe.multitask._columns import checked_table
from skmoe.multitask._epochs import EpochReporter, history_of
from skmoe.multitask._monitor import AUCMonitor
from skmoe.multitask._plan import epochs_for
from skmoe.multitask._training import (
    on_device,
    prepared,
    random_state_of,
    read_rows,
    with_held_out,
)

__all__ = ["FROM_ONE", "FROM_ZERO", "RATE", "BaseTable"]

FROM_ONE = Interval(numbers.Integral, 1, None, closed="left")
FROM_ZERO = Interval(numbers.Real, 0, None, closed="left")
RATE = Interval(numbers.Real, 0, 1, closed="left")


class BaseTable(CallbackSupportMixin, MultiOutputMixin, BaseEstimator):
    """What the estimators share: arguments, training, prediction of raw outputs.

    A subclass says what kinds its tasks are, ``_kinds()``, what its network is, and
    what its predictions look like.
    """

    _parameter_constraints: ClassVar = {
        "column_dropout": [RATE],
        "embedding_size": [FROM_ONE],
        "embedding_penalty": [FROM_ZERO],
        "categorical_features": ["array-like", StrOptions({"from_dtype"}), None],
        "numeric_encoding": [StrOptions({"bins", "standard", "piecewise", "periodic"})],
        "n_bins": [Interval(numbers.Integral, 2, None, closed="left")],
        "min_frequency": [FROM_ONE],
        "learning_rate": [Interval(numbers.Real, 0, None, closed="neither")],
        "weight_decay": [FROM_ZERO],
        "weight_averaging": [RATE],
        "batch_size": [FROM_ONE],
        "max_epochs": [FROM_ONE, StrOptions({"auto"})],
        "early_stopping": ["boolean", StrOptions({"auto"})],
        "validation_fraction": [Interval(numbers.Real, 0, 1, closed="neither")],
        "n_iter_no_change": [FROM_ONE],
        "device": "no_validation",
        "precision": [StrOptions({"auto", "float32", "float64", "bfloat16"})],
        "compile": ["boolean"],
        "warm_start": ["boolean"],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    # Where its model is, by module of `skmoe.nn` and name; what arguments the network
    # and the penalties on it take.
    _model = ("_task_model", "TaskModel")
    _of_network: ClassVar[tuple[str, ...]] = ()
    _of_penalties: ClassVar[tuple[str, ...]] = ()
    # From more rows on early_stopping="auto" holds some out.
    _stops_above = 10_000
    # What not all estimators let their users choose.
    architecture = chain = class_weight = task_weights = aggregator = None
    list_features = None
    max_list_length = 50
    distributed = False
    monitor = "loss"

    def _keep(self, arguments):
        """Take the arguments of a constructor as they are, given its ``locals()``."""
        del arguments["self"]
        vars(self).update(arguments)

    @fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X,
        y,
        sample_weight=None,
        *,
        X_val=None,
        y_val=None,
        sample_weight_val=None,
    ):
        """Train the network; keep the weights of the best epoch.

        Parameters
        ----------
        X : data frame or array-like of shape (n_samples, n_features)
            pandas, polars or NumPy; gaps (NaN, None) are allowed.
        y : array-like of shape (n_samples,) or (n_samples, n_tasks), or data frame
            NaN or None where a label is missing: it then has no influence at all.
        sample_weight : array-like of shape (n_samples,) or (n_samples, n_tasks)
            A row, or a label, of weight w counts as w.
        X_val, y_val, sample_weight_val : default=None
            Rows that tell the best epoch, in place of a part of X.

        Returns
        -------
        self : estimator

        Raises
        ------
        ValueError
            If an argument or the data are not as described: a task without any
            label, of one class, or with labels outside its kind, for example.
        FloatingPointError
            If the training diverges. The estimator is left as it was.
        """
        held_out = (X_val, y_val, sample_weight_val)
        return self._guarded(lambda: self._fit(X, y, sample_weight, held_out))

    def _guarded(self, train):
        """Run a training; put everything back if it fails."""
        before = dict(vars(self))
        try:
            return train()
        except BaseException:
            # What scikit-learn needs to end its callbacks is not part of a fit.
            kept = ("_skl_callbacks", "_callback_fit_ctx", "_parent_callback_ctx")
            after = {k: v for k, v in vars(self).items() if k.startswith(kept)}
            vars(self).clear()
            vars(self).update(before | after)
            raise

    def _fit(self, X, y, sample_weight, held_out):
        known = getattr(self, "_fitted", None) if self.warm_start else None
        table = checked_table(self, X, reset=known is None)
        rows = read_rows(self, table, y, sample_weight, known)
        rng = random_state_of(self)
        rows, valid = with_held_out(self, rows, held_out, rng)
        prepared_parts = prepared(self, rows, valid, known, rng)
        n_epochs = epochs_for(self, int(rows.used.sum()))
        return self._train(*prepared_parts, n_epochs, (X, y, sample_weight))

    def _partial_fit(self, X, y, sample_weight, classes=None):
        """Train for one epoch on further rows."""
        known = getattr(self, "_fitted", None)
        table = checked_table(self, X, reset=known is None)
        rows = read_rows(self, table, y, sample_weight, known, classes)
        rng = random_state_of(self)
        prepared_parts = prepared(self, rows, None, known, rng, further=True)
        return self._train(*prepared_parts, 1, (X, y, sample_weight))

    def _train(self, fitted, data, held_out, n_epochs, given):
        """Train a model and take its attributes over."""
        epochs = []
        names = [task.name for task in fitted.tasks]
        reporter = EpochReporter(
            self, *given, names, n_epochs, lambda: self._attributes(fitted, epochs)
        )
        monitor = None
        if self.monitor == "auc":
            monitor = AUCMonitor(fitted.tasks, fitted.task_weights)

        def on_epoch(epoch):
            epochs.append(epoch)
            return reporter(epoch)

        fitted.model.train(data, held_out, n_epochs, monitor, on_epoch)
        vars(self).update(self._attributes(fitted, epochs))
        self._warn_of(fitted, data)
        reporter.close()
        return self

    def _attributes(self, fitted, epochs):
        """Return the fitted attributes."""
        history = history_of(epochs)
        best = -1
        if "score" in history and (history["score"] > -np.inf).any():
            best = np.nanargmax(history["score"])
        return {
            "_fitted": fitted,
            "n_tasks_": len(fitted.tasks),
            "n_iter_": len(epochs),
            "best_epoch_": int(history["epoch"][best]),
            "history_": history,
        }

    def _warn_of(self, fitted, data):
        """Warn of what a training came to, given the rows it was on."""

    def _task_names(self):
        """Return the names of the tasks where the arguments give them, else None."""
        return None

    def _raw(self, X):
        """Return raw outputs of shape (n_samples, total number of outputs)."""
        numbers, codes, model = self._encoded(X)
        return model.raw(numbers, codes)

    def _encoded(self, X):
        """Return numbers and codes of rows, and the model on its device."""
        check_is_fitted(self, "_fitted")
        table = checked_table(self, X, reset=False)
        fitted = self._fitted
        fitted.model = on_device(self, fitted.model)
        return *fitted.encoder.transform(table), fitted.model

    @property
    def network_(self):
        """The trained torch module."""
        check_is_fitted(self, "_fitted")
        return self._fitted.model.network

    @property
    def n_parameters_(self):
        """Trained numbers of the network."""
        return sum(param.numel() for param in self.network_.parameters())

    def __sklearn_tags__(self):
        """Return the tags of scikit-learn."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags
