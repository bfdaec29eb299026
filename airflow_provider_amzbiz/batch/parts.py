"""The folder beside a batch's manifest: parts that are written once and never changed, and the log."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from airflow_provider_amzbiz.batch.errors import RecordDamagedError, RecordMissingError, RecordTakenError
from airflow_provider_amzbiz.batch.object_store import PreconditionFailed

# Objects that are read at the same time.
_READERS = 8
_NEW = {"IfNoneMatch": "*"}
# Of gzip: the highest one takes more than twice as long for 6% fewer bytes.
_LEVEL = 6
_LOG = "log"
# Of an entry that only bars others: changes, and a cursor that moves nothing.
_BAR: tuple[Mapping[str, Any], int] = ({}, 0)


class Found(Protocol):
    """An object that was read."""

    @property
    def body(self) -> bytes: ...

    @property
    def etag(self) -> str: ...


class Objects(Protocol):
    """What the record needs of a bucket; :class:`.ObjectStore` is one."""

    def uri(self, key: str) -> str: ...

    def get(self, key: str) -> Found | None: ...

    def put(self, key: str, body: bytes, *, content_type: str, **condition: str) -> str: ...


class Parts:
    """The folder.

    :param folder: prefix of its keys, with the slash at its end.
    :param token: names what this process writes.
    """

    def __init__(self, objects: Objects, folder: str, token: str) -> None:
        self._objects = objects
        self._folder = folder
        self.token = token
        self._number = 0

    @property
    def uri(self) -> str:
        """Where the folder lies."""
        return self._objects.uri(self._folder)

    def put(self, kind: str, content: Any) -> tuple[str, int]:
        """Write a part under a name of its own, and return that with its size in bytes."""
        self._number += 1
        name = f"{kind}-{self.token}-{self._number}"
        return name, self.put_as(name, content)

    def put_as(self, name: str, content: Any) -> int:
        """Write a part under a given name, where there is none; return its size in bytes.

        :raises RecordTakenError: another process has written it.
        """
        body = gzip.compress(json.dumps(content, separators=(",", ":")).encode(), _LEVEL, mtime=0)
        key = self._key(name)
        try:
            self._objects.put(key, body, content_type="application/gzip", **_NEW)
        except PreconditionFailed:
            # boto3 repeats a write whose response was lost; then it is our own that is there.
            there = self._objects.get(key)
            if there is None or there.body != body:
                raise RecordTakenError(
                    f"{self._objects.uri(key)} was written by another process: this one stops, so that nothing is "
                    "created twice"
                ) from None
        return len(body)

    def find(self, name: str) -> Any | None:
        """Return the content of a part, None where there is none.

        :raises RecordDamagedError: it cannot be read.
        """
        found = self._objects.get(self._key(name))
        if found is None:
            return None
        try:
            return json.loads(gzip.decompress(found.body))
        except (ValueError, OSError, EOFError, zlib.error):
            raise RecordDamagedError(
                f"{self._objects.uri(self._key(name))} is damaged: restore it from a backup or an earlier "
                f"version, or delete the manifest and the folder {self.uri} to begin again"
            ) from None

    def get(self, name: str) -> Any:
        """Return the content of a part.

        :raises RecordMissingError: it is missing.
        """
        content = self.find(name)
        if content is None:
            raise RecordMissingError(
                f"{self._objects.uri(self._key(name))} is missing, which the batch needs to continue: restore it, "
                f"or delete the manifest and the folder {self.uri} to begin again, which creates all reports again"
            )
        return content

    def get_all(self, names: Sequence[str]) -> Iterable[Any]:
        """Return the contents of parts, in their order."""
        if len(names) < 2:
            return [self.get(name) for name in names]
        with ThreadPoolExecutor(min(_READERS, len(names)), thread_name_prefix="amzbiz-record") as readers:
            return list(readers.map(self.get, names))

    def _key(self, name: str) -> str:
        return f"{self._folder}{name}.json.gz"


class Log:
    """The log of one stint: numbered entries, each written only where there is none.

    A process that finds its next entry taken has been given up, and another one continues.
    """

    def __init__(self, parts: Parts, stint: int) -> None:
        self._parts = parts
        self.stint = stint
        self._number = 0

    def recover(self) -> list[Mapping[str, Any]]:
        """Return the entries that others have written, and continue after them."""
        entries = []
        while (entry := self._parts.find(self._name())) is not None:
            entries.append(entry)
            self._number += 1
        return entries

    @staticmethod
    def is_entry(name: str) -> bool:
        """Tell whether a part is an entry of any stint's log."""
        return name.startswith(f"{_LOG}-")

    def has_begun(self) -> bool:
        """Tell whether there is an entry."""
        return self._parts.find(self._name()) is not None

    def bar(self) -> None:
        """Write an entry that says nothing, so that no other process writes the next one.

        :raises RecordTakenError: another process has written one.
        """
        self.write(*_BAR)

    def is_barred(self) -> bool:
        """Tell whether another process has barred this log at its next entry."""
        there = self._parts.find(self._name())
        return there is not None and (there["items"], there["cursor"]) == _BAR

    def write(self, changes: Mapping[str, Any], cursor: int) -> tuple[str, int]:
        """Write the next entry, and return its name and its size in bytes.

        :param changes: parts of items by their index.
        :param cursor: planned requests that were begun.
        :raises RecordTakenError: another process continues.
        """
        # The token tells this process's entry from an equal one of another.
        entry = {"by": self._parts.token, "items": changes, "cursor": cursor}
        while True:
            name = self._name()
            try:
                size = self._parts.put_as(name, entry)
            except RecordTakenError:
                if not self._is_own(name):
                    raise
                # S3 has stored an entry that this process took for failed: the next one says what is true now.
                self._number += 1
            else:
                self._number += 1
                return name, size

    def _is_own(self, name: str) -> bool:
        there = self._parts.find(name)
        return there is not None and there.get("by") == self._parts.token

    def _name(self) -> str:
        return f"{_LOG}-{self.stint:06d}-{self._number:03d}"
