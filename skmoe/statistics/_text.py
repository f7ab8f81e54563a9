"""A summary as text."""

import numpy as np

from skmoe._wording import number, percent
from skmoe.statistics._result import p_text

__all__ = ["is_gate", "summary_text"]

KINDS = {
    "observed": "observed information",
    "opg": "outer product of the scores",
    "sandwich": "sandwich of observed information and outer product",
    "bootstrap": "bootstrap",
}


def is_gate(part):
    """Return whether the name of a part is that of a gate."""
    return part == "gate" or part.startswith("gate of node ")


def summary_text(summary):
    """Return a summary as the lines of a printout."""
    fit = summary.fit
    units = "groups" if fit.grouped else "rows"
    weight = "" if fit.total == fit.n_units else f" of weight {fit.total:.6g}"
    lines = [
        f"{fit.model}: {len(summary.experts)} experts, {fit.n_units} {units}{weight}",
        f"log-likelihood {fit.log_likelihood:.3f} nats, {fit.n_parameters} parameters",
        f"AIC {fit.aic:.3f}, BIC {fit.bic:.3f}, ICL {fit.icl:.3f}",
        "",
    ]
    table = [["expert", units, "share", "model"]]
    table += [
        [row.name, f"{row.rows:.1f}", percent(row.share), row.model]
        for row in summary.experts
    ]
    lines += [*_aligned(table, left=(0, 3)), ""]
    said = KINDS[summary.kind]
    if summary.draws is not None:
        said += f" of {len(summary.draws)} refits"
    lines.append(f"Standard errors: {said}. Intervals: {100 * summary.level:g} %.")
    parts = list(dict.fromkeys(one.part for one in summary.coefficients))
    for part in parts:
        lines += ["", *_part_lines(summary, part)]
    if summary.notes:
        lines += ["", *(f"Note: {note}" for note in summary.notes)]
    return "\n".join(lines)


def _part_lines(summary, part):
    """Return the table of one part."""
    index = [j for j, one in enumerate(summary.coefficients) if one.part == part]
    heading = part
    if is_gate(part):
        heading += f" (log odds against {summary.references[part]})"
    table = [[heading, "estimate", "std. error", "z", "p", "lower", "upper"]]
    for j in index:
        one = summary.coefficients[j]
        name = f"{one.output}: {one.term}" if one.output else one.term
        z = "" if one.kind == "shape" else _cell(summary.z[j], 2)
        p = "" if one.kind == "shape" else _p_cell(summary.p_values[j])
        numbers = (summary.estimates[j], summary.std_errors[j])
        ends = [_cell(end) for end in summary.intervals[j]]
        table.append([f"  {name}", *map(_cell, numbers), z, p, *ends])
    return _aligned(table, left=(0,))


def _cell(value, decimals=3):
    return "-" if np.isnan(value) else number(value, decimals)


def _p_cell(value):
    return "-" if np.isnan(value) else p_text(value)


def _aligned(table, left):
    """Return rows of cells as lines, columns to the right but for some."""
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    return [
        "  ".join(
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]
