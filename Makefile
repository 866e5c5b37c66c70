# make setup | setup-hf | setup-ray | setup-docs | demo | test | test-device | test-hf | test-ray | docs | lessons | notebooks | portable | lint | laws | deep | crash | bench | gpu; see README.md and docs/testing.md
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
export OMP_NUM_THREADS ?= 2
# Processes that tests start do not compile the sources anew.
unexport PYTHONDONTWRITEBYTECODE
PYTEST := $(BIN)/python -m pytest -n 2 --dist worksteal

ROOMS := dpcore mechanisms accountants trainers audits cli
LINKS := .links/dpigu

.PHONY: setup setup-hf setup-ray setup-docs demo test test-device test-hf test-ray docs lessons notebooks portable portable-sse portable-avx2 portable-threads lint laws deep crash bench gpu

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt examples/dpigu-plugin/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("dpigu needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Set PYTHON=python3.11.") if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --no-deps --editable examples/dpigu-plugin
	touch $@

# Hugging Face's libraries, an extra; without them its tests are skipped.
setup-hf: $(VENV)/.installed-hf

$(VENV)/.installed-hf: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[hf]'
	touch $@

# What builds the site, an extra.
setup-docs: $(VENV)/.installed-docs

$(VENV)/.installed-docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

# The site, in site/: without network, and strict, so that a broken link or a public name without a
# docstring fails. Open site/index.html.
docs: setup-docs $(LINKS)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet

# Every lesson of docs/learn that needs no extra, cell by cell; LESSONS='--write first.md' keeps
# what they print.
lessons: setup
	OMP_NUM_THREADS=1 $(BIN)/python docs/hooks/lessons.py $(LESSONS)

# The same as notebooks, in notebooks/; the site has them too.
notebooks: setup
	$(BIN)/python docs/hooks/notebooks.py notebooks

demo: setup
	@out=runs/demo-$$(date +%Y%m%d-%H%M%S); \
	$(BIN)/dpigu train --preset adadpigu --data digits --epsilon 4 --delta 1e-5 --canaries 400 --out $$out && \
	$(BIN)/dpaudit model $$out

test: setup $(LINKS)
	cd examples/dpigu-plugin && OMP_NUM_THREADS=1 ../../$(BIN)/python -m pytest
	OMP_NUM_THREADS=1 $(PYTEST)
	$(MAKE) test-device

# An emulated accelerator: torch knows it for a whole process, which then cannot fork.
test-device: setup
	OMP_NUM_THREADS=1 $(PYTEST) tests/device --ignore=tests/device/test_huggingface.py

# Ray, an extra; without it the tests of a cluster are skipped.
setup-ray: $(VENV)/.installed-ray

$(VENV)/.installed-ray: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[ray]'
	touch $@

test-ray: setup-ray
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/audits/workers/test_cluster.py

HF_TESTS := tests/trainers/engines/test_huggingface.py tests/trainers/integrations/test_huggingface.py
test-hf: setup-hf
	OMP_NUM_THREADS=1 $(PYTEST) $(HF_TESTS)
	OMP_NUM_THREADS=1 $(PYTEST) tests/device/test_huggingface.py
	OMP_NUM_THREADS=1 $(BIN)/python -W ignore docs/hooks/lessons.py lora.md

# The numerical tests as other machines round: instruction sets, BLAS kernels, threads.
NUMERICAL := $(sort $(shell grep -rl "mark\.numerical" --include="test_*.py" tests)) -m numerical
portable: portable-sse portable-avx2 portable-threads

portable-sse: setup
	ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 MKL_CBWR=COMPATIBLE \
	OPENBLAS_CORETYPE=Nehalem NPY_DISABLE_CPU_FEATURES="X86_V3 X86_V4" \
	OMP_NUM_THREADS=1 $(PYTEST) $(NUMERICAL)

portable-avx2: setup
	ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_CBWR=AVX2 \
	OPENBLAS_CORETYPE=Haswell NPY_DISABLE_CPU_FEATURES="X86_V4" \
	OMP_NUM_THREADS=1 $(PYTEST) $(NUMERICAL)

portable-threads: setup
	OMP_NUM_THREADS=2 $(PYTEST) $(NUMERICAL)

# Type checkers, editors and the site see one package through a folder of links.
$(LINKS): Makefile
	rm -rf $@ && mkdir -p $@
	for room in $(ROOMS); do ln -s ../../$$room $@/; done
	for file in $(notdir $(wildcard dpigu/*.py)) py.typed; do ln -s ../../dpigu/$$file $@/; done

lint: setup $(LINKS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict .links
	MYPYPATH=$(dir $(LINKS)) $(BIN)/mypy benchmarks

laws: setup $(LINKS)
	HYPOTHESIS_PROFILE=deep OMP_NUM_THREADS=1 $(PYTEST) tests/laws

# Tests that try less in `make test`: every preset and situation, at the effort of --quick.
DEEP := $(filter-out tests/device/%,$(sort $(shell grep -rl "mark\.deep" --include="test_*.py" tests)))
deep: setup
	HYPOTHESIS_PROFILE=deep OMP_NUM_THREADS=1 $(PYTEST) $(DEEP) -m deep
	HYPOTHESIS_PROFILE=deep OMP_NUM_THREADS=1 $(PYTEST) tests/device -m deep

# A run is stopped at every operation on the disk, and 200 processes are killed at random.
crash: setup
	CRASH_STRIDE=1 CRASH_KILLS=200 HYPOTHESIS_PROFILE=deep OMP_NUM_THREADS=1 \
		$(BIN)/python -m pytest -s tests/crash

PEERS := .venv-bench
$(PEERS)/.installed: pyproject.toml constraints.txt
	test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --constraint constraints.txt torch
	$(PEERS)/bin/python -m pip install --quiet --constraint constraints.txt --editable .
	$(PEERS)/bin/python -m pip install --quiet --constraint constraints.txt opacus jax jax-privacy einops
	$(PEERS)/bin/python -m pip install --quiet --no-deps backpack-for-pytorch unfoldNd
	touch $@

# The peers in an environment of their own, every net and batch, then the pictures and the table.
BENCH := mnist:256 mnist:1000 mnist:4000 cifar:256 cifar:1000 cifar:4000 \
	mlp:256 mlp:1000 mlp:4000 transformer:64 transformer:256 wrn:64
bench: $(PEERS)/.installed
	for run in $(BENCH); do \
		net=$${run%:*}; batch=$${run#*:}; \
		$(PEERS)/bin/python -W ignore -m benchmarks.step --net $$net --batch $$batch --threads $(OMP_NUM_THREADS) \
			--out benchmarks/results/$$net-$$batch.json || exit 1; \
	done
	$(PEERS)/bin/python -m benchmarks.draw

# The tests of a device and the time of a step, on a GPU; it refuses without one.
gpu: setup
	$(BIN)/python -m benchmarks.gpu
