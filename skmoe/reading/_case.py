"""How gate and experts of a fitted mixture serve some rows: what findings rest on."""

from functools import cached_property

import numpy as np
from scipy import special

from skmoe._protocols import has_fixed_law
from skmoe._wording import noise_of
from skmoe.em._law import law
from skmoe.em._units import UnitProblem

__all__ = ["Case"]

# An expert is nearly idle below this part of an even share.
IDLE = 0.1
WEIGHT_PASSES = 100
# Costs are computed on at most so many rows or groups.
MAX_UNITS = 20_000


class Case:
    """A model with the rows to judge it by.

    Attributes
    ----------
    weight : array of shape (n_units,)
        Of rows, or of groups that share their responsibilities.
    log_gate, log_density : arrays of shape (n_units, n_experts)
    resp : array of shape (n_units, n_experts)
    log_prob : array of shape (n_units,)
    """

    def __init__(self, model, rows):
        self.model, self.rows = model, rows
        self.names = model.expert_names_
        node = model.node_
        self.law = law(node, rows.X)
        if rows.units is None:
            self.weight, self.log_gate = rows.weight, self.law.log_gate
            none = np.zeros(self.log_gate.T.shape)
            self.log_density = node.add_densities(none, rows.X, rows.y).T
        else:
            problem = UnitProblem(node, *rows, prepare=False)
            self.weight = problem.unit_weight
            self.log_gate = np.asarray(node.gate.log_proba(problem.gate_rows))
            joint = problem.joint(conditional=True).T
            self.log_density = np.where(
                joint == -np.inf, -np.inf, joint - np.maximum(self.log_gate, -1e300)
            )
        joint = self.log_gate + self.log_density
        self.log_prob = special.logsumexp(joint, axis=1)
        self.resp = np.exp(joint - self.log_prob[:, None])
        self.total = float(self.weight.sum())
        self.share = self.weight @ self.resp / self.total
        self.certainty = float(self.weight @ np.exp(self.log_gate).max(1) / self.total)

    def _parts(self):
        """Return family, parameters and dispersion of each expert."""
        law = self.law
        return zip(law.likelihoods, law.params, law.dispersions, strict=True)

    @cached_property
    def effective_number(self):
        """Exponential of the entropy of the shares."""
        return float(np.exp(special.entr(self.share).sum()))

    @cached_property
    def idle(self):
        """Mask of the experts that hardly any row uses."""
        return self.learns & (self.share < IDLE / self.share.size)

    @cached_property
    def gate_share(self):
        """Parameters of the gate for one more expert."""
        return self.model.gate_.n_parameters / max(self.share.size - 1, 1)

    @cached_property
    def learns(self):
        """Mask of the experts that have something to learn from rows."""
        experts = self.model.experts_
        return np.array([not has_fixed_law(expert) for expert in experts])

    def worth(self, n_parameters):
        """Return how many nats so many parameters must gain to be kept, by BIC."""
        return 0.5 * np.log(self.total) * n_parameters

    def apart(self, k, m):
        """Return how far two experts' means are apart where either is used.

        As a root mean square in standard deviations of their noise; NaN where the
        noise is not one number.
        """
        noise = [noise_of(self.model.experts_[j]) for j in (k, m)]
        if any(one is None for one in noise):
            return np.nan
        variance = 0.5 * (noise[0] ** 2 + noise[1] ** 2)
        gap = self.law.means[:, k] - self.law.means[:, m]
        square = (gap.reshape(len(gap), -1) ** 2 / variance).mean(axis=1)
        weight = self.rows.weight * (self.law.gate[:, k] + self.law.gate[:, m])
        return float(np.sqrt(weight @ square / weight.sum()))

    @cached_property
    def thinned(self):
        """Units to compute costs on, evenly spaced, and weights that stand for all."""
        some = slice(None, None, -(-self.weight.size // MAX_UNITS))
        weight = self.weight[some]
        return some, weight * (self.total / weight.sum())

    def costs_of_merging(self, gone):
        """Return what is lost where other experts answer for one as well.

        Returns
        -------
        lost : array of shape (n_experts,)
            Nats of log-likelihood, by who takes over.
        gap : array of shape (n_experts,)
            Nats per row of the expert's own: how much better it explains them.
        """
        some, weight = self.thinned
        density, resp = self.log_density[some], self.resp[some, gone]
        joint = self.log_gate[some] + density
        joint[:, gone] = -np.inf
        others = special.logsumexp(joint, axis=1, keepdims=True)
        taken = np.logaddexp(others, self.log_gate[some, gone, None] + density)
        own = resp > 0
        gain = density[own, gone, None] - density[own]
        mass = weight * resp
        lost = weight @ (self.log_prob[some, None] - taken)
        return lost, mass[own] @ gain / mass.sum()

    def cost_of_constant_gate(self):
        """Return the nats that are lost where the gate does not depend on x."""
        some, weight = self.thinned
        share, density = self.share, self.log_density[some]
        for _ in range(WEIGHT_PASSES):
            joint = np.log(np.maximum(share, 1e-300)) + density
            log_prob = special.logsumexp(joint, axis=1, keepdims=True)
            share = weight @ np.exp(joint - log_prob) / self.total
        return float(weight @ (self.log_prob[some] - log_prob[:, 0]))

    def surprise(self):
        """Return how far each response lies below the height of the nearest mode.

        In nats; 12.5 is five standard deviations of a normal expert that the gate is
        sure of.
        """
        height = self.law.log_gate.copy()
        for k, (part, *given) in enumerate(self._parts()):
            mode = part.log_prob(part.mode(*given), *given)
            height[:, k] += part.log_prob(self.rows.y, *given) - mode
        surprise = -height.max(axis=1)
        units = self.rows.units
        if units is not None and units.labelled is not None:
            surprise[~units.labelled] = 0.0
        return surprise
