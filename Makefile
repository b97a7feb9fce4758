# Two commands do everything, set-up included: `make demo` and `make test`.
PYTHON  := /usr/bin/python3
VENV    := .venv
BIN     := $(VENV)/bin
SANDBOX := devstack/sandbox/enter
PYTEST  := $(BIN)/python -m pytest
# Each of two workers has a sandbox of its own, and takes one file of tests after the other.
SANDBOXES := --dist loadfile --tx '2*popen//python=$(SANDBOX) $(BIN)/python'
BINDING := compute_agent/virt/kvm/builder.py $(wildcard compute_agent/virt/kvm/native/*)

# Of `make crash`.
SHARE    := 1
KILLS    := 1000
OUTAGES  := 10
DEATHS   := .cache/deaths.jsonl
CRASHERS := --dist load --maxschedchunk 1 --tx '3*popen//python=$(SANDBOX) $(BIN)/python'
RECORDED  = DEATHS_RECORD=$(CURDIR)/$(DEATHS)
DEATHS_TOLD = $(BIN)/python -m tests.functional.death_record $(DEATHS) $(SHARE) $$(git rev-parse --short HEAD) \
  > docs/crash-matrix.md && grep -o '[0-9]* cases, .* green' docs/crash-matrix.md
# Of `make fuzz`.
CASES    := 1000000
SEED     := $(shell date +%s)
MODELS   := 500
MESSAGES := 5000

.DEFAULT_GOAL := help
.PHONY: help demo lab test unit functional host lint fuzz crash crash-moments crash-hosts crash-random bench clean generate packages

help:  ## what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

demo: packages $(VENV)/ready  ## the main job, on real parts, from boot to terminate
	PYTHONPATH=devstack $(SANDBOX) $(BIN)/python devstack/demo.py

lab: packages $(VENV)/ready  ## two virtual compute hosts, and a shell beside them; they go with the shell
	@export PYTHON=$(BIN)/python; devstack/lab up && trap 'devstack/lab down' EXIT && trap exit HUP && \
	echo 'Try: computectl --host host1 host show; lab run host2 ovs-vsctl show; lab console host1. Leave: exit.' && \
	{ devstack/lab shell || true; }

test: lint unit functional host  ## everything that must hold

unit: packages $(VENV)/ready  ## logic and golden files: no root, no services
	$(PYTEST) --numprocesses 4 tests/unit

functional: packages $(VENV)/ready  ## the agent on real RabbitMQ, Open vSwitch and QEMU; its rooms with the programs that they run
	$(PYTEST) --numprocesses 4 tests/processes
	$(PYTEST) $(SANDBOXES) tests/functional

host: packages $(VENV)/ready  ## what needs the real kernel parts, in virtual compute hosts
	$(SANDBOX) $(PYTEST) tests/host

lint: packages $(VENV)/ready  ## ruff, mypy --strict and shellcheck
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	grep -rlE '^(#!.*[ /](ba)?sh$$|# shellcheck shell=)' .ci devstack tests tools | xargs shellcheck --external-sources --severity=warning --exclude=SC2187

fuzz: packages $(VENV)/ready  ## hostile input in CASES cases made from SEED, and many operations at once; takes its time
	$(BIN)/python -m tests.fuzz.run --cases $(CASES) --seed $(SEED)
	MODEL_EXAMPLES=$(MODELS) $(PYTEST) tests/unit/agent/test_lifecycle_model.py
	MESSAGES=$(MESSAGES) MANY_OPERATIONS_SEEDS="$(SEED)-a $(SEED)-b $(SEED)-c" $(SANDBOX) $(PYTEST) \
	  tests/functional/test_bad_input.py tests/functional/test_many_operations.py

crash:  ## all that follows, one after the other
	$(MAKE) crash-moments
	$(MAKE) crash-hosts
	$(MAKE) crash-random

crash-moments: packages $(VENV)/ready  ## agents and guests' processes die in each SHAREth moment of each operation
	rm -f $(DEATHS)
	DEATHS_EVERY=$(SHARE) $(RECORDED) $(PYTEST) $(CRASHERS) -q tests/functional/test_*_deaths.py
	$(DEATHS_TOLD)

crash-hosts: packages $(VENV)/ready  ## whatever may fail in a migration does, in each step of it, between two virtual hosts
	FAULTS=all $(RECORDED) $(SANDBOX) $(PYTEST) -q tests/host/test_migration.py -k something_fails
	$(DEATHS_TOLD)

crash-random: packages $(VENV)/ready  ## the agent dies at KILLS random moments, and the broker is away OUTAGES times, under load
	RANDOM_KILLS=$(KILLS) OUTAGES=$(OUTAGES) OUTAGE=60 $(SANDBOX) $(PYTEST) -s -q \
	  tests/functional/test_random_kills.py tests/functional/test_broker_death.py

bench: packages $(VENV)/ready  ## ratios of two things measured in one run; never fails a test
	PYTHONPATH=devstack $(SANDBOX) $(BIN)/python -m tests.bench.run

generate: $(VENV)/ready  ## write docs/rpc.md, etc/compute-agent.conf and the binding to Ceph anew from the code
	$(BIN)/python -m compute_agent.rpc.reference > docs/rpc.md
	$(BIN)/oslo-config-generator --config-file etc/config-generator.conf
	$(BIN)/python -m compute_agent.storage.rbd.definitions

packages: $(VENV)/ready
	tools/install-packages $(BIN)/bindep

$(VENV)/ready: setup.cfg setup.py pyproject.toml test-requirements.txt upper-constraints.txt $(BINDING)
	tools/make-venv $(PYTHON) $(VENV)
	@touch $@

clean:  ## remove what was built: the environment and the cached guest images
	rm -rf $(VENV) .cache build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	rm -f compute_agent/virt/kvm/_binding*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
