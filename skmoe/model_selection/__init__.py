"""Choosing the number of experts: sweeps with warm starts, and the dendrogram."""

from skmoe.model_selection._dendrogram import Dendrogram
from skmoe.model_selection._search import MixtureOfExpertsSearch, select_n_experts

__all__ = ["Dendrogram", "MixtureOfExpertsSearch", "select_n_experts"]
