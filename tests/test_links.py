"""The links that Airflow shows with tasks, on both of its ways to them."""

from __future__ import annotations

import gzip
from types import SimpleNamespace
from typing import Any

import airflow
import boto3
import pytest
from moto import mock_aws

from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.links import ReportStatusesLink, S3ConsoleLink, console_url
from airflow_provider_amzbiz.operators.reports import (
    CancelReportOperator,
    CreateReportOperator,
    GetReportsOperator,
)
from airflow_provider_amzbiz.sandbox import RawDocument
from airflow_provider_amzbiz.sensors.reports import ReportStatusSensor
from airflow_provider_amzbiz.transfers.report_document_to_s3 import ReportDocumentToS3Operator
from airflow_provider_amzbiz.transfers.reports_to_s3 import ReportsToS3Operator
from tests.airflow_names import TaskDeferred
from tests.deferring import context

AIRFLOW_3 = airflow.__version__.startswith("3")
REPORTS = {"report_type": "GET_AB_INVOICE_PDF", "report_options": {"invoiceId": "1"}}


def client(region="eu-west-1", **arguments):
    return boto3.client("s3", region_name=region, aws_access_key_id="x", aws_secret_access_key="x", **arguments)


@pytest.mark.parametrize(
    ("region", "key", "expected"),
    [
        ("eu-west-1", "a/b.tsv", "console.aws.amazon.com/s3/object/bucket?region=eu-west-1&prefix=a%2Fb.tsv"),
        ("eu-west-1", "a/", "console.aws.amazon.com/s3/buckets/bucket?region=eu-west-1&prefix=a%2F"),
        ("us-east-1", "", "console.aws.amazon.com/s3/buckets/bucket?region=us-east-1&prefix="),
        (
            "us-east-1",
            "a b&c#.tsv",
            "console.aws.amazon.com/s3/object/bucket?region=us-east-1&prefix=a%20b%26c%23.tsv",
        ),
        ("aws-global", "a.tsv", "console.aws.amazon.com/s3/object/bucket?prefix=a.tsv"),
        ("cn-north-1", "a.tsv", "console.amazonaws.cn/s3/object/bucket?region=cn-north-1&prefix=a.tsv"),
        (
            "us-gov-west-1",
            "a.tsv",
            "console.amazonaws-us-gov.com/s3/object/bucket?region=us-gov-west-1&prefix=a.tsv",
        ),
    ],
)
def test_the_console_of_the_partition_shows_the_object_or_the_folder(region, key, expected):
    assert console_url(client(region), "bucket", key) == f"https://{expected}"


@pytest.mark.parametrize(
    ("bucket", "expected"),
    [
        (
            "arn:aws:s3:eu-west-1:123456789012:accesspoint/invoices",
            "https://console.aws.amazon.com/s3/ap/123456789012/invoices?region=eu-west-1&prefix=a%2Fb.tsv",
        ),
        (
            "arn:aws:s3:eu-west-1:123456789012:accesspoint:invoices",
            "https://console.aws.amazon.com/s3/ap/123456789012/invoices?region=eu-west-1&prefix=a%2Fb.tsv",
        ),
        ("arn:aws:s3::123456789012:accesspoint/mfzwi23gnjvgw.mrap", None),
        ("arn:aws:s3-outposts:eu-west-1:123456789012:outpost/op-1/accesspoint/invoices", None),
    ],
)
def test_the_console_shows_an_access_point_of_one_region(bucket, expected):
    assert console_url(client("us-east-1"), bucket, "a/b.tsv") == expected


@pytest.mark.parametrize(
    "endpoint", ["http://127.0.0.1:9000", "https://s3.example.com", "https://amazonaws.com.evil.org"]
)
def test_no_console_shows_what_another_server_stores(endpoint):
    assert console_url(client(endpoint_url=endpoint), "bucket", "a.tsv") is None


