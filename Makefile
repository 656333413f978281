# Two commands on a machine with Python >= 3.11, make and a package index:
#   make quickstart
#   make test
# Both make their own virtual environment and install the pinned versions into it.

PYTHON ?= python3
VENV   ?= .venv
EXTRAS ?=

PY     := $(VENV)/bin/python
RUNS   := runs/quickstart

# One process a core: compiling, the larger part of the time, uses no more than one. The tests of a
# file stay together: they share what was trained for them. The fast tests compile without
# optimisation, which takes longer than they gain from it; test-all has it.
PYTEST := $(PY) -m pytest -n auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder

comma := ,
space := $(subst ,, )
# The stamp of an installed set of extras: $(call installed,test bench) is .venv/.installed-bench,test
installed = $(VENV)/.installed-$(subst $(space),$(comma),$(sort $(subst $(comma),$(space),$(1))))

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help quickstart test test-all lint format constraints clean

help:  ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@echo "Settings: PYTHON=$(PYTHON) VENV=$(VENV) EXTRAS=$(EXTRAS) (extras for test and lint: EXTRAS=bench)"

quickstart: $(call installed,quickstart)  ## Train small models on CPU, then make their table and figures
	$(PY) scripts/sweep.py configs/distorted_mnist.py:quickstart --runs-dir $(RUNS) --workers 2
	$(PY) scripts/make_tables.py $(RUNS)
	$(PY) scripts/make_figures.py $(RUNS) --out $(RUNS)/figures

test: $(call installed,test $(EXTRAS))  ## Run the fast tests; EXTRAS='bench cluster' adds PyTorch oracles, Slurm, Optuna
	XLA_FLAGS=--xla_backend_optimization_level=0 $(PYTEST)

test-all: $(call installed,test bench cluster $(EXTRAS))  ## Run all tests, slow ones and PyTorch oracles too
	$(PYTEST) -m ""

lint: $(call installed,test $(EXTRAS))  ## Check style and formatting
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

format: $(call installed,test $(EXTRAS))  ## Fix what can be fixed by itself, and format
	$(PY) -m ruff check --fix-only .
	$(PY) -m ruff format .

# CUDA packages come with the platform's PyTorch or JAX build and must not clash: they are not pinned.
constraints: $(PY)  ## Pin anew after a change of the dependencies in pyproject.toml
	$(PY) -m pip install --quiet uv
	$(VENV)/bin/uv pip compile --quiet pyproject.toml --universal --no-header --no-annotate \
	  --extra quickstart --extra test --extra bench --extra cluster \
	  --extra tensorboard -o constraints.txt
	{ echo "# Exact versions of everything installed, Python 3.11 and later. Made by: make constraints"; \
	  grep -vE '^(#|nvidia-|cuda-|triton)' constraints.txt; } > constraints.new
	mv constraints.new constraints.txt

clean:  ## Remove the environment, caches and quickstart runs
	rm -rf $(VENV) $(RUNS) .pytest_cache .ruff_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or later is needed, but '$(PYTHON)' is $$($(PYTHON) --version 2>&1);" \
	       "name another one: make PYTHON=python3.11 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-%: pyproject.toml constraints.txt | $(PY)
	@echo "Installing stn-jax[$*] into $(VENV) (a minute or two) ..."
	$(PY) -m pip install --quiet --constraint constraints.txt --editable '.[$*]'
	@touch $@
