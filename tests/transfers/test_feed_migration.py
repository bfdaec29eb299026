"""From a list of one's own to the feed: what the list has delivered is not requested again."""

from __future__ import annotations

import json
from datetime import datetime, timezone

import pytest

from airflow_provider_amzbiz import durable_create
from airflow_provider_amzbiz.demo.s3_server import objects_under
from airflow_provider_amzbiz.ledger import main as ledger_command
from airflow_provider_amzbiz.sandbox import Company
from airflow_provider_amzbiz.transfers import batch_run
from airflow_provider_amzbiz.transfers.reports_to_s3 import ReportsToS3Operator
from tests.conftest import BUCKET, connect
from tests.deferring import run
from tests.feed.books import stored_tables
from tests.transfers.test_invoices_to_s3 import DAY, DE, US, created, feed, run_named, sandbox_of

WORDS = {"Invoice": "Invoice", "CreditMemo": "Credits"}
TYPES = ["Invoice", "CreditMemo"]


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(durable_create, "LOOKUP_PAUSES", (0.05, 0.1))
    monkeypatch.setattr(batch_run, "REST_SECONDS", 0.2)


@pytest.fixture
def world(monkeypatch, s3, request):
    """A sandbox with a company in the US and in Germany, and a prefix in S3."""
    start = datetime.now(timezone.utc) - 60 * DAY
    company = Company(seed=11, orders=16, days=6, start=start, marketplaces=[US, DE])
    prefix = f"migration/{abs(hash(request.node.name))}/"
    with sandbox_of(company) as running:
        connect(monkeypatch, running)
        yield running, prefix
    for key in objects_under(s3, BUCKET, prefix):
        s3.delete_object(Bucket=BUCKET, Key=prefix + key)


def request(marketplace, **options):
    return marketplace, json.dumps(options, sort_keys=True)


def request_of(document):
    if document.marketplace_id == DE and not document.is_consolidated:
        return request(DE, orderId=min(line.order_id for line in document.lines))
    if document.marketplace_id == DE and document.kind == "CreditMemo":
        return request(DE, invoiceId=document.number)
    return request(document.marketplace_id, invoiceId=document.number, documentType=WORDS[document.kind])


def run_list(prefix, requests, **arguments):
    operator = lambda: ReportsToS3Operator(  # noqa: E731
        task_id="list",
        requests=[
            {
                "report_type": "GET_AB_INVOICE_PDF",
                "marketplace_ids": [marketplace],
                "report_options": json.loads(options),
                "s3_key": f"{prefix}list/{number}/{{name}}",
            }
            for number, (marketplace, options) in enumerate(requests)
        ],
        s3_bucket=BUCKET,
        s3_key=f"{prefix}list/{{name}}",
        poke_interval=0.1,
        deferrable=True,
        **arguments,
    )
    return run(operator, run_named("list"))


def asked(calls):
    bodies = [json.loads(call.body) for call in calls]
    return {request(each["marketplaceIds"][0], **each["reportOptions"]) for each in bodies}


@pytest.mark.slow
@pytest.mark.parametrize("is_rebuilt", [True, False])
def test_what_the_list_has_delivered_by_number_is_not_requested_again(world, s3, is_rebuilt):
    sandbox, prefix = world
    documents = [each for each in sandbox.company.documents if each.kind in TYPES]
    requests = sorted({request_of(each) for each in documents})
    ledger = f"s3://{BUCKET}/{prefix}ledger/"
    result = run_list(prefix, requests, **({} if is_rebuilt else {"ledger": ledger}))
    assert result["landed"] == len(requests)
    if is_rebuilt:
        assert ledger_command(["rebuild", ledger, result["manifest"], "--aws-conn-id", "aws_default"]) == 0
    before = len(created(sandbox))
    found = run(lambda: feed(prefix, document_types=TYPES), run_named("feed"))
    by_number = {each for each in requests if "invoiceId" in each[1]}
    by_order = set(requests) - by_number
    assert by_number
    assert by_order
    again = asked(created(sandbox)[before:])
    # Orders are requested once more, because they may have got other documents since.
    assert again == by_order
    assert len(created(sandbox)) - before == found["landed"] == len(by_order)
    assert found["already_delivered"] == len(by_number)
    rows = stored_tables(s3, BUCKET, f"{prefix}tables/").documents
    assert sorted(row["document_number"] for row in rows) == sorted(each.number for each in documents)
    kept = {row["document_number"] for row in rows if f"/{prefix}list/" in row["object_uri"]}
    assert kept == {each.number for each in documents if request_of(each) in by_number}
    # From then on nothing is requested any more, by either of them.
    before = len(created(sandbox))
    run(lambda: feed(prefix, document_types=TYPES), run_named("next"))
    assert len(created(sandbox)) == before


def test_another_form_of_the_same_number_is_another_request(world, s3):
    sandbox, prefix = world
    invoices = [each for each in sandbox.company.documents if each.kind == "Invoice" and each.marketplace_id == US]
    ledger = f"s3://{BUCKET}/{prefix}ledger/"
    result = run_list(prefix, [request(US, invoiceId=each.number) for each in invoices], ledger=ledger)
    assert result["landed"] == len(invoices) > 0
    before = len(created(sandbox))
    run(lambda: feed(prefix, document_types=["Invoice"]), run_named("feed"))
    assert {request_of(each) for each in invoices} <= asked(created(sandbox)[before:])
