"""What is in S3 afterwards: a whole object with S3's own checksum, or nothing."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import logging
import os
import random
import signal
import threading
import time
import zipfile
import zlib

import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ClientError

from airflow_provider_amzbiz.documents.errors import DocumentError, DocumentExistsError, DocumentStorageError
from tests.documents.scripted_server import EXPIRED_URL, Response

LARGE = random.Random(3).randbytes(20 * 1024 * 1024)
TEXT = b"order\tamount\n" * 100
EXISTING = b"what was there before"
NO_SUCH_UPLOAD = b"<Error><Code>NoSuchUpload</Code><Message>The upload does not exist.</Message></Error>"


class Raw(io.BytesIO):
    """A body as botocore reads it."""

    def stream(self):
        yield self.read()


def crc32(content):
    return base64.b64encode(zlib.crc32(content).to_bytes(4, "big")).decode()


def two_files():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.txt", TEXT)
        archive.writestr("b.txt", TEXT[::-1])
    return file.getvalue()


def fail(s3, operation, error, *, at=1):
    """Have a call of an operation fail."""
    calls = []

    def handler(**_):
        calls.append(None)
        if len(calls) >= at:
            raise error

    s3.meta.events.register(f"before-call.s3.{operation}", handler)
    return lambda: s3.meta.events.unregister(f"before-call.s3.{operation}", handler)


def refusal(code, operation="PutObject"):
    return ClientError({"Error": {"Code": code, "Message": "No."}}, operation)


class TestResult:
    @pytest.mark.parametrize("content", [b"", TEXT, LARGE], ids=["empty", "small", "large"])
    @pytest.mark.parametrize("packed", [True, False])
    def test_tells_what_lies_there(self, host, copy, s3, bucket, content, packed):
        host.content = gzip.compress(content, 1) if packed else content
        (result,) = copy()
        head = s3.head_object(Bucket=bucket, Key="document", ChecksumMode="ENABLED")
        assert result.to_dict() == {
            "uri": f"s3://{bucket}/document",
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "crc32": crc32(content),
            "content_type": "binary/octet-stream",
        }
        assert head["ContentLength"] == len(content)
        assert head["ChecksumCRC32"] == result.crc32
        assert s3.get_object(Bucket=bucket, Key="document")["Body"].read() == content

    def test_without_sha256(self, host, copy):
        host.content = TEXT
        (result,) = copy(sha256=False)
        assert result.sha256 is None
        assert result.crc32 == crc32(TEXT)

    @pytest.mark.parametrize("key", ["a b/ü.txt", "what?versionId=1", "a#b", "me:you@there", "a%2Fb"])
    def test_keys_are_exact(self, host, copy, stored, bucket, key):
        host.content = TEXT
        (result,) = copy(key=lambda _: key)
        assert stored() == {key: TEXT}
        assert result.uri == f"s3://{bucket}/{key}"

    @pytest.mark.parametrize("content", [TEXT, LARGE], ids=["small", "large"])
    def test_extra_args(self, host, copy, s3, bucket, content):
        host.content = content
        copy(extra_args={"Metadata": {"report": "123"}, "CacheControl": "no-store"})
        head = s3.head_object(Bucket=bucket, Key="document")
        assert head["Metadata"] == {"report": "123"}
        assert head["CacheControl"] == "no-store"

    @pytest.mark.parametrize("content", [TEXT, LARGE], ids=["small", "large"])
    def test_log_says_what_was_stored(self, host, copy, bucket, caplog, content):
        caplog.set_level(logging.INFO)
        host.content = content
        copy()
        (line,) = [each.message for each in caplog.records if each.name != "botocore.credentials"]
        assert "Stored" in line
        assert f"s3://{bucket}/document" in line
        assert str(len(content)) in line


class TestCalls:
    @pytest.mark.parametrize("content", [b"", b"x", TEXT])
    def test_small_is_one_put(self, host, copy, operations, content):
        host.content = content
        copy()
        assert operations == ["PutObject"]

    def test_large_is_parts(self, host, copy, operations):
        host.content = LARGE
        copy()
        # What is open before is not aborted, should the response to the creation be lost.
        assert operations[:2] == ["ListMultipartUploads", "CreateMultipartUpload"]
        assert operations[2:-1] == ["UploadPart"] * 3
        assert operations[-1] == "CompleteMultipartUpload"

    def test_wrong_checksum_is_refused_by_s3(self, host, copy, s3, nothing_left):
        """S3 checks every part against the checksum that came with it."""
        host.content = LARGE

        def damage(params, **_):
            params["headers"]["x-amz-checksum-crc32"] = "AAAAAA=="

        s3.meta.events.register("before-call.s3.CompleteMultipartUpload", damage)
        with pytest.raises(DocumentStorageError):
            copy()
        nothing_left()


class TestFailure:
    @pytest.mark.parametrize("at", [1, 2, 3])
    def test_of_a_part(self, host, copy, s3, nothing_left, at):
        host.content = LARGE
        undo = fail(s3, "UploadPart", refusal("InternalError", "UploadPart"), at=at)
        with pytest.raises(DocumentStorageError, match="InternalError") as caught:
            copy()
        assert not caught.value.permanent
        undo()
        nothing_left()

    @pytest.mark.parametrize("operation", ["CreateMultipartUpload", "CompleteMultipartUpload"])
    def test_of_beginning_and_end(self, host, copy, s3, nothing_left, operation):
        host.content = LARGE
        undo = fail(s3, operation, refusal("SlowDown", operation))
        with pytest.raises(DocumentStorageError, match="SlowDown"):
            copy()
        undo()
        nothing_left()

    def test_of_aborting_does_not_hide_the_cause(self, host, copy, s3):
        host.content = LARGE
        fail(s3, "UploadPart", refusal("TheCause", "UploadPart"))
        fail(s3, "AbortMultipartUpload", refusal("AccessDenied", "AbortMultipartUpload"))
        with pytest.raises(DocumentStorageError, match="TheCause"):
            copy()

    def test_of_the_document_at_its_end(self, host, copy, nothing_left):
        host.content = gzip.compress(LARGE, 1)[:-1]
        host.compression_algorithm = "GZIP"
        with pytest.raises(DocumentError):
            copy()
        nothing_left()

    @pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, ValueError])
    @pytest.mark.parametrize("cut", [1000, 18_000_000])
    def test_interrupted(self, host, copy, nothing_left, kind, cut):
        host.content = LARGE
        host.responses.extend([Response(cut=cut), EXPIRED_URL])
        documents = iter([host.fetch()])

        def fetch():
            for document in documents:
                return document
            raise kind

        with pytest.raises(kind):
            copy(fetch_document=fetch)
        nothing_left()

    def test_of_a_later_file_takes_the_first_away(self, host, copy, s3, nothing_left):
        host.content = two_files()
        undo = fail(s3, "PutObject", refusal("SlowDown"), at=2)
        with pytest.raises(DocumentStorageError, match="SlowDown"):
            copy()
        undo()
        nothing_left()

    def test_of_a_later_file_leaves_what_others_wrote(self, host, copy, s3, bucket, stored):
        """The first file lay there before, the same; only what this run wrote is its to delete."""
        host.content = two_files()
        s3.put_object(Bucket=bucket, Key="files/a.txt", Body=TEXT, ChecksumAlgorithm="CRC32")
        fail(s3, "PutObject", refusal("SlowDown"))
        with pytest.raises(DocumentStorageError, match="SlowDown"):
            copy(replace=False)
        assert stored() == {"files/a.txt": TEXT}

    def test_of_a_later_file_leaves_what_an_earlier_run_wrote(self, host, copy, s3, stored):
        """An object that was only overwritten is not this transfer's to delete."""
        host.content = two_files()
        copy()
        fail(s3, "PutObject", refusal("SlowDown"), at=2)
        with pytest.raises(DocumentStorageError, match="SlowDown"):
            copy()
        assert stored() == {"files/a.txt": TEXT, "files/b.txt": TEXT[::-1]}

    def test_of_deleting_does_not_hide_the_cause(self, host, copy, s3):
        host.content = two_files()
        fail(s3, "PutObject", refusal("TheCause"), at=2)
        fail(s3, "DeleteObject", refusal("AccessDenied", "DeleteObject"))
        with pytest.raises(DocumentStorageError, match="TheCause"):
            copy()


