"""Coverage: how often intervals hold what they say they hold."""

import numpy as np
from scipy import stats
from sklearn.utils.validation import check_is_fitted

from skmoe._xp import to_numpy
from skmoe.inspection._calibration import probability_below
from skmoe.inspection._laws import checked_levels, law_of_output, response_of_output
from skmoe.inspection._style import expert_colours, ink_of, key_beside, place, tidy
from skmoe.inspection._subject import Subject

__all__ = ["CoverageDisplay"]

METHODS = ("central", "highest-density")
STYLES = {"central": "-", "highest-density": ":", "conformal": "-"}
BAND = 0.95
LEVELS = np.arange(1, 100) / 100


class CoverageDisplay:
    """Share of the responses that lie within their intervals, at every level.

    Use `from_estimator` to make one, on rows that the fit has not seen. A line above
    the diagonal says that intervals are wider than they need be, one below that they
    hold less than they promise; within the band the difference of all rows may be
    chance. By group, it shows whether one group pays for another.

    Parameters
    ----------
    needed : dict of str to array of shape (n_samples,)
        For each method the level that an interval needs to hold the response of a row.
    group : array of int of shape (n_samples,), default=None
        Positions in ``group_names``.
    group_names : list of str, default=None

    Attributes
    ----------
    ax_ : matplotlib Axes
        Set by `plot`.
    figure_ : matplotlib Figure

    Examples
    --------
    >>> from skmoe import MixtureOfExpertsRegressor
    >>> from skmoe.datasets import make_piecewise_linear
    >>> from skmoe.inspection import CoverageDisplay
    >>> X, y = make_piecewise_linear(400, random_state=0)
    >>> model = MixtureOfExpertsRegressor(random_state=0).fit(X[:200], y[:200])
    >>> display = CoverageDisplay.from_estimator(model, X[200:], y[200:])
    >>> display.frame([0.5, 0.9])[["method", "level", "n"]].values.tolist()
    [['central', 0.5, 200], ['central', 0.9, 200]]
    """

    def __init__(self, *, needed, group=None, group_names=None):
        self.needed = needed
        self.group = group
        self.group_names = group_names

    @classmethod
    def from_estimator(
        cls, estimator, X, y, *, methods="central", by=None, target=0, ax=None
    ):
        """Draw the coverage of a fitted mixture's intervals.

        Parameters
        ----------
        estimator : mixture or forest of them, or Pipeline that ends in one
            Or one of `skmoe.conformal`, whose sets are then asked.
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Rows where it is NaN do not count.
        methods : {"central", "highest-density"} or list of them, default="central"
            Kinds of intervals, of a mixture.
        by : "expert", array-like of shape (n_samples,) or None, default=None
            Groups to draw apart: by the expert that the gate thinks most probable, or
            by a label of each row.
        target : int, default=0
            The output, of several.
        ax : matplotlib Axes, default=None

        Returns
        -------
        display : CoverageDisplay

        Raises
        ------
        TypeError
            If the estimator is no mixture of experts, or a classifier.
        """
        by_expert = isinstance(by, str) and by == "expert"
        if hasattr(estimator, "p_value"):
            if by_expert:
                raise ValueError(
                    'by="expert" is for mixtures: for conformal sets give labels, '
                    "by=mixture.apply(X)."
                )
            check_is_fitted(estimator)
            needed = _needed_by_sets(estimator, X, y)
            groups = _grouped(by, needed.size)
            return cls(needed={"conformal": needed}, **groups).plot(ax=ax)
        needs = "gate_proba" if by_expert else "predict_distribution"
        subject = Subject(estimator, cls.__name__, needs)
        subject.check_numbers(
            cls.__name__, "see sklearn.calibration.CalibrationDisplay for those"
        )
        law = subject.law(X)
        needed = _needed(law, y, methods, target)
        if by_expert:
            groups = {
                "group": subject.gate(X).argmax(axis=1),
                "group_names": subject.expert_names,
            }
        else:
            groups = _grouped(by, len(law))
        return cls(**_of_responses(needed, groups, y, target)).plot(ax=ax)

    @classmethod
    def from_predictions(cls, law, y, *, methods="central", by=None, target=0, ax=None):
        """Draw the coverage of the intervals of predictive laws.

        Parameters
        ----------
        law : MixtureDistribution
            What ``predict_distribution`` returns.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Rows where it is NaN do not count.
        methods : {"central", "highest-density"} or list of them, default="central"
        by : array-like of shape (n_samples,) or None, default=None
            Group of each row.
        target : int, default=0
            The output, of several.
        ax : matplotlib Axes, default=None

        Returns
        -------
        display : CoverageDisplay
        """
        needed = _needed(law, y, methods, target)
        groups = _grouped(by, len(law))
        return cls(**_of_responses(needed, groups, y, target)).plot(ax=ax)

    def plot(self, ax=None):
        """Draw the coverage.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None: a new figure.

        Returns
        -------
        self : CoverageDisplay
        """
        ax = place(self, ax, (6.2, 4.2))
        ink = ink_of(ax)
        n_rows = len(next(iter(self.needed.values())))
        ends = 0.5 + np.array([-0.5, 0.5]) * BAND
        low, high = stats.binom.ppf(ends[:, None], n_rows, LEVELS) / n_rows
        ax.fill_between(
            LEVELS, low, high, color=ink, alpha=0.15, lw=0, label=f"chance, {BAND:.0%}"
        )
        ax.plot([0.0, 1.0], [0.0, 1.0], color=ink, lw=1.0, ls="--")
        for method, group, rows in self._parts():
            whole = group == "all"
            ax.plot(
                LEVELS,
                _covered(self.needed[method][rows], LEVELS),
                color=ink if whole else self._colour(group),
                lw=2.0 if whole else 1.4,
                ls=STYLES[method],
                label=group if method == next(iter(self.needed)) else None,
            )
        if len(self.needed) > 1:
            for method in self.needed:
                ax.plot([], [], color=ink, lw=1.4, ls=STYLES[method], label=method)
        ax.set(
            xlim=(0.0, 1.0),
            ylim=(0.0, 1.0),
            box_aspect=1,
            xlabel="level of the interval",
            ylabel="share of the rows within",
        )
        key_beside(ax)
        tidy(ax)
        return self

    def _colour(self, group):
        """Return the colour of a group: of an expert its own."""
        return expert_colours(len(self.group_names))[self.group_names.index(group)]

    def _parts(self):
        """Yield method, name of the group, and its rows: all of them first."""
        for method, needed in self.needed.items():
            yield method, "all", np.ones(needed.size, dtype=bool)
            if self.group is None:
                continue
            for code, name in enumerate(self.group_names):
                rows = self.group == code
                if rows.any():
                    yield method, name, rows

    def frame(self, levels=(0.5, 0.8, 0.9, 0.95)):
        """Return the coverage as a data frame, one row for each line and level.

        Columns: ``method``, ``group`` ("all" or its name), ``n`` (rows), ``level``,
        ``coverage`` and ``error``, the standard error of a right coverage.

        Parameters
        ----------
        levels : sequence of float, default=(0.5, 0.8, 0.9, 0.95)

        Returns
        -------
        frame : pandas.DataFrame

        Raises
        ------
        ValueError
            If a level lies outside (0, 1).
        """
        import pandas

        levels = checked_levels(levels)
        tables = []
        for method, group, rows in self._parts():
            n_rows = int(rows.sum())
            table = {
                "method": method,
                "group": group,
                "n": n_rows,
                "level": levels,
                "coverage": _covered(self.needed[method][rows], levels),
                "error": np.sqrt(levels * (1.0 - levels) / n_rows),
            }
            tables.append(pandas.DataFrame(table))
        return pandas.concat(tables, ignore_index=True)


