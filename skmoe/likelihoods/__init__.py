"""Families of conditional densities, as value objects without state.

Each method takes the parameters that an expert predicts for the rows and the
expert's dispersion; `skmoe._protocols` says what both are in each family.
"""

from skmoe.likelihoods._bounded import PointMass, Uniform
from skmoe.likelihoods._classes import Categorical
from skmoe.likelihoods._counts import Binomial, NegativeBinomial, Poisson
from skmoe.likelihoods._normal import LOG_2PI as LOG_2PI
from skmoe.likelihoods._normal import Gaussian, RowGaussian
from skmoe.likelihoods._positive import Gamma
from skmoe.likelihoods._robust import Laplace, StudentT

__all__ = [
    "Binomial",
    "Categorical",
    "Gamma",
    "Gaussian",
    "Laplace",
    "NegativeBinomial",
    "PointMass",
    "Poisson",
    "RowGaussian",
    "StudentT",
    "Uniform",
]
