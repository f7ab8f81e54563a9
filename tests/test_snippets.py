"""Every Python block that README.md, docs/ and docstrings show is run as shown."""

import doctest
import importlib
import pkgutil
import re
import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

import skmoe
from tests.test_package import NEED_TRITON

ROOT = Path(__file__).parents[1]
GENERATED = {"_build", "auto_examples", "generated"}

FENCED = re.compile(r"^```python\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
# The directive, its options, a blank line, then all that is indented or blank.
DIRECTIVE = re.compile(
    r"^\.\. code-block:: python\n(?P<options>(?:[ ]+:.*\n)*)\n"
    r"(?P<code>(?:(?:[ ]+.*)?\n)+)",
    re.MULTILINE,
)


@pytest.fixture(autouse=True)
def _closed_figures():
    yield
    plt.close("all")


def blocks(path):
    """Return (line, code) of each Python block of a page."""
    text = path.read_text(encoding="utf-8") + "\n"
    pattern = FENCED if path.suffix == ".md" else DIRECTIVE
    return [
        (text.count("\n", 0, match.start("code")), textwrap.dedent(match["code"]))
        for match in pattern.finditer(text)
    ]


def pages():
    """Return the pages that are written by hand and show Python."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.*"))]
    return [
        pytest.param(path, id=path.relative_to(ROOT).as_posix())
        for path in found
        if path.suffix in {".md", ".rst"}
        and not GENERATED & set(path.relative_to(ROOT).parts)
        and blocks(path)
    ]


def modules_with_examples():
    infos = pkgutil.walk_packages(skmoe.__path__, "skmoe.")
    names = [info.name for info in infos if info.name not in NEED_TRITON]
    modules = [skmoe, *map(importlib.import_module, names)]
    finder = doctest.DocTestFinder(exclude_empty=True)
    return [
        pytest.param(module, id=module.__name__)
        for module in modules
        if any(test.examples for test in finder.find(module))
    ]


@pytest.mark.parametrize("path", pages())
def test_snippets_run(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "snippet"}
    for line, code in blocks(path):
        # Blank lines in front, so that a traceback names the page's own line.
        exec(compile("\n" * line + code, str(path), "exec"), namespace)


@pytest.mark.parametrize("module", modules_with_examples())
def test_docstring_examples_run(module):
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    result = doctest.testmod(module, optionflags=flags)
    assert result.attempted > 0
    assert result.failed == 0, "see the doctest report above"


def test_blocks_are_found(tmp_path):
    page = tmp_path / "page.rst"
    page.write_text(
        "Title\n\n.. code-block:: python\n   :caption: one\n\n   a = 1\n\n   b = a\n"
        "\nProse.\n\n.. code-block:: text\n\n   not python\n\n"
        ".. code-block:: python\n\n   c = b"
    )
    assert blocks(page) == [(5, "a = 1\n\nb = a\n\n"), (17, "c = b\n")]
    page = tmp_path / "page.md"
    page.write_text("Title\n\n```python\na = 1\n```\n```console\nls\n```\n")
    assert blocks(page) == [(3, "a = 1\n")]
