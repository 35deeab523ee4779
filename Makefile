# Two commands set everything up on a fresh machine: `make demo` and `make test`.
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
OUT ?= otoscope-demo
PACKAGES ?= ops metrics bank train results bench/plan
NUMBER ?= 20
SEED ?= 0

.PHONY: venv demo test bench mutation faults lint clean

venv: $(VENV)/ready

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: venv
	$(BIN)/otoscope demo --out $(OUT)

test: venv lint
	$(BIN)/pytest

bench: venv
	$(BIN)/python benchmarks/run_all.py

mutation: venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev,mutation]'
	$(BIN)/python tools/mutation.py --packages $(PACKAGES) --number $(NUMBER) --seed $(SEED)

faults: venv
	$(BIN)/python tools/fault_campaign.py

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) $(OUT) build dist
