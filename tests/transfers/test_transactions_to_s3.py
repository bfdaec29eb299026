"""The transactions of the sandbox's company to S3."""

from __future__ import annotations

import io
import json
from collections import defaultdict
from datetime import datetime, timedelta, timezone
from decimal import Decimal

import pytest
from pyarrow import parquet

from airflow_provider_amzbiz.exceptions import InvalidInputError, TaskKilledError
from airflow_provider_amzbiz.sandbox import Company, Sandbox
from airflow_provider_amzbiz.transfers.transactions_to_s3 import TransactionsToS3Operator
from tests.conftest import BUCKET, connect
from tests.deferring import context

DAY = timedelta(days=1)


@pytest.fixture
def sandbox(monkeypatch):
    start = datetime.now(timezone.utc) - 60 * DAY
    with Sandbox(throttle=False, company=Company(seed=3, orders=20, days=6, start=start)) as running:
        connect(monkeypatch, running)
        yield running


def transactions(form, **arguments):
    return TransactionsToS3Operator(
        task_id="task", **{"s3_bucket": BUCKET, "s3_key": f"transactions/run.{form}", **arguments}
    )


def interval():
    now = datetime.now(timezone.utc)
    return {**context(), "data_interval_start": now - 57 * DAY, "data_interval_end": now, "outlet_events": {}}


def read(s3, form):
    body = s3.get_object(Bucket=BUCKET, Key=f"transactions/run.{form}")["Body"].read()
    if form == "jsonl":
        return [json.loads(line) for line in body.splitlines()]
    return parquet.read_table(io.BytesIO(body)).to_pylist()


@pytest.mark.main_path
@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_the_table_is_the_books(sandbox, s3, form):
    result = transactions(form).execute(interval())
    rows = read(s3, form)
    totals = defaultdict(Decimal)
    for row in rows:
        totals[row["transaction_id"]] += Decimal(row["total"])
        assert row["buyer"] is row["payer"] is None
    assert totals == {each.transaction_id: each.amount for each in sandbox.company.transactions}
    assert (result["transactions"], result["rows"]) == (len(totals), len(rows))
    assert result["uri"] == f"s3://{BUCKET}/transactions/run.{form}"


def test_personal_data_is_there_for_who_asks(sandbox, s3):
    transactions("jsonl", include_personal_data=True).execute(interval())
    assert all("@example.com" in row["buyer"] for row in read(s3, "jsonl"))


def test_an_empty_range_is_an_empty_table(sandbox, s3):
    past = "2020-01-01T00:00:00+00:00"
    result = transactions("parquet", feed_start=past, feed_end=past).execute(interval())
    assert (result["rows"], read(s3, "parquet")) == (0, [])


def test_a_task_that_was_ended_writes_nothing(sandbox, s3):
    task = transactions("jsonl", s3_key="transactions/ended.jsonl")
    task.on_kill()
    with pytest.raises(TaskKilledError):
        task.execute(interval())
    assert "Contents" not in s3.list_objects_v2(Bucket=BUCKET, Prefix="transactions/ended")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"s3_key": "run.csv"}, "s3_key is 'run.csv', but must end with"),
        ({"s3_key": "{name}.jsonl"}, "placeholder"),
        ({"s3_key": "/run.jsonl"}, "s3_key"),
        ({"s3_bucket": "a b"}, "s3_bucket"),
        ({"s3_bucket": ""}, "s3_bucket"),
        ({"feed_start": "yesterday"}, "feed_start"),
        ({"feed_start": "2030-01-01T00:00:00Z", "feed_end": "2029-01-01T00:00:00Z"}, "feed_start"),
    ],
)
def test_parameters_are_checked_before_any_call(sandbox, s3, arguments, said):
    with pytest.raises(InvalidInputError, match=said):
        transactions("jsonl", **arguments).execute(interval())
    assert sandbox.calls == []
