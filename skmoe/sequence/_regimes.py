"""How the experts of a Markov mixture follow each other: transitions, stays, shares."""

from dataclasses import dataclass

import numpy as np
from sklearn.utils.metadata_routing import MetadataRequest
from sklearn.utils.validation import check_is_fitted

from skmoe._unwrapped import transformed_by, unwrapped
from skmoe._wording import expert_lines, noise_of, number, percent, target_labels
from skmoe._xp import to_numpy
from skmoe.em._build import innermost_expert
from skmoe.sequence._states import Rows

__all__ = ["RegimeReader", "RegimeSummary", "one_step_log_score"]


def one_step_log_score(estimator, X, y, **where):
    """Return the mean log density of each response, given those before it.

    A scorer, for ``scoring=`` of cross-validation and searches; greater is better.
    With metadata routing on, it takes the ``groups`` and ``times`` that those are
    given.

    Parameters
    ----------
    estimator : fitted Markov mixture, a Pipeline that ends in one, or a search
    X : array-like of shape (n_samples, n_features)
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
    **where : dict
        ``lengths, groups, times, previous``, as for ``log_prob``.

    Returns
    -------
    score : float
        In nats a row that has a response.

    Raises
    ------
    TypeError
        If the estimator is no Markov mixture.
    ValueError
        If no row has a response.
    """
    before, model = unwrapped(estimator)
    if not hasattr(model, "read_rows"):
        raise TypeError(
            f"one_step_log_score is of Markov mixtures of experts, got {estimator!r}. "
            "For others there is skmoe.metrics.get_scorer('log_score')."
        )
    rows = model.read_rows(transformed_by(before, X), y, **where)
    log_prob = model.node_.passage(*rows).log_prob
    seen = rows.chains.labelled
    if seen is None:
        return float(log_prob.mean())
    if not seen.any():
        raise ValueError("no row of y has a response to score.")
    return float(log_prob[seen].mean())


# Sequences that were told apart in the fit must not be strung together in the score.
_REQUEST = MetadataRequest(owner="one_step_log_score")
for _name in ("groups", "times"):
    _REQUEST.score.add_request(param=_name, alias=True)
vars(one_step_log_score)["get_metadata_routing"] = lambda: _REQUEST


@dataclass(eq=False)
class RegimeSummary:
    """The experts as regimes, for print.

    Attributes
    ----------
    names : list of str
    share : array of shape (n_experts,)
        Of the rows, by smoothed probabilities.
    dwell : array of shape (n_experts,)
        Expected rows in a stay.
    now : array of shape (n_experts,)
        Probabilities in the last row, given all responses.
    transition : array of shape (n_experts, n_experts)
        How often each expert followed each.
    models : list of str
    fit : Evidence
        ``log_likelihood``, ``n_parameters``, ``aic``, ``bic``, ``icl``.
    """

    names: list
    share: np.ndarray
    dwell: np.ndarray
    now: np.ndarray
    transition: np.ndarray
    models: list
    fit: object

    def to_frame(self):
        """Return a data frame with a row for each expert; needs pandas."""
        import pandas

        columns = {"share": self.share, "dwell": self.dwell, "now": self.now}
        columns |= {
            f"to {name}": self.transition[:, k] for k, name in enumerate(self.names)
        }
        return pandas.DataFrame(columns | {"model": self.models}, index=self.names)

    def __str__(self):
        head = ["expert", "rows", "stay", "now", *(f"to {n}" for n in self.names)]
        table = [[*head, "model"]]
        for k, name in enumerate(self.names):
            table.append(
                [
                    name,
                    percent(self.share[k]),
                    number(self.dwell[k]),
                    percent(self.now[k]),
                    *(percent(p) for p in self.transition[k]),
                    self.models[k],
                ]
            )
        width = [max(len(row[j]) for row in table) for j in range(len(head))]
        lines = [
            f"log-likelihood {self.fit.log_likelihood:.3f} nats, "
            f"{self.fit.n_parameters} parameters",
            f"AIC {self.fit.aic:.3f}, BIC {self.fit.bic:.3f}, ICL {self.fit.icl:.3f}",
            "",
        ]
        for row in table:
            cells = [row[0].ljust(width[0])]
            cells += [row[j].rjust(width[j]) for j in range(1, len(head))]
            lines.append("  ".join([*cells, row[-1]]))
        return "\n".join(lines)

    __repr__ = __str__


