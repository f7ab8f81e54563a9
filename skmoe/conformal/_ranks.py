"""How many calibration rows are at least as strange as a new one, as a step function.

A calibration row i has a strangeness score S_i, a new row at response y the score v.
Split conformal prediction counts the rows with ``S_i >= v``: under exchangeability
``p(v) = (1 + count) / (n + 1)`` is a p-value (Vovk, Gammerman and Shafer 2005), and
the responses with ``p(v) > 1 - level`` are a set of that level.

Near a border of regimes, or where one regime is noisier than its expert says, the rows
to compare with are those of the same regime. Weighing the counted rows by similarity
alone would break the guarantee, since the weights belong to the new row. Localised
conformal prediction (Guan 2023) keeps it: *every* row, the new one included, gets a
rank of its own among the rows like it,

    r_i = sum_j H_ij 1{S_j < S_i} / sum_j H_ij,    j over all n + 1 rows, S_{n+1} = v,

and these ranks are counted as the scores were. They are a symmetric function of the
n + 1 rows, so they are exchangeable if the rows are, and the count is a p-value again,
whatever the similarity H. Guan states it as a quantile at a recalibrated level.

Here ``H_ij = sum_k g_k(x_i) g_k(x_j)``, the probability that two rows which draw an
expert from their gates draw the same one: there is no bandwidth to choose, and as H has
low rank all ranks cost n K operations, not n squared. With one expert, or a gate that
is the same everywhere, it is split conformal prediction.

Two other ways keep the guarantee. Randomly localised prediction (Hore and Barber 2023),
with a drawn expert as neighbourhood, makes the set of a row depend on a draw. One
threshold for each most probable expert leaves experts with few rows without a set.

References
----------
Guan, L. (2023). Localized conformal prediction: a generalized inference framework for
conformal prediction. Biometrika 110.
Hore, R. and Barber, R. F. (2023). Conformal prediction with local weights:
randomization enables robust guarantees. arXiv:2310.07850.
Vovk, V., Gammerman, A. and Shafer, G. (2005). Algorithmic learning in a random world.
Springer.
"""

import numpy as np

__all__ = ["RankedRows"]

# Ranks this close are equal: they are sums of the same numbers in another order.
TIE = 1e-12


class RankedRows:
    """Scores of calibration rows, and what a new score is counted against.

    Parameters
    ----------
    scores : array of shape (n_rows,)
        The larger, the stranger.
    weight : array of shape (n_rows,)
        A row of weight w counts as w rows.
    gate : array of shape (n_rows, n_experts), or None
        Gate probabilities of the rows; None: all rows count alike.

    Attributes
    ----------
    values : array of shape (n_values,)
        The distinct scores, ascending, and infinity at the end.
    """

    def __init__(self, scores, weight, gate=None):
        order = np.argsort(scores, kind="stable")
        distinct, place = np.unique(scores[order], return_inverse=True)
        self.values = np.append(distinct, np.inf)
        self._place, self._weight = place, weight[order]
        self._gate = gate
        if gate is not None:
            self._gate = gate[order]
            total = np.cumsum(self._gate * self._weight[:, None], axis=0)
            first = np.searchsorted(place, place)  # of the rows with an equal score
            before = np.vstack([np.zeros_like(total[:1]), total])[first]
            self._below = np.einsum("ik,ik->i", self._gate, before)
            self._all = self._gate @ total[-1]

    def counts(self, gate):
        """Return the weight of rows at least as strange as a score up to ``values``.

        Parameters
        ----------
        gate : array of shape (n_samples, n_experts)
            Gate probabilities of the new rows.

        Returns
        -------
        counts : array of shape (n_samples, n_values)
            Column j is for scores above value j - 1 and up to value j. They never rise
            along a row. In the last column, of a new score above all
            others, there is weight only where a row is unlike the calibration rows.
        """
        size = self.values.size
        if self._gate is None:
            return np.tile(self._at_least(self._place), (gate.shape[0], 1))
        out = np.empty((gate.shape[0], size))
        for row, (own, like) in enumerate(zip(gate, gate @ self._gate.T, strict=True)):
            out[row] = self._at_least(self._last_counted(own @ own, like))
        return out

    def _last_counted(self, own, like):
        """Return up to which of ``values`` each row is counted.

        The rank of the new row rises with its score v, that of row i falls when v
        passes S_i, and so row i is counted for all values up to one. Between two
        values all v have the same ranks; these are taken for the upper value too,
        where S_i = v would lower the rank of row i: a count is never too small.
        """
        total = self._all + like
        seen = np.bincount(self._place, like * self._weight, self.values.size)
        rank = (np.cumsum(seen) - seen) / (seen.sum() + own)
        passed = self._below / total + TIE
        ahead = (self._below + like) / total + TIE
        still = np.searchsorted(rank, ahead, side="right") - 1
        return np.maximum(
            np.searchsorted(rank, passed, side="right") - 1,
            np.minimum(still, self._place),
        )

    def _at_least(self, last):
        """Return the weight of rows that are counted at each value or beyond."""
        share = np.bincount(last, self._weight, self.values.size)
        return np.cumsum(share[::-1])[::-1]
