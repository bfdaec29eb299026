"""The policy that the documentation calls the least is enough, and none of it can be left out."""

from __future__ import annotations

import gzip
import io
import json
import random
import re
import zipfile
from contextlib import contextmanager
from pathlib import Path

import boto3
import pytest
import requests
from moto.server import ThreadedMotoServer

from airflow_provider_amzbiz.exceptions import AmazonBusinessError, DocumentPermanentError
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.sandbox import RawDocument
from airflow_provider_amzbiz.transfers.report_document_to_s3 import ReportDocumentToS3Operator
from airflow_provider_amzbiz.transfers.reports_to_s3 import ReportsToS3Operator
from tests.deferring import context, run

PAGE = Path(__file__).resolve().parents[2] / "docs" / "security.rst"
BUCKET = "my-bucket"
LARGE = random.Random(5).randbytes(9 * 1024**2)
ROOT = {"aws_access_key_id": "root", "aws_secret_access_key": "root", "region_name": "us-east-1"}


def documented_policy():
    block = re.search(r"least policy.*?code-block:: json\n\n(.*?)\n\n\.\.", PAGE.read_text(), re.DOTALL)[1]
    return json.loads(block)


@pytest.fixture(scope="module")
def moto():
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    enforce(f"http://{host}:{port}", "inf")
    server.stop()


def enforce(moto, after):
    """Have moto check policies once so many calls were made."""
    requests.post(f"{moto}/moto-api/reset-auth", data=str(after).encode(), timeout=10).raise_for_status()


@pytest.fixture
def under_policy(moto, monkeypatch):
    """Make ``aws_default`` a user who may do what a policy allows."""

    @contextmanager
    def make(policy):
        enforce(moto, "inf")
        requests.post(f"{moto}/moto-api/reset", timeout=10).raise_for_status()
        boto3.client("s3", endpoint_url=moto, **ROOT).create_bucket(Bucket=BUCKET)
        iam = boto3.client("iam", endpoint_url=moto, **ROOT)
        iam.create_user(UserName="airflow")
        iam.put_user_policy(UserName="airflow", PolicyName="least", PolicyDocument=json.dumps(policy))
        key = iam.create_access_key(UserName="airflow")["AccessKey"]
        connection = {
            "conn_type": "aws",
            "login": key["AccessKeyId"],
            "password": key["SecretAccessKey"],
            "extra": {"endpoint_url": moto, "region_name": "us-east-1"},
        }
        monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(connection))
        enforce(moto, 0)
        try:
            yield
        finally:
            enforce(moto, "inf")

    return make


def move(sandbox, body, *, try_number=1, **arguments):
    sandbox.script(document=RawDocument(body))
    report_id = AmazonBusinessHook().create_report("SANDBOX_ORDER_LINES", ["ATVPDKIKX0DER"])
    operator = ReportDocumentToS3Operator(
        task_id="move", report_id=report_id, s3_bucket=BUCKET, **{"s3_key": "amazon-business/{name}", **arguments}
    )
    return operator.execute(context(try_number=try_number))


def small(sandbox):
    move(sandbox, gzip.compress(b"small"), s3_key="amazon-business/small")


def same_again(sandbox):
    small(sandbox)
    move(sandbox, gzip.compress(b"small"), s3_key="amazon-business/small", replace=False)


def large(sandbox):
    move(sandbox, gzip.compress(LARGE, 1), s3_key="amazon-business/large")


def batch(sandbox):
    requests = [{"report_type": "GET_AB_INVOICE_PDF", "report_options": {"invoiceId": "1"}}]
    key = "amazon-business/{invoiceId}.pdf"
    given = {"requests": requests, "s3_bucket": BUCKET, "s3_key": key, "poke_interval": 0.1}
    run(lambda: ReportsToS3Operator(task_id="batch", **given), context())


def open_uploads(moto):
    return boto3.client("s3", endpoint_url=moto, **ROOT).list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])


def keys(moto):
    listed = boto3.client("s3", endpoint_url=moto, **ROOT).list_objects_v2(Bucket=BUCKET)
    return [each["Key"] for each in listed.get("Contents", [])]


@pytest.mark.parametrize("job", [small, same_again, large, batch], ids=lambda job: job.__name__)
def test_the_policy_is_enough(sandbox, under_policy, job):
    with under_policy(documented_policy()):
        job(sandbox)


def test_it_is_enough_to_clean_up(sandbox, moto, under_policy):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("one.pdf", b"%PDF-1")
        file.writestr("two.pdf", b"%PDF-2")
    broken = archive.getvalue().replace(b"%PDF-2", b"%PDF-3")
    with under_policy(documented_policy()):
        with pytest.raises(AmazonBusinessError):
            move(sandbox, broken)
        with pytest.raises(AmazonBusinessError):
            move(sandbox, gzip.compress(LARGE, 1)[:-1], s3_key="amazon-business/large")

    assert keys(moto) == []
    assert open_uploads(moto) == []


def test_it_is_enough_to_abort_what_a_killed_try_left(sandbox, moto, under_policy):
    with under_policy(documented_policy()):
        enforce(moto, "inf")
        left = boto3.client("s3", endpoint_url=moto, **ROOT)
        left.create_multipart_upload(Bucket=BUCKET, Key="amazon-business/large")
        enforce(moto, 0)
        move(sandbox, gzip.compress(LARGE, 1), s3_key="amazon-business/large", try_number=2)

    assert keys(moto) == ["amazon-business/large"]
    assert open_uploads(moto) == []


@pytest.mark.parametrize(
    ("action", "job"),
    [
        ("s3:PutObject", small),
        ("s3:PutObject", large),
        ("s3:GetObject", same_again),
        ("s3:GetObject", batch),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_without_an_action_the_error_names_what_is_denied(sandbox, under_policy, action, job):
    policy = documented_policy()
    for statement in policy["Statement"]:
        statement["Action"] = [each for each in statement["Action"] if each != action]
    with under_policy(policy), pytest.raises(DocumentPermanentError, match="AccessDenied|Forbidden"):
        job(sandbox)


def test_other_folders_are_not_its_own(sandbox, under_policy):
    with under_policy(documented_policy()), pytest.raises(DocumentPermanentError, match="AccessDenied"):
        move(sandbox, gzip.compress(b"small"), s3_key="elsewhere/small")
