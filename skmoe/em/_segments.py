"""Starts from the best contiguous segments of one column.

Along one column the rows are cut into K runs, each with a regression (or class
frequencies) of its own. Costs of all runs come from prefix sums of weighted
moments, and dynamic programming finds the best cut exactly. Where the gate
separates along a column, this is the likelihood's own optimum, which random
starts find by less than one in a hundred.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["Segmenter"]

Array = NDArray[np.float64]
Ints = NDArray[np.intp]

# Costs are computed for all pairs of boundaries: more bins than this cost more
# than the passes of EM that a finer cut would save.
MAX_BINS = 96
# Up to this many design columns a segment's regression uses all of them.
MAX_FULL_COLUMNS = 4


class Segmenter:
    """Optimal segments along single columns.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
        The gate's columns, along which rows are cut.
    design : array of shape (n_samples, n_columns)
        The experts' standardised columns, without intercept.
    target : array of shape (n_samples, n_outputs)
        Standardised responses, or indicators of classes.
    weight : array of shape (n_samples,)
    classes : bool
        Whether the target holds indicators of classes.
    min_mass : float
        Least weight of a segment.
    prior : tuple (rows, scale)
        Prior on a segment's variance, in units of the target's variance.
    """

    def __init__(
        self,
        X: Array,
        design: Array,
        target: Array,
        weight: Array,
        *,
        classes: bool,
        min_mass: float,
        prior: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        self.X, self.design, self.target, self.weight = X, design, target, weight
        self.classes, self.min_mass, self.prior = classes, min_mass, prior

    def bins(self, column: int, max_bins: int = MAX_BINS) -> Ints | None:
        """Return the bin of each row along a column; ties stay together."""
        value, inverse = np.unique(self.X[:, column], return_inverse=True)
        if value.size < 2:
            return None
        if value.size <= max_bins:
            return np.asarray(inverse.ravel(), dtype=np.intp)
        mass = np.bincount(inverse.ravel(), weights=self.weight)
        # The middle of a value's mass decides, so weights act as repetitions.
        middle = np.cumsum(mass) - 0.5 * mass
        bin_of_value = np.floor(middle * (max_bins / mass.sum())).astype(np.intp)
        bin_of_value = np.unique(bin_of_value, return_inverse=True)[1]
        return np.asarray(bin_of_value[inverse.ravel()], dtype=np.intp)

    def moments(self, rows: Ints, column: int) -> Array:
        """Return the regressors z and responses of the rows, as one table."""
        if self.classes:
            return np.asarray(self.target[rows])
        if self.design.shape[1] <= MAX_FULL_COLUMNS:
            regressors = self.design[rows]
        else:
            regressors = self.X[rows, column][:, None]
            regressors = regressors - regressors.mean()
        ones = np.ones((rows.size, 1))
        return np.hstack([ones, regressors, self.target[rows]])

    def cost_matrix(self, rows: Ints, bins: Ints, column: int) -> Array:
        """Return the cost (nats) of every run of bins a, ..., b - 1.

        Returns
        -------
        cost : array of shape (n_bins + 1, n_bins + 1)
            Infinite where a run is empty or too light.
        """
        table = self.moments(rows, column)
        weight = self.weight[rows]
        n_bins = int(bins.max()) + 1
        mass = np.bincount(bins, weights=weight, minlength=n_bins)
        mass = np.concatenate([[0.0], np.cumsum(mass)])
        start, stop = np.triu_indices(n_bins + 1, 1)
        run_mass = mass[stop] - mass[start]
        allowed = run_mass >= self.min_mass - 1e-9
        start, stop, run_mass = start[allowed], stop[allowed], run_mass[allowed]
        if self.classes:
            value = _entropy_cost(table, weight, bins, start, stop, n_bins)
        else:
            n_outputs = self.target.shape[1]
            scatter = _residual_scatter(
                table, n_outputs, weight, bins, start, stop, n_bins
            )
            prior_rows, scale = self.prior
            total = run_mass + prior_rows
            variance = (scatter + prior_rows * scale) / total[:, None]
            variance = np.maximum(variance, 1e-10)
            value = 0.5 * (total[:, None] * np.log(variance)).sum(axis=1)
        cost = np.full((n_bins + 1, n_bins + 1), np.inf)
        cost[start, stop] = value
        return cost

    def best_cut(
        self, rows: Ints, column: int, n_segments: int
    ) -> tuple[float, Ints] | None:
        """Return cost and labels of the best segments along a column.

        Returns None where the column has too few distinct values or rows.
        """
        bins = self.bins(column)
        if bins is None:
            return None
        bins = np.unique(bins[rows], return_inverse=True)[1].ravel()
        if bins.max() + 1 < n_segments:
            return None
        cost = self.cost_matrix(rows, bins, column)
        best = cost[0].copy()
        choices = []
        for _ in range(n_segments - 1):
            total = best[:, None] + cost
            choice = total.argmin(axis=0)
            best = total[choice, np.arange(total.shape[1])]
            choices.append(choice)
        if not np.isfinite(best[-1]):
            return None
        stop = cost.shape[0] - 1
        cuts = []
        for choice in reversed(choices):
            stop = int(choice[stop])
            cuts.append(stop)
        labels = np.searchsorted(np.array(cuts[::-1]), bins, side="right")
        return float(best[-1]), labels

    def segment_labels(self, n_segments: int) -> list[tuple[float, Ints]]:
        """Return cost and labels of the best segments, best column first."""
        rows = np.arange(self.weight.size)
        found = []
        for column in range(self.X.shape[1]):
            cut = self.best_cut(rows, column, n_segments)
            if cut is not None:
                found.append(cut)
        return sorted(found, key=lambda cut: cut[0])

    def tree_labels(self, n_leaves: int) -> Ints | None:
        """Return the leaves of a greedy model tree: best gain split first."""
        labels = np.zeros(self.weight.size, dtype=np.intp)
        options = {0: self._best_split(labels == 0)}
        for new in range(1, n_leaves):
            gains = {leaf: split[0] for leaf, split in options.items() if split}
            if not gains:
                return None
            leaf = max(gains, key=lambda key: gains[key])
            split = options[leaf]
            assert split is not None
            _, rows, side = split
            labels[rows[side == 1]] = new
            options[leaf] = self._best_split(labels == leaf)
            options[new] = self._best_split(labels == new)
        return labels

    def _best_split(self, mask: NDArray[np.bool_]) -> tuple[float, Ints, Ints] | None:
        rows = np.flatnonzero(mask)
        best = None
        for column in range(self.X.shape[1]):
            bins = self.bins(column, max_bins=32)
            if bins is None:
                continue
            run = np.unique(bins[rows], return_inverse=True)[1].ravel()
            if run.max(initial=0) < 1:
                continue
            cost = self.cost_matrix(rows, run, column)
            both = cost[0, 1:-1] + cost[1:-1, -1]
            cut = int(both.argmin())
            gain = float(cost[0, -1] - both[cut])
            if np.isfinite(gain) and (best is None or gain > best[0]):
                best = (gain, rows, (run > cut).astype(np.intp))
        return best


def _prefix(values: Array, bins: Ints, n_bins: int) -> Array:
    """Return prefix sums over bins, of shape (n_bins + 1, ...)."""
    total = np.zeros((n_bins + 1, values.shape[1]))
    for j in range(values.shape[1]):
        total[1:, j] = np.bincount(bins, weights=values[:, j], minlength=n_bins)
    return np.cumsum(total, axis=0)


def _residual_scatter(
    table: Array,
    n_outputs: int,
    weight: Array,
    bins: Ints,
    start: Ints,
    stop: Ints,
    n_bins: int,
) -> Array:
    """Return squared residuals of a regression in every run, by output."""
    size = table.shape[1]
    p = size - n_outputs
    i, j = np.triu_indices(size)
    products = table[:, i] * table[:, j] * weight[:, None]
    prefix = _prefix(products, bins, n_bins)
    run = prefix[stop] - prefix[start]
    full = np.empty((start.size, size, size))
    full[:, i, j] = run
    full[:, j, i] = run
    gram = full[:, :p, :p]
    trace = np.trace(gram, axis1=1, axis2=2)
    gram = gram + (1e-9 * trace)[:, None, None] * np.eye(p)
    cross = full[:, :p, p:]
    coef = np.linalg.solve(gram, cross)
    explained = (coef * cross).sum(axis=1)
    own = np.diagonal(full[:, p:, p:], axis1=1, axis2=2)
    return np.asarray(np.maximum(own - explained, 0.0))


def _entropy_cost(
    indicators: Array,
    weight: Array,
    bins: Ints,
    start: Ints,
    stop: Ints,
    n_bins: int,
) -> Array:
    """Return the negative log-likelihood of class frequencies in every run."""
    prefix = _prefix(indicators * weight[:, None], bins, n_bins)
    count = prefix[stop] - prefix[start]
    total = count.sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(count > 0, count * np.log(count / total), 0.0)
    return np.asarray(-terms.sum(axis=1))
