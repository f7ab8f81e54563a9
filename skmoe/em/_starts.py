"""Starting responsibilities: the kinds of start and their portfolio.

Every kind is a deterministic function of the weighted data and of a seed: what
is random is drawn by weight along an order that the rows' contents fix, so that
a row of weight two and the same row given twice start EM alike.
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from skmoe._sklearn import one_openmp_thread
from skmoe._tree import Tree
from skmoe.em._chains import Chains
from skmoe.em._segments import Segmenter

__all__ = [
    "CONFIDENCE",
    "KINDS",
    "SHARP_GATE_STEPS",
    "Start",
    "StartData",
    "centre_error",
    "gaussian_start",
    "hardened",
    "kmeans_labels",
    "n_random_starts",
    "portfolio",
    "segments_start",
    "soften",
    "subset_error",
    "weighted_draws",
]

Array = NDArray[np.float64]
Ints = NDArray[np.intp]
Draws = Callable[[int], Ints]

# Responsibility of the assigned expert in a start from labels; the rest is
# shared, so that no expert begins with rows that it fits exactly.
CONFIDENCE = 0.95
SHARP_GATE_STEPS = 10


@dataclass
class Start:
    """A named start.

    Attributes
    ----------
    name : str
    resp : array of shape (n_experts, n_samples)
    gate_steps : int
        Steps of the gate towards the responsibilities before EM begins; many
        where the boundaries are meant to be sharp.
    gate_parameters : array or None
        Of a gate of the same kind that has those responsibilities already: it is
        taken over, without steps. For fused nodes.
    """

    name: str
    resp: Array
    gate_steps: int = 1
    gate_parameters: Array | None = None


@dataclass
class StartData:
    """What starts are made from: standardised columns and responses.

    Attributes
    ----------
    gate_X, expert_X : arrays of shape (n_samples, n_features)
        Standardised, without intercept.
    target : array of shape (n_samples, n_outputs)
        Standardised responses, or centred indicators of classes.
    weight : array of shape (n_samples,)
    n_experts : int
    indicators : array of shape (n_samples, n_classes) or None
        Indicators of classes, not standardised; None for a regression.
    constant_gate : bool
        Whether the gate does not depend on x: clusters then need y.
    variance_prior : tuple (rows, fraction)
    tree : Tree or None
        The shape of the gates, where they are more than one.
    free : list of int or None
        The experts that starts are for, where others have a fixed law.
    effort, budget : float
        How much is tried; see `n_random_starts`.
    chains : Chains or None
        Which rows follow each other, where some do.
    """

    gate_X: Array
    expert_X: Array
    target: Array
    weight: Array
    n_experts: int
    indicators: Array | None = None
    constant_gate: bool = False
    variance_prior: tuple[float, float] = (0.0, 0.0)
    tree: Tree | None = None
    free: list[int] | None = None
    effort: float = 1.0
    budget: float = 160_000.0
    chains: Chains | None = None
    # Responsibilities of a few passes of EM with Gaussian gates, from labels.
    gaussian: Callable[[Array], Array] | None = None

    @property
    def classes(self) -> bool:
        """Whether the responses are classes."""
        return self.indicators is not None

    @property
    def segmenter(self) -> Segmenter:
        """The search for contiguous segments on these data."""
        total = float(self.weight.sum())
        width = self.expert_X.shape[1] + 2.0
        least = max(2.0, min(width, 0.02 * total))
        return Segmenter(
            self.gate_X,
            self.expert_X,
            self.target if self.indicators is None else self.indicators,
            self.weight,
            classes=self.classes,
            min_mass=min(least, total / (2.0 * self.n_experts)),
            prior=self.variance_prior,
        )


def soften(labels: Ints, n_experts: int, confidence: float = CONFIDENCE) -> Array:
    """Return responsibilities of shape (n_experts, n_samples) from labels."""
    if n_experts == 1:
        return np.ones((1, labels.size))
    resp = np.full((n_experts, labels.size), (1.0 - confidence) / (n_experts - 1))
    resp[labels, np.arange(labels.size)] = confidence
    return resp


def hardened(resp: Array) -> Array:
    """Give each row wholly to its most probable expert."""
    out = np.zeros_like(resp)
    out[resp.argmax(axis=0), np.arange(resp.shape[1])] = 1.0
    return out


def kmeans_labels(points: Array, weight: Array, n_clusters: int) -> Ints:
    """Return labels of weighted k-means from principal-direction centres."""
    centres = _principal_centres(points, weight, n_clusters)
    with warnings.catch_warnings(), one_openmp_thread():
        warnings.simplefilter("ignore", ConvergenceWarning)
        # tol=0: scikit-learn's tolerance looks at unweighted variances.
        model = KMeans(n_clusters, init=centres, n_init=1, tol=0.0, max_iter=30)
        model.fit(points, sample_weight=weight)
    return np.asarray(model.labels_, dtype=np.intp)


def _principal_centres(points: Array, weight: Array, n_clusters: int) -> Array:
    """Split the widest cluster along its principal axis until there are enough.

    Su, T. and Dy, J. (2007). In search of deterministic methods for
    initializing k-means. Intelligent Data Analysis 11.
    """
    labels = np.zeros(points.shape[0], dtype=np.intp)
    for new in range(1, n_clusters):
        spread = [_principal_axis(points, weight, labels == k) for k in range(new)]
        widest = max(range(new), key=lambda k: spread[k][0])
        _, axis, mean = spread[widest]
        side = (points - mean) @ axis > 0
        labels[(labels == widest) & side] = new
    centres = np.empty((n_clusters, points.shape[1]))
    for k in range(n_clusters):
        mask = labels == k
        if not mask.any():  # fewer distinct points than clusters
            centres[k] = centres[0] + k * 1e-6
            continue
        centres[k] = weight[mask] @ points[mask] / weight[mask].sum()
    return centres


def _principal_axis(
    points: Array, weight: Array, mask: NDArray[np.bool_]
) -> tuple[float, Array, Array]:
    if not mask.any():
        return -1.0, np.zeros(points.shape[1]), np.zeros(points.shape[1])
    part, w = points[mask], weight[mask]
    mean = w @ part / w.sum()
    error = part - mean
    covariance = (error * w[:, None]).T @ error
    axis = np.linalg.eigh(covariance)[1][:, -1]
    # eigh leaves the sign open; fix it so that labels do not depend on it.
    axis = axis * np.sign(axis[np.abs(axis).argmax()])
    return float(np.trace(covariance)), axis, mean


def kmeans_start(data: StartData, rng: Any) -> Iterator[Start]:
    """Cluster the gate's columns (and y, where the gate sees no x)."""
    if data.constant_gate:
        yield from kmeans_y_start(data, rng)
        return
    labels = kmeans_labels(data.gate_X, data.weight, data.n_experts)
    yield Start("kmeans", soften(labels, data.n_experts))


