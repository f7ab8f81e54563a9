"""Sparse mixtures of experts that are trained end to end."""

import numbers
from typing import ClassVar

from skmoe._sklearn import Interval, StrOptions
from skmoe.multitask._answers import AnswersClasses, AnswersNumbers
from skmoe.multitask._table import FROM_ONE, RATE
from skmoe.neural._documented import documented_sparse
from skmoe.neural._routed import BaseRouted

__all__ = ["SparseMixtureOfExpertsClassifier", "SparseMixtureOfExpertsRegressor"]

ROUTERS = {
    "noisy_topk",
    "topk",
    "switch",
    "expert_choice",
    "dense",
    "hash",
    "random",
}
# Against dead experts. The losses of noisy choices alone leave more of them dead.
STRONGER = {
    "noisy_topk": {"importance": 0.3, "load": 0.3, "clean": 1.0},
    "topk": {"switch": 0.1},
    "switch": {"switch": 0.1},
}


class BaseSparse(BaseRouted):
    """The arguments of a mixture of experts that a router chooses among."""

    _parameter_constraints: ClassVar = BaseRouted._parameter_constraints | {
        "n_experts": [FROM_ONE],
        "top_k": [FROM_ONE],
        "router": [StrOptions(ROUTERS)],
        "router_losses": [dict, None],
        "capacity_factor": [Interval(numbers.Real, 0, None, closed="neither"), None],
        "overflow": [StrOptions({"drop", "next"})],
        "priority": [StrOptions({"arrival", "gate"})],
        "bias_rate": [RATE],
        "expert_hidden": [FROM_ONE],
        "stem_hidden": ["array-like", FROM_ONE],
        "activation": [StrOptions({"relu", "gelu", "silu", "tanh"})],
        "linear": ["boolean"],
    }

    _model = ("_sparse_model", "SparseModel")
    _of_network = (
        "n_experts",
        "top_k",
        "router",
        "router_losses",
        "capacity_factor",
        "overflow",
        "priority",
        "bias_rate",
        "expert_hidden",
        "stem_hidden",
        "activation",
        "linear",
    )

    def _advice(self):
        losses = STRONGER.get(self.router)
        fewer = "take fewer experts"
        return f"raise router_losses, such as {losses}, or {fewer}" if losses else fewer


@documented_sparse
class SparseMixtureOfExpertsClassifier(AnswersClasses, BaseSparse):
    """A sparse mixture of experts for classes.

    Hundreds of experts, small perceptrons, of which a router chooses a few for each
    row: the network knows much and computes little. A constant and, if asked for,
    a linear map of the row are added. All is trained end to end by gradient, on
    numbers and categories as they are, and labels may be missing.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    classes_ : array of shape (n_classes,), or list of arrays
        Labels; a list for a y of shape (n_samples, n_outputs).
    {attributes}

    See Also
    --------
    SparseMixtureOfExpertsRegressor : For numbers.
    skmoe.MixtureOfExpertsClassifier : Few experts of any kind, fitted by EM.

    References
    ----------
    {references}
    """

    _parameter_constraints: ClassVar = BaseSparse._parameter_constraints | {
        "class_weight": [dict, list, StrOptions({"balanced"}), None]
    }

    def __init__(
        self,
        n_experts=64,
        *,
        top_k=2,
        router="noisy_topk",
        router_losses=None,
        capacity_factor=None,
        overflow="drop",
        priority="arrival",
        bias_rate=0.0,
        expert_hidden=32,
        stem_hidden=(),
        activation="relu",
        linear=True,
        column_dropout=0.0,
        embedding_size=8,
        embedding_penalty=60.0,
        categorical_features="from_dtype",
        numeric_encoding="bins",
        n_bins=128,
        min_frequency=1,
        class_weight=None,
        learning_rate=5e-3,
        weight_decay=0.0,
        weight_averaging=0.998,
        batch_size=256,
        max_epochs="auto",
        early_stopping="auto",
        validation_fraction=0.1,
        n_iter_no_change=10,
        device=None,
        precision="auto",
        compile=False,
        warm_start=False,
        random_state=None,
        verbose=0,
    ):
        self._keep(locals())


@documented_sparse
class SparseMixtureOfExpertsRegressor(AnswersNumbers, BaseSparse):
    """A sparse mixture of experts for numbers.

    Hundreds of experts, small perceptrons, of which a router chooses a few for each
    row: the network knows much and computes little. A constant and, if asked for,
    a linear map of the row are added. All is trained end to end by gradient, on
    numbers and categories as they are, and labels may be missing.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    {attributes}

    See Also
    --------
    SparseMixtureOfExpertsClassifier : For classes.
    skmoe.MixtureOfExpertsRegressor : Few experts of any kind, fitted by EM.

    References
    ----------
    {references}
    """

    def __init__(
        self,
        n_experts=64,
        *,
        top_k=2,
        router="noisy_topk",
        router_losses=None,
        capacity_factor=None,
        overflow="drop",
        priority="arrival",
        bias_rate=0.0,
        expert_hidden=32,
        stem_hidden=(),
        activation="relu",
        linear=True,
        column_dropout=0.0,
        embedding_size=8,
        embedding_penalty=60.0,
        categorical_features="from_dtype",
        numeric_encoding="bins",
        n_bins=128,
        min_frequency=1,
        learning_rate=5e-3,
        weight_decay=0.0,
        weight_averaging=0.998,
        batch_size=256,
        max_epochs="auto",
        early_stopping="auto",
        validation_fraction=0.1,
        n_iter_no_change=10,
        device=None,
        precision="auto",
        compile=False,
        warm_start=False,
        random_state=None,
        verbose=0,
    ):
        self._keep(locals())
