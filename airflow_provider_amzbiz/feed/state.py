"""The state of a feed in S3, beside the ledger: files of each run, and one cursor.

``<ledger>/feed/<account>/cursor.json`` says where the feed begins, up to which feed date runs have succeeded, and
which lines are open.
It is written on the condition that nobody else has since it was read. ``runs/<run>/<number>/`` holds what one run
has begun (``begin.json``), found (``plan.json`` and its parts) and finished (``done.json``). Only ``rows.json``
may change there: it says which runs have written the rows of what a run delivered that never wrote its tables.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import secrets
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any, Protocol

from airflow_provider_amzbiz.batch.ledger import FEED
from airflow_provider_amzbiz.batch.object_store import PreconditionFailed
from airflow_provider_amzbiz.documents.errors import DocumentStorageError
from airflow_provider_amzbiz.feed.errors import FeedStateError

VERSION = 1
_JSON, _GZIP = "application/json", "application/gzip"
_NEW = {"IfNoneMatch": "*"}
# Bytes of JSON Lines in one part: what a reader holds in memory.
_PART_BYTES = 4 * 1024**2
_UNSAFE = re.compile(r"[^A-Za-z0-9._=-]+")
_NAME_CHARACTERS = 80
_HASH_DIGITS = 12
# Attempts to write the cursor, which other runs may write at the same time.
CURSOR_WRITES = 20
CURSOR_BUSY = "The feed's cursor is written by other runs all the time; a retry continues"


class Found(Protocol):
    """An object that was read; ``last_modified`` is S3's own clock."""

    @property
    def body(self) -> bytes: ...

    @property
    def etag(self) -> str: ...

    @property
    def last_modified(self) -> datetime: ...


class Objects(Protocol):
    """What the state needs of a bucket; :class:`.ObjectStore` is one."""

    def uri(self, key: str) -> str: ...

    def get(self, key: str) -> Found | None: ...

    def put(self, key: str, body: bytes, *, content_type: str, **condition: str) -> str: ...


@dataclass(frozen=True)
class Cursor:
    """How far a feed has come.

    :ivar feed_end: end of the latest window that succeeded, as ISO 8601 in UTC; None before the first.
    :ivar open: keys of the parts that list the open lines.
    :ivar run: the run that wrote it.
    :ivar feed_start: where the feed begins: the earliest start of a run that began before any had succeeded.
    :ivar feed: what the feed brings, and where to; None where a release wrote it that did not know.
    """

    feed_end: str | None = None
    open: list[str] = field(default_factory=list)
    run: str | None = None
    feed_start: str | None = None
    feed: Mapping[str, Any] | None = None


