"""Versioning, Object Lock and lifecycle rules of a bucket, as the documentation describes them, in moto.

SeaweedFS checks the rest of the transfers; moto has these settings, and refuses to delete a locked version.
"""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import datetime, timedelta, timezone
from functools import partial

import boto3
import pytest
import requests
from botocore.exceptions import ClientError
from moto.server import ThreadedMotoServer

from airflow_provider_amzbiz import durable_create
from airflow_provider_amzbiz.batch import ledger_index
from airflow_provider_amzbiz.sandbox import Company, Sandbox
from airflow_provider_amzbiz.transfers import batch_run
from airflow_provider_amzbiz.transfers.invoices_to_s3 import InvoicesToS3Operator
from airflow_provider_amzbiz.transfers.reports_to_s3 import ReportsToS3Operator
from dev.pages import DOCS
from tests.conftest import connect
from tests.deferring import context, run

PAGE = DOCS / "operations" / "bucket"
BUCKET = "my-bucket"
KEYS = {"aws_access_key_id": "a", "aws_secret_access_key": "b", "region_name": "us-east-1"}


@pytest.fixture(scope="module")
def moto():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(durable_create, "LOOKUP_PAUSES", (0.05, 0.1))
    monkeypatch.setattr(batch_run, "REST_SECONDS", 0.1)


@pytest.fixture
def s3(moto, monkeypatch):
    """A client of an empty moto, which is also the connection ``aws_default``."""
    requests.post(f"{moto}/moto-api/reset", timeout=10).raise_for_status()
    connection = {
        "conn_type": "aws",
        "login": "a",
        "password": "b",
        "extra": {"endpoint_url": moto, "region_name": "us-east-1"},
    }
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(connection))
    return boto3.client("s3", endpoint_url=moto, **KEYS)


@pytest.fixture
def locked(s3):
    """A bucket whose every object is kept for a day, as its default retention says."""
    s3.create_bucket(Bucket=BUCKET, ObjectLockEnabledForBucket=True)
    retention = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 1}}
    configuration = {"ObjectLockEnabled": "Enabled", "Rule": retention}
    s3.put_object_lock_configuration(Bucket=BUCKET, ObjectLockConfiguration=configuration)
    return s3


def batch(run_id, *invoices, **more):
    def make():
        return ReportsToS3Operator(
            task_id="task",
            requests=[
                {"report_type": "GET_AB_INVOICE_PDF", "report_options": {"invoiceId": each}} for each in invoices
            ],
            s3_bucket=BUCKET,
            s3_key="amazon-business/invoices/{invoiceId}/{name}",
            manifest_key=f"amazon-business/manifests/{run_id}.json",
            ledger=f"s3://{BUCKET}/amazon-business/ledger/",
            poke_interval=0.1,
            deferrable=True,
            **more,
        )

    of_run = context()
    of_run["ti"].run_id = run_id
    return run(make, of_run)


def history(s3):
    """Return the numbers of versions and of delete markers, by key."""
    versions, markers = defaultdict(int), defaultdict(int)
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=BUCKET):
        for each in page.get("Versions", ()):
            versions[each["Key"]] += 1
        for each in page.get("DeleteMarkers", ()):
            markers[each["Key"]] += 1
    return versions, markers


