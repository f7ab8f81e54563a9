"""One fit with too many experts, and the path of its merges."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone

from skmoe.em._merge import merge_path
from skmoe.model_selection._bound import BoundMixture, single_fit, started
from skmoe.model_selection._dendrogram import Dendrogram

__all__ = ["MergedPath"]

# The first fit has experts to spare: it need not be the best one.
FIRST_STARTS, FIRST_TOL = 4, 1e-5


@dataclass
class MergedPath:
    """What came of merging.

    Attributes
    ----------
    model : fitted mixture
        Of the best size, by EM from the merged responsibilities.
    dendrogram : Dendrogram
    evidences : dict of int to Evidence
        Of each size that was asked for, on the path.
    seconds : float
    """

    model: Any
    dendrogram: Dendrogram
    evidences: dict
    seconds: float

    @classmethod
    def of(cls, estimator, rows, sizes):
        """Fit with the largest size, merge down to one expert, choose and refit.

        The criterion is BIC along the path.

        Parameters
        ----------
        estimator : mixture
        rows : GivenRows
        sizes : list of int
            Rising.
        """
        begin = time.perf_counter()
        bound = BoundMixture(_spare_fit(estimator, rows, sizes[-1]))
        algorithm = estimator.algorithm
        levels = merge_path(
            bound.node,
            bound.rows,
            bound.fresh,
            acceleration=estimator.acceleration if algorithm == "em" else None,
            exact=algorithm != "sem",
        )
        evidences = [bound.evidence(level.node) for level in levels]
        # Where the first fit lost so many experts that none of the sizes is left, all
        # that is left is open.
        asked = [e for e in evidences if e.n_experts in sizes] or evidences
        best = min(asked[::-1], key=lambda evidence: evidence.bic).n_experts
        resp = next(lv.resp for lv in levels if len(lv.resp) == best)
        model = started(estimator, rows, [resp])
        return cls(
            model,
            _dendrogram(levels, evidences, best, bound.rows[2]),
            {e.n_experts: e for e in asked[::-1]},
            time.perf_counter() - begin,
        )


def _spare_fit(estimator, rows, size):
    """Fit the largest number of experts, without much of a search."""
    _, n_init = single_fit(estimator, rows, size, FIRST_STARTS)
    tol = max(estimator.tol, FIRST_TOL)
    spare = clone(estimator).set_params(n_experts=size, n_init=n_init, tol=tol)
    return rows.fit(spare)


def _dendrogram(levels, evidences, best, weight):
    """Return the dendrogram of a path."""
    n_leaves = len(levels[0].resp)
    clusters = list(range(n_leaves))
    leaves = dict.fromkeys(clusters, 1)
    linkage = np.empty((n_leaves - 1, 4))
    heights = np.array([level.cost for level in levels[1:]])
    for m, level in enumerate(levels[1:]):
        first, second = level.pair
        pair = sorted((clusters[first], clusters[second]))
        leaves[n_leaves + m] = leaves[pair[0]] + leaves[pair[1]]
        clusters[first] = n_leaves + m
        del clusters[second]
        linkage[m] = [*pair, 0.0, leaves[n_leaves + m]]
    linkage[:, 2] = np.maximum.accumulate(np.maximum(heights, 0.0))
    return Dendrogram(
        linkage=linkage,
        heights=heights,
        n_experts=np.array([e.n_experts for e in evidences]),
        log_likelihood=np.array([e.log_likelihood for e in evidences]),
        n_parameters=np.array([e.n_parameters for e in evidences]),
        criterion=np.array([e.bic for e in evidences]),
        best_n_experts=best,
        shares=levels[0].resp @ weight / weight.sum(),
    )
