# `make rehearse` and `make test` are all a new user needs; both set up .venv themselves, once.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.runtime
TESTING := $(VENV)/.testing
JOBS ?= 2

.PHONY: help rehearse test test-long test-ray lint types docs example benchmarks clean

help:
	@echo "make rehearse    try the whole study on synthetic slides and write its report"
	@echo "make test        lint, types and tests"
	@echo "make test-long   the tests that take longer"
	@echo "make test-ray    the tests of a study on several machines, with Ray"
	@echo "make docs        write the command reference anew"
	@echo "make example     the rehearsal's report in reports/example and README's pictures, anew"
	@echo "make benchmarks  speed and coverage, printed side by side"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(RUNTIME): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(TESTING): pyproject.toml $(RUNTIME) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@

rehearse: $(RUNTIME)
	$(BIN)/tapfm-eval run protocols/luad.yaml --rehearse

lint: $(TESTING)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(TESTING)
	$(BIN)/mypy

test: lint types
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadgroup -m 'not long and not ray'

test-long: $(TESTING)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadgroup -m long

$(VENV)/.ray: pyproject.toml $(TESTING) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[ray]'
	@touch $@

test-ray: $(VENV)/.ray
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m ray

docs: $(RUNTIME)
	$(BIN)/typer tapfm_eval.cli.app utils docs --name tapfm-eval --output docs/cli.md

example: $(TESTING)
	$(BIN)/python tests/report/refresh_example.py

benchmarks: $(TESTING)
	@for file in tests/benchmarks/*.py; do echo "== $$file"; OMP_NUM_THREADS=1 $(BIN)/python "$$file"; done

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
