"""Where the objects of an upload go: what everything that writes, checks or deletes them shares."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_provider_amzbiz.documents.open_uploads import NoRecord, OpenUploads
from airflow_provider_amzbiz.documents.streams import Log
from airflow_provider_amzbiz.documents.upload_options import UploadOptions

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client


@dataclass(frozen=True)
class UploadTarget:
    """Where objects go, and how.

    :ivar uploads: records the open multipart uploads, across the attempts of a task.
    """

    s3: S3Client
    bucket: str
    options: UploadOptions = field(default_factory=UploadOptions)
    uploads: OpenUploads = field(default_factory=NoRecord)
    log: Log = field(default_factory=lambda: logging.getLogger(__name__))
