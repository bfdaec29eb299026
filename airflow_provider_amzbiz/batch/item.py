"""One request of a batch, and what has become of it."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

from airflow_provider_amzbiz.client.models import USELESS
from airflow_provider_amzbiz.client.request import ReportRequest

# What a request is; everything else is what has become of it.
_PLANNED = ("index", "body", "key", "positions")


@dataclass
class Item:
    """One request of a batch.

    :ivar index: fixed when it is planned: what ``{index}`` in a key means.
    :ivar body: the request as it goes on the wire.
    :ivar key: template of the object's key.
    :ivar positions: where the request stood in the list, if it stood there several times.
    :ivar sent_at: Unix time at which it was sent; without ``report_id``, a report may or may not exist.
    :ivar status: processing status as last seen.
    :ivar objects: all objects of the document, as the single transfer describes them; None until it is stored.
    :ivar error: why there is none and will be none in this attempt.
    :ivar permanent: whether another attempt cannot help.
    :ivar skipped: whether it ended CANCELLED and that is no failure.
    :ivar failures: how often creating or storing failed in this attempt in a way that may pass.
    :ivar damages: how often its document proved damaged in this attempt.
    :ivar earlier: whether the report is that of a previous attempt.
    :ivar adopted: whether the report was taken from a listing, so that it is never cancelled.
    :ivar recreated: why a first report was given up for another one.
    :ivar recreations: how often that happened in this attempt.
    :ivar already_delivered: whether an earlier batch had delivered it, so that nothing was created.
    :ivar delivered: of that delivery, ``report_id``, ``report_document_id``, ``delivered_at`` and ``by``.
    :ivar stored_at: Unix time at which the document was stored.
    """

    index: int
    body: Mapping[str, Any]
    key: str
    positions: list[int] | None = None
    report_id: str | None = None
    sent_at: float | None = None
    created_at: float | None = None
    status: str | None = None
    report_document_id: str | None = None
    objects: list[dict[str, Any]] | None = None
    error: str | None = None
    permanent: bool = False
    skipped: bool = False
    failures: int = 0
    damages: int = 0
    earlier: bool = False
    adopted: bool = False
    recreated: str | None = None
    recreations: int = 0
    already_delivered: bool = False
    delivered: Mapping[str, str] | None = None
    stored_at: float | None = None

    @cached_property
    def request(self) -> ReportRequest:
        """The request."""
        return ReportRequest(self.body)

    @cached_property
    def identity(self) -> str:
        """SHA-256, in hex, of the request: equal for equal requests only."""
        return self.request.fingerprint

    @property
    def report_type(self) -> str:
        """The type of its report."""
        return self.request.report_type

    @property
    def label(self) -> str:
        """What a person knows the request by: its options, else its window, and its place in the list."""
        return f"requests[{self.index}] ({self.request.summary or self.report_type})"

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.objects is not None or self.error is not None or self.skipped

    @property
    def is_stored(self) -> bool:
        """Whether this batch has stored its document."""
        return self.objects is not None and not self.already_delivered

    @property
    def to_create(self) -> bool:
        """Whether there is no report of it."""
        return not self.is_finished and self.report_id is None

    def fail(self, message: str, *, permanent: bool) -> None:
        """Give it up for this attempt."""
        self.error, self.permanent = message, permanent

    def reset_for_retry(self) -> None:
        """Reset what failed; reuse a report that may still be of use."""
        if self.objects is not None:
            return
        self.error, self.permanent, self.skipped = None, False, False
        self.failures = self.damages = self.recreations = 0
        if self.status in USELESS:
            self.drop_report()
        self.earlier = self.report_id is not None

    def forget_objects(self) -> None:
        """Have its document stored again, whoever stored it."""
        self.objects = self.stored_at = self.delivered = None
        self.already_delivered = False

    def drop_report(self, reason: str | None = None) -> None:
        """Give up a report that is of no use, so that another one is created.

        :param reason: what the manifest is to say of it.
        """
        self.report_id = self.sent_at = self.created_at = self.status = self.report_document_id = None
        self.earlier = self.adopted = False
        self.failures = self.damages = 0
        if reason is not None:
            self.recreated, self.recreations = reason, self.recreations + 1

    def to_part(self, *, whole: bool = True) -> dict[str, Any]:
        """Return a JSON-safe dict of what is not as it was at first.

        :param whole: with the request, too.
        """
        initial = _INITIAL if whole else _DEFAULTS
        return {name: value for name, default in initial.items() if (value := getattr(self, name)) != default}

    @classmethod
    def from_part(cls, part: Mapping[str, Any]) -> Item:
        """Read what :meth:`to_part` wrote."""
        return cls(**{name: value for name, value in part.items() if name in _INITIAL})

    def update(self, part: Mapping[str, Any]) -> None:
        """Take over what :meth:`to_part` wrote of the same request later."""
        for name, default in _DEFAULTS.items():
            setattr(self, name, part.get(name, default))

    def to_dict(self) -> dict[str, Any]:
        """Return the item as the manifest shows it."""
        one = self.objects[0] if self.objects is not None and len(self.objects) == 1 else {}
        shown: dict[str, Any] = {
            "index": self.index,
            "fingerprint": self.identity,
            "report_type": self.report_type,
            "report_options": dict(self.request.options),
            "key": self.key,
            "report_id": self.report_id,
            "sent_at": self.sent_at,
            "status": self.status,
            "report_document_id": self.report_document_id,
            **{name: one.get(name) for name in ("uri", "bytes", "sha256")},
            "objects": self.objects,
            "error": self.error,
            "permanent": self.permanent,
            "skipped": self.skipped,
            "failures": self.failures,
            "earlier": self.earlier,
            "adopted": self.adopted,
        }
        more = {name: value for name, value in self.to_part().items() if name not in shown and name != "body"}
        rest = {name: value for name, value in self.body.items() if name not in ("reportType", "reportOptions")}
        return {**shown, **more, "request": rest}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Item:
        """Read what :meth:`to_dict` wrote."""
        body = {"reportType": values["report_type"], **values["request"]}
        if values["report_options"]:
            body["reportOptions"] = values["report_options"]
        return cls(**{**{name: values[name] for name in _INITIAL if name in values}, "body": body})


def newest_report(items: Iterable[Item], without: Container[str] = ()) -> str | None:
    """Return the id of the report that was asked for last, None where there is none.

    :param without: ids that are left out.
    """
    created = [item for item in items if item.report_id and item.report_id not in without]
    newest = max(created, key=lambda item: item.sent_at or 0.0, default=None)
    return newest.report_id if newest else None


# Fields with their defaults: all of them, and those that change.
_INITIAL = {each.name: each.default for each in fields(Item)}
_DEFAULTS = {name: default for name, default in _INITIAL.items() if name not in _PLANNED}
