"""One fit for each number of experts, each also started from its neighbours."""

import time

from sklearn.base import clone
from sklearn.utils.parallel import Parallel, delayed

from skmoe.em._neighbours import merge_starts, split_starts
from skmoe.model_selection._bound import BoundMixture, single_fit, started

__all__ = ["Sweep"]

# Starts of each size, the deterministic kinds, where the estimator leaves their number
# open. What random starts and swaps would find besides is found from the neighbours.
STARTS = 9
# Warm starts that are raced for each size.
FEWEST_WARM, MOST_WARM = 2, 6


class Sweep:
    """Fits of a mixture with several numbers of experts.

    Every size is fitted from starts of its own. Then, from the largest down, from the
    fit with one expert more, of which a pair is merged; and from the smallest up, from
    the fit with one expert fewer, of which one is split. So a maximum that one size has
    missed is found through its neighbours, and where nothing is penalised the
    likelihood rises with the number of experts.

    Parameters
    ----------
    estimator : mixture
    rows : GivenRows
    sizes : list of int
        Rising.
    n_jobs : int or None
        Processes that share the first fits.

    Attributes
    ----------
    models : dict of int to fitted mixture
    seconds : dict of int to float
        What the fits of each size took.
    """

    def __init__(self, estimator, rows, sizes, n_jobs=None):
        self.estimator, self.rows, self.sizes = estimator, rows, sizes
        self.models, self.seconds = {}, {}
        begin = time.perf_counter()
        single, n_init = single_fit(estimator, rows, sizes[-1], STARTS)
        if sizes[0] == 1:
            self._keep(1, single, time.perf_counter() - begin)
        larger = [size for size in sizes if size > 1]
        fits = Parallel(n_jobs=n_jobs)(
            delayed(_timed_fit)(estimator, rows, size, n_init) for size in larger
        )
        for size, (model, seconds) in zip(larger, fits, strict=True):
            # Models come back from a worker without their rows.
            model._training_rows = single._training_rows
            self._keep(size, model, seconds)
        self._n_warm = min(max(n_init, FEWEST_WARM), MOST_WARM)
        for size in reversed(sizes[:-1]):
            self._try(size, size + 1, _shrunk)
        for size in sizes[1:]:
            self._try(size, size - 1, _enlarged)

    def _try(self, size, neighbour, starts_of):
        """Fit one size from starts that its neighbour gives, if it has one."""
        near = self.models.get(neighbour)
        if size == 1 or near is None or len(near.experts_) != neighbour:
            return
        begin = time.perf_counter()
        starts = starts_of(BoundMixture(near), self._n_warm)
        model = started(self.estimator, self.rows, starts)
        self._keep(size, model, time.perf_counter() - begin)

    def _keep(self, size, model, seconds):
        """Keep a fit where it is the best of its size.

        One that has lost experts is also a fit of the size that is left.
        """
        self.seconds[size] = self.seconds.get(size, 0.0) + seconds
        for place in {size, len(model.experts_)} & set(self.sizes):
            best = self.models.get(place)
            if best is None or BoundMixture(model).rank > BoundMixture(best).rank:
                self.models[place] = model


def _timed_fit(estimator, rows, size, n_init):
    begin = time.perf_counter()
    model = clone(estimator).set_params(n_experts=size, n_init=n_init)
    rows.fit(model).set_params(n_init=estimator.n_init)
    return model, time.perf_counter() - begin


def _shrunk(bound, most):
    return merge_starts(*bound.rebound(), bound.rows, most)


def _enlarged(bound, most):
    node, resp = bound.rebound()
    return split_starts(node, resp, bound.log_prob(node), bound.rows, most)
