# Everything one needs to run, test and measure the project. `make help` lists it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ENGINES := .venv-engines
COG := $(BIN)/python -m cogapp -I .
PAGES := README.md CONTRIBUTING.md docs/*.md

.DEFAULT_GOAL := help
.PHONY: help demo test engines soak matrix wheel-test check guides format faults notebook nightly bench jobs figures docs audit clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.demo ## start a local API, fetch 10,000 Tweets from it, show the results and write reports
	@$(BIN)/engagement demo --output demo-output

test: check ## run all checks and all tests
	$(BIN)/python -m pytest -n 3 --dist loadfile

engines: $(ENGINES)/.installed ## run the tests of pipelines on Ray, Spark and Dask, in an environment of their own
	@command -v java >/dev/null || apt-get install -y -qq --no-install-recommends default-jre-headless || echo "no Java: Spark's tests are skipped"
	$(ENGINES)/bin/python -m pytest -k "ray or spark or dask" tests/unit/distributed tests/test_examples.py

RUNS ?= 10
soak: $(STAMP) ## run all tests RUNS times (10), in random order, with two busy loops beside them
	$(BIN)/python -m tests.soak --runs $(RUNS) $(ARGS)

matrix: $(STAMP) ## run all tests on every supported Python that can be had here, and on the lowest dependencies
	$(BIN)/python -m tests.versions $(ARGS)

wheel-test: $(STAMP) ## try the built wheel in clean environments, without extras and with each
	$(BIN)/python -m tests.wheel

check: $(STAMP) ## run ruff, mypy --strict and pyright, and compare the figures in the pages with their sources
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/basedpyright --pythonpath $(BIN)/python
	$(COG) --check $(PAGES)

guides: $(STAMP) ## print what is large in the package, for a reader's judgement
	$(BIN)/python -m tests.guides

format: $(STAMP) ## auto-fix lint and formatting
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

faults: $(STAMP) ## run every fault of the matrix over real sockets, and write its table into docs/reliability.md
	$(BIN)/python -m tests.matrix

notebook: $(STAMP) ## write examples/notebook.ipynb out of examples/notebook.py, with outputs of a local API
	$(BIN)/python -m tests.example_notebook

nightly: $(STAMP) ## run the property tests with fifty times the examples
	HYPOTHESIS_PROFILE=nightly $(BIN)/python -m pytest -n 2 -m hypothesis --timeout 0

bench: $(VENV)/.bench ## run all benchmarks except those of jobs and of several processes, and write their figures into the pages
	$(BIN)/python -m benchmarks

jobs: $(VENV)/.bench ## benchmark durable jobs: speed, memory, a hundred kills, a long night (half an hour)
	$(BIN)/python -m benchmarks backfill
	$(BIN)/python -m benchmarks.kill
	$(BIN)/python -m benchmarks.kill --owners 1000 --batches 3000 --kills 50
	$(BIN)/python -m benchmarks.night

figures: $(STAMP) ## write the figures of the pages from benchmarks/results and the sources
	$(COG) -r $(PAGES)

docs: $(VENV)/.docs ## build the site into site/, strictly and offline
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build

audit: $(STAMP) ## check the installed dependencies for known vulnerabilities
	$(BIN)/pip-audit --strict --skip-editable

clean: ## remove what these targets made
	rm -rf $(VENV) $(ENGINES) .matrix demo-output dist build site .mypy_cache .pytest_cache .ruff_cache .hypothesis

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

# Apart from the others: these are large, and what they need is old.
$(ENGINES)/.installed: pyproject.toml
	$(PYTHON) -m venv $(ENGINES)
	$(ENGINES)/bin/python -m pip install --quiet --upgrade pip
	$(ENGINES)/bin/python -m pip install --quiet --editable '.[all,dask,ray,spark]' --group engines
	@touch $@

$(VENV)/.bench: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[all]' --group dev --group bench
	@touch $(VENV)/.demo $(STAMP) $@

$(VENV)/.docs: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[all]' --group docs
	@touch $(VENV)/.demo $@
