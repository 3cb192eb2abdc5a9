# Every task of the project; `make help` lists them. Python 3.11 or newer and make are all that is needed.
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help

# Compiled modules are kept, whatever the environment says: a process that compiles all it imports takes seconds to
# start, and tests start hundreds.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help: ## List the tasks
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# uv installs the locked set in seconds; pip brings uv itself, by its hash, and everything after is by hash too.
$(STAMP): requirements.lock requirements-dev.lock pyproject.toml receiver/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Bellwire needs Python 3.11 or newer; this is %s. Name another with: make PYTHON=python3.12 ..." % sys.version.split()[0])'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-uv.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements-dev.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e receiver -e .
	@touch $(STAMP)

.PHONY: install
install: $(STAMP) ## Make .venv with the locked dependencies

.PHONY: run
run: $(STAMP) ## Start everything: Postgres, broker, API, worker, beat, demo receiver
	@exec $(BIN)/bellwire dev

.PHONY: lock
lock: $(STAMP) ## Resolve the dependencies again and write the lock files
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links --no-emit-package bellwire --python-version 3.11 --extra embedded -o requirements.lock pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links --no-emit-package bellwire --python-version 3.11 --extra embedded --extra dev -c requirements.lock -o requirements-dev.lock pyproject.toml
	printf "uv\nsetuptools\nwheel\n" | $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links --python-version 3.11 -o requirements-uv.lock -

# Tests start processes, servers and databases of their own; nothing has to run beforehand.
WORKERS ?= 2
# Tests with real processes wait most of their time: for a lease, a time-out, a start.
WAITING_WORKERS ?= 3
TESTS ?=

.PHONY: test
test: $(STAMP) lint types ## Check the code, then run every test
	$(BIN)/pytest -n $(WORKERS) --dist loadgroup -m "not faults and not e2e" $(TESTS)
	$(BIN)/pytest -n $(WAITING_WORKERS) --dist loadfile --no-loadscope-reorder -m "faults or e2e" $(TESTS)

.PHONY: lint
lint: $(STAMP) ## Style and the direction of imports
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --quiet --check .
	@$(BIN)/lint-imports --no-cache >$(VENV)/imports.log || { cat $(VENV)/imports.log; exit 1; }

.PHONY: types
types: $(STAMP) ## Check the types
	$(BIN)/mypy

.PHONY: fix
fix: $(STAMP) ## Correct style where a tool can
	$(BIN)/ruff check --fix --quiet .
	$(BIN)/ruff format --quiet .

# New inputs that reach new branches are kept in .venv/fuzz; one that shows a fault is written there and named.
FUZZ_SECONDS ?= 120

.PHONY: fuzz
fuzz: $(STAMP) ## Fuzz the receiver package for FUZZ_SECONDS
	@mkdir -p $(VENV)/fuzz
	$(BIN)/python receiver/fuzz/receive.py -max_total_time=$(FUZZ_SECONDS) -artifact_prefix=$(VENV)/fuzz/ $(VENV)/fuzz receiver/fuzz/corpus

.PHONY: audit
audit: $(STAMP) ## Ask whether a locked dependency has a known vulnerability
	$(BIN)/python .ci/audit_dependencies.py

# The parts list of what runs in production, with the hash of every file: CycloneDX 1.6.
SBOM ?= dist/bellwire.cdx.json

.PHONY: sbom
sbom: $(STAMP) ## Write the bill of materials (CycloneDX) to SBOM
	@mkdir -p $(dir $(SBOM))
	@PYTHONWARNINGS=ignore $(BIN)/cyclonedx-py requirements --pyproject pyproject.toml --mc-type application --sv 1.6 --of JSON --output-reproducible --validate --output-file $(SBOM) requirements.lock
	@echo "$(SBOM)"

.PHONY: bench
bench: $(STAMP) ## Measure; SCENARIOS="drain old" for some; tables, JSON and charts in RESULTS
	$(BIN)/python -m bench $(if $(RESULTS),--results $(RESULTS)) $(SCENARIOS)

.PHONY: migrate
migrate: $(STAMP) ## Bring the schema of BELLWIRE_DATABASE_URL up to date
	$(BIN)/bellwire migrate

.PHONY: docs
docs: $(STAMP) ## Write the tables in docs/ that the code decides
	$(BIN)/python docs/generate.py

.PHONY: images
images: $(STAMP) ## Take the pictures of the dashboard in docs/images (needs Chromium)
	PYTHONPATH=. $(BIN)/python docs/screenshots.py
