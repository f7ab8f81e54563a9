"""Mixtures of experts with the interface of scikit-learn."""

from skmoe.forest import (
    HierarchicalMixtureForestClassifier,
    HierarchicalMixtureForestRegressor,
)
from skmoe.hierarchy import (
    HierarchicalMixtureOfExpertsClassifier,
    HierarchicalMixtureOfExpertsRegressor,
)
from skmoe.mixture import MixtureOfExpertsClassifier, MixtureOfExpertsRegressor

__version__ = "0.1.0"

__all__ = [
    "HierarchicalMixtureForestClassifier",
    "HierarchicalMixtureForestRegressor",
    "HierarchicalMixtureOfExpertsClassifier",
    "HierarchicalMixtureOfExpertsRegressor",
    "MixtureOfExpertsClassifier",
    "MixtureOfExpertsRegressor",
    "__version__",
]
