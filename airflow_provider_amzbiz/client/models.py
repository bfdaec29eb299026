"""What the API returns: reports and their documents (spec, Definitions)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime, timezone
from enum import StrEnum
from typing import Any

from airflow_provider_amzbiz.client.errors import UnavailableError
from airflow_provider_amzbiz.client.storable import odd_string, unstorable_part


class ProcessingStatus(StrEnum):
    """The states of a report (spec, ProcessingStatus)."""

    IN_QUEUE = "IN_QUEUE"
    IN_PROGRESS = "IN_PROGRESS"
    DONE = "DONE"
    CANCELLED = "CANCELLED"
    FATAL = "FATAL"


_TIMES = ("created_time", "data_start_time", "data_end_time", "processing_start_time", "processing_end_time")
TERMINAL = frozenset({ProcessingStatus.DONE, ProcessingStatus.CANCELLED, ProcessingStatus.FATAL})
# A report in one of these has no data and never will; it must be created again.
USELESS = frozenset({ProcessingStatus.CANCELLED, ProcessingStatus.FATAL})


@dataclass(frozen=True)
class Report:
    """A report as the API describes it (spec, Report). It never shows the options that it was requested with.

    :ivar report_id: opaque; unique within the business entity.
    :ivar report_type: such as ``GET_AB_INVOICE_PDF``.
    :ivar processing_status: one of :class:`ProcessingStatus`, or as received where the API has a new one.
    :ivar created_time: when it was created; this and all other times are timezone-aware.
    :ivar marketplace_ids: empty if the API returned none.
    :ivar report_document_id: set once the report is DONE, and on some that are FATAL.
    :ivar extra: fields that this version does not know, as received.
    """

    report_id: str
    report_type: str
    processing_status: str
    created_time: datetime
    marketplace_ids: tuple[str, ...] = ()
    data_start_time: datetime | None = None
    data_end_time: datetime | None = None
    processing_start_time: datetime | None = None
    processing_end_time: datetime | None = None
    report_document_id: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def is_terminal(self) -> bool:
        """Whether the status is final."""
        return self.processing_status in TERMINAL

    @classmethod
    def from_api(cls, response: Mapping[str, Any]) -> Report:
        """Read a ``Report`` object of the API.

        :raises UnavailableError: a required field is missing, or a field is of the wrong type or cannot be stored
            in a database; that is a transient fault, so a retry may succeed.
        """
        fields = _Fields("Report", response)
        return cls(
            report_id=fields.string("reportId"),
            report_type=fields.string("reportType"),
            processing_status=fields.string("processingStatus"),
            created_time=fields.required("createdTime", fields.time("createdTime")),
            marketplace_ids=fields.strings("marketplaceIds"),
            data_start_time=fields.time("dataStartTime"),
            data_end_time=fields.time("dataEndTime"),
            processing_start_time=fields.time("processingStartTime"),
            processing_end_time=fields.time("processingEndTime"),
            report_document_id=fields.optional_string("reportDocumentId"),
            extra=fields.rest(),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-safe dict for XCom: the attributes by name, times in ISO 8601 with their offset."""
        return {
            "report_id": self.report_id,
            "report_type": self.report_type,
            "processing_status": str(self.processing_status),
            "created_time": self.created_time.isoformat(),
            "marketplace_ids": list(self.marketplace_ids),
            "data_start_time": _iso(self.data_start_time),
            "data_end_time": _iso(self.data_end_time),
            "processing_start_time": _iso(self.processing_start_time),
            "processing_end_time": _iso(self.processing_end_time),
            "report_document_id": self.report_document_id,
            "extra": dict(self.extra),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Report:
        """Read what :meth:`to_dict` wrote."""
        parsed = {name: datetime.fromisoformat(values[name]) for name in _TIMES if values[name]}
        # A newer version may have written it, with more in it.
        known = {each.name: values[each.name] for each in fields(cls) if each.name in values}
        return cls(**{**known, "marketplace_ids": tuple(values["marketplace_ids"]), **parsed})


@dataclass(frozen=True)
class ReportDocument:
    """Where a document can be downloaded (spec, ReportDocument).

    :ivar url: presigned; whoever has it can read the document for five minutes, so neither the repr nor
        :meth:`to_dict` shows it.
    :ivar compression_algorithm: ``GZIP`` or None, or as received where the API has a new one.
    :ivar extra: fields that this version does not know, as received; not shown either.
    """

    report_document_id: str
    url: str = field(repr=False)
    compression_algorithm: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False, repr=False)

    @classmethod
    def from_api(cls, response: Mapping[str, Any]) -> ReportDocument:
        """Read a ``ReportDocument`` object of the API.

        :raises UnavailableError: a required field is missing, or a field is of the wrong type or cannot be stored
            in a database.
        """
        fields = _Fields("ReportDocument", response)
        return cls(
            report_document_id=fields.string("reportDocumentId"),
            url=fields.string("url"),
            compression_algorithm=fields.optional_string("compressionAlgorithm"),
            extra=fields.rest(),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-safe dict for XCom, without the URL."""
        return {
            "report_document_id": self.report_document_id,
            "compression_algorithm": self.compression_algorithm,
        }


class _Fields:
    """Takes known fields out of a JSON object and remembers which are left."""

    def __init__(self, schema: str, response: Mapping[str, Any]) -> None:
        if not isinstance(response, Mapping):
            raise UnavailableError(f"The response is a {type(response).__name__}, but must be a {schema} object")
        self._schema = schema
        self._left = dict(response)

    def rest(self) -> dict[str, Any]:
        if self._left and (odd := unstorable_part(self._left)):
            raise UnavailableError(f"A {self._schema} of the response holds {odd}")
        return self._left

    def required(self, name: str, value: Any) -> Any:
        if value is None:
            raise UnavailableError(f"The response's {self._schema} has no {name}, which the spec requires")
        return value

    def optional_string(self, name: str) -> str | None:
        value = self._left.pop(name, None)
        if value is not None and not isinstance(value, str):
            raise self._wrong(name, value, "a string")
        return self._valid(name, value) or None

    def string(self, name: str) -> str:
        value: str = self.required(name, self.optional_string(name))
        return value

    def strings(self, name: str) -> tuple[str, ...]:
        value = self._left.pop(name, None)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise self._wrong(name, value, "a list of strings")
        return tuple(self._valid(name, each) for each in value)

    def _valid(self, name: str, value: Any) -> Any:
        if value is not None and (odd := odd_string(value)):
            raise UnavailableError(f"{name} of the response's {self._schema} is {odd}")
        return value

    def time(self, name: str) -> datetime | None:
        value = self.optional_string(name)
        if value is None:
            return None
        try:
            parsed = datetime.fromisoformat(value)
            # The spec's date-time always has an offset; without one, UTC is what Amazon's services mean.
            aware = parsed if parsed.tzinfo else parsed.replace(tzinfo=timezone.utc)
            aware.astimezone(timezone.utc)
        except (ValueError, OverflowError):
            raise self._wrong(name, value, "an ISO 8601 time") from None
        return aware

    def _wrong(self, name: str, value: object, expected: str) -> UnavailableError:
        kind = type(value).__name__
        return UnavailableError(f"{name} of the response's {self._schema} is a {kind}, but must be {expected}")


def _iso(time: datetime | None) -> str | None:
    return time.isoformat() if time else None