def kmeans_y_start(data: StartData, rng: Any) -> Iterator[Start]:
    """Cluster the gate's columns and y, which weighs as much as all of them."""
    columns = data.expert_X if data.constant_gate else data.gate_X
    scale = np.sqrt(max(columns.shape[1], 1) / data.target.shape[1])
    points = np.hstack([columns, data.target * scale])
    labels = kmeans_labels(points, data.weight, data.n_experts)
    yield Start("kmeans_y", soften(labels, data.n_experts))


def segments_start(data: StartData, rng: Any) -> Iterator[Start]:
    """Cut the best columns into contiguous segments, with soft and sharp gates."""
    for labels in [cut[1] for cut in data.segmenter.segment_labels(data.n_experts)][:2]:
        yield Start("segments", soften(labels, data.n_experts))
        if not data.constant_gate:
            resp = soften(labels, data.n_experts, 1.0)
            yield Start("segments_sharp", resp, SHARP_GATE_STEPS)


def tree_start(data: StartData, rng: Any) -> Iterator[Start]:
    """Grow a model tree of n_experts leaves."""
    labels = data.segmenter.tree_labels(data.n_experts)
    if labels is None:
        return
    yield Start("tree", soften(labels, data.n_experts))
    if not data.constant_gate:
        resp = soften(labels, data.n_experts, 1.0)
        yield Start("tree_sharp", resp, SHARP_GATE_STEPS)


def gaussian_start(data: StartData, rng: Any) -> Iterator[Start]:
    """Run a few passes of EM with Gaussian gates, whose M-step is closed."""
    if data.gaussian is None:
        yield from kmeans_start(data, rng)
        return
    labels = kmeans_labels(data.gate_X, data.weight, data.n_experts)
    yield Start("gaussian", data.gaussian(soften(labels, data.n_experts)))


def random_start(data: StartData, rng: Any) -> Iterator[Start]:
    """Fit experts to random small subsets, or centres to random rows, in turn."""
    draws = weighted_draws(data, rng)
    turn = 0
    while True:
        if turn % 2 == 0 and not data.classes:
            yield Start("random_subsets", _subset_resp(data, draws))
        else:
            yield Start("random_centres", _centre_resp(data, draws))
        turn += 1


