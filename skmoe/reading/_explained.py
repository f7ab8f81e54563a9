"""What explanations of flat mixtures and of trees have in common: names, sums, text."""

import numpy as np
from scipy import sparse

from skmoe._wording import column_names

__all__ = ["TEXT_OUTPUTS", "RowExplanations", "entries", "gathered", "sum_lines"]

# What `str` shows.
TEXT_ROWS, TEXT_COLUMNS, TEXT_OUTPUTS = 3, 5, 3


class RowExplanations:
    """Text and columns of an explanation with an entry for each row.

    Subclasses have ``prediction, data, feature_names, labels, classifies, pooling``
    and ``index``, a line ``_unit`` and a method ``_row_lines(i, max_columns)``.
    """

    def __len__(self):
        return len(self.prediction)

    def __str__(self):
        return self.to_text()

    __repr__ = __str__

    def to_text(self, n_rows=TEXT_ROWS, max_columns=TEXT_COLUMNS):
        """Return the first rows as readable text.

        Parameters
        ----------
        n_rows : int, default=3
        max_columns : int, default=5
            Columns to show of each row, those that contribute most first.
        """
        shown = min(n_rows, len(self))
        lines = [
            f"Explanation of {len(self)} rows, pooling={self.pooling!r}; contributions "
            f"in {self._unit}."
        ]
        for i in range(shown):
            name = i if self.index is None else self.index[i]
            lines += ["", f"row {name}: {self._said(i)}"]
            lines += self._row_lines(i, max_columns)
        more = len(self) - shown
        if more:
            lines += ["", f"... and {more} more row{'s' if more > 1 else ''}."]
        return "\n".join(lines)

    def _said(self, i):
        """Return what is predicted."""
        value = np.atleast_1d(self.prediction[i])
        if self.classifies:
            c = int(value.argmax())
            return f"predicted {self.labels[c]!r}, probability {value[c]:.3g}"
        words = [f"{one:.4g}" for one in value[:TEXT_OUTPUTS]]
        more = ", ..." if value.size > TEXT_OUTPUTS else ""
        return f"predicted {', '.join(words)}{more}"

    def _says(self, answer):
        """Return what one expert predicts for a row, shortly."""
        if self.classifies:
            return f"{self.labels[answer.argmax()]!r} ({answer.max():.2f})"
        own = np.atleast_1d(answer)
        return ", ".join(f"{one:.4g}" for one in own[:TEXT_OUTPUTS])

    def _values(self, i):
        """Return a column's name with its value, for each column of a row."""
        data = self.data[[i]]
        data = data.toarray()[0] if sparse.issparse(data) else data[0]
        return [
            f"{name} = {value:.4g}"
            for name, value in zip(self.feature_names, data, strict=True)
        ]

    def _spread(self, name, values):
        """Return columns of a frame by name: one for each output or class."""
        if values.ndim == 1:
            return {name: values}
        pairs = zip(self.labels, values.T, strict=True)
        return {f"{name}[{label}]": column for label, column in pairs}


def entries(model):
    """Return what contributions are named after, and where the engine has it.

    Returns
    -------
    names : list of str
    first : array of int, or None where the engine's columns are the user's
        The first engine's column of each name: a column that parts read in several
        ways is one.
    entry : array of int of shape (n_engine_columns,)
    """
    names = [str(name) for name in column_names(model)]
    places = {}
    for position, name in enumerate(names):
        places.setdefault(name, position)
    if len(places) == len(names):
        return names, None, None
    unique = list(places)
    order = {name: number for number, name in enumerate(unique)}
    first = np.array(list(places.values()))
    return unique, first, np.array([order[name] for name in names])


def gathered(contributions, entry, n_entries):
    """Sum contributions over the engine's columns of one name."""
    if entry is None:
        return contributions
    shape = (contributions.shape[0], n_entries, *contributions.shape[2:])
    out = np.zeros(shape)
    for position, number in enumerate(entry):
        out[:, number] += contributions[:, position]
    return out


def sum_lines(label, baseline, parts, rest, names, max_columns, heads=()):
    """Return a sum as lines, its largest terms first.

    Parameters
    ----------
    label : str
    baseline, rest : float
    parts : array of shape (n_features, n_ways)
        What the columns add, in one way or in several.
    names : list of str of shape (n_features,)
    max_columns : int
    heads : sequence of str of shape (n_ways,), default=()
    """
    total, size = baseline + parts.sum() + rest, np.abs(parts).sum(axis=1)
    largest = max(abs(baseline), abs(total), np.abs(parts).max(initial=0.0), abs(rest))
    magnitude = np.floor(np.log10(largest)) if largest > 0 else 0
    digits = int(np.clip(2 - magnitude, 0, 12))
    order = np.argsort(-size, kind="stable")
    order = order[size[order] != 0]
    shown, others = order[:max_columns], order[max_columns:]
    table = [(f"  {label} = {total:.{digits}f}", heads)]
    terms = [("baseline", [baseline])]
    terms += [(names[j], parts[j]) for j in shown]
    if others.size:
        terms.append((f"{others.size} other columns", parts[others].sum(axis=0)))
    if abs(rest) >= 0.5 * 10.0**-digits:
        terms.append(("rest", [rest]))
    table += [
        (f"    {text}", [f"{value:+.{digits}f}" for value in values])
        for text, values in terms
    ]
    first = max(len(text) for text, cells in table if cells)
    width = max(len(cell) for _, cells in table for cell in cells)
    return [
        "  ".join(
            [f"{text:<{first}}", *(f"{cell:<{width}}" for cell in cells)]
        ).rstrip()
        for text, cells in table
    ]
