"""Heat maps of tasks: which experts they use, and how they help one another."""

import numpy as np

from skmoe._unwrapped import transformed_by, unwrapped
from skmoe.inspection._style import ink_of, middle_of, place

__all__ = ["TaskAffinityDisplay", "TaskExpertsDisplay"]

# Numbers are written into the cells of a map of up to so many columns.
FEW = 16
# Inches: of a cell, and of the names beside the map and the scale.
CELL, BESIDE = (0.5, 0.42), (2.6, 1.3)
# Inches that a letter of a slanted name takes in height.
SLANTED = 0.05
# Both ends differ in hue and lightness, for the colour-blind as well.
SEQUENTIAL, DIVERGING = "cividis", "PuOr_r"
LONGEST_NAME = 24


class TaskExpertsDisplay:
    """How much each task of a multi-task network uses each expert.

    Use `from_estimator` to make one. Of tasks (rows) and experts (columns) it shows
    the mean gate weight; rows sum to 1. Experts that belong to one task, as those of
    "cgc" and "ple", have its name above them, and no colour where a task has no way
    to them. A column that is dark throughout is an expert that nobody uses; a row with
    one bright cell is a task without a mixture.

    Parameters
    ----------
    usage : array of shape (n_tasks, n_experts)
        Mean gate weights.
    task_names : list of str
    open_to : array of bool of shape (n_tasks, n_experts), default=None
        Which experts a task may use; None: all.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Set by `plot`.
    figure_ : matplotlib Figure

    See Also
    --------
    TaskAffinityDisplay : How the tasks help one another.

    Examples
    --------
    >>> from skmoe.inspection import TaskExpertsDisplay
    >>> display = TaskExpertsDisplay(
    ...     usage=[[0.7, 0.3, 0.0], [0.2, 0.3, 0.5]], task_names=["click", "buy"]
    ... )
    >>> display.frame()["weight"].tolist()
    [0.7, 0.3, 0.0, 0.2, 0.3, 0.5]
    """

    def __init__(self, *, usage, task_names, open_to=None):
        self.usage = usage
        self.task_names = task_names
        self.open_to = open_to

    @classmethod
    def from_estimator(cls, estimator, X, *, level=-1, sample_weight=None, ax=None):
        """Draw which experts the tasks of a fitted network use.

        Parameters
        ----------
        estimator : MMoEClassifier, MMoERegressor or MultiTaskMMoE
            Or a Pipeline or a search that ends in one.
        X : data frame or array-like of shape (n_samples, n_features)
        level : int, default=-1
            Of ``architecture="ple"``: -1 is the last, which the tasks see.
        sample_weight : array-like of shape (n_samples,), default=None
        ax : matplotlib Axes, default=None

        Returns
        -------
        display : TaskExpertsDisplay

        Raises
        ------
        TypeError
            If the estimator is no multi-task network.
        ValueError
            If there is no such level.
        """
        model, X = _network(estimator, X, cls.__name__)
        display = cls(
            usage=model.expert_usage(X, level=level, sample_weight=sample_weight),
            task_names=[str(name) for name in model.task_names_],
            open_to=model._open_to(level),
        )
        return display.plot(ax=ax)

    def plot(self, ax=None):
        """Draw the map.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None: a new figure.

        Returns
        -------
        self : TaskExpertsDisplay
        """
        usage, open_to = self._tables()
        marks = [] if set(self._owners()) == {"shared"} else _short(self.task_names)
        ax = place(self, ax, _size(usage.shape, marks))
        shown = np.where(open_to, usage, np.nan)
        experts = range(usage.shape[1])
        _heat_map(ax, shown, SEQUENTIAL, (0.0, max(1e-9, usage.max())), "{:.2f}")
        ax.set_yticks(range(len(usage)), _short(self.task_names))
        every = max(1, -(-len(experts) // (2 * FEW)))
        ax.set_xticks(experts[::every], [str(k) for k in experts[::every]])
        ax.set(xlabel="expert", ylabel="task")
        self._mark_owners(ax)
        return self

    def _tables(self):
        usage = np.asarray(self.usage)
        if self.open_to is None:
            return usage, np.ones(usage.shape, dtype=bool)
        return usage, np.asarray(self.open_to)

    def _owners(self):
        """Return the name of the one task that may use an expert, or "shared"."""
        _, open_to = self._tables()
        own = (open_to.sum(axis=0) == 1) & (len(open_to) > 1)
        names = np.array(self.task_names, dtype=object)[open_to.argmax(axis=0)]
        return np.where(own, names, "shared").tolist()

    def _mark_owners(self, ax):
        """Write above the experts whose they are, with lines between."""
        owners = self._owners()
        if set(owners) == {"shared"}:
            return
        starts = [k for k in range(len(owners)) if k == 0 or owners[k] != owners[k - 1]]
        ends = [*starts[1:], len(owners)]
        for start in starts[1:]:
            ax.axvline(start - 0.5, color=ink_of(ax), lw=1.5)
        above = ax.secondary_xaxis("top")
        middles = [0.5 * (s + e - 1) for s, e in zip(starts, ends, strict=True)]
        names = _short([owners[start] for start in starts])
        above.set_xticks(middles, names)
        above.tick_params(length=0)
        room = zip(starts, ends, names, strict=True)
        if any(len(name) > 5 * (end - start) for start, end, name in room):
            for label in above.get_xticklabels():
                label.set(rotation=35, ha="left", rotation_mode="anchor")

    def frame(self):
        """Return the map as a data frame, one row for each task and expert.

        Columns: ``task``, ``expert``, ``weight`` and ``owner``, the task that the
        expert belongs to, or "shared".

        Returns
        -------
        frame : pandas.DataFrame
        """
        import pandas

        usage, _ = self._tables()
        n_tasks, n_experts = usage.shape
        return pandas.DataFrame(
            {
                "task": np.repeat(np.array(self.task_names, dtype=object), n_experts),
                "expert": np.tile(np.arange(n_experts), n_tasks),
                "weight": usage.ravel(),
                "owner": self._owners() * n_tasks,
            }
        )


class TaskAffinityDisplay:
    """How much each task of a multi-task network helps each other one.

    Use `from_estimator` to make one. Of a task (row) for a task (column) it shows the
    cosine of their gradients, or what a step of the one takes from the loss of the
    other: see ``task_affinity`` of the estimators.

    Parameters
    ----------
    affinity : array of shape (n_tasks, n_tasks)
    task_names : list of str
    kind : {"gradient", "lookahead"}, default="gradient"

    Attributes
    ----------
    ax_ : matplotlib Axes
        Set by `plot`.
    figure_ : matplotlib Figure

    See Also
    --------
    TaskExpertsDisplay : Which experts the tasks use.

    Examples
    --------
    >>> from skmoe.inspection import TaskAffinityDisplay
    >>> display = TaskAffinityDisplay(
    ...     affinity=[[1.0, -0.2], [-0.2, 1.0]], task_names=["click", "buy"]
    ... )
    >>> float(display.frame().loc["click", "buy"])
    -0.2
    """

    def __init__(self, *, affinity, task_names, kind="gradient"):
        self.affinity = affinity
        self.task_names = task_names
        self.kind = kind

    @classmethod
    def from_estimator(
        cls, estimator, X, y, *, sample_weight=None, kind="gradient", ax=None
    ):
        """Draw how the tasks of a fitted network help one another.

        Parameters
        ----------
        estimator : MMoEClassifier, MMoERegressor or MultiTaskMMoE
            Or a Pipeline or a search that ends in one.
        X, y, sample_weight : as in ``fit``
            Best rows that the network was not trained on.
        kind : {"gradient", "lookahead"}, default="gradient"
        ax : matplotlib Axes, default=None

        Returns
        -------
        display : TaskAffinityDisplay

        Raises
        ------
        TypeError
            If the estimator is no multi-task network.
        ValueError
            If the data do not go with it, or ``kind`` is another one.
        """
        model, X = _network(estimator, X, cls.__name__)
        display = cls(
            affinity=model.task_affinity(X, y, sample_weight, kind=kind),
            task_names=[str(name) for name in model.task_names_],
            kind=kind,
        )
        return display.plot(ax=ax)

    def plot(self, ax=None):
        """Draw the map.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None: a new figure.

        Returns
        -------
        self : TaskAffinityDisplay
        """
        affinity, names = np.asarray(self.affinity), _short(self.task_names)
        ax = place(self, ax, _size(affinity.shape, names))
        label, most = "cosine of gradients", 1.0
        if self.kind == "lookahead":
            # A task helps itself most: the colours are those of the others.
            others = affinity[~np.eye(len(affinity), dtype=bool)]
            most = np.abs(others[np.isfinite(others)]).max(initial=0.0) or 1.0
            power = int(np.floor(np.log10(most)))
            affinity, most = affinity / 10.0**power, most / 10.0**power
            label = f"loss saved (1e{power})"
        _heat_map(ax, affinity, DIVERGING, (-most, most), "{:.2f}", label)
        spots = range(len(affinity))
        ax.set_yticks(spots, names)
        ax.set_xticks(spots, names, rotation=35, ha="right", rotation_mode="anchor")
        ax.set(xlabel="for task", ylabel="of task")
        return self

    def frame(self):
        """Return the map as a data frame, a row and a column for each task.

        Returns
        -------
        frame : pandas.DataFrame
        """
        import pandas

        names = list(self.task_names)
        return pandas.DataFrame(self.affinity, index=names, columns=names)


def _network(estimator, X, display):
    """Return the network behind pipelines and searches, and X as it takes it.

    Raises
    ------
    TypeError
        If there is none.
    """
    before, model = unwrapped(estimator)
    if not hasattr(model, "expert_usage"):
        raise TypeError(
            f"{display} draws multi-task networks, such as MMoEClassifier, alone or at "
            f"the end of a Pipeline, got {estimator!r}."
        )
    return model, transformed_by(before, X)


def _size(shape, slanted=()):
    """Return the size of a figure, in inches, with room for slanted names."""
    n_rows, n_columns = shape
    above = SLANTED * max(map(len, slanted), default=0)
    return (
        min(12.0, max(4.2, BESIDE[0] + CELL[0] * n_columns)),
        min(12.0, max(2.6, BESIDE[1] + CELL[1] * n_rows) + above),
    )


def _short(names):
    """Return names that leave room for the map."""
    cut = LONGEST_NAME - 1
    return [n if len(n) <= LONGEST_NAME else f"{n[:cut]}…" for n in map(str, names)]


def _heat_map(ax, table, colours, limits, form, label="mean gate weight"):
    """Draw a table as colours with a scale, and its numbers where they are few."""
    from matplotlib.colors import Normalize

    image = ax.imshow(table, cmap=colours, norm=Normalize(*limits), aspect="auto")
    ax.figure.colorbar(image, ax=ax, label=label)
    ax.set_xticks(np.arange(table.shape[1] + 1) - 0.5, minor=True)
    ax.set_yticks(np.arange(table.shape[0] + 1) - 0.5, minor=True)
    ax.grid(which="minor", color=middle_of(ax, 0.0), lw=1.0)
    ax.tick_params(which="both", length=0)
    ax.spines[:].set_visible(False)
    if table.shape[1] > FEW:
        return
    for spot in zip(*np.nonzero(np.isfinite(table)), strict=True):
        red, green, blue, _ = image.cmap(image.norm(table[spot]))
        bright = 0.299 * red + 0.587 * green + 0.114 * blue > 0.5
        ink = "black" if bright else "white"
        text = form.format(table[spot])
        ax.text(*spot[::-1], text, ha="center", va="center", color=ink, size="small")
