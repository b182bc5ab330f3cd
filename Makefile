# SPDX-License-Identifier: GPL-3.0-or-later
# The verbs of this project. Each installs what it needs; `make` alone lists them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
.DELETE_ON_ERROR:

# molecule and ansible-lint look up their helpers in PATH; one ANSIBLE_HOME per checkout keeps two checkouts of the
# same folder name out of each other's molecule folders.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
export ANSIBLE_HOME := $(CURDIR)/.ansible
export PYTHONDONTWRITEBYTECODE := 1
export LC_ALL := C.UTF-8
unexport PYTHONPATH VIRTUAL_ENV PYTHONHOME

# ONLY=pattern chooses bench rows; SCENARIO=name one molecule scenario; ARGS=... goes to ansible-playbook or pytest.
ONLY ?=
ARGS ?=
SCENARIO ?= $(patsubst molecule/%/molecule.yml,%,$(sort $(wildcard molecule/*/molecule.yml)))

# Scenarios with state folders of their own, so that they can run beside the others.
BESIDE := update distcc

CODE := $(wildcard module_utils library filter_plugins inventory_plugins doc_fragments playbooks roles tests molecule tools)

.PHONY: help setup setup-tests demo test packages check lint lint-ansible lint-python unit test-system test-lab fix bench lab-up lab-down lock clean

help: ## list the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: ## install system packages that are missing and the locked virtual environment
	@tools/bootstrap

setup-tests:
	@tools/bootstrap --tests

demo: ## build, install, boot and prove a Xen host on the embedded lab
	@tools/demo $(ARGS)

# An emulated machine keeps one processor busy, so the two halves that need machines run beside each other: those whose
# scenarios share a state folder, keys and images with it, and the rest. Both take about as long.
test: export VOUCH_THOROUGH := 1
test: check packages ## check, then images, machines and every molecule scenario on the lab
	@echo "== beside the scenarios: scenarios $(BESIDE); see build/beside.log"
	@mkdir -p build; $(MAKE) test-lab SCENARIO='$(BESIDE)' >build/beside.log 2>&1 & beside=$$!; \
	lab=0; { $(MAKE) test-lab SCENARIO='$(filter-out $(BESIDE),$(SCENARIO))' && $(MAKE) test-system; } || lab=$$?; \
	code=0; wait $$beside || code=$$?; \
	echo "== beside the scenarios:"; tail -n 25 build/beside.log; \
	for failures in build/molecule/*.failures.txt; do [ ! -e "$$failures" ] || cat "$$failures" >&2; done; \
	[ $$lab -eq 0 ] && [ $$code -eq 0 ]

packages: setup-tests
	@ansible-playbook playbooks/packages.yml

check: lint unit ## linters, types, unit and property tests (no virtual machine)

lint: setup
	@$(MAKE) --jobs=2 --output-sync=target lint-ansible lint-python

# ansible-lint starts ansible-playbook some eighty times; without the verdicts of the result store, which no syntax
# depends on, none of them loads a database.
lint-ansible: export ANSIBLE_INVENTORY := $(CURDIR)/inventories/lab/hosts.yml
lint-ansible:
	ansible-lint

lint-python:
	ruff check .
	ruff format --check .
	mypy --strict module_utils/vouch
	yamllint --strict .

# Tests start hundreds of Python programs: what was compiled is kept, but not in the tree.
unit: export PYTHONDONTWRITEBYTECODE :=
unit: export PYTHONPYCACHEPREFIX := $(CURDIR)/build/pycache
unit: setup-tests
	python -m pytest tests -m 'not lab' --numprocesses auto --dist worksteal $(ARGS)

test-system: setup-tests ## a machine's life, and two builds that must be the same bytes; needs what role lab installs
	python -m pytest tests -m lab $(ARGS)

test-lab: setup-tests ## molecule scenarios on the lab (SCENARIO=name for one)
	@set -- $(SCENARIO); [ "$$#" -gt 0 ] || { echo "no molecule scenario found" >&2; exit 1; }; \
	mkdir -p build/molecule; \
	for scenario in "$$@"; do \
	    echo "== molecule: $$scenario"; began=$$SECONDS; \
	    failures="build/molecule/$$scenario.failures.txt"; rm -f "$$failures"; \
	    molecule test --scenario-name "$$scenario" </dev/null || { \
	        [ ! -e "$$failures" ] || { echo "== failed:"; cat "$$failures"; } >&2; exit 1; }; \
	    echo "== molecule: $$scenario passed in $$((SECONDS - began)) s"; \
	done

fix: setup ## let the tools mend formatting, imports and licence lines
	tools/headers
	python tools/readmes
	ruff check --fix $(CODE)
	ruff format $(CODE)

bench: setup-tests ## measure; print a table, write build/bench.json (ONLY=pattern for some rows)
	python -m tests.bench --only '$(ONLY)' $(ARGS)

lab-up: setup ## make and start the lab's machines
	ansible-playbook playbooks/lab.yml -e lab_state=started $(ARGS)

lab-down: setup ## stop and remove the lab's machines; leaves no process, socket or loop device
	ansible-playbook playbooks/lab.yml -e lab_state=absent $(ARGS)

lock: setup ## renew requirements.lock from requirements.in
	python -m venv build/uv
	build/uv/bin/pip install --quiet --disable-pip-version-check uv
	build/uv/bin/uv pip compile --universal --python-version 3.11 --generate-hashes --upgrade --no-header \
	    --no-emit-index-url --no-emit-find-links --quiet --output-file requirements.lock requirements.in

clean: ## remove what was built; run lab-down first, caches outside the tree stay
	@[ ! -x .venv/bin/ansible-playbook ] || [ ! -e playbooks/lab.yml ] || $(MAKE) lab-down
	rm -rf build .ansible .mypy_cache .ruff_cache .pytest_cache .hypothesis
