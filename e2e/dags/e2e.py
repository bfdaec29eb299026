"""DAGs of the end-to-end tests: what a user would write, and one task that dies at the worst moment."""

from __future__ import annotations

import os
import signal
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Param, get_current_context, task

from airflow_provider_amzbiz.operators.reports import CreateReportOperator
from airflow_provider_amzbiz.sensors.reports import ReportStatusSensor
from airflow_provider_amzbiz.transfers.report_document_to_s3 import ReportDocumentToS3Operator

SETTINGS: dict[str, Any] = {
    "schedule": None,
    "start_date": datetime(2026, 1, 1, tzinfo=timezone.utc),
    "default_args": {"retries": 1, "retry_delay": timedelta(seconds=1)},
}
REQUEST: dict[str, Any] = {
    "report_type": "SANDBOX_ORDER_LINES",
    "marketplace_ids": ["ATVPDKIKX0DER"],
    "data_start_time": "2026-01-01T00:00:00+00:00",
    "data_end_time": "2026-01-02T00:00:00+00:00",
}


class KilledAfterCreate(CreateReportOperator):
    """Loses its worker right after the API's response, in the first attempt."""

    def execute(self, context: Any) -> Any:
        if context["ti"].try_number == 1:
            send = self._nonblocking_hook.send

            def send_and_die(request: Any, **more: Any) -> Any:
                send(request, **more)
                os.kill(os.getpid(), signal.SIGKILL)

            self._nonblocking_hook.send = send_and_die  # type: ignore[method-assign]
        return super().execute(context)


class KilledAfterReturn(CreateReportOperator):
    """Loses its worker after it has returned, before Airflow stores that, in the first attempt."""

    def post_execute(self, context: Any, result: Any = None) -> None:
        if context["ti"].try_number == 1:
            os.kill(os.getpid(), signal.SIGKILL)


with DAG("create", **SETTINGS):
    CreateReportOperator(task_id="create", **REQUEST)

with DAG("killed_after_create", **SETTINGS):
    KilledAfterCreate(task_id="create", **REQUEST)

with DAG("killed_after_return", **SETTINGS):
    KilledAfterReturn(task_id="create", **REQUEST)
    KilledAfterReturn(
        task_id="create_and_wait", wait_for_completion=True, deferrable=True, poke_interval=2, **REQUEST
    )

# Neither setting may turn a stopped task into one that succeeded or was skipped.
with DAG("created_and_waited_on_a_worker", **SETTINGS):
    CreateReportOperator(
        task_id="create",
        wait_for_completion=True,
        deferrable=False,
        poke_interval=2,
        on_cancelled="skip",
        **REQUEST,
    )

with DAG("waited_on_a_worker", params={"report_id": Param("", type="string")}, **SETTINGS):
    ReportStatusSensor(
        task_id="wait",
        report_id="{{ params.report_id }}",
        deferrable=False,
        mode="poke",
        poke_interval=2,
        soft_fail=True,
    )

with DAG("waits", params={"report_ids": Param([], type="array")}, **SETTINGS):

    @task
    def report_ids() -> Any:
        return get_current_context()["params"]["report_ids"]

    ReportStatusSensor.partial(task_id="wait", deferrable=True, poke_interval=2, retries=0).expand(
        report_id=report_ids()
    )

with DAG("mapped", params={"count": Param(1, type="integer")}, max_active_tasks=16, **SETTINGS):

    @task
    def options() -> list[dict[str, str]]:
        return [{"invoiceId": str(number)} for number in range(get_current_context()["params"]["count"])]

    CreateReportOperator.partial(
        task_id="create",
        report_type="GET_AB_INVOICE_PDF",
        marketplace_ids=["ATVPDKIKX0DER"],
        deferrable=True,
        retries=0,
    ).expand(report_options=options())

with DAG("move", params={"report_id": Param("", type="string")}, **SETTINGS):
    ReportDocumentToS3Operator(task_id="move", report_id="{{ params.report_id }}", s3_uri="s3://e2e/document.tsv")
