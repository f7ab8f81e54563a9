"""Starts for rows in time: regressions on windows, in which one expert is likely alone.

Rows that follow each other mostly have the same expert. So a regression on a short
window is that of one expert, and which window's regression predicts which other windows
says how many kinds there are: windows are clustered round the K of them whose
regressions together predict all windows best (k-medoids; Kaufman, L. and Rousseeuw, P.
J. 1990. Finding groups in data).
"""

from collections.abc import Iterator
from itertools import chain, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d

from skmoe.em._chains import Chains
from skmoe.em._starts import Start, StartData, n_random_starts, portfolio, soften

__all__ = ["chain_portfolio"]

Array = NDArray[np.float64]
Ints = NDArray[np.intp]

# Windows whose regressions are candidates, and windows that they are judged on.
MOST_MODELS, MOST_WINDOWS = 80, 500
# Errors below this share of the variance of the responses are all alike.
LEAST_ERROR = 1e-3
# Rows over which the error of an expert is averaged where a row is assigned.
SPAN = 5


def chain_portfolio(
    init: str, n_init: int | None, data: StartData, chains: Chains, rng: Any
) -> Iterator[Start]:
    """Yield starts from windows, then those of rows as if they were independent.

    Parameters
    ----------
    init, n_init, data, rng : as of `skmoe.em._starts.portfolio`
    chains : Chains
        Of the same rows.
    """
    loose = portfolio(init, n_init, data, rng)
    if init != "auto":
        return loose
    windows = _Windows(data, chains)
    n_random = n_random_starts(data)[0] if n_init is None else (n_init - 2) // 2
    own = chain(windows.clustered(), islice(windows.random(rng), max(n_random, 0)))
    return islice(chain(own, loose), n_init)


class _Windows:
    """Windows of rows in time, of one length, and a regression on each.

    Parameters
    ----------
    data : StartData
    chains : Chains
    """

    def __init__(self, data: StartData, chains: Chains) -> None:
        self.data, self.chains = data, chains
        rows = np.arange(chains.n_rows) if chains.order is None else chains.order
        self.target = data.target[rows]
        ones = np.ones(chains.n_rows)
        self.design = np.column_stack([ones, data.expert_X[rows]])
        self.weight = data.weight[rows]
        lengths = np.diff(np.append(chains.starts, chains.n_rows))
        self.place = np.arange(chains.n_rows) - np.repeat(chains.starts, lengths)

    def clustered(self) -> Iterator[Start]:
        """Yield starts from the best windows, short ones and longer ones."""
        shortest = self.design.shape[1] + 3
        for length in (shortest, 3 * shortest):
            windows = self._cut(length)
            if len(windows) < self.data.n_experts:
                continue
            coef = self._models(_spread(windows, MOST_MODELS))
            loss = self._losses(coef, _spread(windows, MOST_WINDOWS))
            yield self._start(coef[_medoids(loss, self.data.n_experts)])

    def random(self, rng: Any) -> Iterator[Start]:
        """Yield starts from windows at random places."""
        windows = self._cut(self.design.shape[1] + 3)
        while len(windows) >= self.data.n_experts:
            drawn = rng.permutation(len(windows))[: self.data.n_experts]
            yield self._start(self._models([windows[k] for k in drawn]))

    def _cut(self, length: int) -> list[Ints]:
        """Return the rows of each window that lies within a sequence."""
        begins = np.flatnonzero((self.place % length == 0) & (self.weight > 0.0))
        ends = begins + length - 1
        ends_inside = ends < self.place.size
        begins, ends = begins[ends_inside], ends[ends_inside]
        whole = self.place[ends] - self.place[begins] == length - 1
        return [np.arange(begin, begin + length) for begin in begins[whole]]

    def _models(self, windows: list[Ints]) -> Array:
        """Return ridge regressions, (n_windows, n_columns, n_outputs)."""
        rows = np.stack(windows)
        design, target = self.design[rows], self.target[rows]
        gram = np.einsum("wti,wtj->wij", design, design)
        gram += 1e-3 * np.eye(gram.shape[1])
        return np.linalg.solve(gram, np.einsum("wti,wto->wio", design, target))

    def _errors(self, coef: Array) -> Array:
        """Return squared errors of regressions on all rows, (n_models, n_rows)."""
        miss = self.target[None] - self.design[None] @ coef
        return np.asarray(np.einsum("mto,mto->mt", miss, miss))

    def _losses(self, coef: Array, windows: list[Ints]) -> Array:
        """Return the log error of each regression on each window."""
        rows = np.stack(windows)
        miss = self.target[rows][None] - np.einsum(
            "wti,mio->mwto", self.design[rows], coef
        )
        return np.asarray(np.log(LEAST_ERROR + (miss**2).mean(axis=(2, 3))))

    def _start(self, coef: Array) -> Start:
        """Return the start that gives each row to what predicts its time best."""
        error = uniform_filter1d(self._errors(coef), SPAN, axis=1, mode="nearest")
        labels = self.chains.back(error.argmin(axis=0))
        return Start("windows", soften(labels, self.data.n_experts, 0.9))


def _spread(windows: list[Ints], most: int) -> list[Ints]:
    """Return so many of the windows at most, evenly spread."""
    if len(windows) <= most:
        return windows
    return [windows[k] for k in np.linspace(0, len(windows) - 1, most).astype(int)]


def _medoids(loss: Array, n_medoids: int) -> list[int]:
    """Return the rows of a table whose least entry in each column is least in sum.

    Found one after the other, then each is exchanged for a better one while there is.
    """
    chosen: list[int] = []
    least = np.full(loss.shape[1], np.inf)
    for _ in range(n_medoids):
        chosen.append(int(np.minimum(least, loss).sum(axis=1).argmin()))
        least = np.minimum(least, loss[chosen[-1]])
    for k in list(range(n_medoids)) * 4:
        others = loss[[m for i, m in enumerate(chosen) if i != k]].min(
            axis=0, initial=np.inf
        )
        chosen[k] = int(np.minimum(others, loss).sum(axis=1).argmin())
    return chosen
