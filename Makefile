# Two commands are enough: `make demo` and `make test`. Both set up their own virtual environment first.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
NET ?= ssd
DEMO_DIR ?= demo

.PHONY: demo test lint types imports unit notebooks protos wheel clean help

help:
	@echo "make demo    set up, draw sample data, train, prune, retrain and export a detector, show the result"
	@echo "make test    set up, check style, types and imports, run all tests"
	@echo "make lint | types | unit    one part of it;  make notebooks | protos    rebuild generated files"

# One stamp for each set of dependencies, so that `make demo` doesn't wait for development tools.
$(VENV)/.base:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "taomagic needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	@touch $@

$(VENV)/.demo: $(VENV)/.base pyproject.toml constraints.txt
	@echo "Installing taomagic and PyTorch into $(VENV) (a few minutes the first time) ..."
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[engine,lab]'
	@touch $@

$(VENV)/.dev: $(VENV)/.demo
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[engine,lab,dev]'
	@touch $@

demo: $(VENV)/.demo
	$(BIN)/python -m taomagic.samples.demo $(NET) $(DEMO_DIR)

test: lint types imports unit

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

imports: $(VENV)/.dev
	$(BIN)/lint-imports --no-cache

unit: $(VENV)/.dev
	$(BIN)/python -m pytest

notebooks: $(VENV)/.dev
	$(BIN)/python -m taomagic.samples.build

protos: $(VENV)/.dev
	$(BIN)/python -m taomagic.spec.generate

wheel: $(VENV)/.dev
	$(BIN)/python -m build --wheel

clean:
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis $(DEMO_DIR)
