"""Coefficients of refits to resampled rows."""

import copy
import warnings
from dataclasses import replace

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.parallel import Parallel, delayed

from skmoe._sklearn import few_threads
from skmoe.em._build import responsibilities
from skmoe.em._fit import fit_node
from skmoe.em._search import WARM_GATE_STEPS
from skmoe.em._starts import Start
from skmoe.statistics._coefficients import coefficient_blocks

__all__ = ["bootstrap_coefficients"]


def bootstrap_coefficients(model, rows, n_bootstrap, rng, n_jobs=None):
    """Refit a mixture to rows drawn with replacement.

    Every refit starts from the responsibilities of the fit, so that experts keep
    their numbers. Rows of one group are drawn together.

    Parameters
    ----------
    model : fitted mixture
    rows : FittedRows
    n_bootstrap : int
    rng : RandomState
    n_jobs : int or None

    Returns
    -------
    values : array of shape (n_bootstrap - n_failed, n_coefficients)
        Refits that lost an expert are left out.
    """
    start = copy.copy(model.node_)
    start.units = rows.units
    resp = responsibilities(start, rows.X, rows.y, rows.weight)
    seeds = rng.randint(2**31 - 1, size=n_bootstrap)
    found = Parallel(n_jobs=n_jobs)(
        delayed(_refit)(model, rows, resp, int(seed)) for seed in seeds
    )
    kept = [values for values in found if values is not None]
    return np.array(kept).reshape(len(kept), -1)


def _refit(model, rows, resp, seed):
    """Return the coefficients of one refit; None where an expert was lost."""
    rng = np.random.RandomState(seed)
    index, weight, group = _draw(rows, rng)
    node = copy.deepcopy(model.node_)
    node.units = None
    if rows.units is not None:
        drawn = rows.units.take(index)
        drawn = replace(drawn, group=group)
        node.units = None if drawn.is_plain else drawn
    options = replace(
        model._fit_options(rng, lambda shape=None: copy.deepcopy(node), _Silent()),
        named=True,
        prune=False,
        n_jobs=None,
    )
    start = Start("bootstrap", np.ascontiguousarray(resp[:, index]), WARM_GATE_STEPS)
    drawn = rows.X[index], rows.y[index], weight, model._n_classes()
    with warnings.catch_warnings(), few_threads(weight.size):
        warnings.simplefilter("ignore", ConvergenceWarning)
        node, _, best = fit_node(node, *drawn, options, [start])
    if best.degenerate or len(node.experts) != len(model.node_.experts):
        return None
    node.forget()  # refitted estimators say only then what they are
    blocks = coefficient_blocks(model, node)
    return np.concatenate([np.zeros(0), *(block.values for block in blocks)])


class _Silent:
    """In place of a reporter: bootstrap refits call nobody."""

    @staticmethod
    def hook(problem, node):
        return None


def _draw(rows, rng):
    """Draw as many rows, or groups, as there are.

    Returns
    -------
    index : array of int
        Positions of the rows that were drawn.
    weight : array of shape (n_drawn,)
        Of each; a row that was drawn twice weighs double.
    group : array of int of shape (n_drawn,), or None
    """
    n_rows = rows.weight.size
    if rows.units is not None and rows.units.group is not None:
        members = _members(rows.units.group)
        drawn = [members[g] for g in rng.randint(len(members), size=len(members))]
        index = np.concatenate(drawn)
        group = np.repeat(np.arange(len(drawn)), [one.size for one in drawn])
        return index, rows.weight[index], group
    total = rows.weight.sum()
    # A row of weight w is w rows; other weights say what a row is worth.
    whole = (rows.weight == np.floor(rows.weight)).all()
    n_draws = int(total) if whole else n_rows
    count = rng.multinomial(n_draws, rows.weight / total)
    index = np.flatnonzero(count)
    return index, count[index] * (total / n_draws), None


def _members(group):
    """Return the rows of each group."""
    order = np.argsort(group, kind="stable")
    ends = np.flatnonzero(np.diff(group[order])) + 1
    return np.split(order, ends)
