"""Gates: whom to trust where."""

from skmoe.gates._classifier import ClassifierGate
from skmoe.gates._constant import ConstantGate
from skmoe.gates._expanded import ExpandedGate
from skmoe.gates._gaussian import GaussianGate
from skmoe.gates._softmax import SoftmaxGate
from skmoe.gates._torch import TorchGate

__all__ = [
    "ClassifierGate",
    "ConstantGate",
    "ExpandedGate",
    "GaussianGate",
    "SoftmaxGate",
    "TorchGate",
]
