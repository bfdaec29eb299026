"""The transfer operator: from the sandbox's documents to a real S3 server."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import sys
import zlib

import pytest

from airflow_provider_amzbiz.exceptions import (
    AmazonBusinessError,
    DocumentError,
    DocumentPermanentError,
    InvalidInputError,
    ReportCancelledError,
    ReportFatalError,
    ReportNotReadyError,
)
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.sandbox import Fault
from airflow_provider_amzbiz.transfers.report_document_to_s3 import ReportDocumentToS3Operator
from tests.airflow_names import AirflowFailException
from tests.conftest import connect
from tests.deferring import context, run
from tests.transfers.transferring import (
    BUCKET,
    TEXT,
    US,
    assert_nothing_there,
    create,
    stored,
    transfer,
    zipped,
)


@pytest.mark.main_path
@pytest.mark.parametrize("by", ["report", "document"])
def test_a_document_arrives_decoded_and_described(sandbox, s3, key, by):
    report_id = create(sandbox, gzip.compress(TEXT), content_type="text/plain; charset=UTF-8")
    document_id = AmazonBusinessHook().get_report(report_id).report_document_id
    which = {"report_id": report_id} if by == "report" else {"report_document_id": document_id}

    (result,) = transfer(s3_key=key, **which)

    assert stored(s3, key) == TEXT
    assert result == {
        "uri": f"s3://{BUCKET}/{key}",
        "bytes": len(TEXT),
        "sha256": hashlib.sha256(TEXT).hexdigest(),
        "crc32": base64.b64encode(zlib.crc32(TEXT).to_bytes(4, "big")).decode(),
        "content_type": "text/plain; charset=UTF-8",
    }
    head = s3.head_object(Bucket=BUCKET, Key=key, ChecksumMode="ENABLED")
    assert head["ChecksumCRC32"] == result["crc32"]
    assert head["ContentType"] == result["content_type"]
    assert json.loads(json.dumps(result)) == result


@pytest.mark.main_path
def test_a_document_of_many_parts(sandbox, s3, key):
    body = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(1_000_000))
    report_id = create(sandbox, gzip.compress(body, 1))

    (result,) = transfer(report_id=report_id, s3_key=key)

    assert hashlib.sha256(stored(s3, key)).hexdigest() == result["sha256"] == hashlib.sha256(body).hexdigest()
    head = s3.head_object(Bucket=BUCKET, Key=key, ChecksumMode="ENABLED")
    assert (
        head["ChecksumCRC32"] == result["crc32"] == base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()
    )
    assert head["ETag"].strip('"').endswith("-5")


def test_running_again_writes_the_same_key(sandbox, s3, key):
    report_id = create(sandbox, gzip.compress(TEXT))

    assert transfer(report_id=report_id, s3_key=key) == transfer(report_id=report_id, s3_key=key)
    assert transfer(report_id=report_id, s3_key=key, replace=False)[0]["bytes"] == len(TEXT)


def test_other_content_is_not_replaced_against_the_users_will(sandbox, s3, key):
    s3.put_object(Bucket=BUCKET, Key=key, Body=b"mine", ChecksumAlgorithm="CRC32")
    report_id = create(sandbox, gzip.compress(TEXT))

    with pytest.raises(DocumentPermanentError, match="exists with 4 bytes and CRC32"):
        transfer(report_id=report_id, s3_key=key, replace=False)
    assert stored(s3, key) == b"mine"
    transfer(report_id=report_id, s3_key=key)
    assert stored(s3, key) == TEXT


MEMBERS = gzip.compress(TEXT[:1000]) + gzip.compress(TEXT[1000:50_000]) + gzip.compress(TEXT[50_000:])


@pytest.mark.parametrize(
    ("body", "algorithm", "expected"),
    [
        (gzip.compress(TEXT), None, TEXT),
        (gzip.compress(TEXT), "GZIP", TEXT),
        (TEXT, "GZIP", TEXT),
        (TEXT, None, TEXT),
        (MEMBERS, "GZIP", TEXT),
        (gzip.compress(TEXT) + b"\0" * 100, "GZIP", TEXT),
        (b"", None, b""),
        (gzip.compress(b""), "GZIP", b""),
        (b"x", None, b"x"),
    ],
    ids=[
        "gzip-unflagged",
        "gzip",
        "plain-flagged",
        "plain",
        "members",
        "zeros-after",
        "empty",
        "gzip-of-nothing",
        "one",
    ],
)
def test_what_the_bytes_are_decides(sandbox, s3, key, body, algorithm, expected):
    (result,) = transfer(report_id=create(sandbox, body, algorithm), s3_key=key)

    assert stored(s3, key) == expected
    assert result["bytes"] == len(expected)


@pytest.mark.parametrize("encoding", ["gzip", "identity"])
def test_a_content_encoding_changes_nothing(sandbox, s3, key, encoding):
    transfer(report_id=create(sandbox, gzip.compress(TEXT), content_encoding=encoding), s3_key=key)

    assert stored(s3, key) == TEXT


def test_bytes_kept_as_they_came(sandbox, s3, key):
    (result,) = transfer(
        report_id=create(sandbox, gzip.compress(TEXT, mtime=0)), s3_key=key, unpack="none", sha256=False
    )

    assert stored(s3, key) == gzip.compress(TEXT, mtime=0)
    assert result["sha256"] is None


def corrupted(body):
    return body[:-6] + bytes([body[-6] ^ 1]) + body[-5:]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (gzip.compress(TEXT)[:-9], "gzip ends before"),
        (gzip.compress(TEXT)[:1000], "gzip ends before"),
        (corrupted(gzip.compress(TEXT)), "gzip is damaged"),
        (gzip.compress(TEXT) + b"more than a header of a gzip", "gzip is damaged"),
        (MEMBERS[:-20], "gzip ends before"),
        (b"", "announced as GZIP, but has 0 bytes"),
    ],
    ids=["no-trailer", "cut", "checksum", "bytes-after", "last-member-cut", "empty"],
)
def test_a_damaged_document_leaves_nothing(sandbox, s3, key, body, message):
    with pytest.raises(DocumentError, match=message) as caught:
        transfer(report_id=create(sandbox, body), s3_key=key)
    assert not isinstance(caught.value, AirflowFailException)
    assert_nothing_there(s3, key)


def test_damage_after_many_parts_leaves_nothing(sandbox, s3, key):
    body = gzip.compress(b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(1_000_000)), 1)

    with pytest.raises(DocumentError):
        transfer(report_id=create(sandbox, corrupted(body)), s3_key=key)
    assert_nothing_there(s3, key)


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "cut", "bytes": 5000},
        {"kind": "cut", "bytes": 0},
        {"kind": "cut", "bytes": 5000, "times": 3},
        {"kind": "drop"},
        {"kind": "status", "status": 503, "body": "html"},
        {"kind": "no_length"},
        {"kind": "content_encoding"},
        {"kind": "expire_url"},
    ],
    ids=str,
)
def test_a_broken_download_is_resumed(sandbox, s3, key, fault):
    report_id = create(sandbox, gzip.compress(TEXT))
    sandbox.inject(Fault(operation="document", **fault))

    transfer(report_id=report_id, s3_key=key)

    assert stored(s3, key) == TEXT


def test_a_cut_then_an_expired_url_is_resumed_at_the_same_byte_with_a_fresh_one(sandbox, s3, key):
    report_id = create(sandbox, gzip.compress(TEXT))
    sandbox.inject(Fault(operation="document", kind="cut", bytes=5000))
    sandbox.inject(Fault(operation="document", kind="expire_url", after=1))

    transfer(report_id=report_id, s3_key=key)

    assert stored(s3, key) == TEXT
    assert sandbox.count("getReportDocument") == 2
    asked = [call.headers.get("range") for call in sandbox.calls if call.operation == "document"]
    assert asked[0] is None
    assert asked[1] == asked[2]
    assert asked[2].startswith("bytes=")


def test_a_url_that_really_expires(sandbox, s3, key):
    """The URL is asked for only when the download starts, so a report may be old."""
    report_id = create(sandbox, gzip.compress(TEXT))
    sandbox.clock.advance(3600)

    transfer(report_id=report_id, s3_key=key)

    assert sandbox.count("getReportDocument") == 1


@pytest.mark.parametrize("fault", [{"kind": "no_range"}, {"kind": "change_etag"}])
def test_a_host_without_ranges_and_a_document_that_changes(sandbox, s3, key, fault):
    report_id = create(sandbox, gzip.compress(TEXT))
    sandbox.inject(Fault(operation="document", kind="cut", bytes=5000))
    sandbox.inject(Fault(operation="document", after=1, **fault))

    transfer(report_id=report_id, s3_key=key)

    assert stored(s3, key) == TEXT


def test_a_redirect_is_refused(sandbox, s3, key):
    report_id = create(sandbox, gzip.compress(TEXT))
    sandbox.inject(Fault(operation="document", kind="redirect", times=None))

    with pytest.raises(DocumentError, match="redirects are not followed"):
        transfer(report_id=report_id, s3_key=key)


def test_a_download_that_never_works_ends_without_the_url_in_the_error(sandbox, s3, key, monkeypatch):
    from airflow_provider_amzbiz.documents import download

    monkeypatch.setattr(download, "LONGEST_WAIT", 0.1)
    report_id = create(sandbox, gzip.compress(TEXT))
    sandbox.inject(Fault(operation="document", kind="drop", times=None))

    with pytest.raises(DocumentError, match="broke 6 times in a row") as caught:
        transfer(report_id=report_id, s3_key=key)
    error = caught.value
    while error:
        assert "X-Amz" not in str(error)
        error = error.__cause__ or error.__context__
    assert_nothing_there(s3, key)


def test_no_api_header_reaches_the_document_host(sandbox, s3, key):
    transfer(report_id=create(sandbox, gzip.compress(TEXT)), s3_key=key)

    (download,) = [call for call in sandbox.calls if call.operation == "document"]
    assert download.headers["accept-encoding"] == "identity"
    assert not any(name.startswith("x-amz") or name == "authorization" for name in download.headers)


@pytest.mark.main_path
def test_an_invoice_is_unpacked_to_its_pdf(sandbox, s3, key):
    report_id = AmazonBusinessHook().create_report("GET_AB_INVOICE_PDF", [US], report_options={"invoiceId": "77"})

    (result,) = transfer(report_id=report_id, s3_key=f"{key}/{{report_id}}/{{name}}")

    assert result["uri"] == f"s3://{BUCKET}/{key}/{report_id}/77.pdf"
    assert result["content_type"] == "application/pdf"
    assert stored(s3, f"{key}/{report_id}/77.pdf").startswith(b"%PDF-")


def test_an_archive_of_several_files_needs_the_name_in_the_key(sandbox, s3, key):
    report_id = AmazonBusinessHook().create_report(
        "GET_AB_INVOICE_PDF", [US], report_options={"invoiceId": "MULTI"}
    )

    with pytest.raises(DocumentPermanentError, match=r"put \{name\} into the key"):
        transfer(report_id=report_id, s3_key=key)
    assert_nothing_there(s3, key)
    assert len(transfer(report_id=report_id, s3_key=f"{key}/{{name}}")) == 3


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (zipped(), "without any file"),
        (zipped(a=TEXT)[:-100], "ZIP is damaged"),
        (zipped(a=TEXT).replace(zipped(a=TEXT)[500:510], b"0123456789"), "damaged"),
    ],
    ids=["empty", "cut", "corrupted"],
)
def test_a_damaged_archive_leaves_nothing(sandbox, s3, key, body, message):
    with pytest.raises(DocumentError, match=message):
        transfer(report_id=create(sandbox, gzip.compress(body)), s3_key=f"{key}/{{name}}")
    assert_nothing_there(s3, key)


def test_names_cannot_leave_the_prefix(sandbox, s3, key):
    body = zipped(**{"..__..__evil": b"1", "C:\\windows\\x": b"2", "__etc__passwd": b"3"})

    results = transfer(report_id=create(sandbox, gzip.compress(body)), s3_key=f"{key}/{{name}}")

    assert [each["uri"].removeprefix(f"s3://{BUCKET}/{key}/") for each in results] == [
        "evil",
        "windows/x",
        "etc/passwd",
    ]


def test_a_bomb_is_refused(sandbox, s3, key):
    zeros = gzip.compress(b"\0" * 5_000_000)

    with pytest.raises(DocumentPermanentError, match="max_bytes=1000000"):
        transfer(report_id=create(sandbox, zeros), s3_key=key, max_bytes=1_000_000)
    assert_nothing_there(s3, key)


def test_missing_bucket(sandbox, s3, key):
    report_id = create(sandbox, gzip.compress(TEXT))

    with pytest.raises(DocumentPermanentError, match="s3://nowhere/.*NoSuchBucket"):
        ReportDocumentToS3Operator(task_id="move", report_id=report_id, s3_bucket="nowhere", s3_key=key).execute(
            {}
        )


@pytest.mark.main_path
def test_boto3s_own_credentials(sandbox, s3_server, s3, key, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.secret_key)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.endpoint_url)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.delenv("AIRFLOW_CONN_AWS_DEFAULT")

    transfer(report_id=create(sandbox, gzip.compress(TEXT)), s3_key=key, aws_conn_id=None)

    assert stored(s3, key) == TEXT


def test_a_connection_without_the_amazon_provider_names_the_extra(sandbox, monkeypatch):
    monkeypatch.setitem(sys.modules, "airflow.providers.amazon.aws.hooks.base_aws", None)

    with pytest.raises(InvalidInputError, match=r"airflow-provider-amzbiz\[amazon\]"):
        transfer(report_id="1", s3_key="k")
    assert sandbox.calls == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "Exactly one of report_document_id and report_id"),
        ({"report_id": "1", "report_document_id": "2"}, "Exactly one of report_document_id and report_id"),
        ({"report_id": "1", "s3_uri": "s3://a/b"}, "Either s3_bucket and s3_key, or s3_uri"),
        ({"report_id": "1", "s3_key": None}, "Either s3_bucket and s3_key, or s3_uri"),
        ({"report_id": "1", "unpack": "zip"}, "unpack is 'zip'"),
        (
            {"report_id": "1", "unpack": None},
            r"unpack is None, but must be one of \['auto', 'gzip', 'none'\]; the string 'none' keeps the bytes",
        ),
        ({"report_id": "1", "max_bytes": 0}, "max_bytes is 0"),
        ({"report_id": "1", "extra_args": {"Body": b""}}, "extra_args has 'Body'"),
    ],
)
def test_what_is_wrong_shows_when_the_dag_is_parsed(arguments, message):
    with pytest.raises(InvalidInputError, match=message):
        ReportDocumentToS3Operator(task_id="move", s3_bucket=BUCKET, **{"s3_key": "k", **arguments})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"s3_bucket": None, "s3_key": None, "s3_uri": "https://a/b"}, "s3_uri is 'https://a/b'"),
        ({"s3_key": "{reprot_id}"}, r"placeholder \{reprot_id\}"),
        ({"report_id": None, "report_document_id": "d", "s3_key": "{report_id}"}, r"placeholder \{report_id\}"),
    ],
)
def test_what_a_template_rendered_is_checked_before_any_call(sandbox, s3, arguments, message):
    given = {"s3_bucket": BUCKET, "s3_key": "k", "report_id": "1", **arguments}

    with pytest.raises(InvalidInputError, match=message):
        ReportDocumentToS3Operator(task_id="move", **given).execute({})
    assert sandbox.calls == []


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({"s3_bucket": "b", "s3_key": "{{ ds }}/{reprot_id}"}, r"placeholder \{reprot_id\}"),
        ({"s3_uri": "s3://{{ params.bucket }}/{reprot_id}"}, r"placeholder \{reprot_id\}"),
        ({"s3_uri": "https://a/b"}, "s3_uri is 'https://a/b'"),
    ],
)
def test_a_target_that_is_wrong_whatever_is_rendered_shows_at_parsing(target, message):
    with pytest.raises(InvalidInputError, match=message):
        ReportDocumentToS3Operator(task_id="move", report_id="{{ params.report }}", **target)


@pytest.mark.parametrize(
    "target",
    [
        {"s3_bucket": "b", "s3_key": "{{ds}}/{% if params.x %}{{x}}{% endif %}{#{y}#}/{report_id}"},
        {"s3_uri": "{{ var.value.reports }}"},
        {"s3_uri": "s3://{{bucket}}/{report_id}/{name}"},
    ],
)
def test_a_target_that_templates_may_make_right_waits_for_them(target):
    ReportDocumentToS3Operator(task_id="move", report_id="{{ params.report }}", **target)


def test_an_s3_uri(sandbox, s3, key):
    report_id = create(sandbox, gzip.compress(TEXT))

    ReportDocumentToS3Operator(task_id="move", report_id=report_id, s3_uri=f"s3://{BUCKET}/{key}").execute({})

    assert stored(s3, key) == TEXT


@pytest.mark.parametrize(
    ("outcome", "error"),
    [
        ("FATAL", ReportFatalError),
        ("CANCELLED", ReportCancelledError),
        ("DONE_WITHOUT_DOCUMENT", ReportFatalError),
        ("ON_HOLD", ReportNotReadyError),
    ],
)
def test_a_report_that_has_no_document(sandbox, s3, key, outcome, error):
    with pytest.raises(error):
        transfer(report_id=create(sandbox, outcome=outcome), s3_key=key)


def deferrable(report_id, key):
    return ReportDocumentToS3Operator(
        task_id="move", report_id=report_id, s3_bucket=BUCKET, s3_key=key, deferrable=True
    )


@pytest.mark.main_path
def test_a_throttled_task_waits_for_its_permit_in_the_triggerer(sandbox, s3, key, monkeypatch):
    connect(monkeypatch, sandbox, rate_limits='{"getReportDocument": [2, 1]}')
    report_id = create(sandbox, gzip.compress(TEXT))
    sandbox.inject(Fault(operation="getReportDocument", kind="status", status=429, body="json"))
    events = []

    run(lambda: deferrable(report_id, key), context(), deferrals=events)

    assert [event["status"] for event in events] == ["permitted"]
    assert stored(s3, key) == TEXT


def test_a_mapped_task_queues_for_its_permit_first(sandbox, s3, key):
    report_id = create(sandbox, gzip.compress(TEXT))
    events = []

    run(lambda: deferrable(report_id, key), context(map_index=3), deferrals=events)

    assert [event["status"] for event in events] == ["permitted"]
    assert stored(s3, key) == TEXT


def test_a_wait_for_a_permit_that_cannot_continue_fails_with_its_reason(sandbox, s3, key):
    error = AmazonBusinessError("some reason").to_dict()
    with pytest.raises(AmazonBusinessError, match="some reason"):
        deferrable("1", key).execute_complete(context(), {"status": "error", "error": error})
    assert sandbox.calls == []


def test_a_key_that_is_no_string_is_refused_before_any_call(sandbox, s3):
    with pytest.raises(InvalidInputError, match="s3_key is 7"):
        transfer(report_id="1", s3_key=7)
    assert sandbox.count("getReport") == 0


def test_a_parameter_that_boto3_does_not_know_is_not_retried(sandbox, s3, key):
    with pytest.raises(DocumentPermanentError, match="StorageKlass"):
        transfer(report_id=create(sandbox, gzip.compress(TEXT)), s3_key=key, extra_args={"StorageKlass": "X"})


def test_text_is_converted_to_utf_8_on_request(sandbox, s3, key):
    text = "Müller\t1.200 €\n"
    raw = {"content_type": "text/plain; charset=Cp1252"}
    report_id = create(sandbox, gzip.compress(text.encode("cp1252")), **raw)

    (result,) = transfer(report_id=report_id, s3_key=key, encoding="declared")

    assert stored(s3, key) == text.encode()
    assert result["content_type"] == "text/plain; charset=UTF-8"
    assert result["sha256"] == hashlib.sha256(text.encode()).hexdigest()


def test_a_byte_that_is_no_character_is_not_retried(sandbox, s3, key):
    report_id = create(sandbox, gzip.compress(b"abc\x81"))

    with pytest.raises(DocumentPermanentError, match="not Cp1252 at byte 3 "):
        transfer(report_id=report_id, s3_key=key, encoding="Cp1252")
    assert_nothing_there(s3, key)
