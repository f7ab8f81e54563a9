"""Which columns of the engine's matrix each part of a mixture sees, and how."""

from numbers import Integral

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils import get_tags

from skmoe._expansion import takes_gaps as expansion_takes_gaps
from skmoe._xp import to_numpy
from skmoe.em._build import innermost_expert
from skmoe.experts._adapter import EstimatorExpert
from skmoe.experts._expanded import ExpandedExpert, has_protocol
from skmoe.experts._known import ARGUMENTS, check_known_array, named_columns
from skmoe.gates._classifier import ClassifierGate
from skmoe.gates._constant import ConstantGate

__all__ = ["check_given", "check_known", "lay_out", "takes_gaps", "takes_outputs"]


def takes_gaps(part):
    """Return whether an estimator can be a part of a mixture where X has gaps.

    Parts that have the protocol themselves see gaps filled, with an indicator;
    others must take NaN.
    """
    last = _last_step(part)
    own = has_protocol(last) or hasattr(last, "log_joint")
    own = own and not isinstance(last, EstimatorExpert)
    return own or bool(get_tags(part).input_tags.allow_nan)


def takes_outputs(part):
    """Return whether an expert can be fitted to several outputs.

    Estimators that take one are fitted to each output.
    """
    last = _last_step(part)
    if last is None:
        return True  # the default, a linear expert
    native = has_protocol(last) or hasattr(last, "_leaf_estimators")
    return not native or bool(get_tags(last).target_tags.multi_output)


def _last_step(part):
    """Return what predicts in a pipeline; any other part itself."""
    return part.steps[-1][1] if isinstance(part, Pipeline) else part


def _allows_nan(part):
    inner = part.classifier if isinstance(part, ClassifierGate) else part
    return bool(get_tags(inner).input_tags.allow_nan)


def _way(part):
    """Return how a part reads columns; see `skmoe._columns`."""
    if getattr(part, "reads_codes", False):
        return "codes"
    if getattr(part, "reads_steps", False):
        return "steps"
    if isinstance(part, EstimatorExpert | ClassifierGate):
        return "codes" if _allows_nan(part) else "filled"
    if isinstance(part, ExpandedExpert):
        # Scalers take gaps and hand them on: only an imputer is to see them.
        return "gaps" if expansion_takes_gaps(part.transformer, False) else "filled"
    return "gaps" if _allows_nan(part) else "filled"


def _gate_way(gate):
    """Return how a gate reads columns."""
    if isinstance(gate, ConstantGate):
        return "means"  # it counts rows: no columns of its own for it
    way = _way(gate)
    return "means" if way == "filled" else way


def lay_out(plan, parts, resolve):
    """Return what experts and gates see, as columns of the engine's matrix.

    Parameters
    ----------
    plan : ColumnPlan
    parts : tuple (experts, columns, gates, gate_columns)
        Lists of (name, Expert) and of Gate, and the user's columns of each, None
        for all. Experts are told which known quantities they get.
    resolve : callable
        ``resolve([column], owner)`` returns the positions of a user's columns.

    Returns
    -------
    columns, gate_columns : lists of (list of int or None)
    """
    experts, columns, gates, gate_columns = parts
    given = plan.offered
    known = [_known(name, expert, resolve, given) for name, expert in experts]
    _check_taken(given, known)
    taken = {atom[1] for some in known for atom in some.values() if atom[0] != "given"}
    _check_columns(plan, taken)
    seen, every = [], range(plan.n_features)
    for (name, expert), cols, some in zip(experts, columns, known, strict=True):
        own = {atom[1] for atom in some.values() if atom[0] != "given"}
        cols = [j for j in (every if cols is None else cols) if j not in own]
        if some:
            expert.known = tuple(some)
        _check_codes(plan, expert, cols, f"expert {name!r}")
        seen.append(plan.seen(cols, _way(expert), tuple(some.values())))
    left, gate_seen = [j for j in every if j not in taken], []
    for gate, cols in zip(gates, gate_columns, strict=True):
        if cols is None and not left and not isinstance(gate, ConstantGate):
            raise ValueError(
                "no column of X is left for the gate: all are offsets, exposures or "
                "numbers of trials. Use gate=ConstantGate(), or name gate_features."
            )
        cols = left if cols is None else cols
        _check_codes(plan, gate, cols, "the gate")
        gate_seen.append(plan.seen(cols, _gate_way(gate)))
    return seen, gate_seen


