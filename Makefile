# Every target builds what it needs, inside this repository.
PYTHON ?= python3
# The Airflow of a target: 3.3, 3.1 or 2.11 with the newest libraries, or for `make main-paths` one of LOWEST with the
# libraries that were there when it was released.
AIRFLOW ?= 3.3
RELEASE_3.3 := 3.3.2
RELEASE_3.1 := 3.1.8
RELEASE_2.11 := 2.11.2
LOWEST := 2.11.0 3.0.6 3.1.0 3.2.0 3.3.0
# The day after each release: only what had been uploaded by then is used.
UPLOADED_2.11.0 := 2025-05-21
UPLOADED_3.0.6 := 2025-08-30
UPLOADED_3.1.0 := 2025-09-26
UPLOADED_3.2.0 := 2026-04-08
UPLOADED_3.3.0 := 2026-07-07
# Three processes keep two cores busy, because many tests wait.
LOAD := --numprocesses 3 --dist loadfile --no-loadscope-reorder
# The extras that the tests need.
EXTRAS := amazon,openlineage,parquet,redis,sandbox

# Each Airflow and each Python has an environment of its own; that of python3 and the newest Airflow is .venv.
version-of = $(shell $(1) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
PYTHON3_VERSION := $(call version-of,python3)
PYTHON_VERSION := $(if $(filter python3,$(PYTHON)),$(PYTHON3_VERSION),$(call version-of,$(PYTHON)))
$(if $(PYTHON_VERSION),,$(error PYTHON is "$(PYTHON)", and no such program is installed))
OTHER_PYTHON := $(if $(filter $(PYTHON_VERSION),$(PYTHON3_VERSION)),,-python$(PYTHON_VERSION))
NEWEST_PINS := constraints/airflow-$(RELEASE_3.3)-python-$(PYTHON3_VERSION).txt
ifdef RELEASE_$(AIRFLOW)
RELEASE := $(RELEASE_$(AIRFLOW))
ENV := .venv$(if $(filter 3.3,$(AIRFLOW)),,-airflow$(AIRFLOW))$(OTHER_PYTHON)
PINS := constraints/airflow-$(RELEASE)-python-$(PYTHON_VERSION).txt
GROUP := dev
else ifneq ($(filter $(AIRFLOW),$(LOWEST)),)
RELEASE := $(AIRFLOW)
ENV := .venv-lowest-airflow$(AIRFLOW)$(OTHER_PYTHON)
PINS := constraints/lowest-airflow-$(AIRFLOW).txt
GROUP := main-paths
else
$(error AIRFLOW is "$(AIRFLOW)"; it must be 3.3, 3.1 or 2.11, or for main-paths $(LOWEST))
endif
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check

help:                       ## list the targets
	@sed -n 's/^\([a-z][a-z0-9-]*\):.*## /\1\t/p' Makefile | expand -t 16

.PHONY: help demo ui test slow main-paths lowest coverage e2e e2e-again soak bench audit sbom lint docs linkcheck format \
  public-surface env dist constraints constraints-of-python lowest-constraints clean

demo: .venv/ready           ## run three example DAGs on a real Airflow, the API's sandbox and a real S3 server
	.venv/bin/python -m airflow_provider_amzbiz.demo

ui: .venv/ready             ## serve Airflow's UI with everything that the example DAGs need, until Ctrl-C
	.venv/bin/python -m airflow_provider_amzbiz.demo --ui

test: $(ENV)/ready          ## run the tests on the newest Airflow, or: make test AIRFLOW=2.11, PYTHON=python3.13 make test
	$(if $(RELEASE_$(AIRFLOW)),,$(error make test needs AIRFLOW=3.3, 3.1 or 2.11; with $(AIRFLOW), use make main-paths))
	$(ENV)/bin/python -m pytest -m 'not slow' $(LOAD)

slow: $(ENV)/ready          ## run the tests that take too long for make test, also: make slow AIRFLOW=2.11
	$(ENV)/bin/python -m pytest -m slow $(LOAD)

main-paths: $(ENV)/ready    ## run the tests of the main paths: AIRFLOW=3.0.6 for the libraries of its release
	$(ENV)/bin/python -m pytest -m main_path $$(grep --recursive --files-with-matches --include '*.py' mark.main_path tests)

lowest:                     ## run the main paths on every Airflow of LOWEST, with the libraries of its time
	for release in $(LOWEST); do $(MAKE) main-paths AIRFLOW=$$release || failed=1; done; exit $${failed:-0}

coverage: .venv/ready       ## run all tests, and require a branch coverage of 95%
	.venv/bin/coverage erase
	.venv/bin/coverage run -m pytest $(LOAD)
	.venv/bin/coverage combine --quiet
	.venv/bin/python -m dev.coverage_of_branches 95

e2e: .venv/e2e-ready slow   ## run the slow tests: a distributed Airflow with kills, lost networks and a browser
	AMZBIZ_FULL_MATRIX=1 .venv/bin/python -m pytest --numprocesses 2 tests/documents/test_matrix.py
	.venv/bin/python -m pytest --numprocesses 2 --dist load --maxschedchunk 1 --durations 10 e2e

e2e-again: .venv/e2e-ready  ## repeat the slow tests that failed, one after the other
	.venv/bin/python -m pytest --last-failed --last-failed-no-failures none e2e

soak: .venv/e2e-ready       ## run a team's daily work for an hour, with random kills and faults
	AMZBIZ_SOAK_MINUTES=$(or $(MINUTES),60) .venv/bin/python -m pytest -s e2e/test_soak.py

bench: .venv/bench-ready    ## measure the figures of docs/benchmarks.rst, for an hour and a half
	.venv/bin/python -m bench.parsing
	.venv/bin/python -m bench.quota
	.venv/bin/python -m bench.batch_scale
	.venv/bin/python -m bench.waits
	.venv/bin/python -m bench.masking
	.venv/bin/python -m bench.limits
	.venv/bin/python -m bench.simulation
	.venv/bin/python -m bench.triggerers
	.venv/bin/python -m bench.shared_polls
	.venv/bin/python -m bench.mapped
	.venv/bin/python -m bench.transfer

lint: .venv/lint-ready      ## check style, types, imports and spelling
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports --no-logo
	.venv/bin/codespell airflow_provider_amzbiz bench dev docs e2e example_dags tests *.md Makefile pyproject.toml

docs: .venv/ready           ## build the documentation into docs/_build, and check its internal links
	.venv/bin/sphinx-build --quiet --fresh-env --fail-on-warning --builder html docs docs/_build
	.venv/bin/python -m dev.check_links

linkcheck: .venv/ready      ## check the documentation's links to other sites; needs a network
	.venv/bin/sphinx-build --quiet --fresh-env --builder linkcheck docs docs/_build/linkcheck

format: .venv/ready         ## format, and fix what ruff can fix
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

public-surface: .venv/ready ## record the public interface, after a change that you intend
	.venv/bin/python -m tests.public_surface

env: $(ENV)/ready           ## build the environment that the other targets use

dist: .venv/release-ready   ## build sdist and wheel in dist/, and try the wheel and its demo in an empty environment
	rm -rf dist
	.venv/bin/python -m build --no-isolation
	.venv/bin/python -m dev.check_dist $(NEWEST_PINS) $(RELEASE_3.3)

audit: .venv/release-ready  ## list known weaknesses of the pinned versions; needs a network
	for pins in constraints/*.txt; do \
	  .venv/bin/pip-audit --strict --no-deps --disable-pip --requirement $$pins || failed=1; \
	done; exit $${failed:-0}

sbom: .venv/release-ready   ## list the package and all that it needs in dist/sbom.cdx.json (CycloneDX)
	mkdir -p dist
	folder=$$(mktemp -d) && python3 -m venv --without-pip $$folder \
	  && .venv/bin/python -m pip --python $$folder install --quiet . 'apache-airflow==$(RELEASE_3.3)' --constraint $(NEWEST_PINS) \
	  && .venv/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --output-file dist/sbom.cdx.json \
	    $$folder/bin/python \
	  && rm -r $$folder

# Python's own pip may be older than dependency groups.
define make-env
$(1) -m venv $(@D)
$(@D)/bin/python $(PIP_INSTALL) 'pip>=25.1'
$(@D)/bin/python $(PIP_INSTALL) --editable '.[$(EXTRAS)]' --group $(2) 'apache-airflow==$(3)' --constraint $(4)
touch $@
endef

.venv/ready: pyproject.toml $(NEWEST_PINS)
	$(call make-env,python3,dev,$(RELEASE_3.3),$(NEWEST_PINS))

ifneq ($(ENV),.venv)
$(ENV)/ready: pyproject.toml $(PINS)
	$(call make-env,$(PYTHON),$(GROUP),$(RELEASE),$(PINS))
endif

define add-group
.venv/bin/python $(PIP_INSTALL) --group $(1) --constraint $(NEWEST_PINS)
endef

.venv/lint-ready: .venv/ready
	$(call add-group,lint)
	touch $@

# The browser and the servers are Debian's packages.
.venv/e2e-ready: .venv/ready
	$(call add-group,e2e)
	which chromium prometheus redis-server > /dev/null && ls /usr/lib/postgresql/*/bin/postgres > /dev/null \
	  || (apt-get update && apt-get install --yes --no-install-recommends \
	    chromium fonts-dejavu postgresql prometheus redis-server)
	touch $@

.venv/bench-ready: .venv/ready
	$(call add-group,bench)
	which curl igzip redis-server > /dev/null \
	  || (apt-get update && apt-get install --yes --no-install-recommends curl isal redis-server)
	touch $@

.venv/release-ready: .venv/ready
	$(call add-group,release)
	touch $@

# Resolve all versions again, without the old constraints; run the tests before you commit the result.
constraints:
	for release in $(RELEASE_3.3) $(RELEASE_3.1) $(RELEASE_2.11); do \
	  folder=$$(mktemp -d) && $(PYTHON) -m venv $$folder && $$folder/bin/python $(PIP_INSTALL) 'pip>=25.1' && \
	  $$folder/bin/python $(PIP_INSTALL) ".[$(EXTRAS)]" "apache-airflow==$$release" --group dev --group bench --group e2e \
	    --group release $$([ $$release = $(RELEASE_3.3) ] && echo --group lint) && \
	  $$folder/bin/python -m pip freeze --exclude airflow-provider-amzbiz \
	    > constraints/airflow-$$release-python-$(PYTHON_VERSION).txt && \
	  rm -r $$folder || exit 1; \
	done

# The same versions for another Python, after `make constraints`: PYTHON=python3.13 make constraints-of-python
constraints-of-python:
	folder=$$(mktemp -d) && $(PYTHON) -m venv $$folder && $$folder/bin/python $(PIP_INSTALL) 'pip>=25.1' && \
	$$folder/bin/python $(PIP_INSTALL) '.[$(EXTRAS)]' 'apache-airflow==$(RELEASE_3.3)' --group dev --group bench --group e2e \
	  --group release --group lint --constraint constraints/airflow-$(RELEASE_3.3)-python-3.11.txt && \
	$$folder/bin/python -m pip freeze --exclude airflow-provider-amzbiz > $(PINS) && \
	rm -r $$folder

# What pip would have chosen on the day of each release, and for the oldest one the lowest versions that pyproject.toml
# allows. Only the tools of the tests are newer.
lowest-constraints:
	for release in $(foreach each,$(LOWEST),$(each)@$(UPLOADED_$(each))); do \
	  airflow=$${release%@*} folder=$$(mktemp -d) && $(PYTHON) -m venv $$folder && \
	  $$folder/bin/python $(PIP_INSTALL) 'pip>=26' && \
	  $$folder/bin/python $(PIP_INSTALL) '.[$(EXTRAS)]' "apache-airflow==$$airflow" \
	    $$([ $$airflow = 2.11.0 ] && $(PYTHON) -m dev.floors) --uploaded-prior-to $${release#*@}T00:00:00Z && \
	  $$folder/bin/python -m pip freeze --exclude airflow-provider-amzbiz > $$folder/pins.txt && \
	  $$folder/bin/python $(PIP_INSTALL) --group main-paths --constraint $$folder/pins.txt && \
	  $$folder/bin/python -m pip freeze --exclude airflow-provider-amzbiz > constraints/lowest-airflow-$$airflow.txt && \
	  rm -r $$folder || exit 1; \
	done

clean:                      ## remove everything that make has built
	rm -rf .venv .venv-airflow* .venv-lowest-* .venv-python* build dist docs/_build .mypy_cache .pytest_cache .ruff_cache .hypothesis
