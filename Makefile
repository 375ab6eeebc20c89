# Everything happens inside this folder: Python packages in .venv, programs in .tools. The system is left alone.
# It needs Python 3.11 or newer and make; the tools come from Debian (12 or newer) through its own apt.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help:  ## list the targets
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

.PHONY: venv
venv: $(INSTALLED)  ## the virtual environment with this project and what developing it needs

# The environment holds absolute paths: it is made anew in a checkout that was copied or moved.
ifneq ($(shell cat $(INSTALLED) 2>/dev/null),$(CURDIR))
.PHONY: $(INSTALLED)
CLEAR := --clear
endif

# A bare Debian has no ensurepip; its pip wheel does then. The package that Snakemake discovers is copied, not linked.
$(INSTALLED): pyproject.toml $(wildcard snakemake_apptainer_freshness/plugin/*/__init__.py)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: set PYTHON")'
	@if $(PYTHON) -c 'import ensurepip; ensurepip.version()' 2>/dev/null; then \
		$(PYTHON) -m venv $(CLEAR) $(VENV); \
	else \
		$(PYTHON) -m venv $(CLEAR) --without-pip $(VENV) && $(PYTHON) tests/support/tools.py --bootstrap-pip $(VENV); \
	fi
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1,<27'
	$(BIN)/python -m pip install --quiet --editable '.[docs]' --group dev
	@echo '$(CURDIR)' > $@

.PHONY: tools
tools:  ## the real programs that the tests run: Apptainer, a registry, and more
	@$(PYTHON) tests/support/tools.py

.PHONY: oldest
oldest: $(INSTALLED) tools
	@$(BIN)/python -m tests.support.snakemakes

.PHONY: matrix
matrix: $(INSTALLED) tools  ## one scenario through every supported Snakemake and Python, and write which they are
	$(BIN)/python -m tests.matrix

.PHONY: demo
demo: $(INSTALLED) tools  ## watch a tag move under a workflow, and what this project does about it
	@$(BIN)/python -m tests.demo

.PHONY: test
test: $(INSTALLED) tools oldest  ## all tests
	$(BIN)/python -m pytest -n 4 --dist worksteal

.PHONY: lint
lint: $(INSTALLED)  ## formatting, lint, types
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m ruff check .
	$(BIN)/python -m mypy
	$(BIN)/python -m mypy --package tests.support

.PHONY: bench
bench: $(INSTALLED) tools  ## measure what enabling this costs a workflow
	@$(BIN)/python -m tests.bench

.PHONY: docs
docs: $(INSTALLED) tools  ## the documentation site, in dist/site, with pictures made anew
	$(BIN)/python -m tests.support.pictures
	$(BIN)/python -m mkdocs build --strict

.PHONY: dist
dist: $(INSTALLED)  ## the files of a release: both distributions, and the recipe for conda
	rm -rf dist
	$(BIN)/python -m tests.support.release --dist

.PHONY: clean
clean:  ## remove what make has made
	rm -rf $(VENV) .tools dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
