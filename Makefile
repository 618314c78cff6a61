# Everything a fresh machine needs is installed into .venv by `make venv`, which the other targets run;
# `make demo` alone installs only what the demo needs.
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
DEMO_STAMP := .venv/.installed-demo

NATIVE := CMakeLists.txt $(wildcard csrc/*)  # the kernel is built again when one of them changes

# The suites: all tests are in one of them. These need the extras, are about what does, compile the
# kernel anew, or measure the memory of whole processes. The longest tests begin, so that no process
# is left with one when the others are done.
EXTRAS := ops/native/test_sanitizers.py ops/native/test_kernel_memory.py \
    model/test_reckoned_memory.py \
    distributed huggingface training experiments tasks scaling bench cli http plots distillation \
    evaluation harness export fuzz examples \
    test_demo.py test_configs.py test_readme.py test_docs.py test_docs_code.py \
    interop/test_released_commands.py \
    mixers/test_replace_transformers.py mixers/test_generate_replaced.py \
    model/test_lora.py model/test_adapter_methods.py model/test_quantized_models.py
EXTRAS := $(wildcard tests/*/test_memory_of_*.py) $(addprefix tests/,$(EXTRAS))

.PHONY: venv test test-extras test-builds lint format types docs demo recall sanitize fuzz wheel clean

# pip would compile 300 MB of Python in one process, which is most of its time. Packages' own tests
# are never imported, and a file that is no Python of this version is compiled by nobody.
COMPILE = $(BIN)/python -m compileall -qq -j $(JOBS) -x '/tests?/' .venv/lib || true

venv: $(STAMP)

$(STAMP): WHAT := test,lint,docs
$(DEMO_STAMP): WHAT := demo
$(STAMP) $(DEMO_STAMP): pyproject.toml $(CONSTRAINTS) $(NATIVE)
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install -c $(CONSTRAINTS) --build-constraint $(CONSTRAINTS) --no-compile \
	    $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -e '.[$(WHAT)]'
	$(COMPILE)
	touch $@

# One thread a process: the tests are small, and two processes share two cores. Where a test takes
# more, its threads sleep while they wait for one another, or the other process could not work.
PYTEST = OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -n $(JOBS)

# The core suite: the convolutions, filters, mixers, models, generation, data and formats.
test: venv
	$(PYTEST) $(addprefix --ignore=,$(EXTRAS)) $(PYTEST_ARGS)

# All others: training, tasks, evaluation, distillation, benchmarks, the command line and the pages.
test-extras: venv
	$(PYTEST) $(EXTRAS) $(PYTEST_ARGS)

# The convolutions without the kernel, and with each build that is not the best here (AVX2 where
# there is AVX-512, and portable). tests/ops/native, which takes longest, goes through all builds by
# itself; what names the backend naive or torch is the same with each, and in `make test`.
OTHERS = $(BIN)/python -c 'from hyena.ops.native import library; print(*library.isas()[1:])'
SAME := naive or [torch- or -torch- or [torch] or -torch]
test-builds: venv
	set -e; others=$$($(OTHERS)); for isa in none $$others; do \
	    HYENA_ISA=$$isa $(PYTEST) tests/ops --ignore=tests/ops/native -k 'not ($(SAME))'; \
	done

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

# It needs no tools for tests and docs; where `make venv` has put them, or another target that is
# made at the same time does, all is there: two installations would disturb each other.
ALL_TOOLS := $(wildcard $(STAMP)) $(filter-out demo clean wheel,$(MAKECMDGOALS))
demo: $(if $(strip $(ALL_TOOLS)),$(STAMP),$(DEMO_STAMP))
	$(BIN)/python examples/demo.py

# Associative recall with each operator, at small sizes; goes on where it was interrupted.
recall: venv
	$(BIN)/hyena tasks sweep configs/tasks/recall-quick.yaml --jobs $(JOBS)

# The kernel with the run-time checks of GCC or Clang for addresses and undefined behaviour, under
# the tests of the convolutions. The checks' own libraries have to be loaded before Python's. Of CMake
# that of the environment is taken, where one has been installed into it, else the system's.
SANITIZED := build/sanitized
CMAKE = $(firstword $(wildcard $(BIN)/cmake) cmake)
sanitize: venv
	$(CMAKE) -S . -B $(SANITIZED) -DHYENA_SANITIZE=ON
	$(CMAKE) --build $(SANITIZED) --parallel $(JOBS)
	HYENA_KERNEL_LIBRARY=$(CURDIR)/$(SANITIZED)/libhyena_kernel.so OMP_NUM_THREADS=2 \
	    LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libubsan.so)" \
	    ASAN_OPTIONS=detect_leaks=0 $(BIN)/python -m pytest tests/ops $(PYTEST_ARGS)

# Hostile input of three kinds, 23,600 cases from a seed. FUZZ_PYTHON, the Python of another build,
# runs them too, and both counts are shown.
fuzz: venv
	$(BIN)/python tests/fuzz/fuzz.py --jobs $(JOBS) \
	    $(if $(FUZZ_PYTHON),--against $(FUZZ_PYTHON)) $(FUZZ_ARGS)

# This machine's wheel, into dist/, and a check of it in environments of its own.
wheel:
	.ci/wheel

clean:
	rm -rf .venv build dist docs/_build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
