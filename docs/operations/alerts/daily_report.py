from datetime import datetime, timezone

from airflow.providers.common.compat.sdk import DAG
from airflow.timetables.interval import CronDataIntervalTimetable
from amazon_business_alerts import AmazonBusinessNotifier, alert

from airflow_provider_amzbiz.operators.reports import CreateReportOperator
from airflow_provider_amzbiz.sensors.reports import ReportStatusSensor

with DAG(
    "daily_report",
    # A plain "@daily" has an empty data interval on Airflow 3.
    schedule=CronDataIntervalTimetable("0 0 * * *", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    default_args={"on_failure_callback": alert},
) as dag:
    create = CreateReportOperator(
        task_id="create",
        report_type="SANDBOX_ORDER_LINES",
        data_start_time="{{ data_interval_start }}",
        data_end_time="{{ data_interval_end }}",
    )
    ReportStatusSensor(
        task_id="wait",
        report_id=create.output,
        deferrable=True,
        on_failure_callback=AmazonBusinessNotifier("Run {{ run_id }}: call the data team"),
    )
