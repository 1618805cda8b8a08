# Two commands for a newcomer: `make demo` and `make test`. Everything they need they set up in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
RUNNABLE := $(VENV)/.runnable
# vLLM's CPU build has an environment of its own: 4.5 GB, four minutes.
VLLM_VENV := .venv-vllm
VLLM_STAMP := $(VLLM_VENV)/.installed

.PHONY: demo test lint bench faults test-slow test-gpu test-soak test-vllm clean

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP) $(RUNNABLE)

$(RUNNABLE): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[transformers]'
	touch $(RUNNABLE)

$(VLLM_STAMP): pyproject.toml infra/vllm/requirements-cpu.txt
	$(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_VENV)/bin/pip install --quiet --no-deps --only-binary :all: torch==2.13.0 torchvision==0.28.0
	$(VLLM_VENV)/bin/pip install --quiet --no-deps --requirement infra/vllm/requirements-cpu.txt
	$(VLLM_VENV)/bin/pip install --quiet --no-deps --editable .
	$(VLLM_VENV)/bin/python infra/vllm/patch_torchvision.py
	touch $(VLLM_STAMP)

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

test-vllm: $(VLLM_STAMP)  ## vLLM for real, on its CPU build: the contract suite, and the demo through both models
	$(VLLM_VENV)/bin/python -m pytest -m slow -k vllm tests/actors/backends/test_contract.py tests/actors/backends/vllm/test_engine.py tests/e2e/test_vllm.py

test-soak: $(STAMP)
	$(BIN)/python -m pytest -m soak

bench: $(STAMP)
	$(BIN)/python -m tests.benchmarks

clean:
	rm -rf $(VENV) $(VLLM_VENV) demo-output build dist
