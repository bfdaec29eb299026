"""Undo a run: cancel the reports that are still in the queue, and delete what a batch has written.

Use it after a backfill of the wrong days, or with the wrong options. Needs the connection
``amazon_business_default``, and ``aws_default`` for the clean-up.
"""

from __future__ import annotations

import json
from datetime import datetime, timezone

from airflow.providers.common.compat.sdk import DAG, AirflowSkipException, Param, task

from airflow_provider_amzbiz.operators.reports import CancelReportOperator, GetReportsOperator

with DAG(
    dag_id="example_cancel",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    params={
        "report_type": Param(
            "GET_AB_INVOICE_PDF",
            type="string",
            title="Report type",
            description="Reports of this type are cancelled",
        ),
        "hours": Param(
            24,
            type="integer",
            minimum=1,
            title="Hours",
            description="Reports of the last so many hours are cancelled",
        ),
        "manifest": Param(
            "", type="string", title="Manifest", description="s3://... of a batch to delete; if blank, none is"
        ),
    },
    tags=["amazon-business"],
    doc_md=__doc__,
):
    # [START cancel]
    queued = GetReportsOperator(
        task_id="queued",
        report_types="{{ params.report_type }}",
        processing_statuses=["IN_QUEUE"],
        created_since="{{ dag_run.start_date - macros.timedelta(hours=params.hours) }}",
    )

    # A report that is already in progress can no longer be cancelled; that is not an error.
    cancel = CancelReportOperator.partial(
        task_id="cancel",
        # The API allows 10 calls at once, then one every ten seconds; a task waits for its permit on the worker.
        max_active_tis_per_dag=1,
    ).expand(report_id=queued.output.map(lambda report: report["report_id"]))
    # [END cancel]

    # [START clean_up]
    @task(trigger_rule="none_failed")
    def clean_up(manifest: str) -> int:
        """Delete the objects that a batch has written, and its record last; return the number of objects."""
        from airflow.providers.amazon.aws.hooks.s3 import S3Hook

        if not manifest:
            raise AirflowSkipException("There is no manifest to clean up after")
        s3 = S3Hook("aws_default")
        bucket, key = S3Hook.parse_s3_url(manifest)
        items = json.loads(s3.read_key(key, bucket))["items"]
        # What was delivered before is another batch's.
        own = [item for item in items if item["objects"] and not item.get("already_delivered")]
        keys = [S3Hook.parse_s3_url(each["uri"])[1] for item in own for each in item["objects"]]
        s3.delete_objects(bucket, keys)
        s3.delete_objects(bucket, [*s3.list_keys(bucket, f"{key}.parts/"), key])
        return len(keys)

    cancel >> clean_up("{{ params.manifest }}")
    # [END clean_up]
