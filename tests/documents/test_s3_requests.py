"""The parameters that S3 requires with each request."""

from __future__ import annotations

import random

import pytest

from airflow_provider_amzbiz.documents.errors import DocumentStorageError
from tests.documents.s3_faults import fail, rejection, two_files

LARGE = random.Random(3).randbytes(20 * 1024 * 1024)


TEXT = b"order\tamount\n" * 100


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
    def test_are_sent_with_each(self, host, copy, given, content):
        host.content = content
        copy(extra_args=self.OWNER)
        copy(extra_args=self.OWNER, replace=False)
        assert {name for name, _ in given} >= {"HeadObject"}
        assert [name for name, parameters in given if parameters != self.OWNER] == []

    def test_are_sent_with_what_cleans_up(self, host, copy, s3, given):
        fail(s3, "UploadPart", rejection("SlowDown", "UploadPart"))
        host.content = LARGE
        with pytest.raises(DocumentStorageError):
            copy(extra_args=self.OWNER)
        assert {"AbortMultipartUpload", "ListMultipartUploads"} <= {name for name, _ in given}
        assert [name for name, parameters in given if parameters != self.OWNER] == []

    def test_are_sent_with_what_deletes_files(self, host, copy, s3, given):
        fail(s3, "PutObject", rejection("SlowDown"), at=2)
        host.content = two_files(TEXT)
        with pytest.raises(DocumentStorageError):
            copy(extra_args=self.OWNER)
        assert {"HeadObject", "DeleteObject"} <= {name for name, _ in given}
        assert [name for name, parameters in given if parameters != self.OWNER] == []