def keys(s3, prefix):
    return [each["Key"] for each in s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", ())]


def test_a_locked_bucket_refuses_to_delete_a_version(locked):
    version = locked.put_object(Bucket=BUCKET, Key="key", Body=b"1", ChecksumAlgorithm="CRC32")["VersionId"]

    with pytest.raises(ClientError, match="AccessDenied"):
        locked.delete_object(Bucket=BUCKET, Key="key", VersionId=version)


def test_a_batch_works_in_a_locked_bucket_and_overwrites_its_manifest_only(sandbox, locked):
    sandbox.script(processing_seconds=1, times=3)

    first = batch("monday", "1", "MULTI-2", "3")
    second = batch("tuesday", "3", "4")

    assert (first["landed"], second["landed"], second["already_delivered"]) == (3, 1, 1)
    versions, markers = history(locked)
    assert {key for key, count in versions.items() if count > 1} == {
        "amazon-business/manifests/monday.json",
        "amazon-business/manifests/tuesday.json",
    }
    assert markers == {}


def test_only_the_index_of_a_ledger_is_deleted(sandbox, locked, monkeypatch):
    monkeypatch.setattr(ledger_index, "_FAN_OUT", 2)

    for number in range(3):
        batch(f"run-{number}", str(number))

    _, markers = history(locked)
    assert markers
    assert all(key.split("/")[1] == "ledger" and "/index/" in key for key in markers)


def test_a_feed_works_in_a_locked_bucket_and_overwrites_manifest_and_cursor_only(monkeypatch, locked):
    now = datetime.now(timezone.utc)
    company = Company(seed=3, orders=4, days=6, start=now - timedelta(days=60))

    def feed(name):
        return InvoicesToS3Operator(
            task_id="task",
            s3_bucket=BUCKET,
            s3_key="amazon-business/invoices/{document_number}/{name}",
            manifest_key=f"amazon-business/manifests/{name}.json",
            ledger=f"s3://{BUCKET}/amazon-business/ledger/",
            tables=f"s3://{BUCKET}/amazon-business/tables/",
            feed_start=(now - timedelta(days=70)).isoformat(),
            poke_interval=0.1,
            deferrable=True,
        )

    with Sandbox(region="any", throttle=False, queue_seconds=0, processing_seconds=0, company=company) as sandbox:
        connect(monkeypatch, sandbox)
        results = []
        for name in ("monday", "tuesday"):
            of_run = context()
            of_run["ti"].run_id = name
            results.append(run(partial(feed, name), of_run))

    assert results[0]["landed"] > 0
    versions, markers = history(locked)
    overwritten = {key.split("/")[1] + "/.../" + key.rsplit("/", 1)[1] for key, n in versions.items() if n > 1}
    assert overwritten <= {"manifests/.../monday.json", "manifests/.../tuesday.json", "ledger/.../cursor.json"}
    assert "ledger/.../cursor.json" in overwritten
    assert markers == {}


def test_extra_args_lock_documents_and_tables_and_not_the_state(sandbox, s3):
    s3.create_bucket(Bucket=BUCKET, ObjectLockEnabledForBucket=True)
    lock = json.loads((PAGE / "extra_args.json").read_text())
    lock["ObjectLockRetainUntilDate"] = (datetime.now(timezone.utc) + timedelta(days=1)).isoformat()

    batch("monday", "1", extra_args=lock, audit_key="amazon-business/audit/monday.jsonl")

    locked = {
        key
        for key in keys(s3, "amazon-business/")
        if s3.head_object(Bucket=BUCKET, Key=key).get("ObjectLockMode") == "COMPLIANCE"
    }
    assert locked == {*keys(s3, "amazon-business/invoices/"), "amazon-business/audit/monday.jsonl"}
    assert len(locked) == 2


def test_the_lifecycle_rules_are_valid_and_spare_what_must_stay(s3):
    s3.create_bucket(Bucket=BUCKET)
    rules = json.loads((PAGE / "lifecycle.json").read_text())

    s3.put_bucket_lifecycle_configuration(Bucket=BUCKET, LifecycleConfiguration=rules)

    stored = s3.get_bucket_lifecycle_configuration(Bucket=BUCKET)["Rules"]
    assert len(stored) == len(rules["Rules"])
    expired = [rule["Filter"]["Prefix"] for rule in stored if "Expiration" in rule]
    assert expired == ["amazon-business/manifests/"]
    assert all(rule["Filter"]["Prefix"].startswith("amazon-business/") for rule in stored)


@pytest.mark.parametrize("expired", ["manifests/", "ledger/{account}/index/", "manifests/monday.json.parts/"])
def test_what_may_expire_costs_no_report(sandbox, s3, expired):
    s3.create_bucket(Bucket=BUCKET)
    batch("monday", "1", "2")
    [account] = {key.split("/")[2] for key in keys(s3, "amazon-business/ledger/")}
    gone = keys(s3, f"amazon-business/{expired.format(account=account)}")
    assert gone
    for key in gone:
        s3.delete_object(Bucket=BUCKET, Key=key)

    # The cleared task, and a run that overlaps it.
    again = batch("monday", "1", "2")
    other = batch("tuesday", "1", "2")

    assert again["failed"] == other["failed"] == 0
    assert other["already_delivered"] == 2
    assert len(sandbox.reports) == 2


def test_a_ledger_that_expires_has_everything_requested_again(sandbox, s3):
    s3.create_bucket(Bucket=BUCKET)
    batch("monday", "1", "2")
    for key in keys(s3, "amazon-business/ledger/"):
        s3.delete_object(Bucket=BUCKET, Key=key)

    again = batch("tuesday", "1", "2")

    assert again["already_delivered"] == 0
    assert len(sandbox.reports) == 4
