# make demo     compile the example at half its MACs
# make test     run the tests
# make check    everything that continuous integration runs
#
# Each makes .venv first if it is not there; nothing but Python 3.11 and make is needed.

PYTHON ?= python3
WORKERS ?= 2
PYTEST_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

# One thread a test process: the processes share the cores among themselves.
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1

.PHONY: demo test fuzz check format-check lint types imports format install wheel clean

demo: $(VENV)/.amcc
	$(BIN)/amcc compile examples/digits/model.onnx --budget flops=0.5 --round 8 \
	    --data examples/digits/val.npz --calib examples/digits/calib.npz -o build/digits.amcc --force

test: $(VENV)/.dev
	$(ONE_THREAD) $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(PYTEST_ARGS)

fuzz: $(VENV)/.dev
	AMCC_FUZZ=20000 $(ONE_THREAD) $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal tests/test_exactness.py

check: format-check lint types imports test

format-check: $(VENV)/.dev
	$(BIN)/ruff format --check .

lint: $(VENV)/.dev
	$(BIN)/ruff check .

types: $(VENV)/.dev
	$(BIN)/mypy

imports: $(VENV)/.dev
	$(BIN)/lint-imports

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

install: $(VENV)/.dev

wheel: $(VENV)/.dev
	$(BIN)/python -m build --wheel --no-isolation

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache *.egg-info

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo 'amcc needs Python 3.11 or newer: make PYTHON=/path/to/python3.11' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# torch goes first, at its exact version: only then is the build for the CPU found where there is one.
$(VENV)/.torch: constraints.txt | $(BIN)/python
	$(PIP) "$$(grep '^torch==' constraints.txt)" setuptools
	@touch $@

$(VENV)/.amcc: pyproject.toml $(VENV)/.torch
	$(PIP) --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.amcc
	$(PIP) --no-build-isolation -e '.[dev]'
	@touch $@
