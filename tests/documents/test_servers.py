"""Servers that speak S3 differently: no conditions, no checksums, conflicts, other ETags."""

from __future__ import annotations

import gzip
import io
import random
import zipfile

import pytest
from botocore.exceptions import ClientError

from airflow_provider_amzbiz.documents import s3_object
from airflow_provider_amzbiz.documents.errors import DocumentExistsError, DocumentStorageError
from tests.documents.test_rollback import archive, error_response

SMALL = b"order\tamount\n" * 100
LARGE = random.Random(7).randbytes(9 * 1024**2)
SIZES = pytest.mark.parametrize("content", [b"", SMALL, LARGE], ids=["empty", "small", "large"])


class TestIgnoredConditions:
    """``replace=False`` on a server that overwrites all the same."""

    @pytest.fixture(autouse=True)
    def _without_conditions(self, s3):
        def ignore(request, **_):
            del request.headers["If-None-Match"]

        s3.meta.events.register_first("request-created.s3", ignore)

    @SIZES
    def test_other_content_stays(self, host, copy, s3, bucket, stored, operations, content):
        s3.put_object(Bucket=bucket, Key="document", Body=b"what was there before")
        operations.clear()
        host.content = content
        with pytest.raises(DocumentExistsError, match="exists with 21 bytes"):
            copy(replace=False)
        assert stored() == {"document": b"what was there before"}
        assert "CreateMultipartUpload" not in operations

    @SIZES
    def test_the_same_content_is_success(self, host, copy, stored, content):
        host.content = content
        first = copy(replace=False)
        assert copy(replace=False) == first
        assert stored() == {"document": content}

    def test_a_file_of_a_zip_stays(self, host, copy, s3, bucket, stored):
        s3.put_object(Bucket=bucket, Key="files/2.bin", Body=b"what was there before")
        host.content = archive()
        with pytest.raises(DocumentExistsError):
            copy(replace=False)
        assert stored() == {"files/2.bin": b"what was there before"}

    def test_an_object_that_appears_during_a_long_transfer_stays(self, host, copy, s3, bucket, stored):
        def appear(**_):
            s3.put_object(Bucket=bucket, Key="document", Body=b"meanwhile")

        s3.meta.events.register("before-call.s3.CreateMultipartUpload", appear)
        host.content = LARGE
        with pytest.raises(DocumentExistsError):
            copy(replace=False)
        assert stored() == {"document": b"meanwhile"}
        assert s3.list_multipart_uploads(Bucket=bucket).get("Uploads", []) == []


class TestConflicts:
    """S3 rejects a conditional write while another write or delete of the key is in progress."""

    WRITES = pytest.mark.parametrize(
        ("operation", "content"),
        [("PutObject", SMALL), ("CompleteMultipartUpload", LARGE)],
        ids=["put", "complete"],
    )

    @pytest.fixture(autouse=True)
    def _no_pauses(self, monkeypatch):
        monkeypatch.setattr(s3_object, "CONFLICT_PAUSES", (0.01, 0.01, 0.01))

    @pytest.fixture
    def conflict(self, s3):
        """Have S3 respond to an operation with a conflict, so many times; return the requests."""

        def start(operation, code, times):
            seen = []

            def respond(request, **_):
                seen.append(request.method)
                return error_response(request, 409, code) if len(seen) <= times else None

            s3.meta.events.register(f"before-send.s3.{operation}", respond)
            return seen

        return start

    @WRITES
    @pytest.mark.parametrize("replace", [True, False])
    @pytest.mark.parametrize("code", ["ConditionalRequestConflict", "OperationAborted"])
    def test_that_pass_are_waited_out(self, host, copy, conflict, stored, operation, content, replace, code):
        host.content = content
        seen = conflict(operation, code, 2)
        copy(replace=replace)
        assert len(seen) == 3
        assert stored() == {"document": content}

    @WRITES
    def test_that_do_not_pass_are_an_error_for_a_retry(
        self, host, copy, conflict, nothing_left, operation, content
    ):
        host.content = content
        conflict(operation, "ConditionalRequestConflict", 1000)
        with pytest.raises(DocumentStorageError, match="ConditionalRequestConflict") as caught:
            copy(replace=False)
        assert not caught.value.permanent
        nothing_left()


