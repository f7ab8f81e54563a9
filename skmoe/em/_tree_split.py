"""The best split of some rows: a column cut where local regressions part.

As in a linear model tree: the responses lose a linear fit on all columns, then
every cut of every column is tried, with a straight line in that column on either
side (the residuals of a good local fit bend where a split is due).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skmoe._blocks import solve_psd
from skmoe.em._segments import Segmenter
from skmoe.em._starts import StartData, soften

__all__ = ["Split", "TreeSplitter"]

Array = NDArray[np.float64]
Ints = NDArray[np.intp]

MAX_BINS = 32
# A side needs so many rows' worth of weight for its line.
LEAST_ROWS = 4.0
LOCAL_RIDGE = 1e-2
# Of the cost, for each unit of weight.
LEAST_GAIN = 1e-9


@dataclass
class Split:
    """A cut of one column.

    Attributes
    ----------
    gain : float
        Fall of the cost: nats for a regression, squared error for classes.
    column : int
    cut : float
        Rows with a larger value go to the right.
    spread : float
        Weighted standard deviation of the column over the rows split.
    """

    gain: float
    column: int
    cut: float
    spread: float


class TreeSplitter:
    """Finds splits on the columns that a start works on.

    Parameters
    ----------
    data : StartData
    """

    def __init__(self, data: StartData) -> None:
        self.data = data
        # In rows' worth of weight: weights may be normalised to a small sum.
        total = float(data.weight.sum())
        self.least = LEAST_ROWS * min(1.0, total / data.weight.size)
        X = data.gate_X
        segmenter = Segmenter(
            X, X, data.target, data.weight, classes=False, min_mass=0.0
        )
        self.columns: list[int] = []
        self.codes: list[Ints] = []
        self.edges: list[Array] = []
        for column in range(X.shape[1]):
            bins = segmenter.bins(column, MAX_BINS)
            if bins is None:
                continue
            order = np.argsort(bins, kind="stable")
            first = np.searchsorted(bins[order], np.arange(1, bins.max() + 1))
            value = X[order, column]
            low = np.maximum.reduceat(value, np.concatenate([[0], first]))[:-1]
            high = np.minimum.reduceat(value, np.concatenate([[0], first]))[1:]
            self.columns.append(column)
            self.codes.append(bins)
            self.edges.append(0.5 * (low + high))

    def best_split(self, rows: Ints, weight: Array) -> Split | None:
        """Return the best cut of some rows, None where there is none.

        Parameters
        ----------
        rows : array of int
        weight : array of shape (n_rows,)
            Weights of these rows.
        """
        total = float(weight.sum())
        if rows.size < 2 or total <= 0.0:
            return None
        residual = self._residual(rows, weight)
        best = None
        for column, codes, edges in zip(
            self.columns, self.codes, self.edges, strict=True
        ):
            value = self.data.gate_X[rows, column]
            found = self._best_cut(codes[rows], value, residual, weight, edges.size)
            if found is not None and (best is None or found[0] > best.gain):
                mean = weight @ value / total
                spread = float(np.sqrt(weight @ (value - mean) ** 2 / total))
                best = Split(found[0], column, float(edges[found[1]]), spread)
        # Where nothing is left to gain, rounding would choose.
        return best if best is not None and best.gain > LEAST_GAIN * total else None

    def shares(self, rows: Ints, n_children: int, width: float) -> Array:
        """Return soft shares of the children for all rows.

        Parameters
        ----------
        rows : array of int
            The rows of the node.
        n_children : int
        width : float
            Of the soft cut, in standard deviations of the column in the node.

        Returns
        -------
        shares : array of shape (n_children, n_samples)
            Equal where the rows cannot be split.
        """
        weight = self.data.weight[rows]
        split = self.best_split(rows, weight)
        if split is None:
            return np.full((n_children, self.data.weight.size), 1.0 / n_children)
        return self.shares_of(split, rows, weight, n_children, width)

    def shares_of(
        self, split: Split, rows: Ints, weight: Array, n_children: int, width: float
    ) -> Array:
        """Return the same for a split of the rows, with weights of their own."""
        if n_children > 2:
            return self._many_shares(rows, weight, n_children, split)
        value = self.data.gate_X[:, split.column]
        logit = (value - split.cut) / (width * max(split.spread, 1e-12))
        right = 1.0 / (1.0 + np.exp(-np.clip(logit, -30.0, 30.0)))
        return np.stack([1.0 - right, right])

    def _many_shares(
        self, rows: Ints, weight: Array, n_children: int, split: Split
    ) -> Array:
        """Split the part with the most to gain until there are enough parts."""
        labels = np.zeros(self.data.weight.size, dtype=np.intp)
        options: dict[int, Split | None] = {0: split}
        for new in range(1, n_children):
            gains = {part: s.gain for part, s in options.items() if s is not None}
            if not gains:
                break
            part = max(gains, key=lambda key: gains[key])
            cut = options[part]
            assert cut is not None
            above = self.data.gate_X[:, cut.column] > cut.cut
            labels[(labels == part) & above] = new
            for side in (part, new):
                own = labels[rows] == side
                options[side] = self.best_split(rows[own], weight[own])
        return soften(labels, n_children)

    def _residual(self, rows: Ints, weight: Array) -> Array:
        """Return responses less a linear fit on all columns, (n_rows, n_outputs)."""
        X, y = self.data.expert_X[rows], self.data.target[rows]
        design = np.column_stack([np.ones(rows.size), X])
        weighted = design * weight[:, None]
        gram = design.T @ weighted
        ridge = LOCAL_RIDGE * float(weight.sum()) + 1e-12
        gram[np.arange(1, len(gram)), np.arange(1, len(gram))] += ridge
        return np.asarray(y - design @ solve_psd(gram, weighted.T @ y))

    def _best_cut(
        self, codes: Ints, value: Array, residual: Array, weight: Array, n_edges: int
    ) -> tuple[float, int] | None:
        """Return gain and edge of the best cut along one column."""
        size = n_edges + 1

        def below(values: Array) -> Array:
            return np.cumsum(np.bincount(codes, weights=values, minlength=size))

        weighted = weight * value
        moments = [below(weight), below(weighted), below(weighted * value)]
        mass = moments[0][:-1]
        allowed = (mass >= self.least) & (moments[0][-1] - mass >= self.least)
        if not allowed.any():
            return None
        gain = np.zeros(n_edges)
        for j in range(residual.shape[1]):
            r = residual[:, j]
            sums = [*moments, below(weight * r), below(weighted * r)]
            sums.append(below(weight * r * r))
            left = [part[:-1] for part in sums]
            right = [part[-1] - part[:-1] for part in sums]
            whole = [part[-1:] for part in sums]
            gain += self._cost(whole) - self._cost(left) - self._cost(right)
        gain[~allowed] = -np.inf
        best = int(gain.argmax())
        return (float(gain[best]), best) if np.isfinite(gain[best]) else None

    def _cost(self, sums: list[Array]) -> Array:
        """Return the cost of a straight line in each part, from its moments."""
        mass, x, xx, r, xr, rr = sums
        safe = np.maximum(mass, 1e-300)
        spread = np.maximum(xx - x * x / safe, 0.0)
        cross = xr - x * r / safe
        slope = cross / np.maximum(spread + 1e-3 * safe, 1e-300)
        error = np.maximum(rr - r * r / safe - slope * cross, 0.0)
        if self.data.classes:
            return np.asarray(error)
        prior_rows, fraction = self.data.variance_prior
        variance = (error + prior_rows * fraction) / np.maximum(
            mass + prior_rows, 1e-300
        )
        return np.asarray(0.5 * (mass + prior_rows) * np.log(variance + 1e-10))
