"""The minimum policy of the documentation is enough, and none of it can be omitted."""

from __future__ import annotations

import gzip
import io
import json
import random
import re
import zipfile
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import boto3
import pytest
import requests
from botocore.exceptions import ConnectionClosedError
from moto.server import ThreadedMotoServer

from airflow_provider_amzbiz.documents.open_uploads import OpenUpload
from airflow_provider_amzbiz.exceptions import AmazonBusinessError, DocumentPermanentError
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.sandbox import RawDocument
from airflow_provider_amzbiz.transfers.report_document_to_s3 import ReportDocumentToS3Operator
from airflow_provider_amzbiz.transfers.reports_to_s3 import ReportsToS3Operator
from airflow_provider_amzbiz.transfers.upload_record import UploadRecord
from tests.deferring import Store, context, run

PAGE = Path(__file__).resolve().parents[2] / "docs" / "security.rst"
BUCKET = "my-bucket"
LARGE = random.Random(5).randbytes(9 * 1024**2)
ROOT = {"aws_access_key_id": "root", "aws_secret_access_key": "root", "region_name": "us-east-1"}


def documented_policy():
    block = re.search(r"Minimum policy.*?code-block:: json\n\n(.*?)\n\n\.\.", PAGE.read_text(), re.DOTALL)[1]
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


def report(sandbox, body):
    sandbox.script(document=RawDocument(body))
    return AmazonBusinessHook().create_report("SANDBOX_ORDER_LINES", ["ATVPDKIKX0DER"])


def transfer(sandbox, body, *, store=None, **arguments):
    given = {"s3_bucket": BUCKET, "s3_key": "amazon-business/{name}", **arguments}
    operator = ReportDocumentToS3Operator(task_id="move", report_id=report(sandbox, body), **given)
    return operator.execute(context(store))


def small(sandbox):
    transfer(sandbox, gzip.compress(b"small"), s3_key="amazon-business/small")


def same_again(sandbox):
    small(sandbox)
    transfer(sandbox, gzip.compress(b"small"), s3_key="amazon-business/small", replace=False)


def large(sandbox):
    transfer(sandbox, gzip.compress(LARGE, 1), s3_key="amazon-business/large")


def invoice(sandbox):
    transfer(sandbox, zip_of(one=b"%PDF-1"))


def archive(sandbox):
    transfer(sandbox, zip_of(one=b"%PDF-1", two=b"%PDF-2"))


def refused_archive(sandbox):
    """An archive whose second file is denied by :func:`refusing_three`."""
    with pytest.raises(AmazonBusinessError, match=r"three\.pdf failed: AccessDenied.*s3:PutObject"):
        transfer(sandbox, zip_of(one=b"%PDF-1", three=b"%PDF-3"))


def refusing_three(policy):
    denied = {"Effect": "Deny", "Action": "s3:PutObject", "Resource": f"arn:aws:s3:::{BUCKET}/*/three.pdf"}
    return {**policy, "Statement": [*policy["Statement"], denied]}


def broken_large(sandbox):
    with pytest.raises(AmazonBusinessError, match="ends before"):
        transfer(sandbox, gzip.compress(LARGE, 1)[:-1], s3_key="amazon-business/large")


def zip_of(**files):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        for name, content in files.items():
            packed.writestr(f"{name}.pdf", content)
    return file.getvalue()


def lost_creation(sandbox):
    """A large document, of whose upload the first id does not arrive."""
    operator = ReportDocumentToS3Operator(
        task_id="move",
        report_id=report(sandbox, gzip.compress(LARGE, 1)),
        s3_uri=f"s3://{BUCKET}/amazon-business/l",
    )
    client, lost = operator.s3_client(), []
    send = client._endpoint.http_session.send

    def lose(request):
        response = send(request)
        if request.url.endswith("?uploads") and request.method == "POST" and not lost:
            lost.append(request.url)
            raise ConnectionClosedError(endpoint_url=request.url)
        return response

    client._endpoint.http_session.send = lose
    operator.s3_client = lambda: client
    operator.execute(context())
    assert lost


def batch(sandbox):
    requests = [{"report_type": "GET_AB_INVOICE_PDF", "report_options": {"invoiceId": "1"}}]
    key = "amazon-business/{invoiceId}.pdf"
    given = {"requests": requests, "s3_bucket": BUCKET, "s3_key": key, "poke_interval": 0.1}
    run(lambda: ReportsToS3Operator(task_id="batch", **given), context())


