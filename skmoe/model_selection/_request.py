"""What a choice is made on and among: rows, folds, numbers of experts."""

from numbers import Integral

import numpy as np
from sklearn.base import is_classifier
from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold, check_cv

from skmoe._sklearn import safe_indexing
from skmoe._tree_arguments import holds_mixture
from skmoe._xp import to_numpy
from skmoe.sequence._base import BaseMarkovMixture

__all__ = ["GivenRows", "check_estimator", "check_sizes", "make_folds"]

LEAST_SIZES_OF_SLOPE = 5


class GivenRows:
    """The arguments of ``fit``, of which rows can be taken.

    Parameters
    ----------
    X, y : as the user gave them
    sample_weight : array-like of shape (n_samples,) or None
    beside : dict of str to array-like or None
        ``groups``, ``offset``, ``trials``.
    fit_params : dict
    """

    def __init__(self, X, y, sample_weight, beside, fit_params):
        self.X, self.y, self.sample_weight = X, y, sample_weight
        self.beside = {k: some for k, some in beside.items() if some is not None}
        self.fit_params = fit_params

    def fit(self, model):
        """Fit a mixture to these rows; return it."""
        weight = self.sample_weight
        weighted = {} if weight is None else {"sample_weight": weight}
        return model.fit(self.X, self.y, **weighted, **self.beside, **self.fit_params)

    def __len__(self):
        return len(to_numpy(self.y))

    @property
    def positive(self):
        """Numbers of the rows of positive weight."""
        if self.sample_weight is None:
            return np.arange(len(self))
        return np.flatnonzero(np.asarray(to_numpy(self.sample_weight)) > 0)

    def take(self, rows):
        """Return the same for some of the rows."""

        def some(values):
            return None if values is None else safe_indexing(values, rows)

        params = {
            key: some(value) if np.ndim(value) and len(value) == len(self) else value
            for key, value in self.fit_params.items()
        }
        beside = {key: some(value) for key, value in self.beside.items()}
        return GivenRows(
            some(self.X), some(self.y), some(self.sample_weight), beside, params
        )

    def log_score(self, model):
        """Return the mean log density under a fitted mixture, in nats.

        Rows without a response do not count; of groups it is the mean over groups.
        """
        labelled = model._split_labelled(np.asarray(to_numpy(self.y)))[1]
        rows = self if labelled is None else self.take(np.flatnonzero(labelled))
        evidence = model._evidence(
            rows.X, rows.y, rows.sample_weight, "log_likelihood", **rows.beside
        )
        return evidence.log_likelihood / evidence.total


def check_estimator(estimator):
    """Raise an error unless the number of experts of an estimator can be chosen.

    Raises
    ------
    TypeError
        If it is no mixture with a parameter ``n_experts``.
    ValueError
        If its experts or its starts fix their number, or it is a stack.
    """
    name = type(estimator).__name__
    if "n_experts" not in estimator.get_params(deep=False):
        advice = "Give a flat mixture, such as MixtureOfExpertsRegressor()."
        if "branching" in estimator.get_params(deep=False):
            advice = (
                "The leaves of a hierarchy are chosen as it grows: set "
                "grow='posterior' and grow_until='bic' or 'holdout'."
            )
        elif hasattr(estimator, "steps"):
            advice = "Put the search in the Pipeline, as its last step."
        raise TypeError(f"{name} has no parameter n_experts to choose. {advice}")
    if isinstance(estimator, BaseMarkovMixture):
        raise TypeError(
            f"{name}: rows in time are not exchangeable, and sizes do not begin from "
            "each other's. Use GridSearchCV over n_experts, with cv=TimeSeriesSplit() "
            "and scoring=skmoe.sequence.one_step_log_score."
        )
    experts = estimator.experts
    if isinstance(experts, (list, tuple)):
        raise ValueError(
            f"experts is a list of {len(experts)}, which fixes their number; give one "
            "estimator, which is cloned."
        )
    if holds_mixture(experts):
        raise ValueError(
            "experts is itself a mixture, so that n_experts is not the number of "
            "experts; give a simple estimator, or a hierarchy that grows."
        )
    if estimator.algorithm == "stack":
        raise ValueError(
            "algorithm='stack' fits every expert to all rows: clones of one estimator "
            "would all be the same. Use algorithm='em'."
        )
    if not (isinstance(estimator.init, str) or callable(estimator.init)):
        raise ValueError(
            "init is an array, which fixes the number of experts; give the name of a "
            "kind of start, such as 'auto', or a callable."
        )


def check_sizes(n_experts, method):
    """Return the numbers of experts to choose among, rising.

    Parameters
    ----------
    n_experts : int or iterable of int
        The largest one, or all of them.
    method : str

    Raises
    ------
    ValueError
        If there are none, or too few for the method, or one is below 1.
    TypeError
        If one is no integer.
    """
    if isinstance(n_experts, Integral) and not isinstance(n_experts, bool):
        if n_experts < 1:
            raise ValueError(f"n_experts must be at least 1, got {n_experts}.")
        n_experts = range(1, n_experts + 1)
    try:
        sizes = list(n_experts)
    except TypeError:
        sizes = [n_experts]
    wrong = [k for k in sizes if not isinstance(k, Integral) or isinstance(k, bool)]
    if wrong:
        raise TypeError(
            "n_experts must be the largest number of experts, or a range of integers, "
            f"got {wrong[0]!r}."
        )
    if not sizes:
        raise ValueError(
            f"n_experts={n_experts!r} is empty: there is nothing to choose from. Give "
            "the largest number, or a range such as range(1, 9)."
        )
    sizes = sorted({int(k) for k in sizes})
    if sizes[0] < 1:
        raise ValueError(f"n_experts must be at least 1, got {sizes[0]}.")
    if method == "slope" and len(sizes) < LEAST_SIZES_OF_SLOPE:
        raise ValueError(
            f"method='slope' fits a line to the largest models: give at least "
            f"{LEAST_SIZES_OF_SLOPE} numbers of experts, got {sizes}."
        )
    return sizes


def make_folds(cv, estimator, rows, rng):
    """Return (train, test) row numbers of each fold.

    Folds of an integer ``cv`` are shuffled: in tables sorted by time or place, regimes
    lie in one piece. Groups stay together, classes are spread evenly.

    Raises
    ------
    ValueError
        If there are fewer rows, or groups, than folds.
    """
    positive = rows.positive
    kept = rows.take(positive)
    y, groups = np.asarray(to_numpy(kept.y)), kept.beside.get("groups")
    if isinstance(cv, Integral):
        kind = "rows" if groups is None else "groups"
        n_units = positive.size if groups is None else len(np.unique(groups))
        if n_units < cv:
            raise ValueError(
                f"cv={cv} folds need at least as many {kind}, got {n_units}; ask for "
                "fewer folds, or use method='bic'."
            )
        splitter_class = GroupKFold if groups is not None else KFold
        if groups is None and is_classifier(estimator):
            splitter_class = StratifiedKFold
        seed = int(rng.randint(np.iinfo(np.int32).max))
        splitter = splitter_class(int(cv), shuffle=True, random_state=seed)
    else:
        splitter = check_cv(cv, y, classifier=is_classifier(estimator))
    folds = splitter.split(np.zeros((y.shape[0], 1)), y, groups)
    return [(positive[train], positive[test]) for train, test in folds]
