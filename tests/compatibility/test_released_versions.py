"""What released versions have left behind, in Airflow's database and in S3, is resumed by this one."""

from __future__ import annotations

import asyncio
import importlib
import json
import time
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_amzbiz import __version__
from airflow_provider_amzbiz.batch.ledger import Ledger
from airflow_provider_amzbiz.transfers import batch_run
from tests.compatibility.record import fixed_account
from tests.compatibility.tasks import (
    BUCKET,
    FOLDER,
    INVOICES,
    LINES,
    LISTINGS,
    TASKS,
    batch,
    clear,
    objects_of,
    put_objects,
)
from tests.deferring import context, events_of, run

HERE = Path(__file__).parent
VERSIONS = sorted(each.name for each in HERE.iterdir() if (each / "waits.json").exists())
NEW = ["B-1", "B-2"]

pytestmark = pytest.mark.parametrize("version", VERSIONS)


@pytest.fixture(autouse=True)
def _settings(monkeypatch, s3):
    monkeypatch.setattr(batch_run, "REST_SECONDS", 0.2)
    fixed_account(monkeypatch.setattr)
    yield
    clear(s3)


@pytest.fixture
def recorded(version):
    return lambda name: json.loads((HERE / version / f"{name}.json").read_text())


def plant(sandbox, reports):
    """Let the API know the reports of that time."""
    known = sandbox.accounts[0].reports
    for each in reports:
        planted = known.pop(sandbox.add_report(each["report_type"], report_options=each["report_options"]))
        planted.report_id, planted.document_id, planted.outcome = (
            each["report_id"],
            each["document_id"],
            each["outcome"],
        )
        known[planted.report_id] = planted


def trigger_of(wait):
    """The trigger as a triggerer makes it of its row."""
    path, arguments = wait["trigger"]
    module, name = path.rsplit(".", 1)
    return getattr(importlib.import_module(module), name)(**arguments)


def finish(event, make, ctx):
    """Resume a batch with an event, and run it to its end."""
    return run(make, ctx, begin=lambda: make().execute_complete(ctx, event))


def stored(s3):
    return {key.split("/")[2] for key in objects_of(s3) if key.endswith(".pdf")}


def created(sandbox):
    """Invoices by how many reports there are of each."""
    found = {}
    for report in sandbox.reports.values():
        invoice = report.report_options.get("invoiceId")
        found[invoice] = found.get(invoice, 0) + 1
    return found


def test_there_are_fixtures_of_this_version(version):
    assert __version__ in VERSIONS
    # Only older versions may lack a wait.
    assert json.loads((HERE / __version__ / "waits.json").read_text()).keys() == {*TASKS, "a watch"}


@pytest.mark.parametrize("by", ["trigger", "event"])
@pytest.mark.parametrize("name", TASKS)
def test_a_task_that_waited_is_resumed(sandbox, s3, recorded, name, by):
    waits = recorded("waits")
    if name not in waits:
        pytest.skip("An older version could not wait for this")
    wait = waits[name]
    plant(sandbox, wait["reports"])
    make: Any
    make, mapped = TASKS[name]
    arguments = wait["trigger"][1]
    if "since" in arguments:
        # A wait in the queue has an end of its own, and this one has not just begun.
        arguments["since"] = time.time()
    event = wait["event"] if by == "event" else asyncio.run(events_of(trigger_of(wait)))[0]
    takes_report = wait["reports"] and name not in ("a create that waits", *LISTINGS)
    task = make(wait["reports"][0]["report_id"]) if takes_report else make()

    result = getattr(task, wait["method"])(context(map_index=0 if mapped else -1), event)

    if name == "a create in the queue":
        assert list(sandbox.reports) == [result]
    elif name == "a document in the queue":
        assert [each["uri"] for each in result] == [f"s3://{BUCKET}/{FOLDER}document.tsv"]
    elif name == "a cancel in the queue":
        assert result is False
        assert sandbox.count("cancelReport") == 1
    elif name in LISTINGS:
        assert [each["report_id"] for each in result] == [each["report_id"] for each in wait["reports"]]
    else:
        assert sandbox.count("createReport") == 0
        report_id = wait["reports"][0]["report_id"]
        assert report_id in (result, result["report_id"] if isinstance(result, dict) else None)


