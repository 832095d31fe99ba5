# `make help` lists the targets. PYTHON chooses the interpreter that makes .venv: make setup PYTHON=python3.12
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

# Tests and demo start many Python processes: without cached bytecode each of them compiles torch's imports again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo test check laws bench accuracies clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-7s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## make .venv with the metadist command and the development tools

# The stamp is newer than what decides the installation, so a second `make setup` does nothing.
# --no-compile: Python compiles what is imported; compiling all of torch and scipy here costs over a minute.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(not (3, 11) <= v[:2] <= (3, 13) and \
	  "metadist needs Python 3.11, 3.12 or 3.13; %s is %d.%d. Choose another: make setup PYTHON=python3.12" \
	  % (sys.executable, *v[:2]))'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt -e '.[dev]'
	@touch $@

demo: setup  ## build tasks, meta-train on two Ray actors, evaluate, register, adapt (under ten minutes)
	@$(BIN)/python -m metadist.commands.demo

# Three processes, since much of the time actors, servers and drivers start; tests/conftest.py divides the files.
test: setup  ## every test, with a real Ray and a real MLflow server
	@$(BIN)/python -m pytest tests -m "not laws and not bench" -n 3

check: setup  ## format, lint, types, import floors and unit tests (under two minutes, no Ray)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest tests/unit -m "not ray and not slow and not laws"

laws: setup  ## the full product of every law
	@$(BIN)/python -m pytest tests/laws tests/ray tests/cli tests/mlflow

bench: setup  ## the measurements behind the figures in the documentation
	@$(BIN)/python -m pytest tests/bench -s

accuracies: setup  ## every algorithm on Omniglot and glyphs with one budget (two hours; needs both stores)
	$(BIN)/python -m tests.bench.accuracies
	$(BIN)/python -m tests.bench.accuracies --store glyphs
	$(BIN)/python -m tests.bench.accuracies --shots 5 --filters 64 --only maml,maml++,protonet,r2d2 --modes inductive

clean:  ## remove the environment, caches and build results (never runs or stores)
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
