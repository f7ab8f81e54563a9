"""Tasks of mixed kinds, by name."""

from typing import ClassVar

from sklearn.utils.validation import check_is_fitted

from skmoe._sklearn import StrOptions
from skmoe.multitask._documented import documented
from skmoe.multitask._labels import decode, probabilities, split_raw
from skmoe.multitask._skill import mean_score, skill
from skmoe.multitask._targets import assemble, code, row_weights
from skmoe.multitask._training import targets_of
from skmoe.multitask._with_classes import WithClasses

__all__ = ["MultiTaskMMoE"]


@documented
class MultiTaskMMoE(WithClasses):
    """Named tasks of mixed kinds, by one network with a gate for each task.

    Clicks, segments, watch time and visits of the same rows: each task has a loss
    of its kind, and all share the experts, which the task's gate mixes. Labels may
    be missing.

    Parameters
    ----------
    tasks : dict or "auto", default="auto"
        Kind of each task by its name: "binary", "multiclass", "regression" or
        "count". "auto": text, booleans and categories are classes; integers with
        two values, or up to 20 without a gap, are classes, other integers from 0 on
        are counts; floats of 0 and 1 are binary; the rest is regression.
    {parameters}

    Attributes
    ----------
    tasks_ : dict
        Kind of each task by its name.
    classes_ : dict
        Labels of the tasks that have some.
    {attributes}

    See Also
    --------
    MMoEClassifier, MMoERegressor : Tasks of one kind, as scikit-learn's own.

    References
    ----------
    {references}

    Examples
    --------
    >>> import numpy as np
    >>> from skmoe.multitask import MultiTaskMMoE
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(300, 4))
    >>> y = {"click": X[:, 0] > 0, "watch": np.exp(X[:, 0] + X[:, 1])}
    >>> model = MultiTaskMMoE(random_state=0).fit(X, y)
    >>> model.tasks_
    {'click': 'binary', 'watch': 'regression'}
    """

    _parameter_constraints: ClassVar = WithClasses._parameter_constraints | {
        "tasks": [dict, StrOptions({"auto"})]
    }

    def __init__(
        self,
        tasks="auto",
        *,
        architecture="mmoe",
        n_experts=8,
        n_shared_experts=2,
        n_levels=2,
        expert_hidden=(32,),
        tower_hidden=(16,),
        n_members=1,
        activation="relu",
        dropout=0.0,
        column_dropout=0.0,
        gate_dropout=0.0,
        normalize_experts=False,
        gate_entropy=0.0,
        load_balance=0.0,
        chain=None,
        chain_penalty=0.6,
        embedding_size=8,
        embedding_penalty=60.0,
        categorical_features="from_dtype",
        numeric_encoding="bins",
        n_bins=128,
        min_frequency=1,
        list_features=None,
        max_list_length=50,
        task_weights=None,
        class_weight=None,
        aggregator=None,
        learning_rate=5e-3,
        weight_decay=0.0,
        weight_averaging=0.998,
        batch_size=1024,
        max_epochs="auto",
        early_stopping="auto",
        validation_fraction=0.1,
        n_iter_no_change=3,
        monitor="loss",
        device=None,
        precision="auto",
        compile=False,
        distributed=False,
        warm_start=False,
        random_state=None,
        verbose=0,
    ):
        self._keep(locals())

    def _kinds(self):
        return self.tasks

    def _task_names(self):
        return list(self.tasks) if isinstance(self.tasks, dict) else None

    def _attributes(self, fitted, epochs):
        with_classes = [task for task in fitted.tasks if task.classes is not None]
        return super()._attributes(fitted, epochs) | {
            "tasks_": {task.name: task.kind for task in fitted.tasks},
            "classes_": {task.name: task.classes for task in with_classes},
        }

    def predict(self, X):
        """Return labels, means and rates of the tasks.

        Parameters
        ----------
        X : data frame or array-like of shape (n_samples, n_features)

        Returns
        -------
        y : data frame with a column for each task
            Of polars where y was one in ``fit``, else of pandas; a dict of arrays
            where there is no pandas.
        """
        raw = self._raw(X)
        fitted = self._fitted
        kind = "polars" if fitted.kind == "polars" else "pandas"
        names = [task.name for task in fitted.tasks]
        index = X.index if hasattr(X, "iloc") else None
        return assemble(decode(fitted.tasks, raw), names, kind, index=index)

    def predict_proba(self, X):
        """Return the probabilities of the classes of the tasks that have some.

        For "esmm" that of a chained task is the probability that all tasks of the
        chain up to it happen.

        Parameters
        ----------
        X : data frame or array-like of shape (n_samples, n_features)

        Returns
        -------
        proba : dict of arrays of shape (n_samples, n_classes)
        """
        raw = self._raw(X)
        tasks = self._fitted.tasks
        parts = zip(tasks, split_raw(tasks, raw), strict=True)
        return {
            task.name: probabilities(task, part)
            for task, part in parts
            if task.classes is not None
        }

    def task_scores(self, X, y, sample_weight=None):
        """Return the skill of each task, from its loss and that of no x at all.

        The part of the loss of the best constant prediction that is gone: R squared
        for a regression, 1 less the ratio of log losses for classes (McFadden's R
        squared), and of Poisson deviances for counts. The constants are those of
        the rows given.

        Parameters
        ----------
        X, y, sample_weight : as in ``fit``

        Returns
        -------
        scores : dict of float
            NaN for a task whose labels here do not differ, or of which there are
            none.
        """
        check_is_fitted(self, "_fitted")
        raw = self._raw(X)
        tasks = self._fitted.tasks
        targets = targets_of(self, raw, y, tasks)
        weight = row_weights(targets, sample_weight)
        labels, _ = code(targets, tasks, weight)
        parts = split_raw(tasks, raw)
        return {
            task.name: skill(task, labels[:, t], parts[t], weight[:, t])
            for t, task in enumerate(tasks)
        }

    def score(self, X, y, sample_weight=None):
        """Return the mean skill of the tasks, weighted by fixed ``task_weights``.

        Parameters
        ----------
        X, y, sample_weight : as in ``fit``

        Returns
        -------
        score : float
            See ``task_scores``; tasks of which nothing can be said are left out.
        """
        scores = self.task_scores(X, y, sample_weight)
        return mean_score(list(scores.values()), self._fitted.task_weights)