def _covered(needed, levels):
    """Return the share of the rows that need at most these levels."""
    return np.searchsorted(np.sort(needed), levels, side="right") / needed.size


def _needed(law, y, methods, target):
    """Return for each method the level that an interval needs to hold each response.

    The central interval at level L reaches from the quantile at (1 - L) / 2 to that at
    (1 + L) / 2, so it holds y if P(Y <= y) is no smaller than the one and P(Y < y) no
    larger than the other.
    """
    methods = [methods] if isinstance(methods, str) else list(methods)
    wrong = [method for method in methods if method not in METHODS]
    if wrong or not methods:
        raise ValueError(
            f"methods must be one or both of {list(METHODS)}, got {wrong or methods}."
        )
    needed = {}
    for method in methods:
        if method == "central":
            low, high = probability_below(law, y, target)
            needed[method] = np.maximum(0.0, np.maximum(1 - 2 * high, 2 * low - 1))
        else:
            of_output = law_of_output(law, target)
            needed[method] = of_output.density_level(response_of_output(y, target))
    return needed


def _of_responses(needed, groups, y, target):
    """Return what is needed, and by which group, of the rows that have a response."""
    seen = ~np.isnan(response_of_output(y, target))
    kept = {"needed": {method: level[seen] for method, level in needed.items()}}
    if "group" in groups:
        kept["group"] = groups["group"][seen]
    return groups | kept


def _needed_by_sets(conformal, X, y):
    """Return the level at which a conformal set comes to hold each response.

    The set of a level holds the responses whose p-value exceeds 1 - level. Where
    strangeness is measured at the level itself, all levels of the picture are tried.
    """
    if conformal.method != "quantile":
        return np.nextafter(1.0 - conformal.p_value(X, y), 1.0)
    n_rows = conformal.n_calibration_
    levels = LEVELS[n_rows / (n_rows + 1.0) >= LEVELS]
    held = [conformal.p_value(X, y, level) > 1.0 - level for level in levels]
    return np.where(np.any(held, axis=0), levels[np.argmax(held, axis=0)], 1.0)


def _grouped(by, n_rows):
    """Return labels as codes and names.

    Raises
    ------
    ValueError
        If there is not one label for each row.
    """
    if by is None:
        return {}
    labels = np.asarray(to_numpy(by))
    if labels.shape != (n_rows,):
        got = repr(by) if labels.ndim == 0 else f"an array of shape {labels.shape}"
        raise ValueError(
            f'by must be "expert" or one label for each of the {n_rows} rows, '
            f"got {got}."
        )
    names, group = np.unique(labels, return_inverse=True)
    return {"group": group, "group_names": [str(name) for name in names]}
