# Two commands are enough: `make demo` and `make test`. Both set up their own virtual environment first.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
NET ?= ssd
DEMO_DIR ?= demo
# Each worker of the tests loads PyTorch: about a gigabyte of memory.
TEST_WORKERS ?= 2

# The embedded engine as an image; TORCH_INDEX=https://pypi.org/simple takes PyTorch for NVIDIA GPUs.
BASE_IMAGE ?= python:3.11-slim
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
IMAGE ?= taomagic/engine:$(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)

# The JupyterLab extension is written in TypeScript, so building it needs Node.js. Nothing else does.
LABEXTENSION := build/labextension/package.json
LABEXTENSION_WITH_NODE := $(if $(shell command -v npm),$(LABEXTENSION))
LABEXTENSION_SOURCES := $(addprefix labextension/,package.json tsconfig.json $(shell cd labextension && find src style -type f))

.PHONY: demo test lint types imports unit notebooks protos labextension wheel image clean help

help:
	@echo "make demo    set up, draw sample data, train, prune, retrain and export an SSD, show the result"
	@echo "make demo NET=detectnet_v2    the same with DetectNet_v2, and on to INT8 engines"
	@echo "make test    set up, check style, types and imports, run all tests"
	@echo "make lint | types | unit    one part of it;  make notebooks | protos    rebuild generated files"
	@echo "make labextension    build the JupyterLab extension (needs Node.js 18 or newer);  make wheel    build the package"
	@echo "make image    build the engine as a Docker image, IMAGE=$(IMAGE) from BASE_IMAGE=$(BASE_IMAGE)"

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

unit: $(VENV)/.dev $(LABEXTENSION_WITH_NODE)
	$(BIN)/python -m pytest --numprocesses $(TEST_WORKERS) --no-loadscope-reorder

notebooks: $(VENV)/.dev
	$(BIN)/python -m taomagic.samples.build

protos: $(VENV)/.dev
	$(BIN)/python -m taomagic.spec.generate

labextension: $(LABEXTENSION)

labextension/node_modules/.installed: labextension/package-lock.json
	cd labextension && npm ci --silent --ignore-scripts --no-audit --no-fund
	@touch $@

# JupyterLab's own package.json says which libraries it shares with its extensions.
$(LABEXTENSION): $(VENV)/.demo labextension/node_modules/.installed $(LABEXTENSION_SOURCES)
	core=$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib") + "/jupyterlab/staging")') && \
	cd labextension && npm run --silent build -- "$$core"
	@mkdir -p $(VENV)/share/jupyter/labextensions
	ln -sfn $(abspath $(dir $@)) $(VENV)/share/jupyter/labextensions/taomagic

wheel: $(VENV)/.dev $(LABEXTENSION_WITH_NODE)
	$(BIN)/python -m build --wheel

image:
	docker build --file docker/Dockerfile --build-arg BASE_IMAGE=$(BASE_IMAGE) --build-arg TORCH_INDEX=$(TORCH_INDEX) \
	  --tag $(IMAGE) $(IMAGE_OPTIONS) .
	@echo "Use it: %tao_env --backend docker, with TAOMAGIC_IMAGE=$(IMAGE)"

clean:
	rm -rf $(VENV) dist build labextension/node_modules labextension/lib .mypy_cache .ruff_cache .pytest_cache .hypothesis $(DEMO_DIR)
