"""A document that fails leaves none of its objects, even if S3's responses are lost or the task is ended."""

from __future__ import annotations

import io
import random
import signal
import zipfile

import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ClientError, ConnectionClosedError

from airflow_provider_amzbiz.documents.errors import DocumentExistsError, DocumentStorageError
from airflow_provider_amzbiz.documents.interrupts import TransferInterrupted

LARGE = random.Random(6).randbytes(9 * 1024**2)


def archive(content=b"second"):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        for name, each in (("1.bin", b"first"), ("2.bin", content), ("3.bin", b"third")):
            packed.writestr(name, each)
    return file.getvalue()


class Raw(io.BytesIO):
    """A body as botocore reads it."""

    def stream(self):
        yield self.read()


def error_response(request, status, code):
    body = f"<Error><Code>{code}</Code><Message>Said by the test.</Message></Error>".encode()
    return AWSResponse(request.url, status, {"Content-Type": "application/xml"}, Raw(body))


@pytest.fixture
def lose(s3, monkeypatch):
    """Have S3 carry requests out whose responses then never arrive; botocore repeats each at once."""
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda _: None)
    send = s3._endpoint.http_session.send

    def start(matches, times=1000):
        left = [times]

        def sent(request):
            response = send(request)
            if left[0] and matches(request):
                left[0] -= 1
                raise ConnectionClosedError(endpoint_url=request.url)
            return response

        monkeypatch.setattr(s3._endpoint.http_session, "send", sent)

    return start


def writes(key):
    """Tell the request that makes an object appear."""

    def matches(request):
        path, _, query = request.url.partition("?")
        completes = request.method == "POST" and "uploadId=" in query
        return path.endswith(key) and (completes or (request.method == "PUT" and not query))

    return matches


class TestLostResponses:
    @pytest.mark.parametrize("content", [b"second", LARGE], ids=["small", "large"])
    def test_that_are_all_lost_take_all_back(self, host, copy, lose, nothing_left, content):
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
    def test_of_which_one_is_repeated_are_success_and_still_taken_back(
        self, host, copy, s3, lose, nothing_left, content
    ):
        """The repeated request is refused, because the first one has written the object: this transfer's own."""
        host.content = archive(content)
        lose(writes("/files/2.bin"), times=1)
        refuse(s3, "PutObject", lambda params: params["url_path"].endswith("3.bin"))
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


def refuse(s3, operation, matches):
    """Have S3 refuse an operation."""

    def handler(params, **_):
        if matches(params):
            raise ClientError({"Error": {"Code": "SlowDown", "Message": "No."}}, operation)

    s3.meta.events.register(f"before-call.s3.{operation}", handler)
    return lambda: s3.meta.events.unregister(f"before-call.s3.{operation}", handler)


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
    def test_while_files_are_taken_back(self, host, copy, s3, kill_during, nothing_left, times):
        host.content = archive()
        refuse(s3, "PutObject", lambda params: params["url_path"].endswith("3.bin"))
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
        undo = refuse(s3, "CompleteMultipartUpload", lambda _: True)
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


class TestUploadsOfOthers:
    def test_live_on_where_the_creation_of_ours_was_refused_once(self, host, copy, s3, bucket, lose):
        living = s3.create_multipart_upload(Bucket=bucket, Key="document")["UploadId"]
        host.content = LARGE
        refused = []

        def once(request, **_):
            if not refused and request.url.endswith("?uploads"):
                refused.append(request.url)
                raise ConnectionClosedError(endpoint_url=request.url)

        s3.meta.events.register("before-send.s3.CreateMultipartUpload", once)
        copy()
        assert refused
        assert [each["UploadId"] for each in s3.list_multipart_uploads(Bucket=bucket)["Uploads"]] == [living]

    def test_live_on_where_the_response_to_ours_was_lost(self, host, copy, s3, bucket, lose):
        living = s3.create_multipart_upload(Bucket=bucket, Key="document")["UploadId"]
        host.content = LARGE
        lose(lambda request: request.url.endswith("?uploads"), times=2)
        copy()
        assert [each["UploadId"] for each in s3.list_multipart_uploads(Bucket=bucket)["Uploads"]] == [living]

    def test_that_begin_at_the_same_time_live_on(self, host, copy, s3, s3_server, bucket, caplog):
        """One more is open than ours can be, so none of them is provably ours."""
        other, begun = s3_server.client(), []
        send = s3._endpoint.http_session.send

        def lose_first(request):
            response = send(request)
            if request.url.endswith("?uploads") and request.method == "POST" and not begun:
                begun.append(other.create_multipart_upload(Bucket=bucket, Key="document")["UploadId"])
                raise ConnectionClosedError(endpoint_url=request.url)
            return response

        s3._endpoint.http_session.send = lose_first
        host.content = LARGE
        copy()
        assert begun[0] in {each["UploadId"] for each in s3.list_multipart_uploads(Bucket=bucket)["Uploads"]}
        assert "may stay open" in caplog.text

    def test_live_on_where_ours_was_refused_and_theirs_begun_meanwhile(self, host, copy, s3, s3_server, bucket):
        """A rejected request creates nothing, so there is nothing to search for."""
        other, begun = s3_server.client(), []

        def refuse_first(request, **_):
            if begun:
                return None
            begun.append(other.create_multipart_upload(Bucket=bucket, Key="document")["UploadId"])
            return error_response(request, 503, "SlowDown")

        s3.meta.events.register("before-send.s3.CreateMultipartUpload", refuse_first)
        host.content = LARGE
        copy()
        assert [each["UploadId"] for each in s3.list_multipart_uploads(Bucket=bucket)["Uploads"]] == begun

    def test_may_not_be_listed(self, host, copy, s3, bucket, lose, stored, caplog):
        host.content = LARGE
        lose(lambda request: request.url.endswith("?uploads") and request.method == "POST", times=1)
        denied = ClientError({"Error": {"Code": "AccessDenied", "Message": "No."}}, "ListMultipartUploads")

        def deny(**_):
            raise denied

        s3.meta.events.register("before-call.s3.ListMultipartUploads", deny)
        copy()
        assert stored() == {"document": LARGE}
        assert "s3:ListBucketMultipartUploads" in caplog.text


def test_a_file_that_is_there_with_other_content_takes_only_ours_back(host, copy, s3, bucket, stored):
    s3.put_object(Bucket=bucket, Key="files/2.bin", Body=b"other")
    host.content = archive()
    with pytest.raises(DocumentExistsError):
        copy(replace=False)
    assert stored() == {"files/2.bin": b"other"}
