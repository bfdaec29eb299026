"""Load a range of days to S3 in one task, within the limits: one report for each day, 30 days by default.

Days begin at midnight in the time zone. A day that ended less than two days ago is left for a later run, because
its data may still change. Needs the connections ``amazon_business_default`` and ``aws_default``, and the bucket.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Asset, Param, get_current_context, task

from airflow_provider_amzbiz.transfers.reports_to_s3 import ReportsToS3Operator
from airflow_provider_amzbiz.windows import report_windows

# [START backfill]
with DAG(
    dag_id="example_backfill",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    params={
        "report_type": Param(
            "SANDBOX_ORDER_LINES",
            type="string",
            title="Report type",
            description="One of your account; the default exists in the sandbox only",
        ),
        "start": Param(
            "2026-01-01T00:00:00+01:00",
            type="string",
            format="date-time",
            title="Start",
            description="Midnight at which the first day begins",
        ),
        "end": Param(
            "2026-01-31T00:00:00+01:00",
            type="string",
            format="date-time",
            title="End",
            description="Midnight at which the last day ends",
        ),
        "timezone": Param(
            "Europe/Berlin", type="string", title="Time zone", description="Whose midnights separate the days"
        ),
        "bucket": Param("amazon-business", type="string", title="S3 bucket", description="It must exist"),
    },
    tags=["amazon-business"],
    doc_md=__doc__,
):

    @task
    def requests() -> list[dict[str, Any]]:
        params = get_current_context()["params"]
        windows = report_windows(
            params["start"], params["end"], timezone=params["timezone"], holdback=timedelta(days=2)
        )
        return [
            {
                **window,
                "report_type": params["report_type"],
                "marketplace_ids": ["ATVPDKIKX0DER"],
                "s3_key": f"backfill/{params['report_type']}/{window['data_start_time'][:10]}.tsv",
            }
            for window in windows
        ]

    ReportsToS3Operator(
        task_id="days_to_s3",
        requests=requests(),
        s3_bucket="{{ params.bucket }}",
        s3_key="backfill/{report_type}/{index}.tsv",
        deferrable=True,
        outlets=[Asset("s3://amazon-business/backfill/")],
    )
# [END backfill]
