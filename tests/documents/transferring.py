"""One way to copy a document to S3 in a test: each option and argument by its name."""

from __future__ import annotations

import dataclasses
import logging

from airflow_provider_amzbiz.documents.to_s3 import copy_to_s3
from airflow_provider_amzbiz.documents.upload_options import UploadOptions
from airflow_provider_amzbiz.documents.upload_target import UploadTarget

_OPTIONS = {each.name for each in dataclasses.fields(UploadOptions)}
_OF_TARGET = {"uploads", "log"}


def key_of(name):
    """Return the key ``document``, or ``files/<name>`` for a ZIP's entries."""
    return "document" if name is None else f"files/{name}"


def transfer(fetch, *, s3, bucket, key=key_of, **arguments):
    """Copy a document that may come over plain http; ``arguments`` are those of the options, target and copy."""
    options = UploadOptions(**{name: arguments.pop(name) for name in _OPTIONS & set(arguments)})
    of_target = {name: arguments.pop(name) for name in _OF_TARGET & set(arguments)}
    target = UploadTarget(s3, bucket, options, **{"log": logging.getLogger("tests.documents"), **of_target})
    return copy_to_s3(fetch, target, key, **{"allow_http": True, **arguments})
