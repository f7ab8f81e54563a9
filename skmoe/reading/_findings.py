"""What may be wrong with a fitted mixture: each check yields what it finds."""

from typing import NamedTuple

import numpy as np
from scipy import stats
from scipy.sparse.csgraph import connected_components

from skmoe._wording import gate_form, noise_of, number, percent
from skmoe.em._build import gate_columns
from skmoe.gates._constant import ConstantGate
from skmoe.gates._tree import single_gate, softmax_gates
from skmoe.likelihoods import Categorical

__all__ = ["CHECKS", "Finding", "behind_best"]

# The gate is sure of a row above this probability; hard, if it is of nearly all rows.
SURE, NEARLY_ALL, ALL = 0.99, 0.95, 0.999
# Log odds (nats) that one standard deviation of a column moves: a gate without penalty
# that goes beyond is on its way to infinity.
STEEP = 100.0
# Nats per row that separate experts who say nearly the same; half a squared
# distance in standard deviations, so these are 0.7 of them.
SAME = 0.25
# Another maximum so close (nats) is as good a description of the data.
RIVAL = 2.0
# Ratio of the experts' standard deviations.
UNEVEN = 10.0
# Two-sided probability of five standard deviations: no expert explains such a row.
FIVE_SIGMA = 5.7e-7
# Names, and rows, that a message tells.
NAMED, NAMED_ROWS = 6, 5


class Finding(NamedTuple):
    """One thing that stands out.

    Attributes
    ----------
    kind : str
        "not converged", "collapsed", "idle", "redundant", "hard gate", "gate ignores
        x", "rival maximum", "uneven noise" or "unexplained rows".
    severity : {"problem", "notice"}
        A problem makes numbers wrong that are read off the model; a notice may be as
        it should be.
    message : str
        What it is and what to do about it.
    experts : list of str
        The experts it is about, if it is about some.
    """

    kind: str
    severity: str
    message: str
    experts: list


def _not_converged(case):
    if not case.model.converged_:
        yield Finding(
            "not converged",
            "problem",
            f"EM stopped after {case.model.n_iter_} passes before it had converged: "
            "raise max_iter (or tol).",
            [],
        )


def _collapsed(case):
    names = [
        name
        for name, expert in zip(case.names, case.model.experts_, strict=True)
        if getattr(expert, "collapsed", False)
    ]
    if names:
        yield Finding(
            "collapsed",
            "problem",
            f"The noise of {_and(names)} fell to its floor: where an expert fits all "
            "its rows exactly the likelihood has no maximum. Set a variance_prior, or "
            "ask for fewer experts.",
            names,
        )


def _idle(case):
    names = [case.names[k] for k in np.flatnonzero(case.idle)]
    if names:
        shares = [percent(case.share[k]) for k in np.flatnonzero(case.idle)]
        yield Finding(
            "idle",
            "notice",
            f"{_and(names)} {_verb(names, 'is', 'are')} nearly idle ({_and(shares)}"
            " of the rows): ask for fewer experts, set balance, or look whether these "
            "rows are unlike all others.",
            names,
        )


def _redundant(case):
    """Find sets of experts of which one could answer for the others."""
    used = np.flatnonzero(case.learns & ~case.idle)
    cost = np.full((case.share.size, case.share.size), np.inf)
    for gone in used:
        worth = case.worth(case.model.experts_[gone].n_parameters + case.gate_share)
        lost, gap = case.costs_of_merging(gone)
        same = (lost < worth) & (gap < SAME)
        kept = used[same[used] & (used != gone)]
        cost[gone, kept] = lost[kept]
    count, group = connected_components(cost < np.inf, directed=False)
    for members in (np.flatnonzero(group == g) for g in range(count)):
        if members.size > 1:
            yield _merged(case, members, np.minimum(cost, cost.T))


def _merged(case, members, cost):
    names = [case.names[k] for k in members]
    pairs = [(k, m) for k in members for m in members if m < k and cost[k, m] < np.inf]
    lost = max(0.0, *(cost[pair] for pair in pairs))
    apart = np.max([case.apart(*pair) for pair in pairs])
    near = "" if np.isnan(apart) else f" ({number(apart)} standard deviations apart)"
    return Finding(
        "redundant",
        "notice",
        f"{_and(names)} say nearly the same{near}: where one answers for another as "
        f"well, {number(lost, 1)} nats are lost, less than its parameters are worth by "
        "BIC. Ask for fewer experts, unless the gate needs each of them where it is.",
        names,
    )


def _gate_ignores_x(case):
    gate = single_gate(case.model.gate_)
    if case.share.size == 1 or isinstance(gate, ConstantGate):
        return
    slopes = min(
        gate.n_parameters - (case.share.size - 1),
        (case.share.size - 1) * _n_columns(case),
    )
    lost, worth = case.cost_of_constant_gate(), case.worth(slopes)
    if lost < worth:
        yield Finding(
            "gate ignores x",
            "notice",
            f"The gate makes hardly any use of x: one that ignores it would lose "
            f"{number(lost, 1)} nats, and the slopes are worth {number(worth, 1)} by "
            "BIC. Use ConstantGate(), or fewer columns in gate_features.",
            [],
        )


