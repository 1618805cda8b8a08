# Two commands for a newcomer: `make demo` and `make test`. Everything they need they set up in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
RUNNABLE := $(VENV)/.runnable

.PHONY: demo test lint bench faults test-slow test-gpu test-soak clean

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP) $(RUNNABLE)

$(RUNNABLE): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[transformers]'
	touch $(RUNNABLE)

# Exit code 3 is right here: one of the demo's files is broken on purpose, and ends as a dead letter.
demo: $(RUNNABLE)  ## the real job on the bundled audio with the bundled models
	rm -rf demo-output
	$(BIN)/scriptorium transcribe configs/demo/manifest.jsonl demo-output --config configs/demo.yaml --show || test $$? -eq 3

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/python -m pytest

faults: $(STAMP)  ## every fault test, the long loops too; its table goes to tests/faults/RESULTS.md
	$(BIN)/python -m pytest tests/faults -m "faults and not gpu"

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow

test-gpu: $(STAMP)
	$(BIN)/python -m pytest -m gpu

test-soak: $(STAMP)
	$(BIN)/python -m pytest -m soak

bench: $(STAMP)
	$(BIN)/python -m tests.benchmarks

clean:
	rm -rf $(VENV) demo-output build dist
