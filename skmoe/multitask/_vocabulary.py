"""Codes of categories: rows of one table, which never change their meaning."""

import numbers

import numpy as np

from skmoe._gaps import is_gap

__all__ = ["Tally", "Vocabulary"]

INT64 = np.iinfo(np.int64)


class Tally:
    """How often categories occur.

    Attributes
    ----------
    values : int64 array of shape (n_integers,)
        Integers in rising order.
    mass : array of shape (n_integers,)
    others : dict
        Mass of each other value.
    """

    def __init__(self):
        self.values, self.mass = np.empty(0, dtype=np.int64), np.empty(0)
        self.others = {}

    def add(self, entries, weight=None):
        """Count entries.

        Parameters
        ----------
        entries : Entries
        weight : array of shape (n_rows,), default=None
            What each counts; None for 1.
        """
        if entries.rows is None:
            held = slice(None) if entries.missing is None else ~entries.missing
            some = None if weight is None else weight[held]
            self._add_integers(*_counted(entries.distinct[held], some))
            return
        held = entries.rows >= 0
        some = None if weight is None else weight[held]
        total = np.bincount(entries.rows[held], some, minlength=len(entries.distinct))
        whole = []
        for value, mass in zip(entries.distinct, total.tolist(), strict=True):
            if mass > 0 and not is_gap(value):
                value = plain(value)
                if is_integer(value):
                    whole.append((value, mass))
                else:
                    self.others[value] = self.others.get(value, 0) + mass
        self._add_integers(
            np.array([value for value, _ in whole], dtype=np.int64),
            np.array([mass for _, mass in whole], dtype=float),
        )

    def _add_integers(self, values, mass):
        values = np.concatenate([self.values, values])
        self.values, place = np.unique(values, return_inverse=True)
        self.mass = np.bincount(
            place, np.concatenate([self.mass, mass]), minlength=len(self.values)
        )


class Vocabulary:
    """Codes of the categories of one column, and of the lists that share them.

    Values are one category if Python calls them equal: 1, 1.0 and True, but not "1".
    Integers are found by their 64 bits, all other values by their hash.

    Parameters
    ----------
    start : int
        The code of an unseen category. That of a missing one follows it.
    """

    def __init__(self, start):
        self.unseen, self.missing = start, start + 1
        self.integers = np.empty(0, dtype=np.int64)  # rising
        self.integer_codes = np.empty(0, dtype=np.int32)
        self.others = {}

    def learn(self, tally, least, first):
        """Give codes to categories that have none; return how many there are.

        Parameters
        ----------
        tally : Tally
        least : float
            Mass that a category needs. One that occurs at all has enough for 1, so
            that weights below 1 do not undo every category.
        first : int
            Code of the first of them, the others follow: integers in rising order,
            then text, then everything else by its representation.
        """
        enough = tally.mass >= (least if least > 1 else 0)
        values = tally.values[enough]
        values = values[self._of_integers(values) == self.unseen]
        others = [
            value
            for value, mass in tally.others.items()
            if (least <= 1 or mass >= least) and value not in self.others
        ]
        others.sort(key=_order)
        codes = np.arange(first, first + len(values), dtype=np.int32)
        merged = np.concatenate([self.integers, values])
        order = np.argsort(merged)
        self.integers = merged[order]
        self.integer_codes = np.concatenate([self.integer_codes, codes])[order]
        start = first + len(values)
        self.others.update({value: start + i for i, value in enumerate(others)})
        return len(values) + len(others)

    def codes(self, entries):
        """Return codes of shape (n_rows,), 32-bit integers.

        Parameters
        ----------
        entries : Entries
        """
        if entries.rows is not None:
            # A missing row points to -1, the last place.
            found = np.append(self._of_values(entries.distinct), self.missing)
            return found.astype(np.int32)[entries.rows]
        codes = self._of_integers(entries.distinct)
        if entries.missing is not None:
            codes[entries.missing] = self.missing
        return codes

    def describe(self):
        """Return the codes as a dict, ready for JSON, categories by their codes."""
        known = dict(
            zip(self.integers.tolist(), self.integer_codes.tolist(), strict=True)
        )
        known |= self.others
        values = sorted(known, key=known.__getitem__)
        return {
            "unseen": self.unseen,
            "missing": self.missing,
            "categories": [
                v if isinstance(v, (str, int, float)) else str(v) for v in values
            ],
            "codes": [known[value] for value in values],
        }

    def _of_integers(self, values):
        """Return codes of 64-bit integers."""
        if not len(self.integers):
            return np.full(len(values), self.unseen, dtype=np.int32)
        low, high = int(self.integers[0]), int(self.integers[-1])
        span = high - low + 1
        if span > 2 * len(values) + 1024:
            place = np.searchsorted(self.integers, values)
            place = np.minimum(place, len(self.integers) - 1)
            known = self.integers[place] == values
            return np.where(known, self.integer_codes[place], np.int32(self.unseen))
        # Many values of a small range: a table of it is several times faster. The
        # difference is taken without a sign, where what is out of range is large.
        table = np.full(span + 1, self.unseen, dtype=np.int32)
        table[self.integers - low] = self.integer_codes
        shift = values.view(np.uint64) - np.uint64(low % 2**64)
        return table[np.minimum(shift, np.uint64(span)).view(np.int64)]

    def _of_values(self, values):
        """Return codes of a list of any values."""
        values = [plain(value) for value in values]
        codes = np.array(
            [self.others.get(value, self.unseen) for value in values], dtype=np.int64
        )
        whole = [i for i, value in enumerate(values) if is_integer(value)]
        if whole:
            integers = np.array([values[i] for i in whole], dtype=np.int64)
            codes[whole] = self._of_integers(integers)
        for i in np.flatnonzero(codes == self.unseen):
            if is_gap(values[i]):
                codes[i] = self.missing
        return codes


def plain(value):
    """Return a value as Python's own; a float without a fraction as an integer."""
    if isinstance(value, (np.number, np.bool_, np.str_)):
        value = value.item()
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def is_integer(value):
    """Return whether a value of `plain` is an integer of 64 bits."""
    return type(value) is int and INT64.min <= value <= INT64.max


def _order(value):
    text = isinstance(value, str)
    return (not text, type(value).__name__, value if text else repr(value))


def _counted(values, weight):
    """Return distinct integers and the mass of each."""
    if not len(values):
        return values, np.empty(0)
    low = int(values.min())
    if int(values.max()) - low <= 2 * len(values) + 1024:
        mass = np.bincount(values - low, weight)
        found = np.flatnonzero(mass)
        return found + low, mass[found]
    if weight is None:
        return np.unique(values, return_counts=True)
    distinct, place = np.unique(values, return_inverse=True)
    return distinct, np.bincount(place, weight)
