# Everything a fresh machine needs is installed into .venv by `make venv`, which the other targets run.
#
#   PYTHON       the interpreter that makes the environment (3.10 or newer)
#   TORCH_INDEX  an index of PyTorch wheels, for instance https://download.pytorch.org/whl/cpu for the
#                small CPU build; without it Linux takes PyPI's CUDA build
#   CONSTRAINTS  the pinned versions
#   JOBS         test processes side by side
PYTHON ?= python3
TORCH_INDEX ?=
CONSTRAINTS ?= constraints.txt
JOBS ?= 2
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: venv test lint format types docs demo clean

venv: $(STAMP)

$(STAMP): pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c $(CONSTRAINTS) \
	    $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -e '.[test,lint,docs]'
	touch $(STAMP)

# One thread a process: the tests are small, and two processes share two cores.
test: venv
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) $(PYTEST_ARGS)

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: venv
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: venv
	$(BIN)/mypy

docs: venv
	$(BIN)/sphinx-build -q -W --keep-going --fresh-env --builder html docs docs/_build/html

demo: venv
	$(BIN)/python examples/demo.py

clean:
	rm -rf .venv build dist docs/_build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
