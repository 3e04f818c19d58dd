# `make up` and `make test` are all a newcomer needs; both prepare the machine by the same script.
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help up down test test-all unit hostile conformance cgroup-v2 readiness check lint format types scripts bench bench-fleet bench-hostile bench-parts bench-shards bench-tokens chaos fuzz images lock clean setup setup-dev setup-unit

BIN := .venv/bin
LANES := 3
# Python keeps what it compiled, also where the machine's environment forbids it: otherwise each lane compiles all tests.
export PYTHONDONTWRITEBYTECODE :=
STATE := $(or $(MAYFLY_STATE_DIR),.mayfly)
# No engine: one is started, and ended afterwards. What else is missing is named before the first test.
PYTEST = $(BIN)/python -m pytest --numprocesses $(LANES) --dist loadfile --no-loadscope-reorder
READY := deploy/with_engine.sh $(BIN)/python -m tests.preflight
SHELL_SCRIPTS := deploy/setup.sh deploy/prepare.sh deploy/with_engine.sh deploy/roll.sh deploy/restore.sh deploy/install.sh deploy/swarm/node.sh deploy/service_image/redis.sh .ci/run
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-header --no-annotate --no-emit-index-url

help: ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: setup ## install what is missing, start everything, run a sample program
	@$(BIN)/mayfly up

down: ## end what `make up` started; results, keys and images stay
	@if [ -x $(BIN)/mayfly ]; then $(BIN)/mayfly down; else echo "Nothing is running: there is no .venv."; fi

test: setup-dev ## run what an ordinary change can break, in minutes; ARGS="-k name" and the like are pytest's
	$(READY) -- $(PYTEST) -m "not complete and not thorough" $(ARGS)

test-all: setup-dev ## run all tests, and hold the coverage; ARGS as above
	$(READY) --all -- $(PYTEST) --cov --cov-report=term --cov-fail-under=$(if $(ARGS),0,92) $(ARGS)

unit: LANES := 4
unit: setup-unit ## run the unit tests in a minute, without root, Redis or an engine; ARGS as above
	$(PYTEST) -m "not complete and not thorough" -p no:schemathesis tests/unit $(ARGS)

hostile: setup-dev ## every hostile program on every runtime, every control, every system call; ARGS as above
	$(READY) -- $(PYTEST) -m "" tests/hostile $(ARGS)

conformance: setup-dev ## all of other people's tests that run in sandboxes; `make test-all` has a selection
	$(READY) -- $(BIN)/python -m pytest tests/e2e/programs/test_conformance.py tests/e2e/programs/test_programs.py -m ""

cgroup-v2: setup-dev ## tests in a virtual machine: driver oci with cgroup version 2 alone, an audit daemon; needs qemu-system-x86
	$(BIN)/python -m pytest tests/e2e/sandbox/test_cgroup_v2.py -m ""

readiness: setup-dev ## prove the lines of public checklists for production, and print each (docs/production-readiness.md)
	$(READY) --all -- $(BIN)/python -m tests.readiness

check: lint format types scripts test-all ## all that CI runs: every test, lint, format, types; with -k all of them in spite of failures

lint: setup-dev
	$(BIN)/ruff check .

format: setup-dev
	$(BIN)/ruff format --check .

types: setup-dev
	$(BIN)/mypy

scripts: setup-dev
	@if command -v shellcheck; then shellcheck $(SHELL_SCRIPTS); \
	else echo "shellcheck is not installed, so no script was checked."; [ -z "$$CI" ]; fi

bench: setup-dev ## measure, beside raw loops and other systems (docs/benchmarks.md); BENCH="--soak 10000"
	deploy/with_engine.sh $(BIN)/python -m tests.bench $(BENCH)

bench-fleet: setup-dev ## measure the control plane alone, over 1 to 8 workers (docs/scaling.md); BENCH=--publish
	$(BIN)/python -m tests.bench.fleet $(BENCH)

bench-hostile: setup-dev ## measure what one sandbox can take from the host, and what a neighbour feels (SECURITY.md); BENCH=--publish
	deploy/with_engine.sh $(BIN)/python -m tests.bench.taken $(BENCH)

bench-parts: setup-dev ## measure what each part of the wall and of the agent costs a container (docs/benchmarks.md); BENCH=--publish
	$(BIN)/python -m tests.bench.parts $(BENCH)

bench-shards: setup-dev ## measure tenants shared out among eight Redis (docs/scaling.md); BENCH=--publish
	$(BIN)/python -m tests.bench.fleet.shards $(BENCH)

bench-tokens: setup-dev ## count what tools cost a model in tokens (docs/tokens.md); BENCH=--publish
	$(BIN)/python -m tests.bench.tokens $(BENCH)

fuzz: setup-dev ## look for inputs that break a promise of their parsers; FUZZ_SECONDS=60 for each parser
	$(BIN)/python -m tests.fuzz --seconds $(or $(FUZZ_SECONDS),60) --directory $(STATE)/fuzz

chaos: setup-dev ## kill, stop and cut off everything, and look for what was lost (docs/reliability.md); CHAOS="--driver oci"
	$(BIN)/python -m tests.chaos $(CHAOS)

images: setup ## build the sandbox images
	$(BIN)/python -m sandbox_image.build --output $(or $(MAYFLY_IMAGES_DIR),$(STATE)/images)

lock: setup-dev ## resolve the lock files anew from pyproject.toml; LOCK_FLAGS=--upgrade takes newer releases
	printf 'hatchling\neditables\n' | $(COMPILE) $(LOCK_FLAGS) pyproject.toml - --output-file requirements.lock
	printf 'hatchling\neditables\nuv\n' | $(COMPILE) $(LOCK_FLAGS) pyproject.toml - --group dev \
		--constraint requirements.lock --output-file requirements-dev.lock
	printf 'obstore\n' | $(COMPILE) - --constraint requirements-dev.lock --output-file deploy/s3.lock

clean: down ## end everything and remove what was made: the environment, images, queue, results and keys
	rm -rf .venv $(STATE) .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage .coverage.*

setup:
	@deploy/setup.sh

setup-dev:
	@deploy/setup.sh --dev

setup-unit:
	@deploy/setup.sh --unit
