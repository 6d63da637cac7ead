# Everything one needs to run, test and measure the project. `make help` lists it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help demo test soak matrix wheel-test check guides format faults nightly bench jobs audit clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.demo ## start a local API, fetch 10,000 Tweets from it, show what came back
	@$(BIN)/engagement demo --output demo-output

test: check ## all checks and all tests
	$(BIN)/python -m pytest -n 2 --dist loadfile

RUNS ?= 10
soak: $(STAMP) ## all tests RUNS times (10), in random order, with two busy loops beside them
	$(BIN)/python -m tests.soak --runs $(RUNS) $(ARGS)

matrix: $(STAMP) ## all tests on every Python that is promised and can be had here; also on the lowest dependencies
	$(BIN)/python -m tests.versions $(ARGS)

wheel-test: $(STAMP) ## the built wheel in clean environments, without extras and with each
	$(BIN)/python -m tests.wheel

check: $(STAMP) ## ruff, ruff format --check, mypy --strict; pyright on the public API
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/basedpyright --pythonpath $(BIN)/python

guides: $(STAMP) ## what is large in the package, for a reader's judgement
	$(BIN)/python -m tests.guides

format: $(STAMP) ## mend what ruff can mend
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

faults: $(STAMP) ## every fault of the matrix over real sockets; writes the table in docs/reliability.md
	$(BIN)/python -m tests.matrix

nightly: $(STAMP) ## the property tests, looking fifty times harder
	HYPOTHESIS_PROFILE=nightly $(BIN)/python -m pytest -n 2 -m hypothesis --timeout 0

bench: $(VENV)/.bench ## all benchmarks but the jobs'; writes the tables in docs/performance.md
	$(BIN)/python -m benchmarks

jobs: $(VENV)/.bench ## benchmarks of durable jobs: speed, memory, a hundred kills (ten minutes)
	$(BIN)/python -m benchmarks backfill
	$(BIN)/python -m benchmarks.kill

audit: $(STAMP) ## known holes in what is installed
	$(BIN)/pip-audit --strict --skip-editable

clean: ## take out what these targets made
	rm -rf $(VENV) .matrix demo-output dist build .mypy_cache .pytest_cache .ruff_cache .hypothesis

# A Debian Python may come without ensurepip: virtualenv is the way out.
$(BIN)/python:
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); $(PYTHON) -m pip install --quiet --user --break-system-packages virtualenv && $(PYTHON) -m virtualenv --quiet $(VENV); }
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.demo: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[all]'
	@touch $@

$(STAMP): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[all]' --group dev
	@touch $(VENV)/.demo $@

$(VENV)/.bench: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[all]' --group dev --group bench
	@touch $(VENV)/.demo $(STAMP) $@
