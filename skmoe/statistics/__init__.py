"""Standard errors, tests and criteria of fitted mixtures."""

from skmoe.statistics._coefficients import Coefficient
from skmoe.statistics._hypotheses import likelihood_ratio_test, wald_test
from skmoe.statistics._result import HypothesisTest
from skmoe.statistics._summary import ExpertRow, Fit, Summary

__all__ = [
    "Coefficient",
    "ExpertRow",
    "Fit",
    "HypothesisTest",
    "Summary",
    "likelihood_ratio_test",
    "wald_test",
]
