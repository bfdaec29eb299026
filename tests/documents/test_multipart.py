"""A large object in parts: whole with S3's own checksum, or nothing."""

from __future__ import annotations

import gzip
import os
import random
import signal
import threading
import time

import pytest
from botocore.awsrequest import AWSResponse

from airflow_provider_amzbiz.documents.errors import DocumentError, DocumentStorageError
from tests.documents.s3_faults import RawBody, fail, rejection, two_files
from tests.documents.samples import crc32
from tests.documents.scripted_server import EXPIRED_URL, Response

LARGE = random.Random(3).randbytes(20 * 1024 * 1024)


TEXT = b"order\tamount\n" * 100


NO_SUCH_UPLOAD = b"<Error><Code>NoSuchUpload</Code><Message>The upload does not exist.</Message></Error>"


class TestFailure:
    @pytest.mark.parametrize("at", [1, 2, 3])
    def test_of_a_part(self, host, copy, s3, nothing_left, at):
        host.content = LARGE
        undo = fail(s3, "UploadPart", rejection("InternalError", "UploadPart"), at=at)
        with pytest.raises(DocumentStorageError, match="InternalError") as caught:
            copy()
        assert not caught.value.permanent
        undo()
        nothing_left()

    @pytest.mark.parametrize("operation", ["CreateMultipartUpload", "CompleteMultipartUpload"])
    def test_of_beginning_and_end(self, host, copy, s3, nothing_left, operation):
        host.content = LARGE
        undo = fail(s3, operation, rejection("SlowDown", operation))
        with pytest.raises(DocumentStorageError, match="SlowDown"):
            copy()
        undo()
        nothing_left()

    def test_of_aborting_does_not_hide_the_cause(self, host, copy, s3):
        host.content = LARGE
        fail(s3, "UploadPart", rejection("TheCause", "UploadPart"))
        fail(s3, "AbortMultipartUpload", rejection("AccessDenied", "AbortMultipartUpload"))
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

    def test_of_a_later_file_deletes_the_first(self, host, copy, s3, nothing_left):
        host.content = two_files(TEXT)
        undo = fail(s3, "PutObject", rejection("SlowDown"), at=2)
        with pytest.raises(DocumentStorageError, match="SlowDown"):
            copy()
        undo()
        nothing_left()

    def test_of_a_later_file_leaves_what_others_wrote(self, host, copy, s3, bucket, stored):
        """The first file lay there before, the same; only what this run wrote is its to delete."""
        host.content = two_files(TEXT)
        s3.put_object(Bucket=bucket, Key="files/a.txt", Body=TEXT, ChecksumAlgorithm="CRC32")
        fail(s3, "PutObject", rejection("SlowDown"))
        with pytest.raises(DocumentStorageError, match="SlowDown"):
            copy(replace=False)
        assert stored() == {"files/a.txt": TEXT}

    def test_of_a_later_file_leaves_what_a_previous_run_wrote(self, host, copy, s3, stored):
        """An object that was only overwritten is not this transfer's to delete."""
        host.content = two_files(TEXT)
        copy()
        fail(s3, "PutObject", rejection("SlowDown"), at=2)
        with pytest.raises(DocumentStorageError, match="SlowDown"):
            copy()
        assert stored() == {"files/a.txt": TEXT, "files/b.txt": TEXT[::-1]}

    def test_of_deleting_does_not_hide_the_cause(self, host, copy, s3):
        host.content = two_files(TEXT)
        fail(s3, "PutObject", rejection("TheCause"), at=2)
        fail(s3, "DeleteObject", rejection("AccessDenied", "DeleteObject"))
        with pytest.raises(DocumentStorageError, match="TheCause"):
            copy()


def test_the_checksum_of_the_whole_is_sent_with_the_completion(host, copy, s3):
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
                return AWSResponse(request.url, 404, {"Content-Type": "application/xml"}, RawBody(NO_SUCH_UPLOAD))
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
                raise rejection("SlowDown", "UploadPart")
            time.sleep(2)
            return send(**arguments)

        monkeypatch.setattr(s3, "upload_part", slow)
        host.content = LARGE
        threading.Thread(target=lambda: (failed.wait(), time.sleep(0.5), killed())).start()
        with pytest.raises(DocumentError, match="The task was ended"):
            copy()
        nothing_left()

    def test_while_an_upload_is_created(self, host, copy, s3, nothing_left, monkeypatch, killed):
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

    def test_parts_in_progress_are_waited_for(self, host, copy, s3, monkeypatch):
        """A part that arrived after the abort would stay forever."""
        send, abort, order = s3.upload_part, s3.abort_multipart_upload, []

        def slow(**arguments):
            if arguments["PartNumber"] == 2:
                raise rejection("SlowDown", "UploadPart")
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
