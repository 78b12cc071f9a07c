# make run [LOG=path]   sets up and runs the pipeline: on the embedded log, or on yours
# make test             sets up and passes every check
# make docs             runs the course and builds the site into build/site
PYTHON ?= python3
BIN := .venv/bin
# LightGBM with two threads beside another busy process ran ten times slower than with one.
export OMP_NUM_THREADS ?= 1
export OMP_WAIT_POLICY ?= passive
export MLFLOW_DISABLE_TELEMETRY ?= true
# Each of hundreds of processes would compile what it imports anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test check docs packages collected bench bench-forecast bench-replay bench-placement bench-execution bench-repair demo-dask demo-slurm demo-live clean help bench-solvers bench-guide bench-advise bench-eta bench-memory bench-snakemake bench-worth bench-energy bench-month

help:
	@sed -n '1,3s/^# //p' Makefile

.venv/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "plancast needs Python 3.11 or later; name one: make PYTHON=python3.12 ..."; exit 2; }
	$(PYTHON) -m venv .venv
	@touch $@

# By uv, which is several times faster; where it is not to be had, or does not reach what pip does, by pip.
define install
@UV_DEFAULT_INDEX="$${PIP_INDEX_URL:-$$($(BIN)/python -m pip config get global.index-url 2>/dev/null)}"; \
  export UV_DEFAULT_INDEX; \
  $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv && \
  $(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.$(1)' || \
  $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.$(1)'
endef

.venv/core: .venv/python pyproject.toml constraints.txt
	$(call install)
	@touch $@

.venv/dev: .venv/python pyproject.toml constraints.txt
	$(call install,[dev])
	@touch .venv/core $@

run: .venv/core
	$(BIN)/plancast run $(if $(LOG),--log '$(LOG)') $(ARGS)

check: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

docs: .venv/dev
	$(BIN)/python docs/hooks.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Compiled once, beside the checks, and not by each of the test processes.
kernels-%: .venv/dev
	@$(BIN)/plancast doctor --warm --half $* --json >/dev/null

# The bytecode of all tests and of what they import, made once.
collected: .venv/dev
	@$(BIN)/python -m pytest --collect-only -q >/dev/null

# Tests make and remove thousands of small files: in memory, where it has room for them.
define in_memory
if [ -w /dev/shm ] && [ "$$(df --output=avail -m /dev/shm | tail -n 1)" -gt 2000 ] && \
    ! findmnt -no OPTIONS /dev/shm | grep -qw noexec; then \
    TMPDIR=$$(mktemp -d /dev/shm/plancast-XXXXXX); export TMPDIR; trap 'rm -rf "$$TMPDIR"' EXIT; \
    chmod 711 "$$TMPDIR"; \
  fi;
endef

packages:
	@.ci/packages

test: .venv/dev
	# All at once on two cores: whichever ends last has no core idle beside it.
	@$(MAKE) --no-print-directory -j 5 check kernels-plans kernels-searches collected $(BESIDE)
	# Three processes on two cores: many tests wait, for Slurm or for Dask.
	@$(in_memory) $(BIN)/python -m pytest -n 3 --dist worksteal

bench: .venv/dev
	$(BIN)/python -m benchmarks.scale

bench-forecast: .venv/dev
	$(BIN)/python -m benchmarks.forecasts $(if $(LOG),'$(LOG)')

bench-replay: .venv/dev
	$(BIN)/python -m benchmarks.replay

bench-worth: .venv/dev
	$(BIN)/python -m benchmarks.worth

bench-placement: .venv/dev
	$(BIN)/python -m benchmarks.placement

bench-execution: .venv/dev
	$(BIN)/python -m benchmarks.execution

demo-dask: .venv/dev
	$(BIN)/python -m benchmarks.demo dask

# In a network namespace of its own, as root, with Debian's Slurm.
demo-slurm: .venv/dev
	@dir=$$(mktemp -d /tmp/plancast-XXXXXX); trap '.ci/slurm-up $$dir down; rm -rf $$dir' EXIT; \
	.ci/slurm-up $$dir && nsenter --net=$$dir/net env SLURM_CONF=$$dir/slurm.conf \
	  $(BIN)/python -m benchmarks.demo slurm --nodes n1,n2,n3

# A master that stays, on Dask and on a real Slurm (as root, as above).
demo-live: .venv/dev
	$(BIN)/python -m benchmarks.demo_live dask
	@dir=$$(mktemp -d /tmp/plancast-XXXXXX); trap '.ci/slurm-up $$dir down; rm -rf $$dir' EXIT; \
	.ci/slurm-up $$dir && nsenter --net=$$dir/net env SLURM_CONF=$$dir/slurm.conf \
	  $(BIN)/python -m benchmarks.demo_live slurm --nodes n1,n2,n3

bench-repair: .venv/dev
	$(BIN)/python -m benchmarks.repair $(ARGS)

bench-guide: .venv/dev
	$(BIN)/python -m benchmarks.guide $(ARGS)

bench-eta: .venv/dev
	$(BIN)/python -m benchmarks.eta $(ARGS)

bench-advise: .venv/dev
	$(BIN)/python -m benchmarks.advise $(ARGS)

bench-memory: .venv/dev
	$(BIN)/python -m benchmarks.memory $(ARGS)

bench-snakemake: .venv/dev
	$(BIN)/python -m benchmarks.snakemake $(ARGS)

bench-energy: .venv/dev
	$(BIN)/python -m benchmarks.energy $(ARGS)

bench-month: .venv/dev
	$(BIN)/python -m benchmarks.month $(ARGS)

bench-solvers: .venv/dev
	$(BIN)/python -m benchmarks.solvers $(ARGS)

clean:
	rm -rf .venv
