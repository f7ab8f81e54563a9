"""Mixtures that fit in milliseconds: two experts, one start."""

from skmoe import MixtureOfExpertsClassifier, MixtureOfExpertsRegressor

QUICK = {"n_experts": 2, "init": "kmeans", "random_state": 0}


def regressor(experts=None, **kwargs):
    return MixtureOfExpertsRegressor(experts, **(QUICK | kwargs))


def classifier(experts=None, **kwargs):
    return MixtureOfExpertsClassifier(experts, **(QUICK | kwargs))
