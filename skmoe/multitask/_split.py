"""Folds in which each task has its share of each class."""

import warnings
from numbers import Integral

import numpy as np
from sklearn.model_selection import BaseCrossValidator
from sklearn.utils import check_random_state

from skmoe.multitask._labels import MOST_CLASSES, distinct, is_text
from skmoe.multitask._targets import read_targets

__all__ = ["MultiTaskStratifiedKFold"]


class MultiTaskStratifiedKFold(BaseCrossValidator):
    """Split rows into folds that hold alike shares of the classes of all tasks.

    Iterative stratification, the rarest class first: each of its rows goes to the
    fold that lacks most of that class; among equals, to the one that lacks most of
    the row's other classes, then of rows. Rows with the same labels in all tasks are
    dealt out together, and only what is left over from even shares is placed one by
    one. A class with at least `n_splits` members is so in every fold, unless classes
    of other tasks that are rarer still claim its rows.

    Columns of text, booleans and whole numbers of at most 20 distinct values are
    stratified. Of other columns, such as amounts, only where their labels are
    missing counts. Missing labels are no class: rows without any fill the folds up.
    A class of fewer members than folds is warned of, unless it may be a large count:
    a whole number among more than two.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds, at least 2.
    shuffle : bool, default=False
        Whether rows with the same labels are put in random order before they are
        dealt out; without it the split is a function of y alone.
    random_state : int, RandomState instance or None, default=None
        For `shuffle` only.

    References
    ----------
    Sechidis, K., Tsoumakas, G. and Vlahavas, I. (2011). On the stratification of
    multi-label data. ECML PKDD, algorithm 1.
    """

    def __init__(self, n_splits=5, *, shuffle=False, random_state=None):
        self.n_splits = n_splits
        self.shuffle = shuffle
        self.random_state = random_state

    def get_n_splits(self, X=None, y=None, groups=None):
        """Return the number of folds; the arguments are ignored."""
        return self.n_splits

    def split(self, X, y, groups=None):
        """Yield the rows to train on and those to test on, for each fold.

        Parameters
        ----------
        X : array-like or data frame
            Not looked at.
        y : array-like of shape (n_samples,) or (n_samples, n_tasks), frame or dict
            NaN or None where a label is missing.
        groups : None
            Not supported, ignored.

        Yields
        ------
        train, test : arrays of int
            Numbers of rows, sorted.

        Raises
        ------
        ValueError
            If `n_splits` is not an integer from 2 to the number of rows, or
            `random_state` is given without `shuffle`.
        """
        targets = read_targets(y)
        self._check(len(targets))
        codes = _class_codes(targets)
        self._warn_of_rare(targets, codes)
        rng = check_random_state(self.random_state) if self.shuffle else None
        fold = deal(codes, np.full(self.n_splits, 1.0 / self.n_splits), rng)
        for j in range(self.n_splits):
            yield np.flatnonzero(fold != j), np.flatnonzero(fold == j)

    def _check(self, n_samples):
        n_splits = self.n_splits
        whole = isinstance(n_splits, Integral) and not isinstance(n_splits, bool)
        if not whole or n_splits < 2:
            raise ValueError(f"n_splits must be an integer >= 2, got {n_splits!r}.")
        if n_splits > n_samples:
            raise ValueError(
                f"Cannot have number of splits n_splits={n_splits} greater than the "
                f"number of samples: n_samples={n_samples}."
            )
        if not self.shuffle and self.random_state is not None:
            raise ValueError(
                "random_state has no effect since shuffle is False: leave it out, or "
                f"set shuffle=True, got random_state={self.random_state!r}."
            )

    def _warn_of_rare(self, targets, codes):
        for t, name in enumerate(targets.names):
            known = codes[codes[:, t] >= 0, t]
            size = np.bincount(known) if len(known) else np.zeros(1, dtype=int)
            # Whole numbers of more values may be counts, where the large are rare.
            counts = len(size) > 2 and not is_text(targets.values[t])
            if size.min() < self.n_splits and not counts:
                warnings.warn(
                    f"The least populated class of task {name!r} has only {size.min()} "
                    f"members, which is less than n_splits={self.n_splits}.",
                    UserWarning,
                    stacklevel=3,
                )


