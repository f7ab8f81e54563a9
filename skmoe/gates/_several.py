"""What a gate is that is made of several."""

import numpy as np
from sklearn.base import BaseEstimator

from skmoe._protocols import is_parametric

__all__ = ["SeveralGates"]


class SeveralGates(BaseEstimator):
    """Sums over ``gates``, a list that a subclass has."""

    @property
    def parametric(self):
        """Whether the state is one free vector."""
        return all(is_parametric(gate) for gate in self.gates)

    @property
    def smooth(self):
        """Whether no gate's objective has kinks, as that of a lasso has."""
        return all(getattr(gate, "smooth", True) for gate in self.gates)

    @property
    def n_parameters(self):
        """Free parameters of all gates."""
        return sum(gate.n_parameters for gate in self.gates)

    @property
    def penalty(self):
        """Log prior density of all gates."""
        return sum(gate.penalty for gate in self.gates)

    @property
    def parameters(self):
        """The gates' parameters as one vector."""
        own = [np.ravel(gate.parameters) for gate in self.gates]
        return np.concatenate([np.zeros(0), *own])

    @parameters.setter
    def parameters(self, value):
        start = 0
        for gate in self.gates:
            size = np.size(gate.parameters)
            gate.parameters = value[start : start + size]
            start += size

    def finish(self):
        """Let the gates forget the training rows, at the end of a fit."""
        for gate in self.gates:
            if hasattr(gate, "finish"):
                gate.finish()
