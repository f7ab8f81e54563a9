"""Sets of numbers that are unions of intervals, one set for each row."""

import numpy as np

__all__ = ["IntervalUnion"]


class IntervalUnion:
    """A union of closed intervals for each of some rows.

    The intervals of a row are disjoint and in increasing order. ``union[i]`` are
    those of one row, of shape (n_pieces, 2); other indices give an `IntervalUnion`
    of some of the rows.

    Parameters
    ----------
    lower, upper : arrays of shape (n_samples, max_pieces)
        Ends of the intervals, padded with NaN.
    integers : bool, default=False
        Whether only integers are meant: [2, 4] is then the set {2, 3, 4}.

    Attributes
    ----------
    n_pieces : array of int of shape (n_samples,)
        Number of intervals of each row.
    """

    def __init__(self, lower, upper, *, integers=False):
        self.lower = lower
        self.upper = upper
        self.integers = integers

    @classmethod
    def from_pieces(cls, row, lower, upper, n_samples, *, integers=False):
        """Gather intervals into rows; those that overlap or touch become one.

        Parameters
        ----------
        row : array of int of shape (n_pieces,)
            The row that each interval belongs to.
        lower, upper : arrays of shape (n_pieces,)
        n_samples : int
        integers : bool, default=False
            Whether only integers are meant: then [0, 1] and [2, 5] touch.

        Returns
        -------
        union : IntervalUnion
        """
        order = np.lexsort((lower, row))
        row, lower, upper = row[order], lower[order], upper[order]
        # The farthest end so far in each row, as a running maximum of ranks.
        by_end = np.lexsort((upper, row))
        reach = upper[by_end[np.maximum.accumulate(np.argsort(by_end))]]
        new = np.ones(row.size, dtype=bool)
        new[1:] = (row[1:] != row[:-1]) | (lower[1:] > reach[:-1] + integers)
        first = np.flatnonzero(new)
        last = np.append(first[1:], row.size)[: first.size] - 1
        row, n_pieces = row[first], np.bincount(row[first], minlength=n_samples)
        place = np.arange(first.size) - (np.cumsum(n_pieces) - n_pieces)[row]
        shape = (n_samples, max(int(n_pieces.max(initial=0)), 1))
        ends = np.full((2, *shape), np.nan)
        ends[0, row, place], ends[1, row, place] = lower[first], reach[last]
        return cls(*ends, integers=integers)

    @property
    def n_pieces(self):
        return (~np.isnan(self.lower)).sum(axis=1)

    def __len__(self):
        return self.lower.shape[0]

    def __getitem__(self, rows):
        if np.ndim(rows) == 0 and not isinstance(rows, slice):
            some = np.column_stack([self.lower[rows], self.upper[rows]])
            return some[~np.isnan(some[:, 0])]
        return IntervalUnion(self.lower[rows], self.upper[rows], integers=self.integers)

    def __repr__(self):
        n_samples, max_pieces = self.lower.shape
        return f"IntervalUnion(n_samples={n_samples}, max_pieces={max_pieces})"

    def length(self):
        """Return the total length of each row's intervals, in the unit of y.

        Of sets of integers: how many there are.

        Returns
        -------
        length : array of shape (n_samples,)
        """
        return np.nansum(self.upper - self.lower + self.integers, axis=1)

    def contains(self, y):
        """Return whether a number of each row lies in its intervals.

        Parameters
        ----------
        y : array-like of shape (n_samples,)

        Returns
        -------
        contains : array of bool of shape (n_samples,)

        Raises
        ------
        ValueError
            If there is not one number for each row.
        """
        y = np.asarray(y, dtype=float)
        if y.shape != (len(self),):
            raise ValueError(
                f"y must be of shape ({len(self)},), one number for each row, got "
                f"{y.shape}."
            )
        inside = (self.lower <= y[:, None]) & (y[:, None] <= self.upper)
        return inside.any(axis=1) & (y == np.floor(y) if self.integers else True)

    def to_frame(self):
        """Return a pandas data frame with one line for each interval.

        Returns
        -------
        frame : pandas.DataFrame
            With columns ``row``, ``piece``, ``lower`` and ``upper``.
        """
        import pandas as pd

        row, piece = np.nonzero(~np.isnan(self.lower))
        ends = {"lower": self.lower[row, piece], "upper": self.upper[row, piece]}
        return pd.DataFrame({"row": row, "piece": piece, **ends})
