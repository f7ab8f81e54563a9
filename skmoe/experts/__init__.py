"""Experts: models of y given x that can be fitted to weighted rows."""

from skmoe.experts._adapter import EstimatorExpert
from skmoe.experts._expanded import ExpandedExpert
from skmoe.experts._linear import LinearExpert
from skmoe.experts._logistic import LogisticExpert

__all__ = ["EstimatorExpert", "ExpandedExpert", "LinearExpert", "LogisticExpert"]
