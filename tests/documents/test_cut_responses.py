"""Responses that break between two headers, which look complete to a reader, and responses that are lost."""

from __future__ import annotations

import gzip
import http.client
import logging
import random
import socket
import threading
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ConnectionClosedError

from airflow_provider_amzbiz.batch.object_store import ObjectStore
from airflow_provider_amzbiz.documents.errors import DocumentDownloadError, DocumentStorageError
from tests.documents.scripted_server import SECRET, Document

LARGE = random.Random(5).randbytes(10 * 1024**2)
CUT = b"HTTP/1.1 200 OK\r\nx-amz-id-2: abc\r\n"


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    """Have botocore retry at once."""
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=lambda _: None))


class CuttingStore:
    """A proxy of an S3 server that responds to some requests itself: with a success that is cut in its headers.

    :param cuts: method and path to whether the response may be cut.
    :param times: number of responses that are cut.
    :param carry_out: whether the server gets the request all the same.
    """

    def __init__(self, url, cuts, times, *, carry_out=False):
        self._target = urlsplit(url)
        self._cuts, self._left, self._carry_out = cuts, times, carry_out
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self):
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _accept(self):
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with connection, connection.makefile("rb") as file:
            while line := file.readline():
                method, path, _ = line.decode().split()
                headers = http.client.parse_headers(file)
                if headers.get("Expect"):
                    connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                body = file.read(int(headers.get("Content-Length") or 0))
                cut = self._cuts(method, path) and self._left > 0
                if cut:
                    self._left -= 1
                if not cut or self._carry_out:
                    response = self._forward(method, path, headers, body)
                if cut:
                    connection.sendall(CUT)
                    return
                connection.sendall(response)

    def _forward(self, method, path, headers, body):
        target = http.client.HTTPConnection(self._target.hostname, self._target.port)
        target.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in headers.items():
            if name != "Expect":
                target.putheader(name, value)
        target.endheaders(body)
        response = target.getresponse()
        content = response.read()
        forwarded = [f"{name}: {value}" for name, value in response.getheaders() if name != "Transfer-Encoding"]
        if method != "HEAD" and response.getheader("Content-Length") is None:
            forwarded.append(f"Content-Length: {len(content)}")
        target.close()
        return (
            "\r\n".join([f"HTTP/1.1 {response.status} {response.reason}", *forwarded, "", ""]).encode() + content
        )


@pytest.fixture
def cutting(s3_server, monkeypatch):
    """Return a client that meets a :class:`CuttingStore`."""
    stores = []

    def start(cuts, times=1, **how):
        stores.append(CuttingStore(s3_server.endpoint_url, cuts, times, **how))
        with monkeypatch.context() as patched:
            patched.setattr(s3_server, "endpoint_url", stores[-1].url)
            return s3_server.client()

    yield start
    for store in stores:
        store.stop()


def completes(method, path):
    return method == "POST" and "uploadId=" in path


class TestStorage:
    @pytest.mark.parametrize("carry_out", [True, False])
    def test_a_completion_is_requested_again(self, host, copy, cutting, stored, s3, bucket, carry_out):
        """S3 responds before it has completed the object, so the response does not prove that it did."""
        host.content = gzip.compress(LARGE, 1)
        copy(s3=cutting(completes, carry_out=carry_out))
        assert stored() == {"document": LARGE}
        assert s3.list_multipart_uploads(Bucket=bucket).get("Uploads", []) == []

    def test_a_completion_that_gets_no_response_is_an_error(self, host, copy, cutting, nothing_left):
        host.content = gzip.compress(LARGE, 1)
        with pytest.raises(DocumentStorageError, match="was cut"):
            copy(s3=cutting(completes, 100))
        nothing_left()

    @pytest.mark.parametrize("what", ["UploadPart", "CreateMultipartUpload"])
    def test_a_response_without_an_id_is_an_error(self, host, copy, cutting, nothing_left, what):
        def cuts(method, path):
            return "partNumber=" in path if what == "UploadPart" else path.endswith("?uploads")

        host.content = gzip.compress(LARGE, 1)
        with pytest.raises(DocumentStorageError, match="was cut"):
            copy(s3=cutting(cuts, 100, carry_out=True))
        nothing_left()

    def test_an_upload_whose_responses_are_all_lost_is_aborted(self, host, copy, s3, nothing_left, monkeypatch):
        send = s3._endpoint.http_session.send

        def lose(request):
            response = send(request)
            if request.method == "POST" and request.url.endswith("?uploads"):
                raise ConnectionClosedError(endpoint_url=request.url)
            return response

        monkeypatch.setattr(s3._endpoint.http_session, "send", lose)
        host.content = gzip.compress(LARGE, 1)
        with pytest.raises(DocumentStorageError):
            copy()
        nothing_left()

    def test_a_cut_head_is_an_error(self, host, copy, cutting):
        host.content = b"abc"
        copy()
        with pytest.raises(DocumentStorageError, match="was cut"):
            copy(s3=cutting(lambda method, _: method == "HEAD", 100), replace=False)

    def test_half_of_what_is_there_is_not_compared(self, host, copy, cutting, s3, bucket):
        host.content = b"abc" * 1000
        s3.put_object(Bucket=bucket, Key="document", Body=host.content, ChecksumAlgorithm="SHA256")
        with pytest.raises(DocumentStorageError, match="has 3000 bytes, but 0 were read") as caught:
            copy(s3=cutting(lambda method, _: method == "GET", 100), replace=False)
        assert not caught.value.permanent

    @pytest.mark.parametrize("method", ["GET", "PUT"])
    def test_of_a_record_is_an_error(self, cutting, s3, bucket, method):
        body = b"{}" * 500
        ObjectStore(s3, bucket).put("record.json", body, content_type="application/json")
        cut = ObjectStore(cutting(lambda each, _: each == method, 100), bucket)
        with pytest.raises(DocumentStorageError):
            cut.get("record.json") and cut.put("record.json", body, content_type="application/json")
        assert ObjectStore(s3, bucket).get("record.json").body == body


