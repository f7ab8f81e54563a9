"""Rows in time: Markov mixtures of experts, and tables of whole sequences."""

from skmoe._ragged import pad_sequences
from skmoe.sequence._forecast import Forecast
from skmoe.sequence._markov import (
    MarkovMixtureOfExpertsClassifier,
    MarkovMixtureOfExpertsRegressor,
)
from skmoe.sequence._regimes import RegimeSummary, one_step_log_score

__all__ = [
    "Forecast",
    "MarkovMixtureOfExpertsClassifier",
    "MarkovMixtureOfExpertsRegressor",
    "RegimeSummary",
    "one_step_log_score",
    "pad_sequences",
]
