# `make demo` and `make test` need Python >= 3.11 with pip and venv, and nothing else.
PYTHON ?= python3
VENV ?= .venv
OLDEST ?= .venv-oldest
DATA ?= simulated
LEVEL ?= 5
OUT ?= demo-output
KIND ?=
OPERATION ?=
NAMES ?=
TESTS ?=
BIN := $(VENV)/bin
READY := $(VENV)/.ready
OLDEST_READY := $(OLDEST)/.ready
DOCS_READY := $(VENV)/.docs-ready

.PHONY: demo test test-oldest lint docs bench fuzz chaos clean

# torch goes first, alone and pinned: a bare `torch` may draw gigabytes of CUDA.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python >= 3.11 is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[plot,fetch,anndata,umap,test]"
	touch $(READY)

$(DOCS_READY): $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[docs]"
	touch $(DOCS_READY)

$(OLDEST_READY): pyproject.toml constraints-oldest.txt
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-oldest.txt torch
	$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-oldest.txt -e ".[plot,fetch,anndata,umap,test]"
	touch $(OLDEST_READY)

demo: $(READY)
	$(BIN)/python examples/compare_methods.py --data $(DATA) --level $(LEVEL) --out $(OUT)

# One thread for each of the two processes: more would fight over the cores.
test: lint
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

# As TESTS=tests/alignment: the tests with the lower bounds of pyproject.toml.
test-oldest: $(OLDEST_READY)
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(OLDEST)/bin/python -m pytest -n 2 $(TESTS)

# As NAMES="cca ranks"; on real data by hand, see benchmarks/run.py.
bench: $(READY)
	$(BIN)/python benchmarks/run.py $(NAMES) --json benchmarks.json

# As N=100000, or KIND=gctx: mutated inputs, see docs/reliability.md.
fuzz: $(READY)
	$(BIN)/python tests/fuzz -n $(or $(N),1000) $(addprefix --kind ,$(KIND))

# As N=100, or OPERATION=study-save: kills, full disks, two writers, read-only folders.
chaos: $(READY)
	$(BIN)/python tests/chaos -n $(or $(N),80) $(addprefix --operation ,$(OPERATION))

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# -W: a warning, in a docstring or in an example of the gallery, is an error.
docs: $(DOCS_READY)
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html
	@echo "Open docs/_build/html/index.html"

clean:
	rm -rf $(VENV) $(OLDEST) $(OUT) build dist docs/_build docs/api docs/gallery
