"""What Airflow's masker costs a process that knows the secrets of many accounts.

``python -m bench.masking [ACCOUNTS ...]``: a process reads so many connections, as a triggerer does when waits
join, and then masks log lines. Airflow puts all secrets into one regular expression, and compiles it again
for each new one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from airflow_provider_amzbiz.demo.airflow_server import airflow_settings
from bench.figures import show
from bench.waiting import memory
from bench.waits import long_credentials

ACCOUNTS = (10, 50, 100, 200)
_LINES = 200
_LINE = (
    "Report 50001018034 is DONE after 312 s, with document amzn1.tortuga.3.ed4cd0d8-447b-4c22-96b5-52da8ace1207.T3"
)


def connections(count: int) -> dict[str, str]:
    """Return the environment variables of so many connections."""
    credentials = [(f"AIRFLOW_CONN_ACCOUNT_{number}", long_credentials()) for number in range(count)]
    return {
        name: json.dumps(
            {
                "conn_type": "amazon_business",
                "login": drawn["client_id"],
                "password": drawn["client_secret"],
                "extra": {"refresh_token": drawn["refresh_token"]},
            }
        )
        for name, drawn in credentials
    }


def read(count: int) -> dict[str, float]:
    """Read the connections in this process, and return what that has cost."""
    from airflow.sdk._shared.secrets_masker import redact

    from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook

    # The first one has the imports.
    AmazonBusinessHook.for_trigger("account_0").get_conn()
    before, began = memory(), time.process_time()
    for number in range(1, count):
        AmazonBusinessHook.for_trigger(f"account_{number}").get_conn()
    reading, after = time.process_time() - began, memory()
    began = time.process_time()
    for _ in range(_LINES):
        redact(_LINE)
    return {
        "CPU s": reading,
        "MB": (after - before) / 1e6,
        "ms a log line": (time.process_time() - began) / _LINES * 1e3,
    }


def measure(count: int) -> dict[str, float]:
    """Do so in a process of its own."""
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, **airflow_settings(Path(home), Path(home)), **connections(count)}
        command = [sys.executable, "-m", "bench.masking", "read", str(count)]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def main() -> None:
    """Print a line for each number of accounts."""
    if sys.argv[1:2] == ["read"]:
        print(json.dumps(read(int(sys.argv[2]))))
        return
    for count in [int(each) for each in sys.argv[1:]] or ACCOUNTS:
        show(f"{count} accounts", measure(count))


if __name__ == "__main__":
    main()