class TestRefusal:
    @pytest.mark.parametrize("content", [TEXT, LARGE], ids=["small", "large"])
    def test_missing_bucket(self, host, copy, content):
        host.content = content
        with pytest.raises(DocumentStorageError, match="NoSuchBucket") as caught:
            copy(bucket="nobody-made-this")
        assert "nobody-made-this" in str(caught.value)
        assert caught.value.permanent

    @pytest.mark.parametrize("content", [TEXT, LARGE], ids=["small", "large"])
    def test_wrong_secret(self, host, copy, s3_server, monkeypatch, content, nothing_left):
        monkeypatch.setattr(s3_server, "secret_key", "wrong")
        client = s3_server.client()
        monkeypatch.undo()
        host.content = content
        with pytest.raises(DocumentStorageError, match="SignatureDoesNotMatch") as caught:
            copy(s3=client)
        assert caught.value.permanent
        nothing_left()


class TestReplace:
    def test_overwrites_and_repeats(self, host, copy, s3, bucket, stored):
        s3.put_object(Bucket=bucket, Key="document", Body=EXISTING)
        host.content = TEXT
        assert copy() == copy()
        assert stored() == {"document": TEXT}

    @pytest.mark.parametrize("content", [TEXT, LARGE], ids=["small", "large"])
    def test_false_without_an_object(self, host, copy, stored, content):
        host.content = content
        copy(replace=False)
        assert stored() == {"document": content}

    @pytest.mark.parametrize("content", [b"", TEXT, LARGE], ids=["empty", "small", "large"])
    def test_false_with_the_same_content(self, host, copy, s3, bucket, stored, content):
        host.content = content
        first = copy(replace=False)
        assert [each.to_dict() for each in copy(replace=False)] == [each.to_dict() for each in first]
        assert stored() == {"document": content}
        assert s3.list_multipart_uploads(Bucket=bucket).get("Uploads", []) == []

    @pytest.mark.parametrize("content", [TEXT, LARGE], ids=["small", "large"])
    @pytest.mark.parametrize("same_size", [True, False])
    def test_false_with_other_content(self, host, copy, s3, bucket, stored, content, same_size):
        there = content[::-1] if same_size else EXISTING
        s3.put_object(Bucket=bucket, Key="document", Body=there, ChecksumAlgorithm="CRC32")
        host.content = content
        with pytest.raises(DocumentExistsError) as caught:
            copy(replace=False)
        assert crc32(content) in str(caught.value)
        assert crc32(there) in str(caught.value)
        assert caught.value.permanent
        assert stored() == {"document": there}
        assert s3.list_multipart_uploads(Bucket=bucket).get("Uploads", []) == []

    @pytest.mark.parametrize("content", [TEXT, LARGE], ids=["small", "large"])
    def test_false_with_an_object_that_appears_after_the_look(
        self, host, copy, s3, s3_server, bucket, stored, content
    ):
        """It is S3's condition that excludes two writers."""

        def appear(request, **_):
            s3_server.client().put_object(Bucket=bucket, Key="document", Body=EXISTING)

        s3.meta.events.register("before-send.s3.PutObject", appear)
        s3.meta.events.register("before-send.s3.CompleteMultipartUpload", appear)
        host.content = content
        with pytest.raises(DocumentExistsError):
            copy(replace=False)
        assert stored() == {"document": EXISTING}
        assert s3.list_multipart_uploads(Bucket=bucket).get("Uploads", []) == []

    def test_false_with_the_same_content_without_a_checksum(self, host, copy, s3_server, bucket, stored):
        """Another tool may have written it without the checksum that ours are written with."""
        other = s3_server.client(request_checksum_calculation="when_required")
        other.put_object(Bucket=bucket, Key="document", Body=TEXT)
        host.content = TEXT
        (result,) = copy(replace=False)
        assert result.crc32 == crc32(TEXT)
        assert stored() == {"document": TEXT}


