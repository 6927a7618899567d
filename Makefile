# Everything here works in an environment of its own, .venv, which is made from the locks when it's needed.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
SHELL := /bin/sh

VENV := .venv
BIN := $(VENV)/bin
PYTHON_CANDIDATES := python3.13 python3.12 python3.11 python3
SUITABLE := import sys, ensurepip, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
# The locks are complete, so there's nothing to resolve: some releases of pip, when they try to, find newer ones than the
# lock's behind extras, and refuse them.
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps \
	$(shell [ -w "$$HOME" ] || echo --no-cache-dir)
UV_COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-emit-find-links --no-annotate --cache-dir $(VENV)/uv-cache --custom-compile-command 'make lock'
LOCKED := requirements requirements-embedded requirements-stripe requirements-dev requirements-bench
# The checks read the settings and reach no server.
CHECKED := env DATABASE_URL=$${DATABASE_URL:-postgresql://127.0.0.1:1/none} REDIS_URL=$${REDIS_URL:-redis://} \
	SECRET_KEY=$${SECRET_KEY:-for-checks} \
	PERSONAL_DATA_KEYS=$${PERSONAL_DATA_KEYS:-for-checks:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=}

.PHONY: help run demo test check format bench screenshots lock clean

help: ## show this
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1	\2/p' Makefile
	@echo
	@echo '  Python: PYTHON=/path/to/python3.11 make ...   Arguments: make run ARGS="--port 8001"'

run: $(VENV)/runtime.stamp ## run all of Waybill on this machine, with sample orders, until Ctrl-C
	@exec $(BIN)/python manage.py run $(ARGS)

demo: $(VENV)/runtime.stamp ## import the sample into a fresh state, wait for every order, show the figures
	@exec $(BIN)/python manage.py demo $(ARGS)

test: check ## check, then run all tests on a real PostgreSQL and a real broker
	$(BIN)/python -m pytest -n auto $(ARGS)

check: $(VENV)/dev.stamp ## formatting, lint, types, architecture, migrations, settings
	$(BIN)/python -m pip --disable-pip-version-check check
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(CHECKED) $(BIN)/mypy .
	$(BIN)/lint-imports
	$(CHECKED) $(BIN)/python -W ignore::RuntimeWarning manage.py makemigrations --check --dry-run
	$(CHECKED) $(BIN)/python manage.py check --fail-level WARNING

format: $(VENV)/dev.stamp ## format, and repair what ruff can repair
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

bench: $(VENV)/bench.stamp ## compare with another event store, and measure orders a second
	$(BIN)/python -m benchmarks $(ARGS)

screenshots: $(VENV)/dev.stamp ## take the pictures of the operations pages anew (needs Chromium)
	$(BIN)/python -m tests.browser.screenshots

lock: $(VENV)/dev.stamp ## compile requirements*.in into locks with hashes (ARGS=--upgrade for newer releases)
	@for name in $(LOCKED); do echo "$$name.in -> $$name.txt" && \
		$(UV_COMPILE) $(ARGS) $$name.in -o $$name.txt || exit; done

clean: ## remove the environment and the caches; the orders, in var/, stay
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@for candidate in $(or $(PYTHON),$(PYTHON_CANDIDATES)); do \
		if "$$candidate" -c '$(SUITABLE)' 2>/dev/null; then \
			echo "Making $(VENV) with $$("$$candidate" --version)" && exec "$$candidate" -m venv $(VENV); \
		fi; \
	done; \
	echo "Waybill needs Python 3.11, 3.12 or 3.13 with its venv module, and found none: tried" >&2; \
	echo "$(or $(PYTHON),$(PYTHON_CANDIDATES)). Install one (Debian: apt-get install python3-venv)," >&2; \
	echo "or name one: make PYTHON=/path/to/python3.11" >&2; \
	exit 1

$(VENV)/runtime.stamp: $(BIN)/python requirements.txt requirements-embedded.txt
	@echo 'Installing requirements.txt and requirements-embedded.txt'
	@$(PIP_INSTALL) -r requirements.txt -r requirements-embedded.txt
	@touch $@

$(VENV)/dev.stamp: $(VENV)/runtime.stamp requirements-dev.txt
	@echo 'Installing requirements-dev.txt'
	@$(PIP_INSTALL) -r requirements-dev.txt
	@touch $@

$(VENV)/bench.stamp: $(VENV)/dev.stamp requirements-bench.txt
	@echo 'Installing requirements-bench.txt'
	@$(PIP_INSTALL) -r requirements-bench.txt
	@touch $@
