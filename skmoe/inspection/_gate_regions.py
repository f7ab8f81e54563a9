"""Gate regions: who is trusted where, over two columns."""

import numpy as np
from scipy import ndimage

from skmoe._xp import to_numpy
from skmoe.inspection._probe import Probe, check_others, spread_rows
from skmoe.inspection._style import (
    blend,
    expert_colours,
    ink_of,
    key_beside,
    middle_of,
    place,
)
from skmoe.inspection._subject import Subject

__all__ = ["GateRegionDisplay"]

MARKERS = "osD^vPX*<>"
# How strongly a region is coloured where the gate is undecided, and where it is sure.
FAINT, STRONG = 0.05, 0.55
MARGIN = 0.04
# Rows times places that the model is asked for at a time.
BLOCK = 100_000


class GateRegionDisplay:
    """Regions of the experts over two columns.

    Use `from_estimator` to make one. A place has the colour of its most probable
    expert, the stronger the surer the gate is, and lines run where two experts are
    equally probable. Of a classifier a dashed line is the border between its classes.
    Points have the colour of the expert that answers for them: of several, in shares,
    a mixed colour.

    Parameters
    ----------
    x0, x1 : arrays of shape (n_0,) and (n_1,)
        Values of the two columns, evenly spaced.
    gate : array of shape (n_1, n_0, n_experts)
        Gate probabilities at each place.
    feature_names : list of str
        Of the two columns.
    expert_names : list of str
    points : array of shape (n_samples, 2), default=None
    share : array of shape (n_samples, n_experts), default=None
        Responsibilities of the points, or their gate probabilities.
    class_proba : array of shape (n_1, n_0, n_classes), default=None
        Of a classifier.
    class_names : list of str, default=None
    codes : array of int of shape (n_samples,), default=None
        Class of each point, a position in ``class_names``.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Set by `plot`.
    figure_ : matplotlib Figure

    Examples
    --------
    >>> from skmoe import MixtureOfExpertsRegressor
    >>> from skmoe.datasets import make_mixture_regression
    >>> from skmoe.inspection import GateRegionDisplay
    >>> X, y = make_mixture_regression(200, 2, random_state=0)
    >>> model = MixtureOfExpertsRegressor(n_experts=3, random_state=0).fit(X, y)
    >>> display = GateRegionDisplay.from_estimator(model, X, y)
    >>> display.gate.shape
    (100, 100, 3)
    """

    def __init__(
        self,
        *,
        x0,
        x1,
        gate,
        feature_names,
        expert_names,
        points=None,
        share=None,
        class_proba=None,
        class_names=None,
        codes=None,
    ):
        self.x0 = x0
        self.x1 = x1
        self.gate = gate
        self.feature_names = feature_names
        self.expert_names = expert_names
        self.points = points
        self.share = share
        self.class_proba = class_proba
        self.class_names = class_names
        self.codes = codes

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X,
        y=None,
        *,
        features=None,
        others="median",
        grid_resolution=100,
        subsample=50,
        feature_names=None,
        ax=None,
        **kwargs,
    ):
        """Draw the gate of a fitted mixture.

        Parameters
        ----------
        estimator : mixture, or Pipeline that ends in one
        X : array-like of shape (n_samples, n_features)
            Rows, in the columns that the estimator takes: for the ranges, the
            points, and what the other columns hold.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            Their responses: points then show responsibilities, and classes.
        features : pair of int or str, default=None
            The two columns, the horizontal one first. None: those of an X of two.
        others : {"median", "average"}, default="median"
            What is done about the other columns: held at their medians (categories at
            the most frequent one), or averaged over rows of X.
        grid_resolution : int, default=100
            Number of values of each column.
        subsample : int or None, default=50
            Rows, evenly spread over X, that are averaged over.
        feature_names : sequence of str of shape (n_features,), default=None
        ax : matplotlib Axes, default=None
        **kwargs
            See `plot`.

        Returns
        -------
        display : GateRegionDisplay

        Raises
        ------
        TypeError
            If the estimator is no mixture of experts.
        ValueError
            If there are not two columns, of numbers.
        """
        subject = Subject(estimator, cls.__name__)
        subject.check_single_rows(cls.__name__)
        probe = Probe(X, subject, feature_names)
        first, second = _two_columns(probe, features)
        positions = None
        if check_others(others) == "average" and probe.n_columns > 2:
            positions = spread_rows(probe.n_rows, subsample)
        x0, x1 = (_evenly(probe.numbers(j), grid_resolution) for j in (first, second))
        places = {first: np.tile(x0, x1.size), second: np.repeat(x1, x0.size)}
        shape = (x1.size, x0.size, -1)

        def over_places(ask):
            return _mean_over_rows(ask, probe, positions, places).reshape(shape)

        data = {
            "x0": x0,
            "x1": x1,
            "gate": over_places(subject.gate),
            "feature_names": [probe.names[first], probe.names[second]],
            "expert_names": subject.expert_names,
            "points": np.column_stack(
                [probe.column(j).astype(float) for j in (first, second)]
            ),
            "share": subject.gate(X) if y is None else subject.responsibilities(X, y),
        }
        if subject.classifies:
            classes = subject.mixture.classes_
            data["class_proba"] = over_places(subject.class_proba)
            data["class_names"] = [str(label) for label in classes]
            if y is not None:
                data["codes"] = np.searchsorted(classes, np.asarray(to_numpy(y)))
        return cls(**data).plot(ax=ax, **kwargs)

    def plot(self, ax=None, *, points=True, boundary=True, **kwargs):
        """Draw the regions.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None: a new figure.
        points : bool, default=True
            Whether the rows are drawn.
        boundary : bool, default=True
            Whether lines are drawn where two experts are equally probable, and of a
            classifier where its decision changes.
        **kwargs
            For ``Axes.scatter`` of the points.

        Returns
        -------
        self : GateRegionDisplay
        """
        ax = place(self, ax)
        winner, probability = self.gate.argmax(axis=2), self.gate.max(axis=2)
        n_experts = self.gate.shape[2]
        chance = 1.0 / n_experts
        sure = (probability - chance) / (1.0 - chance) if n_experts > 1 else probability
        colours = np.dstack(
            [expert_colours(n_experts)[winner], FAINT + (STRONG - FAINT) * sure]
        )
        ax.imshow(
            colours,
            origin="lower",
            extent=(*_edges(self.x0), *_edges(self.x1)),
            aspect="auto",
            interpolation="nearest",
        )
        if boundary:
            self._lines(ax, self.gate, "solid")
            if self.class_proba is not None:
                self._lines(ax, self.class_proba, "dashed", linewidths=1.8)
        if points and self.points is not None:
            self._points(ax, kwargs)
        ax.set(
            xlim=_edges(self.x0),
            ylim=_edges(self.x1),
            xlabel=self.feature_names[0],
            ylabel=self.feature_names[1],
        )
        self._key(ax, winner, points, boundary)
        return self

    def _lines(self, ax, proba, style, **kwargs):
        """Draw where the largest of several probabilities changes, each line once."""
        for k in range(proba.shape[2] - 1):
            margin = proba[..., k] - proba[..., k + 1 :].max(axis=2)
            if k > 0:
                # A line of these two is none where an earlier one is above both; the
                # places next to it stay, for the line is to reach its border.
                earlier = proba[..., :k].max(axis=2) > proba[..., k:].max(axis=2)
                margin = np.where(ndimage.binary_erosion(earlier), np.nan, margin)
            if np.nanmin(margin, initial=0.0) < 0.0 < np.nanmax(margin, initial=0.0):
                ax.contour(
                    self.x0,
                    self.x1,
                    margin,
                    levels=[0.0],
                    colors=[ink_of(ax)],
                    linestyles=style,
                    **({"linewidths": 1.0} | kwargs),
                )

    def _points(self, ax, kwargs):
        kwargs = {"s": 16, "linewidths": 0.4, "edgecolors": ink_of(ax)} | kwargs
        colours = blend(self.share)
        codes = np.zeros(len(colours), dtype=int) if self.codes is None else self.codes
        for code in np.unique(codes):
            rows = codes == code
            ax.scatter(
                *self.points[rows].T,
                c=colours[rows],
                marker=MARKERS[code % len(MARKERS)],
                **kwargs,
            )

    def _key(self, ax, winner, points, boundary):
        from matplotlib.lines import Line2D
        from matplotlib.patches import Patch

        colours = expert_colours(self.gate.shape[2])
        handles = [
            Patch(color=(*colours[k], STRONG), label=self.expert_names[k])
            for k in np.unique(winner)
        ]
        if points and self.codes is not None:
            handles += [
                Line2D(
                    [],
                    [],
                    ls="",
                    marker=MARKERS[code % len(MARKERS)],
                    color=middle_of(ax),
                    label=self.class_names[code],
                )
                for code in np.unique(self.codes)
            ]
        if boundary and self.class_proba is not None:
            handles.append(
                Line2D([], [], ls="--", lw=1.8, color=ink_of(ax), label="decision")
            )
        key_beside(ax, handles)

    def frame(self):
        """Return the places as a data frame, one row each.

        Columns: the two features, ``expert`` (name of the most probable one),
        ``probability`` (its own), ``gate[<name>]`` of each expert, and of a classifier
        ``class``, the most probable one.

        Returns
        -------
        frame : pandas.DataFrame
        """
        import pandas

        gate = self.gate.reshape(-1, self.gate.shape[2])
        names = np.array(self.expert_names, dtype=object)
        table = {
            self.feature_names[0]: np.tile(self.x0, self.x1.size),
            self.feature_names[1]: np.repeat(self.x1, self.x0.size),
            "expert": names[gate.argmax(axis=1)],
            "probability": gate.max(axis=1),
        }
        for name, column in zip(self.expert_names, gate.T, strict=True):
            table[f"gate[{name}]"] = column
        if self.class_proba is not None:
            classes = np.array(self.class_names, dtype=object)
            table["class"] = classes[self.class_proba.argmax(axis=2).ravel()]
        return pandas.DataFrame(table)