class FeedState:
    """The state of one account's feed.

    :param prefix: of the ledger, with the slash at its end.
    :param account: tells the accounts of a ledger apart; no secret.
    """

    def __init__(self, objects: Objects, prefix: str, account: str) -> None:
        self._objects = objects
        self.account = account
        self.folder = f"{prefix}{FEED}/{account}/"
        self._cursor_key = f"{self.folder}cursor.json"

    def run(self, label: str) -> RunFolder:
        """Return the folder of a run: of the one that is to be continued, or of a new one.

        :param label: names the run, such as ``dag/run/task``.
        """
        number = 1
        while (folder := RunFolder(self._objects, self.folder, f"{run_name(label)}/{number}")).is_done():
            number += 1
        return folder

    def existing(self, run: str) -> RunFolder:
        """Return the folder of a run by its name."""
        return RunFolder(self._objects, self.folder, run)

    def earlier_result(self, run: str) -> Mapping[str, Any]:
        """Return the result of a task's run before it was cleared; empty where there is none."""
        label, _, number = run.rpartition("/")
        found = self.existing(f"{label}/{int(number) - 1}").read("done") if int(number) > 1 else None
        return found[0]["result"] if found else {}

    def read_cursor(self) -> tuple[Cursor, str | None]:
        """Return the cursor, and the ETag of its object; None where there is none yet.

        :raises FeedStateError: it is damaged, of another account, or of a newer version.
        """
        found = self._objects.get(self._cursor_key)
        if found is None:
            return Cursor(), None
        content = _read_json(found.body, self._objects.uri(self._cursor_key))
        if content.get("account") != self.account:
            raise FeedStateError(
                f"{self._objects.uri(self._cursor_key)} is of account {content.get('account')!r}, not of "
                f"{self.account!r}: use another ledger, or move the object away"
            )
        names = ("feed_end", "run", "feed_start", "feed")
        return Cursor(open=content.get("open") or [], **{name: content.get(name) for name in names}), found.etag

    def write_cursor(self, cursor: Cursor, etag: str | None) -> bool:
        """Write the cursor, if it is as it was read; return False where another run has written it since.

        :param etag: as :meth:`read_cursor` gave it.
        """
        body = _to_json({"account": self.account, **asdict(cursor)})
        condition = {"IfMatch": etag} if etag else _NEW
        try:
            self._objects.put(self._cursor_key, body, content_type=_JSON, **condition)
        except PreconditionFailed:
            # boto3 repeats a write whose response was lost; then it is our own that is there.
            there = self._objects.get(self._cursor_key)
            return there is not None and there.body == body
        return True

    def begin_at(self, start: str) -> None:
        """Remember where the feed begins, until a run has succeeded: the days of runs that fail are not lost.

        :param start: of a run's window, as ISO 8601 in UTC.
        :raises DocumentStorageError: others write the cursor all the time.
        """
        for _ in range(CURSOR_WRITES):
            cursor, etag = self.read_cursor()
            is_known = cursor.feed_start is not None and cursor.feed_start <= start
            if (
                cursor.feed_end is not None
                or is_known
                or self.write_cursor(replace(cursor, feed_start=start), etag)
            ):
                return
        raise DocumentStorageError(CURSOR_BUSY)

    def read_lines(self, keys: Iterable[str]) -> Iterator[Any]:
        """Yield the values of parts, by their keys."""
        return read_parts(self._objects, keys)


