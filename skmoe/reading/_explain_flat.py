"""Why a flat mixture predicts what it predicts, row by row."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse, special
from sklearn.base import is_classifier

from skmoe._blocks import weighted_means
from skmoe._wording import target_labels
from skmoe._xp import to_numpy
from skmoe.em._law import keep_top, law
from skmoe.em._node import take_columns
from skmoe.experts._contributions import contributions_of
from skmoe.likelihoods import Categorical
from skmoe.reading._explained import (
    TEXT_OUTPUTS,
    RowExplanations,
    entries,
    gathered,
    sum_lines,
)
from skmoe.reading._moves import gate_scores, probability_moves

__all__ = ["MixtureExplanation", "explain_mixture", "mean_row"]

# Experts that `str` names for each row, and the gate probability it takes.
TEXT_EXPERTS, TEXT_PROBA = 4, 0.005
HEADS = "in experts", "by the gate"
TINY = np.finfo(float).tiny


@dataclass(eq=False, repr=False)
class MixtureExplanation(RowExplanations):
    """Gate, experts, and what each column contributed to the predictions.

    In the unit of y, or of a classifier's probabilities,

        baseline + contributions.sum(axis=1) + gate_contributions.sum(axis=1) + rest

    is the prediction: ``predict(X)``, or ``predict_proba(X)``. With the gate
    probabilities g_k and what expert k predicts, f_k, at a row x and at the mean row c
    of the training data,

        sum_k g_k(x) f_k(x) - sum_k g_k(c) f_k(c)
            = sum_k g_k(x) (f_k(x) - f_k(c)) + sum_k (g_k(x) - g_k(c)) f_k(c).

    The first sum is what the columns do *within* the experts, at the gate of the row;
    the second what they do *through the gate*, by choosing other experts. Each is
    shared out among the columns: a linear predictor by its terms, a gate's
    probabilities, and classes', by the logarithmic mean of old and new probability
    (see `skmoe.reading._moves`), which adds up. With ``pooling="top1"`` the gate's
    probabilities are one and zero, and columns share the change of winner as they
    share the change of the log odds of the two. Other poolings and ``top_k`` are
    explained by the mean; the way from there is in the rest.

    Attributes
    ----------
    prediction : array of shape (n_samples[, n_outputs or n_classes])
    baseline : array of shape () or (n_outputs or n_classes,)
        The prediction at the mean row. (For sparse columns, at zero.)
    contributions : array of shape (n_samples, n_features[, n_outputs or n_classes])
        What the column adds within the experts, by being where it is rather than at
        its mean.
    gate_contributions : array of the same shape
        What it adds through the gate.
    rest : array of shape (n_samples[, n_outputs or n_classes])
        What no single column can be given: all in experts and gate that is not
        additive.
    gate_proba : array of shape (n_samples, n_experts)
    expert_prediction : array of shape (n_samples, n_experts[, n_outputs or n_classes])
    data : array or CSR array of shape (n_samples, n_features)
        The rows.
    feature_names : list of str
    labels : list of str
        Names of the outputs, or of the classes.
    expert_names : list of str
    classifies : bool
    pooling : str
    index : index of X, or None
        Where X was a pandas data frame.
    """

    prediction: Any
    baseline: Any
    contributions: Any
    gate_contributions: Any
    rest: Any
    gate_proba: Any
    expert_prediction: Any
    data: Any
    feature_names: list
    labels: list
    expert_names: list
    classifies: bool
    pooling: str
    index: Any = None

    def to_frame(self):
        """Return a data frame with one row for each sample.

        Columns: ``prediction``, ``gate_<expert>`` and ``says_<expert>`` of each expert,
        ``baseline``, ``contribution_<column>`` and ``gate_contribution_<column>`` of
        each column, and ``rest``; with the output or class in brackets where there
        are several.

        Returns
        -------
        frame : pandas.DataFrame
        """
        import pandas

        table = self._spread("prediction", self.prediction)
        for k, name in enumerate(self.expert_names):
            table[f"gate_{name}"] = self.gate_proba[:, k]
        for k, name in enumerate(self.expert_names):
            table |= self._spread(f"says_{name}", self.expert_prediction[:, k])
        baseline = np.broadcast_to(self.baseline, self.prediction.shape)
        table |= self._spread("baseline", baseline)
        ways = {
            "contribution": self.contributions,
            "gate_contribution": self.gate_contributions,
        }
        for way, values in ways.items():
            for j, name in enumerate(self.feature_names):
                table |= self._spread(f"{way}_{name}", values[:, j])
        table |= self._spread("rest", self.rest)
        return pandas.DataFrame(table, index=self.index)

    # -- as text -------------------------------------------------------------------

    @property
    def _unit(self):
        return "probability" if self.classifies else "the unit of y"

    def _row_lines(self, i, max_columns):
        """Return the lines on one row."""
        lines, values = [f"  {self._experts_text(i)}"], self._values(i)
        parts = np.stack([self.contributions[i], self.gate_contributions[i]], axis=1)
        parts = parts.reshape(*parts.shape[:2], -1)
        baseline, rest = np.atleast_1d(self.baseline, self.rest[i])
        for o, label in self._outputs(i):
            ways = baseline[o], parts[:, :, o], rest[o]
            lines += sum_lines(label, *ways, values, max_columns, HEADS)
        return lines

    def _outputs(self, i):
        """Return the outputs, or the class, to show the sums of, with a label."""
        if self.classifies:
            c = int(self.prediction[i].argmax())
            return [(c, f"probability of {self.labels[c]!r}")]
        if self.rest.ndim == 1:
            return [(0, "prediction")]
        return list(enumerate(self.labels[:TEXT_OUTPUTS]))

    def _experts_text(self, i):
        """Return who is asked how much, and what they say."""
        proba = self.gate_proba[i]
        order = np.argsort(-proba, kind="stable")[:TEXT_EXPERTS]
        shown = [k for k in order if proba[k] >= TEXT_PROBA]
        words = [
            f"{self.expert_names[k]} ({proba[k]:.2f}) says "
            f"{self._says(self.expert_prediction[i, k])}"
            for k in shown
        ]
        more = proba.size - len(shown)
        return "; ".join(words) + (f"; {more} more" if more else "")


def explain_mixture(model, X, known):
    """Explain the predictions of a fitted flat mixture.

    Parameters
    ----------
    model : flat mixture
    X : array-like of shape (n_samples, n_features)
    known : dict of str to array
        Known quantities beside X.

    Returns
    -------
    explanation : MixtureExplanation
    """
    rows = model._check_new(X, "explain", known, host=True)
    every = law(model.node_, rows)
    log_from, scores = _gate_scores(model, rows)
    if model.pooling == "top1":
        winner = every.log_gate.argmax(axis=1)
        start, within = _within(model, rows, np.eye(log_from.size)[winner])
        gate = _choice_moves(log_from, every.log_gate, scores, start)
        baseline = start[log_from.argmax()]
    else:
        asked = np.exp(keep_top(every.log_gate, model.top_k))
        start, within = _within(model, rows, asked)
        moves = probability_moves(log_from, every.log_gate, scores)
        gate = np.tensordot(moves, start, axes=1)
        baseline = np.exp(log_from) @ start
    names, first, entry = entries(model)
    within, gate = (gathered(parts, entry, len(names)) for parts in (within, gate))
    classifies = is_classifier(model)
    prediction = model.predict_proba(X) if classifies else model.predict(X, **known)
    prediction = to_numpy(prediction)
    return MixtureExplanation(
        prediction=prediction,
        baseline=baseline,
        contributions=within,
        gate_contributions=gate,
        rest=prediction - baseline - within.sum(axis=1) - gate.sum(axis=1),
        gate_proba=every.gate,
        expert_prediction=every.means,
        data=rows if entry is None else rows[:, first],
        feature_names=names,
        labels=target_labels(model),
        expert_names=list(model.expert_names_),
        classifies=classifies,
        pooling=model.pooling,
        index=X.index if hasattr(X, "iloc") else None,
    )


def mean_row(X, weight):
    """Return the weighted means of the columns, gaps left out, as a table of one row.

    Those of a sparse X are zero: it is not centred anywhere.
    """
    if sparse.issparse(X):
        return sparse.csr_array((1, X.shape[1]))
    mean = weighted_means(X, weight)
    for j in np.flatnonzero(np.isnan(mean)):
        seen = ~np.isnan(X[:, j])
        mean[j] = weight[seen] @ X[seen, j] / max(weight[seen].sum(), TINY)
    return mean[None]


def _gate_scores(model, rows):
    """Return the gate at the mean row, and how the columns move it from there.

    Returns
    -------
    log_from : array of shape (n_experts,)
    scores : array of shape (n_samples, n_engine_columns, n_experts)
    """
    gate, columns = model.gate_, model.node_.gate_columns
    view, center = (
        take_columns(rows, columns),
        take_columns(model._plan.center, columns),
    )
    scores = np.zeros((*rows.shape, len(model.experts_)))
    seen = slice(None) if columns is None else columns
    try:
        log_from = np.asarray(gate.log_proba(center))[0]
        scores[:, seen] = gate_scores(gate, view, center)
    except (TypeError, ValueError):  # a model of categories, which have no mean
        mass = np.maximum(model._mass, TINY)
        log_from = np.log(mass / mass.sum())
    return log_from, scores


def _within(model, rows, weight):
    """Return what the experts predict at the mean row, and how columns move it.

    Returns
    -------
    start : array of shape (n_experts[, n_outputs or n_classes])
    contributions : array of shape (n_samples, n_columns[, n_outputs or n_classes])
        Weighted sums over the experts.
    """
    starts, total = [], 0.0
    for k, (_, expert) in enumerate(model.node_.experts):
        columns = model.node_.columns[k]
        asked = np.flatnonzero(weight[:, k] > 0)
        asked = asked if asked.size else np.zeros(1, dtype=np.intp)
        start, parts = _moved(
            expert,
            take_columns(rows[asked], columns),
            take_columns(model._plan.center, columns),
        )
        starts.append(start)
        if k == 0:
            total = np.zeros((*rows.shape, *start.shape))
        share = weight[asked, k].reshape(-1, *[1] * (parts.ndim - 1))
        seen = slice(None) if columns is None else np.asarray(columns)
        total[asked if columns is None else asked[:, None], seen] += share * parts
    return np.stack(starts), total


def _moved(expert, view, center):
    """Return an expert's prediction at the mean row, and how columns move it.

    Known quantities, which count from zero, are left out at the mean row.
    """
    found = contributions_of(expert, view)
    start = found.baseline
    with suppress(TypeError, ValueError):  # of categories: its start is then zero
        start = start + contributions_of(expert, center).rest[0]
    if not isinstance(expert.likelihood, Categorical):
        return start, found.parts
    log_from = special.log_softmax(start)
    score = found.baseline + found.parts.sum(axis=1) + found.rest
    log_to = special.log_softmax(score, axis=1)
    return np.exp(log_from), probability_moves(log_from, log_to, found.parts)


def _choice_moves(log_from, log_to, scores, start):
    """Share the change of the winner out as the columns moved its log odds.

    Returns
    -------
    moves : array of shape (n_samples, n_columns[, n_outputs or n_classes])
    """
    rows, winner = np.arange(log_to.shape[0]), log_to.argmax(axis=1)
    before = log_from.argmax()
    moved = log_to - log_from
    gained = moved[rows, winner] - moved[:, before]
    rate = np.divide(1.0, gained, out=np.zeros_like(gained), where=gained > 0)
    column = (scores[rows, :, winner] - scores[:, :, before]) * rate[:, None]
    change = start[winner] - start[before]
    return column.reshape(*column.shape, *[1] * (change.ndim - 1)) * change[:, None]
