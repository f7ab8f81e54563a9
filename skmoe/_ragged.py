"""Ragged sequences: read from lists, stacked rows or padded tables; packed by step."""

import numpy as np
from sklearn.utils.validation import check_array

__all__ = [
    "Sequences",
    "is_ragged",
    "list_sequences",
    "pad_sequences",
    "stacked_sequences",
    "table_sequences",
]


class Sequences:
    """Sequences of unequal lengths, packed so that one step of all is one slice.

    The longest come first: those that are still running at step t are the first
    ``bounds[t + 1] - bounds[t]`` ones, and their rows at it are
    ``rows[bounds[t] : bounds[t + 1]]``.

    Parameters
    ----------
    stacked : array of shape (n_steps, n_features)
        One sequence after the other. A step with NaN in any column is unobserved;
        unobserved steps at a sequence's end are dropped, since they say nothing.
    lengths : int array of shape (n_sequences,)

    Attributes
    ----------
    stacked, lengths :
        As given, less unobserved ends.
    order : int array of shape (n_sequences,)
        The sequence that each place of the packing holds.
    bounds : int array of shape (longest + 1,)
    rows : array of shape (n_steps, n_features)
        Packed, 0 where unobserved.
    seen : bool array of shape (n_steps,)
        Which packed rows are observed.
    """

    def __init__(self, stacked, lengths):
        ends = np.cumsum(lengths)
        gone = np.isnan(stacked).any(axis=1)
        if gone.any():
            kept = _observed_lengths(~gone, lengths)
            index = _ranges(ends - lengths, kept)
            stacked, lengths, gone = stacked[index], kept, gone[index]
            ends = np.cumsum(lengths)
        self.stacked, self.lengths = stacked, lengths
        self.order = np.argsort(-lengths, kind="stable")
        first, falling = (ends - lengths)[self.order], lengths[self.order]
        steps = np.arange(falling[0] if falling.size else 0)
        running = np.searchsorted(-falling, -steps, side="left")
        self.bounds = np.concatenate([[0], np.cumsum(running)])
        place = [first[:count] + t for t, count in enumerate(running)]
        index = np.concatenate(place) if place else np.zeros(0, dtype=int)
        self.seen = ~gone[index]
        self.rows = np.where(self.seen[:, None], stacked[index], 0.0)

    def __len__(self):
        return self.lengths.size

    def take(self, index):
        """Return some of the sequences.

        Parameters
        ----------
        index : int array
        """
        starts = np.cumsum(self.lengths) - self.lengths
        lengths = self.lengths[index]
        return Sequences(self.stacked[_ranges(starts[index], lengths)], lengths)

    def scaled(self, center, scale):
        """Return the same sequences with each column centred and divided."""
        return Sequences((self.stacked - center) / scale, self.lengths)

    def packed(self, values):
        """Return one value a sequence as one a packed row, (..., n_steps)."""
        values = values[..., self.order]
        counts = np.diff(self.bounds)
        return values[..., _ranges(np.zeros_like(counts), counts)]

    @property
    def observed(self):
        """Number of observed steps of each sequence, (n_sequences,)."""
        total = np.concatenate([[0], np.cumsum(~np.isnan(self.stacked).any(axis=1))])
        ends = np.cumsum(self.lengths)
        return total[ends] - total[ends - self.lengths]

    def step_numbers(self):
        """Return the step of each packed row, (n_steps,)."""
        counts = np.diff(self.bounds)
        return np.repeat(np.arange(counts.size), counts)

    def groups(self):
        """Return the number of each sequence among the distinct ones, NaN being NaN."""
        parts = np.split(self.stacked + 0.0, np.cumsum(self.lengths)[:-1])
        keys = np.empty(len(self), dtype=object)
        keys[:] = [part.tobytes() for part in parts]
        return np.unique(keys, return_inverse=True)[1].reshape(-1)


def _observed_lengths(seen, lengths):
    """Return the lengths up to the last observed step of each sequence."""
    ends = np.cumsum(lengths)
    place = np.where(seen, np.arange(seen.size), -1)
    last = np.maximum.accumulate(place)[np.maximum(ends - 1, 0)]
    return np.where(lengths > 0, np.maximum(last - (ends - lengths) + 1, 0), 0)


