"""What a fit says of its size: likelihood, parameters, and criteria made of them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from skmoe._xp import is_foreign, namespace
from skmoe.em._units import unit_posterior

__all__ = ["Evidence", "entropy_of"]


def entropy_of(resp: Any, weight: Any) -> float:
    """Return the weighted entropy of responsibilities (n_experts, n_units), in nats."""
    if not is_foreign(resp):
        return float(special.entr(resp).sum(axis=0) @ weight)
    xp = namespace(resp)
    terms = -resp * xp.log(xp.where(resp > 0.0, resp, xp.ones_like(resp)))
    return float(xp.sum(terms, axis=0) @ weight)


@dataclass(frozen=True)
class Evidence:
    """How well a mixture describes some rows, and with how much.

    Attributes
    ----------
    log_likelihood : float
        In nats.
    n_parameters : int
    entropy : float
        Of the responsibilities, summed over the rows, in nats.
    total : float
        Weight of the rows, or number of groups.
    n_experts : int
    """

    log_likelihood: float
    n_parameters: int
    entropy: float
    total: float
    n_experts: int

    @classmethod
    def of(cls, n_parameters: int, resp: Any, log_prob: Any, weight: Any, **more: Any):
        """Return the evidence of responsibilities and log densities.

        Parameters
        ----------
        n_parameters : int
        resp : array of shape (n_experts, n_units)
        log_prob, weight : arrays of shape (n_units,)
        **more : dict
            Other fields, of a subclass.
        """
        return cls(
            log_likelihood=float(weight @ log_prob),
            n_parameters=n_parameters,
            entropy=entropy_of(resp, weight),
            total=float(weight.sum()),
            n_experts=len(resp),
            **more,
        )

    @classmethod
    def at(cls, node: Any, rows: Any) -> "Evidence":
        """Return the evidence of a fitted node at rows (X, y, weight, units)."""
        return cls.of(node.n_parameters, *unit_posterior(node, *rows))

    @property
    def aic(self) -> float:
        """Akaike's criterion; lower is better."""
        return 2.0 * self.n_parameters - 2.0 * self.log_likelihood

    @property
    def bic(self) -> float:
        """Schwarz's criterion; lower is better."""
        penalty = self.n_parameters * float(np.log(self.total))
        return penalty - 2.0 * self.log_likelihood

    @property
    def icl(self) -> float:
        """BIC plus twice the entropy; lower is better."""
        return self.bic + 2.0 * self.entropy
