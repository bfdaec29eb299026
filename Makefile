# Every target builds what it needs, in folders of this repository.
PYTHON ?= python3
AIRFLOW_3 := 3.3.2
AIRFLOW_2 := 2.11.2

.PHONY: demo ui test test-airflow2 e2e bench lint docs format env constraints clean

demo: .venv/ready           ## the whole job on a real Airflow, an API sandbox and a real S3 server
	.venv/bin/python -m dev.demo

ui: .venv/ready             ## Airflow's UI on localhost with all that the example DAGs need, until Ctrl-C
	.venv/bin/python -m dev.ui

test: .venv/ready           ## all tests on the newest Airflow
	.venv/bin/python -m pytest

test-airflow2: .venv-airflow2/ready   ## the same tests on the oldest supported Airflow
	.venv-airflow2/bin/python -m pytest

e2e: .venv/e2e-ready        ## slow proofs on a real Airflow: lost workers and triggerers, kills, clears, a browser
	.venv/bin/python -m pytest e2e

bench: .venv/bench-ready    ## the figures of docs/benchmarks.rst; an hour
	.venv/bin/python -m bench.quota
	.venv/bin/python -m bench.waits
	.venv/bin/python -m bench.mapped
	.venv/bin/python -m bench.transfer

lint: .venv/ready
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

docs: .venv/ready           ## the documentation, into docs/_build
	.venv/bin/sphinx-build --quiet --fail-on-warning --builder html docs docs/_build

format: .venv/ready
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

env: .venv/ready

.venv/ready: pyproject.toml constraints/airflow-$(AIRFLOW_3)-python-3.11.txt
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]' \
	  'apache-airflow==$(AIRFLOW_3)' --constraint constraints/airflow-$(AIRFLOW_3)-python-3.11.txt
	touch $@

# The browser is Debian's, so that none is downloaded.
.venv/e2e-ready: .venv/ready
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[e2e]' \
	  --constraint constraints/airflow-$(AIRFLOW_3)-python-3.11.txt
	command -v chromium > /dev/null || apt-get install --yes --no-install-recommends chromium fonts-dejavu
	touch $@

.venv/bench-ready: .venv/ready
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]' \
	  --constraint constraints/airflow-$(AIRFLOW_3)-python-3.11.txt
	command -v curl igzip > /dev/null || apt-get install --yes curl isal
	touch $@

.venv-airflow2/ready: pyproject.toml constraints/airflow-$(AIRFLOW_2)-python-3.11.txt
	$(PYTHON) -m venv .venv-airflow2
	.venv-airflow2/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]' \
	  'apache-airflow==$(AIRFLOW_2)' --constraint constraints/airflow-$(AIRFLOW_2)-python-3.11.txt
	touch $@

# Resolve anew, without the old constraints; run the tests on the result before it is committed.
constraints:
	for version in $(AIRFLOW_3) $(AIRFLOW_2); do \
	  folder=$$(mktemp -d) && $(PYTHON) -m venv $$folder && \
	  $$folder/bin/python -m pip install --quiet --disable-pip-version-check '.[dev,bench,e2e]' "apache-airflow==$$version" && \
	  $$folder/bin/python -m pip freeze --exclude airflow-provider-amzbiz \
	    > constraints/airflow-$$version-python-3.11.txt && \
	  rm -r $$folder || exit 1; \
	done

clean:
	rm -rf .venv .venv-airflow2 build dist docs/_build .mypy_cache .pytest_cache .ruff_cache .hypothesis
