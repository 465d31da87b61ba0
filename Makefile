# Everything a fresh machine needs. PYTHON chooses the interpreter (3.11 to 3.13).
PYTHON ?= python3
BIN := .venv/bin
JOBS ?= 2
export OMP_NUM_THREADS ?= 1

.PHONY: demo test slow lint bench smoke clean

.venv/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[test]"
	touch $@

demo: .venv/.installed ## train an rEFH and an rVAE beside Kalman filters: a table and a picture
	$(BIN)/seqzoo demo --out demo --jobs $(JOBS)

smoke: .venv/.installed ## the demo on a budget of seconds
	$(BIN)/seqzoo demo --out demo/smoke --jobs $(JOBS) --smoke

test: .venv/.installed
	$(BIN)/python -m pytest -m "not slow" -n $(JOBS)

slow: .venv/.installed ## tests that train for minutes
	$(BIN)/python -m pytest -m slow -n $(JOBS)

lint: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

bench: .venv/.installed
	env -u OMP_NUM_THREADS $(BIN)/seqzoo bench local

clean:
	rm -rf .venv demo build *.egg-info
