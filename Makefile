# Everything runs in an environment of its own, .venv, that the first command makes.
# Works with GNU make 3.81 and later.

# Which Python makes .venv: make PYTHON=python3.12 test
PYTHON ?= python3
# Which extras of setup.cfg are installed: make install EXTRAS=test,gpu
EXTRAS ?= test
# Tests run in as many processes as there are cores, but no more than four: each compiles
# its own programs, which takes memory. For one test: make test PYTEST_ARGS='-x tests/meta'
PYTEST_ARGS ?= -n auto --maxprocesses 4

VENV := .venv
BIN := $(VENV)/bin
# Made last, so an environment without it is half-made. It names the folder that it was made
# for: in a copied or moved checkout, .venv would still run the code of the old place. Read
# by .venv's own Python, so that one whose Python has gone counts as broken, too.
STAMP := $(VENV)/.installed
MADE_FOR := $(shell $(BIN)/python -IS -c 'print(open("$(STAMP)").read())' 2>/dev/null)

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow lint benchmark docs clean FORCE

help:  ## Show this list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s  %s\n", $$1, $$2}' Makefile

install: FORCE  ## Make .venv or renew it; EXTRAS=test,gpu for NVIDIA GPUs.
	$(set-up)

demo: $(STAMP)  ## Train and compare a small learned optimizer; leaves it in runs/demo.
	$(BIN)/python launchers/train.py --config=configs/demo.py --workdir=runs/demo

test: lint  ## Lint, check types and run the tests.
	$(BIN)/python -m pytest $(PYTEST_ARGS)

test-slow: $(STAMP)  ## Run the slow tests that `make test` leaves out.
	XLA_FLAGS= $(BIN)/python -m pytest -m slow --timeout 3600 $(PYTEST_ARGS)

lint: $(STAMP)  ## Check style, formatting and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

benchmark: $(STAMP)  ## Measure speed on this machine.
	$(BIN)/python launchers/benchmark.py

docs: $(STAMP)  ## Build the docs site into site/.
	@$(BIN)/python -c 'import material' 2>/dev/null || \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	$(BIN)/python docs/make_architecture.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:  ## Remove .venv, builds and caches; runs/ stays.
	rm -rf $(VENV) build dist site *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

ifneq ($(MADE_FOR),$(CURDIR))
$(STAMP): FORCE
endif
$(STAMP): setup.cfg pyproject.toml constraints.txt
	$(set-up)

# An environment that was once complete for this folder is brought up to date in place; any
# other is made anew. Installed as editable, because `python launchers/train.py` puts
# launchers/ on the path and not this folder.
define set-up
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
	  echo "Python 3.11, 3.12 or 3.13 is needed, and $(PYTHON) is: $$($(PYTHON) --version 2>&1)" >&2; \
	  echo "Name another one, for example: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@if [ "$(MADE_FOR)" != "$(CURDIR)" ]; then $(PYTHON) -m venv --clear $(VENV); fi
	@rm -f $(STAMP)
	@echo "Installing into $(VENV): takes a few minutes the first time, and about 1.7 GB."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'
	@printf '%s\n' "$(CURDIR)" > $(STAMP)
endef

FORCE:
