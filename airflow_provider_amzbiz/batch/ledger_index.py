"""The index of a ledger: many entries in one object, so that a list of thousands is not read one by one."""

from __future__ import annotations

import gzip
import json
import logging
import secrets
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from airflow_provider_amzbiz.batch.delivery import VERSION, Delivery
from airflow_provider_amzbiz.batch.object_store import ObjectStore
from airflow_provider_amzbiz.documents.errors import DocumentStorageError

log = logging.getLogger(__name__)

# Entries of a listing or a segment that are read in the time of one small object.
ENTRIES_PER_GET = 25
# So many segments of one size become one, so that the number of segments grows with the logarithm of the ledger.
_FAN_OUT = 8
# Sizes grow by this many bits; the largest segments, of 4,096 entries and more, are left alone.
_BITS = 3
_LARGEST = 4


@dataclass(frozen=True)
class _Segment:
    """An object of the index, as its key tells.

    :ivar count: its entries.
    """

    key: str
    written: str
    count: int

    @property
    def size(self) -> int:
        return min(max(self.count.bit_length() - 1, 0) // _BITS, _LARGEST)


class LedgerIndex:
    """Copies of entries, many to an object, each with the ETag of its entry.

    It is never the truth: a copy counts only where its ETag is that of the entry in a listing. So it may lag, lose
    segments, or have those of entries that were forgotten.

    :param prefix: of its objects.
    """

    def __init__(self, store: ObjectStore, prefix: str, account: str) -> None:
        self._store = store
        self._prefix = prefix
        self._account = account

    def read(self, known: Mapping[str, str], enough: int) -> dict[str, Delivery]:
        """Return what the index has of some entries, as long as that takes less time than to read them one by one.

        :param known: identity to the ETag that its entry has now.
        :param enough: so many may be missing in the end.
        """
        found: dict[str, Delivery] = {}
        spent = 0.0
        for segment in sorted(self._segments(), key=lambda each: each.written, reverse=True):
            missing = len(known) - len(found)
            spent += 1 + segment.count / ENTRIES_PER_GET
            if missing <= enough or spent > missing:
                break
            for identity, (etag, described) in self._content(segment).items():
                if known.get(identity) == etag:
                    # What is no delivery any more is read from its entry.
                    with suppress(ValueError):
                        found[identity] = Delivery.from_dict(described, etag)
        return found

    def write(self, deliveries: Mapping[str, Delivery]) -> None:
        """Add entries, as one segment, and join segments where there are many small ones.

        A failure is a warning: everything is in the entries, too.

        :param deliveries: by identity; those without an ETag are left out.
        """
        entries = {
            identity: (each.etag, each.to_dict()) for identity, each in deliveries.items() if each.etag is not None
        }
        try:
            if entries:
                self._write(entries, f"{datetime.now(timezone.utc):%Y%m%dT%H%M%S.%fZ}")
                self._join()
        except DocumentStorageError as error:
            log.warning("The ledger's index is not up to date, which costs time and nothing else: %s", error)

    def _write(self, entries: Mapping[str, Any], written: str) -> None:
        content = {"version": VERSION, "account": self._account, "entries": entries}
        body = gzip.compress(json.dumps(content, separators=(",", ":")).encode(), compresslevel=6, mtime=0)
        key = f"{self._prefix}{written}-{len(entries)}-{secrets.token_hex(4)}.json.gz"
        self._store.put(key, body, content_type="application/gzip", IfNoneMatch="*")

    def _join(self) -> None:
        """Make one segment of many of one size."""
        by_size: dict[int, list[_Segment]] = defaultdict(list)
        for segment in self._segments():
            by_size[segment.size].append(segment)
        for size, segments in by_size.items():
            if size == _LARGEST or len(segments) < _FAN_OUT:
                continue
            segments.sort(key=lambda each: each.written)
            entries: dict[str, Any] = {}
            for segment in segments:
                entries |= self._content(segment)
            # First, so that nothing piles up where that is denied; what is lost in between is read from entries.
            for segment in segments:
                self._store.delete(segment.key)
            self._write(entries, segments[-1].written)

    def _segments(self) -> Iterator[_Segment]:
        for page in self._store.pages(self._prefix):
            for listed in page:
                written, _, rest = listed.key[len(self._prefix) :].partition("-")
                count = rest.partition("-")[0]
                if count.isdecimal():
                    yield _Segment(listed.key, written, int(count))

    def _content(self, segment: _Segment) -> dict[str, Any]:
        """Return the entries of a segment, none where it is of no use."""
        stored = self._store.get(segment.key)
        if stored is None:
            # Another process has joined it with others.
            return {}
        try:
            content = json.loads(gzip.decompress(stored.body))
            if (content["version"], content["account"]) == (VERSION, self._account):
                return {identity: (etag, copy) for identity, (etag, copy) in content["entries"].items()}
            reason = f"it is of version {content['version']!r} and account {content['account']!r}"
        except (OSError, EOFError, zlib.error, ValueError, LookupError, TypeError, AttributeError) as error:
            reason = f"{type(error).__name__}: {error}"
        log.warning(
            "%s of the ledger's index is left out: %s. Its entries are read one by one; it may be deleted",
            self._store.uri(segment.key),
            reason,
        )
        return {}