def _check_codes(plan, part, columns, owner):
    """Raise a ValueError if ``module__categories`` does not fit a table's categories.

    A table without columns of categories may hold codes as plain numbers.

    Parameters
    ----------
    plan : ColumnPlan
    part : Expert or Gate
    columns : list of int
        What it sees, in this order.
    owner : str
        What to call it.
    """
    if not (plan.categories and getattr(part, "reads_codes", False)):
        return
    named = part.get_params(deep=False)["module__categories"]
    try:
        named = dict(named)
    except (TypeError, ValueError):
        return  # the module says what it takes
    counts = {
        place: len(plan.categories[j])
        for place, j in enumerate(columns)
        if j in plan.categories
    }
    for place, j in enumerate(columns):
        own, count = counts.get(place), named.get(place)
        if own is None and place in named:
            fault = "is not categorical, but module__categories names it"
        elif own is not None and place not in named:
            fault = f"has {own} categories, and module__categories does not name it"
        elif own is not None and isinstance(count, Integral) and count < own:
            fault = f"has {own} categories, and module__categories says {count}"
        else:
            continue
        raise ValueError(
            f"{owner}: column {plan.name_of(j)!r} of X {fault}. Of the columns that it "
            f"sees, counted from 0, write module__categories={counts}, or say with "
            "categorical_features what is categorical."
        )


def _known(name, expert, resolve, given):
    """Return the known quantities of an expert, by name, as the plan calls them."""
    inner, found = innermost_expert(expert), {}
    owner = f"expert {name!r}"
    for quantity in ARGUMENTS:
        if not hasattr(inner, quantity):
            continue
        for argument in named_columns(inner, quantity, quantity in given, owner):
            kind = "log" if argument == "exposure" else "value"
            column = getattr(inner, argument)
            found[quantity] = (kind, resolve([column], f"{argument} of {owner}")[0])
        if quantity in given:
            found[quantity] = ("given", quantity)
    return found


def _check_taken(given, known):
    """Raise a ValueError if a known quantity is given that no expert takes."""
    for name in given:
        if not any(name in some for some in known):
            raise ValueError(
                f"{name} was given, but no expert takes it. PoissonExpert and its kin "
                "take an offset, BinomialExpert also trials."
            )


def _check_columns(plan, taken):
    """Raise a ValueError if a column cannot be a known quantity."""
    for j in sorted(taken):
        kind = "sparse" if plan.sparse else "categorical"
        if plan.sparse or j in plan.categories:
            raise ValueError(
                f"column {plan.name_of(j)!r} of X is an offset, exposure or number of "
                f"trials, and must be a dense column of numbers; it is {kind}."
            )


def check_given(n_samples, **arrays):
    """Return the arrays that are not None, as floats, by name.

    Raises
    ------
    ValueError
        If one has the wrong length, or NaN or infinity in it.
    """
    return {
        name: check_known_array(name, array, n_samples)
        for name, array in arrays.items()
        if array is not None
    }


def check_known(plan, matrix, numbers=None):
    """Raise a ValueError if a known quantity in the engine's matrix is not finite.

    Parameters
    ----------
    plan : ColumnPlan
    matrix : array of shape (n_samples, n_engine_columns)
    numbers : array of int of shape (n_samples,), default=None
        What the user calls these rows; None: 0, 1, ...
    """
    for atom in plan.known:
        if atom[0] == "given":
            continue
        values = to_numpy(matrix[:, plan.columns.index(atom)])
        bad = np.flatnonzero(~np.isfinite(values))
        if bad.size:
            wants = "positive" if atom[0] == "log" else "a finite number"
            row = int(bad[0] if numbers is None else numbers[bad[0]])
            raise ValueError(
                f"column {plan.name_of(atom[1])!r}, which is an offset, exposure or "
                f"number of trials, must be {wants} in every row; it is not in row "
                f"{row}."
            )
