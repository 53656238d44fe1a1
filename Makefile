# make demo: set everything up and run the main job; make test: set everything up and pass the tests.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SHELL := /bin/bash

.PHONY: help setup system demo test lint docs docs-serve docs-sources requirements clean

help:
	@echo "make demo   set up, collect, train, evaluate; the report is runs/demo/report.html"
	@echo "make test   set up and run the tests"
	@echo "make lint   ruff and pyright"
	@echo "make docs   the documentation in build/site; make docs-serve shows it while you write"
	@echo "make requirements   pin every package and its hashes anew (UPGRADE=--upgrade: newer versions)"
	@echo "PYTHON=...  the interpreter to build $(VENV) with (3.11 or 3.12)"

# Rendering and the compiler: installed only where this may be done and only what is missing.
system:
	@.ci/system

$(BIN)/.ready: requirements.txt requirements-torch.txt pyproject.toml
	@$(PYTHON) -c 'import sys; ok = (3, 11) <= sys.version_info[:2] <= (3, 12); sys.exit(0 if ok else "hotstart needs Python 3.11 or 3.12, this is " + sys.version.split()[0] + ": make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip<26.2"
	$(BIN)/python -m pip install --quiet --require-hashes --no-deps -r requirements.txt
	$(BIN)/python -m pip install --quiet -r requirements-torch.txt
	$(BIN)/python -m pip install --quiet --no-deps -e .
	$(BIN)/python -m pip check
	touch $@

setup: system $(BIN)/.ready

demo: setup
	$(BIN)/hotstart demo

test: setup
	$(BIN)/python -m pytest -n 2 --max-worker-restart=0 --dist loadfile --durations=25 -m "not wall_clock"
	$(BIN)/python -m pytest --durations=10 -m wall_clock

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	mkdir -p build/import && ln -sfn "$(CURDIR)" build/import/hotstart
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright --pythonpath $(BIN)/python

# Nothing is fetched while it is built, and the pages work without a network. The API reference is read
# from build/docs: the checkout itself holds environments and builds, which are read too slowly.
MKDOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs
SOURCES := $(filter-out docs examples tests, $(wildcard *.py) $(sort $(patsubst %/,%,$(dir $(wildcard */*.py)))))
docs: setup docs-sources
	$(MKDOCS) build --strict --quiet

docs-serve: setup docs-sources
	$(MKDOCS) serve

docs-sources:
	@rm -rf build/docs && mkdir -p build/docs/hotstart
	@cp -r $(SOURCES) build/docs/hotstart/
	@touch build/docs/hotstart/datasets/__init__.py

# One file for both Pythons. CUDA libraries are left out: they belong to the build of torch, and come with it.
EXTRAS := pusht metaworld gymnasium-robotics pretrained images rosbag openvino ur so101 dynamixel serve docs dev
CUDA := cuda-bindings cuda-toolkit nvidia-cudnn-cu13 nvidia-cusparselt-cu13 nvidia-nccl-cu13 nvidia-nvshmem-cu13 triton
requirements:
	$(PYTHON) -m venv build/uv
	build/uv/bin/python -m pip install --quiet uv==0.13.9
	UV_CUSTOM_COMPILE_COMMAND="make requirements" build/uv/bin/uv pip compile --quiet $(UPGRADE) \
		pyproject.toml requirements-torch.txt $(EXTRAS:%=--extra %) --universal --python-version 3.11 \
		--generate-hashes --annotation-style line --no-emit-package torch \
		--excludes <(printf '%s\n' $(CUDA)) --output-file requirements.txt

clean:
	rm -rf $(VENV) build *.egg-info
