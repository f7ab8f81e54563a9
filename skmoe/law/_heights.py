"""Landscapes of two kinds: densities of real numbers, probabilities of counts."""

import numpy as np

from skmoe.law._landscape import Landscape
from skmoe.law._roots import bracketed_peaks, bracketed_roots

__all__ = ["Counts", "Densities"]

# Counts lean to the lower one of two, beside the scale.
LEAN = 0.01
# Points nearer than this beside the least scale are one.
SAME = 1e-6
# Distance of points where experts overlap, beside the least scale: a quarter of the
# standard deviation of a normal density.
UNIT = 0.5
# Precision of ends, beside the distance of the points around, and of a mass.
END_TOL, MASS_TOL = 1e-12, 1e-11
# Slopes are differences over a step, beside the distance of the points around.
STEP = 1e-6
# Steps from a first guess of a log height, and how often they double.
FIRST_STEP, MAX_DOUBLINGS, MAX_HALVINGS = 0.05, 40, 100


class Densities(Landscape):
    """Heights of pooled densities."""

    unit = UNIT

    def height_of(self, level, rows):
        """Return the height above which a share of the law lies, (n_rows,)."""

        def excess(height, index):
            return self.mass_above(height, rows[index]) - level[index]

        low = high = self._guess(level, rows)
        f_low = f_high = excess(low, np.arange(rows.size))
        step = FIRST_STEP
        for _ in range(MAX_DOUBLINGS):
            too_much, too_little = np.flatnonzero(f_high > 0), np.flatnonzero(f_low < 0)
            if too_much.size + too_little.size == 0:
                break
            low, high, f_low, f_high = (np.array(v) for v in (low, high, f_low, f_high))
            low[too_much], f_low[too_much] = high[too_much], f_high[too_much]
            high[too_little], f_high[too_little] = low[too_little], f_low[too_little]
            high[too_much] += step
            low[too_little] -= step
            f_high[too_much] = excess(high[too_much], too_much)
            f_low[too_little] = excess(low[too_little], too_little)
            step *= 2.0
        return bracketed_roots(excess, low, high, f_low, f_high, f_tol=MASS_TOL)

    def _guess(self, level, rows):
        """Return heights of about the right mass, from rectangles below the law."""
        at, height = self.at[rows], self.height[rows]
        low = np.minimum(height[:, :-1], height[:, 1:])
        order = np.argsort(-low, axis=1)
        with np.errstate(over="ignore", invalid="ignore"):
            area = np.diff(at, axis=1) * np.exp(low)
        area = np.where(np.isfinite(area), area, 0.0)
        area = np.take_along_axis(area, order, axis=1).cumsum(axis=1)
        place = (area < level[:, None] * area[:, -1:]).sum(axis=1)
        place = np.minimum(place, low.shape[1] - 1)
        here = np.arange(rows.size)
        return low[here, order[here, place]]

    def _weight(self, y, row):
        return self.part.density(y, row)

    def mass(self, lower, upper, row):
        """Return the probability of each interval."""
        return self.part.cdf(upper, row) - self.part.cdf(lower, row)

    def _least_gap(self):
        return SAME * self.part.spread()

    def _rounded(self, points):
        return points

    def _standing_for(self, before, edges, behind):
        """Return one point thrice: the height jumps there."""
        return edges, edges, edges

    def _step(self, width):
        return STEP * width

    def _peaks(self, function, at, height):
        return bracketed_peaks(function, *at, height)

    def _turns(self, function, index, inside, outside):
        """Return where a function falls from positive to negative, (n_points,)."""

        def some(y, which):
            return function(y, index[which])

        each = np.arange(index.size)
        ends = some(inside, each), some(outside, each)
        return bracketed_roots(some, inside, outside, *ends)

    def _ends(self, row, left, height, *, rising):
        """Return where the height is crossed behind some points."""
        a, b = self.at[row, left], self.at[row, left + 1]
        out = np.array(b if rising else a)
        wide = np.flatnonzero((b > a) & np.isfinite(a) & np.isfinite(b))
        row, left, height, a, b = (v[wide] for v in (row, left, height, a, b))
        f_a = self.height[row, left] - height
        f_b = self.height[row, left + 1] - height

        def above(y, index):
            return self.heights(y, row[index]) - height[index]

        out[wide] = bracketed_roots(above, a, b, f_a, f_b, x_tol=END_TOL * (b - a))
        return out