class TestNoChecksums:
    """botocore's ``request_checksum_calculation=when_required``, for servers that refuse checksum headers."""

    @pytest.fixture
    def plain(self, s3_server):
        required = dict.fromkeys(("request_checksum_calculation", "response_checksum_validation"), "when_required")
        return s3_server.client(**required, max_pool_connections=20)

    @pytest.fixture
    def headers(self, plain):
        """All names of headers that were sent."""
        sent = set()
        plain.meta.events.register(
            "before-send.s3", lambda request, **_: sent.update(name.lower() for name in request.headers)
        )
        return sent

    @SIZES
    @pytest.mark.parametrize("replace", [True, False])
    def test_none_is_sent(self, host, copy, plain, headers, stored, content, replace):
        host.content = gzip.compress(content, 1)
        (result,) = copy(s3=plain, replace=replace)
        (again,) = copy(s3=plain, replace=replace)
        assert result == again
        assert result.bytes == len(content)
        assert stored() == {"document": content}
        assert not {each for each in headers if each.startswith(("x-amz-checksum", "x-amz-sdk-checksum"))}

    def test_needs_no_more_of_a_policy_than_writing(self, host, copy, plain, stored):
        called = []
        plain.meta.events.register("before-call.s3", lambda model, **_: called.append(model.name))
        host.content = SMALL
        copy(s3=plain)
        assert called == ["PutObject"]
        assert stored() == {"document": SMALL}

    @staticmethod
    def alter(client, operation, headers):
        """Have the server give other headers for an operation."""

        def parsed(http_response, parsed, **_):
            parsed.update(headers)

        client.meta.events.register(f"after-call.s3.{operation}", parsed)

    @pytest.mark.parametrize(
        ("operation", "content"), [("PutObject", SMALL), ("UploadPart", LARGE)], ids=["put", "part"]
    )
    def test_an_etag_of_other_bytes_is_an_error_and_nothing_stays(
        self, host, copy, plain, nothing_left, operation, content
    ):
        host.content = content
        self.alter(plain, operation, {"ETag": '"' + "0" * 32 + '"'})
        with pytest.raises(DocumentStorageError, match="its ETag is 0000") as caught:
            copy(s3=plain)
        assert not caught.value.permanent
        nothing_left()

    @pytest.mark.parametrize("content", [SMALL, LARGE], ids=["put", "parts"])
    @pytest.mark.parametrize(
        "habit", [{"ETag": '"opaque-1"'}, {"ServerSideEncryption": "aws:kms", "ETag": '"' + "0" * 32 + '"'}]
    )
    def test_an_etag_that_tells_nothing_is_made_up_for_by_the_size(
        self, host, copy, plain, stored, nothing_left, content, habit
    ):
        host.content = content
        for operation in ("PutObject", "UploadPart", "CompleteMultipartUpload"):
            # The completion sends the ETag of each part to the server.
            told = {name: each for name, each in habit.items() if (operation, name) != ("UploadPart", "ETag")}
            self.alter(plain, operation, told)
        copy(s3=plain)
        assert stored() == {"document": content}

        self.alter(plain, "HeadObject", {"ContentLength": 7})
        with pytest.raises(DocumentStorageError, match="has 7 bytes, but"):
            copy(s3=plain)
        nothing_left()


class TestLeastPolicy:
    """The permissions that are optional according to the documentation."""

    @pytest.fixture
    def forbidden(self, s3):
        """Have a policy forbid operations."""

        def start(*names):
            def deny(model, **_):
                if model.name in names:
                    metadata = {"HTTPStatusCode": 403}
                    error = {"Error": {"Code": "403", "Message": "Forbidden"}, "ResponseMetadata": metadata}
                    raise ClientError(error, model.name)

            s3.meta.events.register("before-call.s3", deny)
            return lambda: s3.meta.events.unregister("before-call.s3", deny)

        return start

    def test_a_zip_of_one_file_is_only_written(self, host, copy, forbidden, stored):
        undo = forbidden("HeadObject", "GetObject", "ListMultipartUploads", "DeleteObject")
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as packed:
            packed.writestr("invoice.pdf", b"%PDF-1.4")
        host.content = file.getvalue()
        copy()
        undo()
        assert stored() == {"files/invoice.pdf": b"%PDF-1.4"}

    def test_a_large_document_needs_no_list(self, host, copy, forbidden, stored):
        undo = forbidden("HeadObject", "GetObject", "ListMultipartUploads")
        host.content = LARGE
        copy()
        undo()
        assert stored() == {"document": LARGE}

    def test_what_is_forbidden_is_named(self, host, copy, forbidden):
        forbidden("HeadObject")
        host.content = SMALL
        with pytest.raises(DocumentStorageError, match=r"s3:GetObject, and s3:ListBucket") as caught:
            copy(replace=False)
        assert caught.value.permanent
