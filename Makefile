# Two commands for a newcomer: `make demo` and `make test`. Each target sets up the environment that it needs.
PYTHON ?= python3
# pip 23, which Python 3.11 brings, takes four to five minutes to resolve the test environment; this one takes about one.
PIP_VERSION := 26.3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
RUNNABLE := $(VENV)/.runnable
# vLLM's CPU build needs an environment of its own: 4.5 GB, four minutes.
VLLM_VENV := .venv-vllm
VLLM_STAMP := $(VLLM_VENV)/.installed

# Processes of pytest: one for the tests that share a Ray, one for faults, which mostly wait, one for all others
# (tests/conftest.py). `make test PYTEST_PROCESSES=0` runs all tests in one.
PYTEST_PROCESSES ?= 3
PARALLEL := -n $(PYTEST_PROCESSES) --dist loadgroup

# `make check` leaves out what starts Ray or a browser, takes minutes, or mostly waits: the server's tests, remote
# recognisers, leases, the reaper of orphaned processes.
UNIT_TESTS := tests/actors tests/pipelines tests/docs \
	-m "not ray and not slow and not gpu and not soak and not faults" \
	--ignore tests/actors/backends/remote \
	--ignore tests/pipelines/serving \
	--ignore tests/pipelines/output/test_lease.py \
	--ignore tests/pipelines/cluster/test_orphan_reaper.py

.PHONY: demo check test lint docs bench bench-peers faults test-slow test-gpu test-soak test-vllm clean

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet pip==$(PIP_VERSION)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP) $(RUNNABLE)

$(RUNNABLE): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet pip==$(PIP_VERSION)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[transformers]'
	touch $(RUNNABLE)

$(VLLM_STAMP): pyproject.toml infra/vllm/requirements-cpu.txt
	$(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_VENV)/bin/python -m pip install --quiet pip==$(PIP_VERSION)
	$(VLLM_VENV)/bin/pip install --quiet --no-deps --only-binary :all: torch==2.13.0 torchvision==0.28.0
	$(VLLM_VENV)/bin/pip install --quiet --no-deps --requirement infra/vllm/requirements-cpu.txt
	$(VLLM_VENV)/bin/pip install --quiet --no-deps --editable .
	$(VLLM_VENV)/bin/python infra/vllm/patch_torchvision.py
	touch $(VLLM_STAMP)

# Exit code 3 is expected: one of the demo's files is broken on purpose and becomes a dead letter.
demo: $(RUNNABLE)  ## run the job on the bundled audio with the bundled models
	rm -rf demo-output
	$(BIN)/scriptorium transcribe configs/demo/manifest.jsonl demo-output --config configs/demo.yaml --show || test $$? -eq 3

lint: $(STAMP)  ## style, types and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint  ## lint and the quick unit tests: under two minutes on two cores
	$(BIN)/python -m pytest $(PARALLEL) $(UNIT_TESTS)

test: lint  ## what CI runs
	$(BIN)/python -m pytest $(PARALLEL)

docs: $(STAMP)  ## write the parts of docs/ and configs/ that are generated from the code
	$(BIN)/python -m tests.docs.generated_tables

faults: $(STAMP)  ## every fault test, the long loops too; results go to tests/faults/RESULTS.md
	$(BIN)/python -m pytest tests/faults -m "faults and not gpu"

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow

test-gpu: $(STAMP)
	$(BIN)/python -m pytest -m gpu

test-vllm: $(VLLM_STAMP)  ## vLLM's CPU build: the contract suite, and the demo with both models
	$(VLLM_VENV)/bin/python -m pytest -m slow -k vllm tests/actors/backends/test_contract.py tests/actors/backends/vllm/test_engine.py tests/e2e/test_vllm.py

test-soak: $(STAMP)
	$(BIN)/python -m pytest -m soak

bench: $(STAMP)
	$(BIN)/python -m tests.benchmarks

bench-peers: $(STAMP)  ## Scriptorium beside ffmpeg, Ray's example, Daft, NeMo Curator and qwen-asr: an hour
	$(BIN)/python -m tests.benchmarks.peers

clean:
	rm -rf $(VENV) $(VLLM_VENV) .peers demo-output build dist
