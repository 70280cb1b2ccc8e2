# make claims    examine the shipped model `base` (make claims MODEL=... for another)
# make test      run the tests, in two processes         make lint      ruff and mypy
# make install   make .venv with what the claims need
# make bench     time the engine against other libraries (REAL_MODEL=FILE for a real model too)
# make base r1   train the organisms anew (make base r1 SEED=1), an hour and more on two cores
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
MODEL  ?= base
ARGS   ?=
SEED   ?= 0

.PHONY: install claims test lint bench base r1 clean
.DELETE_ON_ERROR:

install: $(VENV)/.claims

claims: $(VENV)/.claims
	$(BIN)/python -m pytest claims/ --model $(MODEL) $(ARGS)

test: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests -n 2 --dist loadfile $(ARGS)

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.bench
	mkdir -p build
	$(BIN)/python -m pytest benchmarks --benchmark-json=build/bench.json $(ARGS)
	$(BIN)/python -m benchmarks.table build/bench.json

base r1: $(VENV)/.test
	$(BIN)/python -m fixtures.organisms.training $@ --seed $(SEED)

clean:
	rm -rf $(VENV)

# Debian splits ensurepip off into python3-venv; without it the system's pip fills the environment.
$(BIN)/python:
	$(PYTHON) -m venv $(VENV) || { $(PYTHON) -m venv --clear --without-pip $(VENV) && $(PYTHON) -m pip --python $(BIN)/python install -q pip; }

$(VENV)/.claims: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install -q -c constraints.txt -e .
	@touch $@

$(VENV)/.test: $(VENV)/.claims
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[test]'
	@touch $@

$(VENV)/.lint: $(VENV)/.test
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[lint,bench]'
	@touch $@

$(VENV)/.bench: $(VENV)/.claims
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[bench]'
	@touch $@
