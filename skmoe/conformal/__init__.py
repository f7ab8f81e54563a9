"""Sets of guaranteed coverage for mixtures of experts: conformal calibration."""

from skmoe.conformal._cross import CrossConformalMixture
from skmoe.conformal._split import SplitConformalMixture

__all__ = ["CrossConformalMixture", "SplitConformalMixture"]
