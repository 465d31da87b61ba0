# Everything a fresh machine needs. PYTHON chooses the interpreter (3.11 to 3.13), VENV where it is
# set up: make test PYTHON=python3.12 VENV=.venv-3.12
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CONSTRAINTS ?= constraints.txt
JOBS ?= 2
export OMP_NUM_THREADS ?= 1
# Workers and the processes that tests start then read bytecode that another has compiled.
export PYTHONDONTWRITEBYTECODE :=
# A file of tests stays on one worker, which makes its fixtures once. pytest takes seconds to rewrite
# all assertions for their messages: tests that failed run again with them.
PYTEST = $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --assert=plain

NOTEBOOKS := $(patsubst tutorials/%.py,tutorials/notebooks/%.ipynb,$(wildcard tutorials/*.py))

.PHONY: demo test test-lowest slow lint docs notebooks bench smoke gpu gpu-wheels clean

$(VENV)/.installed: pyproject.toml build_backend.py $(CONSTRAINTS)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c $(CONSTRAINTS) torch
	$(BIN)/python -m pip install -q --disable-pip-version-check -c $(CONSTRAINTS) -e ".[test]"
	touch $@

demo: $(VENV)/.installed ## train an rEFH and an rVAE beside Kalman filters: a table and a picture
	$(BIN)/seqzoo demo --out demo --jobs $(JOBS)

smoke: $(VENV)/.installed ## the demo on a budget of seconds
	$(BIN)/seqzoo demo --out demo-smoke --jobs $(JOBS) --smoke

test: $(VENV)/.installed
	$(PYTEST) -m "not slow" || { $(BIN)/python -m pytest --last-failed; exit 1; }

test-lowest: ## the tests against the lowest versions that pyproject.toml declares, on Python 3.11
	$(MAKE) test VENV=.venv-lowest CONSTRAINTS=constraints-lowest.txt JOBS=1

slow: $(VENV)/.installed ## tests that train for minutes
	$(BIN)/python -m pytest -m slow -n $(JOBS)

lint: $(VENV)/.installed ## style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright --pythonpath $(BIN)/python

docs: $(VENV)/.installed ## make the tables of README and docs anew, and the index of recipes
	$(BIN)/python -c "from pathlib import Path; from seqzoo.zoo.runs import tables; tables.refresh(Path('.')); tables.write_index()"

notebooks: $(NOTEBOOKS) ## run the tutorials in full, and keep what they print and draw

tutorials/notebooks/%.ipynb: tutorials/%.py | $(VENV)/.installed
	$(BIN)/python tutorials/notebooks/make.py $<

bench: $(VENV)/.installed
	env -u OMP_NUM_THREADS $(BIN)/seqzoo bench local

# With .gpu/wheels a bare machine needs no installation: its own Python has torch with CUDA.
GPU_WHEELS := $(wildcard .gpu/wheels)
gpu: $(if $(GPU_WHEELS),,$(VENV)/.installed) ## tests, benchmarks and trainings on a GPU, in eight minutes
	$(if $(GPU_WHEELS),$(PYTHON),$(BIN)/python) gpu/run.py $(if $(GPU_WHEELS),--wheels $(GPU_WHEELS))

gpu-wheels: ## fill .gpu with what a machine with a GPU and no network lacks: wheels, published data
	mkdir -p .gpu/wheels
	$(PYTHON) -m pip download -q --no-deps --only-binary=:all: --python-version 3.12 \
		-d .gpu/wheels -r gpu/packages.txt
	if [ -n "$(SEQZOO_DATA)" ]; then \
		rm -rf .gpu/data && cp -RL "$(SEQZOO_DATA)" .gpu/data && chmod -R u+w .gpu/data; fi
	du -sh .gpu

clean:
	rm -rf .venv .venv-* demo demo-smoke gpu-run build *.egg-info
