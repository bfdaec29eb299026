"""Writes that conflict with another one to the same key."""

from __future__ import annotations

import random

import pytest

from airflow_provider_amzbiz.documents import s3_object
from airflow_provider_amzbiz.documents.errors import DocumentStorageError
from tests.documents.s3_faults import error_response

SMALL = b"order\tamount\n" * 100


LARGE = random.Random(7).randbytes(9 * 1024**2)


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
