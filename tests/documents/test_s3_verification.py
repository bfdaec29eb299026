"""Objects on servers that keep no checksums."""

from __future__ import annotations

import gzip
import random

import pytest

from airflow_provider_amzbiz.documents.errors import DocumentStorageError

SMALL = b"order\tamount\n" * 100


LARGE = random.Random(7).randbytes(9 * 1024**2)


SIZES = pytest.mark.parametrize("content", [b"", SMALL, LARGE], ids=["empty", "small", "large"])


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
    def test_the_size_is_checked_if_the_etag_proves_nothing(
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
