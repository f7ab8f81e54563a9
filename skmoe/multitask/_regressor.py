"""Several tasks with numbers."""

from skmoe.multitask._answers import AnswersNumbers
from skmoe.multitask._documented import documented
from skmoe.multitask._estimator import BaseMultiTask

__all__ = ["MMoERegressor"]


@documented
class MMoERegressor(AnswersNumbers, BaseMultiTask):
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
