"""The options of an upload travel as one object, whose defaults are the operator's."""

from __future__ import annotations

import dataclasses
import inspect

import pytest

from airflow_provider_amzbiz.documents.upload_options import UploadOptions
from airflow_provider_amzbiz.transfers.report_document_to_s3 import ReportDocumentToS3Operator

GIVEN = {
    "unpack": "gzip",
    "replace": False,
    "sha256": False,
    "content_type": "text/csv",
    "encoding": "cp1252",
    "extra_args": {"StorageClass": "STANDARD_IA"},
    "max_bytes": 1000,
}


def operator(**arguments):
    return ReportDocumentToS3Operator(task_id="transfer", report_id="1", s3_uri="s3://b/k", **arguments)


def test_the_defaults_are_those_of_the_operator():
    assert operator().upload_options() == UploadOptions()


def test_each_parameter_of_the_operator_arrives():
    assert operator(**GIVEN).upload_options() == UploadOptions(**GIVEN)


def test_each_option_but_the_rows_is_a_parameter_of_the_operator():
    parameters = inspect.signature(ReportDocumentToS3Operator).parameters
    assert {each.name for each in dataclasses.fields(UploadOptions)} - set(parameters) == {"rows"}


def test_an_encryption_key_is_not_in_the_repr():
    assert "s3cret" not in repr(UploadOptions(extra_args={"SSECustomerKey": "s3cret"}))


def test_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        UploadOptions().replace = False
