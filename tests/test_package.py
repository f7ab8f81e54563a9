"""The package as a whole: what importing it costs, what it exports and says."""

import importlib
import importlib.metadata
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import skmoe

ROOT = Path(__file__).parents[1]
PACKAGES = ["skmoe"] + [
    info.name for info in pkgutil.walk_packages(skmoe.__path__, "skmoe.") if info.ispkg
]
MODULES = ["skmoe"] + [
    info.name for info in pkgutil.walk_packages(skmoe.__path__, "skmoe.")
]


HEAVY = ("torch", "matplotlib", "pandas", "polars", "hmmlearn")


def run(code):
    """Run code in an interpreter of its own; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_loads_nothing_heavy():
    # scikit-learn loads pandas by itself where it is installed.
    code = (
        "import sys, sklearn.base\n"
        f"before = [name for name in {HEAVY} if name in sys.modules]\n"
        "import skmoe\n"
        f"print([n for n in {HEAVY} if n in sys.modules and n not in before])"
    )
    assert run(code) == "[]"


def test_import_needs_nothing_heavy():
    code = f"""
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {HEAVY}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
import skmoe
"""
    assert run(code) == ""


@pytest.mark.parametrize("name", PACKAGES)
def test_exports_are_sorted_and_exist(name):
    package = importlib.import_module(name)
    assert package.__doc__, f"{name} has no docstring"
    # Abbreviations in capitals stand first, as the linter has them.
    order = sorted(set(package.__all__), key=lambda name: (not name.isupper(), name))
    assert list(package.__all__) == order
    for exported in package.__all__:
        assert hasattr(package, exported), f"{name} exports {exported}, which it lacks"


def test_version_is_said_once():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    cited = re.search(r"^version: (\S+)$", citation, flags=re.MULTILINE)
    assert importlib.metadata.version("skmoe") == skmoe.__version__
    assert cited is not None
    assert cited[1] == skmoe.__version__


def test_marker_of_types_ships():
    assert (Path(skmoe.__file__).parent / "py.typed").is_file()


# Imported on a CUDA device alone, where torch brings Triton.
NEED_TRITON = {
    "skmoe._gram_kernel",
    "skmoe._e_step_kernel",
    "skmoe.em._device_step",
    "skmoe.nn.kernels._lookup_kernel",
    "skmoe.nn.kernels._activation_kernel",
    "skmoe.nn.kernels._grouped_kernel",
    "skmoe.nn.kernels._group_sums_kernel",
    "skmoe.nn.kernels._slot_kernel",
    "skmoe.nn.kernels._tabular_backward_kernel",
    "skmoe.nn.kernels._tabular_kernel",
    "skmoe.nn.kernels._route_kernel",
    "skmoe.nn.kernels._sort_kernel",
    "skmoe.nn.kernels._tree_walk_kernel",
}


def public_classes():
    found = {}
    for name in [name for name in MODULES if name not in NEED_TRITON]:
        module = importlib.import_module(name)
        for exported in getattr(module, "__all__", []):
            value = getattr(module, exported)
            if inspect.isclass(value):
                found[f"{value.__module__}.{value.__qualname__}"] = value
    return [pytest.param(found[name], id=name) for name in sorted(found)]


@pytest.mark.parametrize("cls", public_classes())
def test_public_classes_are_documented(cls):
    assert cls.__doc__, "no docstring"
    methods = {
        name: value
        for name, value in vars(cls).items()
        if inspect.isfunction(value) and not name.startswith("_")
    }
    bare = [name for name, value in methods.items() if not inspect.getdoc(value)]
    assert not bare, f"methods without a docstring: {bare}"


@pytest.mark.parametrize("cls", public_classes())
def test_constructor_parameters_are_documented(cls):
    if not hasattr(cls, "get_params"):
        names = []  # not an estimator: dataclasses and protocols say it in prose
    else:
        names = [n for n in inspect.signature(cls).parameters if n != "self"]
    doc = inspect.getdoc(cls)
    absent = [n for n in names if not re.search(rf"^[\w*, ]*\b{n}\b.*:", doc, re.M)]
    assert not absent, f"parameters that the docstring leaves out: {absent}"