def test_the_checksum_of_the_whole_goes_out_with_the_completion(host, copy, s3):
    sent = []
    s3.meta.events.register(
        "before-call.s3.CompleteMultipartUpload", lambda params, **_: sent.append(params["headers"])
    )
    host.content = LARGE
    copy()
    assert [each["x-amz-checksum-crc32"] for each in sent] == [crc32(LARGE)]


class TestLostResponses:
    """S3 has carried out a request whose response was lost, and botocore repeats it."""

    @pytest.fixture
    def forgotten(self, s3):
        """Lose the response to the completion; S3 does not know the upload when the request is repeated."""
        sent = []

        def respond(request, **_):
            sent.append(request)
            if len(sent) > 1:
                return AWSResponse(request.url, 404, {"Content-Type": "application/xml"}, Raw(NO_SUCH_UPLOAD))
            return None

        s3.meta.events.register("before-send.s3.CompleteMultipartUpload", respond)
        s3.meta.events.register(
            "needs-retry.s3.CompleteMultipartUpload", lambda attempts, **_: 0 if attempts == 1 else None
        )
        return sent

    @pytest.mark.parametrize("replace", [True, False])
    def test_a_completed_upload_that_s3_has_forgotten(self, host, copy, forgotten, stored, replace):
        host.content = LARGE
        (result,) = copy(replace=replace)
        assert len(forgotten) == 2
        assert stored() == {"document": LARGE}
        assert result.crc32 == crc32(LARGE)

    @pytest.mark.parametrize("before", [None, LARGE[::-1]], ids=["nothing", "other content"])
    def test_an_upload_that_somebody_aborted_is_an_error(self, host, copy, s3, bucket, stored, before):
        def abort(**_):
            for upload in s3.list_multipart_uploads(Bucket=bucket).get("Uploads", []):
                s3.abort_multipart_upload(Bucket=bucket, Key="document", UploadId=upload["UploadId"])

        if before:
            s3.put_object(Bucket=bucket, Key="document", Body=before)
        s3.meta.events.register("before-call.s3.CompleteMultipartUpload", abort)
        host.content = LARGE
        with pytest.raises(DocumentStorageError, match="NoSuchUpload"):
            copy()
        assert stored() == ({"document": before} if before else {})


