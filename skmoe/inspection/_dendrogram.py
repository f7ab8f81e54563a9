"""The dendrogram of a mixture's experts, with the chosen cut."""

import numpy as np
from scipy.cluster import hierarchy

from skmoe._wording import percent
from skmoe.inspection._style import expert_colours, ink_of, place, tidy

__all__ = ["DendrogramDisplay"]

# scipy puts leaves at 5, 15, 25, ...
FIRST, STEP = 5.0, 10.0


class DendrogramDisplay:
    """Which experts merge, and what each merge costs.

    Use `from_estimator` to make one. At the bottom are the experts of a mixture that
    had too many of them, with their shares of the rows; a bracket joins two that were
    merged, as high as what that cost, in nats. Merges of experts that say the same cost
    little; where the cost leaps, experts are lost that were needed. The dashed line is
    the cut that was chosen: what hangs together below it is one expert, in one colour.

    Parameters
    ----------
    dendrogram : Dendrogram
        With ``linkage``, ``heights``, ``n_experts``, ``criterion``, ``shares``,
        ``best_n_experts`` and ``labels``; see `skmoe.model_selection.Dendrogram`.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Set by `plot`.
    figure_ : matplotlib Figure

    Examples
    --------
    >>> import numpy as np
    >>> from skmoe import MixtureOfExpertsRegressor
    >>> from skmoe.inspection import DendrogramDisplay
    >>> from skmoe.model_selection import MixtureOfExpertsSearch
    >>> X = np.linspace(-1, 1, 200)[:, None]
    >>> y = np.abs(X[:, 0]) + 0.05 * np.random.default_rng(0).standard_normal(200)
    >>> search = MixtureOfExpertsSearch(
    ...     MixtureOfExpertsRegressor(), n_experts=4, method="dendrogram"
    ... )
    >>> display = DendrogramDisplay.from_estimator(search.fit(X, y))
    >>> display.frame()["n_experts"].tolist()
    [3, 2, 1]
    """

    def __init__(self, dendrogram):
        self.dendrogram = dendrogram

    @classmethod
    def from_estimator(cls, estimator, *, n_experts=None, ax=None):
        """Draw the merges behind a choice of the number of experts.

        Parameters
        ----------
        estimator : object with a ``dendrogram_``
            A search or a selection by ``method="dendrogram"``.
        n_experts : int, default=None
            Where to cut; None: where the criterion is best.
        ax : matplotlib Axes, default=None

        Returns
        -------
        display : DendrogramDisplay

        Raises
        ------
        TypeError
            If it has no dendrogram.
        ValueError
            If no level has so many experts.
        """
        dendrogram = getattr(estimator, "dendrogram_", None)
        if dendrogram is None:
            raise TypeError(
                "DendrogramDisplay draws what a selection by "
                f'method="dendrogram" has found, got {estimator!r} without dendrogram_.'
            )
        return cls(dendrogram).plot(ax=ax, n_experts=n_experts)

    def plot(self, ax=None, *, n_experts=None):
        """Draw the dendrogram.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None: a new figure.
        n_experts : int, default=None
            Where to cut; None: where the criterion is best.

        Returns
        -------
        self : DendrogramDisplay
        """
        found = self.dendrogram
        if n_experts is None:
            n_experts = found.best_n_experts
        labels, n_leaves = found.labels(n_experts), len(found.shares)
        ax = place(self, ax, (max(4.8, 0.8 + 0.6 * n_leaves), 4.0))
        colours, ink = expert_colours(n_experts), ink_of(ax)
        leaves = np.zeros(1, dtype=int)
        if n_leaves > 1:
            drawn = hierarchy.dendrogram(found.linkage, no_plot=True)
            leaves = np.array(drawn["leaves"])
            below = self._cut(n_experts)
            for x, height in zip(drawn["icoord"], drawn["dcoord"], strict=True):
                # A leaf below each end tells of the cluster there. Heights do not
                # tell what is merged: they may be equal above and below the cut.
                ends = leaves[[round((x[i] - FIRST) / STEP) for i in (0, 3)]]
                left, right = labels[ends]
                colour = colours[left] if left == right else ink
                ax.plot(x, height, color=colour, lw=2.0, solid_joinstyle="miter")
            if below > 0.0:
                ax.axhline(below, color=ink, lw=1.0, ls="--")
        self._leaves(ax, leaves, colours[labels])
        ax.set(ylabel="cost of the merge (nats)")
        ax.set_title(
            f"{n_experts} of {n_leaves} experts", loc="left", fontsize="medium"
        )
        tidy(ax)
        return self

    def _leaves(self, ax, leaves, colours):
        shares = self.dendrogram.shares
        spots = FIRST + STEP * np.arange(leaves.size)
        ax.set_yscale("function", functions=(_root, np.square))
        ax.set_ylim(bottom=0.0)
        ax.scatter(
            spots,
            np.zeros(leaves.size),
            s=30.0 + 400.0 * shares[leaves],
            color=colours[leaves],
            clip_on=False,
            zorder=3,
        )
        ax.set_xticks(spots, [f"{k}\n{percent(shares[k])}" for k in leaves])
        ax.tick_params(axis="x", length=0, pad=10)
        ax.spines["bottom"].set_visible(False)
        ax.set(xlim=(0.0, STEP * leaves.size), xlabel="expert, share of the rows")

    def _cut(self, n_experts):
        """Return the height between the last merge that is made and the next."""
        heights = self.dendrogram.linkage[:, 2]
        n_made = len(heights) + 1 - n_experts
        made = heights[n_made - 1] if n_made > 0 else 0.0
        left = heights[n_made] if n_made < len(heights) else 1.2 * made
        return float((0.5 * (np.sqrt(made) + np.sqrt(left))) ** 2)

    def frame(self):
        """Return the merges as a data frame, one row each, in their order.

        Columns: ``first`` and ``second`` (clusters; the merge of row m is cluster
        ``n_leaves + m``), ``leaves`` (how many experts they hold), ``cost`` (nats),
        ``n_experts`` left, the ``criterion`` that is minimised, and ``made``, whether
        the best cut has this merge.

        Returns
        -------
        frame : pandas.DataFrame
        """
        import pandas

        found = self.dendrogram
        first, second, _, n_leaves = found.linkage.T
        return pandas.DataFrame(
            {
                "first": first.astype(int),
                "second": second.astype(int),
                "leaves": n_leaves.astype(int),
                "cost": found.heights,
                "n_experts": found.n_experts[1:],
                "criterion": found.criterion[1:],
                "made": found.n_experts[1:] >= found.best_n_experts,
            }
        )


def _root(values):
    return np.sqrt(np.maximum(values, 0.0))
