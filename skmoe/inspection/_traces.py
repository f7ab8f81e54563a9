"""Objective traces: what the starts climbed, and where they arrived."""

from itertools import compress

import numpy as np

from skmoe._xp import to_numpy
from skmoe.inspection._style import ink_of, key_beside, middle_of, place, tidy
from skmoe.inspection._subject import Subject

__all__ = ["ObjectiveTraceDisplay"]

# Objectives this close (relative) are one maximum, as in `SearchReport`.
SAME = 1e-4
# The picture begins where a quarter of all passes lies below.
FIRST_SHARE = 0.25


class ObjectiveTraceDisplay:
    """Objective of every pass of every start.

    Use `from_estimator` to make one. All starts race a little, the better ones go on
    to convergence (dots), the winner is the thick line. How often the best maximum is
    found says how far it can be trusted to be the highest: once in many starts, and a
    higher one may be left; ``n_init`` asks for more.

    Parameters
    ----------
    traces : list of arrays of shape (n_passes,)
        Penalised log-likelihood in nats; the winner's first.
    names : list of str
        Kind of each start.
    finished : list of bool
        Whether a start was run to convergence.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Set by `plot`.
    figure_ : matplotlib Figure

    Examples
    --------
    >>> from skmoe import MixtureOfExpertsRegressor
    >>> from skmoe.datasets import load_mcycle
    >>> from skmoe.inspection import ObjectiveTraceDisplay
    >>> X, y = load_mcycle(return_X_y=True)
    >>> model = MixtureOfExpertsRegressor(n_init=6, random_state=0).fit(X, y)
    >>> display = ObjectiveTraceDisplay.from_estimator(model)
    >>> len(display.traces)
    6
    """

    def __init__(self, *, traces, names, finished):
        self.traces = traces
        self.names = names
        self.finished = finished

    @classmethod
    def from_estimator(cls, estimator, *, ax=None):
        """Draw the search behind a fitted mixture.

        Parameters
        ----------
        estimator : mixture, or Pipeline that ends in one
        ax : matplotlib Axes, default=None

        Returns
        -------
        display : ObjectiveTraceDisplay

        Raises
        ------
        TypeError
            If the estimator is no mixture of experts.
        """
        mixture = Subject(estimator, cls.__name__).mixture
        report = mixture.search_
        traces = [np.asarray(trace) for trace in report.traces]
        names, finished = list(report.names), list(report.finished)
        last = to_numpy(mixture.objective_trace_)
        if abs(last.max() - report.objectives[0]) > 1e-9 * (1.0 + abs(last.max())):
            # Experts that died were restarted or taken out: EM went on from there.
            traces, names, finished = [last, *traces], ["tended", *names], [True]
            finished += report.finished
        return cls(traces=traces, names=names, finished=finished).plot(ax=ax)

    @property
    def reached(self):
        """Highest objective of each start, of shape (n_starts,)."""
        return np.array([trace.max() for trace in self.traces])

    def maxima(self):
        """Return the maxima that were reached, as a data frame, highest first.

        Columns: ``objective`` (nats) and ``starts``, the number of those that were run
        to convergence and ended there, within 1e-4 of its size.

        Returns
        -------
        frame : pandas.DataFrame
        """
        import pandas

        heights, counts = self._maxima()
        return pandas.DataFrame({"objective": heights, "starts": counts})

    def _maxima(self):
        heights, counts = [], []
        for reached in np.sort(self.reached[np.array(self.finished)])[::-1]:
            if heights and heights[-1] - reached <= SAME * (1.0 + abs(heights[-1])):
                counts[-1] += 1
            else:
                heights.append(float(reached))
                counts.append(1)
        return heights, counts

    def plot(self, ax=None):
        """Draw the traces.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None: a new figure.

        Returns
        -------
        self : ObjectiveTraceDisplay
        """
        from matplotlib.lines import Line2D

        ax = place(self, ax)
        ink, faint, middle = ink_of(ax), middle_of(ax, 0.35), middle_of(ax, 0.6)
        for trace, finished in list(zip(self.traces, self.finished, strict=True))[1:]:
            colour = middle if finished else faint
            ax.plot(np.arange(trace.size), trace, color=colour, lw=0.9)
            if finished:
                ax.plot(trace.size - 1, trace[-1], "o", color=colour, ms=4)
        winner = self.traces[0]
        ax.plot(np.arange(winner.size), winner, color=ink, lw=2.4, zorder=3)
        ax.plot(winner.size - 1, winner[-1], "o", color=ink, ms=6, zorder=3)
        self._limits(ax)
        heights, counts = self._maxima()
        ax.set(xlabel="pass", ylabel="objective (nats)")
        ax.set_title(_summary(heights, counts), loc="left", fontsize="medium")
        lines = [
            Line2D([], [], color=ink, lw=2.4, marker="o", label="winner"),
            Line2D([], [], color=middle, lw=0.9, marker="o", ms=4, label="finished"),
            Line2D([], [], color=faint, lw=0.9, label="given up"),
        ]
        there = [True, sum(self.finished) > 1, not all(self.finished)]
        key_beside(ax, list(compress(lines, there)))
        tidy(ax)
        return self

    def _limits(self, ax):
        """Leave out the depths that the first passes come from."""
        values = np.concatenate(self.traces)
        values = values[np.isfinite(values)]
        low = min(np.quantile(values, FIRST_SHARE), self.reached[0])
        low = min(low, *self.reached[np.array(self.finished)])
        high = self.reached.max()
        room = 0.06 * (high - low) or 1.0
        ax.set_ylim(low - room, high + room)

    def frame(self):
        """Return the traces as a data frame, one row for each pass of each start.

        Columns: ``start`` (its number, the winner 0), ``kind``, ``finished``, ``pass``
        and ``objective`` (nats).

        Returns
        -------
        frame : pandas.DataFrame
        """
        import pandas

        sizes = [trace.size for trace in self.traces]
        return pandas.DataFrame(
            {
                "start": np.repeat(np.arange(len(sizes)), sizes),
                "kind": np.repeat(np.array(self.names, dtype=object), sizes),
                "finished": np.repeat(self.finished, sizes),
                "pass": np.concatenate([np.arange(size) for size in sizes]),
                "objective": np.concatenate(self.traces),
            }
        )


def _summary(heights, counts):
    """Return in words how often the best was reached, and what comes next."""
    text = f"best {heights[0]:.6g}, reached {counts[0]} of {sum(counts)} times"
    if len(heights) > 1:
        text += f"; next {heights[0] - heights[1]:.2g} below"
    return text
