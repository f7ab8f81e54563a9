"""Sets and p-values of one model with calibration rows, or of several together."""

import numpy as np

from skmoe._blocks import row_blocks
from skmoe._sklearn import safe_indexing
from skmoe.conformal._models import law_of
from skmoe.conformal._ranks import RankedRows
from skmoe.conformal._scores import SCORES
from skmoe.conformal._votes import held_by
from skmoe.law._intervals import IntervalUnion

__all__ = ["Calibrated", "Fold", "check_enough"]

# Pairs of a new row and a calibration row that are worked on together.
BLOCK_PAIRS = 1_000_000
# Slack of the comparison with a count, for levels like 0.9 that are no binary number.
SLACK = 1e-9
# Thresholds with counts this close share the larger one's highest-density set: p-values
# rise by so much at most, and a set for each of a thousand thresholds would be dear.
FINENESS = 1.05


def check_enough(level, n_rows):
    """Check that calibration rows can bound a set of a level.

    Raises
    ------
    ValueError
        If not: ``ceil((n_rows + 1) * level) <= n_rows`` is needed.
    """
    least = int(np.ceil(level / (1.0 - level) - SLACK))
    if n_rows < least:
        raise ValueError(
            f"level={level:g} needs at least {least} calibration rows, got "
            f"{n_rows:g}: with fewer every set is the whole line. Give more rows, or "
            "lower the level."
        )


class Fold:
    """A fitted model and rows that it has not seen.

    Parameters
    ----------
    model : fitted estimator
    X, y, weight : the rows
    """

    def __init__(self, model, X, y, weight):
        self.model = model
        self.law = law_of(model, X)
        self.y, self.weight = y, weight
        self._scores = {}

    def scores(self, method, level):
        """Return how strange the rows are, computed once for each method and level."""
        key = method, level
        if key not in self._scores:
            self._scores[key] = SCORES[method](level).of(self.law, self.y)
        return self._scores[key]


class Calibrated:
    """The calibration of one or several folds, for one score at one level.

    The p-value of a response is ``(1 + sum_k count_k(s_k)) / (n + 1)``: fold k counts
    those of its rows that are at least as strange under its own model, and n is the
    number of rows in all folds.

    Parameters
    ----------
    folds : list of Fold
    method : str
        A key of `SCORES`.
    level : float
    by_gate : bool
        Whether rows are compared with those of similar gate probabilities.
    """

    def __init__(self, folds, method, level, by_gate):
        self.models = [fold.model for fold in folds]
        self.score = SCORES[method](level)
        self.ranked = [
            RankedRows(
                fold.scores(method, level),
                fold.weight,
                fold.law.gate if by_gate else None,
            )
            for fold in folds
        ]
        self.total = sum(fold.weight.sum() for fold in folds)
        # A response belongs to the set if more weight than this is counted.
        self.needed = (1.0 - level) * (self.total + 1.0) - 1.0 + SLACK

    def p_values(self, X, y):
        """Return the p-value of each row's response, of shape (n_samples,)."""
        parts = []
        for rows, laws, counts in self._blocks(X, y.size):
            each = np.arange(rows.stop - rows.start)
            counted = 0.0
            for law, count, ranked in zip(laws, counts, self.ranked, strict=True):
                scores = self.score.of(law, y[rows]) - self.score.rounding
                place = np.searchsorted(ranked.values, scores)
                counted = counted + count[each, place]
            parts.append((1.0 + counted) / (self.total + 1.0))
        return np.concatenate(parts)

    def sets(self, X, n_samples):
        """Return the responses that are not too strange, as an IntervalUnion."""
        find = self._split if len(self.models) == 1 else self._cross
        unions = [find(laws, counts) for _, laws, counts in self._blocks(X, n_samples)]
        return _stacked(unions)

    def _blocks(self, X, n_samples):
        """Yield rows, and for each fold their law and the counts at each score."""
        n_values = sum(ranked.values.size for ranked in self.ranked)
        # Without rows: one empty block, of which the model has something to say.
        for rows in row_blocks(max(n_samples, 1), max(BLOCK_PAIRS // n_values, 1)):
            some = safe_indexing(X, np.arange(rows.start, min(rows.stop, n_samples)))
            laws = [law_of(model, some) for model in self.models]
            pairs = zip(self.ranked, laws, strict=True)
            yield rows, laws, [ranked.counts(law.gate) for ranked, law in pairs]

    def _split(self, laws, counts):
        """Return the set of one fold: all that is below one threshold a row."""
        last = (counts[0] > self.needed).sum(axis=1) - 1
        return self.score.sets(laws[0], self.ranked[0].values[last])

    def _cross(self, laws, counts):
        """Return what enough of the folds' sets hold, one set for each threshold."""
        lower, upper, weight = [], [], []
        for law, count, ranked in zip(laws, counts, self.ranked, strict=True):
            chosen = self._thresholds(count)
            behind = count[:, chosen + 1]
            before = np.hstack([count[:, :1], behind[:, :-1]])
            ladder = self.score.ladder(law, ranked.values[chosen])
            for union, adds in zip(ladder, (before - behind).T, strict=True):
                lower.append(union.lower)
                upper.append(union.upper)
                weight.append(np.repeat(adds[:, None], union.lower.shape[1], axis=1))
        # So much is counted wherever the response lies.
        always = sum(count[:, -1] for count in counts)
        union = held_by(
            *(np.hstack(column) for column in (lower, upper, weight)),
            self.needed - always,
            integers=union.integers,
        )
        _open(union, always > self.needed)
        return union

    def _thresholds(self, count):
        """Return the positions of the scores for which sets are made.

        Below the largest one that suffices by itself in all rows none is needed.
        """
        chosen = np.arange(count.shape[1] - 1)
        alone = np.flatnonzero(count[:, :-1].min(axis=0) > self.needed)
        chosen = chosen[alone.max(initial=0) :]
        if self.score.convex:
            return chosen
        step = np.floor(np.log1p(count[:, chosen].mean(axis=0)) / np.log(FINENESS))
        return chosen[np.append(step[1:] != step[:-1], True)]


def _open(union, rows):
    """Make the sets of some rows the whole line, in place."""
    for ends, infinite in ((union.lower, -np.inf), (union.upper, np.inf)):
        ends[rows] = np.nan
        ends[rows, 0] = infinite


def _stacked(unions):
    """Return one union of the rows of several."""
    width = max(union.lower.shape[1] for union in unions)
    ends = []
    for name in ("lower", "upper"):
        tables = [getattr(union, name) for union in unions]
        wide = [
            np.pad(t, ((0, 0), (0, width - t.shape[1])), constant_values=np.nan)
            for t in tables
        ]
        ends.append(np.concatenate(wide))
    return IntervalUnion(*ends, integers=unions[0].integers)
