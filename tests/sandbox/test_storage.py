"""Presigned URLs and their downloads, which respond as S3 does."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from airflow_provider_amzbiz.sandbox import RawDocument

BODY = bytes(range(256)) * 4


@pytest.fixture(scope="module")
def shared_url(shared_api):
    """The URL of a document of 1,024 bytes."""
    document = RawDocument(body=BODY, compression_algorithm=None, content_type="text/plain; charset=Cp1252")
    shared_api.sandbox.script(document=document)
    return shared_api.describe()["url"]


def assert_rejected(response, status, code, message=None):
    assert response.status_code == status, response.raw_bytes
    assert response.headers["Content-Type"] == "application/xml"
    assert response.headers["Server"] == "AmazonS3"
    body = response.raw_bytes.decode()
    assert body.startswith('<?xml version="1.0" encoding="UTF-8"?>\n<Error>')
    assert f"<Code>{code}</Code>" in body
    assert message is None or f"<Message>{message}" in body


def test_the_url_has_the_observed_form(shared_url):
    parts = urlsplit(shared_url)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    assert parts.path.startswith("/documents-store/")
    assert query["X-Amz-Algorithm"] == "AWS4-HMAC-SHA256"
    assert re.fullmatch(r"\d{8}T\d{6}Z", query["X-Amz-Date"])
    assert query["X-Amz-SignedHeaders"] == "host"
    assert query["X-Amz-Expires"] == "300"
    assert query["response-content-encoding"] == "identity"
    assert query["X-Amz-Credential"].endswith("/s3/aws4_request")
    assert "%2Fus-east-1%2Fs3%2Faws4_request&" in shared_url
    # Whoever keeps it in a column of 512 characters cuts it off.
    assert len(shared_url) > 512
    assert re.fullmatch("[0-9a-f]{64}", query["X-Amz-Signature"])


def test_a_download(shared_url, download):
    response = download(shared_url)
    assert response.status_code == 200
    assert response.raw_bytes == BODY
    assert response.headers["Content-Length"] == "1024"
    assert response.headers["Content-Type"] == "text/plain; charset=Cp1252"
    assert response.headers["Accept-Ranges"] == "bytes"
    assert re.fullmatch('"[0-9a-f]{32}"', response.headers["ETag"])
    assert response.headers["Last-Modified"].endswith(" GMT")
    assert response.headers["Server"] == "AmazonS3"
    assert response.headers["x-amz-request-id"]
    assert response.headers["x-amz-id-2"]
    assert response.headers["Content-Encoding"] == "identity"
    assert response.headers["x-amz-server-side-encryption"] == "aws:kms"
    assert response.headers["x-amz-server-side-encryption-aws-kms-key-id"].startswith("arn:aws:kms:us-east-1:")
    assert response.headers["x-amz-server-side-encryption-bucket-key-enabled"] == "true"
    version = response.headers["x-amz-version-id"]
    assert version == download(shared_url).headers["x-amz-version-id"] != response.headers["ETag"]
    # And again: a URL is good for as many downloads as its time allows.
    assert download(shared_url).raw_bytes == BODY


def test_each_url_is_new_and_the_old_one_still_works(api, download):
    report = api.get(api.created()).json()
    first, second = (api.document(report["reportDocumentId"]).json()["url"] for _ in range(2))
    assert urlsplit(first).path == urlsplit(second).path
    assert download(first).raw_bytes == download(second).raw_bytes
    assert download(first).headers["ETag"] == download(second).headers["ETag"]


def test_a_url_expires_by_the_sandbox_clock(start, caller, download):
    api = caller(start(url_seconds=60))
    report = api.get(api.created()).json()
    described = api.document(report["reportDocumentId"]).json()
    assert "X-Amz-Expires=60&" in described["url"]
    api.sandbox.clock.advance(50)
    assert download(described["url"]).status_code == 200
    api.sandbox.clock.advance(20)
    response = download(described["url"])
    assert_rejected(response, 403, "AccessDenied", "Request has expired</Message>")
    body = response.raw_bytes.decode()
    assert "<X-Amz-Expires>60</X-Amz-Expires>" in body
    assert re.search(r"<Expires>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ</Expires><ServerTime>", body)
    again = api.document(report["reportDocumentId"]).json()
    assert download(again["url"]).status_code == 200


@pytest.mark.parametrize(
    "change",
    [
        lambda url: url.replace("X-Amz-Expires=300", "X-Amz-Expires=999999"),
        lambda url: re.sub(r"X-Amz-Date=\d{4}", "X-Amz-Date=2099", url),
        lambda url: url[:-1] + ("0" if url[-1] != "0" else "1"),
        lambda url: url + "&more=1",
        lambda url: url.replace("?", "?more=1&"),
        lambda url: url.replace("?", "x?"),
        lambda url: url.replace("%2F", "%252F"),
        lambda url: url.replace("%2F", "/"),
        lambda url: url[:512] + url[url.index("&X-Amz-Signature") :],
        lambda url: url.replace("response-content-encoding=identity&", ""),
        lambda url: re.sub(r"X-Amz-Credential=[^&]*", "X-Amz-Credential=other", url),
    ],
)
def test_a_url_that_was_changed(shared_url, download, change):
    assert_rejected(download(change(shared_url)), 403, "SignatureDoesNotMatch")


def test_a_url_that_was_cut_off(shared_url, download):
    response = download(shared_url.split("&X-Amz-Signature")[0])
    assert_rejected(response, 403, "AccessDenied", "No AWSAccessKey was presented.</Message>")
    assert_rejected(download(shared_url.split("?")[0]), 403, "AccessDenied", "No AWSAccessKey was presented.")


def test_an_unknown_document(shared_api, download):
    assert download(f"{shared_api.sandbox.url}/documents-store/nothing").status_code == 403


def test_an_authorization_header(shared_url, download):
    response = download(shared_url, Authorization="Bearer x")
    assert_rejected(response, 400, "InvalidArgument", "Only one auth mechanism allowed")


@pytest.mark.parametrize("name", ["x-amz-access-token", "x-amz-date", "x-amz-user-email"])
def test_the_apis_headers_break_the_signature(shared_url, download, name):
    assert_rejected(download(shared_url, **{name: "x"}), 403, "SignatureDoesNotMatch")


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE"])
def test_the_signature_is_for_get(shared_url, download, method):
    assert_rejected(download(shared_url, method=method), 403, "SignatureDoesNotMatch")


def test_head_is_rejected(shared_url):
    response = requests.head(shared_url, timeout=10)
    assert (response.status_code, response.content) == (403, b"")


@pytest.mark.parametrize(
    ("header", "start", "end"),
    [
        ("bytes=0-", 0, 1024),
        ("bytes=0-0", 0, 1),
        ("bytes=100-199", 100, 200),
        ("bytes=1000-", 1000, 1024),
        ("bytes=1000-5000", 1000, 1024),
        ("bytes=1023-1023", 1023, 1024),
        ("bytes=-24", 1000, 1024),
        ("bytes=-5000", 0, 1024),
    ],
)
def test_a_range(shared_url, download, header, start, end):
    response = download(shared_url, Range=header)
    assert response.status_code == 206
    assert response.raw_bytes == BODY[start:end]
    assert response.headers["Content-Range"] == f"bytes {start}-{end - 1}/1024"
    assert response.headers["Content-Length"] == str(end - start)
    assert response.headers["ETag"] == download(shared_url).headers["ETag"]


@pytest.mark.parametrize("header", ["bytes=1024-", "bytes=5000-6000", "bytes=-0"])
def test_a_range_beyond_the_end(shared_url, download, header):
    response = download(shared_url, Range=header)
    assert_rejected(response, 416, "InvalidRange", "The requested range is not satisfiable")
    assert response.headers["Content-Range"] == "bytes */1024"


@pytest.mark.parametrize(
    "header", ["bytes=5-2", "bytes=a-b", "bytes=", "bytes=-", "lines=1-2", "bytes=0-1,3-4", "bytes=²-"]
)
def test_a_range_that_is_none_is_ignored(shared_url, download, header):
    response = download(shared_url, Range=header.encode("latin-1"))
    assert (response.status_code, response.raw_bytes) == (200, BODY)


def test_conditions(shared_url, download):
    etag = download(shared_url).headers["ETag"]
    for value, status in [(etag, 200), ("*", 200), (f'"x", {etag}', 200), ('"other"', 412)]:
        assert download(shared_url, If_Match=value).status_code == status
    assert_rejected(download(shared_url, If_Match='"other"'), 412, "PreconditionFailed")
    for value, status in [(etag, 304), ("*", 304), ('"other"', 200)]:
        response = download(shared_url, If_None_Match=value)
        assert response.status_code == status
        assert response.headers["ETag"] == etag
    assert download(shared_url, If_None_Match=etag).raw_bytes == b""


def test_if_range(shared_url, download):
    first = download(shared_url).headers
    part = {"Range": "bytes=1000-"}
    assert download(shared_url, If_Range=first["ETag"], **part).raw_bytes == BODY[1000:]
    assert download(shared_url, If_Range=first["Last-Modified"], **part).raw_bytes == BODY[1000:]
    other = download(shared_url, If_Range='"other"', **part)
    assert (other.status_code, other.raw_bytes) == (200, BODY)


def test_an_empty_document(api, download):
    api.sandbox.script(document=RawDocument(body=b"", compression_algorithm=None))
    url = api.describe()["url"]
    response = download(url)
    assert (response.status_code, response.raw_bytes) == (200, b"")
    assert response.headers["Content-Length"] == "0"
    assert download(url, Range="bytes=0-").status_code == 416


def test_downloads_are_recorded(api, download):
    url = api.describe()["url"]
    download(url, Range="bytes=1-")
    (call,) = [call for call in api.sandbox.calls if call.operation == "document"]
    assert (call.method, call.status, call.headers["range"]) == ("GET", 206, "bytes=1-")
    assert call.path == urlsplit(url).path
    assert call.query == urlsplit(url).query


def test_the_documents_go_with_the_sandbox(start, caller, download, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    sandbox = start()
    download(caller(sandbox).describe()["url"])
    assert list(tmp_path.rglob("*"))
    sandbox.stop()
    assert not list(tmp_path.iterdir())
