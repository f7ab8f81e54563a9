"""Gate profile: how the gate moves along one column."""

import numpy as np

from skmoe.inspection._probe import Probe, spread_rows
from skmoe.inspection._style import (
    expert_colours,
    ink_of,
    key_beside,
    place,
    tidy,
)
from skmoe.inspection._subject import Subject

__all__ = ["GateProfileDisplay"]

# The middle 80 % of the rows.
LOW, HIGH = 0.1, 0.9
RUG = 0.03  # share of the height


class GateProfileDisplay:
    """Gate probabilities along one column.

    Use `from_estimator` to make one. Rows of X are moved along the column, all else
    being left as it is: each gives a thin line for an expert, and their mean (its
    partial dependence) is the thick one. Where thin lines lie far apart, other columns
    have their say. Ticks at the bottom are the column's values: where there are none
    the gate extrapolates. A column of categories has bars, with a line over the middle
    80 % of the rows.

    Parameters
    ----------
    values : array of shape (n_values,)
        Of the column.
    gate : array of shape (n_rows, n_values, n_experts)
        Gate probabilities of each row at each value.
    feature_name : str
    expert_names : list of str
    data : array of shape (n_samples,), default=None
        The column in X.
    categorical : bool, default=False
        Whether the values are categories.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Set by `plot`.
    figure_ : matplotlib Figure

    References
    ----------
    Friedman, J. H. (2001). Greedy function approximation: a gradient boosting
    machine. Annals of Statistics 29.

    Examples
    --------
    >>> from skmoe import MixtureOfExpertsRegressor
    >>> from skmoe.datasets import load_mcycle
    >>> from skmoe.inspection import GateProfileDisplay
    >>> X, y = load_mcycle(return_X_y=True)
    >>> model = MixtureOfExpertsRegressor(random_state=0).fit(X, y)
    >>> display = GateProfileDisplay.from_estimator(model, X, feature=0)
    >>> display.frame().columns[:2].tolist()
    ['x0', 'gate[expert0]']
    """

    def __init__(
        self,
        *,
        values,
        gate,
        feature_name,
        expert_names,
        data=None,
        categorical=False,
    ):
        self.values = values
        self.gate = gate
        self.feature_name = feature_name
        self.expert_names = expert_names
        self.data = data
        self.categorical = categorical

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X,
        feature=0,
        *,
        grid_resolution=200,
        subsample=50,
        feature_names=None,
        ax=None,
        **kwargs,
    ):
        """Draw the gate of a fitted mixture along a column.

        Parameters
        ----------
        estimator : mixture, or Pipeline that ends in one
        X : array-like of shape (n_samples, n_features)
            Rows, in the columns that the estimator takes.
        feature : int or str, default=0
            The column. It counts as one of categories if it is of such a type, holds
            words, or has two values.
        grid_resolution : int, default=200
            Number of values of a column of numbers, from its least to its largest.
        subsample : int or None, default=50
            Rows, evenly spread over X, that are moved along the column; None: all.
        feature_names : sequence of str of shape (n_features,), default=None
        ax : matplotlib Axes, default=None
        **kwargs
            See `plot`.

        Returns
        -------
        display : GateProfileDisplay

        Raises
        ------
        TypeError
            If the estimator is no mixture of experts.
        ValueError
            If there is no such column.
        """
        subject = Subject(estimator, cls.__name__)
        subject.check_single_rows(cls.__name__)
        probe = Probe(X, subject, feature_names)
        j = probe.position(feature)
        categorical = probe.categorical[j]
        if categorical:
            values = np.array(probe.values(j), dtype=object)
        else:
            numbers = probe.numbers(j)
            values = np.linspace(numbers.min(), numbers.max(), grid_resolution)
        # Rows without other columns are all alike.
        most = 1 if probe.n_columns == 1 else subsample
        positions = spread_rows(probe.n_rows, most)
        gate = subject.gate(probe.crossed(positions, {j: values}))
        display = cls(
            values=values,
            gate=gate.reshape(len(positions), len(values), -1),
            feature_name=probe.names[j],
            expert_names=subject.expert_names,
            data=probe.column(j) if categorical else numbers,
            categorical=categorical,
        )
        return display.plot(ax=ax, **kwargs)

    @property
    def average(self):
        """Mean probability over the rows, of shape (n_values, n_experts)."""
        return self.gate.mean(axis=0)

    def plot(self, ax=None, *, individual=True, rug=True):
        """Draw the profile.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None: a new figure.
        individual : bool, default=True
            Whether the rows are drawn beside their average.
        rug : bool, default=True
            Whether the values of X are ticks at the bottom; of categories, whether
            their numbers are named.

        Returns
        -------
        self : GateProfileDisplay
        """
        ax = place(self, ax, (6.4, 3.6))
        (self._bars if self.categorical else self._curves)(ax, individual, rug)
        ax.set(xlabel=self.feature_name, ylabel="gate probability")
        key_beside(ax)
        tidy(ax)
        return self

    def _range(self):
        return np.quantile(self.gate, [LOW, HIGH], axis=0)

    def _curves(self, ax, individual, rug):
        average = self.average
        for k, colour in enumerate(expert_colours(average.shape[1])):
            if individual and len(self.gate) > 1:
                lines = self.gate[:, :, k].T
                ax.plot(self.values, lines, color=colour, lw=0.5, alpha=0.4)
            name = self.expert_names[k]
            ax.plot(
                self.values, average[:, k], color=colour, lw=2.2, zorder=3, label=name
            )
        if rug and self.data is not None:
            ax.vlines(
                np.unique(self.data),
                0.0,
                RUG,
                transform=ax.get_xaxis_transform(),
                color=ink_of(ax),
                lw=0.6,
                alpha=0.6,
            )
        # A little room, for lines at 0 and 1 to be seen whole.
        ax.set(xlim=(self.values[0], self.values[-1]), ylim=(-0.02, 1.02))

    def _bars(self, ax, individual, rug):
        n_experts = self.gate.shape[2]
        width = 0.8 / n_experts
        low, high = self._range()
        spots = np.arange(len(self.values))
        for k, colour in enumerate(expert_colours(n_experts)):
            mean = self.average[:, k]
            at = spots + (k - 0.5 * (n_experts - 1)) * width
            ax.bar(at, mean, width, color=colour, label=self.expert_names[k])
            if individual:
                ax.vlines(at, low[:, k], high[:, k], color=ink_of(ax), lw=1.0)
        labels = [
            f"{value:g}" if isinstance(value, float) else str(value)
            for value in self.values
        ]
        if rug and self.data is not None:
            counts = [int(np.sum(self.data == value)) for value in self.values]
            labels = [f"{a}\n(n = {n})" for a, n in zip(labels, counts, strict=True)]
        ax.set_xticks(spots, labels)
        ax.set_ylim(0.0, 1.0)

    def frame(self):
        """Return the profile as a data frame, one row for each value.

        Columns: the feature; of each expert ``gate[<name>]``, the mean over the rows,
        and ``low[<name>]``, ``high[<name>]``, between which their middle 80 % lie.

        Returns
        -------
        frame : pandas.DataFrame
        """
        import pandas

        low, high = self._range()
        table = {self.feature_name: self.values}
        for head, part in (("gate", self.average), ("low", low), ("high", high)):
            for name, column in zip(self.expert_names, part.T, strict=True):
                table[f"{head}[{name}]"] = column
        return pandas.DataFrame(table)
