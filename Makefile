# The verbs a person wants. `make` alone lists them.
# Everything happens in .venv, which is made from the first Python >= 3.11 that is found.

SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin

# python3 first: it is what the person at the keyboard means by Python.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	command -v $$python >/dev/null 2>&1 || continue; \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	echo $$python; break; done)

.DEFAULT_GOAL := help
.PHONY: help demo test lint format bench serve clean

help: ## list these verbs
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/.installed ## count down on SQLite, kill the process half-way, see it go on
	@$(BIN)/python examples/countdown.py

test: $(VENV)/.installed-dev ## run the tests
	$(BIN)/python -m pytest -n 3 --dist worksteal -m "not alone"
	$(BIN)/python -m pytest -m alone

lint: $(VENV)/.installed-dev ## check style, types and who imports whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-dev ## put the code into its standard form
	$(BIN)/ruff check --fix-only --exit-zero .
	$(BIN)/ruff format .

bench: $(VENV)/.installed ## measure steps per second beside plain asyncio and raw SQLite
	@$(BIN)/python benchmarks/bench.py

serve: $(VENV)/.installed ## run a server on http://127.0.0.1:8001 that stores in resonate.db
	@$(BIN)/resonate-aio serve

clean: ## remove what these verbs made
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed (set PYTHON=/path/to/python3)"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# One stamp per set of packages; a change of pyproject.toml installs again.
$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@ $(VENV)/.installed
