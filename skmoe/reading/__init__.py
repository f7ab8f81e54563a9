"""What a fitted mixture says about itself: explanations, a diagnosis, a diagram.

The classes are public in `skmoe.inspection`.
"""

from skmoe.reading._diagnosis import Diagnosis
from skmoe.reading._explain_flat import MixtureExplanation
from skmoe.reading._explain_tree import Explanation
from skmoe.reading._findings import Finding
from skmoe.reading._hard_tree import HardTree

__all__ = ["Diagnosis", "Explanation", "Finding", "HardTree", "MixtureExplanation"]
