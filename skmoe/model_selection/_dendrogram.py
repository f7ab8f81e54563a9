"""The dendrogram of a mixture's experts: which ones merge, at what loss."""

from dataclasses import dataclass

import numpy as np

__all__ = ["Dendrogram"]


@dataclass
class Dendrogram:
    """What merging the experts of a mixture, pair by pair, has found.

    Level m of a path from K experts to one holds ``n_experts[m] = K - m`` of them.

    Attributes
    ----------
    linkage : array of shape (n_leaves - 1, 4)
        As of `scipy.cluster.hierarchy`: the two clusters that are merged, the height
        in nats at which they are drawn, and how many leaves they hold together.
        Leaves are the experts 0, ..., K - 1 of the first fit; the merge of row m is
        cluster K + m. Heights are made to rise, so that the tree can be drawn.
    heights : array of shape (n_leaves - 1,)
        What each merge costs, in nats, as it was estimated when it was chosen.
    n_experts : array of int of shape (n_leaves,)
        K, K - 1, ..., 1.
    log_likelihood : array of shape (n_leaves,)
        Of the mixture at each level, in nats.
    n_parameters : array of int of shape (n_leaves,)
    criterion : array of shape (n_leaves,)
        What is minimised over the levels.
    best_n_experts : int
        The number of experts where it is least, among those that were asked for.
    shares : array of shape (n_leaves,)
        Each leaf's share of the rows in the first fit.
    """

    linkage: np.ndarray
    heights: np.ndarray
    n_experts: np.ndarray
    log_likelihood: np.ndarray
    n_parameters: np.ndarray
    criterion: np.ndarray
    best_n_experts: int
    shares: np.ndarray

    def labels(self, n_experts=None):
        """Return which of the remaining experts each leaf belongs to.

        Parameters
        ----------
        n_experts : int, default=None
            How many experts remain; None: ``best_n_experts``.

        Returns
        -------
        labels : array of int of shape (n_leaves,)
            Positions 0, ..., n_experts - 1, in the order of each expert's first leaf.

        Raises
        ------
        ValueError
            If no level has so many experts.
        """
        wanted = self.best_n_experts if n_experts is None else n_experts
        n_leaves = len(self.shares)
        if wanted not in range(1, n_leaves + 1):
            raise ValueError(
                f"n_experts must be one of 1, ..., {n_leaves}, the number of leaves, "
                f"got {wanted!r}."
            )
        cluster = np.arange(n_leaves)
        for m, (first, second) in enumerate(self.linkage[: n_leaves - wanted, :2]):
            cluster[(cluster == first) | (cluster == second)] = n_leaves + m
        _, where, labels = np.unique(cluster, return_index=True, return_inverse=True)
        return np.argsort(np.argsort(where))[labels]

    def to_frame(self):
        """Return the levels as a data frame, one row for each number of experts.

        Returns
        -------
        frame : pandas.DataFrame
            ``height`` is the cost of the merge that led to a level; NaN for the first.
        """
        import pandas as pd

        return pd.DataFrame(
            {
                "n_experts": self.n_experts,
                "height": np.append(np.nan, self.heights),
                "log_likelihood": self.log_likelihood,
                "n_parameters": self.n_parameters,
                "criterion": self.criterion,
            }
        )