class TestKill:
    """Airflow ends a task by an exception at any moment, in the thread that runs it."""

    @pytest.fixture
    def killed(self, monkeypatch):
        """Return what ends the task."""

        def end(*_):
            raise DocumentError("The task was ended")

        before = signal.signal(signal.SIGTERM, end)
        yield lambda: os.kill(os.getpid(), signal.SIGTERM)
        signal.signal(signal.SIGTERM, before)

    def test_while_an_upload_is_aborted(self, host, copy, s3, nothing_left, monkeypatch, killed):
        send, failed = s3.upload_part, threading.Event()

        def slow(**arguments):
            if arguments["PartNumber"] == 1:
                time.sleep(0.5)
                failed.set()
                raise refusal("SlowDown", "UploadPart")
            time.sleep(2)
            return send(**arguments)

        monkeypatch.setattr(s3, "upload_part", slow)
        host.content = LARGE
        threading.Thread(target=lambda: (failed.wait(), time.sleep(0.5), killed())).start()
        with pytest.raises(DocumentError, match="The task was ended"):
            copy()
        nothing_left()

    def test_while_an_upload_is_begun(self, host, copy, s3, nothing_left, monkeypatch, killed):
        create = s3.create_multipart_upload

        def create_and_end(**arguments):
            created = create(**arguments)
            killed()
            return created

        monkeypatch.setattr(s3, "create_multipart_upload", create_and_end)
        host.content = LARGE
        with pytest.raises(DocumentError, match="The task was ended"):
            copy()
        nothing_left()

    def test_parts_on_their_way_are_waited_for(self, host, copy, s3, monkeypatch):
        """A part that arrived after the abort would stay forever."""
        send, abort, order = s3.upload_part, s3.abort_multipart_upload, []

        def slow(**arguments):
            if arguments["PartNumber"] == 2:
                raise refusal("SlowDown", "UploadPart")
            time.sleep(0.5)
            sent = send(**arguments)
            order.append("part")
            return sent

        monkeypatch.setattr(s3, "upload_part", slow)
        monkeypatch.setattr(
            s3, "abort_multipart_upload", lambda **arguments: (order.append("abort"), abort(**arguments))[1]
        )
        host.content = LARGE
        with pytest.raises(DocumentStorageError):
            copy()
        assert order[:1] == ["part"]
        assert order.index("abort") == len(order) - 1


