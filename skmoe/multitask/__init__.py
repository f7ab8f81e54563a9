"""Several tasks for the same rows: MMoE and its relatives, as scikit-learn estimators.

The networks need torch (``pip install 'skmoe[torch]'``), which is imported when a
model is fitted; scorers and splitters do without.
"""

from skmoe.multitask._classifier import MMoEClassifier
from skmoe.multitask._mixed import MultiTaskMMoE
from skmoe.multitask._regressor import MMoERegressor
from skmoe.multitask._scorers import make_task_scorer, multitask_log_loss
from skmoe.multitask._split import MultiTaskStratifiedKFold

__all__ = [
    "MMoEClassifier",
    "MMoERegressor",
    "MultiTaskMMoE",
    "MultiTaskStratifiedKFold",
    "make_task_scorer",
    "multitask_log_loss",
]
