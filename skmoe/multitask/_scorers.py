"""Scores of one task among several, for searches and cross-validation."""

import warnings
from numbers import Integral

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import get_scorer, make_scorer

from skmoe.multitask._label_weights import row_weights
from skmoe.multitask._labels import Task, coded, distinct
from skmoe.multitask._targets import read_targets

__all__ = ["TaskScorer", "make_task_scorer", "multitask_log_loss"]


def make_task_scorer(metric, task=0, **kwargs):
    """Return a scorer of one task, or of the mean over all tasks.

    It takes the rows that have a label of the task. It serves estimators of several
    tasks whose ``predict_proba`` and ``classes_`` are lists or dicts, and
    scikit-learn's, in ``GridSearchCV``, ``cross_validate`` and by itself.

    Parameters
    ----------
    metric : str or callable
        Name of a scorer of scikit-learn, such as "roc_auc", "neg_log_loss" or "r2",
        or a function ``metric(y_true, y_pred)``.
    task : int, str or None, default=0
        Place or name of a column of y; a name needs a y that is a data frame or a
        dict. None: the mean over all tasks, each counting the same.
    **kwargs
        For the metric; for a callable also what `sklearn.metrics.make_scorer` takes:
        ``greater_is_better`` and ``response_method``.

    Returns
    -------
    scorer : TaskScorer
        To be called as ``scorer(estimator, X, y, sample_weight=None)``.
    """
    return TaskScorer(metric, task, kwargs)


class TaskScorer(BaseEstimator):
    """Score a task by a metric, as `make_task_scorer` says.

    It has parameters as an estimator, so that searches with it can be cloned and
    ``set_score_request`` routes weights to it.

    Parameters
    ----------
    metric : str or callable
    task : int, str or None, default=0
    options : dict, optional
        Arguments of the metric.
    """

    def __init__(self, metric, task=0, options=None):
        self.metric = metric
        self.task = task
        self.options = options

    def __call__(self, estimator, X, y, sample_weight=None):
        """Return the score, the same as `score`."""
        return self.score(estimator, X, y, sample_weight)

    def score(self, estimator, X, y, sample_weight=None):
        """Return the score of an estimator; more is better.

        Where scikit-learn's metric is not defined, as the area under the ROC curve
        of one class, its NaN and its warning are passed on. NaN with a warning is
        also the score of a task without any label.

        Parameters
        ----------
        estimator : fitted estimator
        X : array-like or data frame
        y : array-like of shape (n_samples,) or (n_samples, n_tasks), frame or dict
            NaN or None where a label is missing.
        sample_weight : array-like of shape (n_samples,) or (n_samples, n_tasks)

        Returns
        -------
        score : float

        Raises
        ------
        ValueError
            If y has no such task.
        """
        targets = read_targets(y)
        weight = row_weights(targets, sample_weight)
        answers = _Answers(estimator, X)
        scores = []
        for t in self._places(targets.names):
            rows = np.flatnonzero(weight[:, t] > 0)
            if not len(rows):
                _warn_undefined(targets.names[t])
                return np.nan
            view = answers.of_task(t, targets)
            given = {} if sample_weight is None else {"sample_weight": weight[rows, t]}
            y_rows = targets.values[t][rows]
            scores.append(self._scorer(view)(view, rows, y_rows, **given))
        return float(np.mean(scores))

    def _places(self, names):
        """Return the columns of y that are scored."""
        task = self.task
        if task is None:
            return range(len(names))
        if isinstance(task, Integral) and task not in names:
            if not -len(names) <= task < len(names):
                raise ValueError(
                    f"task={task} is not a column of y, which has {names}."
                )
            return [task % len(names)]
        if task not in names:
            raise ValueError(
                f"task={task!r} is not among the columns of y, {names}: an array has "
                "no names, give the place."
            )
        return [names.index(task)]

    def _scorer(self, view):
        """Return scikit-learn's scorer for one task."""
        options = dict(self.options or {})
        if callable(self.metric):
            return make_scorer(self.metric, **options)
        if self.metric == "neg_log_loss" and hasattr(view, "classes_"):
            # Rows that are scored need not have all classes.
            options.setdefault("labels", view.classes_)
        scorer = get_scorer(self.metric)
        scorer._kwargs = scorer._kwargs | options
        if scorer._response_method != "predict" and not hasattr(view, "classes_"):
            raise ValueError(
                f"{self.metric!r} is for classes, and task {view.name!r} has none: "
                "name a task of classes, or a metric of numbers such as 'r2'."
            )
        return scorer

    def _accept_sample_weight(self):
        """Return True: scikit-learn asks where several metrics are scored."""
        return True


def _warn_undefined(name):
    warnings.warn(
        f"task {name!r} has no label among the rows: its score is NaN.",
        UndefinedMetricWarning,
        stacklevel=4,
    )


class _Answers:
    """What an estimator says of some rows, asked once for all tasks."""

    def __init__(self, estimator, X):
        self.estimator, self.X, self.known = estimator, X, {}

    def get(self, method):
        if method not in self.known:
            self.known[method] = getattr(self.estimator, method)(self.X)
        return self.known[method]

    def of_task(self, t, targets):
        """Return a view of one column of y, a classifier or regressor."""
        name, n_tasks = targets.names[t], len(targets.names)
        if targets.kind != "array":
            # The estimator may have its tasks in another order than y its columns.
            known = _names_of(self.estimator)
            t = known.index(name) if name in known else t
        classes = getattr(self.estimator, "classes_", None)
        if isinstance(classes, dict):
            classes = classes.get(name)
        elif classes is not None and (n_tasks > 1 or isinstance(classes, list)):
            if len(classes) != n_tasks or np.ndim(classes[t]) != 1:
                raise ValueError(
                    f"classes_ of {type(self.estimator).__name__} must be a list of "
                    f"the classes of each of the {n_tasks} tasks, got {classes!r}."
                )
            classes = classes[t]
        if classes is None:
            return _RegressorView(self, t, name)
        view = _ProbabilityView if hasattr(self.estimator, "predict_proba") else None
        return (view or _ClassifierView)(self, t, name, classes)


