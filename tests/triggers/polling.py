"""Waits as tasks of one event loop, for tests of the poller and its parts."""

from __future__ import annotations

import asyncio
import time

from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.triggers.reports import ReportStatusTrigger
from tests.conftest import connect

LINES = "SANDBOX_ORDER_LINES"


def waiting(report_id, *, known=True, conn_id="amazon_business_default", **arguments):
    """Return the event of a wait, as a task of the running loop."""
    now = time.time()
    report = AmazonBusinessHook(conn_id).get_report(report_id) if known else None
    trigger = ReportStatusTrigger(
        **{
            "report_id": report_id,
            "amazon_business_conn_id": conn_id,
            "poke_interval": 0.3,
            "deadline": now + 30,
            "not_found_grace_until": now + 30,
            "report_type": report.report_type if report else None,
            "created_time": report.created_time.isoformat() if report else None,
            **arguments,
        }
    )

    async def events():
        return [event.payload async for event in trigger.run()]

    return asyncio.create_task(events())


def running(sandbox, count, **script):
    """Create reports that are still in progress; return their ids."""
    if script:
        sandbox.script(times=count, **script)
    hook = AmazonBusinessHook()
    return [hook.create_report(LINES) for _ in range(count)]


async def until(holds, seconds=30):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def statuses(results):
    return [event["report"]["processing_status"] for (event,) in results]


def rotate(sandbox, monkeypatch, *conn_ids):
    """Rotate the client secret at Amazon, and in these connections."""
    sandbox.accounts[0].client_secret = "amzn1.oa2-cs.v1.rotated"
    for conn_id in conn_ids:
        connect(monkeypatch, sandbox, conn_id=conn_id)
    sandbox.expire_tokens()


def refuse_report(monkeypatch, report_id):
    """Have the API deny access to one report, as to one of another party."""
    from airflow_provider_amzbiz.sandbox import operations
    from airflow_provider_amzbiz.sandbox.responses import denied

    answering = operations.Operations.get_report

    def get_report(self, account, asked):
        if asked == report_id:
            raise denied("", 403)
        return answering(self, account, asked)

    monkeypatch.setattr(operations.Operations, "get_report", get_report)
