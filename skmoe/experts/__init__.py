"""Experts: models of y given x that can be fitted to weighted rows."""

from skmoe.experts._adapter import EstimatorExpert
from skmoe.experts._binomial import BinomialExpert
from skmoe.experts._expanded import ExpandedExpert
from skmoe.experts._glm import GammaExpert, NegativeBinomialExpert, PoissonExpert
from skmoe.experts._gp import GaussianProcessExpert
from skmoe.experts._heteroscedastic import HeteroscedasticExpert
from skmoe.experts._hmm import HMMExpert
from skmoe.experts._linear import LinearExpert
from skmoe.experts._logistic import LogisticExpert
from skmoe.experts._noise import PointMassExpert, UniformExpert
from skmoe.experts._robust import RobustLinearExpert
from skmoe.experts._torch import TorchExpert

__all__ = [
    "BinomialExpert",
    "EstimatorExpert",
    "ExpandedExpert",
    "GammaExpert",
    "GaussianProcessExpert",
    "HMMExpert",
    "HeteroscedasticExpert",
    "LinearExpert",
    "LogisticExpert",
    "NegativeBinomialExpert",
    "PointMassExpert",
    "PoissonExpert",
    "RobustLinearExpert",
    "TorchExpert",
    "UniformExpert",
]
