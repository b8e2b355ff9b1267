# `make demo` and `make test` work from a fresh clone. They need Python 3.11 or newer with venv, and a package index.

# The Airflow version for development; noxfile.py lists the others.
AIRFLOW = 3.3.2
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
VENV = .venv
BIN = $(VENV)/bin
SAMPLES = .demo/samples
SOURCE ?= $(SAMPLES)
export SOURCE  # read by the shell from the environment, so a folder may have any name
WORKERS ?= auto
PYTEST_ARGS ?=
# A worker that is done takes over tests of the one that has the most left.
PARALLEL = -n $(WORKERS) --dist worksteal
MODEL_STEPS ?= 10000
MUTANTS ?=
SOAK_SECONDS ?= 1800
SOAK_ARGS ?=

# Ignore Python settings of the environment. Compiled modules speed up the many process starts.
unexport PYTHONDONTWRITEBYTECODE PYTHONPATH PYTHONHOME VIRTUAL_ENV

# uv, if it could be installed, takes the same arguments as pip and a tenth of the time.
install = if [ -x $(BIN)/uv ]; then $(BIN)/uv pip install --quiet --python $(BIN)/python $(1); \
	else $(BIN)/python -m pip install --quiet $(1); fi

.DEFAULT_GOAL := help
.PHONY: help demo test check lint types contracts pytest matrix test-demo test-faults test-slow test-distributed screenshots redis chromium faults soak model mutants bench docs dist \
	test-dist test-example-project test-first-steps lowest venv clean test-privileged audit

help: ## Show this help
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 26

demo: $(VENV)/.package $(if $(filter $(SAMPLES),$(SOURCE)),.demo/.samples) ## Run two example DAGs with real files: make demo [SOURCE=folder] [OPEN=1]
	@exec $(BIN)/python scripts/demo.py $(if $(OPEN),--open )"$$SOURCE"

test: ## Run everything: lint, types, import contracts, all tests
	@$(MAKE) --no-print-directory -j 2 check pytest

check: lint types contracts

lint: $(VENV)/.dev ## Check rules and format with ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev ## Check types with mypy --strict
	$(BIN)/mypy

contracts: $(VENV)/.dev ## Check with import-linter which module may import which
	$(BIN)/lint-imports

pytest: $(VENV)/.data ## Run the tests in parallel: make pytest [PYTEST_ARGS="-k name"]
	$(BIN)/python -m pytest $(PARALLEL) $(PYTEST_ARGS)

matrix: $(VENV)/.matrix ## Run the tests on every Airflow and Python: make matrix [CELL=airflow-2.11-python-3.12] [PYTEST_ARGS=…]
	$(BIN)/nox $(if $(CELL),--session "tests($(CELL))") -- $(PARALLEL) $(PYTEST_ARGS)

lowest: $(VENV)/.matrix ## Run the tests with the oldest releases that pyproject.toml allows: make lowest [CELL=2.11] [PYTEST_ARGS=…]
	$(BIN)/nox --session $(if $(CELL),"lowest(airflow='$(CELL)')",lowest) -- $(PARALLEL) $(PYTEST_ARGS)

test-demo: $(VENV)/.dev ## Test the demo: interruption, cleanup, and errors
	$(BIN)/python -m pytest tests/e2e/system -m demo $(PARALLEL) $(PYTEST_ARGS)

test-example-project: dist $(VENV)/.matrix ## Test the example project of docs/testing-dags.md with the wheel, on each Airflow
	$(BIN)/nox --session example_project -- $(PYTEST_ARGS)

test-faults: $(VENV)/.dev ## Test every fault with every operation; make test runs a third of these tests
	FAULTS_ALL=1 $(BIN)/python -m pytest tests/robustness/faults $(PARALLEL) $(PYTEST_ARGS)

test-slow: $(VENV)/.dev ## Test that uploads survive a router that is down for 10 s: make test-slow
	$(BIN)/python -m pytest tests/robustness/restarts -m slow $(PARALLEL) $(PYTEST_ARGS)

test-distributed: redis chromium $(VENV)/.distributed ## Test with a complete Airflow: scheduler, triggerer, Celery workers, a browser
	$(BIN)/python -m pytest tests/e2e/distributed --timeout 1500 $(PYTEST_ARGS)

screenshots: chromium $(VENV)/.distributed ## Renew the screenshots in docs/images
	SCREENSHOTS=docs/images $(BIN)/python -m pytest tests/e2e/distributed/test_browser.py \
		tests/e2e/distributed/test_bulk_page.py --timeout 900 -p no:randomly

redis:
	@command -v redis-server >/dev/null || { echo "redis-server is missing; on Debian: apt-get install redis-server" >&2; exit 1; }

chromium:
	@command -v chromium >/dev/null || { echo "chromium is missing; on Debian: apt-get install chromium" >&2; exit 1; }

faults: $(VENV)/.dev ## Test every fault with every operation, and write the results into docs/faults.md
	FAULTS_ALL=1 FAULTS_WRITE=1 $(BIN)/python -m pytest tests/robustness/faults $(PARALLEL) $(PYTEST_ARGS)

bench: $(VENV)/.dev $(if $(COMPARE),$(VENV)/.compare) ## Measure the client, and write docs/benchmarks.md: make bench [QUICK=1] [COMPARE=1]
	$(BIN)/python -m benchmarks $(if $(QUICK),--quick) $(if $(COMPARE),--compare)

