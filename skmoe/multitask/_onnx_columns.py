"""What an exported model is fed: its inputs, and the keys of their categories."""

from dataclasses import dataclass, field
from itertools import chain, count

import numpy as np

__all__ = ["Input", "free_name", "inputs_for"]

INT64 = np.iinfo(np.int64)
# From here on a double does not tell every integer from the next.
EXACT = 2**53


@dataclass(frozen=True)
class Input:
    """One input of the graph.

    Attributes
    ----------
    name : str
    columns : list of str
        Of the table in ``fit`` that it holds.
    type : {"double", "int64", "string"}
    size : int or None
        Numbers per row; None where the input has one dimension.
    missing : int, str or None
        What stands for a missing entry; None for NaN.
    padding : int, str or None
        What fills a list up to its length; None where it is no list.
    codes : dict
        Of categories, of missing entries and of padding.
    """

    name: str
    columns: list
    type: str
    size: int | None = None
    missing: int | str | None = None
    padding: int | str | None = None
    codes: dict = field(default_factory=dict)

    def describe(self):
        """Return what one who feeds it must know, ready for JSON."""
        keys = ("name", "columns", "type", "size", "missing", "padding")
        return {key: getattr(self, key) for key in keys}


def inputs_for(about, named):
    """Return the inputs that the columns of a table are given by.

    Parameters
    ----------
    about : dict
        Of `TableEncoder.describe`.
    named : bool
        Whether the table was a data frame. Else it is one input "X", unless it holds
        lists or categories that doubles cannot hold.

    Returns
    -------
    inputs : list of Input
        One for each column, or one for all.

    Raises
    ------
    ValueError
        If two categories of a column read the same.
    """
    columns, vocabularies = about["columns"], about["vocabularies"]
    if not named and _is_matrix(columns, vocabularies):
        return [Input("X", [c["name"] for c in columns], "double", len(columns))]
    inputs, taken = [], set()
    for column in columns:
        name = free_name(column["name"] if named else f"x{column['name']}", taken)
        taken.add(name)
        if column["kind"] == "number":
            inputs.append(Input(name, [column["name"]], "double"))
        else:
            vocabulary = vocabularies[column["vocabulary"]]
            inputs.append(_of_categories(name, column, vocabulary, about["padding"]))
    return inputs


def free_name(name, taken):
    """Return a name that is not taken: the given one, with as many _ as it needs."""
    while name in taken:
        name += "_"
    return name


def _is_matrix(columns, vocabularies):
    """Return whether doubles can hold all columns."""
    whole = (
        type(value) is int and abs(value) < EXACT
        for vocabulary in vocabularies
        for value in vocabulary["categories"]
    )
    return all(column["kind"] != "list" for column in columns) and all(whole)


def _of_categories(name, column, vocabulary, padding):
    """Return the input of a column of categories, or of lists of them."""
    values = vocabulary["categories"]
    whole = values and all(
        type(value) is int and INT64.min <= value <= INT64.max for value in values
    )
    if not whole:
        values = list(map(str, values))
    codes = dict(zip(values, vocabulary["codes"], strict=True))
    if len(codes) < len(values):
        twice = next(value for value in values if values.count(value) > 1)
        raise ValueError(
            f"column {column['name']!r} of X holds text and something else that reads "
            f"the same, {twice!r}: ONNX cannot tell them apart. Make all of the column "
            "text or all numbers."
        )
    free = (key for key in _keys(whole) if key not in codes)
    kept = {"type": "int64" if whole else "string", "codes": codes}
    if column["kind"] == "list":
        kept |= {"size": column["length"], "padding": next(free)}
        codes[kept["padding"]] = padding
    kept["missing"] = next(free)
    codes[kept["missing"]] = vocabulary["missing"]
    return Input(name, [column["name"]], **kept)


def _keys(whole):
    """Yield what may stand for missing entries and padding, the best first."""
    if whole:
        return iter(range(INT64.min, 0))
    return chain([""], ("<missing>" + "_" * i for i in count()))