def _ranges(starts, counts):
    """Return the concatenated ranges ``start, ..., start + count - 1``."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if ends.size else 0
    return np.arange(total) + np.repeat(starts - ends + counts, counts)


def is_ragged(X):
    """Return whether X is a list of sequences, not one table of rows.

    A list of equally long lists of numbers is a table.
    """
    if hasattr(X, "iloc") or not hasattr(X, "__len__"):
        return False
    if isinstance(X, np.ndarray):
        # Some rows of such an array are one again, though they may be of one length.
        each = X.dtype == object and X.ndim == 1 and X.size > 0
        return X.ndim == 3 or (each and all(np.ndim(one) in (1, 2) for one in X))
    return isinstance(X, list | tuple) and (len(X) == 0 or _holds_arrays(X))


def _holds_arrays(X):
    shapes = [np.shape(one) for one in X]
    if any(len(shape) == 2 for shape in shapes):
        return True
    return all(len(shape) == 1 for shape in shapes) and len(set(shapes)) > 1


def list_sequences(X, n_features=None):
    """Read a list of arrays.

    Parameters
    ----------
    X : sequence of arrays of shape (n_steps, n_features) or (n_steps,)
    n_features : int, default=None
        What every sequence must have; None: as the first has.

    Returns
    -------
    sequences : Sequences

    Raises
    ------
    ValueError
        If there is none, one is empty, or they differ in their columns.
    """
    if len(X) == 0:
        raise ValueError("X holds no sequence: give a list of at least one array.")
    parts, wanted = [], n_features
    for number, one in enumerate(X):
        if np.ndim(one) == 1:
            one = np.reshape(one, (-1, 1))
        if np.ndim(one) != 2 or np.shape(one)[0] == 0:
            raise ValueError(
                f"sequence {number} of X must be an array of shape (n_steps, "
                f"n_features) with at least one step, got shape {np.shape(one)}."
            )
        wanted = wanted or np.shape(one)[1]
        if np.shape(one)[1] != wanted:
            raise ValueError(
                f"sequence {number} of X has {np.shape(one)[1]} columns, expected "
                f"{wanted}: all sequences must have the same columns."
            )
        parts.append(
            check_array(
                one,
                dtype=np.float64,
                ensure_all_finite="allow-nan",
                input_name=f"sequence {number} of X",
            )
        )
    lengths = np.array([part.shape[0] for part in parts])
    return Sequences(np.concatenate(parts), lengths)


def stacked_sequences(X, lengths, n_features=None):
    """Read rows that hold one sequence after the other.

    Parameters
    ----------
    X : array of shape (n_steps, n_features)
    lengths : array-like of int of shape (n_sequences,)
    n_features : int, default=None
        The columns that X must have; None: any number.

    Returns
    -------
    sequences : Sequences

    Raises
    ------
    ValueError
        If the lengths are not positive whole numbers that sum to n_steps, or X has
        other columns.
    """
    if n_features is not None and X.shape[1] != n_features:
        raise ValueError(
            f"stacked rows must have n_features={n_features} columns, got {X.shape[1]}."
        )
    lengths = np.asarray(lengths)
    whole = lengths.ndim == 1 and lengths.size and lengths.dtype.kind in "iu"
    if not (whole and (lengths > 0).all()):
        raise ValueError(
            "lengths must hold one whole number >= 1 for each sequence, got "
            f"{lengths.tolist()!r}."
        )
    if lengths.sum() != X.shape[0]:
        raise ValueError(
            f"lengths sum to {lengths.sum()}, but X has {X.shape[0]} rows: they must "
            "say how many rows of X, in order, each sequence has."
        )
    return Sequences(X, lengths.astype(int))


def table_sequences(X, n_features):
    """Read a table with one sequence a row, step after step, as `pad_sequences` makes.

    Parameters
    ----------
    X : array of shape (n_sequences, n_steps * n_features)
        Steps with NaN in them are unobserved; a row of nothing else is a sequence of
        no steps.
    n_features : int

    Returns
    -------
    sequences : Sequences

    Raises
    ------
    ValueError
        If the columns are no whole number of steps.
    """
    n_samples, width = X.shape
    if width % n_features:
        raise ValueError(
            f"a table of {width} columns holds no whole number of steps of "
            f"n_features={n_features} columns. Give only the columns that "
            "pad_sequences made, or set n_features."
        )
    steps = width // n_features
    return Sequences(X.reshape(-1, n_features), np.full(n_samples, steps))


def pad_sequences(sequences, n_steps=None):
    """Lay out sequences as a table, one a row, for estimators that want one.

    Parameters
    ----------
    sequences : list of arrays of shape (n_steps_i, n_features) or (n_steps_i,)
    n_steps : int, default=None
        Steps to make room for, so that tables of other sequences have the same
        columns; None: as many as the longest sequence has.

    Returns
    -------
    table : array of shape (n_sequences, n_steps * n_features)
        The columns of the first step, then those of the second, and so on; NaN after a
        sequence's end.

    Raises
    ------
    ValueError
        If a sequence is empty or longer than ``n_steps``, or columns differ.

    Examples
    --------
    >>> from skmoe._ragged import pad_sequences
    >>> pad_sequences([[[1, 2], [3, 4]], [[5, 6]]])
    array([[ 1.,  2.,  3.,  4.],
           [ 5.,  6., nan, nan]])
    """
    read = list_sequences(sequences)
    lengths = np.array([len(one) for one in sequences])
    longest = int(lengths.max())
    if n_steps is not None and n_steps < longest:
        raise ValueError(
            f"n_steps={n_steps!r} is too few: sequence {int(lengths.argmax())} has "
            f"{longest} steps."
        )
    width = read.stacked.shape[1]
    table = np.full((len(read), n_steps or longest, width), np.nan)
    ends = np.cumsum(read.lengths)
    for k, (end, length) in enumerate(zip(ends, read.lengths, strict=True)):
        table[k, :length] = read.stacked[end - length : end]
    return table.reshape(len(read), -1)
