"""A document from its URL to S3, from scratch if it changes meanwhile."""

from __future__ import annotations

import random

import pytest

from airflow_provider_amzbiz.documents.errors import (
    DocumentChangedError,
)
from tests.documents.scripted_server import Response

LARGE = random.Random(7).randbytes(3 * 1024 * 1024)


class TestChangedDocument:
    """Bytes of two versions are never joined: the download starts over, and what was sent to S3 is dropped."""

    @pytest.mark.parametrize("ignore_range", [False, True])
    def test_starts_over(self, host, copy, stored, s3, bucket, ignore_range):
        host.content = b"a" * 20_000_000
        host.responses.append(Response(cut=18_000_000))

        changed = (
            Response(status=412, body=b"")
            if not ignore_range
            else Response(ignore_range=True, headers={"ETag": '"two"'})
        )
        host.responses.append(changed)
        copy()
        assert stored() == {"document": host.content}
        assert "Range" not in host.requests[2]
        assert s3.list_multipart_uploads(Bucket=bucket).get("Uploads", []) == []

    def test_is_noticed_where_the_host_ignores_if_match(self, host, copy, stored):
        host.content = b"new" * 1000
        host.responses.append(Response(body=b"old" * 1000, cut=1500))
        host.responses.append(Response(headers={"ETag": '"two"'}))
        copy()
        assert stored() == {"document": b"new" * 1000}

    def test_gives_up_after_some_starts(self, host, copy, nothing_left):
        host.content = LARGE
        host.responses.extend([Response(cut=1000), Response(status=412, body=b"")] * 20)
        with pytest.raises(DocumentChangedError):
            copy()
        assert len(host.requests) <= 20
        nothing_left()

    @pytest.mark.parametrize("etag", [None, 'W/"one"'])
    def test_is_assumed_without_a_strong_etag(self, host, copy, stored, etag):
        host.content = LARGE
        host.responses.extend([Response(cut=1000, headers={"ETag": etag}), Response(headers={"ETag": etag})])
        copy()
        assert stored() == {"document": LARGE}
        assert "Range" not in host.requests[1]
