"""Load one report a day to S3 and into a warehouse table. Running a day again leaves the table the same.

Needs the connections ``amazon_business_default`` and ``aws_default``, the bucket, and DuckDB, which stands in for
the warehouse (``pip install duckdb``). "Into a warehouse" in the documentation shows Redshift and Snowflake.
"""

from __future__ import annotations

import tempfile
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Asset, Param, task
from airflow.timetables.interval import CronDataIntervalTimetable

from airflow_provider_amzbiz.operators.reports import CreateReportOperator
from airflow_provider_amzbiz.sensors.reports import ReportStatusSensor
from airflow_provider_amzbiz.transfers.report_document_to_s3 import ReportDocumentToS3Operator

# [START load]
COLUMNS = {
    "order_date": "DATE", "order_id": "VARCHAR", "line": "INTEGER", "asin": "VARCHAR", "title": "VARCHAR",
    "category": "VARCHAR", "quantity": "INTEGER", "unit_price": "DECIMAL(18, 2)", "currency": "VARCHAR",
    "purchase_order": "VARCHAR", "cost_center": "VARCHAR", "seller": "VARCHAR", "tax_rate": "DECIMAL(9, 6)",
    "tax": "DECIMAL(18, 2)", "total": "DECIMAL(18, 2)", "status": "VARCHAR",
}  # fmt: skip


@task
def load(objects: list[dict[str, Any]], day: str, database: str) -> int:
    """Replace the rows of a day with those of its report, all or none; return the number of rows."""
    import duckdb
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook

    (stored,) = objects
    bucket, key = S3Hook.parse_s3_url(stored["uri"])
    with tempfile.NamedTemporaryFile(suffix=".tsv") as file, duckdb.connect(database) as warehouse:
        S3Hook("aws_default").get_key(key, bucket).download_fileobj(file)
        file.flush()
        declared = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
        warehouse.execute(f"CREATE TABLE IF NOT EXISTS order_lines (report_day DATE, {declared})")
        warehouse.begin()
        warehouse.execute("DELETE FROM order_lines WHERE report_day = ?", [day])
        # Quotes and backslashes are plain characters in this report, as in the title: 24" monitor.
        warehouse.execute(
            "INSERT INTO order_lines BY NAME SELECT ?::DATE AS report_day, * "
            "FROM read_csv(?, delim='\t', header=true, quote='', escape='', columns=?)",
            [day, file.name, COLUMNS],
        )
        warehouse.commit()
        [(rows,)] = warehouse.execute("SELECT count(*) FROM order_lines WHERE report_day = ?", [day]).fetchall()
        return int(rows)


# [END load]

with DAG(
    dag_id="example_report_to_warehouse",
    schedule=CronDataIntervalTimetable("0 0 * * *", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    # DuckDB has one writer at a time.
    max_active_runs=1,
    params={
        "report_type": Param(
            "SANDBOX_ORDER_LINES",
            type="string",
            title="Report type",
            description="One of your account; the default exists in the sandbox only",
        ),
        "bucket": Param("amazon-business", type="string", title="S3 bucket", description="It must exist"),
        "database": Param(
            f"{tempfile.gettempdir()}/orders.duckdb",
            type="string",
            title="DuckDB file",
            description="It is created if it does not exist",
        ),
    },
    tags=["amazon-business"],
    doc_md=__doc__,
):
    # [START dag]
    create = CreateReportOperator(
        task_id="create",
        report_type="{{ params.report_type }}",
        marketplace_ids=["ATVPDKIKX0DER"],
        data_start_time="{{ data_interval_start }}",
        data_end_time="{{ data_interval_end }}",
    )
    wait = ReportStatusSensor(
        task_id="wait",
        report_id=create.output,
        deferrable=True,
        # Amazon cancels a report without data, as for a day without orders.
        on_cancelled="skip",
        timeout=timedelta(hours=12),
    )
    move = ReportDocumentToS3Operator(
        task_id="move",
        report_id=create.output,
        s3_bucket="{{ params.bucket }}",
        s3_key="warehouse/{{ params.report_type }}/{{ data_interval_start | ds }}.tsv",
        outlets=[Asset("s3://amazon-business/warehouse/")],
    )
    create >> wait >> move >> load(move.output, "{{ data_interval_start | ds }}", "{{ params.database }}")
    # [END dag]
