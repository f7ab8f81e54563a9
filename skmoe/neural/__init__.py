"""Sparse networks as scikit-learn estimators, trained end to end by gradient.

They need torch (``pip install 'skmoe[torch]'``), which is imported when a model is
fitted.
"""

from skmoe.neural._leaves import FastFeedforwardClassifier, FastFeedforwardRegressor
from skmoe.neural._sparse import (
    SparseMixtureOfExpertsClassifier,
    SparseMixtureOfExpertsRegressor,
)
from skmoe.neural._usage import ExpertUsage, NetworkSize

__all__ = [
    "ExpertUsage",
    "FastFeedforwardClassifier",
    "FastFeedforwardRegressor",
    "NetworkSize",
    "SparseMixtureOfExpertsClassifier",
    "SparseMixtureOfExpertsRegressor",
]
