"""What is in S3 afterwards: a whole object with S3's own checksum, or nothing."""

from __future__ import annotations

import gzip
import hashlib
import logging
import random

import pytest

from airflow_provider_amzbiz.documents import upload
from airflow_provider_amzbiz.documents.errors import DocumentExistsError, DocumentStorageError
from tests.documents.s3_faults import archive
from tests.documents.samples import crc32, zipped

SMALL = b"order\tamount\n" * 100


LARGE = random.Random(3).randbytes(20 * 1024 * 1024)
TEXT = b"order\tamount\n" * 100
SIZES = pytest.mark.parametrize("content", [b"", SMALL, LARGE], ids=["empty", "small", "large"])
EXISTING = b"what was there before"


class TestResult:
    @pytest.mark.parametrize("content", [b"", TEXT, LARGE], ids=["empty", "small", "large"])
    @pytest.mark.parametrize("packed", [True, False])
    def test_describes_the_object(self, host, copy, s3, bucket, content, packed):
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
    def test_log_shows_what_was_stored(self, host, copy, bucket, caplog, content):
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

    @pytest.mark.parametrize("sent_as", ["plain", "gzip", "zip"])
    def test_text_that_grows_in_utf_8_has_no_more_parts_than_s3_accepts(
        self, host, copy, operations, monkeypatch, sent_as
    ):
        monkeypatch.setattr(upload, "_MAX_PARTS", 2)
        # Each of these bytes becomes three.
        text = b"\x80" * (6 * 1024**2)
        host.content = {"plain": text, "gzip": gzip.compress(text, 0), "zip": zipped(("a.csv", text))}[sent_as]
        (result,) = copy(encoding="Cp1252", max_bytes=len(text))
        assert result.bytes == 3 * len(text)
        assert operations.count("UploadPart") == 2

    def test_a_binary_has_the_same_parts_with_encoding(self, host, copy, operations, monkeypatch):
        monkeypatch.setattr(upload, "_MAX_PARTS", 3)
        host.content = LARGE
        copy(encoding="Cp1252", max_bytes=len(LARGE))
        assert operations.count("UploadPart") == 3

    def test_wrong_checksum_is_refused_by_s3(self, host, copy, s3, nothing_left):
        """S3 checks every part against the checksum that came with it."""
        host.content = LARGE

        def damage(params, **_):
            params["headers"]["x-amz-checksum-crc32"] = "AAAAAA=="

        s3.meta.events.register("before-call.s3.CompleteMultipartUpload", damage)
        with pytest.raises(DocumentStorageError):
            copy()
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
    def test_false_with_an_object_that_appears_after_the_check(
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