class RegimeReader:
    """Transitions, stays and shares of a fitted Markov mixture.

    Without rows, those of the fit are meant; a copied or unpickled model has none.
    """

    def transition_table(
        self, X=None, y=None, *, lengths=None, groups=None, times=None, previous=None
    ):
        """Return how often each expert followed each.

        The expected number of moves from i to j over that of all moves from i, given
        the responses. With a `ConstantGate`, fitted by maximum likelihood, it is the
        matrix of the gate; see ``transition_proba`` for that of single rows.

        Parameters
        ----------
        X, y, lengths, groups, times, previous :
            As for ``filter``; None for the training rows.

        Returns
        -------
        table : array of shape (n_experts, n_experts)
            Rows sum to 1; NaN for an expert that no row follows.
        """
        where = {"lengths": lengths, "groups": groups, "times": times}
        rows = self._judged(X, y, previous=previous, **where)
        return _moves(self.node_.passage(*rows), rows)

    def dwell_times(
        self, X=None, y=None, *, lengths=None, groups=None, times=None, previous=None
    ):
        """Return the expected number of rows that an expert keeps once it has one.

        It is ``1 / (1 - a_kk)`` with the moves of ``transition_table``.

        Parameters
        ----------
        X, y, lengths, groups, times, previous :
            As for ``filter``; None for the training rows.

        Returns
        -------
        dwell : array of shape (n_experts,)
            In rows; infinite for an expert that is never left.
        """
        where = {"lengths": lengths, "groups": groups, "times": times}
        table = self.transition_table(X, y, previous=previous, **where)
        return _stay(table)

    def summary(
        self, X=None, y=None, *, lengths=None, groups=None, times=None, previous=None
    ):
        """Return shares, stays, moves and models of the experts.

        Parameters
        ----------
        X, y, lengths, groups, times, previous :
            As for ``filter``; None for the training rows.

        Returns
        -------
        summary : RegimeSummary
            To be printed; with ``to_frame()``.
        """
        where = {"lengths": lengths, "groups": groups, "times": times}
        rows = self._judged(X, y, previous=previous, **where)
        found, weight = self.node_.passage(*rows), rows.weights
        table = _moves(found, rows)
        return RegimeSummary(
            names=list(self.expert_names_),
            share=found.smoothed @ weight / weight.sum(),
            dwell=_stay(table),
            now=found.filtered[:, rows.chains.last[-1]],
            transition=table,
            models=[self._model(k) for k in range(len(self.experts_))],
            fit=self._evidence_of(found, rows.chains, weight),
        )

    def _judged(self, X, y, **where):
        """Return given rows, or those of the fit.

        Raises
        ------
        ValueError
            If there are neither.
        """
        check_is_fitted(self, "node_")
        if X is not None and y is not None:
            return self.read_rows(to_numpy(X), y, **where)
        rows = getattr(self, "_training_rows", None)
        if rows is None or X is not None or y is not None:
            raise ValueError(
                "give both X and y: "
                + (
                    "one of them is missing."
                    if rows is not None
                    else "this model no longer has the rows that it was fitted to (it "
                    "was copied or unpickled)."
                )
            )
        return Rows(rows.X, rows.y, rows.units, rows.weight)

    def _model(self, k):
        """Return expert k in words, on one line."""
        expert = innermost_expert(self.experts_[k])
        names, labels = self.part_feature_names(k), target_labels(self)
        said = "; ".join(expert_lines(expert, names, labels, 2, max_columns=4))
        noise = noise_of(expert)
        if noise is not None:
            said += f", std {', '.join(number(one) for one in noise)}"
        return said


def _stay(table):
    """Return the expected rows in a stay, (n_experts,), from a table of moves."""
    with np.errstate(divide="ignore"):
        return 1.0 / (1.0 - np.minimum(np.diag(table), 1.0))


def _moves(found, rows):
    """Return expected moves from each expert, as shares."""
    if isinstance(found.pairs, list):
        follow, before = rows.chains.followers
        weight = rows.weights[follow]
        if found.pairs:
            counts = np.array([pairs @ weight for pairs in found.pairs])
        else:  # blind to the past
            counts = found.smoothed[:, before] @ (found.smoothed[:, follow] * weight).T
    else:
        counts = found.pairs
    total = counts.sum(axis=1, keepdims=True)
    return np.where(total > 0.0, counts / np.where(total > 0.0, total, 1.0), np.nan)
