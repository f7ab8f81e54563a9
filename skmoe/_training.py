"""The training rows: read, checked, coded, and laid out for the engine."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse
from sklearn.base import is_regressor
from sklearn.utils import get_tags

from skmoe._arguments import check_finite, resolve_gate
from skmoe._coding import TableCoder, learn_table, names_columns
from skmoe._columns import ColumnPlan, check_seen
from skmoe._foreign_rows import check_rows, check_weights, has_gaps
from skmoe._gaps import gaps
from skmoe._placement import anchor_of, fit_obstacle, placed, rows_obstacle
from skmoe._ragged import is_ragged
from skmoe._seen import check_given, check_known
from skmoe._sklearn import check_sample_weight
from skmoe._xp import is_foreign, namespace, to_numpy
from skmoe.em._balance import UsagePrior, balance_of
from skmoe.em._build import informed_expert
from skmoe.em._node import take_columns
from skmoe.em._units import Units, group_codes
from skmoe.gates._tree import is_generative

__all__ = [
    "FittedRows",
    "TrainingRows",
    "check_support",
    "given_rows",
    "read_training_rows",
    "rows_to_judge",
]


class FittedRows(NamedTuple):
    """The rows that a mixture was fitted to, as the engine has them.

    Kept, by reference and not in pickles, so that ``summary()`` and ``diagnose()``
    need no arguments.

    Attributes
    ----------
    X : array of shape (n_samples, n_engine_columns)
    y : array
        Responses, or codes of classes; placeholders where there is none.
    weight : array of shape (n_samples,)
        All positive.
    units : Units or None

    They may lie on a device; what judges a fit takes them to the host.
    """

    X: Any
    y: Any
    weight: Any
    units: Units | None

    def on_host(self):
        """Return the same rows in NumPy arrays."""
        return FittedRows(*(to_numpy(array) for array in self[:3]), self.units)


@dataclass
class TrainingRows:
    """The rows of positive weight, and what is said about them.

    Attributes
    ----------
    X : array of shape (n_samples, n_features)
        Coded; NaN for gaps.
    y : array
        Placeholders where there is no response.
    weight : array of shape (n_samples,)
    keep : array of bool
        Which of the user's rows these are.
    labelled : array of bool of shape (n_samples,), or None where all are
    given : dict of str to array
        Known quantities that came beside X.
    units : Units or None
    coder : TableCoder
    plan : ColumnPlan
    anchor : array or None
        Where the engine's rows are to lie; None for NumPy.
    """

    X: Any
    y: Any
    weight: Any
    keep: Any
    labelled: Any
    given: dict
    units: Units | None
    coder: TableCoder
    plan: ColumnPlan
    anchor: Any = None

    def matrix(self, node):
        """Return the engine's matrix, once all parts have said what they see."""
        self.plan.close()
        node.columns = [self.plan.whole(columns) for columns in node.columns]
        node.gate_columns = self.plan.whole(node.gate_columns)
        if getattr(node.gate, "columns", None) is not None:
            node.gate.columns = [self.plan.whole(cols) for cols in node.gate.columns]
        matrix = self.plan.matrix(self.X, self.given)
        check_known(self.plan, matrix, np.flatnonzero(self.keep))
        return placed(self.anchor, matrix)[0]


def read_training_rows(model, X, y, sample_weight, groups, offset, trials):
    """Validate what ``fit`` gets; sets ``n_features_in_`` and the columns' names.

    Returns
    -------
    rows : TrainingRows

    Raises
    ------
    ValueError
        If something is not as the model's ``fit`` describes it.
    """
    beside = {"groups": groups, "offset": offset, "trials": trials}
    anchor = _anchor(model, X, y, beside)
    if is_foreign(X) and anchor is not None:
        X = check_rows(model, X, reset=True)
        if not (has_gaps(X) or names_columns(model.categorical_features)):
            return _read_foreign_rows(model, X, y, sample_weight, anchor)
    return _read_rows(model, X, y, sample_weight, beside, anchor)


def _anchor(model, X, y, beside):
    """Return an array where the rows are to be worked on, or None for NumPy."""
    if not is_foreign(X) and model.device is None:
        return None
    given = [name for name, array in beside.items() if array is not None]
    obstacle = rows_obstacle(X, given) or fit_obstacle(model)
    if obstacle is None and _lacks_responses(y):
        obstacle = "rows without a response are worked on in NumPy"
    return anchor_of(model, X, obstacle)


