# Each target makes the environment it needs. PYTHON=python3.12 or VENV=some/folder choose others.
PYTHON ?= python3
VENV ?= .venv
JOBS ?= 2

BIN := $(VENV)/bin

.PHONY: help demo figure examples test pytest thorough test32 lint format bench reproduce docs clean
.NOTPARALLEL:

help:
	@echo "make demo    find the least-dissipation protocol of a moving trap; writes out/moving_trap.png"
	@echo "make examples all of examples/, a few minutes; figures and numbers in out/"
	@echo "make test    ruff, pyright, pytest"
	@echo "make thorough the same with all siblings of its cases (tests/thorough.py)"
	@echo "make test32  the tests in single precision"
	@echo "make bench   timings"
	@echo "make reproduce  every number of the literature that we reproduce, into docs/reproduced.md; QUICK=1: closed forms only"
	@echo "make docs    the documentation, into site/"
	@echo "make lint, make format, make clean"

$(VENV)/stamp-venv:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "thermojax needs Python 3.11 or newer: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	touch $@

# stamp-test,lint: thermojax itself (editable) with the extras test and lint
$(VENV)/stamp-%: pyproject.toml $(VENV)/stamp-venv
	$(BIN)/python -m pip install -q -e '.[$*]'
	touch $@

demo: $(VENV)/stamp-examples
	$(BIN)/python examples/moving_trap.py

figure: demo
	cp out/moving_trap.png docs/assets/moving_trap.png

examples: $(VENV)/stamp-examples
	set -e; for script in examples/*.py; do echo "$$script"; $(BIN)/python "$$script"; done

test: lint pytest

pytest: $(VENV)/stamp-test
	$(BIN)/pytest -n $(JOBS) --dist loadfile

thorough: lint $(VENV)/stamp-test
	$(BIN)/pytest -n $(JOBS) --dist loadfile -m "thorough or not thorough"

test32: $(VENV)/stamp-test
	THERMOJAX_TEST_X64=0 $(BIN)/pytest -n $(JOBS) --dist load tests/test_float32.py tests/test_frozen.py tests/test_far.py

lint: $(VENV)/stamp-test,lint
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(VENV)/stamp-test,lint
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(VENV)/stamp-examples
	set -e; for script in benchmarks/*.py; do echo "$$script"; $(BIN)/python "$$script"; done

reproduce: $(VENV)/stamp-examples
	$(BIN)/python -m reproduce $(if $(QUICK),--quick)

docs: $(VENV)/stamp-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:
	rm -rf out site build dist .pytest_cache .ruff_cache .hypothesis
	find thermojax tests examples benchmarks reproduce docs -name __pycache__ -type d -prune -exec rm -rf {} +
