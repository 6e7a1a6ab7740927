# Everything works from a fresh clone: each target first sees to .venv. `make help` lists them.

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := install
.PHONY: install demo test test-lowest lint format type docs report bench bench-peers constraints clean help

BIN := .venv/bin
STAMP := .venv/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check
TORCH := $(shell grep '^torch==' constraints.txt)

# The first of these that runs, is new enough and can make a virtual environment; `make PYTHON=...` names another.
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3.14 python3; do \
	$$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$python && break; done)

install: $(STAMP) ## set up .venv (once; again when pyproject.toml or constraints.txt change)

# torch goes first, by its exact version: asked for as a range, pip may take another build than the one pinned.
$(STAMP): pyproject.toml constraints.txt
	@if [ ! -x $(BIN)/pip ]; then \
		if [ -z "$(PYTHON)" ]; then \
			echo "Python 3.11 or newer with its venv module is needed; here is: $$(python3 --version 2>&1)."; \
			echo "Install it (on Debian or Ubuntu also python3-venv), or name it: make PYTHON=/path/to/python3.11"; \
			exit 1; \
		fi; \
		echo "Making .venv with $$($(PYTHON) --version)"; \
		$(PYTHON) -m venv .venv; \
	fi
	@echo "Installing $(TORCH), the largest of the downloads"
	@$(PIP) install $(TORCH) -c constraints.txt
	@echo "Installing SeqDiffRec and what it needs (a minute or two)"
	@$(PIP) install --quiet -e '.[dev]' -c constraints.txt
	@touch $@
	@echo "Ready. Next: make demo, make test, or $(BIN)/seqdiffrec --help"

demo: install ## train DiffRec on ML-100K and print recommendations
	@$(BIN)/seqdiffrec demo

test: install ## run the tests, and see that they cover 90 % of the lines
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --cov

LOWEST := build/lowest
test-lowest: ## run some tests with the lowest versions that pyproject.toml allows, torch aside; makes build/lowest
	@test -x $(LOWEST)/bin/pip || $(PYTHON) -m venv $(LOWEST)
	@$(LOWEST)/bin/python tests/lowest.py > $(LOWEST)/constraints.txt
	@$(LOWEST)/bin/pip install --quiet $(TORCH)
	@$(LOWEST)/bin/pip install --quiet -e '.[frames,hub,plots,sql,ann,tune,trackers]' duckdb 'pytest>=9,<10' 'hypothesis>=6.100,<7' \
		'typeguard>=2.13,<3' -c $(LOWEST)/constraints.txt
	@OMP_NUM_THREADS=1 $(LOWEST)/bin/python -m pytest -q -o addopts=--import-mode=importlib \
		tests/data tests/config tests/cli tests/inference \
		--ignore tests/inference/test_export.py

lint: install ## look for mistakes and unformatted code
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: install ## put the code in order
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

type: install ## check the types of src/
	@$(BIN)/pyright

docs: install ## check links, figures and the paper-to-code map, and that built pages are up to date
	@$(BIN)/python docs/check.py
	@$(BIN)/python -m benchmarks page --check
	@for study in $(wildcard studies/*.toml); do $(BIN)/seqdiffrec report $$study --check || exit 1; done

report: install ## build the pages of docs/study, docs/benchmarks.md and their plots from the records
	@$(BIN)/python -m benchmarks page
	@for study in $(wildcard studies/*.toml); do $(BIN)/seqdiffrec report $$study || exit 1; done

bench: install ## time the code
	@$(BIN)/python -m benchmarks

bench-peers: install ## make the environments of the other libraries that training and quality are timed beside
	@$(BIN)/python -m benchmarks setup

constraints: install ## write the versions that .venv holds into constraints.txt
	@{ sed -n '/^#/p' constraints.txt; \
	   $(PIP) freeze --all --exclude-editable --exclude pip | sed 's/+[^+]*$$//' | LC_ALL=C sort -f; } > constraints.new
	@mv constraints.new constraints.txt
	@touch $(STAMP)

clean: ## remove .venv, caches and build outputs; runs/ stays
	rm -rf .venv build dist .coverage htmlcov .pytest_cache .ruff_cache .hypothesis src/*.egg-info
	find src tests docs benchmarks -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; do \
		printf 'make %-12s %s\n' "$$name" "$$text"; done
