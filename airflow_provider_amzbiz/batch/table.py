"""The result of a batch as a table for the warehouse: JSON Lines or Parquet, with the same typed columns."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow_provider_amzbiz.client.errors import InvalidParameterError
from airflow_provider_amzbiz.documents.s3_location import split_s3_uri

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

    from airflow_provider_amzbiz.documents.upload import StoredObject

log = logging.getLogger(__name__)

STRING, INTEGER, TIME = "string", "integer", "timestamp"
# The audit table of a batch, a row for each object and for each request without one.
AUDIT_COLUMNS: Mapping[str, str] = {
    # The request.
    "identity": STRING,
    "request": STRING,
    "request_index": INTEGER,
    "report_type": STRING,
    "report_options": STRING,
    "marketplace_ids": STRING,
    "data_start_time": TIME,
    "data_end_time": TIME,
    # What became of it.
    "status": STRING,
    "error": STRING,
    "report_id": STRING,
    "report_document_id": STRING,
    "processing_status": STRING,
    "requested_at": TIME,
    "created_at": TIME,
    "landed_at": TIME,
    # The object.
    "uri": STRING,
    "key": STRING,
    "bytes": INTEGER,
    "sha256": STRING,
    "crc32": STRING,
    "content_type": STRING,
    # Who asked for it.
    "account": STRING,
    "dag_id": STRING,
    "run_id": STRING,
    "task_id": STRING,
    "map_index": INTEGER,
}
_OF_OBJECT = ("uri", "bytes", "sha256", "crc32", "content_type")
# Rows of a row group: Parquet is written with so many in memory, as columns.
_GROUP = 10_000
_CONTENT_TYPES = {"jsonl": "application/x-ndjson", "parquet": "application/vnd.apache.parquet"}

Columns = Mapping[str, str]
Row = Mapping[str, Any]


def table_format(name: str, key: str) -> str:
    """Return the format that a key's ending names: ``jsonl`` or ``parquet``.

    :param name: of the parameter, for errors.
    :raises InvalidParameterError: it names neither, or the extra ``parquet`` is not installed.
    """
    ending = key.rpartition(".")[2].lower()
    if ending not in _CONTENT_TYPES:
        raise InvalidParameterError(f"{name} is {key!r}, but must end with .jsonl or .parquet")
    if ending == "parquet":
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError:
            raise InvalidParameterError(
                f"{name} is {key!r}, which needs the extra 'parquet': pip install "
                "'airflow-provider-amzbiz[parquet]', or let it end with .jsonl"
            ) from None
    return ending


def label(report_type: str, report_options: Mapping[str, str]) -> str:
    """Return a request as people name it: its options, such as ``invoiceId=123``, or its type without any."""
    return ", ".join(f"{name}={value}" for name, value in report_options.items()) or report_type


def audit_rows(item: Row, task: Row) -> Iterator[dict[str, Any]]:
    """Return the rows of one request: one for each of its objects, or one without an object.

    :param item: of the manifest, finished.
    :param task: the columns of who asked for it: ``account``, ``dag_id``, ``run_id``, ``task_id``, ``map_index``.
    """
    request = item.get("request") or {}
    options = item.get("report_options") or {}
    common = {
        **task,
        **{name: item.get(name) for name in ("report_type", "report_id", "report_document_id", "error")},
        "identity": item["fingerprint"],
        "request": label(item["report_type"], options),
        "request_index": item["index"],
        "report_options": json.dumps(options, sort_keys=True, ensure_ascii=False),
        "marketplace_ids": ",".join(request.get("marketplaceIds") or ()) or None,
        "data_start_time": request.get("dataStartTime"),
        "data_end_time": request.get("dataEndTime"),
        "status": _status(item),
        "processing_status": item.get("status"),
        "requested_at": item.get("sent_at"),
        "created_at": item.get("created_at"),
        "landed_at": item.get("stored_at"),
    }
    if item.get("already_delivered"):
        delivered = item.get("delivered") or {}
        common |= {name: delivered.get(name) or None for name in ("report_id", "report_document_id")}
        common["landed_at"] = delivered.get("delivered_at")
    objects: Iterable[Row] = item.get("objects") or ({},)
    for each in objects:
        yield {
            **common,
            **{name: each.get(name) for name in _OF_OBJECT},
            "key": _key(each.get("uri")),
        }


def _status(item: Row) -> str:
    if item.get("error") is not None:
        return "failed"
    if item.get("already_delivered"):
        return "already_delivered"
    return "landed" if item.get("objects") else "skipped"


def write_rows(
    rows: Iterable[Row],
    *,
    s3: S3Client,
    bucket: str,
    key: str,
    columns: Columns = AUDIT_COLUMNS,
    extra_args: Mapping[str, Any] | None = None,
) -> StoredObject:
    """Write a table to S3, whole and checked or not at all; what was there before is replaced.

    Both formats have every column in the given order, and a value in each, which may be null. Parquet has the
    schema without any row, too; JSON Lines without a row is an empty object.

    :param rows: values by column; times are Unix seconds, aware or ISO 8601. A column that is missing is null.
    :param key: ends with ``.jsonl`` or ``.parquet``.
    :param columns: name to ``string``, ``integer`` or ``timestamp``.
    :param extra_args: more parameters of S3's PutObject and CreateMultipartUpload.
    :raises InvalidParameterError: the key ends otherwise, or ``pyarrow`` is not installed.
    :raises ValueError: a row has another column, or a value of another type.
    :raises DocumentStorageError: S3 did not take it; what was there before is there still.
    """
    from airflow_provider_amzbiz.documents.rollback import Rollback
    from airflow_provider_amzbiz.documents.s3_object import S3Object
    from airflow_provider_amzbiz.documents.upload import PART_SIZE, store
    from airflow_provider_amzbiz.documents.upload_options import UploadOptions
    from airflow_provider_amzbiz.documents.upload_target import UploadTarget

    form = table_format("key", key)
    typed = (_typed(row, columns) for row in rows)
    content = _Lines(_json_lines(typed)) if form == "jsonl" else io.BytesIO(_parquet(typed, columns))
    target = UploadTarget(s3, bucket, UploadOptions(extra_args=extra_args or {}), log=log)
    with Rollback(log) as rollback:
        return store(
            content,
            S3Object(target, key, _CONTENT_TYPES[form]),
            size_of_part=PART_SIZE,
            count_rows=False,
            rollback=rollback,
            one_of_many=False,
        )


def _key(uri: str | None) -> str | None:
    found = split_s3_uri(uri) if uri else None
    return found[1] if found else None


def _typed(row: Row, columns: Columns) -> dict[str, Any]:
    """Return a row with every column, in order, and each value of its type."""
    for name in row:
        if name not in columns:
            raise ValueError(f"The table has no column {name!r}")
    return {name: _CHECKS[kind](name, row.get(name)) for name, kind in columns.items()}


def _string(name: str, value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ValueError(f"Column {name!r} is a string, but gets {value!r}")
    return value


def _integer(name: str, value: Any) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise ValueError(f"Column {name!r} is an integer, but gets {value!r}")
    return value


def _time(name: str, value: Any) -> datetime | None:
    if value is None:
        return None
    try:
        if isinstance(value, str):
            value = datetime.fromisoformat(value)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            value = datetime.fromtimestamp(value, timezone.utc)
        if isinstance(value, datetime) and value.tzinfo is not None:
            return value.astimezone(timezone.utc)
    except (ValueError, OverflowError, OSError):
        pass
    raise ValueError(f"Column {name!r} is a time with a zone, but gets {value!r}")


_CHECKS: Mapping[str, Callable[[str, Any], Any]] = {STRING: _string, INTEGER: _integer, TIME: _time}


def _json_lines(rows: Iterable[Row]) -> Iterator[bytes]:
    for row in rows:
        yield json.dumps(row, ensure_ascii=False, separators=(",", ":"), default=_iso).encode() + b"\n"


def _iso(value: datetime) -> str:
    return value.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _parquet(rows: Iterable[Row], columns: Columns) -> bytes:
    import pyarrow
    from pyarrow import parquet

    types = {STRING: pyarrow.string(), INTEGER: pyarrow.int64(), TIME: pyarrow.timestamp("us", tz="UTC")}
    schema = pyarrow.schema([pyarrow.field(name, types[kind]) for name, kind in columns.items()])
    file = io.BytesIO()
    with parquet.ParquetWriter(file, schema, compression="snappy") as writer:
        group: list[Row] = []
        for row in rows:
            group.append(row)
            if len(group) == _GROUP:
                writer.write_table(pyarrow.Table.from_pylist(group, schema))
                group = []
        if group:
            writer.write_table(pyarrow.Table.from_pylist(group, schema))
    return file.getvalue()


class _Lines(io.RawIOBase):
    """Lines as a stream that an upload reads."""

    def __init__(self, lines: Iterator[bytes]) -> None:
        super().__init__()
        self._lines = lines
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._left:
            self._left = memoryview(next(self._lines, b""))
        count = min(len(self._left), len(buffer))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count
