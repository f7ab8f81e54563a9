"""What the benchmark scripts share: one aligned table, JSON, stated figures."""

import json
import sys

import numpy as np

__all__ = ["Targets", "print_table", "progress", "write_json"]


def print_table(rows, columns, title=""):
    """Print rows as one aligned table.

    Parameters
    ----------
    rows : list of dict
        One dictionary a row; a missing key or None is printed as "-".
    columns : list of str or of (key, header, format)
        What to print, in this order; the format is a format specification
        such as ".3f", used for numbers only.
    title : str
        A line printed above the table.
    """
    columns = [(c, c, "") if isinstance(c, str) else tuple(c) for c in columns]
    cells = [[_cell(row.get(key), spec) for key, _, spec in columns] for row in rows]
    header = [head for _, head, _ in columns]
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    numeric = [any(_is_number(row.get(key)) for row in rows) for key, _, _ in columns]
    if title:
        print(f"\n{title}")
    for line in [header, ["-" * width for width in widths], *cells]:
        padded = [
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(line, widths, numeric, strict=True)
        ]
        print("  ".join(padded).rstrip())
    sys.stdout.flush()


def _is_number(value):
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _cell(value, spec):
    if value is None:
        return "-"
    return format(value, spec) if _is_number(value) else str(value)


def progress(text):
    """Say on the error stream what is being done, so that tables stay clean."""
    print(text, file=sys.stderr, flush=True)


def write_json(path, payload):
    """Write a payload of dicts, lists, NumPy values and numbers; None: do nothing."""
    if path is None:
        return
    with open(path, "w", encoding="utf-8") as stream:
        json.dump(_plain(payload), stream, indent=1, allow_nan=False)
        stream.write("\n")


def _plain(value):
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)  # JSON knows neither nan nor infinity
    return value


class Targets:
    """Collect the stated figures of a benchmark; `exit` says which are missed."""

    def __init__(self):
        self.rows = []

    def check(self, name, value, ok, wanted):
        """Note one figure: its value, whether it is reached, and what was wanted."""
        verdict = "reached" if ok else "MISSED"
        self.rows.append(
            {"figure": name, "value": value, "wanted": wanted, "verdict": verdict}
        )
        return bool(ok)

    def exit(self):
        """Print every figure and leave: status 0 if all are reached, else 1."""
        columns = ["figure", ("value", "value", ".4g"), "wanted", "verdict"]
        print_table(self.rows, columns, "stated figures")
        reached = sum(row["verdict"] == "reached" for row in self.rows)
        print(f"{reached} of {len(self.rows)} reached")
        sys.exit(0 if reached == len(self.rows) else 1)
