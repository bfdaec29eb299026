# Every target builds what it needs, inside this repository.
PYTHON ?= python3
# The Airflow of a target: 3.3, 3.1 or 2.11. Each has its own environment; that of the newest is .venv.
AIRFLOW ?= 3.3
RELEASE_3.3 := 3.3.2
RELEASE_3.1 := 3.1.8
RELEASE_2.11 := 2.11.2

ifndef RELEASE_$(AIRFLOW)
$(error AIRFLOW is "$(AIRFLOW)"; it must be 3.3, 3.1 or 2.11)
endif
ENV := $(if $(filter 3.3,$(AIRFLOW)),.venv,.venv-airflow$(AIRFLOW))
CONSTRAINTS = constraints/airflow-$(1)-python-3.11.txt

help:                       ## list the targets
	@sed -n 's/^\([a-z][a-z0-9-]*\):.*## /\1\t/p' Makefile | expand -t 16

.PHONY: help demo ui test coverage e2e e2e-again soak bench audit lint docs linkcheck format env dist constraints clean

demo: .venv/ready           ## run three example DAGs on a real Airflow, the API's sandbox and a real S3 server
	.venv/bin/python -m dev.demo

ui: .venv/ready             ## serve Airflow's UI with everything that the example DAGs need, until Ctrl-C
	.venv/bin/python -m dev.ui

test: $(ENV)/ready          ## run all tests on the newest Airflow, or on another: make test AIRFLOW=2.11
	$(ENV)/bin/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

coverage: .venv/ready       ## run the same tests, and require a branch coverage of 95%
	.venv/bin/coverage erase
	.venv/bin/coverage run -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder
	.venv/bin/coverage combine --quiet
	.venv/bin/python -m dev.coverage_of_branches 95

e2e: .venv/e2e-ready        ## run the slow tests: a distributed Airflow with kills, lost networks and a browser
	AMZBIZ_FULL_MATRIX=1 .venv/bin/python -m pytest --numprocesses 2 tests/documents/test_matrix.py
	.venv/bin/python -m pytest --numprocesses 2 --dist worksteal --durations 10 e2e

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

env: $(ENV)/ready           ## build the environment that the other targets use

dist: .venv/release-ready   ## build sdist and wheel in dist/, and try the wheel in an empty environment
	rm -rf dist
	.venv/bin/python -m build --no-isolation
	.venv/bin/python -m dev.check_dist $(call CONSTRAINTS,$(RELEASE_3.3)) $(RELEASE_3.3)

audit: .venv/release-ready  ## list known weaknesses of the pinned versions; needs a network
	for pins in constraints/*.txt; do \
	  .venv/bin/pip-audit --strict --no-deps --disable-pip --requirement $$pins || failed=1; \
	done; exit $${failed:-0}

define make-env
$(PYTHON) -m venv $(@D)
$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]' \
  'apache-airflow==$(1)' --constraint $(call CONSTRAINTS,$(1))
touch $@
endef

.venv/ready: pyproject.toml $(call CONSTRAINTS,$(RELEASE_3.3))
	$(call make-env,$(RELEASE_3.3))

.SECONDEXPANSION:
.venv-airflow%/ready: pyproject.toml $$(call CONSTRAINTS,$$(RELEASE_$$*))
	$(call make-env,$(RELEASE_$*))

.venv/lint-ready: .venv/ready
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[lint]' \
	  --constraint $(call CONSTRAINTS,$(RELEASE_3.3))
	touch $@

# The browser and the servers are Debian's packages.
.venv/e2e-ready: .venv/ready
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[e2e]' \
	  --constraint $(call CONSTRAINTS,$(RELEASE_3.3))
	which chromium redis-server > /dev/null && ls /usr/lib/postgresql/*/bin/postgres > /dev/null \
	  || (apt-get update && apt-get install --yes --no-install-recommends chromium fonts-dejavu postgresql redis-server)
	touch $@

.venv/bench-ready: .venv/ready
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]' \
	  --constraint $(call CONSTRAINTS,$(RELEASE_3.3))
	which curl igzip redis-server > /dev/null \
	  || (apt-get update && apt-get install --yes --no-install-recommends curl isal redis-server)
	touch $@

.venv/release-ready: .venv/ready
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[release]' \
	  --constraint $(call CONSTRAINTS,$(RELEASE_3.3))
	touch $@

# Resolve all versions again, without the old constraints; run the tests before you commit the result.
constraints:
	for version in $(RELEASE_3.3) $(RELEASE_3.1) $(RELEASE_2.11); do \
	  folder=$$(mktemp -d) && $(PYTHON) -m venv $$folder && \
	  $$folder/bin/python -m pip install --quiet --disable-pip-version-check ".[dev,bench,e2e,release$$([ $$version = $(RELEASE_3.3) ] && echo ,lint)]" "apache-airflow==$$version" && \
	  $$folder/bin/python -m pip freeze --exclude airflow-provider-amzbiz \
	    > $(call CONSTRAINTS,$$version) && \
	  rm -r $$folder || exit 1; \
	done

clean:                      ## remove everything that make has built
	rm -rf .venv .venv-airflow* build dist docs/_build .mypy_cache .pytest_cache .ruff_cache .hypothesis
