"""Regimes in time: a series by regime, its law one step ahead, who holds when."""

import numpy as np

from skmoe._unwrapped import unwrapped
from skmoe._xp import to_numpy
from skmoe.inspection._laws import checked_levels, law_of_output, response_of_output
from skmoe.inspection._style import (
    blend,
    expert_colours,
    ink_of,
    key_beside,
    middle_of,
    place,
    tidy,
)
from skmoe.inspection._subject import Subject
from skmoe.inspection._timeline import dates_of, panel_below, positions, spans
from skmoe.sequence._place import read_chains

__all__ = ["RegimeDisplay"]

KINDS = ("smooth", "filter", "decode")
# How dark the band of the law is, between ground and ink, and the line of the series.
BAND, SERIES = 0.18, 0.45
# A class of probability 1, between ground and ink.
SURE = 0.6


class RegimeDisplay:
    """A series in the colours of its regimes, and how probable each regime is when.

    Use `from_estimator` to make one. Above, each response has the colour of its
    regime, colours mixed by the regimes' probabilities; the band is the law of each
    response given those before it, with its mean. Below, the probabilities are
    stacked. A missing response has no point, but a law and probabilities. Sequences
    that do not follow each other in time stand side by side, with lines between them.

    Parameters
    ----------
    position : array of shape (n_samples,)
        Where a row is drawn: its time, or its number.
    sequence : array of int of shape (n_samples,)
        The sequence of each row, 0, 1, ...
    response : array of shape (n_samples,)
        NaN where missing; of classes, positions in ``classes``.
    proba : array of shape (n_samples, n_experts)
        Of the regimes.
    expert_names : list of str
    output_name, position_name : str
    law : MixtureDistribution, default=None
        Of one output, one step ahead; of numbers.
    classes : array of shape (n_classes,), default=None
    class_proba : array of shape (n_samples, n_classes), default=None
        One step ahead.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Of the series. Set by `plot`.
    proba_ax_ : matplotlib Axes
        Of the probabilities.
    figure_ : matplotlib Figure

    Examples
    --------
    >>> from skmoe.datasets import make_switching
    >>> from skmoe.inspection import RegimeDisplay
    >>> from skmoe.sequence import MarkovMixtureOfExpertsRegressor
    >>> table = make_switching(2, 60, random_state=0)
    >>> model = MarkovMixtureOfExpertsRegressor(n_init=1, random_state=0)
    >>> model = model.fit(table.data, table.target, lengths=table.lengths)
    >>> display = RegimeDisplay.from_estimator(
    ...     model, table.data, table.target, lengths=table.lengths
    ... )
    >>> display.frame().columns[:5].tolist()
    ['row', 'sequence', 'y', 'regime', 'certainty']
    """

    def __init__(
        self,
        *,
        position,
        sequence,
        response,
        proba,
        expert_names,
        output_name,
        position_name,
        law=None,
        classes=None,
        class_proba=None,
    ):
        self.position = position
        self.sequence = sequence
        self.response = response
        self.proba = proba
        self.expert_names = expert_names
        self.output_name = output_name
        self.position_name = position_name
        self.law = law
        self.classes = classes
        self.class_proba = class_proba

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X,
        y,
        *,
        lengths=None,
        groups=None,
        times=None,
        previous=None,
        kind="smooth",
        level=0.9,
        target=0,
        ax=None,
        **kwargs,
    ):
        """Draw the regimes that a fitted Markov mixture sees in rows.

        Parameters
        ----------
        estimator : Markov mixture of experts, Pipeline that ends in one, or search
        X : array-like of shape (n_samples, n_features)
            Rows, in the columns that the estimator takes.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            NaN where a response is missing.
        lengths, groups, times, previous : array-like, default=None
            As for ``filter`` of the estimator. Times, or the dates that index a data
            frame, are where rows are drawn, unless sequences overlap in time.
        kind : {"smooth", "filter", "decode"}, default="smooth"
            Regimes given all responses, given those up to the row, or the most
            probable path.
        level : float, default=0.9
            Probability of the band.
        target : int, default=0
            The output, of several.
        ax : matplotlib Axes, default=None
        **kwargs
            See `plot`.

        Returns
        -------
        display : RegimeDisplay

        Raises
        ------
        TypeError
            If the estimator is no Markov mixture of experts.
        ValueError
            If there is no such kind or output, or sequences are not as described.
        """
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {list(KINDS)}, got {kind!r}.")
        _check_markov(estimator)
        subject = Subject(estimator, cls.__name__, "smooth")
        where = {"lengths": lengths, "groups": groups, "previous": previous}
        where["times"] = times = dates_of(X) if times is None else times
        rows, model = subject.rows(X), subject.mixture
        found = getattr(model, kind)(rows, y, **where)
        if kind == "decode":
            found = np.eye(len(model.experts_))[found]
        chains = read_chains(rows, len(found), lengths, groups, times)
        position, name = positions(times, chains)
        if subject.classifies:
            data = _of_classes(model, rows, y, where)
        else:
            law = model.predict_distribution(rows, y, **where)
            data = {"law": law_of_output(law, target)}
            data["response"] = response_of_output(y, target)
        display = cls(
            position=position,
            sequence=chains.sequence,
            proba=found,
            expert_names=subject.expert_names,
            output_name=_name_of(subject, y, target),
            position_name=name,
            **data,
        )
        return display.plot(ax=ax, level=level, **kwargs)

    def plot(self, ax=None, *, level=0.9, mean=True, **kwargs):
        """Draw the series, and below it the probabilities of the regimes.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Cut in two: series above, probabilities below. None: a new figure.
        level : float, default=0.9
            Probability of the band of the law, between two of its quantiles.
        mean : bool, default=True
            Whether the mean of the law is drawn.
        **kwargs
            For ``Axes.scatter`` of the responses.

        Returns
        -------
        self : RegimeDisplay
        """
        (level,) = checked_levels(level)
        ax = place(self, ax, (8.0, 4.8))
        self.proba_ax_ = below = panel_below(ax)
        places = spans(self.position, self.sequence)
        self._law(ax, places, level, mean)
        self._series(ax, places, kwargs)
        self._probabilities(below, places)
        self._borders([ax, below], places)
        ends = np.concatenate([edges[[0, -1]] for _, edges in places])
        ax.set(xlim=(ends.min(), ends.max()), ylabel=self.output_name)
        ax.tick_params(labelbottom=False)
        below.set(ylim=(0.0, 1.0), ylabel="probability", xlabel=self.position_name)
        key_beside(ax, self._key(ax, level, mean))
        tidy(ax)
        tidy(below)
        return self

    def _law(self, ax, places, level, mean):
        if self.law is None:
            self._class_law(ax, places)
            return
        bounds = self.law.quantile([0.5 - 0.5 * level, 0.5 + 0.5 * level])
        # Half a count on either side, for bands of one to be seen.
        room = 0.5 * all(family.discrete for family in self.law.likelihoods)
        for rows, edges in places:
            # Held to the borders, so that a sequence of one row is seen.
            rows = rows[np.r_[0, : rows.size, -1]]
            at = np.concatenate([edges[:1], self.position[rows[1:-1]], edges[-1:]])
            low, high = bounds[rows].T
            color = middle_of(ax, BAND)
            ax.fill_between(at, low - room, high + room, color=color, lw=0)
            if mean:
                ax.plot(at, self.law.mean[rows], color=ink_of(ax), lw=1.0)

    def _class_law(self, ax, places):
        from matplotlib.colors import LinearSegmentedColormap

        ends = [middle_of(ax, 0.0), middle_of(ax, SURE)]
        shades = LinearSegmentedColormap.from_list("law", ends)
        heights = np.arange(len(self.classes) + 1) - 0.5
        for rows, edges in places:
            table = self.class_proba[rows].T
            ax.pcolormesh(edges, heights, table, cmap=shades, vmin=0.0, vmax=1.0)
        ax.set_yticks(heights[1:] - 0.5, [str(label) for label in self.classes])

    def _series(self, ax, places, kwargs):
        for rows, _ in places if self.law is not None else ():
            color = middle_of(ax, SERIES)
            ax.plot(self.position[rows], self.response[rows], color=color, lw=0.6)
        seen = np.isfinite(self.response)
        size = np.clip(3000.0 / seen.size, 5.0, 18.0)
        ink = {"linewidths": 0.03 * size, "edgecolors": ink_of(ax)}
        kwargs = {"s": size, "zorder": 3, "c": blend(self.proba[seen])} | ink | kwargs
        ax.scatter(self.position[seen], self.response[seen], **kwargs)

    def _probabilities(self, ax, places):
        colours = expert_colours(self.proba.shape[1])
        for rows, edges in places:
            table = self.proba[rows[np.r_[: rows.size, -1]]].T
            ax.stackplot(edges, table, colors=colours, step="post", lw=0)

    def _borders(self, axes, places):
        for _, edges in places[1:]:
            for ax in axes:
                ax.axvline(edges[0], color=ink_of(ax), lw=0.8, zorder=4)

    def _key(self, ax, level, mean):
        from matplotlib.lines import Line2D
        from matplotlib.patches import Patch

        colours = expert_colours(len(self.expert_names))
        pairs = zip(self.expert_names, colours, strict=True)
        handles = [Patch(color=colour, label=name) for name, colour in pairs]
        if self.law is None:
            handles.append(Patch(color=middle_of(ax, SURE), label="one step ahead"))
            return handles
        handles.append(Patch(color=middle_of(ax, BAND), label=f"{level:.0%} ahead"))
        if mean:
            handles.append(Line2D([], [], color=ink_of(ax), lw=1.0, label="mean"))
        return handles

    def frame(self, level=0.9):
        """Return the rows as a data frame, in the order of X.

        Columns: ``time``, or ``row``, counted one sequence after the other;
        ``sequence``; the response; ``regime`` (name of the most probable one) and
        ``certainty`` (its probability); ``probability[<name>]`` of each; of the law one
        step ahead ``mean``, ``lower`` and ``upper``, or ``ahead[<class>]``.

        Parameters
        ----------
        level : float, default=0.9
            Probability between lower and upper.

        Returns
        -------
        frame : pandas.DataFrame
        """
        import pandas

        names = np.array(self.expert_names, dtype=object)
        response = self.response
        if self.classes is not None:
            seen = np.isfinite(response)
            response = np.full(response.size, None, dtype=object)
            response[seen] = self.classes[self.response[seen].astype(int)]
        table = {
            self.position_name: self.position,
            "sequence": self.sequence,
            self.output_name: response,
            "regime": names[self.proba.argmax(axis=1)],
            "certainty": self.proba.max(axis=1),
        }
        for name, column in zip(self.expert_names, self.proba.T, strict=True):
            table[f"probability[{name}]"] = column
        if self.law is None:
            pairs = zip(self.classes, self.class_proba.T, strict=True)
            return pandas.DataFrame(table | {f"ahead[{c}]": p for c, p in pairs})
        (level,) = checked_levels(level)
        low, high = self.law.quantile([0.5 - 0.5 * level, 0.5 + 0.5 * level]).T
        table |= {"mean": self.law.mean, "lower": low, "upper": high}
        return pandas.DataFrame(table)


def _check_markov(estimator):
    """Raise a TypeError unless an estimator knows regimes in time."""
    _, model = unwrapped(estimator)
    if not hasattr(model, "smooth"):
        raise TypeError(
            "RegimeDisplay draws Markov mixtures of experts, such as "
            "MarkovMixtureOfExpertsRegressor, alone or at the end of a Pipeline, got "
            f"{estimator!r}. ResponsibilityDisplay draws mixtures without time."
        )


def _name_of(subject, y, target):
    """Return the name of the output; of labels, that of their column, or y."""
    if subject.classifies:
        return str(getattr(y, "name", None) or "y")
    return subject.output_name(y, target)


def _of_classes(model, X, y, where):
    """Return what the picture holds of labels, missing ones as NaN."""
    y, classes = np.asarray(to_numpy(y)), model.classes_
    response = np.full(len(y), np.nan)
    for k, label in enumerate(classes):
        response[y == label] = k
    proba = model.predict_proba(X, y, **where)
    return {"response": response, "classes": classes, "class_proba": proba}
