# Every target sets up what it needs: only make and Python >= 3.11 are assumed.
#   PIP_FLAGS   passed to pip, e.g. another index (see constraints.txt)
#   PYTEST_ARGS passed to pytest, e.g. PYTEST_ARGS="-k gates -x"

VENV := .venv
PY := $(VENV)/bin/python
PIP_FLAGS ?=
PIP = $(PY) -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS)
PYTEST_ARGS ?=

# Tests, examples and pages fit small models: a second OpenMP thread costs more in
# waiting than it saves, and on a busy machine many times more.
export OMP_NUM_THREADS ?= 1

# The first one that really starts, is new enough and can build an environment.
PROBE := import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))
BASE_PYTHON ?= $(shell for name in python3.13 python3.12 python3.11 python3; do \
	if $$name -c '$(PROBE)' >/dev/null 2>&1; then echo $$name; break; fi; done)

# Two rules at once would run two pips in one environment; the tools below
# bring their own parallelism.
.NOTPARALLEL:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help demo test lint types floors snippets docs examples format clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' \
		$(MAKEFILE_LIST)

$(PY):
	@test -n "$(BASE_PYTHON)" || { echo "skmoe needs Python >= 3.11 with venv and \
	ensurepip; none was found. Name one: make BASE_PYTHON=/path/to/python3" >&2; exit 1; }
	$(BASE_PYTHON) -m venv $(VENV)

# CITATION.cff changes with each release, and so the installed version with it.
PACKAGING := pyproject.toml setup.cfg CITATION.cff

$(VENV)/.demo-stamp: $(PACKAGING) | $(PY)
	@echo "Installing skmoe with its plots into $(VENV) (no torch)"
	@$(PIP) -e '.[plot]'
	@touch $@

$(VENV)/.test-stamp: $(PACKAGING) constraints.txt | $(PY)
	@echo "Installing skmoe and its tests into $(VENV) (torch: the CPU build)"
	@$(PIP) -c constraints.txt -e '.[test,plot,torch]'
	@touch $@

$(VENV)/.docs-stamp: $(PACKAGING) constraints.txt | $(PY)
	@echo "Installing skmoe and Sphinx into $(VENV)"
	@$(PIP) -c constraints.txt -e '.[docs,torch]'
	@touch $@

demo: $(VENV)/.demo-stamp ## fit mixtures on two real tables; picture in out/demo.png
	@mkdir -p out
	MPLBACKEND=Agg $(PY) examples/demo.py

# SCIPY_ARRAY_API: with it scikit-learn's array-API checks run instead of skipping.
test: $(VENV)/.test-stamp ## run the tests
	SCIPY_ARRAY_API=1 $(PY) -m pytest $(PYTEST_ARGS)

floors: $(VENV)/.test-stamp ## only the tests of imports, sizes and packaging
	$(PY) -m pytest -q tests/test_floors.py tests/test_package.py

snippets: $(VENV)/.test-stamp ## only the code blocks of README.md and docs/
	$(PY) -m pytest -q tests/test_snippets.py

lint: $(VENV)/.test-stamp ## ruff: rules and format
	$(PY) -m ruff check
	$(PY) -m ruff format --check

format: $(VENV)/.test-stamp ## ruff: mend what it can, then format
	$(PY) -m ruff check --fix
	$(PY) -m ruff format

types: $(VENV)/.test-stamp ## mypy, strict on the protocols and the engine
	$(PY) -m mypy

docs: $(VENV)/.docs-stamp ## build docs/_build/html; a warning is an error
	MPLBACKEND=Agg $(PY) -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "Built docs/_build/html/index.html"

examples: $(VENV)/.test-stamp ## run the gallery scripts one by one
	@set -e; for script in examples/plot_*.py; do \
		echo "$$script"; MPLBACKEND=Agg $(PY) "$$script" >/dev/null; done

clean: ## remove what was built, the environment included
	rm -rf $(VENV) build dist out *.egg-info .pytest_cache .mypy_cache .ruff_cache
	rm -rf docs/_build docs/auto_examples docs/generated docs/sg_execution_times.rst