def batch_with_ledger(sandbox):
    """A batch of which a part was delivered before, and which joins small objects of the ledger's index."""
    for last in range(9):
        requests = [
            {"report_type": "GET_AB_INVOICE_PDF", "report_options": {"invoiceId": str(each)}} for each in (0, last)
        ]
        given = {
            "requests": requests,
            "s3_bucket": BUCKET,
            "s3_key": "amazon-business/{invoiceId}.pdf",
            "manifest_key": f"amazon-business/_manifests/{last}.json",
            "ledger": f"s3://{BUCKET}/amazon-business/ledger/",
            "audit_key": f"amazon-business/audit/{last}.jsonl",
            "poke_interval": 0.1,
        }
        make = partial(ReportsToS3Operator, task_id="batch", **given)
        assert run(make, context())["landed"] == 1


def open_uploads(moto):
    return boto3.client("s3", endpoint_url=moto, **ROOT).list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])


def keys(moto):
    listed = boto3.client("s3", endpoint_url=moto, **ROOT).list_objects_v2(Bucket=BUCKET)
    return [each["Key"] for each in listed.get("Contents", [])]


def without(action):
    policy = documented_policy()
    for statement in policy["Statement"]:
        statement["Action"] = [each for each in statement["Action"] if each != action]
    return policy


@pytest.mark.parametrize(
    "job",
    [small, same_again, large, invoice, archive, lost_creation, batch, batch_with_ledger],
    ids=lambda job: job.__name__,
)
def test_the_policy_is_enough(sandbox, moto, under_policy, job):
    with under_policy(documented_policy()):
        job(sandbox)

    assert keys(moto)
    assert open_uploads(moto) == []


@pytest.mark.parametrize("job", [refused_archive, broken_large], ids=lambda job: job.__name__)
def test_it_is_enough_to_clean_up(sandbox, moto, under_policy, job):
    with under_policy(refusing_three(documented_policy())):
        job(sandbox)

    assert keys(moto) == []
    assert open_uploads(moto) == []


def test_it_is_enough_to_abort_what_a_previous_attempt_left(sandbox, moto, under_policy):
    store, key = Store(), "amazon-business/large"
    with under_policy(documented_policy()):
        enforce(moto, "inf")
        left = boto3.client("s3", endpoint_url=moto, **ROOT)
        upload_id = left.create_multipart_upload(Bucket=BUCKET, Key=key)["UploadId"]
        UploadRecord(context(store)).add(OpenUpload(BUCKET, key, upload_id))
        enforce(moto, 0)
        transfer(sandbox, gzip.compress(LARGE, 1), s3_key=key, store=store)

    assert keys(moto) == [key]
    assert open_uploads(moto) == []


# What each action is needed for: without it, these fail for good.
NEEDED = {
    "s3:PutObject": [small, large, invoice, archive, batch],
    "s3:GetObject": [same_again, archive, batch],
}
# And these do what they can, and warn.
CLEANING_UP = {
    "s3:DeleteObject": refused_archive,
    "s3:AbortMultipartUpload": broken_large,
    "s3:ListBucketMultipartUploads": lost_creation,
}
# moto reports a missing object as missing even without permission to list; Amazon does not.
NOT_ENFORCED = {"s3:ListBucket"}
JOBS = [small, large, invoice]


def test_each_action_of_the_policy_is_necessary():
    actions = {action for statement in documented_policy()["Statement"] for action in statement["Action"]}
    assert actions == {*NEEDED, *CLEANING_UP, *NOT_ENFORCED}


@pytest.mark.parametrize(
    ("action", "job"),
    [(action, job) for action, jobs in NEEDED.items() for job in jobs],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_without_an_action_the_error_names_it(sandbox, under_policy, action, job):
    with under_policy(without(action)), pytest.raises(DocumentPermanentError, match=action):
        job(sandbox)


@pytest.mark.parametrize(
    ("action", "job"), CLEANING_UP.items(), ids=lambda value: getattr(value, "__name__", value)
)
def test_without_an_action_that_cleans_up_a_warning_names_it(sandbox, under_policy, action, job, caplog, capsys):
    with under_policy(refusing_three(without(action))):
        job(sandbox)

    assert action in caplog.text + capsys.readouterr().out


@pytest.mark.parametrize(
    ("action", "job"),
    [(action, job) for action in sorted({*NEEDED, *CLEANING_UP} - {"s3:PutObject"}) for job in JOBS],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_what_needs_an_action_no_more_succeeds_without_it(sandbox, moto, under_policy, action, job):
    with under_policy(without(action)):
        job(sandbox)

    assert len(keys(moto)) == 1


def test_other_folders_are_not_its_own(sandbox, under_policy):
    with under_policy(documented_policy()), pytest.raises(DocumentPermanentError, match="AccessDenied"):
        transfer(sandbox, gzip.compress(b"small"), s3_key="elsewhere/small")
