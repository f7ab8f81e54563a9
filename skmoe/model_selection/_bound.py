"""A fitted mixture as the engine sees it, on the rows that it was fitted to."""

import copy
import warnings

import numpy as np
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state

from skmoe._criteria import Evidence
from skmoe._protocols import is_parametric
from skmoe._xp import to_numpy
from skmoe.em._build import responsibilities
from skmoe.em._merge import climbed
from skmoe.em._node import posterior
from skmoe.em._ridge import copy_ridges
from skmoe.em._search import WARM_GATE_STEPS
from skmoe.em._starts import Start
from skmoe.exceptions import CollapsedExpertWarning

__all__ = ["BoundMixture", "GivenStarts", "announce", "single_fit", "started"]


class GivenStarts:
    """A callable for ``init`` that returns one start after the other.

    Parameters
    ----------
    starts : list of arrays of shape (n_experts, n_rows)
        Responsibilities of the rows of positive weight.
    """

    # The gate is taken to the responsibilities before EM begins.
    gate_steps = WARM_GATE_STEPS

    def __init__(self, starts):
        self.starts = starts
        self.turn = 0

    def __call__(self, X, y, n_experts, random_state):
        """Return responsibilities of shape (n_rows, n_experts)."""
        start = self.starts[self.turn % len(self.starts)]
        self.turn += 1
        return start.T


def single_fit(estimator, rows, largest, n_starts):
    """Fit one expert; say how many starts larger fits get.

    Parameters
    ----------
    estimator : mixture
    rows : GivenRows
    largest : int
        The largest number of experts to come.
    n_starts : int
        How many starts suffice where the estimator leaves that open.

    Returns
    -------
    model : fitted mixture
    n_init : int
        As the estimator says; else one where each pass refits every expert.

    Raises
    ------
    ValueError
        If there are fewer rows than the largest number of experts.
    """
    model = rows.fit(clone(estimator).set_params(n_experts=1))
    n_rows = model._training_rows.weight.shape[0]
    if largest > n_rows:
        raise ValueError(
            f"n_samples={n_rows} (rows of positive weight) is fewer than the largest "
            f"n_experts={largest}; give fewer experts, or more rows."
        )
    if estimator.n_init is not None:
        return model, estimator.n_init
    return model, n_starts if is_parametric(model.experts_[0]) else 1


def started(estimator, rows, starts):
    """Fit a clone of an estimator from given starts.

    Parameters
    ----------
    estimator : mixture
    rows : GivenRows
    starts : list of arrays of shape (n_experts, n_rows)

    Returns
    -------
    model : fitted mixture
        With the parameters of the estimator, but for ``n_experts``.
    """
    model = clone(estimator).set_params(
        n_experts=len(starts[0]), init=GivenStarts(starts), n_init=len(starts)
    )
    rows.fit(model)
    return model.set_params(init=estimator.init, n_init=estimator.n_init)


class BoundMixture:
    """A fitted mixture with its training rows.

    Parameters
    ----------
    model : fitted mixture
        That still has its training rows.
    """

    def __init__(self, model):
        self.model = model
        self.fitted_rows = model._training_rows.on_host()
        X, y, weight, self.units = self.fitted_rows
        self.rows = (X, y, weight, model._n_classes())
        self.node = copy.copy(model.node_)
        self.node.units = self.units

    def fresh(self, n_experts):
        """Return a node of unfitted parts with so many experts."""
        rng = check_random_state(self.model.random_state)
        node = self.model._make_node(rng, self.rows[2].size, n_experts)
        node.units = self.units
        return copy_ridges(self.model.node_, node)

    def rebound(self):
        """Return a node that knows the rows again, and its responsibilities.

        Only experts that are refitted have forgotten them: one refit it is.
        """
        resp = responsibilities(self.node, *self.rows[:3])
        if all(is_parametric(expert) for _, expert in self.node.experts):
            return self.node, resp
        node, resp, _ = climbed(
            self.fresh(len(self.node.experts)),
            [Start("fit", resp, WARM_GATE_STEPS)],
            self.rows,
            passes=1,
            acceleration=None,
            exact=False,
        )
        return node, resp

    def evidence(self, node=None):
        """Return what a node says of its size; None: the mixture's own."""
        node = self.node if node is None else node
        return Evidence.at(node, self.fitted_rows)

    def log_prob(self, node):
        """Return the log density of each row under a node, (n_rows,)."""
        return posterior(node.conditional(*self.rows[:2]))[1]

    @property
    def rank(self):
        """Sort key of fits of one size: none collapsed first, then the objective."""
        return (
            not collapsed(self.model),
            float(np.max(to_numpy(self.model.objective_trace_))),
        )


def collapsed(model):
    """Return whether the variance of some expert of a mixture lies at its floor."""
    return any(getattr(expert, "collapsed", False) for expert in model.experts_)


def announce(model):
    """Warn of what is wrong with the fit that was chosen."""
    size = len(model.experts_)
    if not model.converged_:
        warnings.warn(
            f"EM of the chosen mixture of {size} experts did not converge in "
            f"max_iter={model.max_iter} passes; increase max_iter or tol.",
            ConvergenceWarning,
            stacklevel=4,
        )
    if collapsed(model):
        warnings.warn(
            f"in the chosen mixture of {size} experts a variance fell to its floor: "
            "they fit their rows exactly, and the likelihood that the choice is made "
            "by has no maximum. Use a variance_prior, or a smaller n_experts.",
            CollapsedExpertWarning,
            stacklevel=4,
        )