def _lacks_responses(y):
    """Return whether some response is missing."""
    if not is_foreign(y):
        return y is not None and bool(gaps(y).any())
    return namespace(y).isdtype(y.dtype, "real floating") and has_gaps(y)


def _read_rows(model, X, y, sample_weight, beside, anchor):
    """Return rows read in NumPy."""
    groups, offset, trials = (beside[name] for name in ("groups", "offset", "trials"))
    X, y, sample_weight = to_numpy(X), to_numpy(y), to_numpy(sample_weight)
    if _reads_steps(model.experts) and is_ragged(X):
        raise ValueError(
            "X is a list of sequences, and a mixture takes a table: give "
            "skmoe.sequence.pad_sequences(X), beside columns for the gate."
        )
    coder, X, y, weight = learn_table(model, X, y, sample_weight)
    names = getattr(model, "feature_names_in_", None)
    check_finite(coder.numbers(X), names, get_tags(model).input_tags.allow_nan)
    y = _one_output(model, y)
    y, labelled = model._split_labelled(y)
    given = check_given(weight.size, offset=to_numpy(offset), trials=to_numpy(trials))
    if given and sparse.issparse(X):
        raise ValueError(f"{sorted(given)} need a dense X, got a sparse one.")
    group = None
    if groups is not None:
        group = group_codes(to_numpy(groups), X.shape[0])
        if sparse.issparse(X):
            raise ValueError("groups need a dense X, got a sparse one.")
    keep = weight > 0
    if labelled is not None and labelled[keep].all():
        labelled = None
    _check_labelled(model, labelled, keep)
    units = Units(group, labelled, balance_of(model.balance, model.capacity))
    if not keep.all():
        X, y, weight = X[keep], y[keep], weight[keep]
        given = {name: array[keep] for name, array in given.items()}
        units = units.take(keep)
    labelled = units.labelled
    units = None if units.is_plain else units
    if units is not None:
        _check_units(model, units)
    if model._refuses_empty and not _reads_steps(model.experts):
        check_seen(X, names)
    plan = ColumnPlan(X, weight, coder.categories, names, given)
    return TrainingRows(X, y, weight, keep, labelled, given, units, coder, plan, anchor)


def _reads_steps(experts):
    """Return whether an expert reads padded sequences: last steps may be empty."""
    if isinstance(experts, list | tuple):
        return any(_reads_steps(part) for part in experts)
    return getattr(experts, "reads_steps", False)


def _read_foreign_rows(model, X, y, sample_weight, anchor):
    """Return rows that stay where they are, or go to the model's device."""
    if model.device is not None:
        (X,) = placed(anchor, X)
        if is_foreign(y):
            (y,) = placed(anchor, y)
        if is_foreign(sample_weight):
            (sample_weight,) = placed(anchor, sample_weight)
    weight = check_weights(sample_weight, X)
    y = _one_output(model, model._foreign_target(X, y))
    xp, mask = namespace(X), weight > 0
    keep = np.ones(X.shape[0], dtype=bool)
    if not bool(xp.all(mask)):
        keep = to_numpy(mask)
        rows = xp.nonzero(mask)[0]
        X, weight = xp.take(X, rows, axis=0), xp.take(weight, rows)
        y = xp.take(y, rows, axis=0) if is_foreign(y) else y[keep]
    coder = TableCoder(X, None, None)
    plan = ColumnPlan.of_foreign(X, weight)
    return TrainingRows(X, y, weight, keep, None, {}, None, coder, plan, anchor)


def _check_labelled(model, labelled, keep):
    """Raise a ValueError if rows lack a response and the gate cannot use them."""
    if labelled is None:
        return
    row = int(np.flatnonzero(~labelled & keep)[0])
    gate = resolve_gate(model.gate, np.random.RandomState(0))
    if not (model._takes_gaps_in_y or is_generative(gate)):
        raise ValueError(
            f"Input y contains NaN or unlabelled rows: first in row {row}. Rows "
            "without a response can only train a gate that models x: set "
            "gate=GaussianGate(), or drop them."
        )
    if not labelled[keep].any():
        raise ValueError("no row of y has a response; give some.")


