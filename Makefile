# coldaisle: `make demo` runs everything on this machine, `make test` proves it. Each makes its locked environment first.
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=

.venv/.run: requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "make: Python 3.11 or newer is needed (set PYTHON=...)" >&2; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	$(BIN)/python -m twin.warmup
	touch $@

.venv/.dev: .venv/.run requirements-dev.lock
	$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements-dev.lock
	touch $@

.PHONY: help env dev demo test test-real lint format bench bench-peers kafka lock clean
help:            ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

env: .venv/.run  ## the locked environment (.venv)

dev: .venv/.dev  ## the same with the tools of development

demo: env        ## twin, broker, history, control and page on this machine: make demo ARGS="--headless --for 120s"
	$(BIN)/coldaisle demo $(ARGS)

test: dev        ## all tests that need nothing but this checkout
	$(BIN)/python -m pytest -m "not real" $(ARGS)

test-real: dev   ## the tests against the real counterparts, which it installs (apt, Maven)
	tests/real/install.sh
	COLDAISLE_REQUIRE_REAL=1 $(BIN)/python -m pytest -m real $(ARGS)

lint: dev        ## ruff and strict typing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: dev      ## let ruff put the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: dev       ## the benchmarks, each beside its peer
	$(BIN)/python -m bench $(ARGS)

PEERS := bench/beside/forecast_peers
build/bench-peers/.made: $(PEERS)/requirements.txt $(PEERS)/requirements-no-deps.txt
	$(PYTHON) -m venv build/bench-peers
	build/bench-peers/bin/pip install -q --disable-pip-version-check -r $<
	build/bench-peers/bin/pip install -q --disable-pip-version-check --no-deps -r $(PEERS)/requirements-no-deps.txt
	touch $@

bench-peers: build/bench-peers/.made  ## the forecasters that ours are compared with: python -m bench.forecast --peers build/bench-peers/bin/python

kafka:           ## a real Apache Kafka on loopback (needs Java 17 and, once, Maven)
	deploy/kafka/kafka.sh $(ARGS)

lock:            ## refresh the two lock files (needs uv)
	uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate -q --extra dev -o requirements-dev.lock
	cp requirements-dev.lock requirements.lock
	uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate -q -o requirements.lock

clean:           ## everything that was built
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