def _names_of(estimator):
    """Return the names of an estimator's tasks, also within a search or pipeline."""
    while True:
        if hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif hasattr(estimator, "steps"):
            estimator = estimator.steps[-1][1]
        else:
            return list(getattr(estimator, "task_names_", ()))


class _RegressorView(RegressorMixin, BaseEstimator):
    """The predictions of one task; in place of X stand numbers of rows."""

    def __init__(self, answers, t, name):
        self.answers, self.t, self.name = answers, t, name

    def predict(self, rows):
        predictions = read_targets(self.answers.get("predict"))
        named = predictions.kind in ("pandas", "polars", "dict")
        by_name = named and self.name in predictions.names
        t = predictions.names.index(self.name) if by_name else self.t
        return predictions.values[t][rows]


class _ClassifierView(ClassifierMixin, _RegressorView):
    def __init__(self, answers, t, name, classes):
        super().__init__(answers, t, name)
        self.classes_ = np.asarray(classes)


class _ProbabilityView(_ClassifierView):
    def predict_proba(self, rows):
        proba = self.answers.get("predict_proba")
        if isinstance(proba, dict):
            proba = proba[self.name]
        elif isinstance(proba, list):
            proba = proba[self.t]
        return np.asarray(proba)[rows]


def multitask_log_loss(
    y_true, y_proba, *, classes=None, sample_weight=None, task_weights=None
):
    """Return the log loss, averaged over tasks, in nats per labelled row.

    The loss of a task is the weighted mean of ``-log p(label)`` over its labelled
    rows, where probabilities are cut off at the precision of their dtype;
    scikit-learn's ``log_loss`` mixes the tasks up.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,) or (n_samples, n_tasks), frame or dict
        NaN or None where a label is missing.
    y_proba : array of shape (n_samples, n_classes), list of such arrays, or dict
        Probabilities of the classes of each task. Columns of y that a dict does not
        name, such as those of a regression, are left out.
    classes : array-like of shape (n_classes,), list of such, or dict, optional
        Labels in the order of the columns of `y_proba`, as in ``classes_``. Default:
        the sorted labels in `y_true`.
    sample_weight : array-like of shape (n_samples,) or (n_samples, n_tasks), optional
    task_weights : array-like of shape (n_tasks,) or dict, optional
        Weights of the tasks in the mean.

    Returns
    -------
    loss : float

    Raises
    ------
    ValueError
        If probabilities, classes and labels do not go together, or a task has no
        label.
    """
    targets = read_targets(y_true)
    proba = _by_name(y_proba, targets.names, "y_proba")
    classes = _by_name(classes, targets.names, "classes")
    unknown = [name for name in proba if name not in targets.names]
    if unknown:
        raise ValueError(f"y_proba has tasks that y_true lacks, {unknown}.")
    weight = row_weights(targets, sample_weight)
    losses = []
    for name, p in proba.items():
        t = targets.names.index(name)
        rows = weight[:, t] > 0
        if not rows.any():
            raise ValueError(f"task {name!r} of y_true has no label to be scored on.")
        labels = targets.values[t][rows]
        loss = _log_losses(name, labels, p, rows, classes.get(name))
        losses.append(np.average(loss, weights=weight[rows, t]))
    if task_weights is not None:
        task_weights = _by_name(task_weights, list(proba), "task_weights")
        task_weights = [task_weights[name] for name in proba]
    return float(np.average(losses, weights=task_weights))


def _by_name(given, names, what):
    """Return what is given for each task as a dict."""
    if given is None or isinstance(given, dict):
        return given or {}
    if len(names) == 1:
        # Of one task what is given may be a list of lists itself.
        depth = {"y_proba": 2, "classes": 1, "task_weights": 0}[what]
        given = given if np.ndim(given[0]) == depth else [given]
    if len(given) != len(names):
        raise ValueError(
            f"{what} must have one entry for each of the tasks {names}, got "
            f"{len(given)}."
        )
    return dict(zip(names, given, strict=True))


def _log_losses(name, labels, proba, rows, classes):
    """Return the log loss of each labelled row of a task."""
    # Those that are given are in the order of the columns, sorted or not.
    classes = distinct(labels) if classes is None else np.asarray(classes)
    proba = np.asarray(proba)
    if proba.shape != (len(rows), len(classes)):
        raise ValueError(
            f"y_proba of task {name!r} must be of shape ({len(rows)}, {len(classes)}), "
            f"a column for each of the classes {classes.tolist()}, got {proba.shape}."
        )
    proba = proba[rows]
    if not np.allclose(proba.sum(axis=1), 1.0, atol=1e-3) or (proba < 0).any():
        raise ValueError(f"y_proba of task {name!r} does not hold probabilities.")
    index = coded(Task(name, "multiclass", classes), labels).astype(int)
    eps = np.finfo(proba.dtype if proba.dtype.kind == "f" else float).eps
    chosen = proba[np.arange(len(index)), index]
    return -np.log(np.clip(chosen.astype(np.float64), eps, 1.0))