def test_a_watch_announces_reports(sandbox, recorded):
    watch = trigger_of(recorded("waits")["a watch"])

    async def announced():
        events = watch.run()
        first = asyncio.ensure_future(anext(events))
        while not sandbox.count("getReports"):  # noqa: ASYNC110 - the API has no event
            await asyncio.sleep(0.05)
        report_id = sandbox.add_report(LINES)
        event = await asyncio.wait_for(first, 30)
        await events.aclose()
        return report_id, event.payload

    report_id, payload = asyncio.run(announced())
    assert payload["report_id"] == report_id


@pytest.mark.parametrize("by", ["trigger", "event"])
def test_a_batch_that_waited_is_resumed(sandbox, s3, recorded, by):
    begun = recorded("batch_waiting")
    put_objects(s3, begun["objects"])
    plant(sandbox, begun["reports"])
    event = begun["event"] if by == "event" else asyncio.run(events_of(trigger_of(begun)))[0]

    result = finish(event, batch, context())

    assert (result["requested"], result["landed"], result["failed"]) == (len(INVOICES), len(INVOICES) - 1, 1)
    assert created(sandbox) == dict.fromkeys(INVOICES, 1)
    assert stored(s3) == set(INVOICES) - {"A-2"}


def test_a_batch_whose_worker_was_lost_is_continued_by_a_retry(sandbox, s3, recorded):
    begun = recorded("batch_lost_worker")
    put_objects(s3, begun["objects"])
    plant(sandbox, begun["reports"])
    ctx = context(try_number=2)

    result = run(lambda: batch(max_failed=0), ctx)

    assert (result["requested"], result["landed"], result["failed"]) == (len(INVOICES), len(INVOICES), 0)
    # What had failed is created again; what was under way without an id may have been.
    assert created(sandbox) == {**dict.fromkeys(INVOICES, 1), "A-2": 2}
    assert stored(s3) == set(INVOICES)


def test_a_complete_batch_that_is_cleared_creates_what_failed_only(sandbox, s3, recorded):
    before = recorded("batch_complete")
    put_objects(s3, before["objects"])

    result = run(batch, context(try_number=2))

    assert (result["requested"], result["landed"], result["failed"]) == (len(INVOICES), len(INVOICES), 0)
    assert created(sandbox) == {"A-2": 1}


def test_what_a_ledger_has_is_delivered(sandbox, s3, recorded):
    before = recorded("batch_complete")
    put_objects(s3, before["objects"])
    other = {"s3_key": f"{FOLDER}next/{{invoiceId}}/{{name}}"}

    result = run(lambda: batch([*INVOICES, *NEW], **other), context())

    assert (result["already_delivered"], result["landed"]) == (len(INVOICES) - 1, 1 + len(NEW))
    assert created(sandbox) == dict.fromkeys(["A-2", *NEW], 1)


def test_the_entries_of_a_ledger_are_read_one_by_one(s3, recorded):
    before = recorded("batch_complete")
    put_objects(s3, before["objects"])
    (account,) = {key.split("/")[2] for key in before["objects"] if key.startswith(f"{FOLDER}ledger/")}

    entries = Ledger(s3, f"s3://{BUCKET}/{FOLDER}ledger/", account=account).entries()

    assert {each.report_options["invoiceId"] for each in entries.values()} == set(INVOICES) - {"A-2"}


def test_a_trigger_of_a_batch_cancels_when_it_is_killed(sandbox, recorded):
    begun = recorded("batch_waiting")
    plant(sandbox, begun["reports"])
    for each in sandbox.reports.values():
        each.start_at(each.created_time.replace(year=each.created_time.year + 1))

    asyncio.run(trigger_of(begun).on_kill())

    running = {one.split(" ")[3] for one in begun["trigger"][1]["running"][1:]}
    cancelled = {each.report_id for each in sandbox.reports.values() if each.cancelled}
    assert cancelled
    assert cancelled <= running


def test_the_account_of_a_connection_is_the_same(version):
    from airflow_provider_amzbiz.client.config import ClientConfig
    from airflow_provider_amzbiz.transfers.batch_actions import target_of

    known = json.loads((HERE / version / "account.json").read_text())

    target = target_of(ClientConfig(client_id="id", client_secret="secret", refresh_token="token"), BUCKET)

    assert [target.account, target.application] == [known["account"], known["application"]]