def _class_codes(targets):
    """Return the class of each label, -1 for none, of shape (n_samples, n_tasks)."""
    codes = np.full((len(targets), len(targets.names)), -1)
    for t, values in enumerate(targets.values):
        known = targets.labelled[t]
        labels = values[known]
        if labels.dtype.kind == "O":
            place = {label: i for i, label in enumerate(distinct(labels).tolist())}
            codes[known, t] = [place[label] for label in labels.tolist()]
            continue
        found, inverse = np.unique(labels, return_inverse=True)
        many = len(found) > MOST_CLASSES and not is_text(labels)
        broken = labels.dtype.kind == "f" and (found != np.floor(found)).any()
        codes[known, t] = 0 if many or broken else inverse
    return codes


def deal(codes, share, rng=None):
    """Deal rows out, so that all classes are spread by the shares.

    Parameters
    ----------
    codes : array of int of shape (n_samples, n_tasks)
        Class of each label, -1 where there is none.
    share : array of shape (n_folds,)
        Of the rows; sums to 1.
    rng : RandomState, optional
        Puts rows with the same labels in random order.

    Returns
    -------
    fold : array of int of shape (n_samples,)
    """
    pattern, group, size = np.unique(
        codes, axis=0, return_inverse=True, return_counts=True
    )
    group = group.ravel()
    dealt = np.floor(size[:, None] * share + 1e-9).astype(int)
    _deal_rest(pattern, size - dealt.sum(axis=1), dealt, share)
    order = np.arange(len(group)) if rng is None else rng.permutation(len(group))
    order = order[np.argsort(group[order], kind="stable")]
    fold = np.empty(len(group), dtype=int)
    n_folds = len(share)
    fold[order] = np.repeat(np.tile(np.arange(n_folds), len(size)), dealt.ravel())
    return fold


def _deal_rest(pattern, rest, dealt, share):
    """Place the rows that even shares leave over, class by class; fill `dealt`."""
    # A row of classes: one for each class of each task, and one for all rows.
    width = np.maximum(pattern.max(axis=0) + 1, 0)
    start = np.concatenate([[0], np.cumsum(width)])
    everyone = start[-1]
    place = np.where(pattern >= 0, pattern + start[:-1], -1)
    size = rest + dealt.sum(axis=1)
    total, lacking = np.zeros(everyone + 1), np.zeros((everyone + 1, len(share)))
    columns = [*place.T, np.full(len(pattern), everyone)]
    for column in columns:
        known = column >= 0
        np.add.at(total, column[known], size[known])
        np.add.at(lacking, column[known], -dealt[known])
    lacking += total[:, None] * share
    members = _members(columns[:-1], rest)
    for label in [*np.argsort(total[:-1], kind="stable"), everyone]:
        groups = members.get(label, ()) if label < everyone else np.flatnonzero(rest)
        for i in groups:
            mine = place[i][place[i] >= 0]
            for _ in range(rest[i]):
                j = _neediest(label, mine, lacking, total)
                dealt[i, j] += 1
                lacking[mine, j] -= 1.0
                lacking[everyone, j] -= 1.0
            rest[i] = 0


def _members(columns, rest):
    """Return the groups of rows left over of each class."""
    members = {}
    for column in columns:
        for i in np.flatnonzero((column >= 0) & (rest > 0)):
            members.setdefault(column[i], []).append(i)
    return members


def _neediest(label, mine, lacking, total):
    """Return the fold that lacks most of a class, and then of others of a row."""
    # What is missing of a rare class weighs more than as much of a common one.
    others = (lacking[mine] / total[mine, None]).sum(axis=0)
    keys = np.round([lacking[-1], others, lacking[label]], 9)
    return np.lexsort(-keys)[0]
