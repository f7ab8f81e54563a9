"""Fast feedforward networks: a tree of splits, of which a row takes one path."""

import numbers
from typing import ClassVar

from skmoe._sklearn import Interval, StrOptions
from skmoe.multitask._answers import AnswersClasses, AnswersNumbers
from skmoe.multitask._table import FROM_ONE, FROM_ZERO, RATE
from skmoe.neural._documented import documented_leaves
from skmoe.neural._routed import BaseRouted

__all__ = ["FastFeedforwardClassifier", "FastFeedforwardRegressor"]


class BaseLeaves(BaseRouted):
    """The arguments of a fast feedforward network."""

    _parameter_constraints: ClassVar = BaseRouted._parameter_constraints | {
        "depth": [Interval(numbers.Integral, 0, 20, closed="both")],
        "leaf_width": [FROM_ONE],
        "hardening": [FROM_ZERO],
        "load_balance": [FROM_ZERO],
        "region_leak": [RATE],
        "master_leaf_width": [Interval(numbers.Integral, 0, None, closed="left")],
        "stem_hidden": ["array-like", FROM_ONE],
        "activation": [StrOptions({"relu", "gelu", "silu", "tanh"})],
        "linear": ["boolean"],
    }

    _model = ("_sparse_model", "LeafModel")
    _of_network = (
        "depth",
        "leaf_width",
        "hardening",
        "load_balance",
        "region_leak",
        "master_leaf_width",
        "stem_hidden",
        "activation",
        "linear",
    )
    _noun, _nouns = "leaf", "leaves"

    def _advice(self):
        return "raise load_balance, such as to 3, or take a smaller depth"


@documented_leaves
class FastFeedforwardClassifier(AnswersClasses, BaseLeaves):
    """A fast feedforward network for classes.

    A balanced tree of learned splits above leaves that are small perceptrons; all
    leaves are mixed in training, and one is evaluated in prediction: as many
    splits as the tree has levels, whatever the number of leaves. A constant and, if
    asked for, a linear map of the row are added. Numbers and categories go in as they
    are, and labels may be missing.

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
    FastFeedforwardRegressor : For numbers.
    skmoe.nn.FastFeedforward : The layer.

    References
    ----------
    {references}
    """

    _parameter_constraints: ClassVar = BaseLeaves._parameter_constraints | {
        "class_weight": [dict, list, StrOptions({"balanced"}), None]
    }

    def __init__(
        self,
        depth=4,
        *,
        leaf_width=32,
        hardening=3.0,
        load_balance=1.0,
        region_leak=0.1,
        master_leaf_width=0,
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
        n_iter_no_change=20,
        device=None,
        precision="auto",
        compile=False,
        warm_start=False,
        random_state=None,
        verbose=0,
    ):
        self._keep(locals())


@documented_leaves
class FastFeedforwardRegressor(AnswersNumbers, BaseLeaves):
    """A fast feedforward network for numbers.

    A balanced tree of learned splits above leaves that are small perceptrons; all
    leaves are mixed in training, and one is evaluated in prediction: as many
    splits as the tree has levels, whatever the number of leaves. A constant and, if
    asked for, a linear map of the row are added. Numbers and categories go in as they
    are, and labels may be missing.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    {attributes}

    See Also
    --------
    FastFeedforwardClassifier : For classes.
    skmoe.nn.FastFeedforward : The layer.

    References
    ----------
    {references}
    """

    def __init__(
        self,
        depth=4,
        *,
        leaf_width=32,
        hardening=3.0,
        load_balance=1.0,
        region_leak=0.1,
        master_leaf_width=0,
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
        n_iter_no_change=20,
        device=None,
        precision="auto",
        compile=False,
        warm_start=False,
        random_state=None,
        verbose=0,
    ):
        self._keep(locals())
