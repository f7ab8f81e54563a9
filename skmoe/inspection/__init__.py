"""Reading fitted mixtures: pictures, explanations, hard trees."""

from skmoe.inspection._band import PredictiveBandDisplay
from skmoe.inspection._calibration import CalibrationDisplay
from skmoe.inspection._coverage import CoverageDisplay
from skmoe.inspection._dendrogram import DendrogramDisplay
from skmoe.inspection._gate_profile import GateProfileDisplay
from skmoe.inspection._gate_regions import GateRegionDisplay
from skmoe.inspection._regimes import RegimeDisplay
from skmoe.inspection._responsibilities import ResponsibilityDisplay
from skmoe.inspection._task_experts import TaskAffinityDisplay, TaskExpertsDisplay
from skmoe.inspection._traces import ObjectiveTraceDisplay
from skmoe.inspection._tree import TreeDisplay
from skmoe.inspection._usage import ExpertUsageDisplay
from skmoe.reading._diagnosis import Diagnosis
from skmoe.reading._explain_flat import MixtureExplanation
from skmoe.reading._explain_tree import Explanation
from skmoe.reading._findings import Finding
from skmoe.reading._hard_tree import HardTree

__all__ = [
    "CalibrationDisplay",
    "CoverageDisplay",
    "DendrogramDisplay",
    "Diagnosis",
    "ExpertUsageDisplay",
    "Explanation",
    "Finding",
    "GateProfileDisplay",
    "GateRegionDisplay",
    "HardTree",
    "MixtureExplanation",
    "ObjectiveTraceDisplay",
    "PredictiveBandDisplay",
    "RegimeDisplay",
    "ResponsibilityDisplay",
    "TaskAffinityDisplay",
    "TaskExpertsDisplay",
    "TreeDisplay",
]
