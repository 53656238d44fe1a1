# make demo: set everything up and run the main job; make test: set everything up and pass the tests.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SHELL := /bin/bash

.PHONY: help setup system demo test lint clean

help:
	@echo "make demo   set up, collect, train, evaluate; the report is runs/demo/report.html"
	@echo "make test   set up and run the tests"
	@echo "make lint   ruff and pyright"
	@echo "PYTHON=...  the interpreter to build $(VENV) with (3.11 or 3.12)"

# Rendering and the compiler: installed only where this may be done and only what is missing.
system:
	@.ci/system

$(BIN)/.ready: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; ok = (3, 11) <= sys.version_info[:2] <= (3, 12); sys.exit(0 if ok else "hotstart needs Python 3.11 or 3.12, this is " + sys.version.split()[0] + ": make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip<26.2"
	$(BIN)/python -m pip install --quiet $$(grep '^torch==' requirements.txt)
	$(BIN)/python -m pip install --quiet -r requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps -e .
	touch $@

setup: system $(BIN)/.ready

demo: setup
	$(BIN)/hotstart demo

test: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright --pythonpath $(BIN)/python

clean:
	rm -rf $(VENV) build *.egg-info
