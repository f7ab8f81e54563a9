"""What the multi-task estimators share beyond the training on a table."""

from typing import ClassVar

from skmoe._sklearn import StrOptions
from skmoe.multitask._affinity import TaskAffinity
from skmoe.multitask._export import OnnxExport
from skmoe.multitask._plan import NETWORK, PENALTIES
from skmoe.multitask._table import FROM_ONE, FROM_ZERO, RATE, BaseTable
from skmoe.multitask._usage import GateReadings, warn_of_polarised_gates

__all__ = ["BaseMultiTask"]


class BaseMultiTask(GateReadings, TaskAffinity, OnnxExport, BaseTable):
    """The arguments of a network of several tasks, and what its gates say.

    A subclass says what kinds its tasks are, ``_kinds()``, and what its predictions
    look like.
    """

    _parameter_constraints: ClassVar = BaseTable._parameter_constraints | {
        "architecture": [
            StrOptions(
                {
                    "mmoe",
                    "shared_bottom",
                    "omoe",
                    "cgc",
                    "ple",
                    "aitm",
                    "esmm",
                    "single",
                }
            )
        ],
        "n_experts": [FROM_ONE],
        "n_shared_experts": [FROM_ONE],
        "n_levels": [FROM_ONE],
        "expert_hidden": ["array-like", FROM_ONE],
        "tower_hidden": ["array-like", FROM_ONE],
        "n_members": [FROM_ONE],
        "activation": [StrOptions({"relu", "silu", "gelu", "tanh"})],
        "dropout": [RATE],
        "gate_dropout": [RATE],
        "normalize_experts": ["boolean"],
        "gate_entropy": [FROM_ZERO],
        "load_balance": [FROM_ZERO],
        "list_features": [dict, None],
        "max_list_length": [FROM_ONE],
        "task_weights": ["array-like", dict, StrOptions({"uncertainty"}), None],
        "aggregator": [callable, None],
        "monitor": [StrOptions({"loss", "auc"})],
        "distributed": ["boolean"],
    }

    _of_network, _of_penalties = NETWORK, PENALTIES
    # For estimators of classes alone.
    chain_penalty = 0.0

    def _warn_of(self, fitted, data):
        names = [task.name for task in fitted.tasks]
        warn_of_polarised_gates(names, fitted.model, data)
