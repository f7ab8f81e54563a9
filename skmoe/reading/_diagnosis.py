"""What is wrong with a fitted mixture, if anything, in plain words."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skmoe._training import rows_to_judge
from skmoe._wording import number, percent
from skmoe.reading._case import Case
from skmoe.reading._findings import CHECKS, behind_best

__all__ = ["Diagnosis", "diagnose"]

# Experts whose share the paragraph tells, the largest first.
NAMED = 6


@dataclass(eq=False, repr=False)
class Diagnosis:
    """Findings about a fitted mixture, and a paragraph on them.

    Attributes
    ----------
    findings : list of Finding
        Problems first.
    share : array of shape (n_experts,)
        Of the rows, by responsibility.
    effective_number : float
        Exponential of the entropy of the shares: as many experts of equal shares would
        be as evenly used.
    certainty : float
        Mean probability that the gate gives to the most probable expert.
    log_likelihood : float
        Of the rows, in nats.
    expert_names : list of str
    summary : str
        The paragraph's first part, without the findings.
    """

    findings: list
    share: Any
    effective_number: float
    certainty: float
    log_likelihood: float
    expert_names: list
    summary: str

    def __str__(self):
        words = [finding.message for finding in self.findings]
        return " ".join([self.summary, *(words or ["Nothing stands out."])])

    __repr__ = __str__

    def to_frame(self):
        """Return a data frame with one row for each finding.

        Returns
        -------
        frame : pandas.DataFrame
            With columns ``kind``, ``severity``, ``experts`` and ``message``.
        """
        import pandas

        columns = ["kind", "severity", "experts", "message"]
        rows = [
            (f.kind, f.severity, ", ".join(f.experts), f.message) for f in self.findings
        ]
        return pandas.DataFrame(rows, columns=columns)


def diagnose(model, X=None, y=None, sample_weight=None, groups=None, **known):
    """Look for what may be wrong with a fitted mixture.

    Parameters
    ----------
    model : fitted mixture
    X, y, sample_weight, groups : array-like, default=None
        Rows to judge by; None: those of the fit.
    **known : arrays of shape (n_samples,)
        Known quantities beside X.

    Returns
    -------
    diagnosis : Diagnosis

    Raises
    ------
    ValueError
        If there are no rows to judge by.
    """
    check_is_fitted(model, "node_")
    rows = rows_to_judge(model, X, y, sample_weight, groups, "diagnose", known)
    case = Case(model, rows)
    found = [finding for check in CHECKS for finding in check(case)]
    found.sort(key=lambda finding: finding.severity != "problem")
    return Diagnosis(
        findings=found,
        share=case.share,
        effective_number=case.effective_number,
        certainty=case.certainty,
        log_likelihood=float(case.weight @ case.log_prob),
        expert_names=list(model.expert_names_),
        summary=_summary(case),
    )


def _summary(case):
    """Return the state of the fit in words."""
    names = [
        f"{case.names[k]} {percent(case.share[k])}"
        for k in np.argsort(-case.share, kind="stable")
    ]
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    units = "groups" if case.weight.size < case.rows.weight.size else "rows"
    words = (
        f"{len(names)} expert{'s'[: len(names) > 1]} on {case.weight.size} {units} "
        f"({', '.join(names[:NAMED])}{more}), in effect "
        f"{number(case.effective_number, 1)} of equal share. On average the gate gives "
        f"{number(case.certainty)} to a row's first expert."
    )
    if case.model.converged_:
        words += f" EM converged in {case.model.n_iter_} passes."
    report = case.model.search_
    if len(report.names) > 1:
        words += (
            f" Of {len(report.names)} starts {sum(report.finished)} ran to the end, "
            f"{report.n_reached_best} of them to the best maximum"
        )
        behind = behind_best(report)
        if behind is not None:
            words += f"; the next lies {number(behind, 1)} nats lower"
        words += "."
    return words
