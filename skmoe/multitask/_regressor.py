"""Several tasks with numbers."""

from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils.validation import check_is_fitted

from skmoe._sklearn import fit_context
from skmoe.multitask._documented import documented
from skmoe.multitask._estimator import BaseMultiTask
from skmoe.multitask._labels import decode
from skmoe.multitask._skill import mean_score
from skmoe.multitask._targets import assemble, row_weights
from skmoe.multitask._training import targets_of

__all__ = ["MMoERegressor"]


@documented
class MMoERegressor(RegressorMixin, BaseMultiTask):
    """Several regressions, by one network with a gate for each task.

    A bank of experts reads the row, a gate for each task mixes them, and a tower
    for each task turns the mixture into a number: the multi-gate mixture of experts
    (MMoE) and its relatives, trained on squared errors. Labels may be missing.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    {attributes}

    See Also
    --------
    MMoEClassifier : Tasks with classes.
    MultiTaskMMoE : Tasks of mixed kinds.

    References
    ----------
    {references}

    Examples
    --------
    >>> from skmoe.datasets import make_correlated_tasks
    >>> from skmoe.multitask import MMoERegressor
    >>> X, y = make_correlated_tasks(500, n_features=5, random_state=0)
    >>> MMoERegressor(random_state=0).fit(X, y).predict(X).shape
    (500, 2)
    """

    def __init__(
        self,
        architecture="mmoe",
        *,
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
        embedding_size=8,
        embedding_penalty=60.0,
        categorical_features="from_dtype",
        numeric_encoding="bins",
        n_bins=128,
        min_frequency=1,
        list_features=None,
        max_list_length=50,
        task_weights=None,
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
        return "regression"

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y, sample_weight=None):
        """Train for one epoch on further rows, such as those of a new day.

        Categories that are new get vectors of their own, and those that do not occur
        keep theirs: ``embedding_penalty`` is of the first rows alone. Bins and scales
        of numbers stay theirs.

        Parameters
        ----------
        X, y, sample_weight : as in ``fit``

        Returns
        -------
        self : estimator

        Raises
        ------
        ValueError
            As in ``fit``.
        """
        return self._guarded(lambda: self._partial_fit(X, y, sample_weight))

    def predict(self, X):
        """Return the mean of each task.

        Parameters
        ----------
        X : data frame or array-like of shape (n_samples, n_features)

        Returns
        -------
        y : array of shape (n_samples,) or (n_samples, n_tasks)
            In the units of the tasks.
        """
        raw = self._raw(X)
        fitted = self._fitted
        names = [task.name for task in fitted.tasks]
        return assemble(decode(fitted.tasks, raw), names, single=fitted.single)

    def score(self, X, y, sample_weight=None):
        """Return R squared, averaged over the tasks; labels may be missing.

        Parameters
        ----------
        X, y, sample_weight : as in ``fit``

        Returns
        -------
        score : float
        """
        check_is_fitted(self, "_fitted")
        raw = self._raw(X)
        tasks = self._fitted.tasks
        targets = targets_of(self, raw, y, tasks)
        weight = row_weights(targets, sample_weight)
        parts = zip(decode(tasks, raw), targets.values, weight.T, strict=True)
        each = [
            r2_score(wanted[w > 0], got[w > 0], sample_weight=w[w > 0])
            for got, wanted, w in parts
            if w.any()
        ]
        return mean_score(each)
