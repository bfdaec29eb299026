"""A DAG that runs when reports become DONE, and remembers which."""

from __future__ import annotations

from datetime import datetime, timezone

from airflow.sdk import DAG, Asset, AssetWatcher, get_current_context, task

from airflow_provider_amzbiz.triggers.reports_done import ReportsDoneTrigger

done = Asset(
    name="reports_done",
    watchers=[
        AssetWatcher(
            name="reports", trigger=ReportsDoneTrigger(report_types=["SANDBOX_ORDER_LINES"], poll_interval=2)
        )
    ],
)

with DAG("watched", schedule=[done], start_date=datetime(2026, 1, 1, tzinfo=timezone.utc)):

    @task
    def announced() -> list[str]:
        events = get_current_context()["triggering_asset_events"][done]
        return [event.extra["payload"]["report_id"] for event in events]

    announced()
