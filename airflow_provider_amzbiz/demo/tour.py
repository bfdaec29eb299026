"""Airflow's UI with everything that the example DAGs need, and what to click there."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Never

from airflow_provider_amzbiz.demo.stage import BUCKET, Stage

_POLL_SECONDS = 2.0


def serve(on: Stage, *, own_dags: Path | None = None) -> Never:
    """Print what to click, then each object that arrives in S3, until interrupted.

    :param own_dags: the folder of the user's own DAGs.
    """
    print(_guide(on, own_dags), flush=True)
    client = on.s3.client()
    seen: dict[str, Any] = {}
    while True:
        for stored in client.list_objects_v2(Bucket=BUCKET).get("Contents", []):
            key, written = stored["Key"], stored["LastModified"]
            # The parts of a batch's record say nothing to a reader.
            if seen.get(key) != written and ".parts/" not in key:
                seen[key] = written
                print(f"Arrived in S3: s3://{BUCKET}/{key} ({stored['Size']} bytes)", flush=True)
        time.sleep(_POLL_SECONDS)


def _guide(on: Stage, own_dags: Path | None) -> str:
    fields = on.sandbox.connection
    own = f"""
Your DAGs of {own_dags} are there, too. Use the connections amazon_business_default and aws_default, and the bucket
{BUCKET}. A changed file is loaded again within seconds.
"""
    return f"""
In Airflow's UI, {on.airflow.url}:

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
{own if own_dags else ""}
All of it is made up. Ctrl-C stops and removes it.
"""
