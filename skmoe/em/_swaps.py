"""Starts that move single experts of a fit."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmoe.em._starts import (
    CONFIDENCE,
    Start,
    StartData,
    centre_error,
    subset_error,
    weighted_draws,
)

__all__ = ["swaps"]

Array = NDArray[np.float64]


def swaps(data: StartData, resp: Array, rng: Any) -> Iterator[Start]:
    """Yield starts that take one expert out of a fit and put it elsewhere.

    The rows of a random expert go to the others; its place is taken by a
    regression on a few random rows (or a centre at a random row), which gets the
    rows that it explains better than average.
    """
    draws = weighted_draws(data, rng)
    turn = 0
    while True:
        victim = int(rng.randint(data.n_experts))
        victim = victim if data.free is None else data.free[victim]
        moved = np.array(resp)
        moved[victim] = 0.0
        moved += 1e-12
        moved[victim] = 0.0
        moved /= moved.sum(axis=0)
        subsets = turn % 2 == 0 and not data.classes
        error = subset_error(data, draws) if subsets else centre_error(data, draws)
        share = 1.0 / data.n_experts if turn % 4 < 2 else 0.5 / data.n_experts
        near = error <= np.quantile(
            error, share, weights=data.weight, method="inverted_cdf"
        )
        moved[:, near] *= 1.0 - CONFIDENCE
        moved[victim, near] = CONFIDENCE
        turn += 1
        yield Start("swap", moved)