class TestRepeatedParameters:
    """Those that S3 wants with every request for an object."""

    OWNER = {"ExpectedBucketOwner": "123456789012", "RequestPayer": "requester"}

    @pytest.fixture
    def given(self, s3):
        """The operations that were called, with those of the parameters that they were given."""
        seen = []

        def note(params, model, **_):
            seen.append((model.name, {name: params[name] for name in self.OWNER if name in params}))

        s3.meta.events.register("before-parameter-build.s3", note)
        return seen

    @pytest.mark.parametrize("content", [TEXT, LARGE], ids=["small", "large"])
    def test_go_with_each(self, host, copy, given, content):
        host.content = content
        copy(extra_args=self.OWNER)
        copy(extra_args=self.OWNER, replace=False)
        assert {name for name, _ in given} >= {"HeadObject"}
        assert [name for name, parameters in given if parameters != self.OWNER] == []

    def test_go_with_what_cleans_up(self, host, copy, s3, given):
        fail(s3, "UploadPart", refusal("SlowDown", "UploadPart"))
        host.content = LARGE
        with pytest.raises(DocumentStorageError):
            copy(extra_args=self.OWNER)
        assert {"AbortMultipartUpload", "ListMultipartUploads"} <= {name for name, _ in given}
        assert [name for name, parameters in given if parameters != self.OWNER] == []

    def test_go_with_what_takes_files_back(self, host, copy, s3, given):
        fail(s3, "PutObject", refusal("SlowDown"), at=2)
        host.content = two_files()
        with pytest.raises(DocumentStorageError):
            copy(extra_args=self.OWNER)
        assert {"HeadObject", "DeleteObject"} <= {name for name, _ in given}
        assert [name for name, parameters in given if parameters != self.OWNER] == []


def test_what_s3_does_not_tell_of_a_file_ends_the_archive_before_it_is_written(host, copy, s3, nothing_left):
    fail(s3, "HeadObject", ClientError({"Error": {"Code": "503", "Message": "Slow Down"}}, "HeadObject"), at=2)
    host.content = two_files()
    with pytest.raises(DocumentStorageError, match="503"):
        copy()
    nothing_left()


@pytest.mark.parametrize(
    "said",
    [
        "text/csv\vx",
        "text/csv; x=" + "a" * 9000,
        "t\u00e9xt/csv",
        "text",
        "text/csv text/plain",
        "a" * 200 + "/b",
        "/",
    ],
)
def test_a_content_type_that_is_none_is_not_sent_to_s3(host, copy, s3, bucket, stored, said):
    host.content = b"a,b\n1,2\n"
    host.always = Response(headers={"Content-Type": said})
    (found,) = copy()
    assert stored() == {"document": host.content}
    there = s3.head_object(Bucket=bucket, Key="document")["ContentType"]
    assert found.content_type == there == "binary/octet-stream"
