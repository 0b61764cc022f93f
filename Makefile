# `make help` lists what there is. Everything runs from a clean clone: the environment is made first.

.DEFAULT_GOAL := help
PYTHON_BIN := .venv/bin
ARGS ?=
# Most tests wait for something: more workers than cores are quicker.
WORKERS ?= 4
# Files go whole to one worker. A worker that dies is replaced once: xdist runs the test that ended it
# again, which may end the next one as well.
PARALLEL = -n $(WORKERS) --dist loadfile --max-worker-restart=1
BENCH := $(wildcard scripts/bench.py)

.PHONY: help
help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: up
up:  ## run everything on this machine: server, relay, and an agent for it (ARGS="--listen …")
	@scripts/bootstrap.sh
	@exec $(PYTHON_BIN)/tether up $(ARGS)

.PHONY: test
test: dev  ## all tests but those of `make lab` (ARGS="-k expression tests/unit/net")
	$(PYTHON_BIN)/pytest $(PARALLEL) -m "not lab and not long" $(ARGS)

.PHONY: lab
lab: dev  ## long tests with real processes, and those between hosts in network namespaces: root on Linux, else skipped with the reason
	$(PYTHON_BIN)/pytest $(PARALLEL) -m "lab or long" tests/lab tests/e2e tests/integration $(ARGS)

.PHONY: fallback
fallback: dev  ## the agent's tests once more, on the event loop that it uses where uvloop is missing
	TETHER_TEST_LOOPS=asyncio $(PYTHON_BIN)/pytest $(PARALLEL) tests/unit/agent tests/integration/agent -k asyncio $(ARGS)

.PHONY: check
check: dev  ## lint, format, types, imports, generated docs
	$(PYTHON_BIN)/ruff check .
	$(PYTHON_BIN)/ruff format --check .
	$(PYTHON_BIN)/mypy
	$(PYTHON_BIN)/lint-imports
	$(PYTHON_BIN)/python scripts/gen_docs.py --check
	$(PYTHON_BIN)/python scripts/sizes.py

.PHONY: docs
docs: dev  ## write the generated parts of docs/
	$(PYTHON_BIN)/python scripts/gen_docs.py

.PHONY: web
web: dev  ## check and build the pages: src/tether/server/web/static (needs Node.js 20 and npm)
	cd web && npm ci --no-audit --no-fund
	$(PYTHON_BIN)/python scripts/web_types.py --check
	cd web && npm run check && npm run build

.PHONY: coverage
coverage: dev  ## branch coverage of attribution and protocol by their own tests: must be 100 %
	$(PYTHON_BIN)/coverage run -m pytest -q -p no:xdist tests/unit/attribution tests/unit/protocol
	$(PYTHON_BIN)/coverage report --fail-under=100

ifneq ($(BENCH),)
.PHONY: bench
bench: dev  ## speed, side by side with OpenSSH's sshd (ARGS="--rounds 5")
	$(PYTHON_BIN)/python $(BENCH) $(ARGS)
endif

.PHONY: gauntlet
gauntlet: dev  ## end connections for real, in every way, and see whether the log tells it right (ARGS="--topology nginx,haproxy")
	@scripts/gauntlet_packages.sh
	$(PYTHON_BIN)/python -m tether_gauntlet $(ARGS)

.PHONY: survival
survival: dev  ## what a session and a 1 GB rsync live through, with the gaps (ARGS="--megabytes 50")
	$(PYTHON_BIN)/python -m tether_gauntlet.survival $(ARGS)

.PHONY: fuzz
fuzz: dev  ## a million inputs to the short way of SSH's data, and to asyncssh's own: the same must come out (ARGS="--inputs 1000")
	$(PYTHON_BIN)/python scripts/fuzz_ssh.py $(ARGS)

.PHONY: upstream
upstream: dev  ## asyncssh's own tests, with the short way for SSH's data switched on (ARGS="tests/test_process.py")
	scripts/test_asyncssh.sh $(ARGS)

.PHONY: lock
lock:  ## write the lock files from pyproject.toml (ARGS=--upgrade takes the newest)
	scripts/lock.sh $(ARGS)

.PHONY: dev
dev:  ## make the environment, with the tools for tests and checks
	@scripts/bootstrap.sh --dev

.PHONY: clean
clean:  ## remove the environment and every cache
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage
	find src tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +
