"""Predictive bands: the law of the response along one column."""

import numpy as np

from skmoe.inspection._laws import (
    checked_levels,
    law_of_output,
    pooled_law,
    response_of_output,
)
from skmoe.inspection._probe import Probe, check_others, spread_rows
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

__all__ = ["PredictiveBandDisplay"]

KINDS = ("central", "highest-density", "density")
LEVELS = (0.5, 0.9)
# How dark the widest band is and the narrowest one, between ground and ink.
PALE, DARK = 0.12, 0.34
N_HEIGHTS = 300
ROOM, SIDE = 0.1, 0.02


class PredictiveBandDisplay:
    """The predictive law along one column: bands, mean, experts, and the rows.

    Use `from_estimator` to make one. Bands hold a share of the probability; points are
    rows, in the colour of the expert that answers for them. A count takes up half a
    unit on either side.

    Parameters
    ----------
    values : array of shape (n_values,)
        Of the column.
    law : MixtureDistribution
        The law of one output at each of them.
    feature_name, output_name : str
    expert_means : array of shape (n_values, n_experts), default=None
        What each expert says.
    gate : array of shape (n_values, n_experts), default=None
        How far it is trusted.
    expert_names : list of str, default=None
    points : array of shape (n_samples, 2), default=None
        The column and the response.
    share : array of shape (n_samples, n_experts), default=None
        Responsibilities of the points.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Set by `plot`.
    figure_ : matplotlib Figure

    Examples
    --------
    >>> from skmoe import MixtureOfExpertsRegressor
    >>> from skmoe.datasets import load_mcycle
    >>> from skmoe.inspection import PredictiveBandDisplay
    >>> X, y = load_mcycle(return_X_y=True)
    >>> model = MixtureOfExpertsRegressor(random_state=0).fit(X, y)
    >>> display = PredictiveBandDisplay.from_estimator(model, X, y)
    >>> display.frame().columns.tolist()
    ['x0', 'mean', 'q0.05', 'q0.25', 'q0.75', 'q0.95']
    """

    def __init__(
        self,
        *,
        values,
        law,
        feature_name,
        output_name,
        expert_means=None,
        gate=None,
        expert_names=None,
        points=None,
        share=None,
    ):
        self.values = values
        self.law = law
        self.feature_name = feature_name
        self.output_name = output_name
        self.expert_means = expert_means
        self.gate = gate
        self.expert_names = expert_names
        self.points = points
        self.share = share

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X,
        y=None,
        feature=0,
        *,
        target=0,
        others="median",
        grid_resolution=200,
        subsample=50,
        feature_names=None,
        ax=None,
        **kwargs,
    ):
        """Draw the law of a fitted mixture along a column.

        Parameters
        ----------
        estimator : mixture or forest of them, or Pipeline that ends in one
        X : array-like of shape (n_samples, n_features)
            Rows, in the columns that the estimator takes.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            Their responses, drawn as points.
        feature : int or str, default=0
            The column, of numbers.
        target : int, default=0
            The output, of several.
        others : {"median", "average"}, default="median"
            What is done about the other columns: held at their medians (categories at
            the most frequent one), or averaged over rows of X. The law is then the mean
            of these rows' laws, wide enough for all of them.
        grid_resolution : int, default=200
            Number of values of the column, from its least to its largest.
        subsample : int or None, default=50
            Rows, evenly spread over X, that are averaged over.
        feature_names : sequence of str of shape (n_features,), default=None
        ax : matplotlib Axes, default=None
        **kwargs
            See `plot`.

        Returns
        -------
        display : PredictiveBandDisplay

        Raises
        ------
        TypeError
            If the estimator is no mixture of experts, or a classifier.
        ValueError
            If there is no such column of numbers, or no such output.
        """
        subject = Subject(estimator, cls.__name__, "predict_distribution")
        subject.check_numbers(
            cls.__name__, "GateRegionDisplay and GateProfileDisplay draw those"
        )
        subject.check_single_rows(cls.__name__)
        probe = Probe(X, subject, feature_names)
        j = probe.position(feature)
        if probe.categorical[j]:
            raise ValueError(
                f"a band is drawn along a column of numbers, and {probe.names[j]!r} "
                "holds categories."
            )
        numbers = probe.numbers(j)
        values = np.linspace(numbers.min(), numbers.max(), grid_resolution)
        averaged = check_others(others) == "average" and probe.n_columns > 1
        positions = spread_rows(probe.n_rows, subsample) if averaged else None
        law = subject.law(probe.crossed(positions, {j: values}))
        law = law_of_output(law, target)
        data = {"law": pooled_law(law, len(positions)) if averaged else law}
        # The leaves of a forest are too many to be told apart.
        if not averaged and hasattr(subject.mixture, "expert_names_"):
            data |= {"expert_means": law.means, "gate": law.gate}
            data["expert_names"] = subject.expert_names
        if y is not None:
            response = response_of_output(y, target)
            data["points"] = np.column_stack([probe.column(j).astype(float), response])
            if hasattr(subject.mixture, "responsibilities"):
                data["share"] = subject.responsibilities(X, y)
        display = cls(
            values=values,
            feature_name=probe.names[j],
            output_name=subject.output_name(y, target),
            **data,
        )
        return display.plot(ax=ax, **kwargs)

    def plot(
        self,
        ax=None,
        *,
        kind="central",
        levels=LEVELS,
        mean=True,
        mode=False,
        experts=True,
        **kwargs,
    ):
        """Draw the law.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None: a new figure.
        kind : {"central", "highest-density", "density"}, default="central"
            Bands between quantiles; the smallest regions, in several pieces where the
            law has several modes; or the density itself, as a map of its square root.
        levels : sequence of float, default=(0.5, 0.9)
            Probability of each band.
        mean, mode : bool, default=True, False
            Whether these lines are drawn.
        experts : bool, default=True
            Whether the experts' means are drawn, as strongly as the gate trusts them.
        **kwargs
            For ``Axes.scatter`` of the points.

        Returns
        -------
        self : PredictiveBandDisplay
        """
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {list(KINDS)}, got {kind!r}.")
        ax = place(self, ax)
        levels = np.sort(checked_levels(levels))[::-1]
        if kind == "density":
            self._density(ax)
        else:
            self._bands(ax, kind, levels)
        if experts and self.expert_means is not None:
            self._experts(ax)
        for wanted, name, style in ((mean, "mean", "-"), (mode, "mode", ":")):
            if wanted:
                line = getattr(self.law, name)
                ax.plot(
                    self.values, line, color=ink_of(ax), lw=1.6, ls=style, label=name
                )
        if self.points is not None:
            self._points(ax, kwargs)
        room = SIDE * (self.values[-1] - self.values[0])
        ax.set(
            xlim=(self.values[0] - room, self.values[-1] + room),
            xlabel=self.feature_name,
            ylabel=self.output_name,
        )
        key_beside(ax)
        tidy(ax)
        return self

    def _bands(self, ax, kind, levels):
        shades = np.linspace(PALE, DARK, len(levels)) if len(levels) > 1 else [PALE * 2]
        for level, shade in zip(levels, shades, strict=True):
            colour = middle_of(ax, shade)
            if kind == "central":
                low, high = self.law.quantile(_ends([level])).T
                room = self._half_a_count()
                ax.fill_between(
                    self.values, low - room, high + room, color=colour, lw=0
                )
            else:
                self._pieces(ax, level, colour)
            ax.fill_between([], [], color=colour, lw=0, label=f"{level:.0%}")

    def _half_a_count(self):
        """Return what a count takes up on either side, for bands of one to be seen."""
        return 0.5 * all(family.discrete for family in self.law.likelihoods)

    def _pieces(self, ax, level, colour):
        """Draw highest-density regions, of which a value of the column has several."""
        room = self._half_a_count()
        step = self.values[1] - self.values[0]
        regions = self.law.interval(level, method="highest-density")
        for low, high in zip(regions.lower.T, regions.upper.T, strict=True):
            there = np.isfinite(low)
            # Lines around them let single points be seen, such as those of a point mass
            # beside a density.
            ax.bar(
                self.values[there],
                (high - low)[there] + 2 * room,
                step,
                low[there] - room,
                color=colour,
                edgecolor=colour,
                lw=0.8,
                antialiased=False,
            )

    def _density(self, ax):
        from matplotlib.colors import LinearSegmentedColormap

        heights = self._heights()
        density = [
            np.exp(self.law.log_prob(np.full(self.values.size, height)))
            for height in heights
        ]
        # The square root shows wide humps beside narrow ones.
        ground, dark = middle_of(ax, 0.0), middle_of(ax, 0.85)
        ax.pcolormesh(
            self.values,
            heights,
            np.sqrt(density),
            cmap=LinearSegmentedColormap.from_list("law", [ground, dark]),
            shading="nearest",
            rasterized=True,
        )
        half = 0.5 * (heights[1] - heights[0])
        ax.set_ylim(heights[0] - half, heights[-1] + half)

    def _heights(self):
        """Return the responses at which the density is drawn.

        Raises
        ------
        ValueError
            If some experts have densities and others probabilities.
        """
        counts = [family.discrete for family in self.law.likelihoods]
        if any(counts) and not all(counts):
            raise ValueError(
                "kind='density' cannot compare counts and point masses with densities: "
                "use kind='central' for such a mixture."
            )
        ends = self.law.quantile([0.002, 0.998])
        ends = np.append(ends, [] if self.points is None else self.points[:, 1])
        low, high = ends.min(), ends.max()
        if all(counts):
            return np.arange(np.floor(low), max(np.ceil(high), low + 1.0) + 1.0)
        room = ROOM * (high - low)
        return np.linspace(low - room, high + room, N_HEIGHTS)

    def _experts(self, ax):
        from matplotlib.collections import LineCollection

        colours = expert_colours(len(self.expert_names))
        for k, name in enumerate(self.expert_names):
            spots = np.column_stack([self.values, self.expert_means[:, k]])
            trust = 0.5 * (self.gate[1:, k] + self.gate[:-1, k])
            shades = np.column_stack([np.tile(colours[k], (trust.size, 1)), trust])
            pairs = np.stack([spots[:-1], spots[1:]], axis=1)
            seen = trust > 0.02
            ax.add_collection(
                LineCollection(pairs[seen], colors=shades[seen], linewidths=3.0)
            )
            ax.plot([], [], color=colours[k], lw=3.0, label=name)

    def _points(self, ax, kwargs):
        kwargs = {"s": 14, "linewidths": 0.4, "edgecolors": ink_of(ax)} | kwargs
        kwargs = {"c": ink_of(ax) if self.share is None else blend(self.share)} | kwargs
        ax.scatter(*self.points.T, zorder=3, **kwargs)

    def frame(self, levels=LEVELS):
        """Return the law as a data frame, one row for each value of the column.

        Columns: the feature, ``mean``, and the quantiles between which the central
        intervals of these levels lie, as ``q0.05``.

        Parameters
        ----------
        levels : sequence of float, default=(0.5, 0.9)

        Returns
        -------
        frame : pandas.DataFrame
        """
        import pandas

        ends = _ends(checked_levels(levels))
        table = {self.feature_name: self.values, "mean": self.law.mean}
        for q, column in zip(ends, self.law.quantile(ends).T, strict=True):
            table[f"q{q:.4g}"] = column
        return pandas.DataFrame(table)


def _ends(levels):
    """Return the probabilities below and above which central intervals end."""
    levels = np.asarray(levels)
    return np.sort(np.concatenate([0.5 - 0.5 * levels, 0.5 + 0.5 * levels]))
