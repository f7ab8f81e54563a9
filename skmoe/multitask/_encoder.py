"""From tables to numbers and codes, as an embedding network takes them."""

import numbers
import warnings
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from sklearn.base import BaseEstimator

from skmoe._sklearn import Interval, StrOptions, fit_context, safe_indexing
from skmoe.multitask._columns import find_roles
from skmoe.multitask._frames import Table
from skmoe.multitask._lists import PADDING, ListSlot, last_entries, padded
from skmoe.multitask._numbers import CLIP, NumberScale
from skmoe.multitask._vocabulary import Tally, Vocabulary

__all__ = ["TableEncoder"]

FROM_ONE = Interval(numbers.Integral, 1, None, closed="left")


@dataclass
class _Number:
    """A column of numbers.

    `number` and `indicator` are columns of the numbers, `column` one of the codes;
    `start` is the code of a missing number, those of the bins follow.
    """

    scale: NumberScale
    number: int
    indicator: int | None = None
    column: int | None = None
    start: int | None = None


class TableEncoder(BaseEstimator):
    """Encodes data frames and arrays as standardised numbers and category codes.

    All codes are rows of one table. Row 0 pads lists. Each categorical column has a
    row for unseen categories, one for missing entries, and one for each category; a
    category keeps its row when others are added at the end. A column of numbers
    has, with bins, a row for missing entries and one for each bin.

    Numbers are standardised by the mean and standard deviation of the training rows
    and cut at 10 standard deviations; missing ones become the mean, and a column
    with missing numbers in fit gets an indicator column after all numbers.

    Parameters
    ----------
    categorical_features : "from_dtype", array-like or None, default="from_dtype"
        "from_dtype": of a data frame, the columns of categorical, text, object and
        boolean type, of an array none. Else names, positions, or a mask.
    numeric_encoding : {"bins", "standard"}, default="bins"
        "bins": each number also brings a code, that of its quantile bin.
    n_bins : int, default=32
        At most so many bins. A column with no more distinct values has one for each.
    min_frequency : int, default=1
        Rows (sum of weights) that a category needs for a code of its own; rarer ones
        count as unseen, which trains the code of the unseen. At 1, all have one.
    list_features : dict or None, default=None
        Columns of lists and how they are pooled: "mean", "sum" or ``("attention",
        column)``, where the list shares the codes of a categorical column. Columns
        that hold lists and are not named here get "mean".
    max_list_length : int, default=50
        Longer lists keep their last entries.

    Attributes
    ----------
    n_numbers_ : int
        Columns of numbers, indicators among them.
    n_columns_ : int
        Columns of codes that are no list: categories and bins, in the order of X.
    n_codes_ : int
        Rows of the table of codes.
    lists_ : tuple of ListSlot
    """

    _parameter_constraints: ClassVar = {
        "categorical_features": ["array-like", StrOptions({"from_dtype"}), None],
        "numeric_encoding": [StrOptions({"bins", "standard"})],
        "n_bins": [Interval(numbers.Integral, 2, None, closed="left")],
        "min_frequency": [FROM_ONE],
        "list_features": [dict, None],
        "max_list_length": [FROM_ONE],
    }

    def __init__(
        self,
        categorical_features="from_dtype",
        *,
        numeric_encoding="bins",
        n_bins=32,
        min_frequency=1,
        list_features=None,
        max_list_length=50,
    ):
        self.categorical_features = categorical_features
        self.numeric_encoding = numeric_encoding
        self.n_bins = n_bins
        self.min_frequency = min_frequency
        self.list_features = list_features
        self.max_list_length = max_list_length

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, sample_weight=None):
        """Learn categories, scales and bins.

        Parameters
        ----------
        X : pandas or polars DataFrame, or array of shape (n_samples, n_features)
        sample_weight : array of shape (n_samples,), default=None
            Rows of weight 0 are left out; one of weight w counts as w rows.

        Returns
        -------
        self : TableEncoder

        Raises
        ------
        ValueError
            If a column is not what it is to be, or a number is infinite.
        """
        table, weight = _counting_rows(X, sample_weight)
        roles = find_roles(table, self.categorical_features, self.list_features)
        self._names, self._n_features = table.names, table.n_columns
        self._numbers, self._columns, self._vocabularies = {}, {}, {}
        self.n_numbers_, self.n_columns_, self.n_codes_ = 0, 0, PADDING + 1
        # Which columns a vocabulary is learned from, by the one that it belongs to;
        # with the length of the list, if it is one.
        lengths = {j: self._list_length(table, j) for j in roles.poolings}
        self._sources = {
            j: [(j, lengths.get(j))]
            for j, kind in enumerate(roles.kinds)
            if kind != "number"
        }
        for j, (_, target) in roles.poolings.items():
            if target is not None:
                self._sources[target] += self._sources.pop(j)
        for j, kind in enumerate(roles.kinds):
            if kind == "number":
                self._add_number(j, table.numbers(j), weight)
            elif kind == "category":
                self._columns[j] = self._next_column()
                self._add_vocabulary(j, table, weight)
        self._add_lists(roles.poolings, lengths, table, weight)
        for part in self._numbers.values():
            if part.scale.has_gaps:
                part.indicator = self._next_number()
        return self

    def transform(self, X):
        """Return rows as numbers and codes.

        Parameters
        ----------
        X : pandas or polars DataFrame, or array of shape (n_samples, n_features)
            Its columns in the order of the fit.

        Returns
        -------
        numbers : array of shape (n_samples, n_numbers_)
        codes : 32-bit integer array of shape (n_samples, n_columns_ and list lengths)

        Raises
        ------
        ValueError
            If the number of columns is another one, or a column of numbers holds
            something else.
        """
        table = Table(X)
        self._check_columns(table)
        width = self.n_columns_ + sum(slot.length for slot in self.lists_)
        scaled = np.empty((table.n_rows, self.n_numbers_))
        codes = np.empty((table.n_rows, width), dtype=np.int32)
        for j, part in self._numbers.items():
            values = table.numbers(j)
            scaled[:, part.number] = part.scale.scaled(values)
            if part.indicator is not None:
                scaled[:, part.indicator] = np.isnan(values)
            if part.column is not None:
                codes[:, part.column] = part.scale.bins(values) + (part.start + 1)
        for j, column in self._columns.items():
            codes[:, column] = self._vocabularies[j].codes(table.entries(j))
        for slot, (j, owner) in zip(self.lists_, self._lists.items(), strict=True):
            lengths, entries = table.lists(j)
            entries = entries.take(last_entries(lengths, slot.length))
            codes[:, slot.start : slot.start + slot.length] = padded(
                self._vocabularies[owner].codes(entries), lengths, slot.length
            )
        return scaled, codes

    def extend(self, X, sample_weight=None):
        """Give codes at the end to categories that have none; all else stays.

        Parameters
        ----------
        X : pandas or polars DataFrame, or array of shape (n_samples, n_features)
            Among its rows a category needs `min_frequency`.
        sample_weight : array of shape (n_samples,), default=None

        Returns
        -------
        n_new : int
            Rows that the table of codes needs more than before.
        """
        table, weight = _counting_rows(X, sample_weight)
        self._check_columns(table)
        before = self.n_codes_
        for j in self._vocabularies:
            self._learn(j, table, weight)
        return self.n_codes_ - before

    def describe(self):
        """Return all that a program needs to encode rows itself, ready for JSON.

        Returns
        -------
        description : dict
            - "n_numbers", "n_columns", "n_codes" and "padding", the code that fills
              lists up; "clip", where standardised numbers end;
            - "columns", a dict for each column of X in order, with its "name" and
              "kind". A "number" has "mean" and "factor", so that ``(value - mean) *
              factor`` is the number at position "number"; "indicator", the position
              of a 1 for missing, or None; and with bins the position "column" of
              the code "first_bin" plus the count of "edges" below the value, or
              "missing". A "category" has a position "column" and the place
              "vocabulary" of its codes. A "list" has "start", "length", "pooling",
              "target" and "vocabulary";
            - "vocabularies", dicts of the codes "unseen" and "missing", and of the
              lists "categories" and "codes". Numbers without a fraction are
              integers, False is 0 and True is 1. Categories that are neither text nor
              numbers are given by their `str`.
        """
        owners = list(self._vocabularies)
        columns = [self._describe_column(j, owners) for j in range(self._n_features)]
        return {
            "n_numbers": self.n_numbers_,
            "n_columns": self.n_columns_,
            "n_codes": self.n_codes_,
            "padding": PADDING,
            "clip": CLIP,
            "columns": columns,
            "vocabularies": [v.describe() for v in self._vocabularies.values()],
        }

    # -- what fit is made of -------------------------------------------------------

    def _add_number(self, j, values, weight):
        bins = self.n_bins if self.numeric_encoding == "bins" else None
        scale = NumberScale(values, weight, bins)
        part = self._numbers[j] = _Number(scale, self._next_number())
        if bins is not None:
            part.column, part.start = self._next_column(), self.n_codes_
            self.n_codes_ += 2 + len(scale.edges)

    def _add_vocabulary(self, j, table, weight):
        self._vocabularies[j] = Vocabulary(self.n_codes_)
        self.n_codes_ += 2
        self._learn(j, table, weight)

    def _learn(self, j, table, weight):
        """Add the categories of a table to a vocabulary."""
        tally = Tally()
        for column, length in self._sources[j]:
            if length is None:
                tally.add(table.entries(column), weight)
                continue
            lengths, entries = table.lists(column)
            kept = last_entries(lengths, length)
            each = None if weight is None else np.repeat(weight, lengths)[kept]
            tally.add(entries.take(kept), each)
        vocabulary = self._vocabularies[j]
        self.n_codes_ += vocabulary.learn(tally, self.min_frequency, self.n_codes_)

    def _add_lists(self, poolings, lengths, table, weight):
        self._lists, slots, start = {}, [], self.n_columns_
        for j in sorted(poolings):
            pooling, target = poolings[j]
            self._lists[j] = j if target is None else target
            if target is None:
                self._add_vocabulary(j, table, weight)
            item = None if target is None else self._columns[target]
            name = j if table.names is None else table.names[j]
            slots.append(ListSlot(name, start, lengths[j], pooling, item))
            start += lengths[j]
        self.lists_ = tuple(slots)

    def _list_length(self, table, j):
        """Return the padded length of a column of lists."""
        sizes, _ = table.lists(j)
        cut = int((sizes > self.max_list_length).sum())
        if cut:
            warnings.warn(
                f"{cut} of the lists in {table.label(j)} of X are longer than "
                f"max_list_length={self.max_list_length}: only their last entries are "
                "kept.",
                UserWarning,
                stacklevel=2,
            )
        return max(1, min(int(sizes.max(initial=0)), self.max_list_length))

    def _next_number(self):
        self.n_numbers_ += 1
        return self.n_numbers_ - 1

    def _next_column(self):
        self.n_columns_ += 1
        return self.n_columns_ - 1

    def _check_columns(self, table):
        """Raise a ValueError unless a table has as many columns as that of the fit."""
        if table.n_columns != self._n_features:
            raise ValueError(
                f"X has {table.n_columns} columns, but the encoder was fitted to "
                f"{self._n_features}: give the same columns in the same order."
            )

    def _describe_column(self, j, owners):
        about = {"name": str(j if self._names is None else self._names[j])}
        if j in self._numbers:
            part = self._numbers[j]
            about |= {
                "kind": "number",
                "mean": part.scale.mean,
                "factor": part.scale.factor,
                "number": part.number,
                "indicator": part.indicator,
            }
            if part.column is not None:
                about |= {
                    "column": part.column,
                    "missing": part.start,
                    "first_bin": part.start + 1,
                    "edges": part.scale.edges.tolist(),
                }
            return about
        if j in self._columns:
            place = owners.index(j)
            return about | {
                "kind": "category",
                "column": self._columns[j],
                "vocabulary": place,
            }
        slot = self.lists_[list(self._lists).index(j)]
        return about | {
            "kind": "list",
            "start": slot.start,
            "length": slot.length,
            "pooling": slot.pooling,
            "target": slot.target,
            "vocabulary": owners.index(self._lists[j]),
        }


def _counting_rows(X, sample_weight):
    """Return the rows of positive weight as a table, and their weights."""
    if sample_weight is None:
        return Table(X), None
    weight = np.asarray(sample_weight, dtype=np.float64)
    if not weight.all():
        kept = np.flatnonzero(weight)
        X, weight = safe_indexing(X, kept), weight[kept]
    # Counting rows is faster than adding ones.
    return Table(X), None if (weight == 1).all() else weight
