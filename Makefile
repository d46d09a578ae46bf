# make demo: convert both bundled models, talk to them, measure them, write build/demo/report.html
# make test: lint, types and all tests. Both set up everything they need in .venv on first use.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ENGINE := 0.3.36

# GCC 12 drops stores that AMX needs unless these passes are off (llama.cpp issue 20824).
GCC := $(shell $${CXX:-c++} --version 2>/dev/null | grep -ciE 'gcc|g\+\+|free software foundation')
ifneq ($(GCC),0)
CXXFLAGS_ENGINE := -DCMAKE_CXX_FLAGS='-fno-tree-dse -fno-dse'
endif

.PHONY: setup demo test faults lint dist docs clean

setup: $(VENV)/.ready

$(VENV)/.engine:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	CMAKE_ARGS="-DLLAVA_BUILD=OFF -DGGML_RPC=ON $(CXXFLAGS_ENGINE)" $(BIN)/python -m pip install --no-cache-dir \
		--no-binary llama-cpp-python "llama-cpp-python==$(ENGINE)"
	touch $@

$(VENV)/.ready: $(VENV)/.engine pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

demo: setup
	$(BIN)/python bench/demo.py

test: setup lint
	$(BIN)/python -m pytest --all -n 2 --dist worksteal

# Every fault of docs/reliability.md, as often as it promises: about half an hour.
faults: setup
	EDGELLM_FAULTS=full $(BIN)/python -m pytest -m fault

# What a release has, into dist/, installed and tried without network; the engine's wheels for DEVICES: docs/install.md.
DEVICES ?= x86-laptop-avx2
dist: setup
	$(BIN)/python bench/dist.py $(DEVICES)

# The site, into build/site/: open build/site/index.html; with search: python -m http.server -d build/site.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict --clean

$(VENV)/.docs: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "mkdocs-material>=9.5" # the extra `docs`; the site needs nothing of edgellm itself
	touch $@

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p edgellm

clean:
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache
