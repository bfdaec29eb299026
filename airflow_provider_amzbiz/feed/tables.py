"""The tables in S3: one file for each run and table, and a marker when all of them are there."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_amzbiz.batch.object_store import ObjectStore, split_uri
from airflow_provider_amzbiz.batch.table import table_format, write_rows
from airflow_provider_amzbiz.client.errors import InvalidParameterError
from airflow_provider_amzbiz.feed.columns import TABLES
from airflow_provider_amzbiz.feed.rows import Row

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

FORMATS = ("jsonl", "parquet")
# Query engines leave out what begins with an underscore.
MARKS = "_SUCCESS"


class S3Tables:
    """Tables under a prefix: ``<tables>/<name>/<run>.<format>``, and ``<tables>/_SUCCESS/<run>.json``.

    :param uri: ``s3://bucket/prefix/``.
    :param form: ``jsonl`` or ``parquet``.
    :param extra_args: more parameters of S3's PutObject and CreateMultipartUpload.
    :raises InvalidParameterError: ``uri`` or ``form`` is not allowed, or ``pyarrow`` is not installed.
    """

    def __init__(
        self, s3: S3Client, uri: str, form: str = "jsonl", extra_args: Mapping[str, Any] | None = None
    ) -> None:
        if form not in FORMATS:
            raise InvalidParameterError(f"table_format is {form!r}, but must be one of {', '.join(FORMATS)}")
        table_format("table_format", f"table.{form}")
        self._bucket, prefix = split_uri("tables", uri)
        self._prefix = prefix.rstrip("/") + "/" if prefix.strip("/") else ""
        self._s3 = s3
        self._form = form
        self._extra_args = extra_args or {}

    def write(self, name: str, file: str, rows: Iterable[Row]) -> str:
        """Write a table's file, whole or not at all, and return its URI."""
        stored = write_rows(
            rows,
            s3=self._s3,
            bucket=self._bucket,
            key=f"{self._prefix}{name}/{file}.{self._form}",
            columns=TABLES[name],
            extra_args=self._extra_args,
        )
        return stored.uri

    def mark(self, file: str, content: Mapping[str, Any]) -> str:
        """Write the marker that says that all tables of a run are there, and return its URI."""
        store = ObjectStore(self._s3, self._bucket, self._extra_args)
        key = f"{self._prefix}{MARKS}/{file}.json"
        store.put(key, json.dumps(content, indent=1, sort_keys=True).encode(), content_type="application/json")
        return store.uri(key)
