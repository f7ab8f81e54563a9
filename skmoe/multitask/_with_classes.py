"""What multi-task estimators of tasks with classes have besides."""

from typing import ClassVar

from skmoe._sklearn import StrOptions
from skmoe.multitask._answers import LearnsClasses
from skmoe.multitask._estimator import BaseMultiTask
from skmoe.multitask._table import FROM_ZERO

__all__ = ["WithClasses"]


class WithClasses(LearnsClasses, BaseMultiTask):
    """A multi-task estimator with weights of classes and chains of tasks."""

    _parameter_constraints: ClassVar = BaseMultiTask._parameter_constraints | {
        "chain": [None, str, list, tuple],
        "chain_penalty": [FROM_ZERO],
        "class_weight": [dict, list, StrOptions({"balanced"}), None],
    }
