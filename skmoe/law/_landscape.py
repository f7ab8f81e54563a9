"""The heights of pooled laws: pieces on which they rise or fall, and their cuts.

Each row has a line of points: quantiles of its experts, the ends of their
supports, and the peaks and valleys between. Between two neighbours the height
rises or falls, so that what lies above a cut is a union of intervals, whose ends
are found by a search between two points, and whose probability is a sum of
differences of the cdf.
"""

import numpy as np

from skmoe.law._outline import center_and_scale, feature_points, support_ends

__all__ = ["Landscape"]

# Where a law is flat, what is nearer to the centre counts as higher: by so little
# that no other order changes.
FLAT_SLOPE = 1e-6
# Off an end of a support, beside the scale: nearer to 0 a density underflows.
OFF_THE_POLE = 1e-100
# Distance beside the scale at which the slope at an edge shows.
NEAR_EDGE = 1e-4
# Log heights of what cannot occur, and of poles.
FLOOR, CEILING = -1e6, 1e6
# A slope that is so much less than beside it may hide a peak and a valley.
SHOULDER = 0.4


class Landscape:
    """Heights of the laws of some rows.

    A height is the log of the pooled density or probability. Ties are broken in
    favour of what is nearer to the centre of the law. Subclasses say what lies at a
    point, which points there are, and how peaks, turns and ends are searched for.

    Parameters
    ----------
    part : skmoe.law._quantiles.Parts
        Densities only, or counts and point masses only.

    Attributes
    ----------
    at : array of shape (n_samples, n_points)
        Points in increasing order, the outermost ones infinite.
    height : array of shape (n_samples, n_points)
    """

    # How far the centre leans to lower points, beside the scale; distance of points
    # where experts overlap, beside the least scale.
    lean, unit = 0.0, 0.0

    def __init__(self, part):
        self.part = part
        center, self.scale = center_and_scale(part)
        self.center = center - self.lean * self.scale
        tested, self.at = self._line()
        self.height = np.full(tested.shape, FLOOR)
        row, column = np.nonzero(np.isfinite(tested))
        self.height[row, column] = self.heights(tested[row, column], row)
        new = [f(sign) for f in (self._summits, self._hidden) for sign in (1.0, -1.0)]
        self._insert(*(np.concatenate(column) for column in zip(*new, strict=True)))

    def heights(self, y, row):
        """Return the heights at points (row, y), of shape (n_points,)."""
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            height = np.log(self._weight(y, row))
            away = np.log1p(np.abs(y - self.center[row]) / self.scale[row])
        return np.clip(height - FLAT_SLOPE * away, FLOOR, CEILING)

    def cut(self, height, rows):
        """Return the intervals that are at least as high as the height of each row.

        Parameters
        ----------
        height : array of shape (n_rows,)
        rows : array of int of shape (n_rows,)
            The rows meant.

        Returns
        -------
        which : array of int of shape (n_pieces,)
            Positions in ``rows``.
        lower, upper : arrays of shape (n_pieces,)
        """
        inside = self.height[rows] >= np.maximum(height, FLOOR + 1.0)[:, None]
        which, left = np.nonzero(~inside[:, :-1] & inside[:, 1:])
        lower = self._ends(rows[which], left, height[which], rising=True)
        which, left = np.nonzero(inside[:, :-1] & ~inside[:, 1:])
        upper = self._ends(rows[which], left, height[which], rising=False)
        return which, lower, upper

    def mass_above(self, height, rows):
        """Return the probability of what is at least as high, (n_rows,)."""
        which, lower, upper = self.cut(height, rows)
        share = self.mass(lower, upper, rows[which])
        return np.bincount(which, share, minlength=rows.size)

    # -- the line of points --------------------------------------------------------

    def _line(self):
        """Return where to ask for heights, and the points that they stand for.

        An end of a support is there three times: as the point before, itself and
        the one behind it.
        """
        edges = support_ends(self.part)
        points = self._points(edges)
        before, behind = self._beside(edges)
        infinite = np.full((points.shape[0], 1), np.inf)
        tested = np.hstack([points, before, edges, behind, infinite, -infinite])
        order = np.argsort(tested, axis=1, kind="stable")
        n_points = int(np.isfinite(tested).sum(axis=1).max()) + 2
        order = order[:, :n_points]
        at = np.hstack(
            [points, *self._standing_for(before, edges, behind), infinite, -infinite]
        )
        return (np.take_along_axis(table, order, axis=1) for table in (tested, at))

    def _points(self, edges):
        """Return where to look for features, in increasing order, then infinity.

        At quantiles of each expert, at the centre, and so near to each edge that the
        slope there shows.
        """
        # Beside an end, where there may be a pole, points crowd for a reason.
        experts = feature_points(self.part, 0.0 if edges.size else self.unit)
        step = NEAR_EDGE * self.scale[:, None]
        near = [edges - step, edges + step]
        points = np.hstack([self.center[:, None], experts, *near])
        too_near = np.abs(points) < OFF_THE_POLE * self.scale[:, None]
        points[too_near & (points != 0.0)] = np.inf
        points = np.sort(self._rounded(points), axis=1)
        near = self._least_gap()[:, None]
        with np.errstate(invalid="ignore"):
            points[:, 1:][np.diff(points, axis=1) <= near] = np.inf
        return points

    def _beside(self, edges):
        """Return the points before and behind each edge."""
        off = OFF_THE_POLE * self.scale[:, None]
        before = np.minimum(np.nextafter(edges, -np.inf), edges - off)
        behind = np.maximum(np.nextafter(edges, np.inf), edges + off)
        return np.where(np.isfinite(edges), before, np.inf), behind

    def _summits(self, sign):
        """Return peaks (valleys) beside points higher (lower) than both neighbours."""
        height = sign * self.height
        peak = (height[:, 1:-1] > height[:, :-2]) & (height[:, 1:-1] >= height[:, 2:])
        row, middle = np.nonzero(peak)
        at = np.stack([self.at[row, middle + j] for j in range(3)])
        some = np.isfinite(at).all(axis=0)
        row, middle, at = row[some], middle[some], at[:, some]
        around = [height[row, middle + j] for j in range(3)]
        found, top = self._peaks(
            lambda y, index: sign * self.heights(y, row[index]), at, around
        )
        better = top > around[1]
        return row[better], found[better]

    def _hidden(self, sign):
        """Return pairs of a peak and a valley that hide on a slope that rises (falls).

        Where the slope is least, between two points, it may be negative.
        """
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            width = np.diff(self.at, axis=1)
            rise = sign * np.diff(self.height, axis=1) / width
        rise[~(np.isfinite(width) & (width > 0.0))] = -np.inf
        before, here, behind = rise[:, :-2], rise[:, 1:-1], rise[:, 2:]
        flat = (here > 0.0) & (here <= before) & (here <= behind)
        flat &= here < SHOULDER * np.maximum(before, behind)
        row, left = np.nonzero(flat)
        at = [self.at[row, left + j] for j in range(4)]
        at = [self._rounded(0.5 * (at[j] + at[j + 1])) for j in range(3)]
        step = self._step(at[2] - at[0])

        def fall(y, index):
            ends = [self.heights(y + side * step[index], row[index]) for side in (0, 1)]
            return sign * (ends[0] - ends[1])

        each = np.arange(row.size)
        height = [fall(y, each) for y in at]
        steepest, found = self._peaks(fall, at, height)
        turns = (found > 0.0) & (height[0] < 0.0) & (height[2] < 0.0)
        points = [
            self._turns(fall, each[turns], steepest[turns], end[turns])
            for end in (at[0], at[2])
        ]
        return np.tile(row[turns], 2), np.concatenate(points)

    def _insert(self, row, y):
        """Add points (row, y) to the lines."""
        place = np.zeros(row.size, dtype=int)
        order = np.argsort(row, kind="stable")
        n_new = np.bincount(row, minlength=self.center.size)
        place[order] = np.arange(row.size) - (np.cumsum(n_new) - n_new)[row[order]]
        new = np.full((2, self.center.size, int(n_new.max(initial=0))), np.inf)
        new[1] = FLOOR
        new[0, row, place], new[1, row, place] = y, self.heights(y, row)
        at, height = np.hstack([self.at, new[0]]), np.hstack([self.height, new[1]])
        order = np.argsort(at, axis=1, kind="stable")
        self.at = np.take_along_axis(at, order, axis=1)
        self.height = np.take_along_axis(height, order, axis=1)
