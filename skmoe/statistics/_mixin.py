"""Standard errors and criteria of a fitted mixture: what `summary` is made of."""

import warnings
from numbers import Integral

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from skmoe._training import rows_to_judge
from skmoe._wording import short_repr
from skmoe.em._information import information
from skmoe.em._units import labelled_rows, unit_posterior
from skmoe.exceptions import UnidentifiedWarning
from skmoe.law._levels import check_level
from skmoe.statistics._bootstrap import bootstrap_coefficients
from skmoe.statistics._coefficients import (
    coefficient_blocks,
    first_categories,
    references,
)
from skmoe.statistics._covariance import COVARIANCES, covariance_of, jacobian_of
from skmoe.statistics._summary import ExpertRow, Fit, Summary

__all__ = ["Statistics"]

# Fewer refits say little about a standard deviation.
LEAST_REFITS = 10


class Statistics:
    """The statistical summary of a fitted mixture."""

    def summary(
        self,
        X=None,
        y=None,
        sample_weight=None,
        *,
        covariance="observed",
        level=0.95,
        n_bootstrap=200,
        random_state=None,
        n_jobs=None,
        groups=None,
        offset=None,
        trials=None,
    ):
        """Return coefficients with standard errors, shares and criteria.

        Gate coefficients are log odds against the first expert. All are those of the
        user's columns. With a prior (``alpha > 0``) estimates are shrunk, and their
        standard errors are those of the posterior's mode: for plain maximum likelihood
        set ``alpha=0`` on gate and experts, ``variance_prior=None`` on the latter.

        Parameters
        ----------
        X, y, sample_weight, groups, offset, trials : default=None
            As in ``fit``. X=None: the rows of the fit, which the model remembers until
            it is pickled.
        covariance : {"observed", "opg", "sandwich", "bootstrap"}, default="observed"
            Where standard errors come from: the observed information (Louis 1982); the
            outer product of the scores; both, which holds for a misspecified model too;
            or refits to resampled rows, with percentile intervals.
        level : float, default=0.95
            Of the intervals. Those of variances and the like are made for their logs.
        n_bootstrap : int, default=200
        random_state : int, RandomState instance or None, default=None
            Of the bootstrap.
        n_jobs : int or None, default=None
            Processes of the bootstrap.

        Returns
        -------
        summary : Summary
            Prints as text; with ``to_frame()``, ``to_latex()`` and ``covariance``.

        Raises
        ------
        ValueError
            If an argument is out of range, or the model was unpickled and no rows are
            given.

        Warns
        -----
        UnidentifiedWarning
            If the information is singular: coefficients that the rows do not tell
            have no standard error.

        References
        ----------
        Louis, T. A. (1982). Finding the observed information matrix when using the EM
        algorithm. JRSS B 44.

        White, H. (1982). Maximum likelihood estimation of misspecified models.
        Econometrica 50.
        """
        check_is_fitted(self, "node_")
        level = check_level(level)
        if covariance not in COVARIANCES:
            raise ValueError(
                f"covariance must be one of {list(COVARIANCES)}, got {covariance!r}."
            )
        known = {"offset": offset, "trials": trials}
        rows = rows_to_judge(self, X, y, sample_weight, groups, "summary", known)
        blocks = coefficient_blocks(self)
        found = information(self.node_, *rows)
        draws, lost = None, np.empty(0, dtype=int)
        if covariance == "bootstrap":
            draws = _drawn(self, rows, n_bootstrap, random_state, n_jobs)
            matrix = np.atleast_2d(np.cov(draws.T))
        else:
            jacobian = jacobian_of(blocks, found)
            matrix, identified = covariance_of(found, jacobian, covariance)
            lost = np.flatnonzero(~identified)
        result = Summary(
            **_likelihood(self, rows),
            coefficients=[one for block in blocks for one in block.coefficients],
            estimates=np.concatenate([np.zeros(0), *(b.values for b in blocks)]),
            covariance=matrix,
            kind=covariance,
            level=level,
            draws=draws,
            references=references(self.node_),
            notes=_notes(self, found, rows, covariance),
        )
        if lost.size:
            _warn_of(result, lost)
        return result


def _drawn(model, rows, n_bootstrap, random_state, n_jobs):
    """Return the coefficients of bootstrap refits.

    Raises
    ------
    ValueError
        If too few are asked for or kept all experts, or the experts were not fitted
        by EM.
    """
    if not isinstance(n_bootstrap, Integral) or n_bootstrap < LEAST_REFITS:
        raise ValueError(
            f"n_bootstrap must be an integer of at least {LEAST_REFITS}, got "
            f"{n_bootstrap!r}."
        )
    if model.algorithm == "stack":
        raise ValueError(
            'covariance="bootstrap" refits by EM, which algorithm="stack" does not use.'
        )
    rng = check_random_state(random_state)
    draws = bootstrap_coefficients(model, rows, n_bootstrap, rng, n_jobs)
    if len(draws) < LEAST_REFITS:
        raise ValueError(
            f"only {len(draws)} of {n_bootstrap} bootstrap refits kept all experts: "
            "too few for standard errors. Fit fewer experts."
        )
    return draws


def _likelihood(model, rows):
    """Return how well the model describes the rows, and what the experts share."""
    rows = labelled_rows(*rows)
    resp, log_prob, weight = unit_posterior(model.node_, *rows)
    fit = Fit.of(
        model.n_parameters_,
        resp,
        log_prob,
        weight,
        model=type(model).__name__,
        n_units=weight.size,
        grouped=rows[-1] is not None,
    )
    mass = resp @ weight
    experts = [
        ExpertRow(name, short_repr(expert), float(mass[k]), float(mass[k] / mass.sum()))
        for k, (name, expert) in enumerate(model.node_.experts)
    ]
    return {"fit": fit, "experts": experts}


def _notes(model, found, rows, covariance):
    """Return what has to be said about the numbers."""
    notes = [
        f"{name} is held fixed: {reason}; other standard errors are given it."
        for name, reason in found.fixed.items()
        if covariance != "bootstrap"
    ]
    if abs(model.node_.penalty) > 0 or (found.penalised != found.observed).any():
        notes.append(
            "Priors are on: estimates are shrunk, and p-values are approximate "
            "(alpha=0 and variance_prior=None give maximum likelihood)."
        )
    first = first_categories(model)
    if first:
        notes.append(f"Categories are compared with {', '.join(first)}.")
    if model.algorithm != "em":
        notes.append(
            f'algorithm="{model.algorithm}" does not end at a maximum of the '
            "likelihood: standard errors are those of a fit that does."
        )
    if rows.units is not None and rows.units.balance is not None:
        notes.append("The balance of the experts is not part of the information.")
    if not model.converged_:
        notes.append("EM did not converge: increase max_iter or tol.")
    return notes


def _warn_of(result, lost):
    """Say which coefficients are not identified."""
    names = [result.name_of(j) for j in lost]
    result.notes.append(f"Not identified by the rows: {', '.join(names)}.")
    warnings.warn(
        "the information matrix is singular: the rows do not tell "
        f"{', '.join(names[:8])}{', ...' if len(names) > 8 else ''}. Their standard "
        "errors are NaN; the others hold for what is identified. A small ridge "
        "(alpha > 0) on gate and experts identifies all of them; constant or repeated "
        "columns can be dropped.",
        UnidentifiedWarning,
        stacklevel=3,
    )
