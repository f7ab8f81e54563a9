"""Expert usage: who does how much of the work."""

import numpy as np
from scipy import special

from skmoe._sklearn import check_sample_weight
from skmoe._wording import percent
from skmoe._xp import to_numpy
from skmoe.inspection._style import expert_colours, ink_of, key_beside, place, tidy
from skmoe.inspection._subject import Subject

__all__ = ["ExpertUsageDisplay"]

BAR = 0.38


class ExpertUsageDisplay:
    """Share of the rows that each expert answers for.

    Use `from_estimator` to make one. The gate's share is the mean of its probabilities:
    the work that an expert is expected to do; of rows whose response is known, the mean
    responsibility: what it did. The two differ where the gate cannot tell from x which
    expert will fit. The effective number of experts is ``exp(entropy)`` of the shares:
    K where all do the same, 1 where one does all.

    Parameters
    ----------
    gate : array of shape (n_experts,)
        Mean gate probability.
    winner : array of shape (n_experts,)
        Share of the rows of which an expert is the most probable one.
    resp : array of shape (n_experts,), default=None
        Mean responsibility.
    per_row : float
        Effective number of experts for a single row: exp of the mean entropy of the
        gate's probabilities. 1 where the gate is always sure.
    expert_names : list of str

    Attributes
    ----------
    ax_ : matplotlib Axes
        Set by `plot`.
    figure_ : matplotlib Figure

    Examples
    --------
    >>> from skmoe import MixtureOfExpertsRegressor
    >>> from skmoe.datasets import load_mcycle
    >>> from skmoe.inspection import ExpertUsageDisplay
    >>> X, y = load_mcycle(return_X_y=True)
    >>> model = MixtureOfExpertsRegressor(random_state=0).fit(X, y)
    >>> display = ExpertUsageDisplay.from_estimator(model, X, y)
    >>> bool(1.0 <= display.effective_number <= 4.0)
    True
    """

    def __init__(self, *, gate, winner, per_row, expert_names, resp=None):
        self.gate = gate
        self.winner = winner
        self.per_row = per_row
        self.expert_names = expert_names
        self.resp = resp

    @classmethod
    def from_estimator(
        cls, estimator, X, y=None, *, sample_weight=None, ax=None, **beside
    ):
        """Draw who does how much in a fitted mixture.

        Parameters
        ----------
        estimator : mixture, or Pipeline that ends in one
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            None: the gate's shares alone.
        sample_weight : array-like of shape (n_samples,), default=None
        ax : matplotlib Axes, default=None
        **beside : arrays of shape (n_samples,)
            ``groups``, ``offset`` and ``trials``, as in ``fit``; of a Markov mixture
            ``lengths``, ``groups``, ``times`` and ``previous``.

        Returns
        -------
        display : ExpertUsageDisplay

        Raises
        ------
        TypeError
            If the estimator is no mixture of experts.
        """
        subject = Subject(estimator, cls.__name__)
        gate = subject.gate(X, **beside)
        weight = check_sample_weight(to_numpy(sample_weight), gate)
        weight = weight / weight.sum()
        wins = gate.argmax(axis=1)[:, None] == np.arange(gate.shape[1])
        resp = None
        if y is not None:
            resp = weight @ subject.responsibilities(X, y, **beside)
        display = cls(
            gate=weight @ gate,
            winner=weight @ wins,
            resp=resp,
            per_row=float(np.exp(weight @ special.entr(gate).sum(axis=1))),
            expert_names=subject.expert_names,
        )
        return display.plot(ax=ax)

    @property
    def effective_number(self):
        """Effective number of experts, by responsibility where it is known."""
        share = self.gate if self.resp is None else self.resp
        return float(np.exp(special.entr(share).sum()))

    def plot(self, ax=None):
        """Draw the shares.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None: a new figure.

        Returns
        -------
        self : ExpertUsageDisplay
        """
        n_experts = len(self.expert_names)
        ax = place(self, ax, (6.4, 1.2 + 0.45 * n_experts))
        colours, spots = expert_colours(n_experts), np.arange(n_experts)
        if self.resp is None:
            ax.barh(spots, self.gate, 2 * BAR, color=colours)
        else:
            ax.barh(spots - BAR / 2, self.resp, BAR, color=colours)
            faint = np.column_stack([colours, np.full(n_experts, 0.4)])
            ax.barh(spots + BAR / 2, self.gate, BAR, color=faint)
            self._key(ax)
        share = self.gate if self.resp is None else self.resp
        longest = np.maximum(share, self.gate)
        for spot, end, value in zip(spots, longest, share, strict=True):
            ax.annotate(
                percent(value),
                (end, spot),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                color=ink_of(ax),
            )
        ax.set_yticks(spots, self.expert_names)
        ax.set(xlim=(0.0, 1.15 * longest.max()), xlabel="share of the rows")
        ax.set_title(
            f"effective number {self.effective_number:.1f} of {n_experts}, "
            f"{self.per_row:.1f} for a row",
            loc="left",
            fontsize="medium",
        )
        ax.set_ylim(n_experts - 0.4, -0.6)  # the first one on top
        tidy(ax)
        return self

    def _key(self, ax):
        from matplotlib.patches import Patch

        ink = ink_of(ax)
        key_beside(
            ax,
            [
                Patch(color=ink, alpha=0.9, label="responsibility"),
                Patch(color=ink, alpha=0.4, lw=0, label="gate"),
            ],
        )

    def frame(self):
        """Return the shares as a data frame, one row for each expert.

        Columns: ``expert``, ``gate``, ``winner`` and, where the responses are known,
        ``responsibility``.

        Returns
        -------
        frame : pandas.DataFrame
        """
        import pandas

        table = {"expert": self.expert_names, "gate": self.gate, "winner": self.winner}
        if self.resp is not None:
            table["responsibility"] = self.resp
        return pandas.DataFrame(table)