def _check_units(model, units):
    """Raise a ValueError where groups, gaps in y or a balance cannot be had."""
    kind = "balance"
    if units.group is not None:
        kind = "groups"
    elif units.labelled is not None:
        kind = "rows without a response"
    if model.algorithm == "stack":
        raise ValueError(
            f'{kind}: algorithm="stack" fits every expert to all rows alone; use "em".'
        )
    if getattr(model, "grow", None) is not None:
        raise ValueError(f"{kind}: a tree cannot be grown with them; set grow=None.")
    gate = resolve_gate(model.gate, np.random.RandomState(0))
    if isinstance(units.balance, UsagePrior) and is_generative(gate):
        raise ValueError(
            f"balance={model.balance!r}: a prior on usage needs a gate that is "
            f'conditional on x, got {gate!r}; use SoftmaxGate, or balance="cap".'
        )


def _one_output(model, y):
    """Return responses of one output as a vector, where experts take no more.

    Raises
    ------
    ValueError
        If there are several.
    """
    if np.ndim(y) < 2 or not is_regressor(model):
        return y
    if get_tags(model).target_tags.multi_output:
        return y
    if y.shape[1] != 1:
        raise ValueError(
            f"an expert models one output, got y of shape {y.shape}: fit one mixture "
            "for each output, or use LinearExpert."
        )
    return y[:, 0]


def check_support(node, X, y, rows):
    """Raise a ValueError if no expert can explain a row's response at all.

    With groups: if none can explain all rows of a group.

    Parameters
    ----------
    node : Node
    X : array
        The engine's matrix.
    y : array
    rows : TrainingRows
    """
    group = None if rows.units is None else rows.units.group
    alone = np.zeros(y.shape[0], dtype=bool)
    together, note = np.zeros(y.shape[0], dtype=bool), ""
    for (_, expert), columns in zip(node.experts, node.columns, strict=True):
        inner = informed_expert(expert)
        if not hasattr(inner, "supports"):
            return
        own = np.array(to_numpy(inner.supports(take_columns(X, columns), y)))
        if rows.labelled is not None:
            own |= ~rows.labelled
        alone |= own
        together |= own if group is None else np.bincount(group, ~own)[group] == 0
        note = note or inner.support_note
    numbers = np.flatnonzero(rows.keep)
    if not alone.all():
        row = int(np.flatnonzero(~alone)[0])
        raise ValueError(f"{note} Got y = {float(y[row]):g} in row {numbers[row]}.")
    if not together.all():
        row = int(np.flatnonzero(~together)[0])
        raise ValueError(
            f"no expert can explain all rows of one group: that of row {numbers[row]}. "
            f"{note} The rows of a group share one expert; fit them without groups, or "
            "give an expert that takes all of them."
        )


def given_rows(model, X, y, sample_weight, groups, method, known):
    """Read rows given to a fitted model, as the engine has them.

    Parameters
    ----------
    model : fitted mixture
    X, y, sample_weight, groups : array-like
        The last two may be None.
    method : str
        Whose arguments they are, for messages.
    known : dict of str to array
        Known quantities beside X.

    Returns
    -------
    rows : FittedRows
        Those of positive weight.

    Raises
    ------
    ValueError
        If they are not as in fit.
    """
    X = model._check_new(X, method, known, host=True)
    y = model._check_response(X, y)
    weight = check_sample_weight(to_numpy(sample_weight), X)
    units = None
    if groups is not None:
        units = Units(group_codes(to_numpy(groups), X.shape[0]))
    keep = weight > 0
    if not keep.all():
        X, y, weight = X[keep], y[keep], weight[keep]
        units = None if units is None else units.take(keep)
    return FittedRows(X, y, weight, units)


def rows_to_judge(model, X, y, sample_weight, groups, method, known):
    """Return given rows, or those of the fit where X and y are None.

    Raises
    ------
    ValueError
        If one of X and y is missing, or the model has no rows any more.
    """
    if (X is None) != (y is None):
        given, missing = ("y", "X") if X is None else ("X", "y")
        raise ValueError(
            f"{method} needs both X and y, or neither: {given} is given without "
            f"{missing}."
        )
    if X is not None:
        return given_rows(model, X, y, sample_weight, groups, method, known)
    rows = getattr(model, "_training_rows", None)
    if rows is None:
        raise ValueError(
            "this model no longer has the rows that it was fitted to (it was copied or "
            f"unpickled): give them, {method}(X, y)."
        )
    return rows.on_host()
