"""Scale and bins of a number column."""

import numpy as np

__all__ = ["CLIP", "NumberScale"]

# Standardised numbers end here. The tail of a skewed column (a capital gain at 20
# standard deviations) would rule the gradient of every batch it is in, and a wrong
# entry at prediction would leave what the network was trained on; below, numbers
# stay linear, and rows that are clipped are told apart by their bins.
CLIP = 10.0


class NumberScale:
    """Mean, scale and quantile bins of a column of numbers.

    Parameters
    ----------
    values : array of shape (n_rows,)
        NaN where it is missing.
    weight : array of shape (n_rows,), or None
        Of positive numbers.
    n_bins : int or None
        At most so many bins; None for none.

    Attributes
    ----------
    mean, factor : float
        A number goes in as ``(value - mean) * factor``, the factor being one over
        the standard deviation; 0 for a constant column.
    has_gaps : bool
    edges : array of shape (n_bins - 1,) or None
        Value v is in bin ``(edges < v).sum()``.
    """

    def __init__(self, values, weight, n_bins):
        missing = np.isnan(values)
        self.has_gaps = bool(missing.any())
        if self.has_gaps:
            values = values[~missing]
            weight = None if weight is None else weight[~missing]
        self.mean, self.factor, self.edges = 0.0, 0.0, None
        if len(values):
            self._standardise(values, weight)
        if n_bins is not None:
            self.edges = _edges(*_distinct(values, weight), n_bins)

    def _standardise(self, values, weight):
        low, high = values.min(), values.max()
        if low == high:
            self.mean = float(low)
            return
        # In units of the largest: the square of 1e200 is no double.
        unit = max(abs(low), abs(high))
        scaled = values / unit
        mean = np.average(scaled, weights=weight)
        scaled -= mean
        spread = np.sqrt(np.average(scaled**2, weights=weight)) * unit
        factor = 1 / spread if spread > 0 else np.inf
        self.mean = float(mean * unit)
        self.factor = float(factor) if np.isfinite(factor) else 0.0

    def scaled(self, values):
        """Return standardised numbers of at most CLIP either way; 0 where missing.

        Parameters
        ----------
        values : array of shape (n_rows,)
        """
        with np.errstate(over="ignore", invalid="ignore"):
            out = (values - self.mean) * self.factor
        return np.nan_to_num(np.clip(out, -CLIP, CLIP, out=out), copy=False)

    def bins(self, values):
        """Return bins of shape (n_rows,) from 0, and -1 where it is missing."""
        found = np.searchsorted(self.edges, values)
        return np.where(np.isnan(values), -1, found)


def _distinct(values, weight):
    """Return distinct values in rising order, and the mass of each."""
    if weight is None or not len(values):
        return np.unique(values, return_counts=True)
    order = np.argsort(values)
    values = values[order]
    first = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
    return values[first], np.add.reduceat(weight[order], first)


def _edges(values, mass, n_bins):
    """Return edges between bins: quantiles, at the middle between two values.

    A value that fills a bin alone counts as no more than that: where nine rows in ten
    are zero, the others still share all bins but one. (Plain quantiles left capital
    gains of a census with 3 of 32 bins; logistic regression on the bins then had an
    AUC of 0.9435, in place of 0.9461, on rows held out.)

    Parameters
    ----------
    values, mass : arrays of shape (n_distinct,)
    n_bins : int
    """
    if len(values) < 2:
        return np.empty(0)
    cuts = np.arange(len(values) - 1)
    if len(values) > n_bins:
        mass = _levelled(mass.astype(float), n_bins)
        below = np.cumsum(mass)
        share = np.arange(1, n_bins) * (below[-1] / n_bins)
        cuts = np.unique(np.searchsorted(below, share))
        cuts = cuts[cuts < len(values) - 1]
    low, high = values[cuts], values[cuts + 1]
    middle = low / 2 + high / 2
    # Between neighbouring doubles there is no middle.
    return np.where((low <= middle) & (middle < high), middle, low)


def _levelled(mass, n_bins):
    """Return masses of which none is above that of a bin, which is their mean."""
    for _ in range(100):
        level = mass.sum() / n_bins
        if mass.max() <= level * (1 + 1e-9):
            break
        mass = np.minimum(mass, level)
    return mass
