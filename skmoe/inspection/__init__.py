"""Reading fitted mixtures: pictures, explanations, hard trees."""

from skmoe._explain import Explanation
from skmoe._hard_tree import HardTree
from skmoe.inspection._tree import TreeDisplay

__all__ = ["Explanation", "HardTree", "TreeDisplay"]