class RawHost:
    """Answers each connection with the next of some bytes, the last of them again and again."""

    def __init__(self, *responses):
        self._responses = list(responses)
        self._socket = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._serve, daemon=True).start()

    def stop(self):
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def fetch(self):
        port = self._socket.getsockname()[1]
        return Document(f"http://127.0.0.1:{port}/document?X-Amz-Expires=300&X-Amz-Signature={SECRET}", None)

    def _serve(self):
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                connection.sendall(self._responses.pop(0) if len(self._responses) > 1 else self._responses[0])


@pytest.fixture
def raw_host():
    hosts = []

    def start(*responses):
        hosts.append(RawHost(*responses))
        return hosts[-1]

    yield start
    for each in hosts:
        each.stop()


WHOLE = b'HTTP/1.1 200 OK\r\nContent-Length: 6\r\nETag: "a"\r\n\r\nabcdef'
REST = b'HTTP/1.1 206 Partial Content\r\nETag: "a"\r\nContent-Length: 3\r\nContent-Range: bytes 3-5/6\r\n\r\ndef'


class TestHost:
    def test_headers_that_cannot_be_read_show_no_url(self, copy, stored, raw_host, caplog):
        cut = b"HTTP/1.1 200 OK\r\nDate: x\r\nContent-Len"
        with caplog.at_level(logging.DEBUG):
            copy(fetch_document=raw_host(cut, WHOLE).fetch)
        assert stored() == {"document": b"abcdef"}
        assert "Failed to parse headers" in caplog.text
        assert SECRET not in caplog.text

    @pytest.mark.parametrize("unpack", ["auto", "none"])
    def test_a_first_response_cut_between_headers_is_requested_again(self, copy, stored, raw_host, unpack):
        copy(fetch_document=raw_host(CUT, WHOLE).fetch, unpack=unpack)
        assert stored() == {"document": b"abcdef"}

    @pytest.mark.parametrize("kept", [40, 60])
    def test_a_rest_is_requested_again(self, copy, stored, raw_host, kept):
        copy(fetch_document=raw_host(WHOLE[:-3], REST[: REST.index(b"\r\n", kept) + 2], REST).fetch)
        assert stored() == {"document": b"abcdef"}

    def test_a_whole_response_to_a_rest_that_is_cut_between_headers_is_requested_again(
        self, copy, stored, raw_host
    ):
        copy(fetch_document=raw_host(WHOLE[:-3], CUT, REST).fetch)
        assert stored() == {"document": b"abcdef"}

    def test_a_whole_response_to_a_rest_that_breaks_before_the_rest_is_requested_again(
        self, copy, stored, raw_host
    ):
        copy(fetch_document=raw_host(WHOLE[:-3], WHOLE[:-4], REST).fetch)
        assert stored() == {"document": b"abcdef"}

    @pytest.mark.parametrize("url", [f"https://[abc/x?X-Amz-Signature={SECRET}", f"/x?X-Amz-Signature={SECRET}"])
    def test_a_url_without_a_host(self, copy, nothing_left, url):
        with pytest.raises(DocumentDownloadError, match="names no host") as caught:
            copy(fetch_document=lambda: Document(url, None))
        assert SECRET not in str(caught.value)
        nothing_left()

    def test_a_document_without_a_length_is_refused(self, copy, nothing_left, raw_host):
        """Where it ends, a gzip of several members may have been cut between two of them."""
        first = b'HTTP/1.1 200 OK\r\nETag: "a"\r\n\r\n' + gzip.compress(b"the first of two members\n")
        with pytest.raises(DocumentDownloadError, match="announced no length"):
            copy(fetch_document=raw_host(first).fetch)
        nothing_left()

    def test_a_length_that_cannot_be_is_none(self, copy, nothing_left, raw_host):
        absurd = b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\nabc"
        with pytest.raises(DocumentDownloadError):
            copy(fetch_document=raw_host(absurd).fetch)
        nothing_left()

    def test_a_host_that_cannot_be_is_named_as_such(self, copy, nothing_left):
        with pytest.raises(DocumentDownloadError, match="LocationParseError") as caught:
            copy(fetch_document=lambda: Document(f"https://{'a' * 64}.example/x?X-Amz-Signature={SECRET}", None))
        assert SECRET not in str(caught.value)
        nothing_left()
