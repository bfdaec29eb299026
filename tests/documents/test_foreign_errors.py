"""What is wrong on the worker itself: certificates, disks, memory."""

from __future__ import annotations

import errno
import io
import os
import random
import tempfile
import zipfile

import pytest

from airflow_provider_amzbiz.documents.errors import DocumentError, WorkerError
from airflow_provider_amzbiz.documents.text import read_head
from tests.documents.scripted_server import SECRET, Document


def test_a_missing_ca_bundle_is_named(copy, nothing_left, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/ca.pem")
    url = f"https://documents.example/x?X-Amz-Signature={SECRET}"
    with pytest.raises(WorkerError, match=r"/nowhere/ca\.pem") as caught:
        copy(fetch_document=lambda: Document(url, None))
    assert not caught.value.permanent
    assert SECRET not in str(caught.value)
    nothing_left()


def test_the_reason_of_a_fatal_report_that_cannot_be_read_for_that_is_an_error_of_ours(monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/ca.pem")
    with pytest.raises(WorkerError, match=r"/nowhere/ca\.pem"):
        read_head(lambda: Document(f"https://documents.example/x?X-Amz-Signature={SECRET}", None))


def large_archive():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        packed.writestr("large.bin", random.Random(8).randbytes(9 * 1024**2))
    return file.getvalue()


def test_a_folder_for_temporary_files_that_is_missing_is_an_error_of_ours(host, copy, nothing_left, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    host.content = large_archive()
    with pytest.raises(DocumentError, match="/nowhere"):
        copy()
    nothing_left()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="/dev/full is Linux's")
def test_a_full_disk_is_an_error_of_ours(host, copy, nothing_left, monkeypatch):
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda *_, **__: open("/dev/full", "w+b"))  # noqa: SIM115
    host.content = large_archive()
    with pytest.raises(DocumentError, match=os.strerror(errno.ENOSPC)):
        copy()
    nothing_left()
