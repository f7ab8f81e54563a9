"""Gates and experts in words: rules, formulas, numbers of a readable length."""

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline

from skmoe.experts._adapter import EstimatorExpert
from skmoe.experts._contributions import form_on, linear_form
from skmoe.experts._expanded import ExpandedExpert
from skmoe.gates._classifier import ClassifierGate
from skmoe.gates._gaussian import GaussianGate
from skmoe.gates._softmax import SoftmaxGate
from skmoe.likelihoods import Gaussian

__all__ = [
    "class_shares",
    "column_names",
    "expert_lines",
    "gate_form",
    "noise_of",
    "number",
    "percent",
    "rule_of",
    "seen_names",
    "short_repr",
    "shortened",
    "target_labels",
    "terms",
]

# A longer description of an estimator is cut.
MAX_REPR = 60
# What a linear predictor is, by the link of its expert.
LINK_HEADS = {"identity": "{}", "log": "log E({})", "logit": "logit P({})"}


def number(value, decimals=2):
    """Return a number as text; small ones keep that many significant digits.

    Parameters
    ----------
    value : float
    decimals : int, default=2
        Digits after the point of numbers from 0.1 on.
    """
    size = 0 if value == 0 or not np.isfinite(value) else np.log10(abs(value))
    if size < -4 or size >= 7:
        return f"{value:.{max(decimals - 1, 0)}e}"
    return f"{value:.{decimals + max(0, int(-np.floor(size)) - 1)}f}"


def percent(share):
    """Return a share as text."""
    return "< 1 %" if 0 < share < 0.005 else f"{100 * share:.0f} %"


def class_shares(share, labels, most=3):
    """Return ``yes: 83 %, no: 17 %``: the largest shares of some classes."""
    if np.isnan(share).any():
        return "no rows"
    order = np.argsort(-np.asarray(share), kind="stable")[:most]
    return ", ".join(f"{labels[c]}: {percent(share[c])}" for c in order)


def column_names(model, given=None):
    """Return the names of all columns: given ones, those seen in fit, or x0, x1...

    Raises
    ------
    ValueError
        If there is not one name for each column.
    """
    plan = getattr(model, "_plan", None)
    if given is None and plan is not None and not plan.is_plain:
        return plan.engine_names()
    if given is None:
        seen = getattr(model, "feature_names_in_", None)
        return [f"x{j}" for j in range(model.n_features_in_)] if seen is None else seen
    names = [str(name) for name in given]
    if len(names) != model.n_features_in_:
        raise ValueError(
            f"feature_names must hold one name for each of the {model.n_features_in_} "
            f"columns, got {len(names)}: {names!r}."
        )
    return names if plan is None or plan.is_plain else plan.engine_names(names)


def target_labels(model):
    """Return the names of the classes, or of the outputs: y, or y0, y1, ..."""
    if hasattr(model, "classes_"):
        return [str(label) for label in model.classes_]
    outputs = model._response_shape
    return [f"y{i}" for i in range(outputs[0])] if outputs else ["y"]


def seen_names(names, columns):
    """Return the names of the columns that a part sees; all of them for None."""
    return list(names) if columns is None else [names[j] for j in columns]


def short_repr(part):
    """Return an estimator as one line, an adapted one as what was adapted."""
    if isinstance(part, ExpandedExpert):
        return f"{short_repr(part.transformer)} -> {short_repr(part.native)}"
    if isinstance(part, EstimatorExpert):
        part = part.estimator
    elif isinstance(part, ClassifierGate):
        part = part.classifier
    if isinstance(part, Pipeline):
        return _cut(" -> ".join(short_repr(step) for _, step in part.steps))
    long = part.__repr__(10**6) if isinstance(part, BaseEstimator) else repr(part)
    line = " ".join(long.split()).replace("( ", "(").replace("[ ", "[")
    return _cut(line)


def _cut(line):
    return line if len(line) <= MAX_REPR else f"{line[: MAX_REPR - 3]}..."


# -- linear functions --------------------------------------------------------------


def gate_form(gate):
    """Return the scores whose softmax a gate is; None where they are not linear.

    Returns
    -------
    form : LinearForm or None
        With slopes of shape (n_children, n_columns).
    """
    if isinstance(gate, SoftmaxGate):
        return linear_form(gate)
    if isinstance(gate, GaussianGate) and gate.covariance == "tied":
        return form_on(*gate.linear_form(), gate._design)
    return None


