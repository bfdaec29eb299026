"""Creating an upload leaves no other one open, and none of another task's is aborted."""

from __future__ import annotations

import random

from botocore.exceptions import ClientError, ConnectionClosedError

from tests.documents.s3_faults import error_response

LARGE = random.Random(6).randbytes(9 * 1024**2)


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

    def test_that_begin_at_the_same_time_stay_open(self, host, copy, s3, s3_server, bucket, caplog):
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

    def test_stay_open_if_ours_was_rejected_and_theirs_created_meanwhile(self, host, copy, s3, s3_server, bucket):
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
