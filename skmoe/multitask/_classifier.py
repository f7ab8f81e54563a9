"""Several tasks with classes."""

from skmoe.multitask._answers import AnswersClasses
from skmoe.multitask._documented import documented
from skmoe.multitask._with_classes import WithClasses

__all__ = ["MMoEClassifier"]


@documented
class MMoEClassifier(AnswersClasses, WithClasses):
    """Several tasks with classes, by one network with a gate for each task.

    A bank of experts reads the row, a gate for each task mixes them, and a tower
    for each task turns the mixture into probabilities of its classes: the
    multi-gate mixture of experts (MMoE) and its relatives. Labels may be missing.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    classes_ : array of shape (n_classes,), or list of arrays
        Labels of the task; a list for a y of shape (n_samples, n_tasks).
    {attributes}

    See Also
    --------
    MMoERegressor : Tasks with numbers.
    MultiTaskMMoE : Tasks of mixed kinds.

    References
    ----------
    {references}

    Examples
    --------
    >>> import numpy as np
    >>> from skmoe.multitask import MMoEClassifier
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(300, 4))
    >>> y = np.column_stack([X[:, 0] > 0, X[:, 0] + X[:, 1] > 0]).astype(int)
    >>> clf = MMoEClassifier(random_state=0).fit(X, y)
    >>> click, buy = clf.predict_proba(X)
    >>> click.shape
    (300, 2)
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

    def predict_proba(self, X):
        """Return the probability of each class.

        For "esmm" that of a chained task is the probability that all tasks of the
        chain up to it happen.

        Parameters
        ----------
        X : data frame or array-like of shape (n_samples, n_features)

        Returns
        -------
        proba : array of shape (n_samples, n_classes), or list of them
            A list for several tasks, as scikit-learn's scorers take it.
        """
        return super().predict_proba(X)