def rule_of(form):
    """Return the scores of a gate over two children as one, of shape (1, n_columns).

    A row goes to the second child where ``slope @ x + intercept > 0``.
    """
    slope = form.slope[1:] - form.slope[:1]
    return form._replace(slope=slope, intercept=form.intercept[1:] - form.intercept[:1])


def shortened(form, max_columns):
    """Keep the columns that move each row of a form most, the others at their mean.

    Parameters
    ----------
    form : LinearForm
        With slopes of shape (n_rows, n_columns).
    max_columns : int or None

    Returns
    -------
    form : LinearForm
        Zero slopes for the other columns.
    n_left_out : array of int of shape (n_rows,)
    """
    effect = np.abs(form.slope) * form.spread
    n_used = (effect > 0).sum(axis=1)
    if max_columns is None or max_columns >= form.slope.shape[1]:
        return form, np.zeros_like(n_used)
    order = np.argsort(-effect, axis=1, kind="stable")[:, max_columns:]
    slope = form.slope.copy()
    np.put_along_axis(slope, order, 0.0, axis=1)
    intercept = form.intercept + (form.slope - slope) @ form.center
    left_out = np.maximum(n_used - max_columns, 0)
    return form._replace(slope=slope, intercept=intercept), left_out


def terms(slope, names, decimals, *, first=True, times=" * "):
    """Return ``0.83 * age - 1.20 * dose``; columns of slope zero are left out.

    Parameters
    ----------
    slope : array of shape (n_columns,)
    names : list of str
    decimals : int
    first : bool
        Whether nothing stands in front.
    times : str
        Between a slope and its column.
    """
    text = ""
    for value, name in zip(slope, names, strict=True):
        if value != 0:
            lead = ("-" if value < 0 else "") if first else f" {'+-'[int(value < 0)]} "
            text += f"{lead}{number(abs(value), decimals)}{times}{name}"
            first = False
    return text


# -- experts -----------------------------------------------------------------------


def noise_of(expert):
    """Return the standard deviation of each output, of shape (n_outputs,), or None."""
    if not isinstance(expert.likelihood, Gaussian):
        return None
    variance = np.asarray(expert.dispersion, dtype=float)
    variance = np.diag(variance) if variance.ndim == 2 else variance
    return np.sqrt(np.atleast_1d(variance))


def expert_lines(expert, names, labels, decimals, max_columns=None, times=" * "):
    """Return an expert in words, a line for each output or class.

    Parameters
    ----------
    expert : fitted Expert
    names : list of str
        Of the columns that it sees.
    labels : list of str
        Of the outputs, or of the classes.
    decimals : int
    max_columns : int or None
        Terms of a line; the other columns are put at their mean.
    times : str
        Between a slope and its column.

    Returns
    -------
    lines : list of str
        A single line for an expert that is not linear.
    """
    form = linear_form(expert)
    if form is None:
        return [f"{', '.join(labels)} ~ {short_repr(expert)}"]
    form = form._replace(
        slope=np.atleast_2d(form.slope), intercept=np.atleast_1d(form.intercept)
    )
    heads = labels
    link = getattr(expert, "link", None)
    if link is not None:
        heads = [LINK_HEADS[link].format(label) for label in labels]
    elif not isinstance(expert.likelihood, Gaussian):
        binary = len(labels) == 2
        heads = (
            [f"log-odds({labels[1]})"] if binary else [f"score({c})" for c in labels]
        )
        form = rule_of(form) if binary else form
    form, left_out = shortened(form, max_columns)
    # Known quantities come last among the columns, and have no slope.
    names, beside = names[: form.slope.shape[1]], names[form.slope.shape[1] :]
    offset = dict(zip(getattr(expert, "known", ()), beside, strict=True)).get("offset")
    lines = []
    for i, head in enumerate(heads):
        rest = terms(form.slope[i], names, decimals, first=False, times=times)
        rest += f" + {offset}" if offset else ""
        more = " + ..." if left_out[i] else ""
        lines.append(f"{head} = {number(form.intercept[i], decimals)}{rest}{more}")
    return lines
