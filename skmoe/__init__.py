"""Mixtures of experts with the interface of scikit-learn."""

from skmoe.mixture import MixtureOfExpertsClassifier, MixtureOfExpertsRegressor

__version__ = "0.1.0"

__all__ = ["MixtureOfExpertsClassifier", "MixtureOfExpertsRegressor", "__version__"]