class RunFolder:
    """The files of one run.

    :param name: of the run, the same whenever the run is continued.
    """

    def __init__(self, objects: Objects, folder: str, name: str) -> None:
        self._objects = objects
        self.name = name
        self._folder = f"{folder}runs/{name}/"
        self._token = secrets.token_hex(6)
        self._number = 0

    def is_done(self) -> bool:
        """Tell whether the run has finished."""
        return self._objects.get(f"{self._folder}done.json") is not None

    def read(self, name: str) -> tuple[dict[str, Any], datetime] | None:
        """Return a file and S3's time of it, None where it does not exist.

        :raises FeedStateError: it cannot be read.
        """
        key = f"{self._folder}{name}.json"
        found = self._objects.get(key)
        return None if found is None else (_read_json(found.body, self._objects.uri(key)), found.last_modified)

    def must_read(self, name: str) -> tuple[dict[str, Any], datetime]:
        """Return a file that the run cannot continue without.

        :raises FeedStateError: it is missing, or cannot be read.
        """
        found = self.read(name)
        if found is None:
            raise FeedStateError(
                f"{self._objects.uri(self._folder)}{name}.json is missing, which the run needs to continue: "
                "restore it, or clear the task to begin again"
            )
        return found

    def write_once(self, name: str, content: Mapping[str, Any]) -> tuple[dict[str, Any], datetime]:
        """Write a file, unless another process of the run has; return what is there then, and S3's time of it."""
        key = f"{self._folder}{name}.json"
        # What is there counts, ours or that of another process.
        with suppress(PreconditionFailed):
            self._objects.put(key, _to_json(content), content_type=_JSON, **_NEW)
        there = self.read(name)
        if there is None:
            raise DocumentStorageError(f"{self._objects.uri(key)} was deleted while the run wrote it")
        return there

    def rows(self) -> dict[str, str]:
        """Return which runs have written the rows of documents that this one delivered, by identity."""
        found = self.read("rows")
        return found[0]["rows"] if found else {}

    def add_rows(self, run: str, identities: Iterable[str]) -> None:
        """Record that another run has written the rows of documents that this one delivered.

        :raises DocumentStorageError: others write the file all the time.
        """
        key = f"{self._folder}rows.json"
        for _ in range(CURSOR_WRITES):
            there = self._objects.get(key)
            known = _read_json(there.body, self._objects.uri(key))["rows"] if there else {}
            # The first run that finds a document knows most of it.
            rows = {**dict.fromkeys(identities, run), **known}
            if rows == known:
                return
            condition = {"IfMatch": there.etag} if there else _NEW
            with suppress(PreconditionFailed):
                self._objects.put(key, _to_json({"rows": rows}), content_type=_JSON, **condition)
                return
        raise DocumentStorageError(
            f"{self._objects.uri(key)} is written by other runs all the time; a retry continues"
        )

    def write_lines(self, kind: str, values: Iterable[Any]) -> list[str]:
        """Write values as parts that never change, and return their keys."""
        keys: list[str] = []
        for body in _parts(values):
            # One number for all kinds: what a process writes again, after others have, is another part.
            self._number += 1
            key = f"{self._folder}{kind}-{self._token}-{self._number:04d}.jsonl.gz"
            try:
                self._objects.put(key, body, content_type=_GZIP, **_NEW)
            except PreconditionFailed:
                # The token is this process's own, so that only a lost response can be the reason.
                there = self._objects.get(key)
                if there is None or there.body != body:
                    raise
            keys.append(key)
        return keys

    def read_lines(self, keys: Iterable[str]) -> Iterator[Any]:
        """Yield the values of parts, by their keys."""
        return read_parts(self._objects, keys)


def run_name(label: str) -> str:
    """Return the name of a run: safe in keys, and different for different labels."""
    digest = hashlib.sha256(label.encode()).hexdigest()[:_HASH_DIGITS]
    return f"{_UNSAFE.sub('_', label)[:_NAME_CHARACTERS]}-{digest}"


def read_parts(objects: Objects, keys: Iterable[str]) -> Iterator[Any]:
    """Yield the values of parts, one part in memory at a time.

    :raises FeedStateError: one is missing or damaged.
    """
    for key in keys:
        found = objects.get(key)
        try:
            lines = gzip.decompress(found.body).splitlines() if found else None
        except (OSError, EOFError, zlib.error):
            lines = None
        if lines is None:
            state = "missing" if found is None else "damaged"
            raise FeedStateError(
                f"{objects.uri(key)} is {state}, which the feed needs to continue: restore it from a backup or an "
                "earlier version"
            )
        for line in lines:
            yield json.loads(line)


def _parts(values: Iterable[Any]) -> Iterator[bytes]:
    lines: list[bytes] = []
    size = 0
    for value in values:
        line = json.dumps(value, separators=(",", ":")).encode() + b"\n"
        lines.append(line)
        size += len(line)
        if size >= _PART_BYTES:
            yield gzip.compress(b"".join(lines), mtime=0)
            lines, size = [], 0
    if lines:
        yield gzip.compress(b"".join(lines), mtime=0)


def _to_json(content: Mapping[str, Any]) -> bytes:
    return json.dumps({"version": VERSION, **content}, sort_keys=True, indent=1).encode()


def _read_json(body: bytes, uri: str) -> dict[str, Any]:
    try:
        content = json.loads(body)
    except ValueError:
        content = None
    if not isinstance(content, dict) or "version" not in content:
        raise FeedStateError(f"{uri} is damaged: restore it from a backup or an earlier version")
    if content["version"] != VERSION:
        raise FeedStateError(
            f"{uri} is of version {content['version']!r}, but this release of the provider reads {VERSION}: use "
            "the release that wrote it"
        )
    return content
