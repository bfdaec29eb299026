"""The pytest fixture, as a user's tests see it."""

from __future__ import annotations

import subprocess
import sys

from tests.sandbox.processes import ENVIRONMENT, MODULE


def test_the_fixture_and_its_marker(tmp_path):
    (tmp_path / "test_user.py").write_text(
        """
import json, os
import pytest, requests

def test_plain(amazon_business_sandbox):
    connection = json.loads(os.environ["AIRFLOW_CONN_AMAZON_BUSINESS_DEFAULT"])
    assert connection == amazon_business_sandbox.connection
    assert requests.get(amazon_business_sandbox.url + "/sandbox/health", timeout=5).ok
    amazon_business_sandbox.script(outcome="FATAL")

@pytest.mark.amazon_business_sandbox(time_scale=60, throttle=False)
def test_marked(amazon_business_sandbox):
    assert amazon_business_sandbox.clock.scale == 60

def test_stopped():
    assert "AIRFLOW_CONN_AMAZON_BUSINESS_DEFAULT" not in os.environ
"""
    )
    environment = {name: value for name, value in ENVIRONMENT.items() if not name.startswith("AIRFLOW_CONN")}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    plugin = f"{MODULE}.pytest_plugin"
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", plugin, "--strict-markers", str(tmp_path)],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert "3 passed" in finished.stdout, finished.stdout + finished.stderr
