"""What a trigger sends to the task that it resumes: typed events, checked in one place.

An event travels through Airflow's database as a dict: ``version``, ``status`` (the kind of the event) and the
fields of that kind. A trigger returns an :class:`Event`; the task's ``execute_complete`` passes the dict to
:func:`read_event`, which returns the :class:`Event` or raises. No event carries a secret or a presigned URL.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar, overload

from airflow_provider_amzbiz.client.models import Report
from airflow_provider_amzbiz.exceptions import AmazonBusinessError, error_from_dict

# Raise it with every change of an event that the previous version cannot read.
VERSION = 1

# A deferred task may be resumed by a worker with another version of this package than its triggerer has.
_REMEDY = (
    "Clear the task to run it again; make sure that triggerers and workers have the same version of "
    "airflow-provider-amzbiz"
)

Kind = TypeVar("Kind", bound="Event")
Second = TypeVar("Second", bound="Event")
Third = TypeVar("Third", bound="Event")


@dataclass(frozen=True)
class Event:
    """An event; each kind is a frozen dataclass with a ``status`` of its own."""

    #: Names the kind in the dict.
    status: ClassVar[str]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON-safe dict that Airflow stores."""
        return {"version": VERSION, "status": self.status, **self.fields()}

    @abstractmethod
    def fields(self) -> dict[str, Any]:
        """Return the fields of this kind, JSON-safe."""

    @classmethod
    @abstractmethod
    def from_fields(cls: type[Kind], fields: Mapping[str, Any]) -> Kind:
        """Read what :meth:`fields` returned.

        :raises KeyError, TypeError, ValueError, AttributeError: a field is missing or damaged.
        """


@dataclass(frozen=True)
class PermitGranted(Event):
    """The task may call the operation.

    :ivar operation: operation id of the API, such as ``createReport``.
    :ivar permits: how many calls it may make.
    :ivar since: Unix time at which the task first asked.
    :ivar state: what the task gave the trigger, to continue with.
    """

    status = "permitted"

    operation: str
    permits: int
    since: float
    state: Mapping[str, Any] = field(default_factory=dict)

    def fields(self) -> dict[str, Any]:
        """Return the fields, JSON-safe."""
        return {
            "operation": self.operation,
            "permits": self.permits,
            "since": self.since,
            "state": dict(self.state),
        }

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> PermitGranted:
        """Read the fields."""
        return cls(
            typed(fields, "operation", str),
            typed(fields, "permits", int),
            typed(fields, "since", int, float),
            typed(fields, "state", Mapping),
        )


@dataclass(frozen=True)
class ReportEnded(Event):
    """The report has a terminal status."""

    status = "ended"

    report: Report

    def fields(self) -> dict[str, Any]:
        """Return the fields, JSON-safe."""
        return {"report": self.report.to_dict()}

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> ReportEnded:
        """Read the fields."""
        return cls(Report.from_dict(typed(fields, "report", Mapping)))


@dataclass(frozen=True)
class ReportTimedOut(Event):
    """The report had no terminal status at the wait's deadline.

    :ivar report_type: None where no poll has seen the report.
    :ivar last_status: the status at the last poll that worked, None where there was none.
    :ivar own: whether the task created the report, so that it may cancel it.
    """

    status = "timeout"

    report_id: str
    report_type: str | None = None
    last_status: str | None = None
    own: bool = False

    def fields(self) -> dict[str, Any]:
        """Return the fields, JSON-safe."""
        return {
            "report_id": self.report_id,
            "report_type": self.report_type,
            "last_status": self.last_status,
            "own": self.own,
        }

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> ReportTimedOut:
        """Read the fields."""
        return cls(
            typed(fields, "report_id", str),
            typed(fields, "report_type", str, type(None)),
            typed(fields, "last_status", str, type(None)),
            typed(fields, "own", bool),
        )


@dataclass(frozen=True)
class WaitFailed(Event):
    """The wait ended with an error, which :func:`read_event` raises in the task."""

    status = "error"

    error: AmazonBusinessError

    def fields(self) -> dict[str, Any]:
        """Return the fields, JSON-safe."""
        return {"error": self.error.to_dict()}

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> WaitFailed:
        """Read the fields."""
        return cls(error_from_dict(dict(typed(fields, "error", Mapping))))


def typed(fields: Mapping[str, Any], name: str, *types: type) -> Any:
    """Return a field of an event.

    :raises KeyError: it is missing.
    :raises TypeError: it is of none of the types; a bool is no int.
    """
    value = fields[name]
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        raise TypeError(f"{name} is a {type(value).__name__}")
    return value


@overload
def read_event(event: object, kind: type[Kind], /) -> Kind: ...


@overload
def read_event(event: object, kind: type[Kind], second: type[Second], /) -> Kind | Second: ...


@overload
def read_event(
    event: object, kind: type[Kind], second: type[Second], third: type[Third], /
) -> Kind | Second | Third: ...


def read_event(event: object, *kinds: type[Event]) -> Event:
    """Check the event that resumes a task, and return it typed.

    :param event: what Airflow passed to ``execute_complete``.
    :param kinds: the kinds that the task's trigger may send, besides :class:`WaitFailed`.
    :raises AmazonBusinessError: the trigger's own error; or the event is missing, damaged, of another version, or
        of a kind that the task does not expect. A retry or a cleared task starts over and needs no event.
    """
    if not isinstance(event, Mapping):
        raise AmazonBusinessError(f"The trigger sent no event ({type(event).__name__}). {_REMEDY}")
    status, version = event.get("status"), event.get("version")
    if status == WaitFailed.status:
        # Of any version: the trigger's own error helps more than a complaint about its event.
        raise _read(WaitFailed, event).error
    if version != VERSION:
        raise AmazonBusinessError(
            f"The trigger sent an event of version {_shown(version)}, but this task reads version {VERSION}. "
            f"{_REMEDY}"
        )
    for kind in kinds:
        if status == kind.status:
            return _read(kind, event)
    raise AmazonBusinessError(
        f"The trigger sent an event with status {_shown(status)}, but this task expects one of "
        f"{[kind.status for kind in kinds]}. {_REMEDY}"
    )


def _read(kind: type[Kind], event: Mapping[str, Any]) -> Kind:
    try:
        return kind.from_fields(event)
    except (KeyError, TypeError) as error:
        damage = f"{type(error).__name__}: {error}"
    except (ValueError, AttributeError) as error:
        # Without its text, which may quote a value: a foreign event could hold a secret.
        damage = type(error).__name__
    raise AmazonBusinessError(
        f"The trigger sent a damaged event with status {kind.status!r} ({damage}). {_REMEDY}"
    )


def _shown(value: object) -> str:
    if value is None or isinstance(value, (str, int)):
        return repr(value)[:40]
    return f"of type {type(value).__name__}"
