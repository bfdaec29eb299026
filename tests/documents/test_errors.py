"""Errors that a retry cannot help against, and an import that costs nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from airflow_provider_amzbiz.documents.errors import DocumentStorageError


@pytest.mark.parametrize(
    ("code", "permanent"),
    [("AccessDenied", True), ("NoSuchBucket", True), ("403", True), ("SlowDown", False), (None, False)],
)
def test_only_some_codes_of_s3_are_permanent(code, permanent):
    assert DocumentStorageError("The S3 request failed", code=code).permanent is permanent


def test_errors_import_nothing_heavy():
    script = (
        "import sys, airflow_provider_amzbiz.documents.errors;"
        "print(sorted({'boto3','botocore','smart_open','requests','urllib3','isal','airflow'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
