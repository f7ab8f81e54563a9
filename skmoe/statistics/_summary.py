"""The summary of a fitted mixture: estimates, standard errors, criteria."""

from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from typing import Any

import numpy as np
from scipy import special

from skmoe._criteria import Evidence
from skmoe.statistics._result import HypothesisTest
from skmoe.statistics._text import is_gate, summary_text

__all__ = ["ExpertRow", "Fit", "Summary"]


@dataclass(frozen=True)
class Fit(Evidence):
    """The evidence of a fit, and what it is one of.

    Attributes
    ----------
    model : str
    n_units : int
        Rows, or groups of rows.
    grouped : bool
    """

    model: str
    n_units: int
    grouped: bool


@dataclass(frozen=True)
class ExpertRow:
    """One expert.

    Attributes
    ----------
    name, model : str
    rows : float
        Sum of its responsibilities, weighted.
    share : float
    """

    name: str
    model: str
    rows: float
    share: float


@dataclass(eq=False, repr=False)
class Summary:
    """Coefficients with standard errors, shares of the rows, and criteria.

    Attributes
    ----------
    fit : Fit
        ``log_likelihood``, ``n_parameters``, ``aic``, ``bic``, ``icl``.
    experts : list of ExpertRow
    coefficients : list of Coefficient
        Those of the gate first.
    estimates : array of shape (n_coefficients,)
    covariance : array of shape (n_coefficients, n_coefficients)
        NaN where there is none.
    kind : {"observed", "opg", "sandwich", "bootstrap"}
    level : float
    draws : array of shape (n_refits, n_coefficients), or None
        Coefficients of the bootstrap's refits.
    references : dict of str to str
        What the log odds of each gate are measured against.
    notes : list of str
    """

    fit: Fit
    experts: list
    coefficients: list
    estimates: Any
    covariance: Any
    kind: str
    level: float
    draws: Any = None
    references: dict = field(default_factory=dict)
    notes: list = field(default_factory=list)

    @cached_property
    def std_errors(self):
        """Standard errors, of shape (n_coefficients,); NaN where there is none."""
        return np.sqrt(np.diagonal(self.covariance))

    @cached_property
    def z(self):
        """Estimates over standard errors; NaN for variances and the like."""
        tested = [one.kind != "shape" for one in self.coefficients]
        error = np.where(self.std_errors > 0, self.std_errors, np.nan)
        return np.where(tested, self.estimates / error, np.nan)

    @cached_property
    def p_values(self):
        """Two-sided p-values of the hypothesis that a coefficient is zero."""
        return 2.0 * special.ndtr(-np.abs(self.z))

    @cached_property
    def intervals(self):
        """Intervals of level ``level``, of shape (n_coefficients, 2)."""
        tails = 0.5 * (1.0 - self.level)
        if self.draws is not None:
            return np.quantile(self.draws, [tails, 1.0 - tails], axis=0).T
        half = -special.ndtri(tails) * self.std_errors
        ends = self.estimates[:, None] + half[:, None] * [-1.0, 1.0]
        positive = [one.positive for one in self.coefficients]
        with np.errstate(over="ignore"):
            factor = np.exp(half / np.where(positive, self.estimates, 1.0))
        for j in np.flatnonzero(positive):
            ends[j] = self.estimates[j] / factor[j], self.estimates[j] * factor[j]
        return ends

    def name_of(self, j):
        """Return the full name of a coefficient: ``gate [expert1] age``."""
        one = self.coefficients[j]
        output = f" [{one.output}]" if one.output else ""
        return f"{one.part}{output} {one.term}"

    def to_frame(self):
        """Return a data frame with one row for each coefficient.

        Columns: ``part`` (gate or expert), ``output`` (the expert that gate
        coefficients lead to; an output or class), ``term``, ``kind``, ``estimate``,
        ``std_error``, ``z``, ``p_value``, ``lower``, ``upper``.

        Returns
        -------
        frame : pandas.DataFrame
        """
        import pandas

        names = ("part", "output", "term", "kind")
        table = {n: [getattr(one, n) for one in self.coefficients] for n in names}
        return pandas.DataFrame(
            table
            | {
                "estimate": self.estimates,
                "std_error": self.std_errors,
                "z": self.z,
                "p_value": self.p_values,
                "lower": self.intervals[:, 0],
                "upper": self.intervals[:, 1],
            }
        )

    def experts_frame(self):
        """Return a data frame with one row for each expert: its model and share."""
        import pandas

        return pandas.DataFrame([vars(row) for row in self.experts])

    def to_latex(self, **kwargs):
        """Return the table of `to_frame` in LaTeX, through pandas (and Jinja).

        Parameters
        ----------
        **kwargs : dict
            Of `pandas.DataFrame.to_latex`; the default is ``index=False`` with three
            digits.

        Returns
        -------
        latex : str
        """
        kwargs = {"index": False, "float_format": "%.3f", "escape": True} | kwargs
        return self.to_frame().drop(columns="kind").to_latex(**kwargs)

    def wald_test(self, column, part="gate"):
        """Test that all coefficients of a column in a part are zero.

        Parameters
        ----------
        column : str or list of str
            Name of a column (with its indicators, where it has some), or several.
        part : str, default="gate"
            "gate", the name of an expert, or "experts" for all of them.

        Returns
        -------
        result : HypothesisTest
            Chi-squared with as many degrees of freedom as coefficients.

        Raises
        ------
        ValueError
            If there is no such coefficient, or it has no standard error.
        """
        wanted = [column] if isinstance(column, str) else list(column)
        slopes = [
            j
            for j, one in enumerate(self.coefficients)
            if one.kind == "slope" and _is_part(one.part, part)
        ]
        index = [
            j
            for j in slopes
            if any(_is_column(self.coefficients[j].term, name) for name in wanted)
        ]
        if not index:
            terms = list(dict.fromkeys(self.coefficients[j].term for j in slopes))
            parts = dict.fromkeys(one.part for one in self.coefficients)
            raise ValueError(
                f"no coefficient of column {column!r} in part {part!r}: its columns "
                f"are {terms}; the parts are {list(parts)} and 'experts'."
            )
        covariance = self.covariance[np.ix_(index, index)]
        if np.isnan(covariance).any():
            raise ValueError(
                f"{self.name_of(index[int(np.isnan(np.diag(covariance)).argmax())])} "
                "has no standard error, so that there is no Wald test; see the notes "
                "of the summary."
            )
        # Correlations: what counts as singular must not hang on the units.
        value = self.estimates[index] / self.std_errors[index]
        correlation = covariance / np.outer(*[self.std_errors[index]] * 2)
        statistic = float(value @ np.linalg.pinv(correlation, hermitian=True) @ value)
        rank = int(np.linalg.matrix_rank(correlation, hermitian=True))
        said = f"{' and '.join(wanted)} has no effect in {part}"
        return HypothesisTest.chi2("Wald", said, statistic, rank)

    def __str__(self):
        return summary_text(self)

    __repr__ = __str__

    def _repr_html_(self):
        return f"<pre>{escape(str(self))}</pre>"


def _is_part(name, wanted):
    """Return whether a part is one that was asked for."""
    if wanted in ("gate", "experts"):
        return is_gate(name) == (wanted == "gate")
    return name == wanted


def _is_column(term, name):
    """Return whether a term is a column, or one of its indicators."""
    return term == name or term == f"{name} is missing" or term.startswith(f"{name}=")
