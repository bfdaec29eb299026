"""S3's error responses become errors that name the object, the reason and the missing permission."""

from __future__ import annotations

import io
import random
import zipfile

import pytest
from botocore.exceptions import ClientError

from airflow_provider_amzbiz.documents.errors import DocumentStorageError

SMALL = b"order\tamount\n" * 100


LARGE = random.Random(3).randbytes(20 * 1024 * 1024)


TEXT = b"order\tamount\n" * 100


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