def _hard_gate(case):
    if case.share.size == 1:
        return
    highest = np.exp(case.log_gate).max(axis=1)
    sure = float(case.weight @ (highest > SURE)) / case.total
    steepest, name, free = _steepest(case)
    runaway = free and (steepest > STEEP or sure > ALL)
    if not runaway and sure < NEARLY_ALL:
        return
    moves = "" if name is None else f" of {name}"
    words = f"The gate is hard, {percent(SURE)} sure of {percent(sure)} of the rows"
    if steepest > 0:
        words += (
            f"; a standard deviation{moves} moves its log odds by {steepest:.0f} nats"
        )
    if runaway:
        words += (
            ". Without a penalty its coefficients run to infinity, and their size and "
            "standard errors mean nothing: set the gate's alpha."
        )
    else:
        words += ". Read its borders, not the size of its coefficients."
    yield Finding("hard gate", "problem" if runaway else "notice", words, [])


def _rival_maximum(case):
    behind = behind_best(case.model.search_)
    if behind is not None and behind < RIVAL:
        yield Finding(
            "rival maximum",
            "notice",
            f"Another maximum lies only {number(behind, 1)} nats lower: the data do "
            "not tell two solutions apart. Fit with other seeds, and trust what they "
            "have in common.",
            [],
        )


def _uneven_noise(case):
    noise = [noise_of(expert) for expert in case.model.experts_]
    places = [k for k in range(len(noise)) if noise[k] is not None and case.learns[k]]
    if len(places) < 2:
        return
    size = np.array([noise[k].min() for k in places])
    ratio = size.max() / size.min()
    if ratio > UNEVEN:
        low, high = (case.names[places[i]] for i in (size.argmin(), size.argmax()))
        yield Finding(
            "uneven noise",
            "notice",
            f"The noise of {high} is {number(ratio, 0)} times that of {low}: {high} "
            f"may be there for outliers, or {low} on the way to fit single rows "
            "(variance_prior, shared_dispersion).",
            [low, high],
        )


def _unexplained_rows(case):
    y = case.rows.y
    n_outputs = 1 if y.ndim == 1 else y.shape[1]
    limit = 0.5 * stats.chi2.isf(FIVE_SIGMA, n_outputs)
    surprise = case.surprise()
    rows = np.flatnonzero(surprise > limit)
    if rows.size:
        worst = rows[np.argsort(-surprise[rows], kind="stable")][:NAMED_ROWS]
        where = ", ".join(map(str, worst)) + (", ..." if rows.size > NAMED_ROWS else "")
        if isinstance(case.model.experts_[0].likelihood, Categorical):
            verb = _verb(rows, "row has", "rows have")
            what = f"{verb} a class that no expert gives one chance in 100,000: {where}"
            advice = "Look at the labels."
        else:
            verb = _verb(rows, "row lies", "rows lie")
            what = (
                f"{verb} five standard deviations or more from what any expert says "
                f"there: {where}"
            )
            advice = (
                "If they are outliers, RobustLinearExpert, or a UniformExpert beside "
                "the other experts, takes them."
            )
        message = f"{rows.size} {what}. {advice}"
        yield Finding("unexplained rows", "notice", message, [])


CHECKS = (
    _not_converged,
    _collapsed,
    _idle,
    _redundant,
    _hard_gate,
    _gate_ignores_x,
    _rival_maximum,
    _uneven_noise,
    _unexplained_rows,
)


def _n_columns(case):
    """Return how many columns the gate sees."""
    columns = gate_columns(case.model.node_)
    return case.rows.X.shape[1] if columns is None else len(columns)


def _steepest(case):
    """Return how far one column moves a linear gate, which, and whether it is free.

    Returns
    -------
    steepest : float
        Largest change of the log odds of two children (nats) for one standard
        deviation of a column.
    name : str or None
    free : bool
        Whether the slopes have no penalty.
    """
    gate = single_gate(case.model.gate_)
    names = case.model.part_feature_names()
    steepest, name, free = 0.0, None, False
    for one in softmax_gates(gate):
        form = gate_form(one)
        odds = (form.slope.max(axis=0) - form.slope.min(axis=0)) * form.spread
        if odds.size and odds.max() > steepest:
            steepest, free = float(odds.max()), one.alpha == 0
            name = names[odds.argmax()] if one is gate else None
    return steepest, name, free


def behind_best(report):
    """Return how many nats the next maximum lies below the best, or None."""
    return report.objectives[0] - report.next_maxima[0] if report.next_maxima else None


# -- words -------------------------------------------------------------------------


def _and(names):
    """Return names as a list in words."""
    if len(names) > NAMED:
        names = [*names[: NAMED - 1], f"{len(names) - NAMED + 1} more"]
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _verb(names, one, several):
    return one if len(names) == 1 else several