class Counts(Landscape):
    """Heights of pooled probabilities: of counts, of point masses, or of both."""

    lean = LEAN

    def height_of(self, level, rows):
        """Return the height of the smallest sets that reach a level, (n_rows,)."""
        low = self.height[rows].max(axis=1)
        high, step = np.array(low), FIRST_STEP
        active = np.arange(rows.size)
        for _ in range(MAX_DOUBLINGS):
            active = active[~self._reaches(low[active], level[active], rows[active])]
            if active.size == 0:
                break
            high[active] = low[active]
            low[active] -= step
            step *= 2.0
        active = np.flatnonzero(low < high)
        # Two sets that differ by one point need no height between. Where point masses
        # lie between counts, lengths do not tell how many points there are.
        one = 1.0 if self.part.integers or not self.part.lattice else 0.0
        for _ in range(MAX_HALVINGS):
            sizes = [self._size(v[active], rows[active]) for v in (low, high)]
            active = active[sizes[0] - sizes[1] > one]
            middle = 0.5 * (low[active] + high[active])
            between = (low[active] < middle) & (middle < high[active])
            active, middle = active[between], middle[between]
            if active.size == 0:
                break
            enough = self._reaches(middle, level[active], rows[active])
            low[active] = np.where(enough, middle, low[active])
            high[active] = np.where(enough, high[active], middle)
        return low

    def _reaches(self, height, level, rows):
        return self.mass_above(height, rows) >= level - MASS_TOL

    def _size(self, height, rows):
        """Return how many points are at least as high, (n_rows,)."""
        which, lower, upper = self.cut(height, rows)
        return np.bincount(which, upper - lower + 1.0, minlength=rows.size)

    def _weight(self, y, row):
        return self.part.mass(y, row)

    def mass(self, lower, upper, row):
        """Return the probability of each interval."""
        part = self.part
        return part.cdf(upper, row) - part.cdf(lower, row) + part.mass(lower, row)

    def _least_gap(self):
        return np.zeros(self.center.size)

    def _rounded(self, points):
        return np.floor(points) if self.part.lattice else points

    def _beside(self, edges):
        if self.part.lattice:
            return np.ceil(edges) - 1.0, np.floor(edges) + 1.0
        return super()._beside(edges)

    def _standing_for(self, before, edges, behind):
        return before, edges, behind

    def _step(self, width):
        return np.ones(width.size)

    def _turns(self, function, index, inside, outside):
        inside, outside = np.array(inside), np.array(outside)
        active = np.arange(index.size)
        while active.size:
            middle = np.floor(0.5 * (inside[active] + outside[active]))
            inner = (middle != inside[active]) & (middle != outside[active])
            active, middle = active[inner], middle[inner]
            positive = function(middle, index[active]) > 0.0
            inside[active] = np.where(positive, middle, inside[active])
            outside[active] = np.where(positive, outside[active], middle)
        return np.maximum(inside, outside)

    def _peaks(self, function, at, height):
        """Return the highest integers near some, by halving both sides."""
        left, peak, right = (np.array(points) for points in at)
        top = np.array(height[1])
        active = np.arange(peak.size)
        while active.size:
            going = np.zeros(active.size, dtype=bool)
            for side, other in ((left, right), (right, left)):
                here, end = peak[active], side[active]
                middle = np.floor(0.5 * (here + end))
                inner = (middle != here) & (middle != end)
                going |= inner
                index, middle = active[inner], middle[inner]
                found = function(middle, index)
                higher = found > top[index]
                other[index[higher]] = peak[index[higher]]
                peak[index[higher]], top[index[higher]] = middle[higher], found[higher]
                side[index[~higher]] = middle[~higher]
            active = active[going]
        return peak, top

    def _ends(self, row, left, height, *, rising):
        """Return the last points behind some that are as high as the height."""
        low, high = self.at[row, left], self.at[row, left + 1]
        active = np.arange(row.size)
        while active.size:
            middle = np.floor(0.5 * (low[active] + high[active]))
            inner = (middle > low[active]) & (middle < high[active])
            active, middle = active[inner], middle[inner]
            inside = self.heights(middle, row[active]) >= height[active]
            up = inside == rising
            high[active] = np.where(up, middle, high[active])
            low[active] = np.where(up, low[active], middle)
        return high if rising else low