@pytest.fixture
def moto_bucket(monkeypatch):
    """S3 in this process, at Amazon's address; the sandbox is reached as it is."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    with mock_aws():
        location = {"LocationConstraint": "eu-west-1"}
        boto3.client("s3").create_bucket(Bucket="bucket", CreateBucketConfiguration=location)
        yield


def run(operator):
    """Run a task until it ends or defers, and return the XComs that it pushed itself."""
    ctx, pushed = context(), {}
    ctx["ti"].xcom_push = lambda key, value: pushed.update({key: value})
    try:
        operator.execute(ctx)
    except TaskDeferred:
        return pushed
    return pushed


def link_of(operator, pushed, monkeypatch):
    """The link as the UI gets it: by the operator that ran (Airflow 3), or by what it pushed (Airflow 2)."""
    if AIRFLOW_3:
        assert pushed == {}
        return S3ConsoleLink().get_link(operator, ti_key=None)
    monkeypatch.setattr("airflow_provider_amzbiz.links.XCom.get_value", lambda ti_key, key: pushed.get(key))
    return S3ConsoleLink().get_link(SimpleNamespace(), ti_key=None)


@pytest.mark.usefixtures("moto_bucket")
@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("lines/{report_id}.tsv", "object/bucket?region=eu-west-1&prefix=lines%2F{report_id}.tsv"),
        ("lines/{report_id}/{name}", "buckets/bucket?region=eu-west-1&prefix=lines%2F{report_id}%2F"),
    ],
)
def test_a_transfer_links_to_what_it_wrote(sandbox, monkeypatch, key, expected):
    sandbox.script(document=RawDocument(gzip.compress(b"a\tb\n")))
    report_id = AmazonBusinessHook().create_report("SANDBOX_ORDER_LINES", ["ATVPDKIKX0DER"])
    task = ReportDocumentToS3Operator(
        task_id="move", report_id=report_id, s3_bucket="bucket", s3_key=key, aws_conn_id=None
    )

    pushed = run(task)

    console = "https://console.aws.amazon.com/s3/"
    assert link_of(task, pushed, monkeypatch) == console + expected.format(report_id=report_id)


@pytest.mark.usefixtures("moto_bucket")
def test_a_batch_links_to_its_folder_while_it_waits(sandbox, monkeypatch):
    task = ReportsToS3Operator(
        task_id="batch",
        requests=[REPORTS],
        s3_bucket="bucket",
        s3_key="invoices/{invoiceId}.pdf",
        aws_conn_id=None,
        deferrable=True,
    )

    pushed = run(task)

    assert link_of(task, pushed, monkeypatch) == (
        "https://console.aws.amazon.com/s3/buckets/bucket?region=eu-west-1&prefix=invoices%2F"
    )


@pytest.mark.usefixtures("moto_bucket")
def test_a_task_without_xcoms_pushes_no_link(sandbox):
    report_id = AmazonBusinessHook().create_report("SANDBOX_ORDER_LINES", ["ATVPDKIKX0DER"])

    pushed = run(
        ReportDocumentToS3Operator(
            task_id="move", report_id=report_id, s3_uri="s3://bucket/a", aws_conn_id=None, do_xcom_push=False
        )
    )

    assert pushed == {}


def test_a_task_that_did_not_get_so_far_has_no_link(monkeypatch):
    task = ReportDocumentToS3Operator(task_id="move", report_id="1", s3_uri="s3://bucket/a")

    assert link_of(task, {}, monkeypatch) == ""


def operators():
    return [
        CreateReportOperator(task_id="create", report_type="T"),
        CancelReportOperator(task_id="cancel", report_id="1"),
        GetReportsOperator(task_id="list", report_types="T"),
        ReportStatusSensor(task_id="wait", report_id="1"),
        ReportDocumentToS3Operator(task_id="move", report_id="1", s3_uri="s3://b/k"),
        ReportsToS3Operator(task_id="batch", requests=[REPORTS], s3_bucket="b", s3_key="k"),
    ]


def test_all_link_to_what_the_statuses_mean_and_transfers_to_s3():
    names = {task.task_id: [link.name for link in task.operator_extra_links] for task in operators()}

    assert names == {
        **{task_id: ["Report statuses"] for task_id in ("create", "cancel", "list", "wait")},
        **{task_id: ["S3 console", "Report statuses"] for task_id in ("move", "batch")},
    }
    url = ReportStatusesLink().get_link(operators()[0], ti_key=None)
    assert url.startswith("https://developer-docs.amazon.com/amazon-business/docs/")


def test_the_provider_registers_every_link():
    from airflow.providers_manager import ProvidersManager

    links = {type(link) for task in operators() for link in task.operator_extra_links}
    registered = set(ProvidersManager().extra_links_class_names)

    assert {f"{link.__module__}.{link.__qualname__}" for link in links} <= registered


@pytest.mark.main_path
def test_links_survive_the_way_into_the_database(monkeypatch):
    """What the webserver makes of a DAG has the links still."""
    from airflow.serialization import serialized_objects

    from tests.airflow_names import DAG

    # DagSerialization since Airflow 3.2, SerializedDAG before.
    new = hasattr(serialized_objects, "DagSerialization")
    Serialized: Any = getattr(serialized_objects, "DagSerialization" if new else "SerializedDAG")  # noqa: N806
    with DAG("links", schedule=None) as dag:
        operators()

    # A process that only executes tasks loads none, and dag.test() of a previous test turned this one into such.
    monkeypatch.setattr(Serialized, "_load_operator_extra_links", True)

    rebuilt = Serialized.from_dict(Serialized.to_dict(dag))

    assert [link.name for link in rebuilt.get_task("move").operator_extra_links] == [
        "S3 console",
        "Report statuses",
    ]


def test_renderers_are_of_templated_fields_and_colours_of_one_family():
    for task in operators():
        assert set(task.template_fields_renderers) <= set(task.template_fields), task.task_id
        assert set(task.template_fields_renderers.values()) <= {"json"}
    assert {task.ui_color for task in operators()} == {"#f9d58a", "#f9e7b8", "#f4b183"}
