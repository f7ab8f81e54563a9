"""Responsibilities: how well the experts are told apart."""

import numpy as np

from skmoe.inspection._style import expert_colours, ink_of, key_beside, place, tidy
from skmoe.inspection._subject import Subject

__all__ = ["ResponsibilityDisplay"]

KINDS = ("rows", "histogram")
N_BINS = 20
# What flexmix counts as a row that an expert has some part in.
SOME = 1e-4
# A picture of more rows than this shows every so many of them.
MOST_ROWS = 2_000


class ResponsibilityDisplay:
    """Responsibilities of the rows: which expert answers for which, and how surely.

    Use `from_estimator` to make one. Of kind "rows" each row is a thin column, filled
    from the bottom with its most probable expert; rows are sorted by that expert and by
    how sure it is. Blocks of one colour are experts that are told apart, slanted ends
    are rows that several share. Of kind "histogram" the responsibilities of each expert
    are counted, those that are next to nothing left out, on a scale of square roots (a
    rootogram): what lies at 1 is its own, what lies in the middle it shares.

    Parameters
    ----------
    resp : array of shape (n_samples, n_experts)
    expert_names : list of str

    Attributes
    ----------
    ax_ : matplotlib Axes
        Set by `plot`.
    figure_ : matplotlib Figure

    References
    ----------
    Leisch, F. (2004). FlexMix: a general framework for finite mixture models and
    latent class regression in R. Journal of Statistical Software 11.

    Examples
    --------
    >>> from skmoe import MixtureOfExpertsRegressor
    >>> from skmoe.datasets import load_mcycle
    >>> from skmoe.inspection import ResponsibilityDisplay
    >>> X, y = load_mcycle(return_X_y=True)
    >>> model = MixtureOfExpertsRegressor(random_state=0).fit(X, y)
    >>> display = ResponsibilityDisplay.from_estimator(model, X, y)
    >>> display.resp.shape
    (133, 4)
    """

    def __init__(self, *, resp, expert_names):
        self.resp = resp
        self.expert_names = expert_names

    @classmethod
    def from_estimator(cls, estimator, X, y, *, kind="rows", ax=None, **beside):
        """Draw the responsibilities in a fitted mixture.

        Parameters
        ----------
        estimator : mixture, or Pipeline that ends in one
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        kind : {"rows", "histogram"}, default="rows"
        ax : matplotlib Axes, default=None
        **beside : arrays of shape (n_samples,)
            ``groups``, ``offset`` and ``trials``, as in ``fit``; of a Markov mixture
            ``lengths``, ``groups``, ``times`` and ``previous``.

        Returns
        -------
        display : ResponsibilityDisplay

        Raises
        ------
        TypeError
            If the estimator is no mixture of experts.
        """
        subject = Subject(estimator, cls.__name__)
        resp = subject.responsibilities(X, y, **beside)
        display = cls(resp=resp, expert_names=subject.expert_names)
        return display.plot(ax=ax, kind=kind)

    def plot(self, ax=None, *, kind="rows"):
        """Draw the responsibilities.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None: a new figure.
        kind : {"rows", "histogram"}, default="rows"

        Returns
        -------
        self : ResponsibilityDisplay
        """
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {list(KINDS)}, got {kind!r}.")
        ax = place(self, ax, (6.4, 3.2))
        (self._rows if kind == "rows" else self._histograms)(ax)
        key_beside(ax)
        tidy(ax)
        return self

    def order(self):
        """Return the rows sorted by expert, those that it is surest of first."""
        return np.lexsort((-self.resp.max(axis=1), self.resp.argmax(axis=1)))

    def _rows(self, ax):
        n_rows, n_experts = self.resp.shape
        order = self.order()[:: max(1, -(-n_rows // MOST_ROWS))]
        resp, colours = self.resp[order], expert_colours(n_experts)
        winner = resp.argmax(axis=1)
        edges = np.linspace(0, n_rows, len(order) + 1)
        # From the bottom up: the row's own expert, then the others in their order.
        ranks = np.argsort(
            np.where(np.arange(n_experts) == winner[:, None], -1, np.arange(n_experts)),
            axis=1,
            kind="stable",
        )
        below = np.zeros(len(order))
        for rank in ranks.T:
            above = below + resp[np.arange(len(order)), rank]
            for k in np.unique(rank):
                end = np.where(rank == k, above, below)
                ax.fill_between(
                    edges,
                    np.append(below, below[-1]),
                    np.append(end, end[-1]),
                    step="post",
                    color=colours[k],
                    lw=0,
                )
            below = above
        for k, name in enumerate(self.expert_names):
            ax.fill_between([], [], color=colours[k], label=name)
        ends = np.flatnonzero(np.diff(winner)) + 1
        ax.vlines(edges[ends], 0.0, 1.0, color=ink_of(ax), lw=0.8)
        ax.set(
            xlim=(0, n_rows),
            ylim=(0.0, 1.0),
            xlabel="rows, sorted by expert and by how sure it is",
            ylabel="responsibility",
        )

    def _histograms(self, ax):
        bins = np.linspace(0.0, 1.0, N_BINS + 1)
        for k, colour in enumerate(expert_colours(self.resp.shape[1])):
            own = self.resp[:, k]
            counts, _ = np.histogram(own[own > SOME], bins)
            ax.stairs(counts, bins, color=colour, lw=2.0, label=self.expert_names[k])
        ax.set_yscale("function", functions=(_root, np.square))
        ax.set(
            xlim=(0.0, 1.0),
            xlabel=f"responsibility, where it is above {SOME:g}",
            ylabel="rows, on a scale of square roots",
        )
        ax.set_ylim(bottom=0.0)

    def frame(self):
        """Return the rows as a data frame, in the order of X.

        Columns: ``expert`` (name of the most responsible one), ``certainty`` (its
        responsibility), ``responsibility[<name>]`` of each expert.

        Returns
        -------
        frame : pandas.DataFrame
        """
        import pandas

        names = np.array(self.expert_names, dtype=object)
        table = {
            "expert": names[self.resp.argmax(axis=1)],
            "certainty": self.resp.max(axis=1),
        }
        for name, column in zip(self.expert_names, self.resp.T, strict=True):
            table[f"responsibility[{name}]"] = column
        return pandas.DataFrame(table)

    def separation(self):
        """Return how well each expert is told apart, as a data frame.

        Columns: ``expert``; ``rows``, of which it is the most responsible one;
        ``some``, of which its responsibility is above 1e-4; ``ratio`` of the two, 1 for
        an expert that shares no rows.

        Returns
        -------
        frame : pandas.DataFrame
        """
        import pandas

        n_experts = self.resp.shape[1]
        rows = np.bincount(self.resp.argmax(axis=1), minlength=n_experts)
        some = (self.resp > SOME).sum(axis=0)
        ratio = np.divide(rows, some, out=np.zeros(n_experts), where=some > 0)
        return pandas.DataFrame(
            {"expert": self.expert_names, "rows": rows, "some": some, "ratio": ratio}
        )


def _root(values):
    return np.sqrt(np.maximum(values, 0.0))
