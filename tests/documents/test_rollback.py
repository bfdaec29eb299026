"""A document that fails leaves none of its objects, even if S3's responses are lost or the task is ended."""

from __future__ import annotations

import random
import signal
import time

import pytest
from botocore.exceptions import ClientError

from airflow_provider_amzbiz.documents.errors import DocumentExistsError, DocumentStorageError
from airflow_provider_amzbiz.documents.interrupts import TransferInterrupted
from tests.documents.s3_faults import archive, fail, reject, two_files, writes

TEXT = b"order\tamount\n" * 100


LARGE = random.Random(6).randbytes(9 * 1024**2)


class TestLostResponses:
    @pytest.mark.parametrize("content", [b"second", LARGE], ids=["small", "large"])
    def test_that_are_all_lost_delete_all_files(self, host, copy, lose, nothing_left, content):
        host.content = archive(content)
        lose(writes("/files/2.bin"))
        with pytest.raises(DocumentStorageError):
            copy()
        nothing_left()

    def test_of_an_object_that_is_not_to_be_replaced(self, host, copy, lose, nothing_left):
        host.content = b"small"
        lose(writes("/document"))
        with pytest.raises(DocumentStorageError):
            copy(replace=False)
        nothing_left()

    @pytest.mark.parametrize("content", [b"second", LARGE], ids=["small", "large"])
    def test_of_which_one_is_repeated_are_success_and_still_deleted(
        self, host, copy, s3, lose, nothing_left, content
    ):
        """The repeated request is refused, because the first one has written the object: this transfer's own."""
        host.content = archive(content)
        lose(writes("/files/2.bin"), times=1)
        reject(s3, "PutObject", lambda params: params["url_path"].endswith("3.bin"))
        with pytest.raises(DocumentStorageError, match="SlowDown"):
            copy(replace=False)
        nothing_left()

    def test_what_another_task_has_written_since_stays(self, host, copy, s3, s3_server, bucket, lose, stored):
        """The key was free at first; the content shows whose object is there in the end."""
        polls = []

        def overwrite_before_the_second(request, **_):
            polls.append(request.url)
            if sum(url.endswith("/files/2.bin") for url in polls) == 2:
                s3_server.client().put_object(Bucket=bucket, Key="files/2.bin", Body=b"another's")

        s3.meta.events.register("before-send.s3.HeadObject", overwrite_before_the_second)
        host.content = archive()
        lose(writes("/files/2.bin"))
        with pytest.raises(DocumentStorageError):
            copy()
        assert stored() == {"files/2.bin": b"another's"}


@pytest.mark.parametrize("content", [b"first", b"another's"], ids=["the same content", "another one"])
def test_what_another_task_has_replaced_since_stays(host, copy, s3, s3_server, bucket, stored, content):
    """A worker that was taken for lost fails after the one that replaces it has stored the document."""

    def fail_after_another(params):
        if not params["url_path"].endswith("2.bin"):
            return False
        # S3's times have whole seconds.
        time.sleep(2.2)
        s3_server.client().put_object(Bucket=bucket, Key="files/1.bin", Body=content)
        return True

    host.content = archive()
    reject(s3, "PutObject", fail_after_another)
    with pytest.raises(DocumentStorageError, match="SlowDown"):
        copy()
    assert stored() == {"files/1.bin": content}


class TestKill:
    """The end of a task is an exception in the thread of the transfer, at any moment."""

    @pytest.fixture
    def kill_during(self, s3):
        """End the task as a request of an operation goes out, so many times."""

        def start(operation, times=1):
            left = [times]

            def handler(**_):
                if left[0]:
                    left[0] -= 1
                    raise TransferInterrupted

            s3.meta.events.register(f"before-send.s3.{operation}", handler)

        return start

    @pytest.mark.parametrize("times", [1, 3])
    def test_while_files_are_deleted(self, host, copy, s3, kill_during, nothing_left, times):
        host.content = archive()
        reject(s3, "PutObject", lambda params: params["url_path"].endswith("3.bin"))
        kill_during("DeleteObject", times)
        with pytest.raises(TransferInterrupted):
            copy()
        nothing_left()

    @pytest.mark.parametrize("operation", ["HeadObject", "PutObject"])
    def test_while_a_file_is_written(self, host, copy, kill_during, nothing_left, operation):
        host.content = archive()
        kill_during(operation)
        with pytest.raises(TransferInterrupted):
            copy()
        nothing_left()

    @pytest.mark.parametrize("operation", ["CreateMultipartUpload", "CompleteMultipartUpload"])
    def test_while_a_large_file_is_written(self, host, copy, kill_during, nothing_left, operation):
        host.content = archive(LARGE)
        kill_during(operation)
        with pytest.raises(TransferInterrupted):
            copy()
        nothing_left()

    def test_while_an_upload_is_aborted(self, host, copy, s3, kill_during, nothing_left):
        host.content = LARGE
        undo = reject(s3, "CompleteMultipartUpload", lambda _: True)
        kill_during("AbortMultipartUpload", 2)
        with pytest.raises(TransferInterrupted):
            copy()
        undo()
        nothing_left()

    def test_right_after_a_file_was_written(self, host, copy, s3, nothing_left):
        def end(**_):
            raise TransferInterrupted

        host.content = archive()
        s3.meta.events.register("after-call.s3.PutObject", end)
        with pytest.raises(TransferInterrupted):
            copy()
        s3.meta.events.unregister("after-call.s3.PutObject", end)
        nothing_left()

    @pytest.mark.parametrize("mode", ["legacy", "standard", "adaptive"])
    def test_is_no_broken_connection_in_any_retry_mode(self, host, copy, s3_server, nothing_left, mode):
        """botocore takes an Exception that is raised while it sends for a broken connection."""
        client = s3_server.client(retries={"mode": mode, "max_attempts": 5})
        session, sent = client._endpoint.http_session, []
        getresponse = "urllib3.connection.HTTPConnection.getresponse"

        def end(*_):
            raise TransferInterrupted

        before = signal.signal(signal.SIGALRM, end)
        send = session.send

        def send_and_be_ended(request):
            sent.append(request.method)
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(getresponse, lambda *_, **__: (signal.raise_signal(signal.SIGALRM), None)[1])
                return send(request)

        session.send = send_and_be_ended
        host.content = b"small"
        try:
            with pytest.raises(TransferInterrupted):
                copy(s3=client)
        finally:
            signal.signal(signal.SIGALRM, before)
        assert sent == ["PUT"]


def test_a_file_that_exists_with_other_content_deletes_only_ours(host, copy, s3, bucket, stored):
    s3.put_object(Bucket=bucket, Key="files/2.bin", Body=b"other")
    host.content = archive()
    with pytest.raises(DocumentExistsError):
        copy(replace=False)
    assert stored() == {"files/2.bin": b"other"}


def test_a_failed_head_of_a_file_ends_the_archive_before_it_is_written(host, copy, s3, nothing_left):
    fail(s3, "HeadObject", ClientError({"Error": {"Code": "503", "Message": "Slow Down"}}, "HeadObject"), at=2)
    host.content = two_files(TEXT)
    with pytest.raises(DocumentStorageError, match="503"):
        copy()
    nothing_left()
