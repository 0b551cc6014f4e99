# make demo | test | check | quick | bench | bench-tradeoff | fuzz | wheel | clean
# PYTHON: the interpreter that .venv is made from (3.11 to 3.13).
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do "$$p" -c 'import sys; raise SystemExit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && { echo "$$p"; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
TORCH := torch==2.13.0
# Two cores and small models: more threads a process make it slower.
export OMP_NUM_THREADS ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test check quick wheel clean bench bench-tradeoff fuzz

demo: $(VENV)/.installed
	$(BIN)/sctool run examples/digits.toml --overwrite

test: check
	$(BIN)/python -m pytest -n 2 --dist worksteal

quick: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m "not slow" -n 2

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/storage.py
	$(BIN)/python benchmarks/sparse_package.py
	$(BIN)/python benchmarks/sparse_training.py
	$(BIN)/python benchmarks/search_cost.py
	$(BIN)/python benchmarks/shadow_models.py

# Ten minutes of fuzzing over all that reads a user's file.
fuzz: $(VENV)/.installed-dev
	$(BIN)/python -m pip install --quiet --editable '.[fuzz]'
	$(BIN)/python fuzz/fuzz_readers.py

bench-tradeoff: $(VENV)/.installed
	$(BIN)/sctool bench tradeoff benchmarks/studies/reduced.toml --jobs 2 --output runs/bench-tradeoff

wheel: $(VENV)/.installed-dev
	$(BIN)/python -m build --wheel --no-isolation

# torch first and by its exact pin, so that no dependency draws another build of it.
$(VENV)/.installed: pyproject.toml
	@test -n "$(PYTHON)" || { echo "No Python 3.11, 3.12 or 3.13 found. Install python3 and python3-venv, or set PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "Cannot make $(VENV). On Debian or Ubuntu: apt-get install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

clean:
	rm -rf build dist runs .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
