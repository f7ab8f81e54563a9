"""Emissions of hidden Markov models, normal or categorical, and their priors.

Each kind is a class of hmmlearn, whose emission densities, statistics and M-steps are
used through the hooks that it documents for new emissions.
"""

import copy
from dataclasses import dataclass

import numpy as np
from hmmlearn.hmm import CategoricalHMM, GaussianHMM

__all__ = ["Settings", "in_own_unit"]

# A state without rows goes to the middle of them; the others do not notice.
MEAN_WEIGHT = 1e-6
# What keeps counts and variances positive where there is no prior, in rows.
FLOOR = 1e-10


class SumsFromOutside:
    """Starts and moves come summed over weighted sequences, not one by one."""

    def _accumulate_sufficient_statistics_log(
        self, stats, X, lattice, posteriors, fwdlattice, bwdlattice
    ):
        # Without a lattice they are in the statistics already.
        if lattice is not None:
            super()._accumulate_sufficient_statistics_log(
                stats, X, lattice, posteriors, fwdlattice, bwdlattice
            )


class WeightedGaussianHMM(SumsFromOutside, GaussianHMM):
    """Normal emissions, with conjugate priors on means and covariances."""

    def shrink(self, settings, anchor, strength):
        """Set the priors of the emissions; see `Settings.with_priors`."""
        full, n_features = self.covariance_type == "full", self.n_features
        rows = settings.prior_rows * settings.unit
        spread = rows * settings.prior_fraction + FLOOR * settings.unit
        # Without a prior a state that has no rows keeps the variance of all rows.
        mass = rows if rows > 0 else FLOOR * settings.unit
        self.covars_prior = spread * (np.eye(n_features) if full else 1.0)
        self.means_prior, self.means_weight = 0.0, MEAN_WEIGHT * settings.unit
        if strength > 0:
            mass = mass + strength
            self.means_prior, self.means_weight = anchor.means_, strength
            self.covars_prior = self.covars_prior + strength * anchor._covars_
        # hmmlearn takes these off again.
        self.covars_weight = mass + (n_features if full else 1)


class WeightedCategoricalHMM(SumsFromOutside, CategoricalHMM):
    """Symbols 0, 1, ... as emissions, held as floats, with a Dirichlet prior."""

    def _compute_likelihood(self, X):
        return super()._compute_likelihood(X.astype(int))

    def _accumulate_sufficient_statistics(self, stats, X, *lattices):
        super()._accumulate_sufficient_statistics(stats, X.astype(int), *lattices)

    def shrink(self, settings, anchor, strength):
        """Set the prior of the emissions; see `Settings.with_priors`."""
        pseudo = (settings.pseudo_count + FLOOR) * settings.unit
        self.emissionprob_prior = 1.0 + pseudo
        if strength > 0:
            self.emissionprob_prior += strength * anchor.emissionprob_


@dataclass(frozen=True)
class Settings:
    """How hidden Markov models are made and fitted.

    Attributes
    ----------
    n_states : int
    covariance_type : {"diag", "full"}
    n_features : int
        Columns of a step.
    n_symbols : int or None
        Of categorical emissions; None for normal ones.
    n_starts : int
    max_iter : int
    tol : float
        Least gain of a pass, in nats, for weights of one.
    prior_rows, prior_fraction : float
        Of the variances: rows that they are worth, and their variance.
    pseudo_count : float
        Of each start, each move and each symbol.
    shrinkage : float
        What an anchor is worth, in rows.
    unit : float
        Weight of one row.
    """

    n_states: int
    covariance_type: str
    n_features: int
    n_symbols: int | None
    n_starts: int
    max_iter: int
    tol: float
    prior_rows: float
    prior_fraction: float
    pseudo_count: float
    shrinkage: float
    unit: float

    def background(self):
        """Return the model of standardised rows, or symbols, that knows nothing."""
        states = self.n_states
        if self.n_symbols is not None:
            model = WeightedCategoricalHMM(states, n_features=self.n_symbols)
            shape = (states, self.n_symbols)
            model.emissionprob_ = np.full(shape, 1.0 / self.n_symbols)
        else:
            model = WeightedGaussianHMM(states, self.covariance_type)
            model.n_features = self.n_features
            model.means_ = np.zeros((states, self.n_features))
            one = np.ones(self.n_features)
            spread = one if self.covariance_type == "diag" else np.diag(one)
            model.covars_ = np.array([spread] * states)
        model.startprob_ = np.full(states, 1.0 / states)
        model.transmat_ = np.full((states, states), 1.0 / states)
        return self.with_priors(model)

    def with_priors(self, model, anchor=None):
        """Return a copy of a model whose M-steps shrink it, towards an anchor if given.

        They are the conjugate priors of Gauvain and Lee (1994).
        """
        model = copy.copy(model)
        strength = 0.0 if anchor is None else self.shrinkage * self.unit
        pseudo = (self.pseudo_count + FLOOR) * self.unit
        model.startprob_prior = model.transmat_prior = 1.0 + pseudo
        if strength > 0:
            model.transmat_prior = model.transmat_prior + strength * anchor.transmat_
            # A sequence has one start: the anchor is worth one sequence at most.
            once = min(strength, self.unit)
            model.startprob_prior = model.startprob_prior + once * anchor.startprob_
        model.shrink(self, anchor, strength)
        return model


def in_own_unit(model, center, scale):
    """Return a plain model of hmmlearn, for columns as the user has them.

    Parameters
    ----------
    model : WeightedGaussianHMM or WeightedCategoricalHMM
        On columns ``(x - center) / scale``.
    center, scale : arrays of shape (n_features,)
    """
    if isinstance(model, CategoricalHMM):
        own = CategoricalHMM(model.n_components, n_features=model.n_features)
        own.emissionprob_ = model.emissionprob_.copy()
    else:
        own = GaussianHMM(model.n_components, model.covariance_type)
        own.n_features = model.n_features
        own.means_ = center + scale * model.means_
        diag = model.covariance_type == "diag"
        square = scale**2 if diag else np.outer(scale, scale)
        own.covars_ = square * model._covars_
    own.startprob_, own.transmat_ = model.startprob_.copy(), model.transmat_.copy()
    return own
