# make setup | demo | test | lint | laws | bench; see README.md
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
export OMP_NUM_THREADS ?= 2

.PHONY: setup demo test lint laws

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt examples/dpigu-plugin/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("dpigu needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Set PYTHON=python3.11.") if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --no-deps --editable examples/dpigu-plugin
	touch $@

demo: setup
	@out=runs/demo-$$(date +%Y%m%d-%H%M%S); \
	$(BIN)/dpigu train --preset adadpigu --data digits --epsilon 4 --delta 1e-5 --canaries 400 --out $$out && \
	$(BIN)/dpaudit model $$out

test: setup
	cd examples/dpigu-plugin && OMP_NUM_THREADS=1 ../../$(BIN)/python -m pytest
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict dpcore

laws: setup
	HYPOTHESIS_PROFILE=deep OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 tests/laws