model: $(VENV)/.dev ## Compare the client with a dictionary in random steps: make model [MODEL_STEPS=10000]
	MICTLANX_MODEL_STEPS=$(MODEL_STEPS) $(BIN)/python -m pytest -q -s --show-capture=no tests/robustness/model

mutants: $(VENV)/.dev ## Remove guards one by one, and check that a test fails: make mutants [MUTANTS="upload.py …"]
	$(BIN)/python scripts/mutants.py $(MUTANTS)

test-privileged: $(VENV)/.dev ## As root: test downloads onto full and read-only disks, and into other users' folders
	$(BIN)/python -m pytest tests/e2e/privileged $(PYTEST_ARGS)

audit: $(VENV)/.audit ## Compare the package's dependencies with the advisories of PyPI
	@$(BIN)/python scripts/audit.py

soak: $(VENV)/.dev ## Run mixed work on a misbehaving storage space for 30 minutes: make soak [SOAK_SECONDS=60]
	@exec $(BIN)/python scripts/soak.py --seconds $(SOAK_SECONDS) $(SOAK_ARGS)

docs: $(VENV)/.docs ## Build the documentation site into build/docs
	$(BIN)/python -m sphinx -q -E -W --keep-going docs build/docs

dist: $(VENV)/.dist ## Build the wheel and the source archive into dist/, and check them: make dist [VERSION=1.2.3]
	rm -rf dist
	$(BIN)/uv build --quiet
	$(BIN)/twine check --strict dist/*.whl dist/*.tar.gz
	$(BIN)/python scripts/check_dist.py $(if $(VERSION),--version $(VERSION))

test-dist: dist $(VENV)/.matrix ## Build again from the archive, and install the wheel alone, on each Airflow
	$(BIN)/python -m pytest tests/e2e/packaging
	$(BIN)/nox --session wheel

test-first-steps: $(VENV)/.dev ## Follow the README and the tutorial in a fresh clone and an empty home folder
	$(BIN)/python -m pytest tests/e2e/first_steps $(PYTEST_ARGS)

venv: $(VENV)/.dev ## Create the environment for development

clean: ## Remove environments, caches, build results and files of the demo
	rm -rf .venv .nox .demo build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamp files: a step runs again only after one of its prerequisites has changed.
$(VENV)/.created:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer with venv and ensurepip is required; set PYTHON=…" >&2; exit 1; }
	@echo "Creating $(VENV) ($$($(PYTHON) --version), Airflow $(AIRFLOW)) …"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install -qq --upgrade pip
	@$(BIN)/python -m pip install -qq uv || echo "uv could not be installed; using pip, which is slower"
	@touch $@

$(VENV)/.package: $(VENV)/.created pyproject.toml
	@echo "Installing the package and Airflow $(AIRFLOW) …"
	@$(call install,--editable '.[local-vss]' 'apache-airflow==$(AIRFLOW).*')
	@touch $@

$(VENV)/.dev: $(VENV)/.package
	@echo "Installing the tools for tests …"
	@$(call install,--group dev 'apache-airflow==$(AIRFLOW).*')
	@touch $@

$(VENV)/.data: $(VENV)/.dev
	@echo "Installing pandas, DuckDB and other users of the filesystem …"
	@$(call install,--group data 'apache-airflow==$(AIRFLOW).*')
	@touch $@

$(VENV)/.docs: $(VENV)/.package
	@echo "Installing Sphinx …"
	@$(call install,--group docs 'apache-airflow==$(AIRFLOW).*')
	@touch $@

$(VENV)/.audit: $(VENV)/.dev
	@echo "Installing pip-audit …"
	@$(call install,--group audit 'apache-airflow==$(AIRFLOW).*')
	@touch $@

$(VENV)/.dist: $(VENV)/.dev
	@echo "Installing twine and uv …"
	@$(call install,--group dist 'apache-airflow==$(AIRFLOW).*')
	@touch $@

$(VENV)/.matrix: $(VENV)/.dev
	@echo "Installing nox …"
	@$(call install,--group matrix 'apache-airflow==$(AIRFLOW).*')
	@touch $@

$(VENV)/.compare: $(VENV)/.dev
	@echo "Installing boto3, s3fs, obstore and an S3 server …"
	@$(call install,--group compare 'apache-airflow==$(AIRFLOW).*')
	@touch $@

$(VENV)/.distributed: $(VENV)/.dev
	@echo "Installing Celery and Playwright …"
	@$(call install,--group distributed --group browser 'apache-airflow==$(AIRFLOW).*')
	@touch $@

# Real files for the demo: the pictures in scikit-image. Only they are kept; its code never runs.
.demo/.samples: | $(VENV)/.created
	@echo "Fetching sample files (the pictures of scikit-image) …"
	@rm -rf .demo/fetched $(SAMPLES) && mkdir -p .demo/fetched $(SAMPLES)
	@$(call install,--no-deps --only-binary :all: --target .demo/fetched 'scikit-image>=0.25')
	@mv .demo/fetched/skimage/data/*.png .demo/fetched/skimage/data/*.jpg $(SAMPLES)
	@rm -rf .demo/fetched
	@touch $@