def _two_columns(probe, features):
    """Return the positions of two columns of numbers."""
    if features is None:
        if probe.n_columns != 2:
            raise ValueError(
                f"regions are drawn over two columns, and X has {probe.n_columns}: say "
                f"which, features=(...), of {probe.names}."
            )
        features = (0, 1)
    single = isinstance(features, str) or not np.iterable(features)
    features = [features] if single else list(features)
    if len(features) != 2:
        raise ValueError(
            f"features must be two columns, got {len(features)}: {features!r}."
        )
    pair = [probe.position(feature) for feature in features]
    if pair[0] == pair[1]:
        raise ValueError(f"features must be two different columns, got {features!r}.")
    for j in pair:
        if probe.categorical[j]:
            raise ValueError(
                f"regions are drawn over columns of numbers, and {probe.names[j]!r} "
                "holds categories: draw it with GateProfileDisplay."
            )
    return pair


def _mean_over_rows(ask, probe, positions, places):
    """Return what a function says of each place, on average over some rows."""
    n_places = len(next(iter(places.values())))
    blocks = [positions]
    if positions is not None:
        blocks = np.array_split(positions, -(-len(positions) * n_places // BLOCK))
    total, n_rows = 0.0, 0
    for block in blocks:
        answer = ask(probe.crossed(block, places))
        answer = answer.reshape(-1, n_places, answer.shape[1])
        total, n_rows = total + answer.sum(axis=0), n_rows + len(answer)
    return total / n_rows


def _evenly(values, n_values):
    low, high = values.min(), values.max()
    space = MARGIN * (high - low)
    return np.linspace(low - space, high + space, n_values)


def _edges(values):
    half = 0.5 * (values[1] - values[0])
    return values[0] - half, values[-1] + half
