"""One delivery: which request it was of, and which objects in S3 came of it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

VERSION = 1
# SHA-256 of a request, in hex.
IDENTITY = re.compile(r"[0-9a-f]{64}")
# What describes an object, with the types that each part may have.
_OBJECT: Mapping[str, tuple[type, ...]] = {
    "uri": (str,),
    "bytes": (int,),
    "sha256": (str, type(None)),
    "crc32": (str, type(None)),
    "content_type": (str, type(None)),
}
_TEXTS = ("report_type", "report_id", "report_document_id", "by")


class LedgerError(Exception):
    """An object of the ledger cannot be used as it is; the message names it and the remedy."""


@dataclass(frozen=True)
class Delivery:
    """A request that was delivered.

    :ivar objects: what was stored, as the transfer describes it: ``uri``, ``bytes``, ``sha256`` (hex or None),
        ``crc32`` (base64) and ``content_type`` of each object.
    :ivar report_type: of the request, for people.
    :ivar report_options: the same.
    :ivar delivered_at: aware time.
    :ivar by: who delivered it, such as ``dag/run/task``.
    :ivar etag: of its entry in the ledger, where it is known; not part of the delivery.
    """

    objects: tuple[Mapping[str, Any], ...]
    report_type: str
    report_options: Mapping[str, str]
    report_id: str
    report_document_id: str
    delivered_at: datetime
    by: str = ""
    etag: str | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "objects", tuple(self.objects))
        if self.delivered_at.tzinfo is None:
            raise ValueError(f"delivered_at is {self.delivered_at!r}, but must have a time zone")

    @property
    def bytes(self) -> int:
        """Bytes of all objects."""
        return sum(each["bytes"] for each in self.objects)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-safe dict."""
        return {
            "objects": [{name: each.get(name) for name in _OBJECT} for each in self.objects],
            "report_type": self.report_type,
            "report_options": dict(self.report_options),
            "report_id": self.report_id,
            "report_document_id": self.report_document_id,
            "delivered_at": self.delivered_at.astimezone(timezone.utc).isoformat(),
            "by": self.by,
        }

    @classmethod
    def from_dict(cls, values: Any, etag: str | None = None) -> Delivery:
        """Return the delivery that :meth:`to_dict` described; what is unknown is left out.

        :raises ValueError: it is none.
        """
        if not isinstance(values, Mapping):
            raise ValueError("it is no JSON object")
        for name in _TEXTS:
            if not isinstance(values.get(name), str):
                raise ValueError(f"{name} is {values.get(name)!r}")
        options = values.get("report_options")
        if not isinstance(options, Mapping):
            raise ValueError(f"report_options is {options!r}")
        objects = values.get("objects")
        if not isinstance(objects, (list, tuple)) or not objects:
            raise ValueError(f"objects is {objects!r}")
        for each in objects:
            _check_object(each)
        try:
            delivered_at = datetime.fromisoformat(values["delivered_at"])
        except (KeyError, TypeError, ValueError):
            raise ValueError(f"delivered_at is {values.get('delivered_at')!r}") from None
        return cls(
            objects=tuple({name: each.get(name) for name in _OBJECT} for each in objects),
            report_options=dict(options),
            delivered_at=delivered_at,
            etag=etag,
            **{name: values[name] for name in _TEXTS},
        )


def _check_object(described: Any) -> None:
    if not isinstance(described, Mapping):
        raise ValueError(f"one of its objects is {described!r}")
    for name, kinds in _OBJECT.items():
        value = described.get(name)
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise ValueError(f"{name} of one of its objects is {value!r}")


def delivery_of(item: Mapping[str, Any], by: str, *, otherwise_at: datetime | None = None) -> Delivery:
    """Return the delivery that an item of a manifest describes, the same whenever it is asked for.

    :param item: with ``objects``.
    :param otherwise_at: when it was delivered, where the item has no ``stored_at``.
    :raises ValueError: the item is none of a manifest.
    """
    stored_at = item.get("stored_at")
    if isinstance(stored_at, (int, float)):
        at: datetime | None = datetime.fromtimestamp(stored_at, timezone.utc)
    else:
        at = otherwise_at
    described = {
        **item,
        **{name: item.get(name) or "" for name in ("report_id", "report_document_id")},
        "delivered_at": at and at.isoformat(),
        "by": by,
        # Of what an earlier batch has delivered, that batch is told of.
        **(item.get("delivered") or {}),
    }
    return Delivery.from_dict(described)


def entry_of(account: str, identity: str, delivery: Delivery) -> bytes:
    """Return the content of a ledger's entry: the same for the same delivery."""
    content = {"version": VERSION, "account": account, "identity": identity, **delivery.to_dict()}
    return json.dumps(content, sort_keys=True, indent=1).encode()


def read_entry(body: bytes, uri: str, account: str, identity: str, etag: str) -> Delivery:
    """Return the delivery of a ledger's entry.

    :raises LedgerError: it is damaged, of something else, or of a newer version.
    """
    remedy = "restore it, or delete it, which has the request delivered again"
    try:
        content = json.loads(body)
    except ValueError:
        raise LedgerError(f"The ledger's entry {uri} is damaged: it is no JSON; {remedy}") from None
    version = content.get("version") if isinstance(content, dict) else None
    if isinstance(version, int) and version > VERSION:
        raise LedgerError(
            f"The ledger's entry {uri} has version {version}, and this release of the provider reads up to "
            f"{VERSION}: use the release that wrote it, or a newer one"
        )
    if version != VERSION:
        raise LedgerError(f"The ledger's entry {uri} is damaged: its version is {version!r}; {remedy}")
    found = (content.get("account"), content.get("identity"))
    if found != (account, identity):
        raise LedgerError(
            f"The ledger's entry {uri} is not of account {account!r} and this request, but of account "
            f"{found[0]!r} and the request {found[1]!r}: somebody has moved or copied it; {remedy}"
        )
    try:
        return Delivery.from_dict(content, etag)
    except ValueError as error:
        raise LedgerError(f"The ledger's entry {uri} is damaged: {error}; {remedy}") from None
