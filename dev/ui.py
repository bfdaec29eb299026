"""Airflow's UI on this machine, with everything the example DAGs need, until Ctrl-C.

``python -m dev.ui`` starts what the demo starts, and prints what to click and each object that arrives in S3. At
the end it stops and removes everything.
"""

from __future__ import annotations

import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from dev.stage import BUCKET, Stage, stage

_POLL_SECONDS = 2.0


def serve(on: Stage) -> None:
    """Print what to click, then each object that arrives in S3, until interrupted."""
    print(_guide(on), flush=True)
    client = on.s3.client()
    seen: dict[str, Any] = {}
    while True:
        for stored in client.list_objects_v2(Bucket=BUCKET).get("Contents", []):
            key, written = stored["Key"], stored["LastModified"]
            if seen.get(key) != written:
                seen[key] = written
                print(f"Arrived in S3: s3://{BUCKET}/{key} ({stored['Size']} bytes)", flush=True)
        time.sleep(_POLL_SECONDS)


def _guide(on: Stage) -> str:
    fields = on.sandbox.connection
    return f"""
Airflow is at {on.airflow.url} (it needs no password)

1. Dags > example_invoices_to_s3 > Trigger: three invoices become three PDFs in S3.
   Each has its own tasks to create, wait and move; "wait" is deferred meanwhile.
2. Dags > example_report_to_s3: switch it on, and it loads yesterday's report.
3. Dags > example_all_invoices: switch it on, and it stores today's invoices of the sandbox's company. Trigger it
   with an earlier "Feed start", and it stores older ones, too. Let a day pass, and trigger it again:
     curl --json '{{"advance": 86400}}' {on.sandbox.url}/sandbox/clock
4. Admin > Connections > amazon_business_default: press Test, then edit it, change the secret and test again.
   To fill in a form of your own:
     Connection Type  Amazon Business
     Client ID        {fields["login"]}
     Client secret    {fields["password"]}
     Endpoint         {fields["host"]}
     Port             0
     Refresh token    {fields["extra"]["refresh_token"]}
     Token URL        {fields["extra"]["token_url"]}

All of it is made up. Ctrl-C stops and removes it.
"""


def main() -> int:
    """Serve in a temporary folder; return the exit status."""
    # SIGTERM must clean up as Ctrl-C does, and a background shell has SIGINT ignored.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="amzbiz-ui-") as folder:
        try:
            print("Starting Airflow, the sandbox of the Amazon Business API and an S3 server", flush=True)
            with stage(Path(folder)) as on:
                serve(on)
        except KeyboardInterrupt:
            print("\nStopped; everything is cleaned up", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