def weighted_draws(data: StartData, rng: Any) -> Draws:
    """Return a function that draws rows by weight in an order set by content."""
    points = np.hstack([data.gate_X, data.expert_X, data.target])
    key = points @ rng.standard_normal(points.shape[1])
    order = np.argsort(key, kind="stable")
    cumulative = np.cumsum(data.weight[order])

    def draw(size: int) -> Ints:
        level = rng.random_sample(size) * cumulative[-1]
        position = np.searchsorted(cumulative, level, side="right")
        return np.asarray(order[np.minimum(position, order.size - 1)])

    return draw


def _subset_resp(data: StartData, draws: Draws) -> Array:
    """Assign rows to the best of K regressions on a few random rows each."""
    error = np.stack([subset_error(data, draws) for _ in range(data.n_experts)])
    return soften(error.argmin(axis=0), data.n_experts, 0.9)


def _centre_resp(data: StartData, draws: Draws) -> Array:
    """Assign rows to the nearest of K random rows, in x and y."""
    points = np.hstack([data.gate_X, data.target])
    centres = points[draws(data.n_experts)]
    distance = (centres**2).sum(axis=1)[:, None] - 2.0 * centres @ points.T
    return soften(distance.argmin(axis=0), data.n_experts, 0.9)


def subset_error(data: StartData, draws: Draws) -> Array:
    """Return squared errors of one regression on a few random rows."""
    n, p = data.expert_X.shape
    rows = draws(p + 3)
    design = np.column_stack([np.ones(n), data.expert_X])
    gram = design[rows].T @ design[rows]
    gram[np.diag_indices(p + 1)] += 1e-3
    coef = np.linalg.solve(gram, design[rows].T @ data.target[rows])
    return np.asarray(((data.target - design @ coef) ** 2).sum(axis=1))


def centre_error(data: StartData, draws: Draws) -> Array:
    """Return squared distances from one random row, in x and y."""
    points = np.hstack([data.gate_X, data.target])
    return np.asarray(((points - points[draws(1)[0]]) ** 2).sum(axis=1))


Kind = Callable[[StartData, Any], Iterator[Start]]
KINDS: dict[str, Kind] = {
    "gaussian": gaussian_start,
    "kmeans": kmeans_start,
    "random": random_start,
    "segments": segments_start,
    "tree": tree_start,
}


def portfolio(
    init: str, n_init: int | None, data: StartData, rng: Any
) -> Iterator[Start]:
    """Yield the starts that a constructor's init and n_init ask for.

    Parameters
    ----------
    init : str
        "auto" for every kind, or one kind.
    n_init : int or None
        Number of starts; random ones fill up. None: all deterministic starts,
        and more random ones where rows are few and passes cheap.
    data : StartData
    rng : numpy.random.RandomState
    """
    count = 0
    if init == "auto":
        kinds: list[Kind] = [
            kmeans_start,
            segments_start,
            kmeans_y_start,
            tree_start,
        ]
        if data.gaussian is not None:
            kinds.append(gaussian_start)
    else:
        kinds = [KINDS[init]] if init != "random" else []
    if n_init is None:
        n_random = n_random_starts(data)[0] if init == "auto" else 0
        n_random = 10 if init == "random" else n_random
    else:
        n_random = n_init
    for kind in kinds:
        for start in kind(data, rng):
            if n_init is not None and count >= n_init:
                return
            count += 1
            yield start
    if n_init is not None:
        n_random = n_init - count
    elif count + n_random == 0:
        n_random = 1  # no column can be cut: one random start instead
    for _, start in zip(range(n_random), random_start(data, rng), strict=False):
        yield start


def n_random_starts(data: StartData) -> tuple[int, int]:
    """Return how many random starts, and how many swaps, a fit makes by default.

    A pass costs about rows * n_experts * n_columns; where that is little,
    a thorough search fits into the time of a few long runs on larger data.
    """
    rows = float(data.weight.sum())  # not their number: weights are repetitions
    cost = rows * data.n_experts * (data.expert_X.shape[1] + 1)
    affordable = data.budget / max(cost, 1e-300)
    if data.indicators is not None:
        # A pass of logistic experts costs several times as much, and their
        # likelihood, which is bounded, has fewer maxima to lose one's way in.
        affordable = min(affordable / data.indicators.shape[1], 20.0)
    n_random = int(np.clip(affordable, 4, 30) * data.effort)
    return n_random, int(np.clip(affordable - 4, 0, 40) * data.effort)
